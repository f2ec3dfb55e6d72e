"""Signature Version 4 written from its description, for requests that no SDK would send."""

import datetime
import hashlib
import hmac
from urllib.parse import quote

from .gateway import ACCESS_KEY, REGION, SECRET_KEY

EMPTY = hashlib.sha256(b"").hexdigest()


def amz_date(offset=0):
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=offset)
    return now.strftime("%Y%m%dT%H%M%SZ")


def canonical_path(path, encodings=1):
    for _ in range(encodings):
        path = quote(path, safe="/-_.~")
    return path


def signature(
    method, target, headers, signed, body, date, service, *,
    access_key=ACCESS_KEY, secret=SECRET_KEY, region=REGION, encodings=1, payload_hash=None, scope_date=None,
):
    """(signature, credential scope, canonical request) of a request as it is on the wire."""
    path, _, query = target.partition("?")
    parts = sorted(p if "=" in p else p + "=" for p in query.split("&") if p) if query else []
    lookup = {}
    for name, value in headers:
        lookup.setdefault(name.lower(), []).append(" ".join(value.split()))
    lines = [
        method,
        canonical_path(path, encodings),
        "&".join(sorted(parts, key=lambda p: p.split("=", 1))),
        "".join(f"{name}:{','.join(lookup[name])}\n" for name in signed),
        ";".join(signed),
        payload_hash or hashlib.sha256(body).hexdigest(),
    ]
    canonical = "\n".join(lines)
    day = scope_date or date[:8]
    scope = f"{day}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest(), scope, canonical


def signed_headers(method, target, host, body=b"", service="execute-api", extra=(), date=None, access_key=ACCESS_KEY, **options):
    """Host, X-Amz-Date, the extra headers and Authorization, to be sent as they are."""
    date = date or amz_date()
    headers = [("Host", host), ("X-Amz-Date", date), *extra]
    signed = sorted({name.lower() for name, _ in headers})
    value, scope, _ = signature(method, target, headers, signed, body, date, service, **options)
    headers.append(
        ("Authorization", f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={';'.join(signed)}, Signature={value}")
    )
    return headers
