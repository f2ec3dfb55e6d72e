"""How a test says which line of the check list it is, what it looks at and with which client."""

from dataclasses import dataclass

import pytest

# Chapters of the report, in its order.
FEATURES = {
    "handshake": "Handshake",
    "frames": "Frames and limits",
    "routing": "Routing and replies",
    "closing": "Closing, timers, order",
    "http": "HTTP integrations and parameter mapping",
    "lambda": "Lambda integrations",
    "templates": "Templates, MOCK and integration responses",
    "models": "Models",
    "authorizers": "Authorizers",
    "management": "Management API",
    "signatures": "Signatures",
    "control": "Control plane",
    "deployments": "Deployments, stages and throttling",
    "domains": "Custom domains",
    "logs": "Logs",
    "clients": "Clients",
    "samples": "Sample applications",
}


@dataclass(frozen=True)
class Check:
    numbers: tuple  # of the check list, AG-n
    feature: str
    what: str
    how: str


def check(*numbers, feature, what, how, needs=(), settings=None, optional=False, commands=()):
    """Marks a test.

    `needs`: what a target must have, else the test is skipped with the reason: "backend" (the target can call this machine), "functions" (the target
    runs the suite's Lambda functions), "own" (a choice of Tidegate's own where the service's behavior is unknown). `settings`: TOML for a Tidegate of
    its own; other targets cannot be configured. `optional`: may be skipped in a run that compares the report. `commands`: programs that must be there.
    """
    assert feature in FEATURES, feature
    mark = pytest.mark.check(Check(numbers, feature, what, how), tuple(needs), settings, optional, tuple(commands))
    return mark
