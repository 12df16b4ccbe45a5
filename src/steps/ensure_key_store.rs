//! Makes sure that the key store exists with every protection that a customer-managed key needs.
//!
//! What belongs here: the vault as a resource. A vault that exists is judged and never changed, except that purge
//! protection is turned on where the caller accepted that. What does not: rights and keys.

use uuid::Uuid;

use super::context::missing;
use super::spec::EnsureKeyStore;
use super::windows::READ_LAG;
use super::{Acted, Decision, Step, StepContext, StepError, WaitReason};
use crate::azure::cloud::same_region;
use crate::azure::managed_hsms;
use crate::azure::vaults::{self, Activation, DeletedVault, NetworkAcls, PublicAccess, Vault, VaultSku, VaultSpec};
use crate::azure::{AzureError, AzureErrorKind};
use crate::domain::codes::Code;
use crate::domain::facts::{Facts, KeyStoreFact};
use crate::domain::failure::Failure;
use crate::domain::ids::{ArmId, JobId};
use crate::domain::request::{self, KeyStoreCreate, MANAGED_HSM_TYPE, OnDeletedName};

/// The tag that says which job made something. Facts are lost in a crash between the change and its record; tags are not.
pub(super) const JOB_TAG: &str = "cmk-job";

/// What a look at the vault's name finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The vault.
    Found(Box<Vault>),
    /// A vault that trusts another tenant than the one the service signs in to, which is the target's.
    OtherTenant {
        /// The tenant that it trusts.
        trusted: Uuid,
        /// The service's.
        own: Uuid,
    },
    /// This job made it a moment ago, and it cannot be read yet.
    NotReadableYet,
    /// No vault.
    Absent(Holder),
}

/// Who holds the name of a vault that does not exist.
#[derive(Clone, Debug, PartialEq)]
pub enum Holder {
    /// Nobody, as far as this subscription and region can tell.
    Nobody,
    /// A deleted vault.
    Deleted(DeletedVault),
    /// The service may not look; the answer to the creation will tell.
    Unknown,
}

/// One change of the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Create it.
    Create,
    /// Bring it back.
    Recover,
    /// Turn on purge protection.
    Protect,
}

impl Step for EnsureKeyStore {
    type Seen = Seen;
    type Action = Change;

    fn doing(&self) -> String {
        format!("ensuring the key store {}", self.store.name())
    }

    async fn observe(&self, cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let (arm, call) = (&cx.azure.arm, &cx.call);
        let found = match self.is_hsm() {
            true => managed_hsms::get(arm, call, &self.store).await?,
            false => vaults::get(arm, call, &self.store).await?,
        };
        if let Some(vault) = found {
            let own = cx.azure.own_principal(call).await?.tenant_id;
            return Ok(match vault.tenant_id == own {
                true => Seen::Found(Box::new(vault)),
                false => Seen::OtherTenant { trusted: vault.tenant_id, own },
            });
        }
        if cx.changed_within(READ_LAG) {
            return Ok(Seen::NotReadableYet);
        }
        let Some(create) = &self.create else { return Ok(Seen::Absent(Holder::Unknown)) };
        let (subscription, name) = (self.store.subscription(), self.store.name());
        match vaults::get_deleted(arm, call, subscription, &create.location, name).await {
            Ok(Some(deleted)) => Ok(Seen::Absent(Holder::Deleted(deleted))),
            Ok(None) => Ok(Seen::Absent(Holder::Nobody)),
            Err(error) if error.kind == AzureErrorKind::Forbidden => Ok(Seen::Absent(Holder::Unknown)),
            Err(error) => Err(error.into()),
        }
    }

    fn decide(&self, seen: &Self::Seen, facts: &Facts) -> Decision<Self::Action> {
        match seen {
            Seen::Found(vault) => match self.wrong_region(vault, facts) {
                Some(failure) => Decision::Refuse(failure),
                None => self.judge(vault),
            },
            Seen::OtherTenant { trusted, own } => {
                let message = format!("{} trusts the tenant {trusted}, and not {own}", self.store.name());
                Decision::Refuse(Failure::new(Code::OtherTenant, message))
            }
            Seen::NotReadableYet => {
                let text = format!("{} was made and cannot be read yet", self.store.name());
                Decision::Wait(WaitReason::new("read-lag", text))
            }
            Seen::Absent(_) if self.create.is_none() => {
                let message = format!("{} does not exist", self.store.as_str());
                Decision::Refuse(Failure::new(Code::KeyStoreNotFound, message))
            }
            Seen::Absent(Holder::Nobody | Holder::Unknown) => Decision::Act(Change::Create),
            Seen::Absent(Holder::Deleted(deleted)) => self.judge_deleted(deleted),
        }
    }

    async fn act(&self, action: Self::Action, cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        let vault = match action {
            Change::Protect if self.is_hsm() => {
                let answer = managed_hsms::enable_purge_protection(&cx.azure.arm, &cx.call, &self.store).await?;
                return Ok(match answer.operation.is_some() || answer.status == 202 {
                    true => Acted::Accepted { operation: answer.operation, retry_after: answer.retry_after },
                    false => Acted::Done,
                });
            }
            Change::Protect => vaults::enable_purge_protection(&cx.azure.arm, &cx.call, &self.store).await?,
            Change::Recover => self.recover(cx).await?,
            Change::Create => match self.create(cx).await {
                // The look could not tell. The refused creation changed nothing, so this is still one change.
                Err(StepError::Azure(error))
                    if error.kind == AzureErrorKind::SoftDeleted && self.on_deleted_name == OnDeletedName::Recover =>
                {
                    self.recover(cx).await?
                }
                Err(StepError::Azure(error)) => return Err(self.refused(error)),
                other => other?,
            },
        };
        Ok(Acted::Seen(Seen::Found(Box::new(vault))))
    }

    fn learn(&self, seen: &Self::Seen, facts: &mut Facts, cx: &StepContext<'_>) {
        if let Seen::Found(vault) = seen {
            facts.key_store = Some(KeyStoreFact {
                uri: vault.uri.clone(),
                location: vault.location.clone(),
                tenant_id: vault.tenant_id,
                created: vault.tags.get(JOB_TAG).is_some_and(|job| *job == cx.job_id.to_string()),
            });
        }
    }
}

impl EnsureKeyStore {
    fn is_hsm(&self) -> bool {
        self.store.is_type(MANAGED_HSM_TYPE)
    }

    /// A target whose region is not told, as those that lie in another resource, is left to Azure's own check.
    fn wrong_region(&self, vault: &Vault, facts: &Facts) -> Option<Failure> {
        let target = facts.target.as_ref().filter(|t| self.same_region && !t.location.is_empty())?;
        let message = format!("{} is in {}, and the target in {}", self.store.name(), vault.location, target.location);
        (!same_region(&vault.location, &target.location)).then(|| Failure::new(Code::KeyStoreOtherRegion, message))
    }

    /// Everything that may refuse the vault comes before the one change that cannot be undone.
    fn judge(&self, vault: &Vault) -> Decision<Change> {
        let name = self.store.name();
        let refuse = |code, message| Decision::Refuse(Failure::new(code, message));
        match vault.provisioning_state.as_deref() {
            None => {}
            // An HSM says the second once it is activated.
            Some(state) if state.eq_ignore_ascii_case("Succeeded") || state.eq_ignore_ascii_case("Activated") => {}
            Some(state) if state.eq_ignore_ascii_case("RegisteringDns") => {
                let text = format!("The name of {name} is being registered");
                return Decision::Wait(WaitReason::new("dns-propagation", text));
            }
            Some(state) => {
                let text = format!("{name} is being changed by another operation ({state})");
                return Decision::Wait(WaitReason::new("resource-busy", text));
            }
        }
        if vault.activation == Activation::Missing {
            let message = format!("{name} is provisioned, but its owner has not activated it");
            return refuse(Code::KeyStoreNotActivated, message);
        }
        if !vault.rbac {
            return refuse(Code::KeyStoreAccessPolicies, format!("{name} decides on access by access policies"));
        }
        if self.needs_trusted_bypass
            && let Some(why) = keeps_services_out(vault)
        {
            return refuse(Code::KeyStoreClosed, format!("{name} {why}"));
        }
        if let Some(lack) = self.unmet(vault) {
            return refuse(Code::KeyStoreUnsuitable, format!("{name} {lack}"));
        }
        if !vault.soft_delete {
            return refuse(Code::KeyStoreUnprotected, format!("{name} has no soft delete"));
        }
        let least = self.demands.retention_days;
        if let Some(least) = least.filter(|least| vault.retention_days < u16::from(*least)) {
            let message =
                format!("{name} keeps deleted keys for {} days, and the service wants {least}", vault.retention_days);
            return refuse(Code::KeyStoreShortRetention, message);
        }
        if vault.purge_protection {
            return Decision::Satisfied;
        }
        if self.may_enable_purge_protection {
            return Decision::Act(Change::Protect);
        }
        refuse(Code::KeyStoreUnprotected, format!("{name} has no purge protection"))
    }

    /// What the service asks of the key store that this one lacks, beside a long retention.
    fn unmet(&self, vault: &Vault) -> Option<String> {
        let demands = &self.demands;
        let firewall = vault.public_access != PublicAccess::Enabled || !vault.network.default_allow;
        if demands.private_endpoint && vault.private_endpoints == 0 {
            return Some("has no private endpoint, and the service comes through one".to_owned());
        }
        if demands.no_firewall && firewall {
            return Some("has a firewall, which the service's identity does not pass".to_owned());
        }
        if demands.listed_addresses && firewall && vault.network.ip_rules.is_empty() {
            return Some(
                "has a firewall that lists no address, and the service comes from addresses of its own".to_owned(),
            );
        }
        None
    }

    fn judge_deleted(&self, deleted: &DeletedVault) -> Decision<Change> {
        let name = self.store.name();
        let refuse = |code, message| Decision::Refuse(Failure::new(code, message));
        if self.on_deleted_name == OnDeletedName::Fail {
            return refuse(Code::KeyStoreSoftDeleted, format!("a deleted vault holds the name {name}"));
        }
        if ArmId::parse(&deleted.vault_id).ok().as_ref() != Some(&self.store) {
            let message =
                format!("the deleted vault that holds the name {name} can only come back as {}", deleted.vault_id);
            return refuse(Code::KeyStoreSoftDeleted, message);
        }
        if !deleted.purge_protection && !self.may_enable_purge_protection {
            return refuse(Code::KeyStoreUnprotected, format!("the deleted vault {name} has no purge protection"));
        }
        Decision::Act(Change::Recover)
    }

    async fn create(&self, cx: &StepContext<'_>) -> Result<Vault, StepError> {
        let create = self.create.as_ref().ok_or_else(|| missing("key store's settings"))?;
        let tenant_id = cx.azure.tenant(&cx.call, self.store.subscription()).await?;
        let spec = vault_spec(create, tenant_id, cx.job_id);
        Ok(vaults::create(&cx.azure.arm, &cx.call, &self.store, &spec).await?)
    }

    async fn recover(&self, cx: &StepContext<'_>) -> Result<Vault, StepError> {
        let create = self.create.as_ref().ok_or_else(|| missing("key store's settings"))?;
        let tenant_id = cx.azure.tenant(&cx.call, self.store.subscription()).await?;
        Ok(vaults::recover(&cx.azure.arm, &cx.call, &self.store, &create.location, tenant_id).await?)
    }

    fn refused(&self, error: AzureError) -> StepError {
        let (code, what) = match error.kind {
            AzureErrorKind::SoftDeleted => (Code::KeyStoreSoftDeleted, "a deleted vault holds the name"),
            AzureErrorKind::NameTaken => (Code::KeyStoreNameTaken, "somebody has the name"),
            _ => return error.into(),
        };
        Failure::new(code, format!("creating {}: {what}", self.store.name())).with_azure(error.detail()).into()
    }
}

/// A new vault, with the job's tag.
pub(super) fn vault_spec(create: &KeyStoreCreate, tenant_id: Uuid, job_id: JobId) -> VaultSpec {
    let mut tags = create.tags.clone();
    tags.insert(JOB_TAG.to_owned(), job_id.to_string());
    VaultSpec {
        location: create.location.clone(),
        tenant_id,
        sku: match create.sku {
            request::VaultSku::Standard => VaultSku::Standard,
            request::VaultSku::Premium => VaultSku::Premium,
        },
        retention_days: create.soft_delete_retention_days.into(),
        network: Some(network(create)),
        public_access: true,
        tags,
    }
}

/// A firewall that denies whatever the request does not list.
fn network(create: &KeyStoreCreate) -> NetworkAcls {
    NetworkAcls {
        default_allow: false,
        bypass_trusted: create.network.bypass_trusted_services,
        ip_rules: create.network.allowed_ips.iter().map(|net| (*net).into()).collect(),
        subnets: create.network.allowed_subnets.iter().map(|id| id.as_str().to_owned()).collect(),
    }
}

/// Why a trusted Microsoft service cannot reach the vault, if it cannot. Disabled public access still lets trusted
/// services pass; a perimeter does not. Source: Key Vault network security.
fn keeps_services_out(vault: &Vault) -> Option<&'static str> {
    match (vault.public_access, vault.network.bypass_trusted) {
        (PublicAccess::SecuredByPerimeter, _) => {
            Some("is secured by a network perimeter, which trusted services cannot pass")
        }
        (PublicAccess::Disabled, false) => Some("has no public access and does not let trusted services pass"),
        (PublicAccess::Enabled, false) if !vault.network.default_allow => {
            Some("denies by default and does not let trusted services pass")
        }
        _ => None,
    }
}
