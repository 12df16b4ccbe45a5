//! Cause 5: identities, tenants and places.

use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::Scene;

#[tokio::test]
async fn vault_account_and_identity_may_lie_in_three_groups() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    let identity = scene.world.id("rg-identities", "Microsoft.ManagedIdentity/userAssignedIdentities", "id-1");
    body["identity"] = json!({ "resourceId": identity, "create": { "location": "uksouth" } });
    body["createResourceGroups"] = json!(true);
    let evidence = scene.succeeds(&body).await.facts.evidence.expect("evidence");
    assert!(evidence.identity.eq_ignore_ascii_case(&identity));
}

#[tokio::test]
async fn an_identity_that_does_not_exist_is_told_by_its_name() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    let identity = scene.world.id("rg-app", "Microsoft.ManagedIdentity/userAssignedIdentities", "nobody");
    body["identity"] = json!({ "resourceId": identity });
    let failure = scene.fails(&body, Code::IdentityNotFound).await.failure.expect("it failed");
    assert!(failure.message.contains("nobody"), "{failure:?}");
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_before_the_account_is_touched() {
    let scene = Scene::instant().await;
    scene.make_account().await;
    scene.make_group().await;
    scene.refuses(&scene.request(), Code::KeyStoreNotFound).await;
}

#[tokio::test]
async fn an_account_that_does_not_exist_costs_nothing() {
    let scene = Scene::instant().await;
    scene.make_vault(json!({ "enablePurgeProtection": true })).await;
    scene.refuses(&scene.request(), Code::TargetNotFound).await;
}

#[tokio::test]
async fn the_accounts_own_identity_is_switched_on_granted_and_then_used() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    body["identity"] = json!({ "kind": "systemAssigned" });
    let evidence = scene.succeeds(&body).await.facts.evidence.expect("evidence");
    assert_eq!(evidence.identity, "systemAssigned");
    let account = scene.arm("GET", &scene.account(), "2026-04-01", Value::Null).await;
    assert!(account["identity"]["principalId"].is_string());
}
