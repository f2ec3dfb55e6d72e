"""Functions for the gateway's local runner, and an Invoke API that somebody else could have."""

import json
import re
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .aws import Api, add_route, control
from .gateway import REGION
from .wait import until

ACCOUNT = "000000000000"

# What people write for Lambda; the test says in the query or in the message what to do.
HANDLER = '''
import base64, json, os, time
VERSION = 1

def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(json.dumps(what) + "\\n")

def handler(event, context):
    note({"event": event, "pid": os.getpid(), "function": context.function_name, "request": context.aws_request_id,
          "arn": context.invoked_function_arn, "left": context.get_remaining_time_in_millis()})
    request = event["requestContext"]
    if request["eventType"] == "CONNECT":
        do = (event.get("queryStringParameters") or {}).get("do")
        if do == "refuse":
            return {"statusCode": 403, "headers": {"X-Why": "because"}, "body": "no"}
        if do == "protocol":
            return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v2"}}
        if do == "raise":
            raise ValueError("secret detail")
        if do == "malformed":
            return {"ok": True}
        if do == "slow":
            time.sleep(30)
        return {"statusCode": 200}
    if request["eventType"] == "DISCONNECT":
        return None
    do = json.loads(event["body"]).get("do")
    if do == "echo":
        return {"statusCode": 200, "body": event["body"]}
    if do == "500":
        return {"statusCode": 500, "body": "x"}
    if do == "base64":
        return {"statusCode": 200, "body": base64.b64encode("h\\u00e9".encode()).decode(), "isBase64Encoded": True}
    if do == "raise":
        raise ValueError("secret detail")
    if do == "malformed":
        return {"statusCode": 200, "body": {"a": 1}}
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(json.loads(event["body"])["seconds"])
    if do == "post":
        import boto3
        client = boto3.client("apigatewaymanagementapi",
                              endpoint_url=f"https://{request['domainName']}/{request['stage']}")
        client.post_to_connection(ConnectionId=request["connectionId"], Data=b"posted")
        return {"statusCode": 200}
    if do == "env":
        return {"statusCode": 200, "body": json.dumps(dict(os.environ))}
    return {"statusCode": 200, "body": json.dumps({"pid": os.getpid(), "version": VERSION})}
'''


def uri(function, region=REGION):
    arn = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{function}"
    return f"arn:aws:apigateway:{region}:lambda:path/2015-03-31/functions/{arn}/invocations"


class Functions:
    """One function `chat` in a folder of its own, run by the runtime interface client that AWS publishes."""

    def __init__(self, folder):
        self.folder = folder / "function"
        self.folder.mkdir()
        self.notes_path = folder / "notes"
        self.write(HANDLER)

    def write(self, text):
        (self.folder / "app.py").write_text(textwrap.dedent(text))

    def config(self, **options):
        lines = {
            "command": [sys.executable, "-m", "awslambdaric", "app.handler"],
            "directory": str(self.folder),
            "timeout_ms": 10000,
            **options,
        }
        text = "[lambda.functions.chat]\n"
        text += "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        return text + f"environment = {{ NOTES = {json.dumps(str(self.notes_path))}, SECRET = 's3cret-0f-chat' }}\n"

    def notes(self, kind=None):
        """What the function has noted of its events."""
        text = self.notes_path.read_text() if self.notes_path.exists() else ""
        notes = [json.loads(line) for line in text.splitlines()]
        return [note for note in notes if kind in (None, note["event"]["requestContext"]["eventType"])]

    def one(self, kind):
        return until(lambda: self.notes(kind), f"an event {kind}")[0]


def make_api(gateway, function="chat", stage="prod", two_way=("talk",), stage_options=None, **integration):
    """`$connect`, `$disconnect`, `$default` and two-way routes, all at one function."""
    client = control(gateway)
    created = client.create_api(Name="functions", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    api = Api(gateway, client, created["ApiId"], stage)
    for key in ("$connect", "$disconnect", "$default", *two_way):
        is_two_way = key in two_way
        add_route(api, key, "", parameters={}, two_way=(is_two_way, is_two_way), IntegrationType="AWS_PROXY",
                  IntegrationUri=uri(function), **integration)
    client.create_stage(ApiId=api.id, StageName=stage, **(stage_options or {}))
    api.deploy()
    return api


class InvokeApi:
    """The Invoke API of a Lambda endpoint. Signatures are checked by botocore's own signer."""

    def __init__(self, key=None):
        self.calls = []
        self.answer = (200, {}, {"statusCode": 200})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                problem = check_signature(self, body, key) if key else None
                outer.calls.append({"path": self.path, "headers": dict(self.headers), "body": body, "problem": problem})
                status, headers, answer = outer.answer
                data = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def check_signature(request, body, key):
    """What is wrong with a signature, by signing the same request again; nothing when it is right."""
    have = request.headers.get("Authorization", "")
    parts = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/([^/]+)/aws4_request, "
                         r"SignedHeaders=([^,]+), Signature=([0-9a-f]{64})", have)
    if not parts:
        return f"no signature in {have!r}"
    access_key, day, region, service, names, signature = parts.groups()
    if access_key != key[0]:
        return f"key {access_key}"
    headers = {name: request.headers[name] for name in names.split(";")}
    url = f"http://{request.headers['Host']}{request.path}"
    again = AWSRequest(request.command, url, data=body, headers=headers)
    again.context["timestamp"] = request.headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials(*key), service, region)
    canonical = signer.canonical_request(again)
    wanted = signer.signature(signer.string_to_sign(again, canonical), again)
    return None if wanted == signature else f"{signature} is not {wanted} of {canonical}"
