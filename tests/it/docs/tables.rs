//! Parts of pages that are generated: modules, settings, calls, events, codes.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::Args;
use cmk::config::{ApiArgs, AzureArgs, DatabaseArgs, WorkerArgs};
use cmk::domain::codes::{Code, CodeInfo};
use cmk::domain::reader::FIELD_ERROR_CODES;
use cmk::store::EventKind;

use crate::architecture::{import_table, root};
use crate::support::pages::{self, hold, table};

/// The first sentence of a file's documentation.
fn first_sentence(file: &std::path::Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text.lines().map_while(|line| line.strip_prefix("//! "));
    let paragraph = lines.collect::<Vec<_>>().join(" ");
    paragraph.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned() + "."
}

#[test]
fn the_map_is_the_modules_and_the_import_table() {
    let imports = import_table();
    let lib = pages::read("src/lib.rs");
    let modules: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules.iter().copied().collect::<BTreeSet<_>>(), imports.keys().copied().collect());
    let row = |module: &&str| {
        let folder = root().join("src").join(module);
        let (place, file) = match folder.is_dir() {
            true => (format!("`src/{module}/`"), folder.join("mod.rs")),
            false => (format!("`src/{module}.rs`"), folder.with_extension("rs")),
        };
        let may = imports[module].iter().copied().collect::<Vec<_>>().join(", ");
        [place, first_sentence(&file), if may.is_empty() { "nothing of ours".to_owned() } else { may }]
    };
    hold("ARCHITECTURE.md", "modules", &table(["module", "what it is", "may import"], modules.iter().map(row)));
}

/// One group of flags and the commands that take it.
fn settings() -> Vec<(&'static [&'static str], clap::Command)> {
    let empty = || clap::Command::new("cmk");
    vec![
        (&["serve", "work", "migrate"], DatabaseArgs::augment_args(empty())),
        (&["serve"], ApiArgs::augment_args(empty())),
        (&["work"], WorkerArgs::augment_args(empty())),
        (&["serve", "work"], AzureArgs::augment_args(empty())),
    ]
}

#[test]
fn the_settings_are_the_flags() {
    let mut rows = vec![[
        "`--log-format`".to_owned(),
        "`CMK_LOG_FORMAT`".to_owned(),
        "`text`".to_owned(),
        "all".to_owned(),
        "How logs look on standard error. One of `text`, `json`.".to_owned(),
    ]];
    let mut flags: BTreeSet<(&str, String)> = BTreeSet::new();
    for (commands, group) in settings() {
        for arg in group.get_arguments() {
            let flag = format!("--{}", arg.get_long().expect("every setting has a flag"));
            let variable = arg.get_env().expect("every setting has a variable").to_string_lossy().into_owned();
            let defaults: Vec<_> =
                arg.get_default_values().iter().map(|v| format!("`{}`", v.to_string_lossy())).collect();
            let values: Vec<_> = arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
            let mut meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if !values.is_empty() && arg.get_action().takes_values() {
                meaning = format!("{}. One of {}", meaning.trim_end_matches('.'), values.join(", "));
            }
            flags.extend(commands.iter().map(|command| (*command, flag.clone())));
            let who = if commands.len() == 3 { "all".to_owned() } else { commands.join(", ") };
            let meaning = meaning.trim_end_matches('.').to_owned() + ".";
            rows.push([format!("`{flag}`"), format!("`{variable}`"), defaults.join(", "), who, meaning]);
        }
    }
    flags.extend(["serve", "work", "migrate"].map(|command| (command, "--log-format".to_owned())));
    assert_eq!(flags_in_help(), flags, "the program has other flags than the page");
    hold("docs/operations.md", "settings", &table(["flag", "variable", "default", "for", "meaning"], rows));
}

/// What the program itself says.
fn flags_in_help() -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    for command in ["serve", "work", "migrate"] {
        let out = Command::new(env!("CARGO_BIN_EXE_cmk")).args([command, "--help"]).output().expect("the program runs");
        let help = String::from_utf8_lossy(&out.stdout).into_owned();
        let words = help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split_whitespace().next());
        found.extend(words.map(|word| (command, format!("--{word}"))));
    }
    found
}

#[test]
fn the_calls_are_those_of_the_contract() {
    let document: serde_json::Value =
        serde_json::from_str(&pages::read("openapi/openapi.json")).expect("the contract is JSON");
    let mut rows = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, call) in item.as_object().expect("a path item") {
            let text = |member: &str| call[member].as_str().unwrap_or_default().to_owned();
            let answers: Vec<&str> =
                call["responses"].as_object().expect("answers").keys().map(String::as_str).collect();
            let address = format!("`{} {path}`", method.to_uppercase());
            rows.push([address, format!("`{}`", text("operationId")), text("summary"), answers.join(", ")]);
        }
    }
    assert!(rows.len() > 12, "{}", rows.len());
    hold("docs/api-design.md", "calls", &table(["call", "operationId", "what", "answers"], rows));
}

#[test]
fn the_events_are_those_of_the_store() {
    let source = pages::read("src/store/events.rs");
    let meaning = |kind: &EventKind| {
        let start = format!("= \"{}\", \"", kind.as_str());
        let at = source.find(&start).expect("the kind is in the list") + start.len();
        source[at..].split('"').next().unwrap_or_default().to_owned()
    };
    let rows = EventKind::ALL.iter().map(|kind| [format!("`{}`", kind.as_str()), meaning(kind)]);
    hold("docs/api-design.md", "events", &table(["kind", "meaning"], rows));
}

#[test]
fn the_error_page_is_the_catalogue() {
    let entry = |info: &CodeInfo| {
        let class = serde_json::to_value(info.class).expect("a class is a word");
        let class = class.as_str().unwrap_or_default().to_owned();
        let status = info.status.map(|status| format!(", HTTP {status}")).unwrap_or_default();
        format!(
            "### {}\n\n**{}** ({class}{status}). {}\n\nWhat to do: {}\n",
            info.code, info.title, info.meaning, info.remedy
        )
    };
    let section = |answered: bool| {
        let infos = Code::ALL.iter().map(|code| code.info()).filter(|info| info.status.is_some() == answered);
        infos.map(entry).collect::<Vec<_>>().join("\n")
    };
    let fields: Vec<String> = FIELD_ERROR_CODES.iter().map(|code| format!("`{code}`")).collect();
    let text = format!(
        "## What the API answers\n\n{}\n## What jobs fail with\n\n{}\n## Faults of single fields\n\nThe entries of `errors` have one of these codes: {}.\n",
        section(true),
        section(false),
        fields.join(", ")
    );
    hold("docs/errors.md", "codes", &text);
}
