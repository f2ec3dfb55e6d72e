//! CreateStage, GetStage, GetStages, UpdateStage, DeleteStage, DeleteAccessLogSettings, DeleteRouteSettings,
//! ResetAuthorizersCache.
//!
//! Everything of a stage is live at once, the deployment that it points to included: that is how to deploy and how to
//! go back.

use tidegate_core::access_log::{Format, FormatError};
use tidegate_core::definition::{AccessLogSettings, Map, RouteSettings, Stage};

use super::{Outcome, Reply, deployment, tag};
use crate::error::ApiError;
use crate::limits;
use crate::members::{Members, check_length, merge_map, replace};
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
use crate::state::{ApiState, State};

pub(super) fn list(plane: &ControlPlane, api_id: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let list = format!("apis/{api_id}/stages");
    Reply::ok(&page(&state.api(api_id)?.stages, &list, query, |stage| (**stage).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, name: &str) -> Outcome {
    Reply::ok(find(plane, api_id, name)?.as_ref())
}

fn find(plane: &ControlPlane, api_id: &str, name: &str) -> Result<std::sync::Arc<Stage>, ApiError> {
    plane.state().api(api_id)?.stages.get(name).cloned().ok_or_else(ApiError::unknown_stage)
}

pub(super) async fn create(plane: &ControlPlane, api_id: &str, body: &Members) -> Outcome {
    let created = plane.write(|state, context| insert(state, api_id, body, context)).await?;
    // Read again, because with `autoDeploy` the write has also deployed.
    let stored = find(plane, api_id, &created.stage_name);
    Reply::created(stored.as_deref().unwrap_or(&created))
}

/// Adds the stage that `body` describes.
pub(crate) fn insert(
    state: &mut State,
    api_id: &str,
    body: &Members,
    context: &Context<'_>,
) -> Result<Stage, ApiError> {
    let sequence = state.sequence();
    let api = state.api_mut(api_id)?;
    let stage = build(body, api, context)?;
    if let Some(known) = api.stages.get(&stage.stage_name) {
        let created = Some(known.created_date.as_str());
        return Err(ApiError::exists(&stage.stage_name, created, "Stage already exists"));
    }
    if api.stages.len() >= context.quotas().stages_per_api {
        return Err(ApiError::too_many("Maximum number of Stages for this API has been reached"));
    }
    api.stages.insert(&stage.stage_name, sequence, stage.clone());
    Ok(stage)
}

/// A stage as `body` alone describes it.
pub(crate) fn build(body: &Members, api: &ApiState, context: &Context<'_>) -> Result<Stage, ApiError> {
    let name = body.required_text("stageName", limits::NAME)?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err(ApiError::bad_request(
            "Stage name only allows a-zA-Z0-9_- characters on WEBSOCKET protocol Apis.",
        ));
    }
    let mut stage = Stage {
        stage_name: name,
        default_route_settings: RouteSettings {
            data_trace_enabled: Some(false),
            detailed_metrics_enabled: Some(false),
            logging_level: Some("OFF".to_owned()),
            ..RouteSettings::default()
        },
        tags: tag::given(body)?,
        created_date: context.timestamp(),
        ..Stage::default()
    };
    edit(&mut stage, body, api, context)?;
    Ok(stage)
}

pub(super) async fn update(plane: &ControlPlane, api_id: &str, name: &str, body: &Members) -> Outcome {
    let updated = plane
        .write(|state, context| {
            let api = state.api_mut(api_id)?;
            let mut stage = (**api.stages.get(name).ok_or_else(ApiError::unknown_stage)?).clone();
            edit(&mut stage, body, api, context)?;
            let place = api.stage_mut(name)?;
            place.clone_from(&stage);
            Ok(stage)
        })
        .await?;
    let stored = find(plane, api_id, name);
    Reply::ok(stored.as_deref().unwrap_or(&updated))
}

/// What creating and updating have in common.
fn edit(stage: &mut Stage, body: &Members, api: &ApiState, context: &Context<'_>) -> Result<(), ApiError> {
    if let Some(flag) = body.flag("autoDeploy")? {
        stage.auto_deploy = flag;
    }
    if let Some(id) = body.text("deploymentId", limits::NAME)? {
        if stage.auto_deploy && !id.is_empty() {
            return Err(ApiError::bad_request(format!(
                "Deployment ID cannot be set on stage '{}' because Auto Deploy is enabled",
                stage.stage_name
            )));
        }
        if !id.is_empty() && !api.deployments.contains(&id) {
            return Err(deployment::unknown(&id));
        }
        replace(&mut stage.deployment_id, Some(id));
    }
    if let Some(variables) = body.text_map("stageVariables")? {
        check_variables(&variables)?;
        merge_map(&mut stage.stage_variables, variables);
        if stage.stage_variables.len() > limits::STAGE_VARIABLES {
            return Err(ApiError::bad_request(format!(
                "Invalid value for stageVariables: at most {} variables are permitted",
                limits::STAGE_VARIABLES
            )));
        }
    }
    if let Some(settings) = body.object("defaultRouteSettings")? {
        edit_route_settings(&mut stage.default_route_settings, &settings)?;
    }
    for (key, settings) in body.objects("routeSettings")?.unwrap_or_default() {
        check_length("routeSettings", &key, limits::ROUTE_KEY)?;
        edit_route_settings(stage.route_settings.entry(key).or_default(), &settings)?;
    }
    if stage.route_settings.len() > limits::ROUTE_SETTINGS {
        return Err(ApiError::bad_request("Invalid value for routeSettings: too many entries"));
    }
    if let Some(settings) = body.object("accessLogSettings")? {
        edit_access_log(stage, &settings)?;
    }
    replace(&mut stage.client_certificate_id, body.text("clientCertificateId", limits::NAME)?);
    if let Some(description) = body.text("description", limits::DESCRIPTION)? {
        stage.description = Some(description);
    }
    stage.last_updated_date = context.timestamp();
    Ok(())
}

fn check_variables(variables: &Map) -> Result<(), ApiError> {
    for (name, value) in variables {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err(ApiError::bad_request(format!(
                "Stage variable names may only contain alphanumeric characters and underscores: {name}"
            )));
        }
        check_length("stageVariables", name, limits::STAGE_VARIABLE_NAME)?;
        check_length("stageVariables", value, limits::STAGE_VARIABLE_VALUE)?;
        if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#&=,".contains(&b)) {
            return Err(ApiError::bad_request(format!(
                "Stage variable value for {name} must match [A-Za-z0-9-._~:/?#&=,]+"
            )));
        }
    }
    Ok(())
}

fn edit_route_settings(settings: &mut RouteSettings, body: &Members) -> Result<(), ApiError> {
    if let Some(flag) = body.flag("dataTraceEnabled")? {
        settings.data_trace_enabled = Some(flag);
    }
    if let Some(flag) = body.flag("detailedMetricsEnabled")? {
        settings.detailed_metrics_enabled = Some(flag);
    }
    if let Some(level) = body.choice("loggingLevel", &["INFO", "ERROR", "OFF"])? {
        replace(&mut settings.logging_level, Some(level));
    }
    if let Some(burst) = body.integer("throttlingBurstLimit")? {
        let burst = u32::try_from(burst).map_err(|_| {
            ApiError::bad_request(
                "Invalid value for throttlingBurstLimit: must be a number from 0 to 4294967295",
            )
        })?;
        settings.throttling_burst_limit = Some(burst);
    }
    if let Some(rate) = body.rate("throttlingRateLimit")? {
        settings.throttling_rate_limit = Some(rate);
    }
    Ok(())
}

/// An empty object removes the settings: that is how Terraform's provider takes them away.
fn edit_access_log(stage: &mut Stage, body: &Members) -> Result<(), ApiError> {
    let mut settings = stage.access_log_settings.take().unwrap_or_default();
    if body.raw("destinationArn").is_none() && body.raw("format").is_none() {
        return Ok(());
    }
    replace(&mut settings.destination_arn, body.text("destinationArn", limits::ARN)?);
    replace(&mut settings.format, body.text("format", limits::ACCESS_LOG_FORMAT)?);
    match (&settings.destination_arn, &settings.format) {
        (None, None) => return Ok(()),
        (Some(_), Some(format)) => {
            Format::parse(format).map_err(|error| ApiError::bad_request(error.to_string()))?;
        }
        _ => {
            return Err(ApiError::bad_request(FormatError::Missing.to_string()));
        }
    }
    stage.access_log_settings = Some(AccessLogSettings { ..settings });
    Ok(())
}

pub(super) async fn delete(plane: &ControlPlane, api_id: &str, name: &str) -> Outcome {
    plane.write(|state, _| remove(state, api_id, name)).await?;
    Reply::no_content()
}

/// Removes the stage with its policy. Refused while a domain name maps to it.
pub(crate) fn remove(state: &mut State, api_id: &str, name: &str) -> Result<(), ApiError> {
    state.api_mut(api_id)?.stage_mut(name)?;
    let maps_here = |d: &&std::sync::Arc<crate::state::DomainState>| {
        d.mappings.iter().any(|m| m.api_id == api_id && m.stage == name)
    };
    if let Some(domain) = state.domains.iter().find(maps_here) {
        return Err(ApiError::bad_request(format!(
            "Stage {name} is mapped by the domain name {} and cannot be deleted",
            domain.domain.domain_name
        )));
    }
    let api = state.api_mut(api_id)?;
    api.stages.remove(name);
    api.policies.remove(name);
    Ok(())
}

pub(super) async fn delete_access_log_settings(plane: &ControlPlane, api_id: &str, name: &str) -> Outcome {
    plane
        .write(|state, context| {
            let stage = state.api_mut(api_id)?.stage_mut(name)?;
            if stage.access_log_settings.take().is_some() {
                stage.last_updated_date = context.timestamp();
            }
            Ok(())
        })
        .await?;
    Reply::no_content()
}

pub(super) async fn delete_route_settings(
    plane: &ControlPlane,
    api_id: &str,
    name: &str,
    route_key: &str,
) -> Outcome {
    plane
        .write(|state, context| {
            let stage = state.api_mut(api_id)?.stage_mut(name)?;
            if stage.route_settings.remove(route_key).is_none() {
                return Err(ApiError::not_found(format!("Unable to find RouteSettings by key {route_key}")));
            }
            stage.last_updated_date = context.timestamp();
            Ok(())
        })
        .await?;
    Reply::no_content()
}

/// Nothing is cached for WebSocket APIs, so there is nothing to forget.
pub(super) fn reset_authorizers_cache(plane: &ControlPlane, api_id: &str, name: &str) -> Outcome {
    find(plane, api_id, name)?;
    Reply::no_content()
}
