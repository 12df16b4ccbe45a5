//! The composition root: the only module that sees everything, and where processes start and end.
//!
//! What belongs here: putting the parts together, signals, graceful shutdown. What does not: any behaviour of a part.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::{ApiSettings, ApiState, listen, router};
use crate::azure::{Azure, AzureSettings};
use crate::clock::Clock;
use crate::config::{ApiArgs, AzureArgs, DatabaseArgs, WorkerArgs, database_url, environment};
use crate::engine::{Worker, WorkerSettings};
use crate::store::Store;
use crate::store::notify::NewsHub;
use crate::survey::Surveyor;

/// How long open requests may go on after the order to stop.
const HTTP_GRACE: Duration = Duration::from_secs(15);

/// The two orders to stop: the first drains, the second ends at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Stop taking work, finish what runs.
    pub stop: CancellationToken,
    /// Do not wait for what runs.
    pub abort: CancellationToken,
}

impl Shutdown {
    /// Listens for SIGTERM and SIGINT: the first asks to stop, the second to stop at once.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let heard = shutdown.clone();
        tokio::spawn(async move {
            for token in [&heard.stop, &heard.abort] {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}

/// `cmk serve`: the API.
pub async fn serve(database: &DatabaseArgs, api: &ApiArgs, azure: &AzureArgs) -> anyhow::Result<()> {
    api.check()?;
    let surveyor = match api.look_at_azure {
        true => Some(Surveyor::connect(azure.settings(&environment)?)?),
        false => None,
    };
    let store = open(database)?;
    let shutdown = Shutdown::on_signals()?;
    let listener = TcpListener::bind(api.listen).await.with_context(|| format!("listening on {}", api.listen))?;
    let news = NewsHub::new();
    let feeding = feed(&news, &store);
    let state =
        ApiState { store: store.clone(), news, surveyor, shutdown: shutdown.stop.clone(), settings: api.settings() };
    let served = serve_api(listener, state, &shutdown).await;
    shutdown.stop.cancel();
    feeding.end().await;
    store.close().await;
    served
}

/// `cmk work`: a worker.
pub async fn work(database: &DatabaseArgs, worker: &WorkerArgs, azure: &AzureArgs) -> anyhow::Result<()> {
    let settings = azure.settings(&environment)?;
    let store = open(database)?;
    let shutdown = Shutdown::on_signals()?;
    let news = NewsHub::new();
    let feeding = feed(&news, &store);
    let ran = run_worker(store.clone(), settings, worker.settings(), news, &shutdown).await;
    feeding.end().await;
    store.close().await;
    ran
}

/// `cmk migrate`: brings the database's schema up to date.
pub async fn migrate(database: &DatabaseArgs) -> anyhow::Result<()> {
    let store = open(database)?;
    store.migrate().await?;
    store.close().await;
    Ok(())
}

/// What the API needs, with its default bounds.
pub fn api_state(store: Store, news: NewsHub, surveyor: Option<Surveyor>, shutdown: &Shutdown) -> ApiState {
    ApiState { store, news, surveyor, shutdown: shutdown.stop.clone(), settings: ApiSettings::default() }
}

/// Serves the API until the order to stop, then for at most the grace time.
pub async fn serve_api(listener: TcpListener, state: ApiState, shutdown: &Shutdown) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    info!(listen = %address, "the API listens");
    let head_timeout = state.settings.head_timeout;
    let serving = listen(listener, router(state), head_timeout, shutdown.stop.clone());
    let abort = shutdown.abort.clone();
    let overdue = async {
        shutdown.stop.cancelled().await;
        #[expect(clippy::disallowed_methods, reason = "the end of the grace time for open requests")]
        let grace = tokio::time::sleep(HTTP_GRACE);
        tokio::select! {
            () = grace => {}
            () = abort.cancelled() => {}
        }
    };
    tokio::select! {
        () = serving => {}
        () = overdue => warn!("some requests did not end in time"),
    }
    Ok(())
}

/// Runs a worker until the order to stop, and its drain.
pub async fn run_worker(
    store: Store,
    azure: AzureSettings,
    settings: WorkerSettings,
    news: NewsHub,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    info!(cloud = azure.cloud.name, "connecting to Azure");
    let azure = Arc::new(Azure::connect(azure)?);
    Worker::new(store, azure, news, settings).run(shutdown.stop.clone(), shutdown.abort.clone()).await;
    Ok(())
}

/// Feeds a hub until the returned order to stop. Stop it last, so that the last turns and requests are told of.
pub fn feed(news: &NewsHub, store: &Store) -> Feeding {
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (news, store, stop) = (news.clone(), store.clone(), stop.clone());
        async move { news.run(store, stop).await }
    });
    Feeding { stop, task }
}

/// A hub that is being fed.
#[derive(Debug)]
pub struct Feeding {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Feeding {
    /// Tells what is still untold, and ends.
    pub async fn end(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

/// Opens the store that the environment names.
fn open(database: &DatabaseArgs) -> anyhow::Result<Store> {
    open_url(&database_url(&environment)?, database.database_connections)
}

/// Opens a store.
pub fn open_url(url: &SecretString, connections: u32) -> anyhow::Result<Store> {
    // The cause may hold the address with its password, so it is not passed on.
    Store::open(url.expose_secret(), connections, Clock::System)
        .map_err(|_| anyhow::anyhow!("DATABASE_URL is not a PostgreSQL address"))
}
