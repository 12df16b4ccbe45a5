//! Any ARM resource by id and API version, its body untouched: targets, whose shapes `services` knows.

use serde_json::Value;

use super::arm::{Answer, Arm};
use super::context::CallContext;
use super::error::AzureError;
use crate::domain::ids::ArmId;

/// Reads a resource.
pub async fn get(arm: &Arm, cx: &CallContext, id: &ArmId, api_version: &str) -> Result<Option<Answer>, AzureError> {
    arm.get(cx, id.as_str(), api_version).await
}

/// Creates or replaces a resource; with an etag, only the one that was read with it.
pub async fn put(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    api_version: &str,
    body: &Value,
    etag: Option<&str>,
) -> Result<Answer, AzureError> {
    match etag {
        Some(etag) => arm.put_if_match(cx, id.as_str(), api_version, body, etag).await,
        None => arm.put(cx, id.as_str(), api_version, body).await,
    }
}

/// Changes a resource's given properties.
pub async fn patch(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    api_version: &str,
    body: &Value,
) -> Result<Answer, AzureError> {
    arm.patch(cx, id.as_str(), api_version, body).await
}

/// Whether there is any resource of a type right below another one.
pub async fn has_children(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    child_type: &str,
    api_version: &str,
) -> Result<bool, AzureError> {
    let found = arm.list(cx, &format!("{}/{child_type}", id.as_str()), api_version, &[]).await?;
    Ok(!found.is_empty())
}
