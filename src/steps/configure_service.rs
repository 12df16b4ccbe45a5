//! Makes sure that the target uses the key.

use super::spec::ConfigureService;
use super::{Acted, Decision, Step, StepContext, StepError};
use crate::domain::facts::Facts;

impl Step for ConfigureService {
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
