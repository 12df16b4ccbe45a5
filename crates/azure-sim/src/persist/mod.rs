//! The state file: the whole world, the clock and the signing key as one JSON document, read at the start and written in
//! the background. What is in the world is `state`; the journal and the fault rules are not kept.

use std::io::{self, Error, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Kept as KeptClock;
use crate::entra::tokens::Signer;
use crate::options::Options;
use crate::state::{Shared, World};

/// The form of the file that this build writes and reads. New members with a default do not change it.
const FORMAT: u32 = 1;
/// The file is written at most this often.
const PAUSE: Duration = Duration::from_secs(1);
/// Every so many pauses the state is compared with the file even when nothing said that it changed: the clock may have
/// been moved, and what happens by itself need not tell.
const LOOK_EVERY: u32 = 60;

/// The document.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    written_by: String,
    tenant: String,
    subscription: String,
    clock: KeptClock,
    /// PKCS#8 DER in base64: tokens issued before a restart stay good.
    signing_key: String,
    world: World,
}

/// What every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// A state read from a file.
pub(crate) struct Kept {
    pub world: World,
    pub clock: KeptClock,
    pub signer: Arc<Signer>,
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "the state file {} is left as it is and not used: {why}; move it away to start with an empty cloud",
            path.display()
        ),
    )
}

/// Reads the file; `None` when there is none.
///
/// # Errors
/// One line that says what is wrong: unreadable, not a state file, of a newer format, of another tenant or subscription.
pub(crate) fn load(path: &Path, options: &Options) -> io::Result<Option<Kept>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, &format!("it cannot be read ({error})"))),
    };
    let head: Head = serde_json::from_slice(&text)
        .map_err(|error| refused(path, &format!("it is not a state file of azure-sim ({error})")))?;
    if head.format != FORMAT {
        return Err(refused(
            path,
            &format!("it has format {}, this azure-sim reads and writes format {FORMAT}", head.format),
        ));
    }
    let document: Document =
        serde_json::from_slice(&text).map_err(|error| refused(path, &format!("it is damaged ({error})")))?;
    for (what, have, want) in [
        ("tenant", &document.tenant, &options.tenant_id),
        ("subscription", &document.subscription, &options.subscription_id),
    ] {
        if !have.eq_ignore_ascii_case(want) {
            return Err(refused(path, &format!("its {what} is {have}, not {want}")));
        }
    }
    let signer = B64
        .decode(&document.signing_key)
        .ok()
        .and_then(|der| Signer::from_pkcs8(&der).ok())
        .ok_or_else(|| refused(path, "its signing key is damaged"))?;
    Ok(Some(Kept { world: document.world, clock: document.clock, signer: Arc::new(signer) }))
}

/// The state as the file holds it. The world is copied under its lock and written out after that.
fn document(shared: &Shared) -> io::Result<Vec<u8>> {
    let world = shared.world(|w| w.clone());
    let document = Document {
        format: FORMAT,
        written_by: format!("azure-sim {}", env!("CARGO_PKG_VERSION")),
        tenant: shared.options.tenant_id.clone(),
        subscription: shared.options.subscription_id.clone(),
        clock: shared.clock.kept(),
        signing_key: B64.encode(shared.signer.pkcs8()?),
        world,
    };
    serde_json::to_vec(&document).map_err(Error::other)
}

/// Replaces the file in one step, so that a crash leaves the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().map(std::ffi::OsStr::to_os_string).unwrap_or_default();
    name.push(".new");
    let fresh: PathBuf = folder.join(name);
    let mut file = crate::env_file::open_private(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    // The rename itself is on the disk once the folder is.
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Who writes the file.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    written: Vec<u8>,
}

impl Writer {
    /// A writer to a path whose folder is made where it is missing.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self { path, written: Vec::new() })
    }

    /// Writes the state now, unless the file holds it already.
    pub fn write(&mut self, shared: &Shared) -> io::Result<()> {
        let bytes = document(shared)?;
        let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes).as_ref().to_vec();
        if print != self.written {
            replace(&self.path, &bytes)?;
            self.written = print;
        }
        Ok(())
    }

    /// Writes in the background until told to stop, and hands itself back for the last write.
    pub async fn run(mut self, shared: Arc<Shared>, stop: CancellationToken) -> Self {
        let mut pauses = tokio::time::interval(PAUSE);
        pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return self,
                _ = pauses.tick() => {}
            }
            idle += 1;
            if !shared.dirty.swap(false, Ordering::Relaxed) && idle < LOOK_EVERY {
                continue;
            }
            idle = 0;
            let (mut writer, state) = (self, shared.clone());
            let written = tokio::task::spawn_blocking(move || {
                let written = writer.write(&state);
                (writer, written)
            });
            let Ok((writer, written)) = written.await else {
                // Only a panic or the runtime's end comes here; the last write is then impossible as well.
                return Self { path: PathBuf::new(), written: Vec::new() };
            };
            self = writer;
            if let Err(error) = written {
                shared.dirty.store(true, Ordering::Relaxed);
                tracing::error!(%error, path = %self.path.display(), "could not write the state file; trying again");
            }
        }
    }
}
