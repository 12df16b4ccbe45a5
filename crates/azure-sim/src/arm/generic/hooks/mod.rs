//! What one type alone does: functions for `guard`, `shows`, `after`, `words` and actions. Those of a few lines are here.

pub(crate) mod cognitive;
pub(crate) mod cosmos;
pub(crate) mod data;
pub(crate) mod sql;
pub(crate) mod synapse;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::arm::generic::pointer;
use crate::arm::generic::resource::{Resource, View};
use crate::arm::generic::write::Change;
use crate::http::{Failure, rfc3339};

/// An account key that opens nothing, stable for one life of a resource.
pub(crate) fn made_key(resource: &Resource, which: &str) -> String {
    let text = format!("{}#{which}#{}", resource.id.to_lowercase(), resource.created.unix_timestamp());
    STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, text.as_bytes()))
}

pub(crate) fn configuration_store(view: &View<'_>, out: &mut Value) {
    pointer::set(out, "/properties/endpoint", view.host("azconfig").into());
    pointer::set(out, "/properties/creationDate", rfc3339(view.resource.created).into());
    pointer::set(out, "/properties/privateEndpointConnections", json!([]));
}

/// A Databricks workspace whose managed storage account is prepared for a key shows that account's identity; the grant
/// comes after it, and the key in a second write.
pub(crate) fn databricks(change: &mut Change<'_>) -> Result<(), Failure> {
    const AT: &str = "/properties/storageAccountIdentity/principalId";
    let prepared = pointer::get(&change.next.body, "/properties/parameters/prepareEncryption/value");
    if prepared == Some(&Value::Bool(true)) && !change.next.made.contains_key(AT) {
        let what = format!("{}{AT}@{}", change.next.id, change.now);
        change.next.made.insert(AT.to_owned(), crate::entra::first_party::made_for(&what));
    }
    Ok(())
}

/// Signing in by Entra ID came with 2025-01-15-preview; before it, a gateway has a password.
pub(crate) fn hadoop(change: &mut Change<'_>) -> Result<(), Failure> {
    change.since("/properties/clusterDefinition/configurations/gateway/restAuthEntraUsers", "2025-01-15")
}

/// The key of the whole service came with 2026-03-01-preview.
pub(crate) fn search(change: &mut Change<'_>) -> Result<(), Failure> {
    change.since("/properties/encryptionWithCmk/serviceLevelEncryptionKey", "2026-03-01")
}

/// A Recovery Services vault reads its key as itself or as one user-assigned identity, and says which. Code UNVERIFIED.
pub(crate) fn guard_recovery_vault(change: &mut Change<'_>) -> Result<(), Failure> {
    const AT: &str = "/properties/encryption/kekIdentity";
    if pointer::get(&change.next.body, "/properties/encryption/keyVaultProperties/keyUri").is_none() {
        return Ok(());
    }
    let own = pointer::get(&change.next.body, &format!("{AT}/useSystemAssignedIdentity")) == Some(&Value::Bool(true));
    if own == pointer::text(&change.next.body, &format!("{AT}/userAssignedIdentity")).is_some() {
        return Err(Failure::bad_request(
            "Exactly one of 'useSystemAssignedIdentity' and 'userAssignedIdentity' names the identity for the key.",
        )
        .target(AT));
    }
    Ok(())
}

/// What names a disk encryption set names one that is there.
pub(crate) fn encryption_set(change: &mut Change<'_>) -> Result<(), Failure> {
    for at in ["/properties/diskEncryptionSetID", "/properties/encryption/diskEncryptionSetId"] {
        let Some(id) = change.text(at) else { continue };
        let set = change.world.resources.get(&id.to_lowercase());
        if set.is_none_or(|s| s.kind != "Microsoft.Compute/diskEncryptionSets") {
            // Code UNVERIFIED.
            return Err(
                Failure::new(404, "NotFound", format!("The disk encryption set '{id}' was not found.")).target(at)
            );
        }
    }
    Ok(())
}

/// The flag cannot be taken back, and it needs a dedicated cluster under a key, which is not looked at here.
pub(crate) fn onboarding(change: &mut Change<'_>) -> Result<(), Failure> {
    const FLAG: &str = "/properties/customerManagedKey";
    let on = |body: &Value| pointer::get(body, FLAG) == Some(&Value::Bool(true));
    if change.have.is_some_and(|h| on(&h.body)) && !on(&change.next.body) {
        return Err(Failure::bad_request("A workspace that was onboarded with customer-managed keys stays so."));
    }
    Ok(())
}

pub(crate) fn registry(view: &View<'_>, out: &mut Value) {
    let name = view.resource.name.to_lowercase();
    pointer::set(out, "/properties/loginServer", format!("{name}.azurecr.{}", view.shared.addresses.suffix).into());
    pointer::set(out, "/properties/creationDate", rfc3339(view.resource.created).into());
    const KEY: &str = "/properties/encryption/keyVaultProperties";
    if let Some(hold) = view.world.hold(&view.resource.id) {
        let follows = hold.key_use.version.is_empty();
        pointer::set(out, &format!("{KEY}/keyRotationEnabled"), follows.into());
    }
}

pub(crate) fn postgres(view: &View<'_>, out: &mut Value) {
    let host = format!("{}.postgres.database.{}", view.resource.name, view.shared.addresses.suffix);
    pointer::set(out, "/properties/fullyQualifiedDomainName", host.into());
}
