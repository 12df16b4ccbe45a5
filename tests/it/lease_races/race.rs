//! The workers of the races, what stands in for their steps, and what disturbs them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cmk::azure::Azure;
use cmk::clock::Clock;
use cmk::domain::codes::Code;
use cmk::domain::failure::Failure;
use cmk::domain::ids::JobId;
use cmk::domain::job::JobKind;
use cmk::engine::{StandIn, StandInStep, Worker, WorkerSettings};
use cmk::plan::plan;
use cmk::services::rules;
use cmk::steps::{StepOutcome, Stop, WaitReason};
use cmk::store::notify::NewsHub;
use cmk::store::{Accepted, HeldLease, NewJob, Store};
use futures::StreamExt;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::late::every_write;
use crate::support::world::{World, parse};

/// Shorter than many steps take.
const LEASE: Duration = Duration::from_millis(300);

/// No change begins this long before the lease ends.
const MARGIN: Duration = Duration::from_millis(60);

/// Signs of life per worker, in leases: too few, so that only the gate renews in time.
const HEARTBEATS: [f64; 3] = [1.2, 2.0, 3.0];

/// Connections of each worker; whoever holds all of them has cut the worker off.
const CONNECTIONS: u32 = 5;

/// What was counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Writes under an old claim that were refused.
    pub refused: AtomicUsize,
    /// Writes under an old claim that were taken.
    pub taken: AtomicUsize,
    /// Renewals under an old claim that were refused.
    pub renewals_refused: AtomicUsize,
    /// Changes that the gate stopped because the lease had ended.
    pub stopped_by_lease: AtomicUsize,
    /// Changes that the gate stopped for another reason.
    pub stopped_otherwise: AtomicUsize,
    /// Steps that the worker gave up in their middle: their lease had ended.
    pub given_up: AtomicUsize,
    /// Changes that began when the lease had ended by the worker's own clock less half of the margin.
    pub past_own_clock: AtomicUsize,
}

/// Counts a step that is dropped before its end.
struct Middle<'a>(Option<&'a Tally>);

impl Drop for Middle<'_> {
    fn drop(&mut self) {
        if let Some(tally) = self.0 {
            tally.given_up.fetch_add(1, SeqCst);
        }
    }
}

/// The races over one database.
#[derive(Clone)]
pub struct Race {
    url: String,
    azure: Arc<Azure>,
    seed: u64,
    /// What was counted.
    pub tally: Arc<Tally>,
    begun: Arc<Mutex<Vec<(HeldLease, OffsetDateTime)>>>,
    late: TaskTracker,
}

impl Race {
    /// Races over the world's database.
    pub fn new(world: &World, seed: u64) -> Self {
        let (url, azure) = (world.database.url.clone(), Arc::clone(&world.azure));
        Self { url, azure, seed, tally: Arc::default(), begun: Arc::default(), late: TaskTracker::new() }
    }

    /// Every change that was begun: under which lease, and when.
    pub fn begun(&self) -> Vec<(HeldLease, OffsetDateTime)> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A store with connections of its own that bear the name of their user.
    pub fn store(&self, name: &str) -> Store {
        let options: PgConnectOptions = self.url.parse().expect("the launcher's address is well formed");
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(Duration::from_secs(30));
        Store::new(pool.connect_lazy_with(options.application_name(name)), Clock::System)
    }

    /// Accepts jobs of two steps, one after the other.
    pub async fn accept(&self, jobs: usize) {
        let store = self.store("caller");
        let accepted = futures::stream::iter(0..jobs).map(|n| accept(&store, n)).buffer_unordered(8);
        accepted.collect::<Vec<()>>().await;
        store.close().await;
    }

    /// Lets three workers race until every job has ended.
    pub async fn run(&self, deadline: Duration) {
        let (stop, until) = (CancellationToken::new(), Instant::now() + deadline);
        let workers: Vec<_> = (0..HEARTBEATS.len())
            .map(|number| {
                let (race, stop) = (self.clone(), stop.clone());
                std::thread::spawn(move || race.work(number, &stop))
            })
            .collect();
        let store = self.store("caller");
        let mut chance = self.chance(&"caller");
        loop {
            let left: Vec<Uuid> = sqlx::query_scalar("select job_id from job_runs order by job_id")
                .fetch_all(store.pool())
                .await
                .expect("the database answers");
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "{} jobs have not ended", left.len());
            // As autovacuum does where it may run more often than once a minute.
            sqlx::query("vacuum job_runs").execute(store.pool()).await.expect("the database answers");
            for _ in 0..10 {
                let job = JobId(left[chance.random_range(0..left.len())]);
                store.request_cancel(job, "test").await.expect("the database answers");
            }
            pause(Duration::from_secs(1)).await;
        }
        stop.cancel();
        for worker in workers {
            tokio::task::spawn_blocking(|| worker.join()).await.expect("it runs").expect("no worker panics");
        }
        store.close().await;
    }

    /// One worker, on a thread of its own: what freezes it freezes nobody else.
    fn work(&self, number: usize, stop: &CancellationToken) {
        let name = format!("racer-{number}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime of one thread can be made").block_on(async {
            let store = self.store(&name);
            let settings = WorkerSettings {
                // Each claim looks at all that run: few at a time are quicker.
                concurrency: 56,
                lease: LEASE,
                heartbeat: LEASE.mul_f64(HEARTBEATS[number]),
                margin: MARGIN,
                poll: Duration::from_millis(50),
                ..WorkerSettings::named(name.as_str())
            };
            let worker = Worker::new(store.clone(), Arc::clone(&self.azure), NewsHub::new(), settings)
                .with_stand_in(self.stand_in(&store));
            let disturbing = tokio::spawn(self.clone().disturb(store.clone(), number, stop.clone()));
            worker.run(stop.clone(), CancellationToken::new()).await;
            disturbing.await.expect("it does not panic");
            self.late.close();
            self.late.wait().await;
            store.close().await;
        });
    }

    /// Cuts the worker from the database or freezes it whole, again and again.
    async fn disturb(self, store: Store, number: usize, stop: CancellationToken) {
        let mut chance = self.chance(&("disturb", number));
        while !stop.is_cancelled() {
            pause(Duration::from_millis(chance.random_range(1000..4000))).await;
            let length = LEASE.mul_f64(chance.random_range(0.2..1.3));
            if chance.random_bool(0.5) {
                freeze(length);
            } else {
                let held = (0..CONNECTIONS).map(|_| store.pool().acquire());
                let held = futures::future::join_all(held).await;
                pause(length).await;
                drop(held);
            }
        }
    }

    fn stand_in(&self, store: &Store) -> StandIn {
        let (race, store) = (self.clone(), store.clone());
        boxed(move |step| {
            let (race, store) = (race.clone(), store.clone());
            Box::pin(async move {
                let mut middle = Middle(Some(&race.tally));
                let outcome = race.step(&store, step).await;
                middle.0 = None;
                outcome
            })
        })
    }

    /// A step: it takes its time, changes something once or twice, and ends somehow. The more often its job was claimed
    /// the shorter it is, so that every job ends.
    async fn step(&self, store: &Store, step: StandInStep<'_>) -> StepOutcome {
        let lease = step.held.lease;
        let mut chance = self.chance(&(lease.claim_no, step.name, step.looks, lease.job.0));
        if lease.claim_no > 1 && chance.random_bool(0.4) {
            let (race, store) = (self.clone(), store.clone());
            let old = HeldLease { claim_no: lease.claim_no - 1, ..lease };
            let (which, wait) = (chance.random::<u32>(), LEASE.mul_f64(chance.random_range(0.0..0.3)));
            self.late.spawn(async move { race.write_late(&store, old, which, wait).await });
        }
        let slow = if lease.claim_no == 1 { 0.3..1.7 } else { 0.0..1.6 };
        let claims = f64::from(u32::try_from(lease.claim_no).unwrap_or(u32::MAX));
        pause(LEASE.mul_f64(chance.random_range(slow) / claims)).await;
        for _ in 0..chance.random_range(1..=2) {
            if let Err(stop) = step.gate.may_act().await {
                let count =
                    if stop == Stop::LeaseLost { &self.tally.stopped_by_lease } else { &self.tally.stopped_otherwise };
                count.fetch_add(1, SeqCst);
                return StepOutcome::Stopped(stop);
            }
            self.begin(step);
            pause(LEASE.mul_f64(chance.random_range(0.0..0.6) / claims)).await;
            step.gate.acted().await;
        }
        match chance.random_range(0..100) {
            0 => StepOutcome::Failed(Failure::new(Code::StepDefect, "drawn")),
            1..6 => {
                let after = Duration::from_millis(chance.random_range(0..150));
                StepOutcome::Wait { after, reason: WaitReason::new("read-lag", "drawn"), progress: None }
            }
            n => StepOutcome::Done { changed: n % 2 == 0 },
        }
    }

    /// A pretended change to Azure begins.
    fn begin(&self, step: StandInStep<'_>) {
        if Instant::now() + MARGIN / 2 >= step.held.ends() {
            self.tally.past_own_clock.fetch_add(1, SeqCst);
        }
        let begun = (step.held.lease, Clock::System.now());
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(begun);
    }

    /// What the holder before would still write if nobody had told it, while the new one writes.
    async fn write_late(&self, store: &Store, old: HeldLease, which: u32, wait: Duration) {
        pause(wait).await;
        let Ok(Some(job)) = store.get_job(old.job).await else { return };
        let mut writes = every_write(&job, old);
        let write = writes.swap_remove(usize::try_from(which).unwrap_or_default() % writes.len());
        if let Ok(recorded) = store.record(&write).await {
            let count = if recorded.is_ok() { &self.tally.taken } else { &self.tally.refused };
            count.fetch_add(1, SeqCst);
        }
        if which.is_multiple_of(4)
            && let Ok(renewed) = store.renew_leases(&[old], LEASE).await
        {
            let count = if renewed.is_empty() { &self.tally.renewals_refused } else { &self.tally.taken };
            count.fetch_add(1, SeqCst);
        }
    }

    /// Chance of one's own for whoever asks, out of the one seed.
    fn chance(&self, whose: &impl Hash) -> StdRng {
        let mut hasher = DefaultHasher::new();
        (self.seed, whose).hash(&mut hasher);
        StdRng::seed_from_u64(hasher.finish())
    }
}

/// Lets a closure be taken for any lifetime of a step.
pub fn boxed(run: impl for<'s> Fn(StandInStep<'s>) -> BoxFuture<'s, StepOutcome> + Send + Sync + 'static) -> StandIn {
    Arc::new(run)
}

async fn accept(store: &Store, number: usize) {
    let group = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";
    let request = parse(&json!({
        "target": { "resourceId": format!("{group}/Microsoft.Storage/storageAccounts/st{number}") },
        "keyStore": { "resourceId": format!("{group}/Microsoft.KeyVault/vaults/kv1") },
    }));
    let descriptor = rules::check(&request).0.expect("a known service");
    let mut plan = plan(&request, descriptor);
    plan.steps.truncate(2);
    let job = NewJob {
        // Numbered, so that what is drawn for a job depends on the seed alone.
        id: JobId(Uuid::from_u64_pair(0x0190_0000_0000_7000, 0x8000_0000_0000_0000 + number as u64)),
        kind: JobKind::Provision,
        service: &descriptor.slug,
        requested_by: "test",
        request: &request,
        plan: &plan,
        traceparent: None,
    };
    let accepted = store.insert_job(&job, None).await.expect("the database answers");
    assert!(matches!(accepted, Accepted::New(_)), "{accepted:?}");
}

#[expect(clippy::disallowed_methods, reason = "a step that takes its time; nothing is waited for")]
async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

/// The whole worker stands still, as a process does that gets no processor.
fn freeze(length: Duration) {
    std::thread::park_timeout(length);
}
