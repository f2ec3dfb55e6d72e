"""The example pages of `tidegate dev --app`, in headless Chromium: what people do there, with and without a mouse, and their looks."""

import base64
import json
import os
import struct
import zlib
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect

from harness.cli import tidegate
from harness.wait import until
from harness.why_connecting import SECRET
from test_browser import Browser, browser  # noqa: F401 - a fixture

IMAGES = Path(__file__).resolve().parents[2] / "docs/src/images"
DESKTOP, PHONE, NARROW = (1280, 800), (390, 844), (360, 740)

# Runs before any script of a page: what goes wrong is kept, with the policy that forbade it.
WATCH = """
window.wrong = [];
addEventListener('error', (event) => wrong.push('error: ' + (event.message || event.target.outerHTML)), true);
addEventListener('unhandledrejection', (event) => wrong.push('rejected: ' + event.reason));
document.addEventListener('securitypolicyviolation', (event) => wrong.push('policy: ' + event.violatedDirective + ' ' + event.blockedURI));
for (const name of ['error', 'warn']) {
  const kept = console[name];
  console[name] = (...parts) => { wrong.push(name + ': ' + parts.join(' ')); kept(...parts); };
}
"""

# Every control that can be seen has a name, and every field a label; ids are used once; pictures are described or hidden.
CHECKS = """
(() => {
  const found = [];
  const seen = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const nameOf = (e) => {
    const by = (e.getAttribute('aria-labelledby') || '').split(' ').filter(Boolean).map((id) => document.getElementById(id)?.textContent || '').join(' ');
    const labels = [...(e.labels || [])].map((label) => label.textContent).join(' ');
    const isField = ['INPUT', 'SELECT', 'TEXTAREA'].includes(e.tagName);
    return (by || e.getAttribute('aria-label') || labels || (isField ? '' : e.textContent)).trim();
  };
  for (const e of document.querySelectorAll('button, a[href], input, select, textarea, [role=button], [role=application], dialog[open]')) {
    if (seen(e) && !nameOf(e)) found.push('no name: ' + e.outerHTML.slice(0, 120));
  }
  for (const e of document.querySelectorAll('[tabindex]')) if (e.tabIndex > 0) found.push('own order of Tab: ' + e.outerHTML.slice(0, 120));
  for (const e of document.querySelectorAll('svg')) {
    if (!e.closest('[aria-hidden=true]') && !e.getAttribute('aria-label')) found.push('picture: ' + e.outerHTML.slice(0, 120));
  }
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push('id twice: ' + id);
  if (!document.documentElement.lang || !document.title) found.push('language or title');
  if (document.querySelectorAll('h1').length !== 1) found.push('h1');
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) found.push('wider than the window: ' + wide);
  for (const e of document.querySelectorAll('button, input, select, textarea')) {
    const box = e.getBoundingClientRect();
    if (seen(e) && box.width && (box.right > innerWidth + 1 || box.left < -1)) found.push('outside: ' + e.outerHTML.slice(0, 120));
  }
  return found;
})()
"""

# The contrast of each text with what is behind it, as WCAG computes it; 4.5 for text of usual size.
CONTRAST = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const over = (top, below) => { const a = top[3] / 255; return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)); };
  const behind = (e) => { const all = []; for (let at = e; at; at = at.parentElement) all.unshift(rgba(getComputedStyle(at).backgroundColor)); return all.reduce((below, top) => over(top, below), [255, 255, 255]); };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || e.closest('.unseen, svg, [disabled], script, option') || !e.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    const back = behind(e);
    const [a, b] = [light(over(rgba(getComputedStyle(e).color), back)), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    count++;
    if (ratio < 4.5) found.push(ratio.toFixed(2) + ': ' + e.outerHTML.slice(0, 140));
  }
  return {count, found};
})()
"""

KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowUp": 38, "ArrowDown": 40, "ArrowRight": 39, " ": 32, "+": 187}


class Window:
    """One browser with one person's page."""

    def __init__(self, browser, gateway, user, path="/"):  # noqa: F811
        self.browser, self.gateway, self.user = browser, gateway, user
        browser.call("Page.enable")
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.resize(DESKTOP)
        browser.navigate(f"{gateway.admin_url}{path}?user={user}")
        self.until("document.querySelector('#status').textContent === 'Connected'", "the page to connect")

    def resize(self, size, scheme="light"):
        width, height = size
        self.browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def js(self, expression):
        return self.browser.evaluate(expression)

    def until(self, expression, what=None, timeout=10):
        return until(lambda: self.js(f"(() => {{ try {{ const v = {expression}; return v instanceof Node || v }} catch {{ return null }} }})()"), what or expression, timeout)

    def click(self, selector):
        self.until(f"document.querySelector({json.dumps(selector)})?.checkVisibility()", f"{selector} to be there")
        self.browser.click(selector)

    def key(self, name, **more):
        code = KEYS.get(name, 0)
        text = {"Enter": "\r", "+": "+", " ": " "}.get(name)
        press = {"type": "keyDown" if text else "rawKeyDown", "key": name, "windowsVirtualKeyCode": code, **more}
        self.browser.call("Input.dispatchKeyEvent", **press, **({"text": text} if text else {}))
        self.browser.call("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code, **more)

    def type(self, text):
        self.browser.call("Input.insertText", text=text)

    def focused(self):
        return self.js("(() => { const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.textContent.trim().slice(0, 80); })()")

    def focus_is_seen(self):
        return self.js("(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2; })()")

    def tab_to(self, name, limit=60):
        """Presses Tab until something of this id or name has the focus, which must be seen everywhere on the way."""
        for _ in range(limit):
            self.key("Tab")
            if self.js("document.activeElement !== document.body"):
                hidden = self.js("document.activeElement.matches('.kinds input, .marker')")
                assert hidden or self.focus_is_seen(), f"no focus ring: {self.focused()}"
            if name[:1] == "#" and self.js(f"document.activeElement.matches({json.dumps(name)})") or name in (self.focused() or ""):
                return
        raise AssertionError(f"Tab does not reach {name!r}, but {self.focused()!r}")

    def check(self):
        assert self.js(CHECKS) == []
        for scheme in ("light", "dark"):
            self.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            contrast = self.js(CONTRAST)
            assert contrast["count"] > 5 and contrast["found"] == [], (scheme, contrast)
        self.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])

    def wrong(self):
        return self.js("window.wrong")

    def shoot(self, path):
        self.js("document.activeElement.blur()")
        png = base64.b64decode(self.browser.call("Page.captureScreenshot", format="png")["data"])
        n_colors = colors(png)
        assert n_colors > 20, f"{path.name} is blank: {n_colors} colors"
        assert len(png) < 200_000, f"{path.name}: {len(png)} bytes"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)


def colors(png):
    """How many different values of four bytes the filtered lines of a PNG have: few if it is of one color."""
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    lines = zlib.decompress(data)
    return len({lines[i : i + 4] for i in range(0, len(lines) - 4, 4)})


@pytest.fixture
def second(browser, tmp_path):  # noqa: F811
    other = Browser(tmp_path / "second")
    yield other
    other.close()


@pytest.fixture
def images(tmp_path):
    return IMAGES if os.environ.get("TIDEGATE_SCREENSHOTS") else tmp_path / "images"


def dev(start_gateway, *apps):
    return start_gateway(command="dev", args=[word for app in apps for word in ("--app", app)])


def start_room(window, kind, people, name=None, is_public=False):
    window.click("#new-room")
    window.js(f"document.querySelector('input[value={kind}]').click()")
    if name:
        window.browser.fill("#name", name)
    if is_public:
        window.js("document.querySelector('[name=public]').click()")
    for person in people:
        window.js(f"document.querySelector('#people input[value=\"{person}\"]').click()")
    window.js("document.querySelector('#new-dialog form').requestSubmit()")
    window.until("!document.querySelector('#new-dialog').open && !document.querySelector('#room').hidden", f"the room {name}: {window.js('document.querySelector(`#new-dialog .error`).textContent')}")


def say(window, text):
    window.browser.fill("#text", text)
    window.js("document.querySelector('#composer').requestSubmit()")
    return message(window, text)


def message(window, text):
    """The id of the message that says this."""
    found = f"[...document.querySelectorAll('.message')].find((m) => m.querySelector('.content')?.innerText.trim() === {json.dumps(text)})?.dataset.id"
    return window.until(found, f"the message {text!r}")


def act(window, identifier, name):
    window.js(f"document.querySelector('[data-id=\"{identifier}\"]').focus()")
    window.click(f'[data-id="{identifier}"] [data-act="{name}"]')


def rooms(window):
    return window.js("[...document.querySelectorAll('.room')].map((r) => [r.querySelector('.name').textContent, r.querySelector('.last').textContent, parseInt(r.querySelector('.unread')?.textContent || 0)])")


def open_room(window, name):
    window.until(f"[...document.querySelectorAll('.room')].find((r) => r.querySelector('.name').textContent === {json.dumps(name)})", f"the room {name}")
    window.js(f"[...document.querySelectorAll('.room')].find((r) => r.querySelector('.name').textContent === {json.dumps(name)}).click()")


@pytest.mark.timeout(180)
def test_two_people_chat(start_gateway, browser, second, images):  # noqa: F811
    """Everything of the chat page, with two people; nothing on the console, nothing that the policy forbids; the screenshots."""
    gateway = dev(start_gateway, "chat")
    ana, ben = Window(browser, gateway, 1), Window(second, gateway, 2)
    ana.until("!document.querySelector('#no-rooms').hidden", "the empty list")
    ana.check()

    # A direct chat: the other one sees it unread, opens it, and the ticks change.
    start_room(ana, "OneToOneChat", [2])
    first = say(ana, "Is the <b>pilot</b> boat in? https://tide.example/log & more")
    assert ana.js(f"document.querySelector('[data-id=\"{first}\"] .content a').href") == "https://tide.example/log"
    until(lambda: rooms(ben) == [["Ana Lima", "Is the <b>pilot</b> boat in? https://tide.example/log & more", 1]], f"Ben's list: {rooms(ben)}")
    ana.until(f"document.querySelector('[data-id=\"{first}\"] [data-state=delivered]')", "the tick of delivery")
    open_room(ben, "Ana Lima")
    ana.until(f"document.querySelector('[data-id=\"{first}\"] [data-state=read]')?.title === 'Read by Ben Okafor'", "the tick of reading")
    until(lambda: rooms(ben)[0][2] == 0, "nothing unread")
    assert rooms(ben)[0][0] == "Ana Lima"

    # Typing, reply, reaction, edit, delete.
    ben.js("document.querySelector('#text').focus()")
    ben.type("Yes")
    ana.until("document.querySelector('#typing').textContent.startsWith('Ben Okafor is typing')", "Ben typing")
    act(ben, first, "reply")
    assert "Ana Lima" in ben.browser.text("#context-title")
    answer = say(ben, "Yes, since six")
    ana.until(f"document.querySelector('[data-id=\"{answer}\"] .quote')?.textContent.includes('pilot')", "the quoted message")
    act(ana, answer, "react")
    ana.click(f'[data-id="{answer}"] [data-act="react-❤"]')
    ben.until(f"document.querySelector('[data-id=\"{answer}\"] .reactions button')?.textContent === '❤ 1'", "the reaction")
    ana.click(f'[data-id="{answer}"] .reactions button')
    ben.until(f"!document.querySelector('[data-id=\"{answer}\"] .reactions')", "the reaction to go")
    act(ben, answer, "edit")
    assert ben.js("document.querySelector('#text').value") == "Yes, since six"
    say(ben, "Yes, since seven")
    assert message(ana, "Yes, since seven") == answer
    ana.until(f"document.querySelector('[data-id=\"{answer}\"] .meta').textContent.includes('edited')", "the word edited")
    gone = say(ben, "wrong room")
    message(ana, "wrong room")
    act(ben, gone, "delete")
    ben.click("#confirm")
    ana.until(f"!document.querySelector('[data-id=\"{gone}\"]')", "the message to go")
    assert not ana.js(f"!!document.querySelector('[data-id=\"{answer}\"] [data-act=delete]')"), "others' messages cannot be deleted"

    # A group, its members, and an error in words.
    start_room(ana, "GroupChat", [2], "Harbor team")
    say(ana, "Morning! Who takes the early ferry?")
    open_room(ben, "Harbor team")
    say(ben, "Me. Back at noon.")
    ana.click("#details")
    ana.until("document.querySelectorAll('#members li').length === 2", "two members")
    ana.click("#add-button")
    ana.until("document.querySelectorAll('#members li').length === 3", "three members")
    assert ana.js("document.querySelector('#members').textContent").count("Remove") == 2
    ana.check()
    ana.js("document.querySelector('#members button').click()")
    ana.until("document.querySelectorAll('#members li').length === 2", "one member fewer")
    ben.until("!document.querySelector('#toast').hidden && document.querySelector('#toast').textContent.includes('removed')", "Ben to be told")
    ben.until("document.querySelector('#room').hidden", "the room to close for Ben")
    ana.js("document.querySelector('#add').value = '2'; document.querySelector('#add-button').click()")
    ana.until("document.querySelectorAll('#members li').length === 3 || [...document.querySelectorAll('#members li')].some((m) => m.textContent.includes('Ben'))", "Ben back")
    ana.js("document.querySelector('#add-button').checkVisibility() && document.querySelector('#add-button').click()")
    ana.until("document.querySelectorAll('#members li').length === 3", "everybody in")
    ana.js("document.querySelector('#details-dialog').close()")
    ben.click("#join-room")
    ben.browser.fill("#join-id", "not-an-id")
    ben.js("document.querySelector('#join-dialog form').requestSubmit()")
    ben.until("document.querySelector('#join-dialog .error').textContent", "an error in words")
    assert ben.browser.text("#join-dialog .error") == "This is not the id of a channel."
    ben.js("document.querySelector('#join-dialog').close()")

    # A public channel is joined by its id.
    start_room(ana, "Channel", [], "Tide tables", is_public=True)
    ana.click("#details")
    identifier = ana.until("document.querySelector('#room-id').value", "the channel's id")
    ana.js("document.querySelector('#details-dialog').close()")
    say(ana, "High water at 14:20, low water at 20:35.")
    ben.click("#join-room")
    ben.browser.fill("#join-id", identifier)
    ben.js("document.querySelector('#join-dialog form').requestSubmit()")
    ben.until("document.querySelector('#room-name').textContent === 'Tide tables'", "Ben in the channel")
    assert ben.js("document.querySelector('#composer').hidden"), "only moderators write"

    # For the picture.
    open_room(ana, "Harbor team")
    open_room(ben, "Harbor team")
    for window, text in [(ana, "Perfect. The crane is booked from ten."), (ana, "Could you bring the spare radio?"), (ben, "Will do. It is charged, too.")]:
        say(window, text)
    act(ana, message(ana, "Will do. It is charged, too."), "react")
    ana.click(f'[data-id="{message(ana, "Will do. It is charged, too.")}"] [data-act="react-✔"]')
    ben.until("document.querySelector('.reactions')", "the reaction in the picture")
    act(ana, message(ana, "Me. Back at noon."), "reply")
    say(ana, "Thank you, Ben!")
    message(ben, "Thank you, Ben!")
    ana.until("!document.querySelector('[data-state=delivered], [data-state=sent]') && !document.querySelector('#typing').textContent", "all read")
    ana.js("document.querySelector('#toast').hidden = true")
    ana.shoot(images / "chat-desktop.png")
    for size in (NARROW, PHONE):
        ana.resize(size)
        ana.check()
        assert ana.js("[document.querySelector('#sidebar').checkVisibility(), document.querySelector('#main').checkVisibility()]") == [False, True]
        ana.js("document.querySelector('#scroll').scrollTop = 1e6")
    ana.shoot(images / "chat-phone.png")
    ana.click("#back")
    assert ana.js("[document.querySelector('#sidebar').checkVisibility(), document.querySelector('#main').checkVisibility()]") == [True, False]
    ana.check()
    assert ana.wrong() == [] and ben.wrong() == []


@pytest.mark.timeout(120)
def test_chat_by_keyboard_and_after_a_break(start_gateway, browser):  # noqa: F811
    """A room is made, a message sent, a reaction given without a mouse; after a cut the page comes back with what was said meanwhile."""
    gateway = dev(start_gateway, "chat,alerts")
    assert requests.get(f"{gateway.admin_url}/alerts/", timeout=5).status_code == 200
    ana = Window(browser, gateway, 1)
    ana.tab_to("new-room")
    ana.key("Enter")
    ana.until("document.querySelector('#new-dialog').open")
    ana.key("ArrowRight")
    ana.until("document.querySelector('#new-name').checkVisibility()", "the kind by arrow key")
    ana.tab_to("name")
    ana.type("Night watch")
    ana.key("Enter")
    ana.until("document.activeElement.id === 'text'", "the focus in the new room")
    ana.type("All calm")
    ana.key("Enter")
    sent = message(ana, "All calm")
    assert ana.focused() == "text"
    assert ana.focus_is_seen()
    ana.js("document.querySelector('#details').focus()")
    ana.tab_to("You, ")
    ana.key("Enter")
    assert ana.focused() == "Reply"
    ana.key("ArrowRight")
    assert ana.focused() == "React"
    ana.key("Enter")
    assert ana.focused() == "React with ❤"
    ana.key("Enter")
    ana.until("document.querySelector('.reactions')", "the reaction")
    assert ana.focused().startswith("You, ")
    ana.key("Escape")
    assert ana.focused() == "text"
    ana.key("Escape")
    ana.until("document.activeElement.classList.contains('room')", "the focus on the room in the list")
    start_room(ana, "Channel", [], "Notices")
    ana.key("Escape")
    ana.until("document.activeElement.classList.contains('room')")
    ana.key("Home")
    ana.key("ArrowDown")
    moved = ana.focused()
    ana.key("ArrowUp")
    assert ana.focused() != moved
    assert ana.js("document.querySelectorAll('.room[tabindex=\"0\"]').length") == 1

    # Cut, and back: the same room is open, and what was said meanwhile is there once.
    open_room(ana, "Night watch")
    users = gateway.address["examples"]["users"]
    room = ana.js("[...document.querySelectorAll('.room')].find((r) => r.querySelector('.name').textContent === 'Night watch').dataset.id")
    with connect(f"{gateway.address['examples']['chat']['url']}?token={users[1]['token']}", proxy=None) as ben:
        ana.click("#details")
        ana.js("document.querySelector('#add').value = '2'; document.querySelector('#add-button').click()")
        ana.until("document.querySelectorAll('#members li').length === 2", "Ben in the room")
        ana.js("document.querySelector('#details-dialog').close()")
        ana.js("window.states = []; new MutationObserver(() => states.push(document.querySelector('#status').textContent)).observe(document.querySelector('#status'), {childList: true, characterData: true, subtree: true})")
        key = {"access_key": "tidegate", "secret": "tidegate-secret"}
        [open_now] = tidegate(gateway, "connections", "ls", "--user", "1", **key)
        tidegate(gateway, "connections", "kick", open_now["connection_id"], "--code", "1001", **key)
        ben.send(json.dumps({"event_type": "message.send", "data": {"room_id": room, "content": "Light on the pier"}}))
        ana.until("states.includes('Reconnecting')", "the page to notice")
        ana.until("document.querySelector('#status').textContent === 'Connected'", "the page to come back", 20)
        message(ana, "Light on the pier")
    said = ana.js("[...document.querySelectorAll('.message .content')].map((c) => c.textContent)")
    assert said == ["All calm", "Light on the pier"]
    assert ana.js("document.querySelector('#room-name').textContent") == "Night watch"
    assert ana.js("document.querySelector('#send').disabled") is False
    assert ana.wrong() == []


@pytest.mark.timeout(180)
def test_alerts_on_list_and_map(start_gateway, browser, second, images):  # noqa: F811
    """Alerts arrive, are on the map, are answered; roles decide who gets them; the forms publish; the screenshots."""
    gateway = dev(start_gateway, "alerts")
    ana = Window(browser, gateway, 1)
    chen = Window(second, gateway, 3)
    ana.until("document.querySelector('#heartbeat').textContent.startsWith('Heartbeat ')", "a heartbeat")
    ana.check()
    assert ana.js("document.querySelectorAll('#map .me').length") == 1

    examples = requests.get(f"{gateway.admin_url}/dev.json", timeout=5).json()
    assert gateway.address["examples"]["alerts"]["url"] == examples["alerts"]["url"]
    publisher = {"Authorization": f"Bearer {examples['alerts']['publisher']}"}

    def publish(alert, **selectors):
        reply = requests.post(f"{examples['alerts']['base']}/api/alerts/publish", json={**(selectors or {"channel": "authority"}), "alert": alert}, headers=publisher, timeout=5)
        assert reply.status_code == 200, reply.text
        return reply.json()

    titles = "[...document.querySelectorAll('.alert h3')].map((h) => h.textContent)"
    hostile = "<img src=x onerror=wrong.push(1)>"
    publish({"type": "safety_alert", "alert_id": "a1", "tourist_id": 9, "tourist_name": hostile, "severity": "low", "safety_score": 71, "location": {"lat": 38.79, "lon": -9.39}})
    ana.until(f"{titles}.length === 1", "the first alert")
    # S3-43
    assert ana.js(titles) == [f"{hostile} may be in danger"], "fields of alerts are text"
    publish({"type": "safety_alert", "alert_id": "a1", "tourist_id": 9, "tourist_name": "Noah Berg", "severity": "low", "safety_score": 71, "location": {"lat": 38.79, "lon": -9.39}})
    publish({"type": "alert", "alert_id": "a2", "tourist_name": "Lucia Prado", "alert_type": "broadcast_help_request", "severity": "medium", "title": "Car broken down", "description": "Two people wait beside the coast road.", "location": {"lat": 38.57, "lon": -9.19}})
    publish({"type": "sos_alert", "alert_id": "a3", "tourist_id": "7", "tourist_name": "Maria Duarte", "severity": "critical", "location": {"lat": 38.445, "lon": -9.1}})
    publish({"type": "retrain_complete"}, channel="tourists")
    ana.until(f"{titles}.length === 3", "three alerts")
    assert ana.js(titles)[0] == "SOS from Maria Duarte"
    marks = "[...document.querySelectorAll('#map .marker')].map((m) => m.getAttribute('aria-label'))"
    labels = ana.js(marks)
    assert len(labels) == 3 and any(label.startswith("Critical: SOS from Maria Duarte, at 38.445° N, 9.100° W") for label in labels), labels
    chen.until(f"{titles}.length === 1", "the visitor's own channel")
    assert chen.js(titles) == ["Training has ended"]

    # An area broadcast by the page's own form reaches who is there: Chen is in Cascais, Ana in Lisbon.
    ana.click("#publish")
    ana.check()
    ana.js("document.querySelector('input[value=broadcast]').click()")
    for selector, value in [("#title", "High surf on the coast"), ("#lat", "38.70"), ("#lon", "-9.45"), ("#radius", "12")]:
        ana.browser.fill(selector, value)
    ana.check()
    ana.js("document.querySelector('#publish-dialog form').requestSubmit()")
    ana.until("document.querySelector('#toast').textContent === 'Sent to one person in the area.'", f"the result: {ana.js('document.querySelector(`#publish-dialog .error`).textContent')}")
    chen.until(f"{titles}.includes('High surf on the coast')", "the broadcast")
    assert not ana.js(f"{titles}.includes('High surf on the coast')")
    assert chen.js("document.querySelectorAll('#map .area').length") == 1
    chen.check()
    chen.click(".alert [data-act=safe]")
    chen.until("document.querySelector('.said')?.textContent.startsWith('You answered “I am safe”')", "the answer")
    assert chen.js("document.querySelector('.alert [data-act=safe]').getAttribute('aria-pressed')") == "true"
    # Whoever needs help is an alert of its own to the authorities, with the position.
    chen.click(".alert [data-act=need_help]")
    ana.until(f"{titles}.length === 4", "the call for help")
    broadcast = chen.js("document.querySelector('.alert:has([data-act=safe])').dataset.id")
    details = requests.get(f"{examples['alerts']['base']}/api/broadcast/{broadcast}", headers=publisher, timeout=5).json()
    assert details["status_breakdown"] == {"need_help": 1}, details

    # The alert form, and a wider broadcast for the picture.
    ana.click("#publish")
    ana.js("document.querySelector('input[value=alert]').click()")
    ana.js("document.querySelector('#severity').value = 'high'")
    for selector, value in [("#person", "Joana Reis"), ("#message", "Slipped on the rocks and cannot walk."), ("#lat", "38.64"), ("#lon", "-8.95")]:
        ana.browser.fill(selector, value)
    ana.js("document.querySelector('#publish-dialog form').requestSubmit()")
    ana.until(f"{titles}.includes('SOS from Joana Reis')", "the alert of the form")
    body = {"title": "High surf on the coast", "message": "Stay away from the shore until the evening.", "severity": "high", "action_required": "Leave beaches and piers.", "center_latitude": 38.69, "center_longitude": -9.32, "radius_km": 22}
    sent = requests.post(f"{examples['alerts']['base']}/api/broadcast/radius", json=body, headers=publisher, timeout=5).json()
    assert sent["tourists_notified"] == 2, sent
    ana.until(f"{titles}[0] === 'High surf on the coast'", "the broadcast for both")

    # Map and list by keyboard: the marker chooses in the list, arrows move, keys zoom.
    before = ana.js("document.querySelector('#map .land').getAttribute('transform')")
    ana.tab_to("#map")
    for key in ("+", "ArrowRight"):
        ana.key(key)
        after = ana.js("document.querySelector('#map .land').getAttribute('transform')")
        assert after != before, key
        before = after
    ana.tab_to("Critical: SOS from Maria Duarte")
    ana.key("Enter")
    ana.until("document.activeElement.dataset.id === 'a3'", "the alert in the list")
    ana.key("ArrowDown")
    assert ana.js("document.activeElement.classList.contains('alert') && document.activeElement.dataset.id !== 'a3'")
    ana.click("#move")
    ana.until("document.querySelector('#toast').textContent.startsWith('You are at ')", "the new position")
    ana.click("#fit")
    ana.js("document.querySelector('#toast').hidden = true; document.querySelector('#list-pane').scrollTop = 0")
    ana.shoot(images / "alerts-desktop.png")
    for size in (NARROW, PHONE):
        ana.resize(size)
        for view in ("list", "map"):
            ana.click(f".views [data-view={view}]")
            ana.check()
            assert ana.js(f"['list', 'map'].map((v) => document.querySelector('#' + v + '-pane').checkVisibility())") == [view == "list", view == "map"]
    ana.click("#fit")
    ana.click(".views [data-view=list]")
    ana.js("document.querySelector('#list-pane').scrollTop = 0")
    ana.shoot(images / "alerts-phone.png")

    # Nothing that happened looks like a failure to the gateway.
    assert tidegate(gateway, "journal", "ls", "--failures", access_key="tidegate", secret="tidegate-secret") == []

    # A page that comes late gets what was missed.
    late = Window(second, gateway, 2)
    late.until(f"{titles}.length >= 5", "missed alerts")
    assert ana.wrong() == [] and late.wrong() == []


@pytest.mark.timeout(60)
def test_the_checks_find_what_is_wrong(start_gateway, browser):  # noqa: F811
    """What the other tests rely on: pale text, a button without a name, a page that is too wide, a script of another origin."""
    ana = Window(browser, dev(start_gateway, "chat"), 1)
    ana.check()
    ana.js("document.styleSheets[0].insertRule('.hint { color: #b0b8ba !important }', document.styleSheets[0].cssRules.length)")
    assert any("no-rooms" in found for found in ana.js(CONTRAST)["found"])
    ana.js("document.querySelector('.tools').append(document.createElement('button'))")
    assert any(found.startswith("no name") for found in ana.js(CHECKS))
    ana.js("document.querySelector('#sidebar').style.width = '2000px'")
    assert any(found.startswith("outside") for found in ana.js(CHECKS))
    ana.js("document.head.append(Object.assign(document.createElement('script'), {src: 'http://127.0.0.1:9/x.js'}))")
    ana.until("wrong.some((one) => one.startsWith('policy: script-src'))", "the policy to forbid it")
    ana.js("fetch('http://127.0.0.1:9/').catch(() => {}) && 0")
    ana.until("wrong.some((one) => one.startsWith('policy: connect-src'))", "the policy to forbid it")


@pytest.mark.timeout(60)
def test_tokens_are_for_pages_of_this_machine_only(start_gateway):
    """A name that somebody made point here gets no tokens; the policy of the pages names the public listener and nothing else."""
    gateway = dev(start_gateway, "alerts", "chat")
    url = f"{gateway.admin_url}/dev.json"
    assert requests.get(url, headers={"Host": "evil.example"}, timeout=5).status_code == 403
    data = requests.get(url, timeout=5).json()
    assert [user["role"] for user in data["users"]] == ["authority", "admin", "tourist"]
    page = requests.get(f"{gateway.admin_url}/chat/", timeout=5)
    policy = page.headers["Content-Security-Policy"]
    assert f"connect-src 'self' http://127.0.0.1:{gateway.port} ws://127.0.0.1:{gateway.port}" in policy and "unsafe" not in policy
    assert "<title>Alerts</title>" in requests.get(f"{gateway.admin_url}/", timeout=5).text, "the first that is named is at /"
    printed = (gateway.directory / "stdout").read_text()
    for name in ("Alerts", "Chat", "ana", "ben", "chen", "publisher"):
        assert f"  {name} " in printed, printed
    assert f"http://{gateway.address['admin']}/chat/" in printed
    # Each of them is good at both applications.
    token = gateway.address["examples"]["users"][2]["token"]
    for name in ("chat", "alerts"):
        checked = requests.get(f"http://127.0.0.1:{gateway.port}{data[name]['path']}?token={token}", headers={"Tidegate-Check": "1"}, timeout=5)
        assert checked.status_code == 200, (name, checked.text)


@pytest.mark.timeout(60)
def test_the_configuration_counts(start_gateway, tmp_path):
    """Tokens are signed as [jwt] says; only pages of `allowed_origins` may call the alerts from a browser; without a secret there is no start."""
    jwt = f'[jwt]\nsecret = "{SECRET}"\nissuer = "login.example"\naudience = "tide"\n'
    gateway = start_gateway(jwt + '[apps.alerts]\nallowed_origins = ["https://app.example"]\n', command="dev", args=["--app", "alerts", "--app", "chat"])
    examples = gateway.address["examples"]
    claims = json.loads(base64.urlsafe_b64decode(examples["users"][0]["token"].split(".")[1] + "=="))
    assert (claims["iss"], claims["aud"], claims["user_id"], claims["exp"] - claims["iat"]) == ("login.example", "tide", "1", 900)
    publish = f"{examples['alerts']['base']}/api/alerts/publish"
    for origin, allowed in [("https://app.example", "https://app.example"), ("https://other.example", None)]:
        question = requests.options(publish, headers={"Origin": origin, "Access-Control-Request-Method": "POST"}, timeout=5)
        assert (question.status_code, question.headers.get("Access-Control-Allow-Origin")) == (204, allowed)
        assert question.headers["Access-Control-Allow-Methods"] == "POST"
        headers = {"Origin": origin, "Authorization": f"Bearer {examples['alerts']['publisher']}"}
        answer = requests.post(publish, headers=headers, json={"channel": "authority", "alert": {"type": "x"}}, timeout=5)
        assert (answer.status_code, answer.headers.get("Access-Control-Allow-Origin")) == (200, allowed), answer.text
    assert requests.options(publish, timeout=5).status_code == 405, "not a browser's question"
    (tmp_path / "keys.json").write_text('{"keys": []}')
    with pytest.raises(AssertionError, match="ended with 1 before it was ready") as ended:
        start_gateway(f'[jwt]\njwks_file = "{tmp_path}/keys.json"\n', command="dev", args=["--app", "chat"])
    assert "no secret that could sign" in str(ended.value)


@pytest.mark.timeout(60)
def test_a_long_history(start_gateway, browser):  # noqa: F811
    """Earlier messages come page by page, in order, each once; unread ones are counted, and read when the room is opened."""
    gateway = dev(start_gateway, "chat")
    examples = gateway.address["examples"]
    with connect(f"{examples['chat']['url']}?token={examples['users'][1]['token']}", proxy=None) as ben:
        ben.send(json.dumps({"event_type": "room.create", "data": {"type": "GroupChat", "name": "Log", "participants": [1]}}))
        while True:
            frame = json.loads(ben.recv(5))
            if frame["eventType"] == "roomcreate.dispatch":
                break
        for number in range(70):
            ben.send(json.dumps({"event_type": "message.send", "data": {"room_id": frame["data"]["id"], "content": f"entry {number}"}}))
        until(lambda: json.loads(ben.recv(5))["data"].get("content") == "entry 69", "the last entry")
        ana = Window(browser, gateway, 1)
        until(lambda: rooms(ana) == [["Log", "Ben: entry 69", 30]], f"unread: {rooms(ana)}")
        assert ana.js("document.title") == "(30) Chat"
        open_room(ana, "Log")
        contents = "[...document.querySelectorAll('.message .content')].map((c) => c.textContent)"
        for count in (30, 60, 70):
            ana.until(f"{contents}.length === {count}", f"{count} messages")
            assert ana.js(contents) == [f"entry {number}" for number in range(70 - count, 70)]
            if count < 70:
                ana.click("#older")
        ana.until("document.querySelector('#older').hidden", "nothing earlier")
        assert ana.wrong() == []
