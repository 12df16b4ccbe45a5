//! One request and one answer, as every provider sees them: path segments, query, body, the error envelopes and the
//! headers that Azure puts on every answer. Nothing here knows a resource type.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::faults::Action;
use crate::throttle::Remains;

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Call {
    pub method: Method,
    /// Host as the caller spelled it, lower-case, without port.
    pub host: String,
    /// `https://host[:port]` as the caller reached us; absolute URLs in answers start with it.
    pub origin: String,
    /// The path as sent.
    pub path: String,
    /// The query as sent.
    pub raw_query: String,
    /// Percent-decoded path segments, empty ones left out.
    pub segments: Vec<String>,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub now: OffsetDateTime,
    pub peer: IpAddr,
    pub request_id: Uuid,
    pub correlation_id: String,
    pub lro_fault: Option<LroFault>,
    /// What ARM's throttling left to the caller; unset on requests that it does not count.
    pub remains: OnceLock<Remains>,
    pub changed: AtomicBool,
    pub principal: OnceLock<String>,
}

/// What a fault rule does to the long-running operation that this request starts.
#[derive(Clone, Debug)]
pub(crate) enum LroFault {
    /// Ends in failure, after the usual time or after these seconds.
    Fail {
        code: String,
        message: String,
        after: Option<f64>,
    },
    /// Ends well, after these seconds.
    Takes {
        seconds: f64,
    },
    NeverEnds,
}

impl LroFault {
    /// `None` for actions that leave operations alone.
    pub fn of(action: Action) -> Option<Self> {
        match action {
            Action::LroFail { code, message } => Some(Self::Fail { code, message, after: None }),
            Action::LroFailAfter { seconds, code, message } => Some(Self::Fail { code, message, after: Some(seconds) }),
            Action::LroTakes { seconds } => Some(Self::Takes { seconds }),
            Action::LroNeverEnds => Some(Self::NeverEnds),
            _ => None,
        }
    }
}

pub(crate) type Outcome = Result<Reply, Failure>;

impl Call {
    /// A query parameter, its name compared without regard to case, as ARM does.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The bearer token, if the `Authorization` header holds one.
    pub fn bearer(&self) -> Option<&str> {
        let value = self.header("authorization")?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|t| !t.is_empty())
    }

    /// The body as a JSON object.
    pub fn object(&self) -> Result<Map<String, Value>, Failure> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Err(Failure::bad_content("The request content was invalid: the body must be a JSON object.")),
            Err(e) => Err(Failure::bad_content(format!(
                "The request content was invalid and could not be deserialized: '{e}'."
            ))),
        }
    }

    /// Notes that this request changed the simulated cloud.
    pub fn touch(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    pub fn is(&self, method: &str) -> bool {
        self.method.as_str() == method
    }
}

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// Headers whose names are known only at run time.
    pub named: Vec<(String, String)>,
    pub body: Option<Value>,
    /// Takes the place of `body` where the answer is not JSON.
    pub raw: Option<Raw>,
}

/// A body of bytes. `HEAD` is told its length.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub content_type: String,
    pub bytes: Bytes,
}

impl Reply {
    pub fn json(status: u16, body: Value) -> Self {
        Self { body: Some(body), ..Self::empty(status) }
    }

    pub fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), named: Vec::new(), body: None, raw: None }
    }

    /// `{"value":[…]}`, the shape of every list that fits on one page.
    pub fn list(items: Vec<Value>) -> Self {
        Self::ok(json!({ "value": items }))
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// An error answer in Azure's envelope. Boxed, as it travels through every `Result`.
#[derive(Debug)]
pub(crate) struct Failure(Box<Refused>);

/// What an error answer consists of.
#[derive(Debug)]
pub(crate) struct Refused {
    pub status: u16,
    pub code: String,
    pub message: String,
    /// Key Vault's `innererror.code`.
    pub inner: Option<&'static str>,
    /// ARM's `target`.
    pub target: Option<String>,
    /// ARM's `details`.
    pub details: Vec<Value>,
    /// ARM's `additionalInfo`.
    pub info: Vec<Value>,
    pub headers: Vec<(&'static str, String)>,
    /// Headers that a fault rule adds.
    pub extra: Vec<(String, String)>,
    /// Replaces the envelope, for the login host; `null` is no body at all.
    pub body: Option<Value>,
    /// Close the connection instead of answering: what stands for a host that does not exist.
    pub cut: bool,
}

impl std::ops::Deref for Failure {
    type Target = Refused;

    fn deref(&self) -> &Refused {
        &self.0
    }
}

impl std::ops::DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Refused {
        &mut self.0
    }
}

impl Failure {
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(Refused {
            status,
            code: code.into(),
            message: message.into(),
            inner: None,
            target: None,
            details: Vec::new(),
            info: Vec::new(),
            headers: Vec::new(),
            extra: Vec::new(),
            body: None,
            cut: false,
        }))
    }

    pub fn bad_content(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidRequestContent", message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Something of Azure that the simulator does not play: said clearly, never a silent success.
    pub fn not_played(what: &str) -> Self {
        Self::new(501, "NotPlayedBySimulator", format!("The simulator does not play {what}."))
    }

    pub fn no_such_host() -> Self {
        let mut failure = Self::new(0, "NoSuchHost", "");
        failure.cut = true;
        failure
    }

    /// Answers with headers alone.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body = Some(Value::Null);
        self
    }

    #[must_use]
    pub fn inner(mut self, inner: &'static str) -> Self {
        self.inner = Some(inner);
        self
    }

    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// One more entry of `details`.
    #[must_use]
    pub fn detail(mut self, code: &str, message: &str, target: Option<&str>) -> Self {
        let mut detail = json!({ "code": code, "message": message });
        if let Some(target) = target {
            detail["target"] = target.into();
        }
        self.details.push(detail);
        self
    }

    /// One more entry of `additionalInfo`.
    #[must_use]
    pub fn additional(mut self, kind: &str, info: Value) -> Self {
        self.info.push(json!({ "type": kind, "info": info }));
        self
    }

    /// Code for the journal: the outer code, with the inner one behind a slash.
    pub fn journal_code(&self) -> String {
        match self.inner {
            Some(inner) => format!("{}/{inner}", self.code),
            None => self.code.clone(),
        }
    }

    pub fn envelope(&self) -> Value {
        if let Some(body) = &self.body {
            return body.clone();
        }
        let mut error = Map::new();
        error.insert("code".into(), self.code.clone().into());
        error.insert("message".into(), self.message.clone().into());
        if let Some(target) = &self.target {
            error.insert("target".into(), target.clone().into());
        }
        if let Some(inner) = self.inner {
            error.insert("innererror".into(), json!({ "code": inner }));
        }
        if !self.details.is_empty() {
            error.insert("details".into(), self.details.clone().into());
        }
        if !self.info.is_empty() {
            error.insert("additionalInfo".into(), self.info.clone().into());
        }
        json!({ "error": error })
    }
}

/// RFC 3339, as ARM writes times.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// Percent-decoded, non-empty segments of a path. A wrong escape stays as it is.
pub(crate) fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|s| !s.is_empty()).map(decode).collect()
}

/// Percent-decoded; a wrong escape stays as it is.
pub(crate) fn decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = (bytes[i] == b'%')
            .then(|| bytes.get(i + 1..i + 3))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The name of a region as ids and answers spell it: lower-case, without spaces.
pub(crate) fn region(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_paths_decode_without_panic() {
        assert_eq!(segments("//a%20b//%zz/%/%2/%e4%"), ["a b", "%zz", "%", "%2", "\u{fffd}%"]);
        assert!(segments("").is_empty());
    }
}
