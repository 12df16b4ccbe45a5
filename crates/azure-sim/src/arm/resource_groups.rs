//! Microsoft.Resources: resource groups, their deletion with all that is in them, and the generic resource list.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::checks::{self, no_group, no_route};
use crate::arm::operations::{self, Ending};
use crate::arm::shape::{Member, Mode, Shape, TAGS, accept, may, must};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::propagation::{Due, reached};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::{Event, World};

/// A resource group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub id: String,
    pub name: String,
    pub location: String,
    pub tags: Map<String, Value>,
    pub managed_by: Option<String>,
    pub visible_from: Due,
    pub deleting: bool,
}

const KIND: &str = "Microsoft.Resources/subscriptions/resourceGroups";

const BODY: &[Member] = &[
    must("location", Shape::Text),
    may("tags", TAGS),
    may("managedBy", Shape::Text),
    may("properties", Shape::ReadOnly),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

impl Group {
    fn render(&self) -> Value {
        let mut body = json!({
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": self.location,
            "tags": self.tags,
            "properties": { "provisioningState": if self.deleting { "Deleting" } else { "Succeeded" } },
        });
        if let (Value::Object(map), Some(by)) = (&mut body, &self.managed_by) {
            map.insert("managedBy".into(), by.clone().into());
        }
        body
    }
}

/// `rest` starts with the group's name, if any.
pub(crate) fn serve(asked: &Asked<'_>, rest: &[&str]) -> Outcome {
    let call = asked.call;
    match (call.method.as_str(), rest) {
        ("GET", []) => list(asked),
        ("GET", [name]) => get(asked, name),
        ("HEAD", [name]) => get(asked, name).map(|_| Reply::empty(204)),
        ("PUT", [name]) => put(asked, name),
        ("PATCH", [name]) => patch(asked, name),
        ("DELETE", [name]) => delete(asked, name),
        ("GET", [name, "resources"]) => resources(asked, Some(name)),
        (_, [] | [_]) => Err(no_method(call)),
        _ => Err(no_route(call)),
    }
}

fn require(asked: &Asked<'_>, world: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(world, &asked.caller, &format!("{KIND}/{verb}"), scope, asked.call.now)
}

fn list(asked: &Asked<'_>) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|w| {
        require(asked, w, "read", &format!("/subscriptions/{}", asked.subscription))?;
        Ok(Reply::list(w.groups.values().filter(|g| reached(g.visible_from, now)).map(Group::render).collect()))
    })
}

fn get(asked: &Asked<'_>, name: &str) -> Outcome {
    let id = asked.group_id(name);
    asked.shared.world(|w| {
        require(asked, w, "read", &id)?;
        w.groups
            .get(&id.to_lowercase())
            .filter(|g| reached(g.visible_from, asked.call.now))
            .map(|g| Reply::ok(g.render()))
            .ok_or_else(|| no_group(name))
    })
}

fn put(asked: &Asked<'_>, name: &str) -> Outcome {
    let id = asked.group_id(name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        good_name(name)?;
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let location = checks::location(&body, KIND)?;
        let tags = checks::tags(&body)?;
        let managed_by = body.get("managedBy").and_then(Value::as_str).map(str::to_owned);
        if let Some(group) = w.groups.get_mut(&id.to_lowercase()) {
            if group.deleting {
                return Err(Failure::new(
                    409,
                    "ResourceGroupBeingDeleted",
                    format!("The resource group '{name}' is in deprovisioning state and cannot perform this operation."),
                ));
            }
            if group.location != location {
                return Err(Failure::new(
                    409,
                    "InvalidResourceGroupLocation",
                    format!("Invalid resource group location '{location}'. The Resource group already exists in location '{}'.", group.location),
                ));
            }
            if group.tags != tags || group.managed_by != managed_by {
                group.tags = tags;
                group.managed_by = managed_by;
                asked.call.touch();
            }
            return Ok(Reply::ok(group.render()));
        }
        let visible_from = w.due(|p| &p.arm_read, asked.call.now);
        let group = Group {
            id: id.clone(),
            name: name.to_owned(),
            location,
            tags,
            managed_by,
            visible_from,
            deleting: false,
        };
        let answer = group.render();
        w.groups.insert(id.to_lowercase(), group);
        asked.call.touch();
        Ok(Reply::json(201, answer))
    })
}

/// 1 to 90 of letters, digits, `_ - . ( )`, not ending in a dot.
fn good_name(name: &str) -> Result<(), Failure> {
    let good = (1..=90).contains(&name.chars().count())
        && name.chars().all(|c| c.is_alphanumeric() || "_-.()".contains(c))
        && !name.ends_with('.');
    if good {
        return Ok(());
    }
    Err(Failure::new(
        400,
        "InvalidResourceGroup",
        format!(
            "The provided resource group name '{name}' has these invalid characters or is too long or ends with a period."
        ),
    ))
}

fn patch(asked: &Asked<'_>, name: &str) -> Outcome {
    let id = asked.group_id(name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let mut body = asked.call.object()?;
        body.remove("location");
        let body = accept(BODY, body, Mode::Partial)?;
        let tags = checks::tags(&body)?;
        let group = w.groups.get_mut(&id.to_lowercase()).ok_or_else(|| no_group(name))?;
        if body.contains_key("tags") && group.tags != tags {
            group.tags = tags;
            asked.call.touch();
        }
        Ok(Reply::ok(group.render()))
    })
}

fn delete(asked: &Asked<'_>, name: &str) -> Outcome {
    let id = asked.group_id(name);
    asked.shared.world(|w| {
        require(asked, w, "delete", &id)?;
        let key = id.to_lowercase();
        if !w.groups.contains_key(&key) {
            return Err(no_group(name));
        }
        let op = operations::start(asked.shared, w, asked.call, &asked.caller.oid, Ending::Nothing);
        if !op.fails {
            if let Some(group) = w.groups.get_mut(&key) {
                group.deleting = true;
            }
            if let Some(at) = op.ends {
                w.at(at, Event::GroupGone(key));
            }
            asked.call.touch();
        }
        let path = format!("/subscriptions/{}/operationresults/{}", asked.subscription, op.id);
        Ok(operations::accepted(asked.shared, asked.call, &path))
    })
}

/// The end of a group's deletion. Vaults and managed HSMs in it are soft-deleted, everything else goes.
pub(crate) fn remove(world: &mut World, key: &str, now: OffsetDateTime) {
    let Some(group) = world.groups.remove(key) else {
        return;
    };
    let inside = |id: &str| at_or_above(&group.id, id);
    let vaults: Vec<String> = world.vaults.iter().filter(|(_, v)| inside(&v.id)).map(|(k, _)| k.clone()).collect();
    for vault in vaults {
        crate::arm::vaults::soft_delete(world, &vault, now);
    }
    let hsms: Vec<String> = world.hsms.iter().filter(|(_, h)| inside(&h.id)).map(|(k, _)| k.clone()).collect();
    for hsm in hsms {
        crate::arm::hsms::soft_delete(world, &hsm, now);
    }
    let identities: Vec<String> =
        world.identities.values().filter(|i| inside(&i.id)).map(|i| i.id.to_lowercase()).collect();
    for identity in identities {
        crate::arm::identities::remove(world, &identity);
    }
    world.networks.remove_under(&group.id);
    world.accounts.retain(|_, a| !inside(&a.id));
    crate::arm::generic::remove_under(world, &group.id, now);
    world.storehouses.retain(|name, _| world.accounts.contains_key(name));
    world.drop_holds_under(&group.id);
    world.assignments.retain(|_, a| !inside(&a.scope));
    world.fading.retain(|_, a| !inside(&a.scope));
}

/// The generic list, of a group or of the subscription, with the one filter that clients use: `resourceType eq '…'`.
pub(crate) fn resources(asked: &Asked<'_>, group: Option<&str>) -> Outcome {
    let now = asked.call.now;
    let scope = match group {
        Some(name) => asked.group_id(name),
        None => format!("/subscriptions/{}", asked.subscription),
    };
    let wanted = asked.call.param("$filter").map(str::to_owned);
    let wanted = match wanted.as_deref().map(filter_type) {
        None => None,
        Some(Some(kind)) => Some(kind.to_owned()),
        Some(None) => return Err(Failure::not_played("this $filter on resources")),
    };
    asked.shared.world(|w| {
        require(asked, w, "read", &scope)?;
        if let Some(name) = group.filter(|_| !w.groups.contains_key(&scope.to_lowercase())) {
            return Err(no_group(name));
        }
        let mut items = Vec::new();
        for v in w.vaults.values().filter(|v| reached(v.visible_from, now)) {
            items.push(row(&v.id, &v.name, "Microsoft.KeyVault/vaults", &v.location, &v.tags));
        }
        for h in w.hsms.values().filter(|h| reached(h.visible_from, now)) {
            items.push(row(&h.id, &h.name, crate::arm::hsms::KIND, &h.location, &h.tags));
        }
        for i in w.identities.values().filter(|i| reached(i.visible_from, now)) {
            items.push(row(&i.id, &i.name, "Microsoft.ManagedIdentity/userAssignedIdentities", &i.location, &i.tags));
        }
        for a in w.accounts.values().filter(|a| a.ready(now)) {
            items.push(row(&a.id, &a.name, "Microsoft.Storage/storageAccounts", &a.location, &a.tags));
        }
        for n in w.networks.virtual_networks.values() {
            items.push(row(&n.id, &n.name, "Microsoft.Network/virtualNetworks", &n.location, &n.tags));
        }
        for e in w.networks.endpoints.values() {
            items.push(row(&e.id, &e.name, "Microsoft.Network/privateEndpoints", &e.location, &e.tags));
        }
        for r in crate::arm::generic::rows(w, now) {
            items.push(row(&r.id, &r.name, &r.kind, &r.location, &r.tags));
        }
        items.retain(|i| {
            i["id"].as_str().is_some_and(|id| at_or_above(&scope, id))
                && wanted.as_ref().is_none_or(|k| i["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(k)))
        });
        Ok(Reply::list(items))
    })
}

fn filter_type(filter: &str) -> Option<&str> {
    let rest = filter.trim().strip_prefix("resourceType")?.trim_start();
    rest.strip_prefix("eq")?.trim().strip_prefix('\'')?.strip_suffix('\'')
}

fn row(id: &str, name: &str, kind: &str, location: &str, tags: &Map<String, Value>) -> Value {
    json!({ "id": id, "name": name, "type": kind, "location": location, "tags": tags })
}
