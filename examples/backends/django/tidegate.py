"""Calls to Tidegate."""

# ANCHOR: calls
import os, requests
from urllib.parse import quote

ENDPOINT, ADMIN = os.environ["TIDEGATE_ENDPOINT"], os.environ["TIDEGATE_ADMIN"]
API, STAGE = ENDPOINT.rstrip("/").split("/")[-2:]
KEY = {"Authorization": "Bearer " + os.environ["TIDEGATE_KEY"]}

def call(url, **arguments):
    answer = requests.post(url, headers=KEY, timeout=10, **arguments)
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
