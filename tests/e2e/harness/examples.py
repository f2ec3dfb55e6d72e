"""The backends that the manual prints, as processes, and the document that goes with them."""

import json
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from .gateway import binary, clean_environment
from .wait import until

ROOT = Path(__file__).resolve().parents[3]
BACKENDS = ROOT / "examples/backends"
CACHE = ROOT / ".cache/e2e"

KEY = "the-key"
SECRET = "replace-this-by-32-characters-of-your-own"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def express(tmp_path, port):
    # Node looks for packages in the folders above the file.
    shutil.copy(BACKENDS / "express/app.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(CACHE / "node/node_modules")
    return [str(CACHE / "bin/node"), str(tmp_path / "app.mjs")]


def go(tmp_path, port):
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    program = str(tmp_path / "backend")
    subprocess.run(["go", "build", "-o", program, "."], cwd=BACKENDS / "go", check=True)
    return [program]


def axum(tmp_path, port):
    program = Path(binary()).parent / "examples/axum_backend"
    if not program.exists():
        pytest.skip("not built: cargo build -p tidegate-backend --examples")
    return [str(program)]


COMMANDS = {
    "django": lambda tmp_path, port: [sys.executable, "manage.py", "serve", str(port), str(tmp_path / "db.sqlite3")],
    "flask": lambda tmp_path, port: [sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port)],
    "fastapi": lambda tmp_path, port: [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)],
    "express": express,
    "go": go,
    "axum": axum,
}


class Site:
    """An example behind a gateway with `chat.toml`."""

    def __init__(self, gateway, base):
        self.gateway, self.base = gateway, base
        stage = f"127.0.0.1:{gateway.port}/_aws/execute-api/chat/production"
        self.url, self.endpoint = f"ws://{stage}", f"http://{stage}"

    def admin(self, method, path, **options):
        headers = {"Authorization": f"Bearer {KEY}", **options.pop("headers", {})}
        return requests.request(method, f"{self.gateway.admin_url}/api{path}", headers=headers, timeout=10, **options)

    def let_pages_ask(self, origins):
        """Pages of the backend exchange their login for a token at the gateway; the rest of the policy stays."""
        path = "/apis/chat/stages/production/policy"
        policy = self.admin("GET", path).json()
        assert SECRET not in json.dumps(policy), "a secret is shown"
        policy["admission"]["origins"] = origins
        endpoint = {"url": f"{self.base}/ws-user", "origins": [self.base]}
        policy["connect_tokens"] = {"cookie": "sessionid", "endpoint": endpoint}
        stored = self.admin("PUT", path, json=policy)
        assert stored.status_code == 200, stored.text

    def log_in(self, user):
        """A browser's cookies after a login, without a browser."""
        pages = requests.Session()
        answer = pages.get(f"{self.base}/demo-login/{user}", timeout=10)
        assert answer.ok, answer.text
        if answer.text:
            # Django's, which wants its CSRF token back.
            pages.headers["X-CSRFToken"] = answer.text
        return pages

    def settle(self):
        """Waits until the backend has answered for the end of each connection."""

        def is_settled():
            if self.admin("GET", "/connections?count=true").json()["count"]:
                return False
            handled = self.gateway.metric("tidegate_integration_duration_seconds_count", event="DISCONNECT")
            return (handled or 0) == (self.gateway.metric("tidegate_closes_total") or 0)

        until(is_settled, "the ends of all connections at the backend")

    def post(self, pages, path, **options):
        return pages.post(self.base + path, timeout=10, **options)


@contextmanager
def running(name, start_gateway, tmp_path):
    """Starts a gateway with the printed document, and an example as its backend."""
    port = free_port()
    document = tmp_path / "chat.toml"
    document.write_text((BACKENDS / "chat.toml").read_text().replace("127.0.0.1:8000/", f"127.0.0.1:{port}/"))
    gateway = start_gateway(f'api_key = "{KEY}"\n', args=["--apply", str(document)])
    site = Site(gateway, f"http://127.0.0.1:{port}")
    environment = clean_environment(
        PYTHONDONTWRITEBYTECODE="1",
        PORT=port,
        TIDEGATE_ENDPOINT=site.endpoint,
        TIDEGATE_ADMIN=gateway.admin_url,
        TIDEGATE_KEY=KEY,
        TIDEGATE_SECRET=SECRET,
    )
    command = COMMANDS[name](tmp_path, port)
    with open(tmp_path / "backend.log", "wb") as log:
        backend = subprocess.Popen(
            command, cwd=BACKENDS / name, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:

        def is_up():
            assert backend.poll() is None, (tmp_path / "backend.log").read_text()
            try:
                return requests.get(site.base, timeout=5) is not None
            except requests.ConnectionError:
                return False

        until(is_up, f"{name} to listen", 60)
        yield site
        site.settle()
    except BaseException as error:
        # The backend ends before the connections do.
        gateway.allow("disconnect event not delivered")
        log = (tmp_path / "backend.log").read_text(errors="replace").splitlines()
        error.add_note("\n".join([f"log of {name}:", *log[-15:]]))
        raise
    finally:
        backend.terminate()
        try:
            backend.wait(10)
        except subprocess.TimeoutExpired:
            backend.kill()
            backend.wait(10)
