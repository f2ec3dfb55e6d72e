//! Browsers hide why a handshake was refused; `connect.reject_as_close` tells it by a close code instead.

use serde_json::json;

use crate::backend::Answer;
use crate::client::Client;
use crate::harness::{Deployed, Plane};
use crate::session_layer::pair;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_of_the_gateway_can_be_a_close() {
    // AG-8, S0-101
    let plane = Plane::start_with(|settings| settings.connect.reject_as_close = true).await;
    let policy = |per_address: u32| {
        Deployed::with_policy(json!({
            "admission": { "checks": ["token"], "origins": ["https://good.example"] },
            "attempts": { "per_address": per_address },
        }))
    };
    plane.deploy(&policy(0));
    let closed = async |query: &str, headers: &str| {
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake(query, headers)).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 101, "{headers}");
        let frame = client.closed().await.expect("a close frame");
        // A browser ends a connection of its own when nothing of what it offered is confirmed.
        (frame.code.as_u16(), frame.reason.clone(), reply.value("sec-websocket-protocol").to_owned())
    };
    let wrong = "0a".repeat(32);
    let told = |code: u16, reason: &str, protocol: &str| (code, reason.to_owned(), protocol.to_owned());
    assert_eq!(closed("", "Origin: https://bad.example\r\n").await, told(4403, "Forbidden", ""));
    assert_eq!(closed("?channel=no/name", "").await, told(4400, "Bad Request", ""));
    assert_eq!(closed("", &pair(&wrong)).await, told(4403, "Forbidden", "tidegate.bearer"));
    let offered = "Sec-WebSocket-Protocol: chat, v2\r\n";
    assert_eq!(closed("", offered).await, told(4403, "Forbidden", "chat"));
    plane.deploy(&policy(1));
    assert_eq!(closed("", "").await, told(4403, "Forbidden", ""));
    assert_eq!(closed("", "").await, told(4429, "Too Many Requests", ""));
    assert_eq!(plane.last_refusal().diagnosis, "ratelimit.connect");

    plane.deploy(&policy(0));
    plane.backend.plan(|_| Answer::Status(401));
    let token = plane.token_of("ada").await;
    assert_eq!(closed("", &pair(&token)).await, told(4401, "Unauthorized", "tidegate.bearer"));
    plane.nobody_is_left().await;
    plane.assert_untold(&[&token, &wrong]);
    plane.end().await;
}
