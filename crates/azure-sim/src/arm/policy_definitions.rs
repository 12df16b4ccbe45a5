//! Microsoft.Authorization/policyDefinitions: the built-in ones to look at, custom ones to write. A rule with anything that the
//! simulator does not evaluate is refused here.

use serde_json::{Map, Value, json};

use crate::arm::checks::no_route;
use crate::arm::filter::{Filter, Term, invalid};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::policy::Definition;
use crate::policy::rule::Rule;
use crate::rbac::check;
use crate::state::World;

const MODES: &[&str] = &["All", "Indexed", "Microsoft.KeyVault.Data"];
/// Azure's limit per scope.
const MOST: usize = 500;

impl Definition {
    fn render(&self) -> Value {
        json!({
            "properties": self.properties,
            "id": self.id,
            "type": "Microsoft.Authorization/policyDefinitions",
            "name": self.name,
        })
    }
}

pub(crate) fn serve(asked: &Asked<'_>, scope: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    let verb = match call.method.as_str() {
        "GET" => "read",
        "PUT" => "write",
        "DELETE" => "delete",
        _ => return Err(no_method(call)),
    };
    let tenant = scope == "/";
    if !tenant && scope.split('/').filter(|p| !p.is_empty()).count() != 2 {
        // Definitions live in the tenant, in management groups and in subscriptions.
        return Err(no_route(call));
    }
    let scope = if tenant { String::new() } else { format!("/subscriptions/{}", asked.subscription) };
    asked.shared.world(|w| {
        if !tenant {
            let action = format!("Microsoft.Authorization/policyDefinitions/{verb}");
            check::require(w, &asked.caller, &action, &scope, call.now)?;
        } else if verb != "read" {
            return Err(no_method(call));
        }
        match (verb, rest) {
            ("read", []) => list(asked, w, &scope),
            ("read", [name]) => w
                .governance
                .policies
                .definitions
                .get(&key(&scope, name))
                .or_else(|| w.governance.policies.definitions.get(&key("", name)))
                .map(|d| Reply::ok(d.render()))
                .ok_or_else(|| missing(name)),
            ("write", [name]) => put(asked, w, &scope, name),
            ("delete", [name]) => delete(asked, w, &scope, name),
            (_, []) => Err(no_method(call)),
            _ => Err(no_route(call)),
        }
    })
}

fn id_of(scope: &str, name: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/policyDefinitions/{name}")
}

fn key(scope: &str, name: &str) -> String {
    id_of(scope, name).to_lowercase()
}

pub(crate) fn missing(name: &str) -> Failure {
    Failure::new(404, "PolicyDefinitionNotFound", format!("The policy definition '{name}' could not be found."))
}

/// Filtered by `policyType eq 'BuiltIn'` or `'Custom'`.
fn list(asked: &Asked<'_>, w: &World, scope: &str) -> Outcome {
    let text = asked.call.param("$filter");
    let filter = Filter::read(text)?;
    let known = |t: &Term| matches!(t, Term::Compare { field, .. } if field.eq_ignore_ascii_case("policyType"));
    if !filter.terms().all(known) {
        return Err(invalid(text.unwrap_or_default()));
    }
    let items = w
        .governance
        .policies
        .definitions
        .values()
        .filter(|d| d.built_in || !scope.is_empty())
        .filter(|d| {
            let kind = if d.built_in { "BuiltIn" } else { "Custom" };
            filter.holds(
                |t| matches!(t, Term::Compare { value, equal, .. } if value.eq_ignore_ascii_case(kind) == *equal),
            )
        })
        .map(Definition::render)
        .collect();
    Ok(Reply::list(items))
}

fn put(asked: &Asked<'_>, w: &mut World, scope: &str, name: &str) -> Outcome {
    let body = asked.call.object()?;
    let Some(sent) = body.get("properties").and_then(Value::as_object) else {
        return Err(Failure::bad_content(
            "The request content was invalid: required member 'properties' was not provided.",
        ));
    };
    let properties = canonical(sent)?;
    Rule::read(&properties).map_err(|why| {
        Failure::new(
            400,
            "InvalidPolicyRule",
            format!(
                "Failed to parse policy rule: {why}. (Rules of the simulator: field and value conditions with equals, notEquals, like, notLike, in, notIn, exists, contains, notContains, less, lessOrEquals, greater, greaterOrEquals; allOf, anyOf, not; the expressions [parameters('…')], [field('…')] and [requestContext().apiVersion]; the effects deny, audit and disabled.)"
            ),
        )
    })?;
    let definitions = &mut w.governance.policies.definitions;
    let key = key(scope, name);
    if !definitions.contains_key(&key) && definitions.len() >= MOST {
        return Err(Failure::new(400, "PolicyDefinitionQuotaExceeded", "There are too many policy definitions."));
    }
    let definition = Definition { id: id_of(scope, name), name: name.to_owned(), built_in: false, properties };
    let answer = definition.render();
    if definitions.insert(key, definition.clone()).as_ref() != Some(&definition) {
        asked.call.touch();
    }
    Ok(Reply::json(201, answer))
}

/// The properties that are kept, in Azure's spelling. Metadata is kept as sent.
fn canonical(sent: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let mut out = Map::new();
    for name in ["displayName", "policyType", "mode", "description", "metadata", "version", "parameters", "policyRule"]
    {
        let found = sent.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        match (name, found) {
            ("policyType", _) => {
                out.insert(name.into(), "Custom".into());
            }
            ("mode", found) => {
                let asked = found.as_ref().and_then(Value::as_str).unwrap_or("Indexed");
                let Some(mode) = MODES.iter().find(|m| m.eq_ignore_ascii_case(asked)) else {
                    return Err(Failure::new(
                        400,
                        "InvalidPolicyDefinitionMode",
                        format!("The policy mode '{asked}' is not supported, only {}.", MODES.join(", ")),
                    ));
                };
                out.insert(name.into(), (*mode).into());
            }
            (_, Some(value)) if !value.is_null() => {
                out.insert(name.into(), value);
            }
            _ => {}
        }
    }
    Ok(out)
}

fn delete(asked: &Asked<'_>, w: &mut World, scope: &str, name: &str) -> Outcome {
    let key = key(scope, name);
    let policies = &mut w.governance.policies;
    if policies.assignments.values().any(|a| a.definition == key) {
        return Err(Failure::new(
            400,
            "PolicyDefinitionInUse",
            format!("The policy definition '{name}' is used by policy assignments and cannot be deleted."),
        ));
    }
    Ok(match policies.definitions.remove(&key) {
        Some(_) => {
            asked.call.touch();
            Reply::empty(200)
        }
        None => Reply::empty(204),
    })
}
