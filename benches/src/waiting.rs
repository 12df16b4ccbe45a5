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
use crate::results::Results;

const WAITING: usize = 20_000;
const DUE: usize = 10_000;

/// How long the idle machine is watched.
const WATCHED: Duration = Duration::from_secs(15);

/// Rates of claims beside them and without them, and the processor time of a worker and PostgreSQL with nothing due.
pub async fn measure(cluster: &Cluster, repeat: usize, seconds: u64, results: &mut Results) -> anyhow::Result<()> {
    let mut cases = vec![("alone", 0, DUE), ("beside20k", WAITING, DUE)];
    if repeat % 2 == 1 {
        cases.reverse();
    }
    for (name, waiting, due) in &cases {
        fill(cluster, name, *waiting, *due).await?;
    }
    // Forth and back, so that neither has the better half of the time.
    let (mut first, second): (Vec<_>, Vec<_>) = (cases.clone(), cases.iter().rev().copied().collect());
    first.extend(second);
    let mut rates = std::collections::BTreeMap::<&str, f64>::new();
    for (name, _, _) in first {
        let url = cluster.url(&format!("bench_{name}"));
        settle(&url).await?;
        let rate = claim_and_give_back(&url, 1, Duration::from_secs(seconds)).await?;
        *rates.entry(name).or_default() += rate.cycles / 2.0;
    }
    for (name, rate) in rates {
        results.note(&format!("ours claim1_{name}"), rate);
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
    let backend = Process::read(u32::try_from(backend)?).context("the server runs on this machine")?;
    store.close().await;
    let mut command = Command::new(service()?);
    command.args(["work", "--credential", "managed-identity"]).env("DATABASE_URL", url);
    let mut worker = spawn(&mut command)?;
    let id = worker.id().context("the worker runs")?;
    // Connected, and past what it does once at its start.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = Process::ticks(id) + Process::family_ticks(backend.parent);
    tokio::time::sleep(WATCHED).await;
    anyhow::ensure!(worker.try_wait()?.is_none(), "the worker ended");
    let after = Process::ticks(id) + Process::family_ticks(backend.parent);
    worker.kill().await?;
    // Linux counts in hundredths of a second, whatever the kernel's own tick.
    Ok(after.saturating_sub(before) as f64 / WATCHED.as_secs_f64())
}

/// What /proc says of a process.
struct Process {
    parent: u32,
    /// Its own time and that of its ended children.
    own: u64,
    children: u64,
}

impl Process {
    fn read(id: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // After the name, which may contain anything: state, parent, and the times as fields 14 to 17 of the whole.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        let parent = u32::try_from(number(1)?).ok()?;
        Some(Self { parent, own: number(11)? + number(12)?, children: number(13)? + number(14)? })
    }

    fn ticks(id: u32) -> u64 {
        Self::read(id).map_or(0, |process| process.own)
    }

    /// A process with its children, those too that have ended.
    fn family_ticks(id: u32) -> u64 {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let living = all
            .filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?))
            .filter(|process| process.parent == id)
            .map(|process| process.own)
            .sum::<u64>();
        Self::read(id).map_or(0, |process| process.own + process.children) + living
    }
}
