//! Microsoft.Network/privateEndpoints: each lies in a subnet and aims at one resource, where it makes a connection that
//! somebody there approves. With the right to approve there, making the endpoint approves it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::arm::checks::{self, not_found};
use crate::arm::network::connections::{self, APPROVED, Connection, PENDING};
use crate::arm::network::virtual_networks::{ended, good_name};
use crate::arm::network::{Networks, exists, kind_of, subnets};
use crate::arm::shape::{Member, Mode, Shape, TAGS, accept, may, must};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::World;

const KIND: &str = "Microsoft.Network/privateEndpoints";

/// A private endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PrivateEndpoint {
    pub id: String,
    pub name: String,
    pub location: String,
    pub tags: Map<String, Value>,
    /// Id of the subnet it lies in.
    pub subnet: String,
    pub aim: Aim,
    /// Id of the connection that it made at its target.
    pub connection: String,
    /// Members that play no part, as sent.
    pub other: Map<String, Value>,
}

/// What an endpoint connects to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Aim {
    pub name: String,
    pub target: String,
    pub groups: Vec<String>,
    pub message: String,
    /// Asked for by the list whose connections wait for an approval.
    pub manual: bool,
}

const AIM: Shape = Shape::List(&Shape::Object(&[
    must("name", Shape::Text),
    must(
        "properties",
        Shape::Object(&[
            must("privateLinkServiceId", Shape::Text),
            may("groupIds", Shape::List(&Shape::Text)),
            may("requestMessage", Shape::Text),
            may("privateLinkServiceConnectionState", Shape::ReadOnly),
            may("provisioningState", Shape::ReadOnly),
        ]),
    ),
    may("id", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("etag", Shape::ReadOnly),
]));

const PROPERTIES: &[Member] = &[
    must(
        "subnet",
        Shape::Object(&[must("id", Shape::Text), may("properties", Shape::ReadOnly), may("name", Shape::ReadOnly)]),
    ),
    may("privateLinkServiceConnections", AIM),
    may("manualPrivateLinkServiceConnections", AIM),
    may("customNetworkInterfaceName", Shape::Text),
    may("ipConfigurations", Shape::Any),
    may("applicationSecurityGroups", Shape::Any),
    may("customDnsConfigs", Shape::Any),
    may("ipVersionType", Shape::Text),
    may("networkInterfaces", Shape::ReadOnly),
    may("provisioningState", Shape::ReadOnly),
];

const BODY: &[Member] = &[
    must("location", Shape::Text),
    may("tags", TAGS),
    must("properties", Shape::Object(PROPERTIES)),
    may("extendedLocation", Shape::Any),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("etag", Shape::ReadOnly),
];

impl PrivateEndpoint {
    pub fn render(&self, networks: &Networks) -> Value {
        let lists = ["privateLinkServiceConnections", "manualPrivateLinkServiceConnections"];
        let (used, empty) = if self.aim.manual { (lists[1], lists[0]) } else { (lists[0], lists[1]) };
        let row = json!({
            "id": format!("{}/{used}/{}", self.id, self.aim.name),
            "name": self.aim.name,
            "type": format!("{KIND}/{used}"),
            "properties": {
                "provisioningState": "Succeeded",
                "privateLinkServiceId": self.aim.target,
                "groupIds": self.aim.groups,
                "requestMessage": self.aim.message,
                "privateLinkServiceConnectionState": connections::state_of(networks, &self.connection),
            },
        });
        let mut properties = self.other.clone();
        properties.insert("provisioningState".into(), "Succeeded".into());
        properties.insert("subnet".into(), json!({ "id": self.subnet }));
        properties.insert(used.into(), json!([row]));
        properties.insert(empty.into(), json!([]));
        properties.insert("networkInterfaces".into(), json!([]));
        properties.entry("customDnsConfigs").or_insert_with(|| json!([]));
        properties.entry("ipConfigurations").or_insert_with(|| json!([]));
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
        ("DELETE", [name]) => delete(asked, group, name),
        (_, [_, child, ..]) => Err(Failure::not_played(&format!("{KIND}/{child}"))),
        _ => Err(no_method(call)),
    }
}

fn id_of(asked: &Asked<'_>, group: &str, name: &str) -> String {
    format!("{}/providers/{KIND}/{name}", asked.group_id(group))
}

fn require(asked: &Asked<'_>, w: &World, verb: &str, scope: &str) -> Result<(), Failure> {
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
        let all = w.networks.endpoints.values().filter(|e| at_or_above(&scope, &e.id));
        Ok(Reply::list(all.map(|e| e.render(&w.networks)).collect()))
    })
}

fn get(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "read", &id)?;
        let found = w.networks.endpoints.get(&id.to_lowercase());
        found.map(|e| Reply::ok(e.render(&w.networks))).ok_or_else(|| not_found(KIND, name, group))
    })
}

fn put(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let group = checks::open_group(w, &asked.group_id(group), group)?;
        good_name(name)?;
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let location = checks::location(&body, KIND)?;
        let tags = checks::tags(&body)?;
        let mut other = body["properties"].as_object().cloned().unwrap_or_default();
        let aim = read_aim(&mut other)?;
        let subnet = other.remove("subnet").unwrap_or_default()["id"].as_str().unwrap_or_default().to_owned();
        if subnets::find(&w.networks, &subnet).is_none() {
            return Err(missing_reference(&subnet, &id));
        }
        linked(asked, w, &id, "Microsoft.Network/virtualNetworks/subnets/join/action", &subnet)?;
        let key = id.to_lowercase();
        if let Some(have) = w.networks.endpoints.get(&key).cloned() {
            checks::same_location(&have.location, &location, name, KIND)?;
            return again(asked, w, have, tags, other, &aim, &subnet);
        }
        let kind = good_target(w, &aim, &id)?;
        let mut connection = connect(w, &id, &aim);
        if !aim.manual {
            linked(asked, w, &id, &format!("{kind}/privateEndpointConnectionsApproval/action"), &aim.target)?;
            connection.status = APPROVED.to_owned();
            connection.description = "Auto-Approved".to_owned();
        }
        let endpoint = PrivateEndpoint {
            id: id_of(asked, &group, name),
            name: name.to_owned(),
            location,
            tags,
            subnet,
            aim,
            connection: connection.id.clone(),
            other,
        };
        w.networks.connections.insert(connection.id.to_lowercase(), connection);
        let answer = endpoint.render(&w.networks);
        w.networks.endpoints.insert(key, endpoint);
        asked.call.touch();
        Ok(Reply::json(201, answer))
    })
}

/// A PUT of an endpoint that is there: tags and such change, the aim and the place do not (UNVERIFIED code).
fn again(
    asked: &Asked<'_>,
    w: &mut World,
    mut have: PrivateEndpoint,
    tags: Map<String, Value>,
    other: Map<String, Value>,
    aim: &Aim,
    subnet: &str,
) -> Outcome {
    if !have.aim.target.eq_ignore_ascii_case(&aim.target) || !have.subnet.eq_ignore_ascii_case(subnet) {
        return Err(Failure::new(
            400,
            "PrivateEndpointCannotBeUpdated",
            format!("The subnet and the connection of private endpoint {} cannot be changed.", have.id),
        ));
    }
    if have.tags != tags || have.other != other {
        have.tags = tags;
        have.other = other;
        asked.call.touch();
    }
    let answer = have.render(&w.networks);
    w.networks.endpoints.insert(have.id.to_lowercase(), have);
    Ok(Reply::ok(answer))
}

fn linked(asked: &Asked<'_>, w: &World, id: &str, action: &str, scope: &str) -> Result<(), Failure> {
    let write = format!("{KIND}/write");
    check::require_linked(w, &asked.caller, &write, id, action, scope, asked.call.now)
}

fn missing_reference(what: &str, by: &str) -> Failure {
    Failure::new(
        400,
        "InvalidResourceReference",
        format!(
            "Resource {what} referenced by resource {by} was not found. Please make sure that the referenced resource exists, and that both resources are in the same region."
        ),
    )
}

/// The one connection that is asked for, in either list.
fn read_aim(properties: &mut Map<String, Value>) -> Result<Aim, Failure> {
    let mut aims = Vec::new();
    for (list, manual) in [("privateLinkServiceConnections", false), ("manualPrivateLinkServiceConnections", true)] {
        let Some(Value::Array(rows)) = properties.remove(list) else {
            continue;
        };
        for row in rows {
            let p = &row["properties"];
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let groups = p["groupIds"].as_array().into_iter().flatten().map(text).collect();
            let target = text(&p["privateLinkServiceId"]).trim_end_matches('/').to_owned();
            aims.push(Aim { name: text(&row["name"]), target, groups, message: text(&p["requestMessage"]), manual });
        }
    }
    match (aims.pop(), aims.is_empty()) {
        (Some(aim), true) => Ok(aim),
        // UNVERIFIED code.
        _ => Err(Failure::new(
            400,
            "InvalidPrivateEndpointConnections",
            "A private endpoint has exactly one private link service connection.",
        )),
    }
}

/// The type of the target, which must exist where the world knows its type, and have the group asked for.
fn good_target(w: &World, aim: &Aim, by: &str) -> Result<String, Failure> {
    let Some(kind) = kind_of(&aim.target) else {
        return Err(missing_reference(&aim.target, by));
    };
    if exists(w, &aim.target) == Some(false) {
        return Err(missing_reference(&aim.target, by));
    }
    let known: Vec<&str> = connections::groups_of(&kind).iter().map(|g| g.id).collect();
    let groups: Vec<&str> = aim.groups.iter().map(String::as_str).collect();
    // The second region of a storage account has groups of its own.
    let plain = |group: &str| group.to_lowercase().trim_end_matches("_secondary").to_owned();
    if !known.is_empty() && !matches!(groups.as_slice(), [one] if known.contains(&plain(one).as_str())) {
        // UNVERIFIED code.
        return Err(Failure::new(
            400,
            "PrivateLinkServiceGroupIdsNotValid",
            format!("The group ids {groups:?} are not those of '{}': {}.", aim.target, known.join(", ")),
        ));
    }
    Ok(kind)
}

/// A connection that waits for its approval. The form of its name is UNVERIFIED.
fn connect(w: &mut World, endpoint: &str, aim: &Aim) -> Connection {
    let name = w.guid().simple().to_string();
    Connection {
        id: format!("{}/privateEndpointConnections/{name}", aim.target),
        name,
        target: aim.target.clone(),
        endpoint: endpoint.to_owned(),
        groups: aim.groups.clone(),
        status: PENDING.to_owned(),
        description: aim.message.clone(),
        actions_required: "None".to_owned(),
    }
}

fn delete(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "delete", &id)?;
        let Some(endpoint) = w.networks.endpoints.get(&id.to_lowercase()) else {
            return Ok(Reply::empty(204));
        };
        let location = endpoint.location.clone();
        ended(asked, w, &location, |networks| remove(networks, &id.to_lowercase()))
    })
}

/// Takes an endpoint away, with its connection.
pub(crate) fn remove(networks: &mut Networks, key: &str) {
    if let Some(endpoint) = networks.endpoints.remove(key) {
        networks.connections.remove(&endpoint.connection.to_lowercase());
    }
}
