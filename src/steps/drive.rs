//! The loop that every step kind goes through.
//!
//! What belongs here: the order observe, decide, act, observe; the mapping of errors to outcomes; waiting for accepted
//! changes. What does not: anything that knows a step kind.

use std::time::Duration;

use tracing::{Instrument, debug, info_span};

use super::windows::Moment;
use super::{Acted, Decision, Progress, RATE_LIMIT, Step, StepContext, StepError, StepOutcome, WaitReason};
use crate::azure::{AzureError, AzureErrorKind, OperationState};
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::retry::{OPERATION_TIMEOUT, probe_delay};

/// Changes that Azure accepts for one step. A step that still wants to change something after so many is not converging.
const MAX_CHANGES: u32 = 8;

/// How long a step that is not converging goes on looking.
const CONVERGING: Duration = Duration::from_secs(600);

/// Runs one step once.
pub async fn drive<S: Step + Sync>(step: &S, cx: &StepContext<'_>, facts: &mut Facts) -> StepOutcome {
    let mut run = Run { step, cx, changes: 0 };
    match run.converge().await {
        Ok(seen) => {
            step.learn(&seen, facts, cx);
            StepOutcome::Done { changed: run.changes > 0 || cx.progress.is_some() }
        }
        Err(outcome) => outcome,
    }
}

struct Run<'a, 'c, S: Step> {
    step: &'a S,
    cx: &'a StepContext<'c>,
    /// Changes that Azure accepted in this run.
    changes: u32,
}

impl<S: Step + Sync> Run<'_, '_, S> {
    /// Looks and acts until what was seen satisfies the step.
    async fn converge(&mut self) -> Result<S::Seen, StepOutcome> {
        self.follow_operation().await?;
        let mut seen = self.observe().await?;
        loop {
            match self.step.decide(&seen, self.cx.facts) {
                Decision::Satisfied => return Ok(seen),
                Decision::Refuse(failure) => return Err(StepOutcome::Failed(failure)),
                Decision::Wait(reason) => return Err(self.wait(reason, None)),
                Decision::Act(_) if self.all_changes() >= MAX_CHANGES => return Err(self.not_converging()),
                Decision::Act(action) => {
                    seen = match self.act(action).await? {
                        Some(seen) => seen,
                        None => self.observe().await?,
                    };
                }
            }
        }
    }

    async fn observe(&self) -> Result<S::Seen, StepOutcome> {
        self.step.observe(self.cx).instrument(info_span!("step.observe")).await.map_err(|e| self.outcome_of(e))
    }

    async fn act(&mut self, action: S::Action) -> Result<Option<S::Seen>, StepOutcome> {
        self.cx.gate.may_act().await.map_err(StepOutcome::Stopped)?;
        let answer = self.step.act(action, self.cx).instrument(info_span!("step.act")).await;
        self.cx.gate.acted().await;
        let answer = answer.map_err(|e| self.outcome_of(e))?;
        self.changes += 1;
        match answer {
            Acted::Done => Ok(None),
            Acted::Seen(seen) => Ok(Some(seen)),
            Acted::Accepted { operation, retry_after } => {
                let progress = Progress { operation, accepted_at: self.cx.now(), changes: self.all_changes() };
                let after = probe_delay(Duration::ZERO, retry_after);
                let reason = WaitReason::new("azure-operation", "Azure accepted the change and works on it");
                Err(StepOutcome::Wait { after, reason, progress: Some(progress) })
            }
        }
    }

    /// Asks about a change that Azure accepted in an earlier turn. Whatever the operation says, the resource is looked
    /// at afterwards, unless the operation is still at work or has failed.
    async fn follow_operation(&self) -> Result<(), StepOutcome> {
        let Some(progress) = self.cx.progress else { return Ok(()) };
        let Some(operation) = &progress.operation else { return Ok(()) };
        match self.cx.azure.arm.poll(&self.cx.call, operation).await {
            Ok(OperationState::Running { retry_after }) => {
                let elapsed = self.elapsed_since(progress.accepted_at);
                if elapsed >= OPERATION_TIMEOUT {
                    let message = format!("{}: Azure accepted the change and did not finish it", self.step.doing());
                    return Err(StepOutcome::Failed(Failure::new(Code::OperationTimeout, message)));
                }
                let reason = WaitReason::new("azure-operation", "Azure accepted the change and works on it");
                let after = probe_delay(elapsed, retry_after);
                Err(StepOutcome::Wait { after, reason, progress: Some(progress.clone()) })
            }
            Ok(OperationState::Failed(error)) => Err(self.outcome_of_failed_operation(error)),
            Ok(OperationState::Succeeded | OperationState::Forgotten) => Ok(()),
            // Where only `Location` is to be followed, the failure is the answer itself.
            Err(error) if is_about_the_operation(&error) => Err(self.outcome_of_failed_operation(error)),
            // Unreadable for now: the resource itself cannot tell whether the operation goes on, so ask again later. The
            // step's own "not yet" is about its changes and reads and does not apply.
            Err(error) => Err(self.plain_outcome_of(&error)),
        }
    }

    /// A failed operation is not repeated blindly, unless the reason is one that time heals.
    fn outcome_of_failed_operation(&self, error: AzureError) -> StepOutcome {
        if let Some(outcome) = self.not_yet(&error) {
            return outcome;
        }
        let failure = error.to_failure(&self.step.doing());
        if error.is_transient() {
            // Said in a report about the operation, it has ended and is started anew. Said instead of a report (409
            // AnotherOperationInProgress), it may still be at work: what it makes is waited for as any late read.
            let unclear = error.status.is_some_and(|status| status >= 400);
            let progress = self.progress().filter(|_| unclear).map(|p| Progress { operation: None, ..p });
            return StepOutcome::Retry { failure, retry_after: error.retry_after, progress };
        }
        let unspecific = matches!(failure.code, Code::AzureRejected | Code::AzureConflict);
        let code = if unspecific { Code::OperationFailed } else { failure.code };
        StepOutcome::Failed(Failure { code, class: code.info().class, ..failure })
    }

    fn outcome_of(&self, error: StepError) -> StepOutcome {
        let error = match error {
            StepError::Failed(failure) => return StepOutcome::Failed(failure),
            StepError::Azure(error) => error,
        };
        if error.kind == AzureErrorKind::RateLimited {
            return self.plain_outcome_of(&error);
        }
        debug!(kind = ?error.kind, code = error.code, status = error.status, "azure refused");
        if let Some(outcome) = self.not_yet(&error) {
            return outcome;
        }
        self.plain_outcome_of(&error)
    }

    fn plain_outcome_of(&self, error: &AzureError) -> StepOutcome {
        // Nothing was sent, so nothing failed: no attempt is used.
        if error.kind == AzureErrorKind::RateLimited {
            let after = error.retry_after.unwrap_or(Duration::from_secs(1));
            let reason =
                WaitReason::new(RATE_LIMIT, "Azure's limit on calls is used up; other jobs are before this one");
            return StepOutcome::Wait { after, reason, progress: self.progress() };
        }
        let failure = error.to_failure(&self.step.doing());
        if error.is_transient() || error.kind == AzureErrorKind::UnknownOutcome {
            return StepOutcome::Retry { failure, retry_after: error.retry_after, progress: self.progress() };
        }
        self.own_right(error).unwrap_or(StepOutcome::Failed(failure))
    }

    /// A wait for a right of the service's own that may have been granted a moment ago.
    fn own_right(&self, error: &AzureError) -> Option<StepOutcome> {
        let not_yet = Moment::of(self.cx).own_right(error.kind)?;
        let left = positive(not_yet.until - self.cx.now());
        let after = probe_delay(self.elapsed_since(not_yet.since), error.retry_after).min(left);
        Some(StepOutcome::Wait { after, reason: not_yet.reason, progress: self.progress() })
    }

    /// A wait within the step's own window; at its end a failure that keeps Azure's words. What was refused is to be done
    /// again, so nothing is remembered of it: the next run looks and acts anew.
    fn not_yet(&self, error: &AzureError) -> Option<StepOutcome> {
        let not_yet = self.step.not_yet(error, self.cx)?;
        let now = self.cx.now();
        if now >= not_yet.until {
            let seconds = (now - not_yet.since).whole_seconds();
            let message = format!("{}: {} (after {seconds} s)", self.step.doing(), not_yet.reason.text);
            return Some(StepOutcome::Failed(Failure::new(not_yet.code, message).with_azure(error.detail())));
        }
        let left = positive(not_yet.until - now);
        let after = probe_delay(self.elapsed_since(not_yet.since), error.retry_after).min(left);
        Some(StepOutcome::Wait { after, reason: not_yet.reason, progress: None })
    }

    fn wait(&self, reason: WaitReason, retry_after: Option<Duration>) -> StepOutcome {
        let since = self.cx.progress.map(|p| p.accepted_at).or(self.cx.waiting_since);
        let elapsed = since.map_or(Duration::ZERO, |since| self.elapsed_since(since));
        if elapsed >= OPERATION_TIMEOUT {
            let message = format!("{}: {}", self.step.doing(), reason.text);
            return StepOutcome::Failed(Failure::new(Code::OperationTimeout, message));
        }
        StepOutcome::Wait { after: probe_delay(elapsed, retry_after), reason, progress: self.progress() }
    }

    /// Azure takes every change and the next look shows none of them.
    fn not_converging(&self) -> StepOutcome {
        let elapsed = self.cx.progress.map_or(Duration::ZERO, |p| self.elapsed_since(p.accepted_at));
        let text = "Azure took the change, but it does not read back";
        if elapsed >= CONVERGING {
            let message = format!("{}: {text}", self.step.doing());
            return StepOutcome::Failed(Failure::new(Code::AzureConflict, message));
        }
        self.wait(WaitReason::new("read-lag", text), None)
    }

    /// What to remember when the run ends without a new operation: an earlier one, or that this run changed something.
    fn progress(&self) -> Option<Progress> {
        let changes = self.all_changes();
        match self.cx.progress {
            Some(earlier) => Some(Progress { changes, ..earlier.clone() }),
            None => (changes > 0).then(|| Progress { operation: None, accepted_at: self.cx.now(), changes }),
        }
    }

    fn all_changes(&self) -> u32 {
        self.changes + self.cx.progress.map_or(0, |p| p.changes)
    }

    fn elapsed_since(&self, since: time::OffsetDateTime) -> Duration {
        positive(self.cx.now() - since)
    }
}

/// Whether an error that answered a question about an operation tells how the operation ended, rather than why the
/// question was not answered.
fn is_about_the_operation(error: &AzureError) -> bool {
    let asking = matches!(
        error.kind,
        AzureErrorKind::Authentication
            | AzureErrorKind::Forbidden
            | AzureErrorKind::ProviderNotRegistered
            | AzureErrorKind::UntrustedUrl
            | AzureErrorKind::Unexpected
    );
    error.status.is_some_and(|status| (400..500).contains(&status)) && !asking && !error.is_transient()
}

fn positive(duration: time::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}
