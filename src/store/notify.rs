//! News between processes: a job changed, work is due.
//!
//! What belongs here: sending and hearing NOTIFY. News may be lost (a dropped connection), so whoever waits on it also
//! looks by itself from time to time. News is sent after the commit it tells of, never inside the accepting transaction:
//! a NOTIFY in a transaction serialises all commits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::ids::JobId;

const CHANNEL: &str = "cmk_jobs";
const CAPACITY: usize = 1024;

/// Between two NOTIFYs of one process: what commits in the meantime is told by one. NOTIFY takes a lock of the whole
/// server for the length of its commit.
const APART: Duration = Duration::from_millis(5);

/// How many jobs one NOTIFY names: its payload is limited to 8000 bytes.
const NAMED: usize = 150;

/// How many jobs may wait to be told of. Beyond that the others are told to look at everything.
const UNTOLD: usize = 5000;

/// After this time without news the connection is asked whether it still lives: one that a firewall forgot is as silent as
/// one without news, and TCP, which has nothing to send, would never find out.
const QUIET: Duration = Duration::from_secs(10);

/// How long the answer may take, and so may connecting.
const ANSWER: Duration = Duration::from_secs(3);

/// A job changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// This job changed.
    Job {
        /// The job.
        id: JobId,
        /// Whether it may be due: work for an idle worker.
        due: bool,
    },
    /// News may have been missed: look again at everything that is waited for.
    Unsure,
}

/// Hands the news of this process and of one database connection to any number of listeners, and tells the other
/// processes what happens in this one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NewsHub {
    heard: broadcast::Sender<News>,
    untold: Arc<Untold>,
}

#[derive(Debug)]
struct Untold {
    origin: Uuid,
    jobs: Mutex<BTreeMap<JobId, bool>>,
    some: Notify,
}

impl NewsHub {
    /// A hub that nobody feeds yet.
    pub fn new() -> Self {
        let untold = Untold { origin: Uuid::new_v4(), jobs: Mutex::default(), some: Notify::new() };
        Self { heard: broadcast::channel(CAPACITY).0, untold: Arc::new(untold) }
    }

    /// Hears news from now on. A listener that is too slow is told that it missed some.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.heard.subscribe()
    }

    /// Tells listeners in this process now, and other processes within milliseconds, that a job changed. Call it after
    /// the commit.
    pub fn announce(&self, id: JobId, due: bool) {
        let _ = self.heard.send(News::Job { id, due });
        let mut jobs = self.untold.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() < UNTOLD || jobs.contains_key(&id) {
            *jobs.entry(id).or_default() |= due;
        }
        drop(jobs);
        self.untold.some.notify_one();
    }

    /// Feeds the hub from the database, and the database from the hub, until the token is cancelled; reconnects for ever,
    /// with a bounded pause.
    pub async fn run(&self, store: Store, stop: CancellationToken) {
        tokio::join!(self.hear(&store, &stop), self.tell(&store, &stop));
    }

    async fn hear(&self, store: &Store, stop: &CancellationToken) {
        let mut pause = Duration::from_millis(100);
        loop {
            let ended = tokio::select! {
                ended = self.listen(store, &mut pause) => ended,
                () = stop.cancelled() => return,
            };
            if let Err(error) = ended {
                warn!(error = %error, "listening for news failed; will connect again");
            }
            let _ = self.heard.send(News::Unsure);
            #[expect(clippy::disallowed_methods, reason = "the pause between two attempts to connect")]
            let wait = tokio::time::sleep(pause);
            tokio::select! {
                () = wait => pause = (pause * 2).min(Duration::from_secs(5)),
                () = stop.cancelled() => return,
            }
        }
    }

    async fn listen(&self, store: &Store, pause: &mut Duration) -> Result<(), sqlx::Error> {
        // A listener that is dropped says so to the server first, and on a dead connection that takes a quarter of an
        // hour. So its connection is none of those that others wait for.
        let own = store.pool_of_one(ANSWER);
        let mut listener = PgListener::connect_with(&own).await?;
        within(listener.listen(CHANNEL)).await?;
        *pause = Duration::from_millis(100);
        let _ = self.heard.send(News::Unsure);
        debug!("listening for news");
        loop {
            let Ok(heard) = tokio::time::timeout(QUIET, listener.try_recv()).await else {
                within(sqlx::query("select 1").execute(&mut listener)).await?;
                continue;
            };
            let Some(note) = heard? else { return Ok(()) };
            let Some((origin, news)) = note.payload().split_once(' ') else { continue };
            if origin.parse() == Ok(self.untold.origin) {
                continue;
            }
            for news in news.split(',').filter_map(parse) {
                let _ = self.heard.send(news);
            }
        }
    }

    async fn tell(&self, store: &Store, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = self.untold.some.notified() => {}
                () = stop.cancelled() => {
                    self.tell_once(store).await;
                    return;
                }
            }
            self.tell_once(store).await;
            #[expect(clippy::disallowed_methods, reason = "the pause between two NOTIFYs")]
            tokio::time::sleep(APART).await;
        }
    }

    async fn tell_once(&self, store: &Store) {
        loop {
            let payload = self.take();
            if payload.is_empty() {
                return;
            }
            // Lost news is looked for by whoever waits for it; telling it again later would help nobody.
            if let Err(error) = store.notify(&format!("{} {payload}", self.untold.origin.simple())).await {
                debug!(error = %error, "news could not be told");
                return;
            }
        }
    }

    fn take(&self) -> String {
        let mut jobs = self.untold.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= UNTOLD {
            jobs.clear();
            return "*".to_owned();
        }
        let mut payload = String::new();
        for _ in 0..NAMED {
            let Some((id, due)) = jobs.pop_first() else { break };
            if !payload.is_empty() {
                payload.push(',');
            }
            payload.push_str(&id.0.simple().to_string());
            payload.push_str(if due { "!" } else { "" });
        }
        payload
    }
}

async fn within<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn parse(text: &str) -> Option<News> {
    if text == "*" {
        return Some(News::Unsure);
    }
    let (id, due) = text.strip_suffix('!').map_or((text, false), |id| (id, true));
    Some(News::Job { id: JobId(id.parse().ok()?), due })
}

impl Default for NewsHub {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    async fn notify(&self, payload: &str) -> Result<(), StoreError> {
        // Such a commit waits for the disk like any other, though nothing of it has to last; and whoever was told would
        // meet that flush again when it claims. The setting holds for this statement only.
        sqlx::query("select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(payload)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
