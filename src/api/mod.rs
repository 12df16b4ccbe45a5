//! The HTTP API: parse, call the store, answer.
//!
//! What belongs here: routes, wire types, and how both are described in OpenAPI. What does not: Azure, which a handler
//! cannot reach even by mistake except to have a plan surveyed, which cannot change anything; and running jobs, which the
//! workers do.

mod accept;
mod caller;
mod context;
mod docs;
mod errors;
mod events;
mod examples;
mod extract;
mod health;
mod intake;
mod job_actions;
mod job_filter;
mod jobs;
mod layers;
mod listen;
pub mod openapi;
mod plans;
mod problem;
mod replays;
mod router;
mod services;
mod stream;
mod summary;
mod views;
mod wait;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::store::notify::NewsHub;
use crate::store::{Acceptor, Store};
use crate::survey::Surveyor;

pub use listen::listen;
pub use problem::{Problem, ProblemBody};
pub use router::{router, router_with};

/// What the API needs from the process it runs in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// Where jobs are.
    pub store: Store,
    /// Where news of jobs is heard; somebody must feed it ([`NewsHub::run`]), or waits and streams only poll.
    pub news: NewsHub,
    /// Looks at Azure for plans; without it they only say what a job would look at.
    pub surveyor: Option<Surveyor>,
    /// Cancelled when the process shuts down: ends waits and streams.
    pub shutdown: CancellationToken,
    /// Bounds.
    pub settings: ApiSettings,
}

/// The API's bounds.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// How many requests are handled at the same time; more are answered 429. Waits and streams do not count.
    pub max_in_flight: usize,
    /// How many requests wait (`Prefer: wait`) at the same time; more are answered at once, as if they had not asked.
    pub max_waits: usize,
    /// How many event streams are open at the same time; more are answered 429.
    pub max_streams: usize,
    /// How long a connection may take for the head of a request, counted from the end of the one before. Longer than the
    /// common clients keep an idle connection for later use, so that it is they who close it and no request meets a closed
    /// one.
    pub head_timeout: Duration,
    /// How long a request may take, the time it asked to wait not counted.
    pub request_timeout: Duration,
    /// The longest `Prefer: wait`.
    pub max_wait: Duration,
    /// How often some of the jobs that waits and streams watch are looked at, in case news was lost.
    pub poll: Duration,
    /// How often an idle event stream sends a comment.
    pub heartbeat: Duration,
    /// How long the readiness check waits for the database.
    pub readiness_timeout: Duration,
    /// A worker must have asked for work within this time for the service to be ready.
    pub max_claim_age: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            max_in_flight: 512,
            max_waits: 256,
            max_streams: 256,
            head_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            max_wait: Duration::from_secs(55),
            poll: Duration::from_secs(1),
            heartbeat: Duration::from_secs(15),
            readiness_timeout: Duration::from_secs(2),
            max_claim_age: Duration::from_secs(30),
        }
    }
}

/// The state behind the handlers. Every layer and handler of a request has one, so that a clone is one count.
#[derive(Clone, Debug)]
struct Api(Arc<Shared>);

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What was handed in, and the counters of the bounds.
#[derive(Debug)]
struct Shared {
    store: Store,
    acceptor: Acceptor,
    news: NewsHub,
    surveyor: Option<Surveyor>,
    shutdown: CancellationToken,
    settings: ApiSettings,
    in_flight: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    replays: replays::Replays,
    watchers: watch::Watchers,
}

impl From<ApiState> for Api {
    fn from(state: ApiState) -> Self {
        let permits = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared {
            in_flight: permits(state.settings.max_in_flight),
            waits: permits(state.settings.max_waits),
            streams: permits(state.settings.max_streams),
            replays: replays::Replays::default(),
            watchers: watch::Watchers::start(&state.store, &state.news, state.settings.poll, &state.shutdown),
            acceptor: Acceptor::start(&state.store),
            store: state.store,
            news: state.news,
            surveyor: state.surveyor,
            shutdown: state.shutdown,
            settings: state.settings,
        }))
    }
}
