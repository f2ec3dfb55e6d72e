//! Calling functions: those of this machine, and those behind the Invoke API of an endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tidegate_core::context::{Event, EventKind};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::function::{FunctionRunner, Invocation, InvokeError, Invoked};
use tidegate_core::lambda_event::{self, EventInputs, Forwarded};
use tidegate_core::snapshot::{FunctionName, LambdaIntegration, Stage};

use crate::gateway::Gateway;
use crate::integration::aws::{self, AwsCall};
use crate::integration::http::retry::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::integration::{Answer, Call, Failure, timed_out};

/// Characters of a function's own error type that become a fact.
const MAX_ERROR_TYPE: usize = 128;

/// One call of a function.
pub(crate) struct FunctionCall<'a> {
    pub(crate) function: &'a FunctionName,
    /// JSON text.
    pub(crate) payload: Bytes,
    /// Nobody waits for the result.
    pub(crate) is_async: bool,
    /// After which the call fails with [`ErrorCode::IntegrationTimeout`].
    pub(crate) timeout: Duration,
    /// Which profile of credentials signs a call of an endpoint.
    pub(crate) credentials_arn: Option<&'a str>,
    pub(crate) trace_id: Option<&'a str>,
}

/// The function of an integration, with the stage's variables as they are now.
pub(crate) fn resolve(integration: &LambdaIntegration, stage: &Stage) -> Result<FunctionName, Failure> {
    integration.function.resolve(&stage.variables).map_err(|error| {
        Failure::new(ErrorCode::Misconfigured, Diagnosis::INTEGRATION_MISSING, error.to_string())
    })
}

/// Which profile signs calls of an integration's function, with the stage's variables as they are now.
pub(crate) fn credentials_arn(integration: &LambdaIntegration, stage: &Stage) -> Option<String> {
    with_variables(integration.credentials_arn.as_deref()?, stage)
}

/// A text with the stage's variables in it; nothing when one of them is not set.
pub(crate) fn with_variables(written: &str, stage: &Stage) -> Option<String> {
    let mut arn = String::new();
    let mut rest = written;
    while let Some((text, after)) = rest.split_once("${stageVariables.") {
        let (name, after) = after.split_once('}')?;
        arn.push_str(text);
        arn.push_str(stage.variables.get(name)?);
        rest = after;
    }
    arn.push_str(rest);
    Some(arn)
}

/// Calls a function: that of this machine, else the one of the endpoint for the service `lambda`.
///
/// A function that raises, or whose process ends, is no failure here but [`Invoked::function_error`]; see [`failed`].
///
/// # Errors
/// [`ErrorCode::IntegrationTimeout`] when the call's limit has passed, else [`ErrorCode::FunctionFailed`]: nobody has
/// the function, it may not be invoked, runs too often, or nobody can be asked.
///
/// # Cancel safety
/// Dropping the future gives up the result. The function runs on.
pub(crate) async fn invoke(gateway: &Gateway, call: FunctionCall<'_>) -> Result<Invoked, Failure> {
    let limit = call.timeout;
    let is_here = |runner: &&Arc<dyn FunctionRunner>| runner.has(&call.function.name);
    let result = match gateway.config.functions.as_ref().filter(is_here) {
        Some(runner) => {
            let invocation = Invocation {
                name: call.function.name.clone(),
                qualifier: call.function.qualifier.clone(),
                arn: arn(gateway, call.function),
                payload: call.payload.clone(),
                is_async: call.is_async,
                timeout: limit,
                trace_id: call.trace_id.map(str::to_owned),
            };
            let result = tokio::time::timeout(limit, runner.invoke(invocation)).await;
            result.map(|result| result.map_err(|error| not_run(&error)))
        }
        None => tokio::time::timeout(limit, Box::pin(ask_endpoint(gateway, &call))).await,
    };
    let result = result.unwrap_or_else(|_| Err(timed_out(limit)));
    result.map_err(|failure| failure.with("function", call.function.name.clone()))
}

/// As [`invoke`], again and again while nobody runs the function: its process cannot be started, or the Invoke API does
/// not answer or has a fault of its own. A function that raised has run, and one that runs too often already would only
/// have a longer queue; neither is repeated. `one` is the event's call: messages are repeated with `integration.retries`,
/// with the same request id, all attempts together within the call's limit.
///
/// # Errors
/// As [`invoke`].
///
/// # Cancel safety
/// As [`invoke`].
pub(crate) async fn invoke_again(
    gateway: &Gateway,
    call: FunctionCall<'_>,
    one: &Call<'_>,
) -> Result<Invoked, Failure> {
    let is_message = matches!(one.event.kind, EventKind::Message { .. });
    let most = if is_message { one.stage.settings.integration.retries } else { 0 };
    let until = Instant::now() + call.timeout;
    let (mut pause, mut n_retries, mut timeout) = (FIRST_PAUSE, 0, call.timeout);
    loop {
        let result = invoke(gateway, FunctionCall { payload: call.payload.clone(), timeout, ..call }).await;
        let failure = match result {
            Err(failure) if is_unrun(&failure) => failure,
            Err(failure) if n_retries > 0 => return Err(failure.with("attempts", n_retries + 1)),
            result => return result,
        };
        if n_retries >= most || Instant::now() + pause >= until {
            return Err(match n_retries {
                0 => failure,
                retries => failure.with("attempts", retries + 1),
            });
        }
        n_retries += 1;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        timeout = until.saturating_duration_since(Instant::now());
    }
}

/// Nobody has run it, and another attempt may fare better.
fn is_unrun(failure: &Failure) -> bool {
    let is_fault = failure.facts.number("status").is_none_or(|status| status >= 500);
    let class = failure.facts.text("errorClass").unwrap_or_default();
    failure.code == ErrorCode::FunctionFailed
        && !matches!(
            failure.diagnosis,
            Diagnosis::INTEGRATION_OVERLOAD | Diagnosis::INTEGRATION_HOST_NOT_ALLOWED
        )
        && class != "unknown"
        && is_fault
}

/// The failure of a function that has raised, for callers that need its result.
pub(crate) fn failed(function: &FunctionName, invoked: &Invoked) -> Option<Failure> {
    let kind = invoked.function_error.as_deref()?;
    let error_type = serde_json::from_slice::<serde_json::Value>(&invoked.payload)
        .ok()
        .and_then(|error| Some(error.get("errorType")?.as_str()?.chars().take(MAX_ERROR_TYPE).collect()))
        .filter(|name: &String| name.chars().all(|letter| letter.is_ascii_graphic()));
    let detail = match &error_type {
        Some(error_type) => format!("the function {} failed: {error_type}", function.name),
        None => format!("the function {} failed", function.name),
    };
    let mut failure = Failure::new(ErrorCode::FunctionFailed, Diagnosis::INTEGRATION_FUNCTION_FAILED, detail)
        .with("function", function.name.clone())
        .with("functionError", kind)
        .with("status", invoked.status);
    failure.facts.add_some("errorType", error_type);
    failure.facts.add_some("functionRequestId", invoked.request_id.clone());
    Some(failure)
}

fn not_run(error: &InvokeError) -> Failure {
    let (class, diagnosis) = match error {
        InvokeError::TimedOut { after } => return timed_out(*after),
        InvokeError::Unknown { .. } => ("unknown", Diagnosis::INTEGRATION_FUNCTION_FAILED),
        InvokeError::TooMany { .. } => ("busy", Diagnosis::INTEGRATION_OVERLOAD),
        InvokeError::CannotStart { .. } => ("cannot-start", Diagnosis::INTEGRATION_FUNCTION_FAILED),
    };
    Failure::new(ErrorCode::FunctionFailed, diagnosis, error.to_string()).with("errorClass", class)
}

/// The whole name; of a bare name the one it has here.
fn arn(gateway: &Gateway, function: &FunctionName) -> String {
    if function.arn.starts_with("arn:") {
        return function.arn.clone();
    }
    let config = &gateway.config;
    let region = function.region.as_deref().unwrap_or(&config.region);
    let qualifier = function.qualifier.as_ref().map(|name| format!(":{name}")).unwrap_or_default();
    format!("arn:aws:lambda:{region}:{}:function:{}{qualifier}", config.account_id, function.name)
}

/// Calls the Invoke API. Source: AWS Lambda API reference, `Invoke`.
async fn ask_endpoint(gateway: &Gateway, call: &FunctionCall<'_>) -> Result<Invoked, Failure> {
    let function = call.function;
    if !gateway.in_force().node.aws.is_reachable("lambda", call.credentials_arn) {
        let detail = format!("there is no function {} here, and no endpoint to ask", function.name);
        return Err(Failure::new(ErrorCode::FunctionFailed, Diagnosis::INTEGRATION_FUNCTION_FAILED, detail)
            .with("errorClass", "unknown"));
    }
    let path_and_query = aws::invoke_path(&gateway.in_force().node.aws, function);
    let mut headers = HeaderMap::new();
    let kind = if call.is_async { "Event" } else { "RequestResponse" };
    headers.insert("x-amz-invocation-type", HeaderValue::from_static(kind));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(trace_id) = call.trace_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("x-amzn-trace-id", trace_id);
    }
    let asked = AwsCall {
        service: "lambda",
        region: function.region.as_deref(),
        method: "POST",
        path_and_query: &path_and_query,
        headers,
        body: call.payload.clone(),
        credentials_arn: call.credentials_arn,
    };
    let Answer { status, headers, body, .. } =
        aws::call(gateway, asked).await.map_err(|failure| match failure.code {
            ErrorCode::IntegrationFailure => Failure { code: ErrorCode::FunctionFailed, ..failure },
            _ => failure,
        })?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let request_id = text("x-amzn-requestid").map(str::to_owned);
    if (200..300).contains(&status) {
        let function_error = text("x-amz-function-error").map(str::to_owned);
        return Ok(Invoked { status, payload: body, function_error, request_id });
    }
    let name = text("x-amzn-errortype").map(|name| name.split(':').next().unwrap_or_default());
    let name: Option<String> = name.map(|name| name.chars().take(MAX_ERROR_TYPE).collect());
    let detail = match &name {
        Some(name) => format!("the Invoke API answered {status} {name}"),
        None => format!("the Invoke API answered {status}"),
    };
    let mut failure = Failure::new(ErrorCode::FunctionFailed, Diagnosis::INTEGRATION_FUNCTION_FAILED, detail)
        .with("status", status);
    failure.facts.add_some("errorType", name);
    failure.facts.add_some("functionRequestId", request_id);
    Err(failure)
}

/// The event for a function, as JSON.
pub(crate) fn event(call: &Call<'_>, trace_id: &str) -> Bytes {
    with_inputs(call, trace_id, lambda_event::event)
}

/// The event for an authorizer, as JSON. `call` is that of `$connect`.
pub(crate) fn authorizer_event(call: &Call<'_>, method_arn: &str, trace_id: &str) -> Bytes {
    with_inputs(call, trace_id, |inputs| lambda_event::authorizer_event(inputs, method_arn))
}

fn with_inputs(call: &Call<'_>, trace_id: &str, to_json: impl FnOnce(&EventInputs<'_>) -> Vec<u8>) -> Bytes {
    let Event { connection, .. } = call.event;
    let address = connection.source_ip.to_string();
    let (scheme, port) = match (call.stage.settings.integration.forwarded_https, connection.is_secure) {
        (true, _) => ("https", 443),
        (false, true) => ("https", connection.client_port),
        (false, false) => ("http", connection.client_port),
    };
    let inputs = EventInputs {
        event: call.event,
        stage_variables: &call.stage.variables,
        headers: call.headers,
        spelling: call.spelling,
        query: call.query,
        body: call.body,
        is_base64: call.is_base64,
        forwarded: Forwarded { client: call.forwarded_for.unwrap_or(&address), port, scheme },
        trace_id,
    };
    Bytes::from(to_json(&inputs))
}
