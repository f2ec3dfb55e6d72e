"""`tidegate doctor --api` and what a day of the journal says of an API (DX-50, DX-48)."""

import json

from harness import aws, raw
from harness.backend import Reply
from harness.cli import finding, has_no_findings, ids, tidegate
from harness.wait import until
from harness.why import ROOT_KEY, as_user, ask, set_policy, user_keys


def inspected(gateway, api, code=None):
    """The report about an API; exit code 1 where it has a problem."""
    codes = (0, 1, 3) if code is None else (code,)
    for wanted in codes:
        try:
            return tidegate(gateway, "doctor", "--api", api.id, "--no-post", code=wanted)
        except AssertionError as error:
            if wanted == codes[-1] or "exit" not in str(error):
                raise
    raise AssertionError(codes)


def probe(report, name):
    return next(probe for probe in report["probes"] if probe["name"] == name)["measurements"]


def quiet(backend):
    for path in ("/connect", "/disconnect", "/default"):
        backend.on(path, body=b"")


def test_a_healthy_api(gateway, backend):
    # DX-2 DX-50
    quiet(backend)
    api = aws.make_api(gateway, backend)
    ws = api.connect()
    ws.text("{}")
    backend.wait(1, "/default")
    api.management().post_to_connection(ConnectionId=backend.one("/connect").connection_id, Data=b"{}")
    assert ws.message() == "{}"
    ws.close(1000)
    backend.wait(1, "/disconnect")
    counted = until(lambda: probe(inspected(gateway, api, 0), "statistics")["disconnects"]["ends"] == 1, "the end")
    assert counted
    report = inspected(gateway, api, 0)
    has_no_findings(report)
    assert probe(report, "statistics")["posts"] == {"all": 1, "gone": 0, "share": 0}
    assert probe(report, "records")["records"]["token"] == {"oldest": None, "overdue": 0}
    assert probe(report, "journal")["entries"] > 3


def test_posts_to_ids_that_are_gone_and_lost_ends(start_gateway, backend):
    # connections.stale-record cleanup.disconnect-lost DX-50
    gateway = start_gateway(ROOT_KEY + "[data_plane]\ndisconnect_retries = 0\n")
    gateway.allow(".*")
    quiet(backend)
    backend.on("/disconnect", hook=lambda request: Reply(reset=True))
    api = aws.make_api(gateway, backend)
    ws = api.connect()
    known = backend.one("/connect").connection_id
    ws.close(1000)
    client = api.management(retries=False)
    until(lambda: any(moment["kind"] == "close" for moment in ask(gateway, known)["timeline"]), "the end", interval=0.1)
    for _ in range(4):
        with aws.refused("GoneException", 410):
            client.post_to_connection(ConnectionId=known, Data=b"{}")

    def told():
        report = inspected(gateway, api)
        return {"connections.stale-record", "cleanup.disconnect-lost"} <= set(ids(report)) and report

    report = until(told, "both findings", 20, interval=0.3)
    lost = finding(report, "cleanup.disconnect-lost")
    assert lost["apiId"] == api.id and lost["evidence"][0]["facts"]["count"] == 1, lost
    finding(report, "connections.stale-record")
    measured = probe(report, "statistics")
    assert measured["posts"] == {"all": 4, "gone": 4, "share": 100}
    assert measured["disconnects"]["lost"] == 1


def test_a_route_that_refuses_everybody(start_gateway, backend):
    # perm.view-too-strict DX-50
    gateway = start_gateway(ROOT_KEY)
    gateway.allow(".*")
    users = [f"u{n}" for n in range(4)]
    quiet(backend)
    backend.on("/strict", status=403, body=b"Permission Denied")
    api = aws.make_api(gateway, backend, routes=["$connect", "$disconnect", "$default", "strict"])
    set_policy(api, {"admission": user_keys(*users)})
    clients = [as_user(api, user) for user in users]
    for n, ws in enumerate(clients):
        ws.text(json.dumps({"action": "strict"}))
        backend.wait(n + 1, "/strict")
        if n == 0:
            # One user's lack is no finding about the API.
            ws.nothing_before_pong()
            assert "perm.view-too-strict" not in ids(inspected(gateway, api))

    def told():
        report = inspected(gateway, api)
        return "perm.view-too-strict" in ids(report) and report

    found = finding(until(told, "the finding", 20, interval=0.3), "perm.view-too-strict", "likely")
    assert found["routeKey"] == "strict" and found["evidence"][0]["facts"]["refusedUsers"] >= 3
    for ws in clients:
        ws.close(1000)


def test_a_journal_that_cannot_keep_a_day(start_gateway, backend):
    # log.retention-too-short DX-48
    gateway = start_gateway("[journal]\nmax_entries = 1000\n")
    gateway.allow(".*")
    quiet(backend)
    api = aws.make_api(gateway, backend)
    assert "log.retention-too-short" not in ids(inspected(gateway, api))
    for _ in range(920):
        assert raw.request(gateway.port, "GET", "/nowhere").status >= 400

    def told():
        report = inspected(gateway, api)
        return "log.retention-too-short" in ids(report) and report

    found = finding(until(told, "the finding", 20, interval=0.3), "log.retention-too-short")
    assert found["evidence"][0]["facts"]["setting"] == "journal.max_entries"
    assert "journal.max_entries" in found["fix"][0]


def test_a_node_without_a_journal(start_gateway, backend):
    # log.disabled
    gateway = start_gateway("[journal]\nenabled = false\n")
    quiet(backend)
    api = aws.make_api(gateway, backend)
    report = inspected(gateway, api, 0)
    assert finding(report, "log.disabled")["severity"] == "info"
    assert not any(probe["name"] == "statistics" for probe in report["probes"])
