#!/usr/bin/env bash
# End-to-end tests with clients and a backend that nobody here wrote.
#   tests/e2e/run.sh [pytest arguments]      TIDEGATE_BIN=path/to/tidegate picks another binary
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
"$here/setup.sh"

# Paths among the arguments are relative to this folder.
bin="${TIDEGATE_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/tidegate}"
if [ ! -x "$bin" ]; then
  echo "no gateway binary at $bin; build it first: cargo build -p tidegate" >&2
  exit 2
fi
export TIDEGATE_BIN="$bin"
cd "$here"
exec "$root/.cache/e2e/venv/bin/python" -B -m pytest "$@"
