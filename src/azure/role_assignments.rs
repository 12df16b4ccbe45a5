//! Role assignments (`Microsoft.Authorization/roleAssignments`, api-version [`API_VERSION`]) and the roles granted here.

use serde::Deserialize;
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

use super::arm::{Answer, Arm};
use super::context::CallContext;
use super::error::{AzureError, AzureErrorKind};
use crate::domain::ids::{ArmId, PrincipalId};

/// The API version spoken here.
pub const API_VERSION: &str = "2022-04-01";

/// The namespace of [`assignment_name`]. Never change it: names of existing grants depend on it.
const NAMESPACE: Uuid = uuid!("6d1c3f5e-8b0a-4c57-9f5d-2f6a3f0e7b41");

/// GUIDs of built-in roles.
pub mod roles {
    use uuid::{Uuid, uuid};

    /// Key Vault Administrator: everything in the data plane.
    pub const KEY_VAULT_ADMINISTRATOR: Uuid = uuid!("00482a5a-887f-4fb3-b363-3b7fe8e74483");
    /// Key Vault Reader: metadata only.
    pub const KEY_VAULT_READER: Uuid = uuid!("21090545-7ca7-4776-b22c-e363652d74d2");
    /// Key Vault Crypto Officer: everything with keys, including create and rotation policies.
    pub const KEY_VAULT_CRYPTO_OFFICER: Uuid = uuid!("14b46e9e-c2b7-41b4-b07b-48a6ebf60603");
    /// Key Vault Crypto User: uses keys, cannot create, delete or rotate them.
    pub const KEY_VAULT_CRYPTO_USER: Uuid = uuid!("12338af0-0e69-4776-bea7-57ae8d297424");
    /// Key Vault Crypto Service Encryption User: read, wrap, unwrap; what a service's identity needs and no more.
    pub const KEY_VAULT_CRYPTO_SERVICE_ENCRYPTION_USER: Uuid = uuid!("e147488a-f6f5-4113-8e2d-b22465e65bf6");
    /// Key Vault Crypto Service Release User.
    pub const KEY_VAULT_CRYPTO_SERVICE_RELEASE_USER: Uuid = uuid!("08bbd89e-9f13-488c-ac41-acfcb10c90ab");
    /// Key Vault Contributor: management plane only. UNVERIFIED id.
    pub const KEY_VAULT_CONTRIBUTOR: Uuid = uuid!("f25e0fa2-a7c8-4377-a976-54943a77a395");
}

/// What a principal is; always sent, because RBAC then skips the look-up that fails for a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalType {
    /// An application or a managed identity.
    ServicePrincipal,
    /// A person, when the service runs with somebody's Azure CLI sign-in.
    User,
}

/// A role assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAssignment {
    /// Its id, as Azure spells it.
    pub id: String,
    /// The GUID of the role, whatever scope the role definition's id is qualified with.
    pub role: Uuid,
    /// Who holds the role.
    pub principal_id: PrincipalId,
    /// Where.
    pub scope: String,
    /// Whether a condition (ABAC) narrows it; such a grant is not counted on.
    pub conditional: bool,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    properties: WireProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProperties {
    role_definition_id: String,
    principal_id: Uuid,
    scope: String,
    condition: Option<String>,
}

/// The assignment's name: a UUIDv5 of scope, principal and role, so that repeating a grant repeats its name.
pub fn assignment_name(scope: &ArmId, principal: PrincipalId, role: Uuid) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{}|{principal}|{role}", scope.normal()).as_bytes())
}

/// The principal's assignments that are in force at `scope`: there and above it, not below.
pub async fn list_for_principal(
    arm: &Arm,
    cx: &CallContext,
    scope: &ArmId,
    principal: PrincipalId,
) -> Result<Vec<RoleAssignment>, AzureError> {
    let filter = format!("principalId eq '{principal}'");
    let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments");
    let items = arm.list(cx, &path, API_VERSION, &[("$filter", &filter)]).await?;
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let assignment = parse(&item).map_err(|e| AzureError::new(AzureErrorKind::Unexpected, e))?;
        // Azure's filter answers assignments below the scope too; those give nothing here.
        if assignment.principal_id == principal && is_in_force(&assignment.scope, scope) {
            found.push(assignment);
        }
    }
    Ok(found)
}

/// Reads one assignment by its name.
pub async fn get(arm: &Arm, cx: &CallContext, scope: &ArmId, name: Uuid) -> Result<Option<RoleAssignment>, AzureError> {
    arm.get(cx, &path(scope, name), API_VERSION).await?.map(|answer| from_answer(&answer)).transpose()
}

/// Grants `role` at `scope` under the name of [`assignment_name`]. Repeating it succeeds. `RoleAssignmentExists` if the
/// same grant has another name: list and adopt it.
pub async fn create(
    arm: &Arm,
    cx: &CallContext,
    scope: &ArmId,
    principal: PrincipalId,
    principal_type: PrincipalType,
    role: Uuid,
    description: &str,
) -> Result<RoleAssignment, AzureError> {
    let body = body(scope, principal, principal_type, role, description);
    let path = path(scope, assignment_name(scope, principal, role));
    from_answer(&arm.put(cx, &path, API_VERSION, &body).await?)
}

fn path(scope: &ArmId, name: Uuid) -> String {
    format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}")
}

fn body(scope: &ArmId, principal: PrincipalId, principal_type: PrincipalType, role: Uuid, description: &str) -> Value {
    let subscription = scope.subscription();
    let definition = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}");
    json!({
        "properties": {
            "roleDefinitionId": definition,
            "principalId": principal,
            "principalType": match principal_type {
                PrincipalType::ServicePrincipal => "ServicePrincipal",
                PrincipalType::User => "User",
            },
            "description": description,
        }
    })
}

fn from_answer(answer: &Answer) -> Result<RoleAssignment, AzureError> {
    parse(&answer.body).map_err(|e| answer.unexpected(&e))
}

fn parse(value: &Value) -> Result<RoleAssignment, String> {
    let wire = Wire::deserialize(value).map_err(|e| format!("a role assignment: {e}"))?;
    let properties = wire.properties;
    let role = properties.role_definition_id.rsplit('/').next().and_then(|guid| guid.parse().ok());
    Ok(RoleAssignment {
        id: wire.id,
        role: role.ok_or_else(|| format!("a role definition's id: {}", properties.role_definition_id))?,
        principal_id: PrincipalId(properties.principal_id),
        scope: properties.scope,
        conditional: properties.condition.is_some_and(|condition| !condition.is_empty()),
    })
}

/// Whether an assignment at `assigned` holds at `scope`. Above are the resource, its group, its subscription, and the
/// management groups and the root, which Azure only lists where they are above.
fn is_in_force(assigned: &str, scope: &ArmId) -> bool {
    let assigned = assigned.trim_end_matches('/').to_ascii_lowercase();
    let scope = scope.normal();
    if !assigned.starts_with("/subscriptions/") {
        return assigned.is_empty() || assigned.starts_with("/providers/microsoft.management/managementgroups/");
    }
    scope.strip_prefix(&assigned).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: &str =
        "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv";
    const OID: PrincipalId = PrincipalId(uuid!("aaaaaaaa-2222-3333-4444-555555555555"));

    fn vault() -> ArmId {
        ArmId::parse(VAULT).expect("a valid id")
    }

    #[test]
    fn a_grant_has_one_name_whatever_the_spelling() {
        let role = roles::KEY_VAULT_CRYPTO_SERVICE_ENCRYPTION_USER;
        let name = assignment_name(&vault(), OID, role);
        let upper = ArmId::parse(&VAULT.to_uppercase()).expect("a valid id");
        assert_eq!(assignment_name(&upper, OID, role), name);
        assert_ne!(assignment_name(&vault(), OID, roles::KEY_VAULT_CRYPTO_OFFICER), name);
        assert_ne!(assignment_name(&vault(), PrincipalId(Uuid::nil()), role), name);
        // Pinned: existing grants carry this name.
        assert_eq!(name, uuid!("9fc707ed-bbe3-5ca6-9df5-5d081b716dbf"));
    }

    #[test]
    fn grants_hold_at_their_scope_and_below() {
        for (assigned, holds) in [
            (VAULT, true),
            ("/subscriptions/11111111-2222-3333-4444-555555555555/resourcegroups/RG", true),
            ("/subscriptions/11111111-2222-3333-4444-555555555555/", true),
            ("/", true),
            ("/providers/Microsoft.Management/managementGroups/mg", true),
            ("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/r", false),
            (&format!("{VAULT}/keys/k"), false),
            (&format!("{VAULT}2"), false),
            ("/subscriptions/99999999-2222-3333-4444-555555555555", false),
        ] {
            assert_eq!(is_in_force(assigned, &vault()), holds, "{assigned}");
        }
    }

    #[test]
    fn roles_compare_by_their_guid() {
        let answer = |definition: &str, condition: Value| {
            parse(&json!({"id": "x", "properties": {"roleDefinitionId": definition, "principalId": OID,
                "scope": VAULT, "condition": condition, "conditionVersion": null}}))
        };
        let role = roles::KEY_VAULT_CRYPTO_OFFICER;
        let plain = answer(&format!("/providers/Microsoft.Authorization/roleDefinitions/{role}"), Value::Null);
        assert_eq!(plain.map(|a| (a.role, a.conditional)), Ok((role, false)));
        let narrowed = answer(&format!("/subscriptions/x/roleDefinitions/{role}"), json!("@Resource[x]"));
        assert_eq!(narrowed.map(|a| a.conditional), Ok(true));
        assert!(answer("nonsense", Value::Null).is_err());
    }
}
