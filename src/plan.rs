//! The immutable list of steps of a job and what each comes after: a pure function of the request and the service's descriptor.
//!
//! What belongs here: which steps, in which order, with what in them, and what each would change in words. What does
//! not: looking at Azure; a plan says what a job will look at and make true.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::request::{Acknowledgement, CmkRequest, Identity, IdentityKind, TargetCreate};
use crate::services::demands::Identities;
use crate::services::{
    CRYPTO_OFFICER, HSM_CRYPTO_USER, IdentityOn, KEY_VAULT_ADMINISTRATOR, Known, Role, ServiceDescriptor, of_hsm,
};
use crate::steps::StepSpec;
use crate::steps::spec::{
    AttachIdentity, AwaitKeyStoreAccess, CheckTarget, ConfigureService, CreateWithoutKey, EnsureIdentity, EnsureKey,
    EnsureKeyStore, EnsureResourceGroups, FindPlatformPrincipal, GrantAccess, GroupSpec, StoreDemands, Verify,
};

/// The version of the plans this code makes. Old plans stay as they were stored.
pub const PLAN_VERSION: i16 = 2;

/// The steps of a job, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps. Names are unique within a plan.
    pub steps: Vec<PlannedStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The step's name; its kind.
    pub name: String,
    /// What it makes true.
    pub spec: StepSpec,
    /// The steps that have to be finished first, by name. `None`, as in plans of version 1: every earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
}

/// What one step of a plan does, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepSummary {
    /// The step's name.
    #[schema(example = "ensure-key")]
    pub name: String,
    /// What it makes true.
    pub goal: String,
    /// What it would change where that is missing; absent for steps that only look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// What cannot be undone about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irreversible: Option<String>,
}

/// The plan for a request that the descriptor allows.
///
/// Both grants come before anything that waits, so there is one propagation wait. With the target's own identity the
/// principal is known only after it is attached, so attaching comes before its grant; where only the write that names the
/// key makes the principal, the grant comes after that write.
pub fn plan(request: &CmkRequest, descriptor: &ServiceDescriptor) -> Plan {
    let (kind, creating) = (request.identity.kind, request.target.create.is_some());
    let known = descriptor.principal_known(kind, creating);
    let store = &request.key_store.resource_id;
    let identity_grant = StepSpec::GrantIdentityAccess(GrantAccess {
        store: store.clone(),
        role: identity_role(request, descriptor),
        or_roles: Vec::new(),
        only_look: false,
        local_scope: identity_scope(request),
    });
    let mut specs = vec![check_target(request, descriptor)];
    specs.extend(ensure_resource_groups(request));
    specs.push(ensure_key_store(request, descriptor));
    specs.extend(ensure_identity(request));
    specs.extend(find_platform_principal(request, descriptor));
    if known == Known::Attached {
        specs.push(attach_identity(request, descriptor));
    }
    specs.push(StepSpec::GrantOwnAccess(own_grant(request)));
    let (before, after) = match known {
        Known::Keyed => (None, Some(identity_grant)),
        Known::Before | Known::Attached => (Some(identity_grant), None),
    };
    specs.extend(before);
    specs.push(StepSpec::AwaitKeyStoreAccess(AwaitKeyStoreAccess {
        store: store.clone(),
        key_name: request.key.name.clone(),
        access_timeout: request.access_timeout.clone(),
    }));
    specs.push(ensure_key(request, descriptor));
    let elsewhere = descriptor.identity_on == IdentityOn::Parent;
    if kind == IdentityKind::UserAssigned && (!creating || elsewhere) {
        specs.push(attach_identity(request, descriptor));
    }
    specs.push(configure_service(request, descriptor));
    specs.extend(after);
    specs.push(verify(request, descriptor));
    let names: Vec<&str> = specs.iter().map(StepSpec::kind).collect();
    let after = |spec: &StepSpec| -> Vec<String> {
        let wanted = needs(spec, known);
        names.iter().filter(|name| wanted.contains(name)).map(|name| (*name).to_owned()).collect()
    };
    let afters: Vec<_> = specs.iter().map(after).collect();
    let steps = specs.into_iter().zip(afters);
    Plan {
        steps: steps
            .map(|(spec, after)| PlannedStep { name: spec.kind().to_owned(), spec, after: Some(after) })
            .collect(),
    }
}

/// What has to be finished before a step begins, of the steps that the plan has. Steps that need nothing of each other
/// run at the same time. The target is not touched before the key is there, unless its own identity has to be known.
fn needs(spec: &StepSpec, known: Known) -> &'static [&'static str] {
    match (spec, known) {
        (StepSpec::CheckTarget(_), _) => &[],
        (StepSpec::EnsureResourceGroups(_), _) => &["check-target"],
        (StepSpec::EnsureKeyStore(_) | StepSpec::EnsureIdentity(_), _) => &["check-target", "ensure-resource-groups"],
        (StepSpec::FindPlatformPrincipal(_), _) => &["check-target"],
        (StepSpec::AttachIdentity(_), Known::Attached) => &["ensure-key-store"],
        (StepSpec::AttachIdentity(_), _) => &["ensure-identity", "ensure-key"],
        (StepSpec::GrantOwnAccess(_), _) => &["ensure-key-store"],
        (StepSpec::GrantIdentityAccess(_), Known::Keyed) => &["configure-service"],
        (StepSpec::GrantIdentityAccess(_), Known::Attached) => &["ensure-key-store", "attach-identity"],
        (StepSpec::GrantIdentityAccess(_), Known::Before) => {
            &["ensure-key-store", "ensure-identity", "find-platform-principal"]
        }
        (StepSpec::AwaitKeyStoreAccess(_), Known::Keyed) => &["grant-own-access"],
        (StepSpec::AwaitKeyStoreAccess(_), _) => &["grant-own-access", "grant-identity-access"],
        (StepSpec::EnsureKey(_), _) => &["await-key-store-access"],
        (StepSpec::ConfigureService(_), _) => &["ensure-key", "attach-identity"],
        (StepSpec::Verify(_), Known::Keyed) => &["configure-service", "grant-identity-access"],
        (StepSpec::Verify(_), _) => &["configure-service"],
    }
}

/// What the service needs to make and read keys. An HSM's officer can do neither, its user both.
fn own_grant(request: &CmkRequest) -> GrantAccess {
    let (role, or_roles, local_scope) = match request.uses_managed_hsm() {
        // A right at a key is not enough to make it. UNVERIFIED that one at every key is.
        true => (HSM_CRYPTO_USER, Vec::new(), Some("/keys".to_owned())),
        false => (CRYPTO_OFFICER, vec![KEY_VAULT_ADMINISTRATOR], None),
    };
    GrantAccess {
        store: request.key_store.resource_id.clone(),
        role,
        or_roles,
        only_look: !request.key_store.grant_own_access,
        local_scope,
    }
}

fn identity_role(request: &CmkRequest, descriptor: &ServiceDescriptor) -> Role {
    if request.uses_managed_hsm() { of_hsm(&descriptor.vault_role) } else { descriptor.vault_role.clone() }
}

/// An HSM's roles are given per key.
fn identity_scope(request: &CmkRequest) -> Option<String> {
    request.uses_managed_hsm().then(|| format!("/keys/{}", request.key.name))
}

fn check_target(request: &CmkRequest, descriptor: &ServiceDescriptor) -> StepSpec {
    StepSpec::CheckTarget(CheckTarget {
        service: descriptor.slug.clone(),
        target: request.target.resource_id.clone(),
        create_in: request.target.create.as_ref().map(|c| c.location.clone()),
        store: request.key_store.resource_id.clone(),
        key_name: request.key.name.clone(),
        identity: (descriptor.identities != Identities::Many)
            .then(|| Identity { create: None, ..request.identity.clone() }),
    })
}

/// The groups of everything that is to be created; none where nothing is.
fn ensure_resource_groups(request: &CmkRequest) -> Option<StepSpec> {
    let mut groups: Vec<GroupSpec> = Vec::new();
    let target = request.target.create.as_ref().map(|c| (&request.target.resource_id, Some(c.location.clone())));
    let store = request.key_store.create.as_ref().map(|c| (&request.key_store.resource_id, Some(c.location.clone())));
    let identity = request.identity.create.as_ref().and_then(|c| {
        let location = c.location.clone().or_else(|| request.target.create.as_ref().map(|t| t.location.clone()));
        request.identity.resource_id.as_ref().map(|id| (id, location))
    });
    for (id, location) in [target, store, identity].into_iter().flatten() {
        let known = |g: &&mut GroupSpec| {
            g.subscription == id.subscription() && g.name.eq_ignore_ascii_case(id.resource_group())
        };
        match groups.iter_mut().find(known) {
            Some(group) => group.location = group.location.take().or(location),
            None => groups.push(GroupSpec {
                subscription: id.subscription(),
                name: id.resource_group().to_owned(),
                location,
            }),
        }
    }
    let create = request.create_resource_groups;
    (!groups.is_empty()).then_some(StepSpec::EnsureResourceGroups(EnsureResourceGroups { groups, create }))
}

fn ensure_key_store(request: &CmkRequest, descriptor: &ServiceDescriptor) -> StepSpec {
    StepSpec::EnsureKeyStore(EnsureKeyStore {
        store: request.key_store.resource_id.clone(),
        create: request.key_store.create.clone(),
        on_deleted_name: request.key_store.on_deleted_name,
        may_enable_purge_protection: request.acknowledges(Acknowledgement::EnablePurgeProtection),
        needs_trusted_bypass: descriptor.needs_trusted_bypass,
        same_region: descriptor.same_region,
        demands: StoreDemands {
            retention_days: descriptor.store_retention_days,
            private_endpoint: descriptor.needs_private_endpoint,
            no_firewall: descriptor.no_firewall.contains(&request.identity.kind),
            listed_addresses: descriptor.comes_from_addresses,
        },
    })
}

fn ensure_identity(request: &CmkRequest) -> Option<StepSpec> {
    let identity = request.identity.resource_id.clone()?;
    let create = request.identity.create.as_ref();
    let location = create.and_then(|c| c.location.clone());
    Some(StepSpec::EnsureIdentity(EnsureIdentity { identity, create: create.is_some(), location }))
}

fn find_platform_principal(request: &CmkRequest, descriptor: &ServiceDescriptor) -> Option<StepSpec> {
    let platform = descriptor.platform.as_ref().filter(|_| request.identity.kind == IdentityKind::Platform)?;
    Some(StepSpec::FindPlatformPrincipal(FindPlatformPrincipal {
        name: platform.name.clone(),
        app_id: platform.app_id,
        app_id_us_government: platform.app_id_us_government,
    }))
}

fn attach_identity(request: &CmkRequest, descriptor: &ServiceDescriptor) -> StepSpec {
    StepSpec::AttachIdentity(AttachIdentity {
        service: descriptor.slug.clone(),
        target: request.target.resource_id.clone(),
        identity_kind: request.identity.kind,
        create: created_first(request, descriptor).map(|target| CreateWithoutKey {
            target,
            store: request.key_store.resource_id.clone(),
            key_name: request.key.name.clone(),
        }),
    })
}

/// How to create the target where that takes two writes.
fn created_first(request: &CmkRequest, descriptor: &ServiceDescriptor) -> Option<TargetCreate> {
    request.target.create.clone().filter(|_| descriptor.creates_in_two(request.identity.kind))
}

fn ensure_key(request: &CmkRequest, descriptor: &ServiceDescriptor) -> StepSpec {
    StepSpec::EnsureKey(EnsureKey {
        store: request.key_store.resource_id.clone(),
        name: request.key.name.clone(),
        key_type: request.key.key_type,
        size: request.key.size,
        operations: request.key.operations.clone(),
        version: request.key.version_id.clone(),
        expires_after: request.key.expires_after.clone(),
        never_expires: !descriptor.keys_may_expire,
        rotation: request.key.rotation.clone(),
        access_timeout: request.access_timeout.clone(),
        tags: BTreeMap::new(),
    })
}

fn configure_service(request: &CmkRequest, descriptor: &ServiceDescriptor) -> StepSpec {
    let created_before = created_first(request, descriptor).is_some();
    StepSpec::ConfigureService(ConfigureService {
        service: descriptor.slug.clone(),
        target: request.target.resource_id.clone(),
        create: request.target.create.clone().filter(|_| !created_before),
        created_before,
        identity_kind: request.identity.kind,
        version: request.key.version,
        access_timeout: request.access_timeout.clone(),
        store: Some(request.key_store.resource_id.clone()),
    })
}

fn verify(request: &CmkRequest, descriptor: &ServiceDescriptor) -> StepSpec {
    StepSpec::Verify(Verify {
        service: descriptor.slug.clone(),
        target: request.target.resource_id.clone(),
        store: request.key_store.resource_id.clone(),
        identity_kind: request.identity.kind,
        version: request.key.version,
        role: identity_role(request, descriptor),
        local_scope: identity_scope(request),
    })
}

impl PlannedStep {
    /// What the step does, in words.
    pub fn summary(&self) -> StepSummary {
        let (goal, change, irreversible) = describe(&self.spec);
        StepSummary { name: self.name.clone(), goal, change, irreversible }
    }
}

fn describe(spec: &StepSpec) -> (String, Option<String>, Option<String>) {
    let text = |goal: String, change: String| (goal, Some(change), None);
    match spec {
        StepSpec::CheckTarget(s) if s.create_in.is_some() => {
            (format!("{} does not exist yet, or uses the key already", s.target.name()), None, None)
        }
        StepSpec::CheckTarget(s) => (format!("{} exists", s.target.name()), None, None),
        StepSpec::EnsureResourceGroups(s) => {
            let names: Vec<&str> = s.groups.iter().map(|g| g.name.as_str()).collect();
            let goal = format!("resource group {} exists", names.join(", "));
            (goal, s.create.then(|| "create what is missing".to_owned()), None)
        }
        StepSpec::EnsureKeyStore(s) => describe_key_store(s),
        StepSpec::EnsureIdentity(s) => {
            let change = s.create.then(|| format!("create the user-assigned identity {}", s.identity.name()));
            (format!("identity {} exists", s.identity.name()), change, None)
        }
        StepSpec::FindPlatformPrincipal(s) => (format!("the tenant has the principal of {}", s.name), None, None),
        StepSpec::GrantOwnAccess(s) if s.only_look => {
            (format!("this service may manage keys in {} already", s.store.name()), None, None)
        }
        StepSpec::GrantOwnAccess(s) => text(
            format!("this service may manage keys in {}", s.store.name()),
            format!("assign it {} on the key store", s.role.name),
        ),
        StepSpec::GrantIdentityAccess(s) => text(
            format!("the identity may use keys in {}", s.store.name()),
            format!("assign it {} on the key store", s.role.name),
        ),
        StepSpec::AwaitKeyStoreAccess(_) => ("the key store honours the role assignment".to_owned(), None, None),
        StepSpec::EnsureKey(s) => describe_key(s),
        StepSpec::AttachIdentity(s) if s.create.is_some() => text(
            format!("{} exists and has its own identity", s.target.name()),
            "create it without the key, which a second write sets once its identity may use it; a policy that demands the \
             key in the first PUT refuses this"
                .to_owned(),
        ),
        StepSpec::AttachIdentity(s) => text(
            format!("{} has the identity", s.target.name()),
            "add it beside the identities that are there".to_owned(),
        ),
        StepSpec::ConfigureService(s) if s.create.is_some() => text(
            format!("{} exists and uses the key", s.target.name()),
            "create it with the key in its first PUT".to_owned(),
        ),
        StepSpec::ConfigureService(s) => {
            text(format!("{} uses the key", s.target.name()), "set the key in place".to_owned())
        }
        StepSpec::Verify(s) => (format!("{} reports the key in use", s.target.name()), None, None),
    }
}

fn describe_key(spec: &EnsureKey) -> (String, Option<String>, Option<String>) {
    if let Some(version) = &spec.version {
        let change = spec.rotation.as_ref().map(|_| "set the key's rotation policy".to_owned());
        return (format!("version {version} of key {} exists and fits", spec.name), change, None);
    }
    let life = spec.expires_after.as_ref().map(|life| format!(" that expires after {life}")).unwrap_or_default();
    let change = format!("create a {} key of {} bits{life}", spec.key_type.as_str(), spec.size);
    let irreversible = "a key's name stays taken for the whole retention once it is deleted".to_owned();
    (format!("key {} exists and fits", spec.name), Some(change), Some(irreversible))
}

fn describe_key_store(spec: &EnsureKeyStore) -> (String, Option<String>, Option<String>) {
    let goal = format!("key store {} exists, in RBAC mode, with purge protection", spec.store.name());
    match (&spec.create, spec.may_enable_purge_protection) {
        (Some(create), _) => {
            let days = create.soft_delete_retention_days;
            let change = format!("create a vault that denies by default and keeps deleted keys for {days} days");
            (goal, Some(change), Some("purge protection and the retention can never be changed".to_owned()))
        }
        (None, true) => {
            let change = "turn on purge protection if it is off".to_owned();
            (goal, Some(change), Some("purge protection can never be turned off".to_owned()))
        }
        (None, false) => (goal, None, None),
    }
}
