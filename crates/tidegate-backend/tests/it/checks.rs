//! Who may call: headers, shared secret, signature, API ids, size.

use axum::Router;
use axum::http::{HeaderName, Request, StatusCode};
use tidegate_backend::{Checks, Connect, GatewayRouter, MAX_BODY, RawMessage};

use crate::log::Log;
use crate::requests::{HEADERS, answer, call, event, now, v1, with, without};

const ID: &str = "awG5LZAAAAIcZCg=";

fn refused() -> (StatusCode, String) {
    (StatusCode::FORBIDDEN, "Invalid request".to_owned())
}

fn bad_headers() -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, "Invalid request headers".to_owned())
}

async fn status(app: &Router, request: Request<axum::body::Body>) -> StatusCode {
    call(app, request).await.status()
}

#[tokio::test]
async fn each_missing_header_is_refused_and_named_in_the_log_only() {
    let app: Router = GatewayRouter::new().into_router();
    assert_eq!(status(&app, event("/connect", "")).await, 200);
    for path in ["/connect", "/default", "/disconnect"] {
        for (name, _) in HEADERS {
            let (log, _guard) = Log::start();
            assert_eq!(answer(&app, without(event(path, "{}"), name)).await, bad_headers(), "{path} {name}");
            assert!(log.text().contains(&format!("missing=[\"{}\"]", name.to_lowercase())), "{}", log.text());
        }
    }
}

#[tokio::test]
async fn what_only_one_gateway_sends_is_not_demanded() {
    // S0-20 says why X-Real-Ip is not there behind Amazon; D-9 is not copied.
    let app: Router = GatewayRouter::new().into_router();
    let request = event("/connect", "");
    assert!(!request.headers().contains_key("x-real-ip") && !request.headers().contains_key("cookie"));
    assert_eq!(status(&app, request).await, 200);
}

#[tokio::test]
async fn a_second_connection_id_is_refused() {
    // S0-23
    let app: Router = GatewayRouter::new().into_router();
    for name in ["Connectionid", "X-Amzn-Apigateway-Api-Id"] {
        assert_eq!(answer(&app, with(event("/default", "{}"), name, "other")).await, bad_headers());
    }
}

#[tokio::test]
async fn connection_ids_have_one_form() {
    // S0-31
    let app: Router = GatewayRouter::new().default(async |_: RawMessage| ()).into_router();
    let check = async |id: &str, expected: u16| {
        let request = with(without(event("/default", "{}"), "connectionid"), "CONNECTIONID", id);
        let (status, text) = answer(&app, request).await;
        assert_eq!(status, expected, "{id}");
        assert!(expected == 200 || text == "Invalid connection ID", "{text}");
    };
    check("a", 200).await;
    check("_-=Az09", 200).await;
    check(&"x".repeat(128), 200).await;
    check(&"x".repeat(129), 400).await;
    check("a+b", 400).await;
    check("a/b", 400).await;
    check("a b", 400).await;
    check("ä", 400).await;
}

#[tokio::test]
async fn secrets_rotate() {
    // S0-97
    let app: Router = GatewayRouter::new().secret(["new-secret", "old-secret"]).into_router();
    let check = async |values: &[&str], expected: bool| {
        let mut request = event("/connect", "");
        for value in values {
            request = with(request, "X-Ws-Gateway-Secret", value);
        }
        let expected = if expected { (StatusCode::OK, String::new()) } else { refused() };
        assert_eq!(answer(&app, request).await, expected, "{values:?}");
    };
    check(&["new-secret"], true).await;
    check(&["old-secret"], true).await;
    check(&[], false).await;
    check(&[""], false).await;
    check(&["older-secret"], false).await;
    check(&["new-secre"], false).await;
    check(&["new-secrett"], false).await;
    check(&["NEW-SECRET"], false).await;
    check(&["new-secret", "new-secret"], false).await;
    check(&["new-secret, old-secret"], false).await;
}

#[tokio::test]
async fn the_secret_comes_first_and_is_never_logged() {
    let app: Router = GatewayRouter::new().secret(["the-secret-itself"]).into_router();
    let (log, _guard) = Log::start();
    let request = with(without(event("/connect", ""), "connectionid"), "X-Ws-Gateway-Secret", "a-guess");
    assert_eq!(answer(&app, request).await, refused());
    let log = log.text();
    assert!(
        log.contains("shared secret refused") && !log.contains("guess") && !log.contains("itself"),
        "{log}"
    );
    let shown = format!("{:?}", Checks::new().secrets(["the-secret-itself"]).sign_secrets(["another-one"]));
    assert!(!shown.contains("itself") && !shown.contains("another"), "{shown}");
}

#[tokio::test]
async fn an_empty_list_lets_nothing_through() {
    let none: [&str; 0] = [];
    for app in [
        GatewayRouter::<()>::new().secret(none).into_router(),
        GatewayRouter::new().secret([""]).into_router(),
        GatewayRouter::new().sign_secrets([""]).into_router(),
        GatewayRouter::new().api_ids(none).into_router(),
    ] {
        let signature = format!("t={},v1={}", now(), v1("", now(), "POST", "/connect", ID, ""));
        let request = with(event("/connect", ""), "X-Ws-Gateway-Secret", "");
        let status = status(&app, with(request, "Tidegate-Signature", &signature)).await;
        assert!(status == 403 || status == 400, "{status}");
    }
}

#[tokio::test]
async fn another_header_may_carry_the_secret() {
    let gateway = GatewayRouter::new().secret(["s"]).secret_header(HeaderName::from_static("x-my-secret"));
    let app: Router = gateway.into_router();
    assert_eq!(status(&app, with(event("/connect", ""), "X-My-Secret", "s")).await, 200);
    assert_eq!(status(&app, with(event("/connect", ""), "X-Ws-Gateway-Secret", "s")).await, 403);
}

#[tokio::test]
async fn api_ids_can_be_pinned() {
    // S0-45
    let app: Router = GatewayRouter::new().api_ids(["k3x9q2m7vd"]).into_router();
    assert_eq!(status(&app, event("/connect", "")).await, 200);
    let app: Router = GatewayRouter::new().api_ids(["other"]).into_router();
    assert_eq!(answer(&app, event("/connect", "")).await, bad_headers());
}

#[tokio::test]
async fn a_signature_holds_for_one_request_and_five_minutes() {
    // S0-97
    let gateway = GatewayRouter::new().sign_secrets(["new", "old"]).default(async |_: RawMessage| ());
    let app = Router::new().nest("/ws", gateway.into_router());
    let path = "/ws/default?x=1";
    let body = r#"{"a":1}"#;
    let check = async |header: &str, expected: bool| {
        let request = with(event(path, body), "Tidegate-Signature", header);
        let expected = if expected { (StatusCode::OK, String::new()) } else { refused() };
        assert_eq!(answer(&app, request).await, expected, "{header}");
    };
    let signed = |secret, seconds| format!("t={seconds},v1={}", v1(secret, seconds, "POST", path, ID, body));
    let now = now();
    check(&signed("new", now), true).await;
    check(&signed("old", now), true).await;
    check(&signed("other", now), false).await;
    // Five seconds for a slow machine.
    check(&signed("new", now - 295), true).await;
    check(&signed("new", now + 295), true).await;
    check(&signed("new", now - 301), false).await;
    check(&signed("new", now + 306), false).await;
    check(&signed("new", 0), false).await;

    let other = v1("other", now, "POST", path, ID, body);
    let good = v1("new", now, "POST", path, ID, body);
    check(&format!("t={now},v1={other},v1={good}"), true).await;
    check(&format!("v2=zz, v1={good}, t={now}"), true).await;
    check(&format!("t={now},v1={}", &good[..62]), false).await;
    check(&format!("t={now},v1="), false).await;
    check(&format!("t={now}"), false).await;
    check(&format!("v1={good}"), false).await;
    check(&format!("t={},v1={good}", now + 1), false).await;
    check(&format!("t=+{now},v1={good}"), false).await;
    check("nonsense", false).await;
    check(&format!("t={now},{}v1={good}", format!("v1={other},").repeat(4)), false).await;

    // The same signature for another method, path, query, connection or body.
    for (method, path, id, signed_body) in [
        ("PUT", path, ID, body),
        ("POST", "/ws/default", ID, body),
        ("POST", "/default?x=1", ID, body),
        ("POST", path, "bwG5LZAAAAIcZCg=", body),
        ("POST", path, ID, r#"{"a":2}"#),
    ] {
        check(&format!("t={now},v1={}", v1("new", now, method, path, id, signed_body)), false).await;
    }
    assert_eq!(answer(&app, event(path, body)).await, refused(), "without a signature");
}

#[tokio::test]
async fn bodies_have_a_limit() {
    // S0-52
    let app: Router = GatewayRouter::new()
        .default(async |message: RawMessage| message.body.len().to_string())
        .into_router();
    let exact = answer(&app, event("/default", "x".repeat(MAX_BODY))).await;
    assert_eq!(exact, (StatusCode::OK, "131072".to_owned()));
    let over = answer(&app, event("/default", "x".repeat(MAX_BODY + 1))).await;
    assert_eq!(over.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(over.1.contains("131072"), "{}", over.1);
}

#[tokio::test]
async fn plain_routes_take_their_checks_from_an_extension() {
    let route = axum::routing::post(async |connect: Connect| connect.head.connection_id);
    let app = Router::new().route("/open", route.clone());
    assert_eq!(answer(&app, event("/open", "")).await, (StatusCode::OK, ID.to_owned()));
    assert_eq!(answer(&app, without(event("/open", ""), "connectionid")).await, bad_headers());
    let app = Router::new().route("/open", route).layer(axum::Extension(Checks::new().secrets(["s"])));
    assert_eq!(answer(&app, event("/open", "")).await, refused());
    assert_eq!(status(&app, with(event("/open", ""), "X-Ws-Gateway-Secret", "s")).await, 200);
}
