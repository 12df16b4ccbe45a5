//! Cause 6: soft delete and names that are taken.

use azure_sim::{Rule, faults};
use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::Scene;

/// A whole job's work, and then somebody deletes the account and the vault.
async fn deleted() -> Scene {
    let scene = Scene::instant().await;
    scene.succeeds(&scene.world.seed()).await;
    let account = scene.world.id("rg-cmk-demo", "Microsoft.Storage/storageAccounts", "stcmkdemo1");
    scene.arm("DELETE", &account, "2026-04-01", Value::Null).await;
    scene.arm("DELETE", &scene.vault(), "2026-02-01", Value::Null).await;
    scene
}

#[tokio::test]
async fn a_deleted_vault_that_holds_the_name_is_told_and_not_purged() {
    let scene = deleted().await;
    scene.refuses(&scene.world.seed(), Code::KeyStoreSoftDeleted).await;
}

#[tokio::test]
async fn a_vault_that_is_brought_back_gets_its_grants_again() {
    let scene = deleted().await;
    let mut body = scene.world.seed();
    body["keyStore"]["onDeletedName"] = json!("recover");
    scene.succeeds(&body).await;
    assert_eq!(scene.count("PUT", "*/roleAssignments/*"), 4, "two before and two after");
    assert_eq!(scene.key_versions(), 1, "the key came back with its vault");
}

#[tokio::test]
async fn asking_to_recover_a_vault_that_was_never_deleted_makes_it() {
    let scene = Scene::instant().await;
    let mut body = scene.world.seed();
    body["keyStore"]["onDeletedName"] = json!("recover");
    scene.succeeds(&body).await;
}

#[tokio::test]
async fn a_deleted_key_that_holds_the_name_is_told_and_not_purged() {
    let scene = Scene::existing().await;
    scene.make_key(json!({ "kty": "RSA", "key_size": 4096 })).await;
    scene.keys("DELETE", "/keys/sa-cmk-key", Value::Null).await;
    scene.fails(&scene.request(), Code::KeySoftDeleted).await;
    assert_eq!(scene.key_versions(), 1);
}

#[tokio::test]
async fn a_name_that_somebody_else_has_is_told() {
    let scene = Scene::instant().await;
    let taken = faults::status(409, "VaultAlreadyExists");
    scene.world.sim.faults().add(Rule::always("PUT", "*/vaults/kvcmkdemo1", taken));
    scene.fails(&scene.world.seed(), Code::KeyStoreNameTaken).await;
}
