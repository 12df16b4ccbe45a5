//! Errors as the API answers them: problem details (RFC 9457).
//!
//! What belongs here: the problem type, its wire form, and how other errors become one. What does not: codes and their
//! texts, which are `domain::codes`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::context::RequestContext;
use crate::domain::codes::Code;
use crate::domain::failure::AzureDetail;
use crate::domain::reader::FieldError;
use crate::store::StoreError;

/// The media type of problems.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// An error on its way to the caller. The middleware `layers::around` writes it out, with the request's trace id.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    status: StatusCode,
    detail: String,
    errors: Vec<ProblemError>,
    links: BTreeMap<String, String>,
    location: Option<String>,
    retry_after: Option<u64>,
}

/// One fault of a request: exactly one of `pointer`, `parameter` and `header` says where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProblemError {
    /// A JSON pointer (RFC 6901) into the body; empty for the body itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/key/size")]
    pub(super) pointer: Option<String>,
    /// The name of a query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parameter: Option<String>,
    /// The name of a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) header: Option<String>,
    /// What kind of fault.
    #[schema(schema_with = field_error_codes)]
    pub(super) code: String,
    /// What is expected instead.
    #[schema(example = "expected 2048, 3072 or 4096")]
    pub(super) detail: String,
}

/// A problem (RFC 9457): what went wrong and what to do about it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Where the code is explained: `/v1/errors/{code}`.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", example = "/v1/errors/invalid-request")]
    kind: String,
    /// One short line, the same for every problem of the code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// The path that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// The stable code to branch on; never renamed.
    #[schema(schema_with = problem_codes)]
    code: String,
    /// Whether the same request can succeed later without anybody changing anything.
    retryable: bool,
    /// What the caller can do.
    remedy: String,
    /// Every fault that was found in the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<ProblemError>,
    /// What Azure said, where Azure said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    azure: Option<AzureDetail>,
    /// Where to go on, for instance `job`: the job that keeps the target busy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    links: BTreeMap<String, String>,
    /// What to quote when reporting the problem: the trace id, or the request id where nothing is traced.
    trace_id: String,
}

impl Problem {
    /// A problem with the catalogue's meaning as its detail. A code that only jobs fail with is a defect.
    pub fn new(code: Code) -> Self {
        let status = code.info().status.and_then(|s| StatusCode::from_u16(s).ok());
        Self {
            code,
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            detail: code.info().meaning.to_owned(),
            errors: Vec::new(),
            links: BTreeMap::new(),
            location: None,
            retry_after: match code {
                Code::TooManyRequests | Code::RequestTimeout => Some(1),
                Code::Unavailable => Some(5),
                _ => None,
            },
        }
    }

    /// Says what happened this time.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Says where to go on.
    pub fn link(mut self, name: &str, path: impl Into<String>) -> Self {
        self.links.insert(name.to_owned(), path.into());
        self
    }

    /// The same as [`Self::link`], also as the `Location` header.
    pub fn location(mut self, name: &str, path: impl Into<String>) -> Self {
        let path = path.into();
        self.location = Some(path.clone());
        self.link(name, path)
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// A body with faults in its fields.
    pub(super) fn invalid_request(faults: Vec<FieldError>) -> Self {
        let errors: Vec<ProblemError> = faults.into_iter().map(ProblemError::from).collect();
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.pointer.as_deref().unwrap_or_default(), one.detail),
            many => format!("{} fields are wrong", many.len()),
        };
        Self { errors, ..Self::new(Code::InvalidRequest).detail(detail) }
    }

    /// Parameters with faults.
    pub(super) fn invalid_parameters(errors: Vec<ProblemError>) -> Self {
        let mut detail = String::new();
        for error in &errors {
            let place = error.parameter.as_deref().or(error.header.as_deref()).unwrap_or("the request");
            let separator = if detail.is_empty() { "" } else { "; " };
            // Writing to a String cannot fail.
            let _ = write!(detail, "{separator}{place}: {}", error.detail);
        }
        Self { errors, ..Self::new(Code::InvalidParameter).detail(detail) }
    }

    /// One header with a fault.
    pub(super) fn invalid_header(name: &str, detail: &str) -> Self {
        Self::invalid_parameters(vec![ProblemError {
            pointer: None,
            parameter: None,
            header: Some(name.to_owned()),
            code: "invalid-value".into(),
            detail: detail.to_owned(),
        }])
    }

    /// The problem of a status that was answered without one, for instance by the router.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let code = Code::ALL.iter().copied().find(|c| c.info().status == Some(status.as_u16()));
        let problem = Self::new(code.unwrap_or(Code::Internal));
        Self { status, ..problem }
    }

    /// The wire form. `instance` is the path asked for, without the query.
    pub(super) fn body(&self, trace_id: &str, instance: Option<&str>) -> ProblemBody {
        let info = self.code.info();
        ProblemBody {
            kind: format!("/v1/errors/{}", info.code),
            title: info.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            instance: instance.map(str::to_owned),
            code: info.code.to_owned(),
            retryable: info.class.is_retryable(),
            remedy: info.remedy.to_owned(),
            errors: self.errors.clone(),
            azure: None,
            links: self.links.clone(),
            trace_id: trace_id.to_owned(),
        }
    }

    /// The answer with the request's trace id; `headers` are kept from an answer that this one replaces.
    pub(super) fn render(&self, context: &RequestContext, headers: HeaderMap) -> Response {
        let body = serde_json::to_vec(&self.body(context.trace_id(), Some(&context.path))).unwrap_or_default();
        let mut response = (self.status, headers, body).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(location) = self.location.as_ref().and_then(|l| HeaderValue::from_str(l).ok()) {
            headers.insert(header::LOCATION, location);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<FieldError> for ProblemError {
    fn from(fault: FieldError) -> Self {
        Self { pointer: Some(fault.pointer), parameter: None, header: None, code: fault.code, detail: fault.detail }
    }
}

impl From<StoreError> for Problem {
    /// The cause is logged here, once; the caller learns only whether trying again can help.
    fn from(error: StoreError) -> Self {
        let cause = chain(&error);
        if matches!(error, StoreError::Unavailable(_)) {
            tracing::warn!(error = cause, "the database is not available");
            return Self::new(Code::Unavailable);
        }
        tracing::error!(error = cause, "the store failed");
        Self::new(Code::Internal)
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn words(list: impl Iterator<Item = &'static str>) -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    let words: Vec<&str> = list.collect();
    let text = utoipa::openapi::schema::ObjectBuilder::new().schema_type(utoipa::openapi::schema::Type::String);
    text.enum_values(Some(words)).into()
}

/// Every code that the API answers with.
fn problem_codes() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    words(Code::ALL.iter().filter(|c| c.info().status.is_some()).map(|c| c.as_str()))
}

/// Every code, those of failed jobs included.
pub(super) fn all_codes() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    words(Code::ALL.iter().map(|c| c.as_str()))
}

fn field_error_codes() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    words(crate::domain::reader::FIELD_ERROR_CODES.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_where_and_what_next() {
        let fault =
            FieldError { pointer: "/key/size".into(), code: "out-of-range".into(), detail: "expected 2048".into() };
        let body = Problem::invalid_request(vec![fault]).body("t", Some("/v1/jobs"));
        let json = serde_json::to_value(&body).expect("a problem is JSON");
        assert_eq!(json["type"], "/v1/errors/invalid-request");
        assert_eq!(json["status"], 422);
        assert_eq!(json["retryable"], false);
        assert_eq!(json["detail"], "/key/size: expected 2048");
        assert_eq!(json["errors"][0]["pointer"], "/key/size");
        assert!(json["errors"][0].get("header").is_none());
        assert!(json.get("azure").is_none());
    }

    #[test]
    fn every_status_that_a_router_answers_has_its_code() {
        for (status, code) in [
            (StatusCode::NOT_FOUND, Code::NotFound),
            (StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed),
            (StatusCode::IM_A_TEAPOT, Code::Internal),
        ] {
            let problem = Problem::of_status(status);
            assert_eq!((problem.code, problem.status), (code, status));
        }
    }
}
