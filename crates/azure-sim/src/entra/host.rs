//! The endpoints on a plain port from which software on Azure's own machines gets tokens: the instance metadata service of
//! a virtual machine and the identity endpoint of a web app. Which identities the machine has is told over the control API.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::entra::principals::Principal;
use crate::http::{Call, Failure, Outcome, Reply};
use crate::propagation::reached;
use crate::state::{Shared, World};

/// The identities of the simulated machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Machine {
    /// Ids of user-assigned identities; absent: every one there is.
    pub user_assigned: Option<Vec<String>>,
    /// Id of the resource whose own identity the machine's is.
    pub system_assigned: Option<String>,
}

/// Which form the question and the answer have.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Metadata,
    WebApp,
}

/// Answers a request to the plain port.
pub(crate) fn serve(shared: &Shared, call: &Call) -> Outcome {
    let segments: Vec<String> = call.segments.iter().map(|s| s.to_lowercase()).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (call.method.as_str(), parts.as_slice()) {
        ("GET", ["metadata", "identity", "oauth2", "token"]) => metadata_token(shared, call),
        ("GET", ["metadata", "instance"]) => {
            asked_for_metadata(call)?;
            Ok(instance(shared))
        }
        ("GET", ["msi", "token"]) => web_app_token(shared, call),
        (_, ["metadata", "identity", "oauth2", "token"] | ["msi", "token"]) => Err(plain(405, "Method not allowed")),
        _ => Err(plain(404, "Not found")),
    }
}

fn plain(status: u16, text: &str) -> Failure {
    let mut failure = Failure::new(status, "IdentityEndpoint", text);
    failure.body = Some(json!({ "error": text }));
    failure
}

fn refusal(form: Form, call: &Call, status: u16, text: &str) -> Failure {
    let mut failure = Failure::new(status, "invalid_request", text);
    failure.body = Some(match form {
        Form::Metadata => json!({ "error": "invalid_request", "error_description": text }),
        Form::WebApp => json!({ "statusCode": status, "message": text, "correlationId": call.correlation_id }),
    });
    failure
}

/// Every question to the metadata service carries this header and none that a proxy adds.
fn asked_for_metadata(call: &Call) -> Result<(), Failure> {
    if call.header("x-forwarded-for").is_some() {
        return Err(refusal(Form::Metadata, call, 400, "The request was forwarded"));
    }
    if call.header("metadata").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return Ok(());
    }
    Err(refusal(Form::Metadata, call, 400, "Required metadata header not specified"))
}

fn metadata_token(shared: &Shared, call: &Call) -> Outcome {
    asked_for_metadata(call)?;
    let version = call.param("api-version").unwrap_or_default();
    if !matches!(version, "2018-02-01" | "2019-08-01" | "2020-06-01" | "2021-02-01") {
        return Err(refusal(Form::Metadata, call, 400, "Required query variable 'api-version' not specified"));
    }
    token(shared, call, Form::Metadata)
}

fn web_app_token(shared: &Shared, call: &Call) -> Outcome {
    let secret = call.header("x-identity-header").unwrap_or_default();
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(
        secret.as_bytes(),
        shared.options.identity_header.as_deref().unwrap_or_default().as_bytes(),
    );
    if secret.is_empty() || same.is_err() {
        return Err(refusal(Form::WebApp, call, 401, "The header X-IDENTITY-HEADER is missing or wrong."));
    }
    if call.param("api-version") != Some("2019-08-01") {
        return Err(refusal(Form::WebApp, call, 400, "The api-version is missing or not supported."));
    }
    token(shared, call, Form::WebApp)
}

fn token(shared: &Shared, call: &Call, form: Form) -> Outcome {
    let resource = call.param("resource").filter(|r| !r.is_empty());
    let Some(resource) = resource else {
        return Err(refusal(form, call, 400, "Required query variable 'resource' is missing"));
    };
    let principal = shared.world(|w| chosen(w, call)).map_err(|text| refusal(form, call, 400, text))?;
    let _ = call.principal.set(principal.object_id.clone());
    let lifetime = shared.options.token_lifetime.as_secs();
    let (issued, access_token) = (call.now.unix_timestamp(), shared.mint(&principal, resource, call.now, "2"));
    let ends = issued.saturating_add(i64::try_from(lifetime).unwrap_or(i64::MAX / 2));
    // Numbers are strings here, and clients insist on it.
    let mut answer = json!({
        "access_token": access_token,
        "client_id": principal.app_id,
        "expires_on": ends.to_string(),
        "not_before": issued.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    });
    if let (Form::Metadata, Value::Object(map)) = (form, &mut answer) {
        map.insert("expires_in".into(), lifetime.to_string().into());
        map.insert("ext_expires_in".into(), lifetime.to_string().into());
    }
    Ok(Reply::ok(answer))
}

/// The identity asked for: by one of three names, or the machine's own, or the only one.
fn chosen(w: &World, call: &Call) -> Result<Principal, &'static str> {
    let named = |names: &[&str]| names.iter().find_map(|name| call.param(name)).filter(|v| !v.is_empty());
    let mut of_machine = principals(w, call);
    let wanted = (named(&["client_id"]), named(&["object_id", "principal_id"]), named(&["msi_res_id", "mi_res_id"]));
    if wanted == (None, None, None) {
        if let Some(own) = system_assigned(w) {
            return Ok(own);
        }
        return match of_machine.len() {
            1 => Ok(of_machine.remove(0)),
            0 => Err("Identity not found"),
            _ => Err(
                "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
            ),
        };
    }
    of_machine.extend(system_assigned(w));
    let is_it = |p: &Principal| {
        wanted.0.is_none_or(|id| p.app_id.eq_ignore_ascii_case(id))
            && wanted.1.is_none_or(|id| p.object_id.eq_ignore_ascii_case(id))
            && wanted.2.is_none_or(|id| p.resource_id.as_deref().is_some_and(|r| r.eq_ignore_ascii_case(id)))
    };
    of_machine.into_iter().find(is_it).ok_or("Identity not found")
}

/// The machine's user-assigned identities.
fn principals(w: &World, call: &Call) -> Vec<Principal> {
    let has = |id: &str| match &w.machine.user_assigned {
        None => true,
        Some(ids) => ids.iter().any(|i| i.eq_ignore_ascii_case(id)),
    };
    let identities = w.identities.values().filter(|i| has(&i.id) && reached(i.visible_from, call.now));
    identities.filter_map(|i| w.principals.get(&i.principal_id.to_lowercase()).cloned()).collect()
}

fn system_assigned(w: &World) -> Option<Principal> {
    let id = w.machine.system_assigned.as_deref()?;
    w.principals.values().find(|p| p.resource_id.as_deref().is_some_and(|r| r.eq_ignore_ascii_case(id))).cloned()
}

/// A little of what the metadata service tells about the machine.
fn instance(shared: &Shared) -> Reply {
    let subscription = &shared.options.subscription_id;
    let id = format!(
        "/subscriptions/{subscription}/resourceGroups/rg-machine/providers/Microsoft.Compute/virtualMachines/machine"
    );
    Reply::ok(json!({ "compute": {
        "azEnvironment": "AzureSim",
        "location": "uksouth",
        "name": "machine",
        "osType": "Linux",
        "provider": "Microsoft.Compute",
        "resourceGroupName": "rg-machine",
        "resourceId": id,
        "subscriptionId": subscription,
        "vmId": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, id.as_bytes()).to_string(),
    } }))
}
