//! A reader that keeps its snapshot while jobs are claimed, so that nothing dead can be cleared away: P10.
//!
//! What belongs here: claims at full rate and at a fixed one beside such a reader. What does not: backlogs (`claims`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use cmk::store::Store;
use sqlx::{Connection, PgConnection};
use tokio::sync::{Mutex, mpsc};

use crate::claims::{CLIENTS, DUE, claim_and_give_back, one_cycle};
use crate::cluster::{Cluster, settle};
use crate::fill;
use crate::results::Results;

/// Jobs that come due a second, at the fixed rate.
const A_SECOND: u32 = 200;

/// How long they do before the snapshot is taken, and while it is held.
const WITHOUT: Duration = Duration::from_secs(10);
const HELD: Duration = Duration::from_secs(60);

/// What the end of the held time is compared by: its last seconds.
const LAST: Duration = Duration::from_secs(10);

/// Both loads, each over a backlog of its own.
pub async fn measure(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    saturated(cluster, results).await?;
    steady(cluster, results).await
}

async fn backlog(cluster: &Cluster) -> anyhow::Result<String> {
    let store: Store = cluster.migrated("bench_snapshot").await?;
    let (template, _) = fill::accept(&store, "stpaymentsprod", false).await?;
    store.close().await;
    let url = cluster.url("bench_snapshot");
    fill::copy_runs(&url, template, DUE, "now() - n * interval '1 ms'").await?;
    settle(&url).await?;
    Ok(url)
}

/// Takes a snapshot that sees everything as it is now, until the connection ends.
async fn hold(url: &str) -> anyhow::Result<PgConnection> {
    let mut reader = PgConnection::connect(url).await?;
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from job_runs;").execute(&mut reader).await?;
    Ok(reader)
}

/// Claims at full rate for ten seconds under a held snapshot, and when it has let go.
async fn saturated(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let url = backlog(cluster).await?;
    let before = claim_and_give_back(&url, 1, Duration::from_secs(3)).await?;
    let reader = hold(&url).await?;
    claim_and_give_back(&url, 1, Duration::from_secs(7)).await?;
    let held = claim_and_give_back(&url, 1, Duration::from_secs(3)).await?;
    reader.close().await?;
    let released = Instant::now();
    let mut after = claim_and_give_back(&url, 1, Duration::from_secs(3)).await?;
    while after.cycles < 0.9 * before.cycles && released.elapsed() < Duration::from_secs(60) {
        after = claim_and_give_back(&url, 1, Duration::from_secs(3)).await?;
    }
    results.note("ours snapshot_before", before.cycles);
    results.note("ours snapshot_held", held.cycles);
    results.note("ours snapshot_claim_before_ms", before.claim.as_secs_f64() * 1e3);
    results.note("ours snapshot_claim_held_ms", held.claim.as_secs_f64() * 1e3);
    results.note("ours snapshot_recovered_after_s", released.elapsed().as_secs_f64());
    results.note("ours snapshot_after", after.cycles);
    cluster.drop("bench_snapshot").await
}

/// A fixed number of claims a second: how many are overdue in the end, and what became of the claim's time.
async fn steady(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let url = backlog(cluster).await?;
    let without = at_fixed_rate(&url, WITHOUT).await?;
    let reader = hold(&url).await?;
    let held = at_fixed_rate(&url, HELD).await?;
    reader.close().await?;
    results.note("ours steady_claim_before_ms", without.claim.as_secs_f64() * 1e3);
    results.note("ours steady_claim_held_ms", held.claim.as_secs_f64() * 1e3);
    results.note("ours steady_overdue_before", without.overdue as f64);
    results.note("ours steady_overdue_held", held.overdue as f64);
    cluster.drop("bench_snapshot").await
}

struct Steady {
    /// The middle one of the last claims' times.
    claim: Duration,
    /// The most claims that were to be made by then and were not, in those seconds.
    overdue: usize,
}

async fn at_fixed_rate(url: &str, length: Duration) -> anyhow::Result<Steady> {
    let store = crate::cluster::store(url)?;
    let all = usize::try_from(A_SECOND)? * usize::try_from(length.as_secs())?;
    let (orders, taken) = mpsc::channel::<()>(all);
    let taken = Arc::new(Mutex::new(taken));
    let (claimed, mut claims) = mpsc::channel::<(Instant, Duration)>(all);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (store, taken, claimed) = (store.clone(), Arc::clone(&taken), claimed.clone());
        clients.spawn(async move {
            let name = format!("bench-{client}");
            while taken.lock().await.recv().await.is_some() {
                let claim = one_cycle(&store, &name, 1).await?;
                claimed.send((Instant::now(), claim)).await?;
            }
            anyhow::Ok(())
        });
    }
    drop(claimed);
    let (began, mut overdue) = (Instant::now(), 0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / A_SECOND);
    for _ in 0..all {
        ticks.tick().await;
        if began.elapsed() + LAST >= length {
            overdue = overdue.max(orders.max_capacity() - orders.capacity());
        }
        orders.send(()).await?;
    }
    drop(orders);
    while let Some(client) = clients.join_next().await {
        client??;
    }
    store.close().await;
    let mut last = Vec::new();
    while let Some((at, claim)) = claims.recv().await {
        if at.duration_since(began) + LAST >= length {
            last.push(claim);
        }
    }
    last.sort();
    Ok(Steady { claim: last.get(last.len() / 2).copied().unwrap_or_default(), overdue })
}
