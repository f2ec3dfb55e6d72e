"""Frames and their limits, pings, and how connections end."""

import threading
import time

import pytest
from harness.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from suite.checks import check

RAW = "boto3, raw WebSocket client"
HTTP = RAW + ", recording HTTP server"
CLOSED = {
    "integration.request.header.connectionId": "context.connectionId",
    "integration.request.header.Close-Code": "context.disconnectStatusCode",
    "integration.request.header.Close-Reason": "context.disconnectReason",
}


@check(6, feature="frames", how=RAW, what="A frame of 32768 bytes is accepted; one of 32769 closes with 1009, by its announced length already")
def test_frame_limit(new_api):
    # AG-6
    api = new_api().mock("$default", "got it").live()
    with api.connect() as ws:
        ws.text("x" * 32768)
        assert ws.message() == "got it"
        ws.send(TEXT, b"", length=32769)
        assert ws.closed()[0] == 1009


@check(6, feature="frames", needs=["backend"], how=HTTP, what="A message of 131072 bytes in five frames arrives intact; 131073 bytes in frames of permitted size close with 1009 and reach no integration")
def test_message_limit(new_api):
    # AG-6
    api = new_api().http("$default").live()
    whole = ("0123456789abcdef" * 8192).encode()

    def send(ws, data):
        parts = [data[at:at + 30000] for at in range(0, len(data), 30000)]
        for index, part in enumerate(parts):
            ws.send(TEXT if index == 0 else CONTINUATION, part, fin=index == len(parts) - 1)

    with api.connect() as ws:
        send(ws, whole)
        assert api.backend.wait(1)[0].body == whole
        send(ws, whole + b"x")
        assert ws.closed()[0] == 1009
    assert len(api.backend.requests) == 1


@check(6, feature="frames", how=RAW, what="A binary message closes with 1003, text that is no UTF-8 with 1007")
@pytest.mark.parametrize("opcode,payload,code", [(BINARY, b"x", 1003), (TEXT, b"\xff\xfe", 1007)], ids=["binary", "not UTF-8"])
def test_kinds(new_api, opcode, payload, code):
    # AG-6
    with new_api().whoami().live().connect() as ws:
        ws.send(opcode, payload)
        assert ws.closed()[0] == code


@check(7, feature="closing", how=RAW, what="Violations of the protocol close with 1002: reserved bits, unknown opcode, no mask, fragmented or long control frame")
@pytest.mark.parametrize(
    "frame", [{"rsv": 4}, {"opcode": 3}, {"mask": False}, {"opcode": PING, "fin": False}, {"opcode": PING, "payload": b"x" * 126}],
    ids=["reserved bit", "opcode 3", "no mask", "fragmented ping", "long ping"],
)
def test_violations(new_api, frame):
    # AG-7
    with new_api().whoami().live().connect() as ws:
        ws.send(**{"opcode": TEXT, "payload": b"x", **frame})
        assert ws.closed()[0] == 1002


@check(15, feature="frames", how=RAW, what="A ping is answered with its payload; a pong without a ping is ignored")
@pytest.mark.parametrize("payload", [b"", b"payload", bytes(range(125))], ids=["empty", "text", "125 bytes"])
def test_ping(new_api, payload):
    # AG-15
    with new_api().whoami().live().connect() as ws:
        ws.send(PONG, b"unasked")
        ws.send(PING, payload)
        frame = ws.frame()
        assert (frame.opcode, frame.payload) == (PONG, payload)


# Ten minutes and two hours, 300 times as fast.
SHORT = "[data_plane]\ntime_scale = 300\n"


@check(16, feature="closing", settings=SHORT, how=RAW, what="An idle connection closes with 1001 `Going away` after ten minutes (300 times as fast), not before; `$disconnect` says so")
def test_idle(new_api, backend):
    # AG-16
    api = new_api(backend=backend).http("$disconnect", parameters=CLOSED).live()
    with api.connect() as ws:
        start = time.monotonic()
        assert ws.closed() == (1001, "Going away")
        assert 1.5 <= time.monotonic() - start <= 6
    event = backend.wait(1)[0]
    assert (event.get("Close-Code"), event.get("Close-Reason")) == ("1001", "Going away")


@check(15, 16, feature="closing", settings=SHORT, how=RAW, what="A message, a ping and a post each restart the idle clock")
def test_idle_clock(new_api):
    # AG-15, AG-16
    api = new_api().whoami().live()
    with api.connect() as talking, api.connect() as pinging, api.connect() as listening:
        posted = api.identify(listening)
        start = time.monotonic()
        while time.monotonic() - start < 2.6:
            with pytest.raises(TimeoutError):  # the pause between two activities
                pinging.frame(timeout=0.8)
            api.identify(talking)
            pinging.nothing_before_pong()
            assert api.call("POST", posted, b"p").status == 200
            assert listening.message() == "p"
        last = time.monotonic()
        for ws in (talking, pinging, listening):
            assert ws.closed() == (1001, "Going away")
            assert time.monotonic() - last >= 1.5


@check(16, feature="closing", settings="[data_plane]\nmax_duration = 2\n", how=RAW, what="The duration limit closes with 1001 `Going away` although messages flow")
def test_duration(new_api):
    # AG-16
    api = new_api().whoami().live()
    with api.connect() as ws:
        start = time.monotonic()
        while True:
            ws.send(PING, b"p")
            frame = ws.frame()
            if frame.opcode == CLOSE:
                break
            assert time.monotonic() - start < 8, "the duration limit did not close the connection"
        assert (frame.code, frame.reason) == (1001, "Going away")
        assert time.monotonic() - start >= 1.5


@check(7, feature="closing", needs=["backend"], how=HTTP, what="The client's close code and reason are echoed, and are `disconnectStatusCode` and `disconnectReason` of the `$disconnect` event")
@pytest.mark.parametrize("code,reason", [(1000, "done"), (1001, ""), (3000, "x"), (4999, "äöü"), (4001, "r" * 123)])
def test_client_closes(new_api, code, reason):
    # AG-7
    api = new_api().http("$disconnect", parameters=CLOSED).live()
    with api.connect() as ws:
        frame = ws.close(code, reason)
        assert (frame.code, frame.reason) == (code, reason)
    event = api.backend.wait(1)[0]
    assert event.get("Close-Code") == str(code)
    if reason.isascii():
        assert (event.get("Close-Reason") or "") == reason


@check(7, feature="closing", needs=["backend"], how=HTTP, what="A close without code: answered without one, 1005 `Client-side close frame status not set` for the backend")
def test_client_closes_without_code(new_api):
    # AG-7
    api = new_api().http("$disconnect", parameters=CLOSED).live()
    with api.connect() as ws:
        assert ws.close().payload == b""
    event = api.backend.wait(1)[0]
    assert (event.get("Close-Code"), event.get("Close-Reason")) == ("1005", "Client-side close frame status not set")


@check(7, feature="closing", needs=["backend"], how=HTTP, what="A lost TCP connection: 1006 `Connection closed abnormally`, and the id is gone")
def test_connection_lost(new_api):
    # AG-7
    api = new_api().http("$disconnect", parameters=CLOSED).live()
    api.connect().reset()
    event = api.backend.wait(1)[0]
    assert (event.get("Close-Code"), event.get("Close-Reason")) == ("1006", "Connection closed abnormally")
    assert api.call("POST", event.connection_id, b"x").status == 410


@check(7, feature="closing", needs=["backend"], how=HTTP, what="Codes that the gateway closes with are in the `$disconnect` event: 1003 binary, 1007 UTF-8, 1002 protocol, 1009 size")
@pytest.mark.parametrize(
    "code,frame",
    [(1003, {"opcode": BINARY}), (1007, {"payload": b"\xff"}), (1002, {"opcode": 3}), (1009, {"length": 40000, "payload": b""})],
    ids=["1003", "1007", "1002", "1009"],
)
def test_gateway_closes(new_api, code, frame):
    # AG-7
    api = new_api().http("$disconnect", parameters=CLOSED).live()
    with api.connect() as ws:
        ws.send(**{"opcode": TEXT, "payload": b"x", **frame})
        assert ws.closed()[0] == code
    assert api.backend.wait(1)[0].get("Close-Code") == str(code)


@check(7, feature="closing", how=RAW, what="Deleting the API closes its connections with 1001")
def test_api_deleted(new_api):
    # AG-7
    api = new_api().whoami().live()
    with api.connect() as ws:
        api.delete()
        assert ws.closed()[0] == 1001


@check(30, feature="closing", needs=["backend"], how=HTTP, what="`$connect` is answered before the first message is looked at; `$disconnect` comes after messages that wait")
def test_order_of_events(new_api):
    # AG-30
    api = new_api().http("$connect").http("$disconnect").http("$default").live()
    hold = threading.Event()
    api.backend.on("/default", hold=hold)
    with api.connect() as ws:
        ws.text("1")
        ws.text("2")
        ws.close(1000)
    hold.set()
    assert [r.path for r in api.backend.wait(4)] == ["/connect", "/default", "/default", "/disconnect"]
