//! From a caller's JSON body to a `CmkRequest`: shape, bounds, defaults, all faults at once.
//!
//! What belongs here: rules that hold for every Azure service. What does not: what single services allow, which
//! `services::rules` adds to the same list of faults.

mod identity;
mod key;
mod key_store;
#[cfg(test)]
mod tests;
mod values;

use serde_json::{Map, Value};

use self::identity::read_identity;
use self::key::read_key;
use self::key_store::read_key_store;
use self::values::{read_arm_id, read_duration, read_location, read_pairs};
use super::duration::IsoDuration;
use super::job::JobKind;
use super::reader::{Faults, Field, FieldError};
use super::request::{Acknowledgement, CmkRequest, Target, TargetCreate};

const MAX_LABELS: usize = 20;
const MAX_TAGS: usize = 50;
const MAX_DEPTH: usize = 16;
const DEFAULT_ACCESS_TIMEOUT: &str = "PT20M";

/// Reads a body. The request is there as soon as target and key store could be read, with defaults in place of faulty
/// fields, so that a service's own rules can be checked in the same pass; it may be used only if no fault was found.
pub fn parse(body: &Value) -> (Option<CmkRequest>, Vec<FieldError>) {
    let faults = Faults::default();
    if depth(body) > MAX_DEPTH {
        faults.add("", "invalid-value", format!("expected at most {MAX_DEPTH} levels of nesting"));
        return (None, faults.into_list());
    }
    let request = read(&Field::root(body, &faults));
    (request, faults.into_list())
}

fn read(root: &Field) -> Option<CmkRequest> {
    let body = root.object(&[
        "kind",
        "target",
        "keyStore",
        "key",
        "identity",
        "createResourceGroups",
        "accessTimeout",
        "acknowledge",
        "labels",
    ])?;
    let kind = body.get("kind").and_then(|f| f.one_of(&[("provision", JobKind::Provision)])).unwrap_or_default();
    let target = body.require("target").and_then(|f| read_target(&f));
    let key_store = body.require("keyStore").and_then(|f| read_key_store(&f));
    let target_name = target.as_ref().map_or("target", |t| t.resource_id.name());
    let key = read_key(body.get("key"), target_name, key_store.as_ref());
    let identity = read_identity(body.get("identity"), target.as_ref());
    let create_resource_groups = body.get("createResourceGroups").and_then(|f| f.boolean()).unwrap_or(false);
    let access_timeout =
        body.get("accessTimeout").and_then(|f| read_access_timeout(&f)).unwrap_or_else(default_timeout);
    let acknowledge = body.get("acknowledge").map(|f| read_acknowledge(&f)).unwrap_or_default();
    let labels = body.get("labels").map(|f| read_pairs(&f, MAX_LABELS, 63, 255)).unwrap_or_default();
    Some(CmkRequest {
        kind,
        target: target?,
        key_store: key_store?,
        key,
        identity,
        create_resource_groups,
        access_timeout,
        acknowledge,
        labels,
    })
}

fn read_target(field: &Field) -> Option<Target> {
    let body = field.object(&["resourceId", "service", "create"])?;
    let resource_id = body.require("resourceId").and_then(|f| read_arm_id(&f));
    let service = body.get("service").and_then(|f| f.text(64)).map(str::to_owned);
    let create = body.get("create").and_then(|f| read_target_create(&f));
    Some(Target { resource_id: resource_id?, service, create })
}

fn read_target_create(field: &Field) -> Option<TargetCreate> {
    let body = field.object(&["location", "sku", "kind", "tags", "properties"])?;
    let word = |name: &str| body.get(name).and_then(|f| read_word(&f));
    Some(TargetCreate {
        location: read_location(&body, "location").unwrap_or_default(),
        sku: word("sku"),
        kind: word("kind"),
        tags: body.get("tags").map(|f| read_pairs(&f, MAX_TAGS, 512, 256)).unwrap_or_default(),
        properties: body.get("properties").and_then(|f| read_properties(&f)).unwrap_or_default(),
    })
}

/// A name of Azure's that is checked by Azure.
fn read_word(field: &Field) -> Option<String> {
    let word = field.text(64)?;
    if word.is_empty() {
        field.fault("invalid-value", "expected a name; leave the field out for the default");
        return None;
    }
    Some(word.to_owned())
}

/// Anything that Azure may know, as long as it can be stored: PostgreSQL keeps no U+0000.
fn read_properties(field: &Field) -> Option<Map<String, Value>> {
    let properties = field.map()?;
    if has_nul(field.value()) {
        field.fault("invalid-value", "expected text without the character U+0000");
        return None;
    }
    Some(properties.clone())
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

fn read_access_timeout(field: &Field) -> Option<IsoDuration> {
    let timeout = read_duration(field)?;
    if timeout.has_calendar_units() || !(10..=86_400).contains(&timeout.approximate().as_secs()) {
        field.fault("out-of-range", "expected ten seconds to one day, for instance PT20M");
        return None;
    }
    Some(timeout)
}

fn default_timeout() -> IsoDuration {
    IsoDuration::parse(DEFAULT_ACCESS_TIMEOUT).unwrap_or_else(|| IsoDuration::from_secs(1200))
}

fn read_acknowledge(field: &Field) -> Vec<Acknowledgement> {
    let words = [("enable-purge-protection", Acknowledgement::EnablePurgeProtection)];
    field.items(8).unwrap_or_default().iter().filter_map(|f| f.one_of(&words)).collect()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
