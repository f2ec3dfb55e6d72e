#!/bin/sh
# Runs the Autobahn cases against the echo example of tidegate-ws.
#
#   autobahn.sh            all cases (about ten minutes on two cores)
#   autobahn.sh --short    protocol groups and a few of the limit and compression cases, under 90 seconds
#   autobahn.sh PATTERN..  these cases, for example 6.* 12.1.3
#
# The last line is "N passed, N failed"; the exit code is 0 only if all passed. The verdicts of each case are left in
# .cache/autobahn-verdicts.json. PYTHON chooses the interpreter, CARGO_TARGET_DIR where the example is built.
# -f: the patterns are for the cases, not for files.
set -euf
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
scratch=$root/.cache/autobahn

if [ "${1:-}" = --short ]; then
    shift
    set -- 1.* 2.* 3.* 4.* 5.* 6.* 7.* 9.* 10.* \
        12.1.1 12.1.11 12.2.5 12.3.8 12.4.3 12.5.18 13.1.1 13.2.3 13.3.5 13.4.7 13.5.2 13.6.4 13.7.6
fi

"$here/autobahn/setup.sh" "$scratch"
cd "$root"
cargo build --quiet --release -p tidegate-ws --example echo

log=$(mktemp)
"${CARGO_TARGET_DIR:-$root/target}/release/examples/echo" 127.0.0.1:0 > "$log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

# The example prints its address when it listens.
address=
n=0
while [ -z "$address" ]; do
    address=$(sed -n 's/^listening on //p' "$log")
    n=$((n + 1))
    if [ "$n" -gt 100 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "the echo example did not start:" && cat "$log"
        exit 1
    fi
    sleep 0.1
done

"$scratch/venv/bin/python" "$here/autobahn/run.py" "$scratch/suite" "ws://$address/" \
    --out "$root/.cache/autobahn-verdicts.json" "$@"
