//! How things go wrong, in words a caller can act on.
//!
//! What belongs here: the class of a failure and its public form. What does not: error types of single modules, which
//! end here when they reach a job, and internal causes, which only go to the log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::codes::Code;

/// What kind of trouble a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// True soon, as far as can be known: a grant on its way, a resource still being made.
    NotYet,
    /// May go away by itself: throttling, an unreachable host, an internal error of Azure.
    Transient,
    /// Somebody refuses: rights, policy, firewall, lock.
    Denied,
    /// Something that exists is in the way.
    Conflict,
    /// The request can never work as it stands.
    Invalid,
    /// A defect of the service, or an answer it does not understand.
    Bug,
}

impl FailureClass {
    /// Whether repeating the same thing later can help without anybody changing anything.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::NotYet | Self::Transient)
    }
}

/// What Azure itself said, kept verbatim and bounded in length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureDetail {
    /// Azure's own code, for instance `KeyVaultAuthenticationFailure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Azure's request id, to quote in a support case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Azure's text, cut at 2,000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A failure of a step and, when nothing can be done about it, of its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// Its class.
    pub class: FailureClass,
    /// One or two sentences for the caller: what was being done to what, and what happened.
    pub message: String,
    /// What Azure said, where Azure said it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureDetail>,
}

impl Failure {
    /// A failure of the code's own class.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, class: code.info().class, message: message.into(), azure: None }
    }

    /// The same failure with Azure's words.
    pub fn with_azure(mut self, azure: AzureDetail) -> Self {
        self.azure = Some(azure);
        self
    }

    /// What the reader can do about it.
    pub fn remedy(&self) -> &'static str {
        self.code.info().remedy
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
