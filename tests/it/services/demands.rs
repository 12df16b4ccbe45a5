//! What single services ask of their target, their key and their key store: refused at intake where the request tells it,
//! and before the first change where only a look does.
//!
//! What belongs here: one case for each word of the catalogue that says such a thing. What does not: the ways that succeed,
//! which are cells of the matrix.

use cmk::azure::CallContext;
use cmk::domain::codes::Code;
use cmk::domain::job::JobState;
use cmk::domain::request::{IdentityKind, KeyVersion};
use cmk::services::{find, rules};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Cell, Place};
use crate::support::world::parse;

const GROUP: &str = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";

/// A request for a target that exists, and a vault that is created.
fn request(resource_type: &str, service: &str) -> Value {
    let (namespace, types) = resource_type.split_once('/').expect("a namespace and a type");
    let path: Vec<String> = types.split('/').map(|t| format!("{t}/svctarget1")).collect();
    json!({
        "target": { "resourceId": format!("{GROUP}/{namespace}/{}", path.join("/")), "service": service },
        "keyStore": {
            "resourceId": format!("{GROUP}/Microsoft.KeyVault/vaults/kv1"), "create": { "location": "uksouth" },
        },
        "key": { "version": "pinned", "size": 2048 },
    })
}

/// The pointers of the faults; each has words.
fn told(body: &Value) -> Vec<String> {
    let (_, faults) = rules::check(&parse(body));
    assert!(faults.iter().all(|f| f.detail.len() > 30), "{faults:?}");
    faults.into_iter().map(|f| f.pointer).collect()
}

#[test]
fn what_the_request_tells_is_refused_at_intake() {
    let mut mysql = request("Microsoft.DBforMySQL/flexibleServers", "mysql-flexible-server");
    assert_eq!(told(&mysql), Vec::<String>::new());
    mysql["keyStore"]["create"]["softDeleteRetentionDays"] = json!(30);
    assert_eq!(told(&mysql), ["/keyStore/create/softDeleteRetentionDays"]);

    let mut fhir = request("Microsoft.HealthcareApis/workspaces/fhirservices", "fhir-service");
    fhir["key"]["name"] = json!("k".repeat(91));
    assert_eq!(told(&fhir), Vec::<String>::new());
    fhir["key"]["name"] = json!("k".repeat(92));
    assert_eq!(told(&fhir), ["/key/name"]);

    let mut netapp = request("Microsoft.NetApp/netAppAccounts", "netapp-account");
    netapp["key"]["version"] = json!("latest");
    assert_eq!(told(&netapp), ["/keyStore/create"], "a vault that is created has no private endpoint");
    netapp["keyStore"].as_object_mut().expect("an object").remove("create");
    assert_eq!(told(&netapp), Vec::<String>::new());
    netapp["key"]["operations"] = json!(["wrapKey", "unwrapKey", "encrypt"]);
    assert_eq!(told(&netapp), ["/key/operations"], "it decrypts with the key");

    let mut backup = request("Microsoft.DataProtection/backupVaults", "backup-vault");
    assert_eq!(told(&backup), ["/keyStore/create"], "a created vault has a firewall");
    backup["identity"] = json!({ "kind": "systemAssigned" });
    assert_eq!(told(&backup), Vec::<String>::new());

    let mut batch = request("Microsoft.Batch/batchAccounts", "batch-account");
    batch["target"]["create"] = json!({ "location": "uksouth" });
    assert_eq!(told(&batch), Vec::<String>::new());
    batch["target"]["create"]["properties"] = json!({ "poolAllocationMode": "UserSubscription" });
    assert_eq!(told(&batch), ["/target/create/properties/poolAllocationMode"]);

    let mut registry = request("Microsoft.ContainerRegistry/registries", "container-registry");
    registry["target"]["create"] = json!({ "location": "uksouth", "sku": "Basic" });
    assert_eq!(told(&registry), ["/target/create/sku"]);
}

#[test]
fn a_cluster_that_would_need_a_password_or_a_way_in_is_refused() {
    let mut body = request("Microsoft.HDInsight/clusters", "hdinsight-cluster");
    let gateway = "/properties/clusterDefinition/configurations/gateway/restAuthEntraUsers";
    body["target"]["create"] = json!({ "location": "uksouth" });
    let entra = format!("/target/create{gateway}");
    assert_eq!(told(&body), [entra, "/keyStore/create/network/allowedIps".to_owned()]);
    body["target"]["create"]["properties"] = json!({
        "clusterDefinition": { "configurations": { "gateway": { "restAuthEntraUsers": [] } } },
        "storageProfile": { "storageaccounts": [{ "key": "c2VjcmV0" }] },
        "computeProfile": { "roles": [{ "osProfile": { "linuxOperatingSystemProfile": { "password": "p" } } }] },
    });
    let found = told(&body);
    assert_eq!(
        found,
        [
            "/target/create/properties/storageProfile/storageaccounts/0/key",
            "/target/create/properties/computeProfile/roles/0/osProfile/linuxOperatingSystemProfile/password",
            "/keyStore/create/network/allowedIps",
        ]
    );
}

const EXISTING: Cell =
    Cell { creating: false, identity: IdentityKind::UserAssigned, version: KeyVersion::Pinned, hsm: false };

async fn place(slug: &str) -> Place {
    let place = Place::new(find(slug).expect("it is in the catalogue")).await;
    place.arrange(0, EXISTING).await;
    place
}

/// The code with which the job fails before it changes anything in the target or the vault.
async fn refused(place: &Place) -> Option<Code> {
    let before = place.world.changes().len();
    let job = place.world.provision(&place.request(0, EXISTING)).await;
    assert_eq!(job.state, JobState::Failed);
    let changed: Vec<_> = place.world.changes().into_iter().skip(before).collect();
    let aside =
        |change: &String| ["/userAssignedIdentities/", "/roleAssignments/"].iter().any(|word| change.contains(word));
    assert!(changed.iter().all(aside), "{changed:?}");
    job.failure.map(|f| f.code)
}

#[tokio::test]
async fn a_namespace_that_holds_something_gets_no_first_key() {
    let place = place("service-bus-namespace").await;
    let queue = format!("{}/queues/q1", place.id(0, "Microsoft.ServiceBus/namespaces"));
    place.world.put(&queue, "2026-01-01", &json!({ "properties": {} })).await;
    assert_eq!(refused(&place).await, Some(Code::TargetNotEmpty));
}

#[tokio::test]
async fn a_target_of_another_sku_is_refused_before_azure_would() {
    let place = place("service-bus-namespace").await;
    let namespace = place.id(0, "Microsoft.ServiceBus/namespaces");
    let body = json!({ "location": "uksouth", "sku": { "name": "Standard", "tier": "Standard" }, "properties": {} });
    place.world.put(&namespace, "2026-01-01", &body).await;
    place.world.advance(std::time::Duration::from_secs(3600));
    assert_eq!(refused(&place).await, Some(Code::TargetUnsuitable));
}

#[tokio::test]
async fn a_vault_that_forgets_too_soon_is_refused() {
    let place = place("mysql-flexible-server").await;
    let vault = place.vault(0).replace("kv-coverage-0", "kv-short");
    let body = json!({
        "location": "uksouth",
        "properties": {
            "tenantId": place.world.sim.tenant_id(), "sku": { "family": "A", "name": "standard" },
            "enableRbacAuthorization": true, "enablePurgeProtection": true, "softDeleteRetentionInDays": 30,
        },
    });
    place.world.put(&vault, "2023-07-01", &body).await;
    let mut request = place.request(0, EXISTING);
    request["keyStore"]["resourceId"] = json!(vault);
    let job = place.world.provision(&request).await;
    assert_eq!((job.state, job.failure.map(|f| f.code)), (JobState::Failed, Some(Code::KeyStoreShortRetention)));
}

#[tokio::test]
async fn an_account_whose_vault_has_no_private_endpoint_is_refused() {
    let place = place("netapp-account").await;
    let bare = place.vault(0).replace("kv-coverage-0", "kv-bare");
    let vault = json!({
        "location": "uksouth",
        "properties": {
            "tenantId": place.world.sim.tenant_id(), "sku": { "family": "A", "name": "standard" },
            "enableRbacAuthorization": true, "enablePurgeProtection": true,
        },
    });
    place.world.put(&bare, "2023-07-01", &vault).await;
    let mut request = place.request(0, Cell { version: KeyVersion::Latest, ..EXISTING });
    request["keyStore"]["resourceId"] = json!(bare);
    let job = place.world.provision(&request).await;
    assert_eq!((job.state, job.failure.map(|f| f.code)), (JobState::Failed, Some(Code::KeyStoreUnsuitable)));
}

/// Gives the target an identity as its owner does.
async fn owner_attaches(place: &Place, identity: Value) {
    let cx = CallContext::new(Uuid::nil());
    let id = place.id(0, &place.service.arm_type);
    let patched =
        place.world.azure.arm.patch(&cx, &id, &place.service.api_version, &json!({ "identity": identity })).await;
    patched.expect("an identity can be set");
    place.world.advance(std::time::Duration::from_secs(3600));
}

#[tokio::test]
async fn a_user_assigned_identity_that_somebody_else_put_there_stays() {
    let place = place("app-configuration-store").await;
    let other = format!("{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/other", place.group(0));
    place.world.put(&other, "2024-11-30", &json!({ "location": "uksouth" })).await;
    owner_attaches(&place, json!({ "type": "UserAssigned", "userAssignedIdentities": { &other: {} } })).await;
    let job = place.world.provision(&place.request(0, EXISTING)).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let (cx, id) = (CallContext::new(Uuid::nil()), place.id(0, &place.service.arm_type));
    let answer = place.world.azure.arm.get(&cx, &id, &place.service.api_version).await.expect("it can be read");
    let body = answer.expect("it exists").body;
    let users = body["identity"]["userAssignedIdentities"].as_object().expect("a map");
    assert_eq!(users.len(), 2, "{users:?}");
    assert!(users.keys().any(|id| id.eq_ignore_ascii_case(&other)), "{users:?}");
}

#[tokio::test]
async fn a_target_with_its_one_identity_keeps_it() {
    let place = place("batch-account").await;
    owner_attaches(&place, json!({ "type": "SystemAssigned" })).await;
    assert_eq!(refused(&place).await, Some(Code::TargetUnsuitable));
}
