//! Azure Storage accounts: `Microsoft.Storage/storageAccounts`.
//!
//! Sources: the ARM type's published shape at the api-version below; Microsoft Learn, "Customer-managed keys for Azure
//! Storage encryption".

use serde_json::{Value, json};

use super::{Binding, BoundIdentity, CRYPTO_SERVICE_ENCRYPTION_USER, ReadBack, ResourceState, ServiceDescriptor};
use crate::domain::request::{IdentityKind, KeyType, KeyVersion, TargetCreate};

/// Storage accounts. Creation takes a user-assigned identity only, because the account's own principal does not exist
/// before the account does.
pub const DESCRIPTOR: ServiceDescriptor = ServiceDescriptor {
    slug: "storage-account",
    display_name: "Azure Storage account",
    arm_type: "Microsoft.Storage/storageAccounts",
    api_version: "2026-04-01",
    identity_kinds: &[IdentityKind::UserAssigned, IdentityKind::SystemAssigned],
    identity_kinds_at_creation: &[IdentityKind::UserAssigned],
    changes_existing: true,
    key_types: &[KeyType::Rsa, KeyType::RsaHsm],
    key_sizes: &[2048, 3072, 4096],
    key_versions: &[KeyVersion::Latest, KeyVersion::Pinned],
    managed_hsm: true,
    same_region: false,
    needs_trusted_bypass: true,
    reversible: true,
    vault_role: CRYPTO_SERVICE_ENCRYPTION_USER,
    name_rule: (is_name, "3 to 24 lower-case letters and digits"),
    create_defaults: ("Standard_LRS", "StorageV2"),
    reserved_properties: &["encryption"],
    unverified: &["The service looks for a new key version about once a day; the exact interval is not documented."],
    notes: &[
        "Queues and tables are covered only on accounts created with the key: an existing account's queues and tables keep \
         the encryption scope they were created with.",
        "Wait a day after a rotation before disabling the old version.",
    ],
    configure_body,
    create_body,
    read_back,
};

fn is_name(name: &str) -> bool {
    (3..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Identity and key go in one PATCH. `keyversion` is sent as an explicit empty string to follow the latest version:
/// leaving it out does not leave a pinned version.
fn configure_body(binding: &Binding) -> Value {
    let services = json!({ "blob": { "enabled": true }, "file": { "enabled": true } });
    json!({ "identity": binding.identity_member, "properties": { "encryption": encryption(binding, services) } })
}

/// Queues and tables take the account's key only if `keyType` is `Account` at creation.
fn create_body(binding: &Binding, create: &TargetCreate) -> Value {
    let scoped = json!({ "enabled": true, "keyType": "Account" });
    let services = json!({ "blob": scoped, "file": scoped, "queue": scoped, "table": scoped });
    let mut properties = create.properties.clone();
    for (name, value) in [
        ("minimumTlsVersion", json!("TLS1_2")),
        ("allowBlobPublicAccess", json!(false)),
        ("supportsHttpsTrafficOnly", json!(true)),
    ] {
        properties.entry(name).or_insert(value);
    }
    properties.insert("encryption".into(), encryption(binding, services));
    let (sku, kind) = DESCRIPTOR.create_defaults;
    json!({
        "location": create.location,
        "kind": create.kind.as_deref().unwrap_or(kind),
        "sku": { "name": create.sku.as_deref().unwrap_or(sku) },
        "tags": create.tags,
        "identity": binding.identity_member,
        "properties": properties,
    })
}

fn encryption(binding: &Binding, services: Value) -> Value {
    let mut encryption = json!({
        "keySource": "Microsoft.Keyvault",
        "keyvaultproperties": {
            "keyvaulturi": binding.store_uri,
            "keyname": binding.key_name,
            "keyversion": binding.key_version.as_deref().unwrap_or(""),
        },
        "services": services,
    });
    // An explicit empty string leaves a user-assigned identity that was set before; leaving the member out may not.
    let identity = match &binding.identity {
        BoundIdentity::UserAssigned { id, .. } => id.as_str(),
        BoundIdentity::SystemAssigned => "",
    };
    encryption["identity"] = json!({ "userAssignedIdentity": identity });
    encryption
}

fn read_back(resource: &Value) -> ReadBack {
    let text = |pointer: &str| {
        let found = resource.pointer(pointer).and_then(Value::as_str);
        found.filter(|s| !s.is_empty()).map(str::to_owned)
    };
    let source = text("/properties/encryption/keySource").unwrap_or_default();
    ReadBack {
        customer_managed: source.eq_ignore_ascii_case("Microsoft.Keyvault"),
        store_uri: text("/properties/encryption/keyvaultproperties/keyvaulturi"),
        key_name: text("/properties/encryption/keyvaultproperties/keyname"),
        pinned_version: text("/properties/encryption/keyvaultproperties/keyversion"),
        key_in_use: text("/properties/encryption/keyvaultproperties/currentVersionedKeyIdentifier"),
        identity: text("/properties/encryption/identity/userAssignedIdentity"),
        state: ResourceState::of(resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_azures_rule() {
        for good in ["abc", "st1", "a23456789012345678901234"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["ab", "a234567890123456789012345", "Abc", "a-b", "a_b", ""] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
