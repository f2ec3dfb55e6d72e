//! Applications in the process: where they live, and what they may ask of the gateway.

use std::fmt;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request as HttpRequest};
use hyper::body::Incoming;
use tidegate_core::app::{App, Host, Mount, Refusal, Refused, Request, Sent};
use tidegate_core::compile::APP_SCHEME;
use tidegate_core::context::error_body;
use tidegate_core::definition::{
    Api, ApiDefinition, Integration, LiveApi, LiveStage, Route, Stage as StageDefinition,
};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::identity::Identity;
use tidegate_core::journal::Facts;
use tidegate_core::notice::{Notice, Place};
use tidegate_core::port::BoxFuture;
use tidegate_core::push::{Publish, PushResult};
use tidegate_core::settings::Settings;
use tidegate_core::snapshot::Stage;
use tidegate_ws::{CloseCode, CloseFrame, OutboundMessage};

use crate::admission::{self, Handshake};
use crate::clock::now_millis;
use crate::connection::handle::{CloseCause, PushRefusal};
use crate::edge::client_address::ClientAddress;
use crate::edge::{Reply, empty, hint, refusal};
use crate::gateway::Gateway;
use crate::in_force::MountChange;
use crate::push;

/// The applications of a node.
pub(crate) struct Apps {
    /// Their policies and settings are those of the start; [`Self::standing`] has those of now.
    mounts: Vec<Mount>,
    /// What the snapshot has of each mount, in their order.
    standing: ArcSwap<Vec<Standing>>,
}

/// What of a mount may change.
#[derive(Clone)]
struct Standing {
    api: Arc<LiveApi>,
    settings: Arc<Settings>,
}

impl fmt::Debug for Apps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.mounts.iter().map(|mount| mount.app.name());
        f.debug_list().entries(names).finish()
    }
}

impl Apps {
    pub(crate) fn new(mounts: Vec<Mount>) -> Self {
        let standing = mounts
            .iter()
            .map(|mount| Standing { api: Arc::new(api_of(mount)), settings: Arc::clone(&mount.settings) });
        let standing = ArcSwap::from_pointee(standing.collect());
        Self { mounts, standing }
    }

    /// Another policy and other settings for the stage of an application, from the next publication on. A policy that
    /// says the same stays the one that it was, so that nobody is checked again for nothing.
    pub(crate) fn change(&self, change: MountChange) {
        let MountChange { api_id, policy, settings, reads_files } = change;
        let mut standing = Vec::clone(&self.standing.load());
        let Some(of_api) = standing.iter_mut().find(|standing| standing.api.api.api_id == api_id) else {
            return;
        };
        let is_same = |stage: &LiveStage| stage.policy.as_deref() == Some(&policy);
        if reads_files || !of_api.api.stages.iter().all(is_same) {
            let mut api = LiveApi::clone(&of_api.api);
            let policy = Arc::new(policy);
            for stage in &mut api.stages {
                stage.policy = Some(Arc::clone(&policy));
            }
            of_api.api = Arc::new(api);
        }
        of_api.settings = settings;
        self.standing.store(Arc::new(standing));
    }

    /// Tells all of them who their host is.
    pub(crate) fn start(&self, gateway: &Arc<Gateway>) {
        for mount in &self.mounts {
            mount.app.start(Arc::new(GatewayHost(Arc::downgrade(gateway))));
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<dyn App>> + '_ {
        self.mounts.iter().map(|mount| Arc::clone(&mount.app))
    }

    /// The APIs that exist without being defined.
    pub(crate) fn apis(&self) -> Vec<Arc<LiveApi>> {
        self.standing.load().iter().map(|standing| Arc::clone(&standing.api)).collect()
    }

    /// Settings of such an API.
    pub(crate) fn settings(&self, api_id: &str) -> Option<Arc<Settings>> {
        let standing = self.standing.load();
        let of_api = standing.iter().find(|standing| standing.api.api.api_id == api_id)?;
        Some(Arc::clone(&of_api.settings))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<dyn App>> {
        self.mounts.iter().map(|mount| &mount.app).find(|app| app.name() == name)
    }

    /// The application that a stage's `$connect` asks.
    pub(crate) fn of_stage(&self, stage: &Stage) -> Option<&Arc<dyn App>> {
        self.find(stage.deployment.as_ref()?.app.as_deref()?)
    }

    /// Where a handshake at this path belongs, whatever the host is.
    pub(crate) fn at(&self, path: &str) -> Option<&Mount> {
        if self.mounts.is_empty() {
            return None;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_here =
            |mount: &&Mount| mount.paths.iter().any(|known| known.strip_suffix('/').unwrap_or(known) == path);
        self.mounts.iter().find(is_here)
    }

    /// Who answers an HTTP call at this path.
    fn answering(&self, path: &str) -> Option<&Mount> {
        let is_here = |mount: &&Mount| {
            mount.http.iter().any(|known| match known.ends_with('/') {
                true => path.starts_with(known.as_str()),
                false => path == known,
            })
        };
        self.mounts.iter().find(is_here)
    }

    /// The path without what it has twice, if an application lives there.
    pub(crate) fn without_repetition(&self, path: &str) -> Option<String> {
        hint::without_repetition(path, |shorter| self.at(shorter).is_some())
    }
}

/// The definition behind a mount: three routes to one application.
fn api_of(mount: &Mount) -> LiveApi {
    let api = Api {
        api_id: mount.api_id.clone(),
        name: mount.app.name().to_owned(),
        protocol_type: "WEBSOCKET".to_owned(),
        // Everything goes to `$default`.
        route_selection_expression: "app".to_owned(),
        ..Api::default()
    };
    let route = |key: &str| Route {
        route_id: key.trim_start_matches('$').to_owned(),
        route_key: key.to_owned(),
        target: Some("integrations/app".to_owned()),
        authorization_type: "NONE".to_owned(),
        ..Route::default()
    };
    let integration = Integration {
        integration_id: "app".to_owned(),
        integration_type: "HTTP_PROXY".to_owned(),
        integration_uri: Some(format!("{APP_SCHEME}{}", mount.app.name())),
        ..Integration::default()
    };
    let definition = ApiDefinition {
        api: api.clone(),
        routes: ["$connect", "$default", "$disconnect"].map(route).to_vec(),
        integrations: vec![integration],
        ..ApiDefinition::default()
    };
    let stage = LiveStage {
        stage: StageDefinition { stage_name: mount.stage.clone(), ..StageDefinition::default() },
        deployment: Some(Arc::new(definition)),
        policy: Some(Arc::new(mount.policy.clone())),
    };
    LiveApi { api, stages: vec![stage] }
}

/// How the application of a stage words a refusal of the gateway's own.
pub(crate) fn reword(gateway: &Gateway, stage: &Stage, refused: &Refused<'_>) -> Option<Refusal> {
    let mut reworded = gateway.apps.of_stage(stage)?.refusal(refused)?;
    // Only how it is told is the application's.
    reworded.diagnosis = refused.diagnosis;
    if refused.is_dry_run {
        reworded.close_code = None;
    }
    Some(reworded)
}

/// The answer to a handshake in an application's words.
pub(crate) fn reply_of(told: &Refusal, connection_id: Option<ConnectionId>, request_id: RequestId) -> Reply {
    let body = match connection_id {
        Some(id) => error_body(&*told.message, id, "requestId", request_id),
        None => {
            serde_json::json!({ "message": told.message, "requestId": request_id.to_string() }).to_string()
        }
    };
    let mut reply = empty(told.status);
    *reply.body_mut() = http_body_util::Full::new(Bytes::from(body));
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(http::header::CONTENT_TYPE, json);
    refusal::set_retry_after(reply.headers_mut(), told.retry_after);
    reply
}

/// Answers an HTTP call that is an application's; gives it back when it is nobody's.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    client: &ClientAddress,
    request: HttpRequest<Incoming>,
) -> Result<Reply, Box<HttpRequest<Incoming>>> {
    let Some(mount) = gateway.apps.answering(request.uri().path()) else { return Err(Box::new(request)) };
    let request_id = gateway.request_id(now_millis());
    let (head, body) = request.into_parts();
    let mut reply = match push::read_body(body, mount.max_body).await {
        Err(refusal) => refusal.into_reply(),
        Ok(body) => {
            let request = Request {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                headers: head.headers,
                body,
                address: client.ip,
                request_id,
            };
            let app = Arc::clone(&mount.app);
            // A task of its own: a caller who leaves must not leave half of what was asked for.
            let answering = gateway.tasks.spawn(async move { app.request(request).await });
            match answering.await {
                Ok(response) => {
                    let mut reply = empty(response.status);
                    *reply.body_mut() = http_body_util::Full::new(response.body);
                    reply.headers_mut().extend(response.headers);
                    reply
                }
                Err(_) => {
                    gateway.notice(Notice::ConnectionPanicked { place: Place::default() });
                    crate::edge::json(500, &serde_json::json!({ "message": "Internal server error" }))
                }
            }
        }
    };
    if let Ok(id) = HeaderValue::from_str(&request_id.to_string()) {
        reply.headers_mut().insert("tidegate-request-id", id);
    }
    Ok(reply)
}

/// The gateway as applications see it.
#[derive(Debug)]
struct GatewayHost(Weak<Gateway>);

impl GatewayHost {
    fn stage(&self, api_id: &str, stage: &str) -> Option<(Arc<Gateway>, Arc<Stage>)> {
        let gateway = self.0.upgrade()?;
        let stage = gateway.stage(api_id, stage)?;
        Some((gateway, stage))
    }
}

fn unavailable() -> Box<Refusal> {
    Box::new(Refusal::new(503, "Service unavailable", Diagnosis::NODE_DRAINING))
}

impl Host for GatewayHost {
    fn send(&self, to: &[ConnectionId], text: Bytes) -> Sent {
        let mut sent = Sent::default();
        let Some(gateway) = self.0.upgrade() else { return sent };
        let message = OutboundMessage::text(text);
        let now = now_millis();
        for id in to {
            let Some(handle) = gateway.registry.find(*id) else {
                sent.gone += 1;
                continue;
            };
            match handle.push(&message, now) {
                Ok(()) => sent.delivered += 1,
                Err(PushRefusal::Full) => {
                    sent.slow += 1;
                    let limit = handle.stage.settings.data_plane.outbound_buffer_bytes;
                    handle.close(handle.too_slow(now).with("limit", limit));
                }
                Err(PushRefusal::Gone | PushRefusal::Pending) => sent.gone += 1,
            }
        }
        sent
    }

    fn publish<'a>(
        &'a self,
        api_id: &'a str,
        stage: &'a str,
        publish: Publish,
        caller: Facts,
    ) -> BoxFuture<'a, Option<PushResult>> {
        Box::pin(async move {
            let (gateway, stage) = self.stage(api_id, stage)?;
            let place = Place {
                api_id: Arc::clone(&stage.api_id),
                stage: Arc::clone(&stage.name),
                ..Place::default()
            };
            Some(gateway.push_to_many_for(&stage, publish, &place, caller).await)
        })
    }

    fn close(&self, connection: ConnectionId, code: u16, reason: &str, diagnosis: Diagnosis) -> bool {
        let Some(handle) = self.0.upgrade().and_then(|gateway| gateway.registry.find(connection)) else {
            return false;
        };
        let code = CloseCode::new(code).unwrap_or(CloseCode::POLICY_VIOLATION);
        handle.close(CloseCause::requested(CloseFrame::new(code, reason), diagnosis))
    }

    fn identify(
        &self,
        api_id: &str,
        stage: &str,
        headers: &HeaderMap,
    ) -> Result<Arc<Identity>, Box<Refusal>> {
        let Some((gateway, stage)) = self.stage(api_id, stage) else { return Err(unavailable()) };
        let Some(policy) = &stage.policy else { return Err(unavailable()) };
        // The header alone: a query stands in the logs of every proxy.
        let mut only = HeaderMap::new();
        for value in headers.get_all(AUTHORIZATION) {
            only.append(AUTHORIZATION, value.clone());
        }
        let handshake = Handshake {
            stage: &stage,
            policy,
            headers: &only,
            query: "",
            domain: "",
            address: std::net::IpAddr::from([0, 0, 0, 0]),
            now: now_millis(),
            keeps_facts: gateway.keeps_facts(),
        };
        admission::identify_bearer(&gateway, &handshake).map_err(|refused| {
            let status = match refused.diagnosis {
                Diagnosis::JWT_MISSING => 401,
                _ => refused.code.row().status,
            };
            let message = refused.text.unwrap_or(refused.code.row().message);
            let mut told = Refusal::new(status, message, refused.diagnosis);
            told.retry_after = refused.retry_after;
            told.detail = refused.detail;
            told.facts = refused.facts;
            Box::new(told)
        })
    }

    fn authorize(&self, api_id: &str, stage: &str, request: &Request) -> Result<String, Box<Refusal>> {
        let Some((gateway, stage)) = self.stage(api_id, stage) else { return Err(unavailable()) };
        push::authorize_call(&gateway, &stage, request)
    }

    fn last_heard(&self, connection: ConnectionId) -> Option<u64> {
        self.0.upgrade()?.registry.find(connection).map(|handle| handle.last_heard())
    }

    fn notice(&self, notice: Notice) {
        if let Some(gateway) = self.0.upgrade() {
            gateway.notice(notice);
        }
    }

    fn keeps_facts(&self) -> bool {
        self.0.upgrade().is_some_and(|gateway| gateway.keeps_facts())
    }

    fn now(&self) -> u64 {
        now_millis()
    }

    fn request_id(&self) -> RequestId {
        let now = now_millis();
        self.0.upgrade().map_or_else(|| RequestId::new(now, now), |gateway| gateway.request_id(now))
    }

    fn random(&self) -> u64 {
        self.0.upgrade().map_or_else(now_millis, |gateway| gateway.next_random())
    }
}
