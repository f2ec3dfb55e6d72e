//! How far an API is: the seven words of the Django package that provisions APIs, read off the state.

use crate::plane::ControlPlane;
use crate::state::State;

/// How far the API `api_id` is.
///
/// - `pending`: there is no such API.
/// - `creating`: never answered; a change is not seen before it is complete.
/// - `api_created`: it is there.
/// - `routes_created`: it has routes, and each leads to an integration.
/// - `deployed`: a stage serves it.
/// - `domain_created`: and a domain name waits for its first mapping.
/// - `mapped`: a mapping leads to a stage that serves it.
pub fn provisioning(plane: &ControlPlane, api_id: &str) -> &'static str {
    of(&plane.state(), api_id)
}

pub(super) fn of(state: &State, api_id: &str) -> &'static str {
    let Some(api) = state.apis.get(api_id) else { return "pending" };
    let is_deployed = |name: &str| api.stages.get(name).is_some_and(|stage| stage.deployment_id.is_some());
    if state.domains.iter().any(|d| d.mappings.iter().any(|m| m.api_id == api_id && is_deployed(&m.stage))) {
        return "mapped";
    }
    if api.stages.iter().any(|stage| stage.deployment_id.is_some()) {
        let has_waiting = state.domains.iter().any(|d| d.mappings.is_empty());
        return if has_waiting { "domain_created" } else { "deployed" };
    }
    match !api.routes.is_empty() && api.routes.iter().all(|route| route.target.is_some()) {
        true => "routes_created",
        false => "api_created",
    }
}
