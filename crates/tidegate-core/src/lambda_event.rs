//! The JSON document that a function gets: one for each event of a connection, and one for authorizers.
//!
//! Members, their order and their absence are part of the contract: libraries tell the kinds of events apart by what is
//! not there. Source: recorded events of API Gateway WebSocket APIs; *Lambda proxy integrations for WebSocket APIs* and
//! *Create an API Gateway Lambda REQUEST authorizer* in its developer guide.

use std::borrow::Cow;

use http::HeaderMap;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::context::{AuthorizerAnswer, ClfTime, Event, EventKind, SessionFacts};
use crate::definition::Map;
use crate::limits;
use crate::mapping;

#[cfg(test)]
mod tests;

/// What an event is made of.
#[derive(Clone, Copy)]
pub struct EventInputs<'a> {
    /// The event.
    pub event: &'a Event,
    /// Those of the stage.
    pub stage_variables: &'a Map,
    /// Of the handshake; for `$connect` only.
    pub headers: Option<&'a HeaderMap>,
    /// How the client wrote their names.
    pub spelling: Option<&'a Spelling>,
    /// Raw query string of the handshake; for `$connect` only.
    pub query: &'a str,
    /// The message.
    pub body: &'a str,
    /// `body` is a binary message as base64.
    pub is_base64: bool,
    /// From where the client came.
    pub forwarded: Forwarded<'a>,
    /// `X-Amzn-Trace-Id`.
    pub trace_id: &'a str,
}

/// What `X-Forwarded-*` headers say.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// Addresses from the client to the last proxy, joined by a comma and a blank.
    pub client: &'a str,
    /// Port that the client used.
    pub port: u16,
    /// `https` or `http`.
    pub scheme: &'a str,
}

/// The event for a function, as JSON.
pub fn event(inputs: &EventInputs<'_>) -> Vec<u8> {
    let context = RequestContext { event: inputs.event, has_authorizer: true };
    let stage_variables = (!inputs.stage_variables.is_empty()).then_some(inputs.stage_variables);
    match &inputs.event.kind {
        EventKind::Connect => {
            let headers = Fields::of_handshake(inputs, false);
            let query = Fields::of_query(inputs.query);
            let has_query = !query.0.is_empty();
            to_json(&Connect {
                headers: Single(&headers),
                multi_value_headers: Multiple(&headers),
                query_string_parameters: has_query.then_some(Single(&query)),
                multi_value_query_string_parameters: has_query.then_some(Multiple(&query)),
                stage_variables,
                request_context: context,
                is_base64_encoded: false,
            })
        }
        EventKind::Message { .. } => to_json(&Message {
            stage_variables,
            request_context: context,
            body: inputs.body,
            is_base64_encoded: inputs.is_base64,
        }),
        EventKind::Disconnect { .. } => {
            let headers = Fields::of_disconnect(inputs.event);
            to_json(&Disconnect {
                headers: Single(&headers),
                multi_value_headers: Multiple(&headers),
                stage_variables,
                request_context: context,
                is_base64_encoded: false,
            })
        }
    }
}

/// The event for an authorizer of type `REQUEST`, as JSON. `inputs.event` is that of `$connect`.
pub fn authorizer_event(inputs: &EventInputs<'_>, method_arn: &str) -> Vec<u8> {
    let headers = Fields::of_handshake(inputs, true);
    let query = Fields::of_query(inputs.query);
    to_json(&Request {
        kind: "REQUEST",
        method_arn,
        headers: Single(&headers),
        multi_value_headers: Multiple(&headers),
        query_string_parameters: Single(&query),
        multi_value_query_string_parameters: Multiple(&query),
        stage_variables: inputs.stage_variables,
        request_context: RequestContext { event: inputs.event, has_authorizer: false },
    })
}

fn to_json(event: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(event).expect("every key is text")
}

/// How a client wrote the names of its headers: HTTP libraries keep them in lower case only.
#[derive(Clone, Default)]
pub struct Spelling {
    /// The head as it came, and possibly what came around it.
    raw: Vec<u8>,
}

/// Values stay out of logs.
impl std::fmt::Debug for Spelling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spelling").field("bytes", &self.raw.len()).finish()
    }
}

impl Spelling {
    /// Takes in bytes as they come from a connection. The last [`limits::MAX_HEAD_BYTES`] are kept, or fewer.
    pub fn take_in(&mut self, bytes: &[u8]) {
        // More than a head was a body: what counts comes behind it.
        if self.raw.len() + bytes.len() > limits::MAX_HEAD_BYTES {
            self.raw.clear();
        }
        let start = bytes.len().saturating_sub(limits::MAX_HEAD_BYTES);
        self.raw.extend_from_slice(bytes.get(start..).unwrap_or_default());
    }

    /// Forgets what came.
    pub fn clear(&mut self) {
        self.raw.clear();
    }

    /// A name as the client wrote it; the last one, where it wrote it several times.
    pub fn of(&self, name: &str) -> Option<&str> {
        self.raw.split(|byte| *byte == b'\n').rev().find_map(|line| {
            let (written, rest) = line.split_at_checked(name.len())?;
            (rest.first() == Some(&b':') && written.eq_ignore_ascii_case(name.as_bytes()))
                .then(|| std::str::from_utf8(written).ok())?
        })
    }
}

/// A name as most programs write it, for requests of which the spelling is not known.
fn usual_spelling(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("sec-websocket-") {
        return format!("Sec-WebSocket-{}", usual_spelling(rest));
    }
    let mut is_first = true;
    name.chars()
        .map(|letter| {
            let written = if is_first { letter.to_ascii_uppercase() } else { letter };
            is_first = letter == '-';
            written
        })
        .collect()
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Connect<'a> {
    headers: Single<'a>,
    multi_value_headers: Multiple<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_string_parameters: Option<Single<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_query_string_parameters: Option<Multiple<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage_variables: Option<&'a Map>,
    request_context: RequestContext<'a>,
    is_base64_encoded: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    stage_variables: Option<&'a Map>,
    request_context: RequestContext<'a>,
    body: &'a str,
    is_base64_encoded: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Disconnect<'a> {
    headers: Single<'a>,
    multi_value_headers: Multiple<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage_variables: Option<&'a Map>,
    request_context: RequestContext<'a>,
    is_base64_encoded: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    method_arn: &'a str,
    headers: Single<'a>,
    multi_value_headers: Multiple<'a>,
    query_string_parameters: Single<'a>,
    multi_value_query_string_parameters: Multiple<'a>,
    stage_variables: &'a Map,
    request_context: RequestContext<'a>,
}

/// Headers or parameters with all their values, in the order of the document.
struct Fields<'a>(Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>);

impl<'a> Fields<'a> {
    /// Headers in the order of their names, as the real service lists them.
    fn of_handshake(inputs: &EventInputs<'a>, for_authorizer: bool) -> Self {
        let mut fields: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)> = Vec::new();
        if let Some(headers) = inputs.headers {
            for name in headers.keys().filter(|name| is_shown(name.as_str())) {
                let values = headers.get_all(name).iter();
                let values = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
                let written = inputs.spelling.and_then(|spelling| spelling.of(name.as_str()));
                let written = written.map_or_else(|| usual_spelling(name.as_str()).into(), Cow::Borrowed);
                fields.push((written, values));
            }
        }
        let Forwarded { client, port, scheme } = inputs.forwarded;
        fields.push(("X-Amzn-Trace-Id".into(), vec![inputs.trace_id.into()]));
        fields.push(("X-Forwarded-For".into(), vec![client.into()]));
        fields.push(("X-Forwarded-Port".into(), vec![port.to_string().into()]));
        fields.push(("X-Forwarded-Proto".into(), vec![scheme.into()]));
        if for_authorizer {
            fields.push(("Connection".into(), vec!["upgrade".into()]));
            fields.push(("content-length".into(), vec!["0".into()]));
            fields.push(("Upgrade".into(), vec!["websocket".into()]));
        }
        fields.sort_by_cached_key(|(name, _)| name.to_ascii_lowercase());
        Self(fields)
    }

    /// There is no request at the end of a connection; these four stand for one.
    fn of_disconnect(event: &'a Event) -> Self {
        // Below a path the domain name of events has that path behind it.
        let host = event.connection.domain_name.split('/').next().unwrap_or_default();
        Self(vec![
            ("Host".into(), vec![host.into()]),
            ("x-api-key".into(), vec!["".into()]),
            ("X-Forwarded-For".into(), vec!["".into()]),
            ("x-restapi".into(), vec!["".into()]),
        ])
    }

    /// Decoded parameters, in the order of their first appearance.
    fn of_query(query: &str) -> Self {
        let mut fields: Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)> = Vec::new();
        for (name, value) in mapping::query_pairs(query) {
            match fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value.into()),
                None => fields.push((name.into(), vec![value.into()])),
            }
        }
        Self(fields)
    }
}

/// Whether a client's header is in an event as the client sent it. What a client claims under the gateway's own names is
/// not.
fn is_shown(name: &str) -> bool {
    const HIDDEN: [&str; 8] = [
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "x-amzn-trace-id",
        "x-forwarded-for",
        "x-forwarded-port",
        "x-forwarded-proto",
    ];
    !HIDDEN.contains(&name) && !name.starts_with("tidegate-")
}

/// The last value of each field.
struct Single<'a>(&'a Fields<'a>);

impl Serialize for Single<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.0.iter().map(|(name, values)| (name, values.last())))
    }
}

/// All values of each field.
struct Multiple<'a>(&'a Fields<'a>);

impl Serialize for Multiple<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.0.iter().map(|(name, values)| (name, values)))
    }
}

/// `requestContext`.
struct RequestContext<'a> {
    event: &'a Event,
    has_authorizer: bool,
}

impl Serialize for RequestContext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.event;
        let connection = &event.connection;
        let request_id = event.request_id.to_string();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("routeKey", &event.route_key)?;
        if self.has_authorizer
            && let Some(authorizer) = AuthorizerContext::of(event)
        {
            map.serialize_entry("authorizer", &authorizer)?;
        }
        match &event.kind {
            EventKind::Message { message_id } => {
                map.serialize_entry("messageId", &message_id.to_string())?;
            }
            EventKind::Disconnect { status_code, .. } => {
                map.serialize_entry("disconnectStatusCode", status_code)?;
            }
            EventKind::Connect => {}
        }
        map.serialize_entry("eventType", event.event_type())?;
        map.serialize_entry("extendedRequestId", &request_id)?;
        map.serialize_entry("requestTime", &format_args!("{}", ClfTime(event.request_time)))?;
        map.serialize_entry("messageDirection", "IN")?;
        if let EventKind::Disconnect { reason, .. } = &event.kind {
            map.serialize_entry("disconnectReason", reason)?;
        }
        map.serialize_entry("stage", &connection.stage)?;
        map.serialize_entry("connectedAt", &connection.connected_at)?;
        map.serialize_entry("requestTimeEpoch", &event.request_time)?;
        map.serialize_entry("identity", &IdentityContext(event))?;
        map.serialize_entry("requestId", &request_id)?;
        map.serialize_entry("domainName", &connection.domain_name)?;
        map.serialize_entry("connectionId", &connection.connection_id.to_string())?;
        map.serialize_entry("apiId", &connection.api_id)?;
        map.end()
    }
}

/// `requestContext.identity`.
struct IdentityContext<'a>(&'a Event);

impl Serialize for IdentityContext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let connection = &self.0.connection;
        let mut map = serializer.serialize_map(None)?;
        if let Some(authorized) = &self.0.authorized {
            if let Some(caller) = &authorized.caller {
                map.serialize_entry("accountId", &caller.account_id)?;
                map.serialize_entry("caller", &caller.caller)?;
                map.serialize_entry("user", &caller.user)?;
                map.serialize_entry("userArn", &caller.user_arn)?;
                map.serialize_entry("accessKey", &caller.access_key)?;
            }
            if let Some(key) = &authorized.api_key {
                if !key.value.is_empty() {
                    map.serialize_entry("apiKey", &key.value)?;
                }
                map.serialize_entry("apiKeyId", &key.id)?;
            }
        }
        if let Some(user_agent) = &connection.user_agent {
            map.serialize_entry("userAgent", user_agent)?;
        }
        map.serialize_entry("sourceIp", &connection.source_ip.to_string())?;
        map.end()
    }
}

/// `requestContext.authorizer`: an authorizer's answer, or what the gateway's own checks established in its place.
enum AuthorizerContext<'a> {
    Answer { answer: &'a AuthorizerAnswer, shows_latency: bool },
    Session(&'a SessionFacts),
}

impl<'a> AuthorizerContext<'a> {
    fn of(event: &'a Event) -> Option<Self> {
        let answer = event.authorized.as_ref().and_then(|authorized| authorized.authorizer.as_ref());
        match (answer, &event.session) {
            (Some(answer), _) => {
                Some(Self::Answer { answer, shows_latency: event.kind == EventKind::Connect })
            }
            (None, Some(session)) if session.identity.user.is_some() => Some(Self::Session(session)),
            _ => None,
        }
    }
}

impl Serialize for AuthorizerContext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            // As events of format 1.0 have it, which is the format of WebSocket APIs.
            Self::Answer { answer: AuthorizerAnswer { token: Some(token), .. }, .. } => {
                map.serialize_entry("claims", &token.claims)?;
                map.serialize_entry("scopes", &token.scopes)?;
            }
            Self::Answer { answer, shows_latency } => {
                map.serialize_entry("principalId", &answer.principal_id)?;
                if *shows_latency {
                    map.serialize_entry("integrationLatency", &answer.latency_ms)?;
                }
                let is_own =
                    |name: &str| name == "principalId" || (*shows_latency && name == "integrationLatency");
                for (name, value) in answer.context.iter().filter(|(name, _)| !is_own(name)) {
                    map.serialize_entry(name, value)?;
                }
            }
            Self::Session(SessionFacts { identity, channels }) => {
                map.serialize_entry("principalId", &identity.user)?;
                if let Some(session) = &identity.session {
                    map.serialize_entry("session", session)?;
                }
                map.serialize_entry("auth", identity.auth.as_str())?;
                if !identity.roles.is_empty() {
                    map.serialize_entry("roles", &identity.roles.join(","))?;
                }
                if !channels.is_empty() {
                    map.serialize_entry("channels", channels)?;
                }
            }
        }
        map.end()
    }
}
