//! A drain ends as soon as the last event is delivered: nobody can hold it up by silence.

use std::time::{Duration, Instant};

use tidegate_ws::{ClientEncoder, Incoming};

use crate::client::{Client, PATH};
use crate::harness::Plane;

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
