//! The simulated cloud's whole state behind one lock, and what happens to it by the passing of time. Critical sections are
//! short and never span an await. The types of the resources live with their providers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::arm::generic::{self, resource::Resource, soft::Deleted};
use crate::arm::governance::Governance;
use crate::arm::identities::Identity;
use crate::arm::operations::Operation;
use crate::arm::resource_groups::Group;
use crate::arm::storage_accounts::Account;
use crate::arm::vault_model::{DeletedVault, Vault};
use crate::clock::Clock;
use crate::cmk::{self, Hold};
use crate::entra::Principal;
use crate::faults::Faults;
use crate::hsm::model::{DeletedHsm, Hsm};
use crate::journal::Journal;
use crate::keyvault::backup::BackupKey;
use crate::keyvault::holder::At;
use crate::options::{Addresses, Options};
use crate::propagation::{Due, Lag, Propagation};
use crate::rbac::assignments::{Assignment, at_or_above};
use crate::rbac::roles::{self, Role};
use crate::storage::Storehouse;
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
    /// Wakes `cmk::keeper` when data keys are to be rewrapped.
    pub rewrap: tokio::sync::Notify,
    /// Held by whoever lets keys rotate by the clock.
    pub rotating: tokio::sync::Mutex<()>,
}

impl Shared {
    /// Runs with the world brought up to the present. The guard cannot leave the closure, so no await happens under it.
    pub fn world<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        if world.tick(&self.addresses, self.clock.now()) {
            self.rewrap.notify_one();
        }
        f(&mut world)
    }

    /// The settings in force.
    pub fn tuning(&self) -> Tuning {
        self.tuning.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the callers without a public address into a subnet, or back on the Internet. False when there is no such subnet.
    pub fn stand_in(&self, subnet: Option<&str>) -> bool {
        self.world(|w| {
            if subnet.is_some_and(|id| crate::arm::network::subnets::find(&w.networks, id).is_none()) {
                return false;
            }
            w.networks.standpoint = subnet.map(str::to_lowercase);
            true
        })
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
    /// The deletion of a managed HSM ends.
    HsmDeleted(String),
    /// The retention of a deleted managed HSM ends: its name and the time of its deletion.
    HsmPurge(String, OffsetDateTime),
    /// The retention of a deleted key ends: its holder, key, time of deletion.
    KeyPurge(At, String, OffsetDateTime),
    /// A removed role assignment is no longer enforced.
    GrantGone(u64),
    /// A deletion ends: lower-case id of a resource of the generic provider.
    ResourceGone(String),
    /// The retention of a soft-deleted one ends: lower-case id, time of deletion.
    ResourcePurge(String, OffsetDateTime),
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
    /// Managed HSMs by lower-case name, which is unique in the cloud.
    pub hsms: BTreeMap<String, Hsm>,
    /// By lower-case name.
    pub deleted_hsms: BTreeMap<String, DeletedHsm>,
    /// By lower-case name, which is unique in the cloud.
    pub accounts: BTreeMap<String, Account>,
    /// Resources of the generic provider, by lower-case id.
    pub resources: BTreeMap<String, Resource>,
    /// Soft-deleted ones, by the lower-case id that they had.
    pub deleted_resources: BTreeMap<String, Deleted>,
    /// What accounts store, by the same name.
    pub storehouses: BTreeMap<String, Storehouse>,
    /// Customer's keys in use, by the lower-case id of the resource under them.
    pub holds: BTreeMap<String, Hold>,
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
    /// Virtual networks, private endpoints and where callers stand.
    pub networks: crate::arm::network::Networks,
    pub propagation: Propagation,
    pub chance: StdRng,
    /// Under which backups of keys are.
    pub backup_key: BackupKey,
    /// When the keys were last looked at for rotation.
    pub rotations_looked: Due,
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
            hsms: BTreeMap::new(),
            deleted_hsms: BTreeMap::new(),
            accounts: BTreeMap::new(),
            resources: BTreeMap::new(),
            deleted_resources: BTreeMap::new(),
            storehouses: BTreeMap::new(),
            holds: BTreeMap::new(),
            assignments: BTreeMap::new(),
            fading: BTreeMap::new(),
            roles: roles::built_in(),
            principals: BTreeMap::new(),
            operations: BTreeMap::new(),
            governance: Governance::new(&options.unregistered, now),
            networks: crate::arm::network::Networks::default(),
            propagation: options.propagation.clone(),
            chance: StdRng::seed_from_u64(options.seed),
            backup_key: BackupKey::default(),
            rotations_looked: None,
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
        for principal in crate::entra::first_party::principals(&options.tenant_id, now) {
            world.principals.insert(principal.object_id.clone(), principal);
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

    /// Lets everything happen that is due, and last of all the services look at their keys. Whether data keys are to be
    /// rewrapped.
    pub fn tick(&mut self, addresses: &Addresses, now: OffsetDateTime) -> bool {
        while let Some(entry) = self.agenda.first_entry().filter(|e| e.key().0 <= now) {
            let ((at, _), event) = entry.remove_entry();
            self.happen(at, event);
        }
        cmk::look_at_all(self, addresses, now)
    }

    fn happen(&mut self, at: OffsetDateTime, event: Event) {
        match event {
            Event::GroupGone(id) => crate::arm::resource_groups::remove(self, &id, at),
            Event::VaultPurge(name, since) => {
                if self.deleted_vaults.get(&name).is_some_and(|v| v.deleted == since) {
                    crate::arm::deleted_vaults::forget(self, &name);
                }
            }
            Event::HsmDeleted(name) => {
                if self.hsms.get(&name).is_some_and(|h| h.deleting) {
                    crate::arm::hsms::soft_delete(self, &name, at);
                }
            }
            Event::HsmPurge(name, since) => {
                if self.deleted_hsms.get(&name).is_some_and(|h| h.deleted == since) {
                    self.purge_hsm(&name);
                }
            }
            Event::KeyPurge(at, key, since) => self.purge_key(&at, &key, since),
            Event::GrantGone(number) => {
                self.fading.remove(&number);
            }
            Event::ResourceGone(id) => generic::gone(self, &id, at),
            Event::ResourcePurge(id, since) => generic::expire(self, &id, since),
        }
    }

    pub fn at(&mut self, when: OffsetDateTime, event: Event) {
        self.counter += 1;
        self.agenda.insert((when, self.counter), event);
    }

    /// Removes all grants at the scope and below, those that are still fading too: what is gone takes them with it.
    pub fn drop_grants(&mut self, scope: &str) {
        self.assignments.retain(|_, a| !at_or_above(scope, &a.scope));
        self.fading.retain(|_, a| !at_or_above(scope, &a.scope));
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
        for h in self.hsms.values_mut() {
            h.settle(now);
        }
        for h in self.holds.values_mut() {
            h.next_look = Some(now);
        }
    }
}
