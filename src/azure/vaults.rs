//! Key vaults (`Microsoft.KeyVault/vaults`, api-version [`API_VERSION`]).

use std::collections::BTreeMap;

use ipnet::IpNet;
use time::OffsetDateTime;
use uuid::Uuid;

use super::arm::Arm;
use super::context::CallContext;
use super::error::AzureError;
use crate::domain::ids::ArmId;

/// The ARM type.
pub const TYPE: &str = "Microsoft.KeyVault/vaults";
/// The API version spoken here.
pub const API_VERSION: &str = "2026-02-01";

/// A vault as Azure answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    /// Base URI of the data plane without a trailing slash; checked to be one of the configured cloud's.
    pub uri: String,
    /// Its region, as Azure spells it.
    pub location: String,
    /// The tenant that it trusts.
    pub tenant_id: Uuid,
    /// Its tier.
    pub sku: VaultSku,
    /// Whether Azure RBAC decides on access, rather than access policies.
    pub rbac: bool,
    /// Whether deleted objects are kept. Absent in the answer means yes: it cannot be off for vaults made since 2020.
    pub soft_delete: bool,
    /// Whether nobody can purge before the retention has passed.
    pub purge_protection: bool,
    /// Days a deleted object is kept.
    pub retention_days: u16,
    /// The firewall.
    pub network: NetworkAcls,
    /// Whether the vault can be reached from public addresses at all.
    pub public_access: PublicAccess,
    /// `Succeeded`, `RegisteringDns`, …
    pub provisioning_state: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Azure's request id of the answer.
    pub request_id: Option<String>,
}

/// A vault's tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultSku {
    /// Software-protected keys.
    Standard,
    /// HSM-protected keys too.
    Premium,
}

/// A vault's `publicNetworkAccess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicAccess {
    /// The firewall's rules decide.
    Enabled,
    /// Only private endpoints and, with the bypass, trusted services.
    Disabled,
    /// A network security perimeter decides; it overrides the bypass too.
    SecuredByPerimeter,
}

/// A vault's firewall. Absent in an answer means that everybody may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAcls {
    /// Whether an address that no rule names may connect.
    pub default_allow: bool,
    /// Whether trusted Azure services pass regardless of the rules (`bypass: AzureServices`).
    pub bypass_trusted: bool,
    /// Networks that may connect. Azure answers a single address as `/32`; compare as networks.
    pub ip_rules: Vec<IpNet>,
    /// Ids of subnets that may connect, as Azure spells them.
    pub subnets: Vec<String>,
}

/// A vault to be created: always with RBAC, soft delete and purge protection.
#[derive(Clone, Debug, PartialEq)]
pub struct VaultSpec {
    /// Its region.
    pub location: String,
    /// The subscription's tenant.
    pub tenant_id: Uuid,
    /// Its tier.
    pub sku: VaultSku,
    /// Days a deleted object is kept: 7 to 90, never changeable.
    pub retention_days: u16,
    /// The firewall; `None` leaves it open.
    pub network: Option<NetworkAcls>,
    /// Whether the vault can be reached from public addresses at all.
    pub public_access: bool,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A deleted vault that still holds its name.
#[derive(Clone, Debug, PartialEq)]
pub struct DeletedVault {
    /// The id the vault had, and will have again when recovered.
    pub vault_id: String,
    /// Its region.
    pub location: String,
    /// Whether nobody can purge it before its date.
    pub purge_protection: bool,
    /// When Azure purges it.
    pub scheduled_purge: Option<OffsetDateTime>,
}

/// Reads a vault.
pub async fn get(arm: &Arm, cx: &CallContext, id: &ArmId) -> Result<Option<Vault>, AzureError> {
    todo!()
}

/// Looks for a deleted vault of this name. Needs `Microsoft.KeyVault/locations/deletedVaults/read` on the subscription,
/// otherwise `Forbidden`.
pub async fn get_deleted(
    arm: &Arm,
    cx: &CallContext,
    subscription: Uuid,
    location: &str,
    name: &str,
) -> Result<Option<DeletedVault>, AzureError> {
    todo!()
}

/// Creates a vault. `SoftDeleted` if a deleted one holds the name, `NameTaken` if somebody else's does.
pub async fn create(arm: &Arm, cx: &CallContext, id: &ArmId, spec: &VaultSpec) -> Result<Vault, AzureError> {
    todo!()
}

/// Turns purge protection on. It cannot be turned off again.
pub async fn enable_purge_protection(arm: &Arm, cx: &CallContext, id: &ArmId) -> Result<Vault, AzureError> {
    todo!()
}

/// Brings a deleted vault back, with its keys and without its role assignments.
pub async fn recover(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    location: &str,
    tenant_id: Uuid,
) -> Result<Vault, AzureError> {
    todo!()
}
