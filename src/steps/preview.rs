//! What a step would find and do now, without doing it.
//!
//! What belongs here: looking and deciding, as a run of the step begins. What does not: which steps a plan has and what
//! their findings mean together (`survey`).

use super::{Decision, Step, StepContext, StepError, WaitReason};
use crate::azure::AzureErrorKind;
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;

/// What a run of a step would begin with.
#[derive(Clone, Debug, PartialEq)]
pub enum Preview {
    /// It is true already.
    InPlace,
    /// It would change something.
    WouldChange,
    /// It would wait.
    WouldWait(WaitReason),
    /// What was seen refuses it: waiting does not help.
    Refused(Failure),
    /// Azure refused the look.
    NotAllowed(Failure),
    /// The look came to nothing: Azure could not be reached, or had no time.
    NotSeen(Failure),
    /// It needs what an earlier step has still to make.
    NeedsEarlier,
}

/// Looks and decides. The facts are changed only when it is in place already.
pub(super) async fn preview<S: Step + Sync>(step: &S, cx: &StepContext<'_>, facts: &mut Facts) -> Preview {
    let seen = match step.observe(cx).await {
        Ok(seen) => seen,
        Err(StepError::Failed(failure)) => return refused(failure),
        Err(StepError::Azure(error)) => {
            if let Some(not_yet) = step.not_yet(&error, cx) {
                return Preview::WouldWait(not_yet.reason);
            }
            let failure = error.to_failure(&step.doing());
            return match error.is_transient() || error.kind == AzureErrorKind::RateLimited {
                true => Preview::NotSeen(failure),
                false => Preview::NotAllowed(failure),
            };
        }
    };
    match step.decide(&seen, cx.facts) {
        Decision::Satisfied => {
            step.learn(&seen, facts, cx);
            Preview::InPlace
        }
        Decision::Act(_) => Preview::WouldChange,
        Decision::Wait(reason) => Preview::WouldWait(reason),
        Decision::Refuse(failure) => refused(failure),
    }
}

/// A step that is run before what it needs was learned says that the plan is in the wrong order; here it only means that
/// nothing has been made yet.
fn refused(failure: Failure) -> Preview {
    if failure.code == Code::StepDefect { Preview::NeedsEarlier } else { Preview::Refused(failure) }
}
