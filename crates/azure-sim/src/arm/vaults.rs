//! Microsoft.KeyVault/vaults on ARM: create, read, update, soft delete, recover. The data plane is `keyvault`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use crate::arm::checks::{self, not_found};
use crate::arm::network::{connections, rules as subnet_rules};
use crate::arm::shape::{Member, Mode, Shape, accept, must};
use crate::arm::system_data::SystemData;
use crate::arm::vault_body::{self, BODY, good_name};
use crate::arm::vault_keys::{self, Owner};
use crate::arm::vault_model::{DeletedVault, Vault};
use crate::arm::{Asked, no_method, vault_policies};
use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::holder::{Holder, Network, Zone};
use crate::propagation::reached;
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::{Event, World};

pub(crate) const KIND: &str = "Microsoft.KeyVault/vaults";

pub(crate) async fn serve(asked: &Asked<'_>, group: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    match (call.method.as_str(), rest) {
        ("GET", []) => list(asked, Some(group)),
        ("GET", [name]) => get(asked, group, name),
        ("PUT", [name]) => put(asked, group, name),
        ("PATCH", [name]) => patch(asked, group, name),
        ("DELETE", [name]) => delete(asked, group, name),
        (_, [name, rest @ ..]) if rest.first().is_some_and(|child| connections::is_child(child)) => {
            connections_of(asked, group, name, rest)
        }
        ("PUT", [name, child, operation]) if child.eq_ignore_ascii_case("accessPolicies") => {
            policies_of(asked, group, name, operation)
        }
        (_, [name, child, rest @ ..]) if child.eq_ignore_ascii_case("keys") => {
            vault_keys::serve(asked, &Owner { zone: Zone::Vault, group, name }, rest).await
        }
        (_, [_, child, ..]) => Err(Failure::not_played(&format!("{KIND}/{child}"))),
        _ => Err(no_method(call)),
    }
}

fn id_of(asked: &Asked<'_>, group: &str, name: &str) -> String {
    format!("{}/providers/{KIND}/{name}", asked.group_id(group))
}

fn require(asked: &Asked<'_>, w: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(w, &asked.caller, &format!("{KIND}/{verb}"), scope, asked.call.now)
}

/// The live vault of this id. The name alone is the key, as it is unique; the id must fit too.
fn live<'w>(w: &'w World, id: &str) -> Option<&'w Vault> {
    let name = id.rsplit('/').next()?.to_lowercase();
    w.vaults.get(&name).filter(|v| v.id.eq_ignore_ascii_case(id))
}

/// The vault as ARM shows it, with its private endpoint connections where there are any.
fn show(asked: &Asked<'_>, w: &World, vault: &Vault) -> Value {
    let mut body = vault.render(&asked.shared.addresses, asked.call.now);
    let rows = connections::rows_of(&w.networks, &vault.id);
    if !rows.is_empty() {
        body["properties"]["privateEndpointConnections"] = rows.into();
    }
    body
}

fn connections_of(asked: &Asked<'_>, group: &str, name: &str, rest: &[&str]) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        let owner = live(w, &id).map(|v| (v.id.clone(), v.location.clone()));
        connections::serve(asked, w, KIND, &id, owner, rest).unwrap_or_else(|| Err(not_found(KIND, name, group)))
    })
}

fn policies_of(asked: &Asked<'_>, group: &str, name: &str, operation: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "accessPolicies/write", &id)?;
        let vault = live(w, &id).ok_or_else(|| not_found(KIND, name, group))?;
        let key = vault.name.to_lowercase();
        let vault = w.vaults.get_mut(&key).ok_or_else(|| not_found(KIND, name, group))?;
        vault_policies::put(asked, vault, operation)
    })
}

/// The network rules of a body, checked by themselves and against the networks that there are.
fn rules(
    asked: &Asked<'_>,
    w: &World,
    properties: &Map<String, Value>,
    have: Option<&Network>,
    id: &str,
) -> Result<Network, Failure> {
    let network = vault_body::network(properties, have)?;
    subnet_rules::check(asked, w, &subnet_rules::VAULTS, properties, id)?;
    Ok(network)
}

/// Of one group, or of the subscription.
pub(crate) fn list(asked: &Asked<'_>, group: Option<&str>) -> Outcome {
    let scope = match group {
        Some(group) => asked.group_id(group),
        None => format!("/subscriptions/{}", asked.subscription),
    };
    asked.shared.world(|w| {
        require(asked, w, "read", &scope)?;
        let rows = w
            .vaults
            .values()
            .filter(|v| at_or_above(&scope, &v.id) && reached(v.visible_from, asked.call.now))
            .map(|v| show(asked, w, v))
            .collect();
        Ok(Reply::list(rows))
    })
}

fn get(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "read", &id)?;
        if !w.groups.contains_key(&asked.group_id(group).to_lowercase()) {
            return Err(checks::no_group(group));
        }
        live(w, &id)
            .filter(|v| reached(v.visible_from, asked.call.now))
            .map(|v| Reply::ok(show(asked, w, v)))
            .ok_or_else(|| not_found(KIND, name, group))
    })
}

fn put(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let now = asked.call.now;
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let group = checks::open_group(w, &asked.group_id(group), group)?;
        if !good_name(name) {
            return Err(Failure::new(
                400,
                "VaultNameNotValid",
                format!("The vault name '{name}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens."),
            ));
        }
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let location = checks::location(&body, KIND)?;
        let tags = checks::tags(&body)?;
        let empty = Map::new();
        let properties = body["properties"].as_object().unwrap_or(&empty);
        let recover = properties.get("createMode") == Some(&json!("recover"));
        if let Some(have) = live(w, &id).cloned() {
            checks::same_location(&have.location, &location, name, KIND)?;
            return update(asked, w, have, properties, Some(tags), 200);
        }
        let key = name.to_lowercase();
        if w.vaults.contains_key(&key) {
            return Err(taken(name));
        }
        if let Some(deleted) = w.deleted_vaults.get(&key) {
            let same = deleted.vault.id.eq_ignore_ascii_case(&id) && deleted.vault.location == location;
            if !recover || !same {
                return Err(Failure::new(
                    409,
                    "ConflictError",
                    format!("A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault. Follow this link https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete. (Vault '{name}'.)"),
                ));
            }
            vault_body::invariants(properties, Some(&deleted.vault.holder), &asked.shared.options.tenant_id)?;
            rules(asked, w, properties, Some(&deleted.vault.network), &id)?;
            let vault = bring_back(w, &key, now)?;
            asked.call.touch();
            return update(asked, w, vault, properties, Some(tags), 200);
        }
        if recover {
            // UNVERIFIED status and code.
            return Err(Failure::new(
                404,
                "DeletedVaultNotFound",
                format!("There is no deleted vault '{name}' to recover."),
            ));
        }
        vault_body::invariants(properties, None, &asked.shared.options.tenant_id)?;
        let vault = create(asked, w, &group, name, location, tags, properties)?;
        let answer = vault.render(&asked.shared.addresses, now);
        w.vaults.insert(key, vault);
        asked.call.touch();
        Ok(Reply::json(201, answer))
    })
}

fn taken(name: &str) -> Failure {
    Failure::new(
        409,
        "VaultAlreadyExists",
        format!(
            "The vault name '{name}' is already in use. Vault names are globally unique so it is possible that the name is already taken."
        ),
    )
}

fn create(
    asked: &Asked<'_>,
    w: &mut World,
    group: &str,
    name: &str,
    location: String,
    tags: Map<String, Value>,
    properties: &Map<String, Value>,
) -> Result<Vault, Failure> {
    let now = asked.call.now;
    let network = rules(asked, w, properties, None, &id_of(asked, group, name))?;
    let flag = |name: &str| properties.get(name).and_then(Value::as_bool);
    // Vaults created with an api-version before 2026-02-01 default to access policies.
    let modern = asked.call.param("api-version").is_some_and(|v| v >= "2026-02-01");
    let holder = Holder {
        zone: Zone::Vault,
        id: id_of(asked, group, name),
        name: name.to_owned(),
        location,
        sku: properties["sku"]["name"].as_str().unwrap_or("standard").to_owned(),
        retention_days: properties.get("softDeleteRetentionInDays").and_then(Value::as_i64).unwrap_or(90),
        purge_protection: flag("enablePurgeProtection").unwrap_or(false),
        network,
        network_past: Vec::new(),
        visible_from: w.due(|p| &p.arm_read, now),
        dns_from: w.due(|p| &p.dns, now),
        keys: BTreeMap::new(),
        deleted_keys: BTreeMap::new(),
    };
    Ok(Vault {
        holder,
        tags,
        system: SystemData::new(asked),
        tenant: asked.shared.options.tenant_id.clone(),
        rbac: flag("enableRbacAuthorization").unwrap_or(modern),
        access_policies: policies(properties).unwrap_or_default(),
        deployment: flag("enabledForDeployment").unwrap_or(false),
        disk_encryption: flag("enabledForDiskEncryption").unwrap_or(false),
        template_deployment: flag("enabledForTemplateDeployment").unwrap_or(false),
    })
}

fn policies(properties: &Map<String, Value>) -> Option<Vec<Value>> {
    properties.get("accessPolicies").and_then(Value::as_array).cloned()
}

/// Applies a body to a vault. What is absent stays: purge protection, retention and RBAC mode most of all.
fn update(
    asked: &Asked<'_>,
    w: &mut World,
    have: Vault,
    properties: &Map<String, Value>,
    tags: Option<Map<String, Value>>,
    status: u16,
) -> Outcome {
    let now = asked.call.now;
    vault_body::invariants(properties, Some(&have.holder), &asked.shared.options.tenant_id)?;
    let network = rules(asked, w, properties, Some(&have.network), &have.id)?;
    let flag = |name: &str, old: bool| properties.get(name).and_then(Value::as_bool).unwrap_or(old);
    let mut vault = have.clone();
    if let Some(tags) = tags {
        vault.tags = tags;
    }
    if let Some(sku) = properties.get("sku").and_then(|s| s["name"].as_str()) {
        sku.clone_into(&mut vault.sku);
    }
    vault.rbac = flag("enableRbacAuthorization", have.rbac);
    vault.deployment = flag("enabledForDeployment", have.deployment);
    vault.disk_encryption = flag("enabledForDiskEncryption", have.disk_encryption);
    vault.template_deployment = flag("enabledForTemplateDeployment", have.template_deployment);
    vault.purge_protection = have.purge_protection || flag("enablePurgeProtection", false);
    if let Some(policies) = policies(properties) {
        vault.access_policies = policies;
    }
    if vault.network != network {
        let due = w.due(|p| &p.firewall, now);
        vault.change_network(network, due, now);
    }
    let addresses = &asked.shared.addresses;
    if vault.render(addresses, now) != have.render(addresses, now) {
        asked.call.touch();
    }
    vault.system.change(asked);
    let answer = show(asked, w, &vault);
    w.vaults.insert(vault.name.to_lowercase(), vault);
    Ok(Reply::json(status, answer))
}

fn patch(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let body = accept(BODY, asked.call.object()?, Mode::Partial)?;
        let have = live(w, &id).cloned().ok_or_else(|| not_found(KIND, name, group))?;
        let tags = body.contains_key("tags").then(|| checks::tags(&body)).transpose()?;
        let empty = Map::new();
        let properties = body.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        update(asked, w, have, properties, tags, 200)
    })
}

fn delete(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "delete", &id)?;
        if live(w, &id).is_none() {
            return Ok(Reply::empty(204));
        }
        soft_delete(w, &name.to_lowercase(), asked.call.now);
        asked.call.touch();
        Ok(Reply::empty(200))
    })
}

/// Moves a vault to the deleted ones. Role assignments at the vault and below go, and do not come back with it.
pub(crate) fn soft_delete(w: &mut World, key: &str, now: OffsetDateTime) {
    let Some(vault) = w.vaults.remove(key) else {
        return;
    };
    w.drop_grants(&vault.id);
    let purge_at = now.saturating_add(Duration::days(vault.retention_days));
    w.at(purge_at, Event::VaultPurge(key.to_owned(), now));
    w.deleted_vaults.insert(key.to_owned(), DeletedVault { vault, deleted: now, purge_at });
}

/// Takes a vault back from the deleted ones, keys and all.
fn bring_back(w: &mut World, key: &str, now: OffsetDateTime) -> Result<Vault, Failure> {
    let Some(deleted) = w.deleted_vaults.remove(key) else {
        return Err(taken(key));
    };
    let mut vault = deleted.vault;
    vault.visible_from = w.due(|p| &p.arm_read, now);
    vault.dns_from = w.due(|p| &p.dns, now);
    w.vaults.insert(key.to_owned(), vault.clone());
    Ok(vault)
}

const NAME_BODY: &[Member] = &[must("name", Shape::Text), must("type", Shape::OneOf(&[KIND]))];

/// `checkNameAvailability`: soft-deleted names count as taken.
pub(crate) fn check_name(asked: &Asked<'_>) -> Outcome {
    if !asked.call.is("POST") {
        return Err(no_method(asked.call));
    }
    let body = accept(NAME_BODY, asked.call.object()?, Mode::Whole)?;
    let name = body["name"].as_str().unwrap_or_default();
    let key = name.to_lowercase();
    let scope = format!("/subscriptions/{}", asked.subscription);
    asked.shared.world(|w| {
        check::require(w, &asked.caller, "Microsoft.KeyVault/checkNameAvailability/read", &scope, asked.call.now)?;
        let (reason, message) = if !good_name(name) {
            ("AccountNameInvalid", format!("The vault name '{name}' is invalid."))
        } else if w.vaults.contains_key(&key) {
            ("AlreadyExists", format!("The vault name '{name}' is already in use."))
        } else if w.deleted_vaults.contains_key(&key) {
            (
                "AlreadyExists",
                format!("The name '{name}' is already in use by a deleted vault. Vault names are globally unique."),
            )
        } else {
            return Ok(Reply::ok(json!({ "nameAvailable": true })));
        };
        Ok(Reply::ok(json!({ "nameAvailable": false, "reason": reason, "message": message })))
    })
}
