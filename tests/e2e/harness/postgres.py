"""A PostgreSQL cluster of one's own, on 127.0.0.1, for the time of a test run.

    python -m harness.postgres --print-url -- cargo test -p tidegate-chat

runs a command with `TIDEGATE_TEST_POSTGRES=postgres://...` in its environment and ends with the command's code. The server
offers TLS with a certificate for `localhost`; `TIDEGATE_TEST_POSTGRES_CA` is the file of who has signed it.
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
CA_VARIABLE = "TIDEGATE_TEST_POSTGRES_CA"
USER = "tidegate"
# A user who has to prove a password, over TLS only with a channel that it is bound to if the client wants that.
SCRAM_USER, SCRAM_PASSWORD = "scram", "pencil"
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
            self.make_certificates()
            rules = self.directory / "data/pg_hba.conf"
            rules.write_text(f"host all {SCRAM_USER} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
            self.start()
            self.sql(f"CREATE ROLE {SCRAM_USER} LOGIN PASSWORD '{SCRAM_PASSWORD}'")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def options(self):
        options = {"env": clean_environment(HOME=self.directory), "cwd": self.directory, "stdin": subprocess.DEVNULL}
        return {**options, "user": self.user, "group": self.user, "extra_groups": []} if self.user else options

    def run(self, name, *arguments, folder=None):
        done = subprocess.run([self.binaries / name if folder is None else name, *arguments], capture_output=True, text=True, timeout=60, **self.options())
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def make_certificates(self):
        """A certificate for `localhost` only, and who has signed it."""

        def openssl(*arguments):
            self.run("openssl", *arguments, folder="")

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self.ca, server, request = self.directory / "ca.pem", self.directory / "server.pem", self.directory / "request.pem"
        extensions = self.directory / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        openssl("req", "-x509", *key, "-keyout", self.directory / "ca-key.pem", "-out", self.ca, "-days", "2", "-subj", "/CN=A test")
        openssl("req", *key, "-keyout", self.directory / "server-key.pem", "-out", request, "-subj", "/CN=localhost")
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.directory / "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", server)
        self.directory.chmod(0o755)
        self.tls = {"ssl": "on", "ssl_cert_file": server, "ssl_key_file": self.directory / "server-key.pem"}

    def sql(self, statement):
        """Runs a statement in the database `postgres`; gives its answer as text."""
        return self.run("psql", "-qAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres", "-c", statement).strip()

    def start(self):
        self.port = unused_tcp_port()
        arguments = [self.binaries / "postgres", "-D", self.directory / "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", self.directory]
        for name, value in {**SETTINGS, **self.tls}.items():
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
        environment = {**os.environ, VARIABLE: url, CA_VARIABLE: str(server.ca)}
        return subprocess.run(arguments.command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
