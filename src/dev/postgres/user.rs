//! The operating-system user that PostgreSQL runs as. PostgreSQL refuses to run as root, so a root launcher starts its
//! children as `postgres` or `nobody`. What the children do is not decided here.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::PostgresError;
use super::process::run;

/// The accounts that a root launcher tries, best first. `_postgres` is macOS's name.
const UNPRIVILEGED: [&str; 3] = ["postgres", "_postgres", "nobody"];

/// Whom the server's processes run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunAs {
    launcher: u32,
    drop_to: Option<(u32, u32)>,
    name: String,
}

impl RunAs {
    /// The launcher's own user, or for root the owner of `data` where it exists already, else the first unprivileged
    /// account there is.
    pub(super) async fn choose(data: Option<&Path>) -> Result<Self, PostgresError> {
        let launcher = id(&["-u"]).await.ok_or(PostgresError::UnknownUser)?;
        if launcher != 0 {
            return Ok(Self { launcher, drop_to: None, name: "you".into() });
        }
        if let Some(owner) = data.and_then(|data| std::fs::symlink_metadata(data).ok())
            && owner.uid() != 0
        {
            return Ok(Self {
                launcher,
                drop_to: Some((owner.uid(), owner.gid())),
                name: format!("uid {}", owner.uid()),
            });
        }
        for name in UNPRIVILEGED {
            if let (Some(uid), Some(gid)) = (id(&["-u", name]).await, id(&["-g", name]).await)
                && uid != 0
            {
                return Ok(Self { launcher, drop_to: Some((uid, gid)), name: name.into() });
            }
        }
        Err(PostgresError::NoUnprivilegedUser)
    }

    /// The effective user id of the launcher.
    pub(super) fn launcher(&self) -> u32 {
        self.launcher
    }

    /// Whether the children run as somebody else than the launcher.
    pub(super) fn drops(&self) -> bool {
        self.drop_to.is_some()
    }

    /// How to call the user in a message.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs as this user, in `/` (the launcher's folder may be closed to it), without input, and without
    /// the caller's `PG*` variables and locale, both of which change what PostgreSQL's programs do.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.drop_to {
            command.gid(gid).uid(uid);
        }
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PG") || text.starts_with("LC_") || text == "LANGUAGE" {
                command.env_remove(&name);
            }
        }
        command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        command
    }

    /// Whether this user can enter `dir`. The kernel is asked, because access lists and mounts decide too.
    pub(super) async fn can_enter(&self, dir: &Path) -> bool {
        if !self.drops() {
            return true;
        }
        let mut command = self.command("sh");
        command.args(["-c", "cd -- \"$1\"", "sh"]).arg(dir);
        run(command, Duration::from_secs(10)).await.is_ok_and(|output| output.status.success())
    }

    /// Hands `path` over to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), PostgresError> {
        match self.drop_to {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(PostgresError::io("hand over", path)),
            None => Ok(()),
        }
    }
}

/// What `id` answers, which knows more sources of accounts than `/etc/passwd`.
async fn id(args: &[&str]) -> Option<u32> {
    let mut command = Command::new("id");
    command.args(args);
    let output = run(command, Duration::from_secs(10)).await.ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}
