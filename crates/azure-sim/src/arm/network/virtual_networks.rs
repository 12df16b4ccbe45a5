//! Microsoft.Network/virtualNetworks as plain resources, so that network rules can name a subnet that exists and has, or
//! has not, a service's endpoint. Routing, peering and address management are not played.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::arm::checks::{self, not_found};
use crate::arm::network::Networks;
use crate::arm::network::subnets::{self, Subnet};
use crate::arm::operations::{self, Ending};
use crate::arm::shape::{Member, Mode, Shape, TAGS, accept, may, must};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::World;

pub(crate) const KIND: &str = "Microsoft.Network/virtualNetworks";

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VirtualNetwork {
    pub id: String,
    pub name: String,
    pub location: String,
    pub tags: Map<String, Value>,
    /// `addressSpace` and what else plays no part, as sent.
    pub properties: Map<String, Value>,
    pub subnets: Vec<Subnet>,
}

const PROPERTIES: &[Member] = &[
    must(
        "addressSpace",
        Shape::Object(&[
            may("addressPrefixes", Shape::List(&Shape::Text)),
            may("ipamPoolPrefixAllocations", Shape::Any),
        ]),
    ),
    may("subnets", Shape::List(&Shape::Object(subnets::BODY))),
    may("dhcpOptions", Shape::Any),
    may("enableDdosProtection", Shape::Bool),
    may("enableVmProtection", Shape::Bool),
    may("encryption", Shape::Any),
    may("flowTimeoutInMinutes", Shape::Int),
    may("privateEndpointVNetPolicies", Shape::Text),
    may("virtualNetworkPeerings", Shape::ReadOnly),
    may("provisioningState", Shape::ReadOnly),
    may("resourceGuid", Shape::ReadOnly),
];

const BODY: &[Member] = &[
    must("location", Shape::Text),
    may("tags", TAGS),
    must("properties", Shape::Object(PROPERTIES)),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("etag", Shape::ReadOnly),
];

const TAGS_ONLY: &[Member] = &[may("tags", TAGS)];

impl VirtualNetwork {
    /// The address ranges that parse.
    pub fn ranges(&self) -> Vec<ipnet::IpNet> {
        let prefixes = self.properties.get("addressSpace").and_then(|a| a["addressPrefixes"].as_array());
        prefixes.into_iter().flatten().filter_map(|p| p.as_str()?.parse().ok()).collect()
    }

    pub fn render(&self, networks: &Networks) -> Value {
        let mut properties = self.properties.clone();
        properties.insert("provisioningState".into(), "Succeeded".into());
        properties.insert("subnets".into(), self.subnets.iter().map(|s| s.render(&self.id, networks)).collect());
        properties.insert("virtualNetworkPeerings".into(), json!([]));
        properties.entry("enableDdosProtection").or_insert(Value::Bool(false));
        json!({
            "id": self.id,
            "name": self.name,
            "type": KIND,
            "location": self.location,
            "tags": self.tags,
            "properties": properties,
        })
    }
}

pub(crate) fn serve(asked: &Asked<'_>, group: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    match (call.method.as_str(), rest) {
        ("GET", []) => list(asked, Some(group)),
        ("GET", [name]) => get(asked, group, name),
        ("PUT", [name]) => put(asked, group, name),
        ("PATCH", [name]) => patch(asked, group, name),
        ("DELETE", [name]) => delete(asked, group, name),
        (_, [name, child, rest @ ..]) if child.eq_ignore_ascii_case("subnets") => {
            subnets::serve(asked, group, name, rest)
        }
        (_, [_, child, ..]) => Err(Failure::not_played(&format!("{KIND}/{child}"))),
        _ => Err(no_method(call)),
    }
}

pub(crate) fn id_of(asked: &Asked<'_>, group: &str, name: &str) -> String {
    format!("{}/providers/{KIND}/{name}", asked.group_id(group))
}

pub(crate) fn require(asked: &Asked<'_>, w: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(w, &asked.caller, &format!("{KIND}/{verb}"), scope, asked.call.now)
}

/// Of one group, or of the subscription.
pub(crate) fn list(asked: &Asked<'_>, group: Option<&str>) -> Outcome {
    let scope = match group {
        Some(group) => asked.group_id(group),
        None => format!("/subscriptions/{}", asked.subscription),
    };
    asked.shared.world(|w| {
        require(asked, w, "read", &scope)?;
        let all = w.networks.virtual_networks.values().filter(|n| at_or_above(&scope, &n.id));
        Ok(Reply::list(all.map(|n| n.render(&w.networks)).collect()))
    })
}

fn get(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "read", &id)?;
        if !w.groups.contains_key(&asked.group_id(group).to_lowercase()) {
            return Err(checks::no_group(group));
        }
        let found = w.networks.virtual_networks.get(&id.to_lowercase());
        found.map(|n| Reply::ok(n.render(&w.networks))).ok_or_else(|| not_found(KIND, name, group))
    })
}

/// A PUT without `subnets` keeps those that are there.
fn put(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let group = checks::open_group(w, &asked.group_id(group), group)?;
        good_name(name)?;
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let location = checks::location(&body, KIND)?;
        let tags = checks::tags(&body)?;
        let mut properties = body["properties"].as_object().cloned().unwrap_or_default();
        let sent = properties.remove("subnets");
        let key = id.to_lowercase();
        let have = w.networks.virtual_networks.get(&key).cloned();
        if let Some(have) = &have {
            checks::same_location(&have.location, &location, name, KIND)?;
        }
        let mut network = VirtualNetwork {
            id: have.as_ref().map_or_else(|| id_of(asked, &group, name), |h| h.id.clone()),
            name: have.as_ref().map_or(name, |h| &h.name).to_owned(),
            location,
            tags,
            properties,
            subnets: have.as_ref().map(|h| h.subnets.clone()).unwrap_or_default(),
        };
        good_ranges(&network)?;
        if let Some(Value::Array(sent)) = sent {
            network.subnets = sent.iter().map(|s| subnets::read(s, &network)).collect::<Result<_, _>>()?;
        }
        if let Some(have) = &have {
            for gone in have.subnets.iter().filter(|s| !network.has(&s.name)) {
                subnets::unused(&w.networks, &have.id, &gone.name)?;
            }
        }
        if have.as_ref() != Some(&network) {
            asked.call.touch();
        }
        let answer = network.render(&w.networks);
        w.networks.virtual_networks.insert(key, network);
        Ok(Reply::json(if have.is_some() { 200 } else { 201 }, answer))
    })
}

impl VirtualNetwork {
    fn has(&self, subnet: &str) -> bool {
        self.subnets.iter().any(|s| s.name.eq_ignore_ascii_case(subnet))
    }
}

fn good_ranges(network: &VirtualNetwork) -> Result<(), Failure> {
    let sent = network.properties.get("addressSpace").and_then(|a| a["addressPrefixes"].as_array());
    let sent: Vec<&str> = sent.into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(wrong) = sent.iter().find(|p| p.parse::<ipnet::IpNet>().is_err()) {
        return Err(Failure::new(
            400,
            "InvalidAddressPrefixFormat",
            format!(
                "Address prefix {wrong} of resource {} is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.",
                network.id
            ),
        ));
    }
    if sent.is_empty() {
        return Err(Failure::new(
            400,
            "InvalidRequestFormat",
            format!("The virtual network '{}' needs at least one address prefix.", network.name),
        ));
    }
    Ok(())
}

/// 2 to 64 of letters, digits, `_ . -`, starting with a letter or digit, ending in one or in `_`.
pub(crate) fn good_name(name: &str) -> Result<(), Failure> {
    let bytes = name.as_bytes();
    let good = (1..=80).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
        && bytes[0].is_ascii_alphanumeric()
        && bytes.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if good {
        return Ok(());
    }
    Err(Failure::new(400, "InvalidResourceName", format!("Resource name {name} is invalid.")))
}

fn patch(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let body = accept(TAGS_ONLY, asked.call.object()?, Mode::Partial)?;
        let tags = checks::tags(&body)?;
        let key = id.to_lowercase();
        let have = w.networks.virtual_networks.get_mut(&key).ok_or_else(|| not_found(KIND, name, group))?;
        if have.tags != tags {
            have.tags = tags;
            asked.call.touch();
        }
        let have = have.clone();
        Ok(Reply::ok(have.render(&w.networks)))
    })
}

fn delete(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "delete", &id)?;
        let Some(network) = w.networks.virtual_networks.get(&id.to_lowercase()) else {
            return Ok(Reply::empty(204));
        };
        let location = network.location.clone();
        for subnet in &network.subnets {
            subnets::unused(&w.networks, &network.id, &subnet.name)?;
        }
        ended(asked, w, &location, |networks| {
            networks.virtual_networks.remove(&id.to_lowercase());
        })
    })
}

/// 202 with the operation's URL; the effect is there at once unless a fault rule makes the operation fail.
pub(crate) fn ended(asked: &Asked<'_>, w: &mut World, location: &str, effect: impl FnOnce(&mut Networks)) -> Outcome {
    let op = operations::start(asked.shared, w, asked.call, &asked.caller.oid, Ending::Nothing);
    if !op.fails {
        effect(&mut w.networks);
        asked.call.touch();
    }
    let path = format!(
        "/subscriptions/{}/providers/Microsoft.Network/locations/{location}/operationResults/{}",
        asked.subscription, op.id
    );
    Ok(operations::accepted(asked.shared, asked.call, &path))
}
