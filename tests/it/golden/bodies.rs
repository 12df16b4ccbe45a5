//! The bodies that each service sends, on every way that it allows: a file for each service in `tests/golden/bodies`.
//!
//! What belongs here: bodies as functions of the catalogue alone, with made-up names, so that a change of one is seen in
//! review. What does not: whether Azure takes them; that is the matrix's.

use cmk::domain::ids::{ArmId, ClientId};
use cmk::domain::request::{IdentityKind, KeyVersion, TargetCreate};
use cmk::services::rules::identity_word;
use cmk::services::{ALL, Binding, BoundIdentity, IdentityOn, ServiceDescriptor, merged_identity, template};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{SUB, check};

const VERSION: &str = "0123456789abcdef0123456789abcdef";

fn id(resource_type: &str, name: &str) -> ArmId {
    let (namespace, types) = resource_type.split_once('/').expect("a namespace and a type");
    let path: Vec<String> = types.split('/').map(|t| format!("{t}/{name}")).collect();
    ArmId::parse(&format!("{SUB}/{namespace}/{}", path.join("/"))).expect("an id")
}

fn bound(kind: IdentityKind) -> BoundIdentity {
    match kind {
        IdentityKind::UserAssigned => BoundIdentity::UserAssigned {
            id: id("Microsoft.ManagedIdentity/userAssignedIdentities", "identity1"),
            client_id: Some(ClientId(Uuid::from_u128(3))),
        },
        IdentityKind::SystemAssigned => BoundIdentity::SystemAssigned,
        IdentityKind::Platform => BoundIdentity::Platform,
    }
}

fn binding(d: &ServiceDescriptor, kind: IdentityKind, version: KeyVersion) -> Binding {
    let identity = bound(kind);
    Binding {
        store_uri: "https://store1.vault.azure.net".into(),
        store_id: id("Microsoft.KeyVault/vaults", "store1"),
        key_name: "key1".into(),
        key_version: (version == KeyVersion::Pinned).then(|| VERSION.to_owned()),
        current_version: VERSION.into(),
        identity_member: merged_identity(None, &identity, d),
        identity,
    }
}

/// The bodies of one way, in the order in which they are sent.
fn bodies(d: &ServiceDescriptor, creating: bool, kind: IdentityKind, version: KeyVersion) -> Vec<Value> {
    let (target, binding) = (id(&d.arm_type, "target1"), binding(d, kind, version));
    let create = TargetCreate {
        location: "uksouth".into(),
        sku: None,
        kind: None,
        tags: Default::default(),
        properties: Map::new(),
    };
    // What is sent back of a target that was read is not in these bodies.
    let read = json!({ "properties": {} });
    let mut sent = Vec::new();
    let two = creating && d.creates_in_two(kind);
    if two {
        sent.push(json!({ "create": d.create_body_without_key(&target, &create) }));
    } else if kind != IdentityKind::Platform && d.identity_on != IdentityOn::Named && !creating {
        sent.push(json!({ "attach": d.attach_body(&binding.identity, &target, &read) }));
    }
    if creating && !two {
        sent.push(json!({ "create": d.create_body(&binding, &target, &create) }));
        return sent;
    }
    for write in &d.configure {
        let at = template::Words::new(&binding, &target).fill(&write.at).unwrap_or_default();
        let method = serde_json::to_value(write.method).expect("a method is a word");
        sent.push(json!({ "write": method, "at": at, "body": d.write_body(write, &binding, &target, &read) }));
    }
    sent
}

#[test]
fn golden_bodies_of_every_service() {
    for d in ALL.iter() {
        let mut ways = Map::new();
        for (creating, kinds) in [(false, &d.identity_kinds), (true, &d.identity_kinds_at_creation)] {
            for (kind, version) in kinds.iter().flat_map(|k| d.key_versions.iter().map(move |v| (*k, *v))) {
                let target = if creating { "created" } else { "existing" };
                let version_word = if version == KeyVersion::Latest { "latest" } else { "pinned" };
                let name = format!("{target}/{}/{version_word}", identity_word(kind));
                ways.insert(name, bodies(d, creating, kind, version).into());
            }
        }
        assert!(!ways.is_empty(), "{}", d.slug);
        let text = serde_json::to_string_pretty(&ways).expect("bodies are JSON");
        check(&format!("bodies/{}.json", d.slug), &(text + "\n"));
    }
    let held = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bodies")).expect("it is there");
    assert_eq!(held.count(), ALL.len(), "a file for each service, and no other");
}
