"""A PostgreSQL cluster of one's own, on 127.0.0.1, for the time of a test run.

    python -m harness.postgres --print-url -- cargo test -p tidegate-chat

runs a command with `TIDEGATE_TEST_POSTGRES=postgres://...` in its environment and ends with the command's code.
"""

import argparse
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from .gateway import clean_environment, unused_tcp_port
from .wait import until

VARIABLE = "TIDEGATE_TEST_POSTGRES"
USER = "tidegate"
# Nothing here has to survive a power cut.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "32MB", "autovacuum": "off"}


def binaries():
    """The newest version that Debian's packages installed, or None."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    beside = shutil.which("initdb")
    return Path(beside).resolve().parent if beside else None


class Postgres:
    """`with Postgres() as server`: `server.database()` makes an empty database and returns its URL."""

    def __init__(self):
        self.directory = None
        self.process = None
        self.port = None
        self.numbers = itertools.count(1)
        # The server refuses to run as root; its Debian package comes with a user for it.
        self.user = "postgres" if os.geteuid() == 0 else None

    def __enter__(self):
        self.binaries = binaries()
        assert self.binaries, "no PostgreSQL found: run tests/e2e/setup.sh"
        # Not below pytest's folder: that is closed to other users.
        self.directory = Path(tempfile.mkdtemp(prefix="tidegate-postgres-"))
        if self.user:
            account = pwd.getpwnam(self.user)
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        try:
            self.run("initdb", "-D", self.directory / "data", "-U", USER, "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def options(self):
        options = {"env": clean_environment(HOME=self.directory), "cwd": self.directory, "stdin": subprocess.DEVNULL}
        return {**options, "user": self.user, "group": self.user, "extra_groups": []} if self.user else options

    def run(self, name, *arguments):
        done = subprocess.run([self.binaries / name, *arguments], capture_output=True, text=True, timeout=60, **self.options())
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self):
        self.port = unused_tcp_port()
        arguments = [self.binaries / "postgres", "-D", self.directory / "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", self.directory]
        for name, value in SETTINGS.items():
            arguments += ["-c", f"{name}={value}"]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, **self.options())

        def ready():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            probe = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres"]
            return subprocess.run(probe, timeout=10, check=False, **self.options()).returncode == 0

        until(ready, "PostgreSQL", 30, 0.05)

    def stop(self):
        if self.process is not None:
            # Ends the sessions of clients that are still there, too.
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
            self.process = None
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def database(self):
        """The URL of a new, empty database."""
        name = f"test{next(self.numbers)}"
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return f"postgres://{USER}@127.0.0.1:{self.port}/{name}"


def main():
    parser = argparse.ArgumentParser(description="Runs a command with a PostgreSQL server of its own.")
    parser.add_argument("--print-url", action="store_true", help="writes the URL of its database first")
    parser.add_argument("command", nargs="+", help="after --: the command and its arguments")
    arguments = parser.parse_args()
    with Postgres() as server:
        url = server.database()
        if arguments.print_url:
            print(url, flush=True)
        return subprocess.run(arguments.command, env={**os.environ, VARIABLE: url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
