//! What a service's file does not allow is refused before anything is stored, and the rule is named.
//!
//! What belongs here: every combination, as a table over the catalogue. What does not: the wording of single rules.

use cmk::domain::request::{IdentityKind, KeyType, KeyVersion};
use cmk::services::rules::{self, identity_word};
use cmk::services::{ALL, ServiceDescriptor};
use serde_json::{Value, json};

use super::targets;
use crate::support::world::parse;

const GROUP: &str = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";

/// One choice in every dimension.
#[derive(Clone, Copy, Debug)]
struct Choice {
    creating: bool,
    identity: IdentityKind,
    version: KeyVersion,
    key_type: KeyType,
    size: u16,
}

fn choices() -> Vec<Choice> {
    use IdentityKind::{Platform, SystemAssigned, UserAssigned};
    let mut all = Vec::new();
    for creating in [false, true] {
        for identity in [UserAssigned, SystemAssigned, Platform] {
            for version in [KeyVersion::Latest, KeyVersion::Pinned] {
                for key_type in [KeyType::Rsa, KeyType::RsaHsm, KeyType::Ec] {
                    for size in [2048, 3072, 4096] {
                        all.push(Choice { creating, identity, version, key_type, size });
                    }
                }
            }
        }
    }
    all
}

fn request(d: &ServiceDescriptor, choice: Choice) -> Value {
    let (namespace, types) = d.arm_type.split_once('/').expect("a namespace and a type");
    let path: Vec<String> = types.split('/').map(|t| format!("{t}/svctarget1")).collect();
    let mut body = json!({
        "target": { "resourceId": format!("{GROUP}/{namespace}/{}", path.join("/")), "service": d.slug },
        "keyStore": { "resourceId": format!("{GROUP}/Microsoft.KeyVault/vaults/kv1") },
        "key": {
            "type": choice.key_type.as_str(),
            "version": if choice.version == KeyVersion::Latest { "latest" } else { "pinned" },
        },
        "identity": { "kind": identity_word(choice.identity) },
    });
    if choice.key_type != KeyType::Ec {
        body["key"]["size"] = json!(choice.size);
    }
    if choice.creating {
        let properties = targets().remove(&d.slug).unwrap_or_default().create_properties;
        body["target"]["create"] = json!({ "location": "uksouth", "properties": properties });
    }
    if choice.identity == IdentityKind::UserAssigned {
        body["identity"]["resourceId"] = json!(format!("{GROUP}/Microsoft.ManagedIdentity/userAssignedIdentities/id1"));
    }
    body
}

/// The pointers that have to be named, by the file and nothing else.
fn wrong(d: &ServiceDescriptor, c: Choice) -> Vec<&'static str> {
    let mut pointers = Vec::new();
    let offered = if c.creating { d.create.is_some() } else { d.changes_existing };
    if !offered {
        pointers.push("/target/create");
    } else if !d.identity_kinds_for(c.creating).contains(&c.identity) {
        pointers.push("/identity/kind");
    }
    if !d.key_types.contains(&c.key_type) {
        pointers.push("/key/type");
    } else if !d.key_sizes.contains(&c.size) {
        pointers.push("/key/size");
    }
    if !d.key_versions.contains(&c.version) {
        pointers.push("/key/version");
    }
    pointers
}

#[test]
fn every_combination_is_allowed_or_names_each_rule_that_it_breaks() {
    let (mut allowed, mut refused) = (0, 0);
    for d in ALL.iter() {
        for choice in choices() {
            let (found, faults) = rules::check(&parse(&request(d, choice)));
            assert_eq!(found.map(|f| &f.slug), Some(&d.slug));
            let told: Vec<&str> = faults.iter().map(|f| f.pointer.as_str()).collect();
            assert_eq!(told, wrong(d, choice), "{} {choice:?}: {faults:?}", d.slug);
            assert!(faults.iter().all(|f| f.detail.len() > 20), "{faults:?}");
            if faults.is_empty() { allowed += 1 } else { refused += 1 }
        }
    }
    println!("{allowed} combinations allowed, {refused} refused");
    assert!(allowed > 100 && refused > allowed);
}

#[test]
fn the_service_is_named_where_the_type_has_several_and_has_to_be_one_of_them() {
    let told = |resource_type: &str, service: Option<&str>| {
        let mut body = json!({
            "target": { "resourceId": format!("{GROUP}/{resource_type}/svctarget1") },
            "keyStore": { "resourceId": format!("{GROUP}/Microsoft.KeyVault/vaults/kv1") },
        });
        if let Some(service) = service {
            body["target"]["service"] = json!(service);
        }
        let (found, faults) = rules::check(&parse(&body));
        let faults = faults.into_iter().filter(|f| f.pointer.starts_with("/target/"));
        (found.map(|d| d.slug.as_str()), faults.map(|f| (f.pointer, f.code, f.detail)).collect::<Vec<_>>())
    };
    let fault = |service, code| {
        let (found, faults) = told("Microsoft.Databricks/workspaces", service);
        assert_eq!((found, faults.len()), (None, 1), "{faults:?}");
        assert_eq!((faults[0].0.as_str(), faults[0].1.as_str()), ("/target/service", code));
        for d in ALL.iter().filter(|d| d.arm_type == "Microsoft.Databricks/workspaces") {
            assert!(faults[0].2.contains(&d.slug), "every candidate is named: {faults:?}");
        }
    };
    fault(None, "required");
    fault(Some("storage-account"), "not-allowed");
    fault(Some("nothing"), "invalid-value");
    assert_eq!(told("Microsoft.Databricks/workspaces", Some("databricks-dbfs-root")).0, Some("databricks-dbfs-root"));
    assert_eq!(told("Microsoft.Storage/storageAccounts", None), (Some("storage-account"), vec![]));
    assert_eq!(told("Microsoft.Storage/storageAccounts", Some("storage-account")).1, vec![]);
    let (found, faults) = told("Microsoft.Storage/storageAccounts", Some("data-factory"));
    assert_eq!((found, faults[0].0.as_str()), (None, "/target/service"));
    let (found, faults) = told("Microsoft.Nothing/things", Some("storage-account"));
    assert_eq!((found, faults[0].0.as_str()), (None, "/target/resourceId"));
}

#[test]
fn a_request_that_would_store_a_secret_is_refused_at_the_member_that_holds_it() {
    let d = cmk::services::find("postgresql-flexible-server").expect("it is in the catalogue");
    let choice = Choice {
        creating: true,
        identity: IdentityKind::UserAssigned,
        version: KeyVersion::Latest,
        key_type: KeyType::Rsa,
        size: 2048,
    };
    for (properties, pointer) in [
        (json!({ "administratorLoginPassword": "p" }), "administratorLoginPassword"),
        (json!({ "administrator": { "userName": "u", "password": "p" } }), "administrator/password"),
        (json!({ "items": [{ "clientSecret": "p" }] }), "items/0/clientSecret"),
    ] {
        let mut body = request(d, choice);
        body["target"]["create"]["properties"] = properties;
        let (_, faults) = rules::check(&parse(&body));
        let told: Vec<&str> = faults.iter().map(|f| f.pointer.as_str()).collect();
        assert_eq!(told, [format!("/target/create/properties/{pointer}")]);
        assert!(!format!("{faults:?}").contains("\"p\""), "the secret is not repeated");
    }
}
