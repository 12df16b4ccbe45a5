//! Managed HSMs (`Microsoft.KeyVault/managedHSMs`, api-version [`vaults::API_VERSION`]) and their local roles.
//!
//! What belongs here: reading an HSM as the key store that it is, turning on its purge protection, and the role assignments
//! of its own data plane, which Azure RBAC has no part in. What does not: its keys, which are read and made as a vault's are
//! (`keys`), and creating or activating one: its security domain is its owner's root of trust.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::answer::Answer;
use super::arm::{Arm, list_of};
use super::cloud::Cloud;
use super::context::CallContext;
use super::error::{AzureError, AzureErrorKind};
use super::limits::Limits;
use super::role_assignments::RoleAssignment;
use super::store_network::{WireAcls, WireConnection, acls, approved, public_access};
use super::vaults::{self, Activation, Vault, VaultSku};
use crate::domain::ids::{ArmId, PrincipalId};

/// The version of the data plane spoken here.
pub const DATA_API_VERSION: &str = "7.4";

/// The namespace of [`assignment_name`]. Never change it: names of existing grants depend on it.
const NAMESPACE: Uuid = uuid::uuid!("1f0d7a4e-52b8-4a0e-9a6c-7e1f8a9d3c55");

/// The scopes at which an assignment holds at `scope`: everything, every key, one key.
fn at_or_above(scope: &str) -> Vec<&str> {
    ["/", "/keys", scope].into_iter().take(scope.matches('/').count() + usize::from(scope != "/")).collect()
}

/// The local roles of Managed HSMs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalRoles {
    /// Speaks to every HSM of the cloud: they share an audience.
    client: Arm,
}

/// A role to grant.
#[derive(Clone, Copy, Debug)]
pub struct LocalGrant<'a> {
    /// The HSM's base URI.
    pub store_uri: &'a str,
    /// `/keys`, or `/keys/{name}`.
    pub scope: &'a str,
    /// Who is to hold the role.
    pub principal: PrincipalId,
    /// The GUID of the role.
    pub role: Uuid,
}

impl LocalRoles {
    pub(super) fn new(
        cloud: Cloud,
        credential: Arc<dyn TokenCredential>,
        options: ClientOptions,
        call_timeout: Duration,
        limits: Arc<Limits>,
    ) -> Self {
        let cloud = Cloud { arm_scope: cloud.hsm_scope(), ..cloud };
        Self { client: Arm::new(cloud, credential, options, call_timeout, limits) }
    }

    /// The principal's assignments that are in force at a scope. Each scope is asked by itself: whether a list shows
    /// what is assigned above its scope is UNVERIFIED.
    pub async fn list_for_principal(
        &self,
        cx: &CallContext,
        store_uri: &str,
        scope: &str,
        principal: PrincipalId,
    ) -> Result<Vec<RoleAssignment>, AzureError> {
        let filter = format!("principalId eq '{principal}'");
        let mut found = Vec::new();
        for scope in at_or_above(scope) {
            let url = self.address(store_uri, scope, None, &[("$filter", &filter)])?;
            let answer = self.client.at(cx, Method::Get, url, None).await?;
            for item in list_of(&answer)? {
                let assignment = parse(item).map_err(|e| answer.unexpected(&e))?;
                if assignment.principal_id == principal {
                    found.push(assignment);
                }
            }
        }
        Ok(found)
    }

    /// Grants a role under a name that is a function of the grant. `RoleAssignmentExists` if it exists under any name.
    pub async fn create(&self, cx: &CallContext, grant: LocalGrant<'_>) -> Result<RoleAssignment, AzureError> {
        let name = assignment_name(&grant).to_string();
        let url = self.address(grant.store_uri, grant.scope, Some(&name), &[])?;
        let role = format!("Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{}", grant.role);
        let body = json!({ "properties": { "roleDefinitionId": role, "principalId": grant.principal } });
        let answer = self.client.at(cx, Method::Put, url, Some(&body)).await?;
        parse(&answer.body).map_err(|e| answer.unexpected(&e))
    }

    /// Clients put the scope after one slash, so that `/` becomes three on the wire. Source: recorded traffic.
    fn address(
        &self,
        store_uri: &str,
        scope: &str,
        name: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Url, AzureError> {
        let base = self.client.cloud().check_store_uri(store_uri)?;
        let name = name.map(|name| format!("/{name}")).unwrap_or_default();
        let text = format!("{base}/{scope}/providers/Microsoft.Authorization/roleAssignments{name}");
        let mut url = Url::parse(&text)
            .map_err(|_| AzureError::new(AzureErrorKind::Unexpected, format!("not a scope of a store: {scope}")))?;
        url.query_pairs_mut().append_pair("api-version", DATA_API_VERSION).extend_pairs(query);
        Ok(url)
    }
}

/// The assignment's name: a UUIDv5 of store, scope, principal and role, so that repeating a grant repeats its name.
fn assignment_name(grant: &LocalGrant<'_>) -> Uuid {
    let LocalGrant { store_uri, scope, principal, role } = grant;
    let store = store_uri.trim_end_matches('/').to_ascii_lowercase();
    Uuid::new_v5(&NAMESPACE, format!("{store}|{}|{principal}|{role}", scope.to_ascii_lowercase()).as_bytes())
}

fn parse(value: &Value) -> Result<RoleAssignment, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Properties {
        role_definition_id: String,
        principal_id: Uuid,
        scope: String,
    }
    #[derive(Deserialize)]
    struct Wire {
        id: String,
        properties: Properties,
    }
    let wire = Wire::deserialize(value).map_err(|e| format!("a local role assignment: {e}"))?;
    let role = wire.properties.role_definition_id.rsplit('/').next().and_then(|guid| guid.parse().ok());
    Ok(RoleAssignment {
        id: wire.id,
        role: role.ok_or_else(|| format!("a role definition's id: {}", wire.properties.role_definition_id))?,
        principal_id: PrincipalId(wire.properties.principal_id),
        scope: wire.properties.scope,
        conditional: false,
    })
}

#[derive(Deserialize)]
struct Wire {
    location: String,
    tags: Option<std::collections::BTreeMap<String, String>>,
    properties: WireProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProperties {
    hsm_uri: Option<String>,
    tenant_id: Uuid,
    enable_soft_delete: Option<bool>,
    enable_purge_protection: Option<bool>,
    soft_delete_retention_in_days: Option<u16>,
    network_acls: Option<WireAcls>,
    public_network_access: Option<String>,
    provisioning_state: Option<String>,
    security_domain_properties: Option<WireDomain>,
    private_endpoint_connections: Option<Vec<WireConnection>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDomain {
    activation_status: Option<String>,
}

/// Reads a Managed HSM. It is ready when its security domain says `Active`; its provisioning state says `Succeeded` before
/// that too.
pub async fn get(arm: &Arm, cx: &CallContext, id: &ArmId) -> Result<Option<Vault>, AzureError> {
    let answer = arm.get(cx, id.as_str(), vaults::API_VERSION).await?;
    answer.map(|answer| hsm(arm.cloud(), id, answer)).transpose()
}

/// Turns purge protection on. It cannot be turned off again. Azure may answer at once or with an operation: the caller looks
/// again. Source: the published type, `az keyvault update-hsm --enable-purge-protection`.
pub async fn enable_purge_protection(arm: &Arm, cx: &CallContext, id: &ArmId) -> Result<Answer, AzureError> {
    let body = json!({ "properties": { "enablePurgeProtection": true } });
    arm.patch(cx, id.as_str(), vaults::API_VERSION, &body).await
}

fn hsm(cloud: &Cloud, id: &ArmId, answer: Answer) -> Result<Vault, AzureError> {
    let wire: Wire = answer.parse("a managed HSM")?;
    let p = wire.properties;
    let uri = p.hsm_uri.unwrap_or_else(|| cloud.hsm_uri(id.name()));
    let uri = cloud.check_store_uri(&uri).map_err(|e| e.with_request_id(answer.request_id.clone()))?;
    let status = p.security_domain_properties.and_then(|d| d.activation_status);
    Ok(Vault {
        uri,
        location: wire.location,
        tenant_id: p.tenant_id,
        sku: VaultSku::Premium,
        rbac: true,
        soft_delete: p.enable_soft_delete.unwrap_or(true),
        purge_protection: p.enable_purge_protection.unwrap_or(false),
        retention_days: p.soft_delete_retention_in_days.unwrap_or(90),
        network: acls(p.network_acls).map_err(|e| answer.unexpected(&e))?,
        public_access: public_access(p.public_network_access.as_deref()),
        private_endpoints: approved(p.private_endpoint_connections.as_deref()),
        provisioning_state: p.provisioning_state,
        activation: if status.is_some_and(|s| s.eq_ignore_ascii_case("Active")) {
            Activation::Done
        } else {
            Activation::Missing
        },
        tags: wire.tags.unwrap_or_default(),
        request_id: answer.request_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_grant_has_one_name_whatever_the_spelling() {
        let grant =
            |uri, scope| LocalGrant { store_uri: uri, scope, principal: PrincipalId(Uuid::nil()), role: Uuid::nil() };
        let name = assignment_name(&grant("https://h1.managedhsm.azure.net", "/keys/k"));
        assert_eq!(assignment_name(&grant("https://H1.managedhsm.azure.net/", "/keys/K")), name);
        assert_ne!(assignment_name(&grant("https://h1.managedhsm.azure.net", "/keys")), name);
        assert_ne!(assignment_name(&grant("https://h2.managedhsm.azure.net", "/keys/k")), name);
    }

    #[test]
    fn what_is_assigned_above_holds_below() {
        assert_eq!(at_or_above("/"), ["/"]);
        assert_eq!(at_or_above("/keys"), ["/", "/keys"]);
        assert_eq!(at_or_above("/keys/k"), ["/", "/keys", "/keys/k"]);
    }

    #[test]
    fn local_assignments_are_read_with_either_form_of_the_roles_id() {
        for slash in ["", "/"] {
            let role = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/21dbd100-6940-42c2-9190-5d6cb909625b";
            let value = json!({"id": "/providers/Microsoft.Authorization/roleAssignments/x", "properties": {
                "roleDefinitionId": format!("{slash}{role}"), "principalId": Uuid::nil(), "scope": "/"}});
            let read = parse(&value).expect("an assignment");
            assert_eq!((read.role, read.scope.as_str()), (uuid::uuid!("21dbd100-6940-42c2-9190-5d6cb909625b"), "/"));
        }
        assert!(parse(&json!({"id": "x"})).is_err());
    }
}
