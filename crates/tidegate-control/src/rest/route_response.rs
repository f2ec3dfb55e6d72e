//! CreateRouteResponse, GetRouteResponse, GetRouteResponses, UpdateRouteResponse, DeleteRouteResponse.

use tidegate_core::definition::RouteResponse;

use super::route::parameters;
use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::limits;
use crate::members::{Members, merge, replace};
use crate::page::{Query, page};
use crate::plane::ControlPlane;
use crate::table::Table;

fn unknown(id: &str) -> ApiError {
    ApiError::unknown("RouteResponse", id)
}

pub(super) fn list(plane: &ControlPlane, api_id: &str, route_id: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let api = state.api(api_id)?;
    api.route(route_id)?;
    let nothing = Table::default();
    let table = api.route_responses.get(route_id).unwrap_or(&nothing);
    let list = format!("apis/{api_id}/routes/{route_id}/routeresponses");
    Reply::ok(&page(table, &list, query, |response| (**response).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, route_id: &str, id: &str) -> Outcome {
    let state = plane.state();
    let api = state.api(api_id)?;
    api.route(route_id)?;
    let response = api.route_responses.get(route_id).and_then(|t| t.get(id)).ok_or_else(|| unknown(id))?;
    Reply::ok(response.as_ref())
}

pub(super) async fn create(plane: &ControlPlane, api_id: &str, route_id: &str, body: &Members) -> Outcome {
    let response = plane
        .write(|state, _| {
            let sequence = state.sequence();
            let api = state.api_mut(api_id)?;
            api.route(route_id)?;
            body.required_text("routeResponseKey", limits::ROUTE_KEY)?;
            let mut response =
                RouteResponse { route_response_id: api.fresh_id()?, ..RouteResponse::default() };
            let table = api.route_responses.entry(route_id.to_owned()).or_default();
            edit(&mut response, body, table)?;
            table.insert(&response.route_response_id, sequence, response.clone());
            Ok(response)
        })
        .await?;
    Reply::created(&response)
}

pub(super) async fn update(
    plane: &ControlPlane,
    api_id: &str,
    route_id: &str,
    id: &str,
    body: &Members,
) -> Outcome {
    let response = plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            api.route(route_id)?;
            let table = api.route_responses.get_mut(route_id).ok_or_else(|| unknown(id))?;
            let mut response = (**table.get(id).ok_or_else(|| unknown(id))?).clone();
            edit(&mut response, body, table)?;
            if let Some(place) = table.get_mut(id) {
                place.clone_from(&response);
            }
            Ok(response)
        })
        .await?;
    Reply::ok(&response)
}

/// What creating and updating have in common; the key is unique in `table`.
pub(crate) fn edit(
    response: &mut RouteResponse,
    body: &Members,
    table: &Table<RouteResponse>,
) -> Result<(), ApiError> {
    if let Some(key) = body.filled_text("routeResponseKey", limits::ROUTE_KEY)? {
        if key != "$default" {
            return Err(ApiError::bad_request(format!(
                "Invalid route response key specified: {key}. Only $default is supported"
            )));
        }
        let is_other = |other: &RouteResponse| other.route_response_id != response.route_response_id;
        if table.iter().any(|other| other.route_response_key == key && is_other(other)) {
            return Err(ApiError::conflict("A route response with this key already exists"));
        }
        response.route_response_key = key;
    }
    replace(
        &mut response.model_selection_expression,
        body.text("modelSelectionExpression", limits::EXPRESSION)?,
    );
    merge(&mut response.response_models, body.text_map("responseModels")?);
    if let Some(parameters) = parameters(body, "responseParameters", "")? {
        response.response_parameters.get_or_insert_default().extend(parameters);
    }
    Ok(())
}

pub(super) async fn delete(plane: &ControlPlane, api_id: &str, route_id: &str, id: &str) -> Outcome {
    plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            api.route(route_id)?;
            let table = api.route_responses.get_mut(route_id).ok_or_else(|| unknown(id))?;
            table.remove(id).ok_or_else(|| unknown(id)).map(drop)
        })
        .await?;
    Reply::no_content()
}
