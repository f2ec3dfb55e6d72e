"""Why a connection does not open: each cause that the gateway can see, provoked for real, and what one command says of it.

One row is one attempt: what the client does, what it is answered, the cause that `tidegate explain REQUEST-ID` names
first, and the facts in its evidence. What it takes several attempts to see stands in test_why_attempts.py.
"""

import json
import threading
import time

import pytest

from harness import aws, raw
from harness.cli import failures, finding, has_no_findings, ids, tidegate
from harness.gateway import unused_tcp_port
from harness.wait import until
from harness.why_connecting import BROWSER, CONFIG, SECRET, admin, explain, guarded, jwt, part, request_id, set_policy, token_of, why

WS = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("Sec-WebSocket-Version", "13")]


def get(api, target, headers=(), host=None, method="GET"):
    return raw.request(api.gateway.port, method, target, headers, host=host)


def ws(api, target, host=None, **options):
    return raw.RawWs(api.gateway.port, target, host=host, **options)


def http10(api):
    wire = raw.Wire(api.gateway.port)
    lines = [f"GET {api.base} HTTP/1.0", f"Host: 127.0.0.1:{api.gateway.port}", *(f"{name}: {value}" for name, value in WS)]
    wire.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    return wire.response()


def similar(api_id):
    """An id that one slip makes of this one."""
    return ("b" if api_id[0] != "b" else "c") + api_id[1:]


# Cause, status, what the client does, and what the evidence has of it.
ADDRESS = [
    ("handshake.wrong-path", 403, lambda api: ws(api, "/nowhere/chat"), ["/nowhere/chat"]),
    ("path.double-prefix", 403, lambda api: ws(api, f"/_aws/execute-api/{api.id}/prod/prod"), ["nearest", "/prod"]),
    ("path.missing-stage", 403, lambda api: ws(api, "/", host=f"{api.id}.localhost"), ["known", "prod"]),
    ("handshake.malformed", 426, lambda api: ws(api, api.base, headers=[("Sec-WebSocket-Version", "8")]), ['"version": "8"']),
    ("handshake.malformed", 400, lambda api: ws(api, api.base, headers=[("Sec-WebSocket-Key", "c2hvcnQ=")]), ['"check": "key"']),
    ("handshake.malformed", 400, lambda api: ws(api, api.base, omit=["Sec-WebSocket-Key"]), ['"keyPresent": false']),
    ("handshake.not-websocket", 426, lambda api: get(api, api.base), ['"keyPresent": false', '"upgradePresent": false']),
    ("handshake.url-too-long", 414, lambda api: ws(api, f"{api.base}?token={'x' * 5000}"), ["urlLength", "limit"]),
    ("handshake.url-too-long", 431, lambda api: ws(api, api.base, headers=[(f"X-{n}", "v" * 4000) for n in range(5)]), []),
    ("client.socketio", 426, lambda api: get(api, f"{api.base}?EIO=4&transport=polling"), ["EIO", "transport"]),
    ("client.socketio", 403, lambda api: ws(api, "/socket.io/?EIO=4&transport=websocket"), ["/socket.io/"]),
    ("client.other-protocol", 403, lambda api: get(api, f"{api.base}/negotiate?negotiateVersion=1", method="POST"), ["/negotiate"]),
    ("client.other-protocol", 403, lambda api: get(api, f"{api.base}/info"), ["/info"]),
    ("api.unknown", 403, lambda api: ws(api, f"/_aws/execute-api/{similar(api.id)}/prod"), ["similar"]),
    ("stage.unknown", 403, lambda api: ws(api, f"/_aws/execute-api/{api.id}/prd"), ["nearest", "prod"]),
    ("domain.unknown-host", 403, lambda api: ws(api, "/prod", host="ws.example.net"), ["ws.example.net"]),
    ("proxy.upgrade-stripped", 426, lambda api: ws(api, api.base, omit=["Upgrade", "Connection"]), ['"upgradePresent": false', '"keyPresent": true']),
    ("proxy.http10", 426, http10, ['"httpVersion": "1.0"']),
    ("proxy.host-rewritten", 403, lambda api: ws(api, "/prod", host="internal", headers=[("X-Forwarded-Host", f"{api.id}.localhost")]), ["forwardedHost", "internal"]),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A gateway that has seen many failures: an answer must be about the one that was asked about."""
    from harness.backend import Backend
    from harness.gateway import Gateway

    backend = Backend()
    gateway = Gateway(tmp_path_factory.mktemp("shared"), config=CONFIG).start()
    gateway.allow(".")
    gateway.backend = backend
    yield gateway
    gateway.stop()
    backend.stop()


@pytest.fixture(scope="module")
def plain(shared):
    return aws.make_api(shared, shared.backend)


@pytest.mark.parametrize("wanted,status,attempt,facts", ADDRESS, ids=[f"{row[0]}-{row[1]}" for row in ADDRESS])
def test_address_and_request(plain, wanted, status, attempt, facts):
    """Y1 Y3 Y4: handshake.wrong-path path.double-prefix path.missing-stage handshake.malformed
    handshake.not-websocket handshake.url-too-long client.socketio client.other-protocol api.unknown stage.unknown
    domain.unknown-host proxy.upgrade-stripped proxy.http10 proxy.host-rewritten"""
    reply = attempt(plain)
    assert reply.status == status, reply
    why(plain.gateway, request_id(reply), wanted, "proven", status, facts)


# -- JSON Web Tokens ------------------------------------------------------------------------

ISSUER = {"issuer": "https://id.example", "audience": "chat", "require_exp": True, "claims": {"required": ["email"]}}
GOOD = {"iss": "https://id.example", "aud": "chat", "email": "a@example.com"}


def good(**claims):
    return jwt({**GOOD, **claims})


def bearer(token):
    return {"headers": [("Authorization", f"Bearer {token}")]}


JWT = [
    ("jwt.missing", "Missing token", lambda api: api.open(), ["queryNames"]),
    ("jwt.missing", "Missing token", lambda api: api.open("token="), []),
    ("jwt.wrong-place", "Missing token", lambda api: api.open(f"access_token={good()}"), ["access_token"]),
    ("jwt.wrong-place", "Missing token", lambda api: api.open(headers=[("X-Auth", good())]), ["x-auth"]),
    ("jwt.malformed", "Invalid token", lambda api: api.open(f"token=Bearer%20{good()}"), ["Bearer"]),
    ("jwt.malformed", "Invalid token", lambda api: api.open(f"token=%22{good()}%22"), ["hint"]),
    ("jwt.malformed", "Invalid token", lambda api: api.open("token=a.b"), ["part"]),
    ("jwt.ambiguous", "Invalid token", lambda api: api.open(f"token={good()}", **bearer(good(sub="bob"))), ["places"]),
    ("jwt.alg-not-allowed", "Invalid token", lambda api: api.open(f"token={part({'alg': 'none'})}.{part(GOOD)}."), ["none"]),
    ("jwt.alg-not-allowed", "Invalid token", lambda api: api.open(f"token={jwt(GOOD, header={'alg': 'HS512'})}"), ["HS512"]),
    ("jwt.signature", "Invalid token", lambda api: api.open(f"token={jwt(GOOD, secret='another-secret-of-the-tests-0123456789')}"), ["fingerprint", "alg"]),
    ("jwt.expired", "Token expired", lambda api: api.open(f"token={good(exp=int(time.time()) - 100)}"), ['"exp"', '"now"', '"leeway": 30000']),
    ("jwt.not-yet-valid", "Token not yet valid", lambda api: api.open(f"token={good(nbf=int(time.time()) + 100)}"), ["aheadMs", "nbf"]),
    ("jwt.not-yet-valid", "Token not yet valid", lambda api: api.open(f"token={good(iat=int(time.time()) + 100)}"), ["aheadMs", "iat"]),
    ("jwt.issuer", "Invalid token", lambda api: api.open(f"token={good(iss='https://other.example')}"), ["https://id.example"]),
    ("jwt.audience", "Invalid token", lambda api: api.open(f"token={good(aud='shop')}"), ['"expected": "chat"']),
    ("jwt.claims-missing", "Invalid token payload", lambda api: api.open(f"token={good(email=None)}"), ["email"]),
    ("jwt.claims-missing", "Invalid token payload", lambda api: api.open(f"token={good(sub='')}"), ["sub"]),
    ("jwt.too-long", "Invalid token", lambda api: api.open(**bearer(good(more="x" * 9000))), ["length"]),
]


@pytest.fixture(scope="module")
def with_jwt(shared):
    keys = [{"secret": SECRET, "algorithms": ["HS256"]}]
    return guarded(shared, shared.backend, {"admission": {"checks": ["jwt"]}, "jwt": {"keys": keys, **ISSUER}})


@pytest.mark.parametrize("wanted,text,attempt,facts", JWT, ids=[f"{row[0]}-{n}" for n, row in enumerate(JWT)])
def test_json_web_tokens(with_jwt, wanted, text, attempt, facts):
    """Y8: jwt.missing jwt.wrong-place jwt.malformed jwt.ambiguous jwt.alg-not-allowed jwt.signature jwt.expired
    jwt.not-yet-valid jwt.issuer jwt.audience jwt.claims-missing jwt.too-long"""
    refused = attempt(with_jwt)
    assert (refused.status, refused.reply.json["message"]) == (403, text)
    why(with_jwt.gateway, request_id(refused), wanted, "proven", 403, facts)


def test_a_good_web_token(with_jwt):
    """DX-2: nothing is said of a connection that is as it should be."""
    opened = with_jwt.open(f"token={good()}")
    assert opened.status == 101
    opened.close(1000)

    def ended():
        return len(tidegate(with_jwt.gateway, "explain", request_id(opened), code=1)["timeline"]) >= 3

    until(ended, "the end in the timeline")
    has_no_findings(explain(with_jwt.gateway, request_id(opened), code=1))


# -- one-time tokens ------------------------------------------------------------------------

TOKENS = {
    "admission": {"checks": ["token"], "origins": ["https://app.example"]},
    "connect_tokens": {"cookie": "sessionid"},
    "channels": {"unlisted": "deny", "rules": [{"match": "general", "join": "authenticated"}, {"match": "staff", "join": {"any": [["role:staff"]]}}]},
}
HERE = [("Cookie", "theme=dark; sessionid=s1"), ("Origin", "https://app.example"), ("User-Agent", BROWSER)]


@pytest.fixture(scope="module")
def with_tokens(shared):
    return guarded(shared, shared.backend, TOKENS)


def present(api, token, query="", headers=HERE, **options):
    return api.open(f"ws_token={token}{query}", headers=headers, **options)


def bound(api, **request):
    return token_of(api, **{"user": "ann", "session_cookie": "s1", "origin": "https://app.example", **request})


def other(name, value):
    """The usual headers with another one of them; None: without it."""
    return [(known, value if known == name else old) for known, old in HERE if known != name or value is not None]


TOKEN = [
    ("token.missing", lambda api: api.open(headers=HERE), ['"parameter": "ws_token"']),
    ("token.unknown", lambda api: present(api, "0" * 64), ["fingerprint"]),
    ("token.unknown", lambda api: present(api, bound(api)[:-4]), ['"length": 60']),
    ("token.unknown", lambda api: present(api, bound(api)[:-1] + "%2525"), []),
    ("token.session-changed", lambda api: present(api, bound(api), headers=other("Cookie", "sessionid=s2")), ['"differs": "session"']),
    ("token.session-missing", lambda api: present(api, bound(api), headers=other("Cookie", "theme=dark")), ["cookieNames", "theme"]),
    ("token.other-browser", lambda api: present(api, bound(api, address="192.0.2.9")), ['"differs": "address"']),
    ("token.origin-mismatch", lambda api: present(api, bound(api, origin="https://shop.example")), ['"expected": "https://shop.example"']),
    ("origin.not-allowed", lambda api: present(api, bound(api), headers=other("Origin", "https://evil.example")), ["allowedOrigins", "https://evil.example"]),
    ("channel.forbidden", lambda api: present(api, bound(api), "&channel=staff"), ["staff", "rule"]),
    ("channel.unlisted", lambda api: present(api, bound(api), "&channel=genral"), ['"nearest": "general"']),
]


@pytest.mark.parametrize("wanted,attempt,facts", TOKEN, ids=[f"{row[0]}-{n}" for n, row in enumerate(TOKEN)])
def test_tokens_and_rights(with_tokens, wanted, attempt, facts):
    """Y9 Y12: token.missing token.unknown token.session-changed token.session-missing token.other-browser
    token.origin-mismatch origin.not-allowed channel.forbidden channel.unlisted"""
    refused = attempt(with_tokens)
    assert refused.status == 403 and refused.reply.json["message"] == "Forbidden"
    why(with_tokens.gateway, request_id(refused), wanted, "proven", 403, facts)


def test_a_token_for_another_stage(with_tokens, shared):
    """token.origin-mismatch: a token is good for the stage that it was issued for."""
    elsewhere = guarded(shared, shared.backend, TOKENS)
    refused = present(with_tokens, bound(elsewhere))
    assert refused.status == 403
    why(shared, request_id(refused), "token.origin-mismatch", "proven", 403, ['"differs": "api"'])


def test_a_channel_that_is_no_name(with_tokens):
    """channel.invalid"""
    refused = present(with_tokens, bound(with_tokens), "&channel=not%20valid!")
    assert refused.status == 400
    why(with_tokens.gateway, request_id(refused), "channel.invalid", "proven", 400)


def test_a_token_that_is_too_old(with_tokens):
    """token.expired: the shortest life is five seconds."""
    token = bound(with_tokens, lifetime=5)
    issued = time.monotonic()
    until(lambda: time.monotonic() - issued > 5.1, "the end of the token", 8)
    for _ in range(2):
        # A token that is presented twice is no used one: it never opened anything.
        refused = present(with_tokens, token)
        assert refused.status == 403
        found = why(with_tokens.gateway, request_id(refused), "token.expired", "proven", 403, ["tokenAgeMs", "lifetimeMs"])
        report = explain(with_tokens.gateway, request_id(refused))
        assert not [name for name in ids(report) if name.startswith("token.reused")], ids(report)
    assert token not in json.dumps(found)


def test_a_refused_token_is_not_a_used_one(with_tokens):
    """token.session-changed: refused for its session twice; nobody has used it, so token.reused is not said."""
    token = bound(with_tokens)
    for _ in range(2):
        refused = present(with_tokens, token, headers=other("Cookie", "sessionid=s2"))
        why(with_tokens.gateway, request_id(refused), "token.session-changed", "proven", 403)
        assert not [name for name in ids(explain(with_tokens.gateway, request_id(refused))) if name.startswith("token.reused")]
    present(with_tokens, token, "&channel=general").close(1000)


def test_a_token_is_used_twice(shared):
    """DX-19 token.reused token.reused-on-reconnect"""
    with_tokens = guarded(shared, shared.backend, TOKENS)
    token = bound(with_tokens)
    first = present(with_tokens, token)
    assert first.status == 101
    refused = present(with_tokens, token)
    assert refused.status == 403
    found = why(with_tokens.gateway, request_id(refused), "token.reused", "proven", 403, ["firstUsedAt", "firstUsedFrom", "127.0.0.1"])
    assert token not in json.dumps(found)
    first.close(1000)
    until(lambda: admin(with_tokens.gateway, "GET", f"/connections?api={with_tokens.id}&count=true").json()["count"] == 0, "the end")
    refused = present(with_tokens, token)
    found = why(with_tokens.gateway, request_id(refused), "token.reused-on-reconnect", "proven", 403, ["firstUsedAt"])
    assert any("had ended" in evidence["text"] for evidence in found["evidence"]), found


def test_a_token_that_the_backend_saw_in_vain(shared):
    """token.reused: `$connect` was refused with the token; no connection of it ever opened, so it is no reconnect."""
    api = guarded(shared, None, {"admission": {"checks": ["token"]}}, url=f"{shared.backend.url}/vain")
    shared.backend.on("/vain/connect", status=403, body="no")
    token = token_of(api, user="ann")
    assert api.open(f"ws_token={token}").status == 403
    refused = api.open(f"ws_token={token}")
    why(shared, request_id(refused), "token.reused", "proven", 403, ["firstUsedAt"])


# -- the token endpoint ---------------------------------------------------------------------

ENDPOINT = [
    ("origin.not-allowed", {"origin": "https://evil.example"}, 200, "{}", ["https://evil.example"]),
    ("tokenreq.cookies-not-sent", {"cookies": None}, 200, "{}", ["headerNames"]),
    ("tokenreq.csrf-missing", {"csrf": None}, 403, "CSRF Failed: CSRF token missing.", ["wantedHeaders", "x-csrftoken"]),
    ("tokenreq.csrf-invalid", {}, 403, "CSRF Failed: CSRF token incorrect.", ["wantedHeaders"]),
    # A page's own rows: the gateway has the backend's word for it, which makes them likely.
    ("tokenreq.csrf-cookie", {}, 403, "CSRF Failed: CSRF cookie not set.", ["cookieNames"]),
    ("tokenreq.csrf-origin", {}, 403, "CSRF Failed: Origin checking failed", ["origin"]),
    ("tokenreq.no-session-cookie", {"cookies": "csrftoken=c"}, 403, "Authentication required", ["wantedCookie", "csrftoken"]),
    ("tokenreq.anonymous", {}, 403, "Authentication required", ["cookieNames", "sessionid"]),
    ("tokenreq.anonymous", {}, 200, "{}", []),
    ("tokenreq.rate-limited", {}, 403, "Rate limit exceeded", []),
    ("tokenreq.wrong-url", {}, 404, "Not Found", []),
]


def ask(api, origin="https://app.example", cookies="csrftoken=c; sessionid=s1", csrf="c" * 8):
    headers = [("Origin", origin), ("User-Agent", BROWSER)]
    headers += [("Cookie", cookies)] if cookies else []
    headers += [("X-CSRFToken", csrf)] if csrf else []
    return raw.request(api.gateway.port, "POST", f"{api.base}/@token", headers)


def with_endpoint(shared, path, policy=None, **tokens):
    endpoint = {"url": f"{shared.backend.url}{path}", "origins": ["https://app.example"]}
    return guarded(shared, shared.backend, {"admission": {"checks": ["token"]}, "connect_tokens": {"cookie": "sessionid", "endpoint": endpoint, **tokens}, **(policy or {})})


@pytest.mark.parametrize("wanted,request_,status,body,facts", ENDPOINT, ids=[f"{row[0]}-{n}" for n, row in enumerate(ENDPOINT)])
def test_token_requests(shared, wanted, request_, status, body, facts):
    """Y11: tokenreq.cookies-not-sent tokenreq.csrf-missing tokenreq.csrf-invalid tokenreq.csrf-cookie tokenreq.csrf-origin
    tokenreq.no-session-cookie tokenreq.anonymous tokenreq.rate-limited tokenreq.wrong-url origin.not-allowed"""
    shared.backend.on("/user", status=status, body=body)
    reply = ask(with_endpoint(shared, "/user"), **request_)
    assert reply.status == 403 and "token" not in reply.json, (reply.status, reply.text)
    likely = ("tokenreq.csrf-cookie", "tokenreq.csrf-origin", "tokenreq.wrong-url", "tokenreq.cookies-not-sent")
    confidence = "likely" if wanted in likely else "proven"
    found = why(shared, request_id(reply), wanted, confidence, 403, facts)
    assert "closeCode" not in found["clientSaw"]


def test_a_token_request_that_is_in_order(shared):
    """DX-2: the request, and the connection with what it brought."""
    shared.backend.on("/user", status=200, body='{"user": "ann"}')
    api = with_endpoint(shared, "/user")
    reply = ask(api)
    assert reply.status == 200
    has_no_findings(explain(shared, request_id(reply), code=1))
    opened = present(api, reply.json["token"])
    assert opened.status == 101
    opened.close(1001)
    has_no_findings(explain(shared, request_id(opened), code=1))


# -- API, stage, deployment -----------------------------------------------------------------


def test_stages_that_lead_nowhere(shared):
    """Y3: stage.not-deployed api.default-endpoint-disabled"""
    api = aws.make_api(shared, shared.backend)
    api.control.create_stage(ApiId=api.id, StageName="empty")
    refused = ws(api, f"/_aws/execute-api/{api.id}/empty")
    assert refused.status == 403
    why(shared, request_id(refused), "stage.not-deployed", "proven", 403)
    api.control.update_api(ApiId=api.id, DisableExecuteApiEndpoint=True)
    api.deploy()
    refused = ws(api, "/prod", host=api.host)
    assert refused.status == 403
    why(shared, request_id(refused), "api.default-endpoint-disabled", "proven", 403)


def test_apis_without_routes(shared):
    """Y3: route.connect-missing opens, and says so."""
    api = aws.make_api(shared, shared.backend, routes=["$default"])
    opened = api.connect()
    why(shared, request_id(opened), "route.connect-missing", "proven")
    opened.close(1000)


def test_a_route_that_was_not_deployed(shared):
    """Y3: stage.redeploy-needed: the definition has what the client asks for, the deployment does not."""
    api = aws.make_api(shared, shared.backend, routes=["$connect", "$disconnect"])
    aws.add_route(api, "say", shared.backend.url)
    with api.connect() as opened:
        opened.text('{"action": "say"}')
        assert json.loads(opened.message())["message"] == "Forbidden"
        report = explain(shared, request_id(opened))
        finding(report, "stage.redeploy-needed")


def test_an_api_that_is_deleted(shared):
    """Y3: api.being-deleted"""
    api = aws.make_api(shared, shared.backend)
    opened = api.connect()
    api.control.delete_api(ApiId=api.id)
    assert opened.closed()[0] == 1001
    found = why(shared, request_id(opened), "api.being-deleted", "proven")
    assert found["clientSaw"]["closeCode"] == 1001


# -- subprotocols ---------------------------------------------------------------------------

SUBPROTOCOL = [
    ("subprotocol.not-confirmed", "v1, v2", None, ["v1"]),
    ("subprotocol.not-offered", "v1", "v9", ["v1", "v9"]),
    ("subprotocol.several", "v1, v2", "v2, v1", ["v2"]),
    ("subprotocol.null", "null", None, ["null"]),
    ("subprotocol.null", "undefined", None, ["undefined"]),
    ("subprotocol.token", f"access, {jwt()}", None, ["<token>"]),
]


@pytest.mark.parametrize("wanted,offered,answered,facts", SUBPROTOCOL, ids=[f"{row[0]}-{n}" for n, row in enumerate(SUBPROTOCOL)])
def test_subprotocols(shared, wanted, offered, answered, facts):
    """Y7: subprotocol.not-confirmed subprotocol.not-offered subprotocol.several subprotocol.null subprotocol.token"""
    api = aws.make_api(shared, None, url=f"{shared.backend.url}/sub")
    shared.backend.on("/sub/connect", headers=(("Sec-WebSocket-Protocol", answered),) if answered else ())
    opened = api.connect(headers=[("Sec-WebSocket-Protocol", offered)])
    assert opened.reply.get("sec-websocket-protocol") == ("v2" if wanted.endswith("several") else None)
    # What a browser does then.
    opened.wire.close()
    found = why(shared, request_id(opened), wanted, "proven", None, facts)
    assert jwt()[:20] not in json.dumps(found)


def test_a_confirmed_subprotocol(shared):
    """DX-2: nothing is said of an offer that was answered."""
    api = aws.make_api(shared, None, url=f"{shared.backend.url}/sub")
    shared.backend.on("/sub/connect", headers=(("Sec-WebSocket-Protocol", "v1"),))
    opened = api.connect(headers=[("Sec-WebSocket-Protocol", "v1, v2")])
    opened.close(1000)
    has_no_findings(explain(shared, request_id(opened), code=1))


# -- what comes in between ------------------------------------------------------------------


def test_the_client_does_not_wait(shared):
    """handshake.client-gave-up: it left while `$connect` was still running."""
    hold = threading.Event()
    api = aws.make_api(shared, None, url=f"{shared.backend.url}/slow")
    shared.backend.on("/slow/connect", hold=hold)
    before = len(shared.backend.at("/slow/connect"))
    leaving = api.open(wait=False)
    event = shared.backend.wait(before + 1, "/slow/connect")[-1]
    leaving.reset()
    hold.set()
    shared.backend.wait(1, "/slow/disconnect")
    why(shared, event.connection_id, "handshake.client-gave-up", "proven", None, ["waitedMs"])


@pytest.mark.logs(".")
def test_tls_and_plain_text(start_gateway, backend):
    """handshake.plain-on-tls handshake.tls-on-plain proxy.h2-upstream: the first bytes say it; nobody has an id to ask with."""
    gateway = start_gateway('[tls]\nlisten = "127.0.0.1:0"\nlocal_ca = true\n')
    wire = raw.Wire(gateway.tls_port)
    wire.send(raw.handshake_bytes("/prod", "ws.example.com")[0])
    assert wire.response().status == 400
    wire.close()
    report = explain(gateway, "--last", "1")
    assert ids(report)[0] == "handshake.plain-on-tls" and finding(report, "handshake.plain-on-tls")["clientSaw"]["status"] == 400
    wire = raw.Wire(gateway.port)
    wire.send(bytes.fromhex("16030100c8010000c40303") + bytes(200))
    assert wire.at_end() or wire.buffer[:1] != b"H"
    wire.close()
    report = explain(gateway, "--last", "1")
    assert ids(report)[0] == "handshake.tls-on-plain", ids(report)
    wire = raw.Wire(gateway.port)
    wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    until(lambda: ids(explain(gateway, "--last", "1"))[0] == "proxy.h2-upstream", "the preface of HTTP/2 in the journal")
    wire.close()
    # By what the person at the other end reads.
    report = explain(gateway, "ssl.SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)")
    assert ids(report)[0] == "handshake.tls-on-plain", ids(report)


@pytest.mark.logs(".")
def test_what_proxies_say_of_clients(start_gateway, backend):
    """Y4: proxy.forwarded-missing proxy.client-ip-collapsed proxy.forwarded-spoofed: the connection opens all the same."""
    gateway = start_gateway()
    api = aws.make_api(gateway, backend)
    opened = api.connect(headers=[("X-Real-IP", "203.0.113.4"), ("X-Forwarded-Host", "ws.example.com")])
    why(gateway, request_id(opened), "proxy.forwarded-missing", "proven", None, ["x-real-ip"])
    for n in range(3):
        opened = api.connect(headers=[("X-Forwarded-For", f"203.0.113.{n}")])
    why(gateway, request_id(opened), "proxy.client-ip-collapsed", "proven", None, ["127.0.0.1"])
    gateway = start_gateway('trusted_proxies = ["192.0.2.1/32"]\n')
    api = aws.make_api(gateway, backend)
    opened = api.connect(headers=[("X-Forwarded-For", "203.0.113.4")])
    why(gateway, request_id(opened), "proxy.forwarded-spoofed", "proven", None, ["127.0.0.1"])
    gateway = start_gateway('trusted_proxies = ["127.0.0.1/32"]\n')
    api = aws.make_api(gateway, backend)
    opened = api.connect(headers=[("X-Forwarded-For", "unknown")])
    why(gateway, request_id(opened), "proxy.client-ip-collapsed", "proven", None, ['"parsed": false'])
    opened = api.connect(headers=[("X-Forwarded-For", "203.0.113.4")])
    opened.close(1000)
    has_no_findings(explain(gateway, request_id(opened), code=1))


# -- opened and closed at once, or opened as nobody -----------------------------------------


@pytest.mark.logs(".")
@pytest.mark.config(CONFIG + "[connect]\nreject_as_close = true\n")
def test_refused_after_opening(gateway, backend):
    """Y16: close.refused-after-open, with the reason of the refusal before it."""
    keys = [{"secret": SECRET, "algorithms": ["HS256"]}]
    api = guarded(gateway, backend, {"admission": {"checks": ["jwt"]}, "jwt": {"keys": keys}})
    opened = api.open(f"token={jwt(exp=int(time.time()) - 100)}")
    assert opened.status == 101 and opened.closed()[0] == 4403
    found = why(gateway, request_id(opened), "jwt.expired", "proven")
    assert found["clientSaw"]["closeCode"] == 4403, found["clientSaw"]
    finding(explain(gateway, request_id(opened)), "close.refused-after-open")
    assert ids(explain(gateway, "4403"))[0] == "jwt.expired"


def test_the_backend_ends_what_it_accepted(shared):
    """Y16: close.backend-requested: deleted right after `$connect`; with whom it was."""
    api = aws.make_api(shared, shared.backend)
    opened = api.connect()
    connection = shared.backend.wait(1, "/connect")[-1].connection_id
    assert api.signed("DELETE", api.connection_path(connection)).status == 204
    assert opened.closed()[0] == 1000
    found = why(shared, request_id(opened), "close.backend-requested", "proven")
    assert found["clientSaw"]["closeCode"] == 1000


def test_nobody_in_particular(shared):
    """Y17: identity.token-anonymous identity.cookie-not-available cookie.samesite"""
    api = guarded(shared, shared.backend, {"admission": {"checks": ["token"], "required": False}, "connect_tokens": {"cookie": "sessionid"}})
    opened = api.open(f"ws_token={token_of(api)}")
    assert opened.status == 101
    why(shared, request_id(opened), "identity.token-anonymous", "proven", None, ["tokenAgeMs"])
    opened = api.open(headers=[("Origin", f"http://127.0.0.1:{shared.port}")])
    why(shared, request_id(opened), "identity.cookie-not-available", "proven", None, ['"wantedCookie": "sessionid"'])
    opened = api.open(headers=[("Origin", "https://app.example")])
    why(shared, request_id(opened), "cookie.samesite", "proven", None, ["https://app.example"])


@pytest.mark.logs(".")
def test_authentication_without_a_key(start_gateway, backend):
    """Y8: jwt.jwks-unreachable: the client is told to come back later, the operator why."""
    gateway = start_gateway(CONFIG)
    keys = [{"jwks_url": f"http://127.0.0.1:{unused_tcp_port()}/keys", "algorithms": ["RS256"]}]
    api = guarded(gateway, backend, {"admission": {"checks": ["jwt"]}, "jwt": {"keys": keys}})
    refused = api.open(f"token={jwt(header={'alg': 'RS256', 'kid': 'k1'})}")
    assert refused.status == 503
    why(gateway, request_id(refused), "jwt.jwks-unreachable", "proven", 503)
    key = {"kty": "RSA", "kid": "k0", "alg": "RS256", "n": part(b"\xc3" * 256), "e": "AQAB"}
    backend.on("/keys", body=json.dumps({"keys": [key]}))
    keys = [{"jwks_url": f"{backend.url}/keys", "algorithms": ["RS256"]}]
    set_policy(api, {"admission": {"checks": ["jwt"]}, "jwt": {"keys": keys}})
    backend.wait(1, "/keys")
    refused = until(lambda: (ws := api.open(f"token={jwt(header={'alg': 'RS256', 'kid': 'k1'})}")).status == 403 and ws, "the empty key set")
    why(gateway, request_id(refused), "jwt.unknown-key", "proven", 403, ["k1", "keysFetchedAt"])
