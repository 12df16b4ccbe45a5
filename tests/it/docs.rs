//! The pages say what is so: generated parts are those the code gives, links lead somewhere, what a page names exists.
//!
//! `UPDATE_GOLDEN=1` rewrites the generated parts.

mod absences;
mod links;
mod numbers;
mod reliability;
pub mod role;
mod tables;

use std::collections::BTreeSet;

use cmk::steps::WAIT_CODES;

use crate::architecture::{root, rust_files};
use crate::support::pages;

/// All of the service's source as one text.
fn source() -> String {
    rust_files(&root().join("src"))
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("source can be read"))
        .collect()
}

/// What stands in backticks in the first cells of a page's tables below the heading, or of all its tables.
fn first_cells(page: &str, heading: &str) -> BTreeSet<String> {
    let text = pages::read(page);
    let from = text.find(heading).unwrap_or_else(|| panic!("{page} has no {heading}"));
    let section = &text[from + heading.len()..];
    let section = section.find("\n## ").map_or(section, |end| &section[..end]);
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|rest| rest.split('`').next());
    cells.map(str::to_owned).collect()
}

#[test]
fn every_reason_to_wait_is_explained() {
    let known: BTreeSet<String> = WAIT_CODES.iter().map(|code| (*code).to_owned()).collect();
    assert_eq!(first_cells("docs/api-design.md", "\n## Waits\n"), known);
}

#[test]
fn spans_fields_and_messages_are_those_of_the_source() {
    let (page, source) = ("docs/logging.md", source());
    let spans = first_cells(page, "\n## Spans\n");
    // A span's name is the first text after the macro, or the one constant that holds a name.
    let named =
        source.split("span!(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    let mut real: BTreeSet<String> = named.map(str::to_owned).filter(|name| name != "call" && name != "test").collect();
    real.insert(cmk::azure::context::SPAN.to_owned());
    assert_eq!(spans, real, "the spans of {page}");
    for field in first_cells(page, "\n## Fields\n") {
        let quoted = format!("\"{field}\"");
        let (set, left) = (format!("{field} = "), format!(" {field},"));
        assert!([quoted, set, left].iter().any(|form| source.contains(form)), "no span has the field {field}");
    }
    for message in first_cells(page, "\n## Lines worth an alert\n") {
        assert!(source.contains(&format!("\"{message}\"")), "nothing logs {message:?}");
    }
}

#[test]
fn every_variable_of_the_environment_is_explained() {
    let page = pages::read("docs/operations.md");
    let starts = ["CMK_", "AZURE_", "OTEL_", "PG_BIN_DIR", "DATABASE_URL", "RUST_LOG", "HOSTNAME"];
    let source = source();
    let quoted = source.split('"').filter(|text| {
        let is_name = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && text.len() > 4;
        is_name && starts.iter().any(|start| text.starts_with(start))
    });
    let names: BTreeSet<&str> = quoted.collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "docs/operations.md does not explain {name}");
    }
}

#[test]
fn every_dependency_has_its_reason_and_is_used() {
    let page = pages::read("docs/dependencies.md");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), cells.get(2)?.split(", ").map(str::to_owned).collect::<BTreeSet<_>>()))
    };
    let told: std::collections::BTreeMap<_, _> = page.lines().filter_map(row).collect();
    let mut real: std::collections::BTreeMap<String, BTreeSet<String>> = std::collections::BTreeMap::new();
    for (place, folder) in [("service", ""), ("simulator", "crates/azure-sim/"), ("schemas", "crates/arm-schemas/")] {
        let code: String = ["src", "tests"]
            .iter()
            .map(|dir| root().join(folder).join(dir))
            .filter(|dir| dir.is_dir())
            .flat_map(|dir| rust_files(&dir))
            .map(|file| std::fs::read_to_string(file).expect("source can be read"))
            .collect();
        for name in direct_dependencies(&pages::read(&format!("{folder}Cargo.toml"))) {
            let path = name.replace('-', "_");
            assert!(code.contains(&path), "{folder}Cargo.toml names {name}, which nothing uses");
            real.entry(name).or_default().insert(place.to_owned());
        }
    }
    assert_eq!(told, real, "docs/dependencies.md and the manifests differ");
}

/// The names in a manifest's own tables of dependencies.
fn direct_dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = matches!(line, "[dependencies]" | "[dev-dependencies]" | "[build-dependencies]");
        } else if inside && let Some((name, _)) = line.split_once(" =") {
            names.push(name.trim_end_matches(".workspace").to_owned());
        }
    }
    names
}
