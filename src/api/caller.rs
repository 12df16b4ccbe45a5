//! Who is asking.
//!
//! What belongs here: the caller's identity as the handlers use it. What does not: what a caller may do.

/// The caller of every request as long as callers are not authenticated; the server then listens on loopback only.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Who is asking: what a job's `requestedBy` says, and what an idempotency key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller(String);

impl Caller {
    /// The caller's name.
    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(ANONYMOUS.to_owned()))
    }
}
