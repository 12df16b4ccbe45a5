//! Makes sure that the target has the identity, beside those it has already.
//!
//! What belongs here: the target's list of identities. What does not: which of them it uses for its key
//! (`configure_service`).

use serde_json::{Value, json};

use super::binding::{self, Seen, acted, bound_identity, busy, descriptor, late, not_found};
use super::spec::AttachIdentity;
use super::windows::Moment;
use super::{Acted, Decision, NotYet, Step, StepContext, StepError, WaitReason};
use crate::azure::{AzureError, resources};
use crate::domain::facts::{Facts, IdentityFact};
use crate::domain::ids::PrincipalId;
use crate::domain::request::IdentityKind;
use crate::services::{BoundIdentity, ResourceState, has_identity, merged_identity};

impl Step for AttachIdentity {
    type Seen = Seen;
    type Action = Value;

    fn doing(&self) -> String {
        format!("attaching the identity to {}", self.target.name())
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        binding::look(cx, &self.service, &self.target).await
    }

    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action> {
        let Some(target) = &seen.target else { return Decision::Refuse(not_found(&self.target)) };
        let identity = match bound_identity(self.identity_kind, facts) {
            Ok(identity) => identity,
            Err(failure) => return Decision::Refuse(failure),
        };
        let existing = target.get("identity");
        if has_identity(existing, &identity) {
            if identity == BoundIdentity::SystemAssigned && own_principal(target).is_none() {
                let text = format!("{} has its own identity, but does not say yet which", self.target.name());
                return Decision::Wait(WaitReason::new("read-lag", text));
            }
            return Decision::Satisfied;
        }
        if ResourceState::of(target) == ResourceState::Busy {
            return Decision::Wait(busy(&self.target, seen.changed));
        }
        if seen.just_changed {
            return Decision::Wait(late(&self.target));
        }
        Decision::Act(json!({ "identity": merged_identity(existing, &identity) }))
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        let version = descriptor(&self.service)?.api_version;
        Ok(acted(resources::patch(&cx.azure.arm, &cx.call, &self.target, version, &action).await?))
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        if self.identity_kind == IdentityKind::SystemAssigned {
            let principal_id = seen.target.as_ref().and_then(own_principal);
            facts.identity =
                principal_id.map(|principal_id| IdentityFact { resource_id: None, principal_id, client_id: None });
        }
    }

    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        binding::identity_lag(error, &Moment::of(cx), &self.target)
    }
}

/// The principal of the target's own identity.
fn own_principal(target: &Value) -> Option<PrincipalId> {
    let id = target.pointer("/identity/principalId")?.as_str()?;
    id.parse().ok().map(PrincipalId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing;
    use uuid::Uuid;

    fn step(identity_kind: IdentityKind) -> AttachIdentity {
        AttachIdentity { service: "storage-account".into(), target: testing::target(), identity_kind }
    }

    fn target(state: &str, identity: Value) -> Seen {
        let mut account = testing::account(state, None);
        account["identity"] = identity;
        Seen { target: Some(account), changed: false, just_changed: false }
    }

    #[test]
    fn an_identity_is_added_where_it_is_missing() {
        let users = json!({"type": "UserAssigned", "userAssignedIdentities": {testing::identity().normal(): {}}});
        let own = json!({"type": "SystemAssigned", "principalId": Uuid::nil().to_string()});
        let unnamed = json!({"type": "SystemAssigned"});
        use IdentityKind::{Platform, SystemAssigned, UserAssigned};
        let table = [
            (UserAssigned, Seen { target: None, ..target("", Value::Null) }, "refuse target-not-found"),
            (UserAssigned, Seen { changed: true, ..target("Updating", Value::Null) }, "wait azure-operation"),
            (UserAssigned, Seen { just_changed: true, ..target("Succeeded", Value::Null) }, "wait read-lag"),
            (UserAssigned, target("Succeeded", users.clone()), "satisfied"),
            (UserAssigned, target("Updating", users.clone()), "satisfied"),
            (UserAssigned, target("Succeeded", own.clone()), "act"),
            (UserAssigned, target("Updating", own.clone()), "wait resource-busy"),
            (UserAssigned, target("Succeeded", Value::Null), "act"),
            (SystemAssigned, target("Succeeded", own), "satisfied"),
            (SystemAssigned, target("Succeeded", unnamed), "wait read-lag"),
            (SystemAssigned, target("Succeeded", users), "act"),
            (Platform, target("Succeeded", Value::Null), "refuse step-defect"),
        ];
        for (kind, seen, want) in table {
            assert_eq!(testing::told(step(kind).decide(&seen, &testing::facts())), want, "{kind:?} {seen:?}");
        }
    }

    #[test]
    fn identities_that_are_there_stay() {
        let other = testing::id("Microsoft.ManagedIdentity/userAssignedIdentities", "other");
        let seen = target(
            "Succeeded",
            json!({"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {other.as_str(): {"clientId": "c"}}}),
        );
        let Decision::Act(body) = step(IdentityKind::UserAssigned).decide(&seen, &testing::facts()) else {
            panic!("the identity is missing");
        };
        let want = json!({"identity": {"type": "SystemAssigned,UserAssigned",
            "userAssignedIdentities": {other.as_str(): {}, testing::identity().as_str(): {}}}});
        assert_eq!(body, want);
    }
}
