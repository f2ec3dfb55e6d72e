//! CreateAuthorizer, GetAuthorizer, GetAuthorizers, UpdateAuthorizer, DeleteAuthorizer.

use tidegate_core::authorizer::is_http;
use tidegate_core::definition::Authorizer;

use super::{Outcome, Reply};
use crate::error::ApiError;
use crate::limits;
use crate::members::{Members, missing, replace};
use crate::page::{Query, page};
use crate::plane::ControlPlane;
use crate::state::{ApiState, State};

/// Members that only authorizers of HTTP APIs have, with the names that the service's texts give them.
const HTTP_ONLY: [(&str, &str); 4] = [
    ("authorizerResultTtlInSeconds", "AuthorizerResultTtlInSeconds"),
    ("authorizerPayloadFormatVersion", "AuthorizerPayloadFormatVersion"),
    ("enableSimpleResponses", "EnableSimpleResponses"),
    ("jwtConfiguration", "JwtConfiguration"),
];

fn unknown(id: &str) -> ApiError {
    ApiError::unknown("Authorizer", id)
}

pub(super) fn list(plane: &ControlPlane, api_id: &str, query: &Query) -> Outcome {
    let state = plane.state();
    let list = format!("apis/{api_id}/authorizers");
    Reply::ok(&page(&state.api(api_id)?.authorizers, &list, query, |a| (**a).clone())?)
}

pub(super) fn get(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    Reply::ok(plane.state().api(api_id)?.authorizers.get(id).ok_or_else(|| unknown(id))?.as_ref())
}

pub(super) async fn create(plane: &ControlPlane, api_id: &str, body: &Members) -> Outcome {
    let authorizer = plane.write(|state, _| insert(state, api_id, body)).await?;
    Reply::created(&authorizer)
}

/// Adds the authorizer that `body` describes.
pub(crate) fn insert(state: &mut State, api_id: &str, body: &Members) -> Result<Authorizer, ApiError> {
    let sequence = state.sequence();
    let api = state.api_mut(api_id)?;
    if api.authorizers.len() >= limits::AUTHORIZERS_PER_API {
        return Err(ApiError::too_many("Maximum number of Authorizers for this API has been reached"));
    }
    let authorizer = build(api.fresh_id()?, body)?;
    api.authorizers.insert(&authorizer.authorizer_id, sequence, authorizer.clone());
    Ok(authorizer)
}

/// An authorizer as `body` alone describes it.
pub(crate) fn build(authorizer_id: String, body: &Members) -> Result<Authorizer, ApiError> {
    body.required_text("authorizerType", limits::NAME)?;
    body.required_text("name", limits::NAME)?;
    let mut authorizer = Authorizer { authorizer_id, ..Authorizer::default() };
    edit(&mut authorizer, body)?;
    if body.text_list("identitySource")?.is_none() {
        return Err(missing("identitySource"));
    }
    Ok(authorizer)
}

pub(super) async fn update(plane: &ControlPlane, api_id: &str, id: &str, body: &Members) -> Outcome {
    let authorizer = plane
        .write(|state, _| {
            let api = state.api_mut(api_id)?;
            let authorizer = api.authorizers.get_mut(id).ok_or_else(|| unknown(id))?;
            edit(authorizer, body)?;
            Ok(authorizer.clone())
        })
        .await?;
    Reply::ok(&authorizer)
}

fn edit(authorizer: &mut Authorizer, body: &Members) -> Result<(), ApiError> {
    if let Some(kind) = body.filled_text("authorizerType", limits::NAME)? {
        if kind != "REQUEST" {
            return Err(ApiError::bad_request(
                "Invalid authorizer type. Only REQUEST authorizer type is supported on WEBSOCKET protocol Apis.",
            ));
        }
        authorizer.authorizer_type = kind;
    }
    for (member, name) in HTTP_ONLY {
        if body.is_set(member) {
            return Err(ApiError::bad_request(format!("{name} cannot be set for WEBSOCKET protocol Apis.")));
        }
    }
    if let Some(name) = body.filled_text("name", limits::NAME)? {
        authorizer.name = name;
    }
    replace(&mut authorizer.authorizer_uri, body.text("authorizerUri", limits::URI)?);
    let uri = authorizer.authorizer_uri.as_deref().ok_or_else(|| missing("authorizerUri"))?;
    // Beyond the real service an authorizer may be an HTTP address.
    if !uri.starts_with("arn:") && !is_http(uri) {
        return Err(ApiError::bad_request(format!("Invalid Authorizer URI: {uri}")));
    }
    replace(&mut authorizer.authorizer_credentials_arn, body.text("authorizerCredentialsArn", limits::ARN)?);
    if let Some(sources) = body.text_list("identitySource")? {
        for source in sources.iter().flat_map(|list| list.split(',')) {
            check_source(source.trim())?;
        }
        authorizer.identity_source = sources;
    }
    replace(
        &mut authorizer.identity_validation_expression,
        body.text("identityValidationExpression", limits::EXPRESSION)?,
    );
    Ok(())
}

/// An empty source asks for nothing: the authorizer is always called.
fn check_source(source: &str) -> Result<(), ApiError> {
    let name = ["route.request.querystring.", "route.request.header.", "stageVariables.", "context."]
        .iter()
        .find_map(|prefix| source.strip_prefix(prefix));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if source.is_empty() || name.is_some_and(is_name) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "Invalid request identity source expression: {source}. The sources must be separated by comma, and each \
         source must be either a request parameter, matching 'route.request.querystring|header.[a-zA-Z0-9._-]+', or \
         a stage variable, matching 'stageVariables.[a-zA-Z0-9._-]+', or a context parameter, matching \
         'context.[a-zA-Z0-9._-]+'."
    )))
}

pub(super) async fn delete(plane: &ControlPlane, api_id: &str, id: &str) -> Outcome {
    plane.write(|state, _| remove(state.api_mut(api_id)?, id)).await?;
    Reply::no_content()
}

/// Refused while a route uses it.
pub(crate) fn remove(api: &mut ApiState, id: &str) -> Result<(), ApiError> {
    if !api.authorizers.contains(id) {
        return Err(unknown(id));
    }
    if let Some(route) = api.routes.iter().find(|r| r.authorizer_id.as_deref() == Some(id)) {
        return Err(ApiError::conflict(format!(
            "Cannot delete Authorizer {id}: it is used by the route with key {}",
            route.route_key
        )));
    }
    api.authorizers.remove(id);
    api.names.remove(id);
    Ok(())
}
