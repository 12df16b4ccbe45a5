//! The claim statement over backlogs of several sizes: P8, P9, P10, and the list of jobs.
//!
//! What belongs here: databases of these sizes and what is timed over them. What does not: workers, and old snapshots
//! (`snapshot`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cmk::steps::WaitReason;
use cmk::store::{HeldLease, JobFilter, Next, RunWrite, Store, StoreError};

use crate::cluster::{Cluster, settle};
use crate::fill;
use crate::results::{Results, note_times};

/// How many clients claim at the same time, as in the peers' scripts.
pub const CLIENTS: usize = 8;

/// The small backlog.
pub const DUE: usize = 10_000;
const MANY: usize = 1_000_000;
const HISTORY: usize = 10_000_000;
const PARKED: usize = 100_000;

/// Databases, each with its own backlog.
pub struct Cases {
    cases: Vec<(&'static str, String)>,
    ended: String,
}

/// How it went: cycles a second, and the claim statement's mean time.
pub struct Rate {
    /// Claims, of one or more jobs, that were made and put back a second.
    pub cycles: f64,
    /// How long the claim took, on average.
    pub claim: Duration,
}

impl Cases {
    /// Fills the databases; the largest takes about a minute.
    pub async fn prepare(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut cases = Vec::new();
        for name in ["due10k", "ended1m", "parked100k", "due1m"] {
            let database = format!("bench_{name}");
            let store = cluster.migrated(&database).await?;
            let (template, _) = fill::accept(&store, "stpaymentsprod", false).await?;
            let url = cluster.url(&database);
            let due = if name == "due1m" { MANY } else { DUE };
            if name == "ended1m" {
                fill::copy_ended(&url, template, MANY, false).await?;
            }
            if name == "parked100k" {
                fill::copy_runs(&url, template, PARKED, "now() + interval '1 day' + n * interval '1 ms'").await?;
            }
            fill::copy_runs(&url, template, due, "now() - n * interval '1 ms'").await?;
            store.close().await;
            settle(&url).await?;
            eprintln!("    filled {name}");
            cases.push((name, url));
        }
        let ended = cases[1].1.clone();
        Ok(Self { cases, ended })
    }

    /// Claims one and fifty at a time over every backlog.
    pub async fn measure(&self, repeat: usize, seconds: u64, results: &mut Results) -> anyhow::Result<()> {
        for batch in [1, 50] {
            let mut cases: Vec<_> = self.cases.iter().collect();
            if repeat % 2 == 1 {
                cases.reverse();
            }
            for (name, url) in cases {
                settle(url).await?;
                let rate = claim_and_give_back(url, batch, Duration::from_secs(seconds)).await?;
                results.note(&format!("ours claim{batch}_{name}"), rate.cycles);
                results.note(&format!("ours claim{batch}_{name}_ms"), rate.claim.as_secs_f64() * 1e3);
            }
        }
        Ok(())
    }

    /// The list of 50, at places all over a million ended jobs.
    pub async fn lists(&self, results: &mut Results) -> anyhow::Result<()> {
        let store = crate::cluster::store(&self.ended)?;
        list_pages(&store, MANY, "ours list50_of_1m", results).await?;
        store.close().await;
        Ok(())
    }
}

/// The list of 50 over ten million ended jobs, which take 20 GB of disk.
pub async fn long_history(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let store = cluster.migrated("bench_history").await?;
    let (template, _) = fill::accept(&store, "stpaymentsprod", false).await?;
    let url = cluster.url("bench_history");
    for part in 1..=10 {
        fill::copy_ended(&url, template, HISTORY / 10, true).await?;
        eprintln!("    filled {} of {HISTORY}", HISTORY / 10 * part);
    }
    settle(&url).await?;
    list_pages(&store, HISTORY, "ours list50_of_10m", results).await?;
    store.close().await;
    cluster.drop("bench_history").await
}

/// Pages of 50 with what tells whether there are more: ten places, thirty pages at each.
async fn list_pages(store: &Store, jobs: usize, name: &str, results: &mut Results) -> anyhow::Result<()> {
    let mut filter = JobFilter::default();
    let mut taken = Vec::new();
    let skipped = i64::try_from(jobs / 11)?;
    for page in 0..300 {
        let began = Instant::now();
        let jobs = store.list_jobs(&filter, 51).await?;
        taken.push(began.elapsed());
        anyhow::ensure!(jobs.len() == 51, "page {page} has {} jobs", jobs.len());
        filter.before = jobs.last().map(|job| job.id);
        if page % 30 == 29 && page < 299 {
            // Further back by a part of all there is.
            let further = sqlx::query_scalar("select id from jobs where id < $1 order by id desc offset $2 limit 1");
            let id: uuid::Uuid =
                further.bind(filter.before.map(uuid::Uuid::from)).bind(skipped).fetch_one(store.pool()).await?;
            filter.before = Some(cmk::domain::ids::JobId(id));
        }
    }
    note_times(results, name, &taken);
    Ok(())
}

/// Every client claims and puts back at the end of the queue, so that the backlog stays as it is.
pub async fn claim_and_give_back(url: &str, batch: u16, length: Duration) -> anyhow::Result<Rate> {
    let store = crate::cluster::store(url)?;
    let spent = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (store, spent) = (store.clone(), Arc::clone(&spent));
        clients.spawn(async move {
            let mut cycles = 0u64;
            while began.elapsed() < length {
                let claim = one_cycle(&store, &format!("bench-{client}"), batch).await?;
                spent.fetch_add(u64::try_from(claim.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                cycles += 1;
            }
            anyhow::Ok(cycles)
        });
    }
    let mut cycles = 0;
    while let Some(client) = clients.join_next().await {
        cycles += client??;
    }
    store.close().await;
    let claim = Duration::from_nanos(spent.load(Ordering::Relaxed) / cycles.max(1));
    Ok(Rate { cycles: cycles as f64 / began.elapsed().as_secs_f64(), claim })
}

/// Claims and puts back. Answers how long the claim took.
pub async fn one_cycle(store: &Store, worker: &str, batch: u16) -> Result<Duration, StoreError> {
    let began = Instant::now();
    let claims = store.claim_due_jobs(worker, batch, Duration::from_secs(60)).await?;
    let taken = began.elapsed();
    let writes: Vec<RunWrite> = claims.into_iter().map(put_back).collect();
    store.record_all(&writes.iter().collect::<Vec<_>>()).await?;
    Ok(taken)
}

fn put_back(claim: cmk::store::Claim) -> RunWrite {
    RunWrite {
        lease: HeldLease { job: claim.job.id, claim_no: claim.job.claim_no },
        write_no: 0,
        next: Next::Waiting { after: Duration::ZERO, reason: WaitReason::new("retry", "put back") },
        steps: claim.job.steps,
        facts: claim.job.facts,
        events: Vec::new(),
    }
}
