//! How soon work begins: P6, P7, P13, the idle memory of P12, and P14.
//!
//! What belongs here: processes that wait for work. What does not: how much work gets done.

use std::time::{Duration, Instant};

use cmk::store::{HeldLease, LeaseLost, Next, RunWrite};

use crate::child::{command, memory};
use crate::cluster::{Cluster, output, settle, spawn};
use crate::fill;
use crate::http::{Api, service};
use crate::results::Results;

/// Pick-up with API and worker in one process, in two, and in two that cannot hear each other; cold starts.
pub async fn ours(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    for (name, times, hearing) in
        [("pickup_one", 300, "hears"), ("pickup_two", 300, "hears"), ("pickup_deaf", 15, "deaf")]
    {
        cluster.migrated("bench_pickup").await?.close().await;
        let url = cluster.url("bench_pickup");
        settle(&url).await?;
        let api = match name {
            "pickup_one" => None,
            _ => Some(Api::serve(&url, 16).await?),
        };
        let address = api.as_ref().map_or("here", |api| &api.address);
        let mut child = command(&url, &["latency", name, address, &times.to_string(), hearing])?;
        results.collect(&output(&mut child).await?);
        if let Some(mut api) = api {
            api.process.kill().await?;
        }
    }
    let store = cluster.migrated("bench_first").await?;
    fill::accept(&store, "stpaymentsprod", false).await?;
    store.close().await;
    let url = cluster.url("bench_first");
    results.collect(&output(&mut command(&url, &["first", "ready"])?).await?);
    let url = cluster.fresh("bench_first").await?;
    results.collect(&output(&mut command(&url, &["first", "migrate"])?).await?);
    idle(cluster, results).await
}

/// The memory of the two real processes with nothing to do.
async fn idle(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    cluster.migrated("bench_pickup").await?.close().await;
    let url = cluster.url("bench_pickup");
    let mut api = Api::serve(&url, 20).await?;
    let mut work = tokio::process::Command::new(service()?);
    work.args(["work", "--credential", "managed-identity"]).env("DATABASE_URL", &url);
    let mut work = spawn(&mut work)?;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let worker = memory(work.id().unwrap_or_default())[0].1;
    results.note("ours rss_idle_serve", api.memory("rss"));
    results.note("ours rss_idle_work", worker);
    results.note("ours rss_idle_both", api.memory("rss") + worker);
    work.kill().await?;
    api.process.kill().await?;
    cluster.drop("bench_pickup").await
}

/// P14: a worker that holds 16 leases is killed, and another one is there.
pub async fn crash(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let store = cluster.migrated("bench_crash").await?;
    let (template, _) = fill::accept(&store, "stpaymentsprod", false).await?;
    let url = cluster.url("bench_crash");
    fill::copy_due(&url, template, 15).await?;
    let mut first = spawn(&mut command(&url, &["hold"])?)?;
    let held = "select job_id, claim_no from job_runs where state = 'running' and claim_no >= $1";
    let holders = async |claim: i64, wanted: usize| -> anyhow::Result<Vec<(uuid::Uuid, i64)>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let rows: Vec<(uuid::Uuid, i64)> = sqlx::query_as(held).bind(claim).fetch_all(store.pool()).await?;
            if rows.len() >= wanted {
                return Ok(rows);
            }
            anyhow::ensure!(Instant::now() < deadline, "not all jobs were claimed in a minute");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let old = holders(1, 16).await?;
    // Past the first renewal, so that the leases are as long as they get.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let mut second = spawn(&mut command(&url, &["hold"])?)?;
    first.kill().await?;
    let killed = Instant::now();
    holders(2, 16).await?;
    results.note("ours takeover_last_of_16_s", killed.elapsed().as_secs_f64());
    let mut accepted = 0;
    for (job, claim_no) in old {
        let Some(job) = store.get_job(cmk::domain::ids::JobId(job)).await? else { continue };
        for write_no in 0..4 {
            let write = RunWrite {
                lease: HeldLease { job: job.id, claim_no },
                write_no,
                next: Next::Succeeded,
                steps: job.steps.clone(),
                facts: job.facts.clone(),
                events: Vec::new(),
            };
            accepted += usize::from(store.record(&write).await? != Err(LeaseLost));
        }
    }
    results.note("ours takeover_old_writes_accepted", accepted as f64);
    second.kill().await?;
    store.close().await;
    cluster.drop("bench_crash").await
}
