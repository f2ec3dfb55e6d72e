//! What clients can find out by themselves: what became of an attempt, what would become of one, what arrives here.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_core::notice::Notice;
use tidegate_ws::{ClientEncoder, Incoming};

use crate::client::{Client, PATH, Reply, request};
use crate::harness::{Deployed, Plane, Setup};
use crate::record::eventually;
use crate::session_layer::{now, unlimited};
use crate::told::upgrade;

async fn get(plane: &Plane, target: &str, headers: &str) -> Reply {
    request(plane.address, "GET", target, headers, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_is_redeemed_once_for_the_reason() {
    // DX-14, S0-101
    let plane = Plane::start_with_policy(unlimited(json!({
        "admission": { "checks": ["token"], "required": false },
    })))
    .await;
    let ask = async |reference: &str| get(&plane, &format!("/connect-status?ref={reference}"), "").await;
    let told = plane.told(&upgrade(&format!("{PATH}x?_tgref=reference-1"), "localhost", "")).await;
    assert_eq!(told.place.client_ref.as_deref(), Some("reference-1"));
    let reply = ask("reference-1").await;
    assert_eq!((reply.status, reply.value("access-control-allow-origin")), (200, "*"));
    assert_eq!(reply.value("access-control-expose-headers"), "retry-after, date, tidegate-request-id");
    let body = reply.json();
    assert_eq!((&body["id"], &body["status"]), (&json!("stage.unknown"), &json!(403)));
    assert_eq!(body["requestId"], told.reply.value("tidegate-request-id"));
    assert!(body["message"].as_str().is_some_and(|text| text.len() > 10));
    assert_eq!(ask("reference-1").await.status, 404);
    for wrong in ["reference-2", "short", "", "reference%2D1"] {
        assert_eq!(ask(wrong).await.status, if wrong == "reference-2" { 404 } else { 403 }, "{wrong}");
    }
    // What is about an identity is not told; the newest of two attempts is.
    let told = plane.told(&upgrade(&format!("{PATH}?_tgref=reference-3&ws_token=x"), "localhost", "")).await;
    assert_eq!(told.id, "token.unknown");
    let told = plane
        .told(&upgrade(&format!("{PATH}?_tgref=reference-3&ws_token=x&channel=no/name"), "localhost", ""))
        .await;
    assert_eq!(told.id, "channel.invalid");
    // Below the address of the API it works as well.
    let body = get(&plane, &format!("{PATH}/connect-status?ref=reference-3"), "").await.json();
    assert_eq!(body["id"], "channel.invalid");
    assert_eq!(
        body["message"],
        tidegate_core::diagnosis::Diagnosis::CHANNEL_INVALID.describe().said_to_client()
    );
    // No backend and no mapping sees it.
    let mut client = plane.connect_as("?a=1&_tgref=reference-4&b=2", "").await;
    plane.id_of(&client).await;
    eventually("the outcome", || {
        plane.notices.record.count(|notice| matches!(notice, Notice::ConnectionOpened { .. })) == 1
    })
    .await;
    let body = ask("reference-4").await.json();
    assert_eq!((&body["id"], &body["status"]), (&Value::Null, &json!(101)));
    let requests = plane.backend.requests.all();
    assert!(requests.iter().all(|request| !format!("{request:?}").contains("reference-4")), "{requests:?}");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_a_handshake_would_come_to() {
    // S3-24, DX-76
    let plane = Plane::start_with_policy(json!({
        "admission": { "checks": ["token"], "origins": ["https://app.example"], "connections_per_user": 1 },
        "attempts": { "per_address": 6, "per_user": 0 },
    }))
    .await;
    let check = async |query: &str, headers: &str| {
        get(&plane, &format!("{PATH}{query}"), &format!("Tidegate-Check: 1\r\n{headers}")).await
    };
    let token = plane.token_of("ada").await;
    let query = format!("?ws_token={token}");
    for _ in 0..2 {
        let reply = check(&query, "Origin: https://app.example\r\n").await;
        assert_eq!((reply.status, reply.json()), (200, json!({ "ok": true })));
        assert_eq!(reply.value("access-control-allow-origin"), "https://app.example");
        assert_eq!(reply.value("tidegate-request-id").len(), 16);
    }
    let reply = check("", "").await;
    assert_eq!((reply.status, reply.json()["check"].as_str()), (403, Some("token")));
    assert_eq!(plane.remarks("token.missing").len(), 1);
    let reply = check(&query, "Origin: https://bad.example\r\n").await;
    assert_eq!((reply.status, reply.value("access-control-allow-origin")), (403, ""));
    // Nothing was spent, nobody was asked, nothing is left; no handshake was refused.
    assert_eq!((plane.backend.requests.all().len(), plane.gateway.n_connections()), (0, 0));
    assert_eq!(plane.notices.record.count(|notice| matches!(notice, Notice::HandshakeRefused { .. })), 0);
    let mut client = plane.connect_as(&query, "").await;
    // The limits are those of handshakes, and the fifth attempt was that one.
    let other = plane.token_of("ada").await;
    let reply = check(&format!("?ws_token={other}"), "").await;
    assert_eq!((reply.status, reply.json()["check"].as_str()), (429, Some("connections")));
    let reply = check("", "").await;
    assert_eq!((reply.status, reply.json()["check"].as_str()), (429, Some("attempts")));
    assert!(!reply.value("retry-after").is_empty());
    client.close(1000, "").await;
    plane.nobody_is_left().await;

    let ask = async |origin: &str, asked: &str| {
        let headers = format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: {asked}\r\n"
        );
        request(plane.address, "OPTIONS", PATH, &headers, "").await
    };
    let reply = ask("https://app.example", "tidegate-check").await;
    assert_eq!((reply.status, reply.value("access-control-allow-origin")), (204, "https://app.example"));
    assert!(reply.value("access-control-allow-headers").contains("tidegate-check"));
    assert_eq!(ask("https://bad.example", "tidegate-check").await.status, 426);
    assert_eq!(ask("https://app.example", "x-other").await.status, 426);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_is_refused_where_nothing_is_deployed() {
    // S3-24
    let plane = Plane::start_with(|settings| settings.connect.reject_as_close = true).await;
    plane.deploy(&Deployed::with_policy(unlimited(json!({ "admission": { "checks": ["token"] } }))));
    // A check is never answered with a connection.
    let reply = get(&plane, PATH, "Tidegate-Check: 1\r\n").await;
    assert_eq!((reply.status, plane.remarks("token.missing").len()), (403, 1));
    plane.undeploy();
    assert_eq!(get(&plane, PATH, "Tidegate-Check: 1\r\n").await.status, 403);
    assert_eq!(plane.remarks("stage.not-deployed").len(), 1);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_clients_are_told_the_diagnosis() {
    // DX-75
    let setup = Setup {
        debug_clients: vec!["203.0.113.0/24".parse().unwrap()],
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        ..Setup::default()
    };
    let plane = Plane::start_from(setup).await;
    plane.deploy(&Deployed::with_policy(unlimited(json!({ "admission": { "checks": ["token"] } }))));
    let listed = "X-Forwarded-For: 203.0.113.7\r\n";
    for (target, id) in [
        (PATH.to_owned(), "token.missing"),
        (format!("{PATH}x"), "stage.unknown"),
        (format!("{PATH}?ws_token=x&channel=no/name"), "channel.invalid"),
    ] {
        let told = plane.told(&upgrade(&target, "localhost", listed)).await;
        let body = told.reply.json();
        assert_eq!((told.id, &body["tidegate"]["id"]), (id, &json!(id)));
        assert!(body["tidegate"]["sentence"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        assert!(body["message"].is_string());
        assert_eq!(told.reply.value("tidegate-diagnosis"), id);
        let told = plane.told(&upgrade(&target, "localhost", "X-Forwarded-For: 198.51.100.7\r\n")).await;
        assert!(!told.reply.body.contains(id) && !told.reply.head.contains(id), "{:?}", told.reply);
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_tells_what_arrived() {
    // DX-35
    let plane = Plane::start().await;
    let headers = "Origin: https://app.example\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
                   Via: 1.1 proxy\r\nCookie: sessionid=s3cr3t-0f-ada\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let reply = get(&plane, "/_tidegate/probe?x=1", headers).await;
    assert_eq!(reply.status, 200);
    let body = reply.json();
    assert_eq!((&body["method"], &body["version"]), (&json!("GET"), &json!("1.1")));
    let values = &body["headers"];
    assert_eq!((&values["origin"], &values["via"]), (&json!("https://app.example"), &json!("1.1 proxy")));
    assert_eq!(
        (&values["x-forwarded-for"], &values["x-forwarded-proto"]),
        (&json!("203.0.113.7"), &json!("https"))
    );
    // A proxy that strips it shows.
    assert_eq!((&values["upgrade"], &values["connection"]), (&Value::Null, &json!("close")));
    assert!(body["headerNames"].as_array().unwrap().contains(&json!("sec-websocket-key")));
    assert_eq!((&body["peer"]["address"], &body["tls"]), (&json!("127.0.0.1"), &Value::Null));
    let time = body["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2025-01-15T12:00:05.120Z".len(), "{time}");
    assert_eq!(body["installation"], plane.gateway.probe_ticket(now()).installation);
    assert!(!reply.body.contains("s3cr3t"));

    let mut client = Client::dial(plane.address, None).await;
    let more = "Sec-WebSocket-Protocol: one, two\r\n";
    client.write(upgrade("/_tidegate/probe", "anything.example", more).as_bytes()).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.value("sec-websocket-protocol")), (101, "one"));
    let told: Value = serde_json::from_str(reply.value("tidegate-probe")).unwrap();
    assert_eq!(
        (&told["headers"]["upgrade"], &told["headers"]["host"]),
        (&json!("websocket"), &json!("anything.example"))
    );
    let large = "x".repeat(32 * 1024);
    for n in 0..64 {
        let text = if n == 0 { large.clone() } else { format!("message {n}") };
        client.send(&text).await;
        assert_eq!(client.text().await, text);
    }
    client.write(&ClientEncoder::new(None).ping(b"alive")).await;
    assert!(matches!(client.next().await, Some(Incoming::Pong(payload)) if &payload[..] == b"alive"));
    client.send("one too many").await;
    assert_eq!(client.closed().await.expect("a close frame").code.as_u16(), 1008);

    let mut client = Client::dial(plane.address, None).await;
    client.write(upgrade("/_tidegate/probe", "localhost", "").as_bytes()).await;
    assert_eq!(client.status().await, 101);
    client.write(&ClientEncoder::new(None).text(&"x".repeat(32 * 1024 + 1))).await;
    assert_eq!(client.closed().await.expect("a close frame").code.as_u16(), 1009);
    // It is no connection of an API, and no handshake.
    assert_eq!((plane.gateway.n_connections(), plane.notices.record.all().len()), (0, 0));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_bounded_and_do_not_hold_up_a_drain() {
    // DX-35
    let plane = Plane::start().await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        let mut client = Client::dial(plane.address, None).await;
        client.write(upgrade("/_tidegate/probe", "localhost", "").as_bytes()).await;
        assert_eq!(client.status().await, 101);
        clients.push(client);
    }
    let ask = async || {
        let mut client = Client::dial(plane.address, None).await;
        client.write(upgrade("/_tidegate/probe", "localhost", "").as_bytes()).await;
        client.status().await
    };
    assert_eq!(ask().await, 503);
    let mut first = clients.remove(0);
    first.close(1000, "").await;
    drop(first);
    let mut status = ask().await;
    for _ in 0..200 {
        if status == 101 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        status = ask().await;
    }
    assert_eq!(status, 101);
    let closing: Vec<_> =
        clients.into_iter().map(|mut client| tokio::spawn(async move { client.closed().await })).collect();
    plane.end().await;
    for frame in closing {
        assert_eq!(frame.await.unwrap().expect("a close frame").code.as_u16(), 1001);
    }
}
