//! What a caller may write about a vault, and the invariants of it: purge protection never goes away, retention never
//! changes, network rules are addresses on the public Internet.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value, json};

use crate::arm::shape::{Member, Shape, TAGS, may, must};
use crate::http::Failure;
use crate::keyvault::holder::{Holder, Network, parse_network};

/// One access policy.
pub(crate) const POLICY: &[Member] = &[
    must("tenantId", Shape::Guid),
    must("objectId", Shape::Text),
    may("applicationId", Shape::Guid),
    must(
        "permissions",
        Shape::Object(&[
            may("keys", Shape::List(&Shape::Text)),
            may("secrets", Shape::List(&Shape::Text)),
            may("certificates", Shape::List(&Shape::Text)),
            may("storage", Shape::List(&Shape::Text)),
        ]),
    ),
];

const ACLS: &[Member] = &[
    may("bypass", Shape::OneOf(&["AzureServices", "None"])),
    may("defaultAction", Shape::OneOf(&["Allow", "Deny"])),
    may("ipRules", Shape::List(&Shape::Object(&[must("value", Shape::Text)]))),
    may(
        "virtualNetworkRules",
        Shape::List(&Shape::Object(&[must("id", Shape::Text), may("ignoreMissingVnetServiceEndpoint", Shape::Bool)])),
    ),
];

const PROPERTIES: &[Member] = &[
    must("tenantId", Shape::Guid),
    must(
        "sku",
        Shape::Object(&[must("family", Shape::OneOf(&["A"])), must("name", Shape::OneOf(&["standard", "premium"]))]),
    ),
    may("accessPolicies", Shape::List(&Shape::Object(POLICY))),
    may("enabledForDeployment", Shape::Bool),
    may("enabledForDiskEncryption", Shape::Bool),
    may("enabledForTemplateDeployment", Shape::Bool),
    may("enableSoftDelete", Shape::Bool),
    may("softDeleteRetentionInDays", Shape::Int),
    may("enableRbacAuthorization", Shape::Bool),
    may("enablePurgeProtection", Shape::Bool),
    may("createMode", Shape::OneOf(&["default", "recover"])),
    may("networkAcls", Shape::Object(ACLS)),
    may("publicNetworkAccess", Shape::OneOf(&["Enabled", "Disabled", "SecuredByPerimeter"])),
    may("vaultUri", Shape::ReadOnly),
    may("provisioningState", Shape::ReadOnly),
    may("hsmPoolResourceId", Shape::ReadOnly),
    may("privateEndpointConnections", Shape::ReadOnly),
];

/// The whole body of a PUT.
pub(crate) const BODY: &[Member] = &[
    must("location", Shape::Text),
    must("properties", Shape::Object(PROPERTIES)),
    may("tags", TAGS),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("systemData", Shape::ReadOnly),
];

fn refuse(message: impl Into<String>) -> Failure {
    Failure::bad_request(message)
}

/// The refusals that depend on the body and on what is there already, in one place for PUT and PATCH.
pub(crate) fn invariants(properties: &Map<String, Value>, have: Option<&Holder>, tenant: &str) -> Result<(), Failure> {
    if properties.get("enablePurgeProtection") == Some(&Value::Bool(false)) {
        return Err(refuse(
            "The property \"enablePurgeProtection\" cannot be set to false. Enabling the purge protection for a vault is an irreversible action.",
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
        if have.is_some_and(|v| v.retention_days != days) {
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
    Ok(())
}

/// Network rules in normal form, or their refusal.
pub(crate) fn network(properties: &Map<String, Value>, have: Option<&Network>) -> Result<Network, Failure> {
    let public_access = properties
        .get("publicNetworkAccess")
        .and_then(Value::as_str)
        .or(have.map(|n| n.public_access.as_str()))
        .unwrap_or("Enabled")
        .to_owned();
    let acls = match properties.get("networkAcls").and_then(Value::as_object) {
        None => have.and_then(|n| n.acls.clone()),
        Some(sent) => Some(normal_acls(sent)?),
    };
    Ok(Network { acls, public_access })
}

fn normal_acls(sent: &Map<String, Value>) -> Result<Value, Failure> {
    let mut rules = Vec::new();
    for value in sent.get("ipRules").and_then(Value::as_array).into_iter().flatten().filter_map(|r| r["value"].as_str())
    {
        rules.push(json!({ "value": normal_rule(value)? }));
    }
    let subnets: Vec<Value> = sent
        .get("virtualNetworkRules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|r| {
            json!({
                "id": r["id"].as_str().unwrap_or_default().to_lowercase(),
                "ignoreMissingVnetServiceEndpoint": r["ignoreMissingVnetServiceEndpoint"].as_bool().unwrap_or(false),
            })
        })
        .collect();
    if rules.len() > 1000 || subnets.len() > 200 {
        return Err(refuse("A vault takes at most 1000 IP rules and 200 virtual network rules."));
    }
    if let Some(wrong) = subnets
        .iter()
        .filter_map(|s| s["id"].as_str())
        .find(|id| !id.contains("/providers/microsoft.network/virtualnetworks/") || !id.contains("/subnets/"))
    {
        return Err(refuse(format!("The virtual network rule '{wrong}' is not the id of a subnet.")));
    }
    Ok(json!({
        "bypass": sent.get("bypass").and_then(Value::as_str).unwrap_or("AzureServices"),
        "defaultAction": sent.get("defaultAction").and_then(Value::as_str).unwrap_or("Allow"),
        "ipRules": rules,
        "virtualNetworkRules": subnets,
    }))
}

/// A single address gets `/32` (UNVERIFIED here, long-known behaviour); private ranges and IPv6 are refused.
pub(crate) fn normal_rule(value: &str) -> Result<String, Failure> {
    let net = match parse_network(value) {
        Some(IpNet::V4(net)) => net,
        _ => {
            return Err(refuse(format!(
                "The value '{value}' of networkAcls.ipRules is not a valid IPv4 address or range in CIDR notation."
            )));
        }
    };
    let private =
        [(Ipv4Addr::new(10, 0, 0, 0), 8), (Ipv4Addr::new(172, 16, 0, 0), 12), (Ipv4Addr::new(192, 168, 0, 0), 16)]
            .into_iter()
            .filter_map(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
            .any(|range| range.contains(&net.network()));
    if private {
        return Err(refuse(format!(
            "The value '{value}' of networkAcls.ipRules is a private address; only public addresses are allowed."
        )));
    }
    Ok(net.to_string())
}

/// 3 to 24 letters, digits and hyphens, starting with a letter, ending in a letter or digit, no two hyphens together.
pub(crate) fn good_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && name.as_bytes()[0].is_ascii_alphabetic()
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_normalised_or_refused() {
        assert_eq!(normal_rule("198.51.100.7").ok().as_deref(), Some("198.51.100.7/32"));
        assert_eq!(normal_rule("198.51.100.0/24").ok().as_deref(), Some("198.51.100.0/24"));
        for wrong in ["10.0.0.1", "192.168.1.0/24", "2001:db8::1", "x", "1.2.3.4/33", ""] {
            assert!(normal_rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names() {
        for (name, good) in
            [("kv1", true), ("1kv", false), ("kv-", false), ("k--v", false), ("kv", false), ("kvé", false)]
        {
            assert_eq!(good_name(name), good, "{name}");
        }
    }
}
