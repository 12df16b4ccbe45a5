//! What happens around every handler: ids, a span, bounds, and problems written out.
//!
//! What belongs here: the same for every route. What does not: anything that only one route needs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument, Span, field};

use super::accept::accepts;
use super::context::{RequestContext, X_REQUEST_ID, request_id};
use super::problem::{PROBLEM_JSON, Problem};
use super::wait::preferred_wait;
use super::{Api, problem};
use crate::domain::codes::Code;

/// The outermost layer: gives the request its ids and its span, and completes the answer.
pub(super) async fn around(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let route = route_of(&request);
    let span = request_span(&request, route.as_deref(), &id);
    let context = RequestContext::new(&request, id, &span);
    request.extensions_mut().insert(context.clone());
    // The routes that a load balancer asks every few seconds are not worth a line each.
    let is_probe = matches!(route.as_deref(), Some("/healthz" | "/readyz"));
    let started = Instant::now();
    async move {
        let mut response = complete(next.run(request).await, &context);
        let status = response.status();
        let span = Span::current();
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if is_probe {
            tracing::debug!(status = status.as_u16(), milliseconds, "answered");
        } else {
            tracing::info!(status = status.as_u16(), milliseconds, "answered");
        }
        set_headers(response.headers_mut(), &context);
        response
    }
    .instrument(span)
    .await
}

/// Never a header or a body: either may hold a secret. Never the query: it may hold what the caller searches for.
fn request_span(request: &Request, route: Option<&str>, id: &str) -> Span {
    let method = request.method().as_str();
    tracing::info_span!(
        "request",
        otel.name = format!("{method} {}", route.unwrap_or("(no route)")),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        request_id = id,
    )
}

fn route_of(request: &Request) -> Option<String> {
    request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned())
}

/// Writes out a problem; makes one of any error that has none, for instance the router's own 405.
fn complete(mut response: Response, context: &RequestContext) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return problem.render(context, std::mem::take(response.headers_mut()));
    }
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| {
        t.as_bytes().starts_with(b"application/json") || t.as_bytes().starts_with(PROBLEM_JSON.as_bytes())
    });
    if is_error && !is_json {
        return Problem::of_status(status).render(context, std::mem::take(response.headers_mut()));
    }
    response
}

fn set_headers(headers: &mut HeaderMap, context: &RequestContext) {
    if let Ok(id) = HeaderValue::from_str(&context.request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        // An answer with an ETag may be kept, but must be asked for again each time.
        let value = if headers.contains_key(header::ETAG) { "private, no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    }
}

/// A request's place among those handled at the same time. A handler that is going to wait gives it back first.
#[derive(Clone, Debug)]
pub(super) struct InFlight(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl InFlight {
    /// Gives the place back.
    pub(super) fn release(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The innermost layer: the bounds that hold for every route except the two that ask whether the process lives.
pub(super) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let route = route_of(&request);
    if matches!(route.as_deref(), Some("/healthz" | "/readyz")) {
        return next.run(request).await;
    }
    if let Err(problem) = check_request(&request, route.as_deref()) {
        return problem.into_response();
    }
    let Ok(permit) = api.in_flight.clone().try_acquire_owned() else {
        return Problem::new(Code::TooManyRequests).into_response();
    };
    let in_flight = InFlight(Arc::new(Mutex::new(Some(permit))));
    request.extensions_mut().insert(in_flight.clone());
    let limit = api.settings.request_timeout + preferred_wait(request.headers(), api.settings.max_wait);
    let answered = tokio::time::timeout(limit, next.run(request)).await;
    in_flight.release();
    answered.unwrap_or_else(|_| Problem::new(Code::RequestTimeout).into_response())
}

fn check_request(request: &Request, route: Option<&str>) -> Result<(), Problem> {
    let Some(route) = route.filter(|r| r.starts_with("/v1/")) else { return Ok(()) };
    let streams = route == "/v1/jobs/{id}/events" && accepts(request.headers(), "text/event-stream");
    let takes_json = ["application/json", problem::PROBLEM_JSON].iter().any(|t| accepts(request.headers(), t));
    if !takes_json && !streams {
        return Err(Problem::new(Code::NotAcceptable));
    }
    // The two routes with parameters check them themselves.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !(reads && matches!(route, "/v1/jobs" | "/v1/jobs/{id}/events")) {
        super::extract::Query::new(request.uri().query().unwrap_or_default()).finish()?;
    }
    Ok(())
}

/// The answer to a panic of a handler, which is logged here, once.
pub(super) fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("not a text"), "a handler panicked");
    Problem::new(Code::Internal).into_response()
}
