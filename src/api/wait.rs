//! `Prefer: wait=N` (RFC 7240): an answer that waits for a job to move.
//!
//! What belongs here: reading the preference, and waiting. What does not: what is answered afterwards, and how a change is
//! noticed (`watch`).

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::Instant;

use super::Api;
use super::watch::Seen;
use crate::domain::ids::JobId;
use crate::store::JobMark;

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

/// A wait that was granted.
pub(super) struct Wait {
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
            Ok(permit) => Some(Wait { length, _permit: permit }),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => None,
        }
    }

    /// Waits until the job's mark is as wanted. False: the time is over, the process shuts down, or the job is gone.
    pub(super) async fn wait(&self, wait: Wait, id: JobId, is_wanted: impl Fn(&JobMark) -> bool) -> bool {
        let deadline = Instant::now() + wait.length;
        let mut watch = self.watchers.watch(id);
        // An error of the database is not an answer to "has it moved": the watch asks again until the deadline.
        let mut seen = match watch.read(&self.store).await {
            Ok(Some(mark)) => Seen::At(mark),
            Ok(None) => Seen::Gone,
            Err(_) => Seen::Nothing,
        };
        loop {
            match seen {
                Seen::At(mark) if is_wanted(&mark) => return true,
                Seen::Gone => return false,
                Seen::At(_) | Seen::Nothing => {}
            }
            seen = tokio::select! {
                () = tokio::time::sleep_until(deadline) => return false,
                () = self.shutdown.cancelled() => return false,
                seen = watch.next() => seen,
            };
        }
    }
}

impl Wait {
    /// The seconds granted, for `Preference-Applied`.
    pub(super) fn seconds(&self) -> u64 {
        self.length.as_secs()
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
