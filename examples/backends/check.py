"""Runs a backend of this folder between a real gateway and a recorded one, and checks what it does.

    python check.py TIDEGATE BASE_URL -- COMMAND...

`TIDEGATE` is the binary; `BASE_URL`, for example `http://127.0.0.1:8000`, is where the command listens. The events come
from `tidegate dev`; pushes, tokens and ends of sessions go to a recorder here, so that they can be looked at. Needs the
Python packages `requests` and `websockets`.
"""

import asyncio, json, os, subprocess, sys, tempfile, threading, time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

SEEN = []


class Recorder(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        SEEN.append((self.path, self.headers["Authorization"], json.loads(body or "null")))
        is_token = self.path == "/api/tokens"
        answer = {"token": "t" * 64, "expires_in": 60} if is_token else {"delivered": 1, "gone": 0, "slow": 0}
        self.send_response(200)
        encoded = json.dumps(answer).encode()
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments):
        pass


def until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}; seen {SEEN}"
        time.sleep(0.02)
    return found


def only_seen():
    assert len(SEEN) == 1, SEEN
    return SEEN.pop()


def is_up(url):
    try:
        return requests.get(url, timeout=5) is not None
    except requests.ConnectionError:
        return False


async def check_events(url):
    try:
        await connect(url + "?channel=secret")
        raise AssertionError("accepted")
    except InvalidStatus as refusal:
        assert refusal.response.status_code == 403, refusal
    async with connect(url + "?channel=general") as client:
        await client.send(json.dumps({"action": "say", "text": "hällo"}))
        assert json.loads(await client.recv()) == {"type": "ok"}
        path, key, body = only_seen()
        assert path.startswith("/_aws/execute-api/api1/dev/@channels/general?except="), path
        assert (key, body) == ("Bearer the-key", {"type": "said", "text": "hällo"}), (key, body)
        sender = path.split("except=")[1]
        for text in ["no json", "[]", "{}", '{"action":"x"}', '"say"', "null"]:
            await client.send(text)
            assert json.loads(await client.recv()) == {"type": "error", "text": "actions: say"}, text
        assert not SEEN
    until(lambda: SEEN, "no disconnect")
    path, _, body = only_seen()
    assert path.rstrip("?") == "/_aws/execute-api/api1/dev/@channels/general", path
    assert body["type"] == "left" and body["id"].replace("=", "%3D") == sender, (body, sender)


def check_pages(base):
    pages = requests.Session()
    login = pages.get(base + "/demo-login/ann")
    assert login.ok, login.text
    if is_django := bool(login.text):
        pages.headers["X-CSRFToken"] = login.text
    assert requests.post(base + "/ws-token").status_code == 403
    issued = pages.post(base + "/ws-token")
    assert issued.ok and issued.json()["token"] == "t" * 64, issued.text
    path, key, body = only_seen()
    assert (path, key) == ("/api/tokens", "Bearer the-key") and body["user"], (path, body)
    assert (body["api"], body["stage"]) == ("api1", "dev"), body
    if is_django:
        assert pages.post(base + "/groups", data={"name": "two words"}).status_code == 201
        assert not SEEN, "pushed in spite of a rollback"
        posted = pages.post(base + "/groups", data={"name": "staff"})
    elif os.path.basename(os.getcwd()) in ("fastapi", "go"):
        posted = pages.post(base + "/posts", params={"text": "hello"})
    else:
        posted = pages.post(base + "/posts", json={"text": "hello"})
    assert posted.status_code == 201, posted.text
    (path, _, pushed), (to_user, _, saved) = SEEN
    assert "/@channels/general" in path and pushed["type"] in ("post", "group"), (path, pushed)
    assert to_user.endswith(f"/@users/{body['user']}") and saved["type"] == "saved", (to_user, saved)
    SEEN.clear()
    ended = pages.post(base + "/logout")
    assert ended.status_code == 204, ended.text
    assert only_seen()[0] == f"/api/sessions/{body['session']}/end"
    assert pages.post(base + "/ws-token").status_code == 403, "still logged in"


def check_secret(base):
    """What the gateway would send to `$connect`, with and without the secret."""
    headers = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "443",
        "X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678",
        "X-Amzn-Apigateway-Api-Id": "api1",
        "connectionId": "awG5LZAAAAIcZCg=",
    }
    for secret, status in [(None, 403), ("", 403), ("a-gues", 403), ("a-secret", 200)]:
        sent = headers if secret is None else headers | {"X-Ws-Gateway-Secret": secret}
        answer = requests.post(base + "/ws/connect?channel=general", headers=sent)
        assert answer.status_code == status, (secret, answer.status_code)


@contextmanager
def running(command, base, environment):
    assert not is_up(base), f"something else listens at {base}"
    backend = subprocess.Popen(command, env=environment)
    try:
        until(lambda: is_up(base) or backend.poll() is not None, "the backend does not listen", 60)
        assert backend.poll() is None, "the backend has ended"
        yield
    finally:
        backend.terminate()
        backend.wait()


def main():
    binary, base = sys.argv[1:3]
    recorder = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=recorder.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{recorder.server_port}"
    addresses = {"TIDEGATE_ENDPOINT": f"{there}/_aws/execute-api/api1/dev", "TIDEGATE_ADMIN": there}
    environment = os.environ | addresses | {"TIDEGATE_KEY": "the-key", "PORT": base.rsplit(":", 1)[1]}
    file = os.path.join(tempfile.mkdtemp(), "addresses.json")
    gateway = [binary, "dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--address-file", file]
    with running(sys.argv[4:], base, environment):
        gateway = subprocess.Popen([*gateway, "--backend", f"{base}/ws/"], stdout=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(file), "the gateway does not listen")
            with open(file) as addresses:
                asyncio.run(check_events(json.load(addresses)["url"]))
            check_pages(base)
        finally:
            gateway.terminate()
            gateway.wait()
    with running(sys.argv[4:], base, environment | {"TIDEGATE_SECRET": "a-secret"}):
        check_secret(base)
    print("ok")


main()
