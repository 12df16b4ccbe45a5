//! Subscriptions, tenants, locations and provider registration. There is one of each; all namespaces are registered.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::arm::checks::{REGIONS, no_route};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::check;

/// Namespaces with the types that are played.
const PLAYED: &[(&str, &[&str])] = &[
    ("Microsoft.Authorization", &["roleAssignments", "roleDefinitions"]),
    (
        "Microsoft.KeyVault",
        &[
            "vaults",
            "deletedVaults",
            "checkNameAvailability",
            "managedHSMs",
            "deletedManagedHSMs",
            "checkMhsmNameAvailability",
        ],
    ),
    ("Microsoft.ManagedIdentity", &["userAssignedIdentities"]),
    ("Microsoft.Network", &["virtualNetworks", "privateEndpoints"]),
    ("Microsoft.Resources", &["resourceGroups", "subscriptions"]),
    ("Microsoft.Storage", &["storageAccounts", "checkNameAvailability"]),
];

fn subscription(asked: &Asked<'_>) -> Value {
    let tenant = &asked.shared.options.tenant_id;
    json!({
        "id": format!("/subscriptions/{}", asked.subscription),
        "subscriptionId": asked.subscription,
        "tenantId": tenant,
        "homeTenantId": tenant,
        "displayName": "Azure Simulator",
        "state": "Enabled",
        "managedByTenants": [],
        "authorizationSource": "RoleBased",
        "subscriptionPolicies": { "locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off" },
    })
}

/// Only subscriptions in which the caller may read something.
fn visible(asked: &Asked<'_>) -> bool {
    let scope = format!("/subscriptions/{}", asked.subscription);
    asked
        .shared
        .world(|w| check::require(w, &asked.caller, "Microsoft.Resources/subscriptions/read", &scope, asked.call.now))
        .is_ok()
}

pub(crate) fn list(asked: &Asked<'_>) -> Outcome {
    let items: Vec<Value> = visible(asked).then(|| subscription(asked)).into_iter().collect();
    let count = items.len();
    Ok(Reply::ok(json!({ "value": items, "count": { "type": "Total", "value": count } })))
}

pub(crate) fn get(asked: &Asked<'_>) -> Outcome {
    let scope = format!("/subscriptions/{}", asked.subscription);
    asked.shared.world(|w| {
        check::require(w, &asked.caller, "Microsoft.Resources/subscriptions/read", &scope, asked.call.now)
    })?;
    Ok(Reply::ok(subscription(asked)))
}

pub(crate) fn tenants(asked: &Asked<'_>) -> Reply {
    let tenant = &asked.shared.options.tenant_id;
    Reply::list(vec![json!({
        "id": format!("/tenants/{tenant}"),
        "tenantId": tenant,
        "displayName": "Azure Simulator",
        "countryCode": "GB",
        "domains": [],
        "tenantCategory": "Home",
    })])
}

pub(crate) fn locations(asked: &Asked<'_>) -> Reply {
    let items = REGIONS
        .iter()
        .map(|name| {
            json!({
                "id": format!("/subscriptions/{}/locations/{name}", asked.subscription),
                "name": name,
                "displayName": name,
                "type": "Region",
            })
        })
        .collect();
    Reply::list(items)
}

/// The namespaces of the hand-written providers, and those of the generic one with its types.
fn played() -> BTreeMap<&'static str, Vec<(&'static str, Vec<&'static str>)>> {
    let mut all: BTreeMap<&str, Vec<(&str, Vec<&str>)>> = BTreeMap::new();
    for (namespace, types) in PLAYED {
        all.entry(namespace).or_default().extend(types.iter().map(|t| (*t, Vec::new())));
    }
    for (namespace, kind, versions) in crate::arm::generic::types() {
        all.entry(namespace).or_default().push((kind, versions.to_vec()));
    }
    all
}

fn provider(asked: &Asked<'_>, namespace: &str, types: &[(&str, Vec<&str>)]) -> Value {
    let types: Vec<Value> = types
        .iter()
        .map(|(kind, versions)| json!({ "resourceType": kind, "locations": REGIONS, "apiVersions": versions }))
        .collect();
    json!({
        "id": format!("/subscriptions/{}/providers/{namespace}", asked.subscription),
        "namespace": namespace,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationRequired",
        "resourceTypes": types,
    })
}

/// `rest` is empty for the list, else holds the namespace.
pub(crate) fn providers(asked: &Asked<'_>, rest: &[&str]) -> Outcome {
    if !asked.call.is("GET") {
        return Err(no_method(asked.call));
    }
    match rest {
        [] => Ok(Reply::list(played().iter().map(|(n, t)| provider(asked, n, t)).collect())),
        [name] => played()
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(n, t)| Reply::ok(provider(asked, n, t)))
            .ok_or_else(|| {
                Failure::new(404, "InvalidResourceNamespace", format!("The resource namespace '{name}' is invalid."))
            }),
        _ => Err(no_route(asked.call)),
    }
}

pub(crate) fn register(asked: &Asked<'_>, namespace: &str) -> Outcome {
    let scope = format!("/subscriptions/{}", asked.subscription);
    let action = format!("{namespace}/register/action");
    asked.shared.world(|w| check::require(w, &asked.caller, &action, &scope, asked.call.now))?;
    providers_by_name(asked, namespace)
}

fn providers_by_name(asked: &Asked<'_>, namespace: &str) -> Outcome {
    played()
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(namespace))
        .map(|(n, t)| Reply::ok(provider(asked, n, t)))
        .ok_or_else(|| Failure::not_played(namespace))
}
