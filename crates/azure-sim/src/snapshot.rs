//! The simulated cloud as one JSON value, to look at and to compare. The normalised form leaves out everything that two
//! equal runs may have different: times, random names and ids. A key version is told by its number, a principal by its
//! name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::entra::principals::Principal;
use crate::hsm::grants::Grant;
use crate::hsm::model::Hsm;
use crate::keyvault::holder::Holder;
use crate::keyvault::key_model::Key;
use crate::state::{Shared, World};

/// Everything, as ARM and Key Vault show it, with key versions spelled out.
pub(crate) fn full(shared: &Shared) -> Value {
    let now = shared.clock.now();
    shared.world(|w| {
        let mut vaults = Map::new();
        for (name, vault) in &w.vaults {
            let mut shown = vault.render(&shared.addresses, now);
            shown["keys"] = full_keys(shared, vault);
            vaults.insert(name.clone(), shown);
        }
        let hsms: Map<String, Value> = w
            .hsms
            .iter()
            .map(|(n, h)| {
                let mut shown = h.render(w, &shared.addresses, now);
                shown["keys"] = full_keys(shared, h);
                shown["localRoleAssignments"] = h.grants.values().map(Grant::render).collect();
                (n.clone(), shown)
            })
            .collect();
        let accounts: Map<String, Value> = w
            .accounts
            .iter()
            .map(|(n, a)| (n.clone(), a.render(w, shared, now)))
            .collect();
        json!({
            "resourceGroups": w.groups.values().map(|g| g.id.clone()).collect::<Vec<_>>(),
            "identities": w.identities.values().map(|i| json!({
                "id": i.id, "principalId": i.principal_id, "clientId": i.client_id,
            })).collect::<Vec<_>>(),
            // Microsoft Graph is not played: this is where object ids of Azure's own applications are found.
            "principals": w.principals.values().map(|p| json!({
                "objectId": p.object_id, "appId": p.app_id, "displayName": p.name,
            })).collect::<Vec<_>>(),
            "vaults": vaults,
            "managedHsms": hsms,
            "deletedManagedHsms": w.deleted_hsms.values().map(|d| d.render(&shared.options.subscription_id)).collect::<Vec<_>>(),
            "deletedVaults": w.deleted_vaults.values().map(|d| d.render(&shared.options.subscription_id)).collect::<Vec<_>>(),
            "roleAssignments": w.assignments.values().map(|a| a.render(&shared.options.subscription_id)).collect::<Vec<_>>(),
            "storageAccounts": accounts,
            "resources": resources(shared, w, false),
            "deletedResources": w.deleted_resources.keys().collect::<Vec<_>>(),
        })
    })
}

/// Resources of the generic provider by id; `plain` without what differs between equal runs.
fn resources(shared: &Shared, w: &World, plain: bool) -> Value {
    let versions = versions_of(w);
    let now = shared.clock.now();
    let shown = w.resources.values().map(|r| {
        let mut shown = r.render(w, shared, now);
        if plain {
            scrub(&mut shown, &versions);
        }
        (r.id.clone(), shown)
    });
    shown.collect::<Map<_, _>>().into()
}

fn full_keys(shared: &Shared, vault: &Holder) -> Value {
    let keys: Map<String, Value> = vault
        .keys
        .values()
        .map(|k| {
            let versions: Vec<Value> =
                k.versions.iter().map(|v| v.item(&k.name, vault, &shared.addresses, true)).collect();
            (k.name.clone(), Value::Array(versions))
        })
        .collect();
    Value::Object(keys)
}

/// The comparable form.
pub(crate) fn normalized(shared: &Shared) -> Value {
    let now = shared.clock.now();
    shared.world(|w| {
        let vaults: Map<String, Value> = w
            .vaults
            .iter()
            .map(|(n, v)| (n.clone(), holder(v.render(&shared.addresses, now), v)))
            .collect();
        let deleted: Map<String, Value> = w
            .deleted_vaults
            .iter()
            .map(|(n, d)| (n.clone(), holder(d.vault.render(&shared.addresses, now), &d.vault)))
            .collect();
        let hsms: Map<String, Value> = w
            .hsms
            .iter()
            .map(|(n, h)| (n.clone(), hsm(w, shared, h, now)))
            .collect();
        let deleted_hsms: Map<String, Value> = w
            .deleted_hsms
            .iter()
            .map(|(n, d)| (n.clone(), hsm(w, shared, &d.hsm, now)))
            .collect();
        let mut grants: Vec<Value> = w.assignments.values().map(|a| grant(w, a)).collect();
        grants.sort_by_key(Value::to_string);
        let accounts: Map<String, Value> = w
            .accounts
            .iter()
            .map(|(n, a)| {
                let mut shown = a.render(w, shared, now);
                scrub(&mut shown, &versions_of(w));
                (n.clone(), shown)
            })
            .collect();
        json!({
            "resourceGroups": w.groups.values().map(|g| json!({ "id": g.id, "location": g.location, "tags": g.tags })).collect::<Vec<_>>(),
            "identities": w.identities.values().map(|i| json!({ "id": i.id, "location": i.location, "tags": i.tags })).collect::<Vec<_>>(),
            "vaults": vaults,
            "deletedVaults": deleted,
            "managedHsms": hsms,
            "deletedManagedHsms": deleted_hsms,
            "roleAssignments": grants,
            "storageAccounts": accounts,
            "resources": resources(shared, w, true),
            "deletedResources": w.deleted_resources.keys().collect::<Vec<_>>(),
        })
    })
}

fn hsm(w: &World, shared: &Shared, hsm: &Hsm, now: OffsetDateTime) -> Value {
    let mut shown = holder(hsm.render(w, &shared.addresses, now), hsm);
    let mut grants: Vec<Value> = hsm
        .grants
        .values()
        .map(|g| {
            let principal = w.principals.get(&g.principal).map_or("(unknown)", |p: &Principal| p.name.as_str());
            json!({ "scope": g.scope, "role": g.role, "principal": principal })
        })
        .collect();
    grants.sort_by_key(Value::to_string);
    shown["localRoleAssignments"] = grants.into();
    shown
}

/// What is shown of a vault or managed HSM, made comparable, with its keys.
fn holder(mut shown: Value, vault: &Holder) -> Value {
    scrub(&mut shown, &BTreeMap::new());
    shown["keys"] = vault.keys.values().map(|k| (k.name.clone(), key(k))).collect::<Map<_, _>>().into();
    shown["deletedKeys"] =
        vault.deleted_keys.values().map(|d| (d.key.name.clone(), key(&d.key))).collect::<Map<_, _>>().into();
    shown
}

fn key(key: &Key) -> Value {
    let latest = key.latest();
    json!({
        "versions": key.versions.len(),
        "kty": latest.material.kty(),
        "size": latest.material.size(),
        "ops": latest.ops,
        "enabled": latest.enabled,
        "rotation": key.rotation.as_ref().map(|r| json!({ "actions": r.actions, "expiry": r.expiry })),
    })
}

fn grant(w: &World, a: &crate::rbac::assignments::Assignment) -> Value {
    let principal = w.principals.get(&a.principal).map_or("(gone)", |p: &Principal| p.name.as_str());
    let role = w.roles.get(&a.role).map_or("(gone)", |r| r.name.as_str());
    json!({ "scope": a.scope, "role": role, "principal": principal })
}

/// Every key version's id with its number in its key.
fn versions_of(w: &World) -> BTreeMap<String, String> {
    w.vaults
        .values()
        .map(|v| &v.holder)
        .chain(w.hsms.values().map(|h| &h.holder))
        .flat_map(|v| v.keys.values())
        .flat_map(|k| k.versions.iter().enumerate())
        .map(|(i, v)| (v.id.clone(), format!("version-{}", i + 1)))
        .collect()
}

const TIMES_AND_IDS: &[&str] = &[
    "creationTime",
    "lastEnabledTime",
    "lastKeyRotationTimestamp",
    "currentVersionedKeyExpirationTimestamp",
    "principalId",
    "clientId",
    "vaultUri",
    "hsmUri",
    "initialAdminObjectIds",
    "primaryEndpoints",
    "provisioningState",
    "systemData",
    "etag",
    "instanceId",
    "dateCreated",
    "creationDate",
    "thumbprint",
];

fn scrub(value: &mut Value, versions: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !TIMES_AND_IDS.contains(&name.as_str()));
            map.values_mut().for_each(|v| scrub(v, versions));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| scrub(v, versions)),
        Value::String(text) => {
            for (id, number) in versions {
                if text.contains(id.as_str()) {
                    *text = text.replace(id.as_str(), number);
                }
            }
            // Ports differ between runs.
            if let Ok(url) = url::Url::parse(text)
                && let (Some(port), Some(_)) = (url.port(), url.host_str())
            {
                *text = text.replacen(&format!(":{port}"), "", 1);
            }
        }
        _ => {}
    }
}
