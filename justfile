# The steps of .ci/run by name; `just` alone lists them.

default:
    @just --list

# Everything on this machine, with a first job to watch.
dev *ARGS:
    cargo run -- dev {{ARGS}}

# All tests, or those whose name holds NAME.
test *NAME:
    cargo test --workspace {{NAME}}

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

# Everything that has to hold before a change lands.
ci:
    .ci/run

# Ours beside other engines on one private PostgreSQL, as ratios: docs/performance.md. Needs wrk, and BENCH_PEERS for the others.
bench:
    cargo build --release -p cmk -p cmk-bench
    target/release/cmk-bench
