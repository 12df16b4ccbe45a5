//! Azure Policy, asked before a write (`Microsoft.PolicyInsights/checkPolicyRestrictions`, api-version [`API_VERSION`]).
//!
//! What belongs here: which policies would deny a resource with this content. What does not: which resource has which
//! content, and what a denial means for a job. The call is a POST and changes nothing.

use serde::Deserialize;
use serde_json::{Value, json};

use super::arm::Arm;
use super::context::CallContext;
use super::error::{AzureError, AzureErrorKind};
use crate::domain::ids::ArmId;

/// The API version spoken here.
pub const API_VERSION: &str = "2022-03-01";

/// A policy that would deny a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The id of its assignment.
    pub assignment: String,
    /// The id of the definition that was assigned.
    pub definition: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    content_evaluation_result: WireContent,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContent {
    #[serde(default)]
    policy_evaluations: Vec<WireEvaluation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEvaluation {
    policy_info: WirePolicy,
    evaluation_result: String,
    effect_details: Option<WireEffect>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePolicy {
    policy_assignment_id: String,
    policy_definition_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEffect {
    policy_effect: Option<String>,
}

/// The policies that would deny a resource of this content; none where its group does not exist yet, as Azure is asked
/// about a group.
pub async fn denials(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    api_version: &str,
    content: &Value,
) -> Result<Vec<Denial>, AzureError> {
    let group = id.resource_group_path();
    let mut content = content.clone();
    content["type"] = id.resource_type().into();
    content["name"] = id.name().into();
    let mut details = json!({ "resourceContent": content, "apiVersion": api_version });
    if let Some(parent) = id.parent() {
        details["scope"] = parent.as_str().into();
    }
    let answer = match arm.check_policies(cx, &group, API_VERSION, &json!({ "resourceDetails": details })).await {
        Err(error) if error.kind == AzureErrorKind::NotFound => return Ok(Vec::new()),
        answer => answer?,
    };
    let wire: Wire = answer.parse("an evaluation of policies")?;
    let denies = |e: &WireEvaluation| {
        let effect = e.effect_details.as_ref().and_then(|d| d.policy_effect.as_deref());
        e.evaluation_result.eq_ignore_ascii_case("NonCompliant")
            && effect.is_some_and(|e| e.eq_ignore_ascii_case("deny"))
    };
    let told = wire.content_evaluation_result.policy_evaluations.into_iter().filter(denies);
    Ok(told
        .map(|e| Denial {
            assignment: e.policy_info.policy_assignment_id,
            definition: e.policy_info.policy_definition_id,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::testing::{FakeAzure, Reply, cx};

    #[tokio::test]
    async fn only_what_denies_is_told() {
        let evaluation = |name: &str, result: &str, effect: &str| {
            json!({
                "policyInfo": { "policyAssignmentId": name, "policyDefinitionId": "d" },
                "evaluationResult": result,
                "effectDetails": { "policyEffect": effect },
            })
        };
        let answer = json!({
            "fieldRestrictions": [],
            "contentEvaluationResult": { "policyEvaluations": [
                evaluation("a", "NonCompliant", "Deny"),
                evaluation("b", "NonCompliant", "Audit"),
                evaluation("c", "Compliant", "Deny"),
            ] },
        });
        let fake = FakeAzure::new([Reply::json(200, answer), Reply::json(200, json!({}))]);
        let id = ArmId::build(uuid::Uuid::nil(), "rg", "Microsoft.Storage/storageAccounts", "st1").expect("an id");
        let body = json!({ "location": "uksouth" });
        let told = denials(&fake.arm(), &cx(), &id, "2026-04-01", &body).await.expect("an answer");
        assert_eq!(told, [Denial { assignment: "a".into(), definition: "d".into() }]);
        assert_eq!(denials(&fake.arm(), &cx(), &id, "2026-04-01", &body).await.expect("an answer"), []);
        let sent = &fake.sent()[0];
        assert_eq!(sent.method, "POST");
        let sent: Value = serde_json::from_str(&sent.body).expect("JSON");
        let want = json!({
            "resourceContent": { "location": "uksouth", "type": "Microsoft.Storage/storageAccounts", "name": "st1" },
            "apiVersion": "2026-04-01",
        });
        assert_eq!(sent["resourceDetails"], want);
    }
}
