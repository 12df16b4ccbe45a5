//! What went wrong with a call to Azure, as one closed set of kinds.
//!
//! What belongs here: the error every function of this module answers with, and how its kinds become the service's own
//! classes and codes. What does not: reading Azure's bodies (`body`) and telling kinds apart (`classify`).

use std::time::Duration;

use crate::domain::codes::Code;
use crate::domain::failure::{AzureDetail, Failure, FailureClass};

/// What kind of trouble a call to Azure ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AzureErrorKind {
    /// The thing the call is about, or its parent, does not exist (404).
    NotFound,
    /// Too many requests (429).
    Throttled,
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
    /// Another conflict (409, 412).
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
        todo!()
    }

    /// The class that decides whether looking again can help.
    pub fn class(&self) -> FailureClass {
        todo!()
    }

    /// Whether the same call may succeed later without anybody changing anything: throttling, outages, broken
    /// connections, other operations at work. Propagation (`NotYet`) is not transient; steps decide how long to wait for it.
    pub fn is_transient(&self) -> bool {
        self.class() == FailureClass::Transient
    }

    /// The stable code of the catalogue that fits best.
    pub fn catalogue_code(&self) -> Code {
        todo!()
    }

    /// The public form. `doing` is a clause with -ing: "creating the vault kv-1".
    pub fn to_failure(&self, doing: &str) -> Failure {
        todo!()
    }

    /// Azure's words.
    pub fn detail(&self) -> AzureDetail {
        todo!()
    }
}
