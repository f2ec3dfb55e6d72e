//! Which handler gets what.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use tidegate_backend::{Connect, Disconnect, GatewayRouter, RawMessage};

use crate::requests::{answer, event};

fn gateway() -> GatewayRouter {
    GatewayRouter::new()
        .on_connect(async |_: Connect| "connect")
        .on_disconnect(async |_: Disconnect| "disconnect")
        .on("say", async |_: RawMessage| "say")
        .on("join", async |_: RawMessage| "join")
        .on("connect", async |_: RawMessage| "message connect")
        .on("room.open/2", async |_: RawMessage| "open")
}

#[tokio::test]
async fn the_message_chooses_its_handler() {
    // S0-53
    let app: Router = gateway().default(async |_: RawMessage| "default").into_router();
    let check = async |body: &'static str, expected: &str| {
        assert_eq!(
            answer(&app, event("/default", body)).await,
            (StatusCode::OK, expected.to_owned()),
            "{body}"
        );
    };
    check(r#"{"handler":"say"}"#, "say").await;
    check(r#"{"action":"say"}"#, "say").await;
    check(r#"{"handler":"say","action":"join"}"#, "say").await;
    check(r#"{"action":"join","handler":"say"}"#, "say").await;
    check(r#"{"handler":"unknown","action":"join"}"#, "join").await;
    check(r#"{"handler":null,"action":"join"}"#, "join").await;
    check(r#"{"handler":["say"],"action":"join"}"#, "join").await;
    check(r#"{"handler":"Say"}"#, "default").await;
    check(r#"{"handler":"connect"}"#, "message connect").await;
    check(r#"{"handler":"room.open/2"}"#, "open").await;
    // D-6 of the Django package: there the second key overrules an explicit default.
    check(r#"{"handler":"default","action":"join"}"#, "default").await;
    // S0-47: what names nothing is not an error.
    check("{}", "default").await;
    check(r#"{"handler":""}"#, "default").await;
    check(r#"{"type":"say"}"#, "default").await;
    check(r#"["say"]"#, "default").await;
    check("say", "default").await;
    check("", "default").await;
    check(r#"{"handler":"say""#, "default").await;
}

#[tokio::test]
async fn without_a_default_handler_it_says_so() {
    let app: Router = gateway().into_router();
    for body in ["{}", "text", r#"{"handler":"unknown"}"#, r#"{"handler":"default","action":"say"}"#] {
        let expected = (StatusCode::BAD_REQUEST, "Invalid request format (1)".to_owned());
        assert_eq!(answer(&app, event("/default", body)).await, expected, "{body}");
    }
}

#[tokio::test]
async fn the_keys_can_be_others() {
    let app: Router = gateway().keys(["type"]).default(async |_: RawMessage| "default").into_router();
    assert_eq!(answer(&app, event("/default", r#"{"type":"say"}"#)).await.1, "say");
    assert_eq!(answer(&app, event("/default", r#"{"handler":"say"}"#)).await.1, "default");
}

#[tokio::test]
async fn routes_lie_under_the_base() {
    let check = async |app: &Router, path: &str, expected: &str| {
        let (status, text) = answer(app, event(path, r#"{"action":"join"}"#)).await;
        let found = if status == 200 { text } else { status.as_u16().to_string() };
        assert_eq!(found, expected, "{path}");
    };
    let roots: Router = gateway().into_router();
    let based: Router = gateway().base("ws/chat").into_router();
    let nested: Router = Router::new().nest("/ws/chat", gateway().into_router());
    let single: Router = Router::new().route("/ws/chat/{route}", gateway().into_endpoint());
    for (app, base) in [(&roots, "/"), (&based, "/ws/chat/"), (&nested, "/ws/chat/"), (&single, "/ws/chat/")]
    {
        check(app, &format!("{base}connect?channel=a"), "connect").await;
        check(app, &format!("{base}disconnect"), "disconnect").await;
        check(app, &format!("{base}default"), "join").await;
        // A route of the gateway's own: the gateway has chosen.
        check(app, &format!("{base}say"), "say").await;
        check(app, &format!("{base}room.open%2F2"), "open").await;
        check(app, &format!("{base}unknown"), "404").await;
        check(app, &format!("{base}say/more"), "404").await;
    }
    check(&based, "/connect", "404").await;
}

#[tokio::test]
async fn only_post_is_taken() {
    let app: Router = gateway().into_router();
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let mut request = event("/connect", "");
        *request.method_mut() = method;
        assert_eq!(answer(&app, request).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn events_without_a_handler_are_accepted() {
    let app: Router = GatewayRouter::new().into_router();
    assert_eq!(answer(&app, event("/connect", "")).await, (StatusCode::OK, String::new()));
    assert_eq!(answer(&app, event("/disconnect", "")).await, (StatusCode::OK, String::new()));
}

#[tokio::test]
async fn handlers_have_state_and_all_of_axum() {
    let gateway = GatewayRouter::new().on(
        "say",
        async |State(name): State<String>, Path(tenant): Path<Vec<(String, String)>>, message: RawMessage| {
            format!("{name} {} {}", tenant[0].1, message.body.len())
        },
    );
    let app: Router = Router::new().nest("/{tenant}", gateway.into_router()).with_state("state".to_owned());
    assert_eq!(answer(&app, event("/acme/default", r#"{"action":"say"}"#)).await.1, "state acme 16");
}
