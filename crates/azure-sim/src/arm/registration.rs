//! Registration of resource providers in the subscription: the list, register and unregister with their lag, and the
//! refusal of writes to a namespace that is not registered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::arm::checks::{REGIONS, no_route};
use crate::arm::namespaces::{self, Namespace};
use crate::arm::{Asked, no_method, resources};
use crate::http::{Failure, Outcome, Reply};
use crate::propagation::{Due, reached};
use crate::rbac::check;
use crate::state::World;

/// On its way to a state, or in it. A namespace without an entry has always been registered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registration {
    registered: bool,
    #[serde(with = "time::serde::rfc3339::option")]
    from: Due,
}

impl Registration {
    pub fn settle(&mut self, now: OffsetDateTime) {
        self.from = self.from.filter(|at| *at <= now).or(Some(now));
    }
}

/// By lower-case namespace.
pub(crate) type Registrations = BTreeMap<String, Registration>;

/// The states of a new world, of which the namespaces named are not registered.
pub(crate) fn initial(unregistered: &[String], now: OffsetDateTime) -> Registrations {
    let state = |n: &String| (n.to_lowercase(), Registration { registered: false, from: Some(now) });
    unregistered.iter().filter(|n| namespaces::find(n).is_none_or(|n| !n.free())).map(state).collect()
}

fn state(w: &World, namespace: &str, now: OffsetDateTime) -> &'static str {
    match w.governance.registrations.get(&namespace.to_lowercase()) {
        None => "Registered",
        Some(r) => match (r.registered, reached(r.from, now)) {
            (true, true) => "Registered",
            (true, false) => "Registering",
            (false, true) => "NotRegistered",
            (false, false) => "Unregistering",
        },
    }
}

/// Sets the state at once, for the control API. False for a namespace that this cloud does not have or that is always there.
pub(crate) fn set(w: &mut World, namespace: &str, registered: bool, now: OffsetDateTime) -> bool {
    if namespaces::find(namespace).is_none_or(Namespace::free) {
        return false;
    }
    w.governance.registrations.insert(namespace.to_lowercase(), Registration { registered, from: Some(now) });
    true
}

/// Every namespace with its state, for the control API.
pub(crate) fn states(w: &World, now: OffsetDateTime) -> Value {
    namespaces::all().iter().map(|n| (n.name.clone(), Value::from(state(w, &n.name, now)))).collect()
}

/// Refuses a write to a namespace that is not registered. A namespace counts as registered as soon as it is on its way out,
/// not before it is in (UNVERIFIED: the time between).
pub(crate) fn require(w: &World, namespace: &str, now: OffsetDateTime) -> Result<(), Failure> {
    if ["Registered", "Unregistering"].contains(&state(w, namespace, now)) {
        return Ok(());
    }
    let name = namespaces::find(namespace).map_or(namespace, |n| n.name.as_str());
    let message = format!(
        "The subscription is not registered to use namespace '{name}'. See https://aka.ms/rps-not-found for how to register subscriptions."
    );
    Err(Failure::new(409, "MissingSubscriptionRegistration", message.clone()).detail(
        "MissingSubscriptionRegistration",
        &message,
        Some(name),
    ))
}

fn render(asked: &Asked<'_>, w: &World, namespace: &Namespace) -> Value {
    let types: Vec<Value> = namespace
        .types
        .iter()
        .map(|t| {
            json!({
                "resourceType": t.name,
                "locations": REGIONS,
                "apiVersions": t.versions,
                "capabilities": "CrossResourceGroupResourceMove, CrossSubscriptionResourceMove, SystemAssignedResourceIdentity, SupportsTags, SupportsLocation",
            })
        })
        .collect();
    json!({
        "id": format!("/subscriptions/{}/providers/{}", asked.subscription, namespace.name),
        "namespace": namespace.name,
        "resourceTypes": types,
        "registrationState": state(w, &namespace.name, asked.call.now),
        "registrationPolicy": if namespace.free() { "RegistrationFree" } else { "RegistrationRequired" },
    })
}

fn known(name: &str) -> Result<&'static Namespace, Failure> {
    namespaces::find(name).ok_or_else(|| {
        Failure::new(404, "InvalidResourceNamespace", format!("The resource namespace '{name}' is invalid."))
    })
}

/// `rest` is empty for the list, else holds the namespace.
pub(crate) fn serve(asked: &Asked<'_>, rest: &[&str]) -> Outcome {
    if !asked.call.is("GET") {
        return Err(no_method(asked.call));
    }
    let scope = format!("/subscriptions/{}", asked.subscription);
    asked.shared.world(|w| {
        check::require(w, &asked.caller, "Microsoft.Resources/subscriptions/providers/read", &scope, asked.call.now)?;
        match rest {
            [] => Ok(Reply::list(namespaces::all().iter().map(|n| render(asked, w, n)).collect())),
            [name] => Ok(Reply::ok(render(asked, w, known(name)?))),
            _ => Err(no_route(asked.call)),
        }
    })
}

/// `register` and `unregister`: 200 with the state on its way.
pub(crate) fn change(asked: &Asked<'_>, namespace: &str, register: bool) -> Outcome {
    let now = asked.call.now;
    let scope = format!("/subscriptions/{}", asked.subscription);
    let verb = if register { "register" } else { "unregister" };
    let Some(namespace) = namespaces::find(namespace) else {
        // A namespace of Azure's that is not played is said to be so.
        return Err(crate::arm::checks::unknown(namespace, verb));
    };
    asked.shared.world(|w| {
        let action = format!("{}/{verb}/action", namespace.name);
        check::require(w, &asked.caller, &action, &scope, now)?;
        let have = state(w, &namespace.name, now);
        let there = if register { ["Registered", "Registering"] } else { ["NotRegistered", "Unregistering"] };
        if namespace.free() || there.contains(&have) {
            return Ok(Reply::ok(render(asked, w, namespace)));
        }
        let prefix = format!("{}/", namespace.name.to_lowercase());
        let used = resources::all(w, asked.shared, now)
            .into_iter()
            .any(|r| r["type"].as_str().is_some_and(|t| t.to_lowercase().starts_with(&prefix)));
        if !register && used {
            // Code UNVERIFIED.
            return Err(Failure::new(
                409,
                "Conflict",
                format!("Cannot unregister '{}': the subscription still has resources of it.", namespace.name),
            ));
        }
        let from = w.due(|p| &p.registration, now);
        let entry = Registration { registered: register, from };
        w.governance.registrations.insert(namespace.name.to_lowercase(), entry);
        asked.call.touch();
        Ok(Reply::ok(render(asked, w, namespace)))
    })
}
