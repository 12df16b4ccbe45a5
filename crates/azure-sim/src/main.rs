//! The simulator as a program: command line in, addresses out, runs until interrupted.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use azure_sim::{Lag, Options, Propagation, Rule, Simulator, Throttling};
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// A local Azure for everything a customer-managed key touches.
#[derive(Debug, Parser)]
#[command(name = "azure-sim", version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8443", env = "AZURE_SIM_LISTEN")]
    listen: SocketAddr,
    /// Folder for the CA and azure-sim.env.
    #[arg(long, default_value = ".azure-sim", env = "AZURE_SIM_STATE_DIR")]
    state_dir: PathBuf,
    /// File that keeps the whole state over restarts, keys and secrets included; without it, state is in memory only.
    #[arg(long, env = "AZURE_SIM_STATE_FILE")]
    state_file: Option<PathBuf>,
    /// DNS domain of all hosts.
    #[arg(long, default_value = "localhost", env = "AZURE_SIM_SUFFIX")]
    suffix: String,
    /// Port that clients use, where it is not the one listened on.
    #[arg(long, env = "AZURE_SIM_PUBLIC_PORT")]
    public_port: Option<u16>,
    /// Seconds until a role assignment is enforced; without it, 2 to 8.
    #[arg(long, env = "AZURE_SIM_GRANT_SECONDS")]
    grant_seconds: Option<f64>,
    /// Lags of changes: `azure` (documented, heavy-tailed), `short`, `instant`, or a JSON file as for the control API.
    #[arg(long, default_value = "short", env = "AZURE_SIM_PROPAGATION")]
    propagation: String,
    /// Everything becomes visible at once; the same as `--propagation instant`.
    #[arg(long, conflicts_with = "propagation")]
    instant: bool,
    /// JSON file with a list of fault rules, each as for the control API.
    #[arg(long, env = "AZURE_SIM_FAULTS")]
    faults: Option<PathBuf>,
    /// JSON file with what a new cloud starts with: principals, issuers, resources.
    #[arg(long, env = "AZURE_SIM_SEED_FILE")]
    seed_file: Option<PathBuf>,
    /// Address of the plain port with the identity endpoints of a virtual machine and a web app; `none` for none.
    #[arg(long, default_value = "127.0.0.1:0", env = "AZURE_SIM_IDENTITY_LISTEN", value_parser = address_or_none)]
    identity_listen: AddressOrNone,
    /// Do not throttle requests to Azure Resource Manager and to vaults.
    #[arg(long)]
    no_throttling: bool,
    /// Namespace that is not registered at start; can be given more than once.
    #[arg(long = "unregistered")]
    unregistered: Vec<String>,
    /// Further subscription of the tenant, with the same owner; can be given more than once.
    #[arg(long = "more-subscription")]
    more_subscriptions: Vec<uuid::Uuid>,
    /// Subscription of another tenant, which takes no token of this one; can be given more than once.
    #[arg(long = "foreign-subscription")]
    foreign_subscriptions: Vec<uuid::Uuid>,
    /// Seconds that a long-running operation takes.
    #[arg(long, default_value_t = 2, env = "AZURE_SIM_LRO_SECONDS")]
    lro_seconds: u64,
    /// Seconds that the creation, recovery and deletion of a managed HSM take.
    #[arg(long, default_value_t = 2, env = "AZURE_SIM_HSM_LRO_SECONDS")]
    hsm_lro_seconds: u64,
    /// Seed of simulated chance.
    #[arg(long, default_value_t = 1, env = "AZURE_SIM_SEED")]
    seed: u64,
    /// Public address that vault firewalls see for callers from loopback and private networks.
    #[arg(long, default_value = "203.0.113.10", env = "AZURE_SIM_CLIENT_ADDRESS")]
    client_address: IpAddr,
    /// Secret of the principal with Owner; without it a random one.
    #[arg(long, env = "AZURE_SIM_CLIENT_SECRET", hide_env_values = true)]
    client_secret: Option<String>,
}

/// An address, or the word `none`.
#[derive(Clone, Copy, Debug)]
struct AddressOrNone(Option<SocketAddr>);

fn address_or_none(text: &str) -> Result<AddressOrNone, std::net::AddrParseError> {
    Ok(AddressOrNone(if text == "none" { None } else { Some(text.parse()?) }))
}

impl Arguments {
    /// The lags asked for, by name or from a file.
    fn propagation(&self) -> Result<Propagation, String> {
        if self.instant {
            return Ok(Propagation::instant());
        }
        match Propagation::preset(&self.propagation) {
            Some(preset) => Ok(preset),
            None => read_json(Path::new(&self.propagation)),
        }
    }

    fn rules(&self) -> Result<Vec<Rule>, String> {
        self.faults.as_deref().map_or_else(|| Ok(Vec::new()), read_json)
    }

    fn options(self, mut propagation: Propagation) -> Options {
        if let Some(seconds) = self.grant_seconds {
            propagation.grant = Lag::seconds(seconds);
        }
        Options {
            listen: self.listen,
            suffix: self.suffix,
            public_port: self.public_port,
            state_dir: Some(self.state_dir),
            persist: self.state_file,
            seed_file: self.seed_file,
            identity_listen: self.identity_listen.0,
            client_secret: self.client_secret,
            propagation,
            seed: self.seed,
            lro_duration: Duration::from_secs(self.lro_seconds),
            hsm_lro: Duration::from_secs(self.hsm_lro_seconds),
            client_address: self.client_address,
            throttling: if self.no_throttling { Throttling::off() } else { Throttling::default() },
            unregistered: self.unregistered,
            more_subscriptions: self.more_subscriptions.iter().map(ToString::to_string).collect(),
            foreign_subscriptions: self.foreign_subscriptions.iter().map(ToString::to_string).collect(),
            ..Options::default()
        }
    }
}

/// A JSON file, or in words why it cannot be read.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let dir = arguments.state_dir.clone();
    let (propagation, rules) = match (arguments.propagation(), arguments.rules()) {
        (Ok(propagation), Ok(rules)) => (propagation, rules),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("azure-sim: {error}");
            return ExitCode::FAILURE;
        }
    };
    let sim = match Simulator::start(arguments.options(propagation)).await {
        Ok(sim) => sim,
        Err(error) => {
            eprintln!("azure-sim: {error}");
            return ExitCode::FAILURE;
        }
    };
    for rule in rules {
        if sim.faults().add(rule).is_none() {
            eprintln!("azure-sim: too many fault rules");
            return ExitCode::FAILURE;
        }
    }
    println!("ARM     {}", sim.arm_url());
    println!("login   {}", sim.login_url());
    println!("vaults  https://{{name}}.{}", sim.vault_suffix());
    println!("HSMs    https://{{name}}.{}", sim.hsm_suffix());
    if let Some(machine) = sim.identity_url() {
        println!("machine {machine}");
    }
    println!("CA      {}", dir.join("ca.pem").display());
    println!("shell   . {}", dir.join("azure-sim.env").display());
    wait_for_stop().await;
    sim.shutdown().await;
    ExitCode::SUCCESS
}

/// Ctrl-C, or the signal by which containers are stopped.
async fn wait_for_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = term.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
