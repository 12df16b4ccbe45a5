//! Cause 7: the network.

use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::{Scene, seconds, took};

#[tokio::test]
async fn a_vault_that_keeps_trusted_services_out_is_refused_before_any_change() {
    let scene = Scene::instant().await;
    scene.make_account().await;
    let acls = json!({ "bypass": "None", "defaultAction": "Deny" });
    scene.make_vault(json!({ "enablePurgeProtection": true, "networkAcls": acls })).await;
    let failure = scene.refuses(&scene.request(), Code::KeyStoreClosed).await.failure.expect("it failed");
    assert!(failure.message.contains("trusted services"), "it names the gate: {failure:?}");
}

#[tokio::test]
async fn a_firewall_that_keeps_the_worker_out_is_another_gate_and_is_told_as_one() {
    let scene = Scene::instant().await;
    scene.make_account().await;
    let acls = json!({ "bypass": "AzureServices", "defaultAction": "Deny" });
    scene.make_vault(json!({ "enablePurgeProtection": true, "networkAcls": acls })).await;
    let job = scene.fails(&scene.request(), Code::KeyStoreUnreachable).await;
    assert!(took(&job) < 70.0, "nobody changes a vault that exists: {}", took(&job));
}

#[tokio::test]
async fn a_new_vault_denies_by_default_and_works_in_the_first_run() {
    let scene = Scene::instant().await;
    scene.succeeds(&scene.world.seed()).await;
    let vault = scene.arm("GET", &scene.vault(), "2026-02-01", Value::Null).await;
    let acls = &vault["properties"]["networkAcls"];
    assert_eq!((&acls["defaultAction"], &acls["bypass"]), (&json!("Deny"), &json!("AzureServices")));
}

#[tokio::test]
async fn a_firewall_rule_that_arrives_late_is_waited_for() {
    let scene = Scene::late(|p| p.firewall = seconds(45.0)).await;
    scene.make_account().await;
    let acls = json!({ "bypass": "AzureServices", "defaultAction": "Deny" });
    scene.make_vault(json!({ "enablePurgeProtection": true, "networkAcls": acls })).await;
    let open = json!({ "properties": { "networkAcls": { "bypass": "AzureServices", "defaultAction": "Allow" } } });
    scene.arm("PATCH", &scene.vault(), "2026-02-01", open).await;
    let job = scene.succeeds(&scene.request()).await;
    assert!(took(&job) >= 40.0, "the wait was real: {}", took(&job));
}

#[tokio::test]
async fn a_vaults_name_that_does_not_resolve_yet_is_waited_for() {
    let scene = Scene::late(|p| p.dns = seconds(60.0)).await;
    let job = scene.succeeds(&scene.world.seed()).await;
    assert!(took(&job) >= 55.0, "the wait was real: {}", took(&job));
}

#[tokio::test]
async fn a_request_for_a_vault_that_would_keep_its_own_target_out_is_refused_at_once() {
    let scene = Scene::instant().await;
    let mut body = scene.world.seed();
    body["keyStore"]["create"]["network"]["bypassTrustedServices"] = json!(false);
    let (_, faults) = cmk::services::rules::check(&crate::support::world::parse(&body));
    let told: Vec<_> = faults.iter().map(|f| f.pointer.as_str()).collect();
    assert_eq!(told, ["/keyStore/create/network/bypassTrustedServices"]);
}
