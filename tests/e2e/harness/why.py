"""Provocations of the `test_why_*` tests: an API of one's own, what the client got, and what `explain` says of it."""

import hashlib
import json
import subprocess

import requests

from .cli import finding, ids
from .gateway import ACCESS_KEY, REGION, SECRET_KEY, binary, clean_environment
from .raw import RawWs
from .wait import until

ROOT_KEY = 'api_key = "root-key"\n'


def request_id(ws):
    return ws.reply.get("Tidegate-Request-Id")


def admin(gateway, method, path, status=200, **options):
    """One call of the admin API with the root key."""
    reply = requests.request(method, f"{gateway.admin_url}/api{path}", headers={"Authorization": "Bearer root-key"}, timeout=10, **options)
    assert reply.status_code == status, (reply.status_code, reply.text)
    return reply.json() if reply.content else None


def set_policy(api, policy):
    admin(api.gateway, "PUT", f"/apis/{api.id}/stages/{api.stage}/policy", json=policy)


def user_keys(*users):
    """A policy's admission by API keys: the key of a user is its SHA-256's text."""
    keys = [{"user": user, "sha256": hashlib.sha256(f"key-of-{user}".encode()).hexdigest()} for user in users]
    return {"checks": ["api_key"], "api_keys": keys}


def as_user(api, user, port=None, query="", headers=(), **options):
    """A raw client that has connected as this user."""
    target = api.base + (f"?{query}" if query else "")
    ws = RawWs(port or api.gateway.port, target, headers=[("x-api-key", f"key-of-{user}"), *headers], **options)
    assert ws.status == 101, (ws.status, ws.reply.body)
    return ws


def ask(gateway, *words):
    """The report of `explain`, whatever its exit code; the code must fit what was found."""
    environment = clean_environment(
        TIDEGATE_ADMIN_URL=gateway.admin_url, TIDEGATE_ACCESS_KEY_ID=ACCESS_KEY, TIDEGATE_SECRET_ACCESS_KEY=SECRET_KEY, TIDEGATE_REGION=REGION
    )
    done = subprocess.run(
        [binary(), "explain", *words, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment, cwd=gateway.directory
    )
    assert done.stdout, (done.returncode, done.stderr)
    report = json.loads(done.stdout)
    confidences = {found["confidence"] for found in report["findings"]}
    # DX-20
    expected = 0 if "proven" in confidences else 3 if confidences else 1
    assert done.returncode == expected, (done.returncode, confidences, done.stderr)
    return report


def says(gateway, question, wanted, confidence="proven", first=True, proof=(), more=()):
    """`explain QUESTION` names `wanted`, complete and with these words of proof, as soon as the journal has it."""
    words = question if isinstance(question, (list, tuple)) else [question]

    def known():
        report = ask(gateway, *words)
        return wanted in ids(report) and report

    try:
        report = until(known, f"{wanted} in the answer to {words}", timeout=5, interval=0.1)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(ask(gateway, *words), indent=1)[:6000]}") from None
    found = finding(report, wanted, confidence)
    if first:
        assert ids(report)[0] == wanted, ids(report)
    evidence = json.dumps(found["evidence"])
    for word in proof:
        assert str(word) in evidence, f"{word!r} is not in {evidence}"
    if confidence != "proven" and wanted not in UNDETECTABLE:
        # DX-22
        assert found["next"], found
    assert set(more) <= set(ids(report)), (more, ids(report))
    return found


UNDETECTABLE = {"handler.not-allowed", "handler.name-mismatch", "cleanup.bad-command", "cleanup.no-access"}
