//! CreateDeployment, GetDeployment, GetDeployments, UpdateDeployment, DeleteDeployment.

use super::{Outcome, Reply};
use crate::deploy::deploy;
use crate::error::ApiError;
use crate::limits;
use crate::members::Members;
use crate::page::{Query, page};
use crate::plane::ControlPlane;

/// As for every other unknown object; also for a deployment that a stage names.
pub(super) fn unknown(id: &str) -> ApiError {
    ApiError::unknown("Deployment", id)
}

pub(super) fn list(plane: &ControlPlane, api_id: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let list = format!("apis/{api_id}/deployments");
    Reply::ok(&page(&state.api(api_id)?.deployments, &list, query, |d| (**d).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    Reply::ok(plane.state().api(api_id)?.deployments.get(id).ok_or_else(|| unknown(id))?.as_ref())
}

/// Freezes the API; with `stageName` the stage points to it at once.
pub(super) async fn create(plane: &ControlPlane, api_id: &str, body: &Members) -> Outcome {
    let deployment = plane
        .write(|state, context| {
            let stage_name = body.text("stageName", limits::NAME)?.filter(|name| !name.is_empty());
            let description = body.text("description", limits::DESCRIPTION)?;
            if let Some(name) = &stage_name {
                state.api_mut(api_id)?.stage_mut(name)?;
            }
            let deployment = deploy(state, api_id, description, false, context)?;
            if let Some(name) = &stage_name {
                let stage = state.api_mut(api_id)?.stage_mut(name)?;
                stage.deployment_id = Some(deployment.deployment_id.clone());
                stage.last_updated_date = context.timestamp();
            }
            Ok(deployment)
        })
        .await?;
    Reply::created(&deployment)
}

/// Only the description can change.
pub(super) async fn update(plane: &ControlPlane, api_id: &str, id: &str, body: &Members) -> Outcome {
    let deployment = plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            let deployment = api.deployments.get_mut(id).ok_or_else(|| unknown(id))?;
            if let Some(description) = body.text("description", limits::DESCRIPTION)? {
                deployment.description = Some(description);
            }
            Ok(deployment.clone())
        })
        .await?;
    Reply::ok(&deployment)
}

/// Refused while a stage points to it.
pub(super) async fn delete(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            if !api.deployments.contains(id) {
                return Err(unknown(id));
            }
            if api.stages.iter().any(|stage| stage.deployment_id.as_deref() == Some(id)) {
                return Err(ApiError::bad_request(
                    "Active stages pointing to this deployment must be moved or deleted",
                ));
            }
            api.deployments.remove(id);
            api.contents.remove(id);
            Ok(())
        })
        .await?;
    Reply::no_content()
}
