//! Cause 3: versions and the life of keys, as far as provisioning goes.

use cmk::domain::codes::Code;
use serde_json::{Value, json};

use super::Scene;

#[tokio::test]
async fn a_binding_follows_rotation_unless_the_caller_pins_it() {
    let scene = Scene::existing().await;
    let evidence = scene.succeeds(&scene.request()).await.facts.evidence.expect("evidence");
    assert!(evidence.follows_rotation);
    let account = scene.arm("GET", &scene.account(), "2026-04-01", Value::Null).await;
    let version = &account["properties"]["encryption"]["keyvaultproperties"]["keyversion"];
    assert!(version.is_null() || version == "", "no version is pinned: {version}");
}

#[tokio::test]
async fn a_pinned_binding_that_is_to_follow_is_changed_in_place() {
    let scene = Scene::existing().await;
    let mut pinned = scene.request();
    pinned["key"]["version"] = json!("pinned");
    let evidence = scene.succeeds(&pinned).await.facts.evidence.expect("evidence");
    assert!(!evidence.follows_rotation);
    let evidence = scene.succeeds(&scene.request()).await.facts.evidence.expect("evidence");
    assert!(evidence.follows_rotation);
    assert_eq!(scene.key_versions(), 1);
}

#[tokio::test]
async fn a_service_that_wants_a_version_and_one_that_forbids_it_each_say_so() {
    use cmk::domain::request::KeyVersion;
    let takes = |slug: &str| cmk::services::find(slug).expect("it is in the catalogue").key_versions.clone();
    assert_eq!(takes("cosmosdb-account"), [KeyVersion::Latest]);
    assert_eq!(takes("managed-redis"), [KeyVersion::Pinned]);
}

#[tokio::test]
async fn a_disabled_key_is_refused_and_left_disabled() {
    let scene = Scene::existing().await;
    scene.make_key(json!({ "kty": "RSA", "key_size": 4096, "attributes": { "enabled": false } })).await;
    scene.fails(&scene.request(), Code::KeyDisabled).await;
    assert_eq!(scene.key_versions(), 1);
}

#[tokio::test]
async fn an_expired_key_is_refused_before_a_target_is_put_under_it() {
    let scene = Scene::existing().await;
    let soon = scene.world.clock.now().unix_timestamp() + 600;
    scene.make_key(json!({ "kty": "RSA", "key_size": 4096, "attributes": { "exp": soon } })).await;
    scene.world.advance(std::time::Duration::from_secs(3600));
    let job = scene.fails(&scene.request(), Code::KeyDisabled).await;
    assert!(job.failure.is_some_and(|f| f.message.contains("expired")));
}

#[tokio::test]
async fn a_rotation_policy_is_a_duration_and_asking_again_changes_nothing() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    body["key"]["rotation"] = json!({ "every": "P1Y" });
    scene.succeeds(&body).await;
    scene.world.advance(std::time::Duration::from_secs(30 * 86_400));
    let before = scene.world.changes().len();
    scene.succeeds(&body).await;
    assert_eq!(scene.world.changes().len(), before);
}
