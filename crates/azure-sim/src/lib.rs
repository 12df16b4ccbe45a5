//! `azure-sim`: a local Azure for everything that a customer-managed key touches. Login host, Azure Resource Manager and
//! Key Vault's key data plane behind one HTTPS port, with role-based access on both planes, changes that become visible
//! late, long-running operations, fault rules, a clock of its own and a journal of all requests.
//!
//! It shares no type with any client: what it plays is written from Azure's published protocol, and it speaks HTTP only.
//! This file is the in-process handle; what the simulator plays, refuses and does not play is in the crate's README.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use azure_sim::{Options, Simulator};
//! let sim = Simulator::start(Options::default()).await?;
//! println!("{} trusts {}", sim.arm_url(), sim.ca_pem());
//! sim.clock().advance(std::time::Duration::from_secs(60));
//! sim.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub mod clock;
pub mod exchange;
pub mod faults;
pub mod journal;
pub mod options;
pub mod propagation;
pub mod throttle;
pub mod tuning;

mod arm;
mod chance;
mod cmk;
mod control;
mod entra;
mod env_file;
mod glob;
mod hsm;
mod http;
mod keyvault;
mod mangle;
mod persist;
mod pipeline;
mod policy;
mod rbac;
mod seed;
mod server;
mod snapshot;
mod state;
mod storage;
mod surface;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use clock::Clock;
pub use exchange::{Exchange, Observer};
pub use faults::{Action, Faults, Rule};
pub use journal::{Entry, Filter, Journal};
pub use options::Options;
pub use propagation::{Lag, Propagation};
pub use throttle::key_vault::KeyVaultLimits;
pub use throttle::{Bucket, Throttling};
pub use tuning::Tuning;

use options::Addresses;
use state::{Shared, World};

/// A running simulator. Dropping the handle stops it without waiting; `shutdown` waits.
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    machine_address: Option<SocketAddr>,
    ca_pem: String,
    stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
    machine: Option<JoinHandle<()>>,
    writing: Option<JoinHandle<persist::Writer>>,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("address", &self.address).finish_non_exhaustive()
    }
}

fn random_secret() -> String {
    // Two UUIDs of the operating system's randomness, in a form that any shell takes.
    format!("sim~{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// The world to start with. Secrets that the options leave open are those of the kept world, else random ones.
fn world_of(options: &mut Options, kept: Option<persist::Kept>, now: OffsetDateTime) -> World {
    let world = kept.map(|kept| kept.world);
    let secret = |oid: &str| world.as_ref().and_then(|w| w.secret_of(oid)).unwrap_or_else(random_secret);
    if options.client_secret.is_none() {
        options.client_secret = Some(secret(&options.object_id));
    }
    if options.outsider_secret.is_none() {
        options.outsider_secret = Some(secret(&options.outsider_object_id));
    }
    match world {
        Some(world) => world.take_up(options, now),
        None => World::new(options, now),
    }
}

impl Simulator {
    /// Starts a simulator and returns when it accepts connections. Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound, the state folder not written, or a key not made.
    pub async fn start(mut options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let machine = match options.identity_listen {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        options.identity_header.get_or_insert_with(random_secret);
        let address = listener.local_addr()?;
        options.suffix = options.suffix.trim_matches('.').to_lowercase();
        if let Some(dir) = &options.state_dir {
            std::fs::create_dir_all(dir)?;
        }
        let (mut options, tls, kept, seed) = tokio::task::spawn_blocking(move || {
            let kept = options.persist.as_ref().map(|path| persist::load(path, &options)).transpose()?.flatten();
            // A cloud that goes on from a file has had its seed.
            let seed = options.seed_file.as_deref().filter(|_| kept.is_none());
            let seed = seed.map(|path| seed::read(path, &options.tenant_id, &options.subscription_id)).transpose()?;
            let tls = tls::prepare(&options.suffix, options.state_dir.as_deref())?;
            Ok::<_, io::Error>((options, tls, kept, seed))
        })
        .await
        .map_err(io::Error::other)??;
        let clock = Clock::real();
        let signer = match &kept {
            Some(kept) => {
                clock.restore(&kept.clock);
                kept.signer.clone()
            }
            None => tokio::task::spawn_blocking(entra::tokens::Signer::shared).await.map_err(io::Error::other)??,
        };
        if let Some(at) = options.start_at {
            clock.set(at);
        }
        let world = world_of(&mut options, kept, clock.now());
        if !options.fast_keys {
            // The seed pattern's key size; others are made when asked for.
            keyvault::pool::refill(4096);
        }
        let writer = options.persist.clone().map(persist::Writer::new).transpose()?;
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            journal: Journal::new(options.journal_capacity),
            faults: Faults::seeded(options.seed),
            addresses: Addresses {
                suffix: options.suffix.clone(),
                port: options.public_port.unwrap_or_else(|| address.port()),
            },
            clock,
            throttle: throttle::Throttle::new(options.throttling.clone()),
            tuning: Mutex::new(Tuning::of(&options)),
            options,
            signer,
            dirty: AtomicBool::new(true),
            rewrap: tokio::sync::Notify::new(),
            rotating: tokio::sync::Mutex::default(),
        });
        if let Some(seed) = seed {
            seed::plant(&shared, seed).await?;
        }
        let stop = CancellationToken::new();
        let machine_address = machine.as_ref().map(TcpListener::local_addr).transpose()?;
        let machine = machine.map(|on| tokio::spawn(server::run_plain(on, shared.clone(), stop.clone())));
        // A world from a file may have left data keys to be rewrapped.
        shared.rewrap.notify_one();
        tokio::spawn(cmk::keeper(shared.clone(), stop.clone()));
        let serving = tokio::spawn(server::run(listener, tls.config, shared.clone(), stop.clone()));
        let writing = writer.map(|writer| tokio::spawn(writer.run(shared.clone(), stop.clone())));
        let sim = Self {
            shared,
            address,
            machine_address,
            ca_pem: tls.ca_pem,
            stop,
            serving: Some(serving),
            machine,
            writing,
        };
        sim.write_env()?;
        Ok(sim)
    }

    fn write_env(&self) -> io::Result<()> {
        let Some(dir) = &self.shared.options.state_dir else {
            return Ok(());
        };
        let dir = dir.canonicalize()?;
        let (outsider_id, outsider_secret) = self.outsider();
        let mut values = vec![
            ("AZURE_TENANT_ID", self.tenant_id().to_owned()),
            ("AZURE_SUBSCRIPTION_ID", self.subscription_id().to_owned()),
            ("AZURE_CLIENT_ID", self.client_id().to_owned()),
            ("AZURE_CLIENT_SECRET", self.client_secret().to_owned()),
            ("AZURE_SIM_OBJECT_ID", self.object_id().to_owned()),
            ("AZURE_SIM_ARM", self.arm_url()),
            ("AZURE_SIM_LOGIN", self.login_url()),
            ("AZURE_SIM_CA", dir.join("ca.pem").display().to_string()),
            ("AZURE_SIM_OUTSIDER", format!("{outsider_id}:{outsider_secret}")),
        ];
        // Under names of their own: sourcing the file must not make clients take a machine's identity in place of the secret.
        if let Some(machine) = self.identity_url() {
            values.push(("AZURE_SIM_IMDS", machine.clone()));
            values.push(("AZURE_SIM_IDENTITY_ENDPOINT", format!("{machine}/msi/token")));
            values.push(("AZURE_SIM_IDENTITY_HEADER", self.identity_header().to_owned()));
        }
        let text = env_file::render(&values);
        env_file::write_private(&dir.join("azure-sim.env"), &text)
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Origin of the plain port with the identity endpoints, where there is one: the metadata service under `/metadata`, a web
    /// app's `IDENTITY_ENDPOINT` at `/msi/token`.
    pub fn identity_url(&self) -> Option<String> {
        self.machine_address.map(|address| format!("http://{address}"))
    }

    /// What a web app's clients send as `X-IDENTITY-HEADER`.
    pub fn identity_header(&self) -> &str {
        self.shared.options.identity_header.as_deref().unwrap_or_default()
    }

    /// Origin of Azure Resource Manager, without trailing slash.
    pub fn arm_url(&self) -> String {
        self.shared.addresses.url("management")
    }

    /// Origin of the login host, without trailing slash.
    pub fn login_url(&self) -> String {
        self.shared.addresses.url("login")
    }

    /// Origin of Microsoft Graph, without trailing slash.
    pub fn graph_url(&self) -> String {
        self.shared.addresses.url("graph")
    }

    /// What stands behind a vault's name in its host, with the port: `vault.localhost:8443`.
    pub fn vault_suffix(&self) -> String {
        self.shared.addresses.authority("vault")
    }

    /// What stands behind a managed HSM's name in its host, with the port.
    pub fn hsm_suffix(&self) -> String {
        self.shared.addresses.authority("managedhsm")
    }

    /// The CA's certificate in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The tenant.
    pub fn tenant_id(&self) -> &str {
        &self.shared.options.tenant_id
    }

    /// The subscription.
    pub fn subscription_id(&self) -> &str {
        &self.shared.options.subscription_id
    }

    /// Application id of the principal with Owner on the subscription and no data role.
    pub fn client_id(&self) -> &str {
        &self.shared.options.client_id
    }

    /// Its secret.
    pub fn client_secret(&self) -> &str {
        self.shared.options.client_secret.as_deref().unwrap_or_default()
    }

    /// Its object id.
    pub fn object_id(&self) -> &str {
        &self.shared.options.object_id
    }

    /// Application id and secret of the principal without any right.
    pub fn outsider(&self) -> (&str, &str) {
        (&self.shared.options.outsider_client_id, self.shared.options.outsider_secret.as_deref().unwrap_or_default())
    }

    /// The simulator's clock.
    pub fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    /// The request journal.
    pub fn journal(&self) -> Journal {
        self.shared.journal.clone()
    }

    /// The fault rules.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// The lags in force.
    pub fn propagation(&self) -> Propagation {
        self.shared.world(|w| w.propagation.clone())
    }

    /// Sets the lags of changes made from now on; what is on its way keeps its time.
    pub fn set_propagation(&self, propagation: Propagation) {
        self.shared.world(|w| w.propagation = propagation);
    }

    /// The throttling limits in force.
    pub fn throttling(&self) -> Throttling {
        self.shared.throttle.limits()
    }

    /// Sets the throttling limits; all buckets are full again.
    pub fn set_throttling(&self, limits: Throttling) {
        self.shared.throttle.set(limits);
    }

    /// Where callers without a public address of their own stand: in the subnet of this id, or on the Internet. From a
    /// subnet, vaults are reached over the approved private endpoints of its virtual network, or over its service endpoint.
    /// False when there is no such subnet.
    pub fn stand_in(&self, subnet: Option<&str>) -> bool {
        self.shared.stand_in(subnet)
    }

    /// Makes everything visible now that is on its way.
    pub fn settle(&self) {
        let now = self.shared.clock.now();
        self.shared.world(|w| w.settle(now));
        self.shared.dirty.store(true, Ordering::Relaxed);
    }

    /// A token for a principal of the directory, managed identities included; `None` for an unknown object id.
    pub fn token_for(&self, object_id: &str, audience: &str) -> Option<String> {
        let now = self.shared.clock.now();
        let principal = self.shared.world(|w| w.principals.get(&object_id.to_lowercase()).cloned())?;
        Some(self.shared.mint(&principal, audience, now, "2"))
    }

    /// Answers one request without a network, as if it came from loopback. The host is the one of the URI or of the `Host`
    /// header. `None`: the connection would be closed without an answer, as it is for a vault that does not exist.
    pub async fn answer(&self, request: axum::http::Request<axum::body::Body>) -> Option<axum::response::Response> {
        let peer = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        pipeline::answer(&self.shared, peer, request).await.ok()
    }

    /// The whole state, as ARM and Key Vault show it.
    pub fn snapshot(&self) -> Value {
        snapshot::full(&self.shared)
    }

    /// Activates a managed HSM without the ceremony of its security domain. `false`: there is no such HSM, or it is not
    /// provisioned yet.
    pub fn activate_hsm(&self, name: &str) -> bool {
        let now = self.shared.clock.now();
        self.shared.world(|w| w.activate_hsm(name, now))
    }

    /// Lets a vault trust another tenant, as one does that came along when its subscription was moved from there. `false`:
    /// there is no such vault.
    pub fn set_vault_tenant(&self, name: &str, tenant: &str) -> bool {
        let name = name.to_lowercase();
        self.shared.world(|w| w.vaults.get_mut(&name).map(|vault| vault.tenant = tenant.to_owned()).is_some())
    }

    /// The state without times, random ids and ports, equal for two runs that did the same.
    pub fn normalized(&self) -> Value {
        snapshot::normalized(&self.shared)
    }

    /// Forgets all resources, faults and journal entries; ids, secrets, lags and clock stay.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Stops accepting, waits shortly for open connections and writes the state file a last time.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            let _ = serving.await;
        }
        if let Some(machine) = self.machine.take() {
            let _ = machine.await;
        }
        if let Some(writing) = self.writing.take()
            && let Ok(mut writer) = writing.await
        {
            let shared = self.shared.clone();
            let written = tokio::task::spawn_blocking(move || writer.write(&shared)).await;
            if let Ok(Err(error)) | Err(error) = written.map_err(io::Error::other) {
                tracing::error!(%error, "could not write the state file");
            }
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
