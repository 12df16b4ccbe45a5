//! A grant that arrives late: the job ends soon after it arrives, however late that is, and fails at `accessTimeout` when
//! it never does.

use std::time::Duration;

use azure_sim::{Lag, Propagation};
use cmk::domain::codes::Code;
use cmk::domain::job::JobState;

use crate::support::world::World;

/// How long the simulator takes to create an account, which no client can shorten. Changing one takes no time.
const CREATION: Duration = Duration::from_secs(2);

/// Runs the job with a grant that arrives after `seconds`, and holds its duration against the promise.
async fn check(existing: bool, seconds: f64) {
    let world = World::start(Propagation { grant: Lag::seconds(seconds), ..Propagation::instant() }).await;
    let body = if existing {
        world.make_existing_account().await;
        world.seed_for_existing()
    } else {
        world.seed()
    };
    let job = world.succeed(&body).await;
    let took = (job.finished_at.expect("it ended") - job.created_at).as_seconds_f64();
    let creation = if existing { 0.0 } else { CREATION.as_secs_f64() };
    let limit = seconds + f64::max(2.0, seconds * 0.1) + creation;
    println!("existing account: {existing}, grant after {seconds} s: the job took {took:.3} s of {limit} s");
    assert!(took <= limit, "grant after {seconds} s: took {took} s, {limit} s allowed");
    // No fixed wait, and nothing done on credit: it ends after the grant arrived, and that is all it waited for.
    assert!(took >= seconds, "grant after {seconds} s: ended before it arrived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_on_an_existing_account_ends_soon_after_its_grant_arrives() {
    for seconds in [0.0, 5.0, 45.0, 130.0] {
        check(true, seconds).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_creates_its_account_ends_soon_after_its_grant_arrives() {
    for seconds in [0.0, 5.0, 45.0, 130.0] {
        check(false, seconds).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_never_arrives_fails_at_the_access_timeout() {
    let world = World::start(Propagation { grant: Lag::Never, ..Propagation::instant() }).await;
    let mut body = world.seed();
    body["accessTimeout"] = "PT3M".into();
    let job = world.provision(&body).await;
    assert_eq!(job.state, JobState::Failed);
    let failure = job.failure.expect("a failed job says why");
    assert_eq!(failure.code, Code::AccessTimeout);
    assert!(failure.azure.as_ref().is_some_and(|a| a.status == Some(403)), "{failure:?}");
    assert!(!failure.remedy().is_empty());
    let granted = job.facts.granted_at().expect("both grants were made");
    let failed = job.finished_at.expect("it ended");
    assert!((failed - granted).as_seconds_f64() >= 180.0, "not before the timeout: {}", failed - granted);
    assert!((failed - granted).as_seconds_f64() <= 182.0, "soon after it: {}", failed - granted);
    // What exists is told: the vault, the identity and both grants.
    assert!(job.facts.key_store.is_some() && job.facts.identity.is_some() && job.facts.identity_grant.is_some());
    assert!(job.facts.key.is_none() && job.facts.evidence.is_none());
}
