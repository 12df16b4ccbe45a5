//! The key of a request.
//!
//! What belongs here: its name, type, size, operations and rotation. What does not: where it lives (`key_store`).

use super::values::read_duration;
use crate::domain::reader::Field;
use crate::domain::request::{Key, KeyOperation, KeyType, KeyVersion, Rotation};

pub(super) fn read_key(field: Option<Field>, target_name: &str, on_hsm: bool) -> Key {
    let default = default_key(target_name, on_hsm);
    let Some(body) =
        field.as_ref().and_then(|f| f.object(&["name", "type", "size", "operations", "version", "rotation"]))
    else {
        return default;
    };
    let key_type = body.get("type").and_then(|f| f.one_of(KeyType::WORDS)).unwrap_or(default.key_type);
    let versions = [("latest", KeyVersion::Latest), ("pinned", KeyVersion::Pinned)];
    Key {
        name: body.get("name").and_then(|f| read_key_name(&f)).unwrap_or(default.name),
        key_type,
        size: body.get("size").and_then(|f| read_key_size(&f)).unwrap_or(default.size),
        operations: body.get("operations").map_or(default.operations, |f| read_operations(&f)),
        version: body.get("version").and_then(|f| f.one_of(&versions)).unwrap_or_default(),
        rotation: body.get("rotation").and_then(|f| read_rotation(&f)),
    }
}

fn default_key(target_name: &str, on_hsm: bool) -> Key {
    let base: String = target_name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(123).collect();
    Key {
        name: format!("{base}-cmk"),
        key_type: if on_hsm { KeyType::RsaHsm } else { KeyType::Rsa },
        size: 4096,
        operations: KeyOperation::all(),
        version: KeyVersion::Latest,
        rotation: None,
    }
}

fn read_key_name(field: &Field) -> Option<String> {
    let name = field.text(127)?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        field.fault("invalid-value", "expected 1 to 127 letters, digits and hyphens");
        return None;
    }
    Some(name.to_owned())
}

fn read_key_size(field: &Field) -> Option<u16> {
    let size = field.integer(1, u64::from(u16::MAX))?;
    if !matches!(size, 2048 | 3072 | 4096) {
        field.fault("out-of-range", "expected 2048, 3072 or 4096");
        return None;
    }
    u16::try_from(size).ok()
}

fn read_operations(field: &Field) -> Vec<KeyOperation> {
    let Some(items) = field.items(6) else { return Vec::new() };
    let mut operations: Vec<KeyOperation> = items.iter().filter_map(|f| f.one_of(KeyOperation::WORDS)).collect();
    // What a faulty item was meant to be is unknown, so nothing is said to be missing.
    let complete = operations.len() == items.len();
    operations.sort_unstable();
    operations.dedup();
    for (needed, word) in [(KeyOperation::WrapKey, "wrapKey"), (KeyOperation::UnwrapKey, "unwrapKey")] {
        if complete && !operations.contains(&needed) {
            let detail = format!("{word} is missing: Azure services wrap and unwrap their data keys with it");
            field.fault("invalid-value", detail);
        }
    }
    operations
}

fn read_rotation(field: &Field) -> Option<Rotation> {
    let body = field.object(&["every"])?;
    let every_field = body.require("every")?;
    let every = read_duration(&every_field)?;
    if every.approximate().as_secs() < 7 * 86_400 || every.approximate().as_secs() > 10 * 366 * 86_400 {
        every_field.fault("out-of-range", "expected seven days to ten years, for instance P1Y");
        return None;
    }
    Some(Rotation { every })
}
