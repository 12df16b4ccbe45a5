//! `vaults/{v}/accessPolicies/{add|replace|remove}`: single access policies changed without sending all. They count only
//! while the vault is not in RBAC mode.

use serde_json::{Map, Value, json};

use crate::arm::Asked;
use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::vault_body::POLICY;
use crate::arm::vault_model::Vault;
use crate::http::{Failure, Outcome, Reply};

/// What Azure keeps at most per vault.
const MOST: usize = 1024;

const BODY: &[Member] = &[
    must("properties", Shape::Object(&[must("accessPolicies", Shape::List(&Shape::Object(POLICY)))])),
    may("id", Shape::ReadOnly),
    may("name", Shape::ReadOnly),
    may("type", Shape::ReadOnly),
    may("location", Shape::ReadOnly),
];

const KINDS: [&str; 4] = ["keys", "secrets", "certificates", "storage"];

/// Changes the vault's policies. For one principal (and application), `add` unites, `replace` puts the new in the place of
/// the old, `remove` takes the listed permissions away and the policy too when nothing is left of it.
pub(crate) fn put(asked: &Asked<'_>, vault: &mut Vault, operation: &str) -> Outcome {
    let body = accept(BODY, asked.call.object()?, Mode::Whole)?;
    let empty = Vec::new();
    let sent = body["properties"]["accessPolicies"].as_array().unwrap_or(&empty);
    let mut policies = vault.access_policies.clone();
    for policy in sent {
        let at = policies.iter().position(|have| same(have, policy));
        match (operation.to_lowercase().as_str(), at) {
            ("add", Some(at)) => merge(&mut policies[at], policy, true),
            ("replace", Some(at)) => policies[at] = policy.clone(),
            ("add" | "replace", None) => policies.push(policy.clone()),
            ("remove", Some(at)) => {
                merge(&mut policies[at], policy, false);
                if KINDS.iter().all(|kind| granted(&policies[at], kind).is_empty()) {
                    policies.remove(at);
                }
            }
            ("remove", None) => {}
            _ => {
                return Err(Failure::bad_request(format!(
                    "The operation '{operation}' on access policies is not one of 'add', 'replace', 'remove'."
                )));
            }
        }
    }
    if policies.len() > MOST {
        return Err(Failure::bad_request(format!("A vault takes at most {MOST} access policies.")));
    }
    if policies != vault.access_policies {
        vault.access_policies = policies;
        asked.call.touch();
    }
    Ok(Reply::ok(json!({
        "id": format!("{}/accessPolicies/", vault.id),
        "name": operation.to_lowercase(),
        "type": "Microsoft.KeyVault/vaults/accessPolicies",
        "location": vault.location,
        "properties": { "accessPolicies": vault.access_policies },
    })))
}

/// Whether two policies are of the same principal, on behalf of the same application.
fn same(a: &Value, b: &Value) -> bool {
    ["tenantId", "objectId", "applicationId"].iter().all(|member| {
        let text = |v: &Value| v[member].as_str().unwrap_or_default().to_lowercase();
        text(a) == text(b)
    })
}

fn granted(policy: &Value, kind: &str) -> Vec<String> {
    let list = policy["permissions"][kind].as_array();
    list.into_iter().flatten().filter_map(|p| p.as_str().map(str::to_owned)).collect()
}

fn merge(have: &mut Value, sent: &Value, add: bool) {
    for kind in KINDS {
        let mut list = granted(have, kind);
        for permission in granted(sent, kind) {
            let known = list.iter().position(|p| p.eq_ignore_ascii_case(&permission));
            match (add, known) {
                (true, None) => list.push(permission),
                (false, Some(at)) => {
                    list.remove(at);
                }
                _ => {}
            }
        }
        if !have["permissions"].is_object() {
            have["permissions"] = Value::Object(Map::new());
        }
        if !list.is_empty() || !have["permissions"][kind].is_null() {
            have["permissions"][kind] = list.into();
        }
    }
}
