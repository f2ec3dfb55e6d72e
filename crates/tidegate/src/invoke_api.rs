//! The Invoke API of this machine's functions, on the admin listener: `aws lambda invoke` and the SDKs call a function
//! as they would on AWS. Source: AWS Lambda API reference, `Invoke`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tidegate_auth::{Credential, CredentialKeys, RequestParts, Verifier};
use tidegate_control::Because;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::function::{FunctionRunner as _, Invocation, InvokeError, Invoked};
use tidegate_core::journal::Facts;
use tidegate_core::snapshot::FunctionName;
use tidegate_lambda::Runner;

use crate::access::control_verifier;
use crate::config::Config;

/// Largest event, in bytes. Source: Lambda quotas, synchronous payload.
pub(crate) const MAX_BODY: usize = 6 * 1024 * 1024;

/// What every path begins with.
const BASE: &str = "/2015-03-31/functions/";

/// Longer than any function may take.
const LIMIT: Duration = Duration::from_secs(1000);

/// Answers calls of functions.
pub(crate) struct InvokeApi {
    runner: Arc<Runner>,
    callers: Arc<ArcSwap<InvokeCallers>>,
    account_id: String,
}

/// Who may call functions; replaced by a reload.
#[derive(Debug)]
pub(crate) struct InvokeCallers {
    verifier: Verifier,
    credentials: Vec<Credential>,
}

impl InvokeCallers {
    /// Those of the control plane.
    pub(crate) fn new(config: &Config, is_loopback: bool) -> Self {
        let mut verifier = control_verifier(config, is_loopback);
        verifier.service = "lambda".to_owned();
        Self { verifier, credentials: config.credentials.clone() }
    }
}

/// A refusal: status, name and text.
struct Refusal(u16, &'static str, String);

impl Refusal {
    /// For the journal: refusals of callers who may not, or could not prove who they are.
    fn because(&self) -> Option<Because> {
        let diagnosis = match (self.0, self.1) {
            (403, "AccessDeniedException") => Diagnosis::PROVISION_DENIED,
            (403, "MissingAuthenticationTokenException") => Diagnosis::PROVISION_NO_CREDENTIALS,
            (403, _) => Diagnosis::MANAGEMENT_BAD_SIGNATURE,
            _ => return None,
        };
        Some(Because { diagnosis, facts: Facts::none().with("action", "lambda:InvokeFunction") })
    }
}

impl InvokeApi {
    pub(crate) fn new(runner: Arc<Runner>, callers: Arc<ArcSwap<InvokeCallers>>, account_id: String) -> Self {
        Self { runner, callers, account_id }
    }

    /// Whether a request is for it.
    pub(crate) fn is_its(path: &str) -> bool {
        path.starts_with(BASE)
    }

    pub(crate) async fn handle(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        let mut reply = match self.invoke(request).await {
            Ok((Invoked { status, payload, function_error, request_id }, log)) => {
                let mut reply = answer(status, payload);
                let headers = reply.headers_mut();
                headers.insert("x-amz-executed-version", HeaderValue::from_static("$LATEST"));
                for (name, value) in
                    [("x-amz-function-error", function_error), ("x-amzn-requestid", request_id)]
                {
                    if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                        headers.insert(name, value);
                    }
                }
                let log = log.map(|log| base64::engine::general_purpose::STANDARD.encode(log));
                if let Some(log) = log.and_then(|log| HeaderValue::try_from(log).ok()) {
                    headers.insert("x-amz-log-result", log);
                }
                reply
            }
            Err(refusal) => {
                let because = refusal.because();
                let Refusal(status, name, message) = refusal;
                let kind = if status < 500 { "User" } else { "Server" };
                let body = json!({ "Type": kind, "Message": message, "message": message });
                let mut reply = answer(status, Bytes::from(body.to_string()));
                reply.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
                if let Some(because) = because {
                    reply.extensions_mut().insert(because);
                }
                reply
            }
        };
        reply.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        reply
    }

    /// What came back, and the end of the log where the caller wants it.
    async fn invoke(&self, request: Request<Bytes>) -> Result<(Invoked, Option<String>), Refusal> {
        let (head, body) = request.into_parts();
        let named = head.uri.path().strip_prefix(BASE).and_then(|rest| rest.strip_suffix("/invocations"));
        let named = named.filter(|_| head.method == Method::POST);
        let named = named.ok_or_else(|| Refusal(404, "ResourceNotFoundException", "Not found".to_owned()))?;
        let named = percent_encoding::percent_decode_str(named).decode_utf8_lossy().into_owned();
        let function = FunctionName::parse(&named)
            .map_err(|error| Refusal(400, "InvalidParameterValueException", error.to_string()))?;
        let callers = self.callers.load_full();
        let region = &callers.verifier.region;
        let arn = format!("arn:aws:lambda:{region}:{}:function:{}", self.account_id, function.name);
        callers.check(&head, &body, &arn)?;
        if !self.runner.has(&function.name) {
            return Err(Refusal(404, "ResourceNotFoundException", format!("Function not found: {arn}")));
        }
        if let Err(error) = serde_json::from_slice::<Value>(&body)
            && !body.is_empty()
        {
            let message = format!("Could not parse request body into json: {error}");
            return Err(Refusal(400, "InvalidRequestContentException", message));
        }
        let kind = head.headers.get("x-amz-invocation-type").map_or("", |kind| kind.to_str().unwrap_or("?"));
        let is_async = match kind {
            "" | "RequestResponse" => false,
            "Event" => true,
            "DryRun" => {
                let payload = Bytes::new();
                let invoked = Invoked { status: 204, payload, function_error: None, request_id: None };
                return Ok((invoked, None));
            }
            other => {
                let message = format!("`{other}` is no invocation type");
                return Err(Refusal(400, "InvalidParameterValueException", message));
            }
        };
        let trace_id = head.headers.get("x-amzn-trace-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let invocation = Invocation {
            name: function.name,
            qualifier: function.qualifier,
            arn,
            payload: if body.is_empty() { Bytes::from_static(b"{}") } else { body },
            is_async,
            timeout: LIMIT,
            trace_id,
        };
        let wants_log = !is_async && head.headers.get("x-amz-log-type").is_some_and(|kind| kind == "Tail");
        let invoked = match wants_log {
            true => self.runner.invoke_with_log(invocation).await.map(|(invoked, log)| (invoked, Some(log))),
            false => self.runner.invoke(invocation).await.map(|invoked| (invoked, None)),
        };
        invoked.map_err(|error| match error {
            InvokeError::Unknown { .. } => Refusal(404, "ResourceNotFoundException", error.to_string()),
            InvokeError::TooMany { .. } => {
                Refusal(429, "TooManyRequestsException", "Rate Exceeded.".to_owned())
            }
            InvokeError::TimedOut { .. } | InvokeError::CannotStart { .. } => {
                Refusal(500, "ServiceException", error.to_string())
            }
        })
    }
}

impl InvokeCallers {
    /// Signed with service `lambda` by somebody who may call this function.
    fn check(&self, head: &http::request::Parts, body: &[u8], arn: &str) -> Result<(), Refusal> {
        let parts = RequestParts {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
        };
        let find = |id: &str| self.credentials.iter().find(|known| known.access_key_id == id);
        let keys = |id: &str| Some(CredentialKeys::permanent(find(id)?.secret.clone()));
        let verified = self
            .verifier
            .verify(&parts, Some(body), &keys, SystemTime::now())
            .map_err(|error| Refusal(403, error.error_type(), error.message()))?;
        let action = "lambda:InvokeFunction";
        if find(&verified.access_key_id).is_some_and(|caller| caller.allows(action, arn)) {
            return Ok(());
        }
        let user = verified.access_key_id;
        let message = format!("User: {user} is not authorized to perform: {action} on resource: {arn}");
        Err(Refusal(403, "AccessDeniedException", message))
    }
}

fn answer(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    reply
}
