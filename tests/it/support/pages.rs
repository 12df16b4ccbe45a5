//! Pages of documentation with parts that a test holds: it compares them with what the code says, and rewrites them when
//! it is run with `UPDATE_GOLDEN=1`.
//!
//! A generated part stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Tests run side by side, and several may rewrite parts of one page.
static WRITING: Mutex<()> = Mutex::new(());

/// A file of the repository.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A page's text.
pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Whether pages are to be rewritten.
pub fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Changes a page.
pub fn rewrite(name: &str, change: impl FnOnce(&str) -> String) {
    let _one_at_a_time = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = fs::read_to_string(path(name)).unwrap_or_default();
    fs::write(path(name), change(&text)).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Compares a generated part of a page with what it should be.
pub fn hold(page: &str, part: &str, want: &str) {
    let (begin, end) = (format!("<!-- generated: {part} -->\n"), format!("<!-- end: {part} -->"));
    let want = format!("\n{}\n\n", want.trim_matches('\n'));
    let bounds = |text: &str| {
        let from = text.find(&begin).map(|at| at + begin.len());
        let to = from.and_then(|from| text[from..].find(&end).map(|len| from + len));
        from.zip(to).unwrap_or_else(|| panic!("{page} has no part {part}"))
    };
    if updating() {
        rewrite(page, |text| {
            let (from, to) = bounds(text);
            format!("{}{want}{}", &text[..from], &text[to..])
        });
    }
    let text = read(page);
    let (from, to) = bounds(&text);
    assert!(
        text[from..to] == want,
        "{page}: the part {part} is stale; UPDATE_GOLDEN=1 rewrites it:\n--- page\n{}\n--- code\n{want}",
        &text[from..to]
    );
}

/// A Markdown table.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.map(str::to_owned)) + &line(&head.map(|_| "---".to_owned()));
    for row in rows {
        text += &line(&row.map(|cell| cell.replace('|', "\\|").replace('\n', " ")));
    }
    text
}
