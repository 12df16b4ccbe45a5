//! The private PostgreSQL of one run, with durable settings, and databases in it.
//!
//! What belongs here: starting, making databases, running statements, finding PostgreSQL's own programs. What does not:
//! what is measured.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use cmk::clock::Clock;
use cmk::dev::postgres::{self, Lifetime, Options, Postgres};
use cmk::store::Store;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::{Child, Command};

/// A running server; its data go with [`Cluster::stop`], or at the next start.
pub struct Cluster {
    postgres: Postgres,
    state: PathBuf,
    programs: PathBuf,
}

impl Cluster {
    /// Starts an empty server whose data are written through to the disk.
    pub async fn start() -> anyhow::Result<Self> {
        let state = std::env::temp_dir().join("cmk-bench");
        postgres::wipe(&state).await?;
        let mut options = Options::from_env(&state, Lifetime::Lasting)?;
        options.database_url = None;
        let programs = programs(options.bin_dir.clone())?;
        options.bin_dir = Some(programs.clone());
        Ok(Self { postgres: postgres::ensure(options).await?, state, programs })
    }

    /// Ends the server and deletes its data.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.postgres.stop().await?;
        Ok(postgres::wipe(&self.state).await?)
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        self.postgres.url(database)
    }

    /// Makes an empty database, in place of one of that name.
    pub async fn fresh(&self, database: &str) -> anyhow::Result<String> {
        self.administer(&format!("drop database if exists {database} with (force)")).await?;
        self.administer(&format!("create database {database}")).await?;
        Ok(self.url(database))
    }

    /// Makes a database with our schema.
    pub async fn migrated(&self, database: &str) -> anyhow::Result<Store> {
        let store = store(&self.fresh(database).await?)?;
        store.migrate().await?;
        Ok(store)
    }

    /// Deletes a database.
    pub async fn drop(&self, database: &str) -> anyhow::Result<()> {
        self.administer(&format!("drop database if exists {database} with (force)")).await
    }

    async fn administer(&self, statement: &str) -> anyhow::Result<()> {
        statements(&self.postgres.admin_url(), &[statement]).await
    }

    /// One setting of the server.
    pub async fn setting(&self, name: &str) -> anyhow::Result<String> {
        let mut connection = PgConnection::connect(&self.postgres.admin_url()).await?;
        Ok(sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(&mut connection).await?)
    }

    /// One of PostgreSQL's programs.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }
}

/// A store with the pool of a process with default settings.
pub fn store(url: &str) -> anyhow::Result<Store> {
    Ok(Store::open(url, 16, Clock::System)?)
}

/// Runs statements that cannot be in a transaction, each alone.
pub async fn statements(url: &str, statements: &[&str]) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut connection).await.context((*statement).to_owned())?;
    }
    Ok(connection.close().await?)
}

/// Leaves a database as it would be found in peace: no dead rows, statistics up to date, nothing to be flushed.
pub async fn settle(url: &str) -> anyhow::Result<()> {
    statements(url, &["vacuum analyze", "checkpoint"]).await
}

fn programs(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let installed = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        versions
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|bin| bin.join("pgbench").exists())
            .max()
    };
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| folder.join("pgbench").exists());
    given.or_else(installed).or_else(on_path).context("pgbench is missing: install PostgreSQL or set PG_BIN_DIR")
}

/// Runs a program to its end and answers what it printed.
pub async fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command.kill_on_drop(true).output();
    let done =
        tokio::time::timeout(std::time::Duration::from_secs(300), done).await.context("no end after 300 s")??;
    anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Starts a program in the background; its logs go nowhere, as a service's go to a file. It is killed when dropped.
pub fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?)
}
