//! What a key is: the types of `keys` and their translation to and from the SDK's.
//!
//! What belongs here: data. What does not: calls.

use std::collections::{BTreeMap, HashMap};

use azure_security_keyvault_keys::models as sdk;
use time::OffsetDateTime;

use crate::domain::ids::KeyId;

/// A key's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RSA in software.
    Rsa,
    /// RSA in an HSM.
    RsaHsm,
    /// Elliptic curve in software.
    Ec,
    /// Elliptic curve in an HSM.
    EcHsm,
    /// Symmetric in software.
    Oct,
    /// Symmetric in an HSM.
    OctHsm,
    /// A type this version does not know.
    Other(String),
}

/// What a key may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOperation {
    /// Wrap another key.
    WrapKey,
    /// Unwrap another key.
    UnwrapKey,
    /// Encrypt.
    Encrypt,
    /// Decrypt.
    Decrypt,
    /// Sign.
    Sign,
    /// Verify.
    Verify,
    /// An operation this version does not know.
    Other(String),
}

/// A key version as the store answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyInfo {
    /// Store, name and version.
    pub id: KeyId,
    /// Its type.
    pub kty: KeyType,
    /// Size of an RSA key in bits, from its modulus.
    pub size_bits: Option<u32>,
    /// Curve of an EC key, in Azure's spelling: `P-256`, …
    pub curve: Option<String>,
    /// What it may be used for.
    pub operations: Vec<KeyOperation>,
    /// Whether it may be used at all.
    pub enabled: bool,
    /// When it stops to encrypt.
    pub expires: Option<OffsetDateTime>,
    /// When it starts to encrypt.
    pub not_before: Option<OffsetDateTime>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Azure's request id of the answer.
    pub request_id: Option<String>,
}

/// A key to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct KeySpec {
    /// Its type.
    pub kty: KeyType,
    /// RSA: size in bits.
    pub size_bits: Option<u32>,
    /// EC: curve in Azure's spelling.
    pub curve: Option<String>,
    /// What it may be used for.
    pub operations: Vec<KeyOperation>,
    /// When it stops to encrypt.
    pub expires: Option<OffsetDateTime>,
    /// When it starts to encrypt.
    pub not_before: Option<OffsetDateTime>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A deleted key that still holds its name.
#[derive(Clone, Debug, PartialEq)]
pub struct DeletedKey {
    /// Where it can be recovered.
    pub recovery_id: Option<String>,
    /// When Azure purges it.
    pub scheduled_purge: Option<OffsetDateTime>,
}

/// When a key gets new versions. Durations are ISO 8601, as Azure spells them: `P18M`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RotationPolicy {
    /// Rotate this long after a version's creation.
    pub rotate_after_create: Option<String>,
    /// Rotate this long before a version expires.
    pub rotate_before_expiry: Option<String>,
    /// Tell Event Grid this long before a version expires.
    pub notify_before_expiry: Option<String>,
    /// How long a new version lives.
    pub expire_after: Option<String>,
}

impl KeyType {
    pub(super) fn to_sdk(&self) -> sdk::KeyType {
        match self {
            Self::Rsa => sdk::KeyType::Rsa,
            Self::RsaHsm => sdk::KeyType::RsaHsm,
            Self::Ec => sdk::KeyType::Ec,
            Self::EcHsm => sdk::KeyType::EcHsm,
            Self::Oct => sdk::KeyType::Oct,
            Self::OctHsm => sdk::KeyType::OctHsm,
            Self::Other(name) => sdk::KeyType::UnknownValue(name.clone()),
        }
    }

    fn from_sdk(kty: sdk::KeyType) -> Self {
        match kty {
            sdk::KeyType::Rsa => Self::Rsa,
            sdk::KeyType::RsaHsm => Self::RsaHsm,
            sdk::KeyType::Ec => Self::Ec,
            sdk::KeyType::EcHsm => Self::EcHsm,
            sdk::KeyType::Oct => Self::Oct,
            sdk::KeyType::OctHsm => Self::OctHsm,
            other => Self::Other(other.to_string()),
        }
    }
}

impl KeyOperation {
    /// Azure's spelling.
    pub fn as_str(&self) -> &str {
        match self {
            Self::WrapKey => "wrapKey",
            Self::UnwrapKey => "unwrapKey",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Other(name) => name,
        }
    }

    fn parse(name: &str) -> Self {
        let known = [Self::WrapKey, Self::UnwrapKey, Self::Encrypt, Self::Decrypt, Self::Sign, Self::Verify];
        known.into_iter().find(|known| known.as_str() == name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl KeySpec {
    pub(super) fn to_sdk(&self) -> sdk::CreateKeyParameters {
        let dated = self.expires.is_some() || self.not_before.is_some();
        let attributes =
            sdk::KeyAttributes { expires: self.expires, not_before: self.not_before, ..Default::default() };
        let operations = self.operations.iter();
        let operations = operations.map(|op| op.as_str().parse().unwrap_or_else(|never| match never {})).collect();
        sdk::CreateKeyParameters {
            kty: Some(self.kty.to_sdk()),
            key_size: self.size_bits.and_then(|bits| i32::try_from(bits).ok()),
            curve: self.curve.as_deref().map(|curve| curve.parse().unwrap_or_else(|never| match never {})),
            key_ops: Some(operations),
            key_attributes: dated.then_some(attributes),
            tags: (!self.tags.is_empty()).then(|| self.tags.clone().into_iter().collect()),
            ..Default::default()
        }
    }
}

impl KeyInfo {
    /// `None` if the answer lacks the key's id, type or version.
    pub(super) fn from_sdk(key: sdk::Key, request_id: Option<String>) -> Option<Self> {
        let jwk = key.key?;
        let id = KeyId::parse(&jwk.kid?).filter(|id| id.version.is_some())?;
        let attributes = key.attributes.unwrap_or_default();
        Some(Self {
            id,
            kty: KeyType::from_sdk(jwk.kty?),
            size_bits: jwk.n.as_deref().map(bit_length),
            curve: jwk.crv.map(|curve| curve.to_string()),
            operations: jwk.key_ops.unwrap_or_default().iter().map(|name| KeyOperation::parse(name)).collect(),
            enabled: attributes.enabled.unwrap_or(true),
            expires: attributes.expires,
            not_before: attributes.not_before,
            tags: sorted(key.tags),
            request_id,
        })
    }
}

impl RotationPolicy {
    pub(super) fn to_sdk(&self) -> sdk::KeyRotationPolicy {
        let action = |action, after: &Option<String>, before: &Option<String>| {
            (after.is_some() || before.is_some()).then(|| sdk::LifetimeAction {
                action: Some(sdk::LifetimeActionType { type_prop: Some(action) }),
                trigger: Some(sdk::LifetimeActionTrigger {
                    time_after_create: after.clone(),
                    time_before_expiry: before.clone(),
                }),
            })
        };
        let rotate =
            action(sdk::KeyRotationPolicyAction::Rotate, &self.rotate_after_create, &self.rotate_before_expiry);
        let notify = action(sdk::KeyRotationPolicyAction::Notify, &None, &self.notify_before_expiry);
        sdk::KeyRotationPolicy {
            attributes: Some(sdk::KeyRotationPolicyAttributes {
                expiry_time: self.expire_after.clone(),
                ..Default::default()
            }),
            lifetime_actions: Some(rotate.into_iter().chain(notify).collect()),
            ..Default::default()
        }
    }

    pub(super) fn from_sdk(policy: sdk::KeyRotationPolicy) -> Self {
        let mut read =
            Self { expire_after: policy.attributes.and_then(|attributes| attributes.expiry_time), ..Self::default() };
        for action in policy.lifetime_actions.unwrap_or_default() {
            let trigger = action.trigger.unwrap_or_default();
            match action.action.and_then(|action| action.type_prop) {
                Some(sdk::KeyRotationPolicyAction::Rotate) => {
                    read.rotate_after_create = trigger.time_after_create;
                    read.rotate_before_expiry = trigger.time_before_expiry;
                }
                Some(sdk::KeyRotationPolicyAction::Notify) => read.notify_before_expiry = trigger.time_before_expiry,
                None => {}
            }
        }
        read
    }
}

fn sorted(tags: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    tags.unwrap_or_default().into_iter().collect()
}

/// The length of a big-endian number, leading zeros aside.
fn bit_length(modulus: &[u8]) -> u32 {
    let Some(first) = modulus.iter().position(|byte| *byte != 0) else { return 0 };
    let bits = (modulus.len() - first) * 8;
    u32::try_from(bits).map_or(u32::MAX, |bits| bits - modulus[first].leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> KeySpec {
        KeySpec {
            kty: KeyType::RsaHsm,
            size_bits: Some(3072),
            curve: None,
            operations: vec![KeyOperation::WrapKey, KeyOperation::UnwrapKey],
            expires: OffsetDateTime::from_unix_timestamp(1_900_000_000).ok(),
            not_before: None,
            tags: BTreeMap::from([("cmk-job".to_owned(), "j".to_owned())]),
        }
    }

    #[test]
    fn a_new_key_is_asked_for_in_azures_words() {
        let body = serde_json::to_value(spec().to_sdk()).expect("JSON");
        assert_eq!(
            body,
            serde_json::json!({"attributes": {"exp": 1_900_000_000}, "key_ops": ["wrapKey", "unwrapKey"],
                "key_size": 3072, "kty": "RSA-HSM", "tags": {"cmk-job": "j"}})
        );
        let curve = KeySpec { kty: KeyType::Ec, size_bits: None, curve: Some("P-256".into()), expires: None, ..spec() };
        let body = serde_json::to_value(curve.to_sdk()).expect("JSON");
        assert_eq!((&body["crv"], &body["kty"]), (&"P-256".into(), &"EC".into()));
        assert!(body.get("attributes").is_none());
    }

    #[test]
    fn a_key_is_read_with_the_size_of_its_modulus() {
        let modulus = format!("wA{}", "A".repeat(340));
        let body = serde_json::json!({
            "key": {"kid": "https://kv1.vault.azure.net/keys/k/0123456789abcdef0123456789abcdef", "kty": "RSA",
                "n": modulus, "e": "AQAB", "key_ops": ["wrapKey", "unwrapKey", "newOp"]},
            "attributes": {"enabled": false, "nbf": 1, "exp": 2}, "tags": {"a": "b"}});
        let key: sdk::Key = serde_json::from_value(body).expect("a key");
        let info = KeyInfo::from_sdk(key, None).expect("complete");
        assert_eq!((info.size_bits, info.kty, info.enabled), (Some(2048), KeyType::Rsa, false));
        assert_eq!(info.operations[2], KeyOperation::Other("newOp".into()));
        assert_eq!(info.expires.map(OffsetDateTime::unix_timestamp), Some(2));
        assert_eq!(info.tags["a"], "b");
        assert_eq!(bit_length(&[0, 0, 1, 0]), 9);
        assert_eq!(bit_length(&[]), 0);
    }

    #[test]
    fn an_incomplete_key_is_no_key() {
        for body in [
            serde_json::json!({}),
            serde_json::json!({"key": {"kty": "RSA"}}),
            serde_json::json!({"key": {"kid": "https://kv1.vault.azure.net/keys/k/0", "n": "AQ"}}),
            serde_json::json!({"key": {"kid": "https://kv1.vault.azure.net/keys/k", "kty": "RSA"}}),
            serde_json::json!({"key": {"kid": "nonsense", "kty": "RSA"}}),
        ] {
            let key: sdk::Key = serde_json::from_value(body.clone()).expect("a key");
            assert!(KeyInfo::from_sdk(key, None).is_none(), "{body}");
        }
    }

    #[test]
    fn rotation_policies_survive_the_round_trip() {
        let policy = RotationPolicy {
            rotate_after_create: Some("P18M".into()),
            rotate_before_expiry: None,
            notify_before_expiry: Some("P30D".into()),
            expire_after: Some("P2Y".into()),
        };
        assert_eq!(RotationPolicy::from_sdk(policy.to_sdk()), policy);
        let nothing = RotationPolicy::default();
        assert_eq!(RotationPolicy::from_sdk(nothing.to_sdk()), nothing);
    }
}
