//! AI services accounts: subdomains, projects, endpoints, keys (protocol.md 8.3).

use serde_json::{Value, json};

use crate::arm::generic::pointer;
use crate::arm::generic::resource::View;
use crate::arm::generic::rule::{Said, Trouble};
use crate::arm::generic::write::Change;
use crate::cmk::Refusal;
use crate::http::{Failure, rfc3339};

use super::made_key;

const SUBDOMAIN: &str = "/properties/customSubDomainName";
const SOURCE: &str = "/properties/encryption/keySource";

/// A key that the account may not reach (yet) makes the account `Failed`; whatever is wrong with the setting itself is refused.
pub(crate) fn words(trouble: &Trouble) -> Option<Said> {
    Some(match trouble {
        Trouble::Key(Refusal::NoAccess | Refusal::IdentityGone | Refusal::Firewall) => Said::later(
            400,
            "AccessPolicyNotConfiguredForKeyVault",
            "The key vault does not let the account's identity get, wrap and unwrap with the key.",
        ),
        // The code is UNVERIFIED.
        Trouble::Nobody => Said::now(
            400,
            "InvalidEncryptionIdentity",
            "The identityClientId is not the client id of an identity that is assigned to the account.",
        ),
        _ => return None,
    })
}

pub(crate) fn guard(change: &mut Change<'_>) -> Result<(), Failure> {
    if change.have.is_none() {
        for (at, member) in [("/sku", "sku"), ("/kind", "kind")] {
            if pointer::get(&change.next.body, at).is_none() {
                return Err(Failure::bad_content(format!(
                    "The request content was invalid: required member '{member}' was not provided."
                ))
                .target(member));
            }
        }
    }
    pointer::remove(&mut change.next.body, "/properties/restore");
    subdomain(change)?;
    let was = change.have.and_then(|h| pointer::text(&h.body, SOURCE)).unwrap_or_default();
    let is = change.text(SOURCE).unwrap_or_default();
    let projects = pointer::get(&change.next.body, "/properties/allowProjectManagement") == Some(&Value::Bool(true));
    if was.eq_ignore_ascii_case("Microsoft.KeyVault") {
        if change.have.is_some() && is.is_empty() {
            // A PUT without the block leaves it as it is (UNVERIFIED).
            change.undo("/properties/encryption");
        } else if !is.eq_ignore_ascii_case("Microsoft.KeyVault") && projects {
            // Code UNVERIFIED.
            return Err(Failure::bad_request(
                "The encryption of an account with projects cannot be changed back to Microsoft-managed keys.",
            ));
        }
    }
    Ok(())
}

/// Set once, one account per name in the cloud, needed for network rules.
fn subdomain(change: &mut Change<'_>) -> Result<(), Failure> {
    let had = change.have.and_then(|h| pointer::text(&h.body, SUBDOMAIN)).map(str::to_owned);
    if let (Some(had), true) = (&had, change.text(SUBDOMAIN).is_none()) {
        pointer::set(&mut change.next.body, SUBDOMAIN, had.clone().into());
    }
    let Some(wanted) = change.text(SUBDOMAIN).map(str::to_owned) else {
        if pointer::text(&change.next.body, "/properties/networkAcls/defaultAction") == Some("Deny") {
            return Err(Failure::bad_request(
                "The account needs a custom subdomain name before network rules can be set.",
            ));
        }
        return Ok(());
    };
    if had.as_deref().is_some_and(|had| !had.eq_ignore_ascii_case(&wanted)) {
        // Code UNVERIFIED.
        return Err(Failure::bad_request("The custom subdomain name of an account cannot be changed once it is set."));
    }
    let label = (2..=63).contains(&wanted.len())
        && wanted.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !wanted.starts_with('-')
        && !wanted.ends_with('-');
    if !label {
        return Err(Failure::bad_request(format!("The custom subdomain name '{wanted}' is not a valid host label.")));
    }
    let same = |r: &crate::arm::generic::resource::Resource| {
        r.kind == change.kind.name
            && !r.id.eq_ignore_ascii_case(&change.next.id)
            && pointer::text(&r.body, SUBDOMAIN).is_some_and(|s| s.eq_ignore_ascii_case(&wanted))
    };
    let w = change.world;
    if w.resources.values().any(same) || w.deleted_resources.values().any(|d| same(&d.resource)) {
        return Err(Failure::new(
            409,
            "CustomDomainInUse",
            format!("The subdomain name '{wanted}' is not available as it's already used by a resource."),
        ));
    }
    Ok(())
}

pub(crate) fn shows(view: &View<'_>, out: &mut Value) {
    let label = pointer::text(&view.resource.body, SUBDOMAIN).map(str::to_lowercase);
    let label = label.unwrap_or_else(|| format!("{}.api", view.resource.location));
    let endpoint = view.shared.addresses.url(&format!("{label}.cognitiveservices")) + "/";
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, view.resource.id.to_lowercase().as_bytes());
    let id: String = hash.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect();
    pointer::set(out, "/properties/endpoint", endpoint.clone().into());
    pointer::set(out, "/properties/endpoints", json!({ "Cognitive Services": endpoint }));
    pointer::set(out, "/properties/internalId", id.into());
    pointer::set(out, "/properties/dateCreated", rfc3339(view.resource.created).into());
    pointer::set(out, "/properties/callRateLimit", json!({ "rules": [] }));
    out["etag"] = format!("\"{:x}\"", view.resource.modified.unix_timestamp_nanos()).into();
}

pub(crate) fn keys(view: &View<'_>) -> Value {
    json!({ "key1": made_key(view.resource, "key1"), "key2": made_key(view.resource, "key2") })
}
