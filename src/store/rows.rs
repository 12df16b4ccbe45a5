//! The rows of jobs and steps as typed values.
//!
//! What belongs here: reading rows back into domain types. What does not: the wire form of the API.

use std::collections::BTreeMap;

use sqlx::FromRow;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::ids::{ArmId, JobId};
use crate::domain::job::{JobKind, JobState, StepState};
use crate::domain::request::CmkRequest;
use crate::plan::PlannedStep;
use crate::steps::{Progress, StepSpec, WaitReason};

/// The columns of [`JobRow`], in one place.
macro_rules! job_columns {
    () => {
        "id, kind, service, target, requested_by, labels, request, state, created_at, updated_at, finished_at, \
         run_after, wait_reason, cancel_requested_at, claim_no, lease_until, facts, failure, steps_total, steps_done, \
         event_seq, version, traceparent"
    };
}
pub(super) use job_columns;

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it is for.
    pub kind: JobKind,
    /// Slug of the service descriptor.
    pub service: String,
    /// The target.
    pub target: ArmId,
    /// Who asked for it.
    pub requested_by: String,
    /// The caller's own words.
    pub labels: BTreeMap<String, String>,
    /// The request, defaults filled in.
    pub request: CmkRequest,
    /// Where it is.
    pub state: JobState,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When anything visible last changed.
    pub updated_at: OffsetDateTime,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// The next look, for a job that is queued or waiting.
    pub run_after: OffsetDateTime,
    /// Why it waits.
    pub wait_reason: Option<WaitReason>,
    /// When somebody asked to cancel it.
    pub cancel_requested_at: Option<OffsetDateTime>,
    /// The fence.
    pub claim_no: i64,
    /// When the current lease ends.
    pub lease_until: Option<OffsetDateTime>,
    /// What its steps learned.
    pub facts: Facts,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// How many steps it has.
    pub steps_total: u16,
    /// How many of them are finished.
    pub steps_done: u16,
    /// Number of its last event.
    pub event_seq: i64,
    /// Grows with every visible change.
    pub version: i64,
    /// Trace context of the request that brought it.
    pub traceparent: Option<String>,
    /// Its steps in order; empty in lists.
    pub steps: Vec<StepRow>,
}

impl Job {
    /// The job as it was when it was accepted: what a repeated request is answered with.
    pub fn as_accepted(mut self) -> Self {
        self.state = JobState::Queued;
        self.updated_at = self.created_at;
        self.run_after = self.created_at;
        self.facts = Facts::default();
        (self.finished_at, self.wait_reason, self.cancel_requested_at) = (None, None, None);
        (self.lease_until, self.failure) = (None, None);
        (self.claim_no, self.steps_done, self.event_seq, self.version) = (0, 0, 1, 1);
        for step in &mut self.steps {
            *step = StepRow::pending(step.ordinal, step.planned.clone());
        }
        self
    }
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRow {
    /// Its place, from 0.
    pub ordinal: i16,
    /// Name and task.
    pub planned: PlannedStep,
    /// Where it is.
    pub state: StepState,
    /// Transient errors since the last success or retry.
    pub attempts: u32,
    /// How often it was run, waits included.
    pub looks: u32,
    /// Why it waits.
    pub wait_reason: Option<WaitReason>,
    /// Since when.
    pub waiting_since: Option<OffsetDateTime>,
    /// Its last error, kept until it is done.
    pub failure: Option<Failure>,
    /// An accepted, unfinished change.
    pub progress: Option<Progress>,
    /// When it was first run.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

impl StepRow {
    /// A step that has not been begun.
    fn pending(ordinal: i16, planned: PlannedStep) -> Self {
        Self {
            ordinal,
            planned,
            state: StepState::Pending,
            attempts: 0,
            looks: 0,
            wait_reason: None,
            waiting_since: None,
            failure: None,
            progress: None,
            started_at: None,
            finished_at: None,
        }
    }
}

#[derive(FromRow)]
pub(super) struct JobRow {
    id: Uuid,
    kind: String,
    service: String,
    target: String,
    requested_by: String,
    labels: Json<BTreeMap<String, String>>,
    request: Json<CmkRequest>,
    state: String,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
    run_after: OffsetDateTime,
    wait_reason: Option<Json<WaitReason>>,
    cancel_requested_at: Option<OffsetDateTime>,
    claim_no: i64,
    lease_until: Option<OffsetDateTime>,
    facts: Json<Facts>,
    failure: Option<Json<Failure>>,
    steps_total: i16,
    steps_done: i16,
    event_seq: i64,
    version: i64,
    traceparent: Option<String>,
}

impl JobRow {
    pub(super) fn into_job(self, steps: Vec<StepRow>) -> Result<Job, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt(format!("job {}: {what}", self.id));
        Ok(Job {
            id: JobId(self.id),
            kind: *JobKind::ALL.iter().find(|k| k.as_str() == self.kind).ok_or_else(|| corrupt("unknown kind"))?,
            target: ArmId::parse(&self.target).map_err(|_| corrupt("its target is no ARM id"))?,
            state: JobState::find(&self.state).ok_or_else(|| corrupt("unknown state"))?,
            service: self.service,
            requested_by: self.requested_by,
            labels: self.labels.0,
            request: self.request.0,
            created_at: self.created_at,
            updated_at: self.updated_at,
            finished_at: self.finished_at,
            run_after: self.run_after,
            wait_reason: self.wait_reason.map(|j| j.0),
            cancel_requested_at: self.cancel_requested_at,
            claim_no: self.claim_no,
            lease_until: self.lease_until,
            facts: self.facts.0,
            failure: self.failure.map(|j| j.0),
            steps_total: self.steps_total.unsigned_abs(),
            steps_done: self.steps_done.unsigned_abs(),
            event_seq: self.event_seq,
            version: self.version,
            traceparent: self.traceparent,
            steps,
        })
    }
}

/// The columns of [`StepDbRow`].
macro_rules! step_columns {
    () => {
        "job_id, ordinal, name, spec, state, attempts, looks, wait_reason, waiting_since, failure, progress, \
         started_at, finished_at"
    };
}
pub(super) use step_columns;

#[derive(FromRow)]
pub(super) struct StepDbRow {
    pub(super) job_id: Uuid,
    ordinal: i16,
    name: String,
    spec: Json<StepSpec>,
    state: String,
    attempts: i32,
    looks: i32,
    wait_reason: Option<Json<WaitReason>>,
    waiting_since: Option<OffsetDateTime>,
    failure: Option<Json<Failure>>,
    progress: Option<Json<Progress>>,
    started_at: Option<OffsetDateTime>,
    finished_at: Option<OffsetDateTime>,
}

impl StepDbRow {
    pub(super) fn into_step(self) -> Result<StepRow, StoreError> {
        let state = StepState::find(&self.state)
            .ok_or_else(|| StoreError::Corrupt(format!("step {} of job {}: unknown state", self.name, self.job_id)))?;
        Ok(StepRow {
            ordinal: self.ordinal,
            planned: PlannedStep { name: self.name, spec: self.spec.0 },
            state,
            attempts: self.attempts.unsigned_abs(),
            looks: self.looks.unsigned_abs(),
            wait_reason: self.wait_reason.map(|j| j.0),
            waiting_since: self.waiting_since,
            failure: self.failure.map(|j| j.0),
            progress: self.progress.map(|j| j.0),
            started_at: self.started_at,
            finished_at: self.finished_at,
        })
    }
}
