//! GetTags, TagResource, UntagResource, and the tags given when a resource is created.

use http::StatusCode;
use serde_json::json;
use tidegate_core::definition::Map;

use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::limits;
use crate::members::{Members, check_length, missing};
use crate::page::Query;
use crate::plane::ControlPlane;
use crate::state::State;

/// The member `tags` of a create operation; absent is empty.
pub(super) fn given(body: &Members) -> Result<Map, ApiError> {
    let tags = body.text_map("tags")?.unwrap_or_default();
    check(&tags)?;
    Ok(tags)
}

fn check(tags: &Map) -> Result<(), ApiError> {
    if tags.len() > limits::TAGS_PER_RESOURCE {
        return Err(ApiError::bad_request(format!(
            "A resource can have at most {} tags",
            limits::TAGS_PER_RESOURCE
        )));
    }
    for (key, value) in tags {
        if key.is_empty() {
            return Err(ApiError::bad_request("Invalid value for tags: a key must not be empty"));
        }
        if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            return Err(ApiError::bad_request("Invalid value for tags: the prefix aws: is reserved"));
        }
        check_length("tags", key, limits::TAG_KEY)?;
        check_length("tags", value, limits::TAG_VALUE)?;
    }
    Ok(())
}

/// What an ARN names.
enum Resource<'a> {
    Api(&'a str),
    Stage(&'a str, &'a str),
    DomainName(&'a str),
    VpcLink(&'a str),
}

/// Reads `arn:{partition}:apigateway:{region}:[account]:/apis/{id}` and the like.
fn resource(arn: &str) -> Result<Resource<'_>, ApiError> {
    let invalid = || ApiError::bad_request(format!("Invalid resource ARN specified: {arn}"));
    let mut parts = arn.splitn(6, ':');
    let head = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
    let (Some("arn"), Some(_), Some("apigateway"), Some(_), Some(_)) = head else { return Err(invalid()) };
    let path: Vec<&str> = parts.next().ok_or_else(invalid)?.split('/').collect();
    match path.as_slice() {
        ["", "apis", api] => Ok(Resource::Api(api)),
        ["", "apis", api, "stages", stage] => Ok(Resource::Stage(api, stage)),
        ["", "domainnames", name] => Ok(Resource::DomainName(name)),
        ["", "vpclinks", id] => Ok(Resource::VpcLink(id)),
        _ => Err(invalid()),
    }
}

fn tags_mut<'s>(state: &'s mut State, resource: &Resource<'_>) -> Result<&'s mut Map, ApiError> {
    match *resource {
        Resource::Api(api) => Ok(&mut state.api_mut(api)?.api.tags),
        Resource::Stage(api, stage) => Ok(&mut state.api_mut(api)?.stage_mut(stage)?.tags),
        Resource::DomainName(name) => Ok(&mut state.domain_mut(name)?.domain.tags),
        Resource::VpcLink(id) => {
            let link = state.vpc_links.get_mut(id).ok_or_else(|| ApiError::unknown("VpcLink", id))?;
            Ok(&mut link.tags)
        }
    }
}

pub(super) fn list(plane: &ControlPlane, arn: &str) -> Outcome {
    let state = plane.state();
    let tags = match resource(arn)? {
        Resource::Api(api) => &state.api(api)?.api.tags,
        Resource::Stage(api, stage) => {
            &state.api(api)?.stages.get(stage).ok_or_else(ApiError::unknown_stage)?.tags
        }
        Resource::DomainName(name) => &state.domain(name)?.domain.tags,
        Resource::VpcLink(id) => {
            &state.vpc_links.get(id).ok_or_else(|| ApiError::unknown("VpcLink", id))?.tags
        }
    };
    Reply::ok(&json!({"tags": tags}))
}

pub(super) async fn add(plane: &ControlPlane, arn: &str, body: &Members) -> Outcome {
    plane
        .write(|state, _| {
            let tags = tags_mut(state, &resource(arn)?)?;
            let new = body.text_map("tags")?.ok_or_else(|| missing("tags"))?;
            tags.extend(new);
            check(tags)
        })
        .await?;
    Reply::json(StatusCode::CREATED, &json!({}))
}

pub(super) async fn remove(plane: &ControlPlane, arn: &str, query: &Query) -> Outcome {
    plane
        .write(|state, _| {
            let tags = tags_mut(state, &resource(arn)?)?;
            let keys: Vec<&str> =
                query.iter().filter(|(name, _)| name == "tagKeys").map(|(_, key)| key.as_str()).collect();
            if keys.is_empty() {
                return Err(missing("tagKeys"));
            }
            for key in keys {
                tags.remove(key);
            }
            Ok(())
        })
        .await?;
    Reply::no_content()
}
