//! The key of a request.
//!
//! What belongs here: its name, type, size, operations, version, expiry and rotation. What does not: where it lives
//! (`key_store`).

use super::values::read_duration;
use crate::domain::duration::IsoDuration;
use crate::domain::reader::Field;
use crate::domain::request::{
    Key, KeyOperation, KeyStore, KeyType, KeyVersion, MANAGED_HSM_TYPE, OnDeletedName, Rotation,
};

/// The members of a key.
const MEMBERS: &[&str] = &["name", "type", "size", "operations", "version", "versionId", "expiresAfter", "rotation"];

const DAY: u64 = 86_400;

/// The longest that is taken for a rotation or the life of a key.
const TEN_YEARS: u64 = 10 * 366 * DAY;

/// How long a version lives at least, and how long before its end the next one comes. Source: Key Vault key rotation.
const LEAST_LIFE: u64 = 28 * DAY;
const LEAST_OVERLAP: u64 = 7 * DAY;

pub(super) fn read_key(field: Option<Field>, target_name: &str, store: Option<&KeyStore>) -> Key {
    let on_hsm = store.is_some_and(|s| s.resource_id.is_type(MANAGED_HSM_TYPE));
    let default = default_key(target_name, on_hsm);
    let Some(body) = field.as_ref().and_then(|f| f.object(MEMBERS)) else {
        return default;
    };
    let key_type = body.get("type").and_then(|f| f.one_of(KeyType::WORDS)).unwrap_or(default.key_type);
    let life = body.get("expiresAfter").map(|f| read_life(&f));
    let version = body.get("version").and_then(|f| f.one_of(VERSIONS));
    let version_id = body.get("versionId").and_then(|f| read_version_id(&f, version, store));
    Key {
        name: body.get("name").and_then(|f| read_key_name(&f)).unwrap_or(default.name),
        key_type,
        size: body.get("size").and_then(|f| read_key_size(&f)).unwrap_or(default.size),
        operations: body.get("operations").map_or(default.operations, |f| read_operations(&f)),
        version: version.unwrap_or(if body.get("versionId").is_some() { KeyVersion::Pinned } else { default.version }),
        version_id,
        rotation: body.get("rotation").and_then(|f| read_rotation(&f, life.as_ref(), on_hsm)),
        expires_after: life.flatten(),
    }
}

const VERSIONS: &[(&str, KeyVersion)] = &[("latest", KeyVersion::Latest), ("pinned", KeyVersion::Pinned)];

fn default_key(target_name: &str, on_hsm: bool) -> Key {
    let base: String = target_name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(123).collect();
    Key {
        name: format!("{base}-cmk"),
        key_type: if on_hsm { KeyType::RsaHsm } else { KeyType::Rsa },
        size: 4096,
        operations: KeyOperation::all(),
        version: KeyVersion::Latest,
        version_id: None,
        expires_after: None,
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

/// A version's id, in the lower case in which Azure answers it.
fn read_version_id(field: &Field, version: Option<KeyVersion>, store: Option<&KeyStore>) -> Option<String> {
    let id = field.text(32)?;
    if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        field.fault("invalid-value", "expected the 32 hexadecimal digits of a version of the key");
        return None;
    }
    if version == Some(KeyVersion::Latest) {
        field.fault("conflict", "a target that follows the latest version has no exact one; ask for `pinned`");
    }
    if store.is_some_and(|s| s.create.is_some() && s.on_deleted_name == OnDeletedName::Fail) {
        field.fault("conflict", "a vault that is created holds no key yet; leave out `keyStore.create`");
    }
    Some(id.to_ascii_lowercase())
}

fn read_life(field: &Field) -> Option<IsoDuration> {
    let life = read_days(field)?;
    if !(LEAST_LIFE..=TEN_YEARS).contains(&life.approximate().as_secs()) {
        field.fault("out-of-range", "expected 28 days to ten years, for instance P2Y");
        return None;
    }
    Some(life)
}

/// A duration without hours: Key Vault's periods have none.
fn read_days(field: &Field) -> Option<IsoDuration> {
    let duration = read_duration(field)?;
    if !duration.is_whole_days() {
        field.fault("invalid-value", "expected years, months, weeks and days only, for instance P18M");
        return None;
    }
    Some(duration)
}

/// `life`: what was read of `expiresAfter`, which is nothing where that has a fault of its own.
fn read_rotation(field: &Field, life: Option<&Option<IsoDuration>>, on_hsm: bool) -> Option<Rotation> {
    let body = field.object(&["every", "notifyBeforeExpiry"])?;
    let notify_before_expiry = body.get("notifyBeforeExpiry").and_then(|f| read_notice(&f, life));
    let every_field = body.require("every")?;
    let every = read_days(&every_field)?;
    let seconds = every.approximate().as_secs();
    // Managed HSM: not more often than every 28 days.
    let (least, words) = if on_hsm { (28 * DAY, "28 days") } else { (7 * DAY, "seven days") };
    if !(least..=TEN_YEARS).contains(&seconds) {
        every_field.fault("out-of-range", format!("expected {words} to ten years, for instance P1Y"));
        return None;
    }
    if life.and_then(Option::as_ref).is_some_and(|life| seconds + LEAST_OVERLAP > life.approximate().as_secs()) {
        every_field.fault("out-of-range", "expected at least seven days less than `expiresAfter`");
    }
    Some(Rotation { every, notify_before_expiry })
}

fn read_notice(field: &Field, life: Option<&Option<IsoDuration>>) -> Option<IsoDuration> {
    let notice = read_days(field)?;
    let Some(life) = life else {
        field.fault("conflict", "a key without `expiresAfter` does not expire, so there is nothing to tell of");
        return None;
    };
    let too_long = life.as_ref().is_some_and(|life| notice.approximate() >= life.approximate());
    if too_long || notice.approximate().as_secs() < DAY {
        field.fault("out-of-range", "expected one day or more, and less than `expiresAfter`");
        return None;
    }
    Some(notice)
}
