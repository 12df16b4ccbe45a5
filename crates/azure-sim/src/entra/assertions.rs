//! Client assertions: signed JWTs by which a client proves who it is, with a registered certificate or with the word of an
//! issuer that the principal trusts. Asking for the token itself is in the module above.
//!
//! The codes are those of Entra's published list; which of them a fault of a federated assertion gets is UNVERIFIED, as is
//! the order of the checks. `jti` is not looked at: an assertion can be used again until it expires (UNVERIFIED).

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::entra::principals::Principal;
use crate::propagation::reached;
use crate::state::World;

/// How far an issuer's clock may be off (UNVERIFIED: Entra documents five minutes for its own tokens).
const SKEW: Duration = Duration::minutes(5);

/// Why an assertion is not taken: status, error, AADSTS number, text.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused {
    pub status: u16,
    pub error: &'static str,
    pub code: u32,
    pub text: String,
}

fn unknown(code: u32, text: String) -> Refused {
    Refused { status: 400, error: "invalid_request", code, text }
}

fn bad(code: u32, text: impl Into<String>) -> Refused {
    Refused { status: 401, error: "invalid_client", code, text: text.into() }
}

/// A key that a foreign issuer publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IssuerKey {
    #[serde(default)]
    pub kid: Option<String>,
    pub kty: String,
    #[serde(default)]
    pub n: String,
    #[serde(default)]
    pub e: String,
    #[serde(default)]
    pub x: String,
    #[serde(default)]
    pub y: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn any(&self, is_good: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(one) => is_good(one),
            Self::Many(many) => many.iter().any(|a| is_good(a)),
        }
    }

    fn first(&self) -> &str {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many.first().map_or("", String::as_str),
        }
    }
}

/// A JWT taken apart.
struct Jwt<'a> {
    header: Header,
    claims: Claims,
    text: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    fn read(token: &'a str) -> Option<Self> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        Some(Self {
            header: serde_json::from_slice(&B64.decode(header).ok()?).ok()?,
            claims: serde_json::from_slice(&B64.decode(claims).ok()?).ok()?,
            text,
            signature: B64.decode(signature).ok()?,
        })
    }

    /// Checks the signature with a public key in DER or, for an elliptic curve, as a point.
    fn is_signed_by(&self, key: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.header.alg.as_str() {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            "ES256" => &ECDSA_P256_SHA256_FIXED,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, key).verify(self.text.as_bytes(), &self.signature).is_ok()
    }

    fn is_signed_with(&self, key: &IssuerKey) -> bool {
        let part = |text: &str| B64.decode(text.trim_end_matches('=')).unwrap_or_default();
        if key.kty == "EC" {
            let point = [&[4][..], &part(&key.x), &part(&key.y)].concat();
            return self.header.alg == "ES256" && self.is_signed_by(&point);
        }
        let rsa = RsaPublicKeyComponents { n: part(&key.n), e: part(&key.e) };
        let (text, signature) = (self.text.as_bytes(), &self.signature);
        match self.header.alg.as_str() {
            "RS256" => rsa.verify(&RSA_PKCS1_2048_8192_SHA256, text, signature).is_ok(),
            "PS256" => rsa.verify(&RSA_PSS_2048_8192_SHA256, text, signature).is_ok(),
            _ => false,
        }
    }

    fn is_in_time(&self, now: OffsetDateTime) -> bool {
        // The clock's side is moved by the skew, and not the assertion's: its times may lie at the end of all time.
        let seconds = |at: f64| OffsetDateTime::UNIX_EPOCH.checked_add(Duration::checked_seconds_f64(at)?);
        let (early, late) = (now.saturating_sub(SKEW), now.saturating_add(SKEW));
        seconds(self.claims.exp).is_some_and(|at| early <= at)
            && self.claims.nbf.is_none_or(|at| seconds(at).is_some_and(|at| at <= late))
    }
}

/// The keys that the issuer of an assertion is known to have; none for text that is no assertion.
pub(crate) fn keys_for(world: &World, token: &str) -> Vec<IssuerKey> {
    Jwt::read(token).and_then(|jwt| world.issuers.get(&jwt.claims.iss).cloned()).unwrap_or_default()
}

/// Whether the assertion proves that the client is `principal`. `issuer` are the keys of whoever issued it; `audiences` the
/// names of the login host that an assertion signed with the client's own certificate may be meant for. Signatures are
/// checked here, so this is not for under the world's lock.
pub(crate) fn check(
    issuer: &[IssuerKey],
    principal: &Principal,
    token: &str,
    audiences: &[String],
    now: OffsetDateTime,
) -> Result<(), Refused> {
    let jwt = Jwt::read(token).ok_or_else(|| bad(50027, "JWT token is invalid or malformed."))?;
    if jwt.claims.iss.eq_ignore_ascii_case(&principal.app_id) {
        by_certificate(principal, &jwt, audiences, now)
    } else {
        by_federation(issuer, principal, &jwt, now)
    }
}

fn by_certificate(
    principal: &Principal,
    jwt: &Jwt<'_>,
    audiences: &[String],
    now: OffsetDateTime,
) -> Result<(), Refused> {
    let invalid =
        |reason: &str| bad(700_027, format!("Client assertion failed signature validation. [Reason - {reason}]"));
    if !jwt.claims.sub.eq_ignore_ascii_case(&principal.app_id) {
        return Err(bad(700_021, "Client assertion application identifier doesn't match 'client_id' parameter."));
    }
    if !jwt.claims.aud.any(|aud| audiences.iter().any(|a| a.trim_end_matches('/') == aud.trim_end_matches('/'))) {
        return Err(bad(700_023, "Client assertion audience claim does not match Realm issuer."));
    }
    let header = &jwt.header;
    let names = (header.x5t.as_deref(), header.x5t_s256.as_deref(), header.kid.as_deref());
    let found = principal.certificates.iter().find(|c| c.is_named(names.0, names.1, names.2));
    let certificate = found.ok_or_else(|| invalid("The key was not found."))?;
    if !jwt.is_signed_by(&certificate.public_key) {
        return Err(invalid("The provided signature value did not match the expected signature value."));
    }
    if !(certificate.not_before..=certificate.not_after).contains(&now) {
        return Err(invalid("The key used is expired."));
    }
    in_time(jwt, now)
}

fn by_federation(keys: &[IssuerKey], principal: &Principal, jwt: &Jwt<'_>, now: OffsetDateTime) -> Result<(), Refused> {
    let claims = &jwt.claims;
    let none = |code, what: &str, value: &str| {
        unknown(
            code,
            format!(
                "No matching federated identity record found for presented assertion {what} '{value}'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
            ),
        )
    };
    let known = || principal.federated.values().filter(|f| reached(f.known_from, now));
    // Issuer, subject and audience are compared as they stand, case included.
    if !known().any(|f| f.issuer == claims.iss) {
        return Err(none(700_211, "issuer", &claims.iss));
    }
    if !known().any(|f| f.issuer == claims.iss && f.subject == claims.sub) {
        return Err(none(700_213, "subject", &claims.sub));
    }
    let meant = |f: &crate::entra::principals::Federated| claims.aud.any(|aud| f.audiences.iter().any(|a| a == aud));
    if !known().any(|f| f.issuer == claims.iss && f.subject == claims.sub && meant(f)) {
        return Err(none(700_212, "audience", claims.aud.first()));
    }
    // Entra fetches the keys from the issuer; here they are told to the simulator, which calls nobody.
    let named = |key: &&IssuerKey| jwt.header.kid.is_none() || key.kid.is_none() || key.kid == jwt.header.kid;
    if !keys.iter().filter(named).any(|key| jwt.is_signed_with(key)) {
        return Err(bad(700_027, "Client assertion failed signature validation. [Reason - The key was not found.]"));
    }
    in_time(jwt, now)
}

fn in_time(jwt: &Jwt<'_>, now: OffsetDateTime) -> Result<(), Refused> {
    if jwt.is_in_time(now) {
        return Ok(());
    }
    Err(bad(700_024, "Client assertion is not within its valid time range."))
}
