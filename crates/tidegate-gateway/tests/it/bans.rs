//! Revocation: whoever is banned leaves and stays out, until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tidegate_gateway::{Ban, BanKind};

use crate::client::Client;
use crate::harness::{API_ID, Deployed, Plane, Setup};
use crate::session_layer::{jwt_policy, now, open_records, unlimited};

fn ban(kind: BanKind, id: &str, for_ms: u64) -> Ban {
    Ban { kind, id: id.to_owned(), api: None, since: now(), until: now() + for_ms, reason: "left".to_owned() }
}

fn query(plane: &Plane, claims: Value) -> String {
    format!("?token={}", plane.jwt(claims))
}

async fn revoked(mut client: Client) {
    let frame = client.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Access revoked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_tokens_and_sessions_end_and_stay_out() {
    // S3-17
    let plane = Plane::start_with_policy(jwt_policy(json!({}))).await;
    let claims = |user: &str, jti: &str, sid: &str| json!({ "sub": user, "jti": jti, "sid": sid });
    let all = [claims("ada", "j-1", "s-1"), claims("eve", "j-2", "s-2"), claims("bob", "j-3", "s-3")]
        .map(|claims| query(&plane, claims));
    let mut clients = Vec::new();
    for query in &all {
        clients.push((plane.connect_as(query, "").await, plane.connect_as(query, "").await));
    }
    let mut bystander = plane.connect_as(&query(&plane, claims("sam", "j-4", "s-4")), "").await;
    for (kind, id) in [(BanKind::User, "ada"), (BanKind::TokenId, "j-2"), (BanKind::Session, "s-3")] {
        let ended = plane.gateway.ban(ban(kind, id, 60_000)).await.unwrap();
        assert_eq!(ended.connections, 2, "{id}");
    }
    for (one, other) in clients {
        let id = plane.id_of(&one).await;
        revoked(one).await;
        revoked(other).await;
        assert_eq!(plane.disconnect_of(&id).await, (1008, "Access revoked".to_owned()));
    }
    for query in &all {
        let refusal = plane.refused(query, "", "user.banned").await;
        assert!(refusal.status == 403 && refusal.detail.contains("for another 60 s"), "{refusal:?}");
    }
    // The same user with another token or session is only out when the user is.
    plane.refused(&query(&plane, claims("ada", "j-9", "s-9")), "", "user.banned").await;
    assert_eq!(plane.knock(&query(&plane, claims("eve", "j-9", "s-9")), "").await, 101);
    bystander.send("still here").await;
    plane.backend.events("MESSAGE", 1).await;
    assert!(plane.gateway.lift_ban(BanKind::User, "ada", None).await.unwrap());
    assert!(!plane.gateway.lift_ban(BanKind::User, "ada", None).await.unwrap());
    assert_eq!(plane.knock(&all[0], "").await, 101);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_ends_at_its_time_and_concerns_its_api() {
    // S3-17
    let plane = Plane::start_with_policy(jwt_policy(json!({}))).await;
    let query = query(&plane, json!({ "sub": "ada" }));
    let other_api = Ban { api: Some("another".to_owned()), ..ban(BanKind::User, "ada", 60_000) };
    plane.gateway.ban(other_api).await.unwrap();
    assert_eq!(plane.knock(&query, "").await, 101);
    let this_api = Ban { api: Some(API_ID.to_owned()), ..ban(BanKind::User, "ada", 1000) };
    let until = this_api.until;
    plane.gateway.ban(this_api).await.unwrap();
    assert_eq!(plane.gateway.list_bans().len(), 2);
    let mut status = plane.knock(&query, "").await;
    assert_eq!(status, 403);
    while status == 403 {
        status = plane.knock(&query, "").await;
    }
    assert!(status == 101 && now() >= until);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bans_outlive_the_process() {
    // S3-17
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.db");
    let plane = Plane::start_from(Setup { records: open_records(&file).await, ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(jwt_policy(json!({}))));
    plane.gateway.ban(ban(BanKind::User, "ada", 60_000)).await.unwrap();
    plane.end().await;
    let plane = Plane::start_from(Setup { records: open_records(&file).await, ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(jwt_policy(json!({}))));
    plane.gateway.restore().await.unwrap();
    plane.refused(&query(&plane, json!({ "sub": "ada" })), "", "user.banned").await;
    plane.end().await;
}

/// A ban that is made while handshakes of its user are under way leaves none of them open.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_slips_in_beside_a_ban() {
    let plane = Arc::new(Plane::start_with_policy(jwt_policy(json!({}))).await);
    let query = query(&plane, json!({ "sub": "ada" }));
    for _ in 0..20 {
        let is_banned = Arc::new(AtomicBool::new(false));
        let knockers: Vec<_> = (0..8)
            .map(|_| {
                let (plane, query, is_banned) = (Arc::clone(&plane), query.clone(), Arc::clone(&is_banned));
                tokio::spawn(async move {
                    let mut open = Vec::new();
                    while !is_banned.load(Ordering::Relaxed) {
                        let mut client = Client::dial(plane.address, None).await;
                        client.write(&client.handshake(&query, "")).await;
                        if client.status().await == 101 {
                            open.push(client);
                        }
                    }
                    open
                })
            })
            .collect();
        plane.backend.requests.until("$connect", 1, |request| request.is_event("CONNECT")).await;
        plane.gateway.ban(ban(BanKind::User, "ada", 60_000)).await.unwrap();
        is_banned.store(true, Ordering::Relaxed);
        for knocker in knockers {
            for client in knocker.await.unwrap() {
                revoked(client).await;
            }
        }
        plane.nobody_is_left().await;
        plane.gateway.lift_ban(BanKind::User, "ada", None).await.unwrap();
    }
    Arc::into_inner(plane).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unspent_tokens_of_a_banned_user_are_worth_nothing() {
    let plane = Plane::start_with_policy(unlimited(json!({ "admission": { "checks": ["token"] } }))).await;
    let token = plane.token_of("ada").await;
    let ended = plane.gateway.ban(ban(BanKind::User, "ada", 60_000)).await.unwrap();
    assert_eq!((ended.connections, ended.tokens), (0, 1));
    plane.refused(&format!("?ws_token={token}"), "", "token.unknown").await;
    let later = plane.token_of("ada").await;
    plane.refused(&format!("?ws_token={later}"), "", "user.banned").await;
    plane.end().await;
}
