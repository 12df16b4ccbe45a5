//! Makes sure that the key exists, once, and fits.
//!
//! What belongs here: the key, or the one version of it that the request names, and its rotation policy. A key that exists
//! is judged and never replaced: creating a name that exists would make a new version. What does not: using the key.

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
        /// Its latest version, or the one that is asked for.
        key: Box<KeyInfo>,
        /// Its rotation policy; empty where it has none or none is asked for.
        policy: RotationPolicy,
        /// When the look was.
        at: OffsetDateTime,
    },
    /// A deleted key holds the name.
    Deleted,
    /// The name is free, or the key has not the version that is asked for.
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
        let Some(key) = keys.get(call, uri, &self.name, self.version.as_deref()).await? else {
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
            Seen::Absent => match &self.version {
                Some(version) => Decision::Refuse(self.no_version(version)),
                None => Decision::Act(Change::Create),
            },
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
            // A date that is computed once and not compared again: a later run finds a key that expires, which fits.
            expires: self.expires_after.as_ref().and_then(|life| life.after(cx.now())),
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

    fn no_version(&self, version: &str) -> Failure {
        let message = format!("{} has no version {version} of the key {}", self.store.name(), self.name);
        Failure::new(Code::KeyVersionNotFound, message)
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
        if self.never_expires && key.expires.is_some() {
            differs.push("it has an expiration date, and the service takes keys without one only".to_owned());
        }
        if self.expires_after.is_some() && key.expires.is_none() {
            differs.push("it never expires".to_owned());
        }
        let version = self.version.as_deref().map(|version| format!("version {version} of ")).unwrap_or_default();
        let named = |what: &str| format!("{version}the key {} exists in {}, but {what}", self.name, self.store.name());
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
        let is = |found: &Option<String>, wanted: &IsoDuration| found.as_deref().is_some_and(|f| is_same(f, wanted));
        let is_or_any = |found: &Option<String>, wanted: &Option<IsoDuration>| {
            wanted.as_ref().is_none_or(|wanted| is(found, wanted))
        };
        if is(&policy.rotate_after_create, &rotation.every)
            && is_or_any(&policy.notify_before_expiry, &rotation.notify_before_expiry)
            && is_or_any(&policy.expire_after, &self.expires_after)
        {
            return Decision::Satisfied;
        }
        let text = |wanted: &IsoDuration| wanted.as_str().to_owned();
        let or =
            |wanted: &Option<IsoDuration>, found: &Option<String>| wanted.as_ref().map(text).or_else(|| found.clone());
        // A policy has one rotation, after creation or before expiry. What is in it and not asked for stays.
        let policy = RotationPolicy {
            rotate_after_create: Some(text(&rotation.every)),
            rotate_before_expiry: None,
            notify_before_expiry: or(&rotation.notify_before_expiry, &policy.notify_before_expiry),
            expire_after: or(&self.expires_after, &policy.expire_after),
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
