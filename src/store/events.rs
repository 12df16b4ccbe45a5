//! What happened to a job, in order.
//!
//! What belongs here: the kinds of events and reading them. They are written by the functions that make the change they
//! tell of, in the same transaction.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::ids::JobId;

macro_rules! event_kinds {
    ($( $name:ident = $wire:literal, $doc:literal; )*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum EventKind { $( #[doc = $doc] $name, )* }

        impl EventKind {
            /// Every kind.
            pub const ALL: &[EventKind] = &[ $( EventKind::$name, )* ];

            /// The wire form.
            pub const fn as_str(self) -> &'static str {
                match self { $( EventKind::$name => $wire, )* }
            }
        }
    };
}

event_kinds! {
    JobAccepted = "job-accepted", "The request was accepted.";
    JobTakenOver = "job-taken-over", "A worker took the job over from one whose lease had ended.";
    JobCancelRequested = "job-cancel-requested", "Somebody asked to cancel; the job stops at its next safe point.";
    JobCancelled = "job-cancelled", "The job stopped because somebody asked.";
    JobRetried = "job-retried", "Somebody asked for another try.";
    JobSucceeded = "job-succeeded", "Everything is true and proved.";
    JobFailed = "job-failed", "The job could not go on.";
    StepStarted = "step-started", "A step was begun.";
    StepWaiting = "step-waiting", "A step waits for something; told once per reason.";
    StepRetrying = "step-retrying", "A step met a transient error and will be tried again.";
    StepDone = "step-done", "A step made its goal true.";
    StepSatisfied = "step-satisfied", "A step found its goal true already.";
    StepFailed = "step-failed", "A step failed for good.";
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number within the job, from 1 without gaps.
    pub seq: i64,
    /// When.
    pub at: OffsetDateTime,
    /// What; the wire form of an [`EventKind`].
    pub kind: String,
    /// Which step, for events of steps.
    pub step: Option<String>,
    /// More about it, by kind.
    pub data: Value,
}

#[derive(FromRow)]
struct EventRow {
    seq: i64,
    at: OffsetDateTime,
    kind: String,
    step: Option<String>,
    data: Value,
}

impl Store {
    /// The job's events after number `after`, at most `limit`, in order. Of a job that does not exist: none.
    pub async fn list_events(&self, id: JobId, after: i64, limit: i64) -> Result<Vec<Event>, StoreError> {
        let rows: Vec<EventRow> = sqlx::query_as(
            "select seq, at, kind, step, data from job_events where job_id = $1 and seq > $2 order by seq limit $3",
        )
        .bind(id.0)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let event = |r: EventRow| Event { seq: r.seq, at: r.at, kind: r.kind, step: r.step, data: r.data };
        Ok(rows.into_iter().map(event).collect())
    }
}

/// An event to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// What.
    pub kind: EventKind,
    /// Which step, for events of steps.
    pub step: Option<String>,
    /// More about it, by kind.
    pub data: Value,
}

impl NewEvent {
    /// An event of the job.
    pub fn of_job(kind: EventKind, data: Value) -> Self {
        Self { kind, step: None, data }
    }

    /// An event of a step.
    pub fn of_step(kind: EventKind, step: &str, data: Value) -> Self {
        Self { kind, step: Some(step.to_owned()), data }
    }
}

/// Writes events with the numbers that end at `last_seq`, which the caller has taken from the job's row in the same
/// transaction.
pub(super) async fn insert_events(
    connection: &mut PgConnection,
    job: Uuid,
    last_seq: i64,
    at: OffsetDateTime,
    events: &[NewEvent],
) -> Result<(), sqlx::Error> {
    let first = last_seq - i64::try_from(events.len()).unwrap_or(0) + 1;
    for (seq, event) in (first..).zip(events) {
        sqlx::query("insert into job_events (job_id, seq, at, kind, step, data) values ($1, $2, $3, $4, $5, $6)")
            .bind(job)
            .bind(seq)
            .bind(at)
            .bind(event.kind.as_str())
            .bind(&event.step)
            .bind(&event.data)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_kinds_have_their_wire_form() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).ok(), Some(kind.as_str().into()));
        }
    }
}
