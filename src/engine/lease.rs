//! The leases a worker holds, by its own clock, and the gate that is asked before every change to Azure.
//!
//! What belongs here: renewing, noticing that a lease ended, refusing changes after that. What does not: claiming.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::crash::{CrashPoint, CrashPoints};
use crate::steps::{ActGate, Stop};
use crate::store::{HeldLease, Store, StoreError};

/// What a worker knows of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// When it ends, by the worker's own monotonic clock, counted from before the renewal was sent.
    pub ends: Instant,
    /// Whether somebody asked to cancel the job.
    pub cancelled: bool,
    /// Whether the database said that the lease is not held any more.
    pub lost: bool,
}

/// All leases of one worker.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashMap<HeldLease, watch::Sender<LeaseState>>>);

impl Leases {
    /// Starts to keep a lease that was given out at `given`.
    pub fn hold(self: &Arc<Self>, lease: HeldLease, given: Instant, length: Duration, margin: Duration) -> Held {
        let state = LeaseState { ends: given + length, cancelled: false, lost: false };
        let (sender, receiver) = watch::channel(state);
        self.lock().insert(lease, sender);
        Held { lease, leases: Arc::clone(self), state: receiver, margin, given }
    }

    /// Renews every lease. An unreachable database changes nothing: the leases run out by the worker's clock.
    pub async fn renew(&self, store: &Store, length: Duration) -> Result<(), StoreError> {
        let held: Vec<HeldLease> = self.lock().keys().copied().collect();
        self.renew_some(store, &held, length).await
    }

    async fn renew_some(&self, store: &Store, held: &[HeldLease], length: Duration) -> Result<(), StoreError> {
        if held.is_empty() {
            return Ok(());
        }
        let sent = Instant::now();
        let renewed = store.renew_leases(held, length).await?;
        let map = self.lock();
        for lease in held {
            let Some(sender) = map.get(lease) else { continue };
            sender.send_modify(|state| match renewed.get(lease) {
                Some(cancelled) => {
                    state.ends = state.ends.max(sent + length);
                    state.cancelled |= *cancelled;
                }
                None => state.lost = true,
            });
        }
        Ok(())
    }

    /// Renews until the token is cancelled.
    pub async fn keep(&self, store: &Store, every: Duration, length: Duration, stop: &CancellationToken) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.renew(store, length).await {
                warn!(error = %error, "leases could not be renewed");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<HeldLease, watch::Sender<LeaseState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One held lease; dropping it stops its renewal.
#[derive(Debug)]
pub struct Held {
    /// The lease.
    pub lease: HeldLease,
    leases: Arc<Leases>,
    state: watch::Receiver<LeaseState>,
    margin: Duration,
    given: Instant,
}

impl Held {
    /// Whether somebody asked to cancel, as far as the last renewal told.
    pub fn is_cancelled(&self) -> bool {
        self.state.borrow().cancelled
    }

    /// When the lease ends by the worker's own clock, as far as it was renewed.
    pub fn ends(&self) -> Instant {
        self.state.borrow().ends
    }

    /// How long ago the claim was asked for.
    pub fn age(&self) -> Duration {
        self.given.elapsed()
    }

    /// Whether enough of the lease is left, by the worker's own clock, to begin something.
    pub fn is_good(&self) -> bool {
        let state = *self.state.borrow();
        !state.lost && Instant::now() + self.margin < state.ends
    }

    /// Ends when the lease is lost, or is about to end by the worker's own clock.
    pub async fn ended(&self) {
        let mut state = self.state.clone();
        loop {
            let now = *state.borrow_and_update();
            if now.lost {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(now.ends - self.margin) => return,
                changed = state.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.lease);
    }
}

/// The gate in front of every change: the database confirms the lease and tells of a cancel mark.
pub struct Gate<'a> {
    /// The lease.
    pub held: &'a Held,
    /// The store.
    pub store: &'a Store,
    /// The length of a renewed lease.
    pub length: Duration,
    /// The step, for crash points.
    pub step: &'a str,
    /// Crash points, in tests.
    pub crash: Option<&'a CrashPoints>,
    /// Cancelled when a crash point was reached.
    pub crashed: &'a CancellationToken,
    /// Cancelled when the worker shuts down.
    pub draining: &'a CancellationToken,
    /// Cancelled when the turn comes to its end for another reason: a step beside this one failed for good.
    pub closing: &'a CancellationToken,
}

impl Gate<'_> {
    async fn check(&self) -> Result<(), Stop> {
        self.pass(CrashPoint::BeforeAct).await;
        if self.draining.is_cancelled() || self.closing.is_cancelled() {
            return Err(Stop::Released);
        }
        let renewed = self.held.leases.renew_some(self.store, &[self.held.lease], self.length).await;
        if let Err(error) = renewed {
            warn!(error = %error, "the lease could not be confirmed before a change");
            return Err(Stop::Released);
        }
        if !self.held.is_good() {
            return Err(Stop::LeaseLost);
        }
        if self.held.is_cancelled() { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// At a crash point the turn stands still for ever; whoever runs it sees the token and drops it.
    async fn pass(&self, point: CrashPoint) {
        if self.crash.is_some_and(|crash| crash(self.step, point)) {
            self.crashed.cancel();
            std::future::pending::<()>().await;
        }
    }
}

impl ActGate for Gate<'_> {
    fn may_act<'a>(&'a self) -> Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>> {
        Box::pin(self.check())
    }

    fn acted<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.pass(CrashPoint::AfterAct))
    }
}
