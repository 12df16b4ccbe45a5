//! What a step may use while it runs.
//!
//! What belongs here: the clients, the clock, what earlier steps learned, and the gate before every change. What does
//! not: the job's row and anything that could be used to write it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use time::OffsetDateTime;

use super::{Progress, StepError};
use crate::azure::{Azure, CallContext};
use crate::clock::Clock;
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, IdentityFact, KeyStoreFact};
use crate::domain::failure::Failure;
use crate::domain::ids::JobId;

/// Why a step may not change anything any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Somebody asked to cancel the job.
    Cancelled,
    /// The worker's lease ended or another worker has the job.
    LeaseLost,
    /// The worker shuts down, or could not ask for its lease: the job goes on later.
    Released,
}

/// Asked right before every change to Azure.
pub trait ActGate: Send + Sync {
    /// Whether the worker still holds the job, with enough of its lease left for one call, and nobody cancelled it.
    fn may_act<'a>(&'a self) -> Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>>;

    /// Called when a change was answered, well or badly, and before anything is recorded.
    fn acted<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// What a step may use while it runs.
pub struct StepContext<'a> {
    /// The clients.
    pub azure: &'a Azure,
    /// Correlation of this job's calls.
    pub call: CallContext,
    /// The clock.
    pub clock: &'a Clock,
    /// The job.
    pub job_id: JobId,
    /// What earlier steps learned.
    pub facts: &'a Facts,
    /// When this step began to wait for what it waits for, if it waits. A new reason to wait begins anew.
    pub waiting_since: Option<OffsetDateTime>,
    /// What this step remembers.
    pub progress: Option<&'a Progress>,
    /// The gate before every change.
    pub gate: &'a dyn ActGate,
}

impl StepContext<'_> {
    /// The time.
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// The key store, which an earlier step found or made.
    pub(super) fn key_store(&self) -> Result<&KeyStoreFact, StepError> {
        self.facts.key_store.as_ref().ok_or_else(|| missing("key store").into())
    }

    /// The target's identity, which an earlier step found or made.
    pub(super) fn identity(&self) -> Result<&IdentityFact, StepError> {
        self.facts.identity.as_ref().ok_or_else(|| missing("identity").into())
    }

    /// Whether this step changed something less than `limit` ago: what it made may not be readable yet.
    pub(super) fn changed_within(&self, limit: Duration) -> bool {
        self.progress.is_some_and(|p| self.now() - p.accepted_at < limit)
    }

    /// How long this step has been waiting.
    pub(super) fn waited(&self) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| Duration::try_from(self.now() - since).unwrap_or_default())
    }
}

/// A plan whose steps are in the wrong order: a step needs what none has learned.
pub(super) fn missing(what: &str) -> Failure {
    Failure::new(Code::StepDefect, format!("no earlier step has learned the {what}"))
}
