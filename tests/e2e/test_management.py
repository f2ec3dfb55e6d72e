"""The management API on the wire: exact statuses, headers and bodies (AG-9, 11, 12, 13; 5.1 to 5.5)."""

import json
import re
from urllib.parse import quote

import pytest

from harness import raw
from harness.aws import make_api
from harness.sign import amz_date, signature, signed_headers

UNKNOWN = "R0oXAdfD0kwCH6w="
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


@pytest.fixture
def open_connection(api, backend):
    with api.connect(headers=[("User-Agent", "Agent/1")]) as ws:
        ws.id = backend.one("/connect").connection_id
        yield ws


def common(reply):
    assert UUID.match(reply.get("x-amzn-requestid"))
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", reply.get("x-amz-apigw-id"))


def error(reply, status, kind, message=None, starts=None):
    assert reply.status == status, (reply.status, reply.body)
    assert reply.get("x-amzn-errortype").split(":")[0] == kind
    assert UUID.match(reply.get("x-amzn-requestid"))
    if message is not None:
        assert {name: value for name, value in reply.json.items() if name != "tidegate"} == {"message": message}
    if starts is not None:
        assert reply.json["message"].startswith(starts), reply.text


def test_success_replies(api, open_connection):
    """5.1: POST 200 empty JSON typed; GET 200 with the members in their form; DELETE 204 without a type."""
    ws = open_connection
    reply = api.post(ws.id, b"hi")
    common(reply)
    assert (reply.status, reply.body, reply.get("content-length"), reply.get("content-type")) == (200, b"", "0", "application/json")
    assert ws.message() == "hi"
    reply = api.signed("GET", api.connection_path(ws.id))
    common(reply)
    assert (reply.status, reply.get("content-type")) == (200, "application/json")
    info = reply.json
    assert set(info) == {"identity", "connectedAt", "lastActiveAt"}
    assert info["identity"] == {"sourceIp": "127.0.0.1", "userAgent": "Agent/1"}
    for name in ("connectedAt", "lastActiveAt"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", info[name])
    reply = api.signed("DELETE", api.connection_path(ws.id))
    common(reply)
    assert (reply.status, reply.body, reply.get("content-type")) == (204, b"", None)


def test_gone_reply(api, backend):
    """AG-9, DX-74: the raw 410: an empty body, its header, the reason headers of 5.4 with the cause."""
    with api.connect() as ws:
        connection = backend.one("/connect").connection_id
        ws.close(4003, "x")
    backend.one("/disconnect")
    for method in ("POST", "GET", "DELETE"):
        reply = api.signed(method, api.connection_path(connection))
        common(reply)
        assert reply.status == 410
        assert reply.body == b""
        assert reply.get("x-tidegate-diagnosis") == "connections.gone-client-closed"
        assert reply.get("x-tidegate-closed-at").endswith("Z")
        assert reply.get("content-type") == "application/json"
        assert reply.get("x-amzn-errortype").split(":")[0] == "GoneException"
        assert reply.get("x-tidegate-gone-reason") == "closed"
        assert reply.get("x-tidegate-close-code") == "4003"
    reply = api.post(UNKNOWN)
    assert (reply.status, reply.get("x-tidegate-gone-reason")) == (410, "unknown")


def test_post_empty(api, open_connection):
    """5.1: an empty body is delivered as an empty text message."""
    assert api.post(open_connection.id, b"").status == 200
    assert open_connection.message() == ""


@pytest.mark.parametrize("form", ["@connections/{e}", "%40connections/{e}", "@connections/{r}", "%40connections/{r}"])
def test_path_forms(api, open_connection, form):
    """S0-35, 5.1: `@` raw or encoded, the id raw or encoded; double-encoded canonical path; single-encoded tolerated."""
    path = "/" + form.format(e=quote(open_connection.id, safe=""), r=open_connection.id)
    for encodings in (1, 0):
        reply = api.signed("POST", path, b"x", encodings=encodings)
        assert reply.status == 200, (path, encodings, reply.text)
        assert open_connection.message() == "x"


def test_host_form(api, gateway, open_connection):
    """S0-35: the API is found by the first label of the host, whatever the suffix."""
    for host in (f"{api.id}.execute-api.us-east-1.amazonaws.com", f"{api.id}.localhost:{gateway.port}", f"{api.id}.some.other.suffix"):
        target = f"/prod{api.connection_path(open_connection.id)}"
        reply = raw.request(gateway.port, "POST", target, signed_headers("POST", target, host, b"h"), b"h")
        assert reply.status == 200, (host, reply.text)
        assert open_connection.message() == "h"


def test_other_stage_of_the_api(api, gateway, open_connection):
    """5.2: another existing stage of the same API reaches the connection; an unknown stage is 403 Forbidden."""
    api.control.create_stage(ApiId=api.id, StageName="other", DeploymentId=api.deployment)
    for stage, status in (("other", 200), ("nope", 403)):
        target = f"/_aws/execute-api/{api.id}/{stage}{api.connection_path(open_connection.id)}"
        host = f"127.0.0.1:{gateway.port}"
        reply = raw.request(gateway.port, "POST", target, signed_headers("POST", target, host, b"s"), b"s")
        assert reply.status == status
    error(reply, 403, "ForbiddenException", "Forbidden")
    assert open_connection.message() == "s"


def test_too_large(api, open_connection):
    """5.3: 413 with its type and text."""
    reply = api.post(open_connection.id, b"x" * 131073)
    error(reply, 413, "PayloadTooLargeException", "Message too long")


def test_malformed_id(api):
    """AG-11: 400 with the id in the text."""
    error(api.signed("POST", "/@connections/abc", b"x"), 400, "BadRequestException", "Invalid connectionId: abc")


def test_empty_id_and_other_method(api, open_connection):
    """5.2, 5.3: empty id 403 or 404; another method 403 MissingAuthenticationToken."""
    assert api.signed("POST", "/@connections/", b"x").status in (403, 404)
    error(api.signed("PUT", api.connection_path(open_connection.id), b"x"), 403, "MissingAuthenticationTokenException", "Missing Authentication Token")


# -- signatures (AG-13) ------------------------------------------------------------------------


def send(api, headers, body=b"hello", method="POST", target=None):
    return raw.request(api.gateway.port, method, target or api.base + api.connection_path(UNKNOWN), headers, body)


def signed(api, body=b"hello", method="POST", target=None, **options):
    target = target or api.base + api.connection_path(UNKNOWN)
    return signed_headers(method, target, f"127.0.0.1:{api.gateway.port}", body, **options)


def authorization(headers, value):
    return [(n, v) for n, v in headers if n != "Authorization"] + [("Authorization", value)]


def test_signature_accepted(api):
    """AG-13: the shapes of the vectors, signed now: with %3D, with %40, with session headers, with x-amz-content-sha256."""
    assert send(api, signed(api)).status == 410
    target = f"{api.base}/%40connections/R0oXAdfD0kwCH6w%3D"
    assert send(api, signed(api, b"", "GET", target), b"", "GET", target).status == 410
    assert send(api, signed(api, extra=[("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")], payload_hash="UNSIGNED-PAYLOAD")).status == 410
    assert send(api, signed(api, extra=[("Content-Type", "application/octet-stream"), ("amz-sdk-invocation-id", "3f0d"), ("amz-sdk-request", "attempt=1; max=3"), ("X-Spaced", "  a   b  ")])).status == 410
    headers = [(n, v) for n, v in signed(api) if n != "Host"]
    assert send(api, headers).status == 410, "Host added by the client after signing"


def test_no_credentials(api):
    """AG-13 row 1, 5.3."""
    error(send(api, []), 403, "MissingAuthenticationTokenException", "Missing Authentication Token")


@pytest.mark.parametrize("value,sentences", [
    ("AWS4-HMAC-SHA256 nonsense", ["'Credential' parameter", "'Signature' parameter", "'SignedHeaders' parameter"]),
    ("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250115/us-east-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date", ["'Signature' parameter"]),
    ("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250115/us-east-1/execute-api/aws4_request, Signature=00", ["'SignedHeaders' parameter"]),
])
def test_incomplete_signature(api, value, sentences):
    """AG-13 row 2: IncompleteSignatureException says which parts are missing."""
    reply = send(api, authorization(signed(api), value))
    error(reply, 403, "IncompleteSignatureException")
    for sentence in sentences:
        assert f"Authorization header requires {sentence}." in reply.json["message"]
    present = {"'Credential' parameter", "'Signature' parameter", "'SignedHeaders' parameter"} - set(sentences)
    assert not any(s in reply.json["message"] for s in present)


def test_missing_date(api):
    """AG-13 row 2: neither X-Amz-Date nor Date."""
    headers = [(n, v) for n, v in signed(api) if n != "X-Amz-Date"]
    reply = send(api, headers)
    error(reply, 403, "IncompleteSignatureException")
    assert "existence of either a 'X-Amz-Date' or a 'Date' header" in reply.json["message"]


def test_unknown_key(api):
    """AG-13 row 3."""
    error(send(api, signed(api, access_key="AKIDUNKNOWN")), 403, "UnrecognizedClientException", "The security token included in the request is invalid.")


MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. "
    "Consult the service documentation for details."
)


@pytest.mark.parametrize("what", ["secret", "body", "path", "header", "signature"])
def test_mismatch(api, what):
    """AG-13 row 5, S0-84: any altered part is a mismatch, with the server's canonical request on loopback; never 410."""
    headers = signed(api, extra=[("X-Extra", "1")])
    body, target = b"hello", None
    if what == "secret":
        headers = signed(api, secret="wrong")
    elif what == "body":
        body = b"hellO"
    elif what == "path":
        target = api.base + api.connection_path("AAAAAAAAAAAAAAA=")
    elif what == "header":
        headers = [(n, "2" if n == "X-Extra" else v) for n, v in headers]
    else:
        headers = [(n, v[:-64] + "0" * 64 if n == "Authorization" else v) for n, v in headers]
    reply = send(api, headers, body, target=target)
    error(reply, 403, "InvalidSignatureException", starts=MISMATCH)
    assert "\n\n" in reply.json["message"] and "AWS4-HMAC-SHA256" in reply.json["message"]


@pytest.mark.config("[sigv4]\nexplain_mismatch = false\n")
def test_mismatch_unexplained(api):
    """AG-13: `sigv4.explain_mismatch = false` leaves the canonical request out."""
    error(send(api, signed(api, secret="wrong")), 403, "InvalidSignatureException", MISMATCH)


def test_signed_header_absent(api):
    """5.5: a signed header that is not there, and `host` not signed, fail."""
    headers = [(n, v) for n, v in signed(api, extra=[("X-Extra", "1")]) if n != "X-Extra"]
    assert send(api, headers).status == 403
    target = api.base + api.connection_path(UNKNOWN)
    date = amz_date()
    value, scope, _ = signature("POST", target, [("X-Amz-Date", date)], ["x-amz-date"], b"hello", date, "execute-api")
    reply = send(api, [("X-Amz-Date", date), ("Authorization", f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders=x-amz-date, Signature={value}")])
    assert reply.status == 403


def test_content_hash_must_match(api):
    """5.5: x-amz-content-sha256, when signed, must be the body's."""
    wrong = "0" * 64
    reply = send(api, signed(api, extra=[("X-Amz-Content-Sha256", wrong)], payload_hash=wrong))
    assert reply.status == 403


def test_expired(api):
    """AG-13 row 6: older than five minutes; just inside is fine. The published vectors, being old, get this answer."""
    old = amz_date(-330)
    reply = send(api, signed(api, date=old))
    error(reply, 403, "InvalidSignatureException", starts=f"Signature expired: {old} is now earlier than ")
    assert reply.json["message"].endswith(" - 5 min.)")
    assert send(api, signed(api, date=amz_date(-270))).status == 410
    vector = signed(api, date="20250115T120000Z")
    error(send(api, vector), 403, "InvalidSignatureException", starts="Signature expired: 20250115T120000Z is now earlier than ")


def test_from_the_future(api):
    """AG-13 row 7."""
    ahead = amz_date(330)
    reply = send(api, signed(api, date=ahead))
    error(reply, 403, "InvalidSignatureException", starts=f"Signature not yet current: {ahead} is still later than ")
    assert reply.json["message"].endswith(" + 5 min.)")


def test_wrong_scope(api):
    """AG-13 rows 8 and 9: service, region, date of the scope."""
    target = api.base + api.connection_path(UNKNOWN)
    host = f"127.0.0.1:{api.gateway.port}"
    reply = send(api, signed_headers("POST", target, host, b"hello", service="apigateway"))
    error(reply, 403, "InvalidSignatureException")
    assert "Credential should be scoped to correct service: 'execute-api'." in reply.json["message"]
    reply = send(api, signed(api, region="eu-west-1"))
    error(reply, 403, "InvalidSignatureException")
    assert "Credential should be scoped to a valid region" in reply.json["message"]
    reply = send(api, signed(api, scope_date="20250115"))
    error(reply, 403, "InvalidSignatureException", starts="Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:")


def test_control_plane_signatures(api, gateway):
    """AG-13: the control plane's vectors in shape, and its refusals with service `apigateway`."""
    host = f"127.0.0.1:{gateway.admin_port}"
    body = b'{"name": "n", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action"}'
    headers = signed_headers("POST", "/v2/apis", host, body, service="apigateway", extra=[("Content-Type", "application/json")])
    assert raw.request(gateway.admin_port, "POST", "/v2/apis", headers, body).status == 201
    target = f"/v2/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fapis%2F{api.id}"
    reply = raw.request(gateway.admin_port, "GET", target, signed_headers("GET", target, host, service="apigateway"))
    assert reply.status not in (401, 403), reply.text
    reply = raw.request(gateway.admin_port, "GET", "/v2/apis")
    error(reply, 403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    reply = raw.request(gateway.admin_port, "GET", "/v2/apis", signed_headers("GET", "/v2/apis", host, service="execute-api"))
    error(reply, 403, "InvalidSignatureException")
    assert "Credential should be scoped to correct service: 'apigateway'." in reply.json["message"]


@pytest.mark.config("[management]\ncustom_close = true\n")
def test_custom_close(api, backend):
    """1.12: `management.custom_close`: code and reason; only the permitted codes and lengths."""
    with api.connect() as ws:
        path = api.connection_path(backend.one("/connect").connection_id)
        assert api.signed("DELETE", path + "?closeCode=1002").status == 400
        assert api.signed("DELETE", path + "?closeCode=4001&closeReason=" + "r" * 124).status == 400
        assert api.signed("DELETE", path + "?closeCode=4001&closeReason=bye%20now").status == 204
        assert ws.closed() == (4001, "bye now")


def test_custom_close_off(api, backend):
    """1.12: without the setting the parameters change nothing."""
    with api.connect() as ws:
        path = api.connection_path(backend.one("/connect").connection_id)
        assert api.signed("DELETE", path + "?closeCode=4001&closeReason=bye").status == 204
        assert ws.closed() == (1000, "Connection Closed Normally")


@pytest.mark.config("[management]\nresolve_by_connection_id = true\n")
def test_resolve_by_connection_id(api, open_connection, gateway):
    """9.1 no. 21: `/@connections/{id}` on any host."""
    target = api.connection_path(open_connection.id)
    host = f"127.0.0.1:{gateway.port}"
    assert raw.request(gateway.port, "POST", target, signed_headers("POST", target, host, b"r"), b"r").status == 200
    assert open_connection.message() == "r"


def test_keep_alive(api, open_connection):
    """S0-36: many management requests over one connection."""
    wire = raw.Wire(api.gateway.port)
    target = api.base + api.connection_path(open_connection.id)
    host = f"127.0.0.1:{api.gateway.port}"
    for index in range(20):
        body = str(index).encode()
        head = f"POST {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in signed_headers("POST", target, host, body))
        wire.send(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert wire.response("POST").status == 200
        assert open_connection.message() == str(index)


def test_unsigned_big_post_is_refused_early(api):
    """Limits come before allocation: a body announced as 1 GB is refused without being read."""
    wire = raw.Wire(api.gateway.port)
    target = api.base + api.connection_path(UNKNOWN)
    wire.send(f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\nxx".encode())
    assert wire.response("POST").status in (403, 413)


def test_two_apis_do_not_mix(api, backend, gateway, open_connection):
    """5.2: a connection of another API is 410 with reason unknown; it stays open."""
    other = make_api(gateway, backend, name="other")
    reply = other.post(open_connection.id, b"x")
    assert reply.status == 410
    open_connection.nothing_before_pong()


def test_addressable_as_soon_as_the_client_knows(api, backend):
    """5.4: once the client has its 101 the id answers 200; 300 times, each without a pause."""
    for number in range(1, 301):
        with api.connect() as ws:
            connection = backend.wait(number, "/connect")[-1].connection_id
            reply = api.post(connection, b"at once")
            assert reply.status == 200, (number, reply.get("x-tidegate-gone-reason"))
            assert ws.message() == "at once"
