//! Bans and revocations.

use serde_json::{Value, json};
use tidegate_auth::Role;

use crate::client::Client;
use crate::harness::{API, Node, STAGE};

async fn connect_with_jwt(node: &Node, claims: Value) -> Result<Client, u16> {
    let body = json!({ "api": API, "stage": STAGE, "claims": claims });
    let answer = node.call_as(Role::Administer, "POST", "/api/jwt", Some(body)).await.ok();
    let token = answer["token"].as_str().unwrap();
    Client::connect(node.public, &node.target(&format!("?token={token}")), "").await
}

#[tokio::test]
async fn a_revoked_user_is_out_and_stays_out() {
    let node = Node::start().await;
    let mut client = connect_with_jwt(&node, json!({ "sub": "ann" })).await.unwrap();
    // S3-17
    let body = json!({ "sub": "ann", "until": "2999-01-01T00:00:00Z", "reason": "left" });
    assert_eq!(node.post("/api/revocations", body).await.ok(), json!({ "connections": 1, "tokens": 0 }));
    assert_eq!(client.closed().await, (1008, "Access revoked".to_owned()));
    assert_eq!(connect_with_jwt(&node, json!({ "sub": "ann" })).await.err(), Some(403));
    assert!(connect_with_jwt(&node, json!({ "sub": "ben" })).await.is_ok());
    let bans = node.get("/api/bans").await.ok();
    let ban = &bans["bans"][0];
    assert_eq!(ban["until"], "2999-01-01T00:00:00.000Z");
    assert_eq!((&ban["kind"], &ban["id"], &ban["reason"]), (&json!("user"), &json!("ann"), &json!("left")));
    assert_eq!(node.delete("/api/revocations?sub=ann").await.ok(), json!({ "lifted": true }));
    assert_eq!(node.delete("/api/revocations?sub=ann").await.ok(), json!({ "lifted": false }));
    assert!(connect_with_jwt(&node, json!({ "sub": "ann" })).await.is_ok());
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_others_of_its_user_are_not() {
    let node = Node::start().await;
    let mut revoked = connect_with_jwt(&node, json!({ "sub": "ann", "jti": "t1" })).await.unwrap();
    let _kept = connect_with_jwt(&node, json!({ "sub": "ann", "jti": "t2" })).await.unwrap();
    // S3-17
    let body = json!({ "jti": "t1", "until": 3600 });
    assert_eq!(node.post("/api/revocations", body).await.ok(), json!({ "connections": 1, "tokens": 0 }));
    assert_eq!(revoked.closed().await, (1008, "Access revoked".to_owned()));
    assert_eq!(connect_with_jwt(&node, json!({ "sub": "ann", "jti": "t1" })).await.err(), Some(403));
    assert!(connect_with_jwt(&node, json!({ "sub": "ann", "jti": "t2" })).await.is_ok());
    let (mut client, _) = node.connect(json!({ "user": "ben", "session": "s1" }), &[], "").await;
    let body = json!({ "session": "s1", "until": 60, "api": API });
    assert_eq!(node.post("/api/revocations", body).await.ok()["connections"], 1);
    assert_eq!(client.closed().await.0, 1008);
    assert_eq!(node.delete("/api/revocations?session=s1").await.ok(), json!({ "lifted": false }));
    assert_eq!(
        node.delete(&format!("/api/revocations?session=s1&api={API}")).await.ok(),
        json!({ "lifted": true })
    );
}

#[tokio::test]
async fn a_revocation_names_one_thing_and_a_time_to_come() {
    let node = Node::start().await;
    for body in [
        json!({ "until": 5 }),
        json!({ "sub": "a", "jti": "b", "until": 5 }),
        json!({ "sub": "a" }),
        json!({ "sub": "a", "until": "2001-01-01T00:00:00Z" }),
        json!({ "sub": "a", "until": "soon" }),
        json!({ "sub": "a", "until": 0 }),
    ] {
        assert_eq!(
            node.post("/api/revocations", body.clone()).await.refusal(),
            (400, "admin.malformed"),
            "{body}"
        );
    }
    for query in ["", "?sub=a&jti=b"] {
        assert_eq!(node.delete(&format!("/api/revocations{query}")).await.status, 400, "{query}");
    }
    assert_eq!(node.get("/api/bans").await.ok(), json!({ "bans": [] }));
}

#[tokio::test]
async fn a_user_is_banned_for_a_time() {
    let node = Node::start().await;
    let (mut client, _) = node.connect_user("ann", &[]).await;
    node.token(json!({ "user": "ann" })).await.ok();
    let body = json!({ "seconds": 600, "reason": "spam" });
    assert_eq!(node.post("/api/users/ann/ban", body).await.ok(), json!({ "connections": 1, "tokens": 1 }));
    assert_eq!(client.closed().await, (1008, "Access revoked".to_owned()));
    assert_eq!(connect_with_jwt(&node, json!({ "sub": "ann" })).await.err(), Some(403));
    // A ban of one API is another one.
    node.post("/api/users/ann/ban", json!({ "seconds": 600, "api": "other" })).await.ok();
    let first = node.get("/api/bans?limit=1").await.ok();
    let next = first["next_token"].as_str().unwrap();
    let second = node.get(&format!("/api/bans?limit=1&next_token={next}")).await.ok();
    assert!(second.get("next_token").is_none());
    let reasons = [&first["bans"][0]["reason"], &second["bans"][0]["reason"]];
    assert!(reasons.contains(&&json!("spam")) && reasons.contains(&&json!("")), "{reasons:?}");
    assert_eq!(node.delete("/api/users/ann/ban").await.ok(), json!({ "lifted": true }));
    assert!(connect_with_jwt(&node, json!({ "sub": "ann" })).await.is_ok());
    assert_eq!(node.delete("/api/users/ann/ban?api=other").await.ok(), json!({ "lifted": true }));
}
