"""A healthy set-up gives no findings, whoever stands in front of it."""

import ssl
import subprocess

import pytest
from websockets.sync.client import connect

from harness import aws
from harness.cli import failures, has_no_findings, tidegate
from harness.gateway import binary
from harness.nginx import GOOD, Nginx
from harness.wait import until


@pytest.fixture
def two_way(gateway, backend):
    """An API whose backend answers messages, and whose answers go back."""
    backend.on("/default", body='{"answer": 1}')
    return aws.make_api(gateway, backend, two_way=(True, True))


@pytest.mark.timeout(120)
def test_alone(gateway, two_way):
    """DX-31 DX-49: the doctor finds nothing at a gateway that works."""
    api = two_way
    has_no_findings(tidegate(gateway, "doctor", api.url, "--admin", gateway.admin_url, "--send", "hello", "--expect", "answer"))
    has_no_findings(tidegate(gateway, "doctor", "--api", api.id))
    assert not failures(gateway)


@pytest.mark.timeout(120)
@pytest.mark.config('trusted_proxies = ["127.0.0.1/32"]\n')
def test_behind_nginx(gateway, two_way, tmp_path):
    """DX-31: nor behind a proxy that is set up as the manual says."""
    api = two_way
    with Nginx(tmp_path / "nginx", GOOD.format(upstream=gateway.port)) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}{api.base}"
        with connect(url, proxy=None) as socket:
            socket.send("hello")
        has_no_findings(tidegate(gateway, "doctor", url, "--admin", gateway.admin_url, "--send", "hello", "--expect", "answer"))
    assert not failures(gateway)


@pytest.mark.timeout(120)
@pytest.mark.config('trusted_proxies = ["127.0.0.1/32"]\n')
def test_behind_nginx_with_tls(gateway, two_way, tmp_path):
    """DX-31: nor where the proxy ends TLS with a certificate of one's own authority."""
    api = two_way
    subprocess.run([binary(), "certs", "--data-dir", str(tmp_path)], check=True, capture_output=True, timeout=30)
    certs = tmp_path / "certs"
    certificate = (certs / "tidegate.pem", certs / "tidegate.key")
    with Nginx(tmp_path / "nginx", GOOD.format(upstream=gateway.port), certificate=certificate) as proxy:
        url = f"wss://localhost:{proxy.port}{api.base}"
        with connect(url, ssl=ssl.create_default_context(cafile=str(certs / "ca.pem")), proxy=None) as socket:
            socket.send("hello")
            assert socket.recv(10) == '{"answer": 1}'
        words = ["--cafile", str(certs / "ca.pem"), "--admin", gateway.admin_url, "--send", "hello", "--expect", "answer"]
        has_no_findings(tidegate(gateway, "doctor", url, *words))
    assert not failures(gateway)


@pytest.mark.timeout(120)
def test_the_doctor_leaves_no_failure(gateway, two_way):
    """DX-47: what it tries at a Tidegate that works is no failure in its journal, whoever asks."""
    has_no_findings(tidegate(gateway, "doctor", two_way.url, "--admin", gateway.admin_url))
    assert tidegate(gateway, "journal", "ls", "--failures") == []


@pytest.mark.timeout(180)
def test_a_thousand_ordinary_connections(gateway, backend, two_way):
    """DX-5 DX-12: a thousand connections that come, say something, get an answer and go leave no failure."""
    for n in range(1000):
        with two_way.connect() as ws:
            ws.text('{"n": 1}')
            ws.message()
            ws.close(1000)
    backend.wait(1000, "/disconnect")

    def settled():
        state = tidegate(gateway, "journal", "state")
        return state["entries"] >= 2000

    until(settled, "two entries for each connection")
    assert not failures(gateway)
    assert tidegate(gateway, "journal", "state")["dropped"] == 0
