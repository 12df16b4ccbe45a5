//! User-assigned managed identities (`Microsoft.ManagedIdentity/userAssignedIdentities`, api-version [`API_VERSION`]).

use std::collections::BTreeMap;

use uuid::Uuid;

use super::arm::Arm;
use super::context::CallContext;
use super::error::AzureError;
use crate::domain::ids::{ArmId, ClientId, PrincipalId};

/// The ARM type.
pub const TYPE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
/// The API version spoken here.
pub const API_VERSION: &str = "2024-11-30";

/// A managed identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Object id of its service principal: what role assignments name.
    pub principal_id: PrincipalId,
    /// Its application id: what some services want in their body.
    pub client_id: ClientId,
    /// The tenant it belongs to.
    pub tenant_id: Uuid,
    /// Its region, as Azure spells it.
    pub location: String,
}

/// Reads an identity.
pub async fn get(arm: &Arm, cx: &CallContext, id: &ArmId) -> Result<Option<Identity>, AzureError> {
    todo!()
}

/// Creates an identity. Synchronous: both ids are in the answer.
pub async fn create(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    location: &str,
    tags: &BTreeMap<String, String>,
) -> Result<Identity, AzureError> {
    todo!()
}
