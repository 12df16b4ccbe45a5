//! What the types of `kinds/data` do alone: read-only members, and which bodies a key cannot be named with.

use serde_json::{Value, json};

use crate::arm::generic::pointer;
use crate::arm::generic::resource::View;
use crate::arm::generic::write::Change;
use crate::http::Failure;

pub(crate) const COMMON_URL: &str = "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyUrl";
pub(crate) const COMMON_IDENTITY: &str =
    "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyIdentity/userAssignedIdentityResourceId";
pub(crate) const LOG_KEY: &str = "/properties/keyVaultProperties/keyName";

const LOG_PROPERTIES: &str = "/properties/keyVaultProperties";

/// Managed Redis and DocumentDB take no system-assigned identity for the key. Code UNVERIFIED.
pub(crate) fn user_identity_only(change: &mut Change<'_>) -> Result<(), Failure> {
    if change.text(COMMON_URL).is_some() && change.text(COMMON_IDENTITY).is_none() {
        return Err(Failure::new(
            400,
            "InvalidEncryptionIdentity",
            "Customer-managed key encryption needs a user-assigned identity.",
        ));
    }
    Ok(())
}

/// Log Analytics: identity and key go one after the other, and `associatedWorkspaces` is for reading. Codes UNVERIFIED.
pub(crate) fn guard_log_cluster(change: &mut Change<'_>) -> Result<(), Failure> {
    let Some(have) = change.have else { return Ok(()) };
    if !change.partial && change.says("/properties/associatedWorkspaces") {
        return Err(Failure::new(
            400,
            "InvalidParameter",
            "The property 'associatedWorkspaces' cannot be set by an update of the cluster.",
        ));
    }
    let named = pointer::text(&have.body, LOG_KEY).is_some();
    let emptied = pointer::get(change.sent, LOG_KEY) == Some(&Value::from(""));
    if named && change.says(LOG_PROPERTIES) && change.text(LOG_KEY).is_none() && !emptied {
        change.undo(LOG_PROPERTIES);
    }
    let other_key = pointer::get(&have.body, LOG_PROPERTIES) != pointer::get(&change.next.body, LOG_PROPERTIES);
    if change.other_identities && other_key {
        return Err(Failure::new(
            400,
            "InvalidParameter",
            "The identity and the key vault properties of a cluster cannot be updated in one request.",
        ));
    }
    Ok(())
}

pub(crate) fn mysql(view: &View<'_>, out: &mut Value) {
    let host = format!("{}.mysql.database.{}", view.resource.name, view.shared.addresses.suffix);
    pointer::set(out, "/properties/fullyQualifiedDomainName", host.into());
}

pub(crate) fn mongo_cluster(view: &View<'_>, out: &mut Value) {
    let (name, suffix) = (&view.resource.name, &view.shared.addresses.suffix);
    let text = format!("mongodb+srv://<user>:<password>@{name}.mongocluster.cosmos.{suffix}/?tls=true");
    pointer::set(out, "/properties/connectionString", text.into());
    pointer::set(out, "/properties/clusterStatus", "Ready".into());
    pointer::set(out, "/properties/privateEndpointConnections", json!([]));
}

pub(crate) fn redis(view: &View<'_>, out: &mut Value) {
    let host = format!("{}.{}.redis.{}", view.resource.name, view.resource.location, view.shared.addresses.suffix);
    pointer::set(out, "/properties/hostName", host.into());
    pointer::set(out, "/properties/resourceState", "Running".into());
}

pub(crate) fn kusto(view: &View<'_>, out: &mut Value) {
    pointer::set(out, "/properties/state", "Running".into());
    pointer::set(out, "/properties/uri", view.host(&format!("{}.kusto", view.resource.location)).into());
}
