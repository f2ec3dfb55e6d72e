"""Who may connect: authorizers behind the Invoke API and at HTTP addresses, signed handshakes, API keys (AG-3, AG-18)."""

import json
import re
import subprocess
from pathlib import Path

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from harness.aws import make_api, refused
from harness.cli import explained
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY, clean_environment

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache/e2e"
INVOKED = "/2015-03-31/functions/auth/invocations"
EXPLICIT = "User is not authorized to access this resource with an explicit deny in an identity-based policy"
NO_ALLOW = (
    "User is not authorized to access this resource because no identity-based policy allows the execute-api:Invoke action"
)
ERROR_BODY = re.compile(
    r'^\{"message": (?P<message>"[^"]*"|null), "connectionId":"[A-Za-z0-9_-]{15}=", "requestId":"(?P<request>[A-Za-z0-9_-]{15}=)"\}$'
)
KNOWN = {
    "integration.request.header.connectionId": "context.connectionId",
    "integration.request.header.principal": "context.authorizer.principalId",
    "integration.request.header.plan": "context.authorizer.plan",
    "integration.request.header.level": "context.authorizer.level",
    "integration.request.header.beta": "context.authorizer.beta",
    "integration.request.header.arn": "context.identity.userArn",
    "integration.request.header.key-id": "context.identity.apiKeyId",
}


def refusal(ws, status, message):
    """The refusal of step 5 and later: status and body of 1.3. Answers the request id."""
    assert ws.status == status, (ws.status, ws.reply.body)
    match = ERROR_BODY.match(ws.reply.text)
    assert match, ws.reply.text
    assert json.loads(match["message"]) == message
    assert ws.reply.get("x-amzn-errortype")
    return match["request"]


def arn(api, rest="$connect"):
    return f"arn:aws:execute-api:{REGION}:000000000000:{api.id}/{api.stage}/{rest}"


def policy(effect, resource):
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": resource}
    return {
        "principalId": "user-42",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"plan": "gold", "level": 3, "beta": True},
    }


def protect(api, **route):
    """Changes `$connect` and deploys."""
    api.control.update_route(ApiId=api.id, RouteId=api.route("$connect")["RouteId"], **route)
    api.deploy()
    return api


def authorize(api, uri, sources=("route.request.querystring.token",)):
    made = api.control.create_authorizer(
        ApiId=api.id, Name="people", AuthorizerType="REQUEST", AuthorizerUri=uri, IdentitySource=list(sources)
    )
    return protect(api, AuthorizationType="CUSTOM", AuthorizerId=made["AuthorizerId"])


def function_uri(name="auth"):
    function = f"arn:aws:lambda:{REGION}:000000000000:function:{name}"
    return f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}/invocations"


@pytest.fixture
def lambda_api(start_gateway, backend):
    """An API whose function `auth` is the backend, as an Invoke endpoint."""
    gateway = start_gateway(f'[lambda]\nendpoint = "{backend.url}"\n')
    return authorize(make_api(gateway, backend, parameters=KNOWN), function_uri())


def test_consent_is_known_to_all_events(lambda_api, backend):
    """AG-18: the event of 4.2, and context values as text in CONNECT, MESSAGE and DISCONNECT."""
    api = lambda_api
    backend.on(INVOKED, body=json.dumps(policy("Allow", arn(api))))
    with api.connect("token=abc&lang=en&lang=fr", headers=[("X-Custom", "One")]) as ws:
        ws.text("hello")
        backend.wait(1, "/default")
        ws.close(1000)
    backend.wait(1, "/disconnect")
    asked = backend.one(INVOKED)
    event = json.loads(asked.text)
    assert (event["type"], event["methodArn"]) == ("REQUEST", arn(api))
    assert event["queryStringParameters"] == {"token": "abc", "lang": "fr"}
    assert event["multiValueQueryStringParameters"] == {"token": ["abc"], "lang": ["en", "fr"]}
    assert event["stageVariables"] == {} and event["headers"]["X-Custom"] == "One"
    assert event["headers"]["Upgrade"] == "websocket" and event["headers"]["content-length"] == "0"
    assert not {"body", "isBase64Encoded", "pathParameters"} & set(event)
    for path in ("/connect", "/default", "/disconnect"):
        request = backend.one(path)
        known = [request.get(name) for name in ("principal", "plan", "level", "beta")]
        assert known == ["user-42", "gold", "3", "true"], path
        assert request.connection_id == event["requestContext"]["connectionId"]


@pytest.mark.logs("authorizer")
def test_answers_of_a_function(lambda_api, backend):
    """AG-18, AG-3: allow, deny, `Unauthorized`, crash, malformed, missing identity source; one command says why."""
    api, gateway = lambda_api, lambda_api.gateway
    request_id = refusal(api.open(), 401, "Unauthorized")
    explained(gateway, request_id, "authorizer.identity-missing")
    assert backend.at(INVOKED) == []

    def answer(body, error=None):
        headers = (("X-Amz-Function-Error", error),) if error else ()
        backend.on(INVOKED, body=json.dumps(body), headers=headers)
        return api.open("token=abc")

    explained(gateway, refusal(answer(policy("Deny", "*")), 403, EXPLICIT), "authorizer.denied")
    # Made for a REST API, the resource never fits.
    mismatch = refusal(answer(policy("Allow", arn(api, "*/*"))), 403, NO_ALLOW)
    found = explained(gateway, mismatch, "authorizer.resource-mismatch")
    assert arn(api, "*/*") in json.dumps(found["evidence"])
    refusal(answer({"errorMessage": "Unauthorized", "errorType": "Error"}, "Unhandled"), 401, "Unauthorized")
    crash = refusal(answer({"errorMessage": "boom", "errorType": "Error"}, "Unhandled"), 500, "Internal server error")
    explained(gateway, crash, "authorizer.failed")
    explained(gateway, refusal(answer({"statusCode": 200}), 500, None), "authorizer.bad-answer")
    for resource in (arn(api, "*"), "*"):
        ws = answer(policy("Allow", resource))
        assert ws.status == 101, resource
        ws.close(1000)
    assert len(backend.at("/connect")) == 2


@pytest.mark.logs("authorizer")
def test_an_address_in_place_of_a_function(start_gateway, backend):
    """AG-18: an http:// authorizer; conditions of policies; an age after which it is asked again."""
    gateway = start_gateway("[authorizer]\nmax_age = 1\n")
    api = authorize(make_api(gateway, backend, parameters=KNOWN), f"{backend.url}/check", sources=[""])
    conditional = policy("Allow", arn(api))
    conditional["policyDocument"]["Statement"][0]["Condition"] = {
        "IpAddress": {"aws:SourceIp": ["127.0.0.0/8"]}, "Bool": {"aws:SecureTransport": "false"},
    }
    backend.on("/check", body=json.dumps(conditional))
    with api.connect() as ws:
        closed = ws.closed()
        assert (closed.code, closed.reason) == (1008, "Authorization expired")
    backend.wait(1, "/disconnect")
    conditional["policyDocument"]["Statement"][0]["Condition"]["Bool"] = {"aws:SecureTransport": "true"}
    backend.on("/check", body=json.dumps(conditional))
    refusal(api.open(), 403, NO_ALLOW)
    for status, told in ((401, (401, "Unauthorized")), (403, (403, "User is not authorized to access this resource"))):
        backend.on("/check", status=status)
        refusal(api.open(), *told)
    backend.on("/check", status=500)
    refusal(api.open(), 500, "Internal server error")


def presigned(api, credentials=(ACCESS_KEY, SECRET_KEY), expires=60, query="room=blue"):
    """The target of a handshake that botocore has presigned."""
    request = botocore.awsrequest.AWSRequest("GET", f"{api.endpoint}?{query}")
    keys = botocore.credentials.Credentials(*credentials)
    botocore.auth.SigV4QueryAuth(keys, "execute-api", REGION, expires=expires).add_auth(request)
    return request.url.split("?", 1)[1]


def signed_headers(api):
    request = botocore.awsrequest.AWSRequest("GET", api.endpoint)
    keys = botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY)
    botocore.auth.SigV4Auth(keys, "execute-api", REGION).add_auth(request)
    return list(request.headers.items())


def javascript_presigned(api):
    given = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY, "region": REGION, "port": api.gateway.port, "path": api.base}
    done = subprocess.run(
        [CACHE / "bin/node", HERE / "js/presign.cjs", json.dumps(given)],
        env=clean_environment(NODE_PATH=CACHE / "node/node_modules"), capture_output=True, text=True, timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["query"]


IAM_CONFIG = f"""
[[credentials]]
access_key_id = "AKIDBROWSER"
secret_access_key = "secret-of-the-browsers"
allow = ["execute-api:Invoke arn:aws:execute-api:{REGION}:*:*/prod/$connect"]

[[credentials]]
access_key_id = "AKIDPUSHER"
secret_access_key = "secret-of-the-pusher"
allow = ["arn:aws:execute-api:*"]
"""


@pytest.mark.config(IAM_CONFIG)
def test_signed_handshakes(gateway, backend):
    """AG-3, AG-13: botocore's signatures in headers and in the query, and those of the SDK for JavaScript."""
    api = protect(make_api(gateway, backend, parameters=KNOWN), AuthorizationType="AWS_IAM")
    browser = ("AKIDBROWSER", "secret-of-the-browsers")
    user = f"arn:aws:iam::000000000000:user/{ACCESS_KEY}"
    for query, headers, who in (
        (presigned(api), [], user),
        ("", signed_headers(api), user),
        (javascript_presigned(api), [], user),
        (presigned(api, browser), [], "arn:aws:iam::000000000000:user/AKIDBROWSER"),
    ):
        before = len(backend.at("/disconnect"))
        with api.connect(query, headers=headers) as ws:
            ws.close(1000)
        backend.wait(before + 1, "/disconnect")
        connect, end = backend.at("/connect")[-1], backend.at("/disconnect")[-1]
        assert (connect.get("arn"), end.get("arn")) == (who, who)
        assert not connect.has("authorization") and "X-Amz-Signature" not in connect.target
        assert ("room=blue" in connect.target) == ("room=blue" in query)
    n_connects = len(backend.at("/connect"))
    request_id = refusal(api.open(), 403, "Missing Authentication Token")
    explained(gateway, request_id, "iam.connect-unsigned")
    for query in (presigned(api).replace("room=blue", "room=red"), presigned(api, (ACCESS_KEY, "wrong"))):
        ws = api.open(query)
        assert (ws.status, ws.reply.get("x-amzn-errortype")) == (403, "InvalidSignatureException")
        assert ws.reply.json["message"].startswith("The request signature we calculated does not match")
    ws = api.open(presigned(api, ("AKIDPUSHER", "secret-of-the-pusher")))
    assert (ws.status, ws.reply.get("x-amzn-errortype")) == (403, "AccessDeniedException")
    assert "is not authorized to perform: execute-api:Invoke on resource: " in ws.reply.json["message"]
    assert len(backend.at("/connect")) == n_connects


KEY = "key-of-the-partner-0001"


def key_config(api_id, more=""):
    return f"""
[api_keys.partner]
value = "{KEY}"
id = "k1"
[api_keys.former]
value = "key-of-the-partner-0002"
enabled = false
[usage_plans.gold]
keys = ["partner", "former"]
stages = ["{api_id}/prod"]
{more}
"""


def test_api_keys_and_quotas(start_gateway, backend, tmp_path):
    """AG-3: 403 without a good key, 429 when the quota is used up, which a restart does not undo."""
    first = start_gateway(data_dir=tmp_path / "data")
    api = protect(make_api(first, backend, parameters=KNOWN), ApiKeyRequired=True)
    refusal(api.open(), 403, "Forbidden")
    first.stop()
    config = key_config(api.id, 'quota = { limit = 2, period = "MONTH" }')
    header = [("X-Api-Key", KEY)]
    for _ in range(2):
        gateway = start_gateway(config, data_dir=tmp_path / "data")
        api.gateway = gateway
        with api.connect(headers=header) as ws:
            ws.close(1000)
        gateway.stop()
    assert [request.get("key-id") for request in backend.at("/connect")] == ["k1", "k1"]
    gateway = start_gateway(config, data_dir=tmp_path / "data")
    api.gateway = gateway
    explained(gateway, refusal(api.open(), 403, "Forbidden"), "apikey.missing")
    wrong = api.open(headers=[("x-api-key", "key-of-the-partner-9999")])
    explained(gateway, refusal(wrong, 403, "Forbidden"), "apikey.unknown")
    refusal(api.open(headers=[("x-api-key", "key-of-the-partner-0002")]), 403, "Forbidden")
    explained(gateway, refusal(api.open(headers=header), 429, "Limit Exceeded"), "apikey.over-limit")
    assert KEY not in gateway.log_text()
    journal = json.dumps(explained(gateway, refusal(api.open(headers=header), 429, "Limit Exceeded"), "apikey.over-limit"))
    assert "k1" in journal and KEY not in journal


def test_authorization_is_for_connect_only(gateway, backend):
    """AG-18: other routes cannot have one."""
    api = make_api(gateway, backend)
    with refused("BadRequestException", 400, "Currently, authorization is restricted to the $connect route only"):
        api.control.update_route(ApiId=api.id, RouteId=api.route("$default")["RouteId"], AuthorizationType="AWS_IAM")
