//! The seed pattern by raw HTTP, with the grants arriving by the simulator's clock.

use azure_sim::{Filter, Lag, Propagation};
use serde_json::json;

use crate::client::{ADMINISTRATOR, ENCRYPTION_USER, Lab, options};

#[tokio::test]
async fn the_account_is_refused_until_the_grant_arrives_and_then_uses_the_key() {
    let mut options = options();
    options.propagation = Propagation { grant: Lag::seconds(45.0), ..Propagation::instant() };
    let lab = Lab::with(options).await;
    lab.ground().await;
    lab.grant(1, ADMINISTRATOR, lab.sim.object_id()).await.expect(201);
    let key = json!({ "kty": "RSA", "key_size": 4096, "key_ops": ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"] });
    lab.keys("POST", "kv1", "/keys/k1/create", Some(key.clone())).await.refused(403, "Forbidden/ForbiddenByRbac");
    lab.advance(40);
    // The identity's own grant is younger, so it arrives later.
    lab.grant(2, ENCRYPTION_USER, &lab.principal().await).await.expect(201);
    lab.advance(5);
    let key = lab.keys("POST", "kv1", "/keys/k1/create", Some(key)).await.expect(200);
    assert_eq!(key.body["attributes"]["recoveryLevel"], "Recoverable");
    assert_eq!(key.body["key"]["n"].as_str().map(str::len), Some(683), "4096 bits in base64url");
    let kid = key.body["key"]["kid"].as_str().expect("a kid").to_owned();
    let version = kid.rsplit('/').next().expect("a version").to_owned();

    let account = lab.account_id("stcmk1");
    let early = lab.arm("PUT", &account, Some(lab.account_body(&version))).await;
    early.refused(400, "KeyVaultAuthenticationFailure");
    lab.arm("GET", &account, None).await.refused(404, "ResourceNotFound");
    lab.advance(40);
    let accepted = lab.arm("PUT", &account, Some(lab.account_body(&version))).await.expect(202);
    lab.arm("GET", &account, None).await.refused(404, "ResourceNotFound");
    let done = lab.finish(&accepted).await.expect(200);
    assert_eq!(done.body["properties"]["provisioningState"], "Succeeded");

    let read = lab.arm("GET", &account, None).await.expect(200).body;
    let encryption = &read["properties"]["encryption"];
    assert_eq!(encryption["keySource"], "Microsoft.Keyvault");
    assert_eq!(encryption["keyvaultproperties"]["currentVersionedKeyIdentifier"], kid);
    assert_eq!(encryption["keyvaultproperties"]["keyversion"], version);
    assert_eq!(read["identity"]["userAssignedIdentities"][lab.identity_id()]["principalId"], lab.principal().await);
    assert_eq!(read["sku"]["tier"], "Standard");

    let creates = Filter { changed: Some(true), ..Filter::on("POST", "/keys/*/create") };
    assert_eq!(lab.sim.journal().count(&creates), 1);
    let writes = Filter { changed: Some(true), ..Filter::on("PUT", "*/storageAccounts/*") };
    assert_eq!(lab.sim.journal().count(&writes), 1);
}

#[tokio::test]
async fn an_existing_account_takes_the_key_in_one_patch() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let account = lab.account_id("stplain");
    let plain = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    let accepted = lab.arm("PUT", &account, Some(plain)).await.expect(202);
    let done = lab.finish(&accepted).await.expect(200);
    assert_eq!(done.body["properties"]["encryption"]["keySource"], "Microsoft.Storage");
    let full = lab.account_body("");
    let patch =
        json!({ "identity": full["identity"], "properties": { "encryption": full["properties"]["encryption"] } });
    let patched = lab.arm("PATCH", &account, Some(patch.clone())).await.expect(200);
    let properties = &patched.body["properties"]["encryption"]["keyvaultproperties"];
    assert_eq!(properties["currentVersionedKeyIdentifier"], kid);
    // A second time it changes nothing.
    let before = lab.sim.journal().last_seq();
    lab.arm("PATCH", &account, Some(patch)).await.expect(200);
    let changed = Filter { changed: Some(true), after: Some(before), ..Filter::default() };
    assert_eq!(lab.sim.journal().count(&changed), 0);
    // After a rotation a versionless setting follows when it is written again.
    let rotated = lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.expect(200);
    let again = json!({ "properties": { "encryption": full["properties"]["encryption"] } });
    let again = lab.arm("PATCH", &account, Some(again)).await.expect(200);
    let current = &again.body["properties"]["encryption"]["keyvaultproperties"]["currentVersionedKeyIdentifier"];
    assert_eq!(current, &rotated.body["key"]["kid"]);
}

#[tokio::test]
async fn everything_that_is_wrong_with_the_key_is_told_by_its_code() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let account = lab.account_id("stcmk1");
    let good = lab.account_body("");
    let with = |pointer: &str, value: serde_json::Value| {
        let mut body = good.clone();
        *body.pointer_mut(pointer).expect("the member is there") = value;
        body
    };
    let encryption = "/properties/encryption";
    let uri = format!("{encryption}/keyvaultproperties/keyvaulturi");
    let unprotected = json!({ "location": "uksouth", "properties": {
        "tenantId": lab.sim.tenant_id(), "sku": { "family": "A", "name": "standard" } } });
    lab.arm("PUT", &lab.vault_id("kvopen"), Some(unprotected)).await.expect(201);
    lab.keys("POST", "kv1", "/keys/curve/create", Some(json!({ "kty": "EC" }))).await.expect(200);
    let no_wrap = json!({ "kty": "RSA", "key_ops": ["encrypt", "decrypt"] });
    lab.keys("POST", "kv1", "/keys/nowrap/create", Some(no_wrap)).await.expect(200);
    let off = json!({ "kty": "RSA", "attributes": { "enabled": false } });
    lab.keys("POST", "kv1", "/keys/off/create", Some(off)).await.expect(200);
    let old = json!({ "kty": "RSA", "attributes": { "exp": 1_000_000 } });
    lab.keys("POST", "kv1", "/keys/old/create", Some(old)).await.expect(200);
    let suffix = lab.sim.vault_suffix();
    let name = format!("{encryption}/keyvaultproperties/keyname");
    let version = format!("{encryption}/keyvaultproperties/keyversion");
    for (what, body, code) in [
        ("missing vault", with(&uri, json!(format!("https://nope.{suffix}"))), "KeyVaultVaultNotFound"),
        ("foreign host", with(&uri, json!("https://kv1.example.com")), "KeyVaultUriInvalid"),
        ("unprotected vault", with(&uri, json!(format!("https://kvopen.{suffix}/"))), "KeyVaultPolicyError"),
        ("missing key", with(&name, json!("nope")), "KeyVaultEncryptionKeyNotFound"),
        ("missing version", with(&version, json!("0123456789abcdef")), "KeyVaultEncryptionKeyNotFound"),
        ("disabled key", with(&name, json!("off")), "KeyVaultEncryptionKeyNotFound"),
        ("expired key", with(&name, json!("old")), "KeyVaultEncryptionKeyNotFound"),
        ("curve", with(&name, json!("curve")), "BadRequest"),
        ("no wrap", with(&name, json!("nowrap")), "BadRequest"),
        ("no identity", with("/identity", json!({ "type": "None" })), "BadRequest"),
        ("no key name", with(&name, json!("")), "InvalidValuesForRequestParameters"),
    ] {
        let answer = lab.arm("PUT", &account, Some(body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{what}: {}", answer.body);
    }
    let mut closed = lab.vault_body();
    closed["properties"]["networkAcls"]["bypass"] = json!("None");
    lab.arm("PUT", &lab.vault_id("kv1"), Some(closed)).await.expect(200);
    lab.arm("PUT", &account, Some(good)).await.refused(400, "KeyVaultAuthenticationFailure");
    assert_eq!(lab.sim.snapshot()["storageAccounts"], json!({}), "a refused create leaves nothing");
}

#[tokio::test]
async fn two_equal_runs_have_equal_normalised_states() {
    let mut states = Vec::new();
    for seed in [1, 2] {
        let mut options = options();
        options.seed = seed;
        let lab = Lab::with(options).await;
        let kid = lab.ground_with_key().await;
        let version = kid.rsplit('/').next().expect("a version").to_owned();
        let accepted = lab.arm("PUT", &lab.account_id("stcmk1"), Some(lab.account_body(&version))).await.expect(202);
        lab.finish(&accepted).await.expect(200);
        states.push(lab.sim.normalized());
        lab.sim.shutdown().await;
    }
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0]["vaults"]["kv1"]["keys"]["k1"]["versions"], 1);
    let pinned =
        &states[0]["storageAccounts"]["stcmk1"]["properties"]["encryption"]["keyvaultproperties"]["keyversion"];
    assert_eq!(pinned, "version-1");
}

#[tokio::test]
async fn a_system_assigned_identity_takes_the_key_in_a_second_step() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let account = lab.account_id("stsys");
    let create = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" },
        "identity": { "type": "SystemAssigned" } });
    let accepted = lab.arm("PUT", &account, Some(create)).await.expect(202);
    let done = lab.finish(&accepted).await.expect(200);
    let principal = done.body["identity"]["principalId"].as_str().expect("a principal id").to_owned();
    let uri = format!("https://kv1.{}", lab.sim.vault_suffix());
    let patch = json!({ "properties": { "encryption": { "keySource": "Microsoft.Keyvault",
        "keyvaultproperties": { "keyname": "k1", "keyvaulturi": uri } } } });
    lab.arm("PATCH", &account, Some(patch.clone())).await.refused(400, "KeyVaultAuthenticationFailure");
    lab.grant(9, ENCRYPTION_USER, &principal).await.expect(201);
    let patched = lab.arm("PATCH", &account, Some(patch)).await.expect(200);
    let key = &patched.body["properties"]["encryption"]["keyvaultproperties"];
    assert_eq!(key["currentVersionedKeyIdentifier"], kid);
    // Going back to platform keys leaves nothing of the setting.
    let back = json!({ "properties": { "encryption": { "keySource": "Microsoft.Storage" } } });
    let back = lab.arm("PATCH", &account, Some(back)).await.expect(200);
    assert!(back.body["properties"]["encryption"].get("keyvaultproperties").is_none());
}
