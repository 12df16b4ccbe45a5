//! Logs that nobody reads: a terminal that was stopped, a collector that hangs.
//!
//! What belongs here: that they hold nothing up. What does not: what is in them.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use crate::support::database::TestDatabase;
use crate::support::process::{Folder, command};
use crate::support::world::{migrate, simulator};

/// A pipe of Linux holds this much.
const PIPE: usize = 64 * 1024;

/// For a loaded machine; what is waited for comes much sooner.
const DEADLINE: Duration = Duration::from_secs(60);

/// Each is a line or more of the log; that they fill the pipe is looked at in the end.
const REQUESTS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_nobody_reads_hold_nothing_up() {
    let database = TestDatabase::new(migrate).await;
    let (sim, _schemas) = simulator(azure_sim::Options::default()).await;
    let folder = Folder::new();
    let mut serve = command(&sim, &database.url, &folder, &["serve", "--listen", "127.0.0.1:0"]);
    let mut api = serve.stderr(Stdio::piped()).spawn().expect("the program was built");
    let mut log = BufReader::new(api.stderr.take().expect("it is piped"));
    let found = tokio::task::spawn_blocking(move || {
        let line = log.by_ref().lines().map_while(Result::ok).find(|line| line.contains("the API listens"));
        (log, line.expect("it says where it listens"))
    });
    let (mut log, line) = tokio::time::timeout(DEADLINE, found).await.expect("it starts").expect("nothing panics");
    let (_, port) = line.split_once("127.0.0.1:").expect("its address");
    let address = format!("127.0.0.1:{}", port.chars().take_while(char::is_ascii_digit).collect::<String>());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client can be made");
    for n in 0..REQUESTS {
        let answer = client.get(format!("http://{address}/v1/errors")).send().await;
        assert!(answer.as_ref().is_ok_and(|a| a.status() == 200), "request {n}: {answer:?}");
    }
    let pid = api.id().to_string();
    let asked = std::process::Command::new("sh").args(["-c", "kill -s TERM \"$1\"", "sh", &pid]).status();
    assert!(asked.is_ok_and(|status| status.success()), "the signal cannot be sent");
    let ended = tokio::task::spawn_blocking(move || api.wait());
    let ended = tokio::time::timeout(DEADLINE, ended).await.expect("it ends");
    assert!(ended.is_ok_and(|status| status.is_ok_and(|status| status.success())), "in order");
    let mut unread = Vec::new();
    log.read_to_end(&mut unread).expect("what is left in the pipe");
    assert!(unread.len() >= PIPE * 9 / 10, "the pipe was not full: {}", unread.len());
}
