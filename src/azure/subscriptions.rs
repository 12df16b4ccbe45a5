//! Subscriptions (`/subscriptions/{id}`, api-version [`API_VERSION`]): only what says which tenant one belongs to.

use serde::Deserialize;
use uuid::Uuid;

use super::arm::{Arm, Lookup};
use super::context::CallContext;
use super::error::{AzureError, AzureErrorKind};

/// The API version spoken here.
pub const API_VERSION: &str = "2022-12-01";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    tenant_id: Uuid,
}

/// The tenant that the subscription trusts. A subscription that does not exist or cannot be seen is an error.
pub async fn tenant(arm: &Arm, cx: &CallContext, subscription: Uuid) -> Result<Uuid, AzureError> {
    match arm.look(cx, &format!("/subscriptions/{subscription}"), API_VERSION).await? {
        Lookup::Found(answer) => Ok(answer.parse::<Wire>("a subscription")?.tenant_id),
        Lookup::Absent(absence) => {
            let error =
                AzureError::new(AzureErrorKind::Rejected, format!("the subscription {subscription} does not exist"));
            Err(AzureError { status: Some(404), code: absence.code, ..error }.with_request_id(absence.request_id))
        }
    }
}
