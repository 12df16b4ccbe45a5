//! News between processes: a job changed, work is due.
//!
//! What belongs here: sending and hearing NOTIFY. News may be lost (a dropped connection), so whoever waits on it also
//! looks by itself from time to time. News is sent after the commit it tells of, never inside the accepting transaction:
//! a NOTIFY in a transaction serialises all commits.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::ids::JobId;

const CHANNEL: &str = "cmk_jobs";
const CAPACITY: usize = 1024;

/// A job changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// This job changed, and may be due.
    Job(JobId),
    /// News may have been missed: look again at everything that is waited for.
    Unsure,
}

/// Hands the news of one database connection to any number of listeners in this process.
#[derive(Clone, Debug)]
pub struct NewsHub(broadcast::Sender<News>);

impl NewsHub {
    /// A hub that nobody feeds yet.
    pub fn new() -> Self {
        Self(broadcast::channel(CAPACITY).0)
    }

    /// Hears news from now on. A listener that is too slow is told that it missed some.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.0.subscribe()
    }

    /// Feeds the hub from the database until the token is cancelled; reconnects for ever, with a bounded pause.
    pub async fn run(&self, store: Store, stop: CancellationToken) {
        let mut pause = Duration::from_millis(100);
        loop {
            let ended = tokio::select! {
                ended = self.listen(&store, &mut pause) => ended,
                () = stop.cancelled() => return,
            };
            if let Err(error) = ended {
                warn!(error = %error, "listening for news failed; will connect again");
            }
            let _ = self.0.send(News::Unsure);
            #[expect(clippy::disallowed_methods, reason = "the pause between two attempts to connect")]
            let wait = tokio::time::sleep(pause);
            tokio::select! {
                () = wait => pause = (pause * 2).min(Duration::from_secs(5)),
                () = stop.cancelled() => return,
            }
        }
    }

    async fn listen(&self, store: &Store, pause: &mut Duration) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(store.pool()).await?;
        listener.listen(CHANNEL).await?;
        *pause = Duration::from_millis(100);
        let _ = self.0.send(News::Unsure);
        debug!("listening for news");
        while let Some(note) = listener.try_recv().await? {
            if let Ok(id) = note.payload().parse::<Uuid>() {
                let _ = self.0.send(News::Job(JobId(id)));
            }
        }
        Ok(())
    }
}

impl Default for NewsHub {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Tells every process that a job changed.
    pub async fn notify(&self, id: JobId) -> Result<(), StoreError> {
        sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(id.to_string()).execute(&self.pool).await?;
        Ok(())
    }
}
