//! One request of the public listener, and what is known of it: who asked, for what, with which ids it is answered.
//!
//! Facts are names, numbers and the few header values that the journal may have; they are gathered once for each
//! attempt, and only where somebody keeps them.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{
    CONNECTION, COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use http::{Method, Uri, Version};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use tidegate_auth::BEARER_SUBPROTOCOL;
use tidegate_core::id::RequestId;
use tidegate_core::journal::{FactValue, Facts};
use tidegate_core::notice::Place;
use tidegate_core::snapshot::Stage;

use super::client_address::ClientAddress;
use super::client_reference;
use super::service::Peer;
use crate::clock::now_millis;
use crate::gateway::Gateway;
use crate::logs::Log;

/// Longest value of a header that a fact holds, in characters. Source: our choice.
const MAX_VALUE: usize = 256;

/// Longest name that a fact holds, in characters. Source: our choice.
const MAX_NAME: usize = 64;

/// Most names that a fact holds. Source: our choice.
const MAX_NAMES: usize = 64;

/// Query parameters whose values may be facts, beside those that the operator names. Nobody's secrets stand there.
const SHOWN_VALUES: [&str; 2] = ["channel", "v"];

/// Most values of the query that facts hold. Source: our choice.
const MAX_SHOWN_VALUES: usize = 16;

/// Bytes that the facts of an ordinary attempt take.
const FACT_BYTES: usize = 512;

/// What stands for a text that may be a token.
const TOKEN: &str = "<token>";

/// Shortest run of letters and digits that may be a token. Source: our choice; names of subprotocols are words.
const TOKEN_RUN: usize = 20;

/// One request, from its head to its answer.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// Where, as far as it is known; the request id always is.
    pub(crate) place: Place,
    /// Since the head was complete.
    pub(crate) started: Instant,
    /// Those of the request, and what was noted on the way; none where nobody keeps them.
    facts: Facts,
    /// Facts are kept.
    pub(crate) keeps_facts: bool,
    /// Refusals name the diagnosis: the client is on the operator's list.
    pub(crate) tells_diagnosis: bool,
    /// Nobody wants to connect: the client asks what would become of it.
    pub(crate) is_dry_run: bool,
    /// What is logged of it, where its stage logs.
    pub(crate) log: Log,
}

/// A request head, in whatever form it came.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) version: Version,
    pub(crate) headers: &'a HeaderMap,
}

impl Attempt {
    /// Of a peer whose request could not be read.
    pub(crate) fn unread(gateway: &Gateway, peer: &Peer) -> Self {
        let address = peer.address.ip().to_canonical();
        let keeps_facts = gateway.keeps_facts();
        let mut facts = Facts::none();
        if keeps_facts {
            of_peer(&mut facts, peer);
        }
        Self {
            place: Place {
                request_id: Some(gateway.request_id(now_millis())),
                address: Some(address),
                ..Place::default()
            },
            started: Instant::now(),
            facts,
            keeps_facts,
            tells_diagnosis: gateway.is_debugged(address),
            is_dry_run: false,
            log: None,
        }
    }

    /// Of a request.
    pub(crate) fn new(
        gateway: &Gateway,
        peer: &Peer,
        client: &ClientAddress,
        head: &Head<'_>,
        started: Instant,
    ) -> Self {
        let keeps_facts = gateway.keeps_facts();
        let mut facts = Facts::none();
        if keeps_facts {
            facts = Facts::with_capacity(FACT_BYTES);
            of_peer(&mut facts, peer);
            of_head(&mut facts, client.ip, client.forwarded_for.is_some(), head);
            let query = head.uri.query().unwrap_or_default();
            let values = shown_values(query, &gateway.in_force().node.shown_query_values);
            if !values.is_empty() {
                facts.add("queryValues", values);
            }
            // Of a backend's own one-time token, too: a second use of it shows here alone.
            let token = backend_token(query);
            facts.add_some("fingerprint", token.map(|token| gateway.tokens.fingerprint(&token)));
        }
        Self {
            place: Place {
                request_id: Some(gateway.request_id(now_millis())),
                client_ref: client_reference::find(head.uri.query().unwrap_or_default()).map(Into::into),
                address: Some(client.ip),
                ..Place::default()
            },
            started,
            facts,
            keeps_facts,
            tells_diagnosis: gateway.is_debugged(client.ip),
            is_dry_run: false,
            log: None,
        }
    }

    /// The same attempt for whoever only has to say where and when: the facts stay here.
    pub(crate) fn without_facts(&self) -> Self {
        Self {
            place: self.place.clone(),
            started: self.started,
            facts: Facts::none(),
            keeps_facts: self.keeps_facts,
            tells_diagnosis: self.tells_diagnosis,
            is_dry_run: self.is_dry_run,
            log: self.log.clone(),
        }
    }

    /// Where, and what is known of it.
    pub(crate) fn into_told(self) -> (Place, Facts) {
        (self.place, self.facts)
    }

    /// Where, and what is known of it if an accepted handshake's facts are wanted.
    pub(crate) fn into_opened(self, gateway: &Gateway) -> (Place, Facts) {
        match self.place.connection_id {
            Some(id) if !gateway.wants_success(id) => (self.place, Facts::none()),
            _ => self.into_told(),
        }
    }

    /// Notes the stage that the address leads to.
    pub(crate) fn at(&mut self, stage: &Stage) {
        self.place.api_id = Arc::clone(&stage.api_id);
        self.place.stage = Arc::clone(&stage.name);
    }

    /// The id of the request; made for every attempt.
    pub(crate) fn request_id(&self) -> RequestId {
        self.place.request_id.unwrap_or_else(|| RequestId::new(0, 0))
    }

    /// Adds a fact where they are kept.
    pub(crate) fn note(&mut self, name: &'static str, value: impl FactValue) {
        if self.keeps_facts {
            self.facts.add(name, value);
        }
    }

    /// Adds facts where they are kept.
    pub(crate) fn note_all(&mut self, facts: Facts) {
        if self.keeps_facts {
            self.facts.extend(facts);
        }
    }
}

fn of_peer(facts: &mut Facts, peer: &Peer) {
    facts.add_printed("peer", peer.address.ip().to_canonical());
    facts.add("peerPort", peer.address.port());
    facts.add("listener", peer.listener.as_str());
    if let Some(tls) = &peer.tls {
        facts.add("tlsVersion", tls.version);
        facts.add_some("sni", tls.server_name.as_deref().map(|name| short(name, MAX_VALUE)));
        facts.add_some("alpn", tls.alpn.clone());
    }
}

fn of_head(facts: &mut Facts, client_ip: IpAddr, is_trusted: bool, head: &Head<'_>) {
    let Head { method, uri, version, headers } = *head;
    let value = |name| headers.get(name).map(|value| short_value(value, MAX_VALUE));
    facts.add_printed("clientAddress", client_ip);
    facts.add("clientAddressTrusted", is_trusted);
    facts.add("httpVersion", version_name(version));
    facts.add("method", short(method.as_str(), MAX_NAME));
    facts.add_some("host", value(HOST));
    facts.add_some(
        "forwardedHost",
        headers
            .get("x-forwarded-host")
            .and_then(|value| value.to_str().ok())
            .map(|value| short(value, MAX_VALUE)),
    );
    facts.add("path", path_without_tokens(uri.path()));
    facts.add_list("queryNames", names(query_names(uri.query().unwrap_or_default())));
    facts.add_list("headerNames", names(headers.keys().map(|name| Cow::Borrowed(name.as_str()))));
    facts.add_list("cookieNames", names(cookie_names(headers)));
    facts.add_some("origin", value(ORIGIN));
    facts.add_some("userAgent", value(USER_AGENT));
    let offered = offered(headers);
    if !offered.is_empty() {
        facts.add("offeredSubprotocols", offered);
    }
    facts.add_some("extensions", value(SEC_WEBSOCKET_EXTENSIONS));
    facts.add("upgradePresent", headers.contains_key(UPGRADE));
    facts.add("connectionPresent", headers.contains_key(CONNECTION));
    facts.add("keyPresent", headers.contains_key(SEC_WEBSOCKET_KEY));
    facts.add_some("version", value(SEC_WEBSOCKET_VERSION));
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    // Request line and header lines as HTTP/1.1 writes them: `: ` and line ends included.
    let lines: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    facts.add("headBytes", method.as_str().len() + target + "  HTTP/1.1\r\n".len() + lines + 2);
    facts.add("urlLength", target);
}

/// The one-time token of a query, by the name that the Django package and the gateway's own policies give it.
fn backend_token(query: &str) -> Option<Cow<'_, str>> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("ws_token="))?;
    Some(percent_decode_str(value).decode_utf8_lossy()).filter(|token| !token.is_empty())
}

/// As the journal has it.
pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// The first characters of a text, without control characters.
pub(crate) fn short(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && !text.bytes().any(|byte| byte.is_ascii_control()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(max).map(|char| if char.is_control() { '?' } else { char }).collect())
}

/// The first characters of a header's value.
pub(crate) fn short_value(value: &HeaderValue, max: usize) -> Cow<'_, str> {
    match String::from_utf8_lossy(value.as_bytes()) {
        Cow::Borrowed(text) => short(text, max),
        Cow::Owned(text) => Cow::Owned(short(&text, max).into_owned()),
    }
}

/// Names, at most so many, none of which can be a token.
fn names<'a>(names: impl Iterator<Item = Cow<'a, str>>) -> impl Iterator<Item = Cow<'a, str>> {
    names.take(MAX_NAMES).map(|name| match name {
        Cow::Borrowed(name) => without_token(name),
        Cow::Owned(name) => Cow::Owned(without_token(&name).into_owned()),
    })
}

/// A name for a fact; what may be a token is replaced.
pub(crate) fn without_token(name: &str) -> Cow<'_, str> {
    if is_token_shaped(name) { Cow::Borrowed(TOKEN) } else { short(name, MAX_NAME) }
}

/// Decoded names of query parameters.
pub(crate) fn query_names(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_decode_str(name).decode_utf8_lossy()
    })
}

/// Values of the query that may be kept, by the names of their parameters; what may be a token is replaced even there.
fn shown_values(query: &str, named: &[Box<str>]) -> Map<String, Value> {
    let mut values = Map::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_shown = SHOWN_VALUES.contains(&name) || named.iter().any(|named| **named == *name);
        if is_shown && values.len() < MAX_SHOWN_VALUES {
            let value = percent_decode_str(value).decode_utf8_lossy();
            values.insert(short(name, MAX_NAME).into_owned(), without_token(&value).into());
        }
    }
    values
}

fn cookie_names(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, str>> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, _)| Cow::Borrowed(name.trim()))
}

/// What a handshake offers, as the journal may have it: the half of the pair that is a token never is.
pub(crate) fn offered(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let mut is_token_next = false;
    let items = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty());
    items
        .take(MAX_NAMES)
        .map(|item| {
            let is_token = std::mem::replace(&mut is_token_next, item == BEARER_SUBPROTOCOL);
            if is_token { Cow::Borrowed(TOKEN) } else { without_token(item) }
        })
        .collect()
}

/// The path, each segment of which may be a name and none a token.
fn path_without_tokens(path: &str) -> Cow<'_, str> {
    if !is_token_shaped(path) {
        return short(path, MAX_VALUE);
    }
    let segments: Vec<_> = path.split('/').take(MAX_NAMES).map(without_token).collect();
    Cow::Owned(short(&segments.join("/"), MAX_VALUE).into_owned())
}

/// Whether a text may be, or hold, a token: a long run of letters and digits, both of them. Words are not, nor are
/// API ids, which have ten characters.
pub(crate) fn is_token_shaped(text: &str) -> bool {
    let is_of_token =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'=' | b'~');
    if text.len() < TOKEN_RUN {
        return false;
    }
    text.as_bytes().split(|byte| !is_of_token(*byte)).any(|run| {
        run.len() >= TOKEN_RUN
            && run.iter().any(u8::is_ascii_digit)
            && run.iter().any(u8::is_ascii_alphabetic)
    })
}

#[cfg(test)]
mod tests;
