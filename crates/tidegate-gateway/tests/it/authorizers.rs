//! Authorizers of `$connect` (AG-18): who is asked, with what, and what comes of the answer (AG-3).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_core::definition::Authorizer;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::function::{FunctionRunner, Invocation, InvokeError, Invoked};
use tidegate_core::journal::Kind;
use tidegate_core::notice::Notice;
use tidegate_core::port::BoxFuture;

use crate::backend::{After, Answer, Backend, Gate, Request};
use crate::client::{Client, PATH, Reply, request};
use crate::harness::{Deployed, Plane, Setup};
use crate::record::Record;
use crate::session_layer::unlimited;
use crate::told::{Told, upgrade};

const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:tide000001/prod/$connect";
const URI: &str = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/\
                   arn:aws:lambda:us-east-1:123456789012:function:auth/invocations";

/// What the function does with a question.
type Body = Box<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// The function `auth`.
struct Function {
    body: Mutex<Arc<Body>>,
    asked: Record<Value>,
    /// It never answers.
    hangs: std::sync::atomic::AtomicBool,
    /// It answers once this is open.
    gate: Mutex<Option<Gate>>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Function")
    }
}

impl Function {
    fn new(body: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static) -> Arc<Self> {
        let function = Self {
            body: Mutex::new(Arc::new(Box::new(body))),
            asked: Record::default(),
            hangs: std::sync::atomic::AtomicBool::new(false),
            gate: Mutex::default(),
        };
        Arc::new(function)
    }

    fn answers(&self, answer: Value) {
        *self.body.lock() = Arc::new(Box::new(move |_| Ok(answer.clone())));
    }

    fn raises(&self, message: &'static str) {
        *self.body.lock() = Arc::new(Box::new(move |_| Err(message.to_owned())));
    }
}

impl FunctionRunner for Function {
    fn has(&self, name: &str) -> bool {
        name == "auth"
    }

    fn invoke(&self, invocation: Invocation) -> BoxFuture<'_, Result<Invoked, InvokeError>> {
        Box::pin(async move {
            let event: Value = serde_json::from_slice(&invocation.payload).unwrap();
            self.asked.push(event.clone());
            if self.hangs.load(std::sync::atomic::Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let gate = self.gate.lock().clone();
            if let Some(gate) = gate {
                gate.pass().await;
            }
            let body = Arc::clone(&self.body.lock());
            let (payload, function_error) = match body(&event) {
                Ok(answer) => (answer, None),
                Err(message) => {
                    (json!({ "errorMessage": message, "errorType": "Error" }), Some("Unhandled".to_owned()))
                }
            };
            let payload = bytes::Bytes::from(payload.to_string());
            Ok(Invoked { status: 200, payload, function_error, request_id: None })
        })
    }
}

fn policy(effect: &str, resource: &str) -> Value {
    json!({
        "principalId": "user-42",
        "policyDocument": { "Version": "2012-10-17", "Statement": [
            { "Effect": effect, "Action": "execute-api:Invoke", "Resource": resource },
        ] },
        "context": { "plan": "gold", "level": 3, "beta": true },
    })
}

/// A stage whose `$connect` asks at `uri`.
fn deployed(uri: &str, sources: &[&str]) -> Deployed {
    let (uri, sources): (String, Vec<String>) =
        (uri.to_owned(), sources.iter().map(|&text| text.to_owned()).collect());
    let headers = [
        ("x-principal", "context.authorizer.principalId"),
        ("x-plan", "context.authorizer.plan"),
        ("x-level", "context.authorizer.level"),
        ("x-beta", "context.authorizer.beta"),
    ];
    let changed = Deployed::changed(move |definition| {
        definition.authorizers.push(Authorizer {
            authorizer_id: "auth001".to_owned(),
            name: "people".to_owned(),
            authorizer_type: "REQUEST".to_owned(),
            authorizer_uri: Some(uri.clone()),
            identity_source: sources.clone(),
            ..Authorizer::default()
        });
        definition.routes[0].authorization_type = "CUSTOM".to_owned();
        definition.routes[0].authorizer_id = Some("auth001".to_owned());
    });
    let headers = headers.map(|(name, source)| (name.to_owned(), source.to_owned())).to_vec();
    Deployed { headers, ..changed }
}

async fn start(
    function: &Arc<Function>,
    sources: &[&str],
    change: impl FnOnce(&mut tidegate_core::settings::Settings),
) -> Plane {
    let functions = Some(Arc::clone(function) as Arc<dyn FunctionRunner>);
    let mut setup = Setup { functions, ..Setup::default() };
    change(&mut setup.settings);
    let plane = Plane::start_from(setup).await;
    plane.deploy(&deployed(URI, sources));
    plane
}

async fn refused(plane: &Plane, query: &str) -> Told {
    plane.told(&upgrade(&format!("{PATH}{query}"), "localhost", "")).await
}

fn body(told: &Told, message: &str) -> String {
    let connection_id = told.place.connection_id.unwrap();
    let request_id = told.place.request_id.unwrap();
    format!(r#"{{"message": {message}, "connectionId":"{connection_id}", "requestId":"{request_id}"}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consent_stays_known_for_the_life_of_the_connection() {
    // AG-18
    let function = Function::new(|_| Ok(policy("Allow", ARN)));
    let plane = start(&function, &["route.request.querystring.token"], |_| {}).await;
    let mut client = plane.connect_as("?token=abc&room=blue", "X-Custom: One\r\n").await;
    let id = plane.id_of(&client).await;
    let asked = &function.asked.all()[0];
    assert_eq!((asked["type"].as_str(), asked["methodArn"].as_str()), (Some("REQUEST"), Some(ARN)));
    assert_eq!(asked["requestContext"]["connectionId"], *id);
    assert_eq!(asked["requestContext"]["eventType"], "CONNECT");
    assert_eq!(asked["queryStringParameters"], json!({ "token": "abc", "room": "blue" }));
    assert_eq!(
        (&asked["headers"]["X-Custom"], &asked["headers"]["Upgrade"]),
        (&json!("One"), &json!("websocket"))
    );
    assert!(asked.get("body").is_none() && asked["requestContext"].get("authorizer").is_none());
    client.send("hello").await;
    plane.backend.events("MESSAGE", 1).await;
    client.close(1000, "").await;
    plane.disconnect_of(&id).await;
    for event in ["CONNECT", "MESSAGE", "DISCONNECT"] {
        let request = &plane.backend.events(event, 1).await[0];
        let known = ["x-principal", "x-plan", "x-level", "x-beta"].map(|name| request.value(name));
        assert_eq!(known, ["user-42", "gold", "3", "true"], "{event}");
    }
    // Once for each connection, and never for a message.
    assert_eq!(function.asked.all().len(), 1);
    let is_decision = |notice: &Notice| matches!(notice, Notice::Decided { kind: Kind::Authorizer, .. });
    let decided = plane.notices.record.until("a decision", 1, is_decision).await;
    let [Notice::Decided { facts, remark: None, .. }] = decided.as_slice() else { panic!("{decided:?}") };
    assert_eq!(facts.get("principal"), Some(json!("user-42")));
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lacks_an_identity_source_is_not_asked_about() {
    // AG-18, AG-3, authorizer.identity-missing
    let function = Function::new(|_| Ok(policy("Allow", ARN)));
    let sources = ["route.request.header.X-Auth, route.request.querystring.token", ""];
    let plane = start(&function, &sources, |_| {}).await;
    for (query, headers, missing) in [
        ("", "", json!(["route.request.header.X-Auth", "route.request.querystring.token"])),
        ("?token=", "x-auth: a\r\n", json!(["route.request.querystring.token"])),
        ("?Token=a", "x-auth: a\r\n", json!(["route.request.querystring.token"])),
        ("?token=a", "X-AUTH: \r\n", json!(["route.request.header.X-Auth"])),
    ] {
        let told = plane.told(&upgrade(&format!("{PATH}{query}"), "localhost", headers)).await;
        assert_eq!((told.status, told.id), (401, "authorizer.identity-missing"), "{query} {headers}");
        assert_eq!(told.reply.body, body(&told, r#""Unauthorized""#));
        assert_eq!(told.reply.value("x-amzn-errortype"), "UnauthorizedException");
        assert_eq!(told.reply.value("content-type"), "application/json; charset=UTF-8");
        assert_eq!(told.facts["missing"], missing);
    }
    assert_eq!(function.asked.all().len(), 0);
    assert_eq!(plane.knock("?token=a", "x-auth: a\r\n").await, 101);
    assert_eq!(function.asked.all().len(), 1);
    assert_eq!(plane.backend.requests.count(|request| request.is_event("CONNECT")), 1);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_say_which_they_are() {
    // AG-18, AG-3
    let function = Function::new(|_| Ok(json!({})));
    let plane = start(&function, &[], |_| {}).await;
    let explicit =
        "User is not authorized to access this resource with an explicit deny in an identity-based policy";
    let no_allow = "User is not authorized to access this resource because no identity-based policy allows the \
                    execute-api:Invoke action";
    let rest = "arn:aws:execute-api:us-east-1:123456789012:tide000001/prod/*/*";
    let nothing = json!({ "principalId": "user-42", "policyDocument": { "Statement": [] } });
    for (answer, id, message) in [
        // authorizer.denied
        (policy("Deny", "*"), "authorizer.denied", explicit),
        (nothing, "authorizer.denied", no_allow),
        // authorizer.resource-mismatch
        (policy("Allow", rest), "authorizer.resource-mismatch", no_allow),
    ] {
        function.answers(answer);
        let told = refused(&plane, "").await;
        assert_eq!((told.status, told.id), (403, id));
        assert_eq!(told.reply.body, body(&told, &json!(message).to_string()));
        assert_eq!(told.reply.value("x-amzn-errortype"), "AccessDeniedException");
        assert!(told.facts["authorizerMs"].is_u64() && told.facts["authorizer"] == "people");
        assert_eq!(told.facts["principal"], "user-42");
        if id == "authorizer.resource-mismatch" {
            assert_eq!((&told.facts["allowed"], &told.facts["resource"]), (&json!([rest]), &json!(ARN)));
        }
    }
    // Policies that cover the stage let in.
    for resource in ["*", "arn:aws:execute-api:us-east-1:123456789012:tide000001/prod/*"] {
        function.answers(policy("Allow", resource));
        assert_eq!(plane.knock("", "").await, 101, "{resource}");
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_authorizer_are_told_apart() {
    // AG-18, AG-3
    let function = Function::new(|_| Ok(json!({})));
    let plane = start(&function, &[], |settings| settings.authorizer.timeout_ms = 200).await;
    function.raises("Unauthorized");
    let told = refused(&plane, "").await;
    assert_eq!((told.status, told.id), (401, "authorizer.denied"));
    assert_eq!(told.reply.body, body(&told, r#""Unauthorized""#));
    // authorizer.failed: any other error, even one that begins so.
    for message in ["Unauthorized!", "boom"] {
        function.raises(message);
        let told = refused(&plane, "").await;
        assert_eq!((told.status, told.id), (500, "authorizer.failed"));
        assert_eq!(told.reply.body, body(&told, r#""Internal server error""#));
    }
    // authorizer.bad-answer
    let mut nested = policy("Allow", ARN);
    nested["context"]["inner"] = json!({});
    let long = json!({ "principalId": "x".repeat(9000), "policyDocument": {} });
    for (answer, form) in [
        (json!({ "statusCode": 200 }), "object"),
        (json!("yes"), "text"),
        (nested, "object"),
        (long, "object"),
    ] {
        function.answers(answer);
        let told = refused(&plane, "").await;
        assert_eq!((told.status, told.id), (500, "authorizer.bad-answer"));
        assert_eq!(told.reply.body, body(&told, "null"));
        assert_eq!(told.facts["form"], form);
        assert!(told.facts["length"].is_u64());
    }
    function.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    let told = refused(&plane, "").await;
    assert_eq!((told.status, told.id), (500, "authorizer.failed"));
    assert_eq!((&told.facts["errorClass"], &told.facts["limit"]), (&json!("timeout"), &json!(200)));
    // A function that is not there.
    plane.deploy(&deployed("arn:aws:lambda:us-east-1:123456789012:function:none", &[]));
    assert_eq!(refused(&plane, "").await.id, "authorizer.failed");
    assert_eq!(plane.backend.requests.all().len(), 0);
    plane.end().await;
}

fn http_answer(status: u16, body: &str) -> Answer {
    let length = body.len();
    Answer::Wire(format!("HTTP/1.1 {status} Planned\r\nContent-Length: {length}\r\n\r\n{body}"), After::Keep)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_asked_as_a_function_is() {
    // AG-18
    let plane = Plane::start().await;
    let authorizer = Backend::start().await;
    plane.deploy(&deployed(&format!("http://{}/check", authorizer.address), &[]));
    let allow = policy("Allow", ARN).to_string();
    authorizer.plan(move |_: &Request| http_answer(200, &allow));
    let client = plane.connect_as("?token=abc", "").await;
    let id = plane.id_of(&client).await;
    let asked = &authorizer.requests.all()[0];
    let event: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(asked.target, "/check");
    assert_eq!((&event["methodArn"], &event["requestContext"]["connectionId"]), (&json!(ARN), &json!(id)));
    assert_eq!(asked.value("x-amzn-apigateway-api-id"), "tide000001");
    assert_eq!(plane.backend.events("CONNECT", 1).await[0].value("x-principal"), "user-42");
    drop(client);
    for (status, answer, expected) in [
        (401, "", (401, "authorizer.denied")),
        (403, "", (403, "authorizer.denied")),
        (500, "", (500, "authorizer.failed")),
        (302, "", (500, "authorizer.failed")),
        (200, "ok", (500, "authorizer.bad-answer")),
    ] {
        authorizer.plan(move |_: &Request| http_answer(status, answer));
        let told = refused(&plane, "").await;
        assert_eq!((told.status, told.id), expected, "{status}");
    }
    authorizer.plan(|_| Answer::Reset);
    assert_eq!(refused(&plane, "").await.id, "authorizer.failed");
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_answers_and_ages_are_settings() {
    let function = Function::new(|_| Ok(json!({ "isAuthorized": true, "context": { "plan": "gold" } })));
    let plane = start(&function, &[], |_| {}).await;
    assert_eq!(refused(&plane, "").await.id, "authorizer.bad-answer");
    plane.end().await;
    let plane = start(&function, &[], |settings| {
        settings.authorizer.simple_responses = true;
        settings.authorizer.max_age = 1;
    })
    .await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    assert_eq!(plane.backend.events("CONNECT", 1).await[0].value("x-plan"), "gold");
    // close.authorization-expired
    let frame = client.closed().await.expect("a close frame");
    assert_eq!((frame.code.as_u16(), frame.reason.as_str()), (1008, "Authorization expired"));
    assert_eq!(plane.disconnect_of(&id).await, (1008, "Authorization expired".to_owned()));
    let is_end = |notice: &Notice| {
        matches!(notice, Notice::ConnectionClosed { diagnosis, .. }
            if *diagnosis == Diagnosis::CLOSE_AUTHORIZATION_EXPIRED)
    };
    plane.notices.record.until("the end", 1, is_end).await;
    function.answers(json!({ "isAuthorized": false }));
    assert_eq!(refused(&plane, "").await.status, 403);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_does_not_stop_the_authorizer() {
    let function = Function::new(|_| Ok(policy("Allow", ARN)));
    function.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    let plane = start(&function, &[], |settings| settings.authorizer.timeout_ms = 300).await;
    let mut client = Client::dial(plane.address, None).await;
    client.write(&client.handshake("", "")).await;
    function.asked.until("a question", 1, |_| true).await;
    client.reset();
    let (id, _, facts) = plane.silently_refused().await;
    assert_eq!(id, "authorizer.failed");
    assert!(facts.contains_key("clientLeftMs"));
    plane.nobody_is_left().await;
    assert_eq!(plane.backend.requests.all().len(), 0);
    tokio::time::timeout(Duration::from_secs(10), plane.end()).await.unwrap();
}

/// The authorizer and one-time tokens.
fn with_tokens() -> Deployed {
    let policy = unlimited(json!({ "admission": { "checks": ["token"] } }));
    Deployed { policy: Some(crate::harness::policy(policy)), ..deployed(URI, &[]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_spent_only_when_the_authorizer_has_allowed() {
    let function = Function::new(|_| Ok(policy("Deny", "*")));
    let plane = start(&function, &[], |_| {}).await;
    plane.deploy(&with_tokens());
    let token = plane.token_of("ada").await;
    let query = format!("?ws_token={token}");
    // Refused, failed, and no answer at all: the token is as good as before.
    assert_eq!(refused(&plane, &query).await.id, "authorizer.denied");
    function.raises("boom");
    assert_eq!(refused(&plane, &query).await.id, "authorizer.failed");
    function.answers(json!("x"));
    assert_eq!(refused(&plane, &query).await.id, "authorizer.bad-answer");
    function.answers(policy("Allow", ARN));
    let first = plane.connect_as(&query, "").await;
    assert_eq!(refused(&plane, &query).await.id, "token.reused");
    drop(first);

    // Handshakes that are all let in by the authorizer with one token: exactly one goes on to the backend.
    let n_before = function.asked.all().len();
    let gate = Gate::new();
    *function.gate.lock() = Some(gate.clone());
    let token = plane.token_of("bob").await;
    let ask = async || {
        let mut client = Client::dial(plane.address, None).await;
        client.write(upgrade(&format!("{PATH}?ws_token={token}"), "localhost", "").as_bytes()).await;
        let reply = client.reply().await;
        (reply, client)
    };
    let asking: Vec<_> = (0..5).map(|_| Box::pin(ask())).collect();
    let all = futures_util::future::join_all(asking);
    let opens = async {
        function.asked.until("five questions", n_before + 5, |_| true).await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(all, opens);
    let statuses: Vec<u16> = answers.iter().map(|(reply, _)| reply.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 101).count(), 1, "{statuses:?}");
    for (reply, _) in answers.iter().filter(|(reply, _)| reply.status != 101) {
        assert_eq!(
            plane.told_of(Reply { head: reply.head.clone(), body: reply.body.clone(), ..*reply }).id,
            "token.reused"
        );
    }
    drop(answers);
    assert_eq!(plane.backend.requests.count(|request| request.is_event("CONNECT")), 2);
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_asks_the_authorizer_and_opens_nothing() {
    let function = Function::new(|_| Ok(policy("Allow", ARN)));
    let plane = start(&function, &["route.request.querystring.key"], |_| {}).await;
    plane.deploy(&Deployed {
        policy: with_tokens().policy,
        ..deployed(URI, &["route.request.querystring.key"])
    });
    let check = async |query: &str| {
        request(plane.address, "GET", &format!("{PATH}{query}"), "Tidegate-Check: 1\r\n", "").await
    };
    let token = plane.token_of("ada").await;
    let query = format!("?ws_token={token}&key=1");
    let reply = check(&query).await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "ok": true })));
    assert_eq!(function.asked.all().len(), 1);
    let reply = check(&format!("?ws_token={token}")).await;
    assert_eq!((reply.status, &reply.json()["id"]), (401, &json!("authorizer.identity-missing")));
    function.answers(policy("Deny", "*"));
    let reply = check(&query).await;
    assert_eq!((reply.status, &reply.json()["id"]), (403, &json!("authorizer.denied")));
    assert_eq!(reply.value("tidegate-diagnosis"), "authorizer.denied");
    function.raises("boom");
    let reply = check(&query).await;
    assert_eq!((reply.status, &reply.json()["id"]), (500, &json!("authorizer.failed")));
    assert_eq!(plane.remarks("authorizer.denied").len(), 1);
    // Nothing was spent, nobody was connected, and no handshake was refused.
    function.answers(policy("Allow", ARN));
    assert_eq!((plane.backend.requests.all().len(), plane.gateway.n_connections()), (0, 0));
    assert_eq!(plane.notices.record.count(|notice| matches!(notice, Notice::HandshakeRefused { .. })), 0);
    assert_eq!(plane.knock(&query, "").await, 101);
    plane.end().await;
}

/// Handshakes at once. Small enough for any machine; the bound that is tested, `AT_A_TIME`, is not reached.
const AT_ONCE: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorizer_that_never_answers_holds_nobody_for_long() {
    let function = Function::new(|_| Ok(policy("Allow", ARN)));
    function.hangs.store(true, std::sync::atomic::Ordering::Relaxed);
    let plane = start(&function, &[], |settings| settings.authorizer.timeout_ms = 3000).await;
    let started = std::time::Instant::now();
    let text = upgrade(PATH, "localhost", "");
    let mut clients = Vec::new();
    for _ in 0..AT_ONCE {
        let mut client = Client::dial(plane.address, None).await;
        client.write(text.as_bytes()).await;
        clients.push(client);
    }
    function.asked.until("all questions", AT_ONCE, |_| true).await;
    assert_eq!(plane.gateway.n_connections(), AT_ONCE);
    let answers = clients.iter_mut().map(|client| client.reply());
    for reply in futures_util::future::join_all(answers).await {
        assert_eq!(reply.status, 500);
        let told = plane.told_of(reply);
        assert_eq!((told.id, &told.facts["errorClass"]), ("authorizer.failed", &json!("timeout")));
    }
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_secs(20), "{waited:?}");
    drop(clients);
    // Nothing of them is left, and whoever comes next is asked about.
    plane.nobody_is_left().await;
    function.hangs.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(plane.knock("", "").await, 101);
    plane.end().await;
}
