//! A simulator and the clients for it, with one clock for both that only moves where a job waits.

use std::pin::Pin;
use std::time::Duration;

use arm_schemas::Watch;
use azure_sim::{Filter, Options, Propagation, Simulator};
use cmk::azure::cloud::CustomCloud;
use cmk::azure::{Azure, AzureSettings, CallContext, Cloud, CredentialSettings, Timeouts};
use cmk::clock::Clock;
use cmk::domain::codes::Code;
use cmk::domain::facts::Facts;
use cmk::domain::failure::Failure;
use cmk::domain::ids::JobId;
use cmk::domain::request_parse;
use cmk::domain::retry::{MAX_ATTEMPTS, retry_delay};
use cmk::services::rules;
use cmk::steps::{self, ActGate, Progress, StepContext, StepOutcome, Stop};
use serde_json::{Value, json};

use crate::support::schemas::watch;

/// More runs of one step than any test needs.
const MAX_RUNS: u32 = 2000;

pub struct World {
    pub sim: Simulator,
    pub azure: Azure,
    pub clock: Clock,
    http: reqwest::Client,
    /// Every run of a step is done twice: as if the worker died before it could record the first.
    pub forgetful: bool,
    /// Fails the test where a body does not hold to Azure's published types.
    _schemas: Watch,
}

/// How a job went.
#[derive(Debug, Default)]
pub struct Ran {
    pub facts: Facts,
    /// The steps that changed something.
    pub changed: Vec<String>,
    /// Each reason to wait, with its step, as often as it was given.
    pub waits: Vec<(String, String)>,
    /// The simulated time that it took.
    pub took: Duration,
    /// The step that failed, and why.
    pub failed: Option<(String, Failure)>,
}

impl Ran {
    pub fn waited_for(&self, step: &str, code: &str) -> bool {
        self.waits.iter().any(|(s, c)| s == step && c == code)
    }

    #[track_caller]
    pub fn must_succeed(self) -> Self {
        assert!(self.failed.is_none(), "{:?} after {:?}", self.failed, self.waits);
        self
    }

    #[track_caller]
    pub fn must_fail(&self, step: &str, code: Code) {
        let found = self.failed.as_ref().map(|(step, failure)| (step.as_str(), failure.code));
        assert_eq!(found, Some((step, code)), "{:?}", self.failed);
    }
}

struct Allow;

impl ActGate for Allow {
    fn may_act<'a>(&'a self) -> Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>> {
        Box::pin(async { Ok(()) })
    }

    fn acted<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {})
    }
}

impl World {
    pub async fn new(propagation: Propagation) -> Self {
        let (schemas, observer) = watch();
        let options = Options {
            observer: Some(observer),
            propagation,
            fast_keys: true,
            // A certificate's wildcard needs two labels behind it.
            suffix: "azure.localhost".into(),
            token_lifetime: Duration::from_secs(24 * 3600),
            ..Options::default()
        };
        let sim = Simulator::start(options).await.expect("the simulator starts");
        sim.clock().freeze();
        let cloud = Cloud::custom(CustomCloud {
            name: "simulator".into(),
            arm: sim.arm_url(),
            authority_host: sim.login_url(),
            arm_scope: None,
            vault_suffix: sim.vault_suffix(),
            hsm_suffix: sim.hsm_suffix(),
            graph: Some(sim.graph_url()),
            extra_ca_pem: Some(sim.ca_pem().as_bytes().to_vec()),
        })
        .expect("the simulator's addresses are valid");
        let credential = CredentialSettings::ClientSecret {
            tenant_id: sim.tenant_id().into(),
            client_id: sim.client_id().into(),
            secret: sim.client_secret().into(),
        };
        let settings = AzureSettings { cloud, credential, timeouts: Timeouts::default() };
        let clock = Clock::manual(sim.clock().now());
        let azure = Azure::connect_with_clock(settings, clock.clone()).expect("the settings are valid");
        let ca = reqwest::Certificate::from_pem(sim.ca_pem().as_bytes()).expect("a certificate");
        let http = reqwest::Client::builder()
            .tls_certs_merge([ca])
            .no_proxy()
            .resolve("management.azure.localhost", sim.address())
            .resolve("kv-1.vault.azure.localhost", sim.address())
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client");
        Self { sim, azure, clock, http, forgetful: false, _schemas: schemas }
    }

    pub async fn instant() -> Self {
        Self::new(Propagation::instant()).await
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.sim.clock().set(self.clock.now());
    }

    /// The id of something in `rg-1`.
    pub fn id(&self, kind: &str, name: &str) -> String {
        format!("/subscriptions/{}/resourceGroups/rg-1/providers/{kind}/{name}", self.sim.subscription_id())
    }

    pub fn account(&self) -> String {
        self.id("Microsoft.Storage/storageAccounts", "stcmk1")
    }

    pub fn vault(&self) -> String {
        self.id("Microsoft.KeyVault/vaults", "kv-1")
    }

    pub fn identity(&self) -> String {
        self.id("Microsoft.ManagedIdentity/userAssignedIdentities", "id-stcmk1")
    }

    /// One call by the owner of the subscription, who is also who the service is.
    pub async fn arm(&self, method: &str, path: &str, api_version: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}?api-version={api_version}", self.sim.arm_url());
        self.call(method, &url, &format!("{}/", self.sim.arm_url()), body).await
    }

    pub async fn call(&self, method: &str, url: &str, audience: &str, body: Value) -> (u16, Value) {
        let token = self.sim.token_for(self.sim.object_id(), audience).expect("the principal exists");
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, url).bearer_auth(token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("the simulator answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    pub async fn put(&self, path: &str, api_version: &str, body: Value) {
        let (status, answer) = self.arm("PUT", path, api_version, body).await;
        assert!((200..300).contains(&status), "{status} {answer}");
    }

    pub async fn make_group(&self) {
        let path = format!("/subscriptions/{}/resourceGroups/rg-1", self.sim.subscription_id());
        self.put(&path, "2025-04-01", json!({ "location": "uksouth" })).await;
    }

    /// A storage account with Microsoft's key.
    pub async fn make_account(&self) {
        let body = json!({"location": "uksouth", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}});
        self.put(&self.account(), "2026-04-01", body).await;
        self.advance(Duration::from_secs(60));
    }

    /// A vault that is open to all networks, with `properties` on top.
    pub async fn make_vault(&self, properties: Value) {
        let mut body = json!({"location": "uksouth", "properties": {
            "tenantId": self.sim.tenant_id(), "sku": {"family": "A", "name": "standard"},
            "enableRbacAuthorization": true}});
        for (name, value) in properties.as_object().into_iter().flatten() {
            body["properties"][name] = value.clone();
        }
        self.put(&self.vault(), "2026-02-01", body).await;
    }

    pub async fn read_account(&self) -> Value {
        self.arm("GET", &self.account(), "2026-04-01", Value::Null).await.1
    }

    pub async fn read_vault(&self) -> Value {
        self.arm("GET", &self.vault(), "2026-02-01", Value::Null).await.1
    }

    /// How many requests asked for a change after this position of the journal, signing in aside.
    pub fn mutations_after(&self, seq: u64) -> Vec<String> {
        let filter = Filter { mutating: Some(true), after: Some(seq), ..Filter::default() };
        let entries = self.sim.journal().find(&filter).into_iter();
        entries.filter(|e| e.surface != "login").map(|e| format!("{} {} {}", e.method, e.path, e.status)).collect()
    }

    /// What was changed, in order, without the names that differ between two worlds.
    pub fn changes(&self) -> Vec<String> {
        let filter = Filter { changed: Some(true), ..Filter::default() };
        let entries = self.sim.journal().find(&filter).into_iter();
        entries
            .map(|e| match e.path.split_once("/roleAssignments/") {
                Some((scope, _)) => format!("{} {scope}/roleAssignments", e.method),
                None => format!("{} {}", e.method, e.path),
            })
            .collect()
    }

    /// How many versions of the key were made.
    pub fn keys_created(&self) -> usize {
        let filter = Filter { changed: Some(true), ..Filter::on("POST", "/keys/*/create") };
        self.sim.journal().count(&filter)
    }

    /// Runs a request's whole plan as a worker would, with time that only passes where the job waits.
    pub async fn run(&self, request: &Value) -> Ran {
        self.run_from(request, Facts::default()).await
    }

    /// The same with what an earlier run of the same job learned.
    pub async fn run_from(&self, request: &Value, facts: Facts) -> Ran {
        let (parsed, faults) = request_parse::parse(request);
        assert_eq!(faults, [], "{request}");
        let request = parsed.expect("a request without faults");
        let (descriptor, faults) = rules::check(&request);
        assert_eq!(faults, [], "{request:?}");
        let plan = cmk::plan::plan(&request, descriptor.expect("a service"));
        let (job_id, began) = (JobId::generate(), self.clock.now());
        let mut ran = Ran { facts, ..Ran::default() };
        for step in &plan.steps {
            if !self.run_step(job_id, &step.name, &step.spec, &mut ran).await {
                break;
            }
        }
        ran.took = Duration::try_from(self.clock.now() - began).expect("time goes forward");
        ran
    }

    async fn run_step(&self, job_id: JobId, name: &str, spec: &steps::StepSpec, ran: &mut Ran) -> bool {
        let (mut waiting_since, mut progress, mut attempts) = (None, None::<Progress>, 0);
        for _ in 0..MAX_RUNS {
            let before = ran.facts.clone();
            let cx = StepContext {
                azure: &self.azure,
                call: CallContext::new(job_id.0),
                clock: &self.clock,
                job_id,
                facts: &before,
                waiting_since,
                progress: progress.as_ref(),
                gate: &Allow,
            };
            if self.forgetful {
                let _ = steps::run(spec, &cx, &mut before.clone()).await;
            }
            let outcome = steps::run(spec, &cx, &mut ran.facts).await;
            let (after, next) = match outcome {
                StepOutcome::Done { changed } => {
                    if changed {
                        ran.changed.push(name.to_owned());
                    }
                    return true;
                }
                StepOutcome::Wait { after, reason, progress } => {
                    ran.waits.push((name.to_owned(), reason.code));
                    (after, progress)
                }
                StepOutcome::Retry { failure, .. } if attempts >= MAX_ATTEMPTS => {
                    ran.failed = Some((name.to_owned(), failure));
                    return false;
                }
                StepOutcome::Retry { retry_after, progress, .. } => {
                    attempts += 1;
                    ran.waits.push((name.to_owned(), "retry".to_owned()));
                    (retry_delay(attempts, retry_after, 0.5), progress)
                }
                StepOutcome::Failed(failure) => {
                    ran.failed = Some((name.to_owned(), failure));
                    return false;
                }
                StepOutcome::Stopped(stop) => panic!("the gate is open, and the step was stopped: {stop:?}"),
            };
            assert_eq!(before, ran.facts, "{name}: facts change only when a step is done");
            waiting_since = waiting_since.or(Some(self.clock.now()));
            progress = next;
            self.advance(after);
        }
        panic!("{name} does not end: {:?}", ran.waits.last());
    }
}
