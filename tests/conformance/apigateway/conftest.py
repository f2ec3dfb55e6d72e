"""The target of the run, what a test may need of it, and the report."""

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT / "tests/e2e")]

OWN = not os.environ.get("TARGET", "").strip()
if OWN:
    # The clients must not be led astray by the machine's own settings.
    for name in list(os.environ):
        if name.upper().startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull

from harness.backend import Backend  # noqa: E402
from harness.gateway import Gateway, unused_tcp_port  # noqa: E402
from suite import report as reports  # noqa: E402
from suite import target as targets  # noqa: E402
from suite.api import Api  # noqa: E402
from suite.checks import FEATURES  # noqa: E402
from suite.functions import DynamoDb, Functions  # noqa: E402


# -- the target ---------------------------------------------------------------------------


def start(directory, settings=""):
    gateway = Gateway(directory, config=settings)
    gateway.start()
    return gateway


def stop(gateway):
    """An orderly end. What the log says is the business of the end-to-end tests, but for panics."""
    gateway.terminate()
    code = gateway.wait_exit()
    assert code == 0, f"exit code {code} after SIGTERM:\n{gateway.log_text()[-4000:]}"
    assert "panicked" not in gateway.log_text(), gateway.log_text()[-4000:]


@pytest.fixture(scope="session")
def shared_target(tmp_path_factory):
    """One target for all tests that need no setting of their own."""
    given = targets.from_environment()
    if given:
        yield given
        return
    dynamodb = DynamoDb(unused_tcp_port())
    gateway = start(tmp_path_factory.mktemp("gateway"), Functions.settings(dynamodb.port))
    target = targets.of_gateway(gateway)
    target.extra["dynamodb"] = dynamodb
    yield target
    stop(gateway)
    dynamodb.stop()


@pytest.fixture
def target(request, tmp_path):
    mark = request.node.get_closest_marker("check")
    settings = mark.args[2] if mark else None
    if settings is None:
        shared = request.getfixturevalue("shared_target")
        for need in mark.args[1] if mark else ():
            why = lacking(shared, need)
            if why:
                pytest.skip(why)
        yield shared
        return
    if not OWN:
        pytest.skip("a setting of Tidegate's")
    gateway = start(tmp_path / "gateway", settings)
    yield targets.of_gateway(gateway)
    stop(gateway)


def lacking(target, need):
    if need == "backend" and not target.backend_host:
        return "the target cannot call this machine (`backend_host`)"
    if need == "functions" and not Functions.possible(target):
        return "the target runs no functions of this suite (`lambda_role`)"
    if need == "domains" and not target.domains:
        return "the target is not reached under invented domain names (`domains`)"
    if need == "own" and not target.is_tidegate:
        return "a choice of Tidegate's"
    if need == "gateway" and "gateway" not in target.extra:
        return "files of a gateway that the suite has started"
    return None


@pytest.fixture(autouse=True)
def _programs(request):
    """Skips a test whose programs are missing, before anything is started for it."""
    mark = request.node.get_closest_marker("check")
    for command in mark.args[4] if mark else ():
        if not shutil.which(command):
            pytest.skip(f"no `{command}` on this machine")


@pytest.fixture
def backend(target):
    server = Backend(host="127.0.0.1" if target.backend_host == "127.0.0.1" else "0.0.0.0")
    yield server
    server.stop()


@pytest.fixture
def new_api(target, request):
    """Makes APIs; they are deleted at the end of the test."""
    made = []

    def make(**options):
        mark = request.node.get_closest_marker("check")
        if mark and "backend" in mark.args[1]:
            options.setdefault("backend", request.getfixturevalue("backend"))
        made.append(Api(target, **options))
        return made[-1]

    yield make
    for api in made:
        api.delete()


@pytest.fixture
def control(target):
    return target.control_client()


@pytest.fixture(scope="session")
def functions(shared_target):
    """The suite's Lambda functions, by name."""
    deployed = Functions(shared_target)
    yield deployed
    deployed.remove()


# -- the report ---------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    mark = item.get_closest_marker("check")
    if mark is None:
        return report
    check, optional = mark.args[0], mark.args[3]
    path, line, _ = item.location
    # Plain values: they travel between processes.
    report.user_properties.append((
        "check",
        {
            "test": item.nodeid.split("[")[0], "order": [list(FEATURES).index(check.feature), min(check.numbers, default=99), path, line],
            "numbers": list(check.numbers), "feature": check.feature, "what": check.what, "how": check.how, "optional": optional,
        },
    ))
    return report


class Collector:
    """On the process that sees all results."""

    def __init__(self, config):
        self.config = config
        self.rows = {}
        self.settled = {}
        self.problems = []

    def pytest_runtest_logreport(self, report):
        given = dict(report.user_properties).get("check")
        if given is None or (report.when != "call" and report.passed):
            return
        row = self.rows.setdefault(
            given["test"],
            reports.Row(tuple(given["order"]), tuple(given["numbers"]), given["feature"], given["what"], given["how"], given["optional"]),
        )
        reason = ""
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            reason = reason.removeprefix("Skipped: ")
        outcome = (report.outcome, reason)
        # A failed tear-down takes the place of the call's success.
        if report.nodeid in self.settled:
            row.outcomes[self.settled[report.nodeid]] = outcome
        else:
            self.settled[report.nodeid] = len(row.outcomes)
            row.outcomes.append(outcome)

    def pytest_sessionfinish(self, session):
        given = targets.from_environment()
        name = given.name if given else "Tidegate"
        out = os.environ.get("CONFORMANCE_REPORT")
        compare = os.environ.get("CONFORMANCE_COMPARE")
        rows = list(self.rows.values())
        if out:
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            Path(out).write_text(reports.render(rows, name))
        if compare:
            wanted = Path(compare).read_text() if Path(compare).exists() else ""
            self.problems = reports.differences(rows, wanted, name)
            if self.problems and session.exitstatus == 0:
                session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter):
        if self.problems:
            terminalreporter.section(f"{os.environ['CONFORMANCE_COMPARE']} is not what this run found; write it anew with `make conformance-doc`")
            for line in self.problems[:40]:
                terminalreporter.line(line)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(config), "conformance-report")
