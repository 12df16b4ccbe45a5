//! A storage account's encryption setting: merging what a caller sends, finding the identity that looks at the key, and
//! the storage service's own words for what is wrong with it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::identity_block::IdentityBlock;
use crate::cmk::{Hold, KeyUse, Refusal};
use crate::http::{Failure, rfc3339};
use crate::state::World;

/// The stored setting, in the caller's own words; answers add what the service knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Encryption {
    pub source: Source,
    pub infrastructure: Option<bool>,
    pub services: Map<String, Value>,
    pub key_name: String,
    pub key_version: Option<String>,
    pub vault_uri: String,
    /// ARM id of the identity that is to look at the key; absent means the system-assigned one.
    pub identity: Option<String>,
    pub federated_client: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Source {
    #[default]
    Platform,
    KeyVault,
}

impl Encryption {
    /// The setting after a body: members that are absent stay, `keyvaultproperties` and `identity` are replaced whole.
    pub fn merged(&self, sent: &Map<String, Value>) -> Self {
        let mut next = self.clone();
        let text = |block: &Value, name: &str| block.get(name).and_then(Value::as_str).map(str::to_owned);
        match sent.get("keySource").and_then(Value::as_str) {
            Some("Microsoft.Keyvault") => next.source = Source::KeyVault,
            Some(_) => next.source = Source::Platform,
            None => {}
        }
        if let Some(infrastructure) = sent.get("requireInfrastructureEncryption").and_then(Value::as_bool) {
            next.infrastructure = Some(infrastructure);
        }
        for (service, setting) in sent.get("services").and_then(Value::as_object).into_iter().flatten() {
            next.services.insert(service.clone(), setting.clone());
        }
        if let Some(block) = sent.get("keyvaultproperties").filter(|b| b.is_object()) {
            next.key_name = text(block, "keyname").unwrap_or_default();
            next.key_version = text(block, "keyversion");
            next.vault_uri = text(block, "keyvaulturi").unwrap_or_default();
        }
        if let Some(block) = sent.get("identity").filter(|b| b.is_object()) {
            next.identity = text(block, "userAssignedIdentity").filter(|i| !i.is_empty());
            next.federated_client = text(block, "federatedIdentityClientId");
        }
        if next.source == Source::Platform {
            next.key_name.clear();
            next.key_version = None;
            next.vault_uri.clear();
            next.identity = None;
        }
        next
    }

    /// Which key to use as whom; `None` under platform keys.
    pub fn key_use(&self, w: &World, identities: &IdentityBlock) -> Result<Option<KeyUse>, Failure> {
        if self.source == Source::Platform {
            return Ok(None);
        }
        if self.key_name.is_empty() || self.vault_uri.is_empty() {
            return Err(Failure::new(
                400,
                "InvalidValuesForRequestParameters",
                "Values for request parameters are invalid: keyvaultproperties.keyname, keyvaultproperties.keyvaulturi.",
            ));
        }
        if self.federated_client.as_deref().is_some_and(|f| !f.is_empty()) {
            return Err(Failure::not_played("keys of another tenant"));
        }
        let principal = match &self.identity {
            Some(id) => identities
                .user
                .get(&id.to_lowercase())
                .and_then(|_| w.identities.get(&id.to_lowercase()))
                .map(|i| i.principal_id.clone()),
            None => identities.system.clone(),
        };
        let Some(principal) = principal else {
            // Code UNVERIFIED; the text is Azure's.
            return Err(Failure::bad_request(
                "Missing pre-requisites to enable EncryptionAtRest/Customer Managed Key for this storage account.",
            ));
        };
        let version = self.key_version.as_deref().unwrap_or_default();
        Ok(Some(KeyUse::new(principal, &self.vault_uri, &self.key_name, version)))
    }

    /// As answers show it; what the service knows of the key comes from its hold on it.
    pub fn render(&self, created: OffsetDateTime, hold: Option<&Hold>) -> Value {
        let mut services = Map::new();
        for name in ["file", "blob"] {
            services.insert(
                name.into(),
                json!({ "keyType": "Account", "enabled": true, "lastEnabledTime": rfc3339(created) }),
            );
        }
        for (name, sent) in &self.services {
            services.insert(
                name.clone(),
                json!({
                    "keyType": sent["keyType"].as_str().unwrap_or("Account"),
                    "enabled": true,
                    "lastEnabledTime": rfc3339(created),
                }),
            );
        }
        let mut out = Map::new();
        if let Some(infrastructure) = self.infrastructure {
            out.insert("requireInfrastructureEncryption".into(), infrastructure.into());
        }
        out.insert("services".into(), services.into());
        if self.source == Source::Platform {
            out.insert("keySource".into(), "Microsoft.Storage".into());
            return Value::Object(out);
        }
        out.insert("keySource".into(), "Microsoft.Keyvault".into());
        let mut key = Map::new();
        key.insert("keyvaulturi".into(), self.vault_uri.clone().into());
        key.insert("keyname".into(), self.key_name.clone().into());
        if let Some(version) = &self.key_version {
            key.insert("keyversion".into(), version.clone().into());
        }
        if let Some(hold) = hold {
            key.insert("currentVersionedKeyIdentifier".into(), hold.kid.clone().into());
            key.insert("lastKeyRotationTimestamp".into(), rfc3339(hold.since).into());
            // The epoch stands for "no expiry" (UNVERIFIED).
            let expires = hold
                .expires
                .and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok())
                .unwrap_or(OffsetDateTime::UNIX_EPOCH);
            key.insert("currentVersionedKeyExpirationTimestamp".into(), rfc3339(expires).into());
        }
        out.insert("keyvaultproperties".into(), key.into());
        if let Some(identity) = &self.identity {
            out.insert("identity".into(), json!({ "userAssignedIdentity": identity }));
        }
        Value::Object(out)
    }
}

/// The storage service's words. Codes for a wrong URI, a missing vault or key, and an unusable key are UNVERIFIED at the ARM
/// level; a closed firewall is reported as an authentication failure, as the service cannot tell the two apart (UNVERIFIED).
pub(crate) fn failure(refusal: Refusal) -> Failure {
    let (code, message) = match refusal {
        Refusal::BadUri | Refusal::HsmNotTaken => ("KeyVaultUriInvalid", "The key vault URI is not valid."),
        Refusal::VaultMissing => ("KeyVaultVaultNotFound", "The key vault is not found."),
        Refusal::NotProtected | Refusal::ShortRetention => (
            "KeyVaultPolicyError",
            "Keyvault policy recoverable is not set: the key vault must have soft delete and purge protection enabled.",
        ),
        Refusal::Firewall | Refusal::NoAccess | Refusal::IdentityGone => (
            "KeyVaultAuthenticationFailure",
            "The operation failed because of authentication issue on the keyvault. For more information, see - https://aka.ms/storagekeyvaultaccesscontrol",
        ),
        Refusal::KeyMissing => {
            ("KeyVaultEncryptionKeyNotFound", "The key vault key is not found to unwrap the encryption key.")
        }
        Refusal::KeyDisabled | Refusal::KeyNotYetValid | Refusal::KeyExpired => (
            "KeyVaultEncryptionKeyNotFound",
            "The key vault key is not found to unwrap the encryption key: it is disabled, expired or not yet valid.",
        ),
        Refusal::WrongKey | Refusal::WrongSize | Refusal::HasExpiry | Refusal::OtherRegion => {
            ("BadRequest", "The key must be of type RSA with the operations wrapKey and unwrapKey.")
        }
    };
    Failure::new(400, code, message)
}
