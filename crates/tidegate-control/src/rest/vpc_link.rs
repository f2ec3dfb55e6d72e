//! CreateVpcLink, GetVpcLink, GetVpcLinks, UpdateVpcLink, DeleteVpcLink.
//!
//! A link is kept and shown; what an integration reaches through it is called directly.

use http::StatusCode;
use serde_json::json;
use tidegate_core::definition::VpcLink;

use super::{Outcome, Reply, tag};
use crate::error::ApiError;
use crate::members::{Members, missing};
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
use crate::state::State;
use crate::{id, limits};

fn unknown(id: &str) -> ApiError {
    ApiError::unknown("VpcLink", id)
}

pub(super) fn list(plane: &ControlPlane, query: &Query) -> Outcome {
    Reply::ok(&page(&plane.state().vpc_links, "vpclinks", query, |link| (**link).clone())?)
}

pub(super) fn get(plane: &ControlPlane, id: &str) -> Outcome {
    Reply::ok(plane.state().vpc_links.get(id).ok_or_else(|| unknown(id))?.as_ref())
}

pub(super) async fn create(plane: &ControlPlane, body: &Members) -> Outcome {
    let link = plane.write(|state, context| insert(state, None, body, context)).await?;
    Reply::created(&link)
}

/// Adds the link that `body` describes, with the chosen id if there is one; it must be free.
pub(crate) fn insert(
    state: &mut State,
    chosen_id: Option<&str>,
    body: &Members,
    context: &Context<'_>,
) -> Result<VpcLink, ApiError> {
    let id = match chosen_id {
        None => id::fresh(id::LONG, |id| state.vpc_links.contains(id))?,
        Some(id) if !id::is_api_id(id) => {
            return Err(ApiError::bad_request(format!(
                "Invalid VpcLink identifier specified {id}: must be a lower-case DNS label of at most {} characters",
                limits::API_ID
            )));
        }
        Some(id) => id.to_owned(),
    };
    let link = build(id, body, context)?;
    let sequence = state.sequence();
    state.vpc_links.insert(&link.vpc_link_id, sequence, link.clone());
    Ok(link)
}

/// A link as `body` alone describes it.
pub(crate) fn build(vpc_link_id: String, body: &Members, context: &Context<'_>) -> Result<VpcLink, ApiError> {
    Ok(VpcLink {
        name: body.required_text("name", limits::NAME)?,
        subnet_ids: body.text_list("subnetIds")?.ok_or_else(|| missing("subnetIds"))?,
        security_group_ids: body.text_list("securityGroupIds")?.unwrap_or_default(),
        tags: tag::given(body)?,
        created_date: context.timestamp(),
        vpc_link_status: "AVAILABLE".to_owned(),
        vpc_link_version: "V2".to_owned(),
        vpc_link_id,
    })
}

/// Only the name can change.
pub(super) async fn update(plane: &ControlPlane, id: &str, body: &Members) -> Outcome {
    let link = plane
        .write(|state, _| {
            let link = state.vpc_links.get_mut(id).ok_or_else(|| unknown(id))?;
            if let Some(name) = body.filled_text("name", limits::NAME)? {
                link.name = name;
            }
            Ok(link.clone())
        })
        .await?;
    Reply::ok(&link)
}

/// Refused while an integration names it.
pub(super) async fn delete(plane: &ControlPlane, id: &str) -> Outcome {
    plane
        .write(|state, _| {
            if !state.vpc_links.contains(id) {
                return Err(unknown(id));
            }
            let uses = |api: &&std::sync::Arc<crate::state::ApiState>| {
                api.integrations.iter().any(|i| i.connection_id.as_deref() == Some(id))
            };
            if let Some(api) = state.apis.iter().find(uses) {
                return Err(ApiError::conflict(format!(
                    "Cannot delete VpcLink {id}: it is used by an integration of the API {}",
                    api.api.api_id
                )));
            }
            state.vpc_links.remove(id);
            Ok(())
        })
        .await?;
    Reply::json(StatusCode::ACCEPTED, &json!({}))
}
