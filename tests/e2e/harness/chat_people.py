"""The people who chat in the tests, and their tokens: the same on every server."""

import base64
import hmac
import json
import time

SECRET = "the-shared-secret-of-the-chat-tests-0123456789"
FIRST = 10  # the package's own anonymous user has a small id
NAMES = [
    ("ana", "Ana", "Lima"),
    ("ben", "Ben", "Okoro"),
    ("cy", "Cy", "Novák"),
    ("dee", "Dee", "O'Neil"),
    ("eve", "Eve", "<b>Bold</b>"),
    ("flo", "Flo", "Grün"),
    ("gus", "Gus", "Öz"),
    ("hal", "", ""),
    ("ida", "Ida", "Ng"),
    # Not a character of any script: moves the barrier (see `chat_play`).
    ("gate", "Gate", "Keeper"),
]
GROUPS = 90


def person(number):
    """What is known about the user with this id; ten at a time belong together and share nothing with the others."""
    group, position = divmod(number, len(NAMES))
    name, first, last = NAMES[position]
    email = f"{name}{group}@example.test" if first else ""
    return {"id": number, "username": f"{name}{group}", "email": email, "first_name": first, "last_name": last}


def group(index):
    """Name to id for the people of one script."""
    return {name: (index + 1) * len(NAMES) + position for position, (name, _, _) in enumerate(NAMES)}


def everybody():
    return [person(number) for number in range(FIRST, FIRST + GROUPS * len(NAMES))]


def _part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def sign(claims, secret=SECRET, algorithm="HS256"):
    """A JSON Web Token with exactly these claims."""
    head = json.dumps({"alg": algorithm, "typ": "JWT"}, separators=(",", ":")).encode()
    signed = _part(head) + b"." + _part(json.dumps(claims).encode())
    if algorithm == "none":
        return (signed + b".").decode()
    return (signed + b"." + _part(hmac.digest(secret.encode(), signed, "sha256"))).decode()


def token(number, secret=SECRET, **claims):
    """A token of the user with this id, good for an hour."""
    known = person(number)
    known["user_id"] = known.pop("id")
    return sign({**known, "exp": int(time.time()) + 3600, **claims}, secret)
