//! `HTTP`, `AWS` and `MOCK`: templates stand between the message, the backend and the client.

use std::time::Instant;

use bytes::Bytes;
use tidegate_core::context::EventKind;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::template::Scope;
use tidegate_core::transformed::{Answered, Backend, Chosen, TransformedIntegration};

use super::http::Trace;
use super::{Answer, Call, Failure, http};
use crate::gateway::Gateway;

/// What the backend said.
struct Reply {
    answer: Answer,
    /// What chooses the integration response: the status, or the error message of a function.
    selector: String,
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
    conclude(integration, call, Reply { selector: status.to_string(), answer })
}

/// Calls the backend and makes the client's answer of its answer. The caller sets the time limit.
pub(super) async fn call(
    gateway: &Gateway,
    integration: &TransformedIntegration,
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
            let transformed = Call { payload: Some(&payload), ..*one };
            let answer = http::call_again(gateway, backend, &transformed, now, trace).await?;
            Reply { selector: answer.status.to_string(), answer }
        }
        Backend::Lambda { .. } | Backend::Aws(_) => {
            return Err(Failure::new(
                ErrorCode::Misconfigured,
                Diagnosis::INTEGRATION_MISSING,
                "integrations of type AWS cannot be called",
            ));
        }
    };
    conclude(integration, one, reply)
}

/// Chooses the integration response and makes the client's answer.
fn conclude(integration: &TransformedIntegration, call: &Call<'_>, reply: Reply) -> Result<Answer, Failure> {
    let Reply { mut answer, selector } = reply;
    let status = answer.status;
    let Some(response) = integration.response(&selector) else {
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
    let mut headers = ::http::HeaderMap::new();
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
