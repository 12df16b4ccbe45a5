//! Subscriptions (`/subscriptions/{id}`, api-version [`API_VERSION`]): only what says which tenant one belongs to.

use uuid::Uuid;

use super::arm::Arm;
use super::context::CallContext;
use super::error::AzureError;

/// The API version spoken here.
pub const API_VERSION: &str = "2022-12-01";

/// The tenant that the subscription trusts. A subscription that does not exist or cannot be seen is an error.
pub async fn tenant(arm: &Arm, cx: &CallContext, subscription: Uuid) -> Result<Uuid, AzureError> {
    todo!()
}
