//! `POST {stage}/@token`: a browser exchanges the session of its backend for a connect token.

use serde_json::{Value, json};

use crate::backend::{After, Answer, Request};
use crate::client::{PATH, Reply, request};
use crate::harness::{Deployed, Plane, Setup};
use crate::session_layer::unlimited;

const PAGE: &str = "https://app.example";

const COOKIE: &str = "Cookie: sessionid=s3ss10n-0f-ada; csrftoken=c00k1e-0f-csrf\r\n";

async fn start_at(url: &str, origins: Value) -> Plane {
    let trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let plane = Plane::start_from(Setup { trusted_proxies, ..Setup::default() }).await;
    let url = url.replace("BACKEND", &plane.backend.address.to_string());
    plane.deploy(&Deployed::with_policy(unlimited(json!({
        "admission": { "checks": ["token"] },
        "connect_tokens": {
            "cookie": "sessionid",
            "per_minute": 3,
            "endpoint": { "url": url, "origins": origins, "headers": ["x-csrftoken", "x-forwarded-for"] },
        },
    }))));
    plane
}

async fn start() -> Plane {
    start_at("http://BACKEND/whoami", json!([PAGE, "https://*.other.example"])).await
}

fn answer_with(plane: &Plane, status: u16, body: &str) {
    let answer = format!("HTTP/1.1 {status} Planned\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    plane.backend.plan(move |request| match request.target.starts_with("/whoami") {
        true => Answer::Wire(answer.clone(), After::Keep),
        false => Answer::Status(200),
    });
}

async fn ask(plane: &Plane, method: &str, headers: &str) -> Reply {
    request(plane.address, method, &format!("{PATH}/@token"), headers, "").await
}

async fn ask_as_page(plane: &Plane, more: &str) -> Reply {
    ask(plane, "POST", &format!("Origin: {PAGE}\r\n{COOKIE}X-CSRFToken: t0ken-0f-csrf\r\n{more}")).await
}

fn asked(plane: &Plane) -> Vec<Request> {
    plane.backend.requests.all().into_iter().filter(|request| request.target.starts_with("/whoami")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_says_who_it_is() {
    // S0-78
    let plane = start().await;
    for (user, id) in [(json!("ada"), "ada"), (json!(42), "42")] {
        let body = json!({ "user": user, "roles": ["staff"], "session": null, "more": 1 });
        answer_with(&plane, 200, &body.to_string());
        let reply = ask_as_page(&plane, "User-Agent: Browser/1\r\nReferer: https://app.example/x\r\n").await;
        assert_eq!((reply.status, reply.value("cache-control")), (200, "no-store"), "{reply:?}");
        let answer = reply.json();
        assert_eq!(answer["expires_in"], 60);
        let token = answer["token"].as_str().unwrap();
        let sent = asked(&plane).pop().unwrap();
        assert_eq!(sent.value("cookie"), "sessionid=s3ss10n-0f-ada; csrftoken=c00k1e-0f-csrf");
        assert_eq!(sent.values("x-csrftoken"), ["t0ken-0f-csrf"]);
        assert_eq!(sent.values("user-agent"), ["Browser/1"]);
        assert_eq!(sent.value("referer"), "https://app.example/x");
        // S0-74: bound to the page and to its session.
        let query = format!("?ws_token={token}");
        plane.refused(&query, COOKIE, "token.origin-mismatch").await;
        let origin = format!("Origin: {PAGE}\r\n");
        plane.refused(&query, &origin, "token.session-missing").await;
        let mut client = plane.connect_as(&query, &format!("{origin}{COOKIE}")).await;
        assert_eq!(plane.id_of(&client).await.len(), 16);
        let connect = plane.backend.events("CONNECT", 1).await.pop().unwrap();
        assert_eq!(connect.value("tidegate-user"), id);
        client.close(1000, "").await;
        plane.assert_untold(&[token, "s3ss10n-0f-ada", "c00k1e-0f-csrf", "t0ken-0f-csrf"]);
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_cannot_say_where_they_come_from() {
    let plane = start().await;
    answer_with(&plane, 200, r#"{"user":"ada"}"#);
    // The header is on the endpoint's list, and still the gateway's own.
    let forged = "X-Forwarded-For: 10.0.0.1, 203.0.113.7\r\nX-Forwarded-Proto: https\r\n";
    assert_eq!(ask_as_page(&plane, forged).await.status, 200);
    let sent = asked(&plane).pop().unwrap();
    assert_eq!(sent.values("x-forwarded-for"), ["203.0.113.7"]);
    assert_eq!(sent.values("x-forwarded-proto"), ["https"]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_listed_origins_get_an_answer() {
    // S0-78
    let plane = start().await;
    answer_with(&plane, 200, r#"{"user":"ada"}"#);
    let cors = |reply: &Reply| {
        let names = ["origin", "credentials", "methods", "headers"];
        let values = names.map(|name| reply.value(&format!("access-control-allow-{name}")).to_owned());
        (reply.status, values)
    };
    for page in [PAGE, "https://a.other.example"] {
        let reply = ask(&plane, "OPTIONS", &format!("Origin: {page}\r\n")).await;
        let (status, [origin, credentials, methods, headers]) = cors(&reply);
        assert_eq!(
            (status, origin.as_str(), credentials.as_str(), methods.as_str()),
            (204, page, "true", "POST")
        );
        assert!(headers.contains("x-csrftoken") && headers.contains("content-type"), "{headers}");
        assert_eq!(reply.value("vary"), "Origin");
        let reply = ask(&plane, "POST", &format!("Origin: {page}\r\n{COOKIE}")).await;
        assert_eq!((reply.status, reply.value("access-control-allow-origin")), (200, page));
        assert_eq!(reply.value("access-control-allow-credentials"), "true");
    }
    let n_asked = asked(&plane).len();
    for headers in [
        "Origin: https://evil.example\r\n",
        "Origin: http://app.example\r\n",
        "Origin: https://other.example\r\n",
        "Origin: null\r\n",
        "",
    ] {
        for method in ["OPTIONS", "POST"] {
            let reply = ask(&plane, method, &format!("{headers}{COOKIE}")).await;
            assert_eq!(cors(&reply), (403, [const { String::new() }; 4]), "{method} {headers}");
            assert_eq!(plane.last_token_refusal().diagnosis, "origin.not-allowed");
        }
    }
    assert_eq!(asked(&plane).len(), n_asked, "nobody else is asked for them");
    let reply = ask(&plane, "GET", &format!("Origin: {PAGE}\r\n{COOKIE}")).await;
    assert_eq!((reply.status, reply.value("allow")), (405, "POST, OPTIONS"));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_list_only_the_own_host_may_ask() {
    // S0-78
    let plane = start_at("http://BACKEND/whoami", json!([])).await;
    answer_with(&plane, 200, r#"{"user":"ada"}"#);
    let post = |headers: &'static str| {
        let headers = format!("{headers}\r\n{COOKIE}");
        let plane = &plane;
        async move { ask(plane, "POST", &headers).await.status }
    };
    assert_eq!(post("Host: localhost:8080\r\nOrigin: http://localhost:8080").await, 200);
    assert_eq!(post("Host: localhost:8080\r\nOrigin: http://localhost").await, 403);
    assert_eq!(post("Host: localhost:8080\r\nOrigin: https://localhost:8080").await, 403);
    // Behind a proxy that ends TLS the page is an `https` one.
    let proxied = "Host: localhost\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nOrigin: https://localhost";
    assert_eq!(post(proxied).await, 200);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_hear_why_there_is_no_token() {
    // S0-78
    let plane = start().await;
    let csrf_page = "<h1>Forbidden</h1><p>CSRF verification failed. Request aborted.</p>";
    let origin_page = "CSRF Failed: Origin checking failed - https://app.example does not match";
    for (status, body, code, diagnosis) in [
        (401, "", 403, "tokenreq.anonymous"),
        (403, "Authentication required", 403, "tokenreq.anonymous"),
        (302, "", 403, "tokenreq.anonymous"),
        (200, r#"{"user":null}"#, 403, "tokenreq.anonymous"),
        (200, r#"{"user":""}"#, 403, "tokenreq.anonymous"),
        (200, r#"{"user":true}"#, 403, "tokenreq.anonymous"),
        (200, "<html>", 403, "tokenreq.anonymous"),
        (403, csrf_page, 403, "tokenreq.csrf-invalid"),
        (403, origin_page, 403, "tokenreq.csrf-origin"),
        (403, "CSRF token missing.", 403, "tokenreq.csrf-missing"),
        (403, "CSRF cookie not set.", 403, "tokenreq.csrf-cookie"),
        (404, "", 403, "tokenreq.wrong-url"),
        (403, "Rate limit exceeded", 403, "tokenreq.rate-limited"),
        (429, "", 403, "tokenreq.rate-limited"),
        (500, "csrf", 503, "integration.error-status"),
        (503, "", 503, "integration.error-status"),
    ] {
        answer_with(&plane, status, body);
        let reply = ask_as_page(&plane, "").await;
        let refusal = plane.last_token_refusal();
        assert_eq!((reply.status, refusal.diagnosis), (code, diagnosis), "{status} {body}");
        // The page can read why, as far as it may know: status and the text of all such refusals.
        assert_eq!(reply.value("access-control-allow-origin"), PAGE);
        assert!(!reply.body.contains("tokenreq") && !reply.body.contains("csrf"), "{}", reply.body);
    }
    let page = format!("Origin: {PAGE}\r\n");
    answer_with(&plane, 403, csrf_page);
    assert_eq!(ask(&plane, "POST", &format!("{page}{COOKIE}")).await.status, 403);
    assert_eq!(plane.last_token_refusal().diagnosis, "tokenreq.csrf-missing");
    answer_with(&plane, 401, "");
    assert_eq!(ask(&plane, "POST", &format!("{page}Cookie: theme=dark\r\n")).await.status, 403);
    assert_eq!(plane.last_token_refusal().diagnosis, "tokenreq.no-session-cookie");
    assert_eq!(ask(&plane, "POST", &page).await.status, 403);
    assert_eq!(plane.last_token_refusal().diagnosis, "tokenreq.cookies-not-sent");
    plane.assert_untold(&["s3ss10n-0f-ada", "c00k1e-0f-csrf", "t0ken-0f-csrf"]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_down_is_told_as_such() {
    // S0-78
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/whoami", gone.local_addr().unwrap());
    drop(gone);
    let plane = start_at(&url, json!([PAGE])).await;
    let reply = ask_as_page(&plane, "").await;
    assert_eq!((reply.status, plane.last_token_refusal().diagnosis), (503, "integration.refused"));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_gets_so_many_tokens_a_minute() {
    // S0-76, S0-78
    let plane = start().await;
    answer_with(&plane, 200, r#"{"user":"ada"}"#);
    for _ in 0..3 {
        assert_eq!(ask_as_page(&plane, "").await.status, 200);
    }
    let reply = ask_as_page(&plane, "").await;
    assert_eq!((reply.status, plane.last_token_refusal().diagnosis), (429, "tokenreq.rate-limited"));
    assert!(reply.value("retry-after").parse::<u64>().unwrap() > 0);
    assert_eq!(reply.value("access-control-allow-origin"), PAGE);
    answer_with(&plane, 200, r#"{"user":"eve"}"#);
    assert_eq!(ask_as_page(&plane, "").await.status, 200);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_without_an_endpoint_has_none() {
    let plane = Plane::start_with_policy(unlimited(json!({ "admission": { "checks": ["token"] } }))).await;
    let reply = ask_as_page(&plane, "").await;
    assert_eq!((reply.status, plane.last_token_refusal().diagnosis), (403, "tokenreq.wrong-url"));
    assert_eq!(plane.backend.requests.all().len(), 0);
    plane.end().await;
}
