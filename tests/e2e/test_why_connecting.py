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
from harness.why import BROWSER, CONFIG, SECRET, admin, explain, guarded, jwt, part, request_id, set_policy, token_of, why

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
    ("handshake.bad-url-syntax", 403, lambda api: ws(api, "/undefined"), ["/undefined"]),
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
    """Y1 Y3 Y4: handshake.wrong-path path.double-prefix path.missing-stage handshake.bad-url-syntax handshake.malformed
    handshake.not-websocket handshake.url-too-long client.socketio client.other-protocol api.unknown stage.unknown
    domain.unknown-host proxy.upgrade-stripped proxy.http10 proxy.host-rewritten"""
    reply = attempt(plain)
    assert reply.status == status, reply
    confidence = "likely" if wanted == "handshake.bad-url-syntax" else "proven"
    why(plain.gateway, request_id(reply), wanted, confidence, status, facts)


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
