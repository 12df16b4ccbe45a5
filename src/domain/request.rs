//! The validated request: what a caller asked for, with every default filled in.
//!
//! What belongs here: the types of a request and how they are written as JSON, which is also how they are stored. What
//! does not: reading a caller's body (`request_parse`) and the rules of single services (`services`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::duration::IsoDuration;
use super::ids::ArmId;
use super::job::JobKind;

/// A provisioning request: only `target` and `keyStore` are required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CmkRequest {
    /// What to do.
    #[schema(required = false, default = "provision")]
    pub kind: JobKind,
    /// The Azure resource that is to use the key.
    pub target: Target,
    /// Where the key lives.
    pub key_store: KeyStore,
    /// The key. Default: an RSA key named after the target.
    #[schema(required = false)]
    pub key: Key,
    /// The identity the target uses to reach the key. Default: a user-assigned one named after the target, created
    /// where it is missing.
    #[schema(required = false)]
    pub identity: Identity,
    /// Whether a missing resource group of something that is to be created is created in that thing's location.
    #[schema(required = false, default = false)]
    pub create_resource_groups: bool,
    /// How long to wait for Azure to honour the role assignments once they exist.
    #[schema(required = false, value_type = String, format = "duration", default = "PT20M")]
    pub access_timeout: IsoDuration,
    /// Irreversible changes that the caller accepts.
    #[schema(required = false, max_items = 8)]
    pub acknowledge: Vec<Acknowledgement>,
    /// The caller's own words for finding the job again: at most 20, keys up to 63 characters, values up to 255.
    #[schema(required = false)]
    pub labels: BTreeMap<String, String>,
}

/// The Azure resource that is to use the key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// Its ARM resource id.
    #[schema(value_type = String, max_length = 2048)]
    pub resource_id: ArmId,
    /// The service that is to take the key, by its name in this API. Default: the one of the resource's type; required where
    /// several services share the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, example = "storage-account")]
    pub service: Option<String>,
    /// How to create it with the key in its first PUT; with the identity kind `systemAssigned`, most services are given the key
    /// in a second one. Absent: it must exist and is changed in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<TargetCreate>,
}

/// How to create the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetCreate {
    /// The Azure region.
    #[schema(max_length = 64)]
    pub location: String,
    /// The SKU's name. Default: the service's, see `GET /v1/services`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The kind, for services that have kinds. Default: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Tags of the resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    pub tags: BTreeMap<String, String>,
    /// Further properties of the resource, as its ARM type has them; the ones about encryption and identity are not
    /// allowed here.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object, required = false)]
    pub properties: Map<String, Value>,
}

/// Where the key lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyStore {
    /// The ARM resource id of a Key Vault or a Managed HSM.
    #[schema(value_type = String, max_length = 2048)]
    pub resource_id: ArmId,
    /// How to create it. Absent: it must exist; its settings are checked before the first write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<KeyStoreCreate>,
    /// What to do when a soft-deleted vault holds the name.
    #[serde(default)]
    #[schema(required = false)]
    pub on_deleted_name: OnDeletedName,
    /// Whether the worker may give itself the role that it needs to make keys, where it has none. Forbidden, it must have one.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schema(required = false, default = true)]
    pub grant_own_access: bool,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_yes(value: &bool) -> bool {
    *value
}

/// What to do when a soft-deleted vault holds the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDeletedName {
    /// Fail and say so.
    #[default]
    Fail,
    /// Recover the vault with its keys. Its role assignments are gone and are made again.
    Recover,
}

/// How to create a Key Vault: always with RBAC, soft delete and purge protection, and closed by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyStoreCreate {
    /// The Azure region.
    #[schema(max_length = 64)]
    pub location: String,
    /// `premium` keeps keys in hardware.
    #[serde(default)]
    #[schema(required = false)]
    pub sku: VaultSku,
    /// Days that deleted keys are kept: 7 to 90. Cannot be changed later.
    #[schema(required = false, minimum = 7, maximum = 90, default = 90)]
    pub soft_delete_retention_days: u8,
    /// The firewall.
    #[serde(default)]
    #[schema(required = false)]
    pub network: Network,
    /// Tags of the vault.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    pub tags: BTreeMap<String, String>,
}

/// A vault's SKU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum VaultSku {
    /// Software-protected keys.
    #[default]
    Standard,
    /// Keys can also live in hardware security modules.
    Premium,
}

/// A vault's firewall: everything not listed is denied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// Public IPv4 addresses or CIDR ranges that may reach the vault; the worker's own must be among them.
    #[schema(required = false, max_items = 1000, value_type = Vec<String>)]
    pub allowed_ips: Vec<ipnet::Ipv4Net>,
    /// Subnets that may reach the vault; each needs the service endpoint `Microsoft.KeyVault`.
    #[schema(required = false, max_items = 200, value_type = Vec<String>)]
    pub allowed_subnets: Vec<ArmId>,
    /// Whether trusted Microsoft services pass. Without it most targets cannot reach their key.
    #[schema(required = false, default = true)]
    pub bypass_trusted_services: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self { allowed_ips: Vec::new(), allowed_subnets: Vec::new(), bypass_trusted_services: true }
    }
}

/// The key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Key {
    /// Its name: 1 to 127 letters, digits and hyphens. Default: the target's name and `-cmk`.
    #[schema(required = false, pattern = "^[0-9A-Za-z-]{1,127}$")]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    #[schema(required = false)]
    pub key_type: KeyType,
    /// Bits of an RSA key: 2048, 3072 or 4096.
    #[schema(required = false, minimum = 2048, maximum = 4096, multiple_of = 1024, default = 4096)]
    pub size: u16,
    /// What the key may be used for.
    #[schema(required = false, max_items = 6)]
    pub operations: Vec<KeyOperation>,
    /// Whether the target follows new versions of the key.
    #[serde(default)]
    #[schema(required = false)]
    pub version: KeyVersion,
    /// The exact version to pin, which must exist; only with `version` as `pinned`, which it implies. No key is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9A-Fa-f]{32}$")]
    pub version_id: Option<String>,
    /// How long after its creation a key expires: the one that is created, and with `rotation` each later version too. At
    /// least 28 days. Absent: never. A key that exists keeps the date it has, and must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "duration")]
    pub expires_after: Option<IsoDuration>,
    /// How often Key Vault makes a new version by itself. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// A key's type, in JSON Web Key words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum KeyType {
    /// RSA, software-protected.
    #[default]
    #[serde(rename = "RSA")]
    Rsa,
    /// RSA in a hardware security module.
    #[serde(rename = "RSA-HSM")]
    RsaHsm,
    /// Elliptic curve, software-protected.
    #[serde(rename = "EC")]
    Ec,
    /// Elliptic curve in a hardware security module.
    #[serde(rename = "EC-HSM")]
    EcHsm,
}

impl KeyType {
    /// Every type with its wire form.
    pub const WORDS: &[(&str, Self)] =
        &[("RSA", Self::Rsa), ("RSA-HSM", Self::RsaHsm), ("EC", Self::Ec), ("EC-HSM", Self::EcHsm)];

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::RsaHsm => "RSA-HSM",
            Self::Ec => "EC",
            Self::EcHsm => "EC-HSM",
        }
    }

    /// Whether the key lives in a hardware security module.
    pub const fn is_hsm(self) -> bool {
        matches!(self, Self::RsaHsm | Self::EcHsm)
    }
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum KeyOperation {
    /// Decrypt data.
    Decrypt,
    /// Encrypt data.
    Encrypt,
    /// Sign a digest.
    Sign,
    /// Unwrap a key.
    UnwrapKey,
    /// Verify a signature.
    Verify,
    /// Wrap a key.
    WrapKey,
}

impl KeyOperation {
    /// Every operation with its wire form.
    pub const WORDS: &[(&str, Self)] = &[
        ("decrypt", Self::Decrypt),
        ("encrypt", Self::Encrypt),
        ("sign", Self::Sign),
        ("unwrapKey", Self::UnwrapKey),
        ("verify", Self::Verify),
        ("wrapKey", Self::WrapKey),
    ];

    /// The wire form.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, op)| *op == self).map_or("", |(word, _)| word)
    }

    /// Every operation: what the seed pattern asks for.
    pub fn all() -> Vec<Self> {
        Self::WORDS.iter().map(|(_, op)| *op).collect()
    }
}

/// Whether the target follows new versions of the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum KeyVersion {
    /// A reference without a version: the service follows rotation, where it can.
    #[default]
    Latest,
    /// The version that is current when the job runs, or the one that `versionId` names.
    Pinned,
}

/// How often Key Vault makes a new version of the key by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// The time after which a version is followed by a new one; at least seven days, in a Managed HSM 28, and seven days
    /// less than `expiresAfter`.
    #[schema(value_type = String, format = "duration")]
    pub every: IsoDuration,
    /// How long before a version expires Key Vault tells Event Grid so; only with `expiresAfter`. Absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "duration")]
    pub notify_before_expiry: Option<IsoDuration>,
}

/// The identity that the target uses to reach its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// What kind of identity.
    #[serde(default)]
    #[schema(required = false)]
    pub kind: IdentityKind,
    /// The user-assigned identity's ARM resource id; required for that kind and not allowed for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub resource_id: Option<ArmId>,
    /// How to create it. Absent: it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<IdentityCreate>,
}

/// Kinds of identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum IdentityKind {
    /// A managed identity that is a resource of its own.
    #[default]
    UserAssigned,
    /// The target's own managed identity, or one that its service makes for it.
    SystemAssigned,
    /// The Azure service's own first-party principal, for services that use one.
    Platform,
}

/// How to create a user-assigned identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityCreate {
    /// The Azure region. Default: the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// An irreversible change that the caller accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledgement {
    /// Turn on purge protection of an existing vault or Managed HSM. Azure cannot turn it off again.
    EnablePurgeProtection,
}

impl CmkRequest {
    /// Whether the caller accepted this irreversible change.
    pub fn acknowledges(&self, what: Acknowledgement) -> bool {
        self.acknowledge.contains(&what)
    }

    /// Whether the key store is a Managed HSM.
    pub fn uses_managed_hsm(&self) -> bool {
        self.key_store.resource_id.is_type(MANAGED_HSM_TYPE)
    }
}

/// The ARM type of a Key Vault.
pub const VAULT_TYPE: &str = "Microsoft.KeyVault/vaults";
/// The ARM type of a Managed HSM.
pub const MANAGED_HSM_TYPE: &str = "Microsoft.KeyVault/managedHSMs";
/// The ARM type of a user-assigned identity.
pub const IDENTITY_TYPE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
/// The ARM type of a subnet.
pub const SUBNET_TYPE: &str = "Microsoft.Network/virtualNetworks/subnets";
