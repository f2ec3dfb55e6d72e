//! `/api/capture`: payloads of one route, for a short time.

use serde_json::{Value, json};
use tidegate_auth::Role;

use crate::client::{Client, DEADLINE};
use crate::harness::{API, Node, STAGE};

fn encoded(id: &str) -> String {
    id.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

async fn start(node: &Node, order: Value) -> crate::harness::Answer {
    node.call_as(Role::Administer, "POST", "/api/capture", Some(order)).await
}

async fn captured(node: &Node, query: &str) -> Value {
    node.call_as(Role::Diagnose, "GET", &format!("/api/capture{query}"), None).await.ok()
}

/// What was captured, once there are so many payloads.
async fn until_captured(node: &Node, n_payloads: usize) -> Value {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let shown = captured(node, "").await;
        if shown["payloads"].as_array().unwrap().len() >= n_payloads {
            return shown;
        }
        assert!(tokio::time::Instant::now() < deadline, "{shown}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn until_handled(node: &Node, n_messages: u64) {
    node.until("/api/connections", |body| body["connections"][0]["messages_in"] == n_messages).await;
}

#[tokio::test]
async fn what_is_said_is_shown_to_whoever_asked_for_it_and_to_nobody_else() {
    // DX-10
    const SAID: &str = "hello dear captured world";
    const BEFORE: &str = "said before anybody looked";
    let node = Node::start().await;
    let mut client = Client::connect(node.public, &node.target(""), "").await.unwrap();
    client.send(BEFORE).await;
    until_handled(&node, 1).await;
    assert_eq!(captured(&node, "").await, json!({ "capture": null, "payloads": [] }));
    let order = json!({ "route": "$default", "seconds": 60, "bytes": 1000, "api": API, "stage": STAGE });
    let state = start(&node, order.clone()).await.ok();
    assert_eq!((&state["active"], &state["max_bytes"]), (&json!(true), &json!(1000)));
    assert_eq!(start(&node, order.clone()).await.refusal(), (409, "admin.not-possible"));

    client.send(SAID).await;
    let shown = until_captured(&node, 2).await;
    let id = node.ids().await.remove(0);
    let ways: Vec<_> = shown["payloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|payload| (payload["way"].as_str().unwrap(), payload["text"].as_str().unwrap()))
        .collect();
    assert_eq!(ways, [("in", SAID), ("out", SAID)]);
    assert_eq!(captured(&node, &format!("?connection={}", encoded(&id))).await, shown);
    assert_eq!(captured(&node, "?connection=another").await["payloads"], json!([]));
    assert_eq!(node.get("/api/status").await.ok()["capture"]["route"], "$default");

    // In the answer of `explain` where payloads are asked for, and nowhere else.
    let explain = |more: &str| format!("/api/explain?q={}{more}", encoded(&id));
    let with = node.call_as(Role::Diagnose, "GET", &explain("&payloads=true"), None).await.ok();
    let payloads: Vec<_> =
        with["timeline"].as_array().unwrap().iter().filter(|line| line["kind"] == "payload").collect();
    assert_eq!(payloads.len(), 2, "{with}");
    assert!(payloads.iter().all(|line| line["text"].as_str().unwrap().contains(SAID)), "{with}");
    for target in [
        explain(""),
        "/api/journal?limit=1000".to_owned(),
        format!("/api/report?subject={}", encoded(&id)),
        "/api/status".to_owned(),
    ] {
        let answer = node.call_as(Role::Diagnose, "GET", &target, None).await.ok().to_string();
        assert!(!answer.contains(SAID), "{target}: {answer}");
    }
    let audit = node.call_as(Role::Administer, "GET", "/api/audit", None).await.ok().to_string();
    assert!(audit.contains("startCapture") && !audit.contains(SAID), "{audit}");

    let ended = node.call_as(Role::Administer, "DELETE", "/api/capture", None).await.ok();
    assert_eq!(ended, json!({ "ended": true }));
    client.send(SAID).await;
    until_handled(&node, 3).await;
    assert_eq!(captured(&node, "").await, json!({ "capture": null, "payloads": [] }));
    assert!(node.get("/api/status").await.ok().get("capture").is_none());
}

#[tokio::test]
async fn it_ends_by_itself_and_is_ordered_by_administrators_within_bounds() {
    // DX-10
    let node = Node::start().await;
    let order = |seconds: u64, bytes: u64| json!({ "route": "$default", "seconds": seconds, "bytes": bytes });
    for role in [Role::Read, Role::Diagnose, Role::Operate] {
        let refused = node.call_as(role, "POST", "/api/capture", Some(order(1, 1))).await;
        assert_eq!(refused.refusal(), (403, "management.denied"));
    }
    assert_eq!(node.get("/api/capture").await.refusal(), (403, "management.denied"));
    for wrong in [
        order(0, 1),
        order(3601, 1),
        order(1, 0),
        order(1, (8 << 20) + 1),
        json!({ "route": "$connect", "seconds": 1, "bytes": 1 }),
    ] {
        assert_eq!(start(&node, wrong.clone()).await.refusal(), (400, "admin.malformed"), "{wrong}");
    }
    start(&node, order(1, 1000)).await.ok();
    node.until("/api/status", |status| status.get("capture").is_none()).await;
    assert_eq!(captured(&node, "").await["capture"]["active"], false);
    // Its bytes, too, are an end.
    start(&node, order(60, 3)).await.ok();
    let mut client = Client::connect(node.public, &node.target(""), "").await.unwrap();
    client.send("12345").await;
    let shown = until_captured(&node, 1).await;
    assert_eq!((&shown["capture"]["active"], &shown["payloads"][0]["text"]), (&json!(false), &json!("123")));
    assert_eq!((&shown["payloads"][0]["cut"], &shown["payloads"][0]["size"]), (&json!(true), &json!(5)));
}
