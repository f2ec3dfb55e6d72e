"""The whole loop through boto3 and the `websockets` library, both as published (AG-1, 8 to 12)."""

import datetime
import json
import re
import threading
import time

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as library_connect

from harness import aws
from harness.aws import make_api, refused

CONNECTION_ID = re.compile(r"^[A-Za-z0-9_-]{15}=$")
TRACE_ID = re.compile(r"^Root=1-[0-9a-f]{8}-[0-9a-f]{24}$")
UUID4 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


def connect(url, **options):
    return library_connect(url, proxy=None, max_size=None, ping_interval=None, **options)


def test_whole_loop(gateway, backend):
    """AG-1, S0-1, S0-24, S0-28: create, connect, message, disconnect; exactly three requests with the headers of 3.3."""
    v2 = aws.control(gateway)
    api = v2.create_api(Name="loop", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    assert re.fullmatch(r"[a-z0-9]{10}", api["ApiId"])
    assert api["ProtocolType"] == "WEBSOCKET"
    assert api["RouteSelectionExpression"] == "$request.body.action"
    assert api["ApiKeySelectionExpression"] == "$request.header.x-api-key"
    assert api["DisableExecuteApiEndpoint"] is False
    assert isinstance(api["CreatedDate"], datetime.datetime)
    assert api["ApiEndpoint"].startswith(("ws://", "wss://")) and api["ApiId"] in api["ApiEndpoint"]
    for key in ("$connect", "$disconnect", "$default"):
        integration = v2.create_integration(
            ApiId=api["ApiId"], IntegrationType="HTTP_PROXY", IntegrationMethod="POST",
            IntegrationUri=f"{backend.url}/{key[1:]}",
            RequestParameters={"integration.request.header.connectionId": "context.connectionId"},
        )
        assert integration["TimeoutInMillis"] == 29000
        assert integration["ConnectionType"] == "INTERNET"
        assert integration["PassthroughBehavior"] == "WHEN_NO_MATCH"
        route = v2.create_route(ApiId=api["ApiId"], RouteKey=key, Target=f"integrations/{integration['IntegrationId']}")
        assert re.fullmatch(r"[a-z0-9]{6,7}", route["RouteId"])
        assert (route["ApiKeyRequired"], route["AuthorizationType"]) == (False, "NONE")
    v2.create_stage(ApiId=api["ApiId"], StageName="prod")
    deployment = v2.create_deployment(ApiId=api["ApiId"], StageName="prod")
    assert deployment["DeploymentStatus"] == "DEPLOYED" and deployment["AutoDeployed"] is False

    url = f"ws://127.0.0.1:{gateway.port}/_aws/execute-api/{api['ApiId']}/prod?room=blue&lang=fr"
    with connect(url, user_agent_header="ExampleBrowser/1.0", origin="http://shop.example", additional_headers={"X-Custom": "kept"}) as ws:
        ws.send('{"action":"hello","n":1}')
        backend.wait(2)
        ws.close(1000, "done")
    opened, message, closed = backend.wait(3)

    assert [r.path for r in (opened, message, closed)] == ["/connect", "/default", "/disconnect"]
    assert len(backend.requests) == 3
    for r in (opened, message, closed):
        assert r.method == "POST"
        assert r.get("host") == f"127.0.0.1:{backend.port}"
        assert r.get("x-amzn-apigateway-api-id") == api["ApiId"]
        assert TRACE_ID.match(r.get("x-amzn-trace-id"))
        assert r.get("x-forwarded-for") == "127.0.0.1"
        assert r.get("x-real-ip") == "127.0.0.1"
        assert r.get("x-forwarded-proto") == "http"
        assert r.get("x-forwarded-port") == str(gateway.port)
        assert r.get("connection").lower() == "keep-alive"
        assert CONNECTION_ID.match(r.connection_id)
        assert "connectionId" in r.names, "header names keep the spelling of the mapping"
        assert r.get("transfer-encoding") is None
        assert r.get("upgrade") is None
    assert len({r.connection_id for r in (opened, message, closed)}) == 1
    assert len({r.get("x-amzn-trace-id") for r in (opened, message, closed)}) == 3

    assert opened.raw_query == "room=blue&lang=fr"
    assert (opened.body, opened.get("content-length"), opened.get("content-type")) == (b"", "0", None)
    assert opened.get("user-agent") == "ExampleBrowser/1.0"
    assert opened.get("origin") == "http://shop.example"
    assert opened.get("x-custom") == "kept"
    assert opened.get("sec-websocket-version") == "13"
    assert opened.get("sec-websocket-key") and opened.get("sec-websocket-extensions")

    assert message.body == b'{"action":"hello","n":1}'
    assert message.get("content-length") == "24"
    assert message.get("content-type") == "application/json"
    assert (closed.body, closed.get("content-length"), closed.get("content-type")) == (b"", "0", None)
    for r in (message, closed):
        assert r.raw_query == ""
        assert r.get("user-agent") == f"ExampleBrowser/1.0, AmazonAPIGateway_{api['ApiId']}"
        for name in ("origin", "x-custom", "cookie", "sec-websocket-key", "sec-websocket-version"):
            assert r.get(name) is None


def test_post_and_two_way(gateway, backend):
    """AG-1, AG-14, S0-85: a two-way reply and pushes that keep their order, byte for byte."""
    api = make_api(gateway, backend, routes=["$connect", ("$default", {"two_way": (True, True)})])
    backend.on("/default", body='{"echo":true}')
    push = api.management()
    with connect(api.url) as ws:
        ws.send("anything")
        assert ws.recv(10) == '{"echo":true}'
        connection = backend.one("/connect").connection_id
        sent = ["ünï\u2028cödé", "", "two", " spaced ", "\u0000"]
        for text in sent:
            reply = push.post_to_connection(ConnectionId=connection, Data=text.encode())
            assert reply["ResponseMetadata"]["HTTPStatusCode"] == 200
            assert UUID4.match(reply["ResponseMetadata"]["RequestId"])
        assert [ws.recv(10) for _ in sent] == sent


def test_post_sizes(gateway, api, backend):
    """AG-8, S0-84: 131072 bytes arrive intact; one more is PayloadTooLargeException."""
    push = api.management()
    with connect(api.url) as ws:
        connection = backend.one("/connect").connection_id
        text = ("0123456789abcdef" * 8192)
        assert len(text) == 131072
        push.post_to_connection(ConnectionId=connection, Data=text)
        assert ws.recv(10) == text
        with refused("PayloadTooLargeException", 413) as e:
            push.post_to_connection(ConnectionId=connection, Data=text + "x")
        assert e.kind == "PayloadTooLargeException"
        assert e.response["Error"]["Message"] == "Message too long"
        push.post_to_connection(ConnectionId=connection, Data=b"after")
        assert ws.recv(10) == "after"


def test_gone(gateway, api, backend):
    """AG-9: after the close boto3 raises its GoneException."""
    push = api.management()
    with connect(api.url):
        connection = backend.one("/connect").connection_id
    backend.one("/disconnect")
    for call in (push.get_connection, push.delete_connection):
        with refused("GoneException", 410) as e:
            call(ConnectionId=connection)
    with refused("GoneException", 410) as e:
        push.post_to_connection(ConnectionId=connection, Data=b"x")
    assert e.kind == "GoneException"


def test_post_inside_connect(gateway, api, backend):
    """AG-10 (5.4 case 1): posting from inside $connect is 410; the connection is good afterwards."""
    push = api.management()
    outcome = []

    def inside(request):
        for call in (
            lambda: push.post_to_connection(ConnectionId=request.connection_id, Data=b"early"),
            lambda: push.get_connection(ConnectionId=request.connection_id),
        ):
            try:
                call()
                outcome.append(200)
            except push.exceptions.GoneException as error:
                headers = error.response["ResponseMetadata"]["HTTPHeaders"]
                outcome.append((410, headers.get("x-tidegate-gone-reason")))

    backend.on("/connect", hook=inside)
    with connect(api.url) as ws:
        assert outcome == [(410, "handshake"), (410, "handshake")]
        connection = backend.one("/connect").connection_id
        push.post_to_connection(ConnectionId=connection, Data=b"late")
        assert ws.recv(10) == "late"


@pytest.mark.config('[management]\npending_posts = "queue"\n')
def test_post_inside_connect_queued(gateway, api, backend):
    """AG-10: with `pending_posts = "queue"` the post from inside $connect answers 200 and is the first message."""
    push = api.management()

    def inside(request):
        push.post_to_connection(ConnectionId=request.connection_id, Data=b"first")
        push.post_to_connection(ConnectionId=request.connection_id, Data=b"second")

    backend.on("/connect", hook=inside)
    with connect(api.url) as ws:
        push.post_to_connection(ConnectionId=backend.one("/connect").connection_id, Data=b"third")
        assert [ws.recv(10) for _ in range(3)] == ["first", "second", "third"]


@pytest.mark.config('[management]\npending_posts = "queue"\n')
@pytest.mark.logs("backend|connect")
def test_post_inside_refused_connect_queued(gateway, api, backend):
    """AG-10: a refused handshake delivers nothing and the id is gone."""
    push = api.management()
    ids = []

    def inside(request):
        ids.append(request.connection_id)
        push.post_to_connection(ConnectionId=request.connection_id, Data=b"lost")

    backend.on("/connect", status=403, body="no", hook=inside)
    with pytest.raises(InvalidStatus) as e:
        connect(api.url)
    assert e.value.response.status_code == 403
    with refused("GoneException", 410):
        push.post_to_connection(ConnectionId=ids[0], Data=b"x")


@pytest.mark.config('[management]\npending_posts = "hold"\nhold_ms = 3000\n')
def test_post_during_connect_held(gateway, api, backend):
    """5.4: with `pending_posts = "hold"` another caller's post waits for the 101."""
    push = api.management()
    results = []
    hold = threading.Event()
    posters = []

    def other(connection_id):
        reply = push.post_to_connection(ConnectionId=connection_id, Data=b"held")
        results.append(reply["ResponseMetadata"]["HTTPStatusCode"])

    def inside(request):
        poster = threading.Thread(target=other, args=(request.connection_id,))
        posters.append(poster)
        poster.start()
        # The post must be on its way before $connect is answered.
        poster.join(0.2)
        assert poster.is_alive(), "the post must wait for the 101"

    backend.on("/connect", hook=inside, hold=hold)
    hold.set()
    with connect(api.url) as ws:
        assert ws.recv(10) == "held"
        # The message can overtake the answer to whoever posted it.
        posters[0].join(10)
    assert results == [200]


@pytest.mark.parametrize("bad", ["abc", "R0oXAdfD0kwCH6w=x", "3f0d6f0e-8f2b-4b68-9f0e-0c1d2e3f4a5b", "R0oXAdfD0kwCH6ww", "R0oXAdfD0kw CH6="])
def test_malformed_id(api, bad):
    """AG-11, 5.2: a malformed id is BadRequestException with the id in the text, for all three operations."""
    push = api.management()
    text = f"Invalid connectionId: {bad}"
    with refused("BadRequestException", 400, text):
        push.post_to_connection(ConnectionId=bad, Data=b"x")
    with refused("BadRequestException", 400, text):
        push.get_connection(ConnectionId=bad)
    with refused("BadRequestException", 400, text):
        push.delete_connection(ConnectionId=bad)


@pytest.mark.config('[management]\ninvalid_id = "410"\n')
def test_malformed_id_as_gone(api):
    """5.2: `management.invalid_id = "410"`."""
    with refused("GoneException", 410):
        api.management().post_to_connection(ConnectionId="abc", Data=b"x")


@pytest.mark.parametrize("foreign", ["R0oXAdfD0kwCH6w=", "AAAAAAAAAAAAAAA=", "_-_-_-_-_-_-_-_="])
def test_well_formed_foreign_id(api, foreign):
    """S0-84, S0-111: every well-formed id this gateway never issued is 410, never 400 or 403."""
    with refused("GoneException", 410):
        api.management().post_to_connection(ConnectionId=foreign, Data=b"x")


def test_get_and_delete(gateway, api, backend):
    """AG-12, S0-87: GET has ISO dates; DELETE closes with 1000 and leads to $disconnect; a second one is 410."""
    v2 = api.control
    for item in v2.get_integrations(ApiId=api.id)["Items"]:
        v2.update_integration(
            ApiId=api.id, IntegrationId=item["IntegrationId"],
            RequestParameters={
                "integration.request.header.Close-Code": "context.disconnectStatusCode",
                "integration.request.header.Close-Reason": "context.disconnectReason",
            },
        )
    api.deploy()
    push = api.management()
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)
    with connect(api.url, user_agent_header="ExampleBrowser/1.0") as ws:
        connection = backend.one("/connect").connection_id
        info = push.get_connection(ConnectionId=connection)
        assert info["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "ExampleBrowser/1.0"}
        assert before <= info["ConnectedAt"] <= info["LastActiveAt"] <= datetime.datetime.now(datetime.timezone.utc)
        reply = push.delete_connection(ConnectionId=connection)
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
        with pytest.raises(ConnectionClosed):
            ws.recv(10)
        assert (ws.close_code, ws.close_reason) == (1000, "Connection Closed Normally")
    closed = backend.one("/disconnect")
    assert closed.connection_id == connection
    assert closed.get("Close-Code") == "1000"
    assert closed.get("Close-Reason") == "Connection Closed Normally"
    with refused("GoneException", 410):
        push.delete_connection(ConnectionId=connection)
    assert len(backend.at("/disconnect")) == 1


def test_last_active_moves(gateway, api, backend):
    """5.1: lastActiveAt follows traffic in both directions."""
    push = api.management()
    with connect(api.url) as ws:
        connection = backend.one("/connect").connection_id
        first = push.get_connection(ConnectionId=connection)["LastActiveAt"]
        deadline = time.monotonic() + 5

        def moved(since):
            while time.monotonic() < deadline:
                now = push.get_connection(ConnectionId=connection)["LastActiveAt"]
                if now > since:
                    return now
                ws.send("x")
            raise AssertionError("lastActiveAt did not move")

        moved(first)


def test_wrong_keys(gateway, api, backend):
    """AG-13, S0-84: wrong secret and unknown key have named codes through boto3, never 410."""
    with connect(api.url):
        connection = backend.one("/connect").connection_id
        wrong = aws.client("apigatewaymanagementapi", api.endpoint, access_key="AKIDEXAMPLE", secret="wrong")
        with refused("InvalidSignatureException", 403):
            wrong.post_to_connection(ConnectionId=connection, Data=b"x")
        unknown = aws.client("apigatewaymanagementapi", api.endpoint, access_key="AKIDUNKNOWN", secret="wrong")
        with refused("UnrecognizedClientException", 403, "The security token included in the request is invalid."):
            unknown.post_to_connection(ConnectionId=connection, Data=b"x")
    with refused("InvalidSignatureException", 403):
        aws.client("apigatewayv2", gateway.admin_url, access_key="AKIDEXAMPLE", secret="wrong").get_apis()


def test_endpoint_without_stage(gateway, api):
    """5.1, 5.3: an endpoint without the stage is refused with 403."""
    push = api.management(endpoint=f"http://127.0.0.1:{gateway.port}/_aws/execute-api/{api.id}")
    with refused("ForbiddenException", 403, "Forbidden"):
        push.post_to_connection(ConnectionId="R0oXAdfD0kwCH6w=", Data=b"x")
    # A trailing slash on the right endpoint makes no difference.
    with refused("GoneException", 410):
        api.management(endpoint=api.endpoint + "/").post_to_connection(ConnectionId="R0oXAdfD0kwCH6w=", Data=b"x")


def test_other_api_is_gone(gateway, backend, api):
    """5.2: a connection of another API is 410."""
    other = make_api(gateway, backend, name="other")
    with connect(api.url):
        connection = backend.one("/connect").connection_id
        with refused("GoneException", 410):
            other.management().post_to_connection(ConnectionId=connection, Data=b"x")
        api.management().get_connection(ConnectionId=connection)


def test_many_pushes_in_parallel(gateway, api, backend):
    """S0-36: ten callers over kept-alive connections; each message whole, each caller's order kept."""
    with connect(api.url) as ws:
        connection = backend.one("/connect").connection_id
        push = api.management(max_pool_connections=10)

        def caller(number):
            for index in range(20):
                push.post_to_connection(ConnectionId=connection, Data=json.dumps([number, index]).encode())

        callers = [threading.Thread(target=caller, args=(n,)) for n in range(10)]
        for thread in callers:
            thread.start()
        got = [json.loads(ws.recv(10)) for _ in range(200)]
        for thread in callers:
            thread.join()
    for number in range(10):
        assert [i for n, i in got if n == number] == list(range(20))


def test_operations_endpoints(gateway, api, backend):
    """Operations: health, readiness, metrics of the admin listener need no signature."""
    for path in ("/healthz", "/readyz"):
        assert requests.get(gateway.admin_url + path, timeout=5).status_code == 200
    with connect(api.url):
        backend.one("/connect")
        assert gateway.metric("tidegate_connections") == 1
    backend.one("/disconnect")
    assert gateway.metric("tidegate_connections") == 0
    assert gateway.metric("tidegate_connects_total") >= 1
