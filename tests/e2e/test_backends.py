"""The backends that the manual prints, as they are: events from a real gateway, calls to a recorder. S0-92, S0-102"""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.gateway import binary, clean_environment

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ROOT / "examples/backends"
CACHE = ROOT / ".cache/e2e"


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


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", COMMANDS)
def test_backend_of_the_manual(name, tmp_path):
    port = free_port()
    command = COMMANDS[name](tmp_path, port)
    check = [sys.executable, str(BACKENDS / "check.py"), binary(), f"http://127.0.0.1:{port}", "--", *command]
    environment = clean_environment(PYTHONDONTWRITEBYTECODE="1")
    run = subprocess.run(
        check, cwd=BACKENDS / name, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0 and run.stdout.rstrip().endswith("ok"), run.stdout
