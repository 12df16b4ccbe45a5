//! The types of the table, one by one: a body as the catalogue of services gives it, its key, and what is special.

use serde_json::{Value, json};

use crate::client::{ENCRYPTION_USER, Lab};

const CRYPTO_USER: &str = "12338af0-0e69-4776-bea7-57ae8d297424";

struct Bench {
    lab: Lab,
    /// Identifier of the key with its version.
    kid: String,
    version: String,
    vault: String,
    client: String,
}

impl Bench {
    async fn start() -> Self {
        let lab = Lab::start().await;
        let kid = lab.ground_with_key().await;
        let version = kid.rsplit('/').next().expect("a version").to_owned();
        let vault = format!("https://kv1.{}", lab.sim.vault_suffix());
        let client = lab.client_id_of_identity().await;
        Self { lab, kid, version, vault, client }
    }

    fn body(&self, mut more: Value) -> Value {
        let mut body = json!({ "location": "uksouth", "identity": self.lab.user_identity() });
        let Value::Object(more) = more.take() else { panic!("an object") };
        body.as_object_mut().expect("an object").extend(more);
        body
    }

    /// Writes, lets the operation end, reads.
    async fn write(&self, method: &str, id: &str, body: Value) -> Value {
        let answer = self.lab.arm(method, id, Some(body)).await;
        assert!((200..=202).contains(&answer.status), "{method} {id}: {} {}", answer.status, answer.body);
        self.lab.advance(3);
        self.lab.arm("GET", id, None).await.expect(200).body
    }

    async fn refused(&self, method: &str, id: &str, body: Value, code: &str) {
        let answer = self.lab.arm(method, id, Some(body)).await;
        assert_eq!((answer.status / 100, answer.code().as_str()), (4, code), "{method} {id}: {}", answer.body);
    }

    fn split(&self, version: &str) -> Value {
        json!({ "keyVaultUri": self.vault, "keyName": "k1", "keyVersion": version })
    }
}

#[tokio::test]
async fn a_disk_encryption_set_waits_for_the_grant_of_its_own_identity() {
    let b = Bench::start().await;
    let id = b.lab.resource_id("Microsoft.Compute/diskEncryptionSets", "des1");
    let mut body = json!({ "location": "uksouth", "identity": { "type": "SystemAssigned" }, "properties": {
        "activeKey": { "keyUrl": b.lab.key_url("k1") }, "rotationToLatestKeyVersionEnabled": true } });
    b.refused("PUT", &id, body.clone(), "InvalidKeyVersion").await;
    body["properties"]["activeKey"]["keyUrl"] = b.kid.clone().into();
    let read = b.write("PUT", &id, body).await;
    assert_eq!(read["properties"]["provisioningState"], "Succeeded");
    assert_eq!(read["properties"].get("lastKeyRotationTimestamp"), None, "the key is not in use yet");
    b.lab.grant(8, ENCRYPTION_USER, read["identity"]["principalId"].as_str().expect("a principal")).await.expect(201);
    let read = b.lab.arm("GET", &id, None).await.expect(200).body;
    assert!(read["properties"]["lastKeyRotationTimestamp"].is_string());
    let rotated = b.lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.expect(200);
    b.lab.advance(25 * 3600);
    b.lab.sim.settle();
    let token = b.lab.token("https://management.azure.com/.default").await;
    let read = b.lab.arm_as(&token, "GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["activeKey"]["keyUrl"], rotated.body["key"]["kid"]);
    let disk = b.lab.resource_id("Microsoft.Compute/disks", "d1");
    let of_set = |set: &str| {
        json!({ "location": "uksouth", "sku": { "name": "Premium_LRS" }, "properties": {
        "creationData": { "createOption": "Empty" }, "diskSizeGB": 4,
        "encryption": { "type": "EncryptionAtRestWithCustomerKey", "diskEncryptionSetId": set } } })
    };
    let missing = b.lab.arm_as(&token, "PUT", &disk, Some(of_set(&id.replace("des1", "des2")))).await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "NotFound"));
    b.lab.arm_as(&token, "PUT", &disk, Some(of_set(&id))).await.expect(202);
}

#[tokio::test]
async fn a_registry_takes_a_client_id_at_creation_only() {
    let b = Bench::start().await;
    let id = |name: &str| b.lab.resource_id("Microsoft.ContainerRegistry/registries", name);
    let key = json!({ "encryption": { "status": "enabled", "keyVaultProperties": {
        "keyIdentifier": b.lab.key_url("k1"), "identity": b.client } } });
    let plain = b.write("PUT", &id("plain1"), b.body(json!({ "sku": { "name": "Premium" } }))).await;
    assert_eq!(plain["properties"]["encryption"]["status"], "disabled");
    let late = json!({ "properties": key });
    b.refused("PATCH", &id("plain1"), late.clone(), "EncryptionNotSupportedOnExistingResource").await;
    let read = b.write("PUT", &id("cmk01"), b.body(json!({ "sku": { "name": "Premium" }, "properties": key }))).await;
    let shown = &read["properties"]["encryption"]["keyVaultProperties"];
    assert_eq!((&shown["versionedKeyIdentifier"], &shown["keyRotationEnabled"]), (&json!(b.kid), &json!(true)));
    b.write("PATCH", &id("cmk01"), late).await;
    let off = json!({ "properties": { "encryption": { "status": "disabled" } } });
    b.refused("PATCH", &id("cmk01"), off, "EncryptionCannotBeDisabled").await;
}

#[tokio::test]
async fn a_cluster_encrypts_with_the_key_itself() {
    let b = Bench::start().await;
    let id = b.lab.resource_id("Microsoft.ContainerService/managedClusters", "aks1");
    let kms = |key: &str| {
        json!({ "properties": { "securityProfile": { "azureKeyVaultKms": {
        "enabled": true, "keyId": key, "keyVaultNetworkAccess": "Public" } } } })
    };
    // The role for service encryption does not allow to encrypt and decrypt.
    b.refused("PUT", &id, b.body(kms(&b.kid)), "KeyVaultAuthenticationFailure").await;
    b.lab.grant(8, CRYPTO_USER, &b.lab.principal().await).await.expect(201);
    b.refused("PUT", &id, b.body(kms(&b.lab.key_url("k1"))), "InvalidKeyVersion").await;
    let read = b.write("PUT", &id, b.body(kms(&b.kid))).await;
    assert_eq!(read["properties"]["securityProfile"]["azureKeyVaultKms"]["keyId"], b.kid);
    let off = json!({ "properties": { "securityProfile": { "azureKeyVaultKms": { "enabled": false } } } });
    let read = b.write("PATCH", &id, off.clone()).await;
    assert_eq!(read["properties"]["securityProfile"]["azureKeyVaultKms"]["enabled"], true, "a PATCH carries tags only");
    let read = b.write("PUT", &id, b.body(off)).await;
    assert_eq!(read["properties"]["securityProfile"]["azureKeyVaultKms"]["enabled"], false);
}

#[tokio::test]
async fn a_namespace_takes_keys_while_it_is_empty() {
    let b = Bench::start().await;
    for (kind, children) in [
        ("Microsoft.EventHub/namespaces", ["eventhubs"].as_slice()),
        ("Microsoft.ServiceBus/namespaces", &["queues", "topics"]),
    ] {
        let id = b.lab.resource_id(kind, "name-1");
        let premium = json!({ "name": "Premium", "tier": "Premium", "capacity": 1 });
        let plain = b.body(json!({ "sku": premium }));
        let item = json!({ "keyVaultUri": b.vault, "keyName": "k1", "keyVersion": "",
            "identity": { "userAssignedIdentity": b.lab.identity_id() } });
        let mut with = plain.clone();
        with["properties"] =
            json!({ "encryption": { "keySource": "Microsoft.KeyVault", "keyVaultProperties": [item] } });
        b.write("PUT", &id, plain.clone()).await;
        for child in children {
            let inside = format!("{id}/{child}/one");
            b.lab.arm("PUT", &inside, Some(json!({ "properties": {} }))).await.expect(201);
            b.refused("PUT", &id, with.clone(), "EncryptionNotSupportedOnExistingResource").await;
            b.lab.arm("DELETE", &inside, None).await.expect(200);
        }
        let mut second = with.clone();
        let list = second["properties"]["encryption"]["keyVaultProperties"].as_array_mut().expect("a list");
        list.push(json!({ "keyVaultUri": b.vault, "keyName": "nope" }));
        b.refused("PUT", &id, second, "InvalidEncryptionIdentity").await;
        let read = b.write("PUT", &id, with).await;
        assert_eq!(read["properties"]["provisioningState"], "Succeeded", "{kind}");
        let kept = b.write("PUT", &id, plain).await;
        assert_eq!(kept["properties"]["encryption"]["keySource"], "Microsoft.KeyVault", "there is no way back");
    }
}

#[tokio::test]
async fn an_encryption_scope_looks_as_its_account() {
    let b = Bench::start().await;
    let account = b.lab.account_id("stcmk1");
    let accepted = b.lab.arm("PUT", &account, Some(b.lab.account_body(""))).await.expect(202);
    b.lab.finish(&accepted).await.expect(200);
    let id = format!("{account}/encryptionScopes/scope1");
    let source = |key: &str| json!({ "properties": { "source": "Microsoft.KeyVault", "keyVaultProperties": { "keyUri": key } } });
    b.refused("PUT", &id, source(&b.lab.key_url("nope")), "KeyVaultKeyNotFound").await;
    b.lab.arm("PUT", &id, Some(source(&b.lab.key_url("k1")))).await.expect(201);
    let read = b.lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["keyVaultProperties"]["currentVersionedKeyIdentifier"], b.kid);
    b.lab.arm("DELETE", &id, None).await.refused(405, "MethodNotAllowed");
    let back = json!({ "properties": { "source": "Microsoft.Storage" } });
    let back = b.lab.arm("PATCH", &id, Some(back)).await.expect(200).body;
    assert_eq!(back["properties"].get("keyVaultProperties"), None);
    b.lab.arm("DELETE", &account, None).await.expect(200);
    assert_eq!(b.lab.sim.snapshot()["resources"], json!({}), "scopes go with their account");
}

#[tokio::test]
async fn an_elastic_san_volume_group_and_a_netapp_account_show_the_key_in_use() {
    let b = Bench::start().await;
    let san = b.lab.resource_id("Microsoft.ElasticSan/elasticSans", "san1");
    let group = format!("{san}/volumegroups/vg1");
    let mut body = json!({ "identity": b.lab.user_identity(), "properties": {
        "encryption": "EncryptionAtRestWithCustomerManagedKey",
        "encryptionProperties": { "keyVaultProperties": b.split(""),
            "identity": { "userAssignedIdentity": b.lab.identity_id() } } } });
    b.refused("PUT", &group, body.clone(), "ParentResourceNotFound").await;
    b.write("PUT", &san, json!({ "location": "uksouth", "properties": {} })).await;
    let read = b.write("PUT", &group, body.clone()).await;
    let shown = &read["properties"]["encryptionProperties"]["keyVaultProperties"];
    assert_eq!(shown["currentVersionedKeyIdentifier"], b.kid);
    assert_eq!(shown["currentVersionedKeyExpirationTimestamp"], "1970-01-01T00:00:00Z");
    body["properties"] = json!({ "encryption": "EncryptionAtRestWithPlatformKey" });
    let read = b.write("PATCH", &group, body).await;
    assert_eq!(read["properties"].get("encryptionProperties"), None);

    let netapp = b.lab.resource_id("Microsoft.NetApp/netAppAccounts", "na1");
    b.lab.grant(8, CRYPTO_USER, &b.lab.principal().await).await.expect(201);
    let body = b.body(json!({ "properties": { "encryption": {
        "keySource": "Microsoft.KeyVault",
        "keyVaultProperties": { "keyVaultUri": b.vault, "keyName": "k1", "keyVaultResourceId": b.lab.vault_id("kv1") },
        "identity": { "userAssignedIdentity": b.lab.identity_id() } } } }));
    let read = b.write("PUT", &netapp, body).await;
    assert_eq!(read["properties"]["encryption"]["keyVaultProperties"]["status"], "InUse");
    assert_eq!(read["properties"]["encryption"]["identity"]["principalId"], b.lab.principal().await);
    b.lab.set_key("k1", false).await;
    let read = b.lab.arm("GET", &netapp, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryption"]["keyVaultProperties"]["status"], "Error");
}

#[tokio::test]
async fn a_databricks_workspace_shows_the_principals_to_grant() {
    let b = Bench::start().await;
    let id = b.lab.resource_id("Microsoft.Databricks/workspaces", "dbw1");
    let body = |more: Value| {
        let mut properties =
            json!({ "managedResourceGroupId": format!("{}-managed", b.lab.group()), "computeMode": "Hybrid" });
        let Value::Object(more) = more else { panic!("an object") };
        properties.as_object_mut().expect("an object").extend(more);
        json!({ "location": "uksouth", "sku": { "name": "premium" }, "properties": properties })
    };
    let entity = |name: &str| {
        json!({ "encryption": { "entities": { name: {
        "keySource": "Microsoft.Keyvault", "keyVaultProperties": b.split(&b.version) } } } })
    };
    b.refused("PUT", &id, body(entity("managedServices")), "KeyVaultAuthenticationFailure").await;
    let read = b.write("PUT", &id, body(entity("managedDisk"))).await;
    let disks = read["properties"]["managedDiskIdentity"]["principalId"].as_str().expect("a principal").to_owned();
    b.lab.grant(8, ENCRYPTION_USER, &disks).await.expect(201);
    b.lab.arm("GET", &id, None).await.expect(200);
    b.refused("PUT", &id, body(json!({})), "EncryptionCannotBeDisabled").await;
    let mut prepared = entity("managedDisk");
    prepared["parameters"] = json!({ "prepareEncryption": { "value": true } });
    let read = b.write("PUT", &id, body(prepared.clone())).await;
    let files = read["properties"]["storageAccountIdentity"]["principalId"].as_str().expect("a principal").to_owned();
    assert_ne!(files, disks);
    let mut on = prepared;
    on["parameters"]["encryption"] = json!({ "value": {
        "keySource": "Microsoft.Keyvault", "KeyName": "k1", "keyversion": b.version, "keyvaulturi": b.vault } });
    b.refused("PUT", &id, body(on.clone()), "KeyVaultAuthenticationFailure").await;
    b.lab.grant(9, ENCRYPTION_USER, &files).await.expect(201);
    let read = b.write("PUT", &id, body(on)).await;
    assert_eq!(read["properties"]["parameters"]["encryption"]["value"]["KeyName"], "k1");
}

#[tokio::test]
async fn private_clouds_environments_and_health_services_have_their_own_rules() {
    let b = Bench::start().await;
    let cloud = b.lab.resource_id("Microsoft.AVS/privateClouds", "avs1");
    let made = json!({ "location": "uksouth", "sku": { "name": "av36" }, "identity": { "type": "SystemAssigned" },
        "properties": { "managementCluster": { "clusterSize": 3 }, "networkBlock": "10.0.0.0/22" } });
    let read = b.write("PUT", &cloud, made).await;
    b.lab.grant(8, ENCRYPTION_USER, read["identity"]["principalId"].as_str().expect("a principal")).await.expect(201);
    let on = json!({ "properties": { "encryption": { "status": "Enabled",
        "keyVaultProperties": { "keyVaultUrl": b.vault, "keyName": "k1" } } } });
    let read = b.write("PATCH", &cloud, on).await;
    let shown = &read["properties"]["encryption"]["keyVaultProperties"];
    assert_eq!((&shown["keyState"], &shown["autoDetectedKeyVersion"]), (&json!("Connected"), &json!(b.version)));

    let ise = b.lab.resource_id("Microsoft.Logic/integrationServiceEnvironments", "ise1");
    let key = |vault: &str| {
        json!({ "properties": { "encryptionConfiguration": { "encryptionKeyReference": {
        "keyVault": { "id": b.lab.vault_id(vault) }, "keyName": "k1", "keyVersion": b.version } } } })
    };
    b.refused("PUT", &ise, b.body(key("kv2")), "KeyVaultNotFound").await;
    b.write("PUT", &ise, b.body(key("kv1"))).await;

    let workspace = b.lab.resource_id("Microsoft.HealthcareApis/workspaces", "ws1");
    b.write("PUT", &workspace, json!({ "location": "uksouth", "properties": {} })).await;
    let url = json!({ "encryption": { "customerManagedKeyEncryption": { "keyEncryptionKeyUrl": b.kid } } });
    for service in ["fhirservices", "dicomservices"] {
        let id = format!("{workspace}/{service}/one");
        let long = json!({ "properties": { "encryption": { "customerManagedKeyEncryption": {
            "keyEncryptionKeyUrl": format!("{}/{}", b.lab.key_url(&"k".repeat(92)), b.version) } } } });
        b.refused("PUT", &id, b.body(long), "InvalidKeyIdentifier").await;
        b.write("PUT", &id, b.body(json!({}))).await;
        let read = b.write("PATCH", &id, json!({ "properties": url, "tags": { "a": "b" } })).await;
        assert_eq!((read["properties"].get("encryption"), &read["tags"]["a"]), (None, &json!("b")), "no key by PATCH");
        let read = b.write("PUT", &id, b.body(json!({ "properties": url }))).await;
        assert_eq!(read["properties"]["encryption"], url["encryption"]);
    }
}

#[tokio::test]
async fn an_onboarding_hangs_on_its_workspace() {
    let b = Bench::start().await;
    let workspace = b.lab.resource_id("Microsoft.OperationalInsights/workspaces", "log1");
    let id = format!("{workspace}/providers/Microsoft.SecurityInsights/onboardingStates/default");
    let on = json!({ "properties": { "customerManagedKey": true } });
    b.refused("PUT", &id, on.clone(), "ParentResourceNotFound").await;
    b.write("PUT", &workspace, json!({ "location": "uksouth", "properties": {} })).await;
    let made = b.lab.arm("PUT", &id.to_lowercase(), Some(on)).await.expect(201).body;
    assert_eq!(made["id"], id);
    assert_eq!(made["properties"]["customerManagedKey"], true);
    b.refused("PUT", &id, json!({ "properties": { "customerManagedKey": false } }), "BadRequest").await;
    b.refused("PUT", &id.replace("/default", "/other"), json!({}), "InvalidResourceName").await;
}
