"""The unmodified package `django-realtime-chat-messaging` under daphne: what the chat app is compared with."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import requests

from . import chat_people
from .gateway import clean_environment
from .wait import until

PROJECT = Path(__file__).resolve().parents[1] / "chat_project"


class ChatReference:
    """`with ChatReference(directory) as server`: one process, own database, own port. `template`: a prepared database to begin with."""

    def __init__(self, directory, name="package", soft_delete=False, template=None):
        self.directory = Path(directory)
        self.name = name
        self.notifications = True
        self.database = self.directory / "db.sqlite3"
        self.template = template
        self.soft_delete = soft_delete
        self.log_path = self.directory / "daphne.log"
        self.process = None
        self.port = None

    def environment(self):
        return clean_environment(
            E2E_CHAT_SECRET=chat_people.SECRET,
            E2E_CHAT_DATABASE=self.database,
            E2E_CHAT_SOFT_DELETE="1" if self.soft_delete else "0",
            DJANGO_SETTINGS_MODULE="chat_settings",
            PYTHONDONTWRITEBYTECODE="1",
        )

    def __enter__(self):
        self.directory.mkdir(parents=True)
        if self.template:
            shutil.copy(self.template, self.database)
        else:
            self.prepare()
            self.template = self.directory / "template.sqlite3"
            shutil.copy(self.database, self.template)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def prepare(self):
        done = subprocess.run(
            [sys.executable, "prepare.py"], cwd=PROJECT, env=self.environment(), text=True,
            input=json.dumps(chat_people.everybody()), capture_output=True, timeout=60,
        )
        assert done.returncode == 0, done.stderr

    def start(self):
        with socket.create_server(("127.0.0.1", 0)) as listener, open(self.log_path, "ab") as log:
            self.port = listener.getsockname()[1]
            os.set_inheritable(listener.fileno(), True)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), "--no-server-name", "chat_asgi:application"],
                cwd=PROJECT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[listener.fileno()],
            )

        def up():
            assert self.process.poll() is None, self.log_text()[-4000:]
            try:
                return requests.get(f"http://127.0.0.1:{self.port}/", timeout=30).status_code == 404
            except (requests.ConnectionError, requests.Timeout):
                return False

        until(up, "daphne", 30)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def introduce(self, people):
        """Everybody was entered before the start."""

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def url(self, token, path="/messaging/"):
        return f"ws://127.0.0.1:{self.port}{path}" + (f"?token={token}" if token is not None else "")
