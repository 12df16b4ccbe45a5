//! The key rules of the types in `kinds/data.rs`, as a client sees them.

use serde_json::{Value, json};

use crate::client::{ENCRYPTION_USER, Lab};
use crate::kind_case::{Case, common, done, vault};

const MYSQL: &str = "Microsoft.DBforMySQL/flexibleServers";
const REDIS: &str = "Microsoft.Cache/redisEnterprise";
const KUSTO: &str = "Microsoft.Kusto/clusters";
const LOGS: &str = "Microsoft.OperationalInsights/clusters";
const FACTORY: &str = "Microsoft.DataFactory/factories";

#[tokio::test]
async fn keys_are_taken_and_given_up_again() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let identity = json!({ "identity": lab.user_identity() });
    let cluster_key = json!({ "keyVaultUri": vault(&lab), "keyName": "k1", "keyVersion": "" });
    let mut kusto_key = cluster_key.clone();
    kusto_key["userIdentity"] = lab.identity_id().into();
    let cases = [
        Case {
            kind: MYSQL,
            name: "mysql1",
            plain: json!({ "location": "uksouth", "sku": { "name": "Standard_D2ds_v4", "tier": "GeneralPurpose" },
                "properties": { "version": "8.0.21", "administratorLogin": "boss",
                    "administratorLoginPassword": "S3cret-pass" } }),
            steps: vec![(
                "PATCH",
                json!({ "identity": lab.user_identity(), "properties": { "dataEncryption": { "type": "AzureKeyVault",
                    "primaryKeyURI": kid, "primaryUserAssignedIdentityId": lab.identity_id() } } }),
            )],
            shown: ("/properties/dataEncryption/primaryKeyURI", json!(kid)),
            state: ("/properties/state", "Ready"),
            back: ("PATCH", json!({ "properties": { "dataEncryption": { "type": "SystemManaged" } } }), None),
        },
        Case {
            kind: REDIS,
            name: "redis1",
            plain: json!({ "location": "uksouth", "sku": { "name": "Balanced_B5" },
                "properties": { "publicNetworkAccess": "Disabled", "minimumTlsVersion": "1.2" } }),
            steps: vec![(
                "PATCH",
                json!({ "identity": lab.user_identity(),
                    "properties": { "encryption": common(&lab, &kid, "userAssignedIdentity") } }),
            )],
            shown: ("/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyUrl", json!(kid)),
            state: ("/properties/resourceState", "Running"),
            back: ("PATCH", json!({ "properties": { "encryption": { "customerManagedKeyEncryption": {} } } }), None),
        },
        Case {
            kind: KUSTO,
            name: "kusto1",
            plain: json!({ "location": "uksouth",
                "sku": { "name": "Standard_E8ads_v5", "tier": "Standard", "capacity": 2 } }),
            steps: vec![
                ("PATCH", identity.clone()),
                ("PATCH", json!({ "properties": { "keyVaultProperties": kusto_key } })),
            ],
            shown: ("/properties/keyVaultProperties/keyName", json!("k1")),
            state: ("/properties/provisioningState", "Succeeded"),
            back: ("PATCH", json!({ "properties": { "keyVaultProperties": {} } }), None),
        },
        Case {
            kind: LOGS,
            name: "logs1",
            plain: json!({ "location": "uksouth", "sku": { "name": "CapacityReservation", "capacity": 100 } }),
            steps: vec![
                ("PATCH", identity.clone()),
                ("PATCH", json!({ "properties": { "keyVaultProperties": cluster_key } })),
            ],
            shown: ("/properties/keyVaultProperties/keyName", json!("k1")),
            state: ("/properties/provisioningState", "Succeeded"),
            back: (
                "PUT",
                json!({ "location": "uksouth", "identity": lab.user_identity(),
                    "sku": { "name": "CapacityReservation", "capacity": 100 }, "properties": { "keyVaultProperties": {
                        "keyVaultUri": "", "keyName": "", "keyVersion": "" } } }),
                None,
            ),
        },
        Case {
            kind: FACTORY,
            name: "factory1",
            plain: json!({ "location": "uksouth", "properties": {} }),
            steps: vec![(
                "PUT",
                json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": { "encryption": {
                    "vaultBaseUrl": vault(&lab), "keyName": "k1", "keyVersion": kid.rsplit('/').next(),
                    "identity": { "userAssignedIdentity": lab.identity_id() } } } }),
            )],
            shown: ("/properties/encryption/keyName", json!("k1")),
            state: ("/properties/provisioningState", "Succeeded"),
            back: (
                "PUT",
                json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": {} }),
                Some("EncryptionCannotBeDisabled"),
            ),
        },
    ];
    for case in &cases {
        case.plays(&lab).await;
    }
}

#[tokio::test]
async fn a_redis_cache_wants_a_version_and_a_user_assigned_identity() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let id = lab.resource_id(REDIS, "redis1");
    let body = |encryption: Value| {
        json!({ "location": "uksouth", "sku": { "name": "Balanced_B5" }, "identity": lab.user_identity(),
            "properties": { "publicNetworkAccess": "Disabled", "encryption": encryption } })
    };
    let versionless = body(common(&lab, &lab.key_url("k1"), "userAssignedIdentity"));
    lab.arm("PUT", &id, Some(versionless)).await.refused(400, "InvalidKeyVersion");
    let mut nobody = common(&lab, &kid, "systemAssignedIdentity");
    nobody["customerManagedKeyEncryption"]["keyEncryptionKeyIdentity"] =
        json!({ "identityType": "systemAssignedIdentity" });
    lab.arm("PUT", &id, Some(body(nobody))).await.refused(400, "InvalidEncryptionIdentity");
}

#[tokio::test]
async fn a_log_cluster_takes_identity_and_key_one_after_the_other() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let id = lab.resource_id(LOGS, "logs1");
    let plain = json!({ "location": "uksouth", "sku": { "name": "CapacityReservation", "capacity": 100 } });
    let made = lab.arm("PUT", &id, Some(plain.clone())).await.expect(201);
    lab.arm("PATCH", &id, Some(json!({ "tags": { "a": "b" } }))).await.refused(400, "InvalidParameter");
    done(&lab, &made).await;
    let key = json!({ "keyVaultProperties": { "keyVaultUri": vault(&lab), "keyName": "k1", "keyVersion": "" } });
    let both = json!({ "identity": lab.user_identity(), "properties": key });
    lab.arm("PATCH", &id, Some(both)).await.refused(400, "InvalidParameter");
    for body in [json!({ "identity": lab.user_identity() }), json!({ "properties": key })] {
        done(&lab, &lab.arm("PATCH", &id, Some(body)).await.expect(200)).await;
    }
    let whole = lab.arm("GET", &id, None).await.expect(200).body;
    lab.arm("PUT", &id, Some(whole)).await.refused(400, "InvalidParameter");
    // Neither nothing nor an empty object takes the key away.
    for wrong in [Value::Null, json!({})] {
        let body = json!({ "properties": { "keyVaultProperties": wrong } });
        done(&lab, &lab.arm("PATCH", &id, Some(body)).await.expect(200)).await;
        let read = lab.arm("GET", &id, None).await.expect(200).body;
        assert_eq!(read["properties"]["keyVaultProperties"]["keyName"], "k1");
    }
}

#[tokio::test]
async fn a_factory_takes_a_key_by_put_and_while_it_is_empty() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let id = lab.resource_id(FACTORY, "factory1");
    let body = json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": { "encryption": {
        "vaultBaseUrl": vault(&lab), "keyName": "k1", "identity": { "userAssignedIdentity": lab.identity_id() } } } });
    lab.arm("PUT", &id, Some(json!({ "location": "uksouth" }))).await.expect(200);
    let patched = lab.arm("PATCH", &id, Some(json!({ "properties": body["properties"] }))).await.expect(200).body;
    assert_eq!(patched["properties"]["encryption"], Value::Null, "a PATCH cannot carry it");
    for artefact in ["pipelines", "linkedservices", "dataflows", "datasets"] {
        let inside = format!("{id}/{artefact}/one");
        lab.arm("PUT", &inside, Some(json!({ "properties": {} }))).await.expect(200);
        lab.arm("PUT", &id, Some(body.clone())).await.refused(400, "EncryptionNotSupportedOnExistingResource");
        lab.arm("DELETE", &inside, None).await.expect(200);
    }
    lab.arm("PUT", &id, Some(body)).await.expect(200);
}

#[tokio::test]
async fn a_mongo_cluster_takes_its_key_at_creation_only() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let id = |name: &str| lab.resource_id("Microsoft.DocumentDB/mongoClusters", name);
    let mut body = json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": {
        "administrator": { "userName": "boss", "password": "S3cret-pass" }, "serverVersion": "8.0",
        "compute": { "tier": "M30" }, "storage": { "sizeGb": 128 }, "sharding": { "shardCount": 1 } } });
    done(&lab, &lab.arm("PUT", &id("plain"), Some(body.clone())).await.expect(201)).await;
    let key = common(&lab, &lab.key_url("k1"), "UserAssignedIdentity");
    let late = json!({ "properties": { "encryption": key } });
    lab.arm("PATCH", &id("plain"), Some(late.clone())).await.refused(400, "EncryptionNotSupportedOnExistingResource");
    body["properties"]["encryption"] = key;
    done(&lab, &lab.arm("PUT", &id("cmk"), Some(body)).await.expect(201)).await;
    let read = lab.arm("GET", &id("cmk"), None).await.expect(200).body;
    assert_eq!(
        read.pointer("/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyUrl"),
        Some(&json!(lab.key_url("k1")))
    );
    lab.set_key("k1", false).await;
    lab.arm("PATCH", &id("cmk"), Some(late)).await.refused(400, "KeyVaultKeyDisabled");
    let off = json!({ "properties": { "encryption": { "customerManagedKeyEncryption": {} } } });
    lab.arm("PATCH", &id("cmk"), Some(off)).await.refused(400, "EncryptionCannotBeDisabled");
}

#[tokio::test]
async fn a_cassandra_data_center_takes_its_keys_as_the_cluster() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let cluster = lab.resource_id("Microsoft.DocumentDB/cassandraClusters", "cass1");
    let center = format!("{cluster}/dataCenters/dc1");
    let body = json!({ "location": "uksouth", "properties": { "cassandraVersion": "4.0" } });
    done(&lab, &lab.arm("PUT", &cluster, Some(body)).await.expect(201)).await;
    let plain = json!({ "properties": { "dataCenterLocation": "uksouth", "nodeCount": 3 } });
    done(&lab, &lab.arm("PUT", &center, Some(plain)).await.expect(201)).await;
    let key = json!({ "properties": { "managedDiskCustomerKeyUri": kid, "backupStorageCustomerKeyUri": kid } });
    lab.arm("PATCH", &center, Some(key.clone())).await.refused(400, "InvalidEncryptionIdentity");
    let identity = json!({ "identity": { "type": "SystemAssigned" } });
    done(&lab, &lab.arm("PATCH", &cluster, Some(identity)).await.expect(202)).await;
    lab.arm("PATCH", &center, Some(key.clone())).await.refused(400, "KeyVaultAuthenticationFailure");
    let read = lab.arm("GET", &cluster, None).await.expect(200).body;
    let principal = read["identity"]["principalId"].as_str().expect("a principal id");
    lab.grant(3, ENCRYPTION_USER, principal).await.expect(201);
    lab.sim.settle();
    done(&lab, &lab.arm("PATCH", &center, Some(key.clone())).await.expect(202)).await;
    let read = lab.arm("GET", &center, None).await.expect(200).body;
    assert_eq!(read["properties"]["backupStorageCustomerKeyUri"], kid);
    assert_eq!(read["properties"]["provisioningState"], "Succeeded");
    lab.set_key("k1", false).await;
    lab.arm("PATCH", &center, Some(key)).await.refused(400, "KeyVaultKeyDisabled");
    let off = json!({ "properties": { "managedDiskCustomerKeyUri": null } });
    lab.arm("PATCH", &center, Some(off)).await.refused(400, "EncryptionCannotBeDisabled");
}

#[tokio::test]
async fn a_managed_instance_takes_its_key_in_three_calls() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let instance = lab.resource_id("Microsoft.Sql/managedInstances", "mi1");
    let protector = format!("{instance}/encryptionProtector/current");
    let body = json!({ "location": "uksouth", "sku": { "name": "GP_Gen5" }, "properties": {
        "administratorLogin": "boss", "administratorLoginPassword": "S3cret-pass" } });
    done(&lab, &lab.arm("PUT", &instance, Some(body)).await.expect(202)).await;
    let name = format!("kv1_k1_{}", kid.rsplit('/').next().expect("a version"));
    let key = json!({ "properties": { "serverKeyType": "AzureKeyVault", "uri": kid } });
    let key_path = format!("{instance}/keys/{name}");
    lab.arm("PUT", &key_path, Some(key.clone())).await.refused(401, "AzureKeyVaultNoServerIdentity");
    let nominate = json!({ "identity": lab.user_identity(),
        "properties": { "primaryUserAssignedIdentityId": lab.identity_id() } });
    done(&lab, &lab.arm("PATCH", &instance, Some(nominate)).await.expect(202)).await;
    let turn = json!({ "properties": {
        "serverKeyType": "AzureKeyVault", "serverKeyName": name, "autoRotationEnabled": true } });
    lab.arm("PUT", &protector, Some(turn.clone())).await.refused(409, "ServerKeyDoesNotExists");
    done(&lab, &lab.arm("PUT", &key_path, Some(key)).await.expect(202)).await;
    done(&lab, &lab.arm("PUT", &protector, Some(turn.clone())).await.expect(202)).await;
    let read = lab.arm("GET", &protector, None).await.expect(200).body;
    assert_eq!((&read["properties"]["uri"], &read["properties"]["serverKeyName"]), (&json!(kid), &json!(name)));
    assert_eq!(read["properties"]["keyVersion"], Value::Null);
    lab.set_key("k1", false).await;
    let refused = lab.arm("PUT", &protector, Some(turn)).await.expect(202);
    let status = lab.status_of(&refused).await;
    assert_eq!((&status["status"], &status["error"]["code"]), (&json!("Failed"), &json!("AzureKeyVaultKeyDisabled")));
    let back = json!({ "properties": { "serverKeyType": "ServiceManaged", "serverKeyName": "" } });
    done(&lab, &lab.arm("PUT", &protector, Some(back)).await.expect(202)).await;
    let read = lab.arm("GET", &protector, None).await.expect(200).body;
    assert_eq!(read["properties"]["serverKeyType"], "ServiceManaged");
}

#[tokio::test]
async fn a_database_takes_a_key_of_its_own() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let server = lab.resource_id("Microsoft.Sql/servers", "sql1");
    let database = format!("{server}/databases/db1");
    let body = json!({ "location": "uksouth", "properties": {
        "administratorLogin": "boss", "administratorLoginPassword": "S3cret-pass" } });
    done(&lab, &lab.arm("PUT", &server, Some(body)).await.expect(202)).await;
    done(&lab, &lab.arm("PUT", &database, Some(json!({ "location": "uksouth" }))).await.expect(202)).await;
    let key = json!({ "identity": lab.user_identity(), "properties": {
        "encryptionProtector": kid, "encryptionProtectorAutoRotation": true } });
    done(&lab, &lab.arm("PATCH", &database, Some(key.clone())).await.expect(202)).await;
    let read = lab.arm("GET", &database, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryptionProtector"], kid);
    assert_eq!(read["properties"]["keys"][&kid]["type"], "AzureKeyVault");
    assert_eq!(read["properties"]["status"], "Online");
    lab.set_key("k1", false).await;
    let refused = lab.arm("PATCH", &database, Some(key)).await.expect(202);
    assert_eq!(lab.status_of(&refused).await["error"]["code"], "AzureKeyVaultKeyDisabled");
    lab.set_key("k1", true).await;
    let off = json!({ "properties": { "encryptionProtector": "" } });
    lab.arm("PATCH", &database, Some(off)).await.refused(400, "EncryptionCannotBeDisabled");
}

#[tokio::test]
async fn a_synapse_workspace_takes_a_key_at_creation_and_another_one_later() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let create = json!({ "kty": "RSA", "key_size": 3072 });
    lab.keys("POST", "kv1", "/keys/k2/create", Some(create)).await.expect(200);
    let id = |name: &str| lab.resource_id("Microsoft.Synapse/workspaces", name);
    let mut body = json!({ "location": "uksouth",
        "identity": { "type": "SystemAssigned,UserAssigned", "userAssignedIdentities": { lab.identity_id(): {} } },
        "properties": { "sqlAdministratorLogin": "boss", "sqlAdministratorLoginPassword": "S3cret-pass" } });
    done(&lab, &lab.arm("PUT", &id("plain"), Some(body.clone())).await.expect(201)).await;
    let key = |name: &str| json!({ "properties": { "isActiveCMK": true, "keyVaultUrl": lab.key_url(name) } });
    let late = lab.arm("PUT", &format!("{}/keys/default", id("plain")), Some(key("k1"))).await;
    late.refused(400, "EncryptionNotSupportedOnExistingResource");
    body["properties"]["encryption"] = json!({ "cmk": {
        "key": { "name": "default", "keyVaultUrl": lab.key_url("k1") },
        "kekIdentity": { "userAssignedIdentity": lab.identity_id(), "useSystemAssignedIdentity": false } } });
    done(&lab, &lab.arm("PUT", &id("cmk"), Some(body)).await.expect(201)).await;
    let status = |read: &Value| read["properties"]["encryption"]["cmk"]["status"].clone();
    assert_eq!(status(&lab.arm("GET", &id("cmk"), None).await.expect(200).body), "Consistent");
    lab.set_key("k2", false).await;
    let other = format!("{}/keys/other", id("cmk"));
    lab.arm("PUT", &other, Some(key("k2"))).await.refused(400, "KeyVaultKeyDisabled");
    lab.set_key("k2", true).await;
    lab.arm("PUT", &other, Some(key("k2"))).await.expect(200);
    let read = lab.arm("GET", &id("cmk"), None).await.expect(200).body;
    assert_eq!(read["properties"]["encryption"]["cmk"]["key"]["name"], "other");
    let first = lab.arm("GET", &format!("{}/keys/default", id("cmk")), None).await.expect(200).body;
    assert_eq!(first["properties"]["isActiveCMK"], false);
}
