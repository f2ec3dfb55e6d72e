"""A recording HTTP/1.1 backend that keeps requests as they were on the wire."""

import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from .wait import DEADLINE


@dataclass
class Request:
    method: str
    target: str
    headers: list  # (name, value) in order, spelling as received
    body: bytes
    connection: int
    at: float
    answered: threading.Event = field(default_factory=threading.Event)

    @property
    def path(self):
        return self.target.split("?", 1)[0]

    @property
    def raw_query(self):
        return self.target.split("?", 1)[1] if "?" in self.target else ""

    @property
    def query(self):
        return parse_qsl(self.raw_query, keep_blank_values=True)

    @property
    def names(self):
        return [name for name, _ in self.headers]

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def has(self, name):
        return bool(self.all(name))

    @property
    def text(self):
        return self.body.decode()

    @property
    def connection_id(self):
        return self.get("connectionId")


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: tuple = ()
    hold: threading.Event = None  # answer only when this is set
    hook: object = None  # called with the request before the answer; may return a Reply
    reset: bool = False  # TCP reset instead of an answer
    close: bool = False  # orderly close instead of an answer
    garbage: bytes = None  # these bytes instead of an answer
    cut: int = None  # only this many bytes of the answer, then close
    length: bool = True  # send Content-Length
    keep_alive: bool = True


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Backend:
    def __init__(self, host="127.0.0.1"):
        self.requests = []
        self.connections = 0
        self.replies = {}
        self.default = Reply()
        self.changed = threading.Condition()
        self.closing = threading.Event()
        self.sockets = set()
        self.listener = socket.create_server((host, 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def on(self, path, **reply):
        """What to answer on one path (the path without its query)."""
        if isinstance(reply.get("body"), str):
            reply["body"] = reply["body"].encode()
        self.replies[path] = Reply(**reply)
        return self

    def stop(self):
        self.closing.set()
        with self.changed:
            for reply in self.replies.values():
                if reply.hold:
                    reply.hold.set()
        # shutdown wakes the accept call that close alone would leave waiting
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self.changed:
            sockets = list(self.sockets)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # -- what was received ----------------------------------------------------------------

    def at(self, path):
        with self.changed:
            return [request for request in self.requests if request.path == path]

    def wait(self, count, path=None, timeout=DEADLINE):
        """The requests (of one path) as soon as there are `count` of them."""

        def matching():
            return [r for r in self.requests if path is None or r.path == path]

        with self.changed:
            ok = self.changed.wait_for(lambda: len(matching()) >= count, timeout)
            found = matching()
        assert ok, f"{len(found)} of {count} requests {path or ''} within {timeout} s; have {[(r.method, r.target) for r in self.requests][-10:]}"
        return found

    def one(self, path, timeout=DEADLINE):
        found = self.wait(1, path, timeout)
        assert len(found) == 1, f"{len(found)} requests at {path}, expected 1"
        return found[0]

    # -- the server -----------------------------------------------------------------------

    def _accept(self):
        while not self.closing.is_set():
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.changed:
                self.connections += 1
                number = self.connections
                self.sockets.add(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock, number):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            buffer = b""
            while not self.closing.is_set():
                while b"\r\n\r\n" not in buffer:
                    data = sock.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, buffer = buffer.split(b"\r\n\r\n", 1)
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                headers = []
                for line in lines[1:]:
                    name, value = line.split(":", 1)
                    headers.append((name, value.strip()))
                length = 0
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = int(value)
                while len(buffer) < length:
                    data = sock.recv(65536)
                    if not data:
                        return
                    buffer += data
                body, buffer = buffer[:length], buffer[length:]
                request = Request(method, target, headers, body, number, time.monotonic())
                with self.changed:
                    self.requests.append(request)
                    self.changed.notify_all()
                reply = self.replies.get(request.path, self.default)
                if reply.hook:
                    reply = reply.hook(request) or reply
                if reply.hold:
                    reply.hold.wait(60)
                if not self._answer(sock, reply):
                    return
                request.answered.set()
        except OSError:
            pass
        finally:
            with self.changed:
                self.sockets.discard(sock)
            try:
                sock.close()
            except OSError:
                pass

    def _answer(self, sock, reply):
        if reply.reset:
            reset(sock)
            return False
        if reply.close:
            return False
        if reply.garbage is not None:
            sock.sendall(reply.garbage)
            return False
        head = f"HTTP/1.1 {reply.status} Status\r\n"
        for name, value in reply.headers:
            head += f"{name}: {value}\r\n"
        if reply.length and reply.status not in (204, 304):
            head += f"Content-Length: {len(reply.body)}\r\n"
        if not reply.keep_alive or not reply.length:
            head += "Connection: close\r\n"
        data = head.encode("latin-1") + b"\r\n" + (b"" if reply.status in (204, 304) else reply.body)
        if reply.cut is not None:
            sock.sendall(data[: reply.cut])
            return False
        sock.sendall(data)
        return reply.keep_alive and reply.length
