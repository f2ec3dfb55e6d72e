//! Idle limit, age limit, and pings of the gateway (AG-16).

use std::time::{Duration, Instant};

use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::notice::Notice;
use tidegate_ws::{ClientEncoder, Incoming};

use crate::harness::Plane;

async fn diagnosis(plane: &Plane) -> Diagnosis {
    let is_end = |notice: &Notice| matches!(notice, Notice::ConnectionClosed { .. });
    match &plane.notices.record.until("ConnectionClosed", 1, is_end).await[0] {
        Notice::ConnectionClosed { diagnosis, .. } => *diagnosis,
        _ => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_for_too_long() {
    let plane = Plane::start_with(|settings| settings.data_plane.idle_timeout = 1).await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    let started = Instant::now();
    assert_eq!(client.closed().await.expect("a close frame").code.as_u16(), 1001);
    assert!(started.elapsed() > Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(plane.disconnect_of(&id).await, (1001, "Going away".to_owned()));
    assert_eq!(diagnosis(&plane).await, Diagnosis::CLOSE_IDLE_TIMEOUT);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_old_although_busy() {
    let plane = Plane::start_with(|settings| settings.data_plane.max_duration = 1).await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    // A pong for each ping: never idle, until the gateway says that it is enough.
    let encoder = ClientEncoder::new(None);
    let frame = loop {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, &encoder.ping(b"busy")).await;
        match client.next().await.expect("a close frame before the end") {
            Incoming::Close(frame) => break frame,
            other => assert_eq!(other, Incoming::Pong("busy".into())),
        }
    };
    assert_eq!(frame.expect("a code").code.as_u16(), 1001);
    drop(client);
    assert_eq!(plane.disconnect_of(&id).await, (1001, "Going away".to_owned()));
    assert_eq!(diagnosis(&plane).await, Diagnosis::CLOSE_MAX_DURATION);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_no_ping() {
    let plane = Plane::start_with(|settings| {
        settings.data_plane.server_ping_interval = 1;
        settings.data_plane.server_ping_timeout = 1;
    })
    .await;
    let client = plane.connect().await;
    let id = plane.id_of(&client).await;
    assert_eq!(plane.disconnect_of(&id).await, (1006, "Connection closed abnormally".to_owned()));
    assert_eq!(diagnosis(&plane).await, Diagnosis::CONN_PING_TIMEOUT);
    drop(client);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_pings_stays() {
    let plane = Plane::start_with(|settings| {
        settings.data_plane.server_ping_interval = 1;
        settings.data_plane.server_ping_timeout = 1;
    })
    .await;
    let mut client = plane.connect().await;
    for _ in 0..3 {
        let Some(Incoming::Ping(payload)) = client.next().await else { panic!("a ping was due") };
        client.write(&ClientEncoder::new(None).pong(&payload)).await;
    }
    client.close(1000, "").await;
    assert_eq!(diagnosis(&plane).await, Diagnosis::GONE_CLIENT_CLOSED);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fixed_times_pass_faster_on_request() {
    // AG-16: the service's own limits, ten minutes and two hours, a thousand times as fast.
    let plane = Plane::start_with(|settings| settings.data_plane.time_scale = 1000).await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    let started = Instant::now();
    assert_eq!(client.closed().await.expect("a close frame").code.as_u16(), 1001);
    assert!(started.elapsed() > Duration::from_millis(550), "{:?}", started.elapsed());
    assert_eq!(plane.disconnect_of(&id).await, (1001, "Going away".to_owned()));
    assert_eq!(diagnosis(&plane).await, Diagnosis::CLOSE_IDLE_TIMEOUT);
    plane.end().await;
}
