use http::HeaderValue;

use super::*;
use crate::edge::service::Via;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn token_shapes_are_replaced() {
    // DX-7
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    let connect = "0123456789abcdef".repeat(4);
    for (offer, expected) in [
        (
            "chat, v10.stomp, graphql-transport-ws".to_owned(),
            vec!["chat", "v10.stomp", "graphql-transport-ws"],
        ),
        (format!("tidegate.bearer, {jwt}"), vec!["tidegate.bearer", "<token>"]),
        ("tidegate.bearer, short, chat".to_owned(), vec!["tidegate.bearer", "<token>", "chat"]),
        (format!("chat, {connect}"), vec!["chat", "<token>"]),
        (format!("Bearer.{jwt}"), vec!["<token>"]),
        ("base64url.bearer.authorization.k8s.io.YmVhcmVyLTEyMzQ1Njc4OTA".to_owned(), vec!["<token>"]),
        ("json.reliable.webpubsub.azure.v1".to_owned(), vec!["json.reliable.webpubsub.azure.v1"]),
    ] {
        assert_eq!(offered(&headers(&[("sec-websocket-protocol", &offer)])), expected, "{offer}");
    }
    assert_eq!(path_without_tokens("/_aws/execute-api/k3x9q2m7vd/prod"), "/_aws/execute-api/k3x9q2m7vd/prod");
    assert_eq!(path_without_tokens(&format!("/chat/{jwt}/x")), "/chat/<token>/x");
}

#[test]
fn facts_hold_names_and_no_values() {
    // DX-7, DX-10
    let head_headers = headers(&[
        ("host", "ws.example.com"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("cookie", "sessionid=s3cr3t-0f-ada; theme=dark"),
        ("authorization", "Bearer t0k3n-0f-ada"),
        ("origin", "https://app.example"),
    ]);
    let uri: Uri = "/chat?ws_token=v4lue-0f-t0ken&channel=general&=x".parse().unwrap();
    let head = Head { method: &Method::GET, uri: &uri, version: Version::HTTP_11, headers: &head_headers };
    let peer = Peer {
        address: "192.0.2.1:4711".parse().unwrap(),
        listener: Via::Plain,
        tls: None,
        listener_port: 8080,
        n_asked: std::sync::atomic::AtomicUsize::new(0),
        spelling: parking_lot::Mutex::default(),
    };
    let client = ClientAddress::new(peer.address.ip(), false, 8080, &head_headers, |_| false);
    let mut facts = Facts::none();
    of_peer(&mut facts, &peer);
    of_head(&mut facts, client.ip, false, &head);
    let text = format!("{facts:?}");
    for secret in ["s3cr3t", "t0k3n", "v4lue", "general", "dark"] {
        assert!(!text.contains(secret), "{text}");
    }
    let facts = facts.into_map();
    assert_eq!(facts["queryNames"], serde_json::json!(["ws_token", "channel", ""]));
    assert_eq!(facts["cookieNames"], serde_json::json!(["sessionid", "theme"]));
    assert_eq!(facts["path"], "/chat");
    assert_eq!(facts["peerPort"], 4711);
    assert_eq!((&facts["upgradePresent"], &facts["connectionPresent"]), (&true.into(), &false.into()));
    assert_eq!(facts["urlLength"], uri.to_string().len());
}

#[test]
fn only_named_values_of_the_query_are_facts() {
    // DX-10
    let named: Vec<Box<str>> = vec!["room".into()];
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    let query = format!("ws_token=s3cret&channel=general%20talk&v=2&room={jwt}&ROOM=x&channels=y&v2=z");
    let values = Value::Object(shown_values(&query, &named));
    assert_eq!(values, serde_json::json!({ "channel": "general talk", "v": "2", "room": "<token>" }));
    assert_eq!(Value::Object(shown_values("room=a&x=b", &[])), serde_json::json!({}));
}

/// Not a test of correctness: run it with `--release -- --ignored --nocapture` for the cost of one attempt.
#[test]
#[ignore = "a measurement"]
fn cost_of_gathering() {
    let head_headers = headers(&[
        ("host", "k3x9q2m7vd.execute-api.us-east-1.amazonaws.com"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("pragma", "no-cache"),
        ("cache-control", "no-cache"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36"),
        ("origin", "https://app.example"),
        ("sec-websocket-version", "13"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en-US,en;q=0.9"),
        ("cookie", "sessionid=0123456789abcdef; csrftoken=0123456789abcdef; theme=dark"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ]);
    let uri: Uri = "/prod?ws_token=0123456789abcdef&channel=general".parse().unwrap();
    let head = Head { method: &Method::GET, uri: &uri, version: Version::HTTP_11, headers: &head_headers };
    let client = ClientAddress::new("192.0.2.1".parse().unwrap(), false, 8080, &head_headers, |_| false);
    let n_rounds = 200_000;
    let started = Instant::now();
    for _ in 0..n_rounds {
        let mut facts = Facts::none();
        of_head(&mut facts, client.ip, false, &head);
        std::hint::black_box(facts);
    }
    eprintln!("{} ns", started.elapsed().as_nanos() / n_rounds);
}
