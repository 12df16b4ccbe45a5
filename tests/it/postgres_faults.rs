//! PostgreSQL goes away and comes back, under a real API and a real worker: nothing accepted is lost, requests are answered
//! 503 meanwhile, and work goes on within five seconds.
//!
//! A full disk is played by the proxy, with the server's SQLSTATE: a file system of a few megabytes cannot be had without
//! privileges. Everything else happens to a real server or to real connections.

use std::time::{Duration, Instant};

use cmk::clock::Clock;
use cmk::domain::ids::JobId;
use cmk::store::Store;
use cmk::store::notify::{News, NewsHub};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::support::cluster::{Primary, Standby};
use crate::support::database::TestDatabase;
use crate::support::process::{Program, eventually};
use crate::support::proxy::{Mode, Proxy};
use crate::support::service::{Posted, Service};
use crate::support::world::migrate;

/// How soon work goes on.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);

/// One API and one worker, each behind a proxy of its own.
struct Rig {
    service: Service,
    base: String,
    proxies: [Proxy; 2],
    _programs: [Program; 2],
}

impl Rig {
    async fn over(url: &str) -> Self {
        Self::with_connections(url, 16).await
    }

    /// With an API that may have this many connections.
    async fn with_connections(url: &str, connections: u32) -> Self {
        let service = Service::new(Duration::from_millis(20)).await;
        let proxies = [Proxy::start(url).await, Proxy::start(url).await];
        let (api, base) = service.serve_with(&proxies[0].url(url), connections).await;
        let worker = service.work(&proxies[1].url(url));
        let rig = Self { service, base, proxies, _programs: [api, worker] };
        eventually("the service is ready", async || rig.service.ready(&rig.base).await.0).await;
        rig
    }

    /// Accepts some jobs, of which some are being worked on.
    async fn load(&self, jobs: usize) {
        let mut last = String::new();
        for _ in 0..jobs {
            last = self.service.accepted(&self.base).await;
        }
        eventually("a worker begins", async || self.service.state(&self.base, &last).await != "queued").await;
    }

    fn each(&self, change: impl Fn(&Proxy)) {
        self.proxies.iter().for_each(change);
    }

    /// While it lasts: every request is answered 503 in time, and `/readyz` says why. Sends at least some.
    async fn is_unavailable_until(&self, why: &str, over: impl AsyncFn(u32) -> bool) -> u32 {
        let mut refused = 0;
        while refused < 3 || !over(refused).await {
            let posted = self.service.post(&self.base, self.service.number()).await;
            assert!(matches!(posted, Posted::Unavailable), "{posted:?}");
            refused += 1;
            let (ready, words) = self.service.ready(&self.base).await;
            assert!(!ready && words.contains(why), "{words}");
        }
        refused
    }

    async fn goes_on(&self, what: &str, over_at: Instant, refused: u32) {
        let resumed = self.service.resumed(&self.base, over_at).await;
        let ended = self.service.all_end_once(&self.base).await;
        let slowest = self.service.slowest();
        println!(
            "{what}: {refused} requests refused, slowest answer {slowest:?}, work again after {resumed:?}; {ended} jobs, each ended once"
        );
        assert!(resumed <= RESUMED_WITHIN, "{what}: {resumed:?}");
        eventually("the service is ready again", async || self.service.ready(&self.base).await.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_loses_nothing() {
    let primary = Primary::start().await;
    let rig = Rig::over(&primary.url).await;
    rig.load(6).await;
    let stopped = primary.stop().await;
    let refused = rig.is_unavailable_until("database", async |n| n >= 3).await;
    let primary = stopped.start().await;
    rig.each(|proxy| proxy.switch_to(&primary.url));
    rig.goes_on("restart", Instant::now(), refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_is_followed_by_its_standby_and_nothing_is_lost() {
    let primary = Primary::start().await;
    let standby = Standby::of(&primary).await;
    let rig = Rig::over(&primary.url).await;
    rig.load(6).await;
    primary.kill().await;
    let refused = rig.is_unavailable_until("database", async |n| n >= 3).await;
    // A standby that is not promoted yet takes no writes, and that is no success either.
    rig.each(|proxy| proxy.switch_to(&standby.url));
    let read_only = rig.is_unavailable_until("", async |n| n >= 3).await;
    standby.promote().await;
    rig.goes_on("failover", Instant::now(), refused + read_only).await;
}

/// A real minute, in both ways: what was lost comes late, or never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_without_network_loses_nothing() {
    let partition = async |mode: Mode| {
        let database = TestDatabase::new(migrate).await;
        let rig = Rig::over(&database.url).await;
        rig.load(4).await;
        let began = Instant::now();
        rig.each(|proxy| proxy.set(mode));
        let refused = rig.is_unavailable_until("database", async |_| began.elapsed() >= Duration::from_secs(60)).await;
        rig.each(|proxy| proxy.set(Mode::Open));
        rig.goes_on(&format!("a minute of {mode:?}"), Instant::now(), refused).await;
    };
    tokio::join!(partition(Mode::Stalled), partition(Mode::Silent));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_free_connection_loses_nothing() {
    let primary = Primary::start().await;
    let rig = Rig::over(&primary.url).await;
    rig.load(4).await;
    rig.each(|proxy| proxy.set(Mode::Refusing));
    rig.each(Proxy::cut);
    let mut taken = Vec::new();
    // The connections that were cut go one by one.
    eventually("no connection is free", async || match PgConnection::connect(&primary.url).await {
        Ok(connection) => {
            taken.push(connection);
            false
        }
        Err(error) => error.as_database_error().and_then(|e| e.code()).as_deref() == Some("53300"),
    })
    .await;
    rig.each(|proxy| proxy.set(Mode::Open));
    let refused = rig.is_unavailable_until("database", async |n| n >= 3).await;
    println!("{} connections taken", taken.len());
    for connection in taken {
        connection.close_hard().await.ok();
    }
    rig.goes_on("no free connection", Instant::now(), refused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing() {
    let database = TestDatabase::new(migrate).await;
    let rig = Rig::over(&database.url).await;
    rig.load(4).await;
    rig.each(|proxy| proxy.refuse_writes(Some("53100")));
    let worker_was_refused = async |_| rig.proxies[1].refused() > 0;
    let refused = rig.is_unavailable_until("disk is full", worker_was_refused).await;
    rig.each(|proxy| proxy.refuse_writes(None));
    rig.goes_on("full disk", Instant::now(), refused).await;
}

/// Connections that are slow rather than gone: the process's own pool is empty, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_without_a_free_connection_loses_nothing() {
    let database = TestDatabase::new(migrate).await;
    let rig = Rig::with_connections(&database.url, 3).await;
    rig.load(2).await;
    rig.proxies[0].delay(Duration::from_secs(1));
    // Requests that come together are stored together, so it takes readers, who do not stop, to use up the connections.
    let over = std::cell::Cell::new(false);
    let readers = futures::future::join_all((0..24).map(|_| async {
        while !over.get() {
            rig.service.get(&rig.base, "/v1/jobs?limit=1").await;
        }
    }));
    let refused = async {
        eventually("a request is refused", async || {
            let posted = rig.service.post(&rig.base, rig.service.number()).await;
            assert!(!matches!(posted, Posted::Nobody), "{posted:?}");
            matches!(posted, Posted::Unavailable)
        })
        .await;
        eventually("readiness says why", async || {
            let (ready, words) = rig.service.ready(&rig.base).await;
            !ready && words.contains("no free connection")
        })
        .await;
        over.set(true);
    };
    tokio::join!(readers, refused);
    rig.proxies[0].delay(Duration::ZERO);
    rig.goes_on("empty pool", Instant::now(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_worker_is_gone_is_not_ready_after_30_seconds() {
    let database = TestDatabase::new(migrate).await;
    let service = Service::new(Duration::ZERO).await;
    let (_api, base) = service.serve(&database.url).await;
    let worker = service.work(&database.url);
    eventually("the service is ready", async || service.ready(&base).await.0).await;
    let killed = Instant::now();
    worker.kill().await;
    eventually("the service is not ready", async || !service.ready(&base).await.0).await;
    let (after, words) = (killed.elapsed(), service.ready(&base).await.1);
    println!("not ready {after:?} after the only worker's death: {words}");
    assert!(words.starts_with("worker: "), "{words}");
    // The last sign of life is up to five seconds older than the death.
    assert!((24..=33).contains(&after.as_secs()), "{after:?}");
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_noticed_and_news_are_heard_again() {
    let database = TestDatabase::new(migrate).await;
    let open = |url: &str| Store::open(url, 4, Clock::System).expect("an address");
    let (id, direct) = (JobId::generate(), open(&database.url));
    let proxy = Proxy::start(&database.url).await;
    let behind = open(&proxy.url(&database.url));
    let (hub, teller, stop) = (NewsHub::new(), NewsHub::new(), CancellationToken::new());
    let mut news = hub.subscribe();
    let feed = |hub: &NewsHub, store: &Store| {
        let (hub, store, stop) = (hub.clone(), store.clone(), stop.clone());
        tokio::spawn(async move { hub.run(store, stop).await })
    };
    let (hearing, telling) = (feed(&hub, &behind), feed(&teller, &direct));
    let mut is_heard = async || {
        teller.announce(id, true);
        let heard = tokio::time::timeout(Duration::from_millis(200), news.recv()).await;
        matches!(heard, Ok(Ok(News::Job { id: job, due: true })) if job == id)
    };
    eventually("news of the job", &mut is_heard).await;
    // What is told now is lost, and its connection stays silent after the network is back.
    proxy.set(Mode::Silent);
    assert!(!is_heard().await);
    proxy.set(Mode::Open);
    eventually("news of the job on another connection", &mut is_heard).await;
    stop.cancel();
    hearing.await.expect("it ends without a panic");
    telling.await.expect("it ends without a panic");
}
