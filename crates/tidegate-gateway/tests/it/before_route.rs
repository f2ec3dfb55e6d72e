//! What the application that let a connection in sees before a route is chosen.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tidegate_core::app::{App, Connect, Connected, End, Host, Message, Mount, Refusal, Reply};
use tidegate_core::compile::APP_SCHEME;
use tidegate_core::context::ConnectionFacts;
use tidegate_core::definition::{AccessLogSettings, ApiDefinition, Integration, RouteSettings, Stage};
use tidegate_core::log::{ExecutionLine, LogSink};
use tidegate_core::policy::Policy;
use tidegate_core::port::BoxFuture;
use tidegate_core::settings::{Binary, Settings};
use tidegate_ws::ClientEncoder;

use crate::backend::{After, Answer, Gate};
use crate::harness::{Change, Deployed, Plane, Setup, policy};
use crate::record::Record;
use crate::session_layer::unlimited;

/// Answers `ping`, hushes up `secret`, and leaves the rest to routes.
#[derive(Debug)]
struct Doorman;

impl App for Doorman {
    fn name(&self) -> &'static str {
        "doorman"
    }

    fn start(&self, _: Arc<dyn Host>) {}

    fn connect<'a>(&'a self, _: Connect<'a>) -> BoxFuture<'a, Result<Connected, Box<Refusal>>> {
        Box::pin(async { Ok(Connected::default()) })
    }

    fn before_route(&self, text: &str) -> Option<Reply> {
        match text {
            "ping" => Some(Reply { text: Some(Bytes::from_static(b"pong")), is_urgent: true, problem: None }),
            text if text.starts_with("secret") => Some(Reply::default()),
            _ => None,
        }
    }

    fn message<'a>(&'a self, _: Message<'a>) -> BoxFuture<'a, Reply> {
        panic!("no route leads here")
    }

    fn disconnect<'a>(&'a self, _: &'a Arc<ConnectionFacts>, _: End<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// Lines of access logs.
#[derive(Debug, Default)]
struct Lines(Record<String>);

impl LogSink for Lines {
    fn access(&self, _: &Arc<str>, line: String) {
        self.0.push(line);
    }

    fn execution(&self, _: &ExecutionLine<'_>) {}
}

/// `$connect` and `$disconnect` lead to the application, `$default` to the backend.
fn of_doorman(definition: &mut ApiDefinition) {
    definition.integrations.push(Integration {
        integration_id: "app".to_owned(),
        integration_type: "HTTP_PROXY".to_owned(),
        integration_uri: Some(format!("{APP_SCHEME}doorman")),
        ..Integration::default()
    });
    for route in definition.routes.iter_mut().filter(|route| route.route_key != "$default") {
        route.target = Some("integrations/app".to_owned());
    }
}

async fn start(more: Deployed) -> (Plane, Arc<Lines>) {
    let mount = Mount {
        app: Arc::new(Doorman),
        api_id: "doorman".to_owned(),
        stage: "live".to_owned(),
        paths: Vec::new(),
        http: Vec::new(),
        max_body: 1000,
        policy: Policy::default(),
        settings: Arc::new(Settings::default()),
    };
    let lines = Arc::new(Lines::default());
    let logs = Arc::clone(&lines) as Arc<dyn LogSink>;
    let mut setup = Setup { mounts: vec![mount], logs, ..Setup::default() };
    setup.settings.data_plane.binary = Binary::Base64;
    let plane = Plane::start_from(setup).await;
    plane.deploy(&Deployed { change: Some(Change(Arc::new(of_doorman))), ..more });
    (plane, lines)
}

/// Bodies that the backend got.
fn heard(plane: &Plane) -> Vec<String> {
    plane.backend.requests.all().into_iter().map(|request| request.body).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_may_take_a_text_and_leaves_the_others_to_routes() {
    // S3-27
    let access_log_settings = Some(AccessLogSettings {
        destination_arn: Some("arn:aws:logs:us-east-1:123456789012:log-group:doorman".to_owned()),
        format: Some("$context.eventType $context.routeKey $context.status $context.requestId".to_owned()),
    });
    let stage = Stage { access_log_settings, ..Stage::default() };
    let (plane, lines) = start(Deployed { stage, ..Deployed::default() }).await;
    plane.backend.plan(|request| {
        let length = request.body.len();
        Answer::Wire(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", request.body),
            After::Keep,
        )
    });
    let mut client = plane.connect().await;
    for text in ["ping", "secret of mine", "hello", "ping"] {
        client.send(text).await;
    }
    assert_eq!(client.text().await, "pong");
    // What an application hushes up has no answer at all; what it leaves has the backend's, in order.
    let mut rest = vec![client.text().await, client.text().await];
    rest.sort();
    assert_eq!(rest, ["hello", "pong"]);
    assert_eq!(heard(&plane), ["hello"]);
    let is_message = |line: &String| line.starts_with("MESSAGE ");
    for line in lines.0.until("lines of messages", 4, is_message).await {
        assert!(line.starts_with("MESSAGE $default 200 ") && !line.ends_with('-'), "{line}");
    }
    plane.assert_untold(&["secret of mine"]);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_answers_waits_for_no_backend() {
    // S3-26: ahead of what waits, the earlier messages of the same client among it.
    let (plane, _) = start(Deployed::default()).await;
    let gate = Gate::new();
    let held = gate.clone();
    plane.backend.plan(move |_| Answer::Gated(200, held.clone()));
    let mut client = plane.connect().await;
    client.send("first").await;
    plane.backend.events("MESSAGE", 1).await;
    for text in ["second", "third", "ping", "fourth", "ping"] {
        client.send(text).await;
    }
    assert_eq!((client.text().await, client.text().await), ("pong".to_owned(), "pong".to_owned()));
    assert_eq!(heard(&plane), ["first"]);
    gate.open();
    plane.backend.events("MESSAGE", 4).await;
    assert_eq!(heard(&plane), ["first", "second", "third", "fourth"]);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_takes_counts_against_the_limits() {
    // S3-27, S3-29
    let messages = json!({ "rate": 0.001, "burst": 3.0, "excess": "close" });
    let policy = Some(policy(unlimited(json!({ "messages": messages }))));
    let (plane, _) = start(Deployed { policy, ..Deployed::default() }).await;
    for text in ["ping", "secret"] {
        let mut client = plane.connect().await;
        for _ in 0..4 {
            client.send(text).await;
        }
        let frame = client.closed().await.expect("a close frame");
        assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Too many messages"), "{text}");
    }
    assert!(heard(&plane).is_empty());
    plane.end().await;
    // The throttle of a stage is that of `$default`.
    let default_route_settings = RouteSettings {
        throttling_rate_limit: Some(0.001),
        throttling_burst_limit: Some(2),
        ..RouteSettings::default()
    };
    let stage = Stage { default_route_settings, ..Stage::default() };
    let (plane, _) = start(Deployed { stage, ..Deployed::default() }).await;
    let mut client = plane.connect().await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        client.send("ping").await;
        answers.push(client.text().await);
    }
    assert_eq!(answers.iter().filter(|text| *text == "pong").count(), 2, "{answers:?}");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_let_a_connection_in_is_asked() {
    // S3-27
    let (plane, _) = start(Deployed::default()).await;
    let mut of_app = plane.connect().await;
    // From now on the backend decides who is let in.
    plane.deploy(&Deployed::default());
    let mut of_backend = plane.connect().await;
    of_backend.send("ping").await;
    assert_eq!(plane.backend.events("MESSAGE", 1).await[0].body, "ping");
    of_app.send("ping").await;
    assert_eq!(of_app.text().await, "pong");
    assert_eq!(plane.backend.events("MESSAGE", 1).await.len(), 1);
    of_app.write(&ClientEncoder::new(None).binary(b"ping")).await;
    // Binary messages are for routes.
    plane.backend.events("MESSAGE", 2).await;
    let id = plane.id_of(&of_backend).await;
    of_backend.close(1000, "").await;
    plane.disconnect_of(&id).await;
    plane.deploy(&Deployed { change: Some(Change(Arc::new(of_doorman))), ..Deployed::default() });
    of_app.close(1000, "").await;
    plane.end().await;
}
