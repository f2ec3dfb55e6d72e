"""Plays the events of chat clients to two servers at once and compares every frame that every client gets.

A *side* is one server with one connection for each *label* of a script. After each event both sides are made quiet:

1. `session.heartbeat` on the acting connection. The server handles the events of one connection one after the other, so its
   answer says that the event is done and that all it causes is on its way.
2. A barrier for all connections: another connection, the gate's, types in a room of which everybody in the script is a member.
   Whatever was on its way to a connection comes before that typing, since there is one queue for each connection.
   (A heartbeat on the other connections would not do: the package answers heartbeats past its queue.)

The room of the barrier is left out of the room lists, and its frames out of everything.
"""

import json
import re
import uuid

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from . import chat_people

DEADLINE = 15.0
UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b|\b[0-9a-fA-F]{32}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
GOOD_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
NOTHING = object()


class Any:
    """Equal to every value."""

    def __repr__(self):
        return "..."


ANY = Any()


class Part:
    """An object with at least these members."""

    def __init__(self, **members):
        self.members = members

    def __repr__(self):
        return f"Part({self.members})"


def matches(pattern, value):
    if pattern is ANY:
        return True
    if isinstance(pattern, Part):
        return isinstance(value, dict) and all(name in value and matches(want, value[name]) for name, want in pattern.members.items())
    if isinstance(pattern, dict):
        return isinstance(value, dict) and pattern.keys() == value.keys() and all(matches(want, value[name]) for name, want in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and len(pattern) == len(value) and all(map(matches, pattern, value))
    return type(pattern) is type(value) and pattern == value


class Client:
    """One WebSocket connection; remembers how it ended."""

    def __init__(self, url, **options):
        self.closed = None
        self.socket = connect(url, proxy=None, compression=None, max_size=None, ping_interval=None, open_timeout=DEADLINE, **options)
        self.socket.__enter__()

    def send(self, data):
        """Text, bytes, or anything that becomes JSON."""
        if not isinstance(data, str | bytes):
            data = json.dumps(data)
        try:
            self.socket.send(data)
        except ConnectionClosed as end:
            self._ended(end)

    def event(self, event_type, data=NOTHING):
        event = {"event_type": event_type}
        if data is not NOTHING:
            event["data"] = data
        self.send(event)

    def frame(self, timeout=DEADLINE):
        """The next frame, or None at the end of the connection."""
        try:
            return json.loads(self.socket.recv(timeout))
        except ConnectionClosed as end:
            self._ended(end)
            return None

    def until(self, last):
        """All frames up to the one that `last` accepts, without it; fewer when the connection ends before."""
        frames = []
        while (frame := self.frame()) is not None:
            if last(frame):
                return frames
            frames.append(frame)
        return frames

    def _ended(self, end):
        # What the server sent, or what the library says when nothing was sent.
        self.closed = (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")

    def close(self):
        self.socket.close()


def is_heartbeat(frame):
    return frame == {"status": "success"}


class Side:
    """One server, the connections of one script to it, and the names of the ids it gave."""

    def __init__(self, server, people, words=None):
        self.server = server
        self.people = people
        self.words = words or {}
        self.clients = {}
        self.numbers = {}
        self.count = 0
        self.fresh = []
        gate = chat_people.person(people["gate"])["username"]
        self.is_barrier = lambda frame: frame.get("eventType") == "messagetyping.dispatch" and frame["data"]["username"] == gate
        self.gate = Client(server.url(chat_people.token(people["gate"])))
        if server.notifications:
            assert self.gate.frame()["eventType"] == "chat.notifications"
        self.gate.event("room.create", {"type": "GroupChat", "name": "barrier", "participants": list(people.values())})
        made = self.gate.frame()
        assert made["eventType"] == "roomcreate.dispatch" and len(made["data"]["participants"]) == len(people), made
        self.barrier_room = made["data"]["id"]

    def open(self, label, person):
        client = Client(self.server.url(chat_people.token(self.people[person])))
        self.clients[label] = client
        frames = []
        if self.server.notifications:
            frames.append(client.frame())
        return frames

    def heartbeat(self, label):
        """Frames of this connection up to the answer to a heartbeat."""
        client = self.clients[label]
        client.event("session.heartbeat")
        return client.until(is_heartbeat)

    def barrier(self):
        """Label to frames of all connections, up to this moment; those that ended are taken away, with their code as a last frame."""
        self.gate.event("message.typing", {"room_id": self.barrier_room})
        self.gate.until(self.is_barrier)
        found = {}
        for label, client in list(self.clients.items()):
            found[label] = client.until(self.is_barrier)
            if client.closed:
                found[label].append({"closed": client.closed[0]})
                del self.clients[label]
        return found

    def close(self):
        for client in [*self.clients.values(), self.gate]:
            client.close()

    # -- what cannot be the same on two servers ---------------------------------------------------

    def name_of(self, found):
        text = found.group() if isinstance(found, re.Match) else found
        key = uuid.UUID(text)
        if key not in self.numbers:
            self.numbers[key] = f"#{self.count}"
            self.count += 1
            self.fresh.append(key)
        name = self.numbers[key]
        return name if text == str(key) else name + ("~hex" if "-" not in text else "~upper")

    def position(self, item):
        name = self.numbers.get(uuid.UUID(item["id"])) if isinstance(item, dict) and item.get("id") else None
        return int(name[1:]) if name and name[1:].isdigit() else 1 << 30

    def plain(self, value):
        if isinstance(value, dict):
            # In one order on both sides, since ids are named in order of appearance.
            names = sorted((name for name in value if name != "polymorphic_ctype"), key=lambda name: (name != "id", name))
            if names and all(UUID.fullmatch(name) for name in names):
                names.sort(key=lambda name: self.position({"id": name}))
            # S2-41, S2-42: oldest first; the package gives them as its database happens to (by user id on SQLite).
            found = {self.plain(name): self.plain(value[name]) for name in names}
            for name in ("participants", "subscribers", "admins", "moderators"):
                if isinstance(found.get(name), list):
                    found[name].sort(key=lambda user: user["id"])
            if isinstance(found.get("delivered_to"), list):
                found["delivered_to"].sort()
            return found
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if isinstance(value, str):
            if TIME.fullmatch(value):
                # The package leaves the fraction out when it is zero.
                good = GOOD_TIME.fullmatch(value) or (self.server.name == "package" and value.endswith("Z"))
                return "<time>" if good else f"<wrong form of a time: {value}>"
            return UUID.sub(self.name_of, self.words.get(value, value))
        return value

    def normal(self, frames):
        """Frames of one connection with ids as numbers in order of appearance, without times, in an order where none is promised."""
        for frame in frames:
            data, kind = frame.get("data"), frame.get("eventType")
            if kind in ("messagedelivered.dispatch", "readreceipt.dispatch") and isinstance(data, list):
                data.sort(key=self.position)
            if kind in ("roomaddmembers.dispatch", "roomremovemembers.dispatch"):
                for name in ("new_members", "removed_members"):
                    if name in data:
                        data[name].sort()
            if kind == "roomlist.dispatch":
                rooms = [room for room in data if room["id"] != self.barrier_room]
                # I-27: the package gives rooms without messages in the order of its database.
                silent = sorted((room for room in rooms if room["last_message"]["id"] is None), key=self.position)
                frame["data"] = [room for room in rooms if room["last_message"]["id"] is not None] + silent
        # One frame for each room, the rooms in no order.
        if len(frames) > 1 and all(isinstance(frame.get("data"), list) and frame.get("eventType") == "readreceipt.dispatch" for frame in frames):
            frames.sort(key=lambda frame: self.position(frame["data"][0]))
        return [self.plain(frame) for frame in frames]


class Ref:
    """An id, which each side has its own value of."""

    def __init__(self, values):
        self.values = values

    def map(self, change):
        return Ref([change(value) for value in self.values])

    def upper(self):
        return self.map(str.upper)

    def hex(self):
        return self.map(lambda value: value.replace("-", ""))


def resolve(value, side):
    if isinstance(value, Ref):
        return value.values[side]
    if isinstance(value, dict):
        return {resolve(name, side): resolve(item, side) for name, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, side) for item in value]
    return value


class Result:
    """What an event caused: `frames[side][label]`, as they came."""

    def __init__(self, frames, actor):
        self.frames = frames
        self.actor = actor

    def ref(self, *path, label=None, frame=0):
        """The value at this path of `data` of a frame, on each side."""
        values = []
        for frames in self.frames:
            value = frames[label or self.actor][frame]["data"]
            for step in path:
                value = value[step]
            values.append(value)
        return Ref(values)

    @property
    def id(self):
        return self.ref("id")


def kind(frame):
    """What a script says it expects: the name of a dispatch, the code of an error, `ok`, `invalid`."""
    if "eventType" in frame:
        return frame["eventType"].removesuffix(".dispatch")
    if frame == {"status": "success"}:
        return "ok"
    if "closed" in frame:
        return f"closed {frame['closed']}"
    error = frame.get("error")
    return error["code"] if isinstance(error, dict) else "invalid"


def blur(frame):
    """The same error without its words: the code and the shape are promised, the words are the library's."""

    def words(value):
        if isinstance(value, dict):
            return {name: words(item) for name, item in value.items()}
        if isinstance(value, list):
            return [words(item) for item in value]
        return "<text>"

    if isinstance(frame.get("error"), dict):
        return {"error": {"code": frame["error"]["code"], "detail": words(frame["error"]["detail"])}}
    return frame


class Play:
    """One script on two servers. `differences` is the table of those that are permitted."""

    def __init__(self, reference, app, people, differences, words):
        self.differences = differences
        self.used = set()
        self.wrong = []
        self.same_program = app.name == reference.name
        self.people = people
        self.steps = 0
        self.sides = []
        for server in (reference, app):
            self.sides.append(Side(server, people, words))

    def __enter__(self):
        return self

    def __exit__(self, kind_of, *_):
        for side in self.sides:
            side.close()
        if kind_of is None:
            assert not self.wrong, f"{len(self.wrong)} differences\n" + "\n".join(self.wrong)

    def id(self, name):
        return self.people[name]

    def username(self, name):
        return chat_people.person(self.people[name])["username"]

    # -- steps ------------------------------------------------------------------------------------

    def open(self, label, person=None, differs=None):
        """A connection of this person (by default of the label's name); gives what it got first."""
        first = [side.open(label, person or label.rstrip("0123456789")) for side in self.sides]
        rest = [side.barrier() for side in self.sides]
        for side, frames in enumerate(first):
            rest[side][label] = frames + rest[side][label]
        return self.compare(f"open {label}", label, rest, None, differs, False)

    def close(self, label):
        for side in self.sides:
            # It may have ended already, on a side that does not survive what was sent.
            if client := side.clients.pop(label, None):
                client.close()
        return self.compare(f"close {label}", None, [side.barrier() for side in self.sides], None, None, False)

    def event(self, label, event_type, data=NOTHING, expect=None, differs=None, loose=False):
        """One event of this connection. `expect` is what it gets back: a kind or a list of kinds."""
        event = {"event_type": event_type}
        if data is not NOTHING:
            event["data"] = data
        return self.raw(label, event, expect, differs, loose)

    def raw(self, label, event, expect=None, differs=None, loose=False):
        """Text, bytes or JSON, sent as it is."""
        found = []
        for number, side in enumerate(self.sides):
            side.clients[label].send(event if isinstance(event, str | bytes) else resolve(event, number))
        for side in self.sides:
            early = side.heartbeat(label)
            if is_beat(event):
                # That was its own answer; the one of the barrier is still to come.
                early += [{"status": "success"}, *side.clients[label].until(is_heartbeat)]
            frames = side.barrier()
            frames[label] = early + frames[label]
            found.append(frames)
        return self.compare(show(event), label, found, expect, differs, loose)

    def batch(self, label, event_type, datas, expect, differs=None, loose=False):
        """Many events without waiting between them, each of which gives this connection one frame of the same kind.

        Errors come in the order of their events, and so do dispatches, but one kind may overtake the other at the package.
        """
        events = []
        for data in datas:
            event = event_type if isinstance(event_type, dict) else {"event_type": event_type}
            events.append(event if data is NOTHING else {**event, "data": data})
        for number, side in enumerate(self.sides):
            for event in events:
                side.clients[label].send(resolve(event, number))
        found = []
        for side in self.sides:
            early = side.heartbeat(label)
            frames = side.barrier()
            frames[label] = early + frames[label]
            found.append(frames)
        if all(len(frames[label]) == len(events) for frames in found):
            others = [{name: got for name, got in frames.items() if name != label} for frames in found]
            for number, event in enumerate(events):
                one = [{label: [frames[label][number]]} for frames in found]
                self.compare(show(event), label, one, expect, differs, loose)
            if not differs:
                self.compare(f"{event_type}: what others got", None, others, None, None, loose)
        else:
            self.compare(f"{event_type} x {len(events)}", label, found, [expect] * len(events), None, loose)

    # -- comparing --------------------------------------------------------------------------------

    def compare(self, what, actor, found, expect, differs, loose):
        self.steps += 1
        result = Result(json.loads(json.dumps(found)), actor)
        first, second = [{label: side.normal(frames[label]) for label in sorted(frames)} for side, frames in zip(self.sides, found, strict=True)]
        n_fresh = [len(side.fresh) for side in self.sides]
        for side in self.sides:
            if differs and n_fresh[0] != n_fresh[1]:
                # Ids that only one side has must not shift the names of all later ones.
                for position, key in enumerate(side.fresh):
                    side.numbers[key] = f"#{self.steps}-only-{side.server.name}-{position}"
                side.count -= len(side.fresh)
            side.fresh = []
        where = f"step {self.steps}: {actor or ''} {what}"
        if expect is not None and actor:
            kinds = [kind(frame) for frame in first[actor]]
            wanted = expect if isinstance(expect, list) else [expect]
            if not differs and kinds != wanted:
                self.wrong.append(f"{where}\n  the script expects {wanted}, the reference gives {first[actor]}")
        if differs:
            self.check_difference(where, differs, actor, first, second)
        else:
            if loose:
                first, second = [{label: [blur(frame) for frame in frames] for label, frames in side.items()} for side in (first, second)]
            if first != second:
                self.wrong.append(where + describe(first, second))
        return result

    def check_difference(self, where, key, actor, first, second):
        difference = self.differences[key]
        self.used.add(key)

        def check(name, pattern, frames):
            if not isinstance(pattern, dict) or "error" in pattern or "eventType" in pattern:
                pattern = {actor: pattern if isinstance(pattern, list) else [pattern]}
            for label, got in frames.items():
                want = pattern.get(label, pattern.get("*", []))
                if not matches(want, got):
                    self.wrong.append(f"{where}\n  permitted difference {key!r}: {label} at the {name} should get {want}, got {brief(got)}")

        check("package", difference.package, first)
        check("package" if self.same_program else "app", difference.package if self.same_program else difference.app, second)
        if not self.same_program and first == second:
            self.wrong.append(f"{where}\n  permitted difference {key!r} ({difference.rows}) does not occur: {brief(first)}")


def is_beat(event):
    if isinstance(event, str):
        return '"session.heartbeat"' in event
    return isinstance(event, dict) and event.get("event_type") == "session.heartbeat"


def show(event):
    if isinstance(event, dict):
        return json.dumps(event, default=lambda ref: ref.values[0], ensure_ascii=False)[:400]
    return repr(event)[:200]


def brief(value):
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) < 1500 else text[:1500] + "..."


def paths(first, second, path=""):
    """Where two values differ: path, value of the package, value of the app."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted(first.keys() | second.keys()):
            yield from paths(first.get(name, "(absent)"), second.get(name, "(absent)"), f"{path}.{name}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from paths(one, other, f"{path}[{number}]")
    elif first != second:
        yield path, first, second


def describe(first, second):
    lines = [f"\n  {path}, package: {brief(one)}\n  {path},     app: {brief(other)}" for path, one, other in paths(first, second)]
    return "".join(lines[:6])
