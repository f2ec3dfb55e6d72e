"""Runs a backend of this folder between a real gateway and a recorded one, and checks what it does.

    python check.py TIDEGATE BASE_URL -- COMMAND...

`TIDEGATE` is the binary; `BASE_URL`, for example `http://127.0.0.1:8000`, is where the command listens. The events come
from `tidegate dev`; pushes, tokens and ends of sessions go to a recorder here, so that they can be looked at. Needs the
Python packages `requests` and `websockets`.
"""

import asyncio, json, os, subprocess, sys, tempfile, threading, time
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
    is_django = pages.get(base + "/demo-login/ann").status_code == 200
    if is_django:
        pages.headers["X-CSRFToken"] = pages.get(base + "/demo-login/ann").text
    else:
        pages.headers["X-Demo-User"] = "ann"
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
    elif "fastapi" in os.getcwd() or "/go" in os.getcwd():
        posted = pages.post(base + "/posts", params={"text": "hello"})
    else:
        posted = pages.post(base + "/posts", json={"text": "hello"})
    assert posted.status_code == 201, posted.text
    path, _, pushed = only_seen()
    assert "/@channels/general" in path and pushed["type"] in ("post", "group"), (path, pushed)
    ended = pages.post(base + "/logout")
    assert ended.status_code == 204, ended.text
    assert only_seen()[0] == f"/api/sessions/{body['session']}/end"


def main():
    binary, base = sys.argv[1:3]
    recorder = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=recorder.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{recorder.server_port}"
    addresses = {"TIDEGATE_ENDPOINT": f"{there}/_aws/execute-api/api1/dev", "TIDEGATE_ADMIN": there}
    environment = os.environ | addresses | {"TIDEGATE_KEY": "the-key", "PORT": base.rsplit(":", 1)[1]}
    file = os.path.join(tempfile.mkdtemp(), "addresses.json")
    gateway = [binary, "dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--address-file", file]
    backend = subprocess.Popen(sys.argv[4:], env=environment)
    try:
        until(lambda: is_up(base), "the backend does not listen", 60)
        gateway = subprocess.Popen([*gateway, "--backend", f"{base}/ws/"], stdout=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(file), "the gateway does not listen")
            with open(file) as addresses:
                asyncio.run(check_events(json.load(addresses)["url"]))
            check_pages(base)
        finally:
            gateway.terminate()
            gateway.wait()
    finally:
        backend.terminate()
        backend.wait()
    print("ok")


main()
