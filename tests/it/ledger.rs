//! The run of a job in memory: what is ready, what is told, what each write holds.

use std::time::Duration;

use cmk::domain::codes::Code;
use cmk::domain::failure::Failure;
use cmk::domain::job::{JobState, StepState};
use cmk::engine::Ledger;
use cmk::steps::WaitReason;
use cmk::store::{Accepted, Next};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::store::Jobs;

const NOW: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// The run of a job that nobody has begun: vault and target exist.
async fn ledger() -> Ledger {
    match Jobs::start().await.accept("st1", None).await {
        Accepted::New(job) => Ledger::open(&job.claimed()),
        other => panic!("not accepted: {other:?}"),
    }
}

fn names(ledger: &Ledger, now: OffsetDateTime) -> Vec<String> {
    ledger.ready(now).into_iter().map(|i| ledger.steps()[i].planned.name.clone()).collect()
}

fn finish(ledger: &mut Ledger, name: &str) {
    let index = ledger.steps().iter().position(|s| s.planned.name == name).expect("it is in the plan");
    let facts = ledger.facts().clone();
    ledger.start(index, NOW);
    ledger.finish(index, true, &facts, &facts, NOW);
}

#[tokio::test]
async fn what_needs_nothing_of_each_other_is_ready_together() {
    let mut ledger = ledger().await;
    let mut waves = Vec::new();
    while !ledger.is_done() {
        let ready = names(&ledger, NOW);
        ready.iter().for_each(|name| finish(&mut ledger, name));
        waves.push(ready.join(" "));
    }
    assert_eq!(
        waves,
        [
            "check-target",
            "ensure-resource-groups",
            "ensure-key-store ensure-identity",
            "grant-own-access grant-identity-access",
            "await-key-store-access",
            "ensure-key",
            "attach-identity",
            "configure-service",
            "verify",
        ]
    );
    assert_eq!(ledger.write(Next::Succeeded).events.len(), 2 * ledger.steps().len() + 1);
}

#[tokio::test]
async fn a_wait_ends_when_it_is_due_and_a_known_reason_is_told_once() {
    let mut ledger = ledger().await;
    let minute = Duration::from_secs(60);
    for round in 0..3_u32 {
        let now = NOW + minute * round;
        assert_eq!(names(&ledger, now), ["check-target"]);
        ledger.start(0, now);
        ledger.wait_for(0, minute, WaitReason::new("read-lag", "x"), None, None, now);
        assert!(names(&ledger, now).is_empty(), "not before it is due");
        assert_eq!(ledger.wait().map(|(until, _)| until), Some(now + minute));
        let told = ledger.write(Next::Waiting { after: minute, reason: WaitReason::new("read-lag", "x") }).events;
        assert_eq!(told.len(), if round == 0 { 2 } else { 0 }, "{told:?}");
    }
    assert_eq!((ledger.steps()[0].looks, ledger.steps()[0].waiting_since), (3, Some(NOW)));
}

#[tokio::test]
async fn an_end_leaves_nothing_at_work_and_each_write_has_its_number() {
    for (next, state) in [
        (Next::Cancelled, JobState::Cancelled),
        (Next::Failed(Failure::new(Code::StepDefect, "x")), JobState::Failed),
        (Next::Queued, JobState::Queued),
    ] {
        let mut ledger = ledger().await;
        ledger.start(0, NOW);
        assert_eq!(ledger.write(Next::Running).write_no, 0);
        let end = ledger.write(next);
        assert_eq!((end.write_no, end.next.state()), (1, state));
        assert!(end.steps.iter().all(|s| s.state == StepState::Pending), "{state:?}");
    }
}
