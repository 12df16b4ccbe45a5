//! The private JSON web key of an import: its members, their sizes, and the material that they make. That the members fit
//! each other is checked by the cryptography itself.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Map, Value, json};

use crate::http::Failure;
use crate::keyvault::crypto::{CryptoFailed, Curve, Material};
use crate::keyvault::key_body::{self, bad};

/// Longest member in bytes: the modulus of a 4096-bit key with a leading zero.
const MOST_BYTES: usize = 513;

/// The private members, as bytes.
pub(crate) enum Parts {
    /// In the order of PKCS#1: n, e, d, p, q, dp, dq, qi.
    Rsa([Vec<u8>; 8]),
    Ec {
        curve: Curve,
        d: Vec<u8>,
        /// Uncompressed: 0x04, x, y.
        point: Vec<u8>,
    },
    Oct(Vec<u8>),
}

impl Parts {
    /// The members that the type has. The texts of the errors are UNVERIFIED.
    pub fn read(jwk: &Map<String, Value>) -> Result<Self, Failure> {
        key_body::only(
            jwk,
            &["kid", "kty", "key_ops", "n", "e", "d", "dp", "dq", "qi", "p", "q", "k", "key_hsm", "crv", "x", "y"],
        )?;
        if jwk.get("key_hsm").is_some_and(|k| !k.is_null()) {
            return Err(Failure::not_played("the import of a key that is wrapped for an HSM ('key_hsm')"));
        }
        let kty = jwk.get("kty").and_then(Value::as_str).unwrap_or_default();
        match kty.strip_suffix("-HSM").unwrap_or(kty) {
            "RSA" => {
                let mut parts: [Vec<u8>; 8] = Default::default();
                for (part, name) in parts.iter_mut().zip(["n", "e", "d", "p", "q", "dp", "dq", "qi"]) {
                    *part = member(jwk, name)?;
                }
                Ok(Self::Rsa(parts))
            }
            "EC" => {
                let name =
                    jwk.get("crv").and_then(Value::as_str).ok_or_else(|| bad("Property 'key.crv' is required."))?;
                let curve =
                    Curve::named(name).ok_or_else(|| bad(format!("Curve '{}' is not supported.", shortened(name))))?;
                let mut point = vec![4];
                point.extend(padded(member(jwk, "x")?, curve, "x")?);
                point.extend(padded(member(jwk, "y")?, curve, "y")?);
                Ok(Self::Ec { curve, d: padded(member(jwk, "d")?, curve, "d")?, point })
            }
            "oct" => Ok(Self::Oct(member(jwk, "k")?)),
            "" => Err(bad("Property 'key.kty' is required.")),
            _ => Err(bad(format!("Key type '{}' is not supported by a vault.", shortened(kty)))),
        }
    }

    /// What `create` would have been asked for to get such a key, HSM-backed or not: kind, tier and policies are checked
    /// with it.
    pub fn as_create(&self, hsm: bool) -> Map<String, Value> {
        let suffix = if hsm { "-HSM" } else { "" };
        let body = match self {
            Self::Rsa(parts) => json!({ "kty": format!("RSA{suffix}"), "key_size": bit_length(&parts[0]) }),
            Self::Ec { curve, .. } => json!({ "kty": format!("EC{suffix}"), "crv": curve.name() }),
            Self::Oct(key) => json!({ "kty": format!("oct{suffix}"), "key_size": key.len() * 8 }),
        };
        match body {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// The key pair, or an error where the members do not belong together. Checks an RSA key at length, so never on an
    /// async thread.
    pub fn material(&self, hsm: bool) -> Result<Material, CryptoFailed> {
        match self {
            Self::Rsa(parts) => Material::rsa_from_pkcs8(&rsa_pkcs8(parts), hsm),
            Self::Ec { curve, d, point } => Material::ec_from_parts(*curve, d, point, hsm),
            Self::Oct(key) => Ok(Material::Oct { key: key.clone() }),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(50).collect()
}

fn member(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Failure> {
    let text = match jwk.get(name) {
        None | Some(Value::Null) => return Err(bad(format!("Property 'key.{name}' is required."))),
        Some(value) => value.as_str().unwrap_or_default().trim_end_matches('='),
    };
    B64.decode(text)
        .ok()
        .filter(|bytes| (1..=MOST_BYTES).contains(&bytes.len()))
        .ok_or_else(|| bad(format!("Property 'key.{name}' must be base64url of at most {MOST_BYTES} bytes.")))
}

/// Left-padded to the size of the curve's field.
fn padded(bytes: Vec<u8>, curve: Curve, name: &str) -> Result<Vec<u8>, Failure> {
    let size = match curve {
        Curve::P256 | Curve::P256K => 32,
        Curve::P384 => 48,
        Curve::P521 => 66,
    };
    let significant = strip(&bytes);
    if significant.len() > size {
        return Err(bad(format!("Property 'key.{name}' is larger than the curve.")));
    }
    let mut out = vec![0; size - significant.len()];
    out.extend(significant);
    Ok(out)
}

fn strip(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| **b == 0).count()..]
}

fn bit_length(bytes: &[u8]) -> usize {
    let significant = strip(bytes);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

/// DER of a type, a length of at most three bytes, and the content.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = vec![tag];
    match content.len() {
        0..=0x7f => out.push(length[3]),
        0x80..=0xff => out.extend([0x81, length[3]]),
        0x100..=0xffff => out.extend([0x82, length[2], length[3]]),
        _ => out.extend([0x83, length[1], length[2], length[3]]),
    }
    out.extend(content);
    out
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let significant = strip(bytes);
    let mut content = Vec::with_capacity(significant.len() + 1);
    if significant.first().is_none_or(|first| *first >= 0x80) {
        content.push(0);
    }
    content.extend(significant);
    tlv(2, &content)
}

/// PKCS#8 around PKCS#1.
fn rsa_pkcs8(parts: &[Vec<u8>; 8]) -> Vec<u8> {
    // SEQUENCE { OBJECT IDENTIFIER rsaEncryption, NULL }
    const ALGORITHM: &[u8] =
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let mut pkcs1 = integer(&[0]);
    for part in parts {
        pkcs1.extend(integer(part));
    }
    let mut out = integer(&[0]);
    out.extend(ALGORITHM);
    out.extend(tlv(4, &tlv(0x30, &pkcs1)));
    tlv(0x30, &out)
}
