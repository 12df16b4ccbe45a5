//! Makes sure that the target has the identity, beside those it has already.
//!
//! What belongs here: the target's list of identities, and the first write of a target that is created with its own identity
//! and gets its key in a second write. What does not: which identity it uses for its key (`configure_service`).

use serde_json::Value;

use super::binding::{self, acted, bound_identity, busy, descriptor, holder_elsewhere, late, not_found, under_key};
use super::ensure_key_store::JOB_TAG;
use super::spec::{AttachIdentity, CreateWithoutKey};
use super::windows::Moment;
use super::{Acted, Decision, NotYet, Step, StepContext, StepError, WaitReason};
use crate::azure::{AzureError, AzureErrorKind, resources};
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, IdentityFact};
use crate::domain::failure::Failure;
use crate::domain::request::IdentityKind;
use crate::services::{BoundIdentity, Method, ResourceState, ServiceDescriptor, has_identity};

/// What a look at the identity's holder finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The holder.
    holder: binding::Seen,
    /// Whether a policy has just denied it the identity without the key. The key's own write then brings both.
    left_to_the_key: bool,
}

/// One change of the identity's holder.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Attach the identity.
    Attach {
        /// The body.
        body: Value,
        /// The etag of what is replaced, where only that may be.
        etag: Option<String>,
    },
    /// Create the target with the identity.
    Create(Value),
}

impl Step for AttachIdentity {
    type Seen = Seen;
    type Action = Change;

    fn doing(&self) -> String {
        match self.create {
            Some(_) => format!("creating {} with its own identity", self.target.name()),
            None => format!("attaching the identity to {}", self.target.name()),
        }
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let holder = binding::look_at_holder(cx, &self.service, &self.target).await?;
        Ok(Seen { holder, left_to_the_key: false })
    }

    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action> {
        let found = descriptor(&self.service).and_then(|d| Ok((d, bound_identity(self.identity_kind, facts)?)));
        let (descriptor, identity) = match found {
            Ok(found) => found,
            Err(failure) => return Decision::Refuse(failure),
        };
        if seen.left_to_the_key {
            return Decision::Satisfied;
        }
        let seen = &seen.holder;
        let Some(holder) = &seen.target else { return self.judge_absent(seen, descriptor) };
        if let Some(create) = &self.create
            && !seen.ours
            && !create.is_under_key(descriptor, holder)
        {
            let name = self.target.name();
            let message = format!("{name} exists and does not use the key {}", create.key_name);
            return Decision::Refuse(Failure::new(Code::TargetExists, message));
        }
        if has_identity(holder, &identity, descriptor) && self.is_primary(descriptor, holder, &identity) {
            if identity == BoundIdentity::SystemAssigned && descriptor.principal_of(holder).is_none() {
                let text = format!("{} has its own identity, but does not say yet which", self.target.name());
                return Decision::Wait(WaitReason::new("read-lag", text));
            }
            return Decision::Satisfied;
        }
        if descriptor.read_back.state.of(holder) == ResourceState::Busy {
            return Decision::Wait(busy(&self.target, seen.changed));
        }
        if seen.just_changed {
            return Decision::Wait(late(&self.target));
        }
        if descriptor.identities.leave_no_place(holder, &identity) {
            return Decision::Refuse(binding::identity_in_the_way(descriptor, &self.target));
        }
        let body = descriptor.attach_body(&identity, &self.target, holder);
        Decision::Act(Change::Attach { body, etag: descriptor.if_match(descriptor.attach.method, holder) })
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        let descriptor = descriptor(&self.service)?;
        let holder = holder_elsewhere(descriptor, &self.target)?.unwrap_or_else(|| self.target.clone());
        let (arm, call, version) = (&cx.azure.arm, &cx.call, &descriptor.api_version);
        let answer = match (action, descriptor.attach.method) {
            (Change::Attach { body, .. }, Method::Patch) => resources::patch(arm, call, &holder, version, &body).await,
            (Change::Attach { body, etag }, Method::Put | Method::MergePut) => {
                resources::put(arm, call, &holder, version, &body, etag.as_deref()).await
            }
            (Change::Create(mut body), _) => {
                body["tags"][JOB_TAG] = cx.job_id.to_string().into();
                resources::put(arm, call, &self.target, version, &body, None).await
            }
        };
        let looked = |holder| Seen { holder, left_to_the_key: false };
        match answer {
            Ok(answer) => Ok(acted(answer, true, cx.job_id).map(looked)),
            // A policy that asks for the key looks at the resource as the write would leave it: with the identity, and still
            // without the key. In one write with the key there is nothing to deny.
            Err(error) if error.kind == AzureErrorKind::PolicyDenied && self.comes_with_the_key(descriptor) => {
                let holder = binding::look_at_holder(cx, &self.service, &self.target).await?;
                Ok(Acted::Seen(Seen { holder, left_to_the_key: true }))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        let told = descriptor(&self.service).ok().zip(seen.holder.target.as_ref());
        if self.identity_kind == IdentityKind::SystemAssigned {
            let principal_id = told.and_then(|(descriptor, holder)| descriptor.principal_of(holder));
            facts.identity =
                principal_id.map(|principal_id| IdentityFact { resource_id: None, principal_id, client_id: None });
        }
    }

    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        binding::identity_lag(error, &Moment::of(cx), &self.target)
    }
}

impl AttachIdentity {
    /// Whether the write of the key carries the identity too. The target's own has to be known before its grant.
    fn comes_with_the_key(&self, descriptor: &ServiceDescriptor) -> bool {
        self.identity_kind == IdentityKind::UserAssigned && descriptor.key_brings_identity()
    }

    fn judge_absent(&self, seen: &binding::Seen, descriptor: &ServiceDescriptor) -> Decision<Change> {
        let body = self.create.as_ref().map(|c| descriptor.create_body_without_key(&self.target, &c.target));
        match body {
            Some(_) if seen.just_changed => Decision::Wait(late(&self.target)),
            Some(Some(body)) => Decision::Act(Change::Create(body)),
            Some(None) | None => {
                let id = descriptor.identity_holder(&self.target);
                Decision::Refuse(not_found(&id.unwrap_or_else(|| self.target.clone())))
            }
        }
    }

    /// Whether the holder uses the identity by default, where the type has such a setting.
    fn is_primary(&self, descriptor: &ServiceDescriptor, holder: &Value, identity: &BoundIdentity) -> bool {
        let (Some(pointer), BoundIdentity::UserAssigned { id, .. }) = (&descriptor.attach.primary, identity) else {
            return true;
        };
        holder.pointer(pointer).and_then(Value::as_str).is_some_and(|found| found.eq_ignore_ascii_case(id.as_str()))
    }
}

impl CreateWithoutKey {
    /// Whether a target that exists is under the key: an earlier run of the request made it.
    fn is_under_key(&self, descriptor: &ServiceDescriptor, target: &Value) -> bool {
        under_key(&descriptor.read_back.read(target), &self.store, &self.key_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing;
    use serde_json::json;
    use uuid::Uuid;

    fn step(identity_kind: IdentityKind) -> AttachIdentity {
        AttachIdentity { service: "storage-account".into(), target: testing::target(), identity_kind, create: None }
    }

    fn looked(holder: binding::Seen) -> Seen {
        Seen { holder, left_to_the_key: false }
    }

    fn with(seen: Seen, change: impl FnOnce(&mut binding::Seen)) -> Seen {
        let mut holder = seen.holder;
        change(&mut holder);
        looked(holder)
    }

    fn target(state: &str, identity: Value) -> Seen {
        let mut account = testing::account(state, None);
        account["identity"] = identity;
        looked(binding::Seen {
            target: Some(account),
            changed: false,
            just_changed: false,
            changes: 0,
            made: 0,
            ours: false,
        })
    }

    #[test]
    fn an_identity_is_added_where_it_is_missing() {
        let users = json!({"type": "UserAssigned", "userAssignedIdentities": {testing::identity().normal(): {}}});
        let own = json!({"type": "SystemAssigned", "principalId": Uuid::nil().to_string()});
        let unnamed = json!({"type": "SystemAssigned"});
        use IdentityKind::{Platform, SystemAssigned, UserAssigned};
        let table = [
            (UserAssigned, with(target("", Value::Null), |s| s.target = None), "refuse target-not-found"),
            (UserAssigned, with(target("Updating", Value::Null), |s| s.changed = true), "wait azure-operation"),
            (UserAssigned, with(target("Succeeded", Value::Null), |s| s.just_changed = true), "wait read-lag"),
            (UserAssigned, target("Succeeded", users.clone()), "satisfied"),
            (UserAssigned, target("Updating", users.clone()), "satisfied"),
            (UserAssigned, target("Succeeded", own.clone()), "act"),
            (UserAssigned, target("Updating", own.clone()), "wait resource-busy"),
            (UserAssigned, target("Succeeded", Value::Null), "act"),
            (SystemAssigned, target("Succeeded", own), "satisfied"),
            (SystemAssigned, target("Succeeded", unnamed), "wait read-lag"),
            (SystemAssigned, target("Succeeded", users), "act"),
            (Platform, target("Succeeded", Value::Null), "satisfied"),
            (UserAssigned, Seen { left_to_the_key: true, ..target("Succeeded", Value::Null) }, "satisfied"),
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
        let step =
            AttachIdentity { service: "online-experimentation-workspace".into(), ..step(IdentityKind::UserAssigned) };
        let Decision::Act(Change::Attach { body, etag: None }) = step.decide(&seen, &testing::facts()) else {
            panic!("the identity is missing");
        };
        let want = json!({"identity": {"type": "SystemAssigned,UserAssigned",
            "userAssignedIdentities": {other.as_str(): {}, testing::identity().as_str(): {}}}});
        assert_eq!(body, want);
    }
}
