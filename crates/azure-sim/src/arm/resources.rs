//! Resources of all types looked at alike: the generic lists, whether an id exists, and the present body of any resource.
//! Another provider adds its resources in `all`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::checks::no_group;
use crate::arm::filter::{Filter, Term, invalid};
use crate::arm::generic;
use crate::arm::target::Target;
use crate::arm::{Asked, vault_keys};
use crate::glob;
use crate::http::{Outcome, Reply, rfc3339};
use crate::propagation::reached;
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::{Shared, World};

/// When a resource was made and last changed, as ARM keeps it beside the resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    changed: OffsetDateTime,
}

/// By lower-case id.
pub(crate) type AllTimes = BTreeMap<String, Times>;

/// Every tracked resource that reads show now, as its own GET shows it.
pub(crate) fn all(w: &World, shared: &Shared, now: OffsetDateTime) -> Vec<Value> {
    let vaults = w.vaults.values().filter(|v| reached(v.visible_from, now)).map(|v| v.render(&shared.addresses, now));
    let tenant = &shared.options.tenant_id;
    let identities = w.identities.values().filter(|i| reached(i.visible_from, now)).map(|i| i.render(tenant));
    let accounts = w.accounts.values().filter(|a| a.ready(now)).map(|a| a.render(w, shared, now));
    let hsms = w.hsms.values().filter(|h| reached(h.visible_from, now)).map(|h| h.render(w, &shared.addresses, now));
    let others = generic::rows(w, now).map(|r| r.render(w, shared, now));
    let networks = w.networks.virtual_networks.values().map(|n| n.render(&w.networks));
    let endpoints = w.networks.endpoints.values().map(|e| e.render(&w.networks));
    vaults.chain(networks).chain(endpoints).chain(hsms).chain(identities).chain(accounts).chain(others).collect()
}

/// The ids of all tracked resources, visible or not yet.
pub(crate) fn ids(w: &World) -> impl Iterator<Item = &str> {
    w.vaults
        .values()
        .map(|v| v.id.as_str())
        .chain(w.identities.values().map(|i| i.id.as_str()))
        .chain(w.accounts.values().map(|a| a.id.as_str()))
        .chain(w.hsms.values().map(|h| h.id.as_str()))
        .chain(w.networks.virtual_networks.values().map(|n| n.id.as_str()))
        .chain(w.networks.endpoints.values().map(|e| e.id.as_str()))
        // A parent stands before its children.
        .chain(w.resources.values().map(|r| r.id.as_str()))
}

/// One resource or group by its id.
pub(crate) fn view(w: &World, shared: &Shared, id: &str, now: OffsetDateTime) -> Option<Value> {
    let key = id.to_lowercase();
    if let Some(group) = w.groups.get(&key) {
        return reached(group.visible_from, now).then(|| group.render());
    }
    if let Some(other) = w.resources.get(&key) {
        return other.visible(now).then(|| other.render(w, shared, now));
    }
    if let Some(key) = vault_keys::view(w, shared, id) {
        return Some(key);
    }
    all(w, shared, now).into_iter().find(|r| r["id"].as_str().is_some_and(|i| i.eq_ignore_ascii_case(id)))
}

/// HEAD on a resource: 204 when it is there.
pub(crate) fn exists(asked: &Asked<'_>, target: &Target) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|w| {
        check::require(w, &asked.caller, &target.action(asked.call), &target.id, now)?;
        let there = view(w, asked.shared, &target.id, now).is_some();
        Ok(Reply::empty(if there { 204 } else { 404 }))
    })
}

/// Notes the times of a resource after a request that changed it.
pub(crate) fn note(asked: &Asked<'_>, target: &Target, status: u16) {
    if !matches!(asked.call.method.as_str(), "PUT" | "PATCH") {
        return;
    }
    let now = asked.call.now;
    asked.shared.world(|w| {
        let entry = w.governance.times.entry(target.id.to_lowercase());
        let times = entry.or_insert(Times { created: now, changed: now });
        if status == 201 {
            times.created = now;
        }
        times.changed = now;
    });
}

/// The generic list, of a group or of the subscription.
pub(crate) fn list(asked: &Asked<'_>, group: Option<&str>) -> Outcome {
    let now = asked.call.now;
    let scope = match group {
        Some(name) => asked.group_id(name),
        None => format!("/subscriptions/{}", asked.subscription),
    };
    let filter = Filter::read(asked.call.param("$filter"))?;
    if let Some(strange) = filter.terms().find(|t| !known(t)) {
        return Err(invalid(&format!("{strange:?}")));
    }
    let expand: Vec<String> =
        asked.call.param("$expand").unwrap_or_default().split(',').map(|e| e.trim().to_lowercase()).collect();
    asked.shared.world(|w| {
        let action = "Microsoft.Resources/subscriptions/resourceGroups/read";
        check::require(w, &asked.caller, action, &scope, now)?;
        if let Some(name) = group.filter(|_| !w.groups.contains_key(&scope.to_lowercase())) {
            return Err(no_group(name));
        }
        let items = all(w, asked.shared, now)
            .iter()
            .filter(|r| at_or_above(&scope, text(r, "id")))
            .filter(|r| passes(&filter, r))
            .map(|r| row(w, r, &expand, now))
            .collect();
        Ok(Reply::list(items))
    })
}

fn text<'v>(resource: &'v Value, name: &str) -> &'v str {
    resource[name].as_str().unwrap_or_default()
}

/// The generic row: what ARM itself keeps of a resource, without its properties.
fn row(w: &World, resource: &Value, expand: &[String], now: OffsetDateTime) -> Value {
    let mut row = Map::new();
    for name in ["id", "name", "type", "sku", "kind", "managedBy", "location", "identity", "tags"] {
        if let Some(value) = resource.get(name).filter(|v| !v.is_null()) {
            row.insert(name.to_owned(), value.clone());
        }
    }
    let asks = |what: &str| expand.iter().any(|e| e == what);
    let times = w.governance.times.get(&text(resource, "id").to_lowercase());
    if asks("createdtime") {
        row.insert("createdTime".into(), rfc3339(times.map_or(now, |t| t.created)).into());
    }
    if asks("changedtime") {
        row.insert("changedTime".into(), rfc3339(times.map_or(now, |t| t.changed)).into());
    }
    if asks("provisioningstate") {
        let state = resource["properties"]["provisioningState"].as_str().unwrap_or("Succeeded");
        row.insert("provisioningState".into(), state.into());
    }
    Value::Object(row)
}

fn known(term: &Term) -> bool {
    match term {
        Term::Compare { field, .. } => {
            ["resourcetype", "name", "location", "resourcegroup", "tagname", "tagvalue", "identity/principalid"]
                .contains(&field.to_lowercase().as_str())
        }
        Term::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
            ("substringof", [_, field]) | ("startswith", [field, _]) => {
                ["name", "resourcegroup", "tagname"].contains(&field.to_lowercase().as_str())
            }
            _ => false,
        },
    }
}

fn passes(filter: &Filter, resource: &Value) -> bool {
    // `tagName` and `tagValue` belong together: the value is that of the tag named.
    let tag = filter.terms().find_map(|t| match t {
        Term::Compare { field, value, .. } if field.eq_ignore_ascii_case("tagName") => Some(value.clone()),
        _ => None,
    });
    filter.holds(|term| match term {
        Term::Compare { field, equal, value } => {
            compare(resource, &field.to_lowercase(), value, tag.as_deref()) == *equal
        }
        Term::Call { name, arguments } => {
            let (field, pattern) = match (name.as_str(), arguments.as_slice()) {
                ("substringof", [part, field]) => (field, format!("*{part}*")),
                (_, [field, start]) => (field, format!("{start}*")),
                _ => return false,
            };
            match field.to_lowercase().as_str() {
                "tagname" => tags(resource).any(|(name, _)| glob::matches(&pattern, name)),
                "resourcegroup" => glob::matches(&pattern, group_of(resource)),
                _ => glob::matches(&pattern, text(resource, "name")),
            }
        }
    })
}

fn tags(resource: &Value) -> impl Iterator<Item = (&str, &str)> {
    resource["tags"].as_object().into_iter().flatten().map(|(n, v)| (n.as_str(), v.as_str().unwrap_or_default()))
}

/// Whether a resource or group has the tag, and the value where one is asked for.
pub(crate) fn tagged(resource: &Value, name: Option<&str>, value: Option<&str>) -> bool {
    tags(resource)
        .any(|(n, v)| name.is_none_or(|name| name.eq_ignore_ascii_case(n)) && value.is_none_or(|value| value == v))
}

fn group_of(resource: &Value) -> &str {
    text(resource, "id").split('/').nth(4).unwrap_or_default()
}

fn compare(resource: &Value, field: &str, value: &str, tag: Option<&str>) -> bool {
    match field {
        "resourcetype" => text(resource, "type").eq_ignore_ascii_case(value),
        "location" => text(resource, "location") == crate::http::region(value),
        "resourcegroup" => group_of(resource).eq_ignore_ascii_case(value),
        "tagname" => tagged(resource, Some(value), None),
        "tagvalue" => tagged(resource, tag, Some(value)),
        "identity/principalid" => {
            let users = resource["identity"]["userAssignedIdentities"].as_object().into_iter().flatten();
            let mut ids = users.map(|(_, v)| &v["principalId"]).chain([&resource["identity"]["principalId"]]);
            ids.any(|id| *id == json!(value))
        }
        _ => text(resource, "name").eq_ignore_ascii_case(value),
    }
}
