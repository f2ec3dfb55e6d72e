//! A connection that breaks off at any byte leaves nothing behind.

use tidegate_ws::ClientEncoder;

use crate::client::Client;
use crate::harness::Plane;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_byte_of_the_handshake() {
    let plane = Plane::start().await;
    let whole = Client::dial(plane.address, None).await.handshake("", "").len();
    for cut in 0..=whole {
        let mut client = Client::dial(plane.address, None).await;
        let handshake = client.handshake("", "");
        client.write(&handshake[..cut.min(handshake.len())]).await;
        match cut % 2 {
            0 => client.reset(),
            _ => drop(client),
        }
    }
    plane.nobody_is_left().await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_byte_of_a_frame() {
    let plane = Plane::start().await;
    let frame = ClientEncoder::new(None).text(&"y".repeat(140));
    let frame_len = frame.len();
    for cut in 0..=frame_len {
        let mut client = plane.connect().await;
        let id = plane.id_of(&client).await;
        client.write(&frame[..cut]).await;
        match cut % 2 {
            0 => client.reset(),
            _ => drop(client),
        }
        assert_eq!(plane.disconnect_of(&id).await.0, 1006);
    }
    plane.nobody_is_left().await;
    // Only whole frames are messages; the last one may have been overtaken by its reset.
    let n_messages = plane.backend.requests.count(|request| request.is_event("MESSAGE"));
    assert!(n_messages <= 1, "{n_messages}");
    plane.end().await;
}
