//! The key rules of the types in `kinds/backup.rs`, as a client sees them.

use serde_json::{Value, json};

use crate::client::{ENCRYPTION_USER, Lab};
use crate::kind_case::{Case, done};

const LUSTRE: &str = "Microsoft.StorageCache/amlFilesystems";
const CACHE: &str = "Microsoft.StorageCache/caches";
const DELL: &str = "Dell.Storage/filesystems";
const BOX: &str = "Microsoft.DataBox/jobs";
const TRANSFER: &str = "Microsoft.ImportExport/jobs";
const RECOVERY: &str = "Microsoft.RecoveryServices/vaults";
const BACKUP: &str = "Microsoft.DataProtection/backupVaults";

const SUCCEEDED: (&str, &str) = ("/properties/provisioningState", "Succeeded");

fn key_and_vault(lab: &Lab, url: &str) -> Value {
    json!({ "keyEncryptionKey": { "keyUrl": url, "sourceVault": { "id": lab.vault_id("kv1") } } })
}

fn lustre(lab: &Lab, kid: &str) -> Case {
    let subnet = format!("{}/providers/Microsoft.Network/virtualNetworks/v/subnets/s", lab.group());
    let plain = json!({ "location": "uksouth", "sku": { "name": "AMLFS-Durable-Premium-250" }, "zones": ["1"],
        "identity": lab.user_identity(), "properties": { "storageCapacityTiB": 8, "filesystemSubnet": subnet,
            "maintenanceWindow": { "dayOfWeek": "Saturday", "timeOfDayUTC": "02:00" } } });
    Case {
        kind: LUSTRE,
        name: "lustre1",
        steps: vec![("PATCH", json!({ "properties": { "encryptionSettings": key_and_vault(lab, kid) } }))],
        shown: ("/properties/encryptionSettings/keyEncryptionKey/keyUrl", json!(kid)),
        state: SUCCEEDED,
        back: ("PUT", plain.clone(), Some("EncryptionCannotBeDisabled")),
        plain,
    }
}

fn cache(lab: &Lab, kid: &str) -> Case {
    let plain = json!({ "location": "uksouth", "identity": lab.user_identity(), "sku": { "name": "Standard_2G" },
        "properties": { "cacheSizeGB": 3072 } });
    let mut settings = key_and_vault(lab, kid);
    settings["rotationToLatestKeyVersionEnabled"] = true.into();
    Case {
        kind: CACHE,
        name: "cache1",
        steps: vec![(
            "PATCH",
            json!({ "identity": lab.user_identity(), "properties": { "encryptionSettings": settings } }),
        )],
        shown: ("/properties/encryptionSettings/keyEncryptionKey/keyUrl", json!(kid)),
        state: SUCCEEDED,
        back: ("PUT", plain.clone(), None),
        plain,
    }
}

fn dell(lab: &Lab, kid: &str) -> Case {
    const PLATFORM: &str = "Microsoft-managed keys (MMK)";
    Case {
        kind: DELL,
        name: "dell1",
        plain: json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": {
            "marketplace": { "planId": "plan", "offerId": "offer", "planName": "Plan" },
            "delegatedSubnetId": format!("{}/providers/Microsoft.Network/virtualNetworks/v/subnets/s", lab.group()),
            "delegatedSubnetCidr": "10.0.0.0/24", "user": { "email": "boss@example.com" },
            "dellReferenceNumber": "1", "encryption": { "encryptionType": PLATFORM } } }),
        steps: vec![(
            "PATCH",
            json!({ "identity": lab.user_identity(), "properties": { "encryption": {
                "encryptionType": "Customer-managed keys (CMK)", "keyUrl": kid,
                "encryptionIdentityProperties": {
                    "identityType": "UserAssigned", "identityResourceId": lab.identity_id() } } } }),
        )],
        shown: ("/properties/encryption/encryptionType", json!("Customer-managed keys (CMK)")),
        state: SUCCEEDED,
        back: ("PATCH", json!({ "properties": { "encryption": { "encryptionType": PLATFORM } } }), None),
    }
}

fn data_box(lab: &Lab, kid: &str) -> Case {
    let key = |key: Value| json!({ "properties": { "details": { "keyEncryptionKey": key } } });
    let mut with_key = key(json!({ "kekType": "CustomerManaged", "kekUrl": kid,
        "kekVaultResourceID": lab.vault_id("kv1"), "identityProperties": {
            "type": "UserAssigned", "userAssigned": { "resourceId": lab.identity_id() } } }));
    with_key["identity"] = lab.user_identity();
    Case {
        kind: BOX,
        name: "box1",
        plain: json!({ "location": "uksouth", "sku": { "name": "DataBox" }, "properties": {
            "transferType": "ImportToAzure", "details": { "jobDetailsType": "DataBox",
                "contactDetails": { "contactName": "Boss", "phone": "1", "emailList": ["boss@example.com"] },
                "keyEncryptionKey": { "kekType": "MicrosoftManaged" } } } }),
        steps: vec![("PATCH", with_key)],
        shown: ("/properties/details/keyEncryptionKey/kekType", json!("CustomerManaged")),
        state: ("", ""),
        back: ("PATCH", key(json!({ "kekType": "MicrosoftManaged" })), None),
    }
}

fn recovery(lab: &Lab) -> Case {
    let key = |url: Value| json!({ "properties": { "encryption": { "keyVaultProperties": { "keyUri": url } } } });
    let mut with_key = key(json!(lab.key_url("k1")));
    with_key["properties"]["encryption"]["kekIdentity"] =
        json!({ "useSystemAssignedIdentity": false, "userAssignedIdentity": lab.identity_id() });
    with_key["properties"]["encryption"]["infrastructureEncryption"] = "Disabled".into();
    Case {
        kind: RECOVERY,
        name: "recovery1",
        plain: json!({ "location": "uksouth", "sku": { "name": "Standard" }, "properties": {} }),
        steps: vec![("PATCH", json!({ "identity": lab.user_identity() })), ("PATCH", with_key)],
        shown: ("/properties/encryption/keyVaultProperties/keyUri", json!(lab.key_url("k1"))),
        state: SUCCEEDED,
        back: ("PATCH", key(Value::Null), Some("EncryptionCannotBeDisabled")),
    }
}

fn backup(lab: &Lab) -> Case {
    let settings =
        |settings: Value| json!({ "properties": { "securitySettings": { "encryptionSettings": settings } } });
    Case {
        kind: BACKUP,
        name: "backup1",
        plain: json!({ "location": "uksouth", "properties": {
            "storageSettings": [{ "datastoreType": "VaultStore", "type": "LocallyRedundant" }] } }),
        steps: vec![
            ("PATCH", json!({ "identity": lab.user_identity() })),
            (
                "PATCH",
                settings(json!({ "state": "Enabled", "keyVaultProperties": { "keyUri": lab.key_url("k1") },
                    "kekIdentity": { "identityType": "UserAssigned", "identityId": lab.identity_id() } })),
            ),
        ],
        shown: ("/properties/securitySettings/encryptionSettings/state", json!("Enabled")),
        state: SUCCEEDED,
        back: ("PATCH", settings(json!({ "state": "Disabled" })), Some("EncryptionCannotBeDisabled")),
    }
}

#[tokio::test]
async fn file_systems_backups_and_jobs_take_keys() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    for case in
        [lustre(&lab, &kid), cache(&lab, &kid), dell(&lab, &kid), data_box(&lab, &kid), recovery(&lab), backup(&lab)]
    {
        case.plays(&lab).await;
    }
}

#[tokio::test]
async fn what_a_vault_was_put_under_stays_when_a_put_leaves_it_out() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    for case in [recovery(&lab), backup(&lab)] {
        let id = lab.resource_id(case.kind, case.name);
        for (method, body) in std::iter::once(&("PUT", case.plain.clone())).chain(&case.steps) {
            done(&lab, &lab.arm(method, &id, Some(body.clone())).await).await;
        }
        let mut again = case.plain.clone();
        again["identity"] = lab.user_identity();
        let answer = lab.arm("PUT", &id, Some(again)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        done(&lab, &answer).await;
        let read = lab.arm("GET", &id, None).await.expect(200).body;
        assert_eq!(read.pointer(case.shown.0), Some(&case.shown.1), "{read}");
    }
}

#[tokio::test]
async fn a_recovery_vault_wants_a_small_key_in_its_own_region() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let big = json!({ "kty": "RSA", "key_size": 3072 });
    lab.keys("POST", "kv1", "/keys/big/create", Some(big)).await.expect(200);
    let case = recovery(&lab);
    let mut body = case.plain.clone();
    body["identity"] = lab.user_identity();
    body["properties"] = case.steps[1].1["properties"].clone();
    let id = lab.resource_id(RECOVERY, "recovery2");
    let mut wrong = body.clone();
    wrong["properties"]["encryption"]["keyVaultProperties"]["keyUri"] = lab.key_url("big").into();
    lab.arm("PUT", &id, Some(wrong)).await.refused(400, "KeyVaultKeyInvalid");
    let mut elsewhere = body.clone();
    elsewhere["location"] = "ukwest".into();
    lab.arm("PUT", &id, Some(elsewhere)).await.refused(400, "KeyVaultRegionMismatch");
    let mut two = body.clone();
    two["properties"]["encryption"]["kekIdentity"]["useSystemAssignedIdentity"] = true.into();
    lab.arm("PUT", &id, Some(two)).await.refused(400, "BadRequest");
    let made = lab.arm("PUT", &id, Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.body);
}

#[tokio::test]
async fn a_power_scale_file_system_wants_a_version() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let case = dell(&lab, &kid);
    let id = lab.resource_id(DELL, "dell2");
    done(&lab, &lab.arm("PUT", &id, Some(case.plain.clone())).await).await;
    let mut body = case.steps[0].1.clone();
    body["properties"]["encryption"]["keyUrl"] = lab.key_url("k1").into();
    lab.arm("PATCH", &id, Some(body)).await.refused(400, "InvalidKeyVersion");
}

#[tokio::test]
async fn an_import_job_looks_as_the_identity_that_the_service_makes_for_it() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let id = lab.resource_id(TRANSFER, "job1");
    let body =
        |key: Value| json!({ "location": "uksouth", "properties": { "jobType": "Import", "encryptionKey": key } });
    let with_key =
        body(json!({ "kekType": "CustomerManaged", "kekUrl": kid, "kekVaultResourceID": lab.vault_id("kv1") }));
    let platform = body(json!({ "kekType": "MicrosoftManaged" }));
    lab.arm("PUT", &id, Some(platform.clone())).await.expect(201);
    lab.arm("PUT", &id, Some(with_key.clone())).await.expect(200);
    let read = lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryptionKey"]["kekUrl"], kid);
    let principal = read["identity"]["principalId"].as_str().expect("a principal");
    lab.grant(8, ENCRYPTION_USER, principal).await.expect(201);
    lab.arm("PUT", &id, Some(with_key.clone())).await.expect(200);
    lab.set_key("k1", false).await;
    lab.arm("PUT", &id, Some(with_key)).await.refused(400, "KeyVaultKeyDisabled");
    lab.arm("PUT", &id, Some(platform)).await.expect(200);
    let read = lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryptionKey"]["kekType"], "MicrosoftManaged");
}
