//! How a simulator is started: addresses, identities, lags, sizes. Values only; no behaviour.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use time::OffsetDateTime;

use crate::exchange::Observer;
use crate::keyvault::holder::{At, Zone};
use crate::propagation::Propagation;
use crate::storage::{Endpoint, SERVICES};
use crate::throttle::Throttling;

/// Everything that can be chosen at start. `Options::default()` gives a simulator on a free loopback port with fixed ids.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The DNS domain under which all hosts live: `management.<suffix>`, `login.<suffix>`, `{v}.vault.<suffix>`.
    pub suffix: String,
    /// The port that clients use, where it is not the one listened on (a container's published port).
    pub public_port: Option<u16>,
    /// Folder for the CA (kept over restarts) and `azure-sim.env`. `None`: nothing is written.
    pub state_dir: Option<PathBuf>,
    /// The file that keeps the whole state over restarts; `None` keeps it in memory only.
    pub persist: Option<PathBuf>,
    /// JSON file with what a new cloud starts with; the README describes it.
    pub seed_file: Option<PathBuf>,
    /// Where to listen, in plain HTTP, as the identity endpoints of a virtual machine and of a web app; `None`: nowhere.
    pub identity_listen: Option<SocketAddr>,
    /// What a web app's clients send as `X-IDENTITY-HEADER`; `None` makes a random one.
    pub identity_header: Option<String>,
    /// The one tenant.
    pub tenant_id: String,
    /// The subscription that the environment file names.
    pub subscription_id: String,
    /// Further subscriptions of the tenant, with the same owner. Registrations of providers are shared by all.
    pub more_subscriptions: Vec<String>,
    /// Subscriptions of another tenant: every call to them is refused because its token is of this one.
    pub foreign_subscriptions: Vec<String>,
    /// Application id of the principal with Owner on the subscription.
    pub client_id: String,
    /// Its object id.
    pub object_id: String,
    /// Its secret; `None` makes a random one.
    pub client_secret: Option<String>,
    /// Application id of the principal without any right.
    pub outsider_client_id: String,
    /// Its object id.
    pub outsider_object_id: String,
    /// Its secret; `None` makes a random one.
    pub outsider_secret: Option<String>,
    /// The lags at start.
    pub propagation: Propagation,
    /// Seed of all simulated chance: lags, key versions.
    pub seed: u64,
    /// How long the simulated long-running operations take.
    pub lro_duration: Duration,
    /// How long the creation, recovery and deletion of a managed HSM take; in Azure 20 to 30 minutes.
    pub hsm_lro: Duration,
    /// `Retry-After` on the answers to them, in seconds; `None` sends no header.
    pub lro_retry_after: Option<u64>,
    /// How long a token is good.
    pub token_lifetime: Duration,
    /// The public address that vault firewalls see for callers from loopback and from private networks, as if they came
    /// through one gateway: no firewall rule can name such addresses.
    pub client_address: IpAddr,
    /// Take RSA keys from one fixed pair per size instead of generating each. Fast, and a lie in one point: all keys of one
    /// size then share their modulus, so one can undo what another did. For tests that do not look at that.
    pub fast_keys: bool,
    /// How many requests the journal keeps.
    pub journal_capacity: usize,
    /// ARM's throttling and Key Vault's; the published figures unless set.
    pub throttling: Throttling,
    /// Namespaces that are not registered in the subscription at start; all others are.
    pub unregistered: Vec<String>,
    /// Items on one page of an ARM list.
    pub page_size: usize,
    /// Role assignments that a subscription takes; Azure's 4000 unless set.
    pub role_assignment_limit: usize,
    /// Where the clock starts; `None` is the present.
    pub start_at: Option<OffsetDateTime>,
    /// Is shown every request with its answer, bodies included: for tests.
    pub observer: Option<Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            suffix: "localhost".to_owned(),
            public_port: None,
            state_dir: None,
            persist: None,
            seed_file: None,
            identity_listen: None,
            identity_header: None,
            tenant_id: "11111111-1111-4111-8111-111111111111".to_owned(),
            subscription_id: "22222222-2222-4222-8222-222222222222".to_owned(),
            more_subscriptions: Vec::new(),
            foreign_subscriptions: Vec::new(),
            client_id: "33333333-3333-4333-8333-333333333333".to_owned(),
            object_id: "44444444-4444-4444-8444-444444444444".to_owned(),
            client_secret: None,
            outsider_client_id: "55555555-5555-4555-8555-555555555555".to_owned(),
            outsider_object_id: "66666666-6666-4666-8666-666666666666".to_owned(),
            outsider_secret: None,
            propagation: Propagation::default(),
            seed: 1,
            lro_duration: Duration::from_secs(2),
            hsm_lro: Duration::from_secs(2),
            lro_retry_after: Some(1),
            token_lifetime: Duration::from_secs(3599),
            client_address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
            fast_keys: false,
            journal_capacity: 100_000,
            throttling: Throttling::default(),
            unregistered: Vec::new(),
            page_size: 1000,
            role_assignment_limit: 4000,
            start_at: None,
            observer: None,
        }
    }
}

impl Options {
    /// The subscriptions of the tenant.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.subscription_id).chain(&self.more_subscriptions)
    }

    /// The address that Azure sees for a caller.
    pub(crate) fn address_of(&self, peer: IpAddr) -> IpAddr {
        if self.behind_gateway(peer) { self.client_address } else { peer.to_canonical() }
    }

    /// Whether a caller has no public address of its own.
    pub(crate) fn behind_gateway(&self, peer: IpAddr) -> bool {
        match peer.to_canonical() {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("listen", &self.listen)
            .field("suffix", &self.suffix)
            .field("state_dir", &self.state_dir)
            .field("propagation", &self.propagation)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// The names and the port under which the simulator answers.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub suffix: String,
    pub port: u16,
}

impl Addresses {
    /// `{label}.{suffix}[:port]`; the default port of HTTPS is left out, as Azure does.
    pub fn authority(&self, label: &str) -> String {
        if self.port == 443 {
            format!("{label}.{}", self.suffix)
        } else {
            format!("{label}.{}:{}", self.suffix, self.port)
        }
    }

    pub fn url(&self, label: &str) -> String {
        format!("https://{}", self.authority(label))
    }

    /// The vault that this host names, if it is a vault host: `kv1` for `kv1.vault.localhost`.
    pub fn vault_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        self.label_under(host, "vault")
    }

    /// The managed HSM that this host names.
    pub fn hsm_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        self.label_under(host, "managedhsm")
    }

    /// The holder of keys that this host names.
    pub fn holder_of(&self, host: &str) -> Option<At> {
        let vault = self.vault_of(host).map(|name| At::new(Zone::Vault, name));
        vault.or_else(|| self.hsm_of(host).map(|name| At::new(Zone::Hsm, name)))
    }

    /// The service of a storage account that this host names.
    pub fn storage_of(&self, host: &str) -> Option<Endpoint> {
        SERVICES.iter().find_map(|service| {
            let account = self.label_under(host, service)?.to_lowercase();
            Some(Endpoint { account, service })
        })
    }

    fn label_under<'a>(&self, host: &'a str, zone: &str) -> Option<&'a str> {
        host.strip_suffix(self.suffix.as_str())?
            .strip_suffix('.')?
            .strip_suffix(zone)?
            .strip_suffix('.')
            .filter(|label| !label.is_empty() && !label.contains('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_without_a_public_address_come_through_the_gateway() {
        let options = Options::default();
        for (peer, seen) in [
            ("127.0.0.1", "203.0.113.10"),
            ("172.18.0.5", "203.0.113.10"),
            ("::1", "203.0.113.10"),
            ("::ffff:10.0.0.1", "203.0.113.10"),
            ("198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
        ] {
            let seen: IpAddr = seen.parse().expect("an address");
            assert_eq!(options.address_of(peer.parse().expect("an address")), seen, "{peer}");
        }
    }
}
