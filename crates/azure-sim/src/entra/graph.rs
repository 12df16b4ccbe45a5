//! Microsoft Graph, as far as one needs it to grant a role to one of Azure's own applications: service principals by
//! application id or by object id. `GET https://graph.<suffix>/v1.0/servicePrincipals?$filter=appId eq '…'`.

use serde_json::{Value, json};

use crate::entra::principals::Principal;
use crate::http::{Call, Failure, Outcome, Reply};
use crate::propagation::reached;
use crate::state::Shared;

const PUBLIC: &str = "https://graph.microsoft.com";

/// Answers a request to the Graph host.
pub(crate) fn serve(shared: &Shared, call: &Call) -> Outcome {
    let refused = |message: &str| Failure::new(401, "InvalidAuthenticationToken", message);
    let token = call.bearer().ok_or_else(|| refused("Access token is empty."))?;
    let claims = shared.signer.verify(token, call.now).map_err(|_| refused("Access token validation failure."))?;
    let audience = claims.aud.trim_end_matches('/');
    if audience != PUBLIC && audience != shared.addresses.url("graph") {
        return Err(refused("Access token validation failure. Invalid audience."));
    }
    let _ = call.principal.set(claims.oid);
    let lower: Vec<String> = call.segments.iter().map(|s| s.to_lowercase()).collect();
    let parts: Vec<&str> = lower.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["v1.0" | "beta", "serviceprincipals"] if call.is("GET") => list(shared, call),
        ["v1.0" | "beta", "serviceprincipals", id] if call.is("GET") => {
            let found = shared.world(|w| w.principals.get(*id).map(render));
            found.map(Reply::ok).ok_or_else(|| {
                Failure::new(404, "Request_ResourceNotFound", format!("Resource '{id}' does not exist."))
            })
        }
        _ => Err(Failure::not_played("this part of Microsoft Graph")),
    }
}

fn list(shared: &Shared, call: &Call) -> Outcome {
    let wanted = match call.param("$filter").map(filter) {
        None => None,
        Some(Some(app)) => Some(app),
        Some(None) => return Err(Failure::not_played("this $filter on servicePrincipals")),
    };
    let items = shared.world(|w| {
        let known = w.principals.values().filter(|p| reached(p.known_from, call.now));
        known.filter(|p| wanted.as_ref().is_none_or(|app| p.app_id == *app)).map(render).collect::<Vec<_>>()
    });
    let context = format!("{}/v1.0/$metadata#servicePrincipals", shared.addresses.url("graph"));
    Ok(Reply::ok(json!({ "@odata.context": context, "value": items })))
}

/// The application id of `appId eq '…'`.
fn filter(text: &str) -> Option<String> {
    let rest = text.trim().strip_prefix("appId")?.trim_start();
    let quoted = rest.strip_prefix("eq")?.trim();
    Some(quoted.strip_prefix('\'')?.strip_suffix('\'')?.to_lowercase())
}

fn render(principal: &Principal) -> Value {
    json!({
        "id": principal.object_id,
        "appId": principal.app_id,
        "displayName": principal.name,
        "servicePrincipalType": if principal.resource_id.is_some() { "ManagedIdentity" } else { "Application" },
        "accountEnabled": true,
    })
}
