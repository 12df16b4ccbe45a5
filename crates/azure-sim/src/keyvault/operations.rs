//! Cryptographic operations on a key: encrypt, decrypt, wrap, unwrap, sign, verify. The cryptography runs outside of the
//! world's lock and off the async threads.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Map, Value, json};

use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::access::pass;
use crate::keyvault::crypto::{CryptoFailed, Material};
use crate::keyvault::key_body::{self, bad};
use crate::keyvault::key_model::{Unusable, kid};
use crate::keyvault::keys::{not_found, shown};
use crate::keyvault::{Asked, aes};

#[derive(Clone, Copy)]
enum Op {
    Encrypt,
    Decrypt,
    Wrap,
    Unwrap,
    Sign,
    Verify,
}

impl Op {
    fn named(segment: &str) -> Option<Self> {
        Some(match segment {
            "encrypt" => Self::Encrypt,
            "decrypt" => Self::Decrypt,
            "wrapkey" => Self::Wrap,
            "unwrapkey" => Self::Unwrap,
            "sign" => Self::Sign,
            "verify" => Self::Verify,
            _ => return None,
        })
    }

    /// Data action, and the name in `key_ops` and access policies.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Encrypt => ("keys/encrypt/action", "encrypt"),
            Self::Decrypt => ("keys/decrypt/action", "decrypt"),
            Self::Wrap => ("keys/wrap/action", "wrapKey"),
            Self::Unwrap => ("keys/unwrap/action", "unwrapKey"),
            Self::Sign => ("keys/sign/action", "sign"),
            Self::Verify => ("keys/verify/action", "verify"),
        }
    }
}

enum Done {
    Bytes(Vec<u8>),
    Sealed(aes::Sealed),
    Verdict(bool),
}

/// What the body gives to the operation.
struct Given {
    value: Vec<u8>,
    digest: Vec<u8>,
    /// Of symmetric encryption only; empty when absent.
    iv: Vec<u8>,
    aad: Vec<u8>,
    tag: Vec<u8>,
}

pub(crate) async fn run(asked: &Asked<'_>, name: &str, version: &str, op: &str) -> Outcome {
    let Some(op) = Op::named(op) else {
        return Err(match op {
            "release" => Failure::not_played("key release"),
            _ => Failure::new(404, "NotFound", "The operation is not known."),
        });
    };
    let (action, word) = op.names();
    let (material, kid) = asked.shared.world(|w| {
        let vault = pass(asked, w, action, Some(name), word)?;
        let key = shown(asked, vault, name)?;
        let found = key.version(version).ok_or_else(|| not_found(&format!("{name}/{version}")))?;
        found.usable(word, asked.call.now).map_err(|why| unusable(&why, word))?;
        let kid = kid(vault, &asked.shared.addresses, &key.name, &found.id);
        Ok::<_, Failure>((found.material.clone(), kid))
    })?;
    let body = key_body::object(asked.call, false)?;
    let algorithm =
        body.get("alg").and_then(Value::as_str).ok_or_else(|| bad("Property 'alg' is required."))?.to_owned();
    let maybe = |name: &str| body.get(name).filter(|v| !v.is_null()).map_or(Ok(Vec::new()), |_| bytes(&body, name));
    let given = Given {
        value: bytes(&body, "value")?,
        digest: match op {
            Op::Verify => bytes(&body, "digest")?,
            _ => Vec::new(),
        },
        iv: maybe("iv")?,
        aad: maybe("aad")?,
        tag: maybe("tag")?,
    };
    let text = algorithm.clone();
    let done = tokio::task::spawn_blocking(move || compute(op, &material, &text, given))
        .await
        .map_err(|_| Failure::new(500, "InternalServerError", "The operation did not end."))?;
    match done {
        Ok(Done::Bytes(out)) => Ok(Reply::ok(json!({ "kid": kid, "value": B64.encode(out) }))),
        Ok(Done::Sealed(sealed)) => {
            let mut answer = json!({ "kid": kid, "value": B64.encode(sealed.value) });
            for (name, part) in [("iv", &sealed.iv), ("tag", &sealed.tag), ("aad", &sealed.aad)] {
                if !part.is_empty() {
                    answer[name] = B64.encode(part).into();
                }
            }
            Ok(Reply::ok(answer))
        }
        Ok(Done::Verdict(good)) => Ok(Reply::ok(json!({ "value": good }))),
        Err(CryptoFailed) => Err(bad(format!(
            "The operation '{word}' with algorithm '{algorithm}' is not possible with this key and value."
        ))),
    }
}

fn compute(op: Op, material: &Arc<Material>, algorithm: &str, given: Given) -> Result<Done, CryptoFailed> {
    if let Material::Oct { key } = &**material {
        return Ok(match op {
            Op::Wrap => Done::Bytes(aes::wrap(key, algorithm, &given.value)?),
            Op::Unwrap => Done::Bytes(aes::unwrap(key, algorithm, &given.value)?),
            Op::Encrypt => Done::Sealed(aes::encrypt(key, algorithm, given.value, given.iv, given.aad)?),
            Op::Decrypt => Done::Bytes(aes::decrypt(key, algorithm, given.value, &given.iv, &given.aad, &given.tag)?),
            Op::Sign | Op::Verify => return Err(CryptoFailed),
        });
    }
    let value = &given.value;
    Ok(match op {
        Op::Encrypt | Op::Wrap => Done::Bytes(material.encrypt(algorithm, value)?),
        Op::Decrypt | Op::Unwrap => Done::Bytes(material.decrypt(algorithm, value)?),
        Op::Sign => Done::Bytes(material.sign(algorithm, value)?),
        Op::Verify => Done::Verdict(material.verify(algorithm, &given.digest, value)?),
    })
}

/// Unpadded base64url; padding is forgiven.
fn bytes(body: &Map<String, Value>, name: &str) -> Result<Vec<u8>, Failure> {
    body.get(name)
        .and_then(Value::as_str)
        .and_then(|text| B64.decode(text.trim_end_matches('=')).ok())
        .ok_or_else(|| bad(format!("Property '{name}' must be base64url.")))
}

fn unusable(why: &Unusable, op: &str) -> Failure {
    match why {
        Unusable::Disabled => {
            Failure::new(403, "Forbidden", format!("Operation {op} is not allowed on a disabled key."))
                .inner("KeyDisabled")
        }
        Unusable::NotYetValid => {
            Failure::new(403, "Forbidden", format!("Operation {op} is not allowed on a key that is not yet valid."))
                .inner("KeyNotYetValid")
        }
        // Inner code UNVERIFIED.
        Unusable::Expired => {
            Failure::new(403, "Forbidden", format!("Operation {op} is not allowed on an expired key."))
                .inner("KeyExpired")
        }
        // Status and code UNVERIFIED.
        Unusable::OperationNotInKey => {
            Failure::new(403, "Forbidden", format!("Operation {op} is not permitted on this key."))
                .inner("KeyOperationForbidden")
        }
    }
}
