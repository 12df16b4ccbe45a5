//! The built-in roles that matter for keys.
//!
//! What belongs here: their names and GUIDs, which are the same in every tenant. Source: Key Vault RBAC guide, built-in
//! roles. What does not: who gets which; the catalogue says it per service.

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// A role of Azure RBAC or of a Managed HSM's own RBAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// The role's name in Azure.
    pub name: std::borrow::Cow<'static, str>,
    /// The role definition's GUID, the same in every tenant.
    pub id: Uuid,
}

impl Role {
    pub(super) const fn new(name: &'static str, id: Uuid) -> Self {
        Self { name: std::borrow::Cow::Borrowed(name), id }
    }
}

/// `Key Vault Crypto Service Encryption User`: read, wrap and unwrap.
pub const CRYPTO_SERVICE_ENCRYPTION_USER: Role =
    Role::new("Key Vault Crypto Service Encryption User", uuid::uuid!("e147488a-f6f5-4113-8e2d-b22465e65bf6"));
/// `Key Vault Crypto User`: every use of a key, also encrypt and decrypt.
pub const CRYPTO_USER: Role = Role::new("Key Vault Crypto User", uuid::uuid!("12338af0-0e69-4776-bea7-57ae8d297424"));
/// `Key Vault Crypto Officer`: everything with keys, nothing with rights.
pub const CRYPTO_OFFICER: Role =
    Role::new("Key Vault Crypto Officer", uuid::uuid!("14b46e9e-c2b7-41b4-b07b-48a6ebf60603"));
/// `Key Vault Administrator`: holds every right of the officer.
pub const KEY_VAULT_ADMINISTRATOR: Role =
    Role::new("Key Vault Administrator", uuid::uuid!("00482a5a-887f-4fb3-b363-3b7fe8e74483"));

/// `Managed HSM Crypto Service Encryption User`: read, wrap and unwrap. Source: Managed HSM local RBAC built-in roles.
pub const HSM_CRYPTO_SERVICE_ENCRYPTION_USER: Role =
    Role::new("Managed HSM Crypto Service Encryption User", uuid::uuid!("33413926-3206-4cdd-b39a-83574fe37a17"));
/// `Managed HSM Crypto User`: makes and uses keys. The officer of an HSM can do neither.
pub const HSM_CRYPTO_USER: Role =
    Role::new("Managed HSM Crypto User", uuid::uuid!("21dbd100-6940-42c2-9190-5d6cb909625b"));

/// The local role of a Managed HSM that gives the same rights as a vault's role.
pub fn of_hsm(vault_role: &Role) -> Role {
    if *vault_role == CRYPTO_SERVICE_ENCRYPTION_USER { HSM_CRYPTO_SERVICE_ENCRYPTION_USER } else { HSM_CRYPTO_USER }
}

/// The roles that a service's identity may be given.
pub const KEY_USERS: &[Role] = &[CRYPTO_SERVICE_ENCRYPTION_USER, CRYPTO_USER, CRYPTO_OFFICER];

/// A role of the catalogue, by its name.
pub(super) fn by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    let name = String::deserialize(deserializer)?;
    let found = KEY_USERS.iter().find(|role| role.name == name).cloned();
    found.ok_or_else(|| serde::de::Error::custom(format!("no role is named {name}")))
}
