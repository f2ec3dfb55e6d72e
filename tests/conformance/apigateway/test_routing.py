"""Which route a message takes, what comes back, in which order; deployments and throttles."""

import random
import re
import threading

import pytest
from harness.backend import Reply
from suite import golden
from suite.api import CONNECTION_ID
from suite.checks import check

RAW = "boto3, raw WebSocket client"
FRAME = re.compile(r'\{"message": "([^"]*)", "connectionId":"([A-Za-z0-9_-]{15}=)", "requestId":"([A-Za-z0-9_-]{15}=)"\}')

ROUTED = [
    ('{"action":"join"}', "join"), ('{"action":"leave"}', "$default"), ('{"hello":1}', "$default"), ('{"action":null}', "$default"),
    ('{"action":{"a":1}}', "$default"), ('{"action":["join"]}', "$default"), ('{"action":5}', "5"), ('{"action":6}', "$default"),
    ("hello", "$default"), ("", "$default"), ('{"action":"join"', "$default"), ('"join"', "$default"), ("[1,2]", "$default"), ("42", "$default"),
    ("null", "$default"), ('{"action":"Join"}', "$default"), ('{"action":"$connect"}', "$default"), ('{"action":"$disconnect"}', "$default"),
    ('{"action":"jo\\u0069n"}', "join"),
]


def error(ws, message):
    text = ws.message()
    match = FRAME.fullmatch(text)
    assert match and match[1] == message, text
    return match


@check(5, feature="routing", how=RAW, what="Every row of the routing table: the route key that answers, for JSON, other JSON, text, empty and broken messages")
def test_route_table(new_api):
    # AG-5
    api = new_api()
    for key in ("$default", "join", "5"):
        api.mock(key, "$context.routeKey")
    api.deploy()
    with api.connect() as ws:
        for text, key in ROUTED:
            ws.text(text)
            assert (text, ws.message()) == (text, key)


@check(5, feature="routing", needs=["backend"], how=RAW + ", recording HTTP server", what="The message reaches the backend of its route byte for byte")
def test_message_is_unchanged(new_api):
    # AG-5
    api = new_api()
    for key in ("$default", "join"):
        api.http(key)
    api.deploy()
    texts = [text for text, _ in ROUTED] + [' {"b":[1,{"action":"x"}],\n"action":"join"} ', "ünï\u2028cödé"]
    with api.connect() as ws:
        for text in texts:
            ws.text(text)
        got = api.backend.wait(len(texts))
    assert [r.text for r in got] == texts


@check(4, feature="routing", how=RAW, what="No `$default` and no match: the `Forbidden` frame, byte for byte; the connection stays open, each failure has its request id")
def test_no_route(new_api):
    # AG-4
    api = new_api().whoami().live()
    with api.connect() as ws:
        connection = api.identify(ws)
        ws.text('{"action":"nope"}')
        text = ws.message()
        first = FRAME.fullmatch(text)
        assert first and (first[1], first[2]) == ("Forbidden", connection), text
        golden.compare("frame_forbidden.txt", text)
        ws.text("nope")
        assert error(ws, "Forbidden")[3] != first[3]
        assert api.identify(ws) == connection


@check(14, feature="routing", needs=["backend"], how=RAW + ", recording HTTP server", what="Two-way: only selection expression and route response together send the body, whatever its status; an empty body is never sent")
@pytest.mark.parametrize("expression,response", [(True, False), (False, True), (True, True)], ids=["expression", "response", "both"])
@pytest.mark.parametrize("status,body", [(200, "reply"), (500, "trouble"), (200, ""), (204, "")])
def test_two_way(new_api, expression, response, status, body):
    # AG-14
    api = new_api().http("$default", route={"RouteResponseSelectionExpression": "$default"} if expression else {})
    if response:
        api.control.create_route_response(ApiId=api.id, RouteId=api.routes["$default"], RouteResponseKey="$default")
    api.deploy()
    api.backend.on("/default", status=status, body=body)
    with api.connect() as ws:
        ws.text("x")
        api.backend.wait(1)[0].answered.wait(5)
        if expression and response and body:
            assert ws.message() == body
        # The second message begins when the first has ended, so a reply would be here.
        api.backend.on("/default", status=200, body="")
        ws.text("y")
        api.backend.wait(2)[1].answered.wait(5)
        ws.nothing_before_pong()


@check(14, feature="routing", needs=["backend"], how=RAW, what="Failures of an integration are told on one-way routes too: `Internal server error`, `Endpoint request timed out`; the connection stays open")
def test_failures(new_api):
    # AG-14
    api = new_api().http("slow", TimeoutInMillis=200).http("broken").whoami().live()
    hold = threading.Event()
    api.backend.on("/slow", hold=hold).on("/broken", reset=True)
    with api.connect() as ws:
        ws.text('{"action":"broken"}')
        text = ws.message()
        assert FRAME.fullmatch(text)[1] == "Internal server error"
        golden.compare("frame_internal_server_error.txt", text)
        ws.text('{"action":"slow"}')
        text = ws.message()
        assert FRAME.fullmatch(text)[1] == "Endpoint request timed out"
        golden.compare("frame_timed_out.txt", text)
        hold.set()
        api.identify(ws)


@check(22, feature="deployments", how="boto3, raw WebSocket client", what="A changed route is not live before a deployment, then also for open connections; UpdateStage with an older `deploymentId` rolls back")
def test_deployment_and_rollback(new_api):
    # AG-22
    api = new_api().mock("$default", "one")
    first = api.deploy()

    def says(ws):
        ws.text("?")
        return ws.message()

    with api.connect() as ws:
        assert says(ws) == "one"
        item = api.control.get_integration_responses(ApiId=api.id, IntegrationId=api.integrations["$default"])["Items"][0]
        api.control.update_integration_response(
            ApiId=api.id, IntegrationId=api.integrations["$default"], IntegrationResponseId=item["IntegrationResponseId"], ResponseTemplates={"$default": "two"}
        )
        api.mock("extra", "new")
        ws.text('{"action":"extra"}')
        assert ws.message() == "one"
        second = api.deploy()
        assert says(ws) == "two"
        ws.text('{"action":"extra"}')
        assert ws.message() == "new"
        api.control.update_stage(ApiId=api.id, StageName="prod", DeploymentId=first)
        api.settle()
        assert says(ws) == "one"
        ws.text('{"action":"extra"}')
        assert ws.message() == "one"
        api.control.update_stage(ApiId=api.id, StageName="prod", DeploymentId=second)
        api.settle()
        assert says(ws) == "two"


@check(22, feature="deployments", how="boto3, raw WebSocket client", what="Stage variables in a template: a change shows at once, without a deployment")
def test_stage_variable_in_template(new_api):
    # AG-22
    api = new_api().mock("$default", "$stageVariables.tier").live(StageVariables={"tier": "gold"})
    with api.connect() as ws:
        ws.text("?")
        assert ws.message() == "gold"
        api.control.update_stage(ApiId=api.id, StageName="prod", StageVariables={"tier": "silver"})
        api.settle()
        ws.text("?")
        assert ws.message() == "silver"


@check(29, feature="deployments", how=RAW, what="Route throttle: the burst passes, the next message gets the `Too Many Requests` frame, other routes are unaffected and their connections too; lifting it shows at once")
def test_route_throttle(new_api):
    # AG-29
    settings = {"hot": {"ThrottlingBurstLimit": 3, "ThrottlingRateLimit": 0.01}}
    api = new_api().mock("hot", "ok").mock("$default", "calm").live(RouteSettings=settings)
    with api.connect() as ws, api.connect() as other:
        for _ in range(3):
            ws.text('{"action":"hot"}')
            assert ws.message() == "ok"
        ws.text('{"action":"hot"}')
        text = ws.message()
        assert FRAME.fullmatch(text)[1] == "Too Many Requests"
        golden.compare("frame_too_many_requests.txt", text)
        for client in (other, ws):
            client.text("x")
            assert client.message() == "calm"
        api.control.delete_route_settings(ApiId=api.id, StageName="prod", RouteKey="hot")
        api.settle()
        ws.text('{"action":"hot"}')
        assert ws.message() == "ok"


@check(30, feature="closing", needs=["backend"], how=RAW + ", recording HTTP server with random delays", what="1000 numbered messages on one connection arrive in order, each once")
def test_order(new_api):
    # AG-30
    api = new_api().http("$default", parameters=CONNECTION_ID).live()
    pause = threading.Event()
    dice = random.Random(30)
    api.backend.on("/default", hook=lambda _: pause.wait(dice.random() * 0.004) and Reply())
    with api.connect() as ws:
        for number in range(1000):
            ws.text(str(number))
        got = api.backend.wait(1000, timeout=40)
    assert [r.text for r in got] == [str(number) for number in range(1000)]
