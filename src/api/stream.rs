//! A live stream of a job's events.
//!
//! What belongs here: the loop between database and client. What does not: parameters and JSON pages (`events`), and how
//! a change is noticed (`watch`).
//!
//! There may be ten thousand of these, nearly all of them idle: what one of them holds counts.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::events::{EventView, is_over};
use super::watch::{Seen, Watch};
use crate::domain::ids::JobId;
use crate::domain::job::JobState;
use crate::store::{JobMark, StoreError};

/// How many events are read at once: what a slow client makes this process hold.
const BATCH: i64 = 100;

/// The stream as an answer. It ends when the job has ended, when the process shuts down, or when the client goes away.
/// `mark` was read after the watch began.
pub(super) fn response(
    api: Api,
    id: JobId,
    after: i64,
    (watch, mark): (Watch, JobMark),
    permit: OwnedSemaphorePermit,
) -> Response {
    let heartbeat = api.settings.heartbeat;
    let teller = Teller { api, id, told: after, mark, watch, ready: VecDeque::new(), ended: false, _permit: permit };
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
    mark: JobMark,
    watch: Watch,
    ready: VecDeque<SseEvent>,
    ended: bool,
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
            let more = tokio::select! {
                () = shutdown.cancelled() => return None,
                read = self.read() => match read {
                    Ok(true) => continue,
                    Ok(false) => None,
                    // Ending the stream would make an EventSource ask again, meet a 503 and give up: try again instead.
                    Err(error) => {
                        tracing::debug!(error = %error, "an event stream could not read");
                        Some(self.api.settings.poll.max(Duration::from_millis(10)))
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return None,
                seen = self.watch.next() => self.see(seen),
                () = pause(more), if more.is_some() => {}
            }
        }
    }

    fn see(&mut self, seen: Seen) {
        match seen {
            Seen::At(mark) => self.mark = mark,
            Seen::Nothing => {}
            Seen::Gone => self.ended = true,
        }
    }

    /// Fetches what is new. False: nothing.
    async fn read(&mut self) -> Result<bool, StoreError> {
        if is_over(&self.mark, self.told) {
            self.ready.push_back(end(self.mark.state));
            self.ended = true;
            return Ok(true);
        }
        if self.mark.event_seq <= self.told {
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

/// How long to let the database be after it did not answer.
async fn pause(length: Option<Duration>) {
    #[expect(clippy::disallowed_methods, reason = "the pause between two attempts to read")]
    tokio::time::sleep(length.unwrap_or_default()).await;
}

fn written(event: EventView) -> SseEvent {
    let sse = SseEvent::default().id(event.seq.to_string()).event(event.kind.clone());
    // The view is a JSON object of plain values and can always be written.
    sse.json_data(&event).unwrap_or_default()
}

fn end(state: JobState) -> SseEvent {
    SseEvent::default().event("end").data(json!({ "state": state.as_str() }).to_string())
}
