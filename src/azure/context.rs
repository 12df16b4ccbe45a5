//! What every call to Azure carries besides its content: correlation, client request id, trace context; and its span.
//!
//! What belongs here: headers and tracing common to all calls. What does not: authentication and retries.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use azure_core::http::headers::HeaderName;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::request::options::ClientRequestId;
use azure_core::http::{Context, Request};
use opentelemetry::trace::TraceContextExt;
use tracing::{Instrument, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use super::limits::{Ask, Key};

/// Name of the span around each HTTP exchange with Azure, sign-in and challenges included.
pub const SPAN: &str = "azure.call";
/// Span field: the HTTP method.
pub const METHOD: &str = "http.request.method";
/// Span field: the host.
pub const HOST: &str = "server.address";
/// Span field: the path. The query is never recorded: operation addresses carry signatures there.
pub const PATH: &str = "url.path";
/// Span field: the HTTP status.
pub const STATUS: &str = "http.response.status_code";
/// Span field: Azure's request id.
pub const REQUEST_ID: &str = "azure.request_id";
/// Span field: milliseconds until the answer's head had arrived.
pub const DURATION_MS: &str = "azure.duration_ms";
/// Span field: what kind of error ended a call that got no answer.
pub const ERROR: &str = "error.type";

pub(super) const X_MS_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const X_MS_CORRELATION_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a call is made for. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// Sent as `x-ms-correlation-request-id`: the same for all calls of one job, so Azure's activity log groups them.
    pub correlation_id: Uuid,
    /// The subscription for which the call is made: where several meet at one of Azure's limits, they take turns.
    pub subscription: Uuid,
    /// Whether the call looks if something has arrived. Such calls leave most of a limit to those that do something.
    pub looks: bool,
}

impl CallContext {
    /// A context for calls that belong together under `correlation_id` (the job's id).
    pub fn new(correlation_id: Uuid) -> Self {
        Self { correlation_id, subscription: Uuid::nil(), looks: false }
    }

    /// The same for calls on behalf of a subscription.
    #[must_use]
    pub fn of_subscription(self, subscription: Uuid) -> Self {
        Self { subscription, ..self }
    }

    /// The same for calls that look if something has arrived, or not.
    #[must_use]
    pub fn looking(self, looks: bool) -> Self {
        Self { looks, ..self }
    }

    /// How the call asks for its token.
    pub(super) fn ask(&self, key: Key) -> Ask {
        Ask { key, job: self.correlation_id, lane: self.subscription, looks: self.looks }
    }

    /// The pipeline's context of one call. Its client request id is new each time, and the same on both legs of a
    /// challenge.
    pub(super) fn for_one_call(&self) -> Context<'static> {
        Context::new()
            .with_value(ClientRequestId::new(Uuid::new_v4().to_string()))
            .with_value(Correlation(self.correlation_id))
    }
}

struct Correlation(Uuid);

/// Adds the common headers to each exchange and wraps it in a span. Works below authentication, so that a span covers
/// exactly one exchange.
#[derive(Debug)]
pub(super) struct CallPolicy;

#[async_trait]
impl Policy for CallPolicy {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let span = tracing::info_span!(
            SPAN,
            otel.kind = "client",
            { METHOD } = request.method().as_str(),
            { HOST } = request.url().host_str().unwrap_or_default(),
            { PATH } = request.url().path(),
            { STATUS } = field::Empty,
            { REQUEST_ID } = field::Empty,
            { DURATION_MS } = field::Empty,
            { ERROR } = field::Empty,
        );
        if let Some(Correlation(id)) = context.value() {
            request.insert_header(X_MS_CORRELATION_REQUEST_ID, id.to_string());
        }
        if let Some(parent) = traceparent(&span) {
            request.insert_header(TRACEPARENT, parent);
        }
        let started = Instant::now();
        let (first, rest) = next.split_first().expect("the transport is always the last policy");
        let result = first.send(context, request, rest).instrument(span.clone()).await;
        span.record(DURATION_MS, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        match &result {
            Ok(response) => {
                span.record(STATUS, u16::from(response.status()));
                if let Some(id) = response.headers().get_optional_str(&X_MS_REQUEST_ID) {
                    span.record(REQUEST_ID, id);
                }
            }
            Err(error) => {
                span.record(ERROR, field::display(error.kind()));
            }
        }
        result
    }
}

/// W3C trace context of the span; `None` where no exporter gives spans ids.
fn traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    let span_context = context.span().span_context().clone();
    span_context.is_valid().then(|| {
        format!("00-{}-{}-{:02x}", span_context.trace_id(), span_context.span_id(), span_context.trace_flags().to_u8())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_own_client_request_id() {
        let cx = CallContext::new(Uuid::nil());
        let id = |context: &Context| context.value::<ClientRequestId>().map(|id| format!("{id:?}"));
        let (a, b) = (cx.for_one_call(), cx.for_one_call());
        assert!(id(&a).is_some());
        assert_ne!(id(&a), id(&b));
    }

    #[test]
    fn a_sampled_span_gives_a_w3c_trace_parent() {
        use opentelemetry::trace::TracerProvider;
        use tracing_subscriber::layer::SubscriberExt;

        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let parent = traceparent(&tracing::info_span!("call")).expect("a valid context");
            let parts: Vec<&str> = parent.split('-').collect();
            assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{parent}");
            assert_eq!((parts[0], parts[3]), ("00", "01"));
        });
        assert_eq!(traceparent(&Span::none()), None);
    }
}
