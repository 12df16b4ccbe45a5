//! The data plane of managed HSMs beyond keys: local roles, the security domain and activation, random bytes. Keys
//! themselves are `keyvault`'s, which knows no difference but the gate in front; the resource on ARM is `arm::hsms`.

pub(crate) mod access;
pub(crate) mod grants;
pub(crate) mod model;
pub(crate) mod role_assignments;
pub(crate) mod role_definitions;
pub(crate) mod roles;
pub(crate) mod security_domain;
pub(crate) mod shares;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use crate::http::{Failure, Outcome, Reply};
use crate::keyvault::Asked;
use crate::keyvault::key_body::{self, bad};

/// Answers what only managed HSMs have; `None` leaves the request to the keys.
pub(crate) async fn serve(asked: &Asked<'_>) -> Option<Outcome> {
    // The scope `/` comes as an empty segment or as an escaped slash.
    let names: Vec<&str> = asked.call.segments.iter().map(String::as_str).filter(|s| *s != "/").collect();
    let lower: Vec<String> = names.iter().map(|s| s.to_lowercase()).collect();
    let parts: Vec<&str> = lower.iter().map(String::as_str).collect();
    if let Some(at) = parts.windows(2).position(|w| w == ["providers", "microsoft.authorization"]) {
        return Some(authorization(asked, &names[..at], &names[at + 2..]));
    }
    let method = asked.call.method.as_str();
    Some(match (method, parts.as_slice()) {
        ("POST", ["rng"]) => random_bytes(asked),
        ("POST", ["securitydomain", "download"]) => security_domain::download(asked).await,
        ("GET", ["securitydomain", "download", "pending"]) => security_domain::pending(asked),
        (_, ["securitydomain", "upload", ..]) => Err(Failure::not_played("the upload of a security domain")),
        (_, ["backup" | "restore", ..]) => Err(Failure::not_played("full backup and restore of a managed HSM")),
        (_, ["rng"] | ["securitydomain", "download", ..]) => {
            Err(Failure::new(405, "MethodNotAllowed", format!("The method '{method}' is not allowed here.")))
        }
        _ => return None,
    })
}

fn authorization(asked: &Asked<'_>, scope: &[&str], rest: &[&str]) -> Outcome {
    let scope = match scope {
        // Ids of definitions start with the provider's name.
        [] => "/".to_owned(),
        [root] if root.eq_ignore_ascii_case("Microsoft.KeyVault") => "/".to_owned(),
        [keys] if keys.eq_ignore_ascii_case("keys") => "/keys".to_owned(),
        [keys, name] if keys.eq_ignore_ascii_case("keys") => {
            key_body::good_name(name)?;
            format!("/keys/{name}")
        }
        // Code UNVERIFIED.
        _ => return Err(bad("A scope is '/', '/keys' or '/keys/{name}'.")),
    };
    match rest {
        [kind, name @ ..] if kind.eq_ignore_ascii_case("roleAssignments") => {
            role_assignments::serve(asked, &scope, name)
        }
        [kind, name @ ..] if kind.eq_ignore_ascii_case("roleDefinitions") => {
            role_definitions::serve(asked, &scope, name)
        }
        _ => Err(Failure::new(404, "NotFound", "The path was not found.")),
    }
}

/// 1 to 128 random bytes.
fn random_bytes(asked: &Asked<'_>) -> Outcome {
    asked.shared.world(|w| access::enter(asked, w, "rng/action", "/").map(|_| ()))?;
    let body = key_body::object(asked.call, false)?;
    let count = body
        .get("count")
        .and_then(Value::as_u64)
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| (1..=128).contains(n))
        .ok_or_else(|| bad("Property 'count' must be between 1 and 128."))?;
    let bytes: Vec<u8> = (0..count).map(|_| rand::random::<u8>()).collect();
    Ok(Reply::ok(json!({ "value": B64.encode(bytes) })))
}

/// A name that must be a GUID.
fn guid(name: &str) -> Result<String, Failure> {
    uuid::Uuid::try_parse(name)
        .map(|id| id.to_string())
        .map_err(|_| bad(format!("'{}' is not a GUID.", name.chars().take(100).collect::<String>())))
}

/// A 404 in the words of the service.
fn missing(asked: &Asked<'_>, code: &str, what: &str) -> Failure {
    let id = asked.call.request_id;
    Failure::new(404, code, format!("Requested {what} not found (Activity ID: {id})"))
}
