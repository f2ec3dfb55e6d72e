//! What all connections share, and what the binary holds of the data plane.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidegate_auth::TokenKeys;
use tidegate_core::app::{App, Mount};
use tidegate_core::compile::{self, Cache};
use tidegate_core::definition::Live;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::function::FunctionRunner;
use tidegate_core::id::{ConnectionId, RequestId};
use tidegate_core::journal::Facts;
use tidegate_core::log::LogSink;
use tidegate_core::notice::{Notice, NoticeSink, Place};
use tidegate_core::port::{DefinitionSink, RecordKind, RecordStore, StoreError};
use tidegate_core::snapshot::{Snapshot, Stage};
use tidegate_ws::CloseCode;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Attempts, JwtKeys};
use crate::api_keys::{ApiKeys, UsagePlans};
use crate::apps::Apps;
use crate::authorizer;
use crate::bans::Bans;
use crate::capture::Captures;
use crate::channels::Answers;
use crate::clock::now_millis;
use crate::connection::close_reason;
use crate::connection::handle::{CloseCause, Handle};
use crate::connection::unlisted_handlers::UnlistedHandlers;
use crate::disconnects::Disconnects;
use crate::edge::client_reference::ClientReferences;
use crate::edge::probe::Probes;
use crate::edge::remark::Remarks;
use crate::groups::Groups;
use crate::in_force::{InForce, NodeSettings};
use crate::integration::http::Backends;
use crate::lateness::{LastOverload, Lateness};
use crate::push::idempotency::Idempotency;
use crate::registry::Registry;
use crate::signed_handshake::SignatureClock;
use crate::throttle::{AccountLimits, Throttles};
use crate::timer_wheel::{Kind, TICK, TimerWheel};
use crate::tokens::Tokens;

/// Time that the close of each connection adds to a drain until [`NodeSettings::drain_spread`] is reached: a node with few
/// of them has no wave to spread.
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// Connections that came through while others were closed: how soon to look for them again.
const DRAIN_PAUSE: Duration = Duration::from_millis(50);

/// What the data plane needs from whoever starts it.
#[derive(Debug)]
pub struct GatewayConfig {
    /// Number of this node, 0 on its own.
    pub node: u8,
    /// Region that signatures must name.
    pub region: String,
    /// Account id in resource names.
    pub account_id: String,
    /// What may change while the node runs.
    pub node_settings: NodeSettings,
    /// TLS towards backends.
    pub backend_tls: rustls::ClientConfig,
    /// Where tokens, bans, attempts and undelivered events are kept.
    pub records: Arc<dyn RecordStore>,
    /// Keys under which tokens and sessions are hashed.
    pub token_keys: TokenKeys,
    /// Reads the files that policies name.
    pub read_file: ReadFile,
    /// Takes the lines of access and execution logs.
    pub logs: Arc<dyn LogSink>,
    /// Functions that run on this machine.
    pub functions: Option<Arc<dyn FunctionRunner>>,
    /// API keys of clients, and what they are good for.
    pub usage_plans: UsagePlans,
    /// The present time, for signatures of handshakes.
    pub signature_clock: SignatureClock,
    /// Applications in the process.
    pub mounts: Vec<Mount>,
}

/// Reads a whole file. The data plane opens none itself.
#[derive(Clone)]
pub struct ReadFile(pub Arc<Read>);

/// As [`std::fs::read`].
type Read = dyn Fn(&Path) -> std::io::Result<Vec<u8>> + Send + Sync;

impl ReadFile {
    pub(crate) fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        (self.0)(path)
    }
}

impl std::fmt::Debug for ReadFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadFile")
    }
}

/// The data plane.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) registry: Registry,
    pub(crate) wheel: Arc<TimerWheel>,
    pub(crate) backends: Backends,
    pub(crate) throttles: Throttles,
    pub(crate) account: AccountLimits,
    /// See [`Self::in_force`].
    pub(crate) in_force: ArcSwap<InForce>,
    /// Whoever holds one may ask an authorizer.
    pub(crate) authorizer_turns: tokio::sync::Semaphore,
    pub(crate) api_keys: ApiKeys,
    /// Pending posts that wait for a handshake to end look again when this is notified.
    pub(crate) handshake_over: tokio::sync::Notify,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) groups: Groups,
    pub(crate) tokens: Tokens,
    pub(crate) bans: Bans,
    pub(crate) attempts: Attempts,
    pub(crate) jwt: JwtKeys,
    /// Whose tokens authorizers of type `JWT` take.
    pub(crate) issuers: authorizer::Issuers,
    pub(crate) answers: Answers,
    pub(crate) idempotency: Idempotency,
    pub(crate) disconnects: Disconnects,
    pub(crate) unlisted_handlers: UnlistedHandlers,
    pub(crate) client_references: ClientReferences,
    pub(crate) remarks: Remarks,
    pub(crate) probes: Probes,
    pub(crate) apps: Apps,
    pub(crate) captures: Captures,
    /// For work that definitions start; itself, while it lives.
    this: Weak<Self>,
    pub(crate) tasks: TaskTracker,
    /// Listeners stop when it is cancelled.
    pub(crate) stop_accepting: CancellationToken,
    snapshot: ArcSwap<Snapshot>,
    compiled: Mutex<Cache>,
    notices: Arc<dyn NoticeSink>,
    is_draining: AtomicBool,
    /// Another process is known to follow this one.
    is_restarting: AtomicBool,
    entropy: AtomicU64,
    /// Milliseconds since 1970 of the last look for channels of nearly the same name.
    pub(crate) similar_looked_at: AtomicU64,
    last_overload: LastOverload,
}

impl Gateway {
    /// A data plane without APIs; they come through [`DefinitionSink::publish`].
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new(
        mut config: GatewayConfig,
        notices: Arc<dyn NoticeSink>,
    ) -> Result<Arc<Self>, getrandom::Error> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)?;
        let in_force = InForce::new(std::mem::take(&mut config.node_settings), &config.region);
        let all = Arc::clone(&in_force.node.settings.all);
        let idle = Duration::from_millis(all.integration.pool_idle_ms);
        let records = Arc::clone(&config.records);
        let mounts = std::mem::take(&mut config.mounts);
        let api_keys = ApiKeys::new(std::mem::take(&mut config.usage_plans), Arc::clone(&records));
        let gateway = Arc::new_cyclic(|this| Self {
            in_force: ArcSwap::from_pointee(in_force),
            apps: Apps::new(mounts),
            captures: Captures::default(),
            groups: Groups::new(),
            tokens: Tokens::new(config.token_keys.clone(), Arc::clone(&records)),
            bans: Bans::new(Arc::clone(&records)),
            attempts: Attempts::new(Arc::clone(&records)),
            jwt: JwtKeys::new(config.read_file.clone()),
            issuers: authorizer::Issuers::default(),
            answers: Answers::default(),
            idempotency: Idempotency::default(),
            disconnects: Disconnects::new(Arc::clone(&records)),
            unlisted_handlers: UnlistedHandlers::default(),
            client_references: ClientReferences::default(),
            remarks: Remarks::default(),
            probes: Probes::new(config.token_keys.clone()),
            records,
            this: Weak::clone(this),
            registry: Registry::new(config.node, installation(&config.token_keys), now_millis()),
            wheel: TimerWheel::new(now_millis()),
            backends: Backends::new(config.backend_tls.clone(), idle),
            throttles: Throttles::default(),
            account: AccountLimits::new(&all.limits, now_millis()),
            authorizer_turns: tokio::sync::Semaphore::new(authorizer::AT_A_TIME),
            api_keys,
            handshake_over: tokio::sync::Notify::new(),
            tasks: TaskTracker::new(),
            stop_accepting: CancellationToken::new(),
            snapshot: ArcSwap::default(),
            compiled: Mutex::default(),
            notices,
            is_draining: AtomicBool::new(false),
            is_restarting: AtomicBool::new(false),
            entropy: AtomicU64::new(u64::from_le_bytes(seed)),
            similar_looked_at: AtomicU64::new(0),
            last_overload: LastOverload::default(),
            config,
        });
        gateway.apps.start(&gateway);
        Ok(gateway)
    }

    /// The applications, for whoever runs their background work.
    pub fn apps(&self) -> Vec<Arc<dyn App>> {
        self.apps.all().collect()
    }

    /// Itself, for work that outlives a borrow; nothing while the last owner lets go of it.
    pub(crate) fn this(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// How many times faster fixed times pass, for tests; 1 otherwise.
    pub fn time_scale(&self) -> u64 {
        u64::from(self.in_force().node.settings.all.data_plane.time_scale.max(1))
    }

    /// Pending and open connections.
    pub fn n_connections(&self) -> usize {
        self.registry.len()
    }

    /// Whether new connections are refused because the node is going down.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Takes in what an earlier process left: tokens, bans. Call it before the first handshake.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn restore(&self) -> Result<(), StoreError> {
        for kind in [RecordKind::SpentToken, RecordKind::Token] {
            self.tokens.restore(self.records.load(kind).await?);
        }
        self.bans.restore(self.records.load(RecordKind::Ban).await?);
        self.api_keys.restore(self.records.load(RecordKind::Usage).await?);
        Ok(())
    }

    /// Fetches key sets and removes what is old until the gateway stops.
    pub async fn run_session_layer(self: Arc<Self>) {
        tokio::join!(self.jwt.run(&self), self.issuers.run(&self), self.run_clean_up());
    }

    /// Turns the timer wheel until the gateway stops.
    pub async fn run_timers(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lateness = Lateness::default();
        loop {
            let due = ticks.tick().await;
            self.look_at_load(&mut lateness, due.elapsed());
            self.backends.sweep(std::time::Instant::now());
            self.attempts.flush();
            let now = now_millis();
            self.captures.sweep(now);
            self.api_keys.flush(now, false);
            for (id, kind) in self.wheel.turn(now) {
                if let Some(handle) = self.registry.find(id) {
                    self.on_timer(&handle, kind, now);
                }
            }
        }
    }

    /// Reports that the clock comes round late again and again.
    fn look_at_load(&self, lateness: &mut Lateness, late: Duration) {
        let now = now_millis();
        let Some(overload) = lateness.on_tick(late, now) else { return };
        self.last_overload.set(now, overload);
        let longest = u64::try_from(overload.longest.as_millis()).unwrap_or(u64::MAX);
        let facts = Facts::none()
            .with("delayMs", longest)
            .with("count", overload.n_late)
            .with("connections", self.n_connections());
        self.notice(Notice::Controlled {
            place: Place::default(),
            what: "overload",
            actor: "gateway".to_owned(),
            refused: Some(Diagnosis::LIMIT_OVERLOAD),
            facts,
        });
    }

    /// How late tasks ran, in milliseconds, if the node was overloaded at `since` (milliseconds since 1970) or later.
    pub fn overload_since(&self, since: u64) -> Option<u64> {
        self.last_overload.since(since)
    }

    /// The node comes back after its [`Self::drain`]: connections are closed with 1012 instead of 1001.
    pub fn note_restart(&self) {
        self.is_restarting.store(true, Ordering::Relaxed);
    }

    /// Refuses new connections with 503, closes all others over [`NodeSettings::drain_spread`], stops listening, and waits
    /// until the last events are delivered or `deadline` has passed. Returns how many were still unfinished.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.is_draining.store(true, Ordering::Relaxed);
        let drain = async {
            self.close_over(self.in_force().node.drain_spread.min(deadline / 2)).await;
            // From here on nobody is told 503 any more, and those who come back go to another node.
            self.stop_accepting.cancel();
            // Handshakes that were under way may still open, so look again until nobody is left.
            while self.registry.len() > 0 {
                self.registry.for_each(|handle| self.close_for_restart(handle));
                tokio::time::sleep(DRAIN_PAUSE).await;
            }
            self.tasks.close();
            self.tasks.wait().await;
            self.attempts.flush();
            self.api_keys.flush(now_millis(), true);
            self.disconnects.settle().await;
        };
        let result = tokio::time::timeout(deadline, drain).await;
        self.stop_accepting.cancel();
        match result {
            Ok(()) => 0,
            Err(_) => self.tasks.len(),
        }
    }

    /// Closes everybody who is connected now, evenly over at most `spread`. The clients of an application that come back
    /// after a known time have half of that: whoever is closed first must not find the node still closing others.
    async fn close_over(&self, spread: Duration) {
        let mut by_spread: HashMap<Duration, Vec<Arc<Handle>>> = HashMap::new();
        self.registry.for_each(|handle| {
            let app = self.apps.of_stage(&handle.stage);
            let delay = app.and_then(|app| app.first_client_delay());
            let spread = delay.map_or(spread, |delay| spread.min(delay / 2));
            by_spread.entry(spread).or_default().push(Arc::clone(handle));
        });
        let mut due: Vec<(Duration, Arc<Handle>)> = Vec::new();
        for (spread, handles) in by_spread {
            let n = u32::try_from(handles.len()).unwrap_or(u32::MAX);
            let spread = spread.min(DRAIN_STEP.saturating_mul(n));
            due.extend(handles.into_iter().zip(0_u32..).map(|(handle, place)| {
                // In doubles: a `Duration` times a place can be more than one holds.
                (spread.mul_f64(f64::from(place) / f64::from(n)), handle)
            }));
        }
        due.sort_by_key(|(after, _)| *after);
        let begun = tokio::time::Instant::now();
        for (after, handle) in due {
            tokio::time::sleep_until(begun + after).await;
            self.close_for_restart(&handle);
        }
    }

    fn close_for_restart(&self, handle: &Arc<Handle>) {
        handle.close(match self.is_restarting.load(Ordering::Relaxed) {
            true => CloseCause::by_gateway(
                CloseCode::SERVICE_RESTART,
                close_reason::RESTART,
                Diagnosis::NODE_RESTART,
            ),
            false => going_away(close_reason::SERVICE_RESTART, Diagnosis::NODE_DRAINING),
        });
    }

    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The stage as it is now.
    pub(crate) fn stage(&self, api_id: &str, stage: &str) -> Option<Arc<Stage>> {
        self.snapshot().apis.get(api_id)?.stages.get(stage).cloned()
    }

    /// Hands a notice to whoever takes them; also for those who act on the node from outside.
    pub fn notice(&self, notice: Notice) {
        self.notices.take(notice);
    }

    /// Whether somebody keeps facts; else nobody gathers them.
    pub(crate) fn keeps_facts(&self) -> bool {
        self.notices.keeps_facts()
    }

    /// Whether the facts of an accepted handshake are kept.
    pub(crate) fn wants_success(&self, connection_id: ConnectionId) -> bool {
        self.notices.wants_success(connection_id)
    }

    /// Is the client one that is told why it is refused?
    pub(crate) fn is_debugged(&self, client: IpAddr) -> bool {
        self.in_force().node.debug_clients.iter().any(|network| network.contains(client))
    }

    /// What `gather` gives, if somebody keeps it.
    pub(crate) fn facts(&self, gather: impl FnOnce() -> Facts) -> Facts {
        if self.keeps_facts() { gather() } else { Facts::none() }
    }

    pub(crate) fn place(&self, handle: &Handle) -> Place {
        let facts = &handle.facts;
        Place {
            api_id: Arc::clone(&facts.api_id),
            stage: Arc::clone(&facts.stage),
            connection_id: Some(facts.connection_id),
            request_id: None,
            route_key: None,
            client_ref: handle.client_ref.clone(),
            user: handle.membership_if_any().and_then(|membership| membership.identity().user.clone()),
            address: Some(facts.source_ip),
        }
    }

    pub(crate) fn request_id(&self, now: u64) -> RequestId {
        RequestId::new(now, self.next_random())
    }

    /// `Root=1-{8 hex epoch seconds}-{24 hex}`.
    pub(crate) fn trace_id(&self, now: u64) -> String {
        let (high, low) = (self.next_random(), self.next_random() as u32);
        format!("Root=1-{:08x}-{high:016x}{low:08x}", now / 1000)
    }

    /// Unique for this process and unlike those of others; not secret.
    pub(crate) fn next_random(&self) -> u64 {
        // SplitMix64: a counter through a mixing function.
        let mut z = self.entropy.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A request id as a UUID, as those of management replies are.
    pub(crate) fn uuid(&self, request_id: RequestId) -> String {
        request_id.to_uuid(self.next_random())
    }

    pub(crate) fn is_trusted(&self, peer: IpAddr) -> bool {
        self.in_force().node.trusted_proxies.iter().any(|network| network.contains(peer))
    }

    /// Looks at a connection's limits, and puts it back where the next of them falls.
    fn on_timer(&self, handle: &Arc<Handle>, kind: Kind, now: u64) {
        let settings = &handle.stage.settings.data_plane;
        if kind == Kind::Stall {
            let since = handle.blocked_since();
            let limit = tidegate_core::limits::WRITE_STALL_TIMEOUT.as_millis() as u64;
            if since > 0 && now.saturating_sub(since) >= limit {
                handle.close(handle.too_slow(now).with("limit", limit / 1000));
            } else if since > 0 {
                self.wheel.schedule(handle.facts.connection_id, Kind::Stall, since + limit);
            } else {
                handle.release_stall_entry();
                // Blocked again between the look and the release: whoever comes second schedules.
                let since = handle.blocked_since();
                if since > 0 && handle.claim_stall_entry() {
                    self.wheel.schedule(handle.facts.connection_id, Kind::Stall, since + limit);
                }
            }
            return;
        }
        if now >= handle.age_deadline {
            let mut cause = going_away(close_reason::GOING_AWAY, Diagnosis::CLOSE_MAX_DURATION)
                .with("limit", in_seconds(settings.age().unwrap_or_default()));
            cause.gone = Diagnosis::GONE_MAX_AGE;
            handle.close(cause);
            return;
        }
        let mut next = handle.age_deadline;
        let expires_at = handle.membership_if_any().and_then(|membership| membership.identity().expires_at);
        if let Some(expires_at) = expires_at {
            if now >= expires_at {
                let reason = close_reason::TOKEN_EXPIRED;
                handle.close(CloseCause::policy_violation(reason, Diagnosis::CLOSE_TOKEN_EXPIRED));
                return;
            }
            next = next.min(expires_at);
        }
        if let Some(ends_at) = handle.authorization_ends_at() {
            if now >= ends_at {
                let reason = close_reason::AUTHORIZATION_EXPIRED;
                let cause = CloseCause::policy_violation(reason, Diagnosis::CLOSE_AUTHORIZATION_EXPIRED);
                handle.close(cause.with("limit", handle.stage.settings.authorizer.max_age));
                return;
            }
            next = next.min(ends_at);
        }
        if let Some(idle) = settings.idle() {
            let deadline = handle.last_active() + idle.as_millis() as u64;
            if now >= deadline {
                let mut cause = going_away(close_reason::GOING_AWAY, Diagnosis::CLOSE_IDLE_TIMEOUT)
                    .with("limit", in_seconds(idle));
                cause.gone = Diagnosis::GONE_IDLE;
                handle.close(cause);
                return;
            }
            next = next.min(deadline);
        }
        if let Some(interval) = settings.ping() {
            let pinged_at = handle.pinged_at();
            let timeout = settings.server_ping_timeout * 1000;
            if pinged_at > 0 && now >= pinged_at + timeout {
                let cause = CloseCause::lost(Diagnosis::CONN_PING_TIMEOUT);
                handle.close(cause.with("limit", settings.server_ping_timeout));
                return;
            }
            if pinged_at == 0 {
                handle.set_pinged_at(now);
                handle.push_control(tidegate_ws::ping(b""));
            }
            let wait = if pinged_at == 0 { interval.as_millis() as u64 } else { timeout };
            next = next.min(now + wait.min(interval.as_millis() as u64).max(1));
        }
        self.wheel.schedule(handle.facts.connection_id, Kind::Limits, next);
    }

    pub(crate) fn first_deadline(&self, handle: &Handle) -> u64 {
        let settings = &handle.stage.settings.data_plane;
        let opened = handle.facts.connected_at;
        let expires_at = handle.membership_if_any().and_then(|membership| membership.identity().expires_at);
        [settings.idle(), settings.ping()]
            .into_iter()
            .flatten()
            .map(|limit| opened + limit.as_millis() as u64)
            .chain(expires_at)
            .chain(handle.authorization_ends_at())
            .fold(handle.age_deadline, u64::min)
    }
}

/// Whole seconds where there are no parts of one.
fn in_seconds(time: Duration) -> serde_json::Value {
    if time.subsec_nanos() == 0 { time.as_secs().into() } else { time.as_secs_f64().into() }
}

/// What tells ids of this installation from those of others; the same for all its processes.
fn installation(keys: &TokenKeys) -> u64 {
    let hash = keys.hash_session("tidegate connection ids");
    // FNV-1a over a keyed hash: the text is as long as any key, and nobody sees the result.
    hash.as_str().bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Stages whose policy is another one than before.
fn changed_policies(before: &Snapshot, after: &Snapshot) -> HashSet<(Arc<str>, Arc<str>)> {
    let policy_of = |snapshot: &Snapshot, stage: &Stage| {
        let stage = snapshot.apis.get(&stage.api_id)?.stages.get(&stage.name)?;
        stage.policy.as_ref().map(|policy| Arc::clone(&policy.policy))
    };
    let is_same = |stage: &Stage| match (policy_of(before, stage), policy_of(after, stage)) {
        (None, None) => true,
        (Some(before), Some(after)) => Arc::ptr_eq(&before, &after),
        _ => false,
    };
    let stages = before.apis.values().flat_map(|api| api.stages.values());
    stages
        .filter(|stage| !is_same(stage))
        .map(|stage| (Arc::clone(&stage.api_id), Arc::clone(&stage.name)))
        .collect()
}

/// A close by the gateway with 1001.
pub(crate) fn going_away(reason: &str, diagnosis: Diagnosis) -> CloseCause {
    CloseCause::by_gateway(CloseCode::GOING_AWAY, reason, diagnosis)
}

impl DefinitionSink for Gateway {
    fn publish(&self, mut live: Live) {
        // An API of this id that somebody has defined is hidden: control plane ids are never so short.
        live.apis.extend(self.apps.apis());
        let in_force = self.in_force();
        let settings =
            |api_id: &str| self.apps.settings(api_id).unwrap_or_else(|| in_force.node.settings.get(api_id));
        let snapshot = Arc::new(compile::compile(&live, &settings, &mut self.compiled.lock()));
        self.jwt.update(&snapshot);
        self.issuers.update(&snapshot);
        let before = self.snapshot.swap(Arc::clone(&snapshot));
        let mut changed = changed_policies(&before, &snapshot);
        // There the application gives channels, and no rule of a policy would know them.
        changed.retain(|(api_id, _)| self.apps.settings(api_id).is_none());
        if let Some(this) = self.this.upgrade().filter(|_| !changed.is_empty()) {
            this.policies_changed(changed);
        }
        let is_removed = |api_id: &str, stage: &str| {
            !snapshot.apis.get(api_id).is_some_and(|api| api.stages.contains_key(stage))
        };
        let some_removed =
            before.apis.values().any(|api| api.stages.keys().any(|stage| is_removed(&api.api_id, stage)));
        if some_removed {
            self.registry.for_each(|handle| {
                if is_removed(&handle.facts.api_id, &handle.facts.stage) {
                    handle.close(going_away(close_reason::GOING_AWAY, Diagnosis::API_BEING_DELETED));
                }
            });
        }
    }
}
