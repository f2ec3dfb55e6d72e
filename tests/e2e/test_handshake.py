"""The handshake: its refusals, its 101, and what of it reaches the backend (AG-3, 4, 17; S0-18 to S0-45)."""

import base64
import hashlib
import json
import re
import threading
import time

import pytest

from harness import raw
from harness.aws import Api, control, make_api
from harness.gateway import unused_tcp_port

ERROR_BODY = re.compile(
    r'^\{"message": "(?P<message>[^"]*)", "connectionId":"(?P<connection>[A-Za-z0-9_-]{15}=)", "requestId":"(?P<request>[A-Za-z0-9_-]{15}=)"\}$'
)


def refusal(ws, status, message):
    """The refusal of step 5 and later: status, headers and body of 1.3."""
    reply = ws.reply
    assert reply.status == status, (reply.status, reply.body)
    match = ERROR_BODY.match(reply.text)
    assert match, reply.text
    assert match["message"] == message
    assert reply.get("content-type") == "application/json; charset=UTF-8"
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", reply.get("x-amz-apigw-id"))
    assert reply.get("sec-websocket-accept") is None
    return match["connection"]


def forbidden(reply):
    assert (reply.status, reply.json) == (403, {"message": "Forbidden"})
    assert reply.get("x-amzn-errortype") == "ForbiddenException"
    assert re.fullmatch(r"[0-9a-f-]{36}", reply.get("x-amzn-requestid"))


# -- refusals (AG-3) -----------------------------------------------------------------------


@pytest.mark.logs(".")
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 500, 502, 503])
def test_backend_status_is_the_clients(api, backend, status):
    """AG-3, S0-37, S0-39: a non-2xx of the backend is what the client sees, with its body; no $disconnect follows."""
    backend.on("/connect", status=status, body="the backend says no", headers=(("X-Reason", "r"), ("Content-Type", "text/plain"), ("Location", "http://127.0.0.1:1/x")))
    ws = api.open()
    assert (ws.status, ws.reply.body) == (status, b"the backend says no")
    assert ws.reply.get("sec-websocket-accept") is None
    assert ws.reply.get("x-reason") == "r"
    first = backend.one("/connect").connection_id
    assert api.post(first).status == 410
    # The next event is the next client's $connect: nothing else was sent for the first.
    backend.on("/connect", status=200)
    with api.connect() as ws:
        ws.close(1000)
    backend.wait(1, "/disconnect")
    assert [r.path for r in backend.requests] == ["/connect", "/connect", "/disconnect"]
    assert backend.at("/disconnect")[0].connection_id != first


@pytest.mark.logs(".")
def test_a_debug_page_stays_behind(api, backend):
    """DX-73: a backend's debug page or traceback is for its developers; the client gets the status and a generic body."""
    backend.on("/connect", status=500, body="Traceback (most recent call last):\n  File \"/srv/secret.py\", line 1", headers=(("Content-Type", "text/plain"),))
    ws = api.open()
    assert (ws.status, set(ws.reply.json)) == (500, {"message", "connectionId", "requestId"})
    assert "secret.py" not in ws.reply.text


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_success_codes(api, backend, status):
    """1.2: 200 to 299 accept."""
    backend.on("/connect", status=status, body="")
    api.connect().wire.close()


@pytest.mark.logs(".")
def test_redirect_not_followed(api, backend):
    """S0-29: a redirect refuses the handshake and is not followed; it is logged as backend.redirect."""
    backend.on("/connect", status=301, headers=(("Location", f"{backend.url}/elsewhere"),), body="")
    assert api.open().status == 301
    assert backend.at("/elsewhere") == []
    api.gateway.wait_log("backend.redirect")


@pytest.mark.logs(".")
def test_timeout(gateway, backend):
    """AG-3 504, S0-38: over timeoutInMillis; no $disconnect, although the backend answers 200 later."""
    api = make_api(gateway, backend, routes=[("$connect", {"TimeoutInMillis": 300}), "$disconnect"])
    hold = threading.Event()
    backend.on("/connect", hold=hold)
    start = time.monotonic()
    ws = api.open()
    assert 0.25 <= time.monotonic() - start < 3
    connection = refusal(ws, 504, "Endpoint request timed out")
    assert connection == backend.one("/connect").connection_id
    hold.set()
    assert api.post(connection).status == 410
    backend.on("/connect")
    with api.connect() as ws:
        ws.close()
    assert backend.one("/disconnect").connection_id != connection


@pytest.mark.logs(".")
def test_unreachable(gateway):
    """AG-3 504, S0-38: nothing listens at the backend."""
    api = make_api(gateway, url=f"http://127.0.0.1:{unused_tcp_port()}")
    refusal(api.open(), 504, "Network error communicating with endpoint")


@pytest.mark.logs(".")
@pytest.mark.parametrize("fault", ["reset", "close", "garbage", "short"])
def test_broken_backend(api, backend, fault):
    """AG-3 504: a backend that resets, closes, talks nonsense or stops in the middle of its answer."""
    replies = {
        "reset": {"reset": True},
        "close": {"close": True},
        "garbage": {"garbage": b"\x16\x03\x01 this is not HTTP\r\n\r\n"},
        "short": {"cut": 60, "body": "x" * 500},
    }
    backend.on("/connect", **replies[fault])
    refusal(api.open(), 504, "Network error communicating with endpoint")
    # S0-30: no repeat after the first byte left.
    assert len(backend.at("/connect")) == 1


@pytest.mark.logs(".")
def test_bad_configuration(gateway, backend):
    """AG-3 500: a stage variable that leaves no usable URL is API_CONFIGURATION_ERROR."""
    api = make_api(gateway, backend, routes=[("$connect", {"IntegrationUri": "http://${stageVariables.nothing}/x"})])
    refusal(api.open(), 500, "Internal server error")


@pytest.mark.logs(".")
def test_connect_throttle(gateway, backend):
    """AG-3 429: the route throttle of $connect."""
    api = make_api(
        gateway, backend, stage_options={"RouteSettings": {"$connect": {"ThrottlingBurstLimit": 2, "ThrottlingRateLimit": 0.01}}}
    )
    for _ in range(2):
        api.connect().wire.close()
    reply = api.open().reply
    assert reply.status == 429
    assert reply.json["message"] == "Too Many Requests"
    assert len(backend.at("/connect")) == 2


@pytest.mark.logs(".")
def test_missing_required_parameter(gateway, backend):
    """AG-3 400: a required query parameter of the route is missing."""
    api = make_api(gateway, backend)
    api.control.update_route(
        ApiId=api.id, RouteId=api.route("$connect")["RouteId"],
        RequestParameters={"route.request.querystring.token": {"Required": True}},
    )
    api.deploy()
    refusal(api.open(), 400, "Missing required request parameters: [token]")
    assert backend.at("/connect") == []
    api.connect("token=1").wire.close()


def test_mock_connect(gateway):
    """1.2: a MOCK integration that returns 200 accepts."""
    api = make_api(
        gateway,
        routes=[("$connect", {"IntegrationType": "MOCK", "RequestTemplates": {"$default": '{"statusCode": 200}'}, "TemplateSelectionExpression": "\\$default"})],
    )
    api.connect().wire.close()


def test_no_connect_route(gateway, backend):
    """AG-4: no $connect route, yet 101."""
    api = make_api(gateway, backend, routes=["$default"])
    with api.connect() as ws:
        ws.text("x")
        backend.one("/default")


@pytest.mark.logs(".")
def test_unresolved_addresses(gateway, backend, api):
    """S0-45, 1.1 step 1: unknown API, stage, host; a stage without deployment; an extra path. 403, no backend asked."""
    api.control.create_stage(ApiId=api.id, StageName="empty")
    port = gateway.port
    for target, host, diag in [
        ("/_aws/execute-api/aaaaaaaaaa/prod", None, "api.unknown"),
        (f"/_aws/execute-api/{api.id}/nope", None, "stage.unknown"),
        (f"/_aws/execute-api/{api.id}", None, None),
        (f"/_aws/execute-api/{api.id}/empty", None, "stage.not-deployed"),
        (f"{api.base}/extra", None, None),
        ("/prod", "aaaaaaaaaa.localhost", None),
        ("/", "127.0.0.1", None),
    ]:
        ws = raw.RawWs(port, target, host=host)
        forbidden(ws.reply)
        if diag:
            gateway.wait_log(re.escape(diag))
    assert backend.requests == []


@pytest.mark.config('[data_plane]\nextra_path = "ignore"\n')
def test_extra_path_ignored(api):
    """0.4: `extra_path = "ignore"`."""
    ws = api.open(path="/extra/path")
    assert ws.status == 101


def test_disabled_endpoint(gateway, backend, api):
    """1.1 step 1: disableExecuteApiEndpoint answers 403 once deployed."""
    api.control.update_api(ApiId=api.id, DisableExecuteApiEndpoint=True)
    api.connect().wire.close()
    api.deploy()
    forbidden(api.open().reply)


@pytest.mark.logs(".")
def test_plain_request(api):
    """S0-46, 1.1 step 2: a plain request is 426 and says to use ws(s)."""
    reply = raw.request(api.gateway.port, "GET", api.base)
    assert reply.status == 426
    assert reply.get("upgrade").lower() == "websocket"
    assert "ws" in reply.text
    assert raw.request(api.gateway.port, "POST", api.base, body=b"x").status in (403, 426)


@pytest.mark.logs(".")
@pytest.mark.parametrize(
    "omit,headers",
    [
        (("Upgrade",), ()),
        (("Connection",), ()),
        (("Sec-WebSocket-Key",), ()),
        ((), [("Sec-WebSocket-Version", "8")]),
        ((), [("Sec-WebSocket-Key", "c2hvcnQ=")]),
    ],
)
def test_broken_upgrade(api, backend, omit, headers):
    """1.1 step 2: an incomplete upgrade is refused with 4xx and asks no backend."""
    ws = api.open(omit=omit, headers=headers)
    assert ws.status in (400, 403, 426), ws.status
    assert backend.requests == []
    if headers and headers[0][0] == "Sec-WebSocket-Version":
        assert ws.reply.get("sec-websocket-version") == "13"


@pytest.mark.logs(".")
def test_url_length(api, backend):
    """1.1 step 3: 4096 characters of URL are accepted, a longer one is 414."""
    room = 4096 - len(api.base) - len("?q=")
    api.connect("q=" + "x" * room).wire.close()
    ws = api.open("q=" + "x" * (room + 1))
    assert ws.status == 414
    assert len(backend.at("/connect")) == 1


@pytest.mark.logs(".")
def test_header_size(api, backend):
    """1.1 step 3: more than 16 KB of header values is 431."""
    ws = api.open(headers=[(f"X-H{i}", "v" * 4000) for i in range(5)])
    assert ws.status == 431
    assert backend.requests == []


@pytest.mark.logs(".")
def test_client_leaves_during_connect(api, backend):
    """S0-40, 1.1: the client leaves while $connect is in flight and it then answers 2xx: $disconnect 1006, once."""
    hold = threading.Event()
    backend.on("/connect", hold=hold)
    ws = api.open(wait=False)
    connection = backend.one("/connect").connection_id
    ws.reset()
    hold.set()
    event = backend.one("/disconnect")
    assert event.connection_id == connection
    assert api.post(connection).status == 410
    assert len(backend.requests) == 2


# -- the 101 (AG-17) -----------------------------------------------------------------------


def test_accept_header(api):
    """1.4: RFC 6455's accept value."""
    ws = api.connect()
    want = base64.b64encode(hashlib.sha1((ws.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    assert ws.reply.get("sec-websocket-accept") == want
    assert ws.reply.get("upgrade").lower() == "websocket"
    assert ws.reply.get("connection").lower() == "upgrade"


def test_subprotocol_returned(api, backend):
    """AG-17: the backend's subprotocol is returned; its other headers too, hop-by-hop ones not."""
    backend.on("/connect", headers=(("Sec-WebSocket-Protocol", "v2"), ("Set-Cookie", "a=1"), ("X-Extra", "e"), ("Keep-Alive", "timeout=5"), ("Sec-WebSocket-Accept", "forged")))
    ws = api.connect(headers=[("Sec-WebSocket-Protocol", "v1, v2")])
    assert ws.reply.get("sec-websocket-protocol") == "v2"
    assert ws.reply.get("set-cookie") == "a=1"
    assert ws.reply.get("x-extra") == "e"
    assert ws.reply.get("keep-alive") is None
    assert ws.reply.get("sec-websocket-accept") != "forged"
    assert backend.one("/connect").get("sec-websocket-protocol") == "v1, v2"


@pytest.mark.logs("subprotocol|protocol")
def test_subprotocol_not_offered(api, backend):
    """AG-17: a subprotocol the client did not offer is omitted, with a warning in the log."""
    backend.on("/connect", headers=(("Sec-WebSocket-Protocol", "v9"),))
    assert api.connect(headers=[("Sec-WebSocket-Protocol", "v1")]).reply.get("sec-websocket-protocol") is None
    assert api.connect().reply.get("sec-websocket-protocol") is None
    assert [r for r in api.gateway.records() if str(r.get("level")).upper() == "WARN"]


def test_subprotocol_not_returned(api, gateway, backend):
    """AG-17: offered, none returned by the backend or no $connect at all: 101 without the header."""
    assert api.connect(headers=[("Sec-WebSocket-Protocol", "v1")]).reply.get("sec-websocket-protocol") is None
    bare = make_api(gateway, backend, routes=["$default"])
    assert bare.connect(headers=[("Sec-WebSocket-Protocol", "v1")]).reply.get("sec-websocket-protocol") is None


@pytest.mark.config('[api]\nsubprotocols = ["graphql-transport-ws"]\n')
def test_subprotocol_setting(gateway, backend):
    """1.4: `api.subprotocols` lets the gateway select one."""
    api = make_api(gateway, backend, routes=["$default"])
    ws = api.connect(headers=[("Sec-WebSocket-Protocol", "other, graphql-transport-ws")])
    assert ws.reply.get("sec-websocket-protocol") == "graphql-transport-ws"


@pytest.mark.config("[connect]\nannounce_id = true\n")
def test_announce_id(api, backend):
    """9.1 no. 31: `connect.announce_id` sends the id first."""
    with api.connect() as ws:
        assert json.loads(ws.message()) == {"connectionId": backend.one("/connect").connection_id}


@pytest.mark.logs(".")
@pytest.mark.config("[connect]\nreject_as_close = true\n")
def test_reject_as_close(api, backend):
    """9.1 no. 14: `connect.reject_as_close` accepts, then closes with 4000 + status; no $disconnect follows."""
    backend.on("/connect", status=403, body="no")
    with api.connect() as ws:
        assert ws.closed()[0] == 4403
    assert backend.at("/disconnect") == []


# -- what reaches the backend ---------------------------------------------------------------


def test_forged_headers_are_discarded(api, backend):
    """S0-23, S0-25: headers the gateway owns, and mapped ones, are replaced, in any spelling, without duplicates."""
    forged = [
        ("connectionid", "forged"), ("CONNECTIONID", "forged"), ("X-Forwarded-For", "9.9.9.9"), ("x-forwarded-proto", "https"),
        ("X-Forwarded-Port", "443"), ("X-Real-IP", "9.9.9.9"), ("X-Amzn-Trace-Id", "Root=1-0-0"),
        ("x-amzn-apigateway-api-id", "forged"),
    ]
    api.connect(headers=forged).wire.close()
    r = backend.one("/connect")
    for name, _ in forged:
        assert len(r.all(name)) == 1, name
        assert "forged" not in r.get(name) and "9.9.9.9" not in r.get(name)
    assert r.get("x-forwarded-for") == "127.0.0.1"
    assert r.get("x-forwarded-proto") == "http"
    assert r.get("x-amzn-apigateway-api-id") == api.id


@pytest.mark.config('[data_plane]\ntrusted_proxies = ["127.0.0.1"]\n')
def test_trusted_proxy(api, backend):
    """S0-19, S0-21, S0-25: a trusted proxy's X-Forwarded-For is used; the first entry stays a bare address."""
    api.connect(headers=[("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "443")]).wire.close()
    r = backend.one("/connect")
    assert r.get("x-forwarded-for").split(",")[0].strip() == "203.0.113.7"
    assert r.get("x-real-ip") == "203.0.113.7"
    assert (r.get("x-forwarded-proto"), r.get("x-forwarded-port")) == ("https", "443")


def test_end_to_end_headers(api, backend):
    """S0-26: end-to-end headers are forwarded verbatim, hop-by-hop ones are not, none is invented."""
    api.connect(headers=[
        ("Cookie", "a=1; b=2"), ("Origin", "https://x.example"), ("Authorization", "Bearer t"), ("X-Two", "1"), ("X-Two", "2"),
        ("Keep-Alive", "1"), ("TE", "trailers"), ("Proxy-Authorization", "x"),
    ]).wire.close()
    r = backend.one("/connect")
    assert (r.get("cookie"), r.get("origin"), r.get("authorization")) == ("a=1; b=2", "https://x.example", "Bearer t")
    assert ",".join(r.all("x-two")).replace(" ", "") == "1,2"
    for name in ("keep-alive", "te", "proxy-authorization", "upgrade", "sec-websocket-extensions", "sec-websocket-protocol"):
        assert not r.has(name), name


def test_user_agent_absent(api, backend):
    """S0-22: a client without User-Agent is AmazonAPIGateway_{id} on $connect and Tidegate, ... later."""
    with api.connect() as ws:
        ws.text("x")
        backend.one("/default")
        ws.close()
    backend.one("/disconnect")
    prefix = f"AmazonAPIGateway_{api.id}"
    assert [r.get("user-agent") for r in backend.requests] == [prefix, f"Tidegate, {prefix}", f"Tidegate, {prefix}"]


@pytest.mark.parametrize("setting,connect,message", [
    ("gateway", "AmazonAPIGateway_{id}", "AmazonAPIGateway_{id}"),
    ("client", "Browser/1", "Browser/1"),
    ("both", "Browser/1", "Browser/1, AmazonAPIGateway_{id}"),
])
def test_user_agent_setting(start_gateway, backend, setting, connect, message):
    """3.3, S0-22: `integration.user_agent`."""
    gateway = start_gateway(f'[integration]\nuser_agent = "{setting}"\n')
    api = make_api(gateway, backend)
    with api.connect(headers=[("User-Agent", "Browser/1")]) as ws:
        ws.text("x")
        backend.one("/default")
    assert backend.one("/connect").get("user-agent") == connect.format(id=api.id)
    assert backend.one("/default").get("user-agent") == message.format(id=api.id)


@pytest.mark.parametrize("query", ["a=1&a=2&b=%20x%2By", "ws_token=abc&channel=general", "x", "q=%C3%A9&empty="])
def test_query_unchanged(gateway, backend, query):
    """S0-27: the query reaches $connect, after any query of the URI, and never the log in clear."""
    api = make_api(gateway, backend, routes=[("$connect", {"IntegrationUri": f"{backend.url}/connect?own=1"}), "$default"])
    with api.connect(query) as ws:
        ws.text("x")
        backend.one("/default")
    assert backend.one("/connect").raw_query in (f"own=1&{query}", f"own=1&{query}=")
    assert backend.one("/default").raw_query == ""
    assert "ws_token=abc" not in gateway.log_text()


def test_query_without_path_slash(api, backend):
    """S0-44, S0-99: `ws://host/stage?x=y` and `ws://host/stage/?x=y` are the same."""
    api.connect("x=y").wire.close()
    api.open("x=y", path="/").wire.close()
    assert [r.raw_query for r in backend.wait(2, "/connect")] == ["x=y", "x=y"]


def test_host_override(start_gateway, backend):
    """S0-32: `integration.host_header` sets the Host for all three events, per API."""
    gateway = start_gateway()
    api = make_api(gateway, backend)
    gateway.stop()
    gateway.config = f'[apis.{api.id}.integration]\nhost_header = "app.example.com"\n'
    gateway.start()
    api = Api(gateway, control(gateway), api.id)
    with api.connect() as ws:
        ws.text("x")
        backend.one("/default")
        ws.close()
    backend.one("/disconnect")
    assert [r.get("host") for r in backend.requests] == ["app.example.com"] * 3
    other = make_api(gateway, backend)
    other.connect().wire.close()
    assert backend.wait(2, "/connect")[1].get("host") == f"127.0.0.1:{backend.port}"


def test_handshake_in_pieces(api):
    """The head may come byte by byte."""
    data, _ = raw.handshake_bytes(api.base, "127.0.0.1")
    wire = raw.Wire(api.gateway.port)
    for index in range(len(data)):
        wire.send(data[index : index + 1])
    assert wire.response().status == 101


def test_frame_with_the_handshake(api, backend):
    """1.1: a frame sent together with the handshake waits for $connect and is not lost."""
    data, _ = raw.handshake_bytes(api.base, "127.0.0.1")
    wire = raw.Wire(api.gateway.port)
    wire.send(data + raw.encode(raw.TEXT, b"early"))
    assert wire.response().status == 101
    assert backend.one("/default").body == b"early"
    assert [r.path for r in backend.requests] == ["/connect", "/default"]
    wire.close()


def test_ids_are_unique(api, backend):
    """0.2, S0-31: ids have the 16-character form and are never reused."""
    for _ in range(30):
        api.connect().close(1000)
    ids = [r.connection_id for r in backend.wait(30, "/connect")]
    assert len(set(ids)) == 30
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{15}=", i) for i in ids)
