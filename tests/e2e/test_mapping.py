"""requestParameters: where mapped values come from and what they replace (AG-19, S0-10, S0-23)."""

import re
import time

import pytest

from harness.aws import CONNECTION_ID, make_api, refused
from harness.wait import until


def header(name, source):
    return {f"integration.request.header.{name}": source}


def run(api, query="token=t1&token=t2&e=%20x", message='{"action":"x","user":{"id":7,"tags":["a","b"]}}', headers=()):
    with api.connect(query, headers=list(headers)) as ws:
        ws.text(message)
        backend = api.backend
        backend.one("/default")
        ws.close(4002, "why")
    return backend.one("/connect"), backend.one("/default"), backend.one("/disconnect")


@pytest.fixture
def mapped(gateway, backend):
    def make(parameters, **options):
        api = make_api(gateway, backend, parameters={**CONNECTION_ID, **parameters}, **options)
        api.backend = backend
        return api

    return make


def test_every_source(mapped, gateway):
    """AG-19, S0-23: every source of 3.4; each only where it exists, a missing source omits the header."""
    parameters = {
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
        **header("Domain", "context.domainName"),
        **header("Ip", "context.identity.sourceIp"),
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
    api = mapped(parameters, stage_options={"StageVariables": {"tier": "gold"}})
    opened, message, closed = run(api, headers=[("X-Own", "one"), ("X-Own", "two"), ("User-Agent", "Agent/1")])

    assert opened.get("H") in ("two", "one")
    assert re.sub(r"\s", "", opened.get("Multi-H")) == "one,two"
    assert opened.get("Q") in ("t1", "t2")
    assert re.sub(r"\s", "", opened.get("Multi-Q")) == "t1,t2"
    for name in ("Missing", "Body", "Path", "Message", "Code", "Reason", "No-Stage-Var"):
        assert not opened.has(name), name
    assert message.get("Body") == '{"action":"x","user":{"id":7,"tags":["a","b"]}}'
    assert message.get("Path") == "7"
    for name in ("H", "Multi-H", "Q", "Multi-Q", "No-Path", "Code", "Reason"):
        assert not message.has(name), name
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", message.get("Message"))
    assert (closed.get("Code"), closed.get("Reason")) == ("4002", "why")
    assert not closed.has("Message")
    for r, event, route in ((opened, "CONNECT", "$connect"), (message, "MESSAGE", "$default"), (closed, "DISCONNECT", "$disconnect")):
        assert r.get("Stage-Var") == "gold"
        assert (r.get("Literal"), r.get("Secret")) == ("a literal", "S3cret._~+/=-")
        assert (r.get("Event"), r.get("Route-Key")) == (event, route)
        assert (r.get("Stage-Name"), r.get("Api"), r.get("Ip"), r.get("Agent")) == ("prod", api.id, "127.0.0.1", "Agent/1")
        assert r.get("Domain") == f"127.0.0.1:{gateway.port}/_aws/execute-api/{api.id}"
        assert r.get("Request") == r.get("Extended")
        assert r.get("Direction") == "IN"
        assert re.fullmatch(r"\d{13}", r.get("Connected")) and re.fullmatch(r"\d{13}", r.get("Epoch"))
        assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", r.get("Time"))
    assert len({r.get("Request") for r in (opened, message, closed)}) == 3
    assert len({r.get("Connected") for r in (opened, message, closed)}) == 1


def test_query_and_path_targets(mapped, gateway, backend):
    """AG-19: mapping into the query string and into the path."""
    parameters = {
        "integration.request.querystring.who": "context.connectionId",
        "integration.request.querystring.lit": "'a b&c'",
        "integration.request.path.seg": "route.request.body.room",
    }
    api = mapped(parameters, routes=["$connect", ("$default", {"IntegrationUri": f"{backend.url}/rooms/{{seg}}/in?own=1"})])
    with api.connect() as ws:
        connection = backend.wait(1)[0].connection_id
        ws.text('{"room":"blue room/x"}')
        request = backend.wait(2)[1]
    assert request.path == "/rooms/blue%20room%2Fx/in"
    assert sorted(request.query) == sorted([("own", "1"), ("who", connection), ("lit", "a b&c")])


def test_replaces_client_header(mapped, backend):
    """AG-19, S0-23: a mapped header replaces the client's of any spelling, Sec-WebSocket-* included."""
    api = mapped({**header("X-Role", "'server'"), **header("Sec-WebSocket-Version", "'0'")})
    opened, _, _ = run(api, headers=[("x-role", "admin"), ("X-ROLE", "root")])
    assert opened.all("X-Role") == ["server"]
    assert opened.all("sec-websocket-version") == ["0"]


def test_missing_source_removes_forged_header(mapped):
    """S0-23: a mapped header whose source is missing does not let the client's own through."""
    api = mapped(header("X-Role", "route.request.querystring.role"))
    opened, _, _ = run(api, query="", headers=[("X-Role", "admin")])
    assert not opened.has("X-Role")


@pytest.mark.logs("not.mappable|mapp|reserved|ignored")
def test_unmappable(mapped, backend):
    """3.4: Host, Content-Length and friends are not mappable: ignored."""
    api = mapped({**header("Host", "'evil.example'"), **header("Content-Length", "'5'"), **header("X-Amzn-Trace-Id", "'x'"), **header("Transfer-Encoding", "'chunked'")})
    for r in run(api):
        assert r.get("host") == f"127.0.0.1:{backend.port}"
        assert r.get("content-length") == str(len(r.body))
        assert r.get("x-amzn-trace-id").startswith("Root=1-")
        assert not r.has("transfer-encoding")


def test_merge_and_removal(mapped, backend):
    """AG-19, S0-10: an update merges; an entry set to "" is removed; nothing changes before the deployment."""
    api = mapped({**header("X-Keep", "'1'"), **header("X-Drop", "'2'")})
    v2 = api.control
    integration = [i for i in v2.get_integrations(ApiId=api.id)["Items"] if i["IntegrationUri"].endswith("/default")][0]
    updated = v2.update_integration(
        ApiId=api.id, IntegrationId=integration["IntegrationId"],
        RequestParameters={"integration.request.header.X-Drop": "", "integration.request.header.X-New": "'3'"},
    )
    assert updated["RequestParameters"] == {**CONNECTION_ID, **header("X-Keep", "'1'"), **header("X-New", "'3'")}
    with api.connect() as ws:
        ws.text("one")
        first = backend.wait(1, "/default")[0]
        assert (first.get("X-Drop"), first.get("X-New")) == ("2", None)
        api.deploy()
        ws.text("two")
        second = backend.wait(2, "/default")[1]
        assert (second.get("X-Keep"), second.get("X-Drop"), second.get("X-New")) == ("1", None, "3")


@pytest.mark.parametrize("value", ["nonsense", "context", "route.request.nope.x", "'open", "method.request.header.x", "route.request.header.bad name"])
def test_bad_mapping(control, value):
    """AG-19: other value forms are BadRequestException."""
    api = control.create_api(Name="x", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    with refused("BadRequestException", 400) as e:
        control.create_integration(
            ApiId=api["ApiId"], IntegrationType="HTTP_PROXY", IntegrationUri="http://127.0.0.1:1/",
            RequestParameters={"integration.request.header.X": value},
        )
    assert "Invalid mapping expression specified" in str(e.error)


def test_header_injection(mapped, backend):
    """A value taken from a message must not add a header or a request."""
    api = mapped(header("X-Body", "route.request.body.v"))
    with api.connect() as ws:
        ws.text('{"v":"a\\r\\nX-Evil: 1\\r\\n\\r\\nGET /evil HTTP/1.1\\r\\n\\r\\n"}')
        ws.text("second")
        requests = backend.wait(2, "/default")
        ws.close()
    assert not any(r.has("X-Evil") for r in requests)
    assert backend.at("/evil") == []


@pytest.mark.config('[integration]\ndefault_headers = ["connectionId"]\n')
def test_default_headers(gateway, backend):
    """9.1 no. 8: `integration.default_headers` sends the id without a mapping."""
    api = make_api(gateway, backend, parameters={})
    with api.connect() as ws:
        ws.text("x")
        request = backend.one("/default")
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", request.get("connectionId"))


def test_no_mapping_no_id(gateway, backend):
    """3.3: without a mapping the id is nowhere in the request."""
    api = make_api(gateway, backend, parameters={})
    with api.connect() as ws:
        ws.text("x")
        request = backend.one("/default")
    assert not request.has("connectionId")


@pytest.mark.config('[integration]\nforward_handshake = ["cookie"]\n')
def test_forward_handshake(gateway, backend):
    """9.1 no. 9: `integration.forward_handshake` repeats handshake headers on messages."""
    api = make_api(gateway, backend)
    with api.connect(headers=[("Cookie", "a=1")]) as ws:
        ws.text("x")
        assert backend.one("/default").get("cookie") == "a=1"


def test_content_type(api, backend):
    """3.3: application/json for JSON texts, text/plain otherwise; never chunked (S0-24)."""
    with api.connect() as ws:
        for text in ('{"a":1}', "[1]", "plain", ""):
            ws.text(text)
        got = backend.wait(4, "/default")
    assert [r.get("content-type") for r in got[:3]] == ["application/json", "application/json", "text/plain; charset=utf-8"]
    assert [r.get("content-length") for r in got] == ["7", "3", "5", "0"]
    assert not any(r.has("transfer-encoding") for r in got)


def test_pool_reuse_and_idle(api, backend):
    """S0-30: upstream connections are reused while busy, and not after they idled for a second."""
    with api.connect() as ws:
        for number in range(10):
            ws.text(str(number))
        backend.wait(10, "/default")
        assert len({r.connection for r in backend.requests}) <= 2
        used = backend.requests[-1].connection
        start = time.monotonic()
        until(lambda: time.monotonic() - start > 1.2, "an idle second", timeout=3, interval=0.1)
        ws.text("late")
        assert backend.wait(11, "/default")[10].connection != used
