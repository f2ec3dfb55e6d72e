"""Drive the converted Autobahn cases against one server on loopback.

    run.py SUITE ws://127.0.0.1:PORT/path [--out FILE] [--exclude PATTERN ...] [--deadline SECONDS] [--parallel N]
        [PATTERN ...]

PATTERN: a case or a group, 6.4.2 or 1.*; several, also comma-separated; default all.
A case passes when its behavior and its close are both OK or INFORMATIONAL, or as non_strict.txt beside this file
allows. A case that could not run, was not answered in time or found an extension missing has failed.

The last line is "N passed, N failed"; the exit code is 1 if one failed and 2 if no case matched.
"""

import argparse
import binascii
import builtins
import collections
import json
import os
import re
import sys
import time
import traceback

STRICT = ("OK", "INFORMATIONAL")

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("suite", help="folder that setup.sh made")
arguments.add_argument("url")
arguments.add_argument("patterns", nargs="*", default=["*"])
arguments.add_argument("--out", help="write all verdicts to this JSON file")
arguments.add_argument("--exclude", nargs="*", default=[])
arguments.add_argument("--deadline", type=float, default=1800, help="seconds for the whole run")
arguments.add_argument("--parallel", type=int, default=2, help="cases in flight")
args = arguments.parse_intermixed_args()
sys.path.insert(0, args.suite)


def split(patterns):
    return [p for pattern in patterns for p in pattern.split(",") if p]


def read_allowed():
    allowed = {}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "non_strict.txt"), encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                case_id, verdict, reason = line.split(None, 2)
                allowed[case_id] = verdict
    return allowed


def raw(x):
    return x.encode("latin-1") if isinstance(x, str) else x


def text(x):
    return bytes(x).decode("latin-1") if isinstance(x, (bytes, bytearray, memoryview)) else x


# What the converted sources call.
builtins._hex = lambda b: binascii.b2a_hex(raw(b)).decode()
builtins._data = lambda p: os.path.join(args.suite, "abcases", p)

from twisted.internet import reactor
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
import abcases.case as cases_mod
from abcases.case.case import Case

Case.compare = lambda self, a, b: a == b


def case_id(c):
    return ".".join(c.__name__[4:].split("_"))


def match(i, patterns):
    return any(re.fullmatch(p.replace(".", r"\.").replace("*", ".*"), i) for p in patterns)


patterns, exclude = split(args.patterns), split(args.exclude)
todo = sorted(
    (c for c in cases_mod.Cases if match(case_id(c), patterns) and not match(case_id(c), exclude)),
    key=lambda c: [int(x) for x in case_id(c).split(".")],
)
if not todo:
    print("no case matches", *patterns)
    sys.exit(2)
results = collections.OrderedDict()
began = time.time()


class Protocol(WebSocketClientProtocol):
    """The current library with the interface that the cases were written for."""

    case = None

    def connectionMade(self):
        self.createWirelog = False
        self.wirelog = []
        self.txFrameStats = collections.defaultdict(int)
        self.rxFrameStats = collections.defaultdict(int)
        self.connectionWasOpen = False
        self.began = time.time()
        self.bytesCase = case_id(type(self.case)).split(".")[0] in ("12", "13")
        super().connectionMade()

    def enableWirelog(self, on):
        pass

    def continueLater(self, delay, fun, tag=None):
        reactor.callLater(delay, lambda: self.state != self.STATE_CLOSED and fun())

    def killAfter(self, delay):
        reactor.callLater(delay, lambda: self.state != self.STATE_CLOSED and self._fail_connection())

    def closeAfter(self, delay):
        reactor.callLater(delay, lambda: self.state != self.STATE_CLOSED and self.sendClose())

    def sendFrame(self, opcode, payload=b"", **k):
        if "mask" in k and k["mask"] is not None:
            k["mask"] = raw(k["mask"])
        super().sendFrame(opcode, raw(payload), **k)

    def sendMessage(self, payload, isBinary=False, **k):
        super().sendMessage(raw(payload), isBinary, **k)

    def sendMessageFrameData(self, payload, sync=False):
        return super().sendMessageFrameData(raw(payload), sync)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code=code, reasonUtf8=raw(reasonUtf8), isReply=isReply)

    def beginMessage(self, opcode=None, isBinary=False, **k):
        super().beginMessage(isBinary=(opcode == 2) if opcode is not None else isBinary)

    def logTxFrame(self, h, *a):
        self.txFrameStats[h.opcode] += 1

    def logRxFrame(self, h, *a):
        self.rxFrameStats[h.opcode] += 1

    def logRxOctets(self, d):
        pass

    def logTxOctets(self, d, s):
        pass

    def onOpen(self):
        self.connectionWasOpen = True
        self.guard(self.case.onOpen)

    def guard(self, f, *a):
        try:
            f(*a)
        except Exception:
            self.trouble = traceback.format_exc()
            self._fail_connection()

    def onMessage(self, payload, isBinary):
        self.guard(self.case.onMessage, payload if self.bytesCase else text(payload), isBinary)

    def onPong(self, payload):
        self.guard(self.case.onPong, text(payload))

    def onClose(self, wasClean, code, reason):
        self.case.onClose(wasClean, code, reason)

    def connectionLost(self, reason):
        super().connectionLost(reason)
        c = self.case
        try:
            c.onConnectionLost(self.failedByMe)
        except Exception:
            self.trouble = traceback.format_exc()
        results[case_id(type(c))] = {
            "behavior": "FAILED" if getattr(self, "trouble", None) else c.behavior,
            "close": c.behaviorClose,
            "result": c.result,
            "resultClose": c.resultClose,
            "remoteCloseCode": self.remoteCloseCode,
            "ms": round((time.time() - self.began) * 1000),
            "trouble": getattr(self, "trouble", None),
        }


class Factory(WebSocketClientFactory):
    """The connection of one case."""

    protocol = Protocol

    def __init__(self, case):
        super().__init__(args.url)
        self.case = case
        self.logOctets = False
        self.logFrames = True
        # Compression cases set their offers on the protocol; the handshake reads them from there.
        # The time limits are generous: a case that keeps this one thread busy must not make another one unclean.
        self.setProtocolOptions(
            failByDrop=False,
            openHandshakeTimeout=30,
            closeHandshakeTimeout=30,
            serverConnectionDropTimeout=30,
            echoCloseCodeReason=False,
        )

    def buildProtocol(self, addr):
        p = Protocol()
        p.factory = self
        p.case = self.case(p)
        return p

    def clientConnectionLost(self, connector, reason):
        reactor.callLater(0, start_next)

    def clientConnectionFailed(self, connector, reason):
        why = "connect: " + reason.getErrorMessage()
        results[case_id(self.case)] = {"behavior": "FAILED", "close": "FAILED", "result": why}
        reactor.callLater(0, start_next)


waiting = collections.deque(todo)
n_running = args.parallel
group = None


def start_next():
    """One of the cases in flight has ended."""
    global n_running, group
    if waiting:
        case = waiting.popleft()
        if case_id(case).split(".")[0] != group:
            group = case_id(case).split(".")[0]
            print(f"group {group} after {time.time() - began:.0f} s", flush=True)
        connectWS(Factory(case))
        return
    n_running -= 1
    if n_running == 0:
        reactor.stop()


def verdict(r):
    """One word for a case: the behavior, and the close where only that is wrong."""
    return r["behavior"] if r["behavior"] not in STRICT else r["close"]


def report():
    allowed = read_allowed()
    failed = {}
    for c in todo:
        i = case_id(c)
        r = results.setdefault(i, {"behavior": "NOT RUN", "close": "NOT RUN", "result": "the deadline came first"})
        v = verdict(r)
        if i in allowed:
            if v != allowed[i]:
                failed[i] = f"expected {allowed[i]} (non_strict.txt), was {v}"
        elif v not in STRICT:
            parts = [r["behavior"], r["close"], r["result"], r.get("resultClose"), r.get("remoteCloseCode"), r.get("trouble")]
            failed[i] = " | ".join(str(part)[-300:] for part in parts if part)
    behavior = collections.Counter(r["behavior"] for r in results.values())
    close = collections.Counter(r["close"] for r in results.values())
    if args.out:
        with open(args.out, "w", encoding="utf-8") as out:
            json.dump({"cases": len(results), "behavior": behavior, "close": close, "failed": failed, "all": results}, out, indent=1)
    print(f"behavior {dict(behavior)}, close {dict(close)}, {time.time() - began:.0f} s")
    for i, why in failed.items():
        print("  failed", i, why)
    print(f"{len(todo) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


for _ in range(args.parallel):
    reactor.callWhenRunning(start_next)
reactor.callLater(args.deadline, lambda: reactor.running and reactor.stop())
reactor.run()
sys.exit(report())
