"""Golden files: wire shapes as they must be, with what changes from run to run named instead of shown.

`CONFORMANCE_GOLDEN=write` writes them anew; the change shows in review.
"""

import difflib
import json
import os
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "golden"

PATTERNS = [
    (re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}"), "<trace id>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<iso time>"),
    (re.compile(r"\b\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000"), "<clf time>"),
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{15}="), "<id>"),
    (re.compile(r"\b1[6-9]\d{11}\b|\b2\d{12}\b"), "<ms>"),
]


def normal(text, known):
    """`known`: values and what stands for them, the longest first; then the shapes above."""
    for value in sorted(known, key=len, reverse=True):
        if value:
            text = text.replace(value, f"<{known[value]}>")
    for pattern, name in PATTERNS:
        text = pattern.sub(name, text)
    return text


def compare(name, text, known=None):
    """`text` must be the golden file's after normalizing."""
    have = normal(text, known or {})
    if not have.endswith("\n"):
        have += "\n"
    path = FOLDER / name
    if os.environ.get("CONFORMANCE_GOLDEN") == "write":
        FOLDER.mkdir(exist_ok=True)
        path.write_text(have)
        return
    assert path.exists(), f"no golden file {name}:\n{have}"
    wanted = path.read_text()
    shown = "\n".join(difflib.unified_diff(wanted.splitlines(), have.splitlines(), f"golden/{name}", "received", lineterm=""))
    assert have == wanted, f"{name} differs:\n{shown}"


def compare_json(name, value, known=None):
    """Members in alphabetical order: their order on the wire means nothing."""
    compare(name, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False), known)


def compare_headers(name, first_line, headers, body, known=None):
    """A message of HTTP with its headers in alphabetical order, names as they were spelled."""
    lines = [first_line, *sorted(f"{name}: {value}" for name, value in headers), "", body]
    compare(name, "\n".join(lines), known)
