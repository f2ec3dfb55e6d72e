//! What the gateway sees of its backends: answers with known texts, and the ways in which no answer comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::backend::{After, Answer, Gate};
use crate::client::{Client, Reply};
use crate::harness::{Deployed, Plane};

/// An answer with a content type.
fn wire(status: u16, content_type: &str, body: &str) -> Answer {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    Answer::Wire(text, After::Keep)
}

/// A handshake with everything that browsers send.
const BROWSER: &str = "Cookie: a=b\r\nOrigin: https://page.example\r\nUser-Agent: Browser\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate\r\n";

async fn knock(plane: &Plane, query: &str, headers: &str) -> Reply {
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake(query, headers)).await;
    client.reply().await
}

/// What `$connect` is answered with, and the client sees of it: the status and nothing else.
async fn refused(plane: &Plane, answer: Answer, query: &str, headers: &str) -> Reply {
    plane.notices.record.clear();
    plane.backend.plan(move |_| answer.clone());
    knock(plane, query, headers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_connect_name_their_cause() {
    // DX-4
    let plane = Plane::start().await;
    for (status, body, headers, id, signature) in [
        // backend.api-id-unknown, backend.headers-stripped, backend.server-drops-forwarded
        (400, "Invalid request headers", BROWSER, "backend.api-id-unknown", "dj-headers"),
        // backend.connection-headers-missing
        (400, "Missing 3 headers", "", "backend.connection-headers-missing", "dj-conn-headers"),
        // backend.secret-mismatch
        (403, "Invalid request", BROWSER, "backend.secret-mismatch", "dj-secret"),
        // backend.useragent-check
        (400, "Unexpected Useragent", BROWSER, "backend.useragent-check", "dj-agent"),
        // backend.connection-id-format
        (400, "Invalid connection ID", BROWSER, "backend.connection-id-format", "dj-conn-id"),
        // backend.host-not-allowed
        (400, "Host is not in AllowedHosts ['a']", BROWSER, "backend.host-not-allowed", "dj-host"),
        // backend.origin-mismatch
        (400, "Host is not in Origin", BROWSER, "backend.origin-mismatch", "dj-origin"),
        // channel.invalid
        (400, "Invalid channel", BROWSER, "channel.invalid", "dj-channel"),
        // token.session-missing
        (400, "Invalid session", BROWSER, "token.session-missing", "dj-session"),
        // token.missing
        (400, "Invalid or expired token", BROWSER, "token.missing", "dj-token"),
        // backend.route-param-misnamed
        (400, "Invalid request format (1)", BROWSER, "backend.route-param-misnamed", "dj-format"),
        // backend.refused
        (418, "I am a teapot", BROWSER, "backend.refused", ""),
    ] {
        let reply = refused(&plane, wire(status, "text/plain", body), "", headers).await;
        // As at AWS, status and body are the client's.
        assert_eq!((reply.status, reply.body.as_str()), (status, body));
        plane.seen("handshake", id).await;
        let call = plane.seen("integration", "").await;
        assert_eq!((call.text("causeId"), call.text("signature")), (id, signature), "{body}");
        // The backend's own sentence, and what it was asked.
        assert_eq!((call.text("sentence"), call.text("eventType")), (body, "CONNECT"));
        assert_eq!((call.number("status"), call.number("length")), (f64::from(status), body.len() as f64));
        assert_eq!(call.text("contentType"), "text/plain");
        assert_eq!(call.text("target"), format!("http://{}/events", plane.backend.address));
        assert!(call.facts.get("reused").is_some() && call.number("firstByteMs") >= 0.0);
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_decides_between_causes() {
    // DX-4
    let plane = Plane::start().await;
    refused(&plane, wire(400, "text/plain", "Missing 3 headers"), "", "").await;
    let call = plane.seen("integration", "").await;
    assert_eq!(call.list("missingHeaders"), ["cookie", "origin", "sec-websocket-extensions"]);
    refused(&plane, wire(400, "text/plain", "Invalid request headers"), "", BROWSER).await;
    let call = plane.seen("integration", "").await;
    assert_eq!(
        call.list("candidates"),
        ["backend.api-id-unknown", "backend.headers-stripped", "backend.server-drops-forwarded"]
    );
    assert!(call.list("headerNames").contains(&"x-real-ip") && call.list("missingHeaders").is_empty());
    // Whoever was accepted once is known by their API id.
    plane.backend.plan(|_| Answer::Status(200));
    plane.connect().await.close(1000, "").await;
    plane.seen("close", "connections.gone-client-closed").await;
    refused(&plane, wire(400, "text/plain", "Invalid request headers"), "", BROWSER).await;
    let call = plane.seen("integration", "").await;
    assert_eq!(call.list("candidates"), ["backend.headers-stripped", "backend.server-drops-forwarded"]);
    // A token that was there is another matter than one that was not; its value is nobody's.
    let answer = wire(400, "text/plain", "Invalid or expired token");
    refused(&plane, answer, "?ws_token=0123456789abcdef", BROWSER).await;
    let call = plane.seen("integration", "").await;
    assert_eq!((call.text("causeId"), call.text("parameter")), ("token.unknown", "ws_token"));
    assert!(!format!("{call:?}").contains("0123456789abcdef"));
    // Which text has to be on the backend's list.
    refused(&plane, wire(400, "text/plain", "Host is not in AllowedHosts []"), "", BROWSER).await;
    let call = plane.seen("integration", "").await;
    assert_eq!(call.text("host"), plane.backend.address.to_string());
    assert_eq!(call.text("origin"), "https://page.example");
    // backend.headers-missing: without the mapping of the id one of the ten is not sent.
    plane.deploy(&Deployed::changed(|definition| {
        definition.integrations[0].request_parameters = None;
    }));
    refused(&plane, wire(400, "text/plain", "Invalid request headers"), "", BROWSER).await;
    let call = plane.seen("integration", "").await;
    assert_eq!(
        (call.text("causeId"), call.list("missingHeaders")),
        ("backend.headers-missing", vec!["connectionid"])
    );
    plane.seen("handshake", "backend.headers-missing").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_redirects_name_their_cause() {
    // DX-4
    let plane = Plane::start().await;
    let html = "text/html; charset=utf-8";
    for (answer, target, status, id, signature) in [
        // backend.csrf
        (
            wire(403, html, "<h1>Forbidden</h1> CSRF verification failed."),
            "/x",
            403,
            "backend.csrf",
            "dj-csrf",
        ),
        // integration.wrong-url
        (
            wire(404, html, "<p>The requested resource was not found on this server.</p>"),
            "/x/connect",
            404,
            "integration.wrong-url",
            "dj-404",
        ),
        (
            wire(404, "application/json", r#"{"detail":"Not Found"}"#),
            "/x/",
            404,
            "integration.wrong-url",
            "fa-404",
        ),
        // integration.missing-slash
        (
            wire(404, "application/json", r#"{"detail":"Not Found"}"#),
            "/wsconnect",
            404,
            "integration.missing-slash",
            "fa-404",
        ),
        // backend.method
        (wire(405, html, "<p></p>"), "/x", 405, "backend.method", ""),
        // local.tunnel-changed
        (wire(404, html, "<html>ERR_NGROK_3200</html>"), "/x", 404, "local.tunnel-changed", "tunnel-404"),
        // integration.error-status
        (
            wire(502, html, "<hr><center>nginx/1.26.2</center>"),
            "/x",
            502,
            "integration.error-status",
            "lb-502",
        ),
        (
            wire(503, html, "<html>No server is available to handle this request.</html>"),
            "/x",
            503,
            "integration.error-status",
            "lb-503",
        ),
        (wire(500, html, "<h1>Server Error (500)</h1>"), "/x", 500, "integration.error-status", ""),
    ] {
        plane.publish(target);
        let reply = refused(&plane, answer, "", BROWSER).await;
        assert_eq!(reply.status, status, "{id}");
        plane.seen("handshake", id).await;
        let call = plane.seen("integration", "").await;
        assert_eq!((call.text("causeId"), call.text("signature")), (id, signature));
        // Markup is no sentence.
        assert_eq!(
            call.text("sentence"),
            if signature == "fa-404" { r#"{"detail":"Not Found"}"# } else { "" }
        );
        if signature == "lb-503" {
            assert_eq!(call.text("product"), "haproxy");
        }
    }
    let redirect = |to: &str| {
        let head = format!("HTTP/1.1 301 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        Answer::Wire(head, After::Keep)
    };
    // backend.redirect
    refused(&plane, redirect("https://b.example/login/?next=secret"), "", BROWSER).await;
    let call = plane.seen("integration", "").await;
    assert_eq!(
        (call.text("causeId"), call.text("location")),
        ("backend.redirect", "https://b.example/login/")
    );
    refused(&plane, redirect("/x/"), "", BROWSER).await;
    let call = plane.seen("integration", "").await;
    assert_eq!((call.text("causeId"), call.text("signature")), ("integration.missing-slash", "dj-slash"));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_beside_the_cause_has_an_entry_of_its_own() {
    let plane = Plane::start().await;
    // debug.exposed
    let page = "You're seeing this error because you have <code>DEBUG = True</code> in your settings";
    let reply = refused(&plane, wire(500, "text/html", page), "", BROWSER).await;
    assert!(!reply.body.contains("DEBUG"), "{reply:?}");
    plane.seen("handshake", "integration.error-status").await;
    assert_eq!(plane.seen("decided", "debug.exposed").await.text("signature"), "dj-debug");
    // local.tunnel-interstitial: the handshake succeeds, although the backend was never asked.
    plane.notices.record.clear();
    let warning = wire(200, "text/html", "<!DOCTYPE html> ERR_NGROK_6024 You are about to visit");
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => warning.clone(),
        false => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    let remark = plane.seen("decided", "local.tunnel-interstitial").await;
    assert_eq!((remark.text("signature"), remark.text("product")), ("tunnel-page", "ngrok"));
    client.close(1000, "").await;
    plane.end().await;
}

/// The default route answers with this.
fn on_messages(plane: &Plane, answer: Answer) {
    plane.backend.plan(move |request| match request.is_event("MESSAGE") {
        true => answer.clone(),
        false => Answer::Status(200),
    });
}

const TRACE: &str = "Traceback (most recent call last):\n  File \"/srv/secret.py\", line 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tracebacks_do_not_reach_clients() {
    // DX-73, error.detail-leak, reply.backend-failed
    let plane = Plane::start().await;
    on_messages(&plane, wire(500, "text/plain", TRACE));
    let mut client = plane.connect().await;
    client.send("hello").await;
    let frame = client.text().await;
    // DX-71
    let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
    assert_eq!(frame["message"], "Internal server error");
    assert!(frame["connectionId"].is_string() && frame["requestId"].is_string());
    assert_eq!(plane.seen("decided", "error.detail-leak").await.text("signature"), "py-trace");
    let failed = plane.seen("message", "reply.backend-failed").await;
    assert_eq!((failed.text("causeId"), failed.number("replyStatus")), ("integration.error-status", 500.0));
    assert!(!format!("{:?}", plane.notices.record.all()).contains("secret.py"));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_want_the_backends_words() {
    // DX-73
    let plane = Plane::start_with(|settings| settings.integration.hide_backend_errors = false).await;
    let reply = refused(&plane, wire(403, "text/plain", "no"), "", BROWSER).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.value("content-type")), (403, "no", "text/plain"));
    on_messages(&plane, wire(500, "text/plain", TRACE));
    let mut client = plane.connect().await;
    client.send("hello").await;
    assert_eq!(client.text().await, TRACE);
    plane.seen("decided", "error.detail-leak").await;
    plane.end().await;
}

/// A port where nobody listens.
async fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Deploys with the backend at this address, and knocks.
async fn knock_at(plane: &Plane, uri: &str) -> Reply {
    plane.notices.record.clear();
    let uri = uri.to_owned();
    plane.deploy(&Deployed::changed(move |definition| {
        definition.integrations[0].integration_uri = Some(uri.clone());
        definition.integrations[0].timeout_in_millis = 700;
    }));
    knock(plane, "", BROWSER).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_cannot_be_reached() {
    let plane = Plane::start().await;
    // integration.refused
    let free = free_port().await;
    let reply = knock_at(&plane, &format!("http://{free}/ws?secret=1")).await;
    assert_eq!(reply.status, 504);
    plane.seen("handshake", "integration.refused").await;
    let call = plane.seen("integration", "").await;
    assert_eq!(
        (call.text("errorClass"), call.text("target")),
        ("refused", format!("http://{free}/ws").as_str())
    );
    assert!(
        call.list("candidates").contains(&"integration.private-address") && call.number("connectMs") >= 0.0
    );
    // integration.dns
    knock_at(&plane, "http://no-such-host.invalid/").await;
    plane.seen("handshake", "integration.dns").await;
    assert_eq!(plane.seen("integration", "").await.text("host"), "no-such-host.invalid");
    // local.tunnel-changed
    // A label of 64 characters: no resolver has it.
    knock_at(&plane, &format!("http://{}.loca.lt/", "x".repeat(64))).await;
    plane.seen("handshake", "local.tunnel-changed").await;
    // integration.missing
    plane.notices.record.clear();
    plane.deploy(&Deployed::changed(|definition| definition.routes[0].target = None));
    assert_eq!(knock(&plane, "", BROWSER).await.status, 500);
    plane.seen("handshake", "integration.missing").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_does_not_answer_in_time() {
    let plane = Plane::start().await;
    // integration.connect-timeout: a full queue of connections that nobody accepts.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue has no end");
    }
    assert_eq!(knock_at(&plane, &format!("http://{address}/")).await.status, 504);
    plane.seen("handshake", "integration.connect-timeout").await;
    assert_eq!(plane.seen("integration", "").await.text("errorClass"), "timeout");
    drop((waiting, listener));
    // integration.timeout
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |_| Answer::Gated(200, held.clone()));
    let reply = knock_at(&plane, &format!("http://{}/", plane.backend.address)).await;
    assert_eq!((reply.status, reply.json()["message"].as_str()), (504, Some("Endpoint request timed out")));
    plane.seen("handshake", "integration.timeout").await;
    let call = plane.seen("integration", "").await;
    assert_eq!((call.number("limit"), call.facts.get("firstByteMs")), (700.0, None));
    gate.open();
    plane.backend.plan(|_| Answer::Status(200));
    // What the gateway gave up on, the backend may have accepted: nobody is told of an end.
    plane.gateway.drain(Duration::from_secs(20)).await;
}

/// Answers every connection with these bytes as soon as something has come.
async fn parrot(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_speaks_otherwise() {
    let plane = Plane::start().await;
    // local.not-https
    let plain = parrot(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(knock_at(&plane, &format!("https://{plain}/")).await.status, 504);
    plane.seen("handshake", "local.not-https").await;
    assert_eq!(plane.seen("integration", "").await.text("errorClass"), "tls-not-spoken");
    // integration.tls
    let untrusted = tls_server().await;
    knock_at(&plane, &format!("https://{untrusted}/")).await;
    plane.seen("handshake", "integration.tls").await;
    assert_eq!(plane.seen("integration", "").await.text("errorClass"), "certificate");
    // integration.bad-answer
    let garbage = parrot(b"\x00\x01 this is no HTTP\r\n\r\n").await;
    knock_at(&plane, &format!("http://{garbage}/")).await;
    plane.seen("handshake", "integration.bad-answer").await;
    let call = plane.seen("integration", "").await;
    assert_eq!((call.text("errorClass"), call.number("bytesRead")), ("not-http", 22.0));
    plane.end().await;
}

async fn tls_server() -> SocketAddr {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config =
        builder.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_were_forbidden_later_are_not_called() {
    // integration.host-not-allowed
    let plane = Plane::start_with(|settings| {
        settings.integration.allowed_hosts = vec!["*.b.example".to_owned()];
    })
    .await;
    assert_eq!(plane.knock("", BROWSER).await, 504);
    let refused = plane.seen("integration", "").await;
    assert_eq!((refused.text("host"), refused.list("allowedHosts")), ("127.0.0.1", vec!["*.b.example"]));
    plane.seen("handshake", "integration.host-not-allowed").await;
    assert!(plane.backend.requests.all().is_empty());
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_has_no_more_calls_than_it_may() {
    // integration.overload
    let plane = Plane::start_with(|settings| settings.integration.max_parallel = 1).await;
    let gate = Gate::new();
    let held = gate.clone();
    let mut clients = [plane.connect().await, plane.connect().await];
    on_messages(&plane, Answer::Gated(200, held));
    clients[0].send("first").await;
    plane.backend.events("MESSAGE", 1).await;
    clients[1].send("second").await;
    let frame: serde_json::Value = serde_json::from_str(&clients[1].text().await).unwrap();
    assert_eq!(frame["message"], "Internal server error");
    let failed = plane.seen("message", "reply.backend-failed").await;
    assert_eq!(failed.text("causeId"), "integration.overload");
    assert_eq!((failed.number("limit"), failed.number("queue"), failed.number("waitMs")), (1.0, 1.0, 1000.0));
    assert_eq!(plane.knock("", BROWSER).await, 503);
    plane.seen("handshake", "integration.overload").await;
    gate.open();
    clients[1].send("third").await;
    plane.backend.events("MESSAGE", 2).await;
    for mut client in clients {
        client.close(1000, "").await;
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_backend_gives_no_entry() {
    let plane = Plane::start().await;
    on_messages(&plane, wire(200, "application/json", r#"{"ok":true}"#));
    let mut client = plane.connect().await;
    for _ in 0..3 {
        client.send(r#"{"text":"hello"}"#).await;
        client.text().await;
    }
    client.send("plain").await;
    client.text().await;
    client.close(1000, "").await;
    plane.nobody_is_left().await;
    assert!(plane.is_healthy(), "{:?}", plane.notices.record.all());
    // Ordinary successes carry no facts: nobody keeps an entry of theirs.
    let calls = plane.all_seen("integration");
    assert!(calls.len() >= 5, "{calls:?}");
    assert!(calls.iter().all(|call| call.facts.is_empty()), "{calls:?}");
    plane.end().await;
}
