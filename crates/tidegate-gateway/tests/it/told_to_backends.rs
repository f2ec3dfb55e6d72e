//! What backends are told of users, sessions and channels, how they know that it is the gateway that tells, and which
//! handler a message may choose (S0-43, S0-53, S0-97).

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tidegate_auth::{BackendSignatureError, Secret, SignedRequest, verify_backend_request};
use tidegate_core::notice::Notice;

use crate::backend::Request;
use crate::harness::{Deployed, Plane, users_policy};

const FORGED: &str = "Tidegate-User: forged\r\ntidegate-session: forged\r\nTIDEGATE-CHANNELS: forged\r\n\
    Tidegate-Auth: forged\r\nTidegate-Signature: forged\r\nTidegate-Anything: forged\r\n\
    X-Ws-Gateway-Secret: forged\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_says_who_it_is_and_nobody_else_can() {
    let plane = Plane::start().await;
    let mut deployed = Deployed::with_policy(users_policy(json!({ "channels": { "unlisted": "allow" } })));
    deployed.headers = [
        ("x-user", "context.authorizer.user"),
        ("x-auth", "context.authorizer.auth"),
        ("x-session", "context.authorizer.session"),
        ("x-channels", "context.authorizer.channels"),
        ("x-tenant", "context.authorizer.tenant"),
        // A mapping cannot speak for the gateway either.
        ("Tidegate-User", "'forged'"),
        ("tidegate-signature", "'forged'"),
    ]
    .map(|(name, source)| (name.to_owned(), source.to_owned()))
    .to_vec();
    plane.deploy(&deployed);
    let stage = plane.gateway.find_stage(crate::harness::API_ID, crate::harness::STAGE).unwrap();
    let claims = json!({ "sub": "ann", "sid": "s1", "tenant": 7 });
    let token = plane.gateway.sign_jwt(&stage, claims.as_object().unwrap()).unwrap();
    let query = format!("?token={}&channel=a", token.expose());
    let mut client = plane.connect_as(&query, FORGED).await;
    client.told().await;
    client.send("one").await;
    plane.backend.events("MESSAGE", 1).await;
    client.ask(json!({ "action": "join", "channel": "b" })).await;
    client.send("two").await;
    plane.backend.events("MESSAGE", 2).await;
    client.close(1000, "").await;
    plane.backend.events("DISCONNECT", 1).await;
    let mut nobody = plane.connect_as("", FORGED).await;
    nobody.send("three").await;
    plane.backend.events("MESSAGE", 3).await;
    nobody.close(1000, "").await;
    plane.backend.events("DISCONNECT", 2).await;

    let requests = plane.backend.requests.all();
    for request in &requests {
        let forged = request.headers.iter().find(|(name, value)| {
            value.contains("forged") && !name.eq_ignore_ascii_case("x-ws-gateway-secret")
        });
        assert_eq!(forged, None);
    }
    // S0-43: of each header one value, on every event.
    let told = |request: &Request| {
        ["tidegate-user", "tidegate-session", "tidegate-channels", "tidegate-auth"]
            .map(|name| request.values(name).join("|"))
    };
    let mapped = |request: &Request| {
        ["x-user", "x-session", "x-channels", "x-auth", "x-tenant"].map(|name| request.values(name).join("|"))
    };
    let wanted = ["a", "a", "a,b", "a,b"];
    for (request, channels) in requests.iter().zip(wanted) {
        assert_eq!(told(request), ["ann", "s1", channels, "jwt"], "{request:?}");
        assert_eq!(mapped(request), ["ann", "s1", channels, "jwt", "7"], "{request:?}");
    }
    for request in &requests[4..] {
        assert_eq!(told(request), ["", "", "", "none"], "{request:?}");
        assert_eq!(mapped(request)[..3], ["", "", ""], "{request:?}");
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_can_verify_that_it_is_the_gateway() {
    const FIRST: &str = "first-secret-0123456789-0123456789";
    const OLD: &str = "older-secret-0123456789-0123456789";
    let plane = Plane::start_with_policy(json!({
        "channels": { "unlisted": "allow" },
        "backend": { "secrets": [FIRST, OLD], "sign": true },
    }))
    .await;
    let mut client = plane.connect_as("?a=b%20c&channel=a", FORGED).await;
    client.send(r#"{"n":"é"}"#).await;
    plane.backend.events("MESSAGE", 1).await;
    client.close(1000, "").await;
    plane.backend.events("DISCONNECT", 1).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for request in plane.backend.requests.all() {
        // S0-97: the first secret, whatever the client sent; and a signature over everything that matters.
        assert_eq!(request.values("x-ws-gateway-secret"), [FIRST], "{request:?}");
        let [signature] = request.values("tidegate-signature")[..] else { panic!("{request:?}") };
        let signed = SignedRequest {
            method: "POST",
            path_and_query: &request.target,
            connection_id: request.id(),
            body: request.body.as_bytes(),
        };
        let verify =
            |secret: &str, signed| verify_backend_request(signature, &[Secret::new(secret)], now, 60, signed);
        assert_eq!(verify(FIRST, signed), Ok(()), "{request:?}");
        assert_eq!(verify(OLD, signed), Err(BackendSignatureError::Mismatch));
        for other in [
            SignedRequest { body: b"other", ..signed },
            SignedRequest { connection_id: "other", ..signed },
            SignedRequest { path_and_query: "/events", ..signed },
            SignedRequest { method: "GET", ..signed },
        ] {
            assert_eq!(verify(FIRST, other), Err(BackendSignatureError::Mismatch));
        }
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_choose_handlers_that_are_listed() {
    let plane = Plane::start().await;
    let mut deployed = Deployed::with_policy(json!({
        "handlers": { "select": ["$request.body.handler", "$request.body.action"], "allowed": ["save", "load"] },
    }));
    deployed.routes = ["save", "load", "secret"].map(str::to_owned).to_vec();
    deployed.headers = vec![("x-route".to_owned(), "context.routeKey".to_owned())];
    plane.deploy(&deployed);
    let mut client = plane.connect().await;
    // S0-53
    let messages = [
        (r#"{"handler":"save"}"#, "save"),
        (r#"{"action":"load"}"#, "load"),
        (r#"{"handler":"save","action":"load"}"#, "save"),
        (r#"{"handler":"secret"}"#, "$default"),
        (r#"{"handler":"secret","action":"load"}"#, "$default"),
        (r#"{"handler":"default","action":"load"}"#, "$default"),
        (r#"{"handler":"saev"}"#, "$default"),
        (r#"{"handler":"secret"}"#, "$default"),
        ("no json", "$default"),
    ];
    for (message, _) in messages {
        client.send(message).await;
    }
    let events = plane.backend.events("MESSAGE", messages.len()).await;
    let routes: Vec<_> =
        events.iter().map(|request| (request.body.as_str(), request.value("x-route"))).collect();
    assert_eq!(routes, messages);
    // Once for each name, with a hint.
    let reported: Vec<_> = plane
        .notices
        .record
        .all()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::HandlerNotAllowed { handler, nearest, .. } => Some((handler, nearest)),
            _ => None,
        })
        .collect();
    assert_eq!(reported.len(), 2, "{reported:?}");
    assert_eq!(reported[0].0, "secret");
    assert_eq!(reported[1], ("saev".to_owned(), Some("save".to_owned())));
    client.close(1000, "").await;
    plane.end().await;
}
