//! What the fuzz targets of `tidegate-core` do with their input: a text of the operator's, a zero byte, a text of the
//! client's. The replay test of the crate runs the same functions over the corpus.

use std::sync::Arc;

use tidegate_core::context::{ConnectionFacts, Event, EventKind};
use tidegate_core::definition::Map;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::json::Json;
use tidegate_core::json_path::{Budget, Found, JsonPath, MAX_EVALUATION_STEPS, MAX_RESULT_BYTES};
use tidegate_core::model::Model;
use tidegate_core::select::Expression;
use tidegate_core::template::{MAX_OUTPUT_BYTES, Scope, Template};

/// The two texts of an input.
fn texts(data: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(data).ok()?;
    Some(text.split_once('\0').unwrap_or((text, "{}")))
}

/// Any template that parses ends, with at most so much output.
pub fn template(data: &[u8]) {
    let Some((template, body)) = texts(data) else { return };
    let Ok(template) = Template::parse(template) else { return };
    let Ok(connection_id) = ConnectionId::parse("Hh2QmdfDIkwCF6w=") else { return };
    let event = Event {
        connection: Arc::new(ConnectionFacts {
            connection_id,
            api_id: "k3x9q2m7vd".into(),
            stage: "prod".into(),
            domain_name: "ws.example.com".into(),
            source_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            user_agent: None,
            is_secure: true,
            client_port: 443,
            connected_at: 1_736_942_400_000,
        }),
        request_id: RequestId::new(0, 0),
        route_key: "join".into(),
        request_time: 1_736_942_400_001,
        kind: EventKind::Connect,
        session: None,
        authorized: None,
    };
    let stage_variables: Map = [("tier".to_owned(), "gold".to_owned())].into();
    let scope =
        Scope { event: &event, stage_variables: &stage_variables, body, headers: None, query: "a=b&c" };
    if let Ok(text) = template.render(&scope) {
        assert!(text.len() <= MAX_OUTPUT_BYTES);
    }
}

/// Reading a path from the text and walking the tree find the same.
pub fn json_path(data: &[u8]) {
    let Some((path, document)) = texts(data) else { return };
    let Ok(path) = JsonPath::parse(path) else { return };
    let found = path.find(document);
    if let Found::Text(text) = &found {
        assert!(text.len() <= MAX_RESULT_BYTES.max(document.len()));
    }
    let Ok(tree) = Json::parse(document) else { return };
    if let (Ok(hits), Found::Nothing) = (path.evaluate(&tree, &Budget::new(MAX_EVALUATION_STEPS)), &found) {
        let copied = hits.into_json(&Budget::new(MAX_EVALUATION_STEPS));
        assert_eq!(copied, Ok(None));
    }
}

/// Any schema that compiles checks any message.
pub fn model(data: &[u8]) {
    let Some((schema, message)) = texts(data) else { return };
    if let Ok(model) = Model::compile(schema) {
        let _ = model.validate(message);
    }
}

/// Any expression selects something from any message.
pub fn expression(data: &[u8]) {
    let Some((expression, message)) = texts(data) else { return };
    if let Ok(expression) = Expression::parse(expression) {
        expression.select(message);
    }
}
