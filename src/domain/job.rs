//! The states of jobs and steps and the transitions between them.
//!
//! What belongs here: the closed sets and which state may follow which, as pure functions. The same rules stand as
//! CHECK constraints in `migrations/`. What does not: how a transition is stored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a job is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Put a target under a customer-managed key and prove it.
    #[default]
    Provision,
}

impl JobKind {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Provision];

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
        }
    }
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Accepted; no worker has it yet.
    Queued,
    /// A worker holds a lease on it.
    Running,
    /// Nothing to do until the next look; costs no worker.
    Waiting,
    /// Everything is true and was proved by reading it back.
    Succeeded,
    /// It could not go on; the failure says why. `retry` goes on from what exists.
    Failed,
    /// Stopped at a safe point because somebody asked.
    Cancelled,
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobChange {
    /// A worker takes it, or takes it over from one whose lease ended.
    Claim,
    /// It waits for something, or for the next attempt.
    Wait,
    /// The worker gives it back without having waited for anything: drain, or its turn's budget is spent.
    Release,
    /// All steps are done.
    Succeed,
    /// A step failed for good.
    Fail,
    /// Somebody asked to stop it and it is at a safe point.
    Cancel,
    /// Somebody asked for another try.
    Retry,
}

impl JobState {
    /// Every state.
    pub const ALL: &[Self] =
        &[Self::Queued, Self::Running, Self::Waiting, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of this wire form.
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.as_str() == text)
    }

    /// Whether nothing happens any more unless somebody asks for a retry.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The state after `change`, or `None` where the change is not legal.
    pub const fn after(self, change: JobChange) -> Option<Self> {
        match (self, change) {
            (Self::Queued | Self::Waiting | Self::Running, JobChange::Claim) => Some(Self::Running),
            (Self::Running, JobChange::Wait) => Some(Self::Waiting),
            (Self::Running, JobChange::Release) => Some(Self::Queued),
            (Self::Running, JobChange::Succeed) => Some(Self::Succeeded),
            (Self::Running, JobChange::Fail) => Some(Self::Failed),
            (Self::Queued | Self::Waiting | Self::Running, JobChange::Cancel) => Some(Self::Cancelled),
            (Self::Failed, JobChange::Retry) => Some(Self::Queued),
            _ => None,
        }
    }
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// A worker is at it.
    Running,
    /// It waits for something to become true, or for the next attempt.
    Waiting,
    /// It was made true.
    Done,
    /// It was true already; nothing was changed.
    Satisfied,
    /// It failed for good.
    Failed,
}

impl StepState {
    /// Every state.
    pub const ALL: &[Self] = &[Self::Pending, Self::Running, Self::Waiting, Self::Done, Self::Satisfied, Self::Failed];

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Satisfied => "satisfied",
            Self::Failed => "failed",
        }
    }

    /// The state of this wire form.
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.as_str() == text)
    }

    /// Whether the step needs nothing more.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Satisfied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [JobChange; 7] = [
        JobChange::Claim,
        JobChange::Wait,
        JobChange::Release,
        JobChange::Succeed,
        JobChange::Fail,
        JobChange::Cancel,
        JobChange::Retry,
    ];

    #[test]
    fn every_pair_of_state_and_change_is_decided() {
        use JobState::*;
        // Rows: states in the order of JobState::ALL. Columns: changes in the order of CHANGES.
        let table: [[Option<JobState>; 7]; 6] = [
            [Some(Running), None, None, None, None, Some(Cancelled), None],
            [Some(Running), Some(Waiting), Some(Queued), Some(Succeeded), Some(Failed), Some(Cancelled), None],
            [Some(Running), None, None, None, None, Some(Cancelled), None],
            [None; 7],
            [None, None, None, None, None, None, Some(Queued)],
            [None; 7],
        ];
        for (state, row) in JobState::ALL.iter().zip(table) {
            for (change, want) in CHANGES.iter().zip(row) {
                assert_eq!(state.after(*change), want, "{state:?} {change:?}");
            }
        }
    }

    #[test]
    fn wire_forms_round_trip() {
        for state in JobState::ALL {
            assert_eq!(JobState::find(state.as_str()), Some(*state));
            assert_eq!(serde_json::to_value(state).ok(), Some(state.as_str().into()));
        }
        for state in StepState::ALL {
            assert_eq!(StepState::find(state.as_str()), Some(*state));
            assert_eq!(serde_json::to_value(state).ok(), Some(state.as_str().into()));
        }
    }
}
