//! One claimed slice of a job's run: every step that can run, until all of them wait, one fails, all are done, or the
//! turn's budget is spent.
//!
//! What belongs here: running steps, at the same time where they do not depend on each other, and ending a turn. What does
//! not: which jobs run (`worker`), and what an outcome does to the run's state (`ledger`).

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use rand::RngExt;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::crash::{CrashPoint, CrashPoints};
use super::lease::{Gate, Held};
use super::ledger::Ledger;
use crate::azure::{Azure, CallContext};
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::retry::{MAX_ATTEMPTS, retry_delay};
use crate::steps::{self, ActGate, StepContext, StepOutcome, Stop, WaitReason};
use crate::store::notify::NewsHub;
use crate::store::{ClaimedJob, LeaseLost, Next, Recorder, StepRow, Store, StoreError};

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// All steps are done.
    Succeeded,
    /// A step failed for good.
    Failed,
    /// A step waits.
    Waiting,
    /// Somebody had asked to cancel.
    Cancelled,
    /// Given back: shutdown, or the budget is spent.
    Released,
    /// Another worker has the job, or the database could not be reached before the lease ended.
    LeaseLost,
    /// A crash point was reached; only in tests.
    Crashed,
}

/// What a turn needs beside its job.
pub struct Turn<'a> {
    /// The store, for its clock and for confirming the lease.
    pub store: &'a Store,
    /// Where outcomes are recorded.
    pub recorder: &'a Recorder,
    /// Where changes are told of.
    pub news: &'a NewsHub,
    /// The clients.
    pub azure: &'a Azure,
    /// The lease.
    pub held: &'a Held,
    /// The length of a renewed lease.
    pub lease_length: Duration,
    /// After this time the job is given back between two steps.
    pub budget: Duration,
    /// Cancelled when the worker stops taking work: give the job back between two steps.
    pub draining: &'a CancellationToken,
    /// Cancelled when the grace time is over: give the job back at once.
    pub hard_stop: &'a CancellationToken,
    /// Crash points, in tests.
    pub crash: Option<&'a CrashPoints>,
    /// What runs in place of the steps' own code, in tests and benchmarks of the engine.
    pub stand_in: Option<&'a StandIn>,
    /// The time of the claim by the database's clock, which the times that a turn notes are counted from.
    pub claimed_at: OffsetDateTime,
}

/// Code that runs in place of the steps' own, so that the engine can be tried without Azure.
pub type StandIn = Arc<dyn for<'s> Fn(StandInStep<'s>) -> BoxFuture<'s, StepOutcome> + Send + Sync>;

/// One run of a step, as a stand-in sees it.
#[derive(Clone, Copy)]
pub struct StandInStep<'s> {
    /// The step.
    pub name: &'s str,
    /// How often it was run, this time included.
    pub looks: u32,
    /// To be asked before every change, as the steps' own code does.
    pub gate: &'s dyn ActGate,
    /// The lease it runs under.
    pub held: &'s Held,
}

/// What a run of one step came to.
struct Ran {
    index: usize,
    before: Facts,
    after: Facts,
    outcome: StepOutcome,
}

/// Why a turn ends although steps could go on.
enum Ending {
    Failed(Failure),
    Cancelled,
    Released,
}

/// Runs of steps that are under way, and those that came to an end while something was being recorded.
struct Running<'t> {
    runs: FuturesUnordered<BoxFuture<'t, Ran>>,
    ended: VecDeque<Ran>,
}

impl Turn<'_> {
    /// Runs the job until its turn ends.
    pub async fn run(&self, job: ClaimedJob) -> TurnEnd {
        let mut ledger = Ledger::open(&job);
        if job.cancel_requested_at.is_some() {
            return self.close(ledger, Next::Cancelled, TurnEnd::Cancelled).await;
        }
        let (crashed, closing) = (CancellationToken::new(), CancellationToken::new());
        let ended = {
            let run = self.run_steps(&job, &mut ledger, &crashed, &closing);
            tokio::select! {
                // In this order: whoever has lost the lease, or died, records nothing.
                biased;
                () = crashed.cancelled() => Err(TurnEnd::Crashed),
                () = self.held.ended() => Err(TurnEnd::LeaseLost),
                ended = run => ended,
            }
        };
        match ended {
            Err(end) => end,
            Ok(None) if ledger.is_done() => self.close(ledger, Next::Succeeded, TurnEnd::Succeeded).await,
            Ok(None) => match ledger.wait() {
                Some((until, reason)) => {
                    let after = Duration::try_from(until - self.now()).unwrap_or_default();
                    self.close(ledger, Next::Waiting { after, reason }, TurnEnd::Waiting).await
                }
                // Nothing runs, nothing waits, nothing is ready: a plan whose steps wait for each other.
                None => {
                    let failure = Failure::new(Code::StepDefect, "the steps of the plan wait for each other");
                    self.close(ledger, Next::Failed(failure), TurnEnd::Failed).await
                }
            },
            Ok(Some(Ending::Failed(failure))) => self.close(ledger, Next::Failed(failure), TurnEnd::Failed).await,
            Ok(Some(Ending::Cancelled)) => self.close(ledger, Next::Cancelled, TurnEnd::Cancelled).await,
            Ok(Some(Ending::Released)) => self.close(ledger, Next::Queued, TurnEnd::Released).await,
        }
    }

    /// Starts what is ready and takes in what has ended, until nothing runs. Outcomes and starts that come together are
    /// one write; the last ones are left to the write that ends the turn.
    async fn run_steps<'t>(
        &'t self,
        job: &'t ClaimedJob,
        ledger: &mut Ledger,
        crashed: &'t CancellationToken,
        closing: &'t CancellationToken,
    ) -> Result<Option<Ending>, TurnEnd> {
        let began = Instant::now();
        let mut running = Running { runs: FuturesUnordered::new(), ended: VecDeque::new() };
        let mut ending: Option<Ending> = None;
        let mut ran_one = false;
        loop {
            let now = self.now();
            let ready = ledger.ready(now);
            if ending.is_none() && !ready.is_empty() {
                // A turn runs at least one step, or a budget of nothing would give the job back for ever.
                ending = self.stop_between_steps(ran_one && began.elapsed() > self.budget);
            }
            if ending.is_none() && !ready.is_empty() {
                ran_one = true;
                for index in &ready {
                    ledger.start(*index, now);
                }
                // Looking begins at once; the gate confirms the lease before anything is changed.
                for index in ready {
                    running.runs.push(self.run_step(job, ledger, index, crashed, closing));
                }
                self.record(ledger, Next::Running, &mut running).await?;
            }
            if running.is_empty() {
                return Ok(ending);
            }
            let ran = tokio::select! {
                ran = running.next() => ran,
                () = self.next_due(ledger), if ending.is_none() => None,
                () = self.hard_stop.cancelled() => return Ok(Some(Ending::Released)),
            };
            if let Some(ran) = ran {
                if let Some(end) = self.take_in(ledger, ran) {
                    closing.cancel();
                    ending.get_or_insert(end);
                }
                // What others run on is told at once; an outcome that starts something is recorded with its start.
                if !running.is_empty() && ledger.ready(self.now()).is_empty() && ledger.is_dirty() {
                    self.record(ledger, Next::Running, &mut running).await?;
                }
            }
        }
    }

    fn stop_between_steps(&self, budget_is_spent: bool) -> Option<Ending> {
        if self.held.is_cancelled() {
            return Some(Ending::Cancelled);
        }
        (self.draining.is_cancelled() || budget_is_spent).then_some(Ending::Released)
    }

    /// Ends when the first of the waiting steps is due; never where none waits.
    async fn next_due(&self, ledger: &Ledger) {
        match ledger.wait() {
            Some((until, _)) => {
                let pause = Duration::try_from(until - self.now()).unwrap_or_default();
                #[expect(clippy::disallowed_methods, reason = "a step waits while others of its job run")]
                tokio::time::sleep(pause.max(Duration::from_millis(10))).await;
            }
            None => std::future::pending().await,
        }
    }

    /// One run of one step, from the facts as they are now.
    fn run_step<'t>(
        &'t self,
        job: &'t ClaimedJob,
        ledger: &Ledger,
        index: usize,
        crashed: &'t CancellationToken,
        closing: &'t CancellationToken,
    ) -> BoxFuture<'t, Ran> {
        let (before, step) = (ledger.facts().clone(), ledger.steps()[index].clone());
        let span = info_span!("step.run", cmk.step = %step.planned.name, cmk.job_id = %job.id);
        let run = async move {
            let mut after = before.clone();
            let outcome = self.outcome_of(job, &step, &before, &mut after, crashed, closing).await;
            if self.crash.is_some_and(|crash| crash(&step.planned.name, CrashPoint::BeforeRecord)) {
                crashed.cancel();
                std::future::pending::<()>().await;
            }
            Ran { index, before, after, outcome }
        };
        run.instrument(span).boxed()
    }

    async fn outcome_of(
        &self,
        job: &ClaimedJob,
        step: &StepRow,
        before: &Facts,
        after: &mut Facts,
        crashed: &CancellationToken,
        closing: &CancellationToken,
    ) -> StepOutcome {
        let gate = Gate {
            held: self.held,
            store: self.store,
            length: self.lease_length,
            step: &step.planned.name,
            crash: self.crash,
            crashed,
            draining: self.draining,
            closing,
        };
        let cx = StepContext {
            azure: self.azure,
            call: CallContext::new(job.id.0)
                .of_subscription(job.target.subscription())
                .looking(step.wait_reason.as_ref().is_some_and(WaitReason::is_for_an_arrival)),
            clock: self.store.clock(),
            job_id: job.id,
            facts: before,
            waiting_since: step.waiting_since,
            progress: step.progress.as_ref(),
            gate: &gate,
        };
        let run = async {
            match self.stand_in {
                Some(stand_in) => {
                    let (name, looks, held) = (step.planned.name.as_str(), step.looks, self.held);
                    stand_in(StandInStep { name, looks, gate: &gate, held }).await
                }
                None => steps::run(&step.planned.spec, &cx, after).await,
            }
        };
        AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
            error!("a step panicked");
            StepOutcome::Failed(Failure::new(Code::StepDefect, "the step ended in a defect of the service"))
        })
    }

    /// Notes what a step led to. Answers why the turn has to end, if it has to.
    fn take_in(&self, ledger: &mut Ledger, ran: Ran) -> Option<Ending> {
        let Ran { index, before, after: learned, outcome } = ran;
        let (now, name) = (self.now(), ledger.steps()[index].planned.name.clone());
        match outcome {
            StepOutcome::Done { changed } => {
                info!(cmk.step = name, changed, "step done");
                ledger.finish(index, changed, &before, &learned, now);
                None
            }
            StepOutcome::Wait { after, reason, progress } => {
                debug!(cmk.step = name, reason = reason.code, after_ms = millis(after), "step waits");
                let reason = reason.after(ledger.steps()[index].wait_reason.as_ref());
                ledger.wait_for(index, after, reason, progress, None, now);
                None
            }
            StepOutcome::Retry { failure, retry_after, progress } => {
                let attempt = ledger.steps()[index].attempts + 1;
                warn!(cmk.step = name, code = failure.code.as_str(), attempt, "step met a transient error");
                if attempt >= MAX_ATTEMPTS {
                    return Some(fail(ledger, index, spent(failure, attempt), now));
                }
                let after = retry_delay(attempt, retry_after, rand::rng().random());
                let reason = WaitReason::new("retry", format!("attempt {attempt} failed: {}", failure.message));
                ledger.wait_for(index, after, reason, progress, Some(failure), now);
                None
            }
            StepOutcome::Failed(failure) => Some(fail(ledger, index, failure, now)),
            StepOutcome::Stopped(stop) => {
                ledger.put_back(index);
                Some(if stop == Stop::Cancelled { Ending::Cancelled } else { Ending::Released })
            }
        }
    }

    /// Records where the run stands while its steps run on.
    async fn record(&self, ledger: &mut Ledger, next: Next, running: &mut Running<'_>) -> Result<(), TurnEnd> {
        let recorded = self.send(ledger, next);
        tokio::pin!(recorded);
        loop {
            tokio::select! {
                recorded = &mut recorded => return recorded,
                Some(ran) = running.runs.next() => running.ended.push_back(ran),
            }
        }
    }

    /// Records the end of the turn. Nothing can end it before: a worker that stops gives the job back with this write.
    async fn close(&self, mut ledger: Ledger, next: Next, end: TurnEnd) -> TurnEnd {
        self.send(&mut ledger, next).await.err().unwrap_or(end)
    }

    /// Sends until it is recorded or the lease ends: a database that is away for a moment loses nothing.
    async fn send(&self, ledger: &mut Ledger, next: Next) -> Result<(), TurnEnd> {
        let write = Arc::new(ledger.write(next));
        let mut pause = Duration::from_millis(50);
        loop {
            let recorded = tokio::select! {
                recorded = self.recorder.record(Arc::clone(&write)) => recorded,
                () = self.held.ended() => return Err(TurnEnd::LeaseLost),
            };
            match recorded {
                Ok(Ok(())) => {
                    let due = write.next == Next::Queued;
                    self.news.announce(write.lease.job, due);
                    return Ok(());
                }
                Ok(Err(LeaseLost)) => return Err(TurnEnd::LeaseLost),
                Err(StoreError::Unavailable(cause)) => warn!(error = %cause, "an outcome could not be recorded yet"),
                Err(cause) => {
                    error!(error = %cause, "an outcome could not be recorded");
                    return Err(TurnEnd::LeaseLost);
                }
            }
            #[expect(clippy::disallowed_methods, reason = "the pause before recording again, bounded by the lease")]
            let wait = tokio::time::sleep(pause);
            tokio::select! {
                () = wait => pause = (pause * 2).min(Duration::from_secs(1)),
                () = self.held.ended() => return Err(TurnEnd::LeaseLost),
            }
        }
    }

    /// The time: the database's at the claim and the time since then, so that workers whose clocks differ agree. In whole
    /// microseconds, as the database keeps it.
    fn now(&self) -> OffsetDateTime {
        let now = self.store.clock().pinned().unwrap_or_else(|| self.claimed_at + self.held.age());
        now - Duration::from_nanos(u64::from(now.nanosecond() % 1000))
    }
}

impl Running<'_> {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.ended.is_empty()
    }

    async fn next(&mut self) -> Option<Ran> {
        match self.ended.pop_front() {
            Some(ran) => Some(ran),
            None => self.runs.next().await,
        }
    }
}

fn fail(ledger: &mut Ledger, index: usize, failure: Failure, now: OffsetDateTime) -> Ending {
    let step = ledger.steps()[index].planned.name.clone();
    warn!(cmk.step = step, code = failure.code.as_str(), message = failure.message, "job failed");
    ledger.fail(index, &failure, now);
    Ending::Failed(failure)
}

/// The failure of a step whose attempts are spent; Azure's words of the last one are kept.
fn spent(last: Failure, attempts: u32) -> Failure {
    let message = format!("{} (attempt {attempts} of {MAX_ATTEMPTS})", last.message);
    Failure { code: Code::AzureUnavailable, class: Code::AzureUnavailable.info().class, message, azure: last.azure }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
