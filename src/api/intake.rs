//! From a body to something that can be accepted: what `POST /v1/jobs` and `POST /v1/plans` have in common.
//!
//! What belongs here: validation with every fault at once, and the idempotency key. What does not: storing.

use axum::http::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::domain::json::canonical;
use crate::domain::request::CmkRequest;
use crate::domain::request_parse::parse;
use crate::plan::{Plan, plan};
use crate::services::{ServiceDescriptor, rules};

/// A request that may be accepted.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) request: CmkRequest,
    pub(super) descriptor: &'static ServiceDescriptor,
    pub(super) plan: Plan,
}

/// Reads a body. Every fault comes back at once: those of its shape, and those of the service's rules.
pub(super) fn read(body: &Value) -> Result<Intake, Problem> {
    let (request, mut faults) = parse(body);
    let Some(request) = request else { return Err(Problem::invalid_request(faults)) };
    let (descriptor, broken) = rules::check(&request);
    // A faulty field holds a default by now, so what a rule says about it, or about what is inside it, means nothing.
    let is_known = |pointer: &str, fault: &str| {
        pointer.strip_prefix(fault).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let broken: Vec<_> =
        broken.into_iter().filter(|b| !faults.iter().any(|f| is_known(&b.pointer, &f.pointer))).collect();
    faults.extend(broken);
    match descriptor {
        Some(descriptor) if faults.is_empty() => {
            let plan = plan(&request, descriptor);
            Ok(Intake { request, descriptor, plan })
        }
        _ => Err(Problem::invalid_request(faults)),
    }
}

/// The `Idempotency-Key` header: 1 to 255 printable ASCII characters.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key =
        value.to_str().ok().filter(|k| (1..=255).contains(&k.len()) && k.bytes().all(|b| (0x20..=0x7e).contains(&b)));
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key)),
        (Some(_), Some(_)) => Err(Problem::invalid_header("Idempotency-Key", "this header may be given once")),
        (None, _) => Err(Problem::invalid_header("Idempotency-Key", "expected 1 to 255 printable ASCII characters")),
    }
}

/// What tells bodies apart: SHA-256 of the canonical form, so that neither white space nor the order of members counts.
pub(super) fn request_hash(body: &Value) -> [u8; 32] {
    Sha256::digest(canonical(body)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(body: &Value) -> Vec<String> {
        let problem = read(body).expect_err("faults");
        let body = serde_json::to_value(problem.body("", None)).expect("JSON");
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|e| e["pointer"].as_str().map(str::to_owned)).collect()
    }

    #[test]
    fn faults_of_shape_and_of_rules_come_together_and_once() {
        let sub = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";
        let mut body = json!({
            "target": { "resourceId": format!("{sub}/Microsoft.Storage/storageAccounts/UPPER") },
            "keyStore": { "resourceId": format!("{sub}/Microsoft.KeyVault/vaults/kv1"), "color": "red" },
            "key": { "type": "EC" },
        });
        assert_eq!(pointers(&body), ["/keyStore/color", "/target/resourceId", "/key/type"]);
        body["key"] = json!("k");
        assert_eq!(pointers(&body), ["/keyStore/color", "/key", "/target/resourceId"]);
    }

    #[test]
    fn idempotency_keys_are_bounded() {
        let headers = |keys: &[&str]| -> HeaderMap {
            keys.iter()
                .filter_map(|k| Some(("idempotency-key".parse().ok()?, k.parse().ok()?)))
                .collect::<Vec<(axum::http::HeaderName, _)>>()
                .into_iter()
                .collect()
        };
        assert_eq!(idempotency_key(&headers(&[])).ok(), Some(None));
        assert_eq!(idempotency_key(&headers(&["a b"])).ok(), Some(Some("a b")));
        let longest = "k".repeat(255);
        assert_eq!(idempotency_key(&headers(&[&longest])).ok(), Some(Some(longest.as_str())));
        for bad in [&[""][..], &["k\tk"], &["ü"], &["a", "b"], &[&"k".repeat(256)]] {
            assert!(idempotency_key(&headers(bad)).is_err(), "{bad:?}");
        }
    }
}
