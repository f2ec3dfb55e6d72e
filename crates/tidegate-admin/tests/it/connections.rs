//! Which connections there are, closing one, sending to one.

use std::collections::HashSet;

use bytes::Bytes;
use http::Request;
use serde_json::json;

use crate::client::Client;
use crate::harness::{API, Answer, Node, STAGE};

#[tokio::test]
async fn connections_are_found_by_what_they_are() {
    let node = Node::start().await;
    let (_ann, ann) = node.connect_user("ann", &["lobby"]).await;
    let with_session = json!({ "user": "ben", "session": "s9", "roles": ["staff"] });
    let (_ben, ben) = node.connect(with_session, &["staff-a"], "User-Agent: probe/1\r\n").await;
    let _nobody = Client::connect(node.public, &node.target(""), "").await.unwrap();
    // S0-58, S0-59
    let found = |query: &str| {
        let target = format!("/api/connections?{query}");
        let node = &node;
        async move {
            let body = node.get(&target).await.ok();
            let connections = body["connections"].as_array().unwrap().clone();
            let ids = connections.iter().map(|c| c["connection_id"].as_str().unwrap().to_owned());
            ids.collect::<Vec<_>>()
        }
    };
    assert_eq!(found("").await.len(), 3);
    for query in ["user=ann", "channel=lobby", &format!("api={API}&stage={STAGE}&user=ann")] {
        assert_eq!(found(query).await, std::slice::from_ref(&ann), "{query}");
    }
    for query in ["session=s9", "channel=staff-a", &format!("api={API}&stage={STAGE}&session=s9")] {
        assert_eq!(found(query).await, std::slice::from_ref(&ben), "{query}");
    }
    for query in ["user=carl", "address=10.0.0.1", "min_age=1000", "api=other", "stage=other"] {
        assert!(found(query).await.is_empty(), "{query}");
    }
    assert_eq!(found("address=127.0.0.1&max_age=1000").await.len(), 3);
    assert_eq!(node.get("/api/connections?count=true").await.ok(), json!({ "count": 3 }));
    assert_eq!(node.get("/api/connections?count=true&user=ann").await.ok(), json!({ "count": 1 }));

    let connection = node.get(&format!("/api/connections/{ben}")).await.ok();
    let expected = json!({
        "connection_id": ben, "api": API, "stage": STAGE, "node": 0, "state": "open", "source_ip": "127.0.0.1",
        "user": "ben", "auth": "token", "session": "s9", "roles": ["staff"], "channels": ["staff-a"],
        "user_agent": "probe/1", "messages_in": 0, "last_received_at": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&connection[name], value, "{name}");
    }
}

#[tokio::test]
async fn pages_hold_every_connection_once() {
    let node = Node::start().await;
    let mut clients = Vec::new();
    for _ in 0..7 {
        clients.push(Client::connect(node.public, &node.target(""), "").await.unwrap());
    }
    let mut seen = HashSet::new();
    let mut target = "/api/connections?limit=3".to_owned();
    let mut n_pages = 0;
    loop {
        let body = node.get(&target).await.ok();
        n_pages += 1;
        for connection in body["connections"].as_array().unwrap() {
            assert!(seen.insert(connection["connection_id"].as_str().unwrap().to_owned()));
        }
        let Some(next) = body["next_token"].as_str() else { break };
        target = format!("/api/connections?limit=3&next_token={next}");
    }
    assert_eq!((seen.len(), n_pages), (7, 3));
}

#[tokio::test]
async fn a_connection_is_closed_with_code_and_reason() {
    let node = Node::start().await;
    let (mut client, id) = node.connect_user("ann", &[]).await;
    let target = format!("/api/connections/{id}");
    for query in ["?code=1002", "?code=1006", "?code=999", "?code=5000", "?code=x"] {
        assert_eq!(
            node.delete(&format!("{target}{query}")).await.refusal(),
            (400, "admin.malformed"),
            "{query}"
        );
    }
    // 62 characters of two bytes.
    let long = format!("{target}?reason={}", "%C3%A4".repeat(62));
    assert_eq!(node.delete(&long).await.refusal(), (400, "admin.malformed"));
    assert_eq!(
        node.delete(&format!("{target}?code=4001&reason=go%20away")).await.ok(),
        json!({ "closed": true })
    );
    assert_eq!(client.closed().await, (4001, "go away".to_owned()));
    node.until("/api/connections?count=true", |body| body["count"] == 0).await;
    assert_eq!(node.delete(&target).await.refusal(), (404, "connections.gone-server-closed"));
    assert_eq!(node.get(&target).await.refusal(), (404, "connections.gone-server-closed"));
    assert_eq!(node.get("/api/connections/nonsense").await.refusal(), (404, "connections.malformed-id"));
    // Without anything said it is a matter of policy.
    let (mut client, id) = node.connect_user("ann", &[]).await;
    node.delete(&format!("/api/connections/{id}")).await.ok();
    assert_eq!(client.closed().await, (1008, String::new()));
}

async fn send(node: &Node, id: &str, body: Bytes) -> Answer {
    let request = Request::post(format!("/api/connections/{id}/send"))
        .header("authorization", "Bearer operate")
        .body(body)
        .unwrap();
    node.request(request).await
}

#[tokio::test]
async fn a_message_reaches_its_connection_byte_for_byte() {
    let node = Node::start().await;
    let (mut client, id) = node.connect_user("ann", &[]).await;
    for text in ["hello", " {\"a\": 1} \u{1f30a}", ""] {
        assert_eq!(send(&node, &id, Bytes::from(text.to_owned())).await.ok(), json!({ "sent": true }));
        assert_eq!(client.text().await, text);
    }
    let limit = 131_072;
    send(&node, &id, Bytes::from(vec![b'x'; limit])).await.ok();
    assert_eq!(client.text().await.len(), limit);
    let answer = send(&node, &id, Bytes::from(vec![b'x'; limit + 1])).await;
    assert_eq!(answer.refusal(), (413, "message.too-large-out"));
    assert_eq!(send(&node, &id, Bytes::from_static(b"\xff")).await.refusal(), (400, "admin.malformed"));
    assert_eq!(send(&node, "nonsense", Bytes::new()).await.refusal(), (404, "connections.malformed-id"));
}

#[tokio::test]
async fn a_slow_reader_is_a_429() {
    let node = Node::start().await;
    let (_client, id) = node.connect_user("ann", &[]).await;
    let payload = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..10_000 {
        let answer = send(&node, &id, payload.clone()).await;
        if answer.status == 429 {
            assert_eq!(answer.refusal(), (429, "conn.slow-consumer"));
            assert_eq!(answer.headers["retry-after"], "1");
            return;
        }
        answer.ok();
    }
    panic!("a client that reads nothing took a gigabyte");
}
