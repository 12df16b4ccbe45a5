//! The private PostgreSQL launcher: start, stop, take-over, what is left behind.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cmk::dev::postgres::{Discovery, Lifetime, Options, Postgres, PostgresError, ensure, wipe};
use sqlx::{Connection, PgConnection};

use crate::support::database::TestDatabase;
use crate::support::world::migrate;

/// A state folder of one test, deleted with it.
struct State(PathBuf);

impl State {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("cmk-state-{}", uuid::Uuid::new_v4().simple())))
    }

    fn options(&self, lifetime: Lifetime) -> Options {
        let mut options = Options::from_env(&self.0, lifetime).expect("the environment is in order");
        options.database_url = None;
        options
    }

    async fn lasting(&self) -> Result<Postgres, PostgresError> {
        ensure(self.options(Lifetime::Lasting)).await
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // For root in a closed temporary folder, the files are elsewhere.
        if let Ok(moved_to) = std::fs::read_to_string(self.0.join("postgres/moved-to")) {
            std::fs::remove_dir_all(moved_to).ok();
        }
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Waits for a condition; the deadline is for a loaded machine.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        look_again().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "another process tells nothing when it ends; the caller has a deadline")]
async fn look_again() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(url).await
}

async fn note(postgres: &Postgres, text: &str) {
    let mut connection =
        connect(&postgres.database("cmk").await.expect("a database can be made")).await.expect("it runs");
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS note (text text)").execute(&mut connection).await.expect("a table");
    sqlx::query("INSERT INTO note VALUES ($1)").bind(text).execute(&mut connection).await.expect("a row");
}

async fn notes(postgres: &Postgres) -> Vec<String> {
    let mut connection = connect(&postgres.url("cmk")).await.expect("it runs");
    sqlx::query_scalar("SELECT text FROM note").fetch_all(&mut connection).await.expect("the table is there")
}

/// The number after a word of `describe()`.
fn number_after(about: &str, word: &str) -> u32 {
    let rest = about.split_once(word).expect("describe() has the word").1;
    rest.trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number follows")
}

fn data_of(about: &str) -> PathBuf {
    about.split_once("data in ").expect("describe() names the folder").1.into()
}

/// Whether a process runs. One that has ended and that nobody has collected yet (a container's first process may never
/// do it) still takes signals, but has no command line any more.
fn alive(pid: u32) -> bool {
    if let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) {
        return !line.is_empty();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "kill -0 $1", "sh", &pid.to_string()]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_server_of_one_run_leaves_nothing() {
    let state = State::new();
    let postgres = ensure(state.options(Lifetime::OneRun)).await.expect("a PostgreSQL is installed or can be fetched");
    let about = postgres.describe();
    let (data, pid) = (data_of(&about), number_after(&about, "process "));
    let mut connection = connect(&postgres.admin_url()).await.expect("it takes connections");
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.expect("a setting");
    assert_eq!(fsync, "off");
    assert!(data.is_dir() && alive(pid));
    postgres.stop().await.expect("it stops, also with a connection open");
    assert!(!alive(pid));
    assert!(!data.parent().expect("data has a parent").exists());
}

#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let state = State::new();
    let postgres = state.lasting().await.expect("it starts");
    let url = postgres.admin_url();
    let (user, rest) = url.split_once(":").and_then(|(_, rest)| rest.split_once('@')).expect("user:password@host");
    let password = user.rsplit_once(':').expect("there is a password").1;
    for line in [format!("{postgres:?}"), postgres.describe()] {
        assert!(!line.contains(password), "{line}");
    }
    let refused = connect(&format!("postgres://cmk:guess@{rest}")).await.expect_err("a wrong password is refused");
    let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    assert_eq!(code.as_deref(), Some("28P01"));
    postgres.stop().await.expect("it stops");
}

#[tokio::test]
async fn lasting_data_survives_a_stop_and_ends_with_a_wipe() {
    let state = State::new();
    let first = state.lasting().await.expect("it starts");
    note(&first, "kept").await;
    assert!(matches!(state.lasting().await, Err(PostgresError::Busy { .. })));
    assert!(matches!(wipe(&state.0).await, Err(PostgresError::Busy { .. })));
    let data = data_of(&first.describe());
    first.stop().await.expect("it stops");

    let second = state.lasting().await.expect("it starts again");
    assert_eq!(notes(&second).await, ["kept"]);
    second.stop().await.expect("it stops");

    wipe(&state.0).await.expect("it is ours");
    assert!(!data.exists());
    let third = state.lasting().await.expect("it starts anew");
    assert!(connect(&third.url("cmk")).await.is_err(), "the database is gone");
    third.stop().await.expect("it stops");
}

#[tokio::test]
async fn data_of_another_version_is_refused_with_the_way_out() {
    let state = State::new();
    let postgres = state.lasting().await.expect("it starts");
    let version = data_of(&postgres.describe()).join("PG_VERSION");
    postgres.stop().await.expect("it stops");
    std::fs::write(version, "13\n").expect("the test may write there");
    let mut options = state.options(Lifetime::Lasting);
    options.discovery = Discovery::InstalledOnly;
    let error = ensure(options).await.expect_err("no such version is used");
    assert!(matches!(error, PostgresError::OtherMajor { major: 13, .. }), "{error}");
    assert!(error.to_string().contains("--fresh"), "{error}");
}

#[tokio::test]
async fn a_strange_folder_is_left_alone() {
    let state = State::new();
    let strange = state.0.join("postgres/data");
    std::fs::create_dir_all(&strange).expect("the temporary folder takes folders");
    assert!(matches!(state.lasting().await, Err(PostgresError::NotOurs { .. })));
    assert!(matches!(wipe(&state.0).await, Err(PostgresError::NotOurs { .. })));
    assert!(strange.exists());
}

#[tokio::test]
async fn a_given_server_is_used_as_it_is() {
    let state = State::new();
    let mut options = state.options(Lifetime::Lasting);
    options.database_url = Some("postgres://u:secret@db.example:6000/mine?sslmode=require".into());
    let postgres = ensure(options.clone()).await.expect("nothing is contacted");
    assert_eq!(postgres.database("cmk").await.expect("nothing is asked"), postgres.admin_url());
    assert_eq!(postgres.url("x"), "postgres://u:secret@db.example:6000/x?sslmode=require");
    assert_eq!(postgres.describe(), "PostgreSQL of DATABASE_URL at db.example:6000/mine");
    assert!(!state.0.exists());
    options.database_url = Some("mysql://u:secret@h/x".into());
    let error = ensure(options).await.expect_err("that is no PostgreSQL");
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn a_bad_bin_dir_is_refused_and_not_passed_over() {
    let state = State::new();
    let mut options = state.options(Lifetime::OneRun);
    options.bin_dir = Some("/nowhere".into());
    assert!(matches!(ensure(options).await, Err(PostgresError::BadBinDir { .. })));
}

/// The environment variable that makes a test's child process a launcher: the lifetime and the state folder.
const LAUNCHER: &str = "CMK_TEST_LAUNCHER";

/// In a child: starts a server, tells what it is, and waits to be killed.
async fn be_a_launcher(order: &str) {
    let (lifetime, state) = order.split_once(' ').expect("two words");
    let lifetime = if lifetime == "lasting" { Lifetime::Lasting } else { Lifetime::OneRun };
    let state = State(state.into());
    let postgres = ensure(state.options(lifetime)).await.expect("it starts");
    if lifetime == Lifetime::Lasting {
        note(&postgres, "before the kill").await;
    }
    println!("launched {}", postgres.describe());
    std::io::stdout().flush().expect("the parent reads");
    std::future::pending::<()>().await;
}

/// Runs the named test again as a launcher, and waits for its server.
fn launcher(test: &str, lifetime: &str, state: &Path) -> (Child, String) {
    let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
    command.args(["--exact", test, "--nocapture"]).env(LAUNCHER, format!("{lifetime} {}", state.display()));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the test binary runs");
    let output = BufReader::new(child.stdout.take().expect("it was asked for"));
    let mut lines = output.lines().map_while(Result::ok);
    let about = lines.find_map(|line| line.split_once("launched ").map(|(_, about)| about.to_owned()));
    (child, about.expect("the launcher starts a server"))
}

#[tokio::test]
async fn a_killed_launcher_leaves_no_server_of_one_run() {
    if let Ok(order) = std::env::var(LAUNCHER) {
        return be_a_launcher(&order).await;
    }
    let state = State::new();
    let (mut child, about) = launcher("postgres::a_killed_launcher_leaves_no_server_of_one_run", "one-run", &state.0);
    let (data, pid) = (data_of(&about), number_after(&about, "process "));
    assert!(alive(pid) && data.is_dir());
    child.kill().expect("SIGKILL");
    child.wait().expect("it ends");
    eventually("the folder is deleted", async || !data.parent().expect("data has a parent").exists()).await;
    eventually("the server is gone", async || !alive(pid)).await;
}

#[tokio::test]
async fn the_server_of_a_killed_launcher_is_taken_over_with_its_data() {
    if let Ok(order) = std::env::var(LAUNCHER) {
        return be_a_launcher(&order).await;
    }
    let test = "postgres::the_server_of_a_killed_launcher_is_taken_over_with_its_data";
    for with_watchdog in [true, false] {
        let state = State::new();
        let (mut child, about) = launcher(test, "lasting", &state.0);
        let pid = number_after(&about, "process ");
        if !with_watchdog {
            kill_watchdog(&data_of(&about)).await;
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");
        if !with_watchdog {
            assert!(alive(pid), "nobody stops the server");
        }
        let postgres = state.lasting().await.expect("the left-over server is in nobody's way");
        assert!(!alive(pid));
        assert_eq!(notes(&postgres).await, ["before the kill"]);
        postgres.stop().await.expect("it stops");
    }
}

/// Kills the watchdog of a data folder, as the machine's memory killer might.
async fn kill_watchdog(data: &Path) {
    let script = "ps -A -ww -o pid= -o args= | grep cmk-watchdog | grep -F -- \"$1\" | grep -v grep | \
                  while read -r pid rest; do kill -KILL \"$pid\" && echo \"$pid\"; done";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(data).output().expect("sh runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.trim().parse::<u32>().is_ok(), "one watchdog is found and killed, not: {said:?}");
}

#[tokio::test]
async fn every_test_has_a_migrated_database_of_its_own() {
    let (one, two) = tokio::join!(TestDatabase::new(migrate), TestDatabase::new(migrate));
    assert_ne!(one.url, two.url);
    sqlx::query("INSERT INTO workers VALUES ('one', now(), now())")
        .execute(&one.pool)
        .await
        .expect("the table is there");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM workers").fetch_one(&two.pool).await.expect("here too");
    assert_eq!(rows, 0);
    let name = one.url.split('/').next_back().and_then(|rest| rest.split('?').next()).expect("a name").to_owned();
    drop(one);
    let gone = async || {
        let there = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)").bind(&name);
        let there: bool = there.fetch_one(&two.pool).await.expect("a catalogue");
        !there
    };
    eventually("a database goes with its test", gone).await;
}
