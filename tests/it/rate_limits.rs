//! Azure's limits as a resource to share: more jobs at once than the simulator's ARM limits let through end about as soon
//! as the limits allow, almost no call is refused, and a job of another subscription does not wait behind them.
//!
//! `CMK_RATE_LIMIT_ACCOUNTS=1000` (`just rate-limits`) runs the same with that many accounts and Azure's published limits.

use std::sync::Arc;
use std::time::Duration;

use azure_sim::{Bucket, Filter, Lag, Options, Propagation, Throttling};
use cmk::azure::Azure;
use cmk::domain::codes::Code;
use cmk::domain::ids::JobId;
use cmk::domain::job::JobState;
use cmk::engine::{Worker, WorkerSettings};
use cmk::store::notify::NewsHub;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::world::{World, azure_settings};

/// What a run may take, as a multiple of what the limits allow.
const SLACK: f64 = 1.15;
/// The same for two workers: each leaves what the other one may have seen, and the last jobs may all be with one of them.
const SLACK_OF_TWO: f64 = 1.4;
/// The part of the calls that may be refused.
const REFUSED: f64 = 0.01;
/// A subscription that the simulator does not play: every call is answered 404 `SubscriptionNotFound`, out of buckets of
/// its own. The nearest thing to a second subscription with jobs in it.
const OTHER: &str = "99999999-9999-4999-8999-999999999999";
/// A job of the other subscription ends within this many seconds, and these for each job that came before it: each of
/// those is looked at once before.
const OTHER_WAITS: (f64, f64) = (8.0, 0.02);

/// Limits that bind with few accounts: 20 at once and 10 a second.
fn low() -> Throttling {
    let bucket = Bucket { burst: 20, per_second: 10.0 };
    Throttling { reads: bucket, writes: bucket, ..Throttling::default() }
}

fn account(world: &World, n: usize) -> Value {
    let mut body = world.seed();
    body["target"]["resourceId"] =
        world.id("rg-limits", "Microsoft.Storage/storageAccounts", &format!("stlimits{n:04}")).into();
    body["keyStore"]["resourceId"] =
        world.id("rg-limits", "Microsoft.KeyVault/vaults", &format!("kvlimits{n:04}")).into();
    body
}

fn elsewhere(world: &World, n: usize) -> Value {
    let text = account(world, n).to_string().replace(world.sim.subscription_id(), OTHER);
    serde_json::from_str(&text).expect("replacing an id keeps it JSON")
}

/// Worker processes that share nothing but the database: each has clients, and so buckets, of its own.
struct Workers {
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Workers {
    fn start(world: &World, number: usize) -> Self {
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        for n in 0..number {
            let azure = Arc::new(Azure::connect(azure_settings(&world.sim)).expect("the settings are complete"));
            let settings = WorkerSettings::named(format!("limits-{n}"));
            let worker = Worker::new(world.store.clone(), azure, NewsHub::new(), settings);
            let (stop, abort) = (stop.clone(), CancellationToken::new());
            running.spawn(async move { worker.run(stop, abort).await });
        }
        Self { stop, running }
    }

    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended.expect("the worker ends in order");
        }
    }
}

async fn all_end(world: &World, within: Duration) {
    let ended = async {
        let mut looks = tokio::time::interval(Duration::from_millis(200));
        loop {
            looks.tick().await;
            let unfinished = world.store.count_unfinished().await.expect("the database answers");
            if unfinished.iter().all(|(_, jobs)| *jobs == 0) {
                return;
            }
        }
    };
    tokio::time::timeout(within, ended).await.expect("all jobs end");
}

/// Calls by class that Azure Resource Manager answered in the world's subscription, and those that it refused with 429.
fn calls(world: &World, methods: &[&str]) -> (usize, usize) {
    let journal = world.sim.journal();
    let count = |status: Option<u16>| -> usize {
        let path = format!("/subscriptions/{}*", world.sim.subscription_id());
        let filter = |method: &&str| Filter { surface: Some("arm".into()), status, ..Filter::on(method, &path) };
        methods.iter().map(|method| journal.count(&filter(method))).sum()
    };
    let refused = count(Some(429));
    (count(None) - refused, refused)
}

/// When a job ended, in seconds after it was accepted.
async fn took(world: &World, id: JobId) -> f64 {
    let job = world.job(id).await;
    (job.finished_at.expect("it ended") - job.created_at).as_seconds_f64()
}

async fn check(accounts: usize, workers: usize, throttling: Throttling) {
    // Accounts look at their keys once an hour, as Azure's do; with every request, a thousand of them cost the simulator
    // more than everything else.
    let propagation = Propagation { key_look: Lag::seconds(3600.0), ..Propagation::instant() };
    let options = Options { propagation, journal_capacity: 500_000, throttling, ..Options::default() };
    let world = World::live_with(options).await;
    let mut ids = Vec::new();
    for n in 0..accounts {
        ids.push(world.submit(&account(&world, n)).await);
    }
    // Their one bucket is full at this moment: it fills from now on.
    world.sim.set_throttling(world.sim.throttling());
    let began = world.clock.now();
    let running = Workers::start(&world, workers);
    // The others come when the first ones are in each other's way.
    let busy = 2 * world.sim.throttling().reads.burst as usize;
    crate::support::process::eventually("the limit binds", async || calls(&world, &["GET"]).0 > busy).await;
    let mut others = Vec::new();
    for n in 0..3 {
        others.push(world.submit(&elsewhere(&world, n)).await);
    }
    all_end(&world, Duration::from_secs(60 + 4 * accounts as u64)).await;
    running.end().await;

    let refused_any = calls(&world, &["GET", "HEAD", "PUT", "PATCH", "POST"]).1 > 0;
    let mut last = began;
    for id in &ids {
        let job = world.job(*id).await;
        assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
        let retried = world.events(*id).await.iter().any(|event| event.kind == "step-retrying");
        assert!(refused_any || !retried, "a wait for a limit uses no attempt");
        last = last.max(job.finished_at.expect("it ended"));
    }
    let took_all = (last - began).as_seconds_f64();
    let limits = world.sim.throttling();
    let (reads, writes) = (calls(&world, &["GET", "HEAD"]), calls(&world, &["PUT", "PATCH", "POST"]));
    let least = |calls: usize, bucket: Bucket| (calls as f64 - f64::from(bucket.burst)) / bucket.per_second;
    let allowed = least(reads.0, limits.reads).max(least(writes.0, limits.writes));
    let refused = (reads.1 + writes.1) as f64 / (reads.0 + reads.1 + writes.0 + writes.1) as f64;
    let mut longest: f64 = 0.0;
    for id in others {
        let job = world.job(id).await;
        assert_eq!(job.failure.map(|f| f.code), Some(Code::AzureRejected), "there is no such subscription");
        longest = longest.max(took(&world, id).await);
    }
    println!(
        "rate-limits accounts={accounts} workers={workers} took={took_all:.1}s allowed={allowed:.1}s \
         ratio={:.3} reads={} writes={} refused={} ({:.3} %) other-subscription={longest:.2}s",
        took_all / allowed,
        reads.0,
        writes.0,
        reads.1 + writes.1,
        refused * 100.0
    );
    assert!(allowed > 10.0, "the limit binds");
    let slack = if workers == 1 { SLACK } else { SLACK_OF_TWO };
    assert!(took_all <= slack * allowed, "{took_all:.1} s where {allowed:.1} s were possible");
    assert!(refused < REFUSED, "{refused}");
    let most = OTHER_WAITS.0 + OTHER_WAITS.1 * accounts as f64;
    assert!(longest < most, "a job of another subscription waited {longest} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_use_up_what_the_limits_allow_and_no_more() {
    let long = std::env::var("CMK_RATE_LIMIT_ACCOUNTS").ok().and_then(|number| number.parse().ok());
    match long {
        Some(accounts) => check(accounts, 1, Throttling::default()).await,
        None => check(20, 1, low()).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_do_not_talk_share_a_limit() {
    if std::env::var_os("CMK_RATE_LIMIT_ACCOUNTS").is_none() {
        check(16, 2, low()).await;
    }
}
