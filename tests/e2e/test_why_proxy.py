"""Why it fails behind nginx: rules that people write, from the gateway's side and from the doctor's."""

import json
import threading

import pytest

from harness import raw
from harness.cli import explained, failures, finding, has_no_findings, ids, tidegate
from harness.nginx import GOOD, Nginx
from harness.wait import until

UPGRADE = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'


def through(proxy, api, **options):
    return raw.RawWs(proxy.port, api.base, **options)


def doctor(gateway, proxy, api, *words, code=1):
    url = f"ws://127.0.0.1:{proxy.port}{api.base}"
    return tidegate(gateway, "doctor", url, "--admin", gateway.admin_url, *words, code=code)


@pytest.mark.timeout(120)
def test_a_default_rule(gateway, api, tmp_path):
    """DX-60 proxy.upgrade-stripped: what nginx does unless told otherwise."""
    with Nginx(tmp_path / "nginx", f"location / {{ proxy_pass http://127.0.0.1:{gateway.port}; }}") as proxy:
        ws = through(proxy, api)
        assert ws.status == 426
        found = explained(gateway, ws.reply.get("Tidegate-Request-Id"), "proxy.upgrade-stripped")
        facts = json.dumps(found["evidence"])
        assert "127.0.0.1" in facts and "426" in json.dumps(found)
        finding(doctor(gateway, proxy, api), "proxy.upgrade-stripped")


@pytest.mark.timeout(120)
def test_http_1_0(gateway, api, tmp_path):
    """proxy.http10: Upgrade is forwarded, the version is not set."""
    rule = f"location / {{ proxy_pass http://127.0.0.1:{gateway.port}; proxy_http_version 1.0; {UPGRADE} }}"
    with Nginx(tmp_path / "nginx", rule) as proxy:
        ws = through(proxy, api)
        assert ws.status == 426, (ws.status, ws.reply.text)
        explained(gateway, ws.reply.get("Tidegate-Request-Id"), "proxy.http10")
        finding(doctor(gateway, proxy, api), "proxy.http10")


@pytest.mark.timeout(120)
@pytest.mark.config('trusted_proxies = ["127.0.0.1/32"]\n')
def test_host_is_rewritten(gateway, api, tmp_path):
    """proxy.host-rewritten: the API is found by its host name, and the proxy sends its own."""
    rule = (
        f"location / {{ proxy_pass http://127.0.0.1:{gateway.port}; proxy_http_version 1.1; {UPGRADE} "
        "proxy_set_header Host internal.example; proxy_set_header X-Forwarded-Host $http_host; }"
    )
    with Nginx(tmp_path / "nginx", rule) as proxy:
        ws = raw.RawWs(proxy.port, f"/{api.stage}", host=f"{api.id}.localhost:{proxy.port}")
        assert ws.status == 403, (ws.status, ws.reply.text)
        found = explained(gateway, ws.reply.get("Tidegate-Request-Id"), "proxy.host-rewritten")
        assert "internal.example" in json.dumps(found["evidence"])


@pytest.mark.timeout(120)
def test_the_path_is_not_upgraded(gateway, api, tmp_path):
    """proxy.location-mismatch: the rule for WebSockets stands at another path."""
    rule = (
        f"location /_tidegate/ {{ proxy_pass http://127.0.0.1:{gateway.port}; proxy_http_version 1.1; {UPGRADE} proxy_set_header Host $http_host; }}\n"
        f"location / {{ proxy_pass http://127.0.0.1:{gateway.port}; proxy_http_version 1.1; proxy_set_header Host $http_host; }}"
    )
    with Nginx(tmp_path / "nginx", rule) as proxy:
        finding(doctor(gateway, proxy, api), "proxy.location-mismatch")


@pytest.mark.timeout(120)
def test_other_answers_of_a_proxy(gateway, api, tmp_path):
    """proxy.redirect proxy.html-200 proxy.bad-gateway: no entry of the journal, as the gateway was never asked."""
    rule = (
        "location / { return 301 https://example.com$request_uri; }",
        'location / { default_type text/html; return 200 "<html><body>app</body></html>"; }',
        "location / { proxy_pass http://127.0.0.1:1; }",
    )
    for n, (text, wanted) in enumerate(zip(rule, ("proxy.redirect", "proxy.html-200", "proxy.bad-gateway"))):
        with Nginx(tmp_path / f"nginx{n}", text) as proxy:
            report = doctor(gateway, proxy, api)
            finding(report, wanted)
    assert not failures(gateway)


@pytest.mark.timeout(120)
@pytest.mark.logs("gave up|client")
def test_the_proxy_does_not_wait(gateway, api, backend, tmp_path):
    """proxy.gateway-timeout handshake.client-gave-up: `$connect` takes longer than the proxy waits."""
    release = threading.Event()
    backend.on("/connect", hold=release)
    rule = f"location / {{ proxy_pass http://127.0.0.1:{gateway.port}; proxy_http_version 1.1; {UPGRADE} proxy_read_timeout 1s; }}"
    with Nginx(tmp_path / "nginx", rule) as proxy:
        ws = through(proxy, api)
        assert ws.status == 504 and ws.reply.get("Tidegate-Request-Id") is None
        release.set()

        def known():
            report = tidegate(gateway, "explain", "--last", code=0)
            return "handshake.client-gave-up" in ids(report) and report

        report = until(known, "the handshake that nobody waited for")
        assert {"proxy.gateway-timeout", "handshake.client-gave-up"} & set(ids(report))


@pytest.mark.timeout(120)
@pytest.mark.config('trusted_proxies = ["127.0.0.1/32"]\n')
def test_the_manuals_rule_is_healthy(gateway, api, tmp_path):
    """proxy.forwarded-missing proxy.client-ip-collapsed: neither is said of a rule that forwards everything."""
    with Nginx(tmp_path / "nginx", GOOD.format(upstream=gateway.port)) as proxy:
        for _ in range(20):
            ws = through(proxy, api)
            assert ws.status == 101
            ws.close(1000)
        assert not failures(gateway)
        has_no_findings(tidegate(gateway, "doctor", "--api", api.id))


@pytest.mark.timeout(120)
@pytest.mark.logs(".*")
def test_idle_connections_are_cut(gateway, api, tmp_path):
    """proxy.idle-other: many connections end without a close frame, all at the same age of silence."""
    rule = f"location / {{ proxy_pass http://127.0.0.1:{gateway.port}; proxy_http_version 1.1; {UPGRADE} proxy_read_timeout 2s; proxy_send_timeout 2s; }}"
    with Nginx(tmp_path / "nginx", rule) as proxy:
        open_ones = [through(proxy, api) for _ in range(12)]
        assert {ws.status for ws in open_ones} == {101}
        for ws in open_ones:
            assert ws.wire.at_end(20)

        def known():
            report = tidegate(gateway, "explain", "1006", code=0)
            return "proxy.idle-other" in ids(report) and report

        report = until(known, "the constant idle time")
        assert "2" in json.dumps(finding(report, "proxy.idle-other")["evidence"])
