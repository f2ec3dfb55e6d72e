"""Causes that show over minutes, hours and days: made for real on nodes whose times pass faster, and what one command says."""

import time

import pytest

from harness import aws
from harness.backend import Reply
from harness.cutting_proxy import CuttingProxy
from harness.why import ROOT_KEY, as_user, ask, ids, says, set_policy, user_keys

BROWSER = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36")

# What a node's own limits would end is not the matter here.
NO_LIMITS = ROOT_KEY + "[data_plane]\nidle_timeout = 0\nmax_duration = 0\n"


@pytest.fixture
def start(start_gateway, backend):
    """A gateway on which `scale` seconds pass in one, and an API whose backend answers messages."""

    def start(scale, config=ROOT_KEY):
        gateway = start_gateway(config, args=["--time-scale", str(scale)])
        backend.on("/default", body='{"answer": 1}')
        return gateway, aws.make_api(gateway, backend, two_way=(True, True))

    return start


def wait_until(moment):
    """For a moment of the clock: what is tested is a time."""
    time.sleep(max(0.0, moment - time.monotonic()))


def is_only_possible(gateway, *words):
    """The id that is asked about is explained, but nothing speaks for it yet."""
    found = [found for found in ask(gateway, *words)["findings"] if found["id"] == words[0]]
    return all(each["confidence"] == "possible" and not each.get("count") for each in found)


def connection_of(backend, ws):
    ws.text('{"action": "whoami"}')
    ws.message()
    return backend.at("/default")[-1].connection_id


def test_timers_of_a_tab_in_the_background(start, backend):
    """client.background-throttle, DX-7: heartbeats every 15 s, then once a minute, then nothing."""
    gateway, api = start(30)
    ws = api.connect(headers=[BROWSER])
    other = api.connect(headers=[("User-Agent", "python-websockets/17.4")])
    begun = time.monotonic()
    moments = [0.5, 1.0, 1.5, 2.0, 4.0, 6.0, 8.0]
    for moment in moments:
        wait_until(begun + moment)
        for each in (ws, other):
            each.text("ping")
            each.message()
    slow, same = (request.connection_id for request in backend.at("/default")[-2:])
    ws.reset()
    other.reset()
    says(gateway, slow, "client.background-throttle", first=False, proof=("heartbeatPauses", "only once a minute", "3 times"))
    # A program that is no browser has its own reasons.
    assert "client.background-throttle" not in ids(ask(gateway, same))


def test_intermediaries_with_60_and_100_seconds(start, backend):
    """proxy.idle-60 proxy.idle-100, DX-19: all connections lose their peer after the same silence."""
    gateway, api = start(20)
    users = [f"user{n}" for n in range(6)]
    set_policy(api, {"admission": user_keys(*users)})
    with CuttingProxy(gateway.port) as shorter, CuttingProxy(gateway.port) as longer:
        for proxy in (shorter, longer):
            clients = [as_user(api, user, port=proxy.port) for user in users]
            for ws in clients:
                ws.text("hello")
            for ws in clients:
                ws.message()
            proxy.silent_since = time.monotonic()
            proxy.clients = clients
        for proxy, seconds in ((shorter, 60), (longer, 100)):
            wait_until(proxy.silent_since + seconds / 20)
            assert proxy.cut() == len(users)
    for seconds in (60, 100):
        says(gateway, "1006", f"proxy.idle-{seconds}", first=False, proof=("6 connections of 6 clients", "without a close frame"))


def test_a_client_that_gives_up(start, backend):
    """client.gave-up, DX-19: five tries 2, 4, 8, 16 and 32 s apart, all refused, then none."""
    gateway, api = start(20)
    gateway.allow(".*")
    backend.on("/connect", hook=lambda request: Reply(503, b"no"))
    begun, moment = time.monotonic(), 0.0
    for pause in (0, 4, 8, 16, 32):
        moment += pause / 20
        wait_until(begun + moment)
        assert api.open(headers=[BROWSER]).status == 503
    assert "client.gave-up" not in ids(ask(gateway, "--last"))
    wait_until(begun + moment + 66 / 20)
    says(gateway, ["--last"], "client.gave-up", "likely", first=False, proof=("5 tries",))


def test_a_client_that_does_not_come_back(start, backend):
    """client.no-reconnect: nothing for ten minutes after an end with 1006, until the user is there again."""
    gateway, api = start(300, NO_LIMITS)
    set_policy(api, {"admission": user_keys("ann", "ben")})
    gone = as_user(api, "ann")
    connection = connection_of(backend, gone)
    back = as_user(api, "ben")
    returned = connection_of(backend, back)
    gone.reset()
    back.reset()
    begun = time.monotonic()
    as_user(api, "ben")
    assert "client.no-reconnect" not in ids(ask(gateway, connection))
    wait_until(begun + 610 / 300)
    says(gateway, connection, "client.no-reconnect", "possible", first=False, proof=("10 min",))
    assert "client.no-reconnect" not in ids(ask(gateway, returned))


def test_posts_to_ids_of_long_ago(start, backend):
    """cleanup.not-scheduled cleanup.not-pruning connections.stale-record: days later a backend still posts to what ended."""
    gateway, api = start(86_400, NO_LIMITS)
    clients = [api.connect() for _ in range(6)]
    stale = [connection_of(backend, ws) for ws in clients]
    for ws in clients:
        ws.close(1000)
    ended = time.monotonic()
    assert api.post(stale[0], b"soon").status == 410
    assert is_only_possible(gateway, "cleanup.not-scheduled", "--since", "300d")
    wait_until(ended + 1.2)
    for connection in stale:
        assert api.post(connection, b"a day later").status == 410
    says(gateway, ["cleanup.not-scheduled", "--since", "300d"], "cleanup.not-scheduled", proof=("ended more than a day before",))
    says(gateway, stale[1], "connections.stale-record", first=False)
    wait_until(ended + 3.5)
    for connection in stale:
        assert api.post(connection, b"days later").status == 410
    says(gateway, ["cleanup.not-pruning", "--since", "300d"], "cleanup.not-pruning", "possible", first=False, proof=("does not fall",))
    says(gateway, ["cleanup.wrong-environment", "--since", "300d"], "cleanup.wrong-environment", "possible", first=False)


def test_a_user_who_came_back_and_whose_former_id_is_used(start, backend):
    """connections.gone-reused-id, connections.gone-room-change: an id is never valid again."""
    gateway, api = start(20)
    set_policy(api, {"admission": user_keys("ann", "ben")})
    former = {}
    for user in ("ann", "ben"):
        ws = as_user(api, user)
        former[user] = connection_of(backend, ws)
        ws.close(1000)
    ended = time.monotonic()
    # At once: another room. After a while: another visit.
    there = [as_user(api, "ben")]
    wait_until(ended + 15 / 20)
    there.append(as_user(api, "ann"))
    for user in former:
        assert api.post(former[user], b"hello").status == 410
    says(gateway, former["ann"], "connections.gone-reused-id", "likely", first=False, proof=("newer connection",))
    says(gateway, former["ben"], "connections.gone-room-change", first=False, proof=("newer connection",))


def test_one_slow_client_in_a_series_of_posts(start, backend):
    """publish.serial-send: one post after the other, and a pause in the middle for everybody behind it."""
    gateway, api = start(20)
    clients = [api.connect() for _ in range(12)]
    connections = [connection_of(backend, ws) for ws in clients]

    def broadcast(pause):
        for n, connection in enumerate(connections):
            if n == 6:
                time.sleep(pause)
            assert api.post(connection, b"x" * 500).status == 200

    broadcast(0.0)
    assert is_only_possible(gateway, "publish.serial-send")
    broadcast(0.5)
    says(gateway, "publish.serial-send", "publish.serial-send", "likely", proof=("12 posts of one size",))
