//! One question to an authorizer, and what came back before anybody has looked into it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use tidegate_core::authorizer::{Authorizer, AuthorizerTarget, UNAUTHORIZED};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::snapshot::{LambdaIntegration, UriTemplate};

use crate::functions::{self, FunctionCall};
use crate::gateway::Gateway;
use crate::integration::http::check_host;
use crate::integration::{Call, Failure};
use crate::logs;

/// What an authorizer said.
pub(super) enum Said {
    /// Something that should be JSON.
    Answer(Bytes),
    /// It raised `Unauthorized`, or answered 401.
    Unauthorized,
    /// It answered 403.
    Forbidden,
}

/// Asks. `limit` is how long the caller waits.
pub(super) async fn ask(
    gateway: &Gateway,
    authorizer: &Authorizer,
    call: &Call<'_>,
    arn: &str,
    limit: Duration,
) -> Result<Said, Failure> {
    let trace_id = gateway.trace_id(call.event.request_time);
    let event = functions::authorizer_event(call, arn, &trace_id);
    match &authorizer.target {
        AuthorizerTarget::Function(function) => {
            of_function(gateway, function, call, event, limit, &trace_id).await
        }
        AuthorizerTarget::Http(uri) => of_address(gateway, uri, call, &event, limit, &trace_id).await,
        AuthorizerTarget::Broken(reason) => Err(failure(reason.clone()).with("errorClass", "misconfigured")),
    }
}

async fn of_function(
    gateway: &Gateway,
    integration: &LambdaIntegration,
    call: &Call<'_>,
    event: Bytes,
    limit: Duration,
    trace_id: &str,
) -> Result<Said, Failure> {
    let function = functions::resolve(integration, call.stage).map_err(not_asked)?;
    let credentials_arn = functions::credentials_arn(integration, call.stage);
    let asked = FunctionCall {
        function: &function,
        payload: event,
        is_async: false,
        timeout: limit,
        credentials_arn: credentials_arn.as_deref(),
        trace_id: Some(trace_id),
    };
    logs::sending_function(gateway, call, &function, &asked.payload);
    let began = Instant::now();
    let invoked = functions::invoke(gateway, asked).await.map_err(not_asked)?;
    let is_fault = invoked.function_error.is_some() && !is_unauthorized(&invoked.payload);
    logs::authorizer_invoked(gateway, call, &invoked, began.elapsed(), is_fault);
    match functions::failed(&function, &invoked) {
        None => Ok(Said::Answer(invoked.payload)),
        Some(_) if is_unauthorized(&invoked.payload) => Ok(Said::Unauthorized),
        Some(failed) => Err(not_asked(failed)),
    }
}

async fn of_address(
    gateway: &Gateway,
    uri: &UriTemplate,
    call: &Call<'_>,
    event: &Bytes,
    limit: Duration,
    trace_id: &str,
) -> Result<Said, Failure> {
    let uri = uri.resolve(&call.stage.variables, &|_| None).map_err(|error| failure(error.to_string()))?;
    check_host(
        &gateway.in_force().node.settings.all.integration.allowed_hosts,
        uri.host().unwrap_or_default(),
    )
    .map_err(not_asked)?;
    let mut headers = Vec::new();
    for (name, value) in
        [("x-amzn-apigateway-api-id", &*call.event.connection.api_id), ("x-amzn-trace-id", trace_id)]
    {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.push((HeaderName::from_static(name), value));
        }
    }
    let address = uri.to_string();
    let logged: HeaderMap = headers.iter().cloned().collect();
    logs::sending_service(gateway, call, &address, &logged, event);
    let began = Instant::now();
    let sent = gateway.backends.request("POST", &address, "application/json", &headers, event, limit).await;
    let answered = sent.map_err(not_asked)?;
    logs::authorizer_answered(gateway, call, (answered.0, &answered.1), began.elapsed());
    match answered {
        (200, answer) => Ok(Said::Answer(answer)),
        (401, _) => Ok(Said::Unauthorized),
        (403, _) => Ok(Said::Forbidden),
        (status, _) => Err(failure(format!("it answered {status}")).with("status", status)),
    }
}

/// Whether a function has raised the one error that has a meaning. Exactly this text: anything else is a fault of its own.
fn is_unauthorized(error: &Bytes) -> bool {
    serde_json::from_slice::<serde_json::Value>(error)
        .is_ok_and(|error| error.get("errorMessage").and_then(|text| text.as_str()) == Some(UNAUTHORIZED))
}

fn failure(detail: String) -> Failure {
    Failure::new(ErrorCode::AuthorizerFailed, Diagnosis::AUTHORIZER_UNSUPPORTED, detail)
}

/// The failure of a call, as one of the authorizer.
fn not_asked(cause: Failure) -> Failure {
    let Failure { diagnosis, detail, facts, .. } = cause;
    Failure { facts, ..failure(detail.into_owned()) }.with("causeId", diagnosis.as_str())
}
