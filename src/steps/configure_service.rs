//! Makes sure that the target uses the key: creates it with the key, or sets the key in place.
//!
//! What belongs here: the one change that the whole plan is for. It is also the last probe of the identity's access,
//! because only the service can use its identity: while Azure refuses it because of the key, that means "not yet". What
//! does not: proving the result (`verify`).

use serde_json::Value;

use super::binding::{self, Seen, Wanted, acted, below, busy, descriptor, holder, late, not_found};
use super::spec::ConfigureService;
use super::windows::Moment;
use super::{Acted, Decision, NotYet, Step, StepContext, StepError, WaitReason};
use crate::azure::{AzureError, AzureErrorKind, resources};
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, IdentityFact};
use crate::domain::failure::Failure;
use crate::domain::ids::ArmId;
use crate::domain::request::IdentityKind;
use crate::services::template::Words;
use crate::services::{Binding, Method, ResourceState, ServiceDescriptor, Write};

/// One change of the target, or of a resource below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Below the target; empty for the target itself.
    at: String,
    /// How.
    method: Method,
    /// The body.
    body: Value,
    /// The etag of what is replaced, where only that may be.
    etag: Option<String>,
}

impl Step for ConfigureService {
    type Seen = Seen;
    type Action = Change;

    fn doing(&self) -> String {
        match self.create {
            Some(_) => format!("creating {} with the key", self.target.name()),
            None => format!("setting the key of {}", self.target.name()),
        }
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let seen = binding::look(cx, &self.service, &self.target).await?;
        let descriptor = descriptor(&self.service)?;
        let on_the_way = descriptor.configure.split_last().map_or(&[][..], |(_, made)| made);
        if on_the_way.is_empty() || self.create.is_some() {
            return Ok(seen);
        }
        let wanted = Wanted::new(self.identity_kind, self.version, cx.facts)?;
        let binding = wanted.binding(descriptor, &self.store(), None);
        let mut made = 0;
        for write in on_the_way {
            let id = below(&self.target, &self.place(write, &binding))?;
            if resources::get(&cx.azure.arm, &cx.call, &id, &descriptor.api_version).await?.is_none() {
                break;
            }
            made += 1;
        }
        Ok(Seen { made, ..seen })
    }

    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action> {
        let wanted = Wanted::new(self.identity_kind, self.version, facts);
        match descriptor(&self.service).and_then(|descriptor| Ok((descriptor, wanted?))) {
            Ok((descriptor, wanted)) => match &seen.target {
                Some(target) => self.judge(target, seen, descriptor, &wanted, facts),
                None => self.judge_absent(seen, descriptor, &wanted),
            },
            Err(failure) => Decision::Refuse(failure),
        }
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        let (arm, descriptor) = (&cx.azure.arm, descriptor(&self.service)?);
        let (version, whole) = (&descriptor.api_version, descriptor.answers_whole() && action.at.is_empty());
        let id = if action.at.is_empty() { self.target.clone() } else { below(&self.target, &action.at)? };
        let answer = match action.method {
            Method::Put | Method::MergePut => {
                let etag = action.etag.as_deref();
                resources::put(arm, &cx.call, &id, version, &action.body, etag).await?
            }
            Method::Patch => resources::patch(arm, &cx.call, &id, version, &action.body).await?,
        };
        Ok(acted(answer, whole, cx.job_id))
    }

    /// The identity's fact is another step's, unless this step's change makes the principal.
    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        let told = descriptor(&self.service).ok().zip(seen.target.as_ref());
        if let Some((descriptor, target)) = told.filter(|_| self.makes_principal(facts)) {
            let principal_id = descriptor.principal_of(target);
            facts.identity =
                principal_id.map(|principal_id| IdentityFact { resource_id: None, principal_id, client_id: None });
        }
    }

    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        self.refusal(error, &Moment::of(cx))
    }
}

impl ConfigureService {
    /// Whether the principal of the target's own identity is known only from what this step does.
    fn makes_principal(&self, facts: &Facts) -> bool {
        self.identity_kind == IdentityKind::SystemAssigned && facts.identity.is_none()
    }

    fn judge(
        &self,
        target: &Value,
        seen: &Seen,
        descriptor: &ServiceDescriptor,
        wanted: &Wanted,
        facts: &Facts,
    ) -> Decision<Change> {
        let name = self.target.name();
        let refuse = |code, message| Decision::Refuse(Failure::new(code, message));
        let read = descriptor.read_back.read(target);
        if read.state == ResourceState::Busy {
            return Decision::Wait(busy(&self.target, seen.changed));
        }
        // Only what this plan created, or another run of it, uses the key already. Anything else is not ours to change.
        let created = self.create.is_some() || (self.created_before && !seen.ours);
        if created && !wanted.uses_key(&read) {
            let message = format!("{name} exists and does not use the key {}", wanted.key_name);
            return refuse(Code::TargetExists, message);
        }
        let existing = holder(descriptor, target).and_then(|h| h.get("identity"));
        let change = || self.next_write(seen, target, descriptor, &wanted.binding(descriptor, &self.store(), existing));
        match read.state {
            ResourceState::Ready if wanted.differences(&read).is_empty() => {
                if self.makes_principal(facts) && descriptor.principal_of(target).is_none() {
                    let text = format!("{name} uses the key, but does not say yet who is to read it");
                    return Decision::Wait(WaitReason::new("read-lag", text));
                }
                Decision::Satisfied
            }
            ResourceState::Broken if seen.changed => {
                refuse(Code::TargetNotReady, format!("{name} is in a failed provisioning state after the change"))
            }
            ResourceState::Ready if seen.just_changed && seen.changes >= descriptor.writes() => {
                Decision::Wait(late(&self.target))
            }
            // A broken resource is repaired by the same change again: Azure offers no other way but deleting it.
            _ => change(),
        }
    }

    /// The write that is next: what is missing on the way to the setting, then the setting.
    fn next_write(
        &self,
        seen: &Seen,
        target: &Value,
        descriptor: &ServiceDescriptor,
        binding: &Binding,
    ) -> Decision<Change> {
        let Some(write) = descriptor.configure.get(seen.made) else {
            let message = format!("{} takes its key only when it is created", self.target.name());
            return Decision::Refuse(Failure::new(Code::TargetExists, message));
        };
        let at = self.place(write, binding);
        let body = descriptor.write_body(write, binding, &self.target, target);
        // An etag is the target's; what lies below it has its own.
        let etag = descriptor.if_match(write.method, target).filter(|_| at.is_empty());
        Decision::Act(Change { at, method: write.method, body, etag })
    }

    fn judge_absent(&self, seen: &Seen, descriptor: &ServiceDescriptor, wanted: &Wanted) -> Decision<Change> {
        match &self.create {
            // An earlier step has made it, or has still to: a look before the job finds nothing.
            None if self.created_before => Decision::Wait(late(&self.target)),
            None => Decision::Refuse(not_found(&self.target)),
            Some(_) if seen.just_changed => Decision::Wait(late(&self.target)),
            Some(create) => {
                let binding = wanted.binding(descriptor, &self.store(), None);
                match descriptor.create_body(&binding, &self.target, create) {
                    Some(body) => Decision::Act(Change { at: String::new(), method: Method::Put, body, etag: None }),
                    None => Decision::Refuse(not_found(&self.target)),
                }
            }
        }
    }

    /// Where a write goes, below the target.
    fn place(&self, write: &Write, binding: &Binding) -> String {
        Words::new(binding, &self.target).fill(&write.at).unwrap_or_default()
    }

    /// Plans of version 2 do not name the store; no service of theirs has its id in a body.
    fn store(&self) -> ArmId {
        self.store.clone().unwrap_or_else(|| self.target.clone())
    }

    fn refusal(&self, error: &AzureError, moment: &Moment) -> Option<NotYet> {
        let (name, timeout) = (self.target.name(), self.access_timeout.approximate());
        match error.kind {
            AzureErrorKind::KeyVaultAccess => {
                Some(moment.access(timeout, format!("The identity of {name} has no access to the key yet")))
            }
            AzureErrorKind::KeyVaultClosed => {
                let text = format!("The key store's firewall does not let {name} through yet");
                Some(moment.firewall(timeout, Code::KeyStoreClosed, text))
            }
            _ => binding::identity_lag(error, moment, &self.target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::duration::IsoDuration;
    use crate::domain::request::{KeyVersion, TargetCreate};
    use crate::steps::testing;
    use serde_json::{Map, json};
    use std::collections::BTreeMap;

    fn step(create: bool, version: KeyVersion) -> ConfigureService {
        let create = create.then(|| TargetCreate {
            location: "uksouth".into(),
            sku: None,
            kind: None,
            tags: BTreeMap::new(),
            properties: Map::new(),
        });
        ConfigureService {
            service: "storage-account".into(),
            target: testing::target(),
            create,
            created_before: false,
            identity_kind: IdentityKind::UserAssigned,
            version,
            access_timeout: IsoDuration::parse("PT20M").expect("a duration"),
            store: Some(testing::store()),
        }
    }

    fn seen(state: &str, key: Option<&str>) -> Seen {
        Seen {
            target: Some(testing::account(state, key)),
            changed: false,
            just_changed: false,
            changes: 0,
            made: 0,
            ours: false,
        }
    }

    fn absent() -> Seen {
        Seen { target: None, changed: false, just_changed: false, changes: 0, made: 0, ours: false }
    }

    /// A decision's name, and for a change also its method.
    fn told(step: &ConfigureService, seen: &Seen) -> String {
        match step.decide(seen, &testing::facts()) {
            Decision::Act(Change { method: Method::Put, .. }) => "put".to_owned(),
            Decision::Act(Change { method: Method::Patch, .. }) => "patch".to_owned(),
            other => testing::told(other),
        }
    }

    #[test]
    fn an_existing_target_is_changed_in_place_until_it_reads_back() {
        let step = step(false, KeyVersion::Latest);
        let changed = |seen: Seen| Seen { changed: true, ..seen };
        let just = |seen: Seen| Seen { just_changed: true, changes: 1, ..changed(seen) };
        let table = [
            (absent(), "refuse target-not-found"),
            (seen("Succeeded", None), "patch"),
            (seen("Succeeded", Some("other")), "patch"),
            (seen("Succeeded", Some("k")), "satisfied"),
            (seen("Updating", Some("k")), "wait resource-busy"),
            (changed(seen("Updating", Some("k"))), "wait azure-operation"),
            (just(seen("Succeeded", None)), "wait read-lag"),
            (changed(seen("Succeeded", None)), "patch"),
            (just(seen("Succeeded", Some("k"))), "satisfied"),
            (seen("Failed", Some("k")), "patch"),
            (changed(seen("Failed", Some("k"))), "refuse target-not-ready"),
        ];
        for (seen, want) in table {
            assert_eq!(told(&step, &seen), want, "{seen:?}");
        }
    }

    #[test]
    fn a_new_target_is_created_with_the_key_and_another_one_is_never_changed() {
        let step = step(true, KeyVersion::Latest);
        let table = [
            (absent(), "put"),
            (Seen { changed: true, just_changed: true, changes: 1, ..absent() }, "wait read-lag"),
            (Seen { changed: true, ..absent() }, "put"),
            (seen("Succeeded", None), "refuse target-exists"),
            (seen("Succeeded", Some("other")), "refuse target-exists"),
            (seen("Failed", None), "refuse target-exists"),
            (seen("Creating", None), "wait resource-busy"),
            (seen("Succeeded", Some("k")), "satisfied"),
            (seen("Failed", Some("k")), "patch"),
        ];
        for (seen, want) in table {
            assert_eq!(told(&step, &seen), want, "{seen:?}");
        }
    }

    #[test]
    fn pin_and_identity_count_too() {
        let mut pinned = seen("Succeeded", Some("k"));
        let pointer = "/properties/encryption/keyvaultproperties/keyversion";
        *pinned.target.as_mut().and_then(|t| t.pointer_mut(pointer)).expect("it is there") = json!(testing::VERSION);
        assert_eq!(told(&step(false, KeyVersion::Pinned), &pinned), "satisfied");
        assert_eq!(told(&step(false, KeyVersion::Latest), &pinned), "patch");
        assert_eq!(told(&step(false, KeyVersion::Pinned), &seen("Succeeded", Some("k"))), "patch");
        assert_eq!(told(&step(true, KeyVersion::Pinned), &seen("Succeeded", Some("k"))), "patch");

        let mut other = seen("Succeeded", Some("k"));
        let id = testing::id("Microsoft.ManagedIdentity/userAssignedIdentities", "other");
        if let Some(target) = &mut other.target {
            target["properties"]["encryption"]["identity"]["userAssignedIdentity"] = json!(id);
            target["identity"]["userAssignedIdentities"] = json!({ id.as_str(): {} });
        }
        let Decision::Act(Change { body, .. }) = step(false, KeyVersion::Latest).decide(&other, &testing::facts())
        else {
            panic!("the identity differs");
        };
        let attached = body["identity"]["userAssignedIdentities"].as_object().expect("a map");
        assert_eq!(attached.len(), 2, "both stay attached: {body}");
    }

    #[test]
    fn refusals_because_of_the_key_are_waited_for_and_others_are_not() {
        let moment = Moment {
            now: testing::NOW + time::Duration::minutes(5),
            waiting_since: None,
            granted_at: Some(testing::NOW),
            store_created: true,
        };
        let judge = |error: &AzureError| {
            let not_yet = step(false, KeyVersion::Latest).refusal(error, &moment)?;
            Some((not_yet.reason.code, not_yet.code, (not_yet.until - moment.now).whole_minutes()))
        };
        let of = |kind| judge(&testing::error(kind));
        use AzureErrorKind::*;
        assert_eq!(of(KeyVaultAccess), Some(("access-propagation".into(), Code::AccessTimeout, 15)));
        assert_eq!(of(KeyVaultClosed), Some(("access-propagation".into(), Code::KeyStoreClosed, 5)));
        assert_eq!(of(PrincipalNotFound), Some(("directory-replication".into(), Code::AzureRejected, 10)));
        for kind in [KeyVaultPolicy, KeyUnusable, Rejected, Forbidden, Conflict, Busy, Throttled] {
            assert_eq!(of(kind), None, "{kind:?}");
        }
        let named = AzureError { code: Some("FailedIdentityOperation".into()), ..testing::error(Rejected) };
        assert!(judge(&named).is_some());
    }
}
