//! A request and its answer, for whoever starts the simulator in a test and wants to look at everything that goes by. The
//! journal keeps what happened without bodies; this shows the bodies and keeps nothing.

use std::sync::Arc;

use serde_json::Value;

/// One request with its answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exchange<'a> {
    /// `arm`, `login`, `vault`, …, as the journal names it.
    pub surface: &'static str,
    /// The HTTP method.
    pub method: &'a str,
    /// The path as sent, without the query.
    pub path: &'a str,
    /// `api-version` of the query.
    pub api_version: Option<&'a str>,
    /// The request's body, where it is JSON.
    pub sent: Option<&'a Value>,
    /// The answer's status.
    pub status: u16,
    /// The answer's body; for errors the envelope.
    pub answer: Option<&'a Value>,
}

/// Is shown every exchange, cut ones too, before the answer leaves. It runs on the connection's task: it must be quick, and a
/// panic in it cuts the connection instead of failing a test.
pub type Observer = Arc<dyn Fn(&Exchange<'_>) + Send + Sync>;
