//! What ARCHITECTURE.md says does not exist. What `architecture` holds already is not repeated here.

use std::fs;

use crate::architecture::{import_table, root, rust_files};

#[test]
fn the_api_cannot_reach_azure() {
    let may = &import_table()["api"];
    assert!(["azure", "steps", "engine"].iter().all(|module| !may.contains(module)), "{may:?}");
}

#[test]
fn nothing_deletes_or_purges_in_azure() {
    // In small letters: methods of the pipeline, of the key client, and of ARM.
    let banned = ["method::delete", ".delete_key", ".purge_deleted", ".purge_key", ".delete_role", "/purge"];
    for module in ["src/azure", "src/steps", "src/services"] {
        for file in rust_files(&root().join(module)) {
            let text = fs::read_to_string(&file).expect("source can be read").to_lowercase();
            for word in banned {
                assert!(!text.contains(word), "{}: {word}", file.display());
            }
        }
    }
    // A purge is a POST in Azure Resource Manager: its client has one, which asks about policies.
    for file in rust_files(&root().join("src/azure")) {
        let text = fs::read_to_string(&file).expect("source can be read");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let posts: Vec<_> = text.match_indices("Method::Post").map(|(at, _)| at).collect();
        if file.ends_with("src/azure/arm.rs") {
            let [at] = posts[..] else { panic!("{} POSTs in the client of ARM", posts.len()) };
            let lines: Vec<&str> = text[..at].lines().rev().take(2).collect();
            assert!(lines[1].contains("/checkPolicyRestrictions\");"), "{lines:?}");
        } else {
            assert!(posts.is_empty(), "{}", file.display());
        }
    }
}

#[test]
fn azure_core_retries_nothing_by_itself() {
    let text = fs::read_to_string(root().join("src/azure/mod.rs")).expect("source can be read");
    assert!(text.contains("retry: RetryOptions::none()"));
}

#[test]
fn the_lints_ban_sleeping_and_the_wall_clock() {
    let bans = fs::read_to_string(root().join("clippy.toml")).expect("the bans can be read");
    for path in [
        concat!("std::thread::", "sleep"),
        "tokio::time::sleep",
        "std::time::SystemTime::now",
        "time::OffsetDateTime::now_utc",
    ] {
        assert!(bans.contains(&format!("\"{path}\"")), "{path}");
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    assert!(manifest.contains("unsafe_code = \"forbid\"") && manifest.contains("disallowed_methods = \"warn\""));
    // What may sleep says why; no step does.
    for file in rust_files(&root().join("src/steps")) {
        let text = fs::read_to_string(&file).expect("source can be read");
        assert!(!text.contains("time::sleep"), "{}", file.display());
    }
}
