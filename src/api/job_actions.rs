//! What may be asked of a job: cancel and retry.
//!
//! What belongs here: the two actions. What does not: when a worker obeys.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::Api;
use super::caller::Caller;
use super::extract::{JobPath, no_such_job};
use super::jobs::target_busy;
use super::openapi::problems;
use super::problem::Problem;
use super::views::{JobView, job_path};
use crate::domain::codes::Code;
use crate::domain::ids::JobId;
use crate::store::{CancelOutcome, RetryOutcome};

problems!(CancelJobProblems: InvalidParameter, NotFound, JobNotCancellable, Unavailable);
problems!(RetryJobProblems: InvalidParameter, NotFound, JobNotRetryable, TargetBusy, Unavailable);

/// Cancel a job
///
/// A job that no worker has is cancelled at once; a running one stops at its next safe point. Nothing is undone: `facts`
/// says what exists. Asking again while the job is running is harmless.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job's id.")),
    responses(
        (status = 202, description = "The job is cancelled, or will be at its next safe point.", body = JobView,
            headers(("Retry-After" = u64, description = "Seconds until it is worth looking; while it is unfinished."))),
        CancelJobProblems,
    ),
)]
pub(super) async fn cancel_job(
    State(api): State<Api>,
    caller: Caller,
    JobPath(id): JobPath,
) -> Result<Response, Problem> {
    match api.store.request_cancel(id, caller.name()).await? {
        CancelOutcome::Cancelled | CancelOutcome::Requested => accepted(&api, id).await,
        CancelOutcome::Ended(state) => Err(Problem::new(Code::JobNotCancellable)
            .detail(format!("the job has ended: it is {}", state.as_str()))
            .link("job", job_path(id))),
        CancelOutcome::NotFound => Err(no_such_job()),
    }
}

/// Retry a failed job
///
/// The same job runs again, from its first step. Every step looks before it acts, so what exists is found and not made
/// again.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/retry", tag = "jobs",
    params(("id" = uuid::Uuid, Path, description = "The job's id.")),
    responses(
        (status = 202, description = "The job is queued again.", body = JobView,
            headers(("Retry-After" = u64, description = "Seconds until it is worth looking."))),
        RetryJobProblems,
    ),
)]
pub(super) async fn retry_job(
    State(api): State<Api>,
    caller: Caller,
    JobPath(id): JobPath,
) -> Result<Response, Problem> {
    match api.store.retry_job(id, caller.name()).await? {
        RetryOutcome::Queued => accepted(&api, id).await,
        RetryOutcome::NotFailed(state) => Err(Problem::new(Code::JobNotRetryable)
            .detail(format!("the job has not failed: it is {}", state.as_str()))
            .link("job", job_path(id))),
        RetryOutcome::TargetBusy(running) => Err(target_busy(running)),
        RetryOutcome::NotFound => Err(no_such_job()),
    }
}

async fn accepted(api: &Api, id: JobId) -> Result<Response, Problem> {
    api.news.announce(id, true);
    let job = api.store.get_job(id).await?.ok_or_else(no_such_job)?;
    Ok(api.job_response(&job, StatusCode::ACCEPTED))
}
