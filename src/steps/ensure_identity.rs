//! Makes sure that the user-assigned identity exists.
//!
//! What belongs here: the identity as a resource. What does not: its rights (`grant_access`) and its place on the target
//! (`attach_identity`).

use std::collections::BTreeMap;

use super::context::missing;
use super::spec::EnsureIdentity;
use super::{Acted, Decision, Step, StepContext, StepError};
use crate::azure::identities::{self, Identity};
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, IdentityFact};
use crate::domain::failure::Failure;

/// An identity to create in a region.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateIdentity {
    location: String,
}

impl Step for EnsureIdentity {
    type Seen = Option<Identity>;
    type Action = CreateIdentity;

    fn doing(&self) -> String {
        format!("ensuring the identity {}", self.identity.name())
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        Ok(identities::get(&cx.azure.arm, &cx.call, &self.identity).await?)
    }

    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action> {
        if seen.is_some() {
            return Decision::Satisfied;
        }
        if !self.create {
            let message = format!("{} does not exist", self.identity.as_str());
            return Decision::Refuse(Failure::new(Code::IdentityNotFound, message));
        }
        let location = self.location.clone().or_else(|| facts.target.as_ref().map(|t| t.location.clone()));
        match location {
            Some(location) => Decision::Act(CreateIdentity { location }),
            None => Decision::Refuse(missing("target's location")),
        }
    }

    /// The answer holds both ids, so a look that would not find the fresh identity yet is not needed.
    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        let (arm, location) = (&cx.azure.arm, &action.location);
        let made = identities::create(arm, &cx.call, &self.identity, location, &BTreeMap::new()).await?;
        Ok(Acted::Seen(Some(made)))
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        facts.identity = seen.as_ref().map(|found| IdentityFact {
            resource_id: Some(self.identity.clone()),
            principal_id: found.principal_id,
            client_id: Some(found.client_id),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ClientId;
    use crate::steps::testing;
    use uuid::Uuid;

    fn step(create: bool, location: Option<&str>) -> EnsureIdentity {
        EnsureIdentity { identity: testing::identity(), create, location: location.map(str::to_owned) }
    }

    #[test]
    fn a_missing_identity_is_created_where_that_is_allowed() {
        let found = Identity {
            principal_id: testing::principal(),
            client_id: ClientId(Uuid::nil()),
            tenant_id: Uuid::nil(),
            location: "uksouth".into(),
        };
        let facts = testing::facts();
        assert_eq!(step(false, None).decide(&Some(found), &facts), Decision::Satisfied);
        assert_eq!(testing::told(step(false, None).decide(&None, &facts)), "refuse identity-not-found");
        let at = |location: &str| Decision::Act(CreateIdentity { location: location.into() });
        assert_eq!(step(true, Some("ukwest")).decide(&None, &facts), at("ukwest"));
        assert_eq!(step(true, None).decide(&None, &facts), at("uksouth"));
        assert_eq!(testing::told(step(true, None).decide(&None, &Facts::default())), "refuse step-defect");
    }
}
