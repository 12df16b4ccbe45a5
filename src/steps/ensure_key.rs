//! Makes sure that the key exists, once, and fits.
//!
//! What belongs here: the key and its rotation policy. A key that exists is judged and never replaced: creating a name
//! that exists would make a new version. What does not: using the key.

use time::OffsetDateTime;

use super::ensure_key_store::JOB_TAG;
use super::spec::EnsureKey;
use super::windows::Moment;
use super::{Acted, Decision, NotYet, Step, StepContext, StepError};
use crate::azure::keys::{self, KeyInfo, KeySpec, RotationPolicy};
use crate::azure::{AzureError, AzureErrorKind};
use crate::domain::codes::Code;
use crate::domain::duration::IsoDuration;
use crate::domain::facts::{Facts, KeyFact};
use crate::domain::failure::Failure;
use crate::domain::request::{KeyOperation, KeyType, MANAGED_HSM_TYPE};

/// What a look at the key's name finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// A key.
    Found {
        /// Its latest version.
        key: Box<KeyInfo>,
        /// Its rotation policy; empty where it has none or none is asked for.
        policy: RotationPolicy,
        /// When the look was.
        at: OffsetDateTime,
    },
    /// A deleted key holds the name.
    Deleted,
    /// The name is free.
    Absent,
}

/// One change of the key.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Create it.
    Create,
    /// Set the rotation policy.
    Rotate(Box<KeyInfo>, RotationPolicy),
}

impl Step for EnsureKey {
    type Seen = Seen;
    type Action = Change;

    fn doing(&self) -> String {
        format!("ensuring the key {} in {}", self.name, self.store.name())
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let (keys, call, uri) = (&cx.azure.keys, &cx.call, &cx.key_store()?.uri);
        let Some(key) = keys.get(call, uri, &self.name, None).await? else {
            return match keys.get_deleted(call, uri, &self.name).await {
                Ok(deleted) => Ok(if deleted.is_some() { Seen::Deleted } else { Seen::Absent }),
                // Who makes keys in a Managed HSM may not look at deleted ones. The answer to the creation will tell.
                Err(error) if error.kind == AzureErrorKind::Forbidden && self.store.is_type(MANAGED_HSM_TYPE) => {
                    Ok(Seen::Absent)
                }
                Err(error) => Err(error.into()),
            };
        };
        Ok(Seen::Found { key: Box::new(key), policy: self.policy(cx).await?, at: cx.now() })
    }

    fn decide(&self, seen: &Self::Seen, _facts: &Facts) -> Decision<Self::Action> {
        match seen {
            Seen::Absent => Decision::Act(Change::Create),
            Seen::Deleted => Decision::Refuse(self.soft_deleted()),
            Seen::Found { key, policy, at } => match self.misfit(key, *at) {
                Some(failure) => Decision::Refuse(failure),
                None => self.judge_policy(key, policy),
            },
        }
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        let (keys, call, uri) = (&cx.azure.keys, &cx.call, &cx.key_store()?.uri);
        let (key, policy) = match action {
            Change::Create => match keys.create(call, uri, &self.name, &self.key_spec(cx)).await {
                // A fresh key has Azure's own policy already, and what is in it stays.
                Ok(key) => (Box::new(key), self.policy(cx).await?),
                Err(error) if error.kind == AzureErrorKind::SoftDeleted => {
                    return Err(self.soft_deleted().with_azure(error.detail()).into());
                }
                Err(error) => return Err(error.into()),
            },
            Change::Rotate(key, policy) => {
                keys.set_rotation_policy(call, uri, &self.name, &policy).await?;
                // Azure took it; its spelling in the answer may differ and would look like another wish.
                (key, policy)
            }
        };
        Ok(Acted::Seen(Seen::Found { key, policy, at: cx.now() }))
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, cx: &StepContext<'_>) {
        if let Seen::Found { key, .. } = seen {
            let created = key.tags.get(JOB_TAG).is_some_and(|job| *job == cx.job_id.to_string());
            facts.key = Some(KeyFact { id: key.id.clone(), created });
        }
    }

    /// Access can flap while it spreads over the store's nodes, also after it was seen once.
    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        Moment::of(cx).store_refusal(error.kind, self.access_timeout.approximate(), self.store.name())
    }
}

impl EnsureKey {
    /// The key's rotation policy; empty where it has none or none is asked for.
    async fn policy(&self, cx: &StepContext<'_>) -> Result<RotationPolicy, StepError> {
        if self.rotation.is_none() {
            return Ok(RotationPolicy::default());
        }
        let policy = cx.azure.keys.rotation_policy(&cx.call, &cx.key_store()?.uri, &self.name).await?;
        Ok(policy.unwrap_or_default())
    }

    fn key_spec(&self, cx: &StepContext<'_>) -> KeySpec {
        let mut tags = self.tags.clone();
        tags.insert(JOB_TAG.to_owned(), cx.job_id.to_string());
        KeySpec {
            kty: wanted_type(self.key_type),
            size_bits: self.is_rsa().then(|| self.size.into()),
            curve: None,
            operations: self.operations.iter().copied().map(wanted_operation).collect(),
            expires: None,
            not_before: None,
            tags,
        }
    }

    fn is_rsa(&self) -> bool {
        matches!(self.key_type, KeyType::Rsa | KeyType::RsaHsm)
    }

    fn soft_deleted(&self) -> Failure {
        let message = format!("a deleted key holds the name {} in {}", self.name, self.store.name());
        Failure::new(Code::KeySoftDeleted, message)
    }

    /// Why an existing key is not the one asked for, if it is not.
    fn misfit(&self, key: &KeyInfo, now: OffsetDateTime) -> Option<Failure> {
        let mut differs = Vec::new();
        if key.kty != wanted_type(self.key_type) {
            differs.push(format!("its type is not {}", self.key_type.as_str()));
        } else if self.is_rsa() && key.size_bits != Some(self.size.into()) {
            let size = key.size_bits.map_or("unknown".to_owned(), |bits| format!("{bits} bits"));
            differs.push(format!("its size is {size} and not {} bits", self.size));
        }
        let lacking = self.operations.iter().filter(|op| !key.operations.contains(&wanted_operation(**op)));
        let lacking: Vec<&str> = lacking.map(|op| op.as_str()).collect();
        if !lacking.is_empty() {
            differs.push(format!("it may not be used to: {}", lacking.join(", ")));
        }
        let named = |what: &str| format!("the key {} exists in {}, but {what}", self.name, self.store.name());
        if !differs.is_empty() {
            return Some(Failure::new(Code::KeyMismatch, named(&differs.join("; "))));
        }
        let unusable = match key {
            key if !key.enabled => "it is disabled",
            key if key.expires.is_some_and(|at| at <= now) => "it has expired",
            key if key.not_before.is_some_and(|at| at > now) => "it is not valid yet",
            _ => return None,
        };
        Some(Failure::new(Code::KeyDisabled, named(unusable)))
    }

    fn judge_policy(&self, key: &KeyInfo, policy: &RotationPolicy) -> Decision<Change> {
        let Some(rotation) = &self.rotation else { return Decision::Satisfied };
        if policy.rotate_after_create.as_deref().is_some_and(|found| is_same(found, &rotation.every)) {
            return Decision::Satisfied;
        }
        // A policy has one rotation, after creation or before expiry. What else is in it stays.
        let policy = RotationPolicy {
            rotate_after_create: Some(rotation.every.as_str().to_owned()),
            rotate_before_expiry: None,
            ..policy.clone()
        };
        Decision::Act(Change::Rotate(Box::new(key.clone()), policy))
    }
}

/// Whether Azure's text means the duration; `P7D` and `P1W` are the same, `P1Y` and `P12M` are not taken to be.
fn is_same(found: &str, wanted: &IsoDuration) -> bool {
    IsoDuration::parse(found).is_some_and(|found| {
        found.approximate() == wanted.approximate() && found.has_calendar_units() == wanted.has_calendar_units()
    })
}

const fn wanted_type(key_type: KeyType) -> keys::KeyType {
    match key_type {
        KeyType::Rsa => keys::KeyType::Rsa,
        KeyType::RsaHsm => keys::KeyType::RsaHsm,
        KeyType::Ec => keys::KeyType::Ec,
        KeyType::EcHsm => keys::KeyType::EcHsm,
    }
}

const fn wanted_operation(operation: KeyOperation) -> keys::KeyOperation {
    match operation {
        KeyOperation::Decrypt => keys::KeyOperation::Decrypt,
        KeyOperation::Encrypt => keys::KeyOperation::Encrypt,
        KeyOperation::Sign => keys::KeyOperation::Sign,
        KeyOperation::UnwrapKey => keys::KeyOperation::UnwrapKey,
        KeyOperation::Verify => keys::KeyOperation::Verify,
        KeyOperation::WrapKey => keys::KeyOperation::WrapKey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::request::Rotation;
    use crate::steps::testing;
    use std::collections::BTreeMap;
    use time::Duration;

    fn step(every: Option<&str>) -> EnsureKey {
        let duration = |text| IsoDuration::parse(text).expect("a duration");
        EnsureKey {
            store: testing::store(),
            name: "k".into(),
            key_type: KeyType::Rsa,
            size: 4096,
            operations: vec![KeyOperation::WrapKey, KeyOperation::UnwrapKey],
            rotation: every.map(|text| Rotation { every: duration(text) }),
            access_timeout: duration("PT20M"),
            tags: BTreeMap::new(),
        }
    }

    fn key() -> KeyInfo {
        KeyInfo {
            id: testing::key_id(),
            kty: keys::KeyType::Rsa,
            size_bits: Some(4096),
            curve: None,
            operations: vec![keys::KeyOperation::UnwrapKey, keys::KeyOperation::WrapKey, keys::KeyOperation::Sign],
            enabled: true,
            expires: None,
            not_before: None,
            tags: BTreeMap::new(),
            request_id: None,
        }
    }

    fn found(key: KeyInfo, policy: RotationPolicy) -> Seen {
        Seen::Found { key: Box::new(key), policy, at: testing::NOW }
    }

    fn with(change: impl FnOnce(&mut KeyInfo)) -> Seen {
        let mut key = key();
        change(&mut key);
        found(key, RotationPolicy::default())
    }

    #[test]
    fn a_key_is_created_once_and_never_replaced() {
        let second = Duration::SECOND;
        let table = [
            (Seen::Absent, "act"),
            (Seen::Deleted, "refuse key-soft-deleted"),
            (with(|_| {}), "satisfied"),
            (with(|k| k.kty = keys::KeyType::RsaHsm), "refuse key-mismatch"),
            (with(|k| k.size_bits = Some(2048)), "refuse key-mismatch"),
            (with(|k| k.size_bits = None), "refuse key-mismatch"),
            (with(|k| k.operations = vec![keys::KeyOperation::WrapKey]), "refuse key-mismatch"),
            (with(|k| k.enabled = false), "refuse key-disabled"),
            (with(|k| k.expires = Some(testing::NOW)), "refuse key-disabled"),
            (with(|k| k.expires = Some(testing::NOW + second)), "satisfied"),
            (with(|k| k.not_before = Some(testing::NOW)), "satisfied"),
            (with(|k| k.not_before = Some(testing::NOW + second)), "refuse key-disabled"),
        ];
        for (seen, want) in table {
            assert_eq!(testing::told(step(None).decide(&seen, &Facts::default())), want, "{seen:?}");
        }
    }

    #[test]
    fn a_rotation_policy_is_set_where_it_differs_and_keeps_what_else_is_in_it() {
        let rotate = |every: &str| RotationPolicy { rotate_after_create: Some(every.into()), ..Default::default() };
        let decide = |every, policy| step(every).decide(&found(key(), policy), &Facts::default());
        assert_eq!(decide(None, rotate("P30D")), Decision::Satisfied);
        assert_eq!(decide(Some("P1Y"), rotate("P1Y")), Decision::Satisfied);
        assert_eq!(decide(Some("P7D"), rotate("P1W")), Decision::Satisfied);
        assert!(matches!(decide(Some("P1Y"), rotate("P365D")), Decision::Act(_)));
        let other = RotationPolicy {
            rotate_before_expiry: Some("P30D".into()),
            notify_before_expiry: Some("P10D".into()),
            expire_after: Some("P2Y".into()),
            ..Default::default()
        };
        let want =
            RotationPolicy { rotate_after_create: Some("P1Y".into()), rotate_before_expiry: None, ..other.clone() };
        assert_eq!(decide(Some("P1Y"), other), Decision::Act(Change::Rotate(Box::new(key()), want)));
    }

    #[test]
    fn a_misfit_is_told_before_a_policy_is_set() {
        let seen = with(|k| k.enabled = false);
        assert_eq!(testing::told(step(Some("P1Y")).decide(&seen, &Facts::default())), "refuse key-disabled");
    }
}
