#!/bin/sh
# Builds the gateway and the load generator, runs every benchmark, prints one table: figure, measured, budget, met.
# Takes about five minutes after the build. Further arguments go to `tidegate-bench`, for example --json.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked -p tidegate -p tidegate-bench
target="${CARGO_TARGET_DIR:-target}/release"
exec "$target/tidegate-bench" all --gateway "$(realpath "$target/tidegate")" "$@"
