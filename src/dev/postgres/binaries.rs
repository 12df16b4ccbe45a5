//! Finding installed PostgreSQL programs. Getting them where there are none is in `fetch`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PostgresError;
use super::process::{run, said};
use super::user::RunAs;

/// The oldest major version the service's SQL runs on.
pub(super) const OLDEST: u32 = 14;

/// Folders with one sub-folder per version, and where in that the programs are. Debian and Ubuntu, PGDG for Red Hat
/// (one folder per version in `/usr`), Homebrew, Postgres.app, EnterpriseDB, MacPorts, Alpine, Arch (the old version).
const VERSIONED: [(&str, &str, &str); 10] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/Library/PostgreSQL", "", "bin"),
    ("/opt/local/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt", "pgsql-", "bin"),
];

/// Folders without a version in their name.
const PLAIN: [&str; 2] = ["/usr/local/pgsql/bin", "/usr/pgsql/bin"];

/// PostgreSQL's programs, tried and found to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    /// The folder that holds `postgres` and `initdb`.
    pub(super) dir: PathBuf,
    /// The version as PostgreSQL prints it, such as `15.18`.
    pub(super) version: String,
    /// The first number of the version, which decides whether a data folder can be used.
    pub(super) major: u32,
}

impl Binaries {
    /// Tries the programs in `dir` as the user that will run them; the error says in one line why they do not serve.
    pub(super) async fn try_dir(dir: &Path, user: &RunAs) -> Result<Self, String> {
        let mut command = user.command(dir.join("postgres"));
        command.arg("--version");
        let output = match run(command, Duration::from_secs(20)).await {
            Ok(output) if output.status.success() => output,
            Ok(output) => return Err(format!("{}: {}", dir.display(), said(&output))),
            Err(error) => return Err(format!("{}: {error}", dir.display())),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let Some((version, major)) = parse_version(&text) else {
            return Err(format!("{}: does not tell its version", dir.display()));
        };
        if major < OLDEST {
            return Err(format!("{}: PostgreSQL {version} is older than {OLDEST}", dir.display()));
        }
        Ok(Self { dir: dir.to_owned(), version: version.to_owned(), major })
    }

    /// The path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// What a search found: the programs, or why each place was passed over.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) found: Option<Binaries>,
    pub(super) passed: Vec<String>,
}

/// Looks through the installed programs. Where a data folder exists, `major` is its version, and only programs of that
/// version serve.
pub(super) async fn installed(user: &RunAs, major: Option<u32>) -> Search {
    let mut search = Search::default();
    for dir in candidates(std::env::var_os("PATH").as_deref(), &versioned_dirs()) {
        search.consider(&dir, user, major).await;
        if search.found.is_some() {
            break;
        }
    }
    search
}

impl Search {
    /// Tries one folder, unless something was found already.
    pub(super) async fn consider(&mut self, dir: &Path, user: &RunAs, major: Option<u32>) {
        match Binaries::try_dir(dir, user).await {
            Ok(binaries) if major.is_none_or(|major| major == binaries.major) => self.found = Some(binaries),
            Ok(other) => self.passed.push(format!("{}: PostgreSQL {}", dir.display(), other.version)),
            Err(reason) => self.passed.push(reason),
        }
    }
}

/// The folder named by `PG_BIN_DIR`. What the caller named is used or refused, never passed over.
pub(super) async fn named(dir: &Path, user: &RunAs) -> Result<Binaries, PostgresError> {
    let refuse = |reason: String| PostgresError::BadBinDir { reason };
    let dir = fs::canonicalize(dir).map_err(|error| refuse(format!("{}: {error}", dir.display())))?;
    if !holds_server(&dir) {
        return Err(refuse(format!("{}: no `postgres` and `initdb` in it", dir.display())));
    }
    Binaries::try_dir(&dir, user).await.map_err(refuse)
}

/// The folders worth a try, best first: `PATH` as the caller ordered it, then the versioned folders, newest first.
fn candidates(path: Option<&OsStr>, versioned: &[PathBuf]) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    let on_path = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    // A link such as /usr/local/bin/postgres has no sibling programs and no share folder; its target has.
    let on_path = on_path.iter().filter_map(|dir| fs::canonicalize(dir.join("postgres")).ok());
    let on_path = on_path.filter_map(|program| program.parent().map(Path::to_owned));
    for dir in on_path.chain(versioned.iter().filter_map(|dir| fs::canonicalize(dir).ok())) {
        if holds_server(&dir) && !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

fn holds_server(dir: &Path) -> bool {
    dir.is_absolute() && dir.join("postgres").is_file() && dir.join("initdb").is_file()
}

fn versioned_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for (parent, prefix, bin) in VERSIONED {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(version) = name.strip_prefix(prefix) {
                dirs.push((folder_version(version), entry.path().join(bin)));
            }
        }
    }
    let mut dirs = newest_first(dirs);
    dirs.extend(PLAIN.map(PathBuf::from));
    dirs
}

/// Sorts by version, newest first; folders without one come last, in the order given.
fn newest_first(mut dirs: Vec<(Vec<u32>, PathBuf)>) -> Vec<PathBuf> {
    dirs.sort_by(|(left, _), (right, _)| right.cmp(left));
    dirs.into_iter().map(|(_, dir)| dir).collect()
}

/// The numbers of a folder's version: `@17` → 17, `9.6` → 9, 6, `latest` → none.
fn folder_version(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The version and its first number in what `postgres --version` prints, such as
/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 18beta1`.
fn parse_version(text: &str) -> Option<(&str, u32)> {
    let version = text.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version, version[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_postgres_prints_them() {
        for (text, expected) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(("15.18", 15))),
            ("postgres (PostgreSQL) 18beta1\n", Some(("18beta1", 18))),
            ("postgres (PostgreSQL) 9.6.24", Some(("9.6.24", 9))),
            ("postgres (EnterpriseDB) 14.1", None),
            ("postgres (PostgreSQL) devel", None),
            ("postgres (PostgreSQL)", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text), expected, "{text:?}");
        }
    }

    #[test]
    fn newer_folders_come_first_and_nameless_ones_last() {
        let dirs = ["9.6", "15", "latest", "@17", "10", "17.2"].map(|name| (folder_version(name), PathBuf::from(name)));
        let sorted = newest_first(dirs.to_vec());
        assert_eq!(sorted, ["17.2", "@17", "15", "10", "9.6", "latest"].map(PathBuf::from));
    }

    #[test]
    fn path_wins_over_folders_and_a_link_leads_to_its_target() {
        let root = std::env::temp_dir().join(format!("cmk-candidates-{}", uuid::Uuid::new_v4()));
        let make = |name: &str, programs: &[&str]| {
            let dir = root.join(name);
            fs::create_dir_all(&dir).expect("the temporary folder takes folders");
            for program in programs {
                fs::write(dir.join(program), "").expect("the temporary folder takes files");
            }
            fs::canonicalize(dir).expect("it was just made")
        };
        let old = make("14/bin", &["postgres", "initdb"]);
        let new = make("18/bin", &["postgres", "initdb"]);
        make("client/bin", &["psql"]);
        make("server-only/bin", &["postgres"]);
        let links = make("links", &[]);
        std::os::unix::fs::symlink(old.join("postgres"), links.join("postgres")).expect("links can be made");
        let path =
            std::env::join_paths([root.join("server-only/bin"), root.join("client/bin"), links]).expect("no colon");
        let found = candidates(Some(&path), &[new.clone(), old.clone(), root.join("absent")]);
        fs::remove_dir_all(&root).expect("the folder is ours");
        assert_eq!(found, [old, new]);
    }
}
