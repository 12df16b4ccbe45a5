//! Grants a role on the key store: to the service itself, and to the target's identity.
//!
//! What belongs here: making and finding role assignments at the key store. What does not: waiting until the store
//! honours them, and taking any away.

use super::spec::GrantAccess;
use super::windows::Moment;
use super::{Acted, Decision, NotYet, Step, StepContext, StepError};
use crate::azure::managed_hsms::LocalGrant;
use crate::azure::role_assignments::{self, PrincipalType, RoleAssignment};
use crate::azure::{AzureError, AzureErrorKind};
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, GrantFact};
use crate::domain::failure::Failure;
use crate::domain::ids::PrincipalId;

/// The service's own grant.
pub struct OwnGrant<'a>(pub &'a GrantAccess);

/// The identity's grant.
pub struct IdentityGrant<'a>(pub &'a GrantAccess);

/// A principal and its role assignments in force at the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    holder: Holder,
    assignments: Vec<RoleAssignment>,
}

/// Who is to hold the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    id: PrincipalId,
    principal_type: PrincipalType,
}

impl Step for OwnGrant<'_> {
    type Seen = Held;
    type Action = Holder;

    fn doing(&self) -> String {
        self.0.doing("this service")
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let own = cx.azure.own_principal(&cx.call).await?;
        self.0.look(cx, Holder { id: own.id, principal_type: own.principal_type }).await
    }

    fn decide(&self, seen: &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        self.0.judge(seen)
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        self.0.grant(cx, action, "manages the key").await
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, cx: &StepContext<'_>) {
        facts.own_grant = self.0.fact(seen, cx);
    }

    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        self.0.not_yet(error.kind, &Moment::of(cx))
    }
}

impl Step for IdentityGrant<'_> {
    type Seen = Held;
    type Action = Holder;

    fn doing(&self) -> String {
        self.0.doing("the target's identity")
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let id = cx.identity()?.principal_id;
        self.0.look(cx, Holder { id, principal_type: PrincipalType::ServicePrincipal }).await
    }

    fn decide(&self, seen: &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        self.0.judge(seen)
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        self.0.grant(cx, action, "uses the key for encryption at rest").await
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, cx: &StepContext<'_>) {
        facts.identity_grant = self.0.fact(seen, cx);
    }

    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        self.0.not_yet(error.kind, &Moment::of(cx))
    }
}

impl GrantAccess {
    fn doing(&self, who: &str) -> String {
        format!("granting {who} the role {} on {}", self.role.name, self.store.name())
    }

    async fn look(&self, cx: &StepContext<'_>, holder: Holder) -> Result<Held, StepError> {
        let assignments = match &self.local_scope {
            Some(scope) => {
                let uri = &cx.key_store()?.uri;
                cx.azure.local_roles.list_for_principal(&cx.call, uri, scope, holder.id).await?
            }
            None => role_assignments::list_for_principal(&cx.azure.arm, &cx.call, &self.store, holder.id).await?,
        };
        Ok(Held { holder, assignments })
    }

    /// The assignment that suffices. One under a condition is not counted on: what the condition leaves is not known.
    fn sufficient<'h>(&self, held: &'h Held) -> Option<&'h RoleAssignment> {
        held.assignments.iter().find(|a| {
            let fits = a.role == self.role.id || self.or_roles.iter().any(|r| r.id == a.role);
            fits && !a.conditional && a.principal_id == held.holder.id
        })
    }

    fn judge(&self, held: &Held) -> Decision<Holder> {
        if self.sufficient(held).is_some() {
            return Decision::Satisfied;
        }
        // A second assignment of the same role at the same scope is not possible, and changing the first would widen it.
        let same = |a: &&RoleAssignment| a.role == self.role.id && a.scope.eq_ignore_ascii_case(self.store.as_str());
        if held.assignments.iter().any(|a| same(&a) && a.conditional && a.principal_id == held.holder.id) {
            let message = format!(
                "the principal {} holds the role {} on {} under a condition",
                held.holder.id,
                self.role.name,
                self.store.name()
            );
            return Decision::Refuse(Failure::new(Code::AzureConflict, message));
        }
        if self.only_look {
            let message = format!("this service does not hold the role {} on {}", self.role.name, self.store.name());
            return Decision::Refuse(Failure::new(Code::OwnAccessMissing, message));
        }
        Decision::Act(held.holder)
    }

    /// The answer stands for a look, because the list may not show a fresh assignment for a while.
    async fn grant(&self, cx: &StepContext<'_>, holder: Holder, why: &str) -> Result<Acted<Held>, StepError> {
        let (arm, call, description) = (&cx.azure.arm, &cx.call, format!("{why} (cmk job {})", cx.job_id));
        let (id, role) = (holder.id, self.role.id);
        let made = match &self.local_scope {
            Some(scope) => {
                let store_uri = &cx.key_store()?.uri;
                cx.azure.local_roles.create(call, LocalGrant { store_uri, scope, principal: id, role }).await
            }
            None => {
                role_assignments::create(arm, call, &self.store, id, holder.principal_type, role, &description).await
            }
        };
        match made {
            Ok(assignment) => Ok(Acted::Seen(Held { holder, assignments: vec![assignment] })),
            Err(error) if error.kind == AzureErrorKind::RoleAssignmentExists => {
                let held = self.look(cx, holder).await?;
                match self.judge(&held) {
                    Decision::Act(_) => Err(error.into()),
                    _ => Ok(Acted::Seen(held)),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn fact(&self, held: &Held, cx: &StepContext<'_>) -> Option<GrantFact> {
        self.sufficient(held).map(|assignment| GrantFact {
            assignment_id: assignment.id.clone(),
            principal_id: assignment.principal_id,
            seen_at: cx.now(),
        })
    }

    fn not_yet(&self, kind: AzureErrorKind, moment: &Moment) -> Option<NotYet> {
        match kind {
            AzureErrorKind::PrincipalNotFound => {
                let text =
                    format!("The principal to be granted access to {} is not known everywhere yet", self.store.name());
                Some(moment.directory(text))
            }
            // The assignment exists and the list does not show it.
            AzureErrorKind::RoleAssignmentExists => {
                let text = format!("The role assignment on {} exists and cannot be read yet", self.store.name());
                Some(moment.read_lag(text))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{CRYPTO_OFFICER, CRYPTO_SERVICE_ENCRYPTION_USER, KEY_VAULT_ADMINISTRATOR, Role};
    use crate::steps::testing;
    use uuid::Uuid;

    fn grant() -> GrantAccess {
        GrantAccess {
            store: testing::store(),
            role: CRYPTO_OFFICER,
            or_roles: vec![KEY_VAULT_ADMINISTRATOR],
            only_look: false,
            local_scope: None,
        }
    }

    fn assignment(role: &Role, scope: &str, conditional: bool) -> RoleAssignment {
        RoleAssignment {
            id: "a".into(),
            role: role.id,
            principal_id: testing::principal(),
            scope: scope.to_owned(),
            conditional,
        }
    }

    fn held(assignments: Vec<RoleAssignment>) -> Held {
        let holder = Holder { id: testing::principal(), principal_type: PrincipalType::ServicePrincipal };
        Held { holder, assignments }
    }

    #[test]
    fn one_sufficient_unconditional_assignment_is_enough() {
        let store = testing::store();
        let (here, above) = (store.as_str().to_uppercase(), format!("/subscriptions/{}", store.subscription()));
        let mut foreign = assignment(&CRYPTO_OFFICER, &here, false);
        foreign.principal_id = PrincipalId(Uuid::from_u128(99));
        let table = [
            (vec![], "act"),
            (vec![assignment(&CRYPTO_OFFICER, &here, false)], "satisfied"),
            (vec![assignment(&CRYPTO_OFFICER, &above, false)], "satisfied"),
            (vec![assignment(&KEY_VAULT_ADMINISTRATOR, &above, false)], "satisfied"),
            (vec![assignment(&CRYPTO_SERVICE_ENCRYPTION_USER, &here, false)], "act"),
            (vec![assignment(&CRYPTO_OFFICER, &above, true)], "act"),
            (vec![assignment(&CRYPTO_OFFICER, &here, true)], "refuse azure-conflict"),
            (
                vec![assignment(&CRYPTO_OFFICER, &here, true), assignment(&KEY_VAULT_ADMINISTRATOR, &here, false)],
                "satisfied",
            ),
            (vec![foreign], "act"),
        ];
        for (assignments, want) in table {
            assert_eq!(testing::told(grant().judge(&held(assignments.clone()))), want, "{assignments:?}");
        }
    }

    #[test]
    fn an_unknown_principal_and_an_unseen_assignment_are_waited_for() {
        let moment = Moment { now: testing::NOW, waiting_since: None, granted_at: None, store_created: false };
        let code = |kind| grant().not_yet(kind, &moment).map(|n| (n.reason.code, n.until - n.since));
        let minutes = time::Duration::minutes;
        assert_eq!(code(AzureErrorKind::PrincipalNotFound), Some(("directory-replication".to_owned(), minutes(10))));
        assert_eq!(code(AzureErrorKind::RoleAssignmentExists), Some(("read-lag".to_owned(), minutes(2))));
        assert_eq!(code(AzureErrorKind::Forbidden), None);
    }
}
