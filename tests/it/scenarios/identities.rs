//! Cause 5: identities, tenants and places.

use azure_sim::{Filter, Options, Propagation};
use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::{Scene, VAULT};
use crate::support::world::World;

/// Two more subscriptions of the tenant, and one of another.
const KEYS: &str = "22222222-2222-4222-8222-222222222223";
const IDENTITIES: &str = "22222222-2222-4222-8222-222222222224";
const FOREIGN: &str = "99999999-9999-4999-8999-999999999999";

async fn several_subscriptions() -> Scene {
    let options = Options {
        propagation: Propagation::instant(),
        more_subscriptions: vec![KEYS.into(), IDENTITIES.into()],
        foreign_subscriptions: vec![FOREIGN.into()],
        ..Options::default()
    };
    Scene { world: World::start_with(options).await }
}

/// The same id in another subscription.
fn moved(scene: &Scene, id: &Value, subscription: &str) -> Value {
    json!(id.as_str().expect("an id").replace(scene.world.sim.subscription_id(), subscription))
}

/// A request for an account whose vault and identity lie in subscriptions of their own.
fn spread(scene: &Scene, mut body: Value) -> Value {
    let identity = json!(scene.world.id("rg-identities", "Microsoft.ManagedIdentity/userAssignedIdentities", "id-1"));
    body["keyStore"]["resourceId"] = moved(scene, &body["keyStore"]["resourceId"], KEYS);
    body["identity"] = json!({ "resourceId": moved(scene, &identity, IDENTITIES), "create": {} });
    body["createResourceGroups"] = json!(true);
    body
}

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
async fn target_key_store_and_identity_may_lie_in_three_subscriptions() {
    for existing in [false, true] {
        let scene = several_subscriptions().await;
        let mut body = spread(&scene, scene.world.seed());
        if existing {
            scene.make_account().await;
            body["target"] = scene.world.seed_for_existing()["target"].clone();
        }
        let evidence = scene.succeeds(&body).await.facts.evidence.expect("evidence");
        assert!(evidence.identity.contains(IDENTITIES), "{evidence:?}");
        for (subscription, kind) in [
            (KEYS, "vaults/*/roleAssignments"),
            (KEYS, "vaults"),
            (IDENTITIES, "userAssignedIdentities"),
            (scene.world.sim.subscription_id(), "storageAccounts"),
        ] {
            let path = format!("/subscriptions/{subscription}/*/{kind}/*");
            let filter = Filter { changed: Some(true), path: Some(path), ..Filter::default() };
            assert!(scene.world.sim.journal().count(&filter) > 0, "{subscription} {kind}");
        }
        // What exists is found where it is.
        let before = scene.world.changes().len();
        body["keyStore"].as_object_mut().expect("an object").remove("create");
        body["identity"].as_object_mut().expect("an object").remove("create");
        scene.succeeds(&body).await;
        assert_eq!(scene.world.changes().len(), before);
    }
}

#[tokio::test]
async fn a_deleted_vault_is_looked_for_and_brought_back_in_its_own_subscription() {
    let scene = several_subscriptions().await;
    let mut body = spread(&scene, scene.world.seed());
    scene.succeeds(&body).await;
    let vault = body["keyStore"]["resourceId"].as_str().expect("an id").to_owned();
    scene
        .arm(
            "DELETE",
            &scene.world.id("rg-cmk-demo", "Microsoft.Storage/storageAccounts", "stcmkdemo1"),
            "2026-04-01",
            Value::Null,
        )
        .await;
    scene.arm("DELETE", &vault, "2026-02-01", Value::Null).await;
    scene.fails(&body, Code::KeyStoreSoftDeleted).await;
    body["keyStore"]["onDeletedName"] = json!("recover");
    scene.succeeds(&body).await;
    assert_eq!(scene.key_versions(), 1);
}

#[tokio::test]
async fn what_lies_in_another_tenants_subscription_is_refused_with_a_code_of_its_own() {
    let scene = several_subscriptions().await;
    scene.make_account().await;
    scene.make_vault(json!({ "enablePurgeProtection": true })).await;
    for place in ["/keyStore/resourceId", "/target/resourceId", "/identity/resourceId"] {
        let mut body = scene.request();
        let id = body.pointer_mut(place).expect("the request names it");
        *id = moved(&scene, id, FOREIGN);
        let failure = scene.refuses(&body, Code::OtherTenant).await.failure.expect("it failed");
        assert!(failure.azure.is_some_and(|azure| azure.status == Some(401)), "Azure's words are kept");
    }
}

#[tokio::test]
async fn a_vault_that_trusts_another_tenant_is_refused_before_anything_is_written() {
    let scene = several_subscriptions().await;
    scene.make_account().await;
    scene.make_vault(json!({ "enablePurgeProtection": true })).await;
    assert!(scene.world.sim.set_vault_tenant(VAULT, FOREIGN));
    let failure = scene.refuses(&scene.request(), Code::OtherTenant).await.failure.expect("it failed");
    assert!(failure.message.contains(FOREIGN) && failure.message.contains(VAULT), "{failure:?}");
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
