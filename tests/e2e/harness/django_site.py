"""The Django project under gunicorn, its commands and a worker process, against one gateway."""

import json
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import requests

from . import raw
from .gateway import ACCESS_KEY, REGION, SECRET_KEY, Gateway, clean_environment
from .wait import until

PROJECT = Path(__file__).resolve().parents[1] / "django_project"


CONFIG = """
[tls]
listen = "127.0.0.1:0"
local_ca = true
[proxy]
listen = "127.0.0.1:0"
"""


class CommandFailed(Exception):
    def __init__(self, code, out, err):
        super().__init__(f"exit {code}\n{out}\n{err}")
        self.code, self.out, self.err = code, out, err


class Site:
    def __init__(self, directory, gateway, websockets=None, allowed_hosts=None, environment=None, proxy=True, server="gunicorn", server_options=()):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.gateway = gateway
        self.websockets = websockets or {}
        self.extra = environment or {}
        self.proxy = proxy
        self.kind, self.server_options = server, list(server_options)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self.listener.getsockname()[1]
        self.hosts = allowed_hosts or ["127.0.0.1", f"127.0.0.1:{self.port}", "localhost"]
        self.server = None
        self.worker = None
        self.log_path = self.directory / "gunicorn.log"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def origin(self):
        return self.url

    def environment(self):
        env = clean_environment(
            E2E_ALLOWED_HOSTS=json.dumps(self.hosts),
            E2E_DATABASE=self.directory / "db.sqlite3",
            E2E_ACCESS_KEY=ACCESS_KEY,
            E2E_SECRET_KEY=SECRET_KEY,
            E2E_REGION=REGION,
            E2E_WEBSOCKETS=json.dumps(self.websockets),
            AWS_ENDPOINT_URL_APIGATEWAYV2=self.gateway.admin_url,
            AWS_CA_BUNDLE=self.gateway.data_dir / "certs/ca.pem",
            AWS_EC2_METADATA_DISABLED="true",
            PYTHONDONTWRITEBYTECODE="1",
        )
        if self.proxy:
            # S0-33 (2): the package's fixed push address through the gateway's CONNECT proxy.
            env.update(HTTPS_PROXY=f"http://127.0.0.1:{self.gateway.proxy_port}", NO_PROXY="127.0.0.1,localhost")
        env.update(self.extra)
        return env

    def start(self):
        self.manage("migrate", "--verbosity", "0")
        self.start_server()
        return self

    def start_server(self):
        if self.kind == "waitress":
            # It takes no socket from elsewhere; its port is free for the moment between.
            self.listener.close()
            command = ["waitress", f"--listen=127.0.0.1:{self.port}", *self.server_options, "project.wsgi:application"]
        else:
            command = [
                "gunicorn", "--bind", f"fd://{self.listener.fileno()}", "--workers", "1", "--threads", "16",
                "--keep-alive", "5", "--graceful-timeout", "5", "--log-level", "warning", "--no-control-socket", "project.wsgi",
            ]
        inherited = [] if self.kind == "waitress" else [self.listener.fileno()]
        with open(self.log_path, "ab") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=PROJECT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=inherited,
            )

        def up():
            assert self.server.poll() is None, self.log_path.read_text()
            try:
                return requests.get(f"{self.url}/page/", timeout=5).status_code == 200
            except (requests.ConnectionError, requests.Timeout):
                return False

        until(up, self.kind, 20)

    def stop_server(self):
        if self.server and self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            try:
                self.server.wait(15)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait(5)
        self.server = None

    def stop_worker(self):
        if self.worker:
            self.worker.stdin.close()
            try:
                self.worker.wait(10)
            except subprocess.TimeoutExpired:
                self.worker.kill()
                self.worker.wait(5)
        self.worker = None

    def restart(self, websockets=None, environment=None):
        """With other settings, as after a deployment of the project; the gateway stays."""
        self.stop_server()
        self.stop_worker()
        if websockets is not None:
            self.websockets = websockets
        if environment is not None:
            self.extra = environment
        self.start_server()

    def stop(self):
        self.stop_server()
        self.stop_worker()
        self.listener.close()

    # -- commands and code of the project ---------------------------------------------------

    def manage(self, *arguments):
        done = subprocess.run(
            [sys.executable, "manage.py", *map(str, arguments)],
            cwd=PROJECT, env=self.environment(), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise CommandFailed(done.returncode, done.stdout, done.stderr)
        return done.stdout

    def run(self, code, **arguments):
        """Runs lines in the project's worker process and returns what they leave in `result`."""
        if self.worker is None:
            self.worker = subprocess.Popen(
                [sys.executable, "worker.py"], cwd=PROJECT, env=self.environment(), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.directory / "worker.log", "ab"),
            )
        prelude = (
            "from django.contrib.auth.models import User, Permission\n"
            "from django_aws_api_gateway_websockets.models import *\n"
            "from django_aws_api_gateway_websockets.models import ApiGateway, ApiGatewayAdditionalRoute, ChannelPermission, WebSocketSession\n"
        )
        self.worker.stdin.write(json.dumps({"code": prelude + textwrap.dedent(code), "arguments": arguments}) + "\n")
        self.worker.stdin.flush()
        line = self.worker.stdout.readline()
        assert line, (self.directory / "worker.log").read_text()
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"] + "\n" + answer["trace"])
        return answer.get("result")

    # -- what a person does --------------------------------------------------------------------

    def gateway_record(self, name="site", base="ws", **fields):
        """The primary key of a record that is not deployed yet."""
        return self.run(
            "record = ApiGateway(api_name=name, target_base_endpoint=url, **fields)\nrecord.save()\nresult = record.pk",
            name=name, url=f"{self.url}/{base}/", fields=fields,
        )

    def provision(self, name="site", base="ws", **fields):
        pk = self.gateway_record(name, base, **fields)
        assert self.manage("createApiGateway", "--pk", pk) == ""
        return self.record(pk)

    def record(self, pk):
        return self.run(
            "from django.forms.models import model_to_dict\nr = ApiGateway.objects.get(pk=pk)\n"
            "result = {**model_to_dict(r), 'pk': r.pk, 'deployment_id': r.deployment_id, 'last_error': r.last_error, 'api_created': r.api_created}",
            pk=pk,
        )

    def login(self, username, **flags):
        """A user with a session as a browser would have it: (cookie value)."""
        return self.run(
            """
            from importlib import import_module
            from django.conf import settings
            from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
            user, made = User.objects.get_or_create(username=username, defaults=flags)
            if made:
                user.set_password("pw"); user.save()
            store = import_module(settings.SESSION_ENGINE).SessionStore()
            store[SESSION_KEY] = str(user.pk)
            store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
            store[HASH_SESSION_KEY] = user.get_session_auth_hash()
            store.create()
            result = store.session_key
            """,
            username=username, flags=flags,
        )

    def token(self, session):
        """A one-time token, fetched as a page does it: session cookie and CSRF token."""
        with requests.Session() as http:
            http.trust_env = False
            http.cookies.set("sessionid", session)
            http.get(f"{self.url}/page/", timeout=10)
            reply = http.post(f"{self.url}/token/", headers={"X-CSRFToken": http.cookies["csrftoken"]}, timeout=10)
            assert reply.status_code == 200, reply.text
            return reply.json()["token"]

    def headers(self, session=None, origin=None, omit=()):
        headers = [
            ("Cookie", f"sessionid={session}" if session else "other=1"),
            ("Origin", origin or self.origin),
            ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
            ("User-Agent", "Mozilla/5.0 (Test)"),
        ]
        return [(n, v) for n, v in headers if n not in omit]

    def open(self, record, session=None, token=None, query=(), origin=None, omit=(), **options):
        """A raw client after its handshake, whatever the answer was."""
        parts = [f"ws_token={token}"] if token else []
        parts += list(query)
        target = f"/_aws/execute-api/{record['api_id']}/{record['stage_name']}" + ("?" + "&".join(parts) if parts else "")
        return raw.RawWs(self.gateway.port, target, headers=self.headers(session, origin, omit), omit=omit, **options)

    def connect(self, record, user="alice", channel=None, **options):
        session = self.login(user)
        query = [f"channel={channel}"] if channel else []
        ws = self.open(record, session, self.token(session), query, **options)
        assert ws.status == 101, f"{ws.status} {ws.reply.body!r}"
        ws.session_key = session
        row = self.run("s = WebSocketSession.objects.order_by('-pk').first()\nresult = [s.pk, s.connection_id]")
        ws.row, ws.id = row
        return ws

    def row(self, ws):
        return self.run(
            "s = WebSocketSession.objects.get(pk=pk)\nresult = {'connected': s.connected, 'channel': s.channel_name,"
            " 'user': s.user and s.user.username, 'count': s.request_count, 'gateway': s.api_gateway_id}",
            pk=ws.row,
        )

    def wait_row(self, ws, **fields):
        def same():
            row = self.row(ws)
            return all(row[k] == v for k, v in fields.items())

        until(same, f"the row of {ws.id} to have {fields}")


class Stack:
    """Gateway and site, with one API provisioned."""

    def __init__(self, directory, websockets=None, config="", **site):
        self.gateway = Gateway(directory / "gateway", config=config + CONFIG).start()
        # What the backend refuses on purpose is in the log at WARN.
        self.gateway.allow("backend", "stage|api|domain", "connect", "integration")
        self.site = Site(directory / "site", self.gateway, websockets, **site)
        try:
            self.site.start()
        except BaseException:
            self.close(check=False)
            raise

    def close(self, check=True):
        self.site.stop()
        if check:
            self.gateway.stop()
        elif self.gateway.process:
            self.gateway.kill()


def read_json(ws, timeout=10.0):
    """The next message; inflates it when the connection is compressed."""
    import zlib

    frame = ws.frame(timeout)
    data, compressed = frame.payload, frame.rsv == 4
    assert frame.opcode == raw.TEXT, frame
    while not frame.fin:
        frame = ws.frame(timeout)
        data += frame.payload
    if compressed:
        if not hasattr(ws, "inflate"):
            ws.inflate = zlib.decompressobj(wbits=-15)
        data = ws.inflate.decompress(data + b"\x00\x00\xff\xff")
    return json.loads(data)
