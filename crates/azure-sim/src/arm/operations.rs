//! Long-running operations: how long they take, how they end, and the two URLs by which a client follows them. What an
//! operation does is the provider's; here is only its course.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::arm::Asked;
use crate::http::{Call, Failure, LroFault, Outcome, Reply, rfc3339};
use crate::propagation::{Due, reached};
use crate::state::{Shared, World};

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub id: String,
    started: OffsetDateTime,
    /// When it ends; `None` is never.
    ends: Due,
    failure: Option<(String, String)>,
    result: Ending,
    /// The word for a running operation; empty is `InProgress`.
    running: String,
    /// Who started it; others are told 404.
    principal: String,
}

/// What the result URL answers when the operation has ended well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ending {
    /// 200 without a body.
    Nothing,
    /// 200 with the storage account of this lower-case name as it then is.
    Account(String),
    /// 200 with the resource of the generic provider of this lower-case id as it then is.
    Resource(String),
    /// 200 with the managed HSM of this lower-case name as it then is.
    Hsm(String),
}

/// Operations kept; the oldest are forgotten beyond that.
const MOST: usize = 20_000;

/// A started operation, for the provider to act on.
pub(crate) struct Started {
    pub id: String,
    pub ends: Due,
    pub fails: bool,
}

/// Starts an operation whose course the fault rules may have changed.
pub(crate) fn start(shared: &Shared, world: &mut World, call: &Call, principal: &str, result: Ending) -> Started {
    start_lasting(world, call, principal, result, shared.tuning().lro())
}

/// The same with a duration of its own.
pub(crate) fn start_lasting(
    world: &mut World,
    call: &Call,
    principal: &str,
    result: Ending,
    length: std::time::Duration,
) -> Started {
    begin(world, call, principal, result, Course { length, failure: None, running: "InProgress" })
}

/// How an operation goes, unless a fault rule says otherwise.
pub(crate) struct Course<'a> {
    pub length: std::time::Duration,
    /// Code and text with which it ends badly.
    pub failure: Option<(String, String)>,
    /// The service's word for a running operation.
    pub running: &'a str,
}

/// Starts an operation of this course.
pub(crate) fn begin(world: &mut World, call: &Call, principal: &str, result: Ending, course: Course<'_>) -> Started {
    let id = world.guid().to_string();
    let length = match &call.lro_fault {
        Some(LroFault::Takes { seconds } | LroFault::Fail { after: Some(seconds), .. }) => {
            Duration::saturating_seconds_f64(seconds.max(0.0))
        }
        _ => Duration::try_from(course.length).unwrap_or(Duration::HOUR),
    };
    let done = call.now.saturating_add(length);
    let (ends, failure) = match &call.lro_fault {
        Some(LroFault::NeverEnds) => (None, None),
        Some(LroFault::Fail { code, message, .. }) => (Some(done), Some((code.clone(), message.clone()))),
        Some(LroFault::Takes { .. }) | None => (Some(done), course.failure),
    };
    let fails = failure.is_some();
    if world.operations.len() >= MOST {
        let oldest = world.operations.values().min_by_key(|o| o.started).map(|o| o.id.clone());
        if let Some(oldest) = oldest {
            world.operations.remove(&oldest);
        }
    }
    world.operations.insert(
        id.clone(),
        Operation {
            id: id.clone(),
            started: call.now,
            ends,
            failure,
            result,
            running: course.running.to_owned(),
            principal: principal.to_owned(),
        },
    );
    Started { id, ends, fails }
}

/// A 202 that points to the given path under the caller's own origin.
pub(crate) fn accepted(shared: &Shared, call: &Call, path: &str) -> Reply {
    let version = call.param("api-version").unwrap_or_default();
    let separator = if path.contains('?') { '&' } else { '?' };
    let reply = Reply::empty(202).with("location", format!("{}{path}{separator}api-version={version}", call.origin));
    match shared.tuning().lro_retry_after {
        Some(seconds) => reply.with("retry-after", seconds.to_string()),
        None => reply,
    }
}

fn lost(id: &str) -> Failure {
    Failure::new(404, "NotFound", format!("The operation '{id}' was not found."))
}

/// An operation that the caller itself started; nobody else learns that it exists.
fn own<'w>(world: &'w World, asked: &Asked<'_>, id: &str) -> Result<&'w Operation, Failure> {
    let found = world.operations.get(&id.to_lowercase());
    found.filter(|op| op.principal == asked.caller.oid).ok_or_else(|| lost(id))
}

/// The result URL (`Location`): 202 while it runs, then the result, or the error with which it ended.
pub(crate) fn result(asked: &Asked<'_>, id: &str) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|world| {
        let op = own(world, asked, id)?;
        if !reached(op.ends, now) {
            let reply = Reply::empty(202)
                .with("location", format!("{}{}?{}", asked.call.origin, asked.call.path, asked.call.raw_query));
            return Ok(match asked.shared.tuning().lro_retry_after {
                Some(seconds) => reply.with("retry-after", seconds.to_string()),
                None => reply,
            });
        }
        if let Some((code, message)) = &op.failure {
            return Err(Failure::new(409, code.clone(), message.clone()));
        }
        Ok(match &op.result {
            Ending::Nothing => Reply::empty(200),
            Ending::Account(name) => match world.accounts.get(name) {
                Some(account) => Reply::ok(account.render(world, asked.shared, now)),
                None => return Err(lost(id)),
            },
            Ending::Resource(key) => match crate::arm::generic::shown(world, asked.shared, key, now) {
                Some(resource) => Reply::ok(resource),
                None => return Err(lost(id)),
            },
            Ending::Hsm(name) => match world.hsms.get(name) {
                Some(hsm) => Reply::ok(hsm.render(world, &asked.shared.addresses, now)),
                None => return Err(lost(id)),
            },
        })
    })
}

/// The status URL (`Azure-AsyncOperation`): always 200 with the status document.
pub(crate) fn status(asked: &Asked<'_>, id: &str) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|world| {
        let op = own(world, asked, id)?;
        let ended = reached(op.ends, now);
        let status = match (&op.failure, ended) {
            (_, false) if op.running.is_empty() => "InProgress",
            (_, false) => &op.running,
            (None, true) => "Succeeded",
            (Some(_), true) => "Failed",
        };
        let mut body = json!({
            "id": asked.call.path,
            "name": op.id,
            "status": status,
            "startTime": rfc3339(op.started),
        });
        if let (Value::Object(map), true) = (&mut body, ended) {
            map.insert("endTime".into(), op.ends.map(rfc3339).into());
            if let Some((code, message)) = &op.failure {
                map.insert("error".into(), json!({ "code": code, "message": message }));
            }
        }
        Ok(Reply::ok(body))
    })
}
