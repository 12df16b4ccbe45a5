//! Local role definitions over HTTP: `/{scope}/providers/Microsoft.Authorization/roleDefinitions`.

use serde_json::{Map, Value};

use crate::hsm::access::enter;
use crate::hsm::roles::{self, LocalPermission, LocalRole, PREFIX};
use crate::hsm::{guid, missing};
use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::Asked;
use crate::keyvault::key_body::{self, bad};

/// Azure's limit of custom roles in one HSM.
const MOST: usize = 50;

/// `rest` is the definition's name or nothing.
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
    missing(asked, "RoleDefinitionNotFound", "role definition")
}

/// `$filter=roleName eq '…'`, or all.
fn list(asked: &Asked<'_>, scope: &str) -> Outcome {
    let wanted = match asked.call.param("$filter").map(str::trim).filter(|f| !f.is_empty()) {
        None => None,
        Some(filter) => Some(
            filter
                .strip_prefix("roleName eq ")
                .and_then(|v| v.trim().strip_prefix('\'')?.strip_suffix('\''))
                .map(str::to_owned)
                .ok_or_else(|| bad(format!("The filter '{filter}' is not supported.")))?,
        ),
    };
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleDefinitions/read/action", scope)?;
        Ok(Reply::list(
            roles::built_in()
                .chain(hsm.roles.values().cloned())
                .filter(|r| wanted.as_ref().is_none_or(|name| r.name.eq_ignore_ascii_case(name)))
                .map(|r| r.render())
                .collect(),
        ))
    })
}

fn get(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleDefinitions/read/action", scope)?;
        roles::built_in_of(name)
            .or_else(|| hsm.roles.get(&name.to_lowercase()).cloned())
            .map(|r| Reply::ok(r.render()))
            .ok_or_else(|| not_found(asked))
    })
}

/// Status and code UNVERIFIED.
fn not_writable() -> Failure {
    Failure::new(403, "RoleDefinitionNotWritable", "A built-in role cannot be changed or deleted.")
}

fn put(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleDefinitions/write/action", scope)?;
        let guid = guid(name)?;
        if roles::built_in_of(&guid).is_some() {
            return Err(not_writable());
        }
        let body = key_body::object(asked.call, false)?;
        let role = read(&guid, &body)?;
        let taken = roles::built_in()
            .chain(hsm.roles.values().cloned())
            .any(|r| r.guid != guid && r.name.eq_ignore_ascii_case(&role.name));
        if taken {
            // Code UNVERIFIED.
            return Err(Failure::new(
                409,
                "RoleDefinitionWithSameNameExists",
                format!("There is a role named '{}' already.", role.name),
            ));
        }
        if !hsm.roles.contains_key(&guid) && hsm.roles.len() >= MOST {
            // Code UNVERIFIED.
            return Err(Failure::new(409, "RoleDefinitionLimitExceeded", "There are too many custom roles."));
        }
        let answer = role.render();
        let hsm = w.hsms.get_mut(&asked.at.name).ok_or_else(Failure::no_such_host)?;
        if hsm.roles.insert(guid, role.clone()).as_ref() != Some(&role) {
            asked.call.touch();
        }
        Ok(Reply::json(201, answer))
    })
}

/// The definition of a body. Without a name it is called like its GUID.
fn read(guid: &str, body: &Map<String, Value>) -> Result<LocalRole, Failure> {
    let properties =
        body.get("properties").and_then(Value::as_object).ok_or_else(|| bad("Property 'properties' is required."))?;
    let text = |name: &str| properties.get(name).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    if text("type").is_some_and(|t| t != "CustomRole") {
        return Err(bad("Property 'properties.type' must be 'CustomRole'."));
    }
    let scopes = strings(properties.get("assignableScopes"), "assignableScopes")?;
    if scopes.iter().any(|s| s != "/") {
        return Err(bad("The only assignable scope of a role is '/'."));
    }
    let mut permissions = Vec::new();
    for block in properties.get("permissions").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| strings(block.get(name), name);
        let permission = LocalPermission {
            actions: part("actions")?,
            not_actions: part("notActions")?,
            data_actions: part("dataActions")?,
            not_data_actions: part("notDataActions")?,
        };
        for action in permission.data_actions.iter().chain(&permission.not_data_actions) {
            if !action.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX)) {
                return Err(bad(format!("The data action '{action}' is not one of a managed HSM.")));
            }
        }
        permissions.push(permission);
    }
    Ok(LocalRole {
        guid: guid.to_owned(),
        name: text("roleName").unwrap_or_else(|| guid.to_owned()),
        description: text("description").unwrap_or_default(),
        custom: true,
        permissions,
        assignable_scopes: vec!["/".to_owned()],
    })
}

fn strings(value: Option<&Value>, name: &str) -> Result<Vec<String>, Failure> {
    let wrong = || bad(format!("Property '{name}' must be an array of strings."));
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|i| i.as_str().map(str::to_owned).ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

fn delete(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    let key = name.to_lowercase();
    asked.shared.world(|w| {
        let hsm = enter(asked, w, "roleDefinitions/delete/action", scope)?;
        if roles::built_in_of(&key).is_some() {
            return Err(not_writable());
        }
        let role = hsm.roles.get(&key).ok_or_else(|| not_found(asked))?;
        if hsm.grants.values().any(|g| g.role == key) {
            // Code UNVERIFIED.
            return Err(Failure::new(
                409,
                "RoleDefinitionHasAssignments",
                "There are existing role assignments referencing the role.",
            ));
        }
        let answer = role.render();
        if let Some(hsm) = w.hsms.get_mut(&asked.at.name) {
            hsm.roles.remove(&key);
        }
        asked.call.touch();
        Ok(Reply::ok(answer))
    })
}
