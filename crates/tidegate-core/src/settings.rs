//! Settings that an operator may change, each with the default that behaves like the real service.
//!
//! They apply to everything, or to one API where the configuration names it. Values are checked where they
//! enter (the binary's configuration); here they are what the data plane runs with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::snapshot::Throttle;

/// All settings of one API.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Sockets, frames and timers.
    pub data_plane: DataPlane,
    /// Towards backends.
    pub integration: Integration,
    /// `@connections`.
    pub management: Management,
    /// Handshakes.
    pub connect: Connect,
    /// What an API may offer beyond its definition.
    pub api: ApiExtras,
    /// Authorizers of `$connect` routes.
    pub authorizer: Authorizer,
    /// `$context` variables.
    pub context: Context,
    /// Access and execution logs.
    pub logs: Logs,
    /// Quotas of the whole node; those of single APIs do not count.
    pub limits: Limits,
    /// What definitions may say; of the whole node.
    pub control_plane: ControlPlane,
}

/// `[data_plane]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataPlane {
    /// Seconds without a message in either direction until close 1001; 0 = never.
    pub idle_timeout: u64,
    /// Seconds from the handshake until close 1001; 0 = never.
    pub max_duration: u64,
    /// Seconds that are taken off [`Self::max_duration`] at random, so that clients that came together do not
    /// leave together.
    pub duration_jitter: u64,
    /// Seconds between pings of the gateway; 0 = none.
    pub server_ping_interval: u64,
    /// Seconds until an unanswered ping ends the connection with 1006.
    pub server_ping_timeout: u64,
    /// Pings and pongs of the client restart the idle clock.
    pub ping_counts_as_activity: bool,
    /// Largest frame payload from a client, in bytes.
    pub max_frame_bytes: usize,
    /// Largest message in either direction, in bytes.
    pub max_message_bytes: usize,
    /// What happens to binary messages.
    pub binary: Binary,
    /// permessage-deflate.
    pub compression: Switch,
    /// What a client is told when its message fails.
    pub error_frames: ErrorFrames,
    /// A path below the stage that is not `@connections`.
    pub extra_path: ExtraPath,
    /// Integration calls of one connection at a time; more than 1 gives up their order.
    pub per_connection_concurrency: usize,
    /// Bytes that wait for one client; then pushes answer 429.
    pub outbound_buffer_bytes: usize,
    /// Further attempts of a `$disconnect` that failed.
    pub disconnect_retries: u32,
    /// By how much [`Self::idle_timeout`] and [`Self::max_duration`] pass faster, so that a test sees their end in
    /// seconds; 1 = as written.
    pub time_scale: u32,
}

impl Default for DataPlane {
    fn default() -> Self {
        Self {
            idle_timeout: 600,
            max_duration: 7200,
            duration_jitter: 0,
            server_ping_interval: 0,
            server_ping_timeout: 20,
            ping_counts_as_activity: true,
            max_frame_bytes: limits::MAX_FRAME_BYTES,
            max_message_bytes: limits::MAX_MESSAGE_BYTES,
            binary: Binary::Reject,
            compression: Switch::On,
            error_frames: ErrorFrames::Aws,
            extra_path: ExtraPath::Forbid,
            per_connection_concurrency: 1,
            outbound_buffer_bytes: 1_048_576,
            disconnect_retries: 0,
            time_scale: 1,
        }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// `data_plane.binary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binary {
    /// Close with 1003.
    Reject,
    /// Deliver as base64 text.
    Base64,
}

/// `data_plane.error_frames`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorFrames {
    /// As the real service.
    Aws,
    /// None at all.
    None,
    /// With response type and route key, for development.
    Detailed,
}

/// `data_plane.extra_path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtraPath {
    /// 403.
    Forbid,
    /// As if it were not there.
    Ignore,
}

/// `[integration]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Integration {
    /// `User-Agent` towards HTTP backends.
    pub user_agent: UserAgent,
    /// Replaces the `Host` that follows from the integration's URI.
    pub host_header: Option<String>,
    /// `connectionId`: sent to HTTP backends without a mapping.
    pub default_headers: Vec<String>,
    /// Names of handshake headers that go with messages and `$disconnect` too.
    pub forward_handshake: Vec<String>,
    /// Bodies of 4xx and 5xx answers on two-way routes.
    pub two_way_errors: TwoWayErrors,
    /// Longest `timeoutInMillis` that the control plane takes.
    pub max_timeout_ms: u32,
    /// Milliseconds for which an idle pooled connection to a backend is used again.
    pub pool_idle_ms: u64,
    /// Hosts that integrations may name, exact or `*.` for sub-domains; empty = any.
    pub allowed_hosts: Vec<String>,
    /// Forces `X-Forwarded-Proto: https` and port 443.
    pub forwarded_https: bool,
    /// Calls of one backend at a time; a further one waits for [`limits::OVERLOAD_WAIT`] and then fails.
    pub max_parallel: usize,
    /// Further attempts of a message's call that failed before an answer came; the same request id each time.
    pub retries: u32,
    /// Bodies of backends that refuse `$connect`, and debug pages and tracebacks in answers to messages, do not reach
    /// clients.
    pub hide_backend_errors: bool,
}

impl Default for Integration {
    fn default() -> Self {
        Self {
            user_agent: UserAgent::Both,
            host_header: None,
            default_headers: Vec::new(),
            forward_handshake: Vec::new(),
            two_way_errors: TwoWayErrors::Send,
            max_timeout_ms: 29_000,
            pool_idle_ms: limits::BACKEND_IDLE_TIMEOUT.as_millis() as u64,
            allowed_hosts: Vec::new(),
            forwarded_https: false,
            max_parallel: 10_000,
            retries: 0,
            hide_backend_errors: true,
        }
    }
}

/// `integration.user_agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserAgent {
    /// The client's on `$connect`, both joined by a comma later.
    Both,
    /// `AmazonAPIGateway_{apiId}` on every event.
    Gateway,
    /// The client's on every event.
    Client,
}

/// `integration.two_way_errors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TwoWayErrors {
    /// Sent like any other body.
    Send,
    /// Not sent.
    Drop,
}

/// `[management]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Management {
    /// A post to a connection whose handshake is under way.
    pub pending_posts: PendingPosts,
    /// Milliseconds that `hold` waits.
    pub hold_ms: u64,
    /// Status for an id of the wrong shape.
    pub invalid_id: InvalidId,
    /// `closeCode` and `closeReason` on DELETE.
    pub custom_close: bool,
    /// Seconds that closed ids are remembered.
    pub gone_memory: u64,
    /// Stage in front of `@connections` on a custom domain.
    pub accept_stage_on_domain: bool,
    /// `/@connections/{id}` on any host.
    pub resolve_by_connection_id: bool,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            pending_posts: PendingPosts::Gone,
            hold_ms: 3000,
            invalid_id: InvalidId::BadRequest,
            custom_close: false,
            gone_memory: 3600,
            accept_stage_on_domain: false,
            resolve_by_connection_id: false,
        }
    }
}

/// `management.invalid_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "u16")]
pub enum InvalidId {
    /// `400`: as the real service.
    BadRequest,
    /// `410`: clean-up code that knows only Gone then ends.
    Gone,
}

/// A status may be written with or without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u16),
    Text(String),
}

impl TryFrom<NumberOrText> for InvalidId {
    type Error = &'static str;

    fn try_from(value: NumberOrText) -> Result<Self, Self::Error> {
        let status = match value {
            NumberOrText::Number(number) => Some(number),
            NumberOrText::Text(text) => text.parse().ok(),
        };
        match status {
            Some(400) => Ok(Self::BadRequest),
            Some(410) => Ok(Self::Gone),
            _ => Err("400 or 410 expected"),
        }
    }
}

impl From<InvalidId> for u16 {
    fn from(value: InvalidId) -> Self {
        match value {
            InvalidId::BadRequest => 400,
            InvalidId::Gone => 410,
        }
    }
}

/// `management.pending_posts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingPosts {
    /// 410.
    Gone,
    /// Waits for the 101.
    Hold,
    /// 200; sent right after the 101.
    Queue,
}

/// `[connect]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connect {
    /// Accept, then close with 4000 + status, so that a page can see why it was refused.
    pub reject_as_close: bool,
    /// First message tells the client its connection id.
    pub announce_id: bool,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiExtras {
    /// Subprotocols that the gateway selects itself when there is no `$connect` integration.
    pub subprotocols: Vec<String>,
    /// Query parameter that may carry the API key in place of `x-api-key`, for browsers. Unset: none.
    pub api_key_query_parameter: Option<String>,
}

/// `[authorizer]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorizer {
    /// Milliseconds that an authorizer may take.
    pub timeout_ms: u64,
    /// `{"isAuthorized": true, "context": {}}` counts as an answer too.
    pub simple_responses: bool,
    /// Seconds after which a connection that an authorizer admitted is closed; 0 = never.
    pub max_age: u64,
}

impl Default for Authorizer {
    fn default() -> Self {
        Self { timeout_ms: 10_000, simple_responses: false, max_age: 0 }
    }
}

/// `[context]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Context {
    /// `domainName` of events, instead of the host that the client used.
    pub domain_name: Option<String>,
}

/// `[logs]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// Quotes and control characters in values are escaped where the format is JSON.
    pub escape: bool,
    /// Longest line of an execution log, in bytes.
    pub line_bytes: usize,
    /// Target for refused requests whose address leads to no stage; unset: they are in the journal alone. Of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<String>,
}

impl Default for Logs {
    fn default() -> Self {
        Self { escape: true, line_bytes: 1024, unmatched: None }
    }
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Whose quotas are in force.
    pub profile: Profile,
    /// Handshakes, messages and management calls a second, of all APIs together; 0 = any number.
    pub requests_per_second: u32,
    /// How many of them may come at once; 0 = as many as in a second.
    pub requests_burst: u32,
    /// Handshakes a second, of all APIs together; 0 = any number.
    pub connects_per_second: u32,
}

/// `limits.profile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Tidegate's own, which are wide.
    #[default]
    Tidegate,
    /// Those of the real service, as they are before a customer asks for more.
    Aws,
}

impl Limits {
    /// What is in force where nothing else is written. Source: "Quotas for configuring and running a WebSocket API".
    pub const AWS: Self = Self {
        profile: Profile::Aws,
        requests_per_second: 10_000,
        requests_burst: 5000,
        connects_per_second: 500,
    };

    /// The bucket of all requests, if there is one.
    pub fn requests(&self) -> Option<Throttle> {
        let burst = if self.requests_burst > 0 { self.requests_burst } else { self.requests_per_second };
        throttle(self.requests_per_second, burst)
    }

    /// The bucket of all handshakes, if there is one. It holds one second's worth.
    pub fn connects(&self) -> Option<Throttle> {
        throttle(self.connects_per_second, self.connects_per_second)
    }

    /// Most bytes that the header values of a handshake may have together, where they are counted apart from the rest of
    /// its head.
    pub fn header_value_bytes(&self) -> Option<usize> {
        (self.profile == Profile::Aws).then_some(limits::AWS_HEADER_VALUE_BYTES)
    }
}

fn throttle(rate: u32, burst: u32) -> Option<Throttle> {
    (rate > 0).then(|| Throttle { rate: f64::from(rate), burst: f64::from(burst) })
}

/// `[control_plane]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlPlane {
    /// Authorizers of type `JWT`, and routes `$connect` that use them.
    pub allow_jwt_authorizer: bool,
}

impl DataPlane {
    /// Idle limit, if there is one.
    pub fn idle(&self) -> Option<Duration> {
        self.scaled(self.idle_timeout)
    }

    /// Age limit, if there is one.
    pub fn age(&self) -> Option<Duration> {
        self.scaled(self.max_duration)
    }

    /// Most that may be taken off [`Self::age`], if anything.
    pub fn jitter(&self) -> Option<Duration> {
        self.scaled(self.duration_jitter)
    }

    /// Ping interval, if the gateway pings.
    pub fn ping(&self) -> Option<Duration> {
        seconds(self.server_ping_interval)
    }

    fn scaled(&self, value: u64) -> Option<Duration> {
        let millis = Duration::from_millis(1);
        seconds(value).map(|time| (time / self.time_scale.max(1)).max(millis))
    }
}

fn seconds(value: u64) -> Option<Duration> {
    (value > 0).then(|| Duration::from_secs(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_times_pass_faster_and_others_do_not() {
        let mut plane = DataPlane { server_ping_interval: 60, duration_jitter: 60, ..DataPlane::default() };
        let told = |plane: &DataPlane| [plane.idle(), plane.age(), plane.jitter(), plane.ping()];
        let millis = |millis: u64| Some(Duration::from_millis(millis));
        assert_eq!(told(&plane), [millis(600_000), millis(7_200_000), millis(60_000), millis(60_000)]);
        plane.time_scale = 1000;
        assert_eq!(told(&plane), [millis(600), millis(7200), millis(60), millis(60_000)]);
        plane.idle_timeout = 0;
        assert_eq!(plane.idle(), None);
        (plane.idle_timeout, plane.time_scale) = (1, u32::MAX);
        assert_eq!(plane.idle(), millis(1));
    }

    #[test]
    fn no_account_has_a_limit_unless_it_is_given_one() {
        let off = Limits::default();
        assert_eq!((off.requests(), off.connects(), off.header_value_bytes()), (None, None, None));
        let some = Limits { requests_per_second: 7, connects_per_second: 3, ..Limits::default() };
        assert_eq!(some.requests(), Some(Throttle { rate: 7.0, burst: 7.0 }));
        assert_eq!(some.connects(), Some(Throttle { rate: 3.0, burst: 3.0 }));
        assert_eq!(Limits::AWS.requests(), Some(Throttle { rate: 10_000.0, burst: 5000.0 }));
        assert_eq!(Limits::AWS.connects(), Some(Throttle { rate: 500.0, burst: 500.0 }));
        assert_eq!(Limits::AWS.header_value_bytes(), Some(10_240));
    }
}
