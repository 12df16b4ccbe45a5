//! Jobs in PostgreSQL: all SQL of the service and nothing else.
//!
//! What belongs here: rows, queries, and the fence on every write of a worker. What does not: deciding what a job does
//! next. Every function that takes a time takes it from the database's clock unless the store's own clock was set by
//! hand, so that processes with clocks that differ agree.

mod accept;
mod acceptor;
mod claims;
mod control;
mod events;
mod front;
mod health;
mod pool;
mod progress;
mod read;
mod recorder;
mod rows;

pub mod notify;

use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};
use time::OffsetDateTime;

pub use accept::{Accepted, IdempotencyKey, NewJob};
pub use acceptor::Acceptor;
pub use claims::{Claim, HeldLease};
pub use control::{CancelOutcome, RetryOutcome};
pub use events::{Event, EventKind, NewEvent};
pub use health::{Health, MigrationState};
pub use progress::{LeaseLost, Next, Recorded, RunWrite};
pub use read::{JobFilter, JobMark, MAX_PAGE};
pub use recorder::Recorder;
pub use rows::{ClaimedJob, Job, StepRow};

use crate::clock::Clock;

/// The migrations this program was built with.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or is shutting down, or the pool has no free connection in time.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A row does not have the shape this program writes.
    #[error("a stored row cannot be read: {0}")]
    Corrupt(String),
    /// Anything else the database said.
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
    /// Migrations could not be applied.
    #[error("the migrations could not be applied")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            | sqlx::Error::Tls(_) => Self::Unavailable(error),
            // Class 08: connection; 40: rolled back, try again; 53: resources; 57: operator intervention; 58: the server's
            // own disk; 25006: a standby that takes no writes.
            sqlx::Error::Database(db)
                if db.code().is_some_and(|c| {
                    ["08", "40", "53", "57", "58"].iter().any(|class| c.starts_with(class)) || c == "25006"
                }) =>
            {
                Self::Unavailable(error)
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            _ => Self::Database(error),
        }
    }
}

/// Access to the jobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: pool::Pool,
    clock: Clock,
    front: Arc<front::Front>,
}

impl Store {
    /// Opens a pool; one of the connections is for hearing news. A connection is there within three seconds and a statement
    /// done within ten, or it is an error: see `pool` for where the network is lost as well.
    pub fn open(url: &str, max_connections: u32, clock: Clock) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options
            .application_name("cmk")
            .options([
                ("statement_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "30s"),
                // Every statement here finds few rows by key. The planner cannot know how many rows an array brings, and
                // would hash whole tables for what may be one row.
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                // A plan that was made while a table was empty would go on reading the whole of it.
                ("enable_seqscan", "off"),
                ("random_page_cost", "1.1"),
                // And planning costs more than they do.
                ("plan_cache_mode", "force_generic_plan"),
                ("jit", "off"),
            ])
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1));
        let pool = pool::Pool::open(options, max_connections.saturating_sub(1).max(1));
        Ok(Self { pool, clock, front: Arc::default() })
    }

    /// A store over an existing pool.
    pub fn new(pool: PgPool, clock: Clock) -> Self {
        Self { pool: pool::Pool::over(pool), clock, front: Arc::default() }
    }

    /// Applies the migrations that are missing.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        Ok(MIGRATIONS.run(self.pool.inner()).await?)
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A pool for one connection to the same database, for what would hold it for ever.
    fn pool_of_one(&self, acquire: Duration) -> PgPool {
        let options = PgConnectOptions::clone(&self.pool.inner().connect_options());
        PgPoolOptions::new().max_connections(1).acquire_timeout(acquire).connect_lazy_with(options)
    }

    /// The pool, for tests.
    pub fn pool(&self) -> &PgPool {
        self.pool.inner()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.inner().close().await;
    }

    /// The time to use in SQL as `coalesce($n, now())`.
    fn now(&self) -> Option<OffsetDateTime> {
        self.clock.pinned()
    }
}
