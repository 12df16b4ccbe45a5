//! Keys and their versions: create, read, list, update, rotate.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::access::pass;
use crate::keyvault::crypto::Material;
use crate::keyvault::holder::{Holder, Zone};
use crate::keyvault::key_body::{self, Attributes, Kind, bad};
use crate::keyvault::key_model::{Key, Version};
use crate::keyvault::{Asked, key_policy, pool, rotation_policy};
use crate::propagation::reached;
use crate::state::{Shared, World};

/// Versions of one key beyond this are refused; a simulator's bound on memory, not Azure's.
const MOST_VERSIONS: usize = 500;

/// The same in a managed HSM, by Azure's own limit.
const MOST_HSM_VERSIONS: usize = 100;

/// 404 of a key or of a version.
pub(crate) fn not_found(name: &str) -> Failure {
    Failure::new(
        404,
        "KeyNotFound",
        format!(
            "A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"
        ),
    )
}

/// The key as reads see it.
pub(crate) fn shown<'v>(asked: &Asked<'_>, vault: &'v Holder, name: &str) -> Result<&'v Key, Failure> {
    vault
        .keys
        .get(&name.to_lowercase())
        .filter(|k| reached(k.visible_from, asked.call.now))
        .ok_or_else(|| not_found(name))
}

pub(crate) fn get(asked: &Asked<'_>, name: &str, version: &str) -> Outcome {
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/read", Some(name), "get")?;
        let key = shown(asked, vault, name)?;
        let found = key.version(version).ok_or_else(|| not_found(&format!("{name}/{version}")))?;
        Ok(Reply::ok(found.bundle(&key.name, vault, &asked.shared.addresses)))
    })
}

/// A page of rows. The token is the position in the sorted list.
pub(crate) fn page(asked: &Asked<'_>, rows: Vec<Value>) -> Outcome {
    let size = match asked.call.param("maxresults") {
        None => 25,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|n| (1..=25).contains(n))
            .ok_or_else(|| bad("Query parameter 'maxresults' must be between 1 and 25."))?,
    };
    let start = asked
        .call
        .param("$skiptoken")
        .map_or(Ok(0), |t| t.parse::<usize>().map_err(|_| bad("Query parameter '$skiptoken' is invalid.")))?;
    let next = start.saturating_add(size);
    let link = (next < rows.len()).then(|| {
        format!(
            "{}{}?api-version={}&$skiptoken={next}&maxresults={size}",
            asked.call.origin,
            asked.call.path,
            asked.call.param("api-version").unwrap_or_default()
        )
    });
    let rows: Vec<Value> = rows.into_iter().skip(start).take(size).collect();
    Ok(Reply::ok(json!({ "value": rows, "nextLink": link })))
}

pub(crate) fn list(asked: &Asked<'_>) -> Outcome {
    let rows = asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/read", None, "list")?;
        Ok(vault
            .keys
            .values()
            .filter(|k| reached(k.visible_from, asked.call.now))
            .map(|k| k.latest().item(&k.name, vault, &asked.shared.addresses, false))
            .collect())
    })?;
    page(asked, rows)
}

pub(crate) fn versions(asked: &Asked<'_>, name: &str) -> Outcome {
    let rows = asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/read", Some(name), "list")?;
        let key = shown(asked, vault, name)?;
        let mut sorted: Vec<&Version> = key.versions.iter().collect();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(sorted.into_iter().map(|v| v.item(&key.name, vault, &asked.shared.addresses, true)).collect())
    })?;
    page(asked, rows)
}

/// What a new version is to be.
pub(crate) struct Wanted {
    pub kind: Kind,
    pub ops: Vec<String>,
    pub attributes: Attributes,
    pub tags: Map<String, Value>,
}

/// Creates a key, or a new version of one that exists: the same call, and never idempotent. The material is made between
/// two looks at the world, so nothing waits on it.
pub(crate) async fn create(asked: &Asked<'_>, name: &str) -> Outcome {
    let wanted = asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/create/action", Some(name), "create")?;
        let wanted = read_create(asked, vault, name)?;
        room(asked, vault, name)?;
        key_policy::require(w, vault, name, &key_body::object(asked.call, false)?, asked.call.now)?;
        Ok::<_, Failure>(wanted)
    })?;
    let material = make(asked.shared, &wanted.kind).await?;
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/create/action", Some(name), "create")?;
        room(asked, vault, name)?;
        add_version(asked, w, name, material, wanted)
    })
}

fn read_create(asked: &Asked<'_>, vault: &Holder, name: &str) -> Result<Wanted, Failure> {
    wanted(vault, name, &key_body::object(asked.call, false)?)
}

/// Reads the body of a `create`.
pub(crate) fn wanted(vault: &Holder, name: &str, body: &Map<String, Value>) -> Result<Wanted, Failure> {
    key_body::good_name(name)?;
    key_body::only(
        body,
        &["kty", "key_size", "key_ops", "attributes", "tags", "crv", "public_exponent", "release_policy"],
    )?;
    if body.get("release_policy").is_some_and(|p| !p.is_null()) {
        return Err(Failure::not_played("release policies"));
    }
    if let Some(e) = body.get("public_exponent").filter(|e| !e.is_null())
        && e.as_u64() != Some(65537)
    {
        return Err(Failure::not_played("public exponents other than 65537"));
    }
    let kind = key_body::kind(body, vault)?;
    Ok(Wanted {
        ops: key_body::ops(body, &kind)?,
        attributes: key_body::attributes(body)?,
        tags: key_body::tags(body)?.unwrap_or_default(),
        kind,
    })
}

/// Whether the name can take a new version: not soft-deleted, not being recovered, not too many.
pub(crate) fn room(asked: &Asked<'_>, vault: &Holder, name: &str) -> Result<(), Failure> {
    let now = asked.call.now;
    let key = name.to_lowercase();
    if let Some(deleted) = vault.deleted_keys.get(&key) {
        let (inner, text) = if reached(deleted.visible_from, now) {
            (
                "ObjectIsDeletedButRecoverable",
                format!(
                    "Key {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the key can only be recovered or purged."
                ),
            )
        } else {
            (
                "ObjectIsBeingDeleted",
                format!("Key {name} is currently being deleted and cannot be re-created; retry later."),
            )
        };
        return Err(Failure::new(409, "Conflict", text).inner(inner));
    }
    match vault.keys.get(&key) {
        Some(have) if !reached(have.visible_from, now) => Err(Failure::new(
            409,
            "Conflict",
            format!("Key {name} is currently being recovered and cannot be re-created; retry later."),
        )
        .inner("ObjectIsBeingRecovered")),
        // Status and code UNVERIFIED.
        Some(have) if vault.zone == Zone::Hsm && full(vault.zone, have) => {
            Err(Failure::new(400, "BadParameter", "A managed HSM keeps at most 100 versions of a key."))
        }
        Some(have) if full(vault.zone, have) => {
            Err(Failure::new(400, "BadParameter", "The simulator keeps at most 500 versions of a key."))
        }
        _ => Ok(()),
    }
}

/// Whether the key takes no more versions.
pub(crate) fn full(zone: Zone, key: &Key) -> bool {
    key.versions.len() >= if zone == Zone::Hsm { MOST_HSM_VERSIONS } else { MOST_VERSIONS }
}

/// New material of the kind.
pub(crate) async fn make(shared: &Shared, kind: &Kind) -> Result<Arc<Material>, Failure> {
    let made = match *kind {
        Kind::Rsa { bits, hsm } => pool::rsa(bits, hsm, shared.options.fast_keys).await,
        Kind::Ec { curve, hsm } => Material::ec(curve, hsm).map(Arc::new),
        Kind::Oct { bits } => Material::oct(bits).map(Arc::new),
    };
    made.map_err(|_| Failure::new(500, "InternalServerError", "The key could not be generated."))
}

/// Adds the version to the key, which it makes where there is none, and answers with it.
pub(crate) fn add_version(
    asked: &Asked<'_>,
    w: &mut World,
    name: &str,
    material: Arc<Material>,
    wanted: Wanted,
) -> Outcome {
    let now = asked.call.now;
    let id = w.guid().simple().to_string();
    let vault = w.holder_mut(&asked.at).ok_or_else(Failure::no_such_host)?;
    let key = vault.keys.entry(name.to_lowercase()).or_insert_with(|| Key {
        name: name.to_owned(),
        versions: Vec::new(),
        rotation: None,
        visible_from: Some(now),
    });
    key.versions.push(Version {
        id,
        material,
        ops: wanted.ops,
        enabled: wanted.attributes.enabled.unwrap_or(true),
        nbf: wanted.attributes.nbf,
        exp: wanted.attributes.exp,
        created: now.unix_timestamp(),
        updated: now.unix_timestamp(),
        tags: wanted.tags,
    });
    asked.call.touch();
    answer(asked, w, name)
}

fn answer(asked: &Asked<'_>, w: &World, name: &str) -> Outcome {
    let vault = w.holder(&asked.at).ok_or_else(Failure::no_such_host)?;
    let key = vault.keys.get(&name.to_lowercase()).ok_or_else(|| not_found(name))?;
    Ok(Reply::ok(key.latest().bundle(&key.name, vault, &asked.shared.addresses)))
}

/// A new version like the latest, with the expiry that the rotation policy gives it.
pub(crate) async fn rotate(asked: &Asked<'_>, name: &str) -> Outcome {
    let plan = |w: &World| {
        let vault = pass(asked, w, "keys/rotate/action", Some(name), "rotate")?;
        let key = shown(asked, vault, name)?;
        room(asked, vault, name)?;
        let from = key.latest();
        Ok::<_, Failure>(Wanted {
            kind: Kind::of(&from.material),
            ops: from.ops.clone(),
            attributes: Attributes {
                enabled: Some(true),
                nbf: None,
                exp: rotation_policy::expiry_of_new(key, asked.call.now),
            },
            tags: from.tags.clone(),
        })
    };
    let wanted = asked.shared.world(|w| plan(w))?;
    let material = make(asked.shared, &wanted.kind).await?;
    asked.shared.world(|w| {
        let wanted = plan(w)?;
        add_version(asked, w, name, material, wanted)
    })
}

/// Changes attributes, operations and tags of a version; without one, of the latest.
pub(crate) fn update(asked: &Asked<'_>, name: &str, version: &str) -> Outcome {
    let now = asked.call.now;
    let addresses = &asked.shared.addresses;
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/update/action", Some(name), "update")?;
        shown(asked, vault, name)?;
        let body = key_body::object(asked.call, false)?;
        key_body::only(&body, &["key_ops", "attributes", "tags", "release_policy"])?;
        let attributes = key_body::attributes(&body)?;
        let tags = key_body::tags(&body)?;
        let vault = w.holder_mut(&asked.at).ok_or_else(Failure::no_such_host)?;
        let key = vault.keys.get_mut(&name.to_lowercase()).ok_or_else(|| not_found(name))?;
        let spelled = key.name.clone();
        let found = key.version_mut(version).ok_or_else(|| not_found(&format!("{name}/{version}")))?;
        let mut next = found.clone();
        if body.get("key_ops").is_some_and(|o| !o.is_null()) {
            next.ops = key_body::ops(&body, &Kind::of(&next.material))?;
        }
        next.enabled = attributes.enabled.unwrap_or(next.enabled);
        next.nbf = attributes.nbf.or(next.nbf);
        next.exp = attributes.exp.or(next.exp);
        next.tags = tags.unwrap_or(next.tags);
        next.updated = now.unix_timestamp();
        *found = next.clone();
        asked.call.touch();
        Ok(Reply::ok(next.bundle(&spelled, vault, addresses)))
    })
}
