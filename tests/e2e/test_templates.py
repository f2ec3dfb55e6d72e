"""Templates, integrations that are no proxies, and models (AG-20, 21; AG-14 for their two-way routes)."""

import base64
import json
import re

import pytest

from harness.aws import add_route, make_api
from harness.cli import explained

INVALID = re.compile(
    r'^\{"message": "Bad request body", "connectionId":"[A-Za-z0-9_-]{15}=", "messageId":"[A-Za-z0-9_-]{15}="\}$'
)
TWO_WAY = (True, True)

# A deployment needs a route.
NO_BACKEND = [("$disconnect", {"IntegrationType": "MOCK"})]


def message_of(ws):
    return json.loads(ws.message())["message"]


def add_transformed(api, backend, key, kind="HTTP", responses=(("$default", {}),), two_way=TWO_WAY, **integration):
    """A route with an integration that is no proxy; `responses` = (key, further members) in order."""
    url = backend.url if backend else None
    route_id, integration_id = add_route(
        api, key, url, parameters=integration.pop("parameters", {}), two_way=two_way, IntegrationType=kind, **integration
    )
    for response_key, options in responses:
        api.control.create_integration_response(
            ApiId=api.id, IntegrationId=integration_id, IntegrationResponseKey=response_key, **options
        )
    return route_id, integration_id


def test_mock_heartbeat(gateway):
    """AG-20, AG-14: the heartbeat of the guide: no backend, the answer is made of the template's variables."""
    api = make_api(gateway, routes=NO_BACKEND)
    add_transformed(
        api, None, "ping", "MOCK",
        RequestTemplates={"$default": '{"statusCode":200}'},
        responses=[("$default", {"ResponseTemplates": {"$default": '{"pong": "$context.requestTimeEpoch"}'}})],
    )
    add_transformed(
        api, None, "choose", "MOCK",
        RequestTemplates={"application/json": '#if($input.path("$.n") > 3){"statusCode": 404}#else{"statusCode": 200}#end'},
        responses=[
            ("/4\\d\\d/", {"ResponseTemplates": {"$default": "not found: $input.json('$.n')"}}),
            ("$default", {"ResponseTemplates": {"$default": "found $context.connectionId"}}),
        ],
    )
    add_transformed(api, None, "none", "MOCK", RequestTemplates={"$default": "no json"})
    api.deploy()
    with api.connect() as ws:
        ws.text('{"action":"ping"}')
        assert int(json.loads(ws.message())["pong"]) > 1_600_000_000_000
        ws.text('{"action":"choose","n":5}')
        assert ws.message() == "not found: 5"
        ws.text('{"action":"choose","n":1}')
        assert re.fullmatch(r"found [A-Za-z0-9_-]{15}=", ws.message())


@pytest.mark.logs("template|integration")
def test_what_no_template_can_answer(gateway, backend):
    """AG-20, AG-3: a template that throws, no status, no fitting response: the error frame, and the connection stays."""
    api = make_api(gateway, routes=NO_BACKEND)
    add_transformed(api, None, "status", "MOCK", RequestTemplates={"$default": "no json"})
    add_transformed(api, None, "throws", "MOCK", RequestTemplates={"$default": "$util.parseJson('{')"})
    add_transformed(
        api, None, "loop", "MOCK",
        RequestTemplates={"$default": "#foreach($a in [1..1000])#foreach($b in [1..1000])#foreach($c in [1..1000])x#end#end#end"},
    )
    add_transformed(api, backend, "nothing", responses=[("/5\\d\\d/", {})])
    add_transformed(api, backend, "binary", ContentHandlingStrategy="CONVERT_TO_BINARY", RequestTemplates={"$default": "%"})
    api.deploy()
    with api.connect() as ws:
        for action in ("status", "throws", "loop", "nothing", "binary"):
            ws.text(json.dumps({"action": action}))
            assert message_of(ws) == "Internal server error", action
        ws.nothing_before_pong()
    assert [request.path for request in backend.requests] == ["/nothing"]


def test_http_in_both_directions(gateway, backend):
    """AG-20, AG-14, AG-19: the backend sees what the template makes of the message, the client what it makes of the answer."""
    backend.on("/order", status=201, body='{"items":[{"id":1,"name":"tea"},{"id":2,"name":"it\'s"}]}', headers=(("X-Kind", "list"),))
    api = make_api(gateway, routes=NO_BACKEND)
    request = """#set($in = $input.path('$'))
#set($n = 0)
{
  "user": "$util.escapeJavaScript($in.user)",
  "tags": [#foreach($tag in $in.tags)"$tag"#if($foreach.hasNext),#end#end],
  "raw": $input.json('$.nested'),
  "stage": "$stageVariables.tier",
  "from": "$context.connectionId"
}"""
    response = "#foreach($i in $input.path('$.items'))$foreach.count:$i.name;#end $input.path('$.items').size()"
    add_transformed(
        api, backend, "order",
        RequestTemplates={"application/json": request, "short": "short: $input.path('$.user')"},
        TemplateSelectionExpression="${request.body.form}",
        parameters={"integration.request.header.Conn": "context.connectionId", "integration.request.querystring.u": "route.request.body.user"},
        responses=[
            ("/2\\d\\d/", {
                "ResponseTemplates": {"201-list": response, "$default": "other"},
                "TemplateSelectionExpression": "${integration.response.statuscode}-${integration.response.header.X-Kind}",
            }),
            ("$default", {}),
        ],
    )
    api.control.update_stage(ApiId=api.id, StageName="prod", StageVariables={"tier": "gold"})
    api.deploy()
    with api.connect(headers=(("Cookie", "secret=1"),)) as ws:
        ws.text('{"action":"order","form":"application/json","user":"a\\"b","tags":["x","y"],"nested":{"z":1,"a":[2.50]}}')
        assert ws.message() == "1:tea;2:it's; 2"
        got = backend.one("/order")
        sent = json.loads(got.text)
        assert got.text.startswith("{\n  \"user\"") and '"raw": {"z":1,"a":[2.50]}' in got.text
        assert sent["user"] == 'a"b' and sent["tags"] == ["x", "y"] and sent["stage"] == "gold"
        assert sent["from"] == got.get("Conn") and got.query == [("u", 'a"b')]
        assert got.get("Content-Type") == "application/json" and not got.has("Cookie")
        ws.text('{"action":"order","form":"short","user":"me"}')
        assert ws.message() == "1:tea;2:it's; 2"
        assert backend.wait(2)[1].text == "short: me"


@pytest.mark.logs("BackendRefused|backend|answered")
def test_the_status_chooses_the_answer(gateway, backend):
    """AG-20: patterns fit the whole status; no template leaves the body as it is."""
    api = make_api(gateway, routes=NO_BACKEND)
    add_transformed(
        api, backend, "x",
        responses=[
            ("/40[34]/", {"ResponseTemplates": {"$default": "refused: $input.path('$.why')"}}),
            ("$default", {}),
            ("/5\\d\\d/", {"ContentHandlingStrategy": "CONVERT_TO_TEXT"}),
        ],
    )
    api.deploy()
    with api.connect() as ws:
        for status, body, expected in [
            (200, '{"a": 1}', '{"a": 1}'),
            (404, '{"why":"gone"}', "refused: gone"),
            (400, "bad", "bad"),
            (500, b"\xff\x00", base64.b64encode(b"\xff\x00").decode()),
        ]:
            backend.on("/x", status=status, body=body)
            ws.text('{"action":"x"}')
            assert ws.message() == expected


PASSTHROUGH = [
    ("WHEN_NO_MATCH", True, False),
    ("WHEN_NO_MATCH", False, False),
    ("WHEN_NO_TEMPLATES", True, True),
    ("WHEN_NO_TEMPLATES", False, False),
    ("NEVER", True, True),
    ("NEVER", False, True),
]


@pytest.mark.logs("template|passthrough")
def test_passthrough(gateway, backend):
    """AG-20: the table of passthroughBehavior: without a fitting template the body goes on, or the client gets a 415."""
    api = make_api(gateway, routes=NO_BACKEND)
    for row, (behavior, has_templates, _) in enumerate(PASSTHROUGH):
        templates = {"RequestTemplates": {"text/other": "x"}} if has_templates else {}
        add_transformed(api, backend, f"r{row}", PassthroughBehavior=behavior, **templates)
    add_transformed(api, backend, "$connect", PassthroughBehavior="NEVER")
    api.deploy()
    with api.open() as ws:
        assert ws.status == 415 and json.loads(ws.reply.body)["message"] == "Unsupported Media Type"
    api.control.delete_route(ApiId=api.id, RouteId=api.route("$connect")["RouteId"])
    api.deploy()
    with api.connect() as ws:
        for row, (behavior, has_templates, is_refused) in enumerate(PASSTHROUGH):
            text = json.dumps({"action": f"r{row}", "n":  1})
            ws.text(text)
            if is_refused:
                assert message_of(ws) == "Unsupported Media Type", (behavior, has_templates)
            else:
                assert ws.message() == "{}"
                assert backend.one(f"/r{row}").text == text


@pytest.mark.logs("connect|refused|BackendRefused|answered")
def test_connect_without_a_proxy(gateway, backend):
    """AG-20, AG-17: the backend's status decides about the handshake; only mapped headers reach the client."""
    api = make_api(gateway, routes=NO_BACKEND)
    add_transformed(
        api, backend, "$connect", two_way=(False, False),
        RequestTemplates={"$default": "{\"token\": \"$input.params('token')\", \"agent\": \"$input.params().header.get('x-client')\"}"},
        responses=[("$default", {"ResponseParameters": {
            "method.response.header.Sec-WebSocket-Protocol": "integration.response.header.X-Protocol",
            "method.response.header.X-User": "integration.response.body.user",
            "method.response.header.X-Fixed": "'yes'",
        }})],
    )
    api.deploy()
    backend.on("/connect", status=200, body='{"user":"u1"}', headers=(("X-Protocol", "v2"), ("X-Hidden", "1")))
    options = {"headers": (("X-Client", "me"), ("Sec-WebSocket-Protocol", "v1, v2"))}
    with api.open("token=t%201", **options) as ws:
        assert ws.status == 101
        headers = {name.lower(): value for name, value in ws.reply.headers}
        assert headers["sec-websocket-protocol"] == "v2"
        assert headers["x-user"] == "u1" and headers["x-fixed"] == "yes" and "x-hidden" not in headers
    assert json.loads(backend.one("/connect").text) == {"token": "t 1", "agent": "me"}
    assert backend.one("/connect").query == []
    backend.on("/connect", status=403, body="no")
    with api.open() as ws:
        assert ws.status == 403


def model(api, name, schema):
    api.control.create_model(ApiId=api.id, Name=name, ContentType="application/json", Schema=json.dumps(schema))


JOIN = {
    "$schema": "http://json-schema.org/draft-04/schema#",
    "type": "object",
    "required": ["room"],
    "properties": {"room": {"$ref": "#/definitions/room"}},
    "definitions": {"room": {"type": "string", "pattern": "^[a-z]+$"}},
}


def with_models(api, key, **members):
    api.control.update_route(ApiId=api.id, RouteId=api.route(key)["RouteId"], **members)


@pytest.mark.logs("model|Bad request")
def test_models(gateway, backend):
    """AG-21: fail, pass, no matching model, $default model; for a proxy and for others; the frame names the message."""
    api = make_api(gateway, backend, routes=["join", "open", "strict"])
    add_transformed(api, backend, "http", two_way=(False, False))
    model(api, "Join", JOIN)
    model(api, "Any", {"type": "object", "required": ["any"]})
    for key in ("join", "http"):
        with_models(
            api, key, ModelSelectionExpression="$request.body.kind", RequestModels={"j": "Join", "$default": "Any"}
        )
    with_models(api, "strict", ModelSelectionExpression="$request.body.kind", RequestModels={"j": "Join"})
    with_models(api, "open", RequestModels={"$default": "Join"})
    api.deploy()
    with api.connect() as ws:
        passing = [
            {"action": "join", "kind": "j", "room": "blue"},
            {"action": "join", "kind": "other", "any": 1},
            {"action": "http", "kind": "j", "room": "blue"},
            {"action": "strict", "kind": "j", "room": "blue"},
            {"action": "open", "room": 5},
        ]
        failing = [
            {"action": "join", "kind": "j"},
            {"action": "join", "kind": "j", "room": "Blue"},
            {"action": "join", "room": "blue"},
            {"action": "http", "kind": "j", "room": 1},
            {"action": "strict", "kind": "k", "room": "blue"},
        ]
        for good, bad in zip(passing, failing):
            ws.text(json.dumps(good))
            ws.text(json.dumps(bad))
            frame = ws.message()
            assert INVALID.match(frame), frame
        got = backend.wait(len(passing))
    assert [json.loads(request.text) for request in got] == passing
    # message.invalid-model: what is wrong is told to whoever runs the gateway.
    found = explained(gateway, json.loads(frame)["connectionId"], "message.invalid-model")
    assert found["count"] == len(failing)
    facts = [entry["facts"] for entry in found["evidence"]]
    assert any("violations" in fact or "detail" in fact for fact in facts), facts
