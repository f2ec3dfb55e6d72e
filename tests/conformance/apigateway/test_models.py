"""Validation of messages against models."""

import re

import pytest
from suite import golden
from suite.checks import check

HOW = "boto3, raw WebSocket client, MOCK integrations"
JOIN = '{"$schema": "http://json-schema.org/draft-04/schema#", "type": "object", "required": ["room"], "properties": {"room": {"type": "string", "minLength": 2}}}'
ANY = '{"type": "object", "required": ["kind"]}'


def guarded(new_api, models):
    api = new_api().whoami()
    for name, schema in (("Join", JOIN), ("Any", ANY)):
        api.control.create_model(ApiId=api.id, Name=name, Schema=schema, ContentType="application/json")
    return api.mock("$default", "passed", route={"ModelSelectionExpression": "$request.body.kind", "RequestModels": models}).live()


CASES = [
    ("fits", {"join": "Join"}, '{"kind":"join","room":"blue"}', True),
    ("member missing", {"join": "Join"}, '{"kind":"join"}', False),
    ("wrong type", {"join": "Join"}, '{"kind":"join","room":5}', False),
    ("too short", {"join": "Join"}, '{"kind":"join","room":"b"}', False),
    ("no model for the key", {"join": "Join"}, '{"kind":"leave","room":"blue"}', False),
    ("$default model fits", {"join": "Join", "$default": "Any"}, '{"kind":"leave"}', True),
    ("$default model refuses", {"join": "Join", "$default": "Any"}, '{"no":"kind"}', False),
    ("no JSON", {"$default": "Any"}, "hello", False),
]


@check(21, feature="models", how=HOW, what="A message is checked against the model its key selects, else `$default`; without either, or if it does not fit, the integration is not called and the client gets `Bad request body`")
@pytest.mark.parametrize("models,message,passes", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_validation(new_api, models, message, passes):
    # AG-21
    api = guarded(new_api, models)
    with api.connect() as ws:
        connection = api.identify(ws)
        ws.text(message)
        text = ws.message()
        if passes:
            assert text == "passed"
        else:
            frame = re.fullmatch(r'\{"message": "Bad request body", "connectionId":"([^"]*)", "messageId":"[A-Za-z0-9_-]{15}="\}', text)
            assert frame and frame[1] == connection, text
            golden.compare("frame_bad_request_body.txt", text)
        assert api.identify(ws) == connection


@check(21, feature="models", how=HOW, what="Without `modelSelectionExpression` nothing is checked, and `disableSchemaValidation` does not switch off the check of messages")
def test_switches(new_api):
    # AG-21
    api = guarded(new_api, {"join": "Join"})
    api.control.update_api(ApiId=api.id, DisableSchemaValidation=True)
    api.mock("free", "free", route={"RequestModels": {"$default": "Join"}})
    api.deploy()
    with api.connect() as ws:
        ws.text('{"action":"free"}')
        assert ws.message() == "free"
        ws.text('{"kind":"join"}')
        assert ws.json()["message"] == "Bad request body"
