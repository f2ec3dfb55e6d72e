"""A first-time user breaks six things, one after the other, and asks one command each time."""

import base64
import hashlib
import hmac
import json
import time

import boto3
import pytest
from botocore.config import Config
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from harness.cli import tidegate
from harness.wait import until


class User:
    """Somebody at a terminal beside `tidegate dev`."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.demo = gateway.address
        self.api = "dev0000000"
        self.base = f"ws://127.0.0.1:{gateway.port}/_aws/execute-api/{self.api}"

    def client(self, service, endpoint):
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="tidegate",
            aws_secret_access_key="tidegate-secret",
            config=Config(proxies={}, retries={"total_max_attempts": 1, "mode": "standard"}),
        )

    def control(self):
        return self.client("apigatewayv2", self.gateway.admin_url)

    def run(self, *words, code):
        """One command; its JSON."""
        return tidegate(self.gateway, *words, code=code, access_key="tidegate", secret="tidegate-secret")

    def explain(self, *words, code=0):
        report = self.run("explain", *words, code=code)
        assert report["schema"] == "tidegate.diagnosis/1" and report["tool"] == "explain"
        return report

    def finding(self, report, wanted):
        ids = [finding["id"] for finding in report["findings"]]
        assert ids and ids[0] == wanted, f"{ids}\n{json.dumps(report, indent=1)[:3000]}"
        found = report["findings"][0]
        assert found["confidence"] == "proven" and found["cause"] and found["evidence"] and found["fix"], found
        return found

    def refused(self, url, status):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, proxy=None)
        assert refused.value.response.status_code == status
        return refused.value.response


@pytest.mark.timeout(180)
@pytest.mark.logs(".*")
def test_six_mistakes_six_answers(start_gateway, backend):
    """DX-17 DX-18 DX-49 stage.unknown handler.selection-mismatch stage.redeploy-needed integration.refused jwt.expired connections.gone-client-closed"""
    gateway = start_gateway(command="dev", args=["--backend", f"{backend.url}/"])
    user = User(gateway)

    # 1. The stage is misspelt. A browser shows 1006 and nothing else; the newest failure says it all.
    user.refused(f"{user.base}/developent", 403)
    found = user.finding(user.explain("--last"), "stage.unknown")
    assert "developent" in json.dumps(found["evidence"]) and "dev" in json.dumps(found["evidence"])
    assert found["clientSaw"]["status"] == 403

    # 2. The selection key is misspelt: the message goes to $default, which answers, and the route never sees it.
    control = user.control()
    integration = control.create_integration(
        ApiId=user.api, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri=f"{backend.url}/join"
    )["IntegrationId"]
    control.create_route(ApiId=user.api, RouteKey="join", Target=f"integrations/{integration}")
    stage = control.get_stages(ApiId=user.api)["Items"][0]["StageName"]
    control.create_deployment(ApiId=user.api, StageName=stage)
    url = f"{user.base}/{stage}"
    with connect(url, proxy=None) as socket:
        connection = backend.wait(1, "/connect")[0].connection_id
        socket.send('{"acton": "join"}')
        backend.wait(1, "/default")
        report = user.explain(connection)
        found = user.finding(report, "handler.selection-mismatch")
        assert "acton" in json.dumps(found["evidence"])
        assert [moment["kind"] for moment in report["timeline"]][0] == "handshake"

    # 3. A route is added and not deployed.
    control.create_route(ApiId=user.api, RouteKey="leave", Target=f"integrations/{integration}")
    found = user.finding(user.run("doctor", "--api", user.api, code=0), "stage.redeploy-needed")
    assert "leave" in json.dumps(found["evidence"])
    tested = user.run("route", "test", user.api, '{"action": "leave"}', code=0)
    assert "leave" in json.dumps(tested)
    control.create_deployment(ApiId=user.api, StageName=stage)

    # 4. The backend is down.
    backend.stop()
    response = user.refused(url, 504)
    found = user.finding(user.explain(response.headers["Tidegate-Request-Id"]), "integration.refused")
    assert found["clientSaw"]["status"] == 504

    # 5. The token has expired.
    policy = {"jwt": {"keys": [{"secret": "an-hmac-secret-of-the-tests-0123456789", "algorithms": ["HS256"]}]}, "admission": {"checks": ["jwt"]}}
    path = gateway.directory / "policy.json"
    path.write_text(json.dumps(policy))
    user.run("permissions", "policy", "set", str(path), "--api", user.api, "--stage", stage, code=0)
    token = expired_token("an-hmac-secret-of-the-tests-0123456789")
    response = user.refused(f"{url}?token={token}", 403)
    report = user.explain(response.headers["Tidegate-Request-Id"])
    found = user.finding(report, "jwt.expired")
    assert token not in json.dumps(report)

    # 6. A push to a connection that the client has closed.
    management = user.client("apigatewaymanagementapi", f"http://127.0.0.1:{gateway.port}/_aws/execute-api/{user.api}/{stage}")
    with pytest.raises(management.exceptions.GoneException):
        management.post_to_connection(ConnectionId=connection, Data=b"hello")

    def explained():
        report = user.explain(connection, code=0)
        return "connections.gone-client-closed" in [finding["id"] for finding in report["findings"]]

    until(explained, "the closed connection is explained")


def expired_token(secret):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signed = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': 'ann', 'exp': int(time.time()) - 3600})}"
    mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
