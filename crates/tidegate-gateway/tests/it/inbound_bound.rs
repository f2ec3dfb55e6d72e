//! A client that sends faster than its backend answers is not read any more, and loses nothing.

use std::io::ErrorKind;
use std::time::Duration;

use tidegate_ws::ClientEncoder;
use tokio::io::AsyncWriteExt as _;

use crate::backend::{Answer, Gate};
use crate::harness::Plane;

/// Bytes of one message.
const SIZE: usize = 4000;

/// Messages that are offered.
const N_MESSAGES: usize = 1000;

/// How long a socket may take nothing before it counts as blocked.
const BLOCKED: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_held_back_and_nothing_is_lost() {
    let plane = Plane::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("MESSAGE") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    let mut client = plane.connect_with(Some(32 * 1024)).await;
    let wire: Vec<u8> = (0..N_MESSAGES)
        .flat_map(|number| ClientEncoder::new(None).text(&format!("{number:0SIZE$}")))
        .collect();
    let mut n_written = 0;
    loop {
        match client.stream.try_write(&wire[n_written..]) {
            Ok(n_taken) => n_written += n_taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if tokio::time::timeout(BLOCKED, client.stream.writable()).await.is_err() {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(n_written < wire.len(), "everything was taken");
    }
    // The queue of 64, one read buffer and what the system holds on both sides.
    assert!(n_written < 64 * (SIZE + 8) + 1024 * 1024, "{n_written} bytes were taken");
    assert!(n_written > 64 * SIZE, "{n_written} bytes were taken");
    assert_eq!(plane.backend.events("MESSAGE", 1).await.len(), 1);

    gate.open();
    let writing = tokio::spawn(async move {
        client.stream.write_all(&wire[n_written..]).await.unwrap();
        client
    });
    let messages = plane.backend.events("MESSAGE", N_MESSAGES).await;
    for (number, request) in messages.iter().enumerate() {
        assert_eq!(request.body.parse::<usize>().unwrap(), number);
        assert_eq!(request.body.len(), SIZE);
    }
    writing.await.unwrap().close(1000, "").await;
    plane.end().await;
}
