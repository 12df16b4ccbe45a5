//! What a caller notices of the engine: cancelling, retrying, bounded attempts, defects, several workers, lost leases and
//! draining. Deaths and faults at every single point are in `crash` and `faults`, real processes in `kill`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use azure_sim::{Filter, Lag, Propagation, Rule, faults};
use cmk::domain::codes::Code;
use cmk::domain::ids::JobId;
use cmk::domain::job::{JobState, StepState};
use cmk::domain::retry::MAX_ATTEMPTS;
use cmk::engine::crash::{CrashPoint, CrashPoints};
use cmk::engine::turn::TurnEnd;
use cmk::engine::{Worker, WorkerSettings};
use cmk::store::notify::NewsHub;
use cmk::store::{CancelOutcome, Event, HeldLease, Job, LeaseLost, RetryOutcome, StepRow};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::late::every_write;
use crate::support::process::eventually;
use crate::support::world::World;

fn step<'a>(job: &'a Job, name: &str) -> &'a StepRow {
    job.steps.iter().find(|s| s.planned.name == name).expect("it is in the plan")
}

/// The job's events, whose numbers have no gap and do not repeat.
async fn history(world: &World, id: JobId) -> Vec<Event> {
    let events = world.events(id).await;
    let seqs: Vec<i64> = events.iter().map(|e| e.seq).collect();
    let last = world.job(id).await.event_seq;
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "numbers without a gap");
    events
}

fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|e| e.kind == kind).count()
}

async fn assert_last_events_tell_of_cancelling(world: &World, id: JobId) {
    let events = history(world, id).await;
    let kinds: Vec<&str> = events.iter().map(|e| e.kind.as_str()).collect();
    assert!(kinds.ends_with(&["job-cancel-requested", "job-cancelled"]), "{kinds:?}");
    assert_eq!((count(&events, "job-cancel-requested"), count(&events, "job-cancelled")), (1, 1));
}

/// A later worker, at a later time, finds nothing to do.
async fn assert_nothing_follows(world: &World) {
    let before = world.sim.journal().last_seq();
    world.advance(Duration::from_secs(600));
    assert_eq!(world.worker().tick().await.expect("the database answers"), []);
    assert_eq!(world.sim.journal().last_seq(), before, "a request after the end");
}

/// Does something each time the step passes the point; the turn goes on.
fn at(name: &'static str, point: CrashPoint, act: impl Fn() + Send + Sync + 'static) -> CrashPoints {
    Arc::new(move |step, p| {
        if step == name && p == point {
            act();
        }
        false
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_job_is_cancelled_at_once_and_never_reaches_azure() {
    let world = World::instant().await;
    let id = world.submit(&world.seed()).await;
    assert_eq!(world.store.request_cancel(id, "test").await.expect("it answers"), CancelOutcome::Cancelled);
    assert_nothing_follows(&world).await;
    let job = world.job(id).await;
    assert_eq!((job.state, job.claim_no), (JobState::Cancelled, 0));
    assert_eq!(world.sim.journal().last_seq(), 0);
    assert_last_events_tell_of_cancelling(&world, id).await;
    let again = world.store.request_cancel(id, "test").await.expect("it answers");
    assert_eq!(again, CancelOutcome::Ended(JobState::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_job_is_cancelled_at_once_and_its_wait_is_over() {
    let world = World::start(Propagation { grant: Lag::seconds(60.0), ..Propagation::instant() }).await;
    let id = world.submit(&world.seed()).await;
    assert_eq!(world.worker().tick().await.expect("it answers"), [TurnEnd::Waiting]);
    assert_eq!(world.store.request_cancel(id, "test").await.expect("it answers"), CancelOutcome::Cancelled);
    assert_nothing_follows(&world).await;
    let job = world.job(id).await;
    assert_eq!((job.state, job.wait_reason.as_ref()), (JobState::Cancelled, None));
    assert!(job.steps.iter().all(|s| s.state.is_finished() || s.state == StepState::Pending), "{:?}", job.steps);
    assert!(job.facts.key_store.is_some() && job.facts.identity_grant.is_some(), "what exists is told");
    assert!(job.facts.key.is_none() && job.facts.evidence.is_none());
    assert_last_events_tell_of_cancelling(&world, id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_changes_nothing_after_the_mark() {
    let world = World::instant().await;
    let id = world.submit(&world.seed()).await;
    let (store, journal) = (world.store.clone(), world.sim.journal());
    let marked_at = Arc::new(AtomicU64::new(0));
    let marked = Arc::clone(&marked_at);
    let mark = move || {
        marked.store(journal.last_seq(), Ordering::SeqCst);
        let asked = store.request_cancel(id, "test");
        let outcome = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asked));
        assert_eq!(outcome.expect("it answers"), CancelOutcome::Requested);
    };
    let worker = world.worker().with_crash_points(at("ensure-key", CrashPoint::BeforeAct, mark));
    assert_eq!(worker.tick().await.expect("it answers"), [TurnEnd::Cancelled]);
    let marked_at = marked_at.load(Ordering::SeqCst);
    let asked = Filter { after: Some(marked_at), mutating: Some(true), ..Filter::default() };
    assert!(marked_at > 0 && world.sim.journal().count(&asked) == 0, "a change was asked for after the mark");
    let job = world.job(id).await;
    assert_eq!((job.state, step(&job, "ensure-key").state), (JobState::Cancelled, StepState::Pending));
    let key = job.steps.iter().position(|s| s.planned.name == "ensure-key").expect("it is in the plan");
    for (index, step) in job.steps.iter().enumerate() {
        assert_eq!(step.state.is_finished(), index < key, "{}", step.planned.name);
        assert!(index < key || step.state == StepState::Pending, "{}", step.planned.name);
    }
    assert!(job.facts.key_store.is_some() && job.facts.own_grant.is_some() && job.facts.identity.is_some());
    assert!(job.facts.key.is_none() && job.failure.is_none());
    // A step looks while the write that tells of its start is under way: what happened before the mark may be told after it.
    let events = history(&world, id).await;
    let kinds: Vec<&str> = events.iter().map(|e| e.kind.as_str()).collect();
    let mark = kinds.iter().position(|kind| *kind == "job-cancel-requested").expect("the mark is told");
    let (last, late) = kinds[mark + 1..].split_last().expect("something follows the mark");
    assert_eq!(*last, "job-cancelled", "{kinds:?}");
    assert!(late.is_empty() || late == ["step-satisfied", "step-started"], "{kinds:?}");
    assert_eq!((count(&events, "job-cancel-requested"), count(&events, "job-cancelled")), (1, 1));
    assert_nothing_follows(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_looks_again_at_everything_and_makes_nothing_twice() {
    let world = World::instant().await;
    let denied = faults::status(403, "RequestDisallowedByPolicy");
    let rule = world.sim.faults().add(Rule::always("PUT", "*/storageAccounts/*", denied)).expect("there is room");
    let failed = world.provision(&world.seed()).await;
    assert_eq!(failed.state, JobState::Failed);
    let done: Vec<&str> =
        failed.steps.iter().filter(|s| s.state.is_finished()).map(|s| s.planned.name.as_str()).collect();
    assert!(done.contains(&"ensure-key") && !done.contains(&"configure-service"), "{done:?}");

    assert!(world.sim.faults().remove(&rule));
    assert_eq!(world.store.retry_job(failed.id, "test").await.expect("it answers"), RetryOutcome::Queued);
    let queued = world.job(failed.id).await;
    assert_eq!((queued.state, queued.failure.as_ref(), queued.steps_done), (JobState::Queued, None, 0));
    let job = world.run_to_end(&world.worker(), failed.id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    for name in done {
        let step = step(&job, name);
        assert!(step.looks > 1 && step.state == StepState::Satisfied, "{name}: {} looks, {:?}", step.looks, step.state);
    }
    let changes = world.changes();
    assert_eq!(changes.iter().collect::<BTreeSet<_>>().len(), changes.len(), "made twice: {changes:?}");
    assert!(job.claim_no > failed.claim_no, "{} then {}", failed.claim_no, job.claim_no);
    let events = history(&world, job.id).await;
    let told: Vec<&str> = events.iter().map(|e| e.kind.as_str()).filter(|k| k.starts_with("job-")).collect();
    assert_eq!(told, ["job-accepted", "job-failed", "job-retried", "job-succeeded"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_bounded_and_ever_further_apart() {
    let world = World::instant().await;
    let broken = Rule::always("PUT", "*/vaults/kvcmkdemo1", faults::status(500, "InternalServerError"));
    world.sim.faults().add(broken).expect("there is room");
    let job = world.provision(&world.seed()).await;
    let failure = job.failure.clone().expect("it cannot go on");
    assert_eq!((job.state, failure.code), (JobState::Failed, Code::AzureUnavailable));
    let azure = failure.azure.expect("Azure said why");
    assert_eq!((azure.status, azure.code.as_deref()), (Some(500), Some("InternalServerError")));
    let sent = world.sim.journal().find(&Filter::on("PUT", "*/vaults/kvcmkdemo1"));
    assert_eq!(sent.len(), usize::try_from(MAX_ATTEMPTS).expect("a small number"));
    let mut full = 1.0;
    for pair in sent.windows(2) {
        let gap = (pair[1].time - pair[0].time).as_seconds_f64();
        assert!((full / 2.0..=full + 0.1).contains(&gap), "{gap} s where {full} s is the most");
        full = f64::min(full * 2.0, 120.0);
    }
    let events = history(&world, job.id).await;
    assert_eq!(count(&events, "step-retrying") + 1, sent.len(), "each failed attempt is told");
    assert_eq!((count(&events, "step-failed"), count(&events, "job-failed")), (1, 1));
}

/// The seed's request for another account with a key of its own, in the same vault.
fn numbered(world: &World, number: usize) -> Value {
    let mut body = world.seed();
    let account = format!("stcmkdemo{number:02}x");
    body["target"]["resourceId"] = world.id("rg-cmk-demo", "Microsoft.Storage/storageAccounts", &account).into();
    body["key"]["name"] = format!("key-{number:02}").into();
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_in_a_step_fails_its_job_and_no_other() {
    let world = World::instant().await;
    let ids = [world.submit(&numbered(&world, 1)).await, world.submit(&numbered(&world, 2)).await];
    let first = AtomicBool::new(true);
    let defect = move || assert!(!first.swap(false, Ordering::SeqCst), "the defect's own words");
    let worker = world.worker().with_crash_points(at("ensure-key", CrashPoint::BeforeAct, defect));
    let jobs = [world.run_to_end(&worker, ids[0]).await, world.run_to_end(&worker, ids[1]).await];
    let (failed, other): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|j| j.state == JobState::Failed);
    assert_eq!((failed.len(), other.len()), (1, 1), "one each");
    assert_eq!(other[0].state, JobState::Succeeded, "{:?}", other[0].failure);
    let failure = failed[0].failure.as_ref().expect("a failed job says why");
    assert_eq!(failure.code, Code::StepDefect);
    assert!(!failure.message.contains("own words"), "internal causes only go to the log: {failure}");
    assert_eq!(step(failed[0], "ensure-key").state, StepState::Failed);
    for job in &jobs {
        history(&world, job.id).await;
    }
}

fn named(world: &World, settings: WorkerSettings) -> Worker {
    Worker::new(world.store.clone(), Arc::clone(&world.azure), NewsHub::new(), settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_share_twenty_jobs_and_do_each_once() {
    const JOBS: usize = 20;
    let world = World::instant().await;
    let mut ids = Vec::new();
    for number in 0..JOBS {
        ids.push(world.submit(&numbered(&world, number)).await);
    }
    let few_at_a_time = |name: &str| WorkerSettings { concurrency: 3, ..WorkerSettings::named(name) };
    let (a, b) = (named(&world, few_at_a_time("a")), named(&world, few_at_a_time("b")));
    let (mut ends, mut turns_of_b) = (Vec::new(), 0);
    while let Some(due) = world.store.next_due().await.expect("the database answers") {
        world.advance_to(due);
        let (of_a, of_b) = tokio::join!(a.tick(), b.tick());
        let (of_a, of_b) = (of_a.expect("the database answers"), of_b.expect("the database answers"));
        turns_of_b += of_b.len();
        ends.extend(of_a.into_iter().chain(of_b));
        assert!(ends.len() < 100 * JOBS, "the jobs do not end");
    }
    assert!(turns_of_b > 0 && turns_of_b < ends.len(), "both worked: {turns_of_b} of {}", ends.len());
    assert_eq!(ends.iter().filter(|e| **e == TurnEnd::Succeeded).count(), JOBS, "{ends:?}");
    assert!(ends.iter().all(|e| matches!(e, TurnEnd::Succeeded | TurnEnd::Waiting)), "{ends:?}");
    let made =
        |method, path: &str| world.sim.journal().count(&Filter { changed: Some(true), ..Filter::on(method, path) });
    for (number, id) in ids.into_iter().enumerate() {
        let job = world.job(id).await;
        assert_eq!(job.state, JobState::Succeeded, "{number}: {:?}", job.failure);
        assert_eq!(made("POST", &format!("/keys/key-{number:02}/create")), 1, "{number}");
        assert_eq!(made("PUT", &format!("*/storageAccounts/stcmkdemo{number:02}x")), 1, "{number}");
        let events = history(&world, id).await;
        assert_eq!((count(&events, "job-succeeded"), count(&events, "job-taken-over")), (1, 0), "{number}");
    }
}

/// Every write that a worker can attempt; all are refused and leave no trace.
async fn assert_locked_out(world: &World, lease: HeldLease) {
    let before = (world.job(lease.job).await, world.events(lease.job).await);
    let store = &world.store;
    for write in every_write(&before.0, lease) {
        assert_eq!(store.record(&write).await.expect("the database answers"), Err(LeaseLost), "{write:?}");
    }
    let renewed = store.renew_leases(&[lease], Duration::from_secs(60)).await.expect("the database answers");
    assert!(renewed.is_empty(), "{renewed:?}");
    assert_eq!((world.job(lease.job).await, world.events(lease.job).await), before, "something was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_lost_its_lease_stops_by_its_own_clock_and_is_locked_out() {
    let world = World::instant().await;
    let (lease, slow) = (Duration::from_secs(2), Duration::from_secs(20));
    let stuck = Rule::once("PUT", "*/vaults/kvcmkdemo1", faults::Action::Delay { millis: 20_000 });
    let stuck = world.sim.faults().add(stuck).expect("there is room");
    let id = world.submit(&world.seed()).await;
    let a = named(&world, WorkerSettings::named("a").with_lease(lease));
    let began = Instant::now();
    assert_eq!(a.tick().await.expect("it answers"), [TurnEnd::LeaseLost]);
    assert!(began.elapsed() < slow / 2, "it waited for the answer: {:?}", began.elapsed());
    assert_eq!(world.sim.faults().fired(&stuck), 1, "it stood in the slow call");
    let lost = HeldLease { job: id, claim_no: world.job(id).await.claim_no };
    let events = history(&world, id).await;
    assert_eq!((count(&events, "job-failed"), count(&events, "step-retrying")), (0, 0), "nothing counts against it");

    world.advance(lease + Duration::from_millis(1));
    let dies: CrashPoints = Arc::new(|step, point| step == "ensure-key" && point == CrashPoint::BeforeRecord);
    let b = world.worker().with_crash_points(dies);
    assert_eq!(b.tick().await.expect("it answers"), [TurnEnd::Crashed]);
    assert_eq!(count(&history(&world, id).await, "job-taken-over"), 1);
    // While another worker has the job, and when the job has ended.
    assert_locked_out(&world, lost).await;
    world.advance(Duration::from_secs(11));
    let job = world.run_to_end(&world.worker(), id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    assert_locked_out(&world, lost).await;
    let events = history(&world, id).await;
    assert_eq!((count(&events, "job-taken-over"), count(&events, "job-succeeded")), (2, 1));
    let keys = world.sim.journal().count(&Filter { changed: Some(true), ..Filter::on("POST", "/keys/*/create") });
    assert_eq!(keys, 1, "one version of one key");
}

/// Given back as if nothing had happened; another worker ends it.
async fn assert_given_back(world: &World, id: JobId) {
    let job = world.job(id).await;
    assert_eq!((job.state, job.lease_until), (JobState::Queued, None));
    for step in &job.steps {
        assert!(step.state.is_finished() || step.state == StepState::Pending, "{}", step.planned.name);
        assert_eq!((step.attempts, step.failure.as_ref()), (0, None), "{}", step.planned.name);
    }
    let job = world.run_to_end(&world.worker(), id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let events = history(world, id).await;
    assert_eq!((count(&events, "job-taken-over"), count(&events, "step-retrying")), (0, 0));
    let changes = world.changes();
    assert_eq!(changes.iter().collect::<BTreeSet<_>>().len(), changes.len(), "made twice: {changes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_need_nothing_of_each_other_run_at_the_same_time() {
    let world = World::instant().await;
    let stuck = Rule::once("PUT", "*/vaults/kvcmkdemo1", faults::Action::Delay { millis: 1_500 });
    world.sim.faults().add(stuck).expect("there is room");
    let job = world.succeed(&world.seed()).await;
    let at = |name: &str| step(&job, name).ordinal;
    let events = history(&world, job.id).await;
    let seq = |kind: &str, name: &str| {
        let found = events.iter().find(|e| e.kind == kind && e.step.as_deref() == Some(name));
        found.map(|e| e.seq).expect("it is told")
    };
    assert!(
        seq("step-done", "ensure-identity") < seq("step-done", "ensure-key-store"),
        "the slow one was not waited for"
    );
    assert!(at("ensure-key-store") < at("ensure-identity"));
    assert!(seq("step-done", "ensure-key-store") < seq("step-started", "grant-own-access"), "what needs it came after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_lets_what_runs_beside_it_end_without_new_changes() {
    let world = World::instant().await;
    let denied = faults::status(403, "RequestDisallowedByPolicy");
    world.sim.faults().add(Rule::always("PUT", "*/userAssignedIdentities/*", denied)).expect("there is room");
    let slow = Rule::once("GET", "*/vaults/kvcmkdemo1", faults::Action::Delay { millis: 700 });
    world.sim.faults().add(slow).expect("there is room");
    let job = world.provision(&world.seed()).await;
    assert_eq!(job.state, JobState::Failed, "{:?}", job.failure);
    assert_eq!(step(&job, "ensure-identity").state, StepState::Failed);
    assert_eq!(step(&job, "ensure-key-store").state, StepState::Pending);
    let made = world.sim.journal().count(&Filter { changed: Some(true), ..Filter::on("PUT", "*/vaults/*") });
    assert_eq!(made, 0, "no change was begun after the failure");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_gives_the_job_back_between_two_steps() {
    let world = World::instant().await;
    let id = world.submit(&world.seed()).await;
    let (stop, order) = (CancellationToken::new(), CancellationToken::new());
    let asked = stop.clone();
    let points = at("ensure-resource-groups", CrashPoint::BeforeRecord, move || asked.cancel());
    world.worker().with_crash_points(points).run(stop, order).await;
    let job = world.job(id).await;
    assert_eq!(step(&job, "ensure-resource-groups").state, StepState::Done, "what was done is recorded");
    assert_eq!((job.steps_done, job.facts.key_store.is_none()), (2, true), "nothing more was begun");
    assert_given_back(&world, id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_to_stop_at_once_gives_the_job_back_in_the_middle_of_a_call() {
    let world = World::instant().await;
    let stuck = Rule::once("GET", "*/vaults/kvcmkdemo1", faults::Action::Delay { millis: 20_000 });
    let stuck = world.sim.faults().add(stuck).expect("there is room");
    let id = world.submit(&world.seed()).await;
    let (stop, abort, worker) = (CancellationToken::new(), CancellationToken::new(), world.worker());
    let running = tokio::spawn({
        let (stop, abort) = (stop.clone(), abort.clone());
        async move { worker.run(stop, abort).await }
    });
    eventually("the slow call began", async || world.sim.faults().fired(&stuck) == 1).await;
    let asked = Instant::now();
    stop.cancel();
    abort.cancel();
    running.await.expect("the worker does not panic");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_given_back(&world, id).await;
}
