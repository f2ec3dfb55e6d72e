//! A thousand connections that end in the same moment are a thousand `$disconnect` (S0-55).

use std::collections::HashSet;
use std::sync::Arc;

use crate::harness::Plane;

const N_CONNECTIONS: usize = 1000;

async fn thousand(plane: &Plane) -> Vec<crate::client::Client> {
    let mut clients = Vec::new();
    for _ in 0..N_CONNECTIONS {
        clients.push(plane.connect().await);
    }
    assert_eq!(plane.gateway.n_connections(), N_CONNECTIONS);
    clients
}

async fn check(plane: Plane, code: &str) {
    let disconnects = plane.backend.events("DISCONNECT", N_CONNECTIONS).await;
    assert!(disconnects.iter().all(|request| request.value("x-code") == code));
    let ids: HashSet<&str> = disconnects.iter().map(|request| request.id()).collect();
    assert_eq!(ids.len(), N_CONNECTIONS);
    plane.nobody_is_left().await;
    let backend = Arc::clone(&plane.backend);
    plane.end().await;
    assert_eq!(backend.requests.count(|request| request.is_event("DISCONNECT")), N_CONNECTIONS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_network() {
    let plane = Plane::start().await;
    let clients = thousand(&plane).await;
    clients.into_iter().for_each(crate::client::Client::reset);
    check(plane, "1006").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_deletion_of_their_stage() {
    let plane = Plane::start().await;
    let clients = thousand(&plane).await;
    plane.delete_stage();
    let reading: Vec<_> =
        clients.into_iter().map(|mut client| tokio::spawn(async move { client.closed().await })).collect();
    for frame in reading {
        assert_eq!(frame.await.unwrap().expect("a close frame").code.as_u16(), 1001);
    }
    check(plane, "1001").await;
}
