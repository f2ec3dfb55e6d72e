//! Integrations that are not proxies (`HTTP`, `AWS`, `MOCK`): templates make the backend's request of the message, and
//! the client's answer of the backend's.
//!
//! Everything is compiled at deployment. Which templates and which answer are taken is decided here; calling backends
//! is the gateway's.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::context::Event;
use crate::definition::{self, ApiDefinition};
use crate::json_path::{Found, JsonPath};
use crate::mapping::Mapping;
use crate::pattern::Pattern;
use crate::select::Expression;
use crate::snapshot::{HttpIntegration, LambdaIntegration};
use crate::template::{RenderError, Scope, Template};

/// An integration with templates.
#[derive(Debug)]
pub struct TransformedIntegration {
    /// Who is asked.
    pub backend: Backend,
    /// What makes the backend's request.
    pub request_templates: Templates,
    /// What happens without a fitting template.
    pub passthrough: Passthrough,
    /// Of what goes to the backend.
    pub content_handling: Option<ContentHandling>,
    /// What can be answered.
    pub responses: Vec<Response>,
    /// Which template makes a message's answer depends on headers of the backend's.
    pub reads_headers: bool,
}

/// Who is asked.
#[derive(Debug)]
pub enum Backend {
    /// Nobody.
    Mock,
    /// An HTTP endpoint.
    Http(Box<HttpIntegration>),
    /// A function.
    Lambda {
        /// Which.
        function: Box<LambdaIntegration>,
        /// Of these only `X-Amz-Invocation-Type` means something.
        mappings: Vec<Mapping>,
    },
    /// An action of another AWS service.
    Aws(Box<AwsIntegration>),
}

/// An action of an AWS service.
#[derive(Debug)]
pub struct AwsIntegration {
    /// Of the service.
    pub region: String,
    /// As in signatures and host names: `sqs`.
    pub service: String,
    /// Method, path and mappings; its host is not that of the service.
    pub request: HttpIntegration,
    /// Which profile of credentials signs the call.
    pub credentials_arn: Option<String>,
}

/// Templates by their key, and what chooses among them.
#[derive(Debug, Default)]
pub struct Templates {
    /// By key.
    pub by_key: HashMap<String, Template>,
    /// Absent: `application/json`.
    pub selection: Option<Expression>,
}

/// `passthroughBehavior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passthrough {
    /// Body unchanged.
    WhenNoMatch,
    /// Unchanged only when there are no templates at all.
    WhenNoTemplates,
    /// 415.
    Never,
}

/// `contentHandlingStrategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentHandling {
    /// Text is base64 of what is meant.
    ToBinary,
    /// Bytes become their base64 text. Messages to a backend are text already.
    ToText,
}

/// An integration response.
#[derive(Debug)]
pub struct Response {
    /// When it is taken.
    pub key: ResponseKey,
    /// What makes the client's answer of the backend's.
    pub templates: Templates,
    /// Of the backend's body, before the template.
    pub content_handling: Option<ContentHandling>,
    /// Headers of a handshake's answer.
    pub headers: Vec<(http::HeaderName, HeaderSource)>,
}

/// Key of an integration response.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseKey {
    /// `$default`.
    Default,
    /// `/2\d\d/`.
    Pattern(Pattern),
}

/// Where the value of a header of a handshake's answer comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderSource {
    /// Header of the backend, its last value.
    Header(http::HeaderName),
    /// Header of the backend, all values joined by a comma.
    MultiValueHeader(http::HeaderName),
    /// The backend's body, or a part of it.
    Body(Option<JsonPath>),
    /// Text between single quotes.
    Literal(String),
}

/// What a backend has answered, as far as selection and mappings read it.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// Status.
    pub status: u16,
    /// Its headers.
    pub headers: &'a http::HeaderMap,
    /// Its body, as text.
    pub body: &'a str,
}

/// The template of a message.
#[derive(Debug)]
pub enum Chosen<'a> {
    /// This one.
    Template(&'a Template),
    /// None: the body goes on as it is.
    Unchanged,
    /// None, and the body must not go on: 415.
    Refused,
}

impl Templates {
    /// The template for a message; with `answered`, of its answer.
    pub fn choose(&self, message: &str, answered: Option<&Answered<'_>>) -> Option<&Template> {
        let variable = |name: &str| answered.and_then(|answered| answered.variable(name));
        let key = self.selection.as_ref().map(|selection| selection.evaluate(message, &variable).value);
        let key = key.as_deref().unwrap_or("application/json");
        self.by_key.get(key).or_else(|| self.by_key.get("$default"))
    }
}

impl Answered<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        let name = name.strip_prefix("integration.").unwrap_or(name).strip_prefix("response.")?;
        if name == "statuscode" {
            return Some(self.status.to_string());
        }
        if let Some(name) = name.strip_prefix("header.") {
            let value = self.headers.get_all(name).iter().next_back()?;
            return Some(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        if let Some(name) = name.strip_prefix("multivalueheader.") {
            return joined(self.headers, name);
        }
        let path = name.strip_prefix("body")?;
        Some(JsonPath::parse(path).ok()?.find(self.body).into_text())
    }
}

fn joined(headers: &http::HeaderMap, name: impl http::header::AsHeaderName) -> Option<String> {
    let values: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(","))
}

impl TransformedIntegration {
    /// What becomes of a message on its way to the backend.
    pub fn request_template(&self, message: &str) -> Chosen<'_> {
        match self.request_templates.choose(message, None) {
            Some(template) => Chosen::Template(template),
            None => match self.passthrough {
                Passthrough::Never => Chosen::Refused,
                Passthrough::WhenNoTemplates if !self.request_templates.by_key.is_empty() => Chosen::Refused,
                _ => Chosen::Unchanged,
            },
        }
    }

    /// The integration response `$default`.
    pub fn default_response(&self) -> Option<&Response> {
        self.responses.iter().find(|response| response.key == ResponseKey::Default)
    }

    /// The integration response for a status or an error message: the first whose pattern fits the whole, else
    /// `$default`.
    pub fn response(&self, value: &str) -> Option<&Response> {
        let fits =
            |response: &&Response| matches!(&response.key, ResponseKey::Pattern(key) if key.fits(value));
        self.responses.iter().find(fits).or_else(|| self.default_response())
    }
}

impl ContentHandling {
    /// What goes to the backend in place of a text; nothing when the text is not base64.
    pub fn of_request(self, text: String) -> Option<Vec<u8>> {
        match self {
            Self::ToBinary => STANDARD.decode(text.trim()).ok(),
            Self::ToText => Some(text.into_bytes()),
        }
    }

    /// What a backend's body becomes; nothing when it is not base64.
    pub fn of_response(self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::ToBinary => STANDARD.decode(body.trim_ascii()).ok(),
            Self::ToText => Some(STANDARD.encode(body).into_bytes()),
        }
    }
}

impl Response {
    /// The client's answer of the backend's body; the body itself without a template.
    ///
    /// # Errors
    /// [`RenderError`] of the template.
    pub fn transform(
        &self,
        message: &str,
        answered: &Answered<'_>,
        event: &Event,
        stage_variables: &definition::Map,
    ) -> Result<Option<String>, RenderError> {
        let Some(template) = self.templates.choose(message, Some(answered)) else { return Ok(None) };
        let scope = Scope { event, stage_variables, body: answered.body, headers: None, query: "" };
        template.render(&scope).map(Some)
    }
}

impl HeaderSource {
    fn parse(text: &str) -> Option<Self> {
        if let Some(literal) = text.strip_prefix('\'') {
            return literal.strip_suffix('\'').map(|literal| Self::Literal(literal.to_owned()));
        }
        let source = text.strip_prefix("integration.response.")?;
        if let Some(name) = source.strip_prefix("header.") {
            return name.parse().ok().map(Self::Header);
        }
        if let Some(name) = source.strip_prefix("multivalueheader.") {
            return name.parse().ok().map(Self::MultiValueHeader);
        }
        match source.strip_prefix("body")? {
            "" => Some(Self::Body(None)),
            path => JsonPath::parse(path).ok().map(|path| Self::Body(Some(path))),
        }
    }

    /// The value, or nothing when the source is absent or cannot stand in a header.
    pub fn evaluate(&self, answered: &Answered<'_>) -> Option<http::HeaderValue> {
        match self {
            Self::Header(name) => answered.headers.get_all(name).iter().next_back().cloned(),
            Self::MultiValueHeader(name) => joined(answered.headers, name)?.parse().ok(),
            Self::Body(None) => answered.body.parse().ok(),
            Self::Body(Some(path)) => match path.find(answered.body) {
                Found::Text(text) => text.parse().ok(),
                _ => None,
            },
            Self::Literal(text) => text.parse().ok(),
        }
    }
}

/// Compiles the templates and answers of an integration.
///
/// # Errors
/// A text for operators.
pub fn compile(
    backend: Backend,
    integration: &definition::Integration,
    definition: &ApiDefinition,
) -> Result<TransformedIntegration, String> {
    let responses = definition.integration_responses.get(&integration.integration_id);
    let reads_headers = responses
        .into_iter()
        .flatten()
        .filter_map(|response| response.template_selection_expression.as_deref())
        .any(|selection| selection.contains("header."));
    Ok(TransformedIntegration {
        reads_headers,
        backend,
        request_templates: templates(
            "request template",
            integration.request_templates.as_ref(),
            integration.template_selection_expression.as_deref(),
        )?,
        passthrough: match integration.passthrough_behavior.as_str() {
            "NEVER" => Passthrough::Never,
            "WHEN_NO_TEMPLATES" => Passthrough::WhenNoTemplates,
            _ => Passthrough::WhenNoMatch,
        },
        content_handling: content_handling(integration.content_handling_strategy.as_deref()),
        responses: responses.into_iter().flatten().map(response).collect::<Result<_, _>>()?,
    })
}

fn content_handling(text: Option<&str>) -> Option<ContentHandling> {
    match text {
        Some("CONVERT_TO_BINARY") => Some(ContentHandling::ToBinary),
        Some("CONVERT_TO_TEXT") => Some(ContentHandling::ToText),
        _ => None,
    }
}

fn templates(
    what: &str,
    texts: Option<&definition::Map>,
    selection: Option<&str>,
) -> Result<Templates, String> {
    let parse = |(key, text): (&String, &String)| match Template::parse(text) {
        Ok(template) => Ok((key.clone(), template)),
        Err(error) => Err(format!("{what} `{key}`: {error}")),
    };
    let selection = selection.filter(|text| !text.is_empty()).map(Expression::parse).transpose();
    Ok(Templates {
        by_key: texts.into_iter().flatten().map(parse).collect::<Result<_, _>>()?,
        selection: selection.map_err(|error| format!("selection of the {what}: {error}"))?,
    })
}

fn response(response: &definition::IntegrationResponse) -> Result<Response, String> {
    let key = response.integration_response_key.as_str();
    let headers = response.response_parameters.iter().flatten().map(|(target, source)| {
        let name = target.strip_prefix("method.response.header.").and_then(|name| name.parse().ok());
        let source = HeaderSource::parse(source);
        name.zip(source).ok_or_else(|| format!("integration response `{key}`: `{target}` cannot be mapped"))
    });
    Ok(Response {
        key: parse_key(key)?,
        templates: templates(
            &format!("response template of `{key}`"),
            response.response_templates.as_ref(),
            response.template_selection_expression.as_deref(),
        )?,
        content_handling: content_handling(response.content_handling_strategy.as_deref()),
        headers: headers.collect::<Result<_, _>>()?,
    })
}

/// `$default` or `/pattern/`.
///
/// # Errors
/// A text for whoever wrote it.
pub fn parse_key(key: &str) -> Result<ResponseKey, String> {
    if key == "$default" {
        return Ok(ResponseKey::Default);
    }
    let pattern = key.strip_prefix('/').and_then(|key| key.strip_suffix('/')).unwrap_or(key);
    Pattern::compile(pattern)
        .map(ResponseKey::Pattern)
        .map_err(|error| format!("integration response `{key}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integration(templates: &[(&str, &str)], passthrough: &str) -> TransformedIntegration {
        let mut definition = ApiDefinition::default();
        let integration = definition::Integration {
            integration_id: "i".to_owned(),
            passthrough_behavior: passthrough.to_owned(),
            request_templates: (!templates.is_empty()).then(|| {
                templates.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
            }),
            template_selection_expression: Some("$request.body.kind".to_owned()),
            ..definition::Integration::default()
        };
        let keyed = |key: &str| definition::IntegrationResponse {
            integration_response_key: key.to_owned(),
            ..definition::IntegrationResponse::default()
        };
        let responses = vec![keyed("/4\\d\\d/"), keyed("$default"), keyed("/Not found.*/")];
        definition.integration_responses.insert("i".to_owned(), responses);
        compile(Backend::Mock, &integration, &definition).unwrap()
    }

    #[test]
    fn passthrough_is_a_table() {
        // AG-20
        let some = [("a", "A")];
        let with_default = [("a", "A"), ("$default", "D")];
        for (templates, passthrough, kind, expected) in [
            (&some[..], "WHEN_NO_MATCH", "a", "template"),
            (&some, "WHEN_NO_MATCH", "b", "unchanged"),
            (&some, "WHEN_NO_TEMPLATES", "b", "refused"),
            (&some, "NEVER", "b", "refused"),
            (&some, "NEVER", "a", "template"),
            (&with_default, "NEVER", "b", "template"),
            (&[], "WHEN_NO_MATCH", "b", "unchanged"),
            (&[], "WHEN_NO_TEMPLATES", "b", "unchanged"),
            (&[], "NEVER", "b", "refused"),
        ] {
            let integration = integration(templates, passthrough);
            let found = match integration.request_template(&format!(r#"{{"kind":"{kind}"}}"#)) {
                Chosen::Template(_) => "template",
                Chosen::Unchanged => "unchanged",
                Chosen::Refused => "refused",
            };
            assert_eq!(found, expected, "{} templates, {passthrough}, {kind}", templates.len());
        }
    }

    #[test]
    fn answers_are_chosen_by_the_whole_value() {
        let integration = integration(&[], "");
        let chosen = |value| {
            let response = integration.response(value).unwrap();
            integration.responses.iter().position(|known| std::ptr::eq(known, response)).unwrap()
        };
        assert_eq!([chosen("404"), chosen("4040"), chosen("200"), chosen("Not found: x")], [0, 1, 1, 2]);
        assert!(parse_key("/(/").is_err());
    }

    #[test]
    fn headers_come_from_the_backend() {
        let mut headers = http::HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        let answered = Answered { status: 201, headers: &headers, body: r#"{"p":{"q":"v"}}"# };
        for (source, expected) in [
            ("integration.response.header.X-A", Some("2")),
            ("integration.response.multivalueheader.X-A", Some("1,2")),
            ("integration.response.header.none", None),
            ("integration.response.body.p.q", Some("v")),
            ("integration.response.body.none", None),
            ("integration.response.body", Some(r#"{"p":{"q":"v"}}"#)),
            ("'text'", Some("text")),
        ] {
            let value = HeaderSource::parse(source).expect(source).evaluate(&answered);
            assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), expected, "{source}");
        }
        for bad in ["x", "'x", "integration.response.cookie.x", "integration.response.body[", ""] {
            assert!(HeaderSource::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(answered.variable("response.statuscode").as_deref(), Some("201"));
        assert_eq!(answered.variable("integration.response.statuscode").as_deref(), Some("201"));
        assert_eq!(answered.variable("integration.response.multivalueheader.x-a").as_deref(), Some("1,2"));
        assert_eq!(answered.variable("integration.response.header.x-a").as_deref(), Some("2"));
        assert_eq!(ContentHandling::ToBinary.of_request("aGk=".to_owned()), Some(b"hi".to_vec()));
        assert_eq!(ContentHandling::ToBinary.of_request("no base64".to_owned()), None);
        assert_eq!(ContentHandling::ToText.of_response(b"hi"), Some(b"aGk=".to_vec()));
        assert_eq!(ContentHandling::ToBinary.of_response(b"aGk=\n"), Some(b"hi".to_vec()));
    }
}
