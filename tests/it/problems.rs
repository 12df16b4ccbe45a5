//! What is the same for every route: problems, ids, bounds, health, the reference page.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use cmk::api::{ApiSettings, ApiState, router};
use cmk::clock::Clock;
use cmk::domain::codes::Code;
use cmk::store::Store;
use cmk::store::notify::NewsHub;
use futures::future::join_all;
use reqwest::Method;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::api::{Answer, TestApi, request_for};

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems() {
    let api = TestApi::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v1/jobs/",
        "/v2/jobs",
        "/v1/services/disk",
        "/v1/errors/oops",
        "/docs/x",
        "/%ff",
    ] {
        let problem = api.get(path).await.problem(404, "not-found");
        assert_eq!(problem["instance"], path);
    }
    for (method, path, allow) in [
        (Method::DELETE, "/v1/jobs", "GET"),
        (Method::PUT, "/v1/jobs", "POST"),
        (Method::GET, "/v1/plans", "POST"),
        (Method::POST, "/v1/services", "GET"),
        (Method::OPTIONS, "/v1/errors", "GET"),
        (Method::POST, "/healthz", "GET"),
        (Method::POST, "/docs", "GET"),
    ] {
        let answer = api.send(api.request(method.clone(), path)).await;
        answer.problem(405, "method-not-allowed");
        assert!(answer.header("allow").contains(allow), "{method} {path}: {answer:?}");
    }
}

#[tokio::test]
async fn answers_nobody_can_take_are_refused() {
    let api = TestApi::start().await;
    let with = |path: &str, accept: &str| api.request(Method::GET, path).header("accept", accept);
    for (path, accept) in [
        ("/v1/jobs", "text/html"),
        ("/v1/jobs", "text/event-stream"),
        ("/v1/errors", "application/json;q=0"),
        ("/v1/services", "image/*"),
    ] {
        api.send(with(path, accept)).await.problem(406, "not-acceptable");
    }
    for accept in ["*/*", "application/*", "text/html, application/json;q=0.1", "application/problem+json"] {
        assert_eq!(api.send(with("/v1/jobs", accept)).await.status, 200, "{accept}");
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_and_the_next_request_is_served() {
    let panics = Router::new().route(
        "/panics",
        get(|| async {
            if true {
                panic!("on purpose")
            }
        }),
    );
    let api = TestApi::start_with(ApiSettings::default(), panics).await;
    let answer = api.get("/panics").await;
    let problem = answer.problem(500, "internal");
    assert!(!problem.to_string().contains("on purpose"));
    assert_eq!(problem["traceId"], answer.header("x-request-id"));
    assert_eq!(api.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn errors_without_a_body_become_problems() {
    let teapot = Router::new()
        .route("/teapot", get(|| async { axum::http::StatusCode::IM_A_TEAPOT }))
        .route("/text", get(|| async { (axum::http::StatusCode::CONFLICT, "plain text") }));
    let api = TestApi::start_with(ApiSettings::default(), teapot).await;
    for (path, status) in [("/teapot", 418), ("/text", 409)] {
        let answer = api.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "application/problem+json"));
        assert_eq!(answer.json()["status"], status);
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_is_not_sniffed() {
    let api = TestApi::start().await;
    for path in ["/v1/jobs", "/v1/nothing", "/healthz", "/readyz", "/openapi.json", "/docs", "/v1/jobs?x=1"] {
        let answer = api.get(path).await;
        let id = answer.header("x-request-id");
        assert_eq!(id.parse::<uuid::Uuid>().map(|u| u.get_version_num()).ok(), Some(7), "{path}: {id}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!answer.header("cache-control").is_empty(), "{path}");
    }
    for path in ["/v1/jobs", "/v1/nothing"] {
        let request = api.request(Method::GET, path).header("x-request-id", "bot.42_a-b");
        assert_eq!(api.send(request).await.header("x-request-id"), "bot.42_a-b");
        let request = api.request(Method::GET, path).header("x-request-id", "no spaces");
        assert_ne!(api.send(request).await.header("x-request-id"), "no spaces");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    for path in
        [format!("/v1/jobs/{id}"), "/v1/jobs".into(), "/v1/services".into(), "/healthz".into(), "/v1/nothing".into()]
    {
        let (get, head) = (api.get(&path).await, api.send(api.request(Method::HEAD, &path)).await);
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("etag"), get.header("etag"), "{path}");
    }
}

#[tokio::test]
async fn slow_requests_time_out_and_many_at_once_are_refused() {
    let (enter, entered) = tokio::sync::mpsc::unbounded_channel();
    let hangs = Router::new().route(
        "/hangs",
        get(move || async move {
            enter.send(()).expect("the test listens");
            std::future::pending::<()>().await;
        }),
    );
    let settings = ApiSettings { max_in_flight: 2, request_timeout: Duration::from_secs(2), ..ApiSettings::default() };
    let api = TestApi::start_with(settings, hangs).await;
    let mut entered = entered;
    let others = async {
        for _ in 0..2 {
            entered.recv().await.expect("a request hangs");
        }
        let refused = api.get("/v1/jobs").await;
        refused.problem(429, "too-many-requests");
        assert_eq!(refused.header("retry-after"), "1");
        // The process lives, whatever its load.
        assert_eq!(api.get("/healthz").await.status, 200);
    };
    let (hung, ()) = tokio::join!(join_all([api.get("/hangs"), api.get("/hangs")]), others);
    for answer in hung {
        answer.problem(408, "request-timeout");
    }
    assert_eq!(api.get("/v1/jobs").await.status, 200);
}

#[tokio::test]
async fn waits_do_not_use_up_the_places_of_requests() {
    let settings = ApiSettings { max_in_flight: 1, ..ApiSettings::default() };
    let api = TestApi::start_with(settings, Router::new()).await;
    let id = api.submit(&request_for("st1")).await;
    let wait = api.request(Method::GET, &format!("/v1/jobs/{id}")).header("prefer", "wait=50");
    let cancel = async {
        // The wait may still hold the one place for a moment.
        loop {
            let answer: Answer = api.act(&format!("/v1/jobs/{id}/cancel")).await;
            if answer.status == 202 {
                break;
            }
            answer.problem(429, "too-many-requests");
        }
    };
    let (waited, ()) = tokio::join!(api.send(wait), cancel);
    assert!(matches!(waited.status.as_u16(), 200 | 429), "{waited:?}");
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let api = TestApi::start().await;
    assert_eq!(api.get("/healthz").await.json(), serde_json::json!({ "status": "ok" }));
    let checks = |answer: &Answer| -> Vec<(String, bool)> {
        let body = answer.json();
        assert_eq!(body["ready"], answer.status == 200);
        let checks = body["checks"].as_array().cloned().unwrap_or_default();
        checks.iter().filter_map(|c| Some((c["name"].as_str()?.to_owned(), c["ok"].as_bool()?))).collect()
    };
    let want = |worker| [("database".to_owned(), true), ("migrations".to_owned(), true), ("worker".to_owned(), worker)];
    let nobody = api.get("/readyz").await;
    assert_eq!((nobody.status.as_u16(), checks(&nobody)), (503, want(false).to_vec()));
    sqlx::query("insert into workers (name, started_at, last_claim_at) values ('w', $1, $1)")
        .bind(api.clock.now())
        .execute(&api.database.pool)
        .await
        .expect("a worker is recorded");
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), checks(&ready)), (200, want(true).to_vec()));
    api.clock.advance(Duration::from_secs(31));
    assert_eq!(api.get("/readyz").await.status, 503);
    sqlx::query("delete from _sqlx_migrations").execute(&api.database.pool).await.expect("the list can be emptied");
    let behind = api.get("/readyz").await;
    assert_eq!(behind.status, 503);
    assert!(checks(&behind).contains(&("migrations".to_owned(), false)), "{behind:?}");
}

#[tokio::test]
async fn without_a_database_the_service_says_so() {
    // Nothing listens on the discard port of this machine, so the connection is refused at once.
    let store = Store::open("postgres://nobody@127.0.0.1:9/none", 1, Clock::System).expect("an address");
    let settings = ApiSettings { readiness_timeout: Duration::from_millis(200), ..ApiSettings::default() };
    let app =
        router(ApiState { store, news: NewsHub::new(), surveyor: None, shutdown: CancellationToken::new(), settings });
    let get = |path: &str| axum::http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
    let ready = app.clone().oneshot(get("/readyz")).await.expect("an answer");
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.headers()["content-type"], "application/json");
    assert_eq!(app.clone().oneshot(get("/healthz")).await.expect("an answer").status(), 200);
    let jobs = app.oneshot(get("/v1/jobs")).await.expect("an answer");
    assert_eq!((jobs.status().as_u16(), jobs.headers()["retry-after"].to_str().ok()), (503, Some("5")));
    let body = axum::body::to_bytes(jobs.into_body(), 10_000).await.expect("a body");
    let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((problem["code"].as_str(), problem["retryable"].as_bool()), (Some("unavailable"), Some(true)));
    assert!(!problem.to_string().contains("127.0.0.1"), "{problem}");
}

#[tokio::test]
async fn the_catalogues_list_everything_and_lead_to_each() {
    let api = TestApi::start().await;
    let errors = api.get("/v1/errors").await.json();
    let errors = errors["items"].as_array().expect("items");
    assert_eq!(errors.len(), Code::ALL.len());
    for error in errors {
        let one = api.get(&format!("/v1/errors/{}", error["code"].as_str().expect("a code"))).await;
        assert_eq!((one.status.as_u16(), &one.json()), (200, error));
    }
    let services = api.get("/v1/services").await.json();
    for service in services["items"].as_array().expect("items") {
        let one = api.get(&format!("/v1/services/{}", service["slug"].as_str().expect("a slug"))).await;
        assert_eq!((one.status.as_u16(), &one.json()), (200, service));
    }
    assert_eq!(services["items"].as_array().map(Vec::len), Some(cmk::services::ALL.len()));
}

#[tokio::test]
async fn the_contract_and_its_page_are_served_offline() {
    let api = TestApi::start().await;
    let contract = api.get("/openapi.json").await;
    assert_eq!(contract.text, cmk::api::openapi::text());
    assert_eq!(contract.header("content-type"), "application/json");
    for path in ["/docs", "/docs/"] {
        let page = api.get(path).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
        // Nothing comes from elsewhere: every address in the page is relative to its base, and is served.
        assert!(!page.text.contains("http://") && !page.text.contains("https://"), "{}", page.text);
        assert!(page.text.contains("<base href=\"/docs/\">"));
        let mut files = 0;
        for part in page.text.split(['"']).filter(|p| p.starts_with("./") || *p == "index.css") {
            let file = api.get(&format!("/docs/{}", part.trim_start_matches("./"))).await;
            assert_eq!(file.status, 200, "{part}");
            files += 1;
        }
        assert!(files >= 4, "{}", page.text);
    }
    let start = api.get("/docs/swagger-initializer.js").await;
    assert!(start.text.contains("/openapi.json"), "{}", start.text);
}
