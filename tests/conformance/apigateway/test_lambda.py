"""Lambda proxy integrations: the events member by member, and what a function's answers mean."""

import json
import re

import pytest
from suite import golden
from suite.api import invocation_uri
from suite.checks import check
from suite.functions import Watcher

HOW = "boto3, raw WebSocket client, a Python function that reports its events to another connection"
ERROR = re.compile(r'\{"message": "([^"]*)", "connectionId":"[A-Za-z0-9_-]{15}=", "requestId":"[A-Za-z0-9_-]{15}="\}')
HANDSHAKE = [("Origin", "https://shop.example"), ("User-Agent", "ExampleBrowser/1.0"), ("X-Custom", "kept"), ("x-two", "one"), ("x-two", "two")]


def with_function(new_api, functions, keys, **options):
    api = new_api()
    for key in keys:
        api.function(key, functions.arn(), two_way=not key.startswith("$"), **options)
    return api


def known(api, event, ws):
    """What is different for each target and run."""
    context = event["requestContext"]
    return {
        context["domainName"]: "domain name", api.id: "api id", context["connectionId"]: "connection id", context["requestId"]: "request id",
        context.get("messageId", ""): "message id", context["identity"]["sourceIp"]: "client address", ws.key: "key",
        api.target.tcp(api.url())[3]: "host", str(api.target.tcp(api.url())[1]): "client port",
    }


@check(2, feature="lambda", needs=["functions"], how=HOW + "; golden files", what="CONNECT, MESSAGE and DISCONNECT events, member by member: nothing more, nothing less, no `null`")
def test_events(new_api, functions, target):
    # AG-2
    watcher = Watcher(new_api)
    api = with_function(new_api, functions, ["$connect", "join", "$disconnect"]).live(StageVariables={**watcher.variables(), "tier": "gold"})
    with api.connect("room=blue&lang=en&lang=fr&e=%20x", headers=HANDSHAKE) as ws:
        events = [watcher.next()]
        ws.text('{"action":"join","room":"blue"}')
        events.append(watcher.next())
        assert ws.json() == events[1], "the two-way answer is the event"
        ws.close()
        events.append(watcher.next())
    assert len({event["requestContext"]["requestId"] for event in events}) == 3
    for event, name in zip(events, ("connect", "message", "disconnect")):
        for variable in ("endpoint", "watcher"):
            assert event["stageVariables"].pop(variable)
        golden.compare_json(f"lambda_event_{name}.json", event, known(api, event, ws))
    connected, message, closed = (event["requestContext"] for event in events)
    assert connected["connectionId"] == message["connectionId"] == closed["connectionId"]
    assert connected["connectedAt"] == message["connectedAt"] == closed["connectedAt"] <= message["requestTimeEpoch"]
    assert all(context["requestId"] == context["extendedRequestId"] for context in (connected, message, closed))


@check(2, feature="lambda", needs=["functions"], how=HOW, what="Without query string, user agent and stage variables the members are absent; the DISCONNECT event has the client's code and reason")
def test_absent_members(new_api, functions):
    # AG-2
    api = with_function(new_api, functions, ["event"]).live()
    with api.connect() as ws:
        ws.text('{"action":"event"}')
        event = ws.json()
    assert "stageVariables" not in event and "headers" not in event and "queryStringParameters" not in event
    assert set(event["requestContext"]["identity"]) == {"sourceIp"}
    watcher = Watcher(new_api)
    api = with_function(new_api, functions, ["$connect", "$disconnect"]).live(StageVariables=watcher.variables())
    with api.connect() as ws:
        event = watcher.next()
        assert "queryStringParameters" not in event and "multiValueQueryStringParameters" not in event and "body" not in event
        ws.close(4002, "why")
    context = watcher.next()["requestContext"]
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (4002, "why")


CONNECTS = [
    ("accept", 101, None), ("refuse", 403, "no"), ("fail", 502, "Internal server error"), ("no status", 502, "Internal server error"),
    ("no object", 502, "Internal server error"), ("body is no text", 502, "Internal server error"), ("end", 502, "Internal server error"),
]


@check(3, 2, feature="lambda", needs=["functions"], how=HOW, what="Answers on `$connect`: 2xx accepts, any other status refuses with its body; a function that raises, ends or answers something else is 502")
@pytest.mark.parametrize("wanted,status,text", CONNECTS, ids=[c[0] for c in CONNECTS])
def test_answers_on_connect(new_api, functions, wanted, status, text):
    # AG-3, AG-2
    api = with_function(new_api, functions, ["$connect"]).live()
    ws = api.open(f"do={wanted.replace(' ', '%20')}")
    assert ws.status == status, ws.reply
    if status == 502:
        assert ERROR.fullmatch(ws.reply.text)[1] == text
    elif text:
        assert ws.reply.text == text


@check(17, 2, feature="lambda", needs=["functions"], how=HOW, what="`Sec-WebSocket-Protocol` of the function's headers is the 101's")
def test_subprotocol(new_api, functions):
    # AG-17, AG-2
    api = with_function(new_api, functions, ["$connect"]).live()
    with api.connect("do=protocol", headers=[("Sec-WebSocket-Protocol", "v1, v2")]) as ws:
        assert ws.reply.get("sec-websocket-protocol") == "v2"


MESSAGES = [
    ("trouble", "trouble"), ("base64", "ünï"), ("empty", None), ("fail", ERROR), ("no status", ERROR), ("no object", ERROR), ("body is no text", ERROR), ("end", ERROR),
]


@check(14, 2, feature="lambda", needs=["functions"], how=HOW, what="Answers on a two-way route: the body whatever the status, decoded from base64, nothing without a body; a function that raises, ends or answers something else is the `Internal server error` frame")
def test_answers_to_messages(new_api, functions):
    # AG-14, AG-2
    api = with_function(new_api, functions, ["two"]).whoami().live()
    with api.connect() as ws:
        for wanted, answer in MESSAGES:
            ws.text(json.dumps({"action": "two", "do": wanted}))
            if answer is None:
                api.identify(ws)
            elif answer is ERROR:
                text = ws.message()
                assert ERROR.fullmatch(text) and ERROR.fullmatch(text)[1] == "Internal server error", (wanted, text)
            else:
                assert (wanted, ws.message()) == (wanted, answer)


@check(3, 2, feature="lambda", needs=["functions"], how=HOW, what="A function that is slower than `timeoutInMillis`: 504 on `$connect`, `Endpoint request timed out` for a message")
def test_timeout(new_api, functions):
    # AG-3, AG-2
    api = with_function(new_api, functions, ["$connect", "two"], TimeoutInMillis=1500).live()
    # Warm, so that the time is the function's own.
    for _ in range(3):
        ws = api.open()
        if ws.status == 101:
            break
    assert ws.status == 101, ws.reply
    ws.text('{"action":"two","do":"sleep"}')
    assert ws.json()["message"] == "Endpoint request timed out"
    refused = api.open("do=sleep")
    assert (refused.status, refused.reply.json["message"]) == (504, "Endpoint request timed out")


@check(3, 2, feature="lambda", how="boto3, raw WebSocket client", what="A function that does not exist: 502 or 500 on `$connect`, `Internal server error` for a message")
def test_unknown_function(new_api, target):
    # AG-3, AG-2
    arn = f"arn:aws:lambda:{target.region}:{target.account}:function:there-is-none"
    api = new_api().function("$connect", arn).live()
    ws = api.open()
    assert ws.status in (500, 502) and ws.reply.json["message"] == "Internal server error", ws.reply
    api = new_api().function("two", arn).live()
    with api.connect() as ws:
        ws.text('{"action":"two"}')
        assert ws.json()["message"] == "Internal server error"


@check(20, 2, feature="lambda", needs=["functions"], how=HOW, what="Lambda custom (`AWS`): the request template makes the event, `errorMessage` selects the integration response, its template the answer")
def test_custom_integration(new_api, functions, target):
    # AG-20, AG-2
    api = new_api()
    made = api.control.create_integration(
        ApiId=api.id, IntegrationType="AWS", IntegrationMethod="POST", IntegrationUri=invocation_uri(target, functions.arn()), TemplateSelectionExpression="\\$default",
        RequestTemplates={"$default": "{\"requestContext\": {\"eventType\": \"MESSAGE\"}, \"body\": \"{\\\"do\\\": \\\"$input.path('$.do')\\\"}\"}"},
    )
    api.route("two", made, two_way=True)
    api.response("two", "it failed: $input.path('$.errorMessage')", "/.*on purpose.*/")
    api.response("two", "status $input.path('$.statusCode')")
    api.deploy()
    with api.connect() as ws:
        ws.text('{"action":"two","do":"accept"}')
        assert ws.message() == "status 200"
        ws.text('{"action":"two","do":"fail"}')
        assert ws.message() == "it failed: the function fails on purpose"
