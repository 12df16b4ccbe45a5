//! What happened to a job: as JSON pages or as a live stream.
//!
//! What belongs here: `GET /v1/jobs/{id}/events` and its wire types. What does not: the stream's inner life (`stream`).

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::accept::prefers_event_stream;
use super::extract::{JobPath, Query, no_such_job};
use super::openapi::problems;
use super::problem::Problem;
use super::views::job_path;
use super::{Api, stream};
use crate::domain::codes::Code;
use crate::domain::ids::JobId;
use crate::store::{Event, EventKind, JobMark};

problems!(ListJobEventsProblems: InvalidParameter, NotFound, Unavailable);

const DEFAULT_PAGE: i64 = 100;
const MAX_PAGE: i64 = 500;

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventView {
    /// Its number within the job, from 1 without gaps.
    #[schema(example = 1)]
    pub(super) seq: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) at: OffsetDateTime,
    /// What.
    #[schema(value_type = EventKind)]
    pub(super) kind: String,
    /// Which step, for events of steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<String>,
    /// More about it, by kind.
    #[schema(value_type = Object)]
    pub(super) data: Value,
}

/// A page of events, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct EventPage {
    /// The events.
    pub(super) items: Vec<EventView>,
    /// The path of the next page; absent where nothing follows yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self { seq: event.seq, at: event.at, kind: event.kind, step: event.step, data: event.data }
    }
}

/// List what happened to a job
///
/// As JSON: a page, oldest first. As `text/event-stream`: live; `id` is the event's number, `event` its kind, `data` the
/// same JSON. It goes on after `Last-Event-ID`, which wins over `after`, sends a comment every 15 seconds, and ends with
/// an event named `end` that holds the final state. A stream of an ended job with nothing new is 204, which tells an
/// `EventSource` to stop.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(
        ("id" = uuid::Uuid, Path, description = "The job's id."),
        ("after" = Option<i64>, Query, description = "Only events after this number.", minimum = 0),
        ("limit" = Option<i64>, Query, description = "How many events a JSON page has.", minimum = 1, maximum = 500),
        ("Last-Event-ID" = Option<i64>, Header, description = "Streams: go on after this number.", minimum = 0),
        ("Accept" = Option<String>, Header, description = "`application/json` or `text/event-stream`."),
    ),
    responses(
        (status = 200, description = "A page of events, or a live stream of them.",
            content((EventPage = "application/json"), (String = "text/event-stream")),
            headers(("Link" = String, description = "`rel=\"next\"`: the next page; absent where nothing follows yet."))),
        (status = 204, description = "Streams: the job has ended and there is nothing new."),
        ListJobEventsProblems,
    ),
)]
pub(super) async fn list_job_events(
    State(api): State<Api>,
    JobPath(id): JobPath,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = query.take("after", event_number);
    let limit = query.take("limit", |text| {
        let number = text.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n));
        number.ok_or_else(|| format!("expected 1 to {MAX_PAGE}"))
    });
    query.finish()?;
    if prefers_event_stream(&headers) {
        let resumed = last_event_id(&headers)?;
        return open_stream(&api, id, resumed.or(after).unwrap_or(0)).await;
    }
    let (after, limit) = (after.unwrap_or(0), limit.unwrap_or(DEFAULT_PAGE));
    // The mark is read first: an event that comes in between is found by the next page.
    let mark = api.store.get_mark(id).await?.ok_or_else(no_such_job)?;
    let items: Vec<EventView> =
        api.store.list_events(id, after, limit).await?.into_iter().map(EventView::from).collect();
    let last = items.last().map_or(after, |e| e.seq);
    let next = (last < mark.event_seq).then(|| format!("{}/events?after={last}&limit={limit}", job_path(id)));
    let link = next.as_ref().and_then(|n| HeaderValue::from_str(&format!("<{n}>; rel=\"next\"")).ok());
    let mut response = Json(EventPage { items, next }).into_response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

async fn open_stream(api: &Api, id: JobId, after: i64) -> Result<Response, Problem> {
    // Watched from before the first look, so that nothing falls in between.
    let mut watch = api.watchers.watch(id);
    let mark = watch.read(&api.store).await?.ok_or_else(no_such_job)?;
    if is_over(&mark, after) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let Ok(permit) = api.streams.clone().try_acquire_owned() else {
        return Err(Problem::new(Code::TooManyRequests).detail("too many event streams are open"));
    };
    Ok(stream::response(api.clone(), id, after, (watch, mark), permit))
}

/// Whether the job has ended and everything that happened was told.
pub(super) fn is_over(mark: &JobMark, told: i64) -> bool {
    mark.state.is_final() && mark.event_seq <= told
}

fn event_number(text: &str) -> Result<i64, String> {
    text.parse().ok().filter(|n| *n >= 0).ok_or_else(|| "expected the number of an event".to_owned())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().map_err(|_| String::new()).and_then(event_number);
    number.map(Some).map_err(|_| Problem::invalid_header("Last-Event-ID", "expected the number of an event"))
}
