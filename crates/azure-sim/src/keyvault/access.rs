//! The gates in front of keys, in Azure's order: host, token, firewall, permission, api-version.

use std::net::IpAddr;

use crate::arm::vault_model::Vault;
use crate::entra::tokens::{BadToken, Claims};
use crate::http::{Call, Failure};
use crate::keyvault::Asked;
use crate::keyvault::holder::{At, Gate, Holder, Zone};
use crate::rbac::check::{Plane, allowed_by};
use crate::state::{Shared, World};

/// Whether the holder's name resolves. Where it does not, the connection is closed: there is no such host.
pub(crate) fn host_exists(shared: &Shared, call: &Call, at: &At) -> Result<(), Failure> {
    if shared.world(|w| w.resolves(at, call.now)) { Ok(()) } else { Err(Failure::no_such_host()) }
}

/// The caller, or the 401 with the challenge by which clients learn where to get a token and for what.
pub(crate) fn authenticate(shared: &Shared, call: &Call, zone: Zone) -> Result<Claims, Failure> {
    let names = &shared.addresses;
    let expected = names.url(zone.label());
    let challenge = |message: String| {
        let failure = Failure::new(401, "Unauthorized", message).with(
            "www-authenticate",
            format!(
                "Bearer authorization=\"{}/{}\", resource=\"{expected}\"",
                names.url("login"),
                shared.options.tenant_id
            ),
        );
        match zone {
            Zone::Vault => failure,
            // A managed HSM says no more than its header.
            Zone::Hsm => failure.without_body(),
        }
    };
    let Some(token) = call.bearer() else {
        return Err(challenge("AKV10000: Request is missing a Bearer or PoP token.".to_owned()));
    };
    let claims = shared.signer.verify(token, call.now).map_err(|bad| {
        challenge(match bad {
            BadToken::Expired => "[TokenExpired] Error validating token: 'S2S12086'.".to_owned(),
            BadToken::Malformed | BadToken::Signature => {
                "[BearerReadAccessTokenFailed] Error validating token: 'S2S12005'.".to_owned()
            }
        })
    })?;
    let audience = claims.aud.trim_end_matches('/');
    let without_port = format!("https://{}.{}", zone.label(), names.suffix);
    let public = format!("https://{}.azure.net", zone.label());
    if audience != public && audience != expected && audience != without_port {
        return Err(challenge(format!("AKV10022: Invalid audience. Expected {public}, found: {}.", claims.aud)));
    }
    if !claims.tid.eq_ignore_ascii_case(&shared.options.tenant_id) {
        return Err(challenge(format!(
            "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{}/, found {}.",
            shared.options.tenant_id, claims.iss
        )));
    }
    let _ = call.principal.set(claims.oid.clone());
    Ok(claims)
}

/// The address that the firewall sees.
pub(crate) fn address(asked: &Asked<'_>) -> IpAddr {
    asked.shared.options.address_of(asked.call.peer)
}

/// Takes the world lock for `pass`, for requests that need nothing more from it.
pub(crate) fn enter(asked: &Asked<'_>, data_action: &str, key: Option<&str>, policy: &str) -> Result<(), Failure> {
    asked.shared.world(|w| pass(asked, w, data_action, key, policy).map(|_| ()))
}

/// Lets the caller through firewall and permission, or says what Key Vault says. `data_action` is the vaults' name of the
/// permission, without `Microsoft.KeyVault/vaults/`; a managed HSM has its own names for some. `policy` is the name in
/// access policies. Reading deleted keys is `deletedkeys/read` here, as only managed HSMs tell it from `keys/read`.
pub(crate) fn pass<'w>(
    asked: &Asked<'_>,
    w: &'w World,
    data_action: &str,
    key: Option<&str>,
    policy: &str,
) -> Result<&'w Holder, Failure> {
    match asked.at.zone {
        Zone::Vault => {
            let vault = w.vaults.get(&asked.at.name).ok_or_else(Failure::no_such_host)?;
            firewall(asked, w, vault)?;
            if vault.rbac {
                let action = if data_action == "deletedkeys/read" { "keys/read" } else { data_action };
                rbac(asked, w, vault, action, key)?;
            } else {
                access_policy(asked, vault, policy)?;
            }
            api_version(asked.call)?;
            Ok(vault)
        }
        Zone::Hsm => crate::hsm::access::pass(asked, w, data_action, key).map(|hsm| &hsm.holder),
    }
}

pub(crate) fn caller_line(asked: &Asked<'_>) -> String {
    format!("appid={};oid={};iss={}", asked.caller.appid, asked.caller.oid, asked.caller.iss)
}

/// Whether the caller comes over an approved private endpoint of the holder.
pub(crate) fn privately(shared: &Shared, call: &Call, w: &World, holder: &Holder) -> bool {
    let group = match holder.zone {
        Zone::Vault => "vault",
        Zone::Hsm => "managedhsm",
    };
    shared.options.behind_gateway(call.peer) && w.networks.privately(&holder.id, group)
}

/// The firewall's verdict. An approved private link passes whatever the public rules say.
pub(crate) fn firewall(asked: &Asked<'_>, w: &World, vault: &Holder) -> Result<(), Failure> {
    if privately(asked.shared, asked.call, w, vault) {
        return Ok(());
    }
    let behind = asked.shared.options.behind_gateway(asked.call.peer);
    let subnet = behind.then(|| w.networks.subnet_for("Microsoft.KeyVault")).flatten();
    let rules = vault.network_in_force(asked.call.now);
    let who = format!("Caller: {}\r\nVault: {};location={}", caller_line(asked), vault.name, vault.location);
    let (inner, message) = match (rules.admits(address(asked), subnet), rules.bypasses()) {
        (Gate::Open, _) => return Ok(()),
        (Gate::NoPublicAccess, true) => (
            "ForbiddenByConnection",
            format!(
                "Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\n{who}"
            ),
        ),
        (Gate::NoPublicAccess, false) => (
            "ForbiddenByConnection",
            format!(
                "Connection is not an approved private link and caller was ignored because bypass is not set to 'AzureServices' and PublicNetworkAccess is set to 'Disabled'.\r\n{who}"
            ),
        ),
        (Gate::AddressRefused, bypass) => (
            "ForbiddenByFirewall",
            format!(
                "Client address is not authorized and caller {}.\r\nClient address: {}\r\n{who}",
                if bypass { "is not a trusted service" } else { "was ignored because bypass is set to None" },
                address(asked)
            ),
        ),
    };
    Err(Failure::new(403, "Forbidden", message).inner(inner))
}

fn rbac(asked: &Asked<'_>, w: &World, vault: &Vault, data_action: &str, key: Option<&str>) -> Result<(), Failure> {
    let resource = match key {
        Some(key) => format!("{}/keys/{key}", vault.id),
        None => vault.id.clone(),
    };
    let action = format!("{}{data_action}", Zone::Vault.actions());
    if allowed_by(w, &asked.caller.oid, &action, &resource, Plane::Data, asked.call.now).is_some() {
        return Ok(());
    }
    // The resource comes in the lower case in which Key Vault prints it, the key's name as asked.
    let shown = match key {
        Some(key) => format!("{}/keys/{key}", vault.id.to_lowercase()),
        None => vault.id.to_lowercase(),
    };
    Err(Failure::new(
        403,
        "Forbidden",
        format!(
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\nCaller: {}\r\nAction: '{action}'\r\nResource: '{shown}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: {};location={}\r\n",
            caller_line(asked), vault.name, vault.location
        ),
    )
    .inner("ForbiddenByRbac"))
}

fn access_policy(asked: &Asked<'_>, vault: &Vault, permission: &str) -> Result<(), Failure> {
    if policy_allows(vault, &asked.caller.oid, permission) {
        return Ok(());
    }
    Err(Failure::new(
        403,
        "Forbidden",
        format!(
            "The user, group or application '{}' does not have keys {permission} permission on key vault '{};location={}'. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287",
            caller_line(asked), vault.name, vault.location
        ),
    )
    .inner("AccessDenied"))
}

/// Whether a vault in access-policy mode gives the principal this key permission. `all` leaves purge out.
pub(crate) fn policy_allows(vault: &Vault, oid: &str, permission: &str) -> bool {
    vault
        .access_policies
        .iter()
        .filter(|p| p["objectId"].as_str().is_some_and(|o| o.eq_ignore_ascii_case(oid)))
        .flat_map(|p| p["permissions"]["keys"].as_array().into_iter().flatten())
        .filter_map(|p| p.as_str())
        .any(|p| p.eq_ignore_ascii_case(permission) || (p.eq_ignore_ascii_case("all") && permission != "purge"))
}

/// `7.0` to `7.6`, or a date; either with `-preview…`.
pub(crate) fn api_version(call: &Call) -> Result<(), Failure> {
    let version = call.param("api-version").unwrap_or_default();
    let base = version.split_once("-preview").map_or(version, |(base, _)| base);
    let old = base.strip_prefix("7.").is_some_and(|minor| minor.len() == 1 && ("0"..="6").contains(&minor));
    let parts: Vec<&str> = base.split('-').collect();
    let dated = parts.len() == 3
        && parts.iter().zip([4, 2, 2]).all(|(p, n)| p.len() == n && p.bytes().all(|b| b.is_ascii_digit()));
    if old || dated || base == "2016-10-01" {
        return Ok(());
    }
    Err(Failure::new(
        400,
        "BadParameter",
        if version.is_empty() {
            "The request URI is missing the required query parameter 'api-version'.".to_owned()
        } else {
            format!(
                "The specified version ({version}) is not recognized. Consider using the latest supported version (2025-07-01)."
            )
        },
    ))
}
