//! The begin of a handshake: what must hold before anybody is asked, and the place in the registry.

use std::sync::Arc;

use http::Request;
use http::header::{HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::body::Incoming;
use serde_json::Map;
use tidegate_auth::offered_subprotocols;
use tidegate_core::app;
use tidegate_core::context::ConnectionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::journal::Facts;
use tidegate_core::settings::PendingPosts;
use tidegate_core::snapshot::StagePolicy;
use tidegate_ws::handshake;

use super::super::address::Address;
use super::super::attempt::Attempt;
use super::super::client_address::ClientAddress;
use super::super::refusal::{self, refuse, set_retry_after};
use super::super::{Reply, client_reference, remark};
use super::answer::list;
use super::refuse::{reword, with_words};
use super::{Admitted, Outcome, UpgradeRequest};
use crate::admission::{self, Handshake};
use crate::apps;
use crate::clock::now_millis;
use crate::connection::close_reason;
use crate::connection::handle::Handle;
use crate::gateway::{Gateway, going_away};
use crate::signed_handshake;

/// Seconds after which somebody may try again whom a node refuses that is going down: longer than most restarts take.
const RETRY_SECONDS: u64 = 5;

impl UpgradeRequest {
    pub(super) fn parse(
        gateway: &Gateway,
        address: Address,
        client: ClientAddress,
        request: Request<Incoming>,
        mut attempt: Attempt,
    ) -> Result<Self, Reply> {
        let (mut head, _) = request.into_parts();
        if gateway.is_draining() {
            let told = reword(gateway, &address.stage, &client, &attempt, ErrorCode::Draining);
            let request_id = attempt.request_id();
            let mut reply = refuse(gateway, attempt, ErrorCode::Draining, None, "");
            set_retry_after(reply.headers_mut(), Some(RETRY_SECONDS));
            return Err(with_words(reply, told.as_ref(), None, request_id));
        }
        let Some(deployment) = address.stage.deployment.clone() else {
            let diagnosis = Some(Diagnosis::STAGE_NOT_DEPLOYED);
            return Err(refuse(gateway, attempt, ErrorCode::Forbidden, diagnosis, ""));
        };
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let mut accept_key = String::new();
        if !attempt.is_dry_run {
            if text("sec-websocket-version") != Some("13") {
                attempt.note("check", "version");
                let diagnosis = Some(Diagnosis::HANDSHAKE_MALFORMED);
                let mut reply = refuse(gateway, attempt, ErrorCode::UpgradeRequired, diagnosis, "version");
                reply.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
                reply.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
                return Err(reply);
            }
            let keys = head.headers.get_all("sec-websocket-key").iter().count();
            let Some(key) = text("sec-websocket-key").filter(|key| keys == 1 && handshake::is_valid_key(key))
            else {
                attempt.note("check", "key");
                return Err(refuse(gateway, attempt, ErrorCode::BadHandshake, None, "Sec-WebSocket-Key"));
            };
            accept_key = handshake::accept_key(key);
        }
        remark::on_deployment(gateway, &attempt, &deployment);
        let (offered, has_bearer) = match &address.stage.policy {
            // Nobody looks for a token: the names are the client's and the backend's own.
            None => (list(&head.headers, "sec-websocket-protocol"), false),
            Some(_) => {
                let offered = offered_subprotocols(&head.headers);
                (offered.others.into_iter().map(str::to_owned).collect(), offered.has_bearer)
            }
        };
        Ok(Self {
            offered,
            has_bearer,
            accept_key,
            stage: address.stage,
            deployment,
            query: client_reference::strip(head.uri.query().unwrap_or_default()),
            uri: head.uri,
            headers: head.headers,
            spelling: head.extensions.remove(),
            client,
            domain_name: address.domain_name,
            attempt,
            progress: Arc::default(),
        })
    }

    /// What the checks of the stage's policy look at.
    pub(super) fn handshake<'a>(&'a self, policy: &'a Arc<StagePolicy>, now: u64) -> Handshake<'a> {
        Handshake {
            stage: &self.stage,
            policy,
            headers: &self.headers,
            query: &self.query,
            domain: &self.domain_name,
            address: self.client.ip,
            now,
            keeps_facts: self.attempt.keeps_facts,
        }
    }

    /// Limits that need no identity. No byte has been answered yet.
    pub(super) fn admit(mut self, gateway: &Arc<Gateway>) -> Result<Admitted, Box<Outcome>> {
        let now = now_millis();
        let n_connections = gateway.n_connections();
        let max_connections = gateway.in_force().node.max_connections;
        if n_connections >= max_connections {
            self.attempt.note("limit", max_connections);
            self.attempt.note("count", n_connections);
            self.attempt.note("of", "node");
            let code = ErrorCode::ConnectionsExhausted;
            let told = reword(gateway, &self.stage, &self.client, &self.attempt, code);
            let request_id = self.attempt.request_id();
            let reply = refuse(gateway, self.attempt, code, None, "");
            return Err(Box::new(Err(with_words(reply, told.as_ref(), None, request_id))));
        }
        if let Err(limit) = gateway.account.admit_connect(now) {
            self.attempt.note("of", "account");
            self.attempt.note("limit", limit.rate);
            self.attempt.note("burst", limit.burst);
            self.attempt.note("windowSeconds", 1);
            let diagnosis = Some(Diagnosis::RATELIMIT_ACCOUNT);
            let reply = refuse(gateway, self.attempt, ErrorCode::Throttled, diagnosis, "");
            return Err(Box::new(Err(reply)));
        }
        if !gateway.throttles.admit(&self.stage, "$connect", now) {
            if let Some(throttle) = self.stage.throttle("$connect") {
                self.attempt.note("limit", throttle.rate);
                self.attempt.note("burst", throttle.burst);
                self.attempt.note("windowSeconds", 1);
            }
            return Err(Box::new(Err(refuse(gateway, self.attempt, ErrorCode::Throttled, None, ""))));
        }
        if let Some(policy) = &self.stage.policy {
            let handshake = self.handshake(policy, now);
            if let Err(refused) = admission::check_arrival(gateway, &handshake) {
                let row = refused.code.row();
                gateway.attempts.on_end(&handshake, &refused.outcome(row.status), gateway.next_random());
                self.attempt.note("check", refused.check);
                self.attempt.note_all(refused.facts);
                self.note_close_code(row.status);
                let told = apps::reword(
                    gateway,
                    &self.stage,
                    &app::Refused {
                        diagnosis: refused.diagnosis,
                        status: row.status,
                        address: self.client.ip,
                        now,
                        is_dry_run: self.attempt.is_dry_run,
                        facts: &Facts::none(),
                    },
                );
                let light = self.attempt.without_facts();
                let attempt = std::mem::replace(&mut self.attempt, light);
                let more = Map::from_iter([("check".to_owned(), refused.check.into())]);
                let diagnosis = Some(refused.diagnosis);
                let mut reply =
                    refusal::refuse_as(gateway, attempt, refused.code, diagnosis, &refused.detail, more);
                set_retry_after(reply.headers_mut(), refused.retry_after);
                let place = self.attempt.place.clone();
                let reply = with_words(reply, told.as_ref(), None, self.attempt.request_id());
                let close = self.closing(told.as_ref(), reply.status().as_u16());
                self.note_refused_after_open(gateway, &place, refused.diagnosis, close.as_ref());
                return Err(Box::new(self.refused(reply, close)));
            }
        }
        let Some(reservation) = gateway.registry.reserve(now) else {
            self.attempt.note("of", "node");
            let code = ErrorCode::ConnectionsExhausted;
            return Err(Box::new(Err(refuse(gateway, self.attempt, code, None, "no slot is free"))));
        };
        let settings = &self.stage.settings;
        let facts = Arc::new(ConnectionFacts {
            connection_id: reservation.connection_id,
            api_id: Arc::clone(&self.stage.api_id),
            stage: Arc::clone(&self.stage.name),
            domain_name: match &settings.context.domain_name {
                Some(told) => told.as_str().into(),
                None => Arc::clone(&self.domain_name),
            },
            source_ip: self.client.ip,
            user_agent: self
                .headers
                .get(http::header::USER_AGENT)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned().into_boxed_str()),
            is_secure: self.client.is_secure,
            client_port: self.client.port,
            connected_at: now,
        });
        let jitter = match settings.data_plane.jitter() {
            None => 0,
            Some(longest) => gateway.next_random() % (longest.as_millis() as u64).max(1),
        };
        let age_deadline = settings
            .data_plane
            .age()
            .map_or(u64::MAX, |age| now + (age.as_millis() as u64).saturating_sub(jitter).max(1));
        let accepts_pending =
            !self.attempt.is_dry_run && settings.management.pending_posts == PendingPosts::Queue;
        let mut kept = kept_headers(&self.headers, &settings.integration.forward_handshake);
        if self.has_bearer
            && let Some(kept) = &mut kept
        {
            self.strip_token(kept);
        }
        if let Some(kept) = &mut kept {
            signed_handshake::strip_headers(kept);
        }
        let handle =
            Arc::new(Handle::new(facts, Arc::clone(&self.stage), kept, accepts_pending, age_deadline));
        // Recorded before any backend hears of the id, so that an early post to it can be told apart.
        gateway.registry.insert(&handle);
        // The stage may have been deleted since its look-up, after whoever deleted it had visited the registry.
        if gateway.stage(&self.stage.api_id, &self.stage.name).is_none() {
            handle.close(going_away(close_reason::GOING_AWAY, Diagnosis::API_BEING_DELETED));
        }
        self.attempt.place.connection_id = Some(handle.facts.connection_id);
        let request_id = self.attempt.request_id();
        Ok(Admitted { request: self, handle, request_id })
    }

    /// Leaves the offered subprotocols without the token that came among them: nobody behind the gateway needs it.
    pub(super) fn strip_token(&self, headers: &mut HeaderMap) {
        if headers.remove(SEC_WEBSOCKET_PROTOCOL).is_none() || self.offered.is_empty() {
            return;
        }
        if let Ok(others) = HeaderValue::from_str(&self.offered.join(", ")) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
        }
    }
}

/// The handshake headers that a setting keeps for later events.
fn kept_headers(headers: &HeaderMap, names: &[String]) -> Option<Box<HeaderMap>> {
    let mut kept = HeaderMap::new();
    for name in names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()) {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    (!kept.is_empty()).then(|| Box::new(kept))
}
