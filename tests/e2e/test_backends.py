"""The backends that the manual prints, as they are: events from a real gateway, calls to a recorder. S0-92, S0-102

What they do with a real gateway on both sides is in `test_login.py`.
"""

import subprocess
import sys

import pytest

from harness.examples import BACKENDS, COMMANDS, free_port
from harness.gateway import binary, clean_environment


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
