# The steps of .ci/run by name; `just` alone lists them.

default:
    @just --list

# Everything on this machine, with a first job to watch.
dev *ARGS:
    cargo run -- dev {{ARGS}}

# All tests, or those whose name holds NAME.
test *NAME:
    cargo test --workspace {{NAME}}

# A worker killed at every statement and every call, all points and not some: minutes.
crash-points:
    CMK_CRASH_POINTS=all cargo test --test it -- crash_points --nocapture

# Every service on every way that it allows, as a matrix; CMK_COVERAGE names some.
coverage:
    cargo test --test it services::coverage -- --nocapture

# Three APIs and three workers, of which one of each is killed again and again, for two minutes.
replicas:
    CMK_REPLICAS_SECONDS=120 cargo test --test it -- replicas --nocapture

# Mixed jobs for two hours, with one request in a hundred going wrong in each of eight ways.
soak SECONDS="7200":
    CMK_SOAK_SECONDS={{SECONDS}} cargo test --test it soak:: -- --nocapture

# Format the code.
fmt:
    cargo fmt --all

# What clippy and rustdoc say, as CI asks them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Rewrite the files that tests compare with: the contract, plans, wire strings, generated parts of pages, the tour.
golden:
    UPDATE_GOLDEN=1 cargo test --test it -- golden openapi docs readme
    UPDATE_GOLDEN=1 cargo test -p azure-sim --lib types_md

# Everything that has to hold before a change lands.
ci:
    .ci/run

# Ours beside other engines on one private PostgreSQL, as ratios: docs/performance.md. Needs wrk, and BENCH_PEERS for the others.
bench:
    cargo build --release -p cmk -p cmk-bench
    target/release/cmk-bench

# Long, about half an hour: 1,000 accounts at once under Azure's published limits, and the figures.
rate-limits ACCOUNTS="1000":
    CMK_RATE_LIMIT_ACCOUNTS={{ACCOUNTS}} cargo test --test it rate_limits::jobs_use_up -- --nocapture
