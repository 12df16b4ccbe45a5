//! The checks that a service makes with its own identity: before it takes a key, and each time it looks at one again.
//! The logical part only, so that it may run under the world's lock; the cryptography is in `data_key`.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::arm::vault_model::Vault;
use crate::cmk::Ops;
use crate::cmk::key_use::{KeyUse, READ, Refusal, Verb};
use crate::hsm::access::local_action;
use crate::hsm::model::Hsm;
use crate::keyvault::access::policy_allows;
use crate::keyvault::crypto::Material;
use crate::keyvault::holder::{Gate as Firewall, Holder, Zone};
use crate::keyvault::key_model::{Key, Unusable, Version, kid};
use crate::options::Addresses;
use crate::rbac::check::{Plane, allowed_by};
use crate::state::World;

/// A key that may be used.
#[derive(Clone, Debug)]
pub(crate) struct Usable {
    pub kid: String,
    /// The id of the version in `kid`.
    pub version: String,
    pub expires: Option<i64>,
    pub material: Arc<Material>,
}

/// Where keys live, as a service sees it: a vault or a managed HSM.
pub(crate) struct Home<'w> {
    pub holder: &'w Holder,
    gate: Gate<'w>,
}

/// Who decides about permissions.
enum Gate<'w> {
    Vault(&'w Vault),
    Hsm(&'w Hsm),
}

/// The home of keys that a URI names: host only, any scheme but https is wrong.
pub(crate) fn home<'w>(w: &'w World, addresses: &Addresses, wanted: &KeyUse) -> Result<Home<'w>, Refusal> {
    let url = url::Url::parse(&wanted.vault_uri).map_err(|_| Refusal::BadUri)?;
    if url.scheme() != "https" || url.port_or_known_default() != Some(addresses.port) || url.path() != "/" {
        return Err(Refusal::BadUri);
    }
    let at = addresses.holder_of(url.host_str().unwrap_or_default()).ok_or(Refusal::BadUri)?;
    let gate = match at.zone {
        Zone::Vault => w.vaults.get(&at.name).map(Gate::Vault),
        Zone::Hsm if !wanted.hsm => return Err(Refusal::HsmNotTaken),
        Zone::Hsm => w.hsms.get(&at.name).map(Gate::Hsm),
    };
    let gate = gate.ok_or(Refusal::VaultMissing)?;
    let holder = match gate {
        Gate::Vault(vault) => &vault.holder,
        Gate::Hsm(hsm) => &hsm.holder,
    };
    Ok(Home { holder, gate })
}

impl Home<'_> {
    fn allows(&self, w: &World, principal: &str, key: &str, verb: Verb, now: OffsetDateTime) -> bool {
        match self.gate {
            Gate::Vault(vault) if vault.rbac => {
                let resource = format!("{}/keys/{key}", vault.id);
                let action = format!("{}keys/{}", Zone::Vault.actions(), verb.action);
                allowed_by(w, principal, &action, &resource, Plane::Data, now).is_some()
            }
            Gate::Vault(vault) => policy_allows(vault, principal, verb.word),
            // An HSM that is not activated lets nobody in.
            Gate::Hsm(hsm) => {
                let action = format!("keys/{}", verb.action);
                hsm.active(now) && hsm.allows(principal, local_action(&action), &format!("/keys/{key}"), now)
            }
        }
    }

    pub fn version(&self, key: &str, version: &str) -> Result<(&Key, &Version), Refusal> {
        let key = self.holder.keys.get(&key.to_lowercase()).ok_or(Refusal::KeyMissing)?;
        Ok((key, key.version(version).ok_or(Refusal::KeyMissing)?))
    }
}

fn found(home: &Home<'_>, addresses: &Addresses, key: &Key, version: &Version) -> Usable {
    Usable {
        kid: kid(home.holder, addresses, &key.name, &version.id),
        version: version.id.clone(),
        expires: version.exp,
        material: version.material.clone(),
    }
}

/// Everything that a service checks before it takes a key, in the order in which it does. Nothing is wrapped here.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn check(w: &World, addresses: &Addresses, wanted: &KeyUse, now: OffsetDateTime) -> Result<Usable, Refusal> {
    let home = home(w, addresses, wanted)?;
    if !home.holder.purge_protection {
        return Err(Refusal::NotProtected);
    }
    if wanted.retention_days.is_some_and(|least| home.holder.retention_days < least) {
        return Err(Refusal::ShortRetention);
    }
    if wanted.region.as_deref().is_some_and(|region| region != home.holder.location.as_str()) {
        return Err(Refusal::OtherRegion);
    }
    let verbs = both(wanted.ops);
    admitted(w, &home, wanted, &[READ, verbs[0], verbs[1]], now)?;
    let (key, version) = home.version(&wanted.key, &wanted.version)?;
    usable(version, &verbs, now)?;
    if wanted.needs_no_expiry && version.exp.is_some() {
        return Err(Refusal::HasExpiry);
    }
    let bits = version.material.size().parse::<u32>().unwrap_or_default();
    if !wanted.sizes.is_empty() && !wanted.sizes.contains(&bits) {
        return Err(Refusal::WrongSize);
    }
    Ok(found(&home, addresses, key, version))
}

/// What a service that has taken a key needs to get its data key out again: less than `check` asks, as an expired key
/// still unwraps and the terms on which the key was taken are not gone through again.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn recheck(
    w: &World,
    addresses: &Addresses,
    wanted: &KeyUse,
    version: &str,
    now: OffsetDateTime,
) -> Result<Usable, Refusal> {
    let home = home(w, addresses, wanted)?;
    let recover = wanted.ops.recover();
    admitted(w, &home, wanted, &[READ, recover], now)?;
    let (key, version) = home.version(&wanted.key, version)?;
    usable(version, &[recover], now)?;
    Ok(found(&home, addresses, key, version))
}

/// To take a key, both halves of the pair are needed: services try the way back before they rely on it.
fn both(ops: Ops) -> [Verb; 2] {
    [ops.protect(), ops.recover()]
}

fn admitted(w: &World, home: &Home<'_>, wanted: &KeyUse, verbs: &[Verb], now: OffsetDateTime) -> Result<(), Refusal> {
    let network = home.holder.network_in_force(now);
    let admitted = match wanted.comes_from.as_ref() {
        [] => network.admits_trusted(),
        addresses => addresses.iter().any(|address| network.admits(*address, None) == Firewall::Open),
    };
    if !admitted {
        return Err(Refusal::Firewall);
    }
    if !w.principals.contains_key(&wanted.principal.to_lowercase()) {
        return Err(Refusal::IdentityGone);
    }
    if !verbs.iter().all(|verb| home.allows(w, &wanted.principal, &wanted.key, *verb, now)) {
        return Err(Refusal::NoAccess);
    }
    Ok(())
}

fn usable(version: &Version, verbs: &[Verb], now: OffsetDateTime) -> Result<(), Refusal> {
    if !version.material.is_rsa() {
        return Err(Refusal::WrongKey);
    }
    for verb in verbs {
        version.usable(verb.word, now).map_err(|why| match why {
            Unusable::OperationNotInKey => Refusal::WrongKey,
            Unusable::Disabled => Refusal::KeyDisabled,
            Unusable::NotYetValid => Refusal::KeyNotYetValid,
            Unusable::Expired => Refusal::KeyExpired,
        })?;
    }
    Ok(())
}
