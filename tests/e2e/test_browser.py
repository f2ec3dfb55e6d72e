"""Headless Chromium on the page of `tidegate dev` (proof 3), through the browser's own WebSocket."""

import contextlib
import itertools
import json
import re
import shutil
import subprocess

import pytest
import requests
from websockets.sync.client import connect

from harness import aws
from harness.examples import BACKENDS, running
from harness.gateway import clean_environment
from harness.wait import until

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-port=0"
).split()


class Browser:
    """A page of Chromium, driven through its debugging protocol."""

    def __init__(self, directory):
        directory.mkdir()
        self.directory = directory
        self.numbers = itertools.count(1)
        with open(directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [shutil.which("chromium"), *FLAGS, f"--user-data-dir={directory}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment(HOME=directory),
            )
        port_file = directory / "DevToolsActivePort"
        until(lambda: port_file.exists() and port_file.read_text().count("\n") >= 1, "the browser's debugging port", 30)
        port = port_file.read_text().split("\n")[0]
        pages = until(
            lambda: [p for p in requests.get(f"http://127.0.0.1:{port}/json/list", timeout=5).json() if p["type"] == "page"], "a page", 20
        )
        self.stack = contextlib.ExitStack()
        self.socket = self.stack.enter_context(connect(pages[0]["webSocketDebuggerUrl"], proxy=None, max_size=None, ping_interval=None))

    def call(self, method, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(20))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def navigate(self, url):
        self.call("Page.navigate", url=url)
        until(lambda: self.evaluate("document.readyState") == "complete" and self.evaluate("location.href").startswith(url), f"{url} to load", 20)

    def text(self, selector):
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent")

    def click(self, selector):
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector, text):
        self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(text)};"
            " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def close(self):
        with self.stack:
            try:
                self.call("Browser.close")
            except Exception:
                self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def browser(tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("chromium is missing, the browser test did NOT run: run tests/e2e/setup.sh")
    browser = Browser(tmp_path / "browser")
    yield browser
    browser.close()


@pytest.mark.timeout(90)
def test_page_of_dev(start_gateway, browser):
    """Proof 3, S0-99: the page connects, sends, receives the echo, is closed from the server and shows the code."""
    gateway = start_gateway("[connect]\nannounce_id = true\n", command="dev")
    browser.navigate(f"{gateway.admin_url}/")
    until(lambda: browser.evaluate("document.querySelector('#url').value") == gateway.address["url"], "the page to know its URL")
    browser.click("#connect")
    until(lambda: "open" in (browser.text("#status") or ""), "the page to connect")
    browser.fill("#message", '{"action":"hi","text":"grüße"}')
    browser.click("#send")
    until(lambda: "-> " in browser.text("#log") and "<- " in browser.text("#log"), "the echo")
    log = browser.text("#log")
    assert '-> {"action":"hi","text":"grüße"}' in log
    received = [line for line in browser.evaluate("document.querySelector('#log').innerText").splitlines() if line.startswith("<- ")]
    assert any("grüße" in line for line in received), received

    # The server's side, by the connection id that `connect.announce_id` put on the page.
    push = aws.client(
        "apigatewaymanagementapi", f"http://127.0.0.1:{gateway.port}/_aws/execute-api/{gateway.address['api_id']}/{gateway.address['stage']}",
        access_key="tidegate", secret="tidegate-secret",
    )
    ids = re.findall(r'<- \{"connectionId": ?"([A-Za-z0-9_-]{15}=)"\}', browser.text("#log"))
    assert ids, "the connection id is not on the page"
    push.post_to_connection(ConnectionId=ids[-1], Data=b"pushed by the server")
    until(lambda: "<- pushed by the server" in browser.text("#log"), "the push")
    push.delete_connection(ConnectionId=ids[-1])
    until(lambda: "closed 1000" in (browser.text("#status") or ""), "the page to show the close code")
    assert "Connection Closed Normally" in browser.text("#status")
    browser.click("#connect")
    until(lambda: "open" in (browser.text("#status") or ""), "the page to connect again")


@pytest.mark.timeout(90)
def test_page_in_a_browser_of_a_backend(start_gateway, browser, backend):
    """S0-99: page code with `?token` in the query, a subprotocol and compression against a backend of one's own."""
    gateway = start_gateway()
    api = aws.make_api(gateway, backend)
    backend.on("/connect", headers=(("Sec-WebSocket-Protocol", "v1"),))
    backend.on("/page", body="<p>page</p>", headers=(("Content-Type", "text/html"),))
    browser.navigate(f"{backend.url}/page")
    url = f"{api.url}?ws_token=abc&channel=general"
    browser.evaluate(
        f"window.got = []; window.ws = new WebSocket({json.dumps(url)}, ['v0', 'v1']);"
        "ws.onopen = () => ws.send(JSON.stringify({action: 'x', pad: 'y'.repeat(20000)}));"
        "ws.onmessage = e => got.push(e.data); ws.onclose = e => window.ended = [e.code, e.reason, e.wasClean]; 0"
    )
    request = backend.one("/connect")
    assert request.raw_query == "ws_token=abc&channel=general"
    assert request.get("sec-websocket-extensions")
    message = backend.one("/default")
    assert json.loads(message.text)["pad"] == "y" * 20000
    assert browser.evaluate("[ws.protocol, ws.extensions]")[0] == "v1"
    push = api.management()
    push.post_to_connection(ConnectionId=request.connection_id, Data="z" * 131072)
    until(lambda: browser.evaluate("got.length") == 1, "the push in the page")
    assert browser.evaluate("got[0].length") == 131072
    push.delete_connection(ConnectionId=request.connection_id)
    until(lambda: browser.evaluate("window.ended"), "the close in the page")
    assert browser.evaluate("window.ended") == [1000, "Connection Closed Normally", True]
    backend.one("/disconnect")
    # A refused handshake is invisible to page code: close 1006.
    backend.on("/connect", status=403, body="no")
    gateway.allow(".*")
    browser.evaluate(f"window.ended = null; window.ws = new WebSocket({json.dumps(url)}); ws.onclose = e => window.ended = [e.code, e.reason]; 0")
    until(lambda: browser.evaluate("window.ended"), "the refused handshake in the page")
    assert browser.evaluate("window.ended") == [1006, ""]


@pytest.mark.timeout(90)
def test_page_fetches_its_token(start_gateway, browser, tmp_path):
    """S0-61, S0-72, S0-78: the manual's page code gets a token with the page's cookies, here and at the gateway, and is logged out."""
    with running("django", start_gateway, tmp_path) as site:
        site.let_pages_ask(origins=[site.base])
        browser.navigate(f"{site.base}/demo-login/ann")
        browser.evaluate((BACKENDS / "page.js").read_text() + "; window.got = []; window.ended = []; 0")

        def open_socket(*token_url):
            arguments = ", ".join(json.dumps(text) for text in (site.url, "general", *token_url))
            browser.evaluate(
                f"openSocket({arguments}).then((ws) => {{ const n = got.push([]) - 1; window.last = ws;"
                " ws.onmessage = (e) => got[n].push(JSON.parse(e.data)); ws.onclose = (e) => ended[n] = [e.code, e.reason]; })"
            )
            number = browser.evaluate("got.length") - 1
            until(lambda: browser.evaluate(f"got[{number}].length"), "the page to be in its channel")
            return number

        own, gateways = open_socket(), open_socket(f"{site.endpoint}/@token")
        assert browser.evaluate("got.map((all) => all[0].tidegate.type)") == ["joined", "joined"]
        connections = site.admin("GET", "/connections?api=chat").json()["connections"]
        assert len({(c["user"], c["session"]) for c in connections}) == 1 and len(connections) == 2, connections
        browser.evaluate('last.send(JSON.stringify({action: "say", text: "grüße"}))')
        until(lambda: browser.evaluate(f"got[{own}].length == 2 && got[{gateways}].length == 2"), "what was said")
        assert browser.evaluate(f"got[{own}][1]") == {"type": "said", "text": "grüße"}
        assert browser.evaluate(f"got[{gateways}][1]") == {"type": "ok"}

        browser.evaluate(
            "fetch('/logout', {method: 'POST', headers: {'X-CSRFToken': /csrftoken=([^;]+)/.exec(document.cookie)[1]}})"
            ".then((answer) => window.out = answer.status)"
        )
        assert browser.evaluate("out") == 204
        until(lambda: browser.evaluate("ended.filter(Boolean).length == 2"), "the end of both sockets")
        assert browser.evaluate("ended") == [[1008, "Session ended"]] * 2
        assert "no token: 403" in browser.evaluate(f"openSocket({json.dumps(site.url)}, 'general').catch(String)")
        again = f"openSocket({json.dumps(site.url)}, 'general', {json.dumps(site.endpoint + '/@token')}).catch(String)"
        assert "no token: 403" in browser.evaluate(again)
