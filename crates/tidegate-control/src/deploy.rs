//! Freezing an API into a deployment, and what is live of it.

use std::sync::Arc;

use tidegate_core::definition::{Api, ApiDefinition, Deployment, LiveApi, LiveStage};

use crate::error::ApiError;
use crate::limits;
use crate::plane::Context;
use crate::state::{ApiState, State};

/// Freezes the API as it is now into a new deployment that no stage points to yet.
///
/// # Errors
/// 400 when the API has no routes or too many deployments.
pub(crate) fn deploy(
    state: &mut State,
    api_id: &str,
    description: Option<String>,
    auto_deployed: bool,
    context: &Context<'_>,
) -> Result<Deployment, ApiError> {
    let sequence = state.sequence();
    let content_sequence = state.sequence();
    let api = state.api_mut(api_id)?;
    if api.routes.is_empty() {
        return Err(ApiError::bad_request("At least one route is required before deploying the Api."));
    }
    if !auto_deployed && api.deployments.len() >= limits::DEPLOYMENTS_PER_API {
        return Err(ApiError::too_many("Maximum number of deployments for this API has been reached"));
    }
    let deployment = Deployment {
        deployment_id: api.fresh_id()?,
        created_date: context.timestamp(),
        deployment_status: "DEPLOYED".to_owned(),
        description,
        auto_deployed,
    };
    // Deploying again without a change is common: such deployments share one value in memory.
    let latest = api.deployments.iter().next_back().and_then(|d| api.contents.get(&d.deployment_id));
    let frozen = freeze(api);
    let frozen = match latest {
        Some((_, content)) if **content == frozen => Arc::clone(content),
        _ => Arc::new(frozen),
    };
    let content = (content_sequence, frozen);
    api.contents.insert(deployment.deployment_id.clone(), content);
    api.deployments.insert(&deployment.deployment_id, sequence, deployment.clone());
    Ok(deployment)
}

/// Everything of an API that a deployment keeps.
pub(crate) fn freeze(api: &ApiState) -> ApiDefinition {
    ApiDefinition {
        api: api.api.clone(),
        routes: api.routes.iter().map(|r| (**r).clone()).collect(),
        route_responses: api
            .route_responses
            .iter()
            .filter(|(_, table)| !table.is_empty())
            .map(|(id, table)| (id.clone(), table.iter().map(|r| (**r).clone()).collect()))
            .collect(),
        integrations: api.integrations.iter().map(|i| (**i).clone()).collect(),
        integration_responses: api
            .integration_responses
            .iter()
            .filter(|(_, table)| !table.is_empty())
            .map(|(id, table)| (id.clone(), table.iter().map(|r| (**r).clone()).collect()))
            .collect(),
        models: api.models.iter().map(|m| (**m).clone()).collect(),
        authorizers: api.authorizers.iter().map(|a| (**a).clone()).collect(),
    }
}

/// Deploys every API whose frozen part differs from `old` to its stages with `autoDeploy`. Changes within
/// [`limits::AUTO_DEPLOY_WINDOW`] of the first share its deployment.
///
/// # Errors
/// As [`deploy`], except that an API without routes is left alone.
pub(crate) fn auto_deploy(old: &State, new: &mut State, context: &Context<'_>) -> Result<(), ApiError> {
    for api_id in new.apis.ids() {
        let (Some(api), before) = (new.apis.get(&api_id), old.apis.get(&api_id)) else { continue };
        if before.is_some_and(|b| Arc::ptr_eq(b, api)) || api.routes.is_empty() {
            continue;
        }
        let is_changed = before.is_none_or(|b| !is_same_definition(b, api));
        let stages: Vec<String> = api
            .stages
            .iter()
            .filter(|stage| {
                let was_auto = before
                    .and_then(|b| b.stages.get(&stage.stage_name))
                    .is_some_and(|s| s.auto_deploy && s.deployment_id.is_some());
                stage.auto_deploy && (is_changed || !was_auto)
            })
            .map(|stage| stage.stage_name.clone())
            .collect();
        if stages.is_empty() {
            continue;
        }
        let shared = shared_deployment(api, &stages, context);
        let deployment_id = match shared {
            Some(id) => {
                let api = new.api_mut(&api_id)?;
                let frozen = Arc::new(freeze(api));
                if let Some((_, content)) = api.contents.get_mut(&id) {
                    *content = frozen;
                }
                id
            }
            None => {
                let id = deploy(new, &api_id, None, true, context)?.deployment_id;
                new.api_mut(&api_id)?.auto_deployed = Some((id.clone(), context.now));
                id
            }
        };
        let api = new.api_mut(&api_id)?;
        for name in stages {
            let stage = api.stage_mut(&name)?;
            stage.deployment_id = Some(deployment_id.clone());
            stage.last_updated_date = context.timestamp();
            stage.last_deployment_status_message =
                Some(format!("Successfully deployed stage with deployment ID '{deployment_id}'"));
        }
        forget_old_auto_deployments(api);
    }
    Ok(())
}

/// The deployment of a moment ago, if nobody but `stages` points to it: changes that follow each other closely share one.
fn shared_deployment(api: &ApiState, stages: &[String], context: &Context<'_>) -> Option<String> {
    let (id, at) = api.auto_deployed.as_ref()?;
    let age = context.now.duration_since(*at);
    let is_recent = !age.is_negative() && age.unsigned_abs() < limits::AUTO_DEPLOY_WINDOW;
    let is_of_others = api
        .stages
        .iter()
        .any(|stage| stage.deployment_id.as_ref() == Some(id) && !stages.contains(&stage.stage_name));
    (is_recent && !is_of_others && api.deployments.contains(id)).then(|| id.clone())
}

/// Whether `api` has changed since `content` was frozen, in anything that needs a deployment.
pub(crate) fn is_behind(content: &ApiDefinition, api: &ApiState) -> bool {
    let mut now = freeze(api);
    let then = &content.api;
    // Everything else of the API is live without a deployment.
    now.api = Api {
        route_selection_expression: now.api.route_selection_expression,
        api_key_selection_expression: now.api.api_key_selection_expression,
        disable_execute_api_endpoint: now.api.disable_execute_api_endpoint,
        disable_schema_validation: now.api.disable_schema_validation,
        ..then.clone()
    };
    now != *content
}

/// Whether everything that a deployment freezes, and that matters after freezing, is equal.
fn is_same_definition(a: &ApiState, b: &ApiState) -> bool {
    a.api.route_selection_expression == b.api.route_selection_expression
        && a.api.api_key_selection_expression == b.api.api_key_selection_expression
        && a.api.disable_execute_api_endpoint == b.api.disable_execute_api_endpoint
        && a.api.disable_schema_validation == b.api.disable_schema_validation
        && a.routes.is_same(&b.routes)
        && a.integrations.is_same(&b.integrations)
        && a.models.is_same(&b.models)
        && a.authorizers.is_same(&b.authorizers)
        && is_same_children(&a.route_responses, &b.route_responses)
        && is_same_children(&a.integration_responses, &b.integration_responses)
}

fn is_same_children<T: Clone + PartialEq>(
    a: &std::collections::BTreeMap<String, crate::table::Table<T>>,
    b: &std::collections::BTreeMap<String, crate::table::Table<T>>,
) -> bool {
    a.len() == b.len() && a.iter().all(|(owner, table)| b.get(owner).is_some_and(|t| t.is_same(table)))
}

/// Each change of an API with `autoDeploy` makes a deployment: only the latest are kept.
fn forget_old_auto_deployments(api: &mut ApiState) {
    let is_used = |id: &str| api.stages.iter().any(|s| s.deployment_id.as_deref() == Some(id));
    let surplus: Vec<String> = api
        .deployments
        .iter()
        .rev()
        .filter(|d| d.auto_deployed && !is_used(&d.deployment_id))
        .skip(limits::AUTO_DEPLOYMENTS_KEPT)
        .map(|d| d.deployment_id.clone())
        .collect();
    for id in surplus {
        api.deployments.remove(&id);
        api.contents.remove(&id);
    }
}

impl ApiState {
    /// Derives [`ApiState::live`] from the API, its stages and their deployments.
    pub(crate) fn refresh_live(&mut self) {
        let stages = self
            .stages
            .iter()
            .map(|stage| LiveStage {
                stage: (**stage).clone(),
                deployment: stage
                    .deployment_id
                    .as_ref()
                    .and_then(|id| self.contents.get(id))
                    .map(|(_, content)| Arc::clone(content)),
                policy: self.policies.get(&stage.stage_name).map(|(_, policy)| Arc::clone(policy)),
            })
            .collect();
        self.live = Arc::new(LiveApi { api: self.api.clone(), stages });
    }
}

/// Renews what is live of each changed API; whether anything differs from `old` for the data plane.
pub(crate) fn refresh(old: &State, new: &mut State) -> bool {
    let mut is_changed = old.apis.len() != new.apis.len() || !is_same_domains(old, new);
    for api_id in new.apis.ids() {
        let Some(api) = new.apis.get(&api_id) else { continue };
        let is_same = old.apis.get(&api_id).is_some_and(|before| {
            Arc::ptr_eq(before, api)
                || (before.api == api.api
                    && before.stages.is_same(&api.stages)
                    && is_same_live_content(before, api)
                    && is_same_policies(before, api))
        });
        if !is_same {
            is_changed = true;
            if let Some(api) = new.apis.get_mut(&api_id) {
                api.refresh_live();
            }
        }
    }
    is_changed
}

/// Whether the stages of both, which are the same, show the same content.
fn is_same_live_content(a: &ApiState, b: &ApiState) -> bool {
    b.stages.iter().filter_map(|stage| stage.deployment_id.as_deref()).all(|id| is_same_content(a, b, id))
}

/// Whether both have the same content of a deployment.
pub(crate) fn is_same_content(a: &ApiState, b: &ApiState, deployment_id: &str) -> bool {
    match (a.contents.get(deployment_id), b.contents.get(deployment_id)) {
        (Some((_, a)), Some((_, b))) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn is_same_policies(a: &ApiState, b: &ApiState) -> bool {
    a.policies.len() == b.policies.len()
        && a.policies.iter().all(|(stage, (_, policy))| {
            b.policies.get(stage).is_some_and(|(_, other)| Arc::ptr_eq(policy, other))
        })
}

fn is_same_domains(old: &State, new: &State) -> bool {
    old.domains.len() == new.domains.len()
        && new.domains.rows().all(|(sequence, domain)| {
            old.domains.at(sequence).is_some_and(|before| {
                Arc::ptr_eq(before, domain)
                    || (before.domain == domain.domain && before.mappings.is_same(&domain.mappings))
            })
        })
}
