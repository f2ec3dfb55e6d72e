"""What the chat has beside the package's events: the table of sessions, what was missed, functions as hooks, its limit, users of a file."""

import contextlib
import sqlite3

import pytest
import requests

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_play import Client
from harness.postgres import Postgres, binaries
from harness.wait import until

pytestmark = pytest.mark.timeout(120)

KEY = "root-key"


@contextlib.contextmanager
def started(directory, settings="", before="", **options):
    with ChatApp(directory, settings, before=f'api_key = "{KEY}"\n{before}', **options) as app:
        yield app


def call(app, method, path, body=None):
    url = f"http://127.0.0.1:{app.gateway.port}/api/chat/{path}"
    return requests.request(method, url, headers={"Authorization": f"Bearer {KEY}"}, json=body, timeout=10)


def sessions(app):
    return call(app, "GET", "sessions").json()["sessions"]


# -- sessions ---------------------------------------------------------------------------------------------


def rows(app):
    """Users in the table of sessions of an app on SQLite."""
    with contextlib.closing(sqlite3.connect(f"file:{app.gateway.data_dir / 'chat.db'}?mode=ro", uri=True)) as database:
        return sorted(int(user) for (user,) in database.execute("SELECT user_id FROM chat_session"))


def test_sessions_are_stored_and_go_with_their_node(tmp_path):
    """S2-111: a device is in the table while it is connected; a killed gateway's rows go when it starts again."""
    with started(tmp_path / "gateway", logs=["did not stop in order"]) as app:
        ana, ben = app.client(10), app.client(11)
        until(lambda: rows(app) == [10, 11], "both in the table")
        listed = sessions(app)
        assert sorted(session["user"] for session in listed) == [10, 11] and len({session["node"] for session in listed}) == 1
        assert all(session["connected_at"] <= session["last_seen"] and not session["idle"] for session in listed)
        ana.close()
        until(lambda: rows(app) == [11], "one in the table")
        app.gateway.kill()
        assert rows(app) == [11]
        app.gateway.start()
        until(lambda: rows(app) == [], "nobody in the table")
        assert sessions(app) == []
        ben.close()
        app.client(12)
        until(lambda: rows(app) == [12], "who came after the restart")


def test_nodes_of_one_database_know_each_others_sessions(tmp_path):
    """S2-111, S2-106: on PostgreSQL, until the node stops; devices at most are those of all nodes."""
    if binaries() is None:
        pytest.skip("PostgreSQL is missing, this test did NOT run: run tests/e2e/setup.sh")
    with Postgres() as server:
        url = server.database()
        with started(tmp_path / "one", database=url) as one, started(tmp_path / "two", "max_devices = 2", database=url) as two:
            first, second = one.client(10), two.client(10)
            for app in (one, two):
                until(lambda app=app: len(sessions(app)) == 2, "both sessions")
            assert len({session["node"] for session in sessions(one)}) == 2
            with contextlib.closing(Client(two.url(chat_people.token(10)))) as third:
                assert third.frame() is None and third.closed == (1008, "Too many devices")
            first.close()
            until(lambda: len(sessions(two)) == 1, "one session")
            one.client(11)
            until(lambda: len(sessions(two)) == 2, "another session")
            # An orderly end takes its rows along at once.
            one.gateway.stop()
            assert [session["user"] for session in sessions(two)] == [10]
            one.gateway.start()
            second.close()


# -- what was missed --------------------------------------------------------------------------------------


def test_what_was_missed(tmp_path):
    """S2-110: a device asks with the last message that it has; without the setting the event is unknown."""
    with started(tmp_path / "gateway", "replay_seconds = 600") as app:
        ana, ben = app.client(10), app.client(11)
        ana.event("room.create", {"type": "GroupChat", "name": "Reef", "participants": [11]})
        room = ana.frame()["data"]["id"]
        assert ben.frame()["eventType"] == "roomcreate.dispatch"

        def send(content):
            ana.event("message.send", {"room_id": room, "content": content})
            return ana.frame()["data"]

        send("first")
        last = ben.frame()["data"]
        ben.close()
        missed = [send("second"), send("third")]
        ben, other = app.client(11), app.client(11)
        for since in (last["id"], missed[0]["created_at"]):
            ben.event("session.replay", {"since": since})
            frame = ben.frame()
            assert frame == {
                "type": "broadcast_group",
                "eventType": "sessionreplay.dispatch",
                "data": {"since": since if since != last["id"] else last["created_at"], "complete": True, "messages": missed},
            }
        # Nobody else has got anything: the next frame is the answer to a heartbeat.
        for client in (ana, other):
            client.event("session.heartbeat")
            assert client.frame() == {"status": "success"}
    with started(tmp_path / "default") as app:
        ana = app.client(10)
        ana.event("session.replay", {})
        assert ana.frame() == {"error": "invalid event type"}
