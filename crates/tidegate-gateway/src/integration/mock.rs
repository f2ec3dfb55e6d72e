//! `MOCK` integrations: no backend; the request template names a status, the status an answer.

use bytes::Bytes;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::snapshot::{MockIntegration, Passthrough, ResponseKey};
use tidegate_core::template::{Scope, Template};

use super::{Answer, Call, Failure};

pub(super) fn call(mock: &MockIntegration, call: &Call<'_>) -> Result<Answer, Failure> {
    let key = mock.template_selection.as_ref().map(|selection| selection.select(call.body).value);
    let key = key.as_deref().unwrap_or("application/json");
    let template = mock.request_templates.get(key).or_else(|| mock.request_templates.get("$default"));
    let status = match template {
        Some(template) => status(&render(template, call)?)?,
        None => {
            let is_refused = match mock.passthrough {
                Passthrough::WhenNoMatch => false,
                Passthrough::WhenNoTemplates => !mock.request_templates.is_empty(),
                Passthrough::Never => true,
            };
            if is_refused {
                return Err(Failure::new(
                    ErrorCode::UnsupportedMediaType,
                    Diagnosis::REPLY_TEMPLATE,
                    "no request template fits and passthrough is refused",
                ));
            }
            200
        }
    };
    let response = mock.responses.iter().find(|(key, _)| key.matches(status));
    let response = response.or_else(|| mock.responses.iter().find(|(key, _)| *key == ResponseKey::Default));
    let body = match response {
        Some((_, Some(template))) => render(template, call)?,
        Some((_, None)) => call.body.to_owned(),
        // Without any integration response there is nothing to say, and nothing to refuse either.
        None if mock.responses.is_empty() => String::new(),
        None => {
            return Err(Failure::new(
                ErrorCode::Misconfigured,
                Diagnosis::REPLY_TEMPLATE,
                format!("no integration response for status {status} and no $default"),
            ));
        }
    };
    Ok(Answer::new(status, Bytes::from(body)))
}

fn render(template: &Template, call: &Call<'_>) -> Result<String, Failure> {
    let scope = Scope {
        event: call.event,
        stage_variables: &call.stage.variables,
        body: call.body,
        headers: call.headers,
        query: call.query,
    };
    template
        .render(&scope)
        .map_err(|error| Failure::new(ErrorCode::Misconfigured, Diagnosis::REPLY_TEMPLATE, error.to_string()))
}

/// The `statusCode` of a rendered request template.
fn status(rendered: &str) -> Result<u16, Failure> {
    let status = serde_json::from_str::<serde_json::Value>(rendered)
        .ok()
        .and_then(|value| value.get("statusCode")?.as_u64())
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..600).contains(status));
    status.ok_or_else(|| {
        Failure::new(
            ErrorCode::Misconfigured,
            Diagnosis::REPLY_TEMPLATE,
            "the request template gives no statusCode",
        )
    })
}
