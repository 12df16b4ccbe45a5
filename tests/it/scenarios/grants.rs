//! Cause 9: repeating role assignments.

use cmk::domain::codes::Code;
use serde_json::json;

use super::Scene;

#[tokio::test]
async fn an_equal_grant_under_another_name_is_taken_for_what_it_is() {
    let scene = Scene::existing().await;
    scene.grant_officer(&scene.vault(), json!({})).await;
    let before = scene.count("PUT", "*/roleAssignments/*");
    scene.succeeds(&scene.request()).await;
    assert_eq!(scene.count("PUT", "*/roleAssignments/*") - before, 1, "the identity's only");
}

#[tokio::test]
async fn a_grant_that_is_inherited_from_the_group_is_enough() {
    let scene = Scene::existing().await;
    let group = format!("/subscriptions/{}/resourceGroups/rg-cmk-demo", scene.world.sim.subscription_id());
    scene.grant_officer(&group, json!({})).await;
    let before = scene.count("PUT", "*/roleAssignments/*");
    scene.succeeds(&scene.request()).await;
    assert_eq!(scene.count("PUT", "*/roleAssignments/*") - before, 1, "the identity's only");
}

#[tokio::test]
async fn a_grant_under_a_condition_is_not_counted_on() {
    let scene = Scene::existing().await;
    let condition = "@Resource[Microsoft.Storage/storageAccounts:name] StringEquals 'x'";
    scene.grant_officer(&scene.vault(), json!({ "condition": condition, "conditionVersion": "2.0" })).await;
    let failure = scene.fails(&scene.request(), Code::AzureConflict).await.failure.expect("it failed");
    assert!(failure.message.contains("under a condition"), "{failure:?}");
}

#[tokio::test]
async fn the_same_grant_has_the_same_name_in_every_job() {
    let scene = Scene::existing().await;
    let first = scene.succeeds(&scene.request()).await.facts;
    let again = scene.succeeds(&scene.request()).await.facts;
    let id = |facts: &cmk::domain::facts::Facts| facts.identity_grant.as_ref().map(|g| g.assignment_id.clone());
    assert!(id(&first).is_some() && id(&first) == id(&again));
    assert_eq!(scene.count("PUT", "*/roleAssignments/*"), 2);
}

#[tokio::test]
async fn a_grant_whose_answer_was_lost_is_found_and_not_an_error() {
    let scene = Scene::existing().await;
    let lost = azure_sim::faults::status(500, "InternalServerError");
    scene.world.sim.faults().add(azure_sim::Rule::once("PUT", "*/roleAssignments/*", lost));
    scene.succeeds(&scene.request()).await;
    assert_eq!(scene.count("PUT", "*/roleAssignments/*"), 2);
}

#[tokio::test]
async fn a_caller_who_forbids_grants_to_the_worker_is_obeyed_and_told_what_is_missing() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    body["keyStore"]["grantOwnAccess"] = json!(false);
    let job = scene.fails(&body, Code::OwnAccessMissing).await;
    assert!(job.failure.is_some_and(|f| f.message.contains("Key Vault Crypto Officer")));
    assert_eq!(scene.key_versions(), 0);
    scene.grant_officer(&scene.vault(), json!({})).await;
    scene.succeeds(&body).await;
}
