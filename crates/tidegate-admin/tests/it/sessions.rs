//! Sessions and users: which are connected, ending them, giving them other rights.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Client;
use crate::harness::{API, Node, STAGE};

/// S0-60: what an end may take, and what this machine takes for anything.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn ending_a_session_ends_all_of_it_and_nothing_else() {
    let node = &Node::start().await;
    let of = |user: &str, session: &str| json!({ "user": user, "session": session });
    let (mut first, _) = node.connect(of("ann", "s1"), &[], "").await;
    let (mut second, _) = node.connect(of("ann", "s1"), &[], "").await;
    let (_other, other) = node.connect(of("ann", "s2"), &[], "").await;
    let unspent = node.token(of("ann", "s1")).await.ok();
    let kept = node.token(of("ann", "s2")).await.ok();
    // S0-60, S0-61
    let begin = Instant::now();
    assert_eq!(
        node.post("/api/sessions/s1/end", json!({})).await.ok(),
        json!({ "connections": 2, "tokens": 1 })
    );
    for client in [&mut first, &mut second] {
        assert_eq!(client.closed().await, (1008, "Session ended".to_owned()));
    }
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    node.until("/api/connections?count=true", |body| body["count"] == 1).await;
    assert_eq!(node.ids().await, [other]);
    let connect = |token: &serde_json::Value| {
        let target = node.target(&format!("?ws_token={}", token["token"].as_str().unwrap()));
        async move { Client::connect(node.public, &target, "").await }
    };
    assert_eq!(connect(&unspent).await.err(), Some(403));
    assert!(connect(&kept).await.is_ok());
    assert_eq!(
        node.post("/api/sessions/none/end", json!({})).await.ok(),
        json!({ "connections": 0, "tokens": 0 })
    );
}

#[tokio::test]
async fn a_session_ends_by_its_cookie() {
    let node = Node::start().await;
    let cookie = "Cookie: sessionid=abc123\r\n";
    let with_cookie = json!({ "user": "ann", "session_cookie": "abc123" });
    let (mut client, _) = node.connect(with_cookie.clone(), &[], cookie).await;
    node.token(with_cookie).await.ok();
    let (_other, _) = node
        .connect(json!({ "user": "ann", "session_cookie": "xyz" }), &[], "Cookie: sessionid=xyz\r\n")
        .await;
    let end = |api: &str| json!({ "cookie": "abc123", "api": api });
    let nothing = json!({ "connections": 0, "tokens": 0 });
    assert_eq!(node.post("/api/sessions/end", end("other")).await.ok(), nothing);
    // S0-61: all that the backend knows is the cookie.
    let one = json!({ "connections": 1, "tokens": 1 });
    assert_eq!(node.post("/api/sessions/end", end(API)).await.ok(), one);
    assert_eq!(client.closed().await, (1008, "Session ended".to_owned()));
    assert_eq!(node.post("/api/sessions/end", json!({ "cookie": "abc123" })).await.ok(), nothing);
    // The value is a secret and not recorded.
    let audit = node.until("/api/audit?operation=endSessionOfCookie", |body| {
        body["audit"].as_array().unwrap().len() == 3
    });
    let text = audit.await.to_string();
    assert!(!text.contains("abc123"), "{text}");
}

#[tokio::test]
async fn users_and_sessions_are_listed_in_pages() {
    let node = Node::start().await;
    let mut clients = Vec::new();
    for (user, session) in [("ann", "s1"), ("ann", "s2"), ("ben", "s3"), ("carl", "s4")] {
        clients.push(node.connect(json!({ "user": user, "session": session }), &[], "").await);
    }
    let users = node.get(&format!("/api/users?api={API}&stage={STAGE}&limit=2")).await.ok();
    assert_eq!(
        users["users"],
        json!([
            { "api": API, "stage": STAGE, "user": "ann", "connections": 2 },
            { "api": API, "stage": STAGE, "user": "ben", "connections": 1 },
        ])
    );
    let next = users["next_token"].as_str().unwrap();
    let users = node.get(&format!("/api/users?limit=2&next_token={next}")).await.ok();
    assert_eq!(users, json!({ "users": [{ "api": API, "stage": STAGE, "user": "carl", "connections": 1 }] }));
    let sessions = node.get("/api/sessions").await.ok();
    let names: Vec<_> =
        sessions["sessions"].as_array().unwrap().iter().map(|s| s["session"].clone()).collect();
    assert_eq!(names, ["s1", "s2", "s3", "s4"]);
    assert_eq!(node.get("/api/sessions?stage=other").await.ok(), json!({ "sessions": [] }));
}

#[tokio::test]
async fn a_user_ends_where_it_was_said() {
    let node = Node::start().await;
    let (mut client, _) = node.connect_user("a/b ü", &[]).await;
    let none = json!({ "connections": 0, "tokens": 0 });
    assert_eq!(node.post("/api/users/a%2Fb%20%C3%BC/end?api=other", json!({})).await.ok(), none);
    // S0-60
    let one = json!({ "connections": 1, "tokens": 0 });
    assert_eq!(
        node.post(&format!("/api/users/a%2Fb%20%C3%BC/end?api={API}&stage={STAGE}"), json!({})).await.ok(),
        one
    );
    assert_eq!(client.closed().await, (1008, "Session ended".to_owned()));
}

#[tokio::test]
async fn whoever_loses_a_role_loses_the_channels_of_it() {
    let node = Node::start().await;
    let (_client, id) = node
        .connect(
            json!({ "user": "ann", "roles": ["staff"], "claims": { "x": 1 } }),
            &["staff-a", "lobby"],
            "",
        )
        .await;
    let put = |body| node.call_as(tidegate_auth::Role::Operate, "PUT", "/api/users/ann/claims", Some(body));
    assert_eq!(put(json!({})).await.refusal(), (400, "admin.malformed"));
    assert_eq!(
        put(json!({ "roles": ["staff", "lead"] })).await.ok(),
        json!({ "connections": 1, "removed": 0 })
    );
    // S0-70
    assert_eq!(put(json!({ "roles": [] })).await.ok(), json!({ "connections": 1, "removed": 1 }));
    let connection = node.get(&format!("/api/connections/{id}")).await.ok();
    assert_eq!((&connection["channels"], &connection["roles"]), (&json!(["lobby"]), &json!([])));
    assert_eq!(connection["user"], "ann");
}
