//! Watching jobs: one task looks at the database for everybody who waits on any job.
//!
//! What belongs here: who watches what, and when to look. What does not: what is answered when a job has moved (`wait`,
//! `stream`).
//!
//! News says which job to look at. News may be lost, so every so often a bounded number of watched jobs is looked at without
//! any: what waiting costs the database does not grow with the number of those who wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::domain::ids::JobId;
use crate::store::notify::{News, NewsHub};
use crate::store::{JobMark, Store, StoreError};

/// The most jobs that one statement asks for, and the most that are looked at without news at a time.
const BATCH: usize = 1000;

/// Where a watched job is, as far as this process was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nobody has looked since it is watched.
    Nothing,
    /// There.
    At(JobMark),
    /// There is no such job any more.
    Gone,
}

/// The jobs that are watched. Cheap to clone; its task ends with the last clone, or when the process shuts down.
#[derive(Clone, Debug)]
pub(super) struct Watchers(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched(Mutex<BTreeMap<JobId, watch::Sender<Seen>>>);

/// One job that is watched until this goes out of scope.
#[derive(Debug)]
pub(super) struct Watch {
    id: JobId,
    all: Arc<Watched>,
    seen: watch::Receiver<Seen>,
    /// The version that was read last: a look that was under way then may bring an older one.
    version: i64,
}

impl Watchers {
    /// Starts the task that looks.
    pub(super) fn start(store: &Store, news: &NewsHub, every: Duration, shutdown: &CancellationToken) -> Self {
        let all = Arc::new(Watched::default());
        let looker = Looker {
            all: Arc::downgrade(&all),
            store: store.clone(),
            news: news.subscribe(),
            due: BTreeSet::new(),
            last: None,
        };
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = looker.run(every) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Self(all)
    }

    /// Watches a job from now on: nothing that happens after [`Watch::read`] is missed.
    pub(super) fn watch(&self, id: JobId) -> Watch {
        let mut jobs = self.0.lock();
        let seen = jobs.entry(id).or_insert_with(|| watch::Sender::new(Seen::Nothing)).subscribe();
        drop(jobs);
        Watch { id, all: Arc::clone(&self.0), seen, version: 0 }
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, watch::Sender<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Where the job is now. What comes after this is never older.
    pub(super) async fn read(&mut self, store: &Store) -> Result<Option<JobMark>, StoreError> {
        let mark = store.get_mark(self.id).await?;
        self.version = mark.map_or(self.version, |mark| mark.version);
        Ok(mark)
    }

    /// What is seen next. Never returns when nobody looks any more, because the process shuts down.
    pub(super) async fn next(&mut self) -> Seen {
        while self.seen.changed().await.is_ok() {
            match *self.seen.borrow_and_update() {
                Seen::At(mark) if mark.version < self.version => {}
                seen => return seen,
            }
        }
        std::future::pending().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut jobs = self.all.lock();
        // This one still counts. Nobody can join in between: that needs the lock.
        if jobs.get(&self.id).is_some_and(|seen| seen.receiver_count() <= 1) {
            jobs.remove(&self.id);
        }
    }
}

struct Looker {
    all: Weak<Watched>,
    store: Store,
    news: Receiver<News>,
    due: BTreeSet<JobId>,
    /// Up to which job was looked without news.
    last: Option<JobId>,
}

impl Looker {
    async fn run(mut self, every: Duration) {
        let mut turn = tokio::time::interval(every.max(Duration::from_millis(10)));
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fed = true;
        loop {
            let heard = tokio::select! {
                heard = self.news.recv(), if fed => Some(heard),
                _ = turn.tick() => None,
            };
            let Some(all) = self.all.upgrade() else { return };
            match heard {
                Some(Err(RecvError::Closed)) => fed = false,
                Some(Ok(news)) => self.hear(&all, Some(news)),
                Some(Err(RecvError::Lagged(_))) => self.hear(&all, None),
                None => self.take_turn(&all),
            }
            self.hear_more(&all);
            drop(all);
            self.look().await;
        }
    }

    /// Takes what came meanwhile without waiting for more.
    fn hear_more(&mut self, all: &Watched) {
        loop {
            match self.news.try_recv() {
                Ok(news) => self.hear(all, Some(news)),
                Err(TryRecvError::Lagged(_)) => self.hear(all, None),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn hear(&mut self, all: &Watched, news: Option<News>) {
        let watched = all.lock();
        match news {
            Some(News::Job { id, .. }) => self.due.extend(watched.contains_key(&id).then_some(id)),
            Some(News::Unsure) | None => self.due.extend(watched.keys()),
        }
    }

    /// The next ones in the row of all, whether there is news or not.
    fn take_turn(&mut self, all: &Watched) {
        let watched = all.lock();
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let ids: Vec<JobId> = watched.range((after, Bound::Unbounded)).take(BATCH).map(|(id, _)| *id).collect();
        self.last = ids.last().copied().filter(|_| ids.len() == BATCH);
        self.due.extend(ids);
    }

    /// Looks at everything that is due. What could not be looked at stays due until the next turn.
    async fn look(&mut self) {
        while !self.due.is_empty() {
            let ids: Vec<JobId> = self.due.iter().take(BATCH).copied().collect();
            let marks = match self.store.get_marks(&ids).await {
                Ok(marks) => marks,
                Err(error) => {
                    tracing::debug!(error = %error, jobs = ids.len(), "watched jobs could not be looked at");
                    return;
                }
            };
            let marks: BTreeMap<JobId, JobMark> = marks.into_iter().collect();
            let Some(all) = self.all.upgrade() else { return };
            let watched = all.lock();
            for id in ids {
                self.due.remove(&id);
                let Some(sender) = watched.get(&id) else { continue };
                let now = marks.get(&id).map_or(Seen::Gone, |mark| Seen::At(*mark));
                sender.send_if_modified(|seen| std::mem::replace(seen, now) != now);
            }
        }
    }
}
