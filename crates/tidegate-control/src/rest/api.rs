//! CreateApi, GetApi, GetApis, UpdateApi, DeleteApi.
//!
//! `routeKey`, `target` and `credentialsArn` are quick-create members of HTTP APIs: they are ignored and create
//! nothing, because clients send them for WebSocket APIs too.

use serde_json::Value;
use tidegate_core::definition::Api;

use super::{Outcome, Reply, tag};
use crate::error::ApiError;
use crate::expression::check_route_selection;
use crate::members::{Members, missing, replace};
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
use crate::state::{ApiState, State};
use crate::{id, limits};

/// A tag of this name on CreateApi chooses the API's id.
const CUSTOM_ID_TAG: &str = "_custom_id_";

pub(crate) const DEFAULT_API_KEY_EXPRESSION: &str = "$request.header.x-api-key";
const API_KEY_EXPRESSIONS: [&str; 2] = [DEFAULT_API_KEY_EXPRESSION, "$context.authorizer.usageIdentifierKey"];

pub(super) fn list(plane: &ControlPlane, query: &Query) -> Outcome {
    Reply::ok(&page(&plane.state().apis, "apis", query, |api| api.api.clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str) -> Outcome {
    Reply::ok(&plane.state().api(api_id)?.api)
}

pub(crate) async fn create(plane: &ControlPlane, chosen_id: Option<&str>, body: Value) -> Outcome {
    let body = Members::new(body)?;
    let api = plane
        .write(|state, context| {
            match body.text("protocolType", limits::NAME)?.as_deref() {
                Some("WEBSOCKET") => {}
                Some("HTTP") => {
                    return Err(ApiError::bad_request(
                        "Tidegate serves WebSocket APIs only: protocolType must be WEBSOCKET",
                    ));
                }
                _ => {
                    return Err(ApiError::bad_request(
                        "Invalid protocol specified. Must be one of [HTTP, WEBSOCKET]",
                    ));
                }
            }
            insert(state, chosen_id, build(&body, context)?, context)
        })
        .await?;
    Reply::created(&api)
}

/// An API as `body` alone describes it; id and address are still empty.
pub(crate) fn build(body: &Members, context: &Context<'_>) -> Result<Api, ApiError> {
    let mut api = Api {
        name: body.required_text("name", limits::NAME)?,
        protocol_type: "WEBSOCKET".to_owned(),
        api_key_selection_expression: DEFAULT_API_KEY_EXPRESSION.to_owned(),
        ip_address_type: "ipv4".to_owned(),
        tags: tag::given(body)?,
        created_date: context.timestamp(),
        ..Api::default()
    };
    edit(&mut api, body)?;
    if api.route_selection_expression.is_empty() {
        return Err(missing("routeSelectionExpression"));
    }
    Ok(api)
}

/// Gives the API its id, the chosen one if there is one, and its address, and adds it.
pub(crate) fn insert(
    state: &mut State,
    chosen_id: Option<&str>,
    mut api: Api,
    context: &Context<'_>,
) -> Result<Api, ApiError> {
    if state.apis.len() >= context.quotas().apis {
        return Err(ApiError::too_many("Maximum number of APIs has been reached"));
    }
    let chosen_id = chosen_id.or_else(|| api.tags.get(CUSTOM_ID_TAG).map(String::as_str));
    api.api_id = match chosen_id {
        None => id::fresh(id::LONG, |id| state.apis.contains(id))?,
        Some(id) if !id::is_api_id(id) => {
            return Err(ApiError::bad_request(format!(
                "Invalid API identifier specified {id}: must be a lower-case DNS label of at most {} characters",
                limits::API_ID
            )));
        }
        Some(id) if state.apis.contains(id) => {
            let created = state.apis.get(id).map(|known| known.api.created_date.clone());
            let message = format!("API with identifier {id} already exists");
            return Err(ApiError::exists(id, created.as_deref(), message));
        }
        Some(id) => id.to_owned(),
    };
    api.api_endpoint = context.settings.api_endpoint(&api.api_id);
    let sequence = state.sequence();
    let new = ApiState { api: api.clone(), ..ApiState::default() };
    state.apis.insert(&api.api_id, sequence, new);
    Ok(api)
}

pub(super) async fn update(plane: &ControlPlane, api_id: &str, body: &Members) -> Outcome {
    let api = plane
        .write(|state, _| {
            let api = &mut state.api_mut(api_id)?.api;
            if let Some(name) = body.filled_text("name", limits::NAME)? {
                api.name = name;
            }
            if body.text("protocolType", limits::NAME)?.is_some_and(|p| p != api.protocol_type) {
                return Err(ApiError::bad_request("The protocol of an API cannot be changed"));
            }
            edit(api, body)?;
            Ok(api.clone())
        })
        .await?;
    Reply::ok(&api)
}

/// What creating and updating have in common.
fn edit(api: &mut Api, body: &Members) -> Result<(), ApiError> {
    if body.is_set("corsConfiguration") {
        return Err(ApiError::bad_request("CORS is not supported for WebSocket APIs"));
    }
    if let Some(text) = body.filled_text("routeSelectionExpression", limits::EXPRESSION)? {
        check_route_selection(&text)?;
        api.route_selection_expression = text;
    }
    if let Some(text) = body.choice("apiKeySelectionExpression", &API_KEY_EXPRESSIONS)? {
        api.api_key_selection_expression =
            if text.is_empty() { DEFAULT_API_KEY_EXPRESSION.to_owned() } else { text };
    }
    if let Some(description) = body.text("description", limits::DESCRIPTION)? {
        api.description = Some(description);
    }
    if let Some(flag) = body.flag("disableSchemaValidation")? {
        api.disable_schema_validation = Some(flag);
    }
    if let Some(flag) = body.flag("disableExecuteApiEndpoint")? {
        api.disable_execute_api_endpoint = flag;
    }
    if let Some(kind) = body.choice("ipAddressType", &["ipv4", "dualstack"])?.filter(|k| !k.is_empty()) {
        api.ip_address_type = kind;
    }
    replace(&mut api.version, body.text("version", limits::VERSION)?);
    Ok(())
}

/// Removes the API, everything below it, and the API mappings that lead to it.
pub(super) async fn delete(plane: &ControlPlane, api_id: &str) -> Outcome {
    plane
        .write(|state, _| {
            state.api(api_id)?;
            state.apis.remove(api_id);
            for name in state.domains.ids() {
                let is_mapped = |id: &&str| {
                    state.domain(&name).is_ok_and(|d| d.mappings.get(id).is_some_and(|m| m.api_id == api_id))
                };
                let ids = state.domain(&name)?.mappings.ids();
                let mapped: Vec<&str> = ids.iter().map(String::as_str).filter(is_mapped).collect();
                for id in mapped {
                    state.domain_mut(&name)?.mappings.remove(id);
                }
            }
            Ok(())
        })
        .await?;
    Reply::no_content()
}
