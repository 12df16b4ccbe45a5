//! The page of promises names tests that exist, and leaves no promise without one.

use std::collections::BTreeSet;

use crate::architecture::root;
use crate::support::pages;

#[test]
fn every_promise_names_tests_that_exist() {
    let page = pages::read("docs/reliability.md");
    let mut kept = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let test = cells[1].trim_matches('`');
        let (module, name) = test.rsplit_once("::").expect("module and function");
        let file = root().join("tests/it").join(format!("{}.rs", module.replace("::", "/")));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let before = text.split(&format!("fn {name}()")).next().expect("there is a first part");
        assert!(before.len() < text.len(), "there is no test {test}");
        let attribute = before.trim_end_matches("async ").trim_end().lines().last().expect("a line stands before it");
        assert!(attribute.contains("test"), "{test} is not run: {attribute}");
        kept.extend(cells[2].split(':').next().and_then(|number| number.parse::<u8>().ok()));
    }
    assert_eq!(kept, (1..=7).collect::<BTreeSet<u8>>(), "promises without a test");
}
