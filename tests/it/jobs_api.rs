//! Accepting jobs, finding them, watching them, stopping and retrying them: the contract over real HTTP.

use std::collections::HashSet;
use std::time::Duration;

use cmk::api::ApiSettings;
use cmk::domain::ids::JobId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, DEADLINE, TestApi, arm_id, request_for};

async fn accept(api: &TestApi, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = api.request(Method::POST, "/v1/jobs").json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request).await
}

async fn read(api: &TestApi, id: JobId, headers: &[(&str, &str)]) -> Answer {
    let mut request = api.request(Method::GET, &format!("/v1/jobs/{id}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request).await
}

#[tokio::test]
async fn an_accepted_job_is_answered_whole_and_found_at_its_location() {
    let api = TestApi::start().await;
    let body: Value =
        serde_json::from_str(include_str!("../../openapi/examples/provision-storage-account.json")).expect("JSON");
    let answer = accept(&api, &body, &[]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.job_id();
    assert_eq!(answer.header("location"), format!("/v1/jobs/{id}"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("preference-applied"), "");
    let job = answer.json();
    assert_eq!(job["state"], "queued");
    assert_eq!(job["kind"], "provision");
    assert_eq!(job["service"], "storage-account");
    assert_eq!(job["requestedBy"], "anonymous");
    assert_eq!(job["progress"], json!({ "done": 0, "total": 10 }));
    assert_eq!(job["steps"].as_array().map(Vec::len), Some(10));
    assert_eq!(job["labels"], json!({ "team": "payments" }));
    assert_eq!(job["request"]["key"]["name"], "sa-cmk-key");
    assert_eq!(job["createdAt"], "2026-07-01T12:00:00Z");
    assert_eq!(job["links"]["cancel"], format!("/v1/jobs/{id}/cancel"));
    assert_eq!(job["links"].get("retry"), None);
    for hidden in ["claimNo", "leaseUntil", "traceparent", "version"] {
        assert_eq!(job.get(hidden), None, "{hidden}");
    }
    let read = api.get(answer.header("location")).await;
    assert_eq!(read.json(), job);
    for (name, path) in job["links"].as_object().expect("links") {
        if !matches!(name.as_str(), "cancel") {
            assert_eq!(api.get(path.as_str().expect("a path")).await.status, 200, "{name}");
        }
    }
}

#[tokio::test]
async fn the_callers_trace_reaches_the_stored_job() {
    let api = TestApi::start().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id = accept(&api, &request_for("st1"), &[("traceparent", parent)]).await.job_id();
    let job = api.store.get_job(id).await.expect("the database answers").expect("the job");
    assert_eq!(job.traceparent.as_deref(), Some(parent));
    let busy = accept(&api, &request_for("st1"), &[("traceparent", parent)]).await.problem(409, "target-busy");
    assert_eq!(busy["traceId"], "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_again() {
    let api = TestApi::start().await;
    let key = [("idempotency-key", "order 4711")];
    let first = accept(&api, &request_for("st1"), &key).await;
    assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (202, ""));
    // The order of members and white space do not make another body.
    let body = request_for("st1");
    let turned = format!("{{ \"keyStore\" : {}, \"target\": {} }}", body["keyStore"], body["target"]);
    let request = api.request(Method::POST, "/v1/jobs").header("idempotency-key", "order 4711");
    let again = api.send(request.header("content-type", "application/json").body(turned)).await;
    assert_eq!((again.status.as_u16(), again.header("idempotent-replayed")), (202, "true"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.json(), first.json());
    // Also when the job has ended.
    api.succeed(first.job_id()).await;
    let ended = accept(&api, &request_for("st1"), &key).await;
    assert_eq!((ended.status.as_u16(), ended.header("location")), (202, first.header("location")));
    assert_eq!(ended.json()["state"], "succeeded");
    accept(&api, &request_for("st2"), &key).await.problem(422, "idempotency-key-reused");
    assert_eq!(api.get("/v1/jobs").await.json()["items"].as_array().map(Vec::len), Some(1));
    // After 30 days the key is free again.
    api.clock.advance(Duration::from_secs(31 * 86_400));
    let fresh = accept(&api, &request_for("st2"), &key).await;
    assert_eq!((fresh.status.as_u16(), fresh.header("idempotent-replayed")), (202, ""));
}

#[tokio::test]
async fn twenty_calls_at_once_with_one_key_make_one_job() {
    let api = TestApi::start().await;
    let body = request_for("st1");
    let calls = (0..20).map(|_| accept(&api, &body, &[("idempotency-key", "k")]));
    let answers = futures::future::join_all(calls).await;
    let ids: HashSet<JobId> = answers.iter().map(Answer::job_id).collect();
    assert_eq!(ids.len(), 1);
    assert!(answers.iter().all(|a| a.status == 202));
    assert_eq!(answers.iter().filter(|a| a.header("idempotent-replayed").is_empty()).count(), 1);
}

#[tokio::test]
async fn a_busy_target_is_refused_with_the_running_job() {
    let api = TestApi::start().await;
    let body = request_for("st1");
    let answers = futures::future::join_all((0..10).map(|_| accept(&api, &body, &[]))).await;
    let accepted: Vec<&Answer> = answers.iter().filter(|a| a.status == 202).collect();
    assert_eq!(accepted.len(), 1);
    let id = accepted[0].job_id();
    for refused in answers.iter().filter(|a| a.status != 202) {
        let problem = refused.problem(409, "target-busy");
        assert_eq!(problem["links"]["job"], format!("/v1/jobs/{id}"));
        assert_eq!(refused.header("location"), format!("/v1/jobs/{id}"));
    }
    // Azure's ids have no case.
    let mut shouted = body.clone();
    shouted["target"]["resourceId"] = json!(
        body["target"]["resourceId"]
            .as_str()
            .map(|id| { id.replace("resourceGroups/rg-cmk-demo", "RESOURCEGROUPS/RG-CMK-DEMO") })
    );
    accept(&api, &shouted, &[]).await.problem(409, "target-busy");
    // A refused call leaves its key free.
    let key = [("idempotency-key", "k")];
    accept(&api, &body, &key).await.problem(409, "target-busy");
    api.succeed(id).await;
    let free = accept(&api, &body, &key).await;
    assert_eq!((free.status.as_u16(), free.header("idempotent-replayed")), (202, ""));
}

#[tokio::test]
async fn prefer_wait_brings_the_finished_job() {
    let api = TestApi::start().await;
    let body = request_for("st1");
    let call = accept(&api, &body, &[("prefer", "respond-async, wait=50")]);
    let work = async {
        let id = only_job(&api).await;
        api.succeed(id).await;
        id
    };
    let (answer, id) = tokio::join!(call, work);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.job_id(), id);
    assert_eq!(answer.header("preference-applied"), "wait=50");
    assert_eq!(answer.header("location"), format!("/v1/jobs/{id}"));
    assert_eq!(answer.header("retry-after"), "");
    let job = answer.json();
    assert_eq!(job["state"], "succeeded");
    assert_eq!(job["evidence"]["keyId"], "https://kv1.vault.azure.net/keys/k/0123");
    // A wait that is not met is the ordinary answer.
    let slow = accept(&api, &request_for("st2"), &[("prefer", "wait=1")]).await;
    assert_eq!((slow.status.as_u16(), slow.header("preference-applied")), (202, "wait=1"));
    for (n, prefer) in (3..).zip(["wait=0", "wait=x", "return=minimal"]) {
        let account = format!("st{n}");
        let answer = accept(&api, &request_for(&account), &[("prefer", prefer)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("preference-applied")), (202, ""), "{prefer}");
    }
}

/// The one job there is, as soon as there is one.
async fn only_job(api: &TestApi) -> JobId {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while tokio::time::Instant::now() < deadline {
        let jobs = api.store.list_jobs(&Default::default(), 2).await.expect("the database answers");
        if let [job] = jobs.as_slice() {
            return job.id;
        }
        tokio::task::yield_now().await;
    }
    panic!("no job was stored");
}

#[tokio::test]
async fn a_read_can_wait_for_the_next_change() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    let etag = read(&api, id, &[]).await.header("etag").to_owned();
    let headers = [("prefer", "wait=50"), ("if-none-match", etag.as_str())];
    let call = read(&api, id, &headers);
    let (answer, ()) = tokio::join!(call, api.wait(id, Duration::from_secs(90)));
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("etag"), etag);
    assert_eq!(answer.header("preference-applied"), "wait=50");
    // A version that is not the current one is answered at once, and so is an ended job.
    let stale = read(&api, id, &[("prefer", "wait=50"), ("if-none-match", &etag)]).await;
    assert_eq!(stale.status, 200);
    let current = stale.header("etag").to_owned();
    let unchanged = read(&api, id, &[("prefer", "wait=1"), ("if-none-match", &current)]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.text.as_str()), (304, ""));
    assert_eq!(api.act(&format!("/v1/jobs/{id}/cancel")).await.status, 202);
    let ended = read(&api, id, &[("prefer", "wait=50")]).await;
    assert_eq!(ended.json()["state"], "cancelled");
    let known = read(&api, id, &[("prefer", "wait=50"), ("if-none-match", ended.header("etag"))]).await;
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn waits_end_at_shutdown_and_are_bounded() {
    let settings = ApiSettings { max_waits: 1, ..ApiSettings::default() };
    let api = TestApi::start_with(settings, axum::Router::new()).await;
    let id = api.submit(&request_for("st1")).await;
    let waiting = read(&api, id, &[("prefer", "wait=50")]);
    let others = async {
        // Sooner or later the one place is taken, and others are answered at once, without a wait.
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let answer = read(&api, id, &[("prefer", "wait=1")]).await;
            assert_eq!(answer.status, 200);
            if answer.header("preference-applied").is_empty() {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the bound on waits is not held");
        }
        api.shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(waiting, others);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["state"], "queued");
}

#[tokio::test]
async fn an_etag_names_the_version_and_retry_after_the_next_look() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    let first = read(&api, id, &[]).await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    assert_eq!(first.header("cache-control"), "private, no-cache");
    for tag in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let answer = read(&api, id, &[("if-none-match", &tag)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("etag")), (304, etag.as_str()), "{tag}");
    }
    api.wait(id, Duration::from_secs(90)).await;
    let waiting = read(&api, id, &[("if-none-match", &etag)]).await;
    assert_eq!(waiting.status, 200);
    assert_eq!(waiting.header("retry-after"), "90");
    let job = waiting.json();
    assert_eq!(job["state"], "waiting");
    assert_eq!(job["waitReason"], json!({ "code": "resource-busy", "text": "somebody changes it" }));
    assert_eq!(job["nextLookAt"], "2026-07-01T12:01:30Z");
    assert_eq!(job["steps"][0]["state"], "waiting");
    assert_eq!(job["steps"][0]["waitReason"]["code"], "resource-busy");
    assert!(job["summary"].as_str().is_some_and(|s| s.contains("somebody changes it")));
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_paged() {
    let api = TestApi::start().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let mut body = request_for(&format!("st{n}x"));
        body["labels"] = json!({ "n": n.to_string(), "odd=": if n % 2 == 1 { "yes" } else { "no" } });
        ids.push(api.submit(&body).await.to_string());
        api.clock.advance(Duration::from_secs(60));
    }
    ids.reverse();
    api.fail(ids[3].parse().map(JobId).expect("an id")).await;
    let list = async |query: &str| -> Vec<String> {
        let answer = api.get(&format!("/v1/jobs?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        let items = answer.json()["items"].as_array().cloned().expect("items");
        items.iter().filter_map(|j| j["id"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(list("").await, ids);
    let target = arm_id("microsoft.STORAGE/storageAccounts", "ST2X");
    for (query, want) in [
        ("state=failed", &ids[3..4]),
        ("state=succeeded", &[]),
        ("kind=provision&service=storage-account&requestedBy=anonymous", &ids[..]),
        ("requestedBy=somebody", &[]),
        (&format!("target={target}"), &ids[4..5]),
        ("label=n=5", &ids[1..2]),
        ("label=n%3D5&state=queued", &ids[1..2]),
        ("label=n=5&state=failed", &[]),
        ("createdAfter=2026-07-01T12:05:00Z", &ids[..2]),
        ("createdBefore=2026-07-01T12:02:00Z", &ids[5..]),
        ("createdAfter=2026-07-01T14:01:00%2B02:00&createdBefore=2026-07-01T12:02:00Z", &ids[5..6]),
        ("limit=3&cursor=", &ids[..3]),
    ] {
        assert_eq!(list(query).await, want, "{query}");
    }

    // Paging finds each job once, with the filters kept, also while new ones come.
    let mut seen = Vec::new();
    let mut next = Some("/v1/jobs?limit=2&state=queued".to_owned());
    while let Some(path) = next {
        let answer = api.get(&path).await;
        let page = answer.json();
        seen.extend(
            page["items"].as_array().expect("items").iter().filter_map(|j| j["id"].as_str().map(str::to_owned)),
        );
        next = page["next"].as_str().map(str::to_owned);
        let link = next.as_ref().map_or_else(String::new, |n| format!("<{n}>; rel=\"next\""));
        assert_eq!(answer.header("link"), link);
        api.submit(&request_for(&format!("new{}", seen.len()))).await;
    }
    let mut queued = ids.clone();
    queued.remove(3);
    assert_eq!(seen, queued);
    // A full last page has no next one.
    assert_eq!(api.get("/v1/jobs?limit=1&state=failed").await.json().get("next"), None);
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop() {
    let api = TestApi::start().await;
    let queued = api.submit(&request_for("st1")).await;
    let answer = api.act(&format!("/v1/jobs/{queued}/cancel")).await;
    assert_eq!(answer.status, 202);
    let job = answer.json();
    assert_eq!((job["state"].as_str(), job["facts"].is_object()), (Some("cancelled"), true));
    assert_eq!(answer.header("retry-after"), "");
    assert_eq!(job["links"].get("cancel"), None);
    let again = api.act(&format!("/v1/jobs/{queued}/cancel")).await.problem(409, "job-not-cancellable");
    assert_eq!(again["detail"], "the job has ended: it is cancelled");
    assert_eq!(again["links"]["job"], format!("/v1/jobs/{queued}"));
    api.act(&format!("/v1/jobs/{queued}/retry")).await.problem(409, "job-not-retryable");

    let running = api.submit(&request_for("st1")).await;
    api.claim(running).await;
    for _ in 0..2 {
        let answer = api.act(&format!("/v1/jobs/{running}/cancel")).await;
        assert_eq!(answer.status, 202);
        let job = answer.json();
        assert_eq!(job["state"], "running");
        assert_eq!(job["cancelRequestedAt"], "2026-07-01T12:00:00Z");
        assert!(job["summary"].as_str().is_some_and(|s| s.contains("stopping at the next safe point")), "{job}");
    }
}

#[tokio::test]
async fn a_failed_job_can_be_retried_unless_its_target_is_busy() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    api.act(&format!("/v1/jobs/{id}/retry")).await.problem(409, "job-not-retryable");
    api.fail(id).await;
    let failed = read(&api, id, &[]).await.json();
    assert_eq!(failed["failure"]["code"], "target-not-found");
    assert_eq!(failed["failure"]["class"], "invalid");
    assert_eq!(failed["failure"]["retryable"], false);
    assert!(failed["failure"]["remedy"].as_str().is_some_and(|r| r.contains("target.create")));
    assert_eq!(failed["steps"][0]["failure"]["code"], "target-not-found");
    assert_eq!(failed["links"]["retry"], format!("/v1/jobs/{id}/retry"));
    api.act(&format!("/v1/jobs/{id}/cancel")).await.problem(409, "job-not-cancellable");

    let other = api.submit(&request_for("st1")).await;
    let busy = api.act(&format!("/v1/jobs/{id}/retry")).await;
    assert_eq!(busy.problem(409, "target-busy")["links"]["job"], format!("/v1/jobs/{other}"));
    api.succeed(other).await;
    let answer = api.act(&format!("/v1/jobs/{id}/retry")).await;
    assert_eq!(answer.status, 202);
    let job = answer.json();
    assert_eq!((job["id"].as_str(), job["state"].as_str()), (Some(id.to_string().as_str()), Some("queued")));
    assert_eq!(job.get("failure"), None);
}

#[tokio::test]
async fn a_job_that_does_not_exist_is_not_found_anywhere() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    let (simple, unknown) = (id.0.simple().to_string(), JobId::generate().to_string());
    for id in [unknown.as_str(), simple.as_str(), "1", "%ff", "%00", "..%2f..", "a%20b"] {
        for (method, path) in [
            (Method::GET, format!("/v1/jobs/{id}")),
            (Method::GET, format!("/v1/jobs/{id}/events")),
            (Method::POST, format!("/v1/jobs/{id}/cancel")),
            (Method::POST, format!("/v1/jobs/{id}/retry")),
        ] {
            api.send(api.request(method.clone(), &path)).await.problem(404, "not-found");
        }
        let stream = api.request(Method::GET, &format!("/v1/jobs/{id}/events")).header("accept", "text/event-stream");
        api.send(stream).await.problem(404, "not-found");
    }
}

#[tokio::test]
async fn a_plan_shows_the_steps_and_stores_nothing() {
    let api = TestApi::start().await;
    let answer = api.post("/v1/plans", &request_for("st1")).await;
    assert_eq!(answer.status, 200);
    let plan = answer.json();
    assert_eq!(plan["service"], "storage-account");
    let names: Vec<&str> = plan["steps"].as_array().expect("steps").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"check-target"), Some(&"verify")));
    assert!(plan["steps"].as_array().is_some_and(|s| s.iter().all(|s| s["goal"].is_string())));
    assert_eq!(plan["missing"][0]["acknowledge"], "enable-purge-protection");
    assert!(plan["irreversible"].as_array().is_some_and(|i| i.iter().any(|i| i["step"] == "ensure-key")), "{plan}");
    assert_eq!(plan["request"]["accessTimeout"], "PT20M");
    let mut accepting = request_for("st1");
    accepting["acknowledge"] = json!(["enable-purge-protection"]);
    let plan = api.post("/v1/plans", &accepting).await.json();
    assert_eq!(plan["missing"], json!([]));
    assert!(
        plan["irreversible"].as_array().is_some_and(|i| i.iter().any(|i| i["step"] == "ensure-key-store")),
        "{plan}"
    );
    assert_eq!(api.rows().await, 0);
}
