//! Synapse: how a workspace and the keys below it hang together.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::generic::pointer;
use crate::arm::generic::resource::{Course, Resource, View};
use crate::arm::generic::write::Change;
use crate::arm::identity_block::IdentityBlock;
use crate::http::Failure;
use crate::state::World;

pub(crate) const KEY_URL: &str = "/properties/encryption/cmk/key/keyVaultUrl";

const KEY: &str = "/properties/encryption/cmk/key";
const NAME: &str = "/properties/encryption/cmk/key/name";
const STATUS: &str = "/properties/encryption/cmk/status";
const ACTIVE: &str = "/properties/isActiveCMK";
const URL: &str = "/properties/keyVaultUrl";

pub(crate) fn shows_workspace(view: &View<'_>, out: &mut Value) {
    let own = pointer::text(&view.resource.body, KEY_URL).is_some();
    pointer::set(out, "/properties/encryption/doubleEncryptionEnabled", own.into());
    if own && view.world.hold(&view.resource.id).is_none() {
        pointer::set(out, STATUS, "AwaitingUserAction".into());
    }
}

/// The key of the creation is the first of the workspace's keys.
pub(crate) fn after_workspace(w: &mut World, workspace: &Resource, now: OffsetDateTime) {
    let Some(url) = pointer::text(&workspace.body, KEY_URL) else { return };
    let name = pointer::text(&workspace.body, NAME).unwrap_or("default");
    let id = format!("{}/keys/{name}", workspace.id);
    let active = w.hold(&workspace.id).is_some();
    let key = Resource {
        name: name.to_owned(),
        kind: format!("{}/keys", workspace.kind),
        tags: Map::new(),
        identity: IdentityBlock::default(),
        body: json!({ "properties": { "isActiveCMK": active, "keyVaultUrl": url } }),
        course: Course::done(now),
        id: id.clone(),
        created: now,
        modified: now,
        ..workspace.clone()
    };
    w.resources.entry(id.to_lowercase()).or_insert(key);
}

/// Only a workspace that was made with a key takes others.
pub(crate) fn guard_key(change: &mut Change<'_>) -> Result<(), Failure> {
    let workspace =
        change.next.id.rsplit_once("/keys/").and_then(|(id, _)| change.world.resources.get(&id.to_lowercase()));
    if workspace.is_some_and(|workspace| pointer::text(&workspace.body, KEY_URL).is_some()) {
        return Ok(());
    }
    Err(Failure::new(
        400,
        "EncryptionNotSupportedOnExistingResource",
        "The workspace was not created with a customer-managed key.",
    ))
}

/// One key is active: the workspace takes it, and the others step back.
pub(crate) fn after_key(w: &mut World, key: &Resource, now: OffsetDateTime) {
    let (Some(hold), Some((workspace, _))) = (w.hold(&key.id).cloned(), key.id.rsplit_once("/keys/")) else { return };
    if pointer::get(&key.body, ACTIVE) != Some(&Value::Bool(true)) {
        return;
    }
    let (workspace, own) = (workspace.to_lowercase(), key.id.to_lowercase());
    let below = format!("{workspace}/keys/");
    let mut others = Vec::new();
    for (id, other) in w.resources.iter_mut().filter(|(id, _)| id.starts_with(&below) && **id != own) {
        pointer::set(&mut other.body, ACTIVE, false.into());
        others.push(id.clone());
    }
    others.iter().for_each(|id| {
        w.drop_hold(id);
    });
    if let Some(found) = w.resources.get_mut(&workspace) {
        let named = json!({ "name": key.name, "keyVaultUrl": pointer::text(&key.body, URL) });
        pointer::set(&mut found.body, KEY, named);
    }
    w.set_hold(&workspace, hold, now);
}
