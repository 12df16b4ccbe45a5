//! Microsoft.KeyVault/deletedManagedHSMs: what is soft-deleted, and purging it.

use crate::arm::Asked;
use crate::arm::checks::no_route;
use crate::arm::no_method;
use crate::arm::operations::{self, Ending};
use crate::http::{Failure, Outcome, Reply, region};
use crate::rbac::check;
use crate::state::World;

fn require(asked: &Asked<'_>, w: &World, action: &str) -> Result<(), Failure> {
    let scope = format!("/subscriptions/{}", asked.subscription);
    check::require(w, &asked.caller, &format!("Microsoft.KeyVault/{action}"), &scope, asked.call.now)
}

pub(crate) fn list(asked: &Asked<'_>) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "deletedManagedHsms/read")?;
        Ok(Reply::list(
            w.deleted_hsms.values().filter(|d| asked.holds(&d.hsm.id)).map(|d| d.render(&asked.subscription)).collect(),
        ))
    })
}

/// `rest` is the HSM's name, with `purge` behind it or nothing.
pub(crate) fn serve(asked: &Asked<'_>, location: &str, rest: &[&str]) -> Outcome {
    match (asked.call.method.as_str(), rest) {
        ("GET", [name]) => get(asked, location, name),
        ("POST", [name, action]) if action.eq_ignore_ascii_case("purge") => purge(asked, location, name),
        (_, [_]) => Err(no_method(asked.call)),
        _ => Err(no_route(asked.call)),
    }
}

/// Code UNVERIFIED.
fn missing(name: &str) -> Failure {
    Failure::new(
        404,
        "DeletedManagedHsmNotFound",
        format!("The specified deleted managed HSM '{name}' does not exist."),
    )
}

fn get(asked: &Asked<'_>, location: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "locations/deletedManagedHsms/read")?;
        w.deleted_hsms
            .get(&name.to_lowercase())
            .filter(|d| d.hsm.location == region(location) && asked.holds(&d.hsm.id))
            .map(|d| Reply::ok(d.render(&asked.subscription)))
            .ok_or_else(|| missing(name))
    })
}

fn purge(asked: &Asked<'_>, location: &str, name: &str) -> Outcome {
    let key = name.to_lowercase();
    asked.shared.world(|w| {
        require(asked, w, "locations/deletedManagedHsms/purge/action")?;
        let deleted = w
            .deleted_hsms
            .get(&key)
            .filter(|d| d.hsm.location == region(location) && asked.holds(&d.hsm.id))
            .ok_or_else(|| missing(name))?;
        if deleted.hsm.purge_protection {
            // Text UNVERIFIED; that of vaults.
            return Err(Failure::new(405, "MethodNotAllowed", "Operation 'DeletedManagedHsmPurge' is not allowed."));
        }
        let location = deleted.hsm.location.clone();
        let op = operations::start(asked.shared, w, asked.call, &asked.caller.oid, Ending::Nothing);
        if !op.fails {
            w.purge_hsm(&key);
            asked.call.touch();
        }
        let path = format!(
            "/subscriptions/{}/providers/Microsoft.KeyVault/locations/{location}/operationResults/{}",
            asked.subscription, op.id
        );
        Ok(operations::accepted(asked.shared, asked.call, &path))
    })
}
