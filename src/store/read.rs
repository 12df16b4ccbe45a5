//! Reading jobs: one, or a page of a list.
//!
//! What belongs here: filters and keyset pages. What does not: anything that changes a row.

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::{JobRow, StepDbRow, job_columns, step_columns};
use super::{Job, Store, StoreError};
use crate::domain::ids::JobId;
use crate::domain::job::{JobKind, JobState};

/// The longest page.
pub const MAX_PAGE: u16 = 200;

/// Which jobs to list; an absent member does not narrow.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// Of this kind.
    pub kind: Option<JobKind>,
    /// Of this service.
    pub service: Option<String>,
    /// Of this target, in lower case.
    pub target_key: Option<String>,
    /// Asked for by this caller.
    pub requested_by: Option<String>,
    /// With this label.
    pub label: Option<(String, String)>,
    /// Accepted at this time or later.
    pub created_after: Option<OffsetDateTime>,
    /// Accepted before this time.
    pub created_before: Option<OffsetDateTime>,
    /// Older than this job: the end of the page before.
    pub before: Option<JobId>,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobMark {
    /// Its state.
    pub state: JobState,
    /// Grows with every visible change.
    pub version: i64,
    /// Number of its last event.
    pub event_seq: i64,
}

impl Store {
    /// A job with its steps.
    pub async fn get_job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let row: Option<JobRow> = sqlx::query_as(concat!("select ", job_columns!(), " from jobs where id = $1"))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let steps: Vec<StepDbRow> =
            sqlx::query_as(concat!("select ", step_columns!(), " from job_steps where job_id = $1 order by ordinal"))
                .bind(id.0)
                .fetch_all(&self.pool)
                .await?;
        let steps = steps.into_iter().map(StepDbRow::into_step).collect::<Result<_, _>>()?;
        row.into_job(steps).map(Some)
    }

    /// Where a job is, without reading all of it: cheap enough to ask every second.
    pub async fn get_mark(&self, id: JobId) -> Result<Option<JobMark>, StoreError> {
        let row: Option<(String, i64, i64)> =
            sqlx::query_as("select state, version, event_seq from jobs where id = $1")
                .bind(id.0)
                .fetch_optional(&self.pool)
                .await?;
        let Some((state, version, event_seq)) = row else { return Ok(None) };
        let state = JobState::find(&state).ok_or_else(|| StoreError::Corrupt(format!("job {id}: unknown state")))?;
        Ok(Some(JobMark { state, version, event_seq }))
    }

    /// The number that grows with every visible change of a job.
    pub async fn get_version(&self, id: JobId) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("select version from jobs where id = $1").bind(id.0).fetch_optional(&self.pool).await?)
    }

    /// Jobs without their steps, newest first, at most `limit` and never more than [`MAX_PAGE`] plus one: ask for one
    /// more than the page to learn whether another follows.
    pub async fn list_jobs(&self, filter: &JobFilter, limit: u16) -> Result<Vec<Job>, StoreError> {
        let label: Option<Value> = filter.label.as_ref().map(|(key, value)| json!({ key: value }));
        let rows: Vec<JobRow> = sqlx::query_as(concat!(
            "select ",
            job_columns!(),
            " from jobs
             where ($1::uuid is null or id < $1)
               and ($2::text is null or state = $2)
               and ($3::text is null or kind = $3)
               and ($4::text is null or service = $4)
               and ($5::text is null or target_key = $5)
               and ($6::text is null or requested_by = $6)
               and ($7::jsonb is null or labels @> $7)
               and ($8::timestamptz is null or created_at >= $8)
               and ($9::timestamptz is null or created_at < $9)
             order by id desc
             limit $10"
        ))
        .bind(filter.before.map(|id| id.0))
        .bind(filter.state.map(JobState::as_str))
        .bind(filter.kind.map(JobKind::as_str))
        .bind(&filter.service)
        .bind(&filter.target_key)
        .bind(&filter.requested_by)
        .bind(label)
        .bind(filter.created_after)
        .bind(filter.created_before)
        .bind(i64::from(limit.min(MAX_PAGE + 1)))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(|row| row.into_job(Vec::new())).collect()
    }

    /// How many jobs are in each state.
    pub async fn count_unfinished(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(sqlx::query_as("select state, count(*) from jobs where finished_at is null group by state")
            .fetch_all(&self.pool)
            .await?)
    }

    /// When the next job is due, if any waits: what an idle worker sleeps until.
    pub async fn next_due(&self) -> Result<Option<OffsetDateTime>, StoreError> {
        let due: Option<OffsetDateTime> = sqlx::query_scalar(
            "select least(
                 (select min(run_after) from jobs where state in ('queued', 'waiting')),
                 (select min(lease_until) from jobs where state = 'running'))",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(due)
    }
}

/// A job's id as a cursor.
impl From<JobId> for Uuid {
    fn from(id: JobId) -> Self {
        id.0
    }
}
