//! The API over real HTTP, on a port of its own, with a database of its own. The test plays the worker.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use cmk::api::{ApiSettings, ApiState, listen, router_with};
use cmk::clock::Clock;
use cmk::domain::codes::Code;
use cmk::domain::facts::{Evidence, Facts};
use cmk::domain::failure::Failure;
use cmk::domain::ids::JobId;
use cmk::engine::Ledger;
use cmk::steps::WaitReason;
use cmk::store::notify::NewsHub;
use cmk::store::{ClaimedJob, HeldLease, Next, RunWrite, Store};
use cmk::survey::Surveyor;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use time::macros::datetime;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::database::TestDatabase;
use super::world::migrate;

/// Longer than anything here takes; a test that reaches it has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A served API.
pub struct TestApi {
    /// The jobs.
    pub store: Store,
    /// The clock of API and store, which stands still.
    pub clock: Clock,
    /// Where news is told.
    pub news: NewsHub,
    /// Cancelled, the API shuts down.
    pub shutdown: CancellationToken,
    /// The database, which lives as long as the API.
    pub database: TestDatabase,
    /// Its address.
    pub base: String,
    client: Client,
    _stop: DropGuard,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// A header's text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }

    /// The id of the job in the body.
    pub fn job_id(&self) -> JobId {
        JobId(self.json()["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no job: {self:?}")))
    }

    /// Checks that this is a problem with this status and code, whole and under the catalogue's terms; returns it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        let info = Code::find(code).expect("a code of the catalogue").info();
        assert_eq!(body["type"], format!("/v1/errors/{code}"));
        assert_eq!(body["status"], status);
        assert_eq!(body["title"], info.title);
        assert_eq!(body["remedy"], info.remedy);
        assert_eq!(body["retryable"], info.class.is_retryable());
        assert!(body["detail"].as_str().is_some_and(|d| !d.is_empty()), "{body}");
        assert!(body["traceId"].as_str().is_some_and(|t| !t.is_empty()), "{body}");
        assert!(!self.header("x-request-id").is_empty(), "{self:?}");
        body
    }

    /// The places of a problem's faults, with their codes.
    pub fn faults(&self) -> Vec<(String, String)> {
        let body = self.json();
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let place = |e: &Value| [&e["pointer"], &e["parameter"], &e["header"]].into_iter().find_map(text);
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|e| Some((place(e)?, text(&e["code"])?))).collect()
    }
}

impl TestApi {
    /// Serves with short bounds.
    pub async fn start() -> Self {
        Self::start_with(ApiSettings::default(), Router::new()).await
    }

    /// Serves with these bounds, and with more routes under the same layers.
    pub async fn start_with(settings: ApiSettings, more: Router) -> Self {
        Self::start_looking(settings, more, None).await
    }

    /// Serves with plans that look at Azure.
    pub async fn start_looking(settings: ApiSettings, more: Router, surveyor: Option<Surveyor>) -> Self {
        let database = TestDatabase::new(migrate).await;
        let clock = Clock::manual(datetime!(2026-07-01 12:00 UTC));
        let store = Store::new(database.pool.clone(), clock.clone());
        let (news, shutdown) = (NewsHub::new(), CancellationToken::new());
        let (hub, feed, stop) = (news.clone(), store.clone(), shutdown.clone());
        tokio::spawn(async move { hub.run(feed, stop).await });
        let head_timeout = settings.head_timeout;
        let state =
            ApiState { store: store.clone(), news: news.clone(), surveyor, shutdown: shutdown.clone(), settings };
        let base = serve(router_with(state, more), head_timeout, shutdown.clone()).await;
        let client = Client::builder().timeout(DEADLINE).build().expect("a client can be made");
        let stop = shutdown.clone().drop_guard();
        Self { store, clock, news, shutdown, database, base, client, _stop: stop }
    }

    /// A request.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Sends and reads.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("the API answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("the answer can be read") }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// POST of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// POST without a body.
    pub async fn act(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    /// Accepts a request that is in order.
    pub async fn submit(&self, body: &Value) -> JobId {
        let answer = self.post("/v1/jobs", body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.job_id()
    }

    /// How many rows all tables of jobs hold.
    pub async fn rows(&self) -> i64 {
        sqlx::query_scalar(
            "select (select count(*) from jobs) + (select count(*) from job_runs) + (select count(*) from job_events)
                  + (select count(*) from idempotency_keys)",
        )
        .fetch_one(&self.database.pool)
        .await
        .expect("the rows can be counted")
    }

    /// Claims this job as a worker would. Other jobs that are due are given back.
    pub async fn claim(&self, id: JobId) -> (ClaimedJob, HeldLease) {
        let claims = self.store.claim_due_jobs("test", 100, DEADLINE).await.expect("the database answers");
        let mut claimed = None;
        for job in claims.into_iter().map(|c| c.job) {
            let lease = HeldLease { job: job.id, claim_no: job.claim_no };
            if job.id == id {
                claimed = Some((job, lease));
            } else {
                self.record(&Ledger::open(&job).write(Next::Queued)).await;
            }
        }
        claimed.expect("the job is due")
    }

    async fn record(&self, write: &RunWrite) {
        self.store.record(write).await.expect("the database answers").expect("the lease is held");
    }

    /// Runs every step of the job to success, and tells.
    pub async fn succeed(&self, id: JobId) {
        let (job, _) = self.claim(id).await;
        let mut ledger = Ledger::open(&job);
        let last = job.steps.len() - 1;
        for index in 0..=last {
            ledger.start(index, self.clock.now());
            self.record(&ledger.write(Next::Running)).await;
            let before = ledger.facts().clone();
            let after = Facts { evidence: (index == last).then(|| self.evidence(&job)), ..before.clone() };
            ledger.finish(index, true, &before, &after, self.clock.now());
            self.record(&ledger.write(if index == last { Next::Succeeded } else { Next::Running })).await;
        }
        self.news.announce(id, false);
    }

    /// Lets the first step wait, and tells.
    pub async fn wait(&self, id: JobId, after: Duration) {
        let (job, _) = self.claim(id).await;
        let mut ledger = Ledger::open(&job);
        // Another reason than last time, so that each wait is told.
        let before = job.steps[0].wait_reason.as_ref().is_some_and(|r| r.code == "resource-busy");
        let reason = WaitReason::new(if before { "read-lag" } else { "resource-busy" }, "somebody changes it");
        ledger.start(0, self.clock.now());
        ledger.wait_for(0, after, reason.clone(), None, None, self.clock.now());
        self.record(&ledger.write(Next::Waiting { after, reason })).await;
        self.news.announce(id, false);
    }

    /// Lets the first step fail, and tells.
    pub async fn fail(&self, id: JobId) {
        let (job, _) = self.claim(id).await;
        let mut ledger = Ledger::open(&job);
        let failure = Failure::new(Code::TargetNotFound, "the account st1 is not there");
        ledger.fail(0, &failure, self.clock.now());
        self.record(&ledger.write(Next::Failed(failure))).await;
        self.news.announce(id, false);
    }

    fn evidence(&self, job: &ClaimedJob) -> Evidence {
        Evidence {
            target: job.target.to_string(),
            key_id: "https://kv1.vault.azure.net/keys/k/0123".into(),
            follows_rotation: true,
            identity: "systemAssigned".into(),
            verified_at: self.clock.now(),
            azure_request_ids: vec!["r1".into()],
        }
    }
}

async fn serve(app: Router, head_timeout: Duration, stop: CancellationToken) -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(listen(listener, app, head_timeout, stop));
    format!("http://{address}")
}

/// The subscription that examples and simulator use.
pub const SUB: &str = "/subscriptions/22222222-2222-4222-8222-222222222222";

/// An id in the demo group.
pub fn arm_id(resource_type: &str, name: &str) -> String {
    format!("{SUB}/resourceGroups/rg-cmk-demo/providers/{resource_type}/{name}")
}

/// The shortest request for an account of this name.
pub fn request_for(account: &str) -> Value {
    json!({
        "target": { "resourceId": arm_id("Microsoft.Storage/storageAccounts", account) },
        "keyStore": { "resourceId": arm_id("Microsoft.KeyVault/vaults", "kvcmkdemo1") },
    })
}
