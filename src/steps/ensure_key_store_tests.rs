//! Tables of what follows from a vault, a deleted vault and no vault.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::ensure_key_store::{Change, Holder, Seen};
use super::spec::{EnsureKeyStore, StoreDemands};
use super::{Decision, Step, testing};
use crate::azure::vaults::{Activation, DeletedVault, NetworkAcls, PublicAccess, Vault, VaultSku};
use crate::domain::facts::Facts;
use crate::domain::request::{KeyStoreCreate, Network, OnDeletedName};

fn step() -> EnsureKeyStore {
    EnsureKeyStore {
        store: testing::store(),
        create: None,
        on_deleted_name: OnDeletedName::Fail,
        may_enable_purge_protection: false,
        needs_trusted_bypass: true,
        same_region: false,
        demands: StoreDemands::default(),
    }
}

fn creating(on_deleted_name: OnDeletedName) -> EnsureKeyStore {
    let create = KeyStoreCreate {
        location: "uksouth".into(),
        sku: crate::domain::request::VaultSku::Standard,
        soft_delete_retention_days: 90,
        network: Network::default(),
        tags: BTreeMap::new(),
    };
    EnsureKeyStore { create: Some(create), on_deleted_name, ..step() }
}

/// A vault as this service makes it.
fn vault() -> Vault {
    Vault {
        uri: testing::STORE_URI.into(),
        location: "uksouth".into(),
        tenant_id: Uuid::nil(),
        sku: VaultSku::Standard,
        rbac: true,
        soft_delete: true,
        purge_protection: true,
        retention_days: 90,
        network: NetworkAcls { default_allow: false, bypass_trusted: true, ip_rules: Vec::new(), subnets: Vec::new() },
        public_access: PublicAccess::Enabled,
        private_endpoints: 0,
        activation: Activation::Done,
        provisioning_state: Some("Succeeded".into()),
        tags: BTreeMap::new(),
        request_id: None,
    }
}

fn with(change: impl FnOnce(&mut Vault)) -> Seen {
    let mut vault = vault();
    change(&mut vault);
    Seen::Found(Box::new(vault))
}

fn told(step: &EnsureKeyStore, seen: &Seen) -> String {
    testing::told(step.decide(seen, &Facts::default()))
}

#[test]
fn a_vault_that_exists_must_have_every_protection() {
    let table = [
        (with(|_| {}), "satisfied"),
        (with(|v| v.provisioning_state = None), "satisfied"),
        (with(|v| v.provisioning_state = Some("RegisteringDns".into())), "wait dns-propagation"),
        (with(|v| v.provisioning_state = Some("Updating".into())), "wait resource-busy"),
        (with(|v| v.rbac = false), "refuse key-store-access-policies"),
        (with(|v| v.soft_delete = false), "refuse key-store-unprotected"),
        (with(|v| v.purge_protection = false), "refuse key-store-unprotected"),
        (with(|v| v.network.bypass_trusted = false), "refuse key-store-closed"),
        (with(|v| v.public_access = PublicAccess::Disabled), "satisfied"),
        (with(|v| v.public_access = PublicAccess::SecuredByPerimeter), "refuse key-store-closed"),
        (
            with(|v| {
                v.network.bypass_trusted = false;
                v.network.default_allow = true;
            }),
            "satisfied",
        ),
        (
            with(|v| {
                v.network = NetworkAcls { default_allow: true, bypass_trusted: false, ..v.network.clone() };
                v.public_access = PublicAccess::Disabled;
            }),
            "refuse key-store-closed",
        ),
    ];
    for (seen, want) in table {
        assert_eq!(told(&step(), &seen), want, "{seen:?}");
    }
}

#[test]
fn a_service_that_needs_no_bypass_does_not_ask_for_it() {
    let step = EnsureKeyStore { needs_trusted_bypass: false, ..step() };
    assert_eq!(told(&step, &with(|v| v.network.bypass_trusted = false)), "satisfied");
}

#[test]
fn a_store_that_keeps_deleted_keys_for_too_short_a_time_is_refused_before_it_is_changed() {
    let demands = StoreDemands { retention_days: Some(90), ..StoreDemands::default() };
    let step = EnsureKeyStore { demands, may_enable_purge_protection: true, ..step() };
    let kept = |days, protected| {
        with(|v| {
            v.retention_days = days;
            v.purge_protection = protected;
        })
    };
    assert_eq!(told(&step, &kept(90, true)), "satisfied");
    assert_eq!(told(&step, &kept(90, false)), "act");
    for protected in [true, false] {
        assert_eq!(told(&step, &kept(89, protected)), "refuse key-store-short-retention");
    }
}

#[test]
fn purge_protection_is_turned_on_only_where_accepted_and_only_as_the_last_thing() {
    let may = EnsureKeyStore { may_enable_purge_protection: true, ..step() };
    let open = with(|v| v.purge_protection = false);
    assert_eq!(may.decide(&open, &Facts::default()), Decision::Act(Change::Protect));
    assert_eq!(told(&may, &with(|_| {})), "satisfied");
    let closed = with(|v| {
        v.purge_protection = false;
        v.network.bypass_trusted = false;
    });
    assert_eq!(told(&may, &closed), "refuse key-store-closed");
    let policies = with(|v| {
        v.purge_protection = false;
        v.rbac = false;
    });
    assert_eq!(told(&may, &policies), "refuse key-store-access-policies");
}

#[test]
fn a_vault_that_trusts_another_tenant_is_refused() {
    let seen = Seen::OtherTenant { trusted: Uuid::from_u128(7), own: Uuid::nil() };
    assert_eq!(told(&step(), &seen), "refuse other-tenant");
    assert_eq!(told(&creating(OnDeletedName::Recover), &seen), "refuse other-tenant");
}

#[test]
fn a_missing_vault_is_created_where_that_is_asked() {
    assert_eq!(told(&step(), &Seen::Absent(Holder::Unknown)), "refuse key-store-not-found");
    for holder in [Holder::Nobody, Holder::Unknown] {
        let decision = creating(OnDeletedName::Fail).decide(&Seen::Absent(holder), &Facts::default());
        assert_eq!(decision, Decision::Act(Change::Create));
    }
    assert_eq!(told(&creating(OnDeletedName::Fail), &Seen::NotReadableYet), "wait read-lag");
}

#[test]
fn a_deleted_vault_comes_back_only_where_asked_only_as_itself_and_only_protected() {
    let deleted = |vault_id: &str, purge_protection: bool| {
        Seen::Absent(Holder::Deleted(DeletedVault {
            vault_id: vault_id.to_owned(),
            location: "uksouth".into(),
            purge_protection,
            scheduled_purge: None,
        }))
    };
    let own = testing::store().as_str().to_uppercase();
    let other = testing::store().as_str().replace("rg-1", "rg-2");
    let recover = creating(OnDeletedName::Recover);
    let accepted = EnsureKeyStore { may_enable_purge_protection: true, ..recover.clone() };
    let table = [
        (&creating(OnDeletedName::Fail), deleted(&own, true), "refuse key-store-soft-deleted"),
        (&recover, deleted(&own, true), "act"),
        (&recover, deleted(&other, true), "refuse key-store-soft-deleted"),
        (&recover, deleted(&own, false), "refuse key-store-unprotected"),
        (&accepted, deleted(&own, false), "act"),
    ];
    for (step, seen, want) in table {
        assert_eq!(told(step, &seen), want, "{seen:?}");
    }
}

#[test]
fn a_store_in_another_region_is_refused_where_the_service_cares() {
    let facts = |location: &str| {
        let target = crate::domain::facts::TargetFact { existed: true, location: location.to_owned() };
        Facts { target: Some(target), ..Facts::default() }
    };
    for (same_region, location, want) in [
        (true, "UK South", "satisfied"),
        (true, "uksouth", "satisfied"),
        (true, "ukwest", "refuse key-store-other-region"),
        (false, "ukwest", "satisfied"),
        // What lies in another resource does not tell its region.
        (true, "", "satisfied"),
    ] {
        let step = EnsureKeyStore { same_region, ..step() };
        assert_eq!(testing::told(step.decide(&with(|_| {}), &facts(location))), want, "{same_region} {location}");
    }
}

#[test]
fn an_hsm_works_once_its_owner_has_activated_it() {
    let hsm = EnsureKeyStore {
        store: testing::id(crate::domain::request::MANAGED_HSM_TYPE, "hsm1"),
        may_enable_purge_protection: true,
        ..step()
    };
    for (seen, want) in [
        (with(|v| v.activation = Activation::Missing), "refuse key-store-not-activated"),
        (with(|v| v.provisioning_state = Some("Activated".into())), "satisfied"),
        (with(|v| v.provisioning_state = Some("Provisioning".into())), "wait resource-busy"),
        (with(|v| v.purge_protection = false), "act"),
    ] {
        assert_eq!(told(&hsm, &seen), want, "{seen:?}");
    }
    let unacknowledged = EnsureKeyStore { may_enable_purge_protection: false, ..hsm };
    assert_eq!(told(&unacknowledged, &with(|v| v.purge_protection = false)), "refuse key-store-unprotected");
}

/// What is asked, how the vault differs, and what comes of it.
type Row<'r> = (&'r StoreDemands, &'r dyn Fn(&mut Vault), &'r str);

#[test]
fn what_a_service_asks_of_the_store_is_looked_at_before_anything_is_changed() {
    let closed = NetworkAcls { default_allow: false, bypass_trusted: true, ip_rules: Vec::new(), subnets: Vec::new() };
    let listed = NetworkAcls { ip_rules: vec!["203.0.113.0/24".parse().expect("a network")], ..closed.clone() };
    let asks = |demands: StoreDemands, change: &dyn Fn(&mut Vault)| {
        let step = EnsureKeyStore { demands, may_enable_purge_protection: true, ..step() };
        testing::told(step.decide(
            &with(|vault| {
                vault.purge_protection = false;
                change(vault);
            }),
            &Facts::default(),
        ))
    };
    let days = StoreDemands { retention_days: Some(90), ..StoreDemands::default() };
    let endpoint = StoreDemands { private_endpoint: true, ..StoreDemands::default() };
    let open = StoreDemands { no_firewall: true, ..StoreDemands::default() };
    let addresses = StoreDemands { listed_addresses: true, ..StoreDemands::default() };
    let refused = "refuse key-store-unsuitable";
    let table: [Row<'_>; 10] = [
        (&days, &|v| v.retention_days = 90, "act"),
        (&days, &|v| v.retention_days = 89, "refuse key-store-short-retention"),
        (&endpoint, &|v| v.private_endpoints = 1, "act"),
        (&endpoint, &|v| v.private_endpoints = 0, refused),
        (&open, &|v| v.network.default_allow = true, "act"),
        (&open, &|v| v.network = closed.clone(), refused),
        (&open, &|v| v.public_access = PublicAccess::Disabled, refused),
        (&addresses, &|v| v.network = closed.clone(), refused),
        (&addresses, &|v| v.network = listed.clone(), "act"),
        (&StoreDemands::default(), &|v| v.network = closed.clone(), "act"),
    ];
    for (demands, change, want) in table {
        assert_eq!(asks(demands.clone(), change), want, "{demands:?}");
    }
}
