"""The control plane: paging, unknown ids in every operation, what belongs to HTTP APIs, values as they were sent."""

import datetime

import boto3
import pytest
from suite.api import refused, signed
from suite.checks import check

HOW = "boto3"
API, ID = "aaaaaaaaaa", "aaaaaaa"


@pytest.fixture
def bare(new_api):
    """An API with nothing in it."""
    return new_api()


@check(23, feature="control", how="boto3, also its paginator", what="250 routes with `maxResults` 100: three pages, no duplicates, in the order of their creation; no token on the last page")
@pytest.mark.timeout(120)
def test_paging(bare):
    # AG-23
    keys = [f"key{number}" for number in range(250)]
    for key in keys:
        bare.control.create_route(ApiId=bare.id, RouteKey=key)
    pages, token = [], None
    while True:
        page = bare.control.get_routes(ApiId=bare.id, MaxResults="100", **({"NextToken": token} if token else {}))
        pages.append([item["RouteKey"] for item in page["Items"]])
        token = page.get("NextToken")
        if not token:
            break
    assert [len(page) for page in pages] == [100, 100, 50]
    assert sum(pages, []) == keys
    listed = bare.control.get_paginator("get_routes").paginate(ApiId=bare.id, PaginationConfig={"PageSize": 100})
    assert [item["RouteKey"] for page in listed for item in page["Items"]] == keys
    for arguments in ({"MaxResults": "x"}, {"NextToken": "nonsense"}):
        with refused("BadRequestException", 400):
            bare.control.get_routes(ApiId=bare.id, **arguments)


# -- unknown ids --------------------------------------------------------------------------

# What CreateX and UpdateX must be given beside ids, so that the SDK lets them pass.
ARGUMENTS = {
    "create_api_mapping": {"Stage": "s"}, "create_authorizer": {"AuthorizerType": "REQUEST", "IdentitySource": ["route.request.header.X"], "Name": "n"},
    "create_integration": {"IntegrationType": "MOCK"}, "create_integration_response": {"IntegrationResponseKey": "$default"},
    "create_model": {"Name": "M", "Schema": "{}"}, "create_route": {"RouteKey": "x"}, "create_route_response": {"RouteResponseKey": "$default"},
    "create_stage": {"StageName": "s"}, "delete_route_request_parameter": {"RequestParameterKey": "route.request.header.X"},
    "delete_route_settings": {"RouteKey": "x"}, "update_api_mapping": {"ApiId": API},
}
IDS = {
    "ApiId": API, "RouteId": ID, "IntegrationId": ID, "DeploymentId": ID, "AuthorizerId": ID, "ModelId": ID, "RouteResponseId": ID,
    "IntegrationResponseId": ID, "StageName": "nope", "DomainName": "nope.example.com", "ApiMappingId": ID, "VpcLinkId": ID,
}
# Operations of WebSocket APIs whose path names nothing that must exist, and those of HTTP APIs, rules and portals (AG-25).
WITHOUT_IDS = {"create_api", "get_apis", "create_domain_name", "get_domain_names", "create_vpc_link", "get_vpc_links", "get_tags", "tag_resource", "untag_resource"}
OF_OTHERS = ("portal", "product", "routing_rule", "cors", "export_api", "import_api", "reimport_api")


def operations():
    client = boto3.client("apigatewayv2", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    mapping = client.meta.method_to_api_mapping
    for method, name in sorted(mapping.items()):
        if method in WITHOUT_IDS or any(word in method for word in OF_OTHERS):
            continue
        shape = client.meta.service_model.operation_model(name).input_shape
        path = [member for member, value in shape.members.items() if value.serialization.get("location") == "uri"]
        yield method, path


OPERATIONS = dict(operations())


@check(24, feature="control", how=HOW, what="Every operation whose path names an API, domain or VPC link that does not exist: `NotFoundException` with its text")
@pytest.mark.parametrize("method", OPERATIONS)
def test_unknown_parent(control, method):
    # AG-24
    path = OPERATIONS[method]
    arguments = {**ARGUMENTS.get(method, {}), **{member: IDS[member] for member in path if member in IDS}}
    if method == "create_api_mapping":
        arguments["ApiId"] = API
    with refused("NotFoundException", 404) as e:
        getattr(control, method)(**arguments)
    assert e.kind == "NotFoundException"
    if "DomainName" in path:
        assert e.text == "The domain name resource specified in the request was not found."
    elif "VpcLinkId" in path:
        assert e.text == f"Invalid VpcLink identifier specified {ID}"
    else:
        # The service is said to put the account in front of the id.
        assert e.text.startswith("Invalid API identifier specified ") and e.text.endswith(API)


TEXTS = {
    "RouteResponseId": f"Invalid RouteResponse identifier specified {ID}", "IntegrationResponseId": f"Invalid IntegrationResponse identifier specified {ID}",
    "RouteId": f"Invalid Route identifier specified {ID}", "IntegrationId": f"Invalid Integration identifier specified {ID}",
    "ModelId": f"Invalid Model identifier specified {ID}", "AuthorizerId": f"Invalid Authorizer identifier specified {ID}",
    "StageName": "Invalid stage identifier specified", "DeploymentId": None,
    "ApiMappingId": "The api mapping resource specified in the request was not found.",
}
BELOW = {method: path for method, path in OPERATIONS.items() if "ApiId" in path and set(path) & set(TEXTS)}


@check(24, feature="control", how=HOW, what="Every operation on a route, integration, response, model, authorizer, deployment or stage that its API does not have: `NotFoundException` with its text")
@pytest.mark.parametrize("method", BELOW)
def test_unknown_below(bare, method):
    # AG-24
    path = BELOW[method]
    arguments = {**ARGUMENTS.get(method, {}), **{member: IDS[member] for member in path if member in IDS}, "ApiId": bare.id}
    with refused("NotFoundException", 404) as e:
        getattr(bare.control, method)(**arguments)
    # Of a path with two unknown ids the outer one is named.
    outer = next(TEXTS[name] for name in ("RouteId", "IntegrationId", "ModelId", "AuthorizerId", "StageName", "DeploymentId") if name in path)
    assert outer in (None, e.text), e.text


@check(24, feature="control", how=HOW, what="Unknown route response, integration response and API mapping below existing ones; unknown stage or deployment in a body; a target that does not exist")
def test_unknown_elsewhere(bare):
    # AG-24
    bare.mock("x", "y", responses={})
    control, route, integration = bare.control, bare.routes["x"], bare.integrations["x"]
    for method, arguments in {
        "get_route_response": {"RouteId": route, "RouteResponseId": ID}, "delete_route_response": {"RouteId": route, "RouteResponseId": ID},
        "update_route_response": {"RouteId": route, "RouteResponseId": ID}, "get_integration_response": {"IntegrationId": integration, "IntegrationResponseId": ID},
        "delete_integration_response": {"IntegrationId": integration, "IntegrationResponseId": ID},
        "update_integration_response": {"IntegrationId": integration, "IntegrationResponseId": ID},
    }.items():
        name = "RouteResponse" if "RouteId" in arguments else "IntegrationResponse"
        with refused("NotFoundException", 404, f"Invalid {name} identifier specified {ID}"):
            getattr(control, method)(ApiId=bare.id, **arguments)
    with refused("NotFoundException", 404):
        control.create_deployment(ApiId=bare.id, StageName="nope")
    with refused("NotFoundException", 404):
        control.create_stage(ApiId=bare.id, StageName="s", DeploymentId=ID)
    with pytest.raises(control.exceptions.ClientError) as e:
        control.create_route(ApiId=bare.id, RouteKey="z", Target=f"integrations/{ID}")
    assert e.value.response["Error"]["Code"] in ("BadRequestException", "NotFoundException")


# -- HTTP APIs ----------------------------------------------------------------------------


@check(25, feature="control", needs=["own"], how=HOW, what="HTTP APIs, import, export, CORS, routing rules are refused with a text that says so; lists of them are empty, portals are 404")
def test_http_only(bare, control, target):
    # AG-25
    with refused("BadRequestException", 400, "Tidegate serves WebSocket APIs only: protocolType must be WEBSOCKET"):
        control.create_api(Name="h", ProtocolType="HTTP")
    with refused("BadRequestException", 400, "Import is not supported for WebSocket APIs"):
        control.import_api(Body="{}")
    with refused("BadRequestException", 400, "Import is not supported for WebSocket APIs"):
        control.reimport_api(ApiId=bare.id, Body="{}")
    with refused("BadRequestException", 400, "Export is not supported for WebSocket APIs"):
        control.export_api(ApiId=bare.id, OutputType="JSON", Specification="OAS30")
    with refused("NotFoundException", 404):
        control.export_api(ApiId=API, OutputType="JSON", Specification="OAS30")
    with refused("BadRequestException", 400, "CORS is not supported for WebSocket APIs"):
        control.delete_cors_configuration(ApiId=bare.id)
    rules = {"DomainName": "rules.example.com"}
    control.create_domain_name(**rules)
    try:
        with refused("BadRequestException", 400, "Routing rules are not supported"):
            control.create_routing_rule(**rules, Actions=[], Conditions=[], Priority=1)
        assert control.list_routing_rules(**rules)["RoutingRules"] == []
    finally:
        control.delete_domain_name(**rules)
    for path in ("/v2/portals", "/v2/portalproducts"):
        reply = signed(target, "GET", target.control + path, service="apigateway")
        assert (reply.status, reply.json["message"]) == (404, "Not supported by Tidegate")


@check(25, feature="control", how=HOW, what="Members of HTTP APIs are refused; `routeKey` and `target` of CreateApi are ignored")
def test_http_only_members(bare, control, new_api):
    # AG-25
    with refused("BadRequestException", 400):
        control.create_api(Name="h", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action", CorsConfiguration={"AllowOrigins": ["*"]})
    with refused("BadRequestException", 400):
        control.create_route(ApiId=bare.id, RouteKey="x", AuthorizationScopes=["a"])
    with refused("BadRequestException", 400):
        control.create_integration(ApiId=bare.id, IntegrationType="HTTP_PROXY", IntegrationUri="http://127.0.0.1:1/", IntegrationSubtype="SQS-SendMessage")
    made = new_api(RouteKey="$default", Target="http://127.0.0.1:1/default")
    assert "RouteKey" not in made.created and "Target" not in made.created
    assert control.get_routes(ApiId=made.id)["Items"] == [] and control.get_integrations(ApiId=made.id)["Items"] == []


# -- values -------------------------------------------------------------------------------


def same(made, read):
    for answer in (made, read):
        answer.pop("ResponseMetadata")
    assert made == read


@check(1, feature="control", how=HOW, what="What was sent comes back as it was sent, with the documented defaults and nothing more: API, route, integration, model, stage, deployment")
def test_values(control, new_api):
    # AG-1
    api = new_api(Description="", Version="1", Tags={"team": "a"})
    made = api.created
    assert (made["Description"], made["Version"], made["Tags"]) == ("", "1", {"team": "a"})
    assert (made["ApiKeySelectionExpression"], made["DisableExecuteApiEndpoint"]) == ("$request.header.x-api-key", False)
    assert isinstance(made["CreatedDate"], datetime.datetime)
    same(made, control.get_api(ApiId=api.id))
    uri = "https://Intern.example:8443/ws/%C3%A9?a=b"
    integration = control.create_integration(
        ApiId=api.id, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri=uri, Description="d", PayloadFormatVersion="1.0", TimeoutInMillis=5000,
        RequestParameters={"integration.request.header.S": "'a-b.c_~+/='"},
    )
    assert (integration["ConnectionType"], integration["PassthroughBehavior"], integration["TimeoutInMillis"]) == ("INTERNET", "WHEN_NO_MATCH", 5000)
    assert integration["IntegrationUri"] == uri
    same(integration, control.get_integration(ApiId=api.id, IntegrationId=integration["IntegrationId"]))
    route = control.create_route(ApiId=api.id, RouteKey="join", Target=f"integrations/{integration['IntegrationId']}", OperationName="op")
    assert (route["ApiKeyRequired"], route["AuthorizationType"]) == (False, "NONE")
    same(route, control.get_route(ApiId=api.id, RouteId=route["RouteId"]))
    model = control.create_model(ApiId=api.id, Name="Join", Schema='{"type": "object"}', ContentType="application/json")
    same(model, control.get_model(ApiId=api.id, ModelId=model["ModelId"]))
    stage = control.create_stage(ApiId=api.id, StageName="test", StageVariables={"a": "1"}, DefaultRouteSettings={"ThrottlingBurstLimit": 7, "ThrottlingRateLimit": 2.5})
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == 2.5 and stage["RouteSettings"] == {}
    same(stage, control.get_stage(ApiId=api.id, StageName="test"))
    deployment = control.create_deployment(ApiId=api.id, StageName="test", Description="first")
    assert deployment["DeploymentStatus"] == "DEPLOYED"
    same(deployment, control.get_deployment(ApiId=api.id, DeploymentId=deployment["DeploymentId"]))


CONFLICTS = [
    ("stage", "Stage already exists", lambda c, a: c.create_stage(ApiId=a.id, StageName="prod")),
    ("route", "Route with key x already exists for this API", lambda c, a: c.create_route(ApiId=a.id, RouteKey="x")),
    ("route response", "A route response with this key already exists", lambda c, a: c.create_route_response(ApiId=a.id, RouteId=a.routes["x"], RouteResponseKey="$default")),
    ("integration in use", None, lambda c, a: c.delete_integration(ApiId=a.id, IntegrationId=a.integrations["x"])),
]


@check(24, feature="control", how=HOW, what="Duplicates and objects in use are `ConflictException` 409 with their texts")
@pytest.mark.parametrize("what,text,call", CONFLICTS, ids=[c[0] for c in CONFLICTS])
def test_conflicts(new_api, control, what, text, call):
    # AG-24
    api = new_api().mock("x", "y").live()
    with refused("ConflictException", 409, text):
        call(control, api)


REFUSED = [
    ("no route yet", lambda c, a: c.create_deployment(ApiId=a.id)),
    ("route key with $", lambda c, a: c.create_route(ApiId=a.id, RouteKey="$other")),
    ("route response key", lambda c, a: c.create_route_response(ApiId=a.id, RouteId=c.create_route(ApiId=a.id, RouteKey="r")["RouteId"], RouteResponseKey="other")),
    ("authorization on another route", lambda c, a: c.create_route(ApiId=a.id, RouteKey="q", AuthorizationType="AWS_IAM")),
    ("authorizer type", lambda c, a: c.create_authorizer(ApiId=a.id, AuthorizerType="JWT", IdentitySource=["route.request.header.X"], Name="j")),
    ("stage name", lambda c, a: c.create_stage(ApiId=a.id, StageName="a b")),
    ("access log format", lambda c, a: c.create_stage(ApiId=a.id, StageName="l", AccessLogSettings={"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:x", "Format": "$context.status"})),
    ("selection expression", lambda c, a: c.update_api(ApiId=a.id, RouteSelectionExpression="$request.body.[")),
]


@check(24, feature="control", how=HOW, what="Values that cannot be are `BadRequestException`: deployment without routes, route keys, authorization elsewhere than on `$connect`, JWT authorizers, stage names, log formats without request id, expressions")
@pytest.mark.parametrize("what,call", REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(bare, control, what, call):
    # AG-24
    with refused("BadRequestException", 400) as e:
        call(control, bare)
    if what == "authorization on another route":
        assert e.text == "Currently, authorization is restricted to the $connect route only"
    if what == "authorizer type":
        assert e.text == "Invalid authorizer type. Only REQUEST authorizer type is supported on WEBSOCKET protocol Apis."


@check(1, feature="control", how=HOW, what="Tags of APIs, stages and domains: merged, listed, removed")
def test_tags(new_api, control, target):
    # AG-1
    api = new_api(Tags={"a": "1"}).mock("x", "y").live(Tags={"s": "1"})
    arn = f"arn:aws:apigateway:{target.region}::/apis/{api.id}"
    control.tag_resource(ResourceArn=arn, Tags={"b": "2"})
    assert control.get_tags(ResourceArn=arn)["Tags"] == {"a": "1", "b": "2"} == control.get_api(ApiId=api.id)["Tags"]
    control.untag_resource(ResourceArn=arn, TagKeys=["a"])
    assert control.get_tags(ResourceArn=arn)["Tags"] == {"b": "2"}
    assert control.get_tags(ResourceArn=f"{arn}/stages/prod")["Tags"] == {"s": "1"}
