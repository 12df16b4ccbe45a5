//! Types whose deleted resources are kept for a while: their lists, looking at one, purging it, and taking it back by a PUT.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::arm::Asked;
use crate::arm::generic::kind::{Kind, Soft};
use crate::arm::generic::resource::Resource;
use crate::arm::generic::route::Target;
use crate::arm::generic::{errors, kinds, pointer};
use crate::arm::no_method;
use crate::http::{Failure, Outcome, Reply, rfc3339};
use crate::rbac::check;
use crate::state::{Event, World};

/// A soft-deleted resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deleted {
    pub resource: Resource,
    #[serde(with = "time::serde::rfc3339")]
    pub deleted: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub purge_at: OffsetDateTime,
}

/// Keeps a removed resource, where its type does that.
pub(crate) fn keep(w: &mut World, mut resource: Resource, now: OffsetDateTime) {
    let Some(soft) = resource.kind().and_then(|k| k.soft) else { return };
    // Its own identity is gone for good; one that is taken back gets another.
    resource.identity.system = None;
    let key = resource.id.to_lowercase();
    let purge_at = now.saturating_add(Duration::hours(soft.hours));
    w.deleted_resources.insert(key.clone(), Deleted { resource, deleted: now, purge_at });
    w.at(purge_at, Event::ResourcePurge(key, now));
}

/// The end of the retention.
pub(crate) fn expire(w: &mut World, key: &str, since: OffsetDateTime) {
    if w.deleted_resources.get(key).is_some_and(|d| d.deleted == since) {
        w.deleted_resources.remove(key);
    }
}

/// The old resource that a PUT asks back; refused when the name is kept for one that it does not ask for.
pub(crate) fn asked_back(
    asked: &Asked<'_>,
    w: &World,
    target: &Target,
    sent: &Value,
) -> Result<Option<Resource>, Failure> {
    let Some(soft) = target.kind.soft else { return Ok(None) };
    let wants = pointer::get(sent, soft.restore).is_some_and(|v| match v {
        Value::Bool(yes) => *yes,
        Value::String(mode) => mode.eq_ignore_ascii_case("Recover"),
        _ => false,
    });
    let kept = w.deleted_resources.get(&target.id.to_lowercase());
    let failure = match (kept, wants) {
        (Some(kept), true) => {
            let mut resource = kept.resource.clone();
            resource.created = asked.call.now;
            return Ok(Some(resource));
        }
        (None, false) => return Ok(None),
        (Some(kept), false) => {
            let (status, code) = soft.taken;
            Failure::new(
                status,
                code,
                format!(
                    "An existing resource with ID '{}' has been soft-deleted. To restore the resource, you must specify 'restore' to be 'true' in the property. If you don't want to restore existing resource, please purge it first.",
                    kept.resource.id
                ),
            )
        }
        // Code UNVERIFIED.
        (None, true) => Failure::new(
            404,
            "CanNotRestoreANonExistingResource",
            format!("There is no soft-deleted resource '{}' to restore.", target.id),
        ),
    };
    Err(errors::shaped(target.kind, asked.call, failure))
}

/// The type of the table that lists its deleted resources under this type.
fn kind_of(namespace: &str, listed: &str) -> Option<(&'static Kind, Soft)> {
    kinds::all().find_map(|kind| {
        let soft = kind.soft?;
        (kind.namespace().eq_ignore_ascii_case(namespace) && soft.listed.eq_ignore_ascii_case(listed))
            .then_some((kind, soft))
    })
}

/// Serves `deletedAccounts` and the like below `/subscriptions/{s}/providers/{namespace}/`; `None` for other paths.
pub(crate) fn serve(asked: &Asked<'_>, namespace: &str, rest: &[&str]) -> Option<Outcome> {
    let lower: Vec<String> = rest.iter().map(|s| s.to_lowercase()).collect();
    let words: Vec<&str> = lower.iter().map(String::as_str).collect();
    let (listed, region, group, name, verb) = match words.as_slice() {
        [listed] => (*listed, None, None, None, None),
        ["locations", region, "resourcegroups", group, listed, ..] => {
            (*listed, Some(*region), Some(*group), rest.get(5).copied(), words.get(6).copied())
        }
        ["locations", region, listed, ..] => {
            (*listed, Some(*region), None, rest.get(3).copied(), words.get(4).copied())
        }
        _ => return None,
    };
    let (kind, soft) = kind_of(namespace, listed)?;
    if soft.with_group != group.is_some() && name.is_some() {
        return None;
    }
    let fits = |d: &Deleted| {
        d.resource.kind == kind.name
            && asked.holds(&d.resource.id)
            && region.is_none_or(|r| d.resource.location == r)
            && name.is_none_or(|n| d.resource.name.eq_ignore_ascii_case(n))
            && group.is_none_or(|g| d.resource.id.to_lowercase().contains(&format!("/resourcegroups/{g}/")))
    };
    let found: Vec<Deleted> =
        asked.shared.world(|w| w.deleted_resources.values().filter(|d| fits(d)).cloned().collect());
    Some(match (asked.call.method.as_str(), name, verb) {
        ("GET", None, None) => allowed(asked, kind, "read")
            .map(|()| Reply::list(found.iter().map(|d| d.render(asked, kind, soft)).collect())),
        ("GET", Some(name), None) => allowed(asked, kind, "read").and_then(|()| {
            found.first().map(|d| Reply::ok(d.render(asked, kind, soft))).ok_or_else(|| lost(soft, name))
        }),
        ("DELETE", Some(_), None) | ("POST", Some(_), Some("purge")) => {
            allowed(asked, kind, "delete").map(|()| purge(asked, &found))
        }
        _ => Err(no_method(asked.call)),
    })
}

fn allowed(asked: &Asked<'_>, kind: &Kind, verb: &str) -> Result<(), Failure> {
    let scope = format!("/subscriptions/{}", asked.subscription);
    let action = format!("{}/{verb}", kind.name);
    asked.shared.world(|w| check::require(w, &asked.caller, &action, &scope, asked.call.now))
}

fn lost(soft: Soft, name: &str) -> Failure {
    Failure::new(404, "ResourceNotFound", format!("There is no resource '{name}' among the '{}'.", soft.listed))
}

fn purge(asked: &Asked<'_>, found: &[Deleted]) -> Reply {
    let Some(gone) = found.first() else { return Reply::empty(204) };
    asked.shared.world(|w| w.deleted_resources.remove(&gone.resource.id.to_lowercase()));
    asked.call.touch();
    Reply::empty(200)
}

impl Deleted {
    fn render(&self, asked: &Asked<'_>, kind: &Kind, soft: Soft) -> Value {
        let resource = &self.resource;
        let parts: Vec<&str> = resource.id.split('/').collect();
        let group = parts.get(4).copied().unwrap_or_default();
        let middle = if soft.with_group { format!("/resourceGroups/{group}") } else { String::new() };
        let mut body = asked.shared.world(|w| resource.render(w, asked.shared, asked.call.now));
        body["id"] = format!(
            "/subscriptions/{}/providers/{}/locations/{}{middle}/{}/{}",
            asked.subscription,
            kind.namespace(),
            resource.location,
            soft.listed,
            resource.name
        )
        .into();
        body["type"] = format!("{}/{}", kind.namespace(), soft.listed).into();
        pointer::set(&mut body, "/properties/deletionDate", rfc3339(self.deleted).into());
        pointer::set(&mut body, "/properties/scheduledPurgeDate", rfc3339(self.purge_at).into());
        pointer::set(&mut body, "/properties/deletedId", json!(resource.id));
        body
    }
}
