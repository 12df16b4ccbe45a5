//! Microsoft.Resources: resource groups, and their deletion with all that is in them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::checks::{self, no_group, no_route};
use crate::arm::filter::{Filter, Term, invalid};
use crate::arm::operations::{self, Ending};
use crate::arm::shape::{Member, Mode, Shape, TAGS, accept, may, must};
use crate::arm::{Asked, no_method, resources};
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
    pub fn render(&self) -> Value {
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
        ("GET", [name, "resources"]) => resources::list(asked, Some(name)),
        (_, [] | [_]) => Err(no_method(call)),
        _ => Err(no_route(call)),
    }
}

fn require(asked: &Asked<'_>, world: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(world, &asked.caller, &format!("{KIND}/{verb}"), scope, asked.call.now)
}

fn list(asked: &Asked<'_>) -> Outcome {
    let now = asked.call.now;
    let (name, value) = tag_filter(asked.call.param("$filter"))?;
    asked.shared.world(|w| {
        require(asked, w, "read", &format!("/subscriptions/{}", asked.subscription))?;
        let shown = w.groups.values().filter(|g| reached(g.visible_from, now)).map(Group::render);
        let any = name.is_none() && value.is_none();
        Ok(Reply::list(shown.filter(|g| any || resources::tagged(g, name.as_deref(), value.as_deref())).collect()))
    })
}

/// `tagName eq '…'` and `tagValue eq '…'`, which is all that groups are filtered by.
fn tag_filter(text: Option<&str>) -> Result<(Option<String>, Option<String>), Failure> {
    let filter = Filter::read(text)?;
    let wrong = || invalid(text.unwrap_or_default());
    let (mut tag, mut wanted) = (None, None);
    for term in filter.conjunction().ok_or_else(wrong)? {
        match term {
            Term::Compare { field, equal: true, value } if field.eq_ignore_ascii_case("tagName") => {
                tag = Some(value.clone());
            }
            Term::Compare { field, equal: true, value } if field.eq_ignore_ascii_case("tagValue") => {
                wanted = Some(value.clone());
            }
            _ => return Err(wrong()),
        }
    }
    Ok((tag, wanted))
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
    world.governance.scope_gone(&group.id);
    world.fading.retain(|_, a| !inside(&a.scope));
}
