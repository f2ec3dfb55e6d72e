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
    "content-missing": Difference("I-3, S2-51", "no content", INTERNAL, error(4003, {"content": REQUIRED})),
    "extra-fields-no-object": Difference("I-3, S2-49", "extra_fields that is no object", INTERNAL, error(4003)),
    "send-by-message-id": Difference(
        "S2-22", "message.send with message_id alone", INTERNAL, {"*": [dispatch("message", Part(content="by message id"))]}
    ),
    "reply-to-strangers": Difference(
        "I-8, S2-52", "a reply to a message of a room that the sender is not in", {"*": [dispatch("message", Part(content="peek"))]},
        error(4002, "User is not authorized to access this message"),
    ),
    "forward-from-strangers": Difference(
        "I-8, S2-53", "the same by forwarding", {"*": [dispatch("message", Part(content="peek"))]},
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
}
