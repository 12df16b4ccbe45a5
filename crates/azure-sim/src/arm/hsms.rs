//! Microsoft.KeyVault/managedHSMs on ARM: create, read, update, soft delete, recover. The data plane is `hsm` and `keyvault`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use crate::arm::checks::{self, not_found};
use crate::arm::hsm_body::{self, BODY, good_name};
use crate::arm::identity_block::{self, IdentityBlock};
use crate::arm::network::connections;
use crate::arm::operations::{self, Ending, Started};
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::vault_keys::{self, Owner};
use crate::arm::{Asked, no_method};
use crate::hsm::model::{DeletedHsm, Hsm};
use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::holder::{Holder, Zone};
use crate::propagation::reached;
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::{Event, World};

pub(crate) const KIND: &str = "Microsoft.KeyVault/managedHSMs";

pub(crate) async fn serve(asked: &Asked<'_>, group: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    match (call.method.as_str(), rest) {
        ("GET", []) => list(asked, Some(group)),
        ("GET", [name]) => get(asked, group, name).map(Reply::ok),
        ("PUT", [name]) => put(asked, group, name),
        ("PATCH", [name]) => patch(asked, group, name),
        ("DELETE", [name]) => delete(asked, group, name),
        (_, [name, rest @ ..]) if rest.first().is_some_and(|child| connections::is_child(child)) => {
            connections_of(asked, group, name, rest)
        }
        (_, [name, child, rest @ ..]) if child.eq_ignore_ascii_case("keys") => {
            vault_keys::serve(asked, &Owner { zone: Zone::Hsm, group, name }, rest).await
        }
        ("GET", [name, child]) => child_list(asked, group, name, child),
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

/// The live HSM of this id. The name alone is the key, as it is unique; the id must fit too.
fn live<'w>(w: &'w World, id: &str) -> Option<&'w Hsm> {
    let name = id.rsplit('/').next()?.to_lowercase();
    w.hsms.get(&name).filter(|h| h.id.eq_ignore_ascii_case(id))
}

fn render(asked: &Asked<'_>, w: &World, hsm: &Hsm) -> Value {
    hsm.render(w, &asked.shared.addresses, asked.call.now)
}

/// Of one group, or of the subscription.
pub(crate) fn list(asked: &Asked<'_>, group: Option<&str>) -> Outcome {
    let scope = match group {
        Some(group) => asked.group_id(group),
        None => format!("/subscriptions/{}", asked.subscription),
    };
    asked.shared.world(|w| {
        require(asked, w, "read", &scope)?;
        Ok(Reply::list(
            w.hsms
                .values()
                .filter(|h| at_or_above(&scope, &h.id) && reached(h.visible_from, asked.call.now))
                .map(|h| render(asked, w, h))
                .collect(),
        ))
    })
}

fn get(asked: &Asked<'_>, group: &str, name: &str) -> Result<Value, Failure> {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "read", &id)?;
        if !w.groups.contains_key(&asked.group_id(group).to_lowercase()) {
            return Err(checks::no_group(group));
        }
        live(w, &id)
            .filter(|h| reached(h.visible_from, asked.call.now))
            .map(|h| render(asked, w, h))
            .ok_or_else(|| not_found(KIND, name, group))
    })
}

/// The lists below an HSM of which the simulator plays nothing more than that they are there.
fn child_list(asked: &Asked<'_>, group: &str, name: &str, child: &str) -> Outcome {
    let hsm = get(asked, group, name)?;
    match child.to_lowercase().as_str() {
        "regions" => {
            let region = json!({ "name": hsm["location"], "isPrimary": true, "provisioningState": "Succeeded" });
            Ok(Reply::list(vec![region]))
        }
        _ => Err(Failure::not_played(&format!("{KIND}/{child}"))),
    }
}

fn connections_of(asked: &Asked<'_>, group: &str, name: &str, rest: &[&str]) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        let owner = live(w, &id).map(|h| (h.id.clone(), h.location.clone()));
        connections::serve(asked, w, KIND, &id, owner, rest).unwrap_or_else(|| Err(not_found(KIND, name, group)))
    })
}

fn put(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    let tenant = &asked.shared.options.tenant_id;
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let group = checks::open_group(w, &asked.group_id(group), group)?;
        if !good_name(name) {
            // Code UNVERIFIED.
            return Err(Failure::new(
                400,
                "ManagedHsmNameNotValid",
                format!("The managed HSM name '{name}' is invalid. It must be 3-24 alphanumeric characters and begin with a letter."),
            ));
        }
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let location = checks::location(&body, KIND)?;
        let empty = Map::new();
        let properties = body["properties"].as_object().unwrap_or(&empty);
        let recover = properties.get("createMode") == Some(&json!("recover"));
        if let Some(have) = live(w, &id).cloned() {
            checks::same_location(&have.location, &location, name, KIND)?;
            return update(asked, w, have, &body);
        }
        let key = name.to_lowercase();
        if w.hsms.contains_key(&key) {
            // Code UNVERIFIED.
            return Err(Failure::new(409, "ManagedHsmAlreadyExists", format!("The managed HSM name '{name}' is already in use.")));
        }
        if let Some(deleted) = w.deleted_hsms.get(&key) {
            let same = deleted.hsm.id.eq_ignore_ascii_case(&id) && deleted.hsm.location == location;
            if !recover || !same {
                // Azure was once seen to take it all the same; this is what it means to do.
                return Err(Failure::new(
                    409,
                    "ConflictError",
                    format!("A managed HSM with the same name already exists in deleted state. You need to either recover or purge existing managed HSM. (Managed HSM '{name}'.)"),
                ));
            }
            hsm_body::invariants(properties, Some(&deleted.hsm.holder), tenant)?;
            return bring_back(asked, w, &key);
        }
        if recover {
            // Status and code UNVERIFIED.
            return Err(Failure::new(404, "DeletedManagedHsmNotFound", format!("There is no deleted managed HSM '{name}' to recover.")));
        }
        hsm_body::invariants(properties, None, tenant)?;
        let mut hsm = blank(asked, w, &group, name, location, &body)?;
        apply(asked, w, &mut hsm, &body, false)?;
        let op = begin(asked, w, &key);
        if !op.fails {
            hsm.ready_from = op.ends;
            hsm.holder.dns_from = op.ends;
            w.hsms.insert(key, hsm.clone());
            asked.call.touch();
        } else if let Some(oid) = &hsm.identity.system {
            w.principals.remove(oid);
        }
        Ok(accepted(asked, &hsm.location, &op))
    })
}

fn blank(
    asked: &Asked<'_>,
    w: &mut World,
    group: &str,
    name: &str,
    location: String,
    body: &Map<String, Value>,
) -> Result<Hsm, Failure> {
    let properties = &body["properties"];
    let network = hsm_body::network(properties.as_object().unwrap_or(&Map::new()), None)?;
    let first_admins = hsm_body::first_admins(properties.as_object().unwrap_or(&Map::new()))?;
    let holder = Holder {
        zone: Zone::Hsm,
        id: id_of(asked, group, name),
        name: name.to_owned(),
        location,
        sku: String::new(),
        retention_days: properties["softDeleteRetentionInDays"].as_i64().unwrap_or(90),
        purge_protection: false,
        network,
        network_past: Vec::new(),
        visible_from: w.due(|p| &p.arm_read, asked.call.now),
        dns_from: None,
        keys: BTreeMap::new(),
        deleted_keys: BTreeMap::new(),
    };
    Ok(Hsm {
        holder,
        tags: Map::new(),
        tenant: asked.shared.options.tenant_id.clone(),
        sku_family: String::new(),
        first_admins,
        identity: IdentityBlock::default(),
        ready_from: None,
        activation: None,
        deleting: false,
        grants: BTreeMap::new(),
        fading: Vec::new(),
        roles: BTreeMap::new(),
    })
}

/// Applies a body that has passed the invariants. What is absent stays.
fn apply(
    asked: &Asked<'_>,
    w: &mut World,
    hsm: &mut Hsm,
    body: &Map<String, Value>,
    partial: bool,
) -> Result<(), Failure> {
    let now = asked.call.now;
    let empty = Map::new();
    let properties = body.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let network = hsm_body::network(properties, Some(&hsm.network))?;
    if !partial || body.contains_key("tags") {
        hsm.tags = checks::tags(body)?;
    }
    if let Some((family, name)) = hsm_body::sku(body)? {
        if !hsm.sku.is_empty() && hsm.sku != name {
            // Code UNVERIFIED.
            return Err(Failure::bad_request("The sku of a managed HSM cannot be changed."));
        }
        hsm.sku_family = family;
        hsm.sku = name;
    }
    if let Some(mut wanted) = identity_block::wanted(body, &hsm.identity, partial)? {
        let (id, name) = (hsm.id.clone(), hsm.name.clone());
        let action = format!("{KIND}/write");
        identity_block::assignable(asked, w, &mut wanted, &hsm.identity, &action, &id)?;
        hsm.identity.apply(w, wanted, &id, &name, now);
    }
    let protect = properties.get("enablePurgeProtection").and_then(Value::as_bool).unwrap_or(false);
    hsm.purge_protection = hsm.purge_protection || protect;
    if hsm.network != network {
        let due = w.due(|p| &p.firewall, now);
        hsm.change_network(network, due, now);
    }
    Ok(())
}

fn update(asked: &Asked<'_>, w: &mut World, have: Hsm, body: &Map<String, Value>) -> Outcome {
    if !have.ready(asked.call.now) || have.deleting {
        // Code UNVERIFIED.
        return Err(Failure::new(
            409,
            "ConflictError",
            format!("There is an operation in progress on the managed HSM '{}'.", have.name),
        ));
    }
    let empty = Map::new();
    let properties = body.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    hsm_body::invariants(properties, Some(&have.holder), &asked.shared.options.tenant_id)?;
    let mut hsm = have.clone();
    // The first administrators stay: what is sent later is ignored (UNVERIFIED).
    apply(asked, w, &mut hsm, body, asked.call.is("PATCH"))?;
    let answer = render(asked, w, &hsm);
    if answer != render(asked, w, &have) {
        asked.call.touch();
    }
    w.hsms.insert(hsm.name.to_lowercase(), hsm);
    Ok(Reply::ok(answer))
}

fn patch(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let body = accept(BODY, asked.call.object()?, Mode::Partial)?;
        let have = live(w, &id).cloned().ok_or_else(|| not_found(KIND, name, group))?;
        if body.contains_key("location") {
            checks::same_location(&have.location, &checks::location(&body, KIND)?, name, KIND)?;
        }
        update(asked, w, have, &body)
    })
}

/// Starts an operation that ends with the HSM as it then is.
fn begin(asked: &Asked<'_>, w: &mut World, key: &str) -> Started {
    let length = asked.shared.options.hsm_lro;
    operations::start_lasting(w, asked.call, &asked.caller.oid, Ending::Hsm(key.to_owned()), length)
}

fn accepted(asked: &Asked<'_>, location: &str, op: &Started) -> Reply {
    let base = format!("/subscriptions/{}/providers/Microsoft.KeyVault/locations/{location}", asked.subscription);
    let version = asked.call.param("api-version").unwrap_or_default();
    let status = format!("{}{base}/operationsstatuses/{}?api-version={version}", asked.call.origin, op.id);
    operations::accepted(asked.shared, asked.call, &format!("{base}/operationResults/{}", op.id))
        .with("azure-asyncoperation", status)
}

/// The deletion ends with the operation; until then ARM shows the HSM as being deleted.
fn delete(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    let key = name.to_lowercase();
    asked.shared.world(|w| {
        require(asked, w, "delete", &id)?;
        let Some(hsm) = live(w, &id) else {
            return Ok(Reply::empty(204));
        };
        let (location, busy) = (hsm.location.clone(), hsm.deleting);
        let length = asked.shared.options.hsm_lro;
        let op = operations::start_lasting(w, asked.call, &asked.caller.oid, Ending::Nothing, length);
        if !op.fails && !busy {
            if let Some(hsm) = w.hsms.get_mut(&key) {
                hsm.deleting = true;
            }
            if let Some(at) = op.ends {
                w.at(at, Event::HsmDeleted(key));
            }
            asked.call.touch();
        }
        Ok(accepted(asked, &location, &op))
    })
}

/// Moves an HSM to the deleted ones. Assignments of ARM roles at it go; the local ones stay inside it.
pub(crate) fn soft_delete(w: &mut World, key: &str, now: OffsetDateTime) {
    let Some(mut hsm) = w.hsms.remove(key) else {
        return;
    };
    hsm.deleting = false;
    w.drop_grants(&hsm.id);
    let purge_at = now.saturating_add(Duration::days(hsm.retention_days));
    w.at(purge_at, Event::HsmPurge(key.to_owned(), now));
    w.deleted_hsms.insert(key.to_owned(), DeletedHsm { hsm, deleted: now, purge_at });
}

/// Takes an HSM back as it was: keys, local roles and activation. Other members of the body are not looked at (UNVERIFIED).
fn bring_back(asked: &Asked<'_>, w: &mut World, key: &str) -> Outcome {
    let op = begin(asked, w, key);
    let location = w.deleted_hsms.get(key).map(|d| d.hsm.location.clone()).unwrap_or_default();
    if !op.fails
        && let Some(deleted) = w.deleted_hsms.remove(key)
    {
        let mut hsm = deleted.hsm;
        hsm.holder.visible_from = w.due(|p| &p.arm_read, asked.call.now);
        hsm.holder.dns_from = op.ends;
        hsm.ready_from = op.ends;
        w.hsms.insert(key.to_owned(), hsm);
        asked.call.touch();
    }
    Ok(accepted(asked, &location, &op))
}

const NAME_BODY: &[Member] = &[must("name", Shape::Text), may("type", Shape::Text)];

/// `checkMhsmNameAvailability`: soft-deleted names count as taken.
pub(crate) fn check_name(asked: &Asked<'_>) -> Outcome {
    if !asked.call.is("POST") {
        return Err(no_method(asked.call));
    }
    let body = accept(NAME_BODY, asked.call.object()?, Mode::Whole)?;
    let name = body["name"].as_str().unwrap_or_default();
    let key = name.to_lowercase();
    let scope = format!("/subscriptions/{}", asked.subscription);
    asked.shared.world(|w| {
        // Action UNVERIFIED: vaults' own.
        check::require(w, &asked.caller, "Microsoft.KeyVault/checkNameAvailability/read", &scope, asked.call.now)?;
        let (reason, message) = if !good_name(name) {
            ("AccountNameInvalid", format!("The managed HSM name '{name}' is invalid."))
        } else if w.hsms.contains_key(&key) {
            ("AlreadyExists", format!("The managed HSM name '{name}' is already in use."))
        } else if w.deleted_hsms.contains_key(&key) {
            ("AlreadyExists", format!("The managed HSM name '{name}' is already in use by a deleted managed HSM."))
        } else {
            return Ok(Reply::ok(json!({ "nameAvailable": true })));
        };
        Ok(Reply::ok(json!({ "nameAvailable": false, "reason": reason, "message": message })))
    })
}
