"""The suite's Lambda functions and those of the sample applications, run by the target.

A Tidegate of the suite's own runs them itself (`[lambda.functions]`). For other targets they are created with the Lambda API, as far as the target's
file names a role for them; the samples need a local DynamoDB and run on Tidegate only.
"""

import io
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import boto3
from harness.wait import until

HERE = Path(__file__).resolve().parents[1]
SAMPLES = HERE.parent / "samples"
NAME = "conformance"


def node(sample, handler="app.handler", **environment):
    return {"command": ["node", str(SAMPLES / "runtime/node.mjs")], "directory": SAMPLES / sample, "handler": handler, "environment": environment}


def python(directory, handler, **environment):
    return {"command": [sys.executable, "-m", "awslambdaric", handler], "directory": directory, "handler": handler, "environment": environment}


class Functions:
    def __init__(self, target):
        self.target = target
        self.created = None

    # -- a Tidegate of the suite's own ------------------------------------------------------

    @staticmethod
    def settings(dynamodb_port):
        """`[lambda]` for the configuration: nothing runs before it is called."""
        table = {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{dynamodb_port}"}
        functions = {
            NAME: python(HERE / "functions", "conformance.handler"),
            "node-onconnect": node("node-chat/onconnect", TABLE_NAME="node-chat", **table),
            "node-ondisconnect": node("node-chat/ondisconnect", TABLE_NAME="node-chat", **table),
            "node-sendmessage": node("node-chat/sendmessage", TABLE_NAME="node-chat", **table),
            "python-chat": python(SAMPLES / "python-chat", "chat.lambda_handler", table_name="python-chat", **table),
            "authorizer": python(SAMPLES / "authorizer", "authorizer.lambda_handler", PLAN="gold"),
            "greeter": python(SAMPLES / "authorizer", "greeter.lambda_handler"),
            "calculator": node("two-way", "index.handler"),
        }
        lines = []
        for name, function in functions.items():
            lines += [
                f"[lambda.functions.{name}]", f"command = {function['command']!r}", f"handler = '{function['handler']}'",
                f"directory = '{function['directory']}'", "timeout_ms = 25000", "reload = false",
            ]
            if function["environment"]:
                lines += [f"[lambda.functions.{name}.environment]", *(f"{key} = '{value}'" for key, value in function["environment"].items())]
        return "\n".join(lines) + "\n"

    @staticmethod
    def possible(target):
        return "gateway" in target.extra or bool(target.lambda_role)

    def arn(self, name=NAME):
        if "gateway" not in self.target.extra:
            assert name == NAME, f"{name} runs on Tidegate only"
            self.created = self.created or self.create()
            return self.created
        return f"arn:aws:lambda:{self.target.region}:{self.target.account}:function:{name}"

    # -- other targets ----------------------------------------------------------------------

    def create(self):
        """Creates the function; its role must allow `execute-api:ManageConnections`."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(HERE / "functions/conformance.py", "conformance.py")
        self.client = boto3.client("lambda", endpoint_url=self.target.lambda_endpoint, region_name=self.target.region, **self.keys())
        self.name = f"tidegate-conformance-{os.getpid()}-{int(time.time())}"
        made = self.client.create_function(
            FunctionName=self.name, Runtime="python3.12", Role=self.target.lambda_role, Handler="conformance.handler", Timeout=25, Code={"ZipFile": packed.getvalue()}
        )
        self.client.add_permission(FunctionName=self.name, StatementId="apigateway", Action="lambda:InvokeFunction", Principal="apigateway.amazonaws.com")
        self.client.get_waiter("function_active_v2").wait(FunctionName=self.name)
        return made["FunctionArn"]

    def keys(self):
        return {"aws_access_key_id": self.target.access_key, "aws_secret_access_key": self.target.secret_key} if self.target.access_key else {}

    def remove(self):
        if self.created:
            self.client.delete_function(FunctionName=self.name)


class Watcher:
    """A connection to which the function reports every event it gets."""

    def __init__(self, new_api):
        self.api = new_api(name="watcher").whoami().live()
        self.ws = self.api.connect()
        self.id = self.api.identify(self.ws)

    def variables(self):
        return {"endpoint": self.api.base(), "watcher": self.id}

    def next(self):
        return self.ws.json()


class DynamoDb:
    """dynalite on this machine, started by the first test that needs it."""

    def __init__(self, port):
        self.port = port
        self.process = None
        self.lock = threading.Lock()

    def table(self, name, key):
        with self.lock:
            if self.process is None:
                program = Path(os.environ["NODE_PATH"]) / "dynalite/cli.js"
                self.process = subprocess.Popen(
                    [shutil.which("node"), str(program), "--host", "127.0.0.1", "--port", str(self.port), "--createTableMs", "0"],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                )
        client = boto3.client("dynamodb", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")

        def created():
            try:
                client.create_table(
                    TableName=name, KeySchema=[{"AttributeName": key, "KeyType": "HASH"}], AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}], BillingMode="PAY_PER_REQUEST"
                )
            except client.exceptions.ResourceInUseException:
                return True
            except Exception as error:  # it does not listen yet
                if "connect" not in str(error).lower():
                    raise
                return False
            return True

        until(created, "a table", timeout=20)
        return boto3.resource("dynamodb", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x").Table(name)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
