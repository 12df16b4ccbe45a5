//! What the table says of one ARM type: names, which requests it has and how it answers them, its states, its identities,
//! what of a body it ignores, and the rules for its key (`rule`). Plain data; the engine that follows it is in the other
//! modules. `Kind::tracked` and `Kind::child` are the usual cases; an entry names what differs.

use serde_json::Value;

use crate::arm::generic::resource::{Resource, View};
use crate::arm::generic::rule::Cmk;
use crate::arm::generic::write::Change;
use crate::http::Failure;
use crate::state::World;

/// One ARM type.
#[derive(Debug)]
pub(crate) struct Kind {
    /// In canonical casing with its namespace: `Microsoft.Sql/servers/keys`.
    pub name: &'static str,
    /// The first api-version that was published, as a date; older ones are refused, newer ones than any known are served.
    pub since: &'static str,
    /// Which names a resource of the type may have.
    pub naming: Naming,
    /// Whether it has a region of its own: tracked resources do, children mostly do not.
    pub placed: bool,
    /// Whether it can be in the region `global` too.
    pub global: bool,
    /// For extension resources: the type of the resource they hang on, as in
    /// `…/Microsoft.OperationalInsights/workspaces/{w}/providers/Microsoft.SecurityInsights/onboardingStates/{n}`.
    pub extends: Option<&'static str>,
    /// A resource that is there by itself with its parent until somebody writes it: its name and its body as JSON text.
    pub standing: Option<(&'static str, &'static str)>,
    /// `None`: there is no such request (405).
    pub put: Option<Answers>,
    pub patch: Option<Answers>,
    pub delete: Option<Removal>,
    pub states: States,
    /// Segments behind `providers/{namespace}/locations/{region}/` of the URLs of an operation: status, result.
    pub tracking: (&'static str, &'static str),
    pub identities: Identities,
    /// Pointers to what a PATCH cannot carry; it is taken and has no effect.
    pub patch_ignores: &'static [&'static str],
    /// Pointers to objects that a PATCH replaces whole instead of merging: there `{}` empties.
    pub whole: &'static [&'static str],
    /// Pointers to what stays as it is when a PUT leaves it out.
    pub sticky: &'static [&'static str],
    /// Pointers to what cannot change after the creation.
    pub fixed: &'static [&'static str],
    /// Pointers with the JSON text of what stands there when nothing was sent.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Refuses or changes what the engine knows nothing of; called before the key is looked at.
    pub guard: fn(&mut Change<'_>) -> Result<(), Failure>,
    /// Fills in read-only members that depend on more than the key.
    pub shows: fn(&View<'_>, &mut Value),
    /// The member that holds the etag; a write that names another one, there or in `If-Match`, is refused. `None`: the type
    /// has none, and the header is not looked at.
    pub etag: Option<&'static str>,
    /// Called in the world when a write has been committed; for types that make or change others.
    pub after: fn(&mut World, &Resource, time::OffsetDateTime),
    /// `POST …/{name}` and `GET …/{name}` with a fixed answer.
    pub actions: &'static [Action],
    pub soft: Option<Soft>,
    /// Status and code of a write while an operation on the resource is running.
    pub busy: (u16, &'static str),
    /// Whether the service's own errors are `{"code","message"}` without the envelope, with an activity id (Cosmos DB).
    pub flat_errors: bool,
    /// What is under a customer's key; several for types with several keys.
    pub cmk: &'static [Cmk],
}

/// How a PUT or PATCH is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    /// Status for a new resource; a PATCH makes none.
    pub new: u16,
    /// Status for one that was there.
    pub existing: u16,
    pub follow: Follow,
}

/// By what a caller sees how the work goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Follow {
    /// It is done with the answer.
    Done,
    /// By the state in the body alone.
    State,
    /// `Azure-AsyncOperation`, and the state.
    Status,
    /// `Location`, and the state.
    Location,
    /// Both headers, and the state.
    Both,
    /// 202 with `Location` and no body, and the resource is not to be seen before the end.
    Hidden,
}

/// How a DELETE is answered. Of something that is not there: 204.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removal {
    pub existing: u16,
    pub follow: Follow,
}

/// Where the state stands and what it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct States {
    /// Empty: the type shows none.
    pub pointer: &'static str,
    pub creating: &'static str,
    pub updating: &'static str,
    pub deleting: &'static str,
    pub done: &'static str,
    pub failed: &'static str,
}

/// `properties.provisioningState` as ARM itself names the states.
pub(crate) const PROVISIONING: States = States {
    pointer: "/properties/provisioningState",
    creating: "Creating",
    updating: "Updating",
    deleting: "Deleting",
    done: "Succeeded",
    failed: "Failed",
};

/// No state at all.
pub(crate) const STATELESS: States = States { pointer: "", ..PROVISIONING };

/// The names that a type takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Naming {
    pub least: usize,
    pub most: usize,
    /// Which characters besides letters and digits.
    pub besides: &'static str,
    pub lower_only: bool,
    /// Whether no other resource of the type may have the name, wherever it is: it is a part of a host name.
    pub global: bool,
    /// For types that have one resource only, its name: `current`, `default`.
    pub only: Option<&'static str>,
}

/// Letters, digits and hyphens.
pub(crate) const PLAIN: Naming = Naming::of(1, 90, "-_.");

impl Naming {
    pub const fn of(least: usize, most: usize, besides: &'static str) -> Self {
        Self { least, most, besides, lower_only: false, global: false, only: None }
    }

    pub const fn lower(self) -> Self {
        Self { lower_only: true, ..self }
    }

    pub const fn global(self) -> Self {
        Self { global: true, ..self }
    }

    pub const fn only(name: &'static str) -> Self {
        Self { only: Some(name), ..Self::of(1, 90, "-_.") }
    }

    /// Whether this is a name of the type. Hyphens and the like may not stand at either end.
    pub fn admits(&self, name: &str) -> bool {
        if let Some(only) = self.only {
            return name.eq_ignore_ascii_case(only);
        }
        let ends = [name.chars().next(), name.chars().next_back()];
        (self.least..=self.most).contains(&name.chars().count())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || self.besides.contains(c))
            && ends.iter().flatten().all(|c| c.is_ascii_alphanumeric())
            && !(self.lower_only && name.chars().any(|c| c.is_ascii_uppercase()))
    }
}

/// Which identities a resource may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identities {
    pub system: bool,
    pub user: bool,
    /// How both together are spelled in answers; `None`: only one kind at a time.
    pub both: Option<&'static str>,
}

impl Identities {
    pub const NONE: Self = Self { system: false, user: false, both: None };
    pub const SYSTEM: Self = Self { system: true, user: false, both: None };
    pub const USER: Self = Self { system: false, user: true, both: None };
    /// Either kind, one at a time.
    pub const ONE: Self = Self { system: true, user: true, both: None };
    /// Both kinds, together spelled without a space.
    pub const ANY: Self = Self { system: true, user: true, both: Some("SystemAssigned,UserAssigned") };
    /// Both kinds, together spelled with a space.
    pub const SPACED: Self = Self { system: true, user: true, both: Some("SystemAssigned, UserAssigned") };
}

/// A request below a resource that changes nothing.
#[derive(Debug)]
pub(crate) struct Action {
    pub method: &'static str,
    /// As clients spell it; compared without case.
    pub name: &'static str,
    /// What the caller needs, behind the type: `listKeys/action`.
    pub verb: &'static str,
    pub answer: fn(&View<'_>) -> Value,
}

/// A type whose deleted resources are kept for a while, with their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soft {
    /// The type under which they are listed: `deletedAccounts`.
    pub listed: &'static str,
    pub hours: i64,
    /// The member by which a PUT asks for the old resource; `true` there restores it.
    pub restore: &'static str,
    /// Whether their path has the group in it: `locations/{l}/resourceGroups/{g}/deletedAccounts/{n}`.
    pub with_group: bool,
    /// Status and code of a PUT of the name without asking for the old one.
    pub taken: (u16, &'static str),
}

const ASYNC: Answers = Answers { new: 201, existing: 200, follow: Follow::Status };

impl Kind {
    /// The usual top-level resource: 201 or 200 with `Azure-AsyncOperation`, any identity, a region.
    pub const fn tracked(name: &'static str, since: &'static str) -> Self {
        Self {
            name,
            since,
            naming: PLAIN,
            placed: true,
            global: false,
            extends: None,
            standing: None,
            put: Some(ASYNC),
            patch: Some(ASYNC),
            delete: Some(Removal { existing: 202, follow: Follow::Location }),
            states: PROVISIONING,
            tracking: ("operationsStatuses", "operationResults"),
            identities: Identities::ANY,
            patch_ignores: &[],
            whole: &[],
            sticky: &[],
            fixed: &[],
            defaults: &[],
            guard: nothing_to_say,
            shows: nothing_to_show,
            etag: None,
            after: nothing_to_do,
            actions: &[],
            soft: None,
            busy: (409, "AnotherOperationInProgress"),
            flat_errors: false,
            cmk: &[],
        }
    }

    /// The usual child: no region and no identity of its own, done with the answer.
    pub const fn child(name: &'static str, since: &'static str) -> Self {
        Self {
            placed: false,
            put: Some(Answers { new: 201, existing: 200, follow: Follow::Done }),
            patch: None,
            delete: Some(Removal { existing: 200, follow: Follow::Done }),
            identities: Identities::NONE,
            ..Self::tracked(name, since)
        }
    }

    pub fn namespace(&self) -> &'static str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// The type without its namespace.
    pub fn types(&self) -> &'static str {
        self.name.split_once('/').map_or("", |(_, types)| types)
    }

    /// The type of the parent, for children.
    #[cfg(test)]
    pub fn parent(&self) -> Option<&'static str> {
        let (parent, _) = self.name.rsplit_once('/')?;
        parent.contains('/').then_some(parent)
    }
}

fn nothing_to_say(_: &mut Change<'_>) -> Result<(), Failure> {
    Ok(())
}

fn nothing_to_show(_: &View<'_>, _: &mut Value) {}

fn nothing_to_do(_: &mut World, _: &Resource, _: time::OffsetDateTime) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cosmos = Naming::of(3, 44, "-").lower().global();
        for (naming, name, good) in [
            (cosmos, "cosmos-1", true),
            (cosmos, "Cosmos", false),
            (cosmos, "-c1", false),
            (cosmos, "ab", false),
            (cosmos, "cosmös", false),
            (PLAIN, "a_b.c", true),
            (PLAIN, "", false),
            (Naming::only("current"), "Current", true),
            (Naming::only("current"), "other", false),
        ] {
            assert_eq!(naming.admits(name), good, "{name}");
        }
    }
}
