//! One-time tokens: where they are presented, what they are bound to, that they are good for one connection.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::definition::{Api, Live, LiveApi, LiveStage, Stage};
use tidegate_core::error::ErrorCode;
use tidegate_core::port::{DefinitionSink as _, RecordKind};
use tidegate_gateway::{Ending, Subject, TokenRequest};

use crate::backend::{After, Answer};
use crate::client::Client;
use crate::harness::{API_ID, Deployed, Plane, STAGE, Setup};
use crate::session_layer::{now, open_records, pair, unlimited};

fn policy(more: Value) -> Value {
    let mut policy = unlimited(json!({ "admission": { "checks": ["token"] } }));
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy
}

async fn start() -> Plane {
    Plane::start_with_policy(policy(json!({ "connect_tokens": { "cookie": "sessionid" } }))).await
}

fn ada() -> TokenRequest {
    TokenRequest { user: Some("ada".to_owned()), ..TokenRequest::default() }
}

fn query(token: &str) -> String {
    format!("?ws_token={token}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presented_in_the_query_or_as_subprotocol_and_never_echoed() {
    // S0-72, S0-73
    let plane = start().await;
    let token = plane.token_of("ada").await;
    assert!(token.len() == 64 && token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    let reply = plane.ask(&query(&token), "").await;
    assert_eq!((reply.status, reply.value("sec-websocket-protocol")), (101, ""));
    assert!(!reply.head.contains(&token));
    let mut tokens = vec![token];
    for (before, after) in [("", ""), ("chat, ", ", v2")] {
        let token = plane.token_of("ada").await;
        let headers = format!("Sec-WebSocket-Protocol: {before}tidegate.bearer, {token}{after}\r\n");
        let reply = plane.ask("", &headers).await;
        assert_eq!((reply.status, reply.value("sec-websocket-protocol")), (101, "tidegate.bearer"));
        assert!(!reply.head.contains(&token));
        tokens.push(token);
    }
    let connects = plane.backend.events("CONNECT", 3).await;
    let offered: Vec<&str> = connects.iter().map(|request| request.value("sec-websocket-protocol")).collect();
    // A backend sees the other subprotocols, and no token among them.
    assert_eq!(offered, ["", "", "chat, v2"]);
    assert_eq!(connects.iter().filter(|request| request.value("tidegate-user") == "ada").count(), 3);
    for request in &connects[1..] {
        assert!(tokens.iter().all(|token| !format!("{request:?}").contains(token)), "{request:?}");
    }
    plane.assert_untold(&tokens.iter().map(String::as_str).collect::<Vec<_>>());
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_cannot_have_the_token_echoed() {
    // S0-73
    let plane = start().await;
    for chooses in ["the token", "chat", "tidegate.bearer"] {
        let token = plane.token_of("ada").await;
        let named = if chooses == "the token" { token.clone() } else { chooses.to_owned() };
        let answer =
            format!("HTTP/1.1 200 OK\r\nSec-WebSocket-Protocol: {named}\r\nContent-Length: 0\r\n\r\n");
        plane.backend.plan(move |request| match request.is_event("CONNECT") {
            true => Answer::Wire(answer.clone(), After::Keep),
            false => Answer::Status(200),
        });
        let headers = format!("Sec-WebSocket-Protocol: chat, tidegate.bearer, {token}\r\n");
        let reply = plane.ask("", &headers).await;
        let answered = if chooses == "chat" { "chat" } else { "tidegate.bearer" };
        assert_eq!((reply.status, reply.value("sec-websocket-protocol")), (101, answered), "{chooses}");
        assert!(!reply.head.contains(&token));
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_simultaneous_uses_exactly_one_wins() {
    // S0-73
    const USES: usize = 200;
    let plane = Arc::new(start().await);
    let token = plane.token_of("ada").await;
    let mut clients = Vec::new();
    for _ in 0..USES {
        clients.push(Client::dial(plane.address, None).await);
    }
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let query = query(&token);
            tokio::spawn(async move {
                client.write(&client.handshake(&query, "")).await;
                (client.status().await, client)
            })
        })
        .collect();
    let mut statuses = Vec::new();
    let mut kept = Vec::new();
    for task in tasks {
        let (status, client) = task.await.unwrap();
        statuses.push(status);
        kept.push(client);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 101).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), USES - 1);
    assert_eq!(plane.n_refused("token.reused"), USES - 1);
    assert_eq!(plane.backend.requests.count(|request| request.is_event("CONNECT")), 1);
    plane.assert_untold(&[&token]);
    drop(kept);
    Arc::into_inner(plane).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_outlive_the_process_and_spent_stays_spent() {
    // S0-73, S0-77
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    let records = open_records(&file).await;
    let plane = Plane::start_from(Setup { records: Arc::clone(&records), ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(policy(json!({}))));
    let (unspent, spent) = (plane.token_of("ada").await, plane.token_of("eve").await);
    assert_eq!(plane.knock(&query(&spent), "").await, 101);
    for kind in [RecordKind::Token, RecordKind::SpentToken] {
        let stored = format!("{:?}", records.load(kind).await.unwrap());
        assert!(!stored.contains(&unspent) && !stored.contains(&spent), "{stored}");
    }
    plane.end().await;
    drop(records);

    let records = open_records(&file).await;
    let plane = Plane::start_from(Setup { records, ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(policy(json!({}))));
    plane.gateway.restore().await.unwrap();
    assert_eq!(plane.gateway.n_unspent_tokens(), 1);
    let refusal = plane.refused(&query(&spent), "", "token.reused-on-reconnect").await;
    assert!(refusal.detail.contains("s ago from 127.0.0.1"), "{refusal:?}");
    let mut client = plane.connect_as(&query(&unspent), "").await;
    client.close(1000, "").await;
    assert_eq!(plane.backend.events("CONNECT", 1).await[0].value("tidegate-user"), "ada");
    plane.nobody_is_left().await;
    plane.refused(&query(&unspent), "", "token.reused-on-reconnect").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_is_bound_to() {
    // S0-74
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let plane = Plane::start_from(Setup { trusted_proxies, ..Setup::default() }).await;
    let deployed = Deployed::with_policy(policy(json!({ "connect_tokens": { "cookie": "sessionid" } })));
    plane.deploy(&deployed);
    let request = |cookie: Option<&str>, origin: Option<&str>, address: Option<&str>| TokenRequest {
        session_cookie: cookie.map(str::to_owned),
        origin: origin.map(str::to_owned),
        address: address.map(|address| address.parse().unwrap()),
        ..ada()
    };
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    let cookie = "Cookie: a=b; sessionid=s3ss10n-0f-ada\r\n";
    let other_cookie = "Cookie: sessionid=s3ss10n-0f-eve\r\n";
    let mut secrets = vec!["s3ss10n-0f-ada".to_owned(), "s3ss10n-0f-eve".to_owned()];
    let mut answers = Vec::new();
    for (bound, headers, diagnosis) in [
        (request(Some("s3ss10n-0f-ada"), None, None), String::new(), "token.session-missing"),
        (request(Some("s3ss10n-0f-ada"), None, None), other_cookie.to_owned(), "token.session-changed"),
        (
            request(Some("s3ss10n-0f-ada"), None, Some("203.0.113.7")),
            format!("{other_cookie}{}", from("203.0.113.8")),
            "token.other-browser",
        ),
        (request(None, None, Some("203.0.113.7")), from("203.0.113.8"), "token.other-browser"),
        (request(None, Some("https://a.example"), None), String::new(), "token.origin-mismatch"),
        (
            request(None, Some("https://a.example"), None),
            "Origin: https://b.example\r\n".to_owned(),
            "token.origin-mismatch",
        ),
    ] {
        let token = plane.token(bound.clone()).await;
        let refusal = plane.refused(&query(&token), &headers, diagnosis).await;
        assert_eq!(refusal.status, 403);
        let reply = plane.ask(&query(&token), &headers).await;
        answers.push((reply.json()["message"].clone(), reply.json()["check"].clone()));
        // Refused for a wrong binding it is not spent.
        let right = format!("{cookie}Origin: https://a.example\r\n{}", from("203.0.113.7"));
        assert_eq!(plane.knock(&query(&token), &right).await, 101, "{bound:?} {diagnosis}");
        secrets.push(token);
    }
    // One text for all of them.
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    plane.assert_untold(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
    // IPv4 in IPv6 clothes is the same address.
    let token = plane.token(request(None, None, Some("::ffff:203.0.113.7"))).await;
    assert_eq!(plane.knock(&query(&token), &from("203.0.113.7")).await, 101);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_stage_is_refused() {
    // S0-74
    let plane = start().await;
    let live = LiveStage {
        stage: Stage { stage_name: "test".to_owned(), ..Stage::default() },
        policy: Some(crate::harness::policy(policy(json!({})))),
        ..LiveStage::default()
    };
    let api = Api { api_id: API_ID.to_owned(), ..Api::default() };
    plane
        .gateway
        .publish(Live { apis: vec![Arc::new(LiveApi { api, stages: vec![live] })], domains: Vec::new() });
    let other = plane.gateway.find_stage(API_ID, "test").unwrap();
    plane.deploy(&Deployed::with_policy(policy(json!({}))));
    let issued = plane.gateway.issue_token(&other, ada(), now()).await.unwrap();
    plane.refused(&query(issued.token.expose()), "", "token.origin-mismatch").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_that_need_no_token_do_not_cost_it() {
    // S0-75
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let plane = Plane::start_from(Setup { trusted_proxies, ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(json!({
        "admission": { "checks": ["token"], "origins": ["https://good.example"], "connections_per_user": 1 },
        "attempts": { "per_address": 2, "per_user": 0 },
        "channels": { "rules": [{ "match": "staff", "join": "deny" }] },
    })));
    let from = |n: usize| format!("X-Forwarded-For: 203.0.113.{n}\r\n");
    let client = plane.connect_as(&query(&plane.token_of("ada").await), &from(1)).await;
    let token = plane.token_of("ada").await;
    let with = |more: &str| format!("{}&{more}", query(&token));
    plane.refused(&with("channel=no/name"), &from(2), "channel.invalid").await;
    let foreign = format!("{}Origin: https://bad.example\r\n", from(2));
    plane.refused(&query(&token), &foreign, "origin.not-allowed").await;
    plane.refused(&query(&token), &from(2), "ratelimit.connect").await;
    plane.refused(&query(&token), &from(3), "limit.connections").await;
    drop(client);
    plane.nobody_is_left().await;
    plane.refused(&with("channel=staff"), &from(3), "channel.forbidden").await;
    assert_eq!(plane.knock(&query(&token), &from(4)).await, 101);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_user_are_limited() {
    // S0-76
    let limits = json!({ "connect_tokens": { "per_minute": 3, "max_unspent": 4, "lifetime": 10 } });
    let plane = Plane::start_with_policy(policy(limits)).await;
    let stage = plane.gateway.find_stage(API_ID, STAGE).unwrap();
    let issue = |at: u64| plane.gateway.issue_token(&stage, ada(), at);
    // All of it in the past, so that time can pass.
    let start = now() - 200_000;
    for at in [0, 1000, 2000] {
        assert_eq!(issue(start + at).await.unwrap().expires_in, 10);
    }
    let refusal = issue(start + 30_000).await.unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after), (ErrorCode::TokenRequestsExceeded, Some(30)));
    assert_eq!(refusal.diagnosis.as_str(), "tokenreq.rate-limited");
    // Others are not concerned.
    plane.token_at(TokenRequest { user: Some("eve".to_owned()), ..ada() }, start + 30_000).await;

    let limits = json!({ "connect_tokens": { "per_minute": 100, "max_unspent": 4, "lifetime": 10 } });
    plane.deploy(&Deployed::with_policy(policy(limits)));
    let stage = plane.gateway.find_stage(API_ID, STAGE).unwrap();
    let issue = |at: u64| plane.gateway.issue_token(&stage, ada(), at);
    let late = start + 100_000;
    let mut tokens = Vec::new();
    for _ in 0..4 {
        tokens.push(issue(late).await.unwrap());
    }
    let refusal = issue(late).await.unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after), (ErrorCode::TokenRequestsExceeded, Some(10)));
    // Those that have expired are none that the user has.
    assert!(issue(late + 10_000).await.is_ok());
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_out_of_range_are_refused() {
    // S0-72
    let plane = Plane::start_with_policy(policy(json!({}))).await;
    let stage = plane.gateway.find_stage(API_ID, STAGE).unwrap();
    let long = "x".repeat(9000);
    for request in [
        TokenRequest { lifetime: Some(4), ..ada() },
        TokenRequest { lifetime: Some(301), ..ada() },
        TokenRequest { user: Some(String::new()), ..ada() },
        TokenRequest { user: Some("x".repeat(256)), ..ada() },
        TokenRequest { session: Some("x".repeat(256)), ..ada() },
        TokenRequest { origin: Some("a.example".to_owned()), ..ada() },
        // The policy names no cookie, so nobody could ever show it.
        TokenRequest { session_cookie: Some("s".to_owned()), ..ada() },
        TokenRequest { claims: [("about".to_owned(), json!(long))].into(), ..ada() },
    ] {
        let refusal = plane.gateway.issue_token(&stage, request, now()).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::BadRequest, "{refusal:?}");
    }
    assert_eq!(plane.gateway.n_unspent_tokens(), 0);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_hear_what_was_wrong_with_a_token() {
    // S0-77
    let plane = start().await;
    plane.refused("", "", "token.missing").await;
    plane.refused("?ws_token=", "", "token.missing").await;
    let refusal = plane.refused("?ws_token=abc", "", "token.unknown").await;
    assert!(refusal.detail.contains("3 bytes"), "{refusal:?}");
    plane.refused(&query(&"A".repeat(64)), "", "token.unknown").await;
    plane.refused("", &pair(&"0a".repeat(32)), "token.unknown").await;
    let old = plane.token_at(TokenRequest { lifetime: Some(5), ..ada() }, now() - 42_000).await;
    let refusal = plane.refused(&query(&old), "", "token.expired").await;
    assert!(refusal.detail.contains("issued 42 s ago"), "{refusal:?}");
    let future = plane.token_at(ada(), now() + 60_000).await;
    plane.refused(&query(&future), "", "token.clock").await;

    let token = plane.token_of("ada").await;
    let mut client = plane.connect_as(&query(&token), "").await;
    let refusal = plane.refused(&query(&token), "", "token.reused").await;
    assert!(refusal.detail.starts_with("used 0 s ago from 127.0.0.1"), "{refusal:?}");
    client.close(1000, "").await;
    plane.nobody_is_left().await;
    plane.refused(&query(&token), "", "token.reused-on-reconnect").await;

    // One that was revoked was never issued, as far as anybody is told. The one of the future goes with it.
    let revoked = plane.token_of("ada").await;
    let ended = plane.gateway.end(&Subject::User("ada".to_owned()), None, None, Ending::SessionEnded).await;
    assert_eq!((ended.tokens, ended.connections), (2, 0));
    plane.refused(&query(&revoked), "", "token.unknown").await;
    plane.assert_untold(&[&old, &future, &token, &revoked]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_need_not_show_a_token_must_not_show_a_wrong_one() {
    let optional = json!({ "admission": { "checks": ["token"], "required": false } });
    let plane = Plane::start_with_policy(unlimited(optional)).await;
    drop(plane.connect_as("", "").await);
    plane.refused("?ws_token=abc", "", "token.unknown").await;
    plane.end().await;
}
