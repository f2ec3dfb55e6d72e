//! How connections end: the exact reason, and what proves it.

use std::time::Duration;

use serde_json::json;
use tidegate_core::definition::{Api, Live, LiveApi};
use tidegate_core::notice::Notice;
use tidegate_core::port::DefinitionSink as _;
use tidegate_gateway::{Ending, Subject};
use tidegate_ws::ClientEncoder;
use tokio::io::AsyncWriteExt as _;

use crate::backend::Answer;
use crate::harness::{API_ID, Plane, users_policy};
use crate::seen::Seen;

/// The end of the connection that has just ended.
async fn end(plane: &Plane, id: &str) -> Seen {
    let seen = plane.seen("close", id).await;
    assert!(
        seen.number("ageMs") >= 0.0 && seen.number("idleMs") >= 0.0 && seen.number("queueHighWater") >= 0.0
    );
    assert_eq!(seen.place.address.unwrap().to_string(), "127.0.0.1");
    plane.nobody_is_left().await;
    plane.notices.record.clear();
    seen
}

/// Ends a test whose notices were forgotten on the way.
async fn drain(plane: Plane) {
    assert_eq!(plane.gateway.drain(Duration::from_secs(20)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_say_at_the_end() {
    let plane = Plane::start().await;
    for (code, reason, id, known) in [
        // client.page-left
        (1001, "", "client.page-left", ""),
        // client.keepalive-1011
        (1011, "keepalive ping timeout", "client.keepalive-1011", "keepalive ping timeout"),
        (1011, "out of memory", "connections.gone-client-closed", ""),
        // connections.gone-client-closed
        (1000, "my secret", "connections.gone-client-closed", ""),
        (4000, "ping timeout", "connections.gone-client-closed", "ping timeout"),
    ] {
        let mut client = plane.connect().await;
        client.send("hello").await;
        client.close(code, reason).await;
        let seen = end(&plane, id).await;
        assert_eq!((seen.text("by"), seen.text("clientReason")), ("client", known));
        assert_eq!((seen.number("clientCode"), seen.number("closeCode")), (f64::from(code), f64::from(code)));
        assert!(!format!("{seen:?}").contains("secret"), "{seen:?}");
    }
    drain(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_lost() {
    // conn.reset
    let plane = Plane::start().await;
    plane.connect().await.reset();
    let seen = end(&plane, "conn.reset").await;
    assert_eq!(
        (seen.text("by"), seen.text("errorClass"), seen.number("closeCode")),
        ("network", "reset", 1006.0)
    );
    let mut client = plane.connect().await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(end(&plane, "conn.reset").await.text("errorClass"), "closed");
    drain(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_time() {
    // close.idle-timeout
    let plane = Plane::start_with(|settings| settings.data_plane.idle_timeout = 1).await;
    let mut client = plane.connect().await;
    client.closed().await;
    let seen = end(&plane, "close.idle-timeout").await;
    assert_eq!((seen.number("limit"), seen.text("by"), seen.number("closeCode")), (1.0, "gateway", 1001.0));
    assert!(seen.number("idleMs") >= 1000.0, "{seen:?}");
    drain(plane).await;
    // close.max-duration
    let plane = Plane::start_with(|settings| settings.data_plane.max_duration = 1).await;
    let mut client = plane.connect().await;
    client.closed().await;
    let seen = end(&plane, "close.max-duration").await;
    assert!(seen.number("limit") == 1.0 && seen.number("ageMs") >= 1000.0, "{seen:?}");
    drain(plane).await;
    // conn.ping-timeout
    let plane = Plane::start_with(|settings| {
        settings.data_plane.server_ping_interval = 1;
        settings.data_plane.server_ping_timeout = 1;
    })
    .await;
    let mut client = plane.connect().await;
    let Some(tidegate_ws::Incoming::Ping(payload)) = client.next().await else { panic!("a ping was due") };
    client.write(&ClientEncoder::new(None).pong(&payload)).await;
    let seen = end(&plane, "conn.ping-timeout").await;
    assert_eq!(
        (seen.number("limit"), seen.number("pingsUnanswered"), seen.text("by")),
        (1.0, 1.0, "network")
    );
    assert!(seen.number("lastPongMs") >= 1000.0, "{seen:?}");
    drain(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_of_identities() {
    let keys = json!([{ "secret": "0123456789abcdef-0123456789abcdef", "algorithms": ["HS256"] }]);
    let plane = Plane::start_with_policy(users_policy(json!({ "jwt": { "leeway": 0, "keys": keys } }))).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // close.token-expired
    let mut client = plane.connect_user(json!({ "sub": "ada", "exp": now + 2 }), "").await;
    let frame = client.closed().await.unwrap();
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Token expired"));
    let seen = end(&plane, "close.token-expired").await;
    assert_eq!(seen.number("expiresAt"), ((now + 2) * 1000) as f64);
    assert_eq!(seen.place.user.as_deref(), Some("ada"));
    for (ending, id, reason) in [
        // close.access-revoked
        (Ending::AccessRevoked, "close.access-revoked", "Access revoked"),
        // close.session-ended
        (Ending::SessionEnded, "close.session-ended", "Session ended"),
    ] {
        let mut client = plane.connect_user(json!({ "sub": "ada", "exp": now + 600 }), "").await;
        let subject = Subject::User("ada".to_owned());
        assert_eq!(plane.gateway.end(&subject, None, None, ending).await.connections, 1);
        let frame = client.closed().await.unwrap();
        assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, reason));
        let seen = end(&plane, id).await;
        assert!(
            seen.text("by") == "backend" && seen.number("requestedAt") >= (now * 1000) as f64,
            "{seen:?}"
        );
    }
    drain(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_somebody_asked_for() {
    let plane = Plane::start().await;
    // close.backend-requested
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    plane.manage("DELETE", &format!("@connections/{}", id.replace('=', "%3D")), "").await;
    client.closed().await;
    let seen = end(&plane, "close.backend-requested").await;
    assert_eq!((seen.text("caller"), seen.text("sourceAddress")), ("api key 1", "127.0.0.1"));
    assert!(seen.number("requestedAt") > 1e12);
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    assert!(plane.gateway.kick(&id, 1008, "enough"));
    client.closed().await;
    assert_eq!(end(&plane, "close.backend-requested").await.text("actor"), "administrator");
    // api.being-deleted
    let mut client = plane.connect().await;
    plane.delete_stage();
    assert_eq!(client.closed().await.unwrap().code.as_u16(), 1001);
    end(&plane, "api.being-deleted").await;
    plane.gateway.publish(Live::default());
    let api = Api { api_id: API_ID.to_owned(), ..Api::default() };
    plane.gateway.publish(Live {
        apis: vec![std::sync::Arc::new(LiveApi { api, stages: Vec::new() })],
        domains: Vec::new(),
    });
    // node.draining
    plane.publish("/");
    let mut client = plane.connect().await;
    let gateway = std::sync::Arc::clone(&plane.gateway);
    let draining = tokio::spawn(async move { gateway.drain(Duration::from_secs(20)).await });
    let frame = client.closed().await.unwrap();
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1001, "Service restart"));
    end(&plane, "node.draining").await;
    assert_eq!(draining.await.unwrap(), 0);
}

/// A frame head, masked with zeros.
fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_rules_of_the_protocol() {
    let plane = Plane::start().await;
    let bad_text = [head(0x81, 6), b"ab\xFFxyz".to_vec()].concat();
    let fragments = [head(0x01, 32_768), vec![b'x'; 32_768]].concat();
    let mut large = fragments.clone();
    for _ in 0..3 {
        large.extend([head(0x00, 32_768), vec![b'x'; 32_768]].concat());
    }
    large.extend(head(0x80, 1));
    for (bytes, code, id, fact, value) in [
        // message.binary
        ([head(0x82, 3), vec![1, 2, 3]].concat(), 1003, "message.binary", "size", 3.0),
        // message.not-utf8
        (bad_text, 1007, "message.not-utf8", "errorPosition", 2.0),
        // message.frame-too-large
        (head(0x81, 32_769), 1009, "message.frame-too-large", "size", 32_769.0),
        // message.too-large
        (large, 1009, "message.too-large", "limit", 131_072.0),
        // protocol.violation
        (head(0x83, 0), 1002, "protocol.violation", "opcode", 3.0),
    ] {
        let mut client = plane.connect().await;
        client.write(&bytes).await;
        assert_eq!(client.closed().await.unwrap().code.as_u16(), code, "{id}");
        let seen = end(&plane, id).await;
        assert_eq!((seen.number(fact), seen.text("by")), (value, "gateway"), "{seen:?}");
    }
    let mut client = plane.connect().await;
    client.write(&head(0xF1, 0)).await;
    client.closed().await;
    assert_eq!(end(&plane, "protocol.violation").await.text("rule"), "reserved bits are set");
    // message.inflate-limit: 200 KB of blanks in few bytes.
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n";
    let mut client = plane.connect_as("", offer).await;
    let params =
        tidegate_ws::extension::negotiate("permessage-deflate; client_no_context_takeover").unwrap().0;
    client.write(&ClientEncoder::new(Some(params)).text(&" ".repeat(200_000))).await;
    assert_eq!(client.closed().await.unwrap().code.as_u16(), 1009);
    assert_eq!(end(&plane, "message.inflate-limit").await.number("limit"), 131_072.0);
    drain(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_closed_because_it_is_slow() {
    // conn.slow-consumer
    let policy = users_policy(json!({ "push": { "slow": "close" } }));
    let plane = Plane::start_with(|settings| settings.data_plane.outbound_buffer_bytes = 65_536).await;
    plane.deploy(&crate::harness::Deployed::with_policy(policy));
    let client = plane.connect_with(Some(16 * 1024)).await;
    for _ in 0..2000 {
        if !plane.push_to_all(vec![b'x'; 32_768].into()).await.slow.is_empty() {
            break;
        }
    }
    let seen = plane.seen("close", "conn.slow-consumer").await;
    // The frame that is being written counts by its bytes and no longer by its place in the queue.
    assert!(seen.number("queueLength") >= 0.0 && seen.number("longestWriteMs") >= 0.0, "{seen:?}");
    assert!(seen.number("queueHighWater") >= seen.number("queueBytes") && seen.number("queueBytes") > 0.0);
    assert_eq!(seen.number("closeCode"), 1008.0);
    drop(client);
    drain(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_its_backend_never_hears_of() {
    // cleanup.disconnect-lost
    let plane = Plane::start().await;
    plane.backend.plan(|request| match request.is_event("DISCONNECT") {
        true => Answer::Status(500),
        false => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    client.close(1000, "").await;
    let seen = plane.seen("lost", "cleanup.disconnect-lost").await;
    assert_eq!((seen.text("causeId"), seen.number("attempts")), ("integration.error-status", 1.0));
    assert_eq!(seen.place.connection_id.unwrap().to_string(), id);
    assert_eq!(seen.place.route_key.as_deref(), Some("$disconnect"));
    let closed = plane.notices.record.count(|notice| matches!(notice, Notice::ConnectionClosed { .. }));
    assert_eq!(closed, 1);
    drain(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_the_client_sees_as_an_end() {
    // close.refused-after-open
    let plane = Plane::start_with(|settings| settings.connect.reject_as_close = true).await;
    plane.backend.plan(|_| Answer::Status(403));
    let mut client = plane.connect().await;
    assert_eq!(client.closed().await.unwrap().code.as_u16(), 4403);
    let seen = plane.seen("decided", "close.refused-after-open").await;
    assert_eq!((seen.text("causeId"), seen.number("closeCode")), ("backend.refused", 4403.0));
    assert!(seen.place.connection_id.is_some());
    plane.end().await;
}
