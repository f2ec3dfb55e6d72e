//! The three events, as axum extractors.
//!
//! Behind a [`crate::GatewayRouter`] the request has been checked before; on a plain axum route the extractor checks it itself,
//! by the [`Checks`] that the router carries as an `Extension`, or by the default ones.

use percent_encoding::percent_decode_str;
use std::fmt::{Debug, Formatter};
use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::{FromRequest, OriginalUri, Request};
use bytes::Bytes;
use http::header::{COOKIE, ORIGIN, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;

use crate::checks::{Checks, Rejection};

/// Longest connection id, in bytes. Source: the Django package, 4.1.0.
const MAX_CONNECTION_ID: usize = 128;

/// What all events have in common.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct EventHead {
    /// Id of the connection, 1 to 128 of `A-Z a-z 0-9 _ = -`: the address of pushes. Source: the header `connectionId`, which
    /// the gateway adds where the integration maps it.
    pub connection_id: String,
    /// Id of the API, from `X-Amzn-Apigateway-Api-Id`.
    pub api_id: String,
    /// Address of the client: the first in `X-Forwarded-For`. A proxy that appends to what clients send makes it worthless.
    pub client_address: IpAddr,
    /// The client's, with the gateway's behind it on messages and disconnects.
    pub user_agent: String,
    /// `Root=1-{8 hex}-{24 hex}`, new for each request.
    pub trace_id: String,
    /// Cookies of the handshake, names and values as sent. On connect only, unless the gateway forwards more.
    pub cookies: Vec<(String, String)>,
    /// Who it is, as Tidegate has established it; nobody unless [`Checks::sign_secrets`] or [`Checks::trust_identity`] is set.
    pub identity: Identity,
}

/// Who a connection is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// From `Tidegate-User`, percent-decoded.
    pub user: Option<String>,
    /// The login that the connection belongs to, from `Tidegate-Session`.
    pub session: Option<String>,
    /// The channels that it is in, from `Tidegate-Channels`.
    pub channels: Vec<String>,
    /// What established it, from `Tidegate-Auth`.
    pub auth: AuthKind,
}

/// What established an identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthKind {
    /// Nothing.
    #[default]
    None,
    /// A one-time connect token.
    Token,
    /// A JSON Web Token.
    Jwt,
    /// An API key.
    ApiKey,
    /// Something that this release does not know.
    Other,
}

// Cookies are secrets: only their names are shown.
impl Debug for EventHead {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventHead")
            .field("connection_id", &self.connection_id)
            .field("api_id", &self.api_id)
            .field("client_address", &self.client_address)
            .field("user_agent", &self.user_agent)
            .field("trace_id", &self.trace_id)
            .field("cookies", &names(&self.cookies))
            .field("identity", &self.identity)
            .finish()
    }
}

fn names(pairs: &[(String, String)]) -> Vec<&str> {
    pairs.iter().map(|(name, _)| name.as_str()).collect()
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

impl EventHead {
    /// Value of a cookie, the first if there are several.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        value(&self.cookies, name)
    }

    /// Reads headers of which the demanded ones are there.
    pub(crate) fn read(headers: &HeaderMap, is_identity_trusted: bool) -> Result<Self, Rejection> {
        let connection_id = text(headers, "connectionid").ok_or(Rejection::ConnectionId)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_=-".contains(&byte);
        if !(1..=MAX_CONNECTION_ID).contains(&connection_id.len()) || !connection_id.bytes().all(is_plain) {
            tracing::warn!(diag = "backend.connection-id-format", "connection id is malformed");
            return Err(Rejection::ConnectionId);
        }
        let Some(client_address) = text(headers, "x-forwarded-for").as_deref().and_then(first_address) else {
            let diag = "backend.server-drops-forwarded";
            tracing::warn!(diag, "x-forwarded-for does not begin with an address");
            return Err(Rejection::Headers);
        };
        Ok(Self {
            connection_id,
            api_id: text(headers, "x-amzn-apigateway-api-id").ok_or(Rejection::Headers)?,
            client_address,
            user_agent: text(headers, USER_AGENT.as_str()).unwrap_or_default(),
            trace_id: text(headers, "x-amzn-trace-id").unwrap_or_default(),
            cookies: cookies(headers),
            identity: if is_identity_trusted { Identity::read(headers) } else { Identity::default() },
        })
    }
}

impl Identity {
    fn read(headers: &HeaderMap) -> Self {
        let filled = |name| text(headers, name).filter(|text| !text.is_empty());
        // Ids come percent-encoded, because a header cannot carry every character.
        let decoded = |name| filled(name).map(|id| percent_decode_str(&id).decode_utf8_lossy().into_owned());
        Self {
            user: decoded("tidegate-user"),
            session: decoded("tidegate-session"),
            channels: filled("tidegate-channels").map(|list| list_of(&list)).unwrap_or_default(),
            auth: match filled("tidegate-auth").as_deref() {
                None | Some("none") => AuthKind::None,
                Some("token") => AuthKind::Token,
                Some("jwt") => AuthKind::Jwt,
                Some("api_key") => AuthKind::ApiKey,
                Some(_) => AuthKind::Other,
            },
        }
    }
}

/// First value of a header, if it is UTF-8.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?;
    std::str::from_utf8(value.as_bytes()).ok().map(|text| text.trim().to_owned())
}

fn list_of(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The gateways send bare addresses; some load balancers in between add a port.
fn first_address(list: &str) -> Option<IpAddr> {
    let first = list.split(',').next()?.trim();
    let bare = first.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(first);
    bare.parse().ok().or_else(|| first.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// A client wants to connect. Accept or refuse; pushing to it is possible once it has been accepted.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Connect {
    /// Who, and through which API.
    pub head: EventHead,
    /// The query of the handshake, decoded, in its order. It can hold tokens.
    pub query: Vec<(String, String)>,
    /// The page that opened the connection, from `Origin`; programs send none.
    pub origin: Option<String>,
    /// What the client offers, in its order.
    pub subprotocols: Vec<String>,
}

impl Connect {
    /// Value of a query parameter, the first if there are several.
    pub fn query(&self, name: &str) -> Option<&str> {
        value(&self.query, name)
    }

    fn read(checked: &Checked, parts: &Parts) -> Self {
        let header = |name: HeaderName| text(&parts.headers, name.as_str());
        let query = parts.uri.query().unwrap_or_default();
        let lines = parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        Self {
            head: checked.head.clone(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            origin: header(ORIGIN),
            subprotocols: lines.filter_map(|line| line.to_str().ok()).flat_map(list_of).collect(),
        }
    }
}

impl Debug for Connect {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("head", &self.head)
            .field("query", &names(&self.query))
            .field("origin", &self.origin)
            .field("subprotocols", &self.subprotocols)
            .finish()
    }
}

/// A message whose body is JSON for `T`. Anything else is answered 400 `Invalid message`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Message<T> {
    /// From whom.
    pub head: EventHead,
    /// What the client sent.
    pub body: T,
}

/// A message as the bytes that the client sent: text in UTF-8, at most [`crate::MAX_BODY`] bytes.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct RawMessage {
    /// From whom.
    pub head: EventHead,
    /// What the client sent.
    pub body: Bytes,
}

impl RawMessage {
    /// The message as JSON.
    ///
    /// # Errors
    /// [`Rejection::Message`] when it does not fit `T`. The log says where, not what.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // The error's own text can quote the message.
            tracing::info!(
                connection_id = self.head.connection_id,
                category = ?error.classify(),
                line = error.line(),
                column = error.column(),
                "message does not fit its handler"
            );
            Rejection::Message
        })
    }
}

impl<T> Debug for Message<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Debug for RawMessage {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawMessage").field("head", &self.head).field("bytes", &self.body.len()).finish()
    }
}

/// A connection has ended, whoever ended it. Comes once for each accepted connection; the answer is not looked at.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Disconnect {
    /// Which.
    pub head: EventHead,
}

/// Any event, for one handler for all: told apart by the last part of the path, `connect`, `disconnect` or anything else.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A client wants to connect.
    Connect(Connect),
    /// A client has sent something.
    Message(RawMessage),
    /// A connection has ended.
    Disconnect(Disconnect),
}

/// Which event a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slug {
    Connect,
    Disconnect,
    /// A message on the route `default`.
    Default,
    /// A message on a route of its own, decoded.
    Named(String),
}

impl Slug {
    /// By the last part of the path.
    pub(crate) fn of(path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "connect" => Self::Connect,
            "disconnect" => Self::Disconnect,
            "default" => Self::Default,
            name => Self::Named(percent_decode_str(name).decode_utf8_lossy().into_owned()),
        }
    }

    pub(crate) fn of_parts(parts: &Parts) -> Self {
        Self::of(parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |OriginalUri(uri)| uri).path())
    }
}

/// A request that has passed its checks; travels in the request's extensions, where clients cannot put anything.
#[derive(Clone)]
pub(crate) struct Checked {
    pub(crate) head: EventHead,
    pub(crate) body: Bytes,
}

impl Checked {
    /// Checks a request and puts it together again for extractors.
    pub(crate) async fn check(checks: &Checks, request: Request) -> Result<(Self, Request), Rejection> {
        let (head, mut parts, body) = checks.check(request).await?;
        let checked = Self { head, body };
        parts.extensions.insert(checked.clone());
        let body = Body::from(checked.body.clone());
        Ok((checked, Request::from_parts(parts, body)))
    }

    async fn of(request: Request) -> Result<(Self, Parts), Rejection> {
        if let Some(checked) = request.extensions().get::<Self>() {
            return Ok((checked.clone(), request.into_parts().0));
        }
        let checks = request.extensions().get::<Checks>().cloned().unwrap_or_default();
        let (head, parts, body) = checks.check(request).await?;
        Ok((Self { head, body }, parts))
    }
}

impl<S: Send + Sync> FromRequest<S> for Connect {
    type Rejection = Rejection;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Rejection> {
        let (checked, parts) = Checked::of(request).await?;
        Ok(Self::read(&checked, &parts))
    }
}

impl<S: Send + Sync> FromRequest<S> for RawMessage {
    type Rejection = Rejection;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Rejection> {
        let (Checked { head, body }, _) = Checked::of(request).await?;
        Ok(Self { head, body })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Message<T> {
    type Rejection = Rejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, Rejection> {
        let raw = RawMessage::from_request(request, state).await?;
        let body = raw.json()?;
        Ok(Self { head: raw.head, body })
    }
}

impl<S: Send + Sync> FromRequest<S> for Disconnect {
    type Rejection = Rejection;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Rejection> {
        let (checked, _) = Checked::of(request).await?;
        Ok(Self { head: checked.head })
    }
}

impl<S: Send + Sync> FromRequest<S> for Event {
    type Rejection = Rejection;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Rejection> {
        let (checked, parts) = Checked::of(request).await?;
        Ok(match Slug::of_parts(&parts) {
            Slug::Connect => Self::Connect(Connect::read(&checked, &parts)),
            Slug::Disconnect => Self::Disconnect(Disconnect { head: checked.head }),
            Slug::Default | Slug::Named(_) => {
                Self::Message(RawMessage { head: checked.head, body: checked.body })
            }
        })
    }
}
