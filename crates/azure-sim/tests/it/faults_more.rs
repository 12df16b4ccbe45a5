//! Spoilt answers, chance, rules on query and caller, operations of another length, presets, journal queries.

use std::time::{Duration, Instant};

use azure_sim::{Action, Filter, Lag, Propagation, Rule, faults};
use serde_json::{Value, json};

use crate::client::{Answer, Lab};

async fn control(lab: &Lab, method: &str, path: &str, body: Option<Value>) -> Answer {
    lab.send(method, &format!("{}/_sim/{path}", lab.sim.arm_url()), "", body.as_ref()).await
}

async fn group_raw(lab: &Lab) -> reqwest::Response {
    let url = lab.arm_link(&lab.group());
    lab.http.get(url).bearer_auth(&lab.arm_token).send().await.expect("an answer")
}

#[tokio::test]
async fn bodies_trickle_break_off_lose_their_json_or_their_type() {
    let lab = Lab::start().await;
    lab.ground().await;
    let whole = group_raw(&lab).await.text().await.expect("a body");
    let fault = |action: Action| lab.sim.faults().add(Rule::once("GET", "*/resourceGroups/rg1", action)).expect("room");

    fault(Action::SlowBody { millis: 400 });
    let start = Instant::now();
    let answer = group_raw(&lab).await;
    let headers_after = start.elapsed();
    assert_eq!(answer.text().await.expect("it comes whole"), whole);
    assert!(start.elapsed() >= Duration::from_millis(350), "{:?}", start.elapsed());
    assert!(headers_after < Duration::from_millis(350), "headers come at once: {headers_after:?}");

    fault(Action::TruncatedBody);
    let answer = group_raw(&lab).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.is_err(), "the body breaks off");

    fault(Action::MalformedJson);
    let cut = group_raw(&lab).await.text().await.expect("it is in order for HTTP");
    assert!(whole.starts_with(&cut) && serde_json::from_str::<Value>(&cut).is_err(), "{cut}");

    fault(Action::WrongContentType { content_type: "text/html".into() });
    let answer = group_raw(&lab).await;
    assert_eq!(answer.headers()["content-type"], "text/html");
    assert_eq!(answer.text().await.expect("a body"), whole);
    let faulted = Filter { fault: Some("*".into()), ..Filter::default() };
    assert_eq!(lab.sim.journal().count(&faulted), 4);
}

#[tokio::test]
async fn the_work_of_a_spoilt_answer_is_done() {
    let lab = Lab::start().await;
    lab.sim.faults().add(Rule::once("PUT", "*/rg1", Action::TruncatedBody));
    let url = lab.arm_link(&lab.group());
    let sent = lab.http.put(url).bearer_auth(&lab.arm_token).json(&json!({ "location": "uksouth" })).send().await;
    assert!(sent.expect("headers").bytes().await.is_err());
    lab.arm("GET", &lab.group(), None).await.expect(200);
}

#[tokio::test]
async fn rules_tell_callers_queries_and_versions_apart() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (id, secret) = lab.sim.outsider();
    let other = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    let group = lab.group();
    let rule = |fields: Value| {
        let mut rule = json!({ "id": "r", "action": { "kind": "status", "status": 500, "code": "X" } });
        for (name, value) in fields.as_object().expect("an object") {
            rule[name] = value.clone();
        }
        rule
    };
    control(&lab, "POST", "faults", Some(rule(json!({ "principal": id })))).await.expect(201);
    lab.arm_as(&other, "GET", &group, None).await.refused(500, "X");
    lab.arm("GET", &group, None).await.expect(200);
    control(&lab, "POST", "faults", Some(rule(json!({ "principal": lab.sim.object_id() })))).await.expect(201);
    lab.arm_as(&other, "GET", &group, None).await.refused(403, "AuthorizationFailed");
    lab.arm("GET", &group, None).await.refused(500, "X");
    control(&lab, "POST", "faults", Some(rule(json!({ "apiVersion": "2023-*" })))).await.expect(201);
    lab.arm("GET", &format!("{group}?api-version=2023-07-01"), None).await.refused(500, "X");
    lab.arm("GET", &format!("{group}?api-version=2024-11-01"), None).await.expect(200);
    control(&lab, "POST", "faults", Some(rule(json!({ "query": "*top=7*" })))).await.expect(201);
    let list = format!("{group}/resources?api-version=2023-07-01");
    lab.arm("GET", &format!("{list}&$top=7"), None).await.refused(500, "X");
    lab.arm("GET", &format!("{list}&$top=8"), None).await.expect(200);
    control(&lab, "POST", "faults", Some(rule(json!({ "colour": "red" })))).await.refused(400, "BadControlRequest");
}

#[tokio::test]
async fn a_probable_fault_happens_as_the_seed_says() {
    let run = async || {
        let lab = Lab::start().await;
        lab.ground().await;
        let rule = Rule::always("GET", "*/rg1", faults::status(500, "X"));
        lab.sim.faults().add(Rule { probability: Some(0.5), ..rule });
        let mut seen = Vec::new();
        for _ in 0..30 {
            seen.push(lab.arm("GET", &lab.group(), None).await.status);
        }
        seen
    };
    let first = run().await;
    assert!(first.contains(&200) && first.contains(&500), "{first:?}");
    assert_eq!(run().await, first);
}

#[tokio::test]
async fn operations_take_and_fail_when_told() {
    let lab = Lab::start().await;
    lab.ground().await;
    let plain = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    let start = async |name: &str, action: Option<Action>| {
        if let Some(action) = action {
            lab.sim.faults().add(Rule::once("PUT", "*/storageAccounts/*", action)).expect("room");
        }
        let accepted = lab.arm("PUT", &lab.account_id(name), Some(plain.clone())).await.expect(202);
        let retry = accepted.headers.get("retry-after").map(|v| v.to_str().expect("text").to_owned());
        (accepted.headers["location"].to_str().expect("text").to_owned(), retry)
    };
    let poll = async |url: &str| lab.send("GET", url, &lab.arm_token, None).await;
    let fail = Action::LroFailAfter { seconds: 30.0, code: "NoCapacity".into(), message: "None left.".into() };
    let (fails, _) = start("st1", Some(fail)).await;
    let (slow, _) = start("st2", Some(Action::LroTakes { seconds: 60.0 })).await;
    lab.advance(29);
    poll(&fails).await.expect(202);
    lab.advance(2);
    poll(&fails).await.refused(409, "NoCapacity");
    poll(&slow).await.expect(202);
    lab.advance(30);
    poll(&slow).await.expect(200);
    let set = json!({ "lroSeconds": 10.5, "lroRetryAfter": 4 });
    let shown = control(&lab, "PUT", "options", Some(set)).await.expect(200);
    assert_eq!((&shown.body["lroSeconds"], &shown.body["pageSize"]), (&json!(10.5), &json!(1000)));
    let (longer, retry) = start("st3", None).await;
    assert_eq!(retry.as_deref(), Some("4"));
    lab.advance(10);
    poll(&longer).await.expect(202);
    lab.advance(1);
    poll(&longer).await.expect(200);
    for wrong in [json!({ "lroSeconds": -1 }), json!({ "speed": 1 }), json!({ "pageSize": 0 })] {
        control(&lab, "PUT", "options", Some(wrong)).await.refused(400, "BadControlRequest");
    }
    assert_eq!(control(&lab, "GET", "options", None).await.expect(200).body["lroSeconds"], 10.5);
}

#[tokio::test]
async fn lags_have_presets() {
    let lab = Lab::start().await;
    control(&lab, "PUT", "propagation", Some(json!("azure"))).await.expect(200);
    let azure = lab.sim.propagation();
    assert!(matches!(azure.grant, Lag::LogNormal { max: 600.0, .. }), "{azure:?}");
    control(&lab, "PUT", "propagation", Some(json!("short"))).await.expect(200);
    assert_eq!(lab.sim.propagation(), Propagation::default());
    control(&lab, "PUT", "propagation", Some(json!("fast"))).await.refused(400, "BadControlRequest");
}

#[tokio::test]
async fn the_journal_is_queried_by_anything_and_paged() {
    let lab = Lab::start().await;
    lab.ground().await;
    let correlation = "99999999-2222-4333-8444-555555555555";
    let request = lab.http.get(lab.arm_link(&format!("{}x", lab.group()))).bearer_auth(&lab.arm_token);
    let request = request.header("x-ms-correlation-request-id", correlation).header("x-ms-client-request-id", "mine");
    request.send().await.expect("an answer");
    let count = async |query: &str| {
        control(&lab, "GET", &format!("journal?{query}"), None).await.expect(200).body.as_array().map(Vec::len)
    };
    for (query, expected) in [
        (format!("correlationId={correlation}"), 1),
        ("clientRequestId=mine".to_owned(), 1),
        ("statusFrom=400&statusTo=499".to_owned(), 1),
        ("query=*api-version=2026-02-01*&method=PUT".to_owned(), 3),
        ("since=2999-01-01T00:00:00Z".to_owned(), 0),
        ("until=2999-01-01T00:00:00Z&surface=arm".to_owned(), 4),
        ("before=2".to_owned(), 1),
        (format!("principal={}&changed=true", lab.sim.object_id()), 3),
        ("fault=*".to_owned(), 0),
    ] {
        assert_eq!(count(&query).await, Some(expected), "{query}");
    }
    // Page by page, every entry once.
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = control(&lab, "GET", &format!("journal?after={after}&first=2"), None).await.expect(200);
        let entries = page.body.as_array().expect("a list").clone();
        assert_eq!(page.headers["x-sim-last-seq"], lab.sim.journal().last_seq().to_string().as_str());
        let Some(last) = entries.last() else { break };
        after = last["seq"].as_u64().expect("a position");
        seen.extend(entries.iter().map(|e| e["seq"].as_u64().expect("a position")));
    }
    assert_eq!(seen, (1..=lab.sim.journal().last_seq()).collect::<Vec<_>>());
    for (statement, status) in [
        (json!({ "filter": { "method": "PUT" }, "exactly": 3 }), 200),
        (json!({ "filter": { "method": "PUT" }, "atLeast": 2, "atMost": 4 }), 200),
        (json!({ "filter": { "method": "PUT" }, "atLeast": 4 }), 409),
        (json!({ "filter": { "method": "PUT" }, "atMost": 2 }), 409),
    ] {
        control(&lab, "POST", "journal/assert", Some(statement)).await.expect(status);
    }
    control(&lab, "POST", "journal/assert", Some(json!({ "filter": {} }))).await.refused(400, "BadControlRequest");
}
