//! Cosmos DB accounts: what clients rely on (protocol.md 8.2).

use serde_json::{Value, json};

use crate::client::{Answer, ENCRYPTION_USER, Lab};

const COSMOS: &str = "Microsoft.DocumentDB/databaseAccounts";
const CONFIRMED: &str = "Access to the configured customer managed key confirmed.";

fn id(lab: &Lab) -> String {
    lab.resource_id(COSMOS, "cosmos1")
}

fn account() -> Value {
    json!({ "location": "uksouth", "properties": { "databaseAccountOfferType": "Standard",
        "locations": [{ "locationName": "uksouth", "failoverPriority": 0 }] } })
}

fn with_key(lab: &Lab) -> Value {
    let mut body = account();
    body["identity"] = lab.user_identity();
    body["properties"]["keyVaultKeyUri"] = lab.key_url("k1").into();
    body["properties"]["defaultIdentity"] = format!("UserAssignedIdentity={}", lab.identity_id()).into();
    body
}

fn flat(answer: &Answer, status: u16, code: &str, text: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.body["code"], code, "{}", answer.body);
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert!(message.contains(text), "{message}");
    assert!(message.contains("\r\nActivityId: ") && message.ends_with("Microsoft.Azure.Documents.Common/2.14.0"));
}

async fn read(lab: &Lab) -> Value {
    lab.arm("GET", &id(lab), None).await.expect(200).body["properties"].clone()
}

async fn patch(lab: &Lab, properties: Value) -> Answer {
    let answer = lab.arm("PATCH", &id(lab), Some(json!({ "properties": properties }))).await;
    if answer.status == 200 {
        lab.advance(3);
    }
    answer
}

#[tokio::test]
async fn an_account_with_a_key_is_answered_with_200_and_confirmed() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let names = "/providers/Microsoft.DocumentDB/databaseAccountNames/cosmos1";
    lab.arm("HEAD", names, None).await.expect(404);
    let made = lab.arm("PUT", &id(&lab), Some(with_key(&lab))).await.expect(200);
    assert_eq!(made.body["properties"]["provisioningState"], "Creating");
    assert!(Lab::header(&made, "azure-asyncoperation").contains("/locations/uksouth/operationsStatus/"));
    assert!(Lab::header(&made, "location").contains("/locations/uksouth/operationResults/"));
    assert_eq!(read(&lab).await["readLocations"][0]["provisioningState"], "Creating");
    let status = Lab::header(&made, "azure-asyncoperation").to_owned();
    assert_eq!(lab.send("GET", &status, &lab.arm_token, None).await.expect(200).body["status"], "Dequeued");
    flat(&lab.arm("PUT", &id(&lab), Some(with_key(&lab))).await, 412, "PreconditionFailed", "exclusive access");
    assert_eq!(lab.status_of(&made).await["status"], "Succeeded");
    lab.arm("HEAD", names, None).await.expect(200);
    let properties = read(&lab).await;
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert_eq!(properties["keyVaultKeyUri"], lab.key_url("k1"));
    assert_eq!(properties["keyVaultKeyUriVersion"].as_str(), kid.rsplit('/').next());
    assert_eq!(properties["customerManagedKeyStatus"], CONFIRMED);
    for places in ["readLocations", "writeLocations"] {
        assert_eq!(properties[places][0]["provisioningState"], "Succeeded");
    }
    let keys = lab.arm("POST", &format!("{}/listKeys", id(&lab)), None).await.expect(200).body;
    let read_only = lab.arm("POST", &format!("{}/readonlykeys", id(&lab)), None).await.expect(200).body;
    assert_eq!(keys["primaryReadonlyMasterKey"], read_only["primaryReadonlyMasterKey"]);
    assert_eq!(keys["primaryMasterKey"].as_str().map(str::len), Some(88));
    let strings = lab.arm("POST", &format!("{}/listConnectionStrings", id(&lab)), None).await.expect(200).body;
    assert_eq!(strings["connectionStrings"].as_array().map(Vec::len), Some(4));
    let gone = lab.arm("DELETE", &id(&lab), None).await.expect(202);
    assert_eq!(read(&lab).await["provisioningState"], "Deleting");
    assert_eq!(lab.status_of(&gone).await["status"], "Succeeded");
    lab.arm("GET", &id(&lab), None).await.refused(404, "ResourceNotFound");
    lab.arm("DELETE", &id(&lab), None).await.expect(204);
}

#[tokio::test]
async fn identity_and_default_identity_go_in_two_calls() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    lab.arm("PUT", &id(&lab), Some(account())).await.expect(200);
    lab.advance(3);
    assert_eq!(read(&lab).await["defaultIdentity"], "FirstPartyIdentity");
    let default = format!("UserAssignedIdentity={}", lab.identity_id());
    let refused = patch(&lab, json!({ "defaultIdentity": default })).await;
    flat(&refused, 400, "BadRequest", "Updating default identity not allowed");
    let both = json!({ "identity": lab.user_identity(), "properties": { "defaultIdentity": default } });
    lab.arm("PATCH", &id(&lab), Some(both)).await.expect(200);
    lab.advance(3);
    assert_eq!(read(&lab).await.get("defaultIdentity"), None, "sent together, the default identity has no effect");
    patch(&lab, json!({ "defaultIdentity": default })).await.expect(200);
    patch(&lab, json!({ "keyVaultKeyUri": lab.key_url("k1") })).await.expect(200);
    let properties = read(&lab).await;
    assert_eq!(properties["defaultIdentity"], default);
    assert_eq!(properties["customerManagedKeyStatus"], CONFIRMED);
    // Other identities take the default identity away, and with it the key.
    let more = json!({ "identity": { "type": "SystemAssigned,UserAssigned" } });
    lab.arm("PATCH", &id(&lab), Some(more)).await.expect(200);
    lab.advance(3);
    let properties = read(&lab).await;
    assert_eq!(properties.get("defaultIdentity"), None);
    assert!(properties["customerManagedKeyStatus"].as_str().is_some_and(|s| s.ends_with("(4015).")));
    patch(&lab, json!({ "defaultIdentity": default })).await.expect(200);
    assert_eq!(read(&lab).await["customerManagedKeyStatus"], CONFIRMED);
}

#[tokio::test]
async fn wrong_settings_are_refused_in_the_flat_form() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let suffix = lab.sim.vault_suffix();
    for (uri, status, code, text) in [
        (kid.clone(), 400, "BadRequest", "KeyVaultKeyUri is Invalid"),
        (lab.key_url("k1") + "/", 400, "BadRequest", "KeyVaultKeyUri is Invalid"),
        ("not a url".into(), 400, "BadRequest", "KeyVaultKeyUri is Invalid"),
        (lab.key_url("nope"), 503, "ServiceUnavailable", "Error contacting the Azure Key Vault resource"),
        (format!("https://nope.{suffix}/keys/k1"), 503, "ServiceUnavailable", "Error contacting"),
    ] {
        let mut body = with_key(&lab);
        body["properties"]["keyVaultKeyUri"] = uri.into();
        flat(&lab.arm("PUT", &id(&lab), Some(body)).await, status, code, text);
    }
    let mut system = with_key(&lab);
    system["identity"] = json!({ "type": "SystemAssigned" });
    system["properties"]["defaultIdentity"] = "SystemAssignedIdentity".into();
    let answer = lab.arm("PUT", &id(&lab), Some(system)).await;
    flat(&answer, 400, "BadRequest", "Cannot set SystemAssignedIdentity as the default identity during provision.");
    lab.arm("GET", &id(&lab), None).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn a_missing_grant_fails_the_operation_and_the_account() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let mut first_party = account();
    first_party["properties"]["keyVaultKeyUri"] = lab.key_url("k1").into();
    let made = lab.arm("PUT", &id(&lab), Some(first_party.clone())).await.expect(200);
    let status = lab.status_of(&made).await;
    assert_eq!((status["status"].as_str(), status["error"]["code"].as_str()), (Some("Failed"), Some("Forbidden")));
    assert!(status["error"]["message"].as_str().is_some_and(|m| m.contains("ForbiddenByRbac")));
    assert_eq!(read(&lab).await["provisioningState"], "Failed");
    let graph = format!("https://graph.{}", lab.sim.vault_suffix().trim_start_matches("vault."));
    let token = lab.token(&format!("{graph}/.default")).await;
    let url = format!("{graph}/v1.0/servicePrincipals?$filter=appId+eq+'a232010e-820c-4083-83bb-3ace5fc29d0b'");
    let found = lab.send("GET", &url, &token, None).await.expect(200).body;
    lab.grant(9, ENCRYPTION_USER, found["value"][0]["id"].as_str().expect("an id")).await.expect(201);
    let again = lab.arm("PUT", &id(&lab), Some(first_party)).await.expect(200);
    assert_eq!(lab.status_of(&again).await["status"], "Succeeded");
    assert_eq!(read(&lab).await["customerManagedKeyStatus"], CONFIRMED);
}

#[tokio::test]
async fn a_revoked_account_takes_identities_and_deletion_only() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    lab.arm("PUT", &id(&lab), Some(with_key(&lab))).await.expect(200);
    lab.advance(3);
    let off = patch(&lab, json!({ "keyVaultKeyUri": null })).await;
    flat(&off, 400, "BadRequest", "Updating KeyVaultKeyUri is not supported");
    lab.set_key("k1", false).await;
    let status = read(&lab).await["customerManagedKeyStatus"].clone();
    assert!(status.as_str().is_some_and(|s| s.contains("revoked") && s.ends_with("(4018).")), "{status}");
    let refused = patch(&lab, json!({ "publicNetworkAccess": "Disabled" })).await;
    flat(&refused, 400, "BadRequest", "No Update is allowed on Database Account with Customer Managed Key in Revoked");
    let tags = lab.arm("PATCH", &id(&lab), Some(json!({ "tags": { "a": "b" } }))).await;
    flat(&tags, 400, "BadRequest", "in Revoked Status");
    let identity = json!({ "identity": { "type": "SystemAssigned,UserAssigned" } });
    lab.arm("PATCH", &id(&lab), Some(identity)).await.expect(200);
    lab.advance(3);
    lab.set_key("k1", true).await;
    let default = format!("UserAssignedIdentity={}", lab.identity_id());
    patch(&lab, json!({ "defaultIdentity": default })).await.expect(200);
    assert_eq!(read(&lab).await["customerManagedKeyStatus"], CONFIRMED);
    let removed = lab.arm("DELETE", &lab.grant_path(&lab.vault_id("kv1"), 2), None).await;
    assert_eq!(removed.status, 200);
    lab.sim.settle();
    let status = read(&lab).await["customerManagedKeyStatus"].clone();
    assert!(status.as_str().is_some_and(|s| s.ends_with("(4002).")), "{status}");
    lab.arm("DELETE", &id(&lab), None).await.expect(202);
}
