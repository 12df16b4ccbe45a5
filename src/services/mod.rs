//! How Azure services take a customer-managed key, as data: one file each.
//!
//! What belongs here: descriptors and the small functions for the parts that differ. What does not: anything that talks
//! to Azure, and rules that hold for every service, which the request itself checks.

pub mod rules;
pub mod storage_account;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::domain::ids::{ArmId, ClientId};
use crate::domain::request::{IdentityKind, KeyType, KeyVersion, TargetCreate};

/// A role of Azure RBAC or of a Managed HSM's own RBAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// The role's name in Azure.
    pub name: std::borrow::Cow<'static, str>,
    /// The role definition's GUID, the same in every tenant.
    pub id: Uuid,
}

impl Role {
    const fn new(name: &'static str, id: Uuid) -> Self {
        Self { name: std::borrow::Cow::Borrowed(name), id }
    }
}

/// `Key Vault Crypto Service Encryption User`: read, wrap and unwrap. Source: Key Vault RBAC guide, built-in roles.
pub const CRYPTO_SERVICE_ENCRYPTION_USER: Role =
    Role::new("Key Vault Crypto Service Encryption User", uuid::uuid!("e147488a-f6f5-4113-8e2d-b22465e65bf6"));
/// `Key Vault Crypto Officer`: everything with keys, nothing with rights. Source: Key Vault RBAC guide.
pub const CRYPTO_OFFICER: Role =
    Role::new("Key Vault Crypto Officer", uuid::uuid!("14b46e9e-c2b7-41b4-b07b-48a6ebf60603"));
/// `Key Vault Administrator`: holds every right of the officer. Source: Key Vault RBAC guide.
pub const KEY_VAULT_ADMINISTRATOR: Role =
    Role::new("Key Vault Administrator", uuid::uuid!("00482a5a-887f-4fb3-b363-3b7fe8e74483"));

/// How one Azure service takes a customer-managed key.
#[derive(Debug)]
pub struct ServiceDescriptor {
    /// The service's name in the API; never renamed.
    pub slug: &'static str,
    /// The service's name in Azure's words.
    pub display_name: &'static str,
    /// The ARM type of the target.
    pub arm_type: &'static str,
    /// The api-version used for it.
    pub api_version: &'static str,
    /// Identity kinds for a target that exists.
    pub identity_kinds: &'static [IdentityKind],
    /// Identity kinds for a target that is created with its key in the first PUT; empty where creation is not offered.
    pub identity_kinds_at_creation: &'static [IdentityKind],
    /// Whether a target that exists can be changed in place.
    pub changes_existing: bool,
    /// Key types the service takes.
    pub key_types: &'static [KeyType],
    /// RSA sizes the service takes, in bits.
    pub key_sizes: &'static [u16],
    /// Whether it takes a reference without a version, with one, or both.
    pub key_versions: &'static [KeyVersion],
    /// Whether the key may live in a Managed HSM.
    pub managed_hsm: bool,
    /// Whether key store and target must be in one region.
    pub same_region: bool,
    /// Whether the service reaches a firewalled vault as a trusted Microsoft service, so that the bypass must be on.
    pub needs_trusted_bypass: bool,
    /// Whether the setting can be taken back to a Microsoft-managed key.
    pub reversible: bool,
    /// The role its identity needs on a Key Vault.
    pub vault_role: Role,
    /// Whether a name is allowed, and the rule in words.
    pub name_rule: (fn(&str) -> bool, &'static str),
    /// SKU and kind of a created target where the request names none.
    pub create_defaults: (&'static str, &'static str),
    /// Members of `properties` that a request may not set, because the service sets them.
    pub reserved_properties: &'static [&'static str],
    /// Facts that Azure's documentation leaves open, in words.
    pub unverified: &'static [&'static str],
    /// What a caller should know.
    pub notes: &'static [&'static str],
    /// The PATCH body that sets the key on a target that exists.
    pub configure_body: fn(&Binding) -> Value,
    /// The PUT body that creates the target with the key.
    pub create_body: fn(&Binding, &TargetCreate) -> Value,
    /// What a read of the target says about its key.
    pub read_back: fn(&Value) -> ReadBack,
}

/// The key and identity that a target is to use: what a body is built from.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Base URI of the key store, without a trailing slash.
    pub store_uri: String,
    /// The key's name.
    pub key_name: String,
    /// The version to pin; `None` follows the latest.
    pub key_version: Option<String>,
    /// The identity to use for the key.
    pub identity: BoundIdentity,
    /// The resource's identity member with every identity it has already and the one to use; see
    /// [`merged_identity`].
    pub identity_member: Value,
}

/// The identity a target uses for its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundIdentity {
    /// A user-assigned one.
    UserAssigned {
        /// Its ARM id.
        id: ArmId,
        /// Its client id.
        client_id: Option<ClientId>,
    },
    /// The target's own.
    SystemAssigned,
}

/// What a read of a target says about its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// Whether the target uses a customer-managed key at all.
    pub customer_managed: bool,
    /// Base URI of the key store it names.
    pub store_uri: Option<String>,
    /// The key's name.
    pub key_name: Option<String>,
    /// The version it pins; `None` where it follows the latest.
    pub pinned_version: Option<String>,
    /// The full key id, with version, that it reports as in use.
    pub key_in_use: Option<String>,
    /// The user-assigned identity it uses for the key; `None` for its own.
    pub identity: Option<String>,
    /// Whether the resource is ready, being changed, or broken.
    pub state: ResourceState,
}

/// A resource's provisioning state, reduced to what matters. Source: ARM async operations, terminal states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceState {
    /// `Succeeded`, or no state at all.
    #[default]
    Ready,
    /// Any state that is not terminal.
    Busy,
    /// `Failed` or `Canceled`.
    Broken,
}

impl ResourceState {
    /// Reads `properties.provisioningState`.
    pub fn of(resource: &Value) -> Self {
        match resource.pointer("/properties/provisioningState").and_then(Value::as_str) {
            None => Self::Ready,
            Some(s) if s.eq_ignore_ascii_case("Succeeded") => Self::Ready,
            Some(s) if ["Failed", "Canceled", "Cancelled"].iter().any(|t| s.eq_ignore_ascii_case(t)) => Self::Broken,
            Some(_) => Self::Busy,
        }
    }
}

/// Every descriptor, in the catalogue's order.
pub const ALL: &[&ServiceDescriptor] = &[&storage_account::DESCRIPTOR];

/// The descriptor of this slug.
pub fn find(slug: &str) -> Option<&'static ServiceDescriptor> {
    ALL.iter().copied().find(|d| d.slug == slug)
}

/// The descriptor for targets of this ARM type.
pub fn find_by_type(id: &ArmId) -> Option<&'static ServiceDescriptor> {
    ALL.iter().copied().find(|d| id.is_type(d.arm_type))
}

/// The identity member for a body: every identity that the resource has already, and the one to use.
///
/// Azure replaces the map on PUT and merges it on PATCH; sending all of them is right for both. The spelling of the
/// combined type differs between services: `SystemAssigned,UserAssigned` is what most of them take.
pub fn merged_identity(existing: Option<&Value>, identity: &BoundIdentity) -> Value {
    let existing_type = existing.and_then(|i| i.get("type")).and_then(Value::as_str).unwrap_or("None");
    let mut system = existing_type.to_ascii_lowercase().contains("systemassigned");
    let mut users: Vec<String> = existing
        .and_then(|i| i.get("userAssignedIdentities"))
        .and_then(Value::as_object)
        .map(|map| map.keys().cloned().collect())
        .unwrap_or_default();
    match identity {
        BoundIdentity::UserAssigned { id, .. } => {
            if !users.iter().any(|u| u.eq_ignore_ascii_case(id.as_str())) {
                users.push(id.as_str().to_owned());
            }
        }
        BoundIdentity::SystemAssigned => system = true,
    }
    let kind = match (system, users.is_empty()) {
        (true, true) => "SystemAssigned",
        (true, false) => "SystemAssigned,UserAssigned",
        (false, _) => "UserAssigned",
    };
    let mut member = serde_json::json!({ "type": kind });
    if !users.is_empty() {
        let map: serde_json::Map<String, Value> = users.into_iter().map(|u| (u, serde_json::json!({}))).collect();
        member["userAssignedIdentities"] = map.into();
    }
    member
}

/// Whether the resource's identity member holds the identity.
pub fn has_identity(existing: Option<&Value>, identity: &BoundIdentity) -> bool {
    let Some(existing) = existing else { return false };
    match identity {
        BoundIdentity::UserAssigned { id, .. } => existing
            .get("userAssignedIdentities")
            .and_then(Value::as_object)
            .is_some_and(|map| map.keys().any(|k| k.eq_ignore_ascii_case(id.as_str()))),
        BoundIdentity::SystemAssigned => existing
            .get("type")
            .and_then(Value::as_str)
            .is_some_and(|t| t.to_ascii_lowercase().contains("systemassigned")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn user(name: &str) -> BoundIdentity {
        let sub = Uuid::nil();
        let id = ArmId::build(sub, "rg", "Microsoft.ManagedIdentity/userAssignedIdentities", name).expect("an id");
        BoundIdentity::UserAssigned { id, client_id: None }
    }

    #[test]
    fn identities_on_the_resource_are_kept() {
        let BoundIdentity::UserAssigned { id: a, .. } = user("a") else { unreachable!("built above") };
        let existing =
            json!({"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {a.normal(): {"clientId": "x"}}});
        let merged = merged_identity(Some(&existing), &user("b"));
        assert_eq!(merged["type"], "SystemAssigned,UserAssigned");
        assert_eq!(merged["userAssignedIdentities"].as_object().map(serde_json::Map::len), Some(2));
        assert_eq!(
            merged_identity(Some(&existing), &user("A")),
            json!({
                "type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {a.normal(): {}}
            })
        );
        assert_eq!(merged_identity(None, &BoundIdentity::SystemAssigned), json!({"type": "SystemAssigned"}));
        assert!(has_identity(Some(&existing), &user("A")));
        assert!(!has_identity(Some(&existing), &user("b")));
        assert!(has_identity(Some(&existing), &BoundIdentity::SystemAssigned));
        assert!(!has_identity(None, &BoundIdentity::SystemAssigned));
    }

    #[test]
    fn slugs_and_types_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for d in ALL {
            assert!(seen.insert(d.slug), "{}", d.slug);
            assert!(d.slug.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", d.slug);
            assert!(find(d.slug).is_some());
        }
    }

    #[test]
    fn what_is_configured_reads_back() {
        for d in ALL {
            for version in [None, Some("0123456789abcdef0123456789abcdef".to_owned())] {
                let identity = user("a");
                let binding = Binding {
                    store_uri: "https://kv1.vault.azure.net".into(),
                    key_name: "k".into(),
                    key_version: version.clone(),
                    identity_member: merged_identity(None, &identity),
                    identity,
                };
                let read = (d.read_back)(&(d.configure_body)(&binding));
                assert!(read.customer_managed, "{}", d.slug);
                assert_eq!(read.key_name.as_deref(), Some("k"), "{}", d.slug);
                assert_eq!(read.pinned_version, version, "{}", d.slug);
                assert!(read.store_uri.is_some_and(|u| crate::domain::ids::same_store_uri(&u, &binding.store_uri)));
            }
        }
    }
}
