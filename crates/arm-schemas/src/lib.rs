//! For tests: holds what is sent to and answered by Azure Resource Manager against JSON Schemas of its published types.
//!
//! The folder `newer` has those of types whose key is only in a later version than the others describe. The others are not part
//! of this repository: they are looked for in `../shared/azure/schemas` beside the workspace, or in the
//! folder that `ARM_SCHEMAS` names. Where neither is there, every check passes, after one line on standard error. A pair of files
//! per type: `<Namespace>_<type>[_<child>]@<api-version>.write.json` (what may be sent) and `.read.json` (what may be answered).
//! Neither the simulator nor the service depends on this crate; their tests do.

mod path;
mod schemas;
mod watch;

use serde_json::{Map, Value};

pub use path::{Target, target};
pub use schemas::{folder, known};
pub use watch::{Eye, Watch};

/// Which of a type's two schemas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    /// A whole body that is sent.
    Write,
    /// A body of a PATCH: what is required may be missing.
    Update,
    /// A resource that is answered.
    Read,
}

/// What does not hold, each with its place in the document; empty where all holds or there is no schema for the type.
#[must_use]
pub fn faults(resource_type: &str, side: Side, body: &Value) -> Vec<String> {
    // ARM reads an explicit null as absent, and in a PATCH as a removal; the schemas know no null in what is sent.
    let sent = (side != Side::Read).then(|| without_nulls(body));
    schemas::faults(resource_type, side, sent.as_ref().unwrap_or(body))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v)));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nulls_are_absent() {
        let sent = json!({ "a": null, "b": [{ "c": null, "d": 1 }] });
        assert_eq!(without_nulls(&sent), json!({ "b": [{ "d": 1 }] }));
    }

    #[test]
    fn faults_are_found_where_they_are() {
        if !known("Microsoft.Maps/accounts") {
            return;
        }
        let maps = "microsoft.maps/accounts";
        let good = json!({ "location": "x", "sku": { "name": "G2" }, "kind": null });
        assert_eq!(faults(maps, Side::Write, &good), Vec::<String>::new());
        for (side, body, place) in [
            (Side::Write, json!({ "location": "x" }), "sku"),
            (Side::Write, json!({ "location": 1, "sku": { "name": "G2" } }), "/location"),
            (Side::Update, json!({ "properties": { "nope": 1 } }), "/properties"),
            (Side::Read, json!({ "type": "microsoft.maps/accounts" }), "/type"),
            (Side::Read, json!({ "properties": { "cors": null } }), "/properties/cors"),
        ] {
            let found = faults(maps, side, &body);
            assert!(found.iter().any(|f| f.contains(place)), "{body}: {found:?}");
        }
        assert_eq!(faults(maps, Side::Update, &json!({ "sku": {} })), Vec::<String>::new());
    }
}
