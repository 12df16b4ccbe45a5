//! A grant that arrives late: the job ends soon after it arrives, however late that is, and fails at `accessTimeout` when
//! it never does.

use std::time::Duration;

use azure_sim::{Lag, Propagation};
use cmk::domain::codes::Code;
use cmk::domain::job::JobState;

use crate::support::world::World;

async fn provision_with_grant_after(seconds: f64) -> (World, cmk::store::Job) {
    let world = World::start(Propagation { grant: Lag::seconds(seconds), ..Propagation::instant() }).await;
    let body = world.seed();
    let job = world.provision(&body).await;
    (world, job)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_soon_after_its_grant_arrives() {
    for seconds in [0.0, 5.0, 45.0, 130.0] {
        let (world, job) = provision_with_grant_after(seconds).await;
        assert_eq!(job.state, JobState::Succeeded, "{seconds}: {:?}", job.failure);
        let took = job.finished_at.expect("it ended") - job.created_at;
        // The simulator takes two seconds to create the account, which no client can shorten.
        let creation = Duration::from_secs(2);
        let limit = Duration::from_secs_f64(seconds + f64::max(2.0, seconds * 0.1)) + creation;
        println!("grant after {seconds} s: the job took {took}, the limit is {limit:?}");
        assert!(took <= limit, "{seconds}: took {took}, {limit:?} allowed");
        // No fixed wait: what was waited for is over, not a time.
        assert!(took.as_seconds_f64() >= seconds, "{seconds}: ended before the grant arrived");
        drop(world);
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
