//! `/api/explain`: from what a person saw to the cause, on a whole node.

use serde_json::{Value, json};
use tidegate_auth::Role;

use crate::client::Client;
use crate::harness::Node;

async fn explain(node: &Node, query: &str) -> Value {
    node.call_as(Role::Diagnose, "GET", &format!("/api/explain?{query}"), None).await.ok()
}

fn ids(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|found| (found["id"].as_str().unwrap(), found["confidence"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_refused_handshake_is_explained_by_status_code_text_and_id() {
    // DX-15, DX-17, DX-18
    let node = Node::start().await;
    for _ in 0..2 {
        let refused = Client::connect(node.public, &node.target("?token=nonsense"), "").await;
        assert_eq!(refused.err(), Some(403));
    }
    let by_status = explain(&node, "q=403").await;
    assert_eq!(by_status["schema"], "tidegate.diagnosis/1");
    let first = &by_status["findings"][0];
    assert_eq!(
        (&first["id"], &first["confidence"], &first["count"]),
        (&json!("jwt.malformed"), &json!("proven"), &json!(2))
    );
    assert_eq!(first["clientSaw"], json!({ "status": 403, "closeCode": 1006 }));
    let request = first["requestId"].as_str().unwrap();
    for query in ["q=1006", "q=Unexpected+response+code%3A+403", "q=jwt.malformed", "last=1"] {
        let report = explain(&node, query).await;
        assert!(ids(&report).contains(&("jwt.malformed", "proven")), "{query}: {report}");
    }
    let by_id = explain(&node, &format!("q={}", request.replace('=', "%3D").replace('+', "%2B"))).await;
    assert_eq!(ids(&by_id), [("jwt.malformed", "proven")], "{by_id}");
    assert!(by_id["timeline"].as_array().unwrap().iter().any(|line| line["kind"] == "handshake"), "{by_id}");
    assert!(!by_status.to_string().contains("nonsense"));
}

#[tokio::test]
async fn an_open_connection_is_described_and_nothing_is_wrong_with_it() {
    // DX-2, DX-18
    let node = Node::start().await;
    let _client = Client::connect(node.public, &node.target(""), "").await.unwrap();
    let connections = node.call_as(Role::Read, "GET", "/api/connections", None).await.ok();
    let id = connections["connections"][0]["connection_id"].as_str().unwrap().replace('=', "%3D");
    let report = explain(&node, &format!("q={}", id.replace('+', "%2B").replace('/', "%2F"))).await;
    assert_eq!(ids(&report), Vec::<(&str, &str)>::new(), "{report}");
    assert!(report["notes"].to_string().contains("is open now"), "{report}");
}

#[tokio::test]
async fn the_newest_messages_of_an_open_connection_are_shown_by_time_and_size() {
    // DX-18, DX-50
    let node = Node::start().await;
    let mut client = Client::connect(node.public, &node.target(""), "").await.unwrap();
    let connection = |body: &Value| body["connections"][0].clone();
    let shown = connection(&node.get("/api/connections").await.ok());
    let path = format!("/api/connections/{}", shown["connection_id"].as_str().unwrap().replace('=', "%3D"));
    assert!(node.get(&path).await.ok().get("recent_messages").is_none());
    for size in 1..=12 {
        client.send(&"x".repeat(size)).await;
    }
    node.until("/api/connections", |body| connection(body)["messages_in"] == 12).await;
    let pushed = node.post(&format!("{path}/send"), json!("hello")).await;
    assert!(pushed.status < 300, "{pushed:?}");
    // The oldest two are forgotten; what they said was never known.
    let body = node.get(&path).await.ok();
    let recent: Vec<_> = body["recent_messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (message["way"].as_str().unwrap(), message["size"].as_u64().unwrap()))
        .collect();
    let mut expected: Vec<_> = (3..=12).map(|size| ("in", size)).collect();
    expected.push(("out", 7));
    assert_eq!(recent, expected);
    let id = shown["connection_id"].as_str().unwrap().replace('=', "%3D").replace('+', "%2B");
    let report = explain(&node, &format!("q={id}")).await;
    let lines: Vec<_> = report["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["kind"] == "frame")
        .map(|line| line["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        (lines.len(), lines[0], lines[10]),
        (11, "from the client, 3 bytes", "to the client, 7 bytes")
    );
}

#[tokio::test]
async fn who_asks_needs_the_role_and_a_question() {
    // DX-15, DX-17
    let node = Node::start().await;
    let refused = node.call_as(Role::Read, "GET", "/api/explain?q=403", None).await;
    assert_eq!(refused.refusal(), (403, "management.denied"));
    for query in ["", "q=", "q=999", "q=403&last=2", "last=0", "q=403&since=yesterday"] {
        let answer = node.call_as(Role::Diagnose, "GET", &format!("/api/explain?{query}"), None).await;
        assert_eq!(answer.refusal(), (400, "admin.malformed"), "{query}");
    }
    explain(&node, "user=ann-in-secret").await;
    let entries = node.call_as(Role::Diagnose, "GET", "/api/journal?kind=control", None).await.ok();
    assert!(entries.to_string().contains("\"object\":\"explain\""), "{entries}");
    assert!(!entries.to_string().contains("ann-in-secret"));
}
