//! Faults, operations, journal and the control API.

use azure_sim::{Action, Filter, Rule, faults};
use serde_json::{Value, json};

use crate::client::Lab;

#[tokio::test]
async fn statuses_come_with_their_headers_and_skip_the_work() {
    let lab = Lab::start().await;
    lab.sim.faults().add(Rule::once("PUT", "*/resourceGroups/rg1", faults::throttled(7)));
    let body = json!({ "location": "uksouth" });
    let refused = lab.arm("PUT", &lab.group(), Some(body.clone())).await.refused(429, "TooManyRequests");
    assert_eq!(refused.headers["retry-after"], "7");
    lab.arm("GET", &lab.group(), None).await.refused(404, "ResourceGroupNotFound");
    lab.arm("PUT", &lab.group(), Some(body)).await.expect(201);
    let faulted: Vec<_> = lab.sim.journal().entries().into_iter().filter(|e| e.fault.is_some()).collect();
    assert_eq!(faulted.len(), 1);
    assert!(!faulted[0].changed);
}

#[tokio::test]
async fn a_cut_comes_before_or_after_the_effect() {
    let lab = Lab::start().await;
    let url = lab.arm_link(&lab.group());
    let body = json!({ "location": "uksouth" });
    lab.sim.faults().add(Rule::once("PUT", "*/rg1", Action::CutBefore));
    assert!(lab.try_send("PUT", &url, &lab.arm_token, Some(&body)).await.is_err());
    lab.arm("GET", &lab.group(), None).await.refused(404, "ResourceGroupNotFound");
    lab.sim.faults().add(Rule::once("PUT", "*/rg1", Action::CutAfter));
    assert!(lab.try_send("PUT", &url, &lab.arm_token, Some(&body)).await.is_err());
    lab.arm("GET", &lab.group(), None).await.expect(200);
    let cuts = lab.sim.journal().find(&Filter { status: Some(0), ..Filter::default() });
    assert_eq!(cuts.iter().map(|e| e.changed).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn the_login_host_and_vaults_fail_too() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    lab.sim.faults().add(Rule::once("POST", "*", faults::status(503, "temporarily_unavailable")).host("login.*"));
    let scope = "https://vault.azure.net/.default";
    let (id, secret) = (lab.sim.client_id().to_owned(), lab.sim.client_secret().to_owned());
    let down = lab.token_answer(lab.sim.tenant_id(), &id, &secret, scope).await.expect(503);
    assert_eq!(down.body["error"], "temporarily_unavailable");
    lab.sim.faults().add(Rule::once("GET", "/keys/*", faults::status(500, "InternalServerError")).host("kv1.vault.*"));
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(500, "InternalServerError");
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
}

#[tokio::test]
async fn operations_fail_or_never_end_when_told() {
    let lab = Lab::start().await;
    lab.ground().await;
    let plain = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    let fail = Action::LroFail { code: "AccountCreationFailed".into(), message: "No capacity.".into() };
    lab.sim.faults().add(Rule::once("PUT", "*/storageAccounts/*", fail));
    let accepted = lab.arm("PUT", &lab.account_id("st1"), Some(plain.clone())).await.expect(202);
    assert_eq!(accepted.headers["retry-after"], "1");
    lab.finish(&accepted).await.refused(409, "AccountCreationFailed");
    lab.arm("GET", &lab.account_id("st1"), None).await.refused(404, "ResourceNotFound");
    lab.sim.faults().add(Rule::once("PUT", "*/storageAccounts/*", Action::LroNeverEnds));
    let accepted = lab.arm("PUT", &lab.account_id("st1"), Some(plain.clone())).await.expect(202);
    lab.finish(&accepted).await.expect(202);
    lab.advance(1000);
    let busy = lab.arm("PUT", &lab.account_id("st1"), Some(plain)).await;
    busy.refused(409, "StorageAccountOperationInProgress");
}

#[tokio::test]
async fn the_control_api_does_what_the_handle_does() {
    let lab = Lab::start().await;
    let base = format!("{}/_sim", lab.sim.arm_url());
    let control = async |method: &str, path: &str, body: Option<Value>| {
        lab.send(method, &format!("{base}/{path}"), "", body.as_ref()).await
    };
    let set = json!({ "set": "2030-01-01T00:00:00Z", "advanceSeconds": 90, "frozen": true });
    let clock = control("POST", "clock", Some(set)).await.expect(200);
    assert_eq!(clock.body["now"], "2030-01-01T00:01:30Z");
    control("POST", "clock", Some(json!({ "advanceSeconds": -5 }))).await.refused(400, "BadControlRequest");
    let lags = json!({ "grant": { "kind": "fixed", "seconds": 5.0 } });
    control("PUT", "propagation", Some(lags)).await.expect(200);
    assert_eq!(lab.sim.propagation().grant, azure_sim::Lag::seconds(5.0));
    control("PUT", "propagation", Some(json!({ "grunt": {} }))).await.refused(400, "BadControlRequest");
    let rule = json!({ "id": "r", "method": "GET", "path": "/subscriptions", "times": 1,
        "action": { "kind": "status", "status": 500, "code": "X", "retryAfter": 3 } });
    control("POST", "faults", Some(rule)).await.expect(201);
    let token = lab.token("https://management.azure.com/.default").await;
    let failed = lab.arm_as(&token, "GET", "/subscriptions", None).await.refused(500, "X");
    assert_eq!(failed.headers["retry-after"], "3");
    let rules = control("GET", "faults", None).await.expect(200);
    assert_eq!(rules.body[0]["fired"], 1);
    control("DELETE", "faults/r", None).await.expect(204);
    control("DELETE", "faults/r", None).await.refused(404, "NoSuchRule");
    let found = control("GET", "journal?path=/subscriptions&status=500", None).await.expect(200);
    assert_eq!(found.body.as_array().map(Vec::len), Some(1));
    let statement = json!({ "filter": { "surface": "login" }, "exactly": 2 });
    control("POST", "journal/assert", Some(statement)).await.expect(200);
    control("POST", "journal/assert", Some(json!({ "filter": { "status": 500 }, "exactly": 2 }))).await.expect(409);
    lab.arm_as(&token, "PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    let state = control("GET", "state", None).await.expect(200);
    assert_eq!(state.body["resourceGroups"][0], lab.group());
    control("POST", "reset", None).await.expect(204);
    lab.arm_as(&token, "GET", &lab.group(), None).await.refused(404, "ResourceGroupNotFound");
    control("GET", "nope", None).await.refused(404, "NoSuchControl");
}

#[tokio::test]
async fn the_journal_holds_no_secret() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let text = serde_json::to_string(&lab.sim.journal().entries()).expect("it serialises");
    assert!(!text.contains(lab.sim.client_secret()) && !text.contains(&lab.arm_token));
    assert!(!format!("{:?}", lab.sim).contains(lab.sim.client_secret()));
}
