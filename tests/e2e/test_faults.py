"""Faults: backends, clients, disks and descriptors that misbehave (S0-55, S0-56, S0-84, S0-86)."""

import os
import resource
import select
import socket
import subprocess
import threading
import time
from collections import Counter

import pytest
import requests

from harness import aws, raw
from harness.aws import Api, control, make_api
from harness.backend import Backend
from harness.raw import CLOSE, PING, TEXT, encode
from harness.wait import DEADLINE, until

ENOUGH = ".*"


def alive(gateway, api, backend):
    """The gateway still does its whole job."""
    before = len(backend.at("/default"))
    with api.connect() as ws:
        ws.text("alive")
        backend.wait(before + 1, "/default")
        ws.close(1000)


# -- backends ----------------------------------------------------------------------------------


@pytest.mark.logs(ENOUGH)
def test_backend_goes_away_and_comes_back(gateway, api, backend):
    """Backend down, then up again: an error frame while it is down, open connections survive, no message is repeated."""
    other = Backend()
    api.control.update_stage(ApiId=api.id, StageName="prod", StageVariables={"p": str(other.port)})
    for item in api.control.get_integrations(ApiId=api.id)["Items"]:
        path = item["IntegrationUri"].rsplit("/", 1)[1]
        api.control.update_integration(
            ApiId=api.id, IntegrationId=item["IntegrationId"], IntegrationUri="http://127.0.0.1:${stageVariables.p}/" + path
        )
    api.deploy()
    with api.connect() as ws:
        ws.text("one")
        for request in other.wait(2):
            assert request.answered.wait(DEADLINE)
        other.stop()
        ws.text("two")
        assert '"Internal server error"' in ws.message()
        assert api.open().status == 504
        api.control.update_stage(ApiId=api.id, StageName="prod", StageVariables={"p": str(backend.port)})
        ws.text("three")
        assert backend.one("/default").text == "three"
        ws.close(1000)
    backend.one("/disconnect")


@pytest.mark.logs(ENOUGH)
def test_backend_faults_in_turn(gateway, api, backend):
    """Reset, close, garbage, 5xx, a cut answer and an endless head in turn: each message is sent once, the connection stays."""
    faults = [
        {"reset": True}, {"close": True}, {"garbage": b"\x00" * 200}, {"garbage": b"HTTP/1.1 banana\r\n\r\n"},
        {"cut": 50, "body": "x" * 1000}, {"status": 500}, {"status": 503, "length": False},
        {"garbage": b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 1_000_000},
    ]
    with api.connect() as ws:
        for number, fault in enumerate(faults):
            backend.on("/default", **fault)
            ws.text(str(number))
            backend.wait(number + 1, "/default")
            if "status" not in fault:
                assert '"Internal server error"' in ws.message(), fault
        backend.on("/default")
        ws.text("end")
        got = backend.wait(len(faults) + 1, "/default")
        ws.nothing_before_pong()
    assert [r.text for r in got] == [str(n) for n in range(len(faults))] + ["end"]


@pytest.mark.logs(ENOUGH)
def test_backend_answers_too_much(gateway, api, backend):
    """3.3: more than 10 MB of body is a failure; memory does not follow the backend."""
    backend.on("/default", body=b"x" * (11 << 20))
    with api.connect() as ws:
        before = gateway.rss_kib()
        ws.text("x")
        assert '"Internal server error"' in ws.message()
        assert gateway.rss_kib() - before < 40 << 10
        backend.on("/default")
        ws.text("y")
        backend.wait(2, "/default")


@pytest.mark.logs(ENOUGH)
def test_slow_backend_backpressure(gateway, api, backend):
    """1.10: at most 64 messages wait; then the socket is not read, and nothing is lost once the backend moves."""
    hold = threading.Event()
    backend.on("/default", hold=hold)
    sent = 0
    with api.connect() as ws:
        ws.wire.sock.setblocking(False)
        frame = encode(TEXT, b"x" * 32000)
        pending = b""
        # Write until the socket takes no more for a second: that is the backpressure.
        while sent < 2000:
            pending = pending or frame
            _, writable, _ = select.select([], [ws.wire.sock], [], 1)
            if not writable:
                break
            pending = pending[ws.wire.sock.send(pending) :]
            sent += not pending
        assert sent < 2000, "64 MB were taken for one connection whose backend does not answer"
        assert len(backend.at("/default")) == 1
        hold.set()
        ws.wire.sock.setblocking(True)
        ws.wire.sock.settimeout(20)
        if pending:
            ws.wire.send(pending)
            sent += 1
        backend.wait(sent, "/default", timeout=30)


# -- clients -------------------------------------------------------------------------------------


@pytest.mark.logs(ENOUGH)
def test_cut_off_at_every_byte_of_the_handshake(gateway, api, backend):
    """A client that leaves after any number of handshake bytes costs nothing and asks no backend."""
    data, _ = raw.handshake_bytes(api.base, "127.0.0.1")
    for count in range(0, len(data)):
        wire = raw.Wire(gateway.port)
        wire.send(data[:count])
        wire.reset() if count % 2 else wire.close()
    # The whole handshake, then gone at once: $connect runs, and $disconnect follows.
    wire = raw.Wire(gateway.port)
    wire.send(data)
    backend.wait(1, "/connect")
    wire.reset()
    backend.wait(1, "/disconnect")
    assert [r.path for r in backend.requests] == ["/connect", "/disconnect"]
    alive(gateway, api, backend)
    until(lambda: gateway.metric("tidegate_connections") == 0, "no connection left")


@pytest.mark.logs(ENOUGH)
def test_cut_off_in_mid_frame(gateway, api, backend):
    """A client cut off after each byte of a frame, by reset and by end: 1006 once each, no message."""
    frames = encode(TEXT, b"hello world") + encode(PING, b"p") + encode(CLOSE, b"\x03\xe8bye")
    whole = len(encode(TEXT, b"hello world"))
    for count in range(1, whole):
        ws = api.connect()
        ws.wire.send(frames[:count])
        ws.reset() if count % 2 else ws.wire.close()
    backend.wait(whole - 1, "/disconnect")
    assert backend.at("/default") == []
    assert Counter(r.connection_id for r in backend.at("/disconnect")) == Counter(r.connection_id for r in backend.at("/connect"))


@pytest.mark.logs(ENOUGH)
@pytest.mark.parametrize("garbage", [
    b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 64, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nA" + b"a" * 200_000, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
])
def test_garbage_at_the_edge(gateway, api, backend, garbage):
    """Nonsense instead of a request is refused or cut off, and the gateway goes on."""
    wire = raw.Wire(gateway.port)
    try:
        wire.send(garbage)
        wire.sock.shutdown(socket.SHUT_WR)
        reply = wire.response()
        assert 400 <= reply.status < 600
    except (EOFError, OSError):
        pass  # cut off, perhaps before everything was sent
    assert backend.requests == []
    alive(gateway, api, backend)


@pytest.mark.logs(ENOUGH)
@pytest.mark.timeout(30)
def test_handshake_that_never_ends(gateway, api, backend):
    """1.11: a head that is not finished within 10 s is cut off; others are served meanwhile."""
    slow = raw.Wire(gateway.port)
    slow.send(b"GET /")
    start = time.monotonic()
    alive(gateway, api, backend)
    assert time.monotonic() - start < 5
    try:
        reply = slow.response(timeout=15)
        assert reply.status == 408
    except (EOFError, ConnectionError):
        pass
    assert 8 < time.monotonic() - start < 14


@pytest.mark.logs(ENOUGH)
def test_reader_that_stops(gateway, api, backend):
    """S0-84, 1.10: a client that stops reading gets its pushers 429 with its header; others are unaffected; it recovers."""
    slow = api.connect(receive_buffer=4096)
    slow_id = backend.wait(1, "/connect")[0].connection_id
    fast = api.connect()
    fast_id = backend.wait(2, "/connect")[1].connection_id
    body = b"s" * 100_000
    taken, reply = 0, None
    for _ in range(400):
        reply = api.post(slow_id, body)
        if reply.status != 200:
            break
        taken += 1
    assert reply.status == 429, f"{taken} posts of 100 KB were taken for a client that does not read"
    assert reply.get("x-amzn-errortype").split(":")[0] == "LimitExceededException"
    assert reply.get("x-tidegate-limit") == "buffer"
    for number in range(20):
        assert api.post(fast_id, str(number).encode()).status == 200
        assert fast.message() == str(number)
    # It reads again: everything that was accepted arrives, whole and once; then it is as good as new.
    for _ in range(taken):
        assert len(slow.message()) == len(body)
    assert until(lambda: api.post(slow_id, b"again").status == 200, "the buffer to drain")
    assert slow.message() == "again"
    # A reader that never comes back is gone once its socket is.
    slow.reset()
    until(lambda: api.post(slow_id, b"x").status == 410, "410 after the reset", timeout=2)
    fast.close(1000)
    assert len(backend.wait(2, "/disconnect")) == 2


@pytest.mark.timeout(120)
def test_thousand_closed_at_once(gateway, api, backend):
    """S0-55: 1,000 connections closed at the same time: exactly 1,000 $disconnect, one for each id."""
    clients = []
    for _ in range(1000):
        clients.append(api.connect())
    opened = {r.connection_id for r in backend.wait(1000, "/connect")}
    assert len(opened) == 1000
    assert gateway.metric("tidegate_connections") == 1000
    for number, ws in enumerate(clients):
        if number % 3 == 0:
            ws.reset()
        elif number % 3 == 1:
            ws.wire.close()
        else:
            ws.send(CLOSE, b"\x03\xe8")
    backend.wait(1000, "/disconnect", timeout=60)
    until(lambda: gateway.metric("tidegate_connections") == 0, "no connection left")
    for ws in clients:
        ws.wire.close()
    counts = Counter(r.connection_id for r in backend.at("/disconnect"))
    assert set(counts) == opened and set(counts.values()) == {1}


# -- shutdown and crash ----------------------------------------------------------------------------


@pytest.mark.config("shutdown_timeout = 20\n")
@pytest.mark.logs(ENOUGH)
@pytest.mark.timeout(90)
def test_sigterm_under_load(gateway, api, backend):
    """SIGTERM under load: readiness fails, listeners close, 1001 to every client, in-flight messages finish,
    every $disconnect is delivered, exit 0 within the deadline."""
    clients = [api.connect() for _ in range(200)]
    opened = {r.connection_id for r in backend.wait(200, "/connect")}
    hold = threading.Event()
    backend.on("/default", hold=hold)
    for ws in clients[:20]:
        ws.text("in flight")
    backend.wait(20, "/default")
    backend.on("/default")
    stop = threading.Event()
    seen = {}

    def chatter(ws):
        try:
            while not stop.is_set():
                ws.text("chatter")
                ready, _, _ = select.select([ws.wire.sock], [], [], 0.01)
                if ready:
                    seen[ws] = ws.closed()
                    return
        except (OSError, EOFError):
            seen.setdefault(ws, None)

    talkers = [threading.Thread(target=chatter, args=(ws,)) for ws in clients[20:40]]
    for thread in talkers:
        thread.start()
    start = time.monotonic()
    gateway.terminate()

    def not_ready():
        try:
            return requests.get(f"{gateway.admin_url}/readyz", timeout=2).status_code != 200
        except requests.ConnectionError:
            return True

    until(not_ready, "readiness to fail")

    def refuses():
        try:
            socket.create_connection(("127.0.0.1", gateway.port), timeout=1).close()
            return False
        except OSError:
            return True

    until(refuses, "the listener to close")
    hold.set()
    for ws in clients[:20] + clients[40:]:
        assert ws.closed() == (1001, "Service restart")
    stop.set()
    for thread in talkers:
        thread.join(10)
    backend.wait(200, "/disconnect", timeout=20)
    assert gateway.wait_exit(25) == 0
    assert time.monotonic() - start < 22
    counts = Counter(r.connection_id for r in backend.at("/disconnect"))
    assert set(counts) == opened and set(counts.values()) == {1}
    assert all(r.answered.is_set() for r in backend.at("/default")[:20])


@pytest.mark.config("shutdown_timeout = 2\n")
@pytest.mark.logs(ENOUGH)
def test_sigterm_with_a_stuck_backend(gateway, api, backend):
    """The shutdown deadline holds although the backend never answers."""
    backend.on("/disconnect", hold=threading.Event())
    with api.connect():
        backend.one("/connect")
        start = time.monotonic()
        gateway.terminate()
        gateway.wait_exit(10)
        assert time.monotonic() - start < 6
    gateway.process = None  # the exit code of an unfinished drain is not promised


@pytest.mark.logs(ENOUGH)
def test_sigkill_and_restart(gateway, backend):
    """S0-14: SIGKILL right after the answers: every definition is there again and works."""
    api = make_api(gateway, backend)
    last = api.control.create_route(ApiId=api.id, RouteKey="last")["RouteId"]
    gateway.kill()
    gateway.start()
    v2 = control(gateway)
    assert v2.get_route(ApiId=api.id, RouteId=last)["RouteKey"] == "last"
    api = Api(gateway, v2, api.id)
    alive(gateway, api, backend)


@pytest.mark.logs(ENOUGH)
def test_sigkill_during_writes(gateway, backend):
    """S0-14: what was answered before a SIGKILL in the middle of writing is there; what was not, is whole or absent."""
    v2 = aws.control(gateway, retries=False)
    api_id = v2.create_api(Name="k", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")["ApiId"]
    answered = []

    def write():
        number = 0
        while True:
            try:
                v2.create_route(ApiId=api_id, RouteKey=f"r{number}")
            except Exception:
                return
            answered.append(f"r{number}")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: len(answered) > 30, "thirty answered writes")
    gateway.kill()
    writer.join(10)
    gateway.start()
    v2 = control(gateway)
    keys = {i["RouteKey"] for p in v2.get_paginator("get_routes").paginate(ApiId=api_id) for i in p["Items"]}
    assert set(answered) <= keys
    assert len(keys) <= len(answered) + 1


@pytest.mark.logs(ENOUGH)
def test_old_ids_after_restart(gateway, backend):
    """S0-111: ids of connections that a killed process held answer 410 afterwards."""
    api = make_api(gateway, backend)
    with api.connect():
        connection = backend.one("/connect").connection_id
        gateway.kill()
    gateway.start()
    assert Api(gateway, None, api.id).post(connection, b"x").status == 410


# -- disk and descriptors ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB, where mounting one is allowed."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted here, the full-disk test did NOT run: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.logs(ENOUGH)
def test_full_disk(start_gateway, backend, small_disk):
    """A full disk: the write is answered with an error, nothing answered before is lost, traffic goes on, and it recovers."""
    gateway = start_gateway(data_dir=small_disk / "data")
    api = make_api(gateway, backend)
    v2 = aws.control(gateway, retries=False)
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * 4096)
        except OSError:
            pass
    answered, failure = [], None
    for number in range(5000):
        try:
            made = v2.create_integration(ApiId=api.id, IntegrationType="HTTP_PROXY", IntegrationUri="http://127.0.0.1:1/", Description="d" * 1000)
            answered.append(made["IntegrationId"])
        except Exception as error:
            failure = error
            break
    assert failure is not None, "5000 writes were answered on a full disk"
    assert failure.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    alive(gateway, api, backend)
    have = {i["IntegrationId"] for p in v2.get_paginator("get_integrations").paginate(ApiId=api.id) for i in p["Items"]}
    assert set(answered) <= have
    filler.unlink()
    v2.create_integration(ApiId=api.id, IntegrationType="MOCK", Description="after")
    gateway.kill()
    gateway.start()
    have = {i["IntegrationId"] for p in control(gateway).get_paginator("get_integrations").paginate(ApiId=api.id) for i in p["Items"]}
    assert set(answered) <= have
    alive(gateway, Api(gateway, control(gateway), api.id), backend)
    gateway.stop()


@pytest.mark.logs(ENOUGH)
def test_descriptors_exhausted(start_gateway, backend):
    """Descriptors run out: the listener neither dies nor spins, and serves again when some are free."""
    gateway = start_gateway(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80)))
    api = make_api(gateway, backend)
    bare = make_api(gateway, backend, routes=["$default"], name="bare")
    held = []
    for _ in range(120):
        wire = raw.Wire(gateway.port)
        data, _ = raw.handshake_bytes(bare.base, "127.0.0.1")
        wire.send(data)
        held.append(wire)

    def answered(wire):
        return bool(select.select([wire.sock], [], [], 0)[0])

    until(lambda: sum(map(answered, held)) > 20, "some connections")
    # The rest cannot be served yet, and the process must not burn a core over it.
    ticks = os.sysconf("SC_CLK_TCK")

    def cpu():
        fields = open(f"/proc/{gateway.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before, start = cpu(), time.monotonic()
    until(lambda: time.monotonic() - start > 1, "one second", timeout=2, interval=0.1)
    assert cpu() - before < 0.5, "the gateway spins while no descriptor is free"
    assert gateway.process.poll() is None
    for wire in held:
        wire.close()
    until(lambda: _serves(api), "the listener to recover")
    alive(gateway, api, backend)


def _serves(api):
    try:
        with api.open() as ws:
            return ws.status == 101
    except (OSError, EOFError):
        return False
