//! The seed file: principals, issuers and ARM resources that a new cloud starts with. Resources go through the same course
//! as any request of the principal with Owner, so whatever Azure refuses is refused here, with the place in the file.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use serde::Deserialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::entra::assertions::IssuerKey;
use crate::entra::certificates::Certificate;
use crate::entra::principals::{Federated, Principal, Secret};
use crate::pipeline;
use crate::propagation::Propagation;
use crate::state::Shared;

/// The largest file taken.
const MOST: u64 = 16 * 1024 * 1024;
/// The largest answer looked at.
const MOST_ANSWER: usize = 4 * 1024 * 1024;

/// The file. `{subscription}` and `{tenant}` in its texts stand for those of the simulator.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Seed {
    principals: Vec<SeedPrincipal>,
    issuers: Vec<SeedIssuer>,
    resources: Vec<SeedResource>,
}

/// An application with its service principal.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SeedPrincipal {
    name: String,
    client_id: String,
    object_id: String,
    #[serde(default)]
    secrets: Vec<String>,
    /// PEM.
    #[serde(default)]
    certificates: Vec<String>,
    #[serde(default)]
    federated: Vec<SeedFederated>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeedFederated {
    name: String,
    issuer: String,
    subject: String,
    audience: String,
}

/// A foreign issuer of tokens and its keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SeedIssuer {
    issuer: String,
    jwks: Jwks,
}

#[derive(Debug, Deserialize)]
struct Jwks {
    keys: Vec<IssuerKey>,
}

/// A PUT to ARM.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeedResource {
    id: String,
    api_version: String,
    #[serde(default)]
    body: Map<String, Value>,
}

impl SeedIssuer {
    /// Makes the issuer's keys known, in place of those it had.
    pub fn plant(self, shared: &Shared) {
        shared.world(|w| w.issuers.insert(self.issuer, self.jwks.keys));
    }
}

impl SeedPrincipal {
    fn plant(self, shared: &Shared, now: OffsetDateTime) -> Result<(), String> {
        let mut principal = Principal::new(&self.object_id, &self.client_id, &self.name, Some(now));
        principal.secrets = self.secrets.into_iter().map(|value| Secret { value, expires: None }).collect();
        for pem in &self.certificates {
            principal.certificates.push(Certificate::from_pem(pem).map_err(|e| e.to_string())?);
        }
        for f in self.federated {
            let credential = Federated {
                name: f.name.clone(),
                issuer: f.issuer,
                subject: f.subject,
                audiences: vec![f.audience],
                known_from: Some(now),
            };
            principal.federated.insert(f.name.to_lowercase(), credential);
        }
        shared.world(|w| {
            let id = principal.object_id.clone();
            let taken = w.principals.values().any(|p| p.object_id == id || p.app_id == principal.app_id);
            if taken {
                return Err("a principal with this objectId or clientId exists".to_owned());
            }
            w.principals.insert(id, principal);
            Ok(())
        })
    }
}

/// Reads the file.
///
/// # Errors
/// In one line: unreadable, too large, no JSON, an unknown or missing member with its line.
pub(crate) fn read(path: &Path, tenant: &str, subscription: &str) -> io::Result<Seed> {
    let refused =
        |why: String| io::Error::new(io::ErrorKind::InvalidInput, format!("seed file {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| refused(e.to_string()))?.len();
    if size > MOST {
        return Err(refused(format!("it has {size} bytes, {MOST} is the most")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| refused(e.to_string()))?;
    let text = text.replace("{subscription}", subscription).replace("{tenant}", tenant);
    serde_json::from_str(&text).map_err(|e| refused(e.to_string()))
}

/// Puts everything into a new cloud, visible at once.
///
/// # Errors
/// The place in the file with what was wrong about it.
pub(crate) async fn plant(shared: &Shared, seed: Seed) -> io::Result<()> {
    let refused =
        |place: String, why: String| io::Error::new(io::ErrorKind::InvalidInput, format!("seed file, {place}: {why}"));
    let now = shared.clock.now();
    for (n, principal) in seed.principals.into_iter().enumerate() {
        principal.plant(shared, now).map_err(|why| refused(format!("/principals/{n}"), why))?;
    }
    for issuer in seed.issuers {
        issuer.plant(shared);
    }
    let (lags, tuning) = (shared.world(|w| w.propagation.clone()), shared.tuning());
    shared.world(|w| w.propagation = Propagation::instant());
    shared.set_tuning(crate::tuning::Tuning { lro_seconds: 0.0, ..tuning.clone() });
    let mut put = Ok(());
    for (n, resource) in seed.resources.into_iter().enumerate() {
        put = send(shared, resource).await.map_err(|why| refused(format!("/resources/{n}"), why));
        if put.is_err() {
            break;
        }
        let now = shared.clock.now();
        shared.world(|w| w.settle(now));
    }
    shared.world(|w| w.propagation = lags);
    shared.set_tuning(tuning);
    shared.throttle.refill();
    shared.journal.clear();
    put
}

async fn send(shared: &Shared, resource: SeedResource) -> Result<(), String> {
    let operator = shared.world(|w| w.principals.get(&shared.options.object_id.to_lowercase()).cloned());
    let operator = operator.ok_or("the principal with Owner is missing")?;
    let arm = shared.addresses.url("management");
    let token = shared.mint(&operator, &format!("{arm}/"), shared.clock.now(), "1");
    let path = resource.id.trim_start_matches('/');
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("{arm}/{path}?api-version={}", resource.api_version))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Body::from(Value::Object(resource.body).to_string()))
        .map_err(|e| e.to_string())?;
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let answer = pipeline::answer(shared, peer, request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = to_bytes(answer.into_body(), MOST_ANSWER).await.unwrap_or_default();
    Err(format!("PUT {}: {} {}", resource.id, status.as_u16(), String::from_utf8_lossy(&body)))
}
