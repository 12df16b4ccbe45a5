//! A vault as it is stored, live and deleted, and as ARM shows it. What it shares with a managed HSM is its `Holder`.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::system_data::SystemData;
use crate::http::rfc3339;
use crate::keyvault::holder::Holder;
use crate::options::Addresses;
use crate::propagation::reached;

/// A vault. It derefs to its holder, as most of what is asked of a vault is asked of any holder of keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Vault {
    pub holder: Holder,
    pub tags: Map<String, Value>,
    pub system: SystemData,
    pub tenant: String,
    pub rbac: bool,
    pub access_policies: Vec<Value>,
    pub deployment: bool,
    pub disk_encryption: bool,
    pub template_deployment: bool,
}

impl Deref for Vault {
    type Target = Holder;

    fn deref(&self) -> &Holder {
        &self.holder
    }
}

impl DerefMut for Vault {
    fn deref_mut(&mut self) -> &mut Holder {
        &mut self.holder
    }
}

/// A soft-deleted vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeletedVault {
    pub vault: Vault,
    pub deleted: OffsetDateTime,
    pub purge_at: OffsetDateTime,
}

impl Vault {
    pub fn render(&self, addresses: &Addresses, now: OffsetDateTime) -> Value {
        let mut properties = json!({
            "sku": { "family": "A", "name": self.sku },
            "tenantId": self.tenant,
        });
        let Value::Object(map) = &mut properties else {
            return properties;
        };
        if let Some(acls) = &self.network.acls {
            map.insert("networkAcls".into(), acls.clone());
        }
        map.insert("accessPolicies".into(), Value::Array(self.access_policies.clone()));
        map.insert("enabledForDeployment".into(), self.deployment.into());
        map.insert("enabledForDiskEncryption".into(), self.disk_encryption.into());
        map.insert("enabledForTemplateDeployment".into(), self.template_deployment.into());
        map.insert("enableSoftDelete".into(), true.into());
        map.insert("softDeleteRetentionInDays".into(), self.retention_days.into());
        map.insert("enableRbacAuthorization".into(), self.rbac.into());
        if self.purge_protection {
            map.insert("enablePurgeProtection".into(), true.into());
        }
        map.insert("vaultUri".into(), self.uri(addresses).into());
        let state = if reached(self.dns_from, now) { "Succeeded" } else { "RegisteringDns" };
        map.insert("provisioningState".into(), state.into());
        map.insert("publicNetworkAccess".into(), self.network.public_access.clone().into());
        json!({
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.KeyVault/vaults",
            "location": self.location,
            "tags": self.tags,
            "systemData": self.system.render(),
            "properties": properties,
        })
    }
}

impl DeletedVault {
    pub fn render(&self, subscription: &str) -> Value {
        let vault = &self.vault;
        let mut body = json!({
            "id": format!(
                "/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{}/deletedVaults/{}",
                vault.location, vault.name
            ),
            "name": vault.name,
            "type": "Microsoft.KeyVault/deletedVaults",
            "properties": {
                "vaultId": vault.id,
                "location": vault.location,
                "tags": vault.tags,
                "deletionDate": rfc3339(self.deleted),
                "scheduledPurgeDate": rfc3339(self.purge_at),
            },
        });
        if vault.purge_protection {
            body["properties"]["purgeProtectionEnabled"] = true.into();
        }
        body
    }
}
