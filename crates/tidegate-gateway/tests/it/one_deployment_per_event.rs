//! A new deployment applies from the next event on, also to open connections; an event under way keeps its own
//! (S0-12).

use crate::backend::{Answer, Gate};
use crate::harness::Plane;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_message_uses_the_new_deployment() {
    let plane = Plane::start().await;
    plane.publish("/v1");
    let mut client = plane.connect().await;
    client.send("one").await;
    assert_eq!(plane.backend.events("MESSAGE", 1).await[0].target, "/v1");
    plane.publish("/v2");
    client.send("two").await;
    assert_eq!(plane.backend.events("MESSAGE", 2).await[1].target, "/v2");
    plane.publish("/v3");
    client.close(1000, "").await;
    assert_eq!(plane.backend.events("DISCONNECT", 1).await[0].target, "/v3");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_has_begun_ends_with_the_old_one() {
    let plane = Plane::start().await;
    plane.publish("/v1");
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.body.as_str() {
        "held" => Answer::Gated(500, held.clone()),
        _ => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    client.send("held").await;
    client.send("after it").await;
    plane.backend.events("MESSAGE", 1).await;
    plane.publish("/v2");
    assert_eq!(plane.backend.requests.count(|request| request.is_event("MESSAGE")), 1);
    gate.open();
    let messages = plane.backend.events("MESSAGE", 2).await;
    let seen: Vec<(&str, &str)> =
        messages.iter().map(|request| (request.target.as_str(), request.body.as_str())).collect();
    assert_eq!(seen, [("/v1", "held"), ("/v2", "after it")]);
    client.close(1000, "").await;
    plane.end().await;
}
