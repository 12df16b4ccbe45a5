//! Which part of the cloud answers: read from the host that a request names. What the parts answer is theirs.

use crate::keyvault::holder::{At, Zone};
use crate::state::Shared;
use crate::storage::Endpoint;

/// A part of the cloud.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Surface {
    Arm,
    Login,
    Graph,
    Host,
    Keys(At),
    Storage(Endpoint),
    Unknown,
}

impl Surface {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Arm => "arm",
            Self::Login => "login",
            Self::Graph => "graph",
            Self::Host => "identity",
            Self::Keys(At { zone: Zone::Vault, .. }) => "vault",
            Self::Keys(At { zone: Zone::Hsm, .. }) => "hsm",
            Self::Storage(at) => at.service,
            Self::Unknown => "unknown",
        }
    }
}

pub(crate) fn of(shared: &Shared, host: &str) -> Surface {
    let names = &shared.addresses;
    if let Some(at) = names.holder_of(host) {
        return Surface::Keys(at);
    }
    if let Some(at) = names.storage_of(host) {
        return Surface::Storage(at);
    }
    if host == format!("login.{}", names.suffix) {
        return Surface::Login;
    }
    if host == format!("graph.{}", names.suffix) {
        return Surface::Graph;
    }
    let arm = host == format!("management.{}", names.suffix)
        || host == names.suffix
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    if arm { Surface::Arm } else { Surface::Unknown }
}

/// The host without port; an IPv6 address keeps its brackets.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}
