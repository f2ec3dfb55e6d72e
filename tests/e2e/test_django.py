"""The Django package 4.1.0 as published, under gunicorn, provisioned by its own commands (S0-108's list).

The gateway's certificates come from its local CA; pushes go to the package's fixed address through the CONNECT
proxy (S0-33 (2)), and in one test through the TLS listener (S0-33 (1)).
"""

import json
import re
import socket
import ssl
import threading
from collections import Counter

import pytest
from websockets.sync.client import connect as library_connect

from harness import aws, raw
from harness.django_site import CONFIG, CommandFailed, Stack, read_json
from harness.raw import CLOSE, TEXT
from harness.wait import until

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One site and gateway for the tests that do not change their settings; users and channels are the test's own."""
    stack = Stack(tmp_path_factory.mktemp("django"))
    stack.record = stack.site.provision("shared")
    yield stack
    stack.close()


@pytest.fixture
def make_stack(tmp_path):
    made = []

    def make(**options):
        stack = Stack(tmp_path / f"stack{len(made)}", **options)
        made.append(stack)
        return stack

    yield make
    failures = []
    for stack in made:
        try:
            stack.close()
        except AssertionError as error:
            failures.append(str(error))
            stack.close(check=False)
    assert not failures, "\n".join(failures)


def say(ws, **message):
    ws.text(json.dumps(message))


# -- provisioning --------------------------------------------------------------------------------


def test_create_api_gateway(shared):
    """S0-1, S0-4, S0-6, S0-14: `createApiGateway` ends at `deployed` with everything in place; a second run says so."""
    record = shared.record
    assert record["provisioning_status"] == "deployed" and record["last_error"] == ""
    assert re.fullmatch(r"[a-z0-9]{10}", record["api_id"]) and record["deployment_id"]
    v2 = aws.control(shared.gateway)
    api = v2.get_api(ApiId=record["api_id"])
    assert (api["Name"], api["Description"], api["DisableSchemaValidation"]) == ("shared", "", True)
    routes = {r["RouteKey"]: r for r in v2.get_routes(ApiId=record["api_id"])["Items"]}
    assert set(routes) == {"$connect", "$disconnect", "$default"}
    assert routes["$default"]["RouteResponseSelectionExpression"] == "$default"
    assert v2.get_stage(ApiId=record["api_id"], StageName="production")["DeploymentId"] == record["deployment_id"]
    with pytest.raises(CommandFailed) as e:
        shared.site.manage("createApiGateway", "--pk", record["pk"])
    assert "already created" in e.value.err


def test_resume_an_existing_api(shared):
    """S0-110, S0-9: an empty API made elsewhere, the record set to "API created": the command adds what is missing."""
    v2 = aws.control(shared.gateway)
    api = v2.create_api(Name="moved", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    pk = shared.site.gateway_record("moved", api_id=api["ApiId"], api_endpoint=api["ApiEndpoint"], api_created=True, provisioning_status="api_created")
    shared.site.manage("createApiGateway", "--pk", pk)
    record = shared.site.record(pk)
    assert (record["provisioning_status"], record["api_id"]) == ("deployed", api["ApiId"])
    ws = shared.site.connect(record, "mover")
    say(ws, action="hello")
    assert read_json(ws)["user"] == "mover"
    ws.close(1000)


def test_resume_at_every_step(shared):
    """S0-7, S0-14: a run that stopped with routes, or with the stage, resumes: the conflict is a ConflictException."""
    v2 = aws.control(shared.gateway)
    pk = shared.site.gateway_record("half")
    shared.site.manage("createApiGateway", "--pk", pk)
    api_id = shared.site.record(pk)["api_id"]
    for status in ("routes_created", "api_created"):
        if status == "api_created":  # stopped before the stage was made
            v2.delete_stage(ApiId=api_id, StageName="production")
        shared.site.run("ApiGateway.objects.filter(pk=pk).update(provisioning_status=status)", pk=pk, status=status)
        shared.site.manage("createApiGateway", "--pk", pk)
        record = shared.site.record(pk)
        assert record["provisioning_status"] == "deployed" and record["last_error"] == ""
        assert len(v2.get_routes(ApiId=record["api_id"])["Items"]) == 3


def test_errors_are_recorded_with_their_code(shared):
    """S0-2: `last_error` holds the class and the code, not a bare number."""
    pk = shared.site.gateway_record("broken", api_id="aaaaaaaaaa", api_created=True, provisioning_status="api_created")
    with pytest.raises(CommandFailed):
        shared.site.manage("createApiGateway", "--pk", pk)
    assert shared.site.record(pk)["last_error"] == "NotFoundException: NotFoundException"


# -- connect ---------------------------------------------------------------------------------------


def test_connect_with_a_token(shared):
    """S0-18 to S0-31, S0-37: the unmodified checks accept; the row has user, channel and gateway."""
    ws = shared.site.connect(shared.record, "alice", "general")
    assert shared.site.row(ws) == {"connected": True, "channel": "general", "user": "alice", "count": 1, "gateway": shared.record["pk"]}
    assert re.fullmatch(r"[A-Za-z0-9_=-]{1,128}", ws.id)
    ws.close(1000, "bye")
    shared.site.wait_row(ws, connected=False)


def test_every_refusal(shared):
    """S0-37, S0-39, S0-105 (4.1): each check's status and text reach the client; no row appears."""
    site, record = shared.site, shared.record
    session = site.login("refused")
    rows = site.run("result = WebSocketSession.objects.count()")

    def refused(status, text, *, record=record, **options):
        options.setdefault("session", session)
        ws = site.open(record, **options)
        assert (ws.status, ws.reply.text) == (status, text), (ws.status, ws.reply.text)

    # 6: five handshake headers, one by one.
    refused(400, "Missing 1 headers", omit=("Cookie",))
    refused(400, "Missing 1 headers", omit=("Origin",))
    refused(400, "Missing 1 headers", omit=("Sec-WebSocket-Extensions",))
    refused(400, "Missing 3 headers", omit=("Cookie", "Origin", "Sec-WebSocket-Extensions"))
    # 9: the page's origin.
    refused(400, "Host is not in Origin", origin="http://evil.example")
    refused(400, "Host is not in Origin", origin=f"https://127.0.0.1:{site.port + 1}")
    # 10: the channel, before the token is spent.
    token = site.token(session)
    refused(400, "Invalid channel", token=token, query=["channel=not%20valid!"])
    # 11 and 12: session and token.
    refused(400, "Invalid session", session="nosuchsession", token=token)
    refused(400, "Invalid or expired token")
    refused(400, "Invalid or expired token", token="0" * 64)
    refused(400, "Invalid or expired token", session=site.login("other"), token=token)
    ws = site.open(record, session, token)
    assert ws.status == 101
    ws.close(1000)
    refused(400, "Invalid or expired token", token=token)
    # 13: the channel's permission; 14: the project's own check.
    site.run("ChannelPermission.objects.get_or_create(channel_name='staff', defaults={'access': 'staff_only'})")
    refused(403, "Permission Denied", token=site.token(session), query=["channel=staff"])
    refused(400, "the project refuses", token=site.token(session), query=["refuse=1"])
    assert site.run("result = WebSocketSession.objects.count()") == rows + 1
    # A member of staff may.
    site.login("boss", is_staff=True)
    ws = site.connect(record, "boss", "staff")
    ws.close(1000)


def test_unregistered_api(shared):
    """4.1 row 2: an API id the package does not know is 400 `Invalid request headers`."""
    site = shared.site
    v2 = aws.control(shared.gateway)
    api = v2.create_api(Name="foreign", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")["ApiId"]
    handle = aws.Api(shared.gateway, v2, api, "production")
    for key in ("$connect", "$default"):
        aws.add_route(handle, key, None, IntegrationUri=f"{site.url}/ws/{key[1:]}")
    v2.create_stage(ApiId=api, StageName="production")
    handle.deploy()
    ws = site.open({"api_id": api, "stage_name": "production"}, site.login("alice"))
    assert (ws.status, ws.reply.text) == (400, "Invalid request headers")


def test_connection_limit(shared):
    """S0-19, 4.1 row 5: attempts are counted by client address; one address's limit is not another's."""
    site = shared.site
    record = site.provision("limited", "limited")
    session = site.login("limited")
    for _ in range(2):
        ws = site.open(record, session, site.token(session), source="127.0.0.77")
        assert ws.status == 101
        ws.wire.close()
    ws = site.open(record, session, site.token(session), source="127.0.0.77")
    assert (ws.status, ws.reply.text) == (400, "Too many connection attempts")
    other = site.login("unlimited")
    ws = site.open(record, other, site.token(other), source="127.0.0.78")
    assert ws.status == 101
    ws.wire.close()
    addresses = site.run("result = sorted(set(ConnectionRateLimit.objects.values_list('ip_address', flat=True)))")
    assert {"127.0.0.77", "127.0.0.78"} <= set(addresses) and "0.0.0.0" not in addresses


def test_host_not_allowed(shared):
    """4.1 row 8, S0-18, S0-105: `Host` is the integration's authority as written; without its port in ALLOWED_HOSTS it is refused."""
    site = shared.site
    pk = site.run(
        "r = ApiGateway(api_name='byname', target_base_endpoint=url)\nr.save()\nresult = r.pk", url=f"http://localhost:{site.port}/ws/"
    )
    site.manage("createApiGateway", "--pk", pk)
    session = site.login("alice")
    ws = site.open(site.record(pk), session, site.token(session), origin=f"http://localhost:{site.port}")
    assert ws.status == 400 and ws.reply.text.startswith("Host is not in AllowedHosts")


def test_user_agent_checks(make_stack):
    """S0-22, 4.1 row 4: a view that demands the gateway's own User-Agent needs `integration.user_agent = "gateway"`."""
    stack = make_stack()
    site = stack.site
    record = site.provision("strict", "strict")
    session = site.login("alice")
    ws = site.open(record, session, site.token(session))
    assert (ws.status, ws.reply.text) == (400, "Unexpected Useragent")
    stack.gateway.stop()
    stack.gateway.config = f'[apis.{record["api_id"]}.integration]\nuser_agent = "gateway"\n' + CONFIG
    stack.gateway.start()
    site.restart()
    ws = site.connect(record, "alice")
    say(ws, action="nothing")
    until(lambda: site.row(ws)["count"] == 2, "the message")
    ws.close(1000)


def test_host_header_override(make_stack):
    """S0-32: a loopback backend whose Host must match the page's origin, with `integration.host_header` of its API."""
    stack = make_stack(allowed_hosts=["127.0.0.1", "app.example.com"])
    site = stack.site
    record = site.provision("named")
    stack.gateway.stop()
    stack.gateway.config = f'[apis.{record["api_id"]}.integration]\nhost_header = "app.example.com"\n' + CONFIG
    stack.gateway.start()
    site.restart()
    ws = site.connect(record, "alice", origin="https://www.app.example.com")
    say(ws, handler="hello")
    assert read_json(ws)["user"] == "alice"
    ws.close(1000)
    site.wait_row(ws, connected=False)


# -- messages ---------------------------------------------------------------------------------------


def test_handlers(shared):
    """S0-47, S0-48, S0-50: default, named, unlisted and failing handlers; replies are pushes from inside the handler."""
    ws = shared.site.connect(shared.record, "handler", "handlers")
    say(ws, action="anything", n=1)
    assert read_json(ws) == {"handler": "default", "body": {"action": "anything", "n": 1}}
    say(ws, handler="hello")
    assert read_json(ws) == {"handler": "hello", "user": "handler", "channel": "handlers"}
    say(ws, action="hello")
    assert read_json(ws)["handler"] == "hello"
    say(ws, handler="connect")
    assert read_json(ws)["handler"] == "default"
    say(ws, handler="_debug")
    assert read_json(ws)["handler"] == "default"
    for text in ("no json", "[1]", '{"other":1}', ""):
        ws.text(text)  # 400 `Invalid request format (1)`: not sent to the client (S0-49)
    say(ws, handler="fail")  # 500: the connection stays (S0-49)
    say(ws, handler="hello")
    assert read_json(ws)["handler"] == "hello"
    ws.close(1000)
    shared.site.wait_row(ws, connected=False)


def test_additional_route_and_permissions(shared):
    """S0-8, S0-12: an additional route to another view, both permission forms, deletion; live for open connections."""
    site = shared.site
    record = site.provision("routes")
    ws = site.connect(record, "carol")
    add = (
        "g = ApiGateway.objects.get(pk=pk)\nr = ApiGatewayAdditionalRoute(api_gateway=g, name=key, route_key=key, integration_url=url)\n"
        "r.save()\nresult = [r.route_id, r.integration_id, r.deployed]"
    )
    for key in ("orders", "any", "all"):
        ids = site.run(add, pk=record["pk"], key=key, url=f"{site.url}/{key}/default")
        assert ids[0] and ids[1] and ids[2] is True

    def answered():
        """The messages before this one have been handled, and had no reply."""
        say(ws, handler="hello")
        assert read_json(ws)["handler"] == "hello"

    say(ws, action="orders", item=5)
    assert read_json(ws) == {"view": "orders", "body": {"action": "orders", "item": 5}}
    say(ws, action="any")  # refused: no permission
    say(ws, action="all")
    answered()
    grant = "User.objects.get(username='carol').user_permissions.add(Permission.objects.get(codename=name))"
    site.run(grant, name="view_user")
    say(ws, action="any")
    assert read_json(ws) == {"view": "any"}
    say(ws, action="all")  # refused: one of two
    answered()
    site.run(grant, name="add_user")
    say(ws, action="all")
    assert read_json(ws) == {"view": "all"}
    # Changed key and URL are pushed to the gateway and live at once.
    site.run("r = ApiGatewayAdditionalRoute.objects.get(route_key='orders', api_gateway_id=pk)\nr.route_key = 'bestellungen'\nr.save()", pk=record["pk"])
    say(ws, action="bestellungen")
    assert read_json(ws)["view"] == "orders"
    say(ws, action="orders")
    assert read_json(ws)["handler"] == "default"
    # Deleting the record removes route and integration, in this order.
    site.run("ApiGatewayAdditionalRoute.objects.get(route_key='bestellungen', api_gateway_id=pk).delete()", pk=record["pk"])
    say(ws, action="bestellungen")
    assert read_json(ws)["handler"] == "default"
    v2 = aws.control(shared.gateway)
    assert {r["RouteKey"] for r in v2.get_routes(ApiId=record["api_id"])["Items"]} == {"$connect", "$disconnect", "$default", "any", "all"}
    assert len(v2.get_integrations(ApiId=record["api_id"])["Items"]) == 5
    ws.close(1000)


def test_change_channel(shared):
    """S0-108: `change_channel` moves the connection; pushes to the new channel arrive, to the old one not."""
    ws = shared.site.connect(shared.record, "mover2", "first")
    say(ws, handler="change_channel", channel="second")
    shared.site.wait_row(ws, channel="second")
    send = "result = len(WebSocketSession.objects.filter(channel_name=name).send_message({'to': name}))"
    assert shared.site.run(send, name="first") == 0
    assert shared.site.run(send, name="second") == 1
    assert read_json(ws) == {"to": "second"}
    ws.close(1000)


def test_pushes(shared):
    """S0-36, S0-84, S0-85: to a session, a channel, a user and everyone, over two APIs; from a handler too."""
    site = shared.site
    other = site.provision("second")
    a1 = site.connect(shared.record, "anna", "push")
    a2 = site.connect(other, "anna", "push")
    b1 = site.connect(shared.record, "bert", "push")
    c1 = site.connect(other, "cleo", "elsewhere")
    everyone = (a1, a2, b1, c1)
    mine = [ws.row for ws in everyone]
    site.run("WebSocketSession.objects.get(pk=pk).send_message({'to': 'session'})", pk=a1.row)
    assert read_json(a1) == {"to": "session"}
    assert site.run("result = len(WebSocketSession.objects.filter(channel_name='push').send_message({'to': 'channel'}))") == 3
    assert [read_json(ws) for ws in (a1, a2, b1)] == [{"to": "channel"}] * 3
    assert site.run("result = len(User.objects.get(username='anna').websocket_sessions.filter(connected=True).send_message({'to': 'anna'}))") == 2
    assert [read_json(ws) for ws in (a1, a2)] == [{"to": "anna"}] * 2
    assert site.run("result = len(WebSocketSession.objects.filter(pk__in=mine).send_message({'to': 'all'}))", mine=mine) == 4
    assert [read_json(ws) for ws in everyone] == [{"to": "all"}] * 4
    say(b1, handler="shout", text="from a handler")
    assert [read_json(ws)["text"] for ws in (a1, a2, b1)] == ["from a handler"] * 3
    for ws in everyone:
        ws.close(1000)


def test_largest_messages(shared):
    """S0-52, S0-84: 131,072 bytes both ways."""
    ws = shared.site.connect(shared.record, "big", "big")
    body = json.dumps({"action": "size", "pad": ""})
    body = body[:-2] + "x" * (131072 - len(body)) + body[-2:]
    assert len(body) == 131072
    for start in range(0, 131072, 32768):
        ws.send(TEXT if start == 0 else 0, body[start : start + 32768], fin=start + 32768 == 131072)
    assert read_json(ws) == {"handler": "size", "bytes": 131072}
    shared.site.run("WebSocketSession.objects.get(pk=pk).send_message({'p': 'y' * (131072 - 9)})", pk=ws.row)
    assert len(json.dumps(read_json(ws))) == 131072
    ws.close(1000)


# -- the end of connections ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "delete", "no code"])
def test_disconnects(shared, how):
    """S0-55, S0-87: the row is set to disconnected once, whoever ended the connection; the id answers 410."""
    site = shared.site
    ws = site.connect(shared.record, "leaver", "leave")
    if how == "close":
        ws.close(1000, "done")
    elif how == "no code":
        ws.close()
    elif how == "reset":
        ws.reset()
    else:
        api = aws.Api(shared.gateway, None, shared.record["api_id"], "production")
        api.management().delete_connection(ConnectionId=ws.id)
        assert ws.closed() == (1000, "Connection Closed Normally")
    # request_count: +1 for the disconnect event, so 2 says it came exactly once.
    site.wait_row(ws, connected=False)
    assert site.row(ws)["count"] == 2


def test_gone_corrects_the_row(shared):
    """S0-84, S0-56: 410 sets the row to disconnected, for one push and for a broadcast, and does not raise."""
    site = shared.site
    ws = site.connect(shared.record, "gone", "gone")
    ws.close(1000)
    site.wait_row(ws, connected=False)
    site.run("WebSocketSession.objects.filter(pk=pk).update(connected=True)", pk=ws.row)
    assert site.run("result = WebSocketSession.objects.get(pk=pk).send_message({})", pk=ws.row) is None
    assert site.row(ws)["connected"] is False
    site.run("WebSocketSession.objects.filter(pk=pk).update(connected=True)", pk=ws.row)
    alive = site.connect(shared.record, "still", "gone")
    assert site.run("result = len(WebSocketSession.objects.filter(channel_name='gone').send_message({'x': 1}))") == 1
    assert read_json(alive) == {"x": 1}
    assert site.row(ws)["connected"] is False and site.row(alive)["connected"] is True
    alive.close(1000)


def test_rows_of_another_gateway(shared):
    """S0-111: ids left over from Amazon's gateway answer 410, so the package corrects their rows."""
    site = shared.site
    pk = site.run(
        "result = WebSocketSession.objects.create(connection_id='R0oXAdfD0kwCH6w=', api_gateway_id=pk).pk", pk=shared.record["pk"]
    )
    site.run("WebSocketSession.objects.get(pk=pk).send_message({})", pk=pk)
    assert site.run("result = WebSocketSession.objects.get(pk=pk).connected", pk=pk) is False


def test_push_through_the_tls_listener(make_stack):
    """S0-33 (1): the package's fixed address reaches the TLS listener; a name override stands for the hosts entry."""
    stack = make_stack(proxy=False)
    site = stack.site
    record = site.provision("tls")
    # From the worker process only: no proxy, the name resolves to the gateway, the CA is the local one.
    ws = site.connect(record, "tls", "tls")
    site.run(
        """
        import socket
        real = socket.getaddrinfo
        def resolve(host, port_, *a, **k):
            if host.endswith(".execute-api.us-east-1.amazonaws.com") and port_ == 443:
                return real("127.0.0.1", tls_port, *a, **k)
            return real(host, port_, *a, **k)
        socket.getaddrinfo = resolve
        WebSocketSession.objects.get(pk=pk).send_message({"over": "tls"})
        """,
        tls_port=stack.gateway.tls_port, pk=ws.row,
    )
    assert read_json(ws) == {"over": "tls"}
    ws.close(1000)


def test_proxy_only_for_its_names(shared):
    """S0-33 (2): the CONNECT proxy serves the execute-api names and nothing else."""
    wire = raw.Wire(shared.gateway.proxy_port)
    target = f"127.0.0.1:{shared.site.port}"
    wire.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert wire.response("CONNECT").status in (403, 405)
    wire.close()


def test_client_over_tls(shared):
    """S0-44, S0-21: a wss client of the API's own name; the backend sees https and the client's port."""
    site, record = shared.site, shared.record
    name = f"{record['api_id']}.execute-api.us-east-1.amazonaws.com"
    session = site.login("tls-client")
    context = ssl.create_default_context(cafile=str(shared.gateway.data_dir / "certs/ca.pem"))
    sock = socket.create_connection(("127.0.0.1", shared.gateway.tls_port))
    with library_connect(
        f"wss://{name}/production?ws_token={site.token(session)}&channel=tls", sock=sock, ssl=context, server_hostname=name, origin=site.origin,
        additional_headers={"Cookie": f"sessionid={session}"}, proxy=None, ping_interval=None,
    ) as ws:
        ws.send('{"handler":"hello"}')
        assert json.loads(ws.recv(10)) == {"handler": "hello", "user": "tls-client", "channel": "tls"}


# -- secret, sync, domain, clean-up ----------------------------------------------------------------------


def test_secret_and_rotation(make_stack):
    """S0-10, S0-23, S0-108: the secret is added and rotated by the package's command while a connection stays open."""
    stack = make_stack()
    site = stack.site
    record = site.provision("secret")
    ws = site.connect(record, "sid", "s")
    first, second = "first-secret-of-at-least-32-characters", "second-secret_of.at~least+32/characters="

    def hello():
        say(ws, handler="hello")
        return read_json(ws)["user"] == "sid"

    assert hello()
    # The backend demands it, the gateway does not send it yet.
    site.restart({"gateway_secret": first})
    session = site.login("sid")
    refused = site.open(record, session, site.token(session))
    assert (refused.status, refused.reply.text) == (403, "Invalid request")
    out = site.manage("updateApiGatewayIntegrations", "--dry-run")
    assert out.count("would update") == 3 and "deployed" not in out
    out = site.manage("updateApiGatewayIntegrations")
    assert out.count(": updated ") == 3 and out.count(": deployed") == 1
    assert site.manage("updateApiGatewayIntegrations").count("is up to date") == 3
    assert hello()
    # Rotation: both are accepted, the new one is sent, then the old one goes.
    site.restart({"gateway_secret": [second, first]})
    assert hello()
    assert site.manage("updateApiGatewayIntegrations", "--pk", record["pk"]).count(": updated ") == 3
    site.restart({"gateway_secret": second})
    assert hello()
    # A client cannot bring its own.
    session = site.login("sid")
    headers = site.headers(session) + [("X-Ws-Gateway-Secret", first), ("x-ws-gateway-secret", "x")]
    target = f"/_aws/execute-api/{record['api_id']}/production?ws_token={site.token(session)}"
    forged = raw.RawWs(stack.gateway.port, target, headers=headers)
    assert forged.status == 101
    forged.close(1000)
    assert second not in stack.gateway.log_text()
    ws.close(1000)
    site.wait_row(ws, connected=False)


def test_sync_both_ways(shared):
    """S0-5, S0-16: a second sync reports nothing; changes go out and come in."""
    site = shared.site
    record = site.provision("sync")
    pk = record["pk"]
    push = "result = ApiGateway.objects.get(pk=pk).sync_to_aws()"
    pull = "result = ApiGateway.objects.get(pk=pk).sync_from_aws()"
    assert site.run(push, pk=pk) == []
    assert site.run(pull, pk=pk) == []
    v2 = aws.control(shared.gateway)
    # Changed at the gateway: seen by a pull, put back by a push.
    v2.update_api(ApiId=record["api_id"], Description="changed there")
    changes = site.run(pull, pk=pk)
    assert changes and site.record(pk)["api_description"] == "changed there"
    assert site.run(pull, pk=pk) == []
    # Changed in the record: saving pushes and deploys.
    deployment = site.record(pk)["deployment_id"]
    site.run(
        "g = ApiGateway.objects.get(pk=pk)\ng.api_description = ''\ng.route_selection_expression = '$request.body.kind'\ng.stage_description = 'st'\ng.save()", pk=pk
    )
    api = v2.get_api(ApiId=record["api_id"])
    assert (api["Description"], api["RouteSelectionExpression"]) == ("", "$request.body.kind")
    after = site.record(pk)["deployment_id"]
    assert after != deployment
    assert v2.get_deployment(ApiId=record["api_id"], DeploymentId=after)["Description"] == "st"
    assert site.run(push, pk=pk) == [] and site.run(pull, pk=pk) == []
    # A foreign route is taken in by a pull; one that vanished is created again by a push.
    handle = aws.Api(shared.gateway, v2, record["api_id"], "production")
    route, _ = aws.add_route(handle, "extra", None, IntegrationUri=f"{site.url}/orders/default")
    assert site.run(pull, pk=pk)
    assert site.run("result = list(ApiGatewayAdditionalRoute.objects.filter(api_gateway_id=pk).values_list('route_key', flat=True))", pk=pk) == ["extra"]
    v2.delete_route(ApiId=record["api_id"], RouteId=route)
    assert site.run(push, pk=pk)
    assert "extra" in {r["RouteKey"] for r in v2.get_routes(ApiId=record["api_id"])["Items"]}
    assert site.run(push, pk=pk) == []
    # The target: three integrations follow, and the path through them works.
    site.run("g = ApiGateway.objects.get(pk=pk)\ng.target_base_endpoint = url\ng.save()", pk=pk, url=f"http://127.0.0.1:{site.port}/ws")
    assert site.run(push, pk=pk) == []
    ws = site.connect(site.record(pk), "sync")
    ws.close(1000)


def test_custom_domain(shared):
    """S0-6, S0-11, S0-44, S0-99: `createCustomDomain`, then a client of the domain; a second run changes nothing."""
    site = shared.site
    record = site.provision("domain", domain_name="ws.site.example", certificate_arn="arn:aws:acm:eu-west-9:1:certificate/any", hosted_zone_id="Z2")
    assert site.manage("createCustomDomain", "--pk", record["pk"]) == ""
    record = site.record(record["pk"])
    assert record["provisioning_status"] == "mapped" and record["api_mapping_id"] and record["api_gateway_domain_name"]
    with pytest.raises(CommandFailed):
        site.manage("createCustomDomain", "--pk", record["pk"])
    session = site.login("visitor")
    for path in ("/?", "?"):
        target = f"/?ws_token={site.token(session)}&channel=dom"
        ws = raw.RawWs(shared.gateway.port, target, host="ws.site.example", headers=site.headers(session))
        assert ws.status == 101
        say(ws, handler="hello")
        assert read_json(ws) == {"handler": "hello", "user": "visitor", "channel": "dom"}
        ws.close(1000)


def test_simultaneous_connects(shared):
    """S0-31, S0-107: forty connects at once, each with its own token; every row once."""
    site, record = shared.site, shared.record
    sessions = [site.login(f"crowd{n}") for n in range(8)]
    tokens = [(s, site.token(s)) for s in sessions for _ in range(5)]
    results = []

    def one(session, token):
        results.append(site.open(record, session, token, ["channel=crowd"]))

    threads = [threading.Thread(target=one, args=pair) for pair in tokens]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert Counter(ws.status for ws in results) == {101: 40}
    count = "result = WebSocketSession.objects.filter(channel_name='crowd', connected=True).count()"
    assert site.run(count) == 40
    assert site.run("result = len(WebSocketSession.objects.filter(channel_name='crowd').send_message({'n': 1}))") == 40
    for ws in results:
        assert read_json(ws) == {"n": 1}
        ws.send(CLOSE, b"\x03\xe8")
    until(lambda: site.run(count) == 0, "every row to be disconnected", 20)


def test_client_leaves_during_connect(shared):
    """S0-40: the client leaves while the package stores the row: $disconnect follows and the row is not left connected."""
    site, record = shared.site, shared.record
    session = site.login("hasty")
    tokens = [site.token(session) for _ in range(5)]
    clients = [site.open(record, session, token, ["channel=hasty", "slow=1"], wait=False) for token in tokens]
    used = "result = WebSocketToken.objects.filter(token__in=tokens, used=True).count()"
    until(lambda: site.run(used, tokens=tokens) == 5, "the package to be in the middle of connect")
    rows = "result = [WebSocketSession.objects.filter(channel_name='hasty', **f).count() for f in ({}, {'connected': True})]"
    assert site.run(rows) == [0, 0]
    for ws in clients:
        ws.reset()
    until(lambda: site.run(rows) == [5, 0], "five rows, none of them connected")


def test_clean_up_and_deletion(shared):
    """S0-108: the clean-up commands, and deletion of the record: sessions closed, the API left alone."""
    site = shared.site
    record = site.provision("cleanup")
    ws = site.connect(record, "cleaner", "clean")
    left = site.connect(record, "cleaner", "clean")
    left.close(1000)
    site.wait_row(left, connected=False)
    site.manage("clearWebSocketSessions")
    assert site.run("result = WebSocketSession.objects.filter(pk__in=[a, b]).count()", a=ws.row, b=left.row) == 1
    site.manage("cleanupWebSocketTokens")
    site.run("ApiGateway.objects.get(pk=pk).delete()", pk=record["pk"])
    assert site.row(ws)["connected"] is False
    assert aws.control(shared.gateway).get_api(ApiId=record["api_id"])["Name"] == "cleanup"
    # The socket is still open (D-10); its messages are refused by the package and stay unanswered.
    say(ws, handler="hello")
    ws.close(1000)


def test_single_label_hosts(shared):
    """S0-106: the package itself refuses `http://django:8000/ws/`; a dotted alias or an address is fine."""
    make = "r = ApiGateway(api_name=name, target_base_endpoint=url)\nr.save()"
    with pytest.raises(RuntimeError, match="ValidationError"):
        shared.site.run(make, name="label", url="http://django:8000/ws/")
    shared.site.run(make, name="label", url="http://django.internal:8000/ws/")
