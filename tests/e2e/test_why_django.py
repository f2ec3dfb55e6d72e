"""Why the Django package says no: each refusal of the published package, made for real, and what one command says of it."""

import json
import time

import pytest
import requests

from harness import aws
from harness.cli import explained, finding, tidegate
from harness.django_site import Stack, read_json
from harness.wait import until


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    made = Stack(tmp_path_factory.mktemp("why"))
    made.record = made.site.provision("why")
    yield made
    made.close()


def request_id(ws):
    return ws.reply.get("Tidegate-Request-Id")


def why(stack, ws, status, wanted, confidence="proven"):
    """The handshake was refused with this status, and `explain REQUEST-ID` names this cause first."""
    assert ws.status == status, (ws.status, ws.reply.text)
    found = explained(stack.gateway, request_id(ws), wanted, confidence)
    assert found["clientSaw"]["status"] == status
    return found


def foreign(stack, name, **uris):
    """An API that the package does not know, with routes to these addresses of the site."""
    v2 = aws.control(stack.gateway)
    api = v2.create_api(Name=name, ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")["ApiId"]
    handle = aws.Api(stack.gateway, v2, api, "production")
    for key, uri in uris.items():
        aws.add_route(handle, f"${key}", None, IntegrationUri=uri)
    v2.create_stage(ApiId=api, StageName="production")
    handle.deploy()
    return {"api_id": api, "stage_name": "production"}


@pytest.mark.timeout(180)
def test_refusals_of_connect(stack):
    """DX-4 DX-18 backend.connection-headers-missing backend.origin-mismatch channel.invalid token.session-missing token.missing channel.forbidden backend.refused"""
    site, record = stack.site, stack.record
    session = site.login("refused")

    def refused(status, wanted, confidence="proven", **options):
        options.setdefault("session", session)
        return why(stack, site.open(record, **options), status, wanted, confidence)

    found = refused(400, "backend.connection-headers-missing", omit=("Cookie",))
    assert found["evidence"][0]["facts"]["missingHeaders"] == ["cookie"]
    refused(400, "backend.origin-mismatch", origin="http://evil.example")
    token = site.token(session)
    refused(400, "channel.invalid", token=token, query=["channel=not%20valid!"])
    refused(400, "token.session-missing", session="nosuchsession", token=token)
    refused(400, "token.missing")
    site.run("ChannelPermission.objects.get_or_create(channel_name='staff', defaults={'access': 'staff_only'})")
    refused(403, "channel.forbidden", token=site.token(session), query=["channel=staff"])
    # The backend's own sentence is kept when it is short and plain.
    found = refused(400, "backend.refused", token=site.token(session), query=["refuse=1"])
    assert "the project refuses" in json.dumps(found["evidence"])


@pytest.mark.timeout(120)
def test_tokens(stack):
    """DX-9 DX-19 token.reused token.reused-on-reconnect token.unknown"""
    site, record = stack.site, stack.record
    session = site.login("tokens")
    token = site.token(session)
    # A connection that opens, closes, and comes back with its old URL.
    ws = site.open(record, session, token)
    assert ws.status == 101
    ws.close(1000)
    # A page that comes back within 100 ms is one that mounts twice, which is another cause.
    time.sleep(0.3)
    ws = site.open(record, session, token)
    assert ws.status == 400

    seen = []

    def known():
        report = tidegate(stack.gateway, "explain", request_id(ws), code=0)
        seen.append(report)
        return report["findings"][0]["id"] == "token.reused-on-reconnect" and report

    try:
        report = until(known, "the reconnect with a used token is explained")
    except AssertionError:
        raise AssertionError(json.dumps(seen[-1], indent=1)) from None
    assert token not in json.dumps(report)
    # A token that was presented before and never opened anything.
    spent = site.token(session)
    assert site.open(record, site.login("thief"), spent).status == 400
    again = site.open(record, site.login("thief"), spent)
    why(stack, again, 400, "token.reused")
    # Never seen: expired, unknown or of another session, only the backend could tell.
    never = site.open(record, session, "0" * 64)
    assert never.status == 400
    report = tidegate(stack.gateway, "explain", request_id(never), code=3)
    named = {found["id"] for found in report["findings"]}
    assert {"token.expired", "token.unknown"} <= named and all(f["confidence"] != "proven" for f in report["findings"])


@pytest.mark.timeout(120)
def test_an_api_that_the_package_does_not_know(stack):
    """DX-4 backend.api-id-unknown: all headers were sent and the answer is the one for missing headers."""
    site = stack.site
    record = foreign(stack, "foreign", connect=f"{site.url}/ws/connect", default=f"{site.url}/ws/default")
    ws = site.open(record, site.login("alice"))
    assert ws.status == 400
    report = tidegate(stack.gateway, "explain", request_id(ws), code=3)
    found = finding(report, "backend.api-id-unknown", "possible" if len(report["findings"]) > 1 else "likely")
    assert any("reflect" in command or "--api" in command for command in found["next"]), found


@pytest.mark.timeout(120)
def test_attempts_over_the_packages_limit(stack):
    """ratelimit.connect"""
    site = stack.site
    record = site.provision("limited-why", "limited")
    session = site.login("limited-why")
    for _ in range(2):
        ws = site.open(record, session, site.token(session), source="127.0.0.87")
        assert ws.status == 101
        ws.wire.close()
    why(stack, site.open(record, session, site.token(session), source="127.0.0.87"), 400, "ratelimit.connect")


@pytest.mark.timeout(120)
def test_host_agent_and_addresses(stack):
    """backend.host-not-allowed backend.useragent-check integration.wrong-url backend.csrf"""
    site = stack.site
    session = site.login("hosts")
    pk = site.run(
        "r = ApiGateway(api_name='byname', target_base_endpoint=url)\nr.save()\nresult = r.pk", url=f"http://localhost:{site.port}/ws/"
    )
    site.manage("createApiGateway", "--pk", pk)
    ws = site.open(site.record(pk), session, site.token(session), origin=f"http://localhost:{site.port}")
    found = why(stack, ws, 400, "backend.host-not-allowed")
    # Exactly what has to be added.
    assert f"localhost:{site.port}" in json.dumps(found), found
    record = site.provision("strict-why", "strict")
    why(stack, site.open(record, session, site.token(session)), 400, "backend.useragent-check")
    record = foreign(stack, "lost", connect=f"{site.url}/nowhere/connect")
    why(stack, site.open(record, session), 404, "integration.wrong-url")
    record = foreign(stack, "csrf", connect=f"{site.url}/token/")
    why(stack, site.open(record, session), 403, "backend.csrf")


@pytest.mark.timeout(120)
def test_messages(stack):
    """handler.key-missing handler.not-json reply.backend-failed backend.session-unknown: what a message's failure says."""
    site = stack.site
    ws = site.connect(stack.record, "messages", "general")
    ws.text('{"other": 1}')
    ws.text('{"handler": "hello"}')
    assert read_json(ws)["user"] == "messages"
    finding(tidegate(stack.gateway, "explain", ws.id, code=0), "handler.key-missing")
    ws.text('{"handler": "fail"}')
    ws.text('{"handler": "hello"}')
    assert read_json(ws)["user"] == "messages"
    report = tidegate(stack.gateway, "explain", ws.id, code=0)
    assert any(f["id"] in ("reply.backend-failed", "integration.error-status") for f in report["findings"]), report["findings"]
    site.run("WebSocketSession.objects.filter(pk=pk).delete()", pk=ws.row)
    ws.text('{"handler": "hello"}')

    def known():
        report = tidegate(stack.gateway, "explain", ws.id, code=0)
        return "backend.session-unknown" in [f["id"] for f in report["findings"]]

    until(known, "the pruned session is explained")
    ws.wire.close()


@pytest.mark.timeout(180)
def test_secret(tmp_path):
    """backend.secret-mismatch: the backend demands a secret that the gateway does not send."""
    stack = Stack(tmp_path / "secret")
    try:
        site = stack.site
        record = site.provision("secret")
        site.restart({"gateway_secret": "first-secret-of-at-least-32-characters"})
        session = site.login("sid")
        why(stack, site.open(record, session, site.token(session)), 403, "backend.secret-mismatch")
    finally:
        stack.close()


@pytest.mark.timeout(120)
def test_doctor_checklist(stack):
    """DX-50: the twelve lines of the package's checklist, each with yes, no or cannot tell."""
    report = tidegate(stack.gateway, "doctor", "--api", stack.record["api_id"], code=0)
    assert not [f for f in report["findings"] if f["severity"] == "problem"], report["findings"]
    lines = [probe for probe in report["probes"] if probe["name"].startswith("checklist")]
    text = json.dumps(report)
    assert len(lines) == 12 or text.count("cannot tell") + text.count("\"yes\"") + text.count("\"no\"") >= 12, text[:3000]


@pytest.mark.timeout(60)
def test_journal_has_no_secret(stack):
    """DX-10: neither tokens nor sessions nor what was said."""
    site = stack.site
    session = site.login("private")
    token = site.token(session)
    ws = site.open(stack.record, session, token)
    assert ws.status == 101
    ws.text('{"handler": "hello", "text": "a private word"}')
    read_json(ws)
    ws.close(1000)
    entries = json.dumps(tidegate(stack.gateway, "journal", "ls"))
    assert session not in entries and token not in entries and "a private word" not in entries
    answer = requests.get(f"{stack.gateway.admin_url}/api/journal", timeout=10)
    assert answer.status_code in (401, 403)
