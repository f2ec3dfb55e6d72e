"""Flask behind Tidegate. `flask --app app run --port 8000`, and `tidegate dev --backend http://127.0.0.1:8000/ws/`."""

import secrets, sqlite3

# ANCHOR: calls
import hmac, os, requests
from urllib.parse import quote

ENDPOINT, ADMIN = os.environ["TIDEGATE_ENDPOINT"], os.environ["TIDEGATE_ADMIN"]
API, STAGE = ENDPOINT.rstrip("/").split("/")[-2:]
tidegate = requests.Session()
tidegate.headers["Authorization"] = "Bearer " + os.environ["TIDEGATE_KEY"]

def call(url, **arguments):
    answer = tidegate.post(url, timeout=10, **arguments)
    answer.raise_for_status()
    return answer.json() if answer.content else {}

def push(channel, message, **query):
    """Counts of who took it: {"delivered": 2, "gone": 0, "slow": 0}."""
    return call(f"{ENDPOINT}/@channels/{quote(channel, safe='')}", json=message, params=query)

def push_user(user, message):
    """All connections of a user."""
    return call(f"{ENDPOINT}/@users/{quote(user, safe='')}", json=message)

def issue_token(user, login):
    body = {"api": API, "stage": STAGE, "user": user, "session": login}
    return call(f"{ADMIN}/api/tokens", json=body)

def end_session(login):
    call(f"{ADMIN}/api/sessions/{quote(login, safe='')}/end")
# ANCHOR_END: calls

# ANCHOR: gateway
from flask import Flask, abort, jsonify, request, session

app = Flask(__name__)
SECRET = os.environ.get("TIDEGATE_SECRET", "")

@app.before_request
def only_the_gateway():
    sent = request.headers.get("X-Ws-Gateway-Secret", "")
    if request.path.startswith("/ws/") and SECRET and not hmac.compare_digest(sent.encode(), SECRET.encode()):
        abort(403)
# ANCHOR_END: gateway

# ANCHOR: events
@app.post("/ws/connect")
def connect():
    if request.args.get("channel") != "general":
        return "no such channel", 403
    return "", 200

@app.post("/ws/default")
def message():
    data = request.get_json(force=True, silent=True)
    if not isinstance(data, dict) or data.get("action") != "say":
        return {"type": "error", "text": "actions: say"}
    push("general", {"type": "said", "text": data.get("text")}, **{"except": request.headers["connectionId"]})
    return {"type": "ok"}

@app.post("/ws/disconnect")
def disconnect():
    push("general", {"type": "left", "id": request.headers["connectionId"]})
    return "", 200
# ANCHOR_END: events

# ANCHOR: pages
@app.post("/ws-token")
def token():
    if "user" not in session:
        abort(403)
    return jsonify(issue_token(session["user"], session["login"]))

@app.post("/logout")
def logout():
    login = session.get("login")
    session.clear()
    if login:
        end_session(login)
    return "", 204
# ANCHOR_END: pages

# ANCHOR: commit
@app.post("/posts")
def add_post():
    if "user" not in session:
        abort(403)
    text = request.get_json()["text"]
    with db:  # commits here, or rolls back
        post = db.execute("INSERT INTO posts (text) VALUES (?)", (text,)).lastrowid
    push("general", {"type": "post", "id": post})
    push_user(session["user"], {"type": "saved", "id": post})
    return {"id": post}, 201
# ANCHOR_END: commit

db = sqlite3.connect(":memory:", check_same_thread=False)
db.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")


app.secret_key = secrets.token_bytes(32)


@app.get("/demo-login/<user>")
def demo_login(user):
    """Stands for your login."""
    session["user"], session["login"] = user, secrets.token_hex(16)
    return "", 204
