//! Plans that look at Azure: what is in place, what would be changed, and everything that would stop the job at once. And
//! that looking changes nothing.

use std::sync::Arc;

use axum::Router;
use azure_sim::{Options, Propagation};
use cmk::api::ApiSettings;
use cmk::azure::Azure;
use cmk::clock::Clock;
use cmk::domain::codes::Code;
use cmk::survey::Surveyor;
use serde_json::{Value, json};

use crate::support::api::TestApi;
use crate::support::world::{World, azure_settings};

async fn looking(world: &World) -> TestApi {
    let azure = Azure::connect_with_clock(azure_settings(&world.sim), world.clock.clone()).expect("it connects");
    let surveyor = Surveyor::new(Arc::new(azure), world.clock.clone());
    TestApi::start_looking(ApiSettings::default(), Router::new(), Some(surveyor)).await
}

async fn plan(world: &World, body: &Value) -> Value {
    let before = world.changes();
    let answer = looking(world).await.post("/v1/plans", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(world.changes(), before, "a plan changes nothing");
    let plan = answer.json();
    assert_eq!(plan["looked"], true, "{plan}");
    plan
}

fn states(plan: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let steps = plan["steps"].as_array().expect("steps").iter();
    steps.map(|s| (text(&s["name"]), text(&s["found"]["state"]))).collect()
}

fn state(plan: &Value, step: &str) -> String {
    states(plan).into_iter().find(|(name, _)| name == step).map(|(_, state)| state).unwrap_or_default()
}

fn blockers(plan: &Value) -> Vec<&str> {
    plan["blockers"].as_array().expect("blockers").iter().filter_map(|b| b["code"].as_str()).collect()
}

#[tokio::test]
async fn where_nothing_exists_everything_would_be_made() {
    let world = World::instant().await;
    let plan = plan(&world, &world.seed()).await;
    assert_eq!((blockers(&plan), &plan["unread"], &plan["gates"]), (vec![], &json!([]), &json!([])), "{plan}");
    for step in ["ensure-resource-groups", "ensure-key-store", "ensure-identity"] {
        assert_eq!(state(&plan, step), "would-change", "{step}: {plan}");
    }
    for step in [
        "grant-own-access",
        "grant-identity-access",
        "await-key-store-access",
        "ensure-key",
        "configure-service",
        "verify",
    ] {
        assert_eq!(state(&plan, step), "later", "{step}: {plan}");
    }
    assert_eq!(state(&plan, "check-target"), "in-place");
}

#[tokio::test]
async fn after_the_job_everything_is_in_place() {
    let world = World::instant().await;
    let body = world.seed();
    world.succeed(&body).await;
    let plan = plan(&world, &body).await;
    assert_eq!(blockers(&plan), Vec::<&str>::new(), "{plan}");
    let open: Vec<_> = states(&plan).into_iter().filter(|(_, state)| state != "in-place").collect();
    assert_eq!(open, [], "{plan}");
    let gates: Vec<_> = plan["gates"].as_array().expect("gates").iter().map(|g| (&g["gate"], &g["open"])).collect();
    assert!(gates.contains(&(&json!("trusted-services"), &json!(true))), "{gates:?}");
    assert!(gates.contains(&(&json!("default-action"), &json!(false))), "{gates:?}");
}

#[tokio::test]
async fn everything_that_would_stop_the_job_is_told_at_once() {
    let world = World::instant().await;
    world.make_existing_account().await;
    let mut body = world.seed_for_existing();
    // No such vault, a lock on the group of the account, and a namespace that is not registered.
    body["keyStore"] = json!({ "resourceId": world.id("rg-keys", "Microsoft.KeyVault/vaults", "kv-nowhere") });
    let target = body["target"]["resourceId"].as_str().expect("an id").to_owned();
    let group = target.split("/providers/").next().expect("a group").to_owned();
    let lock = format!("{group}/providers/Microsoft.Authorization/locks/frozen");
    world.put(&lock, "2020-05-01", &json!({ "properties": { "level": "ReadOnly" } })).await;
    let mut found = blockers(&plan(&world, &body).await).into_iter().map(str::to_owned).collect::<Vec<_>>();
    found.sort();
    assert_eq!(found, ["key-store-not-found", "scope-locked"]);
}

/// Puts a rule to work in the whole subscription that denies whatever the condition holds for.
async fn deny(world: &World, name: &str, condition: Value) {
    let authorization = format!("/subscriptions/{}/providers/Microsoft.Authorization", world.sim.subscription_id());
    let definition = format!("{authorization}/policyDefinitions/{name}");
    let rule = json!({ "if": condition, "then": { "effect": "deny" } });
    let body = json!({ "properties": { "displayName": name, "mode": "Indexed", "policyRule": rule } });
    world.put(&definition, "2023-04-01", &body).await;
    let body = json!({ "properties": { "policyDefinitionId": definition } });
    world.put(&format!("{authorization}/policyAssignments/{name}"), "2023-04-01", &body).await;
}

#[tokio::test]
async fn a_policy_that_would_deny_the_job_is_told_and_one_that_asks_for_the_key_is_in_nobodys_way() {
    for existing in [false, true] {
        let world = World::instant().await;
        let body = if existing {
            world.make_existing_account().await;
            world.seed_for_existing()
        } else {
            world.seed()
        };
        for group in ["rg-cmk-demo", "rg-app"] {
            let group = format!("/subscriptions/{}/resourceGroups/{group}", world.sim.subscription_id());
            world.put(&group, "2025-04-01", &json!({ "location": "uksouth" })).await;
        }
        let kind = json!({ "field": "type", "equals": "Microsoft.Storage/storageAccounts" });
        let source = "Microsoft.Storage/storageAccounts/encryption.keySource";
        let without = json!({ "not": { "field": source, "equals": "Microsoft.Keyvault" } });
        deny(&world, "no-account-without-cmk", json!({ "allOf": [kind, without] })).await;
        let found = plan(&world, &body).await;
        assert_eq!((blockers(&found), &found["unread"]), (vec![], &json!([])), "{found}");

        deny(&world, "no-account-here", json!({ "allOf": [kind, { "field": "location", "equals": "uksouth" }] })).await;
        let vault = json!({ "field": "type", "equals": "Microsoft.KeyVault/vaults" });
        let open = json!({ "field": "Microsoft.KeyVault/vaults/publicNetworkAccess", "equals": "Enabled" });
        deny(&world, "no-open-vault", json!({ "allOf": [vault, open] })).await;
        let found = plan(&world, &body).await;
        assert_eq!(blockers(&found), ["policy-denied", "policy-denied"], "{found}");
        let told: Vec<&str> =
            found["blockers"].as_array().expect("a list").iter().filter_map(|b| b["message"].as_str()).collect();
        assert!(told.iter().any(|t| t.contains("no-open-vault") && t.contains("kvcmkdemo1")), "{told:?}");
        assert!(told.iter().any(|t| t.contains("no-account-here") && t.contains("stcmkdemo1")), "{told:?}");
        // The job ends as the plan says.
        assert_eq!(world.provision(&body).await.failure.map(|f| f.code), Some(Code::PolicyDenied));
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_registered_is_told() {
    let options = Options { unregistered: vec!["Microsoft.KeyVault".into()], ..Options::default() };
    let world = World::live_with(options).await;
    let found = plan(&world, &world.seed()).await;
    assert!(blockers(&found).contains(&"provider-not-registered"), "{found}");
}

#[tokio::test]
async fn an_azure_that_does_not_answer_leaves_the_plan_as_it_is_without_it() {
    let world = World::start(Propagation::default()).await;
    let mut settings = azure_settings(&world.sim);
    settings.timeouts.connect = std::time::Duration::from_millis(200);
    let azure = Azure::connect_with_clock(settings, Clock::System).expect("it connects");
    let body = world.seed();
    let surveyor = Surveyor::new(Arc::new(azure), Clock::System);
    drop(world);
    let api = TestApi::start_looking(ApiSettings::default(), Router::new(), Some(surveyor)).await;
    let answer = api.post("/v1/plans", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let plan = answer.json();
    assert_eq!((state(&plan, "check-target").as_str(), blockers(&plan)), ("unknown", vec![]), "{plan}");
    assert!(plan["unread"].as_array().is_some_and(|unread| !unread.is_empty()), "{plan}");
}

#[tokio::test]
async fn without_the_setting_azure_is_not_asked_and_the_plan_says_so() {
    let world = World::instant().await;
    let answer = TestApi::start().await.post("/v1/plans", &world.seed()).await.json();
    assert_eq!(answer["looked"], false);
    assert!(answer["unread"][0].as_str().is_some_and(|why| why.contains("CMK_LOOK_AT_AZURE")), "{answer}");
    assert!(answer["steps"].as_array().is_some_and(|steps| steps.iter().all(|s| s.get("found").is_none())));
}
