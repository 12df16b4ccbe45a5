//! What is known about a request beside its content: ids to find it again by.
//!
//! What belongs here: request ids and W3C trace context, in and out. What does not: the span itself (`layers`).

use std::collections::HashMap;

use axum::http::{HeaderMap, Request};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;

use crate::telemetry::{set_parent, traceparent_of};

const TRACEPARENT: &str = "traceparent";

/// The header that carries the request id.
pub(super) const X_REQUEST_ID: &str = "x-request-id";

/// The ids of one request. Handlers find it among the request's extensions.
#[derive(Clone, Debug)]
pub(super) struct RequestContext {
    /// The caller's `X-Request-Id` if it is well formed, else a new one.
    pub(super) request_id: String,
    /// The path, without the query, which may hold what the caller would not want repeated.
    pub(super) path: String,
    /// The trace context to hand on: that of the request's span, or the caller's where nothing is traced here.
    pub(super) traceparent: Option<String>,
}

impl RequestContext {
    /// Reads the request's ids. The span is put under the caller's trace.
    pub(super) fn new<B>(request: &Request<B>, request_id: String, span: &Span) -> Self {
        let callers = callers_trace(request.headers());
        set_parent(span, callers.as_deref());
        let traceparent = traceparent_of(span).or(callers);
        Self { request_id, path: request.uri().path().to_owned(), traceparent }
    }

    /// What a caller quotes: the trace id, or the request id where nothing is traced.
    pub(super) fn trace_id(&self) -> &str {
        self.traceparent.as_deref().and_then(|t| t.split('-').nth(1)).unwrap_or(&self.request_id)
    }
}

/// The caller's request id, or a new one: 1 to 128 letters, digits, dots, hyphens and underscores.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(X_REQUEST_ID).and_then(|v| v.to_str().ok());
    let is_id = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    given.filter(is_id).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// The caller's `traceparent` in its normal form, if it is valid.
fn callers_trace(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(TRACEPARENT)?.to_str().ok()?;
    let propagator = TraceContextPropagator::new();
    let mut carrier = HashMap::from([(TRACEPARENT.to_owned(), given.to_owned())]);
    let context = propagator.extract(&carrier);
    carrier.clear();
    // Writes nothing for a context that is not valid.
    propagator.inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(headers: &[(&str, &str)]) -> RequestContext {
        let mut request = Request::get("/v1/jobs?target=x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        RequestContext::new(&request, request_id(request.headers()), &Span::none())
    }

    #[test]
    fn request_ids_are_taken_over_only_if_well_formed() {
        assert_eq!(context(&[(X_REQUEST_ID, "a.B_9-z")]).request_id, "a.B_9-z");
        for bad in ["", "a b", "a/b", &"x".repeat(129)] {
            let made = context(&[(X_REQUEST_ID, bad)]).request_id;
            assert!(made.parse::<uuid::Uuid>().is_ok(), "{bad}: {made}");
        }
    }

    #[test]
    fn the_callers_trace_is_handed_on_where_nothing_is_traced_here() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let seen = context(&[("traceparent", parent)]);
        assert_eq!(seen.traceparent.as_deref(), Some(parent));
        assert_eq!(seen.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(seen.path, "/v1/jobs");
        for bad in ["", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "nonsense"] {
            let seen = context(&[("traceparent", bad)]);
            assert_eq!(seen.traceparent, None);
            assert_eq!(seen.trace_id(), seen.request_id);
        }
    }
}
