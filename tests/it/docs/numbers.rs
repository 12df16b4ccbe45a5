//! Numbers that pages name are those of the source: each sentence stands beside the line of code it speaks of. Whoever
//! changes one is told of the other.

use crate::support::pages;

/// Page, what it says, source, what stands there.
const SAME: &[(&str, &str, &str, &str)] = &[
    ("README.md", "need Rust 1.95 or newer", "Cargo.toml", "rust-version = \"1.95\""),
    ("README.md", "(version 14 or newer)", "src/dev/postgres/binaries.rs", "OLDEST: u32 = 14;"),
    ("CONTRIBUTING.md", "Rust 1.95 or newer", "Cargo.toml", "rust-version = \"1.95\""),
    ("CONTRIBUTING.md", "450 is the limit", "tests/it/architecture.rs", "MAX_LINES: usize = 450;"),
    ("ARCHITECTURE.md", "above 450 lines", "tests/it/architecture.rs", "MAX_LINES: usize = 450;"),
    ("ARCHITECTURE.md", "at most 10 times in a row", "src/domain/retry.rs", "MAX_ATTEMPTS: u32 = 10;"),
    (
        "ARCHITECTURE.md",
        "for its first minute",
        "src/steps/windows.rs",
        "OWN_RIGHT: Duration = Duration::from_secs(60);",
    ),
    ("docs/operations.md", "after a minute", "src/steps/windows.rs", "OWN_RIGHT: Duration = Duration::from_secs(60);"),
    ("ARCHITECTURE.md", "A claim lasts 10 seconds", "src/engine/worker.rs", ".with_lease(Duration::from_secs(10))"),
    ("ARCHITECTURE.md", "renewed every 3", "src/engine/worker.rs", "heartbeat: lease.mul_f64(0.3)"),
    ("ARCHITECTURE.md", "no change 2 seconds before", "src/engine/worker.rs", "margin: lease.mul_f64(0.2)"),
    ("ARCHITECTURE.md", "calls finish for 15", "src/engine/worker.rs", "grace: Duration::from_secs(15),"),
    ("ARCHITECTURE.md", "at least once a\nsecond", "src/engine/worker.rs", "poll: Duration::from_secs(1),"),
    ("ARCHITECTURE.md", "at least once a\nsecond", "src/api/mod.rs", "poll: Duration::from_secs(1),"),
    ("docs/api-design.md", "has two minutes for the head", "src/api/mod.rs", "head_timeout: Duration::from_secs(120),"),
    ("docs/operations.md", "PostgreSQL 14 or newer", "src/dev/postgres/binaries.rs", "OLDEST: u32 = 14;"),
    (
        "docs/operations.md",
        "every 10 seconds without any",
        "src/store/notify.rs",
        "QUIET: Duration = Duration::from_secs(10);",
    ),
    ("ARCHITECTURE.md", "a thousand watched jobs", "src/api/watch.rs", "BATCH: usize = 1000;"),
    ("docs/operations.md", "statement may take 10 seconds", "src/store/mod.rs", "(\"statement_timeout\", \"10s\")"),
    ("docs/operations.md", "count for 30 days", "src/store/accept.rs", "IDEMPOTENCY_DAYS: i32 = 30;"),
    ("docs/operations.md", "answers within 2 seconds", "src/api/mod.rs", "readiness_timeout: Duration::from_secs(2),"),
    ("docs/operations.md", "within the last 30 seconds", "src/api/mod.rs", "max_claim_age: Duration::from_secs(30),"),
    (
        "docs/operations.md",
        "gives open requests 15 seconds",
        "src/app.rs",
        "HTTP_GRACE: Duration = Duration::from_secs(15);",
    ),
    (
        "docs/operations.md",
        "a call that runs gets 15 seconds",
        "src/engine/worker.rs",
        "grace: Duration::from_secs(15),",
    ),
    (
        "docs/operations.md",
        "loses its leases after 10 seconds",
        "src/engine/worker.rs",
        ".with_lease(Duration::from_secs(10))",
    ),
    ("docs/operations.md", "the tag `cmk-job`", "src/steps/ensure_key_store.rs", "JOB_TAG: &str = \"cmk-job\";"),
    ("docs/operations.md", "names 17.", "docker-compose.yml", "image: postgres:17"),
    ("docs/operations.md", "the default is `info,sqlx=warn`", "src/main.rs", "\"info,sqlx=warn\""),
    ("docs/api-design.md", "at most 55 seconds", "src/api/mod.rs", "max_wait: Duration::from_secs(55),"),
    ("docs/api-design.md", "kept 30 days", "src/store/accept.rs", "IDEMPOTENCY_DAYS: i32 = 30;"),
    ("docs/api-design.md", "comment every 15 seconds", "src/api/mod.rs", "heartbeat: Duration::from_secs(15),"),
    ("docs/api-design.md", "512 requests at the same time", "src/api/mod.rs", "max_in_flight: 512,"),
    ("docs/api-design.md", "256 open streams", "src/api/mod.rs", "max_streams: 256,"),
    ("docs/api-design.md", "256 waits;", "src/api/mod.rs", "max_waits: 256,"),
    ("docs/api-design.md", "has 30 seconds beside", "src/api/mod.rs", "request_timeout: Duration::from_secs(30),"),
    ("docs/api-design.md", "pages 200 jobs", "src/store/read.rs", "MAX_PAGE: u16 = 200;"),
    ("docs/api-design.md", "or 500 events", "src/api/events.rs", "MAX_PAGE: i64 = 500;"),
    ("docs/api-design.md", "at most 64 KiB", "src/domain/codes.rs", "at most 64 KiB"),
    (
        "docs/adr/0003-short-leases.md",
        "lasts 10 seconds",
        "src/engine/worker.rs",
        ".with_lease(Duration::from_secs(10))",
    ),
    ("docs/simulator.md", "2 to 8 seconds", "crates/azure-sim/README.md", "| 2–8 s |"),
];

#[test]
fn numbers_in_the_pages_are_those_of_the_source() {
    let mut wrong = Vec::new();
    for (page, says, source, stands) in SAME {
        for (file, text) in [(page, says), (source, stands)] {
            if !pages::read(file).contains(text) {
                wrong.push(format!("{file} does not have {text:?} (any more); see {page} and {source}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
