//! The API under load: P1 to P3, P11 and P12.
//!
//! What belongs here: starting `cmk serve` and the anchor, and loading them with wrk. What does not: the engine.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::child::{command, memory};
use crate::cluster::{Cluster, output, settle, spawn};
use crate::fill;
use crate::peers::Peers;
use crate::results::Results;

/// What wrk says of one load.
struct Load {
    rate: f64,
    p50: f64,
    p99: f64,
    errors: f64,
}

impl Load {
    fn note(&self, name: &str, results: &mut Results) {
        for (suffix, value) in [("", self.rate), ("_p50", self.p50), ("_p99", self.p99), ("_errors", self.errors)] {
            results.note(&format!("{name}{suffix}"), value);
        }
    }
}

/// Sends load with 64 connections. `script` and its environment say what.
async fn wrk(url: &str, seconds: u64, script: PathBuf, environment: &[(&str, &str)]) -> anyhow::Result<Load> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c64", "--timeout", "10s", &format!("-d{seconds}s"), "-s"]).arg(script).arg(url);
    command.envs(environment.iter().copied());
    let printed = output(&mut command).await.context("wrk (the Debian package wrk)")?;
    let line = printed.lines().find_map(|line| line.strip_prefix("WRK\t")).context("wrk printed no result")?;
    let numbers: Vec<f64> = line.split('\t').filter_map(|n| n.parse().ok()).collect();
    match numbers[..] {
        [rate, p50, p99, _longest, errors] => Ok(Load { rate, p50, p99, errors }),
        _ => anyhow::bail!("wrk printed {line}"),
    }
}

/// The anchor: the same rows in one statement, and the same without a database.
pub async fn anchors(
    peers: Option<&Peers>,
    cluster: &Cluster,
    seconds: u64,
    results: &mut Results,
) -> anyhow::Result<()> {
    let Some(peers) = peers else { return Ok(()) };
    let url = cluster.fresh("bench_http").await?;
    let schema = peers.file("pgbench/schema.sql");
    output(cluster.program("psql").args(["-X", "-q", "-d", &url, "-f"]).arg(schema)).await?;
    let mut anchor = spawn(peers.program("http-anchor", &url).env("POOL", "16"))?;
    let address = first_line(&mut anchor).await?;
    for path in ["null", "cte"] {
        let target = format!("http://{address}/{path}");
        wrk(&target, 1, peers.file("http-anchor/post.lua"), &[]).await?;
        let load = wrk(&target, seconds, peers.file("http-anchor/post.lua"), &[]).await?;
        load.note(&format!("http {path}_c64"), results);
    }
    anchor.kill().await?;
    cluster.drop("bench_http").await
}

/// Our API: what it accepts, what it refuses, what it repeats, and what telling others costs.
pub async fn ours(cluster: &Cluster, seconds: u64, results: &mut Results) -> anyhow::Result<()> {
    cluster.migrated("bench_api").await?.close().await;
    let url = cluster.url("bench_api");
    settle(&url).await?;
    let bodies = Bodies::write()?;
    let mut api = Api::serve(&url, 20).await?;
    bodies.load(&api, 1, "distinct", "a").await?;
    results.note("ours rss_serve_idle", api.memory("rss"));
    bodies.load(&api, seconds, "distinct", "b").await?.note("ours post_c64", results);
    results.note("ours rss_serve_peak", api.memory("rss_peak"));
    // What the server still has to do for the jobs that came is not what these two cost; the anchor's has nothing to do either.
    settle(&url).await?;
    bodies.load(&api, seconds, "same", "c").await?.note("ours replay_c64", results);
    bodies.refused(&api, seconds).await?.note("ours refused_c64", results);
    api.process.kill().await?;

    // The same with nobody told, and with two processes that listen. Neither does more than hear.
    let mut silent = Api::child(&url, "silent").await?;
    bodies.load(&silent, 1, "distinct", "d").await?;
    let alone = bodies.load(&silent, seconds, "distinct", "e").await?;
    silent.process.kill().await?;
    let mut listeners = [spawn(&mut command(&url, &["listen"])?)?, spawn(&mut command(&url, &["listen"])?)?];
    let mut told = Api::child(&url, "fed").await?;
    bodies.load(&told, 1, "distinct", "f").await?;
    let heard = bodies.load(&told, seconds, "distinct", "0").await?;
    told.process.kill().await?;
    for listener in &mut listeners {
        listener.kill().await?;
    }
    results.note("ours post_untold", alone.rate);
    results.note("ours post_told", heard.rate);
    cluster.drop("bench_api").await
}

/// The service's own program, built beside this one.
pub fn service() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("cmk");
    anyhow::ensure!(program.exists(), "{} is missing: cargo build --release", program.display());
    Ok(program)
}

/// A running API. It is killed when dropped.
pub struct Api {
    /// The process.
    pub process: Child,
    /// Where it listens.
    pub address: String,
}

impl Api {
    /// The real program.
    pub async fn serve(url: &str, connections: u32) -> anyhow::Result<Self> {
        Self::serve_with(url, connections, &[]).await
    }

    /// The same with more flags.
    pub async fn serve_with(url: &str, connections: u32, flags: &[&str]) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(service()?);
        command.args(["serve", "--listen", &port.to_string(), "--database-connections", &connections.to_string()]);
        command.args(flags);
        let process = spawn(command.env("DATABASE_URL", url))?;
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(port).await.is_ok() {
                return Ok(Self { process, address: port.to_string() });
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("cmk serve does not listen")
    }

    async fn child(url: &str, news: &str) -> anyhow::Result<Self> {
        let mut process = spawn(&mut command(url, &["serve", news])?)?;
        let address = first_line(&mut process).await?;
        Ok(Self { process, address })
    }

    /// Its memory in MiB.
    pub fn memory(&self, which: &str) -> f64 {
        let all = memory(self.process.id().unwrap_or_default());
        all.into_iter().find(|(name, _)| *name == which).map_or(f64::NAN, |(_, value)| value)
    }

    /// The seconds of processor time that it took so far.
    pub fn seconds_used(&self) -> f64 {
        crate::waiting::own_time(self.process.id().unwrap_or_default())
    }
}

/// The line in which a server says where it listens.
async fn first_line(process: &mut Child) -> anyhow::Result<String> {
    let out = process.stdout.take().context("its output is read")?;
    let mut lines = BufReader::new(out).lines();
    lines.next_line().await?.context("the server ended")
}

/// Files with what is sent.
struct Bodies {
    good: PathBuf,
    bad: PathBuf,
}

impl Bodies {
    fn write() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir();
        let write = |name: &str, body: &serde_json::Value| -> anyhow::Result<PathBuf> {
            let path = folder.join(format!("cmk-bench-{}-{name}.json", std::process::id()));
            std::fs::write(&path, serde_json::to_vec(body)?)?;
            Ok(path)
        };
        let good = fill::request("stpaymentsprod01");
        let mut bad = good.clone();
        bad["key"]["name"] = json!("not a name of a key");
        Ok(Self { good: write("good", &good)?, bad: write("bad", &bad)? })
    }

    async fn load(&self, api: &Api, seconds: u64, mode: &str, run: &str) -> anyhow::Result<Load> {
        send(api, seconds, &self.good, mode, run).await
    }

    /// Every answer is a refusal, which wrk counts as an error.
    async fn refused(&self, api: &Api, seconds: u64) -> anyhow::Result<Load> {
        let load = send(api, seconds, &self.bad, "same", "bad").await?;
        anyhow::ensure!(load.errors > 0.0, "a faulty request was not refused");
        Ok(Load { errors: 0.0, ..load })
    }
}

async fn send(api: &Api, seconds: u64, body: &std::path::Path, mode: &str, run: &str) -> anyhow::Result<Load> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("post.lua");
    let body = body.to_string_lossy();
    let environment = [("BODY", &*body), ("MODE", mode), ("RUN", run)];
    wrk(&format!("http://{}/v1/jobs", api.address), seconds, script, &environment).await
}

impl Drop for Bodies {
    fn drop(&mut self) {
        for path in [&self.good, &self.bad] {
            std::fs::remove_file(path).ok();
        }
    }
}
