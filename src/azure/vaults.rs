//! Key vaults (`Microsoft.KeyVault/vaults`, api-version [`API_VERSION`]).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::arm::{Answer, Arm};
use super::cloud::Cloud;
use super::context::CallContext;
use super::error::AzureError;
pub use super::store_network::{NetworkAcls, PublicAccess};
use super::store_network::{WireAcls, WireConnection, acls, approved, public_access};
use crate::domain::ids::ArmId;

/// The ARM type.
pub const TYPE: &str = "Microsoft.KeyVault/vaults";
/// The API version spoken here.
pub const API_VERSION: &str = "2026-02-01";

/// Whether a key store works: a vault does once it exists, a Managed HSM once its owner has taken its security domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// It works.
    Done,
    /// Its owner has not activated it.
    Missing,
}

/// A vault as Azure answers it, or a Managed HSM in the same words.
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
    /// How many private endpoints lead to it that its owner approved.
    pub private_endpoints: usize,
    /// Whether it works yet.
    pub activation: Activation,
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
    arm.get(cx, id.as_str(), API_VERSION).await?.map(|answer| parse(arm.cloud(), &answer)).transpose()
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
    let location = location.replace(' ', "").to_ascii_lowercase();
    let path =
        format!("/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{location}/deletedVaults/{name}");
    let Some(answer) = arm.get(cx, &path, API_VERSION).await? else { return Ok(None) };
    let wire: WireDeleted = answer.parse("a deleted vault")?;
    Ok(Some(DeletedVault {
        vault_id: wire.properties.vault_id,
        location: wire.properties.location,
        purge_protection: wire.properties.purge_protection_enabled.unwrap_or(false),
        scheduled_purge: wire.properties.scheduled_purge_date,
    }))
}

/// Creates a vault. `SoftDeleted` if a deleted one holds the name, `NameTaken` if somebody else's does.
pub async fn create(arm: &Arm, cx: &CallContext, id: &ArmId, spec: &VaultSpec) -> Result<Vault, AzureError> {
    let answer = arm.put(cx, id.as_str(), API_VERSION, &create_body(spec)).await?;
    parse(arm.cloud(), &answer)
}

/// Turns purge protection on. It cannot be turned off again.
pub async fn enable_purge_protection(arm: &Arm, cx: &CallContext, id: &ArmId) -> Result<Vault, AzureError> {
    let body = json!({ "properties": { "enablePurgeProtection": true } });
    parse(arm.cloud(), &arm.patch(cx, id.as_str(), API_VERSION, &body).await?)
}

/// Brings a deleted vault back, with its keys and without its role assignments.
pub async fn recover(
    arm: &Arm,
    cx: &CallContext,
    id: &ArmId,
    location: &str,
    tenant_id: Uuid,
) -> Result<Vault, AzureError> {
    let answer = arm.put(cx, id.as_str(), API_VERSION, &recover_body(location, tenant_id)).await?;
    parse(arm.cloud(), &answer)
}

/// The content of a new vault. `enablePurgeProtection` is sent as true or not at all: false is refused even at creation.
pub fn create_body(spec: &VaultSpec) -> Value {
    let mut body = json!({
        "location": spec.location,
        "tags": spec.tags,
        "properties": {
            "tenantId": spec.tenant_id,
            "sku": { "family": "A", "name": match spec.sku {
                VaultSku::Standard => "standard",
                VaultSku::Premium => "premium",
            } },
            "enableRbacAuthorization": true,
            "enableSoftDelete": true,
            "softDeleteRetentionInDays": spec.retention_days,
            "enablePurgeProtection": true,
            "publicNetworkAccess": if spec.public_access { "Enabled" } else { "Disabled" },
        },
    });
    if let Some(network) = &spec.network {
        body["properties"]["networkAcls"] = json!({
            "bypass": if network.bypass_trusted { "AzureServices" } else { "None" },
            "defaultAction": if network.default_allow { "Allow" } else { "Deny" },
            "ipRules": network.ip_rules.iter().map(|rule| json!({ "value": rule })).collect::<Vec<_>>(),
            "virtualNetworkRules": network.subnets.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>(),
        });
    }
    body
}

/// The properties of the deleted vault stay as they were; Azure requires these two all the same.
fn recover_body(location: &str, tenant_id: Uuid) -> Value {
    json!({
        "location": location,
        "properties": {
            "tenantId": tenant_id,
            "sku": { "family": "A", "name": "standard" },
            "createMode": "recover",
        },
    })
}

#[derive(Deserialize)]
struct Wire {
    location: String,
    tags: Option<BTreeMap<String, String>>,
    properties: WireProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProperties {
    vault_uri: String,
    tenant_id: Uuid,
    sku: WireSku,
    enable_rbac_authorization: Option<bool>,
    enable_soft_delete: Option<bool>,
    enable_purge_protection: Option<bool>,
    soft_delete_retention_in_days: Option<u16>,
    network_acls: Option<WireAcls>,
    public_network_access: Option<String>,
    provisioning_state: Option<String>,
    private_endpoint_connections: Option<Vec<WireConnection>>,
}

#[derive(Deserialize)]
struct WireSku {
    name: String,
}

#[derive(Deserialize)]
struct WireDeleted {
    properties: WireDeletedProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDeletedProperties {
    vault_id: String,
    location: String,
    purge_protection_enabled: Option<bool>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    scheduled_purge_date: Option<OffsetDateTime>,
}

fn parse(cloud: &Cloud, answer: &Answer) -> Result<Vault, AzureError> {
    let wire: Wire = answer.parse("a vault")?;
    let properties = wire.properties;
    let uri = cloud.check_store_uri(&properties.vault_uri).map_err(|e| e.with_request_id(answer.request_id.clone()))?;
    let network = acls(properties.network_acls).map_err(|e| answer.unexpected(&e))?;
    Ok(Vault {
        uri,
        location: wire.location,
        tenant_id: properties.tenant_id,
        sku: if properties.sku.name.eq_ignore_ascii_case("premium") { VaultSku::Premium } else { VaultSku::Standard },
        // Null means access policies on vaults made with older versions.
        rbac: properties.enable_rbac_authorization.unwrap_or(false),
        soft_delete: properties.enable_soft_delete.unwrap_or(true),
        purge_protection: properties.enable_purge_protection.unwrap_or(false),
        retention_days: properties.soft_delete_retention_in_days.unwrap_or(90),
        network,
        public_access: public_access(properties.public_network_access.as_deref()),
        private_endpoints: approved(properties.private_endpoint_connections.as_deref()),
        activation: Activation::Done,
        provisioning_state: properties.provisioning_state,
        tags: wire.tags.unwrap_or_default(),
        request_id: answer.request_id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::error::AzureErrorKind;
    use super::*;

    fn answer(properties: Value) -> Answer {
        let mut body = json!({"location": "westeurope", "properties": {
            "tenantId": "11111111-2222-3333-4444-555555555555", "sku": {"family": "A", "name": "premium"},
            "vaultUri": "https://kv1.vault.azure.net/"}});
        for (key, value) in properties.as_object().expect("an object") {
            body["properties"][key] = value.clone();
        }
        Answer { status: 200, body, request_id: Some("r".into()), operation: None, retry_after: None }
    }

    #[test]
    fn what_azure_leaves_out_has_its_meaning() {
        let vault = parse(&Cloud::public(), &answer(json!({}))).expect("a vault");
        assert_eq!(vault.uri, "https://kv1.vault.azure.net");
        assert_eq!((vault.rbac, vault.soft_delete, vault.purge_protection), (false, true, false));
        assert_eq!((vault.retention_days, vault.sku), (90, VaultSku::Premium));
        assert!(vault.network.default_allow && vault.network.bypass_trusted);
        assert_eq!(vault.public_access, PublicAccess::Enabled);
        let closed = json!({"enablePurgeProtection": true, "publicNetworkAccess": "disabled", "networkAcls": {
            "bypass": "None", "defaultAction": "deny", "ipRules": [{"value": "203.0.113.7"}, {"value": "10.0.0.0/8"}],
            "virtualNetworkRules": [{"id": "/x", "ignoreMissingVnetServiceEndpoint": false}]}});
        let vault = parse(&Cloud::public(), &answer(closed)).expect("a vault");
        assert!(vault.purge_protection && !vault.network.default_allow && !vault.network.bypass_trusted);
        let rules: Vec<String> = vault.network.ip_rules.iter().map(ToString::to_string).collect();
        assert_eq!(rules, ["203.0.113.7/32", "10.0.0.0/8"]);
        assert_eq!(vault.public_access, PublicAccess::Disabled);
    }

    #[test]
    fn a_vault_uri_of_another_cloud_is_refused() {
        let error = parse(&Cloud::public(), &answer(json!({"vaultUri": "https://kv1.evil.example/"}))).expect_err("no");
        assert_eq!((error.kind, error.request_id.as_deref()), (AzureErrorKind::UntrustedUrl, Some("r")));
        let error = parse(&Cloud::public(), &answer(json!({"tenantId": 7}))).expect_err("no");
        assert_eq!(error.kind, AzureErrorKind::Unexpected);
    }

    #[test]
    fn a_new_vault_is_always_protected() {
        let spec = VaultSpec {
            location: "westeurope".into(),
            tenant_id: Uuid::nil(),
            sku: VaultSku::Standard,
            retention_days: 7,
            network: None,
            public_access: true,
            tags: BTreeMap::new(),
        };
        let body = create_body(&spec);
        assert_eq!(body["properties"]["enablePurgeProtection"], json!(true));
        assert_eq!(body["properties"]["enableRbacAuthorization"], json!(true));
        assert!(body["properties"].get("networkAcls").is_none());
        let network = NetworkAcls {
            default_allow: false,
            bypass_trusted: true,
            ip_rules: vec!["203.0.113.7/32".parse().expect("a network")],
            subnets: vec!["/s".into()],
        };
        let body = create_body(&VaultSpec { network: Some(network), ..spec });
        assert_eq!(
            body["properties"]["networkAcls"],
            json!({"bypass": "AzureServices", "defaultAction": "Deny", "ipRules": [{"value": "203.0.113.7/32"}],
                "virtualNetworkRules": [{"id": "/s"}]})
        );
    }
}
