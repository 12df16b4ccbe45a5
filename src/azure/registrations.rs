//! Which resource providers a subscription is registered for (`/subscriptions/{id}/providers/{namespace}`, api-version
//! [`API_VERSION`]): only reading it.

use serde::Deserialize;
use uuid::Uuid;

use super::arm::{Arm, Lookup};
use super::context::CallContext;
use super::error::AzureError;

/// The API version spoken here.
pub const API_VERSION: &str = "2022-09-01";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    registration_state: String,
}

/// Whether resources of this namespace may be made in the subscription, or may soon. One that does not exist may not.
pub async fn is_registered(
    arm: &Arm,
    cx: &CallContext,
    subscription: Uuid,
    namespace: &str,
) -> Result<bool, AzureError> {
    let path = format!("/subscriptions/{subscription}/providers/{namespace}");
    match arm.look(cx, &path, API_VERSION).await? {
        Lookup::Found(answer) => {
            let state = answer.parse::<Wire>("a resource provider")?.registration_state;
            Ok(["Registered", "Registering"].iter().any(|word| state.eq_ignore_ascii_case(word)))
        }
        Lookup::Absent(_) => Ok(false),
    }
}
