//! Our engine in a process of its own, as the peers run: this program started again with `child MODE`.
//!
//! What belongs here: what such a process does, and starting it for drains. What does not: what its numbers mean.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use cmk::app::{Shutdown, api_state, feed, serve_api};
use cmk::azure::{Azure, AzureSettings, Cloud, CredentialSettings, Timeouts};
use cmk::clock::Clock;
use cmk::engine::{StandIn, Worker, WorkerSettings};
use cmk::steps::StepOutcome;
use cmk::store::notify::NewsHub;
use cmk::store::{Recorder, Store};
use cmk::telemetry::{self, LogFormat};
use futures::FutureExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, Cluster, output, settle};
use crate::fill;
use crate::results::{Results, percentiles};

/// Turns at the same time where the peers have 16 tasks.
const ONE_BY_ONE: usize = 16;

/// Turns at the same time where the peers hold hundreds of jobs at once: graphile's local queue has 500.
const BATCHED: usize = 500;

/// This program again.
pub fn command(url: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").args(arguments).env("DATABASE_URL", url).stderr(std::process::Stdio::null());
    Ok(command)
}

/// P4 and P5: jobs that wait are run to their end, each step recorded before the next. As many steps one by one as the peers
/// have jobs, so that the connections and plans that are made at the start weigh as much.
pub async fn drains(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    for (mode, jobs, concurrency, batch) in
        [("drain_16", 2000, ONE_BY_ONE, 1), ("drain_batched", 4000, BATCHED, Recorder::BATCH)]
    {
        let store = cluster.migrated("bench_engine").await?;
        let (template, steps) = fill::accept(&store, "stpaymentsprod", true).await?;
        let url = cluster.url("bench_engine");
        fill::copy_due(&url, template, jobs - 1).await?;
        store.close().await;
        settle(&url).await?;
        let (jobs, steps) = (jobs.to_string(), steps.to_string());
        let arguments = ["drain", mode, &jobs, &steps, &concurrency.to_string(), &batch.to_string()];
        results.collect(&output(&mut command(&url, &arguments)?).await?);
    }
    Ok(())
}

/// The process's part.
pub async fn run(arguments: &[String]) -> anyhow::Result<()> {
    let began = Instant::now();
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    // As the service logs: to standard error, what it does by default.
    let _telemetry = telemetry::init(LogFormat::Text, "info,sqlx=warn")?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["drain", mode, jobs, steps, concurrency, batch] => {
            let steps = jobs.parse::<usize>()? * steps.parse::<usize>()?;
            drain(&url, mode, steps, concurrency.parse()?, batch.parse()?).await
        }
        ["first", migrate] => first(&url, began, migrate == "migrate").await,
        ["latency", name, api, times, poll_only] => latency(&url, name, api, times.parse()?, poll_only == "deaf").await,
        ["serve", news] => serve(&url, news == "fed").await,
        ["listen"] => listen(&url).await,
        ["hold"] => hold(&url).await,
        _ => anyhow::bail!("unknown child {arguments:?}"),
    }
}

fn report(metric: &str, value: f64, unit: &str) {
    println!("RESULT\tours\t{metric}\t{value:.3}\t{unit}");
}

fn report_memory(what: &str) {
    for (name, value) in memory(std::process::id()) {
        report(&format!("{name}_{what}"), value, "MiB");
    }
}

/// Resident memory of a process, now and at its peak, in MiB.
pub fn memory(process: u32) -> Vec<(&'static str, f64)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let mib = |kib: Option<f64>| kib.unwrap_or(f64::NAN) / 1024.0;
    vec![("rss", mib(field("VmRSS:"))), ("rss_peak", mib(field("VmHWM:")))]
}

/// Clients that nothing is asked of: what stands in for the steps calls nobody.
fn azure() -> anyhow::Result<Arc<Azure>> {
    let credential = CredentialSettings::ClientSecret {
        tenant_id: "00000000-0000-4000-8000-000000000001".into(),
        client_id: "00000000-0000-4000-8000-000000000002".into(),
        secret: "unused".to_owned().into(),
    };
    Ok(Arc::new(Azure::connect(AzureSettings { cloud: Cloud::public(), credential, timeouts: Timeouts::default() })?))
}

/// A worker whose steps do nothing but what `at_step` does with their names.
pub fn worker(
    store: &Store,
    news: &NewsHub,
    concurrency: u16,
    at_step: impl Fn(&str) + Send + Sync + 'static,
) -> anyhow::Result<Worker> {
    let stand_in: StandIn = Arc::new(move |step| {
        at_step(step.name);
        async { StepOutcome::Done { changed: true } }.boxed()
    });
    let settings = WorkerSettings { concurrency, ..WorkerSettings::named(format!("bench-{}", std::process::id())) };
    Ok(Worker::new(store.clone(), azure()?, news.clone(), settings).with_stand_in(stand_in))
}

async fn drain(url: &str, mode: &str, steps: usize, concurrency: u16, batch: usize) -> anyhow::Result<()> {
    let store = Store::open(url, 20, Clock::System)?;
    let done = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&done);
    let worker = worker(&store, &NewsHub::new(), concurrency, move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    })?;
    let (stop, began) = (CancellationToken::new(), Instant::now());
    let working = tokio::spawn({
        let (worker, stop) = (worker.with_batch(batch), stop.clone());
        async move { worker.run(stop.clone(), stop).await }
    });
    // Until the end of every job is recorded, not only until every step has run.
    while done.load(Ordering::Relaxed) < steps || !store.count_unfinished().await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    report(mode, steps as f64 / began.elapsed().as_secs_f64(), "steps/s");
    report_memory(mode);
    stop.cancel();
    Ok(working.await?)
}

async fn first(url: &str, began: Instant, migrate: bool) -> anyhow::Result<()> {
    let store = cluster::store(url)?;
    if migrate {
        store.migrate().await?;
        fill::accept(&store, "stpaymentsprod", false).await?;
    }
    let (sender, mut started) = mpsc::unbounded_channel();
    let news = NewsHub::new();
    let _feeding = feed(&news, &store);
    let worker = worker(&store, &news, 16, move |_| {
        let _ = sender.send(Instant::now());
    })?;
    let stop = CancellationToken::new();
    let working = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop.clone(), stop).await }
    });
    let first = started.recv().await.context("the worker ended")?;
    let name = if migrate { "cold_start_empty_database" } else { "cold_start_to_first_step" };
    report(name, (first - began).as_secs_f64() * 1e3, "ms");
    stop.cancel();
    Ok(working.await?)
}

/// From the 202 to the first step's start, one job at a time. `api`: the address of a running API, or `here` for one in
/// this process.
async fn latency(url: &str, name: &str, api: &str, times: usize, deaf: bool) -> anyhow::Result<()> {
    let store = cluster::store(url)?;
    let news = NewsHub::new();
    let _feeding = (!deaf).then(|| feed(&news, &store));
    let (sender, mut started) = mpsc::unbounded_channel();
    let worker = worker(&store, &news, 16, move |step| {
        if matches!(step, "check-target" | "verify") {
            let _ = sender.send((step == "verify", Instant::now()));
        }
    })?;
    let stop = Shutdown::default();
    let working = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop.stop, stop.abort).await }
    });
    let address = if api == "here" {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move { serve_api(listener, api_state(store, news, None, &stop), &stop).await });
        address.to_string()
    } else {
        api.to_owned()
    };
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    report_memory(&format!("idle_{name}"));
    let mut taken = Vec::with_capacity(times);
    for number in 0..times {
        let body = fill::request(&format!("stlat{number}"));
        let answer = client.post(format!("http://{address}/v1/jobs")).json(&body).send().await?;
        let accepted = Instant::now();
        anyhow::ensure!(answer.status() == 202, "{}: {}", answer.status(), answer.text().await?);
        while let Some((last, at)) = started.recv().await {
            if last {
                break;
            }
            taken.push(at.saturating_duration_since(accepted));
        }
        // As the peers pause: never at the same point of a poll.
        tokio::time::sleep(Duration::from_millis(5 + (number as u64 * 7919) % 20)).await;
    }
    for (suffix, value) in percentiles(&taken) {
        report(&format!("{name}_{suffix}"), value, "ms");
    }
    stop.stop.cancel();
    Ok(working.await?)
}

/// The API as `cmk serve` runs it, or one that tells nobody what it accepts. Prints its address.
async fn serve(url: &str, fed: bool) -> anyhow::Result<()> {
    let (store, news) = (cluster::store(url)?, NewsHub::new());
    let _feeding = fed.then(|| feed(&news, &store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let shutdown = Shutdown::on_signals()?;
    serve_api(listener, api_state(store, news, None, &shutdown), &shutdown).await
}

/// Hears all news and does nothing about it, as the listening half of a worker. Until it is killed.
async fn listen(url: &str) -> anyhow::Result<()> {
    let (store, news) = (cluster::store(url)?, NewsHub::new());
    let mut heard = news.subscribe();
    let _feeding = feed(&news, &store);
    loop {
        let _ = heard.recv().await;
    }
}

/// Takes what is due and never ends a step. Until it is killed.
async fn hold(url: &str) -> anyhow::Result<()> {
    let store = cluster::store(url)?;
    let settings = WorkerSettings { concurrency: 16, ..WorkerSettings::named(format!("hold-{}", std::process::id())) };
    let stand_in: StandIn = Arc::new(|_| std::future::pending().boxed());
    let worker = Worker::new(store, azure()?, NewsHub::new(), settings).with_stand_in(stand_in);
    let stop = CancellationToken::new();
    worker.run(stop.clone(), stop).await;
    Ok(())
}
