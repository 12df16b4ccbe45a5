//! Every wrong request is answered with a problem that names each fault, and stores nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{TestApi, arm_id, request_for};

/// Changes the seed's request at one place.
fn changed(pointer: &str, value: Value) -> Value {
    let text = include_str!("../../openapi/examples/provision-storage-account.json");
    let mut body: Value = serde_json::from_str(text).expect("the example is JSON");
    let mut place = &mut body;
    for name in pointer.split('/').skip(1) {
        place = &mut place[name];
    }
    *place = value;
    body
}

/// Places with the code of the fault there.
type FaultsAt = Vec<(&'static str, &'static str)>;

/// What to set where in the seed's request; the faults that follow.
fn wrong_bodies() -> Vec<(&'static str, Value, FaultsAt)> {
    let storage = |name: &str| arm_id("Microsoft.Storage/storageAccounts", name);
    let deep = (0..40).fold(json!(1), |inner, _| json!({ "x": inner }));
    let one = |pointer: &'static str, value: Value, code| (pointer, value, vec![(pointer, code)]);
    vec![
        // Shape: the whole list is in src/domain/request_parse/tests.rs.
        one("/kind", json!("rotate"), "invalid-value"),
        one("/kind", json!(7), "wrong-type"),
        one("/target", Value::Null, "required"),
        one("/target", json!("st1"), "wrong-type"),
        one("/target/resourceId", Value::Null, "required"),
        one("/target/resourceId", json!(""), "invalid-value"),
        one("/target/resourceId", json!("/subscriptions/x"), "invalid-value"),
        one("/target/resourceId", json!(storage("../x")), "invalid-value"),
        one("/target/resourceId", json!(storage("st1?api-version=1")), "invalid-value"),
        one("/target/resourceId", json!(storage("st1#x")), "invalid-value"),
        one("/target/resourceId", json!(storage("st%2e")), "invalid-value"),
        one("/target/resourceId", json!("x".repeat(4000)), "too-long"),
        one("/target/resourceId", json!(storage("st1\u{0}")), "invalid-value"),
        one("/target/create/location", Value::Null, "required"),
        one("/target/create/location", json!("uk/south"), "invalid-value"),
        one("/target/create/region", json!("uksouth"), "unknown-field"),
        one("/target/create/sku", json!(["Standard_LRS"]), "wrong-type"),
        one("/target/create/tags", json!("a=b"), "wrong-type"),
        one("/target/create/properties", json!("x"), "wrong-type"),
        one("/target/create/properties", json!({ "a": { "b\u{0}": [] } }), "invalid-value"),
        ("/target/create/properties/deep", deep, vec![("", "invalid-value")]),
        one("/keyStore", Value::Null, "required"),
        one("/keyStore", json!([]), "wrong-type"),
        one("/keyStore/resourceId", json!(storage("st1")), "invalid-value"),
        one("/keyStore/resourceId", json!(arm_id("Microsoft.KeyVault/vaults", "k")), "invalid-value"),
        one("/keyStore/create/sku", json!("gold"), "invalid-value"),
        one("/keyStore/create/softDeleteRetentionDays", json!(6), "out-of-range"),
        one("/keyStore/create/softDeleteRetentionDays", json!(91), "out-of-range"),
        one("/keyStore/create/softDeleteRetentionDays", json!(1e300), "wrong-type"),
        one("/keyStore/create/purgeProtection", json!(false), "unknown-field"),
        one("/keyStore/create/network", json!("open"), "wrong-type"),
        one("/keyStore/create/network/allowedIps", json!("0.0.0.0/0"), "wrong-type"),
        one("/keyStore/create/network/defaultAction", json!("Allow"), "unknown-field"),
        one("/keyStore/onDeletedName", json!("purge"), "invalid-value"),
        one("/key", json!("sa-cmk-key"), "wrong-type"),
        one("/key/name", json!("a b"), "invalid-value"),
        one("/key/name", json!("x".repeat(128)), "too-long"),
        one("/key/size", json!(1024), "out-of-range"),
        one("/key/size", json!(-1), "wrong-type"),
        one("/key/size", json!(4096.5), "wrong-type"),
        one("/key/operations", json!(["sign", "verify", "wrapKey"]), "invalid-value"),
        one("/key/version", json!("v1"), "invalid-value"),
        one("/key/versionId", json!("v1"), "invalid-value"),
        // The example follows the latest version, and creates its vault, which holds no version of any key.
        (
            "/key/versionId",
            json!("0123456789abcdef0123456789abcdef"),
            vec![("/key/versionId", "conflict"), ("/key/versionId", "conflict")],
        ),
        one("/key/expiresAfter", json!("P1D"), "out-of-range"),
        one("/key/expiresAfter", json!("2030-01-01"), "invalid-value"),
        (
            "/key/rotation/notifyBeforeExpiry",
            json!("P30D"),
            vec![("/key/rotation/notifyBeforeExpiry", "conflict"), ("/key/rotation/every", "required")],
        ),
        one("/key/rotation", json!(true), "wrong-type"),
        one("/key/material", json!("secret"), "unknown-field"),
        one("/identity", json!([]), "wrong-type"),
        one("/identity/kind", json!("managed"), "invalid-value"),
        one("/identity/resourceId", json!(storage("st1")), "invalid-value"),
        one("/identity/principalId", json!("x"), "unknown-field"),
        one("/createResourceGroups", json!(1), "wrong-type"),
        one("/accessTimeout", json!("PT1S"), "out-of-range"),
        one("/accessTimeout", json!("-PT20M"), "invalid-value"),
        one("/acknowledge", json!("enable-purge-protection"), "wrong-type"),
        one("/labels", json!({ "team": 1 }), "invalid-value"),
        one("/labels", json!({ "x".repeat(64): "v" }), "invalid-value"),
        one("/tags", json!({}), "unknown-field"),
        one("/a~b", json!(1), "unknown-field"),
        // What the service's descriptor does not allow.
        (
            "/target/resourceId",
            json!(arm_id("Microsoft.Compute/disks", "d1")),
            vec![("/target/resourceId", "not-allowed")],
        ),
        one("/target/resourceId", json!(storage("St-1")), "invalid-value"),
        one("/target/create/properties", json!({ "encryption": {} }), "not-allowed-below"),
        one("/key/type", json!("EC"), "not-allowed"),
        ("/key/type", json!("RSA-HSM"), vec![("/keyStore/create/sku", "not-allowed")]),
        one("/keyStore/create/network/bypassTrustedServices", json!(false), "not-allowed"),
        ("/identity", json!({ "kind": "platform" }), vec![("/identity/kind", "not-allowed")]),
        (
            "/identity",
            json!({ "kind": "platform", "create": {} }),
            vec![("/identity/create", "not-allowed"), ("/identity/kind", "not-allowed")],
        ),
        (
            "/keyStore",
            json!({ "resourceId": arm_id("Microsoft.KeyVault/managedHSMs", "hsm1") }),
            vec![("/key/type", "not-allowed")],
        ),
    ]
}

#[tokio::test]
async fn a_wrong_body_is_answered_with_its_faults_and_stores_nothing() {
    let api = TestApi::start().await;
    let bodies = wrong_bodies();
    assert!(bodies.len() >= 60, "{}", bodies.len());
    for (pointer, value, faults) in bodies {
        let shown: String = value.to_string().chars().take(60).collect();
        let body = changed(pointer, value);
        let want: Vec<(String, String)> = faults
            .into_iter()
            .map(|(pointer, code)| match (pointer, code) {
                ("/a~b", code) => ("/a~0b".to_owned(), code.to_owned()),
                (pointer, "not-allowed-below") => (format!("{pointer}/encryption"), "not-allowed".to_owned()),
                (pointer, code) => (pointer.to_owned(), code.to_owned()),
            })
            .collect();
        for path in ["/v1/jobs", "/v1/plans"] {
            let request = api.request(Method::POST, path).header("idempotency-key", "k").json(&body);
            let answer = api.send(request).await;
            answer.problem(422, "invalid-request");
            assert_eq!(answer.faults(), want, "{path}: {pointer} = {shown}");
        }
    }
    assert_eq!(api.rows().await, 0);
    // The key that came with all of them is still free.
    let request = api.request(Method::POST, "/v1/jobs").header("idempotency-key", "k").json(&request_for("st1"));
    assert_eq!(api.send(request).await.status, 202);
}

#[tokio::test]
async fn all_faults_come_in_one_answer() {
    let api = TestApi::start().await;
    let mut body = changed("/key/size", json!(1));
    body["keyStore"]["create"]["sku"] = json!("gold");
    body["identity"] = json!({ "kind": "platform" });
    body["nonsense"] = json!(true);
    let answer = api.post("/v1/jobs", &body).await;
    let problem = answer.problem(422, "invalid-request");
    assert_eq!(problem["detail"], "4 fields are wrong");
    let places: Vec<String> = answer.faults().into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["/nonsense", "/keyStore/create/sku", "/key/size", "/identity/kind"]);
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_before_it_is_read() {
    let api = TestApi::start().await;
    let good = request_for("st1").to_string();
    let padded = |n: usize| format!("{good}{}", " ".repeat(n - good.len()));
    let json = "application/json";
    for (kind, body, status, code) in [
        (Some(json), "".to_owned(), 400, "malformed-body"),
        (Some(json), "{".to_owned(), 400, "malformed-body"),
        (Some(json), "{\"target\": ".to_owned(), 400, "malformed-body"),
        (Some(json), "{'target': 1}".to_owned(), 400, "malformed-body"),
        (Some(json), format!("{good}{good}"), 400, "malformed-body"),
        (Some(json), "{\"target\": {}, \"target\": {}}".to_owned(), 400, "malformed-body"),
        (Some(json), "[".repeat(10_000), 400, "malformed-body"),
        (Some(json), "nothing".to_owned(), 400, "malformed-body"),
        (Some(json), "{\"a\": 1e999}".to_owned(), 400, "malformed-body"),
        (Some(json), "null".to_owned(), 422, "invalid-request"),
        (Some(json), padded(64 * 1024 + 1), 413, "payload-too-large"),
        (Some("application/xml"), good.clone(), 415, "unsupported-media-type"),
        (Some("text/plain"), good.clone(), 415, "unsupported-media-type"),
        (Some("application/x-www-form-urlencoded"), good.clone(), 415, "unsupported-media-type"),
        (Some(""), good.clone(), 415, "unsupported-media-type"),
        (None, good.clone(), 415, "unsupported-media-type"),
    ] {
        for path in ["/v1/jobs", "/v1/plans"] {
            let mut request = api.request(Method::POST, path).body(body.clone());
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            api.send(request).await.problem(status, code);
        }
    }
    let encoded = api.request(Method::POST, "/v1/jobs").header("content-encoding", "gzip").json(&request_for("st1"));
    api.send(encoded).await.problem(415, "unsupported-media-type");
    let invalid = api.request(Method::POST, "/v1/jobs").header("content-type", json).body(vec![b'"', 0xff, b'"']);
    api.send(invalid).await.problem(400, "malformed-body");
    let placed = api.request(Method::POST, "/v1/jobs").header("content-type", json).body("{\n  \"a\": ]");
    let problem = api.send(placed).await.problem(400, "malformed-body");
    assert!(problem["detail"].as_str().is_some_and(|d| d.ends_with("at line 2 column 8")), "{problem}");
    // A body sent in pieces has no declared length.
    let pieces = vec![Ok::<_, std::io::Error>(" ".repeat(40_000)), Ok(" ".repeat(40_000))];
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let chunked = api.request(Method::POST, "/v1/jobs").header("content-type", json).body(body);
    api.send(chunked).await.problem(413, "payload-too-large");
    assert_eq!(api.rows().await, 0);

    // The largest body that fits, and other spellings of JSON, are read.
    for (kind, body) in [
        (json, padded(64 * 1024)),
        ("application/JSON; charset=utf-8", request_for("st2").to_string()),
        ("application/vnd.cmk+json", request_for("st3").to_string()),
    ] {
        let request = api.request(Method::POST, "/v1/jobs").header("content-type", kind).body(body);
        assert_eq!(api.send(request).await.status, 202, "{kind}");
    }
}

#[tokio::test]
async fn wrong_parameters_and_headers_are_named() {
    let api = TestApi::start().await;
    for (query, faults) in [
        ("state=done", &[("state", "invalid-value")][..]),
        ("kind=rotate", &[("kind", "invalid-value")]),
        ("service=disk", &[("service", "invalid-value")]),
        ("target=st1", &[("target", "invalid-value")]),
        ("requestedBy=a%00b", &[("requestedBy", "invalid-value")]),
        ("label=team", &[("label", "invalid-value")]),
        ("label==x", &[("label", "invalid-value")]),
        ("label=a=%00", &[("label", "invalid-value")]),
        ("createdAfter=yesterday", &[("createdAfter", "invalid-value")]),
        ("createdBefore=2026-07-01", &[("createdBefore", "invalid-value")]),
        ("limit=0", &[("limit", "invalid-value")]),
        ("limit=201", &[("limit", "invalid-value")]),
        ("limit=-1", &[("limit", "invalid-value")]),
        ("limit=ten", &[("limit", "invalid-value")]),
        ("cursor=x", &[("cursor", "invalid-value")]),
        ("cursor=AAAAAAAAAAAAAAAAAAAAAAA", &[("cursor", "invalid-value")]),
        ("state=queued&state=failed", &[("state", "too-many")]),
        ("status=queued", &[("status", "unknown-field")]),
        (
            "state=x&limit=0&cursor=y&color=red",
            &[
                ("state", "invalid-value"),
                ("cursor", "invalid-value"),
                ("limit", "invalid-value"),
                ("color", "unknown-field"),
            ],
        ),
    ] {
        let answer = api.get(&format!("/v1/jobs?{query}")).await;
        answer.problem(400, "invalid-parameter");
        let want: Vec<(String, String)> = faults.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect();
        assert_eq!(answer.faults(), want, "{query}");
    }
    for key in ["".to_owned(), "x".repeat(256), "a\tb".to_owned()] {
        let request = api.request(Method::POST, "/v1/jobs").header("idempotency-key", &key).json(&request_for("st1"));
        let answer = api.send(request).await;
        answer.problem(400, "invalid-parameter");
        assert_eq!(answer.faults(), [("Idempotency-Key".to_owned(), "invalid-value".to_owned())]);
    }
    let answer = api.send(api.request(Method::POST, "/v1/jobs?dryRun=true").json(&request_for("st1"))).await;
    answer.problem(400, "invalid-parameter");
    assert_eq!(answer.faults(), [("dryRun".to_owned(), "unknown-field".to_owned())]);
    assert_eq!(api.rows().await, 0);

    let id = api.submit(&request_for("st1")).await;
    for query in ["after=-1", "after=x", "limit=0", "limit=501", "since=1"] {
        api.get(&format!("/v1/jobs/{id}/events?{query}")).await.problem(400, "invalid-parameter");
    }
    api.get(&format!("/v1/jobs/{id}?verbose=1")).await.problem(400, "invalid-parameter");
    let stream = api.request(Method::GET, &format!("/v1/jobs/{id}/events")).header("accept", "text/event-stream");
    let answer = api.send(stream.header("last-event-id", "x")).await;
    answer.problem(400, "invalid-parameter");
    assert_eq!(answer.faults(), [("Last-Event-ID".to_owned(), "invalid-value".to_owned())]);
}
