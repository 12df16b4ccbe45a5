//! What happened to a job: as pages, and live.

use std::time::Duration;

use cmk::api::ApiSettings;
use cmk::domain::ids::JobId;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::api::{DEADLINE, TestApi, request_for};

/// One message of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
struct Message {
    id: String,
    event: String,
    data: String,
    comment: bool,
}

/// A stream that is read message by message.
struct Messages {
    chunks: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    text: String,
}

impl Messages {
    fn new(response: Response) -> Self {
        let chunks = response.bytes_stream().map(|chunk| chunk.map(|c| c.to_vec())).boxed();
        Self { chunks, text: String::new() }
    }

    /// The next message; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let parsed = parse(message);
                self.text = rest.to_owned();
                return Some(parsed);
            }
            let chunk =
                tokio::time::timeout(DEADLINE, self.chunks.next()).await.expect("the stream goes on or ends")?;
            self.text.push_str(&String::from_utf8(chunk.expect("the stream can be read")).expect("text"));
        }
    }

    /// All messages to the end, without comments.
    async fn rest(mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            if !message.comment {
                all.push(message);
            }
        }
        all
    }
}

fn parse(text: &str) -> Message {
    let mut message = Message::default();
    for line in text.lines() {
        match line.split_once(": ").unwrap_or((line, "")) {
            ("id", value) => message.id = value.to_owned(),
            ("event", value) => message.event = value.to_owned(),
            ("data", value) => message.data = value.to_owned(),
            (other, _) => message.comment = other.starts_with(':'),
        }
    }
    message
}

async fn open(api: &TestApi, id: JobId, query: &str, last: Option<i64>) -> Response {
    let mut request =
        api.request(Method::GET, &format!("/v1/jobs/{id}/events{query}")).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    request.send().await.expect("the API answers")
}

#[tokio::test]
async fn events_come_in_pages_in_order() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    api.succeed(id).await;
    let all = api.get(&format!("/v1/jobs/{id}/events")).await;
    assert_eq!(all.status, 200);
    let all = all.json();
    let items = all["items"].as_array().expect("items");
    assert_eq!(all.get("next"), None);
    let numbers: Vec<i64> = items.iter().filter_map(|e| e["seq"].as_i64()).collect();
    assert_eq!(numbers, (1..=i64::try_from(items.len()).expect("few")).collect::<Vec<_>>());
    assert_eq!(items[0]["kind"], "job-accepted");
    assert_eq!(items[0]["data"], json!({ "requestedBy": "anonymous" }));
    assert_eq!(items[1]["step"], "check-target");
    assert_eq!(items.last().map(|e| &e["kind"]), Some(&json!("job-succeeded")));

    let mut seen = Vec::new();
    let mut next = Some(format!("/v1/jobs/{id}/events?limit=4"));
    while let Some(path) = next {
        let answer = api.get(&path).await;
        let page = answer.json();
        seen.extend(page["items"].as_array().expect("items").clone());
        next = page["next"].as_str().map(str::to_owned);
        assert_eq!(answer.header("link").is_empty(), next.is_none());
    }
    assert_eq!(&seen, items);
    let after = api.get(&format!("/v1/jobs/{id}/events?after={}", items.len())).await.json();
    assert_eq!(after, json!({ "items": [] }));
}

#[tokio::test]
async fn a_stream_is_live_and_ends_with_the_job() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    let response = open(&api, id, "", None).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-accel-buffering"), "no");
    assert!(!header("x-request-id").is_empty());
    let mut stream = Messages::new(response);
    let first = stream.next().await.expect("the first event");
    assert_eq!((first.id.as_str(), first.event.as_str()), ("1", "job-accepted"));
    let data: Value = serde_json::from_str(&first.data).expect("JSON");
    assert_eq!((data["seq"].as_i64(), data["kind"].as_str()), (Some(1), Some("job-accepted")));
    // What happens from now on is heard.
    api.wait(id, Duration::from_secs(5)).await;
    assert_eq!(stream.next().await.map(|m| m.event).as_deref(), Some("step-started"));
    assert_eq!(stream.next().await.map(|m| m.event).as_deref(), Some("step-waiting"));
    api.clock.advance(Duration::from_secs(5));
    api.succeed(id).await;
    let rest = stream.rest().await;
    let end = rest.last().expect("an end");
    assert_eq!((end.id.as_str(), end.event.as_str(), end.data.as_str()), ("", "end", r#"{"state":"succeeded"}"#));
    assert_eq!(rest[rest.len() - 2].event, "job-succeeded");
    assert_eq!(rest.iter().filter(|m| m.event == "end").count(), 1);
}

#[tokio::test]
async fn a_stream_resumes_where_the_client_was() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    api.fail(id).await;
    let whole = Messages::new(open(&api, id, "", None).await).rest().await;
    assert_eq!(whole.last().map(|m| m.data.as_str()), Some(r#"{"state":"failed"}"#));
    let events = whole.len() - 1;
    let ids = |messages: &[Message]| -> Vec<String> { messages.iter().map(|m| m.id.clone()).collect() };
    let resumed = Messages::new(open(&api, id, "", Some(1)).await).rest().await;
    assert_eq!(ids(&resumed), ids(&whole[1..]));
    let after = Messages::new(open(&api, id, "?after=2", None).await).rest().await;
    assert_eq!(ids(&after), ids(&whole[2..]));
    // The browser's own header wins over the address it was first given.
    let both = Messages::new(open(&api, id, "?after=0", Some(1)).await).rest().await;
    assert_eq!(ids(&both), ids(&whole[1..]));
    // Nothing new about an ended job: the browser is told to stop.
    let last = i64::try_from(events).expect("few");
    for nothing in [open(&api, id, "", Some(last)).await, open(&api, id, "?after=1000000", None).await] {
        assert_eq!(nothing.status(), 204);
    }
    // A retry makes news again.
    assert_eq!(api.act(&format!("/v1/jobs/{id}/retry")).await.status, 202);
    let mut again = Messages::new(open(&api, id, "", Some(last)).await);
    assert_eq!(again.next().await.map(|m| m.event).as_deref(), Some("job-retried"));
}

#[tokio::test]
async fn a_stream_longer_than_a_batch_is_told_whole() {
    let api = TestApi::start().await;
    let id = api.submit(&request_for("st1")).await;
    for _ in 0..160 {
        api.wait(id, Duration::from_secs(1)).await;
        api.clock.advance(Duration::from_secs(1));
    }
    api.act(&format!("/v1/jobs/{id}/cancel")).await;
    let told = Messages::new(open(&api, id, "", None).await).rest().await;
    let numbers: Vec<i64> = told.iter().filter_map(|m| m.id.parse().ok()).collect();
    assert!(numbers.len() > 150, "{}", numbers.len());
    assert_eq!(numbers, (1..=i64::try_from(numbers.len()).expect("few")).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_idle_stream_sends_comments_and_ends_at_shutdown() {
    let settings = ApiSettings { heartbeat: Duration::from_millis(20), ..ApiSettings::default() };
    let api = TestApi::start_with(settings, axum::Router::new()).await;
    let id = api.submit(&request_for("st1")).await;
    let mut stream = Messages::new(open(&api, id, "?after=1", None).await);
    for _ in 0..3 {
        assert!(stream.next().await.is_some_and(|m| m.comment));
    }
    api.shutdown.cancel();
    assert_eq!(stream.rest().await, []);
}

#[tokio::test]
async fn open_streams_are_bounded_and_free_their_place() {
    let settings = ApiSettings { max_streams: 1, heartbeat: Duration::from_millis(20), ..ApiSettings::default() };
    let api = TestApi::start_with(settings, axum::Router::new()).await;
    let id = api.submit(&request_for("st1")).await;
    let stream = open(&api, id, "", None).await;
    assert_eq!(stream.status(), 200);
    let request = || api.request(Method::GET, &format!("/v1/jobs/{id}/events")).header("accept", "text/event-stream");
    let refused = api.send(request()).await;
    refused.problem(429, "too-many-requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(api.get(&format!("/v1/jobs/{id}/events")).await.status, 200);
    drop(stream);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while open(&api, id, "", None).await.status() != 200 {
        assert!(tokio::time::Instant::now() < deadline, "a closed stream keeps its place");
    }
}

#[tokio::test]
async fn streams_of_many_jobs_each_hear_of_their_own() {
    let api = TestApi::start().await;
    let mut streams = Vec::new();
    for number in 0..8 {
        let id = api.submit(&request_for(&format!("st{number}"))).await;
        // Two watch the same job, and one of them goes away.
        let gone = open(&api, id, "?after=1", None).await;
        streams.push((id, Messages::new(open(&api, id, "?after=1", None).await)));
        drop(gone);
    }
    for (id, _) in &streams {
        api.act(&format!("/v1/jobs/{id}/cancel")).await;
    }
    for (id, stream) in streams {
        let told: Vec<String> = stream.rest().await.into_iter().map(|message| message.event).collect();
        assert_eq!(told, ["job-cancel-requested", "job-cancelled", "end"], "{id}");
    }
}

#[tokio::test]
async fn a_stream_that_no_news_reaches_looks_by_itself() {
    let settings = ApiSettings { poll: Duration::from_millis(20), ..ApiSettings::default() };
    let api = TestApi::start_with(settings, axum::Router::new()).await;
    let id = api.submit(&request_for("st1")).await;
    let stream = Messages::new(open(&api, id, "?after=1", None).await);
    // Past the API, so that nobody tells of it.
    api.store.request_cancel(id, "somebody").await.expect("the store answers");
    let told: Vec<String> = stream.rest().await.into_iter().map(|message| message.event).collect();
    assert_eq!(told, ["job-cancel-requested", "job-cancelled", "end"]);
}
