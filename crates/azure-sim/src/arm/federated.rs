//! Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials: whose word is taken for an identity.
//! They live with the identity's principal; checking an assertion against them is `entra::assertions`.

use serde_json::{Value, json};

use crate::arm::checks::not_found;
use crate::arm::identities::KIND as IDENTITY;
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::{Asked, no_method};
use crate::entra::principals::Federated;
use crate::http::{Failure, Outcome, Reply};
use crate::rbac::check;
use crate::state::World;

const KIND: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";

/// The most that one identity takes. Source: "Important considerations and restrictions for federated identity credentials".
const MOST: usize = 20;

const PROPERTIES: &[Member] =
    &[must("issuer", Shape::Text), must("subject", Shape::Text), must("audiences", Shape::List(&Shape::Text))];

const BODY: &[Member] = &[
    must("properties", Shape::Object(PROPERTIES)),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

pub(crate) fn serve(asked: &Asked<'_>, group: &str, identity: &str, rest: &[&str]) -> Outcome {
    let id = format!("{}/providers/{IDENTITY}/{identity}", asked.group_id(group));
    match (asked.call.method.as_str(), rest) {
        ("GET", []) => list(asked, group, identity, &id),
        ("GET" | "HEAD", [name]) => get(asked, group, identity, &id, name),
        ("PUT", [name]) => put(asked, group, identity, &id, name),
        ("DELETE", [name]) => delete(asked, group, identity, &id, name),
        _ => Err(no_method(asked.call)),
    }
}

fn require(asked: &Asked<'_>, w: &World, verb: &str, scope: &str) -> Result<(), Failure> {
    check::require(w, &asked.caller, &format!("{KIND}/{verb}"), scope, asked.call.now)
}

/// The object id of the identity's principal.
fn principal(w: &World, group: &str, identity: &str, id: &str) -> Result<String, Failure> {
    let found = w.identities.get(&id.to_lowercase()).ok_or_else(|| not_found(IDENTITY, identity, group))?;
    Ok(found.principal_id.to_lowercase())
}

fn render(id: &str, credential: &Federated) -> Value {
    json!({
        "id": format!("{id}/federatedIdentityCredentials/{}", credential.name),
        "name": credential.name,
        "type": KIND,
        "properties": {
            "issuer": credential.issuer,
            "subject": credential.subject,
            "audiences": credential.audiences,
        },
    })
}

fn list(asked: &Asked<'_>, group: &str, identity: &str, id: &str) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "read", id)?;
        let oid = principal(w, group, identity, id)?;
        let of = w.principals.get(&oid).into_iter().flat_map(|p| p.federated.values());
        Ok(Reply::list(of.map(|f| render(id, f)).collect()))
    })
}

fn get(asked: &Asked<'_>, group: &str, identity: &str, id: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "read", id)?;
        let oid = principal(w, group, identity, id)?;
        let found = w.principals.get(&oid).and_then(|p| p.federated.get(&name.to_lowercase()));
        found.map(|f| Reply::ok(render(id, f))).ok_or_else(|| not_found(KIND, name, group))
    })
}

fn put(asked: &Asked<'_>, group: &str, identity: &str, id: &str, name: &str) -> Outcome {
    let now = asked.call.now;
    asked.shared.world(|w| {
        require(asked, w, "write", id)?;
        let oid = principal(w, group, identity, id)?;
        good_name(name)?;
        let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
        let mut credential = read(&body, name)?;
        credential.known_from = w.due(|p| &p.principal, now);
        let Some(principal) = w.principals.get_mut(&oid) else { return Err(not_found(IDENTITY, identity, group)) };
        let key = name.to_lowercase();
        let pair = |f: &Federated| (f.issuer.clone(), f.subject.clone());
        if principal.federated.iter().any(|(other, f)| *other != key && pair(f) == pair(&credential)) {
            // The code is UNVERIFIED; that the pair is unique within an identity is documented.
            return Err(Failure::new(
                409,
                "Conflict",
                "Issuer and subject combination already exists for this Managed Identity.",
            ));
        }
        let had = principal.federated.get(&key);
        if had.is_none() && principal.federated.len() >= MOST {
            // The code is UNVERIFIED; the number is documented.
            return Err(Failure::new(
                409,
                "FederatedIdentityCredentialsLimitReached",
                format!("The identity has {MOST} federated identity credentials, which is the most that it can have."),
            ));
        }
        let same = had.is_some_and(|f| pair(f) == pair(&credential) && f.audiences == credential.audiences);
        let status = if had.is_some() { 200 } else { 201 };
        let answer = render(id, &credential);
        if !same {
            principal.federated.insert(key, credential);
            asked.call.touch();
        }
        Ok(Reply::json(status, answer))
    })
}

/// The members in order, within their published lengths.
fn read(body: &serde_json::Map<String, Value>, name: &str) -> Result<Federated, Failure> {
    let properties = body.get("properties").cloned().unwrap_or_default();
    let text = |member: &str| properties[member].as_str().unwrap_or_default().to_owned();
    let wrong = |what: &str| Failure::bad_request(format!("The value of '{what}' is not valid."));
    let (issuer, subject) = (text("issuer"), text("subject"));
    if issuer.is_empty() || issuer.len() > 600 || url::Url::parse(&issuer).is_err() {
        return Err(wrong("issuer"));
    }
    if subject.is_empty() || subject.len() > 600 {
        return Err(wrong("subject"));
    }
    let audiences: Vec<String> = properties["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|a| a.as_str().map(str::to_owned))
        .filter(|a| !a.is_empty() && a.len() <= 600)
        .collect();
    // One, although it is a list. Source: the considerations page named above.
    if audiences.len() != 1 {
        return Err(wrong("audiences"));
    }
    Ok(Federated { name: name.to_owned(), issuer, subject, audiences, known_from: None })
}

/// 3 to 120 of letters, digits, `-` and `_`, starting with a letter or digit.
fn good_name(name: &str) -> Result<(), Failure> {
    let good = (3..=120).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && name.as_bytes()[0].is_ascii_alphanumeric();
    if good {
        return Ok(());
    }
    Err(Failure::bad_request(format!("The name '{name}' of the federated identity credential is not valid.")))
}

fn delete(asked: &Asked<'_>, group: &str, identity: &str, id: &str, name: &str) -> Outcome {
    asked.shared.world(|w| {
        require(asked, w, "delete", id)?;
        let oid = principal(w, group, identity, id)?;
        let gone = w.principals.get_mut(&oid).and_then(|p| p.federated.remove(&name.to_lowercase()));
        if gone.is_none() {
            return Ok(Reply::empty(204));
        }
        asked.call.touch();
        Ok(Reply::empty(200))
    })
}
