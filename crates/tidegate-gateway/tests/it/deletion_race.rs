//! A handshake that meets the deletion of its stage ends refused or closed, never as a connection of nothing.

use crate::client::Client;
use crate::harness::Plane;

const N_ROUNDS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_stays_in_a_deleted_stage() {
    let plane = Plane::start().await;
    for round in 0..N_ROUNDS {
        plane.publish("/events");
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::dial(plane.address, None).await;
            client.write(&client.handshake("", "")).await;
            clients.push(client);
        }
        // Let some handshakes get farther than others.
        for _ in 0..round % 8 {
            tokio::task::yield_now().await;
        }
        plane.delete_stage();
        for mut client in clients {
            match client.status().await {
                101 => assert_eq!(client.closed().await.expect("a close frame").code.as_u16(), 1001),
                status => assert_eq!(status, 403),
            }
        }
        plane.nobody_is_left().await;
    }
    plane.end().await;
}
