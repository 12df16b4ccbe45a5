//! The decision: may this principal do this action on this resource now?

use time::OffsetDateTime;

use crate::http::Failure;
use crate::state::World;

/// On which plane the action is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plane {
    Management,
    Data,
}

/// The assignment that allows it, by name; `None` when nothing does. Only grants that have arrived count; removed ones
/// count until their removal has arrived.
pub(crate) fn allowed_by<'w>(
    world: &'w World,
    principal: &str,
    action: &str,
    resource: &str,
    plane: Plane,
    now: OffsetDateTime,
) -> Option<&'w str> {
    world
        .assignments
        .values()
        .chain(world.fading.values())
        .filter(|a| a.principal.eq_ignore_ascii_case(principal))
        .filter(|a| a.enforced(now) && a.covers(resource))
        .find(|a| world.roles.get(&a.role).is_some_and(|r| r.holds(action, plane == Plane::Data)))
        .map(|a| a.name.as_str())
}

/// ARM's refusal of a caller without the action.
pub(crate) fn require(
    world: &World,
    caller: &crate::entra::tokens::Claims,
    action: &str,
    scope: &str,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    if allowed_by(world, &caller.oid, action, scope, Plane::Management, now).is_some() {
        return Ok(());
    }
    Err(Failure::new(
        403,
        "AuthorizationFailed",
        format!(
            "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            caller.appid, caller.oid
        ),
    ))
}

/// ARM's refusal of a caller who may write a resource but not use another that it names.
pub(crate) fn require_linked(
    world: &World,
    caller: &crate::entra::tokens::Claims,
    action: &str,
    scope: &str,
    linked_action: &str,
    linked_scope: &str,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    if allowed_by(world, &caller.oid, linked_action, linked_scope, Plane::Management, now).is_some() {
        return Ok(());
    }
    Err(Failure::new(
        403,
        "LinkedAuthorizationFailed",
        format!(
            "The client '{}' with object id '{}' has permission to perform action '{action}' on scope '{scope}'; however, it does not have permission to perform action(s) '{linked_action}' on the linked scope(s) '{linked_scope}' (respectively) or the linked scope(s) are invalid.",
            caller.appid, caller.oid
        ),
    ))
}
