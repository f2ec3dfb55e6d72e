//! What is worth a look although nothing failed: once an hour, and only where it is proven.

use serde_json::json;
use tidegate_core::journal::Kind;
use tidegate_core::notice::Notice;

use crate::client::{Client, PATH};
use crate::harness::{Plane, Setup};
use crate::session_layer::unlimited;
use crate::told::upgrade;

async fn behind(trusted: &[&str]) -> Plane {
    let trusted_proxies = trusted.iter().map(|network| network.parse().unwrap()).collect();
    Plane::start_from(Setup { trusted_proxies, ..Setup::default() }).await
}

const PROXY_REMARKS: [&str; 3] =
    ["proxy.forwarded-missing", "proxy.client-ip-collapsed", "proxy.forwarded-spoofed"];

fn counts(plane: &Plane) -> [usize; 3] {
    PROXY_REMARKS.map(|id| plane.remarks(id).len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthy_set_ups_are_not_remarked_upon() {
    for (trusted, headers) in [
        (vec![], ""),
        (vec![], "Via: 1.1 corporate\r\n"),
        (vec!["127.0.0.1"], "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"),
        (vec!["127.0.0.1"], "X-Forwarded-For: [2001:db8::7]:443\r\nX-Forwarded-Host: ws.example\r\n"),
        // Somebody on the machine itself, past the proxy.
        (vec!["127.0.0.1"], ""),
    ] {
        let plane = behind(&trusted).await;
        for _ in 0..4 {
            assert_eq!(plane.knock("", headers).await, 101);
        }
        let decided = plane.notices.record.count(|notice| matches!(notice, Notice::Decided { .. }));
        assert_eq!(decided, 0, "{trusted:?} {headers}");
        plane.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_does_not_say_for_whom_is_noticed_once() {
    // proxy.forwarded-missing
    let plane = behind(&["127.0.0.1"]).await;
    for _ in 0..3 {
        assert_eq!(plane.knock("", "X-Forwarded-Proto: https\r\nX-Real-IP: 203.0.113.7\r\n").await, 101);
    }
    assert_eq!(counts(&plane), [1, 0, 0]);
    let (kind, place, facts) = plane.remarks("proxy.forwarded-missing").remove(0);
    assert_eq!((kind, &facts["peer"]), (Kind::Handshake, &json!("127.0.0.1")));
    assert_eq!(facts["headerNames"], json!(["x-real-ip", "x-forwarded-proto"]));
    assert!(place.request_id.is_some());
    plane.assert_untold(&["203.0.113.7"]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_share_the_address_of_a_proxy_are_noticed() {
    // proxy.client-ip-collapsed
    let plane = behind(&[]).await;
    for n in [1, 1, 1, 2, 2] {
        assert_eq!(plane.knock("", &format!("X-Forwarded-For: 203.0.113.{n}\r\n")).await, 101);
    }
    assert_eq!(counts(&plane), [0, 0, 0], "two clients may be one that moves");
    for n in [3, 4] {
        assert_eq!(plane.knock("", &format!("X-Forwarded-For: 203.0.113.{n}\r\n")).await, 101);
    }
    assert_eq!(counts(&plane), [0, 1, 0]);
    assert_eq!(plane.remarks("proxy.client-ip-collapsed")[0].2["count"], 3);
    plane.end().await;
    // An entry that nobody can read, written by a proxy that is believed.
    let plane = behind(&["127.0.0.1"]).await;
    assert_eq!(plane.knock("", "X-Forwarded-For: unknown\r\n").await, 101);
    assert_eq!(counts(&plane), [0, 1, 0]);
    assert_eq!(plane.remarks("proxy.client-ip-collapsed")[0].2["parsed"], false);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_forward_are_noticed() {
    // proxy.forwarded-spoofed
    let plane = behind(&["192.0.2.0/24"]).await;
    for _ in 0..3 {
        assert_eq!(plane.knock("", "X-Forwarded-For: 203.0.113.7\r\n").await, 101);
    }
    assert_eq!(counts(&plane), [0, 0, 1]);
    assert_eq!(plane.remarks("proxy.forwarded-spoofed")[0].2["peer"], "127.0.0.1");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_routes_are_noticed_once_for_a_deployment() {
    let plane = Plane::start().await;
    let open = async |times: usize| {
        for _ in 0..times {
            let mut client = Client::dial(plane.address, None).await;
            client.write(upgrade(PATH, "localhost", "").as_bytes()).await;
            assert_eq!(client.status().await, 101);
            client.close(1000, "").await;
        }
    };
    open(2).await;
    // Their last events are through before the route for those is gone.
    plane.backend.events("DISCONNECT", 2).await;
    // route.connect-missing
    assert!(plane.remarks("route.connect-missing").is_empty());
    for deployments in 1..=2 {
        plane.deploy_changed(|definition| definition.routes.retain(|route| route.route_key == "$default"));
        open(2).await;
        assert_eq!(plane.remarks("route.connect-missing").len(), deployments);
    }
    assert_eq!(plane.remarks("route.connect-missing")[0].2["routeCount"], 1);
    // route.none
    plane.deploy_changed(|definition| definition.routes.clear());
    open(2).await;
    assert_eq!(plane.remarks("route.none").len(), 1);
    assert_eq!(plane.remarks("route.connect-missing").len(), 2);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_without_their_session_cookie_are_noticed() {
    let plane = Plane::start_with_policy(unlimited(json!({
        "admission": { "checks": ["token"], "required": false },
        "connect_tokens": { "cookie": "sessionid" },
    })))
    .await;
    let ids = ["identity.cookie-not-available", "cookie.samesite", "identity.token-anonymous"];
    let knock = async |headers: &str| {
        let mut client = Client::dial(plane.address, None).await;
        client.write(upgrade(PATH, "ws.example.com", headers).as_bytes()).await;
        client.status().await
    };
    // A program, and a page that has its cookie.
    assert_eq!(knock("").await, 101);
    assert_eq!(knock("Origin: https://app.example.com\r\nCookie: sessionid=abc\r\n").await, 101);
    assert_eq!(ids.map(|id| plane.remarks(id).len()), [0, 0, 0]);
    // identity.cookie-not-available
    assert_eq!(knock("Origin: https://app.example.com\r\nCookie: theme=dark\r\n").await, 101);
    assert_eq!(ids.map(|id| plane.remarks(id).len()), [1, 0, 0]);
    assert_eq!(plane.remarks(ids[0])[0].2["wantedCookie"], "sessionid");
    // cookie.samesite
    assert_eq!(knock("Origin: https://app.elsewhere.example\r\n").await, 101);
    assert_eq!(ids.map(|id| plane.remarks(id).len()), [1, 1, 0]);
    assert_eq!(plane.remarks(ids[1])[0].2["crossSite"], true);
    // identity.token-anonymous
    let token = plane.token(tidegate_gateway::TokenRequest::default()).await;
    assert_eq!(plane.knock(&format!("?ws_token={token}"), "").await, 101);
    assert_eq!(plane.remarks(ids[2]).len(), 1);
    assert_eq!(plane.remarks(ids[2])[0].0, Kind::Token);
    plane.end().await;
}
