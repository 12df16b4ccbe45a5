//! Microsoft.Authorization/policyAssignments: a definition put to work at a subscription, a group or a resource.

use serde_json::{Map, Value, json};

use crate::arm::checks::no_route;
use crate::arm::filter::{Filter, Term, invalid};
use crate::arm::policy_definitions::missing;
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::{Asked, no_method, scopes};
use crate::http::{Failure, Outcome, Reply};
use crate::policy::{Assignment, Definition};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::World;

const BODY: &[Member] = &[
    must(
        "properties",
        Shape::Object(&[
            must("policyDefinitionId", Shape::Text),
            may("displayName", Shape::Text),
            may("description", Shape::Text),
            may("definitionVersion", Shape::Text),
            may("parameters", Shape::Dictionary(&Shape::Object(&[must("value", Shape::Any)]))),
            may("notScopes", Shape::List(&Shape::Text)),
            may("enforcementMode", Shape::OneOf(&["Default", "DoNotEnforce"])),
            may("nonComplianceMessages", Shape::Any),
            may("metadata", Shape::Any),
            may("scope", Shape::ReadOnly),
            may("instanceId", Shape::ReadOnly),
        ]),
    ),
    may("identity", Shape::Any),
    may("location", Shape::Text),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

/// Azure's limit per scope.
const MOST_PER_SCOPE: usize = 200;

impl Assignment {
    fn render(&self) -> Value {
        let mut body = json!({
            "properties": self.properties,
            "id": self.id,
            "type": "Microsoft.Authorization/policyAssignments",
            "name": self.name,
        });
        if let Some(identity) = &self.identity {
            body["identity"] = identity.clone();
        }
        if let Some(location) = &self.location {
            body["location"] = location.clone().into();
        }
        body
    }
}

pub(crate) fn serve(asked: &Asked<'_>, scope: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    let verb = match call.method.as_str() {
        "GET" => "read",
        "PUT" => "write",
        "DELETE" => "delete",
        "PATCH" => return Err(Failure::not_played("PATCH of policy assignments")),
        _ => return Err(no_method(call)),
    };
    asked.shared.world(|w| {
        let action = format!("Microsoft.Authorization/policyAssignments/{verb}");
        check::require(w, &asked.caller, &action, scope, call.now)?;
        let scope = scopes::canonical(asked, w, scope)?;
        match (verb, rest) {
            ("read", []) => list(asked, w, &scope),
            ("read", [name]) => {
                w.governance.policies.assignments.get(&key(&scope, name)).map(|a| Reply::ok(a.render())).ok_or_else(
                    || {
                        Failure::new(
                            404,
                            "PolicyAssignmentNotFound",
                            format!("The policy assignment '{name}' is not found."),
                        )
                    },
                )
            }
            ("write", [name]) => put(asked, w, scope, name),
            ("delete", [name]) => Ok(match w.governance.policies.assignments.remove(&key(&scope, name)) {
                Some(gone) => {
                    call.touch();
                    Reply::ok(gone.render())
                }
                None => Reply::empty(204),
            }),
            (_, []) => Err(no_method(call)),
            _ => Err(no_route(call)),
        }
    })
}

fn id_of(scope: &str, name: &str) -> String {
    format!("{}/providers/Microsoft.Authorization/policyAssignments/{name}", scope.trim_end_matches('/'))
}

fn key(scope: &str, name: &str) -> String {
    id_of(scope, name).to_lowercase()
}

/// At, above and below the scope; `atScope()` leaves out those below, `policyDefinitionId eq '…'` keeps those of one definition.
fn list(asked: &Asked<'_>, w: &World, scope: &str) -> Outcome {
    let text = asked.call.param("$filter");
    let filter = Filter::read(text)?;
    let (mut below, mut definition) = (true, None);
    for term in filter.conjunction().ok_or_else(|| invalid(text.unwrap_or_default()))? {
        match term {
            Term::Call { name, arguments } if name == "atscope" && arguments.is_empty() => below = false,
            Term::Compare { field, equal: true, value } if field.eq_ignore_ascii_case("policyDefinitionId") => {
                definition = Some(value.to_lowercase());
            }
            _ => return Err(invalid(text.unwrap_or_default())),
        }
    }
    let items = w
        .governance
        .policies
        .assignments
        .values()
        .filter(|a| at_or_above(&a.scope, scope) || (below && at_or_above(scope, &a.scope)))
        .filter(|a| definition.as_ref().is_none_or(|d| a.definition == *d))
        .map(Assignment::render)
        .collect();
    Ok(Reply::list(items))
}

fn put(asked: &Asked<'_>, w: &mut World, scope: String, name: &str) -> Outcome {
    if !(1..=128).contains(&name.chars().count()) {
        return Err(Failure::new(400, "InvalidPolicyAssignmentName", "The name is empty or too long."));
    }
    let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
    let mut properties = body["properties"].as_object().cloned().unwrap_or_default();
    let id = properties.get("policyDefinitionId").and_then(Value::as_str).unwrap_or_default().to_owned();
    if id.to_lowercase().contains("/policysetdefinitions/") {
        return Err(Failure::not_played("policy sets"));
    }
    let policies = &w.governance.policies;
    let Some(definition) = policies.definitions.get(&id.to_lowercase()) else {
        return Err(missing(&id));
    };
    parameters(definition, &properties)?;
    let key = key(&scope, name);
    let at_scope = policies.assignments.values().filter(|a| a.scope.eq_ignore_ascii_case(&scope)).count();
    if !policies.assignments.contains_key(&key) && at_scope >= MOST_PER_SCOPE {
        return Err(Failure::new(400, "PolicyAssignmentQuotaExceeded", "The scope has too many policy assignments."));
    }
    properties.insert("policyDefinitionId".into(), definition.id.clone().into());
    properties.insert("scope".into(), scope.clone().into());
    properties.entry("enforcementMode").or_insert_with(|| "Default".into());
    let old = policies.assignments.get(&key).cloned();
    let mut assignment = Assignment {
        id: id_of(&scope, name),
        name: name.to_owned(),
        definition: definition.id.to_lowercase(),
        scope,
        properties,
        identity: body.get("identity").cloned(),
        location: body.get("location").and_then(Value::as_str).map(str::to_owned),
        effective_from: old.as_ref().and_then(|o| o.effective_from),
    };
    if old.as_ref() != Some(&assignment) {
        assignment.effective_from = w.due(|p| &p.policy, asked.call.now);
        asked.call.touch();
    }
    let answer = assignment.render();
    w.governance.policies.assignments.insert(key, assignment);
    Ok(Reply::json(201, answer))
}

/// Every parameter is declared, has an allowed value, and none without default is missing. Codes UNVERIFIED.
fn parameters(definition: &Definition, properties: &Map<String, Value>) -> Result<(), Failure> {
    let given = || properties.get("parameters").and_then(Value::as_object).into_iter().flatten();
    let declared = |name: &str| definition.parameters().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, d)| d);
    for (name, value) in given() {
        let Some(declared) = declared(name) else {
            return Err(Failure::new(
                400,
                "UndefinedPolicyParameter",
                format!("The policy assignment defines the parameter '{name}', which the policy definition does not."),
            ));
        };
        let value = &value["value"];
        let allowed = declared.get("allowedValues").and_then(Value::as_array);
        let same = |a: &Value| match (a.as_str(), value.as_str()) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            _ => a == value,
        };
        if allowed.is_some_and(|all| !all.iter().any(same)) {
            return Err(Failure::new(
                400,
                "PolicyParameterValueNotAllowed",
                format!(
                    "The value '{value}' is not allowed for policy parameter '{name}' in policy definition '{}'. The allowed values are {}.",
                    definition.name, declared["allowedValues"]
                ),
            ));
        }
    }
    let missing: Vec<&str> = definition
        .parameters()
        .filter(|(n, d)| d.get("defaultValue").is_none() && !given().any(|(g, _)| g.eq_ignore_ascii_case(n)))
        .map(|(n, _)| n.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        400,
        "MissingPolicyParameter",
        format!("The policy assignment is missing the parameter values '{}'.", missing.join(",")),
    ))
}
