//! Joining and leaving channels, by the client's wish and by the backend's, and the rules that say who may.

use serde_json::json;

use crate::client::request;
use crate::harness::{Deployed, Plane, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_domain_has_a_default_channel_of_its_own() {
    let plane = Plane::start_from(Setup::default()).await;
    let mut deployed = Deployed::with_policy(json!({
        "admission": { "required": false },
        "channels": {
            "default": "lobby",
            "default_by_domain": { "ws.example.com": "vip", "quiet.example.com": "" },
            "unlisted": "allow",
        },
    }));
    deployed.domains = vec!["ws.example.com".to_owned(), "quiet.example.com".to_owned()];
    deployed.routes = vec!["tidegate.join".to_owned()];
    deployed.headers = vec![("x-channels".to_owned(), "context.authorizer.channels".to_owned())];
    plane.deploy(&deployed);

    // S0-71
    for (host, channels) in [("localhost", "lobby"), ("ws.example.com", "vip"), ("quiet.example.com", "")] {
        let mut client = crate::client::Client::dial(plane.address, None).await;
        let path = if host == "localhost" { crate::client::PATH } else { "/" };
        client.write(&client.handshake_at(path, host, "")).await;
        assert_eq!(client.status().await, 101, "{host}");
        let id = plane.id_of(&client).await;
        let found = plane.gateway.connection(&id).unwrap().channels;
        assert_eq!(found.join(","), channels, "{host}");
        client.close(1000, "").await;
    }
    let listed = plane.manage("GET", "@connections?count=true", "").await;
    assert_eq!((listed.status, listed.value("content-type")), (200, "application/json"));
    let refused = plane.manage_with("GET", "@connections", "", "").await;
    assert_eq!(refused.status, 403);
    let elsewhere = request(plane.address, "GET", "/nowhere/@connections", "", "").await;
    assert!(elsewhere.json().is_object(), "{elsewhere:?}");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_of_the_handshake_must_be_permitted() {
    let plane = Plane::start_with_policy(json!({
        "admission": { "required": false },
        "channels": { "rules": [{ "match": "open", "join": "allow" }, { "match": "closed" }] },
    }))
    .await;
    // S0-64, S0-66, S0-67: a listed channel that nobody may join, and one without a rule.
    assert_eq!(plane.knock("?channel=open&channel=closed", "").await, 403);
    assert_eq!(plane.knock("?channel=unknown", "").await, 403);
    let mut client = plane.connect_as("?channel=open", "").await;
    let id = plane.id_of(&client).await;
    assert_eq!(plane.gateway.connection(&id).unwrap().channels, ["open"]);
    client.close(1000, "").await;
    plane.end().await;
}
