"""The admin API of a running node: one pass with requests, and schemathesis against the document that it publishes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import aws
from harness.gateway import clean_environment
from harness.wait import until

KEYS = """
api_key = "root-key"

[[keys]]
name = "reader"
role = "read"
key = "reader-key"

[[keys]]
name = "operator"
role = "operate"
key = "operator-key"
"""

# Not among them: `positive_data_acceptance`, as a policy may fit its schema and be refused all the same, and
# `allow_header_conformance`, as a channel may be called `recheck` and that path has the methods of both.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "ignored_auth",
]

SECONDS = int(os.environ.get("TIDEGATE_SCHEMATHESIS_SECONDS", "30"))


def call(gateway, method, path, key="root-key", **options):
    headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
    return requests.request(method, f"{gateway.admin_url}/api{path}", headers=headers, timeout=10, **options)


@pytest.mark.config(KEYS)
def test_one_login_from_token_to_logout(gateway, api, backend):
    """S0-59, S0-60, S0-72, S0-83: what a backend does for a user, with nothing but an HTTP client."""
    place = {"api": api.id, "stage": api.stage}
    token = call(gateway, "POST", "/tokens", "operator-key", json={**place, "user": "42", "session": "s1"})
    assert token.status_code == 200, token.text
    policy = {"admission": {"checks": ["token"]}, "channels": {"rules": [{"match": "orders", "join": "allow"}]}}
    path = f"/apis/{api.id}/stages/{api.stage}/policy"
    assert call(gateway, "PUT", path, "operator-key", json=policy).status_code == 403
    assert call(gateway, "PUT", path, json=policy).json()["changed"] is True
    with connect(token.json()["url"] + "&channel=orders", proxy=None) as client:
        found = call(gateway, "GET", "/connections?user=42", "reader-key").json()["connections"]
        assert [(c["session"], c["channels"]) for c in found] == [("s1", ["orders"])]
        sent = call(gateway, "POST", "/publish", "operator-key", json={**place, "channel": "orders", "data": {"id": 7}})
        assert sent.json()["delivered"] == 1
        assert client.recv(10) == '{"id":7}'
        assert call(gateway, "POST", "/sessions/s1/end", "operator-key").json() == {"connections": 1, "tokens": 0}
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Session ended")
    until(lambda: call(gateway, "GET", "/attempts?user=42", "reader-key").json()["attempts"], "the attempt")
    by = {change["by"] for change in call(gateway, "GET", "/audit", "reader-key").json()["audit"]}
    assert by == {"operator", "api_key"}


@pytest.mark.timeout(SECONDS * 3)
@pytest.mark.config(KEYS)
@pytest.mark.logs("log.payloads-captured")
def test_the_document_and_the_node_agree(gateway, api, tmp_path):
    """S0-76, S0-93: no answer is a 5xx or another one than the document says, whatever is sent."""
    policy = {"jwt": {"keys": [{"secret": "an-hmac-secret-of-the-tests-0123456789", "algorithms": ["HS256"]}]}}
    assert call(gateway, "PUT", f"/apis/{api.id}/stages/{api.stage}/policy", json=policy).status_code == 200
    (tmp_path / "schemathesis.toml").write_text(
        f"""
[parameters]
api = ["{api.id}", "other"]
stage = ["{api.stage}", "other"]

[[operations]]
include-path = "/api/channels/recheck"
checks.unsupported_method.enabled = false
"""
    )
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file", "schemathesis.toml",
        "run", f"{gateway.admin_url}/api/openapi.json",
        "--header", "Authorization: Bearer root-key",
        "--checks", ",".join(CHECKS),
        "--phases", "coverage,fuzzing",
        "--max-time", str(SECONDS),
        "--max-examples", "30",
        "--seed", "20260101",
        "--generation-database", "none",
        "--continue-on-failure",
        "--warnings", "off",
        "--no-color",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(NO_COLOR=1), capture_output=True, text=True, timeout=SECONDS * 2
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested and int(tested.group(1)) >= 35, done.stdout[-4000:]
    assert call(gateway, "GET", "/status").json()["state"] == "ready"
