//! Reads everything again and proves the binding.
//!
//! What belongs here: the last look, which trusts nothing that earlier steps said, and the evidence it leaves. What does
//! not: repairing what it finds.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::binding::{Wanted, descriptor, holder, read_target};
use super::spec::Verify;
use super::windows::{Moment, READ_LAG};
use super::{Acted, Decision, NotYet, Step, StepContext, StepError, WaitReason};
use crate::azure::keys::KeyInfo;
use crate::azure::managed_hsms;
use crate::azure::role_assignments::{self, RoleAssignment};
use crate::azure::vaults::{self, Vault};
use crate::azure::{AzureError, AzureErrorKind};
use crate::domain::codes::Code;
use crate::domain::facts::{Evidence, Facts};
use crate::domain::failure::Failure;
use crate::domain::ids::{KeyId, PrincipalId};
use crate::domain::request::IdentityKind;
use crate::services::rules::identity_word;
use crate::services::{BoundIdentity, IdentityOn, ReadBack, ResourceState, ServiceDescriptor, Verdict, has_identity};

/// How long the store may refuse our own read: access was seen already and can only flap.
const FLAPPING: Duration = Duration::from_secs(300);
/// How long to wait until a target that follows the latest version uses it. A service looks for a new version about once
/// a day, so an older version of the same key proves the binding too, once it is clear that it is not just a late read.
const FOLLOWING: Duration = Duration::from_secs(30);
/// How long a service may say that it is at work on its key. None tells how long it takes (UNVERIFIED).
const UNDER_WAY: Duration = Duration::from_secs(3600);

/// Everything that proves the binding, read again.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    target: Option<Value>,
    vault: Option<Vault>,
    grants: Vec<RoleAssignment>,
    key: Option<KeyInfo>,
    request_ids: Vec<String>,
    at: OffsetDateTime,
    /// How long the step has been waiting for late reads.
    waited: Duration,
}

impl Step for Verify {
    type Seen = Seen;
    type Action = std::convert::Infallible;

    fn doing(&self) -> String {
        format!("verifying the key of {}", self.target.name())
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let (arm, call) = (&cx.azure.arm, &cx.call);
        let wanted = Wanted::new(self.identity_kind, self.version, cx.facts)?;
        let target = read_target(cx, &self.service, &self.target).await?;
        let principal = cx.identity()?.principal_id;
        let (vault, grants) = match &self.local_scope {
            Some(scope) => {
                let roles = cx.azure.local_roles.list_for_principal(call, &wanted.store_uri, scope, principal);
                (managed_hsms::get(arm, call, &self.store).await?, roles.await?)
            }
            None => {
                let roles = role_assignments::list_for_principal(arm, call, &self.store, principal);
                (vaults::get(arm, call, &self.store).await?, roles.await?)
            }
        };
        let key = cx.azure.keys.get(call, &wanted.store_uri, &wanted.key_name, wanted.version.as_deref()).await?;
        let ids = [
            target.as_ref().and_then(|t| t.request_id.clone()),
            vault.as_ref().and_then(|v| v.request_id.clone()),
            key.as_ref().and_then(|k| k.request_id.clone()),
        ];
        Ok(Seen {
            target: target.map(|answer| answer.body),
            vault,
            grants,
            key,
            request_ids: ids.into_iter().flatten().collect(),
            at: cx.now(),
            waited: cx.waited(),
        })
    }

    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action> {
        let found = descriptor(&self.service)
            .and_then(|descriptor| Ok((descriptor, Wanted::new(self.identity_kind, self.version, facts)?)));
        let (descriptor, wanted) = match found {
            Ok(found) => found,
            Err(failure) => return Decision::Refuse(failure),
        };
        let read = seen.target.as_ref().map(|target| descriptor.read_back.read(target));
        let mut differences = self.store_differences(seen);
        let reports = descriptor.read_back.key_in_use.is_some();
        differences.extend(self.target_differences(seen, read.as_ref(), &wanted, reports));
        let granted = facts.identity.as_ref().map(|identity| identity.principal_id);
        differences.extend(self.identity_differences(seen, descriptor, &wanted, granted));
        if let Some(ReadBack { verdict: Verdict::UnderWay(_), .. }) = &read
            && seen.waited < UNDER_WAY
        {
            let text = format!("{} is at work on its key", self.target.name());
            return Decision::Wait(WaitReason::new("azure-operation", text));
        }
        let Some(first) = differences.first() else { return Decision::Satisfied };
        if seen.waited < READ_LAG {
            let text = format!("The read-back may be late: {first}");
            return Decision::Wait(WaitReason::new("read-lag", text));
        }
        Decision::Refuse(Failure::new(Code::BindingNotProven, differences.join("; ")))
    }

    async fn act(&self, action: Self::Action, _cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        match action {}
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        let Some((descriptor, target)) = descriptor(&self.service).ok().zip(seen.target.as_ref()) else { return };
        let read = descriptor.read_back.read(target);
        let identity = facts.identity.as_ref();
        facts.evidence = Some(Evidence {
            target: self.target.as_str().to_owned(),
            key_id: read.key_in_use.clone().unwrap_or_else(|| reference(&read)),
            follows_rotation: read.pinned_version.is_none() && descriptor.follows_versions,
            identity: match identity.and_then(|i| i.resource_id.as_ref()) {
                Some(id) if self.identity_kind == IdentityKind::UserAssigned => id.as_str().to_owned(),
                _ => identity_word(self.identity_kind).to_owned(),
            },
            verified_at: seen.at,
            azure_request_ids: seen.request_ids.clone(),
        });
    }

    fn not_yet(&self, error: &AzureError, cx: &StepContext<'_>) -> Option<NotYet> {
        // Management-plane refusals are final; only the store's own come and go.
        let from_store = error.inner_code.is_some() || error.kind != AzureErrorKind::Forbidden;
        let moment = Moment { granted_at: None, ..Moment::of(cx) };
        from_store.then(|| moment.store_refusal(error.kind, FLAPPING, self.store.name())).flatten()
    }
}

impl Verify {
    fn store_differences(&self, seen: &Seen) -> Vec<String> {
        let name = self.store.name();
        let mut found = Vec::new();
        match &seen.vault {
            None => found.push(format!("{name} does not exist")),
            Some(vault) => {
                if !vault.purge_protection || !vault.soft_delete {
                    found.push(format!("{name} has no purge protection"));
                }
                if !vault.rbac {
                    found.push(format!("{name} decides on access by access policies"));
                }
            }
        }
        if !seen.grants.iter().any(|g| g.role == self.role.id && !g.conditional) {
            found.push(format!("the identity does not hold the role {} on {name}", self.role.name));
        }
        match &seen.key {
            None => found.push(format!("the key does not exist in {name}")),
            Some(key) if !key.enabled => found.push(format!("the key {} is disabled", key.id.name)),
            Some(_) => {}
        }
        found
    }

    /// An identity that the type does not name beside the key has to be attached, and be the one that was granted.
    fn identity_differences(
        &self,
        seen: &Seen,
        descriptor: &ServiceDescriptor,
        wanted: &Wanted,
        granted: Option<PrincipalId>,
    ) -> Vec<String> {
        if descriptor.identity_on == IdentityOn::Named {
            return Vec::new();
        }
        let Some(target) = &seen.target else { return Vec::new() };
        let (name, holder) = (self.target.name(), holder(descriptor, target));
        if !holder.is_some_and(|h| has_identity(h, &wanted.identity, descriptor)) {
            return vec![format!("{name}: the identity is not attached to it")];
        }
        let own = holder.and_then(|h| descriptor.principal_of(h));
        if wanted.identity == BoundIdentity::SystemAssigned && own.is_some() && own != granted {
            return vec![format!("{name}: its own identity is another one than was granted access")];
        }
        Vec::new()
    }

    /// `reports`: the type reports the version in use. Where it does not, the reference is what there is to prove.
    fn target_differences(&self, seen: &Seen, read: Option<&ReadBack>, wanted: &Wanted, reports: bool) -> Vec<String> {
        let name = self.target.name();
        let Some(read) = read else { return vec![format!("{name} does not exist")] };
        let mut found: Vec<String> = wanted.differences(read).iter().map(|d| format!("{name}: {d}")).collect();
        if read.state != ResourceState::Ready {
            found.push(format!("{name} is not in a ready state"));
        }
        if let Verdict::UnderWay(words) | Verdict::Bad(words) = &read.verdict {
            found.push(format!("{name} says of its key: {words}"));
        }
        let in_use = read.key_in_use.as_deref().and_then(KeyId::parse);
        match in_use {
            None if !reports => {}
            None => found.push(format!("{name} does not report a key in use yet")),
            Some(kid) if !wanted.is_in_use(&kid) => found.push(format!("{name} reports the key {kid} in use")),
            Some(kid) => {
                let version = wanted.version.as_ref().or(seen.key.as_ref().and_then(|k| k.id.version.as_ref()));
                let may_follow_later = wanted.version.is_none() && seen.waited >= FOLLOWING && kid.version.is_some();
                if kid.version.as_ref() != version && !may_follow_later {
                    found.push(format!("{name} reports the version {} in use", kid.version.unwrap_or_default()));
                }
            }
        }
        found
    }
}

/// The reference to the key as it was read.
fn reference(read: &ReadBack) -> String {
    let store = read.store_uri.as_deref().unwrap_or_default().trim_end_matches('/');
    let version = read.pinned_version.as_deref().map(|v| format!("/{v}")).unwrap_or_default();
    format!("{store}/keys/{}{version}", read.key_name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::keys::KeyType;
    use crate::azure::vaults::{Activation, NetworkAcls, PublicAccess, VaultSku};
    use crate::domain::request::KeyVersion;
    use crate::services::CRYPTO_SERVICE_ENCRYPTION_USER;
    use crate::steps::testing;
    use serde_json::json;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn step(version: KeyVersion) -> Verify {
        Verify {
            service: "storage-account".into(),
            target: testing::target(),
            store: testing::store(),
            identity_kind: IdentityKind::UserAssigned,
            version,
            role: CRYPTO_SERVICE_ENCRYPTION_USER,
            local_scope: None,
        }
    }

    /// Everything as it is to be.
    fn seen() -> Seen {
        let vault = Vault {
            uri: testing::STORE_URI.into(),
            location: "uksouth".into(),
            tenant_id: Uuid::nil(),
            sku: VaultSku::Standard,
            rbac: true,
            soft_delete: true,
            purge_protection: true,
            retention_days: 90,
            network: NetworkAcls { default_allow: true, bypass_trusted: true, ip_rules: vec![], subnets: vec![] },
            public_access: PublicAccess::Enabled,
            private_endpoints: 0,
            activation: Activation::Done,
            provisioning_state: None,
            tags: BTreeMap::new(),
            request_id: Some("r-2".into()),
        };
        let grant = RoleAssignment {
            id: "a".into(),
            role: CRYPTO_SERVICE_ENCRYPTION_USER.id,
            principal_id: testing::principal(),
            scope: testing::store().as_str().to_owned(),
            conditional: false,
        };
        let key = KeyInfo {
            id: testing::key_id(),
            kty: KeyType::Rsa,
            size_bits: Some(4096),
            curve: None,
            operations: vec![],
            enabled: true,
            expires: None,
            not_before: None,
            tags: BTreeMap::new(),
            request_id: Some("r-3".into()),
        };
        Seen {
            target: Some(testing::account("Succeeded", Some("k"))),
            vault: Some(vault),
            grants: vec![grant],
            key: Some(key),
            request_ids: vec!["r-1".into(), "r-2".into(), "r-3".into()],
            at: testing::NOW,
            waited: Duration::ZERO,
        }
    }

    fn told(version: KeyVersion, seen: &Seen) -> String {
        testing::told(step(version).decide(seen, &testing::facts()))
    }

    /// The account with this text as the key in use.
    fn in_use(kid: &str) -> Option<Value> {
        let mut account = testing::account("Succeeded", Some("k"));
        account["properties"]["encryption"]["keyvaultproperties"]["currentVersionedKeyIdentifier"] = json!(kid);
        Some(account)
    }

    #[test]
    fn every_part_is_proved_and_a_difference_may_only_be_late() {
        assert_eq!(told(KeyVersion::Latest, &seen()), "satisfied");
        let change = |change: &dyn Fn(&mut Seen)| {
            let mut seen = seen();
            change(&mut seen);
            seen
        };
        let vault = |change: &dyn Fn(&mut Vault)| {
            let mut seen = seen();
            seen.vault.as_mut().map(change);
            seen
        };
        let bad = [
            change(&|s| s.target = None),
            change(&|s| s.target = Some(testing::account("Succeeded", None))),
            change(&|s| s.target = Some(testing::account("Succeeded", Some("other")))),
            change(&|s| s.target = Some(testing::account("Updating", Some("k")))),
            change(&|s| s.target = in_use("")),
            change(&|s| s.target = in_use(&format!("{}/keys/other/{}", testing::STORE_URI, testing::VERSION))),
            change(&|s| s.target = in_use(&format!("https://kv-2.vault.azure.net/keys/k/{}", testing::VERSION))),
            change(&|s| s.vault = None),
            vault(&|v| v.purge_protection = false),
            vault(&|v| v.soft_delete = false),
            vault(&|v| v.rbac = false),
            change(&|s| s.grants.clear()),
            change(&|s| s.grants[0].conditional = true),
            change(&|s| s.key = None),
            change(&|s| s.key.iter_mut().for_each(|k| k.enabled = false)),
        ];
        for mut seen in bad {
            assert_eq!(told(KeyVersion::Latest, &seen), "wait read-lag", "{seen:?}");
            seen.waited = READ_LAG;
            assert_eq!(told(KeyVersion::Latest, &seen), "refuse binding-not-proven", "{seen:?}");
        }
    }

    #[test]
    fn what_the_service_says_of_its_key_counts() {
        let mut step = Verify { service: "synapse-workspace".into(), ..step(KeyVersion::Latest) };
        step.identity_kind = IdentityKind::UserAssigned;
        let says = |status: &str, waited: Duration| {
            let mut target = json!({ "identity": { "type": "UserAssigned",
                    "userAssignedIdentities": { testing::identity().as_str(): {} } },
                "properties": { "provisioningState": "Succeeded", "encryption": { "cmk": {
                    "key": { "keyVaultUrl": format!("{}/keys/k", testing::STORE_URI) },
                    "kekIdentity": { "userAssignedIdentity": testing::identity().as_str() } } } } });
            if !status.is_empty() {
                target["properties"]["encryption"]["cmk"]["status"] = json!(status);
            }
            let seen = Seen { target: Some(target), waited, ..seen() };
            testing::told(step.decide(&seen, &testing::facts()))
        };
        for (status, waited, want) in [
            ("", Duration::ZERO, "satisfied"),
            ("Consistent", Duration::ZERO, "satisfied"),
            ("ActivatingWorkspace", READ_LAG, "wait azure-operation"),
            ("ActivatingWorkspace", UNDER_WAY, "refuse binding-not-proven"),
            ("AwaitingUserAction", Duration::ZERO, "wait read-lag"),
            ("AwaitingUserAction", READ_LAG, "refuse binding-not-proven"),
        ] {
            assert_eq!(says(status, waited), want, "{status:?}");
        }
    }

    #[test]
    fn an_older_version_of_a_followed_key_is_proof_once_it_is_not_just_late() {
        let older = in_use(&format!("{}/keys/k/ffffffffffffffffffffffffffffffff", testing::STORE_URI));
        let mut seen = Seen { target: older, ..seen() };
        assert_eq!(told(KeyVersion::Latest, &seen), "wait read-lag");
        seen.waited = FOLLOWING;
        assert_eq!(told(KeyVersion::Latest, &seen), "satisfied");
        seen.waited = READ_LAG;
        assert_eq!(told(KeyVersion::Pinned, &seen), "refuse binding-not-proven");
    }
}
