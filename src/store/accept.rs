//! Accepting a job: job, steps, first event and idempotency key in one statement, all or nothing.
//!
//! What belongs here: the insert and what it can meet. What does not: validating the request.

use std::sync::Arc;

use serde_json::json;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::stored_steps;
use super::{EventKind, Job, StepRow, Store, StoreError};
use crate::domain::facts::Facts;
use crate::domain::ids::JobId;
use crate::domain::job::{JobKind, JobState};
use crate::domain::request::CmkRequest;
use crate::plan::{PLAN_VERSION, Plan};

/// How long an idempotency key is kept.
pub const IDEMPOTENCY_DAYS: i32 = 30;

/// A job to be accepted.
#[derive(Clone, Debug)]
pub struct NewJob<'a> {
    /// Its id.
    pub id: JobId,
    /// What it is for.
    pub kind: JobKind,
    /// Slug of the service descriptor.
    pub service: &'a str,
    /// Who asks.
    pub requested_by: &'a str,
    /// The request.
    pub request: &'a CmkRequest,
    /// Its plan.
    pub plan: &'a Plan,
    /// W3C trace context of the accepting request.
    pub traceparent: Option<&'a str>,
}

impl NewJob<'_> {
    /// The job as it stands in the database once it has been accepted.
    pub(super) fn stored(&self, created_at: OffsetDateTime) -> Job {
        Job {
            id: self.id,
            kind: self.kind,
            service: self.service.to_owned(),
            target: self.request.target.resource_id.clone(),
            requested_by: self.requested_by.to_owned(),
            labels: self.request.labels.clone(),
            request: self.request.clone(),
            state: JobState::Queued,
            created_at,
            updated_at: created_at,
            finished_at: None,
            run_after: created_at,
            wait_reason: None,
            cancel_requested_at: None,
            claim_no: 0,
            lease_until: None,
            facts: Facts::default(),
            failure: None,
            steps_total: u16::try_from(self.plan.steps.len()).unwrap_or(u16::MAX),
            steps_done: 0,
            event_seq: 1,
            version: 1,
            traceparent: self.traceparent.map(str::to_owned),
            steps: pending(self.plan),
        }
    }
}

/// The steps of a plan that nobody has begun.
pub(super) fn pending(plan: &Plan) -> Vec<StepRow> {
    (0..).zip(&plan.steps).map(|(ordinal, step)| StepRow::pending(ordinal, Arc::new(step.clone()))).collect()
}

/// A caller's idempotency key with the hash of the body it came with.
#[derive(Clone, Debug)]
pub struct IdempotencyKey<'a> {
    /// Who sent it: keys of different callers never meet.
    pub caller: &'a str,
    /// The key.
    pub key: &'a str,
    /// SHA-256 of the canonical body.
    pub request_hash: [u8; 32],
}

/// How accepting ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// The job is stored.
    New(Box<Job>),
    /// The key was used before with the same body: the job it brought.
    Replayed(Box<Job>),
    /// The key was used before with another body.
    KeyReused,
    /// The target has an unfinished job: this one.
    TargetBusy(JobId),
}

impl Store {
    /// Accepts a job.
    pub async fn insert_job(&self, job: &NewJob<'_>, key: Option<&IdempotencyKey<'_>>) -> Result<Accepted, StoreError> {
        // Two rounds: the job that is in the way may end, or the key's first use may be rolled back, between the insert
        // and the look at what was in the way.
        for _ in 0..2 {
            match self.try_insert(job, key).await {
                Ok(Some(created_at)) => return Ok(Accepted::New(Box::new(job.stored(created_at)))),
                Ok(None) => {
                    if let Some(accepted) = self.replay(key).await? {
                        return Ok(accepted);
                    }
                }
                Err(sqlx::Error::Database(e)) if e.constraint() == Some("jobs_one_unfinished_per_target") => {
                    // A repeated key is answered as such even while its own job keeps the target busy.
                    if let Some(accepted) = self.replay(key).await? {
                        return Ok(accepted);
                    }
                    if let Some(id) = self.find_unfinished(&job.request.target.resource_id.normal()).await? {
                        return Ok(Accepted::TargetBusy(id));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut))
    }

    /// One statement. Answers when the job was accepted; `None`: the idempotency key exists already and nothing was stored.
    async fn try_insert(
        &self,
        job: &NewJob<'_>,
        key: Option<&IdempotencyKey<'_>>,
    ) -> Result<Option<OffsetDateTime>, sqlx::Error> {
        sqlx::query_scalar(
            "with t as (select coalesce($1::timestamptz, now()) as now),
             -- A key that was used before is only read: a repeated request writes nothing and locks nothing.
             had as (
                 select 1 from idempotency_keys, t
                 where caller = $2 and key = $3 and created_at >= t.now - make_interval(days => $6)
             ),
             key as (
                 insert into idempotency_keys as k (caller, key, request_hash, job_id, created_at)
                 select $2, $3, $4, $5, t.now from t where $3::text is not null and not exists (select from had)
                 on conflict (caller, key) do update
                     set request_hash = excluded.request_hash, job_id = excluded.job_id, created_at = excluded.created_at
                     where k.created_at < excluded.created_at - make_interval(days => $6)
                 returning 1
             ),
             job as (
                 insert into jobs (id, kind, service, target, target_key, requested_by, labels, request, plan_version,
                                   plan, created_at, steps_total, traceparent)
                 select $5, $7, $8, $9, $10, $11, $12, $13, $14, $15, t.now, $17, $18
                 from t where $3::text is null or exists (select from key)
                 returning id, created_at
             ),
             run as (
                 insert into job_runs (job_id, target_key, state, run_after, updated_at, steps, steps_total, event_seq,
                                       version)
                 select id, $10, 'queued', created_at, created_at, $16, $17, 1, 1 from job
             ),
             event as (
                 insert into job_events (job_id, seq, at, kind, data) select id, 1, created_at, $19, $20 from job
             )
             select created_at from job",
        )
        .bind(self.now())
        .bind(key.map(|k| k.caller))
        .bind(key.map(|k| k.key))
        .bind(key.map(|k| k.request_hash.as_slice()))
        .bind(job.id.0)
        .bind(IDEMPOTENCY_DAYS)
        .bind(job.kind.as_str())
        .bind(job.service)
        .bind(job.request.target.resource_id.as_str())
        .bind(job.request.target.resource_id.normal())
        .bind(job.requested_by)
        .bind(Json(&job.request.labels))
        .bind(Json(job.request))
        .bind(PLAN_VERSION)
        .bind(Json(&job.plan.steps))
        .bind(stored_steps(&pending(job.plan)))
        .bind(i16::try_from(job.plan.steps.len()).unwrap_or(i16::MAX))
        .bind(job.traceparent)
        .bind(EventKind::JobAccepted.as_str())
        .bind(json!({ "requestedBy": job.requested_by }))
        .fetch_optional(&self.pool)
        .await
    }

    async fn replay(&self, key: Option<&IdempotencyKey<'_>>) -> Result<Option<Accepted>, StoreError> {
        let Some(key) = key else { return Ok(None) };
        let row: Option<(Vec<u8>, Uuid, OffsetDateTime)> = sqlx::query_as(
            "select request_hash, job_id, created_at from idempotency_keys
             where caller = $1 and key = $2 and created_at >= coalesce($3, now()) - make_interval(days => $4)",
        )
        .bind(key.caller)
        .bind(key.key)
        .bind(self.now())
        .bind(IDEMPOTENCY_DAYS)
        .fetch_optional(&self.pool)
        .await?;
        let Some((hash, id, _)) = row else { return Ok(None) };
        if hash != key.request_hash {
            return Ok(Some(Accepted::KeyReused));
        }
        Ok(self.get_job(JobId(id)).await?.map(|job| Accepted::Replayed(Box::new(job))))
    }

    /// The unfinished job of a target, given in lower case.
    pub async fn find_unfinished(&self, target_key: &str) -> Result<Option<JobId>, StoreError> {
        let id: Option<Uuid> = sqlx::query_scalar("select job_id from job_runs where target_key = $1")
            .bind(target_key)
            .fetch_optional(&self.pool)
            .await?;
        Ok(id.map(JobId))
    }

    /// Forgets idempotency keys past their time. Returns how many.
    pub async fn delete_expired_keys(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "delete from idempotency_keys where created_at < coalesce($1, now()) - make_interval(days => $2)",
        )
        .bind(self.now())
        .bind(IDEMPOTENCY_DAYS)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected())
    }
}
