//! What a worker achieved: fenced writes, each of which happens once however often it is sent.
//!
//! What belongs here: storing where a run stands and how it ended, one or many jobs in a statement. What does not: what
//! follows from an outcome (`engine::ledger`), claims (`claims`) and what callers ask for (`control`).
//!
//! The fence of a write is the claim's number and the write's own number under that claim. A write whose answer was lost
//! is sent again under the same number: if it was stored the first time, its number has moved on and it counts as
//! recorded; nothing is written twice.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::claims::interval;
use super::events::NewEvent;
use super::rows::stored_steps;
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
    /// Records one write.
    pub async fn record(&self, write: &RunWrite) -> Recorded {
        let mut all = self.record_all(&[write]).await?;
        Ok(all.pop().unwrap_or(Err(LeaseLost)))
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

    async fn move_on(&self, rows: &Columns) -> Result<Vec<Uuid>, StoreError> {
        let moved = sqlx::query_scalar(
            // Locked in the order that every batch locks in, so that two batches cannot wait for each other.
            "with t as (select coalesce($1::timestamptz, now()) as now),
             w as (
                 select * from unnest($2::uuid[], $3::bigint[], $4::int[], $5::text[], $6::interval[], $7::jsonb[],
                                      $8::jsonb[], $9::jsonb[], $10::smallint[], $11::int[])
                     as w (job_id, claim_no, write_no, state, after, reason, facts, steps, done, events)
             ),
             held as (
                 select r.job_id from job_runs r join w using (job_id)
                 where r.claim_no = w.claim_no order by r.job_id for update of r
             ),
             u as (
                 update job_runs r set
                     state = w.state,
                     lease_until = case when w.state = 'running' then r.lease_until end,
                     claimed_by = case when w.state = 'running' then r.claimed_by end,
                     run_after = case when w.state = 'running' then r.run_after
                                      when r.cancel_requested_at is not null then t.now
                                      else t.now + w.after end,
                     wait_reason = w.reason, facts = w.facts, steps = w.steps, steps_done = w.done, updated_at = t.now,
                     write_no = r.write_no + 1, event_seq = r.event_seq + w.events, version = r.version + 1
                 from w, held, t
                 where r.job_id = w.job_id and r.job_id = held.job_id and r.claim_no = w.claim_no
                   and r.write_no = w.write_no and r.state = 'running'
                 returning r.job_id, r.event_seq - w.events as seq, t.now
             ),
             e as (
                 insert into job_events (job_id, seq, at, kind, step, data)
                 select u.job_id, u.seq + e.n, u.now, e.kind, e.step, e.data
                 from u join unnest($12::uuid[], $13::int[], $14::text[], $15::text[], $16::jsonb[])
                     as e (job_id, n, kind, step, data) using (job_id)
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
        .bind(&rows.events)
        .bind(&rows.event_jobs)
        .bind(&rows.event_numbers)
        .bind(&rows.event_kinds)
        .bind(&rows.event_steps)
        .bind(&rows.event_data)
        .fetch_all(&self.pool)
        .await?;
        Ok(moved)
    }

    /// Runs end: their rows go, and the jobs' rows tell how.
    async fn end(&self, rows: &Columns) -> Result<Vec<Uuid>, StoreError> {
        let ended = sqlx::query_scalar(
            "with t as (select coalesce($1::timestamptz, now()) as now),
             w as (
                 select * from unnest($2::uuid[], $3::bigint[], $4::int[], $5::text[], $6::jsonb[], $7::jsonb[],
                                      $8::jsonb[], $9::smallint[], $10::int[])
                     as w (job_id, claim_no, write_no, state, failure, facts, steps, done, events)
             ),
             held as (
                 select r.job_id from job_runs r join w using (job_id)
                 where r.claim_no = w.claim_no order by r.job_id for update of r
             ),
             gone as (
                 delete from job_runs r using w, held
                 where r.job_id = w.job_id and r.job_id = held.job_id and r.claim_no = w.claim_no
                   and r.write_no = w.write_no and r.state = 'running'
                 returning r.job_id, r.claim_no, r.event_seq, r.version, r.cancel_requested_at
             ),
             kept as (
                 update jobs j set
                     state = w.state, finished_at = t.now, updated_at = t.now, failure = w.failure, facts = w.facts,
                     steps = w.steps, steps_done = w.done, cancel_requested_at = gone.cancel_requested_at,
                     claim_no = gone.claim_no, event_seq = gone.event_seq + w.events, version = gone.version + 1
                 from gone join w using (job_id), t where j.id = gone.job_id
             ),
             e as (
                 insert into job_events (job_id, seq, at, kind, step, data)
                 select gone.job_id, gone.event_seq + e.n, t.now, e.kind, e.step, e.data
                 from t, gone join unnest($11::uuid[], $12::int[], $13::text[], $14::text[], $15::jsonb[])
                     as e (job_id, n, kind, step, data) using (job_id)
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
        .bind(&rows.events)
        .bind(&rows.event_jobs)
        .bind(&rows.event_numbers)
        .bind(&rows.event_kinds)
        .bind(&rows.event_steps)
        .bind(&rows.event_data)
        .fetch_all(&self.pool)
        .await?;
        Ok(ended)
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
struct Columns {
    jobs: Vec<Uuid>,
    claims: Vec<i64>,
    writes: Vec<i32>,
    states: Vec<&'static str>,
    after: Vec<PgInterval>,
    reasons: Vec<Option<Value>>,
    failures: Vec<Option<Value>>,
    facts: Vec<Value>,
    steps: Vec<Value>,
    done: Vec<i16>,
    events: Vec<i32>,
    event_jobs: Vec<Uuid>,
    event_numbers: Vec<i32>,
    event_kinds: Vec<&'static str>,
    event_steps: Vec<Option<String>>,
    event_data: Vec<Value>,
}

impl Columns {
    fn of(writes: &[&RunWrite]) -> Self {
        // One row per job: of two writes of one job the later one would find its number moved on.
        let by_job: BTreeMap<Uuid, &RunWrite> = writes.iter().map(|w| (w.lease.job.0, *w)).collect();
        let mut columns = Self::default();
        for (job, write) in by_job {
            columns.push(job, write);
        }
        columns
    }

    fn push(&mut self, job: Uuid, write: &RunWrite) {
        let (after, reason, failure) = match &write.next {
            Next::Waiting { after, reason } => (*after, Some(json!(reason)), None),
            Next::Failed(failure) => (Duration::ZERO, None, Some(json!(failure))),
            _ => (Duration::ZERO, None, None),
        };
        self.jobs.push(job);
        self.claims.push(write.lease.claim_no);
        self.writes.push(write.write_no);
        self.states.push(write.next.state().as_str());
        self.after.push(interval(after));
        self.reasons.push(reason);
        self.failures.push(failure);
        self.facts.push(json!(write.facts));
        self.steps.push(json!(stored_steps(&write.steps).0));
        let done = write.steps.iter().filter(|s| s.state.is_finished()).count();
        self.done.push(i16::try_from(done).unwrap_or(i16::MAX));
        self.events.push(i32::try_from(write.events.len()).unwrap_or(i32::MAX));
        for (n, event) in (1..).zip(&write.events) {
            self.event_jobs.push(job);
            self.event_numbers.push(n);
            self.event_kinds.push(event.kind.as_str());
            self.event_steps.push(event.step.clone());
            self.event_data.push(event.data.clone());
        }
    }
}
