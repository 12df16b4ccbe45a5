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

/// The id of a key's version, of the answer that made it.
fn version_of(made: &Value) -> String {
    let kid = made["key"]["kid"].as_str().expect("a key has an id");
    kid.rsplit('/').next().expect("a version").to_owned()
}

#[tokio::test]
async fn an_exact_version_is_used_although_a_newer_one_exists_and_nothing_is_created() {
    let scene = Scene::existing().await;
    let key = json!({ "kty": "RSA", "key_size": 4096 });
    let older = version_of(&scene.make_key(key.clone()).await);
    let newer = version_of(&scene.keys("POST", "/keys/sa-cmk-key/create", key).await);
    assert_ne!(older, newer);
    let mut body = scene.request();
    body["key"]["versionId"] = json!(older.to_uppercase());
    let evidence = scene.succeeds(&body).await.facts.evidence.expect("evidence");
    assert!(!evidence.follows_rotation && evidence.key_id.ends_with(&older), "{evidence:?}");
    let account = scene.arm("GET", &scene.account(), "2026-04-01", Value::Null).await;
    assert_eq!(account["properties"]["encryption"]["keyvaultproperties"]["keyversion"], json!(older));
    let before = scene.world.changes().len();
    scene.succeeds(&body).await;
    assert_eq!((scene.world.changes().len(), scene.key_versions()), (before, 2));
    // A pin to what is the latest now is a change in place.
    body["key"] = json!({ "name": "sa-cmk-key", "version": "pinned" });
    let evidence = scene.succeeds(&body).await.facts.evidence.expect("evidence");
    assert!(evidence.key_id.ends_with(&newer), "{evidence:?}");
}

#[tokio::test]
async fn an_exact_version_that_does_not_exist_or_does_not_fit_is_a_failure_and_makes_no_key() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    body["key"]["versionId"] = json!("0123456789abcdef0123456789abcdef");
    let failure = scene.fails(&body, Code::KeyVersionNotFound).await.failure.expect("it failed");
    assert!(failure.message.contains("0123456789abcdef0123456789abcdef"), "{failure:?}");
    assert_eq!(scene.key_versions(), 0);
    let now = scene.world.clock.now().unix_timestamp();
    for (key, code) in [
        (json!({ "kty": "RSA", "key_size": 2048 }), Code::KeyMismatch),
        (json!({ "kty": "RSA", "key_size": 4096, "key_ops": ["sign"] }), Code::KeyMismatch),
        (json!({ "kty": "RSA", "key_size": 4096, "attributes": { "enabled": false } }), Code::KeyDisabled),
        (json!({ "kty": "RSA", "key_size": 4096, "attributes": { "nbf": now + 3600 } }), Code::KeyDisabled),
    ] {
        let made = scene.keys("POST", "/keys/sa-cmk-key/create", key).await;
        body["key"]["versionId"] = json!(version_of(&made));
        scene.fails(&body, code).await;
    }
    // Another version being unusable is no matter.
    let made = scene.keys("POST", "/keys/sa-cmk-key/create", json!({ "kty": "RSA", "key_size": 4096 })).await;
    body["key"]["versionId"] = json!(version_of(&made));
    scene.keys("POST", "/keys/sa-cmk-key/create", json!({ "kty": "RSA", "attributes": { "enabled": false } })).await;
    scene.succeeds(&body).await;
    assert_eq!(scene.key_versions(), 6);
}

#[tokio::test]
async fn a_key_that_is_to_expire_is_made_with_a_date_and_a_policy_and_asking_again_changes_nothing() {
    let scene = Scene::existing().await;
    let mut body = scene.request();
    body["key"]["expiresAfter"] = json!("P1Y");
    body["key"]["rotation"] = json!({ "every": "P11M", "notifyBeforeExpiry": "P30D" });
    let made_at = scene.world.clock.now();
    scene.succeeds(&body).await;
    let key = scene.keys("GET", "/keys/sa-cmk-key", Value::Null).await;
    let expires = key["attributes"]["exp"].as_i64().expect("it expires");
    let year = time::Duration::seconds(expires - made_at.unix_timestamp());
    assert!((364..=366).contains(&year.whole_days()), "{year}");
    let policy = scene.keys("GET", "/keys/sa-cmk-key/rotationpolicy", Value::Null).await;
    assert_eq!(policy["attributes"]["expiryTime"], "P1Y");
    let triggers: Vec<_> =
        policy["lifetimeActions"].as_array().expect("a list").iter().map(|a| &a["trigger"]).collect();
    assert_eq!(triggers, [&json!({ "timeAfterCreate": "P11M" }), &json!({ "timeBeforeExpiry": "P30D" })]);
    scene.world.advance(std::time::Duration::from_secs(30 * 86_400));
    let before = scene.world.changes().len();
    scene.succeeds(&body).await;
    assert_eq!(scene.world.changes().len(), before);
}

#[tokio::test]
async fn a_key_that_never_expires_is_not_taken_for_one_that_is_to_expire() {
    let scene = Scene::existing().await;
    scene.make_key(json!({ "kty": "RSA", "key_size": 4096 })).await;
    let mut body = scene.request();
    body["key"]["expiresAfter"] = json!("P1Y");
    let failure = scene.fails(&body, Code::KeyMismatch).await.failure.expect("it failed");
    assert!(failure.message.contains("never expires"), "{failure:?}");
    assert_eq!(scene.key_versions(), 1);
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
