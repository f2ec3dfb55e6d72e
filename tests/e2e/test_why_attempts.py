"""Why clients come again and again, or twice: what only several attempts show, each provoked for real.

Intervals are as short as the rules let them be. Clients have addresses of their own where it matters: all of 127/8 is here.
"""

import json
import shlex
import subprocess
import threading
import time

import pytest

from harness import aws
from harness.cli import finding, has_no_findings, ids
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY, binary, clean_environment
from harness.wait import until
from harness.why_connecting import BROWSER, CONFIG, SECRET, admin, explain, guarded, jwt, request_id, token_of, why

pytestmark = [pytest.mark.logs("."), pytest.mark.config(CONFIG), pytest.mark.timeout(120)]

KEYS = [{"secret": SECRET, "algorithms": ["HS256"]}]
WITH_JWT = {"admission": {"checks": ["jwt"]}, "jwt": {"keys": KEYS}}
WITH_TOKEN = {"admission": {"checks": ["token"]}}
AGENT = [("User-Agent", "tool/1")]
PAGE = [("User-Agent", BROWSER)]


def every(seconds, n, act):
    """Does something at a constant distance, as a timer without backoff does."""
    start, done = time.monotonic(), []
    for k in range(n):
        until(lambda: time.monotonic() - start >= k * seconds, "the next turn", 10, interval=0.002)
        done.append(act(k))
    return done


def expired():
    return jwt(exp=int(time.time()) - 100)


def open_now(api):
    return admin(api.gateway, "GET", f"/connections?api={api.id}&count=true").json()["count"]


# -- "Rate limit exceeded" ------------------------------------------------------------------


def test_a_loop_without_backoff(gateway, backend):
    """DX-19 ratelimit.connect ratelimit.reconnect-loop: opened and dropped, again and again, until the limit."""
    api = guarded(gateway, backend, {**WITH_TOKEN, "attempts": {"per_address": 4, "window": 60}})

    def attempt(_):
        ws = api.open(f"ws_token={token_of(api, user='ann')}", headers=AGENT)
        if ws.status == 101:
            ws.close(1000)
        return ws

    done = every(0.2, 8, attempt)
    assert [ws.status for ws in done] == [101] * 4 + [429] * 4
    assert 1 <= int(done[-1].reply.get("Retry-After")) <= 60
    # The first four have a user, the others none: they are one client all the same.
    found = why(gateway, request_id(done[-1]), "ratelimit.reconnect-loop", "proven", 429, ["intervalMs", '"count": 8'])
    assert found["count"] == 8
    why(gateway, request_id(done[-1]), "ratelimit.connect", "proven", 429, ['"limit": 4', '"windowSeconds": 60', "resetAt"], among=True)
    assert ids(explain(gateway, "429"))[0] == "ratelimit.reconnect-loop"



def test_retries_of_what_fails_anyway(gateway, backend):
    """DX-19 ratelimit.failing-retries client.reuses-expired-jwt: the reason comes first, the limit is its consequence."""
    api = guarded(gateway, backend, {**WITH_JWT, "attempts": {"per_address": 4, "window": 60}})
    token = expired()
    done = [api.open(f"token={token}", headers=AGENT) for _ in range(6)]
    assert [ws.status for ws in done] == [403] * 4 + [429] * 2
    report = explain(gateway, request_id(done[-1]))
    assert ids(report)[:2] == ["jwt.expired", "ratelimit.failing-retries"], ids(report)
    assert "jwt.expired" in finding(report, "ratelimit.failing-retries")["fix"][0]
    found = why(gateway, request_id(done[1]), "client.reuses-expired-jwt", "proven", 403, ["fingerprint", '"count": 4'], among=True)
    assert token not in json.dumps(found)


def test_the_same_expired_token(gateway, backend):
    """Y31 client.reuses-expired-jwt, and only where the token is the same."""
    api = guarded(gateway, backend, WITH_JWT)
    one, other = expired(), jwt(sub="bob", exp=int(time.time()) - 100)
    done = [api.open(f"token={token}") for token in (one, other)]
    for ws in done:
        assert "client.reuses-expired-jwt" not in ids(explain(gateway, request_id(ws)))
    again = api.open(f"token={one}")
    report = explain(gateway, request_id(again))
    assert {"jwt.expired", "client.reuses-expired-jwt"} == set(ids(report))
    assert "client.reuses-expired-jwt" not in ids(explain(gateway, request_id(done[1])))


def test_many_tabs(gateway, backend):
    """DX-19 ratelimit.many-tabs: connections of one user, all of one browser."""
    api = guarded(gateway, backend, {"admission": {"checks": ["token"], "connections_per_user": 4}})
    tabs = [api.open(f"ws_token={token_of(api, user='ann')}", headers=PAGE) for _ in range(5)]
    assert [ws.status for ws in tabs] == [101] * 4 + [429]
    why(gateway, request_id(tabs[-1]), "ratelimit.many-tabs", "proven", 429, ['"count": 4'])
    why(gateway, request_id(tabs[-1]), "limit.connections", "proven", 429, ['"limit": 4', '"of": "user"'], among=True)


@pytest.mark.parametrize("limit", [{"per_user": 2}, {"per_address": 10}])
def test_a_limit_that_is_too_low(gateway, backend, limit):
    """DX-19 ratelimit.too-low: many users, nearly all of what they do succeeds, and yet they reach the limit."""
    api = guarded(gateway, backend, {**WITH_TOKEN, "attempts": {"window": 60, **limit}})
    refused = []
    for _ in range(3):
        for user in range(5):
            ws = api.open(f"ws_token={token_of(api, user=f'user{user}')}", headers=[("User-Agent", f"{BROWSER} {user}")])
            if ws.status != 101:
                assert ws.status == 429
                refused.append(ws)
    assert len(refused) == 5
    why(gateway, request_id(refused[-1]), "ratelimit.too-low", "proven", 429)


def test_automated_traffic(gateway, backend):
    """DX-2 ratelimit.abuse is only suggested: many attempts, no browser, no success."""
    api = guarded(gateway, backend, {**WITH_TOKEN, "attempts": {"per_address": 5, "window": 60}})
    done = [api.open("ws_token=guess", headers=[("User-Agent", "curl/8")]) for _ in range(52)]
    assert done[-1].status == 429
    report = explain(gateway, request_id(done[-1]))
    found = finding(report, "ratelimit.abuse", "possible")
    assert found["next"], found


def test_tokens_that_nobody_uses(gateway, backend):
    """Y11 Y15 tokenreq.rate-limited ratelimit.token-requests: tokens issued against tokens used."""
    api = guarded(gateway, backend, {**WITH_TOKEN, "connect_tokens": {"per_minute": 12}})
    tokens = [token_of(api, user="ann") for _ in range(12)]
    token_of(api, code=429, user="ann")
    assert api.open(f"ws_token={tokens[0]}").status == 101
    found = why(gateway, "ratelimit.token-requests", "ratelimit.token-requests", "proven", None, ['"count": 12', '"used": 1'])
    why(gateway, "tokenreq.rate-limited", "tokenreq.rate-limited", "proven", 429, ['"limit": 12', '"windowSeconds": 60'])
    assert not [token for token in tokens if token in json.dumps(found)]
    # Whoever uses what they ask for has done nothing wrong.
    for token in tokens[1:]:
        assert api.open(f"ws_token={token}").status == 101
    assert "ratelimit.token-requests" not in ids(explain(gateway, "--last"))


# -- browsers -------------------------------------------------------------------------------


def test_a_page_that_mounts_twice(gateway, backend):
    """Y6 browser.double-mount: the first is dropped just after it opened; its token is used up."""
    api = guarded(gateway, backend, WITH_TOKEN)
    token = token_of(api, user="ann")
    first, second = api.open(f"ws_token={token}", headers=PAGE), api.open(f"ws_token={token}", headers=PAGE)
    assert (first.status, second.status) == (101, 403)
    first.close(1001)
    until(lambda: not open_now(api), "the end of the first")
    why(gateway, request_id(second), "browser.double-mount", "proven", 403)
    assert "token.reused" in ids(explain(gateway, request_id(second)))[1], ids(explain(gateway, request_id(second)))
    # Two pages that both stay are no such thing.
    api = guarded(gateway, backend, WITH_TOKEN)
    both = [api.open(f"ws_token={token_of(api, user='bob')}", headers=PAGE) for _ in range(2)]
    assert "browser.double-mount" not in ids(explain(gateway, request_id(both[1]), code=1))


def test_a_page_that_drops_the_first_before_it_opens(gateway, backend):
    """Y6 browser.double-mount handshake.client-gave-up: the page closes while it connects, so no close frame is sent."""
    api = guarded(gateway, backend, WITH_TOKEN)
    hold = threading.Event()
    backend.on("/connect", hold=hold)
    # Tokens first: between the two handshakes of a page that mounts twice nothing takes time.
    tokens = [token_of(api, user="ann") for _ in range(2)]
    first, second = (api.open(f"ws_token={token}", headers=PAGE, wait=False) for token in tokens)
    backend.wait(2, "/connect")
    first.reset()
    hold.set()
    assert second.finish().status == 101
    backend.wait(1, "/disconnect")
    why(gateway, request_id(second), "browser.double-mount", "proven")


def test_too_many_sockets_of_one_browser(gateway, backend):
    """Y6 browser.socket-limit: more than 200 at once from one address and one browser."""
    api = guarded(gateway, backend, {"admission": {"checks": []}, "attempts": {"per_address": 0, "per_user": 0}})
    many = [api.open(headers=PAGE) for _ in range(201)]
    assert {ws.status for ws in many} == {101}
    why(gateway, request_id(many[-1]), "browser.socket-limit", "likely", None, ['"count": 201'])


# -- clients that come back -----------------------------------------------------------------


def test_a_loop_that_resets_its_counter(gateway, backend):
    """Y31 client.counter-reset-loop close.backend-requested: opens, is closed at once, and starts over."""
    api = guarded(gateway, backend, {"admission": {"checks": []}, "attempts": {"per_address": 0}})

    def attempt(k):
        ws = api.connect(headers=AGENT)
        connection = backend.wait(k + 1, "/connect")[-1].connection_id
        assert api.signed("DELETE", api.connection_path(connection)).status == 204
        assert ws.closed()[0] == 1000
        return ws

    done = every(0.5, 6, attempt)
    until(lambda: not open_now(api), "the end of the last")
    found = why(gateway, request_id(done[-1]), "client.counter-reset-loop", "proven", None, ["intervalMs"])
    assert found["count"] == 6
    why(gateway, request_id(done[-1]), "close.backend-requested", "proven", None, ["caller", "AKIDEXAMPLE"], among=True)


def test_a_check_that_connects_and_leaves(gateway, backend):
    """DX-2: a program that looks every half second whether it can connect is nothing to talk about."""
    api = guarded(gateway, backend, {"admission": {"checks": []}})

    def attempt(_):
        ws = api.connect(headers=AGENT)
        ws.close(1000)
        return ws

    done = every(0.3, 6, attempt)
    until(lambda: not open_now(api), "the end of the last")
    for ws in done:
        has_no_findings(explain(gateway, request_id(ws), code=1))
    has_no_findings(explain(gateway, "--last", code=1))


def test_everybody_or_one_has_the_wrong_secret(gateway, backend):
    """DX-19 jwt.signature: of all clients, or of one."""
    bad = jwt(secret="another-secret-of-the-tests-0123456789")
    api = guarded(gateway, backend, WITH_JWT)
    refused = [api.open(f"token={bad}", source=f"127.0.0.{10 + n}") for n in range(3)]
    found = why(gateway, request_id(refused[-1]), "jwt.signature", "proven", 403, ["fingerprint"])
    assert "none passed" in json.dumps(found["evidence"]) and "newline" in found["fix"][0]
    api = guarded(gateway, backend, WITH_JWT)
    for n in range(3):
        assert api.open(f"token={jwt(sub=f'user{n}')}", source=f"127.0.0.{20 + n}").status == 101
    refused = api.open(f"token={bad}", source="127.0.0.30")
    found = why(gateway, request_id(refused), "jwt.signature", "proven", 403)
    assert "forged" in json.dumps(found["evidence"])


# -- users that nobody knows ----------------------------------------------------------------


def test_a_user_who_ought_to_be_known(gateway, backend):
    """Y17 identity.cookie-not-available identity.session-expired: compared with those who are known."""
    api = guarded(gateway, backend, {"admission": {"checks": ["token"], "required": False}})
    for n in range(3):
        headers = [("Cookie", "theme=dark; sessionid=s"), *PAGE]
        assert api.open(f"ws_token={token_of(api, user=f'user{n}')}", headers=headers).status == 101
    without = api.open(headers=[("Cookie", "theme=dark"), *PAGE])
    found = why(gateway, "identity.cookie-not-available", "identity.cookie-not-available", "proven", None, ["theme"])
    assert found["requestId"] == request_id(without)
    assert "sessionid" in found["evidence"][0]["text"]
    withal = api.open(headers=[("Cookie", "theme=dark; sessionid=old"), *PAGE])
    report = explain(gateway, "identity.session-expired", code=3)
    found = finding(report, "identity.session-expired", "possible")
    assert found["requestId"] == request_id(withal) and found["next"]
    # A guest is not talked about unless somebody asks.
    has_no_findings(explain(gateway, request_id(withal), code=1))


# -- ends of the node -----------------------------------------------------------------------


def connection_of(backend, n=1):
    return backend.wait(n, "/connect")[-1].connection_id


def test_the_node_is_stopped(gateway, backend):
    """Y25 Y29 node.restart connections.gone-restart: what the client and a later post are told."""
    api = guarded(gateway, backend, {"admission": {"checks": []}})
    opened = api.connect()
    connection = connection_of(backend)
    gateway.terminate()
    code, _ = opened.closed(20)
    assert code in (1001, 1012)
    assert gateway.wait_exit() == 0
    gateway.start()
    # A start soon after the stop: it was a restart, whatever code the client got.
    wanted = "node.restart"
    found = why(gateway, connection, wanted, "proven")
    assert found["clientSaw"]["closeCode"] == code
    assert api.post(connection).status == 410
    report = explain(gateway, connection)
    finding(report, "connections.gone-restart")
    assert ids(report)[0] in (wanted, "connections.gone-restart"), ids(report)
    # Whoever comes back is healthy.
    back = api.connect()
    has_no_findings(explain(gateway, request_id(back), code=1))


def test_the_node_dies(gateway, backend):
    """Y25 Y29 node.crash connections.gone-restart: no stop was recorded before the next start."""
    api = guarded(gateway, backend, {"admission": {"checks": []}})
    opened = api.connect()
    connection = connection_of(backend)
    # What was written is what the crash leaves.
    until(lambda: explain(gateway, connection, code=1)["timeline"], "the entry of the handshake")
    gateway.kill()
    assert opened.wire.at_end()
    gateway.start()
    report = explain(gateway, "node.crash")
    assert ids(report)[0] == "node.crash", ids(report)
    report = explain(gateway, connection)
    assert ids(report)[0] == "node.crash", (ids(report), report["timeline"])
    assert "node.crash" in ids(explain(gateway, "1006"))
    assert api.post(connection).status == 410
    report = explain(gateway, connection)
    assert {"node.crash", "connections.gone-restart"} & set(ids(report)), ids(report)


def test_all_come_back_at_once(gateway, backend):
    """Y31 client.retry-storm: after a restart, without jitter."""
    api = guarded(gateway, backend, {"admission": {"checks": []}, "attempts": {"per_address": 0}})
    sources = [f"127.0.1.{n}" for n in range(1, 26)]
    clients = [api.connect(source=source) for source in sources]
    opened = time.monotonic()
    # What came within the moment before would count as the usual coming and going.
    until(lambda: time.monotonic() - opened > 2.2, "a quiet moment")
    gateway.terminate()
    for ws in clients:
        ws.closed(20)
    assert gateway.wait_exit() == 0
    gateway.start()
    back = [api.connect(source=source) for source in sources]
    found = why(gateway, "client.retry-storm", "client.retry-storm", "proven", None, ['"count": 25'])
    assert "25 of 25" in found["evidence"][0]["text"]
    assert {ws.status for ws in back} == {101}


def test_a_node_that_is_full(start_gateway, backend):
    """Y15 limit.connections of the node says nothing about the client that comes last."""
    gateway = start_gateway(CONFIG + "max_connections = 4\n")
    api = guarded(gateway, backend, {"admission": {"checks": []}})
    done = [api.open(headers=PAGE) for _ in range(5)]
    assert [ws.status for ws in done] == [101] * 4 + [503]
    report = explain(gateway, request_id(done[-1]))
    assert ids(report) == ["limit.connections"], ids(report)
    assert finding(report, "limit.connections")["clientSaw"]["status"] == 503


# -- what to do next ------------------------------------------------------------------------


def test_commands_that_are_recommended_exist(gateway, backend):
    """DX-22: every command in an answer can be typed as it stands, with its options."""
    api = guarded(gateway, backend, WITH_JWT)
    api.open()
    # Eight causes of each symptom are told in full: all sorts of commands are among them.
    questions = [f"Y{symptom}" for symptom in range(1, 39)]
    questions += ["log.token-in-query", "backend.headers-stripped", "proxy.deflate-broken", "proxy.inspection", "clock.client", "management.no-egress"]
    commands = {command for question in questions for found in raw_explain(gateway, question)["findings"] for command in found["next"]}
    assert len(commands) > 12, commands
    for command in sorted(commands):
        words = shlex.split(command, comments=True)
        assert words[0] == "tidegate", command
        # Reading the options comes before the help.
        done = subprocess.run([binary(), *words[1:], "--help"], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def raw_explain(gateway, question):
    environment = clean_environment(
        TIDEGATE_ADMIN_URL=gateway.admin_url, TIDEGATE_ACCESS_KEY_ID=ACCESS_KEY, TIDEGATE_SECRET_ACCESS_KEY=SECRET_KEY, TIDEGATE_REGION=REGION
    )
    done = subprocess.run([binary(), "explain", question, "--json"], capture_output=True, text=True, timeout=20, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode in (0, 1, 3), (question, done.stderr)
    return json.loads(done.stdout)
