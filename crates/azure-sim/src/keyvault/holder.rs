//! What holds keys, be it a vault or a managed HSM: the keys, live and deleted, what protects them, the network rules and
//! the name under which the data plane answers. How a holder is made and shown is its resource's matter on ARM; who may ask
//! for its keys is decided in front of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::keyvault::key_model::{DeletedKey, Key};
use crate::options::Addresses;
use crate::propagation::{Due, reached};
use crate::state::World;

/// The DNS zone in which a holder has its host, which says what kind of holder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Zone {
    Vault,
    Hsm,
}

impl Zone {
    /// The label behind the holder's name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Hsm => "managedhsm",
        }
    }

    /// What the data actions of its permissions start with.
    pub fn actions(self) -> &'static str {
        match self {
            Self::Vault => "Microsoft.KeyVault/vaults/",
            Self::Hsm => "Microsoft.KeyVault/managedHsm/",
        }
    }
}

/// Which holder is meant: its zone and its lower-case name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct At {
    pub zone: Zone,
    pub name: String,
}

impl At {
    pub fn new(zone: Zone, name: &str) -> Self {
        Self { zone, name: name.to_lowercase() }
    }
}

/// A holder of keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub zone: Zone,
    /// The ARM id.
    pub id: String,
    /// As it was spelled at creation.
    pub name: String,
    pub location: String,
    pub sku: String,
    pub retention_days: i64,
    pub purge_protection: bool,
    pub network: Network,
    /// Earlier rules with the time at which the data plane lets go of them, oldest first.
    pub network_past: Vec<(Due, Network)>,
    pub visible_from: Due,
    /// From when the host name answers.
    pub dns_from: Due,
    /// By lower-case name.
    pub keys: BTreeMap<String, Key>,
    /// By lower-case name.
    pub deleted_keys: BTreeMap<String, DeletedKey>,
}

/// A holder's network rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// As ARM shows it; absent when never set.
    pub acls: Option<Value>,
    pub public_access: String,
}

/// How the firewall takes a caller.
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

    fn takes_subnet(&self, subnet: &str) -> bool {
        self.acls
            .iter()
            .flat_map(|a| a["virtualNetworkRules"].as_array().into_iter().flatten())
            .filter_map(|rule| rule["id"].as_str())
            .any(|id| id.eq_ignore_ascii_case(subnet))
    }

    /// For callers from an address, or from a subnet with Key Vault's service endpoint: from there the public address is
    /// not seen, so no address rule counts.
    pub fn admits(&self, address: IpAddr, subnet: Option<&str>) -> Gate {
        let listed = || subnet.map_or_else(|| self.lists(address), |subnet| self.takes_subnet(subnet));
        if self.public_access.eq_ignore_ascii_case("Enabled") {
            if self.default_allows() || listed() { Gate::Open } else { Gate::AddressRefused }
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

impl Holder {
    pub fn uri(&self, addresses: &Addresses) -> String {
        format!("https://{}/", addresses.authority(&format!("{}.{}", self.name.to_lowercase(), self.zone.label())))
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

    /// `recoveryLevel` of the keys here.
    pub fn recovery_level(&self) -> &'static str {
        match (self.purge_protection, self.retention_days >= 90) {
            (true, true) => "Recoverable",
            (true, false) => "CustomizedRecoverable",
            (false, true) => "Recoverable+Purgeable",
            (false, false) => "CustomizedRecoverable+Purgeable",
        }
    }
}

impl World {
    /// The live holder.
    pub fn holder(&self, at: &At) -> Option<&Holder> {
        match at.zone {
            Zone::Vault => self.vaults.get(&at.name).map(|v| &v.holder),
            Zone::Hsm => self.hsms.get(&at.name).map(|h| &h.holder),
        }
    }

    /// The live holder, to change it.
    pub fn holder_mut(&mut self, at: &At) -> Option<&mut Holder> {
        match at.zone {
            Zone::Vault => self.vaults.get_mut(&at.name).map(|v| &mut v.holder),
            Zone::Hsm => self.hsms.get_mut(&at.name).map(|h| &mut h.holder),
        }
    }

    /// Whether the name under which the holder answers resolves now.
    pub fn resolves(&self, at: &At, now: OffsetDateTime) -> bool {
        self.holder(at).is_some_and(|h| reached(h.dns_from, now))
    }

    /// Ends the retention of a deleted key, wherever its holder is.
    pub fn purge_key(&mut self, at: &At, key: &str, since: OffsetDateTime) {
        let holders = match at.zone {
            Zone::Vault => [
                self.vaults.get_mut(&at.name).map(|v| &mut v.holder),
                self.deleted_vaults.get_mut(&at.name).map(|d| &mut d.vault.holder),
            ],
            Zone::Hsm => [
                self.hsms.get_mut(&at.name).map(|h| &mut h.holder),
                self.deleted_hsms.get_mut(&at.name).map(|d| &mut d.hsm.holder),
            ],
        };
        for holder in holders.into_iter().flatten() {
            if holder.deleted_keys.get(key).is_some_and(|k| k.deleted == since) {
                holder.deleted_keys.remove(key);
            }
        }
    }
}
