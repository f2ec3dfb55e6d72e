//! The loop of an application with the AWS SDK for Rust: an API without a backend, a client, pushes, and every modelled error.
//!
//! `tidegate-conformance-rust-sdk '{"control": ..., "region": ..., "accessKey": ..., "secretKey": ..., "connect": ..., "management": ...}'`
//! prints what the SDK made of the answers as one JSON object. `{api}`, `{stage}` and `{endpoint}` in the two addresses are filled in.

use std::error::Error;
use std::time::Duration;

use aws_sdk_apigatewaymanagement as management;
use aws_sdk_apigatewayv2 as v2;
use futures_util::{SinkExt, StreamExt};
use management::error::ProvideErrorMetadata;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use v2::types::{IntegrationType, ProtocolType};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let given: Value = serde_json::from_str(&std::env::args().nth(1).ok_or("one argument: a JSON object")?)?;
    let result = tokio::time::timeout(Duration::from_secs(60), run(&given)).await??;
    println!("{result}");
    Ok(())
}

fn text<'a>(given: &'a Value, name: &str) -> &'a str {
    given[name].as_str().unwrap_or_default()
}

async fn run(given: &Value) -> Result<Value, Failure> {
    let region = text(given, "region").to_owned();
    let credentials = || v2::config::Credentials::new(text(given, "accessKey"), text(given, "secretKey"), None, None, "conformance");
    let mut config = v2::Config::builder().region(v2::config::Region::new(region.clone())).credentials_provider(credentials());
    if given["control"].is_string() {
        config = config.endpoint_url(text(given, "control"));
    }
    let control = v2::Client::from_conf(config.build());

    let api = control.create_api().name("rust").protocol_type(ProtocolType::Websocket).route_selection_expression("$request.body.action").send().await?;
    let api_id = api.api_id().ok_or("no api id")?.to_owned();
    let outcome = talk(given, &control, &api_id, api.api_endpoint().unwrap_or_default(), region, credentials()).await;
    control.delete_api().api_id(&api_id).send().await?;
    let mut outcome = outcome?;
    outcome["createdDate"] = json!(api.created_date().is_some());
    Ok(outcome)
}

/// Routes of type MOCK: they need no backend that the endpoint could reach.
async fn mock_route(control: &v2::Client, api_id: &str, key: &str, answer: &str) -> Result<(), Failure> {
    let integration = control
        .create_integration()
        .api_id(api_id)
        .integration_type(IntegrationType::Mock)
        .template_selection_expression("\\$default")
        .request_templates("$default", r#"{"statusCode": 200}"#)
        .send()
        .await?;
    let integration_id = integration.integration_id().ok_or("no integration id")?;
    control
        .create_integration_response()
        .api_id(api_id)
        .integration_id(integration_id)
        .integration_response_key("$default")
        .template_selection_expression("\\$default")
        .response_templates("$default", answer)
        .send()
        .await?;
    let route = control
        .create_route()
        .api_id(api_id)
        .route_key(key)
        .target(format!("integrations/{integration_id}"))
        .route_response_selection_expression("$default")
        .send()
        .await?;
    control.create_route_response().api_id(api_id).route_id(route.route_id().ok_or("no route id")?).route_response_key("$default").send().await?;
    Ok(())
}

async fn talk(
    given: &Value,
    control: &v2::Client,
    api_id: &str,
    endpoint: &str,
    region: String,
    credentials: v2::config::Credentials,
) -> Result<Value, Failure> {
    mock_route(control, api_id, "$default", r#"{"connectionId":"$context.connectionId"}"#).await?;
    control.create_stage().api_id(api_id).stage_name("prod").send().await?;
    let deployment = control.create_deployment().api_id(api_id).stage_name("prod").send().await?;
    if let Some(seconds) = given["settle"].as_f64() {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
    let fill = |pattern: &str| pattern.replace("{api}", api_id).replace("{stage}", "prod").replace("{endpoint}", endpoint);
    let address = fill(text(given, "management"));
    let management_url = address.strip_prefix("ws").map_or(address.clone(), |rest| format!("http{rest}"));
    let push = management::Client::from_conf(
        management::Config::builder()
            .region(management::config::Region::new(region))
            .credentials_provider(credentials)
            .endpoint_url(management_url)
            .build(),
    );

    let (mut socket, _) = tokio_tungstenite::connect_async(fill(text(given, "connect"))).await?;
    socket.send(Message::text("who am I")).await?;
    let hello: Value = serde_json::from_str(next_text(&mut socket).await?.as_str())?;
    let id = hello["connectionId"].as_str().ok_or("no connection id")?.to_owned();

    let blob = |bytes: &[u8]| management::primitives::Blob::new(bytes);
    push.post_to_connection().connection_id(&id).data(blob("from Rust ü".as_bytes())).send().await?;
    let pushed = next_text(&mut socket).await?;
    push.post_to_connection().connection_id(&id).data(blob(&[b'x'; 131_072])).send().await?;
    let longest = next_text(&mut socket).await?.len();
    let too_large = push.post_to_connection().connection_id(&id).data(blob(&[b'x'; 131_073])).send().await;
    let malformed = push.post_to_connection().connection_id("abc").data(blob(b"x")).send().await;
    let info = push.get_connection().connection_id(&id).send().await?;
    push.delete_connection().connection_id(&id).send().await?;
    let closed = loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => break json!({"code": u16::from(frame.code), "reason": frame.reason.as_str()}),
            Some(Ok(_)) => {}
            other => return Err(format!("no close frame but {other:?}").into()),
        }
    };
    let gone = [
        code(push.post_to_connection().connection_id(&id).data(blob(b"x")).send().await.err()),
        code(push.get_connection().connection_id(&id).send().await.err()),
        code(push.delete_connection().connection_id(&id).send().await.err()),
    ];
    let unknown = control.get_api().api_id("aaaaaaaaaa").send().await;
    let conflict = control.create_stage().api_id(api_id).stage_name("prod").send().await;
    let bad = control.create_api().name("h").protocol_type(ProtocolType::Http).send().await;
    let is_typed = matches!(too_large.as_ref().err().and_then(|error| error.as_service_error()), Some(error) if error.is_payload_too_large_exception());
    Ok(json!({
        "deployed": deployment.deployment_status().map(|status| status.as_str().to_owned()),
        "pushed": pushed,
        "longest": longest,
        "tooLarge": code(too_large.err()),
        "tooLargeIsTyped": is_typed,
        "malformed": code(malformed.err()),
        "sourceIp": info.identity().and_then(|identity| identity.source_ip()),
        "dates": info.connected_at().is_some() && info.last_active_at() >= info.connected_at(),
        "closed": closed,
        "gone": gone,
        "unknown": code(unknown.err()),
        "conflict": code(conflict.err()),
        "badRequest": code(bad.err()),
    }))
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn next_text(socket: &mut Socket) -> Result<String, Failure> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => return Err(format!("no text but {other:?}").into()),
        }
    }
}

/// The error's code and message, as an application asks for them.
fn code(error: Option<impl ProvideErrorMetadata>) -> Value {
    match error {
        Some(error) => json!({"code": error.code(), "message": error.message()}),
        None => Value::Null,
    }
}
