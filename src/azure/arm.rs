//! Azure Resource Manager on azure_core's pipeline: one call, one answer, no retries.
//!
//! What belongs here: addresses, headers, statuses and paging common to all resource types. What does not: the shapes of
//! particular resources, which have a module each. Nothing here deletes.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::policies::Policy;
use azure_core::http::policies::auth::BearerTokenAuthorizationPolicy;
use azure_core::http::{ClientOptions, Method, Pipeline, PipelineSendOptions, Request};
use serde_json::Value;
use url::Url;

use super::answer::Raw;
pub use super::answer::{Absence, Answer, Lookup};
use super::classify::Origin;
use super::cloud::Cloud;
use super::context::CallContext;
use super::error::{self, AzureError, AzureErrorKind};
use super::limits::{Key, Limits};
use super::operation;
pub use super::operation::{Operation, OperationState};

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
    limits: Arc<Limits>,
}

impl std::fmt::Debug for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arm").field("address", &self.inner.cloud.arm.as_str()).finish_non_exhaustive()
    }
}

impl Arm {
    pub(super) fn new(
        cloud: Cloud,
        credential: Arc<dyn TokenCredential>,
        options: ClientOptions,
        call_timeout: Duration,
        limits: Arc<Limits>,
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
        Self { inner: Arc::new(Inner { cloud, pipeline, call_timeout, limits }) }
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
        let raw = self.exchange(cx, Method::Get, url, None, None).await?;
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
        self.write(cx, Method::Put, path, api_version, body, None).await
    }

    /// Replaces what was read with this etag, and nothing else: what somebody changed since is `Busy` and stays.
    pub async fn put_if_match(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
        etag: &str,
    ) -> Result<Answer, AzureError> {
        self.write(cx, Method::Put, path, api_version, body, Some(etag)).await
    }

    /// Changes the given properties.
    pub async fn patch(
        &self,
        cx: &CallContext,
        path: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        self.write(cx, Method::Patch, path, api_version, body, None).await
    }

    /// Asks which policies would deny something in a group: the only POST there is, and it changes nothing.
    pub(super) async fn check_policies(
        &self,
        cx: &CallContext,
        group: &str,
        api_version: &str,
        body: &Value,
    ) -> Result<Answer, AzureError> {
        let path = format!("{group}/providers/Microsoft.PolicyInsights/checkPolicyRestrictions");
        self.write(cx, Method::Post, &path, api_version, body, None).await
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
            let raw = self.exchange(cx, Method::Get, next, None, None).await?;
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

    /// One call to an address that was made and checked by a sibling module: the data plane of a Managed HSM speaks as ARM
    /// does.
    pub(super) async fn at(
        &self,
        cx: &CallContext,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<Answer, AzureError> {
        let raw = self.exchange(cx, method, url, body, None).await?;
        if is_success(raw.status) {
            return Answer::new(raw);
        }
        Err(AzureError::from_answer(Origin::Store, raw.status, &raw.headers, &raw.body))
    }

    /// Asks about an operation. The address must be on the configured ARM host: otherwise `UntrustedUrl`, and nothing is
    /// sent. An error means that the status could not be read, not that the operation failed.
    pub async fn poll(&self, cx: &CallContext, operation: &Operation) -> Result<OperationState, AzureError> {
        let url = self.inner.cloud.check_arm_url(&operation.url)?;
        let raw = self.exchange(&cx.looking(true), Method::Get, url, None, None).await?;
        match raw.status {
            404 => Ok(OperationState::Forgotten),
            200..=299 => operation::state(&raw),
            _ => operation::state_of_error(raw.error()),
        }
    }

    async fn write(
        &self,
        cx: &CallContext,
        method: Method,
        path: &str,
        api_version: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<Answer, AzureError> {
        let url = self.address(path, api_version, &[])?;
        let raw = self.exchange(cx, method, url, Some(body), if_match).await?;
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

    /// One call: its token, then the call, signing in included, within the call time-out.
    async fn exchange(
        &self,
        cx: &CallContext,
        method: Method,
        url: Url,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Raw, AzureError> {
        let key = Key::of_arm(method, &url);
        let ticket = self.inner.limits.admit(cx.ask(key.clone())).await?;
        let mut request = Request::new(url, method);
        request.insert_header("accept", "application/json");
        if let Some(etag) = if_match {
            request.insert_header("if-match", etag.to_owned());
        }
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
        ticket.answered(key.told(status.into(), &headers));
        Ok(Raw { status: status.into(), headers, body: body.to_vec() })
    }
}

/// The items of an answer that is a list of one page.
pub(super) fn list_of(answer: &Answer) -> Result<&[Value], AzureError> {
    match answer.body.get("value") {
        Some(Value::Array(items)) if items.len() <= MAX_ITEMS => Ok(items),
        _ => Err(answer.unexpected("a list without `value`")),
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::super::testing::{FakeAzure, Reply, cx};
    use super::*;

    const PATH: &str = "/subscriptions/s/resourceGroups/rg (1)";

    #[tokio::test]
    async fn a_call_carries_token_version_and_correlation() {
        let fake = FakeAzure::new([Reply::json(200, json!({"a": 1})), Reply::json(200, json!({}))]);
        let cx = CallContext::new(Uuid::from_u128(7));
        let answer = fake.arm().get(&cx, PATH, "2020-01-01").await.expect("answered").expect("found");
        assert_eq!(answer.body, json!({"a": 1}));
        fake.arm().put(&cx, PATH, "2020-01-01", &json!({"b": 2})).await.expect("answered");
        let sent = fake.sent();
        assert_eq!(
            sent[0].url,
            "https://management.azure.com/subscriptions/s/resourceGroups/rg%20(1)?api-version=2020-01-01"
        );
        assert_eq!(sent[0].header("authorization"), Some("Bearer fake-token"));
        assert_eq!(sent[0].header("x-ms-correlation-request-id"), Some(cx.correlation_id.to_string().as_str()));
        assert!(sent[0].header("x-ms-client-request-id").is_some_and(|id| id.parse::<Uuid>().is_ok()));
        assert_ne!(sent[0].header("x-ms-client-request-id"), sent[1].header("x-ms-client-request-id"));
        assert_eq!((sent[1].method.as_str(), sent[1].body.as_str()), ("PUT", r#"{"b":2}"#));
        assert_eq!(sent[1].header("content-type"), Some("application/json"));
    }

    #[tokio::test]
    async fn absence_is_an_answer_and_a_missing_subscription_is_not() {
        let absent = |code| Reply::json(404, json!({"error": {"code": code, "message": "m"}}));
        for code in ["ResourceNotFound", "ResourceGroupNotFound", "ParentResourceNotFound"] {
            let found = FakeAzure::new([absent(code)]).arm().look(&cx(), PATH, "v").await.expect("an answer");
            assert!(matches!(found, Lookup::Absent(Absence { code: Some(c), .. }) if c == code), "{code}");
        }
        for code in ["SubscriptionNotFound", "InvalidResourceType"] {
            let error = FakeAzure::new([absent(code)]).arm().get(&cx(), PATH, "v").await.expect_err(code);
            assert_eq!((error.kind, error.status), (AzureErrorKind::Rejected, Some(404)));
        }
    }

    #[tokio::test]
    async fn an_accepted_write_says_where_to_ask() {
        let accepted = Reply::empty(202)
            .with("location", "https://management.azure.com/l")
            .with("azure-asyncoperation", "https://management.azure.com/a")
            .with("retry-after", "17")
            .with("x-ms-request-id", "r-1");
        let answer = FakeAzure::new([accepted]).arm().put(&cx(), PATH, "v", &json!({})).await.expect("accepted");
        assert_eq!(answer.operation, Some(Operation { url: "https://management.azure.com/a".into() }));
        assert_eq!((answer.status, answer.body, answer.retry_after), (202, Value::Null, Some(Duration::from_secs(17))));
        assert_eq!(answer.request_id.as_deref(), Some("r-1"));
    }

    #[tokio::test]
    async fn nothing_is_repeated_and_errors_keep_their_headers() {
        let busy =
            Reply::json(503, json!({"error": {"code": "ServerTimeout", "message": "m"}})).with("retry-after", "9");
        let fake = FakeAzure::new([busy]);
        let error = fake.arm().get(&cx(), PATH, "v").await.expect_err("unavailable");
        assert_eq!((error.kind, error.retry_after), (AzureErrorKind::Transient, Some(Duration::from_secs(9))));
        assert_eq!(fake.sent().len(), 1);
        for (reply, kind) in [
            (Reply::refused(), AzureErrorKind::NotSent),
            (Reply::cut(), AzureErrorKind::UnknownOutcome),
            (Reply::empty(401), AzureErrorKind::Authentication),
            (Reply::text(200, "<html>"), AzureErrorKind::Unexpected),
            (Reply::empty(302).with("location", "https://evil.example"), AzureErrorKind::Unexpected),
        ] {
            let fake = FakeAzure::new([reply]);
            assert_eq!(fake.arm().put(&cx(), PATH, "v", &json!({})).await.expect_err("an error").kind, kind);
            assert_eq!(fake.sent().len(), 1, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_stored_address_on_a_foreign_host_gets_no_token() {
        let fake = FakeAzure::new([]);
        let operation = Operation { url: "https://management.azure.com.evil.example/o".into() };
        let error = fake.arm().poll(&cx(), &operation).await.expect_err("refused");
        assert_eq!(error.kind, AzureErrorKind::UntrustedUrl);
        for path in ["subscriptions", "/a//b", "/a/../b", "/a/./b", ""] {
            assert!(fake.arm().get(&cx(), path, "v").await.is_err(), "{path}");
        }
        assert!(fake.sent().is_empty());
    }

    #[tokio::test]
    async fn an_operation_is_asked_at_its_own_address() {
        let url = "https://management.azure.com/o?api-version=1&t=2&c=sig".to_owned();
        let ended = json!({"error": {"code": "KeyVaultAuthenticationFailure", "message": "m"}});
        let fake = FakeAzure::new([
            Reply::json(200, json!({"status": "Succeeded"})),
            Reply::empty(404),
            Reply::empty(500),
            Reply::json(409, ended),
        ]);
        let operation = Operation { url: url.clone() };
        assert_eq!(fake.arm().poll(&cx(), &operation).await, Ok(OperationState::Succeeded));
        assert_eq!(fake.arm().poll(&cx(), &operation).await, Ok(OperationState::Forgotten));
        assert!(fake.arm().poll(&cx(), &operation).await.is_err_and(|e| e.is_transient()));
        let failed = fake.arm().poll(&cx(), &operation).await.expect("the operation's own end");
        assert!(matches!(failed, OperationState::Failed(e) if e.kind == AzureErrorKind::KeyVaultAccess));
        assert_eq!(fake.sent()[0].url, url);
    }

    #[tokio::test]
    async fn lists_are_followed_on_the_same_host_and_end() {
        let page = |next: &str| Reply::json(200, json!({"value": [1], "nextLink": next}));
        let last = Reply::json(200, json!({"value": [2], "nextLink": null}));
        let fake = FakeAzure::new([page("https://management.azure.com/p?skip=1"), last]);
        let items = fake.arm().list(&cx(), "/l", "v", &[("$filter", "a eq 'b'")]).await.expect("a list");
        assert_eq!(items, [json!(1), json!(2)]);
        assert!(fake.sent()[0].url.ends_with("/l?api-version=v&%24filter=a+eq+%27b%27"), "{}", fake.sent()[0].url);

        let fake = FakeAzure::new([page("https://evil.example/p")]);
        let error = fake.arm().list(&cx(), "/l", "v", &[]).await.expect_err("refused");
        assert_eq!((error.kind, fake.sent().len()), (AzureErrorKind::UntrustedUrl, 1));

        let fake =
            FakeAzure::new(std::iter::repeat_with(|| page("https://management.azure.com/p")).take(MAX_PAGES + 1));
        assert!(fake.arm().list(&cx(), "/l", "v", &[]).await.is_err());
        assert_eq!(fake.sent().len(), MAX_PAGES);
    }
}
