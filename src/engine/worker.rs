//! The loop that takes due jobs and runs their turns, and its end.
//!
//! What belongs here: claiming, concurrency, waking up, drain. What does not: what a turn does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::crash::CrashPoints;
use super::lease::Leases;
use super::turn::{StandIn, Turn, TurnEnd};
use crate::azure::Azure;
use crate::store::notify::{News, NewsHub};
use crate::store::{Claim, HeldLease, Recorder, Store, StoreError};
use crate::telemetry;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Its name: unique among the workers of one database.
    pub name: String,
    /// How many turns run at the same time.
    pub concurrency: u16,
    /// How long a claim lasts without renewal. A dead worker's jobs are taken over after this time.
    pub lease: Duration,
    /// How often leases are renewed.
    pub heartbeat: Duration,
    /// No change begins, and every call is ended, this long before the lease ends by the worker's own clock.
    pub margin: Duration,
    /// The longest pause between two looks for work.
    pub poll: Duration,
    /// How long a turn may run before the job is given back between two steps.
    pub turn_budget: Duration,
    /// How long running calls may go on after the order to stop.
    pub grace: Duration,
}

impl WorkerSettings {
    /// The defaults: take-over after 10 s of silence, well inside the promised 15 s.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            concurrency: 32,
            lease: Duration::ZERO,
            heartbeat: Duration::ZERO,
            margin: Duration::ZERO,
            poll: Duration::from_secs(1),
            turn_budget: Duration::from_secs(300),
            grace: Duration::from_secs(15),
        }
        .with_lease(Duration::from_secs(10))
    }

    /// The same with another lease, and what follows from it: three signs of life within it, and a fifth of it as margin.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self { lease, heartbeat: lease.mul_f64(0.3), margin: lease.mul_f64(0.2), ..self }
    }
}

/// A worker. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    store: Store,
    azure: Arc<Azure>,
    news: NewsHub,
    settings: Arc<WorkerSettings>,
    leases: Arc<Leases>,
    crash: Option<CrashPoints>,
    stand_in: Option<StandIn>,
    /// The most writes in one statement.
    batch: usize,
}

/// How often a worker says that it is alive and getting answers.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// How long a free turn waits for others to be claimed for with it, while more jobs are due than there is room for.
const GATHER: Duration = Duration::from_millis(5);

/// How often a worker forgets idempotency keys that are past their time.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

impl Worker {
    /// A worker over a store and the clients of one cloud.
    pub fn new(store: Store, azure: Arc<Azure>, news: NewsHub, settings: WorkerSettings) -> Self {
        Self {
            store,
            azure,
            news,
            settings: Arc::new(settings),
            leases: Arc::default(),
            crash: None,
            stand_in: None,
            batch: Recorder::BATCH,
        }
    }

    /// The same worker, ending turns at the given points as a killed process would.
    pub fn with_crash_points(mut self, crash: CrashPoints) -> Self {
        self.crash = Some(crash);
        self
    }

    /// The same worker, running this in place of the steps' own code.
    pub fn with_stand_in(mut self, stand_in: StandIn) -> Self {
        self.stand_in = Some(stand_in);
        self
    }

    /// The same worker, recording at most so many outcomes in one statement.
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Claims what is due now and runs each job's turn to its end, one after the other. Returns how the turns ended. For
    /// tests with a clock that is moved by hand.
    pub async fn tick(&self) -> Result<Vec<TurnEnd>, StoreError> {
        let idle = CancellationToken::new();
        let recorder = Recorder::start(&self.store, self.batch);
        let given = Instant::now();
        let claims =
            self.store.claim_due_jobs(&self.settings.name, self.settings.concurrency, self.settings.lease).await?;
        self.store.record_worker(&self.settings.name).await?;
        let mut ends = Vec::with_capacity(claims.len());
        for claim in claims {
            ends.push(self.run_turn(claim, given, &recorder, &idle, &idle).await);
        }
        Ok(ends)
    }

    /// Works until `stop` is cancelled, then drains: no new claims, running calls get the grace time, and every job is
    /// given back without using an attempt. Cancelling `abort` ends the grace at once.
    pub async fn run(&self, stop: CancellationToken, abort: CancellationToken) {
        let hard_stop = CancellationToken::new();
        let renewals_end = CancellationToken::new();
        let keeper = {
            let (worker, end) = (self.clone(), renewals_end.clone());
            let settings = Arc::clone(&self.settings);
            tokio::spawn(async move {
                worker.leases.keep(&worker.store, settings.heartbeat, settings.lease, &end).await;
            })
        };
        info!(worker = self.settings.name, "worker started");
        let mut turns = JoinSet::new();
        self.work(&mut turns, &stop, &hard_stop).await;
        info!(running = turns.len(), "worker drains");
        let drained = async { while turns.join_next().await.is_some() {} };
        #[expect(clippy::disallowed_methods, reason = "the end of the grace time")]
        let grace = tokio::time::sleep(self.settings.grace);
        let finished = tokio::select! {
            () = drained => true,
            () = grace => false,
            () = abort.cancelled() => false,
        };
        if !finished {
            hard_stop.cancel();
            let given_back = async { while turns.join_next().await.is_some() {} };
            if tokio::time::timeout(Duration::from_secs(5), given_back).await.is_err() {
                warn!("some jobs could not be given back; their leases run out");
            }
        }
        renewals_end.cancel();
        let _ = keeper.await;
        if let Err(error) = self.store.delete_worker(&self.settings.name).await {
            debug!(error = %error, "the worker's row could not be removed");
        }
        info!("worker stopped");
    }

    async fn work(&self, turns: &mut JoinSet<()>, stop: &CancellationToken, hard_stop: &CancellationToken) {
        // Listening starts before the first look for work, so that nothing falls between the two.
        let mut news = self.news.subscribe();
        let recorder = Recorder::start(&self.store, self.batch);
        let concurrency = usize::from(self.settings.concurrency);
        let mut last_sign: Option<Instant> = None;
        let mut last_housekeeping: Option<Instant> = None;
        while !stop.is_cancelled() {
            let mut pause = self.settings.poll;
            let mut more_is_due = false;
            match self.claim(turns, &recorder, stop, hard_stop).await {
                Ok(more) => {
                    more_is_due = more;
                    if last_sign.is_none_or(|at| at.elapsed() >= SIGN_OF_LIFE) {
                        last_sign = self.sign_of_life().await.then(Instant::now);
                    }
                    if last_housekeeping.is_none_or(|at| at.elapsed() >= HOUSEKEEPING) {
                        self.keep_house().await;
                        last_housekeeping = Some(Instant::now());
                    }
                    if !more_is_due && turns.len() < concurrency {
                        pause = self.pause_until_due().await.min(pause).min(self.pause_until_whole_look());
                    }
                }
                Err(error) => warn!(error = %error, "looking for work failed; will look again"),
            }
            if more_is_due {
                self.gather_free_slots(turns, stop).await;
                continue;
            }
            let full = turns.len() >= concurrency;
            #[expect(clippy::disallowed_methods, reason = "the worker's loop is where waiting for work belongs")]
            let wait = tokio::time::sleep(if full { SIGN_OF_LIFE } else { pause });
            tokio::select! {
                () = stop.cancelled() => {}
                () = wait => {}
                () = work_may_be_due(&mut news), if !full => {}
                Some(ended) = turns.join_next() => turn_ended(ended),
            }
            while let Some(ended) = turns.try_join_next() {
                turn_ended(ended);
            }
        }
    }

    /// While more jobs are due than there is room for, a claim is worth its statement when an eighth of the turns have
    /// ended, or a moment after the first: jobs that are taken one by one cost the database as much as many at once.
    async fn gather_free_slots(&self, turns: &mut JoinSet<()>, stop: &CancellationToken) {
        let concurrency = usize::from(self.settings.concurrency);
        let enough = (concurrency / 8).max(1);
        while concurrency.saturating_sub(turns.len()) < enough {
            // With all turns at work nothing is asked of the database, and the worker still says that it lives.
            let moment = if turns.len() < concurrency { GATHER } else { SIGN_OF_LIFE };
            #[expect(clippy::disallowed_methods, reason = "the worker's loop is where waiting for work belongs")]
            let moment = tokio::time::sleep(moment);
            tokio::select! {
                () = stop.cancelled() => return,
                () = moment => return,
                Some(ended) = turns.join_next() => turn_ended(ended),
            }
        }
    }

    /// Takes what is due into the free turns. Answers whether they were too few for all of it.
    async fn claim(
        &self,
        turns: &mut JoinSet<()>,
        recorder: &Recorder,
        stop: &CancellationToken,
        hard_stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let free = self.settings.concurrency.saturating_sub(u16::try_from(turns.len()).unwrap_or(u16::MAX));
        if free == 0 {
            return Ok(false);
        }
        let given = Instant::now();
        let claims = self.store.claim_due_jobs(&self.settings.name, free, self.settings.lease).await?;
        let more = claims.len() >= usize::from(free);
        for claim in claims {
            let (worker, recorder) = (self.clone(), recorder.clone());
            let (stop, hard_stop) = (stop.clone(), hard_stop.clone());
            turns.spawn(async move {
                worker.run_turn(claim, given, &recorder, &stop, &hard_stop).await;
            });
        }
        Ok(more)
    }

    async fn run_turn(
        &self,
        claim: Claim,
        given: Instant,
        recorder: &Recorder,
        draining: &CancellationToken,
        hard_stop: &CancellationToken,
    ) -> TurnEnd {
        let lease = HeldLease { job: claim.job.id, claim_no: claim.job.claim_no };
        let held = self.leases.hold(lease, given, self.settings.lease, self.settings.margin);
        let span = info_span!("job.turn", cmk.job_id = %lease.job, cmk.claim_no = lease.claim_no, cmk.turn_end = tracing::field::Empty);
        telemetry::set_parent(&span, claim.job.traceparent.as_deref());
        let turn = Turn {
            store: &self.store,
            recorder,
            news: &self.news,
            azure: &self.azure,
            held: &held,
            lease_length: self.settings.lease,
            budget: self.settings.turn_budget,
            draining,
            hard_stop,
            crash: self.crash.as_ref(),
            stand_in: self.stand_in.as_ref(),
            claimed_at: claim.at,
        };
        let end = turn.run(claim.job).instrument(span.clone()).await;
        span.record("cmk.turn_end", tracing::field::debug(end));
        end
    }

    async fn sign_of_life(&self) -> bool {
        let written = self.store.record_worker(&self.settings.name).await;
        if let Err(error) = &written {
            warn!(error = %error, "the sign of life could not be written");
        }
        written.is_ok()
    }

    async fn keep_house(&self) {
        match self.store.delete_expired_keys().await {
            Ok(0) => {}
            Ok(keys) => debug!(keys, "expired idempotency keys removed"),
            Err(error) => warn!(error = %error, "expired idempotency keys could not be removed"),
        }
    }

    /// The time until leases are looked at again, at least ten milliseconds.
    fn pause_until_whole_look(&self) -> Duration {
        self.store.until_whole_look().max(Duration::from_millis(10))
    }

    /// The time until the next job is due, at least ten milliseconds.
    async fn pause_until_due(&self) -> Duration {
        let shortest = Duration::from_millis(10);
        match self.store.next_due().await {
            Ok(Some(due)) => Duration::try_from(due - self.store.clock().now()).unwrap_or(shortest).max(shortest),
            _ => self.settings.poll,
        }
    }
}

fn turn_ended(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(error = %error, "a turn ended in a panic; its lease runs out");
    }
}

/// Ends when a job may have become due. The progress of jobs that run is none of an idle worker's business.
async fn work_may_be_due(news: &mut broadcast::Receiver<News>) {
    loop {
        match news.recv().await {
            Ok(News::Job { due: false, .. }) => {}
            Ok(News::Job { due: true, .. } | News::Unsure) | Err(RecvError::Lagged(_)) => return,
            // Without news the poll is all there is.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
