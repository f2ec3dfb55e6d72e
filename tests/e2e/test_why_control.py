"""Why a tool could not change the gateway: boto3 makes the mistake, `tidegate explain --last` names it."""

import json
import subprocess

import pytest
import requests

from harness import aws, raw
from harness.aws import refused
from harness.cli import explained, failures, finding, tidegate
from harness.gateway import ACCESS_KEY, SECRET_KEY, binary, clean_environment, unused_tcp_port

READER = "AKIDREADER"
CONFIG = f"""
[[credentials]]
access_key_id = "{READER}"
secret_access_key = "a-secret-of-forty-characters-for-reading"
allow = ["apigateway:GET *"]
"""


def last(gateway, wanted, **facts):
    """The newest failure of the journal is this one, with these facts; `explain --last` says so."""
    entry = failures(gateway)[-1]
    assert entry["outcome"] == wanted, entry
    assert entry["kind"] == "control", entry
    for name, value in facts.items():
        assert entry["facts"].get(name) == value, (name, entry)
    explained(gateway, "--last=1", wanted)
    return entry


def unsigned(gateway, method, path, body=None):
    return requests.request(method, gateway.admin_url + path, json=body, timeout=5)


def test_who_calls(start_gateway):
    # provision.no-credentials provision.wrong-region provision.denied command.wrong-profile command.denied
    # command.no-credentials DX-7
    gateway = start_gateway(CONFIG)
    reply = unsigned(gateway, "POST", "/v2/apis", {"name": "x"})
    assert (reply.status_code, reply.json()) == (403, {"message": "Missing Authentication Token"})
    last(gateway, "provision.no-credentials", object="/v2/apis", method="POST", status=403, what="change")

    reader = aws.control(gateway, retries=False, access_key=READER, secret="a-secret-of-forty-characters-for-reading")
    assert reader.get_apis()["Items"] == []
    with refused("AccessDeniedException", 403):
        reader.create_api(Name="x", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.a")
    entry = last(gateway, "provision.denied", caller=READER, actor=READER, action="apigateway:POST")
    assert entry["facts"]["resource"].endswith("/v2/apis")

    stranger = aws.control(gateway, retries=False, access_key="AKIDOTHERPROFILE", secret="x" * 40)
    with refused("UnrecognizedClientException", 403):
        stranger.get_apis()
    entry = last(gateway, "command.wrong-profile", caller="AKIDOTHERPROFILE", what="read")
    assert set(entry["facts"]["expected"]) == {ACCESS_KEY, READER}

    import boto3

    abroad = boto3.client(
        "apigatewayv2", endpoint_url=gateway.admin_url, region_name="eu-north-1",
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
    )
    with pytest.raises(Exception, match="InvalidSignature|SignatureDoesNotMatch|AccessDenied|403|scoped"):
        abroad.get_apis()
    last(gateway, "provision.wrong-region", region="eu-north-1", expected="us-east-1", caller=ACCESS_KEY)
    assert SECRET_KEY not in json.dumps(failures(gateway))


def test_what_they_say_of_themselves_is_not_believed(gateway):
    # provision.no-credentials command.wrong-profile
    scope = "x" * 500 + "/20300101/us-east-1/apigateway/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"}
    path = "/v2/apis/" + "y" * 3000
    assert requests.get(gateway.admin_url + path, headers=headers, timeout=5).status_code == 403
    entry = failures(gateway)[-1]
    assert not entry["facts"].get("actor") and "caller" not in entry["facts"], entry
    assert len(json.dumps(entry)) < 2000


def test_what_they_ask_for(gateway, control):
    # provision.invalid-target provision.invalid-domain provision.invalid-certificate provision.conflict
    api = control.create_api(Name="x", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.a")["ApiId"]
    with refused("BadRequestException", 400):
        control.create_integration(ApiId=api, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri="app.example.com/ws/")
    entry = last(gateway, "provision.invalid-target", endsWithSlash=True, actor=ACCESS_KEY)
    assert entry["apiId"] == api and "absolute" in entry["facts"]["detail"]

    with refused("BadRequestException", 400):
        control.create_domain_name(DomainName="ws..example.com")
    last(gateway, "provision.invalid-domain", domain="ws..example.com", rule="a label is empty")

    with refused("BadRequestException", 400):
        control.create_domain_name(DomainName="ws.example.com", DomainNameConfigurations=[{"CertificateArn": "my cert"}])
    last(gateway, "provision.invalid-certificate")

    control.create_domain_name(DomainName="ws.example.com")
    with refused("ConflictException", 409):
        control.create_domain_name(DomainName="ws.example.com")
    last(gateway, "provision.conflict", detail="ws.example.com exists")

    stage = control.create_stage(ApiId=api, StageName="live")
    with refused("ConflictException", 409):
        control.create_stage(ApiId=api, StageName="live")
    entry = last(gateway, "provision.conflict", detail="live exists")
    assert entry["facts"]["createdAt"][:10] == stage["CreatedDate"].strftime("%Y-%m-%d")


def test_what_is_right_leaves_no_failure(gateway, control, api):
    # DX-3: no false alarms
    control.get_apis()
    requests.get(gateway.admin_url + "/healthz", timeout=5)
    tidegate(gateway, "apis", "ls")
    assert failures(gateway) == []


def test_calls_at_the_wrong_listener(gateway, api):
    # management.wrong-listener
    client = aws.client("apigatewaymanagementapi", f"{gateway.admin_url}/live", retries=False)
    with refused("404", 404):
        client.post_to_connection(ConnectionId="abcdefghijklmno=", Data=b"x")
    last(gateway, "management.wrong-listener", listener="admin", what="call", actor=ACCESS_KEY)


def test_a_key_that_the_admin_api_does_not_know(gateway):
    # management.unknown-key management.unsigned
    assert requests.get(gateway.admin_url + "/api/apis", timeout=5).status_code == 401
    last(gateway, "management.unsigned", status=401, what="call")
    done = requests.get(gateway.admin_url + "/api/apis", headers={"Authorization": "Bearer " + "k" * 40}, timeout=5)
    assert done.status_code == 403
    last(gateway, "management.unknown-key", status=403)


def test_the_command_line_cannot_reach_the_node():
    # command.cannot-reach
    port = unused_tcp_port()
    environment = clean_environment(TIDEGATE_ADMIN_URL=f"http://127.0.0.1:{port}", TIDEGATE_KEY="k" * 40)
    done = subprocess.run([binary(), "apis", "ls"], capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode != 0
    assert f"127.0.0.1:{port}" in done.stderr and "command.cannot-reach" in done.stderr
    assert "--admin-url" in done.stderr and "/readyz" in done.stderr
    page = subprocess.run([binary(), "explain", "command.cannot-reach"], capture_output=True, text=True, env=environment, timeout=30)
    assert "--admin-url" in page.stdout
