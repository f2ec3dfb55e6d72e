//! A client that leaves while `$connect` runs: the backend hears of the end exactly if it has said yes.

use crate::backend::{Answer, Gate};
use crate::client::{Client, TAG, manage};
use crate::harness::Plane;

/// The client leaves, then `$connect` is answered with `status`. Returns the plane and the connection's id.
async fn leave_then_answer(status: u16, is_rude: bool) -> (Plane, String) {
    let plane = Plane::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => Answer::Gated(status, held.clone()),
        false => Answer::Status(200),
    });
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("", "")).await;
    let id = plane.backend.events("CONNECT", 1).await[0].id().to_owned();
    match is_rude {
        true => client.reset(),
        false => drop(client),
    }
    assert_eq!(manage(plane.address, "GET", &id).await, 410);
    assert_eq!(manage(plane.address, "DELETE", &id).await, 410);
    gate.open();
    plane.nobody_is_left().await;
    assert_eq!(manage(plane.address, "GET", &id).await, 410);
    (plane, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_too_late_is_disconnected_with_1006() {
    // S0-40
    for is_rude in [false, true] {
        let (plane, id) = leave_then_answer(200, is_rude).await;
        let expected = (1006, "Connection closed abnormally".to_owned());
        assert_eq!(plane.disconnect_of(&id).await, expected);
        plane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_too_late_is_nothing() {
    // S0-39
    for is_rude in [false, true] {
        let (plane, _) = leave_then_answer(403, is_rude).await;
        let backend = std::sync::Arc::clone(&plane.backend);
        plane.end().await;
        assert_eq!(backend.requests.count(|request| request.is_event("DISCONNECT")), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_the_client_that_stayed() {
    let plane = Plane::start().await;
    plane.backend.plan(|request| match request.value(TAG) {
        "" => Answer::Status(200),
        _ => Answer::Status(403),
    });
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("", "")).await;
    assert_eq!(client.status().await, 403);
    let id = plane.id_of(&client).await;
    assert_eq!(manage(plane.address, "GET", &id).await, 410);
    assert_eq!(plane.gateway.n_connections(), 0);
    drop(client);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_the_handshake_and_closes_what_it_opened() {
    let plane = Plane::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("", "")).await;
    let id = plane.backend.events("CONNECT", 1).await[0].id().to_owned();
    let gateway = std::sync::Arc::clone(&plane.gateway);
    let drain = tokio::spawn(async move { gateway.drain(crate::record::DEADLINE).await });
    crate::record::eventually("draining", || plane.gateway.is_draining()).await;
    gate.open();
    let reading = tokio::spawn(async move {
        let status = client.status().await;
        (status, client.closed().await)
    });
    assert_eq!(drain.await.unwrap(), 0);
    let (status, frame) = reading.await.unwrap();
    assert_eq!(status, 101);
    assert_eq!(frame.expect("a close frame").code.as_u16(), 1001);
    assert_eq!(plane.disconnect_of(&id).await, (1001, "Service restart".to_owned()));
    plane.end().await;
}
