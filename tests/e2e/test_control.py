"""The control plane through boto3 (AG-1, 23, 24, 25; S0-1 to S0-14)."""

import json

import pytest
from botocore.exceptions import ClientError

from harness import aws, raw
from harness.aws import make_api, refused
from harness.gateway import timed
from harness.sign import signed_headers

EXPRESSION = "$request.body.action"


@pytest.fixture
def bare(control):
    """An API without anything in it."""
    return control.create_api(Name="bare", ProtocolType="WEBSOCKET", RouteSelectionExpression=EXPRESSION)["ApiId"]


def raw_call(gateway, method, target, body=b""):
    host = f"127.0.0.1:{gateway.admin_port}"
    extra = [("Content-Type", "application/json")] if body else []
    headers = signed_headers(method, target, host, body, service="apigateway", extra=extra)
    return raw.request(gateway.admin_port, method, target, headers, body)


def without(response, *names):
    return {k: v for k, v in response.items() if k not in ("ResponseMetadata", *names)}


def test_paging(control, bare):
    """AG-23, S0-9: 250 routes, MaxResults "100": three pages, no duplicates, creation order; the same with boto3's paginator."""
    for number in range(250):
        control.create_route(ApiId=bare, RouteKey=f"route{number}")
    keys, token, pages = [], None, 0
    while True:
        page = control.get_routes(ApiId=bare, MaxResults="100", **({"NextToken": token} if token else {}))
        keys += [item["RouteKey"] for item in page["Items"]]
        pages += 1
        token = page.get("NextToken")
        if not token:
            break
    assert pages == 3
    assert keys == [f"route{number}" for number in range(250)]
    paged = [i["RouteKey"] for p in control.get_paginator("get_routes").paginate(ApiId=bare) for i in p["Items"]]
    assert paged == keys
    first = control.get_routes(ApiId=bare)
    assert [i["RouteKey"] for i in first["Items"]] == keys[: len(first["Items"])] and first["NextToken"]
    for bad in ("0", "x", "-1"):
        with refused("BadRequestException", 400):
            control.get_routes(ApiId=bare, MaxResults=bad)
    with refused("BadRequestException", 400):
        control.get_routes(ApiId=bare, NextToken="not a token")


def test_paging_while_deleting(control, bare):
    """S0-9: entries that vanish between pages neither repeat nor hide others."""
    ids = [control.create_integration(ApiId=bare, IntegrationType="MOCK")["IntegrationId"] for _ in range(6)]
    first = control.get_integrations(ApiId=bare, MaxResults="3")
    control.delete_integration(ApiId=bare, IntegrationId=ids[2])
    second = control.get_integrations(ApiId=bare, MaxResults="3", NextToken=first["NextToken"])
    assert [i["IntegrationId"] for i in first["Items"] + second["Items"]] == ids


@pytest.mark.parametrize("call,arguments,message", [
    ("get_api", {}, "api"), ("update_api", {"Name": "x"}, "api"), ("delete_api", {}, "api"),
    ("get_routes", {}, "api"), ("create_route", {"RouteKey": "x"}, "api"), ("get_integrations", {}, "api"),
    ("create_integration", {"IntegrationType": "MOCK"}, "api"), ("get_stages", {}, "api"), ("create_stage", {"StageName": "s"}, "api"),
    ("get_deployments", {}, "api"), ("create_deployment", {}, "api"),
    ("get_route", {"RouteId": "aaaaaaa"}, "api"), ("get_stage", {"StageName": "s"}, "api"), ("get_integration", {"IntegrationId": "aaaaaaa"}, "api"),
])
def test_unknown_api(control, call, arguments, message):
    """AG-24: every operation below an unknown API is NotFoundException."""
    with refused("NotFoundException", 404) as e:
        getattr(control, call)(ApiId="aaaaaaaaaa", **arguments)
    assert e.kind == "NotFoundException"
    assert str(e.error.response["Error"]["Message"]).startswith("Invalid API identifier specified ")
    assert "aaaaaaaaaa" in e.error.response["Error"]["Message"]


@pytest.mark.parametrize("call,arguments,message", [
    ("get_route", {"RouteId": "aaaaaaa"}, "Invalid Route identifier specified aaaaaaa"),
    ("update_route", {"RouteId": "aaaaaaa", "RouteKey": "x"}, "Invalid Route identifier specified aaaaaaa"),
    ("delete_route", {"RouteId": "aaaaaaa"}, "Invalid Route identifier specified aaaaaaa"),
    ("get_route_responses", {"RouteId": "aaaaaaa"}, "Invalid Route identifier specified aaaaaaa"),
    ("create_route_response", {"RouteId": "aaaaaaa", "RouteResponseKey": "$default"}, "Invalid Route identifier specified aaaaaaa"),
    ("get_integration", {"IntegrationId": "aaaaaaa"}, "Invalid Integration identifier specified aaaaaaa"),
    ("update_integration", {"IntegrationId": "aaaaaaa"}, "Invalid Integration identifier specified aaaaaaa"),
    ("delete_integration", {"IntegrationId": "aaaaaaa"}, "Invalid Integration identifier specified aaaaaaa"),
    ("get_stage", {"StageName": "nope"}, "Invalid stage identifier specified"),
    ("update_stage", {"StageName": "nope"}, "Invalid stage identifier specified"),
    ("delete_stage", {"StageName": "nope"}, "Invalid stage identifier specified"),
    ("delete_route_settings", {"StageName": "nope", "RouteKey": "x"}, "Invalid stage identifier specified"),
    ("delete_access_log_settings", {"StageName": "nope"}, "Invalid stage identifier specified"),
    ("get_deployment", {"DeploymentId": "aaaaaaa"}, None),
    ("update_deployment", {"DeploymentId": "aaaaaaa"}, None),
    ("delete_deployment", {"DeploymentId": "aaaaaaa"}, None),
])
def test_unknown_ids(control, bare, call, arguments, message):
    """AG-24: unknown ids below an existing API, with the texts of 6.1."""
    with refused("NotFoundException", 404, message):
        getattr(control, call)(ApiId=bare, **arguments)


def test_unknown_ids_in_bodies(control, bare):
    """AG-24: unknown stage or deployment named in the body."""
    control.create_route(ApiId=bare, RouteKey="$default")
    with refused("NotFoundException", 404):
        control.create_deployment(ApiId=bare, StageName="nope")
    with refused("NotFoundException", 404):
        control.create_stage(ApiId=bare, StageName="s", DeploymentId="aaaaaaa")
    with pytest.raises(ClientError) as e:
        control.create_route(ApiId=bare, RouteKey="x", Target="integrations/aaaaaaa")
    assert e.value.response["Error"]["Code"] in ("BadRequestException", "NotFoundException")
    route = control.create_route(ApiId=bare, RouteKey="y")["RouteId"]
    with refused("NotFoundException", 404, "Invalid RouteResponse identifier specified aaaaaaa"):
        control.get_route_response(ApiId=bare, RouteId=route, RouteResponseId="aaaaaaa")


def test_unknown_domains(control, bare):
    """AG-24: domains and mappings."""
    text = "The domain name resource specified in the request was not found."
    for call, arguments in (
        (control.get_domain_name, {}), (control.update_domain_name, {}), (control.delete_domain_name, {}), (control.get_api_mappings, {}),
        (control.create_api_mapping, {"ApiId": bare, "Stage": "s"}),
    ):
        with refused("NotFoundException", 404, text):
            call(DomainName="nope.example.com", **arguments)
    control.create_domain_name(DomainName="ws.example.com")
    with refused("NotFoundException", 404, "The api mapping resource specified in the request was not found."):
        control.get_api_mapping(DomainName="ws.example.com", ApiMappingId="aaaaaaa")
    with refused("NotFoundException", 404):
        control.create_api_mapping(DomainName="ws.example.com", ApiId=bare, Stage="nope")


def test_http_only_is_refused(control, gateway, bare):
    """AG-25: HTTP-only operations and members; `RouteKey` and `Target` of CreateApi are ignored (S0-4)."""
    with refused("BadRequestException", 400, "Tidegate serves WebSocket APIs only: protocolType must be WEBSOCKET"):
        control.create_api(Name="h", ProtocolType="HTTP")
    with refused("BadRequestException", 400, "Invalid protocol specified. Must be one of [HTTP, WEBSOCKET]"):
        control.create_api(Name="h", ProtocolType="FTP", RouteSelectionExpression=EXPRESSION)
    with refused("BadRequestException", 400):
        control.create_api(Name="h", ProtocolType="WEBSOCKET")
    with refused("BadRequestException", 400, "Import is not supported for WebSocket APIs"):
        control.import_api(Body="{}")
    with refused("BadRequestException", 400, "Import is not supported for WebSocket APIs"):
        control.reimport_api(ApiId=bare, Body="{}")
    with refused("BadRequestException", 400, "Export is not supported for WebSocket APIs"):
        control.export_api(ApiId=bare, OutputType="JSON", Specification="OAS30")
    with refused("NotFoundException", 404):
        control.export_api(ApiId="aaaaaaaaaa", OutputType="JSON", Specification="OAS30")
    with refused("BadRequestException", 400, "CORS is not supported for WebSocket APIs"):
        control.delete_cors_configuration(ApiId=bare)
    with refused("BadRequestException", 400):
        control.create_api(Name="h", ProtocolType="WEBSOCKET", RouteSelectionExpression=EXPRESSION, CorsConfiguration={"AllowOrigins": ["*"]})
    with refused("BadRequestException", 400):
        control.create_route(ApiId=bare, RouteKey="x", AuthorizationScopes=["a"])
    with refused("BadRequestException", 400):
        control.create_integration(ApiId=bare, IntegrationType="HTTP_PROXY", IntegrationUri="http://127.0.0.1:1/", IntegrationSubtype="SQS-SendMessage")
    for operation in ("/v2/portals", "/v2/portalproducts"):
        reply = raw_call(gateway, "GET", operation)
        assert (reply.status, reply.json["message"]) == (404, "Not supported by Tidegate")

    made = control.create_api(
        Name="quick", ProtocolType="WEBSOCKET", RouteSelectionExpression=EXPRESSION, RouteKey="$default",
        Target="http://127.0.0.1:1/default", DisableSchemaValidation=True, Description="", ApiKeySelectionExpression="$request.header.x-api-key",
    )
    assert "RouteKey" not in made and "Target" not in made
    assert made["DisableSchemaValidation"] is True
    assert control.get_routes(ApiId=made["ApiId"])["Items"] == []
    assert control.get_integrations(ApiId=made["ApiId"])["Items"] == []
    control.create_route(ApiId=made["ApiId"], RouteKey="$default")


def test_api_values(control):
    """S0-5, S0-16, 6.3: what was sent comes back, `""` included; nothing more."""
    made = control.create_api(Name="a", ProtocolType="WEBSOCKET", RouteSelectionExpression=EXPRESSION, Description="")
    assert made["Description"] == ""
    read = control.get_api(ApiId=made["ApiId"])
    assert without(read) == without(made)
    updated = control.update_api(ApiId=made["ApiId"], Description="text", Name="b", RouteSelectionExpression="${request.body.x}")
    assert (updated["Description"], updated["Name"], updated["RouteSelectionExpression"]) == ("text", "b", "${request.body.x}")
    control.update_api(ApiId=made["ApiId"], Description="")
    read = control.get_api(ApiId=made["ApiId"])
    assert (read["Description"], read["Name"]) == ("", "b")
    plain = control.create_api(Name="c", ProtocolType="WEBSOCKET", RouteSelectionExpression=EXPRESSION)
    assert "Description" not in plain
    assert [i["Name"] for i in control.get_apis()["Items"]] == ["b", "c"]
    assert len(made["ApiId"]) <= 32 and len(made["ApiEndpoint"]) <= 255
    control.delete_api(ApiId=plain["ApiId"])
    assert [i["Name"] for i in control.get_apis()["Items"]] == ["b"]


def test_route_values(control, bare, gateway):
    """6.3, S0-7: a minimal route answers exactly four members; keys are unique; `$` keys are limited."""
    reply = raw_call(gateway, "POST", f"/v2/apis/{bare}/routes", b'{"routeKey": "join"}')
    assert reply.status == 201
    assert reply.get("content-type").startswith("application/json")
    assert set(reply.json) == {"routeId", "routeKey", "apiKeyRequired", "authorizationType"}
    assert (reply.json["apiKeyRequired"], reply.json["authorizationType"]) == (False, "NONE")
    with refused("ConflictException", 409, "Route with key join already exists for this API"):
        control.create_route(ApiId=bare, RouteKey="join")
    with refused("BadRequestException", 400):
        control.create_route(ApiId=bare, RouteKey="$other")
    with refused("BadRequestException", 400):
        control.create_route(ApiId=bare, RouteKey="z", RouteResponseSelectionExpression="other")
    other = control.create_route(ApiId=bare, RouteKey="leave")["RouteId"]
    with refused("ConflictException", 409):
        control.update_route(ApiId=bare, RouteId=other, RouteKey="join")
    updated = control.update_route(ApiId=bare, RouteId=other, RouteKey="gone", OperationName="op", RequestParameters={"route.request.querystring.q": {"Required": False}})
    assert (updated["RouteKey"], updated["OperationName"]) == ("gone", "op")
    assert updated["RequestParameters"] == {"route.request.querystring.q": {"Required": False}}
    control.delete_route_request_parameter(ApiId=bare, RouteId=other, RequestParameterKey="route.request.querystring.q")
    assert not control.get_route(ApiId=bare, RouteId=other).get("RequestParameters")
    control.delete_route(ApiId=bare, RouteId=other)
    with refused("NotFoundException", 404):
        control.get_route(ApiId=bare, RouteId=other)


def test_integration_values(control, bare, gateway):
    """6.3, S0-8, S0-13, S0-16: defaults, echo byte for byte, bounds, deletion while in use."""
    uri = "https://Intern.example:8443/ws/%C3%A9?a=b"
    made = control.create_integration(
        ApiId=bare, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri=uri, ConnectionType="INTERNET",
        PassthroughBehavior="WHEN_NO_MATCH", PayloadFormatVersion="1.0", TimeoutInMillis=29000,
        RequestParameters={"integration.request.header.connectionId": "context.connectionId", "integration.request.header.S": "'a-b.c_~+/='"},
    )
    read = control.get_integration(ApiId=bare, IntegrationId=made["IntegrationId"])
    assert without(read) == without(made)
    assert read["IntegrationUri"] == uri and read["PayloadFormatVersion"] == "1.0"
    assert read["RequestParameters"]["integration.request.header.S"] == "'a-b.c_~+/='"
    minimal = control.create_integration(ApiId=bare, IntegrationType="HTTP_PROXY", IntegrationUri="http://[::1]:9/x")
    assert (minimal["IntegrationMethod"], minimal["TimeoutInMillis"], minimal["PayloadFormatVersion"]) == ("POST", 29000, "1.0")
    # boto3 itself knows the bounds; the gateway must too.
    for timeout in (49, 29001):
        reply = raw_call(gateway, "POST", f"/v2/apis/{bare}/integrations", json.dumps({"integrationType": "MOCK", "timeoutInMillis": timeout}).encode())
        assert (reply.status, reply.get("x-amzn-errortype").split(":")[0]) == (400, "BadRequestException")
    for bad in ({"IntegrationUri": "ftp://x/"}, {"IntegrationUri": "not a url"}, {"IntegrationType": "SMTP"}, {"PassthroughBehavior": "X"}):
        with refused("BadRequestException", 400):
            control.create_integration(**{"ApiId": bare, "IntegrationType": "HTTP_PROXY", "IntegrationUri": "http://127.0.0.1:1/", **bad})
    only_uri = control.update_integration(ApiId=bare, IntegrationId=made["IntegrationId"], IntegrationUri="http://127.0.0.1:1/other")
    assert only_uri["RequestParameters"] == made["RequestParameters"] and only_uri["IntegrationUri"] == "http://127.0.0.1:1/other"
    route = control.create_route(ApiId=bare, RouteKey="x", Target=f"integrations/{made['IntegrationId']}")
    assert route["Target"] == f"integrations/{made['IntegrationId']}"
    with refused("ConflictException", 409):
        control.delete_integration(ApiId=bare, IntegrationId=made["IntegrationId"])
    control.delete_route(ApiId=bare, RouteId=route["RouteId"])
    control.delete_integration(ApiId=bare, IntegrationId=made["IntegrationId"])
    with refused("NotFoundException", 404):
        control.delete_integration(ApiId=bare, IntegrationId=made["IntegrationId"])


def test_route_responses(control, bare):
    """6.2: route responses: only `$default`, once."""
    route = control.create_route(ApiId=bare, RouteKey="x", RouteResponseSelectionExpression="$default")["RouteId"]
    with refused("BadRequestException", 400):
        control.create_route_response(ApiId=bare, RouteId=route, RouteResponseKey="other")
    made = control.create_route_response(ApiId=bare, RouteId=route, RouteResponseKey="$default")
    with refused("ConflictException", 409, "A route response with this key already exists"):
        control.create_route_response(ApiId=bare, RouteId=route, RouteResponseKey="$default")
    assert [r["RouteResponseId"] for r in control.get_route_responses(ApiId=bare, RouteId=route)["Items"]] == [made["RouteResponseId"]]
    control.delete_route_response(ApiId=bare, RouteId=route, RouteResponseId=made["RouteResponseId"])
    assert control.get_route_responses(ApiId=bare, RouteId=route)["Items"] == []


def test_stages_and_deployments(control, bare):
    """6.3, 6.4, S0-7: defaults, conflicts, both orders, rollback targets, deletion while in use."""
    with refused("BadRequestException", 400):
        control.create_deployment(ApiId=bare)  # no route yet
    control.create_route(ApiId=bare, RouteKey="$default")
    stage = control.create_stage(ApiId=bare, StageName="production")
    assert "DeploymentId" not in stage and stage["StageVariables"] == {} and stage["RouteSettings"] == {} and stage["Tags"] == {}
    assert stage["AutoDeploy"] is False if "AutoDeploy" in stage else True
    with refused("ConflictException", 409, "Stage already exists"):
        control.create_stage(ApiId=bare, StageName="production")
    for bad in ("$default", "a b", "ä"):
        with refused("BadRequestException", 400):
            control.create_stage(ApiId=bare, StageName=bad)
    first = control.create_deployment(ApiId=bare, StageName="production", Description="")
    assert first["Description"] == "" and first["DeploymentStatus"] == "DEPLOYED"
    assert control.get_stage(ApiId=bare, StageName="production")["DeploymentId"] == first["DeploymentId"]
    loose = control.create_deployment(ApiId=bare, Description="d")
    assert control.get_stage(ApiId=bare, StageName="production")["DeploymentId"] == first["DeploymentId"]
    with refused("BadRequestException", 400, "Active stages pointing to this deployment must be moved or deleted"):
        control.delete_deployment(ApiId=bare, DeploymentId=first["DeploymentId"])
    control.update_stage(ApiId=bare, StageName="production", DeploymentId=loose["DeploymentId"])
    control.delete_deployment(ApiId=bare, DeploymentId=first["DeploymentId"])
    assert [d["DeploymentId"] for d in control.get_deployments(ApiId=bare)["Items"]] == [loose["DeploymentId"]]
    control.update_deployment(ApiId=bare, DeploymentId=loose["DeploymentId"], Description="")
    assert control.get_deployment(ApiId=bare, DeploymentId=loose["DeploymentId"])["Description"] == ""
    other = control.create_stage(ApiId=bare, StageName="second", DeploymentId=loose["DeploymentId"], StageVariables={"a": "1", "b": "2"})
    assert other["StageVariables"] == {"a": "1", "b": "2"}
    changed = control.update_stage(ApiId=bare, StageName="second", StageVariables={"a": "", "c": "3"})
    assert changed["StageVariables"] == {"b": "2", "c": "3"}
    settings = {"join": {"ThrottlingBurstLimit": 5, "ThrottlingRateLimit": 2.5}}
    assert control.update_stage(ApiId=bare, StageName="second", RouteSettings=settings)["RouteSettings"]["join"]["ThrottlingRateLimit"] == 2.5
    control.delete_route_settings(ApiId=bare, StageName="second", RouteKey="join")
    assert control.get_stage(ApiId=bare, StageName="second")["RouteSettings"] == {}
    control.delete_stage(ApiId=bare, StageName="second")
    assert [s["StageName"] for s in control.get_stages(ApiId=bare)["Items"]] == ["production"]


@pytest.mark.parametrize("expression", ["", "$request.header.x", "$request.body.[", "${request.body.a"])
def test_bad_expressions(control, expression):
    """2.2, 2.3: a selection expression that cannot work is refused at once."""
    with refused("BadRequestException", 400):
        control.create_api(Name="x", ProtocolType="WEBSOCKET", RouteSelectionExpression=expression)


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"name": 5, "protocolType": "WEBSOCKET", "routeSelectionExpression": "x"}', b"", b"\xff"])
def test_malformed_bodies(gateway, body):
    """6.1: malformed JSON and wrong types are BadRequestException with a JSON message; nothing is created."""
    reply = raw_call(gateway, "POST", "/v2/apis", body)
    assert reply.status == 400
    assert reply.get("x-amzn-errortype").split(":")[0] == "BadRequestException"
    assert reply.json["message"]
    assert aws.control(gateway).get_apis()["Items"] == []


def test_wire_form(gateway, bare, control):
    """6.1: camelCase, ISO dates, absent instead of null, status codes."""
    control.create_route(ApiId=bare, RouteKey="$default")
    reply = raw_call(gateway, "GET", f"/v2/apis/{bare}")
    assert reply.status == 200
    assert reply.json["createdDate"].endswith("Z") and "T" in reply.json["createdDate"]
    assert None not in reply.json.values()
    assert reply.json["apiId"] == bare
    created = raw_call(gateway, "POST", f"/v2/apis/{bare}/stages", b'{"stageName":"prod"}')
    assert created.status == 201
    # Path parameters arrive percent-encoded.
    reply = raw_call(gateway, "DELETE", f"/v2/apis/{bare}/stages/prod/routesettings/%24default")
    assert reply.status in (204, 404)
    assert raw_call(gateway, "DELETE", f"/v2/apis/{bare}/stages/prod").status == 204
    listed = raw_call(gateway, "GET", "/v2/apis")
    assert set(listed.json) == {"items"}


def test_answers_are_fast(control, bare):
    """S0-3: control-plane writes take well under 200 ms (five in a row under one second)."""
    _, seconds = timed(lambda: [control.create_integration(ApiId=bare, IntegrationType="MOCK") for _ in range(5)])
    assert seconds < 1


def test_environment_endpoint(gateway, monkeypatch):
    """S0-1: AWS_ENDPOINT_URL_APIGATEWAYV2 with static keys in the environment and with a named profile."""
    import boto3

    from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY

    monkeypatch.setenv("AWS_ENDPOINT_URL_APIGATEWAYV2", gateway.admin_url)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    assert boto3.Session().client("apigatewayv2").get_apis()["Items"] == []
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    credentials = gateway.directory / "credentials"
    credentials.write_text(f"[tide]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    assert boto3.Session(profile_name="tide").client("apigatewayv2").get_apis()["Items"] == []


def test_restart_keeps_everything(gateway, backend):
    """S0-14: what was answered is there after an orderly restart, ids included."""
    api = make_api(gateway, backend)
    before = [without(api.control.get_api(ApiId=api.id)), api.control.get_routes(ApiId=api.id)["Items"], api.control.get_integrations(ApiId=api.id)["Items"]]
    gateway.stop()
    gateway.start()
    v2 = aws.control(gateway)
    after = [without(v2.get_api(ApiId=api.id)), v2.get_routes(ApiId=api.id)["Items"], v2.get_integrations(ApiId=api.id)["Items"]]
    for old, new in zip(before[1:], after[1:]):
        assert old == new
    assert {k: v for k, v in before[0].items() if k != "ApiEndpoint"} == {k: v for k, v in after[0].items() if k != "ApiEndpoint"}
    with api.connect() as ws:
        ws.text("x")
        backend.one("/default")
