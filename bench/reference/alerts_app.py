"""An alert stream as guides for FastAPI describe it: one manager, connections by channel, a loop that sends to each."""

import os
from typing import Dict, Set

import jwt
from fastapi import FastAPI, Query, Request, WebSocket, WebSocketDisconnect

SECRET = os.environ["JWT_SECRET"]
CHANNELS = {"authority": ["authority"], "admin": ["authority", "admin"]}

app = FastAPI()


class ConnectionManager:
    def __init__(self):
        self.channels: Dict[str, Set[WebSocket]] = {}

    async def connect(self, websocket, channels):
        await websocket.accept()
        for channel in channels:
            self.channels.setdefault(channel, set()).add(websocket)

    def disconnect(self, websocket):
        for members in self.channels.values():
            members.discard(websocket)

    async def broadcast(self, channel, message):
        gone = []
        members = list(self.channels.get(channel, ()))
        for connection in members:
            try:
                await connection.send_json(message)
            except Exception:
                gone.append(connection)
        for connection in gone:
            self.disconnect(connection)
        return len(members) - len(gone)


manager = ConnectionManager()


@app.websocket("/api/alerts/subscribe")
async def subscribe(websocket: WebSocket, token: str = Query(...)):
    try:
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        await websocket.close(1008, "Invalid token")
        return
    channels = CHANNELS.get(claims.get("role"), [])
    if not channels:
        await websocket.close(1008, "Access denied: Authority role required")
        return
    await manager.connect(websocket, channels)
    try:
        while True:
            if await websocket.receive_text() == "ping":
                await websocket.send_text("pong")
    except WebSocketDisconnect:
        manager.disconnect(websocket)


@app.post("/api/alerts/publish")
async def publish(request: Request):
    jwt.decode(request.headers["authorization"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    body = await request.json()
    return {"status": "published", "connections": await manager.broadcast(body["channel"], body["alert"])}
