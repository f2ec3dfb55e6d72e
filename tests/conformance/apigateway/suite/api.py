"""An API at the target, and its clients."""

import json
import socket
import time
from urllib.parse import quote, urlsplit

import botocore.exceptions
from harness import raw
from harness.sign import signed_headers
from websockets.sync.client import connect as library_connect

STAGE = "prod"
CONNECTION_ID = {"integration.request.header.connectionId": "context.connectionId"}
DEFAULT = "\\$default"  # a template selection expression that always says `$default`


class refused:
    """`with refused("GoneException", 410) as e:` the call must fail with this code."""

    def __init__(self, code, status=None, message=None):
        self.code, self.status, self.message = code, status, message

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert error is not None, f"expected {self.code}, the call succeeded"
        if not isinstance(error, botocore.exceptions.ClientError):
            return False
        self.kind, self.response = kind.__name__, error.response
        self.text = error.response["Error"].get("Message", "")
        have = (error.response["Error"].get("Code"), error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert have[0] == self.code, f"expected {self.code}, got {have} {self.text!r}"
        assert self.status in (None, have[1]), f"expected status {self.status}, got {have} {self.text!r}"
        assert self.message in (None, self.text), self.text
        return True


class Ws(raw.RawWs):
    """A raw WebSocket client of a target."""

    def __init__(self, target, url, headers=(), host=None, omit=(), method="GET", wait=True, **wire):
        address, port, tls, netloc = target.tcp(url)
        parts = urlsplit(url)
        self.wire = raw.Wire(port, host=address, tls=tls, server_name=parts.hostname, **wire)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        data, self.key = raw.handshake_bytes(path, host or netloc, headers, omit=omit, method=method)
        self.wire.send(data)
        self.reply = None
        if wait:
            self.finish()

    def json(self):
        return json.loads(self.message())


def http(target, method, url, headers=(), body=b"", host=None):
    """One request, exactly as given."""
    address, port, tls, netloc = target.tcp(url)
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not any(name.lower() == "host" for name, _ in headers):
        headers = [("Host", host or netloc), *headers]
    wire = raw.Wire(port, host=address, tls=tls, server_name=parts.hostname)
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    if body or method in ("POST", "PUT", "PATCH"):
        head += f"Content-Length: {len(body)}\r\n"
    try:
        wire.send(head.encode("latin-1") + b"\r\n" + body)
        return wire.response(method)
    finally:
        wire.close()


def signed(target, method, url, body=b"", service="execute-api", host=None, extra=(), **options):
    """One request signed by hand."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    access, secret, token = target.keys()
    if token:
        extra = [*extra, ("X-Amz-Security-Token", token)]
    options = {"access_key": access, "secret": secret, "region": target.region, **options}
    headers = signed_headers(method, path, host or parts.netloc, body, service=service, extra=extra, **options)
    return http(target, method, url, headers, body)


class Api:
    """An API with one stage. Routes are added first, then `deploy` makes them live."""

    def __init__(self, target, name="conformance", expression="$request.body.action", backend=None, **options):
        self.target, self.backend = target, backend
        self.control = target.control_client()
        made = self.control.create_api(Name=name, ProtocolType="WEBSOCKET", RouteSelectionExpression=expression, **options)
        self.id, self.endpoint = made["ApiId"], made["ApiEndpoint"]
        self.created = made
        self.routes, self.integrations, self.stages = {}, {}, []

    # -- definitions ----------------------------------------------------------------------

    def route(self, key, integration=None, two_way=False, **options):
        """A route; `two_way` makes it answer with the integration's body."""
        if integration:
            options["Target"] = f"integrations/{integration['IntegrationId']}"
            self.integrations[key] = integration["IntegrationId"]
        if two_way:
            options["RouteResponseSelectionExpression"] = "$default"
        made = self.control.create_route(ApiId=self.id, RouteKey=key, **options)
        self.routes[key] = made["RouteId"]
        if two_way:
            self.control.create_route_response(ApiId=self.id, RouteId=made["RouteId"], RouteResponseKey="$default")
        return self

    def response(self, key, template=None, response_key="$default", **options):
        """An integration response of the route's integration."""
        if template is not None:
            options = {"ResponseTemplates": {"$default": template}, "TemplateSelectionExpression": DEFAULT, **options}
        return self.control.create_integration_response(
            ApiId=self.id, IntegrationId=self.integrations[key], IntegrationResponseKey=response_key, **options
        )

    def mock(self, key, answer="", request='{"statusCode": 200}', two_way=True, responses=None, route=None, **options):
        """A route without a backend: `request` gives the status, `answer` is the template of the reply."""
        templates = {} if request is None else {"RequestTemplates": {"$default": request}, "TemplateSelectionExpression": DEFAULT}
        made = self.control.create_integration(ApiId=self.id, IntegrationType="MOCK", **{**templates, **options})
        self.route(key, made, two_way, **(route or {}))
        for response_key, template in (responses or {"$default": answer}).items():
            self.response(key, template, response_key)
        return self

    def whoami(self):
        """Route `whoami` answers with the connection's id, whatever the target can reach."""
        return self.mock("whoami", '{"connectionId":"$context.connectionId"}')

    def http(self, key, path=None, two_way=False, parameters=None, kind="HTTP_PROXY", route=None, **options):
        """A route to the recording backend; the path is the key without `$`."""
        options.setdefault("IntegrationUri", self.backend_url(path or "/" + quote(key.replace("$", ""), safe="")))
        made = self.control.create_integration(
            ApiId=self.id, IntegrationType=kind, IntegrationMethod="POST", RequestParameters=CONNECTION_ID if parameters is None else parameters, **options
        )
        return self.route(key, made, two_way, **(route or {}))

    def backend_url(self, path=""):
        return f"http://{self.target.backend_host}:{self.backend.port}{path}"

    def function(self, key, arn, two_way=False, kind="AWS_PROXY", route=None, **options):
        """A route to a Lambda function."""
        made = self.control.create_integration(
            ApiId=self.id, IntegrationType=kind, IntegrationMethod="POST", IntegrationUri=invocation_uri(self.target, arn), **options
        )
        return self.route(key, made, two_way, **(route or {}))

    def stage(self, name=STAGE, **options):
        self.stages.append(name)
        self.control.create_stage(ApiId=self.id, StageName=name, **options)
        return self

    def deploy(self, stage=STAGE, **options):
        """Makes the definitions live; the stage is created by the first call. Answers the deployment's id."""
        if stage not in self.stages:
            self.stage(stage, **options)
        made = self.control.create_deployment(ApiId=self.id, StageName=stage)["DeploymentId"]
        self.settle()
        return made

    def settle(self):
        if self.target.settle:
            time.sleep(self.target.settle)

    def live(self, **options):
        self.deploy(**options)
        return self

    def delete(self):
        try:
            self.control.delete_api(ApiId=self.id)
        except self.control.exceptions.NotFoundException:
            pass

    # -- addresses and clients --------------------------------------------------------------

    def url(self, query="", stage=STAGE):
        return self.target.connect_url(self.id, stage, self.endpoint) + (f"?{query}" if query else "")

    def base(self, stage=STAGE):
        return self.target.management_url(self.id, stage, self.endpoint)

    def management(self, stage=STAGE, **options):
        return self.target.client("apigatewaymanagementapi", self.base(stage), **options)

    def open(self, query="", stage=STAGE, **options):
        """A raw client after its handshake, whatever the answer was."""
        return Ws(self.target, self.url(query, stage), **options)

    def connect(self, query="", **options):
        """A raw client whose handshake must succeed."""
        ws = self.open(query, **options)
        assert ws.status == 101, f"{ws.status} {ws.reply.body!r}"
        return ws

    def library(self, query="", **options):
        """The `websockets` package, as published."""
        if self.target.address:
            host, _, port = self.target.address.rpartition(":")
            options["sock"] = socket.create_connection((host, int(port)), 10)
        return library_connect(self.url(query), max_size=None, ping_interval=None, proxy=None, **options)

    def identify(self, ws):
        """The connection's id, by the route `whoami`."""
        ws.text('{"action":"whoami"}')
        return ws.json()["connectionId"]

    def call(self, method, connection_id, body=b"", stage=STAGE, **options):
        """A raw, signed management call."""
        return signed(self.target, method, f"{self.base(stage)}/@connections/{quote(connection_id, safe='')}", body, **options)


def invocation_uri(target, function_arn):
    return f"arn:aws:apigateway:{target.region}:lambda:path/2015-03-31/functions/{function_arn}/invocations"
