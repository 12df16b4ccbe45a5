//! Microsoft.Authorization/roleDefinitions: look-up of built-in roles, and custom roles.

use serde_json::Value;

use crate::arm::filter::{Filter, Term};
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::rbac::roles::{Permission, Role};
use crate::state::World;

const ACTIONS: Shape = Shape::List(&Shape::Text);

const PERMISSION: &[Member] = &[
    may("actions", ACTIONS),
    may("notActions", ACTIONS),
    may("dataActions", ACTIONS),
    may("notDataActions", ACTIONS),
    may("condition", Shape::ReadOnly),
    may("conditionVersion", Shape::ReadOnly),
];

const BODY: &[Member] = &[
    must(
        "properties",
        Shape::Object(&[
            must("roleName", Shape::Text),
            may("description", Shape::Text),
            may("type", Shape::Text),
            must("permissions", Shape::List(&Shape::Object(PERMISSION))),
            must("assignableScopes", Shape::List(&Shape::Text)),
            may("createdOn", Shape::ReadOnly),
            may("createdBy", Shape::ReadOnly),
            may("updatedOn", Shape::ReadOnly),
            may("updatedBy", Shape::ReadOnly),
        ]),
    ),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
];

pub(crate) fn serve(asked: &Asked<'_>, scope: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    let guid = rest.first().map(|g| g.to_lowercase());
    let verb = match call.method.as_str() {
        "GET" => "read",
        "PUT" => "write",
        "DELETE" => "delete",
        _ => return Err(no_method(call)),
    };
    asked.shared.world(|w| {
        // Everybody who can sign in may read definitions at the root; below it, a right to read is needed.
        if scope != "/" {
            check::require(
                w,
                &asked.caller,
                &format!("Microsoft.Authorization/roleDefinitions/{verb}"),
                scope,
                call.now,
            )?;
        } else if verb != "read" {
            return Err(no_method(call));
        }
        match (verb, guid) {
            ("read", None) => list(asked, w, scope),
            ("read", Some(guid)) => {
                w.roles.get(&guid).map(|r| Reply::ok(r.render(&asked.subscription))).ok_or_else(|| missing(&guid))
            }
            ("write", Some(guid)) => put(asked, w, &guid),
            ("delete", Some(guid)) => delete(asked, w, &guid),
            _ => Err(no_method(call)),
        }
    })
}

pub(crate) fn missing(guid: &str) -> Failure {
    Failure::new(
        404,
        "RoleDefinitionDoesNotExist",
        format!("The specified role definition with ID '{guid}' does not exist."),
    )
}

fn list(asked: &Asked<'_>, w: &World, scope: &str) -> Outcome {
    let text = asked.call.param("$filter");
    let wrong = || {
        // Code UNVERIFIED.
        Failure::new(400, "UnsupportedQuery", format!("The filter '{}' is not supported.", text.unwrap_or_default()))
    };
    let filter = Filter::read(text).map_err(|_| wrong())?;
    let (mut name, mut kind) = (None, None);
    for term in filter.conjunction().ok_or_else(wrong)? {
        match term {
            Term::Compare { field, equal: true, value } if field.eq_ignore_ascii_case("roleName") => {
                name = Some(value.clone());
            }
            Term::Compare { field, equal: true, value } if field.eq_ignore_ascii_case("type") => {
                kind = Some(value.clone());
            }
            Term::Call { name, arguments } if name == "atscopeandbelow" && arguments.is_empty() => {}
            _ => return Err(wrong()),
        }
    }
    let items = w
        .roles
        .values()
        .filter(|r| name.as_ref().is_none_or(|n| r.name.eq_ignore_ascii_case(n)))
        .filter(|r| {
            let have = if r.built_in { "BuiltInRole" } else { "CustomRole" };
            kind.as_ref().is_none_or(|k| k.eq_ignore_ascii_case(have))
        })
        .filter(|r| r.assignable_scopes.iter().any(|s| at_or_above(s, scope) || at_or_above(scope, s)))
        .map(|r| r.render(&asked.subscription))
        .collect();
    Ok(Reply::list(items))
}

fn put(asked: &Asked<'_>, w: &mut World, guid: &str) -> Outcome {
    if uuid::Uuid::try_parse(guid).is_err() {
        return Err(Failure::new(
            400,
            "InvalidRoleDefinitionId",
            format!("The role definition ID '{guid}' is not a GUID."),
        ));
    }
    let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
    let properties = &body["properties"];
    let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let role = Role {
        guid: guid.to_owned(),
        name: text("roleName"),
        description: text("description"),
        built_in: false,
        permissions: properties["permissions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| Permission {
                actions: list(&p["actions"]),
                not_actions: list(&p["notActions"]),
                data_actions: list(&p["dataActions"]),
                not_data_actions: list(&p["notDataActions"]),
            })
            .collect(),
        assignable_scopes: list(&properties["assignableScopes"]),
    };
    let taken = w.roles.values().any(|r| r.guid != guid && r.name.eq_ignore_ascii_case(&role.name));
    if taken {
        return Err(Failure::new(
            409,
            "RoleDefinitionWithSameNameExists",
            format!("A role definition named '{}' exists already.", role.name),
        ));
    }
    match w.roles.get(guid) {
        Some(have) if have.built_in => {
            Err(Failure::new(403, "RoleDefinitionNotWritable", "A built-in role cannot be changed."))
        }
        Some(have) if *have == role => Ok(Reply::json(201, role.render(&asked.subscription))),
        _ => {
            let answer = role.render(&asked.subscription);
            w.roles.insert(guid.to_owned(), role);
            asked.call.touch();
            Ok(Reply::json(201, answer))
        }
    }
}

fn delete(asked: &Asked<'_>, w: &mut World, guid: &str) -> Outcome {
    match w.roles.get(guid) {
        None => Ok(Reply::empty(204)),
        Some(role) if role.built_in => {
            Err(Failure::new(403, "RoleDefinitionNotWritable", "A built-in role cannot be deleted."))
        }
        Some(role) => {
            if w.assignments.values().any(|a| a.role == guid) {
                return Err(Failure::new(
                    409,
                    "RoleDefinitionHasAssignments",
                    "There are existing role assignments referencing the role.",
                ));
            }
            let answer = role.render(&asked.subscription);
            w.roles.remove(guid);
            asked.call.touch();
            Ok(Reply::ok(answer))
        }
    }
}
