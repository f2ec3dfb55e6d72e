"""What the chat has beside the package's events: the table of sessions, what was missed, functions as hooks, its limit, users of a file."""

import contextlib
import json
import sqlite3
import subprocess
import sys

import pytest
import requests
import test_alerts as alerts

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_play import Client, kind
from harness.functions import InvokeApi
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


@pytest.mark.logs("user verification", "user.check-failed")
def test_databases_over_tls(tmp_path, start_gateway):
    """S2-37, S3-23: the chat's tables and the users of alerts on a server that must prove who it is."""
    if binaries() is None:
        pytest.skip("PostgreSQL is missing, this test did NOT run: run tests/e2e/setup.sh")
    with Postgres() as server:
        place = f"postgres://tidegate@localhost:{server.port}/postgres?sslmode=verify-full&sslrootcert="
        stranger = tmp_path / "stranger.pem"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(tmp_path / "key.pem")]
        subprocess.run(["openssl", "req", "-x509", *key, "-out", str(stranger), "-subj", "/CN=A stranger"], check=True, capture_output=True)
        with started(tmp_path / "one", database=f"{place}{server.ca}") as app:
            app.client(10)
            open_ones = "FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tidegate'"
            assert server.sql(f"SELECT count(*) > 0 AND bool_and(ssl) {open_ones}") == "t"
        refused = ChatApp(tmp_path / "two", database=f"{place}{stranger}")
        with pytest.raises(AssertionError, match="(?s)chat's database.*UnknownIssuer.*sslrootcert"):
            refused.__enter__()

        server.sql("CREATE TABLE officer (id TEXT PRIMARY KEY); INSERT INTO officer VALUES ('u1')")
        for who, status in ((server.ca, 101), (stranger, 503)):
            check = f'[apps.alerts.user_check]\nkind = "postgres"\nurl = "{place}{who}"\nquery = "SELECT 1 FROM officer WHERE id = $1"'
            gateway = start_gateway(alerts.config(check))
            assert alerts.subscribe(gateway).status == status
            assert alerts.subscribe(gateway, alerts.token("u2")).status == (403 if status == 101 else 503)


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


# -- functions as hooks -----------------------------------------------------------------------------------

MODERATE = """
import json, os

def handler(event, context):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(json.dumps(event) + "\\n")
    content = (event.get("data") or {}).get("content", "")
    if content == "raise":
        raise ValueError("s3cret-detail")
    if content == "slow":
        import time
        time.sleep(30)
    if event["hook"] == "before" and content == "buy now":
        return {"allow": False, "error": {"code": 4007, "detail": "No advertising"}}
    if event["hook"] == "before" and content == "shout":
        return {"allow": True, "data": {**event["data"], "content": "SHOUT"}}
"""


def arn(name):
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def hook(on, name, **more):
    lines = {"on": on, "target": arn(name), "timeout_ms": 5000, **more}
    return "[[chat.hooks]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


@pytest.fixture
def moderate(tmp_path):
    """`[lambda.functions.moderate]`, and what it has noted."""
    (tmp_path / "moderate.py").write_text(MODERATE)
    notes = tmp_path / "notes"

    def noted():
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []

    section = f"""
[lambda.functions.moderate]
command = {json.dumps([sys.executable, "-m", "awslambdaric", "moderate.handler"])}
directory = {json.dumps(str(tmp_path))}
environment = {{ NOTES = {json.dumps(str(notes))} }}
"""
    return section, noted


def test_functions_of_this_machine_are_hooks(tmp_path, moderate):
    """S2-116, S2-118 to S2-120: the event of a function is the webhook's body, its result the answer; it has its time, and errors stay inside."""
    section, noted = moderate
    settings = hook("before", "moderate", events=["message.send"]) + hook("after", "moderate", events=["message.send"]) + section
    with started(tmp_path / "gateway", settings, logs=["chat.hook-failed", "chat.internal"]) as app:
        ana = app.client(10)
        ana.event("room.create", {"type": "GroupChat", "name": "Reef"})
        room = ana.frame()["data"]["id"]

        def send(content):
            ana.event("message.send", {"room_id": room, "content": content})
            return ana.frame()

        assert send("hello")["data"]["content"] == "hello"
        assert send("buy now") == {"error": {"code": 4007, "detail": "No advertising"}}
        assert send("shout")["data"]["content"] == "SHOUT"
        assert send("raise") == {"error": {"code": 4006, "detail": "Internal server error."}}
        before = [event for event in noted() if event["hook"] == "before"]
        assert len({event.pop("delivery") for event in before}) == len(before) == 4
        assert before[0] == {
            "hook": "before", "event_type": "message.send", "user": {"id": 10, "username": chat_people.person(10)["username"]},
            "connection_id": before[0]["connection_id"], "room": {"id": room, "type": "GroupChat"}, "data": {"room_id": room, "content": "hello"},
        }
        until(lambda: len([event for event in noted() if event["hook"] == "after"]) == 2, "two deliveries")
        after = [event for event in noted() if event["hook"] == "after"]
        assert [event["data"]["event"]["content"] for event in after] == ["hello", "SHOUT"] and all(event["delivery"] for event in after)
        until(lambda: call(app, "GET", "hooks/deliveries").json()["deliveries"] == [], "nothing left to tell")
        # The lines of the function itself are its own.
        assert not any("s3cret-detail" in line for line in app.gateway.log_text().splitlines() if '"diag"' in line)


def test_a_slow_function_has_its_time(tmp_path, moderate):
    """S2-118: `timeout_ms` and `on_failure` hold for functions."""
    section, _ = moderate
    settings = hook("before", "moderate", events=["message.send"], timeout_ms=300, on_failure="allow") + section
    with started(tmp_path / "gateway", settings, logs=["chat.hook-failed"]) as app:
        ana = app.client(10)
        ana.event("room.create", {"type": "GroupChat", "name": "Reef"})
        ana.event("message.send", {"room_id": ana.frame()["data"]["id"], "content": "slow"})
        assert ana.frame(timeout=4)["data"]["content"] == "slow"
        assert app.gateway.records(diag="chat.hook-failed")


def test_functions_elsewhere_are_hooks(tmp_path):
    """S2-116: through the Invoke API of an endpoint; a function that nobody has stops the start."""
    server = InvokeApi()
    try:
        server.answer = (200, {}, {"allow": False, "error": {"detail": "Not today"}})
        section = f'[lambda]\nendpoint = "{server.url}"\n'
        with started(tmp_path / "gateway", hook("before", "far", events=["room.create"]) + section) as app:
            ana = app.client(10)
            ana.event("room.create", {"type": "GroupChat", "name": "Reef"})
            assert kind(frame := ana.frame()) == 4003 and frame["error"]["detail"] == "Not today"
            (called,) = server.calls
            assert called["path"] == "/2015-03-31/functions/far/invocations" and json.loads(called["body"])["hook"] == "before"
    finally:
        server.stop()
    with pytest.raises(AssertionError, match=r"chat\.hooks\[0\]\.target"):
        ChatApp(tmp_path / "nobody", hook("before", "nobody")).__enter__()


# -- limit, users of a file -------------------------------------------------------------------------------


def test_too_many_events(tmp_path):
    """S2-38, S2-28: beyond the limit an event is answered with 4029, has no effect and closes nothing; others are not limited."""
    with started(tmp_path / "gateway", "event_rate = 1\nevent_burst = 5") as app:
        ana, ben = app.client(10), app.client(11)
        ana.event("room.create", {"type": "GroupChat", "name": "Reef", "participants": [11]})
        room = ana.frame()["data"]["id"]
        assert ben.frame()["eventType"] == "roomcreate.dispatch"
        for number in range(12):
            ana.event("message.send", {"room_id": room, "content": str(number)})
        frames = [ana.frame() for _ in range(12)]
        refused = [frame for frame in frames if "error" in frame]
        assert refused and all(frame == {"error": {"code": 4029, "detail": "Too many events."}} for frame in refused)
        heard = [frame["data"]["content"] for frame in frames if "data" in frame]
        assert len(heard) >= 4 and [ben.frame()["data"]["content"] for _ in heard] == heard
        ben.event("session.heartbeat")
        assert ben.frame() == {"status": "success"}

        def again():
            ana.event("session.heartbeat")
            return ana.frame() == {"status": "success"}

        until(again, "an event after a pause", interval=0.2)
        assert app.gateway.metric("tidegate_chat_errors_total", code="4029") >= len(refused)


def test_users_of_a_file(tmp_path):
    """S2-113: users are there before they connect; what is wrong with the file stops the start."""
    users = tmp_path / "users.json"
    users.write_text(json.dumps({"users": [{"id": 4711, "username": "zoe", "email": "z@e.test"}, {"id": 4712, "username": "out", "disabled": True}]}))
    settings = f'directory = "closed"\nusers_file = {json.dumps(str(users))}'
    with started(tmp_path / "gateway", settings) as app:
        listed = {user["id"]: user for user in call(app, "GET", "users").json()["users"]}
        assert listed[4711]["username"] == "zoe" and listed[4712]["disabled"]
        for number, code in ((4711, None), (4712, 4001), (4713, 4001)):
            client = Client(app.url(chat_people.sign({"user_id": number})))
            frame = client.frame()
            assert (client.closed[0] if frame is None else None) == code, number
            client.close()
    users.write_text("no JSON")
    with pytest.raises(AssertionError, match="chat.users_file"):
        ChatApp(tmp_path / "wrong", settings).__enter__()
