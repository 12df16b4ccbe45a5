//! A storage account under a key in a managed HSM: what the HSM itself decides, and what the account then shows.

use serde_json::{Value, json};

use crate::client::Lab;
use crate::hsm::{AUDITOR, ENCRYPTION_USER, local_grant_path};

fn under_hsm(lab: &Lab, key: &str, hsm: &str) -> Value {
    let mut body = lab.account_body("");
    body["properties"]["encryption"]["keyvaultproperties"] =
        json!({ "keyname": key, "keyvaulturi": format!("https://{hsm}.{}", lab.sim.hsm_suffix()) });
    body
}

#[tokio::test]
async fn an_account_is_encrypted_with_a_key_of_an_hsm() {
    let lab = Lab::start().await;
    lab.ground().await;
    lab.provisioned(lab.hsm_body()).await;
    let principal = lab.principal().await;
    let account = lab.account_id("sthsm");
    let body = under_hsm(&lab, "k1", "hsm1");
    let refused =
        async |body: &Value, code: &str| lab.arm("PUT", &account, Some(body.clone())).await.refused(400, code);

    refused(&under_hsm(&lab, "k1", "hsm2"), "KeyVaultVaultNotFound").await;
    refused(&body, "KeyVaultAuthenticationFailure").await;
    assert!(lab.sim.activate_hsm("hsm1"));
    lab.local_grant(1, "/", crate::hsm::USER, lab.sim.object_id()).await.expect(201);
    let key = lab.hsm("POST", "/keys/k1/create", Some(json!({ "kty": "RSA-HSM", "key_size": 2048 }))).await.expect(200);
    lab.hsm("POST", "/keys/aes/create", Some(json!({ "kty": "oct-HSM" }))).await.expect(200);
    // Reading is not enough, nor is any role in ARM: the encryption role must be given in the HSM.
    lab.local_grant(2, "/keys", AUDITOR, &principal).await.expect(201);
    let path = lab.grant_path(&lab.hsm_id("hsm1"), 3);
    lab.arm("PUT", &path, Some(lab.grant_body(crate::client::ENCRYPTION_USER, &principal))).await.expect(201);
    refused(&body, "KeyVaultAuthenticationFailure").await;
    lab.local_grant(3, "/keys", ENCRYPTION_USER, &principal).await.expect(201);
    refused(&under_hsm(&lab, "aes", "hsm1"), "BadRequest").await;
    refused(&under_hsm(&lab, "none", "hsm1"), "KeyVaultEncryptionKeyNotFound").await;
    let closed = |bypass: &str| {
        json!({ "properties": { "networkAcls": { "defaultAction": "Deny", "bypass": bypass,
            "ipRules": [{ "value": "203.0.113.10" }] } } })
    };
    lab.arm("PATCH", &lab.hsm_id("hsm1"), Some(closed("None"))).await.expect(200);
    refused(&body, "KeyVaultAuthenticationFailure").await;
    lab.arm("PATCH", &lab.hsm_id("hsm1"), Some(closed("AzureServices"))).await.expect(200);

    let accepted = lab.arm("PUT", &account, Some(body)).await.expect(202);
    let done = lab.finish(&accepted).await.expect(200);
    let shown = &done.body["properties"]["encryption"]["keyvaultproperties"];
    assert_eq!(shown["currentVersionedKeyIdentifier"], key.body["key"]["kid"]);
    assert_eq!(shown["keyvaulturi"], format!("https://hsm1.{}", lab.sim.hsm_suffix()));
    // A new look after the role is gone finds no way in.
    lab.hsm("DELETE", &local_grant_path("/keys", 3), None).await.expect(200);
    let again = json!({ "properties": { "encryption": { "keySource": "Microsoft.Keyvault" } } });
    lab.arm("PATCH", &account, Some(again)).await.refused(400, "KeyVaultAuthenticationFailure");
}

#[tokio::test]
async fn an_hsm_without_purge_protection_serves_no_account() {
    let lab = Lab::start().await;
    lab.ground().await;
    let mut body = lab.hsm_body();
    body["properties"]["enablePurgeProtection"] = json!(false);
    lab.working(body).await;
    lab.hsm("POST", "/keys/k1/create", Some(json!({ "kty": "RSA-HSM" }))).await.expect(200);
    lab.local_grant(3, "/keys/k1", ENCRYPTION_USER, &lab.principal().await).await.expect(201);
    let account = lab.account_id("sthsm");
    let answer = lab.arm("PUT", &account, Some(under_hsm(&lab, "k1", "hsm1"))).await;
    answer.refused(400, "KeyVaultPolicyError");
    let on = json!({ "properties": { "enablePurgeProtection": true } });
    lab.arm("PATCH", &lab.hsm_id("hsm1"), Some(on)).await.expect(200);
    lab.arm("PUT", &account, Some(under_hsm(&lab, "k1", "hsm1"))).await.expect(202);
}
