//! The journal behind the admin API: what it answers, to whom, who looked, and what is left after erasure.

use serde_json::{Value, json};
use tidegate_auth::Role;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::{Facts, Kind};
use tidegate_core::notice::{Notice, Place};

use crate::client::Client;
use crate::harness::{API, Node, STAGE};

async fn entries(node: &Node, query: &str) -> Vec<Value> {
    let target = format!("/api/journal?{query}");
    let body = node.call_as(Role::Diagnose, "GET", &target, None).await.ok();
    body["entries"].as_array().unwrap().clone()
}

/// Something that is known to be about a user and a connection.
fn decided(node: &Node, user: &str, id: &str) {
    let place = Place {
        user: Some(user.into()),
        connection_id: ConnectionId::parse(id).ok(),
        address: "127.0.0.1".parse().ok(),
        ..Place::default()
    };
    let facts = Facts::none().with("origin", format!("https://{user}.example.com"));
    node.gateway.notice(Notice::Decided { place, kind: Kind::Origin, remark: None, facts });
}

#[tokio::test]
async fn a_refused_handshake_is_found_at_once_by_every_key() {
    // DX-5, DX-6
    let node = Node::start().await;
    let refused = Client::connect(node.public, &node.target("?token=nonsense"), "").await;
    assert_eq!(refused.err(), Some(403));
    let found = entries(&node, "kind=handshake&failures=true").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let entry = &found[0];
    assert!(entry["outcome"].as_str().unwrap().starts_with("jwt."), "{entry}");
    assert_eq!((&entry["apiId"], &entry["stage"]), (&json!(API), &json!(STAGE)));
    assert_eq!(entry["facts"]["status"], 403);
    assert_eq!(entry["address"], "127.0.0.1");
    let outcome = entry["outcome"].as_str().unwrap();
    let request = entry["requestId"].as_str().unwrap();
    for query in [
        format!("requestId={request}"),
        format!("outcome={outcome}"),
        "address=127.0.0.1&failures=true".to_owned(),
        format!("apiId={API}&stage={STAGE}&kind=handshake,close&since=2020-01-01T00:00:00Z"),
    ] {
        assert_eq!(entries(&node, &query).await, found, "{query}");
    }
    for query in ["requestId=x", "outcome=ok&kind=handshake", "until=2020-01-01T00:00:00Z", "user=nobody"] {
        assert_eq!(entries(&node, query).await, Vec::<Value>::new(), "{query}");
    }
    for query in ["kind=nonsense", "limit=0", "since=yesterday", "requestid=x"] {
        let answer = node.call_as(Role::Diagnose, "GET", &format!("/api/journal?{query}"), None).await;
        assert_eq!(answer.refusal(), (400, "admin.malformed"), "{query}");
    }
}

#[tokio::test]
async fn only_those_may_look_who_may_diagnose_and_it_is_written_down() {
    // DX-15
    let node = Node::start().await;
    for path in ["/api/journal", "/api/journal/state", "/api/report?subject=ann"] {
        let refused = node.call_as(Role::Read, "GET", path, None).await;
        assert_eq!(refused.refusal(), (403, "management.denied"), "{path}");
        node.call_as(Role::Diagnose, "GET", path, None).await.ok();
    }
    node.call_as(Role::Operate, "GET", "/api/journal?user=ann-in-secret", None).await.ok();
    let found = entries(&node, "kind=control").await;
    let accesses: Vec<_> = found
        .iter()
        .filter(|entry| entry["facts"]["what"] == "access")
        .map(|entry| {
            let facts = &entry["facts"];
            (facts["actor"].as_str().unwrap(), facts["object"].as_str().unwrap(), facts["parameters"].clone())
        })
        .collect();
    assert_eq!(
        accesses,
        [
            ("diagnose-key", "listJournal", json!([])),
            ("diagnose-key", "getJournalState", json!([])),
            ("diagnose-key", "getReport", json!(["subject"])),
            ("operate-key", "listJournal", json!(["user"])),
        ]
    );
    // By what somebody asked is kept, and not for whom.
    assert!(!Value::from(found).to_string().contains("ann-in-secret"));
}

#[tokio::test]
async fn changes_by_administrators_are_in_it() {
    // DX-7
    let node = Node::start().await;
    node.post("/api/users/ann/end", json!({})).await;
    node.post("/api/cleanup", json!({})).await.ok();
    let found = entries(&node, "kind=control").await;
    let changes: Vec<_> = found
        .iter()
        .map(|entry| {
            let facts = &entry["facts"];
            (
                facts["what"].as_str().unwrap(),
                facts["object"].as_str().unwrap(),
                facts["actor"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        changes,
        [
            ("change", "putPolicy", "administer-key"),
            ("change", "endUser", "operate-key"),
            ("clean-up", "cleanUp", "operate-key"),
        ]
    );
    assert_eq!((&found[0]["apiId"], &found[0]["stage"]), (&json!(API), &json!(STAGE)));
    assert_eq!(found[1]["user"], "ann");
}

#[tokio::test]
async fn a_person_can_be_erased() {
    // DX-11
    let node = Node::start().await;
    let (ann, id) = node.connect_user("ann", &["lobby"]).await;
    let (_bob, other) = node.connect_user("bob", &[]).await;
    decided(&node, "ann", &id);
    decided(&node, "bob", &other);
    assert!(!entries(&node, "user=ann").await.is_empty());
    drop(ann);
    node.until("/api/users", |body| body["users"].as_array().unwrap().len() == 1).await;
    let erase = |body: Value| node.call_as(Role::Administer, "POST", "/api/journal/erase", Some(body));
    for body in [json!({}), json!({ "user": "ann", "address": "127.0.0.1" })] {
        assert_eq!(erase(body).await.refusal(), (400, "admin.malformed"));
    }
    let refused =
        node.call_as(Role::Operate, "POST", "/api/journal/erase", Some(json!({ "user": "ann" }))).await;
    assert_eq!(refused.refusal(), (403, "management.denied"));
    let erased = erase(json!({ "user": "ann" })).await.ok();
    assert!(erased["erased"].as_u64().unwrap() >= 2, "{erased}");
    let left = entries(&node, "limit=10000").await;
    let text = Value::from(left).to_string();
    assert!(!text.contains("ann") && !text.contains(&id) && text.contains("bob"), "{text}");
    // The record of the change says that it was done, and not to whom.
    let audit = node.get("/api/audit?operation=eraseJournal").await.ok();
    assert!(audit.to_string().contains("\"erased\"") && !audit.to_string().contains("ann"), "{audit}");
    erase(json!({ "address": "127.0.0.1" })).await.ok();
    assert!(!Value::from(entries(&node, "limit=10000").await).to_string().contains("127.0.0.1"));
}

#[tokio::test]
async fn a_report_has_everything_about_somebody_and_no_secret() {
    // DX-16
    let node = Node::start().await;
    let (_ann, id) = node.connect_user("ann", &["lobby"]).await;
    let (_bob, other) = node.connect_user("bob", &[]).await;
    decided(&node, "ann", &id);
    decided(&node, "bob", &other);
    node.post("/api/users/carol/ban", json!({ "seconds": 60 })).await;
    node.until("/api/attempts", |body| body["attempts"].as_array().unwrap().len() == 2).await;
    for subject in ["ann", id.as_str()] {
        let target = format!("/api/report?subject={}", subject.replace('=', "%3D"));
        let report = node.call_as(Role::Diagnose, "GET", &target, None).await.ok();
        let text = report.to_string();
        assert!(text.contains(&id) && !text.contains(&other) && !text.contains("bob"), "{report}");
        assert_eq!((&report["subject"], &report["version"]), (&json!(subject), &json!("1.2.3")));
        assert!(!report["journal"].as_array().unwrap().is_empty());
        assert!(report["journalState"]["entries"].as_u64().unwrap() > 0);
        assert_eq!(report["connections"][0]["connection_id"], id);
        assert_eq!(report["attempts"][0]["connection_id"], id);
        assert_eq!(report["settings"]["listen"]["origin"], "flag");
        assert_eq!(report["definitions"]["apis"].as_array().map(Vec::len), Some(1));
        assert_eq!(report["tokens"][0]["fingerprint"].as_str().map(str::len), Some(16));
        // DX-64
        for secret in [crate::harness::JWT_SECRET, crate::harness::BACKEND_SECRET] {
            assert!(!text.contains(secret));
        }
    }
}
