//! Who may run a job: claims, leases, and giving them back.
//!
//! What belongs here: taking due jobs, taking over jobs whose lease ended, renewing leases. What does not: recording what
//! a run achieved (`progress`), which demands the fence given out here.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{NewEvent, insert_events};
use super::progress::LeaseLost;
use super::rows::{JobRow, StepDbRow, job_columns, step_columns};
use super::{EventKind, Job, Store, StoreError};
use crate::domain::ids::JobId;

/// A worker's right to run a job, with the job as it was when claimed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The job; its `claim_no` is the fence.
    pub job: Job,
    /// Whether it was taken over from a worker whose lease had ended.
    pub taken_over: bool,
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
    /// Claims up to `limit` jobs that are due or whose lease has ended, longest due first.
    pub async fn claim_due_jobs(&self, worker: &str, limit: u16, lease: Duration) -> Result<Vec<Claim>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let taken: Vec<(Uuid, bool)> = sqlx::query_as(
            "with t as (select coalesce($1::timestamptz, now()) as now),
             due as (
                 select id, run_after as since, false as taken_over from jobs, t
                 where state in ('queued', 'waiting') and run_after <= t.now
                 order by run_after limit $2 for update of jobs skip locked
             ),
             lapsed as (
                 select id, lease_until as since, true as taken_over from jobs, t
                 where state = 'running' and lease_until < t.now
                 order by lease_until limit $2 for update of jobs skip locked
             ),
             chosen as (select * from due union all select * from lapsed order by since limit $2)
             update jobs set state = 'running', claim_no = claim_no + 1, claimed_by = $3, lease_until = t.now + $4,
                             wait_reason = null, updated_at = t.now, version = version + 1,
                             event_seq = event_seq + chosen.taken_over::int
             from chosen, t where jobs.id = chosen.id
             returning jobs.id, chosen.taken_over",
        )
        .bind(self.now())
        .bind(i64::from(limit))
        .bind(worker)
        .bind(interval(lease))
        .fetch_all(&mut *tx)
        .await?;
        let jobs = self.claimed_jobs(&mut tx, &taken).await?;
        for claim in jobs.iter().filter(|c| c.taken_over) {
            let event = NewEvent { kind: EventKind::JobTakenOver, step: None, data: json!({}) };
            insert_events(&mut tx, claim.job.id.0, claim.job.event_seq, claim.job.updated_at, &[event]).await?;
        }
        tx.commit().await?;
        Ok(jobs)
    }

    async fn claimed_jobs(
        &self,
        connection: &mut sqlx::PgConnection,
        taken: &[(Uuid, bool)],
    ) -> Result<Vec<Claim>, StoreError> {
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = taken.iter().map(|(id, _)| *id).collect();
        let taken_over: HashMap<Uuid, bool> = taken.iter().copied().collect();
        let jobs: Vec<JobRow> = sqlx::query_as(concat!("select ", job_columns!(), " from jobs where id = any($1)"))
            .bind(&ids)
            .fetch_all(&mut *connection)
            .await?;
        let rows: Vec<StepDbRow> = sqlx::query_as(concat!(
            "select ",
            step_columns!(),
            " from job_steps where job_id = any($1) order by job_id, ordinal"
        ))
        .bind(&ids)
        .fetch_all(&mut *connection)
        .await?;
        let mut steps: HashMap<Uuid, Vec<_>> = HashMap::new();
        for row in rows {
            steps.entry(row.job_id).or_default().push(row.into_step()?);
        }
        let mut claims = Vec::with_capacity(jobs.len());
        for row in jobs {
            let mut job = row.into_job(Vec::new())?;
            job.steps = steps.remove(&job.id.0).unwrap_or_default();
            let taken_over = taken_over.get(&job.id.0).copied().unwrap_or(false);
            claims.push(Claim { job, taken_over });
        }
        claims.sort_by_key(|claim| claim.job.run_after);
        Ok(claims)
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
            "update jobs set lease_until = coalesce($1::timestamptz, now()) + $2
             from unnest($3::uuid[], $4::bigint[]) as held (id, claim_no)
             where jobs.id = held.id and jobs.claim_no = held.claim_no and jobs.state = 'running'
               and jobs.lease_until >= coalesce($1::timestamptz, now())
             returning jobs.id, jobs.claim_no, jobs.cancel_requested_at is not null",
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

    /// Gives a job back without having waited for anything: it is due at once. Its running step is pending again.
    pub async fn release_job(&self, lease: HeldLease) -> Result<Result<(), LeaseLost>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let released = sqlx::query(
            "update jobs set state = 'queued', lease_until = null, claimed_by = null,
                             run_after = coalesce($3::timestamptz, now()),
                             updated_at = coalesce($3::timestamptz, now()), version = version + 1
             where id = $1 and claim_no = $2 and state = 'running'",
        )
        .bind(lease.job.0)
        .bind(lease.claim_no)
        .bind(self.now())
        .execute(&mut *tx)
        .await?;
        if released.rows_affected() == 0 {
            return Ok(Err(LeaseLost));
        }
        sqlx::query("update job_steps set state = 'pending' where job_id = $1 and state = 'running'")
            .bind(lease.job.0)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Ok(()))
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
