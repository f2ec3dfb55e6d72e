"""FastAPI behind Tidegate. `uvicorn app:app --port 8000`, and `tidegate dev --backend http://127.0.0.1:8000/ws/`."""

import secrets, sqlite3

# ANCHOR: calls
import hmac, os, httpx
from urllib.parse import quote

ENDPOINT, ADMIN = os.environ["TIDEGATE_ENDPOINT"], os.environ["TIDEGATE_ADMIN"]
API, STAGE = ENDPOINT.rstrip("/").split("/")[-2:]
KEY = {"Authorization": "Bearer " + os.environ["TIDEGATE_KEY"]}
tidegate = httpx.AsyncClient(headers=KEY, timeout=10)

async def call(url, **arguments):
    answer = await tidegate.post(url, **arguments)
    answer.raise_for_status()
    return answer.json() if answer.content else {}

async def push(channel, message, **query):
    """Counts of who took it: {"delivered": 2, "gone": 0, "slow": 0}."""
    return await call(f"{ENDPOINT}/@channels/{quote(channel, safe='')}", json=message, params=query)

async def push_user(user, message):
    """All connections of a user."""
    return await call(f"{ENDPOINT}/@users/{quote(user, safe='')}", json=message)

async def issue_token(user, login):
    body = {"api": API, "stage": STAGE, "user": user, "session": login}
    return await call(f"{ADMIN}/api/tokens", json=body)

async def end_session(login):
    await call(f"{ADMIN}/api/sessions/{quote(login, safe='')}/end")
# ANCHOR_END: calls

# ANCHOR: gateway
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, HTTPException, Request, Response

SECRET = os.environ.get("TIDEGATE_SECRET", "")

def only_the_gateway(sent: str = Header("", alias="X-Ws-Gateway-Secret")):
    if SECRET and not hmac.compare_digest(sent.encode(), SECRET.encode()):
        raise HTTPException(403)

events = APIRouter(prefix="/ws", dependencies=[Depends(only_the_gateway)])
# ANCHOR_END: gateway

# ANCHOR: events
ConnectionId = Header(alias="connectionId")

@events.post("/connect")
async def connect(channel: str = ""):
    return Response(status_code=200 if channel == "general" else 403)

@events.post("/default")
async def message(request: Request, connection_id: str = ConnectionId):
    try:
        data = await request.json()
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("action") != "say":
        return {"type": "error", "text": "actions: say"}
    await push("general", {"type": "said", "text": data.get("text")}, **{"except": connection_id})
    return {"type": "ok"}

@events.post("/disconnect")
async def disconnect(connection_id: str = ConnectionId):
    await push("general", {"type": "left", "id": connection_id})
# ANCHOR_END: events


app = FastAPI()
app.include_router(events)


@app.get("/demo-login/{user}", status_code=204)
async def demo_login(user: str, response: Response):
    """Stands for your login: who has this cookie is that user."""
    response.set_cookie("demo", f"{user}.{secrets.token_hex(16)}", httponly=True)


def current_login(demo: str = Cookie("")):
    """User, and id of this login."""
    user, _, login = demo.partition(".")
    if not login:
        raise HTTPException(403)
    return user, login


# ANCHOR: pages
@app.post("/ws-token")
async def token(current: tuple[str, str] = Depends(current_login)):
    user, login = current
    return await issue_token(user, login)

@app.post("/logout", status_code=204)
async def logout(response: Response, current: tuple[str, str] = Depends(current_login)):
    response.delete_cookie("demo")
    await end_session(current[1])
# ANCHOR_END: pages

# ANCHOR: commit
@app.post("/posts", status_code=201)
async def add_post(text: str, current: tuple[str, str] = Depends(current_login)):
    with db:  # commits here, or rolls back
        post = db.execute("INSERT INTO posts (text) VALUES (?)", (text,)).lastrowid
    await push("general", {"type": "post", "id": post})
    await push_user(current[0], {"type": "saved", "id": post})
    return {"id": post}
# ANCHOR_END: commit

db = sqlite3.connect(":memory:", check_same_thread=False)
db.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
