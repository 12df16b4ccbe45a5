//! The rows of jobs and steps as typed values.
//!
//! What belongs here: reading rows back into domain types. What does not: the wire form of the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
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
use crate::steps::{Progress, WaitReason};

/// The columns of [`JobRow`], over [`job_tables!`]: what was accepted, and where the job is while it runs or how it ended.
/// Lists leave plan and steps out.
macro_rules! job_columns {
    () => {
        $crate::store::rows::job_columns!("j.plan, coalesce(r.steps, j.steps) as steps")
    };
    (list) => {
        $crate::store::rows::job_columns!("'[]'::jsonb as plan, '[]'::jsonb as steps")
    };
    ($steps:literal) => {
        concat!(
            $steps,
            ", j.id, j.kind, j.service, j.target, j.requested_by, j.labels, j.request, j.created_at, j.finished_at, \
             j.failure, j.steps_total, j.traceparent, coalesce(r.state, j.state) as state, \
             coalesce(r.updated_at, j.updated_at) as updated_at, coalesce(r.run_after, j.finished_at) as run_after, \
             r.wait_reason, coalesce(r.cancel_requested_at, j.cancel_requested_at) as cancel_requested_at, \
             coalesce(r.claim_no, j.claim_no) as claim_no, r.lease_until, coalesce(r.facts, j.facts) as facts, \
             coalesce(r.steps_done, j.steps_done) as steps_done, coalesce(r.event_seq, j.event_seq) as event_seq, \
             coalesce(r.version, j.version) as version"
        )
    };
}
pub(super) use job_columns;

/// Jobs with their runs, where they run.
macro_rules! job_tables {
    () => {
        "jobs j left join job_runs r on r.job_id = j.id"
    };
}
pub(super) use job_tables;

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
    /// What a worker needs of it.
    pub fn claimed(&self) -> ClaimedJob {
        ClaimedJob {
            id: self.id,
            claim_no: self.claim_no,
            target: self.target.clone(),
            cancel_requested_at: self.cancel_requested_at,
            traceparent: self.traceparent.clone(),
            facts: self.facts.clone(),
            steps: self.steps.clone(),
        }
    }

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

/// What a worker needs of a job to run it. The request is not among it: the plan has taken from it what the steps need.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedJob {
    /// Its id.
    pub id: JobId,
    /// The fence.
    pub claim_no: i64,
    /// The target.
    pub target: ArmId,
    /// When somebody asked to cancel it.
    pub cancel_requested_at: Option<OffsetDateTime>,
    /// Trace context of the request that brought it.
    pub traceparent: Option<String>,
    /// What its steps learned.
    pub facts: Facts,
    /// Its steps in order.
    pub steps: Vec<StepRow>,
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRow {
    /// Its place, from 0.
    pub ordinal: i16,
    /// Name and task; they never change, so all copies of a step share them.
    pub planned: Arc<PlannedStep>,
    /// Where it is.
    pub state: StepState,
    /// Transient errors since the last success or retry.
    pub attempts: u32,
    /// How often it was run, waits included.
    pub looks: u32,
    /// Why it waits.
    pub wait_reason: Option<WaitReason>,
    /// Since when it waits for this reason.
    pub waiting_since: Option<OffsetDateTime>,
    /// Its last error, kept until it is done.
    pub failure: Option<Failure>,
    /// An accepted, unfinished change.
    pub progress: Option<Progress>,
    /// When it is looked at again, while it waits.
    pub next_look_at: Option<OffsetDateTime>,
    /// When it was first run.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

impl StepRow {
    /// A step that has not been begun.
    pub(super) fn pending(ordinal: i16, planned: Arc<PlannedStep>) -> Self {
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
            next_look_at: None,
            started_at: None,
            finished_at: None,
        }
    }
}

/// What changes about a step, as it is stored; the rest stands in the plan.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StoredStep {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StepState>,
    #[serde(skip_serializing_if = "is_zero")]
    attempts: u32,
    #[serde(skip_serializing_if = "is_zero")]
    looks: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_reason: Option<WaitReason>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    waiting_since: Option<OffsetDateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    next_look_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    finished_at: Option<OffsetDateTime>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl From<&StepRow> for StoredStep {
    fn from(step: &StepRow) -> Self {
        Self {
            state: (step.state != StepState::Pending).then_some(step.state),
            attempts: step.attempts,
            looks: step.looks,
            // A step at work remembers in its worker what it waited for; nobody else is told that it waits.
            wait_reason: step.wait_reason.clone().filter(|_| step.state == StepState::Waiting),
            waiting_since: step.waiting_since,
            failure: step.failure.clone(),
            progress: step.progress.clone(),
            next_look_at: step.next_look_at,
            started_at: step.started_at,
            finished_at: step.finished_at,
        }
    }
}

impl StoredStep {
    /// A step of a job that ends: one that was at work or waited is pending, it would be looked at again.
    pub(super) fn reset(self) -> Self {
        match self.state {
            Some(StepState::Running | StepState::Waiting) => {
                Self { state: None, wait_reason: None, next_look_at: None, ..self }
            }
            _ => self,
        }
    }

    /// A step of a job that is tried again: it is begun anew, and its looks go on counting.
    pub(super) fn again(self) -> Self {
        Self { looks: self.looks, ..Self::default() }
    }

    fn with(self, ordinal: i16, planned: Arc<PlannedStep>) -> StepRow {
        StepRow {
            ordinal,
            planned,
            state: self.state.unwrap_or(StepState::Pending),
            attempts: self.attempts,
            looks: self.looks,
            wait_reason: self.wait_reason,
            waiting_since: self.waiting_since,
            failure: self.failure,
            progress: self.progress,
            next_look_at: self.next_look_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
        }
    }
}

/// Steps as they are stored.
pub(super) fn stored_steps(steps: &[StepRow]) -> Json<Vec<StoredStep>> {
    Json(steps.iter().map(StoredStep::from).collect())
}

/// Steps as they stood, with what the plan says about them.
fn read_steps(id: Uuid, plan: Vec<PlannedStep>, steps: Vec<StoredStep>) -> Result<Vec<StepRow>, StoreError> {
    if plan.len() != steps.len() {
        return Err(corrupt(id, "its steps are not those of its plan"));
    }
    let steps = (0..).zip(plan).zip(steps);
    Ok(steps.map(|((ordinal, planned), step)| step.with(ordinal, Arc::new(planned))).collect())
}

fn read_target(id: Uuid, target: &str) -> Result<ArmId, StoreError> {
    ArmId::parse(target).map_err(|_| corrupt(id, "its target is no ARM id"))
}

fn corrupt(id: Uuid, what: &str) -> StoreError {
    StoreError::Corrupt(format!("job {id}: {what}"))
}

/// A row of a claim.
#[derive(FromRow)]
pub(super) struct ClaimedRow {
    job_id: Uuid,
    claim_no: i64,
    target: String,
    cancel_requested_at: Option<OffsetDateTime>,
    traceparent: Option<String>,
    facts: Json<Facts>,
    plan: Json<Vec<PlannedStep>>,
    steps: Json<Vec<StoredStep>>,
}

impl ClaimedRow {
    pub(super) fn into_job(self) -> Result<ClaimedJob, StoreError> {
        Ok(ClaimedJob {
            id: JobId(self.job_id),
            claim_no: self.claim_no,
            target: read_target(self.job_id, &self.target)?,
            cancel_requested_at: self.cancel_requested_at,
            traceparent: self.traceparent,
            facts: self.facts.0,
            steps: read_steps(self.job_id, self.plan.0, self.steps.0)?,
        })
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
    plan: Json<Vec<PlannedStep>>,
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
    steps: Json<Vec<StoredStep>>,
    steps_total: i16,
    steps_done: i16,
    event_seq: i64,
    version: i64,
    traceparent: Option<String>,
}

impl JobRow {
    /// The job with its steps.
    pub(super) fn into_job(self) -> Result<Job, StoreError> {
        let corrupt = |what: &str| corrupt(self.id, what);
        Ok(Job {
            id: JobId(self.id),
            kind: *JobKind::ALL.iter().find(|k| k.as_str() == self.kind).ok_or_else(|| corrupt("unknown kind"))?,
            target: read_target(self.id, &self.target)?,
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
            steps: read_steps(self.id, self.plan.0, self.steps.0)?,
        })
    }
}
