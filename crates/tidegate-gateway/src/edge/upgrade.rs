//! The handshake, from a resolved address to the 101.
//!
//! The order is the type: an [`UpgradeRequest`] is admitted, [`Admitted`] is accepted, and only
//! [`OpenConnection`] can be run. Each step consumes the one before, so nothing is answered 101 before
//! `$connect` has said yes, and nothing is accepted twice.

mod answer;
mod authorize;
mod open;
mod refuse;
mod request;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use http::header::HeaderMap;
use http::{Request, Uri};
use hyper::body::Incoming;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::error::ErrorCode;
use tidegate_core::id::RequestId;
use tidegate_core::lambda_event::Spelling;
use tidegate_core::notice::Notice;
use tidegate_core::snapshot::{Deployment, Stage};
use tidegate_core::{app, journal};
use tidegate_ws::{CloseFrame, DeflateParams};

use self::refuse::Rejection;
use super::address::Address;
use super::attempt::{Attempt, without_token};
use super::client_address::ClientAddress;
use super::refusal::{self, refuse};
use super::service::{Opened, Opening};
use super::{Reply, json};
use crate::admission::{self, Decision, Established, Outcome as AttemptOutcome};
use crate::channels::By;
use crate::clock::now_millis;
use crate::connection::handle::Handle;
use crate::gateway::Gateway;
use crate::integration::{self, Answer, AppAnswer, Failure};
use crate::signed_handshake;

/// A well-formed handshake for a deployed stage. Nobody has been asked yet.
struct UpgradeRequest {
    stage: Arc<Stage>,
    deployment: Arc<Deployment>,
    headers: HeaderMap,
    /// How the client wrote their names.
    spelling: Option<Spelling>,
    query: String,
    /// As it came; signatures are about it.
    uri: Uri,
    client: ClientAddress,
    domain_name: Arc<str>,
    accept_key: String,
    /// Subprotocols that may be answered: without the pair that carries a token, where somebody looks for one.
    offered: Vec<String>,
    has_bearer: bool,
    attempt: Attempt,
    progress: Arc<Progress>,
}

/// How far a handshake has come, for whoever is left when its task or its client is gone.
#[derive(Debug, Default)]
struct Progress {
    /// Milliseconds after which the client left, plus one; 0 = it is there.
    left_after: AtomicU64,
    /// Its identity is being established.
    is_authenticating: AtomicBool,
}

impl Progress {
    /// Milliseconds that the client waited before it left.
    fn left_after(&self) -> Option<u64> {
        self.left_after.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// Notes when the client leaves: the HTTP library then drops the future that waits for the answer.
struct Waiting {
    progress: Arc<Progress>,
    started: Instant,
    is_answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_answered {
            let waited = self.started.elapsed().as_millis() as u64;
            self.progress.left_after.store(waited + 1, Ordering::Relaxed);
        }
    }
}

/// A handshake that limits and identity allow; it has its connection id.
struct Admitted {
    request: UpgradeRequest,
    handle: Arc<Handle>,
    request_id: RequestId,
}

/// A handshake of which is known whose it is.
struct Identified {
    admitted: Admitted,
    established: Established,
}

/// `$connect` has said yes. Dropping it without running it ends the connection with 1006, so that the backend
/// hears of every connection that it has accepted.
pub(crate) struct OpenConnection {
    inner: Option<(Arc<Gateway>, Arc<Handle>)>,
    /// Set when the connection exists only to tell a page why it was refused.
    refusal: Option<CloseFrame>,
    deflate: Option<DeflateParams>,
    attempt: Attempt,
    progress: Arc<Progress>,
}

/// The answer and, when it is a 101, the connection.
type Outcome = Result<(Reply, OpenConnection), Reply>;

/// Answers a handshake. The accepted connection is left in `opened` for the owner of the socket.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    opened: &Opened,
    address: Address,
    client: ClientAddress,
    request: Request<Incoming>,
    attempt: Attempt,
) -> Reply {
    let upgrade = match UpgradeRequest::parse(gateway, address, client, request, attempt) {
        Ok(upgrade) => upgrade,
        Err(reply) => return reply,
    };
    let admitted = match upgrade.admit(gateway) {
        Ok(admitted) => admitted,
        Err(refused) => return deliver(opened, *refused),
    };
    let attempt = admitted.request.attempt.without_facts();
    let progress = Arc::clone(&admitted.request.progress);
    // A task of its own: when the client leaves, the HTTP library drops this future, but a `$connect` that has
    // begun runs to its end. What it opened is then dropped, and the backend hears of that.
    let run = {
        let gateway = Arc::clone(gateway);
        let unfinished = Unfinished { gateway: Arc::clone(&gateway), handle: Arc::clone(&admitted.handle) };
        async move {
            let _unfinished = unfinished;
            match admitted.establish(&gateway).await {
                Ok(identified) => identified.accept(gateway).await,
                Err(refused) => *refused,
            }
        }
    };
    let mut waiting =
        Waiting { progress: Arc::clone(&progress), started: attempt.started, is_answered: false };
    let accept = gateway.tasks.spawn(run);
    let ended = accept.await;
    waiting.is_answered = true;
    match ended {
        Ok(outcome) => deliver(opened, outcome),
        Err(_) => {
            let detail = match progress.is_authenticating.load(Ordering::Relaxed) {
                true => "the handshake task failed while the identity was established",
                false => "the handshake task failed",
            };
            refuse(gateway, attempt, ErrorCode::Internal, None, detail)
        }
    }
}

/// Says what a handshake like this would come to, without one: the same checks with the same limits, the authorizer's
/// included, but no token and no quota is used up, no backend is asked to connect, and nothing opens.
pub(crate) async fn check(
    gateway: &Arc<Gateway>,
    address: Address,
    client: ClientAddress,
    request: Request<Incoming>,
    attempt: Attempt,
) -> Reply {
    let admitted = match UpgradeRequest::parse(gateway, address, client, request, attempt) {
        Ok(upgrade) => upgrade.admit(gateway),
        Err(reply) => return reply,
    };
    let refused = match admitted {
        Ok(admitted) => {
            let _unfinished =
                Unfinished { gateway: Arc::clone(gateway), handle: Arc::clone(&admitted.handle) };
            match admitted.establish(gateway).await {
                Ok(identified) => match identified.pass(gateway).await {
                    Ok(reply) => return reply,
                    Err(refused) => refused,
                },
                Err(refused) => refused,
            }
        }
        Err(refused) => refused,
    };
    match *refused {
        Err(reply) => reply,
        // A refusal of a check is never told as a close.
        Ok((reply, _)) => reply,
    }
}

/// Leaves what was opened to the owner of the socket.
fn deliver(opened: &Opened, outcome: Outcome) -> Reply {
    match outcome {
        Ok((reply, connection)) => {
            *opened.lock() = Some(Opening::Connection(Box::new(connection)));
            reply
        }
        Err(reply) => reply,
    }
}

/// Frees the place of a handshake whose task ended without an outcome, because something in it panicked.
struct Unfinished {
    gateway: Arc<Gateway>,
    handle: Arc<Handle>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.handle.is_pending() {
            release(&self.gateway, &self.handle);
        }
    }
}

/// Frees the id of a handshake that does not become a connection, and everything it has joined.
fn release(gateway: &Gateway, handle: &Arc<Handle>) {
    let id = handle.facts.connection_id;
    handle.finish();
    gateway.leave_all(handle);
    gateway.disconnects.strike_out(id);
    gateway.registry.remove(id, Diagnosis::GONE_REFUSED, 0, now_millis());
    gateway.handshake_over.notify_waiters();
}

impl Admitted {
    /// Whose handshake it is, and whether they may. Without a policy nobody is asked.
    async fn establish(mut self, gateway: &Gateway) -> Result<Identified, Box<Outcome>> {
        let Some(policy) = self.request.stage.policy.clone() else {
            return Ok(Identified { admitted: self, established: Established::default() });
        };
        let started = Instant::now();
        self.request.progress.is_authenticating.store(true, Ordering::Relaxed);
        let handshake = self.request.handshake(&policy, now_millis());
        let established = admission::establish(gateway, &handshake, &self.handle).await;
        self.request.progress.is_authenticating.store(false, Ordering::Relaxed);
        self.request.attempt.note("tokenMs", milliseconds(started));
        match established {
            Ok(mut established) => {
                let attempt = &mut self.request.attempt;
                attempt.place.user = established.identity.user.clone();
                for Decision { kind, remark, facts } in std::mem::take(&mut established.decisions) {
                    gateway.notice(Notice::Decided { place: attempt.place.clone(), kind, remark, facts });
                }
                Ok(Identified { admitted: self, established })
            }
            Err(refused) => Err(Box::new(self.reject(gateway, Rejection::Native(refused)))),
        }
    }
}

impl Identified {
    /// Nothing refuses: the answer to a check. Whatever was joined for it is left.
    async fn pass(self, gateway: &Gateway) -> Result<Reply, Box<Outcome>> {
        let Self { mut admitted, established } = self;
        admitted.request.hide_bearer();
        let connect = admitted.request.deployment.routes.get("$connect").cloned();
        if let Some(route) = &connect
            && let Err(refusal) = admitted.authorize(gateway, route, &established).await
        {
            return Err(Box::new(admitted.reject(gateway, Rejection::Gateway(refusal))));
        }
        if let Some(app) = gateway.apps.of_stage(&admitted.request.stage) {
            let connect = app::Connect {
                connection: &admitted.handle.facts,
                request_id: admitted.request_id,
                identity: &established.identity,
                channels: &established.facts().channels,
                query: &admitted.request.query,
                headers: &admitted.request.headers,
                is_dry_run: true,
            };
            if let Err(refusal) = app.connect(connect).await {
                return Err(Box::new(admitted.reject(gateway, Rejection::App(*refusal))));
            }
        }
        release(gateway, &admitted.handle);
        let attempt = admitted.request.attempt;
        let mut reply = json(200, &serde_json::json!({ "ok": true }));
        refusal::set_request_id(gateway, &attempt, &mut reply);
        let (place, facts) = attempt.into_told();
        gateway.notice(Notice::Decided { place, kind: journal::Kind::Handshake, remark: None, facts });
        Ok(reply)
    }

    /// Asks `$connect` and prepares the answer.
    async fn accept(self, gateway: Arc<Gateway>) -> Outcome {
        let Self { mut admitted, established } = self;
        admitted.request.hide_bearer();
        admitted.accept(gateway, established).await
    }
}

impl UpgradeRequest {
    /// Takes a token out of the offered subprotocols: nobody behind the gateway needs it.
    fn hide_bearer(&mut self) {
        if self.has_bearer {
            let mut headers = std::mem::take(&mut self.headers);
            self.strip_token(&mut headers);
            self.headers = headers;
        }
    }
}

impl Admitted {
    async fn accept(mut self, gateway: Arc<Gateway>, mut established: Established) -> Outcome {
        let connect = self.request.deployment.routes.get("$connect").cloned();
        let mut of_app = None;
        if let Some(route) = &connect
            && let Err(refusal) = self.authorize(&gateway, route, &established).await
        {
            return self.reject(&gateway, Rejection::Gateway(refusal));
        }
        let address = self.request.client.ip;
        if let Err(refused) = admission::spend(&gateway, &mut established, address, &self.handle).await {
            return self.reject(&gateway, Rejection::Native(refused));
        }
        signed_handshake::strip_headers(&mut self.request.headers);
        if let Err(diagnosis) = gateway.note_for_disconnect(&self.handle).await {
            let failure =
                Failure::new(ErrorCode::IdentityUnavailable, diagnosis, "the connection cannot be noted");
            return self.reject(&gateway, Rejection::Gateway(failure.into()));
        }
        let answer = match &connect {
            None => None,
            Some(route) => {
                let event = self.connect_event(route, &established);
                let call = self.call(&event);
                let called = Instant::now();
                let answer = integration::call(&gateway, &route.integration, &call).await;
                self.request.attempt.note("integrationMs", milliseconds(called));
                if let Ok(answer) = &answer {
                    self.request.attempt.note("integrationStatus", answer.status);
                }
                match answer {
                    Ok(Answer { app: Some(said), .. }) => match *said {
                        AppAnswer::Connected(connected) => {
                            of_app = Some(connected);
                            None
                        }
                        AppAnswer::Refused(refusal) => {
                            return self.reject(&gateway, Rejection::App(refusal));
                        }
                    },
                    Ok(answer) if (200..300).contains(&answer.status) => Some(answer),
                    Ok(answer) => return self.reject(&gateway, Rejection::Backend(answer)),
                    Err(failure) => return self.reject(&gateway, Rejection::Gateway(failure.into())),
                }
            }
        };
        // The backend has said yes, so from here on it hears of the end, whatever happens.
        let inner = Some((Arc::clone(&gateway), Arc::clone(&self.handle)));
        let light = self.request.attempt.without_facts();
        let attempt = std::mem::replace(&mut self.request.attempt, light);
        let progress = Arc::clone(&self.request.progress);
        let mut connection = OpenConnection { inner, refusal: None, deflate: None, attempt, progress };
        let chosen = match &answer {
            Some(answer) => self.backend_subprotocol(&gateway, answer, established.subprotocol),
            None => {
                let chosen = self.request.own_subprotocol();
                if chosen.is_none() && established.subprotocol.is_none() {
                    self.note_subprotocol(&gateway, &[], None);
                }
                chosen
            }
        };
        // The one that carried the proof of identity is confirmed when nobody has chosen another.
        let chosen = chosen.or(established.subprotocol);
        let answered = answer.as_ref().map(|answer| &answer.headers);
        let (reply, deflate) = self.request.switching_protocols(self.request_id, answered, chosen);
        if let Some(chosen) = chosen {
            connection.attempt.note("chosenSubprotocol", without_token(chosen));
        }
        // Addressable before the 101 is visible: whoever has seen the 101 may push. Until the socket is handed
        // over, pushes wait in the outbox.
        self.handle.open(deflate);
        let connected = of_app.as_ref();
        for text in connected.into_iter().flat_map(|connected| &connected.first) {
            let _ = self.handle.push(&tidegate_ws::OutboundMessage::text(text.clone()), now_millis());
        }
        for channel in connected.into_iter().flat_map(|connected| &connected.channels) {
            let joined = gateway.put_into_channel(&self.handle, channel, By::Handshake);
            if let Err(refusal) = joined {
                gateway.note_refusal(&self.handle, channel, refusal.diagnosis, refusal.text);
            }
        }
        for channel in &established.channels {
            gateway.join_at_handshake(&self.handle, channel, &self.request.query).await;
        }
        if let Some(policy) = &self.request.stage.policy {
            let outcome = AttemptOutcome {
                status: 101,
                diagnosis: None,
                user: established.identity.user.as_deref(),
                connection_id: Some(self.handle.facts.connection_id),
            };
            let handshake = self.request.handshake(policy, self.handle.facts.connected_at);
            gateway.attempts.on_end(&handshake, &outcome, gateway.next_random());
        }
        if connected.is_some()
            && let Some(app) = gateway.apps.of_stage(&self.request.stage)
        {
            app.opened(&self.handle.facts);
        }
        gateway.handshake_over.notify_waiters();
        connection.deflate = deflate;
        Ok((reply, connection))
    }
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}
