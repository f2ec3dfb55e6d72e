"""Quotas: those of the account and of stages, those of the service on request, and times that pass faster (AG-16, AG-29)."""

import subprocess
import time

import pytest

from harness import aws, cli, raw
from harness.aws import make_api, refused
from harness.gateway import binary, clean_environment, credentials_environment
from harness.wait import until


def run(*words, **extra):
    return subprocess.run(
        [binary(), *words], env=clean_environment(**credentials_environment(), **extra), capture_output=True, text=True, timeout=30)


@pytest.mark.serve_args("--time-scale", "600")
def test_fixed_times_pass_faster(gateway, api, backend):
    """AG-16: the ten minutes are one second, the two hours twelve; the log says so."""
    assert "time scale 600: idle limit 1s, longest connection 12s" in gateway.log_text()
    start = time.monotonic()
    with api.connect() as ws:
        assert ws.closed(timeout=10) == (1001, "Going away")
    assert 0.8 < time.monotonic() - start < 8
    assert backend.one("/disconnect")


def test_settings_are_shown_with_their_origin():
    """`tidegate config` has the flags, and what they bring with them."""
    shown = run("config", "--limits", "aws", "--time-scale", "60").stdout
    for line in ("limits.profile = aws  (flag)", "data_plane.time_scale = 60  (flag)", "limits.connects_per_second = 500  (default)",
                 "limits.requests_per_second = 10000  (default)", "limits.requests_burst = 5000  (default)", "data_plane.idle_timeout = 600  (default)"):
        assert line in shown, line
    shown = run("config", TIDEGATE_LIMITS_CONNECTS_PER_SECOND="7", TIDEGATE_CONTROL_PLANE_ALLOW_JWT_AUTHORIZER="true").stdout
    assert "limits.connects_per_second = 7  (environment)" in shown and "limits.profile = tidegate  (default)" in shown
    assert "control_plane.allow_jwt_authorizer = true  (environment)" in shown


def test_what_is_better_than_the_service_is_refused():
    """With the limits of the service, a setting that it does not have ends the start with a reason."""
    better = {"TIDEGATE_DATA_PLANE_IDLE_TIMEOUT": "0", "TIDEGATE_MANAGEMENT_PENDING_POSTS": "queue"}
    assert run("check", **better).returncode == 0
    done = run("serve", "--limits", "aws", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", **better)
    assert done.returncode == 1
    for key in ("data_plane.idle_timeout", "management.pending_posts"):
        assert f"config: {key}: AWS has " in done.stderr and "(config.invalid-value)" in done.stderr, done.stderr


@pytest.mark.serve_args("--limits", "aws")
def test_rates_of_the_control_plane(gateway):
    """Section 8: 40 calls at once, then 10 a second; CreateDeployment once in 5 s. `provision.throttled`."""
    assert "quotas of AWS: 500 connects/s, 10000 requests/s" in gateway.log_text()
    control = aws.control(gateway, retries=False)
    api = control.create_api(Name="n", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")["ApiId"]
    control.create_route(ApiId=api, RouteKey="$default")
    control.create_deployment(ApiId=api)
    with refused("TooManyRequestsException", 429, "Too Many Requests") as e:
        control.create_deployment(ApiId=api)
    assert e.kind == "TooManyRequestsException"
    n_answered = 0
    with refused("TooManyRequestsException", 429):
        for _ in range(400):
            control.get_apis()
            n_answered += 1
    assert n_answered >= 35
    # Each bucket says which it is; the last one asked for is explained by its id.
    seen = until(lambda: [e for e in cli.failures(gateway) if e["outcome"] == "provision.throttled"][1:], "the failures", 10)
    assert {e["facts"]["action"] for e in cli.failures(gateway)} == {"CreateDeployment", "all"}
    assert (seen[-1]["facts"]["limit"], seen[-1]["facts"]["burst"]) == (10.0, 40.0)
    cli.explained(gateway, "--last=1", "provision.throttled")
    # SDKs repeat by themselves, and get through.
    assert aws.control(gateway).get_api(ApiId=api)["ApiId"] == api


@pytest.mark.config("[limits]\nconnects_per_second = 2\n")
@pytest.mark.logs("limit|Too Many|thrott")
def test_handshakes_of_the_account(gateway, backend):
    """6.5: more handshakes than the account may have get 429, whichever API they are for; pushes are not affected."""
    one, two = make_api(gateway, backend), make_api(gateway, backend)
    answers = []
    sockets = [api.open() for api in (one, two) * 8]
    for ws in sockets:
        answers.append(ws.status)
    assert answers[:2] == [101, 101] and 429 in answers, answers
    refusal = sockets[answers.index(429)].reply
    assert refusal.json["message"] == "Too Many Requests"
    assert refusal.get("x-amzn-errortype") == "TooManyRequestsException"
    connection = backend.wait(1, "/connect")[0].connection_id
    assert {api.post(connection, b"x").status for api in (one, two)} <= {200, 410}
    for ws in sockets:
        ws.__exit__(None, None, None)


@pytest.mark.config("[limits]\nrequests_per_second = 1\nrequests_burst = 4\n")
@pytest.mark.logs("limit|Too Many|thrott")
def test_requests_of_the_account(gateway, backend):
    """6.5: handshakes, messages and pushes take of one bucket; `LimitExceededException` for the SDK, a frame for the client."""
    api = make_api(gateway, backend)
    with api.connect() as ws:
        connection = backend.one("/connect").connection_id
        for number in range(12):
            ws.text(f"message {number}")
        frame = ws.frame()
        assert b'"message": "Too Many Requests", "connectionId":"' in frame.payload
        management = api.management(retries=False)
        with refused("LimitExceededException", 429) as e:
            for _ in range(12):
                management.get_connection(ConnectionId=connection)
        assert e.kind == "LimitExceededException"
        assert len(backend.at("/default")) < 12


@pytest.mark.logs("thrott|limit|Too Many")
def test_throttle_of_connect(gateway, backend):
    """AG-29, 1.1: the stage's default settings throttle `$connect` too; another route has tokens of its own."""
    api = make_api(gateway, backend, stage_options={
        "DefaultRouteSettings": {"ThrottlingBurstLimit": 1, "ThrottlingRateLimit": 0.001}})
    with api.connect() as ws:
        refusal = api.open().reply
        assert (refusal.status, refusal.json["message"]) == (429, "Too Many Requests")
        ws.text("first")
        backend.wait(1, "/default")
        ws.text("second")
        assert b"Too Many Requests" in ws.frame().payload
        # Live without a deployment.
        api.control.update_stage(ApiId=api.id, StageName="prod", DefaultRouteSettings={"ThrottlingBurstLimit": 100, "ThrottlingRateLimit": 100})
        until(lambda: api.open().status == 101, "a handshake", 10)
        ws.text("third")
        backend.wait(2, "/default")


def test_stage_variables_choose_the_backend(gateway, backend):
    """AG-22: host and path of a URI from stage variables, per stage; an update counts for open connections at once."""
    host = backend.url.removeprefix("http://")
    api = make_api(gateway, routes=[("$default", {"IntegrationUri": "http://${stageVariables.host}/${stageVariables.path}"})], url=backend.url,
                   stage_options={"StageVariables": {"host": host, "path": "one"}})
    api.control.create_stage(ApiId=api.id, StageName="test", DeploymentId=api.deployment, StageVariables={"host": host, "path": "test"})
    with api.connect() as ws, raw.RawWs(gateway.port, f"/_aws/execute-api/{api.id}/test") as other:
        assert other.status == 101
        ws.text("a")
        backend.wait(1, "/one")
        other.text("b")
        backend.wait(1, "/test")
        api.control.update_stage(ApiId=api.id, StageName="prod", StageVariables={"path": "two"})
        ws.text("c")
        backend.wait(1, "/two")
        other.text("d")
        backend.wait(2, "/test")
        assert api.control.get_stage(ApiId=api.id, StageName="prod")["StageVariables"] == {"host": host, "path": "two"}
