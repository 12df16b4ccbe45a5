//! The claim statement over backlogs of several sizes: P8, P9, P10, and the list of jobs.
//!
//! What belongs here: databases of these sizes and what is timed over them. What does not: workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cmk::steps::WaitReason;
use cmk::store::{HeldLease, JobFilter, Next, RunWrite, Store};
use sqlx::{Connection, PgConnection};

use crate::cluster::{Cluster, settle};
use crate::fill;
use crate::results::{Results, note_times};

/// How many clients claim at the same time, as in the peers' scripts.
const CLIENTS: usize = 8;

const DUE: usize = 10_000;
const MANY: usize = 1_000_000;
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
    claim: Duration,
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
                fill::copy_ended(&url, template, MANY).await?;
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

    /// The list of 50, at random places of a million ended jobs.
    pub async fn lists(&self, results: &mut Results) -> anyhow::Result<()> {
        let store = crate::cluster::store(&self.ended)?;
        let mut filter = JobFilter::default();
        let mut taken = Vec::new();
        for page in 0..300 {
            let began = Instant::now();
            let jobs = store.list_jobs(&filter, 51).await?;
            taken.push(began.elapsed());
            filter.before = jobs.last().map(|job| job.id);
            if page % 30 == 29 {
                // Further back by a part of all there is.
                let skipped =
                    sqlx::query_scalar("select id from jobs where id < $1 order by id desc offset 90000 limit 1");
                let id: Option<uuid::Uuid> =
                    skipped.bind(filter.before.map(uuid::Uuid::from)).fetch_optional(store.pool()).await?;
                filter.before = id.map(cmk::domain::ids::JobId);
            }
        }
        note_times(results, "ours list50_of_1m", &taken);
        store.close().await;
        Ok(())
    }
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
                let claim = Instant::now();
                let claims = store.claim_due_jobs(&format!("bench-{client}"), batch, Duration::from_secs(60)).await?;
                spent.fetch_add(u64::try_from(claim.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                let writes: Vec<RunWrite> = claims.into_iter().map(put_back).collect();
                store.record_all(&writes.iter().collect::<Vec<_>>()).await?;
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

/// P10: a reader that keeps its snapshot while claims go on at full rate, and what is left when it lets go.
pub async fn held_snapshot(cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let store: Store = cluster.migrated("bench_snapshot").await?;
    let (template, _) = fill::accept(&store, "stpaymentsprod", false).await?;
    let url = cluster.url("bench_snapshot");
    fill::copy_runs(&url, template, DUE, "now() - n * interval '1 ms'").await?;
    settle(&url).await?;
    let before = claim_and_give_back(&url, 1, Duration::from_secs(3)).await?;
    let mut reader = PgConnection::connect(&url).await?;
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from job_runs;").execute(&mut reader).await?;
    claim_and_give_back(&url, 1, Duration::from_secs(7)).await?;
    let held = claim_and_give_back(&url, 1, Duration::from_secs(3)).await?;
    sqlx::raw_sql("rollback").execute(&mut reader).await?;
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
    store.close().await;
    cluster.drop("bench_snapshot").await
}
