//! The order of the checks of a handshake, and what each refusal tells whom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tidegate_core::policy::Policy;
use tidegate_gateway::TokenRequest;

use crate::backend::Answer;
use crate::client::Reply;
use crate::harness::{Deployed, Plane, Setup};
use crate::session_layer::{jwt_policy, unlimited};

const GOOD: &str = "Origin: https://good.example\r\n";

/// A policy with every check, and with `change`s by path.
fn policy(changes: &[(&str, Value)]) -> Deployed {
    let mut policy = unlimited(json!({
        "admission": {
            "checks": ["token"],
            "origins": ["https://good.example"],
            "allow_missing_origin": false,
        },
        "channels": { "rules": [{ "match": "open", "join": "allow" }, { "match": "staff", "join": "deny" }] },
    }));
    for (path, value) in changes {
        *policy.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
    }
    Deployed::with_policy(policy)
}

fn limits(stage: u32, address: u32, user: u32) -> Deployed {
    policy(&[(
        "/admission",
        json!({
            "checks": ["token"],
            "origins": ["https://good.example"],
            "max_connections": stage,
            "connections_per_address": address,
            "connections_per_user": user,
        }),
    )])
}

#[track_caller]
fn check(plane: &Plane, reply: &Reply, status: u16, check: &str, diagnosis: &str) {
    let refusal = plane.last_refusal();
    assert_eq!((reply.status, refusal.status, refusal.diagnosis), (status, status, diagnosis), "{reply:?}");
    let body = reply.json();
    assert_eq!(body["check"], check);
    // S0-42: nothing but a text that is the same for all of its status, ids, and which check it was.
    let known = ["message", "check", "connectionId", "requestId"];
    assert!(body.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{body}");
    assert!(!reply.body.contains(diagnosis) && !reply.head.contains(diagnosis), "{reply:?}");
    let is_limit = status == 429;
    assert_eq!(reply.value("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), is_limit);
}

/// Each handshake breaks one rule and all later ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_check_comes_before_the_next() {
    // S0-42
    let plane = Plane::start().await;
    plane.deploy(&policy(&[("/attempts/per_address", json!(2))]));
    for _ in 0..3 {
        let reply = plane.ask("?channel=no/name", "Origin: https://bad.example\r\n").await;
        check(&plane, &reply, 403, "origin", "origin.not-allowed");
    }
    let reply = plane.ask("?channel=no/name", "").await;
    check(&plane, &reply, 403, "origin", "origin.not-allowed");
    let reply = plane.ask("?channel=no/name", GOOD).await;
    check(&plane, &reply, 429, "attempts", "ratelimit.connect");

    plane.deploy(&limits(1, 1, 1));
    let token = plane.token_of("ada").await;
    let client = plane.connect_as(&format!("?ws_token={token}&channel=open"), GOOD).await;
    let reply = plane.ask("?channel=no/name", GOOD).await;
    check(&plane, &reply, 503, "connections", "limit.connections");
    plane.deploy(&limits(0, 1, 1));
    let reply = plane.ask("?channel=no/name", GOOD).await;
    check(&plane, &reply, 429, "connections", "limit.connections");
    plane.deploy(&limits(0, 0, 1));
    let reply = plane.ask("?channel=no/name", GOOD).await;
    check(&plane, &reply, 400, "channel", "channel.invalid");
    let reply = plane.ask("?channel=staff", GOOD).await;
    check(&plane, &reply, 403, "token", "token.missing");
    let token = plane.token_of("ada").await;
    let reply = plane.ask(&format!("?channel=staff&ws_token={token}"), GOOD).await;
    check(&plane, &reply, 429, "connections", "limit.connections");
    let token = plane.token_of("eve").await;
    plane.backend.plan(|_| Answer::Status(418));
    let reply = plane.ask(&format!("?channel=staff&ws_token={token}"), GOOD).await;
    check(&plane, &reply, 403, "permission", "channel.forbidden");
    // The backend is asked last, and only it was.
    assert_eq!(plane.backend.requests.count(|request| request.is_event("CONNECT")), 1);
    let reply = plane.ask(&format!("?channel=open&ws_token={token}"), GOOD).await;
    assert_eq!(reply.status, 418);
    plane.backend.plan(|_| Answer::Status(200));
    drop(client);
    plane.assert_untold(&[&token]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_of_the_node_comes_first_and_is_no_attempt() {
    // S0-42
    let plane = Plane::start_from(Setup { max_connections: 1, ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(json!({
        "admission": { "origins": ["https://good.example"] },
        "attempts": { "per_address": 2 },
    })));
    let client = plane.connect_as("", GOOD).await;
    for _ in 0..5 {
        assert_eq!(plane.knock("", "Origin: https://bad.example\r\n").await, 503);
        assert_eq!(plane.last_refusal().diagnosis, "limit.connections");
    }
    drop(client);
    plane.nobody_is_left().await;
    drop(plane.connect_as("", GOOD).await);
    plane.nobody_is_left().await;
    assert_eq!(plane.knock("", GOOD).await, 429);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_without_a_policy_asks_nothing() {
    let plane = Plane::start().await;
    let headers = "Origin: https://bad.example\r\nSec-WebSocket-Protocol: tidegate.bearer, what.ever.it\r\n";
    let mut client = plane.connect_as("?channel=no/name&ws_token=x&token=y", headers).await;
    client.close(1000, "").await;
    let connect = &plane.backend.events("CONNECT", 1).await[0];
    // AG-1: the headers are the client's own, and nobody is told of an identity.
    assert_eq!(connect.value("sec-websocket-protocol"), "tidegate.bearer, what.ever.it");
    assert!(connect.headers.iter().all(|(name, _)| !name.to_lowercase().starts_with("tidegate-")));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_policy_admits_nobody() {
    let plane = Plane::start().await;
    // S3-10: a key set never verifies HMAC, so that no public key passes for a secret.
    let broken: Policy = serde_json::from_value(json!({
        "admission": { "checks": ["jwt"], "required": false },
        "jwt": { "keys": [{ "jwks_url": "http://127.0.0.1:9/", "algorithms": ["HS256"] }] },
    }))
    .unwrap();
    plane.deploy(&Deployed { policy: Some(Arc::new(broken)), ..Deployed::default() });
    let reply = plane.ask("", "").await;
    check(&plane, &reply, 500, "policy", "config.invalid-value");
    let detail = plane.last_refusal().detail;
    assert!(detail.contains("jwt.keys[0].algorithms[0]"), "{detail}");
    assert_eq!(plane.backend.requests.all().len(), 0);
    plane.end().await;
}

/// S0-43: what identity a backend is told, and that nobody else can tell it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_hear_who_it_is_and_clients_cannot_say_so() {
    let plane = Plane::start_with_policy(unlimited(json!({
        "admission": { "checks": ["token"], "required": false },
        "channels": { "unlisted": "allow" },
    })))
    .await;
    let request = TokenRequest {
        user: Some("ada\r\nX-Evil: 1, é%".to_owned()),
        session: Some("s 1".to_owned()),
        ..TokenRequest::default()
    };
    let token = plane.token(request).await;
    let forged = "Tidegate-User: root\r\nTIDEGATE-AUTH: jwt\r\n";
    let mut client = plane.connect_as(&format!("?ws_token={token}&channel=a&channel=b"), forged).await;
    client.send("hello").await;
    plane.backend.events("MESSAGE", 1).await;
    client.close(1000, "").await;
    let mut nobody = plane.connect_as("", forged).await;
    nobody.close(1000, "").await;
    plane.backend.events("DISCONNECT", 2).await;
    let of = |client: &str| {
        let id = plane.backend.requests.all().into_iter().find(|request| request.value("x-client") == client);
        let id = id.unwrap().id().to_owned();
        plane.backend.requests.all().into_iter().filter(move |request| request.id() == id)
    };
    assert_eq!(of(&client.tag).count(), 3);
    for request in of(&client.tag) {
        assert_eq!(request.values("tidegate-user"), ["ada%0D%0AX-Evil:%201%2C%20%C3%A9%25"]);
        assert_eq!(request.values("tidegate-session"), ["s%201"]);
        assert_eq!(request.values("tidegate-channels"), ["a,b"]);
        assert_eq!(request.values("tidegate-auth"), ["token"]);
        assert!(request.values("x-evil").is_empty());
    }
    for request in of(&nobody.tag) {
        assert_eq!(request.values("tidegate-auth"), ["none"]);
        assert!(request.values("tidegate-user").is_empty());
    }
    plane.end().await;
}

/// A fault in the middle of a handshake costs that handshake, not its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_panics_frees_its_place() {
    let mut policy = jwt_policy(json!({}));
    policy["attempts"] = json!({ "per_address": 0, "per_user": 1, "dry_run": true });
    policy["admission"]["connections_per_user"] = json!(2);
    let plane = Plane::start_with_policy(policy).await;
    let query = format!("?token={}", plane.jwt(json!({ "sub": "ada" })));
    drop(plane.connect_as(&query, "").await);
    plane.nobody_is_left().await;
    plane.notices.panics_when_limited.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(plane.knock(&query, "").await, 500);
    }
    plane.nobody_is_left().await;
    plane.notices.panics_when_limited.store(false, Ordering::Relaxed);
    drop(plane.connect_as(&query, "").await);
    plane.end().await;
}
