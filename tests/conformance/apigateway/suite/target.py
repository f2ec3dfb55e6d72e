"""What the tests are pointed at: an endpoint with the control plane, the WebSockets and the management API of API Gateway.

`TARGET` is empty (a Tidegate is started), the address of a control plane, or the path of a TOML file; its members are those of [`Target`].
"""

import os
import threading
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import requests
from botocore.config import Config
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY

_creating = threading.Lock()


@dataclass
class Target:
    """Where and how to reach it. Patterns know `{api}`, `{stage}`, `{region}` and `{endpoint}`, the ApiEndpoint that CreateApi answered."""

    name: str = "unnamed"
    control: str | None = None  # address of the control plane; none: the SDK's own for the region
    connect: str = "{endpoint}/{stage}"  # where clients open WebSockets
    management: str | None = None  # base of `/@connections`; none: `connect` with http for ws
    address: str | None = None  # host:port to open TCP connections to, whatever name the addresses above have
    domains: bool = False  # a request with any Host header reaches it, so that invented domain names can be tried
    region: str = "us-east-1"
    account: str = "000000000000"
    access_key: str | None = None  # none: the usual places of the SDK
    secret_key: str | None = None
    backend_host: str | None = None  # under which the target can call this machine; none: not at all
    lambda_role: str | None = None  # ARN of a role for the suite's functions; none: functions are not tried
    lambda_endpoint: str | None = None
    settle: float = 0.0  # seconds until a deployment is live
    is_tidegate: bool = False
    ca: str | None = None  # certificates to trust, a PEM file
    extra: dict = field(default_factory=dict)  # of a Tidegate that the suite has started

    def client(self, service, endpoint, retries=True, keys=None, **config):
        """A boto3 client; `retries=False` shows each answer as it comes."""
        config.setdefault("proxies", {})
        if not retries:
            config["retries"] = {"mode": "standard", "total_max_attempts": 1}
        access, secret = keys or (self.access_key, self.secret_key)
        given = {"aws_access_key_id": access, "aws_secret_access_key": secret} if access else {}
        with _creating:  # creating clients is not safe for threads
            return boto3.client(service, endpoint_url=endpoint, region_name=self.region, config=Config(**config), verify=self.ca, **given)

    def control_client(self):
        """One for all: making a client takes longer than most calls."""
        if "control" not in self.extra:
            self.extra["control"] = self.client("apigatewayv2", self.control)
        return self.extra["control"]

    def keys(self):
        """Access key, secret and session token, for what no SDK would send."""
        if self.access_key:
            return self.access_key, self.secret_key, None
        found = boto3.Session(region_name=self.region).get_credentials().get_frozen_credentials()
        return found.access_key, found.secret_key, found.token

    def fill(self, pattern, api, stage, endpoint):
        return pattern.format(api=api, stage=stage, region=self.region, endpoint=endpoint.rstrip("/"))

    def connect_url(self, api, stage, endpoint):
        return self.fill(self.connect, api, stage, endpoint)

    def management_url(self, api, stage, endpoint):
        if self.management:
            return self.fill(self.management, api, stage, endpoint)
        url = self.connect_url(api, stage, endpoint)
        return "http" + url[2:] if url.startswith("ws") else url

    def tcp(self, url):
        """(host, port, TLS, Host header) for an address."""
        parts = urlsplit(url)
        secure = parts.scheme in ("wss", "https")
        host, port = parts.hostname, parts.port or (443 if secure else 80)
        if self.address and not url.startswith(self.control or "https://apigateway."):
            host, _, number = self.address.rpartition(":")
            port = int(number)
        return host, port, (self.ca or True) if secure else None, parts.netloc


def from_environment():
    """The target that `TARGET` names; nothing when the suite starts its own."""
    given = os.environ.get("TARGET", "").strip()
    if not given:
        return None
    if given.startswith(("http://", "https://")):
        target = Target(name=urlsplit(given).netloc, control=given.rstrip("/"), region=os.environ.get("AWS_REGION", REGION))
        target.is_tidegate = speaks_tidegate(target.control)
        if target.is_tidegate:
            target.name = "Tidegate"
        return target
    values = tomllib.loads(Path(given).expanduser().read_text())
    known = {f.name for f in fields(Target)} - {"extra"}
    unknown = set(values) - known
    if unknown:
        raise SystemExit(f"{given}: unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    return Target(**values)


def speaks_tidegate(control):
    try:
        return "tidegate_" in requests.get(f"{control}/metrics", timeout=5).text
    except requests.RequestException:
        return False


def of_gateway(gateway):
    """A Tidegate that the suite has started."""
    return Target(
        name="Tidegate", control=gateway.admin_url, connect=f"ws://127.0.0.1:{gateway.port}/_aws/execute-api/{{api}}/{{stage}}",
        domains=True, address=f"127.0.0.1:{gateway.port}", region=REGION, access_key=ACCESS_KEY, secret_key=SECRET_KEY, backend_host="127.0.0.1",
        is_tidegate=True, extra={"gateway": gateway},
    )
