//! How bytes are cut into packets changes nothing.

use tidegate_ws::{ClientEncoder, Incoming, Opcode};

use crate::backend::{Answer, Gate};
use crate::client::Client;
use crate::harness::Plane;

async fn write_slowly(client: &mut Client, bytes: &[u8]) {
    for byte in bytes {
        client.write(std::slice::from_ref(byte)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_byte_at_a_time() {
    let plane = Plane::start().await;
    let mut client = Client::dial(plane.address, None).await;
    let handshake = client.handshake("", "");
    write_slowly(&mut client, &handshake).await;
    assert_eq!(client.status().await, 101);
    let encoder = ClientEncoder::new(None);
    write_slowly(&mut client, &encoder.text("ünïcödé")).await;
    write_slowly(&mut client, &encoder.ping(b"there?")).await;
    assert_eq!(client.next().await, Some(Incoming::Pong("there?".into())));
    let fragments = encoder.fragments(Opcode::Text, "in several frames".as_bytes(), 5);
    write_slowly(&mut client, &fragments.concat()).await;
    write_slowly(&mut client, &encoder.text(&"x".repeat(300))).await;
    let messages = plane.backend.events("MESSAGE", 3).await;
    assert_eq!(messages[0].body, "ünïcödé");
    assert_eq!(messages[1].body, "in several frames");
    assert_eq!(messages[2].body, "x".repeat(300));
    write_slowly(&mut client, &encoder.close(None)).await;
    assert_eq!(client.closed().await, None);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_in_the_packet_of_the_handshake_wait_for_the_101() {
    let plane = Plane::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    let mut client = Client::dial(plane.address, None).await;
    let encoder = ClientEncoder::new(None);
    let mut wire = client.handshake("", "");
    for text in ["first", "second", "third"] {
        wire.extend(encoder.text(text));
    }
    wire.extend(encoder.ping(b"early"));
    client.write(&wire).await;
    plane.backend.events("CONNECT", 1).await;
    assert_eq!(plane.backend.requests.all().len(), 1);
    gate.open();
    assert_eq!(client.status().await, 101);
    assert_eq!(client.next().await, Some(Incoming::Pong("early".into())));
    let messages = plane.backend.events("MESSAGE", 3).await;
    let bodies: Vec<&str> = messages.iter().map(|request| request.body.as_str()).collect();
    assert_eq!(bodies, ["first", "second", "third"]);
    assert!(messages.iter().all(|request| request.n_answered >= 1));
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_in_the_packet_of_the_handshake() {
    let plane = Plane::start().await;
    let mut client = Client::dial(plane.address, None).await;
    let encoder = ClientEncoder::new(None);
    let wire = [client.handshake("", ""), encoder.text("hello and"), encoder.close(None)].concat();
    client.write(&wire).await;
    assert_eq!(client.status().await, 101);
    assert_eq!(client.closed().await, None);
    let id = plane.id_of(&client).await;
    assert_eq!(plane.disconnect_of(&id).await.0, 1005);
    assert_eq!(plane.backend.events("MESSAGE", 1).await[0].body, "hello and");
    plane.end().await;
}
