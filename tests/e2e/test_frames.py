"""Client frames, their limits, and how connections end (AG-6, 7, 15, 16)."""

import struct
import time
import zlib

import pytest

from harness.aws import CONNECTION_ID, make_api
from harness.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode
from harness.wait import until

CLOSE_MAPPING = {
    **CONNECTION_ID,
    "integration.request.header.Close-Code": "context.disconnectStatusCode",
    "integration.request.header.Close-Reason": "context.disconnectReason",
    "integration.request.header.Event-Type": "context.eventType",
}


@pytest.fixture
def api(gateway, backend):
    return make_api(gateway, backend, parameters=CLOSE_MAPPING)


def disconnect_event(backend):
    event = backend.one("/disconnect")
    assert event.get("Event-Type") == "DISCONNECT"
    reason = event.get("Close-Reason") or ""
    return event.get("Close-Code"), reason.encode("latin-1").decode()


def test_largest_frame(api, backend):
    """AG-6, S0-52: a frame of 32768 bytes is accepted and reaches the backend unchanged."""
    with api.connect() as ws:
        ws.text("x" * 32768)
        assert backend.one("/default").body == b"x" * 32768
        ws.nothing_before_pong()


def test_frame_too_large(api, backend):
    """AG-6, S0-52: a frame of 32769 bytes closes with 1009; nothing reaches the backend but $disconnect."""
    with api.connect() as ws:
        ws.text("x" * 32769)
        assert ws.closed()[0] == 1009
    assert disconnect_event(backend)[0] == "1009"
    assert backend.at("/default") == []


def test_frame_too_large_is_refused_by_its_header(api, backend):
    """AG-6: the announced length is enough; no need to wait for, or hold, the payload."""
    with api.connect() as ws:
        ws.wire.send(encode(TEXT, b"x", length=1 << 40)[:14])
        assert ws.closed()[0] == 1009
    assert disconnect_event(backend)[0] == "1009"


def test_largest_message(api, backend):
    """AG-6: 131072 bytes in 5 frames are reassembled to the same bytes."""
    sizes = [32768, 32768, 32768, 32767, 1]
    with api.connect() as ws:
        body = b""
        for index, size in enumerate(sizes):
            part = bytes([97 + index]) * size
            body += part
            ws.send(TEXT if index == 0 else CONTINUATION, part, fin=index == 4)
            if index == 2:
                ws.nothing_before_pong()  # control frames may come between fragments
        assert backend.one("/default").body == body
        ws.nothing_before_pong()


def test_message_too_large(api, backend):
    """AG-6: 131073 bytes over all fragments close with 1009."""
    with api.connect() as ws:
        for index in range(4):
            ws.send(TEXT if index == 0 else CONTINUATION, b"x" * 32768, fin=False)
        ws.send(CONTINUATION, b"y", fin=True)
        assert ws.closed()[0] == 1009
    assert disconnect_event(backend)[0] == "1009"
    assert backend.at("/default") == []


@pytest.mark.config("[data_plane]\nmax_frame_bytes = 131072\n")
def test_frame_limit_lifted(api, backend):
    """1.5, S0-52: `max_frame_bytes` lets one frame carry the whole message."""
    with api.connect() as ws:
        ws.text("x" * 131072)
        assert len(backend.one("/default").body) == 131072


def test_binary(api, backend):
    """AG-6, AG-7: a binary message closes with 1003."""
    with api.connect() as ws:
        ws.send(BINARY, b"\x00\x01")
        assert ws.closed()[0] == 1003
    assert disconnect_event(backend)[0] == "1003"


@pytest.mark.config('[data_plane]\nbinary = "base64"\n')
def test_binary_as_base64(api, backend):
    """1.5: with `binary = "base64"` the backend gets the base64 text."""
    with api.connect() as ws:
        ws.send(BINARY, b"\x00\x01\xff")
        assert backend.one("/default").body == b"AAH/"


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"ok\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_bad_utf8(api, backend, payload):
    """AG-6, AG-7: text that is not UTF-8 closes with 1007."""
    with api.connect() as ws:
        ws.text(payload)
        assert ws.closed()[0] == 1007
    assert disconnect_event(backend)[0] == "1007"
    assert backend.at("/default") == []


def test_utf8_across_fragments(api, backend):
    """1.5: a character split over two fragments is fine."""
    data = "a€b".encode()
    with api.connect() as ws:
        ws.send(TEXT, data[:2], fin=False)
        ws.send(CONTINUATION, data[2:3], fin=False)
        ws.send(CONTINUATION, data[3:], fin=True)
        assert backend.one("/default").body == data


VIOLATIONS = {
    "reserved bit 1": encode(TEXT, b"x", rsv=4),
    "reserved bit 3": encode(TEXT, b"x", rsv=1),
    "bad opcode": encode(3, b"x"),
    "bad control opcode": encode(11, b""),
    "unmasked": encode(TEXT, b"x", mask=False),
    "fragmented ping": encode(PING, b"x", fin=False),
    "long ping": encode(PING, b"x" * 126),
    "continuation without start": encode(CONTINUATION, b"x"),
    "text within fragments": encode(TEXT, b"x", fin=False) + encode(TEXT, b"y"),
    "close with one byte": encode(CLOSE, b"\x03"),
    "close with reserved code": encode(CLOSE, struct.pack(">H", 1005)),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_protocol_error(api, backend, name):
    """AG-7 (1.5): each violation of RFC 6455 closes with 1002, and $disconnect says so."""
    with api.connect() as ws:
        ws.wire.send(VIOLATIONS[name])
        assert ws.closed()[0] == 1002
    assert disconnect_event(backend)[0] == "1002"
    assert backend.at("/default") == []


@pytest.mark.parametrize("payload", [b"", b"clock", b"x" * 125])
def test_ping(api, backend, payload):
    """AG-15: the pong carries the ping's payload; pongs of the client are ignored."""
    with api.connect() as ws:
        ws.send(PONG, b"unasked")
        ws.nothing_before_pong(payload)


@pytest.mark.config("[data_plane]\nidle_timeout = 2\n")
def test_idle(api, backend):
    """AG-16, AG-7: an idle connection closes with 1001 Going away after the idle time, not before."""
    with api.connect() as ws:
        start = time.monotonic()
        assert ws.closed() == (1001, "Going away")
        assert 1.5 <= time.monotonic() - start <= 5
    assert disconnect_event(backend) == ("1001", "Going away")


@pytest.mark.config("[data_plane]\nidle_timeout = 2\n")
@pytest.mark.parametrize("kind", ["message", "ping", "push"])
def test_idle_clock_restarts(api, backend, kind):
    """AG-15, AG-16, 1.9: a message, a ping and a push each restart the idle clock."""
    with api.connect() as ws:
        connection = backend.one("/connect").connection_id
        start = time.monotonic()
        last = start
        while time.monotonic() - start < 3:
            # Waiting for a frame that does not come is the pause between two activities.
            with pytest.raises(TimeoutError):
                ws.frame(timeout=0.8)
            if kind == "message":
                ws.text("x")
            elif kind == "ping":
                ws.send(PING, b"p")
                assert ws.frame().opcode == PONG
            else:
                assert api.post(connection, b"p").status == 200
                assert ws.message() == "p"
            last = time.monotonic()
        assert ws.closed() == (1001, "Going away")
        assert time.monotonic() - last >= 1.5


@pytest.mark.config("[data_plane]\nmax_duration = 2\n")
def test_duration(api, backend):
    """AG-16: the duration limit closes with 1001 Going away although messages flow."""
    with api.connect() as ws:
        start = time.monotonic()
        while True:
            ws.send(PING, b"p")
            frame = ws.frame()
            if frame.opcode == CLOSE:
                break
            assert time.monotonic() - start < 6, "the duration limit did not close the connection"
        assert (frame.code, frame.reason) == (1001, "Going away")
        assert time.monotonic() - start >= 1.5
    assert disconnect_event(backend) == ("1001", "Going away")


@pytest.mark.parametrize(
    "code,reason", [(1000, "done"), (1001, ""), (1000, ""), (3000, "x"), (4999, "äöü"), (4001, "r" * 123)]
)
def test_client_close(api, backend, code, reason):
    """AG-7: the client's code and reason are echoed and reported."""
    with api.connect() as ws:
        frame = ws.close(code, reason)
        assert (frame.code, frame.reason) == (code, reason)
    assert disconnect_event(backend) == (str(code), reason)


def test_close_reason_is_no_header(api, backend):
    """A hostile close reason must not become a header of the backend request."""
    with api.connect() as ws:
        ws.close(4000, "a\r\nX-Evil: 1\r\n\r\nPOST /evil HTTP/1.1")
    event = backend.one("/disconnect")
    assert event.get("Close-Code") == "4000"
    assert not event.has("X-Evil")
    assert backend.at("/evil") == []


def test_client_close_without_code(api, backend):
    """AG-7: a close frame without a code is answered without one; 1005 with its text is reported."""
    with api.connect() as ws:
        assert ws.close().payload == b""
    assert disconnect_event(backend) == ("1005", "Client-side close frame status not set")


@pytest.mark.parametrize("how", ["reset", "end"])
def test_connection_lost(api, backend, how):
    """AG-7, S0-86: a lost TCP connection is 1006 / Connection closed abnormally, and gone within 1 s."""
    ws = api.connect()
    connection = backend.one("/connect").connection_id
    start = time.monotonic()
    ws.reset() if how == "reset" else ws.wire.close()
    assert disconnect_event(backend) == ("1006", "Connection closed abnormally")
    assert time.monotonic() - start < 1
    assert api.post(connection, b"x").status == 410


def test_delete_close(api, backend):
    """AG-7, AG-12: DELETE closes with 1000 and its reason."""
    with api.connect() as ws:
        connection = backend.one("/connect").connection_id
        assert api.signed("DELETE", api.connection_path(connection)).status == 204
        assert ws.closed() == (1000, "Connection Closed Normally")
    assert disconnect_event(backend) == ("1000", "Connection Closed Normally")


def test_stage_deleted(api, backend):
    """AG-7, S0-55: deleting the stage closes its connections with 1001 and they get $disconnect."""
    with api.connect() as ws:
        api.control.delete_stage(ApiId=api.id, StageName=api.stage)
        assert ws.closed()[0] == 1001
    assert disconnect_event(backend)[0] == "1001"


def test_api_deleted(api, backend):
    """AG-7, S0-55 (6.4): DeleteApi closes its connections with 1001 and they get $disconnect."""
    with api.connect() as ws:
        api.control.delete_api(ApiId=api.id)
        assert ws.closed()[0] == 1001
    assert disconnect_event(backend)[0] == "1001"
    assert api.open().status == 403


def test_shutdown_close(api, backend, gateway):
    """AG-7: a stopping node closes with 1001 / Service restart and delivers $disconnect."""
    with api.connect() as ws:
        gateway.terminate()
        assert ws.closed() == (1001, "Service restart")
    assert disconnect_event(backend)[0] == "1001"


def test_gone_before_disconnect_event(api, backend):
    """S0-56: while $disconnect runs the id is already 410."""
    seen = []

    def during(request):
        reply = api.post(request.connection_id, b"x")
        seen.append((reply.status, reply.get("x-tidegate-gone-reason")))

    backend.on("/disconnect", hook=during)
    with api.connect() as ws:
        ws.close(1000)
    disconnect_event(backend)
    until(lambda: seen, "the post from inside $disconnect")
    assert seen == [(410, "closed")]


def test_outbound_fragments(api, backend):
    """1.9: a push over 32768 bytes is split into frames of at most 32768 bytes."""
    with api.connect() as ws:
        connection = backend.one("/connect").connection_id
        assert api.post(connection, b"a" * 100_000).status == 200
        sizes = []
        while True:
            frame = ws.frame()
            assert frame.opcode == (TEXT if not sizes else CONTINUATION)
            sizes.append(len(frame.payload))
            if frame.fin:
                break
        assert sum(sizes) == 100_000 and max(sizes) <= 32768
        # Exactly the limit is one frame.
        assert api.post(connection, b"b" * 32768).status == 200
        frame = ws.frame()
        assert frame.fin and len(frame.payload) == 32768


def test_push_repairs_utf8(api, backend):
    """1.9: bytes that are not UTF-8 are replaced by U+FFFD."""
    with api.connect() as ws:
        connection = backend.one("/connect").connection_id
        assert api.post(connection, b"a\xffb").status == 200
        assert ws.message() == "a\ufffdb"


def test_compression(api, backend):
    """1.4: permessage-deflate is negotiated and messages survive it both ways."""
    with api.connect(headers=[("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover; client_no_context_takeover")]) as ws:
        assert "permessage-deflate" in ws.reply.get("sec-websocket-extensions")
        connection = backend.one("/connect").connection_id
        text = b'{"action":"x","pad":"' + b"abc" * 2000 + b'"}'
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
        ws.send(TEXT, data[:-4], rsv=4)
        assert backend.one("/default").body == text
        assert api.post(connection, text).status == 200
        frame = ws.frame()
        payload = frame.payload
        if frame.rsv == 4:
            payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
        assert payload == text


def test_compression_bomb(api, backend):
    """1.4, 1.5: the limits apply to the inflated size."""
    with api.connect(headers=[("Sec-WebSocket-Extensions", "permessage-deflate")]) as ws:
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(b"\0" * 20_000_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
        ws.send(TEXT, data[:-4], rsv=4)
        assert ws.closed()[0] == 1009
    assert disconnect_event(backend)[0] == "1009"


@pytest.mark.config('[data_plane]\ncompression = "off"\n')
def test_compression_off(api):
    """1.4: `compression = "off"` negotiates nothing."""
    with api.connect(headers=[("Sec-WebSocket-Extensions", "permessage-deflate")]) as ws:
        assert ws.reply.get("sec-websocket-extensions") is None


def test_no_close_frame_after_ours(api, backend):
    """Frames after the client's close frame are ignored."""
    with api.connect() as ws:
        ws.wire.send(encode(CLOSE, struct.pack(">H", 1000)) + encode(TEXT, b"late"))
        assert ws.frame().opcode == CLOSE
        assert ws.wire.at_end()
    assert disconnect_event(backend)[0] == "1000"
    assert backend.at("/default") == []


@pytest.mark.config("[data_plane]\nserver_ping_interval = 1\nserver_ping_timeout = 1\n")
def test_server_pings(api, backend):
    """1.5, S0-86: with server pings a peer that stops answering is 1006 within interval and timeout."""
    with api.connect() as ws:
        frame = ws.frame()
        assert frame.opcode == PING
        ws.send(PONG, frame.payload)
        assert ws.frame().opcode == PING  # answered: stays open
        start = time.monotonic()  # not answered
        assert disconnect_event(backend)[0] == "1006"
        assert time.monotonic() - start < 4
