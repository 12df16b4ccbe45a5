//! The target and its binding, as several step kinds need them.
//!
//! What belongs here: reading a target, the identity it is to use, and what an answer to a change of it means. What does
//! not: deciding anything about it.

use serde_json::Value;

use super::context::missing;
use super::ensure_key_store::JOB_TAG;
use super::windows::{Moment, READ_LAG};
use super::{Acted, NotYet, StepContext, StepError, WaitReason};
use crate::azure::{Answer, AzureError, AzureErrorKind, resources};
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::ids::{ArmId, JobId, KeyId, same_store_uri};
use crate::domain::request::{IdentityKind, KeyVersion};
use crate::services::{
    self, Binding, BoundIdentity, IdentityOn, ReadBack, ReadIdentity, ServiceDescriptor, merged_identity,
};

/// The descriptor that the plan was made with.
pub(super) fn descriptor(slug: &str) -> Result<&'static ServiceDescriptor, Failure> {
    services::find(slug).ok_or_else(|| Failure::new(Code::StepDefect, format!("the service {slug} is not known")))
}

/// The target as a step that changes it finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its body; `None` where it does not exist. See [`read_target`].
    pub(super) target: Option<Value>,
    /// Whether the step changed it before, and no operation tells any more how that ended.
    pub(super) changed: bool,
    /// Whether that was so short a time ago that reads may be late.
    pub(super) just_changed: bool,
    /// How many changes Azure has accepted for this step.
    pub(super) changes: u32,
    /// How many of the resources exist that are made on the way to the setting.
    pub(super) made: usize,
    /// Whether its tags say that this job created it.
    pub(super) ours: bool,
}

/// Looks at the target on behalf of a step that changes it.
pub(super) async fn look(cx: &StepContext<'_>, slug: &str, target: &ArmId) -> Result<Seen, StepError> {
    Ok(seen(cx, read_target(cx, slug, target).await?.map(|answer| answer.body)))
}

fn seen(cx: &StepContext<'_>, target: Option<Value>) -> Seen {
    Seen {
        ours: target.as_ref().is_some_and(|target| is_ours(target, cx.job_id)),
        target,
        changed: cx.progress.is_some(),
        just_changed: cx.changed_within(READ_LAG),
        changes: cx.progress.map_or(0, |p| p.changes),
        made: 0,
    }
}

/// Whether this job created the target in a write without the key. What a job is told of that is in the target's own tags:
/// facts are lost when a worker dies between the write and its record.
pub(super) fn is_ours(target: &Value, job: JobId) -> bool {
    target.get("tags").and_then(|tags| tags.get(JOB_TAG)).and_then(Value::as_str) == Some(job.to_string().as_str())
}

/// Looks at the holder of the target's identity, which is the target or what it lies in.
pub(super) async fn look_at_holder(cx: &StepContext<'_>, slug: &str, target: &ArmId) -> Result<Seen, StepError> {
    let descriptor = descriptor(slug)?;
    let id = holder_elsewhere(descriptor, target)?.unwrap_or_else(|| target.clone());
    let found = resources::get(&cx.azure.arm, &cx.call, &id, &descriptor.api_version).await?;
    Ok(seen(cx, found.map(|answer| answer.body)))
}

/// Reads the target. Where its setting or the holder of its identity is a resource of its own, that one's body stands in
/// the target's as `$setting` or `$holder`, and is absent where it does not exist.
pub(super) async fn read_target(cx: &StepContext<'_>, slug: &str, target: &ArmId) -> Result<Option<Answer>, StepError> {
    let descriptor = descriptor(slug)?;
    let read = async |id: &ArmId| resources::get(&cx.azure.arm, &cx.call, id, &descriptor.api_version).await;
    let Some(mut answer) = read(target).await? else { return Ok(None) };
    if let Some(at) = &descriptor.setting_at {
        let setting = read(&below(target, at)?).await?;
        answer.body["$setting"] = setting.map(|a| a.body).unwrap_or_default();
    }
    if let Some(holder) = holder_elsewhere(descriptor, target)? {
        answer.body["$holder"] = read(&holder).await?.map(|a| a.body).unwrap_or_default();
    }
    Ok(Some(answer))
}

/// The holder of the identity, where that is another resource than the target.
pub(super) fn holder_elsewhere(descriptor: &ServiceDescriptor, target: &ArmId) -> Result<Option<ArmId>, Failure> {
    if descriptor.identity_on != IdentityOn::Parent {
        return Ok(None);
    }
    let holder = descriptor.identity_holder(target);
    holder.map(Some).ok_or_else(|| Failure::new(Code::StepDefect, format!("{target} lies in no other resource")))
}

/// A resource below the target.
pub(super) fn below(target: &ArmId, at: &str) -> Result<ArmId, Failure> {
    target.child(at).map_err(|_| Failure::new(Code::StepDefect, format!("{at} is no path below a resource")))
}

/// The body of the identity's holder in the target's.
pub(super) fn holder<'t>(descriptor: &ServiceDescriptor, target: &'t Value) -> Option<&'t Value> {
    match descriptor.identity_on {
        IdentityOn::Target | IdentityOn::Named => Some(target),
        IdentityOn::Parent => target.get("$holder").filter(|h| !h.is_null()),
    }
}

/// What an answer to a PUT or PATCH of the target means. `whole`: the answer is all that a look would see.
pub(super) fn acted(answer: Answer, whole: bool, job: JobId) -> Acted<Seen> {
    if answer.operation.is_some() || answer.status == 202 || !whole {
        return Acted::Accepted { operation: answer.operation, retry_after: answer.retry_after };
    }
    match answer.body {
        body @ Value::Object(_) => Acted::Seen(Seen {
            ours: is_ours(&body, job),
            target: Some(body),
            changed: true,
            just_changed: true,
            changes: 1,
            made: 0,
        }),
        _ => Acted::Done,
    }
}

/// What a step waits for whose change does not read back yet.
pub(super) fn late(target: &ArmId) -> WaitReason {
    WaitReason::new("read-lag", format!("{} was changed, and the change cannot be read back yet", target.name()))
}

/// What a step waits for that finds the target being changed.
pub(super) fn busy(target: &ArmId, by_us: bool) -> WaitReason {
    if by_us {
        WaitReason::new("azure-operation", format!("Azure is at work on {}", target.name()))
    } else {
        WaitReason::new("resource-busy", format!("{} is being changed by another operation", target.name()))
    }
}

/// The failure of a target that must exist and does not.
pub(super) fn not_found(target: &ArmId) -> Failure {
    Failure::new(Code::TargetNotFound, format!("{} does not exist", target.as_str()))
}

/// The failure of a target with an identity that leaves no place for the one that is to be used.
pub(super) fn identity_in_the_way(descriptor: &ServiceDescriptor, target: &ArmId) -> Failure {
    let (name, words) = (target.name(), descriptor.identities.words());
    let message = format!("{name} has another identity, and the service {words}; none is taken away here");
    Failure::new(Code::TargetUnsuitable, message)
}

/// The identity that the target is to use for its key.
pub(super) fn bound_identity(kind: IdentityKind, facts: &Facts) -> Result<BoundIdentity, Failure> {
    match kind {
        IdentityKind::UserAssigned => {
            let fact = facts.identity.as_ref().ok_or_else(|| missing("identity"))?;
            let id = fact.resource_id.clone().ok_or_else(|| missing("identity's id"))?;
            Ok(BoundIdentity::UserAssigned { id, client_id: fact.client_id })
        }
        IdentityKind::SystemAssigned => Ok(BoundIdentity::SystemAssigned),
        IdentityKind::Platform => Ok(BoundIdentity::Platform),
    }
}

/// The reference that the target is to have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// Base URI of the key store.
    pub store_uri: String,
    /// The key's name.
    pub key_name: String,
    /// The version to pin; `None` follows the latest.
    pub version: Option<String>,
    /// The version that was current when the key was looked at.
    pub current: String,
    /// The identity.
    pub identity: BoundIdentity,
}

impl Wanted {
    /// From what earlier steps learned.
    pub fn new(kind: IdentityKind, version: KeyVersion, facts: &Facts) -> Result<Self, Failure> {
        let store = facts.key_store.as_ref().ok_or_else(|| missing("key store"))?;
        let key = facts.key.as_ref().ok_or_else(|| missing("key"))?;
        let current = key.id.version.clone().ok_or_else(|| missing("key's version"))?;
        let version = (version == KeyVersion::Pinned).then(|| current.clone());
        let identity = bound_identity(kind, facts)?;
        Ok(Self { store_uri: store.uri.clone(), key_name: key.id.name.clone(), version, current, identity })
    }

    /// Whether the target uses the key, whatever the version and the identity.
    pub fn uses_key(&self, read: &ReadBack) -> bool {
        read.customer_managed
            && read.store_uri.as_deref().is_some_and(|uri| same_store_uri(uri, &self.store_uri))
            && read.key_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&self.key_name))
    }

    /// What differs, in words; nothing where the reference is as it is to be.
    pub fn differences(&self, read: &ReadBack) -> Vec<String> {
        let mut found = Vec::new();
        if !self.uses_key(read) {
            found.push(format!("it does not use the key {} of {}", self.key_name, self.store_uri));
        }
        if read.divided {
            found.push("it does not use the key for all that has one".to_owned());
        }
        match (&self.version, &read.pinned_version) {
            (None, Some(pinned)) => found.push(format!("it is pinned to version {pinned}")),
            (Some(version), pinned) if pinned.as_ref() != Some(version) => {
                found.push(format!("it is not pinned to version {version}"));
            }
            _ => {}
        }
        let identity = match (&self.identity, &read.identity) {
            (_, ReadIdentity::Attached)
            | (BoundIdentity::SystemAssigned, ReadIdentity::Own)
            | (BoundIdentity::Platform, ReadIdentity::Platform) => true,
            (BoundIdentity::UserAssigned { id, .. }, ReadIdentity::Resource(other)) => {
                other.eq_ignore_ascii_case(id.as_str())
            }
            (BoundIdentity::UserAssigned { client_id: Some(id), .. }, ReadIdentity::Client(other)) => {
                other.eq_ignore_ascii_case(&id.0.to_string())
            }
            _ => false,
        };
        if !identity {
            found.push(match &self.identity {
                BoundIdentity::UserAssigned { id, .. } => format!("it does not use the identity {} for it", id.name()),
                BoundIdentity::SystemAssigned => "it does not use its own identity for it".to_owned(),
                BoundIdentity::Platform => "it does not use Azure's own principal for it".to_owned(),
            });
        }
        found
    }

    /// What a body is built from. `existing` is the holder's identity member: whatever it has stays attached.
    pub fn binding(&self, descriptor: &ServiceDescriptor, store: &ArmId, existing: Option<&Value>) -> Binding {
        Binding {
            store_uri: self.store_uri.clone(),
            store_id: store.clone(),
            key_name: self.key_name.clone(),
            key_version: self.version.clone(),
            current_version: self.current.clone(),
            identity: self.identity.clone(),
            identity_member: merged_identity(existing, &self.identity, descriptor),
        }
    }

    /// Whether `kid`, the key version that the target reports as in use, is of this key.
    pub fn is_in_use(&self, kid: &KeyId) -> bool {
        kid.same_key(&self.store_uri, &self.key_name)
    }
}

/// Whether a target that was read uses this key, as far as can be told before the key store exists: its URI is not known
/// then; its name, unique in a cloud, is.
pub(super) fn under_key(read: &ReadBack, store: &ArmId, key_name: &str) -> bool {
    let named = read.store_uri.as_deref().and_then(store_name);
    read.customer_managed
        && named.is_some_and(|s| s.eq_ignore_ascii_case(store.name()))
        && read.key_name.as_deref().is_some_and(|k| k.eq_ignore_ascii_case(key_name))
}

/// The name of a key store: the first label of its host.
fn store_name(uri: &str) -> Option<String> {
    let url = url::Url::parse(uri).ok()?;
    url.host_str()?.split('.').next().map(str::to_owned)
}

/// Whether a refused change of the target means that its identity has not reached the service yet.
pub(super) fn identity_lag(error: &AzureError, moment: &Moment, target: &ArmId) -> Option<NotYet> {
    // UNVERIFIED: which code a resource provider answers for an identity that is a few seconds old.
    let named = error.code.as_deref().is_some_and(|c| c.eq_ignore_ascii_case("FailedIdentityOperation"));
    (named || error.kind == AzureErrorKind::PrincipalNotFound)
        .then(|| moment.directory(format!("The identity of {} is not known everywhere yet", target.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::testing;
    use serde_json::json;
    use uuid::Uuid;

    fn answer(status: u16, body: Value) -> Answer {
        Answer { status, body, request_id: None, operation: None, retry_after: None }
    }

    #[test]
    fn an_answer_is_a_look_unless_azure_is_still_at_work() {
        let job = JobId::generate();
        let seen =
            Seen { target: Some(json!({"a": 1})), changed: true, just_changed: true, changes: 1, made: 0, ours: false };
        let accepted = Acted::Accepted { operation: None, retry_after: None };
        assert_eq!(acted(answer(200, json!({"a": 1})), true, job), Acted::Seen(seen));
        assert_eq!(acted(answer(200, json!({"a": 1})), false, job), accepted);
        assert_eq!(acted(answer(200, Value::Null), true, job), Acted::Done);
        assert_eq!(acted(answer(202, Value::Null), true, job), accepted);
    }

    #[test]
    fn differences_are_found_one_by_one() {
        let facts = testing::facts();
        let latest = Wanted::new(IdentityKind::UserAssigned, KeyVersion::Latest, &facts).expect("facts are complete");
        let pinned = Wanted::new(IdentityKind::UserAssigned, KeyVersion::Pinned, &facts).expect("facts are complete");
        let own = Wanted::new(IdentityKind::SystemAssigned, KeyVersion::Latest, &facts).expect("facts are complete");
        let good = testing::read_back();
        let with = |change: &dyn Fn(&mut ReadBack)| {
            let mut read = good.clone();
            change(&mut read);
            read
        };
        assert_eq!(latest.differences(&good), Vec::<String>::new());
        let shouting = with(&|r| {
            r.identity = ReadIdentity::Resource(testing::identity().as_str().to_uppercase());
            r.store_uri = Some("https://KV-1.vault.azure.net:443/".into());
        });
        assert_eq!(latest.differences(&shouting), Vec::<String>::new());
        assert_eq!(pinned.differences(&good).len(), 1);
        assert_eq!(own.differences(&good).len(), 1);
        let client = with(&|r| r.identity = ReadIdentity::Client(Uuid::from_u128(3).to_string()));
        assert_eq!(latest.differences(&client), Vec::<String>::new());
        assert_eq!(own.differences(&with(&|r| r.identity = ReadIdentity::Own)).len(), 0);
        for bad in [
            with(&|r| r.customer_managed = false),
            with(&|r| r.store_uri = Some("https://kv-2.vault.azure.net".into())),
            with(&|r| r.key_name = Some("other".into())),
            with(&|r| r.pinned_version = Some(testing::VERSION.into())),
            with(&|r| r.identity = ReadIdentity::Own),
            with(&|r| r.identity = ReadIdentity::Platform),
            with(&|r| r.identity = ReadIdentity::Client(Uuid::nil().to_string())),
            with(&|r| r.divided = true),
        ] {
            assert_eq!(latest.differences(&bad).len(), 1, "{bad:?}");
        }
        assert_eq!(pinned.differences(&with(&|r| r.pinned_version = Some(testing::VERSION.into()))).len(), 0);
    }

    #[test]
    fn a_plan_in_the_wrong_order_is_a_defect() {
        let failure = Wanted::new(IdentityKind::UserAssigned, KeyVersion::Latest, &Facts::default());
        assert_eq!(failure.map_err(|f| f.code), Err(Code::StepDefect));
    }

    #[test]
    fn a_stores_name_is_its_hosts_first_label() {
        assert_eq!(store_name("https://kv-1.vault.localhost:8443").as_deref(), Some("kv-1"));
        assert_eq!(store_name("no url"), None);
    }
}
