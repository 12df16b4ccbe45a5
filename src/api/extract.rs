//! Taking requests apart: every rejection is a problem.
//!
//! What belongs here: bodies, path parameters and query parameters as plain values. What does not: what they mean.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use serde_json::Value;
use uuid::Uuid;

use super::problem::{Problem, ProblemError};
use crate::domain::codes::Code;
use crate::domain::ids::JobId;
use crate::domain::json::read_strict;

/// The largest body.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// A body declared as JSON and read as JSON.
pub(super) struct JsonBody(pub(super) Value);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_type(request.headers())?;
        let bytes = read_body(request).await?;
        match read_strict(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) => Err(Problem::new(Code::MalformedBody).detail(error)),
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
        let detail = match essence.as_str() {
            "" => "the Content-Type header is missing".to_owned(),
            other => format!("the Content-Type header says {}", shorten(other)),
        };
        return Err(Problem::new(Code::UnsupportedMediaType).detail(detail));
    }
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        let detail = "the Content-Encoding header must be absent: compressed bodies are not read";
        return Err(Problem::new(Code::UnsupportedMediaType).detail(detail));
    }
    Ok(())
}

async fn read_body(request: Request) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::new(Code::PayloadTooLarge);
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|n| n > MAX_BODY) {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0));
    let mut chunks = Body::into_data_stream(request.into_body());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::MalformedBody).detail("the body ended early"))?;
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The job that the path names. An id that cannot be one is a job that does not exist.
pub(super) struct JobPath(pub(super) JobId);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Name(name) = Name::from_request_parts(parts, state).await?;
        // Uuid also reads braces, URNs and missing hyphens; one job has one address.
        let id = (name.len() == 36).then(|| Uuid::parse_str(&name).ok()).flatten();
        id.map(|id| Self(JobId(id))).ok_or_else(no_such_job)
    }
}

/// The problem of a job that does not exist.
pub(super) fn no_such_job() -> Problem {
    Problem::new(Code::NotFound).detail("there is no job with this id").link("jobs", "/v1/jobs")
}

/// The one parameter of a path, as text.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let parameters = RawPathParams::from_request_parts(parts, state).await;
        let first = parameters.ok().and_then(|p| p.iter().next().map(|(_, value)| value.to_owned()));
        first.map(Self).ok_or_else(|| Problem::new(Code::NotFound))
    }
}

/// Query parameters, taken one by one; [`Self::finish`] reports every fault at once.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<ProblemError>,
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::new(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    pub(super) fn new(query: &str) -> Self {
        Self {
            pairs: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            known: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The parameters as given, without this one, as text.
    pub(super) fn without(&self, name: &str) -> String {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.extend_pairs(self.pairs.iter().filter(|(key, value)| key != name && !value.is_empty()));
        text.finish()
    }

    /// Takes a parameter and reads it; an empty value counts as absent. The error says what is expected.
    pub(super) fn take<T>(&mut self, name: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.known.push(name);
        let mut values = self.pairs.extract_if(.., |(key, _)| key == name).map(|(_, value)| value);
        let value = values.next();
        let repeated = values.count() > 0;
        if repeated {
            self.fault(name, "too-many", "this parameter may be given once");
            return None;
        }
        let value = value.filter(|v| !v.is_empty())?;
        if value.len() > 2048 || value.chars().any(char::is_control) {
            self.fault(name, "invalid-value", "expected at most 2048 characters and no control characters");
            return None;
        }
        match read(&value) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.fault(name, "invalid-value", &expected);
                None
            }
        }
    }

    /// Refuses what nobody took, and reports every fault.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let expected = match self.known.as_slice() {
            [] => "this route takes no parameters".to_owned(),
            known => format!("expected one of: {}", known.join(", ")),
        };
        let mut unknown: Vec<String> = std::mem::take(&mut self.pairs).into_iter().map(|(name, _)| name).collect();
        unknown.sort_unstable();
        unknown.dedup();
        for name in unknown.iter().take(20) {
            self.fault(&shorten(name), "unknown-field", &expected);
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid_parameters(self.errors)) }
    }

    fn fault(&mut self, name: &str, code: &str, detail: &str) {
        self.errors.push(ProblemError {
            pointer: None,
            parameter: Some(name.to_owned()),
            header: None,
            code: code.to_owned(),
            detail: detail.to_owned(),
        });
    }
}

/// A caller's word, short enough to repeat.
fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_query_is_named() {
        let mut query = Query::new("limit=x&state=queued&state=failed&color=red&empty=&color=blue&label=a%00b");
        let number = |text: &str| text.parse::<u16>().map_err(|_| "expected a number".to_owned());
        let any = |text: &str| Ok::<_, String>(text.to_owned());
        assert_eq!(query.take("limit", number), None);
        assert_eq!(query.take("state", any), None);
        assert_eq!(query.take("empty", any), None);
        assert_eq!(query.take("label", any), None);
        let problem = query.finish().expect_err("four faults");
        let body = serde_json::to_value(problem.body("", None)).expect("JSON");
        let faults: Vec<(&str, &str)> = body["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| Some((e["parameter"].as_str()?, e["code"].as_str()?)))
            .collect();
        let want =
            [("limit", "invalid-value"), ("state", "too-many"), ("label", "invalid-value"), ("color", "unknown-field")];
        assert_eq!(faults, want);
    }
}
