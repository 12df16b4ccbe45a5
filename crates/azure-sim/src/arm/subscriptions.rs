//! Subscriptions, tenants and locations. There is one tenant.

use serde_json::{Value, json};

use crate::arm::Asked;
use crate::arm::checks::REGIONS;
use crate::http::{Outcome, Reply};
use crate::rbac::check;

fn subscription(asked: &Asked<'_>, id: &str) -> Value {
    let tenant = &asked.shared.options.tenant_id;
    json!({
        "id": format!("/subscriptions/{id}"),
        "subscriptionId": id,
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
fn visible(asked: &Asked<'_>, id: &str) -> bool {
    let scope = format!("/subscriptions/{id}");
    asked
        .shared
        .world(|w| check::require(w, &asked.caller, "Microsoft.Resources/subscriptions/read", &scope, asked.call.now))
        .is_ok()
}

pub(crate) fn list(asked: &Asked<'_>) -> Outcome {
    let known = asked.shared.options.subscriptions();
    let items: Vec<Value> = known.filter(|id| visible(asked, id)).map(|id| subscription(asked, id)).collect();
    let count = items.len();
    Ok(Reply::ok(json!({ "value": items, "count": { "type": "Total", "value": count } })))
}

pub(crate) fn get(asked: &Asked<'_>) -> Outcome {
    let scope = format!("/subscriptions/{}", asked.subscription);
    asked.shared.world(|w| {
        check::require(w, &asked.caller, "Microsoft.Resources/subscriptions/read", &scope, asked.call.now)
    })?;
    Ok(Reply::ok(subscription(asked, &asked.subscription)))
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
