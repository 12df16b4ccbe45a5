//! The simulated cloud's whole state behind one lock, and what happens to it by the passing of time. Critical sections are
//! short and never span an await. The types of the resources live with their providers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::arm::generic::{self, resource::Resource, soft::Deleted};
use crate::arm::governance::Governance;
use crate::arm::identities::Identity;
use crate::arm::operations::Operation;
use crate::arm::resource_groups::Group;
use crate::arm::storage_accounts::Account;
use crate::arm::vault_model::{DeletedVault, Vault};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::cmk::{self, Hold};
use crate::entra::assertions::IssuerKey;
use crate::entra::host::Machine;
use crate::entra::principals::{Principal, Secret};
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
    /// Something changed since the state file was written.
    pub dirty: AtomicBool,
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
            self.dirty.store(true, Ordering::Relaxed);
        }
        if std::mem::take(&mut world.happened) {
            self.dirty.store(true, Ordering::Relaxed);
        }
        f(&mut world)
    }

    /// The settings in force.
    pub fn tuning(&self) -> Tuning {
        self.tuning.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other settings.
    pub fn set_tuning(&self, to: Tuning) {
        *self.tuning.lock().unwrap_or_else(PoisonError::into_inner) = to;
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
        self.dirty.store(true, Ordering::Relaxed);
        self.throttle.refill();
        self.faults.clear();
        self.journal.clear();
    }
}

/// Something that happens by itself at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// The simulated cloud. All of it goes into the state file: a new member derives `Serialize` and `Deserialize` and has
/// `#[serde(default)]`, so that files of earlier builds are still read.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Signing keys of foreign issuers of tokens, by the issuer's exact name.
    #[serde(default)]
    pub issuers: BTreeMap<String, Vec<IssuerKey>>,
    /// The machine whose plain port gives out tokens.
    #[serde(default)]
    pub machine: Machine,
    /// Virtual networks, private endpoints and where callers stand.
    pub networks: crate::arm::network::Networks,
    pub propagation: Propagation,
    #[serde(skip)]
    pub chance: Chance,
    /// Under which backups of keys are.
    #[serde(default)]
    pub backup_key: BackupKey,
    /// When the keys were last looked at for rotation.
    #[serde(default)]
    pub rotations_looked: Due,
    #[serde(with = "pairs")]
    agenda: BTreeMap<(OffsetDateTime, u64), Event>,
    counter: u64,
    /// How often this world was taken up from a file; each time the chance starts anew from it.
    lives: u64,
    /// Something happened by itself since this was last looked at.
    #[serde(skip)]
    happened: bool,
}

/// A map whose keys are no strings, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
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
            issuers: BTreeMap::new(),
            machine: Machine::default(),
            networks: crate::arm::network::Networks::default(),
            propagation: options.propagation.clone(),
            chance: Chance::of(options.seed),
            backup_key: BackupKey::default(),
            rotations_looked: None,
            agenda: BTreeMap::new(),
            counter: 0,
            lives: 0,
            happened: false,
        };
        world.stand(options, now);
        world
    }

    /// Takes up a world from a file. Lags, like all options, are those of this start; a secret that this start leaves open
    /// stays what it was.
    pub fn take_up(mut self, options: &Options, now: OffsetDateTime) -> Self {
        self.lives += 1;
        self.chance = Chance::of(options.seed.wrapping_add(self.lives.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        self.propagation = options.propagation.clone();
        self.roles.retain(|_, role| !role.built_in);
        self.roles.extend(roles::built_in());
        self.stand(options, now);
        self
    }

    /// The first secret of a principal.
    pub fn secret_of(&self, object_id: &str) -> Option<String> {
        let principal = self.principals.get(&object_id.to_lowercase())?;
        principal.secrets.first().map(|s| s.value.clone())
    }

    /// The two principals that are always there, and the one's ownership of the subscriptions.
    fn stand(&mut self, options: &Options, now: OffsetDateTime) {
        for (name, app, oid, secret) in [
            ("operator", &options.client_id, &options.object_id, &options.client_secret),
            ("outsider", &options.outsider_client_id, &options.outsider_object_id, &options.outsider_secret),
        ] {
            let fresh = Principal::new(oid, app, name, Some(now));
            let principal = self.principals.entry(fresh.object_id.clone()).or_insert(fresh);
            principal.app_id = app.to_lowercase();
            if let Some(value) = secret {
                principal.secrets = vec![Secret { value: value.clone(), expires: None }];
            }
        }
        for principal in crate::entra::first_party::principals(&options.tenant_id, now) {
            self.principals.entry(principal.object_id.clone()).or_insert(principal);
        }
        for subscription in options.subscriptions() {
            let scope = format!("/subscriptions/{subscription}");
            let owner = Assignment::standing(&scope, roles::OWNER, &options.object_id, now);
            self.assignments.entry(owner.id.to_lowercase()).or_insert(owner);
        }
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
        self.happened = true;
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
