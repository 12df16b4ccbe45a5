//! Import: a key that the caller brings becomes a key here, or a new version of one.

use std::sync::Arc;

use serde_json::Value;

use crate::http::{Failure, Outcome};
use crate::keyvault::access::pass;
use crate::keyvault::holder::Holder;
use crate::keyvault::jwk::Parts;
use crate::keyvault::key_body::{self, bad};
use crate::keyvault::keys::{Wanted, add_version, room};
use crate::keyvault::{Asked, key_policy};

struct Brought {
    parts: Parts,
    hsm: bool,
    wanted: Wanted,
}

/// `PUT /keys/{name}`. Existing names get a new version, as by `create`.
pub(crate) async fn import(asked: &Asked<'_>, name: &str) -> Outcome {
    let Brought { parts, hsm, wanted } = asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/import/action", Some(name), "import")?;
        let brought = read(asked, vault, name)?;
        room(asked, vault, name)?;
        let mut as_create = brought.parts.as_create(brought.hsm);
        if let Some(attributes) = key_body::object(asked.call, false)?.remove("attributes") {
            as_create.insert("attributes".into(), attributes);
        }
        key_policy::require(w, vault, name, &as_create, asked.call.now)?;
        Ok::<_, Failure>(brought)
    })?;
    let material = tokio::task::spawn_blocking(move || parts.material(hsm))
        .await
        .map_err(|_| Failure::new(500, "InternalServerError", "The import did not end."))?
        .map_err(|_| bad("The members of the key do not make a valid key of its type."))?;
    asked.shared.world(|w| {
        let vault = pass(asked, w, "keys/import/action", Some(name), "import")?;
        room(asked, vault, name)?;
        add_version(asked, w, name, Arc::new(material), wanted)
    })
}

fn read(asked: &Asked<'_>, vault: &Holder, name: &str) -> Result<Brought, Failure> {
    key_body::good_name(name)?;
    let body = key_body::object(asked.call, false)?;
    // The published name is `Hsm`; some clients write it small.
    key_body::only(&body, &["key", "Hsm", "hsm", "attributes", "tags", "release_policy"])?;
    if body.get("release_policy").is_some_and(|p| !p.is_null()) {
        return Err(Failure::not_played("release policies"));
    }
    let jwk = match body.get("key") {
        Some(Value::Object(jwk)) => jwk,
        None | Some(Value::Null) => return Err(bad("Property 'key' is required.")),
        Some(_) => return Err(bad("Property 'key' must be an object.")),
    };
    let asked_for = match body.get("Hsm").or_else(|| body.get("hsm")) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(hsm)) => *hsm,
        Some(_) => return Err(bad("Property 'Hsm' must be a boolean.")),
    };
    let parts = Parts::read(jwk)?;
    let hsm = asked_for || jwk.get("kty").and_then(Value::as_str).is_some_and(|kty| kty.ends_with("-HSM"));
    let kind = key_body::kind(&parts.as_create(hsm), vault)?;
    Ok(Brought {
        wanted: Wanted {
            ops: key_body::ops(jwk, &kind)?,
            attributes: key_body::attributes(&body)?,
            tags: key_body::tags(&body)?.unwrap_or_default(),
            kind,
        },
        parts,
        hsm,
    })
}
