//! Which key a service is told to use and on what terms, and the reasons for which it cannot. Values only.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// By which pair of operations a service protects its data key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ops {
    /// `wrapKey` and `unwrapKey`: nearly all services.
    #[default]
    Wrap,
    /// `encrypt` and `decrypt`: Azure NetApp Files, the KMS of AKS.
    Encrypt,
}

/// An operation on a key as a service asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verb {
    /// Behind `Microsoft.KeyVault/vaults/keys/`.
    pub action: &'static str,
    /// In `key_ops` and in access policies.
    pub word: &'static str,
}

pub(crate) const READ: Verb = Verb { action: "read", word: "get" };

impl Ops {
    /// What puts a data key under the customer's key.
    pub fn protect(self) -> Verb {
        match self {
            Self::Wrap => Verb { action: "wrap/action", word: "wrapKey" },
            Self::Encrypt => Verb { action: "encrypt/action", word: "encrypt" },
        }
    }

    /// What gets it out again.
    pub fn recover(self) -> Verb {
        match self {
            Self::Wrap => Verb { action: "unwrap/action", word: "unwrapKey" },
            Self::Encrypt => Verb { action: "decrypt/action", word: "decrypt" },
        }
    }
}

/// Which key a service is told to use, as whom it looks, and what it asks of the key beyond what all services do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyUse {
    /// Object id of the identity's principal.
    pub principal: String,
    /// Of a vault or of a managed HSM.
    pub vault_uri: String,
    pub key: String,
    /// Empty: the latest, followed once a day.
    pub version: String,
    pub ops: Ops,
    /// Whether the service takes keys of a managed HSM.
    pub hsm: bool,
    /// Bits of RSA keys that the service takes; empty takes all.
    pub sizes: Cow<'static, [u32]>,
    /// Whether the service refuses a key that has an expiry date.
    pub needs_no_expiry: bool,
    /// The region in which the vault must be, canonical; `None` takes any.
    pub region: Option<String>,
    /// Least days of soft-delete retention that the vault must have; `None` takes any.
    pub retention_days: Option<i64>,
    /// For a service that is none of those which Key Vault trusts: its public addresses, of which the vault's firewall must
    /// admit one. Empty: a trusted service.
    #[serde(default)]
    pub comes_from: Cow<'static, [IpAddr]>,
}

impl KeyUse {
    /// The common case: wrap and unwrap, any size, vault or HSM, any region.
    pub fn new(
        principal: impl Into<String>,
        vault_uri: impl Into<String>,
        key: impl Into<String>,
        version: impl Into<String>,
    ) -> Self {
        Self {
            principal: principal.into(),
            vault_uri: vault_uri.into(),
            key: key.into(),
            version: version.into(),
            ops: Ops::Wrap,
            hsm: true,
            sizes: Cow::Borrowed(&[]),
            needs_no_expiry: false,
            region: None,
            retention_days: None,
            comes_from: Cow::Borrowed(&[]),
        }
    }
}

/// Why a service cannot use the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// The URI does not name a vault or an HSM of this cloud.
    BadUri,
    /// The service takes no keys of a managed HSM.
    HsmNotTaken,
    /// There is no such vault, or it is deleted.
    VaultMissing,
    /// Soft delete or purge protection is missing.
    NotProtected,
    /// The vault keeps deleted keys for a shorter time than the service asks.
    ShortRetention,
    /// The vault is in another region than the service asks.
    OtherRegion,
    /// The vault's firewall does not let trusted services in, or not one that is none.
    Firewall,
    /// The identity's principal does not exist (any more): the service gets no token.
    IdentityGone,
    /// The identity has no right to read, wrap and unwrap, or its grant has not arrived.
    NoAccess,
    /// No such key or version, or it is deleted.
    KeyMissing,
    KeyDisabled,
    KeyNotYetValid,
    KeyExpired,
    /// The service refuses keys with an expiry date, and this one has one.
    HasExpiry,
    /// Not RSA, or without the service's operations among its own, or not the key that wrapped the data key.
    WrongKey,
    /// The service does not take keys of this size.
    WrongSize,
}
