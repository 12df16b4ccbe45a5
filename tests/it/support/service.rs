//! The whole service as processes: `cmk serve` and `cmk work` over a database, and a caller that keeps book.
//!
//! What belongs here: starting the processes, sending requests, and holding what was accepted against what became of it.
//! What does not: what is done to the processes or to the database.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arm_schemas::Watch;
use azure_sim::{Filter, Lag, Options, Propagation, Simulator, Throttling};
use reqwest::Client;
use serde_json::{Value, json};

use super::process::{Folder, Program, command, eventually};
use super::world::simulator;

/// Longer than any answer may take: nothing hangs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// A job that takes longer is shown and fails the test.
pub const STUCK_AFTER: Duration = Duration::from_secs(55);

/// A cloud, a folder, and a caller with its book.
pub struct Service {
    pub sim: Simulator,
    folder: Folder,
    client: Client,
    next: AtomicU64,
    accepted: Mutex<Vec<String>>,
    /// Requests that were not accepted, as far as their caller was told.
    refused: Mutex<BTreeSet<u64>>,
    slowest: Mutex<Duration>,
    _schemas: Watch,
}

/// What a request to accept a job led to.
#[derive(Debug)]
pub enum Posted {
    /// It was accepted; its id.
    Accepted(String),
    /// 503, with everything that belongs to it.
    Unavailable,
    /// No answer: the process is gone.
    Nobody,
}

impl Service {
    /// A cloud without lags and limits in which each call takes this long.
    pub async fn new(call: Duration) -> Self {
        let (sim, schemas) = simulator(Options {
            // Hourly, so that thousands of accounts do not each look at their key at every request.
            propagation: Propagation { key_look: Lag::seconds(3600.0), ..Propagation::instant() },
            journal_capacity: 1_000_000,
            // Two for each job: a soak makes more than the 4,000 that Azure lets a subscription have.
            role_assignment_limit: 1_000_000,
            ..Options::default()
        })
        .await;
        sim.set_throttling(Throttling { enabled: false, ..Throttling::default() });
        let millis = u64::try_from(call.as_millis()).expect("a short time");
        if millis > 0 {
            sim.faults().add(azure_sim::Rule::always("*", "*", azure_sim::Action::Delay { millis }));
        }
        let client = Client::builder().timeout(ANSWERED_WITHIN).build().expect("a client can be made");
        Self {
            sim,
            folder: Folder::new(),
            client,
            next: AtomicU64::new(1),
            accepted: Mutex::default(),
            refused: Mutex::default(),
            slowest: Mutex::default(),
            _schemas: schemas,
        }
    }

    /// Starts an API and returns its address too.
    pub async fn serve(&self, database_url: &str) -> (Program, String) {
        self.serve_with(database_url, 16).await
    }

    /// The same with this many connections to the database.
    pub async fn serve_with(&self, database_url: &str, connections: u32) -> (Program, String) {
        let connections = connections.to_string();
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--database-connections", &connections];
        let mut program = Program::spawn(command(&self.sim, database_url, &self.folder, &arguments));
        let said = program.says("the API listens").await;
        let line = said.lines().find(|line| line.contains("the API listens")).expect("it was just said");
        let port: String =
            line.split_once("127.0.0.1:").expect("it says where").1.chars().take_while(char::is_ascii_digit).collect();
        (program, format!("http://127.0.0.1:{port}"))
    }

    /// Starts a worker with default settings.
    pub fn work(&self, database_url: &str) -> Program {
        Program::spawn(command(&self.sim, database_url, &self.folder, &["work"]))
    }

    /// A number for a request that no other has.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Sends the request of this number. The same number again is the same request under the same idempotency key.
    pub async fn post(&self, base: &str, number: u64) -> Posted {
        let posted = self.send(base, number).await;
        let mut refused = self.refused.lock().expect("nobody panics with it");
        match posted {
            Posted::Accepted(_) => refused.remove(&number),
            Posted::Unavailable | Posted::Nobody => refused.insert(number),
        };
        posted
    }

    async fn send(&self, base: &str, number: u64) -> Posted {
        let (began, sub) = (Instant::now(), self.sim.subscription_id());
        let id = |kind: &str, name: &str| {
            format!("/subscriptions/{sub}/resourceGroups/rg-cmk-demo/providers/{kind}/{name}{number}")
        };
        let body = json!({
            "target": { "resourceId": id("Microsoft.Storage/storageAccounts", "stload"),
                        "create": { "location": "uksouth" } },
            "keyStore": { "resourceId": id("Microsoft.KeyVault/vaults", "kvload"),
                          "create": { "location": "uksouth", "network": { "allowedIps": ["203.0.113.0/24"] } } },
            "key": { "name": "sa-cmk-key" },
            "createResourceGroups": true,
        });
        let key = format!("request-{number}");
        let sent = self.client.post(format!("{base}/v1/jobs")).header("Idempotency-Key", key).json(&body).send().await;
        let took = began.elapsed();
        self.note(took);
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                assert!(!error.is_timeout(), "the request hung for {took:?}");
                return Posted::Nobody;
            }
        };
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let Ok(body) = answer.json::<Value>().await else { return Posted::Nobody };
        if matches!(status, 200 | 202) {
            let id = body["id"].as_str().expect("a job has an id").to_owned();
            let mut accepted = self.accepted.lock().expect("nobody panics with it");
            if !accepted.contains(&id) {
                accepted.push(id.clone());
            }
            return Posted::Accepted(id);
        }
        assert_eq!(status, 503, "{body}");
        assert_eq!(headers["content-type"], "application/problem+json");
        let seconds: Option<u64> = headers.get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        assert!(seconds.is_some_and(|s| (1..=60).contains(&s)), "{headers:?}");
        assert_eq!((body["code"].as_str(), body["retryable"].as_bool()), (Some("unavailable"), Some(true)), "{body}");
        Posted::Unavailable
    }

    fn note(&self, took: Duration) {
        let mut slowest = self.slowest.lock().expect("nobody panics with it");
        *slowest = took.max(*slowest);
    }

    /// Sends a new request until it is accepted, and returns the job's id.
    pub async fn accepted(&self, base: &str) -> String {
        let number = self.number();
        let mut id = None;
        eventually("a request is accepted", async || {
            if let Posted::Accepted(job) = self.post(base, number).await {
                id = Some(job);
            }
            id.is_some()
        })
        .await;
        id.expect("it was just accepted")
    }

    /// How long the slowest request to accept a job took.
    pub fn slowest(&self) -> Duration {
        *self.slowest.lock().expect("nobody panics with it")
    }

    /// GET; none where nobody answers.
    pub async fn get(&self, base: &str, path: &str) -> Option<(u16, Value)> {
        let answer = self.client.get(format!("{base}{path}")).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// The job's state; empty where nobody can tell now.
    pub async fn state(&self, base: &str, id: &str) -> String {
        let job = self.get(base, &format!("/v1/jobs/{id}")).await.filter(|(status, _)| *status == 200);
        job.and_then(|(_, job)| Some(job["state"].as_str()?.to_owned())).unwrap_or_default()
    }

    /// What the service tells of a job and of its last events, for a test that has found it wrong.
    pub async fn told(&self, base: &str, id: &str) -> String {
        let job = self.get(base, &format!("/v1/jobs/{id}")).await;
        let events = self.get(base, &format!("/v1/jobs/{id}/events?limit=500")).await;
        format!("job {id}: {job:?}\nits events: {events:?}")
    }

    /// Whether the service is ready, and what it says of its database.
    pub async fn ready(&self, base: &str) -> (bool, String) {
        let (status, body) = self.get(base, "/readyz").await.expect("the process answers");
        assert_eq!(body["ready"], status == 200, "{body}");
        let checks = body["checks"].as_array().cloned().unwrap_or_default();
        let failed = checks.iter().filter(|c| c["ok"] == false);
        let words = failed.map(|c| format!("{}: {}", c["name"].as_str().unwrap_or_default(), c["detail"]));
        (status == 200, words.collect::<Vec<_>>().join("; "))
    }

    /// Waits until a new request is accepted and a worker has begun with it; returns how long that took from `since`.
    pub async fn resumed(&self, base: &str, since: Instant) -> Duration {
        let id = self.accepted(base).await;
        eventually("a worker begins", async || !matches!(self.state(base, &id).await.as_str(), "" | "queued")).await;
        since.elapsed()
    }

    /// Sends again what was not accepted, as a caller does that was told to: whether it was stored all the same, nobody
    /// knows. Then waits until everything has ended, and holds that each ended once, in success, with one of each
    /// thing made for it. Returns how many there were.
    pub async fn all_end_once(&self, base: &str) -> usize {
        let refused = self.refused.lock().expect("nobody panics with it").clone();
        for number in refused {
            let again = async || matches!(self.post(base, number).await, Posted::Accepted(_));
            eventually("a request that was refused is accepted", again).await;
        }
        let accepted = self.accepted.lock().expect("nobody panics with it").clone();
        for id in &accepted {
            let began = Instant::now();
            eventually(&format!("job {id} succeeds"), async || {
                let state = self.state(base, id).await;
                let stuck = began.elapsed() > STUCK_AFTER || matches!(state.as_str(), "failed" | "cancelled");
                assert!(!stuck, "{:?}", self.get(base, &format!("/v1/jobs/{id}")).await);
                state == "succeeded"
            })
            .await;
            let (_, page) = self.get(base, &format!("/v1/jobs/{id}/events?limit=500")).await.expect("an answer");
            let events = page["items"].as_array().expect("a page has items");
            let seqs: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
            assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "numbers without a gap");
            let ends = events.iter().filter(|e| e["kind"] == "job-succeeded").count();
            assert_eq!((ends, &events.last().expect("there are some")["kind"]), (1, &json!("job-succeeded")));
        }
        let made = Filter { changed: Some(true), ..Filter::on("POST", "/keys/*/create") };
        assert_eq!(self.sim.journal().count(&made), accepted.len(), "one version of one key for each job");
        let now = self.sim.snapshot();
        let count = |kind: &str| now[kind].as_object().map_or(0, serde_json::Map::len);
        assert_eq!((count("storageAccounts"), count("vaults")), (accepted.len(), accepted.len()));
        accepted.len()
    }
}
