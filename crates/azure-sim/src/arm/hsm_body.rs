//! What a caller may write about a managed HSM, and its invariants. Some differ from a vault's: purge protection may be
//! given as false as long as it was never on, and network rules are few.

use serde_json::{Map, Value, json};

use crate::arm::identity_block;
use crate::arm::shape::{Member, Shape, TAGS, may, must};
use crate::arm::vault_body::normal_rule;
use crate::http::Failure;
use crate::keyvault::holder::{Holder, Network};

const ACLS: &[Member] = &[
    may("bypass", Shape::OneOf(&["AzureServices", "None"])),
    may("defaultAction", Shape::OneOf(&["Allow", "Deny"])),
    may("ipRules", Shape::List(&Shape::Object(&[must("value", Shape::Text)]))),
    may("serviceTags", Shape::List(&Shape::Object(&[must("tag", Shape::Text)]))),
    may("virtualNetworkRules", Shape::List(&Shape::Object(&[must("id", Shape::Text)]))),
];

const PROPERTIES: &[Member] = &[
    may("tenantId", Shape::Guid),
    may("initialAdminObjectIds", Shape::List(&Shape::Guid)),
    may("enableSoftDelete", Shape::Bool),
    may("softDeleteRetentionInDays", Shape::Int),
    may("enablePurgeProtection", Shape::Bool),
    may("createMode", Shape::OneOf(&["default", "recover"])),
    may("networkAcls", Shape::Object(ACLS)),
    may("publicNetworkAccess", Shape::OneOf(&["Enabled", "Disabled"])),
    may(
        "regions",
        Shape::List(&Shape::Object(&[
            may("name", Shape::Text),
            may("isPrimary", Shape::Bool),
            may("provisioningState", Shape::ReadOnly),
        ])),
    ),
    may("hsmUri", Shape::ReadOnly),
    may("statusMessage", Shape::ReadOnly),
    may("provisioningState", Shape::ReadOnly),
    may("privateEndpointConnections", Shape::ReadOnly),
    may("scheduledPurgeDate", Shape::ReadOnly),
    may("securityDomainProperties", Shape::ReadOnly),
];

/// The whole body of a PUT.
pub(crate) const BODY: &[Member] = &[
    must("location", Shape::Text),
    must(
        "sku",
        Shape::Object(&[
            must("family", Shape::OneOf(&["B", "C"])),
            must("name", Shape::OneOf(&["Standard_B1", "Custom_B32", "Custom_B6", "Custom_C42", "Custom_C10"])),
        ]),
    ),
    must("properties", Shape::Object(PROPERTIES)),
    may("identity", Shape::Object(identity_block::SHAPE)),
    may("tags", TAGS),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

fn refuse(message: impl Into<String>) -> Failure {
    Failure::bad_request(message)
}

/// The refusals that depend on the body and on what is there already. Codes and texts are those of vaults; UNVERIFIED for
/// managed HSMs.
pub(crate) fn invariants(properties: &Map<String, Value>, have: Option<&Holder>, tenant: &str) -> Result<(), Failure> {
    if properties.get("enablePurgeProtection") == Some(&Value::Bool(false)) && have.is_some_and(|h| h.purge_protection)
    {
        return Err(refuse(
            "The property \"enablePurgeProtection\" cannot be set to false. Enabling the purge protection for a managed HSM is an irreversible action.",
        ));
    }
    if properties.get("enableSoftDelete") == Some(&Value::Bool(false)) {
        return Err(refuse("The property \"enableSoftDelete\" cannot be set to false: soft delete is always on."));
    }
    if let Some(days) = properties.get("softDeleteRetentionInDays").and_then(Value::as_i64) {
        if !(7..=90).contains(&days) {
            return Err(refuse(format!(
                "The property \"softDeleteRetentionInDays\" must be between 7 and 90, not {days}."
            )));
        }
        if have.is_some_and(|h| h.retention_days != days) {
            return Err(refuse(
                "The property \"softDeleteRetentionInDays\" has been set already and it can't be modified.",
            ));
        }
    }
    if let Some(sent) = properties.get("tenantId").and_then(Value::as_str)
        && !sent.eq_ignore_ascii_case(tenant)
    {
        return Err(refuse(format!("The tenant '{sent}' is not the tenant of the subscription.")));
    }
    if properties.get("regions").and_then(Value::as_array).is_some_and(|r| !r.is_empty()) {
        return Err(Failure::not_played("further regions of a managed HSM"));
    }
    Ok(())
}

/// The sku, whose family and name must fit.
pub(crate) fn sku(body: &Map<String, Value>) -> Result<Option<(String, String)>, Failure> {
    let Some(sku) = body.get("sku") else {
        return Ok(None);
    };
    let (family, name) = (sku["family"].as_str().unwrap_or_default(), sku["name"].as_str().unwrap_or_default());
    if !name.contains(&format!("_{family}")) {
        // Code UNVERIFIED.
        return Err(refuse(format!("The sku '{name}' is not one of family '{family}'.")));
    }
    Ok(Some((family.to_owned(), name.to_owned())))
}

/// The first administrators of a new HSM: at least one.
pub(crate) fn first_admins(properties: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    let ids: Vec<String> = properties
        .get("initialAdminObjectIds")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect();
    if ids.is_empty() {
        // Code UNVERIFIED.
        return Err(refuse("The property \"initialAdminObjectIds\" must name at least one administrator."));
    }
    Ok(ids)
}

/// Network rules in normal form: at most ten public IPv4 ranges and no subnets.
pub(crate) fn network(properties: &Map<String, Value>, have: Option<&Network>) -> Result<Network, Failure> {
    let public_access = properties
        .get("publicNetworkAccess")
        .and_then(Value::as_str)
        .or(have.map(|n| n.public_access.as_str()))
        .unwrap_or("Enabled")
        .to_owned();
    let Some(sent) = properties.get("networkAcls").and_then(Value::as_object) else {
        return Ok(Network { acls: have.and_then(|n| n.acls.clone()), public_access });
    };
    let items = |name: &str| sent.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let rules = items("ipRules");
    if rules.len() > 10 {
        return Err(refuse("A managed HSM takes at most 10 IP rules."));
    }
    if !items("virtualNetworkRules").is_empty() {
        return Err(refuse("A managed HSM takes no virtual network rules."));
    }
    let rules = rules
        .iter()
        .filter_map(|r| r["value"].as_str())
        .map(|value| Ok(json!({ "value": normal_rule(value)? })))
        .collect::<Result<Vec<_>, Failure>>()?;
    let mut acls = json!({
        "bypass": sent.get("bypass").and_then(Value::as_str).unwrap_or("AzureServices"),
        "defaultAction": sent.get("defaultAction").and_then(Value::as_str).unwrap_or("Allow"),
        "ipRules": rules,
        "virtualNetworkRules": [],
    });
    // Kept and shown; they let nobody in, as no caller of the simulator comes from a service tag.
    let tags = items("serviceTags");
    if !tags.is_empty() {
        acls["serviceTags"] = Value::Array(tags);
    }
    Ok(Network { acls: Some(acls), public_access })
}

/// 3 to 24 letters and digits, starting with a letter.
pub(crate) fn good_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
        && name.as_bytes()[0].is_ascii_alphabetic()
}
