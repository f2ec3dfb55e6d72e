"""S2-128: scripts of clients, played to the package and to the chat app; every frame to every client is compared.

`TIDEGATE_CHAT_APP=package tests/e2e/run.sh test_chat_reference.py` plays them to two instances of the package: that shows
that the player itself is sound. What may differ stands in `harness/chat_differences.py`.
"""

import itertools
import json
import os
import re
from pathlib import Path

import pytest

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_differences import DIFFERENCES, WORDS
from harness.chat_play import NOTHING, Play
from harness.chat_reference import ChatReference

# Long scripts, on machines that do other things at the same time.
pytestmark = pytest.mark.timeout(180)

NOBODY = "11111111-2222-4333-8444-555555555555"
groups = itertools.count()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    directory = tmp_path_factory.mktemp("chat")
    with ChatReference(directory / "package") as reference:
        if os.environ.get("TIDEGATE_CHAT_APP") == "package":
            with ChatReference(directory / "second", template=reference.template) as second:
                yield reference, second
        else:
            with ChatApp(directory / "app") as app:
                yield reference, app


@pytest.fixture
def play(servers):
    people = chat_people.group(next(groups))
    for server in servers:
        server.introduce(map(chat_people.person, people.values()))
    with Play(*servers, people, DIFFERENCES, WORDS) as play:
        yield play


def one_to_one(play, actor, other):
    return play.event(actor, "room.create", {"type": "OneToOneChat", "participants": [play.id(other)]}, "roomcreate").id


def room(play, actor, others=(), kind="GroupChat", name="Reef", **fields):
    members = "subscribers" if kind == "Channel" else "participants"
    data = {"type": kind, "name": name, members: [play.id(other) for other in others], "extra_fields": fields}
    return play.event(actor, "room.create", data, "roomcreate").id


def send(play, actor, room, content="hello", **fields):
    data = {"room_id": room, "content": content}
    if fields:
        data["extra_fields"] = fields
    return play.event(actor, "message.send", data, "message").id


def people(play, *labels):
    for label in labels:
        play.open(label)


# -- chapter 16 -------------------------------------------------------------------------------------------


def test_the_worked_examples(play):
    """S2-128, chapter 16."""
    people(play, "ana", "ben", "cy")
    chat = one_to_one(play, "ana", "ben")
    play.event("ana", "room.create", {"type": "OneToOneChat", "participants": [play.id("ben")]}, 4003, differs="chat-exists")
    fields = {"max_participants": 3, "property": {"preferences": {"theme": "dark"}}}
    data = {"type": "GroupChat", "name": "Reef", "participants": [play.id("ben")], "extra_fields": fields}
    reef = play.event("ana", "room.create", data, "roomcreate").id
    play.event("ana", "room.create", {"type": "GroupChat", "extra_fields": {"avatar": "x"}}, differs="fields-of-example")
    play.event("ana", "message.typing", {"room_id": chat}, "messagetyping")
    m1 = send(play, "ana", chat, "Low tide at <b>six</b><script>x</script>")
    m2 = send(play, "ana", chat, "Thanks", parent_message_id=m1)
    data = {"room_id": reef, "content": "", "extra_fields": {"forwarded_from_id": m1}}
    play.event("ana", "message.send", data, 4003, differs="forward-of-example")
    media = {"media_url": "https://cdn.example.test/a.png", "media_type": "image", "mime_type": "image/png", "file_size": 2048, "metadata": {"width": 640}}
    play.event("ana", "message.send", {"room_id": chat, "extra_fields": {"media": [media]}}, "message")
    m3 = send(play, "ana", reef, "a second room")

    play.event("ben", "message.acknowledged", {"message_id": [m1]}, [])
    play.event("ben", "message.read", {"message_id": m1}, "readreceipt")
    play.event("ben", "message.read", {"message_id": [m2, m3]}, ["readreceipt", "readreceipt"])
    play.event("ben", "message.react", {"type": "add", "message_id": m1, "reaction_content": "+1"}, "reaction")
    play.event("ben", "message.react", {"type": "add", "message_id": m1, "reaction_content": "+1"}, 4005)
    play.event("ben", "message.react", {"type": "remove", "message_id": m1}, "reaction")
    play.event("ben", "message.modify", {"action": "delete", "message_id": m1}, 4002)

    play.event("ana", "message.modify", {"action": "update", "message_id": m1, "extra_fields": {"content": "Low tide at seven"}}, "messagemodification")
    play.event("ana", "message.modify", {"action": "delete", "message_id": [m1]}, "messagemodification")
    play.event("ana", "room.add_members", {"room_id": reef, "members": [play.id("cy")]}, "roomaddmembers")
    play.event("ana", "room.add_members", {"room_id": reef, "members": [play.id("dee")]}, 4003)
    play.event("ana", "room.modify", {"room_id": reef, "action": "add_admin", "data": {"users": [play.id("ben")]}}, "roomupdate")
    play.event("ana", "room.modify", {"room_id": reef, "action": "update", "data": {"group_locked": True, "name": "Reef 2"}}, "roomupdate")
    play.event("ana", "room.remove_members", {"room_id": reef, "members": [play.id("cy")]}, "roomremovemembers")
    play.event("ben", "room.leave", {"room_id": reef}, "roomexit")
    play.event("ben", "room.leave", {"room_id": chat}, 4003)

    news = room(play, "ana", ["ben"], "Channel", "News", is_public=True)
    play.event("cy", "room.join", {"room_id": news}, "roomaddmembers")
    play.event("cy", "message.send", {"room_id": news, "content": "Hi"}, 4002)
    play.open("ana2")
    play.event("ana", "room.messages", {"room_id": chat, "paginate": {"page": 2, "size": 1}}, "roommessages")
    play.event("ana", "session.heartbeat", {}, "ok")
    play.event("ana", "room.archive", {}, "invalid")
    play.event("ana", "room.modify", {"room_id": reef, "action": "delete"}, "roomdelete")


# -- chapter 2 --------------------------------------------------------------------------------------------


def test_envelope(play):
    """S2-6, S2-14, S2-15, S2-17, S2-19, S2-107."""
    people(play, "ana", "ben")
    anything = (NOTHING, {}, None, [], "x", 5, True)
    for data in anything:
        play.event("ana", "session.heartbeat", data, "ok")
    play.batch("ana", "room.list", anything, "roomlist")
    for name in ("", "x", "Room.List", "ROOM.LIST", " room.list", "message.dispatch", "roomlist.dispatch", "receive_get_rooms", None, 0, 7, 1.5, True, False):
        play.batch("ana", {"event_type": name}, [{}], "invalid")
    play.raw("ana", {"data": {}}, "invalid")
    play.raw("ana", {}, "invalid")
    play.raw("ana", {"event_type": "session.heartbeat", "more": [1, 2], "type": "broadcast_group"}, "ok")
    play.raw("ana", ' \n\t{"event_type" : "room.list" , "data":{} } \r\n', "roomlist")
    play.raw("ana", '{"event_type":"room.list","event_type":"room.archive"}', "invalid")
    play.raw("ana", '{"event_type":"room.archive","event_type":"room.list"}', "roomlist")
    play.raw("ana", '{"event_type":"room\\u002elist"}', "roomlist")
    # The error of one is nobody else's, and the connection is as good as before.
    play.event("ana", "session.heartbeat", {}, "ok")


def test_what_the_package_dies_of(play):
    """I-1, S2-8, S2-15, S2-16: the app answers and goes on."""
    people(play, "ana")
    texts = ["x", "", "[]", '"room.list"', "null", '{"event_type": "room.list"} x', "{'a': 1}"]
    for key, events in (("not-json", texts), ("binary", [b'{"event_type": "room.list"}'])):
        for event in events:
            play.open("ana2")
            play.raw("ana2", event, differs=key)
            play.close("ana2")
    for name in (["room.list"], {}):
        play.open("ana2")
        play.event("ana2", name, {}, differs="event-type-list")
        play.close("ana2")


NEEDS_DATA = [
    "message.send", "message.acknowledged", "message.read", "message.react", "message.typing", "message.modify", "room.create",
    "room.info", "room.messages", "room.join", "room.leave", "room.add_members", "room.remove_members", "room.modify",
]


def test_data_that_is_no_object(play):
    """S2-17, I-3."""
    people(play, "ana", "ben")
    for name in NEEDS_DATA:
        play.batch("ana", name, (NOTHING, None, [], ["room_id"], "x", "", 5, 0, True, False), None, "data-no-object")


# -- chapter 3 --------------------------------------------------------------------------------------------


ROOM_EVENTS = {
    "room.info": {}, "room.messages": {}, "room.leave": {}, "room.add_members": {"members": []}, "room.remove_members": {"members": []},
    "room.join": {}, "room.modify": {"action": "update", "data": {"name": "x"}}, "message.send": {"content": "x"}, "message.typing": {},
}


@pytest.mark.parametrize("event", ROOM_EVENTS)
def test_room_ids(play, event):
    """S2-21, S2-22: every row of the table."""
    people(play, "ana", "ben")
    room(play, "ana", ["ben"])
    values = [NOBODY, NOBODY.upper(), NOBODY.replace("-", ""), "x", NOBODY[:-1], f" {NOBODY}", 0, 1, 7, 2**40, 2**128 - 1, -1, 1.5, 0.0, [], [NOBODY], {}, {"id": NOBODY}]
    rest = ROOM_EVENTS[event]
    play.batch("ana", event, [{**rest, "room_id": value} for value in [*values, True, False, None, ""]], None, loose=True)
    play.event("ana", event, {**rest, "room_id": NOBODY}, 4004)
    play.event("ana", event, {**rest, "room_id": {}})
    play.event("ana", event, rest)


def test_forms_of_an_id(play):
    """S2-21, S2-79: any case, with or without dashes; the ids of a deletion as the client wrote them."""
    people(play, "ana", "ben")
    reef = room(play, "ana", ["ben"])
    for form in (reef, reef.upper(), reef.hex(), reef.hex().upper()):
        play.event("ana", "room.info", {"room_id": form}, "roominfo")
        play.event("ana", "message.typing", {"room_id": form}, "messagetyping")
        m = send(play, "ana", form)
        play.event("ben", "message.read", {"message_id": m.upper()}, "readreceipt")
        play.event("ben", "message.acknowledged", {"message_id": [m.hex()]}, [])
        play.event("ben", "message.react", {"message_id": m.hex().upper(), "type": "add", "reaction_content": "x"}, "reaction")
        play.event("ana", "room.modify", {"room_id": form, "action": "update", "data": {"name": "y"}}, "roomupdate")
    m = send(play, "ana", reef)
    n = send(play, "ana", reef)
    play.event("ana", "message.modify", {"action": "delete", "message_id": [n.hex(), m.upper()]}, "messagemodification")


MESSAGE_EVENTS = {
    "message.read": {}, "message.acknowledged": {}, "message.modify": {"action": "delete"},
}


@pytest.mark.parametrize("event", MESSAGE_EVENTS)
def test_message_ids(play, event):
    """S2-23."""
    people(play, "ana", "ben")
    reef = room(play, "ana", ["ben"])
    mine = send(play, "ana", reef)
    rest = MESSAGE_EVENTS[event]
    values = (NOBODY, [NOBODY], "x", ["x"], "", [""], 0, 1, [1], [0], -1, [-1], None, [None], 1.5, [1.5], True, False, {}, {"id": NOBODY})
    play.batch("ana", event, [{**rest, "message_id": value} for value in values], None, loose=True)
    play.event("ana", event, rest, 4003)
    play.event("ana", event, {**rest, "message_id": [mine, NOBODY]}, 4004)
    play.event("ana", event, {**rest, "message_id": [mine, {}]}, differs="message-id-object-in-list")
    play.event("ana", event, {**rest, "message_id": [[mine]]}, differs="message-id-object-in-list")
    play.event("ana", event, {**rest, "message_id": []})


def test_message_id_of_a_reaction(play):
    """S2-71: one id."""
    people(play, "ana", "ben")
    reef = room(play, "ana", ["ben"])
    mine = send(play, "ana", reef)
    rest = {"type": "add", "reaction_content": "x"}
    play.batch("ana", "message.react", [{**rest, "message_id": value} for value in (NOBODY, "x", "", 0, 1, -1, None, 1.5, True, {})], None, loose=True)
    play.event("ana", "message.react", rest, 4003)
    play.event("ana", "message.react", {**rest, "message_id": [mine]}, 4003, loose=True)


# -- message.send -----------------------------------------------------------------------------------------


def test_content(play):
    """S2-25, S2-51, S2-9, S2-49."""
    people(play, "ana", "ben")
    chat = one_to_one(play, "ana", "ben")
    good = ["x", "  trimmed \n\t", "zwei\nZeilen", "emoji \U0001f30a and ünïcode", 5, 0, -3, 1.5, "5 ", "\u00a0x\u00a0", "x" * 100_000, "ü" * 100_000, "\u200b"]
    play.batch("ana", "message.send", [{"room_id": chat, "content": content} for content in good], "message")
    bad = ("", "   ", "\n\t ", "\u00a0", None, True, False, [], ["x"], {}, {"a": 1}, "nul\u0000byte")
    play.batch("ana", "message.send", [{"room_id": chat, "content": content} for content in bad], 4003)
    play.event("ana", "message.send", {"room_id": chat, "content": "lone \ud800 surrogate"}, 4003, differs="lone-surrogate")
    play.batch("ana", "message.send", [{"room_id": chat}, {"room_id": chat, "extra_fields": {}}], None, "content-missing")
    data = [{"room_id": chat, "content": "x", "extra_fields": fields} for fields in (None, [], ["media"], "x", 5, True)]
    play.batch("ana", "message.send", data, None, "extra-fields-no-object")
    play.event("ana", "message.send", {"room_id": chat, "content": "x", "extra_fields": {}}, "message")
    play.event("ben", "room.messages", {"room_id": chat}, "roommessages")


VECTORS = [
    "<script>alert('x')</script>", "<div>in</div>out", "<img src=x onerror=a>rest", "<a href='javascript:alert(1)'>l</a>",
    "<a href='JaVaScRiPt:alert(1)'>l</a>", "<a href=' javascript:alert(1)'>l</a>",
    '<a href="https://e.test/" onclick="x" title="t" rel="r">l</a>', '<a href="https://e.test/?a=1&b=2">l</a>', '<p id="i" onmouseover="x">t</p>',
    "a & b", "a &amp; b", "a &lt;b&gt; c", "1 < 2 > 0", "<b>unclosed", "stray</b>", "<B>x</B>", "x<br/>y", "<!-- c -->t", "x<y",
    "<ul><li>one</li><li>two</li></ul>", '<span class="c">s</span>', "<style>p{}</style>x", "say \"hi\" and 'ho'", "<b><i>x</i></b>",
    '<a href="mailto:a@b.test">m</a>', '<a href="/here">r</a>', '<a href="#f">f</a>', '<a target="_blank" href="http://e.test">t</a>', "<em>e</em><strong>s</strong>",
]


def test_sanitising(play):
    """S2-98 to S2-101: letter by letter, on send and on edit; names and reactions stay as they are."""
    people(play, "ana")
    reef = room(play, "ana", name="<b>Reef</b>", description="<script>d</script>")
    play.batch("ana", "message.send", [{"room_id": reef, "content": text} for text in VECTORS], "message")
    m = send(play, "ana", reef)
    edits = [{"action": "update", "message_id": m, "extra_fields": {"content": "edit " + text}} for text in VECTORS]
    play.batch("ana", "message.modify", edits, "messagemodification")
    play.event("ana", "message.react", {"type": "add", "message_id": m, "reaction_content": "<b>&</b>"}, "reaction")
    # Empty after sanitising: stored so on send, refused on edit (S2-51, S2-78).
    m = send(play, "ana", reef, "<!-- c -->")
    play.event("ana", "message.modify", {"action": "update", "message_id": m, "extra_fields": {"content": "<!-- c -->"}}, 4003)


def test_who_may_send(play):
    """S2-50, S2-30, S2-63: members, locked groups, channels and their permissions."""
    people(play, "ana", "ben", "cy", "dee")
    chat = one_to_one(play, "ana", "ben")

    def everyone(place, allowed):
        for label in ("ana", "ben", "cy", "dee"):
            good = label in allowed
            play.event(label, "message.send", {"room_id": place, "content": f"by {label}"}, "message" if good else 4002)
        play.event("ben", "message.typing", {"room_id": place}, "messagetyping" if "ben" in allowed else 4002)

    everyone(chat, ("ana", "ben"))
    reef = room(play, "ana", ["ben", "cy"])
    everyone(reef, ("ana", "ben", "cy"))
    play.event("ana", "room.modify", {"room_id": reef, "action": "update", "data": {"group_locked": True}}, "roomupdate")
    everyone(reef, ("ana",))
    play.event("ana", "room.modify", {"room_id": reef, "action": "add_admin", "data": {"users": [play.id("ben")]}}, "roomupdate")
    everyone(reef, ("ana", "ben"))
    # The creator's rights end with membership and come back with it.
    play.event("ana", "room.leave", {"room_id": reef}, "roomexit")
    everyone(reef, ("ben",))
    play.event("ben", "room.add_members", {"room_id": reef, "members": [play.id("ana")]}, "roomaddmembers")
    everyone(reef, ("ana", "ben"))

    news = room(play, "ana", ["ben", "cy"], "Channel", "News")
    everyone(news, ("ana",))
    play.event("ana", "room.modify", {"room_id": news, "action": "add_permission", "data": {"users": [play.id("ben")], "permission": ["can_send_messages"]}}, "roomupdate")
    everyone(news, ("ana", "ben"))
    play.event("ana", "room.modify", {"room_id": news, "action": "add_moderator", "data": {"users": [play.id("cy")]}}, "roomupdate")
    everyone(news, ("ana", "ben", "cy"))
    play.event("ana", "room.modify", {"room_id": news, "action": "remove_moderator", "data": {"users": [play.id("cy")]}}, "roomupdate")
    everyone(news, ("ana", "ben"))
    # A stranger learns nothing from the content (S2-36).
    play.event("dee", "message.send", {"room_id": news, "content": ""}, 4002)
    play.event("dee", "message.send", {"room_id": news}, 4002)


def test_replies(play):
    """S2-52, S2-54, S2-55, S2-44, I-8."""
    people(play, "ana", "ben", "cy")
    chat = one_to_one(play, "ana", "ben")
    reef = room(play, "ana", ["ben"])
    m = send(play, "ana", chat, "first")
    for number in range(3):
        m = send(play, "ben" if number % 2 else "ana", chat, f"reply {number}", parent_message_id=m)
    # The private answer to a message of a group.
    g = send(play, "ben", reef, "in the group")
    send(play, "ana", chat, "in private", parent_message_id=g)
    refused = [("parent_message_id", NOBODY), ("forwarded_from_id", NOBODY)]
    for key, value in refused:
        play.event("ana", "message.send", {"room_id": chat, "content": "x", "extra_fields": {key: value}}, 4003)
    for key in ("parent_message_id", "forwarded_from_id"):
        data = [{"room_id": chat, "content": "x", "extra_fields": {key: value}} for value in ("x", "", None, [], {}, True, 1.5, -1, [m])]
        play.batch("ana", "message.send", data, 4003, loose=True)
    play.event("ana", "message.send", {"room_id": chat, "content": "x", "extra_fields": {"parent_message_id": m, "forwarded_from_id": g}}, 4005)
    play.event("ana", "room.messages", {"room_id": chat}, "roommessages")
    # Deleting the parent leaves the reply (S2-80).
    play.event("ben", "message.modify", {"action": "delete", "message_id": g}, "messagemodification")
    play.event("ana", "room.messages", {"room_id": chat}, "roommessages")


def test_replies_to_strangers(play):
    """I-8: whoever has an id reads the message at the package."""
    people(play, "ana", "cy")
    secret = send(play, "ana", room(play, "ana"), "secret")
    mine = room(play, "cy")
    for key, difference in (("parent_message_id", "reply-to-strangers"), ("forwarded_from_id", "forward-from-strangers")):
        play.event("cy", "message.send", {"room_id": mine, "content": "peek", "extra_fields": {key: secret}}, differs=difference)


def test_forwards(play):
    """S2-53, I-15."""
    people(play, "ana", "ben", "cy")
    chat = one_to_one(play, "ana", "ben")
    reef = room(play, "ana", ["ben", "cy"])
    m = send(play, "ana", chat, "low tide")
    f = send(play, "ben", reef, "look", forwarded_from_id=m)
    send(play, "cy", reef, "again", forwarded_from_id=f)
    send(play, "cy", reef, "a reply to it", parent_message_id=f)
    media = {"media_url": "https://e.test/a", "media_type": "file"}
    send(play, "ana", reef, "ignored", forwarded_from_id=m, media=[media])
    play.event("ana", "room.messages", {"room_id": reef}, "roommessages")
    play.event("ben", "message.send", {"room_id": reef, "content": "  ", "extra_fields": {"forwarded_from_id": m}}, differs="forward-empty")
    play.event("ben", "message.send", {"room_id": reef, "extra_fields": {"forwarded_from_id": m}}, differs="forward-without-content")


def test_what_clients_may_not_set(play):
    """S2-58, I-10."""
    people(play, "ana", "ben")
    chat = one_to_one(play, "ana", "ben")
    reef = room(play, "ana", ["ben"])
    fields = {"sender": {"id": play.id("ben")}, "sender_id": play.id("ben"), "room": {"id": reef}, "room_id": reef, "content": "other", "read_receipts": [1]}
    play.event("ana", "message.send", {"room_id": chat, "content": "x", "extra_fields": fields}, "message")
    send(play, "ana", chat, "x", created_at="2001-01-01T00:00:00Z", updated_at="2001-01-01T00:00:00Z", delivered_to=["ben"], reactions=[{}], attachments=[{}], more={"a": 1})
    flags = {"is_deleted": True, "is_edited": True, "is_forwarded": True}
    play.event("ana", "message.send", {"room_id": chat, "content": "x", "extra_fields": flags}, differs="flags-by-client")


def test_send_by_message_id(play):
    """S2-22."""
    people(play, "ana", "ben", "cy")
    chat = one_to_one(play, "ana", "ben")
    m = send(play, "ana", chat)
    keys = ({}, {"room_id": None}, {"room_id": ""}, {"room_id": 0}, {"room_id": False})
    play.batch("ben", "message.typing", [{**key, "message_id": m} for key in keys], "messagetyping")
    for event in ("message.typing", "message.send"):
        play.batch("cy", event, [{**key, "message_id": m, "content": "x"} for key in keys], 4002)
        play.batch("ben", event, [{**key, "message_id": NOBODY, "content": "x"} for key in keys], 4004)
        values = (None, 1.5, [], {}, True, [m])
        play.batch("ben", event, [{**keys[1], "message_id": value, "content": "x"} for value in values], 4003)
        play.batch("ben", event, [{**key, "message_id": value, "content": "x"} for key in keys for value in ("x", -1)], 4003, loose=True)
    play.event("ben", "message.typing", {}, 4003)
    play.event("ben", "message.typing", {"room_id": chat, "message_id": 1.5}, "messagetyping")
    play.event("ben", "message.send", {"message_id": m, "content": "by message id"}, differs="send-by-message-id")


# -- attachments ------------------------------------------------------------------------------------------


MIMES = (
    [f"image/{x}" for x in "jpeg png gif webp bmp heic".split()] + [f"audio/{x}" for x in "mpeg mp4 aac ogg wav opus".split()]
    + [f"video/{x}" for x in "mp4 quicktime webm ogg x-msvideo x-matroska".split()]
    + [f"application/{x}" for x in (
        "pdf msword vnd.openxmlformats-officedocument.wordprocessingml.document vnd.ms-excel vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        " vnd.ms-powerpoint vnd.openxmlformats-officedocument.presentationml.presentation").split()]
    + ["text/plain", "text/csv"]
)
LINK = {"media_url": "https://cdn.example.test/a.png", "media_type": "image"}


def test_attachments(play):
    """S2-56, S2-57, S2-60 to S2-62."""
    people(play, "ana", "ben")
    chat = one_to_one(play, "ana", "ben")
    send(play, "ana", chat, "ignored", media=[{**LINK, "mime_type": mime} for mime in MIMES])
    contents = ({}, {"content": ""}, {"content": None}, {"content": []})
    play.batch("ana", "message.send", [{"room_id": chat, **data, "extra_fields": {"media": [LINK]}} for data in contents], "message")
    full = {**LINK, "media_type": "video", "file_size": 2**40, "caption": " a caption ", "mime_type": "video/mp4", "metadata": {"width": 1, "more": [1, None, {"x": "y"}]}}
    m = send(play, "ana", chat, "x", media=[full, LINK, {**LINK, "media_type": "audio"}, {**LINK, "media_type": "file"}])
    more = ({"media_url": "a/b.png"}, {"media_url": "//e.test/x"}, {"media_url": 5}, {"file_size": "12"}, {"file_size": 0}, {"caption": None}, {"caption": ""},
            {"caption": 7}, {"metadata": []}, {"metadata": "x"}, {"metadata": 0}, {"metadata": False}, {"media_url": "  https://e.test/x "},
            {"extra": 1, "message": NOBODY, "message_id": NOBODY})
    play.batch("ana", "message.send", [{"room_id": chat, "extra_fields": {"media": [{**LINK, **fields}]}} for fields in more], "message")
    play.batch("ana", "message.send", [{"room_id": chat, "content": "none", "extra_fields": {"media": media}} for media in (None, [])], "message")
    play.event("ana", "message.send", {"room_id": chat, "content": "", "extra_fields": {"media": []}}, 4003)
    data = [{"room_id": chat, "content": "x", "extra_fields": {"media": media}} for media in ({}, {"media_url": "x"}, "x", 5, True, LINK)]
    play.batch("ana", "message.send", data, 4003)
    play.event("ben", "room.messages", {"room_id": chat}, "roommessages")
    play.event("ben", "message.read", {"message_id": m}, "readreceipt")


def test_refused_attachments(play):
    """S2-33, S2-34, S2-37, S2-62, I-7."""
    people(play, "ana", "ben")
    chat = room(play, "ana", ["ben"])
    faults = ({"media_type": "zz"}, {"media_type": ""}, {"media_type": None}, {"media_type": 5}, {"media_type": "IMAGE"}, {"media_url": ""}, {"media_url": None}, {"media_url": "  "},
                   {"media_url": []}, {"media_url": True}, {"file_size": -1}, {"file_size": "x"}, {"file_size": None}, {"file_size": 1.5}, {"file_size": []}, {"caption": []}, {"caption": True},
              {"metadata": None}, {"mime_type": None}, {"mime_type": ""}, {"mime_type": []}, {"media_type": "zz", "file_size": -1})
    play.batch("ana", "message.send", [{"room_id": chat, "content": "x", "extra_fields": {"media": [{**LINK, **fields}]}} for fields in faults], 4003)
    play.event("ana", "message.send", {"room_id": chat, "content": "x", "extra_fields": {"media": [{}]}}, 4003)
    play.event("ana", "message.send", {"room_id": chat, "content": "x", "extra_fields": {"media": [LINK, {**LINK, "media_type": "zz"}, LINK, {"media_type": "image"}]}}, 4003)
    mimes = ("image/tiff", "IMAGE/PNG", "application/zip", "x")
    play.batch("ana", "message.send", [{"room_id": chat, "content": "x", "extra_fields": {"media": [{**LINK, "mime_type": mime}]}} for mime in mimes], 4005)
    elements = (None, 5, "x", [], True)
    data = [{"room_id": chat, "content": "x", "extra_fields": {"media": [LINK, element]}} for element in elements]
    play.batch("ana", "message.send", data, None, "attachment-no-object")
    fresh = room(play, "ana", ["ben"])
    for mime in ("image/png", "x"):
        fields = {"media_type": "zz"} if mime == "image/png" else {"mime_type": "x"}
        play.event("ana", "message.send", {"room_id": fresh, "content": "x", "extra_fields": {"media": [{**LINK, **fields}]}})
    play.event("ana", "room.messages", {"room_id": fresh}, differs="refused-attachments-leave-no-message")


def test_links_that_run(play):
    """S2-60."""
    people(play, "ana")
    reef = room(play, "ana")
    for link in ("javascript:alert(1)", "JavaScript:alert(1)", "vbscript:x", "data:text/html,x"):
        play.event("ana", "message.send", {"room_id": reef, "content": "x", "extra_fields": {"media": [{**LINK, "media_url": link}]}}, differs="attachment-script-link")


# -- message.acknowledged, message.read -------------------------------------------------------------------


def test_acknowledging(play):
    """S2-64 to S2-66, S2-40."""
    people(play, "ana", "ben", "cy")
    play.open("ana2")
    reef = room(play, "ana", ["ben", "cy"])
    chat = one_to_one(play, "ana", "ben")
    a1, a2 = send(play, "ana", reef, "a1"), send(play, "ana", chat, "a2")
    b1, c1 = send(play, "ben", reef, "b1"), send(play, "cy", reef, "c1")
    play.event("ben", "message.acknowledged", {"message_id": a1}, [])
    play.event("ben", "message.acknowledged", {"message_id": [a1]}, [])
    play.event("cy", "message.acknowledged", {"message_id": a1}, [])
    play.event("ben", "message.acknowledged", {"message_id": [a2, a1, c1, a1]}, [])
    play.event("cy", "message.acknowledged", {"message_id": [b1, c1, a1]}, "messagedelivered")
    play.event("ana", "message.acknowledged", {"message_id": a1}, "messagedelivered")
    play.event("ana", "message.acknowledged", {"message_id": []}, [])
    play.event("cy", "message.acknowledged", {"message_id": a2}, 4002)
    play.event("cy", "message.acknowledged", {"message_id": [a1, a2]}, 4002)
    play.open("dee")
    play.event("dee", "message.acknowledged", {"message_id": a1}, 4002)
    play.event("dee", "message.acknowledged", {"message_id": []}, [])
    play.event("ana", "room.messages", {"room_id": reef}, "roommessages")


def test_reading(play):
    """S2-67 to S2-70, S2-35."""
    people(play, "ana", "ben", "cy")
    play.open("ben2")
    reef = room(play, "ana", ["ben", "cy"])
    chat = one_to_one(play, "ana", "ben")
    a = [send(play, "ana", reef, f"a{number}") for number in range(4)]
    p = [send(play, "ana", chat, f"p{number}") for number in range(2)]
    b = send(play, "ben", reef, "b")
    play.event("ben", "message.read", {"message_id": a[0]}, "readreceipt")
    play.event("ben", "message.read", {"message_id": a[0]}, 4005)
    play.event("ben", "message.read", {"message_id": [a[0]]}, 4005)
    play.event("ben", "message.read", {"message_id": [a[1], a[0]]}, 4005)
    play.event("ben", "message.read", {"message_id": [a[1]]}, "readreceipt")
    play.event("ben", "message.read", {"message_id": [a[2], p[0], a[3], b, p[1], a[2]]}, ["readreceipt", "readreceipt"])
    play.event("cy", "message.read", {"message_id": a[0]}, "readreceipt")
    play.event("ben", "message.read", {"message_id": b}, [])
    play.event("ben", "message.read", {"message_id": [b]}, [])
    play.event("ben", "message.read", {"message_id": []}, [])
    play.event("cy", "message.read", {"message_id": p[0]}, 4002)
    play.event("cy", "message.read", {"message_id": [a[1], p[0]]}, 4002)
    play.event("ana", "room.messages", {"room_id": reef}, "roommessages")
    # Reading acknowledges nothing (S2-70).
    play.close("ben")
    play.open("ben")


# -- message.react ----------------------------------------------------------------------------------------


def test_reacting(play):
    """S2-71 to S2-75, S2-35, S2-33."""
    people(play, "ana", "ben", "cy", "dee")
    reef = room(play, "ana", ["ben", "cy"])
    m = send(play, "ana", reef)

    def react(label, expect, **data):
        return play.event(label, "message.react", {"message_id": m, **data}, expect)

    react("ben", "reaction", type="add", reaction_content="\U0001f30a")
    react("ben", 4005, type="add", reaction_content="\U0001f30a")
    react("ben", 4005, type="add", reaction_content=" \U0001f30a ")
    react("ben", "reaction", type="add", reaction_content="+1")
    react("cy", "reaction", type="add", reaction_content="+1")
    react("ana", "reaction", type="add", reaction_content="own")
    react("ben", "reaction", type="remove", reaction_content="whatever")
    react("ben", "reaction", type="remove")
    react("ben", "reaction", type="remove", reaction_content=None)
    react("ben", "reaction", type="add", reaction_content="x" * 128)
    react("ben", "reaction", type="add", reaction_content=5)
    bad = ("x" * 129, "", "  ", None, [], {}, True, "nul\u0000")
    play.batch("ben", "message.react", [{"message_id": m, "type": "add", "reaction_content": content} for content in bad], 4003)
    react("ben", 4003, type="add")
    bad = ("", "ADD", "toggle", None, 5, [], {}, True)
    play.batch("ben", "message.react", [{"message_id": m, "type": name, "reaction_content": "x"} for name in bad], 4003)
    react("ben", 4003, reaction_content="x")
    # Permission before type and content (S2-72, S2-36).
    react("dee", 4002, type="add", reaction_content="x")
    react("dee", 4002, type="zz")
    react("dee", 4002, type="remove")
    react("ana", "reaction", type="add", reaction_content="y", user_id=play.id("ben"), user=play.id("ben"), message=NOBODY, created_at="2001-01-01T00:00:00Z")
    play.event("ana", "room.modify", {"room_id": reef, "action": "update", "data": {"group_locked": True}}, "roomupdate")
    react("cy", "reaction", type="add", reaction_content="in a locked group")
    play.event("ana", "room.messages", {"room_id": reef}, "roommessages")


# -- message.modify ---------------------------------------------------------------------------------------


def test_editing(play):
    """S2-76 to S2-78, S2-30, S2-31."""
    people(play, "ana", "ben", "cy")
    reef = room(play, "ana", ["ben"])
    other = room(play, "ana", ["ben"])
    m, n, b = send(play, "ana", reef, "m"), send(play, "ana", other, "n"), send(play, "ben", reef, "b")

    def edit(label, expect, loose=False, **data):
        play.event(label, "message.modify", {"message_id": m, "action": "update", "extra_fields": {"content": "new"}, **data}, expect, loose=loose)

    edit("ana", "messagemodification")
    edit("ana", "messagemodification", message_id=[m])
    edit("ana", "messagemodification", extra_fields={"content": "  <b>trimmed  "})
    edit("ana", "messagemodification", extra_fields={"content": 5})
    edit("ana", 4003, message_id=[])
    edit("ana", 4003, message_id=[m, m])
    update = {"message_id": m, "action": "update"}
    bad = [{"extra_fields": fields} for fields in (None, {}, [], "x", 5, ["content"], {"other": "x"})]
    bad += [{"extra_fields": {"content": content}} for content in ("", "  ", None, [], {}, True, "\u0000")]
    bad += [{"extra_fields": {"content": "new"}, "action": action} for action in (None, "", "UPDATE", "remove", 5, [], {}, True)]
    play.batch("ana", "message.modify", [update, *({**update, **data} for data in bad)], 4003)
    play.event("ana", "message.modify", {"message_id": m}, 4003)
    # Everything but the content is ignored.
    edit("ana", "messagemodification", extra_fields={"content": "n", "is_edited": False, "is_forwarded": True, "is_deleted": True, "sender_id": play.id("ben"), "room_id": other, "forwarded_from_id": b})
    edit("ana", "messagemodification", extra_fields={"content": "p", "parent_message_id": b, "created_at": "2001-01-01T00:00:00Z", "media": [LINK]})
    # Admins have no power over others' messages.
    edit("ben", 4002)
    edit("cy", 4002)
    edit("cy", 4002, action="zz")
    edit("ana", 4002, message_id=b)
    edit("ana", 4002, message_id=[b])
    edit("ana", 4003, message_id=[m, n])
    # A locked group does not prevent it; leaving does.
    play.event("ana", "room.modify", {"room_id": reef, "action": "update", "data": {"group_locked": True}}, "roomupdate")
    edit("ben", "messagemodification", message_id=b)
    play.event("ben", "room.leave", {"room_id": reef}, "roomexit")
    edit("ben", 4002, message_id=b)
    play.event("ben", "message.modify", {"message_id": b, "action": "delete"}, 4002)
    play.event("ana", "room.messages", {"room_id": reef}, "roommessages")


def test_deleting(play):
    """S2-79, S2-80, S2-76."""
    people(play, "ana", "ben", "cy")
    reef = room(play, "ana", ["ben", "cy"])
    other = room(play, "ana", ["ben"])
    m = [send(play, "ana", reef, f"m{number}") for number in range(6)]
    n, b = send(play, "ana", other, "n"), send(play, "ben", reef, "b")
    reply = send(play, "ben", reef, "a reply", parent_message_id=m[1])
    send(play, "ben", other, "a forward", forwarded_from_id=m[1])
    play.event("ben", "message.react", {"message_id": m[1], "type": "add", "reaction_content": "x"}, "reaction")
    play.event("ben", "message.read", {"message_id": m[1]}, "readreceipt")

    def delete(label, ids, expect="messagemodification", **data):
        play.event(label, "message.modify", {"message_id": ids, "action": "delete", **data}, expect)

    delete("ana", m[0])
    delete("ana", m[0], 4004)
    delete("ana", [m[1]], extra_fields={"content": "x"})
    delete("ana", [m[3], m[2], m[3]])
    delete("ana", [m[4], m[2]], 4004)
    delete("ana", [m[4], n], 4003)
    delete("ana", b, 4002)
    delete("ana", [b], 4002)
    delete("cy", m[4], 4002)
    delete("ana", [], 4003)
    for event in ("message.read", "message.acknowledged"):
        play.event("ben", event, {"message_id": m[0]}, 4004)
    play.event("ben", "message.react", {"message_id": m[0], "type": "add", "reaction_content": "x"}, 4004)
    play.event("ben", "message.send", {"room_id": reef, "content": "x", "extra_fields": {"parent_message_id": m[0]}}, 4003)
    play.event("ana", "room.messages", {"room_id": reef}, "roommessages")
    play.event("ana", "room.messages", {"room_id": other}, "roommessages")
    delete("ben", reply)
    play.open("cy2")


# -- room.messages ----------------------------------------------------------------------------------------


def test_history(play):
    """S2-83 to S2-85, I-21."""
    people(play, "ana", "ben", "cy")
    play.open("ana2")
    reef = room(play, "ana", ["ben"])

    def messages(expect="roommessages", label="ana", differs=None, **data):
        play.event(label, "room.messages", {"room_id": reef, **data}, expect, differs=differs)

    messages()
    messages(paginate={"page": 1, "size": 5})
    messages(paginate={"page": 7, "size": 5})
    for number in range(7):
        send(play, "ana" if number % 3 else "ben", reef, f"m{number}")
    play.batch("ana", "room.messages", [{"room_id": reef, "paginate": value} for value in (None, {}, [], "x", 5, False, True, 0, [1, 2])], "roommessages")
    pages = ((1, 3), (2, 3), (3, 3), (4, 3), (99, 3), (-1, 3), (-99, 3), (1, 7), (1, 100), ("2", "3"), (" 2 ", 3), (2.9, 3.9))
    play.batch("ana", "room.messages", [{"room_id": reef, "paginate": {"page": page, "size": size}} for page, size in pages], "roommessages")
    bad = [{"page": page, "size": size} for page, size in (("1.5", 3), ("x", 3), (1, "x"), ([1], 3), ({"a": 1}, 3), (0, 3), (1, 0), (None, 3), (1, ""), ([], 3), (False, 3))]
    play.batch("ana", "room.messages", [{"room_id": reef, "paginate": value} for value in [*bad, {"page": 1}, {"size": 1}, {"x": 1}]], 4003)
    play.batch("ana", "room.messages", [{"room_id": reef, "paginate": {"page": 1, "size": size}} for size in (-1, -7, "-3")], None, "negative-page-size")
    messages(4002, "cy")
    messages(4002, "cy", paginate={"page": "x"})


# -- room.create ------------------------------------------------------------------------------------------


def create(play, expect, differs=None, loose=False, label="ana", **data):
    return play.event(label, "room.create", data, expect, differs, loose)


def test_types_of_rooms(play):
    """S2-86."""
    people(play, "ana", "ben")
    names = ("", "x", "groupchat", "GROUPCHAT", "Room", " GroupChat", None, 5, True)
    play.batch("ana", "room.create", [{"name": "x"}, *({"type": name, "name": "x"} for name in names)], 4003)
    play.batch("ana", "room.create", [{"type": name, "name": "x"} for name in ([], {}, ["GroupChat"])], None, "room-type-list")
    data = [{"type": "GroupChat", "name": "x", "extra_fields": fields} for fields in (None, [], "x", 5)]
    play.batch("ana", "room.create", data, None, "room-extra-fields")


@pytest.mark.parametrize("kind", ["GroupChat", "Channel"])
def test_fields_of_rooms(play, kind):
    """S2-86, S2-25 to S2-27, S2-33."""
    people(play, "ana", "ben")
    cap = "max_subscribers" if kind == "Channel" else "max_participants"
    flags = ["is_public"] if kind == "Channel" else ["join_approval_required", "group_locked"]

    def batch(expect, *fields):
        play.batch("ana", "room.create", [{"type": kind, "name": "n", "extra_fields": each} for each in fields], expect)

    create(play, "roomcreate", type=kind, name="outside")
    create(play, None, "name-only-inside", type=kind, extra_fields={"name": "inside"})
    create(play, "roomcreate", type=kind, name="outside", description="d", extra_fields={"name": "inside wins"})
    create(play, 4003, type=kind)
    good = [{"name": name} for name in (" trimmed ", "x" * 64, 5, 1.5, "\U0001f30a" * 64, "  " + "x" * 64)]
    good += [{"description": text} for text in ("", None, "  d ", 5, "x" * 1000)]
    links = ("", None, "https://e.test/a.png", "http://localhost:8000/x", "ftp://e.test/x", "ftps://e.test/x", "https://e.test/" + "x" * 185, "http://127.0.0.1/x", " https://e.test/ ")
    good += [{"avatar": link} for link in links]
    good += [{cap: value} for value in (1, 2, 100, "7", 2**40)]
    flag_texts = ("true", "True", "TRUE", "t", "T", "yes", "Yes", "y", "on", "On", "1", "false", "f", "no", "n", "off", "OFF", "0")
    good += [{flags[0]: value} for value in (True, False, 1, 0, *flag_texts)] + [{flags[-1]: True}]
    batch("roomcreate", *good)
    bad = [{"name": name} for name in ("", " ", None, "x" * 65, [], {}, True, "nul\u0000")]
    bad += [{"description": text} for text in ([], {}, True, "\u0000")]
    links = ("x", "/a.png", "//e.test/x", "javascript:alert(1)", "https://", "https://e.test/" + "x" * 186, "mailto:a@b.test", [], True, 5, "https://e test/")
    bad += [{"avatar": link} for link in links]
    bad += [{cap: value} for value in (-1, "x", None, "", [], {})]
    bad += [{flag: value} for flag in flags for value in (None, "x", "", 2, -1, [], {}, 1.5)]
    batch(4003, *bad)
    fields = {"name": "", "avatar": "x", cap: -1, flags[0]: "x", "description": []}
    create(play, None, "fields-together", type=kind, extra_fields=fields)
    create(play, 4003, type=kind, name="n", extra_fields=fields)
    # Everything else is ignored.
    create(play, "roomcreate", type=kind, name="n", creator=play.id("ben"), admins=[play.id("ben")], moderators=[play.id("ben")], created_at="2001-01-01T00:00:00Z", last_message=NOBODY, more=1)


@pytest.mark.parametrize("kind", ["GroupChat", "Channel", "OneToOneChat"])
def test_properties_of_rooms(play, kind):
    """S2-86: the preferences."""
    people(play, "ana")
    partners = iter(["ben", "cy", "dee", "eve", "flo", "gus", "hal", "ida"])

    def data(value):
        members = {"participants": [play.id(next(partners))]} if kind == "OneToOneChat" else {"name": "n"}
        return {"type": kind, **members, "extra_fields": {"property": value}}

    values = ({}, {"preferences": {}}, {"preferences": {"theme": "dark", "deep": [1, {"a": None}]}}, {"more": 1})
    play.batch("ana", "room.create", [data(value) for value in values], "roomcreate")
    if kind == "OneToOneChat":
        return
    for value in ([], "", 0, False, {"preferences": []}, {"preferences": ""}, {"preferences": 0}, {"preferences": False}):
        play.event("ana", "room.create", data(value), differs="empty-properties" if not isinstance(value, dict) or not isinstance(value.get("preferences"), dict) else None)


def test_refused_properties(play):
    """S2-31, S2-86, I-7: refused, and no room is left."""
    people(play, "ana")
    values = ("x", 5, [1], True, {"preferences": "x"}, {"preferences": [1]}, {"preferences": 5}, {"preferences": True}, None, {"preferences": None})
    play.batch("ana", "room.create", [{"type": "GroupChat", "name": "n", "extra_fields": {"property": value}} for value in values], 4003)
    play.event("ana", "room.list", {}, differs="refused-property-leaves-no-room")


def test_members_of_new_rooms(play):
    """S2-87."""
    people(play, "ana", "ben", "cy")
    everyone = ["hal", "ana", "ben", "cy"]
    for kind, key in (("GroupChat", "participants"), ("Channel", "subscribers")):
        wrong = {"participants": "subscribers", "subscribers": "participants"}[key]
        lists = [[], [play.id("ben")], [play.id("ana")], [play.id("ben")] * 3, [play.id(name) for name in everyone], [999_999_999], [None]]
        lists += [[play.id("ben"), None, 999_999_999], [str(play.id("ben")), play.id("ben")], None, "x", "12", 5, {}, {"id": 1}, True]
        play.batch("ana", "room.create", [{"type": kind, "name": "n", key: ids} for ids in lists], "roomcreate")
        play.batch("ana", "room.create", [{"type": kind, "name": "n", key: [], "extra_fields": {key: ids}} for ids in lists[4:6]], "roomcreate")
        play.batch("ana", "room.create", [{"type": kind, "name": "n", key: ids} for ids in (["x"], [play.id("ben"), "x"])], None, "member-ids-refused")
        create(play, "roomcreate", type=kind, name="n", **{wrong: [play.id("ben")]})
    # Somebody with a high id first: the order of members.
    play.open("ida")
    create(play, "roomcreate", label="ida", type="GroupChat", name="n", participants=[play.id("cy"), play.id("ben")])
    create(play, "roomcreate", label="ida", type="Channel", name="n", subscribers=[play.id("cy"), play.id("ben")])


def test_caps(play):
    """S2-87, S2-96, S2-97: the creator counts; exceeding makes no room."""
    people(play, "ana", "ben", "cy")
    for kind, key, cap, words in (("GroupChat", "participants", "max_participants", "group"), ("Channel", "subscribers", "max_subscribers", "channel")):
        ids = [play.id("ben"), play.id("cy")]
        create(play, "roomcreate", type=kind, name="full", extra_fields={cap: 3, key: ids})
        create(play, 4003, type=kind, name="n", differs=f"{words}-cap-at-creation", extra_fields={cap: 2, key: ids})
    play.event("ana", "room.list", {}, "roomlist")
    full = room(play, "ana", ["ben"], max_participants=2)
    play.event("ana", "room.add_members", {"room_id": full, "members": [play.id("cy")]}, 4003)
    play.event("ana", "room.add_members", {"room_id": full, "members": [play.id("ben")]}, "roomaddmembers")
    play.event("ben", "room.leave", {"room_id": full}, "roomexit")
    play.event("ana", "room.add_members", {"room_id": full, "members": [play.id("cy"), play.id("ben")]}, 4003)
    play.event("ana", "room.add_members", {"room_id": full, "members": [play.id("cy")]}, "roomaddmembers")
    public = room(play, "ana", [], "Channel", max_subscribers=2, is_public=True)
    play.event("ben", "room.join", {"room_id": public}, "roomaddmembers")
    play.event("cy", "room.join", {"room_id": public}, 4003)
    play.event("ben", "room.join", {"room_id": public}, "roomaddmembers")


def test_one_to_one_chats(play):
    """S2-87, S2-35, I-29: the other alone or both; one for each pair, whichever side asks."""
    people(play, "ana", "ben", "cy")
    both = [play.id("ana"), play.id("cy")]
    create(play, "roomcreate", type="OneToOneChat", participants=both)
    create(play, None, "chat-exists", type="OneToOneChat", participants=[play.id("cy")])
    create(play, None, "chat-exists", type="OneToOneChat", label="cy", participants=[play.id("ana")])
    lists = ([], [play.id("ana")], [play.id("ben"), play.id("cy")], [999_999_999], None, "x", 5, [play.id("ben"), play.id("dee"), play.id("eve")])
    data = [{"type": "OneToOneChat"}, *({"type": "OneToOneChat", "participants": ids} for ids in lists)]
    play.batch("ana", "room.create", data, None, "one-to-one-count")
    create(play, "roomcreate", type="OneToOneChat", name="ignored", participants=[play.id("ben")], extra_fields={"name": "x", "description": "y"})
    create(play, "roomcreate", type="OneToOneChat", label="cy", participants=[play.id("ben"), play.id("ben")])


# -- room.list, room.info ---------------------------------------------------------------------------------


def test_room_list(play):
    """S2-43, S2-88, S2-47: newest message first, rooms without one last; blank last message; peer."""
    people(play, "ana", "ben")
    play.open("ana2")
    play.event("ana", "room.list", {}, "roomlist")
    chat = one_to_one(play, "ana", "ben")
    reef = room(play, "ana", ["ben"], description="d", avatar="https://e.test/a")
    news = room(play, "ben", ["ana"], "Channel", "News", is_public=True)
    for place, label in ((reef, "ana"), (chat, "ben"), (news, "ben"), (reef, "ben")):
        send(play, label, place, "tick")
        play.event("ana", "room.list", {}, "roomlist")
        play.event("ben", "room.list", {}, "roomlist")
    m = send(play, "ana", chat, "reply", parent_message_id=send(play, "ben", chat, "parent"))
    play.event("ben", "message.react", {"message_id": m, "type": "add", "reaction_content": "x"}, "reaction")
    play.event("ben", "room.list", {}, "roomlist")
    play.event("ben", "room.leave", {"room_id": reef}, "roomexit")
    play.event("ben", "room.list", {}, "roomlist")
    play.event("ana", "room.modify", {"room_id": chat, "action": "delete"}, "roomdelete")
    play.event("ben", "room.list", {}, "roomlist")


def test_room_info(play):
    """S2-42, S2-47, S2-88, S2-30."""
    people(play, "ana", "ben", "cy")
    play.open("ana2")
    for place in (one_to_one(play, "ana", "ben"), room(play, "ana", ["ben"]), room(play, "ana", ["ben"], "Channel")):
        play.event("ana", "room.info", {"room_id": place}, "roominfo")
        play.event("ben", "room.info", {"room_id": place}, "roominfo")
        play.event("cy", "room.info", {"room_id": place}, 4002)


# -- room.modify ------------------------------------------------------------------------------------------


def modify(play, label, place, action, data=NOTHING, expect="roomupdate", differs=None, loose=False):
    event = {"room_id": place, "action": action}
    if data is not NOTHING:
        event["data"] = data
    return play.event(label, "room.modify", event, expect, differs, loose)


def test_modify_shape(play):
    """S2-89, S2-30, S2-31."""
    people(play, "ana", "ben", "cy")
    for place in (room(play, "ana", ["ben"]), room(play, "ana", ["ben"], "Channel")):
        base = {"room_id": place, "data": {"name": "x"}}
        actions = (None, "", 0, False, [], {}, "x", "Update", "rename", 5, True, ["update"], {"a": 1})
        play.batch("ana", "room.modify", [{"room_id": place}, base, *({**base, "action": action} for action in actions)], 4003)
        empty = [{"room_id": place, "action": action, "data": data} for action in ("update", "add_admin") for data in (None, {}, [], "", 0, False)]
        play.batch("ana", "room.modify", [{"room_id": place, "action": "update"}, *empty], 4003)
        wrong = [{"room_id": place, "action": action, "data": data} for action in ("update", "add_permission") for data in ("x", [1], 5, True)]
        play.batch("ana", "room.modify", wrong, None, "modify-data-no-object")
        for label in ("ben", "cy"):
            actions = ("update", "add_admin", "add_permission", "zz", None, "delete")
            play.batch(label, "room.modify", [{**base, "action": action} for action in actions], 4002)
        modify(play, "ana", place, "update", {"more": 1})


def test_modify_update(play):
    """S2-91."""
    people(play, "ana", "ben")
    group, channel = room(play, "ana", ["ben"], description="d"), room(play, "ana", ["ben"], "Channel", description="d")
    for place in (group, channel):
        def update(expect, values, differs=None, place=place):
            play.batch("ana", "room.modify", [{"room_id": place, "action": "update", "data": value} for value in values], expect, differs)

        good = [{"name": "new name", "description": "new", "avatar": "https://e.test/a"}]
        good += [{"name": value, "description": value, "avatar": value} for value in ("", None, 0, False, [])]
        good += [{flag: value} for flag in ("group_locked", "join_approval_required", "is_public") for value in (True, "false", 0, None, 1, [], False)]
        good += [{"max_participants": 1, "max_subscribers": 1, "creator": play.id("ben"), "id": NOBODY, "type": "Channel", "participants": []}]
        good += [{"property": {"preferences": {"a": 1}}}, {"property": {}}, {"property": {"preferences": {"b": [2]}}, "name": "both"}, {"property": {"preferences": {}}}]
        update("roomupdate", good)
        update(4003, [{"property": value} for value in (None, "x", 5, [], [1], True, {"preferences": None})])
        update(None, [{"name": "x" * 65}, {"name": {"a": 1}}, {"avatar": "x"}, {"avatar": "javascript:x"}], "modify-values-unchecked")
        modify(play, "ana", place, "update", {"name": "fine again", "avatar": "https://e.test/b"})
    data = [{"room_id": group, "action": "update", "data": {"property": {"preferences": value}}} for value in ("x", [1], 5, True)]
    play.batch("ana", "room.modify", data, None, "modify-preferences-unchecked")
    chat = one_to_one(play, "ana", "ben")
    modify(play, "ben", chat, "update", {"property": {"preferences": {"a": 1}}, "name": "ignored"})
    modify(play, "ana", chat, "update", {"name": "ignored"})


def test_roles(play):
    """S2-90, S2-92, S2-93, S2-31."""
    people(play, "ana", "ben", "cy", "dee")
    for kind, add, remove in (("GroupChat", "add_admin", "remove_admin"), ("Channel", "add_moderator", "remove_moderator")):
        place = room(play, "ana", ["ben", "cy"], kind)
        other = {"add_admin": "add_moderator", "add_moderator": "add_admin"}[add]
        missing = [{"permission": ["x"]}, *({"users": users, "permission": ["x"]} for users in (None, [], "", 0, {}, "x", 5, {"a": 1}, True, str(play.id("ben"))))]
        data = [{"room_id": place, "action": action, "data": users} for action in (add, remove, "add_permission") for users in missing]
        play.batch("ana", "room.modify", data, 4003)
        modify(play, "ana", place, other, {"users": [play.id("ben")]}, 4003)
        play.batch("ana", "room.modify", [{"room_id": place, "action": add, "data": {"users": users}} for users in (["x"], [{}], [[]])], None, "role-ids")
        modify(play, "ana", place, add, {"users": [play.id("ben")]})
        modify(play, "ana", place, add, {"users": [play.id("ben"), play.id("dee"), 999_999_999]})
        # An admin may demote others and oneself, never the creator.
        modify(play, "ben", place, remove, {"users": [play.id("ana")]})
        modify(play, "ben", place, add, {"users": [play.id("cy"), play.id("cy")]})
        modify(play, "cy", place, remove, {"users": [play.id("ben")]})
        modify(play, "ben", place, add, {"users": [play.id("ben")]}, 4002)
        modify(play, "cy", place, remove, {"users": [play.id("cy")]})
        modify(play, "cy", place, add, {"users": [play.id("cy")]}, 4002)
        modify(play, "ana", place, remove, {"users": [play.id("cy")]})
        modify(play, "ana", place, add, {"users": [str(play.id("ben"))]})
        # Roles end with membership.
        play.event("ben", "room.leave", {"room_id": place}, "roomexit")
        play.event("ana", "room.add_members", {"room_id": place, "members": [play.id("ben")]}, "roomaddmembers")
        modify(play, "ben", place, "update", {"name": "x"}, 4002)
        modify(play, "ben", place, "delete", NOTHING, 4002)
    chat = one_to_one(play, "ana", "ben")
    data = [
        {"room_id": chat, "action": action, "data": {"users": [play.id("ana")]}}
        for action in ("add_admin", "remove_admin", "add_moderator", "remove_moderator", "add_permission", "remove_permission")
    ]
    play.batch("ben", "room.modify", data, "roomupdate")
    play.batch("cy", "room.modify", data, 4002)


def test_the_creator_is_protected(play):
    """S2-24, S2-92, I-11."""
    people(play, "ana", "ben")
    place = room(play, "ana", ["ben"])
    modify(play, "ana", place, "add_admin", {"users": [play.id("ben")]})
    modify(play, "ben", place, "remove_admin", {"users": [str(play.id("ana"))]}, None, "creator-by-text")


def test_permissions(play):
    """S2-94, S2-93, S2-96, S2-31."""
    people(play, "ana", "ben", "cy")
    grants = {"GroupChat": ["can_add_new_participants", "can_remove_participants"], "Channel": ["can_add_new_subscribers", "can_remove_subscribers", "can_send_messages"]}
    for kind, names in grants.items():
        place = room(play, "ana", ["ben"], kind)
        wrong = grants[{"GroupChat": "Channel", "Channel": "GroupChat"}[kind]][0]
        users = {"users": [play.id("ben")]}
        wrongs = [{}, {"permissions": names}, *({"permission": p} for p in (None, [], "", 0, "x", names[0], 5, {"a": 1}, True, ["x"], [wrong], [names[0].upper()]))]
        data = [{"room_id": place, "action": action, "data": {**users, **each}} for action in ("add_permission", "remove_permission") for each in wrongs]
        play.batch("ana", "room.modify", data, 4003)

        def may(label, add, remove, place=place):
            play.event(label, "room.add_members", {"room_id": place, "members": [play.id("dee")]}, "roomaddmembers" if add else 4002)
            play.event("ana", "room.add_members", {"room_id": place, "members": [play.id("dee")]}, "roomaddmembers")
            play.event(label, "room.remove_members", {"room_id": place, "members": [play.id("dee")]}, "roomremovemembers" if remove else 4002)
            play.event("ana", "room.remove_members", {"room_id": place, "members": [play.id("dee")]}, "roomremovemembers")

        may("ben", False, False)
        modify(play, "ana", place, "add_permission", {**users, "permission": [names[0]]})
        may("ben", True, False)
        modify(play, "ana", place, "add_permission", {**users, "permission": [names[1], names[1]]})
        may("ben", True, True)
        modify(play, "ben", place, "update", {"name": "x"}, 4002)
        modify(play, "ana", place, "remove_permission", {**users, "permission": [names[0]]})
        may("ben", False, True)
        # Promoting grants everything, demoting takes everything.
        role = "admin" if kind == "GroupChat" else "moderator"
        modify(play, "ana", place, f"add_{role}", users)
        may("ben", True, True)
        modify(play, "ana", place, f"remove_{role}", users)
        may("ben", False, False)
        modify(play, "ana", place, "add_permission", {"users": [play.id("cy"), play.id("ana")], "permission": names})
        may("cy", False, False)


def test_deleting_rooms(play):
    """S2-95, S2-90."""
    people(play, "ana", "ben", "cy")
    play.open("ben2")
    for place in (room(play, "ana", ["ben"]), room(play, "ana", ["ben"], "Channel")):
        m = send(play, "ana", place)
        modify(play, "ana", place, "add_admin" if place is None else "update", {"name": "x"})
        modify(play, "ben", place, "delete", NOTHING, 4002)
        modify(play, "cy", place, "delete", NOTHING, 4002)
        modify(play, "ana", place, "delete", "ignored", "roomdelete")
        modify(play, "ana", place, "delete", NOTHING, 4004)
        play.event("ana", "room.info", {"room_id": place}, 4004)
        play.event("ana", "message.read", {"message_id": m}, 4004)
    chat = one_to_one(play, "ana", "ben")
    send(play, "ana", chat)
    modify(play, "cy", chat, "delete", NOTHING, 4002)
    modify(play, "ben", chat, "delete", NOTHING, "roomdelete")
    one_to_one(play, "ben", "ana")
    play.event("ben", "room.list", {}, "roomlist")


# -- members ----------------------------------------------------------------------------------------------


def test_members(play):
    """S2-96, S2-30, S2-31, S2-36, S2-48."""
    people(play, "ana", "ben", "cy", "dee")
    play.open("cy2")
    chat = one_to_one(play, "ana", "ben")
    for label in ("ana", "cy"):
        for event in ("room.add_members", "room.remove_members"):
            play.event(label, event, {"room_id": chat, "members": [play.id("dee")]}, 4003)
    for kind in ("GroupChat", "Channel"):
        place = room(play, "ana", ["ben"], kind)

        def add(label, ids, expect="roomaddmembers", differs=None, place=place):
            play.event(label, "room.add_members", {"room_id": place, "members": ids}, expect, differs)

        def remove(label, ids, expect="roomremovemembers", differs=None, place=place):
            play.event(label, "room.remove_members", {"room_id": place, "members": ids}, expect, differs)

        for step in (add, remove):
            name = "room.add_members" if step is add else "room.remove_members"

            def data(*lists, place=place):
                return [{"room_id": place, "members": ids} for ids in lists]

            for label in ("ben", "dee"):
                play.batch(label, name, data([play.id("dee")], "x", None), 4002)
            play.batch("ana", name, data([999_999_999], [play.id("ben"), 999_999_999], [None]), 4004)
            play.batch("ana", name, [{"room_id": place}, *data(None, 5, True)], None, "members-no-list")
            play.batch("ana", name, data(["x"], [{}], [[]]), None, "member-ids")
        add("ana", [])
        remove("ana", [])
        add("ana", [play.id("ben")])
        add("ana", [play.id("cy"), play.id("cy"), play.id("ben")])
        remove("ana", [play.id("dee")])
        add("ana", [play.id("hal"), play.id("dee"), play.id("eve")])
        play.event("ana", "room.info", {"room_id": place}, "roominfo")
        remove("ana", [play.id("cy"), play.id("dee")])
        play.event("cy", "room.info", {"room_id": place}, 4002)
        # The creator cannot be removed by others, but by themselves.
        modify(play, "ana", place, "add_admin" if kind == "GroupChat" else "add_moderator", {"users": [play.id("ben")]})
        remove("ben", [play.id("ana"), play.id("eve")])
        remove("ben", [play.id("ben"), play.id("hal")], ["roomexit"])
        remove("ben", [play.id("ana")], 4002)
        add("ana", [play.id("ben"), play.id("cy")])
        remove("ana", [play.id("ana")], ["roomexit"])
        play.event("ben", "message.send", {"room_id": place, "content": "x"}, "message" if kind == "GroupChat" else 4002)


def test_the_last_member_removed(play):
    """S2-96, I-13."""
    people(play, "ana")
    place = room(play, "ana")
    play.event("ana", "room.remove_members", {"room_id": place, "members": [play.id("ana")]}, None, "last-member-removed")
    play.event("ana", "room.info", {"room_id": place}, 4004)


def test_text_walked_letter_by_letter(play):
    """I-12."""
    people(play, "ana", "ben")
    place = room(play, "ana", ["ben"])
    play.event("ana", "room.add_members", {"room_id": place, "members": "99"}, None, "members-text")


def test_joining_and_leaving(play):
    """S2-97, S2-48, S2-31."""
    people(play, "ana", "ben", "cy")
    play.open("cy2")
    public = room(play, "ana", ["ben"], "Channel", "News", is_public=True)
    private = room(play, "ana", ["ben"], "Channel", "Inside")
    group = room(play, "ana", ["ben"], name="Reef", join_approval_required=False)
    chat = one_to_one(play, "ana", "ben")
    play.event("cy", "room.join", {"room_id": public}, "roomaddmembers")
    play.event("cy", "room.join", {"room_id": public}, "roomaddmembers")
    for place in (private, group, chat):
        play.event("cy", "room.join", {"room_id": place}, 4003)
        play.event("ben", "room.join", {"room_id": place}, 4003)
        play.event("cy", "room.leave", {"room_id": place}, 4002)
    send(play, "ana", public, "all hear this")
    play.event("cy2", "room.leave", {"room_id": public}, "roomexit")
    play.event("cy", "room.leave", {"room_id": public}, 4002)
    send(play, "ana", public, "cy does not hear this")
    play.event("ben", "room.leave", {"room_id": chat}, 4003)
    play.event("ana", "room.leave", {"room_id": group}, "roomexit")
    play.event("ben", "room.info", {"room_id": group}, "roominfo")
    play.event("ana", "message.send", {"room_id": group, "content": "x"}, 4002)
    play.event("ana", "room.modify", {"room_id": group, "action": "delete"}, 4002)
    # The last one leaving deletes the room.
    play.event("ben", "room.leave", {"room_id": group}, "roomdelete")
    play.event("ben", "room.info", {"room_id": group}, 4004)
    modify(play, "ana", public, "update", {"is_public": False})
    play.event("cy", "room.join", {"room_id": public}, 4003)
    alone = room(play, "cy", kind="Channel")
    play.event("cy", "room.leave", {"room_id": alone}, "roomdelete")


# -- notifications, devices, away and back ----------------------------------------------------------------


def test_notifications(play):
    """S2-6, S2-102, S2-103, S2-104, S2-70."""
    people(play, "ana", "ben")
    chat = one_to_one(play, "ana", "ben")
    reef = room(play, "ana", ["ben", "cy"])
    m1, m2 = send(play, "ana", chat, "m1"), send(play, "ana", chat, "m2")
    r1 = send(play, "ana", reef, "r1", parent_message_id=m1)
    b1 = send(play, "ben", reef, "b1")
    play.event("ben", "message.react", {"message_id": m1, "type": "add", "reaction_content": "x"}, "reaction")
    # Also for those who are connected, at every connect, until acknowledged.
    play.open("cy")
    play.open("ben2")
    play.open("ana2")
    play.event("ben", "message.acknowledged", {"message_id": m1}, [])
    play.event("ben", "message.read", {"message_id": m2}, "readreceipt")
    play.open("ben3")
    play.event("cy", "message.acknowledged", {"message_id": [r1, b1]}, [])
    play.open("cy2")
    # Reactions to one's own message: acknowledging the message.
    play.event("ana", "message.acknowledged", {"message_id": m1}, "messagedelivered")
    play.open("ana3")
    # As of now: an edit shows, a deletion takes it away.
    play.event("ana", "message.modify", {"action": "update", "message_id": m2, "extra_fields": {"content": "m2, edited"}}, "messagemodification")
    play.open("ben4")
    play.event("ana", "message.modify", {"action": "delete", "message_id": m2}, "messagemodification")
    play.open("ben5")


def test_notifications_that_the_package_keeps(play):
    """I-17: replaced and withdrawn reactions, lost membership."""
    people(play, "ana", "ben")
    reef = room(play, "ana", ["ben", "cy"])
    m = send(play, "ana", reef, "secret")
    for content in ("x", "y"):
        play.event("ben", "message.react", {"message_id": m, "type": "add", "reaction_content": content}, "reaction")
    play.open("ana2", differs="reaction-replaced")
    play.event("ben", "message.react", {"message_id": m, "type": "remove"}, "reaction")
    play.open("ana3", differs="reaction-withdrawn")
    play.event("ana", "room.remove_members", {"room_id": reef, "members": [play.id("cy")]}, "roomremovemembers")
    play.open("cy", differs="removed-members-notifications")


def test_devices_and_returning(play):
    """S2-13, S2-45, S2-46, S2-47, S2-106, S2-109, S2-110."""
    for label in ("ana", "ana2", "ana3", "ben", "ben2"):
        play.open(label)
    reef = room(play, "ana2", ["ben", "cy"])
    send(play, "ana3", reef, "all five hear this")
    play.event("ben2", "room.list", {}, "roomlist")
    play.event("ana", "room.zz", {}, "invalid")
    play.close("ben")
    send(play, "ben2", reef, "one of ben's is gone")
    play.close("ben2")
    missed = send(play, "ana", reef, "both of ben's are gone")
    news = room(play, "ana", ["ben"], "Channel", "made meanwhile")
    play.event("ana", "room.remove_members", {"room_id": reef, "members": [play.id("cy")]}, "roomremovemembers")
    play.open("ben")
    play.open("cy", differs="removed-members-notifications")
    send(play, "ana", reef, "ben is back, cy is out")
    send(play, "ana", news, "and hears the new channel")
    play.event("ben", "message.acknowledged", {"message_id": missed}, [])
    play.event("ben", "room.messages", {"room_id": reef}, "roommessages")
    # A device that comes while others talk.
    play.open("ben3")
    send(play, "ben3", reef, "third device")
    play.event("ana", "room.add_members", {"room_id": reef, "members": [play.id("cy")]}, "roomaddmembers")
    send(play, "cy", reef, "in again")


def test_users(play):
    """S2-39: five members, empty texts where nothing is known."""
    people(play, "hal", "eve")
    chat = one_to_one(play, "hal", "eve")
    send(play, "eve", chat, "who are you")
    play.event("hal", "room.info", {"room_id": chat}, "roominfo")


# -- the table --------------------------------------------------------------------------------------------


def test_every_permitted_difference_is_played():
    """S2-128: an entry that no script plays permits nothing."""
    text = Path(__file__).read_text()
    text = text[: text.index("# -- the table")]
    # `f"{words}-cap-at-creation"` is the only name that is put together.
    named = set(re.findall(r'"([a-z0-9-]+)"', text)) | {"group-cap-at-creation", "channel-cap-at-creation"}
    assert sorted(set(DIFFERENCES) - named) == []
    for key, difference in DIFFERENCES.items():
        assert re.fullmatch(r"((I|S2)-\d+)(, (I|S2)-\d+)*", difference.rows) and difference.why, key
