//! The README's table of what is played: every row names its tests, and every file of tests is named.

use std::collections::BTreeSet;
use std::path::Path;

/// Files that hold helpers, and this one.
const HELPERS: [&str; 5] = ["main", "client", "blob_client", "kind_case", "readme"];

/// The names of the files and folders beside this one.
fn files() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    names.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
}

/// The words in backquotes of a cell.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_row_of_what_is_played_names_tests_that_exist_and_every_test_is_named() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the page");
    let part = page.split_once("## What is played").expect("it has the part").1;
    let part = part.split("\n## ").next().unwrap_or_default();
    let rows: Vec<&str> =
        part.lines().filter(|l| l.starts_with("| ")).skip(1).filter(|l| !l.starts_with("| ---")).collect();
    assert!(rows.len() > 20, "only {} rows", rows.len());
    let (files, mut named) = (files(), BTreeSet::new());
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 5, "{row}");
        let tests = words(cells[4]);
        assert!(!tests.is_empty(), "no test is named: {row}");
        for test in tests {
            assert!(files.contains(&test), "there is no test `{test}`: {row}");
            named.insert(test);
        }
    }
    let whole_page: BTreeSet<String> = words(&page).into_iter().collect();
    let unnamed = files.iter().filter(|f| !HELPERS.contains(&f.as_str()) && !named.contains(*f));
    let unnamed: Vec<&String> = unnamed.filter(|f| !whole_page.contains(*f)).collect();
    assert!(unnamed.is_empty(), "the page does not name {unnamed:?}");
}
