"""Payloads of a route, kept because an operator asked for it: shown to them, and to be found nowhere else."""

import json
import subprocess

from harness import aws
from harness.cli import tidegate
from harness.gateway import binary, clean_environment, credentials_environment
from harness.wait import until

SAID = "the whole text of a message"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYXB0dXJlLXRlc3QifQ.bm90LXRoZS1zaWduYXR1cmU"


def test_a_capture_shows_what_is_said_and_ends_by_itself(start_gateway, backend, tmp_path):
    # DX-10, log.payloads-captured
    gateway = start_gateway()
    gateway.allow("log.payloads-captured")
    backend.on("/default", body=json.dumps({"answer": SAID}))
    api = aws.make_api(gateway, backend, two_way=(True, True))
    assert tidegate(gateway, "capture", "show") == {"capture": None, "payloads": []}
    ws = api.connect()

    def say(text):
        ws.text(text)
        return ws.message()

    say("before")
    tidegate(gateway, "capture", "start", "--route", "$default", "--for", "60s", "--bytes", "5000")
    assert gateway.records(diag="log.payloads-captured"), gateway.log_text()
    assert tidegate(gateway, "status")["capture"]["active"] is True
    say(json.dumps({"action": "x", "text": SAID, "auth": {"password": "hunter2"}, "list": [JWT]}))

    shown = tidegate(gateway, "capture", "show")
    assert [payload["way"] for payload in shown["payloads"]] == ["in", "out"], shown
    kept = json.loads(shown["payloads"][0]["text"])
    assert kept == {"action": "x", "text": SAID, "auth": "****", "list": ["<token>"]}, kept
    connection = shown["payloads"][0]["connectionId"]
    report = tidegate(gateway, "explain", connection, code=1)
    lines = [line["text"] for line in report["timeline"] if line["kind"] == "payload"]
    assert len(lines) == 2 and SAID in lines[0] and "hunter2" not in json.dumps(report) and JWT not in json.dumps(report), lines

    # Nowhere else: not in the journal, its file, the log, nor the archive for those who help.
    archive = tmp_path / "report.tar.gz"
    subprocess.run(
        [binary(), "report", connection, "--output", str(archive)],
        env=clean_environment(TIDEGATE_ADMIN_URL=gateway.admin_url, **credentials_environment()),
        check=True, capture_output=True, timeout=60,
    )
    unpacked = subprocess.run(["tar", "-xzOf", str(archive)], check=True, capture_output=True, timeout=60).stdout
    assert connection.encode() in unpacked and SAID.encode() not in unpacked
    assert SAID not in json.dumps(tidegate(gateway, "journal", "ls"))
    assert SAID not in gateway.log_text()
    assert all(SAID.encode() not in path.read_bytes() for path in gateway.data_dir.rglob("*") if path.is_file())

    # A short one is over after its time, without anybody's doing.
    tidegate(gateway, "capture", "stop")
    tidegate(gateway, "capture", "start", "--route", "$default", "--for", "1s")
    until(lambda: "capture" not in tidegate(gateway, "status"), "the end of the capture", timeout=5)
    say(SAID)
    assert tidegate(gateway, "capture", "show")["payloads"] == []

    # Nothing survives a restart.
    tidegate(gateway, "capture", "start", "--route", "$default", "--for", "1h")
    say(SAID)
    assert tidegate(gateway, "capture", "show")["payloads"]
    gateway.stop()
    gateway.start()
    assert tidegate(gateway, "capture", "show") == {"capture": None, "payloads": []}
    assert "capture" not in tidegate(gateway, "status")


def test_values_of_the_query_are_kept_where_the_operator_names_them(start_gateway, backend):
    # DX-10
    gateway = start_gateway(config='[journal]\nquery_values = ["room"]\n')
    aws.make_api(gateway, backend).connect("room=blue&channel=general&tenant=acme-corp&v=2")

    def handshakes():
        return tidegate(gateway, "journal", "ls", "--kind", "handshake")

    entry = until(handshakes, "the entry of the handshake", timeout=5)[0]
    assert entry["facts"]["queryValues"] == {"room": "blue", "channel": "general", "v": "2"}, entry
    assert entry["facts"]["queryNames"] == ["room", "channel", "tenant", "v"]
    assert "acme-corp" not in json.dumps(entry)
