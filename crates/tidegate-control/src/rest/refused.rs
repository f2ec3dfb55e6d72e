//! Operations of HTTP APIs and portals: present in every SDK, refused here.

use serde_json::json;

use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::plane::ControlPlane;

/// ImportApi, ReimportApi.
pub(super) fn import() -> Outcome {
    Err(ApiError::bad_request("Import is not supported for WebSocket APIs"))
}

/// ExportApi.
pub(super) fn export(plane: &ControlPlane, api_id: &str) -> Outcome {
    plane.state().api(api_id)?;
    Err(ApiError::bad_request("Export is not supported for WebSocket APIs"))
}

/// DeleteCorsConfiguration.
pub(super) fn cors(plane: &ControlPlane, api_id: &str) -> Outcome {
    plane.state().api(api_id)?;
    Err(ApiError::bad_request("CORS is not supported for WebSocket APIs"))
}

/// Create, Put, Get and DeleteRoutingRule; ListRoutingRules answers an empty list.
pub(super) fn routing_rules(plane: &ControlPlane, method: &str, domain_name: &str, rest: &[&str]) -> Outcome {
    plane.state().domain(domain_name)?;
    if method == "GET" && rest.is_empty() {
        return Reply::ok(&json!({"routingRules": []}));
    }
    Err(ApiError::bad_request("Routing rules are not supported"))
}

/// Everything of portals, portal products and their pages.
pub(super) fn portal() -> Outcome {
    Err(ApiError::not_found("Not supported by Tidegate"))
}
