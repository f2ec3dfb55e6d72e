"""A receiver of the chat's hooks in the standard library alone: a filter of words, push notifications, and `message.pin`.

    CHAT_HOOK_SECRET=s3cret python3 receiver.py 9000

with, in the configuration of the gateway, the table of README.md beside this file.
"""

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["CHAT_HOOK_SECRET"].encode()
REFUSED = ["swindle"]
HIDDEN = ["darn"]
MAX_AGE = 300


def is_ours(headers, body, now=None):
    """HMAC-SHA256 over timestamp and body; an old timestamp is a repetition by somebody else."""
    timestamp = headers.get("X-Tidegate-Timestamp", "")
    expected = hmac.new(SECRET, timestamp.encode() + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, headers.get("X-Tidegate-Signature", "")):
        return False
    return abs((now or time.time()) - int(timestamp)) <= MAX_AGE


def filter_words(call):
    content = call["data"].get("content")
    if not isinstance(content, str):
        return {"allow": True}
    if any(word in content for word in REFUSED):
        return {"allow": False, "error": {"code": 4007, "detail": "Mind your language."}}
    for word in HIDDEN:
        content = content.replace(word, "*" * len(word))
    return {"allow": True, "data": {**call["data"], "content": content}}


def pin(call):
    if not call["room"]:
        return {"allow": False, "error": {"code": 4004, "detail": "Resource not found."}}
    pinned = {"message_id": call["data"]["message_id"], "by": call["user"]["username"]}
    to = {"room": call["room"]["id"]}
    return {"handled": True, "dispatch": [{"to": to, "eventType": "message.pinned", "data": pinned}]}


def push(call):
    for recipient in call["data"]["recipients"]:
        if not recipient["connected"]:
            print("push", call["data"]["notification_type"], "to", recipient["user"]["username"], flush=True)
    return {"allow": True}


def answer(call):
    if call["hook"] == "notify":
        return push(call)
    if call["event_type"] == "message.pin":
        return pin(call)
    if call["event_type"] == "message.send":
        return filter_words(call)
    return {"allow": True}


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        ok = is_ours(self.headers, body)
        text = json.dumps(answer(json.loads(body)) if ok else {}).encode()
        self.send_response(200 if ok else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(server.server_address[1], flush=True)
    server.serve_forever()
