"""The control plane against the service's published model, as botocore carries it: every operation, every member (AG-24, AG-25)."""

import json
import re

import pytest
from botocore.exceptions import ClientError

from harness import aws
from harness.aws import refused

EXPRESSION = "$request.body.action"
FUNCTION = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:f/invocations"

# Operations of HTTP APIs, with what 6.2 has them answer.
HTTP_ONLY = {
    "ImportApi": (400, "BadRequestException", "Import is not supported for WebSocket APIs"),
    "ReimportApi": (400, "BadRequestException", "Import is not supported for WebSocket APIs"),
    "ExportApi": (400, "BadRequestException", "Export is not supported for WebSocket APIs"),
    "DeleteCorsConfiguration": (400, "BadRequestException", "CORS is not supported for WebSocket APIs"),
    "CreateRoutingRule": (400, "BadRequestException", "Routing rules are not supported"),
    "PutRoutingRule": (400, "BadRequestException", "Routing rules are not supported"),
    "GetRoutingRule": (400, "BadRequestException", "Routing rules are not supported"),
    "DeleteRoutingRule": (400, "BadRequestException", "Routing rules are not supported"),
}

# What is said of an identifier that does not exist, by its name in paths (6.1).
UNKNOWN = {
    "ApiId": "Invalid API identifier specified {}",
    "RouteId": "Invalid Route identifier specified {}",
    "IntegrationId": "Invalid Integration identifier specified {}",
    "ModelId": "Invalid Model identifier specified {}",
    "AuthorizerId": "Invalid Authorizer identifier specified {}",
    "DeploymentId": "Invalid Deployment identifier specified {}",
    "RouteResponseId": "Invalid RouteResponse identifier specified {}",
    "IntegrationResponseId": "Invalid IntegrationResponse identifier specified {}",
    "VpcLinkId": "Invalid VpcLink identifier specified {}",
    "StageName": "Invalid stage identifier specified",
    "DomainName": "The domain name resource specified in the request was not found.",
    "ApiMappingId": "The api mapping resource specified in the request was not found.",
}

# Parts of paths that name no object of their own.
KEYS = {"RouteKey", "RequestParameterKey", "Specification", "ResourceArn"}


def is_portal(name):
    return "Portal" in name or "ProductPage" in name or "ProductRestEndpointPage" in name


def check_shape(value, shape, path):
    """`value` is what the model says: no unknown member, no null, times as text."""
    assert value is not None, f"{path} is null"
    if shape.type_name == "structure":
        assert isinstance(value, dict), f"{path}: {value!r}"
        members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        for name, member in value.items():
            assert name in members, f"{path}.{name} is not in the model"
            check_shape(member, members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        assert isinstance(value, list), f"{path}: {value!r}"
        for item in value:
            check_shape(item, shape.member, f"{path}[]")
    elif shape.type_name == "map":
        assert isinstance(value, dict), f"{path}: {value!r}"
        for key, item in value.items():
            check_shape(item, shape.value, f"{path}.{key}")
    elif shape.type_name == "timestamp":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value), f"{path}: {value!r}"
    elif shape.type_name == "string":
        assert isinstance(value, str), f"{path}: {value!r}"
        assert not shape.enum or value in shape.enum, f"{path}: {value!r} is none of {shape.enum}"
    elif shape.type_name == "boolean":
        assert isinstance(value, bool), f"{path}: {value!r}"
    elif shape.type_name in ("integer", "long"):
        assert isinstance(value, int) and not isinstance(value, bool), f"{path}: {value!r}"
    else:
        assert isinstance(value, (int, float)) and not isinstance(value, bool), f"{path}: {value!r}"


@pytest.fixture
def client(gateway):
    """boto3, which sends what it is given; every answer is held against the model."""
    client = aws.control(gateway, parameter_validation=False, retries=False)
    checked = set()

    def check(http_response, parsed, model, **_):
        if http_response.status_code >= 300:
            return
        expected = {"DELETE": 204, "POST": 201}.get(model.http["method"], 200)
        expected = 202 if model.name == "DeleteVpcLink" else expected
        assert http_response.status_code == expected, (model.name, http_response.status_code)
        checked.add(model.name)
        if http_response.content:
            check_shape(json.loads(http_response.content), model.output_shape, model.name)

    client.meta.events.register("after-call.apigatewayv2", check)
    client.checked = checked
    return client


def operations(client):
    model = client.meta.service_model
    methods = {name: method for method, name in client.meta.method_to_api_mapping.items()}
    return [(name, model.operation_model(name), getattr(client, methods[name])) for name in model.operation_names]


def minimal(shape):
    """The least that the model permits."""
    if shape.type_name == "structure":
        return {name: minimal(shape.members[name]) for name in shape.required_members}
    if shape.type_name in ("list", "map"):
        return [] if shape.type_name == "list" else {}
    if shape.type_name == "string":
        return shape.enum[0] if shape.enum else "placeholder"
    return {"boolean": False, "timestamp": "2025-01-15T12:00:00Z"}.get(shape.type_name, 1)


def path_parameters(operation):
    """In the order of the path."""
    members = operation.input_shape.members.items() if operation.input_shape else ()
    by_place = {m.serialization.get("name", n): n for n, m in members if m.serialization.get("location") == "uri"}
    return [by_place[place] for place in re.findall(r"{([^}+]+)\+?}", operation.http["requestUri"])]


def without(response, *names):
    return {k: v for k, v in response.items() if k not in ("ResponseMetadata", *names)}


class Stack:
    """One object of each kind."""

    def __init__(self, client):
        api = client.create_api(Name="stack", ProtocolType="WEBSOCKET", RouteSelectionExpression=EXPRESSION)["ApiId"]
        self.ids = {"ApiId": api}
        self.ids["IntegrationId"] = client.create_integration(ApiId=api, IntegrationType="MOCK")["IntegrationId"]
        self.ids["RouteId"] = client.create_route(ApiId=api, RouteKey="$connect")["RouteId"]
        self.ids["ModelId"] = client.create_model(ApiId=api, Name="m", Schema="{}")["ModelId"]
        self.ids["AuthorizerId"] = client.create_authorizer(
            ApiId=api, Name="a", AuthorizerType="REQUEST", AuthorizerUri=FUNCTION, IdentitySource=[])["AuthorizerId"]
        self.ids["StageName"] = client.create_stage(ApiId=api, StageName="prod")["StageName"]
        self.ids["DeploymentId"] = client.create_deployment(ApiId=api)["DeploymentId"]
        self.ids["RouteResponseId"] = client.create_route_response(
            ApiId=api, RouteId=self.ids["RouteId"], RouteResponseKey="$default")["RouteResponseId"]
        self.ids["IntegrationResponseId"] = client.create_integration_response(
            ApiId=api, IntegrationId=self.ids["IntegrationId"], IntegrationResponseKey="$default")["IntegrationResponseId"]
        self.ids["DomainName"] = client.create_domain_name(DomainName="ws.example.com")["DomainName"]
        self.ids["ApiMappingId"] = client.create_api_mapping(
            DomainName="ws.example.com", ApiId=api, Stage="prod")["ApiMappingId"]
        self.ids["VpcLinkId"] = client.create_vpc_link(Name="v", SubnetIds=["s"])["VpcLinkId"]


def test_unknown_ids_of_every_operation(client):
    """AG-24: each operation of the model, each identifier of its path unknown in turn, with the texts of 6.1."""
    stack = Stack(client)
    n_asked = 0
    for name, operation, call in operations(client):
        parameters = path_parameters(operation)
        if name in HTTP_ONLY and name != "ExportApi" or is_portal(name) or name == "ListRoutingRules" or not parameters:
            continue
        for unknown in parameters:
            if unknown in KEYS:
                continue
            arguments = minimal(operation.input_shape)
            for parameter in parameters:
                arguments[parameter] = stack.ids.get(parameter, "placeholder")
            nowhere = "nope.example.com" if unknown == "DomainName" else "aaaaaaa"
            arguments[unknown] = nowhere
            with refused("NotFoundException", 404, UNKNOWN[unknown].format(nowhere)) as e:
                call(**arguments)
            assert e.kind == "NotFoundException", (name, unknown)
            n_asked += 1
    assert n_asked > 80
    arn = "arn:aws:apigateway:us-east-1::/apis/aaaaaaa"
    for call, arguments in (
        (client.get_tags, {}), (client.tag_resource, {"Tags": {"a": "b"}}), (client.untag_resource, {"TagKeys": ["a"]}),
    ):
        with refused("NotFoundException", 404, "Invalid API identifier specified aaaaaaa"):
            call(ResourceArn=arn, **arguments)
    api = {"ApiId": stack.ids["ApiId"]}
    with refused("NotFoundException", 404):
        client.delete_route_settings(**api, StageName="prod", RouteKey="nope")
    with refused("NotFoundException", 404):
        client.delete_route_request_parameter(**api, RouteId=stack.ids["RouteId"], RequestParameterKey="nope")


def test_operations_of_http_apis_and_portals(client):
    """AG-25: each refused operation of the model answers as 6.2 says."""
    stack = Stack(client)
    n_portals = 0
    for name, operation, call in operations(client):
        arguments = minimal(operation.input_shape) if operation.input_shape else {}
        for parameter in path_parameters(operation):
            arguments[parameter] = stack.ids.get(parameter, "OAS30" if parameter == "Specification" else "placeholder")
        if name in HTTP_ONLY:
            status, code, text = HTTP_ONLY[name]
            with refused(code, status, text):
                call(**arguments)
        elif is_portal(name):
            n_portals += 1
            with refused("NotFoundException", 404, "Not supported by Tidegate"):
                call(**arguments)
    assert n_portals >= 26
    assert client.list_routing_rules(DomainName="ws.example.com")["RoutingRules"] == []
    with refused("BadRequestException", 400, "Tidegate serves WebSocket APIs only: protocolType must be WEBSOCKET"):
        client.create_api(Name="h", ProtocolType="HTTP")


@pytest.mark.parametrize("operation,member,value,text", [
    ("create_api", "CorsConfiguration", {"AllowOrigins": ["*"]}, None),
    ("update_api", "CorsConfiguration", {"AllowOrigins": ["*"]}, None),
    ("create_route", "AuthorizationScopes", ["a"], None),
    ("update_route", "AuthorizationScopes", ["a"], None),
    ("create_integration", "IntegrationSubtype", "SQS-SendMessage", None),
    ("create_integration", "ResponseParameters", {"500": {"overwrite:statuscode": "403"}}, None),
    ("update_integration", "ResponseParameters", {"500": {"overwrite:statuscode": "403"}}, None),
    ("create_integration", "PayloadFormatVersion", "2.0", None),
    ("create_integration", "RequestTemplates", {"$default": "#if($a)x"}, None),
    ("create_integration", "RequestTemplates", {"$default": "x" * 32769}, None),
    ("create_integration", "RequestParameters", {"integration.request.header.a": "nope"}, None),
    ("create_integration", "TemplateSelectionExpression", "${request.body.a", None),
    ("create_route", "ModelSelectionExpression", "${request.body.a", None),
    ("update_api", "RouteSelectionExpression", "$request.header.a", None),
    ("create_authorizer", "AuthorizerUri", "arn:aws:s3:::bucket", None),
    ("create_authorizer", "IdentitySource", ["route.request.body.a"],
     "Invalid request identity source expression: route.request.body.a. The sources must be separated by comma, and each source must be either a request "
     "parameter, matching 'route.request.querystring|header.[a-zA-Z0-9._-]+', or a stage variable, matching 'stageVariables.[a-zA-Z0-9._-]+', or a context "
     "parameter, matching 'context.[a-zA-Z0-9._-]+'."),
    ("create_integration", "TimeoutInMillis", 29001, None),
    ("create_integration", "TimeoutInMillis", 49, None),
    ("create_authorizer", "AuthorizerResultTtlInSeconds", 300, "AuthorizerResultTtlInSeconds cannot be set for WEBSOCKET protocol Apis."),
    ("create_authorizer", "AuthorizerPayloadFormatVersion", "2.0", "AuthorizerPayloadFormatVersion cannot be set for WEBSOCKET protocol Apis."),
    ("create_authorizer", "EnableSimpleResponses", True, "EnableSimpleResponses cannot be set for WEBSOCKET protocol Apis."),
    ("create_authorizer", "JwtConfiguration", {"Issuer": "https://a"}, "JwtConfiguration cannot be set for WEBSOCKET protocol Apis."),
    ("update_authorizer", "AuthorizerResultTtlInSeconds", 300, "AuthorizerResultTtlInSeconds cannot be set for WEBSOCKET protocol Apis."),
    ("create_authorizer", "AuthorizerType", "JWT",
     "Invalid authorizer type. Only REQUEST authorizer type is supported on WEBSOCKET protocol Apis."),
    ("create_stage", "StageName", "$default", None),
    ("create_domain_name", "RoutingMode", "ROUTING_RULE_ONLY", "Routing rules are not supported"),
    ("create_api_mapping", "ApiMappingKey", "/a", "API mapping key should not start with a '/' or have consecutive '/'s."),
    ("create_api_mapping", "ApiMappingKey", "a//b", "API mapping key should not start with a '/' or have consecutive '/'s."),
    ("create_api_mapping", "ApiMappingKey", "a/", "API mapping key should not end with a '/'."),
    ("create_api_mapping", "ApiMappingKey", "a/b", None),
])
def test_members_of_http_apis(client, operation, member, value, text):
    """AG-25: members that WebSocket APIs do not have, and values that they do not take."""
    stack = Stack(client)
    required = {
        "create_api": {"Name": "n", "ProtocolType": "WEBSOCKET", "RouteSelectionExpression": EXPRESSION},
        "create_route": {"RouteKey": "k"},
        "create_integration": {"IntegrationType": "HTTP_PROXY", "IntegrationUri": "http://127.0.0.1:1/"},
        "create_authorizer": {"Name": "n", "AuthorizerType": "REQUEST", "AuthorizerUri": FUNCTION, "IdentitySource": []},
        "create_domain_name": {"DomainName": "other.example.com"},
        "create_api_mapping": {"Stage": "prod"},
    }.get(operation, {})
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
    ids = {name: id for name, id in stack.ids.items() if name in shape.members and name not in required}
    with refused("BadRequestException", 400, text):
        getattr(client, operation)(**{**ids, **required, member: value})


# What is sent to create one object with everything it can have, then what changes all of it. Without an entry here, or in
# NOT_SENT, the test fails: nothing of the model is forgotten.
FULL = {
    "Api": (
        {"Name": "full", "ProtocolType": "WEBSOCKET", "RouteSelectionExpression": "${request.body.a}-x", "Description": "d",
         "ApiKeySelectionExpression": "$context.authorizer.usageIdentifierKey", "DisableSchemaValidation": True,
         "DisableExecuteApiEndpoint": True, "IpAddressType": "dualstack", "Version": "1", "Tags": {"k": "v"}},
        {"Name": "other", "RouteSelectionExpression": EXPRESSION, "Description": "", "DisableSchemaValidation": False,
         "ApiKeySelectionExpression": "$request.header.x-api-key", "DisableExecuteApiEndpoint": False, "IpAddressType": "ipv4", "Version": "2"},
    ),
    "Integration": (
        {"IntegrationType": "HTTP", "IntegrationUri": "https://${stageVariables.host}/{name}", "IntegrationMethod": "PUT", "ConnectionType": "VPC_LINK",
         "ConnectionId": "VPC", "ContentHandlingStrategy": "CONVERT_TO_TEXT", "CredentialsArn": "arn:aws:iam::*:user/*", "Description": "",
         "PassthroughBehavior": "NEVER", "PayloadFormatVersion": "1.0", "TemplateSelectionExpression": "${request.body.kind}", "TimeoutInMillis": 50,
         "RequestParameters": {"integration.request.header.a": "'b'", "integration.request.path.name": "context.connectionId"},
         "RequestTemplates": {"$default": "{}", "a": ""}, "TlsConfig": {"ServerNameToVerify": "backend.example.com"}},
        {"IntegrationType": "HTTP", "IntegrationUri": "http://127.0.0.1:1/", "IntegrationMethod": "POST", "ConnectionType": "INTERNET",
         "ConnectionId": "VPC", "ContentHandlingStrategy": "CONVERT_TO_BINARY", "CredentialsArn": "arn:aws:iam::000000000000:role/r", "Description": "x",
         "PassthroughBehavior": "WHEN_NO_TEMPLATES", "PayloadFormatVersion": "1.0", "TemplateSelectionExpression": "static", "TimeoutInMillis": 29000,
         "RequestParameters": {"integration.request.header.a": "'c'", "integration.request.path.name": "'n'"},
         "RequestTemplates": {"$default": "[]", "a": "x"}, "TlsConfig": {"ServerNameToVerify": "b"}},
    ),
    "Route": (
        {"RouteKey": "$connect", "ApiKeyRequired": True, "AuthorizationType": "CUSTOM", "AuthorizerId": "AUTHORIZER", "OperationName": "Connect",
         "ModelSelectionExpression": "$request.body.kind", "RequestModels": {"$default": "m"},
         "RequestParameters": {"route.request.querystring.token": {"Required": True}, "route.request.header.X-A": {"Required": False}},
         "RouteResponseSelectionExpression": "$default", "Target": "TARGET"},
        {"RouteKey": "$connect", "ApiKeyRequired": False, "AuthorizationType": "CUSTOM", "AuthorizerId": "AUTHORIZER", "OperationName": "C",
         "ModelSelectionExpression": "static", "RequestModels": {"$default": "m"},
         "RequestParameters": {"route.request.querystring.token": {"Required": False}, "route.request.header.X-A": {"Required": True}},
         "RouteResponseSelectionExpression": "$default", "Target": "TARGET"},
    ),
    "RouteResponse": (
        {"RouteResponseKey": "$default", "ModelSelectionExpression": "static", "ResponseModels": {"$default": "m"},
         "ResponseParameters": {"route.response.header.a": {"Required": True}}},
        {"RouteResponseKey": "$default", "ModelSelectionExpression": "other", "ResponseModels": {"$default": "n"},
         "ResponseParameters": {"route.response.header.a": {"Required": False}}},
    ),
    "IntegrationResponse": (
        {"IntegrationResponseKey": "/4\\d\\d/", "ContentHandlingStrategy": "CONVERT_TO_BINARY", "TemplateSelectionExpression": "${integration.response.statuscode}",
         "ResponseParameters": {"method.response.header.a": "'b'"}, "ResponseTemplates": {"$default": "$input.body", "b": ""}},
        {"IntegrationResponseKey": "/5\\d\\d/", "ContentHandlingStrategy": "CONVERT_TO_TEXT", "TemplateSelectionExpression": "static",
         "ResponseParameters": {"method.response.header.a": "'c'"}, "ResponseTemplates": {"$default": "x", "b": "y"}},
    ),
    "Model": (
        {"Name": "Message1", "Schema": '{"type":"object"}', "ContentType": "application/json", "Description": ""},
        {"Name": "Message2", "Schema": '{"type":"string"}', "ContentType": "application/json", "Description": "d"},
    ),
    "Authorizer": (
        {"Name": "full", "AuthorizerType": "REQUEST", "AuthorizerUri": FUNCTION, "AuthorizerCredentialsArn": "arn:aws:iam::000000000000:role/r",
         "IdentitySource": ["route.request.header.Auth", "route.request.querystring.t", "context.identity.sourceIp", "stageVariables.a"],
         "IdentityValidationExpression": "^x"},
        {"Name": "other", "AuthorizerType": "REQUEST", "AuthorizerUri": FUNCTION + "", "AuthorizerCredentialsArn": "arn:aws:iam::000000000000:role/s",
         "IdentitySource": [], "IdentityValidationExpression": "^y"},
    ),
    "Deployment": ({"Description": "", "StageName": "prod"}, {"Description": "d"}),
    "Stage": (
        {"StageName": "full", "DeploymentId": "DEPLOYMENT", "AutoDeploy": False, "StageVariables": {"a": "b-._~:/?#&=,"}, "ClientCertificateId": "c",
         "Description": "", "Tags": {"k": "v"},
         "AccessLogSettings": {"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:g", "Format": "$context.requestId"},
         "DefaultRouteSettings": {"DataTraceEnabled": True, "DetailedMetricsEnabled": True, "LoggingLevel": "INFO", "ThrottlingBurstLimit": 5, "ThrottlingRateLimit": 2.5},
         "RouteSettings": {"$default": {"DataTraceEnabled": False, "DetailedMetricsEnabled": True, "LoggingLevel": "ERROR", "ThrottlingBurstLimit": 1, "ThrottlingRateLimit": 0.5}}},
        {"DeploymentId": "DEPLOYMENT", "AutoDeploy": False, "StageVariables": {"a": "c"}, "ClientCertificateId": "d", "Description": "x",
         "AccessLogSettings": {"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:h", "Format": "$context.extendedRequestId"},
         "DefaultRouteSettings": {"DataTraceEnabled": False, "DetailedMetricsEnabled": False, "LoggingLevel": "OFF", "ThrottlingBurstLimit": 6, "ThrottlingRateLimit": 3.0},
         "RouteSettings": {"$default": {"DataTraceEnabled": True, "DetailedMetricsEnabled": False, "LoggingLevel": "INFO", "ThrottlingBurstLimit": 2, "ThrottlingRateLimit": 1.5}}},
    ),
    "DomainName": (
        {"DomainName": "*.full.example.com", "RoutingMode": "API_MAPPING_ONLY", "Tags": {"k": "v"},
         "MutualTlsAuthentication": {"TruststoreUri": "s3://a/b", "TruststoreVersion": "1"},
         "DomainNameConfigurations": [{
             "CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/a", "CertificateName": "n", "EndpointType": "REGIONAL", "HostedZoneId": "Z",
             "IpAddressType": "dualstack", "OwnershipVerificationCertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/o", "SecurityPolicy": "TLS_1_2"}]},
        {"RoutingMode": "API_MAPPING_ONLY", "MutualTlsAuthentication": {"TruststoreUri": "s3://a/c", "TruststoreVersion": "2"},
         "DomainNameConfigurations": [{
             "CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/b", "CertificateName": "m", "EndpointType": "REGIONAL", "HostedZoneId": "Y",
             "IpAddressType": "ipv4", "OwnershipVerificationCertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/p", "SecurityPolicy": "TLS_1_2"}]},
    ),
    "ApiMapping": ({"ApiId": "API", "Stage": "prod", "ApiMappingKey": "a-b_c$d.e+f!g*h'i()"}, {"ApiId": "API", "Stage": "prod", "ApiMappingKey": "x"}),
    "VpcLink": (
        {"Name": "full", "SubnetIds": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"], "Tags": {"k": "v"}}, {"Name": "other"},
    ),
}

# Members of HTTP APIs: refused, or (of CreateApi) ignored; each has a test of its own.
NOT_SENT = {
    "Api": {"CorsConfiguration", "CredentialsArn", "RouteKey", "Target"},
    "Integration": {"IntegrationSubtype", "ResponseParameters"},
    "Route": {"AuthorizationScopes"},
    "Authorizer": {"AuthorizerPayloadFormatVersion", "AuthorizerResultTtlInSeconds", "EnableSimpleResponses", "JwtConfiguration"},
}


def filled(value, ids):
    names = {"VPC": ids["VpcLinkId"], "AUTHORIZER": ids["AuthorizerId"], "TARGET": f"integrations/{ids['IntegrationId']}",
             "DEPLOYMENT": ids["DeploymentId"], "API": ids["ApiId"]}
    return {k: names.get(v, v) if isinstance(v, str) else v for k, v in value.items()}


def is_echoed(sent, shown):
    """What was sent is there, unchanged; the service adds members of its own to configurations only."""
    if isinstance(sent, list) and sent and isinstance(sent[0], dict):
        return len(sent) == len(shown) and all(item.items() <= found.items() for item, found in zip(sent, shown))
    return sent == shown


@pytest.mark.parametrize("kind", FULL)
def test_every_member_comes_back(client, kind):
    """6.3: every member of every create and update operation is echoed, by the answer, by a read and in the list."""
    stack = Stack(client)
    model = client.meta.service_model
    create, update = FULL[kind]
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()
    shape = {verb: model.operation_model(f"{verb}{kind}").input_shape for verb in ("Create", "Update", "Get")}
    # Objects that the path names; the object's own id is its answer's.
    own = {"Stage": "StageName", "DomainName": "DomainName"}.get(kind, f"{kind}Id")
    in_path = set(path_parameters(model.operation_model(f"Get{kind}"))) - {own}
    parents = {name: stack.ids[name] for name in in_path}
    if kind in ("Route", "RouteResponse"):
        client.delete_route_response(**{k: stack.ids[k] for k in ("ApiId", "RouteId", "RouteResponseId")})
    if kind == "Route":
        client.delete_route(ApiId=stack.ids["ApiId"], RouteId=stack.ids["RouteId"])
    for verb, sent in (("Create", create), ("Update", update)):
        known = set(shape[verb].members) - in_path - {own if verb == "Update" else ""} - NOT_SENT.get(kind, set())
        assert set(sent) == known, f"{verb}{kind}: {known ^ set(sent)}"

    sent = filled(create, stack.ids)
    made = without(getattr(client, f"create_{snake}")(**parents, **sent))
    read = without(getattr(client, f"get_{snake}")(**parents, **{own: made[own]}))
    for name, value in sent.items():
        if name in read:
            assert is_echoed(value, made[name]) and is_echoed(value, read[name]), name
        else:
            assert (kind, name) == ("Deployment", "StageName"), name
    assert read == made
    plural = f"get_{snake}s"
    listed = getattr(client, plural)(**parents, MaxResults="500")["Items"]
    assert read in listed

    sent = filled(update, stack.ids)
    changed = without(getattr(client, f"update_{snake}")(**parents, **{own: made[own]}, **sent))
    for name, value in sent.items():
        assert is_echoed(value, changed[name]), name
    assert without(getattr(client, f"get_{snake}")(**parents, **{own: made[own]})) == changed
    # Members that are not sent stay.
    same = without(getattr(client, f"update_{snake}")(**parents, **{own: made[own]}, **({"ApiId": stack.ids["ApiId"]} if kind == "ApiMapping" else {})))
    changing = ("LastUpdatedDate",)
    assert without(same, *changing) == without(changed, *changing)
    # Clients that keep nothing may remove it, once.
    if kind in ("ApiMapping", "Model", "Authorizer", "Integration", "IntegrationResponse", "RouteResponse", "Route", "DomainName", "Stage"):
        getattr(client, f"delete_{snake}")(**parents, **{own: made[own]})
        with refused("NotFoundException", 404):
            getattr(client, f"delete_{snake}")(**parents, **{own: made[own]})


def test_what_is_unset_is_absent(client):
    """6.3: the least of each object, member by member; 6.1: nothing is null."""
    stack = Stack(client)
    ids, api = stack.ids, {"ApiId": stack.ids["ApiId"]}

    def members(response):
        return set(without(response))

    assert members(client.get_api(**api)) == {
        "ApiId", "ApiEndpoint", "ApiKeySelectionExpression", "CreatedDate", "DisableExecuteApiEndpoint", "IpAddressType", "Name", "ProtocolType",
        "RouteSelectionExpression", "Tags"}
    assert without(client.create_route(**api, RouteKey="k"), "RouteId") == {"RouteKey": "k", "ApiKeyRequired": False, "AuthorizationType": "NONE"}
    assert without(client.get_integration(**api, IntegrationId=ids["IntegrationId"]), "IntegrationId") == {
        "IntegrationType": "MOCK", "ConnectionType": "INTERNET", "PassthroughBehavior": "WHEN_NO_MATCH", "TimeoutInMillis": 29000,
        "IntegrationResponseSelectionExpression": "${integration.response.statuscode}"}
    proxy = client.create_integration(**api, IntegrationType="HTTP_PROXY", IntegrationUri="http://127.0.0.1:1/")
    assert without(proxy, "IntegrationId") == {
        "IntegrationType": "HTTP_PROXY", "IntegrationUri": "http://127.0.0.1:1/", "IntegrationMethod": "POST", "ConnectionType": "INTERNET",
        "PassthroughBehavior": "WHEN_NO_MATCH", "PayloadFormatVersion": "1.0", "TimeoutInMillis": 29000}
    assert client.create_integration(**api, IntegrationType="AWS", IntegrationUri=FUNCTION)["IntegrationResponseSelectionExpression"] == (
        "${integration.response.body.errorMessage}")
    assert members(client.get_deployment(**api, DeploymentId=ids["DeploymentId"])) == {
        "AutoDeployed", "CreatedDate", "DeploymentId", "DeploymentStatus"}
    stage = client.get_stage(**api, StageName="prod")
    assert members(stage) == {
        "AutoDeploy", "CreatedDate", "DefaultRouteSettings", "LastUpdatedDate", "RouteSettings", "StageName", "StageVariables", "Tags"}
    assert stage["DefaultRouteSettings"] == {"DataTraceEnabled": False, "DetailedMetricsEnabled": False, "LoggingLevel": "OFF"}
    domain = client.get_domain_name(DomainName="ws.example.com")
    assert (domain["ApiMappingSelectionExpression"], domain["RoutingMode"]) == ("$request.basepath", "API_MAPPING_ONLY")
    assert domain["DomainNameConfigurations"][0]["DomainNameStatus"] == "AVAILABLE" and domain["DomainNameConfigurations"][0]["ApiGatewayDomainName"]
    link = client.get_vpc_link(VpcLinkId=ids["VpcLinkId"])
    assert (link["VpcLinkStatus"], link["VpcLinkVersion"], link["SecurityGroupIds"], link["Tags"]) == ("AVAILABLE", "V2", [], {})


def test_model_templates(client):
    """6.3: GetModelTemplate copies each property."""
    api = {"ApiId": Stack(client).ids["ApiId"]}
    schema = '{"$schema":"http://json-schema.org/draft-04/schema#","type":"object","properties":{"a b":{"type":"string"},"c":{"type":"number"}}}'
    model = client.create_model(**api, Name="Two", Schema=schema)["ModelId"]
    template = client.get_model_template(**api, ModelId=model)["Value"]
    assert '"a b" : $input.json("$[\'a b\']")' in template and '"c" : $input.json("$[\'c\']")' in template
    with refused("BadRequestException", 400):
        client.create_model(**api, Name="Broken", Schema="{")
    # 2.4: a schema that is none, unless the API switches that off.
    with refused("BadRequestException", 400):
        client.create_model(**api, Name="Wrong", Schema='{"type":"text"}')
    client.update_api(**api, DisableSchemaValidation=True)
    client.create_model(**api, Name="Wrong", Schema='{"type":"text"}')
    with refused("ConflictException", 409):
        client.create_model(**api, Name="Two", Schema="{}")
    with refused("BadRequestException", 400):
        client.create_model(**api, Name="not alphanumeric", Schema="{}")


def test_chosen_ids(client):
    """A tag chooses the id of an API: stable, checked, and taken once."""
    arguments = {"Name": "n", "ProtocolType": "WEBSOCKET", "RouteSelectionExpression": EXPRESSION}
    made = client.create_api(**arguments, Tags={"_custom_id_": "chat-prod"})
    assert made["ApiId"] == "chat-prod" and "chat-prod" in made["ApiEndpoint"]
    with refused("ConflictException", 409):
        client.create_api(**arguments, Tags={"_custom_id_": "chat-prod"})
    for bad in ("Chat", "a.b", "-a", "a" * 33, ""):
        with refused("BadRequestException", 400):
            client.create_api(**arguments, Tags={"_custom_id_": bad})


def test_what_is_used_is_not_deleted(client):
    """6.3, 6.4: conflicts of deletion, and what a deletion takes along."""
    stack = Stack(client)
    ids, api = stack.ids, {"ApiId": stack.ids["ApiId"]}
    client.update_route(**api, RouteId=ids["RouteId"], Target=f"integrations/{ids['IntegrationId']}", AuthorizationType="CUSTOM",
                        AuthorizerId=ids["AuthorizerId"], ModelSelectionExpression="x", RequestModels={"$default": "m"})
    linked = client.create_integration(**api, IntegrationType="HTTP_PROXY", IntegrationUri="http://127.0.0.1:1/", ConnectionType="VPC_LINK",
                                       ConnectionId=ids["VpcLinkId"])["IntegrationId"]
    client.create_deployment(**api, StageName="prod")
    deployed = client.get_stage(**api, StageName="prod")["DeploymentId"]
    for call, arguments in (
        (client.delete_integration, {**api, "IntegrationId": ids["IntegrationId"]}),
        (client.delete_authorizer, {**api, "AuthorizerId": ids["AuthorizerId"]}),
        (client.delete_model, {**api, "ModelId": ids["ModelId"]}),
        (client.delete_vpc_link, {"VpcLinkId": ids["VpcLinkId"]}),
    ):
        with refused("ConflictException", 409):
            call(**arguments)
    with refused("BadRequestException", 400, "Active stages pointing to this deployment must be moved or deleted"):
        client.delete_deployment(**api, DeploymentId=deployed)
    with refused("BadRequestException", 400):
        client.delete_stage(**api, StageName="prod")
    client.delete_api_mapping(DomainName="ws.example.com", ApiMappingId=ids["ApiMappingId"])
    client.delete_stage(**api, StageName="prod")
    client.delete_deployment(**api, DeploymentId=deployed)
    client.delete_integration(**api, IntegrationId=linked)
    assert client.delete_vpc_link(VpcLinkId=ids["VpcLinkId"])["ResponseMetadata"]["HTTPStatusCode"] == 202
    client.delete_route(**api, RouteId=ids["RouteId"])
    client.delete_model(**api, ModelId=ids["ModelId"])
    client.delete_authorizer(**api, AuthorizerId=ids["AuthorizerId"])
    client.delete_integration(**api, IntegrationId=ids["IntegrationId"])
    client.delete_api(**api)
    with refused("NotFoundException", 404):
        client.get_routes(**api)


def test_tags(client):
    """6.6: four kinds of resources, merged, limited."""
    ids = Stack(client).ids
    begin = "arn:aws:apigateway:us-east-1::"
    for path in (f"/apis/{ids['ApiId']}", f"/apis/{ids['ApiId']}/stages/prod", "/domainnames/ws.example.com", f"/vpclinks/{ids['VpcLinkId']}"):
        arn = begin + path
        client.tag_resource(ResourceArn=arn, Tags={"a": "1", "b": "2"})
        client.tag_resource(ResourceArn=arn, Tags={"b": "3", "c": ""})
        assert client.get_tags(ResourceArn=arn)["Tags"] == {"a": "1", "b": "3", "c": ""}
        client.untag_resource(ResourceArn=arn, TagKeys=["a", "c", "nope"])
        assert client.get_tags(ResourceArn=arn)["Tags"] == {"b": "3"}
        for tags in ({f"k{n}": "v" for n in range(50)}, {"aws:a": "b"}, {"k" * 129: "v"}, {"k": "v" * 257}, {"": "v"}):
            with refused("BadRequestException", 400):
                client.tag_resource(ResourceArn=arn, Tags=tags)
        assert client.get_tags(ResourceArn=arn)["Tags"] == {"b": "3"}
    with refused("BadRequestException", 400):
        client.get_tags(ResourceArn="arn:aws:s3:::bucket")


def test_the_model_has_no_other_operations(client):
    """Every operation of the model is applied, refused as 6.2 says, or of portals: a new one is noticed here."""
    applied = {name for name, operation, _ in operations(client) if name not in HTTP_ONLY and not is_portal(name)}
    kinds = ["Api", "ApiMapping", "Authorizer", "Deployment", "DomainName", "Integration", "IntegrationResponse", "Model", "Route", "RouteResponse",
             "Stage", "VpcLink"]
    expected = {f"{verb}{kind}" for kind in kinds for verb in ("Create", "Get", "Update", "Delete")} | {f"Get{kind}s" for kind in kinds}
    expected |= {"DeleteAccessLogSettings", "DeleteRouteRequestParameter", "DeleteRouteSettings", "GetModelTemplate", "ResetAuthorizersCache",
                 "GetTags", "TagResource", "UntagResource", "ListRoutingRules"}
    assert applied == expected
    stack = Stack(client)
    client.reset_authorizers_cache(ApiId=stack.ids["ApiId"], StageName="prod")
    client.delete_access_log_settings(ApiId=stack.ids["ApiId"], StageName="prod")
    with pytest.raises(ClientError):
        client.create_stage(ApiId=stack.ids["ApiId"], StageName="prod")
    # The answers of this test were held against the model.
    assert {"CreateApi", "CreateStage", "ResetAuthorizersCache"} <= client.checked
