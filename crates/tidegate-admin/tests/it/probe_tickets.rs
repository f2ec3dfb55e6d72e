//! Tickets for the probe endpoint.

use tidegate_auth::Role;

use crate::harness::Node;

#[tokio::test]
async fn whoever_may_look_may_probe() {
    // DX-35
    let node = Node::start().await;
    let body = node.call_as(Role::Read, "POST", "/api/probe-tickets", None).await.ok();
    let expires_at: jiff::Timestamp = body["expires_at"].as_str().unwrap().parse().unwrap();
    let seconds = expires_at.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((590..=600).contains(&seconds), "{seconds}");
    assert_eq!(body["ticket"].as_str().unwrap().len(), 44);
    let installation = body["installation"].as_str().unwrap();
    assert!(installation.len() == 16 && installation.bytes().all(|b| b.is_ascii_hexdigit()));
    let again = node.call_as(Role::Read, "POST", "/api/probe-tickets", None).await.ok();
    assert_eq!(again["installation"], installation);
}
