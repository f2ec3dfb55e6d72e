//! After the 101: subprotocols, messages, and how long a connection lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_doctor::report::{Confidence, ProbeResult};

use crate::server::{After, Head, Reply, answer, frame, serve, tidegate};
use crate::{finding, healthy, ids, look_with, options, probe_of, proven};

/// A Tidegate whose probe path behaves like this after the upgrade.
fn probe_path(behavior: After) -> impl Fn(&Head) -> Reply + Send + Sync + 'static {
    move |head| match (head.path(), head.is_upgrade()) {
        ("/_tidegate/probe", true) => Reply::Upgrade("", behavior.clone()),
        _ => tidegate(head),
    }
}

#[tokio::test]
async fn subprotocols() {
    // subprotocol.not-confirmed subprotocol.not-offered subprotocol.several subprotocol.null subprotocol.token
    for (chosen, offered, id) in [
        ("", vec!["graphql-ws"], "subprotocol.not-confirmed"),
        ("Sec-WebSocket-Protocol: mqtt\r\n", vec!["graphql-ws"], "subprotocol.not-offered"),
        ("Sec-WebSocket-Protocol: a, b\r\n", vec!["a", "b"], "subprotocol.several"),
        ("", vec!["null"], "subprotocol.null"),
        ("", vec!["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"], "subprotocol.token"),
    ] {
        let server = serve(move |_| Reply::Upgrade(chosen, After::Echo)).await;
        let mut options = options(&server.url("/chat"));
        options.subprotocols = offered.iter().map(|name| (*name).to_owned()).collect();
        let report = look_with(&options, &["subprotocol"]).await;
        assert_eq!(ids(&report), [id]);
        proven(&report, id);
        assert!(!serde_json::to_string(&report).unwrap().contains("eyJ"), "DX-64");
    }
    let server = serve(|_| Reply::Upgrade("Sec-WebSocket-Protocol: b\r\n", After::Echo)).await;
    let mut options = options(&server.url("/chat"));
    options.subprotocols = vec!["a".to_owned(), "b".to_owned()];
    healthy(&look_with(&options, &["subprotocol"]).await);
}

#[tokio::test]
async fn messages_are_held_back_or_altered() {
    // proxy.buffering proxy.inspection
    let server = serve(probe_path(After::HeldEcho)).await;
    // The probes before it need their echoes too; five at once is what this proxy waits for.
    let mut options = options(&server.url("/chat"));
    options.timeout = Duration::from_millis(700);
    let report = look_with(&options, &["upgrade-path", "echo"]).await;
    proven(&report, "proxy.buffering");

    let server = serve(probe_path(After::AlteredEcho)).await;
    let report = look_with(&crate::options(&server.url("/chat")), &["upgrade-path", "echo"]).await;
    assert_eq!(ids(&report), ["proxy.inspection"]);
    proven(&report, "proxy.inspection");

    let server = serve(probe_path(After::Echo)).await;
    let report = look_with(&crate::options(&server.url("/chat")), &["upgrade-path", "echo"]).await;
    healthy(&report);
    assert_eq!(probe_of(&report, "echo").measurements["echoes"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn compression_of_one_side_only() {
    // proxy.deflate-broken
    let server = serve(probe_path(After::BrokenDeflate)).await;
    let report = look_with(&options(&server.url("/chat")), &["upgrade-path"]).await;
    assert_eq!(ids(&report), ["proxy.deflate-broken"]);
    proven(&report, "proxy.deflate-broken");
}

#[tokio::test]
async fn an_http_answer_in_the_stream() {
    // proxy.injected-bytes
    let bytes = b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec();
    let server = serve(move |_| Reply::Upgrade("", After::Bytes(bytes.clone()))).await;
    let report = look_with(&options(&server.url("/chat")), &["handshake"]).await;
    assert_eq!(ids(&report), ["proxy.injected-bytes"]);
    proven(&report, "proxy.injected-bytes");
    // A server that greets is no proxy that injects.
    let server = serve(|_| Reply::Upgrade("", After::Bytes(frame(0x81, b"HTTP/1.1 is no frame")))).await;
    healthy(&look_with(&options(&server.url("/chat")), &["handshake"]).await);
}

#[tokio::test]
async fn nobody_answers_a_message() {
    // conn.app-heartbeat-unanswered reply.no-route-response
    let server = serve(|_| Reply::Upgrade("Tidegate-Request-Id: r1\r\n", After::Silent)).await;
    let mut options = options(&server.url("/chat"));
    options.timeout = Duration::from_millis(300);
    options.expect = Some("pong".to_owned());
    assert_eq!(ids(&look_with(&options, &["echo"]).await), ["conn.app-heartbeat-unanswered"]);
    options.send = Some("{\"action\":\"list\"}".to_owned());
    assert_eq!(ids(&look_with(&options, &["echo"]).await), ["reply.no-route-response"]);
    // When nobody expects an answer, none is missing.
    options.expect = None;
    healthy(&look_with(&options, &["echo"]).await);
}

#[tokio::test]
async fn it_opens_and_closes_at_once() {
    // app.double-accept app.exception-after-accept app.reason-too-long
    let server = serve(|_| Reply::Upgrade("", After::Cut(Duration::from_millis(20)))).await;
    let report = look_with(&options(&server.url("/ws")), &["stability"]).await;
    for (id, confidence) in [
        ("app.double-accept", Confidence::Likely),
        ("app.exception-after-accept", Confidence::Likely),
        ("app.reason-too-long", Confidence::Possible),
    ] {
        assert_eq!(finding(&report, id).confidence, confidence);
    }
    let server = serve(|_| Reply::Upgrade("", After::Close(1011))).await;
    let report = look_with(&options(&server.url("/ws")), &["stability"]).await;
    assert_eq!(ids(&report), ["app.exception-after-accept"]);
    proven(&report, "app.exception-after-accept");

    // A close frame of 130 bytes: a code, and a reason of 128.
    let mut long = vec![0x88, 126, 0, 130, 0x03, 0xf0];
    long.extend_from_slice(&[b'x'; 128]);
    let server = serve(move |_| Reply::Upgrade("", After::Bytes(long.clone()))).await;
    let report = look_with(&options(&server.url("/ws")), &["stability"]).await;
    assert_eq!(ids(&report), ["app.reason-too-long"]);
    proven(&report, "app.reason-too-long");

    let server = serve(|_| Reply::Upgrade("", After::EndOnMessage)).await;
    healthy(&look_with(&options(&server.url("/ws")), &["stability"]).await);
    // A text of doctor's own proves nothing; one of the client's does.
    let mut options = options(&server.url("/ws"));
    healthy(&look_with(&options, &["echo"]).await);
    options.send = Some("{}".to_owned());
    let report = look_with(&options, &["echo"]).await;
    assert_eq!(finding(&report, "app.exception-after-accept").confidence, Confidence::Likely);
}

#[tokio::test]
async fn only_so_many_at_a_time() {
    // proxy.capacity
    let n = Arc::new(AtomicUsize::new(0));
    let server = serve(move |_| match n.fetch_add(1, Ordering::Relaxed) {
        // The handshake and the first of three.
        0 | 1 => Reply::Upgrade("", After::Echo),
        _ => answer("502 Bad Gateway", "Server: nginx\r\n", ""),
    })
    .await;
    let report = look_with(&options(&server.url("/ws")), &["handshake", "stability"]).await;
    assert_eq!(ids(&report), ["proxy.capacity"]);
    // Nobody can prove it from outside.
    assert_eq!(report.findings[0].confidence, Confidence::Likely);
}

/// The idle probe with a second of 25 ms, at a proxy that cuts after so many of them.
async fn idle(seconds: f64, counts_pings: bool, heartbeat: Option<f64>) -> tidegate_doctor::report::Report {
    let second = Duration::from_millis(25);
    let limit = second.mul_f64(seconds);
    let server = serve(move |_| Reply::Upgrade("", After::IdleCut(limit, counts_pings))).await;
    let mut options = options(&server.url("/ws"));
    options.idle = Some(second * 130);
    options.heartbeat = heartbeat.map(|seconds| second.mul_f64(seconds));
    look_with(&options, &["idle"]).await
}

#[tokio::test]
async fn idle_limits() {
    // proxy.idle-60 proxy.idle-100 proxy.idle-other DX-46
    let (sixty, hundred, other, none) = tokio::join!(
        idle(60.0, true, None),
        idle(100.0, true, None),
        idle(80.0, true, None),
        idle(500.0, true, None)
    );
    for (report, id, seconds) in [
        (&sixty, "proxy.idle-60", 60.0),
        (&hundred, "proxy.idle-100", 100.0),
        (&other, "proxy.idle-other", 80.0),
    ] {
        assert_eq!(ids(report), [id]);
        proven(report, id);
        let measured = probe_of(report, "idle").measurements["limitSeconds"].as_f64().unwrap();
        assert!((measured - seconds).abs() < 4.0, "{measured}");
    }
    healthy(&none);
    assert_eq!(probe_of(&none, "idle").result, ProbeResult::Ok);
}

#[tokio::test]
async fn what_keeps_a_connection() {
    // proxy.idle-counts-data-only idle.heartbeat-race
    let (data_only, raced, in_time) =
        tokio::join!(idle(60.0, false, None), idle(60.0, true, Some(64.0)), idle(60.0, true, Some(25.0)));
    assert_eq!(ids(&data_only), ["proxy.idle-60", "proxy.idle-counts-data-only"]);
    proven(&data_only, "proxy.idle-counts-data-only");
    assert_eq!(ids(&raced), ["idle.heartbeat-race", "proxy.idle-60"]);
    proven(&raced, "idle.heartbeat-race");
    assert_eq!(ids(&in_time), ["proxy.idle-60"]);
}
