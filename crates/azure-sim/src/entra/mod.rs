//! The login host: tokens by client secret or assertion, discovery, signing keys, the AADSTS errors. Who may do what is not decided
//! here.

pub(crate) mod assertions;
pub(crate) mod certificates;
pub(crate) mod first_party;
pub(crate) mod graph;
pub(crate) mod host;
pub(crate) mod principals;
pub(crate) mod tokens;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use url::form_urlencoded;

use crate::entra::principals::Principal;
use crate::http::{Call, Failure, Outcome, Reply};
use crate::state::Shared;

/// Answers a request to the login host.
pub(crate) fn serve(shared: &Shared, call: &Call) -> Outcome {
    let segments: Vec<String> = call.segments.iter().map(|s| s.to_lowercase()).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["common", "discovery", "instance"] => Ok(instance_discovery(shared)),
        [tenant, "v2.0", ".well-known", "openid-configuration"] | [tenant, ".well-known", "openid-configuration"] => {
            known_tenant(shared, call, tenant)?;
            Ok(openid_configuration(shared))
        }
        [_, "discovery", "v2.0" | "v1.0", "keys"] | [_, "discovery", "keys"] => {
            Ok(Reply::ok(shared.signer.jwks(&issuer(shared))))
        }
        [tenant, "oauth2", "v2.0", "token"] if call.is("POST") => {
            known_tenant(shared, call, tenant)?;
            token(shared, call, "scope")
        }
        [tenant, "oauth2", "token"] if call.is("POST") => {
            known_tenant(shared, call, tenant)?;
            token(shared, call, "resource")
        }
        _ => Err(Failure::new(404, "NotFound", "The page was not found.")),
    }
}

fn issuer(shared: &Shared) -> String {
    format!("https://sts.windows.net/{}/", shared.options.tenant_id)
}

/// The tenant by id, or one of the names that leave it open.
fn known_tenant(shared: &Shared, call: &Call, tenant: &str) -> Result<(), Failure> {
    if tenant.eq_ignore_ascii_case(&shared.options.tenant_id) || matches!(tenant, "common" | "organizations") {
        return Ok(());
    }
    Err(refusal(
        shared,
        call,
        400,
        "invalid_request",
        90002,
        &format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
        ),
    ))
}

fn instance_discovery(shared: &Shared) -> Reply {
    let login = shared.addresses.url("login");
    let host = shared.addresses.authority("login");
    Reply::ok(json!({
        "tenant_discovery_endpoint": format!("{login}/{}/v2.0/.well-known/openid-configuration", shared.options.tenant_id),
        "api-version": "1.1",
        "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
    }))
}

fn openid_configuration(shared: &Shared) -> Reply {
    let base = format!("{}/{}", shared.addresses.url("login"), shared.options.tenant_id);
    Reply::ok(json!({
        "issuer": format!("{base}/v2.0"),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "tenant_region_scope": "EU",
        "cloud_instance_name": shared.addresses.authority("login"),
        "msgraph_host": shared.addresses.authority("graph"),
    }))
}

fn token(shared: &Shared, call: &Call, resource_field: &str) -> Outcome {
    let form: Vec<(String, String)> = form_urlencoded::parse(&call.body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).unwrap_or_default();
    let refuse = |status, error, code, text: &str| Err(refusal(shared, call, status, error, code, text));
    if field("grant_type") != "client_credentials" {
        return refuse(
            400,
            "unsupported_grant_type",
            70003,
            "The app requested an unsupported grant type; the simulator plays 'client_credentials' only.",
        );
    }
    let client_id = field("client_id").to_lowercase();
    let found = shared.world(|w| w.principals.values().find(|p| p.app_id == client_id && p.signs_in()).cloned());
    let Some(principal) = found else {
        return refuse(
            400,
            "unauthorized_client",
            700_016,
            &format!(
                "Application with identifier '{client_id}' was not found in the directory '{}'.",
                shared.options.tenant_id
            ),
        );
    };
    let proof = match (field("client_assertion"), field("client_secret")) {
        ("", "") => {
            return refuse(
                401,
                "invalid_client",
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            );
        }
        ("", secret) => by_secret(&principal, secret, call.now).map(|()| "1"),
        (assertion, _) => {
            let login = format!("{}/{}", shared.addresses.url("login"), shared.options.tenant_id);
            let audiences = ["oauth2/v2.0/token", "oauth2/token", "v2.0", ""].map(|end| format!("{login}/{end}"));
            let known = field("client_assertion_type") == ASSERTION_TYPE;
            if known {
                let keys = shared.world(|w| assertions::keys_for(w, assertion));
                assertions::check(&keys, &principal, assertion, &audiences, call.now).map(|()| "2")
            } else {
                Err(assertions::Refused {
                    status: 400,
                    error: "invalid_request",
                    code: 900_144,
                    text: "The request body must contain the following parameter: 'client_assertion_type'.".into(),
                })
            }
        }
    };
    let proof = match proof {
        Ok(proof) => proof,
        Err(refused) => return refuse(refused.status, refused.error, refused.code, &refused.text),
    };
    let Some(audience) = audience_of(field(resource_field), resource_field) else {
        return refuse(
            400,
            "invalid_scope",
            70011,
            "The provided request must include a 'scope' input parameter ending in '/.default'.",
        );
    };
    let _ = call.principal.set(principal.object_id.clone());
    let lifetime = shared.options.token_lifetime.as_secs();
    Ok(Reply::ok(json!({
        "token_type": "Bearer",
        "expires_in": lifetime,
        "ext_expires_in": lifetime,
        "access_token": shared.mint(&principal, &audience, call.now, proof),
    }))
    .with("cache-control", "no-store, no-cache")
    .with("pragma", "no-cache"))
}

/// The one kind of assertion. Source: RFC 7523.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn by_secret(principal: &Principal, secret: &str, now: OffsetDateTime) -> Result<(), assertions::Refused> {
    let same =
        |known: &str| aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), secret.as_bytes()).is_ok();
    let refused =
        |code, text: &str| Err(assertions::Refused { status: 401, error: "invalid_client", code, text: text.into() });
    match principal.secrets.iter().find(|s| same(&s.value)) {
        Some(secret) if secret.expires.is_some_and(|at| at <= now) => {
            refused(7_000_222, "The provided client secret keys for app are expired.")
        }
        Some(_) => Ok(()),
        None => refused(
            7_000_215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.",
        ),
    }
}

/// The audience asked for: of several scopes the one that ends in `/.default`; a second slash before it stays.
fn audience_of(asked: &str, field: &str) -> Option<String> {
    if field == "resource" {
        return (!asked.is_empty()).then(|| asked.to_owned());
    }
    asked
        .split_whitespace()
        .find_map(|scope| scope.strip_suffix("/.default"))
        .filter(|audience| !audience.is_empty())
        .map(str::to_owned)
}

impl Shared {
    /// A token for the principal. The simulator signs for managed identities with it too.
    /// `proof` is how the client proved who it is: `1` by a secret, `2` by a certificate or an issuer's word.
    pub fn mint(&self, principal: &Principal, audience: &str, now: OffsetDateTime, proof: &str) -> String {
        let issued = now.unix_timestamp();
        let lifetime = i64::try_from(self.options.token_lifetime.as_secs()).unwrap_or(i64::MAX / 2);
        let mut claims = json!({
            "aud": audience,
            "iss": issuer(self),
            "iat": issued,
            "nbf": issued,
            "exp": issued.saturating_add(lifetime),
            "appid": principal.app_id,
            "appidacr": proof,
            "idp": issuer(self),
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": self.options.tenant_id,
            "uti": uuid::Uuid::new_v4().simple().to_string(),
            "ver": "1.0",
        });
        if let (Some(id), Value::Object(map)) = (&principal.resource_id, &mut claims) {
            map.insert("xms_mirid".into(), id.clone().into());
        }
        self.signer.sign(&claims)
    }
}

/// An error in the shape of the token endpoint.
fn refusal(shared: &Shared, call: &Call, status: u16, error: &'static str, code: u32, text: &str) -> Failure {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let timestamp = call.now.format(&format).unwrap_or_default();
    let trace = call.request_id.to_string();
    let correlation = call.header("client-request-id").unwrap_or(&call.correlation_id).to_owned();
    let body = json!({
        "error": error,
        "error_description": format!(
            "AADSTS{code}: {text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {timestamp}"
        ),
        "error_codes": [code],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("{}/error?code={code}", shared.addresses.url("login")),
    });
    let mut failure = Failure::new(status, format!("AADSTS{code}"), text);
    failure.body = Some(body);
    failure
}
