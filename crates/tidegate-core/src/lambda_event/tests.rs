use std::sync::Arc;

use super::*;
use crate::context::{Authorized, Caller, ConnectionFacts, PresentedKey};
use crate::id::{ConnectionId, RequestId};

const HEAD: &str = "GET /prod?room=blue&lang=en&lang=fr HTTP/1.1\r\n\
    Host: k3x9q2m7vd.execute-api.eu-west-1.amazonaws.com\r\n\
    Connection: Upgrade\r\n\
    Upgrade: websocket\r\n\
    User-Agent: ExampleBrowser/1.0\r\n\
    x-TRACE-me: one\r\n\
    Origin: https://shop.example\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: c2FtcGxlLWtleS0wMDAwMQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    X-Forwarded-For: 198.51.100.1\r\n\
    X-Amzn-Trace-Id: Root=mine\r\n\
    Tidegate-User: admin\r\n\
    x-trace-me: two\r\n\r\n";

fn id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

fn at_connect() -> Event {
    Event {
        connection: Arc::new(ConnectionFacts {
            connection_id: ConnectionId::parse("Hh2QmdfDIkwCF6w=").unwrap(),
            api_id: "k3x9q2m7vd".into(),
            stage: "prod".into(),
            domain_name: "k3x9q2m7vd.execute-api.eu-west-1.amazonaws.com".into(),
            source_ip: "203.0.113.7".parse().unwrap(),
            user_agent: Some("ExampleBrowser/1.0".into()),
            is_secure: true,
            client_port: 443,
            connected_at: 1_736_942_400_000,
        }),
        request_id: id("Hh2RnE3zjqRcFPw="),
        route_key: "$connect".into(),
        request_time: 1_736_942_400_001,
        kind: EventKind::Connect,
        session: None,
        authorized: None,
    }
}

fn at_message() -> Event {
    Event {
        request_id: id("Hh2ToF32joEFbiA="),
        route_key: "join".into(),
        request_time: 1_736_942_405_120,
        kind: EventKind::Message { message_id: id("Hh2RnAAtvcYAAAQ=") },
        ..at_connect()
    }
}

fn at_disconnect() -> Event {
    Event {
        request_id: id("Hh2UoEicPHcFo_A="),
        route_key: "$disconnect".into(),
        request_time: 1_736_942_651_874,
        kind: EventKind::Disconnect {
            status_code: 1005,
            reason: "Client-side close frame status not set".to_owned(),
        },
        ..at_connect()
    }
}

fn authorized() -> Option<Arc<Authorized>> {
    let context = [("plan", "gold"), ("level", "3"), ("principalId", "forged")];
    Some(Arc::new(Authorized {
        authorizer: Some(AuthorizerAnswer {
            principal_id: "user-42".to_owned(),
            context: context.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            latency_ms: 21,
            token: None,
        }),
        caller: Some(Caller {
            account_id: "000000000000".to_owned(),
            caller: "AIDA1".to_owned(),
            user: "AIDA1".to_owned(),
            user_arn: "arn:aws:iam::000000000000:user/ann".to_owned(),
            access_key: "AKIA1".to_owned(),
        }),
        api_key: Some(PresentedKey { value: "key".to_owned(), id: "k1".to_owned() }),
    }))
}

/// Headers as a library keeps them.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in HEAD.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn spelling(text: &str) -> Spelling {
    let mut spelling = Spelling::default();
    spelling.take_in(text.as_bytes());
    spelling
}

struct Setup {
    variables: Map,
    headers: HeaderMap,
    spelling: Spelling,
    query: &'static str,
    body: &'static str,
}

impl Setup {
    fn new() -> Self {
        Self {
            variables: [("tier".to_owned(), "gold".to_owned())].into(),
            headers: headers(),
            spelling: spelling(HEAD),
            query: "room=blue&lang=en&lang=fr",
            body: r#"{"action":"join","room":"blue"}"#,
        }
    }

    fn inputs<'a>(&'a self, event: &'a Event) -> EventInputs<'a> {
        let is_connect = event.kind == EventKind::Connect;
        EventInputs {
            event,
            stage_variables: &self.variables,
            headers: is_connect.then_some(&self.headers),
            spelling: is_connect.then_some(&self.spelling),
            query: if is_connect { self.query } else { "" },
            body: self.body,
            is_base64: false,
            forwarded: Forwarded { client: "203.0.113.7", port: 443, scheme: "https" },
            trace_id: "Root=1-6787a1c0-4c6d6e4e52cfa74307320555",
        }
    }

    fn event(&self, event: &Event) -> String {
        String::from_utf8(super::event(&self.inputs(event))).unwrap()
    }
}

/// The file holds one member a line so that people can read it; events hold no blank that is not in a value.
fn golden(file: &str) -> String {
    file.lines().map(str::trim_start).collect()
}

#[test]
fn connect() {
    // AG-2
    assert_eq!(Setup::new().event(&at_connect()), golden(include_str!("golden/connect.json")));
}

#[test]
fn message() {
    // AG-2
    assert_eq!(Setup::new().event(&at_message()), golden(include_str!("golden/message.json")));
}

#[test]
fn disconnect() {
    // AG-2
    assert_eq!(Setup::new().event(&at_disconnect()), golden(include_str!("golden/disconnect.json")));
}

#[test]
fn what_is_not_there_is_not_mentioned() {
    // AG-2
    let mut setup = Setup::new();
    setup.variables.clear();
    setup.query = "";
    let mut event = at_connect();
    let mut facts = ConnectionFacts {
        user_agent: None,
        domain_name: "127.0.0.1:8080/_aws/execute-api/k3x9q2m7vd".into(),
        ..Arc::try_unwrap(event.connection).unwrap()
    };
    facts.source_ip = "2001:db8::7".parse().unwrap();
    event.connection = Arc::new(facts);
    let event: serde_json::Value = serde_json::from_str(&setup.event(&event)).unwrap();
    let names: Vec<&String> = event.as_object().unwrap().keys().collect();
    assert_eq!(names, ["headers", "isBase64Encoded", "multiValueHeaders", "requestContext"]);
    assert_eq!(event["requestContext"]["identity"], serde_json::json!({ "sourceIp": "2001:db8::7" }));
    let mut event = at_disconnect();
    let facts = Arc::get_mut(&mut event.connection).unwrap();
    facts.domain_name = "127.0.0.1:8080/_aws/execute-api/k3x9q2m7vd".into();
    let event: serde_json::Value = serde_json::from_str(&setup.event(&event)).unwrap();
    assert_eq!(event["headers"]["Host"], "127.0.0.1:8080");
    assert!(event.get("stageVariables").is_none());
}

#[test]
fn who_was_authorized_is_in_every_event() {
    let setup = Setup::new();
    for (event, file) in [
        (at_connect(), include_str!("golden/authorized_connect.json")),
        (at_message(), include_str!("golden/authorized_message.json")),
        (at_disconnect(), include_str!("golden/authorized_disconnect.json")),
    ] {
        let event = Event { authorized: authorized(), ..event };
        assert_eq!(setup.event(&event), golden(file));
    }
}

#[test]
fn authorizers() {
    let setup = Setup::new();
    let arn = "arn:aws:execute-api:eu-west-1:000000000000:k3x9q2m7vd/prod/$connect";
    let event =
        |setup: &Setup| String::from_utf8(authorizer_event(&setup.inputs(&at_connect()), arn)).unwrap();
    assert_eq!(event(&setup), golden(include_str!("golden/authorizer.json")));
    let bare = Setup { variables: Map::new(), query: "", ..setup };
    let event: serde_json::Value = serde_json::from_str(&event(&bare)).unwrap();
    for name in ["queryStringParameters", "multiValueQueryStringParameters", "stageVariables"] {
        assert_eq!(event[name], serde_json::json!({}), "{name}");
    }
}

#[test]
fn spelling_comes_from_the_last_head() {
    let spelled = |text| spelling(text);
    let spelling = spelled("x-a: 1\r\n\r\nGET / HTTP/1.1\r\nX-a: 1\r\nX-ab: 2\r\n\r\n");
    assert_eq!(spelling.of("x-a"), Some("X-a"));
    assert_eq!(spelling.of("x-ab"), Some("X-ab"));
    assert_eq!(spelling.of("x-abc"), None);
    assert_eq!(usual_spelling("sec-websocket-key"), "Sec-WebSocket-Key");
    assert_eq!(usual_spelling("x-api-key"), "X-Api-Key");
    assert!(!format!("{:?}", spelled("Authorization: hush")).contains("hush"));
}

#[test]
fn no_more_is_kept_than_a_head() {
    let mut spelling = spelling(&"y".repeat(limits::MAX_HEAD_BYTES));
    spelling.take_in(b"\r\nX-A: 1\r\n");
    assert_eq!(spelling.of("x-a"), Some("X-A"));
    spelling.take_in(&vec![b'z'; 3 * limits::MAX_HEAD_BYTES]);
    assert!(spelling.of("x-a").is_none() && spelling.raw.len() <= limits::MAX_HEAD_BYTES);
}

#[test]
fn parameters_are_decoded() {
    let fields = Fields::of_query("b=%C3%A9+x&&a&b=2&a=%26");
    let json = serde_json::to_string(&Multiple(&fields)).unwrap();
    assert_eq!(json, r#"{"b":["é x","2"],"a":["","&"]}"#);
    assert_eq!(serde_json::to_string(&Single(&fields)).unwrap(), r#"{"b":"2","a":"&"}"#);
}
