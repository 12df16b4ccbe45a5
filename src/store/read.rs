//! Reading jobs: one, or a page of a list.
//!
//! What belongs here: filters and keyset pages. What does not: anything that changes a row.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Postgres, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::{JobRow, job_columns, job_tables};
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
        let row: Option<JobRow> =
            sqlx::query_as(concat!("select ", job_columns!(), " from ", job_tables!(), " where j.id = $1"))
                .bind(id.0)
                .fetch_optional(&self.pool)
                .await?;
        row.map(JobRow::into_job).transpose()
    }

    /// Where a job is, without reading all of it.
    pub async fn get_mark(&self, id: JobId) -> Result<Option<JobMark>, StoreError> {
        Ok(self.get_marks(&[id]).await?.pop().map(|(_, mark)| mark))
    }

    /// The same for many jobs, in any order; those that do not exist are left out.
    pub async fn get_marks(&self, ids: &[JobId]) -> Result<Vec<(JobId, JobMark)>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows: Vec<(Uuid, String, i64, i64)> = sqlx::query_as(concat!(
            "select j.id, coalesce(r.state, j.state), coalesce(r.version, j.version),
                    coalesce(r.event_seq, j.event_seq)
                 from ",
            job_tables!(),
            " where j.id = any($1)"
        ))
        .bind(&ids)
        .fetch_all(&self.pool)
        .await?;
        let mark = |(id, state, version, event_seq): (Uuid, String, i64, i64)| {
            let id = JobId(id);
            let state = JobState::find(&state);
            let state = state.ok_or_else(|| StoreError::Corrupt(format!("job {id}: unknown state")))?;
            Ok((id, JobMark { state, version, event_seq }))
        };
        rows.into_iter().map(mark).collect()
    }

    /// Jobs without their steps, newest first, at most `limit` and never more than [`MAX_PAGE`] plus one: ask for one
    /// more than the page to learn whether another follows.
    pub async fn list_jobs(&self, filter: &JobFilter, limit: u16) -> Result<Vec<Job>, StoreError> {
        let unfinished = filter.state.is_some_and(|state| !state.is_final());
        // The ids of the page first, out of an index alone where one has all that is asked for. Then the rows in the order in
        // which they lie in the table: the system reads files ahead forwards only, and a page out of a long history is dozens
        // of blocks that nobody has read before.
        // Each filter that is asked for becomes a condition of its own, so that the planner sees which index serves it.
        let tables = if unfinished { "job_runs r join jobs j on j.id = r.job_id" } else { "jobs j" };
        let mut query = QueryBuilder::<Postgres>::new("with page as (select j.id from ");
        query.push(tables).push(" where true");
        if let Some(state) = filter.state {
            query.push(if unfinished { " and r.state = " } else { " and j.state = " }).push_bind(state.as_str());
        }
        if let Some(before) = filter.before {
            query.push(" and j.id < ").push_bind(before.0);
        }
        if let Some(kind) = filter.kind {
            query.push(" and j.kind = ").push_bind(kind.as_str());
        }
        if let Some(service) = &filter.service {
            query.push(" and j.service = ").push_bind(service);
        }
        if let Some(target) = &filter.target_key {
            query.push(" and j.target_key = ").push_bind(target);
        }
        if let Some(caller) = &filter.requested_by {
            query.push(" and j.requested_by = ").push_bind(caller);
        }
        if let Some((key, value)) = &filter.label {
            query.push(" and j.labels <> '{}' and j.labels @> ").push_bind(json!({ key: value }));
        }
        if let Some(after) = filter.created_after {
            query.push(" and j.created_at >= ").push_bind(after);
        }
        if let Some(before) = filter.created_before {
            query.push(" and j.created_at < ").push_bind(before);
        }
        // The limit stands in the text: a planner that does not know it expects a tenth of all jobs.
        let limit = limit.min(MAX_PAGE + 1);
        query.push(format!(
            " order by j.id desc limit {limit}), forwards as materialized (select id from page order by id)"
        ));
        query.push(concat!(
            " select ",
            job_columns!(list),
            " from forwards join jobs j on j.id = forwards.id left join job_runs r on r.job_id = j.id order by j.id desc"
        ));
        let rows: Vec<JobRow> = query.build_query_as().fetch_all(&self.pool).await?;
        rows.into_iter().map(JobRow::into_job).collect()
    }

    /// How many jobs are in each state.
    pub async fn count_unfinished(&self) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(sqlx::query_as("select state, count(*) from job_runs group by state").fetch_all(&self.pool).await?)
    }

    /// When the next job is due, if any waits: what an idle worker sleeps until, or until [`Self::until_whole_look`]. With a
    /// clock that is set by hand the end of a lease counts too.
    pub async fn next_due(&self) -> Result<Option<OffsetDateTime>, StoreError> {
        let begin = if self.now().is_some() { None } else { self.front.begin() };
        let due: Option<OffsetDateTime> = sqlx::query_scalar(
            "select least(
                 (select min(run_after) from job_runs
                  where state in ('queued', 'waiting') and run_after >= coalesce($1::timestamptz, '-infinity')),
                 (select min(lease_until) from job_runs where $1::timestamptz is null and state = 'running'))",
        )
        .bind(begin)
        .fetch_one(&self.pool)
        .await?;
        Ok(due)
    }

    /// How long it is until a claim of this process looks at everything again: the longest that a worker sleeps.
    pub fn until_whole_look(&self) -> Duration {
        self.front.until_whole(Instant::now())
    }
}

/// A job's id as a cursor.
impl From<JobId> for Uuid {
    fn from(id: JobId) -> Self {
        id.0
    }
}
