//! Targets that are created with their own identity, in two writes: what holds between the two.
//!
//! What belongs here: targets that somebody else made, and jobs that end between the writes. What does not: the ways that
//! succeed, which are cells of the matrix.

use std::time::Duration;

use azure_sim::faults::{self, Rule};
use cmk::domain::codes::Code;
use cmk::domain::job::JobState;
use cmk::domain::request::{IdentityKind, KeyVersion};
use cmk::services::find;
use cmk::store::RetryOutcome;
use serde_json::json;

use super::{Cell, Place};

const CELL: Cell =
    Cell { creating: true, identity: IdentityKind::SystemAssigned, version: KeyVersion::Latest, hsm: false };

async fn place() -> Place {
    let place = Place::new(find("storage-account").expect("it is in the catalogue")).await;
    place.arrange(0, CELL).await;
    place
}

#[tokio::test]
async fn a_job_that_ended_between_the_writes_goes_on_with_the_target_that_it_made() {
    let place = place().await;
    let denied = faults::status(403, "RequestDisallowedByPolicy");
    let rule = Rule::always("PATCH", "*/storageAccounts/*", denied);
    let rule = place.world.sim.faults().add(rule).expect("there is room");
    let failed = place.world.provision(&place.request(0, CELL)).await;
    assert_eq!((failed.state, failed.failure.map(|f| f.code)), (JobState::Failed, Some(Code::PolicyDenied)));
    let made: Vec<_> = place.world.changes().into_iter().filter(|c| c.contains("/storageAccounts/")).collect();
    assert!(made.len() == 1 && made[0].starts_with("PUT"), "it was created, and got no key: {made:?}");

    assert!(place.world.sim.faults().remove(&rule));
    assert_eq!(place.world.store.retry_job(failed.id, "test").await.expect("it answers"), RetryOutcome::Queued);
    let job = place.world.run_to_end(&place.world.worker(), failed.id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let writes: Vec<_> = place.world.changes().into_iter().filter(|c| c.contains("/storageAccounts/")).collect();
    let methods: Vec<&str> = writes.iter().filter_map(|c| c.split(' ').next()).collect();
    assert_eq!(methods, ["PUT", "PATCH"], "the account is created once");
}

#[tokio::test]
async fn another_job_does_not_take_over_what_was_left_without_a_key() {
    let place = place().await;
    let rule = Rule::always("PATCH", "*/storageAccounts/*", faults::status(403, "RequestDisallowedByPolicy"));
    let rule = place.world.sim.faults().add(rule).expect("there is room");
    let failed = place.world.provision(&place.request(0, CELL)).await;
    assert_eq!(failed.state, JobState::Failed);
    assert!(place.world.sim.faults().remove(&rule));
    let before = place.world.changes().len();
    let job = place.world.provision(&place.request(0, CELL)).await;
    assert_eq!((job.state, job.failure.map(|f| f.code)), (JobState::Failed, Some(Code::TargetExists)));
    assert_eq!(place.world.changes().len(), before, "nothing was changed");
    // Its way on is the one of a target that exists.
    let mut body = place.request(0, CELL);
    body["target"].as_object_mut().expect("an object").remove("create");
    place.world.succeed(&body).await;
}

#[tokio::test]
async fn a_target_that_somebody_else_made_is_never_changed() {
    let place = place().await;
    let account = place.id(0, "Microsoft.Storage/storageAccounts");
    let body =
        json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" }, "properties": {} });
    place.world.put(&account, "2026-04-01", &body).await;
    place.world.advance(Duration::from_secs(3600));
    let before = place.world.changes().len();
    let job = place.world.provision(&place.request(0, CELL)).await;
    assert_eq!((job.state, job.failure.map(|f| f.code)), (JobState::Failed, Some(Code::TargetExists)));
    assert_eq!(place.world.changes().split_off(before), [""; 0]);
}
