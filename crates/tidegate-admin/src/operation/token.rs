//! Connect tokens and signed JSON Web Tokens.

use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate_auth::Role;
use tidegate_core::context::iso_time;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::snapshot::Stage;
use tidegate_gateway::{TokenRefusal, TokenRequest};

use super::{ID, ROLES, TEXT, THE_API, THE_STAGE};
use crate::api::Inner;
use crate::call::{Call, find_stage};
use crate::refusal::Refusal;
use crate::route::{Access, Answer, Body, Reply, Route, Verb};
use crate::shape::{Member, Shape, optional, required, text};

const TOKEN: &[Member] = &[
    THE_API,
    THE_STAGE,
    optional("user", ID, "Id of the user; absent: a token for nobody in particular."),
    optional("session", ID, "Id of the login: connections of one session end together."),
    optional("session_cookie", text(4096), "Value of the session cookie that the handshake must carry."),
    optional("roles", ROLES, "Roles of the user."),
    optional("claims", Shape::Object, "Claims about the user."),
    optional(
        "channels",
        Shape::List { of: &text(129), max: 1000 },
        "The only channels it may join; `prefix*` too.",
    ),
    optional("origin", text(255), "Origin of the page that will use it: `https://app.example`."),
    optional("address", text(45), "Client address that will use it."),
    optional("lifetime", Shape::Integer { min: 5, max: 300 }, "Seconds; otherwise as the policy says."),
];

const ISSUED: Shape = Shape::Record(&[
    required("token", Shape::Text { min: 64, max: 64 }, "64 hex characters; shown once."),
    required("expires_in", Shape::Integer { min: 5, max: 300 }, "Seconds."),
    required("expires_at", Shape::Time, "When it expires."),
    required("url", TEXT, "Where to connect with it, once."),
]);

const JWT: &[Member] =
    &[THE_API, THE_STAGE, required("claims", Shape::Object, "The payload: `sub`, `exp`, `role` and so on.")];

pub(super) const ROUTES: &[Route] = &[
    Route::new(
        Verb::Post,
        "/api/tokens",
        "issueToken",
        Access::Change(Role::Operate),
        "Issues a one-time connect token for a user that the backend has logged in.",
        ISSUED,
        |inner, call| Box::pin(issue(inner, call)),
    )
    .body(Body::Json(TOKEN))
    .refuses(&[404, 429, 503]),
    Route::new(
        Verb::Post,
        "/api/jwt",
        "signJwt",
        Access::Change(Role::Administer),
        "Signs a JSON Web Token with the first HMAC secret of a stage: for tests and service accounts.",
        Shape::Record(&[required("token", TEXT, "The token.")]),
        |inner, call| Box::pin(async { sign(inner, call) }),
    )
    .body(Body::Json(JWT))
    .refuses(&[404, 409]),
];

#[derive(Deserialize)]
struct Place {
    api: String,
    stage: String,
}

/// The body without the members that say where.
fn without_place(body: &Value) -> Value {
    let mut members = body.as_object().cloned().unwrap_or_default();
    members.remove("api");
    members.remove("stage");
    Value::Object(members)
}

async fn issue(inner: &Inner, call: &Call) -> Answer {
    let members = call.json();
    let place = Place {
        api: members["api"].as_str().unwrap_or_default().to_owned(),
        stage: members["stage"].as_str().unwrap_or_default().to_owned(),
    };
    let request = TokenRequest::deserialize(without_place(members))
        .map_err(|error| Refusal::malformed(format!("The body cannot be read: {error}")))?;
    let stage = find_stage(inner, &place.api, &place.stage)?;
    let user = request.user.clone();
    let issued = inner.gateway.issue_token(&stage, request, call.now).await.map_err(refuse)?;
    let token = issued.token.expose();
    let body = json!({
        "token": token,
        "expires_in": issued.expires_in,
        "expires_at": iso_time(issued.expires_at),
        "url": url(inner, &stage, token),
    });
    Ok(Reply::json(body).with_note(json!({ "api": place.api, "stage": place.stage, "user": user })))
}

/// Where a client connects: by the API's own address, or a custom domain where the API has none of its own.
fn url(inner: &Inner, stage: &Stage, token: &str) -> String {
    let live = inner.control.live();
    let has_endpoint = live
        .apis
        .iter()
        .find(|api| *api.api.api_id == *stage.api_id)
        .is_none_or(|api| !api.api.disable_execute_api_endpoint);
    let mapped = live.domains.iter().find_map(|(domain, mappings)| {
        let mapping = mappings.iter().find(|m| *m.api_id == *stage.api_id && *m.stage == *stage.name)?;
        let name = domain
            .domain_name
            .strip_prefix("*.")
            .map_or(domain.domain_name.clone(), |rest| format!("www.{rest}"));
        Some(format!("wss://{name}/{}", mapping.api_mapping_key))
    });
    let base = match mapped.filter(|_| !has_endpoint) {
        Some(mapped) => mapped,
        None => format!("{}/{}", inner.control.settings().api_endpoint(&stage.api_id), stage.name),
    };
    let defaults = tidegate_core::policy::ConnectTokens::default();
    let settings = stage.policy.as_ref().map_or(&defaults, |policy| &policy.policy.connect_tokens);
    let parameter =
        utf8_percent_encode(&settings.parameter, NON_ALPHANUMERIC).to_string().replace("%5F", "_");
    format!("{base}?{parameter}={token}")
}

fn refuse(refusal: TokenRefusal) -> Refusal {
    let status = StatusCode::from_u16(refusal.code.row().status).unwrap_or(StatusCode::BAD_REQUEST);
    let (status, diagnosis) = match status {
        StatusCode::BAD_REQUEST => (status, Diagnosis::ADMIN_MALFORMED),
        StatusCode::TOO_MANY_REQUESTS => (status, refusal.diagnosis),
        // Random bytes or the store are not there; both pass.
        _ => (StatusCode::SERVICE_UNAVAILABLE, refusal.diagnosis),
    };
    let message = match status {
        StatusCode::SERVICE_UNAVAILABLE => "The token cannot be stored".to_owned(),
        _ => refusal.detail,
    };
    let mut answer = Refusal::new(status, diagnosis, message);
    answer.retry_after = refusal.retry_after;
    answer
}

fn sign(inner: &Inner, call: &Call) -> Answer {
    #[derive(Deserialize)]
    struct Request {
        api: String,
        stage: String,
        claims: Map<String, Value>,
    }
    let request: Request = call.body()?;
    let stage = find_stage(inner, &request.api, &request.stage)?;
    let token = inner.gateway.sign_jwt(&stage, &request.claims).map_err(|reason| {
        Refusal::new(
            StatusCode::CONFLICT,
            Diagnosis::ADMIN_NOT_POSSIBLE,
            format!("No token can be signed: {reason}"),
        )
    })?;
    let note = json!({ "api": request.api, "stage": request.stage, "sub": request.claims.get("sub") });
    Ok(Reply::json(json!({ "token": token.expose() })).with_note(note))
}
