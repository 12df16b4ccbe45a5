//! What callers may ask of a job that exists: cancel and retry.
//!
//! What belongs here: the two marks and what they do at once. What does not: stopping a running worker, which looks at
//! the mark itself.
//!
//! Transactions that change nothing are rolled back by name: one that is only dropped keeps its lock for a moment, in
//! which a claim would pass the job over.

use serde_json::json;
use sqlx::types::Json;
use sqlx::{PgConnection, Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{NewEvent, insert_events};
use super::rows::StoredStep;
use super::{EventKind, Store, StoreError};
use crate::domain::ids::JobId;
use crate::domain::job::JobState;

/// How asking to cancel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The job is cancelled: no worker had it.
    Cancelled,
    /// A worker has it and will stop at its next safe point.
    Requested,
    /// The job had ended.
    Ended(JobState),
    /// No such job.
    NotFound,
}

/// How asking for another try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// The job is queued again.
    Queued,
    /// The job has not failed.
    NotFailed(JobState),
    /// Its target has an unfinished job by now: this one.
    TargetBusy(JobId),
    /// No such job.
    NotFound,
}

impl Store {
    /// Cancels a job that no worker has, or marks it for its worker. Asking again is harmless.
    pub async fn request_cancel(&self, id: JobId, by: &str) -> Result<CancelOutcome, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some((state, marked, steps)) = lock_run(&mut tx, id).await? else {
            tx.rollback().await?;
            return Ok(self.get_mark(id).await?.map_or(CancelOutcome::NotFound, |m| CancelOutcome::Ended(m.state)));
        };
        // Told once per run: a job that its worker let wait meanwhile has the mark already.
        let mut events = Vec::with_capacity(2);
        if !marked {
            events.push(NewEvent::of_job(EventKind::JobCancelRequested, json!({ "requestedBy": by })));
        }
        if state == JobState::Running {
            if marked {
                tx.rollback().await?;
            } else {
                self.mark_cancelled(&mut tx, id, &events).await?;
                tx.commit().await?;
            }
            return Ok(CancelOutcome::Requested);
        }
        events.push(NewEvent::of_job(EventKind::JobCancelled, json!({})));
        self.end_cancelled(&mut tx, id, Json(steps.into_iter().map(StoredStep::reset).collect()), &events).await?;
        tx.commit().await?;
        Ok(CancelOutcome::Cancelled)
    }

    async fn mark_cancelled(&self, tx: &mut PgConnection, id: JobId, events: &[NewEvent]) -> Result<(), StoreError> {
        let (seq, now): (i64, OffsetDateTime) = sqlx::query_as(
            "update job_runs set cancel_requested_at = coalesce($2, now()), updated_at = coalesce($2, now()),
                                 version = version + 1, event_seq = event_seq + $3
             where job_id = $1 returning event_seq, updated_at",
        )
        .bind(id.0)
        .bind(self.now())
        .bind(i64::try_from(events.len()).unwrap_or(1))
        .fetch_one(&mut *tx)
        .await?;
        Ok(insert_events(tx, id.0, seq, now, events).await?)
    }

    async fn end_cancelled(
        &self,
        tx: &mut PgConnection,
        id: JobId,
        steps: Json<Vec<StoredStep>>,
        events: &[NewEvent],
    ) -> Result<(), StoreError> {
        let (seq, now): (i64, OffsetDateTime) = sqlx::query_as(
            "with gone as (delete from job_runs where job_id = $1 returning *)
             update jobs j set state = 'cancelled', finished_at = coalesce($2, now()), updated_at = coalesce($2, now()),
                    cancel_requested_at = coalesce(gone.cancel_requested_at, $2, now()), facts = gone.facts, steps = $3,
                    steps_done = gone.steps_done, claim_no = gone.claim_no, event_seq = gone.event_seq + $4,
                    version = gone.version + 1
             from gone where j.id = gone.job_id returning j.event_seq, j.updated_at",
        )
        .bind(id.0)
        .bind(self.now())
        .bind(steps)
        .bind(i64::try_from(events.len()).unwrap_or(2))
        .fetch_one(&mut *tx)
        .await?;
        Ok(insert_events(tx, id.0, seq, now, events).await?)
    }

    /// Queues a failed job again. Every step is pending: finished ones are looked at again, not trusted.
    pub async fn retry_job(&self, id: JobId, by: &str) -> Result<RetryOutcome, StoreError> {
        let mut tx = self.pool.begin().await?;
        // Only a job that has ended has steps and a state in its own row.
        let row: Option<(bool, Json<Vec<StoredStep>>)> = sqlx::query_as(
            "select coalesce(state = 'failed', false), coalesce(steps, '[]') from jobs where id = $1 for update",
        )
        .bind(id.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((failed, Json(steps))) = row else {
            tx.rollback().await?;
            return Ok(RetryOutcome::NotFound);
        };
        if !failed {
            tx.rollback().await?;
            return Ok(self.get_mark(id).await?.map_or(RetryOutcome::NotFound, |m| RetryOutcome::NotFailed(m.state)));
        }
        let steps: Vec<_> = steps.into_iter().map(StoredStep::again).collect();
        let queued: Result<(i64, OffsetDateTime), sqlx::Error> = sqlx::query_as(
            "insert into job_runs (job_id, target_key, state, run_after, updated_at, claim_no, facts, steps, steps_total,
                                   event_seq, version)
             select id, target_key, 'queued', coalesce($2, now()), coalesce($2, now()), claim_no, facts, $3, steps_total,
                    event_seq + 1, version + 1
             from jobs where id = $1
             returning event_seq, updated_at",
        )
        .bind(id.0)
        .bind(self.now())
        .bind(Json(steps))
        .fetch_one(&mut *tx)
        .await;
        let (seq, now) = match queued {
            Ok(row) => row,
            Err(sqlx::Error::Database(e)) if e.constraint() == Some("jobs_one_unfinished_per_target") => {
                tx.rollback().await?;
                return self.busy_target_of(id).await;
            }
            Err(error) => return Err(error.into()),
        };
        sqlx::query(
            "update jobs set state = null, finished_at = null, updated_at = null, failure = null, facts = null,
                             steps = null, steps_done = null, claim_no = null, event_seq = null, version = null,
                             cancel_requested_at = null
             where id = $1",
        )
        .bind(id.0)
        .execute(&mut *tx)
        .await?;
        let event = NewEvent::of_job(EventKind::JobRetried, json!({ "requestedBy": by }));
        insert_events(&mut tx, id.0, seq, now, &[event]).await?;
        tx.commit().await?;
        Ok(RetryOutcome::Queued)
    }

    async fn busy_target_of(&self, id: JobId) -> Result<RetryOutcome, StoreError> {
        let busy: Option<Uuid> = sqlx::query_scalar(
            "select r.job_id from jobs j join job_runs r on r.target_key = j.target_key where j.id = $1",
        )
        .bind(id.0)
        .fetch_optional(&self.pool)
        .await?;
        // It may have ended in between; the caller asks again.
        busy.map(|id| RetryOutcome::TargetBusy(JobId(id)))
            .ok_or_else(|| StoreError::Unavailable(sqlx::Error::RowNotFound))
    }
}

/// State, whether it is marked for cancellation, and steps of an unfinished job, locked.
type LockedRun = (JobState, bool, Vec<StoredStep>);

async fn lock_run(tx: &mut Transaction<'static, Postgres>, id: JobId) -> Result<Option<LockedRun>, StoreError> {
    let row: Option<(String, bool, Json<Vec<StoredStep>>)> = sqlx::query_as(
        "select state, cancel_requested_at is not null, steps from job_runs where job_id = $1 for update",
    )
    .bind(id.0)
    .fetch_optional(&mut **tx)
    .await?;
    let Some((state, marked, steps)) = row else { return Ok(None) };
    let state = JobState::find(&state).ok_or_else(|| StoreError::Corrupt(format!("job {id}: unknown state")))?;
    Ok(Some((state, marked, steps.0)))
}
