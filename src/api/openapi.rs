//! The contract as an OpenAPI 3.1 document, generated from the handlers.
//!
//! What belongs here: what is the same for every operation: problems, examples, common headers. What does not:
//! descriptions of single operations, which stand at their handlers.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::json;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ContentBuilder, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::problem::{PROBLEM_JSON, Problem, ProblemBody};
use super::{examples, router};
use crate::domain::codes::Code;
use crate::domain::reader::FieldError;

/// The problems of one operation, as an item of its `responses(…)`, beside those that every operation has.
macro_rules! problems {
    ($name:ident: $($code:ident),+ $(,)?) => {
        /// The problems that an operation answers with.
        pub(super) enum $name {}

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::api::openapi::problem_responses(&[$($crate::domain::codes::Code::$code),+])
            }
        }
    };
}
pub(super) use problems;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "cmk",
        description = "Puts Azure services under customer-managed keys, and proves it. One request names an Azure resource \
            and a key store; a job makes everything in between true, reads it back, and says at every moment what it is \
            doing and why.\n\nErrors are problem details (RFC 9457) with a stable `code`; `GET /v1/errors` explains each. \
            Unknown members and parameters are errors. Times are RFC 3339, durations ISO 8601.",
    ),
    servers((url = "/", description = "This server.")),
    tags(
        (name = "jobs", description = "Accepted requests and their runs."),
        (name = "plans", description = "What a request would do, without doing it."),
        (name = "catalogue", description = "What Azure services allow and need, and what every error code means."),
        (name = "operation", description = "Liveness, readiness, and this document."),
    ),
    components(schemas(ProblemBody)),
)]
struct Frame;

/// The document without its operations.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    <Frame as utoipa::OpenApi>::openapi()
}

/// The whole document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = router::documented().into_openapi();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            complete(operation);
        }
    }
    document
}

/// The document as text: pretty, with a line feed at the end. The same as the committed `openapi/openapi.json`.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| document().to_pretty_json().map(|text| text + "\n").unwrap_or_default())
}

/// Get the contract
///
/// This document. `/docs` shows it for people.
#[utoipa::path(get, path = "/openapi.json", tag = "operation",
    responses((status = 200, description = "The OpenAPI document.", body = Object, content_type = "application/json")))]
pub(super) async fn get_openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text())
}

/// Adds what every operation has: examples, and the header with the request id.
fn complete(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    if let Some(RefOr::T(body)) = operation.request_body.as_mut() {
        for content in body.content.values_mut() {
            let RefOr::T(content) = content else { continue };
            content.examples = examples::requests()
                .into_iter()
                .map(|(name, summary, value)| (name.to_owned(), example(summary, value)))
                .collect();
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if let Some(RefOr::T(content)) = response.content.get_mut("application/json") {
            content.example = examples::answer(&id, status);
        }
        if let Some(RefOr::T(content)) = response.content.get_mut("text/event-stream") {
            content.example = Some(json!(examples::stream()));
        }
        let id = header_of(Type::String, "The caller's id for this request, or a new one.");
        response.headers.insert("X-Request-Id".to_owned(), id.into());
    }
}

fn example(summary: &str, value: serde_json::Value) -> RefOr<utoipa::openapi::example::Example> {
    RefOr::T(ExampleBuilder::new().summary(summary).value(Some(value)).build())
}

/// Responses for these codes and for those that every operation can answer, one per status, with an example per code.
pub(super) fn problem_responses(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let common = [Code::NotAcceptable, Code::RequestTimeout, Code::TooManyRequests, Code::Internal];
    let mut by_status: BTreeMap<String, Vec<Code>> = BTreeMap::new();
    for code in codes.iter().copied().chain(common) {
        if let Some(status) = code.info().status {
            by_status.entry(status.to_string()).or_default().push(code);
        }
    }
    by_status.into_iter().map(|(status, codes)| (status, RefOr::T(problem_response(&codes)))).collect()
}

fn problem_response(codes: &[Code]) -> Response {
    let titles: Vec<&str> = codes.iter().map(|c| c.info().title).collect();
    let codes_in_words: Vec<String> = codes.iter().map(|c| format!("`{c}`")).collect();
    let description = format!("{} ({}).", titles.join("; or: "), codes_in_words.join(", "));
    let examples = codes.iter().map(|code| {
        let body = example_of(*code).body("0af7651916cd43dd8448eb211c80319c", None);
        (code.as_str(), example(code.info().title, json!(body)))
    });
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).examples_from_iter(examples);
    let mut response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, content.build());
    if codes.iter().any(|c| matches!(c, Code::TooManyRequests | Code::RequestTimeout | Code::Unavailable)) {
        let seconds = header_of(Type::Integer, "Seconds until it is worth trying again.");
        response = response.header("Retry-After", seconds);
    }
    if codes.contains(&Code::TargetBusy) {
        response = response.header("Location", header_of(Type::String, "The job that keeps the target busy."));
    }
    response.build()
}

fn header_of(kind: Type, description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(kind);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

fn example_of(code: Code) -> Problem {
    match code {
        Code::InvalidRequest => Problem::invalid_request(vec![
            FieldError {
                pointer: "/key/size".to_owned(),
                code: "out-of-range".to_owned(),
                detail: "expected 2048, 3072 or 4096".to_owned(),
            },
            FieldError {
                pointer: "/target/resourceId".to_owned(),
                code: "required".to_owned(),
                detail: "this field is required".to_owned(),
            },
        ]),
        Code::MalformedBody => Problem::new(code).detail("expected `,` or `}` at line 3 column 5"),
        Code::InvalidParameter => {
            Problem::invalid_header("Idempotency-Key", "expected 1 to 255 printable ASCII characters")
        }
        Code::TargetBusy => super::jobs::target_busy(crate::domain::ids::JobId(examples::JOB)),
        _ => Problem::new(code),
    }
}
