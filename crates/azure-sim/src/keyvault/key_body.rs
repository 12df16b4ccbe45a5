//! Reading the bodies of key requests: names, types, sizes, operations, attributes. Key Vault calls everything wrong in
//! them `BadParameter`.

use serde_json::{Map, Value};

use crate::http::{Call, Failure};
use crate::keyvault::crypto::{Curve, Material};
use crate::keyvault::holder::{Holder, Zone};

/// What a new key or version is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Rsa { bits: u32, hsm: bool },
    Ec { curve: Curve, hsm: bool },
    Oct { bits: u32 },
}

/// Attributes that a caller may set; absent ones are `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attributes {
    pub enabled: Option<bool>,
    pub nbf: Option<i64>,
    pub exp: Option<i64>,
}

pub(crate) fn bad(message: impl Into<String>) -> Failure {
    Failure::new(400, "BadParameter", message)
}

/// The body as an object; an empty one where that is allowed.
pub(crate) fn object(call: &Call, may_be_empty: bool) -> Result<Map<String, Value>, Failure> {
    if may_be_empty && call.body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(bad("The request body is not a valid JSON object.")),
    }
}

/// Refuses members that the operation does not have.
pub(crate) fn only(body: &Map<String, Value>, known: &[&str]) -> Result<(), Failure> {
    match body.keys().find(|k| !known.contains(&k.as_str())) {
        None => Ok(()),
        Some(k) => Err(bad(format!("Property '{k}' is not known."))),
    }
}

/// 1 to 127 letters, digits and hyphens.
pub(crate) fn good_name(name: &str) -> Result<(), Failure> {
    let good = (1..=127).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if good {
        return Ok(());
    }
    Err(bad(format!("The request URI contains an invalid name: {}", name.chars().take(200).collect::<String>())))
}

impl Kind {
    /// The operations that a key of this kind can have.
    pub fn operations(&self) -> &'static [&'static str] {
        match self {
            Self::Rsa { .. } => RSA_OPS,
            Self::Ec { .. } => EC_OPS,
            Self::Oct { .. } => OCT_OPS,
        }
    }

    /// The kind of which this material is.
    pub fn of(material: &Material) -> Self {
        match material {
            Material::Rsa { bits, hsm, .. } => Self::Rsa { bits: *bits, hsm: *hsm },
            Material::Ec { curve, hsm, .. } => Self::Ec { curve: *curve, hsm: *hsm },
            Material::Oct { key } => Self::Oct { bits: u32::try_from(key.len() * 8).unwrap_or_default() },
        }
    }
}

/// Type and size of a key to create. HSM-backed types need a premium vault; a managed HSM takes no others, and alone takes
/// symmetric keys (some premium vaults do in preview).
pub(crate) fn kind(body: &Map<String, Value>, holder: &Holder) -> Result<Kind, Failure> {
    let kty = body.get("kty").and_then(Value::as_str).unwrap_or_default();
    let (base, hsm) = match kty.strip_suffix("-HSM") {
        Some(base) => (base, true),
        None => (kty, false),
    };
    if holder.zone == Zone::Hsm {
        if !hsm && !kty.is_empty() {
            // Code UNVERIFIED.
            return Err(bad(format!("Key type '{kty}' is not supported by a managed HSM; its types end in '-HSM'.")));
        }
    } else if hsm && holder.sku != "premium" {
        // Code UNVERIFIED.
        return Err(bad(format!("Key type '{kty}' is not supported by a vault of the standard tier.")));
    }
    match base {
        "RSA" => {
            let bits = match body.get("key_size") {
                None | Some(Value::Null) => 2048,
                Some(size) => size.as_u64().unwrap_or(0),
            };
            match bits {
                2048 | 3072 | 4096 => Ok(Kind::Rsa { bits: u32::try_from(bits).unwrap_or(2048), hsm }),
                other => Err(bad(format!("Key size {other} is not supported; 2048, 3072 and 4096 are."))),
            }
        }
        "EC" => {
            let name = body.get("crv").and_then(Value::as_str).unwrap_or("P-256");
            Curve::named(name)
                .map(|curve| Kind::Ec { curve, hsm })
                .ok_or_else(|| bad(format!("Curve '{name}' is not supported.")))
        }
        "oct" if holder.zone == Zone::Hsm => {
            let bits = body.get("key_size").filter(|s| !s.is_null()).map_or(Some(256), Value::as_u64);
            match bits {
                Some(bits @ (128 | 192 | 256)) => Ok(Kind::Oct { bits: u32::try_from(bits).unwrap_or(256) }),
                _ => Err(bad("The size of a symmetric key is 128, 192 or 256.")),
            }
        }
        "" => Err(bad("Property 'kty' is required.")),
        _ => Err(bad(format!("Key type '{kty}' is not supported by a vault."))),
    }
}

const RSA_OPS: &[&str] = &["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"];
const EC_OPS: &[&str] = &["sign", "verify"];
const OCT_OPS: &[&str] = &["encrypt", "decrypt", "wrapKey", "unwrapKey"];

/// The operations asked for, or all that the type has.
pub(crate) fn ops(body: &Map<String, Value>, kind: &Kind) -> Result<Vec<String>, Failure> {
    let possible = kind.operations();
    let asked = match body.get("key_ops") {
        None | Some(Value::Null) => return Ok(possible.iter().map(|o| (*o).to_owned()).collect()),
        Some(Value::Array(ops)) => ops,
        Some(_) => return Err(bad("Property 'key_ops' must be an array.")),
    };
    let mut ops: Vec<String> = Vec::new();
    for op in asked {
        let name = op.as_str().unwrap_or_default();
        if !possible.contains(&name) {
            return Err(bad(format!("Key operation '{name}' is not supported by the key type.")));
        }
        if !ops.iter().any(|o| o == name) {
            ops.push(name.to_owned());
        }
    }
    Ok(ops)
}

pub(crate) fn attributes(body: &Map<String, Value>) -> Result<Attributes, Failure> {
    let sent = match body.get("attributes") {
        None | Some(Value::Null) => return Ok(Attributes::default()),
        Some(Value::Object(sent)) => sent,
        Some(_) => return Err(bad("Property 'attributes' must be an object.")),
    };
    let time = |name: &str| match sent.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_i64()
            .filter(|t| (0..253_402_300_800).contains(t))
            .map(Some)
            .ok_or_else(|| bad(format!("Property 'attributes.{name}' must be a time in Unix seconds."))),
    };
    let enabled = match sent.get("enabled") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(b)) => Some(*b),
        Some(_) => return Err(bad("Property 'attributes.enabled' must be a boolean.")),
    };
    let out = Attributes { enabled, nbf: time("nbf")?, exp: time("exp")? };
    if let (Some(nbf), Some(exp)) = (out.nbf, out.exp)
        && nbf >= exp
    {
        return Err(bad("Property 'attributes.exp' must be after 'attributes.nbf'."));
    }
    Ok(out)
}

/// At most 15 tags with string values of at most 256 characters; `None` when absent.
pub(crate) fn tags(body: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Failure> {
    match body.get("tags") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(tags)) => {
            let good = tags.len() <= 15
                && tags
                    .iter()
                    .all(|(k, v)| k.chars().count() <= 256 && v.as_str().is_some_and(|v| v.chars().count() <= 256));
            if good {
                Ok(Some(tags.clone()))
            } else {
                Err(bad("Property 'tags' takes at most 15 names with string values of at most 256 characters."))
            }
        }
        Some(_) => Err(bad("Property 'tags' must be an object.")),
    }
}
