//! Deny policies: definitions, assignments and the refusals they lead to.

use azure_sim::{Filter, Lag, Options, Propagation};
use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, Answer, Lab, options};

const CMK: &str = "6fac406b-40ca-413b-bf8e-0bf964659c25";
const PURGE_PROTECTION: &str = "0b60c0b2-2dc2-4e1c-b5c9-abbed971de53";
const KEY_SIZE: &str = "82067dbb-e53b-4e06-b631-546d197452d9";

fn subscription(lab: &Lab) -> String {
    format!("/subscriptions/{}", lab.sim.subscription_id())
}

fn definition_path(lab: &Lab, name: &str) -> String {
    format!("{}/providers/Microsoft.Authorization/policyDefinitions/{name}", subscription(lab))
}

fn built_in(guid: &str) -> String {
    format!("/providers/Microsoft.Authorization/policyDefinitions/{guid}")
}

async fn assign(lab: &Lab, scope: &str, definition: &str, parameters: Value) -> Answer {
    let path = format!("{scope}/providers/Microsoft.Authorization/policyAssignments/a1");
    let body = json!({ "properties": {
        "policyDefinitionId": definition, "displayName": "CMK everywhere", "parameters": parameters } });
    lab.arm("PUT", &path, Some(body)).await
}

async fn unassign(lab: &Lab, scope: &str) {
    lab.arm("DELETE", &format!("{scope}/providers/Microsoft.Authorization/policyAssignments/a1"), None)
        .await
        .expect(200);
}

/// The rule of the built-in definition, with deny: Azure's own offers audit only.
fn storage_rule() -> Value {
    json!({
        "if": { "allOf": [
            { "field": "type", "equals": "Microsoft.Storage/storageAccounts" },
            { "not": { "field": "Microsoft.Storage/storageAccounts/encryption.keySource", "equals": "Microsoft.Keyvault" } },
        ] },
        "then": { "effect": "[parameters('effect')]" },
    })
}

async fn define(lab: &Lab, name: &str, rule: Value) -> Answer {
    let body = json!({ "properties": {
        "displayName": "Storage needs CMK", "mode": "Indexed", "policyRule": rule,
        "parameters": { "effect": { "type": "String", "allowedValues": ["Audit", "Deny", "Disabled"], "defaultValue": "Deny" } },
    } });
    lab.arm("PUT", &definition_path(lab, name), Some(body)).await
}

fn plain() -> Value {
    json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } })
}

#[tokio::test]
async fn an_account_without_cmk_is_refused_and_one_with_it_taken() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    define(&lab, "cmk", storage_rule()).await.expect(201);
    assign(&lab, &lab.group(), &definition_path(&lab, "cmk").to_uppercase(), json!({})).await.expect(201);
    let before = lab.sim.journal().last_seq();
    let refused = lab.arm("PUT", &lab.account_id("st1"), Some(plain())).await;
    let error = &refused.body["error"];
    assert_eq!(
        (refused.status, &error["code"], &error["target"]),
        (403, &json!("RequestDisallowedByPolicy"), &json!("st1"))
    );
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with("Resource 'st1' was disallowed by policy. Policy identifiers: '[{\"policyAssignment\":{\"name\":\"CMK everywhere\""), "{message}");
    let violation = &error["additionalInfo"][0];
    assert_eq!(violation["type"], "PolicyViolation");
    let info = &violation["info"];
    assert_eq!(info["policyDefinitionDisplayName"], "Storage needs CMK");
    assert_eq!(info["policyDefinitionId"], definition_path(&lab, "cmk").as_str());
    assert_eq!(info["policyAssignmentScope"], lab.group().as_str());
    assert_eq!(info["policyDefinitionEffect"], "deny");
    let seen = &info["evaluationDetails"]["evaluatedExpressions"];
    assert_eq!((&seen[1]["path"], &seen[1]["result"]), (&json!("encryption.keySource"), &json!("False")));
    let changed = Filter { changed: Some(true), after: Some(before), ..Filter::default() };
    assert_eq!(lab.sim.journal().count(&changed), 0);
    let version = kid.rsplit('/').next().expect("a version");
    let accepted = lab.arm("PUT", &lab.account_id("st1"), Some(lab.account_body(version))).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    // A PATCH is looked at as it would leave the account.
    lab.arm("PATCH", &lab.account_id("st1"), Some(json!({ "tags": { "a": "b" } }))).await.expect(200);
    let back = json!({ "properties": { "encryption": { "keySource": "Microsoft.Storage" } } });
    lab.arm("PATCH", &lab.account_id("st1"), Some(back)).await.refused(403, "RequestDisallowedByPolicy");
    unassign(&lab, &lab.group()).await;
    lab.arm("PUT", &lab.account_id("st2"), Some(plain())).await.expect(202);
}

#[tokio::test]
async fn audit_disabled_and_unenforced_assignments_let_pass() {
    let lab = Lab::start().await;
    lab.ground().await;
    define(&lab, "cmk", storage_rule()).await.expect(201);
    let path = format!("{}/providers/Microsoft.Authorization/policyAssignments/a1", lab.group());
    let id = definition_path(&lab, "cmk");
    let bodies = [
        json!({ "policyDefinitionId": id, "parameters": { "effect": { "value": "Audit" } } }),
        json!({ "policyDefinitionId": id, "parameters": { "effect": { "value": "disabled" } } }),
        json!({ "policyDefinitionId": id, "enforcementMode": "DoNotEnforce" }),
        json!({ "policyDefinitionId": id, "notScopes": [lab.group()] }),
        json!({ "policyDefinitionId": built_in(CMK) }),
    ];
    for (n, properties) in bodies.into_iter().enumerate() {
        lab.arm("PUT", &path, Some(json!({ "properties": properties }))).await.expect(201);
        lab.arm("PUT", &lab.account_id(&format!("st{n}")), Some(plain())).await.expect(202);
    }
    lab.arm("PUT", &path, Some(json!({ "properties": { "policyDefinitionId": id } }))).await.expect(201);
    lab.arm("PUT", &lab.account_id("stx"), Some(plain())).await.refused(403, "RequestDisallowedByPolicy");
}

#[tokio::test]
async fn an_assignment_is_evaluated_when_it_has_arrived() {
    let propagation = Propagation { policy: Lag::seconds(60.0), ..Propagation::instant() };
    let lab = Lab::with(Options { propagation, ..options() }).await;
    lab.ground().await;
    let effect = json!({ "effect": { "value": "Deny" } });
    assign(&lab, &subscription(&lab), &built_in(PURGE_PROTECTION), effect).await.expect(201);
    let mut open = lab.vault_body();
    open["properties"]["enablePurgeProtection"] = Value::Null;
    lab.arm("PUT", &lab.vault_id("kv2"), Some(open.clone())).await.expect(201);
    lab.advance(61);
    lab.arm("PUT", &lab.vault_id("kv3"), Some(open)).await.refused(403, "RequestDisallowedByPolicy");
    lab.arm("PUT", &lab.vault_id("kv3"), Some(lab.vault_body())).await.expect(201);
    // A vault of Azure's is denied as it was before: by what a PATCH would leave.
    lab.arm("PATCH", &lab.vault_id("kv3"), Some(json!({ "tags": {} }))).await.expect(200);
    lab.arm("PATCH", &lab.vault_id("kv2"), Some(json!({ "tags": {} }))).await.refused(403, "RequestDisallowedByPolicy");
}

#[tokio::test]
async fn keys_that_are_too_small_are_refused_by_the_vault() {
    let lab = Lab::start().await;
    lab.ground().await;
    lab.grant(1, ADMINISTRATOR, lab.sim.object_id()).await.expect(201);
    let parameters = json!({ "effect": { "value": "Deny" }, "minimumRSAKeySize": { "value": 3072 } });
    assign(&lab, &lab.group(), &built_in(KEY_SIZE), parameters).await.expect(201);
    let create =
        async |name: &str, body: Value| lab.keys("POST", "kv1", &format!("/keys/{name}/create"), Some(body)).await;
    create("k1", json!({ "kty": "RSA", "key_size": 2048 })).await.refused(403, "Forbidden/ForbiddenByPolicy");
    create("k1", json!({ "kty": "RSA" })).await.refused(403, "Forbidden/ForbiddenByPolicy");
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(404, "KeyNotFound");
    create("k1", json!({ "kty": "RSA", "key_size": 3072 })).await.expect(200);
    create("k2", json!({ "kty": "EC", "crv": "P-256" })).await.expect(200);
}

#[tokio::test]
async fn definitions_hold_only_what_is_evaluated() {
    let lab = Lab::start().await;
    let made = define(&lab, "good", storage_rule()).await.expect(201);
    assert_eq!(made.body["properties"]["policyType"], "Custom");
    let effect = |effect: &str| json!({ "if": { "field": "name", "equals": "x" }, "then": { "effect": effect } });
    for (rule, says) in [
        (effect("deployIfNotExists"), "effect"),
        (effect("modify"), "effect"),
        (json!({ "if": { "count": { "field": "a" }, "greater": 1 }, "then": { "effect": "deny" } }), "count"),
        (json!({ "if": { "field": "name", "match": "##" }, "then": { "effect": "deny" } }), "match"),
        (json!({ "if": { "value": "[utcNow()]", "equals": "x" }, "then": { "effect": "deny" } }), "utcNow"),
        (json!({ "if": { "field": "name", "equals": "[parameters('p')]" }, "then": { "effect": "deny" } }), "'p'"),
        (json!({ "if": { "field": "name", "equals": "x" }, "then": { "effect": "deny", "details": {} } }), "details"),
        (json!({}), "'then'"),
    ] {
        let refused = define(&lab, "bad", rule).await.refused(400, "InvalidPolicyRule");
        assert!(refused.message().contains(says), "{}", refused.message());
    }
    lab.arm("GET", &definition_path(&lab, "bad"), None).await.refused(404, "PolicyDefinitionNotFound");
    let list = |filter: &str| {
        format!(
            "{}/providers/Microsoft.Authorization/policyDefinitions?api-version=2023-04-01{filter}",
            subscription(&lab)
        )
    };
    let custom = lab.arm("GET", &list("&$filter=policyType eq 'Custom'"), None).await.expect(200);
    assert_eq!(custom.body["value"].as_array().map(Vec::len), Some(1));
    let all = lab.arm("GET", &list(""), None).await.expect(200);
    assert!(all.body["value"].as_array().is_some_and(|v| v.iter().any(|d| d["name"] == CMK)));
    let shown = lab.arm("GET", &built_in(CMK), None).await.expect(200);
    assert_eq!(shown.body["properties"]["policyType"], "BuiltIn");
    lab.arm("PUT", &built_in("x"), Some(json!({}))).await.refused(405, "MethodNotAllowed");
    lab.arm("DELETE", &definition_path(&lab, "good"), None).await.expect(200);
    lab.arm("DELETE", &definition_path(&lab, "good"), None).await.expect(204);
}

#[tokio::test]
async fn assignments_check_their_parameters() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (scope, group) = (subscription(&lab), lab.group());
    for (definition, parameters, code) in [
        (built_in(CMK), json!({ "effect": { "value": "Deny" } }), "PolicyParameterValueNotAllowed"),
        (built_in(CMK), json!({ "colour": { "value": "red" } }), "UndefinedPolicyParameter"),
        (built_in(KEY_SIZE), json!({}), "MissingPolicyParameter"),
        (built_in(KEY_SIZE), json!({ "minimumRSAKeySize": { "value": 1024 } }), "PolicyParameterValueNotAllowed"),
    ] {
        assign(&lab, &scope, &definition, parameters).await.refused(400, code);
    }
    assign(&lab, &scope, &built_in("nope"), json!({})).await.refused(404, "PolicyDefinitionNotFound");
    let made = assign(&lab, &scope, &built_in(CMK), json!({})).await.expect(201);
    assert_eq!(made.body["properties"]["enforcementMode"], "Default");
    assert_eq!(made.body["properties"]["scope"], scope.as_str());
    define(&lab, "cmk", storage_rule()).await.expect(201);
    assign(&lab, &group, &definition_path(&lab, "cmk"), json!({})).await.expect(201);
    lab.arm("DELETE", &definition_path(&lab, "cmk"), None).await.refused(400, "PolicyDefinitionInUse");
    let list = async |scope: &str, filter: &str| {
        let path =
            format!("{scope}/providers/Microsoft.Authorization/policyAssignments?api-version=2023-04-01{filter}");
        lab.arm("GET", &path, None).await.expect(200).body["value"].as_array().map(Vec::len)
    };
    assert_eq!(list(&scope, "").await, Some(2));
    assert_eq!(list(&scope, "&$filter=atScope()").await, Some(1));
    assert_eq!(list(&group, "&$filter=atScope()").await, Some(2));
    unassign(&lab, &scope).await;
    let (id, secret) = lab.sim.outsider();
    let token = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    let path = format!("{group}/providers/Microsoft.Authorization/policyAssignments/a1");
    lab.arm_as(&token, "DELETE", &path, None).await.refused(403, "AuthorizationFailed");
}

#[tokio::test]
async fn the_common_rules_hold_for_types_of_the_generic_provider() {
    let lab = Lab::start().await;
    lab.ground().await;
    let cosmos = lab.resource_id("Microsoft.DocumentDB/databaseAccounts", "cosmos1");
    let account = json!({ "location": "uksouth", "properties": { "databaseAccountOfferType": "Standard",
        "locations": [{ "locationName": "uksouth", "failoverPriority": 0 }] } });
    let deny = json!({ "effect": { "value": "deny" } });
    assign(&lab, &lab.group(), &built_in("1f905d99-2ab7-462c-a6b0-f709acca6c8f"), deny).await.expect(201);
    lab.arm("PUT", &cosmos, Some(account.clone())).await.refused(403, "RequestDisallowedByPolicy");
    let cognitive = lab.resource_id("Microsoft.CognitiveServices/accounts", "ai1");
    let ai = json!({ "location": "uksouth", "kind": "AIServices", "sku": { "name": "S0" }, "properties": {} });
    unassign(&lab, &lab.group()).await;
    let deny = json!({ "effect": { "value": "Deny" } });
    assign(&lab, &lab.group(), &built_in("67121cc7-ff39-4ab8-b7e3-95b84dab487d"), deny).await.expect(201);
    lab.arm("PUT", &cognitive, Some(ai)).await.refused(403, "RequestDisallowedByPolicy");
    lab.arm("PUT", &cosmos, Some(account.clone())).await.expect(200);
    lab.advance(3);
    lab.arm("HEAD", &cosmos, None).await.expect(204);
    let lock = format!("{cosmos}/providers/Microsoft.Authorization/locks/l1");
    lab.arm("PUT", &lock, Some(json!({ "properties": { "level": "ReadOnly" } }))).await.expect(201);
    lab.arm("DELETE", &cosmos, None).await.refused(409, "ScopeLocked");
    lab.arm("POST", &format!("{cosmos}/listKeys"), None).await.refused(409, "ScopeLocked");
    lab.arm("DELETE", &lab.group(), None).await.refused(409, "ScopeLocked");
    lab.arm("DELETE", &lock, None).await.expect(200);
    let url = format!("{}/_sim/registrations", lab.sim.arm_url());
    lab.send("PUT", &url, "", Some(&json!({ "Microsoft.DocumentDB": false }))).await.expect(200);
    lab.arm("PUT", &cosmos, Some(account)).await.refused(409, "MissingSubscriptionRegistration");
    let list = format!(
        "{}/resources?api-version=2021-04-01&$filter=resourceType eq 'microsoft.documentdb/databaseaccounts'",
        lab.group()
    );
    let list = lab.arm("GET", &list, None).await.expect(200);
    assert_eq!(list.body["value"][0]["id"], cosmos.as_str());
}

#[tokio::test]
async fn what_a_policy_would_deny_can_be_asked_before() {
    let lab = Lab::start().await;
    lab.ground().await;
    define(&lab, "cmk", storage_rule()).await.expect(201);
    assign(&lab, &lab.group(), &definition_path(&lab, "cmk"), json!({})).await.expect(201);
    let path = format!("{}/providers/Microsoft.PolicyInsights/checkPolicyRestrictions", lab.group());
    let ask = async |content: Value| {
        let mut content = content;
        content["type"] = json!("Microsoft.Storage/storageAccounts");
        content["name"] = json!("st1");
        let details = json!({ "resourceContent": content, "apiVersion": "2023-05-01" });
        let before = lab.sim.journal().last_seq();
        let answer = lab.arm("POST", &path, Some(json!({ "resourceDetails": details }))).await.expect(200);
        let changed = Filter { changed: Some(true), after: Some(before), ..Filter::default() };
        assert_eq!(lab.sim.journal().count(&changed), 0, "a question changes nothing");
        answer.body["contentEvaluationResult"]["policyEvaluations"].as_array().expect("a list").clone()
    };
    let told = ask(plain()).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["effectDetails"]["policyEffect"], "Deny");
    assert_eq!(told[0]["policyInfo"]["policyDefinitionId"], definition_path(&lab, "cmk").as_str());
    let mut under_key = plain();
    under_key["properties"] = json!({ "encryption": { "keySource": "Microsoft.Keyvault" } });
    assert_eq!(ask(under_key).await, Vec::<Value>::new());
    let nowhere = path.replace(&lab.group(), &format!("{}/resourceGroups/nowhere", subscription(&lab)));
    let body = json!({ "resourceDetails": { "resourceContent": { "type": "Microsoft.Storage/storageAccounts" } } });
    lab.arm("POST", &nowhere, Some(body)).await.refused(404, "ResourceGroupNotFound");
    lab.arm("POST", &path, Some(json!({ "resourceDetails": { "resourceContent": {} } })))
        .await
        .refused(400, "InvalidCheckRestrictionsRequest");
}
