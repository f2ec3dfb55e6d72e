//! One message to many.

use serde_json::{Value, json};

use crate::harness::{API, Answer, Node, STAGE};

async fn publish(node: &Node, more: Value) -> Answer {
    let mut body = json!({ "api": API, "stage": STAGE });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    node.post("/api/publish", body).await
}

#[tokio::test]
async fn everybody_it_is_for_gets_it_once() {
    let node = Node::start().await;
    let (mut ann, ann_id) = node.connect(json!({ "user": "ann", "session": "s1" }), &["lobby"], "").await;
    let (mut ben, ben_id) =
        node.connect(json!({ "user": "ben", "roles": ["staff"] }), &["lobby", "staff-a"], "").await;
    let delivered = |answer: Answer, n: usize| {
        let body = answer.ok();
        assert_eq!(
            (&body["delivered"], &body["gone"], &body["slow"]),
            (&json!(n), &json!(0), &json!(0)),
            "{body}"
        );
        body
    };
    let body = delivered(publish(&node, json!({ "channel": "lobby", "data": "to the lobby" })).await, 2);
    assert!(body["message_id"].is_string(), "the channel has history: {body}");
    delivered(publish(&node, json!({ "channel": "staff-*", "data": { "b": 1, "a": [1.5, null] } })).await, 1);
    delivered(publish(&node, json!({ "user": "ann", "data": "to ann" })).await, 1);
    delivered(publish(&node, json!({ "session": "s1", "data": 5 })).await, 1);
    delivered(publish(&node, json!({ "connections": [ann_id, ben_id], "data": "to both" })).await, 2);
    delivered(publish(&node, json!({ "all": true, "data": "to all" })).await, 2);
    delivered(publish(&node, json!({ "all": true, "data": "not to ann", "except": [ann_id] })).await, 1);
    delivered(publish(&node, json!({ "user": "nobody", "data": "" })).await, 0);
    for expected in ["to the lobby", "to ann", "5", "to both", "to all"] {
        assert_eq!(ann.text().await, expected);
    }
    assert_eq!(ben.text().await, "to the lobby");
    let object: Value = serde_json::from_str(&ben.text().await).unwrap();
    assert_eq!(object, json!({ "b": 1, "a": [1.5, null] }));
    for expected in ["to both", "to all", "not to ann"] {
        assert_eq!(ben.text().await, expected);
    }
}

#[tokio::test]
async fn a_repeated_key_sends_nothing() {
    let node = Node::start().await;
    let (mut client, _) = node.connect_user("ann", &["lobby"]).await;
    let once = json!({ "channel": "lobby", "data": "once", "idempotency_key": "k1" });
    let first = publish(&node, once.clone()).await.ok();
    let second = publish(&node, once).await.ok();
    assert_eq!((&first["replayed"], &second["replayed"]), (&json!(false), &json!(true)));
    assert_eq!((&first["delivered"], &first["message_id"]), (&second["delivered"], &second["message_id"]));
    for other in [
        json!({ "channel": "lobby", "data": "other", "idempotency_key": "k1" }),
        json!({ "user": "ann", "data": "once", "idempotency_key": "k1" }),
        json!({ "channel": "lobby", "data": "once", "except": [node.ids().await[0]], "idempotency_key": "k1" }),
    ] {
        assert_eq!(publish(&node, other).await.refusal(), (409, "push.key-reused"));
    }
    publish(&node, json!({ "channel": "lobby", "data": "twice", "idempotency_key": "k2" })).await.ok();
    assert_eq!([client.text().await, client.text().await], ["once", "twice"]);
}

#[tokio::test]
async fn who_is_gone_is_named() {
    let node = Node::start().await;
    let (mut client, id) = node.connect_user("ann", &[]).await;
    node.delete(&format!("/api/connections/{id}")).await.ok();
    client.closed().await;
    let body = publish(&node, json!({ "connections": [id], "data": "x" })).await.ok();
    assert_eq!(body, json!({ "delivered": 0, "gone": 1, "slow": 0, "gone_ids": [id] }));
}

#[tokio::test]
async fn what_is_for_nobody_in_particular_or_too_large_is_refused() {
    let node = Node::start().await;
    for more in [
        json!({ "data": "x" }),
        json!({ "channel": "a", "user": "b", "data": "x" }),
        json!({ "all": false, "data": "x" }),
        json!({ "channel": "a.b", "data": "x" }),
        json!({ "connections": ["nonsense"], "data": "x" }),
        json!({ "all": true, "except": ["nonsense"], "data": "x" }),
        json!({ "all": true }),
        json!({ "all": true, "data": "x", "idempotency_key": "" }),
    ] {
        assert_eq!(publish(&node, more.clone()).await.status, 400, "{more}");
    }
    publish(&node, json!({ "all": true, "data": "x".repeat(131_072) })).await.ok();
    let answer = publish(&node, json!({ "all": true, "data": "x".repeat(131_073) })).await;
    assert_eq!(answer.refusal(), (413, "message.too-large-out"));
    assert!(answer.text.contains("131073 bytes, 131072 allowed"), "{}", answer.text);
}

#[tokio::test]
async fn a_node_that_stops_takes_no_message() {
    let node = Node::start().await;
    node.gateway.drain(std::time::Duration::from_secs(5)).await;
    let answer = publish(&node, json!({ "all": true, "data": "x" })).await;
    assert_eq!(answer.refusal(), (503, "node.draining"));
    assert_eq!(node.get("/api/status").await.ok()["state"], "draining");
}
