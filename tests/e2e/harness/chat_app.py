"""Tidegate with its chat app, for the same people as the package."""

import json

from . import chat_people
from .chat_play import Client
from .gateway import Gateway

CONFIG = """
[chat]
{database}
{chat}
[jwt]
secret = {secret}
"""


class ChatApp:
    """`with ChatApp(directory) as app`; `settings` are lines of `[chat]`, `before` of the top, `database` is the URL of a PostgreSQL database."""

    def __init__(self, directory, settings="", database=None, logs=(), before=""):
        self.name = "app"
        self.notifications = "notifications = false" not in settings
        line = f"database = {json.dumps(database)}" if database else ""
        config = before + CONFIG.format(database=line, chat=settings, secret=json.dumps(chat_people.SECRET))
        self.gateway = Gateway(directory, config=config)
        self.gateway.allow(*logs)

    def __enter__(self):
        self.gateway.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.gateway.stop()
        elif self.gateway.process:
            self.gateway.kill()

    def url(self, token, path="/messaging/"):
        return f"ws://127.0.0.1:{self.gateway.port}{path}" + (f"?token={token}" if token is not None else "")

    def client(self, number, **claims):
        """A connection of the user with this id, after its notifications."""
        client = Client(self.url(chat_people.token(number, **claims)))
        if self.notifications:
            first = client.frame()
            assert first and first["eventType"] == "chat.notifications", first
            client.pending = first["data"]
        return client

    def introduce(self, people):
        """Each connects once: users come from tokens (S2-113)."""
        for person in people:
            self.client(person["id"]).close()
