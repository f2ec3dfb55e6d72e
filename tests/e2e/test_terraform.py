"""The requests that Terraform's AWS provider makes for a whole WebSocket stack (AG-26).

The provider cannot be installed where these tests run, so its requests are made by hand, in its order, through botocore: what each
resource sends when it is created, how it waits, what it reads back and compares, what it sends for each change (only members that
changed, `""` for entries of a map that are gone), and how it deletes. A plan is a second read; a difference to the state is a change
that Terraform would make again and again.
"""

import pytest
from botocore.exceptions import ClientError

from harness import aws
from harness.wait import until

FUNCTION = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:f/invocations"
CERTIFICATE = "arn:aws:acm:us-east-1:000000000000:certificate/one"


def code(error):
    return error.value.response["Error"]["Code"]


class Resource:
    """One resource of a state. `config` has the provider's arguments by the names of the API."""

    kind = None                 # as in operations: CreateApi
    own = None                  # member of its id
    parents = ()                # members of the ids above it
    on_create = {}              # sent although nobody set it: the schema's defaults
    always = ()                 # sent with each update, changed or not
    removed_with_empty = ()     # maps whose missing entries are sent as ""
    scalars_on_removal = ""     # what is sent for a text that is not set any more
    needs_api = False           # reads the API first, for its protocol
    enums = ()                  # not sent at all when they are empty, as the SDK does it

    def __init__(self, client, **config):
        self.client = client
        self.config = config
        self.id = None
        self.state = None

    def call(self, verb, **arguments):
        return getattr(self.client, f"{verb}_{self.snake()}")(**arguments)

    def snake(self):
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in self.kind).lstrip("_")

    def address(self):
        return {name: self.config[name] for name in self.parents} | {self.own: self.id}

    def create(self):
        if self.needs_api:
            assert self.client.get_api(ApiId=self.config["ApiId"])["ProtocolType"] == "WEBSOCKET"
        sent = {**self.on_create, **{k: v for k, v in self.config.items() if v not in ("", {}, [], None)}}
        self.id = self.call("create", **sent)[self.own]
        self.wait()
        self.state = self.read()
        self.is_as_configured()
        return self

    def wait(self):
        """Polls a status, where there is one."""

    def read(self):
        """What the provider keeps: every member that it has an attribute for, with unset ones as its zero values."""
        return {k: v for k, v in self.call("get", **self.address()).items() if k not in ("ResponseMetadata", "CreatedDate", "LastUpdatedDate")}

    def is_as_configured(self):
        """No difference between what was asked for and what is there: an apply that is followed by an empty plan."""
        for name, value in self.config.items():
            if name in self.parents:
                continue
            shown = self.state.get(name)
            if value in ("", {}, [], None):
                assert shown in (None, "", {}, [], False, 0), (self.kind, name, shown)
            else:
                self.compare(name, value, shown)

    def compare(self, name, value, shown):
        if isinstance(value, list) and value and isinstance(value[0], str):
            value, shown = sorted(value), sorted(shown or [])
        assert shown == value, (self.kind, name, shown, value)

    def plan(self):
        """A refresh finds everything as it was left."""
        assert self.read() == self.state, self.kind

    def changes(self, new):
        sent = {}
        for name, value in new.items():
            before = self.config.get(name)
            if value == before:
                continue
            if name in self.removed_with_empty:
                value = {**{k: "" for k in (before or {}) if k not in value}, **value}
            if value == "" and name in self.enums:
                continue
            sent[name] = value
        return {**sent, **{name: new[name] for name in self.always}}

    def update(self, **new):
        new = {**self.config, **new}
        sent = self.changes(new)
        self.before_update(new, sent)
        if self.needs_api:
            self.client.get_api(ApiId=self.config["ApiId"])
        self.call("update", **self.address(), **{k: v for k, v in sent.items() if k not in self.parents})
        self.config = new
        self.wait()
        self.state = self.read()
        self.is_as_configured()
        self.plan()

    def before_update(self, new, sent):
        """What is removed by operations of its own."""

    def is_imported(self):
        """`terraform import` knows the id only: what is read by it is what is in the state."""
        again = type(self)(self.client, **{name: self.config[name] for name in self.parents})
        again.id = self.id
        assert again.read() == self.state, self.kind

    def delete(self):
        self.call("delete", **self.address())
        self.is_gone()

    def is_gone(self):
        for verb in ("get", "delete"):
            # A second delete of something that is gone is no failure for the provider.
            with pytest.raises(ClientError) as error:
                self.call(verb, **self.address())
            assert code(error) == "NotFoundException", self.kind
            assert type(error.value).__name__ == "NotFoundException"


class Api(Resource):
    kind, own = "Api", "ApiId"
    on_create = {"ApiKeySelectionExpression": "$request.header.x-api-key"}


class VpcLink(Resource):
    kind, own = "VpcLink", "VpcLinkId"

    def wait(self):
        until(lambda: self.client.get_vpc_link(VpcLinkId=self.id)["VpcLinkStatus"] == "AVAILABLE", "an available link", 5)

    def read(self):
        return {k: v for k, v in super().read().items() if k != "VpcLinkStatus"}


class Integration(Resource):
    kind, own, parents = "Integration", "IntegrationId", ("ApiId",)
    on_create = {"ConnectionType": "INTERNET", "PassthroughBehavior": "WHEN_NO_MATCH", "PayloadFormatVersion": "1.0"}
    always = ("IntegrationType",)
    removed_with_empty = ("RequestParameters",)
    enums = ("ContentHandlingStrategy",)


class IntegrationResponse(Resource):
    kind, own, parents = "IntegrationResponse", "IntegrationResponseId", ("ApiId", "IntegrationId")
    enums = ("ContentHandlingStrategy",)


class Model(Resource):
    kind, own, parents = "Model", "ModelId", ("ApiId",)


class Authorizer(Resource):
    kind, own, parents = "Authorizer", "AuthorizerId", ("ApiId",)
    needs_api = True

    def delete(self):
        # The provider repeats while it is a conflict: a route may still be on its way out.
        self.call("delete", **self.address())
        self.is_gone()


class Route(Resource):
    kind, own, parents = "Route", "RouteId", ("ApiId",)
    on_create = {"ApiKeyRequired": False, "AuthorizationType": "NONE"}

    def before_update(self, new, sent):
        before, after = self.config.get("RequestParameters") or {}, new.get("RequestParameters") or {}
        for key, constraints in before.items():
            if after.get(key) != constraints:
                self.client.delete_route_request_parameter(**self.address(), RequestParameterKey=key)
        if "AuthorizerId" in sent:
            sent["AuthorizationType"] = new["AuthorizationType"]


class RouteResponse(Resource):
    kind, own, parents = "RouteResponse", "RouteResponseId", ("ApiId", "RouteId")


class Deployment(Resource):
    kind, own, parents = "Deployment", "DeploymentId", ("ApiId",)

    def wait(self):
        until(lambda: self.read()["DeploymentStatus"] == "DEPLOYED", "a deployment", 5)


class Stage(Resource):
    kind, own, parents = "Stage", "StageName", ("ApiId",)
    on_create = {"AutoDeploy": False}
    removed_with_empty = ("StageVariables",)
    needs_api = True

    def address(self):
        return {"ApiId": self.config["ApiId"], "StageName": self.id}

    def before_update(self, new, sent):
        before, after = self.config.get("RouteSettings") or {}, new.get("RouteSettings") or {}
        for key, settings in before.items():
            if after.get(key) != settings:
                self.client.delete_route_settings(**self.address(), RouteKey=key)
        # Nothing: an empty structure is what the provider sends for a block that is gone.
        if "AccessLogSettings" in sent and not sent["AccessLogSettings"]:
            sent["AccessLogSettings"] = {}
        sent.pop("StageName", None)


class DomainName(Resource):
    kind, own = "DomainName", "DomainName"
    always = ("DomainNameConfigurations",)

    def wait(self):
        read = self.client.get_domain_name
        until(lambda: read(DomainName=self.id)["DomainNameConfigurations"][0]["DomainNameStatus"] == "AVAILABLE", "an available domain", 5)

    def compare(self, name, value, shown):
        if name == "DomainNameConfigurations":
            assert value[0].items() <= shown[0].items()
        else:
            super().compare(name, value, shown)

    def before_update(self, new, sent):
        sent.pop("DomainName", None)
        if "MutualTlsAuthentication" in sent:
            before, after = self.config.get("MutualTlsAuthentication") or {}, sent["MutualTlsAuthentication"]
            # Only what changed; an address of nothing switches it off.
            changed = {k: v for k, v in after.items() if before.get(k) != v}
            sent["MutualTlsAuthentication"] = changed if after else {"TruststoreUri": ""}

    def read(self):
        state = super().read()
        # A date that the provider has no attribute for.
        for configuration in state["DomainNameConfigurations"]:
            configuration.pop("CertificateUploadDate", None)
        return state


class ApiMapping(Resource):
    kind, own, parents = "ApiMapping", "ApiMappingId", ("DomainName",)
    always = ("ApiId",)


def settings(burst=0, rate=0.0, level="OFF", trace=False, metrics=False):
    """The provider sends all five, zeros too."""
    return {"DataTraceEnabled": trace, "DetailedMetricsEnabled": metrics, "LoggingLevel": level, "ThrottlingBurstLimit": burst, "ThrottlingRateLimit": rate}


class Stack:
    """One resource of each kind, in the order of their dependencies."""

    def __init__(self, client):
        self.made = []
        add = self.add
        self.link = add(VpcLink(client, Name="link", SubnetIds=["subnet-a", "subnet-b"], SecurityGroupIds=["sg-a"], Tags={"env": "test"}))
        self.api = add(Api(
            client, Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action", Description="a chat", Version="v1",
            Tags={"env": "test"}, DisableExecuteApiEndpoint=False))
        api = {"ApiId": self.api.id}
        self.model = add(Model(client, **api, Name="Message", ContentType="application/json", Description="",
                               Schema='{"$schema":"http://json-schema.org/draft-04/schema#","title":"Message","type":"object"}'))
        self.authorizer = add(Authorizer(client, **api, Name="auth", AuthorizerType="REQUEST", AuthorizerUri=FUNCTION,
                                         IdentitySource=["route.request.header.Auth", "route.request.querystring.token"]))
        self.proxy = add(Integration(
            client, **api, IntegrationType="HTTP_PROXY", IntegrationUri="http://127.0.0.1:1/ws", IntegrationMethod="POST", TimeoutInMillis=29000,
            ConnectionType="VPC_LINK", ConnectionId=self.link.id, Description="the backend",
            RequestParameters={"integration.request.header.connectionId": "context.connectionId", "integration.request.header.a": "'b'"}))
        self.custom = add(Integration(
            client, **api, IntegrationType="HTTP", IntegrationUri="http://127.0.0.1:1/", IntegrationMethod="GET", PassthroughBehavior="NEVER",
            ContentHandlingStrategy="CONVERT_TO_TEXT", TemplateSelectionExpression="$request.body.name", TimeoutInMillis=28999,
            RequestTemplates={"application/json": ""}))
        self.mock = add(Integration(client, **api, IntegrationType="MOCK"))
        self.response = add(IntegrationResponse(
            client, **api, IntegrationId=self.custom.id, IntegrationResponseKey="/200/", ContentHandlingStrategy="CONVERT_TO_TEXT",
            TemplateSelectionExpression="$request.body.name", ResponseTemplates={"application/json": ""}))
        self.connect = add(Route(client, **api, RouteKey="$connect", Target=f"integrations/{self.proxy.id}", AuthorizationType="CUSTOM",
                                 AuthorizerId=self.authorizer.id, OperationName="Connect",
                                 RequestParameters={"route.request.header.Auth": {"Required": True}}))
        self.default = add(Route(client, **api, RouteKey="$default", Target=f"integrations/{self.custom.id}",
                                 ModelSelectionExpression="action", RequestModels={"action": "Message"}, RouteResponseSelectionExpression="$default"))
        self.ping = add(Route(client, **api, RouteKey="ping", Target=f"integrations/{self.mock.id}"))
        self.answer = add(RouteResponse(client, **api, RouteId=self.default.id, RouteResponseKey="$default", ModelSelectionExpression="action",
                                        ResponseModels={"action": "Message"}))
        self.deployment = add(Deployment(client, **api, Description="first"))
        self.stage = add(Stage(
            client, **api, StageName="prod", DeploymentId=self.deployment.id, Description="", ClientCertificateId="",
            StageVariables={"host": "a.example.com", "gone": "x"}, Tags={"env": "test"},
            AccessLogSettings={"DestinationArn": "arn:aws:logs:us-east-1:000000000000:log-group:chat", "Format": "$context.requestId $context.status"},
            DefaultRouteSettings=settings(5000, 10000.0, "ERROR"), RouteSettings={"ping": settings(10, 5.5, "INFO", True, True)}))
        self.domain = add(DomainName(
            client, DomainName="ws.example.com", Tags={"env": "test"},
            MutualTlsAuthentication={"TruststoreUri": "s3://bucket/key", "TruststoreVersion": "1"},
            DomainNameConfigurations=[{"CertificateArn": CERTIFICATE, "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2"}]))
        self.mapping = add(ApiMapping(client, DomainName="ws.example.com", ApiId=self.api.id, Stage="prod", ApiMappingKey="v1"))

    def add(self, resource):
        self.made.append(resource.create())
        return resource

    def plan(self):
        for resource in self.made:
            resource.plan()


@pytest.fixture
def client(gateway):
    # The provider's SDK repeats nothing but 429 and 5xx either.
    return aws.control(gateway, parameter_validation=False, retries=False)


def test_apply_plan_import_destroy(client):
    """AG-26: apply, a plan without differences, import of each resource, destroy in the opposite order; nothing is left."""
    stack = Stack(client)
    stack.plan()
    for resource in stack.made:
        resource.is_imported()
    # A destroy that is run twice, or after somebody else removed things, ends well: is_gone() asks again.
    for resource in reversed(stack.made):
        resource.delete()
    assert client.get_apis()["Items"] == client.get_domain_names()["Items"] == client.get_vpc_links()["Items"] == []


def test_changes(client):
    """AG-26: each change is one update, after which there is nothing to do; entries of maps go away with `""`."""
    stack = Stack(client)
    stack.api.update(Name="chat2", Description="", RouteSelectionExpression="$request.body.kind", Version="", DisableExecuteApiEndpoint=True)
    stack.api.update(ApiKeySelectionExpression="$context.authorizer.usageIdentifierKey", Version="v2")
    stack.model.update(
        Description="d", Schema='{"$schema":"http://json-schema.org/draft-04/schema#","type":"object","title":"Message"}')
    stack.authorizer.update(IdentitySource=[], Name="auth2", AuthorizerCredentialsArn="arn:aws:iam::000000000000:role/r")
    stack.authorizer.update(AuthorizerCredentialsArn="", IdentitySource=["route.request.header.Auth"])
    stack.proxy.update(RequestParameters={"integration.request.header.connectionId": "context.connectionId", "integration.request.header.c": "'d'"})
    stack.proxy.update(ConnectionType="INTERNET", ConnectionId="", Description="", IntegrationUri="https://b.example.com/", TlsConfig={"ServerNameToVerify": "b"})
    stack.proxy.update(TlsConfig={}, RequestParameters={})
    stack.custom.update(RequestTemplates={"application/json": "#set($number=42)", "application/xml": "#set($percent=$number/100)"},
                        TemplateSelectionExpression="$request.body.id", PassthroughBehavior="WHEN_NO_TEMPLATES", TimeoutInMillis=51,
                        ContentHandlingStrategy="CONVERT_TO_BINARY", IntegrationMethod="POST")
    stack.custom.update(TemplateSelectionExpression="")
    stack.response.update(IntegrationResponseKey="$default", TemplateSelectionExpression="", ContentHandlingStrategy="CONVERT_TO_BINARY",
                          ResponseTemplates={"application/json": "#set($number=42)", "application/xml": "x"})
    stack.connect.update(RequestParameters={"route.request.header.Auth": {"Required": False}, "route.request.querystring.authToken": {"Required": True}})
    stack.connect.update(AuthorizationType="AWS_IAM", AuthorizerId="", OperationName="", ApiKeyRequired=True)
    stack.connect.update(AuthorizationType="CUSTOM", AuthorizerId=stack.authorizer.id, ApiKeyRequired=False)
    stack.default.update(RouteResponseSelectionExpression="", ModelSelectionExpression="", Target=f"integrations/{stack.mock.id}")
    stack.answer.update(ModelSelectionExpression="", ResponseModels={"action": "Message", "other": "Message"})
    stack.deployment.update(Description="second")
    second = stack.add(Deployment(client, ApiId=stack.api.id, Description="triggered"))
    # The stage depends on it, so it is destroyed after the stage.
    stack.made.insert(stack.made.index(stack.stage), stack.made.pop())
    stack.stage.update(DeploymentId=second.id, StageVariables={"host": "b.example.com", "new": "y"}, Description="d", ClientCertificateId="c")
    stack.stage.update(RouteSettings={"ping": settings(20, 5.5), "$default": settings()}, DefaultRouteSettings=settings(1, 2.5, "INFO", True, True))
    stack.stage.update(RouteSettings={}, AccessLogSettings={}, StageVariables={}, ClientCertificateId="", Description="")
    stack.domain.update(MutualTlsAuthentication={"TruststoreUri": "s3://bucket/key", "TruststoreVersion": "2"})
    stack.domain.update(MutualTlsAuthentication={"TruststoreUri": "s3://bucket/other", "TruststoreVersion": "2"})
    stack.domain.update(MutualTlsAuthentication={}, DomainNameConfigurations=[{
        "CertificateArn": CERTIFICATE.replace("one", "two"), "EndpointType": "REGIONAL", "SecurityPolicy": "TLS_1_2", "IpAddressType": "dualstack"}])
    stack.mapping.update(ApiMappingKey="v2")
    stack.mapping.update(ApiMappingKey="")
    stack.link.update(Name="link2")
    # Tags go by operations of their own, and come back with the resource.
    arn = f"arn:aws:apigateway:us-east-1::/apis/{stack.api.id}"
    client.untag_resource(ResourceArn=arn, TagKeys=["env"])
    client.tag_resource(ResourceArn=arn, Tags={"owner": "me"})
    stack.api.config["Tags"] = {"owner": "me"}
    stack.api.state = stack.api.read()
    stack.api.is_as_configured()
    stack.plan()
    for resource in reversed(stack.made):
        resource.delete()


def test_entries_that_the_provider_leaves_out_stay(client):
    """AG-26: maps are merged, as the service merges them. The provider sends `""` for entries of request_parameters and stage_variables that
    are gone, and nothing for those of templates and models: they stay, and the next plan shows them, until `""` has removed them once."""
    stack = Stack(client)
    two = {"application/json": "#set($number=42)", "application/xml": "x"}
    one = {"application/json": "#set($number=43)"}
    stack.custom.update(RequestTemplates=two)
    for given, shown in [(one, {**two, **one}), ({}, {**two, **one}), ({**one, "application/xml": ""}, one)]:
        stack.custom.call("update", **stack.custom.address(), RequestTemplates=given, IntegrationType="HTTP")
        assert stack.custom.read()["RequestTemplates"] == shown, given
    stack.response.update(ResponseTemplates=two)
    for given, shown in [(one, {**two, **one}), ({**one, "application/xml": ""}, one)]:
        stack.response.call("update", **stack.response.address(), ResponseTemplates=given)
        assert stack.response.read()["ResponseTemplates"] == shown, given
    stack.default.call("update", **stack.default.address(), RequestModels={"other": "Message"})
    assert stack.default.read()["RequestModels"] == {"action": "Message", "other": "Message"}
    stack.default.call("update", **stack.default.address(), RequestModels={"other": ""})
    assert stack.default.read()["RequestModels"] == {"action": "Message"}
    # What it does send for entries that are gone leaves no difference.
    stack.proxy.update(RequestParameters={"integration.request.header.a": "'b'"})
    stack.stage.update(StageVariables={"host": "a.example.com"})
    for resource in reversed(stack.made):
        resource.delete()


def test_what_somebody_else_removed(client):
    """AG-26: a refresh finds out that a resource is gone, and the next apply makes it again."""
    stack = Stack(client)
    client.delete_route_response(ApiId=stack.api.id, RouteId=stack.default.id, RouteResponseId=stack.answer.id)
    client.delete_api_mapping(DomainName="ws.example.com", ApiMappingId=stack.mapping.id)
    for resource in (stack.answer, stack.mapping):
        resource.is_gone()
        before = resource.id
        resource.create()
        assert resource.id != before
    client.delete_api(ApiId=stack.api.id)
    for resource in stack.made:
        if "ApiId" in resource.parents or resource in (stack.api, stack.mapping):
            resource.is_gone()
