//! Cause 4: what cannot be undone.

use azure_sim::Filter;
use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::Scene;

#[tokio::test]
async fn a_vault_without_purge_protection_is_refused_before_anything_is_written() {
    let scene = Scene::instant().await;
    scene.make_account().await;
    scene.make_vault(json!({})).await;
    let job = scene.refuses(&scene.request(), Code::KeyStoreUnprotected).await;
    let failure = job.failure.expect("it failed");
    assert!(failure.message.contains("purge protection"), "it names the setting: {failure:?}");
}

#[tokio::test]
async fn purge_protection_is_turned_on_only_with_the_callers_consent() {
    let scene = Scene::instant().await;
    scene.make_account().await;
    scene.make_vault(json!({})).await;
    let mut body = scene.request();
    body["acknowledge"] = json!(["enable-purge-protection"]);
    scene.succeeds(&body).await;
    let vault = scene.arm("GET", &scene.vault(), "2026-02-01", Value::Null).await;
    assert_eq!(vault["properties"]["enablePurgeProtection"], true);
}

#[tokio::test]
async fn an_account_that_exists_is_never_replaced_by_one_that_was_to_be_created() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    body["target"]["create"] = json!({ "location": "uksouth" });
    scene.refuses(&body, Code::TargetExists).await;
}

#[tokio::test]
async fn no_job_ever_deletes_or_purges() {
    let scene = Scene::existing().await;
    scene.succeeds(&scene.request()).await;
    let mut new = scene.world.seed();
    new["target"]["resourceId"] =
        json!(scene.world.id("rg-cmk-demo", "Microsoft.Storage/storageAccounts", "stcmkdemo2"));
    scene.succeeds(&new).await;
    let mut body = scene.request();
    body["key"]["size"] = json!(2048);
    scene.fails(&body, Code::KeyMismatch).await;
    let journal = scene.world.sim.journal();
    for filter in [
        Filter { method: Some("DELETE".into()), ..Filter::default() },
        Filter { path: Some("*purge*".into()), ..Filter::default() },
    ] {
        assert_eq!(journal.count(&filter), 0, "{filter:?}");
    }
}

#[tokio::test]
async fn a_key_that_exists_and_fits_gets_no_second_version() {
    let scene = Scene::existing().await;
    let made = scene.make_key(json!({ "kty": "RSA", "key_size": 4096 })).await;
    let job = scene.succeeds(&scene.request()).await;
    assert_eq!(scene.key_versions(), 1);
    assert_eq!(job.facts.evidence.map(|e| e.key_id), made["key"]["kid"].as_str().map(str::to_owned));
}

#[tokio::test]
async fn a_key_of_another_size_is_refused_and_left_alone() {
    let scene = Scene::existing().await;
    scene.make_key(json!({ "kty": "RSA", "key_size": 2048 })).await;
    scene.fails(&scene.request(), Code::KeyMismatch).await;
    assert_eq!(scene.key_versions(), 1);
}

#[tokio::test]
async fn what_a_failed_job_made_is_found_by_the_next_and_not_made_again() {
    let scene = Scene::instant().await;
    let denied = azure_sim::faults::status(403, "RequestDisallowedByPolicy");
    let rule = azure_sim::Rule::always("PUT", "*/storageAccounts/*", denied);
    let rule = scene.world.sim.faults().add(rule).expect("there is room");
    scene.fails(&scene.world.seed(), Code::PolicyDenied).await;
    scene.world.sim.faults().remove(&rule);
    scene.succeeds(&scene.world.seed()).await;
    assert_eq!((scene.key_versions(), scene.count("PUT", "*/vaults/kvcmkdemo1")), (1, 1));
}
