//! What is really connected, and ending it: `GET @connections` (S0-58), [`Gateway::connections`] (S0-59), and
//! `Gateway::end` (S0-60).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_gateway::{ConnectionFilter, Ending, Subject};

use crate::backend::{Answer, Gate, Request};
use crate::client::Client;
use crate::harness::{API_ID, Plane, STAGE, users_policy};

fn policy() -> Value {
    users_policy(json!({ "channels": { "unlisted": "allow" } }))
}

async fn listed(plane: &Plane, query: &str) -> Value {
    let reply = plane.manage("GET", &format!("@connections?{query}"), "").await;
    assert_eq!((reply.status, reply.value("content-type")), (200, "application/json"), "{reply:?}");
    reply.json()
}

fn ids(list: &Value) -> Vec<String> {
    let connections = list["connections"].as_array().unwrap().iter();
    connections.map(|connection| connection["connectionId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_can_ask_who_is_there() {
    let plane = Plane::start_with_policy(policy()).await;
    let mut ann = plane.connect_user(json!({ "sub": "ann", "sid": "s1" }), "&channel=a&channel=b").await;
    let mut bob = plane.connect_user(json!({ "sub": "bob", "sid": "s2" }), "&channel=a").await;
    let mut nobody = plane.connect().await;
    let mut own = HashMap::new();
    for (name, client) in [("ann", &ann), ("bob", &bob), ("nobody", &nobody)] {
        own.insert(name, plane.id_of(client).await);
    }
    // One whose `$connect` has not answered is not really open.
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => Answer::Gated(403, held.clone()),
        false => Answer::Status(200),
    });
    let mut pending = Client::dial(plane.address, None).await;
    pending.write(&pending.handshake("", "")).await;
    plane.backend.events("CONNECT", 4).await;
    // S0-58
    for (query, names) in [
        ("", vec!["ann", "bob", "nobody"]),
        ("user=ann", vec!["ann"]),
        ("session=s2", vec!["bob"]),
        ("channel=a", vec!["ann", "bob"]),
        ("channel=a&user=bob", vec!["bob"]),
        ("channel=b&user=bob", vec![]),
        ("channel=a&session=s1&user=ann", vec!["ann"]),
        ("user=carl", vec![]),
    ] {
        let list = listed(&plane, query).await;
        let wanted: HashSet<String> = names.iter().map(|name| own[name].clone()).collect();
        assert_eq!(ids(&list).into_iter().collect::<HashSet<_>>(), wanted, "{query}");
        assert_eq!(list["count"], names.len(), "{query}");
        assert_eq!(listed(&plane, &format!("{query}&count=true")).await, json!({ "count": names.len() }));
    }
    let of_ann = &listed(&plane, "user=ann").await["connections"][0];
    let members = ["user", "session", "sourceIp"].map(|name| of_ann[name].as_str().unwrap());
    assert_eq!(members, ["ann", "s1", "127.0.0.1"]);
    assert_eq!(of_ann["channels"], json!(["a", "b"]));
    assert!(of_ann["connectedAt"].as_str().unwrap().ends_with('Z'), "{of_ann}");
    for wrong in ["limit=0", "limit=1001", "limit=x", "nextToken=x", "nextToken=c"] {
        let reply = plane.manage("GET", &format!("@connections?{wrong}"), "").await;
        assert_eq!(reply.status, 400, "{wrong}");
    }
    assert_eq!(plane.manage_with("GET", "@connections", "", "").await.status, 403);

    // S0-59
    ann.send("hello").await;
    plane.backend.events("MESSAGE", 1).await;
    plane.manage("POST", "@users/ann", "hi").await;
    let info = plane.gateway.connection(&own["ann"]).unwrap();
    assert_eq!((info.user.as_deref(), info.session.as_deref()), (Some("ann"), Some("s1")));
    assert_eq!((info.api.as_str(), info.stage.as_str(), info.state), (API_ID, STAGE, "open"));
    // Two joins were announced by the gateway, and one push came.
    assert_eq!((info.messages_in, info.bytes_in, info.messages_out), (1, 5, 3));
    assert!(info.last_received_at >= info.connected_at && info.last_sent_at >= info.connected_at);
    let count = |filter: ConnectionFilter| plane.gateway.count_connections(&filter);
    assert_eq!(count(ConnectionFilter::default()), 4, "an operator sees who is pending too");
    assert_eq!(count(ConnectionFilter { is_open: true, ..ConnectionFilter::default() }), 3);
    let from_here = Some([127, 0, 0, 1].into());
    assert_eq!(count(ConnectionFilter { source_ip: from_here, ..ConnectionFilter::default() }), 4);
    assert_eq!(count(ConnectionFilter { min_age: Some(3600), ..ConnectionFilter::default() }), 0);
    assert_eq!(count(ConnectionFilter { max_age: Some(3600), ..ConnectionFilter::default() }), 4);
    let channels = plane.gateway.list_channels(Some(API_ID), None);
    let channels: Vec<_> = channels.iter().map(|group| (group.name.as_str(), group.connections)).collect();
    assert_eq!(channels, [("a", 2), ("b", 1)]);
    assert_eq!(plane.gateway.list_users(None, None).len(), 2);
    assert_eq!(plane.gateway.list_sessions(None, Some(STAGE)).len(), 2);
    gate.open();
    assert_eq!(pending.status().await, 403);
    for client in [&mut ann, &mut bob, &mut nobody] {
        client.close(1000, "").await;
    }
    plane.end().await;
}

/// S0-58: whoever is there all the time is listed once, whoever else comes and goes meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_complete_and_without_duplicates() {
    let plane = Plane::start_with_policy(policy()).await;
    let mut staying = Vec::new();
    let mut leaving = Vec::new();
    for _ in 0..25 {
        staying.push(plane.connect_as("?channel=a", "").await);
        leaving.push(plane.connect_as("?channel=a", "").await);
    }
    let mut wanted = HashSet::new();
    for client in &staying {
        wanted.insert(plane.id_of(client).await);
    }
    for filter in ["", "&channel=a"] {
        let mut found = Vec::new();
        let mut token = String::new();
        loop {
            let list = listed(&plane, &format!("limit=7{filter}{token}")).await;
            assert!(ids(&list).len() <= 7);
            found.extend(ids(&list));
            if let Some(client) = leaving.pop() {
                client.reset();
                leaving.insert(0, plane.connect_as("?channel=a", "").await);
            }
            let Some(next) = list["nextToken"].as_str() else { break };
            token = format!("&nextToken={next}");
        }
        let different: HashSet<String> = found.iter().cloned().collect();
        assert_eq!(different.len(), found.len(), "nobody is there twice");
        assert!(wanted.is_subset(&different), "somebody is missing");
    }
    for mut client in staying.into_iter().chain(leaving) {
        client.close(1000, "").await;
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ending_a_session_or_a_user_closes_everything_of_it() {
    let plane = Plane::start_with_policy(policy()).await;
    let mut first = plane.connect_user(json!({ "sub": "ann", "sid": "s1" }), "&channel=a").await;
    let mut second = plane.connect_user(json!({ "sub": "ann", "sid": "s1" }), "").await;
    let mut other = plane.connect_user(json!({ "sub": "ann", "sid": "s2" }), "").await;
    let mut stranger = plane.connect_user(json!({ "sub": "bob", "sid": "s3" }), "").await;
    let first_id = plane.id_of(&first).await;

    // S0-60
    let started = Instant::now();
    let session = Subject::Session("s1".to_owned());
    let ended = plane.gateway.end(&session, Some(API_ID), Some(STAGE), Ending::SessionEnded).await;
    assert_eq!(ended.connections, 2);
    for client in [&mut first, &mut second] {
        let frame = client.closed().await.expect("a close frame");
        assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Session ended"));
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    // The backend is told who it was and where.
    let is_its = |request: &Request| request.is_event("DISCONNECT") && request.id() == first_id;
    let disconnect = plane.backend.requests.until("$disconnect", 1, is_its).await.remove(0);
    assert_eq!((disconnect.value("x-code"), disconnect.value("x-reason")), ("1008", "Session ended"));
    let identity = ["user", "session", "channels", "auth"]
        .map(|name| disconnect.value(&format!("tidegate-{name}")).to_owned());
    assert_eq!(identity, ["ann", "s1", "a", "jwt"]);

    // Not of another stage, and not twice.
    let user = Subject::User("ann".to_owned());
    let elsewhere = plane.gateway.end(&user, Some(API_ID), Some("other"), Ending::AccessRevoked).await;
    assert_eq!(elsewhere.connections, 0);
    assert_eq!(plane.gateway.end(&session, None, None, Ending::SessionEnded).await.connections, 0);
    stranger.hears_nothing().await;
    other.hears_nothing().await;
    assert_eq!(plane.gateway.end(&user, None, None, Ending::AccessRevoked).await.connections, 1);
    let frame = other.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Access revoked"));
    stranger.close(1000, "").await;
    plane.end().await;
}
