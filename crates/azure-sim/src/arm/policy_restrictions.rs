//! Microsoft.PolicyInsights/checkPolicyRestrictions of a group: which policies would deny a resource of this content. Only
//! denials are told; restrictions of single fields are not worked out, and audits are not counted.

use serde_json::{Value, json};

use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::target::Target;
use crate::arm::{Asked, checks, no_method};
use crate::http::{Failure, Outcome, Reply, segments};
use crate::policy::Subject;
use crate::rbac::check;

/// What a caller needs: the call is a POST that reads.
const ACTION: &str = "Microsoft.PolicyInsights/checkPolicyRestrictions/read";

const BODY: &[Member] = &[
    must(
        "resourceDetails",
        Shape::Object(&[
            must("resourceContent", Shape::Any),
            may("apiVersion", Shape::Text),
            may("scope", Shape::Text),
        ]),
    ),
    may("pendingFields", Shape::Any),
    may("includeAuditEffect", Shape::Bool),
];

pub(crate) fn check(asked: &Asked<'_>, group: &str) -> Outcome {
    if !asked.call.is("POST") {
        return Err(no_method(asked.call));
    }
    let scope = asked.group_id(group);
    asked.shared.world(|w| {
        check::require(w, &asked.caller, ACTION, &scope, asked.call.now)?;
        checks::open_group(w, &scope, group)?;
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let details = &body["resourceDetails"];
        let subject = subject(&scope, details)?;
        let denials = w.governance.policies.denials(&subject, asked.call.now);
        let evaluations: Vec<Value> = denials
            .into_iter()
            .map(|(assignment, definition, seen)| {
                json!({
                    "policyInfo": { "policyAssignmentId": assignment.id, "policyDefinitionId": definition.id },
                    "evaluationResult": "NonCompliant",
                    "evaluationDetails": { "evaluatedExpressions": seen },
                    "effectDetails": { "policyEffect": "Deny" },
                })
            })
            .collect();
        Ok(Reply::ok(json!({
            "fieldRestrictions": [],
            "contentEvaluationResult": { "policyEvaluations": evaluations },
        })))
    })
}

/// The resource that the content would be of. Codes UNVERIFIED.
fn subject(group: &str, details: &Value) -> Result<Subject, Failure> {
    let content = &details["resourceContent"];
    let wrong =
        |what: &str| Failure::new(400, "InvalidCheckRestrictionsRequest", format!("{what} is missing or wrong."));
    let kind = content["type"].as_str().ok_or_else(|| wrong("resourceDetails.resourceContent.type"))?;
    // Without a name the resource could have any.
    let name = content["name"].as_str().unwrap_or("resource");
    let id = match (details["scope"].as_str(), kind.rsplit_once('/')) {
        (Some(parent), Some((_, last))) => format!("{parent}/{last}/{name}"),
        (None, Some(_)) => format!("{group}/providers/{kind}/{name}"),
        (_, None) => return Err(wrong("resourceDetails.resourceContent.type")),
    };
    let target = Target::of(&segments(&id)).ok_or_else(|| wrong("resourceDetails.scope"))?;
    Ok(Subject::of(&target, content.clone(), details["apiVersion"].as_str().unwrap_or_default()))
}
