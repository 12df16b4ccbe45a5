//! What a step is to make true: the stored, immutable part of a plan.
//!
//! What belongs here: one variant per step kind with everything it needs from the request. New code must read old
//! specs, so members are only added, with a default. What does not: how a step does it, and what earlier steps learned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::duration::IsoDuration;
use crate::domain::ids::ArmId;
use crate::domain::request::{
    Identity, IdentityKind, KeyOperation, KeyStoreCreate, KeyType, KeyVersion, OnDeletedName, Rotation, TargetCreate,
};
use crate::services::Role;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// A step's task, written as JSON tagged with its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StepSpec {
    /// The target exists, or does not, as the request says.
    CheckTarget(CheckTarget),
    /// The resource groups of what is to be created exist.
    EnsureResourceGroups(EnsureResourceGroups),
    /// The key store exists with every protection that a customer-managed key needs.
    EnsureKeyStore(EnsureKeyStore),
    /// The user-assigned identity exists.
    EnsureIdentity(EnsureIdentity),
    /// The principal of the Azure service itself is known.
    FindPlatformPrincipal(FindPlatformPrincipal),
    /// The service itself may create and read keys in the store.
    GrantOwnAccess(GrantAccess),
    /// The identity may use keys of the store.
    GrantIdentityAccess(GrantAccess),
    /// The store honours the service's own grant.
    AwaitKeyStoreAccess(AwaitKeyStoreAccess),
    /// The key exists, once, and fits.
    EnsureKey(EnsureKey),
    /// The target has the identity, beside those it has already.
    AttachIdentity(AttachIdentity),
    /// The target uses the key.
    ConfigureService(ConfigureService),
    /// Everything is read again and the target reports the key in use.
    Verify(Verify),
}

/// See [`StepSpec::CheckTarget`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckTarget {
    /// The descriptor's slug.
    pub service: String,
    /// The target.
    pub target: ArmId,
    /// The region to create it in; absent where it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_in: Option<String>,
    /// What makes an existing target "already under this key", so that repeating a creation is harmless.
    pub store: ArmId,
    /// The key's name.
    pub key_name: String,
    /// The identity that is to be used, where the target may not have any number of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// See [`StepSpec::EnsureResourceGroups`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnsureResourceGroups {
    /// The groups, each once.
    pub groups: Vec<GroupSpec>,
    /// Whether a missing one is created.
    pub create: bool,
}

/// A resource group that something is to be created in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupSpec {
    /// Its subscription.
    pub subscription: Uuid,
    /// Its name.
    pub name: String,
    /// The region to create it in; absent: the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// See [`StepSpec::EnsureKeyStore`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnsureKeyStore {
    /// The vault.
    pub store: ArmId,
    /// How to create it; absent where it must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<KeyStoreCreate>,
    /// What to do when a soft-deleted vault holds the name.
    #[serde(default)]
    pub on_deleted_name: OnDeletedName,
    /// Whether the caller accepted turning on purge protection of an existing vault.
    #[serde(default)]
    pub may_enable_purge_protection: bool,
    /// Whether trusted Microsoft services must pass the firewall.
    #[serde(default)]
    pub needs_trusted_bypass: bool,
    /// Whether it must be in the target's region.
    #[serde(default)]
    pub same_region: bool,
    /// What else the service asks of it.
    #[serde(default, skip_serializing_if = "StoreDemands::is_none")]
    pub demands: StoreDemands,
}

/// What some services ask of a key store beside the protections that every key needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoreDemands {
    /// The least days for which it has to keep what is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u8>,
    /// Whether it has to have a private endpoint.
    #[serde(skip_serializing_if = "is_false")]
    pub private_endpoint: bool,
    /// Whether it may not have a firewall.
    #[serde(skip_serializing_if = "is_false")]
    pub no_firewall: bool,
    /// Whether a firewall has to list addresses: the service comes from some of its own.
    #[serde(skip_serializing_if = "is_false")]
    pub listed_addresses: bool,
}

impl StoreDemands {
    /// Whether nothing is asked.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// See [`StepSpec::EnsureIdentity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnsureIdentity {
    /// The identity.
    pub identity: ArmId,
    /// Whether a missing one is created.
    pub create: bool,
    /// The region to create it in; absent: the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// See [`StepSpec::FindPlatformPrincipal`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindPlatformPrincipal {
    /// The application's name.
    pub name: String,
    /// The application's id.
    pub app_id: Uuid,
    /// The application's id in Azure Government, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id_us_government: Option<Uuid>,
}

/// See [`StepSpec::GrantOwnAccess`] and [`StepSpec::GrantIdentityAccess`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantAccess {
    /// The key store: the scope of the assignment.
    pub store: ArmId,
    /// The role.
    pub role: Role,
    /// Roles that hold every right of `role`, so that having one of them is enough.
    #[serde(default)]
    pub or_roles: Vec<Role>,
    /// Whether nothing may be granted: the role must be held already.
    #[serde(default)]
    pub only_look: bool,
    /// The scope of a local role, for a Managed HSM: `/keys`, or `/keys/{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_scope: Option<String>,
}

/// See [`StepSpec::AwaitKeyStoreAccess`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AwaitKeyStoreAccess {
    /// The key store.
    pub store: ArmId,
    /// The key to look for; whether it exists does not matter.
    pub key_name: String,
    /// How long "forbidden" means "not yet" after the grants.
    pub access_timeout: IsoDuration,
}

/// See [`StepSpec::EnsureKey`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnsureKey {
    /// The key store.
    pub store: ArmId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub key_type: KeyType,
    /// Its size in bits, for RSA.
    pub size: u16,
    /// What it must be usable for.
    pub operations: Vec<KeyOperation>,
    /// The exact version, which must exist; absent: the latest, and a missing key is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long after its creation a created key expires, and later versions too where a rotation policy is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<IsoDuration>,
    /// Whether the service takes keys without an expiration date only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never_expires: bool,
    /// The rotation policy it must have; absent: left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// How long "forbidden" means "not yet" after the grants: access can flap while it spreads.
    pub access_timeout: IsoDuration,
    /// Tags for a created key.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// See [`StepSpec::AttachIdentity`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachIdentity {
    /// The descriptor's slug.
    pub service: String,
    /// The target.
    pub target: ArmId,
    /// The kind of identity.
    pub identity_kind: IdentityKind,
    /// How to create the target with the identity and without the key; absent: it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateWithoutKey>,
}

/// A target that is created before it gets its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateWithoutKey {
    /// What it is to be.
    pub target: TargetCreate,
    /// The key store of the key by which a target that exists counts as made by an earlier run of the request.
    pub store: ArmId,
    /// That key's name.
    pub key_name: String,
}

/// See [`StepSpec::ConfigureService`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigureService {
    /// The descriptor's slug.
    pub service: String,
    /// The target.
    pub target: ArmId,
    /// How to create it with the key; absent: it exists and is changed in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<TargetCreate>,
    /// Whether an earlier step of this plan creates it, without the key.
    #[serde(default, skip_serializing_if = "is_false")]
    pub created_before: bool,
    /// The kind of identity to use for the key.
    pub identity_kind: IdentityKind,
    /// Whether the target follows new versions.
    pub version: KeyVersion,
    /// How long a refusal because of the key means "not yet" after the grants.
    pub access_timeout: IsoDuration,
    /// The key store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<ArmId>,
}

/// See [`StepSpec::Verify`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// The descriptor's slug.
    pub service: String,
    /// The target.
    pub target: ArmId,
    /// The key store.
    pub store: ArmId,
    /// The kind of identity that must be in use.
    pub identity_kind: IdentityKind,
    /// Whether the target must follow new versions.
    pub version: KeyVersion,
    /// The identity's role that must still be there.
    pub role: Role,
    /// The scope of that role, for a Managed HSM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_scope: Option<String>,
}

impl StepSpec {
    /// Every kind's wire form, which is also the step's name in a plan.
    pub const KINDS: &[&str] = &[
        "check-target",
        "ensure-resource-groups",
        "ensure-key-store",
        "ensure-identity",
        "grant-own-access",
        "grant-identity-access",
        "await-key-store-access",
        "ensure-key",
        "attach-identity",
        "configure-service",
        "verify",
        "find-platform-principal",
    ];

    /// The kind's wire form.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::CheckTarget(_) => "check-target",
            Self::EnsureResourceGroups(_) => "ensure-resource-groups",
            Self::EnsureKeyStore(_) => "ensure-key-store",
            Self::EnsureIdentity(_) => "ensure-identity",
            Self::GrantOwnAccess(_) => "grant-own-access",
            Self::GrantIdentityAccess(_) => "grant-identity-access",
            Self::AwaitKeyStoreAccess(_) => "await-key-store-access",
            Self::EnsureKey(_) => "ensure-key",
            Self::AttachIdentity(_) => "attach-identity",
            Self::ConfigureService(_) => "configure-service",
            Self::Verify(_) => "verify",
            Self::FindPlatformPrincipal(_) => "find-platform-principal",
        }
    }
}
