//! What all HTTP calls share: who calls, and how a call is refused.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, Method};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_core::app::{Host, Request, Response};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::identity::Identity;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};

use crate::app::Alerts;
use crate::mount::{API_ID, STAGE};

const REQUEST_ID: HeaderName = HeaderName::from_static("tidegate-request-id");

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Somebody with a token.
    User {
        /// Their id.
        id: Arc<str>,
        /// What the token says.
        identity: Arc<Identity>,
    },
    /// A program with a key of the management API.
    Key(String),
}

impl Caller {
    /// Different for different callers, also where a user has the name of a key.
    pub(crate) fn credential(&self) -> String {
        match self {
            Self::User { id, .. } => format!("user {id}"),
            Self::Key(name) => format!("key {name}"),
        }
    }

    /// For the journal: whose call it was. A user stands in the place of its notice.
    fn name(&self) -> &str {
        match self {
            Self::User { id, .. } => id,
            Self::Key(name) => name,
        }
    }
}

/// Why a call is refused.
#[derive(Debug)]
pub(crate) struct CallRefused {
    pub(crate) status: u16,
    pub(crate) message: Cow<'static, str>,
    pub(crate) diagnosis: Option<Diagnosis>,
    pub(crate) facts: Facts,
    /// Member of the body that is wrong.
    pub(crate) field: Option<Cow<'static, str>>,
    pub(crate) retry_after: Option<u64>,
}

impl CallRefused {
    pub(crate) fn new(
        status: u16,
        message: impl Into<Cow<'static, str>>,
        diagnosis: Option<Diagnosis>,
    ) -> Self {
        Self {
            status,
            message: message.into(),
            diagnosis,
            facts: Facts::none(),
            field: None,
            retry_after: None,
        }
    }

    /// 422 that names the member.
    pub(crate) fn field(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let field = field.into();
        let mut refused = Self::new(422, message, Some(Diagnosis::PUBLISH_MALFORMED));
        refused.facts = Facts::none().with("field", &*field);
        refused.field = Some(field);
        refused
    }
}

/// Nothing is there.
pub(crate) fn not_found(request: &Request) -> Response {
    answer(request, 404, &json!({ "message": "Not Found" }))
}

/// Something else is there.
pub(crate) fn wrong_method(request: &Request, method: &Method) -> Response {
    let mut response = answer(request, 405, &json!({ "message": "Method Not Allowed" }));
    if let Ok(value) = HeaderValue::from_str(method.as_str()) {
        response.headers.insert(ALLOW, value);
    }
    response
}

/// JSON with the request's id, in the body where that has no id of its own, and as a header.
pub(crate) fn answer(request: &Request, status: u16, body: &Value) -> Response {
    let mut body = body.clone();
    if let Some(members) = body.as_object_mut() {
        members.entry("requestId").or_insert_with(|| request.request_id.to_string().into());
    }
    answer_bytes(request, status, body.to_string().into())
}

/// JSON as it is.
pub(crate) fn answer_bytes(request: &Request, status: u16, body: Bytes) -> Response {
    let mut response = Response::json(status, body);
    if let Ok(value) = HeaderValue::from_str(&request.request_id.to_string()) {
        response.headers.insert(REQUEST_ID, value);
    }
    response
}

/// Reads the body of a call.
pub(crate) fn read<T: DeserializeOwned>(request: &Request) -> Result<T, CallRefused> {
    // A list would be taken for an object's members in their order.
    if request.body.trim_ascii_start().first() != Some(&b'{') {
        return Err(CallRefused::field("body", "an object expected"));
    }
    serde_json::from_slice(&request.body).map_err(|error| {
        // The text of the error may quote the body.
        let at = format!("line {} column {}", error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Data => "a member has a wrong form",
            _ => "no valid JSON",
        };
        CallRefused::field("body", format!("{what}, {at}"))
    })
}

impl Alerts {
    /// Who calls: a JSON Web Token in the header, or a key of the management API.
    ///
    /// # Errors
    /// 401 without any proof or with a wrong one; what the gateway says otherwise.
    pub(crate) fn caller(&self, request: &Request) -> Result<Caller, CallRefused> {
        let host = self.host().ok_or_else(not_started)?;
        let Some(authorization) = request.headers.get(AUTHORIZATION) else {
            let is_signed_url = request.query.contains("X-Amz-Signature=");
            let is_key = request.headers.contains_key("x-api-key");
            if !is_signed_url && !is_key {
                return Err(CallRefused::new(401, "Not authenticated", Some(Diagnosis::MANAGEMENT_UNSIGNED)));
            }
            return self.key(host, request);
        };
        if !is_jwt(authorization) {
            return self.key(host, request);
        }
        let identity = host.identify(API_ID, STAGE, &request.headers).map_err(|refusal| {
            // What a handshake is told by 403 is 401 for a call: the caller may come with another token.
            let status = if refusal.status == 403 { 401 } else { refusal.status };
            let mut refused = CallRefused::new(status, refusal.message, Some(refusal.diagnosis));
            refused.facts = refusal.facts;
            refused.retry_after = refusal.retry_after;
            refused
        })?;
        let id = identity.user.clone();
        let id = id.ok_or_else(|| {
            CallRefused::new(401, "Invalid token payload", Some(Diagnosis::JWT_CLAIMS_MISSING))
        })?;
        Ok(Caller::User { id, identity })
    }

    fn key(&self, host: &Arc<dyn Host>, request: &Request) -> Result<Caller, CallRefused> {
        host.authorize(API_ID, STAGE, request).map(Caller::Key).map_err(|refusal| {
            let mut refused = CallRefused::new(refusal.status, refusal.message, Some(refusal.diagnosis));
            refused.facts = refusal.facts;
            refused.retry_after = refusal.retry_after;
            refused
        })
    }

    /// [`Self::caller`], if they may publish and have not done so too often.
    pub(crate) fn publisher(&self, request: &Request) -> Result<Caller, CallRefused> {
        let caller = self.caller(request)?;
        self.demand_role(&caller, &self.rules().settings.publish_roles)?;
        self.count(&caller)?;
        Ok(caller)
    }

    /// A user needs one of `roles`; keys have a rule of their own.
    pub(crate) fn demand_role(&self, caller: &Caller, roles: &[String]) -> Result<(), CallRefused> {
        let Caller::User { identity, .. } = caller else { return Ok(()) };
        if identity.roles.iter().any(|role| roles.contains(role)) {
            return Ok(());
        }
        let mut refused = CallRefused::new(403, "Access denied", Some(Diagnosis::ROLE_INSUFFICIENT));
        refused.facts = Facts::none()
            .with("role", identity.roles.join(",").chars().take(128).collect::<String>())
            .with("allowedRoles", roles.to_vec());
        Err(refused)
    }

    /// Counts a call of a credential.
    pub(crate) fn count(&self, caller: &Caller) -> Result<(), CallRefused> {
        let now = self.host().ok_or_else(not_started)?.now();
        if self.rates.take(caller.credential(), now) {
            return Ok(());
        }
        let mut refused = CallRefused::new(429, "Too many calls", Some(Diagnosis::MANAGEMENT_THROTTLED));
        refused.facts =
            Facts::none().with("limit", self.rules().settings.publish_rate).with("caller", caller.name());
        refused.retry_after = Some(1);
        Err(refused)
    }

    /// Answers a call that is refused, and tells operators.
    pub(crate) fn refused(&self, request: &Request, refused: CallRefused) -> Response {
        let CallRefused { status, message, diagnosis, facts, field, retry_after } = refused;
        if let (Some(host), Some(diagnosis)) = (self.host(), diagnosis) {
            let code = match status {
                401 => ErrorCode::Unauthorized,
                403 => ErrorCode::Forbidden,
                404 => ErrorCode::NotMapped,
                409 => ErrorCode::Conflict,
                413 => ErrorCode::PayloadTooLarge,
                429 => ErrorCode::PushThrottled,
                500.. => ErrorCode::IdentityUnavailable,
                _ => ErrorCode::BadRequest,
            };
            let facts = if host.keeps_facts() { facts } else { Facts::none() };
            host.notice(Notice::PushRefused { place: place(request, None), status, code, diagnosis, facts });
        }
        let mut body = json!({ "message": message });
        if let Some(field) = field {
            body["field"] = field.into_owned().into();
        }
        let mut response = answer(request, status, &body);
        if status == 401 {
            response.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            response.headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// Tells operators that something went to many.
    pub(crate) fn tell_published(&self, request: &Request, caller: &Caller, told: &Told) {
        let Some(host) = self.host() else { return };
        let facts = if host.keeps_facts() {
            let mut facts = Facts::none()
                .with("caller", caller.name())
                .with("sourceAddress", request.address.to_string())
                .with("target", told.target)
                .with("size", told.size)
                .with("isJson", true)
                .with("delivered", told.delivered)
                .with("gone", told.gone)
                .with("slow", told.slow);
            if !told.channels.is_empty() {
                facts.add("channel", told.channels.join(","));
            }
            facts
        } else {
            Facts::none()
        };
        host.notice(Notice::Published {
            place: place(request, Some(caller)),
            target: told.target,
            size: told.size,
            delivered: told.delivered,
            gone: told.gone,
            slow: told.slow,
            facts,
        });
    }
}

/// What became of an alert, for operators.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) target: &'static str,
    pub(crate) channels: Vec<String>,
    pub(crate) size: usize,
    pub(crate) delivered: usize,
    pub(crate) gone: usize,
    pub(crate) slow: usize,
}

/// Where a call was made.
pub(crate) fn place(request: &Request, caller: Option<&Caller>) -> Place {
    let user = match caller {
        Some(Caller::User { id, .. }) => Some(Arc::clone(id)),
        _ => None,
    };
    Place {
        api_id: API_ID.into(),
        stage: STAGE.into(),
        request_id: Some(request.request_id),
        user,
        address: Some(request.address),
        ..Place::default()
    }
}

pub(crate) fn not_started() -> CallRefused {
    CallRefused::new(503, "Service unavailable", None)
}

/// `Bearer` and three parts: a token. Keys have none.
fn is_jwt(authorization: &HeaderValue) -> bool {
    let Ok(text) = authorization.to_str() else { return false };
    let Some((scheme, token)) = text.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer") && token.trim().split('.').count() == 3
}
