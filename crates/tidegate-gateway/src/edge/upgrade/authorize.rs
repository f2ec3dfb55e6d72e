//! What the route `$connect` demands before its integration is asked: authorization, then the API key, then parameters.
//!
//! The order is that of the real service, and each check has its own answer. It happens once for each connection: what
//! it has established stays known for all later events.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderMap;
use tidegate_core::authorizer::Authorizer;
use tidegate_core::context::{Authorized, Event, EventKind};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::{self, Facts};
use tidegate_core::mapping::query_values;
use tidegate_core::notice::Notice;
use tidegate_core::snapshot::{Authorization, Route};

use super::{Admitted, milliseconds};
use crate::admission::Established;
use crate::api_keys::Presented;
use crate::authorizer::{self, Consent, Refusal};
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::integration::{self, Failure};
use crate::signed_handshake;

impl Admitted {
    /// Runs the checks of the route. Afterwards the handle knows what they have established, and headers and query are
    /// those that a backend may see.
    pub(super) async fn authorize(
        &mut self,
        gateway: &Gateway,
        route: &Route,
        established: &Established,
    ) -> Result<(), Refusal> {
        let mut authorized = Authorized::default();
        let mut usage_identifier_key = None;
        match &route.authorization {
            Authorization::None => {}
            Authorization::Broken(reason) => {
                let code = ErrorCode::AuthorizerFailed;
                return Err(Failure::new(code, code.row().diagnosis, reason.clone()).into());
            }
            Authorization::Iam => {
                let request = &mut self.request;
                let caller =
                    signed_handshake::verify(gateway, &request.stage, &request.uri, &request.headers)?;
                request.attempt.note("accessKeyId", caller.access_key.as_str());
                signed_handshake::strip(&mut request.headers, &mut request.query);
                authorized.caller = Some(caller);
            }
            Authorization::Custom(authorizer) => {
                let consent = self.ask(gateway, authorizer, route, established).await?;
                authorized.authorizer = Some(consent.answer);
                usage_identifier_key = consent.usage_identifier_key;
            }
            Authorization::Jwt(authorizer) => {
                let event = self.connect_event(route, established);
                let consent = authorizer::check_token(gateway, authorizer, &self.call(&event)).await?;
                self.note_consent(gateway, route, &authorizer.name, &consent);
                authorized.authorizer = Some(consent.answer);
            }
        }
        if let Some(source) = route.api_key {
            let presented = Presented {
                source,
                headers: &self.request.headers,
                query: &self.request.query,
                of_authorizer: usage_identifier_key.as_deref(),
            };
            let is_counted = !self.request.attempt.is_dry_run;
            let key = gateway.api_keys.admit(&self.request.stage, &presented, now_millis(), is_counted)?;
            self.request.attempt.note("apiKeyId", key.id.as_str());
            authorized.api_key = Some(key);
        }
        if authorized != Authorized::default() {
            self.handle.set_authorized(authorized);
        }
        check_parameters(route, &self.request.headers, &self.request.query)
    }

    async fn ask(
        &mut self,
        gateway: &Gateway,
        authorizer: &Authorizer,
        route: &Route,
        established: &Established,
    ) -> Result<Consent, Refusal> {
        let started = Instant::now();
        let event = self.connect_event(route, established);
        let consent = authorizer::ask(gateway, authorizer, &self.call(&event)).await?;
        self.request.attempt.note("authorizerMs", milliseconds(started));
        self.note_consent(gateway, route, &authorizer.name, &consent);
        Ok(consent)
    }

    /// Tells operators who let the client in, where they want to hear of successes.
    fn note_consent(&self, gateway: &Gateway, route: &Route, authorizer: &str, consent: &Consent) {
        if gateway.wants_success(self.handle.facts.connection_id) {
            let mut place = self.request.attempt.place.clone();
            place.route_key = Some(Arc::clone(&route.key));
            let facts = gateway.facts(|| {
                Facts::none()
                    .with("authorizer", authorizer)
                    .with("authorizerMs", consent.answer.latency_ms)
                    .with("effect", "Allow")
                    .with("principal", consent.answer.principal_id.as_str())
            });
            gateway.notice(Notice::Decided { place, kind: journal::Kind::Authorizer, remark: None, facts });
        }
    }

    /// The CONNECT event, with what is known so far.
    pub(super) fn connect_event(&self, route: &Route, established: &Established) -> Event {
        Event {
            connection: Arc::clone(&self.handle.facts),
            request_id: self.request_id,
            route_key: Arc::clone(&route.key),
            request_time: now_millis(),
            kind: EventKind::Connect,
            session: self.request.stage.policy.as_ref().map(|_| established.facts()),
            authorized: self.handle.authorized(),
        }
    }

    /// The call of a CONNECT event.
    pub(super) fn call<'a>(&'a self, event: &'a Event) -> integration::Call<'a> {
        integration::Call {
            reads_headers: false,
            event,
            stage: &self.request.stage,
            headers: Some(&self.request.headers),
            spelling: self.request.spelling.as_ref(),
            query: &self.request.query,
            body: "",
            is_base64: false,
            payload: None,
            is_json: false,
            forwarded_for: self.request.client.forwarded_for.as_deref(),
            client_ref: self.handle.client_ref.as_ref(),
            // A check is no event.
            log: self.request.attempt.log.as_deref().filter(|_| !self.request.attempt.is_dry_run),
        }
    }
}

fn check_parameters(route: &Route, headers: &HeaderMap, query: &str) -> Result<(), Refusal> {
    let header = route.required_headers.iter().find(|name| !headers.contains_key(name.as_str()));
    let missing = route.required_query.iter().find(|name| query_values(query, name).next().is_none());
    let Some(name) = header.or(missing) else { return Ok(()) };
    let text = format!("Missing required request parameters: [{name}]");
    let failure = Failure::new(ErrorCode::MissingParameters, Diagnosis::HANDSHAKE_MALFORMED, text.clone());
    Err(Refusal::worded(failure, text))
}
