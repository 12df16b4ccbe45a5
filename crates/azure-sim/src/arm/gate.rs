//! The rules that hold for every provider, asked before any of them: the type's api-versions, registration, locks and
//! policies. In Azure's order they come behind authorization, which the providers check; so a caller without the right is
//! let through here to be refused there.

use serde_json::{Map, Value};

use crate::arm::target::Target;
use crate::arm::{Asked, locks, registration, resources, versions};
use crate::http::Failure;
use crate::policy;
use crate::rbac::check::{self, Plane};
use crate::state::World;

/// Passes the request, or refuses it in ARM's words.
pub(crate) fn pass(asked: &Asked<'_>, target: &Target) -> Result<(), Failure> {
    let call = asked.call;
    versions::served(call, target, versions::required(call)?)?;
    if matches!(call.method.as_str(), "GET" | "HEAD" | "OPTIONS") {
        return Ok(());
    }
    asked.shared.world(|w| {
        let action = target.action(call);
        let may = check::allowed_by(w, &asked.caller.oid, &action, &target.id, Plane::Management, call.now).is_some();
        if !may || !group_is_there(asked, w, target) {
            return Ok(());
        }
        let registers = target.tail.last().is_some_and(|t| t.to_lowercase().ends_with("register"));
        if !registers {
            registration::require(w, &target.namespace, call.now)?;
        }
        locks::enforce(w, call, target)?;
        policies(asked, w, target)
    })
}

/// A resource in a group that is not there is refused by its provider, whatever else would hold.
fn group_is_there(asked: &Asked<'_>, w: &World, target: &Target) -> bool {
    target.is_group() || target.group.as_ref().is_none_or(|g| w.groups.contains_key(&asked.group_id(g).to_lowercase()))
}

/// Deny policies look at the body of a PUT, and at the resource as a PATCH would leave it.
fn policies(asked: &Asked<'_>, w: &World, target: &Target) -> Result<(), Failure> {
    let call = asked.call;
    if w.governance.policies.idle() || !target.is_resource() {
        return Ok(());
    }
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&call.body) else {
        return Ok(());
    };
    let resource = match call.method.as_str() {
        "PUT" => Value::Object(body),
        "PATCH" => match resources::view(w, asked.shared, &target.id, call.now) {
            Some(mut have) => {
                merge(&mut have, body);
                have
            }
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let version = call.param("api-version").unwrap_or_default();
    policy::require(w, &policy::Subject::of(target, resource, version), call.now)
}

/// JSON merge patch: objects member by member without regard to the names' case, everything else as one.
fn merge(into: &mut Value, patch: Map<String, Value>) {
    let Value::Object(map) = into else {
        *into = Value::Object(patch);
        return;
    };
    for (name, value) in patch {
        let name = map.keys().find(|n| n.eq_ignore_ascii_case(&name)).cloned().unwrap_or(name);
        match (map.get_mut(&name), value) {
            (_, Value::Null) => {
                map.remove(&name);
            }
            (Some(have @ Value::Object(_)), Value::Object(patch)) => merge(have, patch),
            (_, value) => {
                map.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names() {
        let mut have = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        let Value::Object(patch) = json!({ "A": { "C": [3] }, "d": null, "e": {} }) else {
            unreachable!("it is an object")
        };
        merge(&mut have, patch);
        assert_eq!(have, json!({ "a": { "b": 1, "c": [3] }, "e": {} }));
    }
}
