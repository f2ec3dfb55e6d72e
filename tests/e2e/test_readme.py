"""The README's backend, run as printed but for its ports, behind `tidegate dev --backend`."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import requests
from websockets.sync.client import connect

from harness import aws
from harness.gateway import clean_environment
from harness.wait import until

README = Path(__file__).resolve().parents[2] / "README.md"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_backend_of_the_readme(start_gateway, tmp_path):
    """The five-minute walk: capitals come back, a push from inside the handler arrives first, curl's calls work."""
    port = free_port()
    block = next(block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "http.server" in block)
    gateway = start_gateway('api_key = "my-key"\n', command="dev", args=["--backend", f"http://127.0.0.1:{port}/"])
    source = block.replace("127.0.0.1:8080", f"127.0.0.1:{gateway.port}").replace('("127.0.0.1", 8000)', f'("127.0.0.1", {port})')
    assert source != block
    path = tmp_path / "backend.py"
    path.write_text(source)
    output = (tmp_path / "backend.out").open("w+")
    backend = subprocess.Popen(
        [sys.executable, "-u", str(path)], stdout=output, stderr=subprocess.DEVNULL, env=clean_environment()
    )
    try:
        until(lambda: answers(port), "the backend of the README")
        with connect(gateway.address["url"], proxy=None) as client:
            client.send("hello")
            assert client.recv(10) == "HELLO"
            client.send("push")
            assert client.recv(10) == "pushed to you"
            assert client.recv(10) == "PUSH"
            connection_id = re.search(r"default (\S+) hello", (tmp_path / "backend.out").read_text()).group(1)
            push = f"{gateway.address['management']}/@connections/{connection_id}"
            key = {"Authorization": "Bearer my-key"}
            assert requests.post(push, data=b"hello from curl", headers=key, timeout=10).status_code == 200
            assert client.recv(10) == "hello from curl"
            assert requests.get(push, headers=key, timeout=10).json()["identity"]["sourceIp"] == "127.0.0.1"
            assert requests.get(push, headers={"Authorization": "Bearer other"}, timeout=10).status_code == 403
            assert requests.delete(push, headers=key, timeout=10).status_code == 204
            until(lambda: requests.post(push, data=b"late", headers=key, timeout=10).status_code == 410, "the id to be gone")
            late = requests.post(push, data=b"late", headers=key, timeout=10)
            assert late.headers["x-tidegate-gone-reason"] == "closed"
            assert late.headers["x-tidegate-diagnosis"] == "connections.gone-server-closed"
        until(lambda: f"disconnect {connection_id}" in (tmp_path / "backend.out").read_text(), "the disconnect event")
    finally:
        backend.terminate()
        backend.wait(10)
        output.close()


def test_chosen_api_id(gateway, control):
    """S0-109: an API can be created with the id that records and host names elsewhere already hold."""
    api = control.create_api(
        Name="moved", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action", Tags={"_custom_id_": "k3x9q2m7vd"}
    )
    assert api["ApiId"] == "k3x9q2m7vd"
    assert control.get_api(ApiId="k3x9q2m7vd")["Name"] == "moved"
    with aws.refused("ConflictException", 409):
        control.create_api(
            Name="again", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action", Tags={"_custom_id_": "k3x9q2m7vd"}
        )
