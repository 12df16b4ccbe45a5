//! Mixed jobs for a long time, with one request in a hundred going wrong in each of eight ways: nothing is stuck, nothing
//! is lost, and the processes do not grow.
//!
//! `CMK_SOAK_SECONDS` says for how long (`just soak`: two hours). Growth is held against its limit in runs of an hour or
//! more; a short run says nothing about it, and only prints it.

use std::time::{Duration, Instant};

use azure_sim::{Action, Rule, faults};
use tokio::time::{MissedTickBehavior, interval};

use crate::support::database::TestDatabase;
use crate::support::process::{Program, eventually};
use crate::support::service::{Posted, STUCK_AFTER, Service};
use crate::support::world::migrate;

/// The everyday run.
const SECONDS: u64 = 15;

/// Between two requests.
const EVERY: Duration = Duration::from_secs(1);

/// How many requests are unfinished at most, where jobs take longer than that.
const UNFINISHED: usize = 8;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_secs(5);

/// The most that a process may grow.
const MIB_AN_HOUR: f64 = 1.0;

fn faults() -> Vec<Rule> {
    let actions = [
        faults::throttled(1),
        faults::status(500, "InternalServerError"),
        faults::status(503, "ServiceUnavailable"),
        Action::CutBefore,
        Action::CutAfter,
        Action::TruncatedBody,
        Action::Delay { millis: 1500 },
        Action::SlowBody { millis: 500 },
    ];
    actions.into_iter().map(|action| Rule { probability: Some(0.01), ..Rule::always("*", "*", action) }).collect()
}

/// Resident memory in MiB, of its own and pages of the program's file; `None` where the system does not tell it this way.
fn resident(program: &Program) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id()?)).ok()?;
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
    };
    Some((mib("RssAnon:")? + mib("RssShmem:")?, mib("RssFile:")?))
}

/// Hours and MiB.
type Points = Vec<(f64, f64)>;

/// The slope of the line through points after the first quarter, in which caches fill.
fn slope(points: &[(f64, f64)]) -> f64 {
    let points = &points[points.len() / 4..];
    let n = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread.max(f64::EPSILON)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_jobs_among_faults_end_and_memory_does_not_grow() {
    let seconds = std::env::var("CMK_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let database = TestDatabase::new(migrate).await;
    let service = Service::new(Duration::ZERO).await;
    let (api, base) = service.serve(&database.url).await;
    let workers = [service.work(&database.url), service.work(&database.url)];
    eventually("the service is ready", async || service.ready(&base).await.0).await;
    let rules: Vec<String> =
        faults().into_iter().map(|rule| service.sim.faults().add(rule).expect("there is room")).collect();
    let processes = [("API", &api), ("worker", &workers[0]), ("worker", &workers[1])];
    let mut sizes: [(Points, Points); 3] = Default::default();
    let (began, mut looked) = (Instant::now(), None::<Instant>);
    let mut unfinished: Vec<String> = Vec::new();
    let (mut requests, mut looks) = (interval(EVERY), interval(Duration::from_millis(500)));
    requests.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut ended, mut minute) = (0u64, Duration::from_secs(60));
    while began.elapsed() < Duration::from_secs(seconds) {
        requests.tick().await;
        if let Posted::Accepted(id) = service.post(&base, service.number()).await {
            unfinished.push(id);
        }
        let waited = Instant::now();
        eventually("some jobs end", async || {
            let mut still = Vec::new();
            for id in unfinished.drain(..) {
                match service.state(&base, &id).await.as_str() {
                    "succeeded" => ended += 1,
                    "failed" | "cancelled" => panic!("{}", service.told(&base, &id).await),
                    _ => still.push(id),
                }
            }
            unfinished = still;
            looks.tick().await;
            if waited.elapsed() > STUCK_AFTER {
                panic!(
                    "{} jobs do not end, this is one: {}",
                    unfinished.len(),
                    service.told(&base, &unfinished[0]).await
                );
            }
            unfinished.len() < UNFINISHED
        })
        .await;
        if looked.is_none_or(|at| at.elapsed() > LOOK) {
            looked = Some(Instant::now());
            if began.elapsed() >= minute {
                println!("{:.0} s: {ended} jobs have ended", began.elapsed().as_secs_f64());
                minute += Duration::from_secs(60);
            }
            let hours = began.elapsed().as_secs_f64() / 3600.0;
            for ((own, file), (_, process)) in sizes.iter_mut().zip(processes) {
                if let Some(now) = resident(process) {
                    own.push((hours, now.0));
                    file.push((hours, now.1));
                }
            }
        }
    }
    let fired: u32 = rules.iter().map(|rule| service.sim.faults().fired(rule)).sum();
    let all = service.all_end_once(&base).await;
    println!("{seconds} s: {all} jobs, each ended once; {fired} requests went wrong");
    assert!(all > 0 && fired > 0, "{all} jobs, {fired} faults");
    for ((own, file), (name, _)) in sizes.iter().zip(processes) {
        let (Some(last), Some(mapped)) = (own.last(), file.last()) else { continue };
        let told = [(last.1, slope(own)), (mapped.1, slope(file))]
            .map(|(mib, slope)| format!("{mib:.1} MiB ({slope:+.2} an hour)"));
        println!("{name}: {} of its own at the end, {} of files", told[0], told[1]);
    }
    for ((own, file), (name, _)) in sizes.iter().zip(processes) {
        let grows = slope(own) + slope(file);
        assert!(seconds < 3600 || grows < MIB_AN_HOUR, "the {name} grows by {grows:.2} MiB an hour");
    }
}
