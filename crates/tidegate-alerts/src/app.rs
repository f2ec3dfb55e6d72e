//! The application itself: what the gateway asks it about connections, and where its HTTP calls go.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Method;
use http::header::ORIGIN;
use tidegate_core::app::{
    App, Connect, Connected, End, Host, Message, Refusal, Refused, Reply, Request, Response,
};
use tidegate_core::channel::ChannelName;
use tidegate_core::context::ConnectionFacts;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::port::{BoxFuture, StoreError};
use tidegate_core::snapshot::Throttle;
use tidegate_store::sql::Database;

use crate::channels::{self, Denied};
use crate::delivery::{Arrival, Delivery, Opened, Since};
use crate::history::History;
use crate::idempotency::Idempotency;
use crate::positions::Positions;
use crate::rate::Rates;
use crate::refusal::{POLICY, Refusals};
use crate::settings::{OnText, Settings};
use crate::statistics::{Counters, Metrics};
use crate::user_check::{Checker, Directory, Standing};

/// What clients send to see whether somebody is there.
const PING: &str = "ping";

/// After which the guide's client tries again for the first time.
const FIRST_DELAY: Duration = Duration::from_secs(2);

/// What they get.
const PONG: &[u8] = b"pong";

/// The alerts application of one node.
pub struct Alerts {
    rules: ArcSwap<Rules>,
    pub(crate) delivery: Delivery,
    pub(crate) counters: Counters,
    pub(crate) positions: Positions,
    pub(crate) history: History,
    pub(crate) idempotency: Idempotency,
    pub(crate) rates: Rates<String>,
    checker: Option<Checker>,
    host: OnceLock<Arc<dyn Host>>,
}

/// Settings, and what is made of them: replaced as a whole while connections are open.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) settings: Settings,
    refusals: Refusals,
}

impl Rules {
    fn new(settings: Settings) -> Self {
        Self { refusals: Refusals::new(&settings), settings }
    }
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alerts")
            .field("settings", &self.rules().settings)
            .field("delivery", &self.delivery)
            .field("positions", &self.positions)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

/// A call of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call<'a> {
    Health,
    Publish,
    Position,
    Stats,
    Radius,
    Zone,
    Region,
    Everybody,
    History,
    Details(&'a str),
    Acknowledge(&'a str),
}

impl Call<'_> {
    fn method(self) -> Method {
        match self {
            Self::Health | Self::Stats | Self::History | Self::Details(_) => Method::GET,
            Self::Position => Method::PUT,
            _ => Method::POST,
        }
    }
}

/// Whether a path is one of the application's calls, so that no handshake can have it.
pub(crate) fn is_own_path(path: &str) -> bool {
    find(path).is_some()
}

fn find(path: &str) -> Option<Call<'_>> {
    let path = path.strip_suffix('/').unwrap_or(path);
    Some(match path {
        "/health" => Call::Health,
        "/api/alerts/publish" => Call::Publish,
        "/api/alerts/position" => Call::Position,
        "/api/alerts/stats" => Call::Stats,
        "/api/broadcast/radius" => Call::Radius,
        "/api/broadcast/zone" => Call::Zone,
        "/api/broadcast/region" => Call::Region,
        "/api/broadcast/all" => Call::Everybody,
        "/api/broadcast/history" => Call::History,
        _ => {
            let is_id = |id: &&str| !id.is_empty() && !id.contains('/');
            if let Some(rest) = path.strip_prefix("/api/broadcasts/") {
                Call::Acknowledge(rest.strip_suffix("/acknowledge").filter(is_id)?)
            } else {
                Call::Details(path.strip_prefix("/api/broadcast/").filter(is_id)?)
            }
        }
    })
}

impl Alerts {
    /// The application; `directory` answers the settings' user check, and `database` keeps broadcasts: without one they are
    /// forgotten at the end of the process.
    pub fn new(
        settings: Settings,
        directory: Option<Directory>,
        database: Option<Arc<dyn Database>>,
    ) -> Self {
        let throttle = (settings.publish_rate > 0.0)
            .then(|| Throttle { rate: settings.publish_rate, burst: settings.publish_rate.max(1.0) });
        let checker = settings.user_check.clone().zip(directory);
        Self {
            delivery: Delivery::new(settings.history),
            counters: Counters::default(),
            positions: Positions::default(),
            history: History::new(database),
            idempotency: Idempotency::default(),
            rates: Rates::new(throttle),
            checker: checker.map(|(check, directory)| Checker::new(check, directory)),
            host: OnceLock::new(),
            rules: ArcSwap::from_pointee(Rules::new(settings)),
        }
    }

    /// Other settings from now on. Connections stay, with the channels that they have. The paths, the history, the user check
    /// and the rate of publishers are those of the start whatever `settings` say. These have no [`Settings::problems`].
    pub fn change(&self, settings: Settings) {
        let before = self.rules();
        let Settings { mounts, history, user_check, publish_rate, .. } = before.settings.clone();
        self.rules.store(Arc::new(Rules::new(Settings {
            mounts,
            history,
            user_check,
            publish_rate,
            ..settings
        })));
    }

    /// Settings as they are now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Reads what an earlier process has written. Call it before the first request.
    ///
    /// # Errors
    /// The database refuses, or has something else in its tables.
    pub async fn restore(&self) -> Result<(), StoreError> {
        self.history.restore().await
    }

    /// Numbers for the node's metrics.
    pub fn metrics(&self) -> Metrics {
        self.counters.read(&self.delivery)
    }

    pub(crate) fn host(&self) -> Option<&Arc<dyn Host>> {
        self.host.get()
    }

    fn now(&self) -> u64 {
        self.host().map_or(0, |host| host.now())
    }

    fn refuse(&self, connect: &Connect<'_>, diagnosis: Diagnosis, facts: Facts) -> Box<Refusal> {
        if !connect.is_dry_run {
            self.counters.refused(diagnosis.as_str());
        }
        let address = connect.connection.source_ip;
        self.rules().refusals.own(diagnosis, facts, address, self.now(), connect.is_dry_run)
    }

    async fn admit(&self, connect: Connect<'_>) -> Result<Connected, Box<Refusal>> {
        let identity = connect.identity;
        let Some(user) = &identity.user else {
            let facts = Facts::none().with("claim", "sub");
            return Err(self.refuse(&connect, Diagnosis::JWT_CLAIMS_MISSING, facts));
        };
        let rules = self.rules();
        let granted =
            channels::grant(&rules.settings, identity, connect.query).map_err(|denied| match denied {
                Denied::Role => {
                    // The answer is the same; operators are told that the issuer names no role.
                    let diagnosis = match identity.has_default_role {
                        true => Diagnosis::ROLE_DEFAULTED,
                        false => Diagnosis::ROLE_INSUFFICIENT,
                    };
                    let facts = self.role_facts(&identity.roles).with("isDefault", identity.has_default_role);
                    self.refuse(&connect, diagnosis, facts)
                }
                Denied::Channel(name) => {
                    let mut facts = Facts::none().with("role", identity.roles.join(","));
                    facts.add_some("channel", name);
                    self.refuse(&connect, Diagnosis::CHANNEL_FORBIDDEN, facts)
                }
            })?;
        self.check_user(&connect, user).await?;
        if connect.is_dry_run {
            return Ok(Connected::default());
        }
        let arrival = Arrival {
            id: connect.connection.connection_id,
            user: Arc::clone(user),
            role: granted.role,
            roles: identity.roles.clone(),
            channels: granted.channels,
        };
        // The gateway's channels take fewer characters; those that fit can be reached by its own calls too.
        let channels = arrival.channels.iter().filter_map(|name| ChannelName::parse(name).ok()).collect();
        let first = self.delivery.join(arrival, since(connect.query).as_ref());
        Ok(Connected { channels, first })
    }

    fn role_facts(&self, roles: &[String]) -> Facts {
        let rules = self.rules();
        let may = |(_, channels): &(&String, &Vec<String>)| !channels.is_empty();
        let allowed: Vec<&str> =
            rules.settings.roles.iter().filter(may).map(|(role, _)| role.as_str()).collect();
        let by_case = |role: &String| allowed.iter().any(|other| other.eq_ignore_ascii_case(role));
        let differs_by_case = roles.iter().any(by_case);
        Facts::none()
            .with("role", roles.join(",").chars().take(128).collect::<String>())
            .with("allowedRoles", allowed)
            .with("differsByCase", differs_by_case)
    }

    async fn check_user(&self, connect: &Connect<'_>, user: &str) -> Result<(), Box<Refusal>> {
        let rules = self.rules();
        let Some(check) = &rules.settings.user_check else { return Ok(()) };
        let Some(checker) = &self.checker else {
            // Somebody wants users looked up and nobody can: that is a no.
            if !connect.identity.roles.iter().any(|role| check.roles.contains(role)) {
                return Ok(());
            }
            let facts = Facts::none().with("errorClass", "configuration");
            return Err(self.refuse(connect, Diagnosis::USER_CHECK_FAILED, facts));
        };
        if !checker.applies_to(&connect.identity.roles) {
            return Ok(());
        }
        let mut facts = Facts::none().with("check", checker.kind());
        facts.add_some("target", checker.target());
        let diagnosis = match checker.check(user, self.now(), connect.is_dry_run).await {
            Ok(Standing::Active) => return Ok(()),
            Ok(Standing::Inactive) => {
                facts.add("result", "inactive");
                Diagnosis::USER_INACTIVE
            }
            Ok(Standing::Absent) => {
                facts.add("result", "absent");
                Diagnosis::USER_NOT_FOUND
            }
            Err(failed) => {
                facts.add("errorClass", failed.class);
                facts.add_some("status", failed.status);
                facts.add("elapsedMs", failed.elapsed_ms);
                Diagnosis::USER_CHECK_FAILED
            }
        };
        facts.add("user", user);
        Err(self.refuse(connect, diagnosis, facts))
    }

    async fn answer(&self, request: Request) -> Response {
        let Some(call) = find(&request.path) else {
            return crate::call::not_found(&request);
        };
        if crate::pages::is_question(&request) {
            return crate::pages::answer(&call.method());
        }
        let is_head = call == Call::Health && request.method == Method::HEAD;
        if request.method != call.method() && !is_head {
            return crate::call::wrong_method(&request, &call.method());
        }
        match call {
            Call::Health => Response::json(200, r#"{"status":"ok"}"#),
            Call::Publish => self.publish(&request),
            Call::Position => self.put_position(&request),
            Call::Stats => self.stats(&request),
            Call::Radius => self.broadcast_radius(&request).await,
            Call::Zone => self.broadcast_zone(&request).await,
            Call::Region => self.broadcast_region(&request).await,
            Call::Everybody => self.broadcast_all(&request).await,
            Call::History => self.broadcast_history(&request),
            Call::Details(id) => self.broadcast_details(&request, id),
            Call::Acknowledge(id) => self.acknowledge(&request, id).await,
        }
    }
}

/// What a text is answered with, ahead of everything that waits: a heartbeat, or nothing at all.
fn reply_to(text: &str) -> Reply {
    let text = (text == PING).then(|| Bytes::from_static(PONG));
    Reply { text, is_urgent: true, problem: None }
}

/// `since` of a handshake: milliseconds since 1970, a time with its zone, or an `alert_id`.
fn since(query: &str) -> Option<Since> {
    let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "since")?;
    if value.is_empty() {
        return None;
    }
    // As many digits as a time in this century has; shorter numbers are ids.
    if value.len() == 13
        && let Ok(millis) = value.parse()
    {
        return Some(Since::Time(millis));
    }
    if let Ok(time) = value.parse::<jiff::Timestamp>() {
        return Some(Since::Time(u64::try_from(time.as_millisecond()).unwrap_or(0)));
    }
    Some(Since::Alert(value.into_owned()))
}

impl App for Alerts {
    fn name(&self) -> &'static str {
        crate::mount::API_ID
    }

    fn first_client_delay(&self) -> Option<Duration> {
        Some(FIRST_DELAY)
    }

    fn start(&self, host: Arc<dyn Host>) {
        // Started once; a second host would see connections that it does not have.
        _ = self.host.set(host);
    }

    fn refusal(&self, refused: &Refused<'_>) -> Option<Refusal> {
        if !refused.is_dry_run {
            self.counters.refused(refused.diagnosis.as_str());
        }
        self.rules().refusals.of_gateway(refused)
    }

    fn connect<'a>(&'a self, connect: Connect<'a>) -> BoxFuture<'a, Result<Connected, Box<Refusal>>> {
        Box::pin(self.admit(connect))
    }

    fn opened(&self, connection: &Arc<ConnectionFacts>) {
        let Some(host) = self.host() else { return };
        let id = connection.connection_id;
        loop {
            match self.delivery.opened(id) {
                Opened::Send(texts) => {
                    for text in texts {
                        host.send(&[id], text);
                    }
                }
                Opened::Done => return,
                Opened::Overflowed => {
                    host.close(id, POLICY, "Too slow", Diagnosis::CONN_SLOW_CONSUMER);
                    return;
                }
            }
        }
    }

    fn before_route(&self, text: &str) -> Option<Reply> {
        match self.rules().settings.on_text {
            OnText::Ignore => Some(reply_to(text)),
            OnText::Route => (text == PING).then(|| reply_to(text)),
        }
    }

    fn message<'a>(&'a self, message: Message<'a>) -> BoxFuture<'a, Reply> {
        // Of a connection that somebody else let in, or a text that the API's routes have led here.
        let reply = if message.is_binary { Reply::default() } else { reply_to(message.text) };
        Box::pin(std::future::ready(reply))
    }

    fn disconnect<'a>(&'a self, connection: &'a Arc<ConnectionFacts>, end: End<'a>) -> BoxFuture<'a, ()> {
        if self.delivery.leave(connection.connection_id) {
            self.counters.closed(end.code);
        }
        Box::pin(std::future::ready(()))
    }

    fn request(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(async move {
            let origin = request.headers.get(ORIGIN).cloned();
            let mut response = self.answer(request).await;
            crate::pages::admit(origin.as_ref(), &self.rules().settings.allowed_origins, &mut response);
            response
        })
    }
}
