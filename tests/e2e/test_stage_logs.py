"""Access and execution logs of stages, set with boto3 and read from their files (AG-28)."""

import json
import os
import re
import stat
import xml.etree.ElementTree as xml

from harness import raw
from harness.aws import make_api, refused
from harness.wait import until

GROUP = "arn:aws:logs:us-east-1:000000000000:log-group:"
CLF = '$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime] "$context.eventType $context.routeKey $context.connectionId" $context.status $context.requestId'
JSON = '{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","time":"$context.requestTime","event":"$context.eventType","route":"$context.routeKey","status":"$context.status","connection":"$context.connectionId","agent":"$context.identity.userAgent","reason":"$context.disconnectReason","error":$context.error.messageString}'
XML = '<request id="$context.requestId"><ip>$context.identity.sourceIp</ip><event>$context.eventType</event><route>$context.routeKey</route><status>$context.status</status></request>'
CSV = "$context.identity.sourceIp,$context.requestTime,$context.eventType,$context.routeKey,$context.status,$context.connectionId,$context.requestId"
TIME = r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000"
ID = "[A-Za-z0-9_-]{15}="


def set_log(api, name, template):
    api.control.update_stage(
        ApiId=api.id, StageName=api.stage, AccessLogSettings={"DestinationArn": GROUP + name, "Format": template}
    )


def lines(path, count):
    """The lines of a file, once there are so many."""

    def read():
        text = path.read_text() if path.exists() else ""
        found = text.splitlines()
        return found if len(found) >= count and text.endswith("\n") else None

    return until(read, f"{count} lines in {path}")


def one_life(api, backend, headers=(), reason="bye"):
    """Handshake, message, end: three events. Gives the connection's id."""
    before = len(backend.requests)
    ws = api.connect(headers=headers)
    ws.text("hello")
    backend.wait(before + 2)
    ws.close(1000, reason)
    backend.wait(before + 3)
    return backend.requests[before].connection_id


def test_the_four_formats_change_without_a_deployment(gateway, backend):
    """AG-28: each form of a line, in the file of the log group; the stage is never deployed again."""
    api = make_api(gateway, backend)
    folder = gateway.data_dir / "logs"
    one_life(api, backend)
    for name, template in (("clf", CLF), ("json", JSON), ("xml", XML), ("csv", CSV)):
        set_log(api, name, template)
        connection = one_life(api, backend)
        written = lines(folder / f"{name}.log", 3)
        assert len(written) == 3
        routes = {"CONNECT": "$connect", "MESSAGE": "$default", "DISCONNECT": "$disconnect"}
        for line, (event, route) in zip(written, routes.items(), strict=True):
            if name == "clf":
                key = re.escape(route)
                assert re.fullmatch(rf'127\.0\.0\.1 - - \[{TIME}\] "{event} {key} {connection}" 200 {ID}', line), line
            elif name == "json":
                said = json.loads(line)
                assert (said["event"], said["route"], said["status"]) == (event, route, "200")
                assert (said["connection"], said["ip"], said["error"]) == (connection, "127.0.0.1", "-")
                assert re.fullmatch(TIME, said["time"]) and re.fullmatch(ID, said["requestId"])
            elif name == "xml":
                said = xml.fromstring(line)
                assert re.fullmatch(ID, said.attrib["id"])
                assert [member.text for member in said] == ["127.0.0.1", event, route, "200"]
            else:
                said = line.split(",")
                assert (said[0], said[2], said[3], said[4], said[5]) == ("127.0.0.1", event, route, "200", connection)
    assert stat.S_IMODE(os.stat(folder / "csv.log").st_mode) == 0o600
    # Without settings there are no lines, from the next event on.
    api.control.delete_access_log_settings(ApiId=api.id, StageName=api.stage)
    one_life(api, backend)
    set_log(api, "csv", CSV)
    one_life(api, backend)
    assert len(lines(folder / "csv.log", 6)) == 6
    assert gateway.metric("tidegate_log_lines_total", result="failed") == 0


def test_whatever_clients_send_a_line_is_a_line(gateway, backend):
    """AG-28: user agents and close reasons cannot forge an event, and JSON stays JSON."""
    api = make_api(gateway, backend)
    set_log(api, "chat", JSON)
    agent = 'x", "status":"500"}\\{"requestId":"forged'
    reason = 'y"}\n{"event":"CONNECT","requestId":"forged"}'
    one_life(api, backend, headers=[("User-Agent", agent)], reason=reason)
    said = [json.loads(line) for line in lines(gateway.data_dir / "logs" / "chat.log", 3)]
    assert len(said) == 3
    assert [event["event"] for event in said] == ["CONNECT", "MESSAGE", "DISCONNECT"]
    assert all(event["agent"] == agent and event["requestId"] != "forged" for event in said)
    assert said[2]["reason"] == reason


def test_refusals_and_management_calls_have_lines(gateway, backend):
    """AG-28: throttled, refused, too large, without a route."""
    api = make_api(gateway, backend, routes=("$connect", "$disconnect", "join"))
    set_log(api, "chat", JSON)
    api.control.update_stage(
        ApiId=api.id, StageName=api.stage,
        RouteSettings={"join": {"ThrottlingRateLimit": 0.0, "ThrottlingBurstLimit": 1}},
    )
    ws = api.connect()
    connection = backend.wait(1)[0].connection_id
    for message in ('{"action":"join"}', '{"action":"join"}', '{"action":"none"}'):
        ws.text(message)
    # The frames of two refusals.
    assert [json.loads(ws.message())["message"] for _ in range(2)] == ["Too Many Requests", "Forbidden"]
    assert api.post(connection, b"x" * 131073).status == 413
    management = api.management(retries=False)
    with refused("GoneException", 410):
        management.post_to_connection(ConnectionId="R0oXAdfD0kwCH6w=", Data=b"x")
    management.delete_connection(ConnectionId=connection)
    ws.closed()
    backend.on("/connect", status=401)
    assert api.open().status == 401
    assert raw.request(gateway.port, "GET", api.base).status == 426
    said = [json.loads(line) for line in lines(gateway.data_dir / "logs" / "chat.log", 10)]
    have = sorted((event["event"], event["route"], event["status"], event["error"]) for event in said)
    post = "POST /@connections/{connectionId}"
    assert have == sorted([
        ("CONNECT", "$connect", "200", "-"),
        ("CONNECT", "$connect", "401", "-"),
        ("CONNECT", "$connect", "426", "Upgrade Required"),
        ("CONNECTION_API", "DELETE /@connections/{connectionId}", "204", "-"),
        ("CONNECTION_API", post, "410", ""),
        ("CONNECTION_API", post, "413", "Message too long"),
        ("DISCONNECT", "$disconnect", "200", "-"),
        ("MESSAGE", "-", "403", "Forbidden"),
        ("MESSAGE", "join", "200", "-"),
        ("MESSAGE", "join", "429", "Too Many Requests"),
    ])


def test_formats_are_checked(gateway, backend):
    """AG-28: what could not be read later is refused, with the texts of the real service."""
    api = make_api(gateway, backend)
    for settings, message in (
        ({"DestinationArn": GROUP + "x"}, "Access Log value missing. Expected destinationArn and format."),
        ({"Format": CSV}, "Access Log value missing. Expected destinationArn and format."),
        ({"DestinationArn": GROUP + "x", "Format": "$context.status"}, None),
        ({"DestinationArn": GROUP + "x", "Format": "$context.requestId\n$context.status"}, None),
    ):
        with refused("BadRequestException", 400, message):
            api.control.update_stage(ApiId=api.id, StageName=api.stage, AccessLogSettings=settings)


def test_targets_of_the_configuration(start_gateway, backend, tmp_path):
    """AG-28: a file and standard output; the execution log beside them, with levels and masks."""
    own = tmp_path / "elsewhere" / "chat.log"
    gateway = start_gateway(
        f'[logs.targets.chat]\nfile = "{own}"\n[logs.targets.out]\nstdout = true\n[logs]\nexecution = "steps"\nunmatched = "stray"\n'
    )
    api = make_api(gateway, backend)
    set_log(api, "chat", CSV)
    one_life(api, backend)
    assert len(lines(own, 3)) == 3
    set_log(api, "out", CSV)
    one_life(api, backend)
    assert len(lines(gateway.directory / "stdout", 3)) == 3
    steps = gateway.data_dir / "logs" / "steps.log"
    assert not steps.exists()

    api.control.update_stage(ApiId=api.id, StageName=api.stage, DefaultRouteSettings={"LoggingLevel": "INFO"})
    secret = "Bearer secret-of-the-client-0123456789"
    one_life(api, backend, headers=[("Authorization", secret), ("X-Own", "plain-header")])
    ended = until(lambda: steps.exists() and "Close reason: [1000: bye]" in steps.read_text() and steps.read_text(), "the last line")
    assert f"connected to API [{api.id}] successfully." in ended
    assert f"Sending request to {backend.url}/default" in ended
    assert "hello" not in ended and "secret-of" not in ended and "plain-header" not in ended
    written = gateway.records(message=None) or []
    structured = [record for _, record in gateway.log_lines() if record and record.get("execution_level")]
    assert structured, written
    for record in structured:
        assert record["level"] == "INFO" and record["api"] == api.id and record["stage"] == api.stage
        assert record["line"].startswith(f"({record['request_id']}) ")

    api.control.update_stage(ApiId=api.id, StageName=api.stage, DefaultRouteSettings={"DataTraceEnabled": True})
    one_life(api, backend, headers=[("Authorization", secret), ("X-Own", "plain-header")])
    traced = until(lambda: "transformations: hello" in steps.read_text() and steps.read_text(), "a payload")
    assert "X-Own=plain-header" in traced and "secret-of" not in traced and "456789" in traced

    assert raw.RawWs(gateway.port, "/_aws/execute-api/none/prod").status == 403
    stray = json.loads(lines(gateway.data_dir / "logs" / "stray.log", 1)[0])
    assert (stray["event"], stray["status"], stray["error"]) == ("CONNECT", "403", "Forbidden")


def test_metrics_by_stage_and_route(gateway, backend):
    """AG-28: labels api and stage, and route where it is asked for; nothing is left of a deleted stage."""
    api = make_api(gateway, backend, routes=("$connect", "$disconnect", "$default", "join"))
    of_stage = {"api": api.id, "stage": api.stage}
    api.control.update_stage(
        ApiId=api.id, StageName=api.stage, RouteSettings={"join": {"DetailedMetricsEnabled": True}}
    )
    ws = api.connect()
    for message in ("hello", '{"action":"join"}'):
        ws.text(message)
    backend.wait(3)
    until(lambda: gateway.metric("tidegate_messages_total", direction="in", **of_stage) == 2, "two messages")
    assert gateway.metric("tidegate_messages_total", route="join", direction="in", **of_stage) == 1
    assert gateway.metric("tidegate_connect_total", **of_stage) == 1
    assert gateway.metric("tidegate_stage_connections", **of_stage) == 1
    assert gateway.metric("tidegate_integration_duration_seconds_count", event="MESSAGE", **of_stage) == 2
    backend.on("/default", status=503)
    ws.text("refused")
    until(lambda: gateway.metric("tidegate_integration_errors_total", **of_stage) == 1, "an integration error")
    ws.close(1000)
    until(lambda: gateway.metric("tidegate_stage_connections", **of_stage) == 0, "no connection")
    assert raw.request(gateway.port, "GET", api.base).status == 426
    assert gateway.metric("tidegate_client_errors_total", **of_stage) == 1
    backend.wait(5)
    api.control.delete_stage(ApiId=api.id, StageName=api.stage)
    assert gateway.metric("tidegate_messages_total", **of_stage) is None
