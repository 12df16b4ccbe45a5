//! GET and HEAD of a resource, lists, and actions that change nothing.

use crate::arm::checks::{self, not_found};
use crate::arm::generic::kind::{Action, Kind};
use crate::arm::generic::resource::{Resource, View};
use crate::arm::generic::route::Target;
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::World;

fn require(asked: &Asked<'_>, w: &World, kind: &Kind, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(w, &asked.caller, &format!("{}/{verb}", kind.name), scope, asked.call.now)
}

/// The resource, or ARM's 404 of the group, the parent or the resource itself.
fn seen(asked: &Asked<'_>, w: &World, target: &Target) -> Result<Resource, Failure> {
    let group = w.groups.get(&asked.group_id(&target.group).to_lowercase());
    let group = group.ok_or_else(|| checks::no_group(&target.group))?;
    target.parent_region(w, asked)?;
    target
        .stored(w, asked)
        .filter(|r| r.visible(asked.call.now))
        .ok_or_else(|| not_found(target.kind.name, &target.path_name(), &group.name))
}

pub(crate) fn get(asked: &Asked<'_>, target: &Target) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, target.kind, "read", &target.id)?;
        target.api_version(asked)?;
        let found = seen(asked, w, target)?;
        Ok(if asked.call.is("HEAD") {
            Reply::empty(204)
        } else {
            Reply::ok(found.render(w, asked.shared, asked.call.now))
        })
    })
}

/// The resources of a type at or under a scope.
pub(crate) fn list(asked: &Asked<'_>, kind: &'static Kind, scope: &str) -> Outcome {
    if !asked.call.is("GET") {
        return Err(no_method(asked.call));
    }
    let now = asked.call.now;
    asked.shared.world(|w| {
        require(asked, w, kind, "read", scope)?;
        let shown = w
            .resources
            .values()
            .filter(|r| r.kind == kind.name && r.visible(now) && at_or_above(scope, &r.id))
            .map(|r| r.render(w, asked.shared, now));
        let mut items: Vec<_> = shown.collect();
        // What is there by itself with its parent stands in the list too.
        if let (Some((name, _)), Some(parent)) = (kind.standing, w.resources.get(&scope.to_lowercase())) {
            let own = kind.types().rsplit('/').next().unwrap_or_default();
            let target = Target {
                kind,
                id: format!("{}/{own}/{name}", parent.id),
                name: name.to_owned(),
                group: String::new(),
                parent: Some(parent.id.clone()),
            };
            if !w.resources.contains_key(&target.id.to_lowercase()) {
                items.extend(target.stored(w, asked).map(|r| r.render(w, asked.shared, now)));
            }
        }
        Ok(Reply::list(items))
    })
}

pub(crate) fn act(asked: &Asked<'_>, target: &Target, action: &'static Action) -> Outcome {
    if !asked.call.is(action.method) {
        return Err(no_method(asked.call));
    }
    asked.shared.world(|w| {
        require(asked, w, target.kind, action.verb, &target.id)?;
        let resource = seen(asked, w, target)?;
        let view = View { world: w, shared: asked.shared, now: asked.call.now, resource: &resource, kind: target.kind };
        Ok(Reply::ok((action.answer)(&view)))
    })
}
