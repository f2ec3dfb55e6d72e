//! How many messages one connection may send.

use serde_json::{Value, json};
use tidegate_core::notice::Notice;
use tidegate_ws::Incoming;

use crate::harness::Plane;
use crate::session_layer::unlimited;

async fn start(excess: &str) -> Plane {
    // One in a thousand seconds: what is over the burst stays over it, however slow the machine is.
    let messages = json!({ "rate": 0.001, "burst": 3.0, "excess": excess });
    Plane::start_with_policy(unlimited(json!({ "messages": messages }))).await
}

fn n_over(plane: &Plane) -> usize {
    let is_one = |notice: &Notice| matches!(notice, Notice::MessageFailed { diagnosis, .. } if diagnosis.as_str() == "ratelimit.messages");
    plane.notices.record.count(is_one)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_end_the_connection() {
    let plane = start("close").await;
    let mut client = plane.connect().await;
    let mut other = plane.connect().await;
    let id = plane.id_of(&client).await;
    for n in 0..20 {
        client.send(&format!("message {n}")).await;
    }
    let frame = client.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Too many messages"));
    assert_eq!(plane.disconnect_of(&id).await, (1008, "Too many messages".to_owned()));
    let is_its = |request: &crate::backend::Request| request.is_event("MESSAGE") && request.id() == id;
    assert_eq!(plane.backend.requests.count(is_its), 3);
    // Each connection has its own.
    other.send("hello").await;
    plane.backend.events("MESSAGE", 4).await;
    plane.assert_untold(&["message 0", "message 4"]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_are_dropped_and_the_client_is_told() {
    let plane = start("drop").await;
    let mut client = plane.connect().await;
    for n in 0..5 {
        client.send(&format!("message {n}")).await;
    }
    for _ in 0..2 {
        let Some(Incoming::Text(frame)) = client.next().await else { panic!("an error frame was due") };
        let frame: Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(frame["message"], "Too Many Requests");
    }
    client.close(1000, "").await;
    assert_eq!((plane.backend.events("MESSAGE", 3).await.len(), n_over(&plane)), (3, 2));
    plane.end().await;
}
