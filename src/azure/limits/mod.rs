//! Azure's limits as a resource to share: a call waits for its token before it is sent.
//!
//! What belongs here: the buckets of one set of clients, and waiting at them. What does not: repeating a call, and
//! waiting for longer than moments, which is a step's: the call ends in `RateLimited`, nothing was sent.
//!
//! One bucket for each subscription and each of reads, writes and deletes, one of each for calls without a subscription,
//! one for each key store and kind of work. They begin with Azure's published figures and follow what its answers tell
//! (`bucket`). A subscription has its own, so none takes another's; where several meet at one bucket, they take turns
//! (`queue`). Processes share a limit without talking: each sees the same counts, and measures what the others leave.
//!
//! Written here, not taken from a crate such as `governor`: those keep a rate that is configured. Here Azure's count is
//! the truth and overrules ours in both directions, the rate is measured, and the order of those who wait matters.

mod bucket;
#[cfg(test)]
mod bucket_tests;
mod key;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{Instrument, info_span, warn};
use uuid::Uuid;

use super::error::{AzureError, AzureErrorKind};
use crate::clock::Clock;
use bucket::{Bucket, Next};
use queue::{Queue, Waiter};

use bucket::Told;
pub(super) use key::{Key, Work, told};

/// The longest that a call waits here. Short, because its job passed the gate for changes before, and because a job that
/// waits here holds its worker's slot.
const PATIENCE: Duration = Duration::from_secs(2);
/// The shortest pause before a call that was turned away is tried again.
const SHORTEST: Duration = Duration::from_millis(100);
/// Buckets that are kept. At this number those without a call go that were not used for longest.
const MOST_BUCKETS: usize = 4096;
/// Buckets that hold nothing worth keeping go when no call came for so long: each vault has some, and most are met once.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Between two looks for such.
const SWEEP: Duration = Duration::from_secs(60);

/// Where the time comes from: the process's monotonic clock, or a test's.
#[derive(Debug)]
enum Time {
    Running(Instant),
    Manual(Clock, OffsetDateTime),
}

/// All buckets of one set of clients.
#[derive(Debug)]
pub(super) struct Limits {
    state: Mutex<State>,
    time: Time,
}

#[derive(Debug, Default)]
struct State {
    shares: HashMap<Key, Share>,
    swept_at: Duration,
    waiters: u64,
}

#[derive(Debug)]
struct Share {
    bucket: Bucket,
    queue: Queue,
    /// Told of everything that may change whose turn it is or when it comes.
    changed: Arc<Notify>,
    used_at: Duration,
}

/// What a call says about itself.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub key: Key,
    /// The job it is made for.
    pub job: Uuid,
    /// Among whom turns go round at a bucket that several subscriptions use.
    pub lane: Uuid,
    /// Whether it only looks whether something has arrived.
    pub looks: bool,
}

/// The right to send one call.
#[derive(Debug)]
pub(super) struct Ticket {
    limits: Arc<Limits>,
    key: Key,
    call: u64,
    answered: bool,
}

/// A place in a queue; given up when dropped.
struct Seat<'a> {
    limits: &'a Limits,
    key: &'a Key,
    id: u64,
    changed: Arc<Notify>,
}

enum Turn {
    Yours(u64),
    /// When to look again, where nothing changes before.
    Wait(Duration),
    TurnedAway(Duration),
}

impl Limits {
    pub fn new(clock: Clock) -> Arc<Self> {
        let time = match clock {
            Clock::System => Time::Running(Instant::now()),
            manual @ Clock::Manual(_) => {
                let start = manual.now();
                Time::Manual(manual, start)
            }
        };
        Arc::new(Self { state: Mutex::default(), time })
    }

    /// Waits for a token. `RateLimited`, with the time to come back after, if that would take long.
    pub async fn admit(self: &Arc<Self>, ask: Ask) -> Result<Ticket, AzureError> {
        let ticket = |call| Ticket { limits: Arc::clone(self), key: ask.key.clone(), call, answered: false };
        let seat = match self.ask(&ask) {
            Ok(Turn::Yours(call)) => return Ok(ticket(call)),
            Ok(Turn::TurnedAway(after) | Turn::Wait(after)) => return Err(turned_away(&ask.key, after)),
            Err(seat) => seat,
        };
        let span = info_span!("azure.limit", azure.limit.scope = ask.key.scope(), azure.limit.class = ask.key.class());
        self.wait(&ask, &seat).instrument(span).await.map(ticket)
    }

    async fn wait(&self, ask: &Ask, seat: &Seat<'_>) -> Result<u64, AzureError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Made before the look, so that no news falls between the two.
            let news = seat.changed.notified();
            let over = Instant::now() >= deadline;
            match self.look(ask, seat, over) {
                Turn::Yours(call) => return Ok(call),
                Turn::TurnedAway(after) => return Err(turned_away(&ask.key, after)),
                Turn::Wait(pause) => {
                    let until = deadline.min(Instant::now() + pause);
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = news => {}
                    }
                }
            }
        }
    }

    /// The token, if nobody waits and it is there; else a seat, if the wait is short and there is one.
    fn ask<'a>(&'a self, ask: &'a Ask) -> Result<Turn, Seat<'a>> {
        let now = self.now();
        let mut state = self.lock();
        state.waiters += 1;
        let id = state.waiters;
        let share = state.share(&ask.key, now);
        let next = share.bucket.next(now, share.queue.len());
        if next == Next::Now && share.queue.is_empty() {
            return Ok(Turn::Yours(share.bucket.send(now)));
        }
        let looks = ask.looks && ask.key.takes_looks();
        let waiter = Waiter { id, lane: ask.lane, job: ask.job, looks };
        let short = matches!(self.time, Time::Running(_)) && share.wait(next) <= PATIENCE;
        if short && share.queue.enter(waiter) {
            share.changed.notify_waiters();
            let changed = Arc::clone(&share.changed);
            return Err(Seat { limits: self, key: &ask.key, id, changed });
        }
        Ok(Turn::TurnedAway(share.turn_away(now)))
    }

    fn look(&self, ask: &Ask, seat: &Seat<'_>, over: bool) -> Turn {
        let now = self.now();
        let mut state = self.lock();
        let share = state.share(&ask.key, now);
        if over || !share.queue.has(seat.id) {
            return Turn::TurnedAway(share.turn_away(now));
        }
        if share.queue.next() != Some(seat.id) {
            return Turn::Wait(PATIENCE);
        }
        match share.bucket.next(now, 0) {
            Next::Now => {
                let call = share.bucket.send(now);
                share.queue.served(seat.id);
                share.changed.notify_waiters();
                Turn::Yours(call)
            }
            Next::After(pause) => Turn::Wait(pause),
            Next::OnAnswer => Turn::Wait(PATIENCE),
        }
    }

    fn now(&self) -> Duration {
        match &self.time {
            Time::Running(start) => start.elapsed(),
            Time::Manual(clock, start) => Duration::try_from(clock.now() - *start).unwrap_or_default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn share(&mut self, key: &Key, now: Duration) -> &mut Share {
        if !self.shares.contains_key(key) {
            if now.saturating_sub(self.swept_at) >= SWEEP {
                self.swept_at = now;
                self.shares.retain(|_, share| !share.is_forgotten(now));
            }
            if self.shares.len() >= MOST_BUCKETS {
                self.make_room();
            }
        }
        let share = self.shares.entry(key.clone()).or_insert_with(|| Share {
            bucket: Bucket::new(key.figures(), now),
            queue: Queue::default(),
            changed: Arc::default(),
            used_at: now,
        });
        share.used_at = now;
        share
    }

    /// Forgets the eighth that was not used for longest. A bucket with a call is kept: there are only as many of those
    /// as a worker has slots.
    fn make_room(&mut self) {
        let mut idle: Vec<(Duration, Key)> = self
            .shares
            .iter()
            .filter(|(_, share)| share.queue.is_empty() && !share.bucket.is_busy())
            .map(|(key, share)| (share.used_at, key.clone()))
            .collect();
        idle.sort_by_key(|(used_at, _)| *used_at);
        for (_, key) in idle.into_iter().take(MOST_BUCKETS / 8) {
            self.shares.remove(&key);
        }
    }
}

impl Share {
    fn is_forgotten(&self, now: Duration) -> bool {
        let unused = now.saturating_sub(self.used_at) >= FORGOTTEN_AFTER;
        unused && self.queue.is_empty() && self.bucket.is_as_new(now)
    }

    fn wait(&self, next: Next) -> Duration {
        match next {
            Next::Now | Next::OnAnswer => Duration::ZERO,
            Next::After(wait) => wait,
        }
    }

    fn turn_away(&mut self, now: Duration) -> Duration {
        let next = self.bucket.next(now, self.queue.len());
        let wait = self.wait(next);
        self.queue.come_back(now, wait, self.bucket.spacing()).max(SHORTEST)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(share) = self.limits.lock().shares.get_mut(self.key) {
            share.queue.leave(self.id);
        }
        self.changed.notify_waiters();
    }
}

impl Ticket {
    /// The call was answered.
    pub fn answered(mut self, told: Told) {
        self.answered = true;
        self.settle(Some(told));
    }

    fn settle(&self, told: Option<Told>) {
        let now = self.limits.now();
        let mut state = self.limits.lock();
        let Some(share) = state.shares.get_mut(&self.key) else { return };
        let slower = match told {
            Some(told) => share.bucket.answered(self.call, now, told),
            None => {
                share.bucket.lost();
                false
            }
        };
        share.changed.notify_waiters();
        let pace = share.bucket.pace();
        drop(state);
        if slower {
            let (scope, class) = (self.key.scope(), self.key.class());
            warn!(scope, class, calls_per_second = pace, "azure refused a call for too many: sending fewer");
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            self.settle(None);
        }
    }
}

fn turned_away(key: &Key, after: Duration) -> AzureError {
    let message = format!("the limit on {} of the {} is used up; nothing was sent", key.class(), key.scope());
    AzureError::new(AzureErrorKind::RateLimited, message).with_retry_after(Some(after))
}
