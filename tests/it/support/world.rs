//! A whole world for one test: the simulator, a database, the store, and workers whose time the test moves.
//!
//! The service's clock and the simulator's stand still until the test moves both, so a wait of minutes takes
//! milliseconds and ends at an exact time.

use std::sync::Arc;
use std::time::Duration;

use arm_schemas::Watch;
use azure_sim::{Filter, Observer, Options, Propagation, Simulator, Throttling};
use cmk::azure::cloud::CustomCloud;
use cmk::azure::{Azure, AzureSettings, CallContext, Cloud, CredentialSettings, Timeouts};
use cmk::clock::Clock;
use cmk::domain::ids::JobId;
use cmk::domain::job::{JobKind, JobState};
use cmk::domain::request::CmkRequest;
use cmk::engine::{Worker, WorkerSettings};
use cmk::plan::plan;
use cmk::services::rules;
use cmk::store::notify::NewsHub;
use cmk::store::{Accepted, Event, Job, NewJob, Store};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::database::TestDatabase;
use super::schemas::watch;

/// More turns than any job of these tests needs; reaching it means that a job does not end.
const MAX_TURNS: usize = 2000;

/// One test's world.
pub struct World {
    /// Azure's stand-in.
    pub sim: Simulator,
    /// The jobs.
    pub store: Store,
    /// The clients, signed in as the simulator's owner.
    pub azure: Arc<Azure>,
    /// The service's clock.
    pub clock: Clock,
    /// The database lives as long as the world.
    pub database: TestDatabase,
    /// Fails the test where a body does not hold to Azure's published types.
    _schemas: Watch,
}

/// A simulator whose ARM bodies are held against the published types; the given observer is asked after those.
pub async fn simulator(options: Options) -> (Simulator, Watch) {
    // Time is moved by hours, while a client renews its token by real time.
    let token_lifetime = Duration::from_secs(365 * 24 * 3600);
    let (schemas, observer) = watch();
    let observer: Observer = match options.observer.clone() {
        None => observer,
        Some(more) => Arc::new(move |exchange| {
            observer(exchange);
            more(exchange);
        }),
    };
    let options = Options { fast_keys: true, token_lifetime, observer: Some(observer), ..options };
    (Simulator::start(options).await.expect("the simulator starts"), schemas)
}

/// Applies the real migrations.
pub fn migrate(pool: sqlx::PgPool) -> futures::future::BoxFuture<'static, Result<(), sqlx::Error>> {
    Box::pin(async move { Ok(cmk::store::MIGRATIONS.run(&pool).await?) })
}

impl World {
    /// A world in which everything is visible at once.
    pub async fn instant() -> Self {
        Self::start(Propagation::instant()).await
    }

    /// A world with these lags.
    pub async fn start(propagation: Propagation) -> Self {
        Self::start_with(Options { propagation, ..Options::default() }).await
    }

    /// A world with these options.
    pub async fn start_with(options: Options) -> Self {
        let (sim, schemas) = simulator(options).await;
        sim.clock().freeze();
        let clock = Clock::manual(sim.clock().now());
        Self::over(sim, clock, schemas).await
    }

    /// A world in which time passes by itself, for real processes.
    pub async fn live(propagation: Propagation) -> Self {
        Self::live_with(Options { propagation, ..Options::default() }).await
    }

    /// The same with more options.
    pub async fn live_with(options: Options) -> Self {
        let (sim, schemas) = simulator(options).await;
        Self::over(sim, Clock::System, schemas).await
    }

    /// A live world without lags and limits; `observer` is shown each call after it was carried out and before its answer
    /// leaves.
    pub async fn live_watched(observer: Observer) -> Self {
        let options = Options { propagation: Propagation::instant(), observer: Some(observer), ..Options::default() };
        let (sim, schemas) = simulator(options).await;
        sim.set_throttling(Throttling { enabled: false, ..Throttling::default() });
        Self::over(sim, Clock::System, schemas).await
    }

    /// Ends every lease now, as if its time were over.
    pub async fn end_leases(&self) {
        // Where leases are kept is the store's business; both homes it ever had are known here and nowhere else.
        let split: bool = sqlx::query_scalar("select to_regclass('job_runs') is not null")
            .fetch_one(&self.database.pool)
            .await
            .expect("the database answers");
        let end = "set lease_until = now() - interval '1 second' where lease_until is not null";
        let table = if split { "job_runs" } else { "jobs" };
        let end =
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("update {table} {end}"))).execute(&self.database.pool).await;
        end.expect("the leases can be ended");
    }

    async fn over(sim: Simulator, clock: Clock, schemas: Watch) -> Self {
        let database = TestDatabase::new(migrate).await;
        let store = Store::new(database.pool.clone(), clock.clone());
        let azure = Arc::new(
            Azure::connect_with_clock(azure_settings(&sim), clock.clone()).expect("the settings are complete"),
        );
        Self { sim, store, azure, clock, database, _schemas: schemas }
    }

    /// Moves both clocks, never backwards.
    pub fn advance_to(&self, to: OffsetDateTime) {
        self.clock.advance_to(to);
        self.sim.clock().set(self.clock.now());
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.advance_to(self.clock.now() + by);
    }

    /// A worker of this world.
    pub fn worker(&self) -> Worker {
        let name = format!("test-{}", Uuid::new_v4());
        Worker::new(self.store.clone(), Arc::clone(&self.azure), NewsHub::new(), WorkerSettings::named(name))
    }

    /// Forgets tokens and connections, as a new process.
    pub fn connect_again(&mut self) {
        self.azure = Arc::new(
            Azure::connect_with_clock(azure_settings(&self.sim), self.clock.clone())
                .expect("the settings are complete"),
        );
    }

    /// What happened to the job.
    pub async fn events(&self, id: JobId) -> Vec<Event> {
        self.store.list_events(id, 0, 100_000).await.expect("the database answers")
    }

    /// Accepts a request as the API would.
    pub async fn submit(&self, body: &Value) -> JobId {
        let request = parse(body);
        let (descriptor, faults) = rules::check(&request);
        assert!(faults.is_empty(), "{faults:?}");
        let descriptor = descriptor.expect("the target's type is known");
        let plan = plan(&request, descriptor);
        let id = JobId::generate();
        let job = NewJob {
            id,
            kind: JobKind::Provision,
            service: &descriptor.slug,
            requested_by: "test",
            request: &request,
            plan: &plan,
            traceparent: None,
        };
        match self.store.insert_job(&job, None).await.expect("the database takes the job") {
            Accepted::New(_) => id,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// The job as it is.
    pub async fn job(&self, id: JobId) -> Job {
        self.store.get_job(id).await.expect("the database answers").expect("the job exists")
    }

    /// Lets a worker run the job to its end, moving time to each next look. A turn that crashed is followed by another
    /// worker once the lease has run out.
    pub async fn run_to_end(&self, worker: &Worker, id: JobId) -> Job {
        for _ in 0..MAX_TURNS {
            worker.tick().await.expect("the database answers");
            let job = self.job(id).await;
            if job.state.is_final() {
                return job;
            }
            let due = self.store.next_due().await.expect("the database answers").expect("an unfinished job is due");
            // A lease has ended when its end lies in the past.
            self.advance_to(due + Duration::from_millis(1));
        }
        panic!("the job did not end: {:?}", self.job(id).await);
    }

    /// Submits and runs to the end.
    pub async fn provision(&self, body: &Value) -> Job {
        let id = self.submit(body).await;
        self.run_to_end(&self.worker(), id).await
    }

    /// Submits and runs to the end, which must be success.
    pub async fn succeed(&self, body: &Value) -> Job {
        let job = self.provision(body).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
        job
    }

    /// The simulator's state without what differs from run to run; this job's id, in tags, reads `<job>`.
    pub fn state_after(&self, id: JobId) -> Value {
        let text = self.sim.normalized().to_string().replace(&id.to_string(), "<job>");
        serde_json::from_str(&text).expect("replacing an id keeps it JSON")
    }

    /// Requests that changed something in the simulator.
    pub fn changes(&self) -> Vec<String> {
        let filter = Filter { changed: Some(true), mutating: Some(true), ..Filter::default() };
        self.sim.journal().find(&filter).into_iter().map(|e| format!("{} {}", e.method, e.path)).collect()
    }

    /// An id in the simulator's subscription.
    pub fn id(&self, group: &str, resource_type: &str, name: &str) -> String {
        format!("/subscriptions/{}/resourceGroups/{group}/providers/{resource_type}/{name}", self.sim.subscription_id())
    }

    /// The seed's request: everything is to be created.
    pub fn seed(&self) -> Value {
        let group = "rg-cmk-demo";
        json!({
            "target": {
                "resourceId": self.id(group, "Microsoft.Storage/storageAccounts", "stcmkdemo1"),
                "create": { "location": "uksouth" },
            },
            "keyStore": {
                "resourceId": self.id(group, "Microsoft.KeyVault/vaults", "kvcmkdemo1"),
                "create": { "location": "uksouth", "network": { "allowedIps": ["203.0.113.0/24"] } },
            },
            "key": { "name": "sa-cmk-key" },
            "createResourceGroups": true,
        })
    }

    /// The seed's request for an account that exists in a group of its own; vault and identity are to be created.
    pub fn seed_for_existing(&self) -> Value {
        let mut body = self.seed();
        body["target"] = json!({ "resourceId": self.id("rg-app", "Microsoft.Storage/storageAccounts", "stcmkdemo1") });
        let identity = self.id("rg-cmk-demo", "Microsoft.ManagedIdentity/userAssignedIdentities", "id-stcmkdemo1");
        body["identity"] = json!({ "resourceId": identity, "create": {} });
        body
    }

    /// Makes the account that [`World::seed_for_existing`] names, with a Microsoft-managed key.
    pub async fn make_existing_account(&self) {
        self.make_live_account().await;
        self.advance(Duration::from_secs(60));
    }

    /// The same where time passes by itself. Returns the account's id.
    pub async fn make_live_account(&self) -> String {
        let group = format!("/subscriptions/{}/resourceGroups/rg-app", self.sim.subscription_id());
        self.put(&group, "2025-04-01", &json!({ "location": "uksouth" })).await;
        let account = self.id("rg-app", "Microsoft.Storage/storageAccounts", "stcmkdemo1");
        let body = json!({
            "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" }, "properties": {}
        });
        self.put(&account, "2026-04-01", &body).await;
        account
    }

    /// Writes to the simulator as its owner.
    pub async fn put(&self, path: &str, api_version: &str, body: &Value) {
        // Clients of its own: the service's may have to wait for what a test did to them.
        let azure = Azure::connect(azure_settings(&self.sim)).expect("the settings are complete");
        let cx = CallContext::new(Uuid::new_v4());
        azure.arm.put(&cx, path, api_version, body).await.expect("the simulator takes what the test arranges");
    }

    /// Forgets everything in the simulator, for the next case of a table.
    pub fn forget_azure(&self) {
        self.sim.reset();
    }
}

/// Reads a body that has no fault.
pub fn parse(body: &Value) -> CmkRequest {
    let (request, faults) = cmk::domain::request_parse::parse(body);
    assert!(faults.is_empty(), "{faults:?}");
    request.expect("a request without faults is complete")
}

/// The simulator as a custom cloud.
pub fn azure_settings(sim: &Simulator) -> AzureSettings {
    let cloud = Cloud::custom(CustomCloud {
        name: "simulator".into(),
        arm: sim.arm_url(),
        authority_host: sim.login_url(),
        arm_scope: None,
        vault_suffix: sim.vault_suffix(),
        hsm_suffix: sim.hsm_suffix(),
        graph: Some(sim.graph_url()),
        extra_ca_pem: Some(sim.ca_pem().as_bytes().to_vec()),
    });
    AzureSettings {
        cloud: cloud.expect("the simulator's addresses are a cloud's"),
        credential: CredentialSettings::ClientSecret {
            tenant_id: sim.tenant_id().to_owned(),
            client_id: sim.client_id().to_owned(),
            secret: sim.client_secret().into(),
        },
        timeouts: Timeouts::default(),
    }
}
