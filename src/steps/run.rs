//! From a step's specification to its outcome.
//!
//! What belongs here: the one match that knows every step kind. What does not: how any of them works.

use super::spec::StepSpec;
use super::{StepContext, StepOutcome, drive, grant_access};
use crate::domain::facts::Facts;

/// Runs a step once. The facts are changed only when the outcome is `Done`.
pub async fn run(spec: &StepSpec, cx: &StepContext<'_>, facts: &mut Facts) -> StepOutcome {
    match spec {
        StepSpec::CheckTarget(step) => drive::drive(step, cx, facts).await,
        StepSpec::EnsureResourceGroups(step) => drive::drive(step, cx, facts).await,
        StepSpec::EnsureKeyStore(step) => drive::drive(step, cx, facts).await,
        StepSpec::EnsureIdentity(step) => drive::drive(step, cx, facts).await,
        StepSpec::FindPlatformPrincipal(step) => drive::drive(step, cx, facts).await,
        StepSpec::GrantOwnAccess(grant) => drive::drive(&grant_access::OwnGrant(grant), cx, facts).await,
        StepSpec::GrantIdentityAccess(grant) => drive::drive(&grant_access::IdentityGrant(grant), cx, facts).await,
        StepSpec::AwaitKeyStoreAccess(step) => drive::drive(step, cx, facts).await,
        StepSpec::EnsureKey(step) => drive::drive(step, cx, facts).await,
        StepSpec::AttachIdentity(step) => drive::drive(step, cx, facts).await,
        StepSpec::ConfigureService(step) => drive::drive(step, cx, facts).await,
        StepSpec::Verify(step) => drive::drive(step, cx, facts).await,
    }
}
