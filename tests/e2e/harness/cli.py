"""Commands of `tidegate` beside a running node, and what they say in JSON."""

import json
import subprocess

from .gateway import ACCESS_KEY, REGION, SECRET_KEY, binary, clean_environment


def tidegate(gateway, *words, code=0, access_key=ACCESS_KEY, secret=SECRET_KEY, timeout=100):
    """Runs one command; answers its JSON. `code` is the exit code that it must have."""
    environment = clean_environment(
        TIDEGATE_ADMIN_URL=gateway.admin_url,
        TIDEGATE_ACCESS_KEY_ID=access_key,
        TIDEGATE_SECRET_ACCESS_KEY=secret,
        TIDEGATE_REGION=REGION,
    )
    done = subprocess.run(
        [binary(), *words, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=environment, cwd=gateway.directory
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    return json.loads(done.stdout)


def ids(report):
    return [finding["id"] for finding in report["findings"]]


def finding(report, wanted, confidence="proven"):
    """The finding of a report with this id; it must be complete."""
    found = [finding for finding in report["findings"] if finding["id"] == wanted]
    assert found, f"{wanted} is not among {ids(report)}\n{json.dumps(report, indent=1)[:4000]}"
    assert found[0]["confidence"] == confidence, found[0]
    assert found[0]["cause"] and found[0]["evidence"] and found[0]["fix"], found[0]
    return found[0]


def explained(gateway, question, wanted, confidence="proven"):
    """`tidegate explain QUESTION` names this id first."""
    code = 0 if confidence == "proven" else 3
    report = tidegate(gateway, "explain", question, code=code)
    found = finding(report, wanted, confidence)
    assert ids(report)[0] == wanted, ids(report)
    return found


def failures(gateway):
    """Entries of the journal that are not `ok`."""
    answer = tidegate(gateway, "journal", "ls", "--failures")
    return answer if isinstance(answer, list) else answer["entries"]


def has_no_findings(report):
    assert not report["findings"], json.dumps(report["findings"], indent=1)[:4000]
    assert report["summary"]["problems"] == report["summary"]["warnings"] == 0
