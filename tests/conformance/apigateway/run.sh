#!/usr/bin/env bash
# Checks an endpoint against the contract of API Gateway's WebSocket APIs.
#   tests/conformance/apigateway/run.sh [pytest arguments]
# TARGET: empty (a Tidegate is started; TIDEGATE_BIN picks the binary), the address of a control plane, or a TOML file; see README.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
"$here/setup.sh"

if [ -z "${TARGET:-}" ]; then
  bin="${TIDEGATE_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/tidegate}"
  if [ ! -x "$bin" ]; then
    echo "no gateway binary at $bin; build it first: cargo build -p tidegate" >&2
    exit 2
  fi
  export TIDEGATE_BIN="$bin"
elif [ -f "$TARGET" ]; then
  TARGET=$(realpath "$TARGET")
fi
export PATH="$root/.cache/conformance/venv/bin:$root/.cache/conformance/bin:$PATH"
export NODE_PATH="$root/.cache/conformance/node/node_modules"
cd "$here"
exec python -B -m pytest "$@"
