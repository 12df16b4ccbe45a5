//! Soft delete of keys: delete, look, recover, purge.

use serde_json::Value;
use time::Duration;

use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::Asked;
use crate::keyvault::access::pass;
use crate::keyvault::holder::Holder;
use crate::keyvault::key_model::DeletedKey;
use crate::keyvault::keys::{not_found, page, shown};
use crate::propagation::reached;
use crate::state::Event;

fn no_deleted(name: &str) -> Failure {
    Failure::new(404, "KeyNotFound", format!("Deleted Key not found: {name}"))
}

fn being_deleted(name: &str) -> Failure {
    Failure::new(409, "Conflict", format!("Key {name} is currently being deleted; retry later."))
        .inner("ObjectIsBeingDeleted")
}

fn render(asked: &Asked<'_>, vault: &Holder, deleted: &DeletedKey) -> Value {
    let addresses = &asked.shared.addresses;
    let bundle = deleted.key.latest().bundle(&deleted.key.name, vault, addresses);
    deleted.mark(bundle, vault, addresses)
}

pub(crate) fn delete(asked: &Asked<'_>, name: &str) -> Outcome {
    let now = asked.call.now;
    let lower = name.to_lowercase();
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/delete", Some(name), "delete")?;
        shown(asked, vault, name)?;
        let visible_from = w.due(|p| &p.key_delete, now);
        let vault = w.holder_mut(&asked.at).ok_or_else(Failure::no_such_host)?;
        let key = vault.keys.remove(&lower).ok_or_else(|| not_found(name))?;
        let purge_at = now.saturating_add(Duration::days(vault.retention_days));
        let deleted = DeletedKey { key, deleted: now, purge_at, visible_from };
        let answer = render(asked, vault, &deleted);
        vault.deleted_keys.insert(lower.clone(), deleted);
        w.at(purge_at, Event::KeyPurge(asked.at.clone(), lower.clone(), now));
        asked.call.touch();
        Ok(Reply::ok(answer))
    })
}

pub(crate) fn get(asked: &Asked<'_>, name: &str) -> Outcome {
    asked.shared.world(|w| {
        let vault = pass(asked, w, "deletedkeys/read", Some(name), "get")?;
        vault
            .deleted_keys
            .get(&name.to_lowercase())
            .filter(|d| reached(d.visible_from, asked.call.now))
            .map(|d| Reply::ok(render(asked, vault, d)))
            .ok_or_else(|| no_deleted(name))
    })
}

pub(crate) fn list(asked: &Asked<'_>) -> Outcome {
    let addresses = &asked.shared.addresses;
    let rows = asked.shared.world(|w| {
        let vault = pass(asked, w, "deletedkeys/read", None, "list")?;
        Ok(vault
            .deleted_keys
            .values()
            .filter(|d| reached(d.visible_from, asked.call.now))
            .map(|d| {
                let row = d.key.latest().item(&d.key.name, vault, addresses, false);
                d.mark(row, vault, addresses)
            })
            .collect())
    })?;
    page(asked, rows)
}

pub(crate) fn recover(asked: &Asked<'_>, name: &str) -> Outcome {
    let now = asked.call.now;
    let lower = name.to_lowercase();
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/recover/action", Some(name), "recover")?;
        let known = vault.deleted_keys.get(&lower).ok_or_else(|| no_deleted(name))?;
        if !reached(known.visible_from, now) {
            return Err(being_deleted(name));
        }
        let visible_from = w.due(|p| &p.key_recover, now);
        let vault = w.holder_mut(&asked.at).ok_or_else(Failure::no_such_host)?;
        let mut deleted = vault.deleted_keys.remove(&lower).ok_or_else(|| no_deleted(name))?;
        deleted.key.visible_from = visible_from;
        let answer = deleted.key.latest().bundle(&deleted.key.name, vault, &asked.shared.addresses);
        vault.keys.insert(lower.clone(), deleted.key);
        asked.call.touch();
        Ok(Reply::ok(answer))
    })
}

pub(crate) fn purge(asked: &Asked<'_>, name: &str) -> Outcome {
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/purge/action", Some(name), "purge")?;
        let known = vault.deleted_keys.get(&name.to_lowercase()).ok_or_else(|| no_deleted(name))?;
        if vault.purge_protection {
            return Err(Failure::new(
                403,
                "Forbidden",
                "Operation \"purge\" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.",
            ));
        }
        if !reached(known.visible_from, asked.call.now) {
            return Err(being_deleted(name));
        }
        if let Some(vault) = w.holder_mut(&asked.at) {
            vault.deleted_keys.remove(&name.to_lowercase());
        }
        asked.call.touch();
        Ok(Reply::empty(204))
    })
}
