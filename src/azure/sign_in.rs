//! What a failed sign-in means: a refusal, or an outage that passes.
//!
//! What belongs here: reading the token endpoints' error answers, of Entra and of the instance metadata service. What
//! does not: obtaining tokens, which is azure_identity's.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, RawResponse, Request};
use serde_json::Value;

use super::body;
use super::classify::Origin;
use super::error::{self, AzureError, AzureErrorKind};

/// Hands our error through azure_core's.
pub(super) fn wrap(error: AzureError) -> Error {
    Error::with_error(ErrorKind::Credential, error, "signing in to Azure failed")
}

/// What a failed sign-in is: what [`TokenAnswers`] saw; otherwise nothing was asked, and the credential itself is wrong.
pub(super) fn failure(error: &Error) -> AzureError {
    match error::find(error) {
        Some(found) => found.clone(),
        None => AzureError::new(AzureErrorKind::Authentication, error::chain(error)),
    }
}

/// Reads the token endpoints' error answers in azure_identity's stead, which as of 1.0 loses the status of every answer
/// whose JSON holds an escaped character (Entra's texts always do) or that is not JSON, and whose metadata client would
/// repeat a failed request for 72 seconds inside one call.
#[derive(Debug)]
pub(super) struct TokenAnswers;

#[async_trait]
impl Policy for TokenAnswers {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let from_metadata_service = request.url().scheme() == "http";
        let (first, rest) = next.split_first().expect("the transport is always the last policy");
        let answered = match first.send(context, request, rest).await {
            Ok(response) if response.status().is_success() => return Ok(response),
            Ok(response) => response.try_into_raw_response().await,
            Err(error) => Err(error),
        };
        let error = match answered {
            Ok(response) => read(&response, from_metadata_service),
            // Whatever became of the token request, the call it was for has not been sent.
            Err(error) => {
                let error = AzureError::from_sdk(Origin::Arm, &error);
                let lost = error.kind == AzureErrorKind::UnknownOutcome;
                AzureError { kind: if lost { AzureErrorKind::NotSent } else { error.kind }, ..error }
            }
        };
        // Not `Io` and not `HttpResponse`: those would be repeated by the metadata client.
        Err(Error::with_error(ErrorKind::Other, error, "no token"))
    }
}

/// An error answer; Entra's number becomes the code. The numbers are for people: Microsoft asks not to branch on them.
fn read(response: &RawResponse, from_metadata_service: bool) -> AzureError {
    let status = u16::from(response.status());
    let kind = match status {
        429 => AzureErrorKind::Throttled,
        408 | 500..=599 => AzureErrorKind::Transient,
        // The metadata service is being updated, or the identity has just been assigned.
        404 | 410 if from_metadata_service => AzureErrorKind::Transient,
        _ => AzureErrorKind::Authentication,
    };
    let words = body::read(response.body());
    let json: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let number = json.pointer("/error_codes/0").and_then(Value::as_u64).map(|number| format!("AADSTS{number}"));
    let text = if words.message.is_empty() { format!("HTTP status {status}") } else { words.message };
    let error = AzureError::new(kind, format!("signing in: {text}"));
    AzureError { status: Some(status), code: number.or(words.code), ..error }
        .with_request_id(error::request_id(response.headers()))
        .with_retry_after(error::retry_after(response.headers()))
}
