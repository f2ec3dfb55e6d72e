//! How many connections a user, an address and a stage may have at a time, however they come.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::backend::Answer;
use crate::client::Client;
use crate::harness::{Plane, Setup};
use crate::record::{DEADLINE, eventually};
use crate::session_layer::jwt_policy;

const LIMIT: usize = 5;

async fn start(limit: &str) -> Plane {
    let mut policy = jwt_policy(json!({}));
    policy["admission"][limit] = json!(LIMIT);
    let plane = Plane::start_from(Setup::default()).await;
    plane.deploy(&crate::harness::Deployed::with_policy(policy));
    plane
}

fn claims() -> Value {
    json!({ "sub": "ada" })
}

/// Handshakes at once: those that are open, and the statuses of the others.
async fn rush(plane: &Arc<Plane>, query: &str, n_clients: usize) -> (Vec<Client>, Vec<u16>) {
    let mut clients = Vec::new();
    for _ in 0..n_clients {
        clients.push(Client::dial(plane.address, None).await);
    }
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let query = query.to_owned();
            tokio::spawn(async move {
                client.write(&client.handshake(&query, "")).await;
                (client.status().await, client)
            })
        })
        .collect();
    let (mut open, mut refused) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            (101, client) => open.push(client),
            (status, _) => refused.push(status),
        }
    }
    (open, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_exactly_so_many_stay() {
    // S0-42
    for (limit, status) in
        [("connections_per_user", 429), ("connections_per_address", 429), ("max_connections", 503)]
    {
        let plane = Arc::new(start(limit).await);
        let query = format!("?token={}", plane.jwt(claims()));
        let (mut open, refused) = rush(&plane, &query, 50).await;
        assert_eq!(open.len(), LIMIT, "{limit}");
        assert_eq!(refused, vec![status; 50 - LIMIT], "{limit}");
        assert_eq!(plane.n_refused("limit.connections"), 50 - LIMIT);
        // One that ends makes room for one.
        open.pop().unwrap().reset();
        eventually("room for one", || plane.gateway.n_connections() == LIMIT - 1).await;
        let (more, refused) = rush(&plane, &query, 3).await;
        assert_eq!((more.len(), refused), (1, vec![status; 2]), "{limit}");
        drop((open, more));
        Arc::into_inner(plane).unwrap().end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_are_refused_later_leave_no_trace() {
    let plane = Arc::new(start("connections_per_user").await);
    let query = format!("?token={}", plane.jwt(claims()));
    plane.backend.plan(|_| Answer::Status(403));
    for _ in 0..2 * LIMIT {
        assert_eq!(plane.knock(&query, "").await, 403);
    }
    plane.backend.plan(|_| Answer::Status(200));
    plane.refused(&format!("{query}&channel=unlisted"), "", "channel.unlisted").await;
    let (open, refused) = rush(&plane, &query, LIMIT).await;
    assert_eq!((open.len(), refused), (LIMIT, Vec::new()));
    // A client that leaves before its 101 gives its place back as well.
    drop(open);
    plane.nobody_is_left().await;
    let gate = crate::backend::Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |_| Answer::Gated(200, held.clone()));
    let before = plane.backend.requests.count(|request| request.is_event("CONNECT"));
    for n in 1..=LIMIT {
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake(&query, "")).await;
        let wanted = before + n;
        plane.backend.events("CONNECT", wanted).await;
        client.reset();
    }
    assert_eq!(plane.knock(&query, "").await, 429);
    gate.open();
    plane.nobody_is_left().await;
    let connected = tokio::time::timeout(DEADLINE, plane.connect_as(&query, "")).await.unwrap();
    drop(connected);
    Arc::into_inner(plane).unwrap().end().await;
}
