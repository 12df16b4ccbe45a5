//! Other engines and the machine's limits: programs that are kept outside this repository, in the folder that
//! `BENCH_PEERS` names.
//!
//! What belongs here: building and running them as their own script does. What does not: our own numbers.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

use crate::cluster::{Cluster, output, settle, statements};
use crate::results::Results;

/// Where the peers are.
pub struct Peers {
    folder: PathBuf,
    target: PathBuf,
}

/// An engine: its program, its database, and what empties its tables.
struct Engine(&'static str, &'static str, &'static str);

const GRAPHILE: Engine = Engine(
    "peer-graphile",
    "bench_graphile",
    "truncate graphile_worker._private_jobs, graphile_worker._private_job_queues cascade",
);
const APALIS: Engine = Engine(
    "peer-apalis",
    "bench_apalis",
    "do $$ begin truncate apalis.jobs cascade; delete from apalis.workers; end $$",
);
const UNDERWAY: Engine =
    Engine("peer-underway", "bench_underway", "truncate underway.task, underway.task_attempt cascade");

impl Peers {
    /// The folder that `BENCH_PEERS` names, or says what is missing without it.
    pub fn find() -> Result<Self, String> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let named = std::env::var_os("BENCH_PEERS").map(PathBuf::from);
        let folder = named.unwrap_or_else(|| root.join("../shared/bench/peers"));
        if !folder.join("Cargo.toml").exists() {
            return Err(format!(
                "BENCH_PEERS: no peers in {}; without graphile_worker, apalis, underway, pgbench's scripts and the HTTP \
                 anchor there is nothing to compare with, and those goals read n/a",
                folder.display()
            ));
        }
        Ok(Self { folder, target: root.join("target/peers") })
    }

    /// Builds them, optimised, with their own lock file.
    pub async fn build(&self) -> anyhow::Result<()> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--release", "--locked", "--workspace"]);
        cargo.current_dir(&self.folder).env("CARGO_TARGET_DIR", &self.target);
        let built = cargo.status().await.context("cargo")?;
        anyhow::ensure!(built.success(), "the peers could not be built");
        Ok(())
    }

    /// One of their programs.
    pub fn program(&self, name: &str, url: &str) -> Command {
        let mut command = Command::new(self.target.join("release").join(name));
        command.env("DATABASE_URL", url);
        command
    }

    /// One of their files.
    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    async fn setup(&self, engine: &Engine, cluster: &Cluster) -> anyhow::Result<()> {
        let url = cluster.fresh(engine.1).await?;
        output(self.program(engine.0, &url).arg("setup")).await.map(drop)
    }

    async fn mode(
        &self,
        engine: &Engine,
        cluster: &Cluster,
        mode: &str,
        jobs: usize,
        results: &mut Results,
    ) -> anyhow::Result<()> {
        let url = cluster.url(engine.1);
        if mode.starts_with("drain") {
            statements(&url, &[engine.2]).await?;
            output(self.program(engine.0, &url).args(["bulk", &jobs.to_string()])).await?;
        } else {
            statements(&url, &[engine.2]).await?;
        }
        settle(&url).await?;
        if mode == "first" {
            output(self.program(engine.0, &url).arg("push-one")).await?;
        }
        let printed = output(self.program(engine.0, &url).args([mode, &jobs.to_string()])).await;
        results.collect(&printed.with_context(|| format!("{} {mode}", engine.0))?);
        Ok(())
    }
}

/// What the engines drain: the anchors of P4 and P5.
pub async fn engines(peers: Option<&Peers>, cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let Some(peers) = peers else { return Ok(()) };
    for (engine, one_by_one) in [(GRAPHILE, 10_000), (APALIS, 4_000)] {
        peers.setup(&engine, cluster).await?;
        peers.mode(&engine, cluster, "drain", one_by_one, results).await?;
        peers.mode(&engine, cluster, "drain-tuned", 20_000, results).await?;
        cluster.drop(engine.1).await?;
    }
    Ok(())
}

/// How soon the engines start a job: the anchors of P6, P7 and P13.
pub async fn latencies(peers: Option<&Peers>, cluster: &Cluster, results: &mut Results) -> anyhow::Result<()> {
    let Some(peers) = peers else { return Ok(()) };
    for engine in [GRAPHILE, APALIS, UNDERWAY] {
        peers.setup(&engine, cluster).await?;
        peers.mode(&engine, cluster, "latency", 300, results).await?;
        peers.mode(&engine, cluster, "first", 0, results).await?;
        cluster.drop(engine.1).await?;
    }
    Ok(())
}

/// What PostgreSQL itself does: claim and complete over a plain table, and commits of a job's rows.
pub async fn limits(
    peers: Option<&Peers>,
    cluster: &Cluster,
    seconds: u64,
    results: &mut Results,
) -> anyhow::Result<()> {
    let Some(peers) = peers else { return Ok(()) };
    let url = cluster.fresh("bench_limits").await?;
    let schema = peers.file("pgbench/schema.sql");
    output(cluster.program("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-f"]).arg(schema)).await?;
    for (name, script, clients) in [("b_cte_c16", "b_cte.sql", 16), ("b_cte_notify_c16", "b_cte_notify.sql", 16)] {
        pgbench(peers, cluster, &url, (name, script, clients), seconds, results).await?;
    }
    for (name, script) in [("c_batch1_backlog10000", "c_1.sql"), ("c_batch50_backlog10000", "c_50.sql")] {
        let fill = "insert into q(run_at) select now() - g * interval '1 ms' from generate_series(1, 10000) g";
        statements(&url, &["truncate q restart identity", fill]).await?;
        settle(&url).await?;
        pgbench(peers, cluster, &url, (name, script, 8), seconds, results).await?;
    }
    cluster.drop("bench_limits").await
}

async fn pgbench(
    peers: &Peers,
    cluster: &Cluster,
    url: &str,
    (name, script, clients): (&str, &str, usize),
    seconds: u64,
    results: &mut Results,
) -> anyhow::Result<()> {
    let mut command = cluster.program("pgbench");
    command.args(["-n", "-M", "prepared", "-j", "2", "-D", "refill=1", "-c", &clients.to_string()]);
    command.args(["-T", &seconds.to_string(), "-f"]).arg(peers.file(&format!("pgbench/{script}"))).arg(url);
    let printed = output(&mut command).await?;
    let tps = printed.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    results.note(&format!("pgbench {name}"), tps.context("pgbench printed no rate")?);
    Ok(())
}
