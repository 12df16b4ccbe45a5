//! The state file: a cloud that goes on where it was, and files that are not taken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use azure_sim::{Lag, Options, Propagation, Simulator};
use serde_json::{Value, json};

use crate::blob_client::Account;
use crate::client::{Lab, options};

/// Key Vault Crypto User.
const USER: &str = "12338af0-0e69-4776-bea7-57ae8d297424";

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("azure-sim-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("cloud.json")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kept(file: &Path) -> Options {
    let mut options = options();
    options.persist = Some(file.to_owned());
    options.fast_keys = false;
    options.token_lifetime = Duration::from_secs(90 * 24 * 3600);
    options
}

async fn stop(lab: Lab) {
    let Lab { sim, .. } = lab;
    sim.shutdown().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = Folder::new();
    let lab = Lab::with(kept(&folder.file())).await;
    let kid = lab.ground_with_key().await;
    let accepted = lab.arm("PUT", &lab.account_id("stcmk1"), Some(lab.account_body(""))).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let account = Account::of(&lab, "stcmk1").await;
    account.send("PUT", "/box1?restype=container", &[], b"").await.expect(201);
    account.put("/box1/b1", b"bytes of the customer").await.expect(201);
    let backup = lab.keys("POST", "kv1", "/keys/k1/backup", None).await.expect(200);
    lab.keys("POST", "kv1", "/keys/gone/create", Some(json!({ "kty": "RSA", "key_size": 2048 }))).await.expect(200);
    lab.keys("DELETE", "kv1", "/keys/gone", None).await.expect(200);
    lab.provisioned(lab.hsm_body()).await;
    assert!(lab.sim.activate_hsm("hsm1"));
    let (secret, before) = (lab.sim.client_secret().to_owned(), lab.sim.snapshot());
    // A grant is on its way when the cloud stops.
    lab.sim.set_propagation(Propagation { grant: Lag::seconds(60.0), ..Propagation::instant() });
    let outsider = Options::default().outsider_object_id;
    lab.grant(9, USER, &outsider).await.expect(201);
    // At the same address, as a cloud that is kept has one: vaults are known by their URLs.
    let address = lab.sim.address();
    stop(lab).await;

    let lab = Lab::with(Options { listen: address, ..kept(&folder.file()) }).await;
    assert_eq!(lab.sim.client_secret(), secret, "the same secrets");
    let after = lab.sim.snapshot();
    for part in ["vaults", "groups", "identities", "storageAccounts", "hsms"] {
        let names = |all: &Value| all[part].as_object().map(|m| m.keys().cloned().collect::<Vec<_>>());
        assert_eq!(names(&after), names(&before), "{part}");
    }
    let key = lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
    let version = |id: &str| id.rsplit('/').next().map(str::to_owned);
    assert_eq!(version(key.body["key"]["kid"].as_str().expect("an id")), version(&kid));
    lab.keys("POST", "kv1", "/deletedkeys/gone/recover", None).await.expect(200);
    lab.hsm("GET", "/keys", None).await.refused(403, "AccessDenied");
    let (id, secret) = lab.sim.outsider();
    let late = lab.token_as(id, secret, &format!("https://{}/.default", lab.sim.vault_suffix())).await;
    lab.keys_as(&late, "GET", "kv1", "/keys/k1", None).await.refused(403, "Forbidden/ForbiddenByRbac");
    lab.advance(60);
    lab.keys_as(&late, "GET", "kv1", "/keys/k1", None).await.expect(200);
    let account = Account::of(&lab, "stcmk1").await;
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, b"bytes of the customer", "they still decrypt");
    // A backup made before is of this cloud.
    lab.keys("POST", "kv1", "/keys/restore", Some(backup.body)).await.refused(409, "Conflict");
    lab.keys("PATCH", "kv1", "/keys/k1", Some(json!({ "attributes": { "enabled": false } }))).await.expect(200);
    lab.advance(3600);
    account.get("/box1/b1").await.refused(403, "KeyVaultEncryptionKeyNotFound");
}

#[tokio::test]
async fn what_is_on_its_way_stays_on_its_way_and_the_clock_goes_on() {
    let folder = Folder::new();
    let lab = Lab::with(kept(&folder.file())).await;
    lab.ground_with_key().await;
    lab.advance(86_400);
    let then = lab.sim.clock().now();
    lab.sim.set_propagation(Propagation { firewall: Lag::seconds(500.0), ..Propagation::instant() });
    let closed = json!({ "properties": { "networkAcls": { "bypass": "None", "defaultAction": "Deny" } } });
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(closed)).await.expect(200);
    stop(lab).await;
    let lab = Lab::with(kept(&folder.file())).await;
    assert!(lab.sim.clock().now() >= then, "time does not go back");
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
    lab.advance(500);
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(403, "Forbidden/ForbiddenByFirewall");
}

#[tokio::test]
async fn files_that_are_not_its_own_are_refused_and_left_as_they_are() {
    let folder = Folder::new();
    for (text, why) in [("{", "not a state file"), (r#"{"format":999}"#, "format 999"), (r#"{"format":1}"#, "damaged")]
    {
        std::fs::write(folder.file(), text).expect("written");
        let refused = Simulator::start(kept(&folder.file())).await.expect_err("it is no state").to_string();
        assert!(refused.contains(why) && refused.lines().count() == 1, "{refused}");
        assert_eq!(std::fs::read_to_string(folder.file()).expect("it is there"), text);
    }
    std::fs::remove_file(folder.file()).expect("removed");
    stop(Lab::with(kept(&folder.file())).await).await;
    let mut other = kept(&folder.file());
    other.tenant_id = "99999999-1111-4111-8111-111111111111".to_owned();
    let refused = Simulator::start(other).await.expect_err("another tenant's").to_string();
    assert!(refused.contains("its tenant is"), "{refused}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.file()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "keys are in it");
    }
}

#[tokio::test]
async fn a_seed_file_makes_a_new_cloud_and_says_where_it_is_wrong() {
    let folder = Folder::new();
    let seed = folder.0.join("seed.json");
    let group = "/subscriptions/{subscription}/resourceGroups/rg-seed";
    let mut body = json!({
        "principals": [{ "name": "ci", "clientId": "aaaaaaaa-0000-4000-8000-000000000001",
            "objectId": "aaaaaaaa-0000-4000-8000-000000000002", "secrets": ["s3cret"] }],
        "issuers": [{ "issuer": "https://issuer.example", "jwks": { "keys": [] } }],
        "resources": [
            { "id": group, "apiVersion": "2024-03-01", "body": { "location": "uksouth" } },
            { "id": format!("{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1"),
                "apiVersion": "2023-01-31", "body": { "location": "uksouth" } },
            { "id": format!("{group}/providers/Microsoft.KeyVault/vaults/kvseed1"), "apiVersion": "2023-07-01",
                "body": { "location": "uksouth", "properties": { "tenantId": "{tenant}", "enableRbacAuthorization": true,
                    "enablePurgeProtection": true, "sku": { "family": "A", "name": "standard" } } } },
            { "id": format!("{group}/providers/Microsoft.KeyVault/vaults/kvseed1/keys/k1"), "apiVersion": "2023-07-01",
                "body": { "properties": { "kty": "RSA", "keySize": 2048 } } },
        ],
    });
    let start = async |body: &Value| {
        std::fs::write(&seed, body.to_string()).expect("written");
        let mut options = kept(&folder.file());
        options.seed_file = Some(seed.clone());
        options.propagation = Propagation::default();
        Simulator::start(options).await.map(|_| ()).map_err(|e| e.to_string())
    };
    let mut wrong = body.clone();
    wrong["resources"][2]["body"]["properties"]["enablePurgeProtection"] = json!(false);
    let told = start(&wrong).await.expect_err("refused as Azure refuses it");
    assert!(told.contains("/resources/2") && told.contains("enablePurgeProtection"), "{told}");
    wrong = body.clone();
    wrong["resources"][0]["colour"] = json!("red");
    let told = start(&wrong).await.expect_err("an unknown member");
    assert!(told.contains("unknown field `colour`") && told.contains("line 1"), "{told}");
    wrong = body.clone();
    wrong["principals"][0]["clientId"] = json!("33333333-3333-4333-8333-333333333333");
    assert!(start(&wrong).await.expect_err("taken").contains("/principals/0"));

    let mut options = kept(&folder.file());
    options.seed_file = Some(seed.clone());
    std::fs::write(&seed, body.to_string()).expect("written");
    let lab = Lab::with(options).await;
    let token =
        lab.token_as("aaaaaaaa-0000-4000-8000-000000000001", "s3cret", "https://management.azure.com/.default").await;
    assert!(!token.is_empty());
    let path = format!(
        "{}/providers/Microsoft.KeyVault/vaults/kvseed1/keys/k1",
        group.replace("{subscription}", lab.sim.subscription_id())
    );
    lab.arm("GET", &path, None).await.expect(200);
    assert_eq!(
        lab.sim.journal().entries().iter().filter(|e| e.method == "PUT").count(),
        0,
        "what the seed did is not told"
    );
    stop(lab).await;
    // Over a cloud that goes on, the seed is not sown again.
    body["resources"] = json!([{ "id": group, "apiVersion": "2024-03-01", "body": { "location": "elsewhere" } }]);
    start(&body).await.expect("the file is not looked at");
}
