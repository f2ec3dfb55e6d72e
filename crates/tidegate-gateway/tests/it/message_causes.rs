//! Why a message took another way than its sender meant, failed, or stayed without an answer.

use serde_json::json;
use tidegate_core::definition::{ApiDefinition, Integration, Route};

use crate::backend::{After, Answer};
use crate::client::Client;
use crate::harness::{Deployed, Plane};

fn wire(status: u16, body: &str) -> Answer {
    let length = body.len();
    let text =
        format!("HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}");
    Answer::Wire(text, After::Keep)
}

fn on_messages(plane: &Plane, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) {
    plane.backend.plan(move |request| match request.is_event("MESSAGE") {
        true => answer(&request.body),
        false => Answer::Status(200),
    });
}

/// With the routes `join` and `send_message` beside the usual ones.
fn with_routes() -> Deployed {
    Deployed { routes: vec!["join".to_owned(), "send_message".to_owned()], ..Deployed::default() }
}

/// Sends a message over a new connection, and waits until the backend has it.
async fn send(plane: &Plane, text: &str) -> Client {
    plane.notices.record.clear();
    let before = plane.backend.requests.count(|request| request.is_event("MESSAGE"));
    let mut client = plane.connect().await;
    client.send(text).await;
    plane.backend.events("MESSAGE", before + 1).await;
    client
}

/// Closes, and waits until the operator has heard of it.
async fn leave(plane: &Plane, mut client: Client) {
    client.close(1000, "").await;
    plane.seen("close", "connections.gone-client-closed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_message_went_to_the_default_route() {
    let plane = Plane::start().await;
    plane.deploy(&with_routes());
    for (text, id, value, nearest) in [
        // handler.key-missing
        (r#"{"b":1,"a":"x"}"#, "handler.key-missing", "", ""),
        // handler.selection-mismatch
        (r#"{"body":{"action":"join"}}"#, "handler.selection-mismatch", "", ""),
        (r#"{"handler":"join"}"#, "handler.selection-mismatch", "", ""),
        // handler.invalid-name
        (r#"{"action":"9 lives.x"}"#, "handler.invalid-name", "9 lives.x", ""),
        // handler.not-json
        (r#"{"action": join}"#, "handler.not-json", "", ""),
        // route.not-created
        (r#"{"action":"publish_everything"}"#, "route.not-created", "publish_everything", ""),
        // route.key-mismatch
        (r#"{"action":"Send-Message"}"#, "route.key-mismatch", "Send-Message", "send_message"),
        (r#"{"action":" join "}"#, "route.key-mismatch", " join ", "join"),
    ] {
        let client = send(&plane, text).await;
        let seen = plane.seen("message", id).await;
        assert_eq!((seen.text("selectedValue"), seen.text("nearest")), (value, nearest), "{text}");
        assert_eq!(seen.text("selection"), "$request.body.action");
        assert_eq!(seen.list("routeKeys"), ["$default", "join", "send_message"]);
        assert_eq!(seen.number("size"), text.len() as f64);
        assert_eq!(seen.place.route_key.as_deref(), Some("$default"));
        match id {
            "handler.key-missing" => assert_eq!(seen.list("keyNames"), ["a", "b"]),
            "handler.selection-mismatch" => {
                assert!(matches!(seen.text("foundAt"), "body.action" | "handler"))
            }
            "handler.not-json" => assert_eq!(seen.number("errorPosition"), 11.0),
            _ => {}
        }
        leave(&plane, client).await;
    }
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_route_is_normal_life() {
    let plane = Plane::start().await;
    // No route was made for messages: nothing can have been meant.
    let client = send(&plane, r#"{"b":1}"#).await;
    leave(&plane, client).await;
    assert!(plane.is_healthy());
    plane.deploy(&with_routes());
    for text in [r#"{"action":"join"}"#, r#"{"action":"default"}"#, "ping"] {
        let client = send(&plane, text).await;
        leave(&plane, client).await;
        assert!(plane.is_healthy(), "{text} {:?}", plane.notices.record.all());
    }
    // One entry for a connection and a kind of mistake, however often it is made.
    let mut client = send(&plane, r#"{"b":1}"#).await;
    for _ in 0..5 {
        client.send(r#"{"c":1}"#).await;
    }
    client.close(1000, "").await;
    plane.nobody_is_left().await;
    let remarks = plane.all_seen("message").into_iter().filter(|seen| !seen.id.is_empty());
    assert_eq!(remarks.count(), 1);
    plane.end().await;
}

/// Leaves out the routes of these keys.
fn without(keys: &'static [&'static str]) -> Deployed {
    let change = move |definition: &mut ApiDefinition| {
        definition.routes.retain(|route| !keys.contains(&route.route_key.as_str()));
    };
    Deployed { routes: vec!["join".to_owned()], ..Deployed::changed(change) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_a_route_is_forbidden() {
    // DX-71
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    let id = plane.id_of(&client).await;
    // route.no-match
    plane.deploy(&without(&["$default"]));
    client.send(r#"{"action":"joim"}"#).await;
    let frame: serde_json::Value = serde_json::from_str(&client.text().await).unwrap();
    assert_eq!(
        (frame["message"].as_str(), frame["connectionId"].as_str()),
        (Some("Forbidden"), Some(id.as_str()))
    );
    let seen = plane.seen("message", "route.no-match").await;
    assert_eq!((seen.text("selectedValue"), seen.text("nearest")), ("joim", "join"));
    assert_eq!((seen.text("causeId"), seen.list("routeKeys")), ("route.key-mismatch", vec!["join"]));
    // route.none
    plane.deploy(&without(&["$connect", "$disconnect", "$default", "join"]));
    client.send("{}").await;
    client.text().await;
    plane.seen("message", "route.none").await;
    plane.publish("/");
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_on_the_list() {
    // handler.not-allowed
    let plane = Plane::start().await;
    let policy = crate::harness::policy(json!({ "handlers": { "allowed": ["join"] } }));
    plane.deploy(&Deployed { policy: Some(policy), ..with_routes() });
    let client = send(&plane, r#"{"action":"joim"}"#).await;
    let seen = plane.seen("message", "handler.not-allowed").await;
    assert_eq!(seen.text("selectedValue"), "joim");
    leave(&plane, client).await;
    plane.end().await;
}

/// `own` has an integration of its own at this path; answers of `$default` and `own` go nowhere but are selected.
fn with_own_integration(path: &'static str) -> Deployed {
    Deployed::changed(move |definition| {
        let mut own: Integration = definition.integrations[0].clone();
        own.integration_id = "own".to_owned();
        let uri = own.integration_uri.clone().unwrap();
        let base = uri.split("/events").next().unwrap();
        own.integration_uri = Some(format!("{base}{path}"));
        definition.integrations.push(own);
        definition.routes.push(Route {
            route_id: "own".to_owned(),
            route_key: "own".to_owned(),
            target: Some("integrations/own".to_owned()),
            route_response_selection_expression: Some("$default".to_owned()),
            ..Route::default()
        });
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_whose_own_integration_is_wrong() {
    // route.integration-wrong
    let plane = Plane::start().await;
    plane.deploy(&with_own_integration("/elsewhere"));
    plane.backend.plan(|request| match request.target.as_str() {
        "/elsewhere" => wire(404, "nothing here"),
        _ => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    // `$connect` works, and this route never has.
    client.send(r#"{"action":"own"}"#).await;
    let seen = plane.seen("message", "route.integration-wrong").await;
    assert_eq!(seen.number("replyStatus"), 404.0);
    assert!(seen.list("candidates").contains(&"integration.wrong-url"));
    // Nothing reaches the client, as the route has no response.
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_handler_that_is_not_defined() {
    // integration.handler-undefined, reply.backend-failed
    let plane = Plane::start().await;
    plane.deploy(&with_routes());
    on_messages(&plane, |body| match body {
        "{}" => wire(500, "oops"),
        _ => Answer::Status(200),
    });
    let mut client = plane.connect().await;
    client.send("{}").await;
    let first = plane.seen("message", "reply.backend-failed").await;
    assert_eq!(first.text("causeId"), "integration.error-status");
    assert_eq!(client.text().await, "oops");
    client.send(r#"{"action":"join"}"#).await;
    plane.backend.events("MESSAGE", 2).await;
    client.send("{}").await;
    client.text().await;
    plane.seen("message", "integration.handler-undefined").await;
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_gets() {
    // reply.no-route-response
    let plane = Plane::start().await;
    plane.deploy(&with_own_integration("/own"));
    on_messages(&plane, |_| wire(200, "an answer"));
    let mut client = plane.connect().await;
    for _ in 0..3 {
        client.send(r#"{"action":"own"}"#).await;
    }
    client.send("{}").await;
    // Only the default route has a response.
    assert_eq!(client.text().await, "an answer");
    let seen = plane.seen("message", "reply.no-route-response").await;
    assert_eq!((seen.number("replyStatus"), seen.number("replyLength")), (200.0, 9.0));
    assert_eq!(seen.place.route_key.as_deref(), Some("own"));
    // Once for a route and an hour.
    assert_eq!(
        plane.all_seen("message").iter().filter(|seen| seen.id == "reply.no-route-response").count(),
        1
    );
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_says_nothing() {
    // reply.empty-message
    let plane = Plane::start().await;
    on_messages(&plane, |_| wire(200, "{}"));
    let mut client = plane.connect().await;
    client.send("hello").await;
    assert_eq!(client.text().await, "{}");
    let seen = plane.seen("message", "reply.empty-message").await;
    assert_eq!((seen.number("replyLength"), seen.facts.get("routeResponse")), (2.0, Some(&true.into())));
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_without_an_answer() {
    // conn.app-heartbeat-unanswered
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    client.send(r#"{"type":"ping"}"#).await;
    plane.backend.events("MESSAGE", 1).await;
    // The backend may still push an answer.
    assert!(plane.is_healthy());
    // Times are in milliseconds; the second one must be later.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    client.send(r#"{"type":"ping"}"#).await;
    plane.seen("message", "conn.app-heartbeat-unanswered").await;
    leave(&plane, client).await;
    // One that is answered by a push is well.
    plane.notices.record.clear();
    let mut client = plane.connect().await;
    for number in 1..4 {
        client.send("ping").await;
        plane.backend.events("MESSAGE", 2 + number).await;
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        plane.push_to_all("pong".into()).await;
        assert_eq!(client.text().await, "pong");
    }
    leave(&plane, client).await;
    assert!(plane.is_healthy(), "{:?}", plane.notices.record.all());
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_backend_says_of_a_message() {
    let plane = Plane::start().await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(125_000));
    on_messages(&plane, |body| match body {
        "format" => wire(400, "Invalid request format (1)"),
        "session" => wire(400, "Invalid connection ID"),
        "perm" => wire(403, "Permission Denied"),
        _ => wire(400, "Invalid request format (1)"),
    });
    let mut client = plane.connect().await;
    // handler.key-missing
    client.send("format").await;
    assert_eq!(client.text().await, "Invalid request format (1)");
    assert_eq!(plane.seen("message", "handler.key-missing").await.text("signature"), "dj-format");
    // backend.session-unknown
    client.send("session").await;
    client.text().await;
    let seen = plane.seen("message", "backend.session-unknown").await;
    assert!(seen.number("openSince") > 1e12 && seen.number("replyStatus") == 400.0);
    // perm.user-lacks
    client.send("perm").await;
    client.text().await;
    plane.seen("message", "perm.user-lacks").await;
    // message.backend-body-limit
    let middle = large.len() / 5;
    let parts = [0, 1, 2, 3, 4].map(|part| {
        let end = if part == 4 { large.len() } else { (part + 1) * middle };
        &large[part * middle..end]
    });
    client.write(&fragments(&parts)).await;
    client.text().await;
    let seen = plane.seen("message", "message.backend-body-limit").await;
    assert_eq!(seen.number("size"), large.len() as f64);
    client.close(1000, "").await;
    plane.end().await;
}

/// A text message in frames, masked with zeros.
fn fragments(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (part_idx, part) in parts.iter().enumerate() {
        let fin = if part_idx + 1 == parts.len() { 0x80 } else { 0 };
        let opcode = if part_idx == 0 { 1 } else { 0 };
        bytes.extend([fin | opcode, 0x80 | 126]);
        bytes.extend((part.len() as u16).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(part.as_bytes());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_too_late() {
    // reply.timeout
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    plane.deploy(&Deployed::changed(|definition| definition.integrations[0].timeout_in_millis = 100));
    let gate = crate::backend::Gate::new();
    let held = gate.clone();
    on_messages(&plane, move |_| Answer::Gated(200, held.clone()));
    client.send("hello").await;
    let frame: serde_json::Value = serde_json::from_str(&client.text().await).unwrap();
    assert_eq!(frame["message"], "Endpoint request timed out");
    let seen = plane.seen("message", "reply.timeout").await;
    assert_eq!((seen.text("causeId"), seen.number("limit")), ("integration.timeout", 100.0));
    gate.open();
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_gives_no_status() {
    // reply.template
    let plane = Plane::start().await;
    let mut client = plane.connect().await;
    plane.deploy(&Deployed::changed(|definition| {
        definition.integrations.push(Integration {
            integration_id: "mock".to_owned(),
            integration_type: "MOCK".to_owned(),
            request_templates: Some([("$default".to_owned(), "no status".to_owned())].into_iter().collect()),
            ..Integration::default()
        });
        definition.routes[2].target = Some("integrations/mock".to_owned());
    }));
    client.send("hello").await;
    let frame: serde_json::Value = serde_json::from_str(&client.text().await).unwrap();
    assert_eq!(frame["message"], "Internal server error");
    plane.seen("message", "reply.template").await;
    // integration.missing
    plane.deploy(&Deployed::changed(|definition| definition.routes[2].target = None));
    client.send("hello").await;
    client.text().await;
    plane.seen("message", "integration.missing").await;
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_too_large() {
    // message.too-large-out
    let plane = Plane::start_with(|settings| settings.data_plane.max_message_bytes = 200).await;
    on_messages(&plane, |_| wire(200, &"x".repeat(201)));
    let mut client = plane.connect().await;
    client.send("hello").await;
    client.text().await;
    let seen = plane.seen("message", "message.too-large-out").await;
    assert_eq!((seen.number("replyLength"), seen.number("limit"), seen.number("size")), (201.0, 200.0, 5.0));
    client.close(1000, "").await;
    plane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_messages() {
    // ratelimit.messages
    let plane = Plane::start_with_policy(json!({ "messages": { "rate": 1, "burst": 2 } })).await;
    let mut client = plane.connect().await;
    for _ in 0..3 {
        client.send("hello").await;
    }
    let seen = plane.seen("message", "ratelimit.messages").await;
    assert_eq!((seen.number("limit"), seen.number("burst"), seen.number("count")), (1.0, 2.0, 3.0));
    drop(client);
    plane.end().await;
}
