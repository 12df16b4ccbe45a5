//! Microsoft.KeyVault/deletedVaults: what is soft-deleted, and purging it.

use crate::arm::Asked;
use crate::arm::checks::no_route;
use crate::arm::network::connections;
use crate::arm::no_method;
use crate::arm::operations::{self, Ending};
use crate::http::{Failure, Outcome, Reply, region};
use crate::rbac::check;
use crate::state::World;

fn require(asked: &Asked<'_>, w: &World, action: &str) -> Result<(), Failure> {
    let scope = format!("/subscriptions/{}", asked.subscription);
    check::require(w, &asked.caller, action, &scope, asked.call.now)
}

pub(crate) fn list(asked: &Asked<'_>) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "Microsoft.KeyVault/deletedVaults/read")?;
        Ok(Reply::list(
            w.deleted_vaults
                .values()
                .filter(|d| asked.holds(&d.vault.id))
                .map(|d| d.render(&asked.subscription))
                .collect(),
        ))
    })
}

/// `rest` is the vault's name, with `purge` behind it or nothing.
pub(crate) fn serve(asked: &Asked<'_>, location: &str, rest: &[&str]) -> Outcome {
    match (asked.call.method.as_str(), rest) {
        ("GET", [name]) => get(asked, location, name),
        ("POST", [name, action]) if action.eq_ignore_ascii_case("purge") => purge(asked, location, name),
        (_, [_]) => Err(no_method(asked.call)),
        _ => Err(no_route(asked.call)),
    }
}

fn missing(name: &str) -> Failure {
    Failure::new(404, "DeletedVaultNotFound", format!("The specified deleted vault '{name}' does not exist."))
}

fn get(asked: &Asked<'_>, location: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "Microsoft.KeyVault/locations/deletedVaults/read")?;
        w.deleted_vaults
            .get(&name.to_lowercase())
            .filter(|d| d.vault.location == region(location) && asked.holds(&d.vault.id))
            .map(|d| Reply::ok(d.render(&asked.subscription)))
            .ok_or_else(|| missing(name))
    })
}

/// The end of a deleted vault, by purge or by time. Private endpoints that aimed at it are disconnected.
pub(crate) fn forget(w: &mut World, key: &str) {
    if let Some(deleted) = w.deleted_vaults.remove(key) {
        connections::disconnect_under(&mut w.networks, &deleted.vault.id);
    }
}

fn purge(asked: &Asked<'_>, location: &str, name: &str) -> Outcome {
    let key = name.to_lowercase();
    asked.shared.world(|w| {
        require(asked, w, "Microsoft.KeyVault/locations/deletedVaults/purge/action")?;
        let deleted = w
            .deleted_vaults
            .get(&key)
            .filter(|d| d.vault.location == region(location) && asked.holds(&d.vault.id))
            .ok_or_else(|| missing(name))?;
        if deleted.vault.purge_protection {
            return Err(Failure::new(405, "MethodNotAllowed", "Operation 'DeletedVaultPurge' is not allowed."));
        }
        let location = deleted.vault.location.clone();
        let op = operations::start(asked.shared, w, asked.call, &asked.caller.oid, Ending::Nothing);
        if !op.fails {
            forget(w, &key);
            asked.call.touch();
        }
        let path = format!(
            "/subscriptions/{}/providers/Microsoft.KeyVault/locations/{location}/operationResults/{}",
            asked.subscription, op.id
        );
        Ok(operations::accepted(asked.shared, asked.call, &path))
    })
}
