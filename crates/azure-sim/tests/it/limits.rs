//! Key Vault's limits per 10 seconds, by the simulator's clock.

use azure_sim::{KeyVaultLimits, Options, Throttling};
use serde_json::{Value, json};

use crate::client::{Answer, Lab, options};

async fn lab(key_vault: KeyVaultLimits) -> Lab {
    Lab::with(Options { throttling: Throttling { key_vault, ..Throttling::default() }, ..options() }).await
}

async fn create(lab: &Lab, vault: &str, body: Value) -> Answer {
    lab.keys("POST", vault, "/keys/k2/create", Some(body)).await
}

#[tokio::test]
async fn creations_have_the_published_limit_and_its_words() {
    let lab = lab(KeyVaultLimits::default()).await;
    lab.ground_with_key().await;
    lab.advance(10);
    for _ in 0..20 {
        create(&lab, "kv1", json!({ "kty": "EC" })).await.expect(200);
    }
    let refused = create(&lab, "kv1", json!({ "kty": "EC" })).await.refused(429, "Throttled");
    assert_eq!(
        refused.message(),
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"
    );
    assert_eq!(refused.headers["retry-after"], "1");
    // Rotations and imports are creations; those of HSM keys are counted by themselves, and so is all else.
    lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.refused(429, "Throttled");
    lab.keys("PUT", "kv1", "/keys/k3", Some(json!({ "key": {} }))).await.refused(429, "Throttled");
    create(&lab, "kv1", json!({ "kty": "EC-HSM" })).await.refused(400, "BadParameter");
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
    // A caller who is not known is not counted, and a refused request takes nothing.
    lab.keys_as("", "POST", "kv1", "/keys/k2/create", None).await.refused(401, "Unauthorized");
    lab.advance(1);
    for _ in 0..2 {
        create(&lab, "kv1", json!({ "kty": "EC" })).await.expect(200);
    }
    create(&lab, "kv1", json!({ "kty": "EC" })).await.refused(429, "Throttled");
    let seen = lab.sim.journal().count(&azure_sim::Filter { code: Some("Throttled".into()), ..Default::default() });
    assert_eq!(seen, 4);
}

#[tokio::test]
async fn large_keys_weigh_more() {
    let lab = lab(KeyVaultLimits { others: 18, ..KeyVaultLimits::default() }).await;
    lab.ground_with_key().await;
    let body = json!({ "kty": "RSA", "key_size": 4096 });
    lab.keys("POST", "kv1", "/keys/large/create", Some(body)).await.expect(200);
    let wrap = || Some(json!({ "alg": "RSA-OAEP", "value": "YQ" }));
    for _ in 0..2 {
        lab.keys("POST", "kv1", "/keys/large/wrapkey", wrap()).await.expect(200);
    }
    lab.keys("POST", "kv1", "/keys/large/wrapkey", wrap()).await.refused(429, "Throttled");
    for _ in 0..2 {
        lab.keys("POST", "kv1", "/keys/k1/wrapkey", wrap()).await.expect(200);
    }
    lab.keys("GET", "kv1", "/keys", None).await.refused(429, "Throttled");
}

#[tokio::test]
async fn all_vaults_together_have_a_limit_and_hsms_have_none_of_these() {
    let lab = lab(KeyVaultLimits { creates: 2, subscription_factor: 1, ..KeyVaultLimits::default() }).await;
    lab.ground_with_key().await;
    lab.arm("PUT", &lab.vault_id("kv2"), Some(lab.vault_body())).await.expect(201);
    create(&lab, "kv2", json!({ "kty": "EC" })).await.refused(403, "Forbidden/ForbiddenByRbac");
    let refused = create(&lab, "kv2", json!({ "kty": "EC" })).await.refused(429, "Throttled");
    assert!(refused.message().contains("Subscription"), "{}", refused.message());
    lab.working(lab.hsm_body()).await;
    for n in 0..5 {
        lab.hsm("POST", &format!("/keys/h{n}/create"), Some(json!({ "kty": "EC-HSM" }))).await.expect(200);
    }
}

#[tokio::test]
async fn limits_are_set_and_switched_off_by_the_control_api() {
    let lab = lab(KeyVaultLimits { creates: 1, ..KeyVaultLimits::default() }).await;
    lab.ground_with_key().await;
    create(&lab, "kv1", json!({ "kty": "EC" })).await.refused(429, "Throttled");
    let url = format!("{}/_sim/throttling", lab.sim.arm_url());
    let shown = lab.send("GET", &url, "", None).await.expect(200).body;
    assert_eq!(
        shown["keyVault"],
        json!({ "creates": 1, "hsmCreates": 10, "others": 4000, "hsmOthers": 2000, "subscriptionFactor": 5 })
    );
    lab.send("PUT", &url, "", Some(&json!({ "keyVault": { "creates": 3 } }))).await.expect(200);
    for status in [200, 200, 200, 429] {
        create(&lab, "kv1", json!({ "kty": "EC" })).await.expect(status);
    }
    lab.send("PUT", &url, "", Some(&json!({ "enabled": false }))).await.expect(200);
    for _ in 0..30 {
        create(&lab, "kv1", json!({ "kty": "EC" })).await.expect(200);
    }
    lab.send("PUT", &url, "", Some(&json!({ "keyVault": { "creates": -1 } }))).await.refused(400, "BadControlRequest");
}
