"""S2-129: small chat clients in a page, as people write them after the package's page on error codes, in headless Chromium."""

import json
import time

import pytest

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_people import sign, token
from harness.wait import until
from test_browser import browser  # noqa: F401 - a fixture

# Plain script, no library: looks at `error` first, at its code in a `switch`, and at the code of the close.
PAGE = r"""<!doctype html><meta charset="utf-8"><title>chat</title>
<ul id="messages"></ul><p id="notice"></p>
<script>
const clients = {};

function words(detail) {
  if (typeof detail === 'string') return detail;
  if (Array.isArray(detail)) return detail.join(' ');
  return Object.entries(detail).map(([field, problems]) => `${field}: ${words(problems)}`).join('; ');
}

function chat(name, url) {
  const client = clients[name] = { rooms: {}, heard: [], denied: [], invalid: [], missing: [], conflicts: [], faults: [], unknown: 0, pending: null, alive: 0, login: false, closed: null };
  const ws = client.ws = new WebSocket(url);
  ws.addEventListener('message', ({ data: text }) => {
    const frame = JSON.parse(text);
    if (frame.error === 'invalid event type') { client.unknown += 1; return; }
    if (frame.error) {
      const { code, detail } = frame.error;
      switch (code) {
        case 4002: client.denied.push(detail); break;
        case 4003: client.invalid.push(words(detail)); break;
        case 4004: client.missing.push(detail); break;
        case 4005: client.conflicts.push(detail); break;
        default: client.faults.push([code, detail]);
      }
      document.querySelector('#notice').textContent = `${code} ${words(detail)}`;
      return;
    }
    if (frame.status === 'success') { client.alive += 1; return; }
    client.heard.push(frame.eventType);
    const handler = handlers[frame.eventType];
    if (handler) handler(client, frame.data);
  });
  ws.addEventListener('close', ({ code, reason }) => {
    client.closed = [code, reason];
    if (code === 4001) client.login = true;
  });
  client.say = (type, data) => ws.send(JSON.stringify({ event_type: type, data }));
  return 0;
}

const handlers = {
  'chat.notifications': (client, data) => { client.pending = Object.values(data).flat().map((each) => each.message.content); },
  'roomcreate.dispatch': (client, room) => { client.rooms[room.type] = room.id; },
  'roomlist.dispatch': (client, rooms) => { client.list = rooms.map((room) => [room.type, room.name ?? room.peer.username, room.last_message.content]); },
  'message.dispatch': (client, message) => {
    client.last = message.id;
    // Content was sanitized by the server, so a page may show it as markup.
    const item = document.createElement('li');
    item.innerHTML = `${message.sender.username}: ${message.content}`;
    document.querySelector('#messages').append(item);
  },
  'roommessages.dispatch': (client, { data, page }) => { client.history = [page ?? null, data.messages.map((each) => each.content)]; },
};
</script>
"""

BEN = chat_people.group(0)["ben"]
ANA = chat_people.group(0)["ana"]


@pytest.fixture
def page(tmp_path, browser, backend):  # noqa: F811
    with ChatApp(tmp_path / "gateway") as app:
        app.introduce([chat_people.person(ANA), chat_people.person(BEN)])
        backend.on("/chat", body=PAGE, headers=(("Content-Type", "text/html; charset=utf-8"),))
        browser.navigate(backend.url + "/chat")
        yield Page(app, browser)
        # Before the app ends: its own end would be one more close.
        browser.navigate("about:blank")


class Page:
    def __init__(self, app, browser):  # noqa: F811
        self.app, self.browser = app, browser

    def open(self, name, a_token):
        self.browser.evaluate(f"chat({json.dumps(name)}, {json.dumps(self.app.url(a_token))})")

    def say(self, name, event_type, data):
        self.browser.evaluate(f"clients.{name}.say({json.dumps(event_type)}, {json.dumps(data)}), 0")

    def see(self, name, member, accept=bool):
        """The member of the client once it is as wanted."""
        script = f"clients.{name}.{member}"
        until(lambda: accept(self.browser.evaluate(script)), f"{script} (now {self.browser.evaluate(script)!r})")
        return self.browser.evaluate(script)


@pytest.mark.timeout(90)
def test_two_people_in_a_page(page):
    """S2-129, S2-28, S2-29: dispatches, and every code with a text, a list and an object as its detail."""
    for name, number in (("ana", ANA), ("ben", BEN)):
        page.open(name, token(number))
        assert page.see(name, "pending", lambda value: value is not None) == []
    page.say("ana", "room.create", {"type": "OneToOneChat", "participants": [BEN]})
    chat = page.see("ben", "rooms.OneToOneChat")
    page.say("ana", "message.send", {"room_id": chat, "content": "Low tide at <b>six</b><img src=x onerror='window.harm = 1'><script>window.harm = 1</script>"})
    page.see("ben", "last")
    until(lambda: page.browser.evaluate("document.querySelectorAll('#messages li b').length") == 2, "both copies of the message")
    assert page.browser.evaluate("[window.harm ?? 0, document.querySelectorAll('#messages img, #messages script').length]") == [0, 0]

    page.say("ana", "room.create", {"type": "Channel", "name": "News"})
    news = page.see("ana", "rooms.Channel")
    page.say("ben", "message.send", {"room_id": news, "content": "x"})
    assert page.see("ben", "denied") == ["User is not authorized to send message to this room"]
    page.say("ben", "room.leave", {"room_id": chat})
    page.say("ben", "room.create", {"type": "GroupChat"})
    assert page.see("ben", "invalid", lambda value: len(value) == 2) == ["You can only leave a channel/group chat", "name: This field is required."]
    page.browser.evaluate("clients.ben.ws.send('no JSON'), 0")
    assert page.see("ben", "invalid", lambda value: len(value) == 3)[2].startswith("Malformed event: ")
    media = [{"media_url": "https://e.test/a", "media_type": "image"}, {"media_url": "https://e.test/a", "media_type": "zz"}]
    page.say("ben", "message.send", {"room_id": chat, "content": "x", "extra_fields": {"media": media}})
    assert page.see("ben", "invalid", lambda value: len(value) == 4)[3] == '1: media_type: "zz" is not a valid choice.'
    page.say("ben", "room.info", {"room_id": "11111111-2222-4333-8444-555555555555"})
    assert page.see("ben", "missing") == ["Resource not found."]
    page.say("ben", "room.create", {"type": "OneToOneChat", "participants": [ANA]})
    assert page.see("ben", "conflicts") == ["Chat already exists"]
    page.say("ben", "room.archive", {})
    assert page.see("ben", "unknown") == 1
    page.say("ben", "session.heartbeat", {})
    assert page.see("ben", "alive") == 1
    page.say("ben", "room.list", {})
    assert page.see("ben", "list") == [["OneToOneChat", chat_people.person(ANA)["username"], "Low tide at <b>six</b>window.harm = 1"]]
    page.say("ben", "room.messages", {"room_id": chat, "paginate": {"page": 1, "size": 5}})
    assert page.see("ben", "history") == [1, ["Low tide at <b>six</b>window.harm = 1"]]
    # Nobody was told of another's errors, and nobody was thrown out.
    assert page.browser.evaluate("[clients.ana.denied, clients.ana.invalid, clients.ben.faults, clients.ana.faults].flat()") == []
    assert page.browser.evaluate("[clients.ana.ws.readyState, clients.ben.ws.readyState]") == [1, 1]
    # Another device of Ben gets what he has not acknowledged.
    page.open("ben2", token(BEN))
    assert page.see("ben2", "pending") == ["Low tide at <b>six</b>window.harm = 1"]


@pytest.mark.timeout(90)
def test_a_page_that_is_not_logged_in(page):
    """S2-129, S2-5, I-2: `onclose` sees 4001 and the reason, no frame came."""
    old = {"user_id": ANA, "username": "ana", "exp": int(time.time()) - 3600}
    for name, wrong in (("none", None), ("garbage", "x.y.z"), ("expired", sign(old)), ("forged", token(ANA, secret="somebody-elses-secret-0123456789-abc"))):
        page.open(name, wrong)
        assert page.see(name, "login") is True
        assert page.see(name, "closed") == [4001, "Authentication failed"]
        assert page.browser.evaluate(f"[clients.{name}.heard, clients.{name}.pending]") == [[], None]
    page.open("ana", token(ANA))
    page.see("ana", "pending", lambda value: value is not None)
    page.browser.evaluate("clients.ana.ws.close(1000), 0")
    assert page.see("ana", "closed")[0] == 1000 and page.see("ana", "login", lambda value: value is False) is False
