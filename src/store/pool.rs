//! The pool of connections, with a bound on everything that is asked of the database.
//!
//! What belongs here: how long a connection and a statement may take, which connections are used again, and what the
//! database last refused for want of something. What does not: any statement.
//!
//! The server's `statement_timeout` bounds what the server does. It does not help where the network swallows the question
//! or the answer: TCP gives up after a quarter of an hour. So each statement of the pool has a bound of the client's own,
//! and a connection that broke it is closed and not used again. Inside a transaction the server's bounds hold, and the
//! caller's.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection, Either, Error, Execute, Executor, PgPool, Postgres, SqlStr, Transaction};

/// How long getting a connection may take: a free one, or a new one. A worker has to be back at work within five seconds
/// of the database's return, and looks for it every second.
const ACQUIRE: Duration = Duration::from_secs(3);

/// How long a statement may take; longer than the server's own bound, whose error says more.
const STATEMENT: Duration = Duration::from_secs(12);

/// A connection that was used this recently is used again without asking whether it still lives.
const FRESH: Duration = Duration::from_millis(500);

/// How long an idle connection may take to say that it lives.
const PING: Duration = Duration::from_secs(1);

/// How long a refusal counts.
const RECENT: Duration = Duration::from_secs(10);

/// A pool whose statements are bounded. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    inner: PgPool,
    refused: Arc<Mutex<Option<(Instant, String)>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").finish()
    }
}

impl Pool {
    /// Makes connections when they are needed.
    pub(super) fn open(options: PgConnectOptions, max_connections: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(Duration::from_secs(300))
            // A ping that waits for a dead network would use up the whole time for getting a connection.
            .test_before_acquire(false)
            .before_acquire(|connection, seen| {
                Box::pin(async move {
                    let lives = async { tokio::time::timeout(PING, connection.ping()).await };
                    Ok(seen.idle_for < FRESH || matches!(lives.await, Ok(Ok(()))))
                })
            })
            .connect_lazy_with(options);
        Self::over(pool)
    }

    /// Over a pool with its own settings.
    pub(super) fn over(inner: PgPool) -> Self {
        Self { inner, refused: Arc::default() }
    }

    /// The pool itself, for listeners and migrations.
    pub(super) fn inner(&self) -> &PgPool {
        &self.inner
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        tokio::time::timeout(STATEMENT, self.inner.begin()).await.unwrap_or_else(|_| Err(overdue()))
    }

    /// Whether every connection that may exist is in use.
    pub(super) fn is_exhausted(&self) -> bool {
        self.inner.size() >= self.inner.options().get_max_connections() && self.inner.num_idle() == 0
    }

    /// The SQLSTATE with which a statement was refused in the last seconds for want of disk, memory or connections, or
    /// because the server takes no writes.
    pub(super) fn recent_refusal(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().filter(|(at, _)| at.elapsed() < RECENT).map(|(_, code)| code.clone())
    }

    /// A connection that is closed unless it is settled: an answer may still be on its way.
    async fn lend(&self) -> Result<Lent, Error> {
        Ok(Lent { connection: self.inner.acquire().await?, settled: false })
    }

    /// Takes a connection back, with what came of it.
    fn settle<T>(&self, mut lent: Lent, done: Result<T, Error>) -> Result<T, Error> {
        let code = done.as_ref().err().and_then(sqlstate);
        // A standby, or a server that became one, never takes a write: the next connection may lead to another.
        lent.settled = !matches!(&done, Err(Error::PoolTimedOut)) && code.as_deref() != Some("25006");
        if let Some(code) = code.filter(|code| code.starts_with("53") || code.starts_with("58") || code == "25006") {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), code.into_owned()));
        }
        done
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(STATEMENT, work).await.unwrap_or_else(|_| Err(overdue()))
}

fn overdue() -> Error {
    Error::PoolTimedOut
}

fn sqlstate(error: &Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(|error| error.code())
}

/// A connection that goes back to the pool only when what it was lent for came to its end.
struct Lent {
    connection: PoolConnection<Postgres>,
    settled: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.settled {
            self.connection.close_on_drop();
        }
    }
}

type Step = Either<PgQueryResult, PgRow>;

impl<'p> Executor<'p> for &Pool {
    type Database = Postgres;

    /// Everything that the statement brings is read before the first row is handed on.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let read = async move {
            let mut lent = pool.lend().await?;
            let done = within((&mut *lent.connection).fetch_many(query).try_collect::<Vec<Step>>()).await;
            let steps = pool.settle(lent, done)?;
            Ok::<_, Error>(stream::iter(steps.into_iter().map(Ok)))
        };
        stream::once(read).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut lent = pool.lend().await?;
            let done = within((&mut *lent.connection).fetch_optional(query)).await;
            pool.settle(lent, done)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut lent = pool.lend().await?;
            let done = within((&mut *lent.connection).prepare_with(sql, parameters)).await;
            pool.settle(lent, done)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut lent = pool.lend().await?;
            let done = within((&mut *lent.connection).describe(sql)).await;
            pool.settle(lent, done)
        })
    }
}
