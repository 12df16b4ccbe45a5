//! Azure Policy as far as it stands in the way of a write: definitions with rules of a documented subset, assignments, and the
//! decision about one resource. Only deny refuses; audit and disabled let pass, and compliance states are not kept. The ARM
//! surfaces are `arm::policy_definitions` and `arm::policy_assignments`.

pub(crate) mod built_in;
pub(crate) mod expression;
pub(crate) mod fields;
pub(crate) mod rule;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

pub(crate) use fields::Subject;

use crate::http::Failure;
use crate::propagation::{Due, reached};
use crate::rbac::assignments::at_or_above;
use crate::state::World;
use rule::Rule;

/// A policy definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub id: String,
    pub name: String,
    pub built_in: bool,
    /// As ARM shows it: displayName, mode, parameters, policyRule and the like.
    pub properties: Map<String, Value>,
}

impl Definition {
    pub fn display_name(&self) -> &str {
        self.properties.get("displayName").and_then(Value::as_str).unwrap_or(&self.name)
    }

    pub fn mode(&self) -> &str {
        self.properties.get("mode").and_then(Value::as_str).unwrap_or("Indexed")
    }

    /// The declared parameters by name.
    pub fn parameters(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.properties.get("parameters").and_then(Value::as_object).into_iter().flatten()
    }

    /// The rule; it was read once before the definition was taken.
    fn rule(&self) -> Option<Rule> {
        Rule::read(&self.properties).ok()
    }
}

/// A definition put to work at a scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub id: String,
    pub name: String,
    pub scope: String,
    /// Lower-case id of the definition.
    pub definition: String,
    /// As ARM shows it.
    pub properties: Map<String, Value>,
    pub identity: Option<Value>,
    pub location: Option<String>,
    /// When evaluation takes it into account.
    #[serde(with = "time::serde::rfc3339::option")]
    pub effective_from: Due,
}

impl Assignment {
    /// The value of a parameter, or the definition's default for it.
    fn parameter<'v>(&'v self, definition: &'v Definition, name: &str) -> Option<&'v Value> {
        let given = self.properties.get("parameters").and_then(Value::as_object).into_iter().flatten();
        let given = given.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).and_then(|(_, p)| p.get("value"));
        given.or_else(|| {
            let (_, declared) = definition.parameters().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
            declared.get("defaultValue")
        })
    }

    fn covers(&self, id: &str) -> bool {
        let spared = self.properties.get("notScopes").and_then(Value::as_array).into_iter().flatten();
        at_or_above(&self.scope, id) && !spared.filter_map(Value::as_str).any(|s| at_or_above(s, id))
    }

    fn enforced(&self) -> bool {
        self.properties.get("enforcementMode").and_then(Value::as_str) != Some("DoNotEnforce")
    }
}

/// All definitions and assignments, by lower-case id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Policies {
    pub definitions: BTreeMap<String, Definition>,
    pub assignments: BTreeMap<String, Assignment>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { definitions: built_in::all_by_id(), assignments: BTreeMap::new() }
    }
}

impl Policies {
    /// Whether there is nothing to evaluate.
    pub fn idle(&self) -> bool {
        self.assignments.is_empty()
    }

    pub fn settle(&mut self, now: OffsetDateTime) {
        for a in self.assignments.values_mut() {
            a.effective_from = a.effective_from.filter(|at| *at <= now).or(Some(now));
        }
    }

    pub fn scope_gone(&mut self, scope: &str) {
        self.assignments.retain(|_, a| !at_or_above(scope, &a.scope));
    }

    /// The assignments that deny this subject, each with its definition and the expressions that were evaluated.
    pub fn denials(&self, subject: &Subject, now: OffsetDateTime) -> Vec<(&Assignment, &Definition, Vec<Value>)> {
        self.assignments
            .values()
            .filter(|a| a.enforced() && reached(a.effective_from, now) && a.covers(&subject.id))
            .filter_map(|a| {
                let definition = self.definitions.get(&a.definition)?;
                if !subject.in_mode(definition.mode()) {
                    return None;
                }
                let rule = definition.rule()?;
                let parameter = |name: &str| a.parameter(definition, name).cloned();
                let mut seen = Vec::new();
                let denies = rule.effect(&parameter).eq_ignore_ascii_case("deny")
                    && rule.condition.holds(subject, &parameter, &mut seen);
                denies.then_some((a, definition, seen))
            })
            .collect()
    }
}

/// Refuses the write if a policy denies it, naming all that do.
pub(crate) fn require(w: &World, subject: &Subject, now: OffsetDateTime) -> Result<(), Failure> {
    let denials = w.governance.policies.denials(subject, now);
    if denials.is_empty() {
        return Ok(());
    }
    let identifiers: Vec<Value> = denials
        .iter()
        .map(|(a, d, _)| {
            let shown = a.properties.get("displayName").and_then(Value::as_str).unwrap_or(&a.name);
            json!({
                "policyAssignment": { "name": shown, "id": a.id },
                "policyDefinition": { "name": d.display_name(), "id": d.id },
            })
        })
        .collect();
    let failure = Failure::new(
        403,
        "RequestDisallowedByPolicy",
        format!(
            "Resource '{}' was disallowed by policy. Policy identifiers: '{}'.",
            subject.name,
            Value::Array(identifiers)
        ),
    )
    .target(&subject.name);
    Err(denials.into_iter().fold(failure, |f, (a, d, seen)| f.additional("PolicyViolation", violation(a, d, seen))))
}

fn violation(a: &Assignment, d: &Definition, seen: Vec<Value>) -> Value {
    let parameters = a.properties.get("parameters").cloned().unwrap_or_else(|| json!({}));
    json!({
        "evaluationDetails": { "evaluatedExpressions": seen },
        "policyDefinitionId": d.id,
        "policyDefinitionName": d.name,
        "policyDefinitionDisplayName": d.display_name(),
        "policyDefinitionEffect": "deny",
        "policyAssignmentId": a.id,
        "policyAssignmentName": a.name,
        "policyAssignmentDisplayName": a.properties.get("displayName"),
        "policyAssignmentScope": a.scope,
        "policyAssignmentParameters": parameters,
        "policyExemptionIds": [],
    })
}

/// Key Vault's refusal of a key that a policy of mode `Microsoft.KeyVault.Data` denies: the first of them (UNVERIFIED code and
/// text).
pub(crate) fn require_key(w: &World, subject: &Subject, now: OffsetDateTime) -> Result<(), Failure> {
    match w.governance.policies.denials(subject, now).first() {
        None => Ok(()),
        Some((a, d, _)) => Err(Failure::new(
            403,
            "Forbidden",
            format!(
                "Operation was disallowed by policy. Policy assignment '{}', policy definition '{}' ({}).",
                a.id,
                d.id,
                d.display_name()
            ),
        )
        .inner("ForbiddenByPolicy")),
    }
}
