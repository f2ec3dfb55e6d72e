"""Stages with a policy, proofs of identity for them, and what `explain` says about one attempt."""

import base64
import hashlib
import hmac
import json
import time

import requests

from . import aws, raw
from .cli import ids, tidegate

KEY = "the-key"
CONFIG = f'api_key = "{KEY}"\n'
SECRET = "an-hmac-secret-of-the-tests-0123456789"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"


def admin(gateway, method, path, **options):
    headers = {"Authorization": f"Bearer {KEY}", **options.pop("headers", {})}
    return requests.request(method, f"{gateway.admin_url}/api{path}", headers=headers, timeout=10, **options)


def set_policy(api, policy):
    """Gives the stage a policy, and waits for nothing: the answer comes when it holds."""
    answer = admin(api.gateway, "PUT", f"/apis/{api.id}/stages/{api.stage}/policy", json=policy)
    assert answer.status_code == 200, answer.text
    return api


def guarded(gateway, backend, policy, **options):
    """An API whose stage has this policy."""
    return set_policy(aws.make_api(gateway, backend, **options), policy)


def token_of(api, code=200, **request):
    """A one-time token."""
    answer = admin(api.gateway, "POST", "/tokens", json={"api": api.id, "stage": api.stage, **request})
    assert answer.status_code == code, answer.text
    return answer.json().get("token")


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(claims=None, secret=SECRET, header=None, **more):
    """A JSON Web Token that is good for five minutes, unless its claims say otherwise; None removes a claim."""
    now = int(time.time())
    claims = {"sub": "ann", "iat": now, "exp": now + 300, **(claims or {}), **more}
    claims = {name: value for name, value in claims.items() if value is not None}
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', **(header or {})})}.{part(claims)}"
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{part(signature)}"


def request_id(reply):
    """Of a refusal or of a 101."""
    return (reply.reply if isinstance(reply, raw.RawWs) else reply).get("Tidegate-Request-Id")


def explain(gateway, *words, code=0):
    return tidegate(gateway, "explain", *words, code=code)


def why(gateway, question, wanted, confidence="proven", status=None, facts=(), among=False):
    """The first finding about the question is this one, and it has everything that an answer must have."""
    report = explain(gateway, question, code=0 if confidence == "proven" or among else 3)
    found = [finding for finding in report["findings"] if finding["id"] == wanted]
    shown = json.dumps(report, indent=1)[:6000]
    assert found, f"{wanted} is not among {ids(report)}\n{shown}"
    assert among or ids(report)[0] == wanted, f"{wanted} is not the first of {ids(report)}\n{shown}"
    found = found[0]
    assert found["confidence"] == confidence, shown
    assert found["cause"] and found["evidence"] and all(found["fix"]), shown
    if status is not None:
        assert found["clientSaw"].get("status") == status, shown
    evidence = json.dumps(found["evidence"])
    for name in facts:
        assert name in evidence, f"{name} is not in the evidence\n{shown}"
    return found
