//! A drain ends as soon as the last event is delivered: nobody can hold it up by silence.

use std::time::{Duration, Instant};

use tidegate_ws::{ClientEncoder, Incoming};

use crate::client::{Client, PATH};
use crate::harness::{Plane, Setup};

/// Far less than any timeout for heads, and more than the slices and close handshakes of a drain take.
const PROMPT: Duration = Duration::from_secs(5);

/// Drains while `client` keeps quiet, and checks that this takes no longer than without it.
async fn check_prompt(plane: Plane, client: Client) {
    let started = Instant::now();
    assert_eq!(plane.gateway.drain(crate::record::DEADLINE).await, 0);
    assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
    drop(client);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_caller_that_keeps_its_connection() {
    let plane = Plane::start().await;
    let mut client = Client::dial(plane.address, None).await;
    client.write(format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    assert_eq!(client.status().await, 426);
    check_prompt(plane, client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_connection_that_says_nothing() {
    let plane = Plane::start().await;
    let client = Client::dial(plane.address, None).await;
    // Accepted in the order of arrival, so the silent one is in by now.
    drop(plane.connect().await);
    plane.nobody_is_left().await;
    check_prompt(plane, client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_half_a_head() {
    let plane = Plane::start().await;
    let mut client = Client::dial(plane.address, None).await;
    let handshake = client.handshake("", "");
    client.write(&handshake[..handshake.len() / 2]).await;
    drop(plane.connect().await);
    plane.nobody_is_left().await;
    check_prompt(plane, client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_half_a_second_head() {
    let plane = Plane::start().await;
    let mut client = Client::dial(plane.address, None).await;
    client.write(format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    assert_eq!(client.status().await, 426);
    client.write(b"GET / HTTP/1.1\r\nHost: loc").await;
    drop(plane.connect().await);
    plane.nobody_is_left().await;
    check_prompt(plane, client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_client_that_answers_no_close() {
    let plane = Plane::start().await;
    let client = plane.connect().await;
    check_prompt(plane, client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_close_is_found_behind_other_frames() {
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    let gateway = std::sync::Arc::clone(&plane.gateway);
    let drain = tokio::spawn(async move { gateway.drain(crate::record::DEADLINE).await });
    let Some(Incoming::Close(frame)) = client.next().await else { panic!("a close frame was due") };
    let encoder = ClientEncoder::new(None);
    let started = Instant::now();
    client.write(&[encoder.pong(b""), encoder.text("late"), encoder.close(frame.as_ref())].concat()).await;
    // RFC 6455, section 7.1.1: the server closes first, and need not be waited for.
    assert_eq!(client.next().await, None);
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    assert_eq!(drain.await.unwrap(), 0);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closes_are_spread_and_who_comes_meanwhile_is_told_to_wait() {
    // S3-64
    const N_CLIENTS: usize = 200;
    const SPREAD: Duration = Duration::from_millis(800);
    let plane = Plane::start_from(Setup { drain_spread: SPREAD, ..Setup::default() }).await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..N_CLIENTS {
        let mut client = plane.connect().await;
        readers.spawn(async move {
            let Some(Incoming::Close(_)) = client.next().await else { panic!("a close frame was due") };
            let closed_at = Instant::now();
            client.reset();
            closed_at
        });
    }
    let gateway = std::sync::Arc::clone(&plane.gateway);
    let started = Instant::now();
    let drain = tokio::spawn(async move { gateway.drain(crate::record::DEADLINE).await });
    crate::record::eventually("draining", || plane.gateway.is_draining()).await;
    let mut late = Client::dial(plane.address, None).await;
    late.write(&late.handshake("", "")).await;
    let reply = late.reply().await;
    assert_eq!(reply.status, 503, "{}", reply.head);
    assert!(reply.value("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{}", reply.head);
    let mut times: Vec<Duration> =
        readers.join_all().await.into_iter().map(|closed_at| closed_at - started).collect();
    times.sort_unstable();
    // A reader may be late and is never early: in no half of the time are there more than its share and some.
    let before = |limit: Duration| times.iter().filter(|time| **time < limit).count();
    assert!(before(SPREAD / 2) <= N_CLIENTS / 2 + 1, "{times:?}");
    assert!(before(SPREAD / 4) <= N_CLIENTS / 4 + 1, "{times:?}");
    assert!(times[0] < SPREAD / 2, "the first one waits for nobody: {times:?}");
    assert_eq!(drain.await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(plane.address).await.is_err(), "still listening");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_connections_are_no_wave() {
    // S3-64
    let plane = Plane::start_from(Setup { drain_spread: Duration::from_secs(60), ..Setup::default() }).await;
    let client = plane.connect().await;
    check_prompt(plane, client).await;
}
