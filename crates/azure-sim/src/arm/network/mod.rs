//! Microsoft.Network, as far as a vault's network rules reach: virtual networks with their subnets, private endpoints, and
//! the connections that these make at other resources. No packet travels here: what is kept is who may come from where.
//! Where the simulator's callers stand is told by the control API (`/_sim/network`).

pub(crate) mod connections;
pub(crate) mod private_endpoints;
pub(crate) mod rules;
pub(crate) mod subnets;
pub(crate) mod virtual_networks;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::arm::Asked;
use crate::arm::checks::unknown_type;
use crate::http::Outcome;
use crate::rbac::assignments::at_or_above;
use crate::state::World;

use connections::Connection;
use private_endpoints::PrivateEndpoint;
use virtual_networks::VirtualNetwork;

/// Everything of Microsoft.Network in the cloud, and where callers stand.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Networks {
    /// By lower-case id.
    pub virtual_networks: BTreeMap<String, VirtualNetwork>,
    /// By lower-case id.
    pub endpoints: BTreeMap<String, PrivateEndpoint>,
    /// Connections at the resources that private endpoints aim at, by lower-case id.
    pub connections: BTreeMap<String, Connection>,
    /// The subnet, by lower-case id, in which callers without a public address of their own stand; `None`: the Internet.
    pub standpoint: Option<String>,
}

impl Networks {
    /// Whether callers reach the resource over an approved private endpoint: one that lies in the virtual network in which
    /// they stand, and aims at the group.
    pub fn privately(&self, resource: &str, group: &str) -> bool {
        let Some((home, _)) = self.standpoint.as_deref().and_then(subnets::split) else {
            return false;
        };
        self.connections
            .values()
            .filter(|c| c.is_approved() && c.target.eq_ignore_ascii_case(resource))
            .filter(|c| c.groups.iter().any(|g| g.eq_ignore_ascii_case(group)))
            .filter_map(|c| self.endpoints.get(&c.endpoint.to_lowercase()))
            .any(|e| subnets::split(&e.subnet).is_some_and(|(network, _)| network.eq_ignore_ascii_case(home)))
    }

    /// The subnet by which a service's network rules know the callers: the one they stand in, where it has the service's
    /// endpoint. Without that, they come from their public address.
    pub fn subnet_for(&self, service: &str) -> Option<&str> {
        let at = self.standpoint.as_deref()?;
        subnets::find(self, at)?.has_endpoint(service).then_some(at)
    }

    /// Takes away what lies in a deleted group. Connections of endpoints elsewhere to resources in it go with the resources.
    pub fn remove_under(&mut self, scope: &str) {
        let endpoints: Vec<String> =
            self.endpoints.keys().filter(|id| at_or_above(scope, id)).map(ToOwned::to_owned).collect();
        for id in endpoints {
            private_endpoints::remove(self, &id);
        }
        connections::disconnect_under(self, scope);
        self.virtual_networks.retain(|id, _| !at_or_above(scope, id));
    }
}

/// `kind` in lower case; `rest` are the segments behind it as sent.
pub(crate) fn in_group(asked: &Asked<'_>, kind: &str, group: &str, rest: &[&str]) -> Outcome {
    match kind {
        "virtualnetworks" => virtual_networks::serve(asked, group, rest),
        "privateendpoints" => private_endpoints::serve(asked, group, rest),
        _ => Err(crate::http::Failure::not_played(&format!("Microsoft.Network/{kind}"))),
    }
}

/// Lists over the subscription.
pub(crate) fn in_subscription(asked: &Asked<'_>, kind: &str) -> Outcome {
    match kind {
        "virtualnetworks" => virtual_networks::list(asked, None),
        "privateendpoints" => private_endpoints::list(asked, None),
        _ => Err(unknown_type("Microsoft.Network", kind)),
    }
}

/// Whether a resource that ids can name is there. `None` for types of which the world does not know.
pub(crate) fn exists(w: &World, id: &str) -> Option<bool> {
    let name = id.rsplit('/').next().unwrap_or_default().to_lowercase();
    match kind_of(id)?.to_lowercase().as_str() {
        "microsoft.keyvault/vaults" => Some(w.vaults.get(&name).is_some_and(|v| v.id.eq_ignore_ascii_case(id))),
        "microsoft.storage/storageaccounts" => {
            Some(w.accounts.get(&name).is_some_and(|a| a.id.eq_ignore_ascii_case(id)))
        }
        "microsoft.keyvault/managedhsms" => Some(w.hsms.get(&name).is_some_and(|h| h.id.eq_ignore_ascii_case(id))),
        _ => w.resources.contains_key(&id.to_lowercase()).then_some(true),
    }
}

/// The type of the resource that an id names: `Microsoft.KeyVault/vaults`.
pub(crate) fn kind_of(id: &str) -> Option<String> {
    let segments: Vec<&str> = id.split('/').filter(|s| !s.is_empty()).collect();
    let at = segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers"))?;
    let rest = segments.get(at + 1..)?;
    if rest.len() < 3 || rest.len().is_multiple_of(2) {
        return None;
    }
    let mut kind = rest[0].to_owned();
    for part in rest[1..].iter().step_by(2) {
        kind.push('/');
        kind.push_str(part);
    }
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::kind_of;

    #[test]
    fn types_of_ids() {
        for (id, kind) in [
            (
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v",
                Some("Microsoft.KeyVault/vaults"),
            ),
            ("/subscriptions/s/resourceGroups/g/providers/A.B/c/d/e/f", Some("A.B/c/e")),
            ("/subscriptions/s/resourceGroups/g/providers/A.B/c", None),
            ("/subscriptions/s", None),
            ("", None),
        ] {
            assert_eq!(kind_of(id).as_deref(), kind, "{id}");
        }
    }
}
