//! The real program as a child process, over a test's world.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use azure_sim::Simulator;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::world::World;

/// For a loaded machine; what is waited for comes much sooner.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running `cmk`. It is killed when it goes out of scope.
pub struct Program {
    child: Child,
    said: watch::Receiver<String>,
}

/// A folder of one test, deleted with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("cmk-test-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// `cmk` with these arguments over a simulator and a database, and nothing else of this process's environment.
pub fn command(sim: &Simulator, database_url: &str, folder: &Folder, arguments: &[&str]) -> std::process::Command {
    let ca = folder.0.join("ca.pem");
    // Put in place whole: a program that was started a moment ago may be reading it.
    let written = folder.0.join(format!("ca-{}.pem", uuid::Uuid::new_v4().simple()));
    std::fs::write(&written, sim.ca_pem()).expect("the folder takes a file");
    std::fs::rename(&written, &ca).expect("the folder takes a file");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cmk"));
    command.args(arguments).env_clear();
    for kept in ["PATH", "HOME", "TMPDIR"] {
        command.envs(std::env::var(kept).map(|value| (kept, value)));
    }
    command
        .env("DATABASE_URL", database_url)
        .env("CMK_CLOUD", "custom")
        .env("CMK_ARM_ENDPOINT", sim.arm_url())
        .env("CMK_LOGIN_ENDPOINT", sim.login_url())
        .env("CMK_VAULT_SUFFIX", sim.vault_suffix())
        .env("CMK_HSM_SUFFIX", sim.hsm_suffix())
        .env("CMK_GRAPH_ENDPOINT", sim.graph_url())
        .env("CMK_CA_FILE", &ca)
        .env("CMK_CREDENTIAL", "client-secret")
        .env("AZURE_TENANT_ID", sim.tenant_id())
        .env("AZURE_CLIENT_ID", sim.client_id())
        .env("AZURE_CLIENT_SECRET", sim.client_secret());
    command
}

impl Program {
    /// Starts `cmk` with these arguments over the world's database and simulator, and these variables on top.
    pub fn start(world: &World, folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(&world.sim, &world.database.url, folder, arguments);
        command.envs(variables.iter().copied());
        Self::spawn(command)
    }

    /// Starts a prepared command.
    pub fn spawn(command: std::process::Command) -> Self {
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program was built");
        let (sender, said) = watch::channel(String::new());
        collect(child.stdout.take().expect("it is piped"), sender.clone());
        collect(child.stderr.take().expect("it is piped"), sender);
        Self { child, said }
    }

    /// Its process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Everything that it wrote so far, both streams.
    pub fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// Waits until it has written this, and returns all that it wrote.
    pub async fn says(&mut self, text: &str) -> String {
        let said = tokio::time::timeout(DEADLINE, self.said.wait_for(|said| said.contains(text))).await;
        said.unwrap_or_else(|_| panic!("it does not say {text}")).expect("it still runs").clone()
    }

    /// Kills it as the kernel does that is out of memory: it gets to do nothing.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Asks it to stop.
    pub async fn terminate(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("sh").args(["-c", "kill -s TERM \"$1\"", "sh", &pid]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "the signal cannot be sent");
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> (ExitStatus, String) {
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end: {}", self.said.borrow().clone()));
        // Both readers drop their sender at the end of their stream.
        while self.said.changed().await.is_ok() {}
        (status.expect("it can be waited for"), self.said())
    }
}

fn collect(stream: impl AsyncRead + Send + Unpin + 'static, to: watch::Sender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            to.send_modify(|said| {
                said.push_str(&line);
                said.push('\n');
            });
        }
    });
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        look_again().await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process tells nothing of what it does; the caller has a deadline"
)]
async fn look_again() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
