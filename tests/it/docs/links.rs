//! Links between pages lead somewhere, and the files that pages name exist.

use std::fs;
use std::path::{Path, PathBuf};

use crate::architecture::root;

/// Folders of the repository; a name in backticks that starts with one is a path.
const FOLDERS: &[&str] =
    &["src/", "tests/", "crates/", "docs/", "migrations/", "openapi/", "deploy/", "benches/", ".ci/"];

fn pages(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The text without fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let outside = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    };
    text.lines().filter(outside).collect::<Vec<_>>().join("\n")
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn check_link(page: &Path, link: &str, wrong: &mut Vec<String>) {
    if link.starts_with("http://") || link.starts_with("https://") {
        return;
    }
    let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { page.with_file_name("").join(file) };
    if !target.exists() {
        wrong.push(format!("{}: {link} leads nowhere", page.display()));
    } else if !fragment.is_empty() {
        let text = prose(&fs::read_to_string(&target).expect("the page can be read"));
        if !text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == fragment) {
            wrong.push(format!("{}: {link} names no heading", page.display()));
        }
    }
}

#[test]
fn links_and_named_files_exist() {
    let (mut found, mut wrong, mut links, mut paths) = (Vec::new(), Vec::new(), 0, 0);
    pages(&root(), &mut found);
    for page in &found {
        let text = prose(&fs::read_to_string(page).expect("the page can be read"));
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            check_link(page, link, &mut wrong);
            links += 1;
        }
        for name in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_path =
                FOLDERS.iter().any(|folder| name.starts_with(folder)) && !name.contains([' ', '<', '*', '{', '…']);
            if is_path {
                let near = page.with_file_name("").join(name);
                if !root().join(name).exists() && !near.exists() {
                    wrong.push(format!("{}: `{name}` does not exist", page.display()));
                }
                paths += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found.len() > 15 && links > 30 && paths > 50, "{} pages, {links} links, {paths} paths", found.len());
}
