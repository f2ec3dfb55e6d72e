//! The policy of a stage: whom it lets in, which channels they may use, how much of everything they get.
//!
//! A policy is Tidegate's own, not API Gateway's: a stage without one behaves like the real service. It is stored
//! beside the stage and live, as stage settings are; no deployment is needed. These are the wire types, the same in
//! TOML and in JSON; [`crate::compile`] makes [`crate::snapshot::StagePolicy`] of them.

mod check;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::snapshot::Throttle;

pub use check::{
    NO_BACKEND_SECRET, OPEN_PREFIX, ORIGINS_OPEN, PolicyProblem, REDACTED, UNLISTED_OPEN, WEAK_SECRET,
};

/// Everything that a stage demands and offers beyond API Gateway.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Who may connect.
    #[serde(skip_serializing_if = "is_default")]
    pub admission: Admission,
    /// One-time tokens of this stage.
    #[serde(skip_serializing_if = "is_default")]
    pub connect_tokens: ConnectTokens,
    /// JSON Web Tokens; needed when `admission.checks` has `jwt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// How often somebody may try to connect.
    #[serde(skip_serializing_if = "is_default")]
    pub attempts: Attempts,
    /// What one connection may send.
    #[serde(skip_serializing_if = "is_default")]
    pub messages: Messages,
    /// Channels, and who may use them.
    #[serde(skip_serializing_if = "is_default")]
    pub channels: Channels,
    /// Pushes to many.
    #[serde(skip_serializing_if = "is_default")]
    pub push: Push,
    /// Messages that clients send to the gateway itself.
    #[serde(skip_serializing_if = "is_default")]
    pub control: Control,
    /// Choosing a route by the name of a handler.
    #[serde(skip_serializing_if = "is_default")]
    pub handlers: Handlers,
    /// Towards the backend.
    #[serde(skip_serializing_if = "is_default")]
    pub backend: Backend,
}

/// A section that says nothing but defaults is not written.
fn is_default<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

/// `[admission]`: the checks of a handshake before its `$connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Which proofs of identity are looked for, in this order. Empty: nobody is asked who they are.
    pub checks: Vec<IdentityCheck>,
    /// A handshake without any of them is refused. Otherwise it is let in as nobody; a wrong one is always refused.
    pub required: bool,
    /// Origins that pages may have: `https://a.example`, `https://*.example.com` for sub-domains only. Empty: any.
    pub origins: Vec<String>,
    /// A handshake without an `Origin`, as programs send it, is let in though there is a list.
    pub allow_missing_origin: bool,
    /// Keys of the check `api_key`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<ClientKey>,
    /// Connections of the stage at a time; 0 = no limit.
    pub max_connections: usize,
    /// Connections of one client address (IPv6: of one /64) at a time; 0 = no limit.
    pub connections_per_address: usize,
    /// Connections of one user at a time; 0 = no limit.
    pub connections_per_user: usize,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            checks: Vec::new(),
            required: true,
            origins: Vec::new(),
            allow_missing_origin: true,
            api_keys: Vec::new(),
            max_connections: 0,
            connections_per_address: 0,
            connections_per_user: 0,
        }
    }
}

/// A client that proves itself by a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientKey {
    /// Its user id.
    pub user: String,
    /// SHA-256 of the key, 64 lower-case hex characters.
    pub sha256: String,
    /// Its roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// A proof of identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityCheck {
    /// A one-time connect token.
    Token,
    /// A JSON Web Token.
    Jwt,
    /// A key of [`Admission::api_keys`] in the header `x-api-key`: for programs.
    ApiKey,
}

/// `[connect_tokens]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectTokens {
    /// Query parameter that carries the token.
    pub parameter: String,
    /// Seconds a token lives unless its issuer says otherwise; 5 to 300.
    pub lifetime: u64,
    /// Tokens a user may get in a minute.
    pub per_minute: u32,
    /// Unspent tokens a user may have.
    pub max_unspent: u32,
    /// Cookie whose value a token with a session is bound to, such as `sessionid`. Empty: tokens are not bound.
    pub cookie: String,
    /// Browsers may exchange their backend session for a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<TokenEndpoint>,
}

impl Default for ConnectTokens {
    fn default() -> Self {
        Self {
            parameter: "ws_token".to_owned(),
            lifetime: 60,
            per_minute: 20,
            max_unspent: 100,
            cookie: String::new(),
            endpoint: None,
        }
    }
}

/// `[connect_tokens.endpoint]`: `POST {stage}/@token` asks the backend who the browser's user is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEndpoint {
    /// Where cookie and CSRF header go by POST. A 2xx answer with the JSON member `user` (text or number), and
    /// optionally `session`, `roles`, `claims` and `channels`, is a user.
    pub url: String,
    /// Origins that may ask, exact or `https://*.example.com`. Empty: only the origin of the gateway's own host.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Headers that are passed on beside `Cookie`.
    #[serde(default = "csrf_headers")]
    pub headers: Vec<String>,
}

fn csrf_headers() -> Vec<String> {
    vec!["x-csrftoken".to_owned(), "x-csrf-token".to_owned(), "x-xsrf-token".to_owned()]
}

/// `[jwt]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// Keys that verify; the first HMAC secret signs.
    pub keys: Vec<JwtKey>,
    /// Expected `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Expected member of `aud`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Seconds by which clocks may differ; 0 to 300.
    pub leeway: u64,
    /// A token without `exp` is refused.
    pub require_exp: bool,
    /// A connection ends with its token.
    pub close_on_expiry: bool,
    /// Where the values are.
    pub claims: JwtClaims,
    /// Role of a token without one; empty = none.
    pub default_role: String,
    /// Cookie that is looked at after query, header and subprotocol. Empty: none.
    pub cookie: String,
    /// Query parameter that carries the token.
    pub parameter: String,
    /// Symmetric secrets under 32 bytes, and published samples, are taken.
    pub allow_weak_secret: bool,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            issuer: None,
            audience: None,
            leeway: 30,
            require_exp: false,
            close_on_expiry: true,
            claims: JwtClaims::default(),
            default_role: String::new(),
            cookie: String::new(),
            parameter: "token".to_owned(),
            allow_weak_secret: false,
        }
    }
}

/// One source of keys; exactly one of `secret`, `secret_file`, `jwks_url` and `jwks_file`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtKey {
    /// HMAC secret as text. Shown as `****` to everyone who reads a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// File with the HMAC secret; white space at its end is not part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<String>,
    /// Address of a JSON Web Key Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// File with a JSON Web Key Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<String>,
    /// Permitted values of `alg`: `HS256`, `HS384`, `HS512`, `RS256` ..., `PS256` ..., `ES256`, `ES384`, `EdDSA`.
    pub algorithms: Vec<String>,
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("secret", &self.secret.as_ref().map(|_| REDACTED))
            .field("secret_file", &self.secret_file)
            .field("jwks_url", &self.jwks_url)
            .field("jwks_file", &self.jwks_file)
            .field("algorithms", &self.algorithms)
            .finish()
    }
}

/// `[jwt.claims]`: names of claims. A name with dots that no claim has is a path: `realm_access.roles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtClaims {
    /// The user's id; text or number.
    pub user: String,
    /// Further names for it: the first one that a token has is taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_fallback: Vec<String>,
    /// Text or list of texts.
    pub roles: String,
    /// Groups connections of one login; empty = none.
    pub session: String,
    /// Claims that must be there and not empty.
    pub required: Vec<String>,
}

impl Default for JwtClaims {
    fn default() -> Self {
        Self {
            user: "sub".to_owned(),
            user_fallback: Vec::new(),
            roles: "role".to_owned(),
            session: "sid".to_owned(),
            required: Vec::new(),
        }
    }
}

/// `[attempts]`: handshakes in a sliding window, counted by client address and by user.
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
    /// Attempts over the limit count too, so that whoever goes on stays out.
    pub penalty: bool,
    /// Nobody is refused; what would have been is reported.
    pub dry_run: bool,
    /// Networks that are not counted: `10.0.0.0/8`.
    pub exempt: Vec<String>,
    /// Leading bits of an IPv6 address that count as one address.
    pub ipv6_prefix: u8,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            per_address: 20,
            per_user: 20,
            failed_per_address: 0,
            window: 60,
            penalty: false,
            dry_run: false,
            exempt: Vec::new(),
            ipv6_prefix: 64,
        }
    }
}

/// `[messages]`: a token bucket for each connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Messages {
    /// Messages a second; 0 = no limit.
    pub rate: f64,
    /// Messages at once; 0 = one second's worth.
    pub burst: f64,
    /// What happens to a message over the limit.
    pub excess: Excess,
}

impl Messages {
    /// The bucket of one connection, for [`crate::throttle::Bucket`]; absent without a limit. It holds one message
    /// at least, or a rate under one a second would never let any pass.
    pub fn throttle(&self) -> Option<Throttle> {
        let burst = if self.burst > 0.0 { self.burst } else { self.rate };
        (self.rate > 0.0).then_some(Throttle { rate: self.rate, burst: burst.max(1.0) })
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self { rate: 0.0, burst: 0.0, excess: Excess::Close }
    }
}

/// `messages.excess`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    /// Close with 1008.
    Close,
    /// The message is dropped and the client told by an error frame.
    Drop,
}

/// `[channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Channels {
    /// Whether a channel that no rule names is open to everyone.
    pub unlisted: Unlisted,
    /// Channel of a handshake that names none. Empty: none.
    pub default: String,
    /// By custom domain name: takes the place of [`Self::default`] there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub default_by_domain: BTreeMap<String, String>,
    /// Query parameter of the handshake that names channels to join; it may be repeated. Empty: none is read.
    pub parameter: String,
    /// Channels of one connection at a time.
    pub max_per_connection: usize,
    /// Who may use which; the most specific rule wins.
    pub rules: Vec<ChannelRule>,
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            unlisted: Unlisted::Deny,
            default: String::new(),
            default_by_domain: BTreeMap::new(),
            parameter: "channel".to_owned(),
            max_per_connection: 32,
            rules: Vec::new(),
        }
    }
}

/// `channels.unlisted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// Nobody may use it.
    Deny,
    /// Everybody may join it; nobody may publish into it or see who is there.
    Allow,
}

/// One rule about channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRule {
    /// An exact name, `prefix*`, or either with `{user}`, `{session}` or `{claim.NAME}` in it.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Who may join.
    #[serde(default)]
    pub join: Access,
    /// Which clients may publish by a control message.
    #[serde(default)]
    pub publish: Access,
    /// Who may see who is there.
    #[serde(default)]
    pub presence: Access,
    /// Members who may see who is there are told who comes and goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub presence_events: bool,
    /// Messages are kept for late joiners and reconnects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// Members get messages as `{"type":"message","channel":...,"id":...,"data":...}` instead of the bare text, below
    /// [`Control::key`] where there is one. A client needs the id to resume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub envelope: bool,
}

/// Who has a right.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "RawAccess", into = "RawAccess")]
pub enum Access {
    /// `"deny"`: nobody.
    #[default]
    Deny,
    /// `"allow"`: everybody, also those who have not said who they are.
    Allow,
    /// `"authenticated"`: everybody who has a user id.
    Authenticated,
    /// `{ any = [["role:staff"], ["perm:a", "perm:b"]] }`: one of the lists, all of its terms. An empty list admits
    /// nobody. Terms: `role:NAME`, `perm:NAME` (member of the claim `perms` or `permissions`), `user:ID`,
    /// `claim:NAME=VALUE`.
    Any(Vec<Vec<String>>),
    /// `{ ask = "https://backend/may", cache = 30 }`: the backend decides, by POST; 2xx is yes.
    Ask {
        /// Where.
        url: String,
        /// Seconds for which an answer holds; 0 = every time.
        cache: u64,
    },
}

/// [`Access`] as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum RawAccess {
    Word(String),
    Table(AccessTable),
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AccessTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    any: Option<Vec<Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<u64>,
}

impl TryFrom<RawAccess> for Access {
    type Error = String;

    fn try_from(raw: RawAccess) -> Result<Self, String> {
        Ok(match raw {
            RawAccess::Word(word) => match word.as_str() {
                "deny" => Self::Deny,
                "allow" => Self::Allow,
                "authenticated" => Self::Authenticated,
                _ => {
                    return Err(format!(
                        "`{word}`: deny, allow, authenticated, a table with any or one with ask expected"
                    ));
                }
            },
            RawAccess::Table(AccessTable { any: Some(any), ask: None, cache: None }) => Self::Any(any),
            RawAccess::Table(AccessTable { any: None, ask: Some(url), cache }) => {
                Self::Ask { url, cache: cache.unwrap_or_default() }
            }
            RawAccess::Table(_) => return Err("either any, or ask and cache, expected".to_owned()),
        })
    }
}

impl From<Access> for RawAccess {
    fn from(access: Access) -> Self {
        let word = |word: &str| Self::Word(word.to_owned());
        match access {
            Access::Deny => word("deny"),
            Access::Allow => word("allow"),
            Access::Authenticated => word("authenticated"),
            Access::Any(any) => Self::Table(AccessTable { any: Some(any), ..AccessTable::default() }),
            Access::Ask { url, cache } => {
                let cache = (cache > 0).then_some(cache);
                Self::Table(AccessTable { ask: Some(url), cache, ..AccessTable::default() })
            }
        }
    }
}

/// What a channel remembers; whichever bound is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Messages; 1 to 10,000.
    pub count: usize,
    /// Seconds.
    pub age: u64,
    /// Whoever joins without an id gets what is kept.
    #[serde(default)]
    pub on_join: bool,
}

/// `[push]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    /// What happens to a member whose outbox is full.
    pub slow: SlowReader,
    /// Milliseconds that `wait` gives it.
    pub wait_ms: u64,
    /// Seconds for which an idempotency key is remembered.
    pub idempotency_window: u64,
    /// Largest push to many, in bytes; 0 = as for a single push.
    pub max_bytes: usize,
}

impl Default for Push {
    fn default() -> Self {
        Self { slow: SlowReader::Drop, wait_ms: 1000, idempotency_window: 300, max_bytes: 0 }
    }
}

/// `push.slow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowReader {
    /// The message does not reach it.
    Drop,
    /// Its connection is closed with 1008.
    Close,
    /// The caller waits up to `wait_ms` for room; nobody else does.
    Wait,
}

/// `[control]`: a message that is a JSON object with the member [`Self::key`] is for the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// The reserved member, such as `tidegate`. Empty: clients cannot talk to the gateway.
    pub key: String,
}

/// `[handlers]`: several selection expressions, and names that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Handlers {
    /// Tried in order, in place of the API's route selection expression. Empty: the API's.
    pub select: Vec<String>,
    /// Names that a message may choose; others go to `$default`. Empty: all.
    pub allowed: Vec<String>,
}

/// `[backend]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Sent in [`Self::secret_header`]: the first; the others are those that a backend may still accept. Shown as
    /// `****`.
    pub secrets: Vec<String>,
    /// Header for the secret.
    pub secret_header: String,
    /// Adds `Tidegate-Signature` over time, method, path, connection id and body, made with the first secret.
    pub sign: bool,
    /// `$disconnect` survives the gateway: it is kept on disk and repeated for up to 15 minutes.
    pub durable_disconnect: bool,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("secrets", &vec![REDACTED; self.secrets.len()])
            .field("secret_header", &self.secret_header)
            .field("sign", &self.sign)
            .field("durable_disconnect", &self.durable_disconnect)
            .finish()
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            secret_header: "x-ws-gateway-secret".to_owned(),
            sign: false,
            durable_disconnect: false,
        }
    }
}
