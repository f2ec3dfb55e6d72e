"""`tidegate doctor URL` against servers and proxies that nobody here wrote, and against Tidegate itself."""

import json
import shutil
import socket
import subprocess
import sys
import textwrap
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import aws
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY, binary, clean_environment, unused_tcp_port
from harness.nginx import GOOD, Nginx
from harness.wait import until

FASTAPI = """
    from fastapi import Depends, FastAPI, HTTPException, WebSocket

    app = FastAPI()

    @app.get("/")
    def home():
        return {"ok": True}

    @app.websocket("/echo")
    async def echo(socket: WebSocket):
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    @app.websocket("/refuses")
    async def refuses(socket: WebSocket):
        if socket.query_params.get("token", "").count(".") == 2 and "broken" not in socket.query_params["token"]:
            if socket.query_params["token"].endswith("c2ln"):
                await socket.accept()
                await socket.receive_text()
                return
        await socket.close(4001, "no")

    @app.websocket("/twice")
    async def twice(socket: WebSocket):
        await socket.accept()
        await socket.accept()

    @app.websocket("/raises")
    async def raises(socket: WebSocket):
        await socket.accept()
        raise RuntimeError("boom")

    @app.websocket("/long-reason")
    async def long_reason(socket: WebSocket):
        await socket.accept()
        await socket.close(4001, "x" * 200)

    @app.websocket("/no-protocol")
    async def no_protocol(socket: WebSocket):
        await socket.accept()
        await socket.receive_text()

    def needs_request():
        raise RuntimeError("made for HTTP")

    @app.websocket("/injected")
    async def injected(socket: WebSocket, user=Depends(needs_request)):
        await socket.accept()
"""

DJANGO = """
    import json, os, sys
    from django.conf import settings

    settings.configure(
        SECRET_KEY="only-for-tests", DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
    )
    import django
    django.setup()

    from django.http import HttpResponse, JsonResponse
    from django.middleware.csrf import get_token
    from django.urls import path

    def page(request):
        request.session["user"] = "ada"
        get_token(request)
        return HttpResponse("<html>page</html>")

    def token(request):
        if "user" not in request.session:
            return JsonResponse({"error": "Authentication required"}, status=403)
        return JsonResponse({"token": "one-time-kiwi-fern"})

    urlpatterns = [path("", page), path("token/", token)]

    from django.core.wsgi import get_wsgi_application
    application = get_wsgi_application()
"""

CHANNELS = """
    import django
    from django.conf import settings

    settings.configure(SECRET_KEY="only-for-tests", ALLOWED_HOSTS=["*"], INSTALLED_APPS=[], ROOT_URLCONF=__name__)
    django.setup()
    urlpatterns = []

    from channels.generic.websocket import WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
    from django.core.asgi import get_asgi_application
    from django.urls import path

    class Echo(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            self.send(text_data=text_data)

    class OwnOrigin:
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self, scope, receive, send):
            host = dict(scope["headers"])[b"host"].decode()
            return await OriginValidator(self.inner, [f"http://{host}"])(scope, receive, send)

    routes = URLRouter([path("ws/", Echo.as_asgi()), path("own/", OwnOrigin(Echo.as_asgi()))])
    application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": routes})
"""


def free_port():
    return unused_tcp_port()


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def run(tmp_path):
    """Starts programs that listen on a port; ends them with the test."""
    running = []

    def start(port, argv, **environment):
        log = open(tmp_path / f"program{len(running)}.log", "wb")
        process = subprocess.Popen(
            argv, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment(**environment)
        )
        running.append((process, log))

        def ready():
            assert process.poll() is None, f"{argv[0]} ended:\n{open(log.name).read()[-3000:]}"
            return accepts(port)

        until(ready, f"{argv[0]} on port {port}", 30)
        return port

    yield start
    for process, log in running:
        process.terminate()
    for process, log in running:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        log.close()


@pytest.fixture
def uvicorn(run, tmp_path):
    def start(source, name, app="app", *args):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        port = free_port()
        argv = [sys.executable, "-m", "uvicorn", f"{name}:{app}", "--port", str(port), "--log-level", "warning", *args]
        return run(port, argv)

    return start


@pytest.fixture
def nginx(run, tmp_path):
    """nginx in front of a port; `location` is the content of its only location."""

    def start(upstream, location="", extra="", tls=""):
        port = free_port()
        folder = tmp_path / f"nginx{port}"
        folder.mkdir()
        path = folder / "nginx.conf"
        path.write_text(
            f"""
            daemon off; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 64; }}
            http {{
              access_log off;
              client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
              uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
              server {{
                listen 127.0.0.1:{port};
                {extra}
                location / {{ proxy_pass http://127.0.0.1:{upstream}; {location} }}
              }}
            }}
            """
        )
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        return run(port, [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(path)])

    return start


UPGRADE = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $http_host;'


class Report:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        try:
            self.json = json.loads(done.stdout)
        except ValueError:
            raise AssertionError(f"exit {done.returncode}, no report:\n{done.stdout}\n{done.stderr}") from None

    @property
    def found(self):
        return {finding["id"]: finding["confidence"] for finding in self.json["findings"]}

    def probe(self, name):
        return next(probe for probe in self.json["probes"] if probe["name"] == name)


def doctor(url, *args, stdin=None, **environment):
    argv = [binary(), "doctor", url, "--json", "--timeout", "5s", *args]
    done = subprocess.run(
        argv, input=stdin, stdin=None if stdin else subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
        env=clean_environment(**environment),
    )
    report = Report(done)
    assert report.json["schema"] == "tidegate.diagnosis/1"
    for finding in report.json["findings"]:
        assert finding["next"] and finding["evidence"] and finding["fix"], finding
    return report


def at(port, path):
    return f"ws://127.0.0.1:{port}{path}"


KEYS = {"TIDEGATE_ACCESS_KEY_ID": ACCESS_KEY, "TIDEGATE_SECRET_ACCESS_KEY": SECRET_KEY, "TIDEGATE_REGION": REGION}


def own_address():
    """An address of this machine that is not loopback; none without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return None


@pytest.mark.logs("subprotocol.null")
def test_a_tidegate_is_healthy(gateway, api):
    # DX-30 DX-31 DX-35 DX-61 DX-62
    report = doctor(api.url)
    assert report.found == {}
    assert report.code == 0
    assert [probe["name"] for probe in report.json["probes"]][:3] == ["url", "dns", "tcp"]
    assert report.probe("stability")["result"] == "ok"
    report = doctor(api.url, "--admin", gateway.admin_url, **KEYS)
    assert (report.found, report.code) == ({}, 0)
    assert report.probe("identity")["measurements"]["arrived"]["method"] == "GET"
    assert SECRET_KEY not in report.out + report.err


@pytest.mark.logs("subprotocol.null")
def test_a_tidegate_behind_nginx_is_healthy(start_gateway, backend, tmp_path):
    # DX-35: what arrives through a proxy as the manual describes it
    gateway = start_gateway('trusted_proxies = ["127.0.0.1/32"]')
    path = "/" + aws.make_api(gateway, backend).url.split("/", 3)[3]
    with Nginx(tmp_path / "nginx", GOOD.format(upstream=gateway.port)) as front:
        report = doctor(at(front.port, path), "--admin", gateway.admin_url, **KEYS)
        arrived = report.probe("identity")["measurements"]["arrived"]
        assert arrived["forwarded"]["x-forwarded-for"] == "127.0.0.1" and arrived["host"] == f"127.0.0.1:{front.port}"
        assert report.found == {}
        assert report.code == 0


@pytest.mark.logs("config.no-tls")
def test_the_ticket_of_the_admin_listener_opens_the_probe(start_gateway, backend, tmp_path):
    # DX-35: who is not on the machine is told nothing without a ticket
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address beside loopback")
    gateway = start_gateway(listen="0.0.0.0")
    path = "/" + aws.make_api(gateway, backend).url.split("/", 3)[3]
    url = f"ws://{address}:{gateway.port}{path}"
    only = ("--only", "identity,upgrade-path")
    assert "arrived" not in doctor(url, *only).probe("identity")["measurements"]
    report = doctor(url, *only, "--admin", gateway.admin_url, **KEYS)
    arrived = report.probe("identity")["measurements"]["arrived"]
    assert arrived["peer"].startswith(address + ":") and arrived["version"] == "1.1"
    assert report.probe("upgrade-path")["measurements"]["withExtensionsEcho"].startswith("text") or report.found == {}
    assert "ticket=" not in report.out


def test_a_key_file_gets_the_ticket(start_gateway, tmp_path):
    # DX-30
    key = "k" * 43
    key_file = tmp_path / "key"
    key_file.write_text(key + "\n")
    gateway = start_gateway(f"""
[[keys]]
name = "ops"
role = "operate"
key = "{key}"
""")
    url = at(gateway.port, "/_tidegate/probe")
    report = doctor(url, "--only", "identity", "--admin", gateway.admin_url, "--key-file", str(key_file))
    assert not any("no ticket" in note for note in report.json.get("notes", [])), report.json
    assert key not in report.out + report.err
    key_file.write_text("x" * 43)
    report = doctor(url, "--only", "identity", "--admin", gateway.admin_url, "--key-file", str(key_file))
    assert any("no ticket" in note for note in report.json["notes"])


def test_the_name_leads_to_another_installation(start_gateway, uvicorn):
    # dns.wrong-target bypass.not-the-gateway
    meant, other = start_gateway(), start_gateway()
    admin = ("--admin", meant.admin_url)
    only = ("--only", "identity")
    report = doctor(at(other.port, "/x"), *only, *admin, **KEYS)
    assert report.found == {"dns.wrong-target": "proven"}
    facts = report.json["findings"][0]["evidence"][0]["facts"]
    assert facts["installation"] != facts["expected"] and len(facts["expected"]) == 16
    assert doctor(at(meant.port, "/x"), *only, *admin, **KEYS).found == {}
    port = uvicorn(FASTAPI, "fast")
    assert doctor(at(port, "/echo"), *only, *admin, **KEYS).found == {"bypass.not-the-gateway": "proven"}
    name = f"ws://ws.example.test:{port}/echo"
    resolve = ("--resolve", f"ws.example.test:{port}:127.0.0.1")
    assert doctor(name, *only, *resolve, *admin, **KEYS).found == {"dns.wrong-target": "proven"}


def test_a_dry_run_says_whether_the_token_is_good(gateway, api):
    # DX-31: probe 9 asks for a dry run where a Tidegate offers it, and uses no token up
    from harness.cli import tidegate

    policy = gateway.directory / "policy.json"
    policy.write_text(json.dumps({"admission": {"checks": ["token"]}}))
    where = ("--api", api.id, "--stage", api.stage)
    tidegate(gateway, "permissions", "policy", "set", str(policy), *where)
    token = tidegate(gateway, "token", "create", *where, "--user", "ada")["token"]
    only = ("--only", "handshake,auth")
    report = doctor(api.url, "--token-name", "ws_token", "--token", "-", *only, stdin=token)
    assert report.probe("auth")["measurements"]["dryRun"] == 200
    assert report.probe("auth")["result"] == "ok" and report.found == {}
    assert token not in report.out
    report = doctor(api.url, "--token-name", "ws_token", "--token", "-", *only, stdin="x" * len(token))
    assert report.probe("auth")["measurements"]["dryRunCheck"] == "token"
    assert report.found == {"token.unknown": "likely"}
    # It is still good.
    report = doctor(api.url, "--token-name", "ws_token", "--token", "-", "--spend-token", "--only", "handshake", stdin=token)
    assert report.probe("handshake")["measurements"]["status"] == 101


def test_a_path_that_a_tidegate_does_not_have(gateway):
    # handshake.wrong-path
    report = doctor(at(gateway.port, "/no/such/api"))
    assert "handshake.wrong-path" in report.found
    assert report.code == 1
    assert report.json["findings"][0]["requestId"]


def test_usage_and_a_port_without_a_server():
    # DX-62 net.refused
    assert doctor(at(free_port(), "/x")).code == 1
    for args in (["doctor"], ["doctor", "ws://127.0.0.1:1", "--only", "nonsense"]):
        assert subprocess.run([binary(), *args], capture_output=True, stdin=subprocess.DEVNULL).returncode == 2


def test_an_echo_under_uvicorn_is_healthy(uvicorn):
    port = uvicorn(FASTAPI, "fast")
    report = doctor(at(port, "/echo"), "--send", "hello", "--expect", "hello")
    assert report.found == {}
    assert report.probe("echo")["measurements"]["answers"] == 5
    assert report.code == 3, "a server without a probe endpoint: one probe is skipped"


def test_fastapi_and_its_silent_refusals(uvicorn):
    # bypass.unknown-route-403 bypass.close-before-accept app.dependency-injection subprotocol.not-confirmed
    port = uvicorn(FASTAPI, "fast")
    only = ("--only", "handshake,auth")
    assert doctor(at(port, "/nowhere"), *only).found == {
        "bypass.unknown-route-403": "likely",
        "bypass.close-before-accept": "possible",
    }
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2ln"
    report = doctor(at(port, "/refuses"), "--token", "-", *only, stdin=token + "\n")
    assert report.found == {"bypass.close-before-accept": "proven"}
    assert report.code == 0
    assert token not in report.out + report.err
    assert doctor(at(port, "/injected"), *only).found == {"app.dependency-injection": "likely"}
    report = doctor(at(port, "/no-protocol"), "--subprotocol", "graphql-ws", "--only", "subprotocol")
    assert report.found == {"subprotocol.not-confirmed": "proven"}


def test_fastapi_that_opens_and_closes_at_once(uvicorn):
    # app.double-accept app.exception-after-accept app.reason-too-long
    port = uvicorn(FASTAPI, "fast")
    for path in ("/twice", "/raises", "/long-reason"):
        # From outside all three are one: an end without a close frame, at once. Only the server's log separates them.
        assert doctor(at(port, path), "--only", "stability").found == {
            "app.double-accept": "likely",
            "app.exception-after-accept": "likely",
            "app.reason-too-long": "possible",
        }, path


# Connections in each worker's own memory, without a bus between the workers.
WORKERS = """
    import os
    from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

    app = FastAPI()
    connections = set()

    @app.get("/worker")
    def worker():
        return os.getpid()

    @app.websocket("/ws")
    async def listen(socket: WebSocket):
        await socket.accept()
        connections.add(socket)
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            pass
        finally:
            connections.discard(socket)

    @app.post("/publish")
    async def publish(request: Request):
        text = (await request.body()).decode()
        for socket in list(connections):
            await socket.send_text(text)
        return {"sent": len(connections)}
"""


def test_workers_that_share_nothing(uvicorn):
    # publish.single-process
    def workers(port):
        with ThreadPoolExecutor(16) as pool:
            ask = lambda _: urllib.request.urlopen(f"http://127.0.0.1:{port}/worker", timeout=10).read()
            return set(pool.map(ask, range(64)))

    def look(port, body):
        publish = ("--publish-url", f"http://127.0.0.1:{port}/publish", "--publish-body", body)
        return doctor(at(port, "/ws"), "--only", "publish", *publish)

    one = uvicorn(WORKERS, "one")
    for body in ('{"text": "{marker}"}', "the same text"):
        report = look(one, body)
        assert (report.found, report.code) == ({}, 0), report.out
        assert report.probe("publish")["measurements"]["summary"] == "each of 6 messages reached all 8 connections"

    several = uvicorn(WORKERS, "several", "app", "--workers", "4")
    until(lambda: len(workers(several)) == 4, "all workers answer", 30)
    report = look(several, '{"text": "{marker}"}')
    assert report.found == {"publish.single-process": "likely"} and report.code == 1, report.out
    [finding] = report.json["findings"]
    facts = finding["evidence"][0]["facts"]
    reached = {tuple(members) for members in facts["reached"]} - {()}
    assert reached == {tuple(members) for members in facts["groups"]} and len(reached) >= 2, facts


def test_messages_of_a_tidegate_reach_everybody(start_gateway, backend):
    # publish.single-process: nothing to find
    gateway = start_gateway('[[keys]]\nname = "ops"\nrole = "operate"\nkey = "key-of-the-operator"\n')
    api = aws.make_api(gateway, backend)
    message = {"api": api.id, "stage": api.stage, "all": True, "data": {"text": "{marker}"}}
    publish = ("--publish-url", f"{gateway.admin_url}/api/publish", "--publish-body", json.dumps(message))
    only = ("--only", "handshake,publish")
    report = doctor(api.url, *only, *publish, "--publish-header", "Authorization: Bearer key-of-the-operator")
    assert (report.found, report.code) == ({}, 0), report.out
    assert report.probe("publish")["result"] == "ok" and "key-of-the-operator" not in report.out + report.err
    # Who may not publish is told so, and that is no finding about the server.
    report = doctor(api.url, "--only", "publish", *publish)
    assert (report.found, report.code) == ({}, 3)
    assert "answered with 401" in report.probe("publish")["measurements"]["reason"]


def test_uvicorn_without_a_websocket_library(uvicorn):
    # bypass.no-ws-library
    port = uvicorn(FASTAPI, "fast", "app", "--ws", "none")
    assert doctor(at(port, "/echo"), "--only", "handshake").found == {"bypass.no-ws-library": "proven"}


def test_channels(uvicorn):
    # bypass.no-route-500 bypass.origin-validator
    port = uvicorn(CHANNELS, "chan", "application")
    for path in ("/ws", "/elsewhere/"):
        assert doctor(at(port, path), "--only", "handshake").found == {"bypass.no-route-500": "proven"}
    assert doctor(at(port, "/ws/"), "--only", "handshake").found == {}
    assert doctor(at(port, "/own/"), "--origin", "https://evil.example", "--only", "handshake,auth").found == {
        "bypass.origin-validator": "proven"
    }


@pytest.fixture
def django(run, tmp_path):
    (tmp_path / "site_app.py").write_text(textwrap.dedent(DJANGO))
    port = free_port()
    return run(port, [sys.executable, "-m", "gunicorn", "site_app:application", "-b", f"127.0.0.1:{port}"])


def test_django_under_gunicorn(django, nginx):
    # bypass.wsgi
    assert doctor(at(django, "/ws/chat/"), "--only", "handshake").found == {"bypass.wsgi": "proven"}
    behind = nginx(django)
    assert doctor(at(behind, "/ws/chat/"), "--only", "handshake").found == {
        "bypass.wsgi": "likely",
        "proxy.upgrade-stripped": "likely",
    }


def test_token_requests_at_djangos_own_csrf_check(django, tmp_path):
    # tokenreq.csrf-missing tokenreq.csrf-invalid tokenreq.csrf-cookie tokenreq.csrf-origin tokenreq.anonymous
    # tokenreq.no-session-cookie tokenreq.wrong-url
    import requests

    base = f"http://127.0.0.1:{django}"
    session = requests.Session()
    session.get(base + "/")
    csrf, sid = session.cookies["csrftoken"], session.cookies["sessionid"]
    jar = tmp_path / "cookies.txt"

    def ask(cookies, *args, path="/token/"):
        jar.write_text(cookies)
        report = doctor(
            at(free_port(), "/chat"), "--only", "browser", "--token-url", base + path, "--cookie-file", str(jar), *args
        )
        assert csrf not in report.out and sid not in report.out and "kiwi-fern" not in report.out
        return report.found

    both = f"csrftoken={csrf}; sessionid={sid}"
    assert ask(both) == {}
    assert ask(both, "--token-header", "Accept: */*") == {"tokenreq.csrf-missing": "proven"}
    assert ask(both, "--token-header", "X-CSRFToken: " + "x" * 32) == {"tokenreq.csrf-invalid": "proven"}
    assert ask(f"sessionid={sid}") == {"tokenreq.csrf-cookie": "proven"}
    assert ask(both, "--origin", "https://other.example") == {"tokenreq.csrf-origin": "proven"}
    assert ask(f"csrftoken={csrf}") == {"tokenreq.no-session-cookie": "proven"}
    assert ask(f"csrftoken={csrf}; sessionid=ended") == {"tokenreq.anonymous": "proven"}
    assert ask(both, path="/tokens/") == {"tokenreq.wrong-url": "proven"}


def test_nginx_in_front(uvicorn, nginx):
    # proxy.upgrade-stripped proxy.bad-gateway proxy.redirect proxy.html-200 handshake.url-too-long
    port = uvicorn(FASTAPI, "fast")
    only = ("--only", "handshake")
    assert doctor(at(nginx(port), "/echo"), *only).found == {"proxy.upgrade-stripped": "likely"}
    assert doctor(at(nginx(port, UPGRADE), "/echo"), *only).found == {}
    assert doctor(at(nginx(free_port(), UPGRADE), "/echo"), *only).found == {"proxy.bad-gateway": "proven"}
    redirect = nginx(port, extra="location /old { return 301 /echo; }")
    assert doctor(at(redirect, "/old"), *only).found == {"proxy.redirect": "proven"}
    page = nginx(port, extra='location /spa { default_type text/html; return 200 "<html>"; }')
    assert doctor(at(page, "/spa"), *only).found == {"proxy.html-200": "proven"}
    long = at(nginx(port, UPGRADE), "/echo?state=" + "x" * 9000)
    assert doctor(long, *only).found == {"handshake.url-too-long": "proven"}


def test_nginx_in_front_of_a_tidegate_strips_the_upgrade(gateway, api, nginx):
    # proxy.upgrade-stripped proxy.http10 DX-35
    url = api.url
    path = url.split("/", 3)[3]
    probes = ("--only", "identity,upgrade-path,handshake")
    keep_host = "proxy_set_header Host $http_host;"
    report = doctor(at(nginx(gateway.port, "proxy_http_version 1.0; " + keep_host), "/" + path), *probes)
    assert report.found["proxy.http10"] == report.found["proxy.upgrade-stripped"] == "proven"
    facts = next(f for f in report.json["findings"] if f["id"] == "proxy.http10")["evidence"][0]["facts"]
    assert facts["httpVersion"] == "1.0" and facts["upgradePresent"] is False
    report = doctor(at(nginx(gateway.port, "proxy_http_version 1.1; " + keep_host), "/" + path), *probes)
    assert report.found["proxy.upgrade-stripped"] == "proven" and "proxy.http10" not in report.found
    assert doctor(at(nginx(gateway.port, UPGRADE), "/" + path), "--only", "handshake").found == {}


def test_nginx_cuts_silent_connections(uvicorn, nginx):
    # proxy.idle-other DX-46
    port = uvicorn(FASTAPI, "fast")
    front = nginx(port, UPGRADE + " proxy_read_timeout 3s;")
    report = doctor(at(front, "/no-protocol"), "--only", "idle", "--idle", "8s")
    assert report.found == {"proxy.idle-other": "proven"}
    assert "up to 8 s and holds 4 connections" in report.err
    limit = report.probe("idle")["measurements"]["limitSeconds"]
    assert 2.5 <= limit <= 4.5, limit
    assert doctor(at(port, "/no-protocol"), "--only", "idle", "--idle", "5s").found == {}
