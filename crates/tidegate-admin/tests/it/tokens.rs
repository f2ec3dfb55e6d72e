//! Connect tokens and signed JSON Web Tokens.

use serde_json::json;
use tidegate_auth::Role;

use crate::client::Client;
use crate::harness::{API, Node, STAGE};

#[tokio::test]
async fn a_token_opens_one_connection_of_its_user() {
    let node = Node::start().await;
    // S0-72: what goes in, and what comes out.
    let body = node
        .token(json!({
            "user": "ann", "session": "s1", "roles": ["staff"], "claims": { "team": "a" },
            "channels": ["staff-*"], "origin": "https://app.example", "address": "127.0.0.1", "lifetime": 30,
        }))
        .await
        .ok();
    let token = body["token"].as_str().unwrap();
    assert!(token.len() == 64 && token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_eq!(body["expires_in"], 30);
    let expires_at: jiff::Timestamp = body["expires_at"].as_str().unwrap().parse().unwrap();
    let seconds = expires_at.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((20..=30).contains(&seconds), "{seconds}");
    let target = node.target(&format!("?ws_token={token}"));
    assert_eq!(body["url"], format!("ws://{}{target}", node.public));
    let origin = "Origin: https://app.example\r\n";
    let _client = Client::connect(node.public, &format!("{target}&channel=staff-a"), origin).await.unwrap();
    let found = node.get("/api/connections?user=ann").await.ok();
    let connection = &found["connections"][0];
    assert_eq!(connection["auth"], "token");
    assert_eq!(connection["session"], "s1");
    assert_eq!(connection["roles"], json!(["staff"]));
    assert_eq!(connection["channels"], json!(["staff-a"]));
    assert_eq!(Client::connect(node.public, &target, origin).await.err(), Some(403));
}

#[tokio::test]
async fn tokens_are_limited() {
    let node = Node::start().await;
    // S0-76
    for _ in 0..20 {
        node.token(json!({ "user": "busy" })).await.ok();
    }
    let answer = node.token(json!({ "user": "busy" })).await;
    assert_eq!(answer.refusal(), (429, "tokenreq.rate-limited"));
    let retry_after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    // Others are not concerned, and nobody is nobody's user.
    node.token(json!({ "user": "other" })).await.ok();
    for _ in 0..30 {
        node.token(json!({})).await.ok();
    }
    assert_eq!(node.get("/api/status").await.ok()["unspent_tokens"], 51);
}

#[tokio::test]
async fn values_that_no_token_can_have_are_refused() {
    let node = Node::start().await;
    for more in [
        json!({ "origin": "app.example" }),
        json!({ "address": "here" }),
        json!({ "lifetime": 301 }),
        json!({ "user": "u".repeat(256) }),
        json!({ "claims": [] }),
        json!({ "channels": "all" }),
    ] {
        assert_eq!(node.token(more.clone()).await.refusal(), (400, "admin.malformed"), "{more}");
    }
}

#[tokio::test]
async fn the_address_of_a_token_is_the_stages() {
    let node = Node::start().await;
    node.put(
        &format!("/api/apis/{API}/stages/{STAGE}/policy"),
        json!({ "connect_tokens": { "parameter": "my-token" }, "attempts": { "per_address": 0 } }),
    )
    .await
    .ok();
    let url = node.token(json!({})).await.ok()["url"].as_str().unwrap().to_owned();
    assert!(url.contains(&format!("/{STAGE}?my%2Dtoken=")), "{url}");
    // An API without an address of its own is reached by its custom domain.
    let request = |method: http::Method, target: String, body| {
        let control = node.control.clone();
        async move { control.request(&method, &target, body).await.unwrap() }
    };
    let domain = json!({ "domainName": "ws.example.com", "domainNameConfigurations": [{}] });
    request(http::Method::POST, "/v2/domainnames".to_owned(), domain).await;
    let mapping = json!({ "apiId": API, "stage": STAGE, "apiMappingKey": "live" });
    request(http::Method::POST, "/v2/domainnames/ws.example.com/apimappings".to_owned(), mapping).await;
    let url = node.token(json!({})).await.ok()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("ws://127.0.0.1"), "{url}");
    request(http::Method::PATCH, format!("/v2/apis/{API}"), json!({ "disableExecuteApiEndpoint": true }))
        .await;
    let url = node.token(json!({})).await.ok()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("wss://ws.example.com/live?my%2Dtoken="), "{url}");
}

#[tokio::test]
async fn a_jwt_is_signed_with_the_secret_of_the_stage() {
    let node = Node::start().await;
    let body =
        json!({ "api": API, "stage": STAGE, "claims": { "sub": "robot", "role": "staff", "jti": "j1" } });
    let answer = node.call_as(Role::Administer, "POST", "/api/jwt", Some(body.clone())).await.ok();
    let token = answer["token"].as_str().unwrap();
    let _client = Client::connect(node.public, &node.target(&format!("?token={token}")), "").await.unwrap();
    let found = node.get("/api/connections?user=robot").await.ok();
    assert_eq!(found["connections"][0]["auth"], "jwt");
    // Nothing to sign with.
    let policy = format!("/api/apis/{API}/stages/{STAGE}/policy");
    node.put(&policy, json!({})).await.ok();
    let answer = node.call_as(Role::Administer, "POST", "/api/jwt", Some(body)).await;
    assert_eq!(answer.refusal(), (409, "admin.not-possible"));
    // The token is not in the record.
    let audit = node.get("/api/audit?operation=signJwt").await;
    assert!(audit.text.contains("robot") && !audit.text.contains(token), "{}", audit.text);
}
