//! Requests that lead nowhere or are no handshakes: what the client is told, and what operators can prove by it.

use std::sync::Arc;

use serde_json::json;
use tidegate_core::notice::Notice;
use tokio::io::AsyncWriteExt as _;

use crate::backend::{Answer, Gate};
use crate::client::{Client, PATH};
use crate::harness::{API_ID, Plane, Setup};
use crate::told::{exchange, parse, upgrade};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_of_an_attempt_are_names_and_numbers() {
    // DX-7, DX-10, DX-70
    let plane = Plane::start().await;
    plane.backend.plan(|_| Answer::Status(403));
    let secret = "s3cr3t-0f-the-client";
    let told = plane
        .told(&upgrade(
            &format!("{PATH}?ws_token={secret}&channel=general-room&view=an-odd-view&_tgref=reference-1"),
            "localhost",
            &format!(
                "Origin: https://app.example\r\nUser-Agent: Browser/1\r\nCookie: sessionid={secret}\r\n\
                 Sec-WebSocket-Protocol: tidegate.bearer, {secret}, chat\r\nX-Forwarded-Host: ws.example\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer {secret}\r\n"
            ),
        ))
        .await;
    assert_eq!((told.status, told.id), (403, "backend.refused"));
    let facts = &told.facts;
    for (name, expected) in [
        ("peer", json!("127.0.0.1")),
        ("clientAddress", json!("127.0.0.1")),
        ("clientAddressTrusted", json!(false)),
        ("listener", json!("plain")),
        ("httpVersion", json!("1.1")),
        ("method", json!("GET")),
        ("host", json!("localhost")),
        ("forwardedHost", json!("ws.example")),
        ("path", json!(PATH)),
        ("queryNames", json!(["ws_token", "channel", "view", "_tgref"])),
        // Of the values only those on the list.
        ("queryValues", json!({ "channel": "general-room" })),
        ("cookieNames", json!(["sessionid"])),
        ("origin", json!("https://app.example")),
        ("userAgent", json!("Browser/1")),
        ("offeredSubprotocols", json!(["tidegate.bearer", "<token>", "chat"])),
        ("extensions", json!("permessage-deflate")),
        ("upgradePresent", json!(true)),
        ("connectionPresent", json!(true)),
        ("keyPresent", json!(true)),
        ("version", json!("13")),
        ("integrationStatus", json!(403)),
        ("status", json!(403)),
    ] {
        assert_eq!(facts[name], expected, "{name}");
    }
    let names = facts["headerNames"].as_array().unwrap();
    assert!(names.contains(&json!("authorization")) && names.contains(&json!("cookie")), "{names:?}");
    assert!(facts["integrationMs"].is_u64() && facts["peerPort"].is_u64());
    assert!(facts["headBytes"].as_u64() > facts["urlLength"].as_u64());
    let place = &told.place;
    assert_eq!((&*place.api_id, place.client_ref.as_deref()), (API_ID, Some("reference-1")));
    assert!(place.connection_id.is_some() && place.address.is_some() && place.route_key.is_some());
    plane.assert_untold(&[secret, "an-odd-view"]);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opened_connection_has_its_facts_too() {
    // DX-7
    let plane = Plane::start().await;
    let mut client = Client::dial(plane.address, None).await;
    client.write(upgrade(PATH, "localhost", "Origin: https://app.example\r\n").as_bytes()).await;
    let reply = client.reply().await;
    let is_opened = |notice: &Notice| matches!(notice, Notice::ConnectionOpened { .. });
    let opened = plane.notices.record.until("an open connection", 1, is_opened).await;
    let [Notice::ConnectionOpened { place, facts, .. }] = &opened[..] else { panic!("{opened:?}") };
    assert_eq!(place.request_id.unwrap().to_string(), reply.value("tidegate-request-id"));
    assert_eq!(facts.get("status"), Some(json!(101)));
    assert_eq!(facts.get("origin"), Some(json!("https://app.example")));
    assert_eq!(facts.get("integrationStatus"), Some(json!(200)));
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_lead_nowhere_say_what_was_meant() {
    let plane = Plane::start().await;
    let told = plane.told(&upgrade("/_aws/execute-api/tide000001/pro", "localhost", "")).await;
    // stage.unknown
    assert_eq!((told.status, told.id, &told.facts["nearest"]), (403, "stage.unknown", &json!("prod")));
    assert_eq!(told.facts["known"], json!(["prod"]));
    // AG-3: the answer of the real service, to the letter.
    assert_eq!(told.reply.body, r#"{"message":"Forbidden"}"#);
    assert_eq!(told.reply.value("x-amzn-requestid").len(), 36);

    // api.unknown
    let told = plane.told(&upgrade("/_aws/execute-api/tide000002/prod", "localhost", "")).await;
    assert_eq!((told.status, told.id, &told.facts["similar"]), (403, "api.unknown", &json!(["tide000001"])));
    let told = plane.told(&upgrade("/prod", "tide00001.localhost", "")).await;
    assert_eq!((told.id, &told.facts["nearest"]), ("api.unknown", &json!("tide000001")));
    let told = plane.told(&upgrade("/prod", "otherapi99.localhost", "")).await;
    assert_eq!(
        (told.id, &told.facts["similar"], told.facts.get("nearest")),
        ("api.unknown", &json!([]), None)
    );

    // path.missing-stage
    let told = plane.told(&upgrade("/", "tide000001.localhost", "")).await;
    assert_eq!((told.status, told.id), (403, "path.missing-stage"));
    assert_eq!(told.facts["known"], json!(["prod"]));

    // path.double-prefix
    let told = plane.told(&upgrade("/prod/prod", "tide000001.localhost", "")).await;
    assert_eq!((told.status, told.id, &told.facts["nearest"]), (403, "path.double-prefix", &json!("/prod")));
    let twice = format!("/_aws/execute-api{PATH}");
    let told = plane.told(&upgrade(&twice, "localhost", "")).await;
    assert_eq!((told.id, &told.facts["nearest"]), ("path.double-prefix", &json!(PATH)));

    // handshake.wrong-path
    let told = plane.told(&upgrade("/_aws/execute_api/tide000001/prod", "localhost", "")).await;
    assert_eq!((told.status, told.id, &told.facts["nearest"]), (403, "handshake.wrong-path", &json!(PATH)));
    let told = plane.told(&upgrade("/somewhere/else", "localhost", "")).await;
    assert_eq!((told.id, told.facts.get("nearest")), ("handshake.wrong-path", None));

    // stage.not-deployed
    plane.undeploy();
    let told = plane.told(&upgrade(PATH, "localhost", "")).await;
    assert_eq!((told.status, told.id, &*told.place.stage), (403, "stage.not-deployed", "prod"));
    // api.default-endpoint-disabled
    plane.deploy_changed(|definition| definition.api.disable_execute_api_endpoint = true);
    let told = plane.told(&upgrade(PATH, "localhost", "")).await;
    assert_eq!((told.status, told.id), (403, "api.default-endpoint-disabled"));
    assert_eq!(plane.backend.requests.all().len(), 0);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_lead_nowhere_say_what_was_meant() {
    let plane = Plane::start().await;
    plane.deploy_domains(&[("ws.example.com", &["chat", "alerts"]), ("bare.example.com", &[])]);
    // domain.mapping-path
    let told = plane.told(&upgrade("/chta", "ws.example.com", "")).await;
    assert_eq!((told.status, told.id, &told.facts["nearest"]), (403, "domain.mapping-path", &json!("chat")));
    assert_eq!(told.facts["known"], json!(["alerts", "chat"]));
    // domain.no-mapping
    let told = plane.told(&upgrade("/chat", "bare.example.com", "")).await;
    assert_eq!((told.status, told.id), (403, "domain.no-mapping"));
    assert_eq!(told.facts["domain"], "bare.example.com");
    // domain.unknown-host
    let told = plane.told(&upgrade("/chat", "w.example.com", "")).await;
    assert_eq!((told.status, told.id), (403, "domain.unknown-host"));
    assert_eq!(told.facts["nearest"], "ws.example.com");
    let told = plane.told(&upgrade("/prod", "tide000009.gateway.example", "")).await;
    assert_eq!(told.facts["nearest"], "tide000001.gateway.example");
    // proxy.host-rewritten
    let told = plane.told(&upgrade("/chat", "backend:8080", "X-Forwarded-Host: ws.example.com\r\n")).await;
    assert_eq!((told.status, told.id), (403, "proxy.host-rewritten"));
    assert_eq!(
        (&told.facts["host"], &told.facts["forwardedHost"]),
        (&json!("backend:8080"), &json!("ws.example.com"))
    );
    // A forwarded host that leads nowhere either proves nothing.
    let told = plane.told(&upgrade("/chat", "backend:8080", "X-Forwarded-Host: elsewhere.example\r\n")).await;
    assert_eq!(told.id, "domain.unknown-host");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_no_handshakes_say_why() {
    let plane = Plane::start().await;
    let plain = |line: &str, more: &str| format!("{line}\r\nHost: localhost\r\n{more}\r\n");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let get = format!("GET {PATH} HTTP/1.1");
    let both = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for (request, status, id) in [
        // handshake.not-websocket
        (plain(&get, ""), 426, "handshake.not-websocket"),
        // proxy.upgrade-stripped
        (plain(&get, key), 426, "proxy.upgrade-stripped"),
        (
            plain(&format!("GET {PATH} HTTP/1.0"), &format!("{key}Connection: close\r\n")),
            426,
            "proxy.upgrade-stripped",
        ),
        // proxy.http10
        (plain(&format!("GET {PATH} HTTP/1.0"), &format!("{key}{both}")), 426, "proxy.http10"),
        // handshake.malformed
        (plain(&get, both), 426, "handshake.malformed"),
        (plain(&get, &format!("{both}Sec-WebSocket-Version: 8\r\n")), 426, "handshake.malformed"),
        (plain(&get, &format!("{both}Sec-WebSocket-Version: 13\r\n")), 400, "handshake.malformed"),
        (
            plain(&get, &format!("{both}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n")),
            400,
            "handshake.malformed",
        ),
        (
            plain(&format!("POST {PATH} HTTP/1.1"), &format!("{both}{key}Content-Length: 0\r\n")),
            426,
            "handshake.malformed",
        ),
        // client.socketio
        (plain(&format!("GET {PATH}?EIO=4&transport=polling HTTP/1.1"), ""), 426, "client.socketio"),
        (
            plain(&format!("GET {PATH}/socket.io/?EIO=4&transport=polling HTTP/1.1"), ""),
            403,
            "client.socketio",
        ),
        // client.other-protocol
        (plain(&format!("GET {PATH}/info?t=1 HTTP/1.1"), ""), 403, "client.other-protocol"),
        (
            plain(&format!("POST {PATH}/negotiate?negotiateVersion=1 HTTP/1.1"), "Content-Length: 0\r\n"),
            403,
            "client.other-protocol",
        ),
        (plain("GET /elsewhere/info HTTP/1.1", ""), 403, "handshake.wrong-path"),
    ] {
        let told = plane.told(&request).await;
        assert_eq!((told.status, told.id), (status, id), "{request}");
        let text = match status {
            400 => "Bad Request",
            403 => "Forbidden",
            _ => "Upgrade Required",
        };
        // DX-70
        assert_eq!(told.reply.json()["message"], text, "{request}");
        assert_eq!(told.facts["upgradePresent"], request.contains("Upgrade: websocket"), "{request}");
        assert_eq!(told.facts["keyPresent"], request.contains("Sec-WebSocket-Key"), "{request}");
        assert_eq!(told.facts["httpVersion"], if request.contains("HTTP/1.0") { "1.0" } else { "1.1" });
        let wants_13 = status == 426;
        assert_eq!(told.reply.value("sec-websocket-version") == "13", wants_13, "{request}");
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_cannot_be_read_are_answered_like_all_others() {
    // DX-70
    let plane = Plane::start().await;
    // handshake.url-too-long
    let told = plane.told(&upgrade(&format!("{PATH}?{}", "x".repeat(4200)), "localhost", "")).await;
    assert_eq!((told.status, told.id, &told.facts["limit"]), (414, "handshake.url-too-long", &json!(4096)));
    assert!(told.facts["urlLength"].as_u64().unwrap() > 4200);
    assert_eq!(told.reply.json()["message"], "Request too large");
    let cookies = format!("Cookie: {}\r\n", "x".repeat(60_000));
    let told =
        plane.told_of(parse(&exchange(plane.address, upgrade(PATH, "localhost", &cookies).as_bytes()).await));
    assert_eq!((told.status, told.id, &told.facts["limit"]), (431, "handshake.url-too-long", &json!(16384)));
    assert!(told.facts["headBytes"].as_u64().unwrap() >= 16384);
    assert_eq!(told.reply.json()["message"], "Request too large");
    // handshake.malformed
    for bytes in
        ["GET / HTTP/1.1\r\nno header\r\n\r\n", "\u{1}\u{2}\u{3}\r\n\r\n", "GET /\r\nHTTP/1.1\r\n\r\n"]
    {
        let told = plane.told_of(parse(&exchange(plane.address, bytes.as_bytes()).await));
        assert_eq!((told.status, told.id), (400, "handshake.malformed"), "{bytes:?}");
        assert_eq!(told.reply.json()["message"], "Bad Request");
        assert_eq!((&told.facts["listener"], &told.facts["peer"]), (&json!("plain"), &json!("127.0.0.1")));
    }
    // proxy.h2-upstream
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let told = plane.told_of(parse(&exchange(plane.address, preface).await));
    assert_eq!((told.id, &told.facts["httpVersion"]), ("proxy.h2-upstream", &json!("2")));
    // A second request over one connection is told apart from the first, which was fine.
    let two = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense\r\n\r\n");
    let answers = exchange(plane.address, two.as_bytes()).await;
    let answers = String::from_utf8(answers).unwrap();
    let second = answers.rfind("HTTP/1.1 ").unwrap();
    assert_eq!(plane.told_of(parse(&answers.as_bytes()[second..])).id, "handshake.malformed");
    assert!(answers.starts_with("HTTP/1.1 426") && second > 0, "{answers}");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_plain_text_are_told_apart() {
    let mut plane = Plane::start().await;
    let (address, _) = plane.listen_tls(rustls::ALL_VERSIONS).await;
    // handshake.plain-on-tls
    let answer = parse(&exchange(address, upgrade(PATH, "localhost", "").as_bytes()).await);
    let told = plane.told_of(answer);
    assert_eq!(
        (told.status, told.id, &told.facts["listener"]),
        (400, "handshake.plain-on-tls", &json!("tls"))
    );
    assert_eq!(told.reply.json()["message"], "Bad Request");
    plane.end().await;

    // handshake.tls-on-plain
    let plane = Plane::start().await;
    let mut hello = vec![0x16, 3, 1, 0, 100, 1, 0, 0, 96, 3, 3];
    hello.resize(105, 0);
    assert!(exchange(plane.address, &hello).await.is_empty(), "nothing that a TLS client could read");
    let (id, status, facts) = plane.silently_refused().await;
    assert_eq!((id, status, &facts["listener"]), ("handshake.tls-on-plain", 0, &json!("plain")));
    assert_eq!((facts.get("status"), &facts["offeredTlsVersion"]), (None, &json!("1.2 or later")));
    plane.end().await;
}

fn tls_client(
    certificate: rustls::pki_types::CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    has_sni: bool,
) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = has_sni;
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_cannot_be_agreed_on_is_told() {
    let mut plane = Plane::start().await;
    let (address, certificate) = plane.listen_tls(&[&rustls::version::TLS13]).await;
    // tls.no-common-version
    let name = || rustls::pki_types::ServerName::try_from("ws.example.com").unwrap();
    let old = tls_client(certificate.clone(), &[&rustls::version::TLS12], true);
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(old.connect(name(), stream).await.is_err());
    let (id, status, facts) = plane.silently_refused().await;
    assert_eq!((id, status), ("tls.no-common-version", 0));
    assert_eq!((&facts["offeredTlsVersion"], &facts["listener"]), (&json!("1.2 or later"), &json!("tls")));
    // A client that only does not trust the certificate is no such case.
    let stranger = rcgen::generate_simple_self_signed(["ws.example.com".to_owned()]).unwrap();
    let strict = tls_client(stranger.cert.der().clone(), rustls::ALL_VERSIONS, true);
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    assert!(strict.connect(name(), stream).await.is_err());
    // tls.no-sni
    let knock = async |has_sni: bool, host: &str| {
        let connector = tls_client(certificate.clone(), rustls::ALL_VERSIONS, has_sni);
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut stream = connector.connect(name(), stream).await.unwrap();
        stream.write_all(upgrade(PATH, host, "").as_bytes()).await.unwrap();
        let mut head = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head).await.unwrap();
        assert!(head.ends_with(b"101"));
    };
    knock(true, "ws.example.com").await;
    knock(false, "127.0.0.1").await;
    assert!(plane.remarks("tls.no-sni").is_empty());
    for _ in 0..2 {
        knock(false, "ws.example.com").await;
    }
    let remarks = plane.remarks("tls.no-sni");
    assert_eq!((remarks.len(), &remarks[0].2["host"]), (1, &json!("ws.example.com")));
    let refusals = plane.notices.record.count(|notice| matches!(notice, Notice::HandshakeRefused { .. }));
    assert_eq!(refusals, 1);
    let is_tls = |notice: &Notice| matches!(notice, Notice::ConnectionOpened { facts, .. } if facts.get("tlsVersion") == Some(json!("1.3")) && facts.get("sni") == Some(json!("ws.example.com")));
    assert_eq!(plane.notices.record.count(is_tls), 1);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gives_up_is_told_with_its_patience() {
    // handshake.client-gave-up
    let plane = Plane::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |request| match request.is_event("CONNECT") {
        true => Answer::Gated(200, held.clone()),
        false => Answer::Status(200),
    });
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("", "")).await;
    plane.backend.events("CONNECT", 1).await;
    drop(client);
    // Long enough that the time of the answer and the time of the leave cannot be taken for each other.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    gate.open();
    plane.nobody_is_left().await;
    let (id, status, facts) = plane.silently_refused().await;
    assert_eq!((id, status), ("handshake.client-gave-up", 499));
    assert!(facts["waitedMs"].as_u64().unwrap() < 600, "{facts:?}");
    assert!(facts["integrationMs"].as_u64().unwrap() >= 500, "{facts:?}");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_for_the_admin_listener_are_told_so() {
    let plane = Plane::start().await;
    let signed = "Authorization: AWS4-HMAC-SHA256 Credential=x\r\nContent-Length: 0\r\n";
    // provision.wrong-endpoint
    let told = plane.told(&format!("POST /v2/apis HTTP/1.1\r\nHost: localhost\r\n{signed}\r\n")).await;
    assert_eq!((told.status, told.id), (404, "provision.wrong-endpoint"));
    assert_eq!(told.reply.json()["message"], "Not Found");
    // management.wrong-listener
    let told = plane.told(&format!("GET /api/status HTTP/1.1\r\nHost: localhost\r\n{signed}\r\n")).await;
    assert_eq!((told.status, told.id), (404, "management.wrong-listener"));
    // A page's path is anybody's.
    let told = plane.told("GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((told.status, told.id), (403, "handshake.wrong-path"));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_nodes_say_so() {
    // limit.connections
    let plane = Plane::start_from(Setup { max_connections: 1, ..Setup::default() }).await;
    let mut client = plane.connect().await;
    let told = plane.told(&upgrade(PATH, "localhost", "")).await;
    assert_eq!((told.status, told.id), (503, "limit.connections"));
    assert_eq!((&told.facts["limit"], &told.facts["count"]), (&json!(1), &json!(1)));
    assert_eq!(told.reply.json()["message"], "Service Unavailable");
    client.close(1000, "").await;
    plane.end().await;
}
