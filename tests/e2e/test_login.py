"""From a login at a backend to its logout: the manual's backends, as printed, on both sides of a real gateway."""

import json
import time
from contextlib import ExitStack

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from harness.examples import COMMANDS, running
from harness.wait import until


class Tab:
    """A page's socket in the channel `general`: what comes, as JSON."""

    def __init__(self, stack, site, token, **options):
        url = f"{site.url}?ws_token={token}&channel=general"
        self.socket = stack.enter_context(connect(url, proxy=None, **options))
        joined = self.next()["tidegate"]
        assert (joined["type"], joined["channel"]) == ("joined", "general"), joined

    def send(self, message):
        self.socket.send(json.dumps(message))

    def next(self):
        return json.loads(self.socket.recv(10))

    def control(self, action, **members):
        """Tells the gateway something; its answer must be the very next message."""
        self.send({"tidegate": {"action": action, **members}})
        return self.next()["tidegate"]

    def has_nothing(self):
        assert self.control("ping")["type"] == "pong"


def refusal(site, query, **options):
    """Status of a handshake that must be refused, and the gateway's check or else the backend's words."""
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{site.url}?{query}", proxy=None, **options)
    response = refused.value.response
    try:
        return response.status_code, json.loads(response.body)["check"]
    except ValueError:
        return response.status_code, response.body.decode()


def last_reason(site):
    """The gateway's own word for the newest refusal."""
    found = site.admin("GET", "/attempts?outcome=refused&limit=1").json()["attempts"]
    return found[0]["reason"] if found else None


def new_token(site, pages):
    answer = site.post(pages, "/ws-token")
    assert answer.status_code == 200, answer.text
    issued = answer.json()
    assert len(issued["token"]) == 64 and set(issued["token"]) <= set("0123456789abcdef"), issued
    assert issued["expires_in"] == 60
    return issued["token"]


def add_post(site, name, pages):
    """Has the backend store something and tell of it."""
    if name == "django":
        return site.post(pages, "/groups", data={"name": "staff"})
    if name in ("fastapi", "go"):
        return site.post(pages, "/posts", params={"text": "hello"})
    return site.post(pages, "/posts", json={"text": "hello"})


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", COMMANDS)
def test_from_login_to_logout(name, start_gateway, tmp_path):
    """S0-61, S0-72, S0-88, S0-92, S0-102"""
    with running(name, start_gateway, tmp_path) as site, ExitStack() as stack:
        ann, bob, carol = (site.log_in(user) for user in ("ann", "bob", "carol"))

        # Nobody gets in without a token, and nobody gets a token without a login.
        assert site.post(requests.Session(), "/ws-token").status_code == 403
        assert refusal(site, "channel=general") == (403, "token")
        # The backend has a say too, behind the rules of the stage; those do not cost the token.
        status, said = refusal(site, f"ws_token={new_token(site, ann)}")
        assert status == 403 and said.strip() in ("", "no such channel"), said
        token = new_token(site, ann)
        assert refusal(site, f"ws_token={token}&channel=staff") == (403, "permission")
        first = Tab(stack, site, token)
        assert refusal(site, f"ws_token={token}&channel=general") == (403, "token")
        second = Tab(stack, site, new_token(site, ann))
        other = Tab(stack, site, new_token(site, bob))
        guest = Tab(stack, site, new_token(site, carol))
        left = guest.control("leave", channel="general")
        assert (left["type"], left["channel"]) == ("left", "general")

        # A message: the members get it, but neither its sender nor who has left.
        first.send({"action": "say", "text": "hällo"})
        assert first.next() == {"type": "ok"}
        for tab in (second, other):
            assert tab.next() == {"type": "said", "text": "hällo"}
        first.has_nothing()
        guest.has_nothing()

        refused = guest.control("join", channel="staff", ref=7)
        assert (refused["type"], refused["ref"]) == ("error", 7)
        joined = guest.control("join", channel="general", ref=8)
        assert (joined["type"], joined["channel"], joined["ref"]) == ("joined", "general", 8)
        other.send({"action": "say", "text": "again"})
        assert other.next() == {"type": "ok"}
        for tab in (first, second, guest):
            assert tab.next() == {"type": "said", "text": "again"}

        # After the commit: the channel, then all tabs of the author and nobody else's.
        assert add_post(site, name, ann).status_code == 201
        kinds = {tab: tab.next()["type"] for tab in (first, second, other, guest)}
        assert set(kinds.values()) <= {"post", "group"}, kinds
        for tab in (first, second):
            assert tab.next()["type"] == "saved"
        other.has_nothing()
        guest.has_nothing()

        # A second login of the same user is another session.
        elsewhere = site.log_in("ann")
        third = Tab(stack, site, new_token(site, elsewhere))

        unspent = new_token(site, ann)
        started = time.monotonic()
        assert site.post(ann, "/logout").status_code == 204
        for tab in (first, second):
            with pytest.raises(ConnectionClosed) as closed:
                tab.next()
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Session ended")
        took = time.monotonic() - started
        assert took < 1, f"{took} s from the logout to the close"

        # The backend has heard of both ends, and says so to those who are still there.
        for tab in (other, guest, third):
            gone = [tab.next() for _ in range(2)]
            assert [message["type"] for message in gone] == ["left", "left"], gone
            assert len({message["id"] for message in gone}) == 2
            tab.has_nothing()

        assert refusal(site, f"ws_token={unspent}&channel=general") == (403, "token")
        until(lambda: last_reason(site) == "token.unknown", "the refusal in the log")
        assert site.post(ann, "/ws-token").status_code == 403
        open_now = site.admin("GET", "/connections?api=chat").json()["connections"]
        assert len(open_now) == 3 and len({c["session"] for c in open_now}) == 3, open_now


def test_calls_without_a_body(start_gateway, tmp_path):
    """S0-61, S0-102: what HTTP clients send where they have nothing to send is taken for nothing."""
    with running("flask", start_gateway, tmp_path) as site, ExitStack() as stack:
        for number, options in enumerate([{}, {"data": b""}, {"json": {}}, {"json": []}, {"data": b"null"}]):
            ann = site.log_in(f"ann{number}")
            tab = Tab(stack, site, new_token(site, ann))
            if options == {"data": b""}:
                options["headers"] = {"Content-Type": "application/json"}
            (connection,) = site.admin("GET", f"/connections?user=ann{number}").json()["connections"]
            ended = site.admin("POST", f"/sessions/{connection['session']}/end", **options)
            assert (ended.status_code, ended.json()) == (200, {"connections": 1, "tokens": 0}), (options, ended.text)
            with pytest.raises(ConnectionClosed):
                tab.next()


def test_token_endpoint_and_the_csrf_check_of_django(start_gateway, tmp_path):
    """S0-78: a page's cookie and CSRF header become a token that works with that login only, and until its end."""
    with running("django", start_gateway, tmp_path) as site, ExitStack() as stack:
        site.let_pages_ask(origins=[])
        ann = site.log_in("ann")
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in ann.cookies)
        csrf = {"X-CSRFToken": ann.headers["X-CSRFToken"]}

        def ask(origin=site.base, cookies=cookies, **headers):
            headers = {"Origin": origin, "Cookie": cookies, **headers}
            return requests.post(f"{site.endpoint}/@token", headers=headers, timeout=10)

        asked = {"Origin": site.base, "Access-Control-Request-Method": "POST"}
        allowed = requests.options(f"{site.endpoint}/@token", headers=asked, timeout=10)
        assert allowed.status_code == 204
        assert "x-csrftoken" in allowed.headers["Access-Control-Allow-Headers"].split(", ")

        # What the page lacks, the log says; nobody gets a token for it.
        nobody = f"csrftoken={ann.cookies['csrftoken']}"
        for request, reason in [
            (dict(csrf, origin="https://evil.example"), "origin.not-allowed"),
            (dict(), "tokenreq.csrf-missing"),
            ({"X-CSRFToken": "a" * 64}, "tokenreq.csrf-invalid"),
            (dict(csrf, cookies=nobody), "tokenreq.no-session-cookie"),
            (dict(csrf, cookies=f"{nobody}; sessionid=guess"), "tokenreq.anonymous"),
        ]:
            refused = ask(**request)
            assert refused.status_code == 403 and "token" not in refused.json(), (request, refused.text)
            assert "tokenreq" not in refused.text
            until(lambda: site.gateway.records(diag=reason), f"{reason} in the log")

        issued = ask(**csrf)
        assert issued.status_code == 200, issued.text
        assert issued.headers["Access-Control-Allow-Origin"] == site.base
        assert issued.headers["Access-Control-Allow-Credentials"] == "true"
        assert issued.headers["Cache-Control"] == "no-store"
        assert issued.json()["expires_in"] == 60
        query = f"ws_token={issued.json()['token']}&channel=general"

        # It belongs to that login and to that page's origin.
        others = {"Cookie": "sessionid=" + site.log_in("bob").cookies["sessionid"]}
        assert refusal(site, query, origin=site.base, additional_headers=others) == (403, "token")
        here = {"origin": site.base, "additional_headers": {"Cookie": cookies}}
        token = ask(**csrf).json()["token"]
        tab = Tab(stack, site, token, **here)
        assert refusal(site, f"ws_token={token}&channel=general", **here) == (403, "token")

        unspent = ask(**csrf).json()["token"]
        assert site.post(ann, "/logout").status_code == 204
        with pytest.raises(ConnectionClosed) as closed:
            tab.next()
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "Session ended")
        assert refusal(site, f"ws_token={unspent}&channel=general", **here) == (403, "token")
        assert ask(**csrf).status_code == 403
