//! The `$context` of one event: what mappings, templates and logs may say about it.
//!
//! Names are those of *WebSocket API mapping template reference* in the API Gateway developer guide.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::definition::Map;
use crate::id::{ConnectionId, RequestId};
use crate::identity::Identity;

/// What is known of a connection from its handshake on; the same for all its events.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its API.
    pub api_id: Arc<str>,
    /// The stage it was opened through.
    pub stage: Arc<str>,
    /// Host the client used, as applications build callback addresses from it.
    pub domain_name: Arc<str>,
    /// Address of the client, without port, brackets or zone.
    pub source_ip: std::net::IpAddr,
    /// The client's own, when it sent one.
    pub user_agent: Option<Box<str>>,
    /// `https` when TLS ended here or at a trusted proxy.
    pub is_secure: bool,
    /// Port that the client used.
    pub client_port: u16,
    /// Milliseconds since 1970.
    pub connected_at: u64,
}

/// The kind of an event, with what only this kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The handshake; nothing has been answered yet.
    Connect,
    /// One message.
    Message {
        /// Its id.
        message_id: RequestId,
    },
    /// The end.
    Disconnect {
        /// 1005 when the client gave none, 1006 when there was no close frame.
        status_code: u16,
        /// May be empty.
        reason: String,
    },
}

/// One event of a connection, as an integration sees it.
#[derive(Debug, Clone)]
pub struct Event {
    /// What stays.
    pub connection: Arc<ConnectionFacts>,
    /// Also `extendedRequestId`.
    pub request_id: RequestId,
    /// Key of the chosen route.
    pub route_key: Arc<str>,
    /// Milliseconds since 1970.
    pub request_time: u64,
    /// Which event.
    pub kind: EventKind,
    /// What the gateway itself knows of the client, where the stage has a policy.
    pub session: Option<SessionFacts>,
    /// What authorizer, signature and API key of the `$connect` route established; the same for all later events.
    pub authorized: Option<Arc<Authorized>>,
}

/// What the authorization of a handshake has established. Lives as long as the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Authorized {
    /// Answer of the authorizer of a route of type `CUSTOM`, or what the token said on one of type `JWT`.
    pub authorizer: Option<AuthorizerAnswer>,
    /// Whose signature it was, on a route of type `AWS_IAM`.
    pub caller: Option<Caller>,
    /// The API key that was presented, where the route demands one.
    pub api_key: Option<PresentedKey>,
}

/// What an authorizer has answered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizerAnswer {
    /// Required.
    pub principal_id: String,
    /// Every entry of `context`, as text.
    pub context: Map,
    /// Milliseconds that it took; shown by CONNECT events.
    pub latency_ms: u64,
    /// Of an authorizer of type `JWT`, in place of a context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Box<TokenClaims>>,
}

/// What a token says that an authorizer of type `JWT` took. The token itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenClaims {
    /// Every claim, as text.
    pub claims: Map,
    /// Its scopes, where the route asks for some.
    pub scopes: Option<Vec<String>>,
}

/// `$context.identity.*` of a signed handshake.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// 12 digits.
    pub account_id: String,
    /// Principal id.
    pub caller: String,
    /// User id.
    pub user: String,
    /// ARN.
    pub user_arn: String,
    /// Not secret.
    pub access_key: String,
}

/// An API key that a client has presented.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PresentedKey {
    /// The key itself; events carry it, logs do not. It is not stored: of a connection that outlives its process it is
    /// empty.
    #[serde(skip)]
    pub value: String,
    /// Its id.
    pub id: String,
}

impl std::fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresentedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Who the client is and where it belongs, at the time of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionFacts {
    /// As the handshake established it.
    pub identity: Arc<Identity>,
    /// Names of the connection's channels, joined by a comma.
    pub channels: String,
}

impl Event {
    /// `CONNECT`, `MESSAGE` or `DISCONNECT`.
    pub fn event_type(&self) -> &'static str {
        match self.kind {
            EventKind::Connect => "CONNECT",
            EventKind::Message { .. } => "MESSAGE",
            EventKind::Disconnect { .. } => "DISCONNECT",
        }
    }

    /// Value of `$context.{name}`; nothing for variables that this event does not have.
    pub fn variable(&self, name: &str) -> Option<String> {
        let connection = &self.connection;
        Some(match name {
            "apiId" => connection.api_id.to_string(),
            "stage" => connection.stage.to_string(),
            "domainName" => connection.domain_name.to_string(),
            "connectionId" => connection.connection_id.to_string(),
            "connectedAt" => connection.connected_at.to_string(),
            "eventType" => self.event_type().to_owned(),
            "routeKey" => self.route_key.to_string(),
            "messageDirection" => "IN".to_owned(),
            "requestId" | "extendedRequestId" => self.request_id.to_string(),
            "requestTime" => ClfTime(self.request_time).to_string(),
            "requestTimeEpoch" => self.request_time.to_string(),
            "identity.sourceIp" => connection.source_ip.to_string(),
            "identity.userAgent" => connection.user_agent.as_deref()?.to_owned(),
            "messageId" => match &self.kind {
                EventKind::Message { message_id } => message_id.to_string(),
                _ => return None,
            },
            "disconnectStatusCode" => match &self.kind {
                EventKind::Disconnect { status_code, .. } => status_code.to_string(),
                _ => return None,
            },
            "disconnectReason" => match &self.kind {
                EventKind::Disconnect { reason, .. } => reason.clone(),
                _ => return None,
            },
            _ => match (name.strip_prefix("identity."), name.strip_prefix("authorizer.")) {
                (Some(name), _) => return identity_variable(self.authorized.as_deref()?, name),
                (_, Some(name)) => {
                    return authorizer_variable(self.authorized.as_deref(), self.session.as_ref(), name);
                }
                _ => return None,
            },
        })
    }
}

impl Event {
    /// An authorizer of type `JWT` has let the client in: there are `$context.authorizer.claims.*`.
    pub(crate) fn has_token_claims(&self) -> bool {
        let answer = self.authorized.as_ref().and_then(|authorized| authorized.authorizer.as_ref());
        answer.is_some_and(|answer| answer.token.is_some())
    }
}

/// `$context.identity.{name}` of a signed handshake or one with an API key.
pub(crate) fn identity_variable(authorized: &Authorized, name: &str) -> Option<String> {
    match (name, &authorized.caller, &authorized.api_key) {
        ("apiKey", _, Some(key)) => Some(key.value.clone()).filter(|value| !value.is_empty()),
        ("apiKeyId", _, Some(key)) => Some(key.id.clone()),
        ("accountId", Some(caller), _) => Some(caller.account_id.clone()),
        ("caller", Some(caller), _) => Some(caller.caller.clone()),
        ("user", Some(caller), _) => Some(caller.user.clone()),
        ("userArn", Some(caller), _) => Some(caller.user_arn.clone()),
        ("accessKey", Some(caller), _) => Some(caller.access_key.clone()),
        _ => None,
    }
}

/// `$context.authorizer.{name}`: what the gateway's own checks established stands where an authorizer's answer does.
pub(crate) fn authorizer_variable(
    authorized: Option<&Authorized>,
    session: Option<&SessionFacts>,
    name: &str,
) -> Option<String> {
    if let Some(answer) = authorized.and_then(|authorized| authorized.authorizer.as_ref()) {
        return match name {
            "principalId" => Some(answer.principal_id.clone()),
            name => match (&answer.token, name.strip_prefix("claims.")) {
                (Some(token), Some(claim)) => token.claims.get(claim).cloned(),
                _ => answer.context.get(name).cloned(),
            },
        };
    }
    let SessionFacts { identity, channels } = session?;
    match name {
        "principalId" | "user" => identity.user.as_deref().map(str::to_owned),
        "session" => identity.session.as_deref().map(str::to_owned),
        "auth" => Some(identity.auth.as_str().to_owned()),
        "roles" => Some(identity.roles.join(",")),
        "channels" => Some(channels.clone()),
        name => identity.claim(name),
    }
}

/// `dd/MMM/yyyy:HH:mm:ss +0000`, as access logs of web servers show a time; milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClfTime(pub u64);

impl std::fmt::Display for ClfTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let time = civil(self.0);
        let month = MONTHS[usize::from(time.month().unsigned_abs()) - 1];
        let (day, year, hour) = (time.day(), time.year(), time.hour());
        write!(f, "{day:02}/{month}/{year:04}:{hour:02}:{:02}:{:02} +0000", time.minute(), time.second())
    }
}

/// `2025-01-15T12:00:00.000Z`.
pub fn iso_time(millis: u64) -> String {
    let time = civil(millis);
    let (date, hour, minute, second) = (time.date(), time.hour(), time.minute(), time.second());
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1000)
}

/// In UTC.
fn civil(millis: u64) -> jiff::civil::DateTime {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::tz::Offset::UTC.to_datetime(time)
}

/// The JSON form that error frames and refused handshakes share, byte for byte as the real service writes it:
/// one space after `{"message":` and after each comma, none after the later colons.
pub fn error_body(
    message: impl Into<serde_json::Value>,
    connection_id: ConnectionId,
    last_name: &str,
    last_id: RequestId,
) -> String {
    let message = message.into();
    format!(r#"{{"message": {message}, "connectionId":"{connection_id}", "{last_name}":"{last_id}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_documented() {
        assert_eq!(ClfTime(1_736_942_400_001).to_string(), "15/Jan/2025:12:00:00 +0000");
        assert_eq!(iso_time(1_736_942_405_120), "2025-01-15T12:00:05.120Z");
    }

    #[test]
    fn error_bodies_keep_their_spacing() {
        let connection_id = ConnectionId::parse("Hh2QmdfDIkwCF6w=").unwrap();
        let body = error_body("Forbidden", connection_id, "requestId", RequestId::new(0, 0));
        assert_eq!(
            body,
            r#"{"message": "Forbidden", "connectionId":"Hh2QmdfDIkwCF6w=", "requestId":"AAAAAAAAAAAAAAA="}"#
        );
    }
}
