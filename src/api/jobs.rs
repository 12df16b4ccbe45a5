//! Accepting jobs and showing them.
//!
//! What belongs here: `POST /v1/jobs`, `GET /v1/jobs` and `GET /v1/jobs/{id}`. What does not: what may be asked of a job
//! (`job_actions`) and what happened to it (`events`).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Api;
use super::caller::Caller;
use super::context::RequestContext;
use super::extract::{JobPath, JsonBody, Query, no_such_job};
use super::intake::{self, Intake};
use super::job_filter;
use super::layers::InFlight;
use super::openapi::problems;
use super::problem::Problem;
use super::views::{JobSummary, JobView, job_path};
use super::wait::Wait;
use crate::domain::codes::Code;
use crate::domain::ids::JobId;
use crate::domain::request::CmkRequest;
use crate::store::{Accepted, IdempotencyKey, Job, NewJob};

problems!(CreateJobProblems: MalformedBody, InvalidParameter, TargetBusy, PayloadTooLarge, UnsupportedMediaType,
    InvalidRequest, IdempotencyKeyReused, Unavailable);
problems!(ListJobsProblems: InvalidParameter, Unavailable);
problems!(GetJobProblems: InvalidParameter, NotFound, Unavailable);

/// A page of jobs, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct JobPage {
    /// The jobs.
    pub(super) items: Vec<JobSummary>,
    /// The path of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// Accept a request
///
/// Stores a job for the request and answers at once; workers run it. There is one unfinished job per target. With
/// `Prefer: wait=N` the answer waits up to N seconds, at most 55, for the job to end.
///
/// With an `Idempotency-Key` the call can be repeated safely for 30 days: the same key and body lead to the same job.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable ASCII characters, scoped to the caller.", max_length = 255),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds for the job to end.", example = "wait=25"),
    ),
    request_body(content = CmkRequest, description = "What is to be put under which key."),
    responses(
        (status = 202, description = "The job is stored. Or, with `Idempotent-Replayed: true`, was stored by an earlier call.", body = JobView,
            headers(("Location" = String, description = "The job."), ("Retry-After" = u64, description = "Seconds until it is worth looking."),
                ("Preference-Applied" = String, description = "The wait that was granted."), ("Idempotent-Replayed" = String, description = "`true` if the key was used before."))),
        (status = 200, description = "The job has ended within the wait that was asked for.", body = JobView,
            headers(("Location" = String, description = "The job."), ("Preference-Applied" = String, description = "The wait that was granted."),
                ("Idempotent-Replayed" = String, description = "`true` if the key was used before."))),
        CreateJobProblems,
    ),
)]
pub(super) async fn create_job(
    State(api): State<Api>,
    caller: Caller,
    Extension(context): Extension<RequestContext>,
    Extension(in_flight): Extension<InFlight>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let key = intake::idempotency_key(&headers)?;
    let key = key.map(|key| IdempotencyKey { caller: caller.name(), key, request_hash: intake::request_hash(&body) });
    // Asked for first: a repeat is answered from memory only where nobody waits.
    let wait = api.grant_wait(&headers);
    if let (Some(key), None) = (&key, &wait)
        && let Some(first) = api.replays.find(key)
    {
        return Ok(first.response(true));
    }
    let Intake { request, descriptor, plan } = intake::read(&body)?;
    let new = NewJob {
        id: JobId::generate(),
        kind: request.kind,
        service: &descriptor.slug,
        requested_by: caller.name(),
        request: &request,
        plan: &plan,
        traceparent: context.traceparent.as_deref(),
    };
    let (job, replayed) = match api.acceptor.insert_job(&new, key.as_ref()).await? {
        Accepted::New(job) => {
            tracing::info!(job.id = %job.id, service = descriptor.slug, "job accepted");
            api.news.announce(job.id, true);
            // The news goes out before the answer is written, which takes longer than asking the database to pass it on.
            tokio::task::yield_now().await;
            (*job, false)
        }
        Accepted::Replayed(job) => (*job, true),
        Accepted::KeyReused => return Err(Problem::new(Code::IdempotencyKeyReused)),
        Accepted::TargetBusy(running) => return Err(target_busy(running)),
    };
    let first = match replayed {
        true => FirstAnswer::of(&job.clone().as_accepted())?,
        false => FirstAnswer::of(&job)?,
    };
    if let Some(key) = &key {
        api.replays.remember(key, first.clone());
    }
    let Some(wait) = wait else { return Ok(first.response(replayed)) };
    in_flight.release();
    let (job, seconds) = wait_for_end(&api, wait, job).await;
    let mut response = api.job_response(&job, if job.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED });
    name_accepted(response.headers_mut(), job.id, replayed);
    prefer_applied(response.headers_mut(), seconds);
    Ok(response)
}

/// The headers of an accepting call.
fn name_accepted(headers: &mut HeaderMap, id: JobId, replayed: bool) {
    if let Ok(path) = HeaderValue::from_str(&job_path(id)) {
        headers.insert(header::LOCATION, path);
    }
    if replayed {
        headers.insert(HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
    }
}

/// What an accepting call answers those who do not wait, whatever has become of the job since: written out once, for it
/// stays the same.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FirstAnswer {
    job: JobId,
    body: Bytes,
}

impl FirstAnswer {
    /// The answer for a job as it was accepted.
    pub(super) fn of(job: &Job) -> Result<Self, Problem> {
        let body = serde_json::to_vec(&JobView::from(job)).map_err(|_| Problem::new(Code::Internal))?;
        Ok(Self { job: job.id, body: body.into() })
    }

    /// How many bytes it has.
    pub(super) const fn size(&self) -> usize {
        self.body.len()
    }

    fn response(&self, replayed: bool) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response = (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, json)], self.body.clone()).into_response();
        let headers = response.headers_mut();
        // The job was due when it was accepted, so that looking is worth while from now on.
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        name_accepted(headers, self.job, replayed);
        response
    }
}

/// The problem of a target that is busy with a job.
pub(super) fn target_busy(running: JobId) -> Problem {
    Problem::new(Code::TargetBusy)
        .detail(format!("job {running} is at work on this target; there is one unfinished job per target"))
        .location("job", job_path(running))
}

/// The job at the end of the wait. It is stored: whatever goes wrong with the waiting, the caller learns its id.
async fn wait_for_end(api: &Api, wait: Wait, job: Job) -> (Job, u64) {
    let seconds = wait.seconds();
    if !job.state.is_final() {
        let id = job.id;
        api.wait(wait, id, |mark| mark.state.is_final()).await;
        if let Ok(Some(moved)) = api.store.get_job(id).await {
            return (moved, seconds);
        }
    }
    (job, seconds)
}

/// List jobs
///
/// Newest first. Filters narrow; every fault in the parameters is reported at once.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", params(job_filter::JobQuery),
    responses(
        (status = 200, description = "A page of jobs.", body = JobPage,
            headers(("Link" = String, description = "`rel=\"next\"`: the next page; absent on the last one."))),
        ListJobsProblems,
    ),
)]
pub(super) async fn list_jobs(State(api): State<Api>, query: Query) -> Result<Response, Problem> {
    let wanted = job_filter::read(query)?;
    let mut jobs = api.store.list_jobs(&wanted.filter, wanted.limit + 1).await?;
    let more = jobs.len() > usize::from(wanted.limit);
    jobs.truncate(usize::from(wanted.limit));
    let next = jobs.last().filter(|_| more).map(|last| wanted.next_page(last.id));
    let page = JobPage { items: jobs.iter().map(JobSummary::from).collect(), next };
    let link = page.next.as_ref().and_then(|n| HeaderValue::from_str(&format!("<{n}>; rel=\"next\"")).ok());
    let mut response = Json(page).into_response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// Get a job
///
/// With `Prefer: wait=N` the answer waits up to N seconds, at most 55, for the next change: relative to the version in
/// `If-None-Match`, or else to the version at the time of asking. A job that has ended is answered at once.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs",
    params(
        ("id" = uuid::Uuid, Path, description = "The job's id."),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of the version that is known already.", example = "\"7\""),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds for a change.", example = "wait=25"),
    ),
    responses(
        (status = 200, description = "The job.", body = JobView,
            headers(("ETag" = String, description = "The version of the job."), ("Retry-After" = u64, description = "Seconds until it is worth looking again; while it is unfinished."),
                ("Preference-Applied" = String, description = "The wait that was granted."))),
        (status = 304, description = "The job is still the version named in `If-None-Match`.",
            headers(("ETag" = String, description = "The version of the job."))),
        GetJobProblems,
    ),
)]
pub(super) async fn get_job(
    State(api): State<Api>,
    JobPath(id): JobPath,
    Extension(in_flight): Extension<InFlight>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wait = api.grant_wait(&headers);
    let mut job = api.store.get_job(id).await?.ok_or_else(no_such_job)?;
    let known = headers.contains_key(header::IF_NONE_MATCH);
    let mut applied = None;
    if let Some(wait) = wait {
        applied = Some(wait.seconds());
        if !job.state.is_final() && (!known || matches_etag(&headers, job.version)) {
            in_flight.release();
            let version = job.version;
            api.wait(wait, id, |mark| mark.version != version).await;
            job = api.store.get_job(id).await?.ok_or_else(no_such_job)?;
        }
    }
    let mut response = match known && matches_etag(&headers, job.version) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => api.job_response(&job, StatusCode::OK),
    };
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", job.version)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    if let Some(seconds) = applied {
        prefer_applied(response.headers_mut(), seconds);
    }
    Ok(response)
}

impl Api {
    /// A job as an answer, with `Retry-After` while it is unfinished.
    pub(super) fn job_response(&self, job: &Job, status: StatusCode) -> Response {
        let mut response = (status, Json(JobView::from(job))).into_response();
        if !job.state.is_final() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds_until_look(job, self.store.clock().now()).into());
        }
        response
    }
}

/// Whole seconds until the next look, at least one and at most an hour.
fn seconds_until_look(job: &Job, now: OffsetDateTime) -> u64 {
    let seconds = (job.run_after - now).as_seconds_f64().ceil();
    // Bounded right here, so the cast cannot wrap.
    seconds.clamp(1.0, 3600.0) as u64
}

fn matches_etag(headers: &HeaderMap, version: i64) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let own = format!("\"{version}\"");
    tags.map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

fn prefer_applied(headers: &mut HeaderMap, seconds: u64) {
    if let Ok(value) = HeaderValue::from_str(&format!("wait={seconds}")) {
        headers.insert(HeaderName::from_static("preference-applied"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples::job_in;
    use crate::domain::job::JobState;
    use std::time::Duration;

    #[test]
    fn etags_are_compared_weakly() {
        for (given, want) in [
            ("\"7\"", true),
            ("W/\"7\"", true),
            ("\"1\", \"7\"", true),
            ("*", true),
            ("\"70\"", false),
            ("7", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, given.parse().expect("a header"));
            assert_eq!(matches_etag(&headers, 7), want, "{given}");
        }
        assert!(!matches_etag(&HeaderMap::new(), 7));
    }

    #[test]
    fn retry_after_is_the_next_look_within_bounds() {
        let job = job_in(JobState::Waiting);
        for (before, want) in [(0.0, 1), (0.2, 1), (1.2, 2), (30.0, 30), (1e6, 3600), (-5.0, 1)] {
            let now = if before < 0.0 {
                job.run_after + Duration::from_secs(5)
            } else {
                job.run_after - Duration::from_secs_f64(before)
            };
            assert_eq!(seconds_until_look(&job, now), want, "{before}");
        }
    }
}
