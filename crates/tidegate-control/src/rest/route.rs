//! CreateRoute, GetRoute, GetRoutes, UpdateRoute, DeleteRoute, DeleteRouteRequestParameter.

use tidegate_core::definition::{Map, ParameterConstraints, Route};

use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::expression::check_selection;
use crate::limits;
use crate::members::{Members, merge, replace};
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
use crate::state::{ApiState, State};

pub(super) fn list(plane: &ControlPlane, api_id: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let list = format!("apis/{api_id}/routes");
    Reply::ok(&page(&state.api(api_id)?.routes, &list, query, |route| (**route).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, route_id: &str) -> Outcome {
    Reply::ok(plane.state().api(api_id)?.route(route_id)?.as_ref())
}

pub(super) async fn create(plane: &ControlPlane, api_id: &str, body: &Members) -> Outcome {
    let route = plane.write(|state, context| insert(state, api_id, body, context)).await?;
    Reply::created(&route)
}

/// Adds the route that `body` describes.
pub(crate) fn insert(
    state: &mut State,
    api_id: &str,
    body: &Members,
    context: &Context<'_>,
) -> Result<Route, ApiError> {
    let sequence = state.sequence();
    let api = state.api_mut(api_id)?;
    if api.routes.len() >= context.quotas().routes_per_api {
        return Err(ApiError::too_many("Maximum number of Routes for this API has been reached"));
    }
    let route = build(api.fresh_id()?, body, api, context)?;
    api.routes.insert(&route.route_id, sequence, route.clone());
    Ok(route)
}

/// A route as `body` alone describes it.
pub(crate) fn build(
    route_id: String,
    body: &Members,
    api: &ApiState,
    context: &Context<'_>,
) -> Result<Route, ApiError> {
    body.required_text("routeKey", limits::ROUTE_KEY)?;
    let mut route = Route { route_id, authorization_type: "NONE".to_owned(), ..Route::default() };
    edit(&mut route, body, api, context)?;
    Ok(route)
}

pub(super) async fn update(plane: &ControlPlane, api_id: &str, route_id: &str, body: &Members) -> Outcome {
    let route = plane
        .write(|state, context| {
            let api = state.api_mut(api_id)?;
            let mut route = (**api.route(route_id)?).clone();
            edit(&mut route, body, api, context)?;
            if let Some(place) = api.routes.get_mut(route_id) {
                place.clone_from(&route);
            }
            Ok(route)
        })
        .await?;
    Reply::ok(&route)
}

/// What creating and updating have in common.
fn edit(route: &mut Route, body: &Members, api: &ApiState, context: &Context<'_>) -> Result<(), ApiError> {
    if let Some(key) = body.filled_text("routeKey", limits::ROUTE_KEY)? {
        check_key(&key, route, api)?;
        route.route_key = key;
    }
    if let Some(target) = body.text("target", limits::TARGET)? {
        check_target(&target, api)?;
        replace(&mut route.target, Some(target));
    }
    replace(&mut route.operation_name, body.text("operationName", limits::OPERATION_NAME)?);
    let expression = body.text("modelSelectionExpression", limits::EXPRESSION)?;
    if let Some(text) = expression.as_deref().filter(|t| !t.is_empty()) {
        check_selection("modelSelectionExpression", text)?;
    }
    replace(&mut route.model_selection_expression, expression);
    if let Some(models) = body.text_map("requestModels")? {
        check_models(&models, api)?;
        merge(&mut route.request_models, Some(models));
    }
    let response = body.choice("routeResponseSelectionExpression", &["$default"])?;
    replace(&mut route.route_response_selection_expression, response);
    if let Some(parameters) = parameters(body, "requestParameters", "route.request.")? {
        let map = route.request_parameters.get_or_insert_default();
        map.extend(parameters);
        if map.is_empty() {
            route.request_parameters = None;
        }
    }
    if let Some(flag) = body.flag("apiKeyRequired")? {
        route.api_key_required = flag;
    }
    edit_authorization(route, body, api, context)
}

fn check_key(key: &str, route: &Route, api: &ApiState) -> Result<(), ApiError> {
    if key.starts_with('$') && !["$connect", "$disconnect", "$default"].contains(&key) {
        return Err(ApiError::bad_request(format!(
            "Invalid route key specified: {key}. Only $connect, $disconnect and $default may begin with $"
        )));
    }
    if api.routes.iter().any(|other| other.route_key == key && other.route_id != route.route_id) {
        return Err(ApiError::exists(key, None, format!("Route with key {key} already exists for this API")));
    }
    Ok(())
}

fn check_target(target: &str, api: &ApiState) -> Result<(), ApiError> {
    if target.is_empty() {
        return Ok(());
    }
    match target.strip_prefix("integrations/") {
        Some(id) if !id.is_empty() && !id.contains('/') => api.integration(id).map(drop),
        _ => Err(ApiError::bad_request(format!(
            "Invalid target specified: {target}. Must be integrations/{{integrationId}}"
        ))),
    }
}

fn check_models(models: &Map, api: &ApiState) -> Result<(), ApiError> {
    for name in models.values().filter(|name| !name.is_empty()) {
        if !api.models.iter().any(|model| model.name == *name) {
            return Err(ApiError::bad_request(format!("Invalid model specified: {name}")));
        }
    }
    Ok(())
}

fn edit_authorization(
    route: &mut Route,
    body: &Members,
    api: &ApiState,
    context: &Context<'_>,
) -> Result<(), ApiError> {
    if let Some(kind) = body.choice("authorizationType", &["NONE", "AWS_IAM", "CUSTOM", "JWT"])? {
        route.authorization_type = if kind.is_empty() { "NONE".to_owned() } else { kind };
    }
    replace(&mut route.authorizer_id, body.text("authorizerId", limits::NAME)?);
    let is_jwt = route.authorization_type == "JWT" && context.settings.allow_jwt_authorizer;
    if !is_jwt && body.is_set("authorizationScopes") {
        return Err(ApiError::bad_request("AuthorizationScopes cannot be set for WEBSOCKET protocol Apis."));
    }
    match body.text_list("authorizationScopes")? {
        _ if !is_jwt => route.authorization_scopes.clear(),
        Some(scopes) => route.authorization_scopes = scopes,
        None => {}
    }
    match route.authorization_type.as_str() {
        "JWT" if !context.settings.allow_jwt_authorizer => {
            return Err(ApiError::bad_request(
                "Invalid authorization type. JWT is not supported on WEBSOCKET protocol Apis.",
            ));
        }
        kind @ ("CUSTOM" | "JWT") => check_authorizer(kind, route.authorizer_id.as_deref(), api)?,
        // Left over from CUSTOM, it would keep the authorizer in use.
        _ => route.authorizer_id = None,
    }
    if route.authorization_type != "NONE" && route.route_key != "$connect" {
        return Err(ApiError::bad_request(
            "Currently, authorization is restricted to the $connect route only",
        ));
    }
    Ok(())
}

/// The authorizer is there, and of the kind that the route asks for.
fn check_authorizer(kind: &str, id: Option<&str>, api: &ApiState) -> Result<(), ApiError> {
    let Some(id) = id else {
        let message = format!("authorizerId is required with authorizationType {kind}");
        return Err(ApiError::bad_request(message));
    };
    let authorizer = api.authorizers.get(id).ok_or_else(|| ApiError::unknown("Authorizer", id))?;
    if (authorizer.authorizer_type == "JWT") != (kind == "JWT") {
        let message = format!("The authorizer {id} does not fit authorizationType {kind}");
        return Err(ApiError::bad_request(message));
    }
    Ok(())
}

/// Reads `{"{prefix}querystring.X": {"required": true}}`.
pub(super) fn parameters(
    body: &Members,
    name: &str,
    prefix: &str,
) -> Result<Option<Map<ParameterConstraints>>, ApiError> {
    let Some(entries) = body.objects(name)? else { return Ok(None) };
    if entries.len() > limits::MAP_ENTRIES {
        return Err(ApiError::bad_request(format!(
            "Invalid value for {name}: at most {} entries are permitted",
            limits::MAP_ENTRIES
        )));
    }
    let mut map = Map::new();
    for (key, constraints) in entries {
        let place = key.strip_prefix(prefix).and_then(|rest| rest.split_once('.'));
        let is_valid = prefix != "route.request."
            || place.is_some_and(|(kind, name)| matches!(kind, "querystring" | "header") && !name.is_empty());
        if !is_valid || key.chars().count() > limits::MAPPING_VALUE {
            return Err(ApiError::bad_request(format!("Invalid mapping expression specified: {key}")));
        }
        let required = constraints.flag("required")?.unwrap_or(false);
        map.insert(key, ParameterConstraints { required });
    }
    Ok(Some(map))
}

pub(super) async fn delete(plane: &ControlPlane, api_id: &str, route_id: &str) -> Outcome {
    plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            api.route(route_id)?;
            api.routes.remove(route_id);
            api.route_responses.remove(route_id);
            Ok(())
        })
        .await?;
    Reply::no_content()
}

pub(super) async fn delete_request_parameter(
    plane: &ControlPlane,
    api_id: &str,
    route_id: &str,
    key: &str,
) -> Outcome {
    plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            let route = api.routes.get_mut(route_id).ok_or_else(|| ApiError::unknown("Route", route_id))?;
            let map = route.request_parameters.as_mut();
            if map.and_then(|map| map.remove(key)).is_none() {
                return Err(ApiError::unknown("RequestParameter", key));
            }
            if route.request_parameters.as_ref().is_some_and(Map::is_empty) {
                route.request_parameters = None;
            }
            Ok(())
        })
        .await?;
    Reply::no_content()
}
