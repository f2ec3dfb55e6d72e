//! The browser's side: policy, cookies, and the page's token request.

use std::net::Ipv4Addr;

use tidegate_doctor::probe::{Cookie, ProbeOptions, Resolve};
use tidegate_doctor::report::Confidence;

use crate::server::{Head, Reply, Server, answer, serve};
use crate::{finding, healthy, ids, look_with, options, probe_of, proven};

async fn page(headers: &'static str, body: &'static str) -> Server {
    serve(move |_| answer("200 OK", &format!("Content-Type: text/html\r\n{headers}"), body)).await
}

/// The WebSocket of `ws_url`, the page at `www.example.com`.
fn at(server: &Server, ws_url: &str) -> ProbeOptions {
    let port = server.address.port();
    let mut options = options(ws_url);
    options.page = Some(format!("http://www.example.com:{port}/app"));
    options.resolve =
        vec![Resolve { host: "www.example.com".to_owned(), port, address: Ipv4Addr::LOCALHOST.into() }];
    options
}

/// The browser probe needs no connection to the WebSocket's host.
async fn look(options: &ProbeOptions) -> tidegate_doctor::report::Report {
    let mut options = options.clone();
    let url = url::Url::parse(&options.url).unwrap();
    options.resolve.push(Resolve {
        host: url.host_str().unwrap().to_owned(),
        port: url.port_or_known_default().unwrap(),
        address: Ipv4Addr::LOCALHOST.into(),
    });
    let mut report = look_with(&options, &["browser"]).await;
    report
        .findings
        .retain(|finding| !finding.id.starts_with("net.") && !finding.id.starts_with("handshake."));
    report
}

#[tokio::test]
async fn policies() {
    // browser.csp
    for (policy, ok) in [
        ("Content-Security-Policy: default-src 'self'\r\n", false),
        ("Content-Security-Policy: default-src 'self'; connect-src 'self' wss://ws.example.com\r\n", true),
        ("", true),
    ] {
        let server = page(policy, "<html>").await;
        let report = look(&at(&server, "wss://ws.example.com/chat")).await;
        assert_eq!(ids(&report), if ok { vec![] } else { vec!["browser.csp"] }, "{policy}");
        if !ok {
            assert!(proven(&report, "browser.csp").fix[0].contains("wss://ws.example.com"));
        }
    }
}

#[tokio::test]
async fn cookies() {
    // cookie.domain-not-covering cookie.different-parent-domain cookie.samesite cookie.secure-on-plain
    // cookie.third-party-blocked
    for (set, ws, id) in [
        ("sessionid=1; HttpOnly; SameSite=Lax", "wss://ws.example.com/", Some("cookie.domain-not-covering")),
        ("sessionid=1; Domain=example.com", "wss://ws.example.com/", None),
        ("sessionid=1; Domain=example.com", "wss://ws.example.net/", Some("cookie.different-parent-domain")),
        ("sessionid=1; Domain=example.com; Secure", "ws://ws.example.com/", Some("cookie.secure-on-plain")),
        ("sessionid=1", "wss://www.example.com/", None),
        ("theme=dark", "wss://ws.example.net/", None),
        ("csrftoken=1", "wss://ws.example.com/", None),
    ] {
        let headers: &'static str = Box::leak(format!("Set-Cookie: {set}\r\n").into_boxed_str());
        let server = page(headers, "").await;
        let report = look(&at(&server, ws)).await;
        assert_eq!(ids(&report), id.into_iter().collect::<Vec<_>>(), "{set} for {ws}");
        if let Some(id) = id {
            proven(&report, id);
        }
    }
    // A cookie of the WebSocket's own site, and a page of another one.
    let server = page("", "").await;
    for (same_site, id) in [(Some("lax"), "cookie.samesite"), (Some("none"), "cookie.third-party-blocked")] {
        let mut options = at(&server, "wss://ws.example.net/chat");
        let mut cookie =
            Cookie::parse_file(".example.net\tTRUE\t/\tTRUE\t0\tsessionid\tvalue-4711\n").unwrap();
        cookie[0].same_site = same_site.map(str::to_owned);
        options.cookies = cookie;
        let report = look(&options).await;
        assert_eq!(ids(&report), [id]);
        let expected = if id == "cookie.samesite" { Confidence::Proven } else { Confidence::Possible };
        assert_eq!(finding(&report, id).confidence, expected);
        assert!(!serde_json::to_string(&report).unwrap().contains("value-4711"), "DX-64");
    }
}

const CSRF: &str = "<h1>Forbidden (403)</h1><p>CSRF verification failed. Request aborted.</p>";

/// A token endpoint that checks as Django does.
fn token_endpoint(head: &Head) -> Reply {
    if head.path() != "/token/" {
        return answer("404 Not Found", "", "");
    }
    let cookies = head.header("cookie").unwrap_or_default();
    let html = "Content-Type: text/html\r\n";
    if head.header("origin").is_some_and(|origin| origin.contains("untrusted"))
        || !cookies.contains("csrftoken=right")
    {
        return answer("403 Forbidden", html, CSRF);
    }
    if head.header("x-csrftoken") != Some("right") {
        return answer("403 Forbidden", html, CSRF);
    }
    if cookies.contains("sessionid=busy") {
        return answer("403 Forbidden", "", r#"{"error":"Rate limit exceeded"}"#);
    }
    match cookies.contains("sessionid=ada") {
        true => answer("200 OK", "Content-Type: application/json\r\n", r#"{"token":"secret-4711"}"#),
        false => answer("403 Forbidden", "", r#"{"error":"Authentication required"}"#),
    }
}

#[tokio::test]
async fn token_requests() {
    // tokenreq.anonymous tokenreq.csrf-missing tokenreq.csrf-invalid tokenreq.csrf-cookie tokenreq.csrf-origin
    // tokenreq.no-session-cookie tokenreq.rate-limited tokenreq.wrong-url
    let server = serve(token_endpoint).await;
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let plain = Vec::new();
    for (path, cookies, headers, origin, id) in [
        ("/token/", "csrftoken=right; sessionid=ada", plain.clone(), None, None),
        (
            "/token/",
            "csrftoken=right; sessionid=ada",
            header("Accept", "*/*"),
            None,
            Some("tokenreq.csrf-missing"),
        ),
        (
            "/token/",
            "csrftoken=right; sessionid=ada",
            header("X-CSRFToken", "old"),
            None,
            Some("tokenreq.csrf-invalid"),
        ),
        ("/token/", "sessionid=ada", plain.clone(), None, Some("tokenreq.csrf-cookie")),
        (
            "/token/",
            "csrftoken=right; sessionid=ada",
            plain.clone(),
            Some("https://untrusted.example"),
            Some("tokenreq.csrf-origin"),
        ),
        ("/token/", "csrftoken=right", plain.clone(), None, Some("tokenreq.no-session-cookie")),
        ("/token/", "csrftoken=right; sessionid=ended", plain.clone(), None, Some("tokenreq.anonymous")),
        ("/token/", "csrftoken=right; sessionid=busy", plain.clone(), None, Some("tokenreq.rate-limited")),
        ("/tokens/", "csrftoken=right; sessionid=ada", plain.clone(), None, Some("tokenreq.wrong-url")),
    ] {
        let mut options = options("ws://127.0.0.1:1/chat");
        options.token_url = Some(format!("http://{}{path}", server.address));
        options.cookies = Cookie::parse_file(cookies).unwrap();
        options.token_headers = headers;
        options.origin = origin.map(str::to_owned);
        let report = look(&options).await;
        match id {
            None => {
                healthy(&report);
                let played = &probe_of(&report, "browser").measurements["tokenRequests"];
                assert_eq!(
                    (&played["as given"], &played["without the CSRF header"]),
                    (&200.into(), &403.into())
                );
            }
            Some(id) => {
                assert_eq!(ids(&report), [id], "{cookies}");
                proven(&report, id);
            }
        }
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains("4711") && !text.contains("=ada"), "DX-64");
    }
}
