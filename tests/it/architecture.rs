//! The rules of the house that a machine can hold: who imports whom, file sizes, module docs, licences, wire strings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MAX_LINES: usize = 450;

/// Top-level module → the top-level modules it may import. `lib.rs` and `main.rs` see everything.
pub fn import_table() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let table: [(&str, &[&str]); 14] = [
        ("clock", &[]),
        ("telemetry", &[]),
        ("domain", &[]),
        ("services", &["domain"]),
        // Of the domain only ids, failure, codes and retry; held below.
        ("azure", &["domain", "clock", "telemetry"]),
        ("steps", &["domain", "services", "azure", "clock", "telemetry"]),
        ("plan", &["domain", "services", "steps"]),
        ("store", &["domain", "plan", "steps", "clock"]),
        // Reads Azure for the API, through the steps' own looks; it has no way to a change.
        ("survey", &["domain", "plan", "steps", "azure", "clock"]),
        ("engine", &["domain", "plan", "steps", "store", "azure", "clock", "telemetry"]),
        ("api", &["domain", "services", "plan", "store", "survey", "clock", "telemetry"]),
        ("config", &["api", "azure", "engine"]),
        ("app", &["api", "azure", "clock", "config", "engine", "store", "survey", "telemetry"]),
        ("dev", &["app", "azure", "clock", "config", "domain", "engine", "store", "survey", "telemetry"]),
    ];
    table.into_iter().map(|(module, may)| (module, may.iter().copied().collect())).collect()
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn all_rust_files() -> Vec<PathBuf> {
    ["src", "tests", "crates"].iter().flat_map(|dir| rust_files(&root().join(dir))).collect()
}

/// The top-level module a file of `src/` belongs to.
fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(root().join("src")).expect("a file of src");
    let first = relative.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Every `crate::a::b` in the text, as `a` and `b`; groups in braces are opened one level.
fn crate_paths(text: &str) -> Vec<(String, String)> {
    let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if let Some(group) = rest.strip_prefix('{') {
            let end = group.find('}').unwrap_or(group.len());
            found.extend(group[..end].split(',').map(|part| (word(part.trim()), String::new())));
        } else {
            let first = word(rest);
            let second = rest[first.len()..].strip_prefix("::").map(word).unwrap_or_default();
            found.push((first, second));
        }
    }
    found.retain(|(first, _)| !first.is_empty());
    found
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let table = import_table();
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")) {
        let module = module_of(&file);
        if module == "lib" || module == "main" {
            continue;
        }
        let may = table.get(module.as_str()).unwrap_or_else(|| panic!("{module} is not in the import table"));
        let text = fs::read_to_string(&file).expect("the file can be read");
        for (first, second) in crate_paths(&text) {
            let known = table.contains_key(first.as_str());
            if known && first != module && !may.contains(first.as_str()) {
                wrong.push(format!("{}: crate::{first}", file.display()));
            }
            let shared = ["ids", "failure", "codes", "retry", ""];
            if module == "azure" && first == "domain" && !shared.contains(&second.as_str()) {
                wrong.push(format!("{}: crate::domain::{second}", file.display()));
            }
        }
        let names_simulator = text.contains("azure_sim::");
        if names_simulator && module != "dev" {
            wrong.push(format!("{}: only dev knows the simulator", file.display()));
        }
    }
    assert!(wrong.is_empty(), "imports against the table:\n{}", wrong.join("\n"));
}

#[test]
fn the_simulator_shares_nothing_with_the_service() {
    let manifest = fs::read_to_string(root().join("crates/azure-sim/Cargo.toml")).expect("its manifest");
    assert!(!manifest.lines().any(|l| l.starts_with("cmk")), "the simulator must not depend on the service");
    assert!(!manifest.contains("azure_core"), "the simulator is written from the protocol, not from the SDK");
    for file in rust_files(&root().join("crates/azure-sim")) {
        let text = fs::read_to_string(&file).expect("the file can be read");
        assert!(!text.contains("cmk::domain") && !text.contains("use cmk"), "{}", file.display());
    }
}

#[test]
fn sql_is_written_in_the_store_only() {
    for file in rust_files(&root().join("src")) {
        let module = module_of(&file);
        let text = fs::read_to_string(&file).expect("the file can be read");
        let has_sql = text.contains("sqlx::query") || text.contains("query_as(") || text.contains("AssertSqlSafe");
        // The launcher of the private server makes databases, which no store can.
        assert!(
            !has_sql || module == "store" || file.ends_with("dev/postgres/mod.rs") || text_is_test(&text),
            "{}",
            file.display()
        );
    }
}

fn text_is_test(text: &str) -> bool {
    text.find("#[cfg(test)]").is_some_and(|tests| !text[..tests].contains("sqlx::query"))
}

#[test]
fn files_stay_short_and_say_what_belongs_in_them() {
    let mut wrong = Vec::new();
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).expect("the file can be read");
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines", file.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not start with a module doc", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_test_is_skipped_and_none_sleeps() {
    let banned =
        [concat!("#[ig", "nore"), concat!("thread::", "sleep"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).expect("the file can be read");
        for word in banned {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    const ALLOWED: &[&str] = &[
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "Unicode-3.0",
        "0BSD",
        "CC0-1.0",
        "Unlicense",
        "MIT-0",
        "CDLA-Permissive-2.0",
        "BSL-1.0",
        "OpenSSL",
        "Apache-2.0 WITH LLVM-exception",
    ];
    // Packages of other platforms are not downloaded by a build, and `--offline` would ask for them.
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names its host");
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo prints JSON");
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let licence = package["license"].as_str().unwrap_or("");
        let allowed = |l: &str| ALLOWED.contains(&l.trim().trim_matches(['(', ')']));
        // Every part of a conjunction must be allowed, and one of a choice.
        let fine = !licence.is_empty()
            && licence.split(" AND ").all(|part| part.split(" OR ").flat_map(|p| p.split('/')).any(allowed));
        if !fine {
            wrong.push(format!("{}: {licence:?}", package["name"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
