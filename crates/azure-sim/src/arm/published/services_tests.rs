//! The bodies by which Azure's services are put under customer-managed keys, and out again, as published: the shapes must take
//! them. The list (`cmk-services.json`, beside the folder of the schemas) is not part of this repository; without it nothing is
//! tested here.

use std::fs;

use arm_schemas::Side;
use serde_json::{Map, Value};

use super::published;
use crate::arm::shape::Mode;

const GUID: &str = "00000000-0000-4000-8000-000000000001";

/// One body of a service.
struct Sent {
    /// The service and where in its entry the body is.
    place: String,
    resource_type: String,
    mode: Mode,
    body: Map<String, Value>,
}

/// Every value that stands for another is filled in; ids of applications are GUIDs.
fn filled(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text)),
        Value::Array(items) => items.iter().map(filled).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (fill(k), filled(v))).collect()),
        other => other.clone(),
    }
}

fn fill(text: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else {
        return text.to_owned();
    };
    let Some((name, after)) = rest.split_once('}') else {
        return text.to_owned();
    };
    let value = match name {
        "uamiClientId" | "appId" => GUID.to_owned(),
        "vaultUri" => "https://kv1.vault.azure.net".to_owned(),
        "keyUrlVersioned" => format!("https://kv1.vault.azure.net/keys/k1/{}", "0".repeat(32)),
        "keyUrlVersionless" => "https://kv1.vault.azure.net/keys/k1".to_owned(),
        other => format!("{other}1"),
    };
    format!("{before}{value}{}", fill(after))
}

fn sent(place: String, entry: &Value) -> Option<Sent> {
    // PUTs that are fragments to be merged into what is there are as incomplete as PATCHes.
    let whole = entry["method"] == "PUT" && entry["bodyIs"].as_str().is_none_or(|is| is.starts_with("complete"));
    Some(Sent {
        place,
        resource_type: entry["armType"].as_str()?.to_owned(),
        mode: if whole { Mode::Whole } else { Mode::Partial },
        body: filled(entry.get("body")?).as_object()?.clone(),
    })
}

fn bodies() -> Vec<Sent> {
    let Some(list) = arm_schemas::folder().map(|f| f.join("../cmk-services.json")) else {
        return Vec::new();
    };
    let text = fs::read_to_string(list).expect("the list is beside the schemas");
    let services: Vec<Value> = serde_json::from_str(&text).expect("it is a list");
    let mut bodies = Vec::new();
    for service in &services {
        let id = service["id"].as_str().expect("an id");
        bodies.extend(sent(format!("{id} createBody"), &service["createBody"]));
        bodies.extend(sent(format!("{id} revertBody"), &service["revertBody"]));
        let steps = service["configureMethod"]["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        bodies.extend(steps.iter().enumerate().filter_map(|(at, step)| sent(format!("{id} step {at}"), step)));
    }
    assert!(bodies.len() > 100, "{}", bodies.len());
    bodies
}

#[test]
fn the_bodies_of_every_service_are_taken() {
    let mut wrong = Vec::new();
    for Sent { place, resource_type, mode, body } in bodies() {
        let Some(described) = published(&resource_type.to_lowercase()) else {
            wrong.push(format!("{place}: {resource_type} has no description"));
            continue;
        };
        match described.accept(body.clone(), mode) {
            Err(refusal) => wrong.push(format!("{place}: {}", refusal.message)),
            Ok(kept) if kept != body => {
                wrong.push(format!("{place}: {} became {}", Value::Object(body), Value::Object(kept)))
            }
            Ok(kept) => {
                let side = if mode == Mode::Whole { Side::Write } else { Side::Update };
                let faults = arm_schemas::faults(&resource_type, side, &Value::Object(kept));
                wrong.extend(faults.into_iter().map(|f| format!("{place}: {f}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unknown_members_are_refused_at_the_top_and_among_the_properties() {
    for Sent { place, resource_type, mode, body } in bodies() {
        let Some(described) = published(&resource_type.to_lowercase()) else {
            continue;
        };
        let mut top = body.clone();
        top.insert("surprise".to_owned(), Value::Bool(true));
        let refusal = described.accept(top, mode).expect_err(&place);
        assert_eq!(refusal.target.as_deref(), Some("surprise"), "{place}");
        let mut inner = body;
        let Some(properties) = inner.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        properties.insert("surprise".to_owned(), Value::Bool(true));
        let refusal = described.accept(inner, mode).expect_err(&place);
        assert_eq!(refusal.target.as_deref(), Some("properties.surprise"), "{place}");
    }
}
