//! DELETE, and the end of a resource with all that hangs under it: children, its own principals, its keys, role assignments.

use time::OffsetDateTime;

use crate::arm::Asked;
use crate::arm::checks;
use crate::arm::generic::kind::Follow;
use crate::arm::generic::resource::{Course, Stage};
use crate::arm::generic::route::Target;
use crate::arm::generic::{soft, track};
use crate::arm::no_method;
use crate::http::{Outcome, Reply};
use crate::propagation::reached;
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::{Event, World};

pub(crate) fn delete(asked: &Asked<'_>, target: &Target) -> Outcome {
    let (kind, now) = (target.kind, asked.call.now);
    let Some(removal) = kind.delete else { return Err(no_method(asked.call)) };
    asked.shared.world(|w| {
        check::require(w, &asked.caller, &format!("{}/delete", kind.name), &target.id, now)?;
        target.api_version(asked)?;
        if !w.groups.contains_key(&asked.group_id(&target.group).to_lowercase()) {
            return Err(checks::no_group(&target.group));
        }
        let key = target.id.to_lowercase();
        let Some(region) = w.resources.get(&key).map(|r| r.location.clone()) else {
            return Ok(Reply::empty(204));
        };
        if removal.follow == Follow::Done {
            remove(w, &key, now);
            asked.call.touch();
            return Ok(Reply::empty(removal.existing));
        }
        let op = track::start(asked, w, target, None, None);
        if !op.fails
            && let Some(resource) = w.resources.get_mut(&key)
        {
            resource.course = Course { stage: Stage::Deleting, ends: op.ends, fails: false, hidden: false };
            if let Some(at) = op.ends {
                w.at(at, Event::ResourceGone(key));
            }
            asked.call.touch();
        }
        Ok(track::reply(asked, target, removal.existing, removal.follow, Some(&op), None, &region))
    })
}

/// The end of a deletion that was started; nothing when the resource has been written again since.
pub(crate) fn gone(w: &mut World, key: &str, now: OffsetDateTime) {
    let deleting = |c: &Course| c.stage == Stage::Deleting && reached(c.ends, now);
    if w.resources.get(key).is_some_and(|r| deleting(&r.course)) {
        remove(w, key, now);
    }
}

/// Takes a resource and its children away, or puts it among the soft-deleted ones.
pub(crate) fn remove(w: &mut World, key: &str, now: OffsetDateTime) {
    let Some(resource) = w.resources.get(key).cloned() else { return };
    let inside: Vec<String> =
        w.resources.values().filter(|r| at_or_above(&resource.id, &r.id)).map(|r| r.id.to_lowercase()).collect();
    for id in inside {
        let Some(gone) = w.resources.remove(&id) else { continue };
        for oid in gone.identity.system.iter().chain(gone.made.values()) {
            w.principals.remove(oid);
        }
        for rule in gone.kind().map_or(&[] as &[_], |k| k.cmk) {
            w.drop_hold(&super::keys::hold_id(&gone.id, rule));
        }
    }
    w.drop_grants(&resource.id);
    soft::keep(w, resource, now);
}

/// All at or under an id: of a group, or of a resource that another module has removed.
pub(crate) fn remove_under(w: &mut World, scope: &str, now: OffsetDateTime) {
    let inside: Vec<String> =
        w.resources.values().filter(|r| at_or_above(scope, &r.id)).map(|r| r.id.to_lowercase()).collect();
    for id in inside {
        remove(w, &id, now);
    }
}
