"""A new configuration while the node serves: by SIGHUP, by the admin API, by `tidegate reload`; and new certificates."""

import datetime
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import aws, chat_people
from harness.chat_app import ChatApp
from harness.chat_play import Client
from harness.cli import tidegate
from harness.gateway import ACCESS_KEY, REGION, SECRET_KEY, binary, clean_environment
from harness.wait import until
from harness.why_connecting import SECRET, jwt

UNKNOWN = [{"error": "invalid event type"}]
OTHER_SECRET = "q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8"
ROOM = {"name": "Reef", "type": "GroupChat", "is_public": True}


def rewrite(gateway, text):
    (gateway.directory / "tidegate.toml").write_text(text)


def path_of(gateway):
    return str(gateway.directory / "tidegate.toml")


def reload(gateway, *words, code=0, **options):
    return tidegate(gateway, "reload", *words, code=code, **options)


def paths(answer, waiting=False):
    return [change["path"] for change in answer["changes"] if change["needs_restart"] == waiting]


def in_words(gateway, *words):
    """Exit code, output and errors of `tidegate reload` as people read it."""
    environment = clean_environment(
        TIDEGATE_ADMIN_URL=gateway.admin_url, TIDEGATE_ACCESS_KEY_ID=ACCESS_KEY, TIDEGATE_SECRET_ACCESS_KEY=SECRET_KEY, TIDEGATE_REGION=REGION
    )
    done = subprocess.run([binary(), "reload", *words], capture_output=True, text=True, timeout=60, env=environment, cwd=gateway.directory)
    return done.returncode, done.stdout, done.stderr


def of_journal(gateway, what):
    entries = tidegate(gateway, "journal", "ls", "--kind", "control")
    return [entry for entry in entries if entry["facts"].get("what") == what]


def answers(client, event):
    client.event(event, {"room_id": "3b241101-e2bb-4255-8caf-4136c566a962"})
    return client.frame()


def test_settings_of_the_chat_change_under_open_connections(tmp_path):
    """S2-115: everything but the path, without a connection that is dropped."""
    with ChatApp(tmp_path / "gateway", 'events.disabled = ["room.join"]') as app:
        gateway = app.gateway
        client = app.client(10)
        assert answers(client, "room.join") == UNKNOWN[0]
        before = gateway.config
        rewrite(gateway, before.replace('["room.join"]', '["room.leave"]').replace("[chat]", '[chat]\npath = "/elsewhere/"'))
        answer = reload(gateway)
        assert paths(answer) == ["chat.events.disabled"] and answer["needs_restart"] == ["chat.path"], answer
        # The connection that was open before runs on the new settings, and was not dropped.
        assert answers(client, "room.leave") == UNKNOWN[0]
        assert answers(client, "room.join") != UNKNOWN[0]
        # The path is that of the start.
        app.client(11).close()
        # Nothing changes by itself, and nothing is touched a second time.
        again = reload(gateway)
        assert paths(again) == [] and again["needs_restart"] == ["chat.path"]
        client.close()


def test_whose_tokens_are_taken(tmp_path):
    """Keys of `[jwt]` change for new connections; open ones stay."""
    with ChatApp(tmp_path / "gateway") as app:
        client = app.client(10)
        old = app.url(chat_people.token(10))
        rewrite(app.gateway, app.gateway.config.replace(chat_people.SECRET, OTHER_SECRET))
        answer = reload(app.gateway)
        assert paths(answer) == ["jwt.secret"] and OTHER_SECRET not in json.dumps(answer), answer
        refused = Client(old)
        assert refused.frame() is None and refused.closed, refused.closed
        assert answers(client, "room.join") != UNKNOWN[0] and not client.closed
        rewrite(app.gateway, app.gateway.config)
        reload(app.gateway)
        app.client(11).close()
        client.close()


def test_users_of_a_file_are_entered(tmp_path):
    """S2-113: what a file holds counts, not only its name."""
    users = tmp_path / "users.json"
    users.write_text(json.dumps({"users": [{"id": 10, "username": "ana"}]}))
    with ChatApp(tmp_path / "gateway", f'users_file = "{users}"') as app:
        client = app.client(10)

        def create():
            client.event("room.create", ROOM | {"participants": [77]})
            return client.frame()

        assert '"ben"' not in json.dumps(create())
        users.write_text(json.dumps({"users": [{"id": 10, "username": "ana"}, {"id": 77, "username": "ben"}]}))
        assert paths(reload(app.gateway)) == ["chat.users_file"]
        assert '"ben"' in json.dumps(create())
        client.close()


def test_settings_of_alerts_change_under_open_connections(start_gateway):
    text = lambda roles, further="": f'[jwt]\nsecret = "{SECRET}"\n[apps.alerts]\npublish_roles = {json.dumps(roles)}\n{further}'  # noqa: E731
    gateway = start_gateway(text(["service"]))
    who = jwt({"sub": "u1", "email": "u1@example.com", "role": "authority"})
    url = f"ws://127.0.0.1:{gateway.port}/api/alerts/subscribe?token={who}"
    client = Client(url)

    def publish():
        body = {"channel": "authority", "alert": {"type": "sos"}}
        return requests.post(f"http://127.0.0.1:{gateway.port}/api/alerts/publish", json=body, headers={"Authorization": f"Bearer {who}"}, timeout=10)

    assert publish().status_code == 403
    rewrite(gateway, text(["authority"], "max_connections_per_user = 1\nhistory = 5\n"))
    answer = reload(gateway)
    assert paths(answer) == ["apps.alerts.max_connections_per_user", "apps.alerts.publish_roles"] and answer["needs_restart"] == ["apps.alerts.history"], answer
    assert publish().json()["connections"] == 1 and client.frame()["type"] == "sos"
    # The policy of the stage is the new one, too: the user has a connection already.
    with pytest.raises(Exception, match="429|403|503"):
        Client(url)
    client.close()


@pytest.mark.logs("the configuration was not reloaded")
def test_a_configuration_with_problems_changes_nothing(start_gateway):
    gateway = start_gateway("max_connections = 100\n")
    rewrite(gateway, 'max_conections = 7\nprobe = false\ndebug_clients = ["0.0.0.0/0"]\n')
    checked = subprocess.run([binary(), "check", "--config", path_of(gateway)], capture_output=True, text=True, timeout=60, env=clean_environment())
    code, out, errors = in_words(gateway)
    assert (code, out) == (1, ""), errors
    # The same words as those of `check`, which are those of the start.
    for line in checked.stderr.splitlines():
        path, _, message = line.removeprefix("config: ").partition(": ")
        assert path in errors and message.rsplit(" (", 1)[0] in errors, errors
    assert "did you mean `max_connections`?" in errors
    assert requests.get(f"http://127.0.0.1:{gateway.port}/_tidegate/probe", timeout=5).status_code != 404
    refused = gateway.records(message="the configuration was not reloaded; nothing has changed")[0]
    assert refused["diag"].startswith("config.") and "max_conections" in refused["problems"], refused
    noted = of_journal(gateway, "configuration")[-1]
    assert noted["outcome"] == refused["diag"] and "max_conections" in noted["facts"]["keys"], noted
    rewrite(gateway, "this is no TOML")
    assert in_words(gateway)[0] == 1


def test_what_needs_a_restart_is_named(start_gateway):
    before = 'account_id = "111122223333"\napi_key = "first"\nprobe = true\n'
    gateway = start_gateway(before)
    probe = f"http://127.0.0.1:{gateway.port}/_tidegate/probe"
    rewrite(gateway, 'account_id = "444455556666"\napi_key = "second"\nprobe = false\n[tls]\nlisten = "127.0.0.1:0"\nlocal_ca = true\n')
    planned = reload(gateway, "--dry-run", code=5)
    assert paths(planned) == ["api_key", "probe"], planned
    assert planned["needs_restart"] == ["account_id", "tls.listen", "tls.local_ca", "tls.names"], planned
    assert "second" not in json.dumps(planned) and planned["dry_run"] is True
    code, out, _ = in_words(gateway, "--dry-run")
    assert code == 5 and "api_key: changed" in out and "probe: true -> false" in out, out
    assert "account_id: 111122223333 -> 444455556666  (needs a restart)" in out and "2 settings would change; 4 settings wait for a restart" in out, out
    # Nothing has happened yet.
    status = lambda key: requests.get(f"{gateway.admin_url}/api/status", headers={"Authorization": f"Bearer {key}"}, timeout=5).status_code  # noqa: E731
    assert (status("first"), status("second")) == (200, 403)
    assert of_journal(gateway, "configuration")[-1]["facts"].get("needsRestart") is None
    there = requests.get(probe, timeout=5).status_code
    assert {key: value for key, value in reload(gateway).items() if key != "dry_run"} == {key: value for key, value in planned.items() if key != "dry_run"}
    assert (status("first"), status("second")) == (403, 200)
    assert requests.get(probe, timeout=5).status_code != there
    noted = of_journal(gateway, "configuration")[-1]
    assert noted["facts"]["keys"] == ["api_key", "probe"] and "account_id" in noted["facts"]["needsRestart"], noted
    audit = [change for change in tidegate(gateway, "audit", "ls") if change["operation"] == "reload"]
    assert audit[0]["by"] == ACCESS_KEY and audit[0]["note"]["needs_restart"] == planned["needs_restart"], audit
    assert not gateway.data_dir.joinpath("certs").exists()
    # A restart takes it over, and then nothing waits any more.
    gateway.stop()
    gateway.config = (gateway.directory / "tidegate.toml").read_text()
    gateway.start()
    assert reload(gateway)["changes"] == []


@pytest.mark.logs("elsewhere|not allowed|integration")
def test_sighup_reloads_and_says_so(start_gateway, backend):
    gateway = start_gateway("[integration]\nmax_timeout_ms = 29000\n")
    api = aws.make_api(gateway, backend)
    ws = Client(api.url)
    rewrite(gateway, '[integration]\nmax_timeout_ms = 29000\nallowed_hosts = ["elsewhere.example"]\n')
    os.kill(gateway.pid, signal.SIGHUP)
    gateway.wait_log("the configuration was reloaded")
    record = gateway.records(message="the configuration was reloaded")[0]
    assert (record["actor"], record["changed"], record["needs_restart"]) == ("SIGHUP", "integration.allowed_hosts", "")
    assert record["level"] == "INFO"
    # The next message of the open connection is under the new rule.
    ws.send({"action": "x"})
    assert ws.frame()["message"] == "Internal server error"
    # And the control plane takes no such backend any more.
    with pytest.raises(Exception, match="BadRequest"):
        api.control.create_integration(ApiId=api.id, IntegrationType="HTTP_PROXY", IntegrationMethod="POST", IntegrationUri=backend.url)
    rewrite(gateway, "[integration]\nmax_timeout_ms = 29000\n")
    os.kill(gateway.pid, signal.SIGHUP)
    until(lambda: len(gateway.records(message="the configuration was reloaded")) == 2, "the second reload")
    before = len(backend.requests)
    ws.send({"action": "x"})
    until(lambda: len(backend.requests) > before, "a message that arrives")
    ws.close()


def test_who_may_reload(start_gateway):
    gateway = start_gateway('[[keys]]\nname = "watcher"\nrole = "operate"\nkey = "watching"\n')
    call = lambda key: requests.post(f"{gateway.admin_url}/api/reload", json={}, headers={"Authorization": f"Bearer {key}"}, timeout=10)  # noqa: E731
    assert call("watching").status_code == 403 and call("nobody").status_code == 403
    # Its role changes with the next reload.
    rewrite(gateway, '[[keys]]\nname = "watcher"\nrole = "administer"\nkey = "watching"\n')
    assert reload(gateway)["changes"] == [{"path": "keys", "before": "****", "after": "****", "needs_restart": False}]
    assert call("watching").json()["changes"] == []


def certificate(folder, name):
    """A certificate that signs itself, and its key, written as an operator would; its serial number."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made.serial_number


def trusting():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def shown(gateway):
    """Serial number of the certificate that a new handshake gets."""
    with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=10) as raw, trusting().wrap_socket(raw) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(True)).serial_number


def tls_config(folder, further=""):
    return f'[tls]\nlisten = "127.0.0.1:0"\ncertificate = "{folder}/certificate.pem"\nkey = "{folder}/key.pem"\n{further}'


@pytest.mark.logs("the configuration was not reloaded")
def test_a_new_certificate_is_shown_and_connections_stay(start_gateway, backend, tmp_path):
    first = certificate(tmp_path, "one.example")
    gateway = start_gateway(tls_config(tmp_path))
    api = aws.make_api(gateway, backend)
    url = api.url.replace("ws://", "wss://").replace(f":{gateway.port}/", f":{gateway.tls_port}/")
    ws = Client(url, ssl=trusting())
    assert shown(gateway) == first
    second = certificate(tmp_path, "two.example")
    answer = reload(gateway)
    assert paths(answer) == ["tls.certificate", "tls.key"] and not answer["needs_restart"], answer
    assert shown(gateway) == second
    before = len(backend.requests)
    ws.send({"action": "x"})
    until(lambda: len(backend.requests) > before, "a message over the old connection")
    # Half of a pair changes nothing.
    key = (tmp_path / "key.pem").read_bytes()
    certificate(tmp_path, "three.example")
    (tmp_path / "key.pem").write_bytes(key)
    code, _, errors = in_words(gateway)
    assert code == 1 and "key.pem" in errors, errors
    assert shown(gateway) == second
    ws.close()


@pytest.mark.logs("the new certificate cannot be used")
def test_a_new_certificate_is_found_by_itself(start_gateway, tmp_path):
    # A minute passes in a third of a second.
    first = certificate(tmp_path, "one.example")
    gateway = start_gateway("doctor_interval = 1\n" + tls_config(tmp_path, "[data_plane]\ntime_scale = 200\n"))
    assert shown(gateway) == first
    second = certificate(tmp_path, "two.example")
    until(lambda: shown(gateway) == second, "the new certificate")
    gateway.wait_log("a new certificate is shown from now on")
    # It is in use, so a reload has nothing to do.
    assert reload(gateway)["changes"] == []
    (tmp_path / "key.pem").write_text("nothing")
    gateway.wait_log("the new certificate cannot be used")
    record = gateway.records(message="the new certificate cannot be used; the old one stays")[0]
    assert record["diag"] == "provision.invalid-certificate" and "key.pem" in record["problem"]
    assert shown(gateway) == second
    ready = lambda: requests.get(f"{gateway.admin_url}/readyz", timeout=5)  # noqa: E731
    assert ready().status_code == 200 and ready().json()["certificate"] == "not renewed"
    headers = {"Authorization": "Bearer doctor"}
    rewrite(gateway, 'api_key = "doctor"\n' + gateway.config)
    until(lambda: "provision.invalid-certificate" in requests.get(f"{gateway.admin_url}/readyz?verbose", timeout=5).text, "the repeated checks")
    assert requests.get(f"{gateway.admin_url}/api/doctor", headers=headers, timeout=5).status_code == 403
    third = certificate(tmp_path, "three.example")
    until(lambda: shown(gateway) == third, "a certificate that can be used")
    until(lambda: "certificate" not in ready().json(), "nothing to complain about")
    # Once for each state of the files.
    assert len(gateway.records(message="the new certificate cannot be used; the old one stays")) == 1
