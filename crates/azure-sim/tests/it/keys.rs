//! The key data plane: bundles, versions, cryptography, attributes, rotation policy, the firewall.

use serde_json::{Value, json};

use crate::client::Lab;

#[tokio::test]
async fn bundles_versions_and_lists() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    assert!(kid.starts_with(&format!("https://kv1.{}/keys/k1/", lab.sim.vault_suffix())), "{kid}");
    let body = json!({ "kty": "RSA", "key_size": 2048, "tags": { "job": "7" } });
    let second = lab.keys("POST", "kv1", "/keys/k1/create", Some(body)).await.expect(200).body;
    assert_ne!(second["key"]["kid"], kid.as_str(), "the same call again makes a new version");
    let latest = lab.keys("GET", "kv1", "/keys/k1/", None).await.expect(200).body;
    assert_eq!(latest, second);
    assert_eq!(latest["tags"]["job"], "7");
    assert_eq!(latest["key"]["e"], "AQAB");
    assert_eq!(latest["key"]["key_ops"], json!(["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]));
    let old = kid.rsplit('/').next().expect("a version").to_owned();
    let first = lab.keys("GET", "kv1", &format!("/keys/k1/{old}"), None).await.expect(200).body;
    assert_eq!(first["key"]["kid"], kid.as_str());
    let versions = lab.keys("GET", "kv1", "/keys/k1/versions", None).await.expect(200).body;
    assert_eq!(versions["value"].as_array().map(Vec::len), Some(2));
    assert_eq!(versions["nextLink"], Value::Null);
    for n in 0..3 {
        lab.keys("POST", "kv1", &format!("/keys/more{n}/create"), Some(json!({ "kty": "EC" }))).await.expect(200);
    }
    let page = lab.keys("GET", "kv1", "/keys?maxresults=3", None).await.expect(200).body;
    assert_eq!(page["value"].as_array().map(Vec::len), Some(3));
    let next = page["nextLink"].as_str().expect("a link").to_owned();
    let token = lab.vault_token().await;
    let rest = lab.send("GET", &next, &token, None).await.expect(200).body;
    assert_eq!(rest["value"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest["nextLink"], Value::Null);
    lab.keys("GET", "kv1", "/keys/none", None).await.refused(404, "KeyNotFound");
    lab.keys("GET", "kv1", "/certificates/contacts", None).await.refused(404, "ContactsNotFound");
}

#[tokio::test]
async fn wrapped_is_unwrapped_and_only_by_the_same_version() {
    let mut options = crate::client::options();
    options.fast_keys = false;
    let lab = Lab::with(options).await;
    let kid = lab.ground_with_key().await;
    let body = json!({ "alg": "RSA-OAEP-256", "value": "c2VjcmV0LWRhdGEta2V5" });
    let wrapped = lab.keys("POST", "kv1", "/keys/k1/wrapkey", Some(body)).await.expect(200).body;
    assert_eq!(wrapped["kid"], kid.as_str());
    lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.expect(200);
    let body = json!({ "alg": "RSA-OAEP-256", "value": wrapped["value"] });
    lab.keys("POST", "kv1", "/keys/k1/unwrapkey", Some(body.clone())).await.refused(400, "BadParameter");
    let version = kid.rsplit('/').next().expect("a version");
    let plain = lab.keys("POST", "kv1", &format!("/keys/k1/{version}/unwrapkey"), Some(body)).await.expect(200);
    assert_eq!(plain.body["value"], "c2VjcmV0LWRhdGEta2V5");
}

#[tokio::test]
async fn signatures_verify() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let digest = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    let signed = lab.keys("POST", "kv1", "/keys/k1/sign", Some(json!({ "alg": "PS256", "value": digest }))).await;
    let value = signed.expect(200).body["value"].clone();
    let verify = |alg: &str| json!({ "alg": alg, "digest": digest, "value": value });
    let good = lab.keys("POST", "kv1", "/keys/k1/verify", Some(verify("PS256"))).await.expect(200);
    assert_eq!(good.body["value"], true);
    let bad = lab.keys("POST", "kv1", "/keys/k1/verify", Some(verify("RS256"))).await.expect(200);
    assert_eq!(bad.body["value"], false);
    lab.keys("POST", "kv1", "/keys/k1/verify", Some(verify("ES256"))).await.refused(400, "BadParameter");
}

#[tokio::test]
async fn a_disabled_key_does_nothing_and_an_expired_one_only_undoes() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let value = "c2VjcmV0";
    let body = json!({ "alg": "RSA-OAEP-256", "value": value });
    let wrapped = lab.keys("POST", "kv1", "/keys/k1/wrapkey", Some(body.clone())).await.expect(200).body;
    let unwrap = json!({ "alg": "RSA-OAEP-256", "value": wrapped["value"] });
    let now = lab.sim.clock().now().unix_timestamp();
    let expires = json!({ "attributes": { "exp": now + 10 } });
    lab.keys("PATCH", "kv1", "/keys/k1", Some(expires)).await.expect(200);
    lab.advance(11);
    lab.keys("POST", "kv1", "/keys/k1/wrapkey", Some(body.clone())).await.refused(403, "Forbidden/KeyExpired");
    lab.keys("POST", "kv1", "/keys/k1/unwrapkey", Some(unwrap.clone())).await.expect(200);
    let off = json!({ "attributes": { "enabled": false } });
    lab.keys("PATCH", "kv1", "/keys/k1", Some(off)).await.expect(200);
    lab.keys("POST", "kv1", "/keys/k1/unwrapkey", Some(unwrap)).await.refused(403, "Forbidden/KeyDisabled");
    let shown = lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200).body;
    assert_eq!(shown["attributes"]["enabled"], false);
    let ops = json!({ "key_ops": ["encrypt"], "attributes": { "enabled": true, "exp": now + 1000 } });
    lab.keys("PATCH", "kv1", "/keys/k1", Some(ops)).await.expect(200);
    lab.keys("POST", "kv1", "/keys/k1/wrapkey", Some(body)).await.refused(403, "Forbidden/KeyOperationForbidden");
}

#[tokio::test]
async fn wrong_key_requests_are_bad_parameters() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    for (path, body) in [
        ("/keys/k1/create", json!({})),
        ("/keys/k1/create", json!({ "kty": "RSA", "key_size": 1024 })),
        ("/keys/k1/create", json!({ "kty": "oct" })),
        ("/keys/k1/create", json!({ "kty": "RSA-HSM" })),
        ("/keys/k1/create", json!({ "kty": "EC", "crv": "P-1" })),
        ("/keys/k1/create", json!({ "kty": "RSA", "key_ops": ["fly"] })),
        ("/keys/k1/create", json!({ "kty": "RSA", "colour": "red" })),
        ("/keys/k1/create", json!({ "kty": "RSA", "attributes": { "nbf": 9, "exp": 5 } })),
        ("/keys/k1/create", json!([])),
        ("/keys/k_1/create", json!({ "kty": "RSA" })),
        ("/keys/k1/wrapkey", json!({ "value": "YQ" })),
        ("/keys/k1/wrapkey", json!({ "alg": "RSA-OAEP", "value": "***" })),
        ("/keys/k1/wrapkey", json!({ "alg": "A256KW", "value": "YQ" })),
    ] {
        let answer = lab.keys("POST", "kv1", path, Some(body.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "BadParameter"), "{path} {body}");
    }
    let token = lab.vault_token().await;
    let url = format!("https://kv1.{}/keys", lab.sim.vault_suffix());
    lab.send("GET", &url, &token, None).await.refused(400, "BadParameter");
    lab.send("GET", &format!("{url}?api-version=1"), &token, None).await.refused(400, "BadParameter");
    lab.send("GET", &format!("{url}?api-version=7.4&maxresults=26"), &token, None).await.refused(400, "BadParameter");
    lab.keys("POST", "kv1", "/keys/k1/release", Some(json!({}))).await.refused(501, "NotPlayedBySimulator");
}

#[tokio::test]
async fn rotation_policies_are_checked_kept_and_give_new_versions_their_expiry() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let path = "/keys/k1/rotationpolicy";
    let default = lab.keys("GET", "kv1", path, None).await.expect(200).body;
    assert_eq!(default["lifetimeActions"][0]["action"]["type"], "Notify");
    let rotate = |trigger: Value, expiry: Value| json!({ "lifetimeActions": [{ "trigger": trigger, "action": { "type": "rotate" } }], "attributes": { "expiryTime": expiry } });
    for wrong in [
        rotate(json!({ "timeAfterCreate": "P6D" }), json!(null)),
        rotate(json!({ "timeAfterCreate": "P30D" }), json!("P20D")),
        rotate(json!({ "timeAfterCreate": "P85D" }), json!("P90D")),
        rotate(json!({ "timeBeforeExpiry": "P30D" }), json!(null)),
        rotate(json!({}), json!("P90D")),
        rotate(json!({ "timeAfterCreate": "soon" }), json!("P90D")),
    ] {
        lab.keys("PUT", "kv1", path, Some(wrong)).await.refused(400, "BadParameter");
    }
    let good = rotate(json!({ "timeAfterCreate": "P30D" }), json!("P90D"));
    let set = lab.keys("PUT", "kv1", path, Some(good)).await.expect(200).body;
    assert_eq!(set["lifetimeActions"][0]["action"]["type"], "Rotate");
    let now = lab.sim.clock().now().unix_timestamp();
    let rotated = lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.expect(200).body;
    assert_eq!(rotated["attributes"]["exp"], now + 90 * 86_400);
}

#[tokio::test]
async fn the_firewall_comes_after_the_token_and_before_the_role() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let mut body = lab.vault_body();
    body["properties"]["networkAcls"]["ipRules"] = json!([{ "value": "198.51.100.7" }]);
    let changed = lab.arm("PUT", &lab.vault_id("kv1"), Some(body)).await.expect(200).body;
    assert_eq!(changed["properties"]["networkAcls"]["ipRules"][0]["value"], "198.51.100.7/32");
    let refused = lab.keys("GET", "kv1", "/keys/k1", None).await.refused(403, "Forbidden/ForbiddenByFirewall");
    assert!(refused.message().contains("Client address: 203.0.113.10"), "{}", refused.message());
    lab.keys_as("", "GET", "kv1", "/keys/k1", None).await.refused(401, "Unauthorized");
    let off = json!({ "properties": { "publicNetworkAccess": "Disabled" } });
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(off)).await.expect(200);
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(403, "Forbidden/ForbiddenByConnection");
    let on = json!({ "properties": { "publicNetworkAccess": "Enabled", "networkAcls": { "defaultAction": "Allow" } } });
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(on)).await.expect(200);
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
}

#[tokio::test]
async fn an_identity_does_what_its_role_holds_and_no_more() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let token = lab.sim.token_for(&lab.principal().await, "https://vault.azure.net").expect("a known principal");
    lab.keys_as(&token, "GET", "kv1", "/keys/k1", None).await.expect(200);
    let body = json!({ "alg": "RSA-OAEP", "value": "YQ" });
    lab.keys_as(&token, "POST", "kv1", "/keys/k1/wrapkey", Some(body.clone())).await.expect(200);
    lab.keys_as(&token, "POST", "kv1", "/keys/k1/encrypt", Some(body)).await.refused(403, "Forbidden/ForbiddenByRbac");
    let create = json!({ "kty": "RSA" });
    lab.keys_as(&token, "POST", "kv1", "/keys/k2/create", Some(create)).await.refused(403, "Forbidden/ForbiddenByRbac");
}

#[tokio::test]
async fn a_vault_in_policy_mode_asks_its_policies_and_no_role() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let policies = |keys: Value| {
        json!({ "properties": { "enableRbacAuthorization": false, "accessPolicies": [{
            "tenantId": lab.sim.tenant_id(), "objectId": lab.sim.object_id(), "permissions": { "keys": keys } }] } })
    };
    let vault = lab.vault_id("kv1");
    lab.arm("PATCH", &vault, Some(policies(json!(["Get"])))).await.expect(200);
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
    let body = json!({ "alg": "RSA-OAEP", "value": "YQ" });
    lab.keys("POST", "kv1", "/keys/k1/wrapkey", Some(body.clone())).await.refused(403, "Forbidden/AccessDenied");
    lab.arm("PATCH", &vault, Some(policies(json!(["all"])))).await.expect(200);
    lab.keys("POST", "kv1", "/keys/k1/wrapkey", Some(body)).await.expect(200);
}
