//! CreateIntegration, GetIntegration, GetIntegrations, UpdateIntegration, DeleteIntegration.

use tidegate_core::definition::{Integration, TlsConfig};

use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::expression::{check_mapping, check_selection, check_templates};
use crate::limits;
use crate::members::{Members, merge, merge_templates, missing, replace};
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
use crate::state::{ApiState, State};

pub(super) mod uri;

const TYPES: [&str; 5] = ["AWS_PROXY", "AWS", "HTTP_PROXY", "HTTP", "MOCK"];
const METHODS: [&str; 8] = ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
const PASSTHROUGH: [&str; 3] = ["WHEN_NO_MATCH", "WHEN_NO_TEMPLATES", "NEVER"];
/// Permitted values of `contentHandlingStrategy`.
pub(super) const CONTENT_HANDLING: [&str; 2] = ["CONVERT_TO_BINARY", "CONVERT_TO_TEXT"];

pub(super) fn list(plane: &ControlPlane, api_id: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let list = format!("apis/{api_id}/integrations");
    Reply::ok(&page(&state.api(api_id)?.integrations, &list, query, |i| (**i).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    Reply::ok(plane.state().api(api_id)?.integration(id)?.as_ref())
}

pub(super) async fn create(plane: &ControlPlane, api_id: &str, body: &Members) -> Outcome {
    let integration = plane.write(|state, context| insert(state, api_id, body, context)).await?;
    Reply::created(&integration)
}

/// Adds the integration that `body` describes.
pub(crate) fn insert(
    state: &mut State,
    api_id: &str,
    body: &Members,
    context: &Context<'_>,
) -> Result<Integration, ApiError> {
    let sequence = state.sequence();
    let api = state.api_mut(api_id)?;
    if api.integrations.len() >= context.quotas().integrations_per_api {
        return Err(ApiError::too_many("Maximum number of Integrations for this API has been reached"));
    }
    let integration = build(api.fresh_id()?, body, context)?;
    api.integrations.insert(&integration.integration_id, sequence, integration.clone());
    Ok(integration)
}

/// An integration as `body` alone describes it.
pub(crate) fn build(
    integration_id: String,
    body: &Members,
    context: &Context<'_>,
) -> Result<Integration, ApiError> {
    body.required_text("integrationType", limits::NAME)?;
    let mut integration = Integration {
        integration_id,
        connection_type: "INTERNET".to_owned(),
        passthrough_behavior: "WHEN_NO_MATCH".to_owned(),
        timeout_in_millis: limits::MAX_TIMEOUT_MS.min(context.settings.max_timeout_ms),
        ..Integration::default()
    };
    edit(&mut integration, body, context)?;
    Ok(integration)
}

pub(super) async fn update(plane: &ControlPlane, api_id: &str, id: &str, body: &Members) -> Outcome {
    let integration = plane
        .write(|state, context| {
            let api = state.api_mut(api_id)?;
            let mut integration = (**api.integration(id)?).clone();
            edit(&mut integration, body, context)?;
            if let Some(place) = api.integrations.get_mut(id) {
                place.clone_from(&integration);
            }
            Ok(integration)
        })
        .await?;
    Reply::ok(&integration)
}

/// What creating and updating have in common.
fn edit(integration: &mut Integration, body: &Members, context: &Context<'_>) -> Result<(), ApiError> {
    for (member, name) in
        [("responseParameters", "ResponseParameters"), ("integrationSubtype", "IntegrationSubtype")]
    {
        if body.is_set(member) {
            return Err(ApiError::bad_request(format!("{name} cannot be set for WEBSOCKET protocol Apis.")));
        }
    }
    let is_new = integration.integration_type.is_empty();
    if let Some(kind) = body.choice("integrationType", &TYPES)?.filter(|k| !k.is_empty()) {
        integration.integration_type = kind;
    }
    replace(&mut integration.integration_uri, body.text("integrationUri", limits::URI)?);
    replace(&mut integration.integration_method, body.choice("integrationMethod", &METHODS)?);
    if let Some(kind) = body.choice("connectionType", &["INTERNET", "VPC_LINK"])?.filter(|k| !k.is_empty()) {
        integration.connection_type = kind;
    }
    replace(&mut integration.connection_id, body.text("connectionId", limits::CONNECTION_ID)?);
    replace(&mut integration.credentials_arn, body.text("credentialsArn", limits::ARN)?);
    replace(
        &mut integration.content_handling_strategy,
        body.choice("contentHandlingStrategy", &CONTENT_HANDLING)?,
    );
    if let Some(description) = body.text("description", limits::DESCRIPTION)? {
        integration.description = Some(description);
    }
    if let Some(text) = body.choice("passthroughBehavior", &PASSTHROUGH)?.filter(|t| !t.is_empty()) {
        integration.passthrough_behavior = text;
    }
    if let Some(version) = body.choice("payloadFormatVersion", &["1.0"])? {
        replace(&mut integration.payload_format_version, Some(version));
    }
    edit_maps(integration, body, is_new)?;
    if let Some(timeout) = body.integer("timeoutInMillis")? {
        let longest = context.settings.max_timeout_ms;
        integration.timeout_in_millis = u32::try_from(timeout)
            .ok()
            .filter(|t| (limits::MIN_TIMEOUT_MS..=longest).contains(t))
            .ok_or_else(|| {
                ApiError::bad_request(format!(
                    "Timeout should be between {} ms and {longest} ms",
                    limits::MIN_TIMEOUT_MS
                ))
            })?;
    }
    if let Some(tls) = body.object("tlsConfig")? {
        let name = tls.text("serverNameToVerify", limits::DOMAIN_NAME)?.filter(|n| !n.is_empty());
        integration.tls_config = name.map(|name| TlsConfig { server_name_to_verify: Some(name) });
    }
    complete(integration, context)
}

fn edit_maps(integration: &mut Integration, body: &Members, is_new: bool) -> Result<(), ApiError> {
    if let Some(parameters) = body.text_map("requestParameters")? {
        for (key, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
            check_mapping(key, value)?;
        }
        merge(&mut integration.request_parameters, Some(parameters));
    }
    if let Some(templates) = body.text_map("requestTemplates")? {
        check_templates("requestTemplates", &templates)?;
        merge_templates(&mut integration.request_templates, templates, is_new);
    }
    let expression = body.text("templateSelectionExpression", limits::EXPRESSION)?;
    if let Some(text) = expression.as_deref().filter(|t| !t.is_empty()) {
        check_selection("templateSelectionExpression", text)?;
    }
    replace(&mut integration.template_selection_expression, expression);
    Ok(())
}

/// Checks what depends on several members, and derives what follows from them.
fn complete(integration: &mut Integration, context: &Context<'_>) -> Result<(), ApiError> {
    match integration.integration_type.as_str() {
        "MOCK" => {}
        kind => {
            let text = integration.integration_uri.as_deref().ok_or_else(|| missing("integrationUri"))?;
            uri::check(kind, text, &context.settings.allow_integration_hosts)?;
        }
    }
    if integration.integration_uri.is_some() {
        integration.integration_method.get_or_insert_with(|| "POST".to_owned());
        integration.payload_format_version.get_or_insert_with(|| "1.0".to_owned());
    }
    if integration.connection_type == "VPC_LINK" && integration.connection_id.is_none() {
        return Err(missing("connectionId"));
    }
    let selection = match integration.integration_type.as_str() {
        "AWS" => Some("${integration.response.body.errorMessage}"),
        "HTTP" | "MOCK" => Some("${integration.response.statuscode}"),
        _ => None,
    };
    integration.integration_response_selection_expression = selection.map(str::to_owned);
    Ok(())
}

pub(super) async fn delete(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    plane.write(|state, _| remove(state.api_mut(api_id)?, id)).await?;
    Reply::no_content()
}

/// Refused while a route targets it.
pub(crate) fn remove(api: &mut ApiState, id: &str) -> Result<(), ApiError> {
    api.integration(id)?;
    let target = format!("integrations/{id}");
    if let Some(route) = api.routes.iter().find(|r| r.target.as_ref() == Some(&target)) {
        return Err(ApiError::conflict(format!(
            "Cannot delete Integration {id}: it is used by the route with key {}",
            route.route_key
        )));
    }
    api.integrations.remove(id);
    api.integration_responses.remove(id);
    api.names.remove(id);
    Ok(())
}
