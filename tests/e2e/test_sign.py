"""AG-13: the tests' own signer against the published vectors, so that it can judge the gateway."""

import pytest

from harness.sign import EMPTY, signature

DATE = "20250115T120000Z"
HOST = "abc123def4.execute-api.us-east-1.amazonaws.com"
PRESIGNED = (
    "/prod?room=a%20b&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIDEXAMPLE%2F20250115%2Fus-east-1%2Fexecute-api%2Faws4_request"
    "&X-Amz-Date=20250115T120000Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host"
)
VECTORS = [
    ("POST", "/_aws/execute-api/abc123def4/prod/@connections/R0oXAdfD0kwCH6w%3D", [("Host", "127.0.0.1:8080")], b"hello", "execute-api",
     "81a1cdb7095923ae5de101337b994c9def3510a180b65c4015f886020c55d846"),
    ("GET", "/prod/%40connections/R0oXAdfD0kwCH6w%3D", [("Host", HOST)], b"", "execute-api",
     "0ccce94c2d7443619947e56732b223fda64c286258a2d2661b41ca1d2abf64b3"),
    ("GET", PRESIGNED, None, b"", "execute-api",
     "93f1830438521facf681a8431f9fee707497782471f5abfb9d1f766b4f122916"),
    ("POST", "/v2/apis", [("Host", "127.0.0.1:8081"), ("Content-Type", "application/json")],
     b'{"name": "n", "protocolType": "WEBSOCKET", "routeSelectionExpression": "$request.body.action"}', "apigateway",
     "deb41d34a9b7f33446f5e33334995fe01206bbbb0291f0d078471e3b8e1657ea"),
    ("GET", "/v2/tags/arn%3Aaws%3Aapigateway%3Aus-east-1%3A%3A%2Fapis%2Fabc123def4", [("Host", "127.0.0.1:8081")], b"", "apigateway",
     "0aeee9fc6e46b5f16cd75b85ce4869a842db21da546db1a77d4bf50ab1965fcf"),
]


@pytest.mark.parametrize("method,target,headers,body,service,expected", VECTORS)
def test_signer_matches_the_vectors(method, target, headers, body, service, expected):
    """AG-13 (5.5): all five vectors."""
    headers = [("Host", HOST)] if headers is None else [*headers, ("X-Amz-Date", DATE)]
    signed = sorted(name.lower() for name, _ in headers)
    value, _, _ = signature(method, target, headers, signed, body, DATE, service)
    assert value == expected
    assert EMPTY.startswith("e3b0c442") and EMPTY.endswith("b855")
