//! Resource groups (`Microsoft.Resources/resourceGroups`, api-version [`API_VERSION`]).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::arm::{Answer, Arm};
use super::context::CallContext;
use super::error::AzureError;

/// The API version spoken here.
pub const API_VERSION: &str = "2025-04-01";

/// A resource group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceGroup {
    /// Its region, as Azure spells it.
    pub location: String,
    /// `Succeeded`, `Deleting`, …
    pub provisioning_state: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    location: String,
    #[serde(default)]
    properties: WireProperties,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProperties {
    provisioning_state: Option<String>,
}

/// Reads a group.
pub async fn get(
    arm: &Arm,
    cx: &CallContext,
    subscription: Uuid,
    name: &str,
) -> Result<Option<ResourceGroup>, AzureError> {
    arm.get(cx, &path(subscription, name), API_VERSION).await?.map(|answer| parse(&answer)).transpose()
}

/// Creates a group. On an existing one it would replace the tags: look first.
pub async fn create(
    arm: &Arm,
    cx: &CallContext,
    subscription: Uuid,
    name: &str,
    location: &str,
    tags: &BTreeMap<String, String>,
) -> Result<ResourceGroup, AzureError> {
    let body = json!({ "location": location, "tags": tags });
    parse(&arm.put(cx, &path(subscription, name), API_VERSION, &body).await?)
}

fn path(subscription: Uuid, name: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{name}")
}

fn parse(answer: &Answer) -> Result<ResourceGroup, AzureError> {
    let wire: Wire = answer.parse("a resource group")?;
    Ok(ResourceGroup { location: wire.location, provisioning_state: wire.properties.provisioning_state })
}
