//! The key rules of the types in `kinds/health.rs`, as a client sees them.

use serde_json::{Value, json};

use crate::client::{ENCRYPTION_USER, Lab};
use crate::kind_case::{Born, Case, first_party, vault};

const FHIR: &str = "Microsoft.HealthcareApis/services";
const HEALTH_BOT: &str = "Microsoft.HealthBot/healthBots";
const BOT: &str = "Microsoft.BotService/botServices";

const SUCCEEDED: (&str, &str) = ("/properties/provisioningState", "Succeeded");
const COSMOS: &str = "a232010e-820c-4083-83bb-3ace5fc29d0b";
const BOT_SERVICE: &str = "27a762be-14e7-4f92-899c-151877d6d497";

#[tokio::test]
async fn a_classic_health_service_is_made_with_a_key_that_cosmos_db_reads() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let body = |key: Option<&str>| match key {
        Some(url) => json!({ "location": "uksouth", "kind": "fhir-R4",
            "properties": { "cosmosDbConfiguration": { "keyVaultKeyUri": url } } }),
        None => json!({ "location": "uksouth", "kind": "fhir-R4", "properties": {} }),
    };
    let with_key = body(Some(&lab.key_url("k1")));
    let id = lab.resource_id(FHIR, "fhir1");
    lab.arm("PUT", &id, Some(with_key.clone())).await.refused(400, "KeyVaultAuthenticationFailure");
    lab.grant(8, ENCRYPTION_USER, &first_party(&lab, COSMOS).await).await.expect(201);
    lab.arm("PUT", &id, Some(body(Some(&kid)))).await.refused(400, "InvalidKeyVersion");
    let case = Born {
        kind: FHIR,
        name: "fhir1",
        plain: body(None),
        late: vec![("PUT", with_key.clone(), Some("EncryptionNotSupportedOnExistingResource"))],
        shown: ("/properties/cosmosDbConfiguration/keyVaultKeyUri", json!(lab.key_url("k1"))),
        state: SUCCEEDED,
        change: ("PUT", with_key.clone()),
        back: ("PUT", body(None), "EncryptionCannotBeDisabled"),
        with_key,
    };
    case.plays(&lab).await;
    let both = json!({ "properties": { "cosmosDbConfiguration": { "keyVaultKeyUri": lab.key_url("k1") } } });
    let patched = lab.arm("PATCH", &lab.resource_id(FHIR, "fhir1x"), Some(both)).await;
    assert!(patched.status < 300, "{}", patched.body);
    lab.advance(3);
    let read = lab.arm("GET", &lab.resource_id(FHIR, "fhir1x"), None).await.expect(200).body;
    assert_eq!(read.pointer("/properties/cosmosDbConfiguration/keyVaultKeyUri"), None, "no key by PATCH");
}

#[tokio::test]
async fn a_health_bot_takes_a_key_and_gives_it_up() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let plain = json!({ "location": "uksouth", "sku": { "name": "C0" } });
    let mut back = plain.clone();
    back["identity"] = lab.user_identity();
    let case = Case {
        kind: HEALTH_BOT,
        name: "health1",
        plain,
        steps: vec![
            ("PATCH", json!({ "identity": lab.user_identity() })),
            (
                "PATCH",
                json!({ "properties": { "keyVaultProperties": { "keyVaultUri": vault(&lab), "keyName": "k1",
                    "userIdentity": lab.identity_id() } } }),
            ),
        ],
        shown: ("/properties/keyVaultProperties/keyName", json!("k1")),
        state: SUCCEEDED,
        back: ("PUT", back, None),
    };
    case.plays(&lab).await;
}

#[tokio::test]
async fn a_bot_has_no_identity_and_a_key_that_azures_own_reads() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let plain = json!({ "location": "global", "kind": "azurebot", "sku": { "name": "F0" }, "properties": {
        "displayName": "Bot", "endpoint": "https://bot.example.com/api/messages",
        "msaAppId": "55555555-5555-4555-8555-555555555555" } });
    let key = json!({ "properties": { "isCmekEnabled": true, "cmekKeyVaultUrl": kid } });
    let id = lab.resource_id(BOT, "bot0");
    lab.arm("PUT", &id, Some(plain.clone())).await.expect(201);
    lab.arm("PATCH", &id, Some(key.clone())).await.refused(400, "KeyVaultAuthenticationFailure");
    let identity = json!({ "identity": lab.user_identity() });
    assert_eq!(lab.arm("PATCH", &id, Some(identity)).await.status, 400, "it takes no identity");
    lab.grant(8, ENCRYPTION_USER, &first_party(&lab, BOT_SERVICE).await).await.expect(201);
    let missing = json!({ "properties": { "isCmekEnabled": true } });
    lab.arm("PATCH", &id, Some(missing)).await.refused(400, "InvalidEncryptionSettings");
    let case = Case {
        kind: BOT,
        name: "bot1",
        plain,
        steps: vec![("PATCH", key)],
        shown: ("/properties/isCmekEnabled", Value::Bool(true)),
        state: SUCCEEDED,
        back: ("PATCH", json!({ "properties": { "isCmekEnabled": false } }), None),
    };
    case.plays(&lab).await;
}
