//! CreateAuthorizer, GetAuthorizer, GetAuthorizers, UpdateAuthorizer, DeleteAuthorizer.

use tidegate_core::authorizer::is_http;
use tidegate_core::definition::Authorizer;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::snapshot::FunctionUri;

use super::{Outcome, Reply, integration};
use crate::error::ApiError;
use crate::limits;
use crate::members::{Members, missing, replace};
use crate::page::{Query, page};
use crate::plane::{Context, ControlPlane};
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
    let authorizer = plane.write(|state, context| insert(state, api_id, body, context)).await?;
    Reply::created(&authorizer)
}

/// Adds the authorizer that `body` describes.
pub(crate) fn insert(
    state: &mut State,
    api_id: &str,
    body: &Members,
    context: &Context<'_>,
) -> Result<Authorizer, ApiError> {
    let sequence = state.sequence();
    let api = state.api_mut(api_id)?;
    if api.authorizers.len() >= context.quotas().authorizers_per_api {
        return Err(ApiError::too_many("Maximum number of Authorizers for this API has been reached"));
    }
    let authorizer = build(api.fresh_id()?, body, context)?;
    api.authorizers.insert(&authorizer.authorizer_id, sequence, authorizer.clone());
    Ok(authorizer)
}

/// An authorizer as `body` alone describes it.
pub(crate) fn build(
    authorizer_id: String,
    body: &Members,
    context: &Context<'_>,
) -> Result<Authorizer, ApiError> {
    body.required_text("authorizerType", limits::NAME)?;
    body.required_text("name", limits::NAME)?;
    let mut authorizer = Authorizer { authorizer_id, ..Authorizer::default() };
    edit(&mut authorizer, body, context)?;
    if body.text_list("identitySource")?.is_none() {
        return Err(missing("identitySource"));
    }
    Ok(authorizer)
}

pub(super) async fn update(plane: &ControlPlane, api_id: &str, id: &str, body: &Members) -> Outcome {
    let authorizer = plane
        .write(|state, context| {
            let api = state.api_mut(api_id)?;
            let before = api.authorizers.get(id).ok_or_else(|| unknown(id))?;
            let mut authorizer = (**before).clone();
            edit(&mut authorizer, body, context)?;
            let is_used = api.routes.iter().any(|route| route.authorizer_id.as_deref() == Some(id));
            if is_used && authorizer.authorizer_type != before.authorizer_type {
                return Err(ApiError::conflict(format!(
                    "Cannot change the type of Authorizer {id}: a route uses it"
                )));
            }
            if let Some(place) = api.authorizers.get_mut(id) {
                place.clone_from(&authorizer);
            }
            Ok(authorizer)
        })
        .await?;
    Reply::ok(&authorizer)
}

fn edit(authorizer: &mut Authorizer, body: &Members, context: &Context<'_>) -> Result<(), ApiError> {
    if let Some(kind) = body.filled_text("authorizerType", limits::NAME)? {
        if kind != "REQUEST" && !(kind == "JWT" && context.settings.allow_jwt_authorizer) {
            return Err(ApiError::bad_request(
                "Invalid authorizer type. Only REQUEST authorizer type is supported on WEBSOCKET protocol Apis.",
            ));
        }
        authorizer.authorizer_type = kind;
    }
    let is_jwt = authorizer.authorizer_type == "JWT";
    for (member, name) in HTTP_ONLY {
        if body.is_set(member) && !(is_jwt && member == "jwtConfiguration") {
            return Err(ApiError::bad_request(format!("{name} cannot be set for WEBSOCKET protocol Apis.")));
        }
    }
    if let Some(name) = body.filled_text("name", limits::NAME)? {
        authorizer.name = name;
    }
    replace(&mut authorizer.authorizer_uri, body.text("authorizerUri", limits::URI)?);
    match is_jwt {
        true => edit_jwt(authorizer, body)?,
        false => {
            authorizer.jwt_configuration = None;
            let uri = authorizer.authorizer_uri.as_deref().ok_or_else(|| missing("authorizerUri"))?;
            check_uri(uri, context)?;
        }
    }
    replace(&mut authorizer.authorizer_credentials_arn, body.text("authorizerCredentialsArn", limits::ARN)?);
    if let Some(sources) = body.text_list("identitySource")? {
        for source in sources.iter().flat_map(|list| list.split(',')) {
            check_source(source.trim(), is_jwt)?;
        }
        authorizer.identity_source = sources;
    }
    // Without one nobody knows where the token is.
    if is_jwt && authorizer.identity_source.iter().all(|list| list.split(',').all(|s| s.trim().is_empty())) {
        return Err(missing("identitySource"));
    }
    replace(
        &mut authorizer.identity_validation_expression,
        body.text("identityValidationExpression", limits::EXPRESSION)?,
    );
    Ok(())
}

/// A Lambda function, or the address of a service that is asked in the same form.
fn check_uri(uri: &str, context: &Context<'_>) -> Result<(), ApiError> {
    let invalid = |why: String| {
        let facts = Facts::none().with("detail", why).with("length", uri.len());
        ApiError::bad_request(format!(
            "Invalid Authorizer URI: {uri}. Authorizer URI should be a valid API Gateway ARN that represents a Lambda \
             function invocation."
        ))
        .because(Diagnosis::PROVISION_INVALID_TARGET, facts)
    };
    if is_http(uri) {
        return integration::uri::check("HTTP", uri, &context.settings.allow_integration_hosts);
    }
    if !uri.starts_with("arn:") {
        return Err(invalid("neither the ARN of a function's invocation nor an address".to_owned()));
    }
    FunctionUri::parse(uri).map(drop).map_err(|error| invalid(error.to_string()))
}

/// An issuer whose keys are looked up, and whom its tokens must be for. Only with a setting of Tidegate.
fn edit_jwt(authorizer: &mut Authorizer, body: &Members) -> Result<(), ApiError> {
    if authorizer.authorizer_uri.is_some() {
        return Err(ApiError::bad_request("AuthorizerUri cannot be set for authorizers of type JWT."));
    }
    if let Some(given) = body.object("jwtConfiguration")? {
        let configuration = authorizer.jwt_configuration.get_or_insert_default();
        replace(&mut configuration.issuer, given.text("issuer", limits::URI)?);
        if let Some(audience) = given.text_list("audience")? {
            configuration.audience = audience;
        }
    }
    let configuration = authorizer.jwt_configuration.as_ref().ok_or_else(|| missing("jwtConfiguration"))?;
    let issuer = configuration.issuer.as_deref().ok_or_else(|| missing("jwtConfiguration.issuer"))?;
    if !issuer.starts_with("https://") && !issuer.starts_with("http://") {
        return Err(ApiError::bad_request(format!("Invalid issuer: {issuer}. Issuer must be a valid URL")));
    }
    if configuration.audience.iter().all(String::is_empty) {
        return Err(missing("jwtConfiguration.audience"));
    }
    Ok(())
}

/// An empty source asks for nothing: the authorizer is always called. With `JWT`, sources may be written as those of
/// HTTP APIs are, for which the service has this type.
fn check_source(source: &str, is_jwt: bool) -> Result<(), ApiError> {
    let of_requests: &[&str] = match is_jwt {
        true => &["$request.querystring.", "$request.header."],
        false => &["stageVariables.", "context."],
    };
    let name = ["route.request.querystring.", "route.request.header."]
        .iter()
        .chain(of_requests)
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
