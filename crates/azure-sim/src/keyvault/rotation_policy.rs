//! Rotation policies: reading, checking, storing. What they do by the clock is `rotation`; notices are stored and never sent.

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::Asked;
use crate::keyvault::access::pass;
use crate::keyvault::holder::{Holder, Zone};
use crate::keyvault::key_body::{self, bad};
use crate::keyvault::key_model::{Key, Rotation, kid};
use crate::keyvault::keys::{not_found, shown};

pub(crate) fn get(asked: &Asked<'_>, name: &str) -> Outcome {
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keyrotationpolicies/read", Some(name), "getrotationpolicy")?;
        let key = shown(asked, vault, name)?;
        Ok(Reply::ok(render(asked, vault, key)))
    })
}

/// A key without a policy shows the default one: a notice 30 days before expiry.
fn render(asked: &Asked<'_>, vault: &Holder, key: &Key) -> Value {
    let id = format!("{}/rotationpolicy", kid(vault, &asked.shared.addresses, &key.name, ""));
    match &key.rotation {
        Some(policy) => {
            let mut attributes = Map::new();
            if let Some(expiry) = &policy.expiry {
                attributes.insert("expiryTime".into(), expiry.clone().into());
            }
            attributes.insert("created".into(), policy.created.into());
            attributes.insert("updated".into(), policy.updated.into());
            json!({ "id": id, "lifetimeActions": policy.actions, "attributes": attributes })
        }
        None => json!({
            "id": id,
            "lifetimeActions": [{ "trigger": { "timeBeforeExpiry": "P30D" }, "action": { "type": "Notify" } }],
            "attributes": {},
        }),
    }
}

pub(crate) fn put(asked: &Asked<'_>, name: &str) -> Outcome {
    let now = asked.call.now.unix_timestamp();
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keyrotationpolicies/write", Some(name), "setrotationpolicy")?;
        let created = shown(asked, vault, name)?.rotation.as_ref().map(|r| r.created);
        let body = key_body::object(asked.call, false)?;
        key_body::only(&body, &["id", "lifetimeActions", "attributes"])?;
        let least = if vault.zone == Zone::Hsm { 28 } else { 7 };
        let (actions, expiry) = read(&body, least)?;
        let vault = w.holder_mut(&asked.at).ok_or_else(Failure::no_such_host)?;
        let key = vault.keys.get_mut(&name.to_lowercase()).ok_or_else(|| not_found(name))?;
        let same = key.rotation.as_ref().is_some_and(|r| r.actions == actions && r.expiry == expiry);
        if !same {
            asked.call.touch();
        }
        key.rotation = Some(Rotation { actions, expiry, created: created.unwrap_or(now), updated: now });
        let key = key.clone();
        Ok(Reply::ok(render(asked, vault, &key)))
    })
}

/// The actions in normal form and the expiry, or why not. `least` is the fewest days from creation to rotation: 7 in vaults,
/// 28 in managed HSMs.
pub(crate) fn read(body: &Map<String, Value>, least: i64) -> Result<(Value, Option<String>), Failure> {
    let expiry = match body.get("attributes").and_then(|a| a.get("expiryTime")) {
        None | Some(Value::Null) => None,
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            let days = period(text).ok_or_else(|| {
                bad("Property 'attributes.expiryTime' must be an ISO 8601 duration in years, months and days.")
            })?;
            if days < 28 {
                return Err(bad("Property 'attributes.expiryTime' must be at least 28 days."));
            }
            Some((text.to_owned(), days))
        }
    };
    let empty = Vec::new();
    let sent = match body.get("lifetimeActions") {
        None | Some(Value::Null) => &empty,
        Some(Value::Array(list)) => list,
        Some(_) => return Err(bad("Property 'lifetimeActions' must be an array.")),
    };
    let mut actions = Vec::new();
    let mut seen = Vec::new();
    for action in sent {
        let (kind, row) = read_action(action, expiry.as_ref().map(|e| e.1), least)?;
        if seen.contains(&kind) {
            return Err(bad(format!("There may be at most one lifetime action of type '{kind}'.")));
        }
        seen.push(kind);
        actions.push(row);
    }
    Ok((Value::Array(actions), expiry.map(|e| e.0)))
}

fn read_action(action: &Value, expiry: Option<i64>, least: i64) -> Result<(&'static str, Value), Failure> {
    let kind = match action["action"]["type"].as_str().map(str::to_lowercase).as_deref() {
        Some("rotate") => "Rotate",
        Some("notify") => "Notify",
        _ => return Err(bad("A lifetime action must be of type 'Rotate' or 'Notify'.")),
    };
    let after = action["trigger"]["timeAfterCreate"].as_str();
    let before = action["trigger"]["timeBeforeExpiry"].as_str();
    let (member, text) = match (after, before) {
        (Some(text), None) => ("timeAfterCreate", text),
        (None, Some(text)) => ("timeBeforeExpiry", text),
        _ => return Err(bad("A trigger must have exactly one of 'timeAfterCreate' and 'timeBeforeExpiry'.")),
    };
    let days = period(text)
        .ok_or_else(|| bad(format!("Property '{member}' must be an ISO 8601 duration in years, months and days.")))?;
    if kind == "Notify" && member == "timeAfterCreate" {
        return Err(bad("A notification can be triggered by 'timeBeforeExpiry' only."));
    }
    if member == "timeBeforeExpiry" && kind == "Rotate" && expiry.is_none() {
        return Err(bad("The trigger 'timeBeforeExpiry' needs 'attributes.expiryTime'."));
    }
    // Rotation keeps its distance from both ends of a version's life.
    let from_creation = match (member, expiry) {
        ("timeAfterCreate", _) => Some(days),
        (_, Some(expiry)) => Some(expiry - days),
        _ => None,
    };
    let too_close = kind == "Rotate"
        && (from_creation.is_some_and(|d| d < least)
            || expiry.is_some_and(|e| from_creation.is_some_and(|d| e - d < 7)));
    if too_close {
        return Err(bad(format!(
            "Rotation must be at least {least} days after creation and at least 7 days before expiry."
        )));
    }
    Ok((kind, json!({ "trigger": { member: text }, "action": { "type": kind } })))
}

/// Days of an ISO 8601 period of years, months, weeks and days; a month counts 30, a year 365.
pub(crate) fn period(text: &str) -> Option<i64> {
    let rest = text.strip_prefix('P')?;
    let mut days: i64 = 0;
    let mut number = String::new();
    for c in rest.chars() {
        if c.is_ascii_digit() && number.len() < 6 {
            number.push(c);
            continue;
        }
        let n: i64 = number.parse().ok()?;
        days += n * match c {
            'Y' => 365,
            'M' => 30,
            'W' => 7,
            'D' => 1,
            _ => return None,
        };
        number.clear();
    }
    (number.is_empty() && days > 0).then_some(days)
}

/// When a version made now expires by the key's policy, in Unix seconds.
pub(crate) fn expiry_of_new(key: &Key, now: OffsetDateTime) -> Option<i64> {
    let days = period(key.rotation.as_ref()?.expiry.as_deref()?)?;
    Some(now.saturating_add(Duration::days(days)).unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::period;

    #[test]
    fn periods() {
        for (text, days) in [
            ("P2Y", Some(730)),
            ("P18M", Some(540)),
            ("P1Y6M3D", Some(548)),
            ("P30D", Some(30)),
            ("P", None),
            ("30D", None),
            ("P1H", None),
            ("P99999999D", None),
            ("P0D", None),
        ] {
            assert_eq!(period(text), days, "{text}");
        }
    }
}
