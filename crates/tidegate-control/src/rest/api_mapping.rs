//! CreateApiMapping, GetApiMapping, GetApiMappings, UpdateApiMapping, DeleteApiMapping.

use tidegate_core::definition::ApiMapping;

use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::members::Members;
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
use crate::state::State;
use crate::{id, limits};

fn unknown() -> ApiError {
    ApiError::not_found("The api mapping resource specified in the request was not found.")
}

pub(super) fn list(plane: &ControlPlane, domain_name: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let list = format!("domainnames/{domain_name}/apimappings");
    Reply::ok(&page(&state.domain(domain_name)?.mappings, &list, query, |mapping| (**mapping).clone())?)
}

pub(super) fn get(plane: &ControlPlane, domain_name: &str, id: &str) -> Outcome {
    Reply::ok(plane.state().domain(domain_name)?.mappings.get(id).ok_or_else(unknown)?.as_ref())
}

pub(super) async fn create(plane: &ControlPlane, domain_name: &str, body: &Members) -> Outcome {
    let mapping = plane.write(|state, context| insert(state, domain_name, body, context)).await?;
    Reply::created(&mapping)
}

/// Adds the mapping that `body` describes.
pub(crate) fn insert(
    state: &mut State,
    domain_name: &str,
    body: &Members,
    context: &Context<'_>,
) -> Result<ApiMapping, ApiError> {
    let sequence = state.sequence();
    let domain = state.domain(domain_name)?;
    if domain.mappings.len() >= context.quotas().mappings_per_domain {
        return Err(ApiError::too_many(
            "Maximum number of ApiMappings for this domain name has been reached",
        ));
    }
    let id = id::fresh(id::SHORT, |id| domain.mappings.contains(id))?;
    let mapping = build(id, domain_name, body, state)?;
    let mappings = &mut state.domain_mut(domain_name)?.mappings;
    mappings.insert(&mapping.api_mapping_id, sequence, mapping.clone());
    Ok(mapping)
}

/// A mapping as `body` alone describes it.
pub(crate) fn build(
    api_mapping_id: String,
    domain_name: &str,
    body: &Members,
    state: &State,
) -> Result<ApiMapping, ApiError> {
    body.required_text("stage", limits::NAME)?;
    let mut mapping = ApiMapping { api_mapping_id, ..ApiMapping::default() };
    edit(&mut mapping, domain_name, body, state)?;
    Ok(mapping)
}

pub(super) async fn update(plane: &ControlPlane, domain_name: &str, id: &str, body: &Members) -> Outcome {
    let mapping = plane
        .write(|state, _| {
            let found = state.domain(domain_name)?.mappings.get(id).ok_or_else(unknown)?;
            let mut mapping = (**found).clone();
            edit(&mut mapping, domain_name, body, state)?;
            if let Some(place) = state.domain_mut(domain_name)?.mappings.get_mut(id) {
                place.clone_from(&mapping);
            }
            Ok(mapping)
        })
        .await?;
    Reply::ok(&mapping)
}

/// Both operations require `apiId`; the stage is looked up again in any case.
fn edit(mapping: &mut ApiMapping, domain_name: &str, body: &Members, state: &State) -> Result<(), ApiError> {
    mapping.api_id = body.required_text("apiId", limits::NAME)?;
    if let Some(stage) = body.filled_text("stage", limits::NAME)? {
        mapping.stage = stage;
    }
    if !state.api(&mapping.api_id)?.stages.contains(&mapping.stage) {
        return Err(ApiError::unknown_stage());
    }
    if let Some(key) = body.text("apiMappingKey", limits::API_MAPPING_KEY)? {
        check_key(&key)?;
        mapping.api_mapping_key = key;
    }
    let is_taken =
        state.domain(domain_name)?.mappings.iter().any(|m| {
            m.api_mapping_key == mapping.api_mapping_key && m.api_mapping_id != mapping.api_mapping_id
        });
    if is_taken {
        return Err(ApiError::exists(
            "the mapping key",
            None,
            "ApiMapping key already exists for this domain name",
        ));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), ApiError> {
    if key.starts_with('/') || key.contains("//") {
        return Err(ApiError::bad_request(
            "API mapping key should not start with a '/' or have consecutive '/'s.",
        ));
    }
    if key.ends_with('/') {
        return Err(ApiError::bad_request("API mapping key should not end with a '/'."));
    }
    if key.contains('/') {
        return Err(ApiError::bad_request(
            "API mapping key should not contain a '/' for WEBSOCKET protocol Apis.",
        ));
    }
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"$-_.+!*'()".contains(&b)) {
        return Err(ApiError::bad_request(
            "API mapping key may only contain letters, digits and the characters $-_.+!*'()",
        ));
    }
    Ok(())
}

pub(super) async fn delete(plane: &ControlPlane, domain_name: &str, id: &str) -> Outcome {
    plane
        .write(|state, _| state.domain_mut(domain_name)?.mappings.remove(id).ok_or_else(unknown).map(drop))
        .await?;
    Reply::no_content()
}
