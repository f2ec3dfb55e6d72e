"""What callers and developers hold in their hands: boto3's request id, an error frame, a throttled message."""

import json
import subprocess
import tarfile

import botocore.exceptions
import pytest

from harness import aws
from harness.backend import Reply
from harness.cli import tidegate
from harness.gateway import binary, clean_environment, unused_tcp_port
from harness.wait import until
from harness.why import ROOT_KEY, ask, says


def test_the_request_id_that_boto3_shows(gateway, api, backend):
    # DX-17
    ws = api.connect()
    known = backend.one("/connect").connection_id
    ws.close(1000)
    backend.wait(1, "/disconnect")
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        api.management(retries=False).post_to_connection(ConnectionId=known, Data=b"{}")
    metadata = caught.value.response["ResponseMetadata"]
    uuid, inner = metadata["RequestId"], metadata["HTTPHeaders"]["x-amz-apigw-id"]
    assert len(uuid) == 36 and uuid != inner
    wanted = until(lambda: ask(gateway, inner)["findings"], "the entry", interval=0.1)[0]["id"]
    assert wanted == "connections.gone-client-closed"
    for question in (uuid, uuid.upper(), f"GoneException RequestId: {uuid} was refused"):
        assert says(gateway, question, wanted)["requestId"] == inner
    # One that nobody made.
    report = ask(gateway, "00000000-0000-4000-8000-000000000000")
    assert not [found for found in report["findings"] if found["confidence"] == "proven"]


@pytest.mark.config('debug_clients = ["127.0.0.1/32"]')
@pytest.mark.logs(".*")
def test_a_developer_is_told_in_the_frame(gateway, backend):
    # DX-75
    api = aws.make_api(gateway, backend, routes=["$connect", "join"])
    with api.connect() as ws:
        ws.text('{"action":"leave"}')
        frame = json.loads(ws.message())
        assert frame["message"] == "Forbidden" and frame["connectionId"] and frame["requestId"]
        assert frame["tidegate"]["id"] == "route.no-match" and frame["tidegate"]["sentence"]
        says(gateway, frame["requestId"], frame["tidegate"]["id"])


@pytest.mark.logs(".*")
def test_everybody_else_is_told_nothing(gateway, backend):
    # DX-70 DX-75
    api = aws.make_api(gateway, backend, routes=["$connect", "join"])
    with api.connect() as ws:
        ws.text('{"action":"leave"}')
        assert set(json.loads(ws.message())) == {"message", "connectionId", "requestId"}


@pytest.mark.logs(".*")
def test_a_throttled_message(gateway, backend):
    # ratelimit.stage
    api = aws.make_api(
        gateway, backend, routes=["$connect", "$default", "join"],
        stage_options={"RouteSettings": {"join": {"ThrottlingBurstLimit": 2, "ThrottlingRateLimit": 0.01}}},
    )
    with api.connect() as ws:
        for _ in range(3):
            ws.text('{"action":"join"}')
        frame = json.loads(ws.message())
        assert frame["message"] == "Too Many Requests"
        found = says(gateway, frame["requestId"], "ratelimit.stage", proof=('"burst": 2', '"limit": 0.01', '"routeKey": "join"'))
        assert found["clientSaw"]["text"] == "Too Many Requests"


@pytest.mark.logs(".*")
def test_a_report_has_the_log_lines(gateway, backend, tmp_path):
    # DX-16
    api = aws.make_api(
        gateway, backend, routes=["$connect", "$default", "join"],
        stage_options={"RouteSettings": {"join": {"ThrottlingBurstLimit": 1, "ThrottlingRateLimit": 0.01}}},
    )
    ids = []
    for _ in range(2):
        with api.connect() as ws:
            for _ in range(2):
                ws.text('{"action":"join"}')
            ids.append(json.loads(ws.message())["connectionId"])
    archive = tmp_path / "report.tar.gz"
    until(lambda: ask(gateway, ids[0])["findings"], "the entries", interval=0.1)
    until(lambda: ids[0] in gateway.log_text(), "the line")
    tidegate(gateway, "report", ids[0], "--output", str(archive))
    with tarfile.open(archive) as opened:
        name = next(name for name in opened.getnames() if name.endswith("log.txt"))
        log = opened.extractfile(name).read().decode()
    lines = [json.loads(line) for line in log.splitlines() if not line.startswith("#")]
    assert lines and all(ids[1] not in str(line) for line in lines)
    assert [line for line in lines if line.get("connection_id") == ids[0]], lines


def test_answers_of_ones_own_backend(start_gateway, backend, tmp_path):
    # DX-4
    table = tmp_path / "signatures.json"
    entry = {"id": "own-banned", "status": [403], "text": ["this account is banned"], "ids": {"connect": ["user.inactive"]}}
    table.write_text(json.dumps({"signatures": [entry]}))
    gateway = start_gateway(ROOT_KEY, args=["--signatures", str(table)])
    gateway.allow(".*")
    backend.on("/connect", hook=lambda request: Reply(403, b"Sorry, this account is banned."))
    api = aws.make_api(gateway, backend)
    ws = api.open()
    assert ws.status == 403
    says(gateway, ws.reply.get("Tidegate-Request-Id"), "user.inactive", proof=("own-banned",))
    # One that names what nobody knows stops the start.
    entry["ids"] = {"any": ["no.such-id"]}
    table.write_text(json.dumps({"signatures": [entry]}))
    environment = clean_environment(TIDEGATE_ACCESS_KEY_ID="AKID", TIDEGATE_SECRET_ACCESS_KEY="a-secret-of-a-test")
    done = subprocess.run(
        [binary(), "serve", "--data-dir", str(tmp_path / "other"), "--listen", f"127.0.0.1:{unused_tcp_port()}", "--signatures", str(table)],
        capture_output=True, text=True, timeout=20, env=environment, cwd=tmp_path,
    )
    assert done.returncode == 1 and "no.such-id" in done.stderr, done
    # As a setting; `check` names each mistake with its line.
    config = tmp_path / "checked.toml"
    config.write_text(f'signatures = "{table}"\n')

    def check():
        words = [binary(), "check", "--config", str(config), "--json"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, env=environment, cwd=tmp_path)
        return done.returncode, [(problem["path"], problem["message"]) for problem in json.loads(done.stdout)["problems"]]

    lines = ['{"signatures": [', json.dumps(entry) + ",", json.dumps({**entry, "text": [], "ids": {"any": ["jwt.expired"]}}), "]}"]
    table.write_text("\n".join(lines))
    code, problems = check()
    assert code == 1 and [path for path, _ in problems] == ["signatures", "signatures"], problems
    assert "line 2: " in problems[0][1] and "no.such-id" in problems[0][1], problems
    assert "line 3: " in problems[1][1] and "own-banned" in problems[1][1], problems
    entry["ids"] = {"any": ["user.inactive"]}
    table.write_text(json.dumps({"signatures": [entry]}))
    assert check() == (0, [])
    gateway = start_gateway(ROOT_KEY + config.read_text())
    gateway.allow(".*")
    ws = aws.make_api(gateway, backend).open()
    says(gateway, ws.reply.get("Tidegate-Request-Id"), "user.inactive", proof=("own-banned",))
