//! `cmk dev`: everything on one machine, with a first job to watch.
//!
//! What belongs here: bringing up and ending PostgreSQL, the simulator, the API and a worker, and talking to the person
//! in front of the terminal. What does not: anything that the service needs in production; it never imports from here.

mod demo;
pub mod postgres;
mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use azure_sim::Simulator;
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::app::{self, Shutdown};
use crate::azure::cloud::CustomCloud;
use crate::azure::{AzureSettings, Cloud, CredentialSettings, Timeouts};
use crate::engine::WorkerSettings;
use crate::store::notify::NewsHub;
use crate::store::{JobFilter, MAX_PAGE, Store};
use crate::survey::Surveyor;
use postgres::{Lifetime, Postgres};

/// Flags of `cmk dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where the simulator listens.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub sim_listen: SocketAddr,
    /// Where everything is kept.
    #[arg(long, default_value = ".cmk")]
    pub state_dir: PathBuf,
    /// Submit no first job.
    #[arg(long)]
    pub no_demo: bool,
    /// Forget the database of earlier runs first.
    #[arg(long)]
    pub fresh: bool,
}

/// Runs everything until Ctrl-C.
pub async fn run(args: DevArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.listen.ip().is_loopback() && args.sim_listen.ip().is_loopback(),
        "cmk dev has no authentication and listens on loopback only; use cmk serve for anything else"
    );
    let shutdown = Shutdown::on_signals()?;
    prepare_state_dir(&args.state_dir)?;
    if args.fresh {
        postgres::wipe(&args.state_dir).await?;
    }
    // Addresses first: a port that is taken is told before anything is started.
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("{} is taken; --listen chooses another address for the API", args.listen))?;
    let simulator = start_simulator(&args).await?;
    show::started("simulator", &format!("{}  (Azure's stand-in)", simulator.arm_url()));
    let mut options = postgres::Options::from_env(&args.state_dir, Lifetime::Lasting)?;
    options.progress = Arc::new(|line: &str| show::note(line));
    let postgres = tokio::select! {
        started = postgres::ensure(options) => started?,
        () = shutdown.stop.cancelled() => return Ok(()),
    };
    show::started("database", &postgres.describe());
    let ran = serve_until_stopped(&args, listener, &simulator, &postgres, &shutdown).await;
    shutdown.stop.cancel();
    simulator.shutdown().await;
    postgres.stop().await?;
    ran
}

async fn serve_until_stopped(
    args: &DevArgs,
    listener: TcpListener,
    simulator: &Simulator,
    postgres: &Postgres,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let url = SecretString::from(postgres.database("cmk").await?);
    let store = app::open_url(&url, 16)?;
    store.migrate().await?;
    cancel_leftovers(&store).await?;
    let address = listener.local_addr()?;
    let news = NewsHub::new();
    let feeding = app::feed(&news, &store);
    let worker = tokio::spawn({
        let (store, azure, shutdown) = (store.clone(), azure_settings(simulator)?, shutdown.clone());
        let news = news.clone();
        let settings = WorkerSettings { grace: Duration::from_secs(5), ..WorkerSettings::named("dev") };
        async move { app::run_worker(store, azure, settings, news, &shutdown).await }
    });
    let api = tokio::spawn({
        let shutdown = shutdown.clone();
        let surveyor = Surveyor::connect(azure_settings(simulator)?)?;
        let state = app::api_state(store.clone(), news, Some(surveyor), &shutdown);
        async move { app::serve_api(listener, state, &shutdown).await }
    });
    show::started("API", &format!("http://{address}  docs: http://{address}/docs"));
    let demo = async {
        if !args.no_demo {
            demo::run(address, simulator.subscription_id()).await?;
        }
        show::ready(address, &args.state_dir, simulator.subscription_id());
        anyhow::Ok(())
    };
    let shown = tokio::select! {
        shown = demo => shown,
        () = shutdown.stop.cancelled() => Ok(()),
    };
    if let Err(error) = &shown {
        show::note(&format!("the first job could not be shown: {error:#}"));
    }
    shutdown.stop.cancelled().await;
    show::note("stopping");
    let (api, worker) = (api.await, worker.await);
    feeding.end().await;
    store.close().await;
    api.context("the API ended in a panic")??;
    worker.context("the worker ended in a panic")?
}

/// The state folder ignores itself, so that nobody commits it by mistake.
fn prepare_state_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("making the state folder {}", dir.display()))?;
    let ignore = dir.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(&ignore, "*\n").with_context(|| format!("writing {}", ignore.display()))?;
    }
    Ok(())
}

async fn start_simulator(args: &DevArgs) -> anyhow::Result<Simulator> {
    let options = azure_sim::Options {
        listen: args.sim_listen,
        state_dir: Some(args.state_dir.join("azure-sim")),
        ..azure_sim::Options::default()
    };
    Simulator::start(options).await.with_context(|| {
        format!("starting the simulator on {} (--sim-listen chooses another address)", args.sim_listen)
    })
}

/// The simulator as a custom cloud, reached by the same code as Azure.
fn azure_settings(simulator: &Simulator) -> anyhow::Result<AzureSettings> {
    let cloud = Cloud::custom(CustomCloud {
        name: "simulator".into(),
        arm: simulator.arm_url(),
        authority_host: simulator.login_url(),
        arm_scope: None,
        vault_suffix: simulator.vault_suffix(),
        hsm_suffix: simulator.hsm_suffix(),
        graph: Some(simulator.graph_url()),
        extra_ca_pem: Some(simulator.ca_pem().as_bytes().to_vec()),
    })?;
    let credential = CredentialSettings::ClientSecret {
        tenant_id: simulator.tenant_id().to_owned(),
        client_id: simulator.client_id().to_owned(),
        secret: simulator.client_secret().into(),
    };
    Ok(AzureSettings { cloud, credential, timeouts: Timeouts::default() })
}

/// Jobs of an earlier run know resources of a simulator that is gone: the simulator keeps nothing over restarts.
async fn cancel_leftovers(store: &Store) -> anyhow::Result<()> {
    let mut cancelled = 0;
    for state in [
        crate::domain::job::JobState::Queued,
        crate::domain::job::JobState::Waiting,
        crate::domain::job::JobState::Running,
    ] {
        let filter = JobFilter { state: Some(state), ..JobFilter::default() };
        for job in store.list_jobs(&filter, MAX_PAGE).await? {
            store.request_cancel(job.id, "cmk dev").await?;
            cancelled += 1;
        }
    }
    if cancelled > 0 {
        show::note(&format!("cancelled {cancelled} unfinished job(s) of an earlier run: the simulator starts empty"));
    }
    Ok(())
}
