//! Azure Resource Manager: the token, the api-version, the subscription, and the way to the provider. One file per
//! provider; each asks `rbac` and answers in its own shapes.

pub(crate) mod checks;
pub(crate) mod deleted_hsms;
pub(crate) mod deleted_vaults;
mod federated;
pub(crate) mod filter;
pub(crate) mod gate;
pub(crate) mod generic;
pub(crate) mod governance;
pub(crate) mod hsm_body;
pub(crate) mod hsms;
pub(crate) mod identities;
pub(crate) mod identity_block;
pub(crate) mod locks;
pub(crate) mod metadata;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod operations;
pub(crate) mod paging;
pub(crate) mod policy_assignments;
pub(crate) mod policy_definitions;
pub(crate) mod policy_restrictions;
pub(crate) mod published;
pub(crate) mod registration;
pub(crate) mod resource_groups;
pub(crate) mod resources;
pub(crate) mod role_assignments;
pub(crate) mod role_definitions;
pub(crate) mod scopes;
pub(crate) mod shape;
pub(crate) mod storage_accounts;
pub(crate) mod storage_body;
pub(crate) mod storage_children;
pub(crate) mod storage_cmk;
pub(crate) mod storage_custody;
pub(crate) mod subscriptions;
pub(crate) mod system_data;
pub(crate) mod target;
pub(crate) mod vault_body;
pub(crate) mod vault_keys;
pub(crate) mod vault_model;
pub(crate) mod vault_policies;
pub(crate) mod vaults;
pub(crate) mod versions;

use std::sync::atomic::Ordering;

use crate::arm::target::Target;
use crate::entra::tokens::Claims;
use crate::http::{Call, Failure, Outcome};
use crate::state::Shared;

/// A request to ARM that has passed the common checks.
pub(crate) struct Asked<'a> {
    pub shared: &'a Shared,
    pub call: &'a Call,
    pub caller: Claims,
    pub subscription: String,
}

impl Asked<'_> {
    /// Canonical id of a group.
    pub fn group_id(&self, group: &str) -> String {
        format!("/subscriptions/{}/resourceGroups/{group}", self.subscription)
    }

    /// Whether an id lies in the subscription.
    pub fn holds(&self, id: &str) -> bool {
        crate::rbac::assignments::at_or_above(&format!("/subscriptions/{}", self.subscription), id)
    }
}

/// Answers a request to the ARM host.
pub(crate) async fn serve(shared: &Shared, call: &Call) -> Outcome {
    let is_metadata = matches!(call.segments.as_slice(), [a, b] if a.eq_ignore_ascii_case("metadata") && b.eq_ignore_ascii_case("endpoints"));
    if is_metadata {
        return Ok(metadata::endpoints(shared, call));
    }
    let caller = checks::authenticate(shared, call)?;
    let subscription = checks::named_subscription(shared, &call.segments).to_owned();
    shared.throttle.admit(call, &subscription, &caller.oid)?;
    versions::required(call)?;
    let asked = Asked { shared, call, caller, subscription };
    let Some(target) = Target::of(&call.segments) else {
        return paging::cut(&asked, route(&asked).await);
    };
    checks::subscription_of(shared, &call.segments)?;
    gate::pass(&asked, &target)?;
    if call.is("HEAD") && target.is_resource() {
        return resources::exists(&asked, &target);
    }
    let outcome = paging::cut(&asked, route(&asked).await);
    if let Ok(reply) = &outcome
        && call.changed.load(Ordering::Relaxed)
    {
        resources::note(&asked, &target, reply.status);
    }
    outcome
}

/// The way to the provider.
async fn route(asked: &Asked<'_>) -> Outcome {
    let (shared, call) = (asked.shared, asked.call);
    let lower: Vec<String> = call.segments.iter().map(|s| s.to_lowercase()).collect();
    let parts: Vec<&str> = lower.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["subscriptions"] => return subscriptions::list(asked),
        ["tenants"] => return Ok(subscriptions::tenants(asked)),
        _ => {}
    }
    // Role assignments and definitions hang under any scope, so they are looked for from the end.
    if let Some(at) = parts.windows(2).rposition(|w| w == ["providers", "microsoft.authorization"]) {
        let scope = format!("/{}", call.segments[..at].join("/"));
        let rest: Vec<&str> = call.segments[at + 2..].iter().map(String::as_str).collect();
        if rest.len() == 1 && matches!(rest[0].to_lowercase().as_str(), "register" | "unregister") {
            return registration::change(asked, "Microsoft.Authorization", rest[0].eq_ignore_ascii_case("register"));
        }
        checks::subscription_of(shared, &call.segments[..at])?;
        return match parts.get(at + 2).copied() {
            Some("roleassignments") => role_assignments::serve(asked, &scope, &rest[1..]),
            Some("roledefinitions") => role_definitions::serve(asked, &scope, &rest[1..]),
            Some("locks") => locks::serve(asked, &scope, &rest[1..]),
            Some("policydefinitions") => policy_definitions::serve(asked, &scope, &rest[1..]),
            Some("policyassignments") => policy_assignments::serve(asked, &scope, &rest[1..]),
            Some("policysetdefinitions" | "policyexemptions") => Err(Failure::not_played("policy sets and exemptions")),
            Some(other) => Err(checks::unknown_type("Microsoft.Authorization", other)),
            None => registration::serve(asked, &["Microsoft.Authorization"]),
        };
    }
    if let ["providers", rest @ ..] = parts.as_slice()
        && let Some(outcome) = generic::in_tenant(asked, rest)
    {
        return outcome;
    }
    if parts.first() != Some(&"subscriptions") {
        return Err(checks::no_route(call));
    }
    let names: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [_, _, "resourcegroups", _, "providers", namespace, kind, ..] => {
            if let Some(outcome) = generic::serve(asked, names[3], &names[5..]).await {
                return outcome;
            }
            in_group(asked, namespace, kind, names[3], &names[7..]).await
        }
        [_, _, "providers", namespace, kind, rest @ ..] => {
            if let Some(outcome) = generic::in_subscription(asked, namespace, &names[4..]) {
                return outcome;
            }
            in_subscription(asked, namespace, kind, rest, &names[5..])
        }
        [_, _, "resourcegroups", ..] => resource_groups::serve(asked, &names[3..]),
        [_, _, "operationresults", id] => operations::result(asked, id),
        [_, _] if call.is("GET") => subscriptions::get(asked),
        [_, _, "locations"] if call.is("GET") => Ok(subscriptions::locations(asked)),
        [_, _, "resources"] if call.is("GET") => resources::list(asked, None),
        [_, _, "providers"] | [_, _, "providers", _] => registration::serve(asked, &names[3..]),
        _ => Err(checks::no_route(call)),
    }
}

async fn in_group(asked: &Asked<'_>, namespace: &str, kind: &str, group: &str, rest: &[&str]) -> Outcome {
    match (namespace, kind) {
        ("microsoft.managedidentity", "userassignedidentities") => identities::serve(asked, group, rest),
        ("microsoft.keyvault", "vaults") => vaults::serve(asked, group, rest).await,
        ("microsoft.network", _) => network::in_group(asked, kind, group, rest),
        ("microsoft.keyvault", "managedhsms") => hsms::serve(asked, group, rest).await,
        ("microsoft.storage", "storageaccounts") => storage_accounts::serve(asked, group, rest).await,
        ("microsoft.policyinsights", "checkpolicyrestrictions") if rest.is_empty() => {
            policy_restrictions::check(asked, group)
        }
        _ => Err(checks::unknown(namespace, kind)),
    }
}

/// `kinds` are the segments behind the type in lower case, `names` the same as sent.
fn in_subscription(asked: &Asked<'_>, namespace: &str, kind: &str, kinds: &[&str], names: &[&str]) -> Outcome {
    match (namespace, kind, kinds) {
        ("microsoft.managedidentity", "userassignedidentities", []) => identities::list(asked, None),
        ("microsoft.keyvault", "vaults", []) => vaults::list(asked, None),
        ("microsoft.keyvault", "checknameavailability", []) => vaults::check_name(asked),
        ("microsoft.keyvault", "deletedvaults", []) => deleted_vaults::list(asked),
        ("microsoft.keyvault", "locations", [_, "deletedvaults", _, ..]) => {
            deleted_vaults::serve(asked, names[0], &names[2..])
        }
        ("microsoft.keyvault", "managedhsms", []) => hsms::list(asked, None),
        ("microsoft.keyvault", "checkmhsmnameavailability", []) => hsms::check_name(asked),
        ("microsoft.keyvault", "deletedmanagedhsms", []) => deleted_hsms::list(asked),
        ("microsoft.keyvault", "locations", [_, "deletedmanagedhsms", _, ..]) => {
            deleted_hsms::serve(asked, names[0], &names[2..])
        }
        ("microsoft.storage", "storageaccounts", []) => storage_accounts::list(asked, None),
        ("microsoft.storage", "checknameavailability", []) => storage_children::check_name(asked),
        (_, "locations", [_, "operationresults" | "asyncoperations", id]) => operations::result(asked, id),
        (_, "locations", [_, word, id]) if word.ends_with("operationresults") => operations::result(asked, id),
        (_, "locations", [_, word, id]) if word.contains("operationsstatus") || word.ends_with("asyncoperation") => {
            operations::status(asked, id)
        }
        (_, "register" | "unregister", []) if asked.call.is("POST") => {
            registration::change(asked, namespace, kind == "register")
        }
        ("microsoft.network", _, []) if asked.call.is("GET") => network::in_subscription(asked, kind),
        _ => Err(checks::unknown(namespace, kind)),
    }
}

/// The refusal of a method that the resource does not have.
pub(crate) fn no_method(call: &Call) -> Failure {
    Failure::new(405, "MethodNotAllowed", format!("The resource does not support the method '{}'.", call.method))
}
