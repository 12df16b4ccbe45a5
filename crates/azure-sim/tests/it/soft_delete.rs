//! Soft delete of vaults and keys: what comes back, what is kept, what can never be purged.

use serde_json::json;

use crate::client::{ADMINISTRATOR, Lab};

#[tokio::test]
async fn a_deleted_key_blocks_its_name_until_it_is_recovered() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let deleted = lab.keys("DELETE", "kv1", "/keys/k1", None).await.expect(200).body;
    assert_eq!(deleted["recoveryId"], format!("https://kv1.{}/deletedkeys/k1", lab.sim.vault_suffix()));
    let dates = [&deleted["deletedDate"], &deleted["scheduledPurgeDate"]].map(|d| d.as_i64().expect("a time"));
    assert_eq!(dates[1] - dates[0], 90 * 86_400);
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(404, "KeyNotFound");
    let create = json!({ "kty": "RSA" });
    let again = lab.keys("POST", "kv1", "/keys/k1/create", Some(create)).await;
    again.refused(409, "Conflict/ObjectIsDeletedButRecoverable");
    lab.keys("DELETE", "kv1", "/deletedkeys/k1", None).await.refused(403, "Forbidden");
    lab.keys("GET", "kv1", "/deletedkeys/k1", None).await.expect(200);
    lab.keys("POST", "kv1", "/deletedkeys/k1/recover", None).await.expect(200);
    let back = lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
    assert_eq!(back.body["key"]["kid"], kid.as_str());
    lab.keys("GET", "kv1", "/deletedkeys/k1", None).await.refused(404, "KeyNotFound");
}

#[tokio::test]
async fn a_deleted_vault_comes_back_with_its_keys_and_without_its_grants() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let vault = lab.vault_id("kv1");
    lab.arm("DELETE", &vault, None).await.expect(200);
    lab.arm("DELETE", &vault, None).await.expect(204);
    lab.arm("GET", &vault, None).await.refused(404, "ResourceNotFound");
    let token = lab.vault_token().await;
    let gone = lab.try_send("GET", &lab.vault_link("kv1", "/keys"), &token, None).await;
    assert!(gone.is_err(), "a deleted vault has no host");
    lab.arm("PUT", &vault, Some(lab.vault_body())).await.refused(409, "ConflictError");
    let base = format!(
        "/subscriptions/{}/providers/Microsoft.KeyVault/locations/uksouth/deletedVaults/kv1",
        lab.sim.subscription_id()
    );
    let shown = lab.arm("GET", &base, None).await.expect(200);
    assert_eq!(shown.body["properties"]["vaultId"], vault.as_str());
    lab.arm("POST", &format!("{base}/purge"), None).await.refused(405, "MethodNotAllowed");
    let check =
        format!("/subscriptions/{}/providers/Microsoft.KeyVault/checkNameAvailability", lab.sim.subscription_id());
    let check = lab.arm("POST", &check, Some(json!({ "name": "KV1", "type": "Microsoft.KeyVault/vaults" }))).await;
    assert_eq!(check.expect(200).body["reason"], "AlreadyExists");
    let mut recover = lab.vault_body();
    recover["properties"]["createMode"] = json!("recover");
    lab.arm("PUT", &vault, Some(recover)).await.expect(200);
    lab.arm("GET", &base, None).await.refused(404, "DeletedVaultNotFound");
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(403, "Forbidden/ForbiddenByRbac");
    lab.grant(1, ADMINISTRATOR, lab.sim.object_id()).await.expect(201);
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
}

#[tokio::test]
async fn without_protection_a_vault_can_be_purged_and_retention_ends_by_the_clock() {
    let mut options = crate::client::options();
    options.token_lifetime = std::time::Duration::from_secs(30 * 86_400);
    let lab = Lab::with(options).await;
    lab.ground().await;
    let body = json!({ "location": "uksouth", "properties": { "tenantId": lab.sim.tenant_id(),
        "sku": { "family": "A", "name": "standard" }, "softDeleteRetentionInDays": 7 } });
    let base = format!(
        "/subscriptions/{}/providers/Microsoft.KeyVault/locations/uksouth/deletedVaults/kvp",
        lab.sim.subscription_id()
    );
    lab.arm("PUT", &lab.vault_id("kvp"), Some(body.clone())).await.expect(201);
    lab.arm("DELETE", &lab.vault_id("kvp"), None).await.expect(200);
    let accepted = lab.arm("POST", &format!("{base}/purge"), None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    lab.arm("PUT", &lab.vault_id("kvp"), Some(body)).await.expect(201);
    lab.arm("DELETE", &lab.vault_id("kvp"), None).await.expect(200);
    lab.advance(7 * 86_400 - 1);
    lab.arm("GET", &base, None).await.expect(200);
    lab.advance(1);
    lab.arm("GET", &base, None).await.refused(404, "DeletedVaultNotFound");
}

#[tokio::test]
async fn a_group_goes_with_all_that_is_in_it() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let accepted = lab.arm("DELETE", &lab.group(), None).await.expect(202);
    lab.arm("PUT", &lab.vault_id("kv2"), Some(lab.vault_body())).await.refused(409, "ResourceGroupBeingDeleted");
    lab.finish(&accepted).await.expect(200);
    lab.arm("GET", &lab.group(), None).await.refused(404, "ResourceGroupNotFound");
    let state = lab.sim.normalized();
    assert_eq!(state["identities"], json!([]));
    assert_eq!(state["vaults"], json!({}));
    assert_eq!(state["deletedVaults"]["kv1"]["keys"]["k1"]["versions"], 1);
}
