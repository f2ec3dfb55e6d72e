//! Commands that ask a running node: what they print, what they change, how they end.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::dev::{Dev, ended, wait_for_json, wait_until};

/// One API with one stage, whose clients need a token.
const DOCUMENT: &str = r#"
[[apis]]
id = "chat000000"
name = "chat"
route_selection_expression = "$request.body.action"

[apis.integrations.echo]
uri = "tidegate://echo"

[apis.routes]
"$default" = { integration = "echo", two_way = true }

[apis.stages.dev.policy]
admission = { checks = ["token", "jwt"] }
jwt = { keys = [{ secret = "0123456789abcdefghijABCDEFGHIJ!$%&/()", algorithms = ["HS256"] }] }

[[apis.stages.dev.policy.channels.rules]]
match = "room-*"
join = "allow"

[[apis.stages.dev.policy.channels.rules]]
match = "staff"
join = { any = [["role:staff"]] }
"#;

/// One API with two stages and no policy.
const OTHER_API: &str = r#"
[[apis]]
id = "alerts0000"
name = "alerts"
route_selection_expression = "$request.body.action"
integrations = { echo = { uri = "tidegate://echo" } }
routes = { "$default" = { integration = "echo", two_way = true } }
stages = { live = {}, test = {} }
"#;

fn dev() -> Dev {
    Dev::with_document(DOCUMENT)
}

/// A command that was told everything and has nobody to ask.
fn alone(arguments: &[&str], environment: &[(&str, &str)]) -> crate::dev::Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    ended(command.output().expect("run a command"))
}

#[test]
fn a_token_is_shown_once_and_opens_a_connection() {
    // S0-72
    let dev = dev();
    let issued = dev.json(&["token", "create", "--user", "alice", "--lifetime", "2m"]);
    let token = issued["token"].as_str().expect("a token");
    assert!(token.len() == 64 && token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{issued}");
    assert_eq!(issued["expires_in"], 120);
    assert!(issued["url"].as_str().expect("a URL").starts_with(dev.url()), "{issued}");

    let shown = dev.run(&["token", "create", "--user", "alice"]);
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    assert!(shown.stdout.contains("expires  in 60 s"), "{shown:?}");

    let refused = dev.run(&["token", "create", "--lifetime", "301"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("(admin.malformed)") && refused.stderr.contains("  lifetime: "),
        "{refused:?}"
    );
    assert_eq!(dev.run(&["token", "create", "--claims", "[]"]).code, 2);

    let mut client = dev.client("alice", &["--session", "s1", "--role", "staff"]);
    let signed = dev.json(&["token", "jwt", r#"{"sub":"bob"}"#]);
    assert_eq!(signed["token"].as_str().map(|token| token.split('.').count()), Some(3));
    let shown = dev.run(&["connections", "get", &dev.connection_of("alice")]);
    for expected in
        ["user              alice\n", "session           s1\n", "roles             staff\n", "Z (0 s)"]
    {
        assert!(shown.stdout.contains(expected), "{expected} in {}", shown.stdout);
    }
    assert_eq!(
        dev.run(&["connections", "kick", &dev.connection_of("alice"), "--code", "4001", "--reason", "bye"])
            .code,
        0
    );
    let line = client.line();
    assert_eq!((&line["code"], &line["reason"]), (&json!(4001), &json!("bye")));
}

#[test]
fn what_is_really_open_is_listed() {
    // S0-58
    let dev = dev();
    let nothing = dev.run(&["connections", "ls"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert!(
        nothing.stderr.contains("no connections; ") && nothing.stderr.contains("token create"),
        "{nothing:?}"
    );
    assert_eq!(dev.json(&["connections", "ls"]), json!([]));

    let _alice = dev.client("alice", &["--session", "s1"]);
    let _bob = dev.client("bob", &["--session", "s2"]);
    let listed = dev.run_as("key-of-read", &["connections", "ls"]);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{listed:?}");
    assert!(lines[0].starts_with("CONNECTION") && !listed.stdout.contains('\x1b'), "{listed:?}");
    let place = lines[0].find("USER").expect("a column");
    let mut users: Vec<&str> =
        lines[1..].iter().map(|line| line[place..].split(' ').next().expect("a user")).collect();
    users.sort_unstable();
    assert_eq!(users, ["alice", "bob"]);
    assert!(listed.stderr.starts_with("2 connections"), "{listed:?}");

    assert_eq!(dev.run(&["connections", "ls", "--count"]).stdout, "2\n");
    assert_eq!(dev.json(&["connections", "ls", "--count"]), json!({ "count": 2 }));
    assert_eq!(dev.json(&["connections", "ls", "--session", "s2"])[0]["user"], "bob");
    assert_eq!(
        dev.json(&["connections", "ls", "--api", "chat", "--stage", "dev"]).as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(dev.json(&["connections", "ls", "--min-age", "1h"]), json!([]));
    let users = dev.json(&["users", "ls"]);
    assert_eq!((&users[0]["user"], &users[1]["user"]), (&json!("alice"), &json!("bob")));
    assert!(dev.run(&["sessions", "ls"]).stdout.contains("s1"), "sessions");

    let mut watched = dev.watch(&["connections", "watch"]);
    for _ in 0..2 {
        let line = watched.line();
        assert_eq!(
            (&line["count"], line["connections"].as_array().map(Vec::len)),
            (&json!(2), Some(2)),
            "{line}"
        );
    }

    assert_eq!(dev.run(&["connections", "send", &dev.connection_of("alice"), "hi"]).stdout, "sent\n");
    let gone = dev.run(&["connections", "get", "AAAAAAAAAAAAAAA="]);
    assert_eq!(gone.code, 3, "{gone:?}");
    assert!(
        gone.stderr.starts_with("tidegate: There is no connection AAAAAAAAAAAAAAA= (connections."),
        "{gone:?}"
    );
}

#[test]
fn one_call_reaches_everyone_of_a_channel() {
    // S0-88
    let dev = dev();
    let (mut alice, mut bob) = (dev.client("alice", &[]), dev.client("bob", &["--session", "s2"]));
    let (alice_id, bob_id) = (dev.connection_of("alice"), dev.connection_of("bob"));
    for id in [&alice_id, &bob_id] {
        assert_eq!(dev.run(&["channels", "join", "room-1", id]).stdout, "joined room-1\n");
    }
    assert_eq!(dev.run(&["channels", "join", "room-1", &bob_id]).stdout, "was in room-1 already\n");
    assert_eq!(dev.json(&["channels", "ls", "--prefix", "room-"])[0]["connections"], 2);
    let shown = dev.run(&["channels", "show", "room-1"]);
    assert!(shown.stdout.starts_with("room-1: 2 connections, 2 users\n  alice\n"), "{shown:?}");

    let sent = dev.run(&["publish", "room-1", "one"]);
    assert_eq!(sent.stdout, "delivered to 2 connections\n", "{sent:?}");
    assert_eq!((alice.message().as_str(), bob.message().as_str()), ("one", "one"));
    assert_eq!(dev.run_with_input("two\n", &["publish", "room-*", "-", "--except", &alice_id]).code, 0);
    assert_eq!(bob.message(), "two");
    assert_eq!(dev.json(&["broadcast", "three", "--user", "alice"])["delivered"], 1);
    assert_eq!(alice.message(), "three");
    assert_eq!(dev.json(&["broadcast", "four", "--session", "s2"])["delivered"], 1);
    let gone = "AAAAAAAAAAAAAAA=";
    let listed = dev.json(&["broadcast", "five", "--connection", &bob_id, "--connection", gone]);
    assert_eq!((&listed["delivered"], &listed["gone_ids"]), (&json!(1), &json!([gone])));
    assert_eq!((bob.message().as_str(), bob.message().as_str()), ("four", "five"));

    let once = ["broadcast", "six", "--idempotency-key", "k1"];
    assert_eq!(dev.run(&once).stdout, "delivered to 2 connections\n");
    assert!(dev.run(&once).stdout.contains("nothing was sent now"), "a repeated key");
    assert_eq!(dev.run(&["channels", "leave", "room-1", &alice_id]).stdout, "left room-1\n");
    // Exactly one of them came.
    assert_eq!(dev.json(&["broadcast", "end"])["delivered"], 2);
    assert_eq!((alice.message().as_str(), alice.message().as_str()), ("six", "end"));
    assert_eq!(dev.run(&["broadcast", "x", "--user", "a", "--session", "b"]).code, 2);
}

#[test]
fn ending_a_session_or_a_user_closes_what_they_have() {
    // S0-60, S0-61
    let dev = dev();
    let (mut alice, mut bob) = (dev.client("alice", &["--session", "s1"]), dev.client("bob", &[]));
    assert_eq!(dev.run(&["token", "create", "--user", "alice", "--session", "s1"]).code, 0);
    let done = dev.run_as("key-of-operate", &["sessions", "end", "s1"]);
    assert_eq!(done.stdout, "closing 1 connection; 1 unspent token is worth nothing any more\n", "{done:?}");
    let line = alice.line();
    assert_eq!((&line["code"], &line["reason"]), (&json!(1008), &json!("Session ended")), "{line}");
    assert_eq!(dev.json(&["users", "end", "nobody"]), json!({ "connections": 0, "tokens": 0 }));

    assert_eq!(
        dev.json(&["users", "claims", "bob", r#"{"team":"red"}"#, "--role", "staff"])["connections"],
        1
    );
    assert_eq!(dev.json(&["connections", "ls", "--user", "bob"])[0]["roles"], json!(["staff"]));
    let banned = dev.run(&["users", "ban", "bob", "--for", "10m", "--reason", "spam"]);
    assert!(banned.stdout.starts_with("banned for 10 m; closing 1 connection;"), "{banned:?}");
    assert_eq!(bob.line()["code"], 1008);
    let bans = dev.run(&["users", "bans"]);
    assert!(
        bans.stdout.lines().any(|line| line.starts_with("user  bob") && line.contains("in 10 m  spam")),
        "{bans:?}"
    );
    assert_eq!(dev.run(&["users", "unban", "bob"]).stdout, "bob may connect again\n");
    assert_eq!(dev.run(&["users", "unban", "bob"]).stdout, "bob was not banned\n");
    // Who did it stays on record.
    let audit = dev.json(&["audit", "ls", "--limit", "1000"]);
    let by = |operation: &str| {
        audit.as_array().and_then(|all| all.iter().find(|change| change["operation"] == operation))
    };
    assert_eq!(by("endSession").map(|change| &change["by"]), Some(&json!("operate")));
    assert_eq!(by("banUser").map(|change| &change["by"]), Some(&json!("administer")));
    wait_until("the attempts are stored", || {
        let attempts = dev.json(&["attempts", "ls"]);
        attempts.as_array().is_some_and(|all| all.iter().any(|attempt| attempt["user"] == "alice"))
    });
}

#[test]
fn a_plan_says_what_apply_does_and_both_are_safe_to_repeat() {
    // S0-15, S0-17
    let dev = dev();
    let file = dev.file("more.toml", OTHER_API);
    let plan = dev.run_as("key-of-read", &["plan", &file]);
    assert_eq!(plan.code, 5, "{plan:?}");
    assert!(plan.stdout.starts_with("create API alerts\ncreate integration echo of API alerts"), "{plan:?}");
    let n_steps = plan.stdout.lines().take_while(|line| !line.is_empty()).count();
    assert!(plan.stdout.contains(&format!("\n\n{n_steps} changes")), "{plan:?}");
    assert_eq!(dev.json(&["apis", "ls"]).as_array().map(Vec::len), Some(1), "a plan changes nothing");

    let applied = dev.run(&["apply", &file]);
    assert_eq!(applied.code, 0, "{applied:?}");
    let sentences =
        |text: &str| text.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(sentences(&applied.stdout), sentences(&plan.stdout));
    let listed = dev.run(&["apis", "ls"]);
    assert!(listed.stdout.contains("alerts0000  alerts  live"), "{listed:?}");
    assert!(listed.stderr.starts_with("2 APIs"), "{listed:?}");

    let again = dev.run(&["plan", &file]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.starts_with("nothing to do: everything is as "), "{again:?}");
    assert!(dev.run(&["apply", &file, "--yes"]).stdout.starts_with("nothing to do: "), "a second apply");
    assert_eq!(dev.json(&["plan", &file])["steps"], json!([]));

    // What is exported changes nothing where it comes from, secrets included.
    let exported = dev.run(&["export"]);
    assert!(
        exported.stdout.contains("secret = \"****\"") && !exported.stdout.contains("0123456789abc"),
        "{exported:?}"
    );
    assert_eq!(dev.run_with_input(&exported.stdout, &["plan", "-"]).code, 0);
    let exported = dev.run(&["export", "--format", "json"]);
    assert_eq!(dev.run_with_input(&exported.stdout, &["plan", "-"]).code, 0, "{exported:?}");

    let bad = dev.file("bad.toml", "[[apis]]\nnane = 'x'\n[apis.stages.dev]\nvariable = 1\n");
    for command in ["plan", "apply"] {
        let refused = dev.run(&[command, &bad]);
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
        for expected in
            ["(admin.malformed)", "apis[0].nane: unknown key", "apis[0].stages.dev.variable: unknown key"]
        {
            assert!(refused.stderr.contains(expected), "{expected} in {refused:?}");
        }
    }
    assert_eq!(dev.run(&["plan", "/nowhere/at/all.toml"]).code, 2);
}

#[test]
fn policies_can_be_asked_read_and_replaced() {
    let dev = dev();
    let check =
        |arguments: &[&str]| dev.run_as("key-of-read", &[&["permissions", "check"], arguments].concat());
    let allowed = check(&["room-7", "--user", "alice"]);
    assert_eq!((allowed.code, allowed.stdout.as_str()), (0, "allowed by the rule room-*\n"));
    let denied = check(&["staff", "--user", "alice"]);
    assert_eq!((denied.code, denied.stdout.as_str()), (4, "denied: by the rule staff (channel.forbidden)\n"));
    assert_eq!(check(&["staff", "--user", "alice", "--role", "staff", "--json"]).code, 0);
    assert_eq!(check(&["room-7", "--right", "publish"]).code, 4);

    let policy = dev.run(&["permissions", "policy", "get"]);
    assert!(policy.stdout.contains("secret = \"****\""), "{policy:?}");
    let unchanged = dev.run_with_input(&policy.stdout, &["permissions", "policy", "set", "-"]);
    assert_eq!(
        (unchanged.code, unchanged.stdout.as_str()),
        (0, "nothing to do: the policy is like that\n"),
        "{unchanged:?}"
    );
    let changed = format!("{}\n[connect_tokens]\nlifetime = 30\n", policy.stdout);
    let file = dev.file("policy.toml", &changed);
    assert!(
        dev.run(&["permissions", "policy", "set", &file]).stdout.contains("it is live"),
        "a changed policy"
    );
    assert_eq!(dev.json(&["token", "create"])["expires_in"], 30);
    // S0-96: what is risky has a stable id, and nothing of the value is shown.
    let risky = changed.replace("unlisted = \"deny\"", "unlisted = \"allow\"");
    let risky = dev.run_with_input(&risky, &["permissions", "policy", "set", "-"]);
    assert_eq!(risky.code, 0, "{risky:?}");
    assert!(
        risky.stderr.contains("warning: channels.unlisted: ")
            && risky.stderr.contains("(config.unlisted-open)"),
        "{risky:?}"
    );
    let secret = changed.replace("secret = \"****\"", "secret = \"hunter2\"");
    let weak = dev.run_with_input(&secret, &["permissions", "policy", "set", "-"]);
    assert!(weak.code == 1 && !weak.stderr.contains("hunter2"), "{weak:?}");
    assert!(weak.stderr.contains("jwt.keys[0].secret"), "{weak:?}");
    let wrong = dev.run_with_input("lifetime = 1", &["permissions", "policy", "set", "-"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert_eq!(dev.run(&["permissions", "policy", "rm"]).code, 0);
    assert_eq!(dev.run(&["permissions", "policy", "get"]).code, 3);
    assert_eq!(dev.json(&["permissions", "policy", "rm"]), json!({ "removed": false }));
}

#[test]
fn cleaning_up_with_nothing_to_do_is_no_failure() {
    // S0-94
    let dev = dev();
    let nothing = dev.run(&["cleanup"]);
    assert_eq!(
        (nothing.code, nothing.stdout.as_str()),
        (0, "removed 0 tokens, 0 attempts, 0 bans that ended and 0 audit records\n")
    );
    drop(dev.client("alice", &[]));
    wait_until("the attempt is stored", || {
        dev.json(&["attempts", "ls"]).as_array().is_some_and(|all| all.len() == 1)
    });
    let arguments = ["cleanup", "--token-age", "0", "--attempt-age", "0"];
    let counted = dev.run(&[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(counted.code, 0, "{counted:?}");
    assert!(counted.stdout.starts_with("would remove 0 tokens, 1 attempt,"), "{counted:?}");
    let removed = dev.json(&arguments);
    assert_eq!(removed["attempts"], 1);
    assert_eq!(dev.json(&["attempts", "ls"]), json!([]));
}

#[test]
fn failures_say_what_to_do_and_have_their_exit_codes() {
    let dev = dev();
    let refused = dev.run_as("key-of-read", &["users", "end", "alice"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    for expected in ["the role operate is needed (management.denied)", "the key of TIDEGATE_KEY"] {
        assert!(refused.stderr.contains(expected), "{expected} in {refused:?}");
    }
    let unknown = dev.run_as("key-of-nobody", &["status"]);
    assert_eq!(unknown.code, 4, "{unknown:?}");
    assert!(unknown.stderr.contains("set TIDEGATE_KEY"), "{unknown:?}");
    assert!(!unknown.stderr.contains("key-of-nobody"), "keys are not shown: {unknown:?}");

    let admin_url = dev.admin_url();
    let key = dev.file("key", "key-of-read\n");
    let base = [("TIDEGATE_ADMIN_URL", admin_url.as_str())];
    assert_eq!(alone(&["status", "--key-file", &key], &base).code, 0);
    // Without anything, `tidegate dev` is believed to be there, whose credential everybody knows.
    assert_eq!(alone(&["status", "--json"], &base).code, 0);
    let wrong = [base[0], ("TIDEGATE_ACCESS_KEY_ID", "tidegate"), ("TIDEGATE_SECRET_ACCESS_KEY", "wrong")];
    assert_eq!(alone(&["status"], &wrong).code, 4);
    assert_eq!(alone(&["status"], &wrong[..2]).code, 2);
    assert_eq!(alone(&["status", "--key-file", "/nowhere"], &base).code, 2);

    let port = {
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        reserved.local_addr().expect("its address").port()
    };
    let nobody = alone(&["status", "--admin-url", &format!("http://127.0.0.1:{port}")], &[]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    for expected in
        [format!("cannot connect to http://127.0.0.1:{port}"), "is `tidegate serve` running".to_owned()]
    {
        assert!(nobody.stderr.contains(&expected), "{expected} in {nobody:?}");
    }
    let public = format!("http://{}", dev.addresses["public"].as_str().expect("an address"));
    let stranger = alone(&["status", "--admin-url", &public], &[]);
    assert_eq!(stranger.code, 1, "{stranger:?}");
    assert!(stranger.stderr.contains("the admin listener, not the public one"), "{stranger:?}");
    let far = alone(&["status", "--admin-url", "https://gateway.example"], &[]);
    assert_eq!(far.code, 4, "nothing is sent: {far:?}");
    assert_eq!(alone(&["status", "--admin-url", "gateway.example"], &[]).code, 2);

    let file = dev.file("more.toml", OTHER_API);
    assert_eq!(dev.run(&["apply", &file]).code, 0);
    let several = dev.run(&["publish", "room-1", "x"]);
    assert_eq!(several.code, 2, "{several:?}");
    assert!(
        several.stderr.contains("--api is needed; there are alerts (alerts0000), chat (chat000000)"),
        "{several:?}"
    );
    let several = dev.run(&["broadcast", "x", "--api", "alerts"]);
    assert!(several.code == 2 && several.stderr.contains("live, test"), "{several:?}");
    assert_eq!(dev.run(&["broadcast", "x", "--api", "nothere"]).code, 3);
    assert_eq!(dev.run(&["broadcast", "x", "--stage", "dev"]).code, 0);
    assert_eq!(dev.run(&["users", "ban", "x", "--for", "soon"]).code, 2);
}

#[test]
fn lists_go_over_all_pages() {
    let dev = dev();
    let many: Vec<Value> = (0..505)
        .map(|n| json!({ "name": format!("api-{n}"), "route_selection_expression": "$request.body.action" }))
        .collect();
    let done = dev.run_with_input(&json!({ "apis": many }).to_string(), &["apply", "-"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(dev.json(&["apis", "ls"]).as_array().map(Vec::len), Some(506));
    let listed = dev.run(&["apis", "ls"]);
    assert_eq!(listed.stdout.lines().count(), 507, "one title");
    assert!(listed.stderr.starts_with("506 APIs"), "{}", listed.stderr);
    // A reader that has enough, as in `| head`, is no failure.
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["apis", "ls", "--admin-url", &dev.admin_url()])
        .env_clear()
        .env("TIDEGATE_KEY", "key-of-read")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a command");
    drop(child.stdout.take());
    let done = ended(child.wait_with_output().expect("its end"));
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn a_document_can_be_applied_at_the_start() {
    let dev = dev();
    assert_eq!(dev.addresses["stages"][0]["name"], "chat");
    assert!(dev.url().ends_with("/_aws/execute-api/chat000000/dev"), "{}", dev.url());
    let status = dev.run(&["status"]);
    assert!(status.stdout.contains("state           ready\n"), "{status:?}");
    let url = dev.url().to_owned();
    let bad = dev.file("bad.toml", "[[apis]]\nnane = 'x'\n[apis.stages.dev]\nvariable = 1\n");
    let good = dev.file("good.toml", OTHER_API);
    let data_dir = dev.folder.path().join("data");
    let addresses = dev.folder.path().join("serve.json");
    let serve = |document: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let places = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--apply", document];
        command.args(places).arg("--data-dir").arg(&data_dir).arg("--address-file").arg(&addresses);
        command.env_clear().env("TIDEGATE_ACCESS_KEY_ID", "root").env("TIDEGATE_SECRET_ACCESS_KEY", "secret");
        command
    };
    let refused = ended(serve(&bad).output().expect("run serve"));
    assert_eq!(refused.code, 1, "{refused:?}");
    for expected in ["apply: apis[0].nane: unknown key", "apply: apis[0].stages.dev.variable: unknown key"] {
        assert!(refused.stderr.contains(expected), "{expected} in {refused:?}");
    }
    assert!(!data_dir.exists(), "nothing is made before the document is good");

    let mut child = serve(&good).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start serve");
    let admin = format!("http://{}", wait_for_json(&addresses)["admin"].as_str().expect("an address"));
    let environment = [
        ("TIDEGATE_ADMIN_URL", admin.as_str()),
        ("TIDEGATE_ACCESS_KEY_ID", "root"),
        ("TIDEGATE_SECRET_ACCESS_KEY", "secret"),
    ];
    let planned = alone(&["plan", &good], &environment);
    let audited = alone(&["apis", "ls", "--json"], &environment);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(planned.code, 0, "{planned:?}");
    assert!(audited.stdout.contains("alerts0000"), "{audited:?}");
    assert!(dev.stop().contains(&url));
}

#[test]
fn dev_takes_its_listeners_from_the_environment_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let addresses = folder.path().join("addresses.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["dev", "--address-file"])
        .arg(&addresses)
        .env_clear()
        .envs([("TIDEGATE_LISTEN", "127.0.0.2:0"), ("TIDEGATE_ADMIN", "127.0.0.3:0")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start dev");
    let addresses = wait_for_json(&addresses);
    let _ = child.kill();
    let _ = child.wait();
    for (name, host) in [("public", "127.0.0.2:"), ("admin", "127.0.0.3:")] {
        assert!(addresses[name].as_str().is_some_and(|address| address.starts_with(host)), "{addresses}");
    }
}

#[test]
fn every_setting_is_shown_with_its_origin() {
    let shown = alone(&["config"], &[("TIDEGATE_KEY", "k"), ("TIDEGATE_CONNECT_ANNOUNCE_ID", "true")]);
    assert_eq!(shown.code, 0, "{shown:?}");
    for expected in [
        "data_plane.idle_timeout = 600  (default)",
        "data_plane.binary = reject  (default)",
        "integration.max_timeout_ms = 29000  (default)",
        "integration.default_headers = []  (default)",
        "management.invalid_id = 400  (default)",
        "connect.announce_id = true  (environment)",
        "connect.reject_as_close = false  (default)",
        "api.subprotocols = []  (default)",
        "sigv4.clock_skew = 300  (default)",
    ] {
        assert!(shown.stdout.lines().any(|line| line == expected), "{expected} in {}", shown.stdout);
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = alone(&["completions", shell], &[]).stdout;
        for word in
            ["connections", "broadcast", "permissions", "idempotency-key", "attempt-age", "unban", "prune"]
        {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
}

#[test]
fn a_terminal_is_asked_before_a_change() {
    let dev = dev();
    let file = dev.file("more.toml", OTHER_API);
    let on_terminal = |input: &str, command: &str, environment: &[(&str, &str)]| {
        let line = format!("{} {command}", env!("CARGO_BIN_EXE_tidegate"));
        let mut script = Command::new("/usr/bin/script");
        script.args(["-qec", &line, "/dev/null"]).env_clear().env("TIDEGATE_ADMIN_URL", dev.admin_url());
        script
            .env("TIDEGATE_KEY", "key-of-administer")
            .env("PATH", "/usr/bin:/bin")
            .envs(environment.iter().copied());
        let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = script.spawn().expect("start script");
        let mut stdin = child.stdin.take().expect("its input");
        std::io::Write::write_all(&mut stdin, input.as_bytes()).expect("write its input");
        let done = ended(child.wait_with_output().expect("its end"));
        drop(stdin);
        done
    };
    let apply = format!("apply {file}");
    let no = on_terminal("n\n", &apply, &[]);
    assert_eq!(no.code, 1, "{no:?}");
    assert!(no.stdout.contains("create API alerts") && no.stdout.contains("nothing was changed"), "{no:?}");
    assert_eq!(dev.json(&["apis", "ls"]).as_array().map(Vec::len), Some(1));
    let yes = on_terminal("y\n", &apply, &[]);
    assert!(yes.code == 0 && yes.stdout.contains("done: "), "{yes:?}");
    assert_eq!(dev.json(&["apis", "ls"]).as_array().map(Vec::len), Some(2));
    // Colors are for terminals, and only for those who want them.
    assert!(on_terminal("", "apis ls", &[]).stdout.contains("\x1b[1mAPI"));
    assert!(!on_terminal("", "apis ls", &[("NO_COLOR", "1")]).stdout.contains('\x1b'));
}

/// Takes TLS off what comes in and passes it on, as a proxy before the admin listener does.
async fn terminate(
    listener: tokio::net::TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
    to: std::net::SocketAddr,
) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that does not trust the certificate leaves.
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let Ok(mut behind) = tokio::net::TcpStream::connect(to).await else { continue };
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
    }
}

#[test]
fn an_admin_address_may_be_behind_tls() {
    use rustls_pki_types::pem::PemObject as _;
    let dev = dev();
    let data_dir = dev.folder.path().to_str().expect("a path");
    assert_eq!(alone(&["certs", "--data-dir", data_dir], &[]).code, 0);
    let file = |name: &str| dev.folder.path().join("certs").join(name);
    let chain =
        vec![rustls_pki_types::CertificateDer::from_pem_file(file("tidegate.pem")).expect("a certificate")];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(file("tidegate.key")).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a server");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let admin = dev.addresses["admin"].as_str().expect("an address").parse().expect("an address");
    runtime.spawn(terminate(listener, acceptor, admin));

    let url = format!("https://localhost:{port}");
    let ca = file("ca.pem");
    let ca = ca.to_str().expect("a path");
    // By a key, and by a signature that covers the host of the proxy.
    for environment in [&[("TIDEGATE_KEY", "key-of-read")][..], &[]] {
        let done = alone(&["status", "--json", "--admin-url", &url, "--cafile", ca], environment);
        assert_eq!(done.code, 0, "{done:?}");
    }
    let untrusted = alone(&["status", "--admin-url", &url], &[("TIDEGATE_KEY", "key-of-read")]);
    assert_eq!(untrusted.code, 1, "{untrusted:?}");
    assert!(untrusted.stderr.contains("certificate"), "{untrusted:?}");
}
