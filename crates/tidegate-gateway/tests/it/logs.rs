//! Access and execution logs: a line for each event, whatever becomes of it, and none of them forged or with secrets.

use std::sync::Arc;

use tidegate_core::definition::{AccessLogSettings, IntegrationResponse, RouteSettings, Stage};
use tidegate_core::function::{FunctionRunner, Invocation, InvokeError, Invoked};
use tidegate_core::log::{ExecutionLine, Level, LogSink};
use tidegate_core::port::BoxFuture;
use tidegate_core::settings::Settings;

use crate::backend::{After, Answer};
use crate::client::{Client, PATH, manage, request};
use crate::harness::{API_ID, Deployed, Plane, Setup};
use crate::record::Record;

/// Every variable that tells apart how an event ended.
const FORMAT: &str = "$context.eventType $context.routeKey $context.status $context.error.responseType $context.error.messageString $context.connectionId $context.requestId $context.integration.status $context.identity.sourceIp";

/// A line of an execution log, kept.
#[derive(Debug, Clone)]
struct Written {
    route_key: Option<String>,
    request_id: String,
    level: Level,
    is_trace: bool,
    line: String,
}

/// Keeps every line.
#[derive(Debug, Default)]
struct Lines {
    access: Record<(String, String)>,
    execution: Record<Written>,
}

impl LogSink for Lines {
    fn access(&self, target: &Arc<str>, line: String) {
        self.access.push((target.to_string(), line));
    }

    fn execution(&self, line: &ExecutionLine<'_>) {
        assert_eq!((line.api_id, line.stage), (API_ID, "prod"));
        assert!(line.line.starts_with(&format!("({}) ", line.request_id)), "{line:?}");
        self.execution.push(Written {
            route_key: line.route_key.map(str::to_owned),
            request_id: line.request_id.to_owned(),
            level: line.level,
            is_trace: line.is_trace,
            line: line.line.to_owned(),
        });
    }
}

impl Lines {
    /// The line of the next event of a type: its words, of which the quoted message is one.
    async fn event(&self, event_type: &str, n_before: usize) -> Vec<String> {
        let is_its = |(_, line): &(String, String)| line.starts_with(&format!("{event_type} "));
        let lines = self.access.until(event_type, n_before + 1, is_its).await;
        let (target, line) = &lines[n_before];
        assert_eq!(target, "chat");
        let (before, rest) = line.split_once('"').unwrap();
        let (message, after) = rest.split_once('"').unwrap();
        let mut words: Vec<String> = before.split(' ').map(str::to_owned).collect();
        words.pop();
        words.push(message.to_owned());
        words.extend(after.trim_start().split(' ').map(str::to_owned));
        words
    }

    /// What an execution log says of the request with this id, without the id.
    fn of(&self, request_id: &str) -> Vec<String> {
        let lines = self.execution.all().into_iter().filter(|written| written.request_id == request_id);
        lines.map(|written| written.line.split_once(") ").unwrap().1.to_owned()).collect()
    }
}

fn stage(level: &str, trace: bool, format: Option<&str>) -> Stage {
    Stage {
        default_route_settings: RouteSettings {
            logging_level: Some(level.to_owned()),
            data_trace_enabled: Some(trace),
            ..RouteSettings::default()
        },
        access_log_settings: format.map(|format| AccessLogSettings {
            destination_arn: Some("arn:aws:logs:us-east-1:123456789012:log-group:chat".to_owned()),
            format: Some(format.to_owned()),
        }),
        ..Stage::default()
    }
}

async fn start(change: impl FnOnce(&mut Settings)) -> (Plane, Arc<Lines>) {
    let lines = Arc::new(Lines::default());
    let mut setup = Setup { logs: Arc::clone(&lines) as Arc<dyn LogSink>, ..Setup::default() };
    change(&mut setup.settings);
    (Plane::start_from(setup).await, lines)
}

fn deployed(stage: Stage) -> Deployed {
    Deployed { stage, ..Deployed::default() }
}

fn body(text: &'static str) -> impl Fn(&crate::backend::Request) -> Answer + Send + Sync {
    move |_| {
        let length = text.len();
        Answer::Wire(
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nSet-Cookie: s=0123456789abcdef\r\n\r\n{text}"
            ),
            After::Keep,
        )
    }
}

/// A function that answers, and fails where a message asks it to.
#[derive(Debug)]
struct Function;

impl FunctionRunner for Function {
    fn has(&self, name: &str) -> bool {
        matches!(name, "chat" | "auth")
    }

    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Invoked, InvokeError>> {
        let fails = String::from_utf8_lossy(&invocation.payload).contains("please fail");
        let is_authorizer = invocation.name == "auth";
        let payload = match (is_authorizer, fails) {
            (true, true) => r#"{"errorMessage":"Unauthorized"}"#,
            (true, false) => {
                r#"{"principalId":"ada","policyDocument":{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]},"usageIdentifierKey":"0123456789abcdef"}"#
            }
            (false, true) => r#"{"errorMessage":"secret of the message","errorType":"ValueError"}"#,
            (false, false) => r#"{"statusCode":200,"body":"of the function"}"#,
        };
        let request_id = if is_authorizer { "authorizer-1" } else { "runtime-1" };
        Box::pin(async move {
            Ok(Invoked {
                status: 200,
                payload: payload.into(),
                function_error: fails.then(|| "Unhandled".to_owned()),
                request_id: Some(request_id.to_owned()),
            })
        })
    }
}

/// Words of a line without the ids, which differ in each run.
fn told(words: &[String]) -> [&str; 6] {
    [&words[0], &words[1], &words[2], &words[3], &words[4], &words[7]]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_has_a_line() {
    // AG-28
    let (plane, lines) = start(|_| {}).await;
    plane.deploy(&deployed(stage("OFF", false, Some(FORMAT))));
    plane.backend.plan(body("pong"));
    let mut client = plane.connect().await;
    let connect = lines.event("CONNECT", 0).await;
    assert_eq!(told(&connect), ["CONNECT", "$connect", "200", "-", "-", "200"]);
    let id = plane.id_of(&client).await;
    assert_eq!((connect[5].as_str(), connect[8].as_str()), (id.as_str(), "127.0.0.1"));

    client.send("hello").await;
    assert_eq!(client.text().await, "pong");
    let message = lines.event("MESSAGE", 0).await;
    assert_eq!(told(&message), ["MESSAGE", "$default", "200", "-", "-", "200"]);
    assert_ne!(message[6], connect[6], "each event has a request id of its own");

    // What a backend refuses is its answer, and no error of the gateway.
    plane.backend.plan(|_| Answer::Status(503));
    client.send("again").await;
    assert_eq!(told(&lines.event("MESSAGE", 1).await), ["MESSAGE", "$default", "503", "-", "-", "503"]);
    plane.backend.plan(|_| Answer::Reset);
    client.send("reset").await;
    assert_eq!(
        told(&lines.event("MESSAGE", 2).await),
        ["MESSAGE", "$default", "504", "INTEGRATION_FAILURE", "Internal server error", "-"]
    );
    plane.backend.plan(|_| Answer::Status(200));

    for (method, status) in [("GET", "200"), ("POST", "200"), ("DELETE", "204")] {
        let before = lines.access.count(|(_, line)| line.starts_with("CONNECTION_API"));
        assert_eq!(manage(plane.address, method, &id).await.to_string(), status);
        let words = lines.event("CONNECTION_API", before).await;
        // The route's key has two words.
        assert_eq!(words[1..4].join(" "), format!("{method} /@connections/{{connectionId}} {status}"));
    }
    assert_eq!(client.closed().await.map(|close| close.code.as_u16()), Some(1000));
    let disconnect = lines.event("DISCONNECT", 0).await;
    assert_eq!(told(&disconnect), ["DISCONNECT", "$disconnect", "200", "-", "-", "200"]);
    assert_eq!(disconnect[5], id);
    assert_eq!(lines.execution.all().len(), 0);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_elsewhere_is_logged() {
    // AG-28
    let (plane, lines) = start(|settings| settings.logs.unmatched = Some("nowhere".to_owned())).await;
    let mut throttled = stage("OFF", false, Some(FORMAT));
    throttled.route_settings.insert(
        "$default".to_owned(),
        RouteSettings {
            throttling_rate_limit: Some(0.0),
            throttling_burst_limit: Some(1),
            ..RouteSettings::default()
        },
    );
    let mut deployed = deployed(throttled.clone());
    deployed.domains = vec!["ws.example.com".to_owned()];
    plane.deploy(&deployed);
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    for status in ["200", "429"] {
        client.send("x").await;
        let is_it = |(_, line): &(String, String)| line.starts_with(&format!("MESSAGE $default {status} "));
        lines.access.until(status, 1, is_it).await;
    }
    // A body over the limit.
    let reply = plane.manage("POST", &format!("@connections/{id}"), &"x".repeat(131_073)).await;
    assert_eq!(reply.status, 413);
    let words = lines.event("CONNECTION_API", 0).await;
    assert_eq!(words[1..5].join(" "), "POST /@connections/{connectionId} 413 REQUEST_TOO_LARGE");
    assert_eq!(words[6], id);
    assert_eq!(reply.value("x-amz-apigw-id"), words[7]);
    // Without a signature, and by one that nobody knows.
    let unsigned = request(plane.address, "POST", &format!("{PATH}/@connections/{id}"), "", "x").await;
    assert_eq!(unsigned.status, 403);
    let words = lines.event("CONNECTION_API", 1).await;
    assert_eq!(words[3..6], ["403", "MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token"]);

    // Whose answer repeats what was sent; the log does not.
    let signature = "Authorization: AWS4-HMAC-SHA256 Credential=secret-of-the-caller\r\n";
    let incomplete = plane.manage_with("POST", &format!("@connections/{id}"), signature, "x").await;
    assert!(incomplete.body.contains("secret-of-the-caller"), "{incomplete:?}");
    let words = lines.event("CONNECTION_API", 2).await;
    assert_eq!(words[3..6], ["403", "MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token"]);

    // Refused handshakes: by the backend, by the gateway before and after there was an id, and no handshake at all.
    plane.backend.plan(|request| match request.is_event("CONNECT") {
        true => Answer::Status(401),
        false => Answer::Status(200),
    });
    assert_eq!(plane.knock("", "").await, 401);
    assert_eq!(told(&lines.event("CONNECT", 1).await), ["CONNECT", "$connect", "401", "-", "-", "401"]);
    plane.backend.plan(|request| match request.is_event("CONNECT") {
        true => Answer::Reset,
        false => Answer::Status(200),
    });
    assert_eq!(plane.knock("", "").await, 504);
    let words = lines.event("CONNECT", 2).await;
    assert_eq!(
        told(&words),
        [
            "CONNECT",
            "$connect",
            "504",
            "INTEGRATION_FAILURE",
            "Network error communicating with endpoint",
            "-"
        ]
    );
    assert_ne!(words[5], "-", "the id exists");
    plane.backend.plan(|_| Answer::Status(200));
    assert_eq!(request(plane.address, "GET", PATH, "", "").await.status, 426);
    let words = lines.event("CONNECT", 3).await;
    assert_eq!(
        told(&words),
        ["CONNECT", "$connect", "426", "BAD_REQUEST_PARAMETERS", "Upgrade Required", "-"]
    );
    assert_eq!(words[5], "-", "there is no id yet");
    throttled.route_settings.insert("$connect".to_owned(), throttled.route_settings["$default"].clone());
    deployed.stage = throttled;
    plane.deploy(&deployed);
    assert_eq!(plane.knock("", "").await, 101);
    assert_eq!(plane.knock("", "").await, 429);
    let words = lines.event("CONNECT", 5).await;
    assert_eq!(told(&words), ["CONNECT", "$connect", "429", "THROTTLED", "Too Many Requests", "-"]);

    // What leads to no stage has no stage's log, but may have the operator's.
    let host = |host: &str| format!("Host: {host}\r\n");
    let nowhere = |(target, _): &(String, String)| target == "nowhere";
    let mut stray = Client::dial(plane.address, None).await;
    stray.write(&stray.handshake_at("/none/prod", "ws.example.com", "User-Agent: A\"\r\n")).await;
    let _ = stray.status().await;
    let stray = Client::dial(plane.address, None).await;
    let mut stray = stray;
    stray.write(&stray.handshake_at("/_aws/execute-api/none/prod", "localhost", "User-Agent: A\"\r\n")).await;
    assert_eq!(stray.status().await, 403);
    let lines_of_nobody = lines.access.until("nowhere", 1, nowhere).await;
    let line: serde_json::Value =
        serde_json::from_str(&lines_of_nobody[lines_of_nobody.len() - 1].1).unwrap();
    assert_eq!((&line["status"], &line["domain"]), (&"403".into(), &"localhost".into()));
    assert_eq!(line["userAgent"], "A\"");
    let n_before = lines.access.count(nowhere);
    let path = format!("/prod/@connections/{}", id.replace('=', "%3D"));
    let reply = request(plane.address, "POST", &path, &host("ws.example.com"), "x").await;
    assert!((400..500).contains(&reply.status), "{reply:?}");
    let lines_of_nobody = lines.access.until("a call to nowhere", n_before + 1, nowhere).await;
    let line: serde_json::Value = serde_json::from_str(&lines_of_nobody[n_before].1).unwrap();
    assert_eq!(line["route"], "POST /@connections/{connectionId}");
    assert_eq!(line["status"], reply.status.to_string());
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_lines_of_a_life() {
    // AG-28
    let (plane, lines) = start(|_| {}).await;
    plane.deploy(&deployed(stage("INFO", false, Some(FORMAT))));
    plane.backend.plan(body("{\"secret\":\"of the backend\"}"));
    let mut client =
        plane.connect_as("?token=query-secret-1", "User-Agent: Browser/1\r\nCookie: cookie-secret\r\n").await;
    let id = plane.id_of(&client).await;
    let backend = plane.backend.address;
    let connect = lines.event("CONNECT", 0).await;
    let latency = |lines: &[String]| {
        let line = lines.iter().find_map(|line| line.split_once("Integration latency: ")).unwrap();
        line.1.to_owned()
    };
    let written = lines.of(&connect[6]);
    let ms = latency(&written);
    assert_eq!(
        written,
        [
            format!("Extended Request Id: {}", connect[6]),
            format!("Starting execution for request: {}", connect[6]),
            "WebSocket Request Route: [$connect]".to_owned(),
            format!(
                "Client [UserAgent: Browser/1, SourceIp: 127.0.0.1] is connecting to WebSocket API [{API_ID}]."
            ),
            format!("Endpoint request URI: http://{backend}/events"),
            format!("Sending request to http://{backend}/events"),
            format!("Received response. Status: 200, Integration latency: {ms}"),
            "Method completed with status: 200".to_owned(),
            format!("Client [Connection Id: {id}] connected to API [{API_ID}] successfully."),
        ]
    );
    client.send("{\"text\":\"message secret\"}").await;
    let _ = client.text().await;
    let message = lines.event("MESSAGE", 0).await;
    let written = lines.of(&message[6]);
    let ms = latency(&written);
    assert_eq!(
        written,
        [
            format!("Extended Request Id: {}", message[6]),
            format!("Starting execution for request: {}", message[6]),
            "WebSocket Request Route: [$default]".to_owned(),
            format!("WebSocket API [{API_ID}] received message from client [Connection Id: {id}]."),
            format!("Endpoint request URI: http://{backend}/events"),
            format!("Sending request to http://{backend}/events"),
            format!("Received response. Status: 200, Integration latency: {ms}"),
            "Method completed with status: 200".to_owned(),
            format!(
                "Message from client [Connection Id: {id}] sent to API [{API_ID}] with response status code [200]."
            ),
        ]
    );
    client.close(4001, "bye\n(forged) Starting").await;
    let disconnect = lines.event("DISCONNECT", 0).await;
    let written = lines.of(&disconnect[6]);
    assert_eq!(
        written.last().map(String::as_str),
        Some(
            format!("Client [Connection Id: {id}] disconnected from API [{API_ID}] with integration response status code [200]. Close reason: [4001: bye\\n(forged) Starting]")
                .as_str()
        )
    );
    assert!(written.contains(&"WebSocket Request Route: [$disconnect]".to_owned()), "{written:?}");
    // Neither payloads nor headers nor values of queries, as nobody has asked for them.
    for written in lines.execution.all() {
        assert!(!written.line.contains("secret") && !written.is_trace, "{written:?}");
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_alone_at_level_error() {
    // AG-28
    let (plane, lines) = start(|_| {}).await;
    let mut of_stage = stage("ERROR", true, Some(FORMAT));
    let off = RouteSettings { logging_level: Some("OFF".to_owned()), ..RouteSettings::default() };
    of_stage.route_settings.insert("silent".to_owned(), off);
    plane.deploy(&Deployed { routes: vec!["silent".to_owned()], stage: of_stage, ..Deployed::default() });
    let mut client = plane.connect().await;
    client.send("fine").await;
    lines.event("MESSAGE", 0).await;
    assert_eq!(lines.execution.all().len(), 0);
    plane.backend.plan(|request| match request.is_event("MESSAGE") {
        true => Answer::Reset,
        false => Answer::Status(200),
    });
    client.send("fails").await;
    let frame = client.text().await;
    let message = lines.event("MESSAGE", 1).await;
    let written = lines.of(&message[6]);
    assert!(
        written[0].starts_with("Execution failed: Network error communicating with endpoint: "),
        "{written:?}"
    );
    assert_eq!(
        written[1..],
        [
            "Gateway response type: INTEGRATION_FAILURE with status code: 504".to_owned(),
            format!("Gateway response body: {frame}"),
        ]
    );
    assert!(lines.execution.all().iter().all(|written| written.level == Level::Error));
    let n_before = lines.execution.all().len();
    client.send("{\"action\":\"silent\"}").await;
    lines.event("MESSAGE", 2).await;
    assert_eq!(lines.execution.all().len(), n_before);
    // An integration that cannot work has words of its own.
    let mut deployed = Deployed::changed(|definition| {
        definition.integrations[0].integration_type = "MOCK".to_owned();
        definition.integrations[0].integration_uri = None;
        definition.integrations[0].request_templates =
            Some([("$default".to_owned(), "{\"statusCode\":\"x\"}".to_owned())].into());
        let response = IntegrationResponse {
            integration_response_key: "$default".to_owned(),
            ..IntegrationResponse::default()
        };
        definition.integration_responses = [("backend".to_owned(), vec![response])].into_iter().collect();
    });
    deployed.stage = stage("ERROR", false, Some(FORMAT));
    plane.deploy(&deployed);
    client.send("misconfigured").await;
    let message = lines.event("MESSAGE", 3).await;
    assert_eq!(message[3], "API_CONFIGURATION_ERROR");
    let written = lines.of(&message[6]);
    assert!(written[0].starts_with("Execution failed due to configuration error: "), "{written:?}");
    plane.publish("/events?own=1");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_has_payloads_and_masks_credentials() {
    // AG-28
    let (plane, lines) = start(|settings| settings.logs.line_bytes = 2048).await;
    plane.deploy(&deployed(stage("INFO", true, Some(FORMAT))));
    plane.backend.plan(body("of the backend"));
    let mut client = plane
        .connect_as(
            "?room=blue&token=0123456789abcdef",
            "Cookie: session=0123456789fedcba\r\nAuthorization: Bearer 0123456789bcdefa\r\nX-Custom: plain\r\n",
        )
        .await;
    let connect = lines.event("CONNECT", 0).await;
    let written = lines.of(&connect[6]).join("\n");
    for there in [
        "room=blue&token=**********abcdef",
        "Endpoint request headers: {Host=",
        "X-Custom=plain",
        "Cookie=******************fedcba",
        "Authorization=*****************bcdefa",
        "Endpoint response headers: {",
        "set-cookie=************abcdef",
        "Endpoint response body before transformations: of the backend",
    ] {
        assert!(written.contains(there), "{there} in {written}");
    }
    assert!(!written.contains("0123456789"), "{written}");
    client.send("a payload\nof two lines").await;
    let _ = client.text().await;
    let message = lines.event("MESSAGE", 0).await;
    let written = lines.of(&message[6]);
    for there in [
        "Endpoint request body after transformations: a payload\\nof two lines",
        "Endpoint response body before transformations: of the backend",
        "Method response body after transformations: of the backend",
    ] {
        assert!(written.iter().any(|line| line == there), "{there} in {written:?}");
    }
    let traced = lines.execution.all().into_iter().filter(|written| written.is_trace);
    assert!(traced.clone().count() > 5 && traced.clone().all(|written| written.route_key.is_some()));
    client.send(&"é".repeat(3000)).await;
    let message = lines.event("MESSAGE", 1).await;
    let cut = lines.execution.all().into_iter().filter(|written| written.request_id == message[6]);
    let cut: Vec<Written> = cut.filter(|written| written.line.ends_with("[TRUNCATED]")).collect();
    assert_eq!(cut.len(), 1, "{cut:?}");
    assert!(cut[0].line.len() <= 2048 && cut[0].line.len() > 2044);
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_logs_are_live() {
    // AG-28
    let (plane, lines) = start(|_| {}).await;
    let mut client = plane.connect().await;
    client.send("unlogged").await;
    plane.backend.events("MESSAGE", 1).await;
    plane.deploy(&deployed(stage("OFF", false, Some("{\"id\":\"$context.requestId\",\"agent\":\"$context.identity.userAgent\",\"message\":\"$context.messageId\"}"))));
    client.send("logged").await;
    let lines_of_message = lines.access.until("a line", 1, |_| true).await;
    let line: serde_json::Value = serde_json::from_str(&lines_of_message[0].1).unwrap();
    assert_ne!(line["message"], "-");
    assert_eq!(line["agent"], "-");
    plane.deploy(&deployed(Stage::default()));
    client.send("unlogged").await;
    plane.backend.events("MESSAGE", 3).await;
    client.close(1000, "").await;
    plane.nobody_is_left().await;
    plane.backend.events("DISCONNECT", 1).await;
    assert_eq!(lines.access.all().len(), 1);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_have_lines_of_their_own() {
    // AG-28
    let lines = Arc::new(Lines::default());
    let logs = Arc::clone(&lines) as Arc<dyn LogSink>;
    let plane =
        Plane::start_from(Setup { logs, functions: Some(Arc::new(Function)), ..Setup::default() }).await;
    let format = "$context.eventType $context.routeKey $context.status $context.error.responseType $context.error.messageString $context.connectionId $context.requestId $context.integration.requestId $context.integrationStatus";
    let deploy = |has_trace| {
        let mut deployed = Deployed::changed(|definition| {
            definition.integrations[0].integration_type = "AWS_PROXY".to_owned();
            definition.integrations[0].integration_uri =
                Some("arn:aws:lambda:us-east-1:123456789012:function:chat".to_owned());
        });
        deployed.stage = stage("INFO", has_trace, Some(format));
        plane.deploy(&deployed);
    };
    deploy(false);
    let mut client = plane.connect_as("", "Cookie: session=0123456789abcdef\r\n").await;
    client.send("fine").await;
    assert_eq!(client.text().await, "of the function");
    let message = lines.event("MESSAGE", 0).await;
    assert_eq!((message[7].as_str(), message[8].as_str()), ("runtime-1", "200"));
    let written = lines.of(&message[6]);
    for there in [
        "Sending request to arn:aws:lambda:us-east-1:123456789012:function:chat",
        "AWS Integration Endpoint RequestId : runtime-1",
        "Method completed with status: 200",
    ] {
        assert!(written.iter().any(|line| line == there), "{there} in {written:?}");
    }
    client.send("please fail").await;
    let _ = client.text().await;
    let message = lines.event("MESSAGE", 1).await;
    let written = lines.of(&message[6]);
    let failed = "Lambda execution failed with status 200 due to customer function error: ";
    let line = format!("{failed}ValueError. Lambda request id: runtime-1");
    assert!(written.contains(&line), "{written:?}");
    assert!(!written.join(" ").contains("secret"), "{written:?}");

    deploy(true);
    client.send("please fail").await;
    let _ = client.text().await;
    let message = lines.event("MESSAGE", 2).await;
    let written = lines.of(&message[6]);
    let line = format!("{failed}secret of the message. Lambda request id: runtime-1");
    assert!(written.contains(&line), "{written:?}");
    let _other = plane.connect_as("", "Cookie: session=0123456789abcdef\r\n").await;
    let connect = lines.event("CONNECT", 1).await;
    let event = lines.of(&connect[6]).into_iter().find(|line| line.contains("request body after")).unwrap();
    assert!(event.contains("abcdef") && !event.contains("0123456789"), "{event}");
    client.close(1000, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorizers_have_lines_and_an_id() {
    // AG-28
    let lines = Arc::new(Lines::default());
    let logs = Arc::clone(&lines) as Arc<dyn LogSink>;
    let plane =
        Plane::start_from(Setup { logs, functions: Some(Arc::new(Function)), ..Setup::default() }).await;
    let format = "$context.eventType $context.routeKey $context.status $context.error.responseType $context.error.messageString $context.connectionId $context.requestId $context.authorizer.requestId $context.authorizer.integrationStatus $context.authorizer.status $context.integration.requestId";
    let deploy = |uri: &str, has_trace| {
        let uri = uri.to_owned();
        let mut deployed = Deployed::changed(move |definition| {
            definition.authorizers.push(tidegate_core::definition::Authorizer {
                authorizer_id: "auth001".to_owned(),
                authorizer_type: "REQUEST".to_owned(),
                authorizer_uri: Some(uri.clone()),
                ..Default::default()
            });
            definition.routes[0].authorization_type = "CUSTOM".to_owned();
            definition.routes[0].authorizer_id = Some("auth001".to_owned());
        });
        deployed.stage = stage("INFO", has_trace, Some(format));
        plane.deploy(&deployed);
    };
    let function = "arn:aws:lambda:us-east-1:123456789012:function:auth";
    deploy(function, false);
    let mut client = plane.connect().await;
    let connect = lines.event("CONNECT", 0).await;
    assert_eq!(connect[7..], ["authorizer-1", "200", "200", "-"]);
    let written = lines.of(&connect[6]);
    let position = |wanted: &str| {
        let found = written.iter().position(|line| line.starts_with(wanted));
        found.unwrap_or_else(|| panic!("{wanted} in {written:?}"))
    };
    // After the begin, and before the integration is asked.
    let begun = position("Client [UserAgent");
    let asked = position(&format!("Sending request to {function}"));
    let answered = position("AWS Integration Endpoint RequestId : authorizer-1");
    let integration = position(&format!("Sending request to http://{}", plane.backend.address));
    assert!(begun < asked && asked < answered && answered < integration, "{written:?}");
    assert!(!written.join(" ").contains("principalId"), "{written:?}");
    client.close(1000, "").await;

    // Refused on purpose is no fault of the function.
    let mut refused = Client::dial(plane.address, None).await;
    refused.write(&refused.handshake("?say=please%20fail&what=please+fail", "X-Say: please fail\r\n")).await;
    assert_eq!(refused.status().await, 401);
    let connect = lines.event("CONNECT", 1).await;
    assert_eq!(connect[7..], ["authorizer-1", "200", "401", "-"]);
    assert!(!lines.of(&connect[6]).iter().any(|line| line.contains("Lambda execution failed")));

    // With a trace, and without the key that an authorizer names.
    deploy(function, true);
    let _client = plane.connect_as("", "Cookie: session=0123456789abcdef\r\n").await;
    let connect = lines.event("CONNECT", 2).await;
    let written = lines.of(&connect[6]).join("\n");
    assert!(written.contains(r#""principalId":"ada""#) && written.contains(r#""methodArn":"#), "{written}");
    assert!(!written.contains("0123456789"), "{written}");

    // A check is no event.
    let n_lines = (lines.access.all().len(), lines.execution.all().len());
    let check = request(plane.address, "GET", PATH, "Tidegate-Check: 1\r\n", "").await;
    assert_eq!(check.status, 200);
    assert_eq!((lines.access.all().len(), lines.execution.all().len()), n_lines);

    // An address has no id, but a status.
    plane.backend.plan(|request| match request.target.as_str() {
        "/auth" => Answer::Status(403),
        _ => Answer::Status(200),
    });
    deploy(&format!("http://{}/auth", plane.backend.address), false);
    assert_eq!(plane.knock("", "").await, 403);
    let connect = lines.event("CONNECT", 3).await;
    assert_eq!(connect[7..], ["-", "403", "403", "-"]);
    let written = lines.of(&connect[6]);
    let sent = format!("Endpoint request URI: http://{}/auth", plane.backend.address);
    assert!(written.contains(&sent), "{written:?}");
    assert!(written.iter().any(|line| line.starts_with("Received response. Status: 403")), "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_behind_templates_have_lines_too() {
    // AG-28
    let lines = Arc::new(Lines::default());
    let logs = Arc::clone(&lines) as Arc<dyn LogSink>;
    let services = crate::backend::Backend::start().await;
    let mut aws = tidegate_gateway::AwsConfig::default();
    aws.endpoints.insert("sqs".to_owned(), format!("http://{}", services.address).parse().unwrap());
    let functions: Option<Arc<dyn FunctionRunner>> = Some(Arc::new(Function));
    let plane = Plane::start_from(Setup { logs, functions, aws, ..Setup::default() }).await;
    let deploy = |uri: &'static str| {
        let mut deployed = Deployed::changed(move |definition| {
            let templates = [("$default".to_owned(), r#"{"said":$input.json('$')}"#.to_owned())];
            let integration = tidegate_core::definition::Integration {
                integration_id: "custom1".to_owned(),
                integration_type: "AWS".to_owned(),
                integration_uri: Some(uri.to_owned()),
                integration_method: Some("POST".to_owned()),
                request_templates: Some(templates.into()),
                ..Default::default()
            };
            let response = IntegrationResponse {
                integration_response_key: "$default".to_owned(),
                ..IntegrationResponse::default()
            };
            definition.integration_responses.insert("custom1".to_owned(), vec![response]);
            definition.integrations.push(integration);
            let route = definition.routes.iter_mut().find(|route| route.route_key == "$default").unwrap();
            route.target = Some("integrations/custom1".to_owned());
        });
        deployed.stage = stage("INFO", true, Some(FORMAT));
        plane.deploy(&deployed);
    };
    deploy(
        "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:chat/invocations",
    );
    let mut client = plane.connect().await;
    client.send(r#"{"a":1}"#).await;
    let message = lines.event("MESSAGE", 0).await;
    let written = lines.of(&message[6]);
    for there in [
        "Sending request to arn:aws:lambda:us-east-1:123456789012:function:chat",
        r#"Endpoint request body after transformations: {"said":{"a":1}}"#,
        "AWS Integration Endpoint RequestId : runtime-1",
        r#"Endpoint response body before transformations: {"statusCode":200,"body":"of the function"}"#,
    ] {
        assert!(written.iter().any(|line| line == there), "{there} in {written:?}");
    }
    deploy("arn:aws:apigateway:us-east-1:sqs:path/000000000000/jobs");
    client.send(r#"{"a":2}"#).await;
    let message = lines.event("MESSAGE", 1).await;
    let written = lines.of(&message[6]);
    let address = services.address;
    for there in [
        format!("Endpoint request URI: http://{address}/000000000000/jobs"),
        "Endpoint request headers: {content-type=application/json}".to_owned(),
        r#"Endpoint request body after transformations: {"said":{"a":2}}"#.to_owned(),
        format!("Sending request to http://{address}/000000000000/jobs"),
    ] {
        assert!(written.contains(&there), "{there} in {written:?}");
    }
    assert!(written.iter().any(|line| line.starts_with("Received response. Status: 200")), "{written:?}");
    client.close(1000, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_message_lacks_is_a_variable() {
    // AG-28, AG-21
    let (plane, lines) = start(|_| {}).await;
    let format = "$context.eventType $context.requestId $context.error.responseType $context.error.validationErrorString";
    let mut deployed = Deployed::changed(|definition| {
        definition.models.push(tidegate_core::definition::Model {
            name: "room".to_owned(),
            schema: r#"{"type":"object","required":["room"]}"#.to_owned(),
            content_type: "application/json".to_owned(),
            ..Default::default()
        });
        let route = definition.routes.iter_mut().find(|route| route.route_key == "$default").unwrap();
        route.model_selection_expression = Some("any".to_owned());
        route.request_models = Some([("$default".to_owned(), "room".to_owned())].into());
    });
    deployed.stage = stage("OFF", false, Some(format));
    plane.deploy(&deployed);
    let mut client = plane.connect().await;
    client.send(r#"{"action":"join"}"#).await;
    let _ = client.text().await;
    let is_message = |(_, line): &(String, String)| line.starts_with("MESSAGE ");
    let line = lines.access.until("a line", 1, is_message).await[0].1.clone();
    assert!(line.contains(" BAD_REQUEST_BODY [") && line.contains("room") && line.ends_with(']'), "{line}");
    assert!(!line.contains("join"), "{line}");
    client.send(r#"{"room":"blue"}"#).await;
    let line = lines.access.until("a line", 2, is_message).await[1].1.clone();
    assert!(line.ends_with(" - -"), "{line}");
    client.close(1000, "").await;
    plane.end().await;
}
