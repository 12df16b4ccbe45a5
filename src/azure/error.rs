//! What went wrong with a call to Azure, as one closed set of kinds.
//!
//! What belongs here: the error every function of this module answers with, and how its kinds become the service's own
//! classes and codes. What does not: reading Azure's bodies (`body`) and telling kinds apart (`classify`).

use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, Headers};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::body::{self, Words};
use super::classify::{Origin, classify};
use super::context::X_MS_REQUEST_ID;
use crate::domain::codes::Code;
use crate::domain::failure::{AzureDetail, Failure, FailureClass};
use crate::domain::retry::MAX_RETRY_AFTER;

/// The longest part of Azure's text that a failure's message repeats, in characters; the whole is in its detail.
const MAX_SUMMARY: usize = 300;

/// What kind of trouble a call to Azure ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AzureErrorKind {
    /// The thing the call is about, or its parent, does not exist (404).
    NotFound,
    /// Too many requests (429).
    Throttled,
    /// This service's own share of Azure's limits is used up for now: nothing was sent, so it is safe to repeat after
    /// `retry_after`.
    RateLimited,
    /// Azure failed in a way that may go away: 408, 500, 502, 503, 504, an expired token.
    Transient,
    /// No connection: the request was never sent, so it is safe to repeat. A fresh vault's name may not resolve yet.
    NotSent,
    /// The connection broke or timed out after the request may have been sent: look before repeating.
    UnknownOutcome,
    /// Microsoft Entra refused the credential, or Azure refused the token.
    Authentication,
    /// The caller lacks the right: Azure RBAC of the management plane or of the vault.
    Forbidden,
    /// The vault's firewall does not let the caller's address through.
    FirewallClosed,
    /// The vault's public network access is off and the caller has no private endpoint.
    ConnectionRefusedByNetwork,
    /// An Azure Policy denies the request.
    PolicyDenied,
    /// A management lock forbids the write.
    Locked,
    /// The subscription is not registered for the resource provider.
    ProviderNotRegistered,
    /// Another operation is at work on the resource; it goes away by itself.
    Busy,
    /// The name is held by something soft-deleted.
    SoftDeleted,
    /// The name belongs to somebody else.
    NameTaken,
    /// The same principal already has the same role at the same scope, under another assignment name.
    RoleAssignmentExists,
    /// The principal has not reached the directory's replicas yet.
    PrincipalNotFound,
    /// A service could not reach its key with its identity: not granted, or the grant has not arrived yet.
    KeyVaultAccess,
    /// A service could not reach its key because the vault's network rules keep it out.
    KeyVaultClosed,
    /// The vault lacks soft delete or purge protection.
    KeyVaultPolicy,
    /// The key is disabled, expired, not yet valid, or does not allow the operation.
    KeyUnusable,
    /// Another conflict (409).
    Conflict,
    /// Azure says the request is wrong (other 4xx), or an accepted operation ended in failure for a reason not above.
    Rejected,
    /// The address to call is not one of the configured cloud's; nothing was sent.
    UntrustedUrl,
    /// An answer that does not have the shape it must have.
    Unexpected,
}

/// A failed call to Azure. Holds no token and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?}: {message}")]
pub struct AzureError {
    /// What kind of trouble.
    pub kind: AzureErrorKind,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// Azure's code, for instance `AuthorizationFailed`.
    pub code: Option<String>,
    /// Azure's more precise code below it, for instance `ForbiddenByRbac`.
    pub inner_code: Option<String>,
    /// Azure's text, or ours where Azure said nothing; at most 2,000 characters.
    pub message: String,
    /// Azure's request id.
    pub request_id: Option<String>,
    /// How long Azure asks to wait, at most [`crate::domain::retry::MAX_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
}

impl AzureError {
    /// An error of ours, without an answer of Azure.
    pub fn new(kind: AzureErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            status: None,
            code: None,
            inner_code: None,
            message: body::clean(&message),
            request_id: None,
            retry_after: None,
        }
    }

    /// An answer that is not a success.
    pub(super) fn from_answer(origin: Origin, status: u16, headers: &Headers, answer: &[u8]) -> Self {
        Self::from_words(origin, status, body::read(answer))
            .with_request_id(request_id(headers))
            .with_retry_after(retry_after(headers))
    }

    /// An error that arrived as part of a successful answer: an operation's status.
    pub(super) fn from_operation(status: u16, headers: &Headers, error: &serde_json::Value) -> Self {
        Self::from_words(Origin::Arm, status, body::from_value(error)).with_request_id(request_id(headers))
    }

    /// An error of azure_core's pipeline or clients.
    pub(super) fn from_sdk(origin: Origin, error: &azure_core::Error) -> Self {
        if let Some(found) = find(error) {
            return found.clone();
        }
        match error.kind() {
            ErrorKind::HttpResponse { status, error_code, raw_response } => match raw_response {
                Some(raw) => Self::from_answer(origin, u16::from(raw.status()), raw.headers(), raw.body()),
                None => {
                    let words = Words { code: error_code.clone(), inner_code: None, message: chain(error) };
                    Self::from_words(origin, u16::from(*status), words)
                }
            },
            ErrorKind::Connection => Self::new(AzureErrorKind::NotSent, chain(error)),
            ErrorKind::Io => Self::new(AzureErrorKind::UnknownOutcome, chain(error)),
            ErrorKind::Credential => Self::new(AzureErrorKind::Authentication, chain(error)),
            // The Key Vault client refuses to send a token to a store whose challenge names a foreign domain.
            ErrorKind::Other if error.to_string().starts_with("challenge resource") => {
                Self::new(AzureErrorKind::UntrustedUrl, chain(error))
            }
            _ => Self::new(AzureErrorKind::Unexpected, chain(error)),
        }
    }

    fn from_words(origin: Origin, status: u16, words: Words) -> Self {
        let kind = classify(origin, status, words.code.as_deref(), words.inner_code.as_deref(), &words.message);
        let message = if words.message.is_empty() { format!("HTTP status {status}") } else { words.message };
        Self { status: Some(status), code: words.code, inner_code: words.inner_code, ..Self::new(kind, message) }
    }

    pub(super) fn with_request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id.or(self.request_id);
        self
    }

    pub(super) fn with_retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay.or(self.retry_after);
        self
    }

    /// The class that decides whether looking again can help.
    pub fn class(&self) -> FailureClass {
        use AzureErrorKind as K;
        match self.kind {
            K::Throttled | K::RateLimited | K::Transient | K::NotSent | K::UnknownOutcome | K::Busy => {
                FailureClass::Transient
            }
            K::PrincipalNotFound | K::KeyVaultAccess => FailureClass::NotYet,
            K::Authentication
            | K::Forbidden
            | K::FirewallClosed
            | K::ConnectionRefusedByNetwork
            | K::PolicyDenied
            | K::Locked
            | K::KeyVaultClosed => FailureClass::Denied,
            K::SoftDeleted | K::NameTaken | K::RoleAssignmentExists | K::KeyUnusable | K::Conflict => {
                FailureClass::Conflict
            }
            K::NotFound | K::ProviderNotRegistered | K::KeyVaultPolicy | K::Rejected => FailureClass::Invalid,
            K::UntrustedUrl | K::Unexpected => FailureClass::Bug,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything: throttling, outages, broken
    /// connections, other operations at work. Propagation (`NotYet`) is not transient; steps decide how long to wait for it.
    pub fn is_transient(&self) -> bool {
        self.class() == FailureClass::Transient
    }

    /// The stable code of the catalogue that fits best.
    pub fn catalogue_code(&self) -> Code {
        use AzureErrorKind as K;
        match self.kind {
            K::Throttled | K::RateLimited | K::Transient | K::NotSent | K::UnknownOutcome => Code::AzureUnavailable,
            K::Authentication if self.has_code("InvalidAuthenticationTokenTenant") => Code::OtherTenant,
            K::Authentication => Code::AzureAuthentication,
            K::Forbidden => Code::AzureForbidden,
            K::FirewallClosed | K::ConnectionRefusedByNetwork => Code::KeyStoreUnreachable,
            K::PolicyDenied => Code::PolicyDenied,
            K::Locked => Code::ScopeLocked,
            K::ProviderNotRegistered => Code::ProviderNotRegistered,
            K::PrincipalNotFound | K::KeyVaultAccess => Code::AccessTimeout,
            K::KeyVaultClosed => Code::KeyStoreClosed,
            K::KeyVaultPolicy => Code::KeyStoreUnprotected,
            K::KeyUnusable => Code::KeyDisabled,
            K::SoftDeleted if self.has_code("ConflictError") => Code::KeyStoreSoftDeleted,
            K::SoftDeleted if self.has_code("ObjectIsDeletedButRecoverable") => Code::KeySoftDeleted,
            K::NameTaken if self.has_code("VaultAlreadyExists") => Code::KeyStoreNameTaken,
            K::NotFound if self.has_code("ResourceGroupNotFound") => Code::ResourceGroupNotFound,
            K::SoftDeleted | K::NameTaken | K::RoleAssignmentExists | K::Busy | K::Conflict => Code::AzureConflict,
            // Accepted first, then ended in failure.
            K::Rejected if self.status.is_some_and(|status| status < 300) => Code::OperationFailed,
            K::NotFound | K::Rejected => Code::AzureRejected,
            K::UntrustedUrl => Code::UntrustedOperationUrl,
            K::Unexpected => Code::UnexpectedAnswer,
        }
    }

    /// The public form. `doing` is a clause with -ing: "creating the vault kv-1".
    pub fn to_failure(&self, doing: &str) -> Failure {
        let said = if self.status.is_some() { "Azure said" } else { "the call failed" };
        let code = match (&self.code, &self.inner_code) {
            (Some(code), Some(inner)) => format!("{code}/{inner}: "),
            (Some(code), None) => format!("{code}: "),
            (None, _) => String::new(),
        };
        let summary: String = self.message.lines().next().unwrap_or_default().chars().take(MAX_SUMMARY).collect();
        let failure = Failure::new(self.catalogue_code(), format!("{doing}: {said} {code}{summary}"));
        let failure = Failure { class: self.class(), ..failure };
        if self.status.is_some() { failure.with_azure(self.detail()) } else { failure }
    }

    /// Azure's words. The more precise code stands, where there is one.
    pub fn detail(&self) -> AzureDetail {
        AzureDetail {
            code: self.inner_code.clone().or_else(|| self.code.clone()),
            status: self.status,
            request_id: self.request_id.clone(),
            message: Some(self.message.clone()),
        }
    }

    /// Whether Azure used this code, as the outer or the inner one.
    pub fn has_code(&self, code: &str) -> bool {
        [&self.code, &self.inner_code].into_iter().flatten().any(|own| own.eq_ignore_ascii_case(code))
    }
}

/// An error of ours somewhere in the chain: credentials and policies hand theirs through azure_core this way.
pub(super) fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a AzureError> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref::<AzureError>())
}

/// The texts of the chain, each said once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for error in std::iter::successors(Some(error), |error| error.source()).take(8) {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    body::clean(&text)
}

pub(super) fn request_id(headers: &Headers) -> Option<String> {
    let id = headers.get_optional_str(&X_MS_REQUEST_ID)?;
    Some(id.chars().take(100).collect())
}

/// How long Azure asks to wait: milliseconds in Microsoft's own headers, else seconds or an HTTP date, which counts from
/// the answer's own `Date`. Never more than [`MAX_RETRY_AFTER`].
pub(super) fn retry_after(headers: &Headers) -> Option<Duration> {
    let text = |name: &'static str| headers.get_optional_str(&HeaderName::from_static(name)).map(str::trim);
    let millis = |name| text(name)?.parse().ok().map(Duration::from_millis);
    let delay = millis("x-ms-retry-after-ms").or_else(|| millis("retry-after-ms")).or_else(|| {
        let value = text("retry-after")?;
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let (until, now) = (http_date(value)?, http_date(text("date")?)?);
        Some((until - now).try_into().unwrap_or(Duration::ZERO))
    })?;
    Some(delay.min(MAX_RETRY_AFTER))
}

fn http_date(text: &str) -> Option<OffsetDateTime> {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    PrimitiveDateTime::parse(text, format).ok().map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    }

    #[test]
    fn retry_after_is_read_in_every_form_and_capped() {
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        for (pairs, expected) in [
            (&[("retry-after", "17")][..], Some(Duration::from_secs(17))),
            (&[("retry-after", "999999999")], Some(MAX_RETRY_AFTER)),
            (&[("retry-after-ms", "250"), ("retry-after", "1")], Some(Duration::from_millis(250))),
            (&[("x-ms-retry-after-ms", "1500")], Some(Duration::from_millis(1500))),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT"), date], Some(Duration::from_secs(30))),
            (&[("retry-after", "Wed, 21 Oct 2026 07:27:30 GMT"), date], Some(Duration::ZERO)),
            (&[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(retry_after(&headers(pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn an_answer_becomes_a_failure_with_azures_words() {
        let body = br#"{"error":{"code":"Forbidden","message":"Caller is not authorized.\r\nCaller: appid=1","innererror":{"code":"ForbiddenByRbac"}}}"#;
        let headers = headers(&[("x-ms-request-id", "req-1"), ("retry-after", "5")]);
        let error = AzureError::from_answer(Origin::Store, 403, &headers, body);
        assert_eq!((error.kind, error.retry_after), (AzureErrorKind::Forbidden, Some(Duration::from_secs(5))));
        let failure = error.to_failure("reading the key k");
        assert_eq!((failure.code, failure.class), (Code::AzureForbidden, FailureClass::Denied));
        assert_eq!(
            failure.message,
            "reading the key k: Azure said Forbidden/ForbiddenByRbac: Caller is not authorized."
        );
        let azure = failure.azure.expect("Azure answered");
        assert_eq!((azure.status, azure.request_id.as_deref()), (Some(403), Some("req-1")));
        assert_eq!(azure.code.as_deref(), Some("ForbiddenByRbac"));
    }

    #[test]
    fn codes_of_the_catalogue_depend_on_what_azure_named() {
        let of = |status, body: &str| {
            AzureError::from_answer(Origin::Arm, status, &Headers::new(), body.as_bytes()).to_failure("x")
        };
        let arm = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"deleted state"}}}}"#);
        assert_eq!(of(409, &arm("ConflictError")).code, Code::KeyStoreSoftDeleted);
        assert_eq!(of(409, &arm("VaultAlreadyExists")).code, Code::KeyStoreNameTaken);
        assert_eq!(of(409, &arm("StorageAccountAlreadyTaken")).code, Code::AzureConflict);
        assert_eq!(of(404, &arm("ResourceGroupNotFound")).code, Code::ResourceGroupNotFound);
        assert_eq!(of(200, &arm("Whatever")).code, Code::OperationFailed);
        let busy = of(409, &arm("AnotherOperationInProgress"));
        assert_eq!((busy.code, busy.class), (Code::AzureConflict, FailureClass::Transient));
        let lagging = of(400, &arm("KeyVaultAuthenticationFailure"));
        assert_eq!((lagging.code, lagging.class), (Code::AccessTimeout, FailureClass::NotYet));
    }

    #[test]
    fn pipeline_errors_say_whether_the_request_was_sent() {
        let of = |kind| AzureError::from_sdk(Origin::Arm, &azure_core::Error::with_message(kind, "m")).kind;
        assert_eq!(of(ErrorKind::Connection), AzureErrorKind::NotSent);
        assert_eq!(of(ErrorKind::Io), AzureErrorKind::UnknownOutcome);
        assert_eq!(of(ErrorKind::Credential), AzureErrorKind::Authentication);
        assert_eq!(of(ErrorKind::DataConversion), AzureErrorKind::Unexpected);
        let ours = AzureError::new(AzureErrorKind::Throttled, "slow down");
        let wrapped = azure_core::Error::with_error(ErrorKind::Credential, ours.clone(), "signing in failed");
        assert_eq!(AzureError::from_sdk(Origin::Arm, &wrapped), ours);
    }
}
