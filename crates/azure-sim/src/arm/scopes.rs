//! Scopes in canonical spelling, for what hangs under any of them: role assignments, locks, policy assignments.

use crate::arm::Asked;
use crate::arm::checks::{self, no_route};
use crate::arm::resources;
use crate::http::Failure;
use crate::propagation::reached;
use crate::rbac::assignments::at_or_above;
use crate::state::World;

/// The scope as Azure spells it. Group and resource must exist; below the resource anything is taken.
pub(crate) fn canonical(asked: &Asked<'_>, w: &World, scope: &str) -> Result<String, Failure> {
    let parts: Vec<&str> = scope.split('/').filter(|p| !p.is_empty()).collect();
    let lower = scope.to_lowercase();
    let subscription = format!("/subscriptions/{}", asked.subscription);
    match parts.as_slice() {
        [] => Ok("/".to_owned()),
        [_, _] => Ok(subscription),
        [_, _, groups, name, rest @ ..] if groups.eq_ignore_ascii_case("resourceGroups") => {
            let id = asked.group_id(name);
            let group = w
                .groups
                .get(&id.to_lowercase())
                .filter(|g| reached(g.visible_from, asked.call.now))
                .ok_or_else(|| checks::no_group(name))?;
            match rest {
                [] => Ok(group.id.clone()),
                [providers, namespace, kind, resource, ..] if providers.eq_ignore_ascii_case("providers") => {
                    let found = resources::ids(w)
                        .find(|id| at_or_above(id, &lower))
                        .ok_or_else(|| checks::not_found(&format!("{namespace}/{kind}"), resource, name))?;
                    let below: Vec<&str> = parts[found.split('/').filter(|p| !p.is_empty()).count()..].to_vec();
                    Ok([&[found], below.as_slice()].concat().join("/"))
                }
                _ => Err(no_route(asked.call)),
            }
        }
        _ => Err(no_route(asked.call)),
    }
}
