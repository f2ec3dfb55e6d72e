"""`doctor URL --chat`: how chat servers answer what is wrong; the package as it is, a custom handler, and the chat of Tidegate."""

import json
import subprocess
import threading

from websockets.sync.server import serve

from harness import chat_people
from harness.chat_app import ChatApp
from harness.chat_reference import ChatReference
from harness.gateway import binary, clean_environment


PERSON = chat_people.everybody()[0]["id"]


def look(url, code):
    done = subprocess.run(
        [binary(), "doctor", url, "--chat", "--only", "chat", "--timeout", "5s", "--json"],
        capture_output=True, text=True, timeout=60, env=clean_environment(), stdin=subprocess.DEVNULL,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert done.returncode == code, report
    [probe] = report["probes"]
    return {found["id"]: found["confidence"] for found in report["findings"]}, probe["measurements"], done.stdout


def test_the_package_calls_a_wrong_shape_an_internal_error(tmp_path):
    """chat.shape-as-internal, chat.not-json: django-realtime-chat-messaging under daphne, unmodified."""
    with ChatReference(tmp_path / "package") as server:
        found, seen, _ = look(server.url(chat_people.token(PERSON)), code=0)
    assert found == {"chat.shape-as-internal": "proven", "chat.not-json": "proven"}, (found, seen)
    assert seen["withoutData"] == "an error with code 4006", seen


def test_a_chat_whose_errors_have_another_form():
    """chat.custom-handler, DX-64: forms are told, what the server says is not."""

    def answer(socket):
        for text in socket:
            event = json.loads(text)
            if not isinstance(event, dict) or event.get("event_type") != "message.typing":
                socket.send(json.dumps({"errors": ["a secret of this server"], "status": 400}))
            else:
                socket.send('{"error": "invalid event type"}')

    with serve(answer, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found, _, text = look(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/chat", code=0)
    assert found == {"chat.custom-handler": "proven", "chat.field-error-as-event-type": "likely"}, found
    assert "an object with errors, status" in text and "a secret of this server" not in text


def test_the_chat_of_tidegate_and_what_is_no_chat(tmp_path):
    """No finding where errors are as documented, and none about what is no chat."""
    with ChatApp(tmp_path / "app") as app:
        found, seen, _ = look(app.url(chat_people.token(PERSON)), code=0)
    assert found == {}, (found, seen)
    assert seen["withoutData"] == seen["noObject"] == "an error with code 4003", seen
    with serve(lambda socket: [None for _ in socket], "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found, seen, _ = look(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/", code=3)
    assert found == {} and "no chat of this kind" in seen["reason"], seen
