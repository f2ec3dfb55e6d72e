//! `[apps.alerts]` of the configuration.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_core::policy::{self, REDACTED};

use crate::area::{self, Point};
use crate::channels;

/// Longest close reason, in bytes. Source: RFC 6455, section 5.5, less the code.
pub const MAX_REASON_BYTES: usize = 123;

/// Most alerts that a channel keeps for replay.
pub const MAX_HISTORY: usize = 1000;

/// Radius of a zone that has none, in km. Source: the backend that the application was made for.
pub const DEFAULT_ZONE_RADIUS_KM: f64 = 5.0;

/// What operators may choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Paths for handshakes, on every host. The first is the real one, the others are aliases.
    pub mounts: Vec<String>,
    /// How clients are told that they are refused.
    pub refusal: RefusalForm,
    /// What becomes of texts other than `ping`.
    pub on_text: OnText,
    /// Channels of each role. A role without channels may not connect.
    pub roles: BTreeMap<String, Vec<String>>,
    /// Other names of channels.
    pub aliases: BTreeMap<String, String>,
    /// Roles whose tokens may publish.
    pub publish_roles: Vec<String>,
    /// Roles that area broadcasts go to. Empty: everybody who is connected.
    pub broadcast_roles: Vec<String>,
    /// A connection ends with its token.
    pub close_on_expiry: bool,
    /// Claim that must be there and not empty beside the user's id. Empty: none.
    pub email_claim: String,
    /// What somebody with another role is told; 123 bytes at most.
    pub role_text: String,
    /// What somebody is told whom the user check does not know; 123 bytes at most.
    pub user_text: String,
    /// Whether users exist is asked somewhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_check: Option<UserCheck>,
    /// Origins that pages may have. Empty: any.
    pub allowed_origins: Vec<String>,
    /// A handshake without an `Origin` is refused too. Has an effect with [`Self::allowed_origins`] only.
    pub require_origin: bool,
    /// How often somebody may try to connect.
    pub attempts: Attempts,
    /// Connections at a time; 0 = no limit.
    pub max_connections: usize,
    /// Connections of one user at a time; 0 = no limit.
    pub max_connections_per_user: usize,
    /// Connections of one address at a time; 0 = no limit.
    pub max_connections_per_address: usize,
    /// Messages of one connection in a second; 0 = no limit.
    pub message_rate: f64,
    /// Messages of one connection at once.
    pub message_burst: f64,
    /// Calls that publish, of one credential in a second; 0 = no limit.
    pub publish_rate: f64,
    /// Seconds after which a connection is closed with 1001; 0 = never.
    pub max_duration: u64,
    /// Alerts that a channel keeps for `?since=`; 0 = none.
    pub history: usize,
    /// A second alert with the `alert_id` of one of the last ten minutes is not sent.
    pub dedupe: bool,
    /// Places that `POST /api/broadcast/zone` knows, by id.
    pub zones: BTreeMap<String, Zone>,
}

impl Default for Settings {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Self {
            mounts: list(&["/api/alerts/subscribe"]),
            refusal: RefusalForm::Http,
            on_text: OnText::Ignore,
            roles: BTreeMap::from([
                ("authority".to_owned(), list(&["authority"])),
                ("admin".to_owned(), list(&["authority", "admin"])),
            ]),
            aliases: BTreeMap::from([("police_dashboard".to_owned(), "authority".to_owned())]),
            publish_roles: list(&["authority", "admin", "service"]),
            broadcast_roles: Vec::new(),
            close_on_expiry: true,
            email_claim: "email".to_owned(),
            role_text: "Access denied: Authority role required".to_owned(),
            user_text: "Authority not found".to_owned(),
            user_check: None,
            allowed_origins: Vec::new(),
            require_origin: false,
            attempts: Attempts::default(),
            max_connections: 0,
            max_connections_per_user: 0,
            max_connections_per_address: 0,
            message_rate: 10.0,
            message_burst: 20.0,
            publish_rate: 100.0,
            max_duration: 0,
            history: 0,
            dedupe: false,
            zones: BTreeMap::new(),
        }
    }
}

/// `refusal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalForm {
    /// By HTTP status: clients that count their tries stop.
    Http,
    /// 101, then a close frame that pages can read.
    Close,
}

/// `on_text`: what becomes of texts other than `ping`, on every API whose `$connect` leads to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnText {
    /// Nothing: no reply, no error, whatever routes the API has.
    Ignore,
    /// They take the API's routes.
    Route,
}

/// `[apps.alerts.attempts]`: handshakes in a sliding window. Off by default, as one token may open a thousand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attempts {
    /// Handshakes of one address in the window; 0 = no limit.
    pub per_address: u32,
    /// Handshakes of one user in the window; 0 = no limit.
    pub per_user: u32,
    /// Refused handshakes of one address in the window; 0 = no limit of their own.
    pub failed_per_address: u32,
    /// Seconds.
    pub window: u64,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { per_address: 0, per_user: 0, failed_per_address: 0, window: 60 }
    }
}

/// `[apps.alerts.user_check]`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawUserCheck", into = "RawUserCheck")]
pub struct UserCheck {
    /// Where users are.
    pub source: UserSource,
    /// Roles whose users are looked up.
    pub roles: Vec<String>,
    /// Milliseconds after which a look-up has failed.
    pub timeout_ms: u64,
    /// Seconds for which a yes holds; a no is asked again each time.
    pub cache_seconds: u64,
}

/// `kind` of a user check, and what belongs to it.
#[derive(Clone, PartialEq)]
pub enum UserSource {
    /// A query on a SQLite file.
    Sqlite {
        /// The file.
        path: String,
        /// One parameter, `$1` or `?1`, the user's id. A row is a yes, unless its first column is `0`, false or null.
        query: String,
    },
    /// A query on a PostgreSQL server.
    Postgres {
        /// Address with user and password. Shown as `****`.
        url: String,
        /// As for SQLite.
        query: String,
    },
    /// A GET: 200 is a yes, 404 a no, everything else a failure.
    Http {
        /// Address with `{user}` where the encoded id goes.
        url: String,
        /// Member of the JSON answer that must be `true`: whether the user is active.
        active: Option<String>,
    },
}

/// [`UserCheck`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUserCheck {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    active: Option<String>,
    #[serde(default = "looked_up_roles")]
    roles: Vec<String>,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    #[serde(default = "cache_seconds")]
    cache_seconds: u64,
}

impl TryFrom<RawUserCheck> for UserCheck {
    type Error = &'static str;

    fn try_from(raw: RawUserCheck) -> Result<Self, &'static str> {
        let RawUserCheck { kind, path, url, query, active, roles, timeout_ms, cache_seconds } = raw;
        let source = match (kind.as_str(), path, url, query, active) {
            ("sqlite", Some(path), None, Some(query), None) => UserSource::Sqlite { path, query },
            ("postgres", None, Some(url), Some(query), None) => UserSource::Postgres { url, query },
            ("http", None, Some(url), None, active) => UserSource::Http { url, active },
            ("sqlite", ..) => return Err("kind `sqlite` has `path` and `query`"),
            ("postgres", ..) => return Err("kind `postgres` has `url` and `query`"),
            ("http", ..) => return Err("kind `http` has `url` and, if wanted, `active`"),
            _ => return Err("kind `sqlite`, `postgres` or `http` expected"),
        };
        Ok(Self { source, roles, timeout_ms, cache_seconds })
    }
}

impl From<UserCheck> for RawUserCheck {
    fn from(check: UserCheck) -> Self {
        let UserCheck { source, roles, timeout_ms, cache_seconds } = check;
        let kind = source.kind().to_owned();
        let (path, url, query, active) = match source {
            UserSource::Sqlite { path, query } => (Some(path), None, Some(query), None),
            UserSource::Postgres { query, .. } => (None, Some(REDACTED.to_owned()), Some(query), None),
            UserSource::Http { active, .. } => (None, Some(REDACTED.to_owned()), None, active),
        };
        Self { kind, path, url, query, active, roles, timeout_ms, cache_seconds }
    }
}

impl UserSource {
    /// Value of `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
            Self::Http { .. } => "http",
        }
    }
}

impl fmt::Debug for UserSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("UserSource");
        out.field("kind", &self.kind());
        match self {
            Self::Sqlite { path, query } => out.field("path", path).field("query", query),
            Self::Postgres { query, .. } => out.field("url", &REDACTED).field("query", query),
            // Keys of services stand in queries.
            Self::Http { active, .. } => out.field("url", &REDACTED).field("active", active),
        };
        out.finish()
    }
}

impl fmt::Debug for UserCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserCheck")
            .field("source", &self.source)
            .field("roles", &self.roles)
            .field("timeout_ms", &self.timeout_ms)
            .field("cache_seconds", &self.cache_seconds)
            .finish()
    }
}

fn looked_up_roles() -> Vec<String> {
    vec!["authority".to_owned()]
}

const fn timeout_ms() -> u64 {
    2000
}

const fn cache_seconds() -> u64 {
    60
}

/// A configured place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// For people.
    pub name: String,
    /// Latitude of its center, in degrees.
    pub lat: f64,
    /// Longitude of its center, in degrees.
    pub lon: f64,
    /// Its radius; [`DEFAULT_ZONE_RADIUS_KM`] where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radius_km: Option<f64>,
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, below `apps.alerts`: `mounts[0]`.
    pub path: String,
    /// What.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl Settings {
    /// Everything that is wrong. Empty: they can be used.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut wrong = |path: String, message: &str| {
            found.push(Problem { path, message: message.to_owned() });
        };
        if self.mounts.is_empty() {
            wrong("mounts".to_owned(), "a path expected");
        }
        for (idx, path) in self.mounts.iter().enumerate() {
            if !is_mount_path(path) {
                wrong(
                    format!("mounts[{idx}]"),
                    "a path like `/api/alerts/subscribe` expected, without `?`, `%`, `//` and `/` at its end",
                );
            } else if crate::app::is_own_path(path) {
                wrong(format!("mounts[{idx}]"), "the application has an HTTP call at this path");
            }
            if self.mounts.iter().take(idx).any(|other| other == path) {
                wrong(format!("mounts[{idx}]"), "the path is listed twice");
            }
        }
        if self.roles.values().all(Vec::is_empty) {
            wrong("roles".to_owned(), "no role has a channel, so nobody can connect");
        }
        for (role, names) in &self.roles {
            for (idx, name) in names.iter().enumerate().filter(|(_, name)| !is_declarable(name)) {
                let message = format!("`{name}`: {}", channels::RULE);
                wrong(format!("roles.{role}[{idx}]"), &message);
            }
        }
        for (alias, name) in &self.aliases {
            if !is_declarable(alias) || !is_declarable(name) {
                wrong(format!("aliases.{alias}"), channels::RULE);
            } else if self.aliases.contains_key(name) {
                wrong(format!("aliases.{alias}"), "an alias cannot name another alias");
            } else if self.roles.values().flatten().any(|declared| declared == alias) {
                wrong(format!("aliases.{alias}"), "a role has a channel of this name");
            }
        }
        for (path, text) in [("role_text", &self.role_text), ("user_text", &self.user_text)] {
            if text.is_empty() || text.len() > MAX_REASON_BYTES {
                wrong(path.to_owned(), "1 to 123 bytes expected: more does not fit into a close frame");
            }
        }
        for (path, number) in [
            ("message_rate", self.message_rate),
            ("message_burst", self.message_burst),
            ("publish_rate", self.publish_rate),
        ] {
            if !number.is_finite() || number < 0.0 {
                wrong(path.to_owned(), "0 or more expected");
            }
        }
        if self.history > MAX_HISTORY {
            wrong("history".to_owned(), "0 to 1000 expected");
        }
        if !(1..=86_400).contains(&self.attempts.window) {
            wrong("attempts.window".to_owned(), "1 to 86400 seconds expected");
        }
        for (id, zone) in &self.zones {
            if Point::new(zone.lat, zone.lon).is_none() {
                wrong(format!("zones.{id}"), "`lat` from -90 to 90 and `lon` from -180 to 180 expected");
            }
            if zone.radius_km.is_some_and(|radius| !area::is_radius(radius)) {
                wrong(format!("zones.{id}.radius_km"), "more than 0 expected");
            }
        }
        if let Some(check) = &self.user_check {
            check.problems(&mut wrong);
        }
        found
    }

    /// The channel that a name means.
    pub fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        self.aliases.get(name).map_or(name, String::as_str)
    }

    /// Whether the configuration names a channel, as such or as an alias of one.
    pub fn is_declared(&self, channel: &str) -> bool {
        let name = self.resolve(channel);
        self.roles.values().flatten().any(|declared| self.resolve(declared) == name)
    }

    /// What the gateway demands of attempts.
    pub(crate) fn attempts(&self) -> policy::Attempts {
        let Attempts { per_address, per_user, failed_per_address, window } = self.attempts;
        policy::Attempts { per_address, per_user, failed_per_address, window, ..policy::Attempts::default() }
    }
}

impl UserCheck {
    fn problems(&self, wrong: &mut impl FnMut(String, &str)) {
        let mut say = |name: &str, message: &str| wrong(format!("user_check.{name}"), message);
        match &self.source {
            UserSource::Sqlite { query, .. } | UserSource::Postgres { query, .. } => {
                if !(query.contains("$1") || query.contains("?1"))
                    || query.contains("$2")
                    || query.contains("?2")
                {
                    say("query", "exactly one parameter, `$1`, expected");
                }
            }
            UserSource::Http { url, .. } => {
                if !(url.starts_with("http://") || url.starts_with("https://")) || !url.contains("{user}") {
                    say("url", "an address like `https://host/users/{user}` expected");
                }
            }
        }
        if let UserSource::Sqlite { path, .. } = &self.source
            && path.is_empty()
        {
            say("path", "a file expected");
        }
        if let UserSource::Postgres { url, .. } = &self.source
            && !(url.starts_with("postgres://") || url.starts_with("postgresql://"))
        {
            say("url", "an address like `postgres://user:password@host/database` expected");
        }
        if !(1..=10_000).contains(&self.timeout_ms) {
            say("timeout_ms", "1 to 10000 expected");
        }
        if self.cache_seconds > 3600 {
            say("cache_seconds", "0 to 3600 expected");
        }
    }
}

fn is_mount_path(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains("//")
        && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'%'))
}

/// Names of users' own channels are made, not declared.
fn is_declarable(name: &str) -> bool {
    channels::is_name(name) && !name.starts_with(channels::USER_PREFIX)
}
