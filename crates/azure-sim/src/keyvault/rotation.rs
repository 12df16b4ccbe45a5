//! Rotation by the simulator's clock: once a simulated minute all keys with a policy that rotates are looked at, and those
//! whose time has come get a new version. The material is made between two looks at the world, so nothing waits on it.
//! Policies themselves are `rotation_policy`, rotation on demand is `keys`.

use std::sync::Arc;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::journal::Entry;
use crate::keyvault::crypto::Material;
use crate::keyvault::holder::{At, Holder};
use crate::keyvault::key_body::Kind;
use crate::keyvault::key_model::{Key, Version};
use crate::keyvault::keys::{full, make};
use crate::keyvault::rotation_policy::period;
use crate::state::{Shared, World};

const DAY: i64 = 86_400;

/// Versions that one look makes of a key at most: after years without a look the earlier ones are left out.
const MOST_VERSIONS_AT_ONCE: usize = 4;

/// Keys that one look rotates at most; the next request goes on with the rest.
const MOST_KEYS_AT_ONCE: usize = 16;

/// Rotations computed of a key at most; further ones have to wait for the next look.
const MOST_STEPS: usize = 10_000;

/// A key whose rotation is due.
struct Due {
    at: At,
    key: String,
    /// The version that was the latest.
    from: String,
    kind: Kind,
    /// When each new version comes into being, in Unix seconds, oldest first.
    times: Vec<i64>,
}

impl World {
    /// Whether the keys are to be looked at again.
    fn rotation_is_stale(&self, now: OffsetDateTime) -> bool {
        self.rotations_looked.is_none_or(|at| (now - at).abs() >= Duration::MINUTE)
    }

    fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.vaults.values().map(|v| &v.holder).chain(self.hsms.values().map(|h| &h.holder))
    }
}

/// Days of the trigger that rotates: after creation, or before expiry.
enum Trigger {
    AfterCreate(i64),
    BeforeExpiry(i64),
}

fn trigger(key: &Key) -> Option<Trigger> {
    let actions = key.rotation.as_ref()?.actions.as_array()?;
    let rotate = actions.iter().find(|a| a["action"]["type"] == "Rotate")?;
    let days = |name: &str| rotate["trigger"][name].as_str().and_then(period);
    days("timeAfterCreate").map(Trigger::AfterCreate).or_else(|| days("timeBeforeExpiry").map(Trigger::BeforeExpiry))
}

/// When the key should have rotated until now. A disabled latest version is left alone (UNVERIFIED).
fn times(key: &Key, now: i64) -> Vec<i64> {
    let latest = key.latest();
    let (Some(trigger), true) = (trigger(key), latest.enabled) else { return Vec::new() };
    let life = key.rotation.as_ref().and_then(|r| r.expiry.as_deref()).and_then(period).map(|days| days * DAY);
    let (mut created, mut expiry) = (latest.created, latest.exp);
    let mut times = Vec::new();
    while times.len() < MOST_STEPS {
        let due = match (&trigger, expiry) {
            (Trigger::AfterCreate(days), _) => created.saturating_add(days * DAY),
            (Trigger::BeforeExpiry(days), Some(expiry)) => expiry.saturating_sub(days * DAY).max(created),
            (Trigger::BeforeExpiry(_), None) => break,
        };
        // A version that follows another at once would go on for ever.
        let due = if times.is_empty() { due } else { due.max(created.saturating_add(DAY)) };
        if due > now {
            break;
        }
        times.push(due);
        created = due;
        expiry = life.map(|life| due.saturating_add(life));
    }
    times.split_off(times.len().saturating_sub(MOST_VERSIONS_AT_ONCE))
}

fn due(w: &World, now: i64) -> Vec<Due> {
    let mut found = Vec::new();
    for holder in w.holders() {
        for (name, key) in holder.keys.iter().filter(|(_, key)| key.rotation.is_some() && !full(holder.zone, key)) {
            let times = times(key, now);
            if times.is_empty() {
                continue;
            }
            let latest = key.latest();
            found.push(Due {
                at: At::new(holder.zone, &holder.name),
                key: name.clone(),
                from: latest.id.clone(),
                kind: Kind::of(&latest.material),
                times,
            });
            if found.len() > MOST_KEYS_AT_ONCE {
                return found;
            }
        }
    }
    found
}

/// Rotates what is due, before a request is answered. One at a time does it; the others wait and find nothing left.
pub(crate) async fn catch_up(shared: &Shared) {
    if !shared.world(|w| w.rotation_is_stale(shared.clock.now())) {
        return;
    }
    let _alone = shared.rotating.lock().await;
    let now = shared.clock.now();
    let found = shared.world(|w| if w.rotation_is_stale(now) { due(w, now.unix_timestamp()) } else { Vec::new() });
    let all = found.len() <= MOST_KEYS_AT_ONCE;
    for due in found.into_iter().take(MOST_KEYS_AT_ONCE) {
        let mut made = Vec::new();
        for time in &due.times {
            match make(shared, &due.kind).await {
                Ok(material) => made.push((*time, material)),
                Err(_) => tracing::warn!(key = due.key, "the material of a rotation could not be made"),
            }
        }
        let added = shared.world(|w| add(w, &due, made));
        for _ in 0..added {
            shared.journal.record(entry(shared, &due, now));
        }
    }
    if all {
        shared.world(|w| w.rotations_looked = Some(now));
    }
}

/// Adds the versions unless the key has changed since. How many there are.
fn add(w: &mut World, due: &Due, made: Vec<(i64, Arc<Material>)>) -> usize {
    let ids: Vec<String> = made.iter().map(|_| w.guid().simple().to_string()).collect();
    let Some(key) = w.holder_mut(&due.at).and_then(|h| h.keys.get_mut(&due.key)) else { return 0 };
    if key.latest().id != due.from {
        return 0;
    }
    let life = key.rotation.as_ref().and_then(|r| r.expiry.as_deref()).and_then(period).map(|days| days * DAY);
    let mut added = 0;
    for ((created, material), id) in made.into_iter().zip(ids) {
        if full(due.at.zone, key) {
            break;
        }
        let like = key.latest();
        let version = Version {
            id,
            material,
            ops: like.ops.clone(),
            enabled: true,
            nbf: None,
            exp: life.map(|life| created.saturating_add(life)),
            created,
            updated: created,
            tags: like.tags.clone(),
        };
        key.versions.push(version);
        added += 1;
    }
    added
}

/// What the journal tells of a rotation that nobody asked for: surface `clock`, and no caller.
fn entry(shared: &Shared, due: &Due, now: OffsetDateTime) -> Entry {
    Entry {
        seq: 0,
        time: now,
        surface: "clock",
        host: format!("{}.{}.{}", due.at.name, due.at.zone.label(), shared.addresses.suffix),
        method: "POST".to_owned(),
        path: format!("/keys/{}/rotate", due.key),
        query: String::new(),
        status: 200,
        code: None,
        principal: None,
        correlation_id: Uuid::new_v4().to_string(),
        client_request_id: None,
        mutating: false,
        changed: true,
        fault: None,
        body_sha256: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::keyvault::crypto::Curve;
    use crate::keyvault::key_model::Rotation;

    fn key(trigger: Value, expiry: Option<&str>, exp: Option<i64>) -> Key {
        let version = Version {
            id: "1".into(),
            material: Arc::new(Material::ec(Curve::P256, false).expect("generation works")),
            ops: Vec::new(),
            enabled: true,
            nbf: None,
            exp,
            created: 0,
            updated: 0,
            tags: Map::new(),
        };
        let actions = json!([{ "trigger": trigger, "action": { "type": "Rotate" } }]);
        let rotation = Rotation { actions, expiry: expiry.map(str::to_owned), created: 0, updated: 0 };
        Key { name: "k".into(), versions: vec![version], rotation: Some(rotation), visible_from: None }
    }

    #[test]
    fn rotations_are_due_by_creation_or_by_expiry_and_never_without_end() {
        let after = key(json!({ "timeAfterCreate": "P10D" }), None, None);
        assert_eq!(times(&after, 10 * DAY - 1), Vec::<i64>::new());
        assert_eq!(times(&after, 25 * DAY), [10 * DAY, 20 * DAY]);
        assert_eq!(times(&after, 100 * DAY), [70 * DAY, 80 * DAY, 90 * DAY, 100 * DAY]);
        assert_eq!(times(&after, i64::MAX).len(), MOST_VERSIONS_AT_ONCE);

        let before = key(json!({ "timeBeforeExpiry": "P30D" }), Some("P90D"), Some(40 * DAY));
        assert_eq!(times(&before, 9 * DAY), Vec::<i64>::new());
        assert_eq!(times(&before, 71 * DAY), [10 * DAY, 70 * DAY]);
        // Without an expiry there is nothing to count from, and one that is past rotates once, at its creation.
        assert!(times(&key(json!({ "timeBeforeExpiry": "P30D" }), Some("P90D"), None), 400 * DAY).is_empty());
        let late = key(json!({ "timeBeforeExpiry": "P30D" }), Some("P90D"), Some(DAY));
        assert_eq!(times(&late, DAY), [0]);

        let mut disabled = key(json!({ "timeAfterCreate": "P10D" }), None, None);
        disabled.versions[0].enabled = false;
        assert!(times(&disabled, 100 * DAY).is_empty());
    }
}
