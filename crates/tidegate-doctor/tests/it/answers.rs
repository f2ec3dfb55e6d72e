//! Application servers that answer instead of a gateway; tokens, origins, clocks.

use serde_json::json;
use tidegate_auth::Secret;
use tidegate_doctor::report::{Confidence, Severity};

use crate::server::{After, Head, Reply, answer, date, jwt, refused_403, serve, tidegate};
use crate::{finding, healthy, ids, look_with, options, probe_of, proven};

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn a_wsgi_server() {
    // bypass.wsgi
    let server = serve(|head| match head.path() {
        "/" => answer("200 OK", "Server: gunicorn\r\nContent-Type: text/html\r\n", "<html>home</html>"),
        _ => answer(
            "404 Not Found",
            "Server: gunicorn\r\nContent-Type: text/html\r\n",
            "<h1>Not Found</h1><p>The requested resource was not found on this server.</p>",
        ),
    })
    .await;
    let report = look_with(&options(&server.url("/ws/chat/")), &["handshake"]).await;
    assert_eq!(ids(&report), ["bypass.wsgi"]);
    proven(&report, "bypass.wsgi");
}

#[tokio::test]
async fn an_asgi_server_without_websockets() {
    // bypass.no-ws-library
    let server = serve(|_| {
        answer(
            "404 Not Found",
            "Server: uvicorn\r\nContent-Type: application/json\r\n",
            r#"{"detail":"Not Found"}"#,
        )
    })
    .await;
    let report = look_with(&options(&server.url("/ws")), &["handshake"]).await;
    assert_eq!(ids(&report), ["bypass.no-ws-library"]);
    proven(&report, "bypass.no-ws-library");
}

#[tokio::test]
async fn behind_a_proxy_that_strips() {
    // proxy.upgrade-stripped: seen from outside only, likely.
    let server = serve(|_| {
        answer(
            "404 Not Found",
            "Server: nginx/1.22.1\r\nContent-Type: application/json\r\n",
            r#"{"detail":"Not Found"}"#,
        )
    })
    .await;
    let report = look_with(&options(&server.url("/ws")), &["handshake"]).await;
    assert_eq!(finding(&report, "proxy.upgrade-stripped").confidence, Confidence::Likely);
}

#[tokio::test]
async fn the_path_is_unknown_to_the_application() {
    // bypass.unknown-route-403 bypass.no-route-500
    let starlette = serve(|head| match head.path() {
        "/ws" if head.is_upgrade() => Reply::Upgrade("", After::Echo),
        _ => refused_403(),
    })
    .await;
    let report = look_with(&options(&starlette.url("/ws/")), &["handshake"]).await;
    assert_eq!(ids(&report), ["bypass.unknown-route-403"]);
    proven(&report, "bypass.unknown-route-403");
    // With no path that opens it may also be a close before the accept.
    let report = look_with(&options(&starlette.url("/other")), &["handshake", "auth"]).await;
    assert_eq!(finding(&report, "bypass.unknown-route-403").confidence, Confidence::Likely);
    assert_eq!(finding(&report, "bypass.close-before-accept").confidence, Confidence::Possible);

    let channels = serve(|head| match head.path() {
        "/ws/" if head.is_upgrade() => Reply::Upgrade("", After::Echo),
        _ => answer("500 Internal Server Error", "Server: daphne\r\n", "Internal server error"),
    })
    .await;
    for path in ["/ws", "/elsewhere"] {
        let report = look_with(&options(&channels.url(path)), &["handshake", "auth"]).await;
        assert_eq!(ids(&report), ["bypass.no-route-500"], "{path}");
        proven(&report, "bypass.no-route-500");
    }
}

#[tokio::test]
async fn closed_before_accepting() {
    // bypass.close-before-accept chat.auth-hidden
    let strange = serve(|head| match head.path() {
        "/chat" => refused_403(),
        _ => answer("500 Internal Server Error", "Server: daphne\r\n", "x"),
    })
    .await;
    let report = look_with(&options(&strange.url("/chat")), &["handshake", "auth"]).await;
    proven(&report, "bypass.close-before-accept");

    let good = jwt(json!({ "exp": now() + 600 }));
    let token = good.clone();
    let chat = serve(move |head| match head.target.contains(&token) {
        true => Reply::Upgrade("", After::Echo),
        false => refused_403(),
    })
    .await;
    let report =
        look_with(&options(&chat.url(&format!("/ws/chat?token={good}"))), &["handshake", "auth"]).await;
    for id in ["bypass.close-before-accept", "chat.auth-hidden"] {
        assert_eq!(proven(&report, id).severity, Severity::Info);
    }
    // It works: nothing that is good to know makes a run fail.
    assert_eq!(report.doctor_exit_code(true), 0);
    assert!(!serde_json::to_string(&report).unwrap().contains(&good[..40]));
}

#[tokio::test]
async fn the_application_fails_before_its_own_check() {
    // app.dependency-injection
    let server = serve(|head| match head.path() {
        "/ws" => answer("500 Internal Server Error", "Server: uvicorn\r\n", "Internal Server Error"),
        _ => refused_403(),
    })
    .await;
    let report = look_with(&options(&server.url("/ws?token=opaque-token")), &["handshake", "auth"]).await;
    assert_eq!(ids(&report), ["app.dependency-injection"]);
    let mut options = options(&server.url("/ws"));
    options.token = Some(Secret::new(jwt(json!({ "exp": now() + 600 }))));
    let report = look_with(&options, &["handshake", "auth"]).await;
    assert_eq!(ids(&report), ["app.dependency-injection"]);
}

fn wants_origin(head: &Head, origin: &str, other: Reply) -> Reply {
    match head.header("origin") {
        Some(given) if given == origin => Reply::Upgrade("", After::Echo),
        _ => other,
    }
}

#[tokio::test]
async fn origins() {
    // origin.not-allowed bypass.origin-validator
    let foreign = serve(|head| {
        let own = format!("http://{}", head.header("host").unwrap_or_default());
        wants_origin(head, &own, refused_403())
    })
    .await;
    let report = look_with(&options(&foreign.url("/ws")), &["handshake", "auth"]).await;
    assert_eq!(ids(&report), ["bypass.origin-validator"]);
    proven(&report, "bypass.origin-validator");

    let gateway = serve(|head| {
        let own = format!("http://{}", head.header("host").unwrap_or_default());
        wants_origin(
            head,
            &own,
            answer(
                "403 Forbidden",
                "Tidegate-Request-Id: r1\r\n",
                r#"{"message":"Forbidden","check":"origin"}"#,
            ),
        )
    })
    .await;
    let mut options = options(&gateway.url("/ws"));
    options.origin = Some("https://evil.example".to_owned());
    let report = look_with(&options, &["handshake", "auth"]).await;
    assert_eq!(ids(&report), ["origin.not-allowed"]);
    assert_eq!(proven(&report, "origin.not-allowed").evidence[0].facts["origin"], "https://evil.example");
    options.origin = Some(format!("http://{}", gateway.address));
    healthy(&look_with(&options, &["handshake", "auth"]).await);
}

#[tokio::test]
async fn tokens_by_their_own_claims() {
    // jwt.expired jwt.not-yet-valid jwt.malformed jwt.missing
    let server = serve(|head| match head.is_upgrade() {
        true => {
            answer("403 Forbidden", "Tidegate-Request-Id: r1\r\n", r#"{"message":"Forbidden","check":"jwt"}"#)
        }
        false => answer("404 Not Found", &date(0), ""),
    })
    .await;
    for (token, id) in [
        (jwt(json!({ "exp": now() - 100 })), "jwt.expired"),
        (jwt(json!({ "exp": now() + 900, "nbf": now() + 300 })), "jwt.not-yet-valid"),
        (format!("Bearer {}", jwt(json!({}))), "jwt.malformed"),
        (jwt(json!({}))[..30].to_owned(), "jwt.malformed"),
    ] {
        let mut options = options(&server.url("/ws"));
        options.token = Some(Secret::new(token.clone()));
        let report = look_with(&options, &["clock"]).await;
        assert_eq!(ids(&report), [id]);
        proven(&report, id);
        assert!(!serde_json::to_string(&report).unwrap().contains(&token[..25]), "DX-64");
    }
    let mut options = options(&server.url("/ws"));
    proven(&look_with(&options, &["handshake"]).await, "jwt.missing");
    options.token = Some(Secret::new(jwt(json!({ "exp": now() + 600 }))));
    healthy(&look_with(&options, &["clock"]).await);
}

#[tokio::test]
async fn clocks() {
    // clock.client
    let server = serve(|_| answer("404 Not Found", &date(120), "")).await;
    let report = look_with(&options(&server.url("/ws")), &["clock"]).await;
    let found = proven(&report, "clock.client");
    assert_eq!(found.severity, Severity::Warning);
    let seconds = found.evidence[0].facts["differenceSeconds"].as_i64().unwrap();
    assert!((118..=122).contains(&seconds), "{seconds}");
    // The token's times count by the clock of whoever checks it.
    let mut options = options(&server.url("/ws"));
    options.token = Some(Secret::new(jwt(json!({ "exp": now() + 60 }))));
    proven(&look_with(&options, &["clock"]).await, "jwt.expired");
    let right = serve(|_| answer("404 Not Found", &date(0), "")).await;
    healthy(&look_with(&crate::options(&right.url("/ws")), &["clock"]).await);
    let cached = serve(|_| answer("200 OK", &format!("{}Age: 900\r\n", date(-900)), "")).await;
    let report = look_with(&crate::options(&cached.url("/ws")), &["clock"]).await;
    healthy(&report);
    assert_eq!(report.doctor_exit_code(false), 3);
}

#[tokio::test]
async fn a_token_for_one_connection_is_not_spent() {
    // DX-31
    let server = serve(|head| match head.target.contains("ws_token=once-only-4711") {
        true => Reply::Upgrade("", After::Echo),
        false if head.is_upgrade() => answer("403 Forbidden", "", "no"),
        false => tidegate(head),
    })
    .await;
    let mut options = options(&server.url("/ws?ws_token=once-only-4711&room=1"));
    let report = crate::look(&options).await;
    assert!(server.heads().iter().all(|head| !head.target.contains("once-only")), "the token was sent");
    assert_eq!(report.doctor_exit_code(false), 3);
    assert!(probe_of(&report, "auth").measurements["reason"].as_str().unwrap().contains("--spend-token"));

    // With permission it is used exactly once, and the same connection serves the echo.
    options.spend_token = true;
    options.send = Some("hello".to_owned());
    options.expect = Some("hello".to_owned());
    let report = crate::look(&options).await;
    let n_uses = server.heads().iter().filter(|head| head.target.contains("once-only")).count();
    assert_eq!(n_uses, 1);
    assert_eq!(probe_of(&report, "echo").measurements["answers"], 5);
    healthy(&report);
}
