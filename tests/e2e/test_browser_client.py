"""The browser client `clients/js` in headless Chromium, against a real gateway."""

import base64
import hmac
import json
import socket
import threading
import time
from pathlib import Path

import pytest

from harness import aws
from harness.backend import Reply
from harness.cutting_proxy import CuttingProxy
from harness.gateway import unused_tcp_port
from harness.wait import until
from test_admin import call
from test_browser import browser  # noqa: F401 - a fixture

DIST = Path(__file__).resolve().parents[2] / "clients/js/dist"
KEY = 'api_key = "root-key"\n'

POLICY = {
    "admission": {"checks": ["token"]},
    "attempts": {"per_address": 0, "per_user": 0},
    "connect_tokens": {"per_minute": 1000},
    "channels": {
        "rules": [
            {"match": "room", "join": "allow", "publish": "allow", "presence": "allow", "envelope": True, "history": {"count": 1000, "age": 600}},
            {"match": "secret", "join": "deny"},
        ]
    },
    "control": {"key": "tidegate"},
}

HTML = (("Content-Type", "text/html"),)
SCRIPT = (("Content-Type", "text/javascript"),)

# What a page does; `ws` is the client, `log` what happened.
PAGE = """
window.log = {open: [], message: [], close: [], errors: [], warnings: [], stopped: [], lost: [], resumed: [], tokens: []};
window.start = (url, options = {}) => {
  const { Tidegate, TidegateError, tokenFrom } = TidegateClient.tokenFrom ? TidegateClient : { ...TidegateClient, ...TidegateToken };
  const getToken = tokenFrom('/ws-token');
  window.ws = new Tidegate(url, {
    baseDelay: 0.2, maxDelay: 1,
    getToken: async (context) => { const token = await getToken(context); log.tokens.push(token); return token; },
    onError: (error) => log.errors.push({ ...error.toJSON(), isOurs: error instanceof TidegateError }),
    ...options,
  });
  for (const type of ['open', 'message', 'close', 'stopped', 'lost', 'resumed']) ws.on(type, (event) => log[type].push(event));
  ws.on('warning', ({ error }) => log.warnings.push(error.toJSON()));
  return 0;
};
"""


class Site:
    """A page with the client, a token endpoint, and a gateway behind a proxy that stays where it is."""

    def __init__(self, gateway, api, backend, browser, proxy):  # noqa: F811
        self.gateway, self.api, self.backend, self.browser, self.proxy = gateway, api, backend, browser, proxy
        self.user = "ann"
        self.jwt = None
        self.set_policy(POLICY)
        for path in DIST.glob("*.js"):
            backend.on(f"/{path.name}", body=path.read_bytes(), headers=SCRIPT)
        backend.on("/ws-token", hook=self.token)
        self.load()

    def load(self, head=(), page="/page"):
        scripts = "".join(f"<script src=/{name}.global.js></script>" for name in ("tidegate", "reconnecting-socket", "token"))
        self.backend.on(page, body=f"<!doctype html><title>page</title>{scripts}", headers=HTML + tuple(head))
        self.browser.navigate(self.backend.url + page)
        self.browser.evaluate(PAGE + "0")

    def set_policy(self, policy):
        stored = call(self.gateway, "PUT", f"/apis/{self.api.id}/stages/{self.api.stage}/policy", json=policy)
        assert stored.status_code == 200, stored.text

    def token(self, _):
        if self.jwt:
            return Reply(body=json.dumps({"token": self.jwt}).encode())
        if self.user is None:
            return Reply(status=403, body=b'{"error": "Authentication required"}')
        place = {"api": self.api.id, "stage": self.api.stage, "user": self.user, "session": "s1"}
        issued = call(self.gateway, "POST", "/tokens", json=place)
        return Reply(body=json.dumps({"token": issued.json()["token"]}).encode())

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.proxy.port}{self.api.base}"

    def start(self, url=None, **options):
        self.browser.evaluate(f"start({json.dumps(url or self.url)}, {json.dumps(options)})")

    def log(self, kind):
        return self.browser.evaluate(f"log[{json.dumps(kind)}]")

    def until_log(self, kind, count, timeout=20):
        return until(lambda: (found := self.log(kind)) and len(found) >= count and found, f"{count} x {kind}: {self.browser.evaluate('log')}", timeout)

    def until_joined(self, channel="room"):
        until(lambda: call(self.gateway, "GET", f"/connections?channel={channel}").json()["connections"], f"a member of {channel}")

    def publish(self, data, channel="room"):
        place = {"api": self.api.id, "stage": self.api.stage, "channel": channel}
        sent = call(self.gateway, "POST", "/publish", json={**place, "data": data})
        assert sent.status_code == 200, sent.text
        return sent.json()


@pytest.fixture
def site(start_gateway, browser, backend):  # noqa: F811
    gateway = start_gateway(KEY)
    api = aws.make_api(gateway, backend)
    with CuttingProxy(gateway.port) as proxy:
        yield Site(gateway, api, backend, browser, proxy)
        # Before the browser ends: its own end would be one more close to wait for.
        browser.navigate("about:blank")


@pytest.mark.timeout(120)
@pytest.mark.logs("did not stop in order")
def test_a_gateway_that_is_killed_and_comes_back(site):
    """S0-100, token.reused-on-reconnect: opens, talks, and after a crash of the gateway comes back with a fresh token and its channels."""
    site.start(channels=["room"], presence=True)
    site.until_joined()
    opened = site.until_log("open", 1)
    assert opened[0]["attempt"] == 1
    assert site.publish({"n": 1})["delivered"] == 1
    assert site.until_log("message", 1)[0]["data"] == {"n": 1}
    assert site.browser.evaluate("ws.presence('room').then(({ userIds }) => userIds)") == ["ann"]
    assert site.browser.evaluate("ws.publish('room', {by: 'page'}).then(({ id }) => typeof id)") == "string"
    refused = site.browser.evaluate("ws.join('secret').catch((error) => error.toJSON())")
    assert (refused["phase"], refused["diagnosis"]["id"]) == ("message", "channel.forbidden"), refused
    assert abs(site.browser.evaluate("ws.clockOffset")) < 5000
    assert site.log("errors") == [] and site.log("warnings") == []

    site.gateway.kill()
    site.until_log("close", 1)
    assert site.log("close")[0]["code"] == 1006
    site.gateway.start()
    site.proxy.target_port = site.gateway.port
    site.until_log("open", 2)
    site.until_joined()
    site.publish({"n": 2})
    until(lambda: site.log("message")[-1]["data"] == {"n": 2}, "the message after the restart")
    # The channel's past went with the gateway, and the page is told.
    assert [lost["channel"] for lost in site.log("lost")] == ["room"]
    tokens = site.log("tokens")
    assert len(tokens) >= 2 and len(set(tokens)) == len(tokens)
    text = json.dumps(site.browser.evaluate("[log.errors, log.close, log.warnings]"))
    assert not any(token in text for token in tokens) and "/_aws/" not in text, "URL and token stay out of errors"


@pytest.mark.timeout(180)
def test_nothing_is_lost_or_doubled_when_connections_are_cut(site):
    """S0-90, S0-100: with resume every message arrives once and in order, however often a proxy cuts."""
    site.start(channels=["room"], baseDelay=0.05, maxDelay=0.2)
    site.until_joined()
    n_messages, n_cuts = 300, 0
    for number in range(n_messages):
        site.publish(number)
        if number % 30 == 15:
            n_cuts += site.proxy.cut() > 0
            if number % 60 == 15:
                until(lambda: site.browser.evaluate("ws.state") == "open", "the client to come back")
    got = until(lambda: (found := [m["data"] for m in site.log("message")]) and found[-1] == n_messages - 1 and found, "the last message", 30)
    assert got == list(range(n_messages))
    assert n_cuts >= 5 and site.log("lost") == [], site.log("lost")
    assert len(site.log("resumed")) >= 5


@pytest.mark.timeout(120)
def test_a_connection_that_died_unnoticed(site):
    """conn.half-open-client: nothing arrives any more and nobody says so; the heartbeat notices, and nothing is lost."""
    site.start(channels=["room"], heartbeat={"interval": 1, "timeout": 0.5})
    site.until_joined()
    until(lambda: site.browser.evaluate("ws.clockOffset") is not None, "the first answer")
    site.proxy.flowing.clear()
    site.publish("while it was dead")
    error = site.until_log("errors", 1)[0]
    assert (error["diagnosis"]["id"], error["phase"], error["diagnosis"]["confidence"]) == ("conn.half-open-client", "opened", "proven")
    site.proxy.cut()
    site.proxy.flowing.set()
    until(lambda: [m["data"] for m in site.log("message")] == ["while it was dead"], "what was missed")


@pytest.mark.timeout(120)
def test_logout_stops_the_client(site):
    """close.session-ended: 1008 after a logout ends it; nothing is tried again."""
    site.start(channels=["room"])
    site.until_joined()
    assert call(site.gateway, "POST", "/sessions/s1/end").json()["connections"] == 1
    stopped = site.until_log("stopped", 1)[0]
    (error,) = site.log("errors")
    assert (error["code"], error["reason"], error["final"], error["diagnosis"]["id"]) == (1008, "Session ended", True, "close.session-ended")
    assert stopped["type"] == "stopped" and site.browser.evaluate("ws.state") == "stopped"
    assert len(site.log("tokens")) == 1 and len(site.log("open")) == 1


@pytest.mark.timeout(120)
def test_a_page_that_is_not_logged_in(site):
    """tokenreq.anonymous: the token endpoint refuses; three tries, then it stops and says why."""
    site.user = None
    site.start()
    site.until_log("stopped", 1)
    errors = site.log("errors")
    assert [error["diagnosis"]["id"] for error in errors] == ["tokenreq.anonymous"] * 3
    assert errors[-1]["final"] and errors[0]["status"] == 403
    assert call(site.gateway, "GET", "/attempts").json()["attempts"] == []


@pytest.mark.timeout(120)
def test_a_refused_handshake_is_explained(site):
    """DX-14, S0-101: the browser sees 1006, the client asks with its reference and gets id and sentence."""
    site.gateway.allow(".*")
    site.set_policy({**POLICY, "admission": {"checks": ["token"], "origins": ["https://elsewhere.example.com"]}})
    site.start()
    site.until_log("stopped", 1)
    errors = site.log("errors")
    assert len(errors) == 3
    for error in errors:
        assert (error["phase"], error["code"], error["isOurs"]) == ("never-opened", 1006, True)
        assert error["diagnosis"]["id"] == "origin.not-allowed", error
        assert len(error["reference"]) == 22 and error["reference"] in error["message"]
        assert error["diagnosis"]["message"] in error["message"] and error["status"] == 403 and error["requestId"]
    assert len({error["reference"] for error in errors}) == 3


def jwt(secret, **claims):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.digest(secret.encode(), signed, "sha256"))).decode()


@pytest.mark.timeout(120)
def test_a_dry_run_says_why(site):
    """S3-24, S3-66: with `dryRun` a plain GET from another origin tells what a browser hides; the token is no one-time token."""
    secret = "an-hmac-secret-of-the-tests-0123456789"
    keys = {"keys": [{"secret": secret, "algorithms": ["HS256"]}]}
    site.set_policy({**POLICY, "admission": {"checks": ["jwt"]}, "jwt": keys})
    options = {"tokenParameter": "token", "dryRun": True, "reference": False}
    site.jwt = jwt(secret, sub="ann", exp=int(time.time()) + 600)
    site.start(**options)
    site.until_log("open", 1)
    assert site.log("errors") == []
    site.browser.evaluate("ws.disconnect(), 0")
    site.jwt = jwt(secret, sub="ann", exp=int(time.time()) - 600)
    site.gateway.allow(".*")
    site.start(**options)
    site.until_log("stopped", 1)
    errors = site.log("errors")
    assert len(errors) == 3
    for error in errors:
        assert (error["status"], error["dryRun"]["status"], error["dryRun"]["ok"], error["code"]) == (403, 403, False, 1006)
        assert error["dryRun"]["message"] == "Token expired" and error["requestId"] and error["reference"] is None
    assert "Token expired" in errors[0]["message"]
    # client.reuses-expired-jwt: the page gave the same one again.
    ids = [error["diagnosis"] and error["diagnosis"]["id"] for error in errors]
    assert ids == [None, "client.reuses-expired-jwt", "client.reuses-expired-jwt"], errors


@pytest.mark.timeout(120)
def test_attempts_that_reach_nobody(site):
    """handshake.server-down is not for a browser to know: an error without an id, and further attempts."""
    site.start(f"ws://127.0.0.1:{unused_tcp_port()}/")
    errors = site.until_log("errors", 4)
    assert all(error["diagnosis"] is None and error["phase"] == "never-opened" and not error["final"] for error in errors)
    assert site.browser.evaluate("ws.disconnect(), ws.state") == "stopped"


@pytest.mark.timeout(120)
def test_what_the_browser_itself_refuses(site):
    """browser.csp, handshake.https-scheme, handshake.bad-url-syntax, browser.headers-unsupported, subprotocol.null in a real browser."""
    for url, options, wanted in [
        ("https://ws.example.com/", {}, "handshake.https-scheme"),
        ("wss://ws.example.com/#top", {}, "handshake.bad-url-syntax"),
        ("wss://ws.example.com/undefined", {}, "handshake.bad-url-syntax"),
        (site.url, {"headers": {"Authorization": "x"}}, "browser.headers-unsupported"),
        (site.url, {"protocols": "null"}, "subprotocol.null"),
    ]:
        thrown = f"(() => {{ try {{ start({json.dumps(url)}, {json.dumps(options)}) }} catch (error) {{ return error.toJSON() }} }})()"
        assert site.browser.evaluate(thrown)["diagnosis"]["id"] == wanted
    policy = f"default-src 'self' 'unsafe-eval'; connect-src 'self' ws://127.0.0.1:{unused_tcp_port()}"
    site.load(head=(("Content-Security-Policy", policy),), page="/strict")
    site.start()
    site.until_log("stopped", 1)
    (error,) = site.log("errors")
    assert (error["diagnosis"]["id"], error["final"]) == ("browser.csp", True)


@pytest.mark.timeout(120)
def test_subprotocols_in_a_browser(site):
    """subprotocol.not-confirmed: `$connect` chooses none and the browser gives up; with a confirmed one it opens."""
    site.backend.on("/connect", headers=(("Sec-WebSocket-Protocol", "v1"),))
    site.start(protocols=["v1"], heartbeat=False)
    assert site.until_log("open", 1)[0]["protocol"] == "v1"
    site.browser.evaluate("ws.disconnect(), 0")
    site.backend.on("/connect")
    site.browser.evaluate("log.errors = []; 0")
    site.start(protocols=["v1"], heartbeat=False)
    error = site.until_log("errors", 1)[0]
    assert (error["phase"], error["code"]) == ("never-opened", 1006)
    assert error["diagnosis"]["id"] == "subprotocol.not-confirmed", error
    site.browser.evaluate("ws.disconnect(), 0")


@pytest.mark.timeout(120)
def test_a_handler_that_throws_and_a_text_that_is_no_json(site):
    """push.client-handler-error, push.not-json: events; the connection stays."""
    site.start(channels=["room"])
    site.until_joined()
    site.browser.evaluate("ws.on('message', () => { throw new Error('boom') }), 0")
    site.publish(1)
    site.publish(2)
    errors = site.until_log("errors", 2)
    assert [error["diagnosis"]["id"] for error in errors] == ["push.client-handler-error"] * 2
    (connection,) = call(site.gateway, "GET", "/connections?channel=room").json()["connections"]
    sent = call(site.gateway, "POST", f"/connections/{connection['connection_id']}/send", data="not <json>")
    assert sent.status_code < 300, sent.text
    assert site.until_log("errors", 3)[2]["diagnosis"]["id"] == "push.not-json"
    assert [m["data"] for m in site.log("message")] == [1, 2]
    assert len(site.log("open")) == 1 and site.browser.evaluate("ws.state") == "open"


@pytest.mark.timeout(120)
def test_sizes(site):
    """message.too-large: refused before it is sent; a frame over the gateway's limit is closed with 1009 and named."""
    site.start()
    site.until_log("open", 1)
    error = site.browser.evaluate("ws.send('x'.repeat(131073)).catch((error) => error.toJSON())")
    assert (error["diagnosis"]["id"], error["phase"]) == ("message.too-large", "message")
    assert site.browser.evaluate("ws.state") == "open"
    # Random text, or compression makes it small.
    noise = "const bytes = crypto.getRandomValues(new Uint8Array(60000)); ws.send(btoa(String.fromCharCode(...bytes)))"
    site.browser.evaluate(f"(() => {{ {noise}; return 0 }})()")
    told = site.until_log("errors", 1)[0]
    assert told["code"] == 1009 and told["diagnosis"]["id"] == "message.frame-too-large", told
    site.until_log("open", 2)


@pytest.mark.timeout(120)
def test_more_sockets_than_a_browser_opens(site):
    """browser.socket-limit: Chromium fails the 256th socket; the client counts and says so."""
    server = socket.create_server(("127.0.0.1", 0), backlog=600)
    held = []

    def hold():
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=hold, daemon=True).start()
    url = f"ws://127.0.0.1:{server.getsockname()[1]}/"
    site.browser.evaluate(
        "window.many = []; window.failed = []; for (let i = 0; i < 260; i++) many.push(new TidegateClient.Tidegate("
        f"{json.dumps(url)}, {{ reference: false, onError: (error) => failed.push(error.toJSON()) }})); 0"
    )
    try:
        failed = until(lambda: site.browser.evaluate("failed"), "an error of the browser", 60)
        assert failed[0]["diagnosis"]["id"] == "browser.socket-limit", failed[0]
    finally:
        site.browser.evaluate("many.forEach((client) => client.disconnect()), 0")
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for sock in held:
            sock.close()


@pytest.mark.timeout(120)
def test_the_drop_in_socket(site):
    """ReconnectingSocket in place of WebSocket: opens, is cut, comes back with a URL that is made anew, sends what waited."""
    site.browser.evaluate(
        "window.seen = []; (async () => { const getToken = TidegateToken.tokenFrom('/ws-token');"
        f"const url = async () => {json.dumps(site.url)} + '?ws_token=' + await getToken();"
        "window.rs = new TidegateSocket.ReconnectingSocket(url, [], {reconnectInterval: 100, maxReconnectInterval: 500, timeoutInterval: 5000});"
        "for (const type of ['open', 'close', 'message', 'error']) rs.addEventListener(type, (e) => seen.push([type, e.code ?? null])); })(); 0"
    )
    until(lambda: ["open", None] in site.browser.evaluate("seen"), "the socket to open")
    assert site.browser.evaluate("import('/reconnecting-socket.js').then((module) => Object.keys(module).sort())") == [
        "ReconnectingSocket", "TidegateError", "djangoOptions",
    ]
    assert site.browser.evaluate("[rs.readyState, rs instanceof EventTarget, rs.url.includes('ws_token')]") == [1, False, True]
    assert site.proxy.cut() >= 1
    until(lambda: ["close", 1006] in site.browser.evaluate("seen"), "the cut")
    site.browser.evaluate("rs.send(JSON.stringify({action: 'x', waited: true})), 0")
    message = site.backend.wait(1, "/default")[0]
    assert json.loads(message.text) == {"action": "x", "waited": True}
    assert [kind for kind, _ in site.browser.evaluate("seen")].count("open") == 2
    site.browser.evaluate("rs.close(), 0")
    until(lambda: site.browser.evaluate("rs.readyState") == 3, "the end")


@pytest.mark.timeout(120)
def test_a_gateway_that_is_not_tidegate(start_gateway, browser, backend):  # noqa: F811
    """aws: against an API without control messages the client warns once, keeps the connection, and `aws: true` sends nothing of its own."""
    gateway = start_gateway()
    api = aws.make_api(gateway, backend)
    backend.on("/tidegate.global.js", body=(DIST / "tidegate.global.js").read_bytes(), headers=SCRIPT)
    backend.on("/token.global.js", body=(DIST / "token.global.js").read_bytes(), headers=SCRIPT)
    backend.on("/page", body="<script src=/tidegate.global.js></script><script src=/token.global.js></script>", headers=HTML)
    browser.navigate(f"{backend.url}/page")
    browser.evaluate(PAGE + f"start({json.dumps(api.url)}, {{getToken: null, heartbeat: {{interval: 1, timeout: 0.5}}}})")
    until(lambda: browser.evaluate("log.warnings.length"), "the warning")
    assert browser.evaluate("log.warnings.map(({ diagnosis }) => diagnosis.id)") == ["conn.app-heartbeat-unanswered"]
    assert len(backend.at("/default")) == 1
    browser.evaluate(f"start({json.dumps(api.url)}, {{getToken: null, aws: true}})")
    until(lambda: browser.evaluate("log.open.length") == 2, "the second client")
    connects = backend.wait(2, "/connect")
    assert connects[1].raw_query == ""
    browser.evaluate("ws.send({action: 'hi'}), 0")
    assert json.loads(backend.wait(2, "/default")[1].text) == {"action": "hi"}
    assert browser.evaluate("log.open.length") == 2 and browser.evaluate("log.errors") == []
    browser.navigate("about:blank")
