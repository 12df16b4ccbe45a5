//! Where a run stands, in memory: what each outcome of a step does to its steps, facts and history.
//!
//! What belongs here: pure changes of the run's state, and the writes that store it. What does not: running steps (`turn`)
//! and SQL (`store`). The worker that holds the lease is the only writer, so its copy is the truth it writes from.

use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::job::StepState;
use crate::steps::{Progress, WaitReason};
use crate::store::{ClaimedJob, EventKind, HeldLease, NewEvent, Next, RunWrite, StepRow};

/// Where a run stands.
#[derive(Clone, Debug)]
pub struct Ledger {
    lease: HeldLease,
    write_no: i32,
    steps: Vec<StepRow>,
    facts: Facts,
    events: Vec<NewEvent>,
    dirty: bool,
}

impl Ledger {
    /// The run of a job that was just claimed. A step that its last worker left running is looked at anew.
    pub fn open(job: &ClaimedJob) -> Self {
        let lease = HeldLease { job: job.id, claim_no: job.claim_no };
        let mut steps = job.steps.clone();
        for step in steps.iter_mut().filter(|s| s.state == StepState::Running) {
            step.state = StepState::Pending;
        }
        Self { lease, write_no: 0, steps, facts: job.facts.clone(), events: Vec::new(), dirty: false }
    }

    /// The steps.
    pub fn steps(&self) -> &[StepRow] {
        &self.steps
    }

    /// What the finished steps learned.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether something changed since the last write.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|s| s.state.is_finished())
    }

    /// The steps that may be run now: what they come after is finished, and what they waited for is due.
    pub fn ready(&self, now: OffsetDateTime) -> Vec<usize> {
        let ready = |(index, step): (usize, &StepRow)| {
            let due = match step.state {
                StepState::Pending => true,
                StepState::Waiting => step.next_look_at.is_none_or(|at| at <= now),
                StepState::Running | StepState::Done | StepState::Satisfied | StepState::Failed => false,
            };
            (due && self.is_free(index, step)).then_some(index)
        };
        self.steps.iter().enumerate().filter_map(ready).collect()
    }

    fn is_free(&self, index: usize, step: &StepRow) -> bool {
        let finished = |s: &StepRow| s.state.is_finished();
        match &step.planned.after {
            None => self.steps[..index].iter().all(finished),
            Some(names) => self.steps.iter().filter(|s| names.contains(&s.planned.name)).all(finished),
        }
    }

    /// The wait that ends first: until when, and why the job waits, in the words of its first waiting step.
    pub fn wait(&self) -> Option<(OffsetDateTime, WaitReason)> {
        let waiting = || self.steps.iter().filter(|s| s.state == StepState::Waiting);
        let until = waiting().filter_map(|s| s.next_look_at).min()?;
        let reason = waiting().find_map(|s| s.wait_reason.clone())?;
        Some((until, reason))
    }

    /// A step is begun, or looked at again. The first time it is an event.
    pub fn start(&mut self, index: usize, now: OffsetDateTime) {
        let Some(step) = self.steps.get_mut(index) else { return };
        if step.started_at.is_none() {
            step.started_at = Some(now);
            self.events.push(NewEvent::of_step(EventKind::StepStarted, &step.planned.name, json!({})));
        }
        step.state = StepState::Running;
        step.looks += 1;
        step.next_look_at = None;
        self.dirty = true;
    }

    /// A step is done, or was found to be. Its facts are those it changed between `before` and `after`.
    pub fn finish(&mut self, index: usize, changed: bool, before: &Facts, after: &Facts, now: OffsetDateTime) {
        let Some(step) = self.steps.get_mut(index) else { return };
        let (state, kind) = if changed {
            (StepState::Done, EventKind::StepDone)
        } else {
            (StepState::Satisfied, EventKind::StepSatisfied)
        };
        (step.state, step.finished_at, step.attempts) = (state, Some(now), 0);
        (step.wait_reason, step.waiting_since, step.next_look_at) = (None, None, None);
        (step.failure, step.progress) = (None, None);
        self.events.push(NewEvent::of_step(kind, &step.planned.name, json!({})));
        self.facts.absorb(before, after);
        self.dirty = true;
    }

    /// A step waits, for a new reason or for the one it waited for before. With a failure it met a transient error and an
    /// attempt is used. A new reason and every failure is an event.
    pub fn wait_for(
        &mut self,
        index: usize,
        after: Duration,
        reason: WaitReason,
        progress: Option<Progress>,
        failure: Option<Failure>,
        now: OffsetDateTime,
    ) {
        let Some(step) = self.steps.get_mut(index) else { return };
        let known = step.wait_reason.as_ref().is_some_and(|r| r.code == reason.code);
        // In whole microseconds, as the database keeps it: a job that is due has a step that is due.
        let next = now + Duration::from_micros(u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 2));
        let event = match &failure {
            Some(failure) => {
                Some((EventKind::StepRetrying, json!({ "failure": failure, "nextLookAt": rfc3339(next) })))
            }
            None if !known => Some((EventKind::StepWaiting, json!({ "reason": reason, "nextLookAt": rfc3339(next) }))),
            None => None,
        };
        if let Some((kind, data)) = event {
            self.events.push(NewEvent::of_step(kind, &step.planned.name, data));
        }
        if !known || step.waiting_since.is_none() {
            step.waiting_since = Some(now);
        }
        step.attempts += u32::from(failure.is_some());
        step.state = StepState::Waiting;
        (step.wait_reason, step.next_look_at) = (Some(reason), Some(next));
        (step.progress, step.failure) = (progress, failure);
        self.dirty = true;
    }

    /// A step failed for good.
    pub fn fail(&mut self, index: usize, failure: &Failure, now: OffsetDateTime) {
        let Some(step) = self.steps.get_mut(index) else { return };
        (step.state, step.finished_at) = (StepState::Failed, Some(now));
        (step.wait_reason, step.next_look_at, step.failure) = (None, None, Some(failure.clone()));
        self.events.push(NewEvent::of_step(EventKind::StepFailed, &step.planned.name, json!({ "failure": failure })));
        self.dirty = true;
    }

    /// A step was begun and came to nothing: it is looked at again.
    pub fn put_back(&mut self, index: usize) {
        if let Some(step) = self.steps.get_mut(index).filter(|s| s.state == StepState::Running) {
            step.state = StepState::Pending;
            self.dirty = true;
        }
    }

    /// The write that stores where the run stands, and where it goes on. The end of a job is an event, and leaves no step
    /// at work or waiting.
    pub fn write(&mut self, next: Next) -> RunWrite {
        let end = match &next {
            Next::Succeeded => Some((EventKind::JobSucceeded, json!({}))),
            Next::Failed(failure) => Some((EventKind::JobFailed, json!({ "failure": failure }))),
            Next::Cancelled => Some((EventKind::JobCancelled, json!({}))),
            Next::Running | Next::Waiting { .. } | Next::Queued => None,
        };
        if let Some((kind, data)) = end {
            self.events.push(NewEvent::of_job(kind, data));
        }
        for step in &mut self.steps {
            let idle = match next {
                Next::Running => false,
                Next::Waiting { .. } | Next::Queued => step.state == StepState::Running,
                _ => matches!(step.state, StepState::Running | StepState::Waiting),
            };
            if idle {
                (step.state, step.wait_reason, step.next_look_at) = (StepState::Pending, None, None);
            }
        }
        let write_no = self.write_no;
        self.write_no += 1;
        self.dirty = false;
        RunWrite {
            lease: self.lease,
            write_no,
            next,
            steps: self.steps.clone(),
            facts: self.facts.clone(),
            events: std::mem::take(&mut self.events),
        }
    }
}

fn rfc3339(at: OffsetDateTime) -> Value {
    at.format(&time::format_description::well_known::Rfc3339).map_or(Value::Null, Value::from)
}
