"""Why a node fails its clients: overload, draining, few file descriptors; and what it says of itself."""

import resource
import signal
import struct
import threading
import time

import pytest
import requests

from harness import aws, raw
from harness.cli import explained, failures, finding, has_no_findings, tidegate
from harness.wait import until


def journal(gateway):
    answer = tidegate(gateway, "journal", "ls")
    return answer if isinstance(answer, list) else answer["entries"]


def verbose(gateway):
    return requests.get(f"{gateway.admin_url}/readyz?verbose", timeout=5).json()


@pytest.mark.config("doctor_interval = 3600")
def test_the_first_look_is_soon(gateway, api):
    # DX-53
    assert "doctor" not in requests.get(f"{gateway.admin_url}/readyz", timeout=5).json()
    until(lambda: verbose(gateway)["doctor"]["at"], "the first look", 30)
    assert verbose(gateway)["doctor"]["findings"] == {}
    assert gateway.metric("tidegate_doctor_problem") in (None, 0)
    has_no_findings(tidegate(gateway, "doctor", "--watch"))


@pytest.mark.config("doctor_interval = 1")
def test_what_the_watch_finds_is_told(gateway, backend, control):
    # DX-53 DX-48 handler.default-missing integration.refused
    from harness.gateway import unused_tcp_port

    made = aws.make_api(gateway, backend)
    until(lambda: verbose(gateway)["doctor"]["at"], "a look", 20)
    integration = control.create_integration(
        ApiId=made.id, IntegrationType="HTTP_PROXY", IntegrationMethod="POST",
        IntegrationUri=f"http://127.0.0.1:{unused_tcp_port()}/x",
    )["IntegrationId"]
    control.create_route(ApiId=made.id, RouteKey="down", Target=f"integrations/{integration}")
    control.create_deployment(ApiId=made.id, StageName=made.stage)
    until(lambda: "integration.refused" in verbose(gateway)["doctor"]["findings"], "the problem", 20)
    until(lambda: gateway.metric("tidegate_doctor_problem", id="integration.refused"), "its metric", 10)
    report = tidegate(gateway, "doctor", "--watch", code=1)
    assert finding(report, "integration.refused")["evidence"][0]["facts"]["target"].startswith("http://127.0.0.1:")
    # Ids and counts only, to whoever asks.
    assert "127.0.0.1" not in str(verbose(gateway))


@pytest.mark.config("doctor_interval = 1")
def test_a_node_that_gets_no_processor(gateway, api):
    # limit.overload DX-53
    has_no_findings(tidegate(gateway, "doctor", "--watch", code=0 if verbose(gateway)["doctor"]["at"] else 3))
    for _ in range(7):
        gateway.process.send_signal(signal.SIGSTOP)
        time.sleep(0.8)
        gateway.process.send_signal(signal.SIGCONT)
        time.sleep(0.03)
    entry = until(lambda: [e for e in failures(gateway) if e["outcome"] == "limit.overload"], "an entry", 10)[0]
    assert entry["kind"] == "control" and entry["facts"]["what"] == "overload"
    assert entry["facts"]["delayMs"] > 250 and entry["facts"]["count"] >= 4
    explained(gateway, "--last=1", "limit.overload")
    until(lambda: "limit.overload" in verbose(gateway)["doctor"]["findings"], "the watch", 10)
    finding(tidegate(gateway, "doctor", "--watch"), "limit.overload")


def test_a_node_that_goes_down_says_so(gateway, api, backend):
    # node.draining
    hold = threading.Event()
    backend.on("/disconnect", hold=hold)
    ws = api.connect()
    gateway.terminate()
    ready = f"{gateway.admin_url}/readyz"
    until(lambda: requests.get(ready, timeout=2).status_code == 503, "the drain", 10)
    assert requests.get(ready, timeout=2).json() == {"status": "draining", "id": "node.draining"}
    assert ws.closed() == (1001, "Service restart")
    # The journal answers until the end.
    entry = until(lambda: [e for e in failures(gateway) if e["kind"] == "close"], "the entry", 10)[0]
    assert entry["outcome"] == "node.draining" and entry["facts"]["closeCode"] == 1001
    explained(gateway, entry["connectionId"], "node.draining")
    hold.set()


def test_a_node_that_comes_back_was_restarted(gateway, api, backend):
    # node.restart
    ws = api.connect()
    known = backend.one("/connect").connection_id
    gateway.stop()
    assert ws.closed() == (1001, "Service restart")
    gateway.start()
    found = explained(gateway, known, "node.restart")
    assert found["connectionId"] == known and found["evidence"][0]["facts"]["connections"] == 1
    assert found["evidence"][0]["facts"]["gapMs"] < 60_000
    # What the entry of the end says is the same thing.
    assert "node.draining" not in [each["id"] for each in tidegate(gateway, "explain", known)["findings"]]
    explained(gateway, "node.restart", "node.restart")


def test_a_node_that_knows_that_it_comes_back(gateway, api, backend):
    # node.restart, S3-63: SIGUSR2 is what whoever restarts it sends; backends are told as of any end of theirs.
    ws = api.connect()
    known = backend.one("/connect").connection_id
    gateway.terminate(signal.SIGUSR2)
    gateway.stop()
    assert ws.closed() == (1012, "Service Restart")
    assert backend.one("/disconnect").connection_id == known
    gateway.start()
    found = explained(gateway, known, "node.restart")
    assert found["connectionId"] == known and found["evidence"][0]["facts"]["closeCode"] == 1012
    assert "node.draining" not in [each["id"] for each in tidegate(gateway, "explain", known)["findings"]]


def test_a_client_that_finds_the_other_half_dead(gateway, api):
    # DX-72: clients of ours close with 4408
    ws = api.connect()
    ws.send(raw.CLOSE, struct.pack(">H", 4408) + b"heartbeat unanswered")
    closes = until(lambda: [e for e in journal(gateway) if e["kind"] == "close"], "the close", 10)
    assert closes[0]["facts"]["clientCode"] == 4408 and closes[0]["facts"]["clientReason"] == "heartbeat unanswered"


def low(files):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def test_a_node_without_file_descriptors(start_gateway):
    # limit.file-descriptors
    gateway = start_gateway(preexec=low(80))
    gateway.allow("listener cannot accept")
    held = []
    try:
        for _ in range(120):
            held.append(raw.Wire(gateway.port))
        gateway.wait_log("listener cannot accept", 10)
    finally:
        for wire in held:
            wire.close()
    entry = until(lambda: [e for e in failures(gateway) if e["outcome"] == "limit.file-descriptors"], "an entry", 15)[0]
    assert entry["facts"]["what"] == "accept" and "os error 24" in entry["facts"]["detail"]
    assert gateway.records(diag="limit.file-descriptors")
    explained(gateway, "limit.file-descriptors", "limit.file-descriptors")
