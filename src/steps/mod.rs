//! How one thing is made true: observe, decide, act, observe again.
//!
//! What belongs here: the step kinds, one file each, and the loop that drives them. What does not: order and storage of
//! steps (`plan`, `store`), and when to run them (`engine`).
//!
//! A step kind is a type with three parts. `observe` only reads: "not found" is an answer, "forbidden" an error with a
//! class. `decide` is pure and says what follows from what was seen. `act` makes one change. Because every run starts
//! by looking, a step can be run any number of times, after any crash, and changes nothing more than is missing.

pub mod context;
pub mod drive;
pub mod spec;

mod binding;
mod preview;
mod proposed;
mod run;
mod windows;

mod attach_identity;
mod await_key_store_access;
mod check_target;
mod configure_service;
mod ensure_identity;
mod ensure_key;
mod ensure_key_store;
mod ensure_resource_groups;
mod find_platform_principal;
mod grant_access;
mod verify;

#[cfg(test)]
mod drive_tests;
#[cfg(test)]
mod ensure_key_store_tests;
#[cfg(test)]
mod ensure_key_tests;
#[cfg(test)]
mod testing;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::azure::{AzureError, Operation};
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;

pub use context::{ActGate, StepContext, Stop};
pub use preview::Preview;
pub use proposed::{Proposed, foreseen, proposed};
pub use run::{preview, run};
pub use spec::StepSpec;

/// One kind of step. `Seen` is what a look finds, `Action` one possible change.
pub trait Step {
    /// What a look finds.
    type Seen: Send;
    /// One possible change.
    type Action: Send;

    /// What the step is doing, as a clause with -ing for messages: "creating the vault kv-1".
    fn doing(&self) -> String;

    /// Looks, and changes nothing.
    fn observe(&self, cx: &StepContext<'_>) -> impl Future<Output = Result<Self::Seen, StepError>> + Send;

    /// What follows from what was seen.
    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action>;

    /// Makes one change.
    fn act(
        &self,
        action: Self::Action,
        cx: &StepContext<'_>,
    ) -> impl Future<Output = Result<Acted<Self::Seen>, StepError>> + Send;

    /// Writes what a satisfied look taught. Each fact has one writer.
    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, cx: &StepContext<'_>);

    /// Whether an error means "not yet", and until when it may. The default is: it does not.
    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        let _ = (error, cx);
        None
    }
}

/// What follows from what was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<A> {
    /// It is true.
    Satisfied,
    /// One change is missing.
    Act(A),
    /// It is on its way: look again.
    Wait(WaitReason),
    /// It can never become true by waiting or acting.
    Refuse(Failure),
}

/// What a change led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Acted<S> {
    /// Azure has done it: look again.
    Done,
    /// Azure has done it and its answer is as good as a look.
    Seen(S),
    /// Azure works on it.
    Accepted {
        /// Where to ask, if Azure said so.
        operation: Option<Operation>,
        /// How long Azure asks to wait first.
        retry_after: Option<Duration>,
    },
}

impl<S> Acted<S> {
    /// The same with another view of what Azure answered.
    pub fn map<T>(self, view: impl FnOnce(S) -> T) -> Acted<T> {
        match self {
            Self::Done => Acted::Done,
            Self::Seen(seen) => Acted::Seen(view(seen)),
            Self::Accepted { operation, retry_after } => Acted::Accepted { operation, retry_after },
        }
    }
}

/// Why a call of a step went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StepError {
    /// Azure's answer, or the lack of one.
    #[error(transparent)]
    Azure(#[from] AzureError),
    /// Already a failure in public words.
    #[error("{0}")]
    Failed(Failure),
}

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// An error that means "not yet".
#[derive(Clone, Debug, PartialEq)]
pub struct NotYet {
    /// Why the step waits.
    pub reason: WaitReason,
    /// When the waiting began: the delays grow from here.
    pub since: OffsetDateTime,
    /// When it ends in failure.
    pub until: OffsetDateTime,
    /// The failure's code then.
    pub code: Code,
}

/// Why a job waits. The code is stable, the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitReason {
    /// Kebab-case, one of [`WAIT_CODES`].
    pub code: String,
    /// One sentence.
    pub text: String,
}

impl WaitReason {
    /// A reason.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into() }
    }

    /// What a step waits for that waits for this now and for `earlier` before. A limit of Azure only puts off the next
    /// look: what it waited for stays what it waits for, and since when.
    #[must_use]
    pub fn after(self, earlier: Option<&Self>) -> Self {
        match earlier {
            Some(earlier) if self.code == RATE_LIMIT => earlier.clone(),
            _ => self,
        }
    }

    /// Whether the next run of the step looks if something has arrived, rather than goes on with its work.
    pub fn is_for_an_arrival(&self) -> bool {
        ![RATE_LIMIT, "retry"].contains(&self.code.as_str())
    }
}

/// The reason of a step whose call would have waited too long for its share of Azure's limits.
pub const RATE_LIMIT: &str = "rate-limit";

/// Every reason to wait.
pub const WAIT_CODES: &[&str] = &[
    "access-propagation",
    "azure-operation",
    "resource-busy",
    "dns-propagation",
    "read-lag",
    "directory-replication",
    RATE_LIMIT,
    "retry",
];

/// What a step remembers between turns beside its facts: that Azure accepted a change, and may still work on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The operation, if Azure said where to ask. A hint: the resource's own state is the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// When Azure accepted the change.
    #[serde(with = "time::serde::rfc3339")]
    pub accepted_at: OffsetDateTime,
    /// How many changes Azure has accepted for this step so far.
    #[serde(default)]
    pub changes: u32,
}

/// How one run of a step ended.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// It is true.
    Done {
        /// Whether this job changed something for it.
        changed: bool,
    },
    /// It is on its way; no attempt is used.
    Wait {
        /// When to look again.
        after: Duration,
        /// Why.
        reason: WaitReason,
        /// What to remember.
        progress: Option<Progress>,
    },
    /// A transient error; an attempt is used.
    Retry {
        /// The error.
        failure: Failure,
        /// Azure's `Retry-After`.
        retry_after: Option<Duration>,
        /// What to remember.
        progress: Option<Progress>,
    },
    /// It cannot become true.
    Failed(Failure),
    /// The right to go on was lost or taken right before a change; nothing was changed.
    Stopped(Stop),
}
