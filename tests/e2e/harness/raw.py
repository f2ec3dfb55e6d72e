"""HTTP and WebSocket over a bare socket: what the libraries refuse to send, or hide."""

import base64
import json
import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass

from .backend import reset

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
TIMEOUT = 10.0


@dataclass
class Response:
    status: int
    reason: str
    headers: list
    body: bytes

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class Wire:
    """A socket with a read buffer and a deadline on every read."""

    def __init__(self, port, host="127.0.0.1", tls=None, server_name=None, source=None, receive_buffer=None):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(TIMEOUT)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            # True: whatever the machine trusts.
            context = ssl.create_default_context(cafile=None if tls is True else str(tls))
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name or host)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    def fill(self, timeout=TIMEOUT):
        self.sock.settimeout(timeout)
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the gateway closed the connection")
        self.buffer += data

    def read(self, count, timeout=TIMEOUT):
        end = time.monotonic() + timeout
        while len(self.buffer) < count:
            self.fill(max(end - time.monotonic(), 0.001))
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_until(self, mark, timeout=TIMEOUT):
        end = time.monotonic() + timeout
        while mark not in self.buffer:
            self.fill(max(end - time.monotonic(), 0.001))
        index = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:index], self.buffer[index:]
        return data

    def at_end(self, timeout=TIMEOUT):
        """True when the other side closes, orderly or by reset, without another byte."""
        if self.buffer:
            return False
        try:
            self.fill(timeout)
        except (EOFError, ConnectionError):
            return True
        return False

    def response(self, method="GET", timeout=TIMEOUT):
        head = self.read_until(b"\r\n\r\n", timeout).decode("latin-1")
        lines = head[:-4].split("\r\n")
        parts = lines[0].split(" ", 2)
        headers = []
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers.append((name, value.strip()))
        reply = Response(int(parts[1]), parts[2] if len(parts) > 2 else "", headers, b"")
        if reply.status == 101 or reply.status in (204, 304) or method == "HEAD":
            return reply
        length = reply.get("content-length")
        if length is not None:
            reply.body = self.read(int(length), timeout)
        elif (reply.get("transfer-encoding") or "").lower() == "chunked":
            body = b""
            while True:
                size = int(self.read_until(b"\r\n", timeout).split(b";")[0], 16)
                chunk = self.read(size + 2, timeout)[:-2]
                if not size:
                    break
                body += chunk
            reply.body = body
        else:
            try:
                while True:
                    self.fill(timeout)
            except EOFError:
                pass
            reply.body, self.buffer = self.buffer, b""
        return reply

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    def reset(self):
        """Ends the TCP connection with a reset."""
        reset(self.sock)


def request(port, method, target, headers=(), body=b"", host=None, tls=None, server_name=None):
    """One HTTP request exactly as given; Host and Content-Length are added if missing."""
    if isinstance(body, str):
        body = body.encode()
    wire = Wire(port, tls=tls, server_name=server_name)
    try:
        names = [name.lower() for name, _ in headers]
        head = f"{method} {target} HTTP/1.1\r\n"
        if "host" not in names:
            head += f"Host: {host or f'127.0.0.1:{port}'}\r\n"
        for name, value in headers:
            head += f"{name}: {value}\r\n"
        if "content-length" not in names and (body or method in ("POST", "PUT", "PATCH")):
            head += f"Content-Length: {len(body)}\r\n"
        wire.send(head.encode("latin-1") + b"\r\n" + body)
        return wire.response(method)
    finally:
        wire.close()


@dataclass
class Frame:
    fin: bool
    rsv: int
    opcode: int
    payload: bytes

    @property
    def code(self):
        return struct.unpack(">H", self.payload[:2])[0] if len(self.payload) >= 2 else None

    @property
    def reason(self):
        return self.payload[2:].decode()


def encode(opcode, payload=b"", fin=True, rsv=0, mask=True, length=None):
    """One frame; `length` lies about the payload's length."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    bit = 0x80 if mask else 0
    if size < 126:
        head = struct.pack(">BB", first, bit | size)
    elif size < 65536:
        head = struct.pack(">BBH", first, bit | 126, size)
    else:
        head = struct.pack(">BBQ", first, bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    masked = bytearray(payload)
    if masked:
        repeated = (key * (len(masked) // 4 + 1))[: len(masked)]
        masked = (int.from_bytes(masked, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(masked), "big")
    return head + key + bytes(masked)


def handshake_bytes(target, host, headers=(), key=None, omit=(), method="GET"):
    key = key or base64.b64encode(os.urandom(16)).decode()
    standard = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    given = {name.lower() for name, _ in headers}
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{n}: {v}" for n, v in standard if n.lower() not in given and n not in omit]
    lines += [f"{n}: {v}" for n, v in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), key


class RawWs:
    """A WebSocket client that sends what it is told and shows what it gets."""

    def __init__(self, port, target, host=None, headers=(), omit=(), method="GET", wait=True, **wire):
        self.wire = Wire(port, **wire)
        data, self.key = handshake_bytes(target, host or f"127.0.0.1:{port}", headers, omit=omit, method=method)
        self.wire.send(data)
        self.reply = None
        if wait:
            self.finish()

    def finish(self, timeout=TIMEOUT):
        """Reads the answer to the handshake."""
        self.reply = self.wire.response(timeout=timeout)
        return self

    @property
    def status(self):
        return self.reply.status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    def send(self, opcode, payload=b"", **options):
        self.wire.send(encode(opcode, payload, **options))

    def text(self, payload):
        self.send(TEXT, payload)

    def frame(self, timeout=TIMEOUT):
        first, second = self.wire.read(2, timeout)
        assert not second & 0x80, "a server must not mask its frames"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", self.wire.read(2, timeout))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.wire.read(8, timeout))
        payload = self.wire.read(size, timeout)
        return Frame(bool(first & 0x80), (first >> 4) & 7, first & 15, payload)

    def message(self, timeout=TIMEOUT):
        """The next text message, its fragments joined."""
        frame = self.frame(timeout)
        assert frame.opcode == TEXT, frame
        data = frame.payload
        while not frame.fin:
            frame = self.frame(timeout)
            assert frame.opcode == CONTINUATION, frame
            data += frame.payload
        return data.decode()

    def nothing_before_pong(self, payload=b"barrier"):
        """Proves that nothing was sent to this client: the next frame is the pong."""
        self.send(PING, payload)
        frame = self.frame()
        assert (frame.opcode, frame.payload) == (PONG, payload), f"unexpected frame {frame}"

    def closed(self, timeout=TIMEOUT):
        """(code, reason) of the close frame that must come next; answers it."""
        frame = self.frame(timeout)
        assert frame.opcode == CLOSE, frame
        try:
            self.send(CLOSE, frame.payload)
        except OSError:
            pass
        return frame.code, frame.reason if len(frame.payload) >= 2 else ""

    def close(self, code=None, reason=""):
        """Starts the closing handshake and returns the server's close frame."""
        payload = b"" if code is None else struct.pack(">H", code) + reason.encode()
        self.send(CLOSE, payload)
        frame = self.frame()
        assert frame.opcode == CLOSE, frame
        assert self.wire.at_end(), "the server must close the TCP connection after the close frames"
        return frame

    def reset(self):
        self.wire.reset()
