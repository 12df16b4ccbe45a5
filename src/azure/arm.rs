//! Azure Resource Manager on azure_core's pipeline: one call, one answer, no retries.
//!
//! What belongs here: addresses, headers, statuses and paging common to all resource types. What does not: the shapes of
//! particular resources, which have a module each. Nothing here deletes.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::policies::Policy;
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::{ClientOptions, Method, Pipeline, PipelineSendOptions, Request};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::classify::Origin;
use super::cloud::Cloud;
use super::context::CallContext;
use super::error::{self, AzureError, AzureErrorKind};

const AZURE_ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");
const LOCATION: HeaderName = HeaderName::from_static("location");

/// The most pages of one list that are followed.
const MAX_PAGES: usize = 50;
/// The most items of one list that are kept.
const MAX_ITEMS: usize = 10_000;

/// A client of Azure Resource Manager. Cheap to clone.
#[derive(Clone)]
pub struct Arm {
    inner: Arc<Inner>,
}

struct Inner {
    cloud: Cloud,
    pipeline: Pipeline,
    call_timeout: Duration,
}

impl std::fmt::Debug for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arm").field("address", &self.inner.cloud.arm.as_str()).finish_non_exhaustive()
    }
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status: 2xx.
    pub status: u16,
    /// The body; `Null` where there was none.
    pub body: Value,
    /// Azure's request id.
    pub request_id: Option<String>,
    /// The operation that Azure started, where it says how to follow it.
    pub operation: Option<Operation>,
    /// How long Azure asks to wait before looking again.
    pub retry_after: Option<Duration>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The resource.
    Found(Answer),
    /// The resource, its parent or its resource group does not exist.
    Absent(Absence),
}

/// Azure's words for "does not exist".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Absence {
    /// Azure's code: `ResourceNotFound`, `ResourceGroupNotFound`, `ParentResourceNotFound`, …
    pub code: Option<String>,
    /// Azure's request id.
    pub request_id: Option<String>,
}

/// A long-running operation: where to ask about it. Safe to store; the address is checked again before it is called.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Operation {
    /// `Azure-AsyncOperation`, else `Location`.
    pub url: String,
}

/// What an operation's status says. The resource's own state stays the truth; this is a hint.
#[derive(Clone, Debug, PartialEq)]
pub enum OperationState {
    /// Still at work.
    Running {
        /// How long Azure asks to wait before looking again.
        retry_after: Option<Duration>,
    },
    /// Ended well.
    Succeeded,
    /// Ended in failure, or was cancelled. The error's kind is told from Azure's code as for an answered call.
    Failed(AzureError),
    /// Azure no longer knows the operation (404): look at the resource.
    Forgotten,
}

impl Answer {
    /// The body as `T`; `Unexpected` if it has another shape. `what` names it in the error.
    pub fn parse<T: DeserializeOwned>(&self, what: &str) -> Result<T, AzureError> {
        T::deserialize(&self.body).map_err(|e| self.unexpected(&format!("{what}: {e}")))
    }

    /// An error about the answer's shape.
    pub(super) fn unexpected(&self, message: &str) -> AzureError {
        AzureError { status: Some(self.status), ..AzureError::new(AzureErrorKind::Unexpected, message) }
            .with_request_id(self.request_id.clone())
    }

    fn new(raw: Raw) -> Result<Self, AzureError> {
        let operation = [AZURE_ASYNC_OPERATION, LOCATION]
            .iter()
            .find_map(|name| raw.headers.get_optional_str(name))
            .map(|url| Operation { url: url.to_owned() });
        Ok(Self {
            body: raw.json()?,
            status: raw.status,
            request_id: error::request_id(&raw.headers),
            operation,
            retry_after: error::retry_after(&raw.headers),
        })
    }
}

/// An answer before anything is made of it.
struct Raw {
    status: u16,
    headers: Headers,
    body: Vec<u8>,
}

impl Raw {
    fn json(&self) -> Result<Value, AzureError> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            let error = AzureError::new(AzureErrorKind::Unexpected, format!("the answer is not JSON: {e}"));
            AzureError { status: Some(self.status), ..error }.with_request_id(error::request_id(&self.headers))
        })
    }

    fn error(&self) -> AzureError {
        AzureError::from_answer(Origin::Arm, self.status, &self.headers, &self.body)
    }
}

impl Arm {
    pub(super) fn new(
        cloud: Cloud,
        credential: Arc<dyn TokenCredential>,
        options: ClientOptions,
        call_timeout: Duration,
    ) -> Self {
        let auth: Arc<dyn Policy> =
            Arc::new(BearerTokenAuthorizationPolicy::new(credential, [cloud.arm_scope.clone()]));
        let pipeline = Pipeline::new(
            Some(env!("CARGO_PKG_NAME")),
            Some(env!("CARGO_PKG_VERSION")),
            options,
            Vec::new(),
            vec![auth],
            None,
        );
        Self { inner: Arc::new(Inner { cloud, pipeline, call_timeout }) }
    }

    /// The cloud this client speaks to.
    pub fn cloud(&self) -> &Cloud {
        &self.inner.cloud
    }

    /// Reads what `path` names; `None` if it does not exist.
    pub async fn get(&self, cx: &CallContext, path: &str, api_version: &str) -> Result<Option<Answer>, AzureError> {
        Ok(match self.look(cx, path, api_version).await? {
            Lookup::Found(answer) => Some(answer),
            Lookup::Absent(_) => None,
        })
    }

    /// Reads what `path` names, with Azure's words where it does not exist.
    pub async fn look(&self, cx: &CallContext, path: &str, api_version: &str) -> Result<Lookup, AzureError> {
        let url = self.address(path, api_version, &[])?;
        let raw = self.exchange(cx, Method::Get, url, None).await?;
        let absent = |code| Lookup::Absent(Absence { code, request_id: error::request_id(&raw.headers) });
        match raw.status {
            // Managed HSM's specification answers this for one that does not exist.
            204 => Ok(absent(None)),
            200..=299 => Answer::new(raw).map(Lookup::Found),
            _ => match raw.error() {
                error if error.kind == AzureErrorKind::NotFound => Ok(absent(error.code)),
                error => Err(error),
            },
        }
    }

    /// Creates or replaces.
    pub async fn put(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        self.write(cx, Method::Put, path, api_version, body).await
    }

    /// Changes the given properties.
    pub async fn patch(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        self.write(cx, Method::Patch, path, api_version, body).await
    }

    /// Runs an action.
    pub async fn post(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        self.write(cx, Method::Post, path, api_version, body).await
    }

    /// All items of a list, following pages on the same host. More than 50 pages or 10,000 items are `Unexpected`.
    pub async fn list(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<Value>, AzureError> {
        let mut next = self.address(path, api_version, query)?;
        let mut items = Vec::new();
        for _ in 0..MAX_PAGES {
            let raw = self.exchange(cx, Method::Get, next, None).await?;
            if !is_success(raw.status) {
                return Err(raw.error());
            }
            let answer = Answer::new(raw)?;
            match answer.body.get("value") {
                Some(Value::Array(page)) if items.len() + page.len() <= MAX_ITEMS => items.extend_from_slice(page),
                Some(Value::Array(_)) => break,
                _ => return Err(answer.unexpected("a list without `value`")),
            }
            match answer.body.get("nextLink").and_then(Value::as_str).filter(|link| !link.is_empty()) {
                Some(link) => next = self.inner.cloud.check_arm_url(link)?,
                None => return Ok(items),
            }
        }
        Err(AzureError::new(AzureErrorKind::Unexpected, format!("the list {path} does not end")))
    }

    /// Asks about an operation. The address must be on the configured ARM host: otherwise `UntrustedUrl`, and nothing is
    /// sent. An error means that the status could not be read, not that the operation failed.
    pub async fn poll(&self, cx: &CallContext, operation: &Operation) -> Result<OperationState, AzureError> {
        let url = self.inner.cloud.check_arm_url(&operation.url)?;
        let raw = self.exchange(cx, Method::Get, url, None).await?;
        match raw.status {
            404 => Ok(OperationState::Forgotten),
            200..=299 => operation_state(&raw),
            _ => Err(raw.error()),
        }
    }

    async fn write(
        &self,
        cx: &CallContext,
        method: Method,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        let url = self.address(path, api_version, &[])?;
        let raw = self.exchange(cx, method, url, Some(body)).await?;
        if is_success(raw.status) { Answer::new(raw) } else { Err(raw.error()) }
    }

    /// The address of a path below the ARM host. Each segment is encoded on its own; empty and dot segments are refused.
    fn address(&self, path: &str, api_version: &str, query: &[(&str, &str)]) -> Result<Url, AzureError> {
        let refuse = || AzureError::new(AzureErrorKind::Unexpected, format!("not an ARM path: {path}"));
        let segments: Vec<&str> = path.strip_prefix('/').ok_or_else(refuse)?.split('/').collect();
        if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(refuse());
        }
        let mut url = self.inner.cloud.arm.clone();
        url.path_segments_mut().map_err(|()| refuse())?.clear().extend(segments);
        url.query_pairs_mut().append_pair("api-version", api_version).extend_pairs(query);
        Ok(url)
    }

    /// One call, signing in included, within the call time-out.
    async fn exchange(
        &self,
        cx: &CallContext,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<Raw, AzureError> {
        let mut request = Request::new(url, method);
        request.insert_header("accept", "application/json");
        if let Some(body) = body {
            request.insert_header("content-type", "application/json");
            request.set_json(body).map_err(|e| AzureError::from_sdk(Origin::Arm, &e))?;
        }
        let context = cx.for_one_call();
        let options = PipelineSendOptions { skip_checks: true, ..Default::default() };
        let sent = self.inner.pipeline.send(&context, &mut request, Some(options));
        let response =
            within(self.inner.call_timeout, sent).await?.map_err(|e| AzureError::from_sdk(Origin::Arm, &e))?;
        let (status, headers, body) = response.deconstruct();
        Ok(Raw { status: status.into(), headers, body: body.to_vec() })
    }
}

/// Bounds a call of several exchanges: sign-in, challenge, the call itself.
pub(super) async fn within<F: Future>(limit: Duration, call: F) -> Result<F::Output, AzureError> {
    tokio::time::timeout(limit, call).await.map_err(|_| {
        AzureError::new(AzureErrorKind::UnknownOutcome, format!("no answer within {} seconds", limit.as_secs()))
    })
}

const fn is_success(status: u16) -> bool {
    matches!(status, 200..=299)
}

/// What a readable status means: 202 runs; otherwise `status` or `properties.provisioningState` decides, and a `Location`
/// that answers 200 or 204 without either has ended well.
fn operation_state(raw: &Raw) -> Result<OperationState, AzureError> {
    let running = OperationState::Running { retry_after: error::retry_after(&raw.headers) };
    if raw.status == 202 {
        return Ok(running);
    }
    let body = raw.json()?;
    let state = body.get("status").or_else(|| body.pointer("/properties/provisioningState")).and_then(Value::as_str);
    let Some(state) = state else { return Ok(OperationState::Succeeded) };
    Ok(match state.to_ascii_lowercase().as_str() {
        "succeeded" => OperationState::Succeeded,
        "failed" | "canceled" | "cancelled" => {
            let mut failure = AzureError::from_operation(raw.status, &raw.headers, &body);
            if failure.code.is_none() {
                failure.message = format!("the operation ended as {state}");
            }
            OperationState::Failed(failure)
        }
        _ => running,
    })
}
