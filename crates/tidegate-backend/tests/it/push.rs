//! What goes out to the gateway, and what its answers become.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};
use tidegate_backend::{
    AdminClient, ClientError, ConnectionFilter, MAX_MESSAGE, PushClient, PushError, PushOptions, SigV4,
    TokenRequest,
};

use crate::gateway::{FakeGateway, Seen};

const ID: &str = "awG5LZAAAAIcZCg=";
const PREFIX: &str = "/_aws/execute-api/api/dev";

fn client(gateway: &FakeGateway) -> PushClient {
    PushClient::new(&gateway.url).expect("a client").bearer("the-key").expect("a key")
}

fn admin(gateway: &FakeGateway) -> AdminClient {
    let url = format!("http://{}", gateway.authority);
    AdminClient::new(&url).expect("a client").bearer("the-key").expect("a key")
}

fn check_line(seen: &Seen, expected: &str) {
    assert_eq!(seen.line, expected);
    assert_eq!(seen.headers["authorization"], "Bearer the-key");
}

#[tokio::test]
async fn one_connection() {
    // S0-84, S0-87
    let gateway = FakeGateway::start(200, &[], "").await;
    client(&gateway).post(ID, "hello").await.unwrap();
    let seen = gateway.only();
    check_line(&seen, &format!("POST {PREFIX}/@connections/awG5LZAAAAIcZCg%3D"));
    assert_eq!(
        (seen.body.as_slice(), &seen.headers["content-length"]),
        (b"hello".as_slice(), &"5".parse().unwrap())
    );
    assert_eq!(seen.headers["host"], *gateway.authority);

    let answer = r#"{"identity":{"sourceIp":"127.0.0.1","userAgent":"x"},"connectedAt":"a","lastActiveAt":"b","later":1}"#;
    let gateway = FakeGateway::start(200, &[], answer).await;
    let info = client(&gateway).get(ID).await.unwrap();
    check_line(&gateway.only(), &format!("GET {PREFIX}/@connections/awG5LZAAAAIcZCg%3D"));
    assert_eq!((info.identity.source_ip.as_str(), info.connected_at.as_str()), ("127.0.0.1", "a"));

    let gateway = FakeGateway::start(204, &[], "").await;
    client(&gateway).delete(ID).await.unwrap();
    check_line(&gateway.only(), &format!("DELETE {PREFIX}/@connections/awG5LZAAAAIcZCg%3D"));
}

#[tokio::test]
async fn many_connections() {
    // S0-88
    let answer = r#"{"delivered":3,"gone":1,"slow":2,"messageId":"m-1","goneIds":["a="]}"#;
    let options = PushOptions {
        except: vec![ID.to_owned(), "b=".to_owned()],
        idempotency_key: Some("order-7".to_owned()),
        want_gone_ids: true,
    };
    let gateway = FakeGateway::start(200, &[], answer).await;
    let counts = client(&gateway).push_channel("general", "hi", &options).await.unwrap();
    assert_eq!((counts.delivered, counts.gone, counts.slow), (3, 1, 2));
    assert_eq!((counts.message_id.as_deref(), counts.gone_ids), (Some("m-1"), vec!["a=".to_owned()]));
    let seen = gateway.only();
    let query = "except=awG5LZAAAAIcZCg%3D&except=b%3D&goneIds=true";
    check_line(&seen, &format!("POST {PREFIX}/@channels/general?{query}"));
    assert_eq!(
        (seen.body.as_slice(), &seen.headers["idempotency-key"]),
        (b"hi".as_slice(), &"order-7".parse().unwrap())
    );

    let short = r#"{"delivered":0,"gone":0,"slow":0}"#;
    for (user, path) in
        [("ann@example.com/ä", "ann%40example.com%2F%C3%A4"), ("..", "%2E%2E"), ("a?b#c d", "a%3Fb%23c%20d")]
    {
        let gateway = FakeGateway::start(200, &[], short).await;
        let counts = client(&gateway).push_user(user, "hi", &PushOptions::default()).await.unwrap();
        assert_eq!((counts.message_id, counts.gone_ids.len()), (None, 0));
        let seen = gateway.only();
        check_line(&seen, &format!("POST {PREFIX}/@users/{path}"));
        assert!(!seen.headers.contains_key("idempotency-key"));
    }

    let gateway = FakeGateway::start(200, &[], short).await;
    client(&gateway).broadcast("hi", &PushOptions::except(ID)).await.unwrap();
    check_line(&gateway.only(), &format!("POST {PREFIX}/@broadcast?except=awG5LZAAAAIcZCg%3D"));
}

#[tokio::test]
async fn lists_and_channels() {
    // S0-54, S0-58
    let answer = r#"{"connections":[{"connectionId":"a=","user":"u","session":null,"channels":["x"],"sourceIp":"::1"},
        {"connectionId":"b="}],"count":9,"nextToken":"n"}"#;
    let gateway = FakeGateway::start(200, &[], answer).await;
    let filter = ConnectionFilter {
        channel: Some("general".to_owned()),
        user: Some("a&b".to_owned()),
        session: Some("s".to_owned()),
        limit: Some(2),
        next_token: Some("t+/=".to_owned()),
    };
    let page = client(&gateway).list(&filter).await.unwrap();
    let query = "channel=general&user=a%26b&session=s&limit=2&nextToken=t%2B%2F%3D";
    check_line(&gateway.only(), &format!("GET {PREFIX}/@connections?{query}"));
    assert_eq!((page.count, page.next_token.as_deref()), (9, Some("n")));
    assert_eq!(page.connections[0].user.as_deref(), Some("u"));
    assert_eq!(
        (page.connections[0].session.as_deref(), &page.connections[0].channels),
        (None, &vec!["x".to_owned()])
    );
    assert_eq!(page.connections[1].connection_id, "b=");

    let gateway = FakeGateway::start(204, &[], "").await;
    client(&gateway).join("general", ID).await.unwrap();
    check_line(&gateway.only(), &format!("PUT {PREFIX}/@channels/general/connections/awG5LZAAAAIcZCg%3D"));
    let gateway = FakeGateway::start(204, &[], "").await;
    client(&gateway).leave("general", ID).await.unwrap();
    check_line(&gateway.only(), &format!("DELETE {PREFIX}/@channels/general/connections/awG5LZAAAAIcZCg%3D"));
}

#[tokio::test]
async fn tokens_and_the_end_of_sessions() {
    // S0-60, S0-72
    let answer =
        r#"{"token":"tok","expires_in":60,"expires_at":"2026-11-21T16:00:00Z","url":"wss://x?ws_token=tok"}"#;
    let gateway = FakeGateway::start(200, &[], answer).await;
    let mut request = TokenRequest::new("api", "dev", "u-1");
    let token = admin(&gateway).issue_token(&request).await.unwrap();
    assert_eq!((token.token.as_str(), token.expires_in, token.url.is_some()), ("tok", 60, true));
    assert!(!format!("{token:?}").contains("tok\""), "{token:?}");
    let handed_on: Value = serde_json::to_value(&token).unwrap();
    assert_eq!(handed_on, serde_json::from_str::<Value>(answer).unwrap());
    let seen = gateway.only();
    check_line(&seen, "POST /api/tokens");
    let sent: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(sent, json!({"api": "api", "stage": "dev", "user": "u-1"}));

    request.session = Some("login".to_owned());
    request.roles = vec!["staff".to_owned()];
    request.claims.insert("tenant".to_owned(), json!(4));
    request.channels = Some(Vec::new());
    request.origin = Some("https://a.example".to_owned());
    request.address = Some("203.0.113.7".to_owned());
    request.lifetime = Some(30);
    let gateway = FakeGateway::start(200, &[], r#"{"token":"t","expires_in":30}"#).await;
    admin(&gateway).issue_token(&request).await.unwrap();
    let sent: Value = serde_json::from_slice(&gateway.only().body).unwrap();
    let expected = json!({"api": "api", "stage": "dev", "user": "u-1", "session": "login", "roles": ["staff"],
        "claims": {"tenant": 4}, "channels": [], "origin": "https://a.example", "address": "203.0.113.7", "lifetime": 30});
    assert_eq!(sent, expected);

    let gateway = FakeGateway::start(200, &[], "{}").await;
    admin(&gateway).end_session("a/b").await.unwrap();
    check_line(&gateway.only(), "POST /api/sessions/a%2Fb/end");
    let gateway = FakeGateway::start(204, &[], "").await;
    admin(&gateway).end_user("u 1").await.unwrap();
    check_line(&gateway.only(), "POST /api/users/u%201/end");
}

async fn error_of(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> PushError {
    let gateway = FakeGateway::start(status, headers, body).await;
    let error = client(&gateway).post(ID, "hello").await.expect_err("a refusal");
    assert_eq!(gateway.count(), 1, "nothing is tried twice");
    error
}

#[tokio::test]
async fn errors_have_a_type_each() {
    let error = error_of(410, &[("x-tidegate-diagnosis", "connections.gone-idle")], "").await;
    assert!(matches!(&error, PushError::Gone { diagnosis: Some(text) } if text == "connections.gone-idle"));
    assert!(matches!(error_of(410, &[], "").await, PushError::Gone { diagnosis: None }));
    let error = error_of(413, &[], r#"{"message":"Message too long"}"#).await;
    assert!(matches!(error, PushError::TooLarge { size: 5, limit: None }), "{error:?}");
    let error = error_of(429, &[("retry-after", "3")], "").await;
    assert!(matches!(error, PushError::Slow { retry_after: Some(3) }), "{error:?}");
    for status in [401, 403] {
        let error = error_of(status, &[], r#"{"message":"Forbidden"}"#).await;
        assert!(matches!(&error, PushError::Denied { text } if text == "Forbidden"), "{error:?}");
    }
    let error = error_of(403, &[], r#"{"Message":"User: x is not authorized"}"#).await;
    assert!(matches!(&error, PushError::Denied { text } if text == "User: x is not authorized"), "{error:?}");
    for status in [302, 400, 404, 500, 503] {
        let error = error_of(status, &[("location", "/elsewhere")], "plain").await;
        assert!(
            matches!(&error, PushError::Other { status: got, text } if got.as_u16() == status && text == "plain"),
            "{error:?}"
        );
    }
    let gateway = FakeGateway::start(200, &[], "not json").await;
    assert!(matches!(client(&gateway).get(ID).await.unwrap_err(), PushError::Answer(_)));
}

#[tokio::test]
async fn too_long_messages_are_not_sent() {
    // S0-91
    let gateway = FakeGateway::start(200, &[], "{}").await;
    let push = client(&gateway);
    let error = push.post(ID, vec![b'x'; MAX_MESSAGE + 1]).await.unwrap_err();
    assert_eq!(error.to_string(), "message of 131073 bytes is too long, the limit is 131072");
    let error = push.broadcast(vec![b'x'; MAX_MESSAGE + 1], &PushOptions::default()).await.unwrap_err();
    assert!(matches!(error, PushError::TooLarge { size: 131_073, limit: Some(131_072) }));
    assert_eq!(gateway.count(), 0);
    push.post(ID, vec![b'x'; MAX_MESSAGE]).await.unwrap();
    push.max_message(4).post(ID, "hello").await.unwrap_err();
    assert_eq!(gateway.count(), 1);
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_not_waited_for() {
    let gateway = FakeGateway::start(0, &[], "").await;
    let push = client(&gateway).timeout(Duration::from_millis(50));
    assert!(matches!(push.post(ID, "x").await.unwrap_err(), PushError::Timeout(_)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = PushClient::new(&url).unwrap().post(ID, "x").await.unwrap_err();
    assert!(matches!(error, PushError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn signatures_are_those_of_the_sdk_as_they_arrive() {
    // S0-35
    let gateway = FakeGateway::start(200, &[], r#"{"delivered":1}"#).await;
    let signer = SigV4::new("AKID", "secret", "us-east-1").session_token("session");
    let push = PushClient::new(&gateway.url).unwrap().sigv4(signer);
    push.push_channel("general", "hi", &PushOptions::except(ID)).await.unwrap();
    let seen = gateway.only();
    let date = seen.headers["x-amz-date"].to_str().unwrap();
    let time = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S", date.trim_end_matches('Z')).unwrap();
    let time = time.to_datetime().unwrap().to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    let time = SystemTime::from(time);
    assert!(SystemTime::now().duration_since(time).unwrap() < Duration::from_secs(60));

    let identity = Credentials::new("AKID", "secret", Some("session".to_owned()), None, "test").into();
    let params = v4::SigningParams::builder().identity(&identity).region("us-east-1").name("execute-api");
    let params = params.time(time).settings(SigningSettings::default()).build().unwrap().into();
    let (method, path) = seen.line.split_once(' ').unwrap();
    let uri = format!("http://{}{path}", seen.headers["host"].to_str().unwrap());
    let signable =
        SignableRequest::new(method, uri, std::iter::empty(), SignableBody::Bytes(&seen.body)).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    for name in ["authorization", "x-amz-security-token"] {
        let expected = instructions.headers().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(seen.headers[name], expected, "{name}");
    }
}

#[test]
fn wrong_addresses_are_refused_without_their_password() {
    for address in ["", "127.0.0.1:8080", "/path", "ftp://host/", "http://user:pass@host/", "http://"] {
        let error = PushClient::new(address).unwrap_err();
        assert!(matches!(error, ClientError::Address { .. }), "{address} {error:?}");
        assert!(!error.to_string().contains("pass"), "{error}");
    }
    let result = PushClient::new("https://abc.execute-api.us-east-1.amazonaws.com/prod");
    assert_eq!(result.is_ok(), cfg!(feature = "tls"));
    let push = PushClient::new("http://localhost").unwrap().bearer("the-key").unwrap();
    assert!(!format!("{push:?}").contains("the-key"));
    assert!(matches!(push.bearer("a\nb").unwrap_err(), ClientError::Key(_)));
}
