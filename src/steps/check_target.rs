//! Looks whether the target exists, or does not, as the request says.
//!
//! What belongs here: the look before the first change, so that a wrong name or a name that is taken costs nothing. What
//! does not: changing the target.

use serde_json::Value;

use super::binding::{busy, descriptor, holder, identity_in_the_way, is_ours, not_found, read_target, under_key};
use super::spec::CheckTarget;
use super::{Acted, Decision, Step, StepContext, StepError};
use crate::azure::resources;
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, TargetFact};
use crate::domain::failure::Failure;
use crate::domain::request::{Identity, IdentityKind};
use crate::services::{BoundIdentity, ReadBack, ResourceState};

/// A target that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    location: Option<String>,
    read: ReadBack,
    /// Whether this job created it, without the key, in an earlier run.
    ours: bool,
    /// What it is not, though the service takes a key only on a target that is: the rules in words.
    unmet: Vec<String>,
    /// Types of which something is in it, though it has to be empty.
    contents: Vec<String>,
    /// Whether an identity of it leaves no place for the one that is to be used.
    crowded: bool,
}

impl Step for CheckTarget {
    type Seen = Option<Found>;
    type Action = std::convert::Infallible;

    fn doing(&self) -> String {
        format!("looking at the target {}", self.target.name())
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let descriptor = descriptor(&self.service)?;
        let Some(answer) = read_target(cx, &self.service, &self.target).await? else { return Ok(None) };
        let read = descriptor.read_back.read(&answer.body);
        let mut contents = Vec::new();
        if self.create_in.is_none() && !read.customer_managed {
            let (arm, version) = (&cx.azure.arm, &descriptor.api_version);
            for kind in &descriptor.empty_of {
                if resources::has_children(arm, &cx.call, &self.target, kind, version).await? {
                    contents.push(kind.clone());
                }
            }
        }
        let unmet = descriptor.requires.iter().filter(|rule| !rule.is_met(&answer.body));
        Ok(Some(Found {
            location: answer.body.get("location").and_then(Value::as_str).map(str::to_owned),
            read,
            ours: is_ours(&answer.body, cx.job_id),
            unmet: unmet.map(|rule| rule.words.clone()).collect(),
            contents,
            crowded: self.identity.as_ref().and_then(wanted).is_some_and(|wanted| {
                let holder = holder(descriptor, &answer.body);
                holder.is_some_and(|holder| descriptor.identities.leave_no_place(holder, &wanted))
            }),
        }))
    }

    fn decide(&self, seen: &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        let name = self.target.name();
        let Some(found) = seen else {
            return match self.create_in {
                Some(_) => Decision::Satisfied,
                None => Decision::Refuse(not_found(&self.target)),
            };
        };
        if found.crowded {
            let known = descriptor(&self.service);
            return Decision::Refuse(known.map_or_else(|failure| failure, |d| identity_in_the_way(d, &self.target)));
        }
        // Also the way of a job that goes on after it has set the key: whatever state that led to, a later step deals
        // with it.
        if self.uses_key(&found.read) {
            return Decision::Satisfied;
        }
        match (found.read.state, &self.create_in) {
            (ResourceState::Busy, _) => Decision::Wait(busy(&self.target, false)),
            (ResourceState::Broken, _) => {
                let message = format!("{name} is in a failed provisioning state");
                Decision::Refuse(Failure::new(Code::TargetNotReady, message))
            }
            (ResourceState::Ready, None) if !found.unmet.is_empty() => {
                let message = format!("{name}: the service {}", found.unmet.join("; it "));
                Decision::Refuse(Failure::new(Code::TargetUnsuitable, message))
            }
            (ResourceState::Ready, None) if !found.contents.is_empty() => {
                let message = format!(
                    "{name} holds {}, and takes its first key only while it is empty",
                    found.contents.join(", ")
                );
                Decision::Refuse(Failure::new(Code::TargetNotEmpty, message))
            }
            (ResourceState::Ready, None) => Decision::Satisfied,
            (ResourceState::Ready, Some(_)) if found.ours => Decision::Satisfied,
            (ResourceState::Ready, Some(_)) => {
                let message =
                    format!("{name} exists and does not use the key {} of {}", self.key_name, self.store.name());
                Decision::Refuse(Failure::new(Code::TargetExists, message))
            }
        }
    }

    async fn act(&self, action: Self::Action, _cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        match action {}
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        let found = seen.as_ref().and_then(|f| f.location.clone());
        let location = found.or_else(|| self.create_in.clone()).unwrap_or_default();
        // A job that is retried after it created the target still knows that it was not there before.
        let existed = seen.is_some() && facts.target.as_ref().is_none_or(|t| t.existed);
        facts.target = Some(TargetFact { existed, location });
    }
}

/// The identity as the services know it, without its client id.
fn wanted(identity: &Identity) -> Option<BoundIdentity> {
    match identity.kind {
        IdentityKind::UserAssigned => {
            identity.resource_id.clone().map(|id| BoundIdentity::UserAssigned { id, client_id: None })
        }
        IdentityKind::SystemAssigned => Some(BoundIdentity::SystemAssigned),
        IdentityKind::Platform => None,
    }
}

impl CheckTarget {
    fn uses_key(&self, read: &ReadBack) -> bool {
        under_key(read, &self.store, &self.key_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing;

    fn step(create: bool) -> CheckTarget {
        CheckTarget {
            service: "storage-account".into(),
            target: testing::target(),
            create_in: create.then(|| "uksouth".to_owned()),
            store: testing::store(),
            key_name: "k".into(),
            identity: None,
        }
    }

    fn found(state: &str, key: Option<&str>) -> Option<Found> {
        let rule = &descriptor("storage-account").expect("it is in the catalogue").read_back;
        Some(Found {
            location: Some("UK South".into()),
            read: rule.read(&testing::account(state, key)),
            ours: false,
            unmet: vec![],
            contents: vec![],
            crowded: false,
        })
    }

    #[test]
    fn existence_must_be_as_the_request_says() {
        let table = [
            (false, None, "refuse target-not-found"),
            (false, found("Succeeded", None), "satisfied"),
            (false, found("Succeeded", Some("other")), "satisfied"),
            (false, found("Updating", None), "wait resource-busy"),
            (false, found("Failed", None), "refuse target-not-ready"),
            (false, found("Failed", Some("k")), "satisfied"),
            (true, None, "satisfied"),
            (true, found("Succeeded", None), "refuse target-exists"),
            (true, found("Succeeded", Some("other")), "refuse target-exists"),
            (true, found("Succeeded", Some("K")), "satisfied"),
            (true, found("Creating", Some("k")), "satisfied"),
            (true, found("Creating", None), "wait resource-busy"),
            (true, found("Failed", None), "refuse target-not-ready"),
        ];
        for (create, seen, want) in table {
            assert_eq!(testing::told(step(create).decide(&seen, &Facts::default())), want, "{create} {seen:?}");
        }
    }

    #[test]
    fn a_target_that_the_service_would_refuse_is_refused_before_anything_is_changed() {
        let with = |change: &dyn Fn(&mut Found), key: Option<&str>| {
            let mut seen = found("Succeeded", key);
            seen.as_mut().map(change);
            testing::told(step(false).decide(&seen, &Facts::default()))
        };
        let unmet = |f: &mut Found| f.unmet.push("takes a key on the SKU Premium only".to_owned());
        let full = |f: &mut Found| f.contents.push("queues".to_owned());
        assert_eq!(with(&unmet, None), "refuse target-unsuitable");
        assert_eq!(with(&full, Some("other")), "refuse target-not-empty");
        assert_eq!(with(&full, Some("k")), "satisfied", "it has the key already");
        assert_eq!(with(&|f| f.crowded = true, None), "refuse target-unsuitable");
    }

    #[test]
    fn a_key_of_the_same_name_in_another_store_is_another_key() {
        let mut other = found("Succeeded", Some("k"));
        if let Some(found) = &mut other {
            found.read.store_uri = Some("https://kv-2.vault.azure.net".into());
        }
        assert_eq!(testing::told(step(true).decide(&other, &Facts::default())), "refuse target-exists");
    }
}
