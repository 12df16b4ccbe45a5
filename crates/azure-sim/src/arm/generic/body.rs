//! A body on its way into a resource: canonical form, merging, what cannot change.

use serde_json::{Map, Value};

use crate::arm::checks;
use crate::arm::generic::kind::Kind;
use crate::arm::generic::pointer;
use crate::arm::generic::resource::Resource;
use crate::arm::identity_block;
use crate::arm::shape::{Member, Mode, Shape, TAGS, accept, may};
use crate::http::Failure;

/// For types without a published description.
const ANY_BODY: &[Member] = &[
    may("location", Shape::Text),
    may("tags", TAGS),
    may("identity", Shape::Object(identity_block::SHAPE)),
    may("sku", Shape::Any),
    may("kind", Shape::Any),
    may("zones", Shape::Any),
    may("properties", Shape::Any),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("etag", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

/// The body as the published type has it, or ARM's refusal.
pub(crate) fn canonical(kind: &Kind, body: Map<String, Value>, partial: bool) -> Result<Map<String, Value>, Failure> {
    let mode = if partial { Mode::Partial } else { Mode::Whole };
    match crate::arm::published::published(&kind.name.to_lowercase()) {
        Some(published) => published.accept(body, mode),
        None => accept(ANY_BODY, body, mode),
    }
    .map(|mut body| {
        body.values_mut().for_each(forget_passwords);
        body
    })
}

/// Passwords are taken and nothing of them is kept.
fn forget_passwords(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !name.to_lowercase().contains("password") || name == "passwordAuth");
            map.values_mut().for_each(forget_passwords);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_passwords),
        _ => {}
    }
}

/// Everything but identities and what the type's own rules say.
pub(crate) fn apply(
    next: &mut Resource,
    kind: &Kind,
    body: &Map<String, Value>,
    have: Option<&Resource>,
    merged: bool,
) -> Result<(), Failure> {
    if kind.placed && body.get("location").is_some_and(Value::is_string) {
        let location = region(kind, body)?;
        checks::same_location(&next.location, &location, &next.name, kind.name)?;
    }
    if !merged || body.contains_key("tags") {
        next.tags = checks::tags(body)?;
    }
    let rest: Map<String, Value> = body
        .iter()
        .filter(|(name, _)| !["location", "tags", "identity"].contains(&name.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let mut rest = Value::Object(rest);
    if merged {
        for at in kind.patch_ignores {
            pointer::remove(&mut rest, at);
        }
        pointer::merge(&mut next.body, &rest, kind.whole);
        return Ok(());
    }
    for at in kind.sticky {
        if let (Some(old), None) = (have.and_then(|h| pointer::get(&h.body, at)), pointer::get(&rest, at)) {
            pointer::set(&mut rest, at, old.clone());
        }
    }
    next.body = rest;
    Ok(())
}

/// Refuses a change of what is fixed at creation.
pub(crate) fn unchanged(kind: &Kind, have: Option<&Resource>, next: &Resource) -> Result<(), Failure> {
    let Some(have) = have else { return Ok(()) };
    let changed = kind.fixed.iter().find(|at| {
        let (old, new) = (pointer::get(&have.body, at), pointer::get(&next.body, at));
        new.is_some() && old != new
    });
    match changed {
        None => Ok(()),
        Some(at) => {
            let member = at.trim_start_matches('/').replace('/', ".");
            Err(Failure::new(400, "PropertyChangeNotAllowed", format!("The property '{member}' cannot be changed."))
                .target(member))
        }
    }
}

/// The region of a body, in canonical spelling.
pub(crate) fn region(kind: &Kind, body: &Map<String, Value>) -> Result<String, Failure> {
    let is_global = |text: &str| text.eq_ignore_ascii_case("global");
    match body.get("location").and_then(Value::as_str) {
        Some(text) if kind.global && is_global(text) => Ok("global".to_owned()),
        _ => checks::location(body, kind.name),
    }
}
