//! The operations by method and path, one file per resource below `rest/`, and the HTTP frame around them.
//!
//! [`RestApi::handle`] takes a whole request and answers a whole reply: it authenticates, reads path, query and body,
//! runs the operation and gives every reply its request id. [`dispatch`] is the table of all operations.

pub(crate) mod api;
pub(crate) mod api_mapping;
pub(crate) mod authorizer;
mod calls;
mod deployment;
pub(crate) mod domain_name;
pub(crate) mod integration;
pub(crate) mod integration_response;
pub(crate) mod model;
mod refused;
pub(crate) mod route;
pub(crate) mod route_response;
pub(crate) mod stage;
mod tag;
pub(crate) mod vpc_link;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Value;

use self::calls::Calls;
use crate::error::{ApiError, AuthFailure};
use crate::id;
use crate::limits;
use crate::members::Members;
use crate::plane::ControlPlane;

/// Decides who may call: gets the head as received and the whole body. Called before anything else.
pub type Authenticate = Arc<dyn Fn(&Parts, &[u8]) -> Result<(), AuthFailure> + Send + Sync>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// What an operation answers: a status, and a body unless it is 204.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Option<Value>,
}

pub(crate) type Outcome = Result<Reply, ApiError>;

impl Reply {
    pub(crate) fn ok(body: &impl Serialize) -> Outcome {
        Self::json(StatusCode::OK, body)
    }

    pub(crate) fn created(body: &impl Serialize) -> Outcome {
        Self::json(StatusCode::CREATED, body)
    }

    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Outcome {
        let body = serde_json::to_value(body).map_err(|error| {
            tracing::error!(%error, diag = "auth.internal", "a reply cannot be written as JSON");
            ApiError::internal()
        })?;
        Ok(Self { status, body: Some(body) })
    }

    pub(crate) fn no_content() -> Outcome {
        Ok(Self { status: StatusCode::NO_CONTENT, body: None })
    }
}

/// The HTTP surface of a [`ControlPlane`]: everything below `/v2`.
#[derive(Clone)]
pub struct RestApi {
    plane: ControlPlane,
    authenticate: Authenticate,
    /// Shared by all clones. None: no throttle.
    calls: Option<Arc<Calls>>,
}

impl fmt::Debug for RestApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestApi").field("plane", &self.plane).finish_non_exhaustive()
    }
}

impl RestApi {
    /// Serves `plane` to callers that `authenticate` lets in.
    pub fn new(plane: ControlPlane, authenticate: Authenticate) -> Self {
        let calls = plane.settings().quotas.calls.clone();
        let calls = calls.map(|rates| Arc::new(Calls::new(rates, millis(plane.now()))));
        Self { plane, authenticate, calls }
    }

    /// Answers one request; a refusal whose cause is known has a [`Because`](crate::Because) among its extensions. The path is read as received, still percent-encoded, and begins with `/v2/`.
    ///
    /// # Cancel safety
    /// When the future is dropped, the operation has either happened completely or not at all.
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        match self.answer(&parts, &body).await {
            Ok(reply) => respond(reply.status, reply.body.as_ref(), None),
            Err(error) => {
                let mut response = respond(error.status, Some(&error.body()), Some(&error.error_type));
                if let Some(because) = error.reason() {
                    response.extensions_mut().insert(because);
                }
                response
            }
        }
    }

    async fn answer(&self, parts: &Parts, body: &Bytes) -> Outcome {
        (self.authenticate)(parts, body)?;
        if let Some(calls) = &self.calls {
            calls.admit(&parts.method, parts.uri.path(), millis(self.plane.now()))?;
        }
        if body.len() > limits::MAX_BODY {
            return Err(ApiError::bad_request(format!(
                "Invalid request body: at most {} bytes are permitted",
                limits::MAX_BODY
            )));
        }
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(body).map_err(|error| {
                ApiError::bad_request(format!("Invalid JSON in the request body: {error}"))
            })?
        };
        dispatch(&self.plane, &parts.method, parts.uri.path(), parts.uri.query().unwrap_or(""), body).await
    }
}

fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or_default()
}

fn respond(status: StatusCode, body: Option<&Value>, error_type: Option<&str>) -> Response<Bytes> {
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let mut response = Response::new(bytes);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(value) = id::request_id().ok().and_then(|id| HeaderValue::try_from(id).ok()) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(value) = error_type.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(ERROR_TYPE, value);
    }
    response
}

/// Percent-decodes once.
fn decode(text: &str) -> Result<String, ApiError> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ApiError::bad_request("Invalid percent-encoding in the request address"))
}

fn decode_query(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

/// Finds and runs the operation; `path` and `query` are still percent-encoded.
pub(crate) async fn dispatch(
    plane: &ControlPlane,
    method: &Method,
    path: &str,
    query: &str,
    body: Value,
) -> Outcome {
    let unknown = || ApiError::not_found(format!("No operation answers to {method} {path}"));
    let below = path.strip_prefix("/v2/").ok_or_else(unknown)?;
    let segments =
        below.trim_end_matches('/').split('/').map(decode).collect::<Result<Vec<String>, ApiError>>()?;
    let query = decode_query(query)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["apis", api, "routes" | "integrations", rest @ ..] => {
            let is_route = segments.get(2) == Some(&"routes");
            below_target(plane, method, api, is_route, rest, &query, body).await
        }
        ["apis", api, rest @ ..] => below_api(plane, method, api, rest, &query, body).await,
        ["apis"] => match *method {
            Method::GET => api::list(plane, &query),
            Method::POST => api::create(plane, None, body).await,
            Method::PUT => refused::import(),
            _ => Err(unknown()),
        },
        ["domainnames", rest @ ..] => below_domains(plane, method, rest, &query, body).await,
        ["vpclinks"] => match *method {
            Method::GET => vpc_link::list(plane, &query),
            Method::POST => vpc_link::create(plane, &Members::new(body)?).await,
            _ => Err(unknown()),
        },
        ["vpclinks", id] => match *method {
            Method::GET => vpc_link::get(plane, id),
            Method::PATCH => vpc_link::update(plane, id, &Members::new(body)?).await,
            Method::DELETE => vpc_link::delete(plane, id).await,
            _ => Err(unknown()),
        },
        // The ARN holds slashes; clients encode them, but not all have to.
        ["tags", arn @ ..] => {
            let arn = arn.join("/");
            match *method {
                Method::GET => tag::list(plane, &arn),
                Method::POST => tag::add(plane, &arn, &Members::new(body)?).await,
                Method::DELETE => tag::remove(plane, &arn, &query).await,
                _ => Err(unknown()),
            }
        }
        ["portals" | "portalproducts", ..] => refused::portal(),
        _ => Err(unknown()),
    }
    .map_err(|error| if error.message.is_empty() { unknown() } else { error })
}

/// Stands for "no such operation" until [`dispatch`] gives it its text.
fn no_operation() -> ApiError {
    ApiError::not_found("")
}

async fn below_api(
    plane: &ControlPlane,
    method: &Method,
    api: &str,
    rest: &[&str],
    query: &[(String, String)],
    body: Value,
) -> Outcome {
    match (method.as_str(), rest) {
        ("GET", []) => api::get(plane, api),
        ("PATCH", []) => api::update(plane, api, &Members::new(body)?).await,
        ("DELETE", []) => api::delete(plane, api).await,
        ("PUT", []) => refused::import(),
        ("GET", ["exports", _]) => refused::export(plane, api),
        ("DELETE", ["cors"]) => refused::cors(plane, api),

        ("GET", ["authorizers"]) => authorizer::list(plane, api, query),
        ("POST", ["authorizers"]) => authorizer::create(plane, api, &Members::new(body)?).await,
        ("GET", ["authorizers", id]) => authorizer::get(plane, api, id),
        ("PATCH", ["authorizers", id]) => authorizer::update(plane, api, id, &Members::new(body)?).await,
        ("DELETE", ["authorizers", id]) => authorizer::delete(plane, api, id).await,

        ("GET", ["deployments"]) => deployment::list(plane, api, query),
        ("POST", ["deployments"]) => deployment::create(plane, api, &Members::new(body)?).await,
        ("GET", ["deployments", id]) => deployment::get(plane, api, id),
        ("PATCH", ["deployments", id]) => deployment::update(plane, api, id, &Members::new(body)?).await,
        ("DELETE", ["deployments", id]) => deployment::delete(plane, api, id).await,

        ("GET", ["models"]) => model::list(plane, api, query),
        ("POST", ["models"]) => model::create(plane, api, &Members::new(body)?).await,
        ("GET", ["models", id]) => model::get(plane, api, id),
        ("PATCH", ["models", id]) => model::update(plane, api, id, &Members::new(body)?).await,
        ("DELETE", ["models", id]) => model::delete(plane, api, id).await,
        ("GET", ["models", id, "template"]) => model::template(plane, api, id),

        ("GET", ["stages"]) => stage::list(plane, api, query),
        ("POST", ["stages"]) => stage::create(plane, api, &Members::new(body)?).await,
        ("GET", ["stages", name]) => stage::get(plane, api, name),
        ("PATCH", ["stages", name]) => stage::update(plane, api, name, &Members::new(body)?).await,
        ("DELETE", ["stages", name]) => stage::delete(plane, api, name).await,
        ("DELETE", ["stages", name, "accesslogsettings"]) => {
            stage::delete_access_log_settings(plane, api, name).await
        }
        ("DELETE", ["stages", name, "routesettings", key @ ..]) if !key.is_empty() => {
            stage::delete_route_settings(plane, api, name, &key.join("/")).await
        }
        ("DELETE", ["stages", name, "cache", "authorizers"]) => {
            stage::reset_authorizers_cache(plane, api, name)
        }
        _ => Err(no_operation()),
    }
}

async fn below_target(
    plane: &ControlPlane,
    method: &Method,
    api: &str,
    is_route: bool,
    rest: &[&str],
    query: &[(String, String)],
    body: Value,
) -> Outcome {
    if !is_route {
        return match (method.as_str(), rest) {
            ("GET", []) => integration::list(plane, api, query),
            ("POST", []) => integration::create(plane, api, &Members::new(body)?).await,
            ("GET", [id]) => integration::get(plane, api, id),
            ("PATCH", [id]) => integration::update(plane, api, id, &Members::new(body)?).await,
            ("DELETE", [id]) => integration::delete(plane, api, id).await,
            ("GET", [id, "integrationresponses"]) => integration_response::list(plane, api, id, query),
            ("POST", [id, "integrationresponses"]) => {
                integration_response::create(plane, api, id, &Members::new(body)?).await
            }
            ("GET", [id, "integrationresponses", response]) => {
                integration_response::get(plane, api, id, response)
            }
            ("PATCH", [id, "integrationresponses", response]) => {
                integration_response::update(plane, api, id, response, &Members::new(body)?).await
            }
            ("DELETE", [id, "integrationresponses", response]) => {
                integration_response::delete(plane, api, id, response).await
            }
            _ => Err(no_operation()),
        };
    }
    match (method.as_str(), rest) {
        ("GET", []) => route::list(plane, api, query),
        ("POST", []) => route::create(plane, api, &Members::new(body)?).await,
        ("GET", [id]) => route::get(plane, api, id),
        ("PATCH", [id]) => route::update(plane, api, id, &Members::new(body)?).await,
        ("DELETE", [id]) => route::delete(plane, api, id).await,
        ("DELETE", [id, "requestparameters", key]) => {
            route::delete_request_parameter(plane, api, id, key).await
        }
        ("GET", [id, "routeresponses"]) => route_response::list(plane, api, id, query),
        ("POST", [id, "routeresponses"]) => {
            route_response::create(plane, api, id, &Members::new(body)?).await
        }
        ("GET", [id, "routeresponses", response]) => route_response::get(plane, api, id, response),
        ("PATCH", [id, "routeresponses", response]) => {
            route_response::update(plane, api, id, response, &Members::new(body)?).await
        }
        ("DELETE", [id, "routeresponses", response]) => {
            route_response::delete(plane, api, id, response).await
        }
        _ => Err(no_operation()),
    }
}

async fn below_domains(
    plane: &ControlPlane,
    method: &Method,
    rest: &[&str],
    query: &[(String, String)],
    body: Value,
) -> Outcome {
    match (method.as_str(), rest) {
        ("GET", []) => domain_name::list(plane, query),
        ("POST", []) => domain_name::create(plane, &Members::new(body)?).await,
        ("GET", [name]) => domain_name::get(plane, name),
        ("PATCH", [name]) => domain_name::update(plane, name, &Members::new(body)?).await,
        ("DELETE", [name]) => domain_name::delete(plane, name).await,
        ("GET", [name, "apimappings"]) => api_mapping::list(plane, name, query),
        ("POST", [name, "apimappings"]) => api_mapping::create(plane, name, &Members::new(body)?).await,
        ("GET", [name, "apimappings", id]) => api_mapping::get(plane, name, id),
        ("PATCH", [name, "apimappings", id]) => {
            api_mapping::update(plane, name, id, &Members::new(body)?).await
        }
        ("DELETE", [name, "apimappings", id]) => api_mapping::delete(plane, name, id).await,
        (method, [name, "routingrules", rest @ ..]) => refused::routing_rules(plane, method, name, rest),
        _ => Err(no_operation()),
    }
}
