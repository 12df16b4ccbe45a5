//! Rotation by the simulator's clock, as seen by a client of the vault and by a service that follows.

use azure_sim::{Filter, Options, Propagation};
use serde_json::{Value, json};

use crate::client::{Lab, options};

const DAY: u64 = 86_400;

fn policy(trigger: Value, expiry: Value) -> Value {
    json!({ "lifetimeActions": [
        { "trigger": trigger, "action": { "type": "Rotate" } },
        { "trigger": { "timeBeforeExpiry": "P10D" }, "action": { "type": "Notify" } },
    ], "attributes": { "expiryTime": expiry } })
}

async fn set(lab: &Lab, name: &str, policy: Value) {
    lab.keys("PUT", "kv1", &format!("/keys/{name}/rotationpolicy"), Some(policy)).await.expect(200);
}

/// The latest version's id, creation and expiry.
async fn latest(lab: &Lab, name: &str) -> (String, i64, Option<i64>) {
    let body = lab.keys("GET", "kv1", &format!("/keys/{name}"), None).await.expect(200).body;
    let version = body["key"]["kid"].as_str().and_then(|kid| kid.rsplit('/').next()).expect("a version").to_owned();
    (version, body["attributes"]["created"].as_i64().expect("a time"), body["attributes"]["exp"].as_i64())
}

async fn versions(lab: &Lab, name: &str) -> usize {
    let body = lab.keys("GET", "kv1", &format!("/keys/{name}/versions"), None).await.expect(200).body;
    body["value"].as_array().map_or(0, Vec::len)
}

fn rotations(lab: &Lab, name: &str) -> usize {
    lab.sim.journal().count(&Filter {
        surface: Some("clock".into()),
        changed: Some(true),
        ..Filter::on("POST", &format!("/keys/{name}/rotate"))
    })
}

#[tokio::test]
async fn a_key_rotates_when_its_time_has_come_and_its_new_version_expires_by_the_policy() {
    let lab = Lab::with(Options { token_lifetime: std::time::Duration::from_secs(400 * DAY), ..options() }).await;
    lab.ground_with_key().await;
    set(&lab, "k1", policy(json!({ "timeAfterCreate": "P30D" }), json!("P90D"))).await;
    let (first, created, none) = latest(&lab, "k1").await;
    assert_eq!(none, None, "a policy changes no version that is there");
    lab.advance(30 * DAY - 1);
    assert_eq!(latest(&lab, "k1").await.0, first);
    lab.advance(61);
    let (second, rotated, expiry) = latest(&lab, "k1").await;
    assert_ne!(second, first);
    assert_eq!((rotated, expiry), (created + 30 * 86_400, Some(created + 120 * 86_400)));
    assert_eq!((versions(&lab, "k1").await, rotations(&lab, "k1")), (2, 1));
    let seen = lab.sim.journal().find(&Filter { surface: Some("clock".into()), ..Filter::default() });
    assert_eq!((seen[0].host.as_str(), seen[0].principal.as_ref()), ("kv1.vault.localhost", None));

    // After years without a look only the last of the rotations are made up for.
    lab.advance(3650 * DAY);
    let (_, last, _) = latest(&lab, "k1").await;
    let now = lab.sim.clock().now().unix_timestamp();
    assert!(last <= now && now - last < 30 * 86_400, "{last} {now}");
    assert_eq!((versions(&lab, "k1").await, rotations(&lab, "k1")), (6, 5));
}

#[tokio::test]
async fn rotation_before_expiry_counts_from_the_versions_own_expiry() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let now = lab.sim.clock().now().unix_timestamp();
    for (name, exp) in [("ends", json!(now + 40 * 86_400)), ("endless", Value::Null), ("off", json!(now + 40 * 86_400))]
    {
        let body = json!({ "kty": "EC", "attributes": { "exp": exp, "enabled": name != "off" }, "tags": { "a": "b" } });
        lab.keys("POST", "kv1", &format!("/keys/{name}/create"), Some(body)).await.expect(200);
        set(&lab, name, policy(json!({ "timeBeforeExpiry": "P30D" }), json!("P90D"))).await;
    }
    lab.advance(9 * DAY);
    assert_eq!(versions(&lab, "ends").await, 1);
    lab.advance(DAY + 1);
    assert_eq!((versions(&lab, "ends").await, latest(&lab, "ends").await.2), (2, Some(now + 100 * 86_400)));
    lab.advance(60 * DAY);
    assert_eq!(versions(&lab, "ends").await, 3);
    let body = lab.keys("GET", "kv1", "/keys/ends", None).await.expect(200).body;
    assert_eq!((&body["tags"]["a"], &body["key"]["crv"]), (&json!("b"), &json!("P-256")));
    assert_eq!((versions(&lab, "endless").await, versions(&lab, "off").await, versions(&lab, "k1").await), (1, 1, 1));
}

#[tokio::test]
async fn keys_of_a_managed_hsm_rotate_and_deleted_ones_wait() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    lab.working(lab.hsm_body()).await;
    lab.hsm("POST", "/keys/h1/create", Some(json!({ "kty": "oct-HSM" }))).await.expect(200);
    let rotate = policy(json!({ "timeAfterCreate": "P28D" }), json!("P90D"));
    lab.hsm("PUT", "/keys/h1/rotationpolicy", Some(rotate.clone())).await.expect(200);
    set(&lab, "k1", rotate).await;
    lab.keys("DELETE", "kv1", "/keys/k1", None).await.expect(200);
    lab.advance(29 * DAY);
    let of_hsm = lab.hsm("GET", "/keys/h1/versions", None).await.expect(200).body;
    assert_eq!(of_hsm["value"].as_array().map(Vec::len), Some(2));
    assert_eq!(rotations(&lab, "k1"), 0);
    lab.keys("POST", "kv1", "/deletedkeys/k1/recover", None).await.expect(200);
    lab.advance(60);
    assert_eq!(versions(&lab, "k1").await, 2);
}

#[tokio::test]
async fn a_service_without_a_version_follows_a_rotation_by_the_clock_a_day_later() {
    let lab = Lab::with(Options { propagation: Propagation::instant(), ..options() }).await;
    let kid = lab.ground_with_key().await;
    let accepted = lab.arm("PUT", &lab.account_id("acct1"), Some(lab.account_body(""))).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let in_use = async || {
        let token = lab.token("https://management.azure.com/.default").await;
        let shown = lab.arm_as(&token, "GET", &lab.account_id("acct1"), None).await.expect(200).body;
        let used = &shown["properties"]["encryption"]["keyvaultproperties"]["currentVersionedKeyIdentifier"];
        used.as_str().expect("a kid").to_owned()
    };
    assert_eq!(in_use().await, kid);
    set(&lab, "k1", policy(json!({ "timeAfterCreate": "P30D" }), json!("P90D"))).await;
    lab.advance(30 * DAY);
    let (second, ..) = latest(&lab, "k1").await;
    assert!(!kid.ends_with(&second));
    lab.advance(DAY + 60);
    assert!(in_use().await.ends_with(&second));
}
