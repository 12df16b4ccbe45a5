//! The control API under `/_sim/` of the ARM origin: clock, lags, faults, journal, state. From loopback only, without a
//! token; its requests are not in the journal. Documented in the crate's README.

use std::sync::PoisonError;

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::arm::registration;
use crate::entra::certificates::Certificate;
use crate::entra::host::Machine;
use crate::faults::Rule;
use crate::http::{Call, Failure, Outcome, Reply};
use crate::journal::Filter;
use crate::propagation::Propagation;
use crate::seed::SeedIssuer;
use crate::snapshot;
use crate::state::Shared;
use crate::throttle::Throttling;
use crate::tuning::Tuning;

pub(crate) fn serve(shared: &Shared, call: &Call) -> Outcome {
    if !call.peer.is_loopback() {
        return Err(Failure::new(
            403,
            "ControlFromLoopbackOnly",
            "The control API answers callers from loopback only.",
        ));
    }
    let parts: Vec<&str> = call.segments.iter().skip(1).map(String::as_str).collect();
    match (call.method.as_str(), parts.as_slice()) {
        ("GET", ["clock"]) => Ok(clock(shared)),
        ("POST", ["clock"]) => set_clock(shared, call),
        ("GET", ["propagation"]) => shared.world(|w| as_reply(&w.propagation)),
        ("PUT", ["propagation"]) => {
            let to = propagation(call)?;
            shared.world(|w| {
                w.propagation = to;
                as_reply(&w.propagation)
            })
        }
        ("POST", ["settle"]) => {
            let now = shared.clock.now();
            shared.world(|w| w.settle(now));
            Ok(Reply::empty(204))
        }
        ("GET", ["throttling"]) => as_reply(&shared.throttle.limits()),
        ("PUT", ["throttling"]) => {
            shared.throttle.set(body::<Throttling>(call)?);
            as_reply(&shared.throttle.limits())
        }
        ("GET", ["options"]) => as_reply(&shared.tuning()),
        ("PUT", ["options"]) => set_tuning(shared, call),
        ("GET", ["registrations"]) => Ok(Reply::ok(shared.world(|w| registration::states(w, call.now)))),
        ("PUT", ["registrations"]) => set_registrations(shared, call),
        ("GET", ["network"]) => Ok(standpoint(shared)),
        ("PUT", ["network"]) => stand(shared, call),
        ("GET", ["faults"]) => as_reply(&shared.faults.list()),
        ("POST", ["faults"]) => add_fault(shared, call),
        ("DELETE", ["faults"]) => {
            shared.faults.clear();
            Ok(Reply::empty(204))
        }
        ("DELETE", ["faults", id]) => {
            if shared.faults.remove(id) {
                Ok(Reply::empty(204))
            } else {
                Err(Failure::new(404, "NoSuchRule", format!("There is no fault rule '{id}'.")))
            }
        }
        ("GET", ["journal"]) => {
            let filter = filter_of_query(call)?;
            let entries = shared.journal.find(&filter);
            let last = shared.journal.last_seq();
            as_reply(&entries).map(|r| r.with("x-sim-last-seq", last.to_string()))
        }
        ("DELETE", ["journal"]) => {
            shared.journal.clear();
            Ok(Reply::empty(204))
        }
        ("POST", ["journal", "assert"]) => assert(shared, call),
        ("GET", ["state"]) => Ok(Reply::ok(snapshot::full(shared))),
        ("GET", ["state", "normalized"]) => Ok(Reply::ok(snapshot::normalized(shared))),
        ("POST", ["hsms", name, "activate"]) => {
            let now = shared.clock.now();
            let shown = shared.world(|w| {
                w.activate_hsm(name, now).then_some(())?;
                w.hsms.get(&name.to_lowercase()).map(|h| h.render(w, &shared.addresses, now))
            });
            shown
                .map(Reply::ok)
                .ok_or_else(|| Failure::new(404, "NoSuchHsm", format!("There is no provisioned managed HSM '{name}'.")))
        }
        ("PUT", ["issuers"]) => {
            body::<SeedIssuer>(call)?.plant(shared);
            Ok(Reply::empty(204))
        }
        ("POST", ["principals", client_id, "certificates"]) => register_certificate(shared, call, client_id),
        ("GET", ["machine"]) => shared.world(|w| as_reply(&w.machine)),
        ("PUT", ["machine"]) => {
            let to: Machine = body(call)?;
            shared.world(|w| {
                w.machine = to;
                as_reply(&w.machine)
            })
        }
        ("POST", ["reset"]) => {
            shared.reset();
            Ok(Reply::empty(204))
        }
        _ => Err(Failure::new(
            404,
            "NoSuchControl",
            "Known: clock, propagation, settle, throttling, options, registrations, network, issuers, principals/{clientId}/certificates, machine, faults, journal, journal/assert, state, state/normalized, hsms/{name}/activate, reset.",
        )),
    }
}

fn body<T: serde::de::DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    serde_json::from_slice(&call.body).map_err(|e| Failure::new(400, "BadControlRequest", e.to_string()))
}

fn as_reply<T: serde::Serialize>(value: &T) -> Outcome {
    serde_json::to_value(value).map(Reply::ok).map_err(|e| Failure::new(500, "InternalServerError", e.to_string()))
}

fn clock(shared: &Shared) -> Reply {
    Reply::ok(serde_json::to_value(shared.clock.state()).unwrap_or_default())
}

/// Any of these, carried out in this order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClockChange {
    #[serde(default, with = "time::serde::rfc3339::option")]
    set: Option<OffsetDateTime>,
    advance_seconds: Option<f64>,
    scale: Option<f64>,
    frozen: Option<bool>,
}

fn set_clock(shared: &Shared, call: &Call) -> Outcome {
    let change: ClockChange = body(call)?;
    if let Some(to) = change.set {
        shared.clock.set(to);
    }
    if let Some(seconds) = change.advance_seconds {
        let by = std::time::Duration::try_from_secs_f64(seconds)
            .map_err(|_| Failure::new(400, "BadControlRequest", "advanceSeconds must be a positive number."))?;
        shared.clock.advance(by);
    }
    if let Some(scale) = change.scale {
        shared.clock.set_scale(scale);
    }
    match change.frozen {
        Some(true) => shared.clock.freeze(),
        Some(false) => shared.clock.resume(),
        None => {}
    }
    Ok(clock(shared))
}

/// All lags, or the name of a preset as a JSON string.
fn propagation(call: &Call) -> Result<Propagation, Failure> {
    let sent: Value = body(call)?;
    let wrong = |why: String| Failure::new(400, "BadControlRequest", why);
    match sent.as_str() {
        Some(name) => Propagation::preset(name).ok_or_else(|| wrong(format!("There is no preset '{name}'."))),
        None => serde_json::from_value(sent).map_err(|e| wrong(e.to_string())),
    }
}

/// Sets the settings named; the others stay.
fn set_tuning(shared: &Shared, call: &Call) -> Outcome {
    let wrong = |why: String| Failure::new(400, "BadControlRequest", why);
    let changes: serde_json::Map<String, Value> = body(call)?;
    let mut tuning = shared.tuning.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = serde_json::to_value(&*tuning).map_err(|e| wrong(e.to_string()))?;
    if let Value::Object(all) = &mut all {
        all.extend(changes);
    }
    let to: Tuning = serde_json::from_value(all).map_err(|e| wrong(e.to_string()))?;
    if !(0.0..=1e9).contains(&to.lro_seconds) || to.page_size == 0 {
        return Err(wrong("lroSeconds must be from 0 to 1e9, pageSize at least 1.".to_owned()));
    }
    *tuning = to;
    as_reply(&*tuning)
}

/// `{"Microsoft.Storage": false}`: registered or not, at once.
fn set_registrations(shared: &Shared, call: &Call) -> Outcome {
    let changes: std::collections::BTreeMap<String, bool> = body(call)?;
    shared.world(|w| {
        for (namespace, registered) in &changes {
            if !registration::set(w, namespace, *registered, call.now) {
                return Err(Failure::new(
                    400,
                    "BadControlRequest",
                    format!("'{namespace}' is no namespace of this cloud, or one that is always registered."),
                ));
            }
        }
        Ok(Reply::ok(registration::states(w, call.now)))
    })
}

/// Where callers without a public address stand.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Standpoint {
    /// Id of a subnet; `null` is the Internet.
    subnet: Option<String>,
}

fn standpoint(shared: &Shared) -> Reply {
    Reply::ok(json!({ "subnet": shared.world(|w| w.networks.standpoint.clone()) }))
}

fn stand(shared: &Shared, call: &Call) -> Outcome {
    let to: Standpoint = body(call)?;
    if shared.stand_in(to.subnet.as_deref()) {
        return Ok(standpoint(shared));
    }
    Err(Failure::new(404, "NoSuchSubnet", "There is no subnet of this id."))
}

/// A certificate in PEM for the application of this id; in Azure Microsoft Graph takes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Registered {
    certificate: String,
}

/// The most certificates of one application; the simulator's own limit.
const MOST_CERTIFICATES: usize = 100;

fn register_certificate(shared: &Shared, call: &Call, client_id: &str) -> Outcome {
    let sent: Registered = body(call)?;
    let certificate = Certificate::from_pem(&sent.certificate)
        .map_err(|e| Failure::new(400, "BadControlRequest", format!("certificate: {e}.")))?;
    shared.world(|w| {
        let found = w.principals.values_mut().find(|p| p.app_id.eq_ignore_ascii_case(client_id));
        let principal = found
            .ok_or_else(|| Failure::new(404, "NoSuchPrincipal", "There is no application with this client id."))?;
        if principal.certificates.len() >= MOST_CERTIFICATES {
            return Err(Failure::new(409, "TooManyCertificates", "The application has too many certificates."));
        }
        if !principal.certificates.contains(&certificate) {
            principal.certificates.push(certificate);
        }
        Ok(Reply::empty(204))
    })
}

fn add_fault(shared: &Shared, call: &Call) -> Outcome {
    let rule: Rule = body(call)?;
    match shared.faults.add(rule) {
        Some(id) => Ok(Reply::json(201, json!({ "id": id }))),
        None => Err(Failure::new(409, "TooManyRules", "There are too many fault rules.")),
    }
}

/// The filter's members as query parameters.
fn filter_of_query(call: &Call) -> Result<Filter, Failure> {
    let mut map = serde_json::Map::new();
    for (name, value) in &call.query {
        let typed = match name.as_str() {
            "status" | "statusFrom" | "statusTo" | "after" | "before" | "first" | "limit" => {
                value.parse::<u64>().map(Value::from).ok()
            }
            "mutating" | "changed" => value.parse::<bool>().map(Value::from).ok(),
            _ => Some(value.clone().into()),
        };
        let typed = typed
            .ok_or_else(|| Failure::new(400, "BadControlRequest", format!("Parameter '{name}' has a wrong value.")))?;
        map.insert(name.clone(), typed);
    }
    serde_json::from_value(Value::Object(map)).map_err(|e| Failure::new(400, "BadControlRequest", e.to_string()))
}

/// A statement about the journal: how many entries match the filter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Statement {
    #[serde(default)]
    filter: Filter,
    exactly: Option<usize>,
    at_least: Option<usize>,
    at_most: Option<usize>,
}

fn assert(shared: &Shared, call: &Call) -> Outcome {
    let statement: Statement = body(call)?;
    if statement.exactly.is_none() && statement.at_least.is_none() && statement.at_most.is_none() {
        return Err(Failure::new(400, "BadControlRequest", "Say exactly, atLeast or atMost."));
    }
    let count = shared.journal.count(&statement.filter);
    let holds = statement.exactly.is_none_or(|n| count == n)
        && statement.at_least.is_none_or(|n| count >= n)
        && statement.at_most.is_none_or(|n| count <= n);
    if holds {
        return Ok(Reply::ok(json!({ "holds": true, "count": count })));
    }
    Ok(Reply::json(409, json!({ "holds": false, "count": count })))
}
