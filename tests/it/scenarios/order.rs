//! Cause 2: order, cycles and policies.

use azure_sim::{Rule, faults};
use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::Scene;

#[tokio::test]
async fn a_new_account_is_never_without_its_key_so_that_a_deny_policy_has_nothing_to_deny() {
    let scene = Scene::instant().await;
    scene.succeeds(&scene.world.seed()).await;
    assert_eq!(scene.count("PUT", "*/storageAccounts/stcmkdemo1"), 1, "one PUT, with the key in it");
    assert_eq!(scene.count("PATCH", "*/storageAccounts/stcmkdemo1"), 0);
}

#[tokio::test]
async fn a_policys_denial_is_final_and_told_with_azures_words() {
    let scene = Scene::instant().await;
    let denied = faults::status(403, "RequestDisallowedByPolicy");
    scene.world.sim.faults().add(Rule::always("PUT", "*/storageAccounts/*", denied));
    let job = scene.fails(&scene.world.seed(), Code::PolicyDenied).await;
    let azure = job.failure.and_then(|f| f.azure).expect("Azure's words");
    assert_eq!(azure.code.as_deref(), Some("RequestDisallowedByPolicy"));
}

#[tokio::test]
async fn the_identity_is_on_the_account_before_the_account_is_told_to_use_it() {
    let scene = Scene::existing().await;
    scene.succeeds(&scene.request()).await;
    let changes = scene.world.changes();
    let at = |text: &str| changes.iter().position(|c| c.contains(text)).expect("it happened");
    let patches: Vec<_> = changes.iter().enumerate().filter(|(_, c)| c.starts_with("PATCH")).map(|(n, _)| n).collect();
    assert_eq!(patches.len(), 2, "{changes:?}");
    assert!(at("/userAssignedIdentities/") < patches[0] && at("/keys/") < patches[1], "{changes:?}");
}

#[tokio::test]
async fn identities_that_somebody_else_put_there_stay() {
    let scene = Scene::existing().await;
    let body = json!({ "identity": { "type": "SystemAssigned" } });
    scene.arm("PATCH", &scene.account(), "2026-04-01", body).await;
    scene.succeeds(&scene.request()).await;
    let account = scene.arm("GET", &scene.account(), "2026-04-01", Value::Null).await;
    assert!(account["identity"]["type"].as_str().is_some_and(|t| t.contains("SystemAssigned")), "{account}");
    assert_eq!(account["identity"]["userAssignedIdentities"].as_object().map(serde_json::Map::len), Some(1));
}

#[tokio::test]
async fn an_identity_that_leaves_no_place_for_another_is_not_taken_away() {
    let scene = Scene::existing().await;
    let other = scene.world.id("rg-cmk-demo", "Microsoft.ManagedIdentity/userAssignedIdentities", "other");
    scene.world.put(&other, "2024-11-30", &json!({ "location": "uksouth" })).await;
    let body = json!({ "identity": { "type": "UserAssigned", "userAssignedIdentities": { &other: {} } } });
    scene.arm("PATCH", &scene.account(), "2026-04-01", body).await;
    let job = scene.refuses(&scene.request(), Code::TargetUnsuitable).await;
    let message = job.failure.map(|failure| failure.message).unwrap_or_default();
    assert!(message.contains("one user-assigned identity at a time"), "{message}");
}

#[tokio::test]
async fn a_setting_of_somebody_elses_on_the_account_stays() {
    let scene = Scene::existing().await;
    let body = json!({ "tags": { "team": "payments" }, "properties": { "minimumTlsVersion": "TLS1_2" } });
    scene.arm("PATCH", &scene.account(), "2026-04-01", body).await;
    scene.succeeds(&scene.request()).await;
    let account = scene.arm("GET", &scene.account(), "2026-04-01", Value::Null).await;
    assert_eq!(
        (&account["tags"]["team"], &account["properties"]["minimumTlsVersion"]),
        (&json!("payments"), &json!("TLS1_2"))
    );
}

#[tokio::test]
async fn what_is_present_after_the_job_is_present_after_the_next_one() {
    let scene = Scene::existing().await;
    let first = scene.succeeds(&scene.request()).await;
    let before = scene.world.changes().len();
    let again = scene.succeeds(&scene.request()).await;
    assert_eq!(scene.world.changes().len(), before, "nothing is undone and done again");
    assert_eq!(first.facts.evidence.map(|e| e.key_id), again.facts.evidence.map(|e| e.key_id));
}

#[tokio::test]
async fn a_busy_account_is_waited_for_and_not_fought_for() {
    let scene = Scene::existing().await;
    let busy = faults::status(409, "AnotherOperationInProgress");
    scene.world.sim.faults().add(Rule::once("PATCH", "*/storageAccounts/*", busy).times(2));
    scene.succeeds(&scene.request()).await;
}
