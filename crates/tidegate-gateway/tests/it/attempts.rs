//! How often somebody may try to connect, and the log of it.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_core::notice::Notice;
use tidegate_core::port::RecordStore;
use tidegate_store::SqliteRecords;

use crate::harness::{Deployed, Plane, Setup};
use crate::session_layer::{SECRET, attempts};

/// A gateway that believes its only peer, so that tests can come from anywhere.
async fn behind_a_proxy(attempts: Value) -> Plane {
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let plane = Plane::start_from(Setup { trusted_proxies, ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(json!({ "attempts": attempts })));
    plane
}

fn from(address: &str) -> String {
    format!("X-Forwarded-For: {address}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_counted_apart_and_as_networks() {
    // S0-79, S0-80
    let plane = behind_a_proxy(json!({ "per_address": 2, "window": 60 })).await;
    for address in ["203.0.113.7", "203.0.113.8"] {
        assert_eq!(plane.knock("", &from(address)).await, 101);
        assert_eq!(plane.knock("", &from(address)).await, 101);
        let reply = plane.ask("", &from(address)).await;
        assert_eq!(reply.status, 429);
        let retry_after: u64 = reply.value("retry-after").parse().unwrap();
        assert!((50..=60).contains(&retry_after), "{retry_after}");
    }
    // One /64 is one address; the client says its own last, and whatever stands before it is its invention.
    assert_eq!(plane.knock("", &from("2001:db8:1:2::1")).await, 101);
    assert_eq!(plane.knock("", &from("198.51.100.1, 2001:db8:1:2:ffff::9")).await, 101);
    assert_eq!(plane.knock("", &from("2001:db8:1:2:3:4:5:6")).await, 429);
    assert_eq!(plane.knock("", &from("2001:db8:1:3::1")).await, 101);
    assert_eq!(plane.last_refusal().diagnosis, "ratelimit.connect");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_say_where_they_come_from() {
    // S0-79
    let plane = Plane::start_with_policy(json!({ "attempts": { "per_address": 2 } })).await;
    for n in 0..2 {
        assert_eq!(plane.knock("", &from(&format!("203.0.113.{n}"))).await, 101);
    }
    assert_eq!(plane.knock("", &from("203.0.113.9")).await, 429);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_window_slides_and_only_a_penalty_prolongs_it() {
    // S0-80
    for (penalty, statuses) in [(false, [101, 429, 101]), (true, [101, 429, 429])] {
        let plane = behind_a_proxy(json!({ "per_address": 1, "window": 2, "penalty": penalty })).await;
        let headers = from("203.0.113.7");
        let started = tokio::time::Instant::now();
        assert_eq!(plane.knock("", &headers).await, statuses[0]);
        tokio::time::sleep_until(started + std::time::Duration::from_millis(1000)).await;
        assert_eq!(plane.knock("", &headers).await, statuses[1]);
        // The first has left the window; the second has not.
        tokio::time::sleep_until(started + std::time::Duration::from_millis(2200)).await;
        assert_eq!(plane.knock("", &headers).await, statuses[2], "penalty: {penalty}");
        plane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_counted_wherever_they_come_from() {
    // S0-79
    let plane = behind_a_proxy(json!({})).await;
    plane.deploy(&Deployed::with_policy(json!({
        "admission": { "checks": ["jwt"] },
        "jwt": { "keys": [{ "secret": SECRET, "algorithms": ["HS256"] }] },
        "attempts": { "per_user": 3, "per_address": 0 },
    })));
    let query = |user: &str| format!("?token={}", plane.jwt(json!({ "sub": user })));
    for n in 0..3 {
        assert_eq!(plane.knock(&query("ada"), &from(&format!("203.0.113.{n}"))).await, 101);
    }
    let refusal = plane.refused(&query("ada"), &from("203.0.113.99"), "ratelimit.connect").await;
    assert!(refusal.detail.contains("3 attempts of the user in 60 s"), "{refusal:?}");
    assert_eq!(plane.knock(&query("eve"), &from("203.0.113.99")).await, 101);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_have_a_limit_of_their_own_that_ends() {
    // S0-81
    let plane = behind_a_proxy(json!({})).await;
    plane.deploy(&Deployed::with_policy(json!({
        "admission": { "checks": ["token"], "required": false },
        "attempts": { "per_address": 100, "failed_per_address": 2, "window": 2 },
    })));
    let headers = from("203.0.113.7");
    // Those that succeed are not counted as failures.
    for _ in 0..5 {
        assert_eq!(plane.knock("", &headers).await, 101);
    }
    let started = tokio::time::Instant::now();
    let wrong = format!("?ws_token={}", "0".repeat(64));
    for _ in 0..2 {
        plane.refused(&wrong, &headers, "token.unknown").await;
    }
    let reply = plane.ask("", &headers).await;
    assert_eq!((reply.status, plane.last_refusal().diagnosis), (429, "ratelimit.connect"));
    assert!(plane.last_refusal().detail.contains("failed attempts"), "{:?}", plane.last_refusal());
    // S0-80: refusals by the limit are no failures, or it would never end for whoever tries again.
    tokio::time::sleep_until(started + std::time::Duration::from_millis(1500)).await;
    for _ in 0..3 {
        assert_eq!(plane.knock("", &headers).await, 429);
    }
    tokio::time::sleep_until(started + std::time::Duration::from_millis(2500)).await;
    assert_eq!(plane.knock("", &headers).await, 101);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_down_is_no_failure_of_the_client() {
    let plane = behind_a_proxy(json!({ "per_address": 0, "failed_per_address": 1 })).await;
    plane.backend.plan(|_| crate::backend::Answer::Status(503));
    for _ in 0..3 {
        assert_eq!(plane.knock("", &from("203.0.113.7")).await, 503);
    }
    plane.backend.plan(|_| crate::backend::Answer::Status(403));
    assert_eq!(plane.knock("", &from("203.0.113.7")).await, 403);
    assert_eq!(plane.knock("", &from("203.0.113.7")).await, 429);
    plane.backend.plan(|_| crate::backend::Answer::Status(200));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_networks_are_not_counted_and_a_dry_run_only_reports() {
    // S0-82
    let plane = behind_a_proxy(json!({ "per_address": 1, "exempt": ["198.51.100.0/24"] })).await;
    for _ in 0..4 {
        assert_eq!(plane.knock("", &from("198.51.100.7")).await, 101);
    }
    assert_eq!(plane.knock("", &from("203.0.113.7")).await, 101);
    assert_eq!(plane.knock("", &from("203.0.113.7")).await, 429);
    let is_report = |notice: &Notice| matches!(notice, Notice::WouldBeLimited { diagnosis, .. } if diagnosis.as_str() == "ratelimit.connect");
    assert_eq!(plane.notices.record.count(is_report), 0);

    plane.deploy(&Deployed::with_policy(json!({ "attempts": { "per_address": 1, "dry_run": true } })));
    for _ in 0..3 {
        assert_eq!(plane.knock("", &from("203.0.113.8")).await, 101);
    }
    assert_eq!(plane.notices.record.count(is_report), 2);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attempt_has_a_line_with_its_outcome() {
    // S0-83
    let records: Arc<dyn RecordStore> = Arc::new(SqliteRecords::open_in_memory().unwrap());
    let setup = Setup {
        records: Arc::clone(&records),
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..Setup::default()
    };
    let plane = Plane::start_from(setup).await;
    plane.deploy(&Deployed::with_policy(json!({
        "admission": { "checks": ["jwt"], "origins": ["https://good.example"], "connections_per_user": 1 },
        "jwt": { "keys": [{ "secret": SECRET, "algorithms": ["HS256"] }] },
        "attempts": { "per_address": 4 },
    })));
    let token = plane.jwt(json!({ "sub": "ada" }));
    let query = format!("?token={token}");
    let headers = from("203.0.113.7");
    let client = plane.connect_as(&query, &headers).await;
    let id = plane.id_of(&client).await;
    assert_eq!(plane.knock(&query, &headers).await, 429);
    assert_eq!(plane.knock("?token=a.b.c", &headers).await, 403);
    assert_eq!(plane.knock(&query, &format!("{headers}Origin: https://bad.example\r\n")).await, 403);
    assert_eq!(plane.knock(&query, &headers).await, 429);
    let lines = attempts(&*records, 5).await;
    let mut seen: Vec<_> = lines
        .iter()
        .map(|line| (line.status, line.reason.as_deref().unwrap_or(""), line.user.as_deref().unwrap_or("")))
        .collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            (101, "", "ada"),
            (403, "jwt.malformed", ""),
            (403, "origin.not-allowed", ""),
            (429, "limit.connections", "ada"),
            (429, "ratelimit.connect", ""),
        ]
    );
    for line in &lines {
        assert_eq!((line.address.to_string().as_str(), line.stage.as_str()), ("203.0.113.7", "prod"));
        assert_eq!(line.connection_id.as_ref() == Some(&id), line.status == 101);
    }
    let told = format!("{lines:?}");
    assert!(!told.contains(&token[token.len() - 10..]), "{told}");
    plane.assert_untold(&[&token]);
    plane.end().await;
}
