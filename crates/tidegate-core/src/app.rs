//! Applications that run in the gateway's process: how the gateway sees them, and how they see the gateway.
//!
//! An application is an integration like a backend behind HTTP (`tidegate://NAME`): it is asked at `$connect`, gets
//! messages one after the other, hears of the end, and pushes by connection, channel or user. What it has beside is a path
//! of its own on the public listener, for its handshakes and its HTTP calls.

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::channel::ChannelName;
use crate::context::ConnectionFacts;
use crate::diagnosis::Diagnosis;
use crate::id::{ConnectionId, RequestId};
use crate::identity::Identity;
use crate::journal::Facts;
use crate::notice::Notice;
use crate::policy::Policy;
use crate::port::BoxFuture;
use crate::push::{Publish, PushResult};
use crate::settings::Settings;

/// An application. One value serves all connections of a node.
pub trait App: Send + Sync + Debug {
    /// Its name in `tidegate://NAME`: lower-case letters, digits and `-`.
    fn name(&self) -> &'static str;

    /// How long its clients wait before they first come back, where that is known. A drain closes them within half of it.
    fn first_client_delay(&self) -> Option<Duration> {
        None
    }

    /// Called once, before anything else.
    fn start(&self, host: Arc<dyn Host>);

    /// Work beside connections, until the node stops. It is dropped at its end.
    fn run(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    /// All connections have ended and the node is about to: the last chance to put something in order. It has two seconds.
    fn stopped(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// How clients are told of a refusal that the gateway decided before the application was asked. Absent: in the
    /// gateway's own words. The diagnosis stays what it is.
    fn refusal(&self, refused: &Refused<'_>) -> Option<Refusal> {
        let _ = refused;
        None
    }

    /// `$connect`: may it be opened? Nothing has been answered, and nothing may be pushed to it yet.
    fn connect<'a>(&'a self, connect: Connect<'a>) -> BoxFuture<'a, Result<Connected, Box<Refusal>>>;

    /// The connection can be pushed to; [`Connected::first`] is in its outbox. Must not block. Called once after each
    /// [`Self::connect`] that said yes and was no dry run, unless the client has left: then [`Self::disconnect`] is.
    fn opened(&self, connection: &Arc<ConnectionFacts>) {
        let _ = connection;
    }

    /// Looks at a text of a connection that it let in, before a route is chosen. With a reply, even an empty one, the text is
    /// dealt with and no route gets it; it has counted as a message of `$default`. Must not block. Asked more than once
    /// about a text that waits behind another, so it only says what it would do.
    fn before_route(&self, text: &str) -> Option<Reply> {
        let _ = text;
        None
    }

    /// One message. The next of the same connection comes after the answer.
    fn message<'a>(&'a self, message: Message<'a>) -> BoxFuture<'a, Reply>;

    /// The connection has ended, or was never opened after [`Self::connect`] said yes. Once for each.
    fn disconnect<'a>(&'a self, connection: &'a Arc<ConnectionFacts>, end: End<'a>) -> BoxFuture<'a, ()>;

    /// An HTTP request below one of [`Mount::http`]. Its body has at most [`Mount::max_body`] bytes.
    fn request(&self, request: Request) -> BoxFuture<'_, Response> {
        let _ = request;
        Box::pin(async { Response::json(404, r#"{"message":"Not Found"}"#) })
    }
}

/// A handshake. No `Debug`: query and headers hold the proofs of identity.
#[derive(Clone, Copy)]
pub struct Connect<'a> {
    /// Who connects.
    pub connection: &'a Arc<ConnectionFacts>,
    /// Also in the journal.
    pub request_id: RequestId,
    /// As the checks of the stage's policy have established it; of nobody without a policy.
    pub identity: &'a Arc<Identity>,
    /// Channels that the policy has permitted.
    pub channels: &'a str,
    /// Raw query string.
    pub query: &'a str,
    /// All headers of the handshake.
    pub headers: &'a HeaderMap,
    /// Only the decision is wanted: nothing is kept, counted or joined.
    pub is_dry_run: bool,
}

/// A yes.
#[derive(Debug, Default)]
pub struct Connected {
    /// Joined before the 101 is written; no rule is asked.
    pub channels: Vec<ChannelName>,
    /// The first messages, in the outbox before anything that is pushed.
    pub first: Vec<Bytes>,
}

/// A refusal of the gateway's own checks.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Why.
    pub diagnosis: Diagnosis,
    /// What the gateway would answer.
    pub status: u16,
    /// Who is refused.
    pub address: IpAddr,
    /// Milliseconds since 1970.
    pub now: u64,
    /// It is the answer to a check, not to a handshake.
    pub is_dry_run: bool,
    /// Facts of the refusal.
    pub facts: &'a Facts,
}

/// How a handshake, or a check of one, is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `message` of the body; also the reason of the close frame. Nothing secret.
    pub message: Cow<'static, str>,
    /// Why.
    pub diagnosis: Diagnosis,
    /// Answer 101 first and then close with this code: for clients that can read nothing else.
    pub close_code: Option<u16>,
    /// Seconds.
    pub retry_after: Option<u64>,
    /// For operators: names and numbers.
    pub detail: String,
    /// What the catalogue names as proof.
    pub facts: Facts,
}

impl Refusal {
    /// A refusal by status.
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>, diagnosis: Diagnosis) -> Self {
        Self {
            status,
            message: message.into(),
            diagnosis,
            close_code: None,
            retry_after: None,
            detail: String::new(),
            facts: Facts::none(),
        }
    }
}

/// A message from a client. No `Debug`: it is a payload.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// From whom.
    pub connection: &'a Arc<ConnectionFacts>,
    /// Also in the journal.
    pub request_id: RequestId,
    /// As the handshake established it.
    pub identity: Option<&'a Arc<Identity>>,
    /// The text; of a binary message its base64.
    pub text: &'a str,
    /// It was a binary message.
    pub is_binary: bool,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// What a message is answered with.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// To the same connection; nothing otherwise.
    pub text: Option<Bytes>,
    /// Before whatever waits in the outbox.
    pub is_urgent: bool,
    /// What went wrong with the message, for the journal. Clients are told by `text`.
    pub problem: Option<Problem>,
}

/// A message that an application refused.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Why.
    pub diagnosis: Diagnosis,
    /// What the catalogue names as proof.
    pub facts: Facts,
}

/// How a connection has ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Close code; 1005 and 1006 as in RFC 6455.
    pub code: u16,
    /// May be empty.
    pub reason: &'a str,
}

/// An HTTP request to an application. No `Debug`: it holds credentials and payload.
#[derive(Clone)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path as it came, encoded.
    pub path: String,
    /// Raw query string.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Whole body.
    pub body: Bytes,
    /// Address of the caller, behind trusted proxies.
    pub address: IpAddr,
    /// For answer and journal.
    pub request_id: RequestId,
}

/// An answer to it.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Headers, `content-type` among them.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Response {
    /// JSON.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        Self { status, headers, body: body.into() }
    }
}

/// What the gateway does for applications. Nothing here waits for a client.
pub trait Host: Send + Sync + Debug {
    /// Gives a text to connections, each once, encoded once. Whoever reads too slowly is closed with 1008.
    fn send(&self, to: &[ConnectionId], text: Bytes) -> Sent;

    /// As [`Self::send`] to channels, users, sessions or everyone of a stage; nothing where the stage is gone.
    fn publish<'a>(
        &'a self,
        api_id: &'a str,
        stage: &'a str,
        publish: Publish,
        caller: Facts,
    ) -> BoxFuture<'a, Option<PushResult>>;

    /// Ends a connection; false when it was over. `reason` has at most 123 bytes.
    fn close(&self, connection: ConnectionId, code: u16, reason: &str, diagnosis: Diagnosis) -> bool;

    /// Verifies the bearer token of an HTTP request by the `[jwt]` of a stage's policy.
    fn identify(&self, api_id: &str, stage: &str, headers: &HeaderMap)
    -> Result<Arc<Identity>, Box<Refusal>>;

    /// Whether the caller of an HTTP request may push to a stage: a signature whose key has
    /// `execute-api:ManageConnections`, or a bearer key. Gives the caller's name.
    fn authorize(&self, api_id: &str, stage: &str, request: &Request) -> Result<String, Box<Refusal>>;

    /// When a connection was last heard of, its pongs included, in milliseconds since 1970; nothing where nobody knows.
    fn last_heard(&self, connection: ConnectionId) -> Option<u64> {
        let _ = connection;
        None
    }

    /// Tells operators something.
    fn notice(&self, notice: Notice);

    /// Whether facts are kept.
    fn keeps_facts(&self) -> bool;

    /// Milliseconds since 1970.
    fn now(&self) -> u64;

    /// A new request id.
    fn request_id(&self) -> RequestId;

    /// 64 random bits; not secret.
    fn random(&self) -> u64;
}

/// What became of a text for several connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Outboxes that took it.
    pub delivered: usize,
    /// Connections that have ended.
    pub gone: usize,
    /// Connections that read too slowly; they are being closed.
    pub slow: usize,
}

/// Where an application lives: an API that exists without being defined, and paths of the public listener.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The application.
    pub app: Arc<dyn App>,
    /// Id of the API, for management calls and the journal: `/_aws/execute-api/{apiId}/{stage}`.
    pub api_id: String,
    /// Name of its one stage.
    pub stage: String,
    /// Paths for handshakes on every host, each with and without a slash at its end.
    pub paths: Vec<String>,
    /// Paths for HTTP calls on every host: exact ones, and prefixes that end in `/`.
    pub http: Vec<String>,
    /// Largest body of an HTTP call, in bytes.
    pub max_body: usize,
    /// What the gateway demands and offers at the stage.
    pub policy: Policy,
    /// Settings of the stage.
    pub settings: Arc<Settings>,
}
