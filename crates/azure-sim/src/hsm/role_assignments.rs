//! Local role assignments over HTTP: `/{scope}/providers/Microsoft.Authorization/roleAssignments`.

use serde_json::Value;

use crate::hsm::access::enter;
use crate::hsm::grants::Grant;
use crate::hsm::{guid, missing, roles};
use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::Asked;
use crate::keyvault::key_body::{self, bad};
use crate::propagation::reached;
use crate::rbac::assignments::at_or_above;

/// Assignments of one HSM beyond this are refused; UNVERIFIED, the simulator's bound on memory.
const MOST: usize = 2000;

/// `rest` is the assignment's name or nothing.
pub(crate) fn serve(asked: &Asked<'_>, scope: &str, rest: &[&str]) -> Outcome {
    match (asked.call.method.as_str(), rest) {
        ("GET", []) => list(asked, scope),
        ("GET", [name]) => get(asked, scope, name),
        ("PUT", [name]) => put(asked, scope, name),
        ("DELETE", [name]) => delete(asked, scope, name),
        (_, [] | [_]) => Err(Failure::new(405, "MethodNotAllowed", "The method is not allowed here.")),
        _ => Err(Failure::new(404, "NotFound", "The path was not found.")),
    }
}

fn not_found(asked: &Asked<'_>) -> Failure {
    missing(asked, "RoleAssignmentNotFound", "role assignment")
}

/// Without a filter those exactly at the scope; `atScope()` adds those above it (UNVERIFIED); `principalId eq '…'` narrows.
fn list(asked: &Asked<'_>, scope: &str) -> Outcome {
    let filter = asked.call.param("$filter").unwrap_or_default().to_owned();
    let mut inherited = false;
    let mut principal = None;
    for part in filter.split(" and ").map(str::trim).filter(|p| !p.is_empty()) {
        let value = part
            .strip_prefix("principalId eq ")
            .and_then(|v| v.trim().strip_prefix('\'')?.strip_suffix('\''))
            .map(str::to_lowercase);
        match value {
            Some(value) => principal = Some(value),
            None if part.eq_ignore_ascii_case("atScope()") => inherited = true,
            None => return Err(bad(format!("The filter '{part}' is not supported."))),
        }
    }
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleAssignments/read/action", scope)?;
        Ok(Reply::list(
            hsm.grants
                .values()
                .filter(|g| if inherited { at_or_above(&g.scope, scope) } else { g.scope.eq_ignore_ascii_case(scope) })
                .filter(|g| principal.as_ref().is_none_or(|p| g.principal == *p))
                .map(Grant::render)
                .collect(),
        ))
    })
}

fn get(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleAssignments/read/action", scope)?;
        hsm.grants
            .get(&name.to_lowercase())
            .filter(|g| g.scope.eq_ignore_ascii_case(scope))
            .map(|g| Reply::ok(g.render()))
            .ok_or_else(|| not_found(asked))
    })
}

fn put(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleAssignments/write/action", scope)?;
        let name = guid(name)?;
        let body = key_body::object(asked.call, false)?;
        let text = |member: &str| {
            body.get("properties")
                .and_then(|p| p.get(member))
                .and_then(Value::as_str)
                .ok_or_else(|| bad(format!("Property 'properties.{member}' is required.")))
        };
        let role = text("roleDefinitionId")?.rsplit('/').next().unwrap_or_default().to_lowercase();
        // The directory is not asked: any GUID is a principal.
        let principal = guid(text("principalId")?)?;
        if roles::built_in_of(&role).is_none() && !hsm.roles.contains_key(&role) {
            // Code UNVERIFIED.
            return Err(missing(asked, "RoleDefinitionNotFound", "role definition"));
        }
        let same = |g: &Grant| g.role == role && g.principal == principal && g.scope.eq_ignore_ascii_case(scope);
        if hsm.grants.contains_key(&name) || hsm.grants.values().any(same) {
            // Code UNVERIFIED.
            return Err(Failure::new(409, "RoleAssignmentAlreadyExists", "The role assignment already exists."));
        }
        if hsm.grants.len() >= MOST {
            return Err(Failure::new(409, "RoleAssignmentLimitExceeded", "There are too many role assignments."));
        }
        let enforced_from = w.due(|p| &p.hsm_grant, now);
        let grant = Grant { name: name.clone(), scope: scope.to_owned(), role, principal, enforced_from };
        let answer = grant.render();
        let hsm = w.hsms.get_mut(&asked.at.name).ok_or_else(Failure::no_such_host)?;
        hsm.grants.insert(name, grant);
        asked.call.touch();
        Ok(Reply::json(201, answer))
    })
}

/// A removed assignment is enforced for as long as a new one is not.
fn delete(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    let now = asked.call.now;
    let key = name.to_lowercase();
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleAssignments/delete/action", scope)?;
        if hsm.grants.get(&key).is_none_or(|g| !g.scope.eq_ignore_ascii_case(scope)) {
            return Err(not_found(asked));
        }
        let until = w.due(|p| &p.hsm_grant, now);
        let hsm = w.hsms.get_mut(&asked.at.name).ok_or_else(Failure::no_such_host)?;
        let grant = hsm.grants.remove(&key).ok_or_else(|| not_found(asked))?;
        let answer = grant.render();
        hsm.fading.retain(|(until, _)| !reached(*until, now));
        // "Never" bounds itself by the limit on assignments.
        if !reached(until, now) && hsm.fading.len() < MOST {
            hsm.fading.push((until, grant));
        }
        asked.call.touch();
        Ok(Reply::ok(answer))
    })
}
