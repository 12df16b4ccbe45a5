//! What a worker achieved, each in one short transaction that demands the fence.
//!
//! What belongs here: recording outcomes of steps and ends of jobs. What does not: claims (`claims`) and what callers
//! ask for (`control`).

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::types::Json;
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;

use super::claims::interval;
use super::events::{NewEvent, insert_events};
use super::{EventKind, HeldLease, Store, StoreError};
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::steps::{Progress, WaitReason};

/// The fence did not match: another worker has the job, or it was ended by somebody. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease on the job is lost")]
pub struct LeaseLost;

/// The result of a fenced write.
pub type Recorded = Result<Result<(), LeaseLost>, StoreError>;

/// What a fenced write sets on the job's row beside the fence.
struct JobUpdate<'a> {
    /// `running` keeps the lease; everything else gives it up.
    state: &'static str,
    run_after: Option<Duration>,
    wait_reason: Option<&'a WaitReason>,
    failure: Option<&'a Failure>,
    facts: Option<&'a Facts>,
    finished_steps: i16,
    events: i64,
}

impl JobUpdate<'_> {
    const RUNNING: JobUpdate<'static> = JobUpdate {
        state: "running",
        run_after: None,
        wait_reason: None,
        failure: None,
        facts: None,
        finished_steps: 0,
        events: 0,
    };
}

impl Store {
    /// A step is begun, or looked at again. The first time it is an event.
    pub async fn record_step_started(&self, lease: HeldLease, ordinal: i16, name: &str, first: bool) -> Recorded {
        let update = JobUpdate { events: i64::from(first), ..JobUpdate::RUNNING };
        let Some((mut tx, seq, now)) = self.fenced(lease, &update).await? else { return Ok(Err(LeaseLost)) };
        sqlx::query(
            "update job_steps set state = 'running', looks = looks + 1, started_at = coalesce(started_at, $3),
                                  wait_reason = null, finished_at = null
             where job_id = $1 and ordinal = $2",
        )
        .bind(lease.job.0)
        .bind(ordinal)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if first {
            let event = NewEvent { kind: EventKind::StepStarted, step: Some(name), data: json!({}) };
            insert_events(&mut tx, lease.job.0, seq, now, &[event]).await?;
        }
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// A step is done; with `last` the job has succeeded.
    pub async fn record_step_done(
        &self,
        lease: HeldLease,
        ordinal: i16,
        name: &str,
        changed: bool,
        facts: &Facts,
        last: bool,
    ) -> Recorded {
        let update = JobUpdate {
            state: if last { "succeeded" } else { "running" },
            facts: Some(facts),
            finished_steps: 1,
            events: 1 + i64::from(last),
            ..JobUpdate::RUNNING
        };
        let Some((mut tx, seq, now)) = self.fenced(lease, &update).await? else { return Ok(Err(LeaseLost)) };
        let (state, kind) =
            if changed { ("done", EventKind::StepDone) } else { ("satisfied", EventKind::StepSatisfied) };
        sqlx::query(
            "update job_steps set state = $3, finished_at = $4, attempts = 0, wait_reason = null, waiting_since = null,
                                  failure = null, progress = null
             where job_id = $1 and ordinal = $2",
        )
        .bind(lease.job.0)
        .bind(ordinal)
        .bind(state)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        let mut events = vec![NewEvent { kind, step: Some(name), data: json!({}) }];
        if last {
            events.push(NewEvent { kind: EventKind::JobSucceeded, step: None, data: json!({}) });
        }
        insert_events(&mut tx, lease.job.0, seq, now, &events).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// A step waits, for a new reason or for the one it waited for before. With a failure it met a transient error and an
    /// attempt is used. The lease is given up. A new reason and every failure is an event. A job that somebody asked to
    /// cancel meanwhile is due at once, to be cancelled by whoever claims it.
    #[expect(clippy::too_many_arguments, reason = "one fenced write; a struct would only rename the arguments")]
    pub async fn record_step_wait(
        &self,
        lease: HeldLease,
        ordinal: i16,
        name: &str,
        after: Duration,
        reason: &WaitReason,
        progress: Option<&Progress>,
        failure: Option<&Failure>,
        new_reason: bool,
    ) -> Recorded {
        let news = new_reason || failure.is_some();
        let update = JobUpdate {
            state: "waiting",
            run_after: Some(after),
            wait_reason: Some(reason),
            events: i64::from(news),
            ..JobUpdate::RUNNING
        };
        let Some((mut tx, seq, now)) = self.fenced(lease, &update).await? else { return Ok(Err(LeaseLost)) };
        sqlx::query(
            "update job_steps set state = 'waiting', wait_reason = $3, progress = $4, failure = $5,
                                  attempts = attempts + $6,
                                  waiting_since = case when $8 then $7 else coalesce(waiting_since, $7) end
             where job_id = $1 and ordinal = $2",
        )
        .bind(lease.job.0)
        .bind(ordinal)
        .bind(Json(reason))
        .bind(progress.map(Json))
        .bind(failure.map(Json))
        .bind(i32::from(failure.is_some()))
        .bind(now)
        .bind(new_reason)
        .execute(&mut *tx)
        .await?;
        if news {
            let event = match failure {
                None => NewEvent {
                    kind: EventKind::StepWaiting,
                    step: Some(name),
                    data: json!({ "reason": reason, "nextLookAt": rfc3339(now + after) }),
                },
                Some(failure) => NewEvent {
                    kind: EventKind::StepRetrying,
                    step: Some(name),
                    data: json!({ "failure": failure, "nextLookAt": rfc3339(now + after) }),
                },
            };
            insert_events(&mut tx, lease.job.0, seq, now, &[event]).await?;
        }
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// A step failed for good, and its job with it.
    pub async fn record_failed(&self, lease: HeldLease, ordinal: i16, name: &str, failure: &Failure) -> Recorded {
        let update = JobUpdate { state: "failed", failure: Some(failure), events: 2, ..JobUpdate::RUNNING };
        let Some((mut tx, seq, now)) = self.fenced(lease, &update).await? else { return Ok(Err(LeaseLost)) };
        sqlx::query(
            "update job_steps set state = 'failed', finished_at = $3, failure = $4, wait_reason = null
             where job_id = $1 and ordinal = $2",
        )
        .bind(lease.job.0)
        .bind(ordinal)
        .bind(now)
        .bind(Json(failure))
        .execute(&mut *tx)
        .await?;
        let data = json!({ "failure": failure });
        let events = [
            NewEvent { kind: EventKind::StepFailed, step: Some(name), data: data.clone() },
            NewEvent { kind: EventKind::JobFailed, step: None, data },
        ];
        insert_events(&mut tx, lease.job.0, seq, now, &events).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// The job stops at a safe point because somebody asked. Steps that did not finish are pending again.
    pub async fn record_cancelled(&self, lease: HeldLease) -> Recorded {
        let update = JobUpdate { state: "cancelled", events: 1, ..JobUpdate::RUNNING };
        let Some((mut tx, seq, now)) = self.fenced(lease, &update).await? else { return Ok(Err(LeaseLost)) };
        super::control::reset_unfinished_steps(&mut tx, lease.job.0).await?;
        let event = NewEvent { kind: EventKind::JobCancelled, step: None, data: json!({}) };
        insert_events(&mut tx, lease.job.0, seq, now, &[event]).await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// Opens a transaction and changes the job's row if the fence still holds: the job is running, under this claim.
    /// Returns the number of the last event to write and the time.
    async fn fenced(
        &self,
        lease: HeldLease,
        update: &JobUpdate<'_>,
    ) -> Result<Option<(Transaction<'static, Postgres>, i64, OffsetDateTime)>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let row: Option<(i64, OffsetDateTime)> = sqlx::query_as(
            "update jobs set
                 state = $3,
                 lease_until = case when $3 = 'running' then lease_until end,
                 claimed_by = case when $3 = 'running' then claimed_by end,
                 run_after = case when $4::interval is null then run_after
                                  when cancel_requested_at is not null then coalesce($9::timestamptz, now())
                                  else coalesce($9::timestamptz, now()) + $4::interval end,
                 wait_reason = $5,
                 failure = $6,
                 facts = coalesce($7, facts),
                 steps_done = steps_done + $8,
                 finished_at = case when $3 in ('succeeded', 'failed', 'cancelled')
                                    then coalesce($9::timestamptz, now()) end,
                 updated_at = coalesce($9::timestamptz, now()),
                 event_seq = event_seq + $10,
                 version = version + 1
             where id = $1 and claim_no = $2 and state = 'running'
             returning event_seq, updated_at",
        )
        .bind(lease.job.0)
        .bind(lease.claim_no)
        .bind(update.state)
        .bind(update.run_after.map(interval))
        .bind(update.wait_reason.map(Json))
        .bind(update.failure.map(Json))
        .bind(update.facts.map(Json))
        .bind(update.finished_steps)
        .bind(self.now())
        .bind(update.events)
        .fetch_optional(&mut *tx)
        .await?;
        Ok(row.map(|(seq, now)| (tx, seq, now)))
    }
}

fn rfc3339(at: OffsetDateTime) -> Value {
    at.format(&time::format_description::well_known::Rfc3339).map_or(Value::Null, Value::from)
}
