"""The AWS SDK for JavaScript v3 and the `ws` package, as published (AG-1, 8, 9, 11, 12)."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.backend import Reply
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY, clean_environment

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache/e2e"


def node(script, gateway, **arguments):
    given = {
        "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY, "region": REGION,
        "admin": gateway.admin_url, "public": f"http://127.0.0.1:{gateway.port}", **arguments,
    }
    done = subprocess.run(
        [CACHE / "bin/node", HERE / "js" / script, json.dumps(given)],
        env=clean_environment(NODE_PATH=CACHE / "node/node_modules", AWS_EC2_METADATA_DISABLED="true"),
        capture_output=True, text=True, timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.logs("backend")
def test_whole_loop(gateway, backend):
    """AG-1, 8, 9, 11, 12, 14, 24, 25: everything of the loop with this SDK, every modelled error by its name."""
    backend.on("/two-way", hook=lambda r: Reply(body=json.dumps({"connectionId": r.connection_id}).encode()))
    result = node("loop.cjs", gateway, backend=backend.url)
    assert result["createdIsDate"]
    assert result["postStatus"] == 200 and len(result["requestId"]) == 36
    assert result["text"] == "from node ü"
    assert result["big"] == 131072
    assert result["tooLarge"] == {"name": "PayloadTooLargeException", "status": 413, "message": "Message too long"}
    assert result["info"] == {"identity": {"SourceIp": "127.0.0.1", "UserAgent": "NodeClient/1"}, "dates": True}
    assert result["malformed"] == {"name": "BadRequestException", "status": 400, "message": "Invalid connectionId: abc"}
    assert (result["forbidden"]["name"], result["forbidden"]["status"]) == ("ForbiddenException", 403)
    assert (result["wrongSecret"]["name"], result["wrongSecret"]["status"]) == ("InvalidSignatureException", 403)
    assert result["deletedStatus"] == 204
    assert result["ended"] == {"code": 1000, "reason": "Connection Closed Normally"}
    assert [(g["name"], g["status"]) for g in result["gone"]] == [("GoneException", 410)] * 3
    assert (result["notFound"]["name"], result["notFound"]["status"]) == ("NotFoundException", 404)
    assert (result["conflict"]["name"], result["conflict"]["message"]) == ("ConflictException", "Stage already exists")
    assert result["badRequest"]["name"] == "BadRequestException"
    assert result["listed"] == ["$connect", "$disconnect", "$default", "two-way"]
    assert [r.path for r in backend.wait(3)] == ["/connect", "/two-way", "/disconnect"]


@pytest.mark.logs(".")
def test_limit_exceeded(gateway, api, backend):
    """AG-1 (5.3): LimitExceededException for a consumer that does not read."""
    with api.connect(receive_buffer=4096) as ws:
        connection = backend.one("/connect").connection_id
        result = node("slow.cjs", gateway, endpoint=api.endpoint, connectionId=connection)
        assert result["failed"], "500 posts of 128 KB were taken for a client that reads nothing"
        assert (result["failed"]["name"], result["failed"]["status"]) == ("LimitExceededException", 429)
        ws.reset()
    backend.one("/disconnect")
