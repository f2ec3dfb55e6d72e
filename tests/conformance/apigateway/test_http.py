"""HTTP integrations: the three requests of a connection, and where mapped parameters come from."""

import re

import pytest
from suite import golden
from suite.api import CONNECTION_ID, refused
from suite.checks import check

TRACE_ID = re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}")
HANDSHAKE = [("Origin", "https://shop.example"), ("User-Agent", "ExampleBrowser/1.0"), ("X-Custom", "kept"), ("Cookie", "theme=dark")]


def header(name, source):
    return {f"integration.request.header.{name}": source}


def three(api, ws_headers=(), query="", message='{"action":"hello","n":1}'):
    """Opens, sends one message, closes: what the backend got."""
    with api.connect(query, headers=list(ws_headers)) as ws:
        ws.text(message)
        api.backend.wait(2)
        ws.close(1000, "done")
    return api.backend.wait(3)


def three_routes(new_api, **options):
    api = new_api()
    for key in ("$connect", "$disconnect", "$default"):
        api.http(key, **options)
    return api


@check(
    1, feature="http", needs=["backend"], how="boto3, raw WebSocket client, recording HTTP server",
    what="API, three `HTTP_PROXY` integrations and routes, stage, deployment with its name: the backend sees exactly three requests, each with the connection id, "
    "trace id, API id, forwarded address and framing of its event; the handshake's headers come with `$connect` only",
)
def test_three_requests(new_api, target):
    # AG-1
    api = three_routes(new_api).live()
    requests = three(api, HANDSHAKE, "room=blue&lang=en&lang=fr")
    assert [r.path for r in requests] == ["/connect", "/default", "/disconnect"]
    opened, message, closed = requests
    for r in requests:
        assert r.method == "POST"
        assert r.get("host").startswith(target.backend_host)
        assert r.get("x-amzn-apigateway-api-id") == api.id
        assert TRACE_ID.fullmatch(r.get("x-amzn-trace-id"))
        assert r.get("x-forwarded-for") and r.get("x-forwarded-port") and r.get("x-forwarded-proto")
        assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", r.connection_id)
        assert "connectionId" in r.names, "the spelling of the mapping"
        assert r.get("upgrade") is None and r.get("transfer-encoding") is None
    assert len({r.connection_id for r in requests}) == 1
    assert len({r.get("x-amzn-trace-id") for r in requests}) == 3
    assert opened.raw_query == "room=blue&lang=en&lang=fr"
    assert (opened.body, opened.get("content-length"), opened.get("content-type")) == (b"", "0", None)
    assert (opened.get("origin"), opened.get("x-custom"), opened.get("cookie")) == ("https://shop.example", "kept", "theme=dark")
    assert opened.get("sec-websocket-version") == "13" and opened.get("sec-websocket-key")
    assert (message.body, message.get("content-length")) == (b'{"action":"hello","n":1}', "24")
    assert (closed.body, closed.get("content-length")) == (b"", "0")
    for r in (message, closed):
        assert r.raw_query == ""
        for name in ("origin", "x-custom", "cookie", "sec-websocket-key"):
            assert r.get(name) is None, name


@check(1, feature="http", needs=["backend", "own"], how="golden files", what="The whole header sets of the three requests, names as spelled, `User-Agent`, `X-Real-Ip` and `Connection` included")
@pytest.mark.parametrize("number,name", [(0, "connect"), (1, "message"), (2, "disconnect")])
def test_header_sets(new_api, target, number, name):
    # AG-1
    api = three_routes(new_api).live()
    r = three(api, HANDSHAKE, "room=blue&lang=en&lang=fr")[number]
    port = str(target.tcp(api.url())[1])
    known = {f"{target.backend_host}:{api.backend.port}": "backend", api.id: "api id", port: "client port", r.get("sec-websocket-key") or "": "key"}
    golden.compare_headers(f"http_proxy_{name}.txt", f"{r.method} {r.target} HTTP/1.1", r.headers, r.text, known)


EVERY_SOURCE = {
    **header("H", "route.request.header.X-Own"),
    **header("Multi-H", "route.request.multivalueheader.X-Own"),
    **header("Q", "route.request.querystring.token"),
    **header("Multi-Q", "route.request.multivaluequerystring.token"),
    **header("Missing", "route.request.querystring.nope"),
    **header("Body", "route.request.body"),
    **header("Path", "route.request.body.user.id"),
    **header("No-Path", "route.request.body.nope"),
    **header("Stage-Var", "stageVariables.tier"),
    **header("No-Stage-Var", "stageVariables.nope"),
    **header("Literal", "'a literal'"),
    **header("Secret", "'S3cret._~+/=-'"),
    **header("Event", "context.eventType"),
    **header("Route-Key", "context.routeKey"),
    **header("Stage-Name", "context.stage"),
    **header("Api", "context.apiId"),
    **header("Agent", "context.identity.userAgent"),
    **header("Request", "context.requestId"),
    **header("Extended", "context.extendedRequestId"),
    **header("Message", "context.messageId"),
    **header("Connected", "context.connectedAt"),
    **header("Epoch", "context.requestTimeEpoch"),
    **header("Time", "context.requestTime"),
    **header("Direction", "context.messageDirection"),
    **header("Code", "context.disconnectStatusCode"),
    **header("Reason", "context.disconnectReason"),
}


@check(
    19, feature="http", needs=["backend"], how="boto3, raw WebSocket client, recording HTTP server",
    what="`requestParameters`: handshake headers and query (single and multi-value), body and a path in it, `context.*`, stage variables, literals; a missing source omits the header",
)
def test_every_source(new_api):
    # AG-19
    api = three_routes(new_api, parameters={**CONNECTION_ID, **EVERY_SOURCE}).live(StageVariables={"tier": "gold"})
    with api.connect("token=t1&token=t2", headers=[("X-Own", "one"), ("X-Own", "two"), ("User-Agent", "Agent/1")]) as ws:
        ws.text('{"action":"x","user":{"id":7,"tags":["a","b"]}}')
        api.backend.wait(2)
        ws.close(4002, "why")
    opened, message, closed = api.backend.wait(3)
    assert re.sub(r"\s", "", opened.get("Multi-H")) == "one,two" and re.sub(r"\s", "", opened.get("Multi-Q")) == "t1,t2"
    assert opened.get("H") in ("one", "two") and opened.get("Q") in ("t1", "t2")
    for name in ("Missing", "Body", "Path", "Message", "Code", "Reason", "No-Stage-Var"):
        assert not opened.has(name), name
    assert (message.get("Body"), message.get("Path")) == ('{"action":"x","user":{"id":7,"tags":["a","b"]}}', "7")
    for name in ("H", "Multi-H", "Q", "Multi-Q", "No-Path", "Code", "Reason", "Missing"):
        assert not message.has(name), name
    assert (closed.get("Code"), closed.get("Reason")) == ("4002", "why")
    for r, event, route in ((opened, "CONNECT", "$connect"), (message, "MESSAGE", "$default"), (closed, "DISCONNECT", "$disconnect")):
        assert (r.get("Stage-Var"), r.get("Literal"), r.get("Secret")) == ("gold", "a literal", "S3cret._~+/=-")
        assert (r.get("Event"), r.get("Route-Key"), r.get("Stage-Name"), r.get("Api"), r.get("Agent")) == (event, route, "prod", api.id, "Agent/1")
        assert r.get("Request") == r.get("Extended") and r.get("Direction") == "IN"
        assert re.fullmatch(r"\d{13}", r.get("Connected")) and re.fullmatch(r"\d{13}", r.get("Epoch"))
        assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", r.get("Time"))
    assert len({r.get("Connected") for r in (opened, message, closed)}) == 1


@check(19, feature="http", needs=["backend"], how="boto3, recording HTTP server", what="Mapping into the query string and into the path; a mapped header takes the place of the client's own")
def test_mapped_query_path_and_header(new_api):
    # AG-19
    api = new_api()
    api.http("$connect", parameters={**CONNECTION_ID, **header("X-Role", "'server'")})
    parameters = {"integration.request.querystring.who": "context.connectionId", "integration.request.querystring.lit": "'a b&c'", "integration.request.path.seg": "route.request.body.room"}
    api.http("$default", path="/rooms/{seg}/in?own=1", parameters=parameters)
    api.deploy()
    with api.connect(headers=[("x-role", "admin"), ("X-ROLE", "root")]) as ws:
        opened = api.backend.wait(1)[0]
        assert opened.all("x-role") == ["server"]
        ws.text('{"room":"blue room/x"}')
        request = api.backend.wait(2)[1]
    assert request.path == "/rooms/blue%20room%2Fx/in"
    assert sorted(request.query) == sorted([("own", "1"), ("who", opened.connection_id), ("lit", "a b&c")])


@check(19, feature="http", needs=["backend"], how="boto3", what="An update merges by key, an entry set to `\"\"` is removed; nothing of it is live before the deployment")
def test_update_merges(new_api):
    # AG-19
    api = new_api().http("$default", parameters={**header("A", "'1'"), **header("B", "'2'")}).live()
    change = {"ApiId": api.id, "IntegrationId": api.integrations["$default"]}
    answer = api.control.update_integration(**change, RequestParameters={**header("B", ""), **header("C", "'3'")})
    assert answer["RequestParameters"] == {**header("A", "'1'"), **header("C", "'3'")}
    with api.connect() as ws:
        ws.text("before")
        before = api.backend.wait(1)[0]
        api.deploy()
        ws.text("after")
        after = api.backend.wait(2)[1]
    assert (before.get("A"), before.get("B"), before.get("C")) == ("1", "2", None)
    assert (after.get("A"), after.get("B"), after.get("C")) == ("1", None, "3")


@check(19, feature="http", how="boto3", what="Values of no known form are refused with `BadRequestException`")
@pytest.mark.parametrize("value", ["route.request.cookie.x", "no quotes", "context", "'unclosed", "$context.connectionId", "integration.response.body"])
def test_invalid_expressions(new_api, value):
    # AG-19
    api = new_api()
    with refused("BadRequestException", 400) as e:
        api.control.create_integration(
            ApiId=api.id, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri="http://127.0.0.1:1/", RequestParameters=header("X", value)
        )
    assert e.text


@check(22, feature="deployments", needs=["backend"], how="boto3, recording HTTP server", what="A stage variable in an integration's URI changes the backend at once, for open connections too, without a deployment")
def test_stage_variable_in_uri(new_api):
    # AG-22
    api = new_api().http("$default", path="/${stageVariables.side}").live(StageVariables={"side": "left"})
    with api.connect() as ws:
        ws.text("1")
        api.backend.wait(1, "/left")
        api.control.update_stage(ApiId=api.id, StageName="prod", StageVariables={"side": "right"})
        api.settle()
        ws.text("2")
        assert api.backend.wait(1, "/right")[0].text == "2"
    assert len(api.backend.requests) == 2
