"""Why `$connect` and messages fail at a backend that is not Django: each failure made for real, and what one command says."""

import contextlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from harness import aws, raw
from harness.backend import Reply
from harness.gateway import Gateway, unused_tcp_port
from harness.wait import until
from harness.why import ROOT_KEY, as_user, ask, ids, request_id, says, set_policy, user_keys

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/main.py", line 12, in connect
    raise ValueError("the database has no table `rooms`")
ValueError: the database has no table `rooms`
"""


def fast_app():
    """What people write in their first hour with FastAPI."""
    app = FastAPI()

    @app.post("/ws/{route}")
    async def event(route: str, request: Request):
        body = (await request.body()).decode()
        return JSONResponse({"route": route, "length": len(body)})

    @app.post("/slash/connect/")
    def with_slash():
        return {}

    @app.get("/page/connect")
    def page():
        return {}

    @app.post("/trace/{route}")
    def trace(route: str):
        return PlainTextResponse(TRACEBACK, status_code=500)

    @app.post("/strict/{route}")
    def strict(route: str, needed: int):
        return {"needed": needed}

    return app


@pytest.fixture(scope="module")
def fast():
    """The URL of a FastAPI application under uvicorn."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(fast_app(), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        until(lambda: server.started, "uvicorn")
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("why-messages"), config=ROOT_KEY)
    gateway.allow(".*")
    gateway.start()
    yield gateway
    gateway.stop()


@dataclass
class Refusal:
    """A handshake that the backend's answer, or its lack, refuses."""

    wanted: str
    status: int
    reply: dict = field(default_factory=dict)
    uri: str = None  # instead of the recording backend; {fast}, {dead}, {port}
    proof: tuple = ()
    confidence: str = "proven"
    more: tuple = ()
    options: dict = field(default_factory=dict)


TUNNEL_404 = "<html><head><title>404</title></head><body>Tunnel abc.ngrok-free.app not found. ERR_NGROK_3200</body></html>"

REFUSALS = {
    "plain refusal": Refusal("backend.refused", 418, {"status": 418, "body": "no room for you"}, proof=("no room for you", "418")),
    "FastAPI 422": Refusal("backend.refused", 422, uri="{fast}/strict/connect", proof=("422", "application/json")),
    "FastAPI 404": Refusal("integration.wrong-url", 404, uri="{fast}/nowhere/connect", proof=("fa-404", "/nowhere/connect"), confidence="proven"),
    "FastAPI glued": Refusal("integration.missing-slash", 404, uri="{fast}/wsconnect", proof=("/wsconnect",)),
    "FastAPI slash": Refusal("integration.missing-slash", 307, uri="{fast}/slash/connect", proof=("307",)),
    "redirect to a login": Refusal("backend.redirect", 302, {"status": 302, "headers": (("Location", "/login?next=secret"),)}, proof=("302", "/login")),
    "FastAPI 405": Refusal("backend.method", 405, uri="{fast}/page/connect", proof=("405", "GET")),
    "traceback": Refusal("integration.error-status", 500, uri="{fast}/trace/connect", proof=("500",), more=("error.detail-leak",)),
    "500": Refusal("integration.error-status", 500, {"status": 500, "body": "oops"}, proof=("500",)),
    "nothing listens": Refusal("integration.refused", 504, uri="http://127.0.0.1:{dead}/connect", proof=("{dead}",)),
    "no such host": Refusal("integration.dns", 504, uri="http://backend.invalid/connect", proof=("backend.invalid",)),
    "no TLS there": Refusal("local.not-https", 504, uri="https://127.0.0.1:{fast_port}/connect", proof=("tls-not-spoken",)),
    "garbage": Refusal("integration.bad-answer", 504, {"garbage": b"SSH-2.0-OpenSSH\r\n"}),
    "cut": Refusal("integration.bad-answer", 504, {"cut": 20}),
    "closed at once": Refusal("integration.bad-answer", 504, {"close": True}),
    "slow": Refusal("integration.timeout", 504, {"hold": None}, options={"TimeoutInMillis": 200}),
    "header not sent": Refusal(
        "backend.headers-missing", 400, {"status": 400, "body": "Invalid request headers"}, proof=("connectionid", "missingHeaders"), options={"parameters": {}}
    ),
    "wrong secret": Refusal("backend.secret-mismatch", 403, {"status": 403, "body": "Invalid request"}, proof=("dj-secret",)),
    "host": Refusal("backend.host-not-allowed", 400, {"status": 400, "body": "Host is not in AllowedHosts"}, proof=("127.0.0.1:{port}",)),
    "dead tunnel": Refusal("local.tunnel-changed", 404, {"status": 404, "body": TUNNEL_404, "headers": (("Content-Type", "text/html"),)}, proof=("tunnel",)),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", REFUSALS)
def test_refused_by_the_backend(node, backend, fast, name):
    """DX-4 DX-18 DX-20 backend.refused integration.wrong-url integration.missing-slash backend.redirect backend.method
    integration.error-status error.detail-leak integration.refused integration.dns local.not-https integration.bad-answer
    integration.timeout backend.headers-missing backend.secret-mismatch backend.host-not-allowed local.tunnel-changed"""
    case = REFUSALS[name]
    values = {"fast": fast, "fast_port": fast.rsplit(":", 1)[1], "dead": unused_tcp_port(), "port": backend.port}
    reply = dict(case.reply)
    if "hold" in reply:
        reply["hold"] = threading.Event()
    if reply:
        backend.on("/connect", **reply)
    options = dict(case.options)
    if case.uri:
        options["IntegrationUri"] = case.uri.format(**values)
    api = aws.make_api(node, backend, routes=[("$connect", options), "$default"], name=name)
    ws = api.open()
    assert ws.status == case.status, (ws.status, ws.reply.body)
    assert ws.reply.get("Location") is None
    # DX-73: a backend's own words pass, as at AWS; what only its developers should see does not.
    assert "Traceback" not in ws.reply.text
    proof = [word.format(**values) for word in case.proof]
    found = says(node, request_id(ws), case.wanted, case.confidence, proof=proof, more=case.more)
    assert found["clientSaw"]["status"] == case.status
    assert "secret" not in json.dumps(found) or case.wanted == "backend.secret-mismatch"


@dataclass
class Failing:
    """A message on an open connection."""

    wanted: str
    send: str = '{"action": "x"}'
    gets: str = None  # text of the error message, or None: nothing; or an exact reply
    reply: dict = field(default_factory=dict)  # of the route's path
    on: str = "$default"  # the route that fails
    routes: tuple = ()  # further ones
    options: dict = field(default_factory=dict)  # of the failing route
    expression: str = "$request.body.action"
    proof: tuple = ()
    first: bool = True
    confidence: str = "proven"
    more: tuple = ()
    before: tuple = ()  # messages that pass


TWO_WAY = {"two_way": (True, True)}
FAILINGS = {
    "nothing fits": Failing("route.no-match", on="join", gets="Forbidden", proof=("routeKeys", "join", "selectedValue")),
    "no key": Failing("handler.key-missing", '{"other": 1, "text": "hush-hush"}', routes=("join",), proof=("other", "keyNames", "$request.body.action")),
    "another key": Failing("handler.selection-mismatch", '{"data": {"action": "join"}}', routes=("join",), proof=("foundAt", "data")),
    "no name": Failing("handler.invalid-name", '{"action": "my-method!"}', routes=("join",), proof=("my-method!",)),
    "not JSON": Failing("handler.not-json", "{action: join}", routes=("join",), proof=("errorPosition",)),
    "not created": Failing("route.not-created", '{"action": "leave"}', routes=("join",), proof=("leave", "join")),
    "letter case": Failing("route.key-mismatch", '{"action": "Join"}', routes=("join",), proof=("Join", "join", "letter case")),
    "wrong address": Failing(
        "route.integration-wrong", '{"action": "bad"}', reply={"status": 404, "body": "no"}, on="bad", routes=("$default", "join"),
        before=('{"action": "join"}',), proof=("404", "/bad"),
    ),
    "nobody hears it": Failing(
        "reply.no-route-response", reply={"body": '{"ok": true}'}, options={"two_way": (True, False)}, proof=("replyLength", "12")
    ),
    "says nothing": Failing("reply.empty-message", reply={"body": "{}"}, gets="{}", options=TWO_WAY, proof=("replyLength", "2")),
    "slow": Failing(
        "reply.timeout", gets="Endpoint request timed out", reply={"hold": None}, options={"TimeoutInMillis": 200}, first=False, more=("integration.timeout",)
    ),
    "dead": Failing(
        "reply.backend-failed", gets="Internal server error", options={"IntegrationUri": "http://127.0.0.1:{dead}/x"}, proof=("integration.refused",),
        more=("integration.refused",), first=False,
    ),
    "garbage": Failing("reply.backend-failed", gets="Internal server error", reply={"garbage": b"no HTTP\r\n\r\n"}, more=("integration.bad-answer",), first=False),
    "unknown session": Failing("backend.session-unknown", reply={"status": 400, "body": "Invalid connection ID"}, proof=("openSince", "dj-conn-id")),
    "body over the backend's limit": Failing(
        "message.backend-body-limit", json.dumps({"text": "x" * 130_000}), reply={"status": 400, "body": "Invalid request format (1)"}, proof=("size",)
    ),
    "no default handler": Failing(
        "integration.handler-undefined", '{"action": "q"}', reply={"status": 500, "body": "no"}, routes=("join",), before=('{"action": "join"}',), proof=("500",),
        confidence="proven",
    ),
    "server error": Failing("integration.error-status", reply={"status": 503, "body": "busy"}, proof=("503",)),
    "traceback": Failing(
        "integration.error-status", reply={"status": 500, "body": TRACEBACK}, options=TWO_WAY, gets="Internal server error", proof=("500",), more=("error.detail-leak",)
    ),
    "heartbeat": Failing("conn.app-heartbeat-unanswered", "ping", reply={"status": 200, "body": b""}, proof=("replyLength",)),
    "other key than the backend": Failing(
        "handler.backend-key-differs", '{"action": "join"}', on="join", routes=("$default",), reply={"status": 400, "body": "Invalid request format (1)"},
        confidence="likely", first=False, proof=("$request.body.action", "dj-format"),
    ),
    "too many bytes": Failing("message.too-large-out", gets="Internal server error", reply={"body": b"x" * 131_073}, options=TWO_WAY, proof=("131073", "131072")),
}


def send_long(ws, text):
    """In frames that the gateway takes."""
    data = text.encode()
    parts = [data[at : at + 30_000] for at in range(0, len(data), 30_000)] or [b""]
    for n, part in enumerate(parts):
        ws.send(raw.TEXT if n == 0 else raw.CONTINUATION, part, fin=n == len(parts) - 1)


def make(node, backend, case, values):
    for path, reply in ((aws.path_of(case.on), case.reply),):
        if reply:
            reply = dict(reply)
            if "hold" in reply:
                reply["hold"] = threading.Event()
            backend.on(path, **reply)
    options = dict(case.options)
    if "IntegrationUri" in options:
        options["IntegrationUri"] = options["IntegrationUri"].format(**values)
    routes = ["$connect", "$disconnect", (case.on, options), *case.routes]
    return aws.make_api(node, backend, routes=routes, expression=case.expression)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FAILINGS)
def test_a_message(node, backend, name):
    """DX-18 DX-71 route.no-match handler.key-missing handler.selection-mismatch handler.invalid-name handler.not-json
    route.not-created route.key-mismatch route.integration-wrong reply.no-route-response reply.empty-message reply.timeout
    reply.backend-failed backend.session-unknown message.backend-body-limit integration.handler-undefined
    conn.app-heartbeat-unanswered handler.backend-key-differs message.too-large-out"""
    case = FAILINGS[name]
    api = make(node, backend, case, {"dead": unused_tcp_port()})
    # The backend's connection answers with nothing where nothing is asked of it.
    for path in ("/connect", "/disconnect", *(aws.path_of(route) for route in case.routes)):
        backend.on(path, body=b"")
    ws = api.connect()
    connection_id = backend.one("/connect").connection_id
    for n, text in enumerate(case.before):
        ws.text(text)
        backend.wait(1, aws.path_of(json.loads(text)["action"]))
        until(lambda: all(r.answered.is_set() for r in backend.requests), "the answers of the backend")
    # A heartbeat is remarked on when it comes again.
    for _ in range(3 if name == "heartbeat" else 1):
        send_long(ws, case.send)
    if case.gets is None:
        until(lambda: len(backend.requests) > 1 + len(case.before), "the backend hears of it")
        ws.nothing_before_pong()
    elif case.gets.startswith("{"):
        assert ws.message() == case.gets
    else:
        frame = json.loads(ws.message())
        assert frame["message"] == case.gets and set(frame) == {"message", "connectionId", "requestId"}, frame
        assert frame["connectionId"] == connection_id
    found = says(node, connection_id, case.wanted, case.confidence, case.first, case.proof, case.more)
    assert "hush-hush" not in json.dumps(found)
    if case.gets and not case.gets.startswith("{"):
        # What the client was told leads to the same cause.
        found = says(node, frame["requestId"], case.wanted, case.confidence, first=False)
        if case.wanted.startswith(("route.", "reply.", "message.")):
            assert found["clientSaw"]["text"] == case.gets
        says(node, json.dumps(frame), case.wanted, case.confidence, first=False)
    ws.close(1000)


@pytest.mark.timeout(60)
def test_no_routes(node, backend):
    """route.none: everything is answered with Forbidden."""
    api = aws.make_api(node, backend, routes=("$connect",))
    ws = api.connect()
    ws.text("{}")
    frame = json.loads(ws.message())
    assert frame["message"] == "Forbidden"
    found = says(node, frame["requestId"], "route.no-match")
    assert "route.not-created" not in ids(ask(node, frame["requestId"]))
    assert found["clientSaw"]["text"] == "Forbidden"
    ws.close(1000)


FRAMES = {
    "too large": ("message.too-large", lambda ws: send_long(ws, "x" * 131_073), 1009, ("131072",)),
    "frame too large": ("message.frame-too-large", lambda ws: ws.send(raw.TEXT, b"x" * 32_769), 1009, ("32769", "32768")),
    "binary": ("message.binary", lambda ws: ws.send(raw.BINARY, b"\x00\x01"), 1003, ("binary",)),
    "not UTF-8": ("message.not-utf8", lambda ws: ws.send(raw.TEXT, b"ab\xff"), 1007, ("2",)),
    "reserved bits": ("protocol.violation", lambda ws: ws.send(raw.TEXT, b"ab", rsv=2), 1002, ("rule",)),
    "not masked": ("protocol.violation", lambda ws: ws.send(raw.TEXT, b"ab", mask=False), 1002, ("mask",)),
    "opcode": ("protocol.violation", lambda ws: ws.send(5, b"ab"), 1002, ("opcode",)),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame(node, backend, name):
    """message.too-large message.frame-too-large message.binary message.not-utf8 protocol.violation: the code and its proof."""
    wanted, send, code, proof = FRAMES[name]
    api = aws.make_api(node, backend)
    ws = api.connect()
    send(ws)
    if wanted in ("message.too-large", "message.frame-too-large"):
        frame = ws.frame()
        if frame.opcode == raw.TEXT:
            assert json.loads(frame.payload)["message"] == "Message too long"
            frame = ws.frame()
        assert (frame.opcode, frame.code) == (raw.CLOSE, code)
    else:
        assert ws.closed()[0] == code
    connection_id = backend.one("/connect").connection_id
    found = says(node, connection_id, wanted, proof=proof)
    assert found["clientSaw"]["closeCode"] == code, found
    says(node, str(code), wanted, first=False)



@pytest.mark.timeout(90)
def test_permission_denied(start_gateway, backend):
    """DX-19 perm.view-too-strict perm.user-lacks perm.object perm.handler-check: who is refused tells which of the causes."""
    gateway = start_gateway(ROOT_KEY)
    gateway.allow(".*")
    users = [f"u{n}" for n in range(4)]

    def denied(request):
        user, body = request.get("Tidegate-User"), json.loads(request.body)
        rule = {
            "/strict": lambda: True, "/one": lambda: user == "u0", "/object": lambda: body["id"] == 7, "/open": lambda: False,
        }[request.path]
        return Reply(403, b"Permission Denied") if rule() else Reply(200, b"")

    def story(routes):
        api = aws.make_api(gateway, backend, routes=["$connect", "$disconnect", "$default", *routes])
        set_policy(api, {"admission": user_keys(*users)})
        return api

    for path in ("/strict", "/one", "/object", "/open"):
        backend.on(path, hook=denied)
    backend.on("/connect", body=b"").on("/disconnect", body=b"")
    for routes, sends, wanted, confidence in (
        (["strict"], [(user, "strict", 1) for user in users], "perm.view-too-strict", "likely"),
        (["strict", "open"], [(user, route, 1) for user in users for route in ("strict", "open")], "perm.handler-check", "likely"),
        (["one"], [(user, "one", 1) for user in users], "perm.user-lacks", "likely"),
        (["object"], [("u0", "object", n) for n in (7, 1, 2, 7)], "perm.object", "likely"),
    ):
        api = story(routes)
        clients = {user: as_user(api, user) for user in dict.fromkeys(user for user, *_ in sends)}
        known = {user: request.connection_id for user, request in zip(clients, backend.at("/connect")[-len(clients) :])}
        for user, route, number in sends:
            before = len(backend.at(f"/{route}"))
            clients[user].text(json.dumps({"action": route, "id": number}))
            backend.wait(before + 1, f"/{route}")
        until(lambda: all(r.answered.is_set() for r in backend.requests), "every answer")
        for ws in clients.values():
            ws.nothing_before_pong()
        says(gateway, ["Y18", "--api", api.id], wanted, confidence, proof=("refusedUsers",))
        says(gateway, known["u0"], wanted, confidence)
        report = ask(gateway, known["u0"])
        assert not [f for f in report["findings"] if f["confidence"] == "proven"], ids(report)
        for ws in clients.values():
            ws.close(1000)


@pytest.mark.timeout(60)
def test_parallel_limit(start_gateway, backend):
    """integration.overload: the second call waits for its turn, which does not come."""
    gateway = start_gateway(ROOT_KEY + "[integration]\nmax_parallel = 1\n")
    gateway.allow(".*")
    release = threading.Event()
    backend.on("/connect", hold=release)
    api = aws.make_api(gateway, backend)
    first = api.open(wait=False)
    backend.wait(1, "/connect")
    second = api.open()
    assert second.status == 503, second.status
    says(gateway, request_id(second), "integration.overload")
    release.set()
    assert first.finish().status == 101


@pytest.mark.timeout(60)
def test_reset_on_reuse(node, backend):
    """integration.reset-on-reuse: the backend closes the connection that the next request has just been sent on."""
    api = aws.make_api(node, backend)
    backend.on("/connect", body=b"")
    ws = api.connect()
    connection_id = backend.one("/connect").connection_id
    backend.on("/default", hook=lambda request: Reply(reset=True))
    ws.text("{}")
    frame = json.loads(ws.message())
    assert frame["message"] == "Internal server error"
    report = ask(node, connection_id)
    # Where the pool had given up the connection by then, it was a new one that was reset.
    reused = [r.connection for r in backend.requests]
    wanted = "integration.reset-on-reuse" if reused[0] == reused[1] else "integration.bad-answer"
    says(node, connection_id, wanted, first=False, more=("reply.backend-failed",))
    assert len(backend.at("/default")) == 1, "a request is never sent twice"
    assert report["timeline"]
    ws.close(1000)


@pytest.mark.timeout(60)
def test_nothing_takes_the_connection(node, backend):
    """integration.connect-timeout: the backlog of the backend is full, so that nobody answers to the SYN."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        api = aws.make_api(node, backend, routes=[("$connect", {"IntegrationUri": f"http://127.0.0.1:{port}/connect"}), "$default"])
        ws = api.open()
        assert ws.status == 504
        says(node, request_id(ws), "integration.connect-timeout", proof=(str(port),))


@pytest.mark.timeout(60)
def test_tunnel(node, backend):
    """local.tunnel-interstitial local.old-target local.tunnel-changed: a warning page opens the connection; a tunnel that has ended."""
    page = "<html><head><title>ngrok</title></head><body>You are about to visit abc.ngrok-free.app ERR_NGROK_6024</body></html>"
    backend.on("/connect", body=page, headers=(("Content-Type", "text/html"),))
    api = aws.make_api(node, backend)
    ws = api.connect()
    says(node, backend.one("/connect").connection_id, "local.tunnel-interstitial", proof=("text/html",))
    ws.close(1000)
    backend.on("/connect", body=b"")
    api = aws.make_api(node, backend)
    api.connect().close(1000)
    backend.on("/connect", status=404, body=TUNNEL_404, headers=(("Content-Type", "text/html"),))
    for _ in range(3):
        ws = api.open()
        assert ws.status == 404
    says(node, request_id(ws), "local.old-target", "likely", first=False, proof=("lastSuccess",), more=("local.tunnel-changed",))


@pytest.mark.timeout(60)
def test_route_without_a_target(node, backend):
    """integration.missing: a route that leads nowhere."""
    api = aws.make_api(node, backend, routes=("$connect", "$disconnect"))
    api.control.create_route(ApiId=api.id, RouteKey="$default")
    api.deploy()
    ws = api.connect()
    ws.text("{}")
    frame = json.loads(ws.message())
    assert frame["message"] == "Internal server error"
    says(node, frame["requestId"], "integration.missing")
    ws.close(1000)


@pytest.mark.timeout(60)
def test_a_healthy_conversation(start_gateway, backend):
    """DX-20: messages both ways, pushes, and an orderly end are no finding, whatever is asked."""
    gateway = start_gateway(ROOT_KEY)
    api = aws.make_api(gateway, backend, routes=["$connect", "$disconnect", ("$default", TWO_WAY), ("join", TWO_WAY)])
    backend.on("/default", body='{"echo": 1}').on("/join", body='{"joined": 1}').on("/connect", body=b"").on("/disconnect", body=b"")
    ws = api.connect()
    connection_id = backend.one("/connect").connection_id
    for n in range(5):
        ws.text(json.dumps({"action": "join"} if n % 2 else {"action": "default"}))
        assert ws.message()
    api.management().post_to_connection(ConnectionId=connection_id, Data=b'{"pushed": 1}')
    assert ws.message() == '{"pushed": 1}'
    for question in ([connection_id], ["--last"], ["Y19"], ["Y21"], ["reply.no-route-response"]):
        report = ask(gateway, *question)
        proven = [f["id"] for f in report["findings"] if f["confidence"] != "possible"]
        assert not proven, (question, proven)
    ws.close(1000)
    backend.wait(1, "/disconnect")
    report = ask(gateway, connection_id)
    assert not [f for f in report["findings"] if f["severity"] != "info"], report["findings"]
    assert not re.search("WARN|ERROR", gateway.log_text())

