"""Handshakes: which are refused and how, and what the 101 says."""

import re
import threading

import pytest
from harness.gateway import unused_tcp_port
from suite import golden
from suite.api import Ws
from suite.checks import check

RAW = "boto3, raw WebSocket client"


def refusal(ws, status, message):
    reply = ws.reply
    assert reply.status == status, (reply.status, reply.body)
    body = re.fullmatch(r'\{"message": "([^"]*)", "connectionId":"([A-Za-z0-9_-]{15}=)", "requestId":"([A-Za-z0-9_-]{15}=)"\}', reply.text)
    assert body and body[1] == message, reply.text
    assert reply.get("content-type") == "application/json; charset=UTF-8"
    assert reply.get("sec-websocket-accept") is None
    return body[2]


def mock_connect(api, status):
    return api.mock("$connect", request=f'{{"statusCode": {status}}}', two_way=False)


@check(3, feature="handshake", needs=["backend"], how=RAW + ", recording HTTP server", what="A backend's status outside 2xx is the client's, with its body; no `$disconnect` follows, and the id is gone")
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 429, 500, 502, 503])
def test_backend_refuses(new_api, status):
    # AG-3
    api = new_api().http("$connect").http("$disconnect").live()
    api.backend.on("/connect", status=status, body="the backend says no", headers=(("Content-Type", "text/plain"),))
    ws = api.open()
    assert (ws.status, ws.reply.body) == (status, b"the backend says no")
    assert api.call("POST", api.backend.one("/connect").connection_id, b"x").status == 410
    api.backend.on("/connect", status=200)
    with api.connect() as ws:
        ws.close(1000)
    api.backend.wait(1, "/disconnect")
    assert [r.path for r in api.backend.requests] == ["/connect", "/connect", "/disconnect"]


@check(3, feature="handshake", how=RAW, what="A `MOCK` integration on `$connect`: its 2xx accepts, any other status refuses")
@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 500])
def test_mock_connect(new_api, status):
    # AG-3
    api = mock_connect(new_api(), status).live()
    ws = api.open()
    assert ws.status == (101 if status < 300 else status), (ws.status, ws.reply.body)


@check(3, feature="handshake", needs=["backend"], how=RAW, what="504 `Endpoint request timed out` when the integration is slower than `timeoutInMillis`")
def test_timeout(new_api):
    # AG-3
    api = new_api().http("$connect", TimeoutInMillis=300).live()
    hold = threading.Event()
    api.backend.on("/connect", hold=hold)
    ws = api.open()
    assert refusal(ws, 504, "Endpoint request timed out") == api.backend.one("/connect").connection_id
    hold.set()
    golden_reply("handshake_504_timeout.txt", ws, api)


@check(3, feature="handshake", needs=["backend"], how=RAW, what="504 `Network error communicating with endpoint` when nothing listens, or the backend breaks off")
@pytest.mark.parametrize("fault", ["closed port", "reset", "no HTTP"])
def test_network_error(new_api, fault):
    # AG-3
    api = new_api()
    if fault == "closed port":
        api.http("$connect", IntegrationUri=f"http://{api.target.backend_host}:{unused_tcp_port()}/")
    else:
        api.http("$connect")
        api.backend.on("/connect", **({"reset": True} if fault == "reset" else {"garbage": b"\x16\x03\x01 no HTTP\r\n\r\n"}))
    api.deploy()
    refusal(api.open(), 504, "Network error communicating with endpoint")


@check(3, feature="handshake", how=RAW, what="500 `Internal server error` for an integration that cannot work: a stage variable that leaves no host")
def test_configuration_error(new_api):
    # AG-3
    api = new_api()
    made = api.control.create_integration(ApiId=api.id, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri="http://${stageVariables.nothing}/x")
    api.route("$connect", made).deploy()
    ws = api.open()
    refusal(ws, 500, "Internal server error")
    golden_reply("handshake_500.txt", ws, api)


@check(3, feature="handshake", how=RAW, what="429 `Too Many Requests` over the throttle of `$connect`")
def test_throttled(new_api):
    # AG-3
    api = mock_connect(new_api(), 200).live(RouteSettings={"$connect": {"ThrottlingBurstLimit": 2, "ThrottlingRateLimit": 0.01}})
    for _ in range(2):
        api.connect().wire.close()
    ws = api.open()
    assert (ws.status, ws.reply.json["message"]) == (429, "Too Many Requests")
    golden_reply("handshake_429.txt", ws, api)


@check(3, feature="handshake", how=RAW, what="400 `Missing required request parameters: [token]` for a required query parameter")
def test_required_parameter(new_api):
    # AG-3
    api = new_api()
    api.mock("$connect", two_way=False, route={"RequestParameters": {"route.request.querystring.token": {"Required": True}}}).deploy()
    ws = api.open()
    refusal(ws, 400, "Missing required request parameters: [token]")
    golden_reply("handshake_400_parameter.txt", ws, api)
    api.connect("token=1").wire.close()


@check(3, feature="handshake", how=RAW, what="403 `Forbidden` with its error type for an unknown API, an unknown stage, a stage without deployment, a disabled default endpoint")
@pytest.mark.parametrize("case", ["unknown stage", "no deployment", "disabled endpoint", "unknown API"])
def test_forbidden(new_api, case):
    # AG-3
    api = mock_connect(new_api(), 200).live()
    url = api.url()
    if case == "unknown stage":
        url = api.url(stage="nope")
    elif case == "unknown API":
        url = api.url().replace(api.id, "aaaaaaaaaa")
    elif case == "no deployment":
        api.stage("empty")
        url = api.url(stage="empty")
    else:
        api.control.update_api(ApiId=api.id, DisableExecuteApiEndpoint=True)
        api.connect().wire.close()  # not before the deployment
        api.deploy()
    reply = Ws(api.target, url).reply
    assert (reply.status, reply.json) == (403, {"message": "Forbidden"})
    assert reply.get("x-amzn-errortype").split(":")[0] == "ForbiddenException"
    if case == "unknown stage":
        golden.compare_headers("handshake_403_forbidden.txt", f"HTTP/1.1 {reply.status} {reply.reason}", without_server(reply), reply.text)


@check(3, feature="handshake", how="raw HTTP client", what="A request that is no upgrade: 426 with `Upgrade: websocket`")
def test_no_upgrade(new_api):
    # AG-3
    api = mock_connect(new_api(), 200).live()
    ws = api.open(omit=("Upgrade", "Connection"))
    assert (ws.status, ws.reply.get("upgrade")) == (426, "websocket")


@check(3, feature="handshake", how=RAW, what="A route that demands an API key refuses 403 `Forbidden` without one")
def test_api_key_missing(new_api):
    # AG-3
    api = new_api().mock("$connect", two_way=False, route={"ApiKeyRequired": True}).live()
    ws = api.open()
    assert (ws.status, ws.reply.json["message"]) == (403, "Forbidden")


@check(3, feature="handshake", how=RAW, what="415 `Unsupported Media Type` where passthrough is refused and no template fits")
@pytest.mark.parametrize("behavior", ["NEVER", "WHEN_NO_TEMPLATES"])
def test_unsupported_media_type(new_api, behavior):
    # AG-3, AG-20
    api = new_api()
    templates = {} if behavior == "NEVER" else {"RequestTemplates": {"other": "{}"}, "TemplateSelectionExpression": "nothing"}
    made = api.control.create_integration(ApiId=api.id, IntegrationType="MOCK", PassthroughBehavior=behavior, **templates)
    api.route("$connect", made)
    api.response("$connect")
    api.deploy()
    refusal(api.open(), 415, "Unsupported Media Type")


@check(4, feature="handshake", how=RAW, what="No `$connect` route: the handshake is accepted")
def test_no_connect_route(new_api):
    # AG-4
    api = new_api().whoami().live()
    with api.connect() as ws:
        assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", api.identify(ws))
        known = {ws.reply.get("sec-websocket-accept"): "accept"}
        golden.compare_headers("handshake_101.txt", f"HTTP/1.1 {ws.status}", without_server(ws.reply), "", known)


SUBPROTOCOLS = [
    ("returned", "chat.v1, chat.v2", "chat.v2", "chat.v2"),
    ("not offered", "chat.v1", "other", None),
    ("not returned", "chat.v1", None, None),
]


@check(17, feature="handshake", needs=["backend"], how=RAW + ", recording HTTP server", what="Subprotocol: the backend's choice is returned; one that was not offered is left out; none is ever picked by the gateway")
@pytest.mark.parametrize("case,offered,chosen,seen", SUBPROTOCOLS, ids=[c[0] for c in SUBPROTOCOLS])
def test_subprotocol(new_api, case, offered, chosen, seen):
    # AG-17
    api = new_api().http("$connect").live()
    api.backend.on("/connect", headers=(("Sec-WebSocket-Protocol", chosen),) if chosen else ())
    with api.connect(headers=[("Sec-WebSocket-Protocol", offered)]) as ws:
        assert ws.reply.get("sec-websocket-protocol") == seen
    assert api.backend.one("/connect").get("sec-websocket-protocol") == offered


@check(17, feature="handshake", how=RAW, what="Subprotocols offered to an API without `$connect` route: 101 without the header")
def test_subprotocol_without_route(new_api):
    # AG-17
    with new_api().whoami().live().connect(headers=[("Sec-WebSocket-Protocol", "chat.v1")]) as ws:
        assert ws.reply.get("sec-websocket-protocol") is None


def without_server(reply):
    """Headers that depend on the clock or the machine's software stay out of the golden files."""
    return [(name, value) for name, value in reply.headers if name.lower() not in ("date", "server", "via")]


def golden_reply(name, ws, api):
    if api.target.is_tidegate:
        golden.compare_headers(name, f"HTTP/1.1 {ws.reply.status} {ws.reply.reason}", without_server(ws.reply), ws.reply.text)
