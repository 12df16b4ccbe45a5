//! One trace from the caller's request through the job's row to each call to Azure, and no secret in what is logged,
//! exported or stored: the real program, with everything logged that can be logged.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;

use crate::support::process::{Folder, Program, eventually};
use crate::support::world::World;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// What was exported, as it came.
type Sink = Arc<Mutex<Vec<Bytes>>>;

async fn collector() -> (String, Sink) {
    let sink = Sink::default();
    let take = |State(sink): State<Sink>, body: Bytes| async move {
        sink.lock().expect("no handler panicked").push(body);
        StatusCode::OK
    };
    let app = axum::Router::new().route("/v1/traces", axum::routing::post(take)).with_state(Arc::clone(&sink));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}"), sink)
}

fn spans(exported: &[Bytes]) -> Vec<Span> {
    let decoded = exported
        .iter()
        .map(|body| ExportTraceServiceRequest::decode(body.clone()).expect("OTLP is what was configured"));
    decoded.flat_map(|r| r.resource_spans).flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every text and JSON value of every table.
async fn stored(world: &World) -> String {
    let mut all = String::new();
    for table in ["jobs", "job_runs", "job_events", "idempotency_keys", "workers"] {
        let rows: Vec<Value> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select to_jsonb(t) from {table} t")))
            .fetch_all(&world.database.pool)
            .await
            .expect("the table is there");
        all.extend(rows.iter().map(Value::to_string));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_request_to_azure_and_holds_no_secret() {
    let world = World::instant().await;
    world.sim.clock().resume();
    let folder = Folder::new();
    let (endpoint, sink) = collector().await;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("RUST_LOG", "trace")];
    let mut api = Program::start(&world, &folder, &["serve", "--listen", "127.0.0.1:0"], &variables);
    let mut worker = Program::start(&world, &folder, &["work"], &variables);
    let said = api.says("the API listens").await;
    let line = said.lines().find(|l| l.contains("the API listens")).expect("it was said");
    let at = line.find("127.0.0.1:").expect("the line names the address");
    let address: String = line[at..].chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();

    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    let answer = client
        .post(format!("http://{address}/v1/jobs"))
        .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"))
        .header("idempotency-key", "traced")
        .json(&world.seed())
        .send()
        .await
        .expect("the API answers");
    assert_eq!(answer.status(), 202);
    let job: Value = answer.json().await.expect("a job");
    let url = format!("http://{address}{}", job["links"]["self"].as_str().expect("a link"));
    eventually("the job succeeds", async || {
        let job: Value = client.get(&url).send().await.expect("it answers").json().await.expect("a job");
        assert_ne!(job["state"], "failed", "{job}");
        job["state"] == "succeeded"
    })
    .await;
    worker.terminate().await;
    api.terminate().await;
    let (worker_end, worker_said) = worker.end().await;
    let (api_end, api_said) = api.end().await;
    assert!(worker_end.success() && api_end.success());

    let exported = sink.lock().expect("no handler panicked").clone();
    let spans = spans(&exported);
    let of = |name: &str| spans.iter().filter(|s| s.name == name).collect::<Vec<_>>();
    for name in ["job.turn", "step.run", "azure.call"] {
        let found = of(name);
        assert!(!found.is_empty(), "{name} is exported");
        for span in found {
            assert_eq!(hex(&span.trace_id), TRACE, "{name}");
        }
    }
    let root = spans.iter().find(|s| hex(&s.parent_span_id) == "b7ad6b7169203331").expect("the request's span");
    assert!(root.name.contains("POST") || root.name.contains("http"), "{}", root.name);
    assert!(of("azure.call").len() > 20, "each call has its span");

    let stored = stored(&world).await;
    let sent: Vec<u8> = exported.concat();
    // All tokens of one signer begin with the same header.
    let token = world.sim.token_for(world.sim.object_id(), "https://vault.azure.net").expect("it knows its owner");
    let header = token.split('.').next().expect("a token has parts").to_owned();
    let secrets = [
        ("the client secret", world.sim.client_secret().to_owned()),
        ("a token", header),
        ("the database's password", password_of(&world.database.url)),
    ];
    for (what, secret) in secrets {
        for (place, text) in [("the worker's log", &worker_said), ("the API's log", &api_said), ("a row", &stored)] {
            assert!(!text.contains(&secret), "{what} in {place}: {:?}", around(text, &secret));
        }
        assert!(!sent.windows(secret.len()).any(|w| w == secret.as_bytes()), "{what} was exported");
    }
    assert!(worker_said.contains("step done") && stored.contains("uksouth"), "what was searched is not empty");
}

fn password_of(url: &str) -> String {
    let url = url::Url::parse(url).expect("an address");
    url.password().expect("the test's server has a password").to_owned()
}

/// Some text before what was found, to see who wrote it, without showing it.
fn around<'a>(text: &'a str, found: &str) -> &'a str {
    let at = text.find(found).unwrap_or(0);
    let line = text[..at].rfind('\n').map_or(0, |n| n + 1);
    &text[line..at]
}
