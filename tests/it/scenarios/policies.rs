//! Cause 2, the other half: policies that deny what has no customer-managed key, as Azure evaluates them.

use azure_sim::Filter;
use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::Scene;

const DELETION_PROTECTION: &str = "0b60c0b2-2dc2-4e1c-b5c9-abbed971de53";
const RBAC: &str = "12d4fa5e-1f9f-4c21-97a9-b99b3c6611b5";
const KEY_SIZE: &str = "82067dbb-e53b-4e06-b631-546d197452d9";
const KEY_EXPIRY: &str = "152b15f7-8e1f-4c1f-ab71-8c010ba5dbc0";

fn authorization(scene: &Scene) -> String {
    format!("/subscriptions/{}/providers/Microsoft.Authorization", scene.world.sim.subscription_id())
}

/// Puts a definition to work in the whole subscription.
async fn assign(scene: &Scene, name: &str, definition: &str, parameters: Value) {
    let path = format!("{}/policyAssignments/{name}", authorization(scene));
    let body = json!({ "properties": { "policyDefinitionId": definition, "parameters": parameters } });
    scene.arm("PUT", &path, "2023-04-01", body).await;
}

async fn assign_built_in(scene: &Scene, guid: &str, more: Value) {
    let mut parameters = json!({ "effect": { "value": "Deny" } });
    for (name, value) in more.as_object().expect("an object") {
        parameters[name] = json!({ "value": value });
    }
    let definition = format!("/providers/Microsoft.Authorization/policyDefinitions/{guid}");
    assign(scene, &guid[..8], &definition, parameters).await;
}

/// Azure's own definition with Deny, which Azure offers as a copy only.
async fn deny_accounts_without_cmk(scene: &Scene) {
    let definition = format!("{}/policyDefinitions/cmk", authorization(scene));
    let source = "Microsoft.Storage/storageAccounts/encryption.keySource";
    let body = json!({ "properties": { "displayName": "Storage needs CMK", "mode": "Indexed", "policyRule": {
        "if": { "allOf": [
            { "field": "type", "equals": "Microsoft.Storage/storageAccounts" },
            { "not": { "field": source, "equals": "Microsoft.Keyvault" } },
        ] },
        "then": { "effect": "deny" },
    } } });
    scene.arm("PUT", &definition, "2023-04-01", body).await;
    assign(scene, "cmk", &definition, json!({})).await;
}

/// Writes that a policy refused.
fn denied(scene: &Scene, filter: Filter) -> usize {
    let filter = Filter { code: Some("RequestDisallowedByPolicy".into()), ..filter };
    scene.world.sim.journal().count(&filter)
}

#[tokio::test]
async fn a_new_account_under_every_deny_policy_on_keys_is_created_in_one_put() {
    let scene = Scene::instant().await;
    scene.make_group().await;
    deny_accounts_without_cmk(&scene).await;
    for guid in [DELETION_PROTECTION, RBAC, KEY_EXPIRY] {
        assign_built_in(&scene, guid, json!({})).await;
    }
    assign_built_in(&scene, KEY_SIZE, json!({ "minimumRSAKeySize": 4096 })).await;
    let account = scene.world.id("rg-cmk-demo", "Microsoft.Storage/storageAccounts", "stcmkdemo1");
    let arm = scene.world.sim.arm_url();
    let plain = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    let url = format!("{arm}{account}?api-version=2026-04-01");
    assert_eq!(scene.send("PUT", &url, &format!("{arm}/"), plain).await.0, 403, "without the key it is denied");

    let mut body = scene.world.seed();
    body["key"]["expiresAfter"] = json!("P2Y");
    scene.succeeds(&body).await;
    assert_eq!((scene.count("PUT", &account), scene.count("PATCH", &account)), (1, 0));
    assert_eq!(denied(&scene, Filter::default()), 1, "the one that the test sent");
}

#[tokio::test]
async fn an_account_that_exists_gets_identity_and_key_in_one_write_where_a_policy_denies_two() {
    let scene = Scene::existing().await;
    deny_accounts_without_cmk(&scene).await;
    let account = scene.account();
    scene.succeeds(&scene.request()).await;
    assert_eq!((scene.count("PATCH", &account), denied(&scene, Filter::on("PATCH", &account))), (1, 1));
    let before = scene.world.changes().len();
    scene.succeeds(&scene.request()).await;
    assert_eq!(
        (scene.world.changes().len(), denied(&scene, Filter::on("PATCH", &account))),
        (before, 1),
        "now there is nothing to deny"
    );
}

#[tokio::test]
async fn an_accounts_own_identity_takes_two_writes_and_the_denial_of_the_first_is_told() {
    let scene = Scene::existing().await;
    deny_accounts_without_cmk(&scene).await;
    let mut body = scene.request();
    body["identity"] = json!({ "kind": "systemAssigned" });
    let failure = scene.fails(&body, Code::PolicyDenied).await.failure.expect("it failed");
    assert!(failure.azure.and_then(|azure| azure.message).is_some_and(|m| m.contains("Policy identifiers")));
}

#[tokio::test]
async fn a_key_that_a_policy_denies_is_a_denial_and_no_wait_for_access() {
    for (guid, more, key) in [
        (KEY_EXPIRY, json!({}), json!({ "name": "sa-cmk-key" })),
        (KEY_SIZE, json!({ "minimumRSAKeySize": 4096 }), json!({ "name": "sa-cmk-key", "size": 2048 })),
    ] {
        let scene = Scene::existing().await;
        assign_built_in(&scene, guid, more).await;
        let mut body = scene.request();
        body["key"] = key;
        let job = scene.fails(&body, Code::PolicyDenied).await;
        assert_eq!(scene.key_versions(), 0);
        assert_eq!(scene.waits(&job).await, Vec::<String>::new());
    }
}
