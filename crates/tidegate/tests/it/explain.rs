//! `tidegate explain`: what it prints, how it ends, and where it gets its answers from.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::dev::{Dev, Ended, ended, wait_until};

const DOCUMENT: &str = r#"
[[apis]]
id = "chat000000"
name = "chat"
route_selection_expression = "$request.body.action"
integrations = { echo = { uri = "tidegate://echo" } }
routes = { "$default" = { integration = "echo", two_way = true } }

[apis.stages.dev.policy]
admission = { checks = ["token"] }
"#;

/// In a folder, with no node to ask.
fn alone(folder: &std::path::Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_clear().current_dir(folder).stdin(Stdio::null());
    command.env("TIDEGATE_KEY", "nobody").env("TIDEGATE_ADMIN_URL", "http://127.0.0.1:1");
    ended(command.output().expect("run a command"))
}

#[test]
fn a_refusal_is_explained_while_the_node_runs() {
    // DX-17, DX-18, DX-20
    let dev = Dev::with_document(DOCUMENT);
    let refused = dev.run(&["connect", dev.url(), "--count", "1"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    wait_until("the refusal is in the journal", || dev.run(&["explain", "403"]).code == 0);

    let by_status = dev.run(&["explain", "403"]);
    assert!(by_status.stdout.contains("PROBLEM token.missing"), "{by_status:?}");
    assert!(
        by_status.stdout.contains("  evidence  ") && by_status.stdout.contains("  fix       "),
        "{by_status:?}"
    );
    assert!(!by_status.stdout.contains('\u{1b}'), "{by_status:?}");

    let report = dev.json(&["explain", "--last"]);
    assert_eq!(report["findings"][0]["id"], "token.missing");
    let id = report["findings"][0]["requestId"].as_str().expect("a request id");
    let by_id = dev.run(&["explain", id]);
    assert_eq!(by_id.code, 0, "{by_id:?}");
    assert!(by_id.stdout.contains("  handshake "), "{by_id:?}");

    // Words without quotes are one text.
    let text = dev.run(&["explain", "Unexpected", "response", "code:", "403"]);
    assert_eq!(text.code, 0, "{text:?}");
    // Possible only, nothing, and nonsense.
    assert_eq!(dev.run(&["explain", "ERR_CERT_DATE_INVALID"]).code, 3);
    assert_eq!(dev.run(&["explain", "the", "coffee", "is", "cold"]).code, 1);
    assert_eq!(dev.run(&["explain", "999"]).code, 2);
    assert_eq!(dev.run(&["explain"]).code, 2);
    assert_eq!(dev.run(&["explain", "--last", "0"]).code, 2);
    // The role is not enough: nobody could be asked.
    assert_eq!(dev.run_as("key-of-read", &["explain", "403"]).code, 4);
}

#[test]
fn a_bare_id_prints_its_help_page() {
    // DX-1, DX-63
    let folder = tempfile::tempdir().expect("a folder");
    let page = alone(folder.path(), &["explain", "proxy.upgrade-stripped"]);
    assert_eq!(page.code, 4, "{page:?}");
    let cause = tidegate_core::diagnosis::Diagnosis::PROXY_UPGRADE_STRIPPED.describe();
    assert!(page.stdout.contains("proxy.upgrade-stripped") && page.stdout.contains("Upgrade"), "{page:?}");
    let first_words = |text: &str| text.split(' ').take(3).collect::<Vec<_>>().join(" ");
    assert!(page.stdout.contains(&first_words(cause.fix)), "{page:?}");
}

#[test]
fn without_a_node_the_journal_of_the_data_directory_answers() {
    // DX-17, DX-20
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("tidegate-data");
    assert_eq!(alone(folder.path(), &["explain", "403"]).code, 4);
    std::fs::create_dir(&data).expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        use tidegate_core::diagnosis::Diagnosis;
        use tidegate_core::journal::{Entry, JournalStore as _, Kind};
        let path = data.join("journal.db");
        let journal = tidegate_store::SqliteJournal::open(&path, tidegate_store::JournalOptions::default());
        let journal = journal.expect("a journal");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
        let now = u64::try_from(now.as_micros()).expect("a time");
        let mut entry = Entry::new(now - 1_000_000, Kind::Handshake, Some(Diagnosis::ROLE_INSUFFICIENT));
        entry.request_id = Some("abcdefghijklmno=".to_owned());
        entry.facts.insert("status".to_owned(), 403.into());
        journal.append(vec![entry]).await.expect("it is written");
    });
    let found = alone(folder.path(), &["explain", "403", "--json"]);
    assert_eq!(found.code, 0, "{found:?}");
    assert!(found.stderr.contains("no node answers") && found.stderr.contains("tidegate-data"), "{found:?}");
    let report: Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!(report["findings"][0]["id"], "role.insufficient");

    let named =
        alone(folder.path(), &["explain", "abcdefghijklmno=", "--data-dir", data.to_str().expect("a path")]);
    assert_eq!((named.code, named.stderr.as_str()), (0, ""), "{named:?}");
    assert!(named.stdout.contains("role.insufficient"), "{named:?}");
    assert_eq!(alone(folder.path(), &["explain", "403", "--data-dir", "nowhere"]).code, 4);
}

#[test]
fn a_journal_without_its_node_knows_how_fast_times_passed() {
    // DX-17
    let folder = tempfile::tempdir().expect("a folder");
    let asked = || {
        let data = crate::serve::data(folder.path());
        let words = ["explain", "--last", "5", "--json", "--data-dir", data.to_str().expect("a path")];
        let report: Value = serde_json::from_str(&alone(folder.path(), &words).stdout).expect("JSON");
        report["notes"].to_string()
    };
    crate::serve::Serve::start(folder.path(), &[("TIDEGATE_DATA_PLANE_TIME_SCALE", "60")]).stop();
    assert!(asked().contains("60 times faster"), "{}", asked());
    crate::serve::Serve::start(folder.path(), &[]).stop();
    assert!(!asked().contains("faster"), "{}", asked());
}
