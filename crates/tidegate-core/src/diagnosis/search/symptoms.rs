//! The 38 symptoms: what people say when they ask for help.

use super::super::Diagnosis;

/// One way in which failure shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symptom {
    /// 1 to 38.
    pub number: u8,
    /// In the words of those who see it.
    pub title: &'static str,
    /// Words and phrases that people search for, in lower case.
    pub words: &'static [&'static str],
}

macro_rules! symptoms {
    ($($number:literal $title:literal [$($word:literal),*];)*) => {
        /// All symptoms, by their number.
        pub const SYMPTOMS: &[Symptom] = &[$(Symptom { number: $number, title: $title, words: &[$($word),*] }),*];
    };
}

symptoms! {
    1 "WebSocket connection failed: the URL or the request" ["websocket connection failed", "error during websocket handshake", "cannot connect", "connection failed", "wrong url"];
    2 "The name does not resolve, the network refuses, or TLS fails" ["dns", "certificate", "tls", "ssl", "connection refused", "connection timed out", "name resolution"];
    3 "403 on an API, a stage or a route" ["api not found", "stage not found", "not deployed", "no route", "changes have no effect"];
    4 "A proxy, load balancer or CDN breaks the WebSocket" ["reverse proxy", "nginx", "load balancer", "cdn", "upgrade header", "502 bad gateway", "426 upgrade required"];
    5 "The old application server answers instead of the gateway" ["old server", "uvicorn", "daphne", "gunicorn", "wrong server answers", "bypass"];
    6 "The browser refuses to open the WebSocket, or opens it twice" ["mixed content", "content security policy", "opens twice", "double mount", "strictmode", "custom headers in the browser"];
    7 "Subprotocol mismatch: Sec-WebSocket-Protocol" ["subprotocol", "sec-websocket-protocol"];
    8 "403 Missing token, Invalid token, Token expired: the JSON Web Token is refused" ["jwt", "json web token", "invalid token", "missing token", "token expired"];
    9 "403 Access denied: role, user, channel or origin not allowed" ["access denied", "role required", "authority not found", "origin not allowed", "forbidden for one user"];
    10 "401, 403 or 500 from an authorizer" ["authorizer", "unauthorized", "iam authorization", "api key"];
    11 "The token endpoint answers 403: the page gets no one-time token" ["token endpoint", "csrf", "cannot get a token", "token request"];
    12 "The one-time token was issued, but the connection is refused" ["invalid or expired token", "ws_token", "one-time token", "token refused"];
    13 "The backend answers 400, 403, 404 or 405 to the connect event" ["invalid request headers", "bad request from the backend", "backend refuses connect", "allowed hosts"];
    14 "The backend cannot be reached, is slow or fails on connect" ["backend unreachable", "backend timeout", "integration error", "504 gateway timeout", "502 from the integration"];
    15 "429 Too Many Requests: rate limit exceeded when connecting" ["rate limit", "too many requests", "too many connection attempts", "throttled"];
    16 "The WebSocket opens and closes at once" ["closes immediately", "closes at once", "opens and closes", "connection closes after open"];
    17 "The user is anonymous although logged in" ["anonymous user", "anonymoususer", "anonymous", "cookie not sent", "session cookie", "not logged in"];
    18 "Permission denied on a message while the connection stays open" ["permission denied", "not permitted"];
    19 "Every message ends in the default handler" ["default handler", "$default", "handler not called", "route selection expression"];
    20 "A custom route is not called" ["route not called", "custom route", "route key"];
    21 "A message is answered with an error, or with nothing" ["no response to a message", "no answer", "internal server error on a message", "endpoint request timed out"];
    22 "Message too large, wrong type, or broken frames" ["message too large", "message too long", "frame too large", "binary message", "invalid frame", "invalid utf-8"];
    23 "Pushed messages do not reach the browser" ["message not received", "push does not arrive", "messages do not arrive"];
    24 "Broadcasts and alerts reach only some clients, or nobody" ["broadcast", "only some clients", "nobody receives", "alerts not delivered"];
    25 "410 GoneException when posting to a connection" ["goneexception", "410 gone", "gone"];
    26 "The management API refuses the call" ["forbiddenexception", "missing authentication token", "signature does not match", "@connections", "management api"];
    27 "Chat errors 4001 to 4006" ["chat error", "4001", "4002", "4003", "4004", "4005", "4006", "invalid event type"];
    28 "The connection drops after a fixed idle time" ["idle timeout", "closes after 60 seconds", "drops after 60 seconds", "disconnects after a minute", "closes after 10 minutes"];
    29 "The connection drops at a fixed age, at deployments or restarts" ["closes after 2 hours", "two hours", "closes after two hours", "disconnect on deploy", "restart"];
    30 "The connection drops at random, mostly with 1006" ["random disconnect", "drops randomly", "abnormal closure", "connection lost", "slow consumer"];
    31 "The client does not come back, or comes back wrongly" ["does not reconnect", "reconnect", "reconnect loop", "retry storm"];
    32 "It works in production, not on the developer's machine" ["localhost", "tunnel", "ngrok", "local development"];
    33 "The generated endpoint works, the custom domain does not" ["custom domain", "api mapping", "domain name"];
    34 "Creating or changing the gateway fails" ["create api fails", "deploy fails", "accessdenied", "conflictexception", "service-linked role"];
    35 "A management command fails" ["management command", "manage.py", "command fails", "no credentials", "wrong profile"];
    36 "Old sessions, tokens and rate-limit records pile up" ["clean-up", "cleanup", "stale sessions", "old records", "table grows"];
    37 "Capacity: files, memory, ports, connections" ["too many open files", "capacity", "out of memory", "overload", "connection limit"];
    38 "Logs say nothing, or too much" ["no logs", "nothing in the log", "token in the log", "traceback shown to users", "unknown setting"];
}

/// Causes that belong to another symptom and show themselves as this one too.
const CROSS_REFERENCES: &[(u8, &[Diagnosis])] = &[
    (
        20,
        &[
            Diagnosis::STAGE_REDEPLOY_NEEDED,
            Diagnosis::INTEGRATION_REFUSED,
            Diagnosis::INTEGRATION_DNS,
            Diagnosis::INTEGRATION_CONNECT_TIMEOUT,
            Diagnosis::HANDLER_SELECTION_MISMATCH,
        ],
    ),
    (31, &[Diagnosis::TOKEN_REUSED_ON_RECONNECT]),
    (33, &[Diagnosis::TLS_NOT_ISSUED, Diagnosis::TLS_HOSTNAME_MISMATCH, Diagnosis::DNS_WRONG_TARGET]),
];

/// Causes of other symptoms that a symptom refers to.
pub fn cross_references(symptom: u8) -> &'static [Diagnosis] {
    CROSS_REFERENCES.iter().find(|(number, _)| *number == symptom).map_or(&[], |(_, ids)| *ids)
}

/// The causes of a symptom: its own in the order of the catalogue, then those it refers to.
pub fn causes_of(symptom: u8) -> Vec<Diagnosis> {
    // 0 is the mark of causes that belong to no symptom, not a symptom of its own.
    let own = Diagnosis::all().filter(|cause| cause.symptom == symptom && symptom > 0);
    own.map(|cause| cause.diagnosis).chain(cross_references(symptom).iter().copied()).collect()
}
