//! Keys of a vault or managed HSM, on Microsoft's own `azure_security_keyvault_keys`.
//!
//! What belongs here: one function per call of the data plane that the steps need. What does not: vaults themselves
//! (`vaults`), and any cryptography with keys.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::context::CallContext;
use super::error::AzureError;
use crate::domain::ids::KeyId;

/// The clients of all stores in use: one per store, kept, because a client's first call is spent on the challenge.
#[derive(Clone, Debug)]
pub struct Keys {}

/// A key's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA in software.
    Rsa,
    /// RSA in an HSM.
    RsaHsm,
    /// Elliptic curve in software.
    Ec,
    /// Elliptic curve in an HSM.
    EcHsm,
    /// Symmetric in software.
    Oct,
    /// Symmetric in an HSM.
    OctHsm,
    /// A type this version does not know.
    Other(String),
}

/// What a key may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOperation {
    /// Wrap another key.
    WrapKey,
    /// Unwrap another key.
    UnwrapKey,
    /// Encrypt.
    Encrypt,
    /// Decrypt.
    Decrypt,
    /// Sign.
    Sign,
    /// Verify.
    Verify,
    /// An operation this version does not know.
    Other(String),
}

/// A key version as the store answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyInfo {
    /// Store, name and version.
    pub id: KeyId,
    /// Its type.
    pub kty: KeyType,
    /// Size of an RSA key in bits, from its modulus.
    pub size_bits: Option<u32>,
    /// Curve of an EC key, in Azure's spelling: `P-256`, …
    pub curve: Option<String>,
    /// What it may be used for.
    pub operations: Vec<KeyOperation>,
    /// Whether it may be used at all.
    pub enabled: bool,
    /// When it stops to encrypt.
    pub expires: Option<OffsetDateTime>,
    /// When it starts to encrypt.
    pub not_before: Option<OffsetDateTime>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Azure's request id of the answer.
    pub request_id: Option<String>,
}

/// A key to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySpec {
    /// Its type.
    pub kty: KeyType,
    /// RSA: size in bits.
    pub size_bits: Option<u32>,
    /// EC: curve in Azure's spelling.
    pub curve: Option<String>,
    /// What it may be used for.
    pub operations: Vec<KeyOperation>,
    /// When it stops to encrypt.
    pub expires: Option<OffsetDateTime>,
    /// When it starts to encrypt.
    pub not_before: Option<OffsetDateTime>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A deleted key that still holds its name.
#[derive(Clone, Debug, PartialEq)]
pub struct DeletedKey {
    /// Where it can be recovered.
    pub recovery_id: Option<String>,
    /// When Azure purges it.
    pub scheduled_purge: Option<OffsetDateTime>,
}

/// When a key gets new versions. Durations are ISO 8601, as Azure spells them: `P18M`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationPolicy {
    /// Rotate this long after a version's creation.
    pub rotate_after_create: Option<String>,
    /// Rotate this long before a version expires.
    pub rotate_before_expiry: Option<String>,
    /// Tell Event Grid this long before a version expires.
    pub notify_before_expiry: Option<String>,
    /// How long a new version lives.
    pub expire_after: Option<String>,
}

impl Keys {
    /// Reads a key: the given version or the latest.
    pub async fn get(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Option<KeyInfo>, AzureError> {
        todo!()
    }

    /// Looks for a deleted key of this name.
    pub async fn get_deleted(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
    ) -> Result<Option<DeletedKey>, AzureError> {
        todo!()
    }

    /// Creates a key. On an existing name this makes a new version: look first. `SoftDeleted` if a deleted key holds the name.
    pub async fn create(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
        spec: &KeySpec,
    ) -> Result<KeyInfo, AzureError> {
        todo!()
    }

    /// Reads a key's rotation policy; `None` if the key or its policy does not exist.
    pub async fn rotation_policy(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
    ) -> Result<Option<RotationPolicy>, AzureError> {
        todo!()
    }

    /// Replaces a key's rotation policy.
    pub async fn set_rotation_policy(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
        policy: &RotationPolicy,
    ) -> Result<RotationPolicy, AzureError> {
        todo!()
    }
}
