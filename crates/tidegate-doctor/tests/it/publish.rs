//! Messages that a server sends: everybody, nobody, or the connections of one worker.

use std::sync::Arc;
use std::time::Duration;

use tidegate_doctor::probe::PublishRequest;
use tidegate_doctor::report::{Confidence, ProbeResult, Report};
use tidegate_ws::{Decoder, Incoming, Limits, Role, handshake};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::server::frame;
use crate::{finding, healthy, ids, is_problem, look_with, options, probe_of};

/// Which connections, by the order of their opening, get a message, by the order of the requests.
type Sends = fn(n_connection: usize, n_message: usize) -> bool;

struct Fleet {
    url: String,
    publish_url: String,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    sockets: Vec<Option<OwnedWriteHalf>>,
    n_messages: usize,
}

/// A server that sends the body of a `POST` to connections; those that did not say `subscribe` get nothing where it is
/// wanted.
async fn fleet(sends: Sends, wants_subscription: bool) -> Fleet {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new(tokio::sync::Mutex::new(Shared::default()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(one(stream, Arc::clone(&shared), sends, wants_subscription));
        }
    });
    Fleet {
        url: format!("ws://{address}/ws"),
        publish_url: format!("http://{address}/publish"),
        _tasks: tasks,
    }
}

async fn one(
    mut stream: TcpStream,
    shared: Arc<tokio::sync::Mutex<Shared>>,
    sends: Sends,
    wants_subscription: bool,
) {
    let mut received = Vec::new();
    let end = loop {
        if let Some(at) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let header = |wanted: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
    };
    if head.starts_with("POST") {
        let length: usize = header("content-length").unwrap().parse().unwrap();
        while received.len() < end + length {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0);
        }
        let status =
            if header("authorization").as_deref() == Some("Bearer k3y") { "200 OK" } else { "403 Forbidden" };
        let mut shared = shared.lock().await;
        let n_message = shared.n_messages;
        shared.n_messages += 1;
        for (at, socket) in shared.sockets.iter_mut().enumerate() {
            if let (Some(socket), true) = (socket, sends(at, n_message)) {
                let _ = socket.write_all(&frame(0x81, &received[end..])).await;
            }
        }
        drop(shared);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        let _ = stream.write_all(answer.as_bytes()).await;
        return;
    }
    let Some(key) = header("sec-websocket-key") else {
        let _ = stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        return;
    };
    let accept = handshake::accept_key(&key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let (mut reader, mut writer) = stream.into_split();
    let place = {
        let mut shared = shared.lock().await;
        let _ = writer.write_all(answer.as_bytes()).await;
        shared.sockets.push(None);
        shared.sockets.len() - 1
    };
    let mut writer = Some(writer);
    if !wants_subscription {
        shared.lock().await.sockets[place] = writer.take();
    }
    let mut decoder = Decoder::new(Role::Server, Limits { max_frame: 1 << 16, max_message: 1 << 16 }, None);
    let mut pending = received.split_off(end);
    loop {
        while !pending.is_empty() {
            let Ok(decoded) = decoder.decode(&mut pending) else { return };
            pending.drain(..decoded.consumed);
            if decoded.event.is_some_and(|event| matches!(event, Incoming::Text(text) if text == "subscribe"))
            {
                let mut shared = shared.lock().await;
                shared.sockets[place] = writer.take();
            }
        }
        if reader.read_buf(&mut pending).await.unwrap_or(0) == 0 {
            shared.lock().await.sockets[place] = None;
            return;
        }
    }
}

async fn look(fleet: &Fleet, body: &str, subscribe: Option<&str>) -> Report {
    let mut options = options(&fleet.url);
    options.surroundings.second = Duration::from_millis(150);
    options.publish = Some(PublishRequest {
        url: fleet.publish_url.clone(),
        body: body.to_owned(),
        headers: vec![("Authorization".to_owned(), "Bearer k3y".to_owned())],
        subscribe: subscribe.map(str::to_owned),
    });
    let report = look_with(&options, &["publish"]).await;
    assert!(!serde_json::to_string(&report).unwrap().contains("k3y"), "DX-64");
    report
}

#[tokio::test]
async fn messages_that_reach_everybody_are_healthy() {
    // publish.single-process: no finding where there is none.
    for body in ["{marker}", "always the same"] {
        let fleet = fleet(|_, _| true, false).await;
        let report = look(&fleet, body, None).await;
        healthy(&report);
        let probe = probe_of(&report, "publish");
        assert_eq!(probe.result, ProbeResult::Ok, "{probe:?}");
        assert_eq!(probe.measurements["summary"], "each of 6 messages reached all 8 connections");
    }
}

#[tokio::test]
async fn messages_that_reach_one_worker_each_are_found() {
    // publish.single-process
    for body in [r#"{"text":"{marker}"}"#, "always the same"] {
        let fleet = fleet(|at, message| at % 3 == message % 3, false).await;
        let report = look(&fleet, body, None).await;
        let found = finding(&report, "publish.single-process");
        assert_eq!((found.confidence, is_problem(found)), (Confidence::Likely, true));
        let facts = &found.evidence[0].facts;
        assert_eq!((&facts["connections"], &facts["messages"]), (&8.into(), &6.into()));
        assert_eq!(facts["groups"].as_array().unwrap().len(), 3);
        assert_eq!(facts["reached"].as_array().unwrap().len(), 6);
        assert_eq!(ids(&report).len(), 1);
    }
}

#[tokio::test]
async fn what_is_no_pattern_is_no_finding() {
    // publish.single-process DX-2
    let reason =
        |report: &Report| probe_of(report, "publish").measurements["reason"].as_str().unwrap().to_owned();
    // Nobody listens until it has subscribed.
    let subscribed = fleet(|_, _| true, true).await;
    let report = look(&subscribed, "{marker}", None).await;
    healthy(&report);
    assert!(reason(&report).contains("none of 6 messages reached any of 8"), "{}", reason(&report));
    healthy(&look(&subscribed, "{marker}", Some("subscribe")).await);
    // Lost here and there.
    let lossy = fleet(|at, message| (at + message) % 5 != 0, false).await;
    let report = look(&lossy, "{marker}", None).await;
    healthy(&report);
    assert!(reason(&report).contains("in no pattern"), "{}", reason(&report));
    // The same ones each time: a worker may be meant, or something else.
    let same = fleet(|at, _| at < 3, false).await;
    let report = look(&same, "{marker}", None).await;
    let found = finding(&report, "publish.single-process");
    assert_eq!((found.confidence, is_problem(found)), (Confidence::Possible, false));
    assert_eq!(found.evidence[0].facts["messages"], 12);
    // A request that is refused says nothing.
    let mut options = options(&same.url);
    options.publish = Some(PublishRequest { url: same.publish_url.clone(), ..PublishRequest::default() });
    let report = look_with(&options, &["publish"]).await;
    healthy(&report);
    assert!(reason(&report).contains("answered with 403"), "{}", reason(&report));
}
