//! Role assignments (`Microsoft.Authorization/roleAssignments`, api-version [`API_VERSION`]) and the roles granted here.

use uuid::Uuid;

use super::arm::Arm;
use super::context::CallContext;
use super::error::AzureError;
use crate::domain::ids::{ArmId, PrincipalId};

/// The API version spoken here.
pub const API_VERSION: &str = "2022-04-01";

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

/// The assignment's name: a UUIDv5 of scope, principal and role, so that repeating a grant repeats its name.
pub fn assignment_name(scope: &ArmId, principal: PrincipalId, role: Uuid) -> Uuid {
    todo!()
}

/// The principal's assignments that are in force at `scope`: there and above it, not below.
pub async fn list_for_principal(
    arm: &Arm,
    cx: &CallContext,
    scope: &ArmId,
    principal: PrincipalId,
) -> Result<Vec<RoleAssignment>, AzureError> {
    todo!()
}

/// Reads one assignment by its name.
pub async fn get(arm: &Arm, cx: &CallContext, scope: &ArmId, name: Uuid) -> Result<Option<RoleAssignment>, AzureError> {
    todo!()
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
    todo!()
}
