//! Configures APIs through the control plane, as any AWS client would.

use std::net::SocketAddr;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tidegate_auth::{CredentialKeys, Payload, RequestParts, Secret, Signer};

use crate::gateway_process::{ACCESS_KEY_ID, GatewayProcess, REGION, SECRET_ACCESS_KEY};
use crate::http_exchange::exchange;

/// Name of the only stage.
pub const STAGE: &str = "bench";

/// URI of the gateway's built-in echo.
pub const ECHO_URI: &str = "tidegate://echo";

/// A route to create.
#[derive(Debug, Clone, Copy)]
pub struct RouteSpec<'a> {
    /// `$connect`, `$default`, ...
    pub key: &'a str,
    /// What it calls.
    pub uri: &'a str,
    /// The answer goes back to the client.
    pub is_two_way: bool,
}

/// A signer with the credentials of the run.
pub fn signer(service: &str) -> Signer {
    let keys = CredentialKeys::permanent(Secret::new(SECRET_ACCESS_KEY));
    Signer::new(ACCESS_KEY_ID, keys, REGION, service)
}

/// Creates an API with `routes`, deploys it, and answers its path on the public listener.
pub fn create_api(gateway: &GatewayProcess, routes: &[RouteSpec<'_>]) -> Result<String> {
    let control = Control { signer: signer("apigateway"), admin: gateway.admin };
    let body = json!({"name": "bench", "protocolType": "WEBSOCKET",
                      "routeSelectionExpression": "$request.body.action"});
    let api_id = control.create("/v2/apis", &body, "apiId")?;
    let base = format!("/v2/apis/{api_id}");
    for route in routes {
        let body = json!({"integrationType": "HTTP_PROXY", "integrationMethod": "POST",
                          "integrationUri": route.uri});
        let integration = control.create(&format!("{base}/integrations"), &body, "integrationId")?;
        let mut body = json!({"routeKey": route.key, "target": format!("integrations/{integration}")});
        if route.is_two_way {
            body["routeResponseSelectionExpression"] = json!("$default");
        }
        let route_id = control.create(&format!("{base}/routes"), &body, "routeId")?;
        if route.is_two_way {
            let body = json!({"routeResponseKey": "$default"});
            control.create(&format!("{base}/routes/{route_id}/routeresponses"), &body, "routeResponseId")?;
        }
    }
    control.create(&format!("{base}/stages"), &json!({"stageName": STAGE}), "stageName")?;
    control.create(&format!("{base}/deployments"), &json!({"stageName": STAGE}), "deploymentId")?;
    Ok(format!("/_aws/execute-api/{api_id}/{STAGE}"))
}

/// What an API has beyond routes to an HTTP backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// One line for each event.
    pub has_access_log: bool,
    /// Messages and answers go through templates that change and restore them.
    pub has_templates: bool,
    /// `$connect` asks an authorizer.
    pub has_authorizer: bool,
}

/// Form of the access log: what people usually log.
const ACCESS_LOG: &str = r#"{"requestId":"$context.requestId","ip":"$context.identity.sourceIp","agent":"$context.identity.userAgent","time":"$context.requestTime","event":"$context.eventType","route":"$context.routeKey","status":"$context.status","latency":"$context.integration.latency","connection":"$context.connectionId","error":$context.error.messageString}"#;

/// What a backend behind templates gets, and the way back.
const REQUEST_TEMPLATE: &str =
    r#"{"connection":"$context.connectionId","sent":"$context.requestTimeEpoch","message":$input.json('$')}"#;
const RESPONSE_TEMPLATE: &str = "$input.json('$.message')";

/// Creates an API whose `$connect` and two-way `$default` call the backend at `uri`, and answers its path.
pub fn create_api_with(gateway: &GatewayProcess, uri: &str, extras: Extras) -> Result<String> {
    let control = Control { signer: signer("apigateway"), admin: gateway.admin };
    let body = json!({"name": "bench", "protocolType": "WEBSOCKET",
                      "routeSelectionExpression": "$request.body.action"});
    let api_id = control.create("/v2/apis", &body, "apiId")?;
    let base = format!("/v2/apis/{api_id}");
    let integrations = format!("{base}/integrations");
    let backend = format!("{uri}/");
    let proxy =
        json!({"integrationType": "HTTP_PROXY", "integrationMethod": "POST", "integrationUri": backend});
    let plain = control.create(&integrations, &proxy, "integrationId")?;
    let mut connect = json!({"routeKey": "$connect", "target": format!("integrations/{plain}")});
    if extras.has_authorizer {
        let body = json!({"name": "bench", "authorizerType": "REQUEST", "authorizerUri": format!("{uri}/authorize"),
                          "identitySource": []});
        let authorizer = control.create(&format!("{base}/authorizers"), &body, "authorizerId")?;
        connect["authorizationType"] = json!("CUSTOM");
        connect["authorizerId"] = json!(authorizer);
    }
    control.create(&format!("{base}/routes"), &connect, "routeId")?;
    let of_messages = match extras.has_templates {
        false => plain,
        true => {
            let body = json!({"integrationType": "HTTP", "integrationMethod": "POST", "integrationUri": backend,
                              "requestTemplates": {"application/json": REQUEST_TEMPLATE}});
            let id = control.create(&integrations, &body, "integrationId")?;
            let body = json!({"integrationResponseKey": "$default",
                              "responseTemplates": {"application/json": RESPONSE_TEMPLATE}});
            let responses = format!("{integrations}/{id}/integrationresponses");
            control.create(&responses, &body, "integrationResponseId")?;
            id
        }
    };
    let body = json!({"routeKey": "$default", "target": format!("integrations/{of_messages}"),
                      "routeResponseSelectionExpression": "$default"});
    let route = control.create(&format!("{base}/routes"), &body, "routeId")?;
    let body = json!({"routeResponseKey": "$default"});
    control.create(&format!("{base}/routes/{route}/routeresponses"), &body, "routeResponseId")?;
    let mut stage = json!({"stageName": STAGE});
    if extras.has_access_log {
        let destination = format!("arn:aws:logs:{REGION}:000000000000:log-group:{api_id}");
        stage["accessLogSettings"] = json!({"destinationArn": destination, "format": ACCESS_LOG});
    }
    control.create(&format!("{base}/stages"), &stage, "stageName")?;
    control.create(&format!("{base}/deployments"), &json!({"stageName": STAGE}), "deploymentId")?;
    Ok(format!("/_aws/execute-api/{api_id}/{STAGE}"))
}

struct Control {
    signer: Signer,
    admin: SocketAddr,
}

impl Control {
    /// Posts `body` and answers the member `id` of what was created.
    fn create(&self, path: &str, body: &Value, id: &str) -> Result<String> {
        let body = body.to_string();
        let request = signed_post(&self.signer, self.admin, path, body.as_bytes(), "application/json")?;
        let answer = exchange(self.admin, &request).with_context(|| format!("create {path}"))?;
        if answer.status != 201 {
            bail!("{path} answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        let created: Value = serde_json::from_slice(&answer.body).context("parse what was created")?;
        Ok(created[id].as_str().with_context(|| format!("no {id} in {created}"))?.to_owned())
    }
}

/// A complete signed POST request that keeps its connection open.
pub fn signed_post(
    signer: &Signer,
    address: SocketAddr,
    path: &str,
    body: &[u8],
    content_type: &'static str,
) -> Result<Vec<u8>> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::try_from(address.to_string())?);
    headers.insert("content-type", HeaderValue::from_static(content_type));
    let parts = RequestParts { method: "POST", path, query: None, headers: &headers };
    let added = signer.sign(&parts, Payload::Body(body), SystemTime::now()).context("sign a request")?;
    let mut request = format!("POST {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers.iter().chain(&added) {
        request.extend_from_slice(name.as_str().as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(body);
    Ok(request)
}
