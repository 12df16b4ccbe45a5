//! `Prefer: wait=N` (RFC 7240): an answer that waits for a job to move.
//!
//! What belongs here: reading the preference, and waiting on news with a poll behind it. What does not: what is
//! answered afterwards.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::{Instant, MissedTickBehavior};

use super::Api;
use crate::domain::ids::JobId;
use crate::store::JobMark;
use crate::store::notify::News;

/// The seconds that a caller is ready to wait, at most `max`; 0 where it did not ask. Anything malformed is ignored, as
/// the RFC wants.
pub(super) fn preferred_wait(headers: &HeaderMap, max: Duration) -> Duration {
    let preferences =
        headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split([',', ';']));
    for preference in preferences {
        let Some((name, value)) = preference.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("wait") {
            let seconds: Option<u64> = value.trim().trim_matches('"').parse().ok();
            return Duration::from_secs(seconds.unwrap_or(0)).min(max);
        }
    }
    Duration::ZERO
}

/// A wait that was granted. It hears news from the moment it is made, so make it before reading what it waits on.
pub(super) struct Wait {
    news: Receiver<News>,
    length: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Api {
    /// The wait that the caller asked for. None: it asked for none, or too many wait already, or the process is shutting
    /// down; the answer then comes at once.
    pub(super) fn grant_wait(&self, headers: &HeaderMap) -> Option<Wait> {
        let length = preferred_wait(headers, self.settings.max_wait);
        if length.is_zero() || self.shutdown.is_cancelled() {
            return None;
        }
        match self.waits.clone().try_acquire_owned() {
            Ok(permit) => Some(Wait { news: self.news.subscribe(), length, _permit: permit }),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => None,
        }
    }

    /// Waits until the job's mark is as wanted. False: the time is over, the process shuts down, or the job is gone.
    pub(super) async fn wait(&self, mut wait: Wait, id: JobId, is_wanted: impl Fn(&JobMark) -> bool) -> bool {
        let deadline = Instant::now() + wait.length;
        let mut poll = poll(self.settings.poll);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return false,
                () = self.shutdown.cancelled() => return false,
                () = moved(&mut wait.news, id) => {}
                _ = poll.tick() => {}
            }
            // An error of the database is not an answer to "has it moved": the poll asks again until the deadline.
            match self.store.get_mark(id).await {
                Ok(Some(mark)) if is_wanted(&mark) => return true,
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => return false,
            }
        }
    }
}

impl Wait {
    /// The seconds granted, for `Preference-Applied`.
    pub(super) fn seconds(&self) -> u64 {
        self.length.as_secs()
    }
}

/// Ticks in case news was lost, the first time at once.
pub(super) fn poll(every: Duration) -> tokio::time::Interval {
    let mut poll = tokio::time::interval(every.max(Duration::from_millis(10)));
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    poll
}

/// Returns when there may be news of the job; never if news has ended, because then the poll is all there is.
pub(super) async fn moved(news: &mut Receiver<News>, id: JobId) {
    loop {
        match news.recv().await {
            Ok(News::Job { id: other, .. }) if other != id => {}
            Ok(News::Job { .. } | News::Unsure) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_the_rfc_says() {
        for (prefer, want) in [
            (&[][..], 0),
            (&["wait=10"], 10),
            (&["WAIT = 10"], 10),
            (&["wait=\"10\""], 10),
            (&["respond-async, wait=10"], 10),
            (&["respond-async; x=1", "wait=7"], 7),
            (&["wait=10, wait=20"], 10),
            (&["wait=1000000000000"], 55),
            (&["wait=-1"], 0),
            (&["wait"], 0),
            (&["wait=soon"], 0),
            (&["wait=1.5"], 0),
            (&["return=minimal"], 0),
        ] {
            let headers: HeaderMap = prefer
                .iter()
                .filter_map(|p| Some(("prefer".parse().ok()?, p.parse().ok()?)))
                .collect::<Vec<(axum::http::HeaderName, _)>>()
                .into_iter()
                .collect();
            assert_eq!(preferred_wait(&headers, Duration::from_secs(55)).as_secs(), want, "{prefer:?}");
        }
    }
}
