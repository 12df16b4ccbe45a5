//! Microsoft.Authorization/locks: CanNotDelete and ReadOnly at a subscription, a group or a resource, inherited by all below,
//! and their enforcement for every provider. The data planes know nothing of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arm::checks::no_route;
use crate::arm::filter::{Filter, Term, invalid};
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::target::Target;
use crate::arm::{Asked, no_method, scopes};
use crate::http::{Call, Failure, Outcome, Reply};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::World;

/// A management lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lock {
    id: String,
    name: String,
    pub scope: String,
    level: String,
    notes: Option<String>,
    owners: Option<Value>,
}

/// By lower-case id.
pub(crate) type Locks = BTreeMap<String, Lock>;

const OWNER: Shape = Shape::Object(&[may("applicationId", Shape::Text)]);

const BODY: &[Member] = &[
    must(
        "properties",
        Shape::Object(&[
            must("level", Shape::OneOf(&["NotSpecified", "CanNotDelete", "ReadOnly"])),
            may("notes", Shape::Text),
            may("owners", Shape::List(&OWNER)),
        ]),
    ),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

/// Locks that one scope takes (Azure's limit of 20 per scope).
const MOST_PER_SCOPE: usize = 20;

impl Lock {
    fn render(&self) -> Value {
        let mut properties = json!({ "level": self.level });
        if let Some(notes) = &self.notes {
            properties["notes"] = notes.clone().into();
        }
        if let Some(owners) = &self.owners {
            properties["owners"] = owners.clone();
        }
        json!({
            "properties": properties,
            "id": self.id,
            "type": "Microsoft.Authorization/locks",
            "name": self.name,
        })
    }
}

pub(crate) fn serve(asked: &Asked<'_>, scope: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    let verb = match call.method.as_str() {
        "GET" => "read",
        "PUT" => "write",
        "DELETE" => "delete",
        _ => return Err(no_method(call)),
    };
    asked.shared.world(|w| {
        let action = format!("Microsoft.Authorization/locks/{verb}");
        check::require(w, &asked.caller, &action, scope, call.now)?;
        let scope = scopes::canonical(asked, w, scope)?;
        match (verb, rest) {
            ("read", []) => list(asked, w, &scope),
            ("read", [name]) => w
                .governance
                .locks
                .get(&key(&scope, name))
                .map(|l| Reply::ok(l.render()))
                .ok_or_else(|| Failure::new(404, "LockNotFound", format!("The lock '{name}' could not be found."))),
            ("write", [name]) => put(asked, w, scope, name),
            ("delete", [name]) => Ok(match w.governance.locks.remove(&key(&scope, name)) {
                Some(_) => {
                    call.touch();
                    Reply::empty(200)
                }
                None => Reply::empty(204),
            }),
            (_, []) => Err(no_method(call)),
            _ => Err(no_route(call)),
        }
    })
}

fn id_of(scope: &str, name: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/locks/{name}")
}

fn key(scope: &str, name: &str) -> String {
    id_of(scope, name).to_lowercase()
}

/// Without a filter, locks at, above and below the scope; with `atScope()`, not those below (UNVERIFIED both).
fn list(asked: &Asked<'_>, w: &World, scope: &str) -> Outcome {
    let text = asked.call.param("$filter");
    let filter = Filter::read(text)?;
    let at_scope = |t: &Term| matches!(t, Term::Call { name, arguments } if name == "atscope" && arguments.is_empty());
    if !filter.terms().all(at_scope) {
        return Err(invalid(text.unwrap_or_default()));
    }
    let below = filter.terms().next().is_none();
    let items = w
        .governance
        .locks
        .values()
        .filter(|l| at_or_above(&l.scope, scope) || (below && at_or_above(scope, &l.scope)))
        .map(Lock::render)
        .collect();
    Ok(Reply::list(items))
}

fn put(asked: &Asked<'_>, w: &mut World, scope: String, name: &str) -> Outcome {
    let good = (1..=260).contains(&name.chars().count()) && !name.contains(['<', '>', '%', '&', ':', '\\', '?', '/']);
    if !good {
        return Err(Failure::new(400, "InvalidLockName", format!("The lock name '{name}' is not valid.")));
    }
    let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
    let properties = &body["properties"];
    let notes = properties["notes"].as_str().map(str::to_owned);
    if notes.as_ref().is_some_and(|n| n.chars().count() > 512) {
        return Err(Failure::new(400, "InvalidLockNotes", "The notes of a lock can have at most 512 characters."));
    }
    let lock = Lock {
        id: id_of(&scope, name),
        name: name.to_owned(),
        level: properties["level"].as_str().unwrap_or_default().to_owned(),
        notes,
        owners: properties.get("owners").cloned(),
        scope,
    };
    let key = lock.id.to_lowercase();
    let locks = &mut w.governance.locks;
    let at_scope = locks.values().filter(|l| l.scope.eq_ignore_ascii_case(&lock.scope)).count();
    if !locks.contains_key(&key) && at_scope >= MOST_PER_SCOPE {
        return Err(Failure::new(400, "LockLimitExceeded", "The scope has the largest number of locks it can have."));
    }
    let answer = lock.render();
    let old = locks.insert(key, lock.clone());
    if old.as_ref() != Some(&lock) {
        asked.call.touch();
    }
    Ok(Reply::json(if old.is_some() { 200 } else { 201 }, answer))
}

/// Refuses what a lock forbids: deletes of what is locked at, above or below; under ReadOnly every write, and every POST,
/// listKeys too. Locks themselves are never held by locks, nor is asking whether a name is free.
pub(crate) fn enforce(w: &World, call: &Call, target: &Target) -> Result<(), Failure> {
    if w.governance.locks.is_empty() || is_exempt(target) {
        return Ok(());
    }
    let deletes = call.is("DELETE");
    let holding: Vec<&str> = w
        .governance
        .locks
        .values()
        .filter(|lock| match lock.level.as_str() {
            "ReadOnly" => at_or_above(&lock.scope, &target.id) || (deletes && at_or_above(&target.id, &lock.scope)),
            "CanNotDelete" => deletes && (at_or_above(&lock.scope, &target.id) || at_or_above(&target.id, &lock.scope)),
            _ => false,
        })
        .map(|lock| lock.scope.as_str())
        .collect();
    if holding.is_empty() {
        return Ok(());
    }
    let operation = if deletes { "delete" } else { "write" };
    Err(Failure::new(
        409,
        "ScopeLocked",
        format!(
            "The scope '{}' cannot perform {operation} operation because following scope(s) are locked: '{}'. Please remove the lock and try again.",
            target.id,
            holding.join(",")
        ),
    ))
}

fn is_exempt(target: &Target) -> bool {
    let lock =
        target.namespace.eq_ignore_ascii_case("Microsoft.Authorization") && (target.kind.eq_ignore_ascii_case("locks"));
    // Questions that are asked by POST.
    let asks = ["checkNameAvailability", "checkPolicyRestrictions"];
    lock || target.tail.last().is_some_and(|t| asks.iter().any(|ask| t.eq_ignore_ascii_case(ask)))
}
