//! Short-lived helper programs and signals to other processes. The server's own life is in `server`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// How many bytes of a failed program's output a message quotes.
const QUOTED: usize = 2_000;

/// Runs a program to its end and collects its output; it is killed when `within` has passed.
pub(super) async fn run(mut command: Command, within: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output();
    match tokio::time::timeout(within, output).await {
        Ok(output) => output,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end after {} s", within.as_secs()))),
    }
}

/// Waits before a caller looks again at another process. Every such look has a deadline.
#[expect(
    clippy::disallowed_methods,
    reason = "other processes tell nothing when they get ready, end or let go of a lock"
)]
pub(super) async fn pause(before_next_look: Duration) {
    tokio::time::sleep(before_next_look).await;
}

/// The end of what a program said, for a message.
pub(super) fn said(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.trim().is_empty() {
        text = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    tail(text.trim())
}

/// The last 2 000 bytes of a text, cut at a character.
pub(super) fn tail(text: &str) -> String {
    let mut from = text.len().saturating_sub(QUOTED);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

/// Sends a signal by name. The shell's own `kill` is used: the program of that name is missing from slim images.
pub(super) async fn signal(pid: u32, name: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]);
    run(command, Duration::from_secs(10)).await.is_ok_and(|output| output.status.success())
}

/// Whether process `pid` is a PostgreSQL server that was started over the folder `data`. A process id in a left-over
/// file may belong to any other program by now.
pub(super) async fn serves(pid: u32, data: &Path) -> bool {
    let arguments = match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(arguments) => arguments,
        Err(_) if Path::new("/proc/self/cmdline").exists() => return false,
        Err(_) => {
            let mut command = Command::new("ps");
            command.args(["-ww", "-o", "args=", "-p", &pid.to_string()]);
            match run(command, Duration::from_secs(10)).await {
                Ok(output) => output.stdout,
                Err(_) => return false,
            }
        }
    };
    names(&arguments, b"postgres") && names(&arguments, data.as_os_str().as_bytes())
}

fn names(arguments: &[u8], wanted: &[u8]) -> bool {
    arguments.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = "é".repeat(QUOTED);
        let cut = tail(&format!("{text}x"));
        assert!(cut.len() <= QUOTED && cut.ends_with("éx"));
        assert_eq!(tail("short"), "short");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_given_up() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = run(command, Duration::from_millis(50)).await.expect_err("sleep outlasts the time-out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn another_program_is_not_taken_for_a_server() {
        assert!(!serves(std::process::id(), Path::new("/nowhere/data")).await);
    }
}
