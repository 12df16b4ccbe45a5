//! Finds the principal of the Azure service itself.
//!
//! What belongs here: the look into the tenant's directory. What does not: its rights (`grant_access`).

use uuid::Uuid;

use super::spec::FindPlatformPrincipal;
use super::{Acted, Decision, Step, StepContext, StepError};
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, IdentityFact};
use crate::domain::failure::Failure;
use crate::domain::ids::{ClientId, PrincipalId};

/// The application that was asked for, and its principal if the tenant has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    application: Uuid,
    principal: Option<PrincipalId>,
}

impl Step for FindPlatformPrincipal {
    type Seen = Seen;
    type Action = std::convert::Infallible;

    fn doing(&self) -> String {
        format!("looking for the principal of {} in the tenant", self.name)
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let of_cloud = self.app_id_us_government.filter(|_| cx.azure.cloud().name == "us-government");
        let application = of_cloud.unwrap_or(self.app_id);
        Ok(Seen { application, principal: cx.azure.directory.service_principal(&cx.call, application).await? })
    }

    fn decide(&self, seen: &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        if seen.principal.is_some() {
            return Decision::Satisfied;
        }
        let message =
            format!("the tenant has no service principal of {} (application {})", self.name, seen.application);
        Decision::Refuse(Failure::new(Code::PlatformPrincipalMissing, message))
    }

    async fn act(&self, action: Self::Action, _cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        match action {}
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        facts.identity = seen.principal.map(|principal_id| IdentityFact {
            resource_id: None,
            principal_id,
            client_id: Some(ClientId(seen.application)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing;

    #[test]
    fn a_tenant_without_the_principal_is_told_so() {
        let step = FindPlatformPrincipal { name: "X".into(), app_id: Uuid::nil(), app_id_us_government: None };
        let seen = |principal| Seen { application: Uuid::nil(), principal };
        let told = |principal| testing::told(step.decide(&seen(principal), &Facts::default()));
        assert_eq!(told(Some(testing::principal())), "satisfied");
        assert_eq!(told(None), "refuse platform-principal-missing");
    }
}
