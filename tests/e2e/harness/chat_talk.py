"""One server, a few people: events and their answers, without a second server to compare with."""

from . import chat_people
from .chat_play import Side, is_heartbeat, kind


class Talk:
    """People of one group at one server. `ask` gives what the acting connection gets; `heard` what each one got."""

    def __init__(self, server, people):
        self.server = server
        self.people = people
        self.side = Side(server, people)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.side.close()

    def id(self, name):
        return self.people[name]

    def username(self, name):
        return chat_people.person(self.people[name])["username"]

    def open(self, *labels):
        """Connections of the people of these names (`ana2` is Ana's, too); what the last one got first."""
        for label in labels:
            first = self.side.open(label, label.rstrip("0123456789"))
        self.side.barrier()
        return first[0]["data"] if first else None

    def close(self, *labels):
        for label in labels:
            self.side.clients.pop(label).close()

    def raw(self, label, event):
        """Sends this and waits until everything it causes has arrived: label to frames."""
        self.side.clients[label].send(event)
        early = self.side.heartbeat(label)
        heard = self.side.barrier()
        heard[label] = early + heard[label]
        return heard

    def heard(self, label, event_type, data):
        return self.raw(label, {"event_type": event_type, "data": data})

    def ask(self, label, event_type, data, expect=None):
        """The only frame that this connection gets; `data` of it for dispatches, else the frame."""
        frames = self.heard(label, event_type, data)[label]
        assert len(frames) == 1, frames
        if expect is not None:
            assert kind(frames[0]) == expect, frames[0]
        return frames[0].get("data", frames[0])

    def refuse(self, label, event_type, data, code):
        """The detail of the error; nobody else hears anything (S2-28, S2-37)."""
        heard = self.heard(label, event_type, data)
        frame = heard.pop(label)
        assert len(frame) == 1 and kind(frame[0]) == code, frame
        assert not any(heard.values()), heard
        return frame[0]["error"]["detail"]

    def room(self, actor, *others, kind="GroupChat", name="Reef", **fields):
        members = "subscribers" if kind == "Channel" else "participants"
        data = {"type": kind, "name": name, members: [self.id(other) for other in others], "extra_fields": fields}
        return self.ask(actor, "room.create", data, "roomcreate")["id"]

    def chat(self, actor, other):
        return self.ask(actor, "room.create", {"type": "OneToOneChat", "participants": [self.id(other)]}, "roomcreate")["id"]

    def send(self, actor, room, content="hello", **fields):
        return self.ask(actor, "message.send", {"room_id": room, "content": content, "extra_fields": fields}, "message")["id"]

    def history(self, actor, room, **paginate):
        data = {"room_id": room, "paginate": paginate} if paginate else {"room_id": room}
        return self.ask(actor, "room.messages", data, "roommessages")["data"]["messages"]

    def rooms(self, actor):
        found = self.ask(actor, "room.list", {}, "roomlist")
        return [room for room in found if room["id"] != self.side.barrier_room]

    def at_once(self, events):
        """Events of several connections, all sent before any answer is read: label to frames."""
        for label, event_type, data in events:
            self.side.clients[label].event(event_type, data)
        early = {}
        for label in {label for label, _, _ in events}:
            client = self.side.clients[label]
            client.event("session.heartbeat")
            early[label] = client.until(is_heartbeat)
        heard = self.side.barrier()
        return {label: early.get(label, []) + frames for label, frames in heard.items()}
