"""Why a push is refused or does not arrive: each cause made for real with boto3 and raw sockets, and what one command says."""

import hashlib
import json
import threading
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import pytest

from harness import aws, raw
from harness.gateway import ACCESS_KEY, Gateway
from harness.sign import signed_headers
from harness.wait import until
from harness.why import ROOT_KEY, as_user, ask, ids, says, set_policy, user_keys

KEYS = ROOT_KEY + """
[journal]
sample_posts = 100000

[[credentials]]
access_key_id = "AKIDREADONLY"
secret_access_key = "another-secret-of-the-tests-0123456789"
allow = ["arn:aws:execute-api:us-east-1:000000000000:*/GET/@connections/*"]
"""

USERS = [f"u{n}" for n in range(6)]
OPEN_RULES = {"unlisted": "allow"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    gateway = Gateway(tmp_path_factory.mktemp("why-pushes"), config=KEYS)
    gateway.allow(".*")
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def chat(node, backend):
    """An API of one's own with users, whose clients may join every channel."""
    api = aws.make_api(node, backend)
    backend.on("/connect", body=b"").on("/disconnect", body=b"").on("/default", body=b"")
    set_policy(api, {"admission": user_keys(*USERS), "channels": OPEN_RULES, "control": {"key": "tidegate"}})
    return api


def opened(chat, backend, user="u0", **options):
    """A client and its connection id."""
    ws = as_user(chat, user, **options)
    return ws, backend.at("/connect")[-1].connection_id


def gone(chat, connection_id, wanted=None):
    """boto3 raises GoneException, whatever the cause is; a header names it to whoever has signed."""
    with aws.refused("GoneException", 410) as caught:
        chat.management(retries=False).post_to_connection(ConnectionId=connection_id, Data=b"{}")
    assert caught.kind == "GoneException"
    reply = chat.post(connection_id, b"{}")
    assert reply.status == 410
    if wanted:
        assert (reply.get("x-tidegate-diagnosis"), reply.body) == (wanted, b"")
    return reply


def closed(gateway, connection_id):
    """Waits for the end of the connection in the journal."""
    until(lambda: any(moment["kind"] == "close" for moment in ask(gateway, connection_id)["timeline"]), "the end in the journal", interval=0.1)


def by_client(chat, backend):
    ws, known = opened(chat, backend)
    ws.close(1000)
    return known


def by_network(chat, backend):
    ws, known = opened(chat, backend)
    ws.reset()
    return known


def by_delete(chat, backend):
    ws, known = opened(chat, backend)
    chat.management().delete_connection(ConnectionId=known)
    assert ws.closed()[0] == 1000
    return known


ENDS = {
    "connections.gone-client-closed": (by_client, ("1000",)),
    "connections.gone-network": (by_network, ("conn.reset",)),
    "connections.gone-server-closed": (by_delete, ("close.backend-requested",)),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("wanted", ENDS)
def test_gone(chat, backend, wanted):
    """DX-18 DX-74 connections.gone-client-closed connections.gone-network connections.gone-server-closed: how the id ended."""
    end, proof = ENDS[wanted]
    known = end(chat, backend)
    closed(chat.gateway, known)
    reply = gone(chat, known, wanted)
    found = says(chat.gateway, known, wanted, first=False, proof=("closed", *proof))
    assert found["clientSaw"]["status"] == 410
    says(chat.gateway, reply.get("x-amz-apigw-id"), wanted, first=False)
    for words in (["GoneException: 410", "--api", chat.id], ["Y25", "--api", chat.id], ["410", "--api", chat.id]):
        says(chat.gateway, words, wanted, first=False)
    says(chat.gateway, [wanted, "--api", chat.id], wanted)


@pytest.mark.timeout(60)
def test_posted_from_inside_connect(chat, backend):
    """connections.gone-never-established: the backend posts before it has answered."""
    release = threading.Event()
    backend.on("/connect", hold=release)
    ws = raw.RawWs(chat.gateway.port, chat.base, headers=[("x-api-key", "key-of-u0")], wait=False)
    known = backend.one("/connect").connection_id
    gone(chat, known, "connections.gone-never-established")
    release.set()
    assert ws.finish().status == 101
    says(chat.gateway, known, "connections.gone-never-established", proof=("pending",))
    # After that, it works.
    chat.management().post_to_connection(ConnectionId=known, Data=b'{"late": 1}')
    assert ws.message() == '{"late": 1}'
    ws.close(1000)


@pytest.mark.timeout(60)
def test_refused_id(chat, backend):
    """connections.gone-refused: `$connect` said no, and the backend had stored the id."""
    backend.on("/connect", status=403, body="no")
    ws = raw.RawWs(chat.gateway.port, chat.base, headers=[("x-api-key", "key-of-u0")])
    assert ws.status == 403
    known = backend.one("/connect").connection_id
    gone(chat, known, "connections.gone-refused")
    says(chat.gateway, known, "connections.gone-refused", first=False, proof=("refused",), more=("backend.refused",))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("limit", ["idle_timeout", "max_duration"])
def test_limits(start_gateway, backend, limit):
    """connections.gone-idle connections.gone-max-age close.idle-timeout close.max-duration: the limit and what it was measured against."""
    gateway = start_gateway(ROOT_KEY + f"[data_plane]\n{limit} = 1\n")
    gateway.allow(".*")
    api = aws.make_api(gateway, backend)
    ws = api.connect()
    known = backend.one("/connect").connection_id
    assert ws.closed()[0] == 1001
    closed(gateway, known)
    wanted, cause = {"idle_timeout": ("connections.gone-idle", "close.idle-timeout"), "max_duration": ("connections.gone-max-age", "close.max-duration")}[limit]
    gone(api, known, wanted)
    found = says(gateway, known, cause, first=False, more=(wanted,))
    facts = found["evidence"][0]["facts"]
    assert facts["limit"] == 1 and facts["ageMs"] >= 1000, facts
    assert found["clientSaw"]["closeCode"] == 1001
    says(gateway, "1001", cause, first=False)


@pytest.mark.timeout(60)
def test_a_newer_id_of_the_same_user(chat, backend):
    """DX-19 connections.gone-room-change connections.stale-record: the old id is used although there is a new one."""
    ws, old = opened(chat, backend)
    ws.close(1000)
    closed(chat.gateway, old)
    newer, new = opened(chat, backend)
    gone(chat, old)
    says(chat.gateway, old, "connections.gone-room-change", proof=("closedAt", "openedAt"))
    gone(chat, old)
    says(chat.gateway, old, "connections.stale-record", first=False, proof=("AKIDEXAMPLE",))
    chat.management().post_to_connection(ConnectionId=new, Data=b'{"x": 1}')
    assert newer.message()
    newer.close(1000)


@pytest.mark.timeout(60)
def test_restart(start_gateway, backend, tmp_path):
    """connections.gone-restart: the node ended, and the backend still has its ids."""
    gateway = start_gateway(ROOT_KEY)
    gateway.allow(".*")
    api = aws.make_api(gateway, backend)
    ws = api.connect()
    known = backend.one("/connect").connection_id
    gateway.stop()
    ws.wire.close()
    gateway.start()
    gone(api, known)
    report = ask(gateway, known)
    assert {"connections.gone-restart", "node.draining", "node.restart"} & set(ids(report)), ids(report)
    says(gateway, known, "connections.gone-restart", first=False)


@pytest.mark.timeout(60)
def test_ids_that_are_none(chat, backend):
    """connections.malformed-id connections.double-encoded connections.unknown-id connections.other-stage push.other-api"""
    ws, known = opened(chat, backend)
    with aws.refused("BadRequestException", 400):
        chat.management(retries=False).post_to_connection(ConnectionId="no id!", Data=b"{}")
    says(chat.gateway, ["connections.malformed-id", "--api", chat.id], "connections.malformed-id", proof=("badCharacter", "length"))
    with aws.refused("BadRequestException", 400):
        chat.management(retries=False).post_to_connection(ConnectionId=quote(known, safe=""), Data=b"{}")
    found = says(chat.gateway, ["connections.double-encoded", "--api", chat.id], "connections.double-encoded", proof=("meant",))
    assert known in json.dumps(found)
    # Of another installation: the journal does not reach back far enough to be sure.
    gone(chat, "L0SM9cOFvHcCIhw=", "connections.unknown-id")
    says(chat.gateway, "L0SM9cOFvHcCIhw=", "connections.unknown-id", "possible")
    other = aws.make_api(chat.gateway, backend)
    gone(other, known, "connections.other-stage")
    found = says(chat.gateway, known, "connections.other-stage", proof=(chat.id, "push.other-api"))
    assert found["apiId"] == other.id, found
    ws.close(1000)


def sent(api, connection_id, **options):
    """A signed post with one thing wrong; answers the reply."""
    path = api.connection_path(connection_id)
    target = api.base + path
    host = f"127.0.0.1:{api.gateway.port}"
    headers = signed_headers("POST", target, host, b"{}", **options)
    return raw.request(api.gateway.port, "POST", target, headers, b"{}")


def unsigned(api, known):
    return raw.request(api.gateway.port, "POST", api.base + api.connection_path(known), [], b"{}")


def skewed(api, known):
    return sent(api, known, date=(datetime.now(timezone.utc) - timedelta(minutes=20)).strftime("%Y%m%dT%H%M%SZ"))


REFUSED = {
    "management.unsigned": (unsigned, 403, ()),
    "management.bad-signature": (lambda api, known: sent(api, known, secret="wrong"), 403, (ACCESS_KEY,)),
    "management.unknown-key": (lambda api, known: sent(api, known, access_key="AKIDNOBODY"), 403, ("AKIDNOBODY",)),
    "management.denied": (
        lambda api, known: sent(api, known, access_key="AKIDREADONLY", secret="another-secret-of-the-tests-0123456789"), 403, ("AKIDREADONLY", "execute-api"),
    ),
    "management.wrong-region": (lambda api, known: sent(api, known, region="eu-central-1"), 403, ("eu-central-1", "us-east-1")),
    "management.wrong-service": (lambda api, known: sent(api, known, service="apigateway"), 403, ("apigateway",)),
    "management.clock-skew": (skewed, 403, ()),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("wanted", REFUSED)
def test_the_call_is_refused(chat, backend, wanted):
    """management.unsigned management.bad-signature management.unknown-key management.denied management.wrong-region
    management.wrong-service management.clock-skew"""
    send, status, proof = REFUSED[wanted]
    ws, known = opened(chat, backend)
    reply = send(chat, known)
    assert reply.status == status, (reply.status, reply.body)
    ws.nothing_before_pong()
    found = says(chat.gateway, [wanted, "--api", chat.id], wanted, proof=proof)
    assert found["clientSaw"]["status"] == status
    # Nothing of the signature, and to whom it was not shown that it is wrong, no id.
    assert "Signature=" not in json.dumps(found)
    assert "tidegate" not in reply.text or wanted == "management.denied", reply.text
    says(chat.gateway, ["Y26", "--api", chat.id], wanted)
    ws.close(1000)


@pytest.mark.timeout(60)
def test_too_large(chat, backend):
    """message.too-large-out: boto3 gets 413."""
    ws, known = opened(chat, backend)
    with aws.refused("PayloadTooLargeException", 413):
        chat.management(retries=False).post_to_connection(ConnectionId=known, Data=b"x" * 131_073)
    found = says(chat.gateway, known, "message.too-large-out", proof=("131072", "131073", "127.0.0.1"))
    assert found["clientSaw"]["status"] == 413
    says(chat.gateway, ["PayloadTooLargeException", "--api", chat.id], "message.too-large-out")
    ws.close(1000)


def control(ws, **message):
    ws.text(json.dumps({"tidegate": message}))
    return json.loads(ws.message())["tidegate"]


def publish(chat, channel, body=b'{"n": 1}'):
    reply = chat.signed("POST", f"/@channels/{channel}", body)
    assert reply.status == 200, reply.text
    return json.loads(reply.body)


def nobody(chat, clients):
    pass


def not_json(chat, clients):
    chat.post(clients["u0"][1], b"not json")
    assert clients["u0"][0].message() == "not json"


def not_shown(chat, clients):
    chat.post(clients["u0"][1], b'{"n": 1}')
    assert clients["u0"][0].message() == '{"n": 1}'


def wrong_channel(chat, clients):
    assert control(clients["u0"][0], action="join", channel="room-1")["type"] == "joined"
    assert control(clients["u1"][0], action="join", channel="other")["type"] == "joined"
    assert publish(chat, "other")["delivered"] == 1


def changed_channel(chat, clients):
    assert control(clients["u0"][0], action="join", channel="room-1")["type"] == "joined"
    assert control(clients["u0"][0], action="change", channel="room-2")["type"] in ("joined", "left", "changed")
    publish(chat, "room-1")


def one_is_left_out(chat, clients):
    for user in ("u1", "u2", "u3"):
        chat.post(clients[user][1], b'{"n": 1}')


STORIES = {
    "push.never-sent": (nobody, "proven", True, ()),
    "push.not-json": (not_json, "proven", True, ()),
    "push.client-handler-error": (not_shown, "possible", True, ()),
    "push.wrong-channel": (wrong_channel, "proven", True, ("other", "room-1")),
    "push.changed-channel": (changed_channel, "proven", True, ("room-1",)),
    "push.session-marked-closed": (one_is_left_out, "likely", True, ()),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("wanted", STORIES)
def test_it_does_not_arrive(chat, backend, wanted):
    """DX-19 push.never-sent push.not-json push.client-handler-error push.wrong-channel push.changed-channel
    push.session-marked-closed: asked by the user who misses it"""
    tell, confidence, first, proof = STORIES[wanted]
    clients = {user: opened(chat, backend, user) for user in USERS[:4]}
    tell(chat, clients)
    found = says(chat.gateway, ["Y23", "--user", "u0", "--api", chat.id], wanted, confidence, first, proof)
    assert found["connectionId"] == clients["u0"][1], found
    # Nobody who has not asked about pushes hears of it.
    report = ask(chat.gateway, clients["u0"][1])
    assert not [f for f in report["findings"] if f["confidence"] == "proven"], ids(report)
    for ws, _ in clients.values():
        ws.wire.close()


@pytest.mark.timeout(60)
def test_it_came_too_late(chat, backend):
    """push.connection-closed push.gone: posts to the id after its end."""
    ws, known = opened(chat, backend)
    ws.close(1000)
    closed(chat.gateway, known)
    gone(chat, known)
    says(chat.gateway, ["Y23", "--user", "u0", "--api", chat.id], "push.connection-closed", first=False, proof=("2 posts",), more=("push.gone",))


@pytest.mark.timeout(60)
def test_nobody_is_in_the_channel(chat, backend):
    """publish.no-subscribers: a name that is nearly the one that has members; an empty channel alone is no finding."""
    ws, known = opened(chat, backend)
    assert control(ws, action="join", channel="general")["type"] == "joined"
    assert publish(chat, "something-else")["delivered"] == 0
    report = ask(chat.gateway, "--last", "--api", chat.id)
    assert not report["findings"], ids(report)

    def known():
        # Names are compared at most ten times a second.
        assert publish(chat, "genaral")["delivered"] == 0
        return "publish.no-subscribers" in ids(ask(chat.gateway, "--last", "--api", chat.id))

    until(known, "the channel with nearly the same name", interval=0.15)
    says(chat.gateway, ["Y24", "--api", chat.id], "publish.no-subscribers", proof=("genaral", '"general"'))
    says(chat.gateway, ["--last", "--api", chat.id], "publish.no-subscribers")
    ws.close(1000)


@pytest.mark.timeout(60)
def test_a_role_without_its_channel(node, backend):
    """publish.role-not-mapped: everybody of one role is in the channel that is published to, nobody of another."""
    api = aws.make_api(node, backend)
    backend.on("/connect", body=b"").on("/disconnect", body=b"")
    keys = [
        {"user": user, "sha256": hashlib.sha256(f"key-of-{user}".encode()).hexdigest(), "roles": ["staff" if n < 4 else "member"]} for n, user in enumerate(USERS)
    ]
    rules = [{"match": "news", "join": {"any": [["role:member"]]}, "publish": "allow"}, {"match": "lobby", "join": "allow"}]
    set_policy(api, {"admission": {"checks": ["api_key"], "api_keys": keys}, "channels": {"rules": rules, "default": "lobby"}, "control": {"key": "tidegate"}})
    clients = [as_user(api, user) for user in USERS]
    for ws in clients[4:]:
        assert json.loads(ws.message())["tidegate"]["type"] == "joined"
        assert control(ws, action="join", channel="news")["type"] == "joined"
    assert publish(api, "news")["delivered"] == 2
    says(node, ["Y24", "--api", api.id], "publish.role-not-mapped", "likely", proof=("staff", "news"))
    for ws in clients:
        ws.wire.close()


@pytest.mark.timeout(60)
def test_healthy_pushes(chat, backend):
    """DX-20: whoever gets what was sent is no finding, and neither is a channel that is left in good order."""
    clients = {user: opened(chat, backend, user) for user in USERS[:3]}
    for ws, _ in clients.values():
        assert control(ws, action="join", channel="general")["type"] == "joined"
    assert publish(chat, "general")["delivered"] == 3
    for ws, known in clients.values():
        assert ws.message() == '{"n": 1}'
        chat.management().post_to_connection(ConnectionId=known, Data=b'{"n": 2}')
        assert ws.message() == '{"n": 2}'
        assert control(ws, action="leave", channel="general")["type"] == "left"
    for question in (["--last"], ["Y24"], ["Y25"], ["Y26"]):
        report = ask(chat.gateway, *question, "--api", chat.id)
        assert not [f["id"] for f in report["findings"] if f["confidence"] != "possible"], (question, ids(report))
    for ws, known in clients.values():
        ws.close(1000)
        report = ask(chat.gateway, known)
        assert not [f["id"] for f in report["findings"] if f["severity"] != "info"], ids(report)
