"""What the chat refuses is in the journal with its reason, and `explain` says it; what people wrote is not."""

import json
import urllib.parse

import pytest

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_talk import Talk
from harness.wait import until
from harness.why import ROOT_KEY, admin, says

pytestmark = pytest.mark.timeout(120)

NOBODY = "11111111-2222-4333-8444-555555555555"
SECRET_TEXT = "the-harbour-password-is-herring"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with ChatApp(tmp_path_factory.mktemp("why-chat") / "gateway", before=ROOT_KEY) as app:
        yield app


@pytest.fixture(scope="module")
def talk(app):
    people = chat_people.group(1)
    app.introduce(map(chat_people.person, people.values()))
    with Talk(app, people) as talk:
        talk.open("ana", "ben", "cy")
        yield talk


def entry(app, diagnosis):
    """The newest entry of this outcome."""

    def known():
        query = urllib.parse.urlencode({"outcome": diagnosis, "limit": 1})
        return admin(app.gateway, "GET", f"/journal?{query}")["entries"]

    return until(known, f"an entry of {diagnosis}", timeout=5, interval=0.1)[-1]


def check(app, diagnosis, event_type):
    found = entry(app, diagnosis)
    assert found["apiId"] == "chat" and found["connectionId"], found
    if event_type:
        assert found["facts"]["eventType"] == event_type, found
    says(app.gateway, found["requestId"], diagnosis, first=False)


def test_each_refusal_has_its_reason(app, talk):
    # chat.not-member chat.not-owner chat.invalid-room-type chat.missing-field chat.bad-payload chat.room-not-found
    # chat.message-not-found chat.duplicate-reaction chat.duplicate-receipt chat.duplicate-one-to-one
    # chat.invalid-event-type chat.not-json
    ana, ben = talk.id("ana"), talk.id("ben")
    room = talk.ask("ana", "room.create", {"type": "OneToOneChat", "participants": [ben]}, "roomcreate")["id"]
    message = talk.ask("ana", "message.send", {"room_id": room, "content": SECRET_TEXT}, "message")["id"]
    react = {"type": "add", "message_id": message, "reaction_content": "+1"}
    talk.ask("ben", "message.react", react, "reaction")
    talk.ask("ben", "message.read", {"message_id": message}, "readreceipt")
    for label, event_type, data, code, diagnosis in (
        ("cy", "message.send", {"room_id": room, "content": SECRET_TEXT}, 4002, "chat.not-member"),
        ("ben", "message.modify", {"action": "delete", "message_id": message}, 4002, "chat.not-owner"),
        ("ana", "room.leave", {"room_id": room}, 4003, "chat.invalid-room-type"),
        ("ana", "message.send", {"room_id": room}, 4003, "chat.missing-field"),
        ("ana", "message.send", {"room_id": room, "content": ["x"]}, 4003, "chat.bad-payload"),
        ("ana", "room.info", {"room_id": NOBODY}, 4004, "chat.room-not-found"),
        ("ana", "message.read", {"message_id": NOBODY}, 4004, "chat.message-not-found"),
        ("ben", "message.react", react, 4005, "chat.duplicate-reaction"),
        ("ben", "message.read", {"message_id": message}, 4005, "chat.duplicate-receipt"),
        ("ben", "room.create", {"type": "OneToOneChat", "participants": [ana]}, 4005, "chat.duplicate-one-to-one"),
    ):
        talk.refuse(label, event_type, data, code)
        check(app, diagnosis, event_type)
    talk.raw("ana", {"event_type": "room.archive", "data": {}})
    check(app, "chat.invalid-event-type", None)
    talk.raw("ana", "no json")
    check(app, "chat.not-json", None)
    # S2-29, DX-10: nothing that somebody wrote is kept.
    entries = admin(app.gateway, "GET", "/journal?limit=1000")["entries"]
    assert SECRET_TEXT not in json.dumps(entries)
