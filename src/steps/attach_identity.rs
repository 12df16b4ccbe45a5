//! Makes sure that the target has the identity.

use super::spec::AttachIdentity;
use super::{Acted, Decision, Step, StepContext, StepError};
use crate::domain::facts::Facts;

impl Step for AttachIdentity {
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
