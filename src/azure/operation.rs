//! Long-running operations: where to ask about one, and what its status means.
//!
//! What belongs here: addresses and states. What does not: asking (`arm`), waiting (the engine).

use std::time::Duration;

use azure_core::http::headers::{HeaderName, Headers};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Raw;
use super::error::{self, AzureError, AzureErrorKind};

const AZURE_ASYNC_OPERATION: HeaderName = HeaderName::from_static("azure-asyncoperation");
const LOCATION: HeaderName = HeaderName::from_static("location");

/// A long-running operation: where to ask about it. Safe to store; the address is checked again before it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl Operation {
    /// The operation that an answer names.
    pub(super) fn of(headers: &Headers) -> Option<Self> {
        let url = [AZURE_ASYNC_OPERATION, LOCATION].iter().find_map(|name| headers.get_optional_str(name))?;
        Some(Self { url: url.to_owned() })
    }
}

/// What a readable status means: 202 runs; otherwise `status` or `properties.provisioningState` decides, and a `Location`
/// that answers 200 or 204 without either has ended well.
pub(super) fn state(raw: &Raw) -> Result<OperationState, AzureError> {
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

/// What an error answer means. A `Location` ends with the operation's own error, so every refusal that is not about asking
/// itself is that; outages, throttling, and refused or missing rights leave the operation's state open.
pub(super) fn state_of_error(error: AzureError) -> Result<OperationState, AzureError> {
    use AzureErrorKind::{Authentication, Forbidden, Throttled, Transient, Unexpected};
    match error.kind {
        Authentication | Forbidden | Throttled | Transient | Unexpected => Err(error),
        _ => Ok(OperationState::Failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(status: u16, body: &str) -> OperationState {
        let mut headers = Headers::new();
        headers.insert("retry-after", "7");
        state(&Raw { status, headers, body: body.into() }).expect("a readable status")
    }

    #[test]
    fn states_are_told_apart_as_arm_means_them() {
        let running = OperationState::Running { retry_after: Some(Duration::from_secs(7)) };
        for (status, body, expected) in [
            (202, "", &running),
            (202, r#"{"status":"Succeeded"}"#, &running),
            (200, r#"{"status":"InProgress"}"#, &running),
            (200, r#"{"status":"Enqueued"}"#, &running),
            (200, r#"{"properties":{"provisioningState":"Creating"}}"#, &running),
            (200, r#"{"status":"succeeded"}"#, &OperationState::Succeeded),
            (200, r#"{"properties":{"provisioningState":"Succeeded"}}"#, &OperationState::Succeeded),
            (200, r#"{"id":"x"}"#, &OperationState::Succeeded),
            (200, "", &OperationState::Succeeded),
            (204, "", &OperationState::Succeeded),
        ] {
            assert_eq!(&of(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_failed_operation_keeps_its_kind() {
        let failed = |body| match of(200, body) {
            OperationState::Failed(error) => error,
            other => panic!("not failed: {other:?}"),
        };
        let lagging = failed(r#"{"status":"Failed","error":{"code":"KeyVaultAuthenticationFailure","message":"m"}}"#);
        assert_eq!((lagging.kind, lagging.message.as_str()), (AzureErrorKind::KeyVaultAccess, "m"));
        let other = failed(r#"{"status":"Failed","error":{"code":"Whatever","message":"m"}}"#);
        assert_eq!(other.kind, AzureErrorKind::Rejected);
        let bare = failed(r#"{"status":"Canceled"}"#);
        assert_eq!((bare.kind, bare.message.as_str()), (AzureErrorKind::Rejected, "the operation ended as Canceled"));
    }

    #[test]
    fn an_unreadable_status_is_an_error() {
        let raw = Raw { status: 200, headers: Headers::new(), body: b"<html>".to_vec() };
        assert_eq!(state(&raw).expect_err("not JSON").kind, AzureErrorKind::Unexpected);
    }
}
