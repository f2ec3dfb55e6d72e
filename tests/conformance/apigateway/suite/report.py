"""The report of a run: feature by feature, what was checked, how, and what came out."""

from dataclasses import dataclass, field

from .checks import FEATURES

# The lines of the check list, as headings of the table of numbers.
LINES = {
    1: "API, three HTTP integrations, stage, deployment; the three requests of a connection",
    2: "The three events of a Lambda function, member by member",
    3: "Refused handshakes: 400, 401, 403, 429, 500, 502, 504",
    4: "No `$connect` route; no `$default` and no match",
    5: "Which message takes which route",
    6: "Sizes of frames and messages, binary, UTF-8",
    7: "Codes and reasons of closes",
    8: "Posts up to 131072 bytes, and over",
    9: "Posts after the close",
    10: "Posts from inside `$connect`",
    11: "Malformed connection ids",
    12: "GetConnection and DeleteConnection",
    13: "Signature vectors and errors",
    14: "Two-way routes",
    15: "Pings and the idle clock",
    16: "Idle and duration limits",
    17: "Subprotocols",
    18: "Authorizers",
    19: "Parameter mapping",
    20: "Mapping templates",
    21: "Validation against models",
    22: "Stage variables, deployments, rollback",
    23: "Paging",
    24: "Unknown ids in every operation",
    25: "Operations of HTTP APIs",
    26: "Terraform",
    27: "Custom domains",
    28: "Access logs and execution logs",
    29: "Route throttles",
    30: "Order of messages",
}


@dataclass
class Row:
    """One test with all its cases."""

    order: tuple
    numbers: tuple
    feature: str
    what: str
    how: str
    optional: bool
    outcomes: list = field(default_factory=list)  # (outcome, reason) of each case

    def result(self):
        """`passed`, `failed` or `skipped: why`."""
        if any(outcome == "failed" for outcome, _ in self.outcomes):
            failed = sum(outcome == "failed" for outcome, _ in self.outcomes)
            return "**failed**" if len(self.outcomes) == 1 else f"**failed** ({failed} of {len(self.outcomes)})"
        skipped = [reason for outcome, reason in self.outcomes if outcome == "skipped"]
        if len(skipped) == len(self.outcomes):
            return f"skipped: {skipped[0]}"
        cases = len(self.outcomes) - len(skipped)
        return "passed" if cases == 1 and not skipped else f"passed ({cases})"

    def state(self):
        return self.result().replace("*", "").split(" ")[0].rstrip(":")


def text(value):
    return value.replace("|", "\\|").replace("\n", " ")


def numbers(row):
    return ", ".join(f"AG-{n}" for n in row.numbers) or "-"


def counts(rows):
    have = {"passed": 0, "failed": 0, "skipped": 0}
    for row in rows:
        have[row.state()] += 1
    return have


def render(rows, target):
    """The whole document. Nothing in it changes from run to run: no dates, no durations, no addresses."""
    rows = sorted(rows, key=lambda row: row.order)
    total = counts(rows)
    out = [
        "# Conformance",
        "",
        "<!-- Written by `make conformance-doc`. Do not edit: change tests/conformance/apigateway. -->",
        "",
        f"What was checked of the contract of API Gateway's WebSocket APIs, and how. Target: **{target}**. Every check speaks to the target from outside only: "
        "control plane, WebSocket, management API, and what arrives at backends and functions.",
        "",
        "`make conformance` runs all of it against a gateway that it starts itself; `make conformance TARGET=...` against any other endpoint, see "
        "`tests/conformance/apigateway/README.md`. Numbers in brackets are cases of one check.",
        "",
        f"{total['passed']} checks passed, {total['failed']} failed, {total['skipped']} skipped.",
        "",
        "## The check list",
        "",
        "| | | checks | result |",
        "| --- | --- | --- | --- |",
    ]
    for number, title in LINES.items():
        mine = [row for row in rows if number in row.numbers]
        have = counts(mine)
        result = "not checked" if not mine else ", ".join(f"{count} {state}" for state, count in have.items() if count)
        out.append(f"| AG-{number} | {title} | {len(mine)} | {result} |")
    for feature, title in FEATURES.items():
        mine = [row for row in rows if row.feature == feature]
        if not mine:
            continue
        out += ["", f"## {title}", "", "| | what is checked | how | result |", "| --- | --- | --- | --- |"]
        out += [f"| {numbers(row)} | {text(row.what)} | {text(row.how)} | {text(row.result())} |" for row in mine]
    return "\n".join(out) + "\n"


def differences(rows, wanted, target):
    """Lines that a committed report has too many or too few, as seen from this run.

    Optional checks that this run skipped are taken from the committed report: it may have been written where more programs were installed.
    """
    lines = wanted.splitlines()
    for row in rows:
        if row.optional and row.state() == "skipped":
            start = f"| {numbers(row)} | {text(row.what)} | {text(row.how)} | "
            known = [line for line in lines if line.startswith(start)]
            if known:
                result = known[0][len(start):-2].replace("\\|", "|")
                cases = int(result[8:-1]) if result.startswith("passed (") else 1
                row.outcomes = [("passed", "")] * cases if result.startswith("passed") else [("skipped", result[9:])]
    have = render(rows, target).splitlines()
    return [f"- {line}" for line in lines if line not in have] + [f"+ {line}" for line in have if line not in lines]
