//! Operational facts: what happened to connections, calls and pushes.
//!
//! A notice is data. Whoever takes it writes log line and metric together, so that they cannot disagree, and
//! may keep it for later questions. It carries no payload, no query value, no header value and no secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnosis::Diagnosis;
use crate::error::ErrorCode;
use crate::id::{ConnectionId, RequestId};
use crate::journal::{Facts, Kind};

/// Where something happened.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Empty before an API was found.
    pub api_id: Arc<str>,
    /// Empty before a stage was found.
    pub stage: Arc<str>,
    /// Once it exists.
    pub connection_id: Option<ConnectionId>,
    /// Of the event or the HTTP request.
    pub request_id: Option<RequestId>,
    /// Once it is chosen.
    pub route_key: Option<Arc<str>>,
    /// The reference that the client made for its attempt.
    pub client_ref: Option<Arc<str>>,
    /// Whose connection it is, once that is known.
    pub user: Option<Arc<str>>,
    /// The client's address.
    pub address: Option<IpAddr>,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// The client sent a close frame.
    Client,
    /// The gateway, for a reason of its own.
    Gateway,
    /// A management call.
    Backend,
    /// The network: no close frame came.
    Network,
}

impl ClosedBy {
    /// Label of metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Backend => "backend",
            Self::Network => "network",
        }
    }
}

/// One fact.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A handshake was answered with 101.
    ConnectionOpened {
        /// Where.
        place: Place,
        /// From the request head to the 101.
        duration: Duration,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A handshake was refused.
    HandshakeRefused {
        /// Where, as far as it was known.
        place: Place,
        /// What the client was told; 0 when nothing could be told, 499 when it had left.
        status: u16,
        /// Why.
        code: ErrorCode,
        /// Why, exactly.
        diagnosis: Diagnosis,
        /// For the operator; names and numbers only.
        detail: String,
        /// From the request head to the answer.
        duration: Duration,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// The backend's choice of a subprotocol will not please the client.
    SubprotocolTrouble {
        /// Where.
        place: Place,
        /// What is wrong with it.
        diagnosis: Diagnosis,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A message was handled; nothing went wrong at the gateway.
    MessageHandled {
        /// Where.
        place: Place,
        /// Bytes of the message.
        size: usize,
        /// Status of the integration's answer.
        status: u16,
        /// A body that no route response delivers.
        dropped_reply: bool,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
        /// Something that is worth a look although nothing failed: a reply that nobody gets, a message that could
        /// not be selected by.
        remark: Option<Diagnosis>,
    },
    /// A message failed; the client may have been told by a frame.
    MessageFailed {
        /// Where.
        place: Place,
        /// Bytes of the message.
        size: usize,
        /// What.
        code: ErrorCode,
        /// Why.
        diagnosis: Diagnosis,
        /// For the operator; names and numbers only.
        detail: String,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A backend answered a message with 4xx or 5xx.
    BackendRefusedMessage {
        /// Where.
        place: Place,
        /// The status.
        status: u16,
        /// Why, as far as its answer says.
        diagnosis: Diagnosis,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// One integration call ended.
    IntegrationCalled {
        /// Where.
        place: Place,
        /// Which event.
        event_type: &'static str,
        /// Status of the answer, none when there was none.
        status: Option<u16>,
        /// From the decision to call to the last byte of the answer; zero for integrations that ask nobody.
        duration: Duration,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A connection ended. Emitted once for each [`Self::ConnectionOpened`].
    ConnectionClosed {
        /// Where.
        place: Place,
        /// Who.
        by: ClosedBy,
        /// As the `$disconnect` event says it.
        close_code: u16,
        /// Why.
        diagnosis: Diagnosis,
        /// From the 101 on.
        age: Duration,
        /// Messages in.
        messages_in: u64,
        /// Messages out.
        messages_out: u64,
        /// Payload bytes in.
        bytes_in: u64,
        /// Payload bytes out.
        bytes_out: u64,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A `$disconnect` could not be delivered.
    DisconnectLost {
        /// Where.
        place: Place,
        /// Why.
        diagnosis: Diagnosis,
        /// For the operator.
        detail: String,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A push was taken for delivery.
    Pushed {
        /// Where.
        place: Place,
        /// Bytes.
        size: usize,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A message to many was taken for delivery.
    Published {
        /// Where.
        place: Place,
        /// `channel`, `user`, `session`, `connection` or `broadcast`.
        target: &'static str,
        /// Bytes.
        size: usize,
        /// Connections that took it.
        delivered: usize,
        /// Connections that were ending.
        gone: usize,
        /// Connections that read too slowly.
        slow: usize,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// Somebody may not use a channel, or no longer.
    ChannelRefused {
        /// Where.
        place: Place,
        /// The channel, cut to 128 characters.
        channel: Arc<str>,
        /// Why.
        diagnosis: Diagnosis,
        /// For the operator: the rule.
        detail: String,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A limit was reached whose policy says `dry_run`.
    WouldBeLimited {
        /// Where.
        place: Place,
        /// Which.
        diagnosis: Diagnosis,
        /// For the operator; names and numbers only.
        detail: String,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A message named a handler that is not on the policy's list; it went to `$default`.
    HandlerNotAllowed {
        /// Where.
        place: Place,
        /// The name, cut to 128 characters.
        handler: String,
        /// The name on the list that looks most like it.
        nearest: Option<String>,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A set of keys could not be fetched; the last good one stays.
    KeySetNotFetched {
        /// Where.
        place: Place,
        /// Why.
        diagnosis: Diagnosis,
        /// For the operator.
        detail: String,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A management call was refused.
    PushRefused {
        /// Where.
        place: Place,
        /// What the caller was told.
        status: u16,
        /// What.
        code: ErrorCode,
        /// Why.
        diagnosis: Diagnosis,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// The listener could not accept.
    AcceptFailed {
        /// What the system said.
        error: String,
        /// Why.
        diagnosis: Diagnosis,
    },
    /// A browser asked for a connect token.
    TokenRequested {
        /// Where.
        place: Place,
        /// Why it got none.
        refused: Option<Diagnosis>,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// Something was decided about an attempt that is worth an entry of its own; the attempt went on.
    Decided {
        /// Where.
        place: Place,
        /// What about.
        kind: Kind,
        /// Why it is worth a look.
        remark: Option<Diagnosis>,
        /// What the catalogue names as proof; none where nobody keeps it.
        facts: Facts,
    },
    /// A connection joined or left a channel.
    MembershipChanged {
        /// Where.
        place: Place,
        /// The channel.
        channel: Arc<str>,
        /// `join` or `leave`.
        change: &'static str,
        /// `handshake`, `client`, `management`, `administrator` or `rules`.
        by: &'static str,
    },
    /// Somebody changed definitions, or the process started, stopped, cleaned up or read its configuration.
    Controlled {
        /// Where, as far as it is about one API.
        place: Place,
        /// What happened: `start`, `stop`, `drain`, `deploy`, `change`, `delete`, `read`, `call`, `clean-up`, `configuration`, `certificate`.
        what: &'static str,
        /// Access key id, API key name or `gateway`.
        actor: String,
        /// Why it failed.
        refused: Option<Diagnosis>,
        /// What it was about: names, ids, counts, hashes.
        facts: Facts,
    },
    /// A connection task panicked; the connection was closed, its `$disconnect` sent.
    ConnectionPanicked {
        /// Where.
        place: Place,
    },
}

/// Takes notices. Called on hot paths: it must not block and must not wait.
pub trait NoticeSink: Send + Sync + std::fmt::Debug {
    /// Takes one.
    fn take(&self, notice: Notice);

    /// Does anybody keep [`Facts`]? Gathering them costs time.
    fn keeps_facts(&self) -> bool {
        false
    }
}
