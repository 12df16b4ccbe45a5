//! Microsoft.ManagedIdentity: user-assigned identities and the service principals behind them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::arm::checks::{self, not_found};
use crate::arm::shape::{Member, Mode, Shape, TAGS, accept, may, must};
use crate::arm::{Asked, no_method};
use crate::entra::principals::Principal;
use crate::http::{Failure, Outcome, Reply};
use crate::propagation::{Due, reached};
use crate::rbac::assignments::at_or_above;
use crate::rbac::check;
use crate::state::World;

/// A user-assigned identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub id: String,
    pub name: String,
    pub group: String,
    pub location: String,
    pub tags: Map<String, Value>,
    pub principal_id: String,
    pub client_id: String,
    pub isolation: Option<String>,
    pub visible_from: Due,
}

pub(crate) const KIND: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";

const PROPERTIES: &[Member] = &[
    may("isolationScope", Shape::OneOf(&["None", "Regional"])),
    may("tenantId", Shape::ReadOnly),
    may("principalId", Shape::ReadOnly),
    may("clientId", Shape::ReadOnly),
];

const BODY: &[Member] = &[
    must("location", Shape::Text),
    may("tags", TAGS),
    may("properties", Shape::Object(PROPERTIES)),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

impl Identity {
    pub fn render(&self, tenant: &str) -> Value {
        let mut properties = json!({
            "tenantId": tenant,
            "principalId": self.principal_id,
            "clientId": self.client_id,
        });
        if let (Value::Object(map), Some(scope)) = (&mut properties, &self.isolation) {
            map.insert("isolationScope".into(), scope.clone().into());
        }
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
        (_, [name, child, more @ ..]) if child.eq_ignore_ascii_case("federatedIdentityCredentials") => {
            crate::arm::federated::serve(asked, group, name, more)
        }
        (_, [_, child, ..]) => Err(Failure::not_played(&format!("{KIND}/{child}"))),
        _ => Err(no_method(call)),
    }
}

fn id_of(asked: &Asked<'_>, group: &str, name: &str) -> String {
    format!("{}/providers/{KIND}/{name}", asked.group_id(group))
}

fn require(asked: &Asked<'_>, world: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(world, &asked.caller, &format!("{KIND}/{verb}"), scope, asked.call.now)
}

/// Of one group, or of the subscription.
pub(crate) fn list(asked: &Asked<'_>, group: Option<&str>) -> Outcome {
    let scope = match group {
        Some(group) => asked.group_id(group),
        None => format!("/subscriptions/{}", asked.subscription),
    };
    asked.shared.world(|w| {
        require(asked, w, "read", &scope)?;
        Ok(Reply::list(
            w.identities
                .values()
                .filter(|i| at_or_above(&scope, &i.id) && reached(i.visible_from, asked.call.now))
                .map(|i| i.render(&asked.shared.options.tenant_id))
                .collect(),
        ))
    })
}

fn get(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "read", &id)?;
        if !w.groups.contains_key(&asked.group_id(group).to_lowercase()) {
            return Err(checks::no_group(group));
        }
        w.identities
            .get(&id.to_lowercase())
            .filter(|i| reached(i.visible_from, asked.call.now))
            .map(|i| Reply::ok(i.render(&asked.shared.options.tenant_id)))
            .ok_or_else(|| not_found(KIND, name, group))
    })
}

fn put(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let now = asked.call.now;
    let id = id_of(asked, group, name);
    let tenant = &asked.shared.options.tenant_id;
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let group = checks::open_group(w, &asked.group_id(group), group)?;
        good_name(name)?;
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let location = checks::location(&body, KIND)?;
        let tags = checks::tags(&body)?;
        let isolation =
            body.get("properties").and_then(|p| p.get("isolationScope")).and_then(Value::as_str).map(str::to_owned);
        let key = id.to_lowercase();
        if let Some(have) = w.identities.get_mut(&key) {
            checks::same_location(&have.location, &location, name, KIND)?;
            if have.tags != tags || (isolation.is_some() && have.isolation != isolation) {
                have.tags = tags;
                have.isolation = isolation.or(have.isolation.take());
                asked.call.touch();
            }
            return Ok(Reply::ok(have.render(tenant)));
        }
        let id = format!("{}/providers/{KIND}/{name}", asked.group_id(&group));
        let (principal_id, client_id) = fresh_principal(w, &id, name, now);
        let visible_from = w.due(|p| &p.arm_read, now);
        let identity = Identity {
            id,
            name: name.to_owned(),
            group,
            location,
            tags,
            principal_id,
            client_id,
            isolation,
            visible_from,
        };
        let answer = identity.render(tenant);
        w.identities.insert(key, identity);
        asked.call.touch();
        Ok(Reply::json(201, answer))
    })
}

/// Makes the service principal behind a resource: object id and application id, new for each life of the resource, and
/// unknown to the directory until it is replicated.
pub(crate) fn fresh_principal(w: &mut World, id: &str, name: &str, now: time::OffsetDateTime) -> (String, String) {
    let generation = w.generations.entry(id.to_lowercase()).or_default();
    *generation += 1;
    let seed = format!("{}#{generation}", id.to_lowercase());
    let make = |what: &str| Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{what}:{seed}").as_bytes()).to_string();
    let (object_id, app_id) = (make("principal"), make("client"));
    let known_from = w.due(|p| &p.principal, now);
    let mut principal = Principal::new(&object_id, &app_id, name, known_from);
    principal.resource_id = Some(id.to_owned());
    w.principals.insert(object_id.clone(), principal);
    (object_id, app_id)
}

/// 3 to 128 of letters, digits, `-` and `_`, starting with a letter or digit (UNVERIFIED lower bound).
fn good_name(name: &str) -> Result<(), Failure> {
    let good = (3..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && name.as_bytes()[0].is_ascii_alphanumeric();
    if good {
        return Ok(());
    }
    Err(Failure::new(
        400,
        "InvalidResourceName",
        format!(
            "The resource name '{name}' is invalid: 3 to 128 letters, digits, hyphens and underscores, starting with a letter or digit."
        ),
    ))
}

fn patch(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "write", &id)?;
        let body = accept(BODY, asked.call.object()?, Mode::Partial)?;
        let tags = checks::tags(&body)?;
        let have = w.identities.get_mut(&id.to_lowercase()).ok_or_else(|| not_found(KIND, name, group))?;
        if body.contains_key("tags") && have.tags != tags {
            have.tags = tags;
            asked.call.touch();
        }
        Ok(Reply::ok(have.render(&asked.shared.options.tenant_id)))
    })
}

fn delete(asked: &Asked<'_>, group: &str, name: &str) -> Outcome {
    let id = id_of(asked, group, name);
    asked.shared.world(|w| {
        require(asked, w, "delete", &id)?;
        if !remove(w, &id.to_lowercase()) {
            return Ok(Reply::empty(204));
        }
        asked.call.touch();
        Ok(Reply::empty(200))
    })
}

/// Takes the identity and its principal away. Role assignments of it stay, with a principal that nothing resolves.
pub(crate) fn remove(w: &mut World, key: &str) -> bool {
    let Some(identity) = w.identities.remove(key) else {
        return false;
    };
    w.principals.remove(&identity.principal_id);
    true
}
