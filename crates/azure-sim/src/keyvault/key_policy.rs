//! Policies of mode `Microsoft.KeyVault.Data` at the creation of a key. What they say is `crate::policy`'s.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::http::{Failure, rfc3339};
use crate::keyvault::holder::{Holder, Zone};
use crate::policy::{self, Subject};
use crate::state::World;

/// Refuses a key that a policy denies; the body is that of `create`.
pub(crate) fn require(
    w: &World,
    vault: &Holder,
    name: &str,
    body: &Map<String, Value>,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    // Policies for keys of managed HSMs have a mode of their own, which is not played.
    if w.governance.policies.idle() || vault.zone != Zone::Vault {
        return Ok(());
    }
    let kty = body.get("kty").and_then(Value::as_str).unwrap_or_default();
    let mut properties = json!({ "keyType": kty, "attributes": {} });
    if kty.starts_with("RSA") {
        properties["keySize"] = body.get("key_size").filter(|s| !s.is_null()).cloned().unwrap_or_else(|| 2048.into());
    }
    if kty.starts_with("EC") {
        properties["ellipticCurveName"] = body.get("crv").cloned().unwrap_or_else(|| "P-256".into());
    }
    for (sent, shown) in [("exp", "expiresOn"), ("nbf", "notBefore")] {
        let time = body.get("attributes").and_then(|a| a.get(sent)).and_then(Value::as_i64);
        if let Some(at) = time.and_then(|t| OffsetDateTime::from_unix_timestamp(t).ok()) {
            properties["attributes"][shown] = rfc3339(at).into();
        }
    }
    policy::require_key(w, &Subject::key(&vault.id, name, properties), now)
}
