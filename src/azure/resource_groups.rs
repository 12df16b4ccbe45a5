//! Resource groups (`Microsoft.Resources/resourceGroups`, api-version [`API_VERSION`]).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::arm::Arm;
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

/// Reads a group.
pub async fn get(
    arm: &Arm,
    cx: &CallContext,
    subscription: Uuid,
    name: &str,
) -> Result<Option<ResourceGroup>, AzureError> {
    todo!()
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
    todo!()
}
