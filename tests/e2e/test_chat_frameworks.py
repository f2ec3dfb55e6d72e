"""S2-129: the small chat client as a component of two frameworks, Vue and React, in headless Chromium: both from their npm packages, as they are."""

import json
import time
from pathlib import Path

import pytest

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_people import sign, token
from harness.wait import until
from test_browser import browser  # noqa: F401 - a fixture

MODULES = Path(__file__).resolve().parents[2] / ".cache/e2e/node/node_modules"
ANA, BEN = (chat_people.group(0)[name] for name in ("ana", "ben"))

# What both share: one socket, and what becomes of a frame. `set` changes the component's state.
CLIENT = r"""
const start = { status: 'connecting', notice: '', rooms: [], messages: [], typing: '', pending: null };

function words(detail) {
  if (typeof detail === 'string') return detail;
  if (Array.isArray(detail)) return detail.join(' ');
  return Object.entries(detail).map(([field, problems]) => `${field}: ${words(problems)}`).join('; ');
}

function connect(url, set) {
  const ws = new WebSocket(url);
  ws.onopen = () => set((state) => ({ ...state, status: 'open' }));
  ws.onclose = ({ code, reason }) => set((state) => ({ ...state, status: code === 4001 ? `log in: ${reason}` : `closed ${code}` }));
  ws.onmessage = ({ data: text }) => {
    const { error, eventType, data } = JSON.parse(text);
    if (error) {
      const said = (kind) => set((state) => ({ ...state, notice: `${kind}: ${words(error.detail)}` }));
      if (error === 'invalid event type') return set((state) => ({ ...state, notice: error }));
      switch (error.code) {
        case 4002: return said('denied');
        case 4003: return said('invalid');
        case 4004: return said('missing');
        case 4005: return said('conflict');
        default: return said(error.code);
      }
    }
    set((state) => {
      const change = (message) => state.messages.map((each) => (each.id === message.id ? message : each));
      switch (eventType) {
        case 'chat.notifications': return { ...state, pending: Object.values(data).flat().length };
        case 'roomcreate.dispatch': return { ...state, rooms: [...state.rooms, data] };
        case 'message.dispatch': return { ...state, messages: [...state.messages, data], typing: '' };
        case 'messagetyping.dispatch': return { ...state, typing: `${data.username} is typing` };
        case 'readreceipt.dispatch': return { ...state, messages: change(data) };
        case 'messagemodification.dispatch':
          return { ...state, messages: data.action === 'delete' ? state.messages.filter(({ id }) => !data.message_ids.includes(id)) : change(data.message) };
        case 'reaction.dispatch': return { ...state, messages: change(data.message) };
        default: return state;
      }
    });
  };
  const say = (event_type, data) => ws.send(JSON.stringify({ event_type, data }));
  return { say, close: () => ws.close(1000) };
}

const shown = (message) => message.reactions.map((each) => each.reaction_content).join('') + (message.read_receipts.length ? ' seen' : '');
"""

VUE = r"""<!doctype html><meta charset="utf-8"><title>vue</title><div id="page"></div>
<script src="/vue.js"></script>
<script>""" + CLIENT + r"""
const { createApp, reactive, ref, onUnmounted } = Vue;

function useChat(url) {
  const state = reactive({ ...start });
  const { say, close } = connect(url, (next) => Object.assign(state, next(state)));
  onUnmounted(close);
  return { state, say };
}

const Chat = {
  props: ['name', 'url'],
  setup({ name, url }) {
    const { state, say } = useChat(url);
    const draft = ref('');
    window.clients[name] = { say };
    const send = () => { say('message.send', { room_id: state.rooms[0].id, content: draft.value }); draft.value = ''; };
    const type = () => say('message.typing', { room_id: state.rooms[0].id });
    return { state, draft, send, type, shown };
  },
  template: `<section :id="name"><p class="status">{{ state.status }}</p><p class="notice">{{ state.notice }}</p><p class="typing">{{ state.typing }}</p><p class="pending">{{ state.pending }}</p>
    <ul class="rooms"><li v-for="room in state.rooms" :key="room.id">{{ room.name ?? room.type }}</li></ul>
    <ul class="messages"><li v-for="message in state.messages" :key="message.id"><i>{{ message.sender.username }}</i> <span v-html="message.content"></span> <u>{{ shown(message) }}</u></li></ul>
    <form @submit.prevent="send"><input v-model="draft" @input="type"><button>send</button></form></section>`,
};

window.clients = {};
const people = reactive([]);
createApp({ components: { Chat }, setup: () => ({ people }), template: '<Chat v-for="person in people" :key="person.name" v-bind="person" />' }).mount('#page');
window.enter = (name, url) => { people.push({ name, url }); return 0; };
window.leave = () => { people.splice(0); return 0; };
</script>
"""

# React publishes modules for bundlers only; three of them need no bundler but a function `require`.
REACT = r"""<!doctype html><meta charset="utf-8"><title>react</title><div id="page"></div>
<script>
window.modules = {};
const require = (name) => window.modules[name];
</script>
<script src="/react.js"></script><script src="/scheduler.js"></script><script src="/react-dom.js"></script><script src="/react-dom-client.js"></script>
<script>""" + CLIENT + r"""
const { createElement: h, useEffect, useRef, useState } = require('react');

function useChat(url) {
  const [state, set] = useState(start);
  const client = useRef(null);
  useEffect(() => {
    client.current = connect(url, set);
    return client.current.close;
  }, [url]);
  return { state, say: (type, data) => client.current.say(type, data) };
}

function Chat({ name, url }) {
  const { state, say } = useChat(url);
  const [draft, setDraft] = useState('');
  window.clients[name] = { say };
  const send = (event) => { event.preventDefault(); say('message.send', { room_id: state.rooms[0].id, content: draft }); setDraft(''); };
  const type = (event) => { setDraft(event.target.value); say('message.typing', { room_id: state.rooms[0].id }); };
  return h('section', { id: name },
    h('p', { className: 'status' }, state.status), h('p', { className: 'notice' }, state.notice), h('p', { className: 'typing' }, state.typing), h('p', { className: 'pending' }, state.pending),
    h('ul', { className: 'rooms' }, state.rooms.map((room) => h('li', { key: room.id }, room.name ?? room.type))),
    h('ul', { className: 'messages' }, state.messages.map((message) => h('li', { key: message.id },
      h('i', null, message.sender.username), ' ', h('span', { dangerouslySetInnerHTML: { __html: message.content } }), ' ', h('u', null, shown(message))))),
    h('form', { onSubmit: send }, h('input', { value: draft, onChange: type }), h('button', null, 'send')));
}

window.clients = {};
function Page() {
  const [people, setPeople] = useState([]);
  window.enter = (name, url) => { setPeople((before) => [...before, { name, url }]); return 0; };
  window.leave = () => { setPeople([]); return 0; };
  return people.map((person) => h(Chat, { key: person.name, ...person }));
}
require('react-dom/client').createRoot(document.querySelector('#page')).render(h(Page));
</script>
"""


def published(name):
    return (MODULES / name).read_text()


def module(name, path):
    """A module of npm as a script."""
    return f"window.modules[{json.dumps(name)}] = ((module) => {{ ((exports) => {{\n{published(path)}\n}})(module.exports); return module.exports; }})({{ exports: {{}} }});"


SCRIPTS = {
    "vue": {"/vue.js": lambda: published("vue/dist/vue.global.prod.js")},
    "react": {
        "/react.js": lambda: module("react", "react/cjs/react.production.js"),
        "/scheduler.js": lambda: module("scheduler", "scheduler/cjs/scheduler.production.js"),
        "/react-dom.js": lambda: module("react-dom", "react-dom/cjs/react-dom.production.js"),
        "/react-dom-client.js": lambda: module("react-dom/client", "react-dom/cjs/react-dom-client.production.js"),
    },
}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("framework, page", [("vue", VUE), ("react", REACT)])
def test_two_people_in_a_framework(tmp_path, browser, backend, framework, page):  # noqa: F811
    """S2-129, S2-5, S2-28, S2-29: components show what is said, typed, read, reacted to and deleted, errors of each shape, and who has to log in."""
    for path, text in SCRIPTS[framework].items():
        backend.on(path, body=text(), headers=(("Content-Type", "text/javascript; charset=utf-8"),))
    backend.on("/page", body=page, headers=(("Content-Type", "text/html; charset=utf-8"),))
    with ChatApp(tmp_path / "gateway") as app:
        app.introduce([chat_people.person(ANA), chat_people.person(BEN)])
        browser.navigate(backend.url + "/page")
        until(lambda: browser.evaluate("typeof window.enter") == "function", "the page")

        def see(selector, expected):
            script = f"Array.from(document.querySelectorAll({json.dumps(selector)}), (each) => each.textContent.trim())"
            until(lambda: browser.evaluate(script) == expected, f"{selector}: {expected} (now {browser.evaluate(script)})")

        def say(name, event_type, data):
            browser.evaluate(f"clients.{name}.say({json.dumps(event_type)}, {json.dumps(data)}), 0")

        def write(name, text):
            """As somebody at the keyboard: the frameworks listen to the events of the input."""
            browser.evaluate(f"""(() => {{
              const input = document.querySelector('#{name} input');
              Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, {json.dumps(text)});
              input.dispatchEvent(new Event('input', {{ bubbles: true }}));
              return 0;
            }})()""")

        for name, number in (("ana", ANA), ("ben", BEN)):
            browser.evaluate(f"enter({json.dumps(name)}, {json.dumps(app.url(token(number)))})")
            see(f"#{name} .status", ["open"])
            see(f"#{name} .pending", ["0"])
        say("ana", "room.create", {"type": "OneToOneChat", "participants": [BEN]})
        for name in ("ana", "ben"):
            see(f"#{name} .rooms li", ["OneToOneChat"])
        ana, ben = (chat_people.person(number)["username"] for number in (ANA, BEN))
        write("ana", "Low tide at <b>six</b><img src=x onerror='window.harm = 1'>")
        see("#ben .typing", [f"{ana} is typing"])
        browser.evaluate("document.querySelector('#ana button').click(), 0")
        for name in ("ana", "ben"):
            see(f"#{name} .messages li", [f"{ana} Low tide at six"])
        see("#ben .typing", [""])
        assert browser.evaluate("[document.querySelectorAll('.messages b').length, document.querySelectorAll('.messages img').length, window.harm ?? 0]") == [2, 0, 0]
        assert browser.evaluate("document.querySelector('#ana input').value") == ""

        client = app.client(BEN)
        (pending,) = [each["message"] for room in client.pending.values() for each in room]
        client.close()
        say("ben", "message.read", {"message_id": pending["id"]})
        see("#ana .messages u", ["seen"])
        say("ben", "message.react", {"type": "add", "message_id": pending["id"], "reaction_content": "+1"})
        see("#ana .messages u", ["+1 seen"])
        say("ben", "message.modify", {"action": "delete", "message_id": pending["id"]})
        see("#ben .notice", ["denied: User is not authorized to modify this message"])
        say("ben", "message.read", {"message_id": pending["id"]})
        see("#ben .notice", ["conflict: Database constraint violated."])
        say("ben", "room.create", {"type": "GroupChat"})
        see("#ben .notice", ["invalid: name: This field is required."])
        say("ben", "room.leave", {"room_id": pending["room"]["id"]})
        see("#ben .notice", ["invalid: You can only leave a channel/group chat"])
        say("ben", "room.info", {"room_id": "11111111-2222-4333-8444-555555555555"})
        see("#ben .notice", ["missing: Resource not found."])
        say("ben", "room.archive", {})
        see("#ben .notice", ["invalid event type"])
        see("#ana .notice", [""])
        say("ana", "message.modify", {"action": "update", "message_id": pending["id"], "extra_fields": {"content": "Low tide at seven"}})
        see("#ben .messages span", ["Low tide at seven"])
        say("ana", "message.modify", {"action": "delete", "message_id": [pending["id"]]})
        see("#ben .messages li", [])

        old = sign({"user_id": ANA, "username": "ana", "exp": int(time.time()) - 3600})
        browser.evaluate(f"enter('late', {json.dumps(app.url(old))})")
        see("#late .status", ["log in: Authentication failed"])
        # Components that leave the page close their sockets.
        assert app.gateway.metric("tidegate_chat_connections") == 2
        browser.evaluate("leave()")
        until(lambda: app.gateway.metric("tidegate_chat_connections") == 0, "no connections")
        browser.navigate("about:blank")
