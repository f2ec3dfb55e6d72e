//! `AWS_PROXY`: one event is one call of a function.
//!
//! What a function may answer: *Lambda proxy integrations for WebSocket APIs* in the API Gateway developer guide.

use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use tidegate_core::context::EventKind;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::function::Invoked;
use tidegate_core::journal::Facts;
use tidegate_core::signature::sentence;
use tidegate_core::snapshot::LambdaIntegration;

use super::{Answer, Call, Failure, Judged};
use crate::functions::{self, FunctionCall};
use crate::gateway::Gateway;
use crate::logs;

/// Calls the function with the event and reads its answer, within `limit`.
pub(super) async fn call(
    gateway: &Gateway,
    integration: &LambdaIntegration,
    limit: Duration,
    call: &Call<'_>,
) -> Result<Answer, Failure> {
    let function = functions::resolve(integration, call.stage)?;
    let trace_id = gateway.trace_id(call.event.request_time);
    let payload = functions::event(call, &trace_id);
    let credentials_arn = functions::credentials_arn(integration, call.stage);
    let called = FunctionCall {
        function: &function,
        payload,
        is_async: false,
        timeout: limit,
        credentials_arn: credentials_arn.as_deref(),
        trace_id: Some(&trace_id),
    };
    logs::sending_function(gateway, call, &function, &called.payload);
    let began = Instant::now();
    let invoked = functions::invoke_again(gateway, called, call).await?;
    logs::invoked(gateway, call, &invoked, began.elapsed());
    if let Some(failure) = functions::failed(&function, &invoked) {
        return Err(failure);
    }
    if matches!(call.event.kind, EventKind::Disconnect { .. }) {
        // Its answer is for nobody, whatever it is.
        return Ok(Answer::new(200, Bytes::new()));
    }
    let is_connect = call.event.kind == EventKind::Connect;
    let read = read(&invoked.payload, is_connect);
    let answer = read.map(|answer| judged(gateway, answer, is_connect, &invoked));
    answer.map_err(|problem| {
        let detail = format!("the answer of the function {} cannot be used: {problem}", function.name);
        let mut failure = Failure::new(ErrorCode::FunctionFailed, Diagnosis::INTEGRATION_BAD_ANSWER, detail)
            .with("function", function.name.clone())
            .with("problem", problem)
            .with("length", invoked.payload.len());
        failure.facts.add_some("functionRequestId", invoked.request_id.clone());
        failure
    })
}

/// Adds to an answer what is known of its cause, if it is no success.
fn judged(gateway: &Gateway, mut answer: Answer, is_connect: bool, invoked: &Invoked) -> Answer {
    if answer.status < 300 {
        return answer;
    }
    answer.diagnosis = Some(match answer.status {
        500.. => Diagnosis::INTEGRATION_ERROR_STATUS,
        _ => Diagnosis::BACKEND_REFUSED,
    });
    let facts = gateway.facts(|| {
        let mut facts = Facts::none();
        facts.add_some("functionRequestId", invoked.request_id.clone());
        if is_connect {
            facts.add_some("sentence", sentence(&answer.body));
        }
        facts
    });
    answer.judged = Some(Box::new(Judged { facts, ..Judged::default() }));
    answer
}

/// Reads what a function has answered; its headers only for `$connect`, because nobody looks at others.
///
/// The error is for operators and says which member is wrong.
fn read(payload: &[u8], with_headers: bool) -> Result<Answer, &'static str> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(payload) else {
        return Err("it is no object");
    };
    let status = members.get("statusCode").and_then(status).ok_or("statusCode is no status")?;
    let body = match members.remove("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(body)) if members.get("isBase64Encoded") == Some(&Value::Bool(true)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(&body);
            let bytes = bytes.map_err(|_| "body is no base64 although isBase64Encoded says so")?;
            // Messages are text: what is none is repaired, as that of pushes is.
            Bytes::from(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            })
        }
        Some(Value::String(body)) => Bytes::from(body),
        Some(_) => return Err("body is no text"),
    };
    let mut answer = Answer::new(status, body);
    if with_headers {
        answer.headers = headers(&members)?;
    }
    Ok(answer)
}

/// An integer, or digits in quotes: functions in circulation write both.
fn status(value: &Value) -> Option<u16> {
    let status = match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok()?,
        Value::String(text) if text.len() == 3 => text.parse().ok()?,
        _ => return None,
    };
    (200..600).contains(&status).then_some(status)
}

/// Of a name that is in both members, `multiValueHeaders` has all values.
fn headers(members: &Map<String, Value>) -> Result<HeaderMap, &'static str> {
    const INVALID: &str = "headers holds what is no header";
    let mut headers = HeaderMap::new();
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).map_err(|_| INVALID);
    let value = |value: &Value| match value {
        Value::String(text) => HeaderValue::from_str(text).map_err(|_| INVALID),
        Value::Number(_) | Value::Bool(_) => HeaderValue::from_str(&value.to_string()).map_err(|_| INVALID),
        _ => Err(INVALID),
    };
    match members.get("multiValueHeaders") {
        None | Some(Value::Null) => {}
        Some(Value::Object(several)) => {
            for (written, values) in several {
                for one in values.as_array().ok_or(INVALID)? {
                    headers.append(name(written)?, value(one)?);
                }
            }
        }
        Some(_) => return Err(INVALID),
    }
    match members.get("headers") {
        None | Some(Value::Null) => {}
        Some(Value::Object(single)) => {
            for (written, one) in single {
                let name = name(written)?;
                if !headers.contains_key(&name) {
                    headers.insert(name, value(one)?);
                }
            }
        }
        Some(_) => return Err(INVALID),
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &str, expected: Result<(u16, &str), &str>) {
        let read = read(payload.as_bytes(), true);
        let found = read.as_ref().map(|answer| (answer.status, std::str::from_utf8(&answer.body).unwrap()));
        assert_eq!(found.map_err(|problem| *problem), expected, "{payload}");
    }

    #[test]
    fn what_functions_may_answer() {
        check(r#"{"statusCode": 200}"#, Ok((200, "")));
        check(r#"{"statusCode": 200, "body": null, "headers": null, "extra": [1]}"#, Ok((200, "")));
        check(r#"{"statusCode": "403", "body": "no"}"#, Ok((403, "no")));
        check(r#"{"statusCode": 200, "body": "aGk=", "isBase64Encoded": true}"#, Ok((200, "hi")));
        check(r#"{"statusCode": 200, "body": "/w==", "isBase64Encoded": true}"#, Ok((200, "\u{fffd}")));
        check(r#"{"statusCode": 200, "body": "aGk=", "isBase64Encoded": false}"#, Ok((200, "aGk=")));
        let no_status = Err("statusCode is no status");
        for status in ["null", "\"ok\"", "200.5", "99", "600", "-1", "true", "\"+20\""] {
            check(&format!(r#"{{"statusCode": {status}}}"#), no_status);
        }
        check(r#"{"body": "x"}"#, no_status);
        for none in ["", "null", "\"ok\"", "[200]", "200"] {
            check(none, Err("it is no object"));
        }
        check(r#"{"statusCode": 200, "body": {"a": 1}}"#, Err("body is no text"));
        let no_base64 = Err("body is no base64 although isBase64Encoded says so");
        check(r#"{"statusCode": 200, "body": "?", "isBase64Encoded": true}"#, no_base64);
        let no_header = Err("headers holds what is no header");
        check(r#"{"statusCode": 200, "headers": {"a b": "x"}}"#, no_header);
        check(r#"{"statusCode": 200, "headers": {"a": "x\r\ny: z"}}"#, no_header);
        check(r#"{"statusCode": 200, "headers": ["a"]}"#, no_header);
        check(r#"{"statusCode": 200, "multiValueHeaders": {"a": "x"}}"#, no_header);
    }

    #[test]
    fn headers_have_one_value_or_several() {
        let payload = br#"{"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v1", "X-N": 5, "set-cookie": "c=3"},
            "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]}}"#;
        let answer = read(payload, true).unwrap();
        let values = |name: &str| answer.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("sec-websocket-protocol"), ["v1"]);
        assert_eq!(values("x-n"), ["5"]);
        assert_eq!(values("set-cookie"), ["a=1", "b=2"]);
        assert!(read(payload, false).unwrap().headers.is_empty());
    }
}
