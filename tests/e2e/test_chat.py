"""The chat app from outside, where the package is wrong or cannot show what is wanted: chapter 14, concurrency, settings."""

import itertools
import json
import re
import time
import uuid

import pytest
from websockets.exceptions import InvalidStatus

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_people import sign, token
from harness.chat_play import Client, kind
from harness.chat_talk import Talk
from harness.gateway import unused_tcp_port
from harness.postgres import Postgres, binaries
from harness.wait import until

pytestmark = pytest.mark.timeout(120)

NOBODY = "11111111-2222-4333-8444-555555555555"
LINK = {"media_url": "https://cdn.example.test/a.png", "media_type": "image"}
# The first ten are for tests that start an app or a connection of their own.
groups = itertools.count(1)


@pytest.fixture(scope="module")
def postgres():
    if binaries() is None:
        pytest.skip("PostgreSQL is missing, its half of the chat tests did NOT run: run tests/e2e/setup.sh")
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def app(request, tmp_path_factory):
    database = request.getfixturevalue("postgres").database() if request.param == "postgresql" else None
    with ChatApp(tmp_path_factory.mktemp("chat") / "gateway", database=database) as app:
        yield app


@pytest.fixture
def talk(app):
    people = chat_people.group(next(groups))
    app.introduce(map(chat_people.person, people.values()))
    with Talk(app, people) as talk:
        yield talk


@pytest.fixture
def start(tmp_path):
    """An app with settings of the test's own, on SQLite."""
    apps = []

    def start(settings="", n_people=10, **options):
        app = ChatApp(tmp_path / f"gateway{len(apps)}", settings, **options).__enter__()
        apps.append(app)
        app.introduce(chat_people.everybody()[:n_people])
        return app

    yield start
    for app in apps:
        if app.gateway.process:
            app.__exit__(None)


@pytest.fixture
def with_settings(start):
    """`with_settings("soft_delete = true")`: a talk of the first ten people at such an app."""
    talks = []

    def make(settings):
        talks.append(Talk(start(settings), chat_people.group(0)))
        return talks[-1]

    yield make
    for talk in talks:
        talk.side.close()


# -- authentication ---------------------------------------------------------------------------------------


def refused(url):
    client = Client(url)
    assert client.frame() is None, "no frame before the close"
    return client.closed


def test_who_is_not_authenticated(app):
    """S2-5, S2-3, S2-4, I-2: the upgrade is completed, nothing is sent, and the code is 4001."""
    now = int(time.time())
    known = {"user_id": 10, "username": "ana1", "exp": now + 600}
    tokens = [
        None, "", "x", "a.b.c", token(10)[:-4], token(10, secret="another-secret-of-32-characters-or-more"), sign({**known, "exp": now - 600}), sign(known, algorithm="none"),
        sign({"username": "ana1", "exp": now + 600}),
    ]
    tokens += [sign({**known, "user_id": wrong}) for wrong in ("", "x", "010", "-", "1.5", 1.5, True, None, [], [10], {}, "1234567890123456789")]
    for each in tokens:
        assert refused(app.url(each)) == (4001, "Authentication failed"), each


def test_origins(app, start):
    """S2-7: any page may connect unless origins are configured; programs send none."""
    with_origin = lambda origin: {"origin": origin} if origin else {}  # noqa: E731 - as a parameter
    for origin in (None, "https://anywhere.example", "null"):
        Client(app.url(token(10)), **with_origin(origin)).close()
    own = start('admission.origins = ["https://good.example"]')
    for origin in (None, "https://good.example"):
        Client(own.url(token(10)), **with_origin(origin)).close()
    with pytest.raises(InvalidStatus) as caught:
        Client(own.url(token(10)), **with_origin("https://anywhere.example"))
    assert caught.value.response.status_code == 403


def test_ways_of_a_token(app):
    """S2-2, S2-3, S2-4, S2-1: query, header, subprotocol pair; `sub`; numbers as text; no final slash."""
    claims = {"username": "ana1", "first_name": "Ana", "last_name": "Lima", "email": "ana1@example.test", "exp": int(time.time()) + 600}
    good = sign({**claims, "user_id": 10})
    ways = [
        (app.url(good), {}),
        (app.url(good, "/messaging"), {}),
        (app.url(None), {"additional_headers": {"Authorization": f"Bearer {good}"}}),
        (app.url(None), {"subprotocols": ["tidegate.bearer", good]}),
        (app.url(sign({**claims, "user_id": "10"})), {}),
        (app.url(sign({**claims, "sub": "10"})), {}),
        (app.url(sign({**claims, "sub": "77", "user_id": 10})), {}),
        (app.url(sign({"user_id": 10})), {}),
    ]
    for url, options in ways:
        client = Client(url, **options)
        assert client.frame() == {"eventType": "chat.notifications", "data": {}}, url
        client.event("room.create", {"type": "GroupChat", "name": "x"})
        assert client.frame()["data"]["creator"] == chat_people.person(10)
        client.close()


def test_refusal_by_http(start):
    """S2-5: `refusal = "http"`."""
    app = start('refusal = "http"')
    for wrong in (None, "x"):
        with pytest.raises(InvalidStatus) as caught:
            Client(app.url(wrong))
        assert caught.value.response.status_code == 403
    app.client(10).close()


def test_users_come_from_claims(app):
    """S2-113, S2-39: names of other issuers, absent claims leave what is stored, a name that is taken."""
    number = itertools.count(5000)

    def seen(user, **claims):
        client = Client(app.url(sign({"sub": str(user), **claims})))
        assert client.frame()["eventType"] == "chat.notifications"
        client.event("room.create", {"type": "GroupChat", "name": "x"})
        found = client.frame()["data"]["creator"]
        client.close()
        return found

    first = next(number)
    full = {"id": first, "username": "zoe", "email": "z@e.test", "first_name": "Zoe", "last_name": "Zed"}
    assert seen(first, preferred_username="zoe", given_name="Zoe", family_name="Zed", email="z@e.test") == full
    assert seen(first) == full
    assert seen(first, given_name="Zoë") == {**full, "first_name": "Zoë"}
    second, third = next(number), next(number)
    assert seen(second, username="zoe")["username"] == f"zoe-{second}"
    assert seen(second, username="zoe")["username"] == f"zoe-{second}"
    assert seen(third) == {"id": third, "username": f"user-{third}", "email": "", "first_name": "", "last_name": ""}
    assert seen(next(number), name="By Name")["username"] == "By Name"


def test_user_ids_as_text(start):
    """S2-4: every id is text in both directions."""
    app = start('user_ids = "text"\ndirectory = "open"', n_people=0)
    client = Client(app.url(sign({"sub": "auth0|ana", "username": "ana"})))
    client.frame()
    client.event("room.create", {"type": "GroupChat", "name": "x", "participants": ["auth0|ben", 7]})
    made = client.frame()["data"]
    assert made["creator"]["id"] == "auth0|ana"
    assert sorted(user["id"] for user in made["participants"]) == ["7", "auth0|ana", "auth0|ben"]
    client.close()


def test_directories(start):
    """S2-113: ids never seen are unknown, or stubs, or nobody at all."""
    known = start(n_people=1).client(10)
    known.event("room.create", {"type": "OneToOneChat", "participants": [4711]})
    assert kind(known.frame()) == 4003
    known.close()
    opened = start('directory = "open"', n_people=1).client(10)
    opened.event("room.create", {"type": "OneToOneChat", "participants": [4711]})
    assert [user["id"] for user in opened.frame()["data"]["participants"]].count(4711) == 1
    opened.close()
    closed = start('directory = "closed"', n_people=0)
    assert refused(closed.url(token(10))) == (4001, "Authentication failed")


# -- frames -----------------------------------------------------------------------------------------------


def test_bad_frames_leave_the_connection_open(talk):
    """I-1, S2-8, S2-15, S2-16."""
    talk.open("ana")
    for event in (b"x", b'{"event_type": "room.list"}', "", "x", "[]", "null", "5", "[" * 10_000):
        (frame,) = talk.raw("ana", event)["ana"]
        assert frame["error"]["code"] == 4003 and frame["error"]["detail"].startswith("Malformed event: "), frame
    for name in ([], {}, ["room.list"], None, 5):
        assert talk.raw("ana", {"event_type": name, "data": {}})["ana"] == [{"error": "invalid event type"}]
    assert talk.rooms("ana") == []


def test_the_largest_event(talk):
    """S2-9: 1 MiB after reassembly; more closes with 1009; 100,000 characters pass, escaped too."""
    talk.open("ana", "ben")
    room = talk.room("ana", "ben")
    client = talk.side.clients["ana"]
    text = "ü" * 100_000
    assert len(json.dumps(text)) > 600_000
    heard = talk.heard("ana", "message.send", {"room_id": room, "content": text})
    assert heard["ana"] == heard["ben"] and heard["ana"][0]["data"]["content"] == text

    def event(size):
        frame = json.dumps({"event_type": "session.heartbeat", "data": ""})
        return frame[:-2] + "x" * (size - len(frame)) + frame[-2:]

    client.send(event(1 << 20))
    assert client.frame() == {"status": "success"}
    parts = event(1 << 20)
    client.socket.send(parts[start : start + 300_000] for start in range(0, len(parts), 300_000))
    assert client.frame() == {"status": "success"}
    client.send(event((1 << 20) + 1))
    assert client.frame() is None and client.closed[0] == 1009


def test_pipelined_events_stay_in_order(talk):
    """S2-10, S2-11: answers in the order of the events, without waiting; one order of a room for everybody."""
    labels = ("ana", "ben", "cy", "ana2")
    talk.open(*labels)
    room = talk.room("ana", "ben", "cy")
    client = talk.side.clients["ana"]
    for number in range(30):
        client.event("message.send", {"room_id": room, "content": str(number)})
        client.event("room.zz", {})
        client.event("message.read", {"message_id": "x"})
    frames = [client.frame() for _ in range(90)]
    assert [kind(frame) for frame in frames] == ["message", "invalid", 4003] * 30
    assert [frame["data"]["content"] for frame in frames[::3]] == [str(number) for number in range(30)]
    talk.side.barrier()
    events = [(label, "message.send", {"room_id": room, "content": f"{label} {number}"}) for number in range(10) for label in labels]
    heard = talk.at_once(events)
    orders = {label: [frame["data"]["content"] for frame in frames if "data" in frame] for label, frames in heard.items()}
    assert len(orders["ana"]) == 40 and all(order == orders["ana"] for order in orders.values()), orders
    assert [message["content"] for message in talk.history("ana", room)][:40] == orders["ana"][::-1]


def test_fifty_members(app):
    """S2-45, S2-48: everybody of a large room hears everything, once and in the same order."""
    ids = [number for _ in range(5) for number in chat_people.group(next(groups)).values()]
    clients = [app.client(number) for number in ids]
    clients[0].event("room.create", {"type": "GroupChat", "name": "fifty", "participants": ids})
    room = clients[0].frame()["data"]["id"]
    for client in clients[1:]:
        assert client.frame()["data"]["id"] == room
    for number, client in enumerate(clients):
        client.event("message.send", {"room_id": room, "content": str(number)})
    orders = [[client.frame()["data"]["content"] for _ in ids] for client in clients]
    assert sorted(map(int, orders[0])) == list(range(50))
    assert all(order == orders[0] for order in orders)
    for client in clients:
        client.close()


# -- at the same moment -----------------------------------------------------------------------------------


def test_both_sides_make_a_chat_at_once(talk):
    """I-19, S2-35, S2-87: one chat for each pair."""
    names = ["ana", "ben", "cy", "dee", "eve"]
    talk.open(*names)
    for one, other in itertools.combinations(names, 2):
        asked = [(label, "room.create", {"type": "OneToOneChat", "participants": [talk.id(peer)]}) for label, peer in ((one, other), (other, one))]
        heard = talk.at_once(asked)
        kinds = sorted((str(kind(frame)) for label in (one, other) for frame in heard[label]))
        assert kinds == ["4005", "roomcreate", "roomcreate"], heard
        assert next(frame for label in (one, other) for frame in heard[label] if "error" in frame)["error"]["detail"] == "Chat already exists"
        assert not any(heard[label] for label in names if label not in (one, other))
    assert len(talk.rooms("ana")) == 4


def test_two_devices_react_at_once(talk):
    """I-19, S2-73: one reaction for each user and message."""
    talk.open("ana", "ana2", "ben")
    room = talk.room("ana", "ben")
    for number in range(8):
        message = talk.send("ben", room)
        same = [(label, "message.react", {"message_id": message, "type": "add", "reaction_content": "same"}) for label in ("ana", "ana2")]
        heard = talk.at_once(same)
        assert [kind(frame) for frame in heard["ben"]] == ["reaction"]
        assert sorted(str(kind(frame)) for label in ("ana", "ana2") for frame in heard[label]) == ["4005", "reaction", "reaction"], heard
        other = [(label, "message.react", {"message_id": message, "type": "add", "reaction_content": label}) for label in ("ana", "ana2")]
        heard = talk.at_once(other)
        assert [kind(frame) for frame in heard["ben"]] == ["reaction", "reaction"], heard
        last = heard["ben"][-1]["data"]["message"]["reactions"]
        assert len(last) == 1 and talk.history("ben", room)[0]["reactions"] == last, number


def test_two_devices_read_at_once(talk):
    """I-19, S2-69: one receipt for each user and message."""
    talk.open("ana", "ana2", "ben")
    room = talk.room("ana", "ben")
    for _ in range(8):
        message = talk.send("ben", room)
        heard = talk.at_once([(label, "message.read", {"message_id": message}) for label in ("ana", "ana2")])
        assert sorted(str(kind(frame)) for label in ("ana", "ana2") for frame in heard[label]) == ["4005", "readreceipt", "readreceipt"], heard
        assert len(talk.history("ben", room)[0]["read_receipts"]) == 1


@pytest.mark.parametrize("kind_of", ["GroupChat", "Channel"])
def test_a_cap_holds_under_concurrency(talk, kind_of):
    """I-19, S2-96, S2-97."""
    names = ["ben", "cy", "dee", "eve", "flo", "gus", "hal"]
    talk.open("ana", *names)
    for _ in range(4):
        if kind_of == "Channel":
            room = talk.room("ana", kind=kind_of, max_subscribers=4, is_public=True)
            events = [(name, "room.join", {"room_id": room}) for name in names]
        else:
            room = talk.room("ana", "ben", max_participants=4)
            talk.ask("ana", "room.modify", {"room_id": room, "action": "add_admin", "data": {"users": [talk.id("ben")]}}, "roomupdate")
            events = [(actor, "room.add_members", {"room_id": room, "members": [talk.id(name)]}) for actor, name in zip(["ana", "ben"] * 3, names[1:], strict=True)]
        heard = talk.at_once(events)
        errors = [frame["error"] for frames in heard.values() for frame in frames if "error" in frame]
        words = "channel subscribers" if kind_of == "Channel" else "group participants"
        assert errors == [{"code": 4003, "detail": [f"Maximum number of {words} exceeded"]}] * 4, heard
        info = talk.ask("ana", "room.info", {"room_id": room}, "roominfo")
        assert len(info["subscribers" if kind_of == "Channel" else "participants"]) == 4


def test_editing_revives_nothing(talk):
    """I-19: an edit and a deletion at the same moment."""
    talk.open("ana", "ana2", "ben")
    room = talk.room("ana", "ben")
    for _ in range(8):
        message = talk.send("ana", room)
        edit = {"action": "update", "message_id": message, "extra_fields": {"content": "edited"}}
        heard = talk.at_once([("ana", "message.modify", edit), ("ana2", "message.modify", {"action": "delete", "message_id": message})])
        assert {str(kind(frame)) for frame in heard["ana"]} <= {"messagemodification", "4004"}
        assert heard["ben"][-1]["data"]["action"] == "delete" and talk.history("ben", room) == []


# -- chapter 14 -------------------------------------------------------------------------------------------


def test_missing_and_wrong_fields_are_named(talk):
    """I-3, S2-17, S2-51, S2-49, S2-86, S2-96."""
    talk.open("ana", "ben")
    room = talk.room("ana", "ben")
    required = ["This field is required."]
    assert talk.refuse("ana", "message.send", {"room_id": room}, 4003) == {"content": required}
    assert talk.refuse("ana", "room.create", {"type": "GroupChat"}, 4003) == {"name": required}
    for data in (None, [], "x", 5):
        assert talk.refuse("ana", "room.info", data, 4003) == ["data must be an object"]
        assert talk.refuse("ana", "room.modify", {"room_id": room, "action": "update", "data": data or 1}, 4003)
    assert talk.raw("ana", {"event_type": "message.send"})["ana"] == [{"error": {"code": 4003, "detail": ["data must be an object"]}}]
    for members in (None, 5, "42", {}):
        for event in ("room.add_members", "room.remove_members"):
            assert list(talk.refuse("ana", event, {"room_id": room, "members": members}, 4003)) == ["members"]
    for fields in (None, [], "x", 5):
        talk.refuse("ana", "message.send", {"room_id": room, "content": "x", "extra_fields": fields}, 4003)
        talk.refuse("ana", "room.create", {"type": "GroupChat", "name": "x", "extra_fields": fields}, 4003)
    for ids in (["x"], [1.5], [{}], [[]], [True]):
        talk.refuse("ana", "room.add_members", {"room_id": room, "members": ids}, 4003)
        talk.refuse("ana", "room.create", {"type": "GroupChat", "name": "x", "participants": ids}, 4003)
        talk.refuse("ana", "room.modify", {"room_id": room, "action": "add_admin", "data": {"users": ids}}, 4003)
    # All failing fields together, also those inside and outside extra_fields (S2-33).
    fields = {"avatar": "x", "max_participants": -1, "group_locked": "maybe"}
    assert sorted(talk.refuse("ana", "room.create", {"type": "GroupChat", "description": [], "extra_fields": fields}, 4003)) == ["avatar", "description", "group_locked", "max_participants", "name"]
    assert len(talk.rooms("ana")) == 1


def test_membership_alone_decides(talk):
    """I-4, S2-45, S2-109: a device that connects while rooms are made and members come and go hears what the database says."""
    talk.open("ana", "ben")
    first = talk.room("ana", "ben", "cy")
    talk.open("cy")
    talk.ask("ana", "room.remove_members", {"room_id": first, "members": [talk.id("cy")]}, "roomremovemembers")
    second = talk.room("ana", "cy")
    talk.open("cy2")
    assert not any(talk.heard("ana", "message.send", {"room_id": first, "content": "x"})[label] for label in ("cy", "cy2"))
    heard = talk.heard("ana", "message.send", {"room_id": second, "content": "x"})
    assert heard["cy"] == heard["cy2"] == heard["ana"] and heard["ben"] == []
    # All at once: whoever connects in the middle gets each message at most once, and all later ones.
    talk.close("cy", "cy2")
    for number in range(5):
        talk.side.clients["ana"].event("message.send", {"room_id": second, "content": str(number)})
    late = talk.server.client(talk.id("cy"))
    talk.side.heartbeat("ana")
    talk.side.barrier()
    talk.send("ana", second, "last")
    seen = []
    while seen[-1:] != ["last"]:
        frame = late.frame()
        if frame["eventType"] == "message.dispatch":
            seen.append(frame["data"]["content"])
    assert seen == [str(number) for number in range(6 - len(seen), 5)] + ["last"]
    late.close()


def test_idle_devices_keep_hearing(with_settings):
    """I-5, S2-108: nothing follows from being idle."""
    talk = with_settings("inactivity_seconds = 1")
    talk.open("ana", "ben", "ben2")
    room = talk.room("ana", "ben")
    heard_last = time.monotonic()
    until(lambda: time.monotonic() > heard_last + 2, "Ben's devices to be idle")
    talk.open("ben3")
    talk.close("ben3")
    heard = talk.heard("ana", "message.send", {"room_id": room, "content": "x"})
    assert len(heard["ben"]) == len(heard["ben2"]) == 1
    heard = talk.heard("ana", "room.create", {"type": "GroupChat", "name": "made meanwhile", "participants": [talk.id("ben")]})
    assert kind(heard["ben"][0]) == kind(heard["ben2"][0]) == "roomcreate"
    assert talk.rooms("ben2")


def test_nothing_is_left_of_what_was_refused(talk):
    """I-7, S2-37."""
    talk.open("ana", "ben")
    room = talk.room("ana", "ben")
    before = talk.ask("ana", "room.info", {"room_id": room}, "roominfo")
    for media in ({"media_type": "zz"}, {"mime_type": "image/tiff"}):
        talk.refuse("ana", "message.send", {"room_id": room, "content": "x", "extra_fields": {"media": [LINK, {**LINK, **media}]}}, 4005 if "mime_type" in media else 4003)
    for fields in ({"property": "x"}, {"property": {"preferences": [1]}}, {"property": None}, {"max_participants": 0}):
        talk.refuse("ana", "room.create", {"type": "GroupChat", "name": "x", "extra_fields": fields}, 4003)
    talk.refuse("ana", "room.add_members", {"room_id": room, "members": [talk.id("cy"), 999_999_999]}, 4004)
    data = {"users": [talk.id("ben")], "permission": ["can_remove_participants", "zz"]}
    talk.refuse("ana", "room.modify", {"room_id": room, "action": "add_permission", "data": data}, 4003)
    talk.refuse("ben", "room.remove_members", {"room_id": room, "members": [talk.id("ana")]}, 4002)
    assert talk.history("ana", room) == [] and len(talk.rooms("ana")) == 1
    assert talk.ask("ana", "room.info", {"room_id": room}, "roominfo") == before
    talk.open("cy")
    assert talk.rooms("cy") == []


def test_a_list_of_receipts_is_all_or_nothing(talk):
    """S2-69, S2-37."""
    talk.open("ana", "ben")
    room = talk.room("ana", "ben")
    first, second = talk.send("ben", room), talk.send("ben", room)
    talk.ask("ana", "message.read", {"message_id": first}, "readreceipt")
    assert talk.refuse("ana", "message.read", {"message_id": [second, first]}, 4005) == "Database constraint violated."
    assert [len(message["read_receipts"]) for message in talk.history("ben", room)] == [0, 1]


def test_messages_of_other_rooms_stay_there(talk):
    """I-8, S2-52, S2-53."""
    talk.open("ana", "cy")
    secret = talk.send("ana", talk.room("ana"), "secret")
    room = talk.room("cy")
    for key in ("parent_message_id", "forwarded_from_id"):
        detail = talk.refuse("cy", "message.send", {"room_id": room, "content": "x", "extra_fields": {key: secret}}, 4002)
        assert detail == "User is not authorized to access this message"
    assert talk.history("cy", room) == []


def test_ids_and_flags_are_the_servers(talk):
    """I-9, I-10, S2-58, S2-78, S2-86."""
    talk.open("ana", "ben")
    mine = str(uuid.uuid4())
    made = talk.ask("ana", "room.create", {"type": "GroupChat", "name": "x", "id": mine, "participants": [talk.id("ben")], "extra_fields": {"id": mine}}, "roomcreate")
    assert made["id"] != mine
    flags = {"is_deleted": True, "is_edited": True, "is_forwarded": True}
    message = talk.ask("ana", "message.send", {"room_id": made["id"], "content": "x", "extra_fields": {"id": mine, **flags}}, "message")
    assert message["id"] != mine and not any(message[flag] for flag in flags)
    edit = {"action": "update", "message_id": message["id"], "extra_fields": {"content": "y", "id": mine, **flags, "sender_id": talk.id("ben")}}
    edited = talk.ask("ana", "message.modify", edit, "messagemodification")["message"]
    assert edited == {**message, "content": "y", "is_edited": True, "updated_at": edited["updated_at"]} and edited["updated_at"] >= edited["created_at"]
    reacted = talk.ask("ben", "message.react", {"type": "add", "message_id": message["id"], "reaction_content": "x", "id": mine}, "reaction")
    assert reacted["message"]["reactions"][0]["id"] != mine
    assert [each["id"] for each in talk.history("ana", made["id"])] == [message["id"]]
    talk.refuse("ana", "room.info", {"room_id": mine}, 4004)


def test_the_creator_is_protected_in_every_form(talk):
    """I-11, S2-24, S2-92."""
    talk.open("ana", "ben")
    room = talk.room("ana", "ben")
    talk.ask("ana", "room.modify", {"room_id": room, "action": "add_admin", "data": {"users": [str(talk.id("ben"))]}}, "roomupdate")
    for form in (talk.id("ana"), str(talk.id("ana"))):
        data = {"room_id": room, "action": "remove_admin", "data": {"users": [form]}}
        assert [user["id"] for user in talk.ask("ben", "room.modify", data, "roomupdate")["admins"]] == [talk.id("ana"), talk.id("ben")]
        left = talk.ask("ben", "room.remove_members", {"room_id": room, "members": [form]}, "roomremovemembers")
        assert left["removed_members"] == [] and len(left["room"]["participants"]) == 2


def test_the_last_member_is_told(talk):
    """I-13, S2-96: the room goes, and every connection of the removed hears it."""
    talk.open("ana", "ana2")
    room = talk.room("ana")
    heard = talk.heard("ana", "room.remove_members", {"room_id": room, "members": [talk.id("ana")]})
    assert heard["ana"] == heard["ana2"] and [kind(frame) for frame in heard["ana"]] == ["roomdelete"]
    assert heard["ana"][0]["data"] == {"room_id": room}
    assert talk.rooms("ana") == []


def test_changes_of_rooms_are_checked(talk):
    """I-14, S2-91."""
    talk.open("ana", "ben")
    room = talk.room("ana", "ben", name="Reef", avatar="https://e.test/a")

    def update(**data):
        return talk.refuse("ana", "room.modify", {"room_id": room, "action": "update", "data": data}, 4003)

    assert update(name="x" * 65) == {"name": ["Ensure this field has no more than 64 characters."]}
    assert update(name={"a": 1}) == {"name": ["Not a valid string."]}
    assert update(avatar="x") == {"avatar": ["Enter a valid URL."]}
    for preferences in ("x", [1], 5, True, None):
        update(property={"preferences": preferences})
    info = talk.ask("ana", "room.info", {"room_id": room}, "roominfo")
    assert (info["name"], info["avatar"], info["property"]) == ("Reef", "https://e.test/a", {"preferences": {}})


def test_the_last_message_after_a_deletion(talk):
    """I-16, S2-82: the newest that remains; the blank object when none does."""
    talk.open("ana", "ben")
    room = talk.chat("ana", "ben")
    first, second, third = (talk.send(label, room, label) for label in ("ana", "ben", "ana"))

    def last():
        (entry,) = talk.rooms("ben")
        return entry["last_message"]

    assert last()["id"] == third
    talk.ask("ana", "message.modify", {"action": "delete", "message_id": third}, "messagemodification")
    assert last()["id"] == second and last()["content"] == "ben"
    talk.ask("ana", "message.modify", {"action": "delete", "message_id": first}, "messagemodification")
    assert last()["id"] == second
    talk.ask("ben", "message.modify", {"action": "delete", "message_id": second}, "messagemodification")
    blank = {"id": None, "room_id": None, "sender_id": None, "parent_message_id": None, "forwarded_from_id": None}
    assert last() == {**blank, "content": "", "is_deleted": False, "is_forwarded": False, "is_edited": False}


def test_soft_deletion(with_settings):
    """S2-81, S2-82, S2-54, I-16: never shown again, and 4004 for every event."""
    talk = with_settings("soft_delete = true")
    talk.open("ana", "ben")
    room = talk.room("ana", "ben")
    kept = talk.send("ana", room, "kept")
    gone = talk.ask("ana", "message.send", {"room_id": room, "content": "x", "extra_fields": {"media": [LINK]}}, "message")["id"]
    talk.ask("ben", "message.react", {"message_id": gone, "type": "add", "reaction_content": "x"}, "reaction")
    reply = talk.send("ben", room, "reply", parent_message_id=gone)
    talk.ask("ana", "message.modify", {"action": "delete", "message_id": [gone]}, "messagemodification")
    history = talk.history("ben", room)
    assert [message["id"] for message in history] == [reply, kept]
    parent = history[0]["parent_message"]
    assert (parent["id"], parent["is_deleted"], parent["content"], parent["attachments"], parent["reactions"]) == (gone, True, "", [], [])
    for event, data in (("message.read", {}), ("message.acknowledged", {}), ("message.react", {"type": "add", "reaction_content": "y"})):
        assert talk.refuse("ben", event, {"message_id": gone, **data}, 4004) == "Resource not found."
    for action in ("update", "delete"):
        talk.refuse("ana", "message.modify", {"message_id": gone, "action": action, "extra_fields": {"content": "y"}}, 4004)
    detail = talk.refuse("ben", "message.send", {"room_id": room, "content": "x", "extra_fields": {"parent_message_id": gone}}, 4003)
    assert list(detail) == ["parent_message_id"]
    talk.ask("ben", "message.modify", {"action": "delete", "message_id": reply}, "messagemodification")
    mine = next(entry for entry in talk.rooms("ana") if entry["id"] == room)
    assert (mine["last_message"]["id"], mine["last_message"]["content"]) == (kept, "kept")
    talk.close("ben")
    pending = talk.open("ben")
    assert [entry["message"]["id"] for entry in pending[room]] == [kept]


def test_notifications_follow_reactions_and_membership(talk):
    """I-17, S2-103: replaced, withdrawn, lost with membership."""
    talk.open("ana", "ben")
    room = talk.room("ana", "ben", "cy")
    message = talk.send("ana", room, "secret")

    def pending(name):
        found = talk.open(f"{name}9")
        talk.close(f"{name}9")
        return [entry["notification_type"] for entry in found.get(room, [])]

    assert pending("ana") == [] and pending("cy") == ["NEW_MESSAGE"]
    for content in ("x", "y", "z"):
        talk.ask("ben", "message.react", {"message_id": message, "type": "add", "reaction_content": content}, "reaction")
    assert pending("ana") == ["REACTION"] and pending("cy") == ["NEW_MESSAGE", "REACTION"] and pending("ben") == ["NEW_MESSAGE"]
    talk.ask("ben", "message.react", {"message_id": message, "type": "remove"}, "reaction")
    assert pending("ana") == [] and pending("cy") == ["NEW_MESSAGE"]
    talk.ask("ana", "room.remove_members", {"room_id": room, "members": [talk.id("cy")]}, "roomremovemembers")
    assert pending("cy") == [] and pending("ben") == ["NEW_MESSAGE"]
    talk.ask("ben", "room.leave", {"room_id": room}, "roomexit")
    talk.ask("ana", "room.add_members", {"room_id": room, "members": [talk.id("ben")]}, "roomaddmembers")
    assert pending("ben") == []


def test_notifications_of_each_device_until_acknowledged(talk):
    """S2-104, S2-103, S2-102, S2-65."""
    talk.open("ana")
    room = talk.room("ana", "ben")
    ids = [talk.send("ana", room, str(number)) for number in range(3)]
    reply = talk.send("ana", room, "reply", parent_message_id=ids[0])
    for label in ("ben", "ben2"):
        entries = talk.open(label)[room]
        assert [(entry["message"]["id"], entry["notification_type"]) for entry in entries] == [(each, "NEW_MESSAGE") for each in ids] + [(reply, "REPLY")]
        assert all(set(entry) == {"id", "message", "notification_type"} for entry in entries)
    heard = talk.heard("ben", "message.acknowledged", {"message_id": [ids[1], reply]})
    assert [message["delivered_to"] for message in heard["ana"][0]["data"]] == [[talk.username("ben")]] * 2 and not heard["ben"] and not heard["ben2"]
    assert [entry["message"]["id"] for entry in talk.open("ben3")[room]] == [ids[0], ids[2]]


def test_deep_replies(with_settings):
    """I-20, S2-44: depth is limited, and so is one history."""
    talk = with_settings("max_nesting = 5\nmax_history = 20")
    talk.open("ana")
    room = talk.room("ana")
    message = None
    for number in range(25):
        message = talk.send("ana", room, str(number), **({"parent_message_id": message} if message else {}))
    history = talk.history("ana", room)
    assert [each["content"] for each in history] == [str(number) for number in range(24, 4, -1)]

    def depth(each):
        return 0 if each is None else 1 + depth(each["parent_message"])

    depths = {depth(each["parent_message"]) for each in history}
    assert depths == {5}, depths


def test_pages(talk):
    """I-21, S2-85."""
    talk.open("ana")
    room = talk.room("ana")
    for number in range(5):
        talk.send("ana", room, str(number))
    for size in (-1, "-5"):
        assert talk.refuse("ana", "room.messages", {"room_id": room, "paginate": {"page": 1, "size": size}}, 4003) == ["Invalid types"]
    answer = talk.ask("ana", "room.messages", {"room_id": room, "paginate": {"page": "2", "size": 2.9}}, "roommessages")
    assert [message["content"] for message in answer.pop("data")["messages"]] == ["2", "1"]
    assert answer == {"has_next": True, "has_previous": True, "next_page_number": 3, "prev_page_number": 1, "page": 2, "size": 2}


def test_plain_texts_of_creation(talk):
    """I-22, S2-32, S2-35."""
    talk.open("ana", "ben")
    talk.chat("ana", "ben")
    assert talk.refuse("ben", "room.create", {"type": "OneToOneChat", "participants": [talk.id("ana")]}, 4005) == "Chat already exists"
    for ids in ([], [talk.id("ana")], [talk.id("ben"), talk.id("cy")]):
        assert talk.refuse("ana", "room.create", {"type": "OneToOneChat", "participants": ids}, 4003) == ["A one to one chat can only have 2 participants"]


def test_mixed_faults_in_a_list(talk):
    """I-23, S2-76: 4002 goes before 4003, in every order; S2-36: ids before permission."""
    talk.open("ana", "ben", "cy")
    room, other = talk.room("ana", "ben"), talk.room("ana", "ben")
    mine, elsewhere, bens = talk.send("ana", room), talk.send("ana", other), talk.send("ben", room)
    for ids in itertools.permutations([mine, elsewhere, bens]):
        assert talk.refuse("ana", "message.modify", {"action": "delete", "message_id": list(ids)}, 4002) == "User is not authorized to modify this message"
    for ids in itertools.permutations([mine, bens, NOBODY]):
        talk.refuse("ana", "message.modify", {"action": "delete", "message_id": list(ids)}, 4004)
    for ids in itertools.permutations([mine, bens, "x"]):
        talk.refuse("ana", "message.modify", {"action": "delete", "message_id": list(ids)}, 4003)
    talk.refuse("ana", "message.modify", {"action": "delete", "message_id": [mine, elsewhere]}, 4003)
    # A stranger never learns whether the rest was right.
    for event, data in (("message.react", {"type": "zz"}), ("message.read", {}), ("message.modify", {"action": "zz"})):
        talk.refuse("cy", event, {"message_id": mine, **data}, 4002)
    for event, data in (("room.modify", {"action": "zz"}), ("room.messages", {"paginate": {"page": "x"}}), ("room.add_members", {"members": "x"}), ("message.send", {})):
        talk.refuse("cy", event, {"room_id": room, **data}, 4002)


# -- settings ---------------------------------------------------------------------------------------------


def test_small_settings(with_settings):
    """S2-18, S2-35, S2-63, S2-101, S2-105, I-24."""
    talk = with_settings('dispatch_type = false\nduplicate_chat_code = 4003\ntyping_room = true\nsanitise = "all"\nnotifications = false')
    talk.open("ana", "ben")
    chat = talk.chat("ana", "ben")
    assert talk.refuse("ana", "room.create", {"type": "OneToOneChat", "participants": [talk.id("ben")]}, 4003) == ["Chat already exists"]
    heard = talk.heard("ana", "message.typing", {"room_id": chat})
    assert heard["ben"] == [{"eventType": "messagetyping.dispatch", "data": {"username": talk.username("ana"), "room_id": chat}}]
    room = talk.ask("ana", "room.create", {"type": "GroupChat", "name": "<b>Reef</b>", "description": "<script>d</script>"}, "roomcreate")
    assert (room["name"], room["description"]) == ("Reef", "d")
    message = talk.send("ana", chat)
    heard = talk.heard("ben", "message.acknowledged", {"message_id": message})
    assert heard["ana"][0]["data"][0]["delivered_to"] == [talk.username("ben")]


def test_devices_at_most(start):
    """S2-106: `max_devices`; without it there is no limit."""
    app = start("max_devices = 2")
    devices = [app.client(10), app.client(10)]
    third = Client(app.url(token(10)))
    assert third.frame() is None and third.closed
    devices[0].close()
    until(lambda: app.client(10), "room for another device")
    devices[1].close()


def test_vacancy(with_settings):
    """I-25: `promote_on_vacancy`; without it nobody is promoted."""
    for settings, promoted in (("", False), ("promote_on_vacancy = true", True)):
        talk = with_settings(settings)
        talk.open("ana", "ben", "cy")
        room = talk.room("ana", "ben", "cy")
        talk.ask("ana", "room.leave", {"room_id": room}, "roomexit")
        admins = talk.ask("ben", "room.info", {"room_id": room}, "roominfo")["admins"]
        assert [user["id"] for user in admins] == ([talk.id("ben")] if promoted else [])


def test_an_unknown_key_stops_the_start(tmp_path):
    """S2-115: with its name and the nearest valid one."""
    app = ChatApp(tmp_path / "gateway", "soft_delet = true")
    with pytest.raises(AssertionError) as caught:
        app.__enter__()
    assert re.search(r"\bsoft_delet\b", str(caught.value)) and re.search(r"\bsoft_delete\b", str(caught.value))


def test_events_that_are_disabled(with_settings):
    """S2-117: unknown like any other name."""
    talk = with_settings('events.disabled = ["room.join"]')
    talk.open("ana")
    room = talk.room("ana", kind="Channel", is_public=True)
    assert talk.heard("ana", "room.join", {"room_id": room})["ana"] == [{"error": "invalid event type"}]
    assert len(talk.rooms("ana")) == 1


def test_everything_is_there_after_a_restart(app):
    """I-4, S2-109: rooms, roles, messages and notifications, and who hears what."""
    people = chat_people.group(next(groups))
    app.introduce(map(chat_people.person, people.values()))
    with Talk(app, people) as talk:
        talk.open("ana", "ben")
        room = talk.room("ana", "ben", "cy")
        talk.ask("ana", "room.modify", {"room_id": room, "action": "add_permission", "data": {"users": [talk.id("cy")], "permission": ["can_add_new_participants"]}}, "roomupdate")
        message = talk.send("ana", room, "before", media=[LINK])
        talk.ask("ben", "message.read", {"message_id": message}, "readreceipt")
        talk.ask("ben", "message.react", {"message_id": message, "type": "add", "reaction_content": "x"}, "reaction")
        before = talk.history("ben", room), talk.ask("ben", "room.info", {"room_id": room}, "roominfo")
    app.gateway.stop()
    app.gateway.start()
    # The barrier's room is there, too; the second one of that name is this talk's.
    with Talk(app, people) as talk:
        talk.open("ana", "ben")
        assert [entry["message"]["id"] for entry in talk.open("cy")[room]] == [message, message]
        assert (talk.history("ben", room), talk.ask("ben", "room.info", {"room_id": room}, "roominfo")) == before
        heard = talk.heard("ana", "message.send", {"room_id": room, "content": "after"})
        assert heard["ana"] == heard["ben"] == heard["cy"] and len(heard["cy"]) == 1
        talk.ask("cy", "room.add_members", {"room_id": room, "members": [talk.id("dee")]}, "roomaddmembers")


@pytest.mark.logs("database")
def test_a_database_that_is_not_there(tmp_path):
    """A start without its database says so."""
    app = ChatApp(tmp_path / "gateway", database=f"postgres://tidegate@127.0.0.1:{unused_tcp_port()}/x")
    with pytest.raises(AssertionError, match="(?is)ended with [^0].*database|postgres"):
        app.__enter__()
