//! Microsoft.Authorization/roleAssignments: granting, looking and taking away. When a grant is enforced is decided once,
//! here, at the time of the change; `rbac::check` only compares times.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::arm::checks::no_route;
use crate::arm::filter::{Filter, Term};
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::{Asked, no_method, role_definitions, scopes};
use crate::http::{Failure, Outcome, Reply};
use crate::propagation::reached;
use crate::rbac::assignments::{Assignment, at_or_above};
use crate::rbac::check;
use crate::state::{Event, World};

const PROPERTIES: &[Member] = &[
    must("roleDefinitionId", Shape::Text),
    must("principalId", Shape::Text),
    may("principalType", Shape::OneOf(&["User", "Group", "ServicePrincipal", "ForeignGroup", "Device"])),
    may("description", Shape::Text),
    may("condition", Shape::Text),
    may("conditionVersion", Shape::Text),
    may("delegatedManagedIdentityResourceId", Shape::Text),
    may("scope", Shape::ReadOnly),
    may("createdOn", Shape::ReadOnly),
    may("updatedOn", Shape::ReadOnly),
    may("createdBy", Shape::ReadOnly),
    may("updatedBy", Shape::ReadOnly),
];

const BODY: &[Member] = &[
    must("properties", Shape::Object(PROPERTIES)),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

pub(crate) fn serve(asked: &Asked<'_>, scope: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    match (call.method.as_str(), rest) {
        ("GET", []) => list(asked, scope),
        ("GET", [name]) => get(asked, scope, name),
        ("PUT", [name]) => put(asked, scope, name),
        ("DELETE", [name]) => delete(asked, scope, name),
        (_, [] | [_]) => Err(no_method(call)),
        _ => Err(no_route(call)),
    }
}

fn require(asked: &Asked<'_>, w: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(w, &asked.caller, &format!("Microsoft.Authorization/roleAssignments/{verb}"), scope, asked.call.now)
}

fn get(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "read", scope)?;
        let scope = scopes::canonical(asked, w, scope)?;
        find(w, &scope, name)
            .filter(|a| a.readable(asked.call.now))
            .map(|a| Reply::ok(a.render(&asked.subscription)))
            .ok_or_else(|| {
                Failure::new(404, "RoleAssignmentNotFound", format!("The role assignment '{name}' is not found."))
            })
    })
}

fn id_of(scope: &str, name: &str) -> String {
    format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}", scope.trim_end_matches('/'))
}

fn find<'w>(w: &'w World, scope: &str, name: &str) -> Option<&'w Assignment> {
    w.assignments.get(&id_of(scope, name).to_lowercase())
}

/// What a list is narrowed to.
#[derive(Default)]
struct Narrowed {
    /// At the scope and above it, not below.
    only_above: bool,
    principal: Option<String>,
}

/// `atScope()`, `principalId eq '…'`, `assignedTo('…')`, joined by `and`. Groups are not played: who is assigned something is
/// the one named.
fn narrowed(text: Option<&str>) -> Result<Narrowed, Failure> {
    let wrong = || {
        Failure::new(
            400,
            "UnsupportedQuery",
            format!(
                "The filter '{}' is not supported. Supported filters are either 'atScope()' or 'principalId eq '{{value}}' or assignedTo('{{value}}')'.",
                text.unwrap_or_default()
            ),
        )
    };
    let filter = Filter::read(text).map_err(|_| wrong())?;
    let mut out = Narrowed::default();
    for term in filter.conjunction().ok_or_else(wrong)? {
        match term {
            Term::Call { name, arguments } if name == "atscope" && arguments.is_empty() => out.only_above = true,
            Term::Compare { field, equal: true, value } if field.eq_ignore_ascii_case("principalId") => {
                out.principal = Some(value.to_lowercase());
            }
            Term::Call { name, arguments } if name == "assignedto" && arguments.len() == 1 => {
                out.principal = arguments.first().map(|a| a.to_lowercase());
            }
            _ => return Err(wrong()),
        }
    }
    Ok(out)
}

fn list(asked: &Asked<'_>, scope: &str) -> Outcome {
    let Narrowed { only_above, principal } = narrowed(asked.call.param("$filter"))?;
    asked.shared.world(|w| {
        require(asked, w, "read", scope)?;
        let scope = scopes::canonical(asked, w, scope)?;
        let items = w
            .assignments
            .values()
            .filter(|a| a.readable(asked.call.now))
            .filter(|a| a.covers(&scope) || (!only_above && at_or_above(&scope, &a.scope)))
            .filter(|a| principal.as_ref().is_none_or(|p| a.principal == *p))
            .map(|a| a.render(&asked.subscription))
            .collect();
        Ok(Reply::list(items))
    })
}

fn put(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|w| {
        require(asked, w, "write", scope)?;
        let scope = scopes::canonical(asked, w, scope)?;
        if Uuid::try_parse(name).is_err() {
            return Err(Failure::new(
                400,
                "InvalidRoleAssignmentId",
                format!("The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID."),
            ));
        }
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let empty = Map::new();
        let asked_for = body["properties"].as_object().unwrap_or(&empty);
        let role = role_of(w, asked_for)?;
        let principal = principal_of(asked_for)?;
        let optional = |name: &str| asked_for.get(name).and_then(Value::as_str).map(str::to_owned);
        if let Some(have) = w.assignments.values_mut().find(|a| a.name.eq_ignore_ascii_case(name)) {
            if have.principal != principal || have.role != role || !have.scope.eq_ignore_ascii_case(&scope) {
                // Status UNVERIFIED; the text is Azure's.
                return Err(Failure::new(
                    409,
                    "RoleAssignmentUpdateNotPermitted",
                    "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
                ));
            }
            if have.description != optional("description") || have.condition != optional("condition") {
                have.description = optional("description");
                have.condition = optional("condition");
                have.condition_version = optional("conditionVersion");
                have.updated = now;
                asked.call.touch();
            }
            return Ok(Reply::ok(have.render(&asked.subscription)));
        }
        let twin = w
            .assignments
            .values()
            .find(|a| a.principal == principal && a.role == role && a.scope.eq_ignore_ascii_case(&scope));
        if let Some(twin) = twin {
            return Err(Failure::new(
                409,
                "RoleAssignmentExists",
                format!(
                    "The role assignment already exists. The ID of the existing role assignment is {}.",
                    twin.name.replace('-', "")
                ),
            ));
        }
        let here = w.assignments.values().filter(|a| asked.holds(&a.scope)).count();
        if here >= asked.shared.tuning().role_assignment_limit {
            return Err(Failure::new(
                400,
                "RoleAssignmentLimitExceeded",
                "The number of role assignments has exceeded the limit of role assignments for the subscription.",
            ));
        }
        let principal_type = principal_type(asked, w, &principal, asked_for)?;
        let assignment = Assignment {
            id: id_of(&scope, &name.to_lowercase()),
            name: name.to_lowercase(),
            scope,
            role,
            principal,
            principal_type,
            description: optional("description"),
            condition: optional("condition"),
            condition_version: optional("conditionVersion"),
            delegated: optional("delegatedManagedIdentityResourceId"),
            created: now,
            updated: now,
            created_by: asked.caller.oid.clone(),
            enforced_from: w.due(|p| &p.grant, now),
            readable_from: w.due(|p| &p.grant_read, now),
        };
        let answer = assignment.render(&asked.subscription);
        w.assignments.insert(assignment.id.to_lowercase(), assignment);
        asked.call.touch();
        Ok(Reply::json(201, answer))
    })
}

/// The GUID of the role asked for; any form of the id is taken, its last segment counts.
fn role_of(w: &World, body: &Map<String, Value>) -> Result<String, Failure> {
    let id = body.get("roleDefinitionId").and_then(Value::as_str).unwrap_or_default();
    let guid = id.rsplit('/').next().unwrap_or_default().to_lowercase();
    if w.roles.contains_key(&guid) {
        return Ok(guid);
    }
    Err(role_definitions::missing(&guid))
}

fn principal_of(body: &Map<String, Value>) -> Result<String, Failure> {
    let id = body.get("principalId").and_then(Value::as_str).unwrap_or_default();
    Uuid::try_parse(id).map(|u| u.to_string()).map_err(|_| {
        Failure::new(
            400,
            "InvalidPrincipalId",
            format!("A valid principal ID must be provided for role assignment; '{id}' is not one."),
        )
    })
}

/// The type to store. Without one the directory is asked, and does not know a principal that is not replicated yet; with
/// `ServicePrincipal` it is not asked at all, which is how Azure lets a fresh identity be granted something.
fn principal_type(asked: &Asked<'_>, w: &World, principal: &str, body: &Map<String, Value>) -> Result<String, Failure> {
    let sent = body.get("principalType").and_then(Value::as_str);
    if sent == Some("ServicePrincipal") {
        return Ok("ServicePrincipal".to_owned());
    }
    let known = w.principals.get(principal).is_some_and(|p| reached(p.known_from, asked.call.now));
    if !known {
        let id = principal.replace('-', "");
        return Err(Failure::new(
            400,
            "PrincipalNotFound",
            format!(
                "Principal {id} does not exist in the directory {}. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype",
                asked.shared.options.tenant_id
            ),
        ));
    }
    match sent {
        None => Ok("ServicePrincipal".to_owned()),
        // Code UNVERIFIED.
        Some(other) => Err(Failure::new(
            400,
            "UnmatchedPrincipalType",
            format!(
                "The PrincipalId '{principal}' has type 'ServicePrincipal', which is different from specified PrinciaplType '{other}'."
            ),
        )),
    }
}

fn delete(asked: &Asked<'_>, scope: &str, name: &str) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|w| {
        require(asked, w, "delete", scope)?;
        let scope = scopes::canonical(asked, w, scope)?;
        let Some(assignment) = w.assignments.remove(&id_of(&scope, name).to_lowercase()) else {
            return Ok(Reply::empty(204));
        };
        let answer = assignment.render(&asked.subscription);
        fade(w, assignment, now);
        asked.call.touch();
        Ok(Reply::ok(answer))
    })
}

/// A removed assignment is enforced until its removal has arrived everywhere.
fn fade(w: &mut World, assignment: Assignment, now: time::OffsetDateTime) {
    let number = w.number();
    match w.due(|p| &p.grant_removal, now) {
        Some(at) if at <= now => return,
        Some(at) => w.at(at, Event::GrantGone(number)),
        None => {}
    }
    w.fading.insert(number, assignment);
}
