//! Databases for tests: one server per test process, one database per test, copied from a migrated template.
//!
//! `DATABASE_URL` is honoured; its user must be allowed to create databases. Otherwise a private server is started with
//! the first test and ends with the process, however that ends.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use cmk::dev::postgres::{Lifetime, Options, Postgres, ensure};
use futures::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Brings the template up to date. All tests of a process have to pass the same function: the first one's is used.
pub type Migrate = fn(PgPool) -> BoxFuture<'static, Result<(), sqlx::Error>>;

/// What starts each database's name, also on a server that others use.
const PREFIX: &str = "cmk_test_";

/// Databases of a shared server that are older than this were left by a run that was killed.
const LEFT_OVER: Duration = Duration::from_secs(3600);

struct Server {
    postgres: Postgres,
    template: String,
    dropper: Sender<String>,
}

/// The test process's server. A static is never dropped, and need not be: the launcher's watchdog ends the server.
static SERVER: OnceCell<Server> = OnceCell::const_new();

/// A migrated database of one test's own; deleted, best effort, when it goes out of scope.
pub struct TestDatabase {
    /// The database's address, with the password.
    pub url: String,
    /// Connects on first use; at most five connections.
    pub pool: PgPool,
    name: String,
    dropper: Sender<String>,
}

impl TestDatabase {
    /// Copies the template, which the first call of the process makes with `migrate`.
    pub async fn new(migrate: Migrate) -> Self {
        let server = SERVER.get_or_init(|| Server::start(migrate)).await;
        let name = new_name();
        let create = format!("CREATE DATABASE {name} TEMPLATE {}", server.template);
        administer(&server.postgres.admin_url(), &[create]).await.expect("the template can be copied");
        let url = server.postgres.url(&name);
        let pool = pool(&url);
        Self { url, pool, name, dropper: server.dropper.clone() }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // The thread ends with the process; what it did not get to goes with the private server.
        self.dropper.send(std::mem::take(&mut self.name)).ok();
    }
}

impl Server {
    async fn start(migrate: Migrate) -> Self {
        // Programs that have to be fetched are shared with `cmk dev`.
        let state_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cmk");
        let mut options = Options::from_env(state_dir, Lifetime::OneRun).expect("the environment is in order");
        options.progress = std::sync::Arc::new(|line| eprintln!("{line}"));
        let postgres = ensure(options).await.unwrap_or_else(|error| panic!("{error}"));
        let admin_url = postgres.admin_url();
        if !postgres.is_private() {
            sweep(&admin_url).await;
        }
        let template = new_name();
        administer(&admin_url, &[format!("CREATE DATABASE {template}")]).await.expect("a database can be made");
        let pool = pool(&postgres.url(&template));
        migrate(pool.clone()).await.expect("the migrations run on an empty database");
        pool.close().await;
        // A connection to the template, also a stray one, would make every copy fail.
        let close = format!("ALTER DATABASE {template} WITH ALLOW_CONNECTIONS false");
        administer(&admin_url, &[close]).await.expect("the template can be closed");
        Self { postgres, template, dropper: dropper(admin_url) }
    }
}

fn pool(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().expect("the launcher's address is well formed");
    let pool = PgPoolOptions::new().max_connections(5).acquire_timeout(Duration::from_secs(30));
    pool.connect_lazy_with(options)
}

/// A name that tells when it was made, so that a later run can clear up.
fn new_name() -> String {
    format!("{PREFIX}{}", Uuid::now_v7().simple())
}

/// The Unix time in seconds at which a database was made, if the name is one of ours.
fn made_at(name: &str) -> Option<u64> {
    Some(Uuid::try_parse(name.strip_prefix(PREFIX)?).ok()?.get_timestamp()?.to_unix().0)
}

/// Runs statements that cannot be in a transaction, each alone.
async fn administer(admin_url: &str, statements: &[String]) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(admin_url).await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str())).execute(&mut connection).await?;
    }
    connection.close().await
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

/// Deletes what killed runs left on a shared server. Another run may do the same at this moment, so failures pass.
async fn sweep(admin_url: &str) {
    let Ok(mut connection) = PgConnection::connect(admin_url).await else { return };
    let names: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)")
        .bind(PREFIX)
        .fetch_all(&mut connection)
        .await
        .unwrap_or_default();
    let Some(now) = made_at(&new_name()) else { return };
    for name in names {
        if made_at(&name).is_some_and(|made| now.saturating_sub(made) > LEFT_OVER.as_secs()) {
            administer(admin_url, &[drop_statement(&name)]).await.ok();
        }
    }
}

/// The thread that deletes databases. A test's own runtime ends with the test, before it could do that.
fn dropper(admin_url: String) -> Sender<String> {
    static THREAD: OnceLock<Sender<String>> = OnceLock::new();
    let start = || {
        let (sender, names) = channel::<String>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread can be made");
            for name in names {
                runtime.block_on(administer(&admin_url, &[drop_statement(&name)])).ok();
            }
        });
        sender
    };
    THREAD.get_or_init(start).clone()
}
