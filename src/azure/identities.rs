//! User-assigned managed identities (`Microsoft.ManagedIdentity/userAssignedIdentities`, api-version [`API_VERSION`]).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::arm::{Answer, Arm};
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

#[derive(Deserialize)]
struct Wire {
    location: String,
    properties: WireProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProperties {
    tenant_id: Uuid,
    principal_id: Uuid,
    client_id: Uuid,
}

/// Reads an identity.
pub async fn get(arm: &Arm, cx: &CallContext, id: &ArmId) -> Result<Option<Identity>, AzureError> {
    arm.get(cx, id.as_str(), API_VERSION).await?.map(|answer| parse(&answer)).transpose()
}

/// Creates an identity. Synchronous: both ids are in the answer.
pub async fn create(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    location: &str,
    tags: &BTreeMap<String, String>,
) -> Result<Identity, AzureError> {
    let body = json!({ "location": location, "tags": tags });
    parse(&arm.put(cx, id.as_str(), API_VERSION, &body).await?)
}

fn parse(answer: &Answer) -> Result<Identity, AzureError> {
    let wire: Wire = answer.parse("a managed identity")?;
    Ok(Identity {
        principal_id: PrincipalId(wire.properties.principal_id),
        client_id: ClientId(wire.properties.client_id),
        tenant_id: wire.properties.tenant_id,
        location: wire.location,
    })
}
