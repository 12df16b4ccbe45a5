//! Three APIs and three workers over one database; one of each is killed again and again, while callers go on.
//!
//! `CMK_REPLICAS_SECONDS` says for how long (`just replicas`: two minutes).

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::database::TestDatabase;
use crate::support::process::{Program, eventually};
use crate::support::service::{Posted, Service};
use crate::support::world::migrate;

/// The everyday run.
const SECONDS: u64 = 20;

/// So that a run can be repeated.
const SEED: u64 = 4;

/// How many requests are unfinished at most: the load that is kept up.
const UNFINISHED: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_of_which_some_die_end_every_job_once() {
    let seconds = std::env::var("CMK_REPLICAS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let database = TestDatabase::new(migrate).await;
    let service = Service::new(Duration::from_millis(10)).await;
    let mut chance = StdRng::seed_from_u64(SEED);
    let mut apis = Vec::new();
    let mut workers: Vec<Program> = Vec::new();
    for _ in 0..3 {
        apis.push(service.serve(&database.url).await);
        workers.push(service.work(&database.url));
    }
    eventually("the service is ready", async || service.ready(&apis[0].1).await.0).await;
    let (began, mut kills, mut unanswered) = (Instant::now(), [0u32; 2], 0u32);
    let mut unfinished: Vec<String> = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        // Callers use all addresses in turn, also those of processes that have just died.
        let mut next_kill = chance.random_range(5..15);
        let (api, worker) = (chance.random_range(0..3), chance.random_range(0..3));
        while next_kill > 0 {
            let base = apis[chance.random_range(0..3)].1.clone();
            match service.post(&base, service.number()).await {
                Posted::Accepted(id) => unfinished.push(id),
                Posted::Unavailable | Posted::Nobody => unanswered += 1,
            }
            eventually("some jobs end", async || {
                let mut still = Vec::new();
                for id in unfinished.drain(..) {
                    if service.state(&base, &id).await != "succeeded" {
                        still.push(id);
                    }
                }
                unfinished = still;
                unfinished.len() < UNFINISHED
            })
            .await;
            next_kill -= 1;
        }
        // A request that is on its way when its process dies: its caller does not learn what became of it.
        let (base, number) = (apis[api].1.clone(), service.number());
        let dying = apis.remove(api).0;
        let (posted, ()) = tokio::join!(service.post(&base, number), dying.kill());
        match posted {
            Posted::Accepted(id) => unfinished.push(id),
            Posted::Unavailable | Posted::Nobody => unanswered += 1,
        }
        workers.remove(worker).kill().await;
        kills = [kills[0] + 1, kills[1] + 1];
        apis.push(service.serve(&database.url).await);
        workers.push(service.work(&database.url));
    }
    let ended = service.all_end_once(&apis[0].1).await;
    println!(
        "{seconds} s: {} APIs and {} workers killed; {unanswered} requests without an answer, sent again; {ended} jobs, each ended once",
        kills[0], kills[1]
    );
    assert!(kills[0] >= 2 && ended >= 20, "{kills:?} {ended}");
}
