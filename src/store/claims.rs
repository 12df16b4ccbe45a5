//! Who may run a job: claims, leases, and giving them back.
//!
//! What belongs here: taking due jobs, taking over jobs whose lease ended, renewing leases. What does not: recording what
//! a run achieved (`progress`), which demands the fence given out here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::FromRow;
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;
use uuid::Uuid;

use super::front::{Found, Look};
use super::rows::ClaimedRow;
use super::{ClaimedJob, EventKind, Store, StoreError};
use crate::domain::ids::JobId;

/// A worker's right to run a job, with what it needs of the job as it was when claimed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job; its `claim_no` is the fence.
    pub job: ClaimedJob,
    /// Whether it was taken over from a worker whose lease had ended.
    pub taken_over: bool,
    /// When it was claimed, by the database's clock.
    pub at: OffsetDateTime,
}

#[derive(FromRow)]
struct ClaimRow {
    taken_over: bool,
    since: OffsetDateTime,
    now: OffsetDateTime,
    #[sqlx(flatten)]
    job: ClaimedRow,
}

/// A lease that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeldLease {
    /// The job.
    pub job: JobId,
    /// The fence.
    pub claim_no: i64,
}

impl Store {
    /// Claims up to `limit` jobs that are due or whose lease has ended, longest due first, in one statement. Leases that
    /// have ended, and what was stored as due earlier than others that were claimed, are found within a second or so (see
    /// `front`); with a clock that is set by hand, always.
    pub async fn claim_due_jobs(&self, worker: &str, limit: u16, lease: Duration) -> Result<Vec<Claim>, StoreError> {
        let began = Instant::now();
        let look = if self.now().is_some() { Look::Whole } else { self.front.next(began) };
        let rows = self.claim_from(look.begin(), worker, limit, lease).await?;
        let due = |row: &&ClaimRow| !row.taken_over;
        let many = rows.len() >= usize::from(limit);
        let found =
            rows.iter().find(due).map(|first| Found { now: first.now, oldest_of_many: many.then_some(first.since) });
        self.front.note(look, began, Instant::now(), found);
        rows.into_iter()
            .map(|row| Ok(Claim { taken_over: row.taken_over, at: row.now, job: row.job.into_job()? }))
            .collect()
    }

    async fn claim_from(
        &self,
        begin: Option<OffsetDateTime>,
        worker: &str,
        limit: u16,
        lease: Duration,
    ) -> Result<Vec<ClaimRow>, StoreError> {
        Ok(sqlx::query_as(
            "with t as (select coalesce($1::timestamptz, now()) as now),
             -- Not t.now, which would be compared row by row: what is not due yet is where the index ends.
             due as (
                 select job_id, run_after as since, false as taken_over from job_runs
                 where state in ('queued', 'waiting') and run_after <= coalesce($1::timestamptz, now())
                   and run_after >= coalesce($6::timestamptz, '-infinity')
                 order by run_after, job_id limit $2 for update skip locked
             ),
             lapsed as (
                 select job_id, lease_until as since, true as taken_over from job_runs
                 where $6::timestamptz is null and state = 'running' and lease_until < coalesce($1::timestamptz, now())
                 order by lease_until limit $2 for update skip locked
             ),
             chosen as (select * from due union all select * from lapsed order by since limit $2),
             r as (
                 update job_runs set state = 'running', claim_no = claim_no + 1, write_no = 0, claimed_by = $3,
                        lease_until = t.now + $4, wait_reason = null, updated_at = t.now, version = version + 1,
                        event_seq = event_seq + chosen.taken_over::int
                 from chosen, t where job_runs.job_id = chosen.job_id
                 returning job_runs.*, chosen.taken_over, chosen.since, t.now
             ),
             event as (
                 insert into job_events (job_id, seq, at, kind)
                 select job_id, event_seq, now, $5 from r where taken_over
             )
             select r.taken_over, r.since, r.now, r.job_id, r.claim_no, r.cancel_requested_at, r.facts, r.steps,
                    j.target, j.traceparent, j.plan
             from r join jobs j on j.id = r.job_id order by r.since, r.job_id",
        )
        .bind(self.now())
        .bind(i64::from(limit))
        .bind(worker)
        .bind(interval(lease))
        .bind(EventKind::JobTakenOver.as_str())
        .bind(begin)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Renews leases. Returns those still held, each with whether its job is to be cancelled; one that is missing is lost.
    pub async fn renew_leases(
        &self,
        leases: &[HeldLease],
        lease: Duration,
    ) -> Result<HashMap<HeldLease, bool>, StoreError> {
        let ids: Vec<Uuid> = leases.iter().map(|l| l.job.0).collect();
        let fences: Vec<i64> = leases.iter().map(|l| l.claim_no).collect();
        let rows: Vec<(Uuid, i64, bool)> = sqlx::query_as(
            // Locked in the order that every batch locks in, so that two batches cannot wait for each other.
            "with t as (select coalesce($1::timestamptz, now()) as now),
             held as (
                 select r.job_id from job_runs r
                 join unnest($3::uuid[], $4::bigint[]) as l (job_id, claim_no) using (job_id)
                 where r.claim_no = l.claim_no order by r.job_id for update of r
             )
             update job_runs r set lease_until = t.now + $2
             from held, t, unnest($3::uuid[], $4::bigint[]) as l (job_id, claim_no)
             where r.job_id = held.job_id and r.job_id = l.job_id and r.claim_no = l.claim_no
               -- Only a job that runs has a lease; see `progress` on why its state is not asked.
               and r.lease_until >= t.now
             returning r.job_id, r.claim_no, r.cancel_requested_at is not null",
        )
        .bind(self.now())
        .bind(interval(lease))
        .bind(&ids)
        .bind(&fences)
        .fetch_all(&self.pool)
        .await?;
        let held = |(id, claim_no, cancel)| (HeldLease { job: JobId(id), claim_no }, cancel);
        Ok(rows.into_iter().map(held).collect())
    }

    /// Notes that a worker asked for work and got an answer.
    pub async fn record_worker(&self, worker: &str) -> Result<(), StoreError> {
        sqlx::query(
            "insert into workers (name, started_at, last_claim_at)
             values ($1, coalesce($2, now()), coalesce($2, now()))
             on conflict (name) do update set last_claim_at = excluded.last_claim_at",
        )
        .bind(worker)
        .bind(self.now())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets a worker that ends, and workers that have not been heard of for a day.
    pub async fn delete_worker(&self, worker: &str) -> Result<(), StoreError> {
        let yesterday: Option<OffsetDateTime> = self.now().map(|now| now - time::Duration::days(1));
        sqlx::query("delete from workers where name = $1 or last_claim_at < coalesce($2, now() - interval '1 day')")
            .bind(worker)
            .bind(yesterday)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// A duration as PostgreSQL's interval, to the microsecond.
pub(super) fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}
