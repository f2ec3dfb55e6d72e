"""Fixtures: one gateway process, backend, data directory and set of ports per test."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness import aws  # noqa: E402
from harness.backend import Backend  # noqa: E402
from harness.gateway import Gateway  # noqa: E402

# The clients under test must not be led astray by the machine's own settings.
for name in list(os.environ):
    if name.upper().startswith("AWS_") or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


@pytest.fixture
def start_gateway(tmp_path, request, backend):
    """Starts gateways; each is stopped and its log checked at the end of the test, before the backend goes away."""
    started = []

    def start(config="", **options):
        gateway = Gateway(tmp_path / f"gateway{len(started)}", config=config, **options)
        for mark in request.node.iter_markers("logs"):
            gateway.allow(*mark.args)
        started.append(gateway)
        return gateway.start()

    yield start
    failures = []
    for gateway in started:
        try:
            gateway.stop()
        except AssertionError as error:
            failures.append(str(error))
        finally:
            if gateway.process is not None:
                gateway.kill()
    assert not failures, "\n".join(failures)


@pytest.fixture
def gateway(start_gateway, request):
    config = request.node.get_closest_marker("config")
    args = request.node.get_closest_marker("serve_args")
    return start_gateway(config.args[0] if config else "", args=args.args if args else ())


@pytest.fixture
def backend():
    server = Backend()
    yield server
    server.stop()


@pytest.fixture
def control(gateway):
    return aws.control(gateway)


@pytest.fixture
def api(gateway, backend):
    """$connect, $disconnect and $default at the recording backend, connection id mapped."""
    return aws.make_api(gateway, backend)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    # Shows the end of the gateway's log under a failed test.
    if report.failed:
        starter = item.funcargs.get("tmp_path")
        if starter:
            for log in sorted(starter.glob("*/gateway.log")):
                lines = log.read_text(errors="replace").splitlines()[-15:]
                report.sections.append((f"log of {log.parent.name}", "\n".join(lines)))
    return report
