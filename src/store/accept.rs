//! Accepting a job: job, steps, first event and idempotency key in one statement, all or nothing.
//!
//! What belongs here: the insert and what it can meet. What does not: validating the request.

use serde_json::json;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{EventKind, Job, Store, StoreError};
use crate::domain::ids::JobId;
use crate::domain::job::JobKind;
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
                Ok(true) => {
                    let stored = self.get_job(job.id).await?;
                    let stored = stored.ok_or_else(|| StoreError::Corrupt("a stored job is gone".into()))?;
                    return Ok(Accepted::New(Box::new(stored)));
                }
                Ok(false) => {
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

    /// One statement. False: the idempotency key exists already and nothing was stored.
    async fn try_insert(&self, job: &NewJob<'_>, key: Option<&IdempotencyKey<'_>>) -> Result<bool, sqlx::Error> {
        let specs: Vec<serde_json::Value> = job.plan.steps.iter().map(|s| json!(s.spec)).collect();
        let names: Vec<&str> = job.plan.steps.iter().map(|s| s.name.as_str()).collect();
        let inserted: Option<Uuid> = sqlx::query_scalar(
            "with t as (select coalesce($1::timestamptz, now()) as now),
             key as (
                 insert into idempotency_keys as k (caller, key, request_hash, job_id, created_at)
                 select $2, $3, $4, $5, t.now from t where $3::text is not null
                 on conflict (caller, key) do update
                     set request_hash = excluded.request_hash, job_id = excluded.job_id, created_at = excluded.created_at
                     where k.created_at < excluded.created_at - make_interval(days => $6)
                 returning 1
             ),
             job as (
                 insert into jobs (id, kind, service, target, target_key, requested_by, labels, request, plan_version,
                                   state, created_at, updated_at, run_after, steps_total, event_seq, traceparent)
                 select $5, $7, $8, $9, $10, $11, $12, $13, $14, 'queued', t.now, t.now, t.now, cardinality($15::text[]),
                        1, $17
                 from t where $3::text is null or exists (select from key)
                 returning id
             ),
             steps as (
                 insert into job_steps (job_id, ordinal, name, spec)
                 select job.id, s.ordinal - 1, s.name, s.spec
                 from job, unnest($15::text[], $16::jsonb[]) with ordinality as s (name, spec, ordinal)
             ),
             event as (
                 insert into job_events (job_id, seq, at, kind, data)
                 select job.id, 1, t.now, $18, $19 from job, t
             )
             select id from job",
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
        .bind(&names)
        .bind(&specs)
        .bind(job.traceparent)
        .bind(EventKind::JobAccepted.as_str())
        .bind(json!({ "requestedBy": job.requested_by }))
        .fetch_optional(&self.pool)
        .await?;
        Ok(inserted.is_some())
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
        let id: Option<Uuid> = sqlx::query_scalar("select id from jobs where target_key = $1 and finished_at is null")
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
