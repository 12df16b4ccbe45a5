//! Whole provisionings by the real programs against a simulated Azure whose latencies are known: P15 and P16.
//!
//! What belongs here: running them, and what of their time Azure took. What does not: steps that do nothing (`child`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use azure_sim::{Action, Entry, Filter, Lag, Options, Propagation, Rule, Simulator};
use cmk::app::feed;
use cmk::domain::ids::JobId;
use cmk::domain::job::JobState;
use cmk::domain::retry::probe_delay;
use cmk::store::notify::NewsHub;
use cmk::store::{Job, Store};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::process::{Child, Command};

use crate::cluster::{Cluster, settle, spawn};
use crate::fill;
use crate::http::{Api, service};
use crate::results::{Results, median};

/// How long each call to Azure takes in P15.
const CALL: Duration = Duration::from_millis(100);

/// How long Azure works on a change that it only accepts, and the `Retry-After` that it sends with it: who obeys asks once.
const OPERATION: Duration = Duration::from_secs(1);

/// Jobs of each kind in one repeat of P15.
const JOBS: usize = 3;

/// The waits of P16 in seconds; the longer ones only where `BENCH_LONG_WAITS` is set, for they take ten minutes.
const WAITS: &[u64] = &[2, 15, 60];
const LONG_WAITS: &[u64] = &[300, 600];

/// A simulated Azure, `cmk serve` and `cmk work` over a database of their own.
struct Stage {
    sim: Simulator,
    store: Store,
    api: Api,
    worker: Child,
    database: String,
    ca: PathBuf,
}

impl Stage {
    async fn start(cluster: &Cluster, database: &str, grant: Lag, call: Duration) -> anyhow::Result<Self> {
        let sim = Simulator::start(Options {
            subscription_id: fill::SUBSCRIPTION.to_owned(),
            propagation: Propagation { grant, ..Propagation::instant() },
            // How long an RSA key takes to make is chance.
            fast_keys: true,
            lro_duration: OPERATION,
            lro_retry_after: Some(OPERATION.as_secs()),
            ..Options::default()
        })
        .await?;
        if !call.is_zero() {
            let millis = u64::try_from(call.as_millis())?;
            sim.faults().add(Rule::always("*", "*", Action::Delay { millis }));
        }
        let store = cluster.migrated(database).await?;
        let url = cluster.url(database);
        settle(&url).await?;
        let api = Api::serve(&url, 16).await?;
        let ca = std::env::temp_dir().join(format!("cmk-bench-{}-{database}.pem", std::process::id()));
        std::fs::write(&ca, sim.ca_pem())?;
        let mut command = Command::new(service()?);
        command.arg("work").env("DATABASE_URL", &url).env("CMK_CA_FILE", &ca);
        for (name, value) in [
            ("CMK_CLOUD", "custom"),
            ("CMK_CREDENTIAL", "client-secret"),
            ("CMK_ARM_ENDPOINT", &sim.arm_url()),
            ("CMK_LOGIN_ENDPOINT", &sim.login_url()),
            ("CMK_VAULT_SUFFIX", &sim.vault_suffix()),
            ("CMK_HSM_SUFFIX", &sim.hsm_suffix()),
            ("CMK_GRAPH_ENDPOINT", &sim.graph_url()),
            ("AZURE_TENANT_ID", sim.tenant_id()),
            ("AZURE_CLIENT_ID", sim.client_id()),
            ("AZURE_CLIENT_SECRET", sim.client_secret()),
        ] {
            command.env(name, value);
        }
        let worker = spawn(&mut command)?;
        Ok(Self { sim, store, api, worker, database: database.to_owned(), ca })
    }

    /// As a caller: by a request to the API.
    async fn post(&self, body: &Value) -> anyhow::Result<JobId> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let answer = client.post(format!("http://{}/v1/jobs", self.api.address)).json(body).send().await?;
        let (status, answer) = (answer.status(), answer.json::<Value>().await?);
        anyhow::ensure!(status == 202, "{status}: {answer}");
        Ok(JobId(answer["id"].as_str().unwrap_or_default().parse()?))
    }

    /// The job when it has succeeded.
    async fn end_of(&self, id: JobId, within: Duration) -> anyhow::Result<Job> {
        let deadline = Instant::now() + within;
        loop {
            let job = self.store.get_job(id).await?;
            match job {
                Some(job) if job.state == JobState::Succeeded => return Ok(job),
                Some(job) => anyhow::ensure!(!job.state.is_final(), "the job failed: {:?}", job.failure),
                None => anyhow::bail!("the job is gone"),
            }
            anyhow::ensure!(Instant::now() < deadline, "no end after {within:?}");
            // Seldom enough to cost the job nothing; its times come from its own record.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stop(mut self, cluster: &Cluster) -> anyhow::Result<()> {
        self.worker.kill().await?;
        self.api.process.kill().await?;
        self.sim.shutdown().await;
        self.store.close().await;
        std::fs::remove_file(&self.ca).ok();
        cluster.drop(&self.database).await
    }
}

/// A request in which everything is to be created, with names of its own.
fn request(number: usize) -> Value {
    let text = fill::request(&format!("stbench{number}")).to_string();
    let renamed = text.replace("kv-payments-prod-01", &format!("kv-bench-{number}"));
    serde_json::from_str(&renamed.replace("rg-payments-prod-weu", &format!("rg-bench-{number}"))).unwrap_or_default()
}

/// P15: what is left of a job's time when Azure's is taken away.
pub async fn overhead(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let stage = Stage::start(cluster, "bench_overhead", Lag::None, CALL).await?;
    let news = NewsHub::new();
    let _feeding = feed(&news, &stage.store);
    // The first one pays for tokens and connections, as the first one after a start does.
    let first = stage.post(&request(0)).await?;
    stage.end_of(first, Duration::from_secs(60)).await?;
    // Steps one after the other: nothing can hide behind a call of another step, so that this is the critical path. And as
    // it was planned, where the time in which any call is under way counts as Azure's.
    for (name, in_turn) in [("overhead", true), ("overhead_posted", false)] {
        let (mut steps, mut shares, mut walls) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..JOBS {
            stage.sim.journal().clear();
            let body = request(1 + 2 * number + usize::from(in_turn));
            let id = if in_turn {
                let (id, _) = fill::accept_request(&stage.store, &body, true).await?;
                news.announce(id, true);
                id
            } else {
                stage.post(&body).await?
            };
            let job = stage.end_of(id, Duration::from_secs(60)).await?;
            let ended = job.finished_at.unwrap_or(job.updated_at);
            let wall = seconds(job.created_at, ended);
            let ours = wall - azures(&stage.sim.journal().entries(), job.created_at, ended);
            steps.push(ours * 1e3 / f64::from(job.steps_total));
            shares.push(ours * 100.0 / wall);
            walls.push(wall);
        }
        for (suffix, values) in [("per_step_ms", steps), ("percent", shares), ("of_s", walls)] {
            results.note(&format!("ours {name}_{suffix}"), median(values).unwrap_or(f64::NAN));
        }
    }
    stage.stop(cluster).await
}

/// The seconds in which at least one call, or one accepted change, was under way.
///
/// The journal has the time after the simulated latency; a change that was only accepted goes on for [`OPERATION`]. What
/// the simulator itself needs to answer, and the connection, count as ours.
fn azures(journal: &[Entry], from: OffsetDateTime, to: OffsetDateTime) -> f64 {
    let mut calls: Vec<(OffsetDateTime, OffsetDateTime)> = journal
        .iter()
        .filter(|entry| entry.surface != "clock")
        .map(|entry| {
            let accepted = entry.mutating && entry.status == 202;
            (entry.time - CALL, if accepted { entry.time + OPERATION } else { entry.time })
        })
        .collect();
    calls.sort();
    let (mut covered, mut until) = (0.0, from);
    for (began, ended) in calls {
        let (began, ended) = (began.max(until), ended.min(to));
        if ended > began {
            covered += seconds(began, ended);
            until = ended;
        }
    }
    covered
}

fn seconds(from: OffsetDateTime, to: OffsetDateTime) -> f64 {
    (to - from).as_seconds_f64()
}

/// P16: grants that arrive late, each in a cloud of its own and all at the same time.
pub async fn waits(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let long = std::env::var_os("BENCH_LONG_WAITS").is_some();
    let waits = WAITS.iter().chain(LONG_WAITS.iter().filter(|_| long));
    for told in futures::future::try_join_all(waits.map(|wait| late(cluster, *wait))).await? {
        for (name, value) in told {
            results.note(&name, value);
        }
    }
    Ok(())
}

async fn late(cluster: &Cluster, wait: u64) -> anyhow::Result<Vec<(String, f64)>> {
    let database = format!("bench_wait_{wait}");
    let stage = Stage::start(cluster, &database, Lag::seconds(wait as f64), Duration::ZERO).await?;
    let id = stage.post(&request(0)).await?;
    let job = stage.end_of(id, Duration::from_secs(2 * wait + 60)).await?;
    let wall = seconds(job.created_at, job.finished_at.unwrap_or(job.updated_at));
    // No client can shorten the creation of the account, which comes after the key and so after the wait.
    let over = wall - wait as f64 - OPERATION.as_secs_f64();
    let refused = Filter { surface: Some("vault".into()), status: Some(403), ..Filter::default() };
    let looks = stage.sim.journal().count(&refused);
    stage.stop(cluster).await?;
    Ok(vec![
        (format!("ours wait_{wait}s_over"), over),
        (format!("ours wait_{wait}s_looks"), looks as f64),
        (format!("ours wait_{wait}s_looks_allowed"), looks_allowed(Duration::from_secs(wait)) as f64),
    ])
}

/// How many looks in vain the back-off's steps allow, the first at once.
fn looks_allowed(wait: Duration) -> usize {
    let (mut elapsed, mut looks) = (Duration::ZERO, 0);
    while elapsed < wait {
        elapsed += probe_delay(elapsed, None);
        looks += 1;
    }
    looks
}
