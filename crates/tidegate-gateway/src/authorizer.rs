//! Asking the authorizer of `$connect`: a function, or an HTTP address that gets the same question.
//!
//! Nothing is remembered from one handshake to the next. What an answer means is decided by
//! [`tidegate_core::authorizer`]; the order of the checks is `edge/upgrade/authorize.rs`.

mod ask;
mod issuers;
mod token;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tidegate_auth::ResourceScope;
use tidegate_auth::credential::INVOKE;
use tidegate_core::authorizer::{Authorizer, AuthorizerTarget, Denial, UNAUTHORIZED, Verdict, judge};
use tidegate_core::context::{AuthorizerAnswer, iso_time};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::iam_policy::{Access, ConditionKeys};
use tidegate_core::snapshot::Stage;

use self::ask::Said;
pub(crate) use self::issuers::Issuers;
pub(crate) use self::token::check as check_token;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::{Call, Failure};

/// Authorizers that are asked at a time, on this node. A handshake beyond it waits, as long as its authorizer may take.
pub(crate) const AT_A_TIME: usize = 1000;

/// Why a handshake may not go on, and what its client reads.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    /// In place of the text of the table; may be `null`.
    pub(crate) message: Option<Value>,
    /// In place of the name of the table.
    pub(crate) error_type: Option<&'static str>,
    /// `WWW-Authenticate`.
    pub(crate) challenge: Option<String>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, message: None, error_type: None, challenge: None }
    }
}

impl Refusal {
    /// With another text for the client.
    pub(crate) fn worded(failure: Failure, message: impl Into<Value>) -> Self {
        Self { failure, message: Some(message.into()), error_type: None, challenge: None }
    }
}

/// An authorizer's consent.
#[derive(Debug)]
pub(crate) struct Consent {
    pub(crate) answer: AuthorizerAnswer,
    /// `usageIdentifierKey`
    pub(crate) usage_identifier_key: Option<String>,
}

/// Asks whether a handshake may go on. `call` is that of `$connect`.
///
/// # Cancel safety
/// Dropping the future gives up the answer; a function that was asked runs on.
pub(crate) async fn ask(
    gateway: &Gateway,
    authorizer: &Authorizer,
    call: &Call<'_>,
) -> Result<Consent, Refusal> {
    let no_headers = http::HeaderMap::new();
    let inputs = call.inputs(&no_headers);
    let missing = authorizer.missing_sources(&inputs);
    if !missing.is_empty() {
        let failure = Failure::new(
            ErrorCode::Unauthorized,
            Diagnosis::AUTHORIZER_IDENTITY_MISSING,
            format!("identity sources are absent or empty: {}", missing.join(", ")),
        );
        return Err(tell(failure.with("missing", missing), authorizer).into());
    }
    let limit = Duration::from_millis(call.stage.settings.authorizer.timeout_ms);
    let started = Instant::now();
    let arn = connect_arn(gateway, call.stage);
    let asking = async {
        // Never closed, so a turn always comes.
        let _turn = gateway.authorizer_turns.acquire().await;
        ask::ask(gateway, authorizer, call, &arn, limit).await
    };
    let said = match tokio::time::timeout(limit, asking).await {
        Ok(said) => said,
        Err(_) => Err(timed_out(limit)),
    };
    let latency_ms = started.elapsed().as_millis() as u64;
    let tell = |failure: Failure| tell(failure.with("authorizerMs", latency_ms), authorizer);
    let answer = match said {
        Ok(Said::Answer(answer)) => answer,
        Ok(Said::Unauthorized) => {
            let detail = "the authorizer said Unauthorized";
            let failure = Failure::new(ErrorCode::Unauthorized, Diagnosis::AUTHORIZER_DENIED, detail);
            return Err(tell(failure.with("answer", UNAUTHORIZED)).into());
        }
        Ok(Said::Forbidden) => {
            let detail = "the authorizer answered 403";
            let failure = Failure::new(ErrorCode::AccessDenied, Diagnosis::AUTHORIZER_DENIED, detail);
            return Err(tell(failure.with("answer", 403)).into());
        }
        Err(failure) => return Err(tell(failure).into()),
    };
    let keys = condition_keys(call, inputs.headers);
    let access = Access { action: INVOKE, resource: &arn, keys: &keys };
    match judge(&answer, &access, call.stage.settings.authorizer.simple_responses) {
        Verdict::Allow { mut answer, usage_identifier_key } => {
            answer.latency_ms = latency_ms;
            Ok(Consent { answer, usage_identifier_key })
        }
        Verdict::Deny { reason, principal_id } => {
            let failure = denied(&reason, &arn).with("principal", principal_id);
            Err(Refusal::worded(tell(failure), reason.message()))
        }
        Verdict::Invalid { reason } => Err(Refusal::worded(tell(bad_answer(&answer, reason)), Value::Null)),
    }
}

/// `methodArn` of a handshake.
pub(crate) fn connect_arn(gateway: &Gateway, stage: &Stage) -> String {
    let scope = ResourceScope {
        partition: "aws",
        region: &gateway.config.region,
        account: &gateway.config.account_id,
        api_id: &stage.api_id,
        stage: &stage.name,
    };
    scope.connect_arn()
}

fn tell(failure: Failure, authorizer: &Authorizer) -> Failure {
    let target = match &authorizer.target {
        AuthorizerTarget::Function(_) => "function",
        AuthorizerTarget::Http(_) => "http",
        AuthorizerTarget::Broken(_) => "none",
    };
    failure
        .with("authorizer", authorizer.name.as_str())
        .with("authorizerId", authorizer.authorizer_id.as_str())
        .with("authorizerTarget", target)
}

fn denied(reason: &Denial, arn: &str) -> Failure {
    let refuse = |diagnosis, detail: String| Failure::new(ErrorCode::AccessDenied, diagnosis, detail);
    match reason {
        Denial::Explicit => {
            refuse(Diagnosis::AUTHORIZER_DENIED, "the policy denies".to_owned()).with("effect", "Deny")
        }
        Denial::NoAllow { other_resources } if other_resources.is_empty() => {
            refuse(Diagnosis::AUTHORIZER_DENIED, "no statement allows".to_owned()).with("effect", "none")
        }
        Denial::NoAllow { other_resources } => {
            let detail = format!("the policy allows {}, not {arn}", other_resources.join(", "));
            refuse(Diagnosis::AUTHORIZER_RESOURCE_MISMATCH, detail)
                .with("allowed", other_resources.clone())
                .with("resource", arn)
        }
    }
}

fn bad_answer(answer: &Bytes, reason: String) -> Failure {
    let form = match serde_json::from_slice::<Value>(answer) {
        Ok(Value::Object(_)) => "object",
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "text",
        Ok(Value::Null) => "null",
        Ok(_) => "value",
        Err(_) => "no JSON",
    };
    let failure = Failure::new(ErrorCode::AuthorizerBadAnswer, Diagnosis::AUTHORIZER_BAD_ANSWER, reason);
    failure.with("form", form).with("length", answer.len())
}

fn timed_out(limit: Duration) -> Failure {
    let limit = limit.as_millis() as u64;
    let detail = format!("no answer within {limit} ms");
    Failure::new(ErrorCode::AuthorizerFailed, Diagnosis::AUTHORIZER_UNSUPPORTED, detail)
        .with("errorClass", "timeout")
        .with("limit", limit)
}

/// What the conditions of a policy may ask.
fn condition_keys(call: &Call<'_>, headers: &http::HeaderMap) -> ConditionKeys {
    let connection = &call.event.connection;
    let now = now_millis();
    let referer = headers.get(http::header::REFERER);
    ConditionKeys::default()
        .with("aws:SourceIp", connection.source_ip.to_string())
        .with_some("aws:UserAgent", connection.user_agent.as_deref())
        .with_some("aws:Referer", referer.map(|value| String::from_utf8_lossy(value.as_bytes())))
        .with("aws:CurrentTime", iso_time(now))
        .with("aws:EpochTime", (now / 1000).to_string())
        .with("aws:SecureTransport", connection.is_secure.to_string())
}
