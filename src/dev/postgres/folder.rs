//! The folders of a server: where they are, who may enter them, whose they are. What PostgreSQL keeps in `data` is not
//! looked at here, but for the version.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::PostgresError;
use super::user::RunAs;

/// The file that says that a folder was made by this launcher. Nothing is deleted from a folder without it.
const MARKER: &str = "made-by-cmk";

/// In the state folder: where the rest is, when the server's user cannot enter the state folder.
const POINTER: &str = "moved-to";

/// What the launcher keeps about one server.
///
/// ```text
/// made-by-cmk     marker with an id; the same id in both places when there are two
/// moved-to        only in the state folder: the real place, with the same files
/// lock            held by the launcher while it lives
/// password        of the database user `cmk`, 0600
/// postgres.log    of the last start
/// data/           PostgreSQL's own, 0700, of the server's user
/// fetched/        downloaded programs
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    /// The state folder's own part, when `root` had to be elsewhere.
    pub(super) moved_from: Option<PathBuf>,
}

impl Folder {
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn password(&self) -> PathBuf {
        self.root.join("password")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    pub(super) fn fetched(&self) -> PathBuf {
        self.root.join("fetched")
    }

    /// The folder that belongs to a state folder, when an earlier call made it.
    pub(super) fn existing(state_dir: &Path) -> Result<Option<Self>, PostgresError> {
        let Ok(state_dir) = fs::canonicalize(state_dir) else { return Ok(None) };
        let own = state_dir.join("postgres");
        match fs::symlink_metadata(&own) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PostgresError::io("look at", &own)(error)),
            Ok(_) => {}
        }
        let Some(id) = marker(&own) else { return Err(PostgresError::NotOurs { dir: own }) };
        match fs::read_to_string(own.join(POINTER)) {
            Ok(place) => {
                let root = PathBuf::from(place.trim_end());
                match fs::symlink_metadata(&root) {
                    // The system may have emptied its temporary folder.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(PostgresError::io("look at", &root)(error)),
                    // The parent is open to every user: only a real folder of the same owner with our marker counts.
                    Ok(found) if found.is_dir() && same_owner(&found, &own) && marker(&root) == Some(id) => {
                        Ok(Some(Self { root, moved_from: Some(own) }))
                    }
                    Ok(_) => Err(PostgresError::NotOurs { dir: root }),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Self { root: own, moved_from: None })),
            Err(error) => Err(PostgresError::io("read", &own.join(POINTER))(error)),
        }
    }

    /// The folder that belongs to a state folder, made where it is missing. It is inside the state folder, unless the
    /// server's user cannot enter that.
    pub(super) async fn for_state(state_dir: &Path, user: &RunAs) -> Result<Self, PostgresError> {
        fs::create_dir_all(state_dir).map_err(PostgresError::io("make", state_dir))?;
        let state_dir = fs::canonicalize(state_dir).map_err(PostgresError::io("find", state_dir))?;
        if let Some(folder) = Self::existing(&state_dir)?
            && user.can_enter(&folder.root).await
        {
            return Ok(folder);
        }
        let own = state_dir.join("postgres");
        if !own.exists() {
            make(&own, &new_id(), user)?;
        }
        if user.can_enter(&own).await {
            return Ok(Self { root: own, moved_from: None });
        }
        let id = marker(&own).ok_or_else(|| PostgresError::NotOurs { dir: own.clone() })?;
        let root = make_elsewhere("cmk", &id, user).await?;
        // A new file under a new name: nobody else's link is written through.
        let pointer = own.join(POINTER);
        replace_private(&pointer, root.to_string_lossy().as_bytes())?;
        Ok(Self { root, moved_from: Some(own) })
    }

    /// A folder for one run, in the system's temporary folder.
    pub(super) async fn for_one_run(user: &RunAs) -> Result<Self, PostgresError> {
        let root = make_elsewhere("cmk-run", &new_id(), user).await?;
        Ok(Self { root, moved_from: None })
    }

    /// Takes the lock that says that a launcher lives, or none when another one holds it. The operating system lets go
    /// of it however the launcher ends.
    pub(super) fn lock(&self, name: &str) -> Result<Option<File>, PostgresError> {
        let path = self.root.join(name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(PostgresError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(PostgresError::io("lock", &path)(error)),
        }
    }

    /// The major version of the data folder, or none when there is no whole one.
    pub(super) fn major(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("PG_VERSION")).ok()?.trim().split('.').next()?.parse().ok()
    }

    /// Deletes what belongs to the server, and keeps downloaded programs.
    pub(super) fn wipe(&self) -> Result<(), PostgresError> {
        for dir in [self.data(), self.root.join("data.new")] {
            remove_dir(&dir).map_err(PostgresError::io("delete", &dir))?;
        }
        for file in [self.password(), self.log()] {
            remove_file(&file).map_err(PostgresError::io("delete", &file))?;
        }
        Ok(())
    }
}

/// Makes a marked folder: its files are the launcher's, and the server's user, if another, may pass through. It gets its
/// name when it is whole.
fn make(dir: &Path, id: &str, user: &RunAs) -> Result<(), PostgresError> {
    let mode = if user.drops() { 0o711 } else { 0o700 };
    let new = dir.with_extension(new_id());
    // `create` fails on anything that exists, also on a link that somebody else put there.
    DirBuilder::new().mode(mode).create(&new).map_err(PostgresError::io("make", &new))?;
    set_mode(&new, mode)?;
    let fetched = new.join("fetched");
    fs::create_dir(&fetched).map_err(PostgresError::io("make", &fetched))?;
    set_mode(&fetched, 0o755)?;
    replace_private(&new.join(MARKER), id.as_bytes())?;
    fs::rename(&new, dir).map_err(PostgresError::io("make", dir))
}

fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Makes a marked folder under a name that nobody can foresee, where the server's user can enter. `/var/tmp` comes
/// before `/tmp` because it lasts over a restart of the machine.
async fn make_elsewhere(prefix: &str, id: &str, user: &RunAs) -> Result<PathBuf, PostgresError> {
    let mut parents = vec![std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
    if prefix == "cmk" {
        parents.insert(0, PathBuf::from("/var/tmp"));
    }
    let mut last = PostgresError::NoOpenFolder;
    for parent in parents {
        let Ok(parent) = fs::canonicalize(&parent) else { continue };
        if !user.can_enter(&parent).await {
            continue;
        }
        let dir = parent.join(format!("{prefix}-{}", new_id()));
        match make(&dir, id, user) {
            Ok(()) => return Ok(dir),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The id in a folder that this launcher made.
fn marker(dir: &Path) -> Option<String> {
    fs::read_to_string(dir.join(MARKER)).ok()
}

fn same_owner(found: &fs::Metadata, own: &Path) -> bool {
    fs::symlink_metadata(own).is_ok_and(|own| own.uid() == found.uid()) && found.mode() & 0o022 == 0
}

fn set_mode(path: &Path, mode: u32) -> Result<(), PostgresError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(PostgresError::io("set the mode of", path))
}

/// Writes a 0600 file anew, never through a link.
pub(super) fn replace_private(path: &Path, content: &[u8]) -> Result<(), PostgresError> {
    let write = || -> io::Result<()> {
        remove_file(path)?;
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(PostgresError::io("write", path))
}

/// Deletes a folder that may be absent.
pub(super) fn remove_dir(dir: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(dir))
}

/// Deletes a file that may be absent.
pub(super) fn remove_file(file: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(file))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Who owns a file or folder, if it exists.
pub(super) fn owner(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().map(|found| found.uid())
}
