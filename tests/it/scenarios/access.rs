//! Cause 1: the permission is not there yet.

use azure_sim::{Filter, Lag, Rule, faults};
use cmk::domain::codes::Code;
use cmk::domain::job::JobState;
use cmk::store::RetryOutcome;
use serde_json::json;

use super::{Scene, seconds, took};

#[tokio::test]
async fn a_fresh_grant_is_waited_for_and_is_no_error() {
    let scene = Scene::late(|p| p.grant = seconds(25.0)).await;
    let job = scene.succeeds(&scene.world.seed()).await;
    assert!(scene.waits(&job).await.contains(&"access-propagation".to_owned()));
    assert!(job.steps.iter().all(|s| s.attempts == 0), "a wait uses no attempt");
}

#[tokio::test]
async fn a_grant_that_takes_28_minutes_is_waited_for_as_long_as_the_caller_said() {
    let scene = Scene::late(|p| p.grant = seconds(28.0 * 60.0)).await;
    let mut body = scene.world.seed();
    body["accessTimeout"] = json!("PT40M");
    let job = scene.succeeds(&body).await;
    assert!((1680.0..1800.0).contains(&took(&job)), "{}", took(&job));
}

#[tokio::test]
async fn a_grant_that_is_there_after_two_seconds_costs_no_sleep_of_a_minute() {
    let scene = Scene::late(|p| p.grant = seconds(2.0)).await;
    let job = scene.succeeds(&scene.world.seed()).await;
    assert!(took(&job) < 20.0, "{}", took(&job));
}

#[tokio::test]
async fn access_that_never_comes_fails_with_a_code_of_its_own_and_azures_words() {
    let scene = Scene::late(|p| p.grant = Lag::Never).await;
    let mut body = scene.world.seed();
    body["accessTimeout"] = json!("PT5M");
    let failure = scene.fails(&body, Code::AccessTimeout).await.failure.expect("it failed");
    assert!(failure.message.contains(super::VAULT), "{failure:?}");
    assert_eq!(failure.azure.and_then(|a| a.status), Some(403));
}

#[tokio::test]
async fn hours_are_not_waited_where_the_caller_gave_a_minute() {
    let scene = Scene::late(|p| p.grant = Lag::Never).await;
    let mut body = scene.world.seed();
    body["accessTimeout"] = json!("PT1M");
    assert!(took(&scene.fails(&body, Code::AccessTimeout).await) < 75.0);
}

#[tokio::test]
async fn a_job_that_failed_for_access_is_not_stuck_and_goes_on_when_it_is_retried() {
    let scene = Scene::late(|p| p.grant = Lag::Never).await;
    let mut body = scene.world.seed();
    body["accessTimeout"] = json!("PT1M");
    let job = scene.fails(&body, Code::AccessTimeout).await;
    scene.world.sim.settle();
    let outcome = scene.world.store.retry_job(job.id, "test").await.expect("the database answers");
    assert_eq!(outcome, RetryOutcome::Queued);
    let job = scene.world.run_to_end(&scene.world.worker(), job.id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    assert_eq!(scene.key_versions(), 1);
}

#[tokio::test]
async fn a_right_that_flaps_while_it_spreads_is_waited_for_too() {
    let scene = Scene::instant().await;
    let refused = faults::status(403, "Forbidden");
    scene.world.sim.faults().add(Rule::once("POST", "/keys/*/create", refused).times(3));
    scene.succeeds(&scene.world.seed()).await;
    assert_eq!(scene.key_versions(), 1);
}

#[tokio::test]
async fn a_fresh_identity_is_granted_at_once_because_its_kind_is_told() {
    let scene = Scene::late(|p| p.principal = seconds(150.0)).await;
    scene.make_account().await;
    scene.succeeds(&scene.world.seed_for_existing()).await;
    let unknown = Filter { code: Some("PrincipalNotFound".into()), ..Filter::default() };
    assert_eq!(scene.world.sim.journal().count(&unknown), 0);
}

#[tokio::test]
async fn a_principal_that_the_directory_does_not_know_yet_is_waited_for() {
    let scene = Scene::existing().await;
    let unknown = faults::status(400, "PrincipalNotFound");
    scene.world.sim.faults().add(Rule::once("PUT", "*/roleAssignments/*", unknown).times(4));
    let job = scene.succeeds(&scene.request()).await;
    assert!(scene.waits(&job).await.contains(&"directory-replication".to_owned()));
}

#[tokio::test]
async fn a_grant_that_cannot_be_read_back_yet_is_made_once() {
    let scene = Scene::late(|p| p.grant_read = seconds(60.0)).await;
    scene.succeeds(&scene.world.seed()).await;
    assert_eq!(scene.count("PUT", "*/roleAssignments/*"), 2, "one for the service and one for the identity");
}

#[tokio::test]
async fn both_grants_share_one_wait() {
    let scene = Scene::late(|p| p.grant = seconds(120.0)).await;
    let job = scene.succeeds(&scene.world.seed()).await;
    assert!(took(&job) < 180.0, "not twice the lag: {}", took(&job));
}

#[tokio::test]
async fn a_second_job_on_the_same_store_does_not_wait_again() {
    let scene = Scene::late(|p| p.grant = seconds(300.0)).await;
    let first = scene.succeeds(&scene.world.seed()).await;
    let again = scene.succeeds(&scene.world.seed()).await;
    assert!(took(&first) >= 300.0 && took(&again) < 10.0, "{} {}", took(&first), took(&again));
}
