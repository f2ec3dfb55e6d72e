"""In what the chat app may differ from the package, and which row of the requirements permits it.

Whatever is not in this table must be the same. An entry that no script uses, or that does not occur where a script says it
does, fails. Frames are patterns: `ANY` for any value, `Part` for some members; one frame or a list of frames for the acting
connection (the others get nothing), or an object from label to list of frames, with `*` for all the others.
"""

from dataclasses import dataclass

from .chat_play import ANY, Part


@dataclass(frozen=True)
class Difference:
    rows: str
    why: str
    package: object
    app: object


def error(code, detail=ANY):
    return {"error": {"code": code, "detail": detail}}


def dispatch(name, data=ANY):
    return {"type": "broadcast_group", "eventType": f"{name}.dispatch", "data": data}


INTERNAL = error(4006, "Internal server error.")
REQUIRED = ["This field is required."]
DIED = {"closed": 1011}

DIFFERENCES = {
    # -- envelope -----------------------------------------------------------------------------------
    "not-json": Difference("I-1, S2-16", "the package dies of what is no JSON object", [DIED], error(4003)),
    "binary": Difference("I-1, S2-8", "the package dies of a binary frame", [DIED], error(4003)),
    "event-type-list": Difference("I-1, S2-15", "the package dies of an event type that cannot be hashed", [DIED], {"error": "invalid event type"}),
    "data-no-object": Difference("I-3, S2-17", "data missing or no object", INTERNAL, error(4003, ["data must be an object"])),
    # -- ids ----------------------------------------------------------------------------------------
    "message-id-object-in-list": Difference("S2-23", "an object inside a list of ids", INTERNAL, error(4003)),
    # -- message.send -------------------------------------------------------------------------------
    "lone-surrogate": Difference("S2-16, S2-25", "half a surrogate pair is no text, so the event is no JSON", error(4003, {"content": ANY}), error(4003)),
    "content-missing": Difference("I-3, S2-51", "no content", INTERNAL, error(4003, {"content": REQUIRED})),
    "extra-fields-no-object": Difference("I-3, S2-49", "extra_fields that is no object", INTERNAL, error(4003)),
    "send-by-message-id": Difference(
        "S2-22", "message.send with message_id alone", INTERNAL,
        {label: [dispatch("message", Part(content="by message id"))] for label in ("ana", "ben")},
    ),
    "reply-to-strangers": Difference(
        "I-8, S2-52", "a reply to a message of a room that the sender is not in", dispatch("message", Part(content="peek")),
        error(4002, "User is not authorized to access this message"),
    ),
    "forward-from-strangers": Difference(
        "I-8, S2-53", "the same by forwarding", dispatch("message", Part(content="peek")),
        error(4002, "User is not authorized to access this message"),
    ),
    "forward-empty": Difference(
        "I-15, S2-53", "forwarding with empty content", error(4003, {"content": ["This field may not be blank."]}),
        {"*": [dispatch("message", Part(content="low tide", is_forwarded=True))]},
    ),
    "forward-without-content": Difference(
        "I-15, S2-53", "forwarding without content", INTERNAL, {"*": [dispatch("message", Part(content="low tide", is_forwarded=True))]}
    ),
    "flags-by-client": Difference(
        "I-10, S2-58", "the flags of a message are not the client's",
        {"*": [dispatch("message", Part(is_deleted=True, is_edited=True, is_forwarded=True))]},
        {"*": [dispatch("message", Part(is_deleted=False, is_edited=False, is_forwarded=False))]},
    ),
    # -- attachments --------------------------------------------------------------------------------
    "attachment-no-object": Difference("I-3, S2-56", "an attachment that is no object", INTERNAL, error(4003, {"1": ANY})),
    "attachment-script-link": Difference(
        "S2-60", "links that run scripts", {"*": [dispatch("message", Part(content="Media Files"))]},
        error(4003, {"0": {"media_url": ["Enter a valid URL."]}}),
    ),
    "refused-attachments-leave-no-message": Difference(
        "I-7, S2-37", "the package keeps messages whose attachments it refused", dispatch("roommessages", {"data": {"room_id": ANY, "messages": [ANY] * 2}}),
        dispatch("roommessages", {"data": {"room_id": ANY, "messages": []}}),
    ),
    # -- room.create --------------------------------------------------------------------------------
    "chat-exists": Difference("I-22, S2-32, S2-35", "a second one-to-one chat", error(4003, ["['Chat already exists']"]), error(4005, "Chat already exists")),
    "forward-of-example": Difference(
        "I-15, S2-53", "the docs' own example of a forward", error(4003, {"content": ["This field may not be blank."]}),
        {"ana": [dispatch("message", Part(content="Low tide at <b>six</b>x", is_forwarded=True))], "ben": [dispatch("message", Part(is_forwarded=True))]},
    ),
    "negative-page-size": Difference("I-21, S2-85", "a negative size of a page", INTERNAL, error(4003, ["Invalid types"])),
    "room-type-list": Difference("I-3, S2-86", "a type that is a list or object", INTERNAL, error(4003, ["Invalid resource type"])),
    "room-extra-fields": Difference("I-3, S2-86", "extra_fields that is no object", INTERNAL, error(4003)),
    "empty-properties": Difference("S2-86", "empty values of a property count as {}", ANY, dispatch("roomcreate", Part(property={"preferences": {}}))),
    "refused-property-leaves-no-room": Difference("I-7, S2-37", "rooms with a refused property", dispatch("roomlist", ANY), dispatch("roomlist", [])),
    "member-ids-refused": Difference("I-3, S2-87", "ids that are no numbers", ANY, error(4003)),
    "group-cap-at-creation": Difference("I-22, S2-32", "words in a list in a text", error(4003, ["['Maximum number of group participants exceeded']"]), error(4003, ["Maximum number of group participants exceeded"])),
    "channel-cap-at-creation": Difference("I-22, S2-32", "the same of a channel", error(4003, ["['Maximum number of channel subscribers exceeded']"]), error(4003, ["Maximum number of channel subscribers exceeded"])),
    "one-to-one-count": Difference("I-22, S2-32", "the same of a one-to-one chat", error(4003, ["['A one to one chat can only have 2 participants']"]), error(4003, ["A one to one chat can only have 2 participants"])),
    "modify-data-no-object": Difference("I-3, S2-89", "data of an action that is no object", INTERNAL, error(4003)),
    "modify-values-unchecked": Difference("I-14, S2-91", "names and avatars that creation would refuse", {"*": [dispatch("roomupdate")]}, error(4003)),
    "modify-preferences-unchecked": Difference("I-14, S2-91", "preferences that are no object", {"*": [dispatch("roomupdate")]}, error(4003)),
    "role-ids": Difference("I-3, S2-92", "ids that are no numbers", INTERNAL, error(4003)),
    "creator-by-text": Difference("I-11, S2-92", "the creator's id as text", {"*": [dispatch("roomupdate", Part(admins=[ANY]))]}, {"*": [dispatch("roomupdate", Part(admins=[ANY, ANY]))]}),
    "members-no-list": Difference("I-3, S2-96", "members that are no list", INTERNAL, error(4003, {"members": ANY})),
    "member-ids": Difference("I-3, S2-96", "members that are no ids", INTERNAL, error(4003)),
    "members-text": Difference("I-12, S2-96", "a text walked letter by letter", error(4004, "Resource not found."), error(4003, {"members": ANY})),
    "last-member-removed": Difference("I-13, S2-96", "the last member removed", INTERNAL, dispatch("roomdelete", {"room_id": ANY})),
    "reaction-replaced": Difference("I-17, S2-103", "a replaced reaction", ANY, ANY),
    "reaction-withdrawn": Difference("I-17, S2-103", "a withdrawn reaction", ANY, ANY),
    "removed-members-notifications": Difference("I-17, S2-103", "removed members keep the text", ANY, ANY),
    "name-only-inside": Difference(
        "S2-86", "extra_fields override what stands outside, and what does not", error(4003, {"name": REQUIRED}), dispatch("roomcreate", Part(name="inside"))
    ),
    "fields-together": Difference(
        "S2-33", "all failing fields are reported, inside and outside", error(4003, {"name": REQUIRED}),
        error(4003, Part(name=["This field may not be blank."], avatar=["Enter a valid URL."], description=["Not a valid string."])),
    ),
    "fields-of-example": Difference(
        "S2-33", "the example of chapter 16", error(4003, {"name": REQUIRED}), error(4003, {"name": REQUIRED, "avatar": ["Enter a valid URL."]})
    ),
}

# Words of errors that the requirements write otherwise (S2-33): those of the package to those of the app.
WORDS = {"A valid biginteger is required.": "A valid integer is required."}
