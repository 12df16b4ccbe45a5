//! How Azure services take a customer-managed key, as data: one file of `catalogue/` each.
//!
//! What belongs here: the words such a file may use, and the few functions that read bodies out of it and into it. What
//! does not: anything that talks to Azure, and rules that hold for every service, which the request itself checks.

mod all;
pub mod demands;
pub mod descriptor;
pub mod read_back;
mod roles;
pub mod rules;
pub mod template;

use serde_json::Value;

pub use all::ALL;
pub use descriptor::{CombinedIdentity, IdentityOn, Known, Method, ServiceDescriptor, Write};
pub use read_back::{ReadBack, ReadIdentity, ResourceState, Verdict};
pub use roles::{
    CRYPTO_OFFICER, CRYPTO_SERVICE_ENCRYPTION_USER, CRYPTO_USER, HSM_CRYPTO_USER, KEY_USERS, KEY_VAULT_ADMINISTRATOR,
    Role, of_hsm,
};

use crate::domain::ids::{ArmId, ClientId};

/// The key and identity that a target is to use: what a body is built from.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Base URI of the key store, without a trailing slash.
    pub store_uri: String,
    /// The key store's ARM id.
    pub store_id: ArmId,
    /// The key's name.
    pub key_name: String,
    /// The version to pin; `None` follows the latest.
    pub key_version: Option<String>,
    /// The version that is current, for types whose reference always names one.
    pub current_version: String,
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
    /// The Azure service's own principal.
    Platform,
}

/// The descriptor of this slug.
pub fn find(slug: &str) -> Option<&'static ServiceDescriptor> {
    ALL.iter().find(|d| d.slug == slug)
}

/// The descriptors for targets of this ARM type: several where the type has several keys.
pub fn of_type(id: &ArmId) -> Vec<&'static ServiceDescriptor> {
    ALL.iter().filter(|d| id.is_type(&d.arm_type)).collect()
}

/// The identity member for a body: every identity that the resource has already, and the one to use.
///
/// Azure replaces the map on PUT and merges it on PATCH; sending all of them is right for both.
pub fn merged_identity(existing: Option<&Value>, identity: &BoundIdentity, service: &ServiceDescriptor) -> Value {
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
            system |= !service.user_assigned_alone;
        }
        BoundIdentity::SystemAssigned => system = true,
        BoundIdentity::Platform => {}
    }
    let kind = match (system, users.is_empty()) {
        (true, true) => "SystemAssigned",
        (true, false) => service.combined_identity.as_str(),
        (false, false) => "UserAssigned",
        (false, true) => "None",
    };
    let mut member = serde_json::json!({ "type": kind });
    if !users.is_empty() {
        let map: serde_json::Map<String, Value> = users.into_iter().map(|u| (u, serde_json::json!({}))).collect();
        member["userAssignedIdentities"] = map.into();
    }
    member
}

/// Whether the resource holds the identity.
pub fn has_identity(holder: &Value, identity: &BoundIdentity, service: &ServiceDescriptor) -> bool {
    let member = holder.get("identity");
    match identity {
        BoundIdentity::Platform => true,
        BoundIdentity::UserAssigned { id, .. } => member
            .and_then(|i| i.get("userAssignedIdentities"))
            .and_then(Value::as_object)
            .is_some_and(|map| map.keys().any(|k| k.eq_ignore_ascii_case(id.as_str()))),
        BoundIdentity::SystemAssigned if service.own_principal.is_some() => service.principal_of(holder).is_some(),
        BoundIdentity::SystemAssigned => member
            .and_then(|i| i.get("type"))
            .and_then(Value::as_str)
            .is_some_and(|t| t.to_ascii_lowercase().contains("systemassigned")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use uuid::Uuid;

    fn storage() -> &'static ServiceDescriptor {
        find("storage-account").expect("it is in the catalogue")
    }

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
        let merged = merged_identity(Some(&existing), &user("b"), storage());
        assert_eq!(merged["type"], "SystemAssigned,UserAssigned");
        assert_eq!(merged["userAssignedIdentities"].as_object().map(serde_json::Map::len), Some(2));
        assert_eq!(
            merged_identity(Some(&existing), &user("A"), storage()),
            json!({
                "type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {a.normal(): {}}
            })
        );
        assert_eq!(merged_identity(None, &BoundIdentity::SystemAssigned, storage()), json!({"type": "SystemAssigned"}));
        let has = |holder: &Value, identity: &BoundIdentity| has_identity(holder, identity, storage());
        let holder = json!({ "identity": existing });
        assert!(has(&holder, &user("A")));
        assert!(!has(&holder, &user("b")));
        assert!(has(&holder, &BoundIdentity::SystemAssigned));
        assert!(!has(&json!({}), &BoundIdentity::SystemAssigned));
    }
}
