//! What all types of the generic provider have in common, shown on a plain one, a soft-deleted one and Azure SQL.

use azure_sim::Filter;
use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, Answer, ENCRYPTION_USER, Lab};

impl Lab {
    /// Id of a resource of the generic provider in the lab's group.
    pub fn resource_id(&self, kind: &str, name: &str) -> String {
        format!("{}/providers/{kind}/{name}", self.group())
    }

    pub fn user_identity(&self) -> Value {
        json!({ "type": "UserAssigned", "userAssignedIdentities": { self.identity_id(): {} } })
    }

    pub async fn client_id_of_identity(&self) -> String {
        let identity = self.arm("GET", &self.identity_id(), None).await.expect(200);
        identity.body["properties"]["clientId"].as_str().expect("a client id").to_owned()
    }

    pub fn key_url(&self, key: &str) -> String {
        format!("https://kv1.{}/keys/{key}", self.sim.vault_suffix())
    }

    pub fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
        answer.headers.get(name).and_then(|h| h.to_str().ok()).unwrap_or_default()
    }

    /// The status document of a long-running answer, once it is over.
    pub async fn status_of(&self, answer: &Answer) -> Value {
        let url = Self::header(answer, "azure-asyncoperation").to_owned();
        assert!(url.starts_with(&self.sim.arm_url()), "{url}");
        self.advance(3);
        self.send("GET", &url, &self.arm_token, None).await.expect(200).body
    }

    pub async fn set_key(&self, key: &str, enabled: bool) {
        let body = json!({ "attributes": { "enabled": enabled } });
        self.keys("PATCH", "kv1", &format!("/keys/{key}"), Some(body)).await.expect(200);
        self.sim.settle();
    }
}

const MAPS: &str = "Microsoft.Maps/accounts";

fn maps(lab: &Lab, url: &str) -> Value {
    json!({
        "location": "uksouth",
        "sku": { "name": "G2" },
        "identity": lab.user_identity(),
        "properties": { "encryption": { "customerManagedKeyEncryption": {
            "keyEncryptionKeyUrl": url,
            "keyEncryptionKeyIdentity": {
                "identityType": "userAssignedIdentity", "userAssignedIdentityResourceId": lab.identity_id() },
        } } },
    })
}

#[tokio::test]
async fn a_plain_resource_is_made_read_listed_changed_and_deleted() {
    let lab = Lab::start().await;
    lab.ground().await;
    let id = lab.resource_id(MAPS, "maps1");
    lab.arm("GET", &id, None).await.refused(404, "ResourceNotFound");
    lab.arm("PATCH", &id, Some(json!({ "tags": {} }))).await.refused(404, "ResourceNotFound");
    let body = json!({ "location": "UK South", "sku": { "name": "G2" }, "tags": { "a": "b" } });
    let made = lab.arm("PUT", &id.to_lowercase().replace("maps1", "Maps1"), Some(body.clone())).await.expect(201).body;
    assert_eq!(made["id"].as_str(), Some(id.replace("maps1", "Maps1").as_str()), "canonical but for the name");
    assert_eq!((made["type"].as_str(), made["location"].as_str()), (Some(MAPS), Some("uksouth")));
    assert_eq!(made["properties"]["provisioningState"], "Succeeded");
    assert_eq!(made["kind"], "Gen2", "a default");
    assert_eq!(made["systemData"]["createdByType"], "Application");
    let before = lab.sim.journal().last_seq();
    lab.arm("PUT", &id, Some(body)).await.expect(200);
    let changes = Filter { changed: Some(true), after: Some(before), ..Filter::default() };
    assert_eq!(lab.sim.journal().count(&changes), 0, "the same again changes nothing");
    let patch = json!({ "tags": { "c": "d" }, "properties": { "disableLocalAuth": true } });
    let patched = lab.arm("PATCH", &id, Some(patch)).await.expect(200).body;
    assert_eq!(patched["tags"], json!({ "c": "d" }));
    assert_eq!(patched["sku"]["name"], "G2");
    for path in [lab.group(), format!("/subscriptions/{}", lab.sim.subscription_id())] {
        let all = lab.arm("GET", &format!("{path}/providers/{MAPS}"), None).await.expect(200).body;
        assert_eq!(all["value"].as_array().map(Vec::len), Some(1), "{path}");
        let of_type = format!("{path}/resources?api-version=2021-04-01&$filter=resourceType%20eq%20'{MAPS}'");
        let all = lab.arm("GET", &of_type, None).await.expect(200).body;
        assert_eq!(all["value"][0]["name"], "Maps1");
    }
    let other = json!({ "location": "westeurope", "sku": { "name": "G2" } });
    lab.arm("PUT", &id, Some(other)).await.refused(409, "InvalidResourceLocation");
    lab.arm("POST", &id, None).await.refused(405, "MethodNotAllowed");
    lab.arm("GET", &format!("{id}/creators/c1"), None).await.refused(501, "NotPlayedBySimulator");
    lab.arm("DELETE", &id, None).await.expect(200);
    lab.arm("DELETE", &id, None).await.expect(204);
    assert_eq!(lab.sim.snapshot()["resources"], json!({}));
}

#[tokio::test]
async fn bodies_callers_and_versions_are_checked_before_anything_is_done() {
    let lab = Lab::start().await;
    lab.ground().await;
    let id = lab.resource_id(MAPS, "maps1");
    for (body, code) in [
        (json!({ "location": "uksouth" }), "InvalidRequestContent"),
        (json!({ "sku": { "name": "G2" } }), "LocationRequired"),
        (json!({ "location": "nowhere", "sku": { "name": "G2" } }), "LocationNotAvailableForResourceType"),
        (json!({ "location": "uksouth", "sku": { "name": "G2" }, "nope": 1 }), "InvalidRequestContent"),
        (
            json!({ "location": "uksouth", "sku": { "name": "G2" }, "properties": { "disableLocalAuth": "yes" } }),
            "InvalidRequestContent",
        ),
    ] {
        lab.arm("PUT", &id, Some(body)).await.refused(400, code);
    }
    let good = json!({ "location": "uksouth", "sku": { "name": "G2" } });
    let bad_name = lab.resource_id(MAPS, "maps%21");
    lab.arm("PUT", &bad_name, Some(good.clone())).await.refused(400, "InvalidResourceName");
    let old = format!("{id}?api-version=2016-01-01");
    lab.arm("PUT", &old, Some(good.clone())).await.refused(400, "NoRegisteredProviderFound");
    let elsewhere = id.replace("/rg1/", "/rg2/");
    lab.arm("PUT", &elsewhere, Some(good.clone())).await.refused(404, "ResourceGroupNotFound");
    let missing = format!("{}/nobody", lab.identity_id().trim_end_matches("/id1"));
    let mut with = good.clone();
    with["identity"] = json!({ "type": "UserAssigned", "userAssignedIdentities": { missing: {} } });
    lab.arm("PUT", &id, Some(with)).await.refused(400, "FailedIdentityOperation");
    let (outsider, secret) = lab.sim.outsider();
    let token = lab.token_as(outsider, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&token, "PUT", &id, Some(good)).await.refused(403, "AuthorizationFailed");
    lab.arm_as(&token, "GET", &id, None).await.refused(403, "AuthorizationFailed");
    assert_eq!(lab.sim.snapshot()["resources"], json!({}));
}

#[tokio::test]
async fn a_key_is_taken_followed_refused_and_given_up() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let id = lab.resource_id(MAPS, "maps1");
    lab.arm("PUT", &id, Some(maps(&lab, &lab.key_url("nope")))).await.refused(400, "KeyVaultKeyNotFound");
    lab.arm("PUT", &id, Some(maps(&lab, "https://elsewhere.test/keys/k1"))).await.refused(400, "InvalidKeyVaultUri");
    let mut nobody = maps(&lab, &lab.key_url("k1"));
    nobody["identity"] = json!({ "type": "None" });
    lab.arm("PUT", &id, Some(nobody)).await.refused(400, "InvalidEncryptionIdentity");
    lab.arm("GET", &id, None).await.refused(404, "ResourceNotFound");
    let made = lab.arm("PUT", &id, Some(maps(&lab, &lab.key_url("k1")))).await.expect(201).body;
    assert_eq!(made["identity"]["userAssignedIdentities"][lab.identity_id()]["principalId"], lab.principal().await);
    lab.set_key("k1", false).await;
    // What has nothing to do with the key goes on while it is away; what has is refused.
    lab.arm("PATCH", &id, Some(json!({ "tags": { "x": "y" } }))).await.expect(200);
    let again = json!({ "properties": maps(&lab, &lab.key_url("k1"))["properties"] });
    lab.arm("PATCH", &id, Some(again)).await.refused(400, "KeyVaultKeyDisabled");
    let back = json!({ "properties": { "encryption": { "customerManagedKeyEncryption": {} } } });
    let back = lab.arm("PATCH", &id, Some(back)).await.expect(200).body;
    assert_eq!(back["properties"]["encryption"]["customerManagedKeyEncryption"], json!({}));
}

#[tokio::test]
async fn a_configuration_store_takes_a_client_id_and_is_kept_when_deleted() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let id = lab.resource_id("Microsoft.AppConfiguration/configurationStores", "store1");
    let plain = json!({ "location": "uksouth", "sku": { "name": "standard" }, "identity": lab.user_identity() });
    let made = lab.arm("PUT", &id, Some(plain.clone())).await.expect(201);
    assert_eq!(made.body["properties"]["provisioningState"], "Creating");
    let tags = json!({ "tags": {} });
    lab.arm("PATCH", &id, Some(tags)).await.refused(409, "AnotherOperationInProgress");
    assert_eq!(lab.status_of(&made).await["status"], "Succeeded");
    let key = |client: &str| {
        json!({ "properties": { "encryption": { "keyVaultProperties": {
            "keyIdentifier": lab.key_url("k1"), "identityClientId": client } } } })
    };
    // The object id in the place of the client id is the usual mistake.
    lab.arm("PATCH", &id, Some(key(&lab.principal().await))).await.refused(400, "InvalidEncryptionIdentity");
    let patched = lab.arm("PATCH", &id, Some(key(&lab.client_id_of_identity().await))).await.expect(200);
    assert_eq!(lab.status_of(&patched).await["status"], "Succeeded");
    let read = lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryption"]["keyVaultProperties"]["keyIdentifier"], lab.key_url("k1"));
    let gone = lab.arm("DELETE", &id, None).await.expect(202);
    assert_eq!(lab.finish(&gone).await.status, 200);
    lab.arm("GET", &id, None).await.refused(404, "ResourceNotFound");
    lab.arm("PUT", &id, Some(plain.clone())).await.refused(409, "NameUnavailable");
    let kept = format!(
        "/subscriptions/{}/providers/Microsoft.AppConfiguration/locations/uksouth/deletedConfigurationStores/store1",
        lab.sim.subscription_id()
    );
    lab.arm("GET", &kept, None).await.expect(200);
    lab.arm("POST", &format!("{kept}/purge"), None).await.expect(200);
    lab.arm("GET", &kept, None).await.refused(404, "ResourceNotFound");
    lab.arm("PUT", &id, Some(plain)).await.expect(201);
}

#[tokio::test]
async fn a_postgres_server_takes_its_key_at_creation_only() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let id = |name: &str| lab.resource_id("Microsoft.DBforPostgreSQL/flexibleServers", name);
    let mut body = json!({
        "location": "uksouth",
        "sku": { "name": "Standard_D2ds_v5", "tier": "GeneralPurpose" },
        "identity": lab.user_identity(),
        "properties": { "version": "17", "administratorLogin": "boss", "administratorLoginPassword": "S3cret-pass" },
    });
    let plain = lab.arm("PUT", &id("pg-plain"), Some(body.clone())).await.expect(202);
    assert_eq!(lab.status_of(&plain).await["status"], "Succeeded");
    let data = json!({
        "type": "AzureKeyVault", "primaryKeyURI": lab.key_url("k1"), "primaryUserAssignedIdentityId": lab.identity_id() });
    let late = json!({ "properties": { "dataEncryption": data } });
    let late = lab.arm("PATCH", &id("pg-plain"), Some(late)).await;
    late.refused(400, "EncryptionNotSupportedOnExistingResource");
    body["properties"]["dataEncryption"] = data;
    let made = lab.arm("PUT", &id("pg-cmk"), Some(body)).await.expect(202);
    assert_eq!(lab.status_of(&made).await["status"], "Succeeded");
    let read = lab.arm("GET", &id("pg-cmk"), None).await.expect(200).body;
    assert_eq!(read["properties"]["state"], "Ready");
    assert_eq!(read["properties"]["dataEncryption"]["primaryEncryptionKeyStatus"], "Valid");
    assert!(!read.to_string().contains("S3cret"), "passwords are never shown");
    assert!(!lab.sim.snapshot().to_string().contains("S3cret"));
    lab.set_key("k1", false).await;
    let read = lab.arm("GET", &id("pg-cmk"), None).await.expect(200).body;
    assert_eq!(read["properties"]["state"], "Inaccessible");
    assert_eq!(read["properties"]["dataEncryption"]["primaryEncryptionKeyStatus"], "Invalid");
    lab.set_key("k1", true).await;
    let off = json!({ "properties": { "dataEncryption": { "type": "SystemManaged" } } });
    lab.arm("PATCH", &id("pg-cmk"), Some(off)).await.refused(400, "EncryptionCannotBeDisabled");
}

#[tokio::test]
async fn a_sql_server_takes_its_key_in_three_calls() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let version = kid.rsplit('/').next().expect("a version").to_owned();
    let server = lab.resource_id("Microsoft.Sql/servers", "sql1");
    let protector = format!("{server}/encryptionProtector/current");
    lab.arm("GET", &protector, None).await.refused(404, "ParentResourceNotFound");
    let body = json!({ "location": "uksouth",
        "properties": { "administratorLogin": "boss", "administratorLoginPassword": "S3cret-pass" } });
    let made = lab.arm("PUT", &server, Some(body)).await.expect(202);
    assert_eq!(lab.status_of(&made).await["status"], "Succeeded");
    let standing = lab.arm("GET", &protector, None).await.expect(200).body;
    assert_eq!(standing["properties"]["serverKeyType"], "ServiceManaged");
    let nominate = json!({ "identity": lab.user_identity(),
        "properties": { "primaryUserAssignedIdentityId": lab.identity_id() } });
    let name = format!("kv1_k1_{version}");
    let key = json!({ "properties": { "serverKeyType": "AzureKeyVault", "uri": kid } });
    let early = lab.arm("PUT", &format!("{server}/keys/{name}"), Some(key.clone())).await;
    early.refused(401, "AzureKeyVaultNoServerIdentity");
    let nominated = lab.arm("PATCH", &server, Some(nominate)).await.expect(202);
    lab.status_of(&nominated).await;
    lab.arm("PUT", &format!("{server}/keys/other"), Some(key.clone())).await.refused(400, "InvalidKeyName");
    let turn = json!({ "properties": {
        "serverKeyType": "AzureKeyVault", "serverKeyName": name, "autoRotationEnabled": true } });
    lab.arm("PUT", &protector, Some(turn.clone())).await.refused(409, "ServerKeyDoesNotExists");
    let added = lab.arm("PUT", &format!("{server}/keys/{name}"), Some(key)).await.expect(202);
    assert_eq!(lab.status_of(&added).await["status"], "Succeeded");
    let turned = lab.arm("PUT", &protector, Some(turn)).await.expect(202);
    assert_eq!(lab.status_of(&turned).await["status"], "Succeeded");
    let read = lab.arm("GET", &protector, None).await.expect(200).body;
    assert_eq!(read["properties"]["uri"], kid);
    assert_eq!(read["kind"], "azurekeyvault");
    assert_eq!(lab.arm("GET", &server, None).await.expect(200).body["properties"]["keyId"], kid);
    // With the flag the protector follows a rotation within a day.
    let rotated = lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.expect(200);
    lab.advance(25 * 3600);
    lab.sim.settle();
    let token = lab.token("https://management.azure.com/.default").await;
    let read = lab.arm_as(&token, "GET", &protector, None).await.expect(200).body;
    assert_eq!(read["properties"]["uri"], rotated.body["key"]["kid"]);
    let back = json!({ "properties": { "serverKeyType": "ServiceManaged", "serverKeyName": "" } });
    let back = lab.arm_as(&token, "PUT", &protector, Some(back)).await.expect(202);
    assert_eq!(back.body["properties"]["serverKeyName"], "ServiceManaged");
    let keys = lab.arm_as(&token, "GET", &format!("{server}/keys"), None).await.expect(200).body;
    assert_eq!(keys["value"].as_array().map(Vec::len), Some(2), "the key added, and the service's own");
}

#[tokio::test]
async fn a_sql_server_made_with_a_key_has_key_and_protector() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let server = lab.resource_id("Microsoft.Sql/servers", "sql1");
    let body = json!({ "location": "uksouth", "identity": lab.user_identity(),
        "properties": { "administratorLogin": "boss", "primaryUserAssignedIdentityId": lab.identity_id(), "keyId": kid } });
    let made = lab.arm("PUT", &server, Some(body)).await.expect(202);
    lab.status_of(&made).await;
    let protector = lab.arm("GET", &format!("{server}/encryptionProtector/current"), None).await.expect(200).body;
    assert_eq!(protector["properties"]["serverKeyType"], "AzureKeyVault");
    assert_eq!(protector["properties"]["uri"], kid);
    let removed = lab.arm("DELETE", &server, None).await.expect(202);
    assert_eq!(lab.finish(&removed).await.status, 200);
    assert_eq!(lab.sim.snapshot()["resources"], json!({}), "children go with it");
}

#[tokio::test]
async fn a_group_takes_all_with_it_and_two_equal_runs_look_the_same() {
    let mut states = Vec::new();
    for seed in [1, 2] {
        let mut options = crate::client::options();
        options.seed = seed;
        let lab = Lab::with(options).await;
        lab.ground_with_key().await;
        lab.arm("PUT", &lab.resource_id(MAPS, "maps1"), Some(maps(&lab, &lab.key_url("k1")))).await.expect(201);
        states.push(lab.sim.normalized());
        let gone = lab.arm("DELETE", &lab.group(), None).await.expect(202);
        assert_eq!(lab.finish(&gone).await.status, 200);
        assert_eq!(lab.sim.snapshot()["resources"], json!({}));
        lab.sim.shutdown().await;
    }
    assert!(states[0]["resources"].as_object().is_some_and(|r| r.len() == 1));
    assert_eq!(states[0], states[1]);
}

#[tokio::test]
async fn azures_own_principals_are_found_by_their_application() {
    let lab = Lab::start().await;
    lab.ground().await;
    let graph = format!("https://graph.{}", lab.sim.vault_suffix().trim_start_matches("vault."));
    let token = lab.token(&format!("{graph}//.default")).await;
    let url = format!("{graph}/v1.0/servicePrincipals?$filter=appId%20eq%20'a232010e-820c-4083-83bb-3ace5fc29d0b'");
    let found = lab.send("GET", &url, &token, None).await.expect(200).body;
    assert_eq!(found["value"][0]["displayName"], "Azure Cosmos DB");
    let id = found["value"][0]["id"].as_str().expect("an object id");
    lab.grant(7, ENCRYPTION_USER, id).await.expect(201);
    lab.send("GET", &url, "", None).await.refused(401, "InvalidAuthenticationToken");
    let other = format!("{graph}/v1.0/servicePrincipals/{ADMINISTRATOR}");
    lab.send("GET", &other, &token, None).await.refused(404, "Request_ResourceNotFound");
}

#[tokio::test]
async fn the_provider_list_names_the_types() {
    let lab = Lab::start().await;
    let path = format!("/subscriptions/{}/providers/Microsoft.DocumentDB", lab.sim.subscription_id());
    let provider = lab.arm("GET", &path, None).await.expect(200).body;
    let types = provider["resourceTypes"].as_array().expect("types");
    let accounts = types.iter().find(|t| t["resourceType"] == "databaseAccounts").expect("accounts");
    assert_eq!(accounts["apiVersions"][0], "2026-03-15");
}
