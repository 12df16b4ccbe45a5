//! What a worker achieved: fenced writes, each of which happens once however often it is sent.
//!
//! What belongs here: storing where a run stands and how it ended, one or many jobs in a statement. What does not: what
//! follows from an outcome (`engine::ledger`), claims (`claims`) and what callers ask for (`control`).
//!
//! The fence of a write is the claim's number and the write's own number under that claim. A write whose answer was lost
//! is sent again under the same number: if it was stored the first time, its number has moved on and it counts as
//! recorded; nothing is written twice.
//!
//! That a job runs is asked by its lease, which it has exactly then (`job_runs_leased`). Asked by its state, the planner
//! takes the small index over running jobs, which it believes to be empty, and walks all of it once for every row.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use sqlx::postgres::types::PgInterval;
use sqlx::types::Json;
use uuid::Uuid;

use super::claims::interval;
use super::events::NewEvent;
use super::rows::{StoredStep, stored_steps};
use super::{HeldLease, StepRow, Store, StoreError};
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::job::JobState;
use crate::steps::WaitReason;

/// The fence did not match: another worker has the job, or it was ended by somebody. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease on the job is lost")]
pub struct LeaseLost;

/// The result of a fenced write.
pub type Recorded = Result<Result<(), LeaseLost>, StoreError>;

/// Where a run goes on after a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The worker keeps its lease.
    Running,
    /// The lease is given up until the next look. A job that somebody asked to cancel meanwhile is due at once, to be
    /// cancelled by whoever claims it.
    Waiting {
        /// When the next look is.
        after: Duration,
        /// Why the job waits.
        reason: WaitReason,
    },
    /// Given back without having waited for anything: due at once.
    Queued,
    /// All steps are done.
    Succeeded,
    /// A step failed for good.
    Failed(Failure),
    /// Stopped at a safe point because somebody asked.
    Cancelled,
}

impl Next {
    /// The job's state afterwards.
    pub const fn state(&self) -> JobState {
        match self {
            Self::Running => JobState::Running,
            Self::Waiting { .. } => JobState::Waiting,
            Self::Queued => JobState::Queued,
            Self::Succeeded => JobState::Succeeded,
            Self::Failed(_) => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
        }
    }
}

/// One fenced write: where a run stands, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct RunWrite {
    /// Under which claim.
    pub lease: HeldLease,
    /// How many writes there were under this claim before.
    pub write_no: i32,
    /// Where the run goes on.
    pub next: Next,
    /// Its steps.
    pub steps: Vec<StepRow>,
    /// What they learned.
    pub facts: Facts,
    /// What happened.
    pub events: Vec<NewEvent>,
}

impl Store {
    /// Records one write, by a statement that costs the database half of what one for many does.
    pub async fn record(&self, write: &RunWrite) -> Recorded {
        let columns = Columns::of(&[write]);
        let written = match write.next.state().is_final() {
            true => self.end_one(write, &columns).await?,
            false => self.move_on_one(write, &columns).await?,
        };
        let stored = written || !self.stored_before(&[write]).await?.is_empty();
        Ok(if stored { Ok(()) } else { Err(LeaseLost) })
    }

    /// Records writes of different jobs, in their order in the answer: those that go on in one statement, those that end
    /// in another. An error says nothing about which were stored; sending all of them again is safe.
    pub async fn record_all(&self, writes: &[&RunWrite]) -> Result<Vec<Result<(), LeaseLost>>, StoreError> {
        let (ending, going): (Vec<_>, Vec<_>) = writes.iter().partition(|w| w.next.state().is_final());
        let mut written: HashSet<Uuid> = HashSet::with_capacity(writes.len());
        if !going.is_empty() {
            written.extend(self.move_on(&Columns::of(&going)).await?);
        }
        if !ending.is_empty() {
            written.extend(self.end(&Columns::of(&ending)).await?);
        }
        let missing: Vec<&RunWrite> = writes.iter().copied().filter(|w| !written.contains(&w.lease.job.0)).collect();
        if !missing.is_empty() {
            written.extend(self.stored_before(&missing).await?);
        }
        let outcome = |w: &&RunWrite| if written.contains(&w.lease.job.0) { Ok(()) } else { Err(LeaseLost) };
        Ok(writes.iter().map(outcome).collect())
    }

    async fn move_on(&self, rows: &Columns<'_>) -> Result<Vec<Uuid>, StoreError> {
        let moved = sqlx::query_scalar(
            // Locked in the order that every batch locks in, so that two batches cannot wait for each other.
            "with t as (select coalesce($1::timestamptz, now()) as now),
             w as (
                 select * from unnest($2::uuid[], $3::bigint[], $4::int[], $5::text[], $6::interval[], $7::jsonb[],
                                      $8::jsonb[], $9::jsonb[], $10::smallint[], $11::int[], $12::int[])
                     as w (job_id, claim_no, write_no, state, after, reason, facts, steps, done, first_event, events)
             ),
             -- With all that is to be written: each row is met once more by its key, never by a walk through the others.
             held as (
                 select w.*, t.now from w join job_runs r using (job_id), t
                 where r.claim_no = w.claim_no order by r.job_id for update of r
             ),
             u as (
                 update job_runs r set
                     state = w.state,
                     lease_until = case when w.state = 'running' then r.lease_until end,
                     claimed_by = case when w.state = 'running' then r.claimed_by end,
                     run_after = case when w.state = 'running' then r.run_after
                                      when r.cancel_requested_at is not null then w.now
                                      else w.now + w.after end,
                     wait_reason = w.reason, facts = w.facts, steps = w.steps, steps_done = w.done, updated_at = w.now,
                     write_no = r.write_no + 1, event_seq = r.event_seq + w.events, version = r.version + 1
                 from held w
                 where r.job_id = w.job_id and r.claim_no = w.claim_no and r.write_no = w.write_no
                   and r.lease_until is not null
                 returning r.job_id, r.event_seq - w.events as seq, w.now, w.first_event, w.events
             ),
             e as (
                 insert into job_events (job_id, seq, at, kind, step, data)
                 select u.job_id, u.seq + n, u.now, ($13::text[])[first_event + n], ($14::text[])[first_event + n],
                        ($15::jsonb[])[first_event + n]
                 from u, generate_series(1, u.events) as n
             )
             select job_id from u",
        )
        .bind(self.now())
        .bind(&rows.jobs)
        .bind(&rows.claims)
        .bind(&rows.writes)
        .bind(&rows.states)
        .bind(&rows.after)
        .bind(&rows.reasons)
        .bind(&rows.facts)
        .bind(&rows.steps)
        .bind(&rows.done)
        .bind(&rows.first_events)
        .bind(&rows.events)
        .bind(&rows.event_kinds)
        .bind(&rows.event_steps)
        .bind(&rows.event_data)
        .fetch_all(&self.pool)
        .await?;
        Ok(moved)
    }

    /// Runs end: their rows go, and the jobs' rows tell how.
    async fn end(&self, rows: &Columns<'_>) -> Result<Vec<Uuid>, StoreError> {
        let ended = sqlx::query_scalar(
            "with t as (select coalesce($1::timestamptz, now()) as now),
             w as (
                 select * from unnest($2::uuid[], $3::bigint[], $4::int[], $5::text[], $6::jsonb[], $7::jsonb[],
                                      $8::jsonb[], $9::smallint[], $10::int[], $11::int[])
                     as w (job_id, claim_no, write_no, state, failure, facts, steps, done, first_event, events)
             ),
             held as (
                 select w.*, t.now from w join job_runs r using (job_id), t
                 where r.claim_no = w.claim_no order by r.job_id for update of r
             ),
             gone as (
                 delete from job_runs r using held w
                 where r.job_id = w.job_id and r.claim_no = w.claim_no and r.write_no = w.write_no
                   and r.lease_until is not null
                 returning w.*, r.event_seq, r.version, r.cancel_requested_at
             ),
             kept as (
                 update jobs j set
                     state = gone.state, finished_at = gone.now, updated_at = gone.now, failure = gone.failure,
                     facts = gone.facts, steps = gone.steps, steps_done = gone.done,
                     cancel_requested_at = gone.cancel_requested_at, claim_no = gone.claim_no,
                     event_seq = gone.event_seq + gone.events, version = gone.version + 1
                 from gone where j.id = gone.job_id
             ),
             e as (
                 insert into job_events (job_id, seq, at, kind, step, data)
                 select job_id, event_seq + n, now, ($12::text[])[first_event + n], ($13::text[])[first_event + n],
                        ($14::jsonb[])[first_event + n]
                 from gone, generate_series(1, events) as n
             )
             select job_id from gone",
        )
        .bind(self.now())
        .bind(&rows.jobs)
        .bind(&rows.claims)
        .bind(&rows.writes)
        .bind(&rows.states)
        .bind(&rows.failures)
        .bind(&rows.facts)
        .bind(&rows.steps)
        .bind(&rows.done)
        .bind(&rows.first_events)
        .bind(&rows.events)
        .bind(&rows.event_kinds)
        .bind(&rows.event_steps)
        .bind(&rows.event_data)
        .fetch_all(&self.pool)
        .await?;
        Ok(ended)
    }

    /// As [`Self::move_on`], for one run. Answers whether it was written.
    async fn move_on_one(&self, write: &RunWrite, row: &Columns<'_>) -> Result<bool, StoreError> {
        let moved = sqlx::query(
            "with u as (
                 update job_runs r set
                     state = $5,
                     lease_until = case when $5 = 'running' then r.lease_until end,
                     claimed_by = case when $5 = 'running' then r.claimed_by end,
                     run_after = case when $5 = 'running' then r.run_after
                                      when r.cancel_requested_at is not null then coalesce($1::timestamptz, now())
                                      else coalesce($1::timestamptz, now()) + $6 end,
                     wait_reason = $7, facts = $8, steps = $9, steps_done = $10,
                     updated_at = coalesce($1::timestamptz, now()),
                     write_no = r.write_no + 1, event_seq = r.event_seq + $11, version = r.version + 1
                 where r.job_id = $2 and r.claim_no = $3 and r.write_no = $4 and r.lease_until is not null
                 returning r.job_id, r.event_seq - $11 as seq, r.updated_at
             ),
             e as (
                 insert into job_events (job_id, seq, at, kind, step, data)
                 select u.job_id, u.seq + e.n, u.updated_at, e.kind, e.step, e.data
                 from u, unnest($12::text[], $13::text[], $14::jsonb[]) with ordinality as e (kind, step, data, n)
             )
             select from u",
        )
        .bind(self.now())
        .bind(write.lease.job.0)
        .bind(write.lease.claim_no)
        .bind(write.write_no)
        .bind(write.next.state().as_str())
        .bind(row.after.first())
        .bind(row.reasons.first())
        .bind(row.facts.first())
        .bind(row.steps.first())
        .bind(row.done.first())
        .bind(row.events.first())
        .bind(&row.event_kinds)
        .bind(&row.event_steps)
        .bind(&row.event_data)
        .fetch_optional(&self.pool)
        .await?;
        Ok(moved.is_some())
    }

    /// As [`Self::end`], for one run. Answers whether it was written.
    async fn end_one(&self, write: &RunWrite, row: &Columns<'_>) -> Result<bool, StoreError> {
        let ended = sqlx::query(
            "with gone as (
                 delete from job_runs r
                 where r.job_id = $2 and r.claim_no = $3 and r.write_no = $4 and r.lease_until is not null
                 returning r.job_id, r.claim_no, r.event_seq, r.version, r.cancel_requested_at,
                           coalesce($1::timestamptz, now()) as now
             ),
             kept as (
                 update jobs j set
                     state = $5, finished_at = gone.now, updated_at = gone.now, failure = $6, facts = $7, steps = $8,
                     steps_done = $9, cancel_requested_at = gone.cancel_requested_at, claim_no = gone.claim_no,
                     event_seq = gone.event_seq + $10, version = gone.version + 1
                 from gone where j.id = gone.job_id
             ),
             e as (
                 insert into job_events (job_id, seq, at, kind, step, data)
                 select gone.job_id, gone.event_seq + e.n, gone.now, e.kind, e.step, e.data
                 from gone, unnest($11::text[], $12::text[], $13::jsonb[]) with ordinality as e (kind, step, data, n)
             )
             select from gone",
        )
        .bind(self.now())
        .bind(write.lease.job.0)
        .bind(write.lease.claim_no)
        .bind(write.write_no)
        .bind(write.next.state().as_str())
        .bind(row.failures.first())
        .bind(row.facts.first())
        .bind(row.steps.first())
        .bind(row.done.first())
        .bind(row.events.first())
        .bind(&row.event_kinds)
        .bind(&row.event_steps)
        .bind(&row.event_data)
        .fetch_optional(&self.pool)
        .await?;
        Ok(ended.is_some())
    }

    /// Which of these were stored already by an earlier sending whose answer was lost.
    async fn stored_before(&self, writes: &[&RunWrite]) -> Result<Vec<Uuid>, StoreError> {
        let rows = Columns::of(writes);
        let stored = sqlx::query_scalar(
            "select w.job_id
             from unnest($1::uuid[], $2::bigint[], $3::int[], $4::text[]) as w (job_id, claim_no, write_no, state)
             left join job_runs r on r.job_id = w.job_id
             left join jobs j on j.id = w.job_id and j.finished_at is not null
             where (r.claim_no = w.claim_no and r.write_no = w.write_no + 1 and r.state = w.state)
                or (r.job_id is null and j.claim_no = w.claim_no and j.state = w.state)",
        )
        .bind(&rows.jobs)
        .bind(&rows.claims)
        .bind(&rows.writes)
        .bind(&rows.states)
        .fetch_all(&self.pool)
        .await?;
        Ok(stored)
    }
}

/// Writes as the columns that `unnest` takes.
#[derive(Default)]
struct Columns<'w> {
    jobs: Vec<Uuid>,
    claims: Vec<i64>,
    writes: Vec<i32>,
    states: Vec<&'static str>,
    after: Vec<PgInterval>,
    reasons: Vec<Option<Json<&'w WaitReason>>>,
    failures: Vec<Option<Json<&'w Failure>>>,
    facts: Vec<Json<&'w Facts>>,
    steps: Vec<Json<Vec<StoredStep>>>,
    done: Vec<i16>,
    /// How many events stand before those of this job.
    first_events: Vec<i32>,
    events: Vec<i32>,
    event_kinds: Vec<&'static str>,
    event_steps: Vec<Option<&'w str>>,
    event_data: Vec<Json<&'w Value>>,
}

impl<'w> Columns<'w> {
    fn of(writes: &[&'w RunWrite]) -> Self {
        // One row per job: of two writes of one job the later one would find its number moved on.
        let by_job: BTreeMap<Uuid, &'w RunWrite> = writes.iter().map(|w| (w.lease.job.0, *w)).collect();
        let mut columns = Self::default();
        for (job, write) in by_job {
            columns.push(job, write);
        }
        columns
    }

    fn push(&mut self, job: Uuid, write: &'w RunWrite) {
        let (after, reason, failure) = match &write.next {
            Next::Waiting { after, reason } => (*after, Some(Json(reason)), None),
            Next::Failed(failure) => (Duration::ZERO, None, Some(Json(failure))),
            _ => (Duration::ZERO, None, None),
        };
        self.jobs.push(job);
        self.claims.push(write.lease.claim_no);
        self.writes.push(write.write_no);
        self.states.push(write.next.state().as_str());
        self.after.push(interval(after));
        self.reasons.push(reason);
        self.failures.push(failure);
        self.facts.push(Json(&write.facts));
        self.steps.push(stored_steps(&write.steps));
        let done = write.steps.iter().filter(|s| s.state.is_finished()).count();
        self.done.push(i16::try_from(done).unwrap_or(i16::MAX));
        self.first_events.push(i32::try_from(self.event_kinds.len()).unwrap_or(i32::MAX));
        self.events.push(i32::try_from(write.events.len()).unwrap_or(i32::MAX));
        for event in &write.events {
            self.event_kinds.push(event.kind.as_str());
            self.event_steps.push(event.step.as_deref());
            self.event_data.push(Json(&event.data));
        }
    }
}
