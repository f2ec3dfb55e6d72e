//! What the extractors give.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use parking_lot::Mutex;
use serde::Deserialize;
use tidegate_backend::{
    Accept, AuthKind, Checks, Connect, Disconnect, Event, EventHead, GatewayRouter, Message, Refuse, Reply,
};

use crate::log::Log;
use crate::requests::{answer, call, event, with, without};

/// Sends the request to a handler for all events; what it was given.
async fn taken(checks: Checks, request: axum::http::Request<axum::body::Body>) -> Event {
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    let route = axum::routing::post(async move |event: Event| {
        *keep.lock() = Some(event);
    });
    let app = Router::new().route("/ws/{route}", route).layer(axum::Extension(checks));
    assert_eq!(call(&app, request).await.status(), 200);
    let event = seen.lock().take();
    event.expect("an event")
}

async fn head(checks: Checks, request: axum::http::Request<axum::body::Body>) -> EventHead {
    match taken(checks, request).await {
        Event::Message(message) => message.head,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connect_has_all_of_the_handshake() {
    // S0-27
    let mut request = event("/ws/connect?channel=a%20b&ws_token=t%C3%B6k&channel=c&flag", "");
    for (name, value) in [
        ("Cookie", r#"sessionid=s3cr3t; theme="dark""#),
        ("Cookie", "sessionid=second; empty="),
        ("Origin", "https://app.example.com"),
        ("Sec-WebSocket-Protocol", "chat, v2"),
        ("Sec-WebSocket-Protocol", "v3"),
    ] {
        request = with(request, name, value);
    }
    let Event::Connect(connect) = taken(Checks::new(), request).await else { panic!("no connect") };
    assert_eq!(connect.head.connection_id, "awG5LZAAAAIcZCg=");
    assert_eq!(connect.head.api_id, "k3x9q2m7vd");
    assert_eq!(connect.head.client_address.to_string(), "203.0.113.7");
    assert_eq!(connect.head.user_agent, "Firefox, AmazonAPIGateway_k3x9q2m7vd");
    assert_eq!(connect.head.trace_id, "Root=1-67891233-abcdef012345678912345678");
    assert_eq!(connect.query("channel"), Some("a b"));
    assert_eq!(connect.query("ws_token"), Some("tök"));
    assert_eq!(connect.query("flag"), Some(""));
    assert_eq!(connect.query("none"), None);
    assert_eq!(connect.query.len(), 4);
    assert_eq!(connect.head.cookie("sessionid"), Some("s3cr3t"));
    assert_eq!(connect.head.cookie("theme"), Some("dark"));
    assert_eq!(connect.head.cookie("empty"), Some(""));
    assert_eq!(connect.origin.as_deref(), Some("https://app.example.com"));
    assert_eq!(connect.subprotocols, ["chat", "v2", "v3"]);
    // Cookies and the query hold secrets.
    let shown = format!("{connect:?}");
    assert!(shown.contains("ws_token") && shown.contains("sessionid"), "{shown}");
    assert!(!shown.contains("tök") && !shown.contains("s3cr3t") && !shown.contains("dark"), "{shown}");
}

#[tokio::test]
async fn the_path_tells_the_events_apart() {
    let check = async |path: &str, expected: &str| {
        let name = match taken(Checks::new(), event(path, "{}")).await {
            Event::Connect(_) => "connect",
            Event::Message(_) => "message",
            Event::Disconnect(_) => "disconnect",
            _ => "new",
        };
        assert_eq!(name, expected, "{path}");
    };
    check("/ws/connect", "connect").await;
    check("/ws/connect?x=/disconnect", "connect").await;
    check("/ws/disconnect", "disconnect").await;
    check("/ws/default", "message").await;
    check("/ws/notifications", "message").await;
    check("/ws/Connect", "message").await;
}

#[tokio::test]
async fn the_first_forwarded_address_is_the_clients() {
    // S0-19
    let check = async |value: &str, expected: &str| {
        let request = with(without(event("/ws/default", ""), "x-forwarded-for"), "X-Forwarded-For", value);
        assert_eq!(head(Checks::new(), request).await.client_address.to_string(), expected, "{value}");
    };
    check("198.51.100.1", "198.51.100.1").await;
    check(" 198.51.100.1 , 10.0.0.1", "198.51.100.1").await;
    check("2001:db8::1", "2001:db8::1").await;
    check("198.51.100.1:4711", "198.51.100.1").await;
    check("[2001:db8::1]:4711", "2001:db8::1").await;
    check("[2001:db8::1]", "2001:db8::1").await;
    let app: Router = GatewayRouter::new().into_router();
    for value in ["unknown", ", 198.51.100.1", "198.51.100.256"] {
        let request = with(without(event("/connect", ""), "x-forwarded-for"), "X-Forwarded-For", value);
        assert_eq!(call(&app, request).await.status(), 400, "{value}");
    }
}

#[tokio::test]
async fn identity_is_believed_only_where_clients_cannot_send_it() {
    // S0-43
    let request = || {
        let mut request = event("/ws/default", "");
        for (name, value) in [
            ("Tidegate-User", "u-17"),
            ("Tidegate-Session", "login-4"),
            ("Tidegate-Channels", "general, tenant_9,,"),
            ("Tidegate-Auth", "token"),
        ] {
            request = with(request, name, value);
        }
        request
    };
    let identity = head(Checks::new(), request()).await.identity;
    assert_eq!((identity.user, identity.auth, identity.channels.len()), (None, AuthKind::None, 0));
    let identity = head(Checks::new().trust_identity(true), request()).await.identity;
    assert_eq!(identity.user.as_deref(), Some("u-17"));
    assert_eq!(identity.session.as_deref(), Some("login-4"));
    assert_eq!(identity.channels, ["general", "tenant_9"]);
    assert_eq!(identity.auth, AuthKind::Token);
    for (value, expected) in [
        ("jwt", AuthKind::Jwt),
        ("api_key", AuthKind::ApiKey),
        ("none", AuthKind::None),
        ("later", AuthKind::Other),
    ] {
        let request = with(event("/ws/default", ""), "Tidegate-Auth", value);
        assert_eq!(head(Checks::new().trust_identity(true), request).await.identity.auth, expected);
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Say {
    Text(String),
}

#[tokio::test]
async fn a_message_that_does_not_fit_is_refused_without_quoting_it() {
    let app: Router = GatewayRouter::new()
        .default(async |message: Message<Say>| {
            let Say::Text(text) = message.body;
            text
        })
        .into_router();
    let good = answer(&app, event("/default", r#"{"text":"hello"}"#)).await;
    assert_eq!(good, (StatusCode::OK, "hello".to_owned()));
    for body in [r#"{"my-password":1}"#, "my-password", "", "\u{fffd}"] {
        let (log, _guard) = Log::start();
        let bad = answer(&app, event("/default", body)).await;
        assert_eq!(bad, (StatusCode::BAD_REQUEST, "Invalid message".to_owned()), "{body}");
        assert!(log.text().contains("does not fit") && !log.text().contains("password"), "{}", log.text());
    }
}

#[tokio::test]
async fn handlers_are_told_who_left() {
    let route = axum::routing::post(async |Disconnect { head, .. }: Disconnect| head.connection_id);
    let app = Router::new().route("/gone", route);
    assert_eq!(answer(&app, event("/gone", "")).await.1, "awG5LZAAAAIcZCg=");
}

#[tokio::test]
async fn answers_have_the_form_that_gateways_read() {
    let check =
        async |answer: axum::response::Response, status: u16, header: (&str, Option<&str>), text: &str| {
            let (parts, body) = answer.into_parts();
            let body = axum::body::to_bytes(body, 1000).await.unwrap();
            assert_eq!((parts.status.as_u16(), &*body), (status, text.as_bytes()));
            let value = parts.headers.get(header.0).map(|value| value.to_str().unwrap());
            assert_eq!(value, header.1, "{}", header.0);
        };
    let protocol = "sec-websocket-protocol";
    check(Accept::new().into_response(), 200, (protocol, None), "").await;
    check(Accept::with_subprotocol("chat").into_response(), 200, (protocol, Some("chat")), "").await;
    check(Accept::with_subprotocol("a\r\nb").into_response(), 200, (protocol, None), "").await;
    let plain = ("content-type", Some("text/plain; charset=utf-8"));
    check(Refuse::forbidden("no").into_response(), 403, plain, "no").await;
    check(Refuse::unauthorized("who").into_response(), 401, plain, "who").await;
    check(Refuse::bad_request("what").into_response(), 400, plain, "what").await;
    let limit = ("retry-after", Some("7"));
    check(Refuse::too_many(7).into_response(), 429, limit, "Too many connection attempts").await;
    // A refusal never accepts.
    check(Refuse::new(StatusCode::OK, "x").into_response(), 403, plain, "x").await;
    check(Refuse::new(StatusCode::FOUND, "x").into_response(), 403, plain, "x").await;
    let json = ("content-type", Some("application/json"));
    check(Reply::json(&("a", 1)).into_response(), 200, json, r#"["a",1]"#).await;
    check(Reply::text("a").into_response(), 200, plain, "a").await;
    let unwritable = std::collections::BTreeMap::from([((1, 2), 3)]);
    check(Reply::json(&unwritable).into_response(), 500, ("content-type", None), "").await;
}

#[tokio::test]
async fn a_connect_can_be_refused() {
    // S0-37
    async fn connect(connect: Connect) -> Result<Accept, Refuse> {
        connect.query("key").map(|_| Accept::new()).ok_or(Refuse::forbidden("no key"))
    }
    let app: Router = GatewayRouter::new().on_connect(connect).into_router();
    assert_eq!(answer(&app, event("/connect?key=1", "")).await, (StatusCode::OK, String::new()));
    assert_eq!(answer(&app, event("/connect", "")).await, (StatusCode::FORBIDDEN, "no key".to_owned()));
}
