//! `just bench`: this service beside other engines and the machine's limits, alternately on one private PostgreSQL, as
//! ratios against the goals P1 to P17. docs/performance.md says how to read it.
//!
//! What belongs here: the order of things. What does not: what is measured (the modules) and what it is held against
//! (`goals`).
#![expect(clippy::disallowed_methods, reason = "a benchmark waits by the clock and measures by it")]

mod child;
mod claims;
mod cluster;
mod fill;
mod goals;
mod http;
mod latency;
mod peers;
mod provision;
mod results;
mod snapshot;
mod streams;
mod waiting;

use anyhow::Context;
use cluster::Cluster;
use peers::Peers;
use results::Results;

/// As the service has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What one run is made of, from the environment.
struct Plan {
    repeats: usize,
    seconds: u64,
    only: Vec<String>,
}

impl Plan {
    fn from_env() -> anyhow::Result<Self> {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}: a number is needed")),
            Err(_) => Ok(default),
        };
        let only = std::env::var("BENCH_ONLY").unwrap_or_default();
        Ok(Self {
            repeats: usize::try_from(number("BENCH_REPEATS", 3)?)?,
            seconds: number("BENCH_SECONDS", 4)?,
            only: only.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        })
    }

    fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| word == section)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match arguments.split_first() {
            Some((word, rest)) if word == "child" => child::run(rest).await,
            _ => run().await,
        }
    })
}

async fn run() -> anyhow::Result<()> {
    let plan = Plan::from_env()?;
    let peers = Peers::find();
    if let Err(missing) = &peers {
        println!("{missing}");
    }
    let peers = peers.ok();
    if let Some(peers) = &peers {
        peers.build().await?;
    }
    let cluster = Cluster::start().await?;
    let mut results = Results::default();
    let measured = measure(&plan, &cluster, peers.as_ref(), &mut results).await;
    results.print();
    goals::print(&results);
    cluster.stop().await?;
    measured
}

async fn measure(plan: &Plan, cluster: &Cluster, peers: Option<&Peers>, results: &mut Results) -> anyhow::Result<()> {
    results.machine(cluster).await?;
    let claims = match plan.wants("claims") {
        true => Some(claims::Cases::prepare(cluster).await?),
        false => None,
    };
    for repeat in 0..plan.repeats {
        results.begin(repeat);
        // Whoever comes first meets another machine than whoever comes last: the order turns.
        for turn in 0..2 {
            let ours = (turn + repeat) % 2 == 0;
            if plan.wants("engine") {
                match ours {
                    true => child::drains(cluster, results).await?,
                    false => peers::engines(peers, cluster, results).await?,
                }
            }
            if plan.wants("http") {
                match ours {
                    true => http::ours(cluster, plan.seconds, results).await?,
                    false => http::anchors(peers, cluster, plan.seconds, results).await?,
                }
            }
            if plan.wants("latency") {
                match ours {
                    true => latency::ours(cluster, results).await?,
                    false => peers::latencies(peers, cluster, results).await?,
                }
            }
        }
        if plan.wants("engine") || plan.wants("claims") {
            peers::limits(peers, cluster, plan.seconds, results).await?;
        }
        if let Some(claims) = &claims {
            claims.measure(repeat, plan.seconds, results).await?;
        }
        if plan.wants("crash") {
            latency::crash(cluster, results).await?;
        }
        if plan.wants("provision") {
            provision::overhead(cluster, results).await?;
        }
        if plan.wants("waiting") {
            waiting::measure(cluster, repeat, plan.seconds, results).await?;
        }
    }
    results.begin(0);
    if let Some(claims) = &claims {
        claims.lists(results).await?;
    }
    if plan.wants("snapshot") {
        snapshot::measure(cluster, results).await?;
    }
    if plan.wants("streams") {
        streams::measure(cluster, results).await?;
    }
    if plan.wants("waits") {
        provision::waits(cluster, results).await?;
    }
    if std::env::var_os("BENCH_LONG_HISTORY").is_some() {
        claims::long_history(cluster, results).await?;
    }
    Ok(())
}
