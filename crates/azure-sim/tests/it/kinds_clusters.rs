//! The key rules of the types in `kinds/clusters.rs`, as a client sees them.

use serde_json::{Value, json};

use crate::client::{ENCRYPTION_USER, Lab};
use crate::kind_case::{Born, Case, first_party, vault};

const CONTAINERS: &str = "Microsoft.ContainerInstance/containerGroups";
const BATCH: &str = "Microsoft.Batch/batchAccounts";
const HADOOP: &str = "Microsoft.HDInsight/clusters";

const SUCCEEDED: (&str, &str) = ("/properties/provisioningState", "Succeeded");
const CONTAINER_SERVICE: &str = "6bb8e274-af5d-4df2-98a3-4fd78b4cafd9";
const TOO_LATE: Option<&str> = Some("EncryptionNotSupportedOnExistingResource");

fn with(body: &Value, member: &str, value: Value) -> Value {
    let mut body = body.clone();
    body["properties"][member] = value;
    body
}

fn group(lab: &Lab) -> Value {
    json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": {
        "sku": "Standard", "osType": "Linux", "containers": [{ "name": "c1", "properties": {
            "image": "mcr.microsoft.com/hello", "resources": { "requests": { "cpu": 1, "memoryInGB": 1.5 } } } }] } })
}

#[tokio::test]
async fn container_groups_and_hadoop_clusters_are_made_with_their_key() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let version = kid.rsplit('/').next().expect("a version").to_owned();
    let key =
        json!({ "vaultBaseUrl": vault(&lab), "keyName": "k1", "keyVersion": version, "identity": lab.identity_id() });
    let plain = group(&lab);
    let with_key = with(&plain, "encryptionProperties", key);
    let case = Born {
        kind: CONTAINERS,
        name: "group1",
        late: vec![
            ("PUT", with_key.clone(), TOO_LATE),
            ("PATCH", json!({ "properties": with_key["properties"], "tags": { "a": "b" } }), None),
        ],
        shown: ("/properties/encryptionProperties/keyVersion", json!(version)),
        state: SUCCEEDED,
        change: ("PUT", with_key.clone()),
        back: ("PUT", plain.clone(), "EncryptionCannotBeDisabled"),
        plain,
        with_key,
    };
    case.plays(&lab).await;

    let disks = json!({ "vaultUri": vault(&lab), "keyName": "k1", "keyVersion": version,
        "encryptionAlgorithm": "RSA-OAEP-256", "msiResourceId": lab.identity_id() });
    let plain = json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": {
        "clusterVersion": "4.0", "osType": "Linux", "tier": "Standard", "clusterDefinition": { "kind": "Hadoop" } } });
    let with_key = with(&plain, "diskEncryptionProperties", disks);
    // The bypass for trusted services does not help it: its own address must be admitted.
    let refused = lab.arm("PUT", &lab.resource_id(HADOOP, "hadoop0"), Some(with_key.clone())).await;
    refused.refused(400, "KeyVaultAuthenticationFailure");
    let rules = json!({ "properties": { "networkAcls": { "bypass": "None", "defaultAction": "Deny",
        "ipRules": [{ "value": "203.0.113.0/24" }, { "value": "23.99.5.239/32" }] } } });
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(rules)).await.expect(200);
    let case = Born {
        kind: HADOOP,
        name: "hadoop1",
        late: vec![
            ("PUT", with_key.clone(), TOO_LATE),
            ("PATCH", json!({ "properties": with_key["properties"], "tags": { "a": "b" } }), None),
        ],
        shown: ("/properties/diskEncryptionProperties/keyName", json!("k1")),
        state: SUCCEEDED,
        change: ("PUT", with_key.clone()),
        back: ("PUT", plain.clone(), "EncryptionCannotBeDisabled"),
        plain,
        with_key,
    };
    case.plays(&lab).await;
}

#[tokio::test]
async fn a_container_group_without_a_named_identity_is_looked_after_by_azures_own() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let version = kid.rsplit('/').next().expect("a version").to_owned();
    let id = lab.resource_id(CONTAINERS, "group1");
    let key = json!({ "vaultBaseUrl": vault(&lab), "keyName": "k1", "keyVersion": version });
    let body = with(&group(&lab), "encryptionProperties", key);
    let mut versionless = body.clone();
    versionless["properties"]["encryptionProperties"]["keyVersion"] = "".into();
    lab.arm("PUT", &id, Some(versionless)).await.refused(400, "InvalidKeyVersion");
    lab.arm("PUT", &id, Some(body.clone())).await.refused(400, "KeyVaultAuthenticationFailure");
    lab.grant(8, ENCRYPTION_USER, &first_party(&lab, CONTAINER_SERVICE).await).await.expect(201);
    lab.arm("PUT", &id, Some(body)).await.expect(201);
    lab.advance(3);
    let read = lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryptionProperties"]["keyVersion"], version);
}

#[tokio::test]
async fn a_batch_account_uses_whichever_identity_it_was_made_with() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let encryption = |encryption: Value| json!({ "properties": { "encryption": encryption } });
    let key = encryption(json!({ "keySource": "Microsoft.KeyVault",
        "keyVaultProperties": { "keyIdentifier": lab.key_url("k1") } }));
    let case = Case {
        kind: BATCH,
        name: "batch1",
        plain: json!({ "location": "uksouth", "identity": lab.user_identity() }),
        steps: vec![("PATCH", key.clone())],
        shown: ("/properties/encryption/keySource", json!("Microsoft.KeyVault")),
        state: SUCCEEDED,
        back: ("PATCH", encryption(json!({ "keySource": "Microsoft.Batch" })), None),
    };
    case.plays(&lab).await;
    let id = lab.resource_id(BATCH, "batch2");
    lab.arm("PUT", &id, Some(json!({ "location": "uksouth" }))).await.expect(200);
    lab.advance(3);
    let read = lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryption"], json!({ "keySource": "Microsoft.Batch" }));
    lab.arm("PATCH", &id, Some(key)).await.refused(400, "InvalidEncryptionIdentity");
    let both = json!({ "location": "uksouth", "identity": {
        "type": "SystemAssigned,UserAssigned", "userAssignedIdentities": { lab.identity_id(): {} } } });
    assert_eq!(lab.arm("PUT", &id, Some(both)).await.status, 400, "one kind of identity at a time");
}
