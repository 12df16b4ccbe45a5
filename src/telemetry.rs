//! Logs and traces: set up once, carried through the job's row.
//!
//! What belongs here: the subscriber, OTLP export when it is configured, and W3C trace context in and out of a span. What
//! does not: what is logged; nothing secret ever is.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

const TRACEPARENT: &str = "traceparent";

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in `RUST_LOG` cannot be read.
    #[error("RUST_LOG cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The OTLP exporter could not be built.
    #[error("OTLP export could not be set up: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// There is a subscriber already.
    #[error("telemetry was set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// How many lines wait to be written. Beyond that lines are left out, and at the end it is said how many: a terminal that is
/// stopped or a collector that hangs must not stop requests, nor signs of life of leases.
const LINES: usize = 8192;

/// How long telling that may take.
const TOLD: Duration = Duration::from_millis(500);

/// Keeps export and logs alive; `shutdown` sends and writes what is left.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    left_out: ErrorCounter,
    lines: WorkerGuard,
}

/// Sets up logs on standard error and, when `OTEL_EXPORTER_OTLP_ENDPOINT` or its traces form is set, export of traces
/// over OTLP/HTTP. `default_filter` counts where `RUST_LOG` is not set.
pub fn init(format: LogFormat, default_filter: &str) -> Result<Telemetry, TelemetryError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => EnvFilter::try_new(filter)?,
        _ => EnvFilter::try_new(default_filter)?,
    };
    let (writer, lines) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES)
        .lossy(true)
        .thread_name("logs")
        .finish(std::io::stderr());
    let left_out = writer.error_counter();
    let logs = match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours).with_target(false).boxed()
        }
        LogFormat::Json => tracing_subscriber::fmt::layer().with_writer(writer).json().flatten_event(true).boxed(),
    };
    let traces = tracer_provider()?;
    let export = traces.as_ref().map(|provider| {
        // Spans are exported whatever the logs show: a trace with holes helps nobody.
        let tracer = provider.tracer("cmk");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::new("cmk=debug,info"))
    });
    tracing_subscriber::registry().with(logs.with_filter(filter)).with(export).try_init()?;
    Ok(Telemetry { traces, left_out, lines })
}

fn tracer_provider() -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let configured = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty()));
    if !configured {
        return Ok(None);
    }
    // The blocking client runs on the batch processor's own thread; the async one has no runtime there.
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
    let resource = opentelemetry_sdk::Resource::builder().with_service_name("cmk").build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}

impl Telemetry {
    /// Sends and writes what is left. Takes at most a few seconds, on a thread of its own.
    pub async fn shutdown(self) {
        let Self { traces, left_out, lines } = self;
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(provider) = traces {
                let _ = provider.shutdown();
            }
            // Waits a second for the thread that writes, and then no longer.
            drop(lines);
            let lost = left_out.dropped_lines();
            if lost > 0 {
                // Told by a thread that is left behind where still nobody reads.
                let (done, told) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    eprintln!("cmk: {lost} lines of the log were left out, for nobody read them in time");
                    let _ = done.send(());
                });
                let _ = told.recv_timeout(TOLD);
            }
        });
        let _ = ended.await;
    }
}

/// Makes `span` a child of a W3C trace context, where there is a valid one.
pub fn set_parent(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    if parent.span().span_context().is_valid() {
        // It fails only where no OpenTelemetry layer listens; then there is no trace to join.
        let _ = span.set_parent(parent);
    }
}

/// The W3C trace context of `span`, where it is part of a trace.
pub fn traceparent_of(span: &Span) -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// The id of the trace that `span` is part of, in hexadecimal.
pub fn trace_id_of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let id = span.span_context();
    id.is_valid().then(|| id.trace_id().to_string())
}
