//! Which address leads where.
//!
//! What belongs here: the list of routes, and the layers around them. What does not: handlers.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::{Api, ApiState, docs, errors, events, health, job_actions, jobs, layers, openapi, plans, services};
use crate::domain::codes::Code;

/// Every route of the contract.
pub fn router(state: ApiState) -> Router {
    router_with(state, Router::new())
}

/// Every route of the contract and some more, under the same layers: ids, bounds, problems.
pub fn router_with(state: ApiState, more: Router) -> Router {
    let api = Api::from(state);
    let (routes, _) = documented().split_for_parts();
    routes
        .merge(docs::routes())
        .with_state(api.clone())
        .merge(more)
        .fallback(|| async { Problem::new(Code::NotFound) })
        .layer(from_fn_with_state(api, layers::guard))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn(layers::around))
}

/// The routes with their descriptions.
pub(super) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(jobs::create_job, jobs::list_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(events::list_job_events))
        .routes(routes!(job_actions::cancel_job))
        .routes(routes!(job_actions::retry_job))
        .routes(routes!(plans::create_plan))
        .routes(routes!(services::list_services))
        .routes(routes!(services::get_service))
        .routes(routes!(errors::list_errors))
        .routes(routes!(errors::get_error))
        .routes(routes!(health::check_liveness))
        .routes(routes!(health::check_readiness))
        .routes(routes!(openapi::get_openapi))
}
