"""`tidegate doctor --api` and `doctor reflect` against the Django package 4.1.0 as published, under gunicorn (DX-49, DX-50, S0-34)."""

import json
import subprocess

import pytest

from harness.cli import finding, tidegate
from harness.django_site import Site
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY, Gateway, binary, clean_environment
from harness.wait import until

CONFIG = """
[tls]
listen = "127.0.0.1:0"
local_ca = true
[proxy]
listen = "127.0.0.1:0"
"""


class Stack:
    def __init__(self, directory, **site):
        self.gateway = Gateway(directory / "gateway", config=CONFIG).start()
        # What the backend refuses on purpose.
        self.gateway.allow("backend", "integration")
        self.site = Site(directory / "site", self.gateway, **site)
        try:
            self.site.start()
        except BaseException:
            self.site.stop()
            self.gateway.kill()
            raise

    def doctor(self, *arguments, code=None, backend=False):
        """The report as JSON; `backend`: in the environment of the backend's machine."""
        env = self.site.environment() if backend else clean_environment()
        if backend:
            env.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION=REGION)
        env.update(TIDEGATE_ACCESS_KEY_ID=ACCESS_KEY, TIDEGATE_SECRET_ACCESS_KEY=SECRET_KEY, TIDEGATE_ADMIN_URL=self.gateway.admin_url)
        done = subprocess.run(
            [binary(), "doctor", *map(str, arguments), "--json"],
            env={k: str(v) for k, v in env.items()}, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL,
        )
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        if code is not None:
            assert done.returncode == code, report
        return report

    def close(self):
        self.site.stop()
        self.gateway.stop()


@pytest.fixture
def make_stack(tmp_path):
    made = []

    def make(**options):
        made.append(Stack(tmp_path / f"stack{len(made)}", **options))
        return made[-1]

    yield make
    for stack in made:
        stack.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One site and gateway for the tests that do not change their settings; APIs are the test's own."""
    made = Stack(tmp_path_factory.mktemp("doctor"))
    yield made
    made.close()


def ids(report):
    return [finding["id"] for finding in report["findings"]]


def checklist(report):
    lines = next(probe for probe in report["probes"] if probe["name"] == "checklist")["measurements"]["lines"]
    assert len(lines) == 12
    return [line["answer"] for line in lines]


def test_a_healthy_package_has_no_finding(stack):
    """DX-49, DX-50, S0-34: no finding, the questions that can be answered are, a signed call for an unknown id answers 410, and
    nothing was written."""
    record = stack.site.provision("healthy")
    report = stack.doctor("--api", record["api_id"], backend=True, code=0)
    assert ids(report) == [], report["findings"]
    answers = checklist(report)
    assert answers[:8] == ["yes"] * 8, report
    assert next(probe for probe in report["probes"] if probe["name"] == "push")["result"] == "ok"
    assert stack.site.run("result = WebSocketSession.objects.count()") == 0
    # A browser still gets in.
    ws = stack.site.connect(record, "alice")
    ws.close(1000)


def test_allowed_hosts_need_the_exact_text(make_stack):
    """backend.host-not-allowed: the package compares with the port, and says so only to a complete handshake."""
    stack = make_stack(allowed_hosts=["127.0.0.1"])
    record = stack.site.provision("hosts")
    report = stack.doctor("--api", record["api_id"], code=1)
    assert ids(report) == ["backend.host-not-allowed"]
    finding = report["findings"][0]
    assert f"`127.0.0.1:{stack.site.port}`" in finding["fix"][0] and finding["confidence"] == "proven"


def test_the_table_of_the_package_against_what_is_open(stack, tmp_path):
    """S0-95, connections.stale-record: rows that nobody marked as ended, and a connection that no row knows."""
    record = stack.site.provision("table")
    api = record["api_id"]
    rows = "result = list(WebSocketSession.objects.filter(connected=True).values_list('connection_id', flat=True))"
    ended, lost, open_one = (stack.site.connect(record, user) for user in ("alice", "bob", "carol"))
    table = tmp_path / "table"

    def compare(text, *more, code):
        table.write_text(text)
        report = stack.doctor("--api", api, "--no-post", "--backend-connections", table, *more, code=code)
        [probe] = [probe for probe in report["probes"] if probe["name"] == "backend connections"]
        return ids(report), probe["measurements"], report

    found, seen, _ = compare("\n".join(stack.site.run(rows)), "--grace", "0", code=0)
    assert (found, seen["rows"], seen["open"], seen["openAndNotListed"]) == ([], 3, 3, 0), seen
    ended.close(1000)
    stack.site.wait_row(ended, connected=False)
    # As if the event had been lost, and as if somebody had marked the wrong row.
    stack.site.run("WebSocketSession.objects.filter(pk=pk).update(connected=True)", pk=ended.row)
    stack.site.run("WebSocketSession.objects.filter(pk=pk).update(connected=False)", pk=lost.row)
    found, seen, report = compare(json.dumps(stack.site.run(rows)), "--grace", "0", code=1)
    assert found == ["connections.stale-record", "push.session-marked-closed"], report
    assert finding(report, "connections.stale-record")["evidence"][0]["facts"]["connections"] == [ended.id]
    assert finding(report, "push.session-marked-closed", "likely")["evidence"][0]["facts"]["connections"] == [lost.id]
    # A moment ago says nothing.
    found, seen, _ = compare("\n".join(stack.site.run(rows)), code=0)
    assert found == [] and seen["open"] == 1, seen
    found, _, report = compare("connection_id,user\nAbCdEfGhIjKlMnO=,ann\n" + open_one.id, code=0)
    assert found == ["connections.unknown-id"], report
    open_one.close(1000)
    lost.close(1000)


def test_an_api_id_that_the_site_does_not_know(stack):
    """backend.api-id-unknown is possible, never proven, beside the two other causes of the same answer."""
    record = stack.site.provision("forgotten")
    stack.site.run("ApiGateway.objects.filter(pk=pk).update(api_id='other00000')", pk=record["pk"])
    report = stack.doctor("--api", record["api_id"], code=1)
    assert set(ids(report)) == {"backend.api-id-unknown", "backend.headers-stripped", "backend.server-drops-forwarded"}
    assert {finding["confidence"] for finding in report["findings"]} == {"possible"}


def test_a_wrong_base(stack):
    """integration.wrong-url: nothing near the address answers."""
    record = stack.site.provision("nowhere", base="nowhere")
    report = stack.doctor("--api", record["api_id"], code=1)
    assert set(ids(report)) == {"integration.wrong-url"}
    assert checklist(report)[3] == "no"


def test_an_untrusted_ca(stack):
    """S0-34, management.ca-untrusted: from the backend's machine."""
    record = stack.site.provision("pushes")
    stack.site.extra = {"AWS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt"}
    try:
        report = stack.doctor("--api", record["api_id"], "--no-post", backend=True, code=1)
    finally:
        stack.site.extra = {}
    assert ids(report) == ["management.ca-untrusted"]


def test_reflect_tells_what_a_proxy_drops(stack, tmp_path):
    """backend.headers-stripped: a proxy between gateway and backend drops `X-Forwarded-For`, reflect stands behind it."""
    import http.client
    import http.server
    import threading

    address_file = tmp_path / "reflect.json"
    reflect = subprocess.Popen(
        [binary(), "doctor", "reflect", "--listen", "127.0.0.1:0", "--address-file", str(address_file)],
        env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        until(address_file.exists, "reflect", 10)
        host, port = json.loads(address_file.read_text())["listen"].rsplit(":", 1)

        class Proxy(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            dropped = ("x-forwarded-for", "connection", "content-length")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                upstream = http.client.HTTPConnection(host, int(port), timeout=10)
                kept = {n: v for n, v in self.headers.items() if n.lower() not in self.dropped}
                upstream.request("POST", self.path, body, kept)
                answer = upstream.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Tidegate-Reflect", "1")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        record = stack.site.provision("behind")
        from harness import aws

        v2 = aws.control(stack.gateway)
        for integration in v2.get_integrations(ApiId=record["api_id"])["Items"]:
            word = integration["IntegrationUri"].rsplit("/", 1)[1]
            v2.update_integration(
                ApiId=record["api_id"], IntegrationId=integration["IntegrationId"],
                IntegrationUri=f"http://127.0.0.1:{server.server_port}/ws/{word}",
            )
        v2.create_deployment(ApiId=record["api_id"], StageName=record["stage_name"])
        report = stack.doctor("--api", record["api_id"], code=1)
        assert set(ids(report)) == {"backend.headers-stripped", "backend.server-drops-forwarded"}
        assert report["findings"][0]["evidence"][0]["facts"]["missing"] == ["x-forwarded-for"]
        # cookie.not-forwarded
        Proxy.dropped = ("cookie", "connection", "content-length")
        report = stack.doctor("--api", record["api_id"], code=1)
        assert set(ids(report)) == {"backend.headers-stripped", "cookie.not-forwarded"}
        Proxy.dropped = ("connection", "content-length")
        assert not {"backend.headers-stripped", "cookie.not-forwarded"} & set(ids(stack.doctor("--api", record["api_id"])))
        server.shutdown()
    finally:
        reflect.terminate()
        reflect.wait(10)


def test_a_server_that_drops_forwarded_headers(make_stack):
    """S0-104, backend.server-drops-forwarded: waitress as it is started by default, and as the manual says."""
    stack = make_stack(server="waitress")
    record = stack.site.provision("waitress")
    session = stack.site.login("alice")
    ws = stack.site.open(record, session, stack.site.token(session))
    assert ws.status == 400, ws.reply.text
    report = tidegate(stack.gateway, "explain", ws.reply.get("Tidegate-Request-Id"), code=3)
    assert ids(report)[0] == "backend.server-drops-forwarded", report
    found = finding(report, "backend.server-drops-forwarded", "likely")
    assert "waitress" in found["evidence"][0]["text"] and "waitress-serve" in found["fix"][0], found
    report = stack.doctor("--api", record["api_id"], code=1)
    assert ids(report)[0] == "backend.server-drops-forwarded", ids(report)
    assert "waitress" in finding(report, "backend.server-drops-forwarded", "likely")["evidence"][0]["text"]
    # What the fix says helps.
    stack.site.server_options = ["--trusted-proxy=127.0.0.1", "--trusted-proxy-headers=x-forwarded-for x-forwarded-proto x-forwarded-port"]
    stack.site.restart()
    ws = stack.site.connect(record, "alice")
    ws.close(1000)
    stack.site.wait_row(ws, connected=False)
