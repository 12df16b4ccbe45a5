//! The SQL held to the model: the same random actions happen to the store and to the model, and after each of them the
//! answer and the job they touched are the same in both.
//!
//! What belongs here: the comparison. What may happen is what the exploration allows (`explore`), with time moved by hand
//! so that leases end and waits are over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cmk::clock::Clock;
use cmk::domain::codes::Code;
use cmk::domain::failure::Failure;
use cmk::domain::ids::JobId;
use cmk::domain::job::{JobKind, JobState, StepState};
use cmk::domain::request::CmkRequest;
use cmk::engine::Ledger;
use cmk::plan::{Plan, plan};
use cmk::services::rules;
use cmk::steps::WaitReason;
use cmk::store::{Accepted, CancelOutcome, HeldLease, Job, LeaseLost, NewJob, Next, RetryOutcome, RunWrite, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use time::OffsetDateTime;
use time::macros::datetime;

use super::explore::{Scope, enabled};
use super::machine::{self, Action, Answer, STEPS, Work, World};
use crate::support::database::TestDatabase;
use crate::support::world::{migrate, parse};

const LEASE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(4);

/// Moves of the clock: within a lease and a wait, past a wait, past a lease.
const MOVES: [Duration; 3] = [Duration::from_secs(1), WAIT, Duration::from_millis(10_001)];

/// Threads, each with a database, and sequences on each.
const LANES: u32 = 2;
const SEQUENCES: u32 = 600;

const SCOPE: Scope = Scope { jobs: 3, workers: 3, copies: true, gate: true };

/// What one worker holds in memory, for real.
#[derive(Default)]
struct Hands {
    ledger: Option<Ledger>,
    lease: Option<HeldLease>,
    sent: Option<RunWrite>,
    copy: Option<RunWrite>,
}

/// The store and the model, side by side.
struct Both<'a> {
    store: &'a Store,
    request: &'a (CmkRequest, Plan),
    model: World,
    ids: Vec<JobId>,
    hands: Vec<Hands>,
    lease_until: OffsetDateTime,
    run_after: OffsetDateTime,
    /// What was done, for whoever reads a failure.
    done: Vec<String>,
}

impl Hands {
    fn drop_turn(&mut self) {
        let sent = self.sent.take();
        self.copy = self.copy.take().or(sent);
        (self.ledger, self.lease) = (None, None);
    }
}

impl Both<'_> {
    fn now(&self) -> OffsetDateTime {
        self.store.clock().now()
    }

    /// What may happen in the model and is no matter of time. A worker's own clock is not the store's business.
    fn possible(&self) -> Vec<Action> {
        let mut may = enabled(&self.model, SCOPE);
        may.retain(|a| !matches!(a, Action::Lapse(_) | Action::Due(_) | Action::OwnEnd(_) | Action::Act(_)));
        may
    }

    /// Moves the clock, and what follows from it in the model: there is one unfinished job at most.
    fn advance(&mut self, by: Duration) {
        self.store.clock().advance(by);
        self.done.push(format!("{by:?} pass"));
        let Some(job) = self.model.unfinished() else { return };
        match self.model.jobs[job].state {
            JobState::Running if self.lease_until < self.now() => _ = self.model.apply(Action::Lapse(job)),
            JobState::Waiting if self.run_after <= self.now() => _ = self.model.apply(Action::Due(job)),
            _ => {}
        }
    }

    /// Does it to both, and compares.
    async fn step(&mut self, action: Action) {
        self.done.push(format!("{action:?}"));
        let touched = self.touched(action);
        let before = self.model.jobs[touched].clone();
        let want = self.model.apply(action);
        let after = self.model.jobs[touched].clone();
        let wrote = (after.version != before.version).then_some(after.state);
        match wrote {
            Some(JobState::Running) if after.claim != before.claim => self.lease_until = self.now() + LEASE,
            Some(JobState::Waiting) if !after.marked => self.run_after = self.now() + WAIT,
            Some(JobState::Waiting | JobState::Queued) => self.run_after = self.now(),
            _ if matches!(want, Answer::Held(_)) => self.lease_until = self.now() + LEASE,
            _ => {}
        }
        if matches!(action, Action::Accept(_)) && want == Answer::Nothing {
            self.run_after = self.now();
        }
        let got = self.really(action).await;
        assert_eq!(got, want, "the answer to {action:?}");
        if after.accepted {
            let job = self.store.get_job(self.ids[touched]).await.expect("it answers").expect("it exists");
            self.compare(&job, &after, action);
        }
    }

    fn touched(&self, action: Action) -> usize {
        let turn = |w: usize| self.model.workers[w].turn.as_ref().map(|t| t.job);
        match action {
            Action::Accept(j) | Action::Claim(_, j) | Action::Cancel(j) | Action::Retry(j) => j,
            Action::Lapse(j) | Action::Due(j) => j,
            Action::CopyArrives(w) => self.model.workers[w].copy.as_ref().map(|c| c.job).unwrap_or_default(),
            Action::Renew(w) | Action::OwnEnd(w) | Action::Work(w, _) | Action::Deliver(w) => {
                turn(w).unwrap_or_default()
            }
            Action::DeliverUnheard(w) | Action::HoldUp(w) | Action::Crash(w) => turn(w).unwrap_or_default(),
            Action::Ask(w) | Action::Act(w) => turn(w).unwrap_or_default(),
        }
    }

    async fn really(&mut self, action: Action) -> Answer {
        match action {
            Action::Accept(j) => return self.accept(j).await,
            Action::Claim(w, j) => self.claim(w, j).await,
            Action::Renew(w) | Action::Ask(w) => return self.renew(w).await,
            Action::Crash(w) => self.hands[w].drop_turn(),
            Action::Work(w, work) => self.work(w, work),
            Action::Deliver(w) => {
                let write = self.hands[w].sent.take().expect("something was sent");
                let answer = self.record(&write).await;
                if answer == Answer::Refused || write.next != Next::Running {
                    (self.hands[w].ledger, self.hands[w].lease) = (None, None);
                }
                return answer;
            }
            Action::DeliverUnheard(w) => {
                let write = self.hands[w].sent.clone().expect("something was sent");
                self.record(&write).await;
            }
            Action::HoldUp(w) => self.hands[w].copy = self.hands[w].sent.clone(),
            Action::CopyArrives(w) => {
                let write = self.hands[w].copy.take().expect("something was held up");
                return self.record(&write).await;
            }
            Action::Cancel(j) => {
                return match self.store.request_cancel(self.ids[j], "test").await.expect("it answers") {
                    CancelOutcome::Cancelled => Answer::Cancelled,
                    CancelOutcome::Requested => Answer::Requested,
                    CancelOutcome::Ended(state) => Answer::Is(state),
                    CancelOutcome::NotFound => panic!("it was accepted"),
                };
            }
            Action::Retry(j) => {
                return match self.store.retry_job(self.ids[j], "test").await.expect("it answers") {
                    RetryOutcome::Queued => Answer::Taken,
                    RetryOutcome::NotFailed(state) => Answer::Is(state),
                    RetryOutcome::TargetBusy(id) => self.busy(id),
                    RetryOutcome::NotFound => panic!("it was accepted"),
                };
            }
            Action::Lapse(_) | Action::Due(_) | Action::OwnEnd(_) | Action::Act(_) => {}
        }
        Answer::Nothing
    }

    fn busy(&self, id: JobId) -> Answer {
        Answer::Busy(self.ids.iter().position(|i| *i == id).expect("one of ours"))
    }

    async fn accept(&self, job: usize) -> Answer {
        let (request, plan) = self.request;
        let new = NewJob {
            id: self.ids[job],
            kind: JobKind::Provision,
            service: "storage",
            requested_by: "test",
            request,
            plan,
            traceparent: None,
        };
        match self.store.insert_job(&new, None).await.expect("it answers") {
            Accepted::New(_) => Answer::Nothing,
            Accepted::TargetBusy(id) => self.busy(id),
            other => panic!("{other:?}"),
        }
    }

    async fn claim(&mut self, worker: usize, job: usize) {
        let claims = self.store.claim_due_jobs(&format!("w{worker}"), 10, LEASE).await.expect("it answers");
        let claimed: Vec<(JobId, i64)> = claims.iter().map(|c| (c.job.id, c.job.claim_no)).collect();
        let id = self.ids[job];
        let claim_no = self.model.jobs[job].claim;
        assert_eq!(claimed, [(id, claim_no)], "the one that may be claimed after {:?}", self.done);
        self.hands[worker].ledger = Some(Ledger::open(&claims[0].job));
        self.hands[worker].lease = Some(HeldLease { job: id, claim_no });
    }

    async fn renew(&mut self, worker: usize) -> Answer {
        let lease = self.hands[worker].lease.expect("it has a turn");
        let held = self.store.renew_leases(&[lease], LEASE).await.expect("it answers");
        if let Some(marked) = held.get(&lease) {
            return Answer::Held(*marked);
        }
        self.hands[worker].drop_turn();
        Answer::Refused
    }

    fn work(&mut self, worker: usize, work: Work) {
        let now = self.now();
        let ledger = self.hands[worker].ledger.as_mut().expect("it has a turn");
        let index = ledger.steps().iter().position(|s| !s.state.is_finished()).expect("it is not done");
        let reason = WaitReason::new("read-lag", "drawn");
        let failure = Failure::new(Code::StepDefect, "drawn");
        let facts = ledger.facts().clone();
        let next = match work {
            Work::Start => {
                assert_eq!(ledger.ready(now), [index], "the next step is ready");
                ledger.start(index, now);
                Next::Running
            }
            Work::Finish => {
                ledger.finish(index, true, &facts, &facts, now);
                if ledger.is_done() { Next::Succeeded } else { Next::Running }
            }
            Work::Wait => {
                ledger.wait_for(index, WAIT, reason.clone(), None, None, now);
                Next::Waiting { after: WAIT, reason }
            }
            Work::Fail => {
                ledger.fail(index, &failure, now);
                Next::Failed(failure)
            }
            Work::Release => Next::Queued,
            Work::Cancel => Next::Cancelled,
        };
        self.hands[worker].sent = Some(ledger.write(next));
    }

    async fn record(&self, write: &RunWrite) -> Answer {
        // The statement for one write and the one for many have to answer alike.
        let answer = match write.write_no % 2 {
            0 => self.store.record(write).await.expect("it answers"),
            _ => self.store.record_all(&[write]).await.expect("it answers").remove(0),
        };
        match answer {
            Ok(()) => Answer::Taken,
            Err(LeaseLost) => Answer::Refused,
        }
    }

    fn compare(&self, job: &Job, want: &machine::Job, action: Action) {
        let states: Vec<StepState> = job.steps.iter().map(|s| s.state).collect();
        let done = want.steps.iter().filter(|s| s.state.is_finished()).count();
        let ended = want.state.is_final();
        assert_eq!((job.state, job.claim_no, job.version), (want.state, want.claim, want.version), "{action:?}");
        assert_eq!((job.event_seq, job.cancel_requested_at.is_some()), (want.seq, want.marked), "{action:?}");
        assert_eq!(states, want.steps.map(|s| s.state), "{action:?}");
        assert_eq!(usize::from(job.steps_done), done, "{action:?}");
        assert_eq!(job.steps.iter().map(|s| s.started_at.is_some()).collect::<Vec<_>>(), want.steps.map(|s| s.started));
        assert_eq!((job.finished_at.is_some(), job.failure.is_some()), (ended, want.state == JobState::Failed));
        assert_eq!(job.wait_reason.is_some(), want.state == JobState::Waiting, "{action:?}");
        assert_eq!(job.lease_until, (want.state == JobState::Running).then_some(self.lease_until), "{action:?}");
        if matches!(want.state, JobState::Queued | JobState::Waiting) {
            assert_eq!(job.run_after, self.run_after, "{action:?}");
        }
    }

    /// The histories, and that runs are those of the unfinished jobs.
    async fn compare_all(&self) {
        for (job, id) in self.model.jobs.iter().zip(&self.ids).filter(|(j, _)| j.accepted) {
            let events = self.store.list_events(*id, 0, 1000).await.expect("it answers");
            let told: Vec<(i64, &str)> = events.iter().map(|e| (e.seq, e.kind.as_str())).collect();
            let want: Vec<(i64, &str)> = (1..).zip(job.told.iter().map(|k| k.as_str())).collect();
            assert_eq!(told, want, "the history");
        }
        let runs: Vec<uuid::Uuid> =
            sqlx::query_scalar("select job_id from job_runs").fetch_all(self.store.pool()).await.expect("it answers");
        let want: Vec<uuid::Uuid> = self.model.unfinished().map(|j| self.ids[j].0).into_iter().collect();
        assert_eq!(runs, want, "runs are those of unfinished jobs");
    }
}

/// How often each kind of action happened, over all sequences.
static SEEN: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

async fn run(store: &Store, request: &(CmkRequest, Plan), choices: &[u16]) {
    sqlx::query("delete from job_runs").execute(store.pool()).await.expect("it answers");
    let start = store.clock().now();
    let mut both = Both {
        store,
        request,
        model: World::new(SCOPE.jobs, SCOPE.workers),
        ids: (0..SCOPE.jobs).map(|_| JobId::generate()).collect(),
        hands: (0..SCOPE.workers).map(|_| Hands::default()).collect(),
        lease_until: start,
        run_after: start,
        done: Vec::new(),
    };
    for choice in choices {
        let (may, choice) = (both.possible(), usize::from(*choice));
        let choice = choice % (may.len() + MOVES.len());
        let name = match may.get(choice) {
            Some(action) => {
                both.step(*action).await;
                format!("{action:?}").replace(|c: char| c.is_ascii_digit() || c == ' ' || c == ',', "")
            }
            None => {
                both.advance(MOVES[choice - may.len()]);
                "Advance".to_owned()
            }
        };
        *SEEN.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }
    both.compare_all().await;
}

fn lane() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of one thread can be made");
    let database = runtime.block_on(TestDatabase::new(migrate));
    let store = Store::new(database.pool.clone(), Clock::manual(datetime!(2026-01-01 00:00 UTC)));
    let group = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";
    let request = parse(&json!({
        "target": { "resourceId": format!("{group}/Microsoft.Storage/storageAccounts/st1") },
        "keyStore": { "resourceId": format!("{group}/Microsoft.KeyVault/vaults/kv1") },
    }));
    let mut plan = plan(&request, rules::check(&request).0.expect("a known service"));
    plan.steps.truncate(STEPS);
    let request = (request, plan);
    let config = Config { cases: SEQUENCES, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    let sequences = proptest::collection::vec(any::<u16>(), 8..40);
    let held = TestRunner::new(config).run(&sequences, |choices| {
        runtime.block_on(run(&store, &request, &choices));
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_store_does_what_the_model_does() {
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        for lane in lanes {
            lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    println!("model against SQL: sequences={} actions={} {seen:?}", LANES * SEQUENCES, seen.values().sum::<usize>());
    for action in
        ["Claim()", "Deliver()", "DeliverUnheard()", "CopyArrives()", "Crash()", "Cancel()", "Retry()", "Renew()"]
    {
        assert!(seen.get(action).is_some_and(|n| *n > 20), "{action} hardly happened: {seen:?}");
    }
}
