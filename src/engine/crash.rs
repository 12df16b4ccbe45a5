//! Points at which a test may end a turn as a killed process would: nothing more is written, the lease runs out.
//!
//! What belongs here: the names of the points. What does not: any effect outside tests; a worker has no crash points
//! unless it is given some.

use std::sync::Arc;

/// Where a turn can be made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashPoint {
    /// The step has looked and is about to change something.
    BeforeAct,
    /// Azure has answered the change, and nothing is recorded yet.
    AfterAct,
    /// The step has ended and its outcome is about to be recorded.
    BeforeRecord,
}

impl CrashPoint {
    /// Every point.
    pub const ALL: &[Self] = &[Self::BeforeAct, Self::AfterAct, Self::BeforeRecord];
}

/// Decides, each time a turn of `step` passes `point`, whether it ends there.
pub type CrashPoints = Arc<dyn Fn(&str, CrashPoint) -> bool + Send + Sync>;
