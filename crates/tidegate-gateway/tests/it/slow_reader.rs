//! A client that stops reading costs a bounded queue, delays nobody, and gets everything that was taken for it.

use bytes::Bytes;

use crate::harness::Plane;

/// Bytes of one push.
const SIZE: usize = 16 * 1024;

/// Bytes that may wait for one client.
const BOUND: usize = 256 * 1024;

/// More than queue and system buffers of one connection can hold, in pushes.
const ENOUGH: usize = 2000;

fn payload(number: usize) -> Bytes {
    Bytes::from(format!("{number:0SIZE$}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_get_everything_and_it_recovers() {
    let plane = Plane::start_with(|settings| {
        settings.data_plane.outbound_buffer_bytes = BOUND;
    })
    .await;
    let mut slow = plane.connect_with(Some(16 * 1024)).await;
    let mut fast = plane.connect().await;
    let mut n_pushed = 0;
    let mut taken_for_slow = Vec::new();
    // Each push is read by the fast client before the next, so only the slow one can be at its bound.
    let mut n_slow = 0;
    while n_slow < 50 {
        assert!(n_pushed < ENOUGH, "the queue has no bound");
        let counts = plane.push_to_all(payload(n_pushed)).await;
        assert!(counts.gone.is_empty());
        assert_eq!(counts.delivered + counts.slow.len(), 2);
        assert!(counts.delivered >= 1, "the fast client is never at the bound");
        match counts.slow.len() {
            0 => taken_for_slow.push(n_pushed),
            _ => n_slow += 1,
        }
        assert_eq!(fast.text().await.parse::<usize>().unwrap(), n_pushed);
        n_pushed += 1;
    }
    // The client's messages are still handled.
    slow.send("I can still talk").await;
    plane.backend.events("MESSAGE", 1).await;

    // It reads again: all that was taken comes, in order, and nothing else.
    for number in &taken_for_slow {
        assert_eq!(slow.text().await.parse::<usize>().unwrap(), *number);
    }
    let counts = plane.push_to_all(payload(n_pushed)).await;
    assert_eq!((counts.delivered, counts.slow.len(), counts.gone.len()), (2, 0, 0));
    assert_eq!(slow.text().await.parse::<usize>().unwrap(), n_pushed);
    assert_eq!(fast.text().await.parse::<usize>().unwrap(), n_pushed);
    slow.close(1000, "").await;
    fast.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_pushes_are_bounded_by_their_number() {
    let plane = Plane::start_with(|settings| {
        settings.data_plane.outbound_buffer_bytes = usize::MAX;
    })
    .await;
    let slow = plane.connect_with(Some(16 * 1024)).await;
    let mut n_taken = 0;
    // 64 bytes a push: far more than the system's buffers hold.
    let small = Bytes::from(vec![b'x'; 64]);
    while plane.push_to_all(small.clone()).await.slow.is_empty() {
        n_taken += 1;
        assert!(n_taken < 1_000_000, "the queue has no bound");
    }
    slow.reset();
    plane.end().await;
}
