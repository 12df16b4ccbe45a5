//! Subnets of a virtual network: their ranges, their service endpoints, and who uses them.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::arm::checks::not_found;
use crate::arm::network::Networks;
use crate::arm::network::virtual_networks::{self, VirtualNetwork, ended, good_name, id_of, require};
use crate::arm::shape::{Member, Mode, Shape, accept, may};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};

/// A subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    pub name: String,
    /// As sent, in canonical names.
    pub properties: Map<String, Value>,
}

const PROPERTIES: &[Member] = &[
    may("addressPrefix", Shape::Text),
    may("addressPrefixes", Shape::List(&Shape::Text)),
    may(
        "serviceEndpoints",
        Shape::List(&Shape::Object(&[
            may("service", Shape::Text),
            may("locations", Shape::List(&Shape::Text)),
            may("networkIdentifier", Shape::Any),
            may("provisioningState", Shape::ReadOnly),
        ])),
    ),
    may("delegations", Shape::Any),
    may("networkSecurityGroup", Shape::Any),
    may("routeTable", Shape::Any),
    may("natGateway", Shape::Any),
    may("serviceEndpointPolicies", Shape::Any),
    may("defaultOutboundAccess", Shape::Bool),
    may("sharingScope", Shape::Text),
    may("ipamPoolPrefixAllocations", Shape::Any),
    may("privateEndpointNetworkPolicies", Shape::Text),
    may("privateLinkServiceNetworkPolicies", Shape::Text),
    may("privateEndpoints", Shape::ReadOnly),
    may("ipConfigurations", Shape::ReadOnly),
    may("provisioningState", Shape::ReadOnly),
    may("purpose", Shape::ReadOnly),
];

/// A subnet in a network's body, and the whole body of a subnet's own PUT.
pub(crate) const BODY: &[Member] = &[
    may("name", Shape::Text),
    may("properties", Shape::Object(PROPERTIES)),
    may("id", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("etag", Shape::ReadOnly),
];

impl Subnet {
    /// Whether the subnet has the endpoint of a service: `Microsoft.KeyVault`.
    pub fn has_endpoint(&self, service: &str) -> bool {
        let listed = self.properties.get("serviceEndpoints").and_then(Value::as_array);
        listed.into_iter().flatten().any(|e| e["service"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(service)))
    }

    fn prefixes(&self) -> Vec<&str> {
        let many = self.properties.get("addressPrefixes").and_then(Value::as_array);
        let one = self.properties.get("addressPrefix");
        one.into_iter().chain(many.into_iter().flatten()).filter_map(Value::as_str).collect()
    }

    pub fn render(&self, network: &str, networks: &Networks) -> Value {
        let id = format!("{network}/subnets/{}", self.name);
        let mut properties = self.properties.clone();
        if let Some(Value::Array(endpoints)) = properties.get_mut("serviceEndpoints") {
            for endpoint in endpoints {
                endpoint["provisioningState"] = "Succeeded".into();
                if endpoint["locations"].is_null() {
                    endpoint["locations"] = json!(["*"]);
                }
            }
        }
        properties.entry("delegations").or_insert_with(|| json!([]));
        properties.entry("privateEndpointNetworkPolicies").or_insert_with(|| "Disabled".into());
        properties.entry("privateLinkServiceNetworkPolicies").or_insert_with(|| "Enabled".into());
        let users: Vec<Value> = users(networks, &id).map(|e| json!({ "id": e })).collect();
        if !users.is_empty() {
            properties.insert("privateEndpoints".into(), users.into());
        }
        properties.insert("provisioningState".into(), "Succeeded".into());
        json!({
            "id": id,
            "name": self.name,
            "type": format!("{}/subnets", virtual_networks::KIND),
            "properties": properties,
        })
    }
}

/// Private endpoints in the subnet.
fn users<'n>(networks: &'n Networks, subnet: &str) -> impl Iterator<Item = &'n str> {
    networks.endpoints.values().filter(move |e| e.subnet.eq_ignore_ascii_case(subnet)).map(|e| e.id.as_str())
}

/// Refuses the removal of a subnet in which something lies.
pub(crate) fn unused(networks: &Networks, network: &str, subnet: &str) -> Result<(), Failure> {
    let id = format!("{network}/subnets/{subnet}");
    match users(networks, &id).next() {
        None => Ok(()),
        Some(user) => Err(Failure::new(
            400,
            "InUseSubnetCannotBeDeleted",
            format!(
                "Subnet {subnet} is in use by {user} and cannot be deleted. In order to delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet."
            ),
        )),
    }
}

/// The network and the name in a subnet's id.
pub(crate) fn split(id: &str) -> Option<(&str, &str)> {
    let (head, name) = id.trim_end_matches('/').rsplit_once('/')?;
    let (network, word) = head.rsplit_once('/')?;
    (word.eq_ignore_ascii_case("subnets") && !name.is_empty()).then_some((network, name))
}

/// The subnet of this id.
pub(crate) fn find<'n>(networks: &'n Networks, id: &str) -> Option<&'n Subnet> {
    let (network, name) = split(id)?;
    let network = networks.virtual_networks.get(&network.to_lowercase())?;
    network.subnets.iter().find(|s| s.name.eq_ignore_ascii_case(name))
}

/// A subnet as a network's body has it, checked against the network's ranges.
pub(crate) fn read(sent: &Value, network: &VirtualNetwork) -> Result<Subnet, Failure> {
    let name = sent["name"].as_str().unwrap_or_default().to_owned();
    good_name(&name)?;
    let subnet = Subnet { name, properties: sent["properties"].as_object().cloned().unwrap_or_default() };
    let ranges = network.ranges();
    let prefixes = subnet.prefixes();
    let fits = |p: &&str| p.parse::<IpNet>().is_ok_and(|p| ranges.iter().any(|range| range.contains(&p)));
    if prefixes.is_empty() || !prefixes.iter().all(fits) {
        return Err(Failure::new(
            400,
            "NetcfgInvalidSubnet",
            format!("Subnet '{}' is not valid in virtual network '{}'.", subnet.name, network.name),
        ));
    }
    Ok(subnet)
}

/// `rest` starts with the subnet's name, if any.
pub(crate) fn serve(asked: &Asked<'_>, group: &str, network: &str, rest: &[&str]) -> Outcome {
    match (asked.call.method.as_str(), rest) {
        ("GET", []) => list(asked, group, network),
        ("GET", [name]) => get(asked, group, network, name),
        ("PUT", [name]) => put(asked, group, network, name),
        ("DELETE", [name]) => delete(asked, group, network, name),
        _ => Err(no_method(asked.call)),
    }
}

fn list(asked: &Asked<'_>, group: &str, network: &str) -> Outcome {
    let id = id_of(asked, group, network);
    asked.shared.world(|w| {
        require(asked, w, "subnets/read", &id)?;
        let found = w.networks.virtual_networks.get(&id.to_lowercase());
        let found = found.ok_or_else(|| not_found(virtual_networks::KIND, network, group))?;
        Ok(Reply::list(found.subnets.iter().map(|s| s.render(&found.id, &w.networks)).collect()))
    })
}

fn get(asked: &Asked<'_>, group: &str, network: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, network);
    asked.shared.world(|w| {
        require(asked, w, "subnets/read", &format!("{id}/subnets/{name}"))?;
        let missing = || not_found(virtual_networks::KIND, network, group);
        let owner = w.networks.virtual_networks.get(&id.to_lowercase()).ok_or_else(missing)?;
        let subnet = owner.subnets.iter().find(|s| s.name.eq_ignore_ascii_case(name)).ok_or_else(|| lost(name))?;
        Ok(Reply::ok(subnet.render(&owner.id, &w.networks)))
    })
}

fn lost(name: &str) -> Failure {
    Failure::new(404, "NotFound", format!("Resource {name} not found."))
}

fn put(asked: &Asked<'_>, group: &str, network: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, network);
    asked.shared.world(|w| {
        require(asked, w, "subnets/write", &format!("{id}/subnets/{name}"))?;
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let missing = || not_found(virtual_networks::KIND, network, group);
        let owner = w.networks.virtual_networks.get(&id.to_lowercase()).ok_or_else(missing)?;
        let mut sent = Value::Object(body);
        sent["name"] = name.into();
        let subnet = read(&sent, owner)?;
        let mut owner = owner.clone();
        let status = match owner.subnets.iter_mut().find(|s| s.name.eq_ignore_ascii_case(name)) {
            Some(have) => {
                if have.properties != subnet.properties {
                    have.properties = subnet.properties.clone();
                    asked.call.touch();
                }
                200
            }
            None => {
                owner.subnets.push(subnet.clone());
                asked.call.touch();
                201
            }
        };
        let answer = subnet.render(&owner.id, &w.networks);
        w.networks.virtual_networks.insert(id.to_lowercase(), owner);
        Ok(Reply::json(status, answer))
    })
}

fn delete(asked: &Asked<'_>, group: &str, network: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, network);
    asked.shared.world(|w| {
        require(asked, w, "subnets/delete", &format!("{id}/subnets/{name}"))?;
        let Some(owner) = w.networks.virtual_networks.get(&id.to_lowercase()) else {
            return Ok(Reply::empty(204));
        };
        if !owner.subnets.iter().any(|s| s.name.eq_ignore_ascii_case(name)) {
            return Ok(Reply::empty(204));
        }
        unused(&w.networks, &owner.id, name)?;
        let location = owner.location.clone();
        ended(asked, w, &location, |networks| {
            if let Some(owner) = networks.virtual_networks.get_mut(&id.to_lowercase()) {
                owner.subnets.retain(|s| !s.name.eq_ignore_ascii_case(name));
            }
        })
    })
}
