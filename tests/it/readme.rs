//! The README does what it says: the lines of its tour are run against a real `cmk dev`, in order, in one shell, and what
//! they print is compared with what the README shows.
//!
//! What differs from run to run is made equal first, see [`made_equal`]. `UPDATE_GOLDEN=1` puts the new output in.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cmk::domain::job::JobKind;
use cmk::domain::request::{IdentityKind, KeyVersion};
use cmk::services::{self, ServiceDescriptor, rules};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::database::TestDatabase;
use crate::support::pages;
use crate::support::world::migrate;

const PAGE: &str = "README.md";
const TOUR: &str = "\n## Five minutes with it\n";
/// The tour's first command. The test starts the same program itself.
const DEV: &str = "cargo run -- dev";
/// Far more than a slow machine needs; the tour takes about half a minute.
const DEADLINE: Duration = Duration::from_secs(240);
/// Printed between the outputs of two blocks.
const MARK: &str = "== end of block";

/// A block of commands and where its output is shown, if it is.
#[derive(Debug)]
struct Block {
    commands: String,
    output: Option<Range<usize>>,
}

/// The tour's blocks: each `sh` fence, with the `text` fence that follows it before any other.
fn blocks(page: &str) -> Vec<Block> {
    let start = page.find(TOUR).expect("the README has the tour") + TOUR.len();
    let end = page[start..].find("\n## ").map_or(page.len(), |at| start + at);
    let mut blocks: Vec<Block> = Vec::new();
    let mut at = start;
    while let Some(open) = page[at..end].find("```").map(|found| at + found) {
        let body = open + page[open..].find('\n').expect("a fence ends its line") + 1;
        let close = body + page[body..].find("```").expect("a fence is closed");
        match page[open + 3..body].trim() {
            "sh" => blocks.push(Block { commands: page[body..close].to_owned(), output: None }),
            "text" => {
                let block = blocks.last_mut().expect("output follows commands");
                assert!(block.output.replace(body..close).is_none(), "two outputs of {}", block.commands);
            }
            other => panic!("the tour has a fence of {other:?}: only sh and text are understood"),
        }
        at = close + 3;
    }
    blocks
}

/// What is different in every run, as patterns: `x` is a hexadecimal digit, `0` a digit, `+` the rest of a number.
const VOLATILE: &[(&str, &str)] = &[
    ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "<uuid>"),
    ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "<version>"),
    ("0000-00-00T00:00:00+Z", "<time>"),
    ("00:00:00", "<time>"),
    ("\"seq\":+", "\"seq\":<n>"),
    ("\"looks\":+", "\"looks\":<n>"),
    ("retry-after: +", "retry-after: <n>"),
    ("etag: \"+\"", "etag: \"<n>\""),
];

/// The output without what differs from run to run: ids, versions, times and counters; lines that tell of a wait, because
/// how often a job waits is a matter of speed; and which PostgreSQL was found.
fn made_equal(output: &str) -> String {
    let waits = |line: &&str| {
        ["  waits  ", "  retries  ", "\"step-waiting\"", "\"step-retrying\""].iter().any(|word| line.contains(word))
    };
    let lines = output.trim().lines().filter(|line| !waits(line));
    let lines = lines.map(|line| if line.starts_with("database ") { "database <which>" } else { line.trim_end() });
    let mut lines: Vec<String> = lines.map(without_volatile).collect();
    // Steps that run at the same time end in any order.
    // The service's own grant needs the key store only, so it may end before the identity is there.
    let at_once = ["ensure-key-store", "ensure-identity", "grant-own-access", "grant-identity-access"];
    let of_these = |line: &String| at_once.iter().any(|name| line.contains(name));
    for group in lines.chunk_by_mut(|a, b| of_these(a) && of_these(b)) {
        group.sort();
    }
    // And so do their requests.
    let of_journal = |line: &String| line.starts_with("\"method\"");
    for group in lines.chunk_by_mut(|a, b| of_journal(a) && of_journal(b)) {
        group.sort();
    }
    lines.join("\n")
}

fn without_volatile(line: &str) -> String {
    let mut equal = String::new();
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        let found = VOLATILE.iter().find_map(|(pattern, name)| Some((matched(pattern, rest)?, name)));
        let len = match found {
            Some((len, name)) => {
                equal.push_str(name);
                len
            }
            None => {
                equal.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    equal
}

/// How many bytes of the text's beginning the pattern matches.
fn matched(pattern: &str, text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    for wanted in pattern.bytes() {
        if wanted == b'+' {
            at += bytes[at..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
            continue;
        }
        let byte = *bytes.get(at)?;
        let fits = match wanted {
            b'x' => byte.is_ascii_hexdigit(),
            b'0' => byte.is_ascii_digit(),
            _ => byte == wanted,
        };
        if !fits {
            return None;
        }
        at += 1;
    }
    Some(at)
}

/// A running `cmk dev` in a folder of its own.
struct Dev {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    printed: String,
    api: String,
    simulator: String,
}

impl Dev {
    /// Starts it and reads what it prints until it is ready.
    async fn start(folder: &Path, database_url: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cmk"))
            .args(["dev", "--listen", "127.0.0.1:0", "--sim-listen", "127.0.0.1:0"])
            .current_dir(folder)
            .env("DATABASE_URL", database_url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let mut dev = Self { child, lines, printed: String::new(), api: String::new(), simulator: String::new() };
        timeout(DEADLINE, dev.read_until_ready()).await.expect("cmk dev is ready in time");
        dev
    }

    async fn read_until_ready(&mut self) {
        loop {
            let line = self.lines.next_line().await.expect("its output can be read");
            let Some(line) = line else { panic!("cmk dev ended after:\n{}", self.printed) };
            let port =
                |line: &str| line.split("  ").find_map(|part| part.rsplit_once(':').map(|(_, port)| port.to_owned()));
            if let Some(about) = line.strip_prefix("simulator  ") {
                self.simulator = port(about).expect("the simulator's port");
            }
            if let Some(about) = line.strip_prefix("API        ") {
                self.api = port(about).expect("the API's port");
            }
            self.printed += &(line.clone() + "\n");
            if line.starts_with("  docs: ") {
                return;
            }
        }
    }

    /// The lines with this run's ports.
    fn with_ports(&self, text: &str) -> String {
        text.replace(":8080", &format!(":{}", self.api)).replace(":8443", &format!(":{}", self.simulator))
    }

    /// The output with the README's ports.
    fn without_ports(&self, text: &str) -> String {
        text.replace(&format!(":{}", self.api), ":8080").replace(&format!(":{}", self.simulator), ":8443")
    }

    /// Ctrl-C.
    async fn interrupt(mut self) {
        let id = self.child.id().expect("it still runs").to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().await.expect("kill can be run");
        assert!(sent.success());
        let ended = timeout(DEADLINE, self.child.wait()).await.expect("Ctrl-C ends it in time");
        assert!(ended.expect("its end is seen").success(), "Ctrl-C ends it cleanly");
    }
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cmk-readme-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Runs the blocks in one bash and answers what each printed.
async fn run(folder: &Path, commands: &[String]) -> Vec<String> {
    let mut script = "exec 2>&1\n".to_owned();
    for block in commands {
        script += &format!("{block}\necho\necho '{MARK}'\n");
    }
    let shell = Command::new("bash")
        .args(["-u", "-c", &script])
        .current_dir(folder)
        .envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = timeout(DEADLINE, shell).await.expect("the tour ends in time").expect("bash can be run");
    let printed = String::from_utf8_lossy(&done.stdout).replace('\r', "");
    let mut outputs: Vec<String> = printed.split(&format!("{MARK}\n")).map(str::to_owned).collect();
    assert_eq!(outputs.pop().as_deref(), Some(""), "the shell ended early: {printed}");
    assert_eq!(outputs.len(), commands.len(), "{printed}");
    outputs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_prints_what_the_readme_shows() {
    let page = pages::read(PAGE);
    let blocks = blocks(&page);
    let (first, rest) = blocks.split_first().expect("the tour has commands");
    assert_eq!(first.commands.trim(), DEV, "the tour begins with the first of the two commands");
    let (folder, database) = (Folder::new(), TestDatabase::new(migrate).await);
    let dev = Dev::start(&folder.0, &database.url).await;
    let commands: Vec<String> = rest.iter().map(|block| dev.with_ports(&block.commands)).collect();
    let mut outputs = vec![dev.printed.clone()];
    outputs.extend(run(&folder.0, &commands).await);
    let outputs: Vec<String> = outputs.iter().map(|output| dev.without_ports(output)).collect();
    dev.interrupt().await;

    let mut stale = Vec::new();
    for (index, (block, output)) in blocks.iter().zip(outputs).enumerate() {
        let Some(shown) = block.output.clone() else {
            assert_eq!(output.trim(), "", "this block prints nothing in the README:\n{}", block.commands);
            continue;
        };
        if made_equal(&page[shown.clone()]) != made_equal(&output) {
            stale.push((index, shown, output));
        }
    }
    if pages::updating() {
        // Another test may have changed the page meanwhile, so places are looked for again, the last one first.
        pages::rewrite(PAGE, |page| {
            let (mut changed, places) = (page.to_owned(), self::blocks(page));
            for (index, _, output) in stale.drain(..).rev() {
                let place = places[index].output.clone().expect("the block shows its output");
                changed.replace_range(place, &(output.trim_matches('\n').to_owned() + "\n"));
            }
            changed
        });
    }
    let told: Vec<String> = stale
        .iter()
        .map(|(_, shown, now)| {
            format!("--- README\n{}\n--- now\n{}", made_equal(&page[shown.clone()]), made_equal(now))
        })
        .collect();
    assert!(told.is_empty(), "the README shows something else; UPDATE_GOLDEN=1 puts this in:\n{}", told.join("\n"));
}

#[test]
fn the_services_table_is_the_catalogue() {
    let kinds = |kinds: &[IdentityKind]| match kinds {
        [] => "no".to_owned(),
        kinds => kinds.iter().map(|kind| rules::identity_word(*kind)).collect::<Vec<_>>().join(", "),
    };
    let row = |d: &ServiceDescriptor| {
        let keys: Vec<&str> = d.key_types.iter().map(|t| t.as_str()).collect();
        let sizes: Vec<String> = d.key_sizes.iter().map(u16::to_string).collect();
        [
            format!("`{}`", d.slug),
            format!("`{}`", d.arm_type),
            if d.changes_existing { kinds(&d.identity_kinds) } else { "no".to_owned() },
            kinds(&d.identity_kinds_at_creation),
            format!("{}; {} bits", keys.join(", "), sizes.join(", ")),
            d.key_versions.iter().map(|v| version_word(*v)).collect::<Vec<_>>().join(", "),
            if d.managed_hsm { "yes" } else { "no" }.to_owned(),
        ]
    };
    let head =
        ["service", "Azure type", "existing: identity", "created: identity", "keys", "key versions", "Managed HSM"];
    pages::hold(PAGE, "services", &pages::table(head, services::ALL.iter().map(row)));
}

fn version_word(version: KeyVersion) -> &'static str {
    match version {
        KeyVersion::Latest => "latest",
        KeyVersion::Pinned => "pinned",
    }
}

#[test]
fn the_limits_are_still_true() {
    let page = pages::read(PAGE);
    assert_eq!(page.contains("One kind of job so far"), JobKind::ALL.len() == 1);
    for name in services::ALL.iter().map(|d| d.slug.as_str()).chain(JobKind::ALL.iter().map(|k| k.as_str())) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn what_differs_from_run_to_run_is_made_equal() {
    for (line, want) in [
        ("at 2026-11-23T22:25:35.910042757Z", "at <time>"),
        ("from 22:25:28", "from <time>"),
        ("{\"seq\":12,\"id\":\"01a20a83-9d34-751f-92b8-a44dedd396a9\"}", "{\"seq\":<n>,\"id\":\"<uuid>\"}"),
        ("keys/k/3bc1eca8c766461caaa8c60ddc65f158", "keys/k/<version>"),
        ("etag: \"78\"", "etag: \"<n>\""),
        ("HTTP/1.1 202 Accepted – ü", "HTTP/1.1 202 Accepted – ü"),
    ] {
        assert_eq!(without_volatile(line), want);
    }
    assert_eq!(made_equal("a\n  waits  b\nc \n\n"), "a\nc");
}
