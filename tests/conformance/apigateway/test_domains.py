"""Custom domains and their mappings."""

import pytest
from suite.api import Ws, refused, signed
from suite.checks import check

HOW = "boto3, raw WebSocket client, raw HTTP"
CONFIGURATION = {"CertificateArn": "arn:aws:acm:us-east-1:111122223333:certificate/0", "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2"}
UNKNOWN = "R0oXAdfD0kwCH6w%3D"


@pytest.fixture
def domain(control, request):
    name = f"ws-{abs(hash(request.node.nodeid)) % 10**8}.example.com"
    control.create_domain_name(DomainName=name, DomainNameConfigurations=[CONFIGURATION])
    yield name
    for item in control.get_api_mappings(DomainName=name)["Items"]:
        control.delete_api_mapping(DomainName=name, ApiMappingId=item["ApiMappingId"])
    control.delete_domain_name(DomainName=name)


@check(27, feature="domains", needs=["domains"], how=HOW, what="A mapping without key: the domain itself opens connections and takes management calls, the stage is not in the path")
def test_root_mapping(new_api, domain, control, target):
    # AG-27
    api = new_api().whoami().live()
    control.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod")
    with Ws(target, f"ws://{domain}/?x=y") as ws:
        assert ws.status == 101, ws.reply
        connection = api.identify(ws)
        assert signed(target, "POST", f"http://{domain}/@connections/{connection.replace('=', '%3D')}", b"pushed").status == 200
        assert ws.message() == "pushed"
        assert signed(target, "DELETE", f"http://{domain}/@connections/{connection.replace('=', '%3D')}").status == 204
        assert ws.closed()[0] == 1000


@check(27, feature="domains", needs=["domains"], how=HOW, what="Mapping keys are the first path segment, for handshakes and management calls; each reaches its own API")
def test_keyed_mapping(new_api, domain, control, target):
    # AG-27
    one, two = new_api().whoami().live(), new_api().mock("$default", "two").live()
    control.create_api_mapping(ApiId=one.id, DomainName=domain, Stage="prod", ApiMappingKey="v1")
    control.create_api_mapping(ApiId=two.id, DomainName=domain, Stage="prod", ApiMappingKey="v2")
    with Ws(target, f"ws://{domain}/v1") as ws, Ws(target, f"ws://{domain}/v2?a=b") as other:
        connection = one.identify(ws).replace("=", "%3D")
        other.text("?")
        assert other.message() == "two"
        assert signed(target, "POST", f"http://{domain}/v1/@connections/{connection}", b"pushed").status == 200
        assert ws.message() == "pushed"
        assert signed(target, "POST", f"http://{domain}/v2/@connections/{connection}", b"pushed").status == 410


@check(27, feature="domains", needs=["domains"], how=HOW, what="No mapping: 403; the stage in front of `@connections` on a domain: 404 `No method found matching route …`")
def test_no_mapping(new_api, domain, control, target):
    # AG-27
    assert Ws(target, f"ws://{domain}/").status == 403
    api = new_api().whoami().live()
    control.create_api_mapping(ApiId=api.id, DomainName=domain, Stage="prod")
    reply = signed(target, "POST", f"http://{domain}/prod/@connections/{UNKNOWN}", b"x")
    assert (reply.status, reply.get("x-amzn-errortype").split(":")[0]) == (404, "NotFoundException")
    assert reply.json["message"].startswith("No method found matching route prod/") and reply.json["message"].endswith(" for http method POST")


@check(27, feature="domains", needs=["domains"], how="boto3", what="Mapping keys with slashes at the wrong places, duplicates, unknown API or stage are refused with their texts; `ApiGatewayDomainName` and status are there")
def test_definitions(new_api, domain, control):
    # AG-27
    api = new_api().whoami().live()
    configuration = control.get_domain_name(DomainName=domain)["DomainNameConfigurations"][0]
    assert configuration["ApiGatewayDomainName"] and configuration["DomainNameStatus"] == "AVAILABLE"
    with refused("ConflictException", 409, "The domain name resource already exists."):
        control.create_domain_name(DomainName=domain)
    make = {"ApiId": api.id, "DomainName": domain, "Stage": "prod"}
    with refused("BadRequestException", 400, "API mapping key should not start with a '/' or have consecutive '/'s."):
        control.create_api_mapping(**make, ApiMappingKey="/v1")
    with refused("BadRequestException", 400, "API mapping key should not end with a '/'."):
        control.create_api_mapping(**make, ApiMappingKey="v1/")
    control.create_api_mapping(**make, ApiMappingKey="v1")
    with refused("ConflictException", 409, "ApiMapping key already exists for this domain name"):
        control.create_api_mapping(**make, ApiMappingKey="v1")
    with refused("NotFoundException", 404):
        control.create_api_mapping(**{**make, "Stage": "nope"}, ApiMappingKey="v2")
    with refused("NotFoundException", 404):
        control.create_api_mapping(**{**make, "ApiId": "aaaaaaaaaa"}, ApiMappingKey="v2")
