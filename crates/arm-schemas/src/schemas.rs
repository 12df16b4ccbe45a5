//! The schemas: where they are, which there are, and validators, each made once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use jsonschema::Validator;
use serde_json::Value;

use crate::Side;

/// The files of one type and what was made of them.
#[derive(Default)]
struct Slot {
    write: PathBuf,
    read: PathBuf,
    validators: [OnceLock<Validator>; 3],
}

/// By type in lower case.
static SLOTS: LazyLock<BTreeMap<String, Slot>> = LazyLock::new(|| {
    let mut all = match folder() {
        Some(folder) => slots(&folder),
        None => {
            eprintln!("../shared/azure/schemas is not there: bodies are not held against Azure's published types");
            BTreeMap::new()
        }
    };
    all.extend(slots(&Path::new(env!("CARGO_MANIFEST_DIR")).join("newer")));
    all
});

/// The folder of the schemas, where there is one.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/azure/schemas");
    let folder = std::env::var_os("ARM_SCHEMAS").map_or_else(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// Whether there is a schema for a type, in any casing.
#[must_use]
pub fn known(resource_type: &str) -> bool {
    SLOTS.contains_key(&resource_type.to_lowercase())
}

fn slots(folder: &Path) -> BTreeMap<String, Slot> {
    let mut slots: BTreeMap<String, Slot> = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder of schemas can be read") {
        let path = entry.expect("its entries can be read").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some((described, rest)) = name.split_once('@') else {
            continue;
        };
        let slot = slots.entry(described.replace('_', "/").to_lowercase()).or_default();
        if rest.ends_with(".write.json") {
            slot.write = path;
        } else if rest.ends_with(".read.json") {
            slot.read = path;
        }
    }
    slots
}

/// Every place where the body does not hold.
pub(crate) fn faults(resource_type: &str, side: Side, body: &Value) -> Vec<String> {
    let Some(slot) = SLOTS.get(&resource_type.to_lowercase()) else {
        return Vec::new();
    };
    let validator = slot.validators[side as usize].get_or_init(|| slot.make(side));
    let told = |fault: jsonschema::ValidationError<'_>| format!("at '{}': {fault}", fault.instance_path());
    validator.iter_errors(body).map(told).collect()
}

impl Slot {
    fn make(&self, side: Side) -> Validator {
        let path = if side == Side::Read { &self.read } else { &self.write };
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut schema: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if side == Side::Update {
            forget_required(&mut schema);
        }
        jsonschema::draft202012::new(&schema).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// Takes the keyword away, and leaves a member that has its name.
fn forget_required(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("required").is_some_and(Value::is_array) {
                map.remove("required");
            }
            map.values_mut().for_each(forget_required);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_required),
        _ => {}
    }
}
