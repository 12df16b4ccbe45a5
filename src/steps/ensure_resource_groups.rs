//! Makes sure that the resource groups of what is to be created exist.
//!
//! What belongs here: looking at each group and creating a missing one. What does not: groups of things that exist.

use std::collections::BTreeMap;

use super::context::missing;
use super::spec::{EnsureResourceGroups, GroupSpec};
use super::{Acted, Decision, Step, StepContext, StepError, WaitReason};
use crate::azure::resource_groups::{self, ResourceGroup};
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;

/// The groups in the order of the specification; `None` where one does not exist.
pub type Groups = Vec<Option<ResourceGroup>>;

/// One group to create.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateGroup {
    /// Its place in the specification.
    index: usize,
    location: String,
    /// What else was seen: the answer to the creation completes it.
    seen: Groups,
}

impl Step for EnsureResourceGroups {
    type Seen = Groups;
    type Action = CreateGroup;

    fn doing(&self) -> String {
        let names: Vec<&str> = self.groups.iter().map(|g| g.name.as_str()).collect();
        format!("ensuring the resource groups {}", names.join(", "))
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let mut seen = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            seen.push(resource_groups::get(&cx.azure.arm, &cx.call, group.subscription, &group.name).await?);
        }
        Ok(seen)
    }

    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action> {
        for (index, (group, found)) in self.groups.iter().zip(seen).enumerate() {
            match found {
                Some(found) if is_deleting(found) => {
                    let text = format!("The resource group {} is being deleted", group.name);
                    return Decision::Wait(WaitReason::new("resource-busy", text));
                }
                Some(_) => {}
                None => return self.create(index, group, seen, facts),
            }
        }
        Decision::Satisfied
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        let CreateGroup { index, location, mut seen } = action;
        let group = self.groups.get(index).ok_or_else(|| missing("resource group"))?;
        let arm = &cx.azure.arm;
        let made = resource_groups::create(arm, &cx.call, group.subscription, &group.name, &location, &BTreeMap::new())
            .await?;
        if let Some(place) = seen.get_mut(index) {
            *place = Some(made);
        }
        Ok(Acted::Seen(seen))
    }

    fn learn(&self, _seen: &Self::Seen, _facts: &mut Facts, _cx: &StepContext<'_>) {}
}

impl EnsureResourceGroups {
    fn create(&self, index: usize, group: &GroupSpec, seen: &Groups, facts: &Facts) -> Decision<CreateGroup> {
        if !self.create {
            let message = format!("the resource group {} does not exist", group.name);
            return Decision::Refuse(Failure::new(Code::ResourceGroupNotFound, message));
        }
        let location = group.location.clone().or_else(|| facts.target.as_ref().map(|t| t.location.clone()));
        match location {
            Some(location) => Decision::Act(CreateGroup { index, location, seen: seen.clone() }),
            None => Decision::Refuse(missing("target's location")),
        }
    }
}

fn is_deleting(group: &ResourceGroup) -> bool {
    group.provisioning_state.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("Deleting"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing;
    use uuid::Uuid;

    fn step(create: bool) -> EnsureResourceGroups {
        let group = |name: &str, location: Option<&str>| GroupSpec {
            subscription: Uuid::nil(),
            name: name.into(),
            location: location.map(str::to_owned),
        };
        EnsureResourceGroups { groups: vec![group("rg-1", Some("ukwest")), group("rg-2", None)], create }
    }

    fn group(state: &str) -> Option<ResourceGroup> {
        Some(ResourceGroup { location: "uksouth".into(), provisioning_state: Some(state.into()) })
    }

    #[test]
    fn the_first_missing_group_is_created_where_that_is_allowed() {
        let ok = || group("Succeeded");
        let table = [
            (true, vec![ok(), ok()], "satisfied"),
            (false, vec![ok(), ok()], "satisfied"),
            (true, vec![None, None], "act"),
            (true, vec![ok(), None], "act"),
            (false, vec![ok(), None], "refuse resource-group-not-found"),
            (true, vec![group("Deleting"), None], "wait resource-busy"),
        ];
        for (create, seen, want) in table {
            assert_eq!(testing::told(step(create).decide(&seen, &testing::facts())), want, "{create} {seen:?}");
        }
    }

    #[test]
    fn a_group_without_a_location_gets_the_targets() {
        let at = |seen: Groups, facts: &Facts| match step(true).decide(&seen, facts) {
            Decision::Act(create) => Some((create.index, create.location)),
            _ => None,
        };
        assert_eq!(at(vec![None, None], &testing::facts()), Some((0, "ukwest".into())));
        assert_eq!(at(vec![group("Succeeded"), None], &testing::facts()), Some((1, "uksouth".into())));
        assert_eq!(at(vec![group("Succeeded"), None], &Facts::default()), None);
    }
}
