//! Applications in the process: asked like a backend, told like a backend, at a path of their own.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tidegate_core::app::{
    App, Connect, Connected, End, Host, Message, Mount, Problem, Refusal, Refused, Reply, Request, Response,
};
use tidegate_core::context::ConnectionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::Facts;
use tidegate_core::notice::Notice;
use tidegate_core::port::BoxFuture;
use tidegate_core::push::{Publish, Target};
use tidegate_core::settings::{Binary, Settings};

use crate::client::{Client, request};
use crate::harness::{Plane, Setup};
use crate::session_layer::jwt_policy;

const PATH: &str = "/parrot/";

/// Says again what it hears, to everybody.
#[derive(Debug, Default)]
struct Parrot {
    host: OnceLock<Arc<dyn Host>>,
    open: Mutex<Vec<ConnectionId>>,
    /// Names of what happened, in order.
    log: Mutex<Vec<String>>,
    /// Refusals of the gateway are told as closes.
    closes: bool,
}

impl Parrot {
    fn host(&self) -> &Arc<dyn Host> {
        self.host.get().expect("started")
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().push(what.into());
    }
}

impl App for Parrot {
    fn name(&self) -> &'static str {
        "parrot"
    }

    fn first_client_delay(&self) -> Option<Duration> {
        Some(Duration::from_millis(200))
    }

    fn start(&self, host: Arc<dyn Host>) {
        assert!(self.host.set(host).is_ok(), "started twice");
    }

    fn refusal(&self, refused: &Refused<'_>) -> Option<Refusal> {
        assert_eq!(refused.address, IpAddr::from([127, 0, 0, 1]));
        let mut told = Refusal::new(403, "Not for you", refused.diagnosis);
        told.close_code = self.closes.then_some(4001);
        Some(told)
    }

    fn connect<'a>(&'a self, connect: Connect<'a>) -> BoxFuture<'a, Result<Connected, Box<Refusal>>> {
        Box::pin(async move {
            let user = connect.identity.user.clone().unwrap_or_default();
            assert!(!connect.query.contains("explode"), "a planned fault");
            if connect.query.contains("mute") {
                let mut refusal = Refusal::new(503, "No voice", Diagnosis::USER_CHECK_FAILED);
                refusal.retry_after = Some(5);
                return Err(Box::new(refusal));
            }
            if !connect.is_dry_run {
                self.note(format!("connect {user}"));
            }
            Ok(Connected {
                channels: vec!["birds".parse().unwrap()],
                first: vec![Bytes::from(format!("hello {user}"))],
            })
        })
    }

    fn opened(&self, connection: &Arc<ConnectionFacts>) {
        self.note("opened");
        self.open.lock().push(connection.connection_id);
    }

    fn message<'a>(&'a self, message: Message<'a>) -> BoxFuture<'a, Reply> {
        Box::pin(async move {
            let text = Bytes::from(message.text.to_owned());
            match message.text {
                "ping" => Reply { text: Some("pong".into()), is_urgent: true, problem: None },
                "bad" => {
                    let facts = Facts::none().with("word", "bad");
                    let problem = Some(Problem { diagnosis: Diagnosis::CHAT_BAD_PAYLOAD, facts });
                    Reply { text: Some("no".into()), is_urgent: false, problem }
                }
                "explode" => panic!("a planned fault"),
                "kick" => {
                    let id = message.connection.connection_id;
                    assert!(self.host().close(id, 4003, "kicked", Diagnosis::CLOSE_BACKEND_REQUESTED));
                    Reply::default()
                }
                _ => {
                    let to = self.open.lock().clone();
                    let sent = self.host().send(&to, text);
                    self.note(format!("sent {} binary {}", sent.delivered, message.is_binary));
                    Reply::default()
                }
            }
        })
    }

    fn disconnect<'a>(&'a self, connection: &'a Arc<ConnectionFacts>, end: End<'a>) -> BoxFuture<'a, ()> {
        self.open.lock().retain(|id| *id != connection.connection_id);
        self.note(format!("disconnect {}", end.code));
        Box::pin(async {})
    }

    fn request(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let told = |refusal: Box<Refusal>| Response::json(refusal.status, refusal.message.to_string());
            match request.path.as_str() {
                "/api/parrot/who" => match self.host().identify("parrot", "live", &request.headers) {
                    Ok(identity) => {
                        Response::json(200, identity.user.clone().unwrap_or_default().to_string())
                    }
                    Err(refusal) => told(refusal),
                },
                "/api/parrot/say" => match self.host().authorize("parrot", "live", &request) {
                    Ok(caller) => {
                        let targets = vec![Target::Channel("birds".parse().unwrap())];
                        let publish = Publish { targets, payload: request.body, except: Default::default() };
                        let result = self.host().publish("parrot", "live", publish, Facts::none()).await;
                        Response::json(200, format!("{caller}: {}", result.unwrap().delivered))
                    }
                    Err(refusal) => told(refusal),
                },
                _ => panic!("a planned fault"),
            }
        })
    }
}

async fn start(closes: bool) -> (Plane, Arc<Parrot>) {
    let parrot = Arc::new(Parrot { closes, ..Parrot::default() });
    let mut settings = Settings::default();
    settings.data_plane.binary = Binary::Base64;
    let mount = Mount {
        app: Arc::clone(&parrot) as Arc<dyn App>,
        api_id: "parrot".to_owned(),
        stage: "live".to_owned(),
        paths: vec![PATH.to_owned()],
        http: vec!["/api/parrot/".to_owned()],
        max_body: 1000,
        policy: serde_json::from_value(jwt_policy(json!({}))).unwrap(),
        settings: Arc::new(settings),
    };
    (Plane::start_from(Setup { mounts: vec![mount], ..Setup::default() }).await, parrot)
}

fn token_of(plane: &Plane, user: &str) -> String {
    let stage = plane.gateway.find_stage("parrot", "live").unwrap();
    let claims = json!({ "sub": user }).as_object().unwrap().clone();
    plane.gateway.sign_jwt(&stage, &claims).unwrap().expose().to_owned()
}

async fn open(plane: &Plane, user: &str) -> Client {
    let mut client = Client::dial(plane.address, None).await;
    let target = format!("{PATH}?token={}", token_of(plane, user));
    client.write(&client.handshake_at(&target, "any.example", "")).await;
    assert_eq!(client.status().await, 101);
    assert_eq!(client.text().await, format!("hello {user}"));
    client
}

#[tokio::test]
async fn an_application_is_asked_and_told_like_a_backend() {
    // S3-25, S3-26
    let (plane, parrot) = start(false).await;
    let mut ada = open(&plane, "ada").await;
    let mut bob = open(&plane, "bob").await;
    ada.send("hi").await;
    assert_eq!((ada.text().await, bob.text().await), ("hi".to_owned(), "hi".to_owned()));
    bob.send("ping").await;
    assert_eq!(bob.text().await, "pong");
    bob.send("bad").await;
    assert_eq!(bob.text().await, "no");
    let is_told = |notice: &Notice| {
        matches!(notice, Notice::MessageFailed { diagnosis: Diagnosis::CHAT_BAD_PAYLOAD, facts, .. }
            if facts.get("word").is_some() && facts.get("size").is_some())
    };
    plane.notices.record.until("a failed message", 1, is_told).await;
    bob.send("kick").await;
    let frame = bob.closed().await.unwrap();
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (4003, "kicked"));
    ada.close(1000, "").await;
    plane.end().await;
    let log = parrot.log.lock().clone();
    assert_eq!(
        log[..6],
        ["connect ada", "opened", "connect bob", "opened", "sent 2 binary false", "disconnect 4003"]
    );
    assert_eq!(log[6..], ["disconnect 1000"]);
}

#[tokio::test]
async fn its_path_is_its_own_on_every_host() {
    // S3-2, S3-3, S3-4, S3-5
    let (plane, _parrot) = start(false).await;
    let mut client = Client::dial(plane.address, None).await;
    let target = format!("/parrot?token={}", token_of(&plane, "ada"));
    client.write(&client.handshake_at(&target, "other.example:8080", "")).await;
    assert_eq!(client.status().await, 101);
    let plain = request(plane.address, "GET", PATH, "", "").await;
    assert_eq!(
        (plain.status, plain.value("upgrade"), plain.value("sec-websocket-version")),
        (426, "websocket", "13")
    );
    let post = request(plane.address, "POST", PATH, "", "").await;
    assert_eq!((post.status, post.value("allow")), (405, "GET"));
    let mut twice = Client::dial(plane.address, None).await;
    twice.write(&twice.handshake_at("/parrot/parrot/", "a.example", "")).await;
    assert_eq!(twice.status().await, 404);
    assert_eq!(plane.last_refusal().diagnosis, "path.double-prefix");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test]
async fn its_name_takes_no_host_from_a_domain() {
    // S3-2: no other path is taken from the APIs, though a host begins with the application's id.
    let (plane, _parrot) = start(false).await;
    let token = token_of(&plane, "ada");
    let at = async |host: &str, target: &str| {
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(target, host, "")).await;
        assert_eq!(client.status().await, 101, "{host}{target}");
        client
    };
    let stage = format!("/live?token={token}");
    let mut at_id = at("parrot.example.com", &stage).await;
    assert_eq!(at_id.text().await, "hello ada");
    for name in ["*.example.com", "parrot.example.com"] {
        plane.deploy_domains(&[(name, &[""])]);
        let n_before = plane.backend.events("CONNECT", 0).await.len();
        let mut of_backend = at("parrot.example.com", "/").await;
        plane.backend.events("CONNECT", n_before + 1).await;
        of_backend.close(1000, "").await;
        let mut at_path = at("parrot.example.com", &format!("{PATH}?token={token}")).await;
        assert_eq!(at_path.text().await, "hello ada");
        at_path.close(1000, "").await;
    }
    // Elsewhere the id is still an address.
    let mut elsewhere = at("parrot.localhost", &stage).await;
    assert_eq!(elsewhere.text().await, "hello ada");
    elsewhere.close(1000, "").await;
    at_id.close(1000, "").await;
    plane.end().await;
}

#[tokio::test]
async fn refusals_are_told_in_its_words() {
    // S3-19
    let (plane, parrot) = start(false).await;
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake_at("/parrot/?token=x", "a.example", "")).await;
    let reply = client.reply().await;
    let body = reply.json();
    assert_eq!((reply.status, body["message"].as_str()), (403, Some("Not for you")), "{reply:?}");
    assert_eq!(
        body.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["connectionId", "message", "requestId"]
    );
    assert_eq!(body["requestId"], reply.value("tidegate-request-id"));
    assert_eq!(plane.last_refusal().diagnosis, "jwt.malformed");
    let target = format!("/parrot/?mute&token={}", token_of(&plane, "ada"));
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake_at(&target, "a.example", "")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.value("retry-after")), (503, "5"), "{reply:?}");
    assert_eq!(reply.json()["message"], "No voice");
    assert_eq!(plane.last_refusal().diagnosis, "user.check-failed");
    // The same without a handshake: nothing is opened.
    let check = request(plane.address, "GET", &target, "Tidegate-Check: 1\r\n", "").await;
    assert_eq!((check.status, check.json()["message"].as_str()), (503, Some("No voice")));
    let good = format!("/parrot/?token={}", token_of(&plane, "ada"));
    let check = request(plane.address, "GET", &good, "Tidegate-Check: 1\r\n", "").await;
    assert_eq!((check.status, check.json()["ok"].as_bool()), (200, Some(true)), "{check:?}");
    assert_eq!(parrot.log.lock().len(), 0);
    plane.end().await;
}

#[tokio::test]
async fn refusals_may_be_told_as_closes() {
    // S2-5, S3-21
    let (plane, parrot) = start(true).await;
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake_at("/parrot/", "a.example", "")).await;
    assert_eq!(client.status().await, 101);
    let frame = client.closed().await.unwrap();
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (4001, "Not for you"));
    assert_eq!(plane.last_refusal().diagnosis, "jwt.missing");
    assert_eq!(parrot.log.lock().len(), 0);
    plane.end().await;
}

#[tokio::test]
async fn it_answers_http_calls() {
    // S3-45
    let (plane, _parrot) = start(false).await;
    let mut client = open(&plane, "ada").await;
    let call = |path: &'static str, headers: String, body: &'static str| {
        let address = plane.address;
        async move { request(address, "POST", path, &headers, body).await }
    };
    let who =
        call("/api/parrot/who", format!("Authorization: Bearer {}\r\n", token_of(&plane, "bob")), "").await;
    assert_eq!((who.status, who.body.as_str()), (200, "bob"));
    assert_eq!(call("/api/parrot/who", String::new(), "").await.status, 401);
    assert_eq!(call("/api/parrot/who", "Authorization: Bearer a.b.c\r\n".to_owned(), "").await.status, 403);
    let said = call("/api/parrot/say", "Authorization: Bearer test-key\r\n".to_owned(), "squawk").await;
    assert_eq!((said.status, said.body.as_str()), (200, "api key 1: 1"));
    assert_eq!(client.text().await, "squawk");
    assert_eq!(call("/api/parrot/say", String::new(), "squawk").await.status, 401);
    assert_eq!(
        call("/api/parrot/say", "Authorization: Bearer wrong\r\n".to_owned(), "squawk").await.status,
        403
    );
    let long = "x".repeat(1001).leak();
    assert_eq!(
        call("/api/parrot/say", "Authorization: Bearer test-key\r\n".to_owned(), long).await.status,
        413
    );
    assert_eq!(call("/api/parrot/panics", String::new(), "").await.status, 500);
    client.close(1000, "").await;
    plane.end_with(1).await;
}

#[tokio::test]
async fn a_drain_is_over_before_clients_come_back() {
    // S3-64: half of what the application says of its clients.
    let (plane, _) = start(false).await;
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..300 {
        let mut client = open(&plane, &format!("u{number}")).await;
        readers.spawn(async move {
            assert!(client.closed().await.is_some());
        });
    }
    let begun = std::time::Instant::now();
    assert_eq!(plane.gateway.drain(Duration::from_secs(20)).await, 0);
    // Without the application's word it would be 5 ms for each of them.
    assert!(begun.elapsed() < Duration::from_millis(1400), "{:?}", begun.elapsed());
    readers.join_all().await;
    plane.end().await;
}

#[tokio::test]
async fn a_panic_tells_no_token() {
    // S3-72, S3-33: what it prints, what operators are told, what the client gets; and nobody else notices.
    static PRINTED: Mutex<String> = Mutex::new(String::new());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PRINTED.lock().push_str(&format!("{info} {info:?}"));
        before(info);
    }));
    let (plane, _) = start(false).await;
    let mut other = open(&plane, "bob").await;
    let token = token_of(&plane, "ada");
    let mut told = String::new();
    let ways = [
        (format!("{PATH}?token={token}"), String::new()),
        (PATH.to_owned(), format!("Authorization: Bearer {token}\r\n")),
        (PATH.to_owned(), format!("Sec-WebSocket-Protocol: tidegate.bearer, {token}\r\n")),
    ];
    let n_ways = ways.len();
    for (target, headers) in ways {
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(&target, "any.example", &headers)).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 101, "{}", reply.head);
        client.send("explode").await;
        told.push_str(&format!("{} {:?}", reply.head, client.closed().await));
    }
    // While it connects: no 101, a status that says nothing, and no trace of the connection.
    let while_connecting = [
        (format!("{PATH}?explode&token={token}"), String::new()),
        (format!("{PATH}?explode"), format!("Authorization: Bearer {token}\r\n")),
        (format!("{PATH}?explode"), format!("Sec-WebSocket-Protocol: tidegate.bearer, {token}\r\n")),
    ];
    for (target, headers) in while_connecting {
        let mut client = Client::dial(plane.address, None).await;
        client.write(&client.handshake_at(&target, "any.example", &headers)).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, 500, "{}", reply.head);
        told.push_str(&format!("{} {}", reply.head, reply.body));
    }
    let is_panic = |notice: &Notice| matches!(notice, Notice::ConnectionPanicked { .. });
    plane.notices.record.until("panics", n_ways, is_panic).await;
    other.send("ping").await;
    assert_eq!(other.text().await, "pong");
    other.close(1000, "").await;
    let printed = PRINTED.lock().clone();
    assert!(printed.contains("a planned fault"), "nothing was printed: {printed}");
    let notices = format!("{:?}", plane.notices.record.all());
    let signature = token.rsplit('.').next().unwrap();
    for piece in signature.as_bytes().windows(8).map(|piece| std::str::from_utf8(piece).unwrap()) {
        for (name, text) in [("print", &printed), ("notices", &notices), ("client", &told)] {
            assert!(!text.contains(piece), "the {name} has {piece}");
        }
    }
    plane.end_with(n_ways).await;
}
