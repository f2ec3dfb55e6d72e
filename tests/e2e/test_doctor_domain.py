"""`tidegate doctor --domain`: what the node says of a name, and what answers there (DX-50)."""

import socket
import ssl
import subprocess
import threading

import pytest

from harness import aws
from harness.cli import finding, ids, tidegate

NAME = "ws.example.test"
CONFIG = f"""
[tls]
listen = "127.0.0.1:0"
local_ca = true
names = ["{NAME}"]
"""
CONFIGURATION = {"CertificateArn": "arn:aws:acm:us-east-1:111122223333:certificate/0", "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2"}


@pytest.fixture
def node(start_gateway, backend):
    """A node with a certificate for the name, which is mapped."""
    gateway = start_gateway(CONFIG)
    api = aws.make_api(gateway, backend)
    api.control.create_domain_name(DomainName=NAME, DomainNameConfigurations=[CONFIGURATION])
    api.control.create_api_mapping(ApiId=api.id, DomainName=NAME, Stage="prod")
    return gateway


def looked_at(gateway, port, cafile, code=1):
    """The report, as if the name led to this port."""
    words = ["doctor", "--domain", f"{NAME}:{port}", "--resolve", f"{NAME}:{port}:127.0.0.1", "--cafile", str(cafile)]
    return tidegate(gateway, *words, code=code)


def ca_of(gateway):
    return gateway.data_dir / "certs" / "ca.pem"


def result(report, name):
    return next((probe["result"] for probe in report["probes"] if probe["name"] == name), None)


def test_the_name_leads_to_the_node(node):
    # DX-50: nobody's DNS has the name, which is the only thing to say.
    report = looked_at(node, node.tls_port, ca_of(node))
    assert ids(report) == ["dns.no-record"], report["findings"]
    assert result(report, "tls") == "ok" and result(report, "identity") == "ok", report["probes"]


def test_the_name_leads_to_another_installation(node, start_gateway):
    # dns.wrong-target
    other = start_gateway(CONFIG)
    report = looked_at(node, other.tls_port, ca_of(other))
    facts = finding(report, "dns.wrong-target")["evidence"][0]["facts"]
    assert facts["installation"] != facts.get("expected")
    assert "tls.not-issued" not in ids(report)


def test_a_default_certificate_is_served(node, tmp_path):
    # tls.not-issued
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=default.example", "-keyout", str(key),
         "-addext", "subjectAltName=DNS:default.example", "-out", str(certificate)],
        check=True, capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(client):
        try:
            with context.wrap_socket(client, server_side=True) as wrapped:
                wrapped.recv(4096)
                wrapped.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except OSError:
            pass

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    report = looked_at(node, listener.getsockname()[1], certificate)
    listener.close()
    facts = finding(report, "tls.not-issued")["evidence"][0]["facts"]
    assert facts["certificateNames"] == ["default.example"] and NAME in facts["expected"]


def test_nothing_can_be_reached_from_here(node):
    # DX-2: a firewall on the way says nothing of the domain.
    from harness.gateway import unused_tcp_port

    report = looked_at(node, unused_tcp_port(), ca_of(node))
    assert ids(report) == ["dns.no-record"], report["findings"]
    assert result(report, "served") == "inconclusive"
