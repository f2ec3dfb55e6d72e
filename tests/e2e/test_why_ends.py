"""Why connections end, and what comes after: each end made for real, with what one command says of it."""

import asyncio
import json
import select
import socket
import threading
import time

import pytest
import websockets

from harness import aws, raw
from harness.backend import Reply
from harness.wait import until
from harness.why import ROOT_KEY, as_user, ask, ids, says, set_policy, user_keys

USERS = [f"u{n}" for n in range(8)]


def node_with(start_gateway, backend, config="", users=True):
    gateway = start_gateway(ROOT_KEY + config)
    gateway.allow(".*")
    backend.on("/connect", body=b"").on("/disconnect", body=b"").on("/default", body=b"")
    api = aws.make_api(gateway, backend)
    if users:
        set_policy(api, {"admission": user_keys(*USERS)})
    return gateway, api


def ended(gateway, connection_id):
    """The end of the connection in the journal."""

    def find():
        moments = ask(gateway, connection_id)["timeline"]
        return next((moment for moment in moments if moment["kind"] == "close"), None)

    return until(find, "the end in the journal", interval=0.1)


class Cutter:
    """A TCP proxy that cuts a connection when nothing went through it for a time, as proxies do."""

    def __init__(self, target_port, idle):
        self.target_port, self.idle = target_port, idle
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        import select
        server = socket.create_connection(("127.0.0.1", self.target_port), 5)
        try:
            while True:
                ready, _, _ = select.select([client, server], [], [], self.idle)
                if not ready:
                    return
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
        except OSError:
            pass
        finally:
            client.close()
            server.close()


@pytest.mark.timeout(120)
def test_a_proxy_cuts_what_is_silent(start_gateway, backend):
    """DX-19 proxy.idle-other idle.heartbeat-race: many clients, cut after the same silence; heartbeats as rare as that come too late."""
    gateway, api = node_with(start_gateway, backend)
    with Cutter(gateway.port, 16) as proxy:
        silent = [as_user(api, user, port=proxy.port) for user in USERS[:5]]
        known = [request.connection_id for request in backend.wait(5, "/connect")]
        # Two heartbeats, so far apart that the third would meet the end.
        racing = [as_user(api, user, port=proxy.port) for user in USERS[5:]]
        late = backend.wait(8, "/connect")[-1].connection_id
        for _ in range(2):
            time.sleep(15.5)
            for ws in racing:
                ws.text("{}")
        for ws in silent + racing:
            assert ws.wire.at_end(30)
    ended(gateway, late)
    found = says(gateway, known[0], "proxy.idle-other", proof=("idleMs", "clients"))
    idle = found["evidence"][0]["facts"]["idleMs"]
    assert 15_500 <= idle <= 17_000, idle
    assert any("doctor" in command and "--idle" in command for command in found["next"]), found
    says(gateway, "1006", "proxy.idle-other", first=False)
    says(gateway, late, "idle.heartbeat-race", first=False, proof=("intervalMs",))


@pytest.mark.timeout(60)
def test_neither_side_says_anything(start_gateway, backend):
    """close.idle-timeout idle.no-heartbeat: the gateway's own limit; nothing was sent before it."""
    gateway, api = node_with(start_gateway, backend, "[data_plane]\nidle_timeout = 31\n")
    ws = as_user(api, "u0")
    known = backend.one("/connect").connection_id
    assert ws.frame(40).code == 1001
    ended(gateway, known)
    says(gateway, known, "idle.no-heartbeat", first=False, proof=("messagesIn",), more=("close.idle-timeout",))
    report = ask(gateway, known)
    limit = next(f for f in report["findings"] if f["id"] == "close.idle-timeout")["evidence"][-1]["facts"]["limit"]
    assert limit == 31, report["findings"]


@pytest.mark.timeout(60)
def test_a_reset(start_gateway, backend):
    """conn.reset connections.gone-network: no close frame, and whether it was a FIN or an RST."""
    gateway, api = node_with(start_gateway, backend)
    for n, end in enumerate((lambda ws: ws.reset(), lambda ws: ws.wire.close())):
        ws = as_user(api, f"u{n}")
        known = backend.wait(n + 1, "/connect")[-1].connection_id
        ws.text("{}")
        backend.wait(n + 1, "/default")
        end(ws)
        ended(gateway, known)
        says(gateway, known, "conn.reset", proof=("errorClass", ("reset", "closed")[n]))
        says(gateway, ["1006", "--user", f"u{n}"], "conn.reset", first=False)
    # A finding about each, but none of a pattern.
    assert not {"proxy.idle-other", "proxy.reload"} & set(ids(ask(gateway, "1006")))


@pytest.mark.timeout(60)
def test_no_answer_to_pings(start_gateway, backend):
    """conn.ping-timeout conn.network-change: the device is gone, and comes back from another address."""
    config = "[data_plane]\nserver_ping_interval = 1\nserver_ping_timeout = 1\n"
    gateway, api = node_with(start_gateway, backend, config)
    # Raw clients answer no ping by themselves.
    lost = as_user(api, "u0", source="127.0.0.1")
    known = backend.one("/connect").connection_id
    ended(gateway, known)
    found = says(gateway, known, "conn.ping-timeout", proof=("pingsUnanswered",))
    assert found["evidence"][-1]["facts"]["pingsUnanswered"] >= 1, found
    back = as_user(api, "u0", source="127.0.0.2")
    says(gateway, known, "conn.network-change", "likely", first=False, proof=("another address",))
    back.wire.close()
    lost.wire.close()


@pytest.mark.timeout(60)
def test_a_slow_reader(start_gateway, backend):
    """conn.slow-consumer: 429 for the caller, then 1008 `Too slow` where the policy closes."""
    gateway, api = node_with(start_gateway, backend, "[data_plane]\noutbound_buffer_bytes = 65536\n", users=False)
    set_policy(api, {"push": {"slow": "close"}, "channels": {"unlisted": "allow", "default": "all"}})
    ws = raw.RawWs(gateway.port, api.base, receive_buffer=4096)
    assert ws.status == 101
    known = backend.one("/connect").connection_id
    text = b'"' + b"x" * 30_000 + b'"'
    client = api.management(retries=False)

    def refused():
        try:
            client.post_to_connection(ConnectionId=known, Data=text)
        except client.exceptions.LimitExceededException:
            return True

    until(refused, "the full outbox", interval=0)
    says(gateway, known, "conn.slow-consumer", proof=("65536",))
    assert api.signed("POST", "/@channels/all", text).status == 200
    ended(gateway, known)
    found = says(gateway, known, "conn.slow-consumer", proof=("queueBytes", "longestWriteMs"))
    assert found["clientSaw"]["closeCode"] == 1008, found
    says(gateway, "1008", "conn.slow-consumer", first=False)


@pytest.mark.timeout(60)
def test_pythons_own_ping(start_gateway, backend):
    """client.keepalive-1011: a real Python client whose ping is not answered in time, behind a proxy that holds bytes back."""
    gateway, api = node_with(start_gateway, backend)
    async def run():
        # Answers of the gateway are not passed on any more, while the client's frames are.
        listener = socket.create_server(("127.0.0.1", 0))
        holding = threading.Event()

        def pump(source, sink, hold):
            try:
                while data := source.recv(65536):
                    if not (hold and holding.is_set()):
                        sink.sendall(data)
            except OSError:
                pass

        def serve():
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", gateway.port), 5)
            threading.Thread(target=pump, args=(server, client, True), daemon=True).start()
            threading.Thread(target=pump, args=(client, server, False), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}{api.base}"
        async with websockets.connect(
            url, ping_interval=0.5, ping_timeout=0.5, close_timeout=0.5, additional_headers={"x-api-key": "key-of-u0"}, proxy=None
        ) as ws:
            holding.set()
            with pytest.raises(websockets.ConnectionClosedError):
                await ws.recv()
            assert ws.close_code in (1011, 1006)
        listener.close()

    asyncio.run(run())
    known = backend.one("/connect").connection_id
    ended(gateway, known)
    says(gateway, known, "client.keepalive-1011", proof=("1011",))
    says(gateway, ["keepalive", "ping", "timeout"], "client.keepalive-1011")
    says(gateway, "1011", "client.keepalive-1011", first=False)


@pytest.mark.timeout(60)
def test_disconnect_is_lost(start_gateway, backend):
    """cleanup.disconnect-lost: the backend did not hear of the end, and posts to the id."""
    gateway, api = node_with(start_gateway, backend)
    backend.on("/disconnect", hook=lambda request: Reply(reset=True))
    ws = as_user(api, "u0")
    known = backend.one("/connect").connection_id
    ws.close(1000)
    found = says(gateway, known, "cleanup.disconnect-lost", first=False, proof=("causeId", "attempts"))
    with aws.refused("GoneException", 410):
        api.management(retries=False).post_to_connection(ConnectionId=known, Data=b"{}")

    def told():
        found = says(gateway, known, "cleanup.disconnect-lost", first=False)
        return "still posted" in json.dumps(found["evidence"])

    until(told, "the post after the lost event", interval=0.2)
    assert found["fix"]


@pytest.mark.timeout(60)
def test_old_ids_pile_up(start_gateway, backend):
    """connections.stale-record: the third post after the first 410."""
    gateway, api = node_with(start_gateway, backend)
    ws = as_user(api, "u0")
    known = backend.one("/connect").connection_id
    ws.close(1000)
    ended(gateway, known)
    client = api.management(retries=False)
    for _ in range(4):
        with aws.refused("GoneException", 410) as caught:
            client.post_to_connection(ConnectionId=known, Data=b"{}")
        assert caught.kind == "GoneException"
    says(gateway, known, "connections.stale-record", first=False, proof=("caller",))
    says(gateway, ["GoneException:", "410"], "connections.stale-record", first=False)


@pytest.mark.timeout(60)
def test_closed_on_purpose(start_gateway, backend):
    """DX-20: a client that closes is no failure of anybody, and its page that is left neither."""
    gateway, api = node_with(start_gateway, backend)
    for n, code in enumerate((1000, 1001, None, 3000)):
        ws = as_user(api, f"u{n}")
        known = backend.wait(n + 1, "/connect")[-1].connection_id
        ws.text("{}")
        backend.wait(n + 1, "/default")
        ws.close(code)
        ended(gateway, known)
        report = ask(gateway, known)
        assert not [f for f in report["findings"] if f["severity"] != "info"], (code, report["findings"])
    report = ask(gateway, "--last")
    assert not report["findings"], report["findings"]
