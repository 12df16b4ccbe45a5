//! Keys in a Managed HSM: what is refused, and a worker that dies.
//!
//! What belongs here: what is different from a vault. What does not: the ways that succeed, which are cells of the matrix.

use cmk::domain::codes::Code;
use cmk::domain::job::JobState;
use cmk::domain::request::{IdentityKind, KeyVersion};
use cmk::services::{HSM_CRYPTO_USER, find};
use cmk::store::Job;
use serde_json::{Value, json};

use super::{Cell, OUTSIDER, Place, cut_off_in};

const CELL: Cell =
    Cell { creating: false, identity: IdentityKind::UserAssigned, version: KeyVersion::Latest, hsm: true };

async fn place() -> Place {
    let place = Place::new(find("storage-account").expect("it is in the catalogue")).await;
    // The account and its group; the HSM differs from test to test.
    place.arrange(0, Cell { hsm: false, ..CELL }).await;
    place
}

/// An HSM with these properties, which is not activated yet.
async fn make(place: &Place, properties: Value) {
    let mut body = json!({
        "location": "uksouth", "sku": { "family": "B", "name": "Standard_B1" },
        "properties": {
            "tenantId": place.world.sim.tenant_id(), "enableSoftDelete": true, "softDeleteRetentionInDays": 90,
        },
    });
    for (name, value) in properties.as_object().expect("an object") {
        body["properties"][name] = value.clone();
    }
    place.world.put(&place.hsm(0), "2023-07-01", &body).await;
    place.world.advance(std::time::Duration::from_secs(3600));
}

/// The job's failure, which changed nothing.
async fn refused(place: &Place) -> Job {
    let before = place.world.changes().len();
    let job = place.world.provision(&place.request(0, CELL)).await;
    assert_eq!(job.state, JobState::Failed);
    let changed: Vec<_> = place.world.changes().into_iter().skip(before).collect();
    let only_identity = changed.iter().all(|change| change.contains("/userAssignedIdentities/"));
    assert!(only_identity, "the identity is made beside the look at the store, and nothing else: {changed:?}");
    job
}

/// Deletes the key, as somebody could who may use it.
async fn delete_key(place: &Place) {
    let sim = &place.world.sim;
    let host = format!("hsmcoverage0.{}", sim.hsm_suffix());
    let audience = format!("https://{}", sim.hsm_suffix());
    let token = sim.token_for(&place.admin().await.to_string(), &audience).expect("a principal of the directory");
    let request = axum::http::Request::delete(format!("https://{host}/keys/k1?api-version=7.4"))
        .header("host", host)
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .expect("a request");
    let answer = sim.answer(request).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    place.world.advance(std::time::Duration::from_secs(120));
}

fn code(job: &Job) -> Option<Code> {
    job.failure.as_ref().map(|f| f.code)
}

#[tokio::test]
async fn an_hsm_that_nobody_activated_is_a_failure_with_a_remedy_and_never_activated_for_anybody() {
    let place = place().await;
    let admin = place.admin().await;
    make(&place, json!({ "enablePurgeProtection": true, "initialAdminObjectIds": [admin] })).await;
    let job = refused(&place).await;
    assert_eq!(code(&job), Some(Code::KeyStoreNotActivated));
    assert!(Code::KeyStoreNotActivated.info().remedy.contains("security-domain download"));
    assert!(place.world.sim.activate_hsm("hsmcoverage0"), "it was left as it was");
    place.world.advance(std::time::Duration::from_secs(60));
    place.world.succeed(&place.request(0, CELL)).await;
}

#[tokio::test]
async fn an_hsm_without_purge_protection_is_refused_until_its_protection_is_acknowledged() {
    let place = place().await;
    let admin = place.admin().await;
    make(&place, json!({ "initialAdminObjectIds": [admin, OUTSIDER] })).await;
    place.world.sim.activate_hsm("hsmcoverage0");
    place.world.advance(std::time::Duration::from_secs(60));
    assert_eq!(code(&refused(&place).await), Some(Code::KeyStoreUnprotected));
    let mut body = place.request(0, CELL);
    body["acknowledge"] = json!(["enable-purge-protection"]);
    let before = place.world.changes().len();
    let job = place.provision(&body).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let protected = format!("PATCH {}", place.hsm(0));
    let changes: Vec<_> = place.world.changes().into_iter().skip(before).collect();
    assert_eq!(changes.iter().filter(|change| **change == protected).count(), 1, "{changes:?}");
    // The identity needs nothing of the key store, so that it may be made before.
    let on_keys = changes.iter().find(|change| **change == protected || change.contains("/keys/"));
    assert_eq!(on_keys, Some(&protected), "it comes before any grant or key: {changes:?}");
    place.changes_nothing_more(&body).await.expect("it is on");
}

#[tokio::test]
async fn an_hsm_that_is_busy_when_it_is_to_be_protected_is_tried_again() {
    let place = place().await;
    let admin = place.admin().await;
    make(&place, json!({ "initialAdminObjectIds": [admin] })).await;
    place.world.sim.activate_hsm("hsmcoverage0");
    place.world.advance(std::time::Duration::from_secs(60));
    let busy = azure_sim::faults::status(409, "AnotherOperationInProgress");
    place.world.sim.faults().add(azure_sim::Rule::once("PATCH", "*/managedHSMs/*", busy).times(2));
    let mut body = place.request(0, CELL);
    body["acknowledge"] = json!(["enable-purge-protection"]);
    place.world.succeed(&body).await;
}

#[tokio::test]
async fn a_service_that_may_not_give_local_roles_says_so_with_azures_words() {
    let place = place().await;
    let stranger = uuid::Uuid::from_u128(77);
    make(&place, json!({ "enablePurgeProtection": true, "initialAdminObjectIds": [stranger] })).await;
    place.world.sim.activate_hsm("hsmcoverage0");
    place.world.advance(std::time::Duration::from_secs(60));
    let job = refused(&place).await;
    let failure = job.failure.expect("it failed");
    assert_eq!(failure.code, Code::AzureForbidden);
    let azure = failure.azure.expect("Azure's words");
    assert!(azure.message.is_some_and(|m| m.contains("roleAssignments")), "it names the right that is missing");
}

#[tokio::test]
async fn a_deleted_key_that_holds_the_name_is_found_at_the_creation_and_never_replaced() {
    let place = place().await;
    place.make_hsm(0).await;
    place.world.succeed(&place.request(0, CELL)).await;
    delete_key(&place).await;
    let job = place.world.provision(&place.request(0, CELL)).await;
    assert_eq!(code(&job), Some(Code::KeySoftDeleted));
}

#[tokio::test]
async fn the_least_roles_are_given_per_key() {
    let place = place().await;
    place.make_hsm(0).await;
    let job = place.world.succeed(&place.request(0, CELL)).await;
    let plan: Vec<_> =
        job.steps.iter().map(|s| serde_json::to_value(&s.planned.spec).expect("a spec is JSON")).collect();
    let scope = |kind: &str| {
        let spec = plan.iter().find(|spec| spec["kind"] == kind).expect("it is planned");
        (spec["localScope"].clone(), spec["role"]["name"].clone())
    };
    assert_eq!(scope("grant-own-access"), (json!("/keys"), json!(HSM_CRYPTO_USER.name)));
    assert_eq!(
        scope("grant-identity-access"),
        (json!("/keys/k1"), json!("Managed HSM Crypto Service Encryption User"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_leaves_what_an_undisturbed_one_leaves() {
    let service = find("storage-account").expect("it is in the catalogue");
    let steps = [
        "ensure-key-store",
        "grant-own-access",
        "grant-identity-access",
        "await-key-store-access",
        "ensure-key",
        "configure-service",
        "verify",
    ];
    let run = tokio::task::spawn_blocking(move || cut_off_in(service, &[CELL], &steps));
    let wrong = run.await.expect("it does not panic");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
