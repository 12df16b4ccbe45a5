//! Keys of vaults and managed HSMs as ARM resources: made where there is none of that name, read and listed with their
//! versions, never changed and never deleted. They are the data plane's keys, seen by ARM's rights and past the firewall.

use serde_json::{Map, Value, json};

use crate::arm::checks::{self, not_found};
use crate::arm::shape::{Member, Mode, Shape, TAGS, accept, may, must};
use crate::arm::{Asked, hsms, no_method, vaults};
use crate::http::{Failure, Outcome, Reply};
use crate::keyvault;
use crate::keyvault::crypto::Material;
use crate::keyvault::ensure;
use crate::keyvault::holder::{At, Holder, Zone};
use crate::keyvault::key_model::{Key, Rotation, Version, kid};
use crate::keyvault::keys::not_found as no_key;
use crate::keyvault::rotation_policy;
use crate::propagation::reached;
use crate::rbac::check;
use crate::state::{Shared, World};

/// Whose keys are asked for.
pub(crate) struct Owner<'a> {
    pub zone: Zone,
    pub group: &'a str,
    pub name: &'a str,
}

const ATTRIBUTES: &[Member] = &[
    may("enabled", Shape::Bool),
    may("nbf", Shape::Int),
    may("exp", Shape::Int),
    may("exportable", Shape::Bool),
    may("created", Shape::ReadOnly),
    may("updated", Shape::ReadOnly),
    may("recoveryLevel", Shape::ReadOnly),
];

const ROTATION: &[Member] = &[
    may(
        "attributes",
        Shape::Object(&[
            may("expiryTime", Shape::Text),
            may("created", Shape::ReadOnly),
            may("updated", Shape::ReadOnly),
        ]),
    ),
    may(
        "lifetimeActions",
        Shape::List(&Shape::Object(&[
            may("trigger", Shape::Object(&[may("timeAfterCreate", Shape::Text), may("timeBeforeExpiry", Shape::Text)])),
            may("action", Shape::Object(&[may("type", Shape::OneOf(&["rotate", "notify"]))])),
        ])),
    ),
];

const PROPERTIES: &[Member] = &[
    may("attributes", Shape::Object(ATTRIBUTES)),
    may("kty", Shape::Open(&["EC", "EC-HSM", "RSA", "RSA-HSM", "oct-HSM"])),
    may("keyOps", Shape::List(&Shape::Open(&["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]))),
    may("keySize", Shape::Int),
    may("curveName", Shape::Open(&["P-256", "P-384", "P-521", "P-256K"])),
    may("rotationPolicy", Shape::Object(ROTATION)),
    may("release_policy", Shape::Object(&[may("contentType", Shape::Text), may("data", Shape::Text)])),
    may("keyUri", Shape::ReadOnly),
    may("keyUriWithVersion", Shape::ReadOnly),
];

const BODY: &[Member] = &[
    must("properties", Shape::Object(PROPERTIES)),
    may("tags", TAGS),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("location", Shape::ReadOnly),
];

impl Owner<'_> {
    fn kind(&self) -> &'static str {
        match self.zone {
            Zone::Vault => vaults::KIND,
            Zone::Hsm => hsms::KIND,
        }
    }

    fn at(&self) -> At {
        At::new(self.zone, self.name)
    }

    fn id(&self, asked: &Asked<'_>) -> String {
        format!("{}/providers/{}/{}", asked.group_id(self.group), self.kind(), self.name)
    }
}

/// `rest` are the segments behind `keys`.
pub(crate) async fn serve(asked: &Asked<'_>, owner: &Owner<'_>, rest: &[&str]) -> Outcome {
    let is_versions = |word: &str| word.eq_ignore_ascii_case("versions");
    match (asked.call.method.as_str(), rest) {
        ("GET", []) => list(asked, owner),
        ("GET", [key]) => get(asked, owner, key, "keys/read", ""),
        ("PUT", [key]) => put(asked, owner, key).await,
        ("GET", [key, word]) if is_versions(word) => versions(asked, owner, key),
        ("GET", [key, word, version]) if is_versions(word) => get(asked, owner, key, "keys/versions/read", version),
        _ => Err(no_method(asked.call)),
    }
}

/// The holder behind the owner, for a caller with the right to it. A managed HSM shows nothing of its keys before its
/// activation (UNVERIFIED status and code).
fn enter<'w>(asked: &Asked<'_>, w: &'w World, owner: &Owner<'_>, verb: &str, key: &str) -> Result<&'w Holder, Failure> {
    let now = asked.call.now;
    let id = owner.id(asked);
    let scope = if key.is_empty() { id.clone() } else { format!("{id}/keys/{key}") };
    check::require(w, &asked.caller, &format!("{}/{verb}", owner.kind()), &scope, now)?;
    if !w.groups.contains_key(&asked.group_id(owner.group).to_lowercase()) {
        return Err(checks::no_group(owner.group));
    }
    let holder = w
        .holder(&owner.at())
        .filter(|h| h.id.eq_ignore_ascii_case(&id) && reached(h.visible_from, now))
        .ok_or_else(|| not_found(owner.kind(), owner.name, owner.group))?;
    if owner.zone == Zone::Hsm && !w.hsms.get(&owner.at().name).is_some_and(|h| h.active(now)) {
        return Err(Failure::new(
            400,
            "HsmNotActivated",
            format!("The managed HSM '{}' is not activated.", owner.name),
        ));
    }
    Ok(holder)
}

fn shown<'h>(asked: &Asked<'_>, holder: &'h Holder, name: &str) -> Result<&'h Key, Failure> {
    let key = holder.keys.get(&name.to_lowercase()).filter(|k| reached(k.visible_from, asked.call.now));
    key.ok_or_else(|| no_key(name))
}

fn list(asked: &Asked<'_>, owner: &Owner<'_>) -> Outcome {
    asked.shared.world(|w| {
        let holder = enter(asked, w, owner, "keys/read", "")?;
        let rows = holder.keys.values().filter(|k| reached(k.visible_from, asked.call.now));
        Ok(Reply::list(rows.map(|k| row(asked.shared, holder, owner.kind(), k, k.latest(), Depth::Key)).collect()))
    })
}

fn versions(asked: &Asked<'_>, owner: &Owner<'_>, key: &str) -> Outcome {
    asked.shared.world(|w| {
        let holder = enter(asked, w, owner, "keys/versions/read", key)?;
        let key = shown(asked, holder, key)?;
        let rows = key.versions.iter().map(|v| row(asked.shared, holder, owner.kind(), key, v, Depth::Version));
        Ok(Reply::list(rows.collect()))
    })
}

/// The key with its latest version, or one version.
fn get(asked: &Asked<'_>, owner: &Owner<'_>, key: &str, verb: &str, version: &str) -> Outcome {
    asked.shared.world(|w| {
        let holder = enter(asked, w, owner, verb, key)?;
        let found = shown(asked, holder, key)?;
        let latest = found.version(version).ok_or_else(|| no_key(&format!("{key}/{version}")))?;
        let depth = if version.is_empty() { Depth::Key } else { Depth::Version };
        Ok(Reply::ok(whole(asked.shared, holder, owner.kind(), found, latest, depth)))
    })
}

/// 200 for a key that was made and for one that was there, which stays as it is.
async fn put(asked: &Asked<'_>, owner: &Owner<'_>, key: &str) -> Outcome {
    let (body, rotation) = asked.shared.world(|w| {
        enter(asked, w, owner, "keys/write", key)?;
        read(asked, owner)
    })?;
    let data = keyvault::Asked { shared: asked.shared, call: asked.call, caller: asked.caller.clone(), at: owner.at() };
    ensure::ensure(&data, key, &body, rotation).await.map_err(passed_on)?;
    asked.shared.world(|w| {
        let holder = enter(asked, w, owner, "keys/write", key)?;
        let found = shown(asked, holder, key)?;
        Ok(Reply::ok(whole(asked.shared, holder, owner.kind(), found, found.latest(), Depth::Key)))
    })
}

/// What the data plane says comes with its inner code in front, as public logs of `ForbiddenByRbac` show it.
fn passed_on(mut failure: Failure) -> Failure {
    if let Some(inner) = failure.inner.take() {
        inner.clone_into(&mut failure.code);
    }
    failure
}

/// The body in the form of the data plane's `create`, and the rotation policy.
fn read(asked: &Asked<'_>, owner: &Owner<'_>) -> Result<(Map<String, Value>, Option<Rotation>), Failure> {
    let mut body = accept(BODY, asked.call.object()?, Mode::Whole)?;
    let tags = checks::tags(&body)?;
    let mut sent = match body.remove("properties") {
        Some(Value::Object(sent)) => sent,
        _ => Map::new(),
    };
    let exportable = sent.get("attributes").is_some_and(|a| a["exportable"] == true);
    if exportable || sent.contains_key("release_policy") {
        return Err(Failure::not_played("release policies"));
    }
    let mut out = Map::new();
    for (from, to) in [
        ("kty", "kty"),
        ("keySize", "key_size"),
        ("keyOps", "key_ops"),
        ("curveName", "crv"),
        ("attributes", "attributes"),
    ] {
        if let Some(value) = sent.remove(from) {
            out.insert(to.into(), value);
        }
    }
    if !tags.is_empty() {
        out.insert("tags".into(), tags.into());
    }
    let rotation = match sent.remove("rotationPolicy") {
        Some(Value::Object(policy)) => {
            let least = if owner.zone == Zone::Hsm { 28 } else { 7 };
            let (actions, expiry) = rotation_policy::read(&policy, least)?;
            let now = asked.call.now.unix_timestamp();
            Some(Rotation { actions, expiry, created: now, updated: now })
        }
        _ => None,
    };
    Ok((out, rotation))
}

/// Whether a key or one of its versions is shown.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Key,
    Version,
}

/// A row of a list: without the key's make. Lists of keys leave the version out.
fn row(shared: &Shared, holder: &Holder, kind: &str, key: &Key, version: &Version, depth: Depth) -> Value {
    let mut attributes = json!({
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": holder.recovery_level(),
        "exportable": false,
    });
    for (name, time) in [("nbf", version.nbf), ("exp", version.exp)] {
        if let Some(time) = time {
            attributes[name] = time.into();
        }
    }
    let mut properties = json!({
        "attributes": attributes,
        "keyUri": kid(holder, &shared.addresses, &key.name, ""),
    });
    let id = format!("{}/keys/{}", holder.id, key.name);
    let (id, name, kind) = match depth {
        Depth::Key => (id, &key.name, format!("{kind}/keys")),
        Depth::Version => (format!("{id}/versions/{}", version.id), &version.id, format!("{kind}/keys/versions")),
    };
    if depth == Depth::Version {
        properties["keyUriWithVersion"] = kid(holder, &shared.addresses, &key.name, &version.id).into();
    }
    let mut body = json!({ "id": id, "name": name, "type": kind, "tags": version.tags, "properties": properties });
    // In Azure's examples, keys of managed HSMs have no region.
    if holder.zone == Zone::Vault {
        body["location"] = holder.location.clone().into();
    }
    body
}

fn whole(shared: &Shared, holder: &Holder, kind: &str, key: &Key, version: &Version, depth: Depth) -> Value {
    let mut body = row(shared, holder, kind, key, version, depth);
    let properties = &mut body["properties"];
    properties["keyUriWithVersion"] = kid(holder, &shared.addresses, &key.name, &version.id).into();
    properties["kty"] = version.material.kty().into();
    properties["keyOps"] = json!(version.ops);
    match version.material.as_ref() {
        Material::Rsa { bits, .. } => properties["keySize"] = (*bits).into(),
        Material::Ec { curve, .. } => properties["curveName"] = curve.name().into(),
        Material::Oct { key } => properties["keySize"] = (key.len() * 8).into(),
    }
    if let Some(policy) = key.rotation.as_ref().filter(|_| depth == Depth::Key) {
        properties["rotationPolicy"] = render_policy(policy);
    }
    body
}

/// ARM spells the actions in lower case.
fn render_policy(policy: &Rotation) -> Value {
    let mut actions = policy.actions.clone();
    for action in actions.as_array_mut().into_iter().flatten() {
        if let Some(kind) = action["action"]["type"].as_str().map(str::to_lowercase) {
            action["action"]["type"] = kind.into();
        }
    }
    let mut attributes = json!({ "created": policy.created, "updated": policy.updated });
    if let Some(expiry) = &policy.expiry {
        attributes["expiryTime"] = expiry.clone().into();
    }
    json!({ "attributes": attributes, "lifetimeActions": actions })
}

/// The key or version of the id as its GET shows it, where there is one.
pub(crate) fn view(w: &World, shared: &Shared, id: &str) -> Option<Value> {
    let parts: Vec<&str> = id.split('/').skip(1).collect();
    let [_, _, _, _, _, namespace, kind, name, keys, key, versions @ ..] = parts.as_slice() else {
        return None;
    };
    if !namespace.eq_ignore_ascii_case("Microsoft.KeyVault") || !keys.eq_ignore_ascii_case("keys") {
        return None;
    }
    let (zone, kind) = match kind.to_lowercase().as_str() {
        "vaults" => (Zone::Vault, vaults::KIND),
        "managedhsms" => (Zone::Hsm, hsms::KIND),
        _ => return None,
    };
    let holder = w.holder(&At::new(zone, name))?;
    let found = holder.keys.get(&key.to_lowercase())?;
    let (version, depth) = match versions {
        [] => (found.latest(), Depth::Key),
        [word, version] if word.eq_ignore_ascii_case("versions") => (found.version(version)?, Depth::Version),
        _ => return None,
    };
    let shown = whole(shared, holder, kind, found, version, depth);
    shown["id"].as_str().is_some_and(|have| have.eq_ignore_ascii_case(id)).then_some(shown)
}
