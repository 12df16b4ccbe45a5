//! A vault as it is stored, live and deleted, and which of its network rules the data plane follows at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::http::rfc3339;
use crate::keyvault::key_model::{DeletedKey, Key};
use crate::options::Addresses;
use crate::propagation::{Due, reached};

/// A vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Vault {
    pub id: String,
    /// As it was spelled at creation.
    pub name: String,
    pub location: String,
    pub tags: Map<String, Value>,
    pub tenant: String,
    pub sku: String,
    pub rbac: bool,
    pub access_policies: Vec<Value>,
    pub deployment: bool,
    pub disk_encryption: bool,
    pub template_deployment: bool,
    pub retention_days: i64,
    pub purge_protection: bool,
    pub network: Network,
    /// Earlier rules with the time at which the data plane lets go of them, oldest first.
    pub network_past: Vec<(Due, Network)>,
    pub visible_from: Due,
    /// From when the vault's host name answers.
    pub dns_from: Due,
    /// By lower-case name.
    pub keys: BTreeMap<String, Key>,
    /// By lower-case name.
    pub deleted_keys: BTreeMap<String, DeletedKey>,
}

/// A vault's network rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// As ARM shows it; absent when never set.
    pub acls: Option<Value>,
    pub public_access: String,
}

/// A soft-deleted vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeletedVault {
    pub vault: Vault,
    pub deleted: OffsetDateTime,
    pub purge_at: OffsetDateTime,
}

/// How the vault's firewall takes a caller.
#[derive(Debug, PartialEq)]
pub(crate) enum Gate {
    Open,
    /// Public access is off.
    NoPublicAccess,
    /// The address is in no rule.
    AddressRefused,
}

impl Network {
    fn default_allows(&self) -> bool {
        self.acls.as_ref().is_none_or(|a| a["defaultAction"] != "Deny")
    }

    pub fn bypasses(&self) -> bool {
        self.acls.as_ref().is_none_or(|a| a["bypass"] != "None")
    }

    fn lists(&self, address: IpAddr) -> bool {
        self.acls
            .iter()
            .flat_map(|a| a["ipRules"].as_array().into_iter().flatten())
            .filter_map(|rule| rule["value"].as_str())
            .filter_map(parse_network)
            .any(|net| net.contains(&address))
    }

    /// For callers from an address.
    pub fn admits(&self, address: IpAddr) -> Gate {
        if self.public_access.eq_ignore_ascii_case("Enabled") {
            if self.default_allows() || self.lists(address) { Gate::Open } else { Gate::AddressRefused }
        } else {
            Gate::NoPublicAccess
        }
    }

    /// For Azure services on Microsoft's list of trusted ones. With `SecuredByPerimeter` the bypass does not count.
    pub fn admits_trusted(&self) -> bool {
        match self.public_access.as_str() {
            "SecuredByPerimeter" => false,
            "Disabled" => self.bypasses(),
            _ => self.default_allows() || self.bypasses(),
        }
    }
}

/// An address or a range; a single address stands for itself.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

impl Vault {
    pub fn uri(&self, addresses: &Addresses) -> String {
        format!("https://{}/", addresses.authority(&format!("{}.vault", self.name.to_lowercase())))
    }

    /// The rules that the data plane follows now: the oldest that it has not let go of yet.
    pub fn network_in_force(&self, now: OffsetDateTime) -> &Network {
        self.network_past.iter().find(|(until, _)| !reached(*until, now)).map_or(&self.network, |(_, network)| network)
    }

    /// Changes the rules; the data plane follows at the due time.
    pub fn change_network(&mut self, to: Network, due: Due, now: OffsetDateTime) {
        self.network_past.retain(|(until, _)| !reached(*until, now));
        let from = std::mem::replace(&mut self.network, to);
        if !reached(due, now) {
            self.network_past.push((due, from));
        }
    }

    pub fn settle(&mut self, now: OffsetDateTime) {
        self.network_past.clear();
        self.visible_from = self.visible_from.filter(|at| *at <= now).or(Some(now));
        self.dns_from = self.dns_from.filter(|at| *at <= now).or(Some(now));
    }

    /// `recoveryLevel` of the keys in this vault.
    pub fn recovery_level(&self) -> &'static str {
        match (self.purge_protection, self.retention_days >= 90) {
            (true, true) => "Recoverable",
            (true, false) => "CustomizedRecoverable",
            (false, true) => "Recoverable+Purgeable",
            (false, false) => "CustomizedRecoverable+Purgeable",
        }
    }

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
