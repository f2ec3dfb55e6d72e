"""Access logs and execution logs of stages."""

import json
import re

import pytest
from harness.wait import until
from suite import golden
from suite.checks import check

HOW = "boto3, raw WebSocket client, the files that the gateway writes"
FORMATS = {
    "clf": '$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime] "$context.eventType $context.routeKey $context.connectionId" '
    "$context.status $context.requestId",
    "json": '{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","time":"$context.requestTime","event":"$context.eventType","route":"$context.routeKey",'
    '"status":"$context.status","connection":"$context.connectionId","error":$context.error.messageString}',
    "xml": '<request id="$context.requestId"><ip>$context.identity.sourceIp</ip><event>$context.eventType</event><route>$context.routeKey</route><status>$context.status</status></request>',
    "csv": "$context.identity.sourceIp,$context.requestTime,$context.eventType,$context.routeKey,$context.status,$context.connectionId,$context.requestId",
}


def log_of(target, name, count):
    path = target.extra["gateway"].data_dir / "logs" / f"{name}.log"
    return until(lambda: path.exists() and len(lines := path.read_text().splitlines()) >= count and lines, f"{count} lines of {name}")


@check(28, feature="logs", needs=["gateway"], how=HOW, what="Access log in the forms CLF, JSON, XML and CSV: one line for each CONNECT, MESSAGE, DISCONNECT, refused ones included, and for management calls")
@pytest.mark.parametrize("form", FORMATS)
def test_access_log(new_api, target, form):
    # AG-28
    api = new_api().whoami().mock("$connect", two_way=False)
    name = f"{form}-{api.id}"
    settings = {"DestinationArn": f"arn:aws:logs:{target.region}:{target.account}:log-group:{name}", "Format": FORMATS[form]}
    api.live(AccessLogSettings=settings)
    with api.connect() as ws:
        connection = api.identify(ws)
        ws.text('{"action":"nowhere"}')
        assert ws.json()["message"] == "Forbidden"
        assert api.call("POST", connection, b"x").status == 200
        assert ws.message() == "x"
        ws.close(1000)
    lines = log_of(target, name, 5)
    if form == "json":
        assert all(json.loads(line) for line in lines)
    assert len(lines) == 5
    # The end of the message's event and the management call may be written in either order.
    golden.compare(f"access_log_{form}.txt", "\n".join(sorted(golden.normal(line, {connection: "connection id"}) for line in lines)))


def execution_lines(target, api):
    found = []
    for record in target.extra["gateway"].records(api=api.id):
        if "execution_level" in record:
            found.append(record["line"])
    return found


@check(28, feature="logs", needs=["gateway", "backend"], how=HOW, what="Execution log at INFO: the lines of a handshake, a message and an end, each with its request id in front; OFF and ERROR write none of them")
@pytest.mark.parametrize("level", ["INFO", "ERROR"])
def test_execution_log(new_api, target, level):
    # AG-28
    api = new_api().http("$connect").http("$default").http("$disconnect")
    api.live(DefaultRouteSettings={"LoggingLevel": level})
    with api.connect(headers=[("User-Agent", "ExampleBrowser/1.0")]) as ws:
        ws.text("x")
        api.backend.wait(2)
        ws.close(1000, "done")
    api.backend.wait(3)
    quiet = new_api(backend=api.backend).http("$default").live()
    if level == "ERROR":
        # A failure is written, and then everything before it would be there.
        api.backend.on("/default", reset=True)
        with api.connect() as ws:
            ws.text("x")
            ws.json()
        lines = until(lambda: execution_lines(target, api), "lines of a failure")
        assert all(not re.search(r"Starting execution|connected to API|Endpoint request URI", line) for line in lines)
        assert any("Execution failed" in line for line in lines)
        assert any("Gateway response type: " in line for line in lines)
        return
    with quiet.connect() as ws:
        ws.text("x")
        api.backend.wait(4)
    lines = until(lambda: any("disconnected from API" in line for line in execution_lines(target, api)) and execution_lines(target, api), "lines of the execution log")
    assert execution_lines(target, quiet) == []
    assert all(re.match(r"\([A-Za-z0-9_-]{15}=\) ", line) for line in lines)
    text = "\n".join(lines)
    known = {f"http://{target.backend_host}:{api.backend.port}": "backend", api.id: "api id"}
    text = re.sub(r"Integration latency: \d+ ms", "Integration latency: <n> ms", text)
    golden.compare("execution_log_info.txt", text, known)
    for wanted in ("Starting execution for request: ", "is connecting to WebSocket API [", "connected to API [", "received message from client", "Close reason: [1000: done]"):
        assert wanted in text, wanted


@check(28, feature="logs", needs=["gateway", "backend"], how=HOW, what="`dataTraceEnabled` adds headers and payloads, with credentials masked; without it there are none")
@pytest.mark.parametrize("trace", [True, False], ids=["on", "off"])
def test_data_trace(new_api, target, trace):
    # AG-28
    api = new_api().http("$connect").http("$default").live(DefaultRouteSettings={"LoggingLevel": "INFO", "DataTraceEnabled": trace})
    with api.connect(headers=[("Authorization", "Bearer a-very-secret-token-123456")]) as ws:
        ws.text("a payload of its own")
        api.backend.wait(2)
        ws.close(1000)
    text = "\n".join(until(lambda: any("disconnected" in line for line in execution_lines(target, api)) and execution_lines(target, api), "lines of the execution log"))
    assert "a-very-secret-token" not in text
    assert ("a payload of its own" in text) == trace
    assert ("Endpoint request headers: " in text) == trace
