"""Lambda authorizers, signed handshakes."""


import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from suite import golden
from suite.api import Ws, invocation_uri, refused
from suite.checks import check
from suite.functions import Watcher

HOW = "boto3, raw WebSocket client, a Python function as authorizer"
SOURCE = ["route.request.querystring.auth"]


def authorized(new_api, functions, source=None, connect=False, **stage):
    """An API whose `$connect` asks the authorizer; `event` answers with the event, `who` is a template."""
    api = new_api()
    made = api.control.create_authorizer(
        ApiId=api.id, AuthorizerType="REQUEST", Name="a", IdentitySource=SOURCE if source is None else source, AuthorizerUri=invocation_uri(api.target, functions.arn())
    )
    route = {"AuthorizationType": "CUSTOM", "AuthorizerId": made["AuthorizerId"]}
    if connect:
        api.function("$connect", functions.arn(), route=route)
    else:
        api.mock("$connect", two_way=False, route=route)
    api.function("event", functions.arn(), two_way=True)
    api.mock("who", "$context.authorizer.principalId $context.authorizer.plan $context.authorizer.level $context.authorizer.beta [$!context.authorizer.nope]")
    return api.live(**stage)


@check(18, feature="authorizers", needs=["functions"], how=HOW, what="Allowed: 101; `principalId` and every entry of `context`, as strings, are in all later events, in templates, and in CONNECT events with the latency")
def test_allow(new_api, functions):
    # AG-18
    watcher = Watcher(new_api)
    api = authorized(new_api, functions, connect=True, StageVariables=watcher.variables())
    with api.connect("auth=allow") as ws:
        asked, connected = watcher.next(), watcher.next()
        assert (asked["type"], connected["requestContext"]["eventType"]) == ("REQUEST", "CONNECT")
        authorizer = connected["requestContext"]["authorizer"]
        assert isinstance(authorizer.pop("integrationLatency"), int)
        wanted = {"principalId": "ann", "plan": "gold", "level": "3", "beta": "true", "none": "", "ratio": "0.5"}
        assert authorizer == wanted
        ws.text('{"action":"event"}')
        assert ws.json()["requestContext"]["authorizer"] == wanted
        watcher.next()
        ws.text('{"action":"who"}')
        assert ws.message() == "ann gold 3 true []"


@check(18, feature="authorizers", needs=["functions"], how=HOW + "; golden file", what="The authorizer's event, member by member, with `type`, `methodArn` and the handshake's connection headers")
def test_event(new_api, functions, target):
    # AG-18
    watcher = Watcher(new_api)
    api = authorized(new_api, functions, StageVariables={**watcher.variables(), "tier": "gold"})
    headers = [("Origin", "https://shop.example"), ("User-Agent", "ExampleBrowser/1.0")]
    with api.connect("auth=allow&lang=en&lang=fr", headers=headers) as ws:
        event = watcher.next()
    for variable in ("endpoint", "watcher"):
        event["stageVariables"].pop(variable)
    context = event["requestContext"]
    _, port, _, host = target.tcp(api.url())
    known = {
        context["domainName"]: "domain name", api.id: "api id", context["connectionId"]: "connection id", context["requestId"]: "request id",
        context["identity"]["sourceIp"]: "client address", ws.key: "key", host: "host", str(port): "client port", f":{target.region}:{target.account}:": ":region:account:",
    }
    golden.compare_json("authorizer_event.json", event, known)


REFUSED = [
    ("deny", 403, None), ("both", 403, None), ("no statement", 403, None), ("rest resource", 403, None), ("unauthorized", 401, "Unauthorized"),
    ("fail", 500, "Internal server error"), ("malformed", 500, None), ("no principal", 500, None), ("object in context", 500, None),
]


@check(18, feature="authorizers", needs=["functions"], how=HOW, what="Refused: deny, deny beside allow, nothing allowed, a resource made for REST APIs 403; the error `Unauthorized` 401; a function that fails, a malformed policy, no principal, objects in `context` 500")
@pytest.mark.parametrize("wanted,status,text", REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(new_api, functions, wanted, status, text):
    # AG-18
    api = authorized(new_api, functions)
    ws = api.open(f"auth={wanted.replace(' ', '%20')}")
    assert ws.status == status, ws.reply
    body = ws.reply.json
    if status == 403:
        assert body["message"].startswith("User is not authorized to access this resource")
    if text:
        assert body["message"] == text
    assert ws.reply.get("sec-websocket-accept") is None
    if api.target.is_tidegate and wanted in ("deny", "unauthorized"):
        headers = [(name, value) for name, value in ws.reply.headers if name.lower() != "date"]
        golden.compare_headers(f"handshake_{status}_authorizer.txt", f"HTTP/1.1 {ws.reply.status} {ws.reply.reason}", headers, ws.reply.text)


@check(18, feature="authorizers", needs=["functions"], how=HOW, what="A policy with a wildcard behind the stage allows")
def test_wildcard(new_api, functions):
    # AG-18
    authorized(new_api, functions).connect("auth=wildcard").wire.close()


@check(18, feature="authorizers", needs=["functions"], how=HOW, what="A missing or empty identity source is 401 and the function is not asked; without identity sources it always is; nothing is cached")
def test_identity_sources(new_api, functions):
    # AG-18
    watcher = Watcher(new_api)
    api = authorized(new_api, functions, source=["route.request.querystring.auth", "route.request.header.X-Token"], StageVariables=watcher.variables())
    for query, headers in (("", [("X-Token", "1")]), ("auth=", [("X-Token", "1")]), ("auth=allow", [])):
        ws = api.open(query, headers=headers)
        assert (ws.status, ws.reply.json["message"]) == (401, "Unauthorized"), (query, ws.reply)
    for number in ("1", "2"):
        api.connect("auth=allow", headers=[("x-token", number)]).wire.close()
        assert watcher.next()["queryStringParameters"] == {"auth": "allow"}, "the first report is that of the first handshake that was complete"


@check(18, feature="authorizers", needs=["functions"], how=HOW, what="An authorizer that changes or goes away does not touch open connections")
def test_open_connections(new_api, functions):
    # AG-18
    api = authorized(new_api, functions)
    with api.connect("auth=allow") as ws:
        api.control.update_route(ApiId=api.id, RouteId=api.routes["$connect"], AuthorizationType="NONE")
        api.deploy()
        ws.text('{"action":"who"}')
        assert ws.message().startswith("ann gold 3 true")


@check(18, feature="authorizers", how="boto3", what="Authorizers: members of HTTP APIs and wrong identity sources are refused with their texts")
def test_definitions(new_api, target):
    # AG-18
    api = new_api()
    uri = invocation_uri(target, f"arn:aws:lambda:{target.region}:{target.account}:function:x")
    make = {"ApiId": api.id, "AuthorizerType": "REQUEST", "Name": "a", "AuthorizerUri": uri, "IdentitySource": SOURCE}
    with refused("BadRequestException", 400, "AuthorizerResultTtlInSeconds cannot be set for WEBSOCKET protocol Apis."):
        api.control.create_authorizer(**make, AuthorizerResultTtlInSeconds=300)
    with refused("BadRequestException", 400) as e:
        api.control.create_authorizer(**{**make, "IdentitySource": ["method.request.header.X"]})
    assert e.text.startswith("Invalid request identity source expression: method.request.header.X.")


# -- signed handshakes ---------------------------------------------------------------------


@pytest.fixture
def signed_api(new_api):
    api = new_api().mock("$connect", two_way=False, route={"AuthorizationType": "AWS_IAM"}).whoami()
    api.mock("who", "$context.identity.accountId $context.identity.userArn")
    return api.live()


def sign(api, how, secret=None):
    """URL and headers of a handshake that botocore has signed."""
    access, own, token = api.target.keys()
    url = "http" + api.url()[2:]
    request = AWSRequest("GET", url)
    how(Credentials(access, secret or own, token), "execute-api", api.target.region).add_auth(request)
    return "ws" + request.url[4:], [(name, value) for name, value in request.headers.items()]


@check(18, feature="authorizers", how="botocore's signers, raw WebSocket client", what="`AWS_IAM`: signed by headers or by query string 101; not signed or with a wrong secret 403 with the texts of signatures")
@pytest.mark.parametrize("how", [SigV4Auth, SigV4QueryAuth], ids=["headers", "query string"])
def test_signed_handshake(signed_api, how):
    # AG-18
    url, headers = sign(signed_api, how)
    with Ws(signed_api.target, url, headers=headers) as ws:
        assert ws.status == 101, ws.reply
        signed_api.identify(ws)
        ws.text('{"action":"who"}')
        account, arn = ws.message().split(" ")
        assert account and arn.startswith("arn:aws:")
    url, headers = sign(signed_api, how, "wrong")
    ws = Ws(signed_api.target, url, headers=headers)
    assert ws.status == 403 and ws.reply.json["message"].startswith("The request signature we calculated does not match"), ws.reply
    ws = signed_api.open()
    assert (ws.status, ws.reply.json["message"]) == (403, "Missing Authentication Token")
