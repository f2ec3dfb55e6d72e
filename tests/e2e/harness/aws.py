"""Short ways to say things with boto3; the clients themselves are as published."""

import json
import threading
from urllib.parse import quote

import boto3
import botocore.exceptions
from botocore.config import Config

from . import raw
from .gateway import ACCESS_KEY, REGION, SECRET_KEY
from .sign import signed_headers

_lock = threading.Lock()
_session = None


def session():
    global _session
    with _lock:
        if _session is None:
            _session = boto3.Session(
                aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=REGION
            )
        return _session


def client(service, endpoint, retries=True, access_key=None, secret=None, **config):
    """A boto3 client; `retries=False` shows each answer as it comes."""
    config.setdefault("proxies", {})
    if not retries:
        config["retries"] = {"mode": "standard", "total_max_attempts": 1}
    keys = {}
    if access_key:
        keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret}
    return session().client(service, endpoint_url=endpoint, config=Config(**config), **keys)


def control(gateway, **options):
    return client("apigatewayv2", gateway.admin_url, **options)


class refused:
    """`with refused("GoneException", 410) as e:` the call must fail with this code."""

    def __init__(self, code, status=None, message=None):
        self.code, self.status, self.message_wanted = code, status, message

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert error is not None, f"expected {self.code}, the call succeeded"
        if not isinstance(error, botocore.exceptions.ClientError):
            return False
        self.error = error
        self.response = error.response
        have = (error.response["Error"].get("Code"), error.response["ResponseMetadata"]["HTTPStatusCode"])
        text = error.response["Error"].get("Message", "")
        assert have[0] == self.code, f"expected {self.code}, got {have} {text!r}"
        # The modelled exception class too, where there is one.
        if self.status:
            assert have[1] == self.status, f"expected status {self.status}, got {have} {text!r}"
        if self.message_wanted is not None:
            assert text == self.message_wanted, text
        self.kind = kind.__name__
        return True


class Api:
    """An API on a gateway with one stage, and how to reach it."""

    def __init__(self, gateway, control, api_id, stage="prod"):
        self.gateway, self.control, self.id, self.stage = gateway, control, api_id, stage

    @property
    def base(self):
        return f"/_aws/execute-api/{self.id}/{self.stage}"

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.gateway.port}{self.base}"

    @property
    def host(self):
        return f"{self.id}.localhost:{self.gateway.port}"

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.gateway.port}{self.base}"

    def management(self, endpoint=None, **options):
        return client("apigatewaymanagementapi", endpoint or self.endpoint, **options)

    def open(self, query="", path="", **options):
        """A raw client after its handshake, whatever the answer was."""
        target = self.base + path + (f"?{query}" if query else "")
        return raw.RawWs(self.gateway.port, target, **options)

    def connect(self, query="", **options):
        """A raw client whose handshake must succeed."""
        ws = self.open(query, **options)
        assert ws.status == 101, f"{ws.status} {ws.reply.body!r}"
        return ws

    def signed(self, method, path, body=b"", host=None, extra=(), **options):
        """A raw request to this API's stage, signed by hand."""
        host = host or f"127.0.0.1:{self.gateway.port}"
        target = self.base + path
        headers = signed_headers(method, target, host, body, extra=extra, **options)
        return raw.request(self.gateway.port, method, target, headers, body)

    def connection_path(self, connection_id):
        return f"/@connections/{quote(connection_id, safe='')}"

    def post(self, connection_id, body=b""):
        return self.signed("POST", self.connection_path(connection_id), body)

    def deploy(self):
        return self.control.create_deployment(ApiId=self.id, StageName=self.stage)["DeploymentId"]

    def route(self, key):
        for item in self.control.get_routes(ApiId=self.id, MaxResults="500")["Items"]:
            if item["RouteKey"] == key:
                return item
        raise AssertionError(f"no route {key}")


CONNECTION_ID = {"integration.request.header.connectionId": "context.connectionId"}


def path_of(route_key):
    """Where the tests' backend gets the events of a route."""
    return "/" + quote(route_key.replace("$", ""), safe="")


def add_route(api, key, backend_url, parameters=None, two_way=(False, False), response=None, **integration):
    """Integration and route for one key; `two_way` = (selection expression, route response)."""
    uri = integration.pop("IntegrationUri", None) or f"{backend_url}{path_of(key)}"
    arguments = {
        "IntegrationType": "HTTP_PROXY",
        "IntegrationMethod": "POST",
        "IntegrationUri": uri,
        "RequestParameters": CONNECTION_ID if parameters is None else parameters,
        **integration,
    }
    if arguments["IntegrationType"] == "MOCK":
        for name in ("IntegrationMethod", "IntegrationUri", "RequestParameters"):
            arguments.pop(name)
    made = api.control.create_integration(ApiId=api.id, **arguments)
    extra = {}
    if two_way[0]:
        extra["RouteResponseSelectionExpression"] = "$default"
    route = api.control.create_route(
        ApiId=api.id, RouteKey=key, Target=f"integrations/{made['IntegrationId']}", **extra
    )
    if two_way[1]:
        api.control.create_route_response(ApiId=api.id, RouteId=route["RouteId"], RouteResponseKey="$default")
    return route["RouteId"], made["IntegrationId"]


DEFAULT_ROUTES = ("$connect", "$disconnect", "$default")


def make_api(
    gateway, backend=None, routes=DEFAULT_ROUTES, stage="prod", expression="$request.body.action",
    name="e2e", url=None, stage_options=None, **route_options,
):
    """API, integrations, routes, stage and deployment, in the order the console uses."""
    control_client = control(gateway)
    created = control_client.create_api(
        Name=name, ProtocolType="WEBSOCKET", RouteSelectionExpression=expression
    )
    api = Api(gateway, control_client, created["ApiId"], stage)
    base = url or (backend.url if backend else None)
    for key in routes:
        options = {}
        if isinstance(key, tuple):
            key, options = key
        add_route(api, key, base, **{**route_options, **options})
    control_client.create_stage(ApiId=api.id, StageName=stage, **(stage_options or {}))
    api.deployment = api.deploy()
    return api


def error_frame(text):
    return json.loads(text)
