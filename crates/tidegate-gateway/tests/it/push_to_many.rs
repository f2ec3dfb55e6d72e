//! One call reaches everybody it is for: `@channels/{channel}`, `@users/{user}`, `@broadcast` (S0-88 to S0-91).

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tidegate_auth::{Credential, Payload, RequestParts, Secret};

use crate::client::{Client, PATH, Reply, request};
use crate::harness::{Deployed, Plane, Setup, users_policy};
use crate::record::eventually;

const SELECTION: &str =
    "Authorization: Bearer test-key\r\nContent-Type: application/vnd.tidegate.push+json; charset=utf-8\r\n";

/// Bytes of one push to a reader that has stopped.
const SIZE: usize = 16 * 1024;

fn open_channels(push: Value) -> Value {
    users_policy(json!({ "channels": { "unlisted": "allow" }, "push": push }))
}

async fn select(plane: &Plane, selection: Value) -> Reply {
    plane.manage_with("POST", "@broadcast", SELECTION, &selection.to_string()).await
}

fn counts(reply: &Reply) -> (u64, u64, u64) {
    assert_eq!((reply.status, reply.value("content-type")), (200, "application/json"), "{reply:?}");
    let body = reply.json();
    let count = |name: &str| body[name].as_u64().unwrap();
    (count("delivered"), count("gone"), count("slow"))
}

/// With a user `ann` on two connections, of which the first is in `a1`, and `bob` in `a1` and `a2`, session `s`.
async fn three(plane: &Plane) -> [Client; 3] {
    let mut clients = [
        plane.connect_user(json!({ "sub": "ann" }), "&channel=a1").await,
        plane.connect_user(json!({ "sub": "ann" }), "").await,
        plane.connect_user(json!({ "sub": "bob", "sid": "s" }), "&channel=a1&channel=a2").await,
    ];
    for (client, n_channels) in clients.iter_mut().zip([1, 0, 2]) {
        for _ in 0..n_channels {
            assert_eq!(client.told().await["type"], "joined");
        }
    }
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_it_is_for_gets_it_once() {
    let plane = Plane::start_with_policy(open_channels(json!({}))).await;
    let mut clients = three(&plane).await;
    let mut ids = Vec::new();
    for client in &clients {
        ids.push(plane.id_of(client).await);
    }
    let escaped = ids[2].replace('=', "%3D");
    // S0-88: path, or selection; who gets it.
    let by_path = [
        ("@channels/a1", vec![0, 2]),
        ("@channels/nobody", vec![]),
        ("@users/ann", vec![0, 1]),
        ("@users/a%2Fb", vec![]),
        ("@broadcast", vec![0, 1, 2]),
        (&format!("@broadcast?except={escaped}"), vec![0, 1]),
        (&format!("@channels/a1?except={escaped}&except={}", ids[0].replace('=', "%3D")), vec![]),
    ];
    let selections = [
        (json!({}), vec![0, 1, 2]),
        (json!({ "users": ["ann"] }), vec![0, 1]),
        (json!({ "sessions": ["s"] }), vec![2]),
        (json!({ "channels": ["a*"] }), vec![0, 2]),
        (json!({ "channels": ["a2"] }), vec![2]),
        (json!({ "connections": [ids[1]] }), vec![1]),
        (json!({ "connections": ids, "users": ["ann", "bob"], "channels": ["a1", "*"] }), vec![0, 1, 2]),
        (json!({ "users": ["ann"], "sessions": ["s"], "except": [ids[0]] }), vec![1, 2]),
        // A list that is there and empty is nobody: it must not reach everybody.
        (json!({ "users": [] }), vec![]),
        (json!({ "connections": [], "channels": [] }), vec![]),
    ];
    let mut wanted: [Vec<String>; 3] = Default::default();
    for (number, (path, members)) in by_path.into_iter().enumerate() {
        let text = format!("path {number}");
        assert_eq!(counts(&plane.manage("POST", path, &text).await), (members.len() as u64, 0, 0), "{path}");
        members.iter().for_each(|member| wanted[*member].push(text.clone()));
    }
    for (number, (mut selection, members)) in selections.into_iter().enumerate() {
        let text = format!("selection {number}");
        selection["data"] = text.as_str().into();
        let reply = select(&plane, selection.clone()).await;
        assert_eq!(counts(&reply), (members.len() as u64, 0, 0), "{selection}");
        members.iter().for_each(|member| wanted[*member].push(text.clone()));
    }
    select(&plane, json!({ "data": { "json": 1 }, "users": ["ann"] })).await;
    wanted[..2].iter_mut().for_each(|wanted| wanted.push(r#"{"json":1}"#.to_owned()));
    // S0-85: one caller's pushes keep their order, and each came once.
    for (client, wanted) in clients.iter_mut().zip(wanted) {
        for text in wanted {
            assert_eq!(client.text().await, text);
        }
        client.hears_nothing().await;
    }
    let [mut first, second, third] = clients;
    second.reset();
    third.reset();
    eventually("two have gone", || plane.gateway.n_connections() == 1).await;
    // S0-88: ids that are gone, where they are asked for.
    let reply = select(&plane, json!({ "data": 1, "connections": ids })).await;
    assert_eq!(counts(&reply), (1, 2, 0));
    assert!(reply.json().get("goneIds").is_none());
    let selection = json!({ "data": 1, "connections": ids }).to_string();
    let reply = plane.manage_with("POST", "@broadcast?goneIds=true&slowIds", SELECTION, &selection).await;
    assert_eq!((&reply.json()["goneIds"], &reply.json()["slowIds"]), (&json!(ids[1..]), &json!([])));
    first.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_pushed_is_refused_with_the_reason() {
    let plane = Plane::start_with_policy(open_channels(json!({ "max_bytes": 1000 }))).await;
    let mut client = plane.connect().await;
    // S0-91: the size, the limit and advice.
    assert_eq!(counts(&plane.manage("POST", "@broadcast", &"x".repeat(1000)).await), (1, 0, 0));
    let large = plane.manage("POST", "@broadcast", &"x".repeat(1001)).await;
    assert_eq!((large.status, large.value("x-tidegate-limit")), (413, "1000"));
    let hint = large.value("x-tidegate-hint");
    assert!(hint.contains("1001 bytes") && hint.contains("1000 allowed") && hint.contains("URL"), "{hint}");
    client.text().await;

    for selection in [
        json!({}),
        json!({ "data": 1, "nobody": [] }),
        json!({ "data": 1, "connections": ["???"] }),
        json!({ "data": 1, "channels": ["no name"] }),
        json!({ "data": 1, "except": ["???"] }),
        json!([]),
    ] {
        let reply = select(&plane, selection.clone()).await;
        assert_eq!(reply.status, 400, "{selection}");
        assert!(reply.json()["message"].is_string());
    }
    assert_eq!(plane.manage_with("POST", "@users/ann", SELECTION, r#"{"data":1}"#).await.status, 400);
    assert_eq!(plane.manage("POST", "@broadcast?except=nonsense", "x").await.status, 400);
    assert_eq!(plane.manage("POST", "@channels/a.b", "x").await.status, 400);
    // Wrong methods, unknown paths: as API Gateway answers them.
    for (method, path) in [
        ("GET", "@broadcast"),
        ("DELETE", "@channels/a"),
        ("PUT", "@users/ann"),
        ("POST", "@connections"),
        ("POST", "@channels/a/connections/b"),
        ("POST", "@nothing"),
        ("POST", "@channels"),
        ("POST", "@users"),
    ] {
        let reply = plane.manage(method, path, "x").await;
        assert!(matches!(reply.status, 403 | 404), "{method} {path}: {reply:?}");
    }
    // Without a right nothing is sent.
    for headers in ["", "Authorization: Bearer wrong\r\n"] {
        for path in ["@broadcast", "@channels/a", "@users/ann"] {
            assert_eq!(plane.manage_with("POST", path, headers, "x").await.status, 403, "{path}");
        }
    }
    client.hears_nothing().await;
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_may_have_the_right_to_one_channel() {
    let credential = Credential {
        access_key_id: "AKIDONE".to_owned(),
        secret: Secret::new("secret-of-one"),
        allow: vec![
            "arn:aws:execute-api:us-east-1:123456789012:tide000001/prod/POST/@channels/news".to_owned(),
        ],
    };
    let plane = Plane::start_from(Setup { credentials: vec![credential.clone()], ..Setup::default() }).await;
    plane.deploy(&Deployed::with_policy(open_channels(json!({}))));
    let mut client = plane.connect_as("?channel=news", "").await;
    client.told().await;
    // S0-88, with the callers of S0-84
    for (method, path, status) in [
        ("POST", "@channels/news", 200),
        ("POST", "@channels/other", 403),
        ("POST", "@users/ann", 403),
        ("POST", "@broadcast", 403),
        ("GET", "@connections", 403),
        ("PUT", "@channels/news/connections/L0SM9cOFvHcCIhw%3D", 403),
    ] {
        let reply = signed(&plane, &credential, method, path, "x").await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        if status == 403 {
            assert_eq!(reply.value("x-amzn-errortype"), "AccessDeniedException", "{reply:?}");
        }
    }
    assert_eq!(client.text().await, "x");
    client.hears_nothing().await;
    client.close(1000, "").await;
    plane.end().await;
}

/// A call with a signature of the SDKs.
async fn signed(plane: &Plane, by: &Credential, method: &str, path: &str, body: &str) -> Reply {
    let target = format!("{PATH}/{path}");
    let host = plane.address.to_string();
    let mut headers = http::HeaderMap::new();
    headers.insert("host", host.parse().unwrap());
    let keys = tidegate_auth::CredentialKeys::permanent(by.secret.clone());
    let signer = tidegate_auth::Signer::new(by.access_key_id.clone(), keys, "us-east-1", "execute-api");
    let parts = RequestParts { method, path: &target, query: None, headers: &headers };
    let added = signer.sign(&parts, Payload::Body(body.as_bytes()), SystemTime::now()).unwrap();
    let lines: String = added
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()))
        .chain([format!("Host: {host}\r\n")])
        .collect();
    request(plane.address, method, &target, &lines, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_node_takes_no_pushes() {
    let plane = Plane::start_with_policy(open_channels(json!({}))).await;
    let mut client = plane.connect().await;
    // A call that has begun before the drain, and whose body comes after.
    let mut caller = Client::dial(plane.address, None).await;
    let head = format!(
        "POST {PATH}/@broadcast HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer test-key\r\n\
         Expect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    );
    caller.write(head.as_bytes()).await;
    assert_eq!(caller.status().await, 100);
    let gateway = std::sync::Arc::clone(&plane.gateway);
    let draining = tokio::spawn(async move { gateway.drain(Duration::from_secs(20)).await });
    eventually("draining", || plane.gateway.is_draining()).await;
    caller.write(b"x").await;
    // S0-88
    assert_eq!(caller.status().await, 503);
    client.closed().await;
    assert_eq!(draining.await.unwrap(), 0);
    plane.end().await;
}

/// Key and the headers that every caller sends.
fn with_key(key: &str) -> String {
    format!("Authorization: Bearer test-key\r\nIdempotency-Key: {key}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_key_sends_nothing_and_gives_the_first_result() {
    let plane = Plane::start_with_policy(open_channels(json!({ "idempotency_window": 1 }))).await;
    let mut client = plane.connect().await;
    let push =
        async |key: &str, path: &str, body: &str| plane.manage_with("POST", path, &with_key(key), body).await;
    // S0-90
    let started = Instant::now();
    let first = push("k1", "@broadcast", "one").await;
    assert_eq!((counts(&first), first.value("idempotency-replayed")), ((1, 0, 0), ""));
    let mut other = plane.connect().await;
    let again = push("k1", "@broadcast", "one").await;
    let other_body = push("k1", "@broadcast", "two").await;
    let other_path = push("k1", "@channels/a", "one").await;
    if started.elapsed() < Duration::from_millis(900) {
        assert_eq!((counts(&again), again.value("idempotency-replayed")), ((1, 0, 0), "true"));
        assert_eq!((other_body.status, other_path.status), (409, 409));
        other.hears_nothing().await;
    }
    assert_eq!(push(&"k".repeat(256), "@broadcast", "x").await.status, 400);
    // After its window the key is a new one.
    tokio::time::sleep(Duration::from_millis(1100).saturating_sub(started.elapsed())).await;
    assert_eq!(counts(&push("k1", "@broadcast", "three").await), (2, 0, 0));
    client.close(1000, "").await;
    other.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_repeats_one_is_sent() {
    let plane = Plane::start_with_policy(open_channels(json!({}))).await;
    let mut client = plane.connect().await;
    let headers = with_key("same");
    let calls = (0..20).map(|_| plane.manage_with("POST", "@broadcast", &headers, "once"));
    let replies = futures_util::future::join_all(calls).await;
    // S0-90
    assert!(replies.iter().all(|reply| counts(reply) == (1, 0, 0)));
    let n_first = replies.iter().filter(|reply| reply.value("idempotency-replayed").is_empty()).count();
    assert_eq!(n_first, 1);
    assert_eq!(client.text().await, "once");
    client.hears_nothing().await;
    client.close(1000, "").await;
    plane.end().await;
}

/// A plane with a policy for slow readers, and a client that reads nothing and whose outbox is full.
async fn with_a_full_reader(push: Value) -> (Plane, Client, usize) {
    let plane = Plane::start_with(|settings| settings.data_plane.outbound_buffer_bytes = 128 * 1024).await;
    let mut filling = push.clone();
    filling["slow"] = "drop".into();
    plane.deploy(&Deployed::with_policy(open_channels(filling)));
    let slow = plane.connect_with(Some(16 * 1024)).await;
    let mut n_taken = 0;
    loop {
        let text = format!("{n_taken:0SIZE$}");
        match counts(&plane.manage("POST", "@broadcast", &text).await) {
            (1, 0, 0) => n_taken += 1,
            (0, 0, 1) => break,
            other => panic!("{other:?}"),
        }
        assert!(n_taken < 2000, "the queue has no bound");
    }
    plane.deploy(&Deployed::with_policy(open_channels(push)));
    (plane, slow, n_taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_are_dropped_from_a_push() {
    let (plane, mut slow, n_taken) = with_a_full_reader(json!({ "slow": "drop" })).await;
    let id = plane.id_of(&slow).await;
    let mut fast = plane.connect().await;
    // S0-89: nobody waits for it, and the caller is told who it was.
    let mut n_more = 0;
    loop {
        let text = format!("{:0SIZE$}", n_taken + n_more);
        let reply = plane.manage("POST", "@broadcast?slowIds=true", &text).await;
        assert_eq!(fast.text().await.parse::<usize>().unwrap(), n_taken + n_more);
        match counts(&reply) {
            (2, 0, 0) => n_more += 1,
            (1, 0, 1) => {
                assert_eq!(reply.json()["slowIds"], json!([id]));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    for number in 0..n_taken + n_more {
        assert_eq!(slow.text().await.parse::<usize>().unwrap(), number);
    }
    assert_eq!(counts(&plane.manage("POST", "@broadcast", "again").await), (2, 0, 0));
    assert_eq!(slow.text().await, "again");
    slow.close(1000, "").await;
    fast.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_are_closed() {
    let (plane, mut slow, _) = with_a_full_reader(json!({ "slow": "close" })).await;
    let id = plane.id_of(&slow).await;
    // S0-89
    while counts(&plane.manage("POST", "@broadcast", &"x".repeat(SIZE)).await).2 == 0 {}
    let frame = slow.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Too slow"));
    assert_eq!(plane.disconnect_of(&id).await, (1008, "Too slow".to_owned()));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_waits_for_slow_readers() {
    let (plane, mut slow, n_taken) = with_a_full_reader(json!({ "slow": "wait", "wait_ms": 200 })).await;
    // S0-89: as long as the policy says.
    let started = Instant::now();
    let mut n_more = 0;
    while counts(&plane.manage("POST", "@broadcast", &format!("{:0SIZE$}", n_taken + n_more)).await).2 == 0 {
        n_more += 1;
    }
    assert!(started.elapsed() >= Duration::from_millis(200));

    plane.deploy(&Deployed::with_policy(open_channels(json!({ "slow": "wait", "wait_ms": 20_000 }))));
    let mut fast = plane.connect().await;
    // S0-90: a caller that loses patience and repeats its key makes no second push of it.
    let text = format!("{:0SIZE$}", n_taken + n_more);
    let mut impatient = Client::dial(plane.address, None).await;
    let call = format!(
        "POST {PATH}/@broadcast HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {SIZE}\r\n\r\n{text}",
        with_key("patience")
    );
    impatient.write(call.as_bytes()).await;
    // The push is under way: it has reached whoever reads.
    assert_eq!(fast.text().await, text);
    impatient.reset();
    let headers = with_key("patience");
    let (reply, ()) = tokio::join!(plane.manage_with("POST", "@broadcast", &headers, &text), async {
        for number in 0..=n_taken + n_more {
            assert_eq!(slow.text().await.parse::<usize>().unwrap(), number);
        }
    });
    assert_eq!((counts(&reply), reply.value("idempotency-replayed")), ((2, 0, 0), "true"));
    for mut client in [slow, fast] {
        client.hears_nothing().await;
        client.close(1000, "").await;
    }
    plane.end().await;
}
