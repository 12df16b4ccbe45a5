//! PostgreSQL servers of one test's own, which it may stop, kill and promote.
//!
//! The primary is the launcher's; the standby is made with the same version's `pg_basebackup`.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cmk::dev::postgres::{Lifetime, Options, Postgres, ensure};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};
use url::Url;

use super::process::eventually;
use super::world::migrate;

/// A server over data that outlasts it.
pub struct Primary {
    /// The migrated database.
    pub url: String,
    postgres: Postgres,
    state: State,
}

/// A server that is not running.
pub struct Stopped {
    state: State,
}

/// The state folder of one test, deleted with it.
struct State(PathBuf);

impl Drop for State {
    fn drop(&mut self) {
        // For root in a closed temporary folder, the files are elsewhere.
        if let Ok(moved_to) = fs::read_to_string(self.0.join("postgres/moved-to")) {
            fs::remove_dir_all(moved_to.trim_end()).ok();
        }
        fs::remove_dir_all(&self.0).ok();
    }
}

impl State {
    async fn start(self) -> Primary {
        let mut options = Options::from_env(&self.0, Lifetime::Lasting).expect("the environment is in order");
        options.database_url = None;
        let postgres = ensure(options).await.unwrap_or_else(|error| panic!("{error}"));
        let url = postgres.database("cmk").await.expect("a database can be made");
        Primary { url, postgres, state: self }
    }
}

impl Primary {
    /// Starts a server with a migrated database.
    pub async fn start() -> Self {
        let state = State(std::env::temp_dir().join(format!("cmk-state-{}", uuid::Uuid::new_v4().simple())));
        let primary = state.start().await;
        let pool = PgPoolOptions::new().max_connections(1).connect(&primary.url).await.expect("it takes connections");
        migrate(pool.clone()).await.expect("the migrations run on an empty database");
        pool.close().await;
        primary
    }

    /// Stops it in order; connections are cut.
    pub async fn stop(self) -> Stopped {
        self.postgres.stop().await.expect("it stops");
        Stopped { state: self.state }
    }

    /// Kills the server and all that belongs to it, as a machine that loses power does.
    pub async fn kill(&self) {
        // The server itself has to be there; its children come and go, and one may be gone since it was listed.
        let kill = "of=$(cat /proc/$1/task/$1/children); kill -s KILL $1 && { kill -s KILL $of 2>/dev/null; true; }";
        let sent = Command::new("sh").args(["-c", kill, "sh", &self.number_after("process ").to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server cannot be killed");
    }

    fn number_after(&self, word: &str) -> u32 {
        let about = self.postgres.describe();
        let rest = about.split_once(word).expect("describe() has the word").1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number follows")
    }

    fn path_after(&self, word: &str) -> PathBuf {
        let about = self.postgres.describe();
        let rest = about.split_once(word).expect("describe() has the word").1;
        rest.split(", ").next().expect("a path follows").into()
    }

    async fn run(&self, statement: &'static str) {
        run(&self.url, statement).await;
    }
}

impl Stopped {
    /// Starts it again, at another port.
    pub async fn start(self) -> Primary {
        self.state.start().await
    }
}

/// A server that follows a primary; what the primary has confirmed, it has too.
pub struct Standby {
    /// The same database on this server.
    pub url: String,
    child: Child,
    dir: PathBuf,
}

impl Drop for Standby {
    fn drop(&mut self) {
        // Fast shutdown, so that its children end too.
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill -s INT \"$1\"", "sh", &pid]).status().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Standby {
    /// Makes a standby and has the primary wait for it with every commit.
    pub async fn of(primary: &Primary) -> Self {
        let (programs, data) = (primary.path_after(" from "), primary.path_after("data in "));
        let owner = fs::metadata(&data).expect("the primary has data");
        let dir = std::env::temp_dir().join(format!("cmk-standby-{}", uuid::Uuid::new_v4().simple()));
        fs::DirBuilder::new().mode(0o700).create(&dir).expect("the temporary folder takes folders");
        chown(&dir, Some(owner.uid()), Some(owner.gid())).expect("the folder can be handed over");
        let copy = dir.join("data");
        let mut backup = as_owner(&programs.join("pg_basebackup"), &owner);
        backup.arg("-D").arg(&copy).args(["-R", "-X", "stream", "--checkpoint=fast", "-d", &primary.url]);
        let made = backup.output().expect("pg_basebackup is beside the server");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut url = Url::parse(&primary.url).expect("the address is one");
        let port = free_port();
        url.set_port(Some(port)).expect("the address has a host");
        let child = start(&programs, &copy, port, &owner);
        let standby = Self { url: url.into(), child, dir };
        eventually("the standby takes connections", async || PgConnection::connect(&standby.url).await.is_ok()).await;
        primary.run("alter system set synchronous_standby_names = '*'").await;
        primary.run("select pg_reload_conf()").await;
        let follows = async || {
            let mut connection = PgConnection::connect(&primary.url).await.expect("it takes connections");
            let question = "select count(*) from pg_stat_replication where sync_state = 'sync'";
            matches!(sqlx::query_scalar(question).fetch_one(&mut connection).await, Ok(1i64))
        };
        eventually("the standby follows synchronously", follows).await;
        standby
    }

    /// Makes it the primary, and waits until it takes writes.
    pub async fn promote(&self) {
        run(&self.url, "select pg_promote(true, 60)").await;
    }
}

async fn run(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("it takes connections");
    sqlx::raw_sql(statement).execute(&mut connection).await.expect("it does what its owner says");
}

fn as_owner(program: &Path, owner: &fs::Metadata) -> Command {
    let mut command = Command::new(program);
    // Only root may and must become somebody else.
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != owner.uid()) {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn start(programs: &Path, data: &Path, port: u16, owner: &fs::Metadata) -> Child {
    let mut server = as_owner(&programs.join("postgres"), owner);
    server.arg("-D").arg(data).args(["-p", &port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off"] {
        server.args(["-c", setting]);
    }
    server.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    server.spawn().expect("the server's program runs")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
