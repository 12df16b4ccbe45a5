//! Microsoft.Storage/storageAccounts: create (202 and a location to poll), read, change, delete. The encryption setting is
//! `storage_cmk`, the key checks are `crate::cmk`, what hangs under an account is `storage_children`, its data plane is
//! `crate::storage`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::checks::{self, not_found};
use crate::arm::identity_block::{self, IdentityBlock, Wanted};
use crate::arm::network::{connections, rules};
use crate::arm::operations::{self, Ending};
use crate::arm::shape::{Mode, accept};
use crate::arm::storage_body::BODY;
use crate::arm::storage_children::{blob_service, file_service, keys};
use crate::arm::storage_cmk::{Encryption, failure};
use crate::arm::storage_custody::{self as custody, Custody, Present};
use crate::arm::{Asked, no_method};
use crate::cmk::{self, KeyUse, Usable};
use crate::http::{Failure, Outcome, Reply, rfc3339};
use crate::propagation::{Due, reached};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::{Shared, World};
use crate::storage::Storehouse;

/// A storage account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub id: String,
    pub name: String,
    pub group: String,
    pub location: String,
    pub tags: Map<String, Value>,
    pub sku: String,
    pub kind: String,
    pub identity: IdentityBlock,
    /// Writable properties other than the encryption, as sent, over the defaults.
    pub properties: Map<String, Value>,
    pub encryption: Encryption,
    pub created: OffsetDateTime,
    /// When the creating operation ends; reads show nothing before. `None`: never.
    pub ready_from: Due,
}

pub(crate) const KIND: &str = "Microsoft.Storage/storageAccounts";

impl Account {
    pub fn ready(&self, now: OffsetDateTime) -> bool {
        reached(self.ready_from, now)
    }

    pub fn render(&self, world: &World, shared: &Shared, now: OffsetDateTime) -> Value {
        let names = &shared.addresses;
        let endpoint = |service: &str| names.url(&format!("{}.{service}", self.name)) + "/";
        let mut properties = self.properties.clone();
        properties.insert("encryption".into(), self.encryption.render(self.created, world.hold(&self.id)));
        let state = if self.ready(now) { "Succeeded" } else { "Creating" };
        properties.insert("provisioningState".into(), state.into());
        properties.insert("creationTime".into(), rfc3339(self.created).into());
        properties.insert("primaryLocation".into(), self.location.clone().into());
        properties.insert("statusOfPrimary".into(), "available".into());
        let connections = connections::rows_of(&world.networks, &self.id);
        properties.insert("privateEndpointConnections".into(), connections.into());
        let endpoints: Map<String, Value> = ["dfs", "web", "blob", "queue", "table", "file"]
            .iter()
            .map(|s| ((*s).to_owned(), endpoint(s).into()))
            .collect();
        properties.insert("primaryEndpoints".into(), endpoints.into());
        let tier = self.sku.split('_').next().unwrap_or_default();
        let mut body = json!({
            "sku": { "name": self.sku, "tier": tier },
            "kind": self.kind,
            "id": self.id,
            "name": self.name,
            "type": KIND,
            "location": self.location,
            "tags": self.tags,
            "properties": properties,
        });
        if let Some(identity) = self.identity.render(world, &shared.options.tenant_id) {
            body["identity"] = identity;
        }
        body
    }
}

pub(crate) async fn serve(asked: &Asked<'_>, group: &str, rest: &[&str]) -> Outcome {
    let call = asked.call;
    let child: Vec<String> = rest.iter().skip(1).map(|s| s.to_lowercase()).collect();
    let child: Vec<&str> = child.iter().map(String::as_str).collect();
    match (call.method.as_str(), rest, child.as_slice()) {
        ("GET", [], _) => list(asked, Some(group)),
        ("GET", [name], _) => get(asked, group, name, "read", |w, a| a.render(w, asked.shared, call.now)),
        ("PUT" | "PATCH", [name], _) => write(asked, group, name).await,
        ("DELETE", [name], _) => delete(asked, group, name),
        ("POST", [name, ..], ["listkeys"]) => get(asked, group, name, "listkeys/action", keys),
        ("GET", [name, ..], ["blobservices", "default"]) => {
            get(asked, group, name, "blobServices/read", |_, a| blob_service(a))
        }
        ("GET", [name, ..], ["fileservices", "default"]) => {
            get(asked, group, name, "fileServices/read", |_, a| file_service(a))
        }
        (_, [name, rest @ ..], [child, ..]) if connections::is_child(child) => connections_of(asked, group, name, rest),
        (_, _, [child, ..]) => Err(Failure::not_played(&format!("{KIND}/{child}"))),
        _ => Err(no_method(call)),
    }
}

fn id_of(asked: &Asked<'_>, group: &str, name: &str) -> String {
    format!("{}/providers/{KIND}/{name}", asked.group_id(group))
}

fn require(asked: &Asked<'_>, w: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(w, &asked.caller, &format!("{KIND}/{verb}"), scope, asked.call.now)
}

fn at<'w>(w: &'w World, id: &str) -> Option<&'w Account> {
    let name = id.rsplit('/').next()?.to_lowercase();
    w.accounts.get(&name).filter(|a| a.id.eq_ignore_ascii_case(id))
}

/// Of one group, or of the subscription.
pub(crate) fn list(asked: &Asked<'_>, group: Option<&str>) -> Outcome {
    let now = asked.call.now;
    let scope = match group {
        Some(group) => asked.group_id(group),
        None => format!("/subscriptions/{}", asked.subscription),
    };
    asked.shared.world(|w| {
        require(asked, w, "read", &scope)?;
        Ok(Reply::list(
            w.accounts
                .values()
                .filter(|a| at_or_above(&scope, &a.id) && a.ready(now))
                .map(|a| a.render(w, asked.shared, now))
                .collect(),
        ))
    })
}

fn get(asked: &Asked<'_>, group: &str, name: &str, verb: &str, show: impl Fn(&World, &Account) -> Value) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, verb, &id)?;
        if !w.groups.contains_key(&asked.group_id(group).to_lowercase()) {
            return Err(checks::no_group(group));
        }
        at(w, &id)
            .filter(|a| a.ready(asked.call.now))
            .map(|a| Reply::ok(show(w, a)))
            .ok_or_else(|| not_found(KIND, name, group))
    })
}

fn connections_of(asked: &Asked<'_>, group: &str, name: &str, rest: &[&str]) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        let owner = at(w, &id).filter(|a| a.ready(asked.call.now)).map(|a| (a.id.clone(), a.location.clone()));
        connections::serve(asked, w, KIND, &id, owner, rest).unwrap_or_else(|| Err(not_found(KIND, name, group)))
    })
}

/// What a write will do once the key check has passed.
struct Draft {
    account: Account,
    wanted: Option<Wanted>,
    found: Option<(Usable, KeyUse)>,
    present: Present,
}

/// PUT and PATCH. The key is checked before anything is accepted, so a refused create leaves no account behind; the
/// wrapping itself runs between two looks at the world, and the second look decides.
async fn write(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let first = asked.shared.world(|w| draft(asked, w, group, name))?;
    let present = first.present;
    let custody = custody::prepare(asked, &first.account, first.found, present).await.map_err(failure)?;
    asked.shared.world(|w| {
        let draft = draft(asked, w, group, name)?;
        // The data key was taken from where it lay at the first look.
        if draft.present != present {
            return Err(busy(name));
        }
        commit(asked, w, draft, custody)
    })
}

/// Code UNVERIFIED.
fn busy(name: &str) -> Failure {
    Failure::new(
        409,
        "StorageAccountOperationInProgress",
        format!("An operation is currently performing on the storage account {name} that requires exclusive access."),
    )
}

fn draft(asked: &Asked<'_>, w: &mut World, group: &str, name: &str) -> Result<Draft, Failure> {
    let now = asked.call.now;
    let id = id_of(asked, group, name);
    require(asked, w, "write", &id)?;
    let partial = asked.call.is("PATCH");
    let group = checks::open_group(w, &asked.group_id(group), group)?;
    if !good_name(name) {
        return Err(Failure::new(
            400,
            "AccountNameInvalid",
            format!(
                "{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only."
            ),
        ));
    }
    let mode = if partial { Mode::Partial } else { Mode::Whole };
    let body = accept(BODY, asked.call.object()?, mode)?;
    let existing = at(w, &id).cloned();
    if existing.as_ref().is_some_and(|a| !a.ready(now)) {
        return Err(busy(name));
    }
    let new = existing.is_none();
    let mut account = match existing {
        Some(account) => account,
        None if partial => return Err(not_found(KIND, name, &group)),
        None => blank(asked, w, &group, name, &body)?,
    };
    apply(&mut account, &body, partial)?;
    if let Some(properties) = body.get("properties").and_then(Value::as_object) {
        rules::check(asked, w, &rules::ACCOUNTS, properties, &id)?;
    }
    let mut wanted = identity_block::wanted(&body, &account.identity, partial)?;
    let mut identities = account.identity.clone();
    if let Some(wanted) = &mut wanted {
        let action = format!("{KIND}/write");
        // The ARM type `Identity` of Microsoft.Storage permits one in its map. The code of the refusal is UNVERIFIED.
        if wanted.user.len() > 1 {
            return Err(Failure::new(
                400,
                "InvalidIdentityRequest",
                "A storage account takes one user-assigned identity in 'identity.userAssignedIdentities'.",
            ));
        }
        identity_block::assignable(asked, w, wanted, &account.identity, &action, &account.id)?;
        identities.user.clone_from(&wanted.user);
        if !wanted.system {
            identities.system = None;
        }
    }
    if let Some(sent) = body.get("properties").and_then(|p| p["encryption"].as_object()) {
        account.encryption = account.encryption.merged(sent);
    }
    let found = match account.encryption.key_use(w, &identities)? {
        None => None,
        // An untouched setting is not looked at again: a change of tags works also while the key is away.
        Some(_) if !new && untouched(&body) => None,
        Some(wanted) => Some((cmk::check(w, &asked.shared.addresses, &wanted, now).map_err(failure)?, wanted)),
    };
    let present = match w.hold(&account.id) {
        _ if new => Present::New,
        Some(_) => Present::Held,
        None => Present::Platform,
    };
    Ok(Draft { account, wanted, found, present })
}

fn untouched(body: &Map<String, Value>) -> bool {
    !body.contains_key("identity") && body.get("properties").is_none_or(|p| p.get("encryption").is_none())
}

/// A new account with Azure's defaults. The name must be free in the whole cloud.
fn blank(asked: &Asked<'_>, w: &World, group: &str, name: &str, body: &Map<String, Value>) -> Result<Account, Failure> {
    if w.accounts.contains_key(name) {
        return Err(Failure::new(
            409,
            "StorageAccountAlreadyTaken",
            format!("The storage account named {name} is already taken."),
        ));
    }
    let properties = json!({
        "minimumTlsVersion": "TLS1_0",
        "allowBlobPublicAccess": false,
        "supportsHttpsTrafficOnly": true,
        "accessTier": "Hot",
        "networkAcls": { "bypass": "AzureServices", "virtualNetworkRules": [], "ipRules": [], "defaultAction": "Allow" },
    });
    let Value::Object(properties) = properties else {
        return Err(Failure::new(500, "InternalServerError", "The defaults are an object."));
    };
    Ok(Account {
        id: id_of(asked, group, name),
        name: name.to_owned(),
        group: group.to_owned(),
        location: checks::location(body, KIND)?,
        tags: Map::new(),
        sku: String::new(),
        kind: String::new(),
        identity: IdentityBlock::default(),
        properties,
        encryption: Encryption::default(),
        created: asked.call.now,
        ready_from: None,
    })
}

/// Applies everything but identity and encryption.
fn apply(account: &mut Account, body: &Map<String, Value>, partial: bool) -> Result<(), Failure> {
    if body.contains_key("location") {
        let location = checks::location(body, KIND)?;
        checks::same_location(&account.location, &location, &account.name, KIND)?;
    }
    if !partial || body.contains_key("tags") {
        account.tags = checks::tags(body)?;
    }
    if let Some(kind) = body.get("kind").and_then(Value::as_str) {
        let upgrade = account.kind == "Storage" && kind == "StorageV2";
        if !account.kind.is_empty() && account.kind != kind && !upgrade {
            return Err(Failure::new(
                409,
                "StorageAccountKindChangeNotAllowed",
                format!("The kind of a storage account cannot be changed from {} to {kind}.", account.kind),
            ));
        }
        kind.clone_into(&mut account.kind);
    }
    if let Some(sku) = body.get("sku").and_then(|s| s["name"].as_str()) {
        sku.clone_into(&mut account.sku);
    }
    for (name, value) in body.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if name != "encryption" && !value.is_null() {
            account.properties.insert(name.clone(), value.clone());
        }
    }
    Ok(())
}

fn commit(asked: &Asked<'_>, w: &mut World, draft: Draft, custody: Custody) -> Outcome {
    let now = asked.call.now;
    let Draft { mut account, wanted, present, .. } = draft;
    let key = account.name.clone();
    if let Some(wanted) = wanted {
        let (id, name) = (account.id.clone(), account.name.clone());
        account.identity.apply(w, wanted, &id, &name, now);
    }
    if present != Present::New {
        let changed = custody::settle(w, &account, custody, now);
        if changed || w.accounts.get(&key) != Some(&account) {
            asked.call.touch();
        }
        let answer = account.render(w, asked.shared, now);
        w.accounts.insert(key, account);
        return Ok(Reply::ok(answer));
    }
    let op = operations::start(asked.shared, w, asked.call, &asked.caller.oid, Ending::Account(key.clone()));
    let path = format!(
        "/subscriptions/{}/providers/Microsoft.Storage/locations/{}/asyncoperations/{}?monitor=true",
        asked.subscription, account.location, op.id
    );
    if !op.fails {
        account.ready_from = op.ends;
        w.storehouses.insert(account.name.clone(), Storehouse::on_platform());
        custody::settle(w, &account, custody, now);
        w.accounts.insert(key, account);
        asked.call.touch();
    }
    Ok(operations::accepted(asked.shared, asked.call, &path))
}

fn delete(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "delete", &id)?;
        let Some(account) = at(w, &id).cloned() else {
            return Ok(Reply::empty(204));
        };
        if let Some(oid) = &account.identity.system {
            w.principals.remove(oid);
        }
        w.accounts.remove(&account.name);
        w.storehouses.remove(&account.name);
        w.drop_hold(&account.id);
        connections::disconnect_under(&mut w.networks, &account.id);
        crate::arm::generic::remove_under(w, &account.id, asked.call.now);
        w.drop_grants(&account.id);
        asked.call.touch();
        Ok(Reply::empty(200))
    })
}

/// 3 to 24 lower-case letters and digits.
pub(crate) fn good_name(name: &str) -> bool {
    (3..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
