//! Everything that a worker can write under a claim.
//!
//! What belongs here: one write of each kind, for tests of the fence. What does not: which of them are taken.

use std::time::Duration;

use cmk::domain::codes::Code;
use cmk::domain::failure::Failure;
use cmk::engine::Ledger;
use cmk::steps::WaitReason;
use cmk::store::{ClaimedJob, HeldLease, Job, Next, RunWrite};

/// One write of each kind under `lease`, of a run that stood as `job` does.
pub fn every_write(job: &Job, lease: HeldLease) -> Vec<RunWrite> {
    let now = job.updated_at;
    let job = ClaimedJob { claim_no: lease.claim_no, ..job.claimed() };
    let open = || Ledger::open(&job);
    let reason = WaitReason::new("retry", "late");
    let failure = Failure::new(Code::AzureUnavailable, "late");
    let waiting = Next::Waiting { after: Duration::from_secs(1), reason: reason.clone() };
    let mut writes = Vec::new();
    let mut push = |mut ledger: Ledger, next: Next| writes.push(ledger.write(next));
    for next in [Next::Running, Next::Queued, Next::Cancelled, Next::Succeeded, Next::Failed(failure.clone())] {
        push(open(), next);
    }
    let mut started = open();
    started.start(0, now);
    push(started.clone(), Next::Running);
    let mut done = started.clone();
    let facts = done.facts().clone();
    done.finish(0, true, &facts, &facts, now);
    push(done.clone(), Next::Running);
    push(done, Next::Succeeded);
    let mut waits = started.clone();
    waits.wait_for(0, Duration::from_secs(1), reason.clone(), None, None, now);
    push(waits, waiting.clone());
    let mut retries = started.clone();
    retries.wait_for(0, Duration::from_secs(1), reason, None, Some(failure.clone()), now);
    push(retries, waiting);
    let mut failed = started;
    failed.fail(0, &failure, now);
    push(failed, Next::Failed(failure));
    writes
}
