//! `requestParameters` of an integration: what a backend is told beside the message.
//!
//! A key names the place in the backend's request, a value where its text comes from. Both are parsed at
//! deployment. A source that is absent leaves its target out.

use crate::context::Event;
use crate::json_path::{JsonPath, JsonPathError};

/// Longest mapping expression, in characters. Source: API Gateway data mapping quota.
pub const MAX_EXPRESSION_LENGTH: usize = 512;

/// One entry of `requestParameters`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// Where the value goes.
    pub target: Target,
    /// Where it comes from.
    pub source: Source,
}

/// A place in the backend's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A header; the spelling is kept.
    Header(String),
    /// A query parameter.
    Query(String),
    /// Replaces `{name}` in the URI.
    Path(String),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Handshake header, its last value; `$connect` only.
    Header(String),
    /// Handshake header, all values joined by a comma.
    MultiValueHeader(String),
    /// Handshake query parameter, its last value; `$connect` only.
    Query(String),
    /// Handshake query parameter, all values joined by a comma.
    MultiValueQuery(String),
    /// The message, or a part of it.
    Body(Option<JsonPath>),
    /// A variable of [`Event::variable`].
    Context(String),
    /// A variable of the stage.
    StageVariable(String),
    /// Text between single quotes.
    Literal(String),
}

/// The entry is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// The key is not one of `integration.request.{header,querystring,path}.{name}`.
    #[error("Invalid mapping expression parameter specified: {key}")]
    Key {
        /// As given.
        key: String,
    },
    /// The value has no known form.
    #[error("Invalid mapping expression specified: {value}")]
    Value {
        /// As given.
        value: String,
    },
    /// The path behind `route.request.body` is none.
    #[error("Invalid mapping expression specified: {value}")]
    Path {
        /// As given.
        value: String,
        /// Where.
        #[source]
        source: JsonPathError,
    },
}

/// What a mapping may read.
pub struct Inputs<'a> {
    /// The event.
    pub event: &'a Event,
    /// Handshake headers; empty for other events.
    pub headers: &'a http::HeaderMap,
    /// Raw query string of the handshake; empty for other events.
    pub query: &'a str,
    /// The message; empty for other events.
    pub body: &'a str,
    /// Value of a stage variable.
    pub stage_variables: &'a crate::definition::Map,
}

impl Mapping {
    /// Parses one entry.
    ///
    /// # Errors
    /// [`MappingError`] with the text that the control plane shows.
    pub fn parse(key: &str, value: &str) -> Result<Self, MappingError> {
        let target = key
            .strip_prefix("integration.request.")
            .and_then(|target| target.split_once('.'))
            .filter(|(_, name)| is_name(name))
            .and_then(|(place, name)| match place {
                "header" => Some(Target::Header(name.to_owned())),
                "querystring" => Some(Target::Query(name.to_owned())),
                "path" => Some(Target::Path(name.to_owned())),
                _ => None,
            })
            .ok_or_else(|| MappingError::Key { key: key.to_owned() })?;
        Ok(Self { target, source: Source::parse(value)? })
    }
}

impl Source {
    /// Parses the value of an entry.
    ///
    /// # Errors
    /// [`MappingError`] with the text that the control plane shows.
    pub(crate) fn parse(value: &str) -> Result<Self, MappingError> {
        let invalid = || MappingError::Value { value: value.to_owned() };
        if value.chars().count() > MAX_EXPRESSION_LENGTH {
            return Err(invalid());
        }
        if let Some(text) = value.strip_prefix('\'') {
            return text.strip_suffix('\'').map(|text| Self::Literal(text.to_owned())).ok_or_else(invalid);
        }
        let named = |prefix: &str| value.strip_prefix(prefix).filter(|name| is_name(name)).map(str::to_owned);
        if let Some(path) = value.strip_prefix("route.request.body") {
            if path.is_empty() {
                return Ok(Self::Body(None));
            }
            return JsonPath::parse(path)
                .map(|path| Self::Body(Some(path)))
                .map_err(|source| MappingError::Path { value: value.to_owned(), source });
        }
        named("route.request.header.")
            .map(Self::Header)
            .or_else(|| named("route.request.multivalueheader.").map(Self::MultiValueHeader))
            .or_else(|| named("route.request.querystring.").map(Self::Query))
            .or_else(|| named("route.request.multivaluequerystring.").map(Self::MultiValueQuery))
            .or_else(|| named("context.").map(Self::Context))
            .or_else(|| named("stageVariables.").map(Self::StageVariable))
            .ok_or_else(invalid)
    }

    /// The value for one event, or nothing when the source is absent.
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Option<String> {
        match self {
            Self::Header(name) => header_values(inputs.headers, name).next_back(),
            Self::MultiValueHeader(name) => join(header_values(inputs.headers, name)),
            Self::Query(name) => query_values(inputs.query, name).last(),
            Self::MultiValueQuery(name) => join(query_values(inputs.query, name)),
            Self::Body(None) => (!inputs.body.is_empty()).then(|| inputs.body.to_owned()),
            Self::Body(Some(path)) => match path.find(inputs.body) {
                crate::json_path::Found::Text(text) => Some(text),
                _ => None,
            },
            Self::Context(name) => inputs.event.variable(name),
            Self::StageVariable(name) => inputs.stage_variables.get(name).cloned(),
            Self::Literal(text) => Some(text.clone()),
        }
    }
}

/// `{name}` of keys and values: `^[a-zA-Z0-9._$-]+$`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._$-".contains(&b))
}

fn header_values<'a>(
    headers: &'a http::HeaderMap,
    name: &str,
) -> impl DoubleEndedIterator<Item = String> + use<'a> {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    values.into_iter()
}

/// Values of one query parameter, decoded, in order.
pub fn query_values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + use<'a> {
    query_pairs(query).filter_map(move |(key, value)| (key == name).then_some(value))
}

/// Names and values of all query parameters, decoded, in order. `+` stands for a blank, as forms write it.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + use<'_> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    })
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

fn join(values: impl Iterator<Item = String>) -> Option<String> {
    let joined = values.collect::<Vec<_>>().join(",");
    (!joined.is_empty()).then_some(joined)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::context::{ConnectionFacts, EventKind};
    use crate::id::{ConnectionId, RequestId};

    fn event() -> Event {
        Event {
            connection: Arc::new(ConnectionFacts {
                connection_id: ConnectionId::parse("Hh2QmdfDIkwCF6w=").unwrap(),
                api_id: "k3x9q2m7vd".into(),
                stage: "prod".into(),
                domain_name: "ws.example.com".into(),
                source_ip: "203.0.113.7".parse().unwrap(),
                user_agent: None,
                is_secure: true,
                client_port: 443,
                connected_at: 1_736_942_400_000,
            }),
            request_id: RequestId::new(0, 0),
            route_key: "$connect".into(),
            request_time: 1_736_942_400_001,
            kind: EventKind::Connect,
            session: None,
            authorized: None,
        }
    }

    fn check(value: &str, expected: Option<&str>) {
        let mut headers = http::HeaderMap::new();
        headers.append("X-Tag", "one".parse().unwrap());
        headers.append("x-tag", "two".parse().unwrap());
        let stage_variables = [("tier".to_owned(), "gold".to_owned())].into();
        let inputs = Inputs {
            event: &event(),
            headers: &headers,
            query: "room=a%20b&room=c+d&empty",
            body: r#"{"a":{"b":7}}"#,
            stage_variables: &stage_variables,
        };
        let mapping = Mapping::parse("integration.request.header.X", value).expect(value);
        assert_eq!(mapping.source.evaluate(&inputs).as_deref(), expected, "{value}");
    }

    #[test]
    fn every_source_is_read() {
        // AG-19
        check("route.request.header.x-tag", Some("two"));
        check("route.request.header.absent", None);
        check("route.request.multivalueheader.X-TAG", Some("one,two"));
        check("route.request.querystring.room", Some("c d"));
        check("route.request.querystring.Room", None);
        check("route.request.querystring.empty", Some(""));
        check("route.request.multivaluequerystring.room", Some("a b,c d"));
        check("route.request.body", Some(r#"{"a":{"b":7}}"#));
        check("route.request.body.a.b", Some("7"));
        check("route.request.body.x", None);
        check("context.connectionId", Some("Hh2QmdfDIkwCF6w="));
        check("context.identity.sourceIp", Some("203.0.113.7"));
        check("context.identity.userAgent", None);
        check("context.nothing", None);
        check("stageVariables.tier", Some("gold"));
        check("stageVariables.none", None);
        check("'a literal: $x'", Some("a literal: $x"));
    }

    #[test]
    fn other_forms_are_refused() {
        for (key, value) in [
            ("integration.request.body.x", "'x'"),
            ("integration.request.header.", "'x'"),
            ("integration.request.header.a b", "'x'"),
            ("header.x", "'x'"),
            ("integration.request.header.x", "x"),
            ("integration.request.header.x", "'x"),
            ("integration.request.header.x", "route.request.cookie.x"),
            ("integration.request.header.x", "route.request.body.[x"),
            ("integration.request.header.x", ""),
        ] {
            assert!(Mapping::parse(key, value).is_err(), "{key} = {value}");
        }
        let long = format!("'{}'", "x".repeat(MAX_EXPRESSION_LENGTH));
        assert!(Mapping::parse("integration.request.header.x", &long).is_err());
    }
}
