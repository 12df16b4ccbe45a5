//! The errors of the key data plane: status, code, inner code and the words that clients look for, one row each.

use azure_sim::{Lag, Options, Propagation};
use serde_json::{Value, json};

use crate::client::{Lab, options};

struct Row {
    what: &'static str,
    call: (&'static str, &'static str, Value),
    status: u16,
    code: &'static str,
    says: &'static str,
}

fn row(
    what: &'static str,
    call: (&'static str, &'static str, Value),
    status: u16,
    code: &'static str,
    says: &'static str,
) -> Row {
    Row { what, call, status, code, says }
}

async fn check(lab: &Lab, vault: &str, token: &str, rows: &[Row]) {
    for Row { what, call: (method, path, body), status, code, says } in rows {
        let body = (!body.is_null()).then(|| body.clone());
        let answer = lab.keys_as(token, method, vault, path, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{what}: {}", answer.body);
        assert!(answer.message().contains(says), "{what}: {}", answer.message());
        assert_eq!(answer.headers["x-ms-keyvault-region"], "uksouth", "{what}");
        assert!(answer.headers.contains_key("x-ms-request-id"), "{what}");
        assert!(answer.headers["x-ms-keyvault-network-info"].to_str().is_ok_and(|i| i.contains("addr=")), "{what}");
    }
}

/// A lab in which a deleted or recovered key is on its way until the clock moves by ten seconds.
async fn lab() -> Lab {
    let lag = Lag::Fixed { seconds: 10.0 };
    let propagation = Propagation { key_delete: lag.clone(), key_recover: lag, ..Propagation::instant() };
    Lab::with(Options { propagation, ..options() }).await
}

#[tokio::test]
async fn each_error_has_its_status_code_and_words() {
    let lab = lab().await;
    lab.ground_with_key().await;
    let token = lab.vault_token().await;
    let wrap = || json!({ "alg": "RSA-OAEP", "value": "YQ" });
    let key = || json!({ "kty": "EC" });
    let now = lab.sim.clock().now().unix_timestamp();
    for (name, attributes) in [
        ("off", json!({ "enabled": false })),
        ("early", json!({ "nbf": now + 1000 })),
        ("late", json!({ "exp": now - 1000 })),
        ("gone", json!({})),
        ("back", json!({})),
        ("going", json!({})),
    ] {
        let body = json!({ "kty": "RSA", "attributes": attributes });
        lab.keys("POST", "kv1", &format!("/keys/{name}/create"), Some(body)).await.expect(200);
    }
    let few = json!({ "kty": "RSA", "key_ops": ["sign"] });
    lab.keys("POST", "kv1", "/keys/few/create", Some(few)).await.expect(200);
    for name in ["gone", "back"] {
        lab.keys("DELETE", "kv1", &format!("/keys/{name}"), None).await.expect(200);
    }
    lab.advance(10);
    lab.keys("DELETE", "kv1", "/keys/going", None).await.expect(200);
    lab.keys("POST", "kv1", "/deletedkeys/back/recover", None).await.expect(200);
    let none = || Value::Null;
    let rows = [
        row(
            "disabled",
            ("POST", "/keys/off/wrapkey", wrap()),
            403,
            "Forbidden/KeyDisabled",
            "Operation wrapKey is not allowed on a disabled key.",
        ),
        row(
            "before its time",
            ("POST", "/keys/early/wrapkey", wrap()),
            403,
            "Forbidden/KeyNotYetValid",
            "not yet valid",
        ),
        row("after its time", ("POST", "/keys/late/wrapkey", wrap()), 403, "Forbidden/KeyExpired", "expired"),
        row(
            "not its operation",
            ("POST", "/keys/few/wrapkey", wrap()),
            403,
            "Forbidden/KeyOperationForbidden",
            "Operation wrapKey is not permitted on this key.",
        ),
        row(
            "purge",
            ("DELETE", "/deletedkeys/gone", none()),
            403,
            "Forbidden",
            "Operation \"purge\" is not allowed because purge protection is enabled for this vault",
        ),
        row(
            "no key",
            ("GET", "/keys/none", none()),
            404,
            "KeyNotFound",
            "A key with (name/id) none was not found in this key vault. If you recently deleted this key you may be able to recover it",
        ),
        row("no version", ("GET", "/keys/k1/0123", none()), 404, "KeyNotFound", "k1/0123"),
        row("no deleted key", ("GET", "/deletedkeys/none", none()), 404, "KeyNotFound", "Deleted Key not found: none"),
        row(
            "deleted",
            ("POST", "/keys/gone/create", key()),
            409,
            "Conflict/ObjectIsDeletedButRecoverable",
            "deleted but recoverable state",
        ),
        row(
            "being deleted",
            ("POST", "/keys/going/create", key()),
            409,
            "Conflict/ObjectIsBeingDeleted",
            "is currently being deleted",
        ),
        row(
            "recovered too early",
            ("POST", "/deletedkeys/going/recover", none()),
            409,
            "Conflict/ObjectIsBeingDeleted",
            "is currently being deleted",
        ),
        row(
            "being recovered",
            ("POST", "/keys/back/create", key()),
            409,
            "Conflict/ObjectIsBeingRecovered",
            "is currently being recovered and cannot be re-created; retry later.",
        ),
        row(
            "size",
            ("POST", "/keys/k2/create", json!({ "kty": "RSA", "key_size": 1024 })),
            400,
            "BadParameter",
            "1024",
        ),
        row("name", ("POST", "/keys/k_2/create", key()), 400, "BadParameter", "k_2"),
        row(
            "operation",
            ("POST", "/keys/k2/create", json!({ "kty": "EC", "key_ops": ["wrapKey"] })),
            400,
            "BadParameter",
            "wrapKey",
        ),
        row("tier", ("POST", "/keys/k2/create", json!({ "kty": "RSA-HSM" })), 400, "BadParameter", "standard"),
        row("import's key", ("PUT", "/keys/k2", json!({})), 400, "BadParameter", "'key'"),
        row("backup's value", ("POST", "/keys/restore", json!({ "value": "YQ" })), 400, "BadParameter", "backup"),
        row("method", ("PUT", "/keys", json!({})), 405, "MethodNotAllowed", "PUT"),
        row("release", ("POST", "/keys/k1/release", json!({})), 501, "NotPlayedBySimulator", "release"),
    ];
    check(&lab, "kv1", &token, &rows).await;
}

#[tokio::test]
async fn callers_are_refused_before_anything_is_said_of_keys() {
    let lab = lab().await;
    lab.ground_with_key().await;
    let (id, secret) = lab.sim.outsider();
    let outsider = lab.token_as(id, secret, &format!("https://{}/.default", lab.sim.vault_suffix())).await;
    let get = || ("GET", "/keys/none", Value::Null);
    let rbac = "Caller is not authorized to perform action on resource.\r\nIf role assignments";
    check(&lab, "kv1", &outsider, &[row("no role", get(), 403, "Forbidden/ForbiddenByRbac", rbac)]).await;
    check(&lab, "kv1", "", &[row("no token", get(), 401, "Unauthorized", "Request is missing a Bearer or PoP token.")])
        .await;
    let wrong = row(
        "audience",
        get(),
        401,
        "Unauthorized",
        "AKV10022: Invalid audience. Expected https://vault.azure.net, found:",
    );
    check(&lab, "kv1", &lab.arm_token, &[wrong]).await;
    let closed = json!({ "properties": { "networkAcls": { "defaultAction": "Deny", "bypass": "AzureServices", "ipRules": [] } } });
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(closed)).await.expect(200);
    let firewall =
        "Client address is not authorized and caller is not a trusted service.\r\nClient address: 203.0.113.10";
    check(&lab, "kv1", &outsider, &[row("address", get(), 403, "Forbidden/ForbiddenByFirewall", firewall)]).await;
    let private = json!({ "properties": { "publicNetworkAccess": "Disabled" } });
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(private)).await.expect(200);
    let connection = "Public network access is disabled";
    check(&lab, "kv1", &outsider, &[row("public", get(), 403, "Forbidden/ForbiddenByConnection", connection)]).await;
}
