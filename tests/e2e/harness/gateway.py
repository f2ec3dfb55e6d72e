"""One `tidegate` process per test, with its own data directory and ports from the kernel."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

from .wait import until

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGION = "us-east-1"


def binary():
    path = os.environ.get("TIDEGATE_BIN")
    if path is None:
        path = Path(__file__).resolve().parents[3] / "target/debug/tidegate"
    return str(path)


def clean_environment(**extra):
    """The environment without proxies or AWS and gateway settings of the machine."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"(?i)^(aws_|tidegate_|.*_proxy$|rust_log$)", name)
    }
    env.update({name: str(value) for name, value in extra.items()})
    return env


def credentials_environment():
    return {
        "TIDEGATE_ACCESS_KEY_ID": ACCESS_KEY,
        "TIDEGATE_SECRET_ACCESS_KEY": SECRET_KEY,
        "TIDEGATE_REGION": REGION,
    }


class Gateway:
    def __init__(self, directory, config="", args=(), data_dir=None, preexec=None, command="serve", listen="127.0.0.1"):
        self.listen = listen
        self.directory = Path(directory)
        self.data_dir = Path(data_dir) if data_dir else self.directory / "data"
        self.config = config
        self.args = list(args)
        self.preexec = preexec
        self.command = command
        self.allowed = []
        self.process = None
        self.terminating = False
        self.log_path = self.directory / "gateway.log"
        self.address_path = self.directory / "address.json"
        self.address = {}

    # -- life ---------------------------------------------------------------------------

    def start(self, timeout=20.0):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.address_path.unlink(missing_ok=True)
        argv = [binary(), self.command]
        argv += ["--listen", f"{self.listen}:0", "--admin", "127.0.0.1:0"]
        argv += ["--address-file", str(self.address_path)]
        env = clean_environment()
        if self.command == "serve":
            argv += ["--data-dir", str(self.data_dir)]
            env.update(credentials_environment())
        if self.config:
            path = self.directory / "tidegate.toml"
            path.write_text(self.config)
            argv += ["--config", str(path)]
        argv += ["--log-format", "json"]
        argv += self.args
        # Appended to, so that a restart within a test keeps the first run's lines.
        with open(self.log_path, "ab") as log, open(self.directory / "stdout", "ab") as out:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=env,
                cwd=self.directory,
                preexec_fn=self.preexec,
            )

        def ready():
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise AssertionError(f"the gateway ended with {code} before it was ready:\n{self.log_text()[-4000:]}")
            return self.address_path.exists()

        until(ready, "address file of the gateway", timeout)
        self.address = json.loads(self.address_path.read_text())
        self.terminating = False
        return self

    def terminate(self, number=signal.SIGTERM):
        # Once: a second signal asks for an end without a drain.
        self.terminating = True
        self.process.send_signal(number)

    def wait_exit(self, timeout=40.0):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"the gateway did not end within {timeout} s of SIGTERM") from None

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def stop(self):
        """SIGTERM, exit code 0, no unannounced WARN or ERROR in the log."""
        if self.process is None:
            return
        process = self.process
        if process.poll() is None and not self.terminating:
            self.terminate()
        code = self.wait_exit()
        self.process = None
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log_text()[-4000:]}"
        self.check_log()

    # -- addresses ----------------------------------------------------------------------

    def _port(self, name):
        return int(self.address[name].rsplit(":", 1)[1])

    @property
    def port(self):
        return self._port("public")

    @property
    def admin_port(self):
        return self._port("admin")

    @property
    def tls_port(self):
        return self._port("tls")

    @property
    def proxy_port(self):
        return self._port("proxy")

    @property
    def admin_url(self):
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def pid(self):
        return self.process.pid

    # -- log ----------------------------------------------------------------------------

    def allow(self, *patterns):
        """Announces WARN or ERROR lines that the test provokes (regular expressions)."""
        self.allowed += patterns

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_lines(self):
        for line in self.log_text().splitlines():
            try:
                yield line, json.loads(line)
            except ValueError:
                yield line, None

    def records(self, **fields):
        """Log records whose fields have these values."""
        found = []
        for line, record in self.log_lines():
            if record is None:
                continue
            flat = dict(record)
            if isinstance(flat.get("fields"), dict):
                flat.update(flat["fields"])
            if all(str(flat.get(name)) == str(value) for name, value in fields.items()):
                found.append(flat)
        return found

    def wait_log(self, pattern, timeout=5.0):
        return until(lambda: re.search(pattern, self.log_text()), f"log line {pattern!r}", timeout)

    def check_log(self):
        bad = []
        for line, record in self.log_lines():
            if record is None:
                # Something that is not a log record: a panic, or text of the run time.
                if self.command == "serve" and line.strip():
                    bad.append(line)
                elif "panicked" in line:
                    bad.append(line)
                continue
            if str(record.get("level", "")).upper() in ("WARN", "WARNING", "ERROR"):
                # DX-21: whoever reads it can ask for the cause.
                if not record.get("diag"):
                    bad.append("without diag: " + line)
                if not any(re.search(pattern, line) for pattern in self.allowed):
                    bad.append(line)
        assert not bad, "lines in the gateway's log that the test did not announce:\n" + "\n".join(bad[:20])

    def rss_kib(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def metrics(self):
        reply = requests.get(f"{self.admin_url}/metrics", timeout=5)
        assert reply.status_code == 200
        return reply.text

    def metric(self, name, **labels):
        """Sum of the samples of one metric whose labels include the given ones."""
        total = 0.0
        seen = False
        for line in self.metrics().splitlines():
            match = re.match(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if not match or match[1] != name:
                continue
            have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            if all(have.get(key) == value for key, value in labels.items()):
                total += float(match[3])
                seen = True
        return total if seen else None


def unused_tcp_port():
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def timed(call):
    start = time.monotonic()
    value = call()
    return value, time.monotonic() - start
