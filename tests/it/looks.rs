//! Where a process looks for due jobs: from the front, and each second at everything.

use std::collections::BTreeSet;
use std::time::Duration;

use cmk::clock::Clock;
use cmk::store::Store;

use crate::store::Jobs;
use crate::support::process::eventually;

/// Looks of a process begin where the last one found something; what lies before that must not be lost.
#[tokio::test]
async fn jobs_stored_late_and_ended_leases_are_found_by_whole_looks() {
    let jobs = Jobs::start().await;
    let store = Store::new(jobs.database.pool.clone(), Clock::System);
    let claim = async || store.claim_due_jobs("w", 10, Duration::from_millis(1)).await.expect("the database answers");
    let first = jobs.insert("first").await;
    assert_eq!(claim().await.iter().map(|c| (c.job.id, c.taken_over)).collect::<Vec<_>>(), [(first, false)]);
    // Due since the beginning of the year, as by a transaction that took its time.
    let late = jobs.insert("late").await;
    let mut found = BTreeSet::new();
    eventually("both are claimed", async || {
        found.extend(claim().await.iter().map(|c| (c.job.id, c.taken_over)));
        found.is_superset(&BTreeSet::from([(first, true), (late, false)]))
    })
    .await;
}
