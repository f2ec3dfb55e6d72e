//! Messages of one connection reach the backend in order, one after the other; connections do not wait for each
//! other (AG-30, S0-51).

use std::time::Duration;

use crate::backend::{Answer, Gate};
use crate::client::TAG;
use crate::harness::Plane;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_messages_in_order() {
    let plane = Plane::start().await;
    plane.backend.plan(|request| match request.body.parse::<u64>() {
        Ok(number) if number % 7 == 0 => Answer::Late(200, Duration::from_millis(number % 3)),
        // A refused message is answered too, and holds up nothing.
        Ok(number) if number % 11 == 0 => Answer::Status(500),
        _ => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    for number in 0..1000 {
        client.send(&number.to_string()).await;
    }
    let messages = plane.backend.events("MESSAGE", 1000).await;
    for (number, request) in messages.iter().enumerate() {
        assert_eq!(request.body, number.to_string());
        // `$connect` and all messages before it had their answer.
        assert_eq!(request.n_answered, number + 1);
    }
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_backend_delays_its_own_connection_only() {
    let plane = Plane::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.body.starts_with("slow") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    let mut slow = plane.connect().await;
    let mut fast = plane.connect().await;
    slow.send("slow").await;
    slow.send("behind it").await;
    plane.backend.events("MESSAGE", 1).await;
    for number in 0..100 {
        fast.send(&number.to_string()).await;
    }
    let messages = plane.backend.events("MESSAGE", 101).await;
    assert!(messages.iter().all(|request| request.body != "behind it"));
    assert!(messages.iter().all(|request| request.value(TAG).is_empty()), "handshake headers stay there");
    gate.open();
    assert_eq!(plane.backend.events("MESSAGE", 102).await[101].body, "behind it");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_the_close_arrives_before_the_disconnect() {
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    for number in 0..20 {
        client.send(&number.to_string()).await;
    }
    client.close(1000, "done").await;
    plane.backend.events("DISCONNECT", 1).await;
    let bodies: Vec<String> = plane.backend.requests.all().into_iter().map(|request| request.body).collect();
    let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(bodies[1..21], numbers);
    assert_eq!(bodies.len(), 22);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_backend_does_not_end_the_connection() {
    let plane = Plane::start().await;
    plane.backend.plan(|request| match request.body.as_str() {
        "reset" => Answer::Reset,
        "garbage" => Answer::Garbage,
        _ => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    for trouble in ["reset", "garbage"] {
        client.send(trouble).await;
        let frame = client.text().await;
        assert!(frame.starts_with(r#"{"message": "Internal server error", "connectionId":""#), "{frame}");
    }
    client.send("fine").await;
    let messages = plane.backend.events("MESSAGE", 3).await;
    // Nothing is sent twice.
    let bodies: Vec<&str> = messages.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(bodies, ["reset", "garbage", "fine"]);
    plane.end().await;
}
