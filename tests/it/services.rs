//! Every service of the catalogue, on every way that it allows, as whole jobs against the simulator.
//!
//! What belongs here: the cells of the matrix and how a target comes to be that exists before its job. What does not:
//! what a service takes; that is the catalogue's. `services/targets.json` holds the bodies of targets under a key of
//! Microsoft, made from the published write shapes.
//!
//! A cell is a service, a target that exists or is created, a kind of identity, and a kind of reference to the key. The
//! bodies that are sent and answered are held against Azure's published types where those are present (`World`).
//! `CMK_COVERAGE` names the services to run, divided by commas; without it all run.

mod demands;
mod managed_hsm;
mod merged;
mod refusals;
mod threads;
mod two_writes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use azure_sim::Filter;
use cmk::azure::{Azure, CallContext};
use cmk::domain::ids::PrincipalId;
use cmk::domain::job::JobState;
use cmk::domain::request::{IdentityKind, KeyVersion};
use cmk::engine::crash::{CrashPoint, CrashPoints};
use cmk::engine::{Worker, WorkerSettings};
use cmk::services::rules::identity_word;
use cmk::services::{ALL, IdentityOn, Known, ServiceDescriptor};
use cmk::store::Job;
use cmk::store::notify::NewsHub;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::docs::role::{OUTSIDER, action_of, check_asked, confined};
use crate::support::world::World;

/// How a target comes to be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Target {
    /// What it lies in, outermost first.
    #[serde(default)]
    before: Vec<Outer>,
    /// Its body under a key of Microsoft.
    #[serde(default)]
    plain: Option<Value>,
    /// What a request to create it has to say.
    #[serde(default)]
    create_properties: Map<String, Value>,
}

/// A resource that a target lies in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    #[serde(rename = "type")]
    resource_type: String,
    body: Value,
}

/// One way to the key.
#[derive(Clone, Copy, Debug)]
struct Cell {
    creating: bool,
    identity: IdentityKind,
    version: KeyVersion,
    hsm: bool,
}

impl Cell {
    fn all(service: &ServiceDescriptor) -> Vec<Self> {
        let mut cells = Vec::new();
        let stores: &[bool] = if service.managed_hsm { &[false, true] } else { &[false] };
        for (creating, kinds) in [(false, &service.identity_kinds), (true, &service.identity_kinds_at_creation)] {
            for (identity, hsm) in kinds.iter().flat_map(|k| stores.iter().map(move |s| (*k, *s))) {
                cells.extend(service.key_versions.iter().map(|v| Self { creating, identity, version: *v, hsm }));
            }
        }
        cells
    }

    fn name(self) -> String {
        let version = if self.version == KeyVersion::Latest { "latest" } else { "pinned" };
        let target = if self.creating { "created" } else { "existing" };
        let store = if self.hsm { "hsm" } else { "vault" };
        format!("{target}/{}/{version}/{store}", identity_word(self.identity))
    }
}

fn targets() -> BTreeMap<String, Target> {
    serde_json::from_str(include_str!("services/targets.json")).expect("the file is well formed")
}

/// The world of one service, in which each cell has a group of its own.
struct Place {
    world: World,
    /// Clients that may do what the custom role lets them, and nothing more.
    confined: Arc<Azure>,
    service: &'static ServiceDescriptor,
    target: Target,
}

impl Place {
    async fn new(service: &'static ServiceDescriptor) -> Self {
        Self::in_world(service, World::instant().await).await
    }

    async fn in_world(service: &'static ServiceDescriptor, world: World) -> Self {
        let target = targets().remove(&service.slug).unwrap_or_default();
        Self { confined: confined(&world).await, world, service, target }
    }

    /// A worker that holds the custom role, and not more.
    fn worker(&self) -> Worker {
        let (store, settings) = (self.world.store.clone(), WorkerSettings::named(format!("test-{}", Uuid::new_v4())));
        Worker::new(store, Arc::clone(&self.confined), NewsHub::new(), settings)
    }

    /// Runs a job under the custom role.
    async fn provision(&self, body: &Value) -> Job {
        let id = self.world.submit(body).await;
        self.world.run_to_end(&self.worker(), id).await
    }

    fn group(&self, n: usize) -> String {
        format!("/subscriptions/{}/resourceGroups/rg-{n}", self.world.sim.subscription_id())
    }

    fn vault(&self, n: usize) -> String {
        format!("{}/providers/Microsoft.KeyVault/vaults/kv-coverage-{n}", self.group(n))
    }

    fn hsm(&self, n: usize) -> String {
        format!("{}/providers/Microsoft.KeyVault/managedHSMs/hsmcoverage{n}", self.group(n))
    }

    /// The service's own principal.
    async fn admin(&self) -> PrincipalId {
        self.world.azure.own_principal(&CallContext::new(Uuid::nil())).await.expect("it is signed in").id
    }

    /// An HSM of which the service is an administrator, as its owner would have made it.
    async fn make_hsm(&self, n: usize) {
        let world = &self.world;
        let admin = self.admin().await;
        let body = json!({
            "location": "uksouth", "sku": { "family": "B", "name": "Standard_B1" },
            "properties": {
                "tenantId": world.sim.tenant_id(), "initialAdminObjectIds": [admin, OUTSIDER],
                "enableSoftDelete": true, "softDeleteRetentionInDays": 90, "enablePurgeProtection": true,
            },
        });
        world.put(&self.hsm(n), "2023-07-01", &body).await;
        world.advance(Duration::from_secs(3600));
        assert!(world.sim.activate_hsm(&format!("hsmcoverage{n}")), "it is provisioned");
        world.advance(Duration::from_secs(60));
    }

    /// A private endpoint of the vault, which its owner approves by making it.
    async fn make_private_endpoint(&self, n: usize) {
        let network = format!("{}/providers/Microsoft.Network/virtualNetworks/vnet1", self.group(n));
        let subnet = json!({ "name": "sub1", "properties": { "addressPrefix": "10.1.0.0/24" } });
        let body = json!({ "location": "uksouth", "properties": {
            "addressSpace": { "addressPrefixes": ["10.1.0.0/16"] }, "subnets": [subnet] } });
        self.world.put(&network, "2024-05-01", &body).await;
        let connection = json!({ "name": "c1", "properties": {
            "privateLinkServiceId": self.vault(n), "groupIds": ["vault"] } });
        let body = json!({ "location": "uksouth", "properties": {
            "subnet": { "id": format!("{network}/subnets/sub1") }, "privateLinkServiceConnections": [connection] } });
        let endpoint = format!("{}/providers/Microsoft.Network/privateEndpoints/pe1", self.group(n));
        self.world.put(&endpoint, "2024-05-01", &body).await;
        self.world.advance(Duration::from_secs(60));
    }

    /// The body of a resource, with its place in it.
    fn placed(&self, n: usize, body: &Value) -> Value {
        let text = body.to_string().replace("{groupPath}", &self.group(n)).replace("{vaultId}", &self.vault(n));
        serde_json::from_str(&text.replace("{name}", &format!("svctarget{n}"))).expect("replacing words keeps it JSON")
    }

    /// The id of the target, or of the resource of this type that it lies in.
    fn id(&self, n: usize, resource_type: &str) -> String {
        let (namespace, types) = resource_type.split_once('/').expect("a namespace and a type");
        let path: Vec<String> = types.split('/').map(|t| format!("{t}/svctarget{n}")).collect();
        format!("{}/providers/{namespace}/{}", self.group(n), path.join("/"))
    }

    /// What there is before the job: a group, an open vault, and what the target lies in, or itself.
    async fn arrange(&self, n: usize, cell: Cell) {
        let (world, version) = (&self.world, &self.service.api_version);
        world.put(&self.group(n), "2025-04-01", &json!({ "location": "uksouth" })).await;
        let vault = json!({
            "location": "uksouth",
            "properties": {
                "tenantId": world.sim.tenant_id(), "sku": { "family": "A", "name": "standard" },
                "enableRbacAuthorization": true, "enablePurgeProtection": true,
            },
        });
        world.put(&self.vault(n), "2023-07-01", &vault).await;
        if cell.hsm {
            self.make_hsm(n).await;
        }
        if self.service.needs_private_endpoint {
            self.make_private_endpoint(n).await;
        }
        for outer in &self.target.before {
            let path = self.id(n, &outer.resource_type);
            world.put(&path, version, &self.placed(n, &outer.body)).await;
            world.advance(Duration::from_secs(3600));
        }
        // A scope lies under the identity of an account that is under a key itself.
        if self.service.identity_on == IdentityOn::Parent && self.service.slug.ends_with("-encryption-scope") {
            let outer = self.target.before.last().expect("a scope lies in an account");
            let mut body = self.request(n, cell);
            body["target"] = json!({ "resourceId": self.id(n, &outer.resource_type) });
            body["key"]["version"] = json!("latest");
            world.succeed(&body).await;
        }
        let plain = self.target.plain.as_ref().filter(|_| !cell.creating);
        if let Some(plain) = plain {
            world.put(&self.id(n, &self.service.arm_type), version, &self.placed(n, plain)).await;
            world.advance(Duration::from_secs(3600));
        }
    }

    fn request(&self, n: usize, cell: Cell) -> Value {
        let service = self.service;
        let mut target = json!({ "resourceId": self.id(n, &service.arm_type), "service": service.slug });
        if cell.creating {
            let properties = self.placed(n, &Value::Object(self.target.create_properties.clone()));
            target["create"] = json!({ "location": "uksouth", "properties": properties });
        }
        let mut identity = json!({ "kind": identity_word(cell.identity) });
        if cell.identity == IdentityKind::UserAssigned {
            let id = format!("{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-1", self.group(n));
            identity["resourceId"] = json!(id);
            identity["create"] = json!({ "location": "uksouth" });
        }
        json!({
            "target": target,
            "keyStore": { "resourceId": if cell.hsm { self.hsm(n) } else { self.vault(n) } },
            "key": {
                "name": "k1", "type": if cell.hsm { "RSA-HSM" } else { "RSA" }, "size": service.key_sizes.first(),
                "version": if cell.version == KeyVersion::Latest { "latest" } else { "pinned" },
            },
            "identity": identity,
        })
    }

    /// Runs the job of a cell and says what is wrong with its end.
    async fn run(&self, n: usize, cell: Cell) -> Result<BTreeSet<String>, String> {
        self.arrange(n, cell).await;
        let body = self.request(n, cell);
        let arm = Filter { surface: Some("arm".into()), ..Filter::default() };
        let before = self.world.sim.journal().count(&arm);
        let job = self.provision(&body).await;
        let calls = self.world.sim.journal().find(&arm).into_iter().skip(before);
        let asked = calls.filter_map(|call| action_of(&call.method, &call.path)).collect();
        if job.state != JobState::Succeeded {
            let step = job
                .steps
                .iter()
                .find(|s| s.finished_at.is_none() && s.started_at.is_some())
                .map(|s| s.planned.name.clone());
            return Err(format!("{:?} at {step:?}: {:?}", job.state, job.failure));
        }
        let evidence = job.facts.evidence.ok_or("it succeeded without evidence")?;
        let follows = cell.version == KeyVersion::Latest && self.service.follows_versions;
        if !evidence.key_id.contains("/keys/k1") || evidence.follows_rotation != follows {
            return Err(format!("the evidence is of something else: {evidence:?}"));
        }
        self.changes_nothing_more(&body).await.map(|()| asked)
    }

    /// The same job again finds everything done.
    async fn changes_nothing_more(&self, body: &Value) -> Result<(), String> {
        let before = self.world.changes().len();
        let again = self.provision(body).await;
        let more: Vec<_> = self.world.changes().into_iter().skip(before).collect();
        match (again.state, more.is_empty()) {
            (JobState::Succeeded, true) => Ok(()),
            (state, _) => Err(format!("a second run ended as {state:?} and changed {more:?}: {:?}", again.failure)),
        }
    }
}

impl Place {
    /// Runs the job of a cell, its worker dying at a point of a step if one is given; another worker takes over. Answers
    /// what was changed on the way, without what differs from run to run.
    async fn changes_of(
        &self,
        n: usize,
        cell: Cell,
        cut: Option<(&'static str, CrashPoint)>,
    ) -> Result<Vec<String>, String> {
        self.arrange(n, cell).await;
        let (crashed, before) = (Arc::new(AtomicBool::new(false)), self.world.changes().len());
        let once = Arc::clone(&crashed);
        let points: CrashPoints = Arc::new(move |at, p| {
            cut == cut.filter(|c| *c == (at, p)) && cut.is_some() && !once.swap(true, Ordering::SeqCst)
        });
        let body = self.request(n, cell);
        let id = self.world.submit(&body).await;
        let job = self.world.run_to_end(&self.worker().with_crash_points(points), id).await;
        if job.state != JobState::Succeeded {
            return Err(format!("{:?} {:?}", job.state, job.failure));
        }
        let planned = |step: &str| job.steps.iter().any(|s| s.planned.name == step);
        if let Some((step, CrashPoint::BeforeRecord)) = cut
            && planned(step) != crashed.load(Ordering::SeqCst)
        {
            return Err("it was never cut off".to_owned());
        }
        let same = |change: String| {
            let cut = ["/roleAssignments/", "_k1_"].iter().filter_map(|word| change.find(word)).min();
            let change = &change[..cut.unwrap_or(change.len())];
            ["rg-", "svctarget", "kv-coverage-", "hsmcoverage"]
                .iter()
                .fold(change.to_owned(), |c, word| c.replace(&format!("{word}{n}"), word))
        };
        let mut changes: Vec<_> = self.world.changes().into_iter().skip(before).map(same).collect();
        changes.sort();
        self.changes_nothing_more(&body).await?;
        Ok(changes)
    }
}

/// The steps that are a service's own; the others are the same for all, and `crash` cuts them off.
const OWN_STEPS: [&str; 2] = ["attach-identity", "configure-service"];

/// The same where the grant comes after the target names the key.
const KEYED_STEPS: [&str; 3] = ["attach-identity", "configure-service", "grant-identity-access"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_in_a_services_own_steps_leaves_what_an_undisturbed_one_leaves() {
    let rows = futures::stream::iter(services()).map(|d| async move {
        let run = tokio::task::spawn_blocking(move || cut_off(d));
        run.await.expect("it does not panic")
    });
    let outcomes: Vec<Vec<String>> = rows.buffered(4).collect().await;
    let wrong = outcomes.concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What goes wrong with a service's jobs that are cut off: one cell for a target that exists, one for a new one, and one for
/// each order of the steps that other kinds of identity lead to.
fn cut_off(service: &'static ServiceDescriptor) -> Vec<String> {
    let mut cells: Vec<Cell> = Vec::new();
    for cell in Cell::all(service).into_iter().filter(|c| !c.hsm) {
        let way = |c: &Cell| (c.creating, service.principal_known(c.identity, c.creating));
        let usual = !cell.creating && way(&cell).1 == Known::Attached && service.own_principal.is_none();
        if !cells.iter().any(|c| way(c) == way(&cell)) && (!usual || cells.is_empty()) {
            cells.push(cell);
        }
    }
    cut_off_in(service, &cells, &OWN_STEPS)
}

/// What goes wrong with jobs of these cells that are cut off in these steps.
fn cut_off_in(service: &'static ServiceDescriptor, cells: &[Cell], steps: &[&'static str]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime can be made").block_on(async move {
        let (place, mut wrong, mut n) = (Place::new(service).await, Vec::new(), 0);
        for cell in cells.iter().copied() {
            let want = place.changes_of(n, cell, None).await;
            let keyed = service.principal_known(cell.identity, cell.creating) == Known::Keyed;
            for step in if keyed { &KEYED_STEPS[..] } else { steps }.iter().copied() {
                for point in [CrashPoint::BeforeAct, CrashPoint::AfterAct, CrashPoint::BeforeRecord] {
                    n += 1;
                    let found = place.changes_of(n, cell, Some((step, point))).await;
                    if want.is_err() || found != want {
                        let cell = cell.name();
                        wrong.push(format!("{} {cell} {step} {point:?}: {found:?}, not {want:?}", service.slug));
                    }
                }
            }
            n += 1;
        }
        wrong
    })
}

/// The services to run.
fn services() -> Vec<&'static ServiceDescriptor> {
    let named = std::env::var("CMK_COVERAGE").ok();
    let wanted = |slug: &str| named.as_deref().is_none_or(|names| names.split(',').any(|n| n == slug));
    ALL.iter().filter(|d| wanted(&d.slug)).collect()
}

/// The outcomes of a service's cells. Each runs on a thread of its own, so that a panic is that cell's failure.
fn outcomes(service: &'static ServiceDescriptor) -> Vec<(Cell, Result<BTreeSet<String>, String>)> {
    let run = |n: usize, cell: Cell| {
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(async move { Place::new(service).await.run(n, cell).await })
        });
        thread.join().unwrap_or_else(|panic| Err(format!("panic: {:?}", panic.downcast_ref::<String>())))
    };
    Cell::all(service).into_iter().enumerate().map(|(n, cell)| (cell, run(n, cell))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coverage_every_allowed_cell_succeeds() {
    let row = |d: &'static ServiceDescriptor| async move {
        (d, tokio::task::spawn_blocking(move || outcomes(d)).await.expect("a cell's panic is caught"))
    };
    let rows = futures::stream::iter(services()).map(row).buffered(4);
    let (mut text, mut passed, mut failed, mut asked) = (String::new(), 0, 0, BTreeSet::new());
    for (service, cells) in rows.collect::<Vec<_>>().await {
        let _ = writeln!(text, "{}", service.slug);
        for (cell, outcome) in cells {
            let told = match outcome {
                Ok(actions) => {
                    passed += 1;
                    asked.extend(actions);
                    "ok".to_owned()
                }
                Err(why) => {
                    failed += 1;
                    why
                }
            };
            let _ = writeln!(text, "  {:<38} {told}", cell.name());
        }
    }
    println!("{text}{passed} passed, {failed} failed");
    assert!(passed > 0 && failed == 0, "{failed} cells of the matrix failed");
    if services().len() == ALL.len() {
        check_asked(&asked);
    }
}
