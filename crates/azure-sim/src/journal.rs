//! The request journal: what was asked, by whom, what it answered and whether it changed anything. A bounded ring; no
//! header, token, body or key material is ever kept, only the SHA-256 of a body.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::glob;

/// One request and its answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Position in the journal, from 1, without gaps.
    pub seq: u64,
    /// When it was answered, by the simulator's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Which surface took it: `login`, `arm`, `vault`, `unknown`, …; `clock` for what happened by itself.
    pub surface: &'static str,
    /// The host asked, without port.
    pub host: String,
    /// The method.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// The query as sent, empty when there was none.
    pub query: String,
    /// The status answered; 0 when the connection was cut instead.
    pub status: u16,
    /// Azure's error code, with the inner code after a slash where there is one.
    pub code: Option<String>,
    /// Object id of the caller, when its token was good.
    pub principal: Option<String>,
    /// The correlation id that the answer carried.
    pub correlation_id: String,
    /// The caller's own id of this request (`x-ms-client-request-id`).
    pub client_request_id: Option<String>,
    /// Whether the request asks for a change: everything but GET, HEAD, the token endpoint and pure look-ups.
    pub mutating: bool,
    /// Whether the simulated cloud changed.
    pub changed: bool,
    /// The fault rule that fired, if any.
    pub fault: Option<String>,
    /// SHA-256 of the body in hex; absent for an empty body and for the token endpoint.
    pub body_sha256: Option<String>,
}

/// Which entries to look at. Absent members match everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// The surface: `login`, `arm`, `vault`.
    pub surface: Option<String>,
    /// The method, without regard to case.
    pub method: Option<String>,
    /// A host pattern with `*`.
    pub host: Option<String>,
    /// A path pattern with `*`.
    pub path: Option<String>,
    /// A pattern for the query with `*`.
    pub query: Option<String>,
    /// The status answered.
    pub status: Option<u16>,
    /// The lowest status.
    pub status_from: Option<u16>,
    /// The highest status.
    pub status_to: Option<u16>,
    /// The error code, as in the entry.
    pub code: Option<String>,
    /// The caller's object id.
    pub principal: Option<String>,
    /// Only requests that asked for a change, or only those that did not.
    pub mutating: Option<bool>,
    /// Only requests that changed something, or only those that did not.
    pub changed: Option<bool>,
    /// The correlation id.
    pub correlation_id: Option<String>,
    /// The caller's own id of the request.
    pub client_request_id: Option<String>,
    /// The fault rule that fired; `*` for any.
    pub fault: Option<String>,
    /// SHA-256 of the body in hex.
    pub body_sha256: Option<String>,
    /// Only entries of this time and later.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    /// Only entries of this time and earlier.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// Only entries after this position.
    pub after: Option<u64>,
    /// Only entries before this position.
    pub before: Option<u64>,
    /// At most this many, the oldest ones: a page, of which the last position is the next page's `after`.
    pub first: Option<usize>,
    /// At most this many, the newest ones.
    pub limit: Option<usize>,
}

impl Filter {
    /// All requests of this method on paths that match the pattern.
    pub fn on(method: &str, path: &str) -> Self {
        Self { method: Some(method.into()), path: Some(path.into()), ..Self::default() }
    }

    fn matches(&self, entry: &Entry) -> bool {
        let same = |want: &Option<String>, have: &str| want.as_ref().is_none_or(|w| w.eq_ignore_ascii_case(have));
        let like = |want: &Option<String>, have: &str| want.as_ref().is_none_or(|w| glob::matches(w, have));
        same(&self.surface, entry.surface)
            && same(&self.method, &entry.method)
            && like(&self.host, &entry.host)
            && like(&self.path, &entry.path)
            && like(&self.query, &entry.query)
            && self.status_from.is_none_or(|s| s <= entry.status)
            && self.status_to.is_none_or(|s| s >= entry.status)
            && same(&self.correlation_id, &entry.correlation_id)
            && same_or_absent(&self.client_request_id, entry.client_request_id.as_deref())
            && same_or_absent(&self.body_sha256, entry.body_sha256.as_deref())
            && self.fault.as_ref().is_none_or(|f| entry.fault.as_ref().is_some_and(|have| glob::matches(f, have)))
            && self.since.is_none_or(|t| entry.time >= t)
            && self.until.is_none_or(|t| entry.time <= t)
            && self.status.is_none_or(|s| s == entry.status)
            && same_or_absent(&self.code, entry.code.as_deref())
            && same_or_absent(&self.principal, entry.principal.as_deref())
            && self.mutating.is_none_or(|m| m == entry.mutating)
            && self.changed.is_none_or(|c| c == entry.changed)
            && self.after.is_none_or(|a| entry.seq > a)
            && self.before.is_none_or(|b| entry.seq < b)
    }
}

fn same_or_absent(want: &Option<String>, have: Option<&str>) -> bool {
    want.as_ref().is_none_or(|w| have.is_some_and(|h| w.eq_ignore_ascii_case(h)))
}

/// A shared handle on the journal.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<Ring>>);

#[derive(Debug)]
struct Ring {
    entries: VecDeque<Entry>,
    last: u64,
    capacity: usize,
}

impl Journal {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(Ring { entries: VecDeque::new(), last: 0, capacity: capacity.max(1) })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Ring) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn record(&self, mut entry: Entry) {
        self.with(|ring| {
            ring.last += 1;
            entry.seq = ring.last;
            if ring.entries.len() == ring.capacity {
                ring.entries.pop_front();
            }
            ring.entries.push_back(entry);
        });
    }

    /// The entries that match, oldest first.
    pub fn find(&self, filter: &Filter) -> Vec<Entry> {
        let first = filter.first.unwrap_or(usize::MAX);
        self.with(|ring| {
            if filter.limit.is_none() {
                return ring.entries.iter().filter(|e| filter.matches(e)).take(first).cloned().collect();
            }
            let mut found: Vec<Entry> = ring
                .entries
                .iter()
                .rev()
                .filter(|e| filter.matches(e))
                .take(filter.limit.unwrap_or(usize::MAX))
                .cloned()
                .collect();
            found.reverse();
            found.truncate(first);
            found
        })
    }

    /// How many entries match.
    pub fn count(&self, filter: &Filter) -> usize {
        self.with(|ring| ring.entries.iter().filter(|e| filter.matches(e)).count())
    }

    /// All entries still kept, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.find(&Filter::default())
    }

    /// The position of the newest entry; use it as `after` to look only at what follows.
    pub fn last_seq(&self) -> u64 {
        self.with(|ring| ring.last)
    }

    /// Forgets all entries. Positions go on counting.
    pub fn clear(&self) {
        self.with(|ring| ring.entries.clear());
    }
}
