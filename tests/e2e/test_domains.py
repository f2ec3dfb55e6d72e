"""Custom domains and hosts (AG-27; S0-11, S0-44, S0-45)."""

import pytest

from harness import raw
from harness.aws import make_api, refused
from harness.sign import signed_headers

CONFIGURATION = {
    "CertificateArn": "arn:aws:acm:us-east-1:111122223333:certificate/0",
    "DomainNameStatus": "AVAILABLE", "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2", "HostedZoneId": "Z1",
}


def handshake(gateway, host, target):
    return raw.RawWs(gateway.port, target, host=host)


def management(gateway, host, target, method="POST", body=b"pushed"):
    return raw.request(gateway.port, method, target, signed_headers(method, target, host, body), body)


@pytest.fixture
def domain(api):
    made = api.control.create_domain_name(DomainName="ws.example.com", DomainNameConfigurations=[CONFIGURATION])
    configuration = made["DomainNameConfigurations"][0]
    assert 0 < len(configuration["ApiGatewayDomainName"]) <= 255
    assert configuration["DomainNameStatus"] == "AVAILABLE" and configuration["HostedZoneId"]
    assert made["ApiMappingSelectionExpression"] == "$request.basepath"
    return "ws.example.com"


@pytest.mark.parametrize("target", ["/", "/?x=y", "?x=y"])
def test_root_mapping(gateway, api, backend, domain, target):
    """AG-27, S0-44, S0-99: a mapping without key serves `/`, `/?x=y` and `?x=y`; the stage is hidden; pushes work there."""
    mapping = api.control.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod")
    assert len(mapping["ApiMappingId"]) <= 128
    # A request target may not begin with `?`: clients send `/?x=y` for wss://host?x=y.
    with handshake(gateway, f"{domain}:{gateway.port}", target if target.startswith("/") else f"/{target}") as ws:
        assert ws.status == 101
        request = backend.one("/connect")
        assert request.raw_query == ("x=y" if "x" in target else "")
        for host in (domain, f"{domain}:{gateway.port}"):
            reply = management(gateway, host, api.connection_path(request.connection_id))
            assert reply.status == 200, reply.text
            assert ws.message() == "pushed"
        assert management(gateway, domain, api.connection_path(request.connection_id), "DELETE", b"").status == 204
        assert ws.closed()[0] == 1000


def test_keyed_mapping(gateway, api, backend, domain):
    """AG-27: a mapping key is the first path segment, for the handshake and for management calls."""
    other = make_api(gateway, backend, name="other")
    api.control.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod", ApiMappingKey="v1")
    api.control.create_api_mapping(ApiId=other.id, DomainName=domain, Stage="prod", ApiMappingKey="v2")
    with handshake(gateway, domain, "/v1") as ws:
        assert ws.status == 101
        request = backend.one("/connect")
        assert request.get("x-amzn-apigateway-api-id") == api.id
        assert management(gateway, domain, "/v1" + api.connection_path(request.connection_id)).status == 200
        assert ws.message() == "pushed"
        assert management(gateway, domain, "/v2" + api.connection_path(request.connection_id)).status == 410
    with handshake(gateway, domain, "/v2?a=b") as ws:
        assert ws.status == 101
        assert backend.wait(2, "/connect")[1].get("x-amzn-apigateway-api-id") == other.id


@pytest.mark.logs(".")
def test_no_mapping(gateway, api, backend, domain):
    """S0-45, 5.3: a domain without a fitting mapping is 403; the stage in front of @connections is 404 with its text."""
    assert handshake(gateway, domain, "/").status == 403
    gateway.wait_log("domain.no-mapping")
    api.control.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod")
    assert handshake(gateway, domain, "/prod").status == 403
    target = "/prod/@connections/R0oXAdfD0kwCH6w%3D"
    reply = management(gateway, domain, target)
    assert (reply.status, reply.get("x-amzn-errortype").split(":")[0]) == (404, "NotFoundException")
    assert reply.json["message"].startswith("No method found matching route prod/@connections/") or reply.json["message"].startswith("No method found matching route prod/%40connections/")
    assert reply.json["message"].endswith(" for http method POST")
    assert backend.requests == []


@pytest.mark.config("[management]\naccept_stage_on_domain = true\n")
def test_accept_stage_on_domain(gateway, api, backend, domain):
    """9.1 no. 20: `management.accept_stage_on_domain`."""
    api.control.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod")
    with handshake(gateway, domain, "/") as ws:
        target = "/prod" + api.connection_path(backend.one("/connect").connection_id)
        assert management(gateway, domain, target).status == 200
        assert ws.message() == "pushed"


def test_wildcard_and_exact(gateway, api, backend):
    """0.4: an exact domain wins over a wildcard; the wildcard takes the rest."""
    other = make_api(gateway, backend, name="other")
    for name, target in (("*.example.com", other), ("ws.example.com", api)):
        api.control.create_domain_name(DomainName=name, DomainNameConfigurations=[CONFIGURATION])
        api.control.create_api_mapping(ApiId=target.id, DomainName=name, Stage="prod")
    for host in ("ws.example.com", "WS.example.com", "other.example.com"):
        assert handshake(gateway, host, "/").status == 101
    ids = [r.get("x-amzn-apigateway-api-id") for r in backend.wait(3, "/connect")]
    assert ids == [api.id, api.id, other.id]


@pytest.mark.logs(".")
@pytest.mark.parametrize("form", ["{id}.localhost:{port}", "{id}.localhost", "{id}.execute-api.us-east-1.amazonaws.com", "{id}.execute-api.us-east-1.example.org"])
def test_host_form(gateway, api, backend, form):
    """S0-44, 0.4: API host + stage path; domainName is the host used."""
    host = form.format(id=api.id, port=gateway.port)
    for target in ("/prod", "/prod/", "/prod?x=y"):
        assert handshake(gateway, host, target).status == 101
    assert handshake(gateway, host, "/nope").status == 403
    assert len(backend.wait(3, "/connect")) == 3


@pytest.mark.logs(".")
def test_domain_rules(gateway, api, domain):
    """S0-7, S0-11, 6.3: conflicts, mapping keys, deletion order."""
    v2 = api.control
    with refused("ConflictException", 409, "The domain name resource already exists."):
        v2.create_domain_name(DomainName=domain)
    with refused("BadRequestException", 400, "API mapping key should not start with a '/' or have consecutive '/'s."):
        v2.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod", ApiMappingKey="/x")
    with refused("BadRequestException", 400, "API mapping key should not end with a '/'."):
        v2.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod", ApiMappingKey="x/")
    first = v2.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod")
    with refused("ConflictException", 409, "ApiMapping key already exists for this domain name"):
        v2.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod")
    with refused("BadRequestException", 400):
        v2.delete_stage(ApiId=api.id, StageName="prod")
    assert [m["ApiMappingId"] for m in v2.get_api_mappings(DomainName=domain)["Items"]] == [first["ApiMappingId"]]
    updated = v2.update_api_mapping(ApiId=api.id, DomainName=domain, ApiMappingId=first["ApiMappingId"], ApiMappingKey="v1")
    assert updated["ApiMappingKey"] == "v1"
    assert handshake(gateway, domain, "/v1").status == 101
    v2.delete_api_mapping(DomainName=domain, ApiMappingId=first["ApiMappingId"])
    assert handshake(gateway, domain, "/v1").status == 403
    v2.delete_domain_name(DomainName=domain)
    assert v2.get_domain_names()["Items"] == []
