//! Azure SQL: names of server keys, what the protector shows, and how server, keys and protector hang together. Codes by the
//! published list of the server key operations; which of them come with the first answer is UNVERIFIED.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::generic::pointer;
use crate::arm::generic::resource::{Course, Resource, View};
use crate::arm::generic::rule::{Said, Trouble};
use crate::arm::generic::write::Change;
use crate::arm::identity_block::IdentityBlock;
use crate::cmk::Refusal;
use crate::http::{Failure, rfc3339};
use crate::state::World;

const TYPE: &str = "/properties/serverKeyType";
const NAME: &str = "/properties/serverKeyName";
const URI: &str = "/properties/uri";
const KEY_ID: &str = "/properties/keyId";

/// Operations fail rather than are refused where the server has to ask the vault.
pub(crate) fn words(trouble: &Trouble) -> Option<Said> {
    Some(match trouble {
        Trouble::Key(Refusal::BadUri) | Trouble::Missing(_) | Trouble::VersionMissing => {
            Said::now(400, "AzureKeyVaultMalformedVaultUri", "The provided Key Vault uri is not valid.")
        }
        Trouble::Key(Refusal::NotProtected | Refusal::ShortRetention) => Said::now(
            400,
            "SecurityInvalidAzureKeyVaultRecoveryLevel",
            "The provided Key Vault uri is not valid: the key vault must have soft delete and purge protection enabled.",
        ),
        Trouble::Key(Refusal::KeyDisabled) => Said::later(
            401,
            "AzureKeyVaultKeyDisabled",
            "The operation could not be completed on the server because the Azure Key Vault key is disabled.",
        ),
        Trouble::Key(Refusal::KeyExpired | Refusal::KeyNotYetValid) => Said::later(
            400,
            "AzureKeyVaultInvalidExpirationDate",
            "The operation could not be completed because the Azure Key Vault key expiration date is invalid.",
        ),
        Trouble::Nobody => Said::now(
            401,
            "AzureKeyVaultNoServerIdentity",
            "The server identity is not correctly configured on server. Please contact support.",
        ),
        Trouble::Key(Refusal::NoAccess | Refusal::Firewall | Refusal::IdentityGone) => Said::later(
            401,
            "AzureKeyVaultMissingPermissions",
            "The server is missing required permissions on the Azure Key Vault.",
        ),
        Trouble::Key(_) => Said::later(
            400,
            "AzureKeyVaultInvalidUri",
            "An invalid response from Azure Key Vault. Please use a valid Azure Key Vault URI.",
        ),
        _ => return None,
    })
}

/// `{vault}_{key}_{version}`, of which the version is left out with a versionless URL.
fn key_name(uri: &str) -> Option<String> {
    let url = url::Url::parse(uri).ok()?;
    let vault = url.host_str()?.split('.').next()?.to_owned();
    let mut parts = url.path_segments()?.filter(|p| !p.is_empty());
    (parts.next()? == "keys").then_some(())?;
    Some(std::iter::once(vault.as_str()).chain(parts).collect::<Vec<_>>().join("_"))
}

pub(crate) fn guard_key(change: &mut Change<'_>) -> Result<(), Failure> {
    if change.text(TYPE).is_none_or(|t| !t.eq_ignore_ascii_case("AzureKeyVault")) {
        return Err(Failure::new(
            400,
            "InvalidUpsertKeyType",
            "Service-managed TDE keys are managed by the service. Service-managed TDE keys don't support Create or Update by the user.",
        ));
    }
    let Some(uri) = change.text(URI) else {
        return Err(Failure::new(
            400,
            "InvalidKeyUpsertRequest",
            "The create server key request does not exist or has no properties object.",
        ));
    };
    match key_name(uri) {
        Some(name) if !name.eq_ignore_ascii_case(&change.next.name) => {
            Err(Failure::new(400, "InvalidKeyName", "An invalid value was given for the server key name."))
        }
        _ => Ok(()),
    }
}

pub(crate) fn guard_protector(change: &mut Change<'_>) -> Result<(), Failure> {
    let vault = change.text(TYPE).is_some_and(|t| t.eq_ignore_ascii_case("AzureKeyVault"));
    if !vault {
        pointer::set(&mut change.next.body, NAME, "ServiceManaged".into());
        pointer::remove(&mut change.next.body, "/properties/autoRotationEnabled");
        return Ok(());
    }
    if named_key(change.world, change.next).is_some() {
        return Ok(());
    }
    Err(Failure::new(409, "ServerKeyDoesNotExists", "The server key does not exist."))
}

/// The URL of the server's key that the protector names.
pub(crate) fn named_key(w: &World, protector: &Resource) -> Option<String> {
    let name = pointer::text(&protector.body, NAME)?;
    let (server, _) = protector.id.rsplit_once('/')?.0.rsplit_once('/')?;
    let key = w.resources.get(&format!("{server}/keys/{name}").to_lowercase())?;
    pointer::text(&key.body, URI).map(str::to_owned)
}

/// Twenty bytes in upper-case hex, as a certificate's; that Azure derives it from the key is UNVERIFIED.
fn thumbprint(kid: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, kid.as_bytes());
    hash.as_ref().iter().take(20).map(|b| format!("{b:02X}")).collect()
}

fn show(view: &View<'_>, out: &mut Value) {
    let own = pointer::text(&view.resource.body, TYPE).unwrap_or_default().to_owned();
    out["kind"] = own.to_lowercase().into();
    out["location"] = view.resource.location.clone().into();
    pointer::set(out, TYPE, own.into());
    if let Some(hold) = view.world.hold(&view.resource.id) {
        pointer::set(out, "/properties/thumbprint", thumbprint(&hold.kid).into());
        pointer::set(out, "/properties/keyVersion", hold.version.clone().into());
    }
}

pub(crate) fn shows_key(view: &View<'_>, out: &mut Value) {
    show(view, out);
    if let Some(uri) = pointer::text(&view.resource.body, URI) {
        pointer::set(out, URI, uri.into());
        pointer::set(out, "/properties/creationDate", rfc3339(view.resource.created).into());
    }
}

pub(crate) fn shows_protector(view: &View<'_>, out: &mut Value) {
    show(view, out);
    if let Some(hold) = view.world.hold(&view.resource.id) {
        pointer::set(out, URI, hold.kid.clone().into());
    }
}

/// Keys of a managed instance show neither a region nor the key's version.
pub(crate) fn shows_instance_key(view: &View<'_>, out: &mut Value) {
    shows_key(view, out);
    pointer::remove(out, "/location");
    pointer::remove(out, "/properties/keyVersion");
}

pub(crate) fn shows_instance_protector(view: &View<'_>, out: &mut Value) {
    shows_protector(view, out);
    pointer::remove(out, "/location");
    pointer::remove(out, "/properties/keyVersion");
}

pub(crate) fn shows_database(view: &View<'_>, out: &mut Value) {
    let Some(hold) = view.world.hold(&view.resource.id) else { return };
    let shown = json!({ "type": "AzureKeyVault", "thumbprint": thumbprint(&hold.kid), "keyVersion": hold.version });
    let keys = Map::from_iter([(hold.kid.clone(), shown)]);
    pointer::set(out, "/properties/keys", Value::Object(keys));
}

pub(crate) fn shows_server(view: &View<'_>, out: &mut Value) {
    let host = format!("{}.database.{}", view.resource.name, view.shared.addresses.suffix);
    pointer::set(out, "/properties/fullyQualifiedDomainName", host.into());
}

fn below(server: &Resource, types: &str, name: &str, properties: Value, now: OffsetDateTime) -> Resource {
    Resource {
        id: format!("{}/{types}/{name}", server.id),
        name: name.to_owned(),
        kind: format!("{}/{types}", server.kind),
        tags: Map::new(),
        identity: IdentityBlock::default(),
        body: json!({ "properties": properties }),
        course: Course::done(now),
        created: now,
        modified: now,
        ..server.clone()
    }
}

/// A server's `keyId` stands for the key and the protector.
pub(crate) fn after_server(w: &mut World, server: &Resource, now: OffsetDateTime) {
    let Some(uri) = pointer::text(&server.body, KEY_ID).filter(|_| !server.course.fails) else { return };
    let Some(name) = key_name(uri) else { return };
    let key = below(server, "keys", &name, json!({ "serverKeyType": "AzureKeyVault", "uri": uri }), now);
    w.resources.entry(key.id.to_lowercase()).or_insert(key);
    let protector = below(
        server,
        "encryptionProtector",
        "current",
        json!({ "serverKeyName": name, "serverKeyType": "AzureKeyVault" }),
        now,
    );
    let have = w.resources.get(&protector.id.to_lowercase());
    if have.is_none_or(|h| pointer::text(&h.body, NAME) != Some(name.as_str())) {
        w.resources.insert(protector.id.to_lowercase(), protector);
    }
}

/// The server's `keyId` follows the protector.
pub(crate) fn after_protector(w: &mut World, protector: &Resource, _now: OffsetDateTime) {
    if protector.course.fails {
        return;
    }
    let uri = named_key(w, protector);
    let server = protector.id.rsplit('/').nth(2).and_then(|_| protector.id.rsplit_once("/encryptionProtector/"));
    let Some(server) = server.and_then(|(id, _)| w.resources.get_mut(&id.to_lowercase())) else { return };
    match uri {
        Some(uri) => pointer::set(&mut server.body, KEY_ID, uri.into()),
        None => {
            pointer::remove(&mut server.body, KEY_ID);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::key_name;

    #[test]
    fn names_of_server_keys() {
        assert_eq!(key_name("https://kv1.vault.localhost:8443/keys/k1/0a").as_deref(), Some("kv1_k1_0a"));
        assert_eq!(key_name("https://h1.managedhsm.test/keys/k1").as_deref(), Some("h1_k1"));
        assert_eq!(key_name("https://kv1.vault.test/secrets/k1"), None);
    }
}
