//! The journal of a node that runs, ends, dies, and has no journal.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use http::header::HOST;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tidegate_auth::{CredentialKeys, Payload, RequestParts, Secret, Signer};

use crate::dev::{Dev, ended, wait_until};
use crate::serve::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, Serve, data, exchange, log};

const DOCUMENT: &str = r#"
[[apis]]
id = "tide000001"
name = "tide"
route_selection_expression = "$request.body.action"
integrations = { echo = { uri = "tidegate://echo" } }
routes = { "$default" = { integration = "echo", two_way = true } }
stages = { prod = {} }
"#;

const TARGET: &str = "/_aws/execute-api/tide000001/prod";

fn whats(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["facts"]["what"].as_str().expect("a fact")).collect()
}

/// Control entries without looks into the journal.
fn control(node: &Serve) -> Vec<Value> {
    let mut found = node.journal(&["--kind", "control"]);
    found.retain(|entry| entry["facts"]["what"] != "access");
    found
}

fn offline(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let done = ended(
        command
            .args(arguments)
            .arg("--json")
            .arg("--data-dir")
            .arg(data(folder))
            .env_clear()
            .output()
            .expect("run"),
    );
    assert_eq!(done.code, 0, "{done:?}");
    serde_json::from_str(&done.stdout).expect("JSON")
}

#[test]
fn an_end_in_order_is_told_from_a_crash() {
    // node.crash, DX-7
    let folder = tempfile::tempdir().expect("a folder");
    let node = Serve::start(folder.path(), &[]);
    node.apply(folder.path(), DOCUMENT);
    let open = node.connect(TARGET, "");
    let before = node.journal(&[]);
    assert!(
        before.iter().any(|entry| entry["kind"] == "handshake" && entry["outcome"] == "ok"),
        "{before:?}"
    );
    let last = before.iter().map(|entry| entry["ts"].as_u64()).max().expect("an entry");
    node.kill();
    drop(open);

    let node = Serve::start(folder.path(), &[]);
    let found = control(&node);
    let crash: Vec<&Value> = found.iter().filter(|entry| entry["outcome"] == "node.crash").collect();
    assert_eq!(crash.len(), 1, "{found:?}");
    // Not before the last thing that is known, and before the new start.
    assert!(crash[0]["ts"].as_u64() >= last, "{crash:?}");
    let starts: Vec<u64> = found
        .iter()
        .filter(|entry| entry["facts"]["what"] == "start")
        .map(|entry| entry["ts"].as_u64().expect("a time"))
        .collect();
    assert!(starts.len() == 2 && crash[0]["ts"].as_u64() < Some(starts[1]), "{found:?}");
    assert_eq!(log(folder.path()).matches("node.crash").count(), 1);
    node.stop();

    // Nobody runs: the file can be read all the same.
    let listed = offline(folder.path(), &["journal", "ls", "--kind", "control"]);
    let listed = listed.as_array().expect("a list");
    assert_eq!(whats(listed).last(), Some(&"stop"));
    assert!(whats(listed).contains(&"drain"));
    let state = offline(folder.path(), &["journal", "state"]);
    assert_eq!(state["newest"], listed.last().expect("an entry")["ts"]);
    // log.retention-too-short: what is older than this cannot be answered.
    assert_eq!(state["oldest"].as_u64(), before.iter().filter_map(|entry| entry["ts"].as_u64()).min());

    let node = Serve::start(folder.path(), &[]);
    let found = control(&node);
    assert_eq!(found.iter().filter(|entry| entry["outcome"] == "node.crash").count(), 1, "{found:?}");
    node.stop();
    // The crash is the only thing that a person must look at.
    let log = log(folder.path());
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn a_node_whose_journal_is_broken_serves_and_says_so_once() {
    // store.unavailable, DX-5
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(data(folder.path())).expect("the data directory");
    std::fs::write(data(folder.path()).join("journal.db"), "no journal at all ".repeat(1000))
        .expect("a file");
    let node = Serve::start(folder.path(), &[]);
    node.apply(folder.path(), DOCUMENT);
    let _open = node.connect(TARGET, "");
    let status = node.json(&["status"]);
    assert_eq!(
        (&status["journal"], &status["journal_id"]),
        (&json!("unavailable"), &json!("store.unavailable"))
    );
    assert_eq!(status["connections"], 1);
    let refused = node.run(&["journal", "ls"]);
    assert!(refused.code == 1 && refused.stderr.contains("(store.unavailable)"), "{refused:?}");
    let metrics = exchange(node.admin, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(metrics.contains("tidegate_journal_entries_total 0\n"), "{metrics}");
    node.stop();
    assert_eq!(log(folder.path()).matches("no journal: ").count(), 1);
}

#[test]
fn a_journal_that_is_switched_off_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Serve::start(folder.path(), &[("TIDEGATE_JOURNAL_ENABLED", "false")]);
    let status = node.json(&["status"]);
    assert_eq!((&status["journal"], &status["journal_id"]), (&json!("off"), &Value::Null));
    let refused = node.run(&["journal", "ls"]);
    assert!(refused.stderr.contains("(log.disabled)"), "{refused:?}");
    node.stop();
    assert!(!data(folder.path()).join("journal.db").exists());
    assert!(!log(folder.path()).contains("WARN"));
}

/// A signed call of the control plane.
fn signed(node: &Serve, method: &str, path: &str, body: &str) -> String {
    let keys = CredentialKeys::permanent(Secret::new(SECRET_ACCESS_KEY));
    let signer = Signer::new(ACCESS_KEY_ID, keys, "us-east-1", "apigateway");
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    let parts = RequestParts { method, path, query: None, headers: &headers };
    headers
        .extend(signer.sign(&parts, Payload::Body(body.as_bytes()), SystemTime::now()).expect("a signature"));
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("text")))
        .collect();
    let length = body.len();
    exchange(
        node.admin,
        &format!(
            "{method} {path} HTTP/1.1\r\n{lines}Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        ),
    )
}

#[test]
fn changes_of_definitions_are_in_the_journal_with_the_hash_of_what_is_deployed() {
    // DX-7
    let folder = tempfile::tempdir().expect("a folder");
    let node = Serve::start(folder.path(), &[]);
    node.apply(folder.path(), DOCUMENT);
    let deploy =
        |node: &Serve| signed(node, "POST", "/v2/apis/tide000001/deployments", r#"{"stageName":"prod"}"#);
    assert!(deploy(&node).starts_with("HTTP/1.1 201"));
    let route = r#"{"routeKey":"other"}"#;
    assert!(signed(&node, "POST", "/v2/apis/tide000001/routes", route).starts_with("HTTP/1.1 201"));
    assert!(deploy(&node).starts_with("HTTP/1.1 201"));
    // What was refused and what only looks is no change.
    assert!(signed(&node, "GET", "/v2/apis/tide000001", "").starts_with("HTTP/1.1 200"));
    assert!(!signed(&node, "POST", "/v2/apis/none/routes", route).starts_with("HTTP/1.1 2"));
    let found = control(&node);
    let changes: Vec<&Value> =
        found.iter().filter(|entry| entry["facts"]["actor"] == ACCESS_KEY_ID).collect();
    let shown: Vec<_> = changes
        .iter()
        .map(|entry| {
            (entry["facts"]["what"].as_str().expect("a fact"), entry["apiId"].as_str().expect("an id"))
        })
        .collect();
    assert_eq!(shown, [("deploy", "tide000001"), ("change", "tide000001"), ("deploy", "tide000001")]);
    let hash = |entry: &Value| entry["facts"]["snapshotHash"]["prod"].as_str().expect("a hash").to_owned();
    assert_eq!(hash(changes[0]).len(), 32);
    // The change took effect with the deployment.
    assert_eq!(hash(changes[0]), hash(changes[1]));
    assert_ne!(hash(changes[1]), hash(changes[2]));
    assert_eq!(whats(&found).first(), Some(&"configuration"));
    // Names of settings and no values.
    let keys = found[0]["facts"]["keys"].to_string();
    assert!(keys.contains("secret_access_key (environment)") && !keys.contains(SECRET_ACCESS_KEY), "{keys}");
    assert!(
        found
            .iter()
            .any(|entry| entry["facts"]["object"] == "applyDocument" || entry["facts"]["object"] == "apply"),
        "{found:?}"
    );
}

#[test]
fn the_commands_show_list_watch_and_erase() {
    // DX-11, cleanup.not-pruning
    let dev = Dev::start(&[]);
    let run = |arguments: &[&str]| {
        let done = dev.run_with_dev_key(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    };
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&run(&[arguments, &["--json"]].concat()).stdout).expect("JSON")
    };
    let mut connected = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let connected =
        connected.args(["connect", dev.url(), "--send", "x", "--count", "1"]).output().expect("run");
    assert!(connected.status.success(), "{connected:?}");
    wait_until("the connection has ended", || {
        json(&["connections", "closed"]).as_array().is_some_and(|all| all.len() == 1)
    });
    let closed = json(&["connections", "closed", "--since", "1h"]);
    let id = closed[0]["connection_id"].as_str().expect("an id").to_owned();
    assert_eq!(closed[0]["close_code"], 1000, "{closed}");
    let listed = run(&["journal", "ls", "--kind", "handshake,close"]);
    assert!(listed.stdout.starts_with("AGO") && listed.stdout.matches(&id).count() == 2, "{listed:?}");
    // A set-up that works has no failure.
    assert_eq!(json(&["journal", "ls", "--failures"]), json!([]));
    assert_eq!(
        json(&["journal", "ls", "--connection", &id, "--kind", "close"]).as_array().map(Vec::len),
        Some(1)
    );
    assert!(json(&["journal", "state"])["entries"].as_u64() >= Some(4));
    assert!(run(&["journal", "state"]).stdout.contains("dropped  0"));
    assert_eq!(dev.run_with_dev_key(&["journal", "erase"]).code, 2);
    let erased = run(&["journal", "erase", "--address", "127.0.0.1"]);
    assert!(erased.stdout.starts_with("erased ") && !erased.stdout.starts_with("erased 0"), "{erased:?}");
    assert_eq!(json(&["journal", "ls", "--kind", "handshake,close"]), json!([]));
}

#[test]
fn a_report_is_one_archive_and_says_what_is_in_it() {
    // DX-16
    let folder = tempfile::tempdir().expect("a folder");
    let node = Serve::start(folder.path(), &[]);
    node.apply(folder.path(), DOCUMENT);
    let _open = node.connect(TARGET, "");
    node.wait_for_connections(1);
    let listed = node.json(&["connections", "ls"]);
    let id = listed[0]["connection_id"].as_str().expect("an id");
    let file = folder.path().join("report.tar.gz");
    let path = file.to_str().expect("a path");
    let done = node.run(&["report", id, "--output", path]);
    assert_eq!(done.code, 0, "{done:?}");
    let names = [
        "journal.jsonl",
        "journal-state.json",
        "connections.json",
        "attempts.json",
        "tokens.json",
        "bans.json",
        "definitions.json",
        "explain.json",
        "doctor.json",
        "certificates.json",
        "log.txt",
        "settings.json",
        "versions.json",
        "clock.json",
        "dns.json",
    ];
    for name in names {
        assert!(done.stdout.contains(name), "{name} in {done:?}");
    }
    // It does not write over anything.
    assert_eq!(node.run(&["report", id, "--output", path]).code, 1);
    let contents = unpack(&file);
    assert_eq!(contents.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    let text = |name: &str| contents.iter().find(|(known, _)| known == name).expect("a part").1.clone();
    let part = |name: &str| serde_json::from_str::<Value>(&text(name)).expect("JSON");
    assert!(text("journal.jsonl").contains(id));
    assert_eq!(part("connections.json")[0]["connection_id"], id);
    assert_eq!(part("settings.json")["api_key"]["value"], "****");
    assert_eq!(part("definitions.json")["apis"][0]["id"], "tide000001");
    assert!(part("clock.json")["offsetMs"].as_i64().is_some_and(|offset| offset.abs() < 5000));
    assert!(part("journal-state.json")["state"]["entries"].as_u64() > Some(0));
    node.stop();
}

/// Names and texts of an archive's files.
pub(crate) fn unpack(file: &Path) -> Vec<(String, String)> {
    let file = std::fs::File::open(file).expect("the archive");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut contents = Vec::new();
    for entry in archive.entries().expect("its files") {
        let mut entry = entry.expect("a file");
        let name = entry.path().expect("a name").file_name().expect("a name").to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("its text");
        contents.push((name, text));
    }
    contents
}
