//! What every Azure service checks before it takes a customer-managed key: the vault, its protection, its firewall, the
//! service's right, the key. Done with the service's own identity and for real: the data key is wrapped and unwrapped
//! with the key's own material. Each service translates a `Refusal` into its own error codes.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::arm::vault_model::Vault;
use crate::keyvault::access::policy_allows;
use crate::keyvault::crypto::Material;
use crate::keyvault::key_model::{Version, kid};
use crate::options::Addresses;
use crate::rbac::check::{Plane, allowed_by};
use crate::state::World;

/// Which key a service is told to use, and as whom it looks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyUse {
    /// Object id of the identity's principal.
    pub principal: String,
    pub vault_uri: String,
    pub key: String,
    /// Empty: the latest.
    pub version: String,
}

/// A key that may be used.
#[derive(Clone, Debug)]
pub(crate) struct Usable {
    pub kid: String,
    pub expires: Option<i64>,
    pub material: Arc<Material>,
}

/// Why a service cannot use the key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// The URI does not name a vault of this cloud.
    BadUri,
    VaultMissing,
    /// Soft delete or purge protection is missing.
    NotProtected,
    /// The vault's firewall does not let trusted services in.
    Firewall,
    /// The identity has no right to read, wrap and unwrap, or its grant has not arrived.
    NoAccess,
    KeyMissing,
    /// Disabled, or outside of its dates.
    KeyUnusable,
    /// Not RSA, or without wrap and unwrap among its operations.
    WrongKey,
}

/// The vault that a key URI names: host only, any scheme but https is wrong.
fn vault_of<'w>(w: &'w World, addresses: &Addresses, uri: &str) -> Result<&'w Vault, Refusal> {
    let url = url::Url::parse(uri).map_err(|_| Refusal::BadUri)?;
    let host = url.host_str().unwrap_or_default();
    let name = addresses.vault_of(host).ok_or(Refusal::BadUri)?;
    let port = url.port_or_known_default();
    if url.scheme() != "https" || port != Some(addresses.port) || url.path() != "/" {
        return Err(Refusal::BadUri);
    }
    w.vaults.get(name).ok_or(Refusal::VaultMissing)
}

/// The checks, in the order in which the service makes them.
pub(crate) fn check(w: &World, addresses: &Addresses, wanted: &KeyUse, now: OffsetDateTime) -> Result<Usable, Refusal> {
    let vault = vault_of(w, addresses, &wanted.vault_uri)?;
    if !vault.purge_protection {
        return Err(Refusal::NotProtected);
    }
    if !vault.network_in_force(now).admits_trusted() {
        return Err(Refusal::Firewall);
    }
    if !may_wrap(w, vault, wanted, now) {
        return Err(Refusal::NoAccess);
    }
    let key = vault.keys.get(&wanted.key.to_lowercase()).ok_or(Refusal::KeyMissing)?;
    let version = key.version(&wanted.version).ok_or(Refusal::KeyMissing)?;
    usable(version, now)?;
    Ok(Usable {
        kid: kid(vault, addresses, &key.name, &version.id),
        expires: version.exp,
        material: version.material.clone(),
    })
}

fn may_wrap(w: &World, vault: &Vault, wanted: &KeyUse, now: OffsetDateTime) -> bool {
    if !vault.rbac {
        return ["get", "wrapKey", "unwrapKey"].iter().all(|p| policy_allows(vault, &wanted.principal, p));
    }
    let resource = format!("{}/keys/{}", vault.id, wanted.key);
    ["read", "wrap/action", "unwrap/action"].iter().all(|verb| {
        let action = format!("Microsoft.KeyVault/vaults/keys/{verb}");
        allowed_by(w, &wanted.principal, &action, &resource, Plane::Data, now).is_some()
    })
}

fn usable(version: &Version, now: OffsetDateTime) -> Result<(), Refusal> {
    use crate::keyvault::key_model::Unusable;
    if !version.material.is_rsa() {
        return Err(Refusal::WrongKey);
    }
    for op in ["wrapKey", "unwrapKey"] {
        version.usable(op, now).map_err(|why| match why {
            Unusable::OperationNotInKey => Refusal::WrongKey,
            Unusable::Disabled | Unusable::NotYetValid | Unusable::Expired => Refusal::KeyUnusable,
        })?;
    }
    Ok(())
}

/// Wraps a fresh data key and unwraps it again. Returns the wrapped form, which is all that the service keeps.
pub(crate) async fn wrap_data_key(material: Arc<Material>) -> Result<Vec<u8>, Refusal> {
    let done = tokio::task::spawn_blocking(move || {
        let data_key: [u8; 32] = rand::random();
        let wrapped = material.encrypt("RSA-OAEP-256", &data_key).ok()?;
        let again = material.decrypt("RSA-OAEP-256", &wrapped).ok()?;
        (again == data_key).then_some(wrapped)
    })
    .await;
    done.ok().flatten().ok_or(Refusal::WrongKey)
}
