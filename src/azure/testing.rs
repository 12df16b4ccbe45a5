//! A scripted Azure below azure_core's pipelines, for this module's tests: what was sent, and what comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, ClientOptions, HttpClient, Request, RetryOptions, Transport};
use serde_json::Value;
use uuid::Uuid;

use super::arm::Arm;
use super::cloud::Cloud;
use super::context::{CallContext, CallPolicy};
use super::keys::Keys;
use super::limits::Limits;
use crate::clock::Clock;

/// A context for a call.
pub(super) fn cx() -> CallContext {
    CallContext::new(Uuid::nil())
}

fn limits() -> Arc<Limits> {
    Limits::new(Clock::System)
}

/// What comes back for one request.
#[derive(Debug)]
pub(super) struct Reply {
    outcome: Result<u16, ErrorKind>,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self { outcome: Ok(status), headers: Vec::new(), body: body.to_owned() }
    }

    pub(super) fn json(status: u16, body: Value) -> Self {
        Self::text(status, &body.to_string())
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::text(status, "")
    }

    /// No connection.
    pub(super) fn refused() -> Self {
        Self { outcome: Err(ErrorKind::Connection), ..Self::empty(0) }
    }

    /// The connection breaks after the request was sent.
    pub(super) fn cut() -> Self {
        Self { outcome: Err(ErrorKind::Io), ..Self::empty(0) }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// What was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Sent {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The scripted Azure. Clones share script and record.
#[derive(Clone, Debug)]
pub(super) struct FakeAzure(Arc<Mutex<Script>>);

#[derive(Debug)]
struct Script {
    replies: VecDeque<Reply>,
    sent: Vec<Sent>,
}

impl FakeAzure {
    pub(super) fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self(Arc::new(Mutex::new(Script { replies: replies.into_iter().collect(), sent: Vec::new() })))
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.script().sent.clone()
    }

    pub(super) fn options(&self) -> ClientOptions {
        ClientOptions {
            transport: Some(Transport::new(Arc::new(self.clone()))),
            retry: RetryOptions::none(),
            per_try_policies: vec![Arc::new(CallPolicy)],
            ..ClientOptions::default()
        }
    }

    pub(super) fn arm(&self) -> Arm {
        Arm::new(Cloud::public(), Arc::new(FakeCredential), self.options(), Duration::from_secs(5), limits())
    }

    pub(super) fn keys(&self) -> Keys {
        Keys::new(Cloud::public(), Arc::new(FakeCredential), self.options(), Duration::from_secs(5), limits())
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl HttpClient for FakeAzure {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let Body::Bytes(body) = request.body() else {
            return Err(Error::with_message(ErrorKind::Other, "a streamed body"));
        };
        let headers = request.headers().iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
        let sent = Sent {
            method: request.method().to_string(),
            url: request.url().to_string(),
            headers: headers.collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        };
        let mut script = self.script();
        script.sent.push(sent);
        let reply = script.replies.pop_front().ok_or_else(|| Error::with_message(ErrorKind::Other, "not scripted"))?;
        let status = reply.outcome.map_err(|kind| Error::with_message(kind, "scripted"))?;
        let mut headers = Headers::new();
        for (name, value) in reply.headers {
            headers.insert(name, value);
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), headers, reply.body.into_bytes()))
    }
}

/// A credential that always works.
#[derive(Debug)]
struct FakeCredential;

#[async_trait]
impl TokenCredential for FakeCredential {
    async fn get_token(
        &self,
        _scopes: &[&str],
        _options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let far = azure_core::time::OffsetDateTime::from_unix_timestamp(32_503_680_000);
        let far = far.map_err(|e| Error::new(ErrorKind::DataConversion, e))?;
        Ok(AccessToken::new("fake-token".to_owned(), far))
    }
}
