//! One server process: making its data folder, starting it, waiting for it, taking over what a killed launcher left,
//! stopping it.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::binaries::Binaries;
use super::folder::{Folder, remove_dir, remove_file, replace_private};
use super::pidfile::PidFile;
use super::process::{pause, run, said, serves, signal, tail};
use super::user::RunAs;
use super::watchdog::{Server as Told, Watchdog};
use super::{Lifetime, PostgresError, USER};

/// `initdb` takes half a second; a loaded machine or a slow disk much longer.
const INITDB_WITHIN: Duration = Duration::from_secs(180);
/// A start after a crash replays the log first.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How long a fast shutdown may take before the server is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// How often a start is tried again when another program took the port, or the dead server's children still run.
const STARTS: u32 = 8;

/// A running server and its watchdog.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    watchdog: Watchdog,
    folder: Folder,
    lifetime: Lifetime,
    pub(super) port: u16,
}

/// Makes the data folder, unless it is there. It gets its name when it is whole, so a killed `initdb` leaves nothing
/// that looks like a data folder.
pub(super) async fn init(
    folder: &Folder,
    binaries: &Binaries,
    user: &RunAs,
    lifetime: Lifetime,
    password: &str,
) -> Result<(), PostgresError> {
    let new = folder.root.join("data.new");
    let hand_over = folder.root.join("password.initdb");
    let mut last = String::new();
    // Not every C library has C.UTF-8; with C the encoding is the same and only the order of letters is plainer.
    for locale in ["C.UTF-8", "C"] {
        remove_dir(&new).map_err(PostgresError::io("delete", &new))?;
        fs::DirBuilder::new().mode(0o700).create(&new).map_err(PostgresError::io("make", &new))?;
        user.own(&new)?;
        replace_private(&hand_over, password.as_bytes())?;
        user.own(&hand_over)?;
        let mut command = user.command(binaries.program("initdb"));
        command.arg("-D").arg(&new).args(["-U", USER, "-E", "UTF8", "--locale", locale, "--no-instructions"]);
        // A server for one run takes very many connections, and the key derivation of scram costs each one dearly.
        command.args(match lifetime {
            Lifetime::Lasting => &["-A", "scram-sha-256"][..],
            Lifetime::OneRun => &["-A", "password", "--no-sync"],
        });
        command.arg("--pwfile").arg(&hand_over);
        let result = run(command, INITDB_WITHIN).await;
        remove_file(&hand_over).map_err(PostgresError::io("delete", &hand_over))?;
        match result {
            Ok(output) if output.status.success() => {
                return fs::rename(&new, folder.data()).map_err(PostgresError::io("name", &folder.data()));
            }
            Ok(output) => last = said(&output),
            Err(error) => return Err(PostgresError::InitFailed { said: error.to_string() }),
        }
    }
    remove_dir(&new).map_err(PostgresError::io("delete", &new))?;
    Err(PostgresError::InitFailed { said: last })
}

/// Ends the server that a killed launcher left behind over this data folder, and clears a file that only looks like one.
/// The caller holds the folder's lock.
pub(super) async fn stop_leftover(folder: &Folder) -> Result<bool, PostgresError> {
    let data = folder.data();
    let Some(file) = PidFile::read(&data) else { return Ok(false) };
    if !serves(file.pid, &data).await {
        // Where the process id now belongs to another program, or to a dead server that nobody has collected,
        // PostgreSQL would take that for a running one. Its check of the shared memory, which finds children that
        // outlive their server, does not need the file.
        if signal(file.pid, "0").await {
            let path = data.join("postmaster.pid");
            remove_file(&path).map_err(PostgresError::io("delete", &path))?;
        }
        return Ok(false);
    }
    for (name, within) in [("INT", STOP_WITHIN), ("KILL", STOP_WITHIN)] {
        signal(file.pid, name).await;
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if !serves(file.pid, &data).await {
                return Ok(true);
            }
            pause(LOOK_EVERY).await;
        }
    }
    Err(PostgresError::LeftoverStays { pid: file.pid })
}

impl Server {
    /// Starts a server over an existing data folder on a free port of 127.0.0.1 and waits until it takes connections.
    pub(super) async fn start(
        folder: Folder,
        binaries: &Binaries,
        user: &RunAs,
        lifetime: Lifetime,
        password: &str,
    ) -> Result<Self, PostgresError> {
        let deadline = Instant::now() + START_WITHIN;
        let mut watchdog = Watchdog::start(&folder, lifetime == Lifetime::OneRun)
            .map_err(|error| PostgresError::StartFailed { said: format!("its watchdog: {error}") })?;
        let mut last = String::new();
        for attempt in 0..STARTS {
            let port = free_port()?;
            let child = spawn(&folder, binaries, user, lifetime, port)?;
            watchdog.tell(Told::Starting(child.id())).map_err(watchdog_gone)?;
            let mut server = Self { child, watchdog, folder: folder.clone(), lifetime, port };
            let ended = match server.until_ready(password, deadline).await {
                Ok(None) => {
                    server.watchdog.tell(Told::Running(server.child.id())).map_err(watchdog_gone)?;
                    return Ok(server);
                }
                Ok(Some(ended)) => ended,
                Err(error) => {
                    server.stop().await?;
                    return Err(error);
                }
            };
            watchdog = server.watchdog;
            watchdog.tell(Told::Stopped).map_err(watchdog_gone)?;
            let log = fs::read(folder.log()).unwrap_or_default();
            last = format!("{ended}; {}", tail(String::from_utf8_lossy(&log).trim()));
            if !passes(&last) {
                break;
            }
            pause(Duration::from_millis(50 << attempt)).await;
        }
        Err(PostgresError::StartFailed { said: last })
    }

    /// Waits for the first real connection, or tells how the process ended.
    async fn until_ready(&mut self, password: &str, deadline: Instant) -> Result<Option<ExitStatus>, PostgresError> {
        let url = url(password, self.port, "postgres");
        let mut refused = None;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(PostgresError::io("wait for", &self.folder.data()))? {
                return Ok(Some(status));
            }
            let file = PidFile::read(&self.folder.data());
            if file.is_some_and(|file| file.ready && file.pid == self.child.id() && file.port == Some(self.port)) {
                match tokio::time::timeout(Duration::from_secs(10), PgConnection::connect(&url)).await {
                    Ok(Ok(connection)) => {
                        // The server is up, whatever becomes of this farewell.
                        connection.close().await.ok();
                        return Ok(None);
                    }
                    // 28P01 invalid_password: waiting does not help.
                    Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() == Some("28P01") => {
                        return Err(PostgresError::WrongPassword { file: self.folder.password() });
                    }
                    Ok(Err(error)) => refused = Some(error.to_string()),
                    Err(_) => refused = Some("no answer".into()),
                }
            }
            pause(LOOK_EVERY).await;
        }
        let said = refused.unwrap_or_else(|| "it does not get ready".into());
        Err(PostgresError::StartFailed { said: format!("after {} s: {said}", START_WITHIN.as_secs()) })
    }

    /// Ends the server: a fast shutdown, after ten seconds a kill. The folder of a server for one run is deleted.
    pub(super) async fn stop(mut self) -> Result<(), PostgresError> {
        let wait = PostgresError::io("wait for", &self.folder.data());
        signal(self.child.id(), "INT").await;
        let deadline = Instant::now() + STOP_WITHIN;
        let mut status = self.child.try_wait();
        while matches!(status, Ok(None)) && Instant::now() < deadline {
            pause(LOOK_EVERY).await;
            status = self.child.try_wait();
        }
        if let Ok(None) = status {
            self.child.kill().map_err(PostgresError::io("kill", &self.folder.data()))?;
            self.child.wait().map_err(wait)?;
        }
        self.watchdog.tell(Told::Stopped).map_err(watchdog_gone)?;
        self.watchdog.finish(STOP_WITHIN).await.map_err(watchdog_gone)?;
        if self.lifetime == Lifetime::OneRun {
            remove_dir(&self.folder.root).map_err(PostgresError::io("delete", &self.folder.root))?;
        }
        Ok(())
    }

    /// The process id of the server.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn watchdog_gone(error: std::io::Error) -> PostgresError {
    PostgresError::StartFailed { said: format!("its watchdog is gone: {error}") }
}

fn spawn(
    folder: &Folder,
    binaries: &Binaries,
    user: &RunAs,
    lifetime: Lifetime,
    port: u16,
) -> Result<Child, PostgresError> {
    let path = folder.log();
    let log = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    let log = log.map_err(PostgresError::io("write", &path))?;
    let mut command = user.command(binaries.program("postgres"));
    command.arg("-D").arg(folder.data()).args(["-p", &port.to_string()]);
    for setting in settings(lifetime) {
        command.args(["-c", setting]);
    }
    let again = log.try_clone().map_err(PostgresError::io("write", &path))?;
    // Its own group: Ctrl-C reaches the launcher first, which then stops the server in order.
    command.stdout(log).stderr(again).process_group(0);
    command.spawn().map_err(|error| PostgresError::StartFailed { said: error.to_string() })
}

fn settings(lifetime: Lifetime) -> Vec<&'static str> {
    let mut settings = vec!["listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off"];
    if lifetime == Lifetime::OneRun {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"]);
    }
    settings
}

/// A port that was free a moment ago. Another program may take it first; then the start is tried again.
fn free_port() -> Result<u16, PostgresError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| PostgresError::StartFailed { said: error.to_string() })
}

/// Whether a failed start is worth another try: the port was taken, or children of a killed server are still ending.
fn passes(said: &str) -> bool {
    ["could not bind", "could not create any TCP/IP sockets", "is still in use"].iter().any(|text| said.contains(text))
}

/// The address of a database. The caller's `PGSSLMODE` must not reach a server that has no certificate.
pub(super) fn url(password: &str, port: u16, database: &str) -> String {
    format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_start_that_can_go_well_later_is_tried_again() {
        assert!(passes("LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use"));
        assert!(passes("FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use"));
        assert!(!passes("FATAL:  database files are incompatible with server"));
    }

    #[test]
    fn lasting_data_is_written_through() {
        assert!(!settings(Lifetime::Lasting).iter().any(|setting| setting.contains("fsync")));
        assert!(settings(Lifetime::OneRun).contains(&"fsync=off"));
    }
}
