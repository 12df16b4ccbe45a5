//! AI services accounts: what clients rely on (protocol.md 8.3).

use serde_json::{Value, json};

use crate::client::{ENCRYPTION_USER, Lab};

const AI: &str = "Microsoft.CognitiveServices/accounts";

fn id(lab: &Lab) -> String {
    lab.resource_id(AI, "ai1")
}

fn account(subdomain: &str) -> Value {
    json!({ "location": "uksouth", "kind": "AIServices", "sku": { "name": "S0" },
        "properties": { "customSubDomainName": subdomain } })
}

async fn with_key(lab: &Lab) -> Value {
    let mut body = account("ai-one");
    body["identity"] = lab.user_identity();
    body["properties"]["encryption"] = json!({ "keySource": "Microsoft.KeyVault", "keyVaultProperties": {
        "keyVaultUri": format!("https://kv1.{}", lab.sim.vault_suffix()), "keyName": "k1", "keyVersion": "",
        "identityClientId": lab.client_id_of_identity().await } });
    body
}

async fn state(lab: &Lab) -> String {
    let read = lab.arm("GET", &id(lab), None).await.expect(200).body;
    read["properties"]["provisioningState"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_account_takes_a_key_by_client_id_and_gives_it_back() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let made = lab.arm("PUT", &id(&lab), Some(with_key(&lab).await)).await.expect(201);
    assert_eq!(made.body["properties"]["provisioningState"], "Accepted");
    assert!(!made.headers.contains_key("location"), "the state in the body tells all");
    let busy = lab.arm("PATCH", &id(&lab), Some(json!({ "tags": {} }))).await;
    busy.refused(409, "RequestConflict");
    lab.advance(3);
    let read = lab.arm("GET", &id(&lab), None).await.expect(200).body;
    assert_eq!(read["properties"]["provisioningState"], "Succeeded");
    assert_eq!(read["properties"]["encryption"]["keySource"], "Microsoft.KeyVault");
    let endpoint = read["properties"]["endpoint"].as_str().expect("an endpoint");
    assert!(endpoint.starts_with("https://ai-one.cognitiveservices.") && endpoint.ends_with('/'), "{endpoint}");
    assert!(read["etag"].is_string());
    let keys = lab.arm("POST", &format!("{}/listKeys", id(&lab)), None).await.expect(200).body;
    assert!(keys["key1"].is_string() && keys["key1"] != keys["key2"]);
    let back = json!({ "properties": { "encryption": { "keySource": "Microsoft.CognitiveServices" } } });
    lab.arm("PATCH", &id(&lab), Some(back)).await.expect(200);
    lab.advance(3);
    let read = lab.arm("GET", &id(&lab), None).await.expect(200).body;
    assert_eq!(read["properties"]["encryption"], json!({ "keySource": "Microsoft.CognitiveServices" }));
}

#[tokio::test]
async fn a_key_out_of_reach_makes_the_account_failed_until_the_same_is_written_again() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let grant = lab.grant_path(&lab.vault_id("kv1"), 2);
    lab.arm("DELETE", &grant, None).await.expect(200);
    let body = with_key(&lab).await;
    lab.arm("PUT", &id(&lab), Some(body.clone())).await.expect(201);
    lab.advance(3);
    assert_eq!(state(&lab).await, "Failed");
    lab.grant(3, ENCRYPTION_USER, &lab.principal().await).await.expect(201);
    lab.arm("PUT", &id(&lab), Some(body.clone())).await.expect(200);
    lab.advance(3);
    assert_eq!(state(&lab).await, "Succeeded");
    let properties = "/properties/encryption/keyVaultProperties";
    for (member, value, code) in [
        ("keyName", json!("nope"), "KeyVaultKeyNotFound"),
        ("keyName", json!(""), "InvalidEncryptionSettings"),
        ("keyVaultUri", json!("https://kv1.example.com"), "InvalidKeyVault"),
        ("identityClientId", json!(lab.principal().await), "InvalidEncryptionIdentity"),
    ] {
        let mut wrong = body.clone();
        *wrong.pointer_mut(&format!("{properties}/{member}")).expect("it is there") = value;
        lab.arm("PUT", &id(&lab), Some(wrong)).await.refused(400, code);
    }
    assert_eq!(state(&lab).await, "Succeeded");
}

#[tokio::test]
async fn subdomains_are_set_once_and_belong_to_one() {
    let lab = Lab::start().await;
    lab.ground().await;
    lab.arm("PUT", &id(&lab), Some(account("ai-one"))).await.expect(201);
    lab.advance(3);
    lab.arm("PUT", &id(&lab), Some(account("ai-two"))).await.refused(400, "BadRequest");
    let other = lab.resource_id(AI, "ai2");
    lab.arm("PUT", &other, Some(account("AI-one"))).await.refused(409, "CustomDomainInUse");
    let mut rules = account("x");
    rules["properties"] = json!({ "networkAcls": { "defaultAction": "Deny" } });
    lab.arm("PUT", &other, Some(rules)).await.refused(400, "BadRequest");
    lab.arm("PUT", &other, Some(json!({ "location": "uksouth", "kind": "OpenAI" })))
        .await
        .refused(400, "InvalidRequestContent");
}

#[tokio::test]
async fn a_deleted_account_is_kept_can_be_restored_and_purged() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let body = with_key(&lab).await;
    lab.arm("PUT", &id(&lab), Some(body.clone())).await.expect(201);
    lab.advance(3);
    let gone = lab.arm("DELETE", &id(&lab), None).await.expect(202);
    assert_eq!(lab.finish(&gone).await.status, 200);
    lab.arm("GET", &id(&lab), None).await.refused(404, "ResourceNotFound");
    let provider = format!("/subscriptions/{}/providers/Microsoft.CognitiveServices", lab.sim.subscription_id());
    let all = lab.arm("GET", &format!("{provider}/deletedAccounts"), None).await.expect(200).body;
    assert_eq!(all["value"][0]["name"], "ai1");
    let kept = format!("{provider}/locations/uksouth/resourceGroups/rg1/deletedAccounts/ai1");
    let one = lab.arm("GET", &kept, None).await.expect(200).body;
    assert!(one["properties"]["deletionDate"].is_string());
    lab.arm("PUT", &id(&lab), Some(body.clone())).await.refused(409, "FlagMustBeSetForRestore");
    let other = lab.resource_id(AI, "ai2");
    lab.arm("PUT", &other, Some(account("ai-one"))).await.refused(409, "CustomDomainInUse");
    let mut restore = body.clone();
    restore["properties"]["restore"] = json!(true);
    let restored = lab.arm("PUT", &id(&lab), Some(restore)).await.expect(201).body;
    assert_eq!(restored["properties"].get("restore"), None);
    lab.advance(3);
    assert_eq!(state(&lab).await, "Succeeded");
    lab.arm("GET", &kept, None).await.refused(404, "ResourceNotFound");
    let gone = lab.arm("DELETE", &id(&lab), None).await.expect(202);
    assert_eq!(lab.finish(&gone).await.status, 200);
    lab.arm("DELETE", &kept, None).await.expect(200);
    lab.arm("DELETE", &kept, None).await.expect(204);
    lab.arm("PUT", &id(&lab), Some(body)).await.expect(201);
    lab.advance(3);
    let gone = lab.arm("DELETE", &id(&lab), None).await.expect(202);
    assert_eq!(lab.finish(&gone).await.status, 200);
    lab.advance(48 * 3600 + 1);
    let token = lab.token("https://management.azure.com/.default").await;
    lab.arm_as(&token, "GET", &kept, None).await.refused(404, "ResourceNotFound");
}
