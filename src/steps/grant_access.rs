//! Grants a role on the key store.

use super::spec::GrantAccess;
use super::{Acted, Decision, Step, StepContext, StepError};
use crate::domain::facts::Facts;

/// The service's own grant.
pub struct OwnGrant<'a>(pub &'a GrantAccess);

/// The identity's grant.
pub struct IdentityGrant<'a>(pub &'a GrantAccess);

impl Step for OwnGrant<'_> {
    type Seen = ();
    type Action = std::convert::Infallible;

    fn doing(&self) -> String {
        todo!()
    }

    async fn observe(&self, _cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        todo!()
    }

    fn decide(&self, _seen: &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        todo!()
    }

    async fn act(&self, action: Self::Action, _cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        match action {}
    }

    fn learn(&self, _seen: &Self::Seen, _facts: &mut Facts, _cx: &StepContext<'_>) {}
}

impl Step for IdentityGrant<'_> {
    type Seen = ();
    type Action = std::convert::Infallible;

    fn doing(&self) -> String {
        todo!()
    }

    async fn observe(&self, _cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        todo!()
    }

    fn decide(&self, _seen: &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        todo!()
    }

    async fn act(&self, action: Self::Action, _cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        match action {}
    }

    fn learn(&self, _seen: &Self::Seen, _facts: &mut Facts, _cx: &StepContext<'_>) {}
}
