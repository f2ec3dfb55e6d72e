"""`tidegate import`: templates and running APIs become documents that apply as they are (S0-112)."""

import json
import subprocess
from pathlib import Path

import pytest

from harness import aws
from harness.cli import tidegate
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY, binary, clean_environment

TEMPLATES = Path(__file__).resolve().parents[2] / "crates/tidegate-import/tests/templates"


def import_api(*words, code=0, **environment):
    """Runs `tidegate import`; answers its JSON, or its standard error output when it fails."""
    argv = [binary(), "import", *words, "--json"]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=clean_environment(**environment)
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return json.loads(done.stdout) if done.stdout else done.stderr


def import_from(gateway, api_id, code=0, secret=SECRET_KEY):
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": REGION}
    return import_api("aws", api_id, "--endpoint-url", gateway.admin_url, code=code, **keys)


def apply(gateway, document, path):
    """Applies it; afterwards there is nothing to do."""
    path.write_text(json.dumps(document))
    plan = tidegate(gateway, "plan", str(path), code=5)
    assert plan["steps"] and not plan["warnings"], plan
    tidegate(gateway, "apply", str(path), "--yes")
    plan = tidegate(gateway, "plan", str(path))
    assert plan["steps"] == [], plan


def exported(gateway):
    return tidegate(gateway, "export", "--format", "json")


def api_ids(control):
    return [api["ApiId"] for page in control.get_paginator("get_apis").paginate() for api in page["Items"]]


def test_templates_apply_as_they_are(start_gateway, tmp_path):
    """S0-112: import, apply: `plan` is empty. The same API read from the gateway applies to a second one, whose export equals it."""
    first, second = start_gateway(), start_gateway()
    known = ("--parameter", "LoadBalancer.DNSName=127.0.0.1")
    for words in [
        ("sam", str(TEMPLATES / "sam-chat.yaml")),
        ("sam", str(TEMPLATES / "sam-websocket-api.yaml")),
        ("serverless", str(TEMPLATES / "serverless-chat.yml"), "--stage", "prod"),
        ("cloudformation", str(TEMPLATES / "cloudformation.yaml"), *known),
    ]:
        made = import_api(*words)
        apply(first, made["document"], tmp_path / "document.json")
        # As text it is the same document, with what belongs elsewhere as comments.
        text = tmp_path / "document.toml"
        done = subprocess.run(
            [binary(), "import", *words, "--output", str(text)], capture_output=True, text=True, timeout=60, env=clean_environment()
        )
        assert done.returncode == 0 and done.stdout == "", done
        assert all(entry["what"] in done.stderr for entry in made["left_out"])
        assert tidegate(first, "plan", str(text))["steps"] == []
    document = exported(first)
    assert {api["name"] for api in document["apis"]} == {"ChatSocket", "LiveApi", "chat-prod-api", "orders-test"}

    ids = api_ids(aws.control(first))
    read = [import_from(first, api_id)["document"] for api_id in ids]
    for one in read:
        apply(second, one, tmp_path / "read.json")
    moved = exported(second)
    assert api_ids(aws.control(second)) == ids
    for name in ("apis", "domains", "vpc_links"):
        assert moved[name] == [entry for one in read for entry in one.get(name, [])], name
    # Reading does not lose anything: only names of integrations, which API Gateway does not have, are others.
    assert [import_from(second, api_id)["document"] for api_id in ids] == read
    assert moved["domains"] == document["domains"]
    assert [api["stages"] for api in moved["apis"]] == [api["stages"] for api in document["apis"]]
    assert [sorted(api["routes"]) for api in moved["apis"]] == [sorted(api["routes"]) for api in document["apis"]]


def test_an_api_made_with_boto3_moves(start_gateway, tmp_path):
    """S0-112: routes on several pages, responses, a model, an authorizer, a stage and a mapping; the id stays."""
    first, second = start_gateway(), start_gateway()
    control = aws.control(first)
    api = control.create_api(Name="orders", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action", Tags={"team": "a"})
    api_id = api["ApiId"]
    backend = control.create_integration(
        ApiId=api_id, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri="http://127.0.0.1:9/",
        RequestParameters={"integration.request.header.connectionId": "context.connectionId"}, TimeoutInMillis=5000,
    )["IntegrationId"]
    mock = control.create_integration(ApiId=api_id, IntegrationType="MOCK", RequestTemplates={"200": '{"statusCode":200}'}, TemplateSelectionExpression="200")["IntegrationId"]
    control.create_integration_response(
        ApiId=api_id, IntegrationId=mock, IntegrationResponseKey="$default", ResponseTemplates={"default": '{"pong":true}'}
    )
    control.create_model(ApiId=api_id, Name="Order", ContentType="application/json", Schema='{"type": "object"}')
    authorizer = control.create_authorizer(
        ApiId=api_id, Name="token", AuthorizerType="REQUEST", IdentitySource=["route.request.querystring.token"],
        AuthorizerUri="arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:000000000000:function:check/invocations",
    )["AuthorizerId"]
    control.create_route(
        ApiId=api_id, RouteKey="$connect", Target=f"integrations/{backend}", AuthorizationType="CUSTOM", AuthorizerId=authorizer,
        RequestParameters={"route.request.querystring.room": {"Required": True}},
    )
    ping = control.create_route(ApiId=api_id, RouteKey="ping", Target=f"integrations/{mock}", RouteResponseSelectionExpression="$default")["RouteId"]
    control.create_route_response(ApiId=api_id, RouteId=ping, RouteResponseKey="$default")
    for number in range(120):
        control.create_route(ApiId=api_id, RouteKey=f"route{number}", Target=f"integrations/{backend}", RequestModels={"x": "Order"})
    deployment = control.create_deployment(ApiId=api_id, Description="first")["DeploymentId"]
    control.create_stage(
        ApiId=api_id, StageName="live", DeploymentId=deployment, StageVariables={"color": "blue"},
        DefaultRouteSettings={"ThrottlingRateLimit": 10.0, "ThrottlingBurstLimit": 20}, RouteSettings={"ping": {"ThrottlingBurstLimit": 5}},
    )
    control.create_domain_name(DomainName="orders.example.com", DomainNameConfigurations=[{"CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/a"}])
    control.create_api_mapping(DomainName="orders.example.com", ApiId=api_id, Stage="live", ApiMappingKey="v1")

    made = import_from(first, api_id)
    assert [entry for entry in made["left_out"] if entry["part"] == "api"] == []
    api = made["document"]["apis"][0]
    assert api["id"] == api_id and len(api["routes"]) == 122
    assert api["integrations"]["ping"]["type"] == "MOCK"
    apply(second, made["document"], tmp_path / "document.json")
    there = aws.control(second)
    assert there.get_api(ApiId=api_id)["Name"] == "orders"
    assert exported(second)["apis"] == made["document"]["apis"]
    assert exported(second)["domains"] == made["document"]["domains"]
    # Nothing was changed where it was read from, and applying it there changes names alone.
    keys = {item["RouteKey"]: item["RouteId"] for page in control.get_paginator("get_routes").paginate(ApiId=api_id) for item in page["Items"]}
    tidegate(first, "apply", str(tmp_path / "document.json"), "--yes")
    after = {item["RouteKey"]: item["RouteId"] for page in control.get_paginator("get_routes").paginate(ApiId=api_id) for item in page["Items"]}
    assert keys == after


@pytest.mark.logs("control.unknown-id", "management.bad-signature")
def test_how_an_import_ends(start_gateway, tmp_path):
    """The exit codes of the manual; `--strict` is for programs."""
    gateway = start_gateway()
    assert "there is no API nowhere" in import_from(gateway, "nowhere", code=3)
    assert "AWS_ACCESS_KEY_ID" not in import_from(gateway, "nowhere", code=4, secret="wrong")
    assert "AWS_ACCESS_KEY_ID" in import_api("aws", "x", "--region", "eu-west-1", code=2)
    assert "--region" in import_api("aws", "x", code=2)
    import_api("cloudformation", str(TEMPLATES / "cloudformation.yaml"), "--strict", code=1)
    import_api("sam", str(TEMPLATES / "sam-chat.yaml"), "--strict")
    broken = tmp_path / "broken.yaml"
    broken.write_text("Resources:\n  A: [\n")
    assert "line" in import_api("sam", str(broken), code=1)
    assert "NAME=VALUE" in import_api("sam", str(broken), "--parameter", "secret", code=2)
    import_api("sam", str(tmp_path / "missing.yaml"), code=2)
