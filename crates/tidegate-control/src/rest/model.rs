//! CreateModel, GetModel, GetModels, GetModelTemplate, UpdateModel, DeleteModel.

use serde_json::{Value, json};
use tidegate_core::definition::Model;

use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::limits;
use crate::members::Members;
use crate::page::{Query, page};
use crate::plane::ControlPlane;
use crate::state::{ApiState, State};

fn unknown(id: &str) -> ApiError {
    ApiError::unknown("Model", id)
}

pub(super) fn list(plane: &ControlPlane, api_id: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let list = format!("apis/{api_id}/models");
    Reply::ok(&page(&state.api(api_id)?.models, &list, query, |model| (**model).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    Reply::ok(plane.state().api(api_id)?.models.get(id).ok_or_else(|| unknown(id))?.as_ref())
}

/// A mapping template that copies each top-level property of the schema.
pub(super) fn template(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    let state = plane.state();
    let model = state.api(api_id)?.models.get(id).ok_or_else(|| unknown(id))?;
    let schema: Value = serde_json::from_str(&model.schema).unwrap_or(Value::Null);
    let lines: Vec<String> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .map(|name| {
            let path = format!("$['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"));
            format!("  {} : $input.json(\"{path}\")", Value::from(name.as_str()))
        })
        .collect();
    let text = if lines.is_empty() {
        "$input.json('$')".to_owned()
    } else {
        format!("{{\n{}\n}}", lines.join(",\n"))
    };
    Reply::ok(&json!({"value": text}))
}

pub(super) async fn create(plane: &ControlPlane, api_id: &str, body: &Members) -> Outcome {
    let model = plane.write(|state, _| insert(state, api_id, body)).await?;
    Reply::created(&model)
}

/// Adds the model that `body` describes.
pub(crate) fn insert(state: &mut State, api_id: &str, body: &Members) -> Result<Model, ApiError> {
    let sequence = state.sequence();
    let api = state.api_mut(api_id)?;
    if api.models.len() >= limits::MODELS_PER_API {
        return Err(ApiError::too_many("Maximum number of Models for this API has been reached"));
    }
    let model = build(api.fresh_id()?, body, api)?;
    api.models.insert(&model.model_id, sequence, model.clone());
    Ok(model)
}

/// A model as `body` alone describes it.
pub(crate) fn build(model_id: String, body: &Members, api: &ApiState) -> Result<Model, ApiError> {
    body.required_text("name", limits::NAME)?;
    body.required_text("schema", limits::TEMPLATE)?;
    let mut model = Model { model_id, content_type: "application/json".to_owned(), ..Model::default() };
    edit(&mut model, body, api)?;
    Ok(model)
}

pub(super) async fn update(plane: &ControlPlane, api_id: &str, id: &str, body: &Members) -> Outcome {
    let model = plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            let before = api.models.get(id).ok_or_else(|| unknown(id))?;
            let mut model = (**before).clone();
            edit(&mut model, body, api)?;
            if model.name != before.name {
                refuse_if_used(&before.name, api)?;
            }
            if let Some(place) = api.models.get_mut(id) {
                place.clone_from(&model);
            }
            Ok(model)
        })
        .await?;
    Reply::ok(&model)
}

fn edit(model: &mut Model, body: &Members, api: &ApiState) -> Result<(), ApiError> {
    if let Some(name) = body.filled_text("name", limits::NAME)? {
        if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(ApiError::bad_request("Model name must be alphanumeric"));
        }
        if api.models.iter().any(|other| other.name == name && other.model_id != model.model_id) {
            let message = format!("Model with name {name} already exists for this API");
            return Err(ApiError::exists(&name, None, message));
        }
        model.name = name;
    }
    if let Some(content_type) = body.filled_text("contentType", limits::CONTENT_TYPE)? {
        model.content_type = content_type;
    }
    if let Some(schema) = body.filled_text("schema", limits::TEMPLATE)? {
        model.schema = schema;
    }
    if let Some(description) = body.text("description", limits::DESCRIPTION)? {
        model.description = Some(description);
    }
    check_schema(model, api.api.disable_schema_validation == Some(true))
}

/// With `disableSchemaValidation` of the API a schema need only be a JSON object.
fn check_schema(model: &Model, is_lenient: bool) -> Result<(), ApiError> {
    if !model.content_type.to_ascii_lowercase().starts_with("application/json") {
        return Ok(());
    }
    if serde_json::from_str::<serde_json::Map<String, Value>>(&model.schema).is_err() {
        return Err(ApiError::bad_request(
            "Invalid model schema specified: a JSON object in JSON Schema draft-04 is expected",
        ));
    }
    match tidegate_core::model::check(&model.schema) {
        Err(error) if !is_lenient => {
            Err(ApiError::bad_request(format!("Invalid model schema specified: {error}")))
        }
        _ => Ok(()),
    }
}

/// A route names its models by name.
fn refuse_if_used(name: &str, api: &ApiState) -> Result<(), ApiError> {
    let uses = |models: &tidegate_core::definition::Map| models.values().any(|model| model == name);
    match api.routes.iter().find(|route| route.request_models.as_ref().is_some_and(uses)) {
        None => Ok(()),
        Some(route) => {
            Err(ApiError::conflict(format!("Model {name} is used by the route with key {}", route.route_key)))
        }
    }
}

pub(super) async fn delete(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    plane.write(|state, _| remove(state.api_mut(api_id)?, id)).await?;
    Reply::no_content()
}

/// Refused while a route uses it.
pub(crate) fn remove(api: &mut ApiState, id: &str) -> Result<(), ApiError> {
    let model = api.models.get(id).ok_or_else(|| unknown(id))?;
    refuse_if_used(&model.name, api)?;
    api.models.remove(id);
    Ok(())
}
