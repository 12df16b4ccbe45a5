//! The process that ends a server whose launcher was killed. It does nothing while the launcher lives.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::folder::Folder;
use super::process::pause;

/// Reads what the launcher says about the server, then waits for the end of its input, which comes when the launcher is
/// gone, however it ended: only the launcher holds the pipe's other end. A process is only signalled while PostgreSQL's
/// own `postmaster.pid` names it, or in the moments before a start has written that file. `$1` data folder, `$2` a
/// folder to delete at the end, or empty.
const SCRIPT: &str = r#"
trap '' HUP INT TERM QUIT
data=$1
state=stopped
while read -r word number; do state=$word; pid=$number; done
serving() { [ "$(head -n 1 "$data/postmaster.pid" 2>/dev/null)" = "$pid" ] && kill -0 "$pid" 2>/dev/null; }
pause() { tries=$((tries + 1)); sleep 0.1 2>/dev/null || sleep 1; }
if [ "$state" = starting ]; then
  tries=0
  while ! serving && kill -0 "$pid" 2>/dev/null && [ $tries -lt 20 ]; do pause; done
  if ! serving; then kill -s KILL "$pid" 2>/dev/null; fi
fi
if [ "$state" != stopped ] && serving; then
  kill -s INT "$pid" 2>/dev/null
  tries=0
  while serving && [ $tries -lt 100 ]; do pause; done
  if serving; then kill -s KILL "$pid" 2>/dev/null; fi
fi
if [ -n "$2" ]; then rm -rf -- "$2"; fi
"#;

/// What the launcher tells its watchdog about the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Server {
    /// Spawned, perhaps not far enough to have its `postmaster.pid`.
    Starting(u32),
    /// Takes connections.
    Running(u32),
    /// Gone; its process id may be somebody else's soon.
    Stopped,
}

/// A running watchdog. When it is dropped, it goes to work.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    line: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts a watchdog over a data folder; `delete` says that the whole folder goes with the server.
    pub(super) fn start(folder: &Folder, delete: bool) -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "cmk-watchdog"]).arg(folder.data());
        command.arg(if delete { folder.root.as_path() } else { Path::new("") });
        // The standard library closes the pipe's end in every other child. Output is not inherited: a caller that
        // reads the launcher's output to its end must not wait for the watchdog. Its own group: Ctrl-C is for the
        // launcher.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").process_group(0);
        let mut child = command.spawn()?;
        let line = child.stdin.take();
        Ok(Self { child, line })
    }

    /// Tells how the server is.
    pub(super) fn tell(&mut self, server: Server) -> io::Result<()> {
        let Some(line) = &mut self.line else { return Err(io::ErrorKind::BrokenPipe.into()) };
        match server {
            Server::Starting(pid) => writeln!(line, "starting {pid}"),
            Server::Running(pid) => writeln!(line, "running {pid}"),
            Server::Stopped => writeln!(line, "stopped 0"),
        }
    }

    /// Lets the watchdog do its work and waits for its end.
    pub(super) async fn finish(mut self, within: Duration) -> io::Result<()> {
        drop(self.line.take());
        let deadline = Instant::now() + within;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            pause(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}
