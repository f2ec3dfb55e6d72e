"""Routing of messages, replies, order, deployments (AG-4, 5, 14, 22, 29, 30; S0-47 to S0-52)."""

import json
import random
import re
import threading

import pytest

from harness import raw
from harness.aws import CONNECTION_ID, add_route, make_api, refused
from harness.backend import Backend
from harness.gateway import unused_tcp_port
from harness.wait import until

FRAME = re.compile(r'^\{"message": "(?P<message>[^"]*)", "connectionId":"(?P<connection>[A-Za-z0-9_-]{15}=)", "requestId":"(?P<request>[A-Za-z0-9_-]{15}=)"\}$')


def error(ws, message, connection=None):
    text = ws.message()
    match = FRAME.match(text)
    assert match and match["message"] == message, text
    if connection:
        assert match["connection"] == connection
    return match


ROUTED = [
    ('{"action":"join"}', "/join"),
    ('{"action":"leave"}', "/default"),
    ('{"hello":1}', "/default"),
    ('{"action":null}', "/default"),
    ('{"action":{"a":1}}', "/default"),
    ('{"action":["join"]}', "/default"),
    ('{"action":5}', "/5"),
    ('{"action":6}', "/default"),
    ('{"action":true}', "/true"),
    ("hello", "/default"),
    ("", "/default"),
    ('{"action":"join"', "/default"),
    ('"join"', "/default"),
    ("[1,2]", "/default"),
    ("42", "/default"),
    ("null", "/default"),
    ('{"action":"Join"}', "/default"),
    ('{"action":"$connect"}', "/default"),
    ('{"action":"$disconnect"}', "/default"),
    ('{"action":"$default"}', "/default"),
    ('{"action":""}', "/default"),
    (' {"b":[1,{"action":"x"}],\n"action":"join"} ', "/join"),
    ('{"action":"jo\\u0069n"}', "/join"),
]


def test_route_table(gateway, backend):
    """AG-5, S0-47, S0-28: every row of 1.6; requestContext.routeKey is the chosen key; the body is unchanged."""
    parameters = {**CONNECTION_ID, "integration.request.header.Route": "context.routeKey"}
    api = make_api(gateway, backend, routes=["$connect", "$default", "join", "5", "true"], parameters=parameters)
    with api.connect() as ws:
        for text, _ in ROUTED:
            ws.text(text)
        got = backend.wait(1 + len(ROUTED))[1:]
        ws.nothing_before_pong()
    for (text, path), request in zip(ROUTED, got):
        assert (request.path, request.text) == (path, text)
        assert request.get("Route") == ("$default" if path == "/default" else path[1:])


@pytest.mark.logs("route|Forbidden")
def test_no_route(gateway, backend):
    """AG-4: no $default and no match: the exact Forbidden frame; the connection stays open."""
    api = make_api(gateway, backend, routes=["$connect", "join"])
    with api.connect() as ws:
        connection = backend.one("/connect").connection_id
        ws.text('{"action":"nope"}')
        first = error(ws, "Forbidden", connection)
        ws.text("nope")
        second = error(ws, "Forbidden", connection)
        assert first["request"] != second["request"]
        ws.text('{"action":"join"}')
        backend.one("/join")


@pytest.mark.config('[data_plane]\nerror_frames = "none"\n')
@pytest.mark.logs("route|Forbidden")
def test_no_error_frames(gateway, backend):
    """1.7: `error_frames = "none"`."""
    api = make_api(gateway, backend, routes=["$connect", "join"])
    with api.connect() as ws:
        ws.text("nope")
        ws.text('{"action":"join"}')
        backend.one("/join")
        ws.nothing_before_pong()


@pytest.mark.config('[data_plane]\nerror_frames = "detailed"\n')
@pytest.mark.logs("route|Forbidden")
def test_detailed_error_frames(gateway, backend):
    """1.7: `error_frames = "detailed"` adds responseType and routeKey."""
    api = make_api(gateway, backend, routes=["$connect", "join"])
    with api.connect() as ws:
        ws.text("nope")
        frame = json.loads(ws.message())
        assert frame["message"] == "Forbidden" and "responseType" in frame and "routeKey" in frame


@pytest.mark.parametrize("expression,response", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("status,body", [(200, "reply"), (500, "trouble"), (200, ""), (204, "")])
@pytest.mark.logs("backend")
def test_two_way(gateway, backend, expression, response, status, body):
    """AG-14, S0-48, S0-49: only expression and response together send the body, whatever the status; an empty one never."""
    api = make_api(gateway, backend, routes=["$connect", ("$default", {"two_way": (expression, response)})])
    backend.on("/default", status=status, body=body)
    with api.connect() as ws:
        ws.text("x")
        backend.one("/default").answered.wait(5)
        if expression and response and body:
            assert ws.message() == body
        # The second message starts when the first is finished, so any reply would be here.
        backend.on("/default", status=200, body="")
        ws.text("y")
        backend.wait(2, "/default")[1].answered.wait(5)
        ws.nothing_before_pong()


@pytest.mark.logs(".")
def test_two_way_too_large(gateway, backend):
    """1.8: a two-way body over 128 KB becomes the Internal server error frame; the connection stays open."""
    api = make_api(gateway, backend, routes=["$connect", ("$default", {"two_way": (True, True)})])
    with api.connect() as ws:
        backend.on("/default", body="x" * 131072)
        ws.text("x")
        assert len(ws.message()) == 131072
        backend.on("/default", body="x" * 131073)
        ws.text("x")
        error(ws, "Internal server error")


@pytest.mark.logs("backend")
@pytest.mark.parametrize("status", [301, 400, 403, 500, 503])
def test_status_of_a_message(api, backend, status):
    """S0-49, 1.7: a 3xx, 4xx or 5xx answer to a one-way message sends nothing and leaves the connection open."""
    backend.on("/default", status=status, body="no", headers=(("Location", f"{backend.url}/elsewhere"),))
    with api.connect() as ws:
        ws.text("x")
        ws.text("y")
        backend.wait(2, "/default")[1].answered.wait(5)
        ws.nothing_before_pong()
    assert backend.at("/elsewhere") == []


@pytest.mark.logs(".")
def test_unreachable_backend_frame(gateway, backend):
    """1.7: an unreachable backend sends the Internal server error frame, for one-way routes too; the connection stays."""
    dead = f"http://127.0.0.1:{unused_tcp_port()}/x"
    api = make_api(gateway, backend, routes=["$connect", ("$default", {"IntegrationUri": dead}), "ok"])
    with api.connect() as ws:
        ws.text("x")
        error(ws, "Internal server error", backend.one("/connect").connection_id)
        ws.text('{"action":"ok"}')
        backend.one("/ok")


@pytest.mark.logs(".")
def test_timeout_frame(gateway, backend):
    """1.7: a timeout sends its frame; the next message goes on."""
    api = make_api(gateway, backend, routes=["$connect", ("$default", {"TimeoutInMillis": 200}), "ok"])
    hold = threading.Event()
    backend.on("/default", hold=hold)
    with api.connect() as ws:
        ws.text("x")
        error(ws, "Endpoint request timed out")
        ws.text('{"action":"ok"}')
        backend.one("/ok")
    hold.set()


def test_order(api, backend):
    """AG-30, S0-51: 1000 numbered messages arrive in order, each once, at a backend with random delays."""
    lock = threading.Lock()
    running = []

    def slow(request):
        with lock:
            running.append(request)
            assert len(running) == 1, "two messages of one connection at the same time"
        if random.random() < 0.05:
            threading.Event().wait(random.random() / 100)
        with lock:
            running.remove(request)

    backend.on("/default", hook=slow)
    with api.connect() as ws:
        for number in range(1000):
            ws.text(str(number))
        got = backend.wait(1000, "/default", timeout=40)
    assert [int(r.text) for r in got] == list(range(1000))


def test_connections_do_not_wait_for_each_other(api, backend):
    """1.10: a slow backend slows only its own connection."""
    hold = threading.Event()

    def hook(request):
        if request.text == "slow":
            hold.wait(20)

    backend.on("/default", hook=hook)
    with api.connect() as slow, api.connect() as fast:
        slow.text("slow")
        backend.wait(1, "/default")
        for number in range(20):
            fast.text(str(number))
        backend.wait(21, "/default")
        hold.set()


def test_disconnect_waits_for_queued_messages(api, backend):
    """1.10: $disconnect comes after the messages that were already received."""
    hold = threading.Event()
    backend.on("/default", hold=hold)
    with api.connect() as ws:
        for number in range(5):
            ws.text(str(number))
        backend.wait(1, "/default")
        ws.send(8, b"\x03\xe8")
        assert backend.at("/disconnect") == []
        hold.set()
        backend.one("/disconnect")
    assert [r.path for r in backend.requests] == ["/connect"] + ["/default"] * 5 + ["/disconnect"]


@pytest.mark.config("[data_plane]\nper_connection_concurrency = 4\n")
def test_concurrency_setting(api, backend):
    """S0-51, 1.10: with `per_connection_concurrency = 4` four messages run at once, not five."""
    hold = threading.Event()
    backend.on("/default", hold=hold)
    with api.connect() as ws:
        for number in range(6):
            ws.text(str(number))
        backend.wait(4, "/default")
        ws.nothing_before_pong()
        assert len(backend.at("/default")) == 4
        hold.set()
        backend.wait(6, "/default")


def test_push_while_message_is_open(api, backend):
    """S0-50: a push from inside a message's handler is delivered at once, and a DELETE too."""
    got = []

    def inside(request):
        assert api.post(request.connection_id, b"from inside").status == 200
        got.append(ws.message())

    backend.on("/default", hook=inside)
    with api.connect() as ws:
        ws.text("x")
        backend.one("/default").answered.wait(10)
    assert got == ["from inside"]


# -- deployments and stage variables (AG-22) --------------------------------------------------


@pytest.fixture
def other_backend():
    """Goes away after the gateway, where a test names it first: a call that is under way has its answer then."""
    server = Backend()
    yield server
    server.stop()


def test_stage_variable_without_deployment(other_backend, gateway, backend):
    """AG-22: a stage variable in the URI changes the backend at once, for open connections too."""
    api = make_api(
        gateway,
        routes=[("$default", {"IntegrationUri": "http://${stageVariables.where}/default"})],
        stage_options={"StageVariables": {"where": f"127.0.0.1:{backend.port}"}},
    )
    with api.connect() as ws:
        ws.text("one")
        backend.wait(1)
        api.control.update_stage(ApiId=api.id, StageName="prod", StageVariables={"where": f"127.0.0.1:{other_backend.port}"})
        ws.text("two")
        assert other_backend.wait(1)[0].text == "two"
    assert len(backend.requests) == 1


def test_route_change_needs_deployment(gateway, backend, api):
    """AG-22, S0-12: a new route is live after the deployment, for open connections too; rollback by deploymentId."""
    with api.connect() as ws:
        add_route(api, "join", backend.url)
        ws.text('{"action":"join"}')
        backend.wait(1, "/default")
        second = api.deploy()
        ws.text('{"action":"join"}')
        backend.wait(1, "/join")
        api.control.update_stage(ApiId=api.id, StageName="prod", DeploymentId=api.deployment)
        ws.text('{"action":"join"}')
        backend.wait(2, "/default")
        api.control.update_stage(ApiId=api.id, StageName="prod", DeploymentId=second)
        ws.text('{"action":"join"}')
        backend.wait(2, "/join")


def test_expression_change_needs_deployment(gateway, backend):
    """AG-22 (6.4): the API's selection expression is part of the snapshot."""
    api = make_api(gateway, backend, routes=["$connect", "$default", "join"])
    api.control.update_api(ApiId=api.id, RouteSelectionExpression="${request.body.kind}")
    with api.connect() as ws:
        ws.text('{"action":"join","kind":"other"}')
        backend.one("/join")
        api.deploy()
        ws.text('{"action":"other","kind":"join"}')
        backend.wait(2, "/join")


@pytest.mark.parametrize("expression,body,key", [
    ("$request.body.a.b", '{"a":{"b":"join"}}', "join"),
    ("${request.body.service}/${request.body.action}", '{"service":"s","action":"a"}', "s/a"),
    ("${request.body.action}-${request.body.nope}", '{"action":"join"}', "join-"),
    ("${request.body.list[1]}", '{"list":["x","join"]}', "join"),
    ("join", "anything", "join"),
])
def test_selection_expressions(gateway, backend, expression, body, key):
    """2.1, 2.3: braces, several variables, paths, static text."""
    api = make_api(gateway, backend, routes=["$default"], expression=expression)
    add_route(api, key, backend.url, IntegrationUri=f"{backend.url}/chosen")
    api.deploy()
    with api.connect() as ws:
        ws.text(body)
        assert backend.wait(1)[0].path == "/chosen"


def test_auto_deploy(gateway, backend):
    """6.4: autoDeploy makes route changes live without a deployment call."""
    api = make_api(gateway, backend)
    api.control.create_stage(ApiId=api.id, StageName="auto", AutoDeploy=True)
    add_route(api, "join", backend.url)
    stage = until(lambda: api.control.get_stage(ApiId=api.id, StageName="auto").get("DeploymentId"), "automatic deployment")
    assert api.control.get_deployment(ApiId=api.id, DeploymentId=stage)["AutoDeployed"] is True

    def live():
        with raw.RawWs(gateway.port, f"/_aws/execute-api/{api.id}/auto") as ws:
            ws.text('{"action":"join"}')
            ws.close(1000)
        return backend.at("/join")

    until(live, "the route to be live")
    with refused("BadRequestException", 400):
        api.control.update_stage(ApiId=api.id, StageName="auto", DeploymentId=api.deployment)


@pytest.mark.logs("thrott|limit|Too Many")
def test_route_throttle(gateway, backend):
    """AG-29: the burst passes, the next message gets the frame, other routes are unaffected; lifted at once."""
    api = make_api(
        gateway, backend, routes=["$connect", "$default", "join"],
        stage_options={"RouteSettings": {"join": {"ThrottlingBurstLimit": 3, "ThrottlingRateLimit": 0.01}}},
    )
    with api.connect() as ws, api.connect() as other:
        for _ in range(4):
            ws.text('{"action":"join"}')
        error(ws, "Too Many Requests")
        backend.wait(3, "/join")
        other.text("free")
        backend.wait(1, "/default")
        ws.text("free too")
        backend.wait(2, "/default")
        api.control.delete_route_settings(ApiId=api.id, StageName="prod", RouteKey="join")
        ws.text('{"action":"join"}')
        backend.wait(4, "/join")
