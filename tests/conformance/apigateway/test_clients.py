"""Other official clients than boto3: the SDKs for JavaScript and Rust, the AWS CLI, Terraform's provider."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from harness.gateway import clean_environment
from suite.checks import check

HERE = Path(__file__).resolve().parent
RUST = HERE.parent / "rust-sdk"


def arguments(target):
    """What a program in another language must know of the target."""
    access, secret, token = target.keys()
    connect = target.connect
    management = target.management or ("http" + connect[2:] if connect.startswith("ws") else connect)
    return {
        "control": target.control, "region": target.region, "accessKey": access, "secretKey": secret, "token": token, "settle": target.settle,
        "connect": connect, "management": management,
    }


def environment(target, **extra):
    """For programs that take keys and region from the environment."""
    access, secret, token = target.keys()
    extra.update(AWS_ACCESS_KEY_ID=access, AWS_SECRET_ACCESS_KEY=secret, AWS_REGION=target.region, AWS_DEFAULT_REGION=target.region)
    if token:
        extra["AWS_SESSION_TOKEN"] = token
    return clean_environment(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, **extra)


def run(command, env, timeout=50, cwd=None):
    done = subprocess.run([str(word) for word in command], env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@check(
    1, 8, 9, 11, 12, feature="clients", how="AWS SDK for JavaScript v3, `ws`",
    what="API, routes, deployment, client, pushes to 131072 bytes, GetConnection, DeleteConnection, paging; every modelled error by its name: PayloadTooLarge, BadRequest, Forbidden, Gone, NotFound, Conflict",
)
def test_javascript(target):
    # AG-1, AG-8, AG-9, AG-11, AG-12
    result = json.loads(run(["node", HERE / "node/loop.cjs", json.dumps(arguments(target))], environment(target, NODE_PATH=os.environ.get("NODE_PATH", ""))))
    assert result["dates"] and result["postStatus"] == 200 and re.fullmatch(r"[0-9a-f-]{36}", result["requestId"])
    assert (result["text"], result["big"], result["userAgent"]) == ("from node ü", 131072, "NodeClient/1")
    assert result["tooLarge"] == {"name": "PayloadTooLargeException", "status": 413, "message": "Message too long"}
    assert result["malformed"] == {"name": "BadRequestException", "status": 400, "message": "Invalid connectionId: abc"}
    assert (result["forbidden"]["name"], result["forbidden"]["status"]) == ("ForbiddenException", 403)
    assert (result["wrongSecret"]["name"], result["wrongSecret"]["status"]) == ("InvalidSignatureException", 403)
    assert (result["deletedStatus"], result["ended"]["code"]) == (204, 1000)
    assert [(gone["name"], gone["status"]) for gone in result["gone"]] == [("GoneException", 410)] * 3
    assert (result["notFound"]["name"], result["notFound"]["status"]) == ("NotFoundException", 404)
    assert (result["conflict"]["name"], result["conflict"]["message"]) == ("ConflictException", "Stage already exists")
    assert (result["badRequest"]["name"], result["badRequest"]["status"]) == ("BadRequestException", 400)
    assert result["listed"] == [["$default", "join"], ["leave"]]


@check(
    1, 8, 9, 11, 12, feature="clients", how="AWS SDK for Rust, tokio-tungstenite", optional=True, commands=["cargo"],
    what="The same loop: definitions, client, pushes to 131072 bytes, GetConnection, DeleteConnection, and the errors by their codes and types",
)
@pytest.mark.timeout(1800)
def test_rust(target):
    # AG-1, AG-8, AG-9, AG-11, AG-12
    if not os.environ.get("RUST_SDK"):
        pytest.skip("takes minutes to compile; set RUST_SDK=1")
    run(["cargo", "build", "--quiet", "--locked", "--manifest-path", RUST / "Cargo.toml"], {**os.environ}, timeout=1700)
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or RUST / "target") / "debug"
    result = json.loads(run([folder / "tidegate-conformance-rust-sdk", json.dumps(arguments(target))], environment(target)))
    assert (result["pushed"], result["longest"], result["deployed"]) == ("from Rust ü", 131072, "DEPLOYED")
    assert result["tooLarge"] == {"code": "PayloadTooLargeException", "message": "Message too long"} and result["tooLargeIsTyped"]
    assert result["malformed"] == {"code": "BadRequestException", "message": "Invalid connectionId: abc"}
    assert result["dates"] and result["createdDate"] and result["sourceIp"]
    assert result["closed"]["code"] == 1000
    assert [gone["code"] for gone in result["gone"]] == ["GoneException"] * 3
    assert (result["unknown"]["code"], result["conflict"]["code"]) == ("NotFoundException", "ConflictException")
    assert result["conflict"]["message"] == "Stage already exists"
    if target.is_tidegate:
        assert result["badRequest"]["code"] == "BadRequestException"


class Cli:
    """The `aws` command of PyPI's `awscli`."""

    def __init__(self, target):
        self.target = target
        self.env = environment(target, AWS_PAGER="")

    def __call__(self, service, *words, endpoint=None):
        endpoint = endpoint or self.target.control
        command = ["aws", service, *words, "--output", "json", *(["--endpoint-url", endpoint] if endpoint else [])]
        out = run(command, self.env)
        return json.loads(out) if out.strip() else None

    def refused(self, service, *words, endpoint=None):
        command = ["aws", service, *words, "--endpoint-url", endpoint or self.target.control]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=50, stdin=subprocess.DEVNULL)
        assert done.returncode != 0, done.stdout
        return done.stderr


@check(
    1, 9, 12, feature="clients", how="AWS CLI (`aws apigatewayv2`, `aws apigatewaymanagementapi`)",
    what="The walk-through of the developer guide: create-api, create-integration, create-route, create-deployment, create-stage; post-to-connection, get-connection, delete-connection; GoneException",
)
@pytest.mark.timeout(150)
def test_cli(target, new_api, tmp_path):
    # AG-1, AG-9, AG-12
    aws = Cli(target)
    api = aws("apigatewayv2", "create-api", "--name", "cli", "--protocol-type", "WEBSOCKET", "--route-selection-expression", "$request.body.action")
    named = ["--api-id", api["ApiId"]]
    try:
        integration = aws(
            "apigatewayv2", "create-integration", *named, "--integration-type", "MOCK", "--template-selection-expression", "\\$default",
            "--request-templates", json.dumps({"$default": '{"statusCode": 200}'}),
        )["IntegrationId"]
        aws(
            "apigatewayv2", "create-integration-response", *named, "--integration-id", integration, "--integration-response-key", "$default",
            "--template-selection-expression", "\\$default", "--response-templates", json.dumps({"$default": '{"connectionId":"$context.connectionId"}'}),
        )
        route = aws("apigatewayv2", "create-route", *named, "--route-key", "whoami", "--target", f"integrations/{integration}", "--route-response-selection-expression", "$default")
        aws("apigatewayv2", "create-route-response", *named, "--route-id", route["RouteId"], "--route-response-key", "$default")
        # The order of the guide: a deployment first, then the stage that names it.
        deployment = aws("apigatewayv2", "create-deployment", *named)
        assert deployment["DeploymentStatus"] == "DEPLOYED"
        stage = aws("apigatewayv2", "create-stage", *named, "--stage-name", "prod", "--deployment-id", deployment["DeploymentId"])
        assert stage["DeploymentId"] == deployment["DeploymentId"]

        from suite.api import Ws

        base = target.management_url(api["ApiId"], "prod", api["ApiEndpoint"])
        with Ws(target, target.connect_url(api["ApiId"], "prod", api["ApiEndpoint"]), headers=[("User-Agent", "ExampleBrowser/1.0")]) as ws:
            assert ws.status == 101, ws.reply
            ws.text('{"action":"whoami"}')
            connection = ["--connection-id", ws.json()["connectionId"]]
            data = tmp_path / "data"
            data.write_text("from the command line ü")
            aws("apigatewaymanagementapi", "post-to-connection", *connection, "--data", f"fileb://{data}", endpoint=base)
            assert ws.message() == "from the command line ü"
            info = aws("apigatewaymanagementapi", "get-connection", *connection, endpoint=base)
            assert info["Identity"]["UserAgent"] == "ExampleBrowser/1.0" and info["ConnectedAt"]
            aws("apigatewaymanagementapi", "delete-connection", *connection, endpoint=base)
            assert ws.closed()[0] == 1000
        assert "GoneException" in aws.refused("apigatewaymanagementapi", "get-connection", *connection, endpoint=base)
        assert "Stage already exists" in aws.refused("apigatewayv2", "create-stage", *named, "--stage-name", "prod")
        assert [item["RouteKey"] for item in aws("apigatewayv2", "get-routes", *named)["Items"]] == ["whoami"]
    finally:
        aws("apigatewayv2", "delete-api", *named)
    assert "NotFoundException" in aws.refused("apigatewayv2", "get-api", *named)


def mirror():
    """A folder with Terraform's providers on this machine, for machines that cannot reach the registry."""
    if os.environ.get("TERRAFORM_PLUGIN_DIR"):
        return os.environ["TERRAFORM_PLUGIN_DIR"]
    found = sorted(Path("/opt").glob("*/registry.terraform.io/hashicorp/aws"))
    return str(found[0].parents[2]) if found else None


@check(
    26, feature="clients", how="Terraform with the AWS provider", optional=True, commands=["terraform"],
    what="A whole WebSocket stack (API, model, authorizer, integrations, responses, routes, deployment, stage, domain, mapping, VPC link): apply, a plan without changes, a change in place, destroy",
)
@pytest.mark.timeout(600)
def test_terraform(target, control, tmp_path):
    # AG-26
    (tmp_path / "main.tf").write_text((HERE / "terraform/main.tf").read_text())
    env = environment(target, CHECKPOINT_DISABLE="1", TF_IN_AUTOMATION="1")
    env.pop("TF_CLI_CONFIG_FILE", None)
    plugins = mirror()

    def terraform(*words, codes=(0,)):
        done = subprocess.run(["terraform", *words], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL)
        assert done.returncode in codes, f"terraform {words[0]}: {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
        return done

    done = subprocess.run(
        ["terraform", "init", "-no-color", *([f"-plugin-dir={plugins}"] if plugins else [])], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        pytest.skip("Terraform cannot get the AWS provider")
    domain = "terraform.example.com"
    given = [f"-var={name}={value}" for name, value in {"control": target.control or f"https://apigateway.{target.region}.amazonaws.com", "region": target.region, "account": target.account, "domain": domain}.items()]
    terraform("apply", "-auto-approve", "-no-color", "-input=false", *given)
    try:
        api = json.loads(terraform("output", "-json").stdout)["api"]["value"]
        assert len(control.get_routes(ApiId=api)["Items"]) == 4
        # 0: no differences, 2: differences.
        terraform("plan", "-no-color", "-input=false", "-detailed-exitcode", *given)
        changed = [*given, "-var=description="]
        terraform("apply", "-auto-approve", "-no-color", "-input=false", *changed)
        assert control.get_api(ApiId=api).get("Description", "") == ""
    finally:
        terraform("destroy", "-auto-approve", "-no-color", "-input=false", *given)
    with pytest.raises(control.exceptions.NotFoundException):
        control.get_api(ApiId=api)
    with pytest.raises(control.exceptions.NotFoundException):
        control.get_domain_name(DomainName=domain)
