"""The management API: posts, GetConnection, DeleteConnection, its errors, its signatures."""

import datetime
import re
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from harness.backend import Reply
from harness.sign import amz_date, signature, signed_headers
from suite import golden
from suite.api import http, refused, signed
from suite.checks import check

sys.path.append(str(Path(__file__).resolve().parents[2] / "e2e"))
UNKNOWN = "R0oXAdfD0kwCH6w="


def golden_reply(name, reply, known=None):
    headers = [(key, value) for key, value in reply.headers if key.lower() not in ("date", "server", "via", "connection", "tidegate-request-id")]
    golden.compare_headers(name, f"HTTP/1.1 {reply.status} {reply.reason}", headers, reply.text, known)


@pytest.fixture
def api(new_api):
    return new_api().whoami().live()


@pytest.fixture
def connected(api):
    with api.connect(headers=[("User-Agent", "ExampleBrowser/1.0")]) as ws:
        ws.id = api.identify(ws)
        yield ws


@check(8, feature="management", how="boto3, raw WebSocket client", what="131072 bytes are delivered intact as one text message; 131073 are `PayloadTooLargeException` 413 `Message too long`; the connection goes on")
def test_sizes(api, connected):
    # AG-8
    push = api.management()
    text = "0123456789abcdef" * 8192
    push.post_to_connection(ConnectionId=connected.id, Data=text.encode())
    assert connected.message() == text
    with refused("PayloadTooLargeException", 413, "Message too long") as e:
        push.post_to_connection(ConnectionId=connected.id, Data=text.encode() + b"x")
    assert e.kind == "PayloadTooLargeException"
    push.post_to_connection(ConnectionId=connected.id, Data=b"after")
    assert connected.message() == "after"


@check(8, feature="management", how="boto3, raw WebSocket client", what="Posts of one caller arrive in order, byte for byte; bytes that are no UTF-8 become U+FFFD")
def test_posts(api, connected):
    # AG-8
    push = api.management()
    sent = ["ünï\u2028cödé", "two", " spaced ", "\u0000"]
    for text in sent:
        push.post_to_connection(ConnectionId=connected.id, Data=text.encode())
    assert [connected.message() for _ in sent] == sent
    push.post_to_connection(ConnectionId=connected.id, Data=b"a\xffb")
    assert connected.message() == "a\ufffdb"


@check(9, feature="management", how="boto3, raw HTTP", what="After the close all three operations are `GoneException` 410; the raw reply has an empty body and the error's header")
def test_gone(api):
    # AG-9
    push = api.management(retries=False)
    with api.connect() as ws:
        connection = api.identify(ws)
        ws.close(1000)
    for call in (push.get_connection, push.delete_connection, lambda **k: push.post_to_connection(Data=b"x", **k)):
        with refused("GoneException", 410) as e:
            call(ConnectionId=connection)
        assert e.kind == "GoneException"
    reply = api.call("POST", connection, b"x")
    assert (reply.status, reply.body, reply.get("content-type"), reply.get("content-length")) == (410, b"", "application/json", "0")
    assert reply.get("x-amzn-errortype").split(":")[0] == "GoneException"
    if api.target.is_tidegate:
        golden_reply("management_410_gone.txt", reply)


@check(9, feature="management", how="boto3", what="Well-formed ids that were never issued are `GoneException`, too")
@pytest.mark.parametrize("foreign", [UNKNOWN, "AAAAAAAAAAAAAAA=", "_-_-_-_-_-_-_-_="])
def test_never_issued(api, foreign):
    # AG-9
    with refused("GoneException", 410):
        api.management().post_to_connection(ConnectionId=foreign, Data=b"x")


def post_inside(api, outcome, data=(b"early",)):
    push = api.management(retries=False)

    def hook(request):
        for item in data:
            try:
                push.post_to_connection(ConnectionId=request.connection_id, Data=item)
                outcome.append(200)
            except push.exceptions.GoneException:
                outcome.append(410)

    return hook


@check(10, feature="management", needs=["backend"], how="boto3 inside the HTTP backend", what="A post from inside `$connect` is 410; afterwards the connection takes posts")
def test_post_inside_connect(new_api):
    # AG-10
    api = new_api().http("$connect").live()
    outcome = []
    api.backend.on("/connect", hook=post_inside(api, outcome))
    with api.connect() as ws:
        assert outcome == [410]
        api.management().post_to_connection(ConnectionId=api.backend.one("/connect").connection_id, Data=b"late")
        assert ws.message() == "late"


QUEUE = '[management]\npending_posts = "queue"\n'


@check(10, feature="management", settings=QUEUE, how="boto3 inside the HTTP backend", what="With `pending_posts = \"queue\"` posts from inside `$connect` answer 200 and are the first messages after the 101")
def test_post_inside_connect_queued(new_api, backend):
    # AG-10
    api = new_api(backend=backend).http("$connect").live()
    outcome = []
    backend.on("/connect", hook=post_inside(api, outcome, (b"first", b"second")))
    with api.connect() as ws:
        assert outcome == [200, 200]
        assert [ws.message(), ws.message()] == ["first", "second"]


@check(10, feature="management", settings=QUEUE, how="boto3 inside the HTTP backend", what="A refused handshake delivers nothing of what was queued; its id is gone")
def test_post_inside_refused_connect(new_api, backend):
    # AG-10
    api = new_api(backend=backend).http("$connect").live()
    outcome, inside = [], None
    inside = post_inside(api, outcome)
    backend.on("/connect", hook=lambda request: (inside(request), Reply(status=403, body=b"no"))[1])
    ws = api.open()
    assert (ws.status, ws.reply.body, outcome) == (403, b"no", [200])
    with refused("GoneException", 410):
        api.management().post_to_connection(ConnectionId=backend.one("/connect").connection_id, Data=b"x")


@check(11, feature="management", how="boto3", what="Malformed ids are `BadRequestException` 400 `Invalid connectionId: …` in all three operations")
@pytest.mark.parametrize("bad", ["abc", "R0oXAdfD0kwCH6w=x", "3f0d6f0e-8f2b-4b68-9f0e-0c1d2e3f4a5b", "R0oXAdfD0kwCH6ww"])
def test_malformed(api, bad):
    # AG-11
    push = api.management()
    for call in (push.get_connection, push.delete_connection, lambda **k: push.post_to_connection(Data=b"x", **k)):
        with refused("BadRequestException", 400, f"Invalid connectionId: {bad}"):
            call(ConnectionId=bad)
    if bad == "abc" and api.target.is_tidegate:
        golden_reply("management_400_malformed.txt", api.call("POST", bad, b"x"))


@check(12, feature="management", how="boto3, raw HTTP", what="GetConnection: identity, ISO 8601 times with milliseconds, `lastActiveAt` not before `connectedAt`")
def test_get(api, connected):
    # AG-12
    info = api.management().get_connection(ConnectionId=connected.id)
    assert info["Identity"]["UserAgent"] == "ExampleBrowser/1.0" and info["Identity"]["SourceIp"]
    assert info["ConnectedAt"] <= info["LastActiveAt"] <= datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=5)
    reply = api.call("GET", connected.id)
    assert set(reply.json) == {"identity", "connectedAt", "lastActiveAt"}
    for name in ("connectedAt", "lastActiveAt"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", reply.json[name])
    if api.target.is_tidegate:
        golden_reply("management_200_get.txt", reply)
        golden_reply("management_200_post.txt", api.call("POST", connected.id, b"x"))


@check(12, feature="management", needs=["backend"], how="boto3, recording HTTP server", what="DeleteConnection: 204, the client sees 1000, the backend 1000 `Connection Closed Normally`; a second one is 410")
def test_delete(new_api):
    # AG-12
    names = {"connectionId": "connectionId", "Close-Code": "disconnectStatusCode", "Close-Reason": "disconnectReason"}
    api = new_api().whoami().http("$disconnect", parameters={f"integration.request.header.{name}": f"context.{source}" for name, source in names.items()}).live()
    push = api.management(retries=False)
    with api.connect() as ws:
        connection = api.identify(ws)
        reply = push.delete_connection(ConnectionId=connection)
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
        code, reason = ws.closed()
        assert code == 1000
        assert reason == "Connection Closed Normally" or not api.target.is_tidegate
    event = api.backend.wait(1)[0]
    assert (event.connection_id, event.get("Close-Code"), event.get("Close-Reason")) == (connection, "1000", "Connection Closed Normally")
    with refused("GoneException", 410):
        push.delete_connection(ConnectionId=connection)
    assert len(api.backend.requests) == 1


@check(9, feature="management", how="boto3", what="Unknown stage: 403 `ForbiddenException`; connection of another API: 410; through another stage of the same API: works")
def test_which_connections(new_api, api, connected):
    # AG-9
    with refused("ForbiddenException", 403):
        api.management(stage="nope").post_to_connection(ConnectionId=connected.id, Data=b"x")
    other = new_api().whoami().live()
    with refused("GoneException", 410):
        other.management().post_to_connection(ConnectionId=connected.id, Data=b"x")
    api.deploy(stage="second")
    api.management(stage="second").post_to_connection(ConnectionId=connected.id, Data=b"across")
    assert connected.message() == "across"


# -- signatures ---------------------------------------------------------------------------


def path(connection=UNKNOWN):
    return f"/@connections/{quote(connection, safe='')}"


def error(reply, kind, message=None, starts=None):
    assert reply.status == 403, (reply.status, reply.body)
    assert reply.get("x-amzn-errortype").split(":")[0] == kind
    assert message in (None, reply.json["message"]), reply.text
    assert reply.json["message"].startswith(starts or ""), reply.text


@check(13, feature="signatures", how="own signer, recomputed by hand", what="The five published vectors: the signer of these tests computes their signatures")
def test_vectors():
    # AG-13
    import test_sign

    for vector in test_sign.VECTORS:
        test_sign.test_signer_matches_the_vectors(*vector)


@check(13, feature="signatures", how="own signer", what="The shapes of the vectors, signed now, are accepted: `%3D`, `%40`, further signed headers, repeated spaces, `UNSIGNED-PAYLOAD`")
def test_accepted(api):
    # AG-13
    base = api.base()
    assert signed(api.target, "POST", base + path(), b"hello").status == 410
    assert signed(api.target, "GET", base + path().replace("@", "%40")).status == 410
    extra = [("Content-Type", "application/octet-stream"), ("amz-sdk-invocation-id", "3f0d"), ("amz-sdk-request", "attempt=1; max=3"), ("X-Spaced", "  a   b  ")]
    assert signed(api.target, "POST", base + path(), b"hello", extra=extra).status == 410
    unsigned = [("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")]
    assert signed(api.target, "POST", base + path(), b"hello", extra=unsigned, payload_hash="UNSIGNED-PAYLOAD").status == 410


def altered(api, change, body=b"hello", to=None, **options):
    """A signed post whose headers were changed afterwards."""
    target = api.target
    url = api.base() + path()
    parts = urlsplit(url)
    access, secret, _ = target.keys()
    options = {"access_key": access, "secret": secret, "region": target.region, **options}
    headers = signed_headers("POST", parts.path, parts.netloc, b"hello", **options)
    return http(target, "POST", to or url, change(headers), body)


def authorization(value):
    return lambda headers: [(n, v) for n, v in headers if n != "Authorization"] + [("Authorization", value)]


def same(headers):
    return headers


@check(13, feature="signatures", how="own signer", what="No credentials: `MissingAuthenticationTokenException` `Missing Authentication Token`")
def test_missing(api):
    # AG-13
    reply = http(api.target, "POST", api.base() + path(), body=b"x")
    error(reply, "MissingAuthenticationTokenException", "Missing Authentication Token")
    if api.target.is_tidegate:
        golden_reply("management_403_missing_token.txt", reply)


INCOMPLETE = [
    ("AWS4-HMAC-SHA256 nonsense", {"Credential", "Signature", "SignedHeaders"}),
    ("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250115/us-east-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date", {"Signature"}),
    ("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250115/us-east-1/execute-api/aws4_request, Signature=00", {"SignedHeaders"}),
]


@check(13, feature="signatures", how="own signer", what="Parts missing from `Authorization`, or no date: `IncompleteSignatureException` says which")
@pytest.mark.parametrize("value,missing", INCOMPLETE, ids=["everything", "signature", "signed headers"])
def test_incomplete(api, value, missing):
    # AG-13
    reply = altered(api, authorization(value))
    error(reply, "IncompleteSignatureException")
    for name in ("Credential", "Signature", "SignedHeaders"):
        assert (f"Authorization header requires '{name}' parameter." in reply.json["message"]) == (name in missing)
    reply = altered(api, lambda headers: [(n, v) for n, v in headers if n != "X-Amz-Date"])
    error(reply, "IncompleteSignatureException")


@check(13, feature="signatures", how="boto3", what="Unknown access key: `UnrecognizedClientException`; wrong secret: `InvalidSignatureException`")
def test_wrong_keys(api):
    # AG-13
    with refused("UnrecognizedClientException", 403, "The security token included in the request is invalid."):
        api.management(keys=("AKIDUNKNOWN", "wrong")).get_connection(ConnectionId=UNKNOWN)
    access = api.target.keys()[0]
    with refused("InvalidSignatureException", 403) as e:
        api.management(keys=(access, "wrong")).get_connection(ConnectionId=UNKNOWN)
    assert e.text.startswith("The request signature we calculated does not match the signature you provided.")


@check(13, feature="signatures", how="own signer", what="A changed body, path, signed header or signature: `InvalidSignatureException` with its text")
@pytest.mark.parametrize("what", ["body", "path", "header", "signature"])
def test_altered(api, what):
    # AG-13
    if what == "body":
        reply = altered(api, same, body=b"hellO")
    elif what == "path":
        reply = altered(api, same, to=api.base() + path("AAAAAAAAAAAAAAA="))
    elif what == "header":
        reply = altered(api, lambda headers: [(n, "2" if n == "X-Extra" else v) for n, v in headers], extra=[("X-Extra", "1")])
    else:
        reply = altered(api, lambda headers: [(n, v[:-64] + "0" * 64 if n == "Authorization" else v) for n, v in headers])
    error(reply, "InvalidSignatureException", starts="The request signature we calculated does not match the signature you provided.")


@check(13, feature="signatures", how="own signer", what="Older than five minutes: `Signature expired: …`; five minutes ahead: `Signature not yet current: …`; just inside is accepted")
def test_clock(api):
    # AG-13
    old, ahead = amz_date(-330), amz_date(330)
    reply = altered(api, same, date=old)
    error(reply, "InvalidSignatureException", starts=f"Signature expired: {old} is now earlier than ")
    assert reply.json["message"].endswith(" - 5 min.)")
    reply = altered(api, same, date=ahead)
    error(reply, "InvalidSignatureException", starts=f"Signature not yet current: {ahead} is still later than ")
    assert reply.json["message"].endswith(" + 5 min.)")
    assert altered(api, same, date=amz_date(-270)).status == 410


@check(13, feature="signatures", how="own signer", what="Scope of the wrong service, region or day: `InvalidSignatureException` with the text of each")
def test_scope(api):
    # AG-13
    reply = altered(api, same, service="apigateway")
    error(reply, "InvalidSignatureException")
    assert "Credential should be scoped to correct service: 'execute-api'." in reply.json["message"]
    reply = altered(api, same, region="eu-north-1" if api.target.region != "eu-north-1" else "eu-west-1")
    error(reply, "InvalidSignatureException")
    assert "Credential should be scoped to a valid region" in reply.json["message"]
    reply = altered(api, same, scope_date="20250115")
    error(reply, "InvalidSignatureException", starts="Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:")


@check(13, feature="signatures", how="own signer", what="A signed header that is absent, a `host` that is not signed, a wrong `x-amz-content-sha256` are refused")
def test_signed_headers(api):
    # AG-13
    assert altered(api, lambda headers: [(n, v) for n, v in headers if n != "X-Extra"], extra=[("X-Extra", "1")]).status == 403
    wrong = "0" * 64
    assert altered(api, same, extra=[("X-Amz-Content-Sha256", wrong)], payload_hash=wrong).status == 403
    access, secret, _ = api.target.keys()
    date, url = amz_date(), api.base() + path()
    value, scope, _ = signature(
        "POST", urlsplit(url).path, [("X-Amz-Date", date)], ["x-amz-date"], b"hello", date, "execute-api", secret=secret, region=api.target.region
    )
    headers = [("X-Amz-Date", date), ("Authorization", f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders=x-amz-date, Signature={value}")]
    assert http(api.target, "POST", url, headers, b"hello").status == 403
