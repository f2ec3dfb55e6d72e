//! The URL itself, and what an upgrade meets on its way.

use tidegate_auth::Secret;
use tidegate_doctor::probe::Admin;
use tidegate_doctor::report::Confidence;

use crate::server::{After, Head, Reply, answer, probe_endpoint, refused_403, serve, tidegate};
use crate::{finding, healthy, ids, is_problem, look, look_with, options, proven};

#[tokio::test]
async fn urls_that_cannot_work() {
    // handshake.https-scheme handshake.bad-url-syntax client.socketio browser.mixed-content
    let server = serve(tidegate).await;
    let at = |rest: &str| format!("{}{rest}", server.address);
    for (url, page, id) in [
        (format!("http://{}", at("/chat")), None, "handshake.https-scheme"),
        (format!("ws://{}", at("/chat#top")), None, "handshake.bad-url-syntax"),
        (format!("ws://{}", at("/undefined/chat")), None, "handshake.bad-url-syntax"),
        (format!("ws://{}", at("/chat?room=[object Object]")), None, "handshake.bad-url-syntax"),
        ("/chat".to_owned(), None, "handshake.bad-url-syntax"),
        ("undefined".to_owned(), None, "handshake.bad-url-syntax"),
        (format!("ws://{}", at("/x?EIO=4&transport=websocket")), None, "client.socketio"),
        (format!("ws://{}", at("/socket.io/")), None, "client.socketio"),
        ("ws://ws.example.test/chat".to_owned(), Some("https://www.example.test/"), "browser.mixed-content"),
    ] {
        let mut options = options(&url);
        options.page = page.map(str::to_owned);
        let report = look_with(&options, &["url"]).await;
        assert_eq!(ids(&report), [id], "{url}");
        assert!(is_problem(proven(&report, id)));
    }
    for url in [at("/chat?name=null-island&EIO=4"), at("/undefined-behavior"), at("/nullable")] {
        let mut options = options(&format!("ws://{url}"));
        options.page = Some("https://www.example.test/".to_owned());
        healthy(&look_with(&options, &["url"]).await);
    }
    // A URL that cannot be read stops everything.
    assert_eq!(look(&options("chat")).await.summary.skipped, 11);
}

#[tokio::test]
async fn repeated_prefix() {
    // path.double-prefix
    let server = serve(|head| match head.path() {
        "/api/chat" if head.is_upgrade() => Reply::Upgrade("", After::Echo),
        _ => answer("404 Not Found", "", ""),
    })
    .await;
    let report = look_with(&options(&server.url("/api/api/chat")), &["url", "handshake"]).await;
    assert_eq!(ids(&report), ["path.double-prefix"]);
    assert_eq!(proven(&report, "path.double-prefix").evidence[0].facts["nearest"], "/api/chat");
    healthy(&look_with(&options(&server.url("/api/chat")), &["url", "handshake"]).await);
}

#[tokio::test]
async fn wrong_path() {
    // handshake.wrong-path
    let server = serve(|head| match head.path() {
        "/chat/" if head.is_upgrade() => Reply::Upgrade("", After::Echo),
        _ => answer("404 Not Found", "Tidegate-Request-Id: r7\r\n", r#"{"message":"Not Found"}"#),
    })
    .await;
    let report = look_with(&options(&server.url("/chat")), &["handshake"]).await;
    let found = proven(&report, "handshake.wrong-path");
    assert_eq!(found.evidence[0].facts["nearest"], "/chat/");
    assert_eq!((found.request_id.as_deref(), found.next[0].as_str()), (Some("r7"), "tidegate explain r7"));
    assert_eq!(found.client_saw.as_ref().unwrap().status, Some(404));
    let report = look_with(&options(&server.url("/other")), &["handshake"]).await;
    assert_eq!(finding(&report, "handshake.wrong-path").confidence, Confidence::Likely);
    healthy(&look_with(&options(&server.url("/chat/")), &["handshake"]).await);
}

#[tokio::test]
async fn the_server_calls_the_upgrade_malformed() {
    // handshake.malformed
    let server = serve(|head| match head.header("sec-websocket-version") {
        Some("13") => Reply::Upgrade("", After::Echo),
        _ => answer("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n", ""),
    })
    .await;
    let mut options = options(&server.url("/chat"));
    healthy(&look_with(&options, &["handshake"]).await);
    options.headers = vec![("Sec-WebSocket-Version".to_owned(), "8".to_owned())];
    let report = look_with(&options, &["handshake"]).await;
    assert_eq!(ids(&report), ["handshake.malformed"]);
    assert_eq!(proven(&report, "handshake.malformed").evidence[0].facts["version"], "13");
    let keyless = serve(|_| answer("400 Bad Request", "", "missing Sec-WebSocket-Key header")).await;
    proven(&look_with(&crate::options(&keyless.url("/")), &["handshake"]).await, "handshake.malformed");
}

#[tokio::test]
async fn too_long_for_somebody() {
    // handshake.url-too-long
    for status in ["414 URI Too Long", "431 Request Header Fields Too Large", "400 Bad Request"] {
        let server = serve(move |head| match head.target.len() > 4096 {
            true => answer(status, "Server: nginx\r\n", ""),
            false => Reply::Upgrade("", After::Echo),
        })
        .await;
        let long = "x".repeat(5000);
        let report = look_with(&options(&server.url(&format!("/chat?state={long}"))), &["handshake"]).await;
        assert_eq!(ids(&report), ["handshake.url-too-long"], "{status}");
        let facts = &proven(&report, "handshake.url-too-long").evidence[0].facts;
        assert_eq!((&facts["server"], &facts["urlLength"]), (&"nginx".into(), &5012.into()));
        healthy(&look_with(&options(&server.url("/chat?state=x")), &["handshake"]).await);
    }
}

fn with_ticket(url: &str) -> tidegate_doctor::probe::ProbeOptions {
    let mut options = options(url);
    options.admin = Some(Admin {
        ticket: Some(Secret::new("t1")),
        installation: None,
        answers: true,
        url: "http://127.0.0.1:1".to_owned(),
    });
    options
}

/// A proxy that drops the upgrade: the endpoint gets a plain request.
fn stripping(head: &Head, version: &str) -> Reply {
    match head.path() {
        "/_tidegate/probe" => probe_endpoint(head, |body| {
            body.insert("upgrade".to_owned(), serde_json::Value::Null);
            body.insert("version".to_owned(), version.into());
        }),
        _ => {
            answer("426 Upgrade Required", "Tidegate-Request-Id: r1\r\n", r#"{"message":"Upgrade Required"}"#)
        }
    }
}

#[tokio::test]
async fn a_proxy_drops_the_upgrade() {
    // proxy.upgrade-stripped
    let server = serve(|head| stripping(head, "HTTP/1.1")).await;
    let report = look(&with_ticket(&server.url("/chat"))).await;
    assert_eq!(ids(&report), ["proxy.upgrade-stripped"]);
    let facts = &proven(&report, "proxy.upgrade-stripped").evidence[0].facts;
    assert_eq!((&facts["upgradePresent"], &facts["httpVersion"]), (&false.into(), &"HTTP/1.1".into()));
    assert!(facts["headerNames"].as_array().unwrap().contains(&"sec-websocket-key".into()));
    // Without the endpoint it can only be one of two.
    let hidden = serve(|_| answer("426 Upgrade Required", "Tidegate-Request-Id: r1\r\n", "")).await;
    let report = look_with(&options(&hidden.url("/chat")), &["handshake"]).await;
    assert_eq!(finding(&report, "proxy.upgrade-stripped").confidence, Confidence::Likely);
    assert!(finding(&report, "proxy.http10").next.iter().any(|next| next.contains("--admin")));
}

#[tokio::test]
async fn a_proxy_speaks_http_1_0() {
    // proxy.http10
    let server = serve(|head| stripping(head, "HTTP/1.0")).await;
    let report = look_with(&with_ticket(&server.url("/chat")), &["upgrade-path"]).await;
    proven(&report, "proxy.http10");
}

#[tokio::test]
async fn a_proxy_rewrites_what_it_forwards() {
    // proxy.host-rewritten proxy.forwarded-missing
    let server = serve(|head| {
        probe_endpoint(head, |body| {
            body.insert("host".to_owned(), "upstream.internal".into());
            body.insert("via".to_owned(), "1.1 front".into());
        })
    })
    .await;
    let report = look_with(&with_ticket(&server.url("/chat")), &["identity"]).await;
    assert_eq!(ids(&report), ["proxy.host-rewritten", "proxy.forwarded-missing"]);
    let good = serve(|head| {
        probe_endpoint(head, |body| {
            body.insert("via".to_owned(), "1.1 front".into());
            body.insert("forwarded".to_owned(), serde_json::json!({ "x-forwarded-for": "192.0.2.1" }));
        })
    })
    .await;
    healthy(&look_with(&with_ticket(&good.url("/chat")), &["identity"]).await);
}

#[tokio::test]
async fn the_rule_is_for_another_path() {
    // proxy.location-mismatch
    let server = serve(|head| match head.path() {
        "/_tidegate/probe" => tidegate(head),
        _ => answer("404 Not Found", "Server: nginx\r\n", "<h1>404</h1>"),
    })
    .await;
    let report = look(&with_ticket(&server.url("/chat"))).await;
    assert_eq!(ids(&report), ["proxy.location-mismatch"]);
    proven(&report, "proxy.location-mismatch");
}

#[tokio::test]
async fn the_101_lost_its_headers() {
    // proxy.response-stripped
    let server = serve(|_| Reply::Stripped).await;
    let report = look_with(&options(&server.url("/chat")), &["handshake"]).await;
    assert_eq!(ids(&report), ["proxy.response-stripped"]);
    proven(&report, "proxy.response-stripped");
}

#[tokio::test]
async fn http_2_behind_the_proxy() {
    // proxy.h2-upstream
    let server = serve(|head| match (head.path(), head.is_upgrade()) {
        ("/_tidegate/probe", false) => probe_endpoint(head, |body| {
            body.insert("version".to_owned(), "HTTP/2.0".into());
            body.insert("forwarded".to_owned(), serde_json::json!({ "x-forwarded-for": "192.0.2.1" }));
        }),
        _ => answer("502 Bad Gateway", "Server: envoy\r\n", ""),
    })
    .await;
    let report = look_with(&with_ticket(&server.url("/chat")), &["identity", "handshake"]).await;
    assert_eq!(ids(&report), ["proxy.h2-upstream"]);
    proven(&report, "proxy.h2-upstream");
}

#[tokio::test]
async fn answers_of_proxies() {
    // proxy.redirect proxy.html-200 proxy.bad-gateway proxy.gateway-timeout proxy.bot-protection
    for (status, headers, body, id) in [
        ("301 Moved Permanently", "Location: https://other.example/?token=secret\r\n", "", "proxy.redirect"),
        ("308 Permanent Redirect", "Location: /chat/\r\n", "", "proxy.redirect"),
        ("200 OK", "Content-Type: text/html; charset=utf-8\r\n", "<html>app</html>", "proxy.html-200"),
        ("502 Bad Gateway", "Server: nginx\r\n", "<html>", "proxy.bad-gateway"),
        ("504 Gateway Time-out", "Server: nginx\r\n", "<html>", "proxy.gateway-timeout"),
        (
            "403 Forbidden",
            "CF-RAY: 1\r\nContent-Type: text/html\r\n",
            "<title>Just a moment...</title>",
            "proxy.bot-protection",
        ),
    ] {
        let server = serve(move |head| match head.is_upgrade() {
            true => answer(status, headers, body),
            false => answer("200 OK", "Content-Type: text/plain\r\n", "page"),
        })
        .await;
        let report = look_with(&options(&server.url("/chat")), &["handshake"]).await;
        assert_eq!(ids(&report), [id], "{status}");
        proven(&report, id);
        // DX-47: nothing was followed, DX-64: and nothing of the address repeated.
        assert!(server.heads().iter().all(|head| head.path() != "/chat/"));
        assert!(!serde_json::to_string(&report).unwrap().contains("secret"));
    }
    // The same statuses from the gateway itself are its own.
    for status in ["502 Bad Gateway", "504 Gateway Timeout"] {
        let server = serve(move |_| answer(status, "Tidegate-Request-Id: r1\r\n", "")).await;
        let report = look_with(&options(&server.url("/chat")), &["handshake"]).await;
        assert!(ids(&report).iter().all(|id| !id.starts_with("proxy.")), "{:?}", ids(&report));
        assert!(!ids(&report).is_empty());
    }
    let _ = refused_403();
}
