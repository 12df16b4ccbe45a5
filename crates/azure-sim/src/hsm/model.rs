//! A managed HSM as it is stored, live and deleted, and as ARM shows it. What it shares with a vault is its `Holder`; who may
//! use its keys is its own matter and lives in it: local roles and grants.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::identity_block::IdentityBlock;
use crate::hsm::grants::Grant;
use crate::hsm::roles::{self, LocalRole};
use crate::http::rfc3339;
use crate::keyvault::holder::Holder;
use crate::options::Addresses;
use crate::propagation::{Due, reached};
use crate::state::World;

/// A managed HSM. It derefs to its holder, as most of what is asked of it is asked of any holder of keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hsm {
    pub holder: Holder,
    pub tags: Map<String, Value>,
    pub tenant: String,
    pub sku_family: String,
    /// Object ids that become administrators when the HSM is activated.
    pub first_admins: Vec<String>,
    pub identity: IdentityBlock,
    /// From when it is provisioned; before that ARM says `Provisioning`.
    pub ready_from: Due,
    /// The security domain's download is under way or done; it activates the HSM when it ends.
    pub activation: Option<Activation>,
    /// A deletion is under way.
    pub deleting: bool,
    /// Local role assignments, by lower-case GUID.
    pub grants: BTreeMap<String, Grant>,
    /// Removed ones that are still enforced, with the end of that.
    pub fading: Vec<(Due, Grant)>,
    /// Custom role definitions, by lower-case GUID.
    pub roles: BTreeMap<String, LocalRole>,
}

/// The course of an HSM's activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Activation {
    /// From when the HSM is active.
    pub from: Due,
    /// Which security domain it has.
    #[serde(default)]
    pub domain: String,
}

/// A soft-deleted managed HSM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeletedHsm {
    pub hsm: Hsm,
    pub deleted: OffsetDateTime,
    pub purge_at: OffsetDateTime,
}

impl Deref for Hsm {
    type Target = Holder;

    fn deref(&self) -> &Holder {
        &self.holder
    }
}

impl DerefMut for Hsm {
    fn deref_mut(&mut self) -> &mut Holder {
        &mut self.holder
    }
}

impl Hsm {
    pub fn ready(&self, now: OffsetDateTime) -> bool {
        reached(self.ready_from, now)
    }

    /// Whether its keys can be used at all.
    pub fn active(&self, now: OffsetDateTime) -> bool {
        self.activation.as_ref().is_some_and(|a| reached(a.from, now))
    }

    /// Lets the activation end at the due time. The first administrators are so from then on.
    pub fn activate(&mut self, from: Due) {
        if self.activation.is_none() {
            for oid in &self.first_admins {
                let grant = Grant::standing(oid, roles::ADMINISTRATOR, from);
                self.grants.insert(grant.name.clone(), grant);
            }
        }
        let domain = match self.activation.take() {
            Some(before) => before.domain,
            None => uuid::Uuid::new_v4().to_string(),
        };
        self.activation = Some(Activation { from, domain });
    }

    pub fn settle(&mut self, now: OffsetDateTime) {
        let host_from = self.dns_from;
        self.holder.settle(now);
        if !self.ready(now) {
            // Its host comes with its provisioning, which takes its time: that is no lag.
            self.holder.dns_from = host_from;
        }
        self.fading.clear();
        for grant in self.grants.values_mut() {
            grant.enforced_from = grant.enforced_from.filter(|at| *at <= now).or(Some(now));
        }
    }

    /// The HSM as ARM shows it. The messages are Azure's own.
    pub fn render(&self, w: &World, addresses: &Addresses, now: OffsetDateTime) -> Value {
        let (state, message) = if self.deleting {
            ("Deleting", "The Managed HSM is being deleted.")
        } else if self.ready(now) {
            ("Succeeded", "The Managed HSM is provisioned and ready to use.")
        } else {
            ("Provisioning", "The Managed HSM is being provisioned.")
        };
        let (activation, activation_message) = if self.active(now) {
            ("Active", "Your HSM has been activated and can be used for cryptographic operations.")
        } else {
            (
                "NotActivated",
                "Your HSM has been provisioned, but cannot be used for cryptographic operations until it is activated. To activate the HSM, download the security domain.",
            )
        };
        let mut properties = json!({
            "tenantId": self.tenant,
            "hsmUri": self.uri(addresses),
            "initialAdminObjectIds": self.first_admins,
            "enableSoftDelete": true,
            "softDeleteRetentionInDays": self.retention_days,
            "enablePurgeProtection": self.purge_protection,
            "provisioningState": state,
            "statusMessage": message,
            "publicNetworkAccess": self.network.public_access,
            "regions": [],
            "privateEndpointConnections": crate::arm::network::connections::rows_of(&w.networks, &self.id),
            "securityDomainProperties": {
                "activationStatus": activation,
                "activationStatusMessage": activation_message,
            },
        });
        properties["networkAcls"] = self.network.acls.clone().unwrap_or_else(
            || json!({ "bypass": "AzureServices", "defaultAction": "Allow", "ipRules": [], "virtualNetworkRules": [] }),
        );
        let mut body = json!({
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.KeyVault/managedHSMs",
            "location": self.location,
            "sku": { "family": self.sku_family, "name": self.sku },
            "tags": self.tags,
            "properties": properties,
        });
        if let Some(identity) = self.identity.render(w, &self.tenant) {
            body["identity"] = identity;
        }
        body
    }
}

impl World {
    /// Activates an HSM at once; `false` when there is none that is provisioned.
    pub fn activate_hsm(&mut self, name: &str, now: OffsetDateTime) -> bool {
        let hsm = self.hsms.get_mut(&name.to_lowercase()).filter(|h| h.ready(now));
        hsm.map(|h| h.activate(Some(now))).is_some()
    }

    /// Removes a deleted HSM for good, with the principal of its identity.
    pub fn purge_hsm(&mut self, name: &str) {
        let Some(DeletedHsm { hsm, .. }) = self.deleted_hsms.remove(name) else {
            return;
        };
        crate::arm::network::connections::disconnect_under(&mut self.networks, &hsm.id);
        if let Some(oid) = &hsm.identity.system {
            self.principals.remove(oid);
        }
    }
}

impl DeletedHsm {
    pub fn render(&self, subscription: &str) -> Value {
        let hsm = &self.hsm;
        json!({
            "id": format!(
                "/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/{}/deletedManagedHSMs/{}",
                hsm.location, hsm.name
            ),
            "name": hsm.name,
            "type": "Microsoft.KeyVault/deletedManagedHSMs",
            "properties": {
                "mhsmId": hsm.id,
                "location": hsm.location,
                "tags": hsm.tags,
                "deletionDate": rfc3339(self.deleted),
                "scheduledPurgeDate": rfc3339(self.purge_at),
                "purgeProtectionEnabled": hsm.purge_protection,
            },
        })
    }
}
