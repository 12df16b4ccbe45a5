//! One claimed slice of a job's run: step after step until a wait, a failure, the end, or the turn's budget.
//!
//! What belongs here: what follows from a step's outcome. What does not: which jobs run (`worker`).

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::crash::{CrashPoint, CrashPoints};
use super::lease::{Gate, Held};
use crate::azure::{Azure, CallContext};
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::retry::{MAX_ATTEMPTS, retry_delay};
use crate::steps::{self, Progress, StepContext, StepOutcome, Stop, WaitReason};
use crate::store::{Job, LeaseLost, Recorded, StepRow, Store, StoreError};

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
    /// The store.
    pub store: &'a Store,
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
}

/// What follows from one step.
enum After {
    NextStep,
    End(TurnEnd),
}

impl Turn<'_> {
    /// Runs the job until its turn ends.
    pub async fn run(&self, job: Job) -> TurnEnd {
        let began = Instant::now();
        let mut facts = job.facts.clone();
        if job.cancel_requested_at.is_some() {
            return self.cancel().await;
        }
        let last = job.steps.len().saturating_sub(1);
        let mut ran_one = false;
        for (index, step) in job.steps.iter().enumerate().filter(|(_, s)| !s.state.is_finished()) {
            if self.held.is_cancelled() {
                return self.cancel().await;
            }
            // A turn runs at least one step, or a budget of nothing would give the job back for ever.
            if self.draining.is_cancelled() || (ran_one && began.elapsed() > self.budget) {
                return self.release().await;
            }
            ran_one = true;
            let span = info_span!("step.run", cmk.step = %step.planned.name, cmk.job_id = %job.id);
            match self.run_step(&job, step, &mut facts, index == last).instrument(span).await {
                After::NextStep => {}
                After::End(end) => return end,
            }
        }
        TurnEnd::Succeeded
    }

    async fn run_step(&self, job: &Job, step: &StepRow, facts: &mut Facts, last: bool) -> After {
        let lease = self.held.lease;
        let name = step.planned.name.as_str();
        let first = step.started_at.is_none();
        let started = self.record(|| self.store.record_step_started(lease, step.ordinal, name, first)).await;
        if let Err(end) = started {
            return After::End(end);
        }
        let outcome = match self.guarded(job, step, facts).await {
            Ok(outcome) => outcome,
            Err(end) => return After::End(end),
        };
        if self.crash.is_some_and(|crash| crash(name, CrashPoint::BeforeRecord)) {
            return After::End(TurnEnd::Crashed);
        }
        self.settle(step, outcome, facts, last).await
    }

    /// Runs the step until it ends, the lease ends, or the worker has to stop; whichever comes first ends its calls.
    async fn guarded(&self, job: &Job, step: &StepRow, facts: &mut Facts) -> Result<StepOutcome, TurnEnd> {
        let crashed = CancellationToken::new();
        let gate = Gate {
            held: self.held,
            store: self.store,
            length: self.lease_length,
            step: &step.planned.name,
            crash: self.crash,
            crashed: &crashed,
            draining: self.draining,
        };
        let known = facts.clone();
        let cx = StepContext {
            azure: self.azure,
            call: CallContext::new(job.id.0)
                .of_subscription(job.target.subscription())
                .looking(step.wait_reason.as_ref().is_some_and(WaitReason::is_for_an_arrival)),
            clock: self.store.clock(),
            job_id: job.id,
            facts: &known,
            waiting_since: step.waiting_since,
            progress: step.progress.as_ref(),
            gate: &gate,
        };
        let run = AssertUnwindSafe(steps::run(&step.planned.spec, &cx, facts)).catch_unwind();
        tokio::select! {
            outcome = run => Ok(outcome.unwrap_or_else(|_| {
                error!("a step panicked");
                let message = "the step ended in a defect of the service";
                StepOutcome::Failed(Failure::new(Code::StepDefect, message))
            })),
            () = self.held.ended() => Err(TurnEnd::LeaseLost),
            () = crashed.cancelled() => Err(TurnEnd::Crashed),
            () = self.hard_stop.cancelled() => Err(self.release().await),
        }
    }

    /// Records what a step led to.
    async fn settle(&self, step: &StepRow, outcome: StepOutcome, facts: &Facts, last: bool) -> After {
        let (lease, name) = (self.held.lease, step.planned.name.as_str());
        let ended = |recorded: Result<(), TurnEnd>, end| After::End(recorded.err().unwrap_or(end));
        match outcome {
            StepOutcome::Done { changed } => {
                info!(changed, "step done");
                let done = || self.store.record_step_done(lease, step.ordinal, name, changed, facts, last);
                match self.record(done).await {
                    Ok(()) if last => After::End(TurnEnd::Succeeded),
                    Ok(()) => {
                        self.announce().await;
                        After::NextStep
                    }
                    Err(end) => After::End(end),
                }
            }
            StepOutcome::Wait { after, reason, progress } => {
                debug!(reason = reason.code, after_ms = millis(after), "step waits");
                let reason = reason.after(step.wait_reason.as_ref());
                ended(self.wait(step, after, &reason, progress.as_ref(), None).await, TurnEnd::Waiting)
            }
            StepOutcome::Retry { failure, retry_after, progress } => {
                let attempt = step.attempts + 1;
                warn!(code = failure.code.as_str(), attempt, "step met a transient error");
                if attempt >= MAX_ATTEMPTS {
                    return self.fail(step, spent(failure, attempt)).await;
                }
                let after = retry_delay(attempt, retry_after, rand::rng().random());
                let reason = WaitReason::new("retry", format!("attempt {attempt} failed: {}", failure.message));
                let waited = self.wait(step, after, &reason, progress.as_ref(), Some(&failure)).await;
                ended(waited, TurnEnd::Waiting)
            }
            StepOutcome::Failed(failure) => self.fail(step, failure).await,
            StepOutcome::Stopped(Stop::Cancelled) => After::End(self.cancel().await),
            StepOutcome::Stopped(Stop::LeaseLost) => After::End(TurnEnd::LeaseLost),
            StepOutcome::Stopped(Stop::Released) => After::End(self.release().await),
        }
    }

    /// The step waits, for what it waited for before or for something new.
    async fn wait(
        &self,
        step: &StepRow,
        after: Duration,
        reason: &WaitReason,
        progress: Option<&Progress>,
        failure: Option<&Failure>,
    ) -> Result<(), TurnEnd> {
        let known = step.wait_reason.as_ref().is_some_and(|r| r.code == reason.code);
        let (lease, name) = (self.held.lease, step.planned.name.as_str());
        let wait = || self.store.record_step_wait(lease, step.ordinal, name, after, reason, progress, failure, !known);
        self.record(wait).await
    }

    async fn fail(&self, step: &StepRow, failure: Failure) -> After {
        warn!(code = failure.code.as_str(), message = failure.message, "job failed");
        let (lease, name) = (self.held.lease, step.planned.name.as_str());
        let failed = self.record(|| self.store.record_failed(lease, step.ordinal, name, &failure)).await;
        After::End(failed.err().unwrap_or(TurnEnd::Failed))
    }

    async fn cancel(&self) -> TurnEnd {
        let cancelled = self.record(|| self.store.record_cancelled(self.held.lease)).await;
        cancelled.err().unwrap_or(TurnEnd::Cancelled)
    }

    /// Whoever listens hears of each finished step; the turn's end is announced by whoever runs the turn.
    async fn announce(&self) {
        if let Err(error) = self.store.notify(self.held.lease.job).await {
            debug!(error = %error, "a finished step could not be announced");
        }
    }

    async fn release(&self) -> TurnEnd {
        let released = self.record(|| self.store.release_job(self.held.lease)).await;
        released.err().unwrap_or(TurnEnd::Released)
    }

    /// Records until it is recorded or the lease ends: a database that is away for a moment loses nothing.
    async fn record<F: Future<Output = Recorded>>(&self, write: impl Fn() -> F) -> Result<(), TurnEnd> {
        let mut pause = Duration::from_millis(50);
        loop {
            match write().await {
                Ok(Ok(())) => return Ok(()),
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
}

/// The failure of a step whose attempts are spent; Azure's words of the last one are kept.
fn spent(last: Failure, attempts: u32) -> Failure {
    let message = format!("{} (attempt {attempts} of {MAX_ATTEMPTS})", last.message);
    Failure { code: Code::AzureUnavailable, class: Code::AzureUnavailable.info().class, message, azure: last.azure }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
