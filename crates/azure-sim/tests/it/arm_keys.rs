//! Keys as ARM resources: made once, read, listed, never changed; in vaults and in managed HSMs.

use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, Lab};

const OUTSIDER: &str = "66666666-6666-4666-8666-666666666666";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

fn rsa(size: u32) -> Value {
    json!({ "properties": { "kty": "RSA", "keySize": size } })
}

#[tokio::test]
async fn a_key_is_made_once_through_arm_and_is_the_data_planes_key() {
    let lab = Lab::start().await;
    lab.ground().await;
    let keys = format!("{}/keys", lab.vault_id("kv1"));
    let body = json!({ "tags": { "a": "b" }, "properties": {
        "kty": "RSA", "keySize": 3072, "keyOps": ["wrapKey", "unwrapKey"],
        "attributes": { "enabled": true, "exp": 4_000_000_000_i64 },
        "rotationPolicy": {
            "attributes": { "expiryTime": "P90D" },
            "lifetimeActions": [{ "trigger": { "timeBeforeExpiry": "P30D" }, "action": { "type": "Rotate" } }],
        },
    } });
    let key = format!("{keys}/Main");
    // Neither a data-plane role nor the vault's firewall stands in ARM's way.
    let access = |word: &str| Some(json!({ "properties": { "publicNetworkAccess": word } }));
    lab.arm("PATCH", &lab.vault_id("kv1"), access("Disabled")).await.expect(200);
    lab.keys("GET", "kv1", "/keys/main", None).await.refused(403, "Forbidden/ForbiddenByConnection");
    let made = lab.arm("PUT", &key, Some(body)).await.expect(200).body;
    let p = &made["properties"];
    let uri = format!("https://kv1.{}/keys/Main", lab.sim.vault_suffix());
    assert_eq!((&made["id"], &made["name"]), (&json!(key), &json!("Main")));
    assert_eq!(made["type"], "Microsoft.KeyVault/vaults/keys");
    assert_eq!((&made["location"], &made["tags"]), (&json!("uksouth"), &json!({ "a": "b" })));
    assert_eq!(
        (&p["kty"], &p["keySize"], &p["keyOps"]),
        (&json!("RSA"), &json!(3072), &json!(["wrapKey", "unwrapKey"]))
    );
    assert_eq!(p["attributes"]["exp"], 4_000_000_000_i64);
    assert_eq!(p["attributes"]["recoveryLevel"], "Recoverable");
    assert_eq!(p["keyUri"], uri);
    let version = p["keyUriWithVersion"]
        .as_str()
        .expect("a URI")
        .strip_prefix(&format!("{uri}/"))
        .expect("of the key")
        .to_owned();
    assert_eq!(p["rotationPolicy"]["attributes"]["expiryTime"], "P90D");
    assert_eq!(p["rotationPolicy"]["lifetimeActions"][0]["action"]["type"], "rotate");

    // A second PUT changes nothing, whatever it says, and writes no version.
    let again = lab.arm("PUT", &key.replace("Main", "MAIN"), Some(rsa(2048))).await.expect(200).body;
    assert_eq!(again, made);
    lab.grant(1, ADMINISTRATOR, lab.sim.object_id()).await.expect(201);
    lab.arm("PATCH", &lab.vault_id("kv1"), access("Enabled")).await.expect(200);
    let same = lab.keys("GET", "kv1", "/keys/main", None).await.expect(200).body;
    assert_eq!(same["key"]["kid"], p["keyUriWithVersion"]);
    let policy = lab.keys("GET", "kv1", "/keys/main/rotationpolicy", None).await.expect(200).body;
    assert_eq!(policy["lifetimeActions"][0]["action"]["type"], "Rotate");

    // A rotation on the data plane shows on ARM.
    lab.keys("POST", "kv1", "/keys/main/rotate", None).await.expect(200);
    let newer = lab.arm("GET", &key, None).await.expect(200).body;
    assert_ne!(newer["properties"]["keyUriWithVersion"], p["keyUriWithVersion"]);
    let list = lab.arm("GET", &format!("{key}/versions"), None).await.expect(200).body;
    assert_eq!(list["value"].as_array().map(Vec::len), Some(2));
    assert!(list["value"][0]["properties"]["kty"].is_null(), "lists are short");
    let old = lab.arm("GET", &format!("{key}/versions/{version}"), None).await.expect(200).body;
    assert_eq!(old["type"], "Microsoft.KeyVault/vaults/keys/versions");
    assert_eq!(old["properties"]["keyUriWithVersion"], p["keyUriWithVersion"]);
    lab.arm("HEAD", &key, None).await.expect(204);
    lab.arm("HEAD", &format!("{keys}/none"), None).await.expect(404);
}

#[tokio::test]
async fn keys_on_arm_are_listed_in_pages_and_refused_in_the_vaults_words() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let keys = format!("{}/keys", lab.vault_id("kv1"));
    let ec = json!({ "properties": { "kty": "EC", "curveName": "P-384" } });
    let made = lab.arm("PUT", &format!("{keys}/k2"), Some(ec)).await.expect(200).body;
    assert_eq!((&made["properties"]["curveName"], &made["properties"]["keySize"]), (&json!("P-384"), &Value::Null));
    let page = lab.arm("GET", &format!("{keys}?api-version=2026-02-01&$top=1"), None).await.expect(200).body;
    assert_eq!(page["value"][0]["name"], "k1");
    assert!(page["value"][0]["properties"]["keyUriWithVersion"].is_null());
    let next = lab.send("GET", page["nextLink"].as_str().expect("a link"), &lab.arm_token, None).await.expect(200).body;
    assert_eq!((&next["value"][0]["name"], &next["nextLink"]), (&json!("k2"), &Value::Null));

    let put = async |name: &str, body: Value| lab.arm("PUT", &format!("{keys}/{name}"), Some(body)).await;
    put("k3", rsa(1024)).await.refused(400, "BadParameter");
    put("k_3", rsa(2048)).await.refused(400, "BadParameter");
    put("k3", json!({ "properties": {} })).await.refused(400, "BadParameter");
    put("k3", json!({ "properties": { "kty": "RSA-HSM" } })).await.refused(400, "BadParameter");
    put("k3", json!({})).await.refused(400, "InvalidRequestContent");
    put("k3", json!({ "properties": { "kty": "RSA", "size": 2048 } })).await.refused(400, "InvalidRequestContent");
    let exportable = json!({ "properties": { "kty": "RSA", "attributes": { "exportable": true } } });
    put("k3", exportable).await.refused(501, "NotPlayedBySimulator");
    for method in ["PATCH", "DELETE"] {
        lab.arm(method, &format!("{keys}/k1"), Some(rsa(2048))).await.refused(405, "MethodNotAllowed");
    }
    lab.arm("GET", &format!("{keys}/k3"), None).await.refused(404, "KeyNotFound");
    lab.arm("GET", &format!("{keys}/k1/versions/{}", "0".repeat(32)), None).await.refused(404, "KeyNotFound");
    lab.arm("GET", &format!("{}/keys", lab.vault_id("nope")), None).await.refused(404, "ResourceNotFound");
    lab.keys("DELETE", "kv1", "/keys/k1", None).await.expect(200);
    put("k1", rsa(2048)).await.refused(409, "ObjectIsDeletedButRecoverable");

    // ARM's rights decide: to read is not to make, and a stranger is told nothing.
    let (id, secret) = lab.sim.outsider();
    let token = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&token, "GET", &keys, None).await.refused(403, "AuthorizationFailed");
    lab.grant(5, READER, OUTSIDER).await.expect(201);
    lab.arm_as(&token, "GET", &keys, None).await.expect(200);
    let path = format!("{keys}/k4");
    lab.arm_as(&token, "PUT", &path, Some(rsa(2048))).await.refused(403, "AuthorizationFailed");
}

#[tokio::test]
async fn one_of_many_puts_at_once_makes_the_key() {
    let lab = Lab::start().await;
    lab.ground().await;
    let key = format!("{}/keys/k1", lab.vault_id("kv1"));
    let (a, b, c) = tokio::join!(
        lab.arm("PUT", &key, Some(rsa(2048))),
        lab.arm("PUT", &key, Some(rsa(2048))),
        lab.arm("PUT", &key, Some(rsa(2048))),
    );
    let uri = |a: crate::client::Answer| a.expect(200).body["properties"]["keyUriWithVersion"].clone();
    let (a, b, c) = (uri(a), uri(b), uri(c));
    assert!(a == b && b == c && a.is_string());
    let list = lab.arm("GET", &format!("{key}/versions"), None).await.expect(200).body;
    assert_eq!(list["value"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_hsm_has_keys_on_arm_once_it_is_activated() {
    let lab = Lab::start().await;
    lab.provisioned(lab.hsm_body()).await;
    let keys = format!("{}/keys", lab.hsm_id("hsm1"));
    let body = json!({ "properties": { "kty": "RSA-HSM", "keySize": 4096 } });
    lab.arm("PUT", &format!("{keys}/k1"), Some(body.clone())).await.refused(400, "HsmNotActivated");
    assert!(lab.sim.activate_hsm("hsm1"));
    let made = lab.arm("PUT", &format!("{keys}/k1"), Some(body)).await.expect(200).body;
    assert_eq!(made["type"], "Microsoft.KeyVault/managedHSMs/keys");
    assert!(made["location"].is_null());
    assert_eq!((&made["properties"]["kty"], &made["properties"]["keySize"]), (&json!("RSA-HSM"), &json!(4096)));
    lab.arm("PUT", &format!("{keys}/k2"), Some(rsa(2048))).await.refused(400, "BadParameter");
    let oct = json!({ "properties": { "kty": "oct-HSM", "keySize": 256 } });
    let made_oct = lab.arm("PUT", &format!("{keys}/k3"), Some(oct)).await.expect(200).body;
    assert_eq!((&made_oct["properties"]["kty"], &made_oct["properties"]["keySize"]), (&json!("oct-HSM"), &json!(256)));
    lab.local_grant(1, "/", crate::hsm::USER, lab.sim.object_id()).await.expect(201);
    let same = lab.hsm("GET", "/keys/k1", None).await.expect(200).body;
    assert_eq!(same["key"]["kid"], made["properties"]["keyUriWithVersion"]);
    let list = lab.arm("GET", &keys, None).await.expect(200).body;
    assert_eq!(list["value"].as_array().map(Vec::len), Some(2));
    let list = lab.arm("GET", &format!("{keys}/k1/versions"), None).await.expect(200).body;
    assert_eq!(list["value"][0]["type"], "Microsoft.KeyVault/managedHSMs/keys/versions");
}
