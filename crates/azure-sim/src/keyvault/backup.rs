//! Backup and restore of single keys. The value is opaque and authenticated: all versions, attributes and the rotation
//! policy under AES-256-GCM with a key that belongs to the simulated cloud. Full backups of managed HSMs are not here.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::Asked;
use crate::keyvault::access::pass;
use crate::keyvault::holder::{At, Zone};
use crate::keyvault::key_body::{self, bad};
use crate::keyvault::key_model::Key;
use crate::keyvault::keys::{room, shown};
use crate::state::World;

/// What the values start with; it names their form and is authenticated with them.
const FORM: &[u8] = b"azure-sim.key.1.";
const NONCE: usize = 12;

/// The key under which this cloud's backups are. With another one they are nothing but noise.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct BackupKey([u8; 32]);

impl Default for BackupKey {
    fn default() -> Self {
        Self(rand::random())
    }
}

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupKey(…)")
    }
}

impl BackupKey {
    fn cipher(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()
    }

    fn seal(&self, mut plain: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = self.cipher()?.seal_in_place_append_tag(Aad::from(FORM), &mut plain).ok()?;
        Some([FORM, nonce.as_ref(), &plain].concat())
    }

    fn open(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = value.strip_prefix(FORM)?.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self.cipher()?.open_in_place(nonce, Aad::from(FORM), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

/// Where a key is from, and where alone it may go: a vault's into vaults of the same subscription and geography, an HSM's
/// into HSMs with the same security domain.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Origin {
    zone: Zone,
    tenant: String,
    subscription: String,
    /// Geography or security domain.
    within: String,
}

#[derive(Serialize, Deserialize)]
struct Backup {
    origin: Origin,
    key: Key,
}

impl Origin {
    fn of(w: &World, at: &At) -> Option<Self> {
        let (id, tenant, within) = match at.zone {
            Zone::Vault => {
                let vault = w.vaults.get(&at.name)?;
                (&vault.id, &vault.tenant, geography(&vault.location))
            }
            Zone::Hsm => {
                let hsm = w.hsms.get(&at.name)?;
                (&hsm.id, &hsm.tenant, hsm.activation.as_ref()?.domain.clone())
            }
        };
        let subscription = id.split('/').nth(2).unwrap_or_default().to_lowercase();
        Some(Self { zone: at.zone, tenant: tenant.to_lowercase(), subscription, within })
    }
}

/// The geography of a region: the region's name without its directions and numbers, with Azure's own groups where the
/// names do not tell. The grouping is UNVERIFIED but for Europe, the United Kingdom and the United States.
fn geography(location: &str) -> String {
    let region: String = location.chars().filter(|c| c.is_ascii_alphabetic()).collect::<String>().to_lowercase();
    match region.as_str() {
        "northeurope" | "westeurope" => "europe".to_owned(),
        "eastasia" | "southeastasia" => "asiapacific".to_owned(),
        other => {
            let mut name = other.to_owned();
            for direction in ["north", "south", "east", "west", "central"] {
                name = name.replace(direction, "");
            }
            if name.is_empty() { other.to_owned() } else { name }
        }
    }
}

fn internal() -> Failure {
    Failure::new(500, "InternalServerError", "The operation did not end.")
}

/// `POST /keys/{name}/backup`.
pub(crate) async fn backup(asked: &Asked<'_>, name: &str) -> Outcome {
    let (backup, secret) = asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/backup/action", Some(name), "backup")?;
        let key = shown(asked, vault, name)?.clone();
        let origin = Origin::of(w, &asked.at).ok_or_else(Failure::no_such_host)?;
        Ok::<_, Failure>((Backup { origin, key }, w.backup_key.clone()))
    })?;
    let value = tokio::task::spawn_blocking(move || secret.seal(serde_json::to_vec(&backup).ok()?))
        .await
        .ok()
        .flatten()
        .ok_or_else(internal)?;
    Ok(Reply::ok(json!({ "value": B64.encode(value) })))
}

/// `POST /keys/restore`. All versions come back under their old ids. The texts of the errors are UNVERIFIED.
pub(crate) async fn restore(asked: &Asked<'_>) -> Outcome {
    let enter = |w: &World| pass(asked, w, "keys/restore/action", None, "restore").map(|_| ());
    let secret = asked.shared.world(|w| enter(w).map(|()| w.backup_key.clone()))?;
    let body = key_body::object(asked.call, false)?;
    key_body::only(&body, &["value"])?;
    let value = body
        .get("value")
        .and_then(Value::as_str)
        .and_then(|text| B64.decode(text.trim_end_matches('=')).ok())
        .ok_or_else(|| bad("Property 'value' must be base64url."))?;
    let read = move || serde_json::from_slice::<Backup>(&secret.open(&value)?).ok();
    let Backup { origin, mut key } = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| internal())?
        .filter(|backup| !backup.key.versions.is_empty())
        .ok_or_else(|| bad("The backup blob is corrupt or was not made by this service."))?;
    asked.shared.world(|w| {
        enter(w)?;
        let here = Origin::of(w, &asked.at).ok_or_else(Failure::no_such_host)?;
        may_go(&origin, &here)?;
        let holder = w.holder(&asked.at).ok_or_else(Failure::no_such_host)?;
        room(asked, holder, &key.name)?;
        if holder.keys.contains_key(&key.name.to_lowercase()) {
            let text = format!("A key with name {} exists already; a backup cannot be restored over it.", key.name);
            return Err(Failure::new(409, "Conflict", text));
        }
        let hsm_backed = key.versions.iter().any(|v| v.material.kty().ends_with("-HSM"));
        if holder.zone == Zone::Vault && hsm_backed && holder.sku != "premium" {
            return Err(bad("A key that is protected by an HSM cannot be restored to a vault of the standard tier."));
        }
        key.visible_from = Some(asked.call.now);
        let answer = key.latest().bundle(&key.name, holder, &asked.shared.addresses);
        let holder = w.holder_mut(&asked.at).ok_or_else(Failure::no_such_host)?;
        holder.keys.insert(key.name.to_lowercase(), key);
        asked.call.touch();
        Ok(Reply::ok(answer))
    })
}

fn may_go(from: &Origin, to: &Origin) -> Result<(), Failure> {
    let why = match (from, to) {
        _ if from == to => return Ok(()),
        _ if from.zone != to.zone => {
            "A backup of a vault's key cannot be restored to a managed HSM, nor the other way."
        }
        _ if from.tenant != to.tenant || from.subscription != to.subscription => {
            "The backup was made in another subscription."
        }
        _ if from.zone == Zone::Hsm => "The backup was made in a managed HSM with another security domain.",
        _ => "The backup was made in another geography.",
    };
    Err(bad(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_in_their_geographies() {
        for (one, other, same) in [
            ("uksouth", "ukwest", true),
            ("UK South", "ukwest", true),
            ("northeurope", "westeurope", true),
            ("eastus2", "southcentralus", true),
            ("uksouth", "westeurope", false),
            ("eastus", "eastasia", false),
            ("southeastasia", "eastasia", true),
        ] {
            assert_eq!(geography(one) == geography(other), same, "{one}, {other}");
        }
    }

    #[test]
    fn another_cloud_and_any_changed_byte_open_nothing() {
        let key = BackupKey::default();
        let sealed = key.seal(b"plain".to_vec()).expect("seals");
        assert_eq!(key.open(&sealed).as_deref(), Some(&b"plain"[..]));
        assert_eq!(BackupKey::default().open(&sealed), None);
        for i in 0..sealed.len() {
            let mut spoiled = sealed.clone();
            spoiled[i] ^= 1;
            assert_eq!(key.open(&spoiled), None, "{i}");
            assert_eq!(key.open(&sealed[..i]), None, "{i}");
        }
    }
}
