//! Attempts, the record of changes, cleaning up, and a store that fails.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tidegate_admin::AUDIT_KEPT;
use tidegate_auth::Role;
use tidegate_core::port::{RecordKind, RecordStore as _};

use crate::client::Client;
use crate::harness::{API, Node, STAGE};

async fn connect(node: &Node, query: &str) -> Option<u16> {
    Client::connect(node.public, &node.target(query), "").await.err()
}

#[tokio::test]
async fn attempts_are_listed_by_what_became_of_them() {
    let node = Node::start().await;
    let (_ann, id) = node.connect_user("ann", &[]).await;
    assert_eq!(connect(&node, &format!("?ws_token={}", "0".repeat(64))).await, Some(403));
    assert_eq!(connect(&node, "?token=nonsense").await, Some(403));
    assert_eq!(connect(&node, "").await, None);
    // S0-83
    let all = node.until("/api/attempts", |body| body["attempts"].as_array().unwrap().len() == 4).await;
    let times: Vec<_> = all["attempts"].as_array().unwrap().iter().map(|line| line["at"].as_str()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "the newest first: {times:?}");
    let list = |query: &str| {
        let target = format!("/api/attempts?{query}");
        let node = &node;
        async move { node.get(&target).await.ok()["attempts"].as_array().unwrap().clone() }
    };
    let of_ann = list("user=ann").await;
    assert_eq!(of_ann.len(), 1);
    assert_eq!(
        (&of_ann[0]["outcome"], &of_ann[0]["status"], &of_ann[0]["connection_id"]),
        (&json!("accepted"), &json!(101), &json!(id))
    );
    let refused = list("outcome=refused").await;
    assert_eq!(refused.len(), 2);
    let unknown = refused.iter().find(|line| line["reason"] == "token.unknown").unwrap();
    assert_eq!((&unknown["status"], &unknown["address"]), (&json!(403), &json!("127.0.0.1")));
    assert_eq!(list("reason=token.unknown").await.len(), 1);
    assert_eq!(list("reason=token").await.len(), 1);
    assert_eq!(list("reason=toke").await.len(), 0);
    assert_eq!(list("address=127.0.0.1").await.len(), 4);
    assert_eq!(list("address=::1").await.len(), 0);
    assert_eq!(list(&format!("api={API}&stage={STAGE}&outcome=accepted")).await.len(), 2);
    assert_eq!(list("api=other").await.len(), 0);
    assert_eq!(list("since=2999-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(list("since=2001-01-01T00:00:00Z").await.len(), 4);
    // In pages, everything once, also with a filter.
    let mut seen = Vec::new();
    let mut query = "limit=1&outcome=refused".to_owned();
    loop {
        let body = node.get(&format!("/api/attempts?{query}")).await.ok();
        seen.extend(body["attempts"].as_array().unwrap().clone());
        let Some(next) = body["next_token"].as_str() else { break };
        query = format!("limit=1&outcome=refused&next_token={next}");
    }
    assert_eq!(seen, refused);
}

#[tokio::test]
async fn every_change_is_recorded() {
    let node = Node::start().await;
    let (_client, id) = node.connect_user("ann", &[]).await;
    node.post("/api/users/ann/end?api=other", json!({})).await.ok();
    node.delete(&format!("/api/connections/{id}?reason=bye")).await.ok();
    node.delete("/api/connections/nonsense").await;
    node.call_as(Role::Read, "POST", "/api/publish", Some(json!({}))).await;
    // Looking changes nothing.
    node.get("/api/status").await.ok();
    let audit =
        node.until("/api/audit?limit=1000", |body| body["audit"].as_array().unwrap().len() == 6).await;
    let row = |change: &Value| {
        let text = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
        (text("by"), text("operation"), text("outcome"), change["status"].as_u64().unwrap())
    };
    let mut rows: Vec<_> = audit["audit"].as_array().unwrap().iter().map(row).collect();
    rows.sort();
    let expected = [
        ("administer-key", "putPolicy", "done", 200),
        ("operate-key", "closeConnection", "done", 200),
        ("operate-key", "closeConnection", "refused", 404),
        ("operate-key", "endUser", "done", 200),
        ("operate-key", "issueToken", "done", 200),
        ("read-key", "publish", "refused", 403),
    ];
    let expected = expected.map(|(by, operation, outcome, status)| {
        (by.to_owned(), operation.to_owned(), outcome.to_owned(), status)
    });
    assert_eq!(rows, expected);
    let of_reader = node.get("/api/audit?by=read-key").await.ok();
    assert_eq!(of_reader["audit"][0]["id"], "management.denied");
    let ended = node.get("/api/audit?operation=endUser").await.ok();
    assert_eq!(ended["audit"][0]["query"], json!({ "api": "other" }));
    assert_eq!(ended["audit"][0]["path"], "/api/users/ann/end");
    for record in node.records.load(RecordKind::Audit).await.unwrap() {
        assert_eq!(record.expires_at - record.created_at, AUDIT_KEPT);
    }
}

#[tokio::test]
async fn no_token_is_in_the_record() {
    let node = Node::start().await;
    let token = node.token(json!({ "user": "ann", "session_cookie": "c00kie" })).await.ok();
    let audit = node
        .until("/api/audit?operation=issueToken", |body| body["audit"].as_array().unwrap().len() == 1)
        .await;
    let text = audit.to_string();
    assert!(!text.contains(token["token"].as_str().unwrap()) && !text.contains("c00kie"), "{text}");
    assert_eq!(audit["audit"][0]["note"], json!({ "api": API, "stage": STAGE, "user": "ann" }));
}

#[tokio::test]
async fn old_things_are_cleaned_up_on_request() {
    let node = Node::start().await;
    for _ in 0..3 {
        node.token(json!({ "user": "ann", "lifetime": 5 })).await.ok();
    }
    assert_eq!(connect(&node, "?token=nonsense").await, Some(403));
    node.until("/api/attempts", |body| body["attempts"].as_array().unwrap().len() == 1).await;
    // S0-94, S0-93: nothing to do is no failure, and nothing goes before its time.
    let clean_up = |body: Value| {
        let node = &node;
        async move { node.post("/api/cleanup", body).await.ok() }
    };
    let nothing = json!({ "tokens": 0, "attempts": 0, "bans": 0, "audit": 0 });
    assert_eq!(clean_up(json!({})).await, nothing);
    let old = json!({ "tokens": 0, "attempts": 1, "bans": 0, "audit": 0 });
    let now = json!({ "attempt_age": 0, "token_age": 900 });
    assert_eq!(clean_up(json!({ "attempt_age": 0, "dry_run": true })).await, old);
    assert_eq!(clean_up(now).await, old);
    assert_eq!(node.get("/api/attempts").await.ok(), json!({ "attempts": [] }));
}

#[tokio::test]
async fn without_the_store_nothing_happens_that_needs_it() {
    let node = Node::start().await;
    let (_client, _) = node.connect_user("ann", &[]).await;
    node.records.fails.store(true, Ordering::SeqCst);
    let path = format!("/api/apis/{API}/stages/{STAGE}/policy");
    for (method, target, body) in [
        ("PUT", path.as_str(), json!({})),
        ("DELETE", &path, json!({})),
        ("POST", "/api/apply", json!({})),
        ("POST", "/api/jwt", json!({ "api": API, "stage": STAGE, "claims": {} })),
        ("POST", "/api/tokens", json!({ "api": API, "stage": STAGE })),
        ("POST", "/api/users/ann/ban", json!({ "seconds": 5 })),
        ("POST", "/api/cleanup", json!({})),
        ("GET", "/api/audit", Value::Null),
        ("GET", "/api/attempts", Value::Null),
    ] {
        let body = (!body.is_null()).then_some(body);
        let answer = node.call_as(Role::Administer, method, target, body).await;
        assert_eq!(answer.refusal(), (503, "store.unavailable"), "{method} {target}");
    }
    // A policy that could not be recorded was not changed, and a ban that could not be stored ended nobody.
    assert!(!node.control.policy(API, STAGE).unwrap().backend.secrets.is_empty());
    assert_eq!(node.get("/api/connections?count=true&user=ann").await.ok(), json!({ "count": 1 }));
    // What lives in memory goes on.
    let ended = node.post("/api/users/ann/end", json!({})).await.ok();
    assert_eq!(ended["connections"], 1);
    node.records.fails.store(false, Ordering::SeqCst);
    assert_eq!(node.call_as(Role::Administer, "DELETE", &path, None).await.ok(), json!({ "removed": true }));
}
