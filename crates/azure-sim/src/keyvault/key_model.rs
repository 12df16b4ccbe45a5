//! A key as it is stored, live and deleted, and the shapes in which the data plane shows it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::keyvault::crypto::Material;
use crate::keyvault::holder::{Holder, Zone};
use crate::options::Addresses;
use crate::propagation::Due;

/// A key with all its versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Key {
    pub name: String,
    /// In the order of their creation; never empty.
    pub versions: Vec<Version>,
    pub rotation: Option<Rotation>,
    /// After a recovery: from when reads show it again.
    pub visible_from: Due,
}

/// One version of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Version {
    /// 32 lower-case hex digits.
    pub id: String,
    #[serde(with = "crate::keyvault::stored")]
    pub material: Arc<Material>,
    pub ops: Vec<String>,
    pub enabled: bool,
    pub nbf: Option<i64>,
    pub exp: Option<i64>,
    pub created: i64,
    pub updated: i64,
    pub tags: Map<String, Value>,
}

/// A key's rotation policy, checked and in normal form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    pub actions: Value,
    pub expiry: Option<String>,
    pub created: i64,
    pub updated: i64,
}

/// A soft-deleted key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeletedKey {
    pub key: Key,
    pub deleted: OffsetDateTime,
    pub purge_at: OffsetDateTime,
    /// From when `deletedkeys` shows it.
    pub visible_from: Due,
}

impl Key {
    pub fn latest(&self) -> &Version {
        self.versions.last().expect("a key has at least one version")
    }

    /// The version of this id, or the latest for an empty one.
    pub fn version(&self, id: &str) -> Option<&Version> {
        if id.is_empty() {
            return Some(self.latest());
        }
        self.versions.iter().find(|v| v.id.eq_ignore_ascii_case(id))
    }

    pub fn version_mut(&mut self, id: &str) -> Option<&mut Version> {
        if id.is_empty() {
            return self.versions.last_mut();
        }
        self.versions.iter_mut().find(|v| v.id.eq_ignore_ascii_case(id))
    }
}

/// Why a version may not be used for an operation now.
#[derive(Debug, PartialEq)]
pub(crate) enum Unusable {
    Disabled,
    NotYetValid,
    Expired,
    OperationNotInKey,
}

impl Version {
    /// Whether the operation is possible now. A disabled key does nothing; outside of its dates a key still undoes what
    /// it did: decrypt, unwrap and verify go on.
    pub fn usable(&self, op: &str, now: OffsetDateTime) -> Result<(), Unusable> {
        if !self.enabled {
            return Err(Unusable::Disabled);
        }
        let undoes = matches!(op, "decrypt" | "unwrapKey" | "verify");
        let now = now.unix_timestamp();
        if !undoes && self.nbf.is_some_and(|at| now < at) {
            return Err(Unusable::NotYetValid);
        }
        if !undoes && self.exp.is_some_and(|at| now >= at) {
            return Err(Unusable::Expired);
        }
        if !self.ops.iter().any(|o| o == op) {
            return Err(Unusable::OperationNotInKey);
        }
        Ok(())
    }

    fn attributes(&self, vault: &Holder) -> Value {
        let mut out = Map::new();
        out.insert("enabled".into(), self.enabled.into());
        if let Some(nbf) = self.nbf {
            out.insert("nbf".into(), nbf.into());
        }
        if let Some(exp) = self.exp {
            out.insert("exp".into(), exp.into());
        }
        out.insert("created".into(), self.created.into());
        out.insert("updated".into(), self.updated.into());
        out.insert("recoveryLevel".into(), vault.recovery_level().into());
        out.insert("recoverableDays".into(), vault.retention_days.into());
        out.insert("exportable".into(), false.into());
        // The figure of managed HSMs is UNVERIFIED.
        let platform = if vault.zone == Zone::Hsm { "2" } else { "0" };
        out.insert("hsmPlatform".into(), platform.into());
        Value::Object(out)
    }

    /// The KeyBundle.
    pub fn bundle(&self, name: &str, vault: &Holder, addresses: &Addresses) -> Value {
        let mut key = Map::new();
        key.insert("kid".into(), kid(vault, addresses, name, &self.id).into());
        key.insert("kty".into(), self.material.kty().into());
        key.insert("key_ops".into(), json!(self.ops));
        self.material.public_members(&mut key);
        let mut body = json!({ "key": key, "attributes": self.attributes(vault) });
        if !self.tags.is_empty() {
            body["tags"] = Value::Object(self.tags.clone());
        }
        body
    }

    /// The row in a list; `version` is left out in lists of keys.
    pub fn item(&self, name: &str, vault: &Holder, addresses: &Addresses, with_version: bool) -> Value {
        let version = if with_version { self.id.as_str() } else { "" };
        let mut body = json!({
            "kid": kid(vault, addresses, name, version),
            "attributes": self.attributes(vault),
        });
        if !self.tags.is_empty() {
            body["tags"] = Value::Object(self.tags.clone());
        }
        body
    }
}

impl DeletedKey {
    /// Adds what deletion adds to a bundle or a row.
    pub fn mark(&self, mut body: Value, vault: &Holder, addresses: &Addresses) -> Value {
        body["recoveryId"] = format!("{}deletedkeys/{}", vault.uri(addresses), self.key.name).into();
        body["deletedDate"] = self.deleted.unix_timestamp().into();
        body["scheduledPurgeDate"] = self.purge_at.unix_timestamp().into();
        body
    }
}

/// The key identifier; without a version when that is empty.
pub(crate) fn kid(vault: &Holder, addresses: &Addresses, name: &str, version: &str) -> String {
    let base = format!("{}keys/{name}", vault.uri(addresses));
    if version.is_empty() { base } else { format!("{base}/{version}") }
}
