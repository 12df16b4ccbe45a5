//! Writes the table of types out for readers: `TYPES.md` of this crate, held by a test and rewritten with
//! `UPDATE_GOLDEN=1`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::arm::generic::kind::Kind;
use crate::arm::generic::kinds;
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, Version, When};

const HEAD: &str = "# The types of the generic provider

Every ARM type that the generic provider plays, with the rules for its key and the provider's own files of `tests/it/` that ask for it. Written by a
test from the table in `src/arm/generic/kinds/`; `just golden` rewrites it. Facts that are
UNVERIFIED are told in the README and beside the entries.

- **key at**: where the body names the key; a key URL, or vault, name and version apart, or through another resource.
- **version**: whether the caller may, must or must not name one. **newer ones**: whether the service goes over to a newer version by
  itself.
- **looks as**: whose right to the key counts. **on**: when the key can be put on. **off**: whether it can be taken off again.
  **HSM**: whether keys of a managed HSM are taken.

| type | since | key at | version | newer ones | looks as | on | off | HSM | tests |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

/// The files of tests that are the generic provider's: name and text.
struct Tests(Vec<(String, String)>);

impl Tests {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
        let mut files: Vec<(String, String)> = fs::read_dir(folder)
            .expect("the tests are there")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "rs"))
            .map(|path| {
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                (name, fs::read_to_string(path).expect("is text"))
            })
            .filter(|(name, _)| name.starts_with("generic") || name.starts_with("kinds_"))
            .collect();
        files.sort();
        Self(files)
    }

    /// The files that ask for the type: by its name, or, for a child, by its parent's name and its own last part in a path.
    fn of(&self, kind: &Kind) -> Vec<&str> {
        let last = kind.name.rsplit('/').next().unwrap_or_default();
        let quoted = format!("\"{}\"", kind.name);
        let in_paths = [format!("/{last}/"), format!("/{last}\""), format!("\"{last}\"")];
        let asks = |text: &str| {
            text.contains(&quoted)
                || kind.parent().or(kind.extends).is_some_and(|parent| match parent {
                    // The tests' own client names accounts by a method.
                    "Microsoft.Storage/storageAccounts" => text.contains("account_id(") && text.contains(&in_paths[0]),
                    parent => {
                        text.contains(&format!("\"{parent}\"")) && in_paths.iter().any(|part| text.contains(part))
                    }
                })
        };
        self.0.iter().filter(|(_, text)| asks(text)).map(|(name, _)| name.as_str()).collect()
    }
}

fn key_at(rule: &Cmk) -> String {
    let at = |pointer: &str| pointer.trim_start_matches("/properties/").trim_start_matches('/').replace('/', ".");
    match rule.key {
        KeyAt::Url(url) => format!("`{}`", at(url)),
        KeyAt::Split { vault, name, version } | KeyAt::ByVaultId { vault, name, version } => {
            let rest = [name, version].map(|p| p.rsplit('/').next().unwrap_or_default());
            let rest: Vec<&str> = rest.into_iter().filter(|p| !p.is_empty()).collect();
            format!("`{}`, `{}`", at(vault), rest.join("`, `"))
        }
        KeyAt::Found(_) => "another resource".to_owned(),
    }
}

fn looks(looks: &Looks) -> &'static str {
    match looks {
        Looks::ArmId(_) => "the identity named by ARM id, else system-assigned",
        Looks::ClientId(_) => "the identity named by client id, else system-assigned",
        Looks::ArmIdElse(..) => "the identity named by ARM id, else Azure's own principal",
        Looks::NamedById(_) => "an identity named by ARM id",
        Looks::NamedByClient(_) => "an identity named by client id",
        Looks::Cosmos(_) => "Cosmos DB's default identity",
        Looks::Own => "the resource's identity",
        Looks::System => "system-assigned",
        Looks::FirstParty(_) => "Azure's own principal",
        Looks::Parent(_) => "the parent's",
        Looks::ParentByClient(_) => "the parent's identity named by client id",
        Looks::Made(_) => "a principal that the service makes",
    }
}

fn row(kind: &Kind, rule: Option<&Cmk>, tests: &str) -> String {
    let Some(rule) = rule else {
        return format!("| {} | {} | – | | | | | | | {tests} |", kind.name, kind.since);
    };
    let part = match rule.part.trim_start_matches('/') {
        "" => String::new(),
        part => format!(" ({part})"),
    };
    let version = match rule.version {
        Version::Any => "may",
        Version::Required => "must",
        Version::Forbidden => "must not",
    };
    let newer = match rule.follows {
        Follows::Versionless => "without a version",
        Follows::Flag(_) => "by a switch",
        Follows::Never => "no",
    };
    let on = match rule.when {
        When::Anytime => "any time",
        When::AtCreation => "creation",
        When::Empty(_) => "while empty",
    };
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let (off, hsm) = (yes(rule.back == Back::Yes), yes(rule.hsm));
    format!(
        "| {}{part} | {} | {} | {version} | {newer} | {} | {on} | {off} | {hsm} | {tests} |",
        kind.name,
        kind.since,
        key_at(rule),
        looks(&rule.looks)
    )
}

#[test]
fn types_md() {
    let tests = Tests::read();
    let mut all: Vec<&Kind> = kinds::all().collect();
    all.sort_by_key(|kind| kind.name);
    let mut text = HEAD.to_owned();
    let mut untested = Vec::new();
    for kind in all {
        let files = tests.of(kind);
        if files.is_empty() {
            untested.push(kind.name);
        }
        let files = format!("`{}`", files.join("`, `"));
        if kind.cmk.is_empty() {
            writeln!(text, "{}", row(kind, None, &files)).expect("text takes text");
        }
        for rule in kind.cmk {
            writeln!(text, "{}", row(kind, Some(rule), &files)).expect("text takes text");
        }
    }
    assert!(untested.is_empty(), "no test asks for {untested:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("TYPES.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("the file can be written");
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(stored, text, "TYPES.md differs; `just golden` rewrites it if the change is meant");
}
