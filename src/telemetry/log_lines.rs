//! Lines of the log on their way out: written by a thread of their own, many at a time.
//!
//! What belongs here: keeping lines, within a bound, until that thread has written them. What does not: what is in them.
//!
//! A terminal that is stopped or a collector that hangs must not stop requests, nor signs of life of leases, so nobody but
//! this thread ever waits for it; lines that have no place are left out and counted. `tracing-appender` does that too, and
//! wakes its thread for each line: with it the API refused fewer requests a second in both of two pairs of runs on two cores.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// How many bytes wait to be written at most.
const WAITING: usize = 1024 * 1024;

/// How long lines are gathered before they are written together.
const GATHERED: Duration = Duration::from_millis(5);

/// How long the end waits for what is left.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// Takes lines. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogLines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    left_out: u64,
    ending: bool,
    ended: bool,
}

impl LogLines {
    /// Starts the thread that writes to `out`.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self::default();
        let shared = Arc::clone(&lines.0);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all_to(out))?;
        Ok(lines)
    }

    /// Writes what is left, which takes a second at most. How many lines were left out.
    pub(crate) fn end(&self) -> u64 {
        let mut state = self.0.lock();
        state.ending = true;
        self.0.changed.notify_all();
        let until = Instant::now() + ENDED_WITHIN;
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.0.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.left_out
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut out: impl Write) {
        let mut writing = Vec::new();
        loop {
            let state = self.changed.wait_while(self.lock(), |state| state.waiting.is_empty() && !state.ending);
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let gathered = self.changed.wait_timeout_while(state, GATHERED, |state| !state.ending);
            let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
            std::mem::swap(&mut state.waiting, &mut writing);
            let last = state.ending;
            drop(state);
            // Nowhere is left to say that this failed.
            let _ = out.write_all(&writing).and_then(|()| out.flush());
            writing.clear();
            if last {
                break;
            }
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

impl Write for LogLines {
    /// Takes a whole line: `tracing_subscriber` hands out no part of one.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() > WAITING {
            state.left_out += 1;
            return Ok(line.len());
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if first {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LogLines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Writes when it is let.
    struct Gate(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().expect("nobody panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_order_and_the_last_ones_at_the_end() {
        let (open, gate) = mpsc::channel();
        drop(open);
        let written = Arc::default();
        let mut lines = LogLines::start(Gate(gate, Arc::clone(&written))).expect("a thread can be started");
        for n in 0..1000 {
            writeln!(lines, "line {n}").expect("it is taken");
        }
        assert_eq!(lines.end(), 0);
        let want: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&written.lock().expect("nobody panics with it")), want);
    }

    #[test]
    fn what_nobody_reads_is_bounded_and_holds_nobody_up() {
        let (_never, gate) = mpsc::channel();
        let mut lines = LogLines::start(Gate(gate, Arc::default())).expect("a thread can be started");
        let line = [b'x'; 1024];
        for _ in 0..3000 {
            lines.write_all(&line).expect("it is taken");
        }
        // One lot may be on its way already.
        assert!((952..=1976).contains(&lines.end()), "3,000 lines of which 1,024 wait");
    }
}
