//! `HTTP`, `AWS` and `MOCK`: templates stand between the message, the backend and the client.

use std::time::{Duration, Instant};

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use tidegate_core::context::EventKind;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::mapping::{Mapping, Target};
use tidegate_core::snapshot::LambdaIntegration;
use tidegate_core::template::Scope;
use tidegate_core::transformed::{Answered, AwsIntegration, Backend, Chosen, TransformedIntegration};

use super::aws::{self, AwsCall};
use super::http::Trace;
use super::{Answer, Call, Failure, Judged, http};
use crate::functions::{self, FunctionCall};
use crate::gateway::Gateway;
use crate::logs;

/// What the backend said.
struct Reply {
    answer: Answer,
    /// What chooses the integration response: the status, or the error message of a function that failed. Nothing:
    /// `$default`.
    selector: Option<String>,
}

/// The answer of an integration without a backend; nothing for those that have one.
pub(super) fn at_once(
    integration: &TransformedIntegration,
    call: &Call<'_>,
) -> Option<Result<Answer, Failure>> {
    match &integration.backend {
        Backend::Mock => Some(mock(integration, call)),
        _ => None,
    }
}

fn mock(integration: &TransformedIntegration, call: &Call<'_>) -> Result<Answer, Failure> {
    let status = match integration.request_template(call.body) {
        Chosen::Refused => return Err(refused()),
        Chosen::Unchanged => 200,
        Chosen::Template(template) => {
            let rendered = template.render(&scope(call)).map_err(|error| failed(error.to_string()))?;
            status(&rendered)?
        }
    };
    let answer = Answer::new(status, Bytes::copy_from_slice(call.body.as_bytes()));
    // Without any integration response there is nothing to say, and nothing to refuse either.
    if integration.responses.is_empty() {
        return Ok(Answer { body: Bytes::new(), ..answer });
    }
    conclude(integration, call, Reply { selector: Some(status.to_string()), answer })
}

/// Calls the backend and makes the client's answer of its answer. The caller sets the time limit.
pub(super) async fn call(
    gateway: &Gateway,
    integration: &TransformedIntegration,
    limit: Duration,
    one: &Call<'_>,
    now: Instant,
    trace: &mut Trace,
) -> Result<Answer, Failure> {
    let text = match integration.request_template(one.body) {
        Chosen::Refused => return Err(refused()),
        Chosen::Unchanged => one.body.to_owned(),
        Chosen::Template(template) => {
            template.render(&scope(one)).map_err(|error| failed(error.to_string()))?
        }
    };
    let payload = match integration.content_handling {
        None => text.into_bytes(),
        Some(handling) => handling.of_request(text).ok_or_else(|| failed("the message is not base64"))?,
    };
    let reply = match &integration.backend {
        Backend::Mock => return mock(integration, one),
        Backend::Http(backend) => {
            let reads_headers = integration.reads_headers;
            let transformed = Call { payload: Some(&payload), reads_headers, ..*one };
            let answer = http::call_again(gateway, backend, &transformed, now, trace).await?;
            Reply { selector: Some(answer.status.to_string()), answer }
        }
        Backend::Lambda { function, mappings } => {
            let is_async = is_async(mappings, one);
            ask_function(gateway, function, is_async, limit, one, payload).await?
        }
        Backend::Aws(action) => ask_service(gateway, action, one, payload).await?,
    };
    conclude(integration, one, reply)
}

/// Nobody waits for the function: `X-Amz-Invocation-Type` is mapped to `Event`.
fn is_async(mappings: &[Mapping], call: &Call<'_>) -> bool {
    let none = HeaderMap::new();
    let inputs = call.inputs(&none);
    let is_it = |mapping: &&Mapping| matches!(&mapping.target, Target::Header(name) if name.eq_ignore_ascii_case("x-amz-invocation-type"));
    let mapping = mappings.iter().rev().find(is_it);
    mapping.and_then(|mapping| mapping.source.evaluate(&inputs)).is_some_and(|kind| kind == "Event")
}

async fn ask_function(
    gateway: &Gateway,
    integration: &LambdaIntegration,
    is_async: bool,
    limit: Duration,
    call: &Call<'_>,
    payload: Vec<u8>,
) -> Result<Reply, Failure> {
    let function = functions::resolve(integration, call.stage)?;
    let trace_id = gateway.trace_id(call.event.request_time);
    let credentials_arn = functions::credentials_arn(integration, call.stage);
    // A function gets a document, even if there is nothing to say.
    let payload = if payload.is_empty() { Bytes::from_static(b"{}") } else { Bytes::from(payload) };
    let called = FunctionCall {
        function: &function,
        payload,
        is_async,
        timeout: limit,
        credentials_arn: credentials_arn.as_deref(),
        trace_id: Some(&trace_id),
    };
    logs::sending_function(gateway, call, &function, &called.payload);
    let began = Instant::now();
    let invoked = functions::invoke_again(gateway, called, call).await?;
    logs::invoked(gateway, call, &invoked, began.elapsed());
    let Some(failure) = functions::failed(&function, &invoked) else {
        return Ok(Reply { answer: Answer::new(invoked.status, invoked.payload), selector: None });
    };
    let message = serde_json::from_slice::<serde_json::Value>(&invoked.payload)
        .ok()
        .and_then(|error| Some(error.get("errorMessage")?.as_str()?.to_owned()));
    let mut answer = Answer::new(ErrorCode::FunctionFailed.row().status, invoked.payload);
    answer.diagnosis = Some(failure.diagnosis);
    answer.judged = Some(Box::new(Judged { facts: failure.facts, ..Judged::default() }));
    Ok(Reply { answer, selector: Some(message.unwrap_or_default()) })
}

async fn ask_service(
    gateway: &Gateway,
    action: &AwsIntegration,
    call: &Call<'_>,
    payload: Vec<u8>,
) -> Result<Reply, Failure> {
    let none = HeaderMap::new();
    let inputs = call.inputs(&none);
    let transformed = Call { payload: Some(&payload), ..*call };
    let (uri, composed) = http::address(&action.request, &transformed, &inputs)?;
    let path_and_query = composed.or_else(|| uri.path_and_query().cloned());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for mapping in &action.request.mappings {
        if let Target::Header(name) = &mapping.target
            && http::is_mappable(name)
            && let Some(value) = mapping.source.evaluate(&inputs)
            && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>())
        {
            headers.insert(name, value);
        }
    }
    let credentials_arn = action.credentials_arn.as_deref();
    let credentials_arn = credentials_arn.and_then(|arn| functions::with_variables(arn, call.stage));
    let asked = AwsCall {
        service: &action.service,
        region: Some(&action.region),
        method: action.request.method.as_str(),
        path_and_query: path_and_query.as_ref().map_or("/", |target| target.as_str()),
        headers,
        body: Bytes::copy_from_slice(&payload),
        credentials_arn: credentials_arn.as_deref(),
    };
    if let Some(uri) = gateway.in_force().node.aws.address(&asked) {
        logs::sending_service(gateway, call, &uri, &asked.headers, &asked.body);
    }
    let began = Instant::now();
    let answer = aws::call(gateway, asked).await?;
    logs::received(gateway, call, &answer, began.elapsed());
    Ok(Reply { selector: Some(answer.status.to_string()), answer })
}

/// Chooses the integration response and makes the client's answer.
fn conclude(integration: &TransformedIntegration, call: &Call<'_>, reply: Reply) -> Result<Answer, Failure> {
    let Reply { mut answer, selector } = reply;
    let status = answer.status;
    let response = match &selector {
        Some(selector) => integration.response(selector),
        None => integration.default_response(),
    };
    let Some(response) = response else {
        let detail = format!("no integration response for status {status} and no $default");
        return Err(failed(detail).with("status", status));
    };
    if let Some(handling) = response.content_handling {
        let converted = handling.of_response(&answer.body);
        let converted = converted.ok_or_else(|| failed("the backend's body is not base64"))?;
        answer.body = Bytes::from(converted);
    }
    let body = String::from_utf8_lossy(&answer.body);
    let answered = Answered { status, headers: &answer.headers, body: &body };
    let mut headers = HeaderMap::new();
    if call.event.kind == EventKind::Connect {
        for (name, source) in &response.headers {
            if let Some(value) = source.evaluate(&answered) {
                headers.append(name, value);
            }
        }
    }
    let rendered = response.transform(call.body, &answered, call.event, &call.stage.variables);
    let rendered = rendered.map_err(|error| failed(error.to_string()))?;
    if let Some(rendered) = rendered {
        answer.body = Bytes::from(rendered);
    }
    // Only what is mapped reaches the client.
    answer.headers = headers;
    Ok(answer)
}

fn scope<'a>(call: &Call<'a>) -> Scope<'a> {
    let is_connect = call.event.kind == EventKind::Connect;
    Scope {
        event: call.event,
        stage_variables: &call.stage.variables,
        body: call.body,
        headers: call.headers.filter(|_| is_connect),
        query: if is_connect { call.query } else { "" },
    }
}

fn refused() -> Failure {
    Failure::new(
        ErrorCode::UnsupportedMediaType,
        Diagnosis::REPLY_TEMPLATE,
        "no request template fits and passthrough is refused",
    )
}

fn failed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(ErrorCode::Misconfigured, Diagnosis::REPLY_TEMPLATE, detail)
}

/// The `statusCode` of a rendered request template.
fn status(rendered: &str) -> Result<u16, Failure> {
    let status = serde_json::from_str::<serde_json::Value>(rendered)
        .ok()
        .and_then(|value| value.get("statusCode")?.as_u64())
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..600).contains(status));
    status.ok_or_else(|| failed("the request template gives no statusCode"))
}
