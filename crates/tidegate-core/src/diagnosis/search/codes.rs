//! Close codes and statuses: what they mean here and what they lead to.

use super::super::Diagnosis;
use super::{Lead, follow};

/// A close code, as clients and browsers report it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode {
    /// 1000 to 4999.
    pub code: u16,
    /// Who may send it here.
    pub sent_by: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// What to consider, in this order.
    pub causes: &'static [Diagnosis],
    /// Symptoms (1 to 38) whose causes come after those.
    pub symptoms: &'static [u8],
    /// Symptoms to consider first when the connection never opened.
    pub never_opened: &'static [u8],
}

impl CloseCode {
    /// The causes when the connection had opened, those of the symptoms after the named ones.
    pub fn causes_after_open(&self) -> Vec<Diagnosis> {
        let named = self.causes.iter().copied().map(Lead::Cause);
        let symptoms = self.symptoms.iter().copied().map(Lead::Symptom);
        follow(&named.chain(symptoms).collect::<Vec<_>>())
    }

    /// Every cause: those after opening, then those of a connection that never opened.
    pub fn all_causes(&self) -> Vec<Diagnosis> {
        let named = self.causes.iter().copied().map(Lead::Cause);
        let symptoms = self.symptoms.iter().chain(self.never_opened).copied().map(Lead::Symptom);
        follow(&named.chain(symptoms).collect::<Vec<_>>())
    }
}

macro_rules! close_codes {
    ($($code:literal $sent_by:literal $meaning:literal
        [$($cause:ident),*] symptoms [$($symptom:literal),*] never_opened [$($never:literal),*];)*) => {
        /// All close codes that have a meaning here, in their order.
        pub const CLOSE_CODES: &[CloseCode] = &[$(CloseCode {
            code: $code,
            sent_by: $sent_by,
            meaning: $meaning,
            causes: &[$(Diagnosis::$cause),*],
            symptoms: &[$($symptom),*],
            never_opened: &[$($never),*],
        }),*];
    };
}

close_codes! {
    1000 "the client; the gateway only when the backend deletes the connection"
        "closed normally; nothing is wrong"
        [GONE_CLIENT_CLOSED, CLIENT_NO_RECONNECT, CLOSE_BACKEND_REQUESTED] symptoms [] never_opened [];
    1001 "the gateway, the client, a CDN"
        "one side goes away: idle limit, age limit, restart, deleted API, page left; reconnect"
        [CLOSE_IDLE_TIMEOUT, CLOSE_MAX_DURATION, NODE_DRAINING, API_BEING_DELETED, CLIENT_PAGE_LEFT, PROXY_CDN_RESTART]
        symptoms [] never_opened [];
    1002 "either side"
        "somebody broke the WebSocket protocol, often a proxy in between"
        [PROTOCOL_VIOLATION, PROXY_DEFLATE_BROKEN, PROXY_INJECTED_BYTES, PROXY_INSPECTION] symptoms [] never_opened [];
    1003 "the gateway"
        "binary messages are not supported; send text, or set data_plane.binary = \"base64\""
        [MESSAGE_BINARY] symptoms [] never_opened [];
    1005 "nobody: the client's own word for a close frame without a code"
        "closed without a code"
        [GONE_CLIENT_CLOSED] symptoms [] never_opened [];
    1006 "nobody: the client's own word for no close frame at all"
        "no close frame came: the handshake was refused, or the connection was lost"
        [PROXY_IDLE_60, CONN_PING_TIMEOUT, CONN_RESET, NODE_CRASH, APP_DOUBLE_ACCEPT, PROXY_RELOAD]
        symptoms [] never_opened [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
    1007 "the gateway"
        "a text message was not UTF-8"
        [MESSAGE_NOT_UTF8] symptoms [] never_opened [];
    1008 "the gateway"
        "ended by a rule: a token or session ended, too many messages, or too slow a reader"
        [CLOSE_REFUSED_AFTER_OPEN, CLOSE_TOKEN_EXPIRED, CLOSE_ACCESS_REVOKED, RATELIMIT_MESSAGES, CONN_SLOW_CONSUMER,
            CLOSE_SESSION_ENDED]
        symptoms [] never_opened [];
    1009 "the gateway"
        "a frame over data_plane.max_frame_bytes or a message over data_plane.max_message_bytes"
        [MESSAGE_FRAME_TOO_LARGE, MESSAGE_TOO_LARGE, MESSAGE_INFLATE_LIMIT] symptoms [] never_opened [];
    1010 "the client"
        "the client wanted an extension that the answer did not confirm"
        [PROXY_DEFLATE_BROKEN] symptoms [] never_opened [];
    1011 "the gateway, Python clients, old servers"
        "an internal error of the side that closed"
        [INTERNAL, USER_CHECK_FAILED, CLIENT_KEEPALIVE_1011, APP_EXCEPTION_AFTER_ACCEPT] symptoms [] never_opened [];
    1012 "the gateway"
        "the server restarts; reconnect"
        [NODE_RESTART] symptoms [] never_opened [];
    1013 "the gateway"
        "the server is too busy; try again later"
        [LIMIT_CONNECTIONS, LIMIT_OVERLOAD] symptoms [] never_opened [];
    1015 "nobody: the client's own word for a failed TLS handshake"
        "TLS failed before anything else happened"
        [] symptoms [2] never_opened [];
    4001 "chat"
        "authentication failed"
        [CHAT_AUTH_FAILED] symptoms [] never_opened [];
    4002 "chat, as a message only; as a close code it comes from another server"
        "the user may not do this in the room"
        [] symptoms [27] never_opened [5];
    4003 "chat, as a message only; as a close code it comes from another server"
        "the message is not as the chat expects it"
        [] symptoms [27] never_opened [5];
    4004 "chat, as a message only; as a close code it comes from another server"
        "the room or message does not exist"
        [] symptoms [27] never_opened [5];
    4005 "chat, as a message only; as a close code it comes from another server"
        "it exists already"
        [] symptoms [27] never_opened [5];
    4006 "chat, as a message only; as a close code it comes from another server"
        "an internal error of the chat"
        [] symptoms [27] never_opened [5];
}

/// What is known about a close code.
pub fn close_code(code: u16) -> Option<&'static CloseCode> {
    CLOSE_CODES.iter().find(|row| row.code == code)
}

/// The handshake status behind a close code of `connect.reject_as_close`, which is 4000 + status.
pub const fn refused_with(code: u16) -> Option<u16> {
    match code {
        4400..=4599 => Some(code - 4000),
        _ => None,
    }
}

/// A status of a handshake's answer, or of a call of the management API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// 200 to 504.
    pub status: u16,
    /// What it means for a WebSocket handshake.
    pub meaning: &'static str,
    /// What to consider for a handshake, in this order.
    pub leads: &'static [Lead],
    /// What to consider for a call of the management API.
    pub management: &'static [Lead],
}

impl Status {
    /// The causes of a handshake that was answered so, symptoms and families in the order of the catalogue.
    pub fn causes(&self) -> Vec<Diagnosis> {
        follow(self.leads)
    }

    /// The causes of a call of the management API that was answered so.
    pub fn management_causes(&self) -> Vec<Diagnosis> {
        follow(self.management)
    }
}

macro_rules! statuses {
    (@lead $cause:ident) => { Lead::Cause(Diagnosis::$cause) };
    (@lead $symptom:literal) => { Lead::Symptom($symptom) };
    (@lead ($family:literal)) => { Lead::Family($family) };
    ($($status:literal $meaning:literal [$($lead:tt)*] management [$($call:tt)*];)*) => {
        /// All statuses that have a meaning here, in their order.
        pub const STATUSES: &[Status] = &[$(Status {
            status: $status,
            meaning: $meaning,
            leads: &[$(statuses!(@lead $lead)),*],
            management: &[$(statuses!(@lead $call)),*],
        }),*];
    };
}

// A number is a symptom, a word in parentheses a family of ids.
statuses! {
    200 "something that is no WebSocket server answered with a page"
        [PROXY_HTML_200] management [];
    301 "a redirect; WebSocket clients do not follow it"
        [PROXY_REDIRECT] management [];
    302 "a redirect; WebSocket clients do not follow it"
        [PROXY_REDIRECT] management [];
    307 "a redirect; WebSocket clients do not follow it"
        [PROXY_REDIRECT] management [];
    308 "a redirect; WebSocket clients do not follow it"
        [PROXY_REDIRECT] management [];
    400 "the backend or the gateway calls the request malformed"
        [HANDSHAKE_MALFORMED HANDSHAKE_PLAIN_ON_TLS CLIENT_SOCKETIO 13 ("token")]
        management [GONE_MALFORMED_ID CONNECTIONS_DOUBLE_ENCODED];
    401 "the identity that the authorizer wants is missing"
        [AUTHORIZER_IDENTITY_MISSING] management [];
    403 "no such API or stage, a proof of identity was refused, or the backend said no"
        [3 8 9 AUTHORIZER_DENIED 12 BYPASS_UNKNOWN_ROUTE_403 BYPASS_CLOSE_BEFORE_ACCEPT BYPASS_ORIGIN_VALIDATOR
            PROXY_BOT_PROTECTION HANDSHAKE_WRONG_PATH AUTHORIZER_RESOURCE_MISMATCH IAM_CONNECT_UNSIGNED APIKEY_MISSING
            APIKEY_UNKNOWN USER_BANNED BACKEND_SECRET_MISMATCH BACKEND_CSRF DOMAIN_NO_MAPPING DOMAIN_MAPPING_PATH
            DOMAIN_UNKNOWN_HOST]
        management [26];
    404 "the path leads nowhere, here or at the backend"
        [PATH_DOUBLE_PREFIX HANDSHAKE_WRONG_PATH INTEGRATION_WRONG_URL INTEGRATION_MISSING_SLASH
            BACKEND_ROUTE_PARAM_MISSING BYPASS_WSGI]
        management [MANAGEMENT_WRONG_LISTENER MANAGEMENT_STAGE_WITH_DOMAIN];
    405 "the backend does not take POST at this path"
        [BACKEND_METHOD] management [];
    410 "the connection that a call of the management API names is gone; no handshake is answered so"
        [] management [25];
    413 "the request is too large"
        [HANDSHAKE_URL_TOO_LONG] management [MESSAGE_TOO_LARGE_OUT];
    414 "the URL is too long"
        [HANDSHAKE_URL_TOO_LONG] management [];
    426 "the request arrived without what makes it a WebSocket handshake, usually because of a proxy"
        [PROXY_UPGRADE_STRIPPED PROXY_HTTP10 HANDSHAKE_NOT_WEBSOCKET HANDSHAKE_MALFORMED] management [];
    429 "too many attempts or connections; wait as long as Retry-After says"
        [15 LIMIT_CONNECTIONS] management [MANAGEMENT_THROTTLED CONN_SLOW_CONSUMER];
    431 "the headers are too long"
        [HANDSHAKE_URL_TOO_LONG] management [];
    500 "the authorizer or the integration is misconfigured, or the gateway failed"
        [AUTHORIZER_UNSUPPORTED AUTHORIZER_BAD_ANSWER INTEGRATION_MISSING INTERNAL BYPASS_NO_ROUTE_500
            INTEGRATION_ERROR_STATUS APP_DEPENDENCY_INJECTION CONFIG_INVALID_VALUE]
        management [INTERNAL];
    502 "the backend behind the gateway, or the gateway behind a proxy, cannot be reached"
        [14 PROXY_BAD_GATEWAY PROXY_H2_UPSTREAM] management [];
    503 "the gateway is full, is stopping, or cannot look up who the user is"
        [("limit") NODE_DRAINING USER_CHECK_FAILED JWT_JWKS_UNREACHABLE AUTH_NOT_CONFIGURED INTEGRATION_OVERLOAD
            STORE_UNAVAILABLE]
        management [];
    504 "the backend is too slow, or the connect event took longer than a proxy waits"
        [INTEGRATION_TIMEOUT INTEGRATION_CONNECT_TIMEOUT PROXY_GATEWAY_TIMEOUT] management [];
}

/// What is known about a status.
pub fn status(status: u16) -> Option<&'static Status> {
    STATUSES.iter().find(|row| row.status == status)
}
