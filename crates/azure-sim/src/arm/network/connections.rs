//! `privateEndpointConnections` and `privateLinkResources` of the resources that private endpoints aim at. Every provider
//! whose type has them hands its requests to `serve`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arm::network::Networks;
use crate::arm::operations::{self, Ending};
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::{Asked, no_method};
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::World;

pub(crate) const APPROVED: &str = "Approved";
pub(crate) const PENDING: &str = "Pending";
pub(crate) const DISCONNECTED: &str = "Disconnected";

/// A private endpoint's connection, as its target keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub id: String,
    pub name: String,
    /// Id of the resource that the endpoint aims at.
    pub target: String,
    /// Id of the private endpoint.
    pub endpoint: String,
    pub groups: Vec<String>,
    pub status: String,
    pub description: String,
    pub actions_required: String,
}

const STATE: &[Member] = &[
    may("status", Shape::OneOf(&[PENDING, APPROVED, "Rejected", DISCONNECTED])),
    may("description", Shape::Text),
    may("actionsRequired", Shape::Text),
    may("actionRequired", Shape::Text),
];

const BODY: &[Member] = &[
    must(
        "properties",
        Shape::Object(&[
            must("privateLinkServiceConnectionState", Shape::Object(STATE)),
            may("privateEndpoint", Shape::ReadOnly),
            may("groupIds", Shape::ReadOnly),
            may("provisioningState", Shape::ReadOnly),
        ]),
    ),
    may("etag", Shape::ReadOnly),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("location", Shape::ReadOnly),
    may("tags", Shape::ReadOnly),
];

impl Connection {
    pub fn is_approved(&self) -> bool {
        self.status == APPROVED
    }

    fn state(&self) -> Value {
        json!({ "status": self.status, "description": self.description, "actionsRequired": self.actions_required })
    }

    /// The state as the target shows it: storage accounts have a word of their own for what is left to do.
    fn state_there(&self) -> Value {
        let mut state = self.state();
        if let Some(state) = state.as_object_mut().filter(|_| is_storage(&self.target))
            && let Some(text) = state.remove("actionsRequired")
        {
            state.insert("actionRequired".into(), text);
        }
        state
    }

    /// `kind` is the target's type.
    fn render(&self, kind: &str) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "type": format!("{kind}/privateEndpointConnections"),
            "properties": self.properties(),
        })
    }

    fn properties(&self) -> Value {
        json!({
            "provisioningState": "Succeeded",
            "privateEndpoint": { "id": self.endpoint },
            "privateLinkServiceConnectionState": self.state_there(),
        })
    }
}

/// The state that an endpoint shows of its connection: `Disconnected` when its target has removed it.
pub(crate) fn state_of(networks: &Networks, connection: &str) -> Value {
    match networks.connections.get(&connection.to_lowercase()) {
        Some(connection) => connection.state(),
        None => json!({ "status": DISCONNECTED, "description": "", "actionsRequired": "" }),
    }
}

/// Whatever aims at resources in the scope has nothing left to connect to.
pub(crate) fn disconnect_under(networks: &mut Networks, scope: &str) {
    networks.connections.retain(|_, c| !at_or_above(scope, &c.target));
}

/// What private endpoints can aim at in a resource.
pub(crate) struct Group {
    pub id: &'static str,
    member: &'static str,
    zone: &'static str,
}

const fn group(id: &'static str, member: &'static str, zone: &'static str) -> Group {
    Group { id, member, zone }
}

const VAULT: &[Group] = &[group("vault", "default", "privatelink.vaultcore.azure.net")];
const HSM: &[Group] = &[group("managedhsm", "default", "privatelink.managedhsm.azure.net")];
const STORAGE: &[Group] = &[
    group("blob", "blob", "privatelink.blob.core.windows.net"),
    group("table", "table", "privatelink.table.core.windows.net"),
    group("queue", "queue", "privatelink.queue.core.windows.net"),
    group("file", "file", "privatelink.file.core.windows.net"),
    group("web", "web", "privatelink.web.core.windows.net"),
    group("dfs", "dfs", "privatelink.dfs.core.windows.net"),
];

/// The groups of this type of resource, where the simulator knows them; an endpoint names one.
pub(crate) fn groups_of(kind: &str) -> &'static [Group] {
    match kind.to_lowercase().as_str() {
        "microsoft.keyvault/vaults" => VAULT,
        "microsoft.keyvault/managedhsms" => HSM,
        "microsoft.storage/storageaccounts" => STORAGE,
        _ => &[],
    }
}

fn is_storage(target: &str) -> bool {
    target.to_lowercase().contains("/microsoft.storage/storageaccounts/")
}

/// The rows that the resource itself shows under `privateEndpointConnections`.
pub(crate) fn rows_of(networks: &Networks, target: &str) -> Vec<Value> {
    of(networks, target).map(|c| json!({ "id": c.id, "properties": c.properties() })).collect()
}

fn of<'n>(networks: &'n Networks, target: &str) -> impl Iterator<Item = &'n Connection> {
    networks.connections.values().filter(move |c| c.target.eq_ignore_ascii_case(target))
}

/// Whether this is one of the two children that are answered here.
pub(crate) fn is_child(name: &str) -> bool {
    name.eq_ignore_ascii_case("privateEndpointConnections") || name.eq_ignore_ascii_case("privateLinkResources")
}

/// The resource whose connections are asked for.
struct Owner<'a> {
    id: String,
    /// `Microsoft.KeyVault/vaults`.
    kind: &'a str,
    location: String,
}

/// Answers for the resource of the id, where it is there: `found` is then its canonical id and region. Who may not ask is
/// told that first; `None` is for the provider to say that there is no such resource. `rest` starts with the child's type.
pub(crate) fn serve(
    asked: &Asked<'_>,
    w: &mut World,
    kind: &str,
    id: &str,
    found: Option<(String, String)>,
    rest: &[&str],
) -> Option<Outcome> {
    let there = found.is_some();
    let (id, location) = found.unwrap_or_else(|| (id.to_owned(), String::new()));
    let owner = Owner { id, kind, location };
    match answer(asked, w, &owner, rest) {
        Err(failure) if failure.status == 403 => Some(Err(failure)),
        answer => there.then_some(answer),
    }
}

fn answer(asked: &Asked<'_>, w: &mut World, owner: &Owner<'_>, rest: &[&str]) -> Outcome {
    let lower = rest.first().map(|c| c.to_lowercase()).unwrap_or_default();
    match (asked.call.method.as_str(), lower.as_str(), rest.get(1..).unwrap_or_default()) {
        ("GET", "privatelinkresources", []) => {
            require(asked, w, owner, "privateLinkResources/read")?;
            Ok(Reply::list(groups_of(owner.kind).iter().map(|g| link_resource(owner, g)).collect()))
        }
        ("GET", "privateendpointconnections", []) => {
            require(asked, w, owner, "privateEndpointConnections/read")?;
            Ok(Reply::list(of(&w.networks, &owner.id).map(|c| c.render(owner.kind)).collect()))
        }
        ("GET", "privateendpointconnections", [name]) => {
            require(asked, w, owner, "privateEndpointConnections/read")?;
            let found = w.networks.connections.get(&key(owner, name)).ok_or_else(|| lost(owner, name))?;
            Ok(Reply::ok(found.render(owner.kind)))
        }
        ("PUT", "privateendpointconnections", [name]) => put(asked, w, owner, name),
        ("DELETE", "privateendpointconnections", [name]) => delete(asked, w, owner, name),
        _ => Err(no_method(asked.call)),
    }
}

fn require(asked: &Asked<'_>, w: &World, owner: &Owner<'_>, verb: &str) -> Result<(), Failure> {
    check::require(w, &asked.caller, &format!("{}/{verb}", owner.kind), &owner.id, asked.call.now)
}

fn key(owner: &Owner<'_>, name: &str) -> String {
    format!("{}/privateEndpointConnections/{name}", owner.id).to_lowercase()
}

fn lost(owner: &Owner<'_>, name: &str) -> Failure {
    Failure::new(
        404,
        "ResourceNotFound",
        format!("The private endpoint connection '{name}' of '{}' was not found.", owner.id),
    )
}

fn link_resource(owner: &Owner<'_>, group: &Group) -> Value {
    json!({
        "id": format!("{}/privateLinkResources/{}", owner.id, group.id),
        "name": group.id,
        "type": format!("{}/privateLinkResources", owner.kind),
        "properties": {
            "groupId": group.id,
            "requiredMembers": [group.member],
            "requiredZoneNames": [group.zone],
        },
    })
}

/// Approves, rejects or disconnects. Connections are made by private endpoints only.
fn put(asked: &Asked<'_>, w: &mut World, owner: &Owner<'_>, name: &str) -> Outcome {
    require(asked, w, owner, "privateEndpointConnections/write")?;
    let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
    let state = &body["properties"]["privateLinkServiceConnectionState"];
    let found = w.networks.connections.get_mut(&key(owner, name)).ok_or_else(|| lost(owner, name))?;
    let before = found.clone();
    let take = |field: &mut String, value: &Value| {
        if let Some(text) = value.as_str() {
            text.clone_into(field);
        }
    };
    take(&mut found.status, &state["status"]);
    take(&mut found.description, &state["description"]);
    take(&mut found.actions_required, &state["actionsRequired"]);
    take(&mut found.actions_required, &state["actionRequired"]);
    if *found != before {
        asked.call.touch();
    }
    Ok(Reply::ok(found.render(owner.kind)))
}

/// Removes the connection from its target; the endpoint stays, disconnected.
fn delete(asked: &Asked<'_>, w: &mut World, owner: &Owner<'_>, name: &str) -> Outcome {
    require(asked, w, owner, "privateEndpointConnections/delete")?;
    if !w.networks.connections.contains_key(&key(owner, name)) {
        return Ok(Reply::empty(204));
    }
    if is_storage(&owner.id) {
        // Accounts do it at once, by their published operation.
        w.networks.connections.remove(&key(owner, name));
        asked.call.touch();
        return Ok(Reply::empty(200));
    }
    let op = operations::start(asked.shared, w, asked.call, &asked.caller.oid, Ending::Nothing);
    if !op.fails {
        w.networks.connections.remove(&key(owner, name));
        asked.call.touch();
    }
    let path = format!(
        "/subscriptions/{}/providers/Microsoft.KeyVault/locations/{}/operationResults/{}",
        asked.subscription, owner.location, op.id
    );
    Ok(operations::accepted(asked.shared, asked.call, &path))
}
