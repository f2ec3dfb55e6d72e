//! CreateIntegrationResponse, GetIntegrationResponse, GetIntegrationResponses, UpdateIntegrationResponse,
//! DeleteIntegrationResponse.

use tidegate_core::definition::IntegrationResponse;

use super::integration::CONTENT_HANDLING;
use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::expression::{check_selection, check_templates};
use crate::limits;
use crate::members::{Members, merge, merge_templates, replace};
use crate::page::{Query, page};
use crate::plane::ControlPlane;
use crate::table::Table;

fn unknown(id: &str) -> ApiError {
    ApiError::unknown("IntegrationResponse", id)
}

pub(super) fn list(plane: &ControlPlane, api_id: &str, owner: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let api = state.api(api_id)?;
    api.integration(owner)?;
    let nothing = Table::default();
    let table = api.integration_responses.get(owner).unwrap_or(&nothing);
    let list = format!("apis/{api_id}/integrations/{owner}/integrationresponses");
    Reply::ok(&page(table, &list, query, |response| (**response).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, owner: &str, id: &str) -> Outcome {
    let state = plane.state();
    let api = state.api(api_id)?;
    api.integration(owner)?;
    let response = api.integration_responses.get(owner).and_then(|t| t.get(id)).ok_or_else(|| unknown(id))?;
    Reply::ok(response.as_ref())
}

pub(super) async fn create(plane: &ControlPlane, api_id: &str, owner: &str, body: &Members) -> Outcome {
    let response = plane
        .write(|state, _| {
            let sequence = state.sequence();
            let api = state.api_mut(api_id)?;
            api.integration(owner)?;
            body.required_text("integrationResponseKey", limits::EXPRESSION)?;
            let mut response = IntegrationResponse {
                integration_response_id: api.fresh_id()?,
                ..IntegrationResponse::default()
            };
            let table = api.integration_responses.entry(owner.to_owned()).or_default();
            if table.len() >= limits::INTEGRATION_RESPONSES_PER_INTEGRATION {
                return Err(ApiError::too_many(
                    "Maximum number of IntegrationResponses for this Integration has been reached",
                ));
            }
            edit(&mut response, body, table)?;
            table.insert(&response.integration_response_id, sequence, response.clone());
            Ok(response)
        })
        .await?;
    Reply::created(&response)
}

pub(super) async fn update(
    plane: &ControlPlane,
    api_id: &str,
    owner: &str,
    id: &str,
    body: &Members,
) -> Outcome {
    let response = plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            api.integration(owner)?;
            let table = api.integration_responses.get_mut(owner).ok_or_else(|| unknown(id))?;
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
    response: &mut IntegrationResponse,
    body: &Members,
    table: &Table<IntegrationResponse>,
) -> Result<(), ApiError> {
    let is_new = response.integration_response_key.is_empty();
    if let Some(key) = body.filled_text("integrationResponseKey", limits::EXPRESSION)? {
        let is_pattern = key.len() > 2 && key.starts_with('/') && key.ends_with('/');
        if key != "$default" && !is_pattern {
            return Err(ApiError::bad_request(format!(
                "Invalid integration response key specified: {key}. Must be $default or a pattern between slashes"
            )));
        }
        let is_other =
            |other: &IntegrationResponse| other.integration_response_id != response.integration_response_id;
        if table.iter().any(|other| other.integration_response_key == key && is_other(other)) {
            return Err(ApiError::conflict("An integration response with this key already exists"));
        }
        response.integration_response_key = key;
    }
    if let Some(templates) = body.text_map("responseTemplates")? {
        check_templates("responseTemplates", &templates)?;
        merge_templates(&mut response.response_templates, templates, is_new);
    }
    merge(&mut response.response_parameters, body.text_map("responseParameters")?);
    let expression = body.text("templateSelectionExpression", limits::EXPRESSION)?;
    if let Some(text) = expression.as_deref().filter(|t| !t.is_empty()) {
        check_selection("templateSelectionExpression", text)?;
    }
    replace(&mut response.template_selection_expression, expression);
    replace(
        &mut response.content_handling_strategy,
        body.choice("contentHandlingStrategy", &CONTENT_HANDLING)?,
    );
    Ok(())
}

pub(super) async fn delete(plane: &ControlPlane, api_id: &str, owner: &str, id: &str) -> Outcome {
    plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            api.integration(owner)?;
            let table = api.integration_responses.get_mut(owner).ok_or_else(|| unknown(id))?;
            table.remove(id).ok_or_else(|| unknown(id)).map(drop)
        })
        .await?;
    Reply::no_content()
}
