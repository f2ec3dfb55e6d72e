"""Lambda functions: on this machine with the runtime that AWS publishes, and behind an endpoint (AG-2)."""

import base64
import json
import os
import re
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect as ws_connect

from harness import aws
from harness.functions import Functions, InvokeApi, make_api
from harness.gateway import REGION
from harness.wait import until


@pytest.fixture
def functions(tmp_path):
    return Functions(tmp_path)


@pytest.fixture
def invoke_api():
    started = []

    def start(key=None):
        started.append(InvokeApi(key))
        return started[-1]

    yield start
    for server in started:
        server.stop()


FAILED = "FunctionFailed|function-failed|bad-answer"


def frame_text(ws):
    return json.loads(ws.message())["message"]


def talk(ws, **message):
    ws.text(json.dumps({"action": "talk", **message}))


def test_events_member_by_member(start_gateway, functions):
    """AG-2: the three events are those of the contract, with every member and no other."""
    gateway = start_gateway(functions.config())
    api = make_api(gateway, stage_options={"StageVariables": {"tier": "gold"}})
    headers = [("Origin", "https://shop.example"), ("User-Agent", "Example/1.0"), ("x-MIXED-Case", "1"),
               ("X-Forwarded-For", "198.51.100.9"), ("x-mixed-case", "2")]
    ws = api.connect("room=blue&lang=en&lang=f%20r", headers=headers)
    ws.text('{"action":"join", "x":"\u00e9"}')
    functions.one("MESSAGE")
    ws.close()
    disconnect = functions.one("DISCONNECT")["event"]
    connect, message = functions.one("CONNECT")["event"], functions.one("MESSAGE")["event"]

    host = f"127.0.0.1:{gateway.port}"
    context = connect["requestContext"]
    trace = connect["headers"]["X-Amzn-Trace-Id"]
    assert trace.startswith("Root=1-")
    values = [
        ("Host", [host]),
        ("Origin", ["https://shop.example"]),
        ("Sec-WebSocket-Key", [ws.key]),
        ("Sec-WebSocket-Version", ["13"]),
        ("User-Agent", ["Example/1.0"]),
        ("X-Amzn-Trace-Id", [trace]),
        ("X-Forwarded-For", ["127.0.0.1"]),
        ("X-Forwarded-Port", [str(gateway.port)]),
        ("X-Forwarded-Proto", ["http"]),
        ("x-mixed-case", ["1", "2"]),
    ]
    common = {
        "stage": "prod",
        "messageDirection": "IN",
        "connectedAt": context["connectedAt"],
        "identity": {"userAgent": "Example/1.0", "sourceIp": "127.0.0.1"},
        "domainName": f"{host}/_aws/execute-api/{api.id}",
        "connectionId": context["connectionId"],
        "apiId": api.id,
    }

    def expected(event, **own):
        """Members of this kind, with those of which only the shape is known."""
        have = event["requestContext"]
        assert have["requestId"] == have["extendedRequestId"] and len(have["requestId"]) == 16
        assert isinstance(have["requestTimeEpoch"], int) and have["requestTime"].endswith(" +0000")
        shapes = {name: have[name] for name in ("requestId", "extendedRequestId", "requestTime", "requestTimeEpoch")}
        return {**common, **shapes, **own}

    assert list(connect["headers"].items()) == [(name, several[-1]) for name, several in values]
    assert connect == {
        "headers": {name: several[-1] for name, several in values},
        "multiValueHeaders": dict(values),
        "queryStringParameters": {"room": "blue", "lang": "f r"},
        "multiValueQueryStringParameters": {"room": ["blue"], "lang": ["en", "f r"]},
        "stageVariables": {"tier": "gold"},
        "requestContext": expected(connect, routeKey="$connect", eventType="CONNECT"),
        "isBase64Encoded": False,
    }
    assert message == {
        "stageVariables": {"tier": "gold"},
        "requestContext": expected(
            message, routeKey="$default", eventType="MESSAGE", messageId=message["requestContext"]["messageId"]
        ),
        "body": '{"action":"join", "x":"\u00e9"}',
        "isBase64Encoded": False,
    }
    synthetic = {"Host": host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
    assert disconnect == {
        "headers": synthetic,
        "multiValueHeaders": {name: [value] for name, value in synthetic.items()},
        "stageVariables": {"tier": "gold"},
        "requestContext": expected(
            disconnect, routeKey="$disconnect", eventType="DISCONNECT", disconnectStatusCode=1005,
            disconnectReason="Client-side close frame status not set",
        ),
        "isBase64Encoded": False,
    }
    assert len({event["requestContext"]["requestId"] for event in (connect, message, disconnect)}) == 3
    first = functions.one("CONNECT")
    assert first["function"] == "chat" and 5000 < first["left"] <= 10000
    assert first["arn"] == f"arn:aws:lambda:{REGION}:000000000000:function:chat"
    # One process for all three: it is used again. Its lines are in the log, with those of Lambda.
    assert len({note["pid"] for note in functions.notes()}) == 1
    for part in (r"\[chat\] START RequestId: ", r"\[chat\] END RequestId: ", r"\[chat\] REPORT .*Init Duration"):
        gateway.wait_log(part)


@pytest.mark.logs(FAILED)
def test_refused_handshakes(start_gateway, functions):
    """What a function answers to $connect, and what the client gets."""
    api = make_api(start_gateway(functions.config()))
    refused = api.open("do=refuse")
    assert (refused.status, refused.reply.body) == (403, b"no")
    assert refused.reply.get("X-Why") == "because"
    for do in ("raise", "malformed"):
        failed = api.open(f"do={do}")
        assert (failed.status, failed.reply.json["message"]) == (502, "Internal server error"), do
        assert list(failed.reply.json) == ["message", "connectionId", "requestId"]
    assert b"secret" not in failed.reply.body
    with ws_connect(f"{api.url}?do=protocol", subprotocols=["v1", "v2"]) as ws:
        assert ws.subprotocol == "v2"


@pytest.mark.logs(FAILED)
def test_replies(start_gateway, functions):
    """Two-way and one-way answers, and the frames of what fails."""
    api = make_api(start_gateway(functions.config()))
    with api.connect() as ws:
        talk(ws, do="echo")
        assert json.loads(ws.message()) == {"action": "talk", "do": "echo"}
        talk(ws, do="500")
        assert ws.message() == "x"
        talk(ws, do="base64")
        assert ws.message() == "h\u00e9"
        for do in ("raise", "malformed"):
            talk(ws, do=do)
            assert frame_text(ws) == "Internal server error", do
        # One way: nothing comes back but what fails.
        ws.text('{"do":"echo"}')
        ws.text('{"do":"500"}')
        ws.text('{"do":"raise"}')
        assert frame_text(ws) == "Internal server error"
        # A process that ends is followed by another.
        talk(ws)
        first = json.loads(ws.message())["pid"]
        talk(ws, do="exit")
        assert frame_text(ws) == "Internal server error"
        talk(ws)
        assert json.loads(ws.message())["pid"] != first


@pytest.mark.logs(FAILED, "Timeout|timeout")
def test_time_limits(start_gateway, functions):
    """The function's own limit is a failure of the function, the integration's one a timeout."""
    gateway = start_gateway(functions.config(timeout_ms=1500))
    api = make_api(gateway)
    assert api.open("do=slow").status == 502
    gateway.wait_log(r"\[chat\] END RequestId")
    impatient = make_api(gateway, TimeoutInMillis=1000)
    with impatient.connect() as ws:
        talk(ws, do="sleep", seconds=1.3)
        assert frame_text(ws) == "Endpoint request timed out"
    slow = make_api(gateway, TimeoutInMillis=200).open("do=slow")
    assert (slow.status, slow.reply.json["message"]) == (504, "Endpoint request timed out")


def test_it_posts_back_to_the_address_of_the_event(start_gateway, functions):
    """A handler as people publish it: boto3 with `https://{domainName}/{stage}`, nothing configured in it."""
    api = make_api(start_gateway(functions.config()))
    with api.connect() as ws:
        talk(ws, do="post")
        assert ws.message() == "posted"
        talk(ws, do="env")
        env = json.loads(ws.message())
    assert env["SECRET"] == "s3cret-0f-chat"
    assert (env["AWS_REGION"], env["_HANDLER"]) == (REGION, "app.handler")
    assert env["LAMBDA_TASK_ROOT"] == str(functions.folder)
    # The gateway's own secrets stay with it.
    assert not any(name.startswith("TIDEGATE_") for name in env)
    assert env["AWS_ACCESS_KEY_ID"].startswith("ASIA")


def test_as_many_instances_as_calls(start_gateway, functions):
    """Cold starts side by side; no more instances than permitted."""
    api = make_api(start_gateway(functions.config(concurrency=3)))
    with api.connect() as one, api.connect() as two, api.connect() as three, api.connect() as four:
        sockets = [one, two, three, four]
        for ws in sockets:
            talk(ws, do="sleep", seconds=0.5)
        pids = {json.loads(ws.message())["pid"] for ws in sockets}
    assert 2 <= len(pids) <= 3
    for pid in pids:
        assert os.path.exists(f"/proc/{pid}")


def test_changed_files_are_loaded(start_gateway, functions):
    """An edit is in force for the next event, without a restart of the gateway; and no process outlives it."""
    gateway = start_gateway(functions.config())
    api = make_api(gateway)

    def version(ws):
        talk(ws)
        return json.loads(ws.message())

    with api.connect() as ws:
        before = version(ws)
        assert before["version"] == 1
        path = functions.folder / "app.py"
        path.write_text(path.read_text().replace("VERSION = 1", "VERSION = 22"))
        until(lambda: version(ws)["version"] == 22, "the changed file is loaded")
        last = version(ws)["pid"]
    until(lambda: not os.path.exists(f"/proc/{before['pid']}"), "the older process ends")
    gateway.stop()
    assert not os.path.exists(f"/proc/{last}")


@pytest.mark.logs(FAILED)
def test_endpoints(start_gateway, invoke_api):
    """The Invoke API of an endpoint: path, invocation type, signature, function error, refusal."""
    plain, signed = invoke_api(), invoke_api(("AKIDLAMBDA", "s3cret/0f+lambda", "t0ken=="))
    gateway = start_gateway(f"[lambda]\nendpoint = '{plain.url}'\n")
    api = make_api(gateway, function="chat:live")
    with api.connect() as ws:
        plain.answer = (200, {"X-Amz-Function-Error": "Unhandled"}, {"errorMessage": "no", "errorType": "ValueError"})
        talk(ws)
        assert frame_text(ws) == "Internal server error"
        plain.answer = (404, {"x-amzn-ErrorType": "ResourceNotFoundException:"}, {"Message": "none"})
        talk(ws)
        assert frame_text(ws) == "Internal server error"
        plain.answer = (200, {}, {"statusCode": 200, "body": "from afar"})
        talk(ws)
        assert ws.message() == "from afar"
    first = plain.calls[0]
    assert first["path"] == "/2015-03-31/functions/chat/invocations?Qualifier=live"
    lower = {name.lower(): value for name, value in first["headers"].items()}
    assert lower["x-amz-invocation-type"] == "RequestResponse" and "authorization" not in lower
    assert json.loads(first["body"])["requestContext"]["eventType"] == "CONNECT"

    key = "access_key_id = 'AKIDLAMBDA'\nsecret_access_key = 's3cret/0f+lambda'\nsession_token = 't0ken=='\n"
    gateway = start_gateway(f"[lambda]\nendpoint = '{signed.url}'\n{key}")
    api = make_api(gateway, function="chat:live")
    with api.connect() as ws:
        signed.answer = (200, {}, {"statusCode": 200, "body": "signed"})
        talk(ws, text="\u00e9")
        assert ws.message() == "signed"
    assert len(signed.calls) >= 2 and [call["problem"] for call in signed.calls] == [None] * len(signed.calls)


@pytest.mark.logs(FAILED)
def test_a_function_that_nobody_has(start_gateway):
    """Not invocable: 502, and the reason is the operator's."""
    gateway = start_gateway()
    nobody = make_api(gateway, function="nobody").open()
    assert (nobody.status, nobody.reply.json["message"]) == (502, "Internal server error")
    gateway.wait_log("there is no function nobody here")


def test_invoke_api(start_gateway, functions):
    """boto3's Lambda client against the functions of this machine: result, error, event, dry run, refusals."""
    gateway = start_gateway(functions.config())
    client = aws.client("lambda", gateway.admin_url, retries=False)
    event = {"requestContext": {"eventType": "MESSAGE"}, "body": '{"do": "echo"}'}

    def invoke(function="chat", payload=event, **options):
        return client.invoke(FunctionName=function, Payload=json.dumps(payload), **options)

    answer = invoke()
    assert (answer["StatusCode"], json.loads(answer["Payload"].read())["body"]) == (200, '{"do": "echo"}')
    assert answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    arn = f"arn:aws:lambda:{REGION}:000000000000:function:chat"
    raised = invoke(arn, {**event, "body": '{"do": "raise"}'})
    assert (raised["FunctionError"], json.loads(raised["Payload"].read())["errorType"]) == ("Unhandled", "ValueError")
    assert invoke(InvocationType="DryRun")["StatusCode"] == 204
    # The end of the log, for whoever asks: what the service says of the call, of a failed one too.
    assert "LogResult" not in invoke()
    for payload in (event, {**event, "body": '{"do": "raise"}'}):
        told = invoke(payload=payload, LogType="Tail")
        log = base64.b64decode(told["LogResult"]).decode()
        request_id = told["ResponseMetadata"]["RequestId"]
        assert f"START RequestId: {request_id}" in log and f"END RequestId: {request_id}" in log and "Memory Size: " in log, log
        assert len(log.encode()) <= 4096
    n_before = len(functions.notes())
    assert invoke(InvocationType="Event")["StatusCode"] == 202
    until(lambda: len(functions.notes()) == n_before + 1, "the event ran")
    with aws.refused("ResourceNotFoundException", 404, f"Function not found: {arn.replace('chat', 'nobody')}"):
        invoke("nobody")
    with aws.refused("UnrecognizedClientException", 403):
        stranger = aws.client("lambda", gateway.admin_url, access_key="AKIASTRANGER", secret="x")
        stranger.invoke(FunctionName="chat", Payload=b"{}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the first gateway will run, with this environment's `python3` in front."""
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    folder = tmp_path / "gateway0"
    folder.mkdir()
    return folder


def test_dev_with_a_handler(start_gateway, folder):
    """`tidegate dev --lambda app.handler`: the function behind all three routes, its answers to the client."""
    (folder / "app.py").write_text(
        "def handler(event, context):\n    return {'statusCode': 200, 'body': 'hi ' + event.get('body', '')}\n"
    )
    gateway = start_gateway(command="dev", args=["--lambda", "app.handler"])
    with ws_connect(gateway.address["url"]) as ws:
        ws.send("you")
        assert ws.recv(10) == "hi you"
    until(lambda: "[dev] REPORT RequestId" in (folder / "stdout").read_text(), "the function's lines in the terminal")


def test_the_example_of_the_manual(start_gateway, folder):
    """The three files that the manual prints, as they are printed."""
    manual = (Path(__file__).resolve().parents[2] / "docs/src/lambda.md").read_text()
    handler, config, document = re.findall(r"```(?:python|toml)\n(.*?)```", manual, re.S)[:3]
    (folder / "app.py").write_text(handler)
    (folder / "api.toml").write_text(document)
    gateway = start_gateway(config, command="dev", args=["--apply", "api.toml"])
    with ws_connect(gateway.address["url"]) as ws:
        ws.send("to and fro")
        assert ws.recv(10) == "to and fro"


def test_the_chat_of_the_examples(start_gateway, folder):
    """`examples/lambda`, as its page says it is started."""
    for file in (Path(__file__).resolve().parents[2] / "examples/lambda").iterdir():
        (folder / file.name).write_text(file.read_text().replace("/tmp/tidegate-chat.db", str(folder / "chat.sqlite")))
    config = (folder / "tidegate.toml").read_text()
    gateway = start_gateway(config, command="dev", args=["--apply", "api.toml"])
    gateway.allow("403|400")
    url = gateway.address["url"]
    with ws_connect(f"{url}?name=ada") as ada, ws_connect(f"{url}?name=ben") as ben:
        ada.send('{"text": "hello"}')
        for ws in (ada, ben):
            assert json.loads(ws.recv(20)) == {"from": "ada", "text": "hello"}


def test_a_runtime_in_node(start_gateway, functions):
    """The bootstrap of the examples: a handler in JavaScript, its answer and its error."""
    bootstrap = Path(__file__).resolve().parents[2] / "examples/lambda/bootstrap.mjs"
    (functions.folder / "app.mjs").write_text(
        "export const handler = async (event, context) => {\n"
        "  if (event.body?.includes('raise')) throw new TypeError('no');\n"
        "  return { statusCode: 200, body: `${context.functionName} ${event.requestContext.eventType}` };\n"
        "};\n"
    )
    gateway = start_gateway(functions.config(command=["node", str(bootstrap), "app.handler"]))
    gateway.allow(FAILED)
    api = make_api(gateway)
    with api.connect() as ws:
        talk(ws)
        assert ws.message() == "chat MESSAGE"
        talk(ws, do="raise")
        assert frame_text(ws) == "Internal server error"
