//! PostgreSQL's `postmaster.pid`: what a server says about itself in its data folder.

use std::path::Path;

/// The lines of the file that the launcher uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PidFile {
    /// Line 1: the process id.
    pub(super) pid: u32,
    /// Line 4: the TCP port; absent in the first moments of a start.
    pub(super) port: Option<u16>,
    /// Line 8: the server takes connections.
    pub(super) ready: bool,
}

impl PidFile {
    /// Reads the file of a data folder; none when it is absent or (while it is being written) empty.
    pub(super) fn read(data: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// Parses the file's text. A stand-alone backend writes its process id negated; that is no server.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: lines.first()?.parse().ok().filter(|pid| *pid > 1)?,
            port: lines.get(3).and_then(|line| line.parse().ok()).filter(|port| *port != 0),
            ready: lines.get(7).is_some_and(|line| *line == "ready"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "3054\n/x/data\n1763932000\n41873\n\n127.0.0.1\n  1310729         0\nready   \n";

    #[test]
    fn a_ready_server() {
        assert_eq!(PidFile::parse(READY), Some(PidFile { pid: 3054, port: Some(41873), ready: true }));
    }

    #[test]
    fn a_server_that_starts_or_stops_is_not_ready() {
        for state in ["starting", "stopping", "standby"] {
            let file = PidFile::parse(&READY.replace("ready   ", state)).expect("the other lines are whole");
            assert!(!file.ready, "{state}");
        }
        assert_eq!(PidFile::parse("3054\n/x/data\n"), Some(PidFile { pid: 3054, port: None, ready: false }));
    }

    #[test]
    fn nonsense_is_no_server() {
        for text in ["", "\n", "-17\n/x\n", "0\n", "1\n", "99999999999\n", "abc\n"] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
    }
}
