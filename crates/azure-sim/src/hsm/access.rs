//! The gate in front of a managed HSM's data plane: firewall, activation, local roles. Errors have no inner code, and a
//! refused permission has a code of its own.

use crate::hsm::model::Hsm;
use crate::http::Failure;
use crate::keyvault::Asked;
use crate::keyvault::access::{api_version, firewall};
use crate::keyvault::holder::Zone;
use crate::state::World;

/// The managed HSMs' name, without prefix, for what vaults call `action`.
pub(crate) fn local_action(action: &str) -> &str {
    match action {
        "keys/read" | "keyrotationpolicies/read" => "keys/read/action",
        "deletedkeys/read" => "keys/deletedKeys/read/action",
        "keys/create/action" => "keys/create",
        // UNVERIFIED for rotation policies.
        "keys/update/action" | "keyrotationpolicies/write" => "keys/write/action",
        "keys/recover/action" => "keys/deletedKeys/recover/action",
        "keys/purge/action" => "keys/deletedKeys/delete",
        other => other,
    }
}

/// The HSM that is asked.
pub(crate) fn hsm<'w>(asked: &Asked<'_>, w: &'w World) -> Result<&'w Hsm, Failure> {
    w.hsms.get(&asked.at.name).ok_or_else(Failure::no_such_host)
}

/// Lets a request for keys through, or says what the HSM says. `action` is the vaults' name of the permission.
pub(crate) fn pass<'w>(asked: &Asked<'_>, w: &'w World, action: &str, key: Option<&str>) -> Result<&'w Hsm, Failure> {
    let scope = key.map_or_else(|| "/keys".to_owned(), |key| format!("/keys/{key}"));
    enter(asked, w, local_action(action), &scope)
}

/// Lets a request through that needs the action, written without its prefix, at the scope.
pub(crate) fn enter<'w>(asked: &Asked<'_>, w: &'w World, action: &str, scope: &str) -> Result<&'w Hsm, Failure> {
    let hsm = hsm(asked, w)?;
    firewall(asked, w, hsm)?;
    if !hsm.active(asked.call.now) {
        return Err(not_activated());
    }
    if !hsm.allows(&asked.caller.oid, action, scope, asked.call.now) {
        return Err(denied(asked, action, scope));
    }
    api_version(asked.call)?;
    Ok(hsm)
}

/// For the security domain: before the activation those named at creation may, after it those with the right at `/`.
pub(crate) fn enter_domain<'w>(asked: &Asked<'_>, w: &'w World, action: &str) -> Result<&'w Hsm, Failure> {
    let hsm = hsm(asked, w)?;
    firewall(asked, w, hsm)?;
    let first = hsm.first_admins.iter().any(|oid| oid.eq_ignore_ascii_case(&asked.caller.oid));
    let may =
        if hsm.active(asked.call.now) { hsm.allows(&asked.caller.oid, action, "/", asked.call.now) } else { first };
    if !may {
        return Err(denied(asked, action, "/"));
    }
    api_version(asked.call)?;
    Ok(hsm)
}

/// UNVERIFIED status, code and text.
fn not_activated() -> Failure {
    Failure::new(
        403,
        "Forbidden",
        "Managed HSM is not activated: download the security domain before it can be used for cryptographic operations.",
    )
}

fn denied(asked: &Asked<'_>, action: &str, scope: &str) -> Failure {
    Failure::new(
        403,
        "AccessDenied",
        format!(
            "Not authorized to access {}{action} on {scope} (Activity ID: {})",
            Zone::Hsm.actions(),
            asked.call.request_id
        ),
    )
}
