//! A live stream of a job's events.
//!
//! What belongs here: the loop between database and client. What does not: parameters and JSON pages (`events`).

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::time::Interval;

use super::Api;
use super::events::{EventView, is_over};
use super::wait::{moved, poll};
use crate::domain::ids::JobId;
use crate::domain::job::JobState;
use crate::store::StoreError;
use crate::store::notify::News;

/// How many events are read at once: what a slow client makes this process hold.
const BATCH: i64 = 100;

/// The stream as an answer. It ends when the job has ended, when the process shuts down, or when the client goes away.
pub(super) fn response(
    api: Api,
    id: JobId,
    after: i64,
    news: Receiver<News>,
    permit: OwnedSemaphorePermit,
) -> Response {
    let heartbeat = api.settings.heartbeat;
    let poll = poll(api.settings.poll);
    let teller = Teller { api, id, told: after, ready: VecDeque::new(), ended: false, news, poll, _permit: permit };
    let mut response = Sse::new(teller.into_stream()).keep_alive(KeepAlive::new().interval(heartbeat)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Tells proxies that buffer (nginx) to hand events on as they come.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Teller {
    api: Api,
    id: JobId,
    told: i64,
    ready: VecDeque<SseEvent>,
    ended: bool,
    news: Receiver<News>,
    poll: Interval,
    _permit: OwnedSemaphorePermit,
}

impl Teller {
    fn into_stream(self) -> impl Stream<Item = Result<SseEvent, Infallible>> {
        stream::unfold(self, |mut teller| async move { teller.next().await.map(|event| (Ok(event), teller)) })
    }

    async fn next(&mut self) -> Option<SseEvent> {
        let shutdown = self.api.shutdown.clone();
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                looked = self.look() => match looked {
                    Ok(true) => continue,
                    Ok(false) => {}
                    // Ending the stream would make an EventSource ask again, meet a 503 and give up: wait instead.
                    Err(error) => tracing::debug!(error = %error, "an event stream could not look"),
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = moved(&mut self.news, self.id) => {}
                _ = self.poll.tick() => {}
            }
        }
    }

    /// Fetches what is new. False: nothing.
    async fn look(&mut self) -> Result<bool, StoreError> {
        let Some(mark) = self.api.store.get_mark(self.id).await? else {
            self.ended = true;
            return Ok(true);
        };
        if is_over(&mark, self.told) {
            self.ready.push_back(end(mark.state));
            self.ended = true;
            return Ok(true);
        }
        if mark.event_seq <= self.told {
            return Ok(false);
        }
        let events = self.api.store.list_events(self.id, self.told, BATCH).await?;
        for event in events {
            self.told = event.seq;
            self.ready.push_back(written(event.into()));
        }
        Ok(!self.ready.is_empty())
    }
}

fn written(event: EventView) -> SseEvent {
    let sse = SseEvent::default().id(event.seq.to_string()).event(event.kind.clone());
    // The view is a JSON object of plain values and can always be written.
    sse.json_data(&event).unwrap_or_default()
}

fn end(state: JobState) -> SseEvent {
    SseEvent::default().event("end").data(json!({ "state": state.as_str() }).to_string())
}
