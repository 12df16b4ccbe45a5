//! From a step's specification to its outcome.
//!
//! What belongs here: the one match that knows every step kind. What does not: how any of them works.

use super::preview::{Preview, preview as preview_of};
use super::spec::StepSpec;
use super::{StepContext, StepOutcome, drive, grant_access};
use crate::domain::facts::Facts;

/// Calls a function over any step kind with the step that the specification holds.
macro_rules! with_step {
    ($spec:expr, $function:path, $cx:expr, $facts:expr) => {
        match $spec {
            StepSpec::CheckTarget(step) => $function(step, $cx, $facts).await,
            StepSpec::EnsureResourceGroups(step) => $function(step, $cx, $facts).await,
            StepSpec::EnsureKeyStore(step) => $function(step, $cx, $facts).await,
            StepSpec::EnsureIdentity(step) => $function(step, $cx, $facts).await,
            StepSpec::FindPlatformPrincipal(step) => $function(step, $cx, $facts).await,
            StepSpec::GrantOwnAccess(grant) => $function(&grant_access::OwnGrant(grant), $cx, $facts).await,
            StepSpec::GrantIdentityAccess(grant) => $function(&grant_access::IdentityGrant(grant), $cx, $facts).await,
            StepSpec::AwaitKeyStoreAccess(step) => $function(step, $cx, $facts).await,
            StepSpec::EnsureKey(step) => $function(step, $cx, $facts).await,
            StepSpec::AttachIdentity(step) => $function(step, $cx, $facts).await,
            StepSpec::ConfigureService(step) => $function(step, $cx, $facts).await,
            StepSpec::Verify(step) => $function(step, $cx, $facts).await,
        }
    };
}

/// Runs a step once. The facts are changed only when the outcome is `Done`.
pub async fn run(spec: &StepSpec, cx: &StepContext<'_>, facts: &mut Facts) -> StepOutcome {
    with_step!(spec, drive::drive, cx, facts)
}

/// Looks what a run would begin with. The facts are changed only when the step is in place already.
pub async fn preview(spec: &StepSpec, cx: &StepContext<'_>, facts: &mut Facts) -> Preview {
    with_step!(spec, preview_of, cx, facts)
}
