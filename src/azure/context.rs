//! What every call to Azure carries besides its content: correlation, client request id, trace context; and its span.
//!
//! What belongs here: headers and tracing common to all calls. What does not: authentication and retries.

use uuid::Uuid;

/// What a call is made for. Cheap to clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallContext {
    /// Sent as `x-ms-correlation-request-id`: the same for all calls of one job, so Azure's activity log groups them.
    pub correlation_id: Uuid,
}

impl CallContext {
    /// A context for calls that belong together under `correlation_id` (the job's id).
    pub fn new(correlation_id: Uuid) -> Self {
        Self { correlation_id }
    }
}
