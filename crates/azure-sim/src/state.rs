//! The simulated cloud's whole state behind one lock, and what happens to it by the passing of time. Critical sections are
//! short and never span an await. The types of the resources live with their providers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::arm::governance::Governance;
use crate::arm::identities::Identity;
use crate::arm::operations::Operation;
use crate::arm::resource_groups::Group;
use crate::arm::storage_accounts::Account;
use crate::arm::vault_model::{DeletedVault, Vault};
use crate::clock::Clock;
use crate::entra::Principal;
use crate::faults::Faults;
use crate::journal::Journal;
use crate::options::{Addresses, Options};
use crate::propagation::{Due, Lag, Propagation};
use crate::rbac::assignments::Assignment;
use crate::rbac::roles::{self, Role};
use crate::throttle::Throttle;
use crate::tuning::Tuning;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub world: Mutex<World>,
    pub clock: Clock,
    pub journal: Journal,
    pub faults: Faults,
    pub options: Options,
    pub addresses: Addresses,
    pub throttle: Throttle,
    /// Beside the world, as what runs under the world's lock asks it too.
    pub tuning: Mutex<Tuning>,
    pub signer: Arc<crate::entra::tokens::Signer>,
}

impl Shared {
    /// Runs with the world brought up to the present. The guard cannot leave the closure, so no await happens under it.
    pub fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.tick(self.clock.now());
        f(&mut world)
    }

    /// The settings in force.
    pub fn tuning(&self) -> Tuning {
        self.tuning.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets all resources, fault rules and journal entries. Lags and clock stay.
    pub fn reset(&self) {
        let now = self.clock.now();
        self.world(|w| {
            let propagation = w.propagation.clone();
            *w = World::new(&self.options, now);
            w.propagation = propagation;
        });
        self.throttle.refill();
        self.faults.clear();
        self.journal.clear();
    }
}

/// Something that happens by itself at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A group's deletion ends: it and all in it go.
    GroupGone(String),
    /// The retention of a deleted vault ends. The time of deletion tells it from a later one of the same name.
    VaultPurge(String, OffsetDateTime),
    /// The retention of a deleted key ends: vault, key, time of deletion.
    KeyPurge(String, String, OffsetDateTime),
    /// A removed role assignment is no longer enforced.
    GrantGone(u64),
}

/// The simulated cloud.
#[derive(Debug)]
pub(crate) struct World {
    /// By lower-case id.
    pub groups: BTreeMap<String, Group>,
    /// By lower-case id.
    pub identities: BTreeMap<String, Identity>,
    /// How often an identity of this lower-case id was made; a new one has new principal and client ids.
    pub generations: BTreeMap<String, u32>,
    /// By lower-case name, which is unique in the cloud.
    pub vaults: BTreeMap<String, Vault>,
    /// By lower-case name.
    pub deleted_vaults: BTreeMap<String, DeletedVault>,
    /// By lower-case name, which is unique in the cloud.
    pub accounts: BTreeMap<String, Account>,
    /// By lower-case id.
    pub assignments: BTreeMap<String, Assignment>,
    /// Removed assignments that are still enforced, by a number of their own.
    pub fading: BTreeMap<u64, Assignment>,
    /// Built-in and custom role definitions by GUID.
    pub roles: BTreeMap<String, Role>,
    /// By object id.
    pub principals: BTreeMap<String, Principal>,
    /// By id.
    pub operations: BTreeMap<String, Operation>,
    /// Registrations, locks, policies: what ARM keeps beside the resources.
    pub governance: Governance,
    pub propagation: Propagation,
    pub chance: StdRng,
    agenda: BTreeMap<(OffsetDateTime, u64), Event>,
    counter: u64,
}

impl World {
    pub fn new(options: &Options, now: OffsetDateTime) -> Self {
        let mut world = Self {
            groups: BTreeMap::new(),
            identities: BTreeMap::new(),
            generations: BTreeMap::new(),
            vaults: BTreeMap::new(),
            deleted_vaults: BTreeMap::new(),
            accounts: BTreeMap::new(),
            assignments: BTreeMap::new(),
            fading: BTreeMap::new(),
            roles: roles::built_in(),
            principals: BTreeMap::new(),
            operations: BTreeMap::new(),
            governance: Governance::new(&options.unregistered, now),
            propagation: options.propagation.clone(),
            chance: StdRng::seed_from_u64(options.seed),
            agenda: BTreeMap::new(),
            counter: 0,
        };
        for (name, app, oid, secret) in [
            ("operator", &options.client_id, &options.object_id, &options.client_secret),
            ("outsider", &options.outsider_client_id, &options.outsider_object_id, &options.outsider_secret),
        ] {
            world.principals.insert(
                oid.to_lowercase(),
                Principal {
                    object_id: oid.to_lowercase(),
                    app_id: app.to_lowercase(),
                    name: name.to_owned(),
                    secret: secret.clone(),
                    known_from: Some(now),
                    resource_id: None,
                },
            );
        }
        let owner = Assignment::standing(
            &format!("/subscriptions/{}", options.subscription_id),
            roles::OWNER,
            &options.object_id,
            now,
        );
        world.assignments.insert(owner.id.to_lowercase(), owner);
        world
    }

    /// Lets everything happen that is due.
    pub fn tick(&mut self, now: OffsetDateTime) {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((at, _), event) = entry.remove_entry();
            self.happen(at, event);
        }
    }

    fn happen(&mut self, at: OffsetDateTime, event: Event) {
        match event {
            Event::GroupGone(id) => crate::arm::resource_groups::remove(self, &id, at),
            Event::VaultPurge(name, since) => {
                if self.deleted_vaults.get(&name).is_some_and(|v| v.deleted == since) {
                    self.deleted_vaults.remove(&name);
                }
            }
            Event::KeyPurge(vault, key, since) => {
                for vault in [self.vaults.get_mut(&vault), self.deleted_vaults.get_mut(&vault).map(|d| &mut d.vault)]
                    .into_iter()
                    .flatten()
                {
                    if vault.deleted_keys.get(&key).is_some_and(|k| k.deleted == since) {
                        vault.deleted_keys.remove(&key);
                    }
                }
            }
            Event::GrantGone(number) => {
                self.fading.remove(&number);
            }
        }
    }

    pub fn at(&mut self, when: OffsetDateTime, event: Event) {
        self.counter += 1;
        self.agenda.insert((when, self.counter), event);
    }

    /// A number that no other thing in this world has.
    pub fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Samples one of the lags for a change made now.
    pub fn due(&mut self, pick: impl Fn(&Propagation) -> &Lag, now: OffsetDateTime) -> Due {
        pick(&self.propagation).due(now, &mut self.chance)
    }

    /// A random id from the seeded chance.
    pub fn guid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.chance.random()).into_uuid()
    }

    /// Makes everything visible that was on its way, whatever its lag said.
    pub fn settle(&mut self, now: OffsetDateTime) {
        for a in self.assignments.values_mut() {
            a.enforced_from = a.enforced_from.filter(|at| *at <= now).or(Some(now));
            a.readable_from = a.readable_from.filter(|at| *at <= now).or(Some(now));
        }
        self.fading.clear();
        for p in self.principals.values_mut() {
            p.known_from = p.known_from.filter(|at| *at <= now).or(Some(now));
        }
        for i in self.identities.values_mut() {
            i.visible_from = i.visible_from.filter(|at| *at <= now).or(Some(now));
        }
        for g in self.groups.values_mut() {
            g.visible_from = g.visible_from.filter(|at| *at <= now).or(Some(now));
        }
        for v in self.vaults.values_mut() {
            v.settle(now);
        }
        self.governance.settle(now);
    }
}
