//! What callers may ask of a job that exists: cancel and retry.
//!
//! What belongs here: the two marks and what they do at once. What does not: stopping a running worker, which looks at
//! the mark itself.

use serde_json::json;
use sqlx::{PgConnection, Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{NewEvent, insert_events};
use super::{EventKind, Store, StoreError};
use crate::domain::ids::JobId;
use crate::domain::job::{JobChange, JobState};

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
        let Some((state, marked)) = lock_job(&mut tx, id).await? else { return Ok(CancelOutcome::NotFound) };
        if state.after(JobChange::Cancel).is_none() {
            return Ok(CancelOutcome::Ended(state));
        }
        let running = state == JobState::Running;
        if running && marked {
            return Ok(CancelOutcome::Requested);
        }
        let data = json!({ "requestedBy": by });
        let mut events = vec![NewEvent { kind: EventKind::JobCancelRequested, step: None, data }];
        if !running {
            events.push(NewEvent { kind: EventKind::JobCancelled, step: None, data: json!({}) });
        }
        let (seq, now): (i64, OffsetDateTime) = sqlx::query_as(
            "update jobs set cancel_requested_at = coalesce($2, now()), updated_at = coalesce($2, now()),
                             state = case when state = 'running' then state else 'cancelled' end,
                             finished_at = case when state = 'running' then null else coalesce($2, now()) end,
                             wait_reason = null, version = version + 1, event_seq = event_seq + $3
             where id = $1 returning event_seq, updated_at",
        )
        .bind(id.0)
        .bind(self.now())
        .bind(i64::try_from(events.len()).unwrap_or(2))
        .fetch_one(&mut *tx)
        .await?;
        if !running {
            reset_unfinished_steps(&mut tx, id.0).await?;
        }
        insert_events(&mut tx, id.0, seq, now, &events).await?;
        tx.commit().await?;
        Ok(if running { CancelOutcome::Requested } else { CancelOutcome::Cancelled })
    }

    /// Queues a failed job again. Every step is pending: finished ones are looked at again, not trusted.
    pub async fn retry_job(&self, id: JobId, by: &str) -> Result<RetryOutcome, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some((state, _)) = lock_job(&mut tx, id).await? else { return Ok(RetryOutcome::NotFound) };
        if state.after(JobChange::Retry).is_none() {
            return Ok(RetryOutcome::NotFailed(state));
        }
        let queued: Result<(i64, OffsetDateTime), sqlx::Error> = sqlx::query_as(
            "update jobs set state = 'queued', finished_at = null, failure = null, steps_done = 0,
                             cancel_requested_at = null, run_after = coalesce($2, now()),
                             updated_at = coalesce($2, now()), version = version + 1, event_seq = event_seq + 1
             where id = $1 returning event_seq, updated_at",
        )
        .bind(id.0)
        .bind(self.now())
        .fetch_one(&mut *tx)
        .await;
        let (seq, now) = match queued {
            Ok(row) => row,
            Err(sqlx::Error::Database(e)) if e.constraint() == Some("jobs_one_unfinished_per_target") => {
                drop(tx);
                return self.busy_target_of(id).await;
            }
            Err(error) => return Err(error.into()),
        };
        sqlx::query(
            "update job_steps set state = 'pending', attempts = 0, wait_reason = null, waiting_since = null,
                                  failure = null, progress = null, started_at = null, finished_at = null
             where job_id = $1",
        )
        .bind(id.0)
        .execute(&mut *tx)
        .await?;
        let event = NewEvent { kind: EventKind::JobRetried, step: None, data: json!({ "requestedBy": by }) };
        insert_events(&mut tx, id.0, seq, now, &[event]).await?;
        tx.commit().await?;
        Ok(RetryOutcome::Queued)
    }

    async fn busy_target_of(&self, id: JobId) -> Result<RetryOutcome, StoreError> {
        let busy: Option<Uuid> = sqlx::query_scalar(
            "select other.id from jobs this join jobs other on other.target_key = this.target_key
             where this.id = $1 and other.finished_at is null",
        )
        .bind(id.0)
        .fetch_optional(&self.pool)
        .await?;
        // It may have ended in between; the caller asks again.
        busy.map(|id| RetryOutcome::TargetBusy(JobId(id)))
            .ok_or_else(|| StoreError::Unavailable(sqlx::Error::RowNotFound))
    }
}

async fn lock_job(tx: &mut Transaction<'static, Postgres>, id: JobId) -> Result<Option<(JobState, bool)>, StoreError> {
    let row: Option<(String, bool)> =
        sqlx::query_as("select state, cancel_requested_at is not null from jobs where id = $1 for update")
            .bind(id.0)
            .fetch_optional(&mut **tx)
            .await?;
    let Some((state, marked)) = row else { return Ok(None) };
    let state = JobState::find(&state).ok_or_else(|| StoreError::Corrupt(format!("job {id}: unknown state")))?;
    Ok(Some((state, marked)))
}

/// Steps of an ended job that were at work or waited are pending: they would be looked at again.
pub(super) async fn reset_unfinished_steps(connection: &mut PgConnection, job: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update job_steps set state = 'pending', wait_reason = null where job_id = $1 and state in ('running', 'waiting')",
    )
    .bind(job)
    .execute(connection)
    .await?;
    Ok(())
}
