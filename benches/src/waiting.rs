//! Twenty thousand jobs that wait: what they take from others, and what they cost while nothing else happens. P17.
//!
//! What belongs here: those jobs and what is timed beside them. What does not: how long one of them waits (`provision`).

use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;

use crate::claims::claim_and_give_back;
use crate::cluster::{Cluster, settle, spawn, statements};
use crate::fill;
use crate::http::service;
use crate::results::{Results, median};

const WAITING: usize = 20_000;
const DUE: usize = 10_000;

/// Databases, and how many jobs wait in each beside those that are due.
const CASES: &[(&str, usize)] = &[("alone", 0), ("beside20k", WAITING)];

/// How often the two are timed.
const PAIRS: usize = 8;

/// How long the idle machine is watched.
const WATCHED: Duration = Duration::from_secs(15);

/// Rates of claims beside them and without them, and the processor time of a worker and PostgreSQL with nothing due.
pub async fn measure(cluster: &Cluster, repeat: usize, seconds: u64, results: &mut Results) -> anyhow::Result<()> {
    for (name, waiting) in CASES {
        fill(cluster, name, *waiting, DUE).await?;
    }
    // In short turns, for the machine is another one every few seconds: what counts is the middle one of the pairs' ratios.
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            let which = (pair + repeat + turn) % 2;
            let url = cluster.url(&format!("bench_{}", CASES[which].0));
            settle(&url).await?;
            rates[which] = claim_and_give_back(&url, 1, Duration::from_secs(seconds.min(2))).await?.cycles;
        }
        alone.push(rates[0]);
        beside.push(rates[1]);
        ratios.push(rates[1] / rates[0]);
    }
    for (name, values) in [("alone", alone), ("beside20k", beside), ("beside20k_ratio", ratios)] {
        results.note(&format!("ours claim1_{name}"), median(values).unwrap_or(f64::NAN));
    }
    for (name, _) in CASES {
        cluster.drop(&format!("bench_{name}")).await?;
    }
    for (name, waiting) in [("idle", 0), ("waiting20k", WAITING)] {
        let url = fill(cluster, name, waiting, 0).await?;
        results.note(&format!("ours cpu_percent_{name}"), processor_share(&url).await?);
        cluster.drop(&format!("bench_{name}")).await?;
    }
    Ok(())
}

async fn fill(cluster: &Cluster, name: &str, waiting: usize, due: usize) -> anyhow::Result<String> {
    let database = format!("bench_{name}");
    let store = cluster.migrated(&database).await?;
    let (template, _) = fill::accept(&store, "stpaymentsprod", false).await?;
    store.close().await;
    let url = cluster.url(&database);
    if waiting > 0 {
        fill::copy_runs(&url, template, waiting, "now() + interval '1 day' + n * interval '1 ms'").await?;
        let wait = "update job_runs set state = 'waiting',
            wait_reason = '{\"code\": \"access-propagation\", \"text\": \"The key store does not honour the grant yet\"}'
            where run_after > now() + interval '1 hour'";
        statements(&url, &[wait]).await?;
    }
    match due {
        // The one that the others are copies of is not to run either.
        0 => {
            statements(&url, &["update job_runs set run_after = now() + interval '2 days' where state = 'queued'"])
                .await?
        }
        due => fill::copy_runs(&url, template, due, "now() - n * interval '1 ms'").await?,
    }
    settle(&url).await?;
    Ok(url)
}

/// Hundredths of one core that `cmk work` and all of PostgreSQL take together.
async fn processor_share(url: &str) -> anyhow::Result<f64> {
    let store = crate::cluster::store(url)?;
    let backend: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(store.pool()).await?;
    let server = Stat::read(u32::try_from(backend)?).context("the server runs on this machine")?.parent;
    store.close().await;
    let mut command = Command::new(service()?);
    command.args(["work", "--credential", "managed-identity"]).env("DATABASE_URL", url);
    let mut worker = spawn(&mut command)?;
    let id = worker.id().context("the worker runs")?;
    // Connected, and past what it does once at its start.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = own_time(id) + family_time(server);
    tokio::time::sleep(WATCHED).await;
    anyhow::ensure!(worker.try_wait()?.is_none(), "the worker ended");
    let after = own_time(id) + family_time(server);
    worker.kill().await?;
    Ok((after - before) * 100.0 / WATCHED.as_secs_f64())
}

/// What /proc/…/stat says of a process.
struct Stat {
    parent: u32,
    /// The time of its ended children, in seconds.
    ended_children: f64,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the name, which may contain anything: state, parent, and the children's times as fields 16 and 17 of the
        // whole, in hundredths of a second whatever the kernel's own tick.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u32>().ok();
        let ended_children = f64::from(number(13)?) / 100.0 + f64::from(number(14)?) / 100.0;
        Some(Self { parent: number(1)?, ended_children })
    }
}

/// The seconds that a process's threads have run. To the nanosecond: the hundredths of /proc/…/stat, of a dozen processes
/// that do next to nothing, would be off by more than what is measured.
pub fn own_time(id: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let ran = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.filter_map(ran).sum::<f64>() / 1e9
}

/// The same for a process and its children, those too that have ended.
fn family_time(id: u32) -> f64 {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let living = all
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| Stat::read(*process).is_some_and(|stat| stat.parent == id))
        .map(own_time)
        .sum::<f64>();
    own_time(id) + living + Stat::read(id).map_or(0.0, |stat| stat.ended_children)
}
