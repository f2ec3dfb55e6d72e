//! Channels and the rules about them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tidegate_auth::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{API, Node, STAGE, policy};

#[tokio::test]
async fn channels_and_who_is_in_them() {
    let node = Node::start().await;
    let (_ann, _) = node.connect_user("ann", &["lobby"]).await;
    let (_again, _) = node.connect_user("ann", &["lobby"]).await;
    let (_ben, _) =
        node.connect(json!({ "user": "ben", "roles": ["staff"] }), &["lobby", "staff-a"], "").await;
    let channels = node.get("/api/channels").await.ok();
    let row = |name: &str, n: usize| json!({ "api": API, "stage": STAGE, "channel": name, "connections": n });
    assert_eq!(channels["channels"], json!([row("lobby", 3), row("staff-a", 1)]));
    assert_eq!(node.get("/api/channels?prefix=sta").await.ok()["channels"], json!([row("staff-a", 1)]));
    let target = |name: &str| format!("/api/channels/{name}?api={API}&stage={STAGE}");
    assert_eq!(
        node.get(&target("lobby")).await.ok(),
        json!({ "connections": 3, "users": 2, "user_ids": ["ann", "ben"] })
    );
    assert_eq!(
        node.get(&target("empty")).await.ok(),
        json!({ "connections": 0, "users": 0, "user_ids": [] })
    );
    assert_eq!(node.get("/api/channels/lobby").await.refusal(), (400, "admin.malformed"));
}

#[tokio::test]
async fn connections_are_put_in_and_taken_out() {
    let node = &Node::start().await;
    let (_client, id) = node.connect_user("ann", &[]).await;
    let member = |name: &str, id: &str| format!("/api/channels/{name}/connections/{id}");
    let put = |target: String| async move { node.call_as(Role::Operate, "PUT", &target, None).await };
    // Rules bind clients, not administrators.
    assert_eq!(put(member("staff-a", &id)).await.ok(), json!({ "joined": true }));
    assert_eq!(put(member("staff-a", &id)).await.ok(), json!({ "joined": false }));
    assert_eq!(node.get(&format!("/api/connections/{id}")).await.ok()["channels"], json!(["staff-a"]));
    assert_eq!(node.delete(&member("staff-a", &id)).await.ok(), json!({ "left": true }));
    assert_eq!(node.delete(&member("staff-a", &id)).await.ok(), json!({ "left": false }));
    assert_eq!(put(member("staff-a", "nonsense")).await.refusal(), (404, "connections.malformed-id"));
    assert_eq!(put(member("a.b", &id)).await.refusal(), (400, "admin.malformed"));
    for channel_idx in 0..32 {
        put(member(&format!("room-{channel_idx}"), &id)).await.ok();
    }
    assert_eq!(put(member("room-32", &id)).await.refusal(), (409, "channel.too-many"));
}

/// A backend that says yes or no, as it is told.
async fn judge(says_yes: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let says_yes = Arc::clone(&says_yes);
            tokio::spawn(async move {
                let mut request = Vec::new();
                // The question is one small JSON object.
                while !request.ends_with(b"}") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let status = if says_yes.load(Ordering::SeqCst) { "204 Yes" } else { "403 No" };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn rules_are_asked_again() {
    let node = Node::start().await;
    let says_yes = Arc::new(AtomicBool::new(true));
    let address = judge(Arc::clone(&says_yes)).await;
    let mut asking = policy();
    asking["channels"]["rules"][2]["join"] = json!({ "ask": format!("http://{address}/may") });
    node.put(&format!("/api/apis/{API}/stages/{STAGE}/policy"), asking).await.ok();
    let (_ann, ann) = node.connect_user("ann", &["asked"]).await;
    let (_ben, ben) = node.connect_user("ben", &["asked"]).await;
    let (_carl, carl) = node.connect_user("carl", &[]).await;
    let target = format!("/api/channels/asked/connections/{carl}");
    node.call_as(Role::Operate, "PUT", &target, None).await.ok();
    says_yes.store(false, Ordering::SeqCst);
    // S0-70: on request, and for whom that was said.
    let recheck = |body: Value| node.post("/api/channels/recheck", body);
    let channels = |id: &str| {
        let (node, target) = (&node, format!("/api/connections/{id}"));
        async move { node.get(&target).await.ok()["channels"].clone() }
    };
    assert_eq!(recheck(json!({ "api": "other" })).await.ok(), json!({ "removed": 0 }));
    assert_eq!(recheck(json!({ "user": "ann", "api": API })).await.ok(), json!({ "removed": 1 }));
    assert_eq!((channels(&ann).await, channels(&ben).await), (json!([]), json!(["asked"])));
    assert_eq!(recheck(json!({})).await.ok(), json!({ "removed": 1 }));
    // Whom an administrator has put there stays.
    assert_eq!((channels(&ben).await, channels(&carl).await), (json!([]), json!(["asked"])));
}

#[tokio::test]
async fn what_the_rules_say() {
    let node = Node::start().await;
    let check = |more: Value| {
        let mut body = json!({ "api": API, "stage": STAGE, "right": "join" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let node = &node;
        async move { node.call_as(Role::Read, "POST", "/api/permissions/check", Some(body)).await.ok() }
    };
    assert_eq!(check(json!({ "channel": "lobby" })).await, json!({ "decision": "allow", "rule": "lobby" }));
    let staff = json!({ "channel": "staff-a", "user": "ann", "roles": ["staff"] });
    assert_eq!(check(staff).await["decision"], "allow");
    let denied = check(json!({ "channel": "staff-a", "user": "ann" })).await;
    assert_eq!(
        (&denied["decision"], &denied["rule"], &denied["id"]),
        (&json!("deny"), &json!("staff-*"), &json!("channel.forbidden"))
    );
    let unlisted = check(json!({ "channel": "loby", "user": "ann" })).await;
    assert_eq!(
        (&unlisted["id"], &unlisted["rule"], &unlisted["nearest"]),
        (&json!("channel.unlisted"), &Value::Null, &json!("lobby"))
    );
    assert_eq!(check(json!({ "channel": "lobby", "right": "publish" })).await["decision"], "deny");
    let asked = check(json!({ "channel": "asked", "user": "ann" })).await;
    assert_eq!(
        asked,
        json!({ "decision": "ask", "rule": "asked", "url": "http://127.0.0.1:9/may", "cache": 7 })
    );
    // A stage without a policy has no rules.
    let target = format!("/api/apis/{API}/stages/{STAGE}/policy");
    node.call_as(Role::Administer, "DELETE", &target, None).await.ok();
    let nothing = check(json!({ "channel": "lobby" })).await;
    assert_eq!((&nothing["decision"], &nothing["id"]), (&json!("deny"), &json!("channel.unlisted")));
}

#[tokio::test]
async fn a_changed_policy_is_asked_at_once() {
    let node = Node::start().await;
    let (_client, id) = node.connect_user("ann", &["lobby"]).await;
    // S0-70: when rules change.
    let mut changed = policy();
    changed["channels"]["rules"][0]["join"] = json!("deny");
    node.put(&format!("/api/apis/{API}/stages/{STAGE}/policy"), changed).await.ok();
    node.until(&format!("/api/connections/{id}"), |body| body["channels"] == json!([])).await;
}
